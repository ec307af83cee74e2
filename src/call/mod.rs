//! Calls: the B2BUA. A call has parties, people; a party has legs, our dialogs and media ports with their devices. Of two parties with one
//! device each, what one says is passed to the other with our own addresses in it (topology hiding); media runs between the ports.
//!
//! `Calls` owns the calls. It drives the SIP endpoint and the media ports that it is handed ([`Switch`]) and asks for everything else as
//! output. It knows no storage, no HTTP, no sockets.

mod account;
mod align;
mod answer;
mod arrange;
mod carry;
mod close;
pub mod command;
pub mod conference;
mod digits;
mod established;
pub mod graph;
mod guest;
mod handoff;
mod hold;
pub mod join;
pub mod leg;
pub mod make;
mod membership;
pub mod park;
pub mod party;
pub mod pickup;
mod plan;
mod reach;
pub mod record;
pub mod refusal;
mod remove;
pub mod ring;
mod ringing;
mod state;
mod template;
#[cfg(test)]
mod tests;
pub mod transfer;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::sdp::secret::Secret;
use media::sdp::transport::{Profile, Protection};
use media::{Event as MediaEvent, Kinds, PortId};
use serde::Serialize;
use sip::message::Headers;
use sip::random::Random;
use sip::{ClientId, DialogEvent, DialogId, Ender, Endpoint, ServerId, StatusCode};
use tracing::{debug, info};

use account::Account;
use command::Ticket;
use conference::room::Rooms;
use graph::{Event, View};
use leg::{LegId, Manner, Ports};
pub use plan::{Plan, Target};
use record::{EndedBy, Record};
use refusal::Refusal;
use state::{Call, Closing, Relayed, Ringing, State, Talk};

/// Our number of a call: milliseconds since 1970 in the upper 42 bits, so that later calls have higher ones, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Id(pub u64);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a call acts on, for the time of one input.
pub struct Switch<'a> {
    /// The time.
    pub now: Instant,
    /// The time of day, in milliseconds since 1970: for the record.
    pub unix: u64,
    /// SIP.
    pub sip: &'a mut Endpoint,
    /// Media.
    pub media: &'a mut dyn Ports,
    /// For SDP session ids, and for what a leg keeps secret.
    pub random: &'a mut Random,
}

impl Switch<'_> {
    fn manner(&mut self, profile: Profile, protection: Protection) -> Manner {
        let mut random = [0; 32];
        for chunk in random.chunks_mut(8) {
            chunk.copy_from_slice(&self.random.number().to_ne_bytes());
        }
        Manner { profile, protection, session_id: self.random.number(), secret: Secret::new(random) }
    }
}

/// How calls behave.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long devices ring.
    pub no_answer: Duration,
    /// Silence after which a leg is reported.
    pub media_timeout: Duration,
    /// How long a call is parked before the one who parked it is called back.
    pub park: Duration,
    /// Most calls at a time that one user has made; a further one is refused with 486. Those that others make to them do not count, a room
    /// that they are in does.
    pub calls_per_user: usize,
    /// Most calls at a time that have come by one trunk; a further one is refused with 503.
    pub calls_per_trunk: usize,
}

/// What calls ask for.
#[derive(Debug)]
pub enum Output {
    /// Keep this record.
    Record(Box<Record>),
    /// Tell whoever follows calls.
    Event(Box<Event>),
    /// Find the devices of a user who has to be called back into a call, for [`Calls::recall`].
    Recall {
        /// The call.
        call: Id,
        /// The user's name.
        user: Arc<str>,
    },
    /// A call becomes part of another one: who waits for something in it waits for it there.
    Merged {
        /// The call that is over.
        call: Id,
        /// The one that goes on.
        into: Id,
    },
    /// Tell whoever asked what became of a command that took time.
    Outcome {
        /// Which.
        ticket: Ticket,
        /// Whether it worked.
        result: Result<(), Refusal>,
    },
}

/// Most devices of a party that are in a call, those that ring for a move included; a further one is refused.
pub const MAX_DEVICES: usize = 4;

/// All calls of a loop.
#[derive(Debug)]
pub struct Calls {
    policy: Policy,
    calls: BTreeMap<Id, Call>,
    by_dialog: HashMap<DialogId, (Id, LegId)>,
    by_port: HashMap<PortId, (Id, LegId)>,
    /// The calls of each user.
    by_user: BTreeSet<(Arc<str>, Id)>,
    /// How many calls each has made: no more entries than calls.
    made: BTreeMap<Account, usize>,
    /// Requests passed within sessions (INFO, MESSAGE): where the response goes.
    passed: HashMap<ClientId, (Id, LegId, ServerId, Box<sip::Request>)>,
    /// Callers that gave up before their call was started: names were looked up for it.
    given_up: BTreeSet<DialogId>,
    deadlines: BTreeSet<(Instant, Id)>,
    /// The parked calls.
    slots: BTreeMap<u16, Id>,
    rooms: Rooms,
    outputs: VecDeque<Output>,
    last_id: Id,
    /// The number of the last event.
    last_event: u64,
    last_ticket: Ticket,
}

impl Calls {
    /// Most calls at a time; further ones are refused with 503.
    pub const MAX: usize = 100_000;

    /// Most callers that gave up before their call was started; beyond, one is forgotten, and its devices ring in vain.
    pub const MAX_GIVEN_UP: usize = 10_000;

    /// Starts without calls.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            calls: BTreeMap::new(),
            by_dialog: HashMap::new(),
            by_port: HashMap::new(),
            by_user: BTreeSet::new(),
            made: BTreeMap::new(),
            passed: HashMap::new(),
            given_up: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            slots: BTreeMap::new(),
            rooms: Rooms::default(),
            outputs: VecDeque::new(),
            last_id: Id(0),
            last_event: 0,
            last_ticket: Ticket(0),
        }
    }

    /// Returns the number of calls, those included whose last figures are awaited.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns true without calls.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns a call that is not over.
    #[must_use]
    pub fn view(&self, id: Id) -> Option<Arc<View>> {
        self.calls.get(&id)?.told.clone()
    }

    /// Returns what the record of a call that is not over says so far; none where there will be none.
    #[must_use]
    pub fn record(&self, id: Id) -> Option<&Record> {
        self.calls.get(&id).filter(|call| !call.is_visit).map(|call| &call.record)
    }

    /// Returns the call of a dialog.
    #[must_use]
    pub fn call_of(&self, dialog: DialogId) -> Option<Id> {
        self.by_dialog.get(&dialog).map(|(id, _)| *id)
    }

    /// Returns the calls that are not over, the oldest first.
    pub fn views(&self) -> impl Iterator<Item = Arc<View>> {
        self.calls.values().filter_map(|call| call.told.clone())
    }

    /// Returns the calls of a user that are not over, the oldest first.
    pub fn views_of(&self, user: &str) -> impl Iterator<Item = Arc<View>> {
        let user: Arc<str> = user.into();
        let theirs = self.by_user.range((Arc::clone(&user), Id(0))..).take_while(move |(name, _)| *name == user);
        theirs.filter_map(|(_, id)| self.view(*id))
    }

    /// Returns the parked calls, by their slots.
    pub fn views_parked(&self) -> impl Iterator<Item = Arc<View>> {
        self.slots.values().filter_map(|id| self.view(*id))
    }

    /// Returns the next thing asked for.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`Calls::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Time has passed: nobody answered, an offer of ours may be made again, or a device has everything that moves.
    pub fn handle_timeout(&mut self, switch: &mut Switch<'_>) {
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= switch.now) {
            self.deadlines.remove(&(at, id));
            if let Some(call) = self.calls.get_mut(&id) {
                call.scheduled = None;
            }
            self.impatient(switch, id);
            self.no_answer(switch, id);
            self.offer_again(switch, id);
            self.handoffs_wait(switch, id);
            self.transfer_timeout(switch, id);
            self.park_timeout(switch, id);
            self.conference_timeout(switch, id);
            self.follow_answer(switch, id);
            self.show_hold(switch, id);
            self.touch(id);
        }
    }

    /// After each input to a call: tells what has changed, and notes when to look at it again.
    fn touch(&mut self, id: Id) {
        self.tell(id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let due = call.poll_timeout();
        if call.scheduled != due {
            self.deadlines.extend(due.map(|at| (at, id)));
            if let Some(before) = std::mem::replace(&mut call.scheduled, due) {
                self.deadlines.remove(&(before, id));
            }
        }
    }

    /// Takes the next number of a call, for one that does not come about.
    pub fn take_id(&mut self, unix: u64) -> Id {
        self.last_id = Id((unix << 22).max(self.last_id.0 + 1));
        self.last_id
    }

    fn take_ticket(&mut self) -> Ticket {
        self.last_ticket = Ticket(self.last_ticket.0 + 1);
        self.last_ticket
    }

    /// How much of everything is left: calls, dialogs, ports, passed requests, deadlines, callers that gave up, calls of users.
    #[cfg(test)]
    fn left(&self) -> [usize; 7] {
        let indexes = [self.by_dialog.len(), self.by_port.len(), self.passed.len(), self.deadlines.len(), self.given_up.len()];
        let [dialogs, ports, passed, deadlines, given_up] = indexes;
        [self.calls.len(), dialogs, ports, passed, deadlines, given_up, self.by_user.len() + self.made.len()]
    }

    /// Returns the newest dialog with a device.
    #[cfg(test)]
    fn dialog_of(&self, device: &crate::device::Id) -> Option<DialogId> {
        let legs = self.calls.values().rev().flat_map(|call| call.legs.iter().rev());
        legs.filter(|leg| leg.device.as_ref() == Some(device)).map(|leg| leg.dialog).next()
    }

    /// Something happened on a leg.
    pub fn handle_dialog(&mut self, switch: &mut Switch<'_>, dialog: DialogId, event: DialogEvent) {
        let Some((id, leg)) = self.by_dialog.get(&dialog).copied() else { return self.handle_stray(switch, dialog, &event) };
        debug!(call = %id, leg = leg.0, event = name(&event), "event");
        let Some(event) = self.transfer_event(switch, id, leg, event) else {
            self.follow_answer(switch, id);
            self.show_hold(switch, id);
            return self.touch(id);
        };
        match event {
            DialogEvent::Progress { status, body, .. } => self.progress(switch, id, leg, status, &body),
            DialogEvent::Answered { body } => self.answered(switch, id, leg, &body),
            DialogEvent::Failed { status, .. } => self.failed(switch, id, leg, status),
            DialogEvent::Cancelled { reason } => {
                let reason = reason.map(|reason| reason.text).filter(|text| !text.is_empty());
                let reason = reason.unwrap_or_else(|| "the caller gave up".to_owned());
                self.give_up(switch, id, StatusCode::REQUEST_TERMINATED, EndedBy::Caller, &reason);
            }
            DialogEvent::Acknowledged { body } => self.acknowledged(switch, id, leg, &body),
            DialogEvent::Offered { body } => self.offered(switch, id, leg, &body),
            DialogEvent::OfferAnswered { body } => self.offer_answered(switch, id, leg, &body),
            DialogEvent::OfferCancelled => self.offer_withdrawn(id, leg),
            DialogEvent::OfferFailed { status } => self.offer_failed(switch, id, leg, status),
            DialogEvent::Ended { by, reason } => self.ended(switch, id, leg, by, reason),
            DialogEvent::Request { server, request } => self.pass(switch, id, leg, server, request),
            DialogEvent::Response { client, response } => self.passed_back(switch, client, &response),
        }
        self.follow_answer(switch, id);
        self.show_hold(switch, id);
        self.touch(id);
    }

    /// A dialog that belongs to no call any more: whatever it opens is closed.
    fn handle_stray(&mut self, switch: &mut Switch<'_>, dialog: DialogId, event: &DialogEvent) {
        match event {
            DialogEvent::Answered { .. } => {
                switch.sip.acknowledge(switch.now, dialog, Bytes::new());
                switch.sip.bye(switch.now, dialog, None);
            }
            DialogEvent::Request { server, request } => {
                let response = switch.sip.reply(request, StatusCode::NO_TRANSACTION);
                switch.sip.respond(switch.now, *server, &response);
            }
            DialogEvent::Offered { .. } => {
                let _gone = switch.sip.refuse(switch.now, dialog, StatusCode::NO_TRANSACTION, &Headers::default());
            }
            DialogEvent::Response { client, response } => self.passed_back(switch, *client, response),
            DialogEvent::Cancelled { .. } | DialogEvent::Ended { by: Ender::Peer, .. } => {
                if self.given_up.len() >= Self::MAX_GIVEN_UP {
                    self.given_up.pop_first();
                }
                self.given_up.insert(dialog);
            }
            DialogEvent::Progress { .. }
            | DialogEvent::Failed { .. }
            | DialogEvent::Acknowledged { .. }
            | DialogEvent::OfferAnswered { .. }
            | DialogEvent::OfferCancelled
            | DialogEvent::OfferFailed { .. }
            | DialogEvent::Ended { .. } => {}
        }
    }

    /// Something happened at a port.
    pub fn handle_media(&mut self, switch: &mut Switch<'_>, event: MediaEvent) {
        match event {
            MediaEvent::Silent { port, verdict } => {
                let Some((id, leg)) = self.by_port.get(&port).copied() else { return };
                info!(call = %id, leg = leg.0, verdict, "no media");
                let call = self.calls.get_mut(&id);
                if let Some(leg) = call.and_then(|call| call.leg_mut(leg)) {
                    leg.verdict = Some(verdict);
                }
            }
            MediaEvent::Resumed { port } => {
                if let Some((id, leg)) = self.by_port.get(&port) {
                    info!(call = %id, leg = leg.0, "media is back");
                }
            }
            MediaEvent::Transcoding { port, reason } => {
                if let Some((id, leg)) = self.by_port.get(&port) {
                    info!(call = %id, leg = leg.0, reason, "media is transcoded");
                }
            }
            MediaEvent::Heard { port, kind } => {
                if let Some(at) = self.by_port.get(&port).copied() {
                    self.heard(switch, at, Kinds::of(&kind));
                    self.touch(at.0);
                }
            }
            MediaEvent::Digit { port, digit, duration } => self.key_pressed(switch, port, (digit, duration)),
            MediaEvent::Statistics { .. } => {}
            MediaEvent::Closed { port, statistics } => self.port_closed(port, &statistics),
        }
    }

    /// Tells what has changed in a call since it was told last.
    fn tell(&mut self, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let is_over = matches!(call.state, State::Over);
        let missed = std::mem::take(&mut call.missed);
        if is_over && call.told.is_none() {
            return;
        }
        let view = call.view();
        if call.told.as_deref() == Some(&view) {
            return;
        }
        let after = Arc::new(view);
        let before = if is_over { call.told.take() } else { call.told.replace(Arc::clone(&after)) };
        self.last_event += 1;
        self.outputs.push_back(Output::Event(Box::new(Event { number: self.last_event, call: id, before, after, missed })));
    }
}

fn name(event: &DialogEvent) -> &'static str {
    match event {
        DialogEvent::Progress { .. } => "progress",
        DialogEvent::Answered { .. } => "answered",
        DialogEvent::Failed { .. } => "failed",
        DialogEvent::Cancelled { .. } => "cancelled",
        DialogEvent::Acknowledged { .. } => "acknowledged",
        DialogEvent::Offered { .. } => "offered",
        DialogEvent::OfferAnswered { .. } => "offer answered",
        DialogEvent::OfferCancelled => "offer cancelled",
        DialogEvent::OfferFailed { .. } => "offer failed",
        DialogEvent::Request { .. } => "request",
        DialogEvent::Response { .. } => "response",
        DialogEvent::Ended { .. } => "ended",
    }
}
