//! Conference: three and more parties in one call, each by one or more devices (RFC 4353; we are the focus). Every leg negotiates with us
//! alone, and media mixes. It comes about when a party joins its calls or calls somebody into one (`gather`), or when a room is dialled
//! ([`room`]). One of two parties is a plain call again; a room goes on while anybody is in it.
//!
//! The moderator removes and silences others, lets nobody in, and passes this on. Who leaves is followed by the next of our users, but for
//! a room that names its moderator.

mod gather;
pub mod room;

use std::sync::Arc;
use std::time::Instant;

use media::Kinds;
use sip::message::header::Reason;

use gather::Coming;
pub use gather::Guest;
use room::{Door, Room};

use super::command::{Answer, Refusal};
use super::graph::{Constructed, Missed};
use super::party::{Party, PartyId};
use super::record::{EndedBy, MAX_STAYS, Stay};
use super::transfer::is_user;
use super::{Call, Calls, Id, State, Switch};

/// Most parties of a conference, those that ring included; nobody else comes in then.
pub const MAX_PARTIES: usize = 100;

/// Why the moderator's call for somebody to go ended it for them.
const REMOVED: &str = "removed by the moderator";

/// What a call of many has besides.
#[derive(Debug, Default)]
pub(super) struct Conference {
    pub(super) moderator: Option<PartyId>,
    /// Nobody joins.
    pub(super) locked: bool,
    /// Who rings to come in.
    coming: Vec<Coming>,
    /// The room that it is in, or at the door of.
    pub(super) room: Option<Arc<Room>>,
    /// Its only party has yet to show the room's PIN.
    door: Option<Door>,
    /// How the call had come about, and the number from which on parties came by the conference; none of a room.
    before: Option<(Constructed, PartyId)>,
}

impl Calls {
    /// The moderator removes a party.
    pub(super) fn kick(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId), party: PartyId) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        call.moderated(by)?;
        call.party(party).ok_or(Refusal::NoParty)?;
        let reason = Reason::sip(200, "Removed from the conference");
        if !call.is_invited(party) {
            call.missed.push(Missed { party, why: REMOVED.to_owned() });
        }
        self.party_left(switch, (id, party), EndedBy::Switch, REMOVED, Some(&reason));
        Ok(Answer::Done)
    }

    /// The moderator says what of a party the others do not get.
    pub(super) fn silence(
        &mut self,
        switch: &mut Switch<'_>,
        (id, by): (Id, PartyId),
        (party, kinds): (PartyId, Kinds),
    ) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        call.moderated(by)?;
        if party == by {
            return self.mute(switch, (id, party), kinds);
        }
        let party = call.party_mut(party).ok_or(Refusal::NoParty)?;
        (party.silenced, party.muted) = (kinds, party.muted & kinds);
        self.arrange(switch, id);
        Ok(Answer::Done)
    }

    /// The moderator lets nobody join from now on, or lets them again.
    pub(super) fn lock(&mut self, (id, by): (Id, PartyId), locked: bool) -> Result<Answer, Refusal> {
        self.calls.get_mut(&id).ok_or(Refusal::NoCall)?.moderated(by)?.locked = locked;
        Ok(Answer::Done)
    }

    /// The moderator makes another party the moderator.
    pub(super) fn moderate(&mut self, (id, by): (Id, PartyId), party: PartyId) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        let fits = call.party(party).ok_or(Refusal::NoParty)?.person.who.user().is_some() && !call.is_invited(party);
        let conference = call.moderated(by)?;
        if !fits {
            return Err(Refusal::NotModerator);
        }
        conference.moderator = Some(party);
        Ok(Answer::Done)
    }

    /// Time has passed for who rings, and for who stands at a door.
    pub(super) fn conference_timeout(&mut self, switch: &mut Switch<'_>, id: Id) {
        self.invitees_wait(switch, id);
        self.door_timeout(switch, id);
    }

    /// A call is over: nobody waits for its guests any more, and its room is free.
    pub(super) fn end_conference(&mut self, switch: &mut Switch<'_>, id: Id) {
        self.forget_guests(switch, id);
        self.leave_room(id);
    }
}

impl Call {
    /// Makes it a conference, if it is none yet, with this moderator.
    fn confer(&mut self, moderator: PartyId) {
        if self.conference.is_some() {
            return;
        }
        let began = self.record.started_at;
        let before = Some((self.constructed.clone(), self.next_party()));
        self.conference = Some(Box::new(Conference { before, ..Conference::default() }));
        for (party, since) in self.parties.iter().map(|party| (party.id, party.since)).collect::<Vec<_>>() {
            self.came(party, since.unwrap_or(began));
        }
        if let Some(conference) = self.conference.as_deref_mut() {
            conference.moderator = Some(moderator);
        }
    }

    /// Returns the conference to its moderator, and to nobody else.
    fn moderated(&mut self, by: PartyId) -> Result<&mut Conference, Refusal> {
        let conference = self.conference.as_deref_mut().ok_or(Refusal::NoConference)?;
        if conference.moderator == Some(by) { Ok(conference) } else { Err(Refusal::NotModerator) }
    }

    /// Returns true while another party is the moderator.
    pub(super) fn is_moderated(&self, party: PartyId) -> bool {
        let moderator = self.conference.as_ref().and_then(|conference| conference.moderator);
        moderator.is_some_and(|moderator| moderator != party)
    }

    /// How many parties it needs to go on.
    pub(super) fn fewest(&self) -> usize {
        if self.conference.as_ref().is_some_and(|conference| conference.room.is_some()) { 1 } else { 2 }
    }

    /// Notes for the record that a party is in the conference, or in what is left of one.
    pub(super) fn came(&mut self, party: PartyId, at: u64) {
        if self.conference.is_none() && self.record.parties.is_empty() {
            return;
        }
        let Some(party) = self.party_mut(party) else { return };
        party.since = Some(at);
        let address = Arc::clone(&party.person.address);
        let stays = |stay: &Stay| stay.left_at.is_none() && stay.came_at == at && stay.party == address;
        if self.record.parties.len() < MAX_STAYS && !self.record.parties.iter().any(stays) {
            self.record.parties.push(Stay { party: address, came_at: at, left_at: None });
        }
        self.choose_moderator();
    }

    /// A party has left, of a conference that may be none any more.
    pub(super) fn went(&mut self, gone: &Party, at: u64) {
        self.highest = self.highest.max(gone.id.0);
        let stays = &mut self.record.parties;
        if let Some(stay) = stays.iter_mut().find(|stay| stay.left_at.is_none() && stay.party == gone.person.address) {
            stay.left_at = Some(at);
        }
        self.choose_moderator();
        self.dissolve();
    }

    /// Two parties whom nobody else is to join have a plain call. Those who talked before have the one that they had.
    fn dissolve(&mut self) {
        let is_plain = |conference: &mut Box<Conference>| conference.room.is_none() && conference.coming.is_empty();
        if self.parties.len() > 2 {
            return;
        }
        let Some(conference) = self.conference.take_if(is_plain) else { return };
        if let Some((constructed, next)) = conference.before
            && self.parties.iter().all(|party| party.id < next)
        {
            self.constructed = constructed;
        }
        if self.record.parties.len() <= self.parties.len() {
            // there never was a third
            self.record.parties.clear();
        }
    }

    /// Who moderates goes on; else it is whom the room names, or of a room that names nobody the first of our users.
    fn choose_moderator(&mut self) {
        let Some(conference) = self.conference.as_deref() else { return };
        let named = conference.room.as_ref().and_then(|room| room.moderator.clone());
        let is_still = |party: &&Party| conference.moderator == Some(party.id);
        let may = |party: &&Party| match &named {
            Some(name) => is_user(&party.person, name),
            None => party.person.who.user().is_some() && !self.is_invited(party.id),
        };
        let of = |found: Option<&Party>| found.map(|party| party.id);
        let chosen = of(self.parties.iter().find(is_still)).or_else(|| of(self.parties.iter().find(may)));
        if let Some(conference) = self.conference.as_deref_mut() {
            conference.moderator = chosen.filter(|_| conference.door.is_none());
        }
    }

    /// Returns true while its only party has not shown the PIN.
    pub(super) fn is_at_door(&self) -> bool {
        !matches!(self.state, State::Over) && self.conference.as_ref().is_some_and(|conference| conference.door.is_some())
    }

    /// Returns when somebody who rings has not answered, or somebody at the door has not come in.
    pub(super) fn poll_conference_timeout(&self) -> Option<Instant> {
        let conference = self.conference.as_deref()?;
        let rings = conference.coming.iter().map(Coming::poll_timeout);
        rings.chain(conference.door.as_ref().map(Door::poll_timeout)).min()
    }
}
