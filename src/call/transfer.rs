//! Transfer (RFC 5589), as a B2BUA does it: a party sends the other one to somebody else. While the devices of that somebody ring, the two
//! stay together, or the one who is sent waits with music; who answers takes the place of the party that sent. No peer is told to
//! call anybody. Two calls of a party are joined at once (attended). A parked call that returns is called in the same way.

use std::sync::Arc;

use bytes::Bytes;
use media::Kinds;
use media::sdp::negotiate::Finality;
use sip::message::header::Reason;
use sip::message::{Headers, Name};
use sip::{DialogEvent, DialogId, ReferId, StatusCode};
use tracing::info;

use super::graph::Constructed;
use super::leg::{Leg, LegId, MediaError, Stage};
use super::party::{Party, PartyId, Person, Who};
use super::reach::{Invitation, end_late};
use super::record::EndedBy;
use super::ring::{Ring, Verdict};
use super::template;
use super::{Call, Calls, Id, Output, State, Switch, Talk, Target};
use crate::device;

/// Whom to tell how a REFER goes: the peer of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The dialog in which the REFER came, or which it made.
    pub dialog: DialogId,
    /// The REFER.
    pub refer: ReferId,
}

/// Somebody who is to take the place of a party.
#[derive(Debug)]
pub struct Referral {
    /// Who.
    pub to: Person,
    /// Further headers of the INVITEs, such as Referred-By.
    pub headers: Headers,
    /// The devices to ring.
    pub targets: Vec<Target>,
    /// Who is told how it goes.
    pub report: Option<Report>,
}

/// Why a call stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call or the party is not there any more.
    #[error("there is no such call")]
    Gone,
    /// It does not belong to who asks.
    #[error("the call is somebody else's")]
    NotYours,
    /// It is not answered yet, or has more or fewer parties than this is about.
    #[error("the call is not one of two parties who talk")]
    NotTalking,
    /// Another change is under way.
    #[error("another change of the call is under way")]
    Pending,
    /// No device can be called.
    #[error("no device can be reached")]
    Unreachable,
    /// What the device offers cannot be used.
    #[error("the device's media cannot be used")]
    Unusable,
    /// No slot is free, or there is nothing in it.
    #[error("the slot cannot be used")]
    NoSlot,
}

impl Refusal {
    /// Returns what a phone is told.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Gone => StatusCode::NO_TRANSACTION,
            Self::NotYours => StatusCode::FORBIDDEN,
            Self::NotTalking | Self::Pending => StatusCode::REQUEST_PENDING,
            Self::Unreachable => StatusCode::TEMPORARILY_UNAVAILABLE,
            Self::Unusable => StatusCode::NOT_ACCEPTABLE_HERE,
            Self::NoSlot => StatusCode::NOT_FOUND,
        }
    }
}

/// A party on its way into a call, in the place of another one.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Who sent the other party away, and may have left.
    by: PartyId,
    sender: Person,
    /// Who comes, and as which party: the sender's own if another device of theirs is called.
    party: PartyId,
    to: Person,
    ring: Ring,
    report: Option<Report>,
}

impl Calls {
    /// Returns the call of a dialog, and whose the leg is. None for a dialog that is in no call.
    #[must_use]
    pub fn owner(&self, dialog: DialogId) -> Option<(Id, PartyId, &Person, Option<&device::Id>)> {
        let (id, leg) = self.by_dialog.get(&dialog)?;
        let call = self.calls.get(id)?;
        let leg = call.leg(*leg)?;
        Some((*id, leg.party, &call.party(leg.party)?.person, leg.device.as_ref()))
    }

    /// Sends the other party of a call to somebody else (blind), or calls other devices of the one who asks. A REFER gets its answer here.
    ///
    /// # Errors
    /// See [`Refusal`]; the call is as it was, and a REFER is refused.
    pub fn transfer(&mut self, switch: &mut Switch<'_>, id: Id, by: PartyId, referral: Referral) -> Result<(), Refusal> {
        let report = referral.report;
        let result = self.begin_transfer(switch, id, by, referral);
        if let (Err(refusal), Some(Report { dialog, refer })) = (result, report) {
            let _gone = switch.sip.refuse_refer(switch.now, dialog, refer, refusal.status());
        }
        self.touch(id);
        result
    }

    fn begin_transfer(&mut self, switch: &mut Switch<'_>, id: Id, by: PartyId, referral: Referral) -> Result<(), Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::Gone)?;
        let sender = call.party(by).ok_or(Refusal::Gone)?.person.clone();
        call.two_talk()?;
        if referral.targets.is_empty() {
            return Err(Refusal::Unreachable);
        }
        if let Some(Report { dialog, refer }) = referral.report {
            switch.sip.accept_refer(switch.now, dialog, refer).map_err(|_| Refusal::Gone)?;
        }
        info!(call = %id, devices = referral.targets.len(), "transfer");
        self.reach_out(switch, id, (by, sender), referral);
        Ok(())
    }

    /// Calls devices into a call.
    pub(super) fn reach_out(&mut self, switch: &mut Switch<'_>, id: Id, (by, sender): (PartyId, Person), referral: Referral) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let stays = call.legs.iter().find(|leg| leg.is_up() && leg.party != by);
        let Some(stays) = stays else { return };
        let template = template::offer(&[], stays.media.has() | Kinds::AUDIO, template::Unwanted::Refused, |kind| stays.media.line(kind));
        let Some(person) = call.party(stays.party).map(|party| party.person.clone()) else { return };
        let from = person.shown.clone();
        let party = if referral.to.who == sender.who { by } else { call.next_party() };
        let mut headers = referral.headers;
        headers.push(Name::ReferredBy, sender.shown.to_string());
        if person.is_anonymous() {
            headers.push(Name::Privacy, "id");
        } else {
            headers.push(Name::PAssertedIdentity, from.to_string());
        }
        let (template, port) = (Arc::new(template), call.any_port());
        let legs: Vec<LegId> = referral.targets.iter().map(|_| call.take_leg_id()).collect();
        let ring = Ring::new(switch.now, legs.clone(), self.policy.no_answer);
        let mut failures = Vec::new();
        for (leg, target) in legs.into_iter().zip(&referral.targets) {
            let template = Some(Arc::clone(&template));
            let invitation = Invitation { from: &from, to: &referral.to.shown, headers: &headers, template };
            match Leg::place(switch, (leg, party), target, invitation, port) {
                Ok(placed) => {
                    self.by_dialog.insert(placed.dialog, (id, leg));
                    call.legs.push(placed);
                }
                Err(error) => failures.push((leg, super::reach::refusal(&error))),
            }
        }
        call.transfer = Some(Box::new(Transfer { by, sender, party, to: referral.to, ring, report: referral.report }));
        for (leg, status) in failures {
            self.failed(switch, id, leg, status);
        }
    }

    /// Takes an event of a call that somebody is on the way into. Returns it where it means what it means in any call.
    pub(super) fn transfer_event(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, event: DialogEvent) -> Option<DialogEvent> {
        let Some(call) = self.calls.get_mut(&id) else { return Some(event) };
        let Some(transfer) = call.transfer.as_deref_mut() else { return Some(event) };
        let Some(at) = call.legs.iter_mut().find(|known| known.id == leg) else { return Some(event) };
        let is_coming = matches!(at.stage, Stage::Reaching(_));
        match event {
            DialogEvent::Progress { status, .. } if is_coming => {
                at.shows_life();
                if let Some(status) = transfer.ring.progress(status) {
                    transfer.tell(switch, status);
                }
                None
            }
            DialogEvent::Answered { body } if is_coming => {
                let dialog = at.dialog;
                if let Err(error) = self.arrive(switch, id, leg, &body) {
                    info!(call = %id, %error, "the answer cannot be used");
                    end_late(switch, dialog);
                    self.failed(switch, id, leg, StatusCode::NOT_ACCEPTABLE_HERE);
                }
                None
            }
            DialogEvent::Ended { .. } if at.is_up() && at.party == transfer.by => {
                // RFC 5589 §6: who sent the other one away need not wait for what comes of it.
                self.depart(switch, id, leg);
                None
            }
            event @ (DialogEvent::Progress { .. }
            | DialogEvent::Answered { .. }
            | DialogEvent::Failed { .. }
            | DialogEvent::Cancelled { .. }
            | DialogEvent::Acknowledged { .. }
            | DialogEvent::Offered { .. }
            | DialogEvent::OfferCancelled
            | DialogEvent::OfferAnswered { .. }
            | DialogEvent::OfferFailed { .. }
            | DialogEvent::Request { .. }
            | DialogEvent::Response { .. }
            | DialogEvent::Ended { .. }) => Some(event),
        }
    }

    /// Returns true for a leg that is on its way into an answered call.
    pub(super) fn is_coming(&self, id: Id, leg: LegId) -> bool {
        let call = self.calls.get(&id).filter(|call| call.transfer.is_some());
        call.and_then(|call| call.leg(leg)).is_none_or(|leg| matches!(leg.stage, Stage::Reaching(_))) && call.is_some()
    }

    /// A device cannot come: the others may.
    pub(super) fn cannot_come(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, status: StatusCode) {
        self.release(switch, id, leg);
        let Some(transfer) = self.calls.get_mut(&id).and_then(|call| call.transfer.as_deref_mut()) else { return };
        if let Verdict::GiveUp(status) = transfer.ring.failed(leg, status) {
            self.fail_transfer(switch, id, status);
        }
    }

    pub(super) fn transfer_timeout(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(transfer) = self.calls.get_mut(&id).and_then(|call| call.transfer.as_deref_mut()) else { return };
        if let Verdict::GiveUp(status) = transfer.ring.handle_timeout(switch.now) {
            self.fail_transfer(switch, id, status);
        }
    }

    /// Takes back what is under way. Returns what it was.
    pub(super) fn drop_transfer(&mut self, switch: &mut Switch<'_>, id: Id, reason: &Reason) -> Option<Box<Transfer>> {
        let call = self.calls.get_mut(&id)?;
        let transfer = call.transfer.take()?;
        let coming: Vec<LegId> = call.legs.iter().filter(|leg| matches!(leg.stage, Stage::Reaching(_))).map(|leg| leg.id).collect();
        for leg in coming {
            if let Some(leg) = self.calls.get(&id).and_then(|call| call.leg(leg)) {
                leg.give_up(switch, Some(reason));
            }
            self.release(switch, id, leg);
        }
        Some(transfer)
    }

    /// Nobody came. The party that sent the other one away has it back: at once if it is still there, else its devices are called
    /// (RFC 5589 §6.3). Who cannot be called back to loses the call, unless it is parked.
    fn fail_transfer(&mut self, switch: &mut Switch<'_>, id: Id, status: StatusCode) {
        let Some(transfer) = self.drop_transfer(switch, id, &Reason::sip(408, "No answer")) else { return };
        info!(call = %id, %status, "transfer failed");
        transfer.tell(switch, status);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let is_there = call.legs.iter().any(|leg| leg.party == transfer.by);
        let user = transfer.sender.who.user().filter(|_| transfer.party != transfer.by && !is_there).cloned();
        match user {
            _ if is_there => {}
            Some(user) => self.call_back(id, (transfer.by, transfer.sender), user),
            None if call.parked.is_some() => self.stay_parked(switch, id),
            None => self.nobody_left(switch, id, "nobody answered whom the caller was sent to"),
        }
    }

    /// Asks for the devices of a user who is to be called back.
    pub(super) fn call_back(&mut self, id: Id, (party, person): (PartyId, Person), user: Arc<str>) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.awaited = Some((party, person));
            self.outputs.push_back(Output::Recall { call: id, user });
        }
    }

    /// Calls the devices that were asked for by [`Output::Recall`].
    pub fn recall(&mut self, switch: &mut Switch<'_>, id: Id, headers: Headers, targets: Vec<Target>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some((party, person)) = call.awaited.take() else { return };
        if targets.is_empty() && call.parked.is_some() {
            self.stay_parked(switch, id);
        } else if targets.is_empty() {
            self.nobody_left(switch, id, "the party that sent the other one away cannot be reached");
        } else {
            let referral = Referral { to: person.clone(), headers, targets, report: None };
            self.reach_out(switch, id, (party, person), referral);
        }
        self.touch(id);
    }

    /// Ends a call whose last party waits for nobody.
    pub(super) fn nobody_left(&mut self, switch: &mut Switch<'_>, id: Id, why: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.record.ended_by = EndedBy::NoAnswer;
        why.clone_into(&mut call.record.reason);
        self.hang_up(switch, id, None, Some(&Reason::sip(408, "No answer")));
    }

    /// Who was called answered: the party that sent the other one leaves.
    fn arrive(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, body: &Bytes) -> Result<(), MediaError> {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let Some(leg) = call.leg_mut(device) else { return Ok(()) };
        leg.media.receive_answer(body, Finality::Final)?;
        switch.sip.acknowledge(switch.now, leg.dialog, Bytes::new());
        leg.media.apply(switch.media, limit);
        leg.stage = Stage::Up;
        let Some(transfer) = self.drop_transfer(switch, id, &Reason::sip(200, "Call completed elsewhere")) else { return Ok(()) };
        transfer.tell(switch, StatusCode::OK);
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        if transfer.to.who != transfer.sender.who {
            call.constructed = Constructed::Transferred(transfer.sender.who.clone());
        }
        info!(call = %id, "transferred");
        self.unpark(id);
        let is_push = transfer.party == transfer.by && call_has(self.calls.get(&id), transfer.by, device);
        if is_push {
            self.come_instead(switch, (id, transfer.party), device);
        } else {
            self.enter(switch, id, device, Party::new(transfer.party, transfer.to), transfer.by);
        }
        Ok(())
    }

    /// A leg of a party is in: the party comes in with it, and the legs in whose place it is go.
    pub(super) fn enter(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, party: Party, instead: PartyId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(user) = party.person.who.user() {
            self.by_user.insert((Arc::clone(user), id));
        }
        match call.parties.iter_mut().find(|known| known.id == party.id) {
            Some(known) => known.person = party.person,
            None => call.parties.push(party),
        }
        let leaving: Vec<LegId> = call.legs.iter().filter(|leg| leg.party == instead && leg.id != device).map(|leg| leg.id).collect();
        for leg in leaving {
            if let Some(dialog) = self.dialog(id, leg) {
                switch.sip.bye(switch.now, dialog, Some(Reason::sip(200, "Call completed elsewhere")));
            }
            self.depart(switch, id, leg);
        }
        let came = self.calls.get(&id).and_then(|call| call.leg(device)).map(|leg| leg.party);
        self.meet(switch, id, came.unwrap_or(instead));
    }

    /// A leg is gone, and its party with it if it was the last one.
    pub(super) fn depart(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) {
        let Some(party) = self.calls.get(&id).and_then(|call| call.leg(leg)).map(|leg| leg.party) else { return };
        self.remove_leg(switch, id, leg);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.legs.iter().any(|leg| leg.party == party) {
            return;
        }
        let Some(at) = call.parties.iter().position(|known| known.id == party) else { return };
        let gone = call.parties.remove(at);
        call.went(&gone, switch.unix);
        let is_user = |known: &Party| known.person.who == gone.person.who;
        if let Some(user) = gone.person.who.user().filter(|_| !call.parties.iter().any(is_user)) {
            self.by_user.remove(&(Arc::clone(user), id));
        }
        self.arrange(switch, id);
    }

    /// Joins two calls of a user: the other party of the first one and that of the second one talk, and the user leaves both (attended
    /// transfer). In the second one the devices may still ring. A REFER gets its answer here.
    ///
    /// # Errors
    /// See [`Refusal`]; the calls are as they were, and a REFER is refused.
    pub fn join(
        &mut self,
        switch: &mut Switch<'_>,
        first: (Id, PartyId),
        second: (Id, PartyId),
        report: Option<Report>,
    ) -> Result<(), Refusal> {
        let result = self.check_join(first, second);
        match (result, report) {
            (Err(refusal), Some(Report { dialog, refer })) => {
                let _gone = switch.sip.refuse_refer(switch.now, dialog, refer, refusal.status());
            }
            (Ok(()), Some(Report { dialog, refer })) => {
                let _gone = switch.sip.accept_refer(switch.now, dialog, refer);
            }
            (_, None) => {}
        }
        result?;
        let rings = self.calls.get(&second.0).is_some_and(|call| matches!(call.state, State::Ringing(_)));
        if rings {
            self.join_ringing(switch, first, second, report);
        } else {
            self.join_talking(switch, first, second);
            if let Some(report) = report {
                switch.sip.report(switch.now, report.dialog, report.refer, StatusCode::OK);
            }
            self.part(switch, first);
        }
        self.touch(first.0);
        self.touch(second.0);
        Ok(())
    }

    fn check_join(&self, first: (Id, PartyId), second: (Id, PartyId)) -> Result<(), Refusal> {
        let (Some(one), Some(other)) = (self.calls.get(&first.0), self.calls.get(&second.0)) else { return Err(Refusal::Gone) };
        let (Some(in_one), Some(in_other)) = (one.party(first.1), other.party(second.1)) else { return Err(Refusal::Gone) };
        if in_one.person.who != in_other.person.who {
            return Err(Refusal::NotYours);
        }
        if first.0 == second.0 {
            return Err(Refusal::NotTalking);
        }
        one.two_talk()?;
        match &other.state {
            State::Ringing(_) if second.1 == PartyId::CALLER => Ok(()),
            State::Ringing(_) | State::Over => Err(Refusal::NotTalking),
            State::Established(_) => other.two_talk(),
        }
    }

    fn join_talking(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId), (from, as_party): (Id, PartyId)) {
        let Some(other) = self.calls.get_mut(&from) else { return };
        let Some(at) = other.parties.iter().position(|party| party.id != as_party) else { return };
        let mut comes = other.parties.remove(at);
        let legs: Vec<Leg> = other.legs.extract_if(.., |leg| leg.party == comes.id).collect();
        info!(call = %id, with = %from, "joined");
        other.record.ended_by = EndedBy::Switch;
        other.record.reason = format!("joined with call {id}");
        if let Some(user) = comes.person.who.user() {
            self.by_user.remove(&(Arc::clone(user), from));
            self.by_user.insert((Arc::clone(user), id));
        }
        // A port is in one bridge at a time.
        self.arrange(switch, from);
        self.hang_up(switch, from, None, Some(&Reason::sip(200, "Call completed elsewhere")));
        let Some(call) = self.calls.get_mut(&id) else { return };
        let sender = call.party(by).map(|party| party.person.who.clone());
        call.constructed = sender.map_or(Constructed::Direct, Constructed::Transferred);
        comes.id = call.next_party();
        for mut leg in legs {
            (leg.id, leg.party) = (call.take_leg_id(), comes.id);
            self.by_dialog.insert(leg.dialog, (id, leg.id));
            call.legs.push(leg);
        }
        call.parties.push(comes);
    }

    /// The devices that ring in the second call ring in the first one from now on.
    fn join_ringing(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId), (from, _): (Id, PartyId), report: Option<Report>) {
        let Some(other) = self.calls.get_mut(&from) else { return };
        let Some(to) = other.party(PartyId::CALLEE).map(|party| party.person.clone()) else { return };
        let legs: Vec<Leg> = other.legs.extract_if(.., |leg| leg.party == PartyId::CALLEE).collect();
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(sender) = call.party(by).map(|party| party.person.clone()) else { return };
        let party = call.next_party();
        let mut ringing = Vec::new();
        for mut leg in legs {
            (leg.id, leg.party) = (call.take_leg_id(), party);
            self.by_dialog.insert(leg.dialog, (id, leg.id));
            ringing.push(leg.id);
            if let Some(port) = leg.media.port() {
                self.by_port.insert(port, (id, leg.id));
            }
            call.legs.push(leg);
        }
        let ring = Ring::new(switch.now, ringing, self.policy.no_answer);
        call.transfer = Some(Box::new(Transfer { by, sender, party, to, ring, report }));
        self.refuse(switch, from, StatusCode::REQUEST_TERMINATED, EndedBy::Switch, &format!("joined with call {id}"));
    }

    /// The party that joined two others leaves.
    fn part(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId)) {
        let Some(call) = self.calls.get(&id) else { return };
        let leaving: Vec<LegId> = call.legs.iter().filter(|leg| leg.party == by).map(|leg| leg.id).collect();
        for leg in leaving {
            if let Some(dialog) = self.dialog(id, leg) {
                switch.sip.bye(switch.now, dialog, Some(Reason::sip(200, "Call completed elsewhere")));
            }
            self.depart(switch, id, leg);
        }
        let came = self.calls.get(&id).and_then(|call| call.parties.last()).map(|party| party.id);
        self.meet(switch, id, came.unwrap_or(by));
    }

    /// Two parties are together who were not before: who is on hold for somebody who has left, or does not fit, gets an offer.
    pub(super) fn meet(&mut self, switch: &mut Switch<'_>, id: Id, came: PartyId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        for leg in call.legs.iter_mut().filter(|leg| leg.is_up()) {
            let may_not_fit = leg.party != came;
            (leg.stale, leg.stuck) = (true, None);
            leg.mends = u8::from(may_not_fit || !leg.media.is_open());
        }
        self.arrange(switch, id);
        self.align(switch, id);
    }
}

impl Transfer {
    pub(super) fn poll_timeout(&self) -> std::time::Instant {
        self.ring.poll_timeout()
    }

    fn tell(&self, switch: &mut Switch<'_>, status: StatusCode) {
        if let Some(Report { dialog, refer }) = self.report {
            switch.sip.report(switch.now, dialog, refer, status);
        }
    }

    /// The call ends: so does this.
    pub(super) fn give_up(&self, switch: &mut Switch<'_>) {
        self.tell(switch, StatusCode::REQUEST_TERMINATED);
    }
}

impl Call {
    /// Returns true where two parties talk by one device each, and nothing is under way.
    pub(super) fn two_talk(&self) -> Result<(), Refusal> {
        let State::Established(Talk { late_offer, relayed, .. }) = &self.state else { return Err(Refusal::NotTalking) };
        let moves = self.parties.iter().any(|party| party.moving.is_some());
        if *late_offer || relayed.is_some() || moves || self.transfer.is_some() || self.awaited.is_some() {
            return Err(Refusal::Pending);
        }
        let up: Vec<&Leg> = self.legs.iter().filter(|leg| leg.is_up()).collect();
        let is_pair = self.parties.len() == 2 && self.conference.is_none() && matches!(up[..], [one, other] if one.party != other.party);
        if is_pair { Ok(()) } else { Err(Refusal::NotTalking) }
    }

    pub(super) fn next_party(&self) -> PartyId {
        let last = self.parties.iter().map(|party| party.id.0).fold(self.highest, u16::max);
        PartyId(last.saturating_add(1))
    }
}

/// Whether a party has another device in the call than this one.
fn call_has(call: Option<&Call>, party: PartyId, but: LegId) -> bool {
    call.is_some_and(|call| call.legs.iter().any(|leg| leg.party == party && leg.id != but && leg.is_up()))
}

/// Who a party is, for a rule about who may do what.
pub(super) fn is_user(person: &Person, user: &str) -> bool {
    matches!(&person.who, Who::User(name) if **name == *user)
}
