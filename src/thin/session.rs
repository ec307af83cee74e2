//! One call of a thin client: what it and the switch owe each other (RFC 3261 §13, §14, RFC 3264 §4).

use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::{CommandError, DialogId, StatusCode};

use super::{ANSWER_LIMIT, Kind, Output, Progress, Refusal, Thin, Ticket};

/// How often an offer that met another one is made again (§14.1); then it is refused.
const TRIES: u8 = 4;

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The application calls.
    Calling,
    /// It rings.
    Ringing,
    /// It is answered.
    Up,
}

/// What the switch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Nothing.
    Nothing,
    /// An answer to its offer.
    Answer,
    /// An offer; the answer to it comes with the ACK.
    Offer,
}

/// One call.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) login: u64,
    pub(super) state: State,
    pub(super) wants: Wants,
    /// The application called: the Call-ID is ours.
    pub(super) is_placed: bool,
    /// Whose request waits for an answer of the switch.
    pub(super) waiting: Option<Ticket>,
    /// The switch's answer comes with its ACK.
    pub(super) is_late: bool,
    /// What is offered, to be offered again where it meets another offer.
    pub(super) again: Option<Bytes>,
    pub(super) tries: u8,
    /// The call that it belongs to, as far as it was noted.
    pub(super) noted: Option<u64>,
    /// The last early answer: a 2xx after a reliable one may have none.
    pub(super) early: Bytes,
    pub(super) wake: Option<Instant>,
}

impl Session {
    pub(super) fn new(login: u64, state: State, wants: Wants) -> Self {
        let is_placed = state == State::Calling;
        Self {
            login,
            state,
            wants,
            is_placed,
            waiting: None,
            is_late: false,
            again: None,
            tries: 0,
            noted: None,
            early: Bytes::new(),
            wake: None,
        }
    }
}

impl Thin {
    /// Makes an offer of the application.
    pub(super) fn offer(&mut self, now: Instant, id: DialogId, sdp: Bytes) -> Result<Progress, Refusal> {
        let session = self.sessions.get(&id).ok_or(Refusal::NoSession)?;
        match session.state {
            State::Calling | State::Ringing => return Err(Refusal::NotAnswered),
            State::Up if session.waiting.is_some() => return Err(Refusal::UnderWay),
            State::Up => {}
        }
        let ticket = self.ticket();
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.waiting, session.tries) = (Some(ticket), 0);
        }
        self.send_offer(now, id, sdp);
        Ok(Progress::Pending(ticket))
    }

    fn send_offer(&mut self, now: Instant, id: DialogId, sdp: Bytes) {
        let sent = self.sip.offer(now, id, sdp.clone());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.again = Some(sdp);
        match sent {
            Ok(()) => {}
            Err(CommandError::Pending) => self.offer_later(now, id),
            Err(CommandError::Gone) => self.finish(id, Err(Refusal::Over)),
        }
    }

    /// An offer met another one: it is made again after a time that differs for the two sides (§14.1).
    pub(super) fn offer_later(&mut self, now: Instant, id: DialogId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.tries += 1;
        if session.tries > TRIES {
            return self.finish(id, Err(Refusal::Refused(StatusCode::REQUEST_PENDING)));
        }
        let tens = if session.is_placed { 210 + self.random.below(190) } else { self.random.below(200) };
        self.set_wake(id, Some(now + Duration::from_millis(tens * 10)));
    }

    /// Answers an INVITE that asked for an offer; the switch's answer comes with its ACK.
    pub(super) fn accept_with_offer(&mut self, now: Instant, id: DialogId, sdp: Bytes) -> Progress {
        self.sip.accept(now, id, sdp);
        self.answered(id);
        let ticket = self.ticket();
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.waiting, session.is_late) = (Some(ticket), true);
        }
        Progress::Pending(ticket)
    }

    /// The application answered, and the switch waits for nothing.
    pub(super) fn answered(&mut self, id: DialogId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.state, session.wants) = (State::Up, Wants::Nothing);
        }
        self.set_wake(id, None);
    }

    /// The application does not take what the switch offers: the call it rings for is declined, one that is up stays as it was.
    pub(super) fn decline(&mut self, now: Instant, id: DialogId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let is_ringing = session.state == State::Ringing;
        session.wants = Wants::Nothing;
        let status = if is_ringing { StatusCode::DECLINE } else { StatusCode::NOT_ACCEPTABLE_HERE };
        let _gone = self.sip.refuse(now, id, status, &sip::message::Headers::default());
        self.set_wake(id, None);
        if is_ringing {
            self.end(id, Refusal::Over);
        }
    }

    /// The switch made an offer, or asks for one, within the call.
    pub(super) fn offered(&mut self, now: Instant, id: DialogId, sdp: Bytes) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.wants = if sdp.is_empty() { Wants::Offer } else { Wants::Answer };
        if session.again.take().is_some() {
            self.finish(id, Err(Refusal::Glare));
        }
        self.set_wake(id, Some(now + ANSWER_LIMIT));
        let kind = if sdp.is_empty() { Kind::Request } else { Kind::Offer };
        self.tell(id, kind, sdp);
    }

    /// The switch took its offer back, or its time is over.
    pub(super) fn withdrawn(&mut self, id: DialogId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.wants = Wants::Nothing;
        }
        self.set_wake(id, None);
        self.tell(id, Kind::Rollback, Bytes::new());
    }

    /// It is time for what a call waits for.
    pub(super) fn wake(&mut self, now: Instant, id: DialogId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.wake = None;
        if session.wants != Wants::Nothing {
            let _gone = self.sip.refuse(now, id, StatusCode::NOT_ACCEPTABLE_HERE, &sip::message::Headers::default());
            self.withdrawn(id);
        } else if let Some(sdp) = session.again.take() {
            self.send_offer(now, id, sdp);
        }
    }

    /// Ends what the application waits for.
    pub(super) fn finish(&mut self, id: DialogId, result: Result<Bytes, Refusal>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.again = None;
        if let Some(ticket) = session.waiting.take() {
            self.outputs.push_back(Output::Done { ticket, session: id, result });
        }
        self.set_wake(id, None);
    }

    /// A call begins.
    pub(super) fn begin(&mut self, id: DialogId, session: Session) {
        if let Some(device) = self.devices.get_mut(&session.login) {
            device.sessions.push(id);
        }
        self.sessions.insert(id, session);
    }

    /// The call is over.
    pub(super) fn end(&mut self, id: DialogId, why: Refusal) {
        self.finish(id, Err(why));
        let Some(session) = self.sessions.remove(&id) else { return };
        if let Some(device) = self.devices.get_mut(&session.login) {
            device.sessions.retain(|other| *other != id);
        }
    }

    /// The switch gives up the call; one that rings stops.
    pub(super) fn given_up(&mut self, id: DialogId) {
        if self.sessions.get(&id).is_some_and(|session| session.wants != Wants::Nothing) {
            self.withdrawn(id);
        }
        self.end(id, Refusal::Over);
    }

    pub(super) fn tell(&mut self, id: DialogId, kind: Kind, sdp: Bytes) {
        if let Some(session) = self.sessions.get(&id) {
            self.outputs.push_back(Output::Described { login: session.login, session: id, noted: session.noted, kind, sdp });
        }
    }

    fn set_wake(&mut self, id: DialogId, at: Option<Instant>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut session.wake, at) {
            self.deadlines.remove(&(before, id));
        }
        self.deadlines.extend(at.map(|at| (at, id)));
    }
}
