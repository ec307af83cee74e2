//! The transport of a WebRTC leg: ICE-lite (RFC 8445 §2.5), DTLS-SRTP (RFC 5763, 5764) and what tells their packets from media
//! (RFC 7983); without ICE, that of a DTLS-SRTP phone. All m-lines are bundled on it, and it knows of none. It knows no SDP beyond
//! the values of attributes, no SIP, and no SRTP beyond its keys. The files beneath: `stun` reads and writes messages, `ice` is the
//! agent, `dtls` and `records` the association (they alone name the WebRTC library, with `certificate`), `demultiplexer` finds the
//! port of a packet where all legs share one UDP port.

mod certificate;
mod demultiplexer;
mod dtls;
mod ice;
mod records;
pub mod stun;

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use bytes::BytesMut;

pub use self::{
    certificate::{Certificate, CertificateError, Fingerprint, FingerprintError, Hash},
    demultiplexer::{Demultiplexer, Leads, MAX_LEARNT, MAX_SOURCES, MAX_UFRAGS, Owner},
    dtls::{Failure, HANDSHAKE_TIMEOUT, Role, SrtpKeys},
    ice::{CONSENT_TIMEOUT, Credentials, CredentialsError, MAX_ADDRESSES, PASSWORD, RESTART_OVERLAP, UFRAG, candidate, thread_of},
};
use self::{
    dtls::{Association, Outcome},
    ice::{Agent, Answer},
};
use super::destination::{self, Policy};

/// Fingerprints of a peer that are looked at; more are passed over.
pub const MAX_FINGERPRINTS: usize = 8;

/// What the peer's SDP says about its transport.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `a=ice-ufrag` and `a=ice-pwd`; None for a peer without ICE.
    pub ice: Option<Credentials>,
    /// Each `a=fingerprint` that could be read. Without any there is no handshake.
    pub fingerprints: Vec<Fingerprint>,
    /// Our role, from both `a=setup`.
    pub role: Role,
    /// Where the SDP says that the peer is. Counts without ICE only: then DTLS and media are taken from and sent to nowhere else.
    pub address: Option<SocketAddr>,
}

/// What was done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// A verified connectivity check: its source is the peer's ([`Demultiplexer::learn`]), and the first so many octets of the
    /// buffer are the response to send back there.
    Checked(usize),
    /// A check that changed nothing: the first so many octets of the buffer are the error response to send back.
    Rejected(usize),
    /// It was the transport's own. [`WebRtc::poll_transmit`] and [`WebRtc::poll_event`] may have something now.
    Consumed,
    /// SRTP or SRTCP from an address of the peer, untouched.
    Media,
    /// It was dropped.
    Refused(Refusal),
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// DTLS or media from an address that no check has verified, or that the SDP does not name.
    #[error("from an address that is not the peer's")]
    Stranger,
    /// Media before there are keys.
    #[error("media before the DTLS handshake is complete")]
    NoKeys,
    /// DTLS before the SDP of the peer is known, or after the handshake has failed.
    #[error("DTLS that nobody waits for")]
    NoAssociation,
    /// A STUN message that cannot be read.
    #[error("{0}")]
    Stun(stun::Fault),
    /// A STUN response: we send no requests.
    #[error("a STUN response to nothing")]
    UnexpectedResponse,
    /// STUN to a port without ICE.
    #[error("a connectivity check without ICE")]
    NoIce,
    /// A check from an address to which nothing may be sent.
    #[error("from {0}")]
    Destination(destination::Refusal),
    /// A first octet that RFC 7983 gives to none of the three.
    #[error("neither STUN nor DTLS nor media")]
    Unknown,
}

/// What the port and signaling are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete and the peer is the one of its SDP. Comes again with other keys after [`WebRtc::set_remote`] with
    /// other fingerprints.
    Connected(SrtpKeys),
    /// There will be no keys. Only [`WebRtc::set_remote`] with another fingerprint or role changes that.
    Failed(Failure),
    /// The peer is somewhere else now, or back after [`Event::Lost`].
    Moved(SocketAddr),
    /// No check for [`CONSENT_TIMEOUT`]: nothing is sent any more.
    Lost,
    /// The peer has closed the DTLS association, as a browser does when its connection is closed. Its keys are not used any more.
    Closed,
}

/// How packets of the peer are known.
#[derive(Debug)]
enum Path {
    Ice(Agent),
    /// Without ICE: the SDP's address.
    Signalled(Option<SocketAddr>),
}

/// What the peer's SDP says that DTLS needs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    fingerprints: Box<[Fingerprint]>,
    role: Role,
}

/// The transport of one port.
#[derive(Debug)]
pub struct WebRtc {
    certificate: Certificate,
    path: Path,
    identity: Option<Identity>,
    /// None while it waits for the SDP, for a valid address, or for the client.
    dtls: Option<Box<Association>>,
    /// What was last said of the destination.
    told: Option<SocketAddr>,
    lost: bool,
    events: VecDeque<Event>,
}

impl WebRtc {
    /// A transport that waits for the peer. With credentials of ours it is an ICE-lite agent, without them a DTLS-SRTP phone's.
    #[must_use]
    pub fn new(certificate: &Certificate, local: Option<Credentials>) -> Self {
        let path = local.map_or(Path::Signalled(None), |local| Path::Ice(Agent::new(local)));
        let certificate = certificate.clone();
        Self { certificate, path, identity: None, dtls: None, told: None, lost: false, events: VecDeque::new() }
    }

    /// Begins an ICE restart with new credentials of ours, before they are sent in an offer or answer. DTLS and keys stay. Until the
    /// peer uses the new credentials the old ones hold, for [`RESTART_OVERLAP`] at most once [`set_remote`](Self::set_remote) has
    /// brought the peer's new ones.
    pub fn restart(&mut self, local: Credentials) {
        match &mut self.path {
            Path::Ice(agent) => agent.restart(local),
            Path::Signalled(_) => {}
        }
    }

    /// Applies the peer's offer or answer. The association and its keys stay while fingerprints and role, and without ICE the
    /// address, are the same (RFC 8842 §4); else a new handshake begins. An address that the policy refuses is none (S19).
    pub fn set_remote(&mut self, now: Instant, remote: &Remote, policy: &Policy) {
        let same_path = match (&mut self.path, &remote.ice) {
            (Path::Ice(agent), Some(credentials)) => {
                agent.set_remote(now, credentials.clone());
                true
            }
            (Path::Ice(_), None) => true,
            (Path::Signalled(address), _) => {
                let next = remote.address.filter(|address| policy.check(*address).is_ok());
                std::mem::replace(address, next) == next
            }
        };
        let fingerprints = remote.fingerprints.iter().take(MAX_FINGERPRINTS).copied().collect();
        let identity = Some(Identity { fingerprints, role: remote.role });
        if self.identity != identity || !same_path {
            (self.identity, self.dtls) = (identity, None);
        }
        self.path_changed(now);
    }

    /// Takes a datagram: the first `length` octets of `buffer`, whose rest is room for a response.
    pub fn handle_packet(&mut self, now: Instant, from: SocketAddr, buffer: &mut [u8], length: usize, policy: &Policy) -> Handled {
        match buffer.first().filter(|_| length > 0) {
            Some(0..=3) => self.handle_stun(now, from, buffer, length, policy),
            Some(20..=63 | 128..=191) if !self.is_peer(now, from) => Handled::Refused(Refusal::Stranger),
            Some(20..=63) => self.handle_dtls(now, buffer.get(..length).unwrap_or_default()),
            Some(128..=191) if self.has_keys() => Handled::Media,
            Some(128..=191) => Handled::Refused(Refusal::NoKeys),
            Some(_) | None => Handled::Refused(Refusal::Unknown),
        }
    }

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, buffer: &mut [u8], length: usize, policy: &Policy) -> Handled {
        let Path::Ice(agent) = &mut self.path else { return Handled::Refused(Refusal::NoIce) };
        match agent.handle_packet(now, from, buffer, length, policy) {
            Ok(Answer::Success(length)) => {
                self.path_changed(now);
                Handled::Checked(length)
            }
            Ok(Answer::Error(length)) => Handled::Rejected(length),
            Ok(Answer::Nothing) => Handled::Consumed,
            Err(refusal) => Handled::Refused(refusal),
        }
    }

    fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) -> Handled {
        if self.dtls.is_none() {
            self.associate(now);
        }
        let Some(association) = self.dtls.as_mut().filter(|association| !association.is_over()) else {
            return Handled::Refused(Refusal::NoAssociation);
        };
        let outcome = association.handle_packet(now, datagram);
        self.conclude(outcome);
        Handled::Consumed
    }

    /// Makes the association, once it is known whose certificate is expected.
    fn associate(&mut self, now: Instant) {
        let Some(identity) = self.identity.as_ref().filter(|identity| !identity.fingerprints.is_empty()) else { return };
        self.dtls = Some(Box::new(Association::new(now, &self.certificate, identity.role, &identity.fingerprints)));
    }

    fn conclude(&mut self, outcome: Outcome) {
        self.events.extend(match outcome {
            Outcome::Pending => None,
            Outcome::Connected(keys) => Some(Event::Connected(*keys)),
            Outcome::Closed => Some(Event::Closed),
            Outcome::Failed(failure) => Some(Event::Failed(failure)),
        });
    }

    /// Media from there was authentic.
    pub fn heard(&mut self, now: Instant, from: SocketAddr) {
        if let Path::Ice(agent) = &mut self.path {
            agent.heard(now, from);
            if self.told != self.destination() {
                self.path_changed(now);
            }
        }
    }

    /// Whether a packet from there is the peer's.
    fn is_peer(&self, now: Instant, from: SocketAddr) -> bool {
        match &self.path {
            Path::Ice(agent) => agent.is_valid(now, from),
            Path::Signalled(address) => *address == Some(from),
        }
    }

    fn has_keys(&self) -> bool {
        self.dtls.as_ref().is_some_and(|association| association.is_connected())
    }

    /// Where packets to the peer go: the nominated pair, or before that the first valid one; without ICE the SDP's address.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        match &self.path {
            Path::Ice(agent) => agent.selected(),
            Path::Signalled(address) => *address,
        }
    }

    /// Begins the handshake when there is somebody to begin it with, and tells of a new address.
    fn path_changed(&mut self, now: Instant) {
        let destination = self.destination();
        match (self.told, destination) {
            (Some(old), Some(new)) if old != new => self.events.push_back(Event::Moved(new)),
            (None, Some(new)) if self.lost => self.events.push_back(Event::Moved(new)),
            (Some(_), None) => self.events.push_back(Event::Lost),
            (Some(_) | None, _) => {}
        }
        self.lost |= self.told.is_some() && destination.is_none();
        self.lost &= destination.is_none();
        self.told = destination;
        let is_client = self.identity.as_ref().is_some_and(|identity| identity.role == Role::Client);
        if self.dtls.is_none() && destination.is_some() && is_client {
            self.associate(now);
        }
    }

    /// A datagram of the handshake, and where it goes.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, BytesMut)> {
        let destination = self.destination();
        let datagram = self.dtls.as_mut()?.poll_transmit()?;
        // What cannot be sent is lost like any other datagram, and retransmitted.
        destination.map(|destination| (destination, datagram))
    }

    /// What to tell the port and signaling.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Time has passed. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(association) = &mut self.dtls {
            let outcome = association.handle_timeout(now);
            self.conclude(outcome);
        }
        if let Path::Ice(agent) = &mut self.path {
            agent.handle_timeout(now);
            self.path_changed(now);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(|association| association.poll_timeout());
        let ice = match &self.path {
            Path::Ice(agent) => agent.poll_timeout(),
            Path::Signalled(_) => None,
        };
        dtls.into_iter().chain(ice).min()
    }

    /// What a leg without media waits for, in plain words.
    #[must_use]
    pub fn awaits(&self) -> Option<&'static str> {
        match (&self.dtls, self.destination(), &self.identity) {
            (Some(association), Some(_), _) if association.is_connected() => None,
            (Some(association), ..) if association.is_over() => Some("the DTLS handshake has failed, or the peer has closed"),
            (_, _, None) => Some("the peer's SDP has not come"),
            (_, _, Some(identity)) if identity.fingerprints.is_empty() => Some("the peer's SDP has no fingerprint that can be checked"),
            (_, None, _) if self.lost => Some("connectivity checks have stopped"),
            (_, None, _) => Some("no connectivity check has come"),
            (None, ..) => Some("the peer has not begun the DTLS handshake"),
            (Some(_), ..) => Some("the DTLS handshake is not complete"),
        }
    }
}
