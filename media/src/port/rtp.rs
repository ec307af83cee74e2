//! One stream of plain RTP: symmetric RTP with latching to the real source (security row S2), direction, RTCP beside or on the
//! RTP port. It knows its own peer only; whom packets go on to is the bridge's business.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::{
    destination::{Policy, Refusal},
    latch::Latch,
};
use crate::{
    quality::{Quality, StreamStatistics},
    rtp::{self, Packet, rtcp},
    sdp::{Direction, MediaKind, negotiate::Stream},
};

/// RTP or RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// RTP, and RTCP where they share a port.
    Rtp,
    /// RTCP.
    Rtcp,
}

/// One stream of a port.
#[derive(Clone, Debug, Default)]
pub(crate) struct RtpStream {
    rtp: Latch,
    rtcp: Latch,
    agreed: Option<Agreed>,
    pub(crate) quality: Quality,
    /// The last stranger, for the verdict.
    pub(crate) stranger: Option<SocketAddr>,
}

/// What the packet path needs of a negotiated [`Stream`].
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) line: usize,
    pub(crate) kind: MediaKind,
    pub(crate) direction: Direction,
    pub(crate) remote: Option<SocketAddr>,
    mux: bool,
    /// What we told the peer to send.
    payloads: Vec<Payload>,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    payload_type: u8,
    rate: u32,
    event: bool,
}

impl RtpStream {
    /// Applies what was agreed; none = the stream is refused or ended.
    pub(crate) fn negotiate(&mut self, now: Instant, stream: Option<&Stream>, signaling: Option<IpAddr>, policy: &Policy) {
        let signaling = signaling.filter(|_| stream.is_some());
        self.rtp.negotiate(now, stream.and_then(|s| s.remote_rtp), signaling, policy);
        self.rtcp.negotiate(now, stream.and_then(|s| s.remote_rtcp), signaling, policy);
        self.stranger = None;
        self.agreed = stream.map(|stream| Agreed {
            line: stream.line,
            kind: stream.kind.clone(),
            direction: stream.direction,
            remote: stream.remote_rtp,
            mux: stream.rtcp_mux,
            payloads: stream
                .receive
                .iter()
                .map(|format| Payload { payload_type: format.payload_type, rate: format.clock_rate, event: format.is_telephone_event() })
                .collect(),
        });
    }

    pub(crate) fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.rtp.refusal
    }

    /// Takes a packet that came on one of the stream's sockets. Returns whether it is RTP or RTCP when it is to go on.
    pub(crate) fn receive(&mut self, now: Instant, socket: Component, from: SocketAddr, bytes: &mut [u8], policy: &Policy) -> Received {
        let Some(agreed) = &self.agreed else {
            self.quality.withheld += 1;
            return Received::Dropped;
        };
        let length = bytes.len();
        if socket == Component::Rtp && !rtp::is_rtcp(bytes) {
            let Ok(packet) = Packet::parse(bytes) else {
                self.quality.malformed += 1;
                return Received::Dropped;
            };
            if !self.rtp.accept(now, from, policy) {
                return self.turn_away(from);
            }
            let payload = agreed.payloads.iter().find(|payload| payload.payload_type == packet.payload_type());
            let (rate, event) = payload.map_or((8000, false), |payload| (payload.rate, payload.event));
            self.quality.count(now, &packet, length, rate, event);
            if !agreed.direction.receives() {
                self.quality.withheld += 1;
                return Received::Kept;
            }
            return Received::ToForward(Component::Rtp);
        }
        let Ok(compound) = rtcp::parse(bytes) else {
            self.quality.malformed += 1;
            return Received::Dropped;
        };
        let latch = if agreed.mux { &mut self.rtp } else { &mut self.rtcp };
        if agreed.mux != (socket == Component::Rtp) || !latch.accept(now, from, policy) {
            return self.turn_away(from);
        }
        self.quality.reports(now, &compound);
        Received::ToForward(Component::Rtcp)
    }

    fn turn_away(&mut self, from: SocketAddr) -> Received {
        self.quality.strangers += 1;
        self.stranger = Some(from);
        Received::Dropped
    }

    /// Where a packet for the peer goes: by which socket, to which address.
    pub(crate) fn send(&mut self, now: Instant, component: Component, bytes: &[u8]) -> Option<(Component, SocketAddr)> {
        let agreed = self.agreed.as_ref()?;
        match component {
            Component::Rtp if agreed.direction.sends() => {
                let to = self.rtp.destination()?;
                self.quality.sent.add(bytes.len());
                Some((Component::Rtp, to))
            }
            Component::Rtp => None,
            // RTCP goes on while a stream is on hold (RFC 3264 §5.1).
            Component::Rtcp => {
                if let Ok(compound) = rtcp::parse(bytes) {
                    self.quality.forwards(now, &compound);
                }
                if agreed.mux { Some((Component::Rtp, self.rtp.destination()?)) } else { Some((Component::Rtcp, self.rtcp.destination()?)) }
            }
        }
    }

    pub(crate) fn statistics(&self) -> StreamStatistics {
        StreamStatistics {
            kind: self.agreed.as_ref().map(|agreed| agreed.kind.clone()),
            remote: self.agreed.as_ref().and_then(|_| self.rtp.destination()),
            ..self.quality.report()
        }
    }
}

/// What became of a packet that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Not the peer's, or nothing of ours.
    Dropped,
    /// The peer's, but the stream does not take media from it now.
    Kept,
    /// The peer's, for whoever is bridged.
    ToForward(Component),
}
