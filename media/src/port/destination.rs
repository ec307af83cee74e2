//! Where media may be sent at all (security row S19): an SDP, or the source of a packet, must not turn us against our own
//! inside. Everything that a port sends to has passed [`Policy::check`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Why media is not sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Port 0 or an unspecified address.
    #[error("no address")]
    Unspecified,
    /// 127.0.0.0/8 or ::1.
    #[error("a loopback address")]
    Loopback,
    /// 169.254.0.0/16 or fe80::/10.
    #[error("a link-local address")]
    LinkLocal,
    /// 224.0.0.0/4 or ff00::/8.
    #[error("a multicast address")]
    Multicast,
    /// 255.255.255.255 and what is reserved beside it.
    #[error("a broadcast or reserved address")]
    Broadcast,
    /// An address that we ourselves listen on.
    #[error("an address of this server")]
    Own,
    /// An IPv6 address for an IPv4 port, or the other way round.
    #[error("an address of the other IP version")]
    Family,
}

/// Whether media may go to loopback addresses: only in tests, and where the media address itself is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

/// The rules for one media address of ours.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Loopback addresses.
    pub loopback: Loopback,
    /// Our own addresses: where the ports are bound, and what is advertised for them.
    pub own: Vec<IpAddr>,
    /// The ports that are ours on those.
    pub ports: Arc<PortSet>,
    /// Other sockets of ours: the one that all WebRTC shares, SIP, HTTP, management.
    pub listeners: Vec<SocketAddr>,
}

impl Policy {
    /// Whether media may be sent there.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check(&self, to: SocketAddr) -> Result<(), Refusal> {
        let ip = to.ip().to_canonical();
        match ip {
            _ if to.port() == 0 || ip.is_unspecified() => return Err(Refusal::Unspecified),
            _ if ip.is_loopback() && self.loopback == Loopback::Refused => {
                return Err(Refusal::Loopback);
            }
            _ if ip.is_multicast() => return Err(Refusal::Multicast),
            IpAddr::V4(ip) => check_v4(ip)?,
            IpAddr::V6(ip) => self.check_v6(ip)?,
        }
        // A listener on every address is on those that are ours.
        let ours = |own: IpAddr| own == ip || own.is_unspecified() && self.own.contains(&ip);
        if self.listeners.iter().any(|own| own.port() == to.port() && ours(own.ip())) {
            return Err(Refusal::Own);
        }
        if self.own.contains(&ip) && self.ports.is_ours(to.port()) {
            return Err(Refusal::Own);
        }
        match self.own.first() {
            Some(own) if own.is_ipv4() != ip.is_ipv4() => Err(Refusal::Family),
            Some(_) | None => Ok(()),
        }
    }

    fn check_v6(&self, ip: Ipv6Addr) -> Result<(), Refusal> {
        if ip.is_unicast_link_local() {
            return Err(Refusal::LinkLocal);
        }
        // IPv4 inside IPv6: ::a.b.c.d, 64:ff9b::/96 (RFC 6052) and 2002::/16 (RFC 3056) must not lead where IPv4 may not.
        let inside = match ip.segments() {
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some((high, low)),
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some((high, low)),
            _ => None,
        };
        let Some((high, low)) = inside else {
            return Ok(());
        };
        let inside = Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
        match inside {
            _ if inside.is_loopback() && self.loopback == Loopback::Refused => Err(Refusal::Loopback),
            _ if inside.is_multicast() => Err(Refusal::Multicast),
            _ => check_v4(inside),
        }
    }
}

fn check_v4(ip: Ipv4Addr) -> Result<(), Refusal> {
    match ip.octets() {
        [0, ..] => Err(Refusal::Unspecified),
        [240..=255, ..] => Err(Refusal::Broadcast),
        _ if ip.is_link_local() => Err(Refusal::LinkLocal),
        _ => Ok(()),
    }
}

/// The UDP ports of ours, and which of them we have open, a bit each. Whoever opens ports claims them here; media threads only look.
#[derive(Debug, Default)]
pub struct PortSet {
    open: Bits,
    /// Those that we may open: closed ones are no destination either, for the next call may have them.
    ours: Option<RangeInclusive<u16>>,
}

#[derive(Debug)]
struct Bits([AtomicU64; 1024]);

impl Default for Bits {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 1024])
    }
}

impl PortSet {
    /// Makes the set of a range of ports, none of which is open.
    #[must_use]
    pub fn of(ours: RangeInclusive<u16>) -> Self {
        Self { ours: Some(ours), ..Self::default() }
    }

    /// Whether a port is one of ours, open or not.
    #[must_use]
    pub fn is_ours(&self, port: u16) -> bool {
        self.ours.as_ref().is_some_and(|ours| ours.contains(&port)) || self.contains(port)
    }

    fn place(port: u16) -> (usize, u64) {
        (usize::from(port >> 6), 1 << (port & 63))
    }

    /// Takes a port; false when it is taken already.
    #[must_use]
    pub fn claim(&self, port: u16) -> bool {
        let (word, bit) = Self::place(port);
        self.open.0.get(word).is_some_and(|word| word.fetch_or(bit, Ordering::AcqRel) & bit == 0)
    }

    /// Gives a port back.
    pub fn release(&self, port: u16) {
        let (word, bit) = Self::place(port);
        if let Some(word) = self.open.0.get(word) {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Whether a port is taken.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let (word, bit) = Self::place(port);
        self.open.0.get(word).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(own: &str, loopback: Loopback) -> Policy {
        let listeners = vec!["192.0.2.100:5060".parse().unwrap(), "0.0.0.0:8443".parse().unwrap()];
        Policy { loopback, own: vec![own.parse().unwrap()], ports: Arc::default(), listeners }
    }

    fn check(policy: &Policy, to: &str) -> Result<(), Refusal> {
        policy.check(to.parse().unwrap())
    }

    #[test]
    fn media_is_not_sent_inside() {
        // S19
        let v4 = policy("192.0.2.100", Loopback::Refused);
        for (to, refusal) in [
            ("127.0.0.1:4000", Refusal::Loopback),
            ("127.255.1.9:4000", Refusal::Loopback),
            ("0.0.0.0:4000", Refusal::Unspecified),
            ("0.1.2.3:4000", Refusal::Unspecified),
            ("203.0.113.1:0", Refusal::Unspecified),
            ("169.254.169.254:80", Refusal::LinkLocal),
            ("224.0.0.1:4000", Refusal::Multicast),
            ("239.255.255.255:4000", Refusal::Multicast),
            ("240.0.0.1:4000", Refusal::Broadcast),
            ("255.255.255.255:4000", Refusal::Broadcast),
            ("[::ffff:127.0.0.1]:4000", Refusal::Loopback),
            ("[::ffff:169.254.169.254]:80", Refusal::LinkLocal),
            ("[2001:db8::1]:4000", Refusal::Family),
            ("192.0.2.100:5060", Refusal::Own),
            ("192.0.2.100:8443", Refusal::Own),
        ] {
            assert_eq!(check(&v4, to), Err(refusal), "{to}");
        }
        let v6 = policy("2001:db8::100", Loopback::Refused);
        for (to, refusal) in [
            ("[::1]:4000", Refusal::Loopback),
            ("[::]:4000", Refusal::Unspecified),
            ("[fe80::1]:4000", Refusal::LinkLocal),
            ("[ff02::1]:4000", Refusal::Multicast),
            ("[::127.0.0.1]:4000", Refusal::Loopback),
            ("[64:ff9b::127.0.0.1]:4000", Refusal::Loopback),
            ("[64:ff9b::169.254.169.254]:4000", Refusal::LinkLocal),
            ("[2002:7f00:1::]:4000", Refusal::Loopback),
            ("[2002:e000:1::]:4000", Refusal::Multicast),
            ("203.0.113.1:4000", Refusal::Family),
        ] {
            assert_eq!(check(&v6, to), Err(refusal), "{to}");
        }
    }

    #[test]
    fn media_is_sent_to_everybody_else() {
        let v4 = policy("192.0.2.100", Loopback::Refused);
        for to in ["203.0.113.1:4000", "10.0.0.5:4000", "192.0.2.101:5060", "203.0.113.1:8443", "192.0.2.100:4000"] {
            assert_eq!(check(&v4, to), Ok(()), "{to}");
        }
        assert_eq!(check(&policy("2001:db8::100", Loopback::Refused), "[2001:db8::5]:4000"), Ok(()));
        assert_eq!(check(&policy("127.0.0.1", Loopback::Allowed), "127.0.0.1:4000"), Ok(()));
    }

    #[test]
    fn our_ports_are_no_destination() {
        // S19: two ports of ours pointed at each other would be a loop, and one that is closed may be the next call's
        let mut policy = policy("192.0.2.100", Loopback::Refused);
        policy.ports = Arc::new(PortSet::of(20000..=20999));
        for (to, allowed) in
            [("192.0.2.100:20000", false), ("192.0.2.100:20999", false), ("192.0.2.100:21000", true), ("192.0.2.9:20000", true)]
        {
            assert_eq!(check(&policy, to).is_ok(), allowed, "{to}");
        }
    }

    #[test]
    fn our_open_ports_are_no_destination() {
        // S19
        let policy = policy("192.0.2.100", Loopback::Refused);
        assert!(policy.ports.claim(20000));
        assert!(!policy.ports.claim(20000), "taken once");
        assert_eq!(check(&policy, "192.0.2.100:20000"), Err(Refusal::Own));
        assert_eq!(check(&policy, "192.0.2.101:20000"), Ok(()));
        policy.ports.release(20000);
        assert_eq!(check(&policy, "192.0.2.100:20000"), Ok(()));
        assert!(policy.ports.claim(0) && policy.ports.claim(65535) && policy.ports.contains(65535));
    }
}
