//! Conferences at the wish of phones and client applications: who dials a room, and which calls and destinations become one.

use sip::Aor;
use sip::Hop;
use sip::message::Headers;
use sip::message::header::NameAddr;
use sip::{Incoming, StatusCode};
use tracing::info;

use super::command::{Order, Want};
use super::outside::{protection, who};
use super::resolve::{Job, Way};
use super::{Signaling, source};
use crate::call::command::{Answer, Command, Refusal};
use crate::call::conference::Guest;
use crate::call::party::{PartyId, Person, Who};
use crate::call::pickup::Entrant;
use crate::call::{self, graph};
use crate::request::Visit;

/// An order to gather, whose guests' ways are being looked up.
#[derive(Debug)]
pub(super) struct Gathering {
    order: Order,
    party: PartyId,
    calls: Vec<call::Id>,
    guests: Vec<Guest>,
}

impl Signaling {
    /// A phone or a trunk dialled a room.
    pub(super) fn visit(&mut self, incoming: Incoming, visit: Visit) {
        let (signaling, flow) = (source(&incoming.flow), incoming.flow);
        let device = self.calling_device(&visit.sender, &incoming);
        let Some(room) = self.rooms.get(&*visit.room).cloned() else { return };
        let offer = incoming.request.body.clone();
        let Some(dialog) = self.sip.take(self.now, incoming) else { return };
        self.net.keep(&flow);
        let person = Person { who: who(&visit.sender, &visit.caller), address: visit.caller.into(), shown: visit.from };
        let visitor = Entrant { dialog, offer, signaling, protection: protection(visit.srtp), person, device };
        let (calls, mut switch) = self.calls();
        let _told = calls.visit(&mut switch, visitor, &room);
    }

    /// Calls and destinations become one conference.
    pub(super) fn gather(&mut self, order: Order, calls: Vec<call::Id>, destinations: &[String]) {
        let found = match self.calls.view(order.call).as_ref().map(|view| view.party_of(&order.user).map(|party| party.id)) {
            None => Err(Refusal::NoCall),
            Some(None) => Err(Refusal::NoParty),
            Some(Some(party)) => {
                let guests: Result<Vec<_>, _> = destinations.iter().map(|destination| self.guest(destination)).collect();
                guests.map(|guests| (party, guests))
            }
        };
        match found {
            Err(refusal) => {
                let _gone = order.answer.send(Err(refusal.into()));
            }
            Ok((party, guests)) => {
                let (ways, guests): (Vec<Vec<Way>>, Vec<Guest>) = guests.into_iter().unzip();
                let ways = ways.into_iter().flatten().collect();
                self.resolve_all(ways, Job::Gather(Box::new(Gathering { order, party, calls, guests })));
            }
        }
    }

    /// Finds who is meant by a destination, and their devices.
    fn guest(&self, destination: &str) -> Result<(Vec<Way>, Guest), Refusal> {
        let dialled = destination.trim_start_matches("sip:").split('@').next().unwrap_or_default();
        let user = self.users.find(dialled).ok_or(Refusal::NoUser)?;
        let aor = Aor::new(&user.name, &self.domain).ok_or(Refusal::NoUser)?;
        let shown = aor.uri().map(NameAddr::new).ok_or(Refusal::NoUser)?;
        let (ways, targets) = self.devices_of(&aor, user.srtp);
        if targets.is_empty() {
            return Err(Refusal::Unreachable);
        }
        let person = Person { who: Who::User((*user.name).into()), address: aor.as_str().into(), shown };
        Ok((ways, Guest { person, headers: Headers::default(), targets }))
    }

    pub(super) fn start_gathering(&mut self, gathering: Gathering, hops: Vec<Vec<Hop>>) {
        let Gathering { order: Order { call, answer, .. }, party, calls: others, mut guests } = gathering;
        let targets = guests.iter_mut().flat_map(|guest| &mut guest.targets);
        for (target, hops) in targets.zip(hops) {
            target.hops = hops;
        }
        let (calls, mut switch) = self.calls();
        let done = match calls.command(&mut switch, Command::Gather { call, party, calls: others, guests }) {
            Ok(Answer::Pending(ticket)) => {
                self.ordered.insert(ticket, answer);
                return self.settle();
            }
            Ok(Answer::Done) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        };
        let _gone = answer.send(done);
        // a look-up may have come between: nothing else carries out what this led to
        self.settle();
    }

    /// Returns the command of what is wanted of a party that is named; none if it is not in the call.
    pub(super) fn moderation(&self, (call, by): (call::Id, PartyId), want: Want) -> Option<Command> {
        let view = self.calls.view(call)?;
        let (name, kinds, mutes) = match want {
            Want::Kick(name) => return Some(Command::Kick { call, by, party: named(&view, &name)? }),
            Want::Moderate(name) => return Some(Command::Moderate { call, by, party: named(&view, &name)? }),
            Want::Mute(name, kinds, mutes) => (name, kinds, mutes),
            Want::Hold
            | Want::Resume
            | Want::Drop
            | Want::Digits(_)
            | Want::Move(_)
            | Want::Split(..)
            | Want::Gather(..)
            | Want::Lock(_) => return None,
        };
        let party = name.map_or(Some(by), |name| named(&view, &name))?;
        let muted = view.party(party)?.muted;
        let kinds = if mutes { muted | kinds } else { muted - kinds };
        Some(if party == by { Command::Mute { call, party, kinds } } else { Command::Silence { call, by, party, kinds } })
    }

    /// A REFER sends the other party of a call into a room, if that is what its target is.
    pub(super) fn refer_to_room(
        &mut self,
        (call, party): (call::Id, PartyId),
        dialled: &str,
        report: call::transfer::Report,
    ) -> Option<Result<(), StatusCode>> {
        let room = self.rooms.get(dialled).cloned()?;
        let (calls, mut switch) = self.calls();
        if let Err(refusal) = calls.send_to_room(&mut switch, (call, party), &room, Some(report)) {
            info!(%call, %refusal, "not sent to a room");
        }
        Some(Ok(()))
    }
}

/// Finds a party by the name of the user, or the number.
fn named(view: &graph::View, name: &str) -> Option<PartyId> {
    let is_it = |party: &&graph::Party| match &party.who {
        Who::User(user) => **user == *name,
        Who::Outside { number, .. } => !party.anonymous && **number == *name,
    };
    view.parties.iter().find(is_it).map(|party| party.id)
}
