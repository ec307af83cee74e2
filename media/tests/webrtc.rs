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
use media::rtp::srtp::{Keys, Profile};
use media::{
    PortId,
    port::{
        destination::{Loopback, Policy, PortSet},
        webrtc::{
            CONSENT_TIMEOUT, Certificate, Credentials, Demultiplexer, Event, Failure, Fingerprint, HANDSHAKE_TIMEOUT, Handled, Hash, Owner,
            Refusal, Remote, Role, SrtpKeys, WebRtc, stun,
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
        self.transactions = self.transactions.wrapping_add(1);
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
    let cut = |key: &[u8], salt: &[u8]| Keys::new(Profile::AeadAes128Gcm, key, salt).unwrap();
    let (client, server) = (cut(&material[..16], &material[32..44]), cut(&material[16..32], &material[44..56]));
    assert!(keys == SrtpKeys { send: client, receive: server });
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
    let cut = |key: &[u8], salt: &[u8]| Keys::new(Profile::AesCm128HmacSha1_80, key, salt).unwrap();
    let (client, server) = (cut(&material[..16], &material[32..46]), cut(&material[16..32], &material[46..60]));
    assert!(keys == SrtpKeys { send: server, receive: client });
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
        let spoil = |leg: &mut Leg| {
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

#[test]
fn a_forged_check_changes_nothing() {
    // S4
    let mut browser = Browser::new(Role::Server);
    let mut leg = Leg::answered(&browser, Role::Client);
    let good = browser.nomination(&leg.local);
    let wrong_password = Credentials::parse(leg.local.ufrag(), "a wrong password of 24 ch".replace(' ', "+").as_str()).unwrap();
    let forged = browser.nomination(&wrong_password);
    let other_port = browser.nomination(&credentials(9));
    for bad in [&forged, &other_port] {
        let (handled, response) = leg.receive(at(MALLORY), bad);
        assert_eq!(handled, Handled::Rejected(response.len()));
        let message = stun::Message::parse(&response).unwrap();
        assert!(message.class == stun::Class::Error && !message.has_integrity() && response.len() <= bad.len());
    }
    for length in 0..good.len() {
        assert!(matches!(leg.handled(MALLORY, &good[..length]), Handled::Refused(_)));
    }
    for index in 0..good.len() - 8 {
        let mut bad = good.clone();
        bad[index] ^= 0x04;
        assert!(!matches!(leg.handled(MALLORY, &bad), Handled::Checked(_)), "octet {index}");
    }
    assert_eq!((leg.port.destination(), leg.port.poll_transmit(), leg.port.poll_timeout()), (None, None, None));
    assert!(matches!(leg.handled(WIFI, &good), Handled::Checked(_)));
}

#[test]
fn a_forged_response_or_indication_changes_nothing() {
    // S4
    let (mut leg, mut browser) = Leg::established();
    leg.advance(CONSENT_TIMEOUT - Duration::from_secs(1));
    let write = |class| {
        let mut buffer = [0; 100];
        let writer = stun::Writer::new(&mut buffer, class, &[1; 12]).xor_mapped_address(at(MALLORY));
        let length = writer.integrity(b"a key").finish().unwrap();
        buffer[..length].to_vec()
    };
    for class in [stun::Class::Success, stun::Class::Error] {
        for from in [WIFI, MALLORY] {
            assert_eq!(leg.handled(from, &write(class)), Handled::Refused(Refusal::UnexpectedResponse));
        }
    }
    assert_eq!(leg.handled(WIFI, &write(stun::Class::Indication)), Handled::Consumed);
    assert_eq!(leg.handled(MALLORY, &write(stun::Class::Indication)), Handled::Consumed);
    assert_eq!(leg.port.destination(), Some(at(WIFI)));
    leg.advance(Duration::from_secs(1));
    assert_eq!(leg.events(), [Event::Lost], "an indication keeps nothing alive");
    let check = browser.check(&leg.local);
    leg.receive(at(WIFI), &check);
    assert_eq!(leg.events(), [Event::Moved(at(WIFI))]);
}

#[test]
fn a_peer_in_our_role_is_told_of_the_conflict() {
    let mut browser = Browser::new(Role::Server);
    let mut leg = Leg::answered(&browser, Role::Client);
    let check = browser.check_with(&leg.local.clone(), true, stun::Control::Controlled);
    let (handled, response) = leg.receive(at(WIFI), &check);
    assert_eq!(handled, Handled::Rejected(response.len()));
    assert_eq!(response[20..28], [0, 9, 0, 4, 0, 0, 4, 87]);
    assert!(stun::Message::parse(&response).unwrap().verify(leg.local.password().as_bytes()));
    assert_eq!(leg.port.destination(), None);
}

#[test]
fn a_check_of_the_inside_is_not_answered() {
    // S19
    let mut browser = Browser::new(Role::Server);
    let mut leg = Leg::answered(&browser, Role::Client);
    for inside in ["127.0.0.1:5000", "169.254.1.1:5000", "224.0.0.1:5000", SWITCH] {
        let check = browser.nomination(&leg.local);
        assert!(matches!(leg.handled(inside, &check), Handled::Refused(Refusal::Destination(_))), "{inside}");
    }
    assert_eq!(leg.port.destination(), None);
}

#[test]
fn the_newest_nomination_wins_and_keys_survive_the_move() {
    let (mut leg, mut browser) = Leg::established();
    let check = browser.check(&leg.local);
    assert!(matches!(leg.handled(MOBILE, &check), Handled::Checked(_)));
    assert_eq!(leg.port.destination(), Some(at(WIFI)), "valid, but not nominated");
    assert_eq!(leg.handled(MOBILE, &[0x80; 40]), Handled::Media);
    let nomination = browser.nomination(&leg.local);
    leg.receive(at(MOBILE), &nomination);
    assert_eq!((leg.port.destination(), leg.events()), (Some(at(MOBILE)), vec![Event::Moved(at(MOBILE))]));
    assert_eq!(leg.handled(WIFI, &[0x80; 40]), Handled::Media, "what was under way still arrives");
    let check = browser.check(&leg.local);
    leg.receive(at(WIFI), &check);
    assert_eq!(leg.port.destination(), Some(at(MOBILE)));
    let nomination = browser.nomination(&leg.local);
    leg.receive(at(WIFI), &nomination);
    assert_eq!((leg.port.destination(), leg.events()), (Some(at(WIFI)), vec![Event::Moved(at(WIFI))]));
}

#[test]
fn an_aggressive_peer_does_not_make_us_hop() {
    let (mut leg, mut browser) = Leg::established();
    for _ in 0..10 {
        for address in [WIFI, MOBILE] {
            leg.advance(Duration::from_secs(1));
            let nomination = browser.nomination(&leg.local);
            leg.receive(at(address), &nomination);
        }
    }
    assert_eq!(leg.events(), [Event::Moved(at(MOBILE))]);
    for _ in 0..4 {
        leg.advance(Duration::from_secs(2));
        let nomination = browser.nomination(&leg.local);
        leg.receive(at(WIFI), &nomination);
    }
    assert_eq!(leg.events(), [Event::Moved(at(WIFI))], "the other is not nominated any more");
}

#[test]
fn a_peer_without_checks_is_lost_and_comes_back() {
    let (mut leg, mut browser) = Leg::established();
    for _ in 0..5 {
        leg.advance(Duration::from_secs(25));
        let check = browser.nomination(&leg.local);
        leg.receive(at(WIFI), &check);
    }
    assert!(leg.events().is_empty());
    leg.advance(CONSENT_TIMEOUT);
    assert_eq!((leg.port.destination(), leg.events()), (None, vec![Event::Lost]));
    assert_eq!(leg.handled(WIFI, &[0x80; 40]), Handled::Refused(Refusal::Stranger));
    assert_eq!(leg.port.poll_timeout(), None);
    let nomination = browser.nomination(&leg.local);
    leg.receive(at(MOBILE), &nomination);
    assert_eq!((leg.port.destination(), leg.events()), (Some(at(MOBILE)), vec![Event::Moved(at(MOBILE))]));
    assert_eq!(leg.handled(MOBILE, &[0x80; 40]), Handled::Media, "with the same keys");
}

#[test]
fn addresses_are_bounded_and_the_one_in_use_stays() {
    let (mut leg, mut browser) = Leg::established();
    for port in 1..1000 {
        leg.advance(Duration::from_millis(1));
        let check = browser.check(&leg.local);
        let from = SocketAddr::new(at(MOBILE).ip(), port);
        assert!(matches!(leg.receive(from, &check).0, Handled::Checked(_)));
    }
    let media = |leg: &mut Leg, port| leg.receive(SocketAddr::new(at(MOBILE).ip(), port), &[0x80; 40]).0;
    let valid = (1..1000).filter(|port| media(&mut leg, *port) == Handled::Media).collect::<Vec<_>>();
    assert_eq!(valid, (985..1000).collect::<Vec<_>>());
    assert_eq!((leg.port.destination(), leg.handled(WIFI, &[0x80; 40])), (Some(at(WIFI)), Handled::Media));
}

#[test]
fn an_ice_restart_keeps_association_and_keys() {
    let (mut leg, mut browser) = Leg::established();
    let old = (leg.local.clone(), browser.ice.clone());
    let new = credentials(2);
    leg.port.restart(new.clone());
    let check = browser.nomination(&old.0);
    assert!(matches!(leg.handled(WIFI, &check), Handled::Checked(_)), "the old hold while the new are under way");
    browser.ice = credentials(78);
    leg.set_remote(&browser.remote(Role::Client));
    let late = Browser { ice: old.1.clone(), ..Browser::new(Role::Server) }.check(&old.0);
    assert!(matches!(leg.handled(WIFI, &late), Handled::Checked(_)));
    let nomination = browser.nomination(&new);
    assert!(matches!(leg.handled(MOBILE, &nomination), Handled::Checked(_)));
    assert_eq!((leg.port.destination(), leg.events()), (Some(at(MOBILE)), vec![Event::Moved(at(MOBILE))]));
    assert!(matches!(leg.handled(WIFI, &late), Handled::Rejected(_)), "the new are confirmed");
    assert_eq!((leg.handled(MOBILE, &[0x80; 40]), leg.port.poll_transmit()), (Handled::Media, None));
}

#[test]
fn old_credentials_do_not_outlive_an_unconfirmed_restart() {
    let (mut leg, mut browser) = Leg::established();
    let (old, old_ice) = (leg.local.clone(), browser.ice.clone());
    leg.port.restart(credentials(2));
    leg.port.restart(credentials(3));
    browser.ice = credentials(78);
    leg.set_remote(&browser.remote(Role::Client));
    browser.ice = old_ice;
    leg.advance(Duration::from_secs(29));
    let check = browser.check(&old);
    assert!(matches!(leg.handled(WIFI, &check), Handled::Checked(_)));
    leg.advance(Duration::from_secs(1));
    assert!(matches!(leg.handled(WIFI, &check), Handled::Rejected(_)));
}

#[test]
fn another_fingerprint_makes_another_handshake_and_the_same_does_not() {
    let (mut leg, browser) = Leg::established();
    leg.set_remote(&browser.remote(Role::Client));
    assert!(leg.port.poll_transmit().is_none() && leg.handled(WIFI, &[0x80; 40]) == Handled::Media);
    let mut next = Browser::new(Role::Server);
    leg.set_remote(&next.remote(Role::Client));
    assert_eq!(leg.handled(WIFI, &[0x80; 40]), Handled::Refused(Refusal::NoKeys));
    leg.handshake(&mut next);
    assert!(leg.connected().is_some());
}

#[test]
fn a_peer_that_never_answers_fails_the_handshake_in_time() {
    let mut browser = Browser::new(Role::Server);
    let mut leg = Leg::answered(&browser, Role::Client);
    let begin = leg.now;
    let mut sent = Vec::new();
    while leg.now < begin + HANDSHAKE_TIMEOUT {
        let check = browser.check(&leg.local);
        leg.receive(at(WIFI), &check);
        while leg.port.poll_transmit().is_some() {
            sent.push((leg.now - begin).as_millis());
        }
        assert!(leg.events().is_empty());
        leg.advance(Duration::from_millis(100));
    }
    assert_eq!(sent, [0, 100, 300, 700, 1500, 3100, 6300, 12700]);
    assert_eq!(leg.events(), [Event::Failed(Failure::Handshake("no answer".to_owned()))]);
}

#[test]
fn a_browser_that_closes_is_noticed() {
    let (mut leg, mut browser) = Leg::established();
    browser.dtls.close(leg.now).unwrap();
    leg.handshake(&mut browser);
    assert_eq!(leg.events(), [Event::Closed]);
    assert_eq!(leg.handled(WIFI, &[0x80; 40]), Handled::Refused(Refusal::NoKeys));
}

/// xorshift64*, so that a seed is a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

/// What a wire does: percentages of datagrams lost, and of datagrams that somebody changes and sends again from the same address;
/// the longest delay in milliseconds.
#[derive(Clone, Copy)]
struct Wire {
    loss: u64,
    forged: u64,
    delay: u64,
}

/// How long two transports without ICE need for keys; None when they have failed.
fn over_a_bad_wire(certificates: &[Certificate; 2], seed: u64, Wire { loss, forged, delay }: Wire) -> Option<Duration> {
    let policy = policy();
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let begin = start();
    let addresses = [at(WIFI), at(MOBILE)];
    let mut ends = [Role::Client, Role::Server].map(|role| (WebRtc::new(&certificates[usize::from(role == Role::Server)], None), role));
    for (index, (end, role)) in ends.iter_mut().enumerate() {
        let fingerprints = vec![certificates[1 - index].fingerprint()];
        end.set_remote(begin, &Remote { ice: None, fingerprints, role: *role, address: Some(addresses[1 - index]) }, &policy);
    }
    let mut wire = BTreeMap::new();
    let (mut now, mut number, mut keys) = (begin, 0, [None, None]);
    loop {
        for (index, (end, _)) in ends.iter_mut().enumerate() {
            while let Some((to, datagram)) = end.poll_transmit() {
                assert_eq!(to, addresses[1 - index]);
                if random.below(100) < forged {
                    let mut bytes = datagram.to_vec();
                    for _ in 0..=random.below(3) {
                        let index = random.below(bytes.len() as u64) as usize;
                        bytes[index] ^= 1 << random.below(8);
                    }
                    number += 1;
                    wire.insert((now, number), (1 - index, bytes));
                }
                let copies = u64::from(random.below(100) >= loss) + u64::from(random.below(100) < 10);
                for _ in 0..copies {
                    number += 1;
                    let arrival = now + Duration::from_millis(1 + random.below(delay));
                    wire.insert((arrival, number), (1 - index, datagram.to_vec()));
                }
            }
            while let Some(event) = end.poll_event() {
                match event {
                    Event::Connected(agreed) => keys[index] = Some(agreed),
                    Event::Failed(_) => return None,
                    Event::Moved(_) | Event::Lost | Event::Closed => panic!("{event:?}"),
                }
            }
        }
        if let [Some(client), Some(server)] = keys {
            assert!(client.send == server.receive && client.receive == server.send);
            return Some(now - begin);
        }
        let arrival = wire.first_key_value().map(|((at, _), _)| *at);
        let due = ends.iter().filter_map(|(end, _)| end.poll_timeout()).min();
        now = arrival.into_iter().chain(due).min()?.max(now);
        while let Some(((_, _), (index, bytes))) = wire.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove_entry())
        {
            let mut buffer = [0; ROOM];
            buffer[..bytes.len()].copy_from_slice(&bytes);
            ends[index].0.handle_packet(now, addresses[1 - index], &mut buffer, bytes.len(), &policy);
        }
        ends.iter_mut().for_each(|(end, _)| end.handle_timeout(now));
    }
}

#[test]
fn flights_may_be_lost_doubled_and_reordered() {
    let certificates = [certificate(), certificate()];
    let seeds = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).map_or(0..60, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let clean = over_a_bad_wire(&certificates, seed, Wire { loss: 0, forged: 0, delay: 300 });
        assert!(clean.is_some_and(|time| time < Duration::from_secs(5)), "SEED={seed}: {clean:?} without loss");
        let lossy = over_a_bad_wire(&certificates, seed, Wire { loss: 25, forged: 0, delay: 60 });
        assert!(lossy.is_some_and(|time| time < Duration::from_secs(25)), "SEED={seed}: {lossy:?} with 25 % lost");
    }
}

#[test]
fn forged_flights_from_the_peers_address_give_no_wrong_keys() {
    // S1: whoever can forge the peer's address may spoil a handshake of DTLS 1.2, but neither crash us nor agree on keys.
    let certificates = [certificate(), certificate()];
    let run = |seed| over_a_bad_wire(&certificates, seed, Wire { loss: 0, forged: 30, delay: 20 });
    let agreed = (0..150).filter(|seed| run(*seed).is_some()).count();
    assert!(agreed > 20, "{agreed} of 150 handshakes came about");
}

#[test]
fn packets_find_their_port_by_ufrag_and_then_by_address() {
    let mut table = Demultiplexer::new(3);
    let (a, b) = (PortId::new(3, 1), PortId::new(3, 2));
    let mut browser = Browser::new(Role::Server);
    let (ours, others) = (credentials(1), Credentials::generate(4, &mut |octets| octets.fill(9)));
    let now = start();
    assert!(table.add(a, ours.ufrag()) && !table.add(b, ours.ufrag()) && !table.add(b, "short"));
    assert_eq!(table.find(at(WIFI), &browser.check(&ours)), Some(Owner::Port(a)));
    assert_eq!(table.find(at(WIFI), &browser.check(&others)), Some(Owner::Thread(4)));
    assert_eq!(table.find(at(WIFI), &browser.check(&credentials(8))), None);
    assert_eq!(table.find(at(WIFI), &[0x80; 40]), None);
    assert!(table.learn(now, a, at(WIFI)));
    assert_eq!(table.find(at(WIFI), &[0x80; 40]), Some(Owner::Port(a)));
    assert_eq!(table.find(at(MOBILE), &[0x80; 40]), None);
    table.remove(a);
    assert_eq!((table.find(at(WIFI), &[0x80; 40]), table.find(at(WIFI), &browser.check(&ours))), (None, None));
    assert!(table.is_empty() && table.add(b, ours.ufrag()));
}

#[test]
fn what_leads_to_a_port_leads_to_where_it_has_gone() {
    let (mut home, mut new, mut third) = (Demultiplexer::new(3), Demultiplexer::new(4), Demultiplexer::new(5));
    let (was, port, now) = (PortId::new(3, 1), PortId::new(4, 1), start());
    let mut browser = Browser::new(Role::Server);
    let ours = credentials(1);
    let media = [&[0x80, 0, 0, 0, 0, 0, 0, 0][..], &7_u32.to_be_bytes(), &[0; 20]].concat();
    assert!(home.add(was, ours.ufrag()) && home.learn(now, was, at(WIFI)) && third.learn(now, was, at(WIFI)));
    home.add_source(was, 7);
    let leads = home.rename(was, port);
    new.rename(was, port);
    new.adopt(now, port, &leads);
    third.rename(was, port);
    for table in [&home, &new] {
        assert_eq!(table.find(at(MOBILE), &browser.check(&ours)), Some(Owner::Port(port)), "by its ufrag, which still names thread 3");
        assert_eq!(table.find(at(WIFI), &[0x80; 40]), Some(Owner::Port(port)));
        assert_eq!(table.roaming(&media), Some(port));
    }
    assert_eq!(third.find(at(MOBILE), &browser.check(&ours)), Some(Owner::Thread(3)));
    assert_eq!(third.find(at(WIFI), &[0x80; 40]), Some(Owner::Port(port)));
    for table in [&mut home, &mut new, &mut third] {
        table.remove(port);
        assert!(table.is_empty() && table.find(at(WIFI), &[0x80; 40]).is_none() && table.roaming(&media).is_none());
    }
}

#[test]
fn a_forged_source_does_not_take_over_the_packets_of_another_port() {
    // S4
    let mut table = Demultiplexer::new(3);
    let (victim, mallory) = (PortId::new(3, 1), PortId::new(3, 2));
    let now = start();
    assert!(table.learn(now, victim, at(WIFI)));
    assert!(!table.learn(now + Duration::from_secs(29), mallory, at(WIFI)));
    assert_eq!(table.find(at(WIFI), &[20; 40]), Some(Owner::Port(victim)));
    assert!(table.learn(now + CONSENT_TIMEOUT, mallory, at(WIFI)), "a NAT gives a port to somebody else");
    assert_eq!(table.find(at(WIFI), &[20; 40]), Some(Owner::Port(mallory)));
    table.remove(victim);
    assert_eq!(table.find(at(WIFI), &[20; 40]), Some(Owner::Port(mallory)));
}

#[test]
fn the_table_of_packets_is_bounded_and_swept() {
    let mut table = Demultiplexer::new(3);
    let (port, now) = (PortId::new(3, 1), start());
    let address = |number| SocketAddr::new(at(WIFI).ip(), number);
    for number in 1..100 {
        assert!(table.learn(now + Duration::from_millis(u64::from(number)), port, address(number)));
    }
    assert_eq!(table.len(), 16);
    assert_eq!(table.find(address(83), &[128]), None);
    assert_eq!(table.find(address(99), &[128]), Some(Owner::Port(port)));
    for seed in 10..13 {
        assert!(table.add(port, credentials(seed).ufrag()));
    }
    let mut browser = Browser::new(Role::Server);
    let found = [10, 11, 12].map(|seed| table.find(at(WIFI), &browser.check(&credentials(seed))).is_some());
    assert_eq!(found, [false, true, true]);
    table.sweep(now + CONSENT_TIMEOUT + Duration::from_secs(1));
    assert!(table.is_empty());
}

#[test]
fn a_client_that_repeats_itself_is_answered_at_once() {
    let mut browser = Browser::new(Role::Client);
    let mut leg = Leg::answered(&browser, Role::Server);
    let check = browser.check(&leg.local);
    leg.receive(at(WIFI), &check);
    browser.dtls.connect(leg.now, at(SWITCH), browser.config.clone(), None).unwrap();
    // Its first hello is answered with a HelloVerifyRequest (3), its second with a flight that begins with ServerHello (2).
    for expected in [3, 2] {
        let hello = browser.dtls.poll_transmit().unwrap().message;
        leg.receive(at(WIFI), &hello);
        assert_eq!(leg.port.poll_transmit().unwrap().1[13], expected, "and it is lost");
        while leg.port.poll_transmit().is_some() {}
        leg.receive(at(WIFI), &hello);
        let early = leg.port.poll_transmit();
        assert_eq!(early.is_some(), expected == 3, "a duplicate is no reason to send a flight again");
        leg.now += Duration::from_secs(1);
        browser.dtls.handle_timeout(at(SWITCH), leg.now).unwrap();
        leg.receive(at(WIFI), &browser.dtls.poll_transmit().unwrap().message);
        let (_, again) = leg.port.poll_transmit().unwrap();
        assert_eq!(again[13], expected);
        browser.receive(leg.now, &again);
    }
    leg.handshake(&mut browser);
    assert!(leg.connected().is_some() && browser.complete);
}

#[test]
fn media_by_another_valid_pair_is_followed_when_the_old_one_is_quiet() {
    let (mut leg, mut browser) = Leg::established();
    let check = browser.check(&leg.local);
    leg.receive(at(MOBILE), &check);
    assert_eq!(leg.port.destination(), Some(at(WIFI)), "valid, but not nominated");
    leg.port.heard(leg.now, at(WIFI));
    leg.port.heard(leg.now, at(MOBILE));
    assert_eq!(leg.port.destination(), Some(at(WIFI)), "packets overtake each other");
    leg.advance(Duration::from_millis(150));
    leg.port.heard(leg.now, at(MALLORY));
    assert_eq!(leg.port.destination(), Some(at(WIFI)), "S1: an address that no check has verified is not followed");
    leg.port.heard(leg.now, at(MOBILE));
    assert_eq!(leg.port.destination(), Some(at(MOBILE)));
    assert_eq!(leg.events(), [Event::Moved(at(MOBILE))]);
}

#[test]
fn a_peer_that_restarts_may_check_before_its_offer_is_here() {
    let (mut leg, mut browser) = Leg::established();
    browser.ice = credentials(78);
    let check = browser.nomination(&leg.local);
    assert!(matches!(leg.handled(MOBILE, &check), Handled::Checked(_)), "our half and our password are what counts");
    assert_eq!(leg.port.destination(), Some(at(MOBILE)));
}

#[test]
fn a_source_leads_to_its_port_until_the_port_is_closed() {
    let mut table = Demultiplexer::new(0);
    let (ann, bob) = (PortId::new(0, 1), PortId::new(1, 2));
    let media = |ssrc: u32| [&[0x80, 96, 0, 1, 0, 0, 0, 0][..], &ssrc.to_be_bytes()].concat();
    let report = |ssrc: u32| [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat();
    table.add_source(ann, 7);
    table.add_source(bob, 8);
    assert_eq!((table.roaming(&media(7)), table.roaming(&report(8)), table.roaming(&media(9))), (Some(ann), Some(bob), None));
    for source in 100..200 {
        table.add_source(ann, source);
    }
    assert_eq!((table.roaming(&media(7)), table.roaming(&media(199))), (None, Some(ann)), "the oldest is forgotten");
    table.remove(ann);
    assert_eq!((table.roaming(&media(199)), table.roaming(&media(8))), (None, Some(bob)));
    for length in 0..12 {
        let _nobody = table.roaming(&media(8)[..length]);
    }
}
