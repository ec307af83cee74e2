//! The next hop of a URI (RFC 3263, RFC 2782, RFC 7118 §5): a machine that asks for DNS records and ends with an ordered list of addresses.
//! It sends no query itself and tries no address: the caller asks, and goes down the list until one takes the request.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytestring::ByteString;

use crate::message::{Host, Uri};
use crate::transport::Transport;

/// A kind of DNS record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// NAPTR (RFC 3403).
    Naptr,
    /// SRV (RFC 2782).
    Srv,
    /// A.
    A,
    /// AAAA.
    Aaaa,
}

/// A look-up for the caller to make.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// The kind of record.
    pub kind: RecordKind,
    /// The domain name, in lower case, without a dot at the end.
    pub name: ByteString,
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// NAPTR (RFC 3403 §4.1).
    Naptr {
        /// First to be used: the lowest.
        order: u16,
        /// Among the same order: the lowest first.
        preference: u16,
        /// Such as `s`.
        flags: ByteString,
        /// Such as `SIP+D2U`.
        service: ByteString,
        /// The name to ask for next.
        replacement: ByteString,
    },
    /// SRV (RFC 2782).
    Srv {
        /// First to be used: the lowest.
        priority: u16,
        /// Share among the same priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host name; `.` for "no such service".
        target: ByteString,
    },
    /// An address of A or AAAA.
    Address(IpAddr),
    /// The name is another one's alias; for resolvers that do not follow it themselves.
    Cname(ByteString),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records; an empty list means there are none of that kind, or no such name.
    Records(Vec<Record>),
    /// No answer: time-out, refusal or a broken one.
    Failed,
}

/// Which targets may be used (S17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Any unicast address: for URIs that we or our users' bindings name.
    Any,
    /// No loopback, private, shared, link-local or otherwise special address: for URIs that strangers name.
    Public,
}

/// Whether names may be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// They may.
    On,
    /// Only literal addresses are reachable.
    Off,
}

/// How to look for a next hop.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether names may be looked up.
    pub dns: Dns,
    /// Which targets may be used.
    pub permit: Permit,
    /// The transports we can send on, the preferred one first.
    pub transports: Vec<Transport>,
    /// The kinds of address we can send to (A, AAAA), the preferred one first.
    pub families: Vec<RecordKind>,
}

/// An address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The transport.
    pub transport: Transport,
    /// The address.
    pub address: SocketAddr,
    /// What the certificate of a secure transport must be for: the host of the URI, never a name that DNS led to (RFC 5922 §7).
    pub server_name: Host,
}

/// Why there is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// The URI has no host, as `tel:`.
    #[error("the URI names no host")]
    NoHost,
    /// The URI names a transport that we do not have, or needs a secure one.
    #[error("no transport for this URI")]
    NoTransport,
    /// Names are not looked up here.
    #[error("{0} is a name, and look-ups are switched off (sip.dns)")]
    DnsOff(ByteString),
    /// DNS knows no address.
    #[error("{0} has no address")]
    NotFound(ByteString),
    /// DNS did not answer.
    #[error("no answer from DNS for {0}")]
    NoAnswer(ByteString),
    /// All addresses are of a kind that is not permitted.
    #[error("the addresses of {0} are not permitted")]
    Forbidden(ByteString),
}

/// What [`Locate`] takes.
#[derive(Clone, Debug)]
pub enum Input {
    /// The answer to a question that was asked.
    Answer(Question, Answer),
}

/// What [`Locate`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look this up.
    Ask(Question),
    /// The end: addresses in the order to try them, at least one.
    Found(Vec<Target>),
    /// The end.
    Failed(LocateError),
}

/// Looks for the next hop of one URI.
#[derive(Debug)]
pub struct Locate {}

impl Locate {
    /// Starts the search. `random` decides between SRV records of the same priority (RFC 2782).
    #[must_use]
    pub fn new(now: Instant, uri: &Uri, policy: &Policy, random: u64) -> Self {
        let _ = (now, uri, policy, random);
        todo!()
    }

    /// Takes an answer; one that was not asked for changes nothing.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// Ends the search with what is there when time is up.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// Returns when to call [`Locate::handle_timeout`]; none after the end.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
}
