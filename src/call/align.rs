//! Aligning: offers and answers between us and one leg alone, where a call is no plain pair whose offers are passed from side to side. Each
//! leg's lines follow what its party uses it for and what the others have; a far end is offered something only when a kind comes or goes,
//! when the codec in use is one that it would have to change (RFC 3725, RFC 5631), or when it is put on hold or off it ([`super::hold`]).

use std::time::Duration;

use bytes::Bytes;
use media::Kinds;
use media::sdp::negotiate::Finality;
use media::sdp::{Description, MediaDescription};
use sip::message::Headers;
use sip::{CommandError, StatusCode};
use tracing::debug;

use super::leg::{Leg, LegId, MediaError};
use super::party::PartyId;
use super::template;
use super::{Call, Calls, Id, Relayed, State, Switch};

/// How often an offer of ours that met one of the peer is made again; then media stays as it is.
const MAX_TRIES: u8 = 5;

/// How long an offer of ours waits for the end of another exchange.
const WAIT: Duration = Duration::from_secs(1);

impl Call {
    /// Returns the kinds that a leg's lines are to carry: those that its party uses it for, and that another party has or can have.
    pub(super) fn wanted(&self, leg: &Leg) -> Kinds {
        let usable = |leg: &Leg| leg.carries - leg.media.refused();
        let mut others = self.legs.iter().filter(|other| other.party != leg.party && other.is_up()).peekable();
        if others.peek().is_none() {
            return leg.media.has();
        }
        let (ours, has) = (usable(leg), leg.media.has() | leg.wishes);
        others.fold(Kinds::NONE, |wanted, other| wanted | (ours & usable(other) & (has | other.media.has())))
    }

    /// Returns the kinds that a leg's peer may offer.
    pub(super) fn possible(&self, leg: &Leg) -> Kinds {
        let others = self.legs.iter().filter(|other| other.party != leg.party && other.is_up());
        let theirs = others.map(|other| other.carries - other.media.refused()).reduce(|one, other| one | other);
        let whoever_comes = if self.conference.is_some() { Kinds::BOTH } else { Kinds::AUDIO };
        leg.carries & theirs.unwrap_or(whoever_comes)
    }

    /// Whether a device of a party may have video: one of the others has not refused it, or nobody else is there.
    pub(super) fn may_film(&self, party: PartyId) -> bool {
        let mut others = self.legs.iter().filter(|other| other.party != party && other.is_up()).peekable();
        others.peek().is_none() || others.any(|other| (other.carries - other.media.refused()).video)
    }

    /// Returns the line of a kind as a leg of another party has it: one that stays, if there is one.
    pub(super) fn line_of_others(&self, party: PartyId, kind: Kinds) -> Option<MediaDescription> {
        let carries = |leg: &&Leg| leg.party != party && leg.is_up() && (leg.carries & leg.media.has()).contains(kind);
        let found = self.legs.iter().filter(carries).min_by_key(|leg| self.until(leg).is_some());
        found.and_then(|leg| leg.media.line(kind))
    }

    /// Returns what an offer to a leg is made after.
    fn offer_template(&self, leg: &Leg, wanted: Kinds) -> Description {
        let template = template::offer(leg.media.lines(), wanted, leg.media.unwanted(), |kind| self.line_of_others(leg.party, kind));
        if self.told_held(leg) { template::on_hold(template) } else { template }
    }

    /// Whether, of two parties, what comes from another leg that stays cannot pass to this one though both have a codec for it.
    fn is_unfit(&self, leg: &Leg) -> bool {
        let mut others = self.legs.iter().filter(|other| other.party != leg.party && other.is_up() && self.until(other).is_none());
        self.parties.len() == 2
            && self.conference.is_none()
            && others.any(|other| !leg.media.fits(&other.media, other.carries & leg.carries))
    }

    /// Returns true while an exchange of offer and answer is under way.
    fn is_negotiating(&self) -> bool {
        let is_passing = matches!(&self.state, State::Established(talk) if talk.late_offer || talk.relayed.is_some());
        is_passing || self.legs.iter().any(|leg| leg.is_up() && (leg.media.is_pending() || leg.again.is_some()))
    }
}

impl Calls {
    /// Makes the offers that are due. What cannot go out now is looked at again when the exchange in its way is over.
    pub(super) fn align(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.is_managed = true;
        let State::Established(talk) = &call.state else { return };
        if talk.late_offer || talk.relayed.is_some() {
            return;
        }
        let legs: Vec<LegId> = call.legs.iter().filter(|leg| leg.is_up()).map(|leg| leg.id).collect();
        for leg in legs {
            self.align_leg(switch, id, leg);
        }
        if self.calls.get(&id).is_some_and(|call| !call.is_negotiating()) {
            self.settled(switch, id);
        }
    }

    fn align_leg(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(leg) = call.leg(leg).filter(|leg| leg.may_offer()) else { return };
        let wanted = call.wanted(leg);
        let is_due = wanted != leg.media.has() && !wanted.is_empty() && leg.stuck != Some(wanted);
        let mends = leg.mends > 0 && (call.is_unfit(leg) || leg.stale && !leg.media.is_open());
        if !is_due && !mends && !call.is_hold_due(leg) {
            return;
        }
        let (leg_id, kinds) = (leg.id, if is_due || mends { wanted } else { leg.media.has() });
        if let Some(leg) = call.leg_mut(leg_id) {
            leg.mends = leg.mends.saturating_sub(u8::from(mends));
        }
        let waits = self.offer_own(switch, id, leg_id, kinds);
        if let Some(leg) = self.calls.get_mut(&id).and_then(|call| call.leg_mut(leg_id)).filter(|_| waits) {
            leg.mends += u8::from(mends);
        }
    }

    /// Offers a leg that its lines carry these kinds, and tells it whether it is on hold. Returns true if that has to wait.
    pub(super) fn offer_own(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, wanted: Kinds) -> bool {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return false };
        let Some((held, template)) = call.leg(leg).map(|leg| (call.told_held(leg), call.offer_template(leg, wanted))) else { return false };
        let Some(leg) = call.leg_mut(leg) else { return false };
        leg.asked = wanted;
        let offer = match leg.media.make_offer_to(&template, held, switch.media) {
            Ok(offer) => offer,
            Err(error) => {
                debug!(call = %id, leg = leg.id.0, %error, "no offer can be made");
                leg.note_refused(held);
                return false;
            }
        };
        match switch.sip.offer(switch.now, leg.dialog, offer) {
            Ok(()) => leg.stale = false,
            Err(CommandError::Pending) => {
                leg.media.rollback(switch.media, limit);
                leg.again = Some(switch.now + WAIT);
                return true;
            }
            Err(CommandError::Gone) => {
                leg.media.rollback(switch.media, limit);
                leg.note_refused(held);
            }
        }
        false
    }

    /// Offers that had to wait may go out now.
    pub(super) fn offer_again(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let mut is_due = false;
        for leg in &mut call.legs {
            is_due |= leg.again.take_if(|at| *at <= switch.now).is_some();
        }
        if is_due {
            self.align(switch, id);
        }
    }

    /// Our own offer to a leg was answered.
    pub(super) fn own_answered(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(ours) = call.leg_mut(leg) else { return };
        if !ours.media.has_local_offer() {
            return self.answer_orphan(switch, id, leg, body);
        }
        switch.sip.acknowledge(switch.now, ours.dialog, Bytes::new());
        let received = ours.media.receive_answer(body, Finality::Final);
        self.own_done(switch, id, leg, received, limit);
    }

    /// The ACK of our 2xx brought the answer to the offer that the leg had asked for.
    pub(super) fn asked_answered(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) {
        let limit = Some(self.policy.media_timeout);
        let Some(ours) = self.calls.get_mut(&id).and_then(|call| call.leg_mut(leg)) else { return };
        let received = ours.media.receive_answer(body, Finality::Final);
        self.own_done(switch, id, leg, received, limit);
    }

    fn own_done(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, received: Result<(), MediaError>, limit: Option<Duration>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let is_pair = call.other(leg).is_some();
        let Some(ours) = call.leg_mut(leg) else { return };
        match received {
            Ok(()) => {
                (ours.tries, ours.stuck, ours.unshown) = (0, None, None);
                ours.media.park(ours.asked);
                ours.media.apply(switch.media, limit);
                self.arrange(switch, id);
                self.align(switch, id);
            }
            Err(error) => {
                debug!(call = %id, leg = leg.0, %error, "a device's answer cannot be used");
                ours.media.rollback(switch.media, limit);
                if ours.tells_only() {
                    ours.note_refused(ours.media.offers_hold());
                    self.align(switch, id);
                } else if is_pair {
                    self.fail(switch, id, &format!("an answer within the call cannot be used: {error}"));
                } else {
                    self.let_leave(switch, id, leg, None);
                }
            }
        }
    }

    /// Our own offer to a leg was refused: what was agreed before holds.
    pub(super) fn own_failed(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, status: StatusCode) {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(ours) = call.leg_mut(leg) else { return };
        let offered_hold = ours.media.offers_hold();
        ours.media.rollback(switch.media, limit);
        if status == StatusCode::REQUEST_PENDING && ours.tries < MAX_TRIES {
            ours.tries += 1;
            // §14.1: who owns the Call-ID waits longer; once more after that while.
            ours.again = Some(switch.now + Duration::from_millis(2100 + switch.random.below(1900)));
            ours.mends = ours.mends.max(1);
            return;
        }
        ours.tries = 0;
        ours.note_refused(offered_hold);
        ours.media.refuse(ours.asked);
        if call.is_managed {
            self.align(switch, id);
        }
    }

    /// Answers an offer of a leg, or makes the one it asks for, without asking the others.
    pub(super) fn answer_self(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) -> Result<(), StatusCode> {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return Err(StatusCode::NO_TRANSACTION) };
        let unusable = |error: MediaError| {
            debug!(call = %id, %error, "offer refused");
            StatusCode::NOT_ACCEPTABLE_HERE
        };
        let ours = call.leg_mut(leg).ok_or(StatusCode::NO_TRANSACTION)?;
        if ours.media.is_pending() {
            return Err(StatusCode::REQUEST_PENDING);
        }
        if !body.is_empty() {
            ours.media.receive_offer(body).map_err(unusable)?;
            return self.answer_pending(switch, id, leg);
        }
        let Some(ours) = call.leg(leg) else { return Err(StatusCode::NO_TRANSACTION) };
        let wanted = call.wanted(ours);
        let (held, template) = (call.told_held(ours), call.offer_template(ours, wanted));
        let ours = call.leg_mut(leg).ok_or(StatusCode::NO_TRANSACTION)?;
        let offer = ours.media.make_offer_to(&template, held, switch.media).map_err(unusable)?;
        ours.asked = wanted;
        ours.media.apply(switch.media, limit);
        switch.sip.accept(switch.now, ours.dialog, offer);
        Ok(())
    }

    /// Answers the offer of a leg that waits, with what the others have.
    fn answer_pending(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) -> Result<(), StatusCode> {
        let Some(dialog) = self.dialog(id, leg) else { return Err(StatusCode::NO_TRANSACTION) };
        let answer = self.compose_answer(switch, id, leg)?;
        switch.sip.accept(switch.now, dialog, answer);
        self.arrange(switch, id);
        self.align(switch, id);
        Ok(())
    }

    pub(super) fn compose_answer(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) -> Result<Bytes, StatusCode> {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return Err(StatusCode::NO_TRANSACTION) };
        let Some(ours) = call.leg(leg) else { return Err(StatusCode::NO_TRANSACTION) };
        let possible = call.possible(ours);
        let template = template::answer(ours.media.lines(), possible, ours.media.unwanted(), |kind| call.line_of_others(ours.party, kind));
        let held = call.told_held(ours);
        let template = if held { template::on_hold(template) } else { template };
        let ours = call.leg_mut(leg).ok_or(StatusCode::NO_TRANSACTION)?;
        let answer = ours.media.make_answer_to(&template, held, switch.media).map_err(|error| {
            debug!(call = %id, %error, "offer refused");
            ours.media.drop_offer();
            if matches!(error, MediaError::NoPort(_)) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NOT_ACCEPTABLE_HERE }
        })?;
        ours.media.park(possible);
        ours.media.ask_again(ours.media.kinds());
        ours.stuck = None;
        ours.media.apply(switch.media, limit);
        Ok(answer)
    }

    /// A leg that had an offer passed to it or from it is gone: the other one's exchange ends with us alone.
    pub(super) fn orphan(&mut self, switch: &mut Switch<'_>, id: Id, gone: LegId) {
        let limit = Some(self.policy.media_timeout);
        let Some(talk) = self.calls.get_mut(&id).and_then(Call::talk) else { return };
        let Some(relayed) = talk.relayed.take_if(|relayed| relayed.from == gone || relayed.to == gone) else { return };
        let Relayed { from, to, late, withdrawn } = relayed;
        if gone == from {
            // What the other one answers to our offer is between it and us. Of a late one it may wait for the ACK with our answer.
            let waits = self.calls.get(&id).and_then(|call| call.leg(to)).is_some_and(|leg| leg.media.remote_offer().is_ok());
            if let (true, Ok(answer), Some(dialog)) = (waits, self.compose_answer(switch, id, to), self.dialog(id, to)) {
                switch.sip.acknowledge(switch.now, dialog, answer);
            }
            return;
        }
        let Some(leg) = self.calls.get_mut(&id).and_then(|call| call.leg_mut(from)) else { return };
        let dialog = leg.dialog;
        if withdrawn {
            return leg.media.rollback(switch.media, limit);
        }
        // Of a late one the offer may be out: then the ACK brings its answer.
        let status = match late {
            true if leg.media.has_local_offer() => return,
            true => self.answer_self(switch, id, from, &Bytes::new()),
            false => self.answer_pending(switch, id, from),
        };
        if let Err(status) = status {
            let _gone = switch.sip.refuse(switch.now, dialog, status, &Headers::default());
        }
    }

    /// What was an offer asked for by a leg that is gone meanwhile is answered by us.
    fn answer_orphan(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) {
        let Some(ours) = self.calls.get_mut(&id).and_then(|call| call.leg_mut(leg)) else { return };
        let dialog = ours.dialog;
        let received = ours.media.receive_offer(body).map_err(|_| StatusCode::NOT_ACCEPTABLE_HERE);
        match received.and_then(|()| self.compose_answer(switch, id, leg)) {
            Ok(answer) => {
                switch.sip.acknowledge(switch.now, dialog, answer);
                self.arrange(switch, id);
                self.align(switch, id);
            }
            // Without an answer in the ACK the session is as it was (RFC 3261 §14.1).
            Err(_) => switch.sip.acknowledge(switch.now, dialog, Bytes::new()),
        }
    }
}
