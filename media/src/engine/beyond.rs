//! Packets with which there is more to do than to take them to one other port: those of several receivers, those that a handoff waits
//! for; and the RTCP of streams whose ends talk with us (RFC 3550 §6, RFC 4585 §6).

use std::time::Instant;

use super::{Engine, Passage, Relayed, Transmit};
use crate::{
    bridge::{Class, Place},
    port::rtp::Component,
    rtp::{report, rewrite::Rewriter},
    sdp::MediaKind,
};

impl Engine {
    /// Takes a packet to all its receivers. The first gets the octets of the buffer, each further one a copy.
    pub(super) fn relay_beyond(&mut self, now: Instant, from: (usize, usize), buffer: &mut [u8], length: usize) -> Option<Relayed> {
        let (slot, stream) = from;
        let agreed = self.ports.get(slot)?.as_ref()?.streams.get(stream)?.agreed()?;
        if agreed.kind == MediaKind::Video {
            self.look_for_picture(now, slot, stream, buffer.get_mut(..length)?)?;
        } else if self.ports.get(slot)?.as_ref()?.way(stream)?.is_awaited {
            self.first_heard(now, slot, stream);
        }
        let key = self.ports.get(slot)?.as_ref()?.id.key();
        let mut is_taken = self.mix_in(now, slot, stream, buffer.get_mut(..length)?);
        for index in 1.. {
            let Some(route) = self.ports.get(slot)?.as_ref()?.way(stream)?.routes.get(index) else { break };
            let Some(passage) = Passage::of(key, route, buffer).filter(|_| !route.waits) else { continue };
            let Some(mut copy) = self.copies.take(buffer.get(..length)?) else { break };
            match self.relay_to(now, from, passage, &mut copy, length) {
                Some(Relayed::Sent(sent)) => {
                    self.copies.push(sent.socket, sent.to, sent.length, copy);
                    is_taken = true;
                }
                Some(Relayed::Taken) => {
                    self.copies.give_back(copy);
                    is_taken = true;
                }
                Some(Relayed::Withheld) | None => self.copies.give_back(copy),
            }
        }
        let first = self.ports.get(slot)?.as_ref()?.way(stream)?.routes.first().filter(|route| !route.waits);
        let first = first.and_then(|route| Passage::of(key, route, buffer));
        let relayed = first.and_then(|passage| self.relay_to(now, from, passage, buffer, length));
        match relayed {
            Some(Relayed::Withheld) | None if is_taken => Some(Relayed::Taken),
            relayed => relayed,
        }
    }

    /// Looks for the key frame that viewers, or a handoff, wait for. None: the packet is of no use before it.
    fn look_for_picture(&mut self, now: Instant, slot: usize, stream: usize, bytes: &mut [u8]) -> Option<()> {
        let port = self.ports.get_mut(slot)?.as_mut()?;
        let way = port.way(stream)?;
        let is_awaited = way.is_awaited;
        if !is_awaited && !way.routes.iter().any(|route| route.waits) {
            return Some(());
        }
        let source = port.streams.get_mut(stream)?;
        let begins = source.look(now, bytes);
        let is_over = begins != Some(false) || source.asking.is_none();
        if is_over && is_awaited {
            self.first_heard(now, slot, stream);
        }
        if is_over {
            let port = self.ports.get_mut(slot)?.as_mut()?;
            if begins == Some(true) {
                // The one that was asked for again when the handoff was over.
                port.streams.get_mut(stream)?.asking = None;
            }
            port.view.as_mut()?.ways.get_mut(stream)?.as_deref_mut()?.release();
        }
        self.attend(slot);
        (is_over || !is_awaited).then_some(())
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
        Some(Relayed::Sent(Transmit { socket, to, length }))
    }
}
