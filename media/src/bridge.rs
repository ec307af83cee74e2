//! Bridge: who hears and sees whom. A [`Room`] holds what signaling declared of a bridge; `plan.rs` makes each port's [`View`] of it: what
//! each of its streams is fed with, and to whom its packets go ([`Way`]) and as what (`route.rs`). What a stream is towards its
//! receiver, whoever feeds it, is in `outgoing.rs`; the RTCP that we make ourselves in `reports.rs`.

mod copies;
mod ear;
mod floor;
mod keypad;
mod mixer;
mod outgoing;
mod picture;
mod plan;
mod reports;
mod route;

use std::time::Instant;

use crate::{
    PortId, SoundId,
    arrange::{BridgeId, Kinds, Member},
    port::Port,
    sdp::negotiate::MAX_STREAMS,
};

pub(crate) use self::{
    copies::Copies,
    floor::Floor,
    mixer::{FRAMES_A_SECOND, Listener, Mixed, Mixer, Speaker, mixable},
    outgoing::{Fed, Outgoing},
    picture::{Asking, begins as begins_key_frame},
    plan::{Leg, Planned, carrier, plan},
    reports::{Random, Reports, key_frame_request},
    route::{Class, Hop, Plan, Route},
};

/// Members of a bridge; further ones are left out.
pub const MAX_MEMBERS: usize = 1000;

/// A bridge as it was declared, and what has been heard since.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: BridgeId,
    pub(crate) seats: Box<[Seat]>,
    /// Present while somebody hears several at once, or a sound.
    pub(crate) mixer: Option<Box<Mixer>>,
    /// Present while somebody could see one of several.
    pub(crate) floor: Option<Box<Floor>>,
    /// The entry of the mixer in the engine's timers.
    pub(crate) deadline: Option<Instant>,
}

/// A member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) member: Member,
    /// What it was heard with since another member's `until` names it.
    pub(crate) heard: Kinds,
}

impl Room {
    /// The bridge as declared; of members with the same port the first. What was heard of a member stays heard while it is named.
    pub(crate) fn declare(id: BridgeId, members: &[Member], before: Option<Self>) -> Self {
        let (before, mixer, floor, deadline) =
            before.map_or_else(Default::default, |room| (room.seats, room.mixer, room.floor, room.deadline));
        let was_named = |port: PortId| before.iter().any(|other| other.member.until == Some(port));
        let is_named = |port: PortId| members.iter().any(|other| other.until == Some(port));
        let is_first = |(index, member): &(usize, &Member)| !members.iter().take(*index).any(|other| other.port == member.port);
        let seats = members.iter().enumerate().filter(is_first).take(MAX_MEMBERS).map(|(_, member)| {
            let seat = before.iter().find(|seat| seat.member.port == member.port);
            let heard = seat.filter(|_| was_named(member.port) && is_named(member.port)).map_or(Kinds::NONE, |seat| seat.heard);
            Seat { member: *member, heard }
        });
        Self { id, seats: seats.collect(), mixer, floor, deadline }
    }

    /// Notes that a member was heard. Returns whether that is new.
    pub(crate) fn hear(&mut self, port: PortId, kind: Kinds) -> bool {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.member.port == port) else { return false };
        let is_new = !seat.heard.contains(kind);
        seat.heard = seat.heard | kind;
        is_new
    }
}

/// What feeds a stream towards its receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Feed {
    #[default]
    Nothing,
    /// One stream of another port.
    Port(PortId, Place),
    /// The sum of several.
    Mix,
    /// A sound instead of the others.
    Sound(SoundId),
}

impl Feed {
    /// The one stream that it is fed with.
    pub(crate) fn place(self) -> Option<Place> {
        match self {
            Self::Port(_, place) => Some(place),
            Self::Nothing | Self::Mix | Self::Sound(_) => None,
        }
    }
}

/// A stream of a port: its slot, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    slot: u32,
    stream: u8,
}

impl Place {
    pub(crate) fn new(slot: usize, stream: usize) -> Self {
        Self { slot: slot as u32, stream: stream as u8 }
    }

    pub(crate) fn parts(self) -> (usize, usize) {
        (self.slot as usize, usize::from(self.stream))
    }
}

/// A port's part in a bridge.
#[derive(Debug)]
pub(crate) struct View {
    /// Which bridge, in the engine's list.
    pub(crate) room: usize,
    pub(crate) ways: [Option<Box<Way>>; MAX_STREAMS],
}

impl View {
    pub(crate) fn new(room: usize) -> Self {
        Self { room, ways: [const { None }; MAX_STREAMS] }
    }

    pub(crate) fn way(&self, stream: usize) -> Option<&Way> {
        self.ways.get(stream)?.as_deref()
    }

    /// What a stream is fed with.
    pub(crate) fn feed(&self, stream: usize) -> Feed {
        self.way(stream).map_or(Feed::Nothing, |way| way.feed)
    }
}

/// What becomes of one stream of a port, and what comes to it.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// To whom packets go and as what.
    pub(crate) routes: Vec<Route>,
    /// Whether there is more to do for a packet than the first route says.
    pub(crate) is_beyond: bool,
    /// Whether a handoff waits for it to be heard.
    pub(crate) is_awaited: bool,
    /// Its ear in the mix.
    pub(crate) ear: Option<u16>,
    pub(crate) feed: Feed,
    /// Whose RTCP passes to us and ours to it. None: each end talks with us.
    pub(crate) partner: Option<Place>,
}

impl Way {
    /// Looks whether a packet needs more than the first route says.
    pub(crate) fn refresh(&mut self) {
        self.is_beyond = self.is_awaited || self.ear.is_some() || self.routes.len() != 1 || self.routes.iter().any(|route| route.waits);
    }

    /// Takes from the former way who has seen a key frame. The others wait for one. Returns whether one is to be asked for anew.
    pub(crate) fn gain(&mut self, before: Option<&Self>) -> bool {
        let mut is_new = self.is_awaited && !before.is_some_and(|before| before.is_awaited);
        for route in &mut self.routes {
            let known = before.and_then(|before| before.routes.iter().find(|known| known.to == route.to));
            route.waits = known.is_none_or(|known| known.waits);
            is_new |= known.is_none();
        }
        self.refresh();
        is_new
    }

    /// A key frame has begun, or is not to be had: nobody waits any longer.
    pub(crate) fn release(&mut self) {
        self.routes.iter_mut().for_each(|route| route.waits = false);
        self.refresh();
    }

    /// Whether it neither goes anywhere nor is fed.
    pub(crate) fn is_idle(&self) -> bool {
        self.feed == Feed::Nothing && self.routes.is_empty() && self.ear.is_none()
    }
}

impl Port {
    pub(crate) fn way(&self, stream: usize) -> Option<&Way> {
        self.view.as_ref()?.way(stream)
    }
}
