//! Port: the media end of one leg; open, negotiate, move, close. It has 1 to [`MAX_STREAMS`] streams, each with an RTP and an
//! RTCP side. What a side does with packets is in `rtp.rs`, where media may be sent at all in `destination.rs`. A port is plain
//! data: it has no socket, only the numbers of its sides.

pub mod destination;
mod latch;
pub mod rtp;
pub mod webrtc;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

pub use self::latch::{LEARN_PACKETS, LEARN_TIME};
use self::{
    destination::Policy,
    rtp::{Component, RtpStream},
};
use crate::{
    bridge::Bridge,
    quality::Statistics,
    sdp::negotiate::{MAX_STREAMS, Stream},
};

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
}

/// One socket of an engine: a side of a stream of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u32);

/// Sockets of a port, at most.
pub const SOCKETS: usize = MAX_STREAMS * 2;

impl SocketId {
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
    /// Source address of the leg's SIP messages: media may come from there, too (a phone behind a NAT).
    pub signaling: Option<IpAddr>,
    /// Silence after which a leg that should be sending is reported. None while it rings or where silence is fine.
    pub media_timeout: Option<Duration>,
}

/// The media end of one leg.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) streams: Vec<RtpStream>,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) watch: Watch,
}

/// Whether the leg sends as it should.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// None when nothing is expected.
    pub(crate) limit: Option<Duration>,
    /// When the last packet came, or when waiting began.
    pub(crate) heard: Option<Instant>,
    pub(crate) silent: bool,
    /// The entry in the engine's timers.
    pub(crate) deadline: Option<Instant>,
}

impl Port {
    pub(crate) fn new(id: PortId, streams: usize) -> Self {
        let streams = std::iter::repeat_with(RtpStream::default).take(streams.min(MAX_STREAMS)).collect();
        Self { id, streams, bridge: None, watch: Watch::default() }
    }

    pub(crate) fn extend(&mut self, streams: usize) {
        let streams = streams.min(MAX_STREAMS).max(self.streams.len());
        self.streams.resize_with(streams, RtpStream::default);
    }

    pub(crate) fn negotiate(&mut self, now: Instant, settings: &Settings, policy: &Policy) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let agreed = settings.streams.iter().find(|agreed| agreed.index == index);
            stream.negotiate(now, agreed, settings.signaling, policy);
        }
        let expected = self.streams.iter().filter_map(RtpStream::agreed).any(|agreed| agreed.direction.receives());
        self.watch.limit = settings.media_timeout.filter(|_| expected);
        self.watch.heard = Some(now);
        self.watch.silent &= self.watch.limit.is_some();
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics { streams: self.streams.iter().map(RtpStream::statistics).collect() }
    }

    /// Why nothing is heard from a leg that should be sending, in plain words.
    pub(crate) fn verdict(&self, limit: Duration) -> String {
        let seconds = limit.as_secs();
        let expected = |stream: &&RtpStream| stream.agreed().is_some_and(|agreed| agreed.direction.receives());
        let Some(stream) = self.streams.iter().find(expected) else {
            return format!("no packet in {seconds} s");
        };
        let Some(remote) = stream.agreed().and_then(|agreed| agreed.remote) else {
            return format!("no packet in {seconds} s; the SDP gave no address");
        };
        let reason = match (stream.refusal(), stream.stranger, remote.ip().to_canonical()) {
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
