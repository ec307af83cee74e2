//! What a relayed packet and a port cost: time of the engine and CPU time of the media thread per packet, and of opening and closing
//! a leg. `cargo bench --bench relay` measures with a generator of its own; `cargo bench --bench relay -- serve TABLE A B` sets
//! up 500 calls between the addresses A and B for another generator, writes `port of A, port of B` lines to TABLE and stays.
#![expect(clippy::disallowed_methods, reason = "a benchmark has sockets, threads and a clock")]

use std::{
    fs,
    io::Write,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use media::{
    Engine, PortId, Settings, SocketId,
    port::{
        Kind,
        destination::{Loopback, Policy},
        rtp::Component,
        webrtc::Certificate,
    },
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Security, Stream},
    },
};
use tandem::net::rtp::{Config, Media, OpenPort};
use tokio::sync::mpsc;

const CALLS: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", table, a, b] => serve(table, address(a), address(b)),
        [] => {
            engine();
            setup();
            relay(50_000);
            relay(100_000);
        }
        _ => eprintln!("usage: relay [serve TABLE A_ADDRESS B_ADDRESS]"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn start() -> Media {
    let (events, mut told) = mpsc::channel(1024);
    thread::spawn(move || while told.blocking_recv().is_some() {});
    let own = [127, 0, 67, 1].into();
    let config = Config {
        webrtc_port: 0,
        certificate: certificate(),
        address: own,
        advertise: own,
        ports: 20000..=29999,
        loopback: Loopback::Allowed,
        listeners: Vec::new(),
        threads: Some(1),
        seed: 1,
    };
    Media::start(config, events).expect("a media thread")
}

fn stream(remote: SocketAddr) -> Stream {
    let format = Format::of_static_type(0).expect("PCMU is static");
    Stream {
        index: 0,
        line: 0,
        kind: MediaKind::Audio,
        remote_rtp: Some(remote),
        remote_rtcp: None,
        rtcp_mux: false,
        direction: Direction::SendRecv,
        send: vec![format.clone()],
        receive: vec![format],
        security: Security::None,
    }
}

fn call(media: &Media, a: SocketAddr, b: SocketAddr) -> (OpenPort, OpenPort) {
    let caller = media.open(Kind::Own, 1, None).expect("a port");
    let callee = media.open(Kind::Own, 1, Some(caller.id)).expect("a port");
    for (port, remote) in [(&caller, a), (&callee, b)] {
        let settings =
            Settings { streams: vec![stream(remote)], shared: None, signaling: None, media_timeout: Some(Duration::from_secs(30)) };
        media.set(port.id, settings).expect("room for a command");
    }
    media.bridge(caller.id, callee.id).expect("both on one thread");
    (caller, callee)
}

fn serve(table: &str, a: SocketAddr, b: SocketAddr) {
    let media = start();
    let mut out = fs::File::create(table).expect("the table can be written");
    for _ in 0..CALLS {
        let (caller, callee) = call(&media, a, b);
        let (caller, callee) = (caller.local.addresses[0].rtp, callee.local.addresses[0].rtp);
        writeln!(out, "{} {} {} {}", caller.ip(), caller.port(), callee.ip(), callee.port()).expect("the table can be written");
    }
    println!("UP {CALLS} pid {}", std::process::id());
    loop {
        thread::park();
    }
}

/// CPU time of all threads whose name begins so, from the scheduler's nanoseconds.
fn cpu(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let of = |path: std::path::PathBuf| {
        let matches = fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.starts_with(name));
        let stat = matches.then(|| fs::read_to_string(path.join("schedstat")).ok())??;
        stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.filter_map(|task| of(task.path())).sum()
}

/// The engine alone, without sockets: what is ours of a packet's cost.
fn engine() {
    const PACKETS: u32 = 5_000_000;
    let own = [127, 0, 67, 1].into();
    let policy = Policy { loopback: Loopback::Allowed, own: vec![own], ports: Arc::default(), listeners: Vec::new() };
    let mut engine = Engine::new(0, policy, certificate(), 1);
    let now = Instant::now();
    let remote = address("127.0.67.2:4000");
    let mut sockets = Vec::new();
    for number in (0..CALLS as u64 * 2).step_by(2) {
        let (a, b) = (PortId::new(0, number), PortId::new(0, number + 1));
        for port in [a, b] {
            sockets.push(SocketId::new(engine.open(port, 1), 0, Component::Rtp));
            engine.set(now, port, &Settings { streams: vec![stream(remote)], shared: None, signaling: None, media_timeout: None });
        }
        engine.bridge(a, b);
    }
    let mut packet = [0_u8; 200];
    packet[0] = 0x80;
    let before = Instant::now();
    for sequence in 0..PACKETS {
        packet[2..4].copy_from_slice(&((sequence / 1000) as u16).to_be_bytes());
        let socket = sockets[sequence as usize % sockets.len()];
        engine.handle_packet(now, socket, remote, &mut packet, 172).expect("relayed");
    }
    println!("engine alone: {:.0} ns a packet", before.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS));
}

fn setup() {
    const ROUNDS: u32 = 5_000;
    let media = start();
    let before = cpu("");
    for _ in 0..ROUNDS {
        let port = media.open(Kind::Own, 1, None).expect("a port");
        media.set(port.id, Settings::default()).expect("room for a command");
        media.close(port.id);
    }
    let spent = (cpu("") - before) / ROUNDS;
    println!("open, set and close a leg of two sockets: {:.1} us of CPU, all threads", spent.as_secs_f64() * 1e6);
}

fn relay(rate: u64) {
    let media = start();
    let (a, b) = (UdpSocket::bind("127.0.67.2:0").expect("a socket"), UdpSocket::bind("127.0.67.3:0").expect("a socket"));
    let (a_at, b_at) = (a.local_addr().expect("bound"), b.local_addr().expect("bound"));
    let calls: Vec<_> = (0..CALLS).map(|_| call(&media, a_at, b_at)).collect();
    for socket in [&a, &b] {
        let socket = socket.try_clone().expect("a second handle");
        thread::spawn(move || while socket.recv(&mut [0; 2048]).is_ok() {});
    }
    let mut packet = [0_u8; 172];
    packet[0] = 0x80;
    let (from, before, mut sent) = (Instant::now(), cpu("media-"), 0_u64);
    while from.elapsed() < Duration::from_secs(4) {
        while sent < (from.elapsed().as_secs_f64() * rate as f64) as u64 {
            let (caller, callee) = &calls[sent as usize / 2 % CALLS];
            packet[2..4].copy_from_slice(&((sent / 1000) as u16).to_be_bytes());
            let (socket, to) = if sent % 2 == 0 { (&a, caller) } else { (&b, callee) };
            socket.send_to(&packet, to.local.addresses[0].rtp).expect("sent");
            sent += 1;
        }
        thread::sleep(Duration::from_micros(200));
    }
    let spent = cpu("media-") - before;
    let at = sent as f64 / from.elapsed().as_secs_f64();
    println!("relay at {at:.0} packets/s over {} sockets: {:.2} us of CPU a packet", CALLS * 2, spent.as_secs_f64() * 1e6 / sent as f64);
}

/// What DTLS shows.
fn certificate() -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let made = rcgen::CertificateParams::new(vec!["tandem".to_owned()]).expect("a name").self_signed(&key).expect("a certificate");
    Certificate::new(made.der().to_vec(), &key.serialize_der()).expect("one that DTLS can use")
}
