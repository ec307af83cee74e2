//! Calls: the B2BUA. A caller's leg, the legs of the devices that ring, and after the answer the one that talks; what one side says
//! is passed to the other with our own addresses in it (topology hiding), and media runs between their ports.
//!
//! `Calls` owns the calls. It drives the SIP endpoint and the media ports that it is handed ([`Switch`]) and asks for everything else as
//! output. It knows no storage, no HTTP, no sockets.

mod established;
pub mod leg;
pub mod record;
pub mod ring;
mod ringing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::sdp::secret::Secret;
use media::sdp::transport::{Profile, Protection};
use media::{Event as MediaEvent, PortId};
use serde::Serialize;
use sip::message::{Headers, NameAddr};
use sip::random::Random;
use sip::{ClientId, DialogEvent, DialogId, Ender, Endpoint, Hop, ServerId, StatusCode, Uri};
use tracing::{debug, info};

use leg::{Leg, Manner, Ports};
use record::{EndedBy, LegMedia, Record};
use ring::Ring;

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
        Manner { profile, protection, secret: Secret::new(random) }
    }
}

/// How calls behave.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long devices ring.
    pub no_answer: Duration,
    /// Silence after which a leg is reported.
    pub media_timeout: Duration,
}

/// A call to set up: who, whom, and the devices to ring.
#[derive(Debug)]
pub struct Plan {
    /// The caller's dialog, taken and not answered.
    pub dialog: DialogId,
    /// SDP of the INVITE; empty for none.
    pub offer: Bytes,
    /// Where the caller's signaling comes from.
    pub signaling: IpAddr,
    /// Whether the caller's media has to be protected.
    pub protection: Protection,
    /// Who calls, for the record.
    pub caller: String,
    /// What was dialled, for the record.
    pub dialled: String,
    /// Who is called, for the record.
    pub callee: String,
    /// From of the outgoing INVITEs.
    pub from: NameAddr,
    /// To of the outgoing INVITEs.
    pub to: NameAddr,
    /// Further headers of the outgoing INVITEs, such as P-Asserted-Identity and Max-Forwards.
    pub headers: Headers,
    /// The devices.
    pub targets: Vec<Target>,
}

/// A device to ring.
#[derive(Clone, Debug)]
pub struct Target {
    /// The Request-URI.
    pub uri: Uri,
    /// Routes to it.
    pub routes: Vec<NameAddr>,
    /// Where to send the INVITE: at least one, in the order to try them.
    pub hops: Vec<Hop>,
    /// Whether its media has to be protected.
    pub protection: Protection,
    /// The ways to carry media, in the order to offer them; the next one when the device refuses (488).
    pub profiles: Vec<Profile>,
}

/// What calls ask for.
#[derive(Debug)]
pub enum Output {
    /// Keep this record.
    Record(Box<Record>),
}

/// Which leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    /// One of the devices, by its place in the plan.
    Callee(usize),
}

/// An offer that one side made in the session and the other has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Relayed {
    from: Side,
    /// The offer is asked for: it comes in the response, and its answer in the ACK.
    late: bool,
    /// The side that made it took it back (CANCEL of a re-INVITE).
    withdrawn: bool,
}

#[derive(Debug)]
enum State {
    /// Devices ring.
    Ringing(Ring),
    /// One has answered.
    Established {
        callee: usize,
        /// The caller's ACK carries the answer to a late offer.
        late_offer: bool,
        relayed: Option<Relayed>,
    },
    /// Over; the ports' last figures are awaited.
    Over,
}

#[derive(Debug)]
struct Call {
    state: State,
    caller: Leg,
    callees: Vec<Leg>,
    /// Whose early media the caller hears.
    early: Option<usize>,
    /// Who answered.
    answering: Option<usize>,
    /// Requests within the session that wait for their response.
    passing: Vec<ClientId>,
    /// An offer of our own that met another one and has to be made again.
    mending: Option<Side>,
    /// How often it was made again.
    mended: u8,
    record: Record,
    verdicts: [Option<String>; 2],
    closing: Vec<PortId>,
}

/// All calls of a loop.
#[derive(Debug)]
pub struct Calls {
    policy: Policy,
    calls: HashMap<Id, Call>,
    by_dialog: HashMap<DialogId, (Id, Side)>,
    by_port: HashMap<PortId, (Id, Side)>,
    /// Requests passed within sessions (INFO, MESSAGE): where the response goes.
    passed: HashMap<ClientId, (Id, ServerId, Box<sip::Request>)>,
    /// Callers that gave up before their call was started: names were looked up for it.
    given_up: BTreeSet<DialogId>,
    deadlines: BTreeSet<(Instant, Id)>,
    outputs: VecDeque<Output>,
    last_id: Id,
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
            calls: HashMap::new(),
            by_dialog: HashMap::new(),
            by_port: HashMap::new(),
            passed: HashMap::new(),
            given_up: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            last_id: Id(0),
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

    /// Returns the next thing asked for.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`Calls::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Time has passed: nobody answered, or an offer of ours may be made again.
    pub fn handle_timeout(&mut self, switch: &mut Switch<'_>) {
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= switch.now) {
            self.deadlines.remove(&(at, id));
            self.impatient(switch, id);
            self.no_answer(switch, id);
            self.mend_again(switch, id);
        }
    }

    fn id(&mut self, unix: u64) -> Id {
        self.last_id = Id((unix << 22).max(self.last_id.0 + 1));
        self.last_id
    }

    /// How much of everything is left: calls, dialogs, ports, passed requests, deadlines, callers that gave up.
    #[cfg(test)]
    fn left(&self) -> [usize; 6] {
        [self.calls.len(), self.by_dialog.len(), self.by_port.len(), self.passed.len(), self.deadlines.len(), self.given_up.len()]
    }

    /// Something happened on a leg.
    pub fn handle_dialog(&mut self, switch: &mut Switch<'_>, dialog: DialogId, event: DialogEvent) {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else { return self.handle_stray(switch, dialog, &event) };
        debug!(call = %id, ?side, event = name(&event), "event");
        match (event, side) {
            (DialogEvent::Progress { status, body, .. }, Side::Callee(device)) => self.progress(switch, id, device, status, &body),
            (DialogEvent::Answered { body }, Side::Callee(device)) => self.answered(switch, id, device, &body),
            (DialogEvent::Failed { status, .. }, Side::Callee(device)) => self.failed(switch, id, device, status),
            (DialogEvent::Cancelled { reason }, _) => {
                let reason = reason.map(|reason| reason.text).filter(|text| !text.is_empty());
                let reason = reason.unwrap_or_else(|| "the caller gave up".to_owned());
                self.give_up(switch, id, StatusCode::REQUEST_TERMINATED, EndedBy::Caller, &reason);
            }
            (DialogEvent::Acknowledged { body }, side) => self.acknowledged(switch, id, side, &body),
            (DialogEvent::Offered { body }, side) => self.offered(switch, id, side, &body),
            (DialogEvent::OfferAnswered { body }, side) => self.offer_answered(switch, id, side, &body),
            (DialogEvent::OfferCancelled, side) => self.offer_withdrawn(id, side),
            (DialogEvent::OfferFailed { status }, side) => self.offer_failed(switch, id, side, status),
            (DialogEvent::Ended { by, reason }, side) => self.ended(switch, id, side, by, reason),
            (DialogEvent::Request { server, request }, side) => self.pass(switch, id, side, server, request),
            (DialogEvent::Response { client, response }, _) => self.passed_back(switch, client, &response),
            (DialogEvent::Progress { .. } | DialogEvent::Answered { .. } | DialogEvent::Failed { .. }, Side::Caller) => {}
        }
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
    pub fn handle_media(&mut self, event: MediaEvent) {
        match event {
            MediaEvent::Silent { port, verdict } => {
                let Some((id, side)) = self.by_port.get(&port).copied() else { return };
                info!(call = %id, ?side, verdict, "no media");
                if let Some(slot) = self.calls.get_mut(&id).and_then(|call| call.verdicts.get_mut(slot(side))) {
                    *slot = Some(verdict);
                }
            }
            MediaEvent::Resumed { port } => {
                if let Some((id, side)) = self.by_port.get(&port) {
                    info!(call = %id, ?side, "media is back");
                }
            }
            MediaEvent::Transcoding { port, reason } => {
                if let Some((id, side)) = self.by_port.get(&port) {
                    info!(call = %id, ?side, reason, "media is transcoded");
                }
            }
            MediaEvent::Heard { .. } | MediaEvent::Statistics { .. } => {}
            MediaEvent::Closed { port, statistics } => self.port_closed(port, &statistics),
        }
    }

    fn port_closed(&mut self, port: PortId, statistics: &media::quality::Statistics) {
        let Some((id, side)) = self.by_port.remove(&port) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.closing.retain(|closing| *closing != port);
        let talked = match side {
            Side::Caller => true,
            Side::Callee(device) => call.answering == Some(device),
        };
        if talked {
            let verdict = call.verdicts.get_mut(slot(side)).and_then(Option::take);
            let at = if side == Side::Caller { 0 } else { call.record.media.len() };
            call.record.media.insert(at, LegMedia::new(statistics, verdict));
        }
        self.finish(id);
    }

    /// Writes the record once the call is over and its ports are closed.
    fn finish(&mut self, id: Id) {
        let done = self.calls.get(&id).is_some_and(|call| matches!(call.state, State::Over) && call.closing.is_empty());
        if done && let Some(call) = self.calls.remove(&id) {
            self.outputs.push_back(Output::Record(Box::new(call.record)));
        }
    }

    /// Ends what the call holds: its legs are already told. Its record follows.
    fn close(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let State::Ringing(ring) = &call.state {
            self.deadlines.remove(&(ring.poll_timeout(), id));
        }
        call.state = State::Over;
        call.record.ended_at = switch.unix;
        self.by_dialog.remove(&call.caller.dialog);
        if let Some(port) = call.caller.close(switch.media) {
            self.by_port.insert(port, (id, Side::Caller));
            call.closing.push(port);
        }
        for (device, leg) in call.callees.iter_mut().enumerate() {
            if let Some(until) = leg.spare.as_ref().and_then(|spare| spare.patience) {
                self.deadlines.remove(&(until, id));
            }
            self.by_dialog.remove(&leg.dialog);
            if let Some(port) = leg.close(switch.media) {
                self.by_port.insert(port, (id, Side::Callee(device)));
                call.closing.push(port);
            }
        }
        for client in call.passing.drain(..) {
            // The response would come to a dialog that is gone.
            if let Some((_, server, request)) = self.passed.remove(&client) {
                let response = switch.sip.reply(&request, StatusCode::NO_TRANSACTION);
                switch.sip.respond(switch.now, server, &response);
            }
        }
        let record = &call.record;
        info!(call = %id, status = record.status, ended_by = ?record.ended_by, reason = record.reason, "call ended");
        self.finish(id);
    }
}

impl Call {
    fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Caller => Some(&self.caller),
            Side::Callee(device) => self.callees.get(device),
        }
    }

    /// Returns the leg of one side and the leg it talks to.
    fn pair(&mut self, side: Side) -> Option<(&mut Leg, &mut Leg)> {
        let State::Established { callee, .. } = self.state else { return None };
        let other = self.callees.get_mut(callee)?;
        match side {
            Side::Caller => Some((&mut self.caller, other)),
            Side::Callee(device) if device == callee => Some((other, &mut self.caller)),
            Side::Callee(_) => None,
        }
    }

    /// The side that a side talks to.
    fn other(&self, side: Side) -> Option<Side> {
        match (&self.state, side) {
            (State::Established { callee, .. }, Side::Caller) => Some(Side::Callee(*callee)),
            (State::Established { callee, .. }, Side::Callee(device)) if *callee == device => Some(Side::Caller),
            (State::Ringing(_) | State::Established { .. } | State::Over, _) => None,
        }
    }
}

fn slot(side: Side) -> usize {
    match side {
        Side::Caller => 0,
        Side::Callee(_) => 1,
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
