//! Requests in the dialogs behind our addresses (RFC 3261 §12.2.2), and CANCEL (§9.2): which dialog each is in, and whether the dialog's peer
//! sent it. Call-ID and tags are no secret: watchers are shown them (RFC 4235). A request that comes by the peer's flow is taken; any other
//! is the host's to decide about, which knows users and their devices.

use std::time::Instant;

use super::{Endpoint, Event, Incoming, unsupported};
use crate::dialog::invite::DialogId;
use crate::dialog::subscription::SubscriptionId;
use crate::message::{Method, Name, Request, StatusCode};
use crate::transaction::Cancelled;

/// What a request is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// A call's dialog, or one that a REFER made.
    Dialog(DialogId),
    /// A subscription's dialog.
    Subscription(SubscriptionId),
}

impl Endpoint {
    /// Takes a request of [`Event::Elsewhere`] as the peer's own.
    pub fn receive_within(&mut self, now: Instant, incoming: Incoming) {
        if incoming.request.method == Method::Cancel {
            return match self.core.transactions.cancelled(&incoming.request, &incoming.via) {
                Some(cancelled) => self.take_cancel(now, &incoming, &cancelled),
                None => self.reply_statelessly(&incoming, StatusCode::NO_TRANSACTION),
            };
        }
        let tag = incoming.request.to_tag().unwrap_or_default();
        match self.within(&incoming.request, &tag) {
            Some(within) => self.take_within(now, within, incoming),
            None if incoming.request.method == Method::Ack => {}
            None => self.reply_statelessly(&incoming, StatusCode::NO_TRANSACTION),
        }
    }

    /// Finds what a request with this tag in To is in.
    pub(super) fn within(&self, request: &Request, tag: &str) -> Option<Within> {
        let dialog = || self.dialog_of(request, tag).map(|id| Within::Dialog(DialogId(id)));
        dialog().or_else(|| self.subscription_of(request, tag).map(|id| Within::Subscription(SubscriptionId(id))))
    }

    fn dialog_of(&self, request: &Request, local_tag: &str) -> Option<u64> {
        let id = u64::from_str_radix(local_tag.get(..16)?, 16).ok()?;
        let call_id = request.headers.call_id().ok()?;
        let remote_tag = request.from_tag().unwrap_or_default();
        self.dialogs.get(&id).filter(|invite| invite.matches(&call_id, local_tag, &remote_tag)).map(|_| id)
    }

    pub(super) fn is_from_peer(&self, within: Within, incoming: &Incoming) -> bool {
        let Incoming { flow, request, .. } = incoming;
        match within {
            Within::Dialog(id) => self.dialogs.get(&id.0).is_some_and(|invite| invite.is_from_peer(request, flow)),
            Within::Subscription(id) => self.subscriptions.get(&id.0).is_some_and(|subscription| subscription.is_from_peer(flow)),
        }
    }

    pub(super) fn take_within(&mut self, now: Instant, within: Within, incoming: Incoming) {
        match within {
            Within::Dialog(dialog) => self.receive_inside(now, dialog.0, incoming),
            Within::Subscription(subscription) => self.receive_in_subscription(now, subscription.0, &incoming),
        }
    }

    fn receive_inside(&mut self, now: Instant, dialog: u64, incoming: Incoming) {
        if incoming.request.method == Method::Ack {
            return self.with(now, dialog, |invite, core| invite.handle_ack(core, now, &incoming.request));
        }
        let unsupported = unsupported(&incoming.request);
        if !unsupported.is_empty() {
            return self.refuse_statelessly(&incoming, StatusCode::BAD_EXTENSION, Name::Unsupported, &unsupported);
        }
        if incoming.request.headers.has(Name::Replaces) && !matches!(incoming.request.method, Method::Invite | Method::Bye) {
            return self.reply_statelessly(&incoming, StatusCode::BAD_REQUEST); // RFC 3891 §3
        }
        if incoming.request.method != Method::Bye && self.core.transactions.is_reserve_full() {
            return self.put_off(&incoming);
        }
        let is_late = self.dialogs.get_mut(&dialog).is_some_and(|invite| invite.is_out_of_order(&incoming.request));
        if is_late && incoming.request.method != Method::Invite {
            // §12.2.2. An INVITE has a transaction nevertheless, which takes its ACK.
            return self.reply_statelessly(&incoming, StatusCode::SERVER_INTERNAL_ERROR);
        }
        let server = self.open(now, &incoming);
        self.with(now, dialog, |invite, core| invite.handle_request(core, now, (server, incoming.flow), incoming.request));
    }

    /// A CANCEL names its INVITE by a branch that only the two ends know, and comes the same way (§9.1).
    pub(super) fn receive_cancel(&mut self, now: Instant, incoming: Incoming) {
        match self.core.transactions.cancelled(&incoming.request, &incoming.via) {
            Some(cancelled) if cancelled.flow.is_of_same_peer(&incoming.flow) => self.take_cancel(now, &incoming, &cancelled),
            Some(Cancelled { dialog: Some(dialog), .. }) => {
                self.core.events.push_back(Event::Elsewhere(Within::Dialog(DialogId(dialog)), Box::new(incoming)));
            }
            Some(_) | None => self.reply_statelessly(&incoming, StatusCode::NO_TRANSACTION),
        }
    }

    fn take_cancel(&mut self, now: Instant, incoming: &Incoming, cancelled: &Cancelled) {
        let own = self.open(now, incoming);
        let tag = cancelled.dialog.and_then(|id| self.dialogs.get(&id)).map(|invite| invite.local_tag().to_owned());
        let tag = tag.unwrap_or_else(|| self.core.random.token().to_string());
        self.core.reply(now, own, &incoming.request, StatusCode::OK, &tag);
        match cancelled.dialog {
            _ if !cancelled.is_due => {}
            Some(dialog) => self.with(now, dialog, |invite, core| invite.handle_cancel(core, now, &incoming.request)),
            None => self.core.events.push_back(Event::Cancel(cancelled.server)),
        }
    }
}
