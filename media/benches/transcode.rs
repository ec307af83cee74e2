//! CPU for each 20 ms of a transcoded direction, for each pair of codecs, and of Opus at each complexity. The output is a table;
//! `cargo bench -p media --bench transcode`. The time is that of one thread; what is measured is whole: jitter buffer, decoder,
//! resampler, encoder, RTP header.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark reads the clock, and ends where it fails")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use media::{
    codec::{self, MAX_PAYLOAD, Parameters},
    resample::Resampler,
    rtp::{
        Packet,
        rewrite::{Identity, Marker, Rewriter},
    },
    transcode::{Digits, Input, Output, Transcoder},
};
use opus_pure::{Application, OpusEncoder, Signal};

const FRAMES: u32 = 3000;
const ROUNDS: usize = 5;
const IDENTITY: Identity = Identity { ssrc: 1, sequence: 1, timestamp: 1 };

/// Something like speech: syllables of a gliding voice with pauses, and a little noise.
fn speech(sample_rate: u32, samples: usize) -> Vec<i16> {
    let (mut phase, mut seed) = (0.0f32, 1u32);
    (0..samples)
        .map(|n| {
            let time = n as f32 / sample_rate as f32;
            phase = (phase + (120.0 + 40.0 * (time * 2.0).sin()) / sample_rate as f32).fract();
            let voice: f32 = (1..20).map(|h| (phase * h as f32 * std::f32::consts::TAU).sin() / h as f32).sum();
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (seed >> 16) as i16 as f32 / 200.0;
            let syllable = (time * 4.0 * std::f32::consts::TAU).sin().max(0.0) * if time % 3.0 < 2.0 { 1.0 } else { 0.0 };
            (voice * 6000.0 * syllable + noise) as i16
        })
        .collect()
}

/// The packets of some seconds of speech.
fn packets(codec: &dyn codec::Codec) -> Vec<Vec<u8>> {
    let rate = codec.sample_rates().last().copied().unwrap();
    let mut encoder = codec.encoder(rate, &Parameters::default()).unwrap();
    let (sound, mut payload) = (speech(rate, rate as usize / 50 * FRAMES as usize), [0; MAX_PAYLOAD]);
    let frames = sound.chunks_exact(rate as usize / 50).zip(0u32..);
    frames
        .map(|(frame, n)| {
            let octets = encoder.encode(frame, &mut payload).unwrap();
            let mut bytes = vec![0x80, 96];
            bytes.extend((n as u16).to_be_bytes());
            bytes.extend((n * codec.clock_rate() / 50).to_be_bytes());
            bytes.extend([0, 0, 0, 7]);
            bytes.extend_from_slice(&payload[..octets]);
            bytes
        })
        .collect()
}

/// CPU time of this thread: what others do on the machine does not count. The system's figure is exact to some milliseconds.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Runs a measurement a few times; returns the median time of one of its parts.
fn median(parts: u32, mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS).map(|_| run() / parts).collect();
    times.sort();
    times[ROUNDS / 2]
}

fn transcode(from: &'static dyn codec::Codec, to: &'static dyn codec::Codec, packets: &mut [Vec<u8>]) -> Duration {
    let input = Input { codec: from, payload_type: 96, comfort_noise: 13, events: Some((101, 8000)) };
    let output = Output { codec: to, payload_type: 97, parameters: Parameters::default(), digits: Digits::Reported, identity: IDENTITY };
    let mut transcoder = Transcoder::new(input, output).unwrap();
    let mut buffer = [0; 12 + MAX_PAYLOAD];
    let (start, begin) = (cpu_time(), Instant::now());
    for (bytes, n) in packets.iter_mut().zip(0..) {
        let now = begin + Duration::from_millis(20) * n;
        transcoder.handle_packet(now, &Packet::parse(bytes).unwrap());
        transcoder.handle_timeout(now);
        while let Some(length) = transcoder.poll_packet(&mut buffer) {
            black_box(&buffer[..length]);
        }
    }
    let taken = cpu_time() - start;
    assert!(transcoder.counts().packets > FRAMES - 5);
    taken
}

fn main() {
    println!("transcoding, per 20 ms of one direction (median of {ROUNDS} runs of {} s of speech)", FRAMES / 50);
    for (from, to) in
        [("opus", "PCMA"), ("PCMA", "opus"), ("G722", "PCMA"), ("PCMA", "G722"), ("opus", "G722"), ("G722", "opus"), ("PCMU", "PCMA")]
    {
        let find = |name| codec::find(name, if name == "opus" { 48000 } else { 8000 }).unwrap();
        let mut packets = packets(find(from));
        let time = median(FRAMES, || transcode(find(from), find(to), &mut packets));
        println!("  {from:>5} to {to:<5} {:7.1} us", time.as_nanos() as f64 / 1000.0);
    }

    println!("Opus encoder, per 20 ms, by complexity");
    for (rate, bitrate) in [(8000, 16000), (16000, 24000), (48000, 40000)] {
        let sound = speech(rate as u32, rate as usize * 20);
        print!("  {rate:>5} Hz:");
        for complexity in 0..=10 {
            let time = median(1000, || {
                let mut encoder = OpusEncoder::new(rate, 1, Application::Voip).unwrap();
                (encoder.complexity, encoder.bitrate_bps, encoder.signal_type) = (complexity, bitrate, Some(Signal::Voice));
                let mut payload = [0; MAX_PAYLOAD];
                let start = cpu_time();
                for frame in sound.chunks_exact(rate as usize / 50) {
                    black_box(encoder.encode_s16(frame, frame.len(), &mut payload).unwrap());
                }
                cpu_time() - start
            });
            print!(" {complexity}:{:.0}us", time.as_nanos() as f64 / 1000.0);
        }
        println!();
    }

    println!("resampler, per 20 ms");
    for (from, to) in [(8000, 16000), (16000, 8000), (8000, 48000), (48000, 8000), (16000, 48000), (48000, 16000)] {
        let (input, mut output) = (speech(from, from as usize / 50), vec![0; to as usize / 50]);
        let mut resampler = Resampler::new(from, to).unwrap();
        let time = median(10_000, || {
            let start = cpu_time();
            for _ in 0..10_000 {
                black_box(resampler.process(black_box(&input), &mut output));
            }
            cpu_time() - start
        });
        println!("  {from:>5} to {to:<5} {:6.2} us", time.as_nanos() as f64 / 1000.0);
    }

    let mut rewriter = Rewriter::new(IDENTITY, Marker::Talkspurt);
    let mut bytes = packets(codec::find("PCMA", 8000).unwrap()).swap_remove(0);
    let now = Instant::now();
    let time = median(1_000_000, || {
        let start = cpu_time();
        for n in 0..1_000_000u32 {
            let mut packet = Packet::parse(black_box(&mut bytes)).unwrap();
            packet.set_sequence(n as u16);
            packet.set_ssrc(7);
            let _ = black_box(rewriter.rewrite(now, 1, 8000, &mut packet));
        }
        cpu_time() - start
    });
    println!("rewriting a header: {} ns", time.as_nanos());
}
