//! One DTLS 1.2 association (RFC 6347) and the SRTP keys that come out of it (RFC 5764). The handshake is the library's; ours are
//! the retransmission timer, what it does when the handshake breaks, and the comparison of the peer's certificate with the
//! fingerprints of its SDP, without which no key leaves this file (security row S1). It knows no ICE: whoever owns it gives it only
//! datagrams from addresses that are the peer's.

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc_dtls::{
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};

use super::{
    certificate::{Certificate, Fingerprint, matches},
    records::{Intake, first_message, kind},
};
use crate::rtp::srtp::{DTLS_LABEL, Keys, Profile};

/// How long a handshake may take before the port has failed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// The first wait for an answer; it doubles with each retransmission of a flight. RFC 6347 §4.2.4.1 begins with a second and lets those
/// in a hurry take less: our first ClientHello may come before the peer listens.
const RETRANSMIT: Duration = Duration::from_millis(100);
/// Retransmissions of one flight: the library gives up after them, and the last comes 13 s after the flight.
const MAX_RETRANSMITS: u8 = 7;
/// A peer that repeats itself within this time of our flight has not had time to get it.
const REPEAT_PAUSE: Duration = Duration::from_millis(200);
/// The library's own retransmission interval, out of the way: its timer has no backoff and dies when it hears a repeat.
pub(super) const STEP: Duration = Duration::from_secs(3600);
/// Broken handshakes of one association, each followed by a new one until this bound or [`HANDSHAKE_TIMEOUT`].
const MAX_ATTEMPTS: u8 = 8;
/// The library wants an address for each peer; ours has one peer, whose address changes without it.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// Who sends the ClientHello: the meaning of `a=setup` (RFC 8842 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `active`
    Client,
    /// `passive`
    Server,
}

impl Role {
    /// Our role as the answerer of an offer with this `a=setup`; None for other values. To `actpass` the answer is `active`: our
    /// ClientHello leaves with the answer to the peer's first check instead of one round trip after it, no HelloVerifyRequest takes
    /// another, it is ours that must fit into one datagram, and a stranger's ClientHello (S1) cannot mean anything to us.
    #[must_use]
    pub fn answering(offered: &str) -> Option<Self> {
        match offered {
            "actpass" | "passive" => Some(Self::Client),
            "active" => Some(Self::Server),
            _ => None,
        }
    }

    /// Our role as the offerer of `actpass` when the answer has this `a=setup`; None for other values.
    #[must_use]
    pub fn offering(answered: &str) -> Option<Self> {
        match answered {
            "active" => Some(Self::Server),
            "passive" => Some(Self::Client),
            _ => None,
        }
    }

    /// The value of `a=setup` that says this.
    #[must_use]
    pub fn setup(self) -> &'static str {
        match self {
            Self::Client => "active",
            Self::Server => "passive",
        }
    }
}

/// The SRTP keys of both directions. They are not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrtpKeys {
    /// For what we send.
    pub send: Keys,
    /// For what the peer sends.
    pub receive: Keys,
}

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The peer has proved to own a certificate, but not one that its SDP names.
    #[error("the peer's certificate is not the one that its SDP names")]
    Fingerprint,
    /// The peer wants DTLS without SRTP, or with profiles that we do not have.
    #[error("no common SRTP protection profile")]
    Profile,
    /// No handshake was completed in [`HANDSHAKE_TIMEOUT`], or too many broke.
    #[error("the DTLS handshake was not completed: {0}")]
    Handshake(String),
}

/// What a datagram or the passing of time led to.
#[derive(Debug)]
pub(super) enum Outcome {
    Pending,
    Connected(Box<SrtpKeys>),
    /// The peer has said, protected by the keys, that it is gone.
    Closed,
    Failed(Failure),
}

/// The association.
pub(super) struct Association {
    endpoint: Endpoint,
    certificate: Certificate,
    fingerprints: Box<[Fingerprint]>,
    role: Role,
    intake: Intake,
    progress: Progress,
    /// When the peer's last chance is over.
    deadline: Instant,
    attempts: u8,
    sent: Instant,
    /// When to retransmit, and how often that was done with this flight.
    retransmit: Option<Instant>,
    retransmits: u8,
    /// HelloVerifyRequest, which the library does not repeat by itself. As a copy of the first it is a duplicate like any other.
    verify_request: Option<BytesMut>,
    queue: VecDeque<BytesMut>,
    fault: Option<String>,
}

/// How far the handshake is, as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Hellos are exchanged.
    Hello,
    /// Our flight with a certificate or key is out: 4 of a server, 5 of a client.
    Flight,
    Connected,
    Over,
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association").field("role", &self.role).field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Association {
    /// Begins: as a client with a ClientHello.
    pub(super) fn new(now: Instant, certificate: &Certificate, role: Role, fingerprints: &[Fingerprint]) -> Self {
        let mut association = Self {
            endpoint: endpoint(certificate, role),
            certificate: certificate.clone(),
            fingerprints: fingerprints.into(),
            role,
            intake: Intake::default(),
            progress: Progress::Hello,
            deadline: now + HANDSHAKE_TIMEOUT,
            attempts: 0,
            sent: now,
            retransmit: None,
            retransmits: 0,
            verify_request: None,
            queue: VecDeque::new(),
            fault: None,
        };
        association.begin(now);
        association
    }

    fn begin(&mut self, now: Instant) {
        if self.role == Role::Client {
            if let Err(error) = self.endpoint.connect(now, PEER, self.certificate.client.clone(), None) {
                self.fault = Some(error.to_string());
            }
            self.look_at_flight(now);
        }
    }

    /// A handshake that broke without proof of who broke it is begun anew.
    fn broken(&mut self, now: Instant, fault: String) -> Outcome {
        self.fault = Some(fault);
        self.attempts += 1;
        if self.attempts >= MAX_ATTEMPTS {
            return self.fail();
        }
        self.endpoint = endpoint(&self.certificate, self.role);
        self.intake.begin_again();
        self.progress = Progress::Hello;
        (self.retransmit, self.verify_request) = (None, None);
        // A client's next ClientHello waits, so that a flood cannot make a stream of them.
        if self.role == Role::Client {
            self.sent = now;
            self.retransmit = Some(now + RETRANSMIT);
        }
        Outcome::Pending
    }

    fn fail(&mut self) -> Outcome {
        let alert = self.intake.alert.map(|alert| format!("the peer sent alert {alert}"));
        let reason = self.fault.take().or(alert).unwrap_or_else(|| "no answer".to_owned());
        self.over(Outcome::Failed(Failure::Handshake(reason)))
    }

    fn over(&mut self, outcome: Outcome) -> Outcome {
        self.progress = Progress::Over;
        self.retransmit = None;
        outcome
    }

    /// Takes a datagram of the peer's address.
    pub(super) fn handle_packet(&mut self, now: Instant, datagram: &[u8]) -> Outcome {
        if self.progress == Progress::Over {
            return Outcome::Pending;
        }
        let mut records = Vec::new();
        let seen = self.intake.take(datagram, &mut records);
        if let Some(repeated) = seen.repeated {
            self.repeated(now, repeated);
        }
        if records.is_empty() {
            return Outcome::Pending;
        }
        let outcome = self.read(now, &records);
        // Now the library has what it needs to read protected records: a server the client's key and proof, a client its own flight.
        let keyed = match self.role {
            Role::Server => seen.delivered == Some(kind::CERTIFICATE_VERIFY),
            Role::Client => self.progress == Progress::Flight,
        };
        if keyed && matches!(outcome, Outcome::Pending) {
            let mut held = Vec::new();
            self.intake.open(&mut held);
            if !held.is_empty() {
                return self.read(now, &held);
            }
        }
        outcome
    }

    fn read(&mut self, now: Instant, records: &[u8]) -> Outcome {
        let before = self.progress;
        let events = self.endpoint.read(now, PEER, None, BytesMut::from(records));
        let outcome = match events {
            Ok(events) => self.events(now, events),
            Err(error) if before == Progress::Connected => {
                // An alert that only the peer can have made.
                self.fault = Some(error.to_string());
                self.over(Outcome::Closed)
            }
            Err(error) => self.broken(now, error.to_string()),
        };
        match self.progress {
            Progress::Hello | Progress::Flight => self.look_at_flight(now),
            Progress::Connected | Progress::Over => _ = self.drain(),
        }
        outcome
    }

    fn events(&mut self, now: Instant, events: Vec<EndpointEvent>) -> Outcome {
        let mut outcome = Outcome::Pending;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => outcome = self.complete(now),
                EndpointEvent::PeerClosed if self.progress == Progress::Connected => outcome = self.over(Outcome::Closed),
                EndpointEvent::PeerClosed => return self.broken(now, "the peer closed the association".to_owned()),
                // Data channels are not offered; what comes is dropped.
                EndpointEvent::ApplicationData(_) => {}
                // The library's enum may grow.
                _ => {}
            }
        }
        outcome
    }

    /// The handshake is complete. The keys are given out only if the SDP names the certificate that was proved.
    fn complete(&mut self, now: Instant) -> Outcome {
        let keys = match self.export() {
            Ok(keys) => keys,
            Err(failure) => {
                self.endpoint.stop(now, PEER);
                return self.over(Outcome::Failed(failure));
            }
        };
        self.progress = Progress::Connected;
        (self.retransmit, self.verify_request) = (None, None);
        self.intake.complete(self.role == Role::Server);
        Outcome::Connected(Box::new(keys))
    }

    fn export(&self) -> Result<SrtpKeys, Failure> {
        let state = self.endpoint.get_connection_state(PEER).ok_or_else(|| Failure::Handshake("no association".to_owned()))?;
        let certificate = state.peer_certificates.first().ok_or(Failure::Fingerprint)?;
        if !matches(certificate, &self.fingerprints) {
            return Err(Failure::Fingerprint);
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow, and only these were offered")]
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::AesCm128HmacSha1_80,
            _ => return Err(Failure::Profile),
        };
        let exported = state.export_keying_material(DTLS_LABEL, &[], profile.exported_len());
        let material = exported.map_err(|error| Failure::Handshake(error.to_string()))?;
        let keys = Keys::from_dtls(profile, material.as_ref());
        let (client, server) = keys.ok_or_else(|| Failure::Handshake("no keys".to_owned()))?;
        Ok(match self.role {
            Role::Client => SrtpKeys { send: client, receive: server },
            Role::Server => SrtpKeys { send: server, receive: client },
        })
    }

    /// Takes what the library has just queued, and sets the timer if it is a flight.
    fn look_at_flight(&mut self, now: Instant) {
        let Some(first) = self.drain() else { return };
        match (self.role, first) {
            (Role::Server, Some(kind::HELLO_VERIFY_REQUEST)) => self.verify_request = self.queue.back().cloned(),
            (Role::Server, Some(kind::SERVER_HELLO)) | (Role::Client, Some(kind::CERTIFICATE | kind::CLIENT_KEY_EXCHANGE)) => {
                self.progress = Progress::Flight;
            }
            (Role::Server | Role::Client, _) => {}
        }
        self.sent = now;
        self.retransmits = 0;
        self.retransmit = Some(now + RETRANSMIT);
    }

    /// Moves the library's datagrams to ours. Gives the message that the first of them begins with; None if there was none.
    fn drain(&mut self) -> Option<Option<u8>> {
        let mut first = None;
        while let Some(datagram) = self.endpoint.poll_transmit() {
            first.get_or_insert_with(|| first_message(&datagram.message));
            self.queue.push_back(datagram.message);
        }
        first
    }

    /// The peer repeats a message that was answered: the answer was lost, or is on its way.
    fn repeated(&mut self, now: Instant, message: u8) {
        match (self.role, self.progress) {
            (Role::Server, Progress::Hello) if message == kind::CLIENT_HELLO => self.queue.extend(self.verify_request.clone()),
            (Role::Server, Progress::Flight) if message != kind::CLIENT_HELLO => {}
            (Role::Server | Role::Client, Progress::Flight) if now >= self.sent + REPEAT_PAUSE => self.send_again(now),
            (Role::Server | Role::Client, Progress::Hello | Progress::Flight | Progress::Connected | Progress::Over) => {}
        }
    }

    /// Lets the library send its last flight again, by making its timer due.
    fn send_again(&mut self, now: Instant) {
        self.retransmit = None;
        if self.retransmits >= MAX_RETRANSMITS {
            return;
        }
        self.retransmits += 1;
        if let Some(due) = self.endpoint.poll_timeout(&PEER)
            && let Err(error) = self.endpoint.handle_timeout(PEER, due)
        {
            self.fault = Some(error.to_string());
        }
        self.drain();
        self.sent = now;
        self.retransmit = Some(now + RETRANSMIT * (1 << self.retransmits));
    }

    /// Retransmits, or gives up.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Outcome {
        if matches!(self.progress, Progress::Connected | Progress::Over) {
            return Outcome::Pending;
        }
        if now >= self.deadline {
            return self.fail();
        }
        if self.retransmit.is_some_and(|due| now >= due) {
            match self.endpoint.get_connection_state(PEER) {
                None => self.begin(now),
                Some(_) => self.send_again(now),
            }
        }
        Outcome::Pending
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadline = match self.progress {
            Progress::Hello | Progress::Flight => Some(self.deadline),
            Progress::Connected | Progress::Over => None,
        };
        self.retransmit.into_iter().chain(deadline).min()
    }

    /// The next datagram for the peer.
    pub(super) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.queue.pop_front()
    }

    pub(super) fn is_over(&self) -> bool {
        self.progress == Progress::Over
    }

    pub(super) fn is_connected(&self) -> bool {
        self.progress == Progress::Connected
    }
}

fn endpoint(certificate: &Certificate, role: Role) -> Endpoint {
    let server = (role == Role::Server).then(|| certificate.server.clone());
    Endpoint::new(PEER, Default::default(), server)
}
