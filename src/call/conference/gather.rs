//! Gathering: the calls of a party become one, and further people are called into it. They ring while the others talk; who does not answer
//! changes nothing.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media::Kinds;
use media::sdp::negotiate::Finality;
use sip::StatusCode;
use sip::message::header::Reason;
use sip::message::{Headers, Name};
use tracing::{debug, info};

use super::MAX_PARTIES;
use super::room::Room;
use crate::call::command::{Answer, Refusal};
use crate::call::graph::{Constructed, Missed};
use crate::call::leg::{Leg, LegId, Stage};
use crate::call::party::{Party, PartyId, Person, Who};
use crate::call::reach::{Invitation, end_late};
use crate::call::record::EndedBy;
use crate::call::ring::{Ring, Verdict};
use crate::call::template::{self, Unwanted};
use crate::call::transfer::{Referral, Report, identify};
use crate::call::{Call, Calls, Id, MAX_DEVICES, Output, State, Switch, Talk, Target};

/// Somebody who is to be called into a conference.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Who.
    pub person: Person,
    /// Further headers of the INVITEs.
    pub headers: Headers,
    /// The devices to ring.
    pub targets: Vec<Target>,
}

/// A party whose devices ring.
#[derive(Debug)]
pub(super) struct Coming {
    party: PartyId,
    ring: Ring,
    /// Who is told what becomes of it: of the guests of a command the same.
    report: Report,
    /// Somebody else of the same command has come.
    has_worked: bool,
}

impl Coming {
    pub(super) fn poll_timeout(&self) -> Instant {
        self.ring.poll_timeout()
    }
}

impl Calls {
    /// Joins other calls of a party's user to this one, and calls guests into it.
    pub(in crate::call) fn gather(
        &mut self,
        switch: &mut Switch<'_>,
        (id, by): (Id, PartyId),
        mut others: Vec<Id>,
        guests: Vec<Guest>,
    ) -> Result<Answer, Refusal> {
        others.sort_unstable();
        others.dedup();
        others.retain(|other| *other != id);
        let joined = self.check_gathering((id, by), &others, &guests)?;
        if others.is_empty() && guests.is_empty() {
            return Ok(Answer::Done);
        }
        others.iter().try_for_each(|other| self.bring_beside(switch, *other, id))?;
        let Some(call) = self.calls.get_mut(&id) else { return Err(Refusal::NoCall) };
        call.confer(by);
        if let Some(party) = call.party_mut(by).filter(|_| !others.is_empty()) {
            party.holding = false;
        }
        for (other, party) in joined {
            let talks = |id: Id, party: PartyId| self.calls.get(&id).is_some_and(|call| call.talks(party));
            if !talks(id, by) && talks(other, party) {
                self.absorb(switch, id, (other, None));
                self.leave_held(switch, (id, by));
            } else {
                self.absorb(switch, id, (other, Some(party)));
            }
        }
        if !others.is_empty() {
            self.gathered(switch, (id, by));
        }
        if guests.is_empty() {
            return Ok(Answer::Done);
        }
        let ticket = self.take_ticket();
        guests.into_iter().for_each(|guest| self.call_in(switch, (id, by), guest, Report::Outcome(ticket)));
        Ok(Answer::Pending(ticket))
    }

    /// A party, everybody in its call, and whoever is in its other calls go into a room.
    pub(in crate::call) fn gather_in_room(
        &mut self,
        switch: &mut Switch<'_>,
        (id, by): (Id, PartyId),
        others: Vec<Id>,
        room: &Arc<Room>,
    ) -> Result<Answer, Refusal> {
        if let Some(into) = self.may_take_along((id, by), &others, room)? {
            self.bring_beside(switch, id, into)?;
        }
        self.gather(switch, (id, by), others, Vec::new())?;
        let Some(call) = self.calls.get_mut(&id) else { return Err(Refusal::NoCall) };
        call.confer(by);
        call.constructed = Constructed::Conference;
        if let Some(party) = call.party_mut(by) {
            party.holding = false;
        }
        let ticket = self.take_ticket();
        let result = self.approach(switch, id, room);
        self.outputs.push_back(Output::Outcome { ticket, result });
        Ok(Answer::Pending(ticket))
    }

    /// Returns the call of a room, if it is open, whose visitors all the parties of these calls may become.
    fn may_take_along(&self, (id, by): (Id, PartyId), others: &[Id], room: &Room) -> Result<Option<Id>, Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        call.party(by).ok_or(Refusal::NoParty)?;
        call.may_merge(by)?;
        let into = self.open_room(room);
        if into.is_some_and(|into| into == id || others.contains(&into)) {
            return Err(Refusal::Present);
        }
        if room.pin.is_some() {
            return Err(Refusal::AsksPin);
        }
        let Some(hall) = into.and_then(|into| self.calls.get(&into)) else { return Ok(None) };
        if hall.conference.as_ref().is_some_and(|conference| conference.locked) {
            return Err(Refusal::Locked);
        }
        let theirs = others.iter().filter(|other| **other != id).filter_map(|other| self.calls.get(other));
        let parties = theirs.fold(call.parties.len(), |parties, other| parties + other.parties.len().saturating_sub(1));
        if hall.parties.len() + parties > MAX_PARTIES { Err(Refusal::Full) } else { Ok(into) }
    }

    /// Calls somebody into a conference at the wish of a party's phone.
    pub(in crate::call) fn bring(
        &mut self,
        switch: &mut Switch<'_>,
        (id, by): (Id, PartyId),
        referral: Referral,
        report: Report,
    ) -> Result<(), Refusal> {
        let mut guest = Guest { person: referral.to, headers: referral.headers, targets: referral.targets };
        self.check_gathering((id, by), &[], std::slice::from_ref(&guest))?;
        let sender = self.calls.get(&id).and_then(|call| call.party(by)).ok_or(Refusal::NoParty)?;
        guest.headers.push(Name::ReferredBy, sender.person.shown.to_string());
        if let Report::Refer { dialog, refer } = report {
            switch.sip.accept_refer(switch.now, dialog, refer).map_err(|_| Refusal::NoCall)?;
        }
        self.call_in(switch, (id, by), guest, report);
        Ok(())
    }

    /// A device of a guest rings: who sent a REFER is told so.
    pub(in crate::call) fn invitee_progress(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), status: StatusCode) {
        let Some(coming) = self.calls.get_mut(&id).and_then(|call| call.invitee(party)) else { return };
        if let (Some(status), Report::Refer { dialog, refer }) = (coming.ring.progress(status), coming.report) {
            switch.sip.report(switch.now, dialog, refer, status);
        }
    }

    /// Of two calls on a phone the one on hold goes: its user hears the other one.
    fn leave_held(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId)) {
        let Some(call) = self.calls.get(&id) else { return };
        let is_held = |leg: &&Leg| leg.party == party && leg.is_up() && leg.media.holds();
        for leg in call.legs.iter().filter(is_held).map(|leg| leg.id).collect::<Vec<_>>() {
            self.let_leave(switch, id, leg, None);
        }
    }

    /// The calls have become one.
    fn gathered(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId)) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.constructed = Constructed::Conference;
            call.dissolve();
        }
        self.meet(switch, id, by);
    }

    /// Returns as which party the user is in each of the other calls, if all can be joined.
    fn check_gathering(&self, (id, by): (Id, PartyId), others: &[Id], guests: &[Guest]) -> Result<Vec<(Id, PartyId)>, Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        let who = &call.party(by).ok_or(Refusal::NoParty)?.person.who;
        call.may_grow(by)?;
        let mut parties = call.parties.len() + guests.len();
        let mut joined = Vec::new();
        for other in others {
            let other = self.calls.get(other).filter(|other| !matches!(other.state, State::Over)).ok_or(Refusal::NoCall)?;
            let as_party = other.parties.iter().find(|party| party.person.who == *who && who.user().is_some()).ok_or(Refusal::NoParty)?;
            other.may_merge(as_party.id)?;
            parties += other.parties.len() - 1;
            joined.push((other.record.id, as_party.id));
        }
        for (at, guest) in guests.iter().enumerate() {
            let is_same = |who: &Who| *who == guest.person.who;
            if call.parties.iter().map(|party| &party.person.who).any(is_same)
                || guests.iter().take(at).any(|other| is_same(&other.person.who))
            {
                return Err(Refusal::Present);
            }
            if !guest.targets.iter().any(|target| !target.hops.is_empty()) {
                return Err(Refusal::Unreachable);
            }
        }
        if parties > MAX_PARTIES { Err(Refusal::Full) } else { Ok(joined) }
    }

    /// Takes all parties but one, with their legs, from a call into another one. The first is over, and that one is hung up there.
    pub(super) fn absorb(&mut self, switch: &mut Switch<'_>, id: Id, (from, but): (Id, Option<PartyId>)) {
        self.outputs.push_back(Output::Merged { call: from, into: id });
        let is_room = self.calls.get(&id).is_some_and(|call| call.fewest() == 1);
        if is_room {
            self.charge_parties(from);
        }
        let Some(other) = self.calls.get_mut(&from) else { return };
        let comers: Vec<Party> = other.parties.extract_if(.., |party| Some(party.id) != but).collect();
        let mut legs: Vec<Leg> = other.legs.extract_if(.., |leg| Some(leg.party) != but).collect();
        info!(call = %id, with = %from, "joined");
        other.record.ended_by = EndedBy::Switch;
        other.record.reason = format!("joined with call {id}");
        other.joined = Some((id, comers.iter().map(Party::gone_on).collect()));
        for user in comers.iter().filter_map(|comer| comer.person.who.user()) {
            self.by_user.remove(&(Arc::clone(user), from));
        }
        // A port is in one bridge at a time.
        self.arrange(switch, from);
        self.hang_up(switch, from, None, Some(&Reason::sip(200, "Joined with another call")));
        let (mut released, Some(call)) = (Vec::new(), self.calls.get_mut(&id)) else { return };
        for mut comer in comers {
            let known = if comer.moving.is_none() { call.same_user(&comer.person.who) } else { None };
            let party = known.unwrap_or_else(|| call.next_party());
            for mut leg in legs.extract_if(.., |leg| leg.party == comer.id) {
                let before = std::mem::replace(&mut leg.id, call.take_leg_id());
                leg.party = party;
                if let Some(moving) = comer.moving.as_mut().filter(|moving| moving.to == before) {
                    moving.to = leg.id;
                }
                self.by_dialog.insert(leg.dialog, (id, leg.id));
                call.legs.push(leg);
            }
            if known.is_some() {
                released.extend(comer.account);
                continue;
            }
            if let Some(user) = comer.person.who.user() {
                self.by_user.insert((Arc::clone(user), id));
            }
            comer.id = party;
            call.parties.push(comer);
            call.came(party, switch.unix);
        }
        released.iter().for_each(|account| self.forget_account(Some(account)));
    }

    /// Rings the devices of a guest.
    fn call_in(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId), guest: Guest, report: Report) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(sender) = call.party(by).map(|party| party.person.clone()) else { return };
        let party = call.next_party();
        let whole = call.legs.iter().fold(Kinds::AUDIO, |kinds, leg| kinds | (leg.carries & leg.media.kinds()));
        let offer = template::offer(&[], whole, Unwanted::Refused, |kind| call.line_of_others(party, kind));
        let mut headers = guest.headers;
        headers.push(Name::MaxForwards, "70");
        identify(&mut headers, &sender);
        info!(call = %id, devices = guest.targets.len(), "somebody is called into the call");
        if let Some(user) = guest.person.who.user() {
            self.by_user.insert((Arc::clone(user), id));
        }
        call.parties.push(Party { since: Some(switch.unix), ..Party::new(party, guest.person.clone()) });
        let (from, to) = (&sender.shown, &guest.person.shown);
        let invitation = Invitation { from, to, headers: &headers, template: Some(Arc::new(offer)) };
        let (legs, failures) = self.place_all(switch, (id, party), &guest.targets, &invitation, Kinds::BOTH);
        let ring = Ring::new(switch.now, legs, self.policy.no_answer);
        if let Some(conference) = self.calls.get_mut(&id).and_then(|call| call.conference.as_deref_mut()) {
            conference.coming.push(Coming { party, ring, report, has_worked: false });
        }
        self.arrange(switch, id);
        for (leg, status) in failures {
            self.invitee_failed(switch, (id, party), leg, status);
        }
    }

    /// A device of a guest answered: the guest is in.
    pub(in crate::call) fn invitee_answered(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), leg: LegId, body: &Bytes) {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(device) = call.leg_mut(leg) else { return };
        let dialog = device.dialog;
        if let Err(error) = device.media.receive_answer(body, Finality::Final) {
            debug!(call = %id, %error, "the answer cannot be used");
            end_late(switch, dialog);
            self.release(switch, id, leg);
            return self.invitee_failed(switch, (id, party), leg, StatusCode::NOT_ACCEPTABLE_HERE);
        }
        switch.sip.acknowledge(switch.now, dialog, Bytes::new());
        device.media.apply(switch.media, limit);
        device.stage = Stage::Up;
        info!(call = %id, party = party.0, "a guest has come");
        self.invitee_decided(switch, (id, party), Ok(StatusCode::OK));
        self.cancel_ringing(switch, (id, party), &Reason::sip(200, "Call completed elsewhere"));
        if let Some(call) = self.calls.get_mut(&id) {
            call.constructed = Constructed::Conference;
            call.came(party, switch.unix);
        }
        self.arrange(switch, id);
        self.align(switch, id);
    }

    /// A device of a guest refused, or cannot be reached; its leg is released.
    pub(in crate::call) fn invitee_failed(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), leg: LegId, status: StatusCode) {
        let Some(coming) = self.calls.get_mut(&id).and_then(|call| call.invitee(party)) else { return };
        if let Verdict::GiveUp(_) = coming.ring.failed(leg, status) {
            self.invitee_gone(switch, (id, party), (status, Refusal::of(status)));
        }
    }

    /// A guest does not come: all is as if they had not been called.
    pub(in crate::call) fn invitee_gone(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        (status, refusal): (StatusCode, Refusal),
    ) {
        info!(call = %id, party = party.0, %refusal, "a guest does not come");
        if let Some(call) = self.calls.get_mut(&id) {
            call.missed.push(Missed { party, why: refusal.to_string() });
        }
        self.cancel_ringing(switch, (id, party), &Reason::sip(408, "No answer"));
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(at) = call.parties.iter().position(|known| known.id == party) {
            let gone = call.parties.remove(at);
            call.highest = call.highest.max(gone.id.0);
            let is_in = call.parties.iter().any(|known| known.person.who == gone.person.who);
            if let Some(user) = gone.person.who.user().filter(|_| !is_in) {
                self.by_user.remove(&(Arc::clone(user), id));
            }
        }
        self.invitee_decided(switch, (id, party), Err((status, refusal)));
        if let Some(call) = self.calls.get_mut(&id) {
            call.dissolve();
        }
        self.arrange(switch, id);
    }

    fn cancel_ringing(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), reason: &Reason) {
        let Some(call) = self.calls.get(&id) else { return };
        let rings = |leg: &&Leg| leg.party == party && matches!(leg.stage, Stage::Reaching(_));
        for leg in call.legs.iter().filter(rings).map(|leg| leg.id).collect::<Vec<_>>() {
            if let Some(leg) = self.calls.get(&id).and_then(|call| call.leg(leg)) {
                leg.give_up(switch, Some(reason));
            }
            self.release(switch, id, leg);
        }
    }

    /// Notes what became of a guest. The last one of a command decides what became of that: it worked if anybody came.
    fn invitee_decided(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), result: Result<StatusCode, (StatusCode, Refusal)>) {
        let conference = self.calls.get_mut(&id).and_then(|call| call.conference.as_deref_mut());
        let Some(coming) = conference.map(|conference| &mut conference.coming) else { return };
        let Some(at) = coming.iter().position(|guest| guest.party == party) else { return };
        let decided = coming.remove(at);
        let ticket = match decided.report {
            Report::Refer { dialog, refer } => {
                let (Ok(status) | Err((status, _))) = result;
                return switch.sip.report(switch.now, dialog, refer, status);
            }
            Report::Outcome(ticket) => ticket,
        };
        let mut others = coming.iter_mut().filter(|guest| guest.report == decided.report).peekable();
        if others.peek().is_none() {
            let result = if decided.has_worked { Ok(()) } else { result.map(drop).map_err(|(_, refusal)| refusal) };
            self.outputs.push_back(Output::Outcome { ticket, result });
        } else if result.is_ok() || decided.has_worked {
            others.for_each(|guest| guest.has_worked = true);
        }
    }

    /// Time has passed for who rings.
    pub(super) fn invitees_wait(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(conference) = self.calls.get_mut(&id).and_then(|call| call.conference.as_deref_mut()) else { return };
        let late = |guest: &mut Coming| (guest.ring.handle_timeout(switch.now) != Verdict::Wait).then_some(guest.party);
        for party in conference.coming.iter_mut().filter_map(late).collect::<Vec<_>>() {
            self.invitee_gone(switch, (id, party), (StatusCode::TEMPORARILY_UNAVAILABLE, Refusal::NoAnswer));
        }
    }

    /// The call is over before they came.
    pub(super) fn forget_guests(&mut self, switch: &mut Switch<'_>, id: Id) {
        while let Some(party) = self.calls.get(&id).and_then(|call| Some(call.conference.as_ref()?.coming.first()?.party)) {
            self.invitee_decided(switch, (id, party), Err((StatusCode::REQUEST_TERMINATED, Refusal::CallOver)));
        }
    }
}

impl Call {
    /// Returns true for a party whose devices ring to come in.
    pub(in crate::call) fn is_invited(&self, party: PartyId) -> bool {
        self.conference.as_ref().is_some_and(|conference| conference.coming.iter().any(|guest| guest.party == party))
    }

    fn invitee(&mut self, party: PartyId) -> Option<&mut Coming> {
        self.conference.as_deref_mut()?.coming.iter_mut().find(|guest| guest.party == party)
    }

    /// Whether a party may bring others in.
    fn may_grow(&self, by: PartyId) -> Result<(), Refusal> {
        let State::Established(Talk { late_offer: false, .. }) = &self.state else { return Err(Refusal::NotAnswered) };
        if self.transfer.is_some() || self.awaited.is_some() || self.parked.is_some() {
            return Err(Refusal::UnderWay);
        }
        match self.conference.as_deref() {
            _ if self.is_invited(by) => Err(Refusal::NotAnswered),
            Some(conference) if conference.door.is_some() => Err(Refusal::NotAnswered),
            Some(conference) if conference.locked => Err(Refusal::Locked),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a party may take the others into another call.
    fn may_merge(&self, by: PartyId) -> Result<(), Refusal> {
        self.may_grow(by)?;
        match (&self.state, self.conference.as_deref()) {
            (State::Established(Talk { relayed: Some(_), .. }), _) => Err(Refusal::UnderWay),
            (_, Some(conference)) if conference.room.is_some() => Err(Refusal::IsRoom),
            (_, Some(conference)) if !conference.coming.is_empty() => Err(Refusal::UnderWay),
            (_, Some(conference)) if conference.moderator != Some(by) => Err(Refusal::NotModerator),
            (_, Some(_) | None) => Ok(()),
        }
    }

    /// Returns true for a party with a device that has not put the others on hold.
    fn talks(&self, party: PartyId) -> bool {
        self.legs.iter().any(|leg| leg.party == party && leg.is_up() && !leg.media.holds())
    }

    /// Returns the party of a user who is in the call, while it may have another device.
    pub(super) fn same_user(&self, who: &Who) -> Option<PartyId> {
        let devices = |party: PartyId| self.legs.iter().filter(|leg| leg.party == party).count();
        let is_it = |party: &&Party| who.user().is_some() && party.person.who == *who && !self.is_invited(party.id);
        self.parties.iter().find(is_it).map(|party| party.id).filter(|party| devices(*party) < MAX_DEVICES)
    }
}
