//! The media threads with real sockets on a loopback address of their own: relay, ports and their reuse, and recovery after an
//! overload.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "the phones of these tests are real sockets and read with a time limit")]

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use media::{
    BridgeId, Event, Kinds, Member, PortId, Settings,
    port::{Kind, destination::Loopback, webrtc::Certificate},
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Security, Stream, Wishes},
    },
};
use tandem::net::rtp::{Config, Error, Media, OpenPort};
use tokio::sync::mpsc;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A loopback address that no other test, nor another run of this one, uses.
fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    IpAddr::from([127, 64 | high & 63, low, NEXT.fetch_add(1, Ordering::Relaxed)])
}

fn config(ports: RangeInclusive<u16>) -> Config {
    let address = own_address();
    Config {
        address,
        advertise: address,
        ports,
        webrtc_port: 0,
        certificate: certificate(),
        loopback: Loopback::Allowed,
        listeners: Vec::new(),
        threads: Some(1),
        seed: 7,
        music: media::Sound::music(),
    }
}

/// What DTLS shows.
fn certificate() -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let made = rcgen::CertificateParams::new(vec!["tandem".to_owned()]).unwrap().self_signed(&key).unwrap();
    Certificate::new(made.der().to_vec(), &key.serialize_der()).unwrap()
}

fn start(ports: RangeInclusive<u16>, room_for_events: usize) -> (Media, mpsc::Receiver<Event>) {
    let (events, told) = mpsc::channel(room_for_events);
    (Media::start(config(ports), events).unwrap(), told)
}

struct Phone {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Phone {
    fn new(ip: IpAddr) -> Self {
        let bind = || UdpSocket::bind((ip, 0)).unwrap();
        let phone = Self { rtp: bind(), rtcp: bind() };
        phone.rtp.set_read_timeout(Some(PATIENCE)).unwrap();
        phone.rtcp.set_read_timeout(Some(PATIENCE)).unwrap();
        phone
    }

    fn stream(&self, index: usize) -> Stream {
        let format = Format::of_static_type(0).unwrap();
        Stream {
            index,
            line: index,
            kind: MediaKind::Audio,
            remote_rtp: Some(self.rtp.local_addr().unwrap()),
            remote_rtcp: Some(self.rtcp.local_addr().unwrap()),
            rtcp_mux: false,
            direction: Direction::SendRecv,
            send: vec![format.clone()],
            receive: vec![format],
            security: Security::None,
            wishes: Wishes::default(),
            sources: None,
        }
    }

    fn says(&self, sequence: u16, to: &OpenPort) {
        match self.rtp.send_to(&rtp(sequence), to.local.addresses[0].rtp) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    /// The next packet's number; none when its time to come is over.
    fn hears(&self) -> Option<u16> {
        let mut bytes = [0; 2048];
        let length = self.rtp.recv(&mut bytes).ok()?;
        assert_eq!(length, 172);
        Some(u16::from_be_bytes([bytes[2], bytes[3]]))
    }
}

fn rtp(sequence: u16) -> [u8; 172] {
    let mut bytes = [0xd5; 172];
    bytes[..12].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// A call between two phones.
struct Call {
    phones: [Phone; 2],
    ports: [OpenPort; 2],
}

fn member(port: PortId, party: u16) -> Member {
    Member { port, party, gives: Kinds::BOTH, takes: Kinds::BOTH, until: None, plays: None }
}

fn settings(streams: Vec<Stream>) -> Settings {
    Settings { streams, ..Settings::default() }
}

fn call(media: &Media) -> Call {
    let a = media.open(Kind::Own, 1, None).unwrap();
    let b = media.open(Kind::Own, 1, Some(a.id)).unwrap();
    let ip = a.local.addresses[0].rtp.ip();
    let phones = [Phone::new(ip), Phone::new(ip)];
    media.set(a.id, settings(vec![phones[0].stream(0)])).unwrap();
    media.set(b.id, settings(vec![phones[1].stream(0)])).unwrap();
    media.arrange(BridgeId(a.id.number()), &[member(a.id, 0), member(b.id, 1)]).unwrap();
    Call { phones, ports: [a, b] }
}

fn next_event(told: &mut mpsc::Receiver<Event>) -> Event {
    let end = Instant::now() + PATIENCE;
    loop {
        match told.try_recv() {
            Ok(event) => return event,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Waits until the thread has done all it was told.
fn settle(media: &Media, told: &mut mpsc::Receiver<Event>, port: PortId) {
    media.report(port).unwrap();
    while !matches!(next_event(told), Event::Statistics { port: of, .. } if of == port) {}
}

fn close(media: &Media, told: &mut mpsc::Receiver<Event>, port: PortId) {
    media.close(port);
    while !matches!(next_event(told), Event::Closed { port: of, .. } if of == port) {}
}

#[test]
fn two_phones_hear_each_other() {
    let (media, mut told) = start(20000..=20099, 16);
    let call = call(&media);
    settle(&media, &mut told, call.ports[0].id);
    for sequence in 0..100 {
        for (from, to) in [(0, 1), (1, 0)] {
            call.phones[from].says(sequence, &call.ports[from]);
            assert_eq!(call.phones[to].hears(), Some(sequence));
        }
    }
    let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
    call.phones[0].rtcp.send_to(&report, call.ports[0].local.addresses[0].rtcp).unwrap();
    let mut bytes = [0; 64];
    let (length, from) = call.phones[1].rtcp.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&report[..], call.ports[1].local.addresses[0].rtcp), "from the port that Bob was told of");
    media.close(call.ports[0].id);
    let Event::Closed { port, statistics } = next_event(&mut told) else { panic!("closed first") };
    assert_eq!(port, call.ports[0].id);
    assert_eq!((statistics.streams[0].received.packets, statistics.streams[0].sent.packets), (100, 100));
}

#[test]
fn calls_of_two_threads_become_one() {
    let (events, mut told) = mpsc::channel(16);
    let media = Media::start(Config { threads: Some(2), ..config(20000..=20099) }, events).unwrap();
    let (first, mut second) = (call(&media), call(&media));
    assert_ne!(first.ports[0].id.thread(), second.ports[0].id.thread());
    for call in [&first, &second] {
        settle(&media, &mut told, call.ports[0].id);
        for sequence in 0..20 {
            call.phones[0].says(sequence, &call.ports[0]);
            call.phones[1].says(sequence, &call.ports[1]);
            assert_eq!((call.phones[1].hears(), call.phones[0].hears()), (Some(sequence), Some(sequence)));
        }
    }
    media.arrange(BridgeId(second.ports[0].id.number()), &[]).unwrap();
    let before = second.ports[1].clone();
    media.bring(&mut second.ports[1], first.ports[0].id).unwrap();
    assert_eq!((before.id.number(), &before.local.addresses), (second.ports[1].id.number(), &second.ports[1].local.addresses));
    let (ann, bob) = (first.ports[0].id, second.ports[1].id);
    media.arrange(BridgeId(ann.number()), &[member(ann, 0), member(bob, 1)]).unwrap();
    settle(&media, &mut told, ann);
    let heard: Vec<u16> = (20..40)
        .map(|sequence| {
            first.phones[0].says(sequence, &first.ports[0]);
            second.phones[1].says(sequence, &second.ports[1]);
            let (bob, ann) = (second.phones[1].hears().unwrap(), first.phones[0].hears().unwrap());
            assert_eq!(bob, ann, "both streams go on with the numbers that follow");
            bob
        })
        .collect();
    assert!(heard.windows(2).all(|pair| pair[1] == pair[0] + 1), "{heard:?}");
    media.close(bob);
    let Event::Closed { port, statistics } = next_event(&mut told) else { panic!("closed first") };
    assert_eq!((port, statistics.streams[0].received.packets), (bob, 40), "its figures went with it");
    // one that is gone already brings nothing, and nobody waits for it
    let mut gone = second.ports[0].clone();
    close(&media, &mut told, gone.id);
    media.bring(&mut gone, ann).unwrap();
    settle(&media, &mut told, ann);
}

#[test]
fn streams_can_be_added() {
    let (media, mut told) = start(20000..=20099, 16);
    let mut call = call(&media);
    let ip = call.ports[0].local.addresses[0].rtp.ip();
    let more = [Phone::new(ip), Phone::new(ip)];
    for (index, phone) in more.iter().enumerate() {
        media.extend(&mut call.ports[index], 2).unwrap();
        media.set(call.ports[index].id, settings(vec![call.phones[index].stream(0), phone.stream(1)])).unwrap();
    }
    settle(&media, &mut told, call.ports[0].id);
    more[0].rtp.send_to(&rtp(5), call.ports[0].local.addresses[1].rtp).unwrap();
    assert_eq!(more[1].hears(), Some(5));
    call.phones[0].says(6, &call.ports[0]);
    assert_eq!(call.phones[1].hears(), Some(6));
}

#[test]
fn after_an_overload_every_packet_arrives_again() {
    const MARK: u16 = 60000;
    let (media, mut told) = start(20000..=20999, 16);
    let calls: Vec<Call> = (0..20).map(|_| call(&media)).collect();
    settle(&media, &mut told, calls[19].ports[1].id);
    for _wave in 0..2 {
        // Far more than the sockets' buffers hold, as fast as one can.
        for sequence in 0..3000 {
            calls.iter().for_each(|call| call.phones[0].says(sequence, &call.ports[0]));
        }
        // The backlog is through when a mark comes out at the other end.
        for call in &calls {
            let end = Instant::now() + PATIENCE;
            call.phones[1].rtp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut marks = 0;
            while marks == 0 {
                assert!(Instant::now() < end, "the port does not recover");
                call.phones[0].says(MARK, &call.ports[0]);
                while let Some(sequence) = call.phones[1].hears() {
                    marks += u32::from(sequence == MARK);
                }
            }
            call.phones[1].rtp.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        for sequence in 0..50 {
            calls.iter().for_each(|call| call.phones[0].says(sequence, &call.ports[0]));
            for call in &calls {
                assert_eq!(call.phones[1].hears(), Some(sequence), "nothing is lost at a normal rate");
            }
        }
    }
}

#[test]
fn ports_are_even_and_odd_and_not_used_again_at_once() {
    let (media, mut told) = start(20001..=20401, 16);
    let mut seen = Vec::new();
    for _ in 0..10 {
        let port = media.open(Kind::Own, 1, None).unwrap();
        let address = port.local.addresses[0];
        assert_eq!((address.rtp.port() % 2, address.rtcp.port()), (0, address.rtp.port() + 1));
        assert!((20001..=20401).contains(&address.rtp.port()));
        assert!(!seen.contains(&address), "{address:?} again after {seen:?}");
        seen.push(address);
        close(&media, &mut told, port.id);
    }
}

#[test]
fn running_out_of_ports_is_a_clear_error_and_closing_mends_it() {
    let (media, mut told) = start(20000..=20007, 16);
    let ports: Vec<_> = std::iter::from_fn(|| media.open(Kind::Own, 1, None).ok()).take(5).collect();
    assert_eq!(ports.len(), 4);
    let error = media.open(Kind::Own, 1, None).unwrap_err();
    assert_eq!(error.to_string(), "all RTP ports from 20000 to 20007 are in use; widen media.rtp_ports");
    close(&media, &mut told, ports[2].id);
    assert!(matches!(media.open(Kind::Own, 2, None), Err(Error::Exhausted { .. })), "one is free, two are needed");
    assert_eq!(media.open(Kind::Own, 1, None).expect("that one was given back").local.addresses, ports[2].local.addresses);
}

#[test]
fn ports_of_others_are_stepped_over() {
    let config = Config { advertise: IpAddr::from([203, 0, 113, 5]), threads: Some(2), ..config(20000..=20005) };
    let theirs: Vec<_> = [20000, 20003].map(|port| UdpSocket::bind((config.address, port)).unwrap()).into();
    let (events, _told) = mpsc::channel(1);
    let media = Media::start(config.clone(), events.clone()).unwrap();
    let port = media.open(Kind::Own, 1, None).unwrap();
    assert_eq!(port.local.addresses[0].rtp, SocketAddr::new(config.advertise, 20004), "as advertised");
    assert!(matches!(media.open(Kind::Own, 1, None), Err(Error::Exhausted { .. })));
    drop(theirs);
    let other = [media.open(Kind::Own, 1, None).unwrap(), media.open(Kind::Own, 1, None).unwrap()].map(|port| port.id);
    let apart = other
        .iter()
        .filter(|other| matches!(media.arrange(BridgeId(1), &[member(port.id, 0), member(**other, 1)]), Err(Error::Apart)))
        .count();
    assert_eq!(apart, 1, "ports take turns on the threads unless opened beside another");
    // A range without a pair, and an address that is not ours, are told at start.
    assert!(matches!(Media::start(Config { ports: 20001..=20002, ..config.clone() }, events.clone()), Err(Error::NoPorts { .. })));
    let error = Media::start(Config { address: config.advertise, ..config }, events).unwrap_err();
    assert!(error.to_string().starts_with("cannot open a media socket on 203.0.113.5: "), "{error}");
}

#[test]
fn media_is_not_sent_to_our_own_ports() {
    // S19
    let (media, mut told) = start(20000..=20099, 16);
    let call = call(&media);
    let own = call.ports[0].local.addresses[0];
    let looped = Stream { remote_rtp: Some(own.rtp), remote_rtcp: Some(own.rtcp), ..call.phones[1].stream(0) };
    media.set(call.ports[1].id, settings(vec![looped])).unwrap();
    settle(&media, &mut told, call.ports[1].id);
    call.phones[0].says(1, &call.ports[0]);
    // Its packets are taken before commands that come after them are carried out.
    settle(&media, &mut told, call.ports[1].id);
    media.set(call.ports[1].id, settings(vec![call.phones[1].stream(0)])).unwrap();
    settle(&media, &mut told, call.ports[1].id);
    call.phones[0].says(2, &call.ports[0]);
    assert_eq!(call.phones[1].hears(), Some(2));
    media.close(call.ports[0].id);
    let Event::Closed { statistics, .. } = next_event(&mut told) else { panic!("closed first") };
    let counted = &statistics.streams[0];
    assert_eq!((counted.received.packets, counted.withheld, counted.strangers), (2, 1, 0));
}

#[test]
fn events_wait_for_a_reader_that_is_late() {
    let (media, mut told) = start(20000..=20099, 1);
    let ports: Vec<_> = (0..20).map(|_| media.open(Kind::Own, 1, None).unwrap().id).collect();
    ports.iter().for_each(|port| media.close(*port));
    for port in ports {
        assert!(matches!(next_event(&mut told), Event::Closed { port: of, .. } if of == port));
    }
}
