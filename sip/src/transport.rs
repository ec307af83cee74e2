//! Transports and flows (RFC 3261 §18, RFC 5626 §3, RFC 7118) as values. Sockets live in the host program.

use std::fmt;
use std::net::SocketAddr;

use bytestring::ByteString;

use crate::message::Via;

/// A transport protocol of SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// UDP: unreliable, one message a datagram.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// Secure WebSocket (RFC 7118).
    Wss,
}

impl Transport {
    /// Every transport, in the order of the configuration file.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Returns true where the transport itself repeats lost data, so that timers A, E and G stay off (§17).
    #[must_use]
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }

    /// Returns true for TLS and secure WebSocket.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Returns true for the two WebSocket transports, where a message is a frame.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Returns the default port: 5060, 5061 for TLS (§18.2.1), 80 and 443 for WebSocket.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Returns the token of a Via header: `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// Returns the value of a URI's `transport` parameter: `udp`, `tcp`, `tls`, `ws`, `wss`.
    #[must_use]
    pub fn param(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Reads a token of a Via header or a `transport` parameter, in any case.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.token().eq_ignore_ascii_case(token))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// Names one connection of a stream transport; never used twice while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// One path to a peer (RFC 5626 §3.2): a connection, or for UDP the pair of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// Our address: the listener that took the message or the connection.
    pub local: SocketAddr,
    /// The peer's address, as seen in the packet.
    pub remote: SocketAddr,
    /// The connection; none for UDP.
    pub connection: Option<ConnectionId>,
}

impl Flow {
    /// Returns true if what comes by another flow is from the same peer: by the same connection; without one from the same host, whose NAT
    /// may give it another port at any time, and which turns to a stream for what is long (RFC 3261 §18.1.1).
    #[must_use]
    pub fn is_of_same_peer(&self, other: &Self) -> bool {
        match self.connection {
            Some(connection) => other.connection == Some(connection),
            None => self.remote.ip() == other.remote.ip(),
        }
    }
}

/// Where a request goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Along a flow that is there: a registered device's, or the one a request came by (RFC 5626 §5.3).
    Flow(Flow),
    /// To an address; for streams over any connection there is, else a new one.
    Address {
        /// The transport.
        transport: Transport,
        /// The address.
        remote: SocketAddr,
        /// The name that a certificate has to prove; none for a literal address.
        name: Option<ByteString>,
    },
}

impl Hop {
    /// Returns the transport.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self {
            Self::Flow(flow) => flow.transport,
            Self::Address { transport, .. } => *transport,
        }
    }

    /// Returns the peer's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        match self {
            Self::Flow(flow) => flow.remote,
            Self::Address { remote, .. } => *remote,
        }
    }
}

/// The addresses we listen on: what Via and Contact name.
#[derive(Clone, Debug, Default)]
pub struct Listeners(pub Vec<(Transport, SocketAddr)>);

impl Listeners {
    /// Returns the listener that a peer behind this hop can reach us at. Requests to it leave from there, too.
    #[must_use]
    pub fn towards(&self, hop: &Hop) -> Option<SocketAddr> {
        let transport = hop.transport();
        let ours = || self.0.iter().filter(|(t, _)| *t == transport).map(|(_, address)| *address);
        if let Hop::Flow(flow) = hop {
            let exact = ours().find(|address| *address == flow.local).or_else(|| ours().find(|a| a.ip() == flow.local.ip()));
            if exact.is_some() {
                return exact;
            }
        }
        let remote = hop.remote();
        ours()
            .find(|a| a.ip().is_loopback() == remote.ip().is_loopback() && a.is_ipv4() == remote.is_ipv4())
            .or_else(|| ours().find(|a| a.is_ipv4() == remote.is_ipv4()))
    }

    /// Returns true if a message to this address would reach ourselves.
    #[must_use]
    pub fn is_ours(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|(_, a)| *a == address)
    }
}

/// The listeners as text, for Via and Contact: made once, written into each message.
#[derive(Debug)]
pub(crate) struct Names {
    listeners: Listeners,
    texts: Vec<NameOf>,
}

#[derive(Debug)]
struct NameOf {
    transport: Transport,
    address: SocketAddr,
    /// Up to what makes a branch its own.
    via: String,
    contact: String,
}

impl Names {
    pub(crate) fn new(listeners: Listeners) -> Self {
        let of = |&(transport, address): &(Transport, SocketAddr)| NameOf {
            transport,
            address,
            via: format!("SIP/2.0/{transport} {address};rport;branch={}", Via::COOKIE),
            contact: contact(transport, &address.to_string()),
        };
        let texts = listeners.0.iter().map(of).collect();
        Self { listeners, texts }
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    fn towards(&self, hop: &Hop) -> Option<&NameOf> {
        let (transport, address) = (hop.transport(), self.listeners.towards(hop)?);
        self.texts.iter().find(|name| name.transport == transport && name.address == address)
    }

    /// Returns the beginning of our Via towards a hop, up to what makes its branch our own.
    pub(crate) fn via(&self, hop: &Hop) -> String {
        let none = || format!("SIP/2.0/{} {NOWHERE};rport;branch={}", hop.transport(), Via::COOKIE);
        self.towards(hop).map_or_else(none, |name| name.via.clone())
    }

    /// Returns the Contact that a peer behind this hop can reach us at.
    pub(crate) fn contact(&self, hop: &Hop) -> String {
        self.towards(hop).map_or_else(|| contact(hop.transport(), NOWHERE), |name| name.contact.clone())
    }
}

/// What we are called towards a peer that none of our listeners can hear: answers find the flow all the same.
const NOWHERE: &str = "invalid.invalid";

fn contact(transport: Transport, ours: &str) -> String {
    if transport == Transport::Udp { format!("<sip:{ours}>") } else { format!("<sip:{ours};transport={}>", transport.param()) }
}
