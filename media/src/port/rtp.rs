//! One stream of plain RTP: symmetric RTP with latching to the real source (security row S2), direction, RTCP beside or on the
//! RTP port. It knows its own peer only; whom packets go on to is the bridge's business.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use super::destination::{Policy, Refusal};
use crate::{
    quality::{Quality, StreamStatistics},
    rtp::{self, Packet, rtcp},
    sdp::{Direction, MediaKind, negotiate::Stream},
};

/// Packets of a learnt source after which it is frozen.
pub const LEARN_PACKETS: u16 = 50;
/// Time after the first packet of a learnt source when it is frozen.
pub const LEARN_TIME: Duration = Duration::from_secs(3);

/// RTP or RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// RTP, and RTCP where they share a port.
    Rtp,
    /// RTCP.
    Rtcp,
}

/// Where one side of a stream sends to and whom it takes packets from.
///
/// The address of the SDP is right until packets show otherwise: while none came from it, the first packet from its host
/// (another port) or from the host that signals (a NAT) is believed. A packet from the SDP's address always wins; without one,
/// the learnt source is frozen after [`LEARN_PACKETS`] or [`LEARN_TIME`], until the next offer and answer. All others are
/// strangers, and their packets go nowhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latch {
    /// What the SDP says.
    signalled: Option<SocketAddr>,
    /// Why nothing may be sent there, if so.
    pub(crate) refusal: Option<Refusal>,
    /// Who signals, as its messages' source address.
    signaling: Option<IpAddr>,
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Source {
    /// Nothing has come yet.
    #[default]
    Awaited,
    /// Something has come from another address than the SDP's.
    Learnt { address: SocketAddr, trust: Trust, until: Instant, left: u16 },
    /// Decided.
    Frozen(SocketAddr),
}

/// How good a source is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    SignalingHost,
    MediaHost,
    Signalled,
}

impl Latch {
    /// A new offer and answer. A source learnt for the same address is kept, but may be replaced again.
    fn negotiate(&mut self, now: Instant, signalled: Option<SocketAddr>, signaling: Option<IpAddr>, policy: &Policy) {
        let same = self.signalled == signalled && self.signaling == signaling;
        self.source = match self.source {
            Source::Frozen(address) | Source::Learnt { address, .. } if same => match self.trust(address) {
                Some(trust) => Source::Learnt { address, trust, until: now + LEARN_TIME, left: LEARN_PACKETS },
                None => Source::Awaited,
            },
            Source::Awaited | Source::Learnt { .. } | Source::Frozen(_) => Source::Awaited,
        };
        self.signalled = signalled;
        self.signaling = signaling;
        self.refusal = signalled.and_then(|address| policy.check(address).err());
    }

    fn trust(&self, from: SocketAddr) -> Option<Trust> {
        match self.signalled {
            Some(signalled) if signalled == from => Some(Trust::Signalled),
            Some(signalled) if signalled.ip() == from.ip() => Some(Trust::MediaHost),
            Some(signalled) if is_wildcard_socket(signalled, from) => Some(Trust::MediaHost),
            Some(_) | None => (self.signaling == Some(from.ip())).then_some(Trust::SignalingHost),
        }
    }

    /// Whether a packet is the peer's.
    fn accept(&mut self, now: Instant, from: SocketAddr, policy: &Policy) -> bool {
        if self.source == Source::Frozen(from) {
            return true;
        }
        let Some(offered) = self.trust(from) else {
            return false;
        };
        let next = match (self.source, offered) {
            (_, Trust::Signalled) => Source::Frozen(from),
            (Source::Frozen(_), _) => return false,
            (Source::Awaited, trust) => Source::Learnt { address: from, trust, until: now + LEARN_TIME, left: LEARN_PACKETS },
            (Source::Learnt { address, until, left, .. }, _) if now >= until || left == 0 => {
                self.source = Source::Frozen(address);
                return address == from;
            }
            (Source::Learnt { address, trust, until, left }, offered) if address == from || offered > trust => {
                Source::Learnt { address: from, trust: offered, until, left: left - 1 }
            }
            (Source::Learnt { .. }, _) => return false,
        };
        // Each change of the destination is checked, and nothing else.
        if self.destination() != Some(from) && policy.check(from).is_err() {
            return false;
        }
        self.source = next;
        true
    }

    /// Where packets to the peer go.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        match self.source {
            Source::Awaited => self.signalled.filter(|_| self.refusal.is_none()),
            Source::Learnt { address, .. } | Source::Frozen(address) => Some(address),
        }
    }
}

/// A phone on this machine whose socket is bound to no address: it names one of 127.0.0.0/8, and the system sends from 127.0.0.1.
fn is_wildcard_socket(signalled: SocketAddr, from: SocketAddr) -> bool {
    signalled.ip().is_loopback() && from.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && from.port() == signalled.port()
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::port::destination::Loopback;

    const SDP: &str = "203.0.113.5:4000";
    const SAME_HOST: &str = "203.0.113.5:61000";
    const NAT: &str = "198.51.100.7:33333";
    const STRANGER: &str = "192.0.2.66:4000";

    /// A latch and the time.
    struct Side {
        latch: Latch,
        now: Instant,
        policy: Policy,
    }

    impl Side {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
        fn new(sdp: &str) -> Self {
            let own = vec!["192.0.2.100".parse().unwrap()];
            let policy = Policy { loopback: Loopback::Refused, own, ports: Arc::default(), listeners: Vec::new() };
            let mut side = Self { latch: Latch::default(), now: Instant::now(), policy };
            side.negotiate(sdp);
            side
        }

        fn negotiate(&mut self, sdp: &str) {
            let signaling = NAT.parse::<SocketAddr>().unwrap().ip();
            self.latch.negotiate(self.now, sdp.parse().ok(), Some(signaling), &self.policy);
        }

        fn takes(&mut self, from: &str) -> bool {
            self.latch.accept(self.now, from.parse().unwrap(), &self.policy)
        }

        fn sends_to(&self) -> Option<String> {
            self.latch.destination().map(|to| to.to_string())
        }
    }

    #[test]
    fn the_sdp_is_believed_until_packets_show_otherwise() {
        let mut side = Side::new(SDP);
        assert_eq!(side.sends_to().as_deref(), Some(SDP));
        assert!(side.takes(NAT));
        assert_eq!(side.sends_to().as_deref(), Some(NAT));
    }

    #[test]
    fn nobody_else_is_learnt_when_the_sdp_is_right() {
        // S2
        let mut side = Side::new(SDP);
        assert!(side.takes(SDP));
        for other in [SAME_HOST, NAT, STRANGER, "203.0.113.5:4001"] {
            assert!(!side.takes(other), "{other}");
        }
        assert_eq!(side.sends_to().as_deref(), Some(SDP));
    }

    #[test]
    fn strangers_are_turned_away_before_during_and_after_learning() {
        // S2
        let mut side = Side::new(SDP);
        for _ in 0..1000 {
            assert!(!side.takes(STRANGER), "before");
        }
        assert!(side.takes(NAT), "a flood of strangers does not use up the peer's chance");
        assert!(!side.takes(STRANGER), "during");
        side.now += LEARN_TIME;
        assert!(side.takes(NAT));
        assert!(!side.takes(STRANGER), "after");
        assert_eq!(side.sends_to().as_deref(), Some(NAT));
    }

    #[test]
    fn the_sdp_address_wins_over_who_came_first() {
        // S2
        let mut side = Side::new(SDP);
        assert!(side.takes(NAT));
        assert!(side.takes(SAME_HOST), "the media host is better than the signaling host");
        assert!(!side.takes(NAT), "and not worse");
        assert!(side.takes(SDP));
        assert!(!side.takes(SAME_HOST));
        assert_eq!(side.sends_to().as_deref(), Some(SDP));
    }

    #[test]
    fn the_sdp_address_wins_even_over_a_frozen_source() {
        // S2: whoever came first from the phone's host must not keep the phone out of its own call
        let mut side = Side::new(SDP);
        assert!(side.takes(SAME_HOST));
        side.now += LEARN_TIME;
        assert!(side.takes(SAME_HOST));
        assert!(side.takes(SDP));
        assert!(!side.takes(SAME_HOST));
    }

    #[test]
    fn a_learnt_source_is_frozen_after_so_many_packets() {
        // S2
        let mut side = Side::new(SDP);
        for _ in 0..=LEARN_PACKETS {
            assert!(side.takes(NAT));
        }
        assert!(!side.takes(SAME_HOST));
        assert!(side.takes(NAT));
    }

    #[test]
    fn a_learnt_source_is_frozen_after_some_time() {
        // S2
        let mut side = Side::new(SDP);
        assert!(side.takes(NAT));
        side.now += LEARN_TIME;
        assert!(!side.takes(SAME_HOST), "even if it says nothing more itself");
        assert!(side.takes(NAT));
    }

    #[test]
    fn a_wildcard_socket_on_this_machine_is_the_one_that_was_named() {
        let mut side = Side::new("127.0.66.11:4000");
        side.policy.loopback = Loopback::Allowed;
        side.negotiate("127.0.66.11:4000");
        assert!(!side.takes("127.0.0.1:4002"), "another port is another socket"); // S2
        assert!(!side.takes("127.0.0.2:4000"), "only the system's own choice");
        assert!(side.takes("127.0.0.1:4000"));
        assert!(side.takes("127.0.66.11:4000"), "what was named still wins");
        assert!(!side.takes("127.0.0.1:4000"));
    }

    #[test]
    fn two_ports_of_the_signaling_host_do_not_take_turns() {
        // S2
        let mut side = Side::new(SDP);
        assert!(side.takes(NAT));
        assert!(!side.takes("198.51.100.7:33334"));
    }

    #[test]
    fn a_new_offer_and_answer_opens_learning_again() {
        let mut side = Side::new(SDP);
        assert!(side.takes(NAT));
        side.now += LEARN_TIME;
        assert!(!side.takes(SAME_HOST));
        side.negotiate(SDP);
        assert_eq!(side.sends_to().as_deref(), Some(NAT), "a held phone behind a NAT still gets its music");
        assert!(side.takes(SAME_HOST));
        side.negotiate("203.0.113.5:5000");
        assert_eq!(side.sends_to().as_deref(), Some("203.0.113.5:5000"), "a new address is a new beginning");
        side.negotiate("");
        assert_eq!(side.sends_to(), None);
    }

    #[test]
    fn a_frozen_sdp_address_stays_frozen_over_a_refresh() {
        // S2
        let mut side = Side::new(SDP);
        assert!(side.takes(SDP));
        side.negotiate(SDP);
        assert!(!side.takes(NAT));
    }

    #[test]
    fn an_address_inside_is_neither_sent_to_nor_learnt() {
        // S19
        let mut side = Side::new("127.0.0.1:22");
        assert_eq!(side.latch.refusal, Some(Refusal::Loopback));
        assert_eq!(side.sends_to(), None);
        assert!(!side.takes("127.0.0.1:22") && !side.takes("127.0.0.1:23"));
        assert!(side.takes(NAT), "where it signals from is no secret");
        assert!(!side.takes("127.0.0.1:22"), "and a refused address does not win over it");
        assert_eq!(side.sends_to().as_deref(), Some(NAT));
    }

    #[test]
    fn without_an_address_the_signaling_host_is_learnt() {
        let mut side = Side::new("");
        assert_eq!(side.sends_to(), None);
        assert!(!side.takes(STRANGER));
        assert!(side.takes(NAT));
        assert_eq!(side.sends_to().as_deref(), Some(NAT));
    }
}
