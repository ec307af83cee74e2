//! What signaling declares of a bridge is compared with what there is, and only what differs is changed: a stream whose source stays
//! goes on untouched, one with another source goes on with the numbers that follow.

use std::time::Instant;

use super::{Engine, Timer};
use crate::{
    arrange::{BridgeId, Kinds, Member},
    bridge::{self, Class, Feed, Leg, Mixer, Place, Planned, Random, Reports, Room, View, Way, carrier},
    engine::Event,
    port::{PortId, rtp::RtpStream},
    sdp::{MediaKind, negotiate::MAX_STREAMS},
};

/// How a new source of a stream takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Signaling changed something.
    Anew,
    /// In the middle of sound.
    Handoff,
}

impl Engine {
    /// Declares what a bridge is to be, in place of all that it was; no members = it ends. A port that was in another bridge leaves it.
    /// Ports that are not open have no part in it. At most [`MAX_MEMBERS`](crate::MAX_MEMBERS).
    pub fn arrange(&mut self, now: Instant, bridge: BridgeId, members: &[Member]) {
        self.epoch.get_or_insert(now);
        for member in members {
            if self.room_of(member.port).is_some_and(|room| self.room_of.get(&bridge) != Some(&room)) {
                self.leave(now, member.port);
            }
        }
        let place = self.room_of.get(&bridge).copied();
        if members.is_empty() {
            if let Some(place) = place {
                self.end(now, bridge, place);
            }
            return;
        }
        let place = place.unwrap_or_else(|| self.place());
        self.room_of.insert(bridge, place);
        let Some(entry) = self.rooms.get_mut(place) else { return };
        let before = entry.take();
        let ports: Vec<_> = before.iter().flat_map(|room| &room.seats).map(|seat| seat.member.port).collect();
        let room = entry.insert(Room::declare(bridge, members, before));
        let is_there = |port: &PortId| room.seats.iter().any(|seat| seat.member.port == *port);
        let left: Vec<_> = ports.into_iter().filter(|port| !is_there(port)).collect();
        for port in left {
            if let Some(slot) = self.slot(port) {
                self.part(now, slot);
            }
        }
        self.rearrange(now, place, Turn::Anew);
    }

    /// The bridge that a port is in.
    fn room_of(&self, port: PortId) -> Option<usize> {
        let port = self.ports.get(self.slot(port)?)?.as_ref()?;
        port.view.as_ref().map(|view| view.room)
    }

    /// A free place in the list of bridges.
    fn place(&mut self) -> usize {
        self.free_rooms.pop().unwrap_or_else(|| {
            self.rooms.push(None);
            self.rooms.len() - 1
        })
    }

    fn end(&mut self, now: Instant, bridge: BridgeId, place: usize) {
        self.room_of.remove(&bridge);
        self.free_rooms.push(place);
        let room = self.rooms.get_mut(place).and_then(Option::take);
        if let Some(due) = room.as_ref().and_then(|room| room.deadline) {
            self.timers.remove(&(due, Timer::Room(place)));
        }
        for seat in room.iter().flat_map(|room| &room.seats) {
            if let Some(slot) = self.slot(seat.member.port) {
                self.part(now, slot);
            }
        }
    }

    /// Takes a port out of its bridge.
    pub(super) fn leave(&mut self, now: Instant, id: PortId) {
        let (Some(slot), Some(place)) = (self.slot(id), self.room_of(id)) else { return };
        self.part(now, slot);
        let Some(room) = self.rooms.get_mut(place).and_then(Option::as_mut) else { return };
        room.seats = room.seats.iter().filter(|seat| seat.member.port != id).copied().collect();
        let (bridge, is_empty) = (room.id, room.seats.is_empty());
        if is_empty {
            self.end(now, bridge, place);
        } else {
            self.rearrange(now, place, Turn::Anew);
        }
    }

    /// Works out each member's part anew, after something changed.
    pub(super) fn rearrange(&mut self, now: Instant, place: usize, turn: Turn) {
        let Some(room) = self.rooms.get_mut(place).and_then(Option::as_mut) else { return };
        let (mut mixer, mut floor) = (room.mixer.take(), room.floor.take());
        let mut random = Random(self.random.next());
        let Some(room) = self.rooms.get(place).and_then(Option::as_ref) else { return };
        let legs = room.seats.iter().filter_map(|seat| {
            let slot = self.slot(seat.member.port)?;
            Some(Leg { slot, port: self.ports.get(slot)?.as_ref()?, seat })
        });
        let legs: Vec<_> = legs.collect();
        let Planned { views, speakers, listeners, has_choice } = bridge::plan(place, room, floor.as_deref(), &legs);
        if listeners.is_empty() {
            mixer = None;
        } else {
            let mixer = mixer.get_or_insert_with(|| Box::new(Mixer::new(now)));
            mixer.arrange(&speakers, &listeners, &mut random);
        }
        if has_choice {
            let is_there = |party| room.seats.iter().any(|seat| seat.member.party == party);
            floor.get_or_insert_default().keep(is_there);
        } else {
            floor = None;
        }
        let slots: Vec<_> = views.iter().map(|(slot, _)| *slot).collect();
        for (slot, view) in views {
            self.take_part(now, slot, Some(view), turn);
        }
        if let Some(room) = self.rooms.get_mut(place).and_then(Option::as_mut) {
            (room.mixer, room.floor) = (mixer, floor);
        }
        for slot in slots {
            self.settle(now, slot);
            self.attend(slot);
        }
        self.arm_room(place);
    }

    /// Takes a port out of what it hears and sees.
    fn part(&mut self, now: Instant, slot: usize) {
        self.take_part(now, slot, None, Turn::Anew);
        self.attend(slot);
    }

    /// Gives a port its part.
    fn take_part(&mut self, now: Instant, slot: usize, view: Option<View>, turn: Turn) {
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { return };
        let before = std::mem::replace(&mut port.view, view);
        for (index, stream) in port.streams.iter_mut().enumerate() {
            let was = before.as_ref().and_then(|view| view.way(index));
            let way = port.view.as_mut().and_then(|view| view.ways.get_mut(index)?.as_deref_mut());
            let feeds = [was, way.as_deref()].map(|way| way.map_or(Feed::Nothing, |way| way.feed));
            if feeds[0] != feeds[1] {
                stream.out.turn(turn == Turn::Handoff);
            }
            let is_idle = way.as_deref().is_none_or(Way::is_idle);
            match way.as_deref().and_then(|way| way.partner) {
                Some(_) if feeds[0] == feeds[1] && was.is_some_and(|was| was.partner.is_some()) => {}
                Some(_) => stream.out.reports = None,
                None if is_idle => stream.out.reports = None,
                None => {
                    let fresh = || Box::new(Reports::new(now, self.epoch.unwrap_or(now), self.random.next()));
                    stream.out.reports.get_or_insert_with(fresh);
                }
            }
            let is_video = stream.agreed().is_some_and(|agreed| agreed.kind == MediaKind::Video);
            if let Some(way) = way.filter(|_| is_video)
                && way.gain(was)
            {
                stream.ask(now, &mut self.random);
            }
        }
    }

    /// Ends conversions that a port's streams do not need any more; both ends of one that goes on talk with us in RTCP.
    fn settle(&mut self, now: Instant, slot: usize) {
        for index in 0..MAX_STREAMS {
            let port = |slot: usize| self.ports.get(slot).and_then(Option::as_ref);
            let own = Place::new(slot, index);
            let Some((plan, _)) = port(slot).and_then(|port| port.streams.get(index)?.out.at_work()) else { continue };
            let source = port(slot).and_then(|port| port.way(index)?.feed.place());
            let way = source.and_then(|place| port(place.parts().0)?.way(place.parts().1));
            if way.is_some_and(|way| way.routes.iter().any(|route| route.to == own && route.has(plan))) {
                [Some(own), source].into_iter().flatten().for_each(|place| self.report_to(now, place));
            } else if let Some(stream) = self.stream_mut(own) {
                stream.out.keep(|_| false);
            }
        }
    }

    /// Lets an end of a stream have reports of ours, from now on.
    pub(super) fn report_to(&mut self, now: Instant, place: Place) {
        let reports = Reports::new(now, self.epoch.unwrap_or(now), self.random.next());
        if let Some(stream) = self.stream_mut(place).filter(|stream| stream.out.reports.is_none()) {
            stream.out.reports = Some(Box::new(reports.named(stream.out.told(Class::Media))));
        }
        self.arm(place.parts().0);
    }

    pub(super) fn stream_mut(&mut self, place: Place) -> Option<&mut RtpStream> {
        let (slot, stream) = place.parts();
        self.ports.get_mut(slot)?.as_mut()?.streams.get_mut(stream)
    }

    /// A stream that a handoff may wait for is heard.
    pub(super) fn first_heard(&mut self, now: Instant, slot: usize, stream: usize) {
        let Some(port) = self.ports.get(slot).and_then(Option::as_ref) else { return };
        let (Some(view), Some(kind)) = (&port.view, port.streams.get(stream).and_then(|stream| stream.agreed()).map(|agreed| &agreed.kind))
        else {
            return;
        };
        let (id, place, kind) = (port.id, view.room, carrier(kind));
        let Some(room) = self.rooms.get_mut(place).and_then(Option::as_mut) else { return };
        if room.hear(id, kind) {
            let kind = if kind == Kinds::VIDEO { MediaKind::Video } else { MediaKind::Audio };
            self.events.push_back(Event::Heard { port: id, kind });
            self.rearrange(now, place, Turn::Handoff);
        }
    }
}
