//! The transport of a WebRTC leg against another end: a browser made of the library's own DTLS and of checks written here, and two
//! transports with a wire between them that loses, doubles and reorders, in virtual time. A failing run prints its seed.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use media::{
    PortId,
    port::{
        destination::{Loopback, Policy, PortSet},
        webrtc::{
            CONSENT_TIMEOUT, Certificate, Credentials, Demultiplexer, Event, Failure, Fingerprint, HANDSHAKE_TIMEOUT, Handled, Hash, Owner,
            Refusal, Remote, Role, SrtpKeys, SrtpProfile, WebRtc, stun,
        },
    },
};
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, HandshakeConfig},
    crypto_provider::{SignatureScheme, default_provider},
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};

const WIFI: &str = "203.0.113.5:50000";
const MOBILE: &str = "198.51.100.9:40000";
const MALLORY: &str = "192.0.2.66:50000";
const SWITCH: &str = "192.0.2.1:8443";
const ROOM: usize = 1500;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
fn start() -> Instant {
    Instant::now()
}

fn policy() -> Policy {
    Policy { loopback: Loopback::Refused, own: vec![at(SWITCH).ip()], ports: Arc::new(PortSet::default()), listeners: vec![at(SWITCH)] }
}

/// A certificate in DER and its key.
fn identity() -> (Vec<u8>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["tandem.test".to_owned()]).unwrap();
    (made.cert.der().to_vec(), made.signing_key.serialize_der())
}

fn certificate() -> Certificate {
    let (der, key) = identity();
    Certificate::new(der, &key).unwrap()
}

fn credentials(seed: u8) -> Credentials {
    Credentials::generate(3, &mut |octets| octets.fill(seed))
}

/// What a browser does on the wire: checks of a full agent, and DTLS by the library as it is.
struct Browser {
    address: SocketAddr,
    ice: Credentials,
    dtls: Endpoint,
    fingerprint: Fingerprint,
    config: Arc<HandshakeConfig>,
    complete: bool,
    transactions: u8,
}

impl Browser {
    fn new(role: Role) -> Self {
        Self::with_profiles(role, vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
    }

    fn with_profiles(role: Role, profiles: Vec<SrtpProtectionProfile>) -> Self {
        let (der, key) = identity();
        let provider = default_provider().unwrap();
        let key = provider.crypto().import_signing_key(SignatureScheme::EcdsaP256Sha256, &key).unwrap();
        let certificate = rtc_dtls::crypto::Certificate::from_signing_key(vec![der.clone().into()], key);
        let builder = ConfigBuilder::default().with_crypto_provider(provider).with_certificates(vec![certificate]);
        let builder = builder.with_srtp_protection_profiles(profiles).with_client_auth(ClientAuthType::RequireAnyClientCert);
        let config = Arc::new(builder.with_insecure_skip_verify(true).build(role == Role::Client, Some(at(SWITCH))).unwrap());
        let server = (role == Role::Server).then(|| config.clone());
        let dtls = Endpoint::new(at(WIFI), Default::default(), server);
        let fingerprint = Fingerprint::of(&der, Hash::Sha256);
        Self { address: at(WIFI), ice: credentials(77), dtls, fingerprint, config, complete: false, transactions: 0 }
    }

    /// What its SDP says to us, who take `role`.
    fn remote(&self, role: Role) -> Remote {
        Remote { ice: Some(self.ice.clone()), fingerprints: vec![self.fingerprint], role, address: None }
    }

    fn check_with(&mut self, port: &Credentials, nominate: bool, control: stun::Control) -> Vec<u8> {
        self.transactions += 1;
        let mut buffer = [0; 300];
        let username = format!("{}:{}", port.ufrag(), self.ice.ufrag());
        let writer = stun::Writer::new(&mut buffer, stun::Class::Request, &[self.transactions; 12]).username(username.as_bytes());
        let writer = writer.priority(1).control(control, 5);
        let writer = if nominate { writer.use_candidate() } else { writer };
        let length = writer.integrity(port.password().as_bytes()).finish().unwrap();
        buffer[..length].to_vec()
    }

    fn check(&mut self, port: &Credentials) -> Vec<u8> {
        self.check_with(port, false, stun::Control::Controlling)
    }

    fn nomination(&mut self, port: &Credentials) -> Vec<u8> {
        self.check_with(port, true, stun::Control::Controlling)
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) {
        let events = self.dtls.read(now, at(SWITCH), None, BytesMut::from(datagram)).unwrap_or_default();
        self.complete |= events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete));
    }

    fn exported(&self, length: usize) -> Vec<u8> {
        let state = self.dtls.get_connection_state(at(SWITCH)).unwrap();
        state.export_keying_material("EXTRACTOR-dtls_srtp", &[], length).unwrap().as_ref().to_vec()
    }
}

/// A port, its credentials, and a clock.
struct Leg {
    port: WebRtc,
    local: Credentials,
    now: Instant,
    policy: Policy,
}

impl Leg {
    fn new() -> Self {
        let local = credentials(1);
        Self { port: WebRtc::new(&certificate(), Some(local.clone())), local, now: start(), policy: policy() }
    }

    fn answered(browser: &Browser, role: Role) -> Self {
        let mut leg = Self::new();
        leg.set_remote(&browser.remote(role));
        leg
    }

    fn set_remote(&mut self, remote: &Remote) {
        self.port.set_remote(self.now, remote, &self.policy);
    }

    /// Gives the port a datagram. Returns what was done and the response.
    fn receive(&mut self, from: SocketAddr, bytes: &[u8]) -> (Handled, Vec<u8>) {
        let mut buffer = [0; ROOM];
        buffer[..bytes.len()].copy_from_slice(bytes);
        let handled = self.port.handle_packet(self.now, from, &mut buffer, bytes.len(), &self.policy);
        let length = match handled {
            Handled::Checked(length) | Handled::Rejected(length) => length,
            Handled::Media => {
                assert_eq!(buffer[..bytes.len()], *bytes, "media is left alone");
                0
            }
            Handled::Consumed | Handled::Refused(_) => 0,
        };
        (handled, buffer[..length].to_vec())
    }

    fn handled(&mut self, from: &str, bytes: &[u8]) -> Handled {
        self.receive(at(from), bytes).0
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.port.poll_timeout().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.port.handle_timeout(self.now);
        }
        self.now = until;
        self.port.handle_timeout(until);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.port.poll_event()).collect()
    }

    /// Lets both exchange DTLS until neither has anything to say.
    fn handshake(&mut self, browser: &mut Browser) {
        loop {
            let mut quiet = true;
            while let Some((to, datagram)) = self.port.poll_transmit() {
                quiet = false;
                assert_eq!(Some(to), self.port.destination());
                browser.receive(self.now, &datagram);
            }
            while let Some(datagram) = browser.dtls.poll_transmit() {
                quiet = false;
                self.receive(browser.address, &datagram.message);
            }
            if quiet {
                return;
            }
        }
    }

    fn connected(&mut self) -> Option<SrtpKeys> {
        self.events().into_iter().find_map(|event| match event {
            Event::Connected(keys) => Some(keys),
            Event::Failed(_) | Event::Moved(_) | Event::Lost | Event::Closed => None,
        })
    }

    /// A leg whose handshake is complete.
    fn established() -> (Self, Browser) {
        let mut browser = Browser::new(Role::Server);
        let mut leg = Self::answered(&browser, Role::Client);
        let nomination = browser.nomination(&leg.local);
        leg.receive(at(WIFI), &nomination);
        leg.handshake(&mut browser);
        leg.connected().expect("keys");
        (leg, browser)
    }
}

#[test]
fn a_browser_that_answers_the_handshake_has_the_same_keys() {
    let mut browser = Browser::new(Role::Server);
    let mut leg = Leg::answered(&browser, Role::Client);
    assert!(leg.port.poll_transmit().is_none(), "S1: nothing before a check");
    let check = browser.check(&leg.local);
    assert!(matches!(leg.handled(WIFI, &check), Handled::Checked(_)));
    leg.handshake(&mut browser);
    let keys = leg.connected().expect("keys");
    let material = browser.exported(56);
    assert!(browser.complete);
    assert_eq!(keys.profile, SrtpProfile::AeadAes128Gcm);
    assert_eq!((&keys.local.key()[..], &keys.remote.key()[..]), (&material[..16], &material[16..32]));
    assert_eq!((keys.local.salt(), keys.remote.salt()), (&material[32..44], &material[44..56]));
}

#[test]
fn a_browser_that_begins_the_handshake_has_the_same_keys() {
    let mut browser = Browser::with_profiles(Role::Client, vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80]);
    let mut leg = Leg::answered(&browser, Role::Server);
    let check = browser.check(&leg.local);
    leg.receive(at(WIFI), &check);
    assert!(leg.port.poll_transmit().is_none());
    browser.dtls.connect(leg.now, at(SWITCH), browser.config.clone(), None).unwrap();
    leg.handshake(&mut browser);
    let keys = leg.connected().expect("keys");
    let material = browser.exported(60);
    assert_eq!(keys.profile, SrtpProfile::Aes128CmHmacSha1_80);
    assert_eq!((&keys.remote.key()[..], &keys.local.key()[..]), (&material[..16], &material[16..32]));
    assert_eq!((keys.remote.salt(), keys.local.salt()), (&material[32..46], &material[46..60]));
}

#[test]
fn media_is_taken_once_there_are_keys() {
    let (mut leg, _) = Leg::established();
    let rtp = [0x80; 40];
    assert_eq!(leg.handled(WIFI, &rtp), Handled::Media);
    assert_eq!(leg.handled(MALLORY, &rtp), Handled::Refused(Refusal::Stranger));
    let mut early = Leg::new();
    assert_eq!(early.handled(WIFI, &rtp), Handled::Refused(Refusal::Stranger));
    let check = Browser::new(Role::Server).check(&early.local);
    early.receive(at(WIFI), &check);
    assert_eq!(early.handled(WIFI, &rtp), Handled::Refused(Refusal::NoKeys));
}

#[test]
fn the_response_is_verifiable_and_names_the_source() {
    let mut browser = Browser::new(Role::Server);
    let mut leg = Leg::new();
    let check = browser.check(&leg.local);
    let (handled, response) = leg.receive(at(WIFI), &check);
    assert_eq!(handled, Handled::Checked(response.len()));
    let message = stun::Message::parse(&response).unwrap();
    assert_eq!((message.class, message.transaction_id()), (stun::Class::Success, [1; 12]));
    assert!(message.verify(leg.local.password().as_bytes()));
    assert_eq!(response.len(), 64);
    assert!(response.len() <= check.len());
}

/// A ClientHello of somebody else.
fn client_hello() -> Vec<u8> {
    let mut mallory = Browser::new(Role::Client);
    mallory.dtls.connect(start(), at(SWITCH), mallory.config.clone(), None).unwrap();
    mallory.dtls.poll_transmit().unwrap().message.to_vec()
}

#[test]
fn a_client_hello_of_a_stranger_meets_nobody() {
    // S1
    for role in [Role::Client, Role::Server] {
        let mut browser = Browser::new(if role == Role::Client { Role::Server } else { Role::Client });
        let mut leg = Leg::answered(&browser, role);
        let hello = client_hello();
        assert_eq!(leg.handled(MALLORY, &hello), Handled::Refused(Refusal::Stranger));
        let check = browser.check(&leg.local);
        leg.receive(at(WIFI), &check);
        assert_eq!(leg.handled(MALLORY, &hello), Handled::Refused(Refusal::Stranger));
        if role == Role::Server {
            assert!(leg.port.poll_transmit().is_none());
            browser.dtls.connect(leg.now, at(SWITCH), browser.config.clone(), None).unwrap();
        }
        leg.handshake(&mut browser);
        assert!(leg.connected().is_some() && browser.complete, "{role:?}");
    }
}

#[test]
fn without_ice_only_the_signalled_address_is_heard() {
    // S1
    let mut phone = Browser::new(Role::Client);
    let mut leg = Leg { port: WebRtc::new(&certificate(), None), ..Leg::new() };
    let remote = Remote { ice: None, address: Some(at(WIFI)), ..phone.remote(Role::Server) };
    leg.set_remote(&remote);
    for stranger in [MALLORY, "203.0.113.5:50001"] {
        assert_eq!(leg.handled(stranger, &client_hello()), Handled::Refused(Refusal::Stranger));
    }
    let check = phone.check(&leg.local);
    assert_eq!(leg.handled(WIFI, &check), Handled::Refused(Refusal::NoIce));
    phone.dtls.connect(leg.now, at(SWITCH), phone.config.clone(), None).unwrap();
    leg.handshake(&mut phone);
    assert!(leg.connected().is_some());
}

#[test]
fn a_client_without_ice_begins_at_once_but_never_to_the_inside() {
    // S19
    let mut phone = Browser::new(Role::Server);
    let mut leg = Leg { port: WebRtc::new(&certificate(), None), ..Leg::new() };
    leg.set_remote(&Remote { ice: None, address: Some(at("127.0.0.1:5000")), ..phone.remote(Role::Client) });
    assert!(leg.port.poll_transmit().is_none() && leg.port.destination().is_none());
    leg.set_remote(&Remote { ice: None, address: Some(at(WIFI)), ..phone.remote(Role::Client) });
    leg.handshake(&mut phone);
    assert!(leg.connected().is_some());
}

#[test]
fn another_certificate_gives_no_keys() {
    // S1
    let mut browser = Browser::new(Role::Server);
    let mut leg = Leg::new();
    let other = Fingerprint::of(b"another certificate", Hash::Sha256);
    leg.set_remote(&Remote { fingerprints: vec![other], ..browser.remote(Role::Client) });
    let check = browser.check(&leg.local);
    leg.receive(at(WIFI), &check);
    leg.handshake(&mut browser);
    assert_eq!(leg.events(), [Event::Failed(Failure::Fingerprint)]);
    assert_eq!(leg.handled(WIFI, &[0x80; 40]), Handled::Refused(Refusal::NoKeys));
    assert_eq!(leg.handled(WIFI, &client_hello()), Handled::Refused(Refusal::NoAssociation));
}

#[test]
fn without_a_common_profile_there_are_no_keys() {
    let mut browser = Browser::with_profiles(Role::Client, vec![]);
    let mut leg = Leg::answered(&browser, Role::Server);
    let check = browser.check(&leg.local);
    leg.receive(at(WIFI), &check);
    browser.dtls.connect(leg.now, at(SWITCH), browser.config.clone(), None).unwrap();
    leg.handshake(&mut browser);
    assert_eq!(leg.events(), [Event::Failed(Failure::Profile)]);
}

#[test]
fn garbage_and_alerts_from_the_peers_address_do_not_end_the_handshake() {
    // S1
    let alert = [21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let data = [23, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let cipher_spec = [20, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 9];
    for role in [Role::Client, Role::Server] {
        let mut browser = Browser::new(if role == Role::Client { Role::Server } else { Role::Client });
        let mut leg = Leg::answered(&browser, role);
        let check = browser.check(&leg.local);
        leg.receive(at(WIFI), &check);
        if role == Role::Server {
            browser.dtls.connect(leg.now, at(SWITCH), browser.config.clone(), None).unwrap();
        }
        let mut spoil = |leg: &mut Leg| {
            for bad in [&alert[..], &data, &cipher_spec, &[22; 1200], &[63; 3], &[22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 0, 0, 40]] {
                leg.receive(at(WIFI), bad);
            }
        };
        loop {
            spoil(&mut leg);
            let sent: Vec<_> = std::iter::from_fn(|| leg.port.poll_transmit()).collect();
            sent.iter().for_each(|(_, datagram)| browser.receive(leg.now, datagram));
            spoil(&mut leg);
            let answers: Vec<_> = std::iter::from_fn(|| browser.dtls.poll_transmit()).collect();
            answers.iter().for_each(|datagram| _ = leg.receive(at(WIFI), &datagram.message));
            if sent.is_empty() && answers.is_empty() {
                break;
            }
        }
        assert!(leg.connected().is_some(), "{role:?}");
        spoil(&mut leg);
        assert!(leg.events().is_empty() && leg.handled(WIFI, &[0x80; 40]) == Handled::Media);
    }
}
