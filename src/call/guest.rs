//! Guests: who picks up by command what rings at somebody else. Their devices ring beside those of the callee; the first answer of all wins,
//! and a guest who answers takes the callee's place.

use std::sync::Arc;

use media::Kinds;
use sip::StatusCode;
use sip::message::header::Reason;
use sip::message::{Headers, Name};
use tracing::info;

use super::command::{Answer, Ticket};
use super::graph::Constructed;
use super::leg::LegId;
use super::make::Alert;
use super::party::{PartyId, Person};
use super::reach::Invitation;
use super::refusal::Refusal;
use super::transfer::identify;
use super::{Call, Calls, Id, Output, State, Switch, Target};

/// Most guests of a call at a time; a further one is refused.
const MAX: usize = 8;

/// Who picks up a call that rings.
#[derive(Debug)]
pub(super) struct Guest {
    party: PartyId,
    person: Person,
    ticket: Ticket,
}

impl Call {
    /// Returns who picks it up, and as which party until then.
    pub(super) fn guests(&self) -> impl Iterator<Item = (PartyId, &Person)> {
        let guests = if let State::Ringing(ringing) = &self.state { ringing.guests.as_slice() } else { &[] };
        guests.iter().map(|guest| (guest.party, &guest.person))
    }

    /// Whether somebody who is not in it may pick it up by command.
    pub(super) fn may_be_picked_up(&self) -> Result<(), Refusal> {
        match &self.state {
            State::Ringing(ringing) if ringing.guests.len() >= MAX => Err(Refusal::UnderWay),
            State::Ringing(_) => Ok(()),
            State::Established(_) if self.parked.is_none() => Err(Refusal::NoSlot),
            // whom the parker's phones ring for may be taken: nobody has asked for that call
            State::Established(_) if self.transfer.as_ref().is_some_and(|coming| coming.report.is_some()) => Err(Refusal::UnderWay),
            State::Established(_) => Ok(()),
            State::Over => Err(Refusal::NoCall),
        }
    }

    pub(super) fn is_guest(&self, party: PartyId) -> bool {
        self.guests().any(|(guest, _)| guest == party)
    }

    pub(super) fn take_guests(&mut self) -> Vec<Guest> {
        if let State::Ringing(ringing) = &mut self.state { std::mem::take(&mut ringing.guests) } else { Vec::new() }
    }
}

impl Calls {
    /// Calls the devices of somebody who picks up a ringing call.
    pub(super) fn call_guest(
        &mut self,
        switch: &mut Switch<'_>,
        id: Id,
        person: Person,
        (devices, alert): (&[Target], Alert),
    ) -> Result<Answer, Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        if call.parties.iter().any(|party| party.person.who == person.who) {
            return Err(Refusal::NotYours);
        }
        if call.guests().any(|(_, guest)| guest.who == person.who) {
            return Err(Refusal::UnderWay);
        }
        if devices.is_empty() {
            return Err(Refusal::NoWay);
        }
        let caller = call.party(PartyId::CALLER).map(|party| party.person.clone()).ok_or(Refusal::NoCall)?;
        let offer = call.leg(LegId::CALLER).and_then(|caller| caller.media.remote_offer().ok().cloned());
        let party = call.next_party();
        let mut headers = Headers::default();
        headers.push(Name::MaxForwards, "70");
        identify(&mut headers, &caller);
        alert.describe(&mut headers, &caller);
        let invitation = Invitation { from: &caller.shown, to: &person.shown, headers: &headers, template: offer.map(Arc::new) };
        let ticket = self.take_ticket();
        if let Some(user) = person.who.user() {
            self.by_user.insert((Arc::clone(user), id));
        }
        if let Some(State::Ringing(ringing)) = self.calls.get_mut(&id).map(|call| &mut call.state) {
            ringing.guests.push(Guest { party, person: person.clone(), ticket });
        }
        let (_, failures) = self.place_all(switch, (id, party), devices, &invitation, Kinds::BOTH);
        for (leg, status) in failures {
            self.guest_failed(switch, id, (leg, party), status);
        }
        Ok(Answer::Pending(ticket))
    }

    /// A device of a guest refused, could not be reached, or gave up.
    pub(super) fn guest_failed(&mut self, switch: &mut Switch<'_>, id: Id, (leg, party): (LegId, PartyId), status: StatusCode) {
        self.release(switch, id, leg);
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.legs.iter().any(|leg| leg.party == party)) else { return };
        let State::Ringing(ringing) = &mut call.state else { return };
        if let Some(at) = ringing.guests.iter().position(|guest| guest.party == party) {
            let guest = ringing.guests.remove(at);
            self.guest_left(id, guest, Err(Refusal::of(status)));
        }
    }

    /// A guest no longer wants the call.
    pub(super) fn guest_declines(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), status: StatusCode) {
        let Some(call) = self.calls.get(&id) else { return };
        let legs: Vec<LegId> = call.legs.iter().filter(|leg| leg.party == party).map(|leg| leg.id).collect();
        for leg in legs {
            if let Some(leg) = self.calls.get(&id).and_then(|call| call.leg(leg)) {
                leg.give_up(switch, Some(&Reason::sip(status.code(), "Declined elsewhere")));
            }
            self.guest_failed(switch, id, (leg, party), status);
        }
    }

    /// A guest's device answered: the guest is the callee now, and no other guest is.
    pub(super) fn guest_came(&mut self, id: Id, guest: Guest) {
        info!(call = %id, "picked up");
        self.replace_callee(id, guest.person.clone());
        if let Some(call) = self.calls.get_mut(&id) {
            call.constructed = Constructed::PickedUp(guest.person.who.clone());
        }
        self.guest_left(id, guest, Ok(()));
    }

    /// The call has rung long enough for a guest: who waits for it is told.
    pub(super) fn guest_left(&mut self, id: Id, guest: Guest, result: Result<(), Refusal>) {
        self.outputs.push_back(Output::Outcome { ticket: guest.ticket, result });
        self.forget_user(id, &guest.person.who);
    }

    /// A device answered. Returns the guests, and apart the one whose device it is: the leg is the callee's from now on.
    pub(super) fn part_guests(&mut self, id: Id, leg: LegId) -> (Option<Guest>, Vec<Guest>) {
        let Some(call) = self.calls.get_mut(&id) else { return (None, Vec::new()) };
        let mut guests = call.take_guests();
        let Some(leg) = call.leg_mut(leg) else { return (None, guests) };
        let came = guests.iter().position(|guest| guest.party == leg.party).map(|at| guests.remove(at));
        if came.is_some() {
            leg.party = PartyId::CALLEE;
        }
        (came, guests)
    }

    /// The answer could not be used: the guests are as they were.
    pub(super) fn restore_guests(&mut self, id: Id, leg: LegId, came: Option<Guest>, mut guests: Vec<Guest>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let (Some(guest), Some(leg)) = (&came, call.leg_mut(leg)) {
            leg.party = guest.party;
        }
        guests.extend(came);
        if let State::Ringing(ringing) = &mut call.state {
            ringing.guests = guests;
        }
    }
}
