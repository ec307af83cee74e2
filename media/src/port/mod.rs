//! Port: the media end of one leg; open, negotiate, move, close. It has 1 to [`MAX_STREAMS`] streams. They have sockets of their
//! own, two each, or share one transport with ICE and DTLS (`association.rs`), whose packets come by the one socket of all such
//! ports. What a stream does with packets is in `rtp.rs`, where media may be sent at all in `destination.rs`. A port is plain data:
//! it has no socket, only the numbers of them.

mod association;
mod cipher;
pub mod destination;
mod keys;
mod latch;
pub mod rtp;
pub mod webrtc;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

pub use self::latch::{LEARN_PACKETS, LEARN_TIME};
use self::{
    association::{Association, Heard},
    destination::Policy,
    rtp::{Component, Received, RtpStream},
    webrtc::Certificate,
};
use crate::{
    bridge::View,
    dtmf::Digit,
    quality::Statistics,
    rtp::{Packet, is_rtcp, rtcp},
    sdp::{
        Direction,
        negotiate::{MAX_STREAMS, Shared, Stream},
    },
};

/// By which sockets a port's packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two of its own for each stream.
    Own,
    /// The one that all ports of this kind share (WebRTC).
    Shared,
}

/// A port among all that ever were. The media thread it lives on is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u64);

impl PortId {
    /// The port with this number on that thread; a number is never used again.
    #[must_use]
    pub fn new(thread: u16, number: u64) -> Self {
        Self(number << 16 | u64::from(thread))
    }

    /// The thread it lives on.
    #[must_use]
    pub fn thread(self) -> u16 {
        self.0 as u16
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0 >> 16
    }

    /// What a stream that it feeds calls it.
    pub(crate) fn key(self) -> u32 {
        (self.0 ^ self.0 >> 32) as u32
    }
}

/// One socket of an engine: a side of a stream of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u32);

/// Sockets of a port, at most.
pub const SOCKETS: usize = MAX_STREAMS * 2;

impl SocketId {
    /// The socket that all ports of [`Kind::Shared`] share.
    pub const SHARED: Self = Self(u32::MAX);

    /// The socket of one side.
    #[must_use]
    pub fn new(slot: usize, stream: usize, component: Component) -> Self {
        debug_assert!(stream < MAX_STREAMS && slot < 1 << 28);
        Self((slot * SOCKETS + stream * 2 + usize::from(component == Component::Rtcp)) as u32)
    }

    /// A dense number, for a table of sockets.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The socket with a number that [`index`](Self::index) gave.
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        Self(index as u32)
    }

    pub(crate) fn parts(self) -> (usize, usize, Component) {
        let index = self.index();
        let component = if index.is_multiple_of(2) { Component::Rtp } else { Component::Rtcp };
        (index / SOCKETS, index % SOCKETS / 2, component)
    }
}

/// What a leg's offer and answer, and its signaling, say about its port.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// What was agreed: [`Negotiation::streams`](crate::sdp::negotiate::Negotiation::streams). Streams not in it are idle.
    pub streams: Vec<Stream>,
    /// The transport that they share, if they do: [`Negotiation::shared`](crate::sdp::negotiate::Negotiation::shared).
    pub shared: Option<Shared>,
    /// Source address of the leg's SIP messages: media may come from there, too (a phone behind a NAT).
    pub signaling: Option<IpAddr>,
    /// Silence after which a leg that should be sending is reported. None while it rings or where silence is fine.
    pub media_timeout: Option<Duration>,
}

/// The media end of one leg.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) streams: Vec<RtpStream>,
    pub(crate) shared: Option<Box<Association>>,
    pub(crate) view: Option<View>,
    pub(crate) watch: Watch,
    /// The entry in the engine's timers.
    pub(crate) deadline: Option<Instant>,
    /// Whether it waits for [`Engine::poll_transmit`](crate::Engine::poll_transmit).
    pub(crate) is_busy: bool,
    /// What we are called in RTCP to it.
    pub(crate) cname: u64,
}

/// Whether the leg sends as it should.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// None when nothing is expected.
    pub(crate) limit: Option<Duration>,
    /// When the last packet came, or when waiting began.
    pub(crate) heard: Option<Instant>,
    pub(crate) silent: bool,
    /// When to look.
    pub(crate) due: Option<Instant>,
}

impl Port {
    pub(crate) fn new(id: PortId, streams: usize, cname: u64) -> Self {
        let streams = std::iter::repeat_with(RtpStream::default).take(streams.min(MAX_STREAMS)).collect();
        Self { id, streams, shared: None, view: None, watch: Watch::default(), deadline: None, is_busy: false, cname }
    }

    pub(crate) fn extend(&mut self, streams: usize) {
        let streams = streams.min(MAX_STREAMS).max(self.streams.len());
        self.streams.resize_with(streams, RtpStream::default);
    }

    pub(crate) fn negotiate(&mut self, now: Instant, settings: &Settings, policy: &Policy, certificate: &Certificate) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let agreed = settings.streams.iter().find(|agreed| agreed.index == index);
            stream.negotiate(now, agreed, settings.signaling, policy, certificate);
        }
        match (&mut self.shared, &settings.shared) {
            (association, None) => *association = None,
            (Some(association), Some(shared)) => association.renew(now, shared, policy),
            (association @ None, Some(shared)) => *association = Some(Box::new(Association::with_ice(now, certificate, shared, policy))),
        }
        let told = settings.streams.iter().find_map(|stream| stream.sources);
        self.cname = told.map_or(self.cname, |sources| sources.cname);
        // One that only sends has put us on hold, and may well be silent.
        let expected = self.streams.iter().filter_map(RtpStream::agreed).any(|agreed| agreed.direction == Direction::SendRecv);
        self.watch.limit = settings.media_timeout.filter(|_| expected);
        self.watch.heard = Some(now);
        self.watch.silent &= self.watch.limit.is_some();
        self.watch.due = self.watch.limit.filter(|_| !self.watch.silent).map(|limit| now + limit);
    }

    /// Takes a packet that came by the shared socket. Returns the stream that it belongs to, and what became of
    /// it.
    pub(crate) fn receive_shared(
        &mut self,
        now: Instant,
        from: SocketAddr,
        buffer: &mut [u8],
        length: usize,
        policy: &Policy,
    ) -> (usize, Received) {
        let Some(association) = &mut self.shared else { return (0, Received::Dropped) };
        let first = self.streams.first_mut().map(|stream| &mut stream.quality);
        let length = match association.receive(now, from, buffer, length, policy) {
            Heard::Checked(length) => return (0, Received::Checked(length)),
            Heard::Rejected(length) => return (0, Received::Answered(length)),
            Heard::Consumed => return (0, Received::Handled),
            Heard::Media(length) => length,
            Heard::Stranger => {
                first.into_iter().for_each(|quality| quality.strangers += 1);
                return (0, Received::Dropped);
            }
            Heard::Forged => {
                first.into_iter().for_each(|quality| quality.forged += 1);
                return (0, Received::Dropped);
            }
        };
        let Some(bytes) = buffer.get_mut(..length) else { return (0, Received::Dropped) };
        let Some(index) = self.stream_of(bytes) else { return (0, Received::Dropped) };
        let received = self.streams.get_mut(index).map_or(Received::Dropped, |stream| stream.take(now, Component::Rtp, bytes));
        (index, received)
    }

    /// The stream of a bundled packet (RFC 8843 §9.2): for RTP by payload type, for RTCP by the source that it is from or about.
    fn stream_of(&self, bytes: &mut [u8]) -> Option<usize> {
        if is_rtcp(bytes) {
            let sources = rtcp::parse(bytes).ok()?.sources();
            let is_its = |stream: &RtpStream| sources.iter().flatten().any(|source| stream.knows(*source));
            return self.streams.iter().position(is_its).or((self.streams.len() == 1).then_some(0));
        }
        let payload_type = Packet::parse(bytes).ok()?.payload_type();
        self.streams.iter().position(|stream| stream.expects(payload_type))
    }

    /// Protects a packet for the peer where it must be. Returns where it goes, and how long it is.
    pub(crate) fn send(
        &mut self,
        slot: usize,
        stream: usize,
        component: Component,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<(SocketId, SocketAddr, usize)> {
        if let Some(association) = &mut self.shared {
            return Some((SocketId::SHARED, association.destination()?, association.seal(buffer, length)?));
        }
        let (component, to, length) = self.streams.get_mut(stream)?.send(component, buffer, length)?;
        Some((SocketId::new(slot, stream, component), to, length))
    }

    /// The next datagram that the port itself has to send: STUN and DTLS, sound that was transcoded, RTCP of ours.
    pub(crate) fn poll_transmit(&mut self, slot: usize, buffer: &mut [u8]) -> Option<(SocketId, SocketAddr, usize)> {
        if let Some(datagram) = self.poll_transport(slot, buffer) {
            return Some(datagram);
        }
        for index in 0..self.streams.len() {
            while let Some((component, length)) = self.streams.get_mut(index)?.poll_packet(self.cname, buffer) {
                if let Some(datagram) = self.send(slot, index, component, buffer, length) {
                    return Some(datagram);
                }
            }
        }
        None
    }

    fn poll_transport(&mut self, slot: usize, buffer: &mut [u8]) -> Option<(SocketId, SocketAddr, usize)> {
        if let Some(association) = &mut self.shared {
            let (to, length) = association.poll_transmit(buffer)?;
            return Some((SocketId::SHARED, to, length));
        }
        self.streams.iter_mut().enumerate().find_map(|(index, stream)| {
            let (component, (to, length)) =
                stream.associations().find_map(|(component, association)| Some((component, association.poll_transmit(buffer)?)))?;
            Some((SocketId::new(slot, index, component), to, length))
        })
    }

    /// When it has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let shared = self.shared.as_ref().and_then(|association| association.poll_timeout());
        let streams = self.streams.iter().filter_map(RtpStream::poll_timeout);
        streams.chain(shared).chain(self.watch.due).min()
    }

    /// Lets streams and transports do what is due. Returns a digit whose end was lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<(Digit, Duration)> {
        let digits = self.streams.iter_mut().map(|stream| stream.handle_timeout(now));
        let digit = digits.fold(None, Option::or);
        self.shared.iter_mut().for_each(|association| association.handle_timeout(now));
        let associations = self.streams.iter_mut().flat_map(RtpStream::associations);
        associations.for_each(|(_, association)| association.handle_timeout(now));
        digit
    }

    /// Why a transport failed, if one did since the last time.
    pub(crate) fn failure(&mut self) -> Option<String> {
        let shared = self.shared.as_mut().and_then(|association| association.failure());
        shared.or_else(|| self.streams.iter_mut().flat_map(RtpStream::associations).find_map(|(_, association)| association.failure()))
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let mut streams: Vec<_> = self.streams.iter().map(RtpStream::statistics).collect();
        if let Some(association) = &self.shared {
            let peer = association.destination();
            for stream in streams.iter_mut().filter(|stream| stream.kind.is_some()) {
                stream.remote = peer;
                stream.waits_for = association.awaits().map(str::to_owned).or(stream.waits_for.take());
            }
        }
        Statistics { streams }
    }

    /// Why nothing is heard from a leg that should be sending, in plain words.
    pub(crate) fn verdict(&self, limit: Duration) -> String {
        let seconds = limit.as_secs();
        let expected = |stream: &&RtpStream| stream.agreed().is_some_and(|agreed| agreed.direction.receives());
        let Some(stream) = self.streams.iter().find(expected) else {
            return format!("no packet in {seconds} s");
        };
        if let Some(association) = &self.shared
            && let Some(wait) = association.awaits()
        {
            return format!("no packet in {seconds} s; {wait}");
        }
        let Some(remote) = stream.agreed().and_then(|agreed| agreed.remote) else {
            return format!("no packet in {seconds} s; the SDP gave no address");
        };
        let reason = match (stream.refusal(), stream.stranger.as_deref(), remote.ip().to_canonical()) {
            (Some(refusal), ..) => format!("; the SDP gave {refusal}"),
            _ if stream.quality.received.packets > 0 => {
                format!("; {} came before", stream.quality.received.packets)
            }
            (None, Some(stranger), _) => {
                format!("; packets came from {stranger}, which neither the SDP nor the signaling names")
            }
            (None, None, IpAddr::V4(ip)) if ip.is_private() => "; the SDP gave a private address".to_owned(),
            (None, None, IpAddr::V6(ip)) if ip.is_unique_local() => "; the SDP gave a private address".to_owned(),
            (None, None, _) => String::new(),
        };
        format!("no packet from {remote} in {seconds} s{reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_two_ports_takes_less_than_two_kilobytes() {
        let port = size_of::<Port>() + size_of::<RtpStream>();
        assert!(2 * port < 2048, "{port} octets a port");
    }

    #[test]
    fn sockets_are_numbered_without_gaps() {
        let ids =
            (0..3).flat_map(|slot| (0..MAX_STREAMS).flat_map(move |stream| [Component::Rtp, Component::Rtcp].map(|c| (slot, stream, c))));
        for (index, parts) in ids.enumerate() {
            let id = SocketId::new(parts.0, parts.1, parts.2);
            assert_eq!((id.index(), id.parts(), SocketId::from_index(index)), (index, parts, id));
        }
    }

    #[test]
    fn a_port_knows_its_thread() {
        assert_eq!(PortId::new(3, 1 << 40).thread(), 3);
        assert_ne!(PortId::new(3, 1), PortId::new(3, 2));
    }
}
