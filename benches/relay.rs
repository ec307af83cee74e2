//! What a relayed packet and a port cost: time of the engine and CPU time of the media thread per packet, and of opening and closing
//! a leg. `cargo bench --bench relay` measures with a generator of its own; `cargo bench --bench relay -- serve TABLE A B [srtp]` sets
//! up 500 calls between the addresses A and B for another generator, writes `port of A, port of B` lines to TABLE and stays. With
//! `srtp` B's side has the keys that stand behind its port: those B sends with, then ours. `-- memory CALLS` tells what a call takes.
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
    BridgeId, Engine, Kinds, Member, PortId, Settings, SocketId,
    port::{
        Kind,
        destination::{Loopback, Policy},
        rtp::Component,
        webrtc::Certificate,
    },
    rtp::srtp::{Keys, PROFILES, Profile},
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Security, Stream, Wishes},
    },
};
use tandem::net::rtp::{Config, Media, OpenPort};
use tokio::sync::mpsc;

const CALLS: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", table, a, b] => serve(table, address(a), address(b), None),
        ["serve", table, a, b, "srtp"] => serve(table, address(a), address(b), Some(Profile::AesCm128HmacSha1_80)),
        ["memory", calls] => memory(calls.parse().expect("a number")),
        [] => {
            engine(None);
            PROFILES.into_iter().for_each(|profile| engine(Some(profile)));
            setup();
            relay(50_000);
            relay(100_000);
        }
        _ => eprintln!("usage: relay [serve TABLE A_ADDRESS B_ADDRESS [srtp] | memory CALLS]"),
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
        ports: 21000..=29999,
        loopback: Loopback::Allowed,
        listeners: Vec::new(),
        threads: Some(1),
        seed: 1,
        music: media::Sound::music(),
    };
    Media::start(config, events).expect("a media thread")
}

fn stream(remote: SocketAddr, security: Security) -> Stream {
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
        security,
        wishes: Wishes::default(),
        sources: None,
    }
}

/// Keys of both directions from the system's random numbers.
fn security(profile: Profile) -> Security {
    let mut fill = |bytes: &mut [u8]| getrandom::fill(bytes).expect("random numbers");
    Security::Sdes { send: Keys::random(profile, &mut fill), receive: Keys::random(profile, &mut fill) }
}

fn member(port: PortId, party: u16) -> Member {
    Member { port, party, gives: Kinds::BOTH, takes: Kinds::BOTH, until: None, plays: None }
}

fn call(media: &Media, a: SocketAddr, (b, of_b): (SocketAddr, Security)) -> (OpenPort, OpenPort) {
    let caller = media.open(Kind::Own, 1, None).expect("a port");
    let callee = media.open(Kind::Own, 1, Some(caller.id)).expect("a port");
    for (port, stream) in [(&caller, stream(a, Security::None)), (&callee, stream(b, of_b))] {
        let settings = Settings { streams: vec![stream], shared: None, signaling: None, media_timeout: Some(Duration::from_secs(30)) };
        media.set(port.id, settings).expect("room for a command");
    }
    media.arrange(BridgeId(caller.id.number()), &[member(caller.id, 0), member(callee.id, 1)]).expect("both on one thread");
    (caller, callee)
}

fn serve(table: &str, a: SocketAddr, b: SocketAddr, profile: Option<Profile>) {
    let media = start();
    let mut out = fs::File::create(table).expect("the table can be written");
    for _ in 0..CALLS {
        let security = profile.map_or(Security::None, security);
        let hex = |keys: &Keys| keys.to_octets().iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let keys = match &security {
            Security::Sdes { send, receive } => format!(" {} {}", hex(receive), hex(send)),
            Security::None | Security::Dtls(_) | Security::Shared => String::new(),
        };
        let (caller, callee) = call(&media, a, (b, security));
        let (caller, callee) = (caller.local.addresses[0].rtp, callee.local.addresses[0].rtp);
        writeln!(out, "{} {} {} {}{keys}", caller.ip(), caller.port(), callee.ip(), callee.port()).expect("the table can be written");
    }
    println!("UP {CALLS} pid {}", std::process::id());
    loop {
        thread::park();
    }
}

/// What the process grows by for each call that is up, one packet having gone each way; the kernel's sockets are not in it.
fn memory(calls: usize) {
    let media = start();
    let (a, b) = (UdpSocket::bind("127.0.67.2:0").expect("a socket"), UdpSocket::bind("127.0.67.3:0").expect("a socket"));
    let (a_at, b_at) = (a.local_addr().expect("bound"), b.local_addr().expect("bound"));
    for profile in [None, Some(Profile::AesCm128HmacSha1_80)] {
        let (before, slabs) = (resident(), slab());
        let ports: Vec<_> = (0..calls).map(|_| call(&media, a_at, (b_at, profile.map_or(Security::None, security)))).collect();
        for (caller, callee) in &ports {
            for (socket, port) in [(&a, caller), (&b, callee)] {
                socket.send_to(&[0x80; 172], port.local.addresses[0].rtp).expect("sent");
            }
            thread::sleep(Duration::from_micros(50));
        }
        thread::sleep(Duration::from_secs(1));
        let per_call = |before: u64, after: u64| after.saturating_sub(before) as f64 / calls as f64;
        let (process, kernel) = (per_call(before, resident()), per_call(slabs, slab()));
        println!(
            "{calls} calls {}: {process:.2} kB a call, and {kernel:.2} kB of the kernel for four sockets",
            profile.map_or("RTP", |_| "RTP to SRTP")
        );
        for (caller, callee) in ports {
            media.close(caller.id);
            media.close(callee.id);
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Private memory of this process, kB.
fn resident() -> u64 {
    field("/proc/self/smaps_rollup", "Pss:")
}

/// The kernel's own objects on this machine, kB: sockets are the part that we change.
fn slab() -> u64 {
    field("/proc/meminfo", "Slab:")
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).expect("a size in kB")
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

/// The engine alone, without sockets: what is ours of a packet's cost. With a profile, packets go from plain legs to protected ones.
fn engine(profile: Option<Profile>) {
    const PACKETS: u32 = 5_000_000;
    let own = [127, 0, 67, 1].into();
    let policy = Policy { loopback: Loopback::Allowed, own: vec![own], ports: Arc::default(), listeners: Vec::new() };
    let mut engine = Engine::new(0, policy, certificate(), 1);
    let now = Instant::now();
    let remote = address("127.0.67.2:4000");
    let mut sockets = Vec::new();
    for number in (0..CALLS as u64 * 2).step_by(2) {
        let (a, b) = (PortId::new(0, number), PortId::new(0, number + 1));
        for (port, profile) in [(a, None), (b, profile)] {
            let socket = SocketId::new(engine.open(port, 1), 0, Component::Rtp);
            let stream = stream(remote, profile.map_or(Security::None, security));
            engine.set(now, port, &Settings { streams: vec![stream], shared: None, signaling: None, media_timeout: None });
            if profile.is_none() {
                sockets.push(socket);
            }
        }
        engine.arrange(now, BridgeId(number), &[member(a, 0), member(b, 1)]);
    }
    let mut packet = [0_u8; 256];
    packet[0] = 0x80;
    let before = cpu("");
    for sequence in 0..PACKETS {
        packet[2..4].copy_from_slice(&((sequence as usize / sockets.len()) as u16).to_be_bytes());
        let socket = sockets[sequence as usize % sockets.len()];
        engine.handle_packet(now, socket, remote, &mut packet, 172).expect("relayed");
    }
    let to = profile.map_or("RTP", Profile::sdes_name);
    println!("engine alone, RTP to {to}: {:.0} ns a packet", (cpu("") - before).as_secs_f64() * 1e9 / f64::from(PACKETS));
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
    let calls: Vec<_> = (0..CALLS).map(|_| call(&media, a_at, (b_at, Security::None))).collect();
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
