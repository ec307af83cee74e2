//! Two legs, their ports and bridge in one engine, and a wire that loses, reorders and doubles packets, in virtual time. A
//! failing run prints its seed; `SEED=n` repeats it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use media::{
    BridgeId, Engine, Event, Kinds, Member, PortId, Settings, SocketId,
    port::{
        destination::{Loopback, Policy},
        rtp::Component,
        webrtc::Certificate,
    },
    quality::{Statistics, StreamStatistics},
    rtp::Packet,
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Security, Stream, Wishes},
    },
};

const ANN: &str = "203.0.113.5:4000";
const BOB: &str = "198.51.100.9:6000";
const MALLORY: &str = "192.0.2.66:4000";
const SILENCE: Duration = Duration::from_secs(30);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn rtcp_of(rtp: &str) -> SocketAddr {
    let rtp = at(rtp);
    SocketAddr::new(rtp.ip(), rtp.port() + 1)
}

fn stream(index: usize, line: usize, remote: &str) -> Stream {
    let event = Format { payload_type: 101, encoding: "telephone-event".into(), clock_rate: 8000, channels: 1 };
    let formats = vec![Format::of_static_type(0).unwrap(), event];
    Stream {
        index,
        line,
        kind: MediaKind::Audio,
        remote_rtp: Some(at(remote)),
        remote_rtcp: Some(rtcp_of(remote)),
        rtcp_mux: false,
        direction: Direction::SendRecv,
        send: formats.clone(),
        receive: formats,
        security: Security::None,
        wishes: Wishes::default(),
        sources: None,
    }
}

fn settings(streams: Vec<Stream>) -> Settings {
    Settings { streams, shared: None, signaling: None, media_timeout: Some(SILENCE) }
}

fn rtp(sequence: u16, payload_type: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    bytes.extend_from_slice(&[0xd5; 160]);
    let mut packet = Packet::parse(&mut bytes).unwrap();
    packet.set_payload_type(payload_type);
    packet.set_sequence(sequence);
    packet.set_timestamp(u32::from(sequence) * 160);
    bytes
}

fn receiver_report() -> Vec<u8> {
    vec![0x80, 201, 0, 1, 0, 0, 0, 7]
}

/// What DTLS shows.
fn certificate() -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let made = rcgen::CertificateParams::new(vec!["tandem".to_owned()]).unwrap().self_signed(&key).unwrap();
    Certificate::new(made.der().to_vec(), &key.serialize_der()).unwrap()
}

/// An engine with Ann's and Bob's port, bridged.
struct Call {
    engine: Engine,
    now: Instant,
    ann: PortId,
    bob: PortId,
}

impl Call {
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    fn new() -> Self {
        let own = vec!["192.0.2.100".parse().unwrap()];
        let policy = Policy { loopback: Loopback::Refused, own, ports: Arc::default(), listeners: Vec::new() };
        let (ann, bob) = (PortId::new(0, 1), PortId::new(0, 2));
        let mut call = Self { engine: Engine::new(0, policy, certificate(), 1), now: Instant::now(), ann, bob };
        call.engine.open(ann, 2);
        call.engine.open(bob, 2);
        call.bridge(ann, bob);
        call.set(ann, settings(vec![stream(0, 0, ANN)]));
        call.set(bob, settings(vec![stream(0, 0, BOB)]));
        call
    }

    /// A bridge of two parties, in place of the one before.
    fn bridge(&mut self, a: PortId, b: PortId) {
        let member = |port, party| Member { port, party, gives: Kinds::BOTH, takes: Kinds::BOTH, until: None, plays: None };
        self.engine.arrange(self.now, BridgeId(1), &[member(a, 0), member(b, 1)]);
    }

    fn set(&mut self, port: PortId, settings: Settings) {
        self.engine.set(self.now, port, &settings);
    }

    fn socket(&self, port: PortId, stream: usize, component: Component) -> SocketId {
        SocketId::new(self.engine.slot(port).unwrap(), stream, component)
    }

    /// A datagram arrives; where it goes, and by which socket.
    fn arrives(&mut self, port: PortId, component: Component, from: SocketAddr, bytes: &[u8]) -> Option<(SocketId, SocketAddr)> {
        let mut buffer = bytes.to_vec();
        let socket = self.socket(port, 0, component);
        let transmit = self.engine.handle_packet(self.now, socket, from, &mut buffer, bytes.len())?;
        assert_eq!(buffer, bytes, "relayed as it is");
        assert_eq!(transmit.length, bytes.len());
        Some((transmit.socket, transmit.to))
    }

    fn speaks(&mut self, port: PortId, from: &str, sequence: u16) -> Option<SocketAddr> {
        self.arrives(port, Component::Rtp, at(from), &rtp(sequence, 0)).map(|(_, to)| to)
    }

    fn reports(&mut self, port: PortId, from: SocketAddr) -> Option<SocketAddr> {
        self.arrives(port, Component::Rtcp, from, &receiver_report()).map(|(_, to)| to)
    }

    /// Lets time pass as the driver does: each timer at its time.
    fn wait(&mut self, time: Duration) -> Vec<Event> {
        let end = self.now + time;
        let mut events = Vec::new();
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            events.extend(std::iter::from_fn(|| self.engine.poll_output()));
        }
        self.now = end;
        events.extend(std::iter::from_fn(|| self.engine.poll_output()));
        events
    }

    fn statistics(&mut self, port: PortId) -> StreamStatistics {
        self.engine.report(port);
        loop {
            match self.engine.poll_output().unwrap() {
                Event::Statistics { statistics, .. } => return statistics.streams[0].clone(),
                Event::Silent { .. }
                | Event::Resumed { .. }
                | Event::Transcoding { .. }
                | Event::Heard { .. }
                | Event::Digit { .. }
                | Event::Closed { .. } => {}
            }
        }
    }
}

#[test]
fn each_hears_the_other_by_the_right_socket() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    let bob_rtp = call.socket(bob, 0, Component::Rtp);
    assert_eq!(call.arrives(ann, Component::Rtp, at(ANN), &rtp(1, 0)), Some((bob_rtp, at(BOB))));
    let ann_rtcp = call.socket(ann, 0, Component::Rtcp);
    assert_eq!(call.arrives(bob, Component::Rtcp, rtcp_of(BOB), &receiver_report()), Some((ann_rtcp, rtcp_of(ANN))));
}

#[test]
fn a_stranger_neither_hears_nor_is_heard() {
    // S2: before, during and after the peer speaks; RTP and RTCP
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    for step in 0..3 {
        assert_eq!(call.speaks(ann, MALLORY, step), None);
        assert_eq!(call.reports(ann, at(MALLORY)), None);
        assert_eq!(call.speaks(bob, BOB, step), Some(at(ANN)), "still to Ann");
        assert_eq!(call.reports(bob, rtcp_of(BOB)), Some(rtcp_of(ANN)));
        if step > 0 {
            assert_eq!(call.speaks(ann, ANN, step), Some(at(BOB)));
            assert_eq!(call.reports(ann, rtcp_of(ANN)), Some(rtcp_of(BOB)));
        }
    }
    // From the phone's own host, too, once the phone has spoken.
    assert_eq!(call.speaks(ann, "203.0.113.5:4999", 9), None);
    assert_eq!(call.reports(ann, at("203.0.113.5:4999")), None);
    let counted = call.statistics(ann);
    assert_eq!((counted.strangers, counted.received.packets), (8, 2));
}

#[test]
fn a_phone_behind_a_nat_is_found_by_its_signaling() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    call.set(ann, Settings { signaling: Some(at("198.51.100.7:5060").ip()), ..settings(vec![stream(0, 0, "10.0.0.5:4000")]) });
    assert_eq!(call.speaks(bob, BOB, 1), Some(at("10.0.0.5:4000")));
    assert_eq!(call.speaks(ann, "198.51.100.7:33333", 1), Some(at(BOB)));
    assert_eq!(call.speaks(bob, BOB, 2), Some(at("198.51.100.7:33333")));
    assert_eq!(call.reports(bob, rtcp_of(BOB)), Some(at("10.0.0.5:4001")), "RTCP learns for itself");
    assert_eq!(call.reports(ann, at("198.51.100.7:33334")), Some(rtcp_of(BOB)));
    assert_eq!(call.reports(bob, rtcp_of(BOB)), Some(at("198.51.100.7:33334")));
}

#[test]
fn nothing_is_sent_inside_because_an_sdp_says_so() {
    // S19
    for inside in ["127.0.0.1:22", "169.254.169.254:80", "224.0.0.1:4000", "255.255.255.255:4000", "[::1]:22"] {
        let mut call = Call::new();
        let (ann, bob) = (call.ann, call.bob);
        call.set(ann, settings(vec![stream(0, 0, inside)]));
        assert_eq!(call.speaks(bob, BOB, 1), None, "{inside}");
        assert_eq!(call.reports(bob, rtcp_of(BOB)), None, "{inside}");
        assert_eq!(call.speaks(ann, inside, 1), None, "{inside}: a packet from there does not make it better");
        assert_eq!(call.speaks(bob, BOB, 2), None, "{inside}");
        assert_eq!(call.statistics(bob).withheld, 3);
    }
}

#[test]
fn a_held_side_gets_no_media_but_rtcp() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    // Ann holds: she sends music and takes nothing.
    call.set(ann, settings(vec![Stream { direction: Direction::RecvOnly, ..stream(0, 0, ANN) }]));
    call.set(bob, settings(vec![Stream { direction: Direction::SendOnly, ..stream(0, 0, BOB) }]));
    assert_eq!(call.speaks(ann, ANN, 1), Some(at(BOB)));
    assert_eq!(call.speaks(bob, BOB, 1), None);
    assert_eq!(call.reports(bob, rtcp_of(BOB)), Some(rtcp_of(ANN)));
    let counted = call.statistics(bob);
    assert_eq!((counted.withheld, counted.received.packets, counted.sent.packets), (1, 1, 1));
}

#[test]
fn one_sides_direction_is_enough_to_stop_media() {
    let held = |direction, remote| settings(vec![Stream { direction, ..stream(0, 0, remote) }]);
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    call.set(ann, held(Direction::SendOnly, ANN));
    assert_eq!(call.speaks(ann, ANN, 1), None, "Ann should not be sending");
    assert_eq!(call.speaks(bob, BOB, 1), Some(at(ANN)));
    call.set(ann, held(Direction::RecvOnly, ANN));
    assert_eq!(call.speaks(ann, ANN, 2), Some(at(BOB)));
    assert_eq!(call.speaks(bob, BOB, 2), None, "Ann does not want it");
}

#[test]
fn rtcp_and_rtp_share_a_port_where_agreed() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    call.set(ann, settings(vec![Stream { rtcp_mux: true, remote_rtcp: Some(at(ANN)), ..stream(0, 0, ANN) }]));
    let ann_rtp = call.socket(ann, 0, Component::Rtp);
    assert_eq!(call.arrives(bob, Component::Rtcp, rtcp_of(BOB), &receiver_report()), Some((ann_rtp, at(ANN))));
    let bob_rtcp = call.socket(bob, 0, Component::Rtcp);
    assert_eq!(call.arrives(ann, Component::Rtp, at(ANN), &receiver_report()), Some((bob_rtcp, rtcp_of(BOB))));
    assert_eq!(call.reports(ann, at(ANN)), None, "the other port is closed to it");
    assert_eq!(call.arrives(bob, Component::Rtp, at(BOB), &receiver_report()), None, "and Bob did not agree to share");
}

#[test]
fn what_is_neither_rtp_nor_rtcp_is_dropped() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    let stun = b"\0\x01\0\0\x21\x12\xa4\x42............";
    for (component, bytes) in [(Component::Rtp, &stun[..]), (Component::Rtp, b""), (Component::Rtp, b"\r\n"), (Component::Rtcp, stun)] {
        assert_eq!(call.arrives(ann, component, at(ANN), bytes), None);
    }
    // RTP on the RTCP port is not taken for RTCP.
    assert_eq!(call.arrives(ann, Component::Rtcp, rtcp_of(ANN), &rtp(1, 0)), None);
    assert_eq!(call.statistics(ann).malformed, 5);
    // S2: it teaches nothing either
    assert_eq!(call.arrives(ann, Component::Rtp, at("203.0.113.5:9"), stun), None);
    assert_eq!(call.speaks(bob, BOB, 1), Some(at(ANN)));
}

#[test]
fn digits_pass_and_are_counted() {
    let mut call = Call::new();
    let ann = call.ann;
    for sequence in 0..3 {
        let mut digit = rtp(sequence, 101);
        Packet::parse(&mut digit).unwrap().set_timestamp(160);
        assert!(call.arrives(ann, Component::Rtp, at(ANN), &digit).is_some());
    }
    assert_eq!(call.statistics(ann).events, 1);
}

#[test]
fn streams_are_bridged_by_their_line() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    let video = |index, remote| Stream { kind: MediaKind::Video, ..stream(index, 2, remote) };
    call.set(ann, settings(vec![stream(0, 0, ANN), video(1, "203.0.113.5:4010")]));
    call.set(bob, settings(vec![video(0, "198.51.100.9:6010"), stream(1, 0, BOB)]));
    let bob_audio = call.socket(bob, 1, Component::Rtp);
    assert_eq!(call.arrives(ann, Component::Rtp, at(ANN), &rtp(1, 0)), Some((bob_audio, at(BOB))));
    // Bob gives up his video: Ann's goes nowhere.
    call.set(bob, settings(vec![stream(1, 0, BOB)]));
    let socket = call.socket(ann, 1, Component::Rtp);
    let mut bytes = rtp(1, 96);
    assert_eq!(call.engine.handle_packet(call.now, socket, at("203.0.113.5:4010"), &mut bytes, 172), None);
}

#[test]
fn a_port_hears_only_whom_it_is_bridged_with() {
    let mut call = Call::new();
    let (ann, bob, carol) = (call.ann, call.bob, PortId::new(0, 3));
    call.engine.open(carol, 1);
    call.set(carol, settings(vec![stream(0, 0, "203.0.113.77:7000")]));
    call.bridge(ann, carol);
    assert_eq!(call.speaks(ann, ANN, 1), Some(at("203.0.113.77:7000")));
    assert_eq!(call.speaks(bob, BOB, 1), None, "Bob was left");
    call.engine.arrange(call.now, BridgeId(1), &[]);
    assert_eq!(call.speaks(ann, ANN, 2), None);
    call.bridge(ann, ann);
    call.bridge(ann, PortId::new(0, 9));
    assert_eq!(call.speaks(ann, ANN, 3), None, "neither oneself nor nobody is a party");
}

#[test]
fn a_closed_port_is_silent_and_its_slot_is_used_again() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    call.speaks(ann, ANN, 1);
    call.set(bob, Settings { media_timeout: None, ..settings(vec![stream(0, 0, BOB)]) });
    let slot = call.engine.close(call.now, ann).unwrap();
    assert_eq!(call.engine.poll_timeout(), None, "its timer went with it");
    let events = call.wait(Duration::ZERO);
    assert!(
        matches!(&events[..], [Event::Closed { port, statistics: Statistics { streams } }] if *port == ann && streams[0].received.packets == 1)
    );
    assert_eq!(call.speaks(bob, BOB, 1), None);
    assert_eq!(call.engine.close(call.now, ann), None, "once");
    call.set(ann, settings(vec![stream(0, 0, ANN)]));
    call.engine.report(ann);
    assert_eq!(call.wait(Duration::ZERO), [], "late commands change nothing");
    let new = PortId::new(0, 4);
    assert_eq!(call.engine.open(new, 1), slot);
    assert_eq!(call.speaks(new, ANN, 2), None, "the new port knows nothing of the old one's peer");
    assert_eq!(call.engine.len(), 2);
}

#[test]
fn a_silent_leg_is_reported_once_and_again_when_it_returns() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    let mut spoken = 0;
    let mut both_speak = |call: &mut Call, bob_too: bool, time: Duration| {
        let mut events = Vec::new();
        for _ in 0..time.as_secs() {
            spoken += 1;
            call.speaks(ann, ANN, spoken);
            if bob_too {
                call.speaks(bob, BOB, spoken);
            }
            events.extend(call.wait(Duration::from_secs(1)));
        }
        events
    };
    assert_eq!(both_speak(&mut call, true, Duration::from_secs(100)), []);
    let events = both_speak(&mut call, false, Duration::from_secs(100));
    assert_eq!(events, [Event::Silent { port: bob, verdict: "no packet from 198.51.100.9:6000 in 30 s; 100 came before".into() }]);
    assert_eq!(both_speak(&mut call, true, Duration::from_secs(5)), [Event::Resumed { port: bob }]);
    assert_eq!(both_speak(&mut call, false, Duration::from_secs(40)).len(), 1, "it is watched again");
}

#[test]
fn silence_of_a_leg_on_hold_or_unwatched_is_nothing() {
    let mut call = Call::new();
    let (ann, bob) = (call.ann, call.bob);
    call.set(ann, settings(vec![Stream { direction: Direction::SendOnly, ..stream(0, 0, ANN) }]));
    call.set(bob, Settings { media_timeout: None, ..settings(vec![stream(0, 0, BOB)]) });
    assert_eq!(call.wait(Duration::from_secs(3600)), []);
    assert_eq!(call.engine.poll_timeout(), None);
    call.set(ann, settings(vec![stream(0, 0, ANN)]));
    assert_eq!(call.wait(Duration::from_secs(29)), [], "resumed, it has its full time");
    assert_eq!(call.wait(Duration::from_secs(1)).len(), 1);
    // Held again while silent, then resumed: a new spell.
    call.set(ann, settings(vec![Stream { direction: Direction::Inactive, ..stream(0, 0, ANN) }]));
    call.speaks(ann, ANN, 1);
    assert_eq!(call.wait(Duration::from_secs(60)), []);
    // It has put us on hold: it may send music, and need not.
    call.set(ann, settings(vec![Stream { direction: Direction::RecvOnly, ..stream(0, 0, ANN) }]));
    assert_eq!(call.wait(Duration::from_secs(60)), []);
    // Nobody is to hear what it says.
    let held = |port, gives, party| Member { port, party, gives, takes: Kinds::BOTH, until: None, plays: None };
    call.set(ann, settings(vec![stream(0, 0, ANN)]));
    call.engine.arrange(call.now, BridgeId(1), &[held(ann, Kinds::NONE, 0), held(bob, Kinds::BOTH, 1)]);
    assert_eq!(call.wait(Duration::from_secs(60)), []);
    call.engine.arrange(call.now, BridgeId(1), &[held(ann, Kinds::BOTH, 0), held(bob, Kinds::BOTH, 1)]);
    assert_eq!(call.wait(Duration::from_secs(60)).len(), 1);
}

#[test]
fn the_verdict_says_why() {
    let cases = [
        (stream(0, 0, ANN), None, "no packet from 203.0.113.5:4000 in 30 s"),
        (stream(0, 0, "10.0.0.5:4000"), None, "no packet from 10.0.0.5:4000 in 30 s; the SDP gave a private address"),
        (stream(0, 0, "127.0.0.1:4000"), None, "no packet from 127.0.0.1:4000 in 30 s; the SDP gave a loopback address"),
        (Stream { remote_rtp: None, ..stream(0, 0, ANN) }, None, "no packet in 30 s; the SDP gave no address"),
        (
            stream(0, 0, "10.0.0.5:4000"),
            Some(MALLORY),
            "no packet from 10.0.0.5:4000 in 30 s; packets came from 192.0.2.66:4000, which neither the SDP nor the signaling names",
        ),
    ];
    for (stream, stranger, expected) in cases {
        let mut call = Call::new();
        let ann = call.ann;
        call.set(call.bob, Settings::default());
        call.set(ann, settings(vec![stream]));
        if let Some(stranger) = stranger {
            call.speaks(ann, stranger, 1);
        }
        assert_eq!(call.wait(SILENCE), [Event::Silent { port: ann, verdict: expected.into() }]);
    }
}

#[test]
fn strangers_do_not_hide_that_a_leg_is_silent() {
    // S2
    let mut call = Call::new();
    let ann = call.ann;
    call.set(call.bob, Settings::default());
    let mut events = Vec::new();
    for second in 0..40 {
        call.speaks(ann, MALLORY, second);
        events.extend(call.wait(Duration::from_secs(1)));
    }
    assert_eq!(events.len(), 1);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }
}

#[test]
fn over_a_bad_wire_all_that_arrives_goes_on_and_is_counted() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("SEED={seed}");
    let mut random = Random(seed);
    for round in 0..20 {
        let mut call = Call::new();
        let (ann, bob) = (call.ann, call.bob);
        // What is under way: (time of arrival, order) to (whose, packet).
        let mut wire: BTreeMap<(Instant, u64), (bool, u16)> = BTreeMap::new();
        let (mut lost, mut doubled, mut order) = ([0_u64; 2], [0_u64; 2], 0);
        const PACKETS: u16 = 2000;
        for sequence in 0..PACKETS {
            for ann_speaks in [true, false] {
                let copies = match random.below(100) {
                    0..5 if sequence > 0 && sequence < PACKETS - 1 => 0,
                    5..8 => 2,
                    _ => 1,
                };
                lost[usize::from(ann_speaks)] += u64::from(copies == 0);
                doubled[usize::from(ann_speaks)] += u64::from(copies == 2);
                for _ in 0..copies {
                    order += 1;
                    let sent = call.now + Duration::from_millis(20) * u32::from(sequence);
                    // The first comes first and the last last, so that loss is exact.
                    let late = if sequence == 0 || sequence == PACKETS - 1 { 70 } else { 10 + random.below(60) };
                    let late = if sequence == 0 { 0 } else { late };
                    wire.insert((sent + Duration::from_millis(late), order), (ann_speaks, sequence));
                }
            }
            if random.below(10) == 0 {
                call.speaks(ann, MALLORY, sequence); // S2
            }
        }
        let mut heard = [0_u64; 2];
        for ((time, _), (ann_speaks, sequence)) in wire {
            let wait = time - call.now;
            assert_eq!(call.wait(wait), []);
            let (port, from, to) = if ann_speaks { (ann, ANN, BOB) } else { (bob, BOB, ANN) };
            assert_eq!(call.speaks(port, from, sequence), Some(at(to)), "seed {seed}, round {round}");
            heard[usize::from(ann_speaks)] += 1;
        }
        for (port, other, who) in [(ann, bob, 1), (bob, ann, 0)] {
            let (counted, other) = (call.statistics(port), call.statistics(other));
            assert_eq!(counted.received.packets, heard[who], "seed {seed}");
            assert_eq!(other.sent, counted.received, "seed {seed}");
            assert_eq!(counted.lost, lost[who].saturating_sub(doubled[who]), "seed {seed}: RFC 3550 counts doubles as found");
            assert!((Duration::from_millis(5)..Duration::from_millis(60)).contains(&counted.jitter), "seed {seed}: {:?}", counted.jitter);
        }
    }
}
