//! Flows within the process: by them the messages of thin clients ([`crate::thin`]) go between two SIP endpoints, and no socket has them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sip::registrar::Received;
use sip::{ConnectionId, Flow, Transport};

/// The bit that connections in memory have: the network counts its own up from one.
const INSIDE: u64 = 1 << 63;
/// The discard-only prefix 100::/64 (RFC 6666): nothing on any network has such an address.
const PREFIX: [u16; 4] = [0x100, 0, 0, 0];
/// The port that the addresses are shown with.
const PORT: u16 = 5060;

/// Returns the flow of a login's application. It is one of a secure WebSocket: what comes by it is a browser, to be offered WebRTC.
#[must_use]
pub fn flow(login: u64) -> Flow {
    let at = |number: u64| {
        let [a, b, c, d] = PREFIX;
        let low = |shift: u32| u16::try_from(number >> shift & 0xffff).expect("sixteen bits fit");
        SocketAddr::new(Ipv6Addr::new(a, b, c, d, low(48), low(32), low(16), low(0)).into(), PORT)
    };
    Flow { transport: Transport::Wss, local: at(0), remote: at(login), connection: Some(ConnectionId(INSIDE | login)) }
}

/// Returns the login whose application has a flow; none for those of the network.
#[must_use]
pub fn login_of(flow: &Flow) -> Option<u64> {
    flow.connection.map(|ConnectionId(number)| number).filter(|number| number & INSIDE != 0).map(|number| number & !INSIDE)
}

/// Returns true for where a thin client registers from: its binding is not kept, and its media runs through the switch.
#[must_use]
pub fn is_inside(received: &Received) -> bool {
    is_address(received.remote.ip())
}

/// Returns true for the address of a thin client.
#[must_use]
pub fn is_address(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.segments().get(..4) == Some(&PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_names_its_login_and_no_other_flow_does() {
        for login in [1, 0xffff, 1 << 40, INSIDE - 1] {
            assert_eq!(login_of(&flow(login)), Some(login));
            assert!(is_inside(&Received::from(&flow(login))));
        }
        assert_ne!(flow(1).remote, flow(1 << 16).remote);
        let outside = Flow { connection: Some(ConnectionId(1)), ..flow(1) };
        assert_eq!(login_of(&outside), None);
        let remote = "[100:0:0:1::1]:5060".parse().unwrap();
        assert!(!is_inside(&Received { remote, ..Received::from(&outside) }));
    }
}
