//! Carrying out handoffs, and parties whose devices come and go: what a handoff decides ([`super::handoff`]) meets dialogs and ports here.

use std::sync::Arc;

use bytes::Bytes;
use media::Kinds;
use media::sdp::negotiate::Finality;
use sip::message::header::Reason;
use sip::message::{Headers, Name};
use sip::{Ender, StatusCode};
use tracing::{debug, info};

use super::command::{Answer, Refusal, Ticket};
use super::handoff::{Effect, Handoff, Input, Manner, Taken};
use super::leg::{Leg, LegId, Stage};
use super::party::{Moving, PartyId};
use super::reach::{Invitation, end_late};
use super::record::{EndedBy, MAX_MOVES, Move};
use super::template;
use super::transfer::identify;
use super::{Call, Calls, Id, MAX_DEVICES, Output, State, Switch, Talk, Target};

impl Call {
    /// Returns the leg of a party with a device.
    pub(super) fn leg_of(&self, party: PartyId, target: &Target) -> Option<&Leg> {
        let is_it = |leg: &&Leg| match (&leg.device, &target.device) {
            (Some(one), Some(other)) => one == other,
            (None, None) => leg.label == target.uri.as_str(),
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.legs.iter().filter(|leg| leg.party == party).find(is_it)
    }

    /// Returns what there is of media in the call; sound at least.
    pub(super) fn whole(&self) -> Kinds {
        self.legs.iter().fold(Kinds::AUDIO, |kinds, leg| kinds | (leg.carries & leg.media.has()))
    }

    /// Returns what the legs of a party with their lines carry, but for one.
    fn carried_by_others(&self, party: PartyId, but: LegId) -> Kinds {
        let others = self.legs.iter().filter(|leg| leg.party == party && leg.id != but && leg.is_up());
        others.fold(Kinds::NONE, |kinds, leg| kinds | (leg.carries & leg.media.has()))
    }

    /// Returns true if of a party's devices this one, and no other, carries the kinds.
    pub(super) fn carries_alone(&self, party: PartyId, kinds: Kinds, target: &Target) -> bool {
        let leg = self.leg_of(party, target).filter(|leg| leg.is_up() && (leg.carries & leg.media.has()).contains(kinds));
        leg.is_some_and(|leg| (self.carried_by_others(party, leg.id) & kinds).is_empty())
    }

    /// Returns what the target of a handoff takes of its kinds.
    fn taken(&self, party: PartyId) -> Taken {
        let moving = self.party(party).and_then(|party| Some((party, party.moving.as_ref()?)));
        let Some(((party, moving), leg)) = moving.and_then(|found| Some((found, self.leg(found.1.to)?))) else {
            return Taken { kinds: Kinds::NONE, unheard: Kinds::NONE };
        };
        let kinds = moving.handoff.kinds & leg.media.kinds() & self.wanted(leg);
        let (sends, _) = leg.media.flows();
        let gives = (kinds & sends) - party.kept_back();
        let old = self.carried_by_others(party.id, leg.id);
        Taken { kinds, unheard: if party.holding { Kinds::NONE } else { gives & old } }
    }
}

impl Calls {
    /// Begins to hand media to a device, and then to another one.
    pub(super) fn hand_over(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        (kinds, manner): (Kinds, Manner),
        target: Target,
        then: Option<(Kinds, Box<Target>)>,
    ) -> Result<Answer, Refusal> {
        let ticket = self.take_ticket();
        self.begin_handoff(switch, (id, party), (kinds, manner), target, (ticket, then))?;
        Ok(Answer::Pending(ticket))
    }

    pub(super) fn begin_handoff(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        (kinds, manner): (Kinds, Manner),
        target: Target,
        (ticket, then): (Ticket, Option<(Kinds, Box<Target>)>),
    ) -> Result<(), Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        let State::Established(Talk { late_offer: false, .. }) = call.state else { return Err(Refusal::NotAnswered) };
        if call.is_invited(party) {
            return Err(Refusal::NotAnswered);
        }
        if call.transfer.is_some() || call.party(party).ok_or(Refusal::NoParty)?.moving.is_some() {
            return Err(Refusal::UnderWay);
        }
        let known = call.leg_of(party, &target).map(|leg| (leg.id, leg.carries, leg.media.has()));
        if let Some((to, before, has)) = known {
            let others = call.carried_by_others(party, to);
            let is_so = (before & has).contains(kinds & (has | others)) && (manner == Manner::Join || (others & kinds).is_empty());
            if is_so && (kinds == Kinds::BOTH || has.contains(kinds)) {
                return Err(Refusal::Same);
            }
            if let Some(leg) = call.leg_mut(to) {
                leg.carries = leg.carries | kinds;
                leg.wishes = if kinds == Kinds::BOTH { Kinds::NONE } else { kinds };
                leg.media.ask_again(kinds);
            }
            let moving = Moving { to, before: Some(before), handoff: Handoff::adding(kinds, manner), ticket, then };
            if let Some(party) = call.party_mut(party) {
                party.moving = Some(Box::new(moving));
            }
        } else {
            let to = self.reach_device(switch, (id, party), kinds, &target)?;
            let until = switch.now + self.policy.no_answer;
            let moving = Moving { to, before: None, handoff: Handoff::reaching(kinds, manner, until), ticket, then };
            if let Some(party) = self.calls.get_mut(&id).and_then(|call| call.party_mut(party)) {
                party.moving = Some(Box::new(moving));
            }
        }
        info!(call = %id, party = party.0, ?kinds, "handoff begins");
        self.arrange(switch, id);
        self.align(switch, id);
        Ok(())
    }

    /// Places the INVITE to a further device of a party, with an offer of the kinds as the others have them.
    fn reach_device(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        kinds: Kinds,
        target: &Target,
    ) -> Result<LegId, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        if target.hops.is_empty() {
            return Err(Refusal::NoWay);
        }
        if call.legs.iter().filter(|leg| leg.party == party).count() >= MAX_DEVICES {
            return Err(Refusal::TooManyDevices);
        }
        let wanted = if kinds == Kinds::BOTH { call.whole() } else { kinds };
        let offer = template::offer(&[], wanted, template::Unwanted::Refused, |kind| call.line_of_others(party, kind));
        let shown = |id| call.party(id).map(|party| party.person.shown.clone());
        let other = call.parties.iter().map(|party| party.id).find(|other| *other != party).unwrap_or(party);
        let (from, to) = shown(other).zip(shown(party)).ok_or(Refusal::NoParty)?;
        let mut headers = Headers::default();
        headers.push(Name::MaxForwards, "70");
        if let Some(other) = call.party(other) {
            identify(&mut headers, &other.person);
        }
        let invitation = Invitation { from: &from, to: &to, headers: &headers, template: Some(Arc::new(offer)) };
        let (leg_id, beside) = (call.take_leg_id(), call.any_port());
        let mut leg = Leg::place(switch, (leg_id, party), target, invitation, beside).map_err(|error| {
            debug!(call = %id, %error, "no INVITE to the device");
            Refusal::NoWay
        })?;
        leg.carries = kinds;
        self.by_dialog.insert(leg.dialog, (id, leg_id));
        call.legs.push(leg);
        Ok(leg_id)
    }

    /// The device that was called into an answered call has answered.
    pub(super) fn target_answered(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(target) = call.leg_mut(leg) else { return };
        if target.is_up() {
            return;
        }
        let (dialog, party) = (target.dialog, target.party);
        if self.calls.get(&id).is_some_and(|call| call.is_invited(party)) {
            return self.invitee_answered(switch, (id, party), leg, body);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(target) = call.leg_mut(leg) else { return };
        if let Err(error) = target.media.receive_answer(body, Finality::Final) {
            debug!(call = %id, %error, "the device's answer cannot be used");
            end_late(switch, dialog);
            self.release(switch, id, leg);
            return self.feed(switch, (id, party), Input::Refused(Refusal::NotTaken));
        }
        switch.sip.acknowledge(switch.now, dialog, Bytes::new());
        target.media.apply(switch.media, limit);
        target.stage = Stage::Up;
        for other in call.legs.iter_mut().filter(|other| other.party != party) {
            other.mends = 1;
        }
        let taken = call.taken(party);
        self.feed(switch, (id, party), Input::Up(taken));
        self.align(switch, id);
    }

    /// A device of a party has come into the call by itself, in the place of the others: they go when it is heard.
    pub(super) fn come_instead(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), leg: LegId) {
        let ticket = self.take_ticket(); // nobody's
        let Some(call) = self.calls.get_mut(&id) else { return };
        // What a device takes that was made an offer in our answer is told by its ACK.
        let asks = call.leg(leg).is_some_and(|leg| leg.media.has_local_offer());
        let handoff = match asks {
            true => Handoff::adding(Kinds::BOTH, Manner::Move),
            false => Handoff::reaching(Kinds::BOTH, Manner::Move, switch.now),
        };
        if let Some(party) = call.party_mut(party) {
            party.moving = Some(Box::new(Moving { to: leg, before: None, handoff, ticket, then: None }));
        }
        for other in call.legs.iter_mut().filter(|other| other.party != party) {
            other.mends = 1;
        }
        if !asks {
            let taken = call.taken(party);
            self.feed(switch, (id, party), Input::Up(taken));
        }
        self.arrange(switch, id);
        self.align(switch, id);
    }

    /// The INVITE to a device failed for good; its leg is released.
    pub(super) fn target_failed(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), leg: LegId, status: StatusCode) {
        self.invitee_failed(switch, (id, party), leg, status);
        if self.moving_to(id, party) == Some(leg) {
            self.feed(switch, (id, party), Input::Refused(Refusal::of(status)));
        }
    }

    fn moving_to(&self, id: Id, party: PartyId) -> Option<LegId> {
        Some(self.calls.get(&id)?.party(party)?.moving.as_ref()?.to)
    }

    /// A port was heard for which another one of its party waits.
    pub(super) fn heard(&mut self, switch: &mut Switch<'_>, (id, leg): (Id, LegId), kinds: Kinds) {
        let Some(party) = self.calls.get(&id).and_then(|call| call.leg(leg)).map(|leg| leg.party) else { return };
        if self.moving_to(id, party) == Some(leg) {
            self.feed(switch, (id, party), Input::Heard(kinds));
        }
    }

    /// Time has passed for the handoffs of a call.
    pub(super) fn handoffs_wait(&mut self, switch: &mut Switch<'_>, id: Id) {
        self.feed_all(switch, id, |_, _| Some(Input::Timeout));
    }

    /// No offer is under way in the call.
    pub(super) fn settled(&mut self, switch: &mut Switch<'_>, id: Id) {
        self.feed_all(switch, id, |call, party| Some(Input::Settled(call.taken(party))));
    }

    fn feed_all(&mut self, switch: &mut Switch<'_>, id: Id, input: impl Fn(&Call, PartyId) -> Option<Input>) {
        let Some(call) = self.calls.get(&id) else { return };
        let parties: Vec<PartyId> = call.parties.iter().filter(|party| party.moving.is_some()).map(|party| party.id).collect();
        for party in parties {
            if let Some(input) = self.calls.get(&id).and_then(|call| input(call, party)) {
                self.feed(switch, (id, party), input);
            }
        }
    }

    /// Tells a party's handoff what happened, and does what it says.
    fn feed(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), input: Input) {
        let Some(moving) = self.calls.get_mut(&id).and_then(|call| call.party_mut(party)?.moving.as_mut()) else { return };
        let effect = moving.handoff.handle(switch.now, input);
        if effect != Effect::Nothing {
            debug!(call = %id, party = party.0, ?input, ?effect, "handoff");
        }
        match effect {
            Effect::Nothing => {}
            Effect::Arrange => self.arrange(switch, id),
            Effect::LetGo => self.let_go(switch, (id, party)),
            Effect::Done => self.handed_over(switch, (id, party)),
            Effect::Abandon(refusal) => self.abandon(switch, (id, party), refusal),
        }
    }

    /// The device has what moved: the others lose it, and those that carry nothing any more leave.
    fn let_go(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some((to, kinds, leaves)) = call
            .party(party)
            .and_then(|party| party.moving.as_ref())
            .map(|moving| (moving.to, moving.handoff.kinds, moving.handoff.leaves()))
        else {
            return;
        };
        call.note_move(party, (kinds, to), switch.unix);
        for leg in call.legs.iter_mut().filter(|leg| leg.party == party && leg.id != to && leg.is_up()) {
            leg.carries = leg.carries - leaves;
        }
        let is_idle = |leg: &&Leg| leg.party == party && leg.id != to && leg.is_up() && (leg.carries & leg.media.has()).is_empty();
        let idle: Vec<LegId> = call.legs.iter().filter(is_idle).map(|leg| leg.id).collect();
        self.arrange(switch, id);
        for leg in idle {
            if let Some(dialog) = self.dialog(id, leg) {
                switch.sip.bye(switch.now, dialog, Some(Reason::sip(200, "Moved to another device")));
            }
            self.remove_leg(switch, id, leg);
        }
        self.spread(id, party);
        self.arrange(switch, id);
        self.align(switch, id);
    }

    fn handed_over(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId)) {
        let Some(moving) = self.end_handoff(id, party) else { return };
        if let Some((kinds, target)) = moving.then {
            let next = self.begin_handoff(switch, (id, party), (kinds, Manner::Move), *target, (moving.ticket, None));
            if let Err(refusal) = next {
                self.outputs.push_back(Output::Outcome { ticket: moving.ticket, result: Err(refusal) });
            }
            return;
        }
        info!(call = %id, party = party.0, "handoff done");
        self.outputs.push_back(Output::Outcome { ticket: moving.ticket, result: Ok(()) });
    }

    /// The device that was to carry the media does not: it leaves if it came for that, and all is as before as far as it can be.
    fn abandon(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), refusal: Refusal) {
        let Some(moving) = self.end_handoff(id, party) else { return };
        info!(call = %id, party = party.0, %refusal, "handoff failed");
        self.outputs.push_back(Output::Outcome { ticket: moving.ticket, result: Err(refusal) });
        let Some(call) = self.calls.get_mut(&id) else { return };
        match (call.leg_mut(moving.to), moving.before) {
            (Some(leg), Some(before)) => leg.carries = before,
            (Some(leg), None) => {
                leg.give_up(switch, None);
                self.remove_leg(switch, id, moving.to);
            }
            (None, _) => {}
        }
        self.spread(id, party);
        self.arrange(switch, id);
        let is_gone = self.calls.get(&id).is_some_and(|call| !call.legs.iter().any(|leg| leg.party == party));
        if is_gone {
            return self.party_left(switch, (id, party), EndedBy::Lost, "a device is gone, and no other one took the call", None);
        }
        self.align(switch, id);
    }

    fn end_handoff(&mut self, id: Id, party: PartyId) -> Option<Box<Moving>> {
        let call = self.calls.get_mut(&id)?;
        let moving = call.party_mut(party)?.moving.take()?;
        if let Some(leg) = call.leg_mut(moving.to) {
            leg.wishes = Kinds::NONE;
        }
        Some(moving)
    }

    /// Releases a leg of a call that goes on; an offer that was being passed to or from it is answered otherwise.
    pub(super) fn remove_leg(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) {
        self.release(switch, id, leg);
        self.orphan(switch, id, leg);
    }

    /// What no device of a party carries any more goes to the first of those that are left.
    fn spread(&mut self, id: Id, party: PartyId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let mut theirs = call.legs.iter_mut().filter(|leg| leg.party == party && leg.is_up());
        let Some(first) = theirs.next() else { return };
        let carried = theirs.fold(Kinds::NONE, |kinds, leg| kinds | leg.carries);
        first.carries = first.carries | (Kinds::BOTH - carried);
    }

    /// The session of a leg in an answered call is over. Returns false if so is the call.
    pub(super) fn leg_ended(&mut self, switch: &mut Switch<'_>, (id, leg): (Id, LegId), by: Ender, reason: Option<&Reason>) -> bool {
        let Some(call) = self.calls.get(&id) else { return false };
        let Some(party) = call.leg(leg).map(|leg| leg.party) else { return false };
        let others: Vec<&Leg> = call.legs.iter().filter(|other| other.party == party && other.id != leg).collect();
        // Who hangs up does not want to be called by the device that the call was to move to; a device that is lost is another thing.
        if others.iter().any(|other| other.is_up()) || by != Ender::Peer && !others.is_empty() {
            self.let_leave(switch, id, leg, Some(by));
            return true;
        }
        let goes_on = call.parties_up(Some(party)) >= call.fewest();
        if goes_on {
            self.party_left(switch, (id, party), EndedBy::Lost, "", reason);
        }
        goes_on
    }

    /// A device leaves, its party stays with the others. `ended`: how its session ended, if it has.
    pub(super) fn let_leave(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, ended: Option<Ender>) {
        let Some((party, dialog)) = self.calls.get(&id).and_then(|call| call.leg(leg)).map(|leg| (leg.party, leg.dialog)) else { return };
        if ended.is_none() {
            switch.sip.bye(switch.now, dialog, None);
        }
        info!(call = %id, party = party.0, leg = leg.0, ?ended, "a device left");
        let is_target = self.moving_to(id, party) == Some(leg);
        self.remove_leg(switch, id, leg);
        if is_target {
            self.feed(switch, (id, party), Input::Gone);
        } else {
            let target = self.moving_to(id, party);
            let is_old = |leg: &Leg| leg.party == party && leg.is_up() && Some(leg.id) != target;
            if self.calls.get(&id).is_some_and(|call| !call.legs.iter().any(is_old)) {
                self.feed(switch, (id, party), Input::Alone);
            }
        }
        self.spread(id, party);
        self.arrange(switch, id);
        self.align(switch, id);
    }

    /// A party is no longer in the call; with less than two others the call is over.
    pub(super) fn party_left(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        by: EndedBy,
        why: &str,
        reason: Option<&Reason>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.is_invited(party) {
            return self.invitee_gone(switch, (id, party), (StatusCode::DECLINE, Refusal::Declined));
        }
        if call.parties_up(Some(party)) < call.fewest() {
            (call.record.ended_by, call.record.reason) = (by, why.to_owned());
            self.unanswer(switch, id, false);
            return self.hang_up(switch, id, None, reason);
        }
        let legs: Vec<LegId> = call.legs.iter().filter(|leg| leg.party == party).map(|leg| leg.id).collect();
        if let Some(gone) = call.parties.iter().position(|known| known.id == party) {
            let gone = call.parties.remove(gone);
            let stays = |user: &Arc<str>| call.parties.iter().any(|party| party.person.who.user() == Some(user));
            if let Some(user) = gone.person.who.user().filter(|user| !stays(user)) {
                self.by_user.remove(&(Arc::clone(user), id));
            }
            call.went(&gone, switch.unix);
            self.forget_account(gone.account.as_ref());
            if let Some(moving) = gone.moving {
                self.outputs.push_back(Output::Outcome { ticket: moving.ticket, result: Err(Refusal::CallOver) });
            }
        }
        for leg in legs {
            if let Some(leg) = self.calls.get(&id).and_then(|call| call.leg(leg)) {
                leg.give_up(switch, reason);
            }
            self.remove_leg(switch, id, leg);
        }
        self.arrange(switch, id);
        self.align(switch, id);
    }
}

impl Call {
    /// Returns how many parties have a device in the call, but for one of them.
    pub(super) fn parties_up(&self, but: Option<PartyId>) -> usize {
        let is_up = |party: PartyId| self.legs.iter().any(|leg| leg.party == party && leg.is_up());
        self.parties.iter().filter(|party| Some(party.id) != but && is_up(party.id)).count()
    }

    fn note_move(&mut self, party: PartyId, (kinds, to): (Kinds, LegId), at: u64) {
        let Some((address, target)) = self.party(party).map(|party| Arc::clone(&party.person.address)).zip(self.leg(to)) else { return };
        let old = self.legs.iter().filter(|leg| leg.party == party && leg.id != to && leg.is_up() && !(leg.carries & kinds).is_empty());
        let moved = Move {
            at,
            party: address,
            audio: kinds.audio,
            video: kinds.video,
            from: old.map(|leg| leg.label.clone()).collect(),
            to: target.label.clone(),
        };
        if self.record.moves.len() < MAX_MOVES {
            self.record.moves.push(moved);
        }
    }
}
