//! What a relayed packet costs in the engine alone, without sockets: `cargo bench -p media --bench relay`.
#![expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use media::{
    BridgeId, Engine, Kinds, Member, PortId, Settings, SocketId,
    port::{
        destination::{Loopback, Policy},
        rtp::Component,
        webrtc::{Certificate, Credentials, Event, Fingerprint, Hash, Remote, Role, WebRtc, stun},
    },
    rtp::srtp::{self, Keys},
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Handshake, Security, Shared, Stream, Wishes},
    },
};

/// Of a round: so few that most rounds are not interrupted on a machine that does other things, too.
const PACKETS: u32 = 500;
const ROUNDS: usize = 401;
const A: ([u8; 4], u16) = ([203, 0, 113, 1], 4000);
const B: ([u8; 4], u16) = ([203, 0, 113, 2], 4000);

fn certificate() -> (Certificate, Fingerprint) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let made = rcgen::CertificateParams::new(vec!["tandem".to_owned()]).expect("a name").self_signed(&key).expect("a certificate");
    let fingerprint = Fingerprint::of(made.der(), Hash::Sha256);
    (Certificate::new(made.der().to_vec(), &key.serialize_der()).expect("one that DTLS can use"), fingerprint)
}

fn keys(seed: u8) -> Keys {
    Keys::new(srtp::Profile::AesCm128HmacSha1_80, &[seed; 16], &[seed; 14]).expect("of the right lengths")
}

fn settings(address: ([u8; 4], u16), security: Security, shared: Option<Shared>) -> Settings {
    let format = Format::of_static_type(0).expect("PCMU is static");
    let remote = Some(SocketAddr::from(address));
    let stream = Stream {
        index: 0,
        line: 0,
        kind: MediaKind::Audio,
        remote_rtp: remote,
        remote_rtcp: remote,
        rtcp_mux: true,
        direction: Direction::SendRecv,
        send: vec![format.clone()],
        receive: vec![format],
        security,
        wishes: Wishes::default(),
        sources: None,
    };
    Settings { streams: vec![stream], shared, signaling: None, media_timeout: Some(Duration::from_secs(30)) }
}

fn sdes() -> Security {
    Security::Sdes { send: keys(1), receive: keys(2) }
}

fn engine() -> (Engine, Fingerprint, Policy) {
    let policy = Policy { loopback: Loopback::Refused, own: Vec::new(), ports: Arc::default(), listeners: Vec::new() };
    let (certificate, fingerprint) = certificate();
    (Engine::new(0, policy.clone(), certificate, 1), fingerprint, policy)
}

/// Brings a browser at B as far as that media flows to it.
fn connect(engine: &mut Engine, now: Instant, port: PortId, ours: Fingerprint, policy: &Policy) {
    let (certificate, fingerprint) = certificate();
    let local = Credentials::generate(0, &mut |octets| octets.fill(1));
    let remote = Credentials::generate(0, &mut |octets| octets.fill(2));
    let handshake = Handshake { fingerprints: vec![fingerprint], role: Role::Client };
    engine.set(now, port, &settings(B, Security::Shared, Some(Shared { local: local.clone(), remote: remote.clone(), handshake })));
    let mut browser = WebRtc::new(&certificate, None);
    let switch = SocketAddr::from(A);
    browser.set_remote(now, &Remote { ice: None, fingerprints: vec![ours], role: Role::Server, address: Some(switch) }, policy);
    let mut buffer = [0; 2048];
    let username = format!("{}:{}", local.ufrag(), remote.ufrag());
    let check = stun::Writer::new(&mut buffer, stun::Class::Request, &[1; 12]).username(username.as_bytes()).priority(1);
    let check = check.control(stun::Control::Controlling, 5).use_candidate().integrity(local.password().as_bytes());
    let length = check.finish().expect("room for a check");
    engine.handle_packet(now, SocketId::SHARED, B.into(), &mut buffer, length).expect("an answer");
    loop {
        while let Some(sent) = engine.poll_transmit(&mut buffer) {
            browser.handle_packet(now, switch, &mut buffer, sent.length, policy);
        }
        while let Some((_, datagram)) = browser.poll_transmit() {
            buffer[..datagram.len()].copy_from_slice(&datagram);
            engine.handle_packet(now, SocketId::SHARED, B.into(), &mut buffer, datagram.len());
        }
        if matches!(browser.poll_event(), Some(Event::Connected(_))) {
            break;
        }
    }
    while let Some(sent) = engine.poll_transmit(&mut buffer) {
        browser.handle_packet(now, switch, &mut buffer, sent.length, policy);
    }
}

/// Nanoseconds a packet of 160 octets of sound, from A to B, less what it takes to bring it into the buffer: the median of rounds.
fn measure(protected: bool, to: &str) -> f64 {
    let (mut engine, fingerprint, policy) = engine();
    let now = Instant::now();
    let (a, b) = (PortId::new(0, 1), PortId::new(0, 2));
    let slot = engine.open(a, 1);
    engine.open(b, 1);
    engine.set(now, a, &settings(A, if protected { sdes() } else { Security::None }, None));
    match to {
        "plain" => engine.set(now, b, &settings(B, Security::None, None)),
        "SRTP" => engine.set(now, b, &settings(B, sdes(), None)),
        _ => connect(&mut engine, now, b, fingerprint, &policy),
    }
    let member = |port, party| Member { port, party, gives: Kinds::BOTH, takes: Kinds::BOTH, until: None, plays: None };
    engine.arrange(now, BridgeId(1), &[member(a, 0), member(b, 1)]);
    let (socket, from) = (SocketId::new(slot, 0, Component::Rtp), SocketAddr::from(A));
    let mut sender = srtp::Sender::new(&keys(2));
    let (mut sequence, mut times) = (0_u32, Vec::new());
    for _ in 0..ROUNDS {
        let packets: Vec<([u8; 200], usize)> = (0..PACKETS)
            .map(|_| {
                let mut packet = [0; 200];
                packet[0] = 0x80;
                packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
                packet[4..8].copy_from_slice(&(sequence.wrapping_mul(160)).to_be_bytes());
                sequence += 1;
                let length = if protected { sender.protect_rtp(&mut packet, 172).expect("room for the tag") } else { 172 };
                (packet, length)
            })
            .collect();
        let mut buffer = [0; 256];
        let begin = Instant::now();
        for (packet, length) in &packets {
            buffer[..200].copy_from_slice(packet);
            std::hint::black_box(&mut buffer);
            assert!(engine.handle_packet(now, socket, from, &mut buffer, *length).is_some(), "relayed");
        }
        let relayed = begin.elapsed();
        let begin = Instant::now();
        for (packet, _) in &packets {
            buffer[..200].copy_from_slice(packet);
            std::hint::black_box(&mut buffer);
        }
        times.push((relayed.saturating_sub(begin.elapsed())).as_secs_f64() * 1e9 / f64::from(PACKETS));
    }
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn main() {
    for (protected, from, to) in [(false, "plain", "plain"), (false, "plain", "SRTP"), (true, "SRTP", "WebRTC")] {
        println!("{from} to {to}: {:.0} ns a packet", measure(protected, to));
    }
}
