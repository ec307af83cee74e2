//! Phones of each kind around one engine, and a wire that loses and reorders, in virtual time. The far ends' DTLS is that of the
//! library under test, whose own tests have another's.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use media::{
    BridgeId, Engine, Event, Kinds, Member, PortId, Settings, SocketId,
    codec::{self, Codec, Encoder, MAX_PAYLOAD, MAX_SAMPLES, Parameters},
    port::{
        destination::{Loopback, Policy},
        rtp::Component,
        webrtc::{Certificate, Credentials, Event as TransportEvent, Fingerprint, Handled, Hash, Remote, Role, SrtpKeys, WebRtc, stun},
    },
    quality::StreamStatistics,
    rtp::{
        self, Packet,
        srtp::{self, Keys},
    },
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Handshake, Security, Shared, Stream, Wishes},
    },
};

pub(crate) const FRAME: Duration = Duration::from_millis(20);
const SWITCH: &str = "192.0.2.1:8443";
const ROOM: usize = 2048;
const BRIDGE: BridgeId = BridgeId(7);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Sdes,
    Dtls,
    WebRtc,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Plain, Kind::Sdes, Kind::Dtls, Kind::WebRtc];

/// An RTP packet that a phone heard.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

/// A far end.
pub(crate) struct Phone {
    pub(crate) kind: Kind,
    pub(crate) port: PortId,
    pub(crate) address: SocketAddr,
    pub(crate) streams: Vec<Stream>,
    /// Of the port, for a browser.
    local: Credentials,
    remote: Credentials,
    dtls: Option<WebRtc>,
    fingerprint: Fingerprint,
    srtp: Option<(srtp::Sender, srtp::Receiver)>,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) heard: Vec<Heard>,
    pub(crate) rtcp: Vec<Vec<u8>>,
    encoder: Option<(Box<dyn Encoder>, u32)>,
    phase: u32,
}

/// An engine, phones and the time.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    pub(crate) phones: Vec<Phone>,
    pub(crate) events: Vec<Event>,
    fingerprint: Fingerprint,
    policy: Policy,
    random: u64,
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn format(payload_type: u8, name: &str, clock_rate: u32) -> Format {
    Format { payload_type, encoding: name.to_owned().into(), clock_rate, channels: if name == "opus" { 2 } else { 1 } }
}

pub(crate) fn pcmu() -> Vec<Format> {
    vec![format(0, "PCMU", 8000), format(101, "telephone-event", 8000)]
}

pub(crate) fn pcma() -> Vec<Format> {
    vec![format(8, "PCMA", 8000), format(96, "telephone-event", 8000)]
}

pub(crate) fn opus() -> Vec<Format> {
    vec![format(111, "opus", 48000), format(110, "telephone-event", 48000)]
}

fn certificate() -> (Certificate, Fingerprint) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let made = rcgen::CertificateParams::new(vec!["tandem".to_owned()]).unwrap().self_signed(&key).unwrap();
    let fingerprint = Fingerprint::of(made.der(), Hash::Sha256);
    (Certificate::new(made.der().to_vec(), &key.serialize_der()).unwrap(), fingerprint)
}

pub(crate) fn keys(seed: u8) -> Keys {
    Keys::new(srtp::Profile::AesCm128HmacSha1_80, &[seed; 16], &[seed; 14]).unwrap()
}

fn srtp_of(keys: &SrtpKeys) -> (srtp::Sender, srtp::Receiver) {
    (srtp::Sender::new(&keys.send), srtp::Receiver::new(&keys.receive))
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
    pub(crate) fn new() -> Self {
        let policy = Policy { loopback: Loopback::Refused, own: vec![at(SWITCH).ip()], ports: Arc::default(), listeners: vec![at(SWITCH)] };
        let (certificate, fingerprint) = certificate();
        let engine = Engine::new(0, policy.clone(), certificate, 7);
        let random = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
        println!("SEED={random}");
        Self { engine, now: Instant::now(), phones: Vec::new(), events: Vec::new(), fingerprint, policy, random }
    }

    /// Two phones that are bridged.
    pub(crate) fn call(a: (Kind, Vec<Format>), b: (Kind, Vec<Format>)) -> Self {
        let mut scene = Self::new();
        scene.phone(a.0, vec![(MediaKind::Audio, a.1)]);
        scene.phone(b.0, vec![(MediaKind::Audio, b.1)]);
        scene.bridge(0, 1);
        scene
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }

    /// Opens a port and lets its phone come as far as that media flows.
    pub(crate) fn phone(&mut self, kind: Kind, lines: Vec<(MediaKind, Vec<Format>)>) -> usize {
        let index = self.phones.len();
        let number = index as u8 + 1;
        let port = PortId::new(0, u64::from(number));
        self.engine.open(port, lines.len());
        let (certificate, fingerprint) = certificate();
        let address = SocketAddr::from(([203, 0, 113, number], 4000));
        let local = Credentials::generate(0, &mut |octets| octets.fill(number));
        let remote = Credentials::generate(0, &mut |octets| octets.fill(100 + number));
        let handshake = Handshake { fingerprints: vec![fingerprint], role: Role::Client };
        let streams = lines.into_iter().enumerate().map(|(line, (media, formats))| Stream {
            index: line,
            line,
            kind: media,
            remote_rtp: Some(SocketAddr::new(address.ip(), address.port() + 2 * line as u16)),
            remote_rtcp: Some(SocketAddr::new(address.ip(), address.port() + 2 * line as u16)),
            rtcp_mux: true,
            direction: Direction::SendRecv,
            send: formats.clone(),
            receive: formats,
            wishes: Wishes::default(),
            sources: None,
            security: match kind {
                Kind::Plain => Security::None,
                Kind::Sdes => Security::Sdes { send: keys(2 * number), receive: keys(2 * number + 1) },
                Kind::Dtls => Security::Dtls(handshake.clone()),
                Kind::WebRtc => Security::Shared,
            },
        });
        let streams = streams.collect();
        let mut phone = Phone {
            kind,
            port,
            address,
            streams,
            local,
            remote,
            dtls: None,
            fingerprint,
            srtp: None,
            ssrc: 0x1000 * u32::from(number),
            sequence: 1000 * u16::from(number),
            timestamp: 1_000_000 * u32::from(number),
            heard: Vec::new(),
            rtcp: Vec::new(),
            encoder: None,
            phase: 0,
        };
        match kind {
            Kind::Plain => {}
            Kind::Sdes => phone.srtp = Some((srtp::Sender::new(&keys(2 * number + 1)), srtp::Receiver::new(&keys(2 * number)))),
            Kind::Dtls | Kind::WebRtc => {
                let mut dtls = WebRtc::new(&certificate, None);
                let remote =
                    Remote { ice: None, fingerprints: vec![self.fingerprint], role: Role::Server, address: Some(at("198.51.100.1:9")) };
                dtls.set_remote(self.now, &remote, &self.policy);
                phone.dtls = Some(dtls);
            }
        }
        self.phones.push(phone);
        self.set(index);
        if kind == Kind::WebRtc {
            self.check(index);
        }
        self.pump();
        assert!(matches!(kind, Kind::Plain) || self.phones[index].srtp.is_some(), "{kind:?} has keys");
        index
    }

    /// Applies what was agreed with a phone.
    pub(crate) fn set(&mut self, phone: usize) {
        let phone = &self.phones[phone];
        let shared = (phone.kind == Kind::WebRtc).then(|| Shared {
            local: phone.local.clone(),
            remote: phone.remote.clone(),
            handshake: Handshake { fingerprints: vec![phone.fingerprint], role: Role::Client },
        });
        let settings = Settings { streams: phone.streams.clone(), shared, signaling: None, media_timeout: None };
        self.engine.set(self.now, phone.port, &settings);
    }

    /// A bridge of two parties, in place of the one before.
    pub(crate) fn bridge(&mut self, a: usize, b: usize) {
        let members = [self.member(a, 0), self.member(b, 1)];
        self.arrange(&members);
    }

    /// A member that gives and takes all.
    pub(crate) fn member(&self, phone: usize, party: u16) -> Member {
        Member { port: self.phones[phone].port, party, gives: Kinds::BOTH, takes: Kinds::BOTH, until: None, plays: None }
    }

    pub(crate) fn arrange(&mut self, members: &[Member]) {
        self.engine.arrange(self.now, BRIDGE, members);
        self.pump();
    }

    /// A connectivity check of a browser.
    fn check(&mut self, index: usize) {
        let phone = &self.phones[index];
        let mut buffer = [0; 300];
        let username = format!("{}:{}", phone.local.ufrag(), phone.remote.ufrag());
        let writer = stun::Writer::new(&mut buffer, stun::Class::Request, &[1; 12]).username(username.as_bytes());
        let writer = writer.priority(1).control(stun::Control::Controlling, 5).use_candidate();
        let length = writer.integrity(phone.local.password().as_bytes()).finish().unwrap();
        let (from, bytes) = (phone.address, buffer[..length].to_vec());
        self.arrives(index, 0, from, &bytes);
    }

    pub(crate) fn socket(&self, phone: usize, stream: usize) -> SocketId {
        let phone = &self.phones[phone];
        if phone.kind == Kind::WebRtc {
            return SocketId::SHARED;
        }
        SocketId::new(self.engine.slot(phone.port).unwrap(), stream, Component::Rtp)
    }

    /// Octets come to the port of a phone, from wherever. Returns whether something was sent at once.
    pub(crate) fn arrives(&mut self, phone: usize, stream: usize, from: SocketAddr, bytes: &[u8]) -> bool {
        let mut buffer = [0; ROOM];
        buffer[..bytes.len()].copy_from_slice(bytes);
        let socket = self.socket(phone, stream);
        let sent = self.engine.handle_packet(self.now, socket, from, &mut buffer, bytes.len());
        if let Some(sent) = sent {
            self.carry(sent.to, &buffer[..sent.length]);
        }
        sent.is_some()
    }

    /// The name of a check to a browser's port.
    pub(crate) fn username(&self, phone: usize) -> String {
        let phone = &self.phones[phone];
        format!("{}:{}", phone.local.ufrag(), phone.remote.ufrag())
    }

    /// Octets come to a port, whose answer, if any, reaches no phone.
    pub(crate) fn arrives_from_nobody(&mut self, phone: usize, from: SocketAddr, bytes: &[u8]) {
        let mut buffer = [0; ROOM];
        buffer[..bytes.len()].copy_from_slice(bytes);
        let socket = self.socket(phone, 0);
        let sent = self.engine.handle_packet(self.now, socket, from, &mut buffer, bytes.len());
        assert!(sent.is_none_or(|sent| sent.to == from));
    }

    /// Takes to the phones what the engine sends of itself, and back, until all is quiet.
    pub(crate) fn pump(&mut self) {
        loop {
            let mut quiet = true;
            let mut buffer = [0; ROOM];
            while let Some(sent) = self.engine.poll_transmit(&mut buffer) {
                quiet = false;
                self.carry(sent.to, &buffer[..sent.length]);
            }
            for index in 0..self.phones.len() {
                while let Some((_, datagram)) = self.phones[index].dtls.as_mut().and_then(WebRtc::poll_transmit) {
                    quiet = false;
                    let from = self.phones[index].address;
                    self.arrives(index, 0, from, &datagram);
                }
            }
            if quiet {
                break;
            }
        }
        self.events.extend(std::iter::from_fn(|| self.engine.poll_output()));
    }

    /// A datagram of the engine reaches its phone.
    fn carry(&mut self, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        let phone = self.phones.iter_mut().find(|phone| phone.address.ip() == to.ip());
        phone.expect("it goes to a phone").receive(now, bytes);
    }

    /// Lets time pass as the driver does.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
        self.pump();
    }

    /// A phone sends what it has protected.
    pub(crate) fn send(&mut self, phone: usize, stream: usize, bytes: &[u8]) -> bool {
        let sealed = self.phones[phone].seal(bytes);
        let from = self.phones[phone].streams[stream].remote_rtp.unwrap();
        let from = if self.phones[phone].kind == Kind::WebRtc { self.phones[phone].address } else { from };
        self.arrives(phone, stream, from, &sealed)
    }

    /// Both phones send a tone each for a time, over a wire that loses `loss` of a hundred packets and delays each by up to `late`.
    pub(crate) fn talk(&mut self, tones: &[(usize, u32)], time: Duration, loss: u64, late: u64) {
        let mut wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)> = BTreeMap::new();
        let frames = (time.as_millis() / FRAME.as_millis()) as u32;
        let mut order = 0;
        for frame in 0..frames {
            for (phone, frequency) in tones {
                let packet = self.phones[*phone].frame(*frequency);
                let sealed = self.phones[*phone].seal(&packet);
                order += 1;
                if self.below(100) >= loss {
                    let delay = if late == 0 { 0 } else { self.below(late) };
                    wire.insert((self.now + FRAME * frame + ms(delay), order), (*phone, sealed));
                }
            }
        }
        let end = self.now + time;
        for ((arrival, _), (phone, bytes)) in wire {
            let wait = arrival.saturating_duration_since(self.now);
            self.wait(wait);
            let from = self.phones[phone].address;
            self.arrives(phone, 0, from, &bytes);
        }
        self.wait(end.saturating_duration_since(self.now));
    }

    pub(crate) fn statistics(&mut self, phone: usize) -> StreamStatistics {
        self.engine.report(self.phones[phone].port);
        std::iter::from_fn(|| self.engine.poll_output())
            .find_map(|event| if let Event::Statistics { statistics, .. } = event { statistics.streams.first().cloned() } else { None })
            .unwrap()
    }

    /// Why transcoding began, each time it did.
    pub(crate) fn reasons(&self) -> Vec<(PortId, String)> {
        let reason = |event: &Event| if let Event::Transcoding { port, reason } = event { Some((*port, reason.clone())) } else { None };
        self.events.iter().filter_map(reason).collect()
    }
}

impl Phone {
    /// Uses another codec from now on.
    pub(crate) fn reset_codec(&mut self) {
        self.encoder = None;
    }

    /// Takes the keys of a new offer.
    pub(crate) fn renew(&mut self, send: &Keys, receive: &Keys) {
        self.srtp = Some((srtp::Sender::new(send), srtp::Receiver::new(receive)));
    }

    pub(crate) fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some((sender, _)) = &mut self.srtp else { return bytes.to_vec() };
        let mut buffer = vec![0; bytes.len() + srtp::MAX_OVERHEAD];
        buffer[..bytes.len()].copy_from_slice(bytes);
        let sealed =
            if rtp::is_rtcp(bytes) { sender.protect_rtcp(&mut buffer, bytes.len()) } else { sender.protect_rtp(&mut buffer, bytes.len()) };
        buffer.truncate(sealed.unwrap());
        buffer
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let mut buffer = [0; ROOM];
        buffer[..bytes.len()].copy_from_slice(bytes);
        let mut length = bytes.len();
        match bytes[0] {
            0..=3 => return,
            20..=63 => {
                let dtls = self.dtls.as_mut().unwrap();
                let policy = Policy { loopback: Loopback::Refused, own: Vec::new(), ports: Arc::default(), listeners: Vec::new() };
                assert_eq!(dtls.handle_packet(now, at("198.51.100.1:9"), &mut buffer, length, &policy), Handled::Consumed);
                while let Some(event) = dtls.poll_event() {
                    if let TransportEvent::Connected(keys) = event {
                        self.srtp = Some(srtp_of(&keys));
                    }
                }
                return;
            }
            _ => {}
        }
        if let Some((_, receiver)) = &mut self.srtp {
            let bytes = &mut buffer[..length];
            let opened = if rtp::is_rtcp(bytes) { receiver.unprotect_rtcp(bytes) } else { receiver.unprotect_rtp(bytes) };
            length = opened.expect("authentic");
        }
        let bytes = &mut buffer[..length];
        if rtp::is_rtcp(bytes) {
            rtp::rtcp::parse(bytes).expect("a compound");
            return self.rtcp.push(bytes.to_vec());
        }
        let packet = Packet::parse(bytes).unwrap();
        self.heard.push(Heard {
            at: now,
            ssrc: packet.ssrc(),
            sequence: packet.sequence(),
            timestamp: packet.timestamp(),
            payload_type: packet.payload_type(),
            marker: packet.marker(),
            payload: packet.payload().to_vec(),
        });
    }

    fn codec(&self) -> (&'static dyn Codec, u8) {
        let format = &self.streams[0].send[0];
        (codec::find(std::str::from_utf8(format.encoding.as_bytes()).unwrap(), format.clock_rate).unwrap(), format.payload_type)
    }

    /// The next RTP packet with a payload.
    pub(crate) fn packet(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        bytes
    }

    /// 20 ms of a tone.
    pub(crate) fn frame(&mut self, frequency: u32) -> Vec<u8> {
        let (codec, payload_type) = self.codec();
        let rate = *codec.sample_rates().last().unwrap();
        let (mut encoder, _) = self.encoder.take().unwrap_or_else(|| (codec.encoder(rate, &Parameters::default()).unwrap(), rate));
        let samples: Vec<i16> = (0..rate / 50)
            .map(|_| {
                self.phase += 1;
                ((f64::from(self.phase % rate) * f64::from(frequency) / f64::from(rate) * std::f64::consts::TAU).sin() * 8000.0) as i16
            })
            .collect();
        let mut payload = [0; MAX_PAYLOAD];
        let length = encoder.encode(&samples, &mut payload).unwrap();
        self.encoder = Some((encoder, rate));
        let packet = self.packet(payload_type, &payload[..length]);
        self.timestamp = self.timestamp.wrapping_add(codec.clock_rate() / 50);
        packet
    }

    /// What it hears as sound of its own codec, in the order of the numbers.
    pub(crate) fn sound(&self) -> (Vec<i16>, u32) {
        let (codec, payload_type) = self.codec();
        let rate = *codec.sample_rates().last().unwrap();
        let mut decoder = codec.decoder(rate).unwrap();
        let mut heard: Vec<_> = self.heard.iter().filter(|heard| heard.payload_type == payload_type).collect();
        let first = heard.first().map_or(0, |heard| heard.sequence);
        heard.sort_by_key(|heard| heard.sequence.wrapping_sub(first).cast_signed());
        let (mut sound, mut samples) = (Vec::new(), vec![0; MAX_SAMPLES]);
        for heard in heard {
            let count = decoder.decode(&heard.payload, &mut samples).unwrap();
            sound.extend_from_slice(&samples[..count]);
        }
        (sound, rate)
    }

    /// Level of a frequency in what it hears, by Goertzel; 8000 is what a phone sends.
    pub(crate) fn level(&self, frequency: u32) -> f64 {
        let (sound, rate) = self.sound();
        // The first half second is the beginning of codecs and buffers. Windows of 100 ms, so that a slip between them costs little.
        let windows: Vec<f64> = sound
            .get(rate as usize / 2..)
            .unwrap_or_default()
            .chunks_exact(rate as usize / 10)
            .map(|window| goertzel(window, f64::from(frequency) / f64::from(rate)))
            .collect();
        windows.iter().sum::<f64>() / windows.len().max(1) as f64
    }
}

fn goertzel(samples: &[i16], frequency: f64) -> f64 {
    let turn = std::f64::consts::TAU * frequency;
    let (mut a, mut b) = (0.0, 0.0);
    for sample in samples {
        (a, b) = (f64::from(*sample) + 2.0 * turn.cos() * a - b, a);
    }
    (a * a + b * b - 2.0 * turn.cos() * a * b).max(0.0).sqrt() * 2.0 / samples.len() as f64
}
