//! Subscriptions behind our addresses (RFC 6665): which SUBSCRIBE belongs to which, and what a host may do with one.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Endpoint, Incoming, unsupported};
use crate::dialog::subscription::{Subscription, SubscriptionId, Termination, interval};
use crate::message::{Method, Name, Request, Response, StatusCode};
use crate::transaction::bound;

impl Endpoint {
    /// Most subscriptions; beyond, [`Endpoint::subscribe`] answers 503 with Retry-After.
    pub const MAX_SUBSCRIPTIONS: usize = bound(200_000);

    /// Returns the number of subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Takes a SUBSCRIBE for an event package of the host: 200 goes out, [`SubscriptionEvent::Due`] follows. None if it was refused here
    /// (400, 420, 423, 482, 503) or is a repetition of one that was taken.
    ///
    /// [`SubscriptionEvent::Due`]: crate::dialog::subscription::SubscriptionEvent::Due
    pub fn subscribe(&mut self, now: Instant, incoming: &Incoming) -> Option<SubscriptionId> {
        if self.core.transactions.opened(incoming.key).is_some() {
            return None;
        }
        let unsupported = unsupported(&incoming.request);
        let refusal = match () {
            () if !unsupported.is_empty() => Some((StatusCode::BAD_EXTENSION, Name::Unsupported, unsupported)),
            () if self.core.transactions.is_merged(incoming.merge) => Some((StatusCode::LOOP_DETECTED, Name::Other, String::new())),
            () if self.subscriptions.len() >= Self::MAX_SUBSCRIPTIONS => {
                Some((StatusCode::SERVICE_UNAVAILABLE, Name::RetryAfter, self.retry_after()))
            }
            () => None,
        };
        if let Some((status, name, value)) = refusal {
            self.refuse_statelessly(incoming, status, name, &value);
            return None;
        }
        let granted = match interval(&incoming.request.headers) {
            Ok(granted) => granted,
            Err(error) => {
                self.refuse_interval(incoming, error.response(&incoming.request));
                return None;
            }
        };
        let id = self.core.transactions.id();
        let Ok(subscription) = Subscription::new(&mut self.core, now, id, incoming.flow, &incoming.request) else {
            self.reply_statelessly(incoming, StatusCode::BAD_REQUEST);
            return None;
        };
        let server = self.open(now, incoming);
        self.subscriptions.insert(id, Box::new(subscription));
        self.with_subscription(now, id, |subscription, core| {
            subscription.accept(core, now, (server, incoming.flow), &incoming.request, granted);
        });
        Some(SubscriptionId(id))
    }

    /// Notes that what a subscription watches has changed; [`SubscriptionEvent::Due`] follows, now or later.
    ///
    /// [`SubscriptionEvent::Due`]: crate::dialog::subscription::SubscriptionEvent::Due
    pub fn changed(&mut self, now: Instant, subscription: SubscriptionId) {
        self.with_subscription(now, subscription.0, |subscription, core| subscription.changed(core, now));
    }

    /// Sends the NOTIFY that is due, with the whole state.
    pub fn notify(&mut self, now: Instant, subscription: SubscriptionId, content_type: &str, body: Bytes) {
        self.with_subscription(now, subscription.0, |subscription, core| subscription.notify(core, now, content_type, body));
    }

    /// Ends a subscription: a NOTIFY says why, and [`SubscriptionEvent::Ended`] follows.
    ///
    /// [`SubscriptionEvent::Ended`]: crate::dialog::subscription::SubscriptionEvent::Ended
    pub fn terminate(&mut self, now: Instant, subscription: SubscriptionId, why: Termination) {
        self.with_subscription(now, subscription.0, |subscription, core| subscription.terminate(core, now, why));
    }

    pub(super) fn subscription_of(&self, request: &Request, local_tag: &str) -> Option<u64> {
        let id = u64::from_str_radix(local_tag.get(..16)?, 16).ok()?;
        let call_id = request.headers.call_id().ok()?;
        let remote_tag = request.from_tag().unwrap_or_default();
        self.subscriptions.get(&id).filter(|subscription| subscription.matches(&call_id, local_tag, &remote_tag)).map(|_| id)
    }

    /// A request in the dialog of a subscription, of its watcher.
    pub(super) fn receive_in_subscription(&mut self, now: Instant, id: u64, incoming: &Incoming) {
        let unsupported = unsupported(&incoming.request);
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        match &incoming.request.method {
            _ if !unsupported.is_empty() => {
                self.refuse_statelessly(incoming, StatusCode::BAD_EXTENSION, Name::Unsupported, &unsupported);
            }
            _ if self.core.transactions.is_reserve_full() => self.put_off(incoming),
            _ if subscription.is_out_of_order(&incoming.request) => self.reply_statelessly(incoming, StatusCode::SERVER_INTERNAL_ERROR),
            Method::Subscribe if !subscription.is_meant(&incoming.request) => {
                self.reply_statelessly(incoming, StatusCode::NO_TRANSACTION);
            }
            Method::Subscribe => match interval(&incoming.request.headers) {
                Ok(granted) => {
                    let server = self.open(now, incoming);
                    self.with_subscription(now, id, |subscription, core| {
                        subscription.accept(core, now, (server, incoming.flow), &incoming.request, granted);
                    });
                }
                Err(error) => self.refuse_interval(incoming, error.response(&incoming.request)),
            },
            Method::Ack => {}
            Method::Invite
            | Method::Bye
            | Method::Cancel
            | Method::Options
            | Method::Register
            | Method::Prack
            | Method::Update
            | Method::Info
            | Method::Message
            | Method::Publish
            | Method::Notify
            | Method::Refer
            | Method::Other(_) => self.reply_statelessly(incoming, StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    fn refuse_interval(&mut self, incoming: &Incoming, mut response: Response) {
        response.set_to_tag(&self.core.random.token());
        self.respond_statelessly(incoming, &response);
    }

    pub(super) fn with_subscription(&mut self, now: Instant, id: u64, work: impl FnOnce(&mut Subscription, &mut Core)) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        work(subscription, &mut self.core);
        let at = subscription.poll_timeout().map(|at| at.max(now));
        let before = std::mem::replace(&mut subscription.scheduled, at);
        if before != at {
            before.map(|planned| self.timers.remove(&(planned, id)));
            self.timers.extend(at.map(|at| (at, id)));
        }
        let peer = subscription.peer();
        let counted = std::mem::replace(&mut subscription.counted, peer);
        if subscription.is_ended() {
            self.subscriptions.remove(&id);
        }
        self.recount(counted, peer);
    }
}
