//! A subscription (RFC 6665), the notifier's side: one watcher, one event package, one dialog. It knows when a NOTIFY may go out; what is
//! in it is asked of the host at that moment ([`SubscriptionEvent::Due`]), so that the latest state wins and nothing is kept here.
//!
//! §4.2.2 and RFC 3265's older words on rates: at most one NOTIFY in [`MIN_INTERVAL`] tells of changes, and none goes out while the last one
//! is unanswered. A SUBSCRIBE is answered with the state at once all the same.

use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::{Dialog, DialogError, invite::number};
use crate::endpoint::Core;
use crate::message::{Headers, Method, Name, Request, Response, StatusCode, header};
use crate::transaction::timer::earlier;
use crate::transaction::{ClientId, Owner, ServerId};
use crate::transport::{Flow, Hop, Transport};

/// The shortest interval that we grant; one that asks for less gets 423 (RFC 6665 §4.2.1.1, RFC 3903 §6 step 4).
pub const MIN_EXPIRES: Duration = Duration::from_secs(60);
/// The longest interval that we grant, and the one for who asks for none (RFC 3856 §6.4, RFC 4235 §3.4).
pub const MAX_EXPIRES: Duration = Duration::from_secs(3600);
/// The shortest time between two NOTIFYs of one subscription that tell of changes.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Names one subscription to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u64);

impl SubscriptionId {
    /// Sorts before every other.
    pub const FIRST: Self = Self(0);
    /// Sorts after every other.
    pub const LAST: Self = Self(u64::MAX);
}

/// What a host has to do about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionEvent {
    /// A NOTIFY with the full state is due: [`crate::Endpoint::notify`].
    Due,
    /// It is over, the last event of a subscription: it ran out, its watcher ended it or is gone.
    Ended,
}

/// Why we end a subscription (RFC 6665 §4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// The watcher may subscribe again at once.
    Deactivated,
    /// The watcher may not watch any more.
    Rejected,
    /// It ran out, or its watcher ended it.
    Timeout,
    /// What it watches is gone.
    NoResource,
}

impl Termination {
    fn as_str(self) -> &'static str {
        match self {
            Self::Deactivated => "deactivated",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::NoResource => "noresource",
        }
    }
}

/// Why an interval is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// Expires is no number: 400.
    #[error("malformed Expires")]
    Malformed,
    /// It is shorter than [`MIN_EXPIRES`]: 423.
    #[error("the interval is too brief")]
    TooBrief,
}

impl IntervalError {
    /// Makes the response: 400, or 423 with Min-Expires.
    #[must_use]
    pub fn response(self, request: &Request) -> Response {
        match self {
            Self::Malformed => Response::to(request, StatusCode::BAD_REQUEST),
            Self::TooBrief => {
                let mut response = Response::to(request, StatusCode::INTERVAL_TOO_BRIEF);
                response.headers.push(Name::MinExpires, MIN_EXPIRES.as_secs().to_string());
                response
            }
        }
    }
}

/// Returns the interval to grant to a SUBSCRIBE or PUBLISH; zero for one that ends.
///
/// # Errors
/// See [`IntervalError`].
pub fn interval(headers: &Headers) -> Result<Duration, IntervalError> {
    let asked = headers.number(Name::Expires).map_err(|_| IntervalError::Malformed)?;
    let asked = asked.map_or(MAX_EXPIRES, |seconds| Duration::from_secs(seconds.into()));
    if asked.is_zero() || asked >= MIN_EXPIRES { Ok(asked.min(MAX_EXPIRES)) } else { Err(IntervalError::TooBrief) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    /// The last NOTIFY is due, with the state.
    Ending,
    /// The last NOTIFY waits for the answer to the one before; it goes out without the state.
    Terminating(Termination),
    Ended,
}

/// What the watcher has not been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    None,
    /// The state changed.
    Changed,
    /// A SUBSCRIBE asked for the state.
    Asked,
    /// The host has been asked for the state.
    Due,
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    state: State,
    dialog: Dialog,
    /// Event as the watcher wrote it: package and id.
    event: ByteString,
    expires_at: Instant,
    news: News,
    /// The NOTIFY that waits for its answer.
    client: Option<ClientId>,
    /// Before this no NOTIFY tells of changes.
    not_before: Instant,
    pub(crate) scheduled: Option<Instant>,
    /// The peer that the endpoint counts this dialog for.
    pub(crate) counted: Option<(Transport, std::net::SocketAddr)>,
}

impl Subscription {
    /// Begins with a SUBSCRIBE; [`Subscription::accept`] follows.
    pub(crate) fn new(core: &mut Core, now: Instant, id: u64, flow: Flow, request: &Request) -> Result<Self, DialogError> {
        let event: header::Event = request.headers.typed(Name::Event)?;
        let tag = core.tag(id);
        let mut subscription = Self {
            id,
            state: State::Active,
            dialog: Dialog::uas(request, &tag, Hop::Flow(flow))?,
            event: matched(&event),
            expires_at: now,
            news: News::None,
            client: None,
            not_before: now,
            scheduled: None,
            counted: None,
        };
        subscription.dialog.remote_seq = Some(number(&request.headers));
        Ok(subscription)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    pub(crate) fn matches(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> bool {
        *self.dialog.call_id == *call_id && self.dialog.local_tag() == local_tag && self.dialog.remote_tag() == remote_tag
    }

    /// Returns true if a request came by a flow of the watcher.
    pub(crate) fn is_from_peer(&self, flow: &Flow) -> bool {
        self.dialog.is_from_peer(flow)
    }

    /// Returns true for a request whose number is not above all before (§12.2.2 of RFC 3261).
    pub(crate) fn is_out_of_order(&self, request: &Request) -> bool {
        self.dialog.remote_seq.is_some_and(|last| number(&request.headers) <= last)
    }

    /// Returns true when a SUBSCRIBE in the dialog means this subscription: package and id are compared byte by byte (§4.5.1, §8.2.1).
    pub(crate) fn is_meant(&self, request: &Request) -> bool {
        let event = request.headers.typed::<header::Event>(Name::Event);
        self.state == State::Active && event.is_ok_and(|event| matched(&event) == self.event)
    }

    /// Returns the far end of the connection that NOTIFYs go over, until it is over; none for datagrams.
    pub(crate) fn peer(&self) -> Option<(Transport, std::net::SocketAddr)> {
        let hop = self.dialog.hop();
        (!self.is_ended() && hop.transport().is_reliable()).then(|| (hop.transport(), hop.remote()))
    }

    // ---- SUBSCRIBE

    /// Takes a SUBSCRIBE, the first or a further one: 200 goes out, and the state is due (§4.2.1.2).
    pub(crate) fn accept(&mut self, core: &mut Core, now: Instant, (server, flow): (ServerId, Flow), request: &Request, granted: Duration) {
        self.dialog.remote_seq = Some(number(&request.headers));
        self.dialog.refresh_target(&request.headers, Some(flow));
        let mut response = core.response(request, StatusCode::OK, self.dialog.local_tag());
        response.headers.copy(&request.headers, Name::RecordRoute);
        response.headers.push(Name::Expires, granted.as_secs().to_string());
        core.describe(&mut response.headers, self.dialog.hop());
        core.transactions.respond(now, server, &response);
        self.expires_at = now + granted;
        if granted.is_zero() {
            self.state = State::Ending;
        }
        self.news = News::Asked;
        self.advance(core, now);
    }

    // ---- NOTIFY

    /// The state changed.
    pub(crate) fn changed(&mut self, core: &mut Core, now: Instant) {
        if self.news == News::None {
            self.news = News::Changed;
        }
        self.advance(core, now);
    }

    /// Sends the state that was asked of the host; nothing if it was not.
    pub(crate) fn notify(&mut self, core: &mut Core, now: Instant, content_type: &str, body: Bytes) {
        if self.news != News::Due {
            return;
        }
        self.news = News::None;
        match self.state {
            State::Active => {
                let left = self.expires_at.saturating_duration_since(now).as_secs_f64().ceil();
                let mut request = self.request(core, &format!("active;expires={left:.0}"));
                request.set_body(content_type, body);
                self.not_before = now + MIN_INTERVAL;
                self.client = Some(core.transactions.request(now, self.dialog.outgoing(request, Owner::Dialog(self.id)), &mut core.random));
            }
            State::Ending => {
                let mut request = self.request(core, &terminated(Termination::Timeout));
                request.set_body(content_type, body);
                self.send_last(core, now, request);
            }
            State::Terminating(_) | State::Ended => {}
        }
    }

    /// Ends it for the host's reason.
    pub(crate) fn terminate(&mut self, core: &mut Core, now: Instant, why: Termination) {
        if !self.is_ended() {
            self.state = State::Terminating(why);
            self.advance(core, now);
        }
    }

    fn request(&mut self, core: &Core, state: &str) -> Request {
        let mut request = self.dialog.request(Method::Notify);
        request.headers.push(Name::Contact, core.transactions.names().contact(self.dialog.hop()));
        request.headers.push(Name::Event, &*self.event);
        request.headers.push(Name::SubscriptionState, state);
        request
    }

    fn send_last(&mut self, core: &mut Core, now: Instant, request: Request) {
        core.transactions.request(now, self.dialog.outgoing(request, Owner::Nobody), &mut core.random);
        self.end(core);
    }

    fn end(&mut self, core: &mut Core) {
        self.state = State::Ended;
        self.tell(core, SubscriptionEvent::Ended);
    }

    fn tell(&self, core: &mut Core, event: SubscriptionEvent) {
        core.events.push_back(crate::Event::Subscription(SubscriptionId(self.id), event));
    }

    /// An answer to a NOTIFY (§4.2.2): a refusal ends the subscription, unless it says when to try again.
    pub(crate) fn handle_response(&mut self, core: &mut Core, now: Instant, client: ClientId, response: &Response) {
        if self.client != Some(client) || self.is_ended() || response.status.is_provisional() {
            return;
        }
        self.client = None;
        if !response.status.is_success() {
            let later = response.headers.number(Name::RetryAfter).ok().flatten();
            let Some(later) = later.filter(|_| response.status != StatusCode::NO_TRANSACTION) else { return self.end(core) };
            self.not_before = now + Duration::from_secs(later.into()).clamp(MIN_INTERVAL, MAX_EXPIRES);
            self.news = News::Changed;
        }
        self.advance(core, now);
    }

    /// Does what is due and may be done.
    fn advance(&mut self, core: &mut Core, now: Instant) {
        if self.client.is_some() {
            return;
        }
        match (self.state, self.news) {
            (State::Active | State::Ending, News::Asked) => self.ask(core),
            (State::Active, News::Changed) if now >= self.not_before => self.ask(core),
            (State::Ending, News::None | News::Changed) => self.ask(core),
            (State::Terminating(why), _) => {
                let request = self.request(core, &terminated(why));
                self.send_last(core, now, request);
            }
            (State::Active, News::None | News::Changed) | (State::Active | State::Ending, News::Due) | (State::Ended, _) => {}
        }
    }

    fn ask(&mut self, core: &mut Core) {
        self.news = News::Due;
        self.tell(core, SubscriptionEvent::Due);
    }

    // ---- time

    pub(crate) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        if self.state == State::Active && now >= self.expires_at {
            self.state = State::Ending;
        }
        self.advance(core, now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.client.is_none() && self.news == News::Changed;
        (self.state == State::Active).then(|| earlier(Some(self.expires_at), waits.then_some(self.not_before))).flatten()
    }
}

/// What the Event headers of a subscription have in common, and what its NOTIFYs repeat.
fn matched(event: &header::Event) -> ByteString {
    match event.params.get("id") {
        Some(id) if !id.is_empty() => format!("{};id={id}", event.package).into(),
        Some(_) | None => event.package.to_string().into(),
    }
}

fn terminated(why: Termination) -> String {
    format!("terminated;reason={}", why.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_granted_within_the_bounds() {
        let granted = |value: Option<&str>| {
            let mut headers = Headers::default();
            value.into_iter().for_each(|value| headers.push(Name::Expires, value));
            interval(&headers)
        };
        assert_eq!(granted(None), Ok(MAX_EXPIRES));
        assert_eq!(granted(Some("0")), Ok(Duration::ZERO));
        assert_eq!(granted(Some("1")), Err(IntervalError::TooBrief));
        assert_eq!(granted(Some("59")), Err(IntervalError::TooBrief));
        assert_eq!(granted(Some("60")), Ok(MIN_EXPIRES));
        assert_eq!(granted(Some("4294967295")), Ok(MAX_EXPIRES));
        for bad in ["", "x", "-1", "4294967296"] {
            assert_eq!(granted(Some(bad)), Err(IntervalError::Malformed), "{bad}");
        }
    }
}
