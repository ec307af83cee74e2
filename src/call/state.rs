//! One call as it is: where it stands, its parties, their legs, and what is on the way. The steps that change it are in the other files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use media::{Member, PortId};
use sip::ClientId;

use super::Id;
use super::account::Account;
use super::answer::Answering;
use super::conference::Conference;
use super::graph::{Constructed, Missed, View};
use super::guest::Guest;
use super::leg::{Leg, LegId};
use super::park::Parked;
use super::party::{Party, PartyId, Person};
use super::record::{LegMedia, Record};
use super::ring::Ring;
use super::transfer::Transfer;

/// An offer that one leg's peer made in the session and the other's has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relayed {
    pub(super) from: LegId,
    pub(super) to: LegId,
    /// The offer is asked for: it comes in the response, and its answer in the ACK.
    pub(super) late: bool,
    /// The side that made it took it back (CANCEL of a re-INVITE).
    pub(super) withdrawn: bool,
}

#[derive(Debug)]
pub(super) enum State {
    /// Devices ring.
    Ringing(Ringing),
    /// One has answered.
    Established(Talk),
    /// Over; the ports' last figures are awaited.
    Over,
}

#[derive(Debug)]
pub(super) struct Ringing {
    pub(super) ring: Ring,
    /// Whose early media the caller hears.
    pub(super) early: Option<LegId>,
    /// Who picks it up, by devices that ring too.
    pub(super) guests: Vec<Guest>,
}

#[derive(Debug, Default)]
pub(super) struct Talk {
    /// The caller's ACK carries the answer to a late offer.
    pub(super) late_offer: bool,
    pub(super) relayed: Option<Relayed>,
}

/// A port whose last figures are awaited.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) port: PortId,
    pub(super) leg: LegId,
    /// It is in the record: somebody talked by it, or was to.
    pub(super) is_kept: bool,
    pub(super) verdict: Option<String>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) state: State,
    pub(super) parties: Vec<Party>,
    pub(super) legs: Vec<Leg>,
    /// The number of the next leg.
    pub(super) next_leg: LegId,
    pub(super) constructed: Constructed,
    /// The highest number of a party who has left: none has it again.
    pub(super) highest: u16,
    /// Requests within the session that wait for their response.
    pub(super) passing: Vec<ClientId>,
    pub(super) record: Record,
    /// Figures of ports that are closed.
    pub(super) heard: BTreeMap<LegId, LegMedia>,
    pub(super) closing: Vec<Closing>,
    /// Somebody is on the way in, in the place of a party.
    pub(super) transfer: Option<Box<Transfer>>,
    /// A device that rings is to answer by itself.
    pub(super) answering: Option<Answering>,
    /// Whose devices are looked for, to be called back.
    pub(super) awaited: Option<(PartyId, Person)>,
    /// It waits in a slot.
    pub(super) parked: Option<Parked>,
    /// It is one of more than two, or is to be.
    pub(super) conference: Option<Box<Conference>>,
    /// The call that it became part of, and who went on there.
    pub(super) joined: Option<(Id, Vec<Party>)>,
    /// It was a visitor's at the door of a room, and became part of the room's: that has the record of it.
    pub(super) is_visit: bool,
    /// The bridge as media knows it.
    pub(super) arranged: Vec<Member>,
    /// Who did not come, since the call was told last.
    pub(super) missed: Vec<Missed>,
    /// The call as it was told last.
    pub(super) told: Option<Arc<View>>,
    /// When it is looked at again.
    pub(super) scheduled: Option<Instant>,
    /// Its legs' lines follow what its parties use their devices for.
    pub(super) is_managed: bool,
    /// Whose it is, as far as it is counted; in a room its parties are.
    pub(super) account: Option<Account>,
}

impl Call {
    pub(super) fn new(record: Record) -> Self {
        Self {
            state: State::Over,
            parties: Vec::new(),
            legs: Vec::new(),
            next_leg: LegId::CALLER,
            constructed: Constructed::Direct,
            highest: 0,
            passing: Vec::new(),
            record,
            heard: BTreeMap::new(),
            closing: Vec::new(),
            transfer: None,
            answering: None,
            awaited: None,
            parked: None,
            conference: None,
            joined: None,
            is_visit: false,
            arranged: Vec::new(),
            missed: Vec::new(),
            told: None,
            scheduled: None,
            is_managed: false,
            account: None,
        }
    }

    pub(super) fn take_leg_id(&mut self) -> LegId {
        let id = self.next_leg;
        self.next_leg = LegId(id.0 + 1);
        id
    }

    pub(super) fn party(&self, id: PartyId) -> Option<&Party> {
        self.parties.iter().find(|party| party.id == id)
    }

    pub(super) fn party_mut(&mut self, id: PartyId) -> Option<&mut Party> {
        self.parties.iter_mut().find(|party| party.id == id)
    }

    pub(super) fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.id == id)
    }

    pub(super) fn leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }

    /// Returns two legs.
    pub(super) fn two(&mut self, one: LegId, other: LegId) -> Option<(&mut Leg, &mut Leg)> {
        let at = |id: LegId| self.legs.iter().position(|leg| leg.id == id);
        let both = [at(one)?, at(other)?];
        let [one, other] = self.legs.get_disjoint_mut(both).ok()?;
        Some((one, other))
    }

    /// Returns the leg that a leg talks to, in a call of two parties with one leg each that is no conference.
    pub(super) fn other(&self, leg: LegId) -> Option<LegId> {
        let State::Established(_) = self.state else { return None };
        let mut up = self.legs.iter().filter(|leg| leg.is_up());
        let (Some(one), Some(other), None) = (up.next(), up.next(), up.next()) else { return None };
        let is_pair = one.party != other.party && self.parties.len() == 2 && self.conference.is_none();
        match leg {
            _ if !is_pair => None,
            leg if leg == one.id => Some(other.id),
            leg if leg == other.id => Some(one.id),
            _ => None,
        }
    }

    /// Returns a leg and the one it talks to, in a call of two parties with one leg each.
    pub(super) fn pair(&mut self, leg: LegId) -> Option<(&mut Leg, &mut Leg)> {
        self.two(leg, self.other(leg)?)
    }

    pub(super) fn talk(&mut self) -> Option<&mut Talk> {
        if let State::Established(talk) = &mut self.state { Some(talk) } else { None }
    }

    /// Returns when it is to be looked at again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let ring = match &self.state {
            State::Ringing(ringing) => Some(ringing.ring.poll_timeout()),
            State::Established(_) => None,
            State::Over => return None,
        };
        let legs = self.legs.iter().flat_map(|leg| [leg.patience(), leg.again]).flatten();
        let handoffs = self.parties.iter().filter_map(|party| party.moving.as_ref()?.handoff.poll_timeout());
        let arrivals = [
            self.transfer.as_ref().map(|transfer| transfer.poll_timeout()),
            self.poll_park_timeout(),
            self.poll_answer_timeout(),
            self.poll_conference_timeout(),
        ];
        legs.chain(handoffs).chain(ring).chain(arrivals.into_iter().flatten()).min()
    }

    /// Returns a port of the call, if it has one.
    pub(super) fn any_port(&self) -> Option<PortId> {
        self.legs.iter().find_map(|leg| leg.media.port())
    }
}
