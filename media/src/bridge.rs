//! Bridge: who hears and sees whom. A [`Room`] holds what signaling declared of a bridge; `plan.rs` makes each port's [`View`] of it: what
//! each of its streams is fed with, and to whom its packets go ([`Way`]) and as what (`route.rs`). What a stream is towards its
//! receiver, whoever feeds it, is in `outgoing.rs`; the RTCP that we make ourselves in `reports.rs`.

mod copies;
mod keypad;
mod outgoing;
mod plan;
mod reports;
mod route;

use crate::{
    PortId,
    arrange::{BridgeId, Kinds, Member},
    port::Port,
    sdp::negotiate::MAX_STREAMS,
};

pub(crate) use self::{
    copies::Copies,
    outgoing::{Fed, Outgoing},
    plan::{Leg, carrier, plan},
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
    pub(crate) fn declare(id: BridgeId, members: &[Member], before: &[Seat]) -> Self {
        let was_named = |port: PortId| before.iter().any(|other| other.member.until == Some(port));
        let is_named = |port: PortId| members.iter().any(|other| other.until == Some(port));
        let is_first = |(index, member): &(usize, &Member)| !members.iter().take(*index).any(|other| other.port == member.port);
        let seats = members.iter().enumerate().filter(is_first).take(MAX_MEMBERS).map(|(_, member)| {
            let seat = before.iter().find(|seat| seat.member.port == member.port);
            let heard = seat.filter(|_| was_named(member.port) && is_named(member.port)).map_or(Kinds::NONE, |seat| seat.heard);
            Seat { member: *member, heard }
        });
        Self { id, seats: seats.collect() }
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
}

impl Feed {
    /// The one stream that it is fed with.
    pub(crate) fn place(self) -> Option<Place> {
        match self {
            Self::Port(_, place) => Some(place),
            Self::Nothing => None,
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
    pub(crate) feed: Feed,
    /// Whose RTCP passes to us and ours to it. None: each end talks with us.
    pub(crate) partner: Option<Place>,
}

impl Port {
    pub(crate) fn way(&self, stream: usize) -> Option<&Way> {
        self.view.as_ref()?.way(stream)
    }
}
