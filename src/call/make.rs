//! Make: a call that a client application wants. The user's own device is called first, and shown whom it will call; when it answers, the
//! destination is called, and the user hears how that goes (RFC 3725 §4.4, with an offer of ours in the place of the empty one).
//! A user may begin with two devices: audio on one, video on the other. The destination may be a room, which answers at once.

use std::sync::Arc;

use media::Kinds;
use media::sdp::Description;
use sip::StatusCode;
use sip::message::header::Reason;
use sip::message::{Headers, Name};
use tracing::info;

use super::command::Ticket;
use super::conference::room::Room;
use super::party::{Party, PartyId, Person};
use super::reach::Invitation;
use super::record::{EndedBy, Record};
use super::refusal::Refusal;
use super::template::{self, Unwanted};
use super::transfer::{Purpose, Referral, Report, Transfer, identify};
use super::{Call, Calls, Id, Output, State, Switch, Talk, Target, remove};

/// A call to make for a user.
#[derive(Debug)]
pub struct Make {
    /// Who calls.
    pub caller: Person,
    /// The devices of theirs that are called first: one of them is to answer.
    pub devices: Vec<Target>,
    /// Whether the device is asked to answer by itself.
    pub alert: Alert,
    /// The device that carries video where the other one carries only audio.
    pub video: Option<Target>,
    /// What is offered.
    pub kinds: Kinds,
    /// What was dialled, for the record.
    pub dialled: String,
    /// Who is called, or what of a room is shown on the caller's device.
    pub callee: Person,
    /// What is called.
    pub to: Destination,
}

/// What a call is made to.
#[derive(Debug)]
pub enum Destination {
    /// The devices of somebody.
    Devices(Vec<Target>),
    /// A room.
    Room(Arc<Room>),
}

/// How a device is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// It rings until somebody answers.
    Ring,
    /// It answers by itself, if it can: its user has asked for the call.
    Answer,
}

/// What is left to do when the user's device has answered.
#[derive(Debug)]
pub(super) struct Making {
    /// The device that is to carry video, until it is called.
    video: Option<Target>,
    alert: Alert,
    callee: Person,
    to: Destination,
}

impl Making {
    /// Returns whom the user wants to call.
    pub(super) fn callee(&self) -> &Person {
        &self.callee
    }
}

impl Alert {
    /// Adds what phones go by that can answer by themselves: no RFC says it, but they agree on these two. The URIs mean nothing.
    pub(super) fn describe(self, headers: &mut Headers, of: &Person) {
        if self == Self::Answer {
            let uri = &of.shown.uri;
            headers.push(Name::AlertInfo, format!("<{uri}>;info=alert-autoanswer;delay=0"));
            headers.push(Name::CallInfo, format!("<{uri}>;answer-after=0"));
        }
    }
}

impl Calls {
    /// Calls the user's device, and the destination when that has answered. The outcome is told when the destination rings, or when the user is
    /// in the room, or at its door.
    ///
    /// # Errors
    /// [`Refusal::TooManyCalls`], [`Refusal::TooManyOfUser`], [`Refusal::NoWay`] to the user's own device, [`Refusal::Unreachable`]; of a room
    /// without PIN [`Refusal::Locked`] and [`Refusal::Full`].
    pub fn make(&mut self, switch: &mut Switch<'_>, make: Make) -> Result<(Id, Ticket), Refusal> {
        self.may_start(&make.caller.who)?;
        if make.devices.is_empty() {
            return Err(Refusal::NoWay);
        }
        match &make.to {
            Destination::Devices(targets) if targets.is_empty() => return Err(Refusal::Unreachable),
            Destination::Devices(_) => {}
            Destination::Room(room) => self.may_visit(&make.caller.who, room)?,
        }
        let (id, ticket) = (self.take_id(switch.unix), self.take_ticket());
        info!(call = %id, "call made by command");
        let callee = if let Destination::Room(room) = &make.to { &room.number } else { &make.callee.address };
        let mut call = Call::new(Record::begun(id, (&make.caller.address, callee), &make.dialled, switch.unix));
        call.state = State::Established(Talk::default());
        let who = make.caller.who.clone();
        call.parties.push(Party::new(PartyId::CALLER, make.caller));
        self.begin(id, call, &who);
        let (kinds, carries) = if make.video.is_some() { (Kinds::AUDIO, Kinds::AUDIO) } else { (make.kinds, Kinds::BOTH) };
        let making = Making { video: make.video, alert: make.alert, callee: make.callee, to: make.to };
        self.call_caller(switch, id, (&make.devices, kinds, carries), (making, ticket));
        self.touch(id);
        Ok((id, ticket))
    }

    /// Calls devices of who makes the call: each is shown the destination.
    fn call_caller(
        &mut self,
        switch: &mut Switch<'_>,
        id: Id,
        (devices, kinds, carries): (&[Target], Kinds, Kinds),
        (making, ticket): (Making, Ticket),
    ) {
        let Some(caller) = self.calls.get(&id).and_then(|call| call.party(PartyId::CALLER)) else { return };
        let (to, from) = (caller.person.shown.clone(), making.callee.shown.clone());
        let mut headers = Headers::default();
        identify(&mut headers, &making.callee);
        making.alert.describe(&mut headers, &making.callee);
        let template: Arc<Description> = Arc::new(template::offer(&[], kinds, Unwanted::Refused, |_| None));
        let invitation = Invitation { from: &from, to: &to, headers: &headers, template: Some(template) };
        self.reach_first(switch, (id, PartyId::CALLER), (devices, carries), &invitation, (Box::new(making), ticket));
    }

    /// A device of who makes the call has answered: the next one is called, or the destination.
    pub(super) fn caller_is_there(&mut self, switch: &mut Switch<'_>, id: Id, transfer: Transfer) {
        let (Purpose::Make(mut making), Some(Report::Outcome(ticket))) = (transfer.purpose, transfer.report) else { return };
        if let Some(video) = making.video.take() {
            return self.call_caller(switch, id, (&[video], Kinds::VIDEO, Kinds::VIDEO), (*making, ticket));
        }
        let Making { callee, to, .. } = *making;
        let targets = match to {
            Destination::Devices(targets) => targets,
            Destination::Room(room) => return self.visit_by_command(switch, id, &room, ticket),
        };
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.parties.push(Party::new(PartyId::CALLEE, callee.clone()));
        let mut headers = Headers::default();
        headers.push(Name::MaxForwards, "70");
        let referral = Referral { to: callee.clone(), headers, targets, report: Some(Report::Outcome(ticket)) };
        self.reach_out(switch, id, (PartyId::CALLEE, callee), referral, Purpose::Called);
    }

    /// No device of who makes the call answered. Without the one for video the call is made all the same.
    pub(super) fn caller_is_not_there(&mut self, switch: &mut Switch<'_>, id: Id, transfer: Transfer, why: (StatusCode, Refusal)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.legs.iter().any(|leg| leg.party == PartyId::CALLER && leg.is_up()) {
            info!(call = %id, status = %why.0, "made without video");
            return self.caller_is_there(switch, id, transfer);
        }
        let (status, refusal) = why;
        if let Some(Report::Outcome(ticket)) = transfer.report {
            self.outputs.push_back(Output::Outcome { ticket, result: Err(refusal) });
        }
        let reason = if refusal == Refusal::NoAnswer {
            "nobody answered at the caller's own device in time".to_owned()
        } else {
            format!("the caller's own device said {status}")
        };
        call.record.refused(status, EndedBy::Caller, reason);
        self.close(switch, id);
    }

    /// The destination did not answer: who wanted the call is hung up, and told why.
    pub(super) fn not_made(&mut self, switch: &mut Switch<'_>, id: Id, (status, refusal): (StatusCode, Refusal)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if refusal == Refusal::NoAnswer {
            call.record.refused(status, EndedBy::NoAnswer, "nobody answered in time");
        } else if refusal == Refusal::Removed {
            call.record.refused(status, EndedBy::Switch, remove::REASON);
        } else {
            call.record.refused(status, EndedBy::Callee, format!("the callee's device said {status}"));
        }
        self.hang_up(switch, id, None, Some(&Reason::sip(status.code(), status.reason())));
    }
}
