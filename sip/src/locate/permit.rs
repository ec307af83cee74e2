//! Which addresses may be a target (S17): a name or a URI of a stranger must not lead us to our own inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Permit;

pub(super) fn allows(permit: Permit, ip: IpAddr) -> bool {
    is_host(ip)
        && match permit {
            Permit::Any => true,
            Permit::Public => is_public(ip),
        }
}

/// Returns true for an address that one host can have: not for all, for none, or for a group.
pub(crate) fn is_host(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// The special-purpose blocks of RFC 6890 that lead inside or nowhere; those for documentation lead nowhere and harm nobody.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || a == 0
        || a >= 224
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18);
    !is_special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // An IPv4 address inside leads where that leads: compatible (::/96), NAT64 (RFC 6052), 6to4 (RFC 3056).
    let embedded = match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = embedded {
        return is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    }
    let first = ip.segments()[0];
    let is_special = first & 0xfe00 == 0xfc00 || first & 0xff80 == 0xfe80 || first & 0xff00 == 0xff00;
    !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_lead_to_public_addresses_only() {
        // S17
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::ffff:169.254.169.254",
        ] {
            assert!(!allows(Permit::Public, text.parse().unwrap()), "{text}");
        }
        for text in ["9.9.9.9", "192.0.2.1", "100.63.0.1", "100.128.0.1", "198.20.0.1", "2001:db8::1", "64:ff9b::909:909", "2a00::1"] {
            assert!(allows(Permit::Public, text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_never_a_target() {
        for text in ["0.0.0.0", "255.255.255.255", "239.1.1.1", "::", "ff02::1", "::ffff:0.0.0.0"] {
            assert!(!allows(Permit::Any, text.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "::1", "fe80::1"] {
            assert!(allows(Permit::Any, text.parse().unwrap()), "{text}");
        }
    }
}
