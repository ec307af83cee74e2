//! Hold as the phones show it (RFC 3264 §8.4, RFC 5359 §2.1, RFC 6337 §5.3): whoever is on hold for all the others is offered `sendonly`, and
//! `sendrecv` when that is over. What is heard does not wait for it ([`super::arrange`]): a phone that refuses, or is slow, shows something
//! else and hears the same. It compares what each leg was told with what is so, so that the last state wins, however often it changed.

use super::command::{Answer, Refusal};
use super::leg::{Leg, LegId};
use super::party::PartyId;
use super::{Call, Calls, Id, State, Switch, Talk};

impl Call {
    /// Returns whether a leg's device is on hold for all the others; none where it is not told: nobody else is there, or it takes over from
    /// another one. In a conference nobody is.
    pub(super) fn on_hold(&self, leg: &Leg) -> Option<bool> {
        let moving = self.party(leg.party).and_then(|party| party.moving.as_ref());
        if !leg.carries.audio || moving.is_some_and(|moving| moving.to == leg.id) {
            return None;
        }
        let mut others = self.legs.iter().filter(|other| other.party != leg.party && other.is_up()).peekable();
        others.peek()?;
        Some(self.conference.is_none() && others.all(|other| self.is_holding(other.party)))
    }

    /// Returns whether an offer to a leg, or an answer, says that it is on hold: where nothing new is told, what was told before.
    pub(super) fn told_held(&self, leg: &Leg) -> bool {
        self.on_hold(leg).unwrap_or_else(|| leg.media.is_held())
    }

    /// Returns true if a leg has to be told that it is on hold, or no longer is.
    pub(super) fn is_hold_due(&self, leg: &Leg) -> bool {
        let is_news = |held: bool| held != leg.media.is_held() && leg.unshown != Some(held);
        leg.is_up() && leg.media.has().audio && self.on_hold(leg).is_some_and(is_news)
    }

    /// Returns true if of two sides one is on hold, or was told so, by us: what the other one says of directions is not what it is told.
    pub(super) fn is_held_by_us(&self, one: &Leg, other: &Leg) -> bool {
        let holds = |holder: &Leg, held: &Leg| {
            self.party(holder.party).is_some_and(|party| party.holding) || held.media.is_held() && !holder.media.holds()
        };
        holds(one, other) || holds(other, one)
    }
}

impl Calls {
    pub(super) fn set_holding(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), holding: bool) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        if !matches!(call.state, State::Established(_)) {
            return Err(Refusal::NotAnswered);
        }
        if !holding && call.is_held_at_device(party) {
            return Err(Refusal::HoldsItself);
        }
        call.party_mut(party).ok_or(Refusal::NoParty)?.holding = holding;
        self.arrange(switch, id);
        Ok(Answer::Done)
    }

    /// After each input: makes the offers that tell of hold. What cannot go out now is looked at again when the exchange in its way is over.
    pub(super) fn show_hold(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let State::Established(Talk { late_offer: false, relayed: None }) = &call.state else { return };
        let news: Vec<LegId> =
            call.legs.iter().filter(|leg| leg.unshown.is_some() && leg.unshown != call.on_hold(leg)).map(|leg| leg.id).collect();
        for leg in news {
            if let Some(leg) = call.leg_mut(leg) {
                leg.unshown = None;
            }
        }
        let is_due = |leg: &&Leg| call.is_hold_due(leg) && leg.may_offer();
        let due: Vec<_> = call.legs.iter().filter(is_due).map(|leg| (leg.id, leg.media.has())).collect();
        for (leg, has) in due {
            self.offer_own(switch, id, leg, has);
        }
    }
}
