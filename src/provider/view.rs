//! Calls as CAS shows them. What an anonymous caller from outside is called stays with the switch; CAS hides users who are anonymous.

use cas::text::{CallId, DeviceId, Sdp, UserName};
use cas::topic::graph::{ANONYMOUS, Edge, Graph, Node};
use cas::topic::tel::{Call, Carrying, Constructed, How, Media, Party, PartyState, State, Waiting};
use media::Kinds;

use crate::call::graph::{self, Standing, View};
use crate::call::party::{PartyId, Who};

/// Returns a session description; inside none for an empty one, outside none where it is too long.
#[expect(clippy::option_option, reason = "there being none is no fault")]
pub(super) fn sdp(sdp: &[u8]) -> Option<Option<Sdp>> {
    if sdp.is_empty() {
        return Some(None);
    }
    // names that others chose may have in them what no text of CAS has
    let text: String = String::from_utf8_lossy(sdp).chars().filter(|c| !c.is_control() || matches!(c, '\r' | '\n' | '\t')).collect();
    Sdp::parse(&text).ok().map(Some)
}

/// Returns a call; none where its number is no name, which does not happen.
pub(super) fn call(view: &View) -> Option<Call> {
    Some(Call {
        id: id(view)?,
        state: state(view),
        parties: view.parties.iter().map(|one| party(view, one)).collect(),
        constructed: constructed(&view.constructed),
        started_at: view.started_at,
        answered_at: view.answered_at,
        ended_at: view.ended_at,
        slot: view.slot.map(|slot| slot.to_string()),
        room: view.conference.as_ref().and_then(|conference| conference.room.as_ref()).map(ToString::to_string),
        asks_pin: view.conference.as_ref().is_some_and(|conference| conference.at_door),
        locked: is_locked(view),
        why: view.why.clone(),
        joined: view.joined.and_then(|call| CallId::parse(&call.to_string()).ok()),
        conference: view.conference.is_some(),
        waits: view.waits,
    })
}

/// Returns a call as those see it who may pick it up; none where nobody may. Of its parties they see what a lamp shows them: who is
/// anonymous has no name, and nobody has devices.
pub(super) fn waiting(view: &View) -> Option<Waiting> {
    if !view.waits {
        return None;
    }
    let at = match (view.slot, view.party(PartyId::CALLEE).and_then(|party| party.who.user())) {
        (Some(_), _) => None,
        (None, callee) => Some(UserName::parse(callee?).ok()?),
    };
    let shown = |one: &graph::Party| {
        let party = party(view, one);
        let (muted, silenced, devices) = Default::default();
        let user = party.user.filter(|_| !one.anonymous);
        Party { user, muted, silenced, devices, held_at_device: false, moderator: false, ..party }
    };
    let call = Call {
        id: id(view)?,
        state: state(view),
        parties: view.waiting().map(shown).collect(),
        constructed: Constructed { by: None, ..constructed(&view.constructed) },
        started_at: view.started_at,
        answered_at: None,
        ended_at: None,
        slot: view.slot.map(|slot| slot.to_string()),
        room: None,
        asks_pin: false,
        locked: false,
        why: None,
        joined: None,
        conference: false,
        waits: true,
    };
    let of = view.waiting().filter_map(|party| UserName::parse(party.who.user()?).ok()).collect();
    Some(Waiting { call, of, at, waits: true })
}

pub(super) fn state(view: &View) -> State {
    match view.state {
        graph::State::Ringing => State::Ringing,
        graph::State::Connected => State::Connected,
        graph::State::Parked => State::Parked,
        graph::State::Ended => State::Ended,
    }
}

/// Returns the graph of a call.
pub(super) fn graph(view: &View) -> Option<Graph> {
    let nodes = view.parties.iter().map(|party| node(view, party)).collect();
    let edges = view.parties.iter().flat_map(|party| {
        let id = node(view, party).id;
        party.legs.iter().filter_map(move |leg| {
            let name = leg.device.as_ref().map_or(leg.contact.as_str(), |device| device.as_str());
            Some(Edge { node: id.clone(), device: DeviceId::parse(name).ok()?, media: carried(leg), state: standing(leg.state) })
        })
    });
    Some(Graph { call: id(view)?, nodes, edges: edges.collect(), locked: is_locked(view) })
}

/// Returns the graph of a call before it began.
pub(super) fn empty(view: &View) -> Option<Graph> {
    Some(Graph { call: id(view)?, nodes: Vec::new(), edges: Vec::new(), locked: false })
}

fn id(view: &View) -> Option<CallId> {
    CallId::parse(&view.id.to_string()).ok()
}

fn node(view: &View, party: &graph::Party) -> Node {
    let (id, user) = match &party.who {
        Who::User(name) => (name.to_string(), UserName::parse(name).ok()),
        Who::Outside { .. } if party.anonymous => (ANONYMOUS.to_owned(), None),
        Who::Outside { number, .. } => (number.to_string(), None),
    };
    Node { id, user, anonymous: party.anonymous, muted: media(party.muted), moderator: moderates(view, party) }
}

fn moderates(view: &View, party: &graph::Party) -> bool {
    view.conference.as_ref().is_some_and(|conference| conference.moderator == Some(party.id))
}

fn is_locked(view: &View) -> bool {
    view.conference.as_ref().is_some_and(|conference| conference.locked)
}

fn party(view: &View, party: &graph::Party) -> Party {
    let (user, number) = match &party.who {
        Who::User(name) => (UserName::parse(name).ok(), None),
        Who::Outside { number, .. } => (None, Some(number.to_string()).filter(|_| !party.anonymous)),
    };
    let is_parked = view.state == graph::State::Parked && matches!(party.state, Standing::Connected | Standing::Holding);
    let device = |leg: &graph::Leg| {
        let device = DeviceId::parse(leg.device.as_ref()?.as_str()).ok()?;
        Some(Carrying { device, media: carried(leg), application: leg.application, ringing: leg.state == Standing::Ringing })
    };
    Party {
        user,
        number,
        name: party.name.clone().filter(|_| !party.anonymous),
        anonymous: party.anonymous,
        state: if is_parked { PartyState::Parked } else { standing(party.state) },
        held_at_device: party.held_at_device,
        muted: media(party.muted),
        silenced: media(party.silenced),
        moderator: moderates(view, party),
        devices: party.legs.iter().filter_map(device).collect(),
        may_film: party.may_film,
    }
}

fn standing(standing: Standing) -> PartyState {
    match standing {
        Standing::Calling => PartyState::Dialing,
        Standing::Ringing => PartyState::Ringing,
        Standing::Connected => PartyState::Connected,
        Standing::Holding => PartyState::Held,
        Standing::Left => PartyState::Left,
    }
}

fn carried(leg: &graph::Leg) -> Vec<Media> {
    media(leg.gives | leg.takes)
}

fn media(kinds: Kinds) -> Vec<Media> {
    [(Kinds::AUDIO, Media::Audio), (Kinds::VIDEO, Media::Video)]
        .into_iter()
        .filter(|(kind, _)| kinds.contains(*kind))
        .map(|(_, media)| media)
        .collect()
}

fn constructed(constructed: &graph::Constructed) -> Constructed {
    let by = |who: &Who| match who {
        Who::User(name) => name.to_string(),
        Who::Outside { number, .. } => number.to_string(),
    };
    let (how, by) = match constructed {
        graph::Constructed::Direct => (How::Direct, None),
        graph::Constructed::Forwarded(who) => (How::Forwarded, Some(by(who))),
        graph::Constructed::Transferred(who) => (How::Transferred, Some(by(who))),
        graph::Constructed::PickedUp(who) => (How::PickedUp, Some(by(who))),
        graph::Constructed::Conference => (How::Conference, None),
    };
    Constructed { how, by }
}
