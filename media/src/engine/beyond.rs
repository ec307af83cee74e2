//! Packets with which there is more to do than to take them to one other port: those of several receivers, those that a handoff waits
//! for; and the RTCP of streams whose ends talk with us (RFC 3550 §6, RFC 4585 §6).

use std::time::Instant;

use super::{Engine, Passage, Relayed};
use crate::{
    bridge::{Class, Place},
    port::rtp::Component,
    rtp::{report, rewrite::Rewriter},
};

impl Engine {
    /// Takes a packet to all its receivers. The first gets the octets of the buffer, each further one a copy.
    pub(super) fn relay_beyond(&mut self, now: Instant, from: (usize, usize), buffer: &mut [u8], length: usize) -> Option<Relayed> {
        let (slot, stream) = from;
        if self.ports.get(slot)?.as_ref()?.way(stream)?.is_awaited {
            self.first_heard(now, slot, stream);
        }
        let key = self.ports.get(slot)?.as_ref()?.id.key();
        let mut is_sent = false;
        for index in 1.. {
            let Some(route) = self.ports.get(slot)?.as_ref()?.way(stream)?.routes.get(index) else { break };
            let Some(passage) = Passage::of(key, route, buffer) else { continue };
            let Some(mut copy) = self.copies.take(buffer.get(..length)?) else { break };
            match self.relay_to(now, from, passage, &mut copy, length) {
                Some(Relayed::Sent(sent)) => {
                    self.copies.push(sent.socket, sent.to, sent.length, copy);
                    is_sent = true;
                }
                Some(Relayed::Taken) => {
                    self.copies.give_back(copy);
                    is_sent = true;
                }
                Some(Relayed::Withheld) | None => self.copies.give_back(copy),
            }
        }
        let first = self.ports.get(slot)?.as_ref()?.way(stream)?.routes.first().and_then(|route| Passage::of(key, route, buffer));
        let relayed = first.and_then(|passage| self.relay_to(now, from, passage, buffer, length));
        match relayed {
            Some(Relayed::Withheld) | None if is_sent => Some(Relayed::Taken),
            relayed => relayed,
        }
    }

    /// RTCP of a port whose stream's ends talk with us: what it says of the pictures it gets goes to their source, the rest is for us.
    pub(super) fn relay_feedback(
        &mut self,
        now: Instant,
        (slot, stream): (usize, usize),
        buffer: &mut [u8],
        length: usize,
    ) -> Option<Relayed> {
        let viewer = self.ports.get(slot)?.as_ref()?;
        let Some((other, target)) = viewer.way(stream)?.feed.place().map(Place::parts) else { return Some(Relayed::Taken) };
        let Some(received) = viewer.streams.get(stream)?.out.media() else { return Some(Relayed::Taken) };
        let source = self.ports.get(other)?.as_ref()?.streams.get(target)?;
        let named = source.out.told(Class::Media).or(source.out.media().map(Rewriter::ssrc));
        let sender = named.unwrap_or(received.ssrc());
        let Ok(length) = report::feedback(sender, received, buffer, length) else { return Some(Relayed::Taken) };
        if length == 0 {
            return Some(Relayed::Taken);
        }
        let port = self.ports.get_mut(other)?.as_mut()?;
        port.streams.get_mut(target)?.reported(now, buffer.get(..length)?);
        let (socket, to, length) = port.send(other, target, Component::Rtcp, buffer, length)?;
        Some(Relayed::Sent(super::Transmit { socket, to, length }))
    }
}
