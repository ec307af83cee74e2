//! Pickup: a device calls to take a place in a call that there is. Another device of the same user takes it over (INVITE with Replaces, or a
//! feature code); a colleague answers what rings elsewhere; anybody of the house takes a parked call out of its slot.

use std::net::IpAddr;

use bytes::Bytes;
use media::Kinds;
use media::sdp::transport::{Profile, Protection};
use sip::DialogId;
use sip::message::header::Reason;
use sip::message::{Headers, Name};
use tracing::info;

use super::command::Answer;
use super::graph::Constructed;
use super::leg::{Leg, LegId, Media, MediaError, Ports, Stage};
use super::make::Alert;
use super::park::Parked;
use super::party::{Party, PartyId, Person};
use super::reach::refusal;
use super::refusal::Refusal;
use super::template::{self, Unwanted};
use super::transfer::{Purpose, Referral, Report, is_user};
use super::{Call, Calls, Id, MAX_DEVICES, State, Switch, Talk, Target};
use crate::device;

/// A device that calls to take a place.
#[derive(Debug)]
pub struct Entrant {
    /// Its dialog, taken and not answered.
    pub dialog: DialogId,
    /// Its SDP; without one it is made an offer in the 200, and its ACK brings the answer (RFC 3261 §13.2.1).
    pub offer: Bytes,
    /// Where its signaling comes from.
    pub signaling: IpAddr,
    /// Whether its media has to be protected.
    pub protection: Protection,
    /// Whose it is.
    pub person: Person,
    /// Which it is, if it is one of a user's.
    pub device: Option<device::Id>,
}

/// A place in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of a party who talks, by another device of the same user.
    Own(Id, PartyId),
    /// That of a party whose devices ring.
    Ringing(Id),
    /// That of the one who parked the call.
    Slot(Id),
}

impl Calls {
    /// Finds the place that the leg of a dialog has: of the user's own who asks, or what rings at somebody whom `may_pick_up` allows.
    ///
    /// # Errors
    /// [`Refusal::NoCall`], [`Refusal::NotYours`].
    pub fn place_of(&self, dialog: DialogId, user: &str, may_pick_up: impl Fn(&str) -> bool) -> Result<Place, Refusal> {
        let (id, leg) = self.by_dialog.get(&dialog).copied().ok_or(Refusal::NoCall)?;
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        let leg = call.leg(leg).ok_or(Refusal::NoCall)?;
        let person = &call.party(leg.party).ok_or(Refusal::NotYours)?.person;
        let theirs = is_user(person, user);
        match &call.state {
            State::Ringing(_) if leg.id == LegId::CALLER => Err(Refusal::NotYours),
            State::Ringing(_) if theirs || person.who.user().is_some_and(|other| may_pick_up(other)) => Ok(Place::Ringing(id)),
            State::Established(_) if theirs && leg.is_up() => Ok(Place::Own(id, leg.party)),
            State::Ringing(_) | State::Established(_) | State::Over => Err(Refusal::NotYours),
        }
    }

    /// Finds the call that has rung longest at somebody.
    #[must_use]
    pub fn ringing_at(&self, is_wanted: impl Fn(&str) -> bool) -> Option<Place> {
        let rings = |call: &&Call| {
            matches!(call.state, State::Ringing(_))
                && call.party(PartyId::CALLEE).and_then(|party| party.person.who.user()).is_some_and(|user| is_wanted(user))
        };
        self.calls.values().find(rings).map(|call| Place::Ringing(call.record.id))
    }

    /// Lets a device take its place: its INVITE is answered, and who was there before goes.
    ///
    /// # Errors
    /// See [`Refusal`]; the call is as it was, and the INVITE is refused.
    pub fn take_place(&mut self, switch: &mut Switch<'_>, entrant: Entrant, place: Place) -> Result<(), Refusal> {
        let dialog = entrant.dialog;
        let result = match place {
            _ if self.given_up.remove(&dialog) => Err(Refusal::NoCall),
            Place::Own(id, party) => self.take_over(switch, entrant, (id, party)),
            Place::Slot(id) => self.retrieve(switch, entrant, id),
            Place::Ringing(id) => self.pick_up(switch, entrant, id),
        };
        if let Err(refusal) = result {
            info!(%refusal, "no place taken");
            let headers = refusal.headers(switch.random);
            let _gone = switch.sip.refuse(switch.now, dialog, refusal.status(), &headers);
        }
        let (Place::Own(id, _) | Place::Slot(id) | Place::Ringing(id)) = place;
        self.touch(id);
        result
    }

    fn take_over(&mut self, switch: &mut Switch<'_>, entrant: Entrant, (id, party): (Id, PartyId)) -> Result<(), Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        if call.transfer.is_some() || call.parked.is_some() || call.parties.iter().any(|party| party.moving.is_some()) {
            return Err(Refusal::UnderWay);
        }
        if call.legs.iter().filter(|leg| leg.party == party).count() >= MAX_DEVICES {
            return Err(Refusal::UnderWay);
        }
        if call.party(party).is_none_or(|party| party.person.who != entrant.person.who) {
            return Err(Refusal::NotYours);
        }
        let leg = self.come_in(switch, entrant, (id, party))?;
        info!(call = %id, "taken over");
        self.come_instead(switch, (id, party), leg);
        Ok(())
    }

    fn retrieve(&mut self, switch: &mut Switch<'_>, entrant: Entrant, id: Id) -> Result<(), Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        if call.parked.is_none() {
            return Err(Refusal::NoSlot);
        }
        call.awaited = None;
        let party = call.next_party();
        let person = entrant.person.clone();
        let leg = self.come_in(switch, entrant, (id, party))?;
        if let Some(mut other) = self.drop_transfer(switch, id, &Reason::sip(200, "Call completed elsewhere")) {
            other.give_up(switch, &mut self.outputs, Refusal::Elsewhere);
        }
        self.unpark(id);
        info!(call = %id, "retrieved");
        self.enter(switch, id, leg, Party::new(party, person), party);
        Ok(())
    }

    /// Calls the devices of somebody who picks up a call by command: what rings, or what waits in a slot.
    pub(super) fn pick_up_by(
        &mut self,
        switch: &mut Switch<'_>,
        id: Id,
        person: Person,
        (devices, alert): (Vec<Target>, Alert),
    ) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        call.may_be_picked_up()?;
        if let State::Ringing(_) = call.state {
            return self.call_guest(switch, id, person, (&devices, alert));
        }
        let (by, parker) = call.parked.as_ref().map(Parked::by).ok_or(Refusal::NoSlot)?;
        if devices.is_empty() {
            return Err(Refusal::NoWay);
        }
        call.awaited = None;
        let mut headers = Headers::default();
        headers.push(Name::MaxForwards, "70");
        if let Some(waits) = call.parties.first() {
            alert.describe(&mut headers, &waits.person);
        }
        // The one who parked it is no longer called back for it.
        self.drop_transfer(switch, id, &Reason::sip(200, "Call completed elsewhere"));
        let ticket = self.take_ticket();
        let referral = Referral { to: person, headers, targets: devices, report: Some(Report::Outcome(ticket)) };
        self.reach_out(switch, id, (by, parker), referral, Purpose::Retrieve);
        Ok(Answer::Pending(ticket))
    }

    /// Answers a device that comes into a call whose other party is there.
    fn come_in(&mut self, switch: &mut Switch<'_>, entrant: Entrant, (id, party): (Id, PartyId)) -> Result<LegId, Refusal> {
        let limit = Some(self.policy.media_timeout);
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        // Alone in a room there is nobody to talk to, and the music is for whichever device.
        if call.fewest() > 1 && call.others(party).next().is_none() {
            return Err(Refusal::NotTalking);
        }
        let (port, id_of_leg) = (call.any_port(), call.take_leg_id());
        let mut leg = entrant.leg(switch, (id_of_leg, party), port)?;
        let said = match leg.media.remote_offer() {
            Ok(_) => call.answer_to(&mut leg, switch.media),
            Err(_) => call.offer_to(&mut leg, switch.media),
        };
        let answer = said.map_err(|error| {
            leg.media.close(switch.media);
            Refusal::unusable(refusal(&error))
        })?;
        leg.stage = Stage::Up;
        leg.media.apply(switch.media, limit);
        self.by_dialog.insert(leg.dialog, (id, leg.id));
        switch.sip.accept(switch.now, leg.dialog, answer);
        call.legs.push(leg);
        Ok(id_of_leg)
    }

    /// A device answers what rings elsewhere. Where both it and the caller have made an offer, each is the answer to the other.
    fn pick_up(&mut self, switch: &mut Switch<'_>, entrant: Entrant, id: Id) -> Result<(), Refusal> {
        let limit = Some(self.policy.media_timeout);
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        let State::Ringing(_) = &call.state else { return Err(Refusal::NoCall) };
        let leg_id = call.take_leg_id();
        let port = call.any_port();
        let person = entrant.person.clone();
        let mut leg = entrant.leg(switch, (leg_id, PartyId::CALLEE), port)?;
        let caller = call.leg_mut(LegId::CALLER).ok_or(Refusal::NoCall)?;
        let says = leg.media.remote_offer().is_ok() && caller.media.remote().is_ok();
        let said = if says { answer_both(&mut leg, caller, switch.media) } else { answer_alone(&mut leg, caller, switch.media) };
        let (to_device, to_caller) = said.map_err(|error| {
            leg.media.close(switch.media);
            Refusal::unusable(refusal(&error))
        })?;
        (leg.stage, caller.stage) = (Stage::Up, Stage::Up);
        leg.media.apply(switch.media, limit);
        caller.media.apply(switch.media, limit);
        let (dialog, caller) = (leg.dialog, caller.dialog);
        call.record.answered(switch.unix, leg.label.clone());
        call.legs.push(leg);
        let guests = call.take_guests();
        call.state = State::Established(Talk::default());
        call.constructed = Constructed::PickedUp(person.who.clone());
        call.is_managed |= !says;
        self.by_dialog.insert(dialog, (id, leg_id));
        switch.sip.accept(switch.now, dialog, to_device);
        switch.sip.accept(switch.now, caller, to_caller);
        info!(call = %id, "picked up");
        self.cancel_others(switch, id, leg_id);
        for guest in guests {
            self.guest_left(id, guest, Err(Refusal::Elsewhere));
        }
        self.replace_callee(id, person);
        self.arrange(switch, id);
        Ok(())
    }

    pub(super) fn replace_callee(&mut self, id: Id, person: Person) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(callee) = call.parties.iter_mut().find(|party| party.id == PartyId::CALLEE) else { return };
        let before = std::mem::replace(&mut callee.person, person);
        if let Some(user) = before.who.user().filter(|_| !call.parties.iter().any(|party| party.person.who == before.who)) {
            self.by_user.remove(&(user.clone(), id));
        }
        let users = call.parties.iter().filter_map(|party| party.person.who.user());
        self.by_user.extend(users.map(|user| (user.clone(), id)));
    }
}

impl Call {
    fn others(&self, party: PartyId) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(move |leg| leg.is_up() && leg.party != party)
    }

    /// Answers the offer of a leg that comes in, with what the others have.
    fn answer_to(&self, leg: &mut Leg, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        let possible = self.possible(leg);
        let template = template::answer(leg.media.lines(), possible, leg.media.unwanted(), |kind| self.line_of_others(leg.party, kind));
        let answer = leg.media.make_answer(&template, ports)?;
        leg.media.park(possible);
        Ok(answer)
    }

    /// Offers a leg that comes in without an offer what the others have.
    fn offer_to(&self, leg: &mut Leg, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        leg.asked = self.whole();
        let template = template::offer(&[], leg.asked, Unwanted::Refused, |kind| self.line_of_others(leg.party, kind));
        leg.media.make_offer(&template, ports)
    }
}

/// The offers of a device and of the caller answer each other.
fn answer_both(leg: &mut Leg, caller: &mut Leg, ports: &mut dyn Ports) -> Result<(Bytes, Bytes), MediaError> {
    let to_device = leg.media.pass_answer(&caller.media, ports)?;
    Ok((to_device, caller.media.pass_answer(&leg.media, ports)?))
}

/// One of the two has made no offer, or neither: it is made one in the 200, and its ACK brings the answer (RFC 3261 §13.2.1). The other
/// one is answered before that is known, with all that it can do; it is made another offer if that does not fit.
fn answer_alone(leg: &mut Leg, caller: &mut Leg, ports: &mut dyn Ports) -> Result<(Bytes, Bytes), MediaError> {
    let answer = |leg: &mut Leg, ports: &mut dyn Ports| {
        leg.mends = 1;
        let template = template::answer(leg.media.lines(), Kinds::BOTH, leg.media.unwanted(), |_| None);
        leg.media.make_answer(&template, ports)
    };
    let offer = |leg: &mut Leg, of: Option<&Leg>, ports: &mut dyn Ports| {
        let offer = match of {
            Some(of) => leg.media.pass_offer(&of.media, ports),
            None => leg.media.make_offer(&template::offer(&[], Kinds::AUDIO, Unwanted::Refused, |_| None), ports),
        };
        leg.asked = leg.media.offered();
        offer
    };
    // The caller's turn comes last: what fails leaves it as it was. Neither may have a port yet, and they are to be on one thread.
    let beside = |one: &mut Leg, other: &Leg| one.media.set_beside(other.media.port());
    beside(leg, caller);
    match (leg.media.remote_offer().is_ok(), caller.media.remote().is_ok()) {
        (true, _) => {
            let to_device = answer(leg, ports)?;
            beside(caller, leg);
            Ok((to_device, offer(caller, Some(leg), ports)?))
        }
        (false, said) => {
            let to_device = offer(leg, said.then_some(&*caller), ports)?;
            beside(caller, leg);
            leg.mends = u8::from(!said);
            Ok((to_device, if said { answer(caller, ports)? } else { offer(caller, None, ports)? }))
        }
    }
}

impl Entrant {
    /// Makes its leg, with its offer taken if it has made one.
    fn leg(self, switch: &mut Switch<'_>, (id, party): (LegId, PartyId), beside: Option<media::PortId>) -> Result<Leg, Refusal> {
        let manner = switch.manner(Profile::Plain, self.protection);
        let mut media = Media::new(manner, Some(self.signaling), beside);
        if !self.offer.is_empty() {
            media.receive_offer(&self.offer).map_err(|error| Refusal::unusable(refusal(&error)))?;
        }
        let label = self.person.address.to_string();
        Ok(Leg::new((id, party), (self.device, label), self.dialog, media))
    }
}
