//! From the parties of a call to its bridge: who hears and sees whom. What media does follows from this alone.

use media::{BridgeId, Kinds, Member, PortId};

use super::leg::{Leg, LegId};
use super::party::PartyId;
use super::{Call, Calls, Id, State, Switch};

impl Call {
    /// Returns true while a party holds, by command or by the device that has its sound.
    pub(super) fn is_holding(&self, party: PartyId) -> bool {
        self.party(party).is_some_and(|party| party.holding) || self.is_held_at_device(party)
    }

    /// Returns true while no command but the devices that have the party's sound hold: they alone can talk again.
    pub(super) fn is_held_at_device(&self, party: PartyId) -> bool {
        if self.party(party).is_none_or(|party| party.holding) {
            return false;
        }
        let mut sounding = self.legs.iter().filter(|leg| leg.party == party && leg.is_up() && leg.carries.audio).peekable();
        sounding.peek().is_some() && sounding.all(|leg| leg.media.holds())
    }

    /// Returns the members of the call's bridge.
    pub(super) fn members(&self) -> Vec<Member> {
        let is_in = |leg: &&Leg| match &self.state {
            State::Ringing(ringing) => ringing.early.is_some_and(|early| leg.id == early || leg.id == LegId::CALLER),
            State::Established(_) => leg.is_up() || self.early() == Some(leg.id),
            State::Over => false,
        };
        let is_holding = |leg: &Leg| self.is_holding(leg.party);
        let gives = |leg: &Leg| match self.party(leg.party) {
            Some(party) if !is_holding(leg) => leg.carries - party.muted - self.has_let_go(leg),
            None if self.early() == Some(leg.id) => leg.carries,
            Some(_) | None => Kinds::NONE,
        };
        let present: Vec<&Leg> = self.legs.iter().filter(is_in).collect();
        let talking: Vec<&Leg> = present.iter().copied().filter(|leg| !is_holding(leg)).collect();
        let is_heard = |leg: &Leg| talking.iter().any(|other| other.party != leg.party);
        let member = |leg: &&Leg| {
            let plays = !is_heard(leg) && !is_holding(leg);
            Some(Member {
                port: leg.media.port()?,
                party: leg.party.0,
                gives: gives(leg),
                takes: if is_holding(leg) { Kinds::NONE } else { leg.carries },
                until: self.until(leg),
                plays: if plays { self.waiting_sound() } else { None },
            })
        };
        present.iter().filter_map(member).collect()
    }

    /// Returns what a leg only takes since the device that takes over from it is heard.
    fn has_let_go(&self, leg: &Leg) -> Kinds {
        let moving = self.party(leg.party).and_then(|party| party.moving.as_ref());
        moving.filter(|moving| moving.handoff.lingers() && moving.to != leg.id).map_or(Kinds::NONE, |moving| moving.handoff.leaves())
    }

    /// Returns the port that takes over from a leg once it is heard.
    pub(super) fn until(&self, leg: &Leg) -> Option<PortId> {
        let moving = self.party(leg.party)?.moving.as_ref()?;
        let takes_over = moving.handoff.overlaps() && moving.to != leg.id && !(leg.carries & moving.handoff.leaves()).is_empty();
        self.leg(moving.to).filter(|_| takes_over)?.media.port()
    }
}

impl Calls {
    /// Tells media who is in a call's bridge, if that has changed, and notes whose the ports are.
    pub(super) fn arrange(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        for leg in &call.legs {
            if let Some(port) = leg.media.port() {
                self.by_port.insert(port, (id, leg.id));
            }
        }
        let members = call.members();
        if members != call.arranged {
            switch.media.arrange(BridgeId(id.0), &members);
            call.arranged = members;
        }
    }
}
