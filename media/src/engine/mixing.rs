//! The beat of the mixes: their clocks among the engine's timers, what they hear, what they send, and who has the floor.

use std::time::Instant;

use super::{Engine, Timer, Transmit, arrange::Turn};
use crate::{
    SoundId,
    bridge::{Mixed, Place, Room},
    play::Sound,
    port::{
        PortId,
        rtp::{Component, RtpStream},
    },
    rtp::Packet,
};

impl Engine {
    /// Adds a sound that members can be played ([`Member::plays`](crate::Member::plays)), in place of the one of that name.
    pub fn add_sound(&mut self, id: SoundId, sound: Sound) {
        self.sounds.add(id, sound);
    }

    /// Lets the mix hear a packet. Returns whether it does.
    pub(super) fn mix_in(&mut self, now: Instant, slot: usize, stream: usize, bytes: &mut [u8]) -> bool {
        let view = self.ports.get(slot).and_then(Option::as_ref).and_then(|port| port.view.as_ref());
        let Some((room, ear)) = view.and_then(|view| Some((view.room, view.way(stream)?.ear?))) else { return false };
        let Some(mixer) = self.rooms.get_mut(room).and_then(Option::as_mut).and_then(|room| room.mixer.as_mut()) else { return false };
        let (Some(ear), Ok(packet)) = (mixer.ears.get_mut(usize::from(ear)), Packet::parse(bytes)) else { return false };
        ear.handle_packet(now, &packet);
        true
    }

    /// Asks for the next packet of the mixes and sounds that are due, written to the buffer.
    pub(super) fn poll_mixed(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some(place) = self.beating.front().copied() {
            while let Some(Mixed { port, place, clock_rate, at, length }) = self.poll_room(place, buffer) {
                let (slot, index) = place.parts();
                let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut).filter(|open| open.id == port) else { continue };
                let Some(stream) = port.streams.get_mut(index) else { continue };
                if stream.mixed(at, clock_rate, buffer.get_mut(..length)?)
                    && let Some((socket, to, length)) = port.send(slot, index, Component::Rtp, buffer, length)
                {
                    return Some(Transmit { socket, to, length });
                }
            }
            self.beating.pop_front();
            self.listen_to_floor(place);
            self.arm_room(place);
        }
        None
    }

    fn poll_room(&mut self, place: usize, buffer: &mut [u8]) -> Option<Mixed> {
        let mixer = self.rooms.get_mut(place)?.as_mut()?.mixer.as_mut()?;
        let ports = &self.ports;
        let takes = |id: PortId, place: Place| {
            let (slot, stream) = place.parts();
            let port = ports.get(slot).and_then(Option::as_ref).filter(|port| port.id == id);
            port.and_then(|port| port.streams.get(stream)).is_some_and(RtpStream::sends)
        };
        mixer.poll(&mut self.sounds, takes, buffer)
    }

    /// Looks who has the floor after a beat of a mix.
    fn listen_to_floor(&mut self, place: usize) {
        let Some(Room { mixer: Some(mixer), floor: Some(floor), .. }) = self.rooms.get_mut(place).and_then(Option::as_mut) else { return };
        let now = mixer.now();
        if floor.hear(now, mixer.loudness()) {
            self.rearrange(now, place, Turn::Anew);
        }
    }

    /// A mix's clock may be due.
    pub(super) fn beat(&mut self, now: Instant, place: usize) {
        if let Some(mixer) = self.rooms.get_mut(place).and_then(Option::as_mut).and_then(|room| room.mixer.as_mut()) {
            mixer.handle_timeout(now);
            self.beating.push_back(place);
        }
    }

    /// Sets the timer of a mix that is not waiting to be polled.
    pub(super) fn arm_room(&mut self, place: usize) {
        let Some(room) = self.rooms.get_mut(place).and_then(Option::as_mut) else { return };
        let due = room.mixer.as_ref().map(|mixer| mixer.poll_timeout());
        let old = std::mem::replace(&mut room.deadline, due);
        if let Some(old) = old.filter(|_| old != due) {
            self.timers.remove(&(old, Timer::Room(place)));
        }
        if let Some(due) = due.filter(|_| old != due) {
            self.timers.insert((due, Timer::Room(place)));
        }
    }
}
