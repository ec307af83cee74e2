//! Latch: where one side of a stream sends to and whom it takes packets from: symmetric RTP with learning of the real source,
//! within bounds (security row S2). It knows addresses only.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use super::destination::{Policy, Refusal};

/// Packets of a learnt source after which it is frozen.
pub const LEARN_PACKETS: u16 = 50;
/// Time after the first packet of a learnt source when it is frozen.
pub const LEARN_TIME: Duration = Duration::from_secs(3);

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
    pub(crate) fn negotiate(&mut self, now: Instant, signalled: Option<SocketAddr>, signaling: Option<IpAddr>, policy: &Policy) {
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
    pub(crate) fn accept(&mut self, now: Instant, from: SocketAddr, policy: &Policy) -> bool {
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

    /// A packet whose authenticity is proved, whatever its address: NATs rebind without notice. Returns whether its source may be
    /// sent to.
    pub(crate) fn accept_authentic(&mut self, from: SocketAddr, policy: &Policy) -> bool {
        if self.source != Source::Frozen(from) {
            if policy.check(from).is_err() {
                return false;
            }
            self.source = Source::Frozen(from);
        }
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
