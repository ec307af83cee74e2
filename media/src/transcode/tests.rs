//! A sender, a wire with loss and jitter, a transcoder and a receiver in virtual time.

use super::*;
use crate::{
    codec::{
        find,
        tone::{Tone, level, snr},
    },
    dtmf::{Digit, event::Event},
};

const IDENTITY: Identity = Identity { ssrc: 0xCAFE, sequence: 65000, timestamp: u32::MAX - 50_000 };
const EVENTS: u8 = 101;

#[expect(clippy::disallowed_methods, reason = "an instant can only be had from the clock; the tests then add to it")]
fn now() -> Instant {
    Instant::now()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn codec(name: &str) -> &'static dyn Codec {
    find(name, if name == "opus" { 48000 } else { 8000 }).unwrap()
}

fn input(name: &str, events: Option<u32>) -> Input {
    Input { codec: codec(name), payload_type: 96, comfort_noise: 13, events: events.map(|rate| (EVENTS, rate)) }
}

fn output(name: &str, digits: Digits) -> Output {
    Output { codec: codec(name), payload_type: 97, parameters: Parameters::default(), digits, identity: IDENTITY }
}

/// What the transcoder sent.
#[derive(Clone, Debug)]
struct Sent {
    at: Duration,
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
}

/// A transcoder under a clock.
struct Lab {
    transcoder: Transcoder,
    begin: Instant,
    sent: Vec<Sent>,
}

impl Lab {
    fn new(input: Input, output: Output) -> Self {
        Self { transcoder: Transcoder::new(input, output).unwrap(), begin: now(), sent: Vec::new() }
    }

    fn packet(&mut self, at: Duration, payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) {
        self.run(at);
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([0, 0, 0, 5]);
        bytes.extend(payload);
        self.transcoder.handle_packet(self.begin + at, &Packet::parse(&mut bytes).unwrap());
        self.drain(at);
    }

    /// Lets time pass, with a call at each timeout.
    fn run(&mut self, until: Duration) {
        while let Some(at) = self.transcoder.poll_timeout().filter(|at| *at <= self.begin + until) {
            self.transcoder.handle_timeout(at);
            self.drain(at - self.begin);
        }
    }

    fn drain(&mut self, at: Duration) {
        let mut buffer = [0; HEADER + MAX_PAYLOAD];
        while let Some(length) = self.transcoder.poll_packet(&mut buffer) {
            let packet = Packet::parse(&mut buffer[..length]).unwrap();
            assert_eq!(packet.ssrc(), IDENTITY.ssrc);
            self.sent.push(Sent {
                at,
                payload_type: packet.payload_type(),
                marker: packet.marker(),
                sequence: packet.sequence(),
                timestamp: packet.timestamp(),
                payload: packet.payload().to_vec(),
            });
        }
    }

    /// Sends sound of 20 ms frames; those for which `lost` says so do not arrive, and each is as late as `late` says.
    fn sound(&mut self, frames: u32, frequency: f64, lost: impl Fn(u32) -> bool, late: impl Fn(u32) -> u64) {
        let codec = self.transcoder.input.codec;
        let rate = *codec.sample_rates().last().unwrap();
        let mut encoder = codec.encoder(rate, &Parameters::default()).unwrap();
        let mut tone = Tone::new(rate, frequency, 8000.0);
        let (mut frame, mut payload) = (vec![0; rate as usize / 50], [0; MAX_PAYLOAD]);
        let mut wire = Vec::new();
        for n in 0..frames {
            tone.fill(&mut frame);
            let octets = encoder.encode(&frame, &mut payload).unwrap();
            if !lost(n) {
                wire.push((ms(20) * n + ms(late(n)), n, payload[..octets].to_vec()));
            }
        }
        wire.sort();
        for (at, n, payload) in wire {
            self.packet(at, 96, 100 + n as u16, n * codec.clock_rate() / 50, &payload);
        }
        self.run(ms(20) * frames + ms(40));
    }

    /// What the receiver hears of the sound, each packet at the place its timestamp says.
    fn hear(&self) -> (Vec<i16>, u32) {
        let codec = self.transcoder.output.codec;
        let rate = codec::sample_rates(self.transcoder.input.codec, codec).1;
        let mut decoder = codec.decoder(rate).unwrap();
        let (mut sound, mut samples) = (Vec::new(), vec![0; MAX_SAMPLES]);
        for sent in self.sent.iter().filter(|sent| sent.payload_type == 97) {
            let count = decoder.decode(&sent.payload, &mut samples).unwrap();
            sound.extend_from_slice(&samples[..count]);
        }
        (sound, rate)
    }
}

const NAMES: [&str; 4] = ["PCMU", "PCMA", "G722", "opus"];

#[test]
fn tone_passes_through_each_pair_of_codecs() {
    for from in NAMES {
        for to in NAMES {
            let mut lab = Lab::new(input(from, Some(8000)), output(to, Digits::Reported));
            lab.sound(100, 1000.0, |_| false, |_| 0);
            let (sound, rate) = lab.hear();
            let sound = &sound[rate as usize / 2..rate as usize * 3 / 2];
            let heard = level(sound, rate, 1000.0);
            assert!((heard / 8000.0 - 1.0).abs() < 0.1, "{from} to {to}: {heard}");
            let snr = snr(sound, rate, 1000.0);
            assert!(snr > 15.0, "{from} to {to}: {snr:.1} dB");
            let concealed = lab.transcoder.counts().playout.concealed;
            assert!(concealed <= 2, "{from} to {to}: {concealed}, where the last two are behind the end");
        }
    }
}

#[test]
fn output_is_one_stream_without_gaps_and_in_time() {
    let mut lab = Lab::new(input("opus", Some(48000)), output("PCMA", Digits::Reported));
    lab.sound(500, 1000.0, |n| n % 10 == 3, |n| u64::from(n * 7 % 31));
    assert!((498..=503).contains(&lab.sent.len()));
    assert!(lab.sent[0].marker && lab.sent[0].at == MIN_DELAY && lab.sent[1..].iter().all(|sent| !sent.marker));
    for (n, sent) in lab.sent.iter().enumerate() {
        assert_eq!(sent.sequence, IDENTITY.sequence.wrapping_add(n as u16));
        assert_eq!(sent.timestamp, IDENTITY.timestamp.wrapping_add(n as u32 * 160));
        assert_eq!(sent.at, MIN_DELAY + ms(20) * n as u32);
        assert_eq!(sent.payload.len(), 160);
    }
    let counts = lab.transcoder.counts();
    assert!(counts.playout.concealed >= 45 && counts.packets as usize == lab.sent.len(), "{counts:?}");
}

#[test]
fn receiver_s_frame_length_is_kept() {
    for (name, length, frame) in [("PCMU", 30, 240), ("G722", 10, 80), ("opus", 60, 2880)] {
        let mut output = output(name, Digits::Reported);
        output.parameters.ptime = ms(length);
        let mut lab = Lab::new(input("PCMA", None), output);
        lab.sound(60, 440.0, |_| false, |_| 0);
        assert!(lab.sent.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == frame), "{name}");
        assert!(lab.sent.windows(2).all(|pair| pair[1].at - pair[0].at == ms(length)));
        let (sound, rate) = lab.hear();
        let sound = &sound[rate as usize / 5..rate as usize * 6 / 5];
        assert!((level(sound, rate, 440.0) / 8000.0 - 1.0).abs() < 0.1, "{name}");
    }
}

#[test]
fn concealment_keeps_more_of_a_tone_than_silence_would() {
    // Opus conceals voices rather than tones: `codec/opus.rs` tests it with one.
    for from in &NAMES[..3] {
        let mut lab = Lab::new(input(from, None), output("PCMA", Digits::Reported));
        lab.sound(150, 400.0, |n| n % 5 == 4, |_| 0);
        let (sound, _) = lab.hear();
        let heard = level(&sound[8000..16000], 8000, 400.0);
        assert!(heard > 8000.0 * 0.84, "{from}: {heard} of 8000, silence for each fifth frame leaves 6400");
    }
}

#[test]
fn stall_of_ours_is_followed_by_no_burst() {
    let mut lab = Lab::new(input("PCMU", None), output("PCMA", Digits::Reported));
    lab.sound(50, 1000.0, |_| false, |_| 0);
    let before = lab.sent.len();
    for n in 50..75u16 {
        let mut bytes = vec![0x80, 96];
        bytes.extend((100 + n).to_be_bytes());
        bytes.extend((u32::from(n) * 160).to_be_bytes());
        bytes.extend([0, 0, 0, 5]);
        bytes.extend([0xff; 160]);
        lab.transcoder.handle_packet(lab.begin + ms(1540), &Packet::parse(&mut bytes).unwrap());
    }
    lab.drain(ms(1540));
    assert!(lab.sent.len() - before <= MAX_CATCH_UP as usize + 1, "{}", lab.sent.len() - before);
    assert!(lab.transcoder.counts().skipped >= 20);
    let (last, next) = (&lab.sent[before - 1], &lab.sent[before]);
    assert!(next.marker && next.sequence == last.sequence.wrapping_add(1));
    assert_eq!(next.timestamp.wrapping_sub(last.timestamp) / 8, (next.at - last.at).as_millis() as u32, "its time is the real one");
}

#[test]
fn nothing_is_sent_for_a_sender_that_is_gone_and_all_goes_on_when_it_is_back() {
    let mut lab = Lab::new(input("PCMU", None), output("opus", Digits::Reported));
    lab.sound(50, 1000.0, |_| false, |_| 0);
    lab.run(ms(60_000));
    assert_eq!(lab.transcoder.poll_timeout(), None);
    let last = lab.sent.last().unwrap().clone();
    assert!(last.at < ms(1000) + IDLE + ms(100));
    for n in 3000..3050u32 {
        lab.packet(ms(20) * n, 96, 150 + n as u16, n * 160, &[0xd5; 160]);
    }
    let next = lab.sent.iter().find(|sent| sent.at > last.at).unwrap();
    assert!(next.marker && next.sequence == last.sequence.wrapping_add(1));
    assert_eq!(next.timestamp.wrapping_sub(last.timestamp) / 48, (next.at - last.at).as_millis() as u32);
}

#[test]
fn comfort_noise_fills_the_pause() {
    let mut lab = Lab::new(input("PCMA", None), output("PCMU", Digits::Reported));
    lab.sound(20, 1000.0, |_| false, |_| 0);
    lab.packet(ms(440), 13, 120, 20 * 160, &[45]);
    lab.run(ms(1400));
    let (sound, _) = lab.hear();
    let pause = &sound[sound.len() - 4000..];
    let power = (pause.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / 4000.0).sqrt();
    let decibel = 20.0 * (power / 32768.0).log10();
    assert!((decibel + 45.0).abs() < 3.0, "{decibel}");
}

/// Events of a digit as another sender makes them.
fn press(lab: &mut Lab, clock_rate: u32, letter: char, first: u16, at: Duration, lost: impl Fn(u16) -> bool) {
    let mut sender = Sender::new(clock_rate);
    let digit = Digit::from_letter(letter).unwrap();
    sender.press(Press::Down(digit));
    sender.press(Press::Up(digit, ms(100)));
    let (frame, timestamp) = (clock_rate / 50, at.as_millis() as u32 * (clock_rate / 1000));
    for n in 0.. {
        let Some(out) = sender.poll(timestamp, frame) else { break };
        if !lost(n) {
            lab.packet(at + ms(20) * u32::from(n), EVENTS, first + n, out.timestamp, &out.event.to_bytes());
        }
    }
}

#[test]
fn events_are_retimed_to_the_output_s_clock() {
    let mut lab = Lab::new(input("PCMA", Some(8000)), output("opus", Digits::Events { payload_type: 110, clock_rate: 48000 }));
    lab.sound(10, 1000.0, |_| false, |_| 0);
    press(&mut lab, 8000, '7', 110, ms(240), |n| n == 1 || n == 4 || n == 6);
    lab.run(ms(700));
    let events: Vec<_> = lab.sent.iter().filter(|sent| sent.payload_type == 110).collect();
    let payloads: Vec<_> = events.iter().map(|sent| Event::parse(&sent.payload).unwrap()).collect();
    assert!(events.iter().all(|sent| sent.timestamp == events[0].timestamp) && events[0].marker);
    assert_eq!(payloads.iter().filter(|event| event.end).count(), 3);
    assert!(payloads.windows(2).all(|pair| pair[1].duration >= pair[0].duration) && payloads.last().unwrap().duration >= 4800);
    assert!(lab.sent.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)), "one sequence for both");
    let after = lab.sent.iter().find(|sent| sent.payload_type == 97 && sent.sequence == events.last().unwrap().sequence + 1).unwrap();
    assert_eq!(after.timestamp.wrapping_sub(events[0].timestamp), 960 * events.len() as u32, "the sound's time went on");
    assert!(payloads.iter().all(|event| event.code == 7));
}

#[test]
fn events_become_tones_for_a_receiver_without_them() {
    let mut lab = Lab::new(input("opus", Some(48000)), output("PCMU", Digits::Tones));
    lab.sound(10, 1000.0, |_| false, |_| 0);
    for (n, letter) in ['4', '2', '#'].into_iter().enumerate() {
        press(&mut lab, 48000, letter, 110 + n as u16 * 8, ms(240 + n as u64 * 200), |_| false);
    }
    lab.run(ms(1600));
    let (sound, _) = lab.hear();
    let (mut detector, mut heard) = (Detector::new(8000), String::new());
    detector.listen(&sound, |press| {
        if let Press::Down(digit) = press {
            heard.push(digit.letter());
        }
    });
    assert_eq!(heard, "42#");
}

#[test]
fn tones_become_events_and_info_becomes_either() {
    let mut lab = Lab::new(input("PCMU", None), output("opus", Digits::Events { payload_type: 110, clock_rate: 48000 }));
    let mut tones = Tones::new(8000);
    let digit = Digit::from_letter('9').unwrap();
    tones.press(Press::Down(digit));
    tones.press(Press::Up(digit, ms(120)));
    let mut encoder = codec("PCMU").encoder(8000, &Parameters::default()).unwrap();
    let (mut frame, mut payload) = ([0; 160], [0; 160]);
    for n in 0..30 {
        frame.fill(0);
        tones.fill(&mut frame);
        encoder.encode(&frame, &mut payload).unwrap();
        lab.packet(ms(20) * n, 96, n as u16, n * 160, &payload);
    }
    let digit = Digit::from_letter('1').unwrap();
    lab.transcoder.press(Press::Down(digit));
    lab.transcoder.press(Press::Up(digit, ms(160)));
    lab.run(ms(1000));
    let ended: Vec<_> = lab.sent.iter().filter(|sent| sent.payload_type == 110).map(|sent| Event::parse(&sent.payload).unwrap()).collect();
    assert_eq!(ended.iter().filter(|event| event.end && event.code == 9).count(), 3);
    assert_eq!(ended.iter().filter(|event| event.end && event.code == 1).count(), 3);
}

#[test]
fn damaged_and_unknown_packets_are_counted() {
    // S8
    let mut lab = Lab::new(input("opus", Some(48000)), output("G722", Digits::Reported));
    for n in 0..50u16 {
        lab.packet(ms(20) * u32::from(n), 96, n, u32::from(n) * 960, if n % 2 == 0 { &[] } else { &[0xff, 0xff, 1] });
        lab.packet(ms(20) * u32::from(n), 55, n, 0, b"what");
    }
    lab.run(ms(2000));
    let counts = lab.transcoder.counts();
    assert_eq!((counts.malformed, counts.unknown), (50, 50));
    assert!(lab.hear().0.iter().all(|sample| sample.abs() < 50));
    assert_eq!(lab.transcoder.poll_packet(&mut [0; 3]), None);
}
