//! Graph: a call as a plain value, and its changes as ordered events. Users are nodes, their devices hang on them with what each carries.
//! Whoever needs to know of calls outside `call/` reads these values; nobody else looks into a call.

use std::sync::Arc;

use media::{Kinds, Member};
use sip::DialogId;

use super::leg::{LegId, Stage};
use super::party::{PartyId, Who};
use super::{Call, Id, State as CallState};
use crate::{device, inside};

/// A call at a moment. Times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its number.
    pub id: Id,
    /// Where it stands.
    pub state: State,
    /// Who is in it, in the order in which they came.
    pub parties: Vec<Party>,
    /// How it came about.
    pub constructed: Constructed,
    /// What was dialled.
    pub dialled: Arc<str>,
    /// When it began.
    pub started_at: u64,
    /// When the first device rang.
    pub ringing_at: Option<u64>,
    /// When it was answered.
    pub answered_at: Option<u64>,
    /// When it was over.
    pub ended_at: Option<u64>,
    /// Where it is parked.
    pub slot: Option<u16>,
    /// Whether others may pick it up: devices of the callee ring, or it is parked, and nobody is about to have it. A call that was made for its caller is not taken from
    /// the callee.
    pub waits: bool,
    /// What a conference has besides; none for a plain call.
    pub conference: Option<Conference>,
    /// Why it ended, in one sentence.
    pub why: Option<String>,
    /// The call that it became part of: those of its parties who did not leave are there now.
    pub joined: Option<Id>,
}

/// What is said of a conference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conference {
    /// Who removes and silences others, if anybody.
    pub moderator: Option<PartyId>,
    /// Nobody joins.
    pub locked: bool,
    /// The number of its room, if it is in one.
    pub room: Option<Arc<str>>,
    /// It is at the door of the room, which waits for the PIN.
    pub at_door: bool,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It rings, or is about to.
    Ringing,
    /// Its parties talk.
    Connected,
    /// It waits in a slot.
    Parked,
    /// It is over.
    Ended,
}

/// How a call came about.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Constructed {
    /// It was dialled.
    #[default]
    Direct,
    /// It was forwarded by somebody.
    Forwarded(Who),
    /// It was transferred by somebody.
    Transferred(Who),
    /// It was picked up by somebody.
    PickedUp(Who),
    /// Calls were joined.
    Conference,
}

/// A party at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Party {
    /// Its number in the call.
    pub id: PartyId,
    /// Who it is.
    pub who: Who,
    /// The AOR, or number and trunk.
    pub address: Arc<str>,
    /// The name that the others are shown.
    pub name: Option<String>,
    /// They asked not to be shown to the others.
    pub anonymous: bool,
    /// Where they are in the call.
    pub state: Standing,
    /// When they came into the call.
    pub came_at: u64,
    /// They hold by their device, not by a command: it alone can take the others off hold.
    pub held_at_device: bool,
    /// What of them the others do not get, by command.
    pub muted: Kinds,
    /// What of that only the moderator gives again.
    pub silenced: Kinds,
    /// Somebody else in the call has video, or has not refused it; or nobody else is there yet.
    pub may_film: bool,
    /// Their devices in the call.
    pub legs: Vec<Leg>,
}

/// Where a party is in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They call and wait for an answer.
    Calling,
    /// Their devices ring.
    Ringing,
    /// They talk.
    Connected,
    /// They put the others on hold.
    Holding,
    /// They are no longer in it.
    Left,
}

/// A device of a party at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// Its number in the call.
    pub id: LegId,
    /// The device, if it is one of a user's.
    pub device: Option<device::Id>,
    /// It is a client application, with a user agent within the switch.
    pub application: bool,
    /// Its dialog; none where its signaling is not SIP.
    pub dialog: Option<DialogId>,
    /// Where it is: its contact.
    pub contact: String,
    /// Where it is in the call.
    pub state: Standing,
    /// What the others get of it.
    pub gives: Kinds,
    /// What it gets of the others.
    pub takes: Kinds,
}

/// One change of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Counts all changes of all calls of a loop, without gaps.
    pub number: u64,
    /// Which call.
    pub call: Id,
    /// The call before; none when it began.
    pub before: Option<Arc<View>>,
    /// The call from now on. Its state is [`State::Ended`] in its last event.
    pub after: Arc<View>,
    /// Those who rang and are no longer in it, where it was their call to answer; and who was made to go.
    pub missed: Vec<Missed>,
}

/// Somebody who was called into a call and did not come, or who was made to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Who, as long as they rang or were in it.
    pub party: PartyId,
    /// Why they did not come, or left, in one sentence.
    pub why: String,
}

impl View {
    /// Returns the party of a user.
    #[must_use]
    pub fn party_of(&self, user: &str) -> Option<&Party> {
        self.parties.iter().find(|party| party.who.user().is_some_and(|name| **name == *user))
    }

    /// Returns those whose call it is while it [waits](Self::waits): who calls and at whom it rings, or who is parked.
    pub fn waiting(&self) -> impl Iterator<Item = &Party> {
        let is_parked = self.slot.is_some();
        self.parties.iter().filter(move |party| match party.state {
            _ if !is_parked => matches!(party.id, PartyId::CALLER | PartyId::CALLEE),
            Standing::Connected | Standing::Holding => true,
            Standing::Calling | Standing::Ringing | Standing::Left => false,
        })
    }

    /// Returns a party.
    #[must_use]
    pub fn party(&self, id: PartyId) -> Option<&Party> {
        self.parties.iter().find(|party| party.id == id)
    }
}

impl Party {
    /// Returns the leg of a device.
    #[must_use]
    pub fn leg_of(&self, device: &device::Id) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.device.as_ref() == Some(device))
    }
}

impl Call {
    /// Returns the call as it is now.
    pub(super) fn view(&self) -> View {
        let record = &self.record;
        let members = self.members();
        let is_over = matches!(self.state, CallState::Over);
        View {
            id: record.id,
            state: match self.state {
                CallState::Ringing(_) => State::Ringing,
                CallState::Established(_) if record.answered_at.is_none() => State::Ringing,
                CallState::Established(_) if self.parked.is_some() => State::Parked,
                CallState::Established(_) => State::Connected,
                CallState::Over => State::Ended,
            },
            parties: self
                .parties
                .iter()
                .map(|party| self.view_party(party, &members))
                .chain(self.coming_parties(&members))
                .chain(self.parties_elsewhere())
                .collect(),
            constructed: self.constructed.clone(),
            dialled: Arc::clone(&record.dialled),
            started_at: record.started_at,
            ringing_at: record.ringing_at,
            answered_at: record.answered_at,
            ended_at: is_over.then_some(record.ended_at),
            slot: self.parked.as_ref().map(|parked| parked.slot),
            waits: self.may_be_picked_up().is_ok(),
            conference: self.conference.as_deref().map(|conference| Conference {
                moderator: conference.moderator,
                locked: conference.locked,
                room: conference.room.as_ref().map(|room| Arc::clone(&room.number)),
                at_door: self.is_at_door(),
            }),
            why: is_over.then(|| record.reason.clone()),
            joined: self.joined.as_ref().map(|(id, _)| *id),
        }
    }

    /// Returns those who went on in another call, in their order.
    fn parties_elsewhere(&self) -> impl Iterator<Item = Party> + '_ {
        let gone = self.joined.iter().flat_map(|(_, parties)| parties);
        gone.map(|party| Party { state: Standing::Left, ..self.view_party(party, &[]) })
    }

    /// Returns those who are on their way into the call.
    fn coming_parties<'a>(&'a self, members: &'a [Member]) -> impl Iterator<Item = Party> + 'a {
        let coming = self.coming().into_iter().chain(self.guests()).filter(|(id, _)| self.party(*id).is_none());
        let since = self.transfer.as_ref().map(|transfer| transfer.since);
        coming.map(move |(id, person)| {
            self.view_party(&super::party::Party { since, ..super::party::Party::new(id, person.clone()) }, members)
        })
    }

    fn view_party(&self, party: &super::party::Party, members: &[Member]) -> Party {
        let legs: Vec<Leg> = self.legs.iter().filter(|leg| leg.party == party.id).map(|leg| view_leg(leg, members)).collect();
        let is_up = legs.iter().any(|leg| leg.state == Standing::Connected);
        let shown = &party.person.shown;
        let is_over = matches!(self.state, CallState::Over);
        Party {
            id: party.id,
            who: party.person.who.clone(),
            address: Arc::clone(&party.person.address),
            name: shown.display_name().filter(|name| !name.is_empty()),
            anonymous: party.person.is_anonymous(),
            state: match legs.first().map(|leg| leg.state) {
                // Who had the call made calls until the other side answers, whatever their own device does.
                _ if party.id == PartyId::CALLER && !is_over && self.record.answered_at.is_none() => Standing::Calling,
                _ if is_up && self.is_holding(party.id) => Standing::Holding,
                _ if is_up => Standing::Connected,
                Some(state) => state,
                None if is_over => Standing::Left,
                None => Standing::Ringing,
            },
            came_at: party.since.unwrap_or(self.record.started_at),
            held_at_device: is_up && self.is_held_at_device(party.id),
            muted: party.kept_back(),
            silenced: if self.is_moderated(party.id) { party.silenced } else { Kinds::NONE },
            may_film: self.may_film(party.id),
            legs,
        }
    }
}

fn view_leg(leg: &super::leg::Leg, members: &[Member]) -> Leg {
    let member = members.iter().find(|member| Some(member.port) == leg.media.port());
    let (sends, receives) = leg.media.flows();
    Leg {
        id: leg.id,
        device: leg.device.clone(),
        application: leg.media.signaling().is_some_and(inside::is_address),
        dialog: Some(leg.dialog),
        contact: leg.label.clone(),
        state: match leg.stage {
            Stage::Calling => Standing::Calling,
            Stage::Reaching(_) => Standing::Ringing,
            Stage::Up => Standing::Connected,
        },
        gives: member.map_or(Kinds::NONE, |member| member.gives & sends),
        takes: member.map_or(Kinds::NONE, |member| member.takes & receives),
    }
}

/// Calls as values, for the tests of those who read them.
#[cfg(test)]
pub(crate) mod sample {
    use super::{Arc, Constructed, Id, Kinds, Party, PartyId, Standing, State, View, Who};

    /// A call of users, none of whom has a device, that began at 0 and is answered unless it rings.
    pub(crate) fn view(state: State, parties: &[(u16, &str, Standing)]) -> View {
        let party = |(id, name, state): &(u16, &str, Standing)| Party {
            id: PartyId(*id),
            who: Who::User((*name).into()),
            address: format!("{name}@tandem.test").into(),
            name: None,
            anonymous: false,
            state: *state,
            came_at: 0,
            held_at_device: false,
            muted: Kinds::NONE,
            silenced: Kinds::NONE,
            may_film: true,
            legs: Vec::new(),
        };
        View {
            id: Id(7),
            state,
            parties: parties.iter().map(party).collect(),
            constructed: Constructed::Direct,
            dialled: Arc::from("502"),
            started_at: 0,
            ringing_at: None,
            answered_at: (state != State::Ringing).then_some(1),
            ended_at: None,
            slot: None,
            joined: None,
            waits: matches!(state, State::Ringing | State::Parked),
            conference: None,
            why: None,
        }
    }
}
