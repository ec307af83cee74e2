//! Conferences at the wish of phones and client applications: who dials a room, and which calls and destinations become one.

use std::sync::Arc;

use media::Kinds;
use sip::message::{Headers, NameAddr};
use sip::{Aor, Incoming};
use tracing::info;

use super::command::{Finish, Unable};
use super::outside::{protection, who};
use super::refer::reachable;
use super::resolve::Way;
use super::{Signaling, source};
use crate::call::command::{Command, Refusal};
use crate::call::conference::Guest;
use crate::call::conference::room::Room;
use crate::call::party::{PartyId, Person, Who};
use crate::call::pickup::Entrant;
use crate::call::{self, Target, graph};
use crate::history::detail;
use crate::request::Visit;
use crate::route::Meant;
use crate::storage::Batch;
use crate::user::User;

/// Who or what is meant by what was dialled.
pub(super) enum Dialled<'a> {
    /// A user.
    User(&'a User),
    /// A room.
    Room(&'a Arc<Room>),
}

impl Signaling {
    /// A phone or a trunk dialled a room.
    pub(super) fn visit(&mut self, incoming: Incoming, visit: Visit) {
        let (signaling, flow) = (source(&incoming.flow), incoming.flow);
        let device = self.calling_device(&visit.sender, &incoming);
        let Some(room) = self.rooms.get(&*visit.room).cloned() else { return };
        let offer = incoming.session();
        let Some(dialog) = self.sip.take(self.now, incoming) else { return };
        self.net.keep(&flow);
        let person = Person { who: who(&visit.sender, &visit.caller), address: visit.caller.into(), shown: visit.from };
        let visitor = Entrant { dialog, offer, signaling, protection: protection(visit.srtp), person, device };
        let (calls, mut switch) = self.calls();
        let _told = calls.visit(&mut switch, visitor, &room);
    }

    /// Finds whose devices are called into a conference, and what is to be done with them.
    pub(super) fn gathering(
        &self,
        (call, party): (call::Id, PartyId),
        calls: Vec<call::Id>,
        destinations: &[String],
    ) -> Result<(Vec<(Way, Target)>, Finish), Unable> {
        let (mut all, mut guests) = (Vec::new(), Vec::new());
        for destination in destinations {
            let user = match self.dialled(destination)? {
                Dialled::Room(_) if destinations.len() > 1 => return Err(Unable::RoomAlone),
                Dialled::Room(room) => {
                    let room = Arc::clone(room);
                    return Ok((Vec::new(), Box::new(move |_| Ok(Command::Enter { call, party, calls, room }))));
                }
                Dialled::User(user) => user,
            };
            let person = self.person(&user.name).ok_or(Unable::UnknownDestination)?;
            let targets = self.targets(&user.name, None).map_err(|_| Refusal::Unreachable)?;
            guests.push((person, targets.len()));
            all.extend(targets);
        }
        let finish = move |targets: Vec<Target>| {
            let mut targets = targets.into_iter();
            let guest = |(person, devices)| {
                let theirs = targets.by_ref().take(devices).collect();
                Guest { person, headers: Headers::default(), targets: reachable(theirs) }
            };
            Ok(Command::Gather { call, party, calls, guests: guests.into_iter().map(guest).collect() })
        };
        Ok((all, Box::new(finish)))
    }

    /// Finds whom a client application means.
    pub(super) fn dialled(&self, destination: &str) -> Result<Dialled<'_>, Unable> {
        match self.route().typed(destination) {
            Meant::User(user) => Ok(Dialled::User(user)),
            Meant::Room(number) => self.rooms.get(number).map(Dialled::Room).ok_or(Unable::UnknownDestination),
            Meant::Feature(_) => Err(Unable::FeatureCode),
            Meant::Switch | Meant::Elsewhere | Meant::Nobody => Err(Unable::UnknownDestination),
        }
    }

    /// Returns what of a room a device is shown.
    pub(super) fn room_shown(&self, room: &Room) -> Option<Person> {
        let aor = Aor::new(&room.number, &self.domain)?;
        Some(Person { who: Who::User(Arc::clone(&room.number)), address: Arc::clone(&room.number), shown: NameAddr::new(aor.uri()?) })
    }

    /// A call became part of another one: what waits for something in it waits for it there.
    pub(super) fn merged(&mut self, call: call::Id, into: call::Id) {
        let mut batch = Batch::new();
        detail::forget_call(call, &mut batch);
        self.note(&batch, format_args!("after the next start there will be a record of call {call}, of which another one's tells"));
        self.ordered.values_mut().filter(|(waits, _)| *waits == call).for_each(|(waits, _)| *waits = into);
        if let Some(guide) = self.guided.remove(&call) {
            self.guide(into, guide);
        }
    }

    /// A REFER sends the other party of a call into a room.
    pub(super) fn refer_to_room(&mut self, (call, party): (call::Id, PartyId), room: &Arc<Room>, report: call::transfer::Report) {
        let (calls, mut switch) = self.calls();
        if let Err(refusal) = calls.send_to_room(&mut switch, (call, party), room, Some(report)) {
            info!(%call, %refusal, "not sent to a room");
        }
    }
}

/// Returns the command that takes kinds of media of a party from the others, or gives them again.
pub(super) fn muting(view: &graph::View, by: PartyId, (name, kinds, mutes): (Option<String>, Kinds, bool)) -> Result<Command, Refusal> {
    let party = name.map_or(Ok(by), |name| named(view, &name))?;
    let muted = view.party(party).ok_or(Refusal::NoParty)?.muted;
    let (call, kinds) = (view.id, if mutes { muted | kinds } else { muted - kinds });
    Ok(if party == by { Command::Mute { call, party, kinds } } else { Command::Silence { call, by, party, kinds } })
}

/// Finds a party by the name of the user, or the number.
pub(super) fn named(view: &graph::View, name: &str) -> Result<PartyId, Refusal> {
    let is_it = |party: &&graph::Party| match &party.who {
        Who::User(user) => **user == *name,
        Who::Outside { number, .. } => !party.anonymous && **number == *name,
    };
    view.parties.iter().find(is_it).map(|party| party.id).ok_or(Refusal::NoParty)
}
