//! What a meeting costs: CPU for each participant and second, everyone talking, and the time that a mix keeps sound back.
//! `cargo bench -p media --bench room`. The time is that of one thread, from a packet's octets to those of the packets that go out,
//! without sockets.
#![expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use media::{
    BridgeId, Engine, Kinds, Member, PortId, Settings, SocketId,
    codec::{self, Codec, MAX_PAYLOAD, Parameters},
    port::{
        destination::{Loopback, Policy},
        rtp::Component,
        webrtc::Certificate,
    },
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Security, Stream, Wishes},
    },
};

const FRAME: Duration = Duration::from_millis(20);
const FRAMES: u32 = 1000;

fn engine() -> Engine {
    let made = rcgen::generate_simple_self_signed(vec!["tandem.test".to_owned()]).expect("a certificate");
    let certificate = Certificate::new(made.cert.der().to_vec(), &made.signing_key.serialize_der()).expect("one that DTLS can use");
    Engine::new(0, Policy { loopback: Loopback::Refused, own: vec![], ports: Default::default(), listeners: vec![] }, certificate, 1)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|time| time.parse().ok()).expect("a number"))
}

fn address(room: usize, party: usize) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, party as u8 + 1], 4000 + 2 * room as u16))
}

fn settings(address: SocketAddr, format: &Format) -> Settings {
    let stream = Stream {
        index: 0,
        line: 0,
        kind: MediaKind::Audio,
        remote_rtp: Some(address),
        remote_rtcp: Some(address),
        rtcp_mux: true,
        direction: Direction::SendRecv,
        send: vec![format.clone()],
        receive: vec![format.clone()],
        security: Security::None,
        wishes: Wishes::default(),
        sources: None,
    };
    Settings { streams: vec![stream], ..Settings::default() }
}

/// Payloads of a voice: a gliding tone with some noise.
fn voice(codec: &dyn Codec, pitch: f64) -> Vec<Vec<u8>> {
    let rate = codec.sample_rates().last().copied().expect("a rate");
    let mut encoder = codec.encoder(rate, &Parameters::default()).expect("an encoder");
    let (mut phase, mut payload) = (0.0, [0; MAX_PAYLOAD]);
    let frame = |n: u32| {
        let samples: Vec<i16> = (0..rate / 50)
            .map(|m| {
                phase += pitch * (1.0 + 0.2 * (f64::from(n) / 40.0).sin()) / f64::from(rate);
                ((phase * std::f64::consts::TAU).sin() * 6000.0 + f64::from(m * 7919 % 400)) as i16
            })
            .collect();
        let length = encoder.encode(&samples, &mut payload).expect("a frame");
        payload[..length].to_vec()
    };
    (0..100).map(frame).collect()
}

/// Milliseconds of CPU for each participant and second, in rooms of so many, all of them talking.
fn measure(rooms: usize, parties: usize, codec: &'static dyn Codec, format: &Format) -> f64 {
    let (mut engine, mut now) = (engine(), Instant::now());
    let mut sockets = Vec::new();
    for room in 0..rooms {
        let mut members = Vec::new();
        for party in 0..parties {
            let port = PortId::new(0, (room * parties + party) as u64);
            sockets.push((SocketId::new(engine.open(port, 1), 0, Component::Rtp), address(room, party)));
            engine.set(now, port, &settings(address(room, party), format));
            members.push(Member { port, party: party as u16, gives: Kinds::BOTH, takes: Kinds::BOTH, until: None, plays: None });
        }
        engine.arrange(now, BridgeId(room as u64), &members);
    }
    let voices: Vec<_> = (0..parties).map(|party| voice(codec, 100.0 + 20.0 * party as f64)).collect();
    let mut packets: Vec<Vec<u8>> = vec![Vec::new(); sockets.len()];
    let (mut buffer, mut spent, mut sent) = ([0; 2048], Duration::ZERO, 0_u32);
    for n in 0..FRAMES {
        for (index, packet) in packets.iter_mut().enumerate() {
            packet.clear();
            packet.extend([0x80, format.payload_type]);
            packet.extend((n as u16).to_be_bytes());
            packet.extend((n * codec.clock_rate() / 50).to_be_bytes());
            packet.extend((index as u32 + 1).to_be_bytes());
            packet.extend(&voices[index % parties][n as usize % 100]);
        }
        let begin = cpu();
        for (packet, (socket, from)) in packets.iter().zip(&sockets) {
            buffer[..packet.len()].copy_from_slice(packet);
            let relayed = engine.handle_packet(now, *socket, *from, &mut buffer, packet.len());
            sent += u32::from(relayed.is_some());
        }
        now += FRAME;
        engine.handle_timeout(now);
        while engine.poll_transmit(&mut buffer).is_some() {
            sent += 1;
        }
        spent += cpu() - begin;
    }
    let participants = sockets.len() as f64;
    assert!(f64::from(sent) > 0.95 * f64::from(FRAMES) * participants, "{sent} packets sent");
    spent.as_secs_f64() * 1e3 / (participants * FRAMES as f64 * FRAME.as_secs_f64())
}

fn main() {
    println!("ms of CPU for each participant and second, everyone talking");
    for (name, clock_rate) in [("PCMU", 8000), ("G722", 8000), ("opus", 48000)] {
        let codec = codec::find(name, clock_rate).expect("one of ours");
        let payload_type = codec.static_payload_type().unwrap_or(111);
        let format = Format { payload_type, encoding: name.into(), clock_rate, channels: codec.channels() };
        for (rooms, parties) in [(if name == "PCMU" { 100 } else { 4 }, 5), (1, 50)] {
            let time = measure(rooms, parties, codec, &format);
            println!("  {name:>4}, rooms of {parties:>2}: {time:.3}");
        }
    }
    let codec = codec::find("PCMU", 8000).expect("one of ours");
    let format = Format::of_static_type(0).expect("PCMU is static");
    println!("  PCMU, relayed between two: {:.3}", measure(250, 2, codec, &format));
}
