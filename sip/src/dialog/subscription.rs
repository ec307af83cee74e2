//! A subscription (RFC 6665), the notifier's side: one watcher, one event package, one dialog. It knows when a NOTIFY may go out; what is
//! in it is asked of the host at that moment ([`SubscriptionEvent::Due`]), so that the latest state wins and nothing is kept here.
//!
//! §4.2.2 and RFC 3265's older words on rates: at most one NOTIFY in [`MIN_INTERVAL`] tells of changes, and none goes out while the last one
//! is unanswered. A SUBSCRIBE is answered with the state at once all the same.
//!
//! A subscription outlives the process: what a SUBSCRIBE comes to is made durable by the host before its answer
//! ([`SubscriptionEvent::Asked`]), and restored from that ([`Restart`]).

use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

pub use super::interval::{IntervalError, MAX_EXPIRES, MIN_EXPIRES, interval};
use super::kept::{self, Kept};
use super::{Dialog, DialogError, invite::number};
use crate::endpoint::Core;
use crate::message::{Method, Name, Request, Response, StatusCode, Uri, header};
use crate::time::UnixTime;
use crate::transaction::timer::earlier;
use crate::transaction::{ClientId, Owner, ServerId};
use crate::transport::{Flow, Hop, Transport};

/// The shortest time between two NOTIFYs of one subscription that tell of changes.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// More than the NOTIFYs of one subscription from one SUBSCRIBE to the next: those of [`MAX_EXPIRES`] at one in [`MIN_INTERVAL`], and what a
/// SUBSCRIBE itself calls for. So many numbers are left out for each restart since a subscription was kept: none is used twice (§12.2.1.1 of
/// RFC 3261), although the store does not hear of NOTIFYs.
pub const MAX_NOTIFIES: u32 = 4096;

/// Names one subscription to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u64);

impl SubscriptionId {
    /// Sorts before every other.
    pub const FIRST: Self = Self(0);
    /// Sorts after every other.
    pub const LAST: Self = Self(u64::MAX);

    /// Returns the name as the number under which the subscription is kept.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the name of what was kept under a number.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// The restart after which a subscription is taken up again.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// The time.
    pub now: Instant,
    /// The time of day.
    pub unix: UnixTime,
    /// When the first NOTIFY may leave.
    pub notify_at: Instant,
    /// How often the process has started since the subscription was kept, this time included.
    pub starts: u32,
}

/// What a host has to do about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionEvent {
    /// A SUBSCRIBE waits for its answer. What [`crate::Endpoint::kept`] returns is to be made durable, or that there is nothing to keep any
    /// more; then [`crate::Endpoint::grant`], or [`crate::Endpoint::refuse_subscribe`] if it cannot be kept.
    Asked,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first SUBSCRIBE waits for its answer.
    Asking,
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

/// Whether a way leads to the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It was heard since the process started.
    Heard,
    /// It was not; a NOTIFY over a stream may find nobody.
    Restored,
    /// Its connection is gone and nobody listens at its Contact: nothing is sent until it comes back ([`Subscription::follow`], or a
    /// SUBSCRIBE) or its time is over.
    Lost,
}

/// A SUBSCRIBE that waits for its answer, and what is so once it is granted.
#[derive(Debug)]
struct Waiting {
    server: ServerId,
    response: Response,
    dialog: Dialog,
    flow: Flow,
    granted: Duration,
    expires_at: Instant,
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    state: State,
    reach: Reach,
    waiting: Option<Box<Waiting>>,
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
    /// Begins with a SUBSCRIBE; [`Subscription::handle_subscribe`] follows.
    pub(crate) fn new(core: &mut Core, now: Instant, id: u64, flow: Flow, request: &Request) -> Result<Self, DialogError> {
        let event: header::Event = request.headers.typed(Name::Event)?;
        let tag = core.tag(id);
        let mut subscription = Self {
            id,
            state: State::Asking,
            reach: Reach::Heard,
            waiting: None,
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

    /// Takes up what was kept; none if its time is over, or the bytes are none that were written here. Everything the watcher knows may
    /// have changed meanwhile: a NOTIFY is due.
    pub(crate) fn restore(core: &Core, id: u64, stored: &[u8], restart: &Restart) -> Option<Self> {
        let kept = kept::decode(stored)?;
        // the clock may have been set back since: nobody stays longer than was granted
        let left = Duration::from_secs(kept.expires_at.0.saturating_sub(restart.unix.0)).min(kept.granted).min(MAX_EXPIRES);
        let way = kept.way().and_then(|way| {
            // the listeners may be others than before
            let local = core.transactions.listeners().towards(&way)?;
            Some(if let Hop::Flow(flow) = way { Hop::Flow(Flow { local, ..flow }) } else { way })
        });
        let Kept { mut dialog, event, flow, .. } = kept;
        let skipped = restart.starts.checked_mul(MAX_NOTIFIES)?;
        dialog.local_seq = dialog.local_seq.checked_add(skipped).filter(|number| *number < 1 << 31)?;
        let reach = if way.is_some() { Reach::Restored } else { Reach::Lost };
        dialog.reroute(way.unwrap_or(Hop::Address { transport: flow.transport, remote: flow.remote, name: None }));
        (!left.is_zero()).then(|| Self {
            id,
            state: State::Active,
            reach,
            waiting: None,
            dialog,
            event,
            expires_at: restart.now + left,
            news: News::Changed,
            client: None,
            not_before: restart.notify_at,
            scheduled: None,
            counted: None,
        })
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

    /// Returns true while a SUBSCRIBE waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns the far end of the connection that NOTIFYs go over, until it is over; none for datagrams.
    pub(crate) fn peer(&self) -> Option<(Transport, std::net::SocketAddr)> {
        let hop = self.dialog.hop();
        (!self.is_ended() && self.reach != Reach::Lost && hop.transport().is_reliable()).then(|| (hop.transport(), hop.remote()))
    }

    /// Returns the flow that NOTIFYs go over.
    pub(crate) fn flow(&self) -> Option<Flow> {
        match self.dialog.hop() {
            Hop::Flow(flow) => Some(*flow),
            Hop::Address { .. } => None,
        }
    }

    /// Returns the watcher's Contact.
    pub(crate) fn target(&self) -> &Uri {
        &self.dialog.target
    }

    // ---- SUBSCRIBE

    /// Takes a SUBSCRIBE, the first or a further one, while none waits (§4.2.1.2): the host is asked.
    pub(crate) fn handle_subscribe(
        &mut self,
        core: &mut Core,
        now: Instant,
        (server, flow): (ServerId, Flow),
        request: &Request,
        granted: Duration,
    ) {
        let mut dialog = self.dialog.clone();
        dialog.remote_seq = Some(number(&request.headers));
        dialog.reroute(Hop::Flow(flow));
        dialog.refresh_target(&request.headers, None);
        let mut response = core.response(request, StatusCode::OK, dialog.local_tag());
        response.headers.copy(&request.headers, Name::RecordRoute);
        response.headers.push(Name::Expires, granted.as_secs().to_string());
        core.describe(&mut response.headers, dialog.hop());
        self.waiting = Some(Box::new(Waiting { server, response, dialog, flow, granted, expires_at: now + granted }));
        self.tell(core, SubscriptionEvent::Asked);
    }

    /// Returns what the next process has to know once the SUBSCRIBE that waits is granted; none for one that ends the subscription.
    pub(crate) fn kept(&self, now: Instant, unix: UnixTime) -> Option<Vec<u8>> {
        let waiting = self.waiting.as_ref().filter(|waiting| !waiting.granted.is_zero())?;
        let Waiting { dialog, flow, granted, expires_at, .. } = &**waiting;
        let left = expires_at.saturating_duration_since(now).as_secs_f64().ceil();
        Some(kept::encode(dialog, flow, &self.event, unix.plus(Duration::from_secs_f64(left)), *granted))
    }

    /// The SUBSCRIBE that waits is kept: 200 goes out, and the state is due.
    pub(crate) fn grant(&mut self, core: &mut Core, now: Instant) {
        let Some(waiting) = self.waiting.take() else { return };
        let Waiting { server, response, dialog, granted, expires_at, .. } = *waiting;
        core.transactions.respond(now, server, &response);
        self.dialog = Dialog { local_seq: self.dialog.local_seq, ..dialog };
        self.expires_at = expires_at;
        self.state = if granted.is_zero() { State::Ending } else { State::Active };
        self.reach = Reach::Heard;
        self.news = if self.news == News::Due { News::Due } else { News::Asked };
        self.advance(core, now);
    }

    /// The SUBSCRIBE that waits cannot be kept: it is as if it had not come.
    pub(crate) fn refuse(&mut self, core: &mut Core, now: Instant, status: StatusCode, retry_after: Duration) {
        let Some(waiting) = self.waiting.take() else { return };
        let mut response = Response::to_headers(&waiting.response.headers, status);
        response.headers.push(Name::RetryAfter, retry_after.as_secs().to_string());
        core.transactions.respond(now, waiting.server, &response);
        if self.state == State::Asking {
            self.end(core, now);
        }
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
            State::Asking | State::Terminating(_) | State::Ended => {}
        }
    }

    /// Ends it for the host's reason.
    pub(crate) fn terminate(&mut self, core: &mut Core, now: Instant, why: Termination) {
        if !self.is_ended() {
            self.state = State::Terminating(why);
            self.turn_away(core, now);
            self.advance(core, now);
        }
    }

    /// A SUBSCRIBE that still waits has come too late.
    fn turn_away(&mut self, core: &mut Core, now: Instant) {
        if let Some(waiting) = self.waiting.take() {
            let response = Response::to_headers(&waiting.response.headers, StatusCode::NO_TRANSACTION);
            core.transactions.respond(now, waiting.server, &response);
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
        self.end(core, now);
    }

    fn end(&mut self, core: &mut Core, now: Instant) {
        self.state = State::Ended;
        self.turn_away(core, now);
        self.tell(core, SubscriptionEvent::Ended);
    }

    fn tell(&self, core: &mut Core, event: SubscriptionEvent) {
        core.events.push_back(crate::Event::Subscription(SubscriptionId(self.id), event));
    }

    /// An answer to a NOTIFY (§4.2.2): a refusal ends the subscription, unless it says when to try again, or the watcher asks just then.
    pub(crate) fn handle_response(&mut self, core: &mut Core, now: Instant, client: ClientId, response: &Response) {
        if self.client != Some(client) || self.is_ended() || response.status.is_provisional() {
            return;
        }
        self.client = None;
        if response.status.is_success() {
            self.reach = Reach::Heard;
        } else {
            let later = response.headers.number(Name::RetryAfter).ok().flatten();
            let later = later.filter(|_| response.status != StatusCode::NO_TRANSACTION);
            if later.is_none() && self.waiting.is_none() {
                return self.end(core, now);
            }
            let later = later.map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.into()));
            self.not_before = now + later.clamp(MIN_INTERVAL, MAX_EXPIRES);
            self.news = News::Changed;
        }
        self.advance(core, now);
    }

    /// A NOTIFY did not arrive (408), or could not even be sent (503). After a restart a watcher whose connection is gone may come back.
    pub(crate) fn handle_failure(&mut self, core: &mut Core, now: Instant, client: ClientId, status: StatusCode) {
        let is_lost = self.reach == Reach::Restored && self.state == State::Active && self.dialog.hop().transport().is_reliable();
        if self.client == Some(client) && is_lost {
            (self.client, self.reach, self.news) = (None, Reach::Lost, News::Changed);
            return;
        }
        self.handle_response(core, now, client, &Response::new(status));
    }

    /// The watcher, unheard since the restart, has come back by a flow: NOTIFYs go along it.
    pub(crate) fn follow(&mut self, core: &mut Core, now: Instant, flow: Flow) {
        let hop = Hop::Flow(flow);
        if self.reach == Reach::Heard || self.is_ended() || self.reach == Reach::Restored && *self.dialog.hop() == hop {
            return;
        }
        self.dialog.reroute(hop);
        if self.client.take().is_some() {
            (self.news, self.not_before) = (News::Changed, now); // what is on the other way may never arrive
        }
        self.reach = Reach::Restored;
        self.advance(core, now);
    }

    /// Does what is due and may be done.
    fn advance(&mut self, core: &mut Core, now: Instant) {
        if self.client.is_some() {
            return;
        }
        match (self.state, self.news) {
            (State::Ending | State::Terminating(_), _) if self.reach == Reach::Lost => self.end(core, now),
            (State::Active, _) if self.reach == Reach::Lost => {}
            (State::Active | State::Ending, News::Asked) => self.ask(core),
            (State::Active, News::Changed) if now >= self.not_before => self.ask(core),
            (State::Ending, News::None | News::Changed) => self.ask(core),
            (State::Terminating(why), _) => {
                let request = self.request(core, &terminated(why));
                self.send_last(core, now, request);
            }
            (State::Active, News::None | News::Changed)
            | (State::Active | State::Ending, News::Due)
            | (State::Asking | State::Ended, _) => {}
        }
    }

    fn ask(&mut self, core: &mut Core) {
        self.news = News::Due;
        self.tell(core, SubscriptionEvent::Due);
    }

    // ---- time

    pub(crate) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        if self.state == State::Active && now >= self.expires_at && self.waiting.is_none() {
            self.state = State::Ending;
        }
        self.advance(core, now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.client.is_none() && self.news == News::Changed && self.reach != Reach::Lost;
        let ends = self.waiting.is_none().then_some(self.expires_at);
        if self.state == State::Active { earlier(ends, waits.then_some(self.not_before)) } else { None }
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
