//! One direction of one audio stream between two codecs: RTP packets in, through [`jitter`], a decoder,
//! [`resample`](crate::resample) and an encoder, to complete RTP packets of a stream of its own (RFC 3550 §7.2: a transcoding
//! translator). Digits pass around the codec ([`dtmf`](crate::dtmf)). It knows no port and no address.
//!
//! Its delay is that of the playout buffer, 20 ms at least and what the network's jitter asks for at most, plus up to one frame
//! until the next tick, 1.5 ms where G.722 meets G.711, and 6.5 ms where it encodes Opus. Once the longest payload has been seen
//! nothing here allocates; `opus-pure` still does when its encoder changes its mode, and for frames of 40 and 60 ms outside of SILK.

use std::time::{Duration, Instant};

use crate::{
    codec::{self, Codec, Decoder, Encoder, MAX_PAYLOAD, MAX_SAMPLES, Parameters, noise::Noise},
    dtmf::{
        Press,
        event::{Listener, Sender},
        inband::{Detector, Tones},
    },
    jitter::{self, Header, Jitter, MIN_DELAY, Playout},
    resample::Resampler,
    rtp::{Packet, rewrite::Identity},
};

/// Frames that may be made up for after a delay of ours; beyond it the time is skipped, so that no burst follows a stall.
pub const MAX_CATCH_UP: u32 = 3;
/// After as long without a packet nothing is sent until the next one.
pub const IDLE: Duration = Duration::from_secs(5);
/// Payloads that may be decoded for one frame; more only come of payloads shorter than any codec's.
const MAX_PULLS: usize = 16;
/// Octets of the RTP header that is written.
const HEADER: usize = 12;

/// What comes in.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The codec of the payload type.
    pub codec: &'static dyn Codec,
    /// Payload type of sound.
    pub payload_type: u8,
    /// Payload type of comfort noise (RFC 3389), 13 unless negotiated otherwise.
    pub comfort_noise: u8,
    /// Payload type and clock rate in Hz of named events; none when not negotiated: then digits are listened for in the sound, if the
    /// output is events.
    pub events: Option<(u8, u32)>,
}

/// What goes out.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The codec of the payload type.
    pub codec: &'static dyn Codec,
    /// Payload type of sound.
    pub payload_type: u8,
    /// The receiver's wishes, with its `ptime`.
    pub parameters: Parameters,
    /// How the receiver is told of digits.
    pub digits: Digits,
    /// SSRC and first numbers.
    pub identity: Identity,
}

/// How digits reach the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digits {
    /// As named events (RFC 4733).
    Events {
        /// Payload type.
        payload_type: u8,
        /// Clock rate in Hz.
        clock_rate: u32,
    },
    /// As tones in the sound.
    Tones,
    /// As tones, but only those that are [pressed](Transcoder::press): of what comes in as events, another protocol tells it.
    Reported,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets sent.
    pub packets: u32,
    /// Octets of their payloads.
    pub octets: u32,
    /// Frames of output left out because we were late.
    pub skipped: u64,
    /// Payloads that did not decode.
    pub malformed: u64,
    /// Packets of a payload type that is not in [`Input`].
    pub unknown: u64,
    /// What the playout buffer did.
    pub playout: jitter::Counts,
}

/// One direction of one stream between two codecs.
pub struct Transcoder {
    input: Input,
    output: Output,
    jitter: Jitter,
    sound: Sound,
    encoder: Box<dyn Encoder>,
    listener: Option<Listener>,
    detector: Option<Detector>,
    sender: Sender,
    tones: Tones,
    clock: Clock,
    /// The frame that is being encoded.
    frame: Vec<i16>,
    sequence: u16,
    counts: Counts,
}

/// From payloads to samples of the output's rate.
struct Sound {
    decoder: Box<dyn Decoder>,
    resampler: Resampler,
    noise: Noise,
    /// Samples of one unit of the input's clock: a fraction.
    rate: (u32, u32),
    decoded: Vec<i16>,
    /// Resampled, and not yet sent.
    ready: Vec<i16>,
}

/// When frames are due.
#[derive(Clone, Copy, Debug)]
struct Clock {
    ptime: Duration,
    /// A frame in units of the output's clock rate.
    frame: u32,
    now: Option<Instant>,
    next: Option<Instant>,
    heard: Option<Instant>,
    timestamp: u32,
    /// When a pause began, for the timestamp behind it.
    paused: Option<Instant>,
    marker: bool,
}

impl Transcoder {
    /// Makes the way from one codec to another; nothing is sent before the first packet has come.
    ///
    /// # Errors
    /// [`codec::Error::SampleRate`] when the codecs have no sample rates that can be converted.
    pub fn new(input: Input, output: Output) -> Result<Self, codec::Error> {
        let (from, to) = codec::sample_rates(input.codec, output.codec);
        let ptime = output.codec.ptime(output.parameters.ptime);
        let events = if let Digits::Events { clock_rate, .. } = output.digits { clock_rate } else { output.codec.clock_rate() };
        let frame = codec::samples(ptime, to);
        Ok(Self {
            jitter: Jitter::new(input.codec.clock_rate()),
            sound: Sound {
                decoder: input.codec.decoder(from)?,
                resampler: Resampler::new(from, to).map_err(|_| codec::Error::SampleRate)?,
                noise: Noise::default(),
                rate: (from, input.codec.clock_rate()),
                decoded: vec![0; MAX_SAMPLES],
                ready: Vec::with_capacity(MAX_SAMPLES + frame),
            },
            encoder: output.codec.encoder(to, &output.parameters)?,
            listener: input.events.map(|(_, clock_rate)| Listener::new(clock_rate)),
            detector: (input.events.is_none() && matches!(output.digits, Digits::Events { .. })).then(|| Detector::new(to)),
            sender: Sender::new(events),
            tones: Tones::new(to),
            clock: Clock::new(ptime, output.codec.clock_rate(), output.identity.timestamp),
            frame: vec![0; frame],
            sequence: output.identity.sequence,
            counts: Counts::default(),
            input,
            output,
        })
    }

    /// Takes a packet of the input.
    pub fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        self.clock.heard(now);
        let (payload_type, payload) = (packet.payload_type(), packet.payload());
        let mut header =
            Header { ssrc: packet.ssrc(), sequence: packet.sequence(), timestamp: packet.timestamp(), payload_type, duration: 0 };
        if payload_type == self.input.payload_type {
            match self.input.codec.duration(payload) {
                Some(duration) => header.duration = duration,
                None => self.counts.malformed += 1,
            }
        } else if self.input.events.is_some_and(|(events, _)| events == payload_type) {
            let presses = self.listener.as_mut().map(|listener| listener.handle_packet(now, header.timestamp, payload));
            presses.into_iter().flatten().flatten().for_each(|press| self.heard(press));
        } else if payload_type == self.input.comfort_noise {
            self.sound.noise.set(payload);
        } else {
            self.counts.unknown += 1;
        }
        let sound = if header.duration > 0 { payload } else { &[] };
        self.jitter.insert(now, header, sound);
    }

    /// Sends a digit that came another way, such as in SIP INFO.
    pub fn press(&mut self, press: Press) {
        match self.output.digits {
            Digits::Events { .. } => self.sender.press(press),
            Digits::Tones | Digits::Reported => self.tones.press(press),
        }
    }

    /// Returns whether a digit is being sent, or waits.
    #[must_use]
    pub fn is_pressing(&self) -> bool {
        self.sender.is_pressing() || self.tones.is_pressing()
    }

    /// Goes on for another [`IDLE`] though nothing comes in, or begins.
    pub fn keep_on(&mut self, now: Instant) {
        self.clock.heard(now);
    }

    fn heard(&mut self, press: Press) {
        if self.output.digits != Digits::Reported {
            self.press(press);
        }
    }

    /// Lets time pass: after it, [`Transcoder::poll_packet`] gives the frames that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.now = self.clock.now.max(Some(now));
        if let Some(press) = self.listener.as_mut().and_then(|listener| listener.handle_timeout(now)) {
            self.heard(press);
        }
    }

    /// Returns when the next frame is due, or the end of a digit is to be assumed; none when nothing comes in.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let digit = self.listener.as_ref().and_then(Listener::poll_timeout);
        [self.clock.next, digit].into_iter().flatten().min()
    }

    /// Writes the next RTP packet that is due into the buffer and returns its length; none when none is due. The buffer should
    /// have 12 octets more than [`MAX_PAYLOAD`]; a packet that does not fit is left out.
    pub fn poll_packet(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            let tick = self.clock.tick(&mut self.counts.skipped)?;
            self.fill(tick.at);
            let (header, payload) = buffer.split_first_chunk_mut::<HEADER>()?;
            let event = self.sender.poll(tick.timestamp, self.event_frame());
            let (payload_type, timestamp, marker, length) = match (event, self.output.digits) {
                (Some(event), Digits::Events { payload_type, .. }) => {
                    let Some(octets) = payload.first_chunk_mut() else { continue };
                    *octets = event.event.to_bytes();
                    (payload_type, event.timestamp, event.marker, octets.len())
                }
                (_, _) => match self.encoder.encode(&self.frame, payload.get_mut(..MAX_PAYLOAD.min(payload.len()))?) {
                    Ok(length) if length > 0 => (self.output.payload_type, tick.timestamp, self.clock.marker, length),
                    Ok(_) | Err(_) => continue,
                },
            };
            self.clock.marker = false;
            write_header(header, payload_type, marker, self.sequence, timestamp, self.output.identity.ssrc);
            self.sequence = self.sequence.wrapping_add(1);
            self.counts.packets = self.counts.packets.wrapping_add(1);
            self.counts.octets = self.counts.octets.wrapping_add(length as u32);
            return Some(HEADER + length);
        }
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { playout: self.jitter.counts(), ..self.counts }
    }

    /// Returns the delay of the playout buffer now.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.jitter.target()
    }

    /// Returns the timestamp of the next frame, for sender reports.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        self.clock.timestamp
    }

    fn event_frame(&self) -> u32 {
        let clock_rate = if let Digits::Events { clock_rate, .. } = self.output.digits { clock_rate } else { return 0 };
        codec::samples(self.clock.ptime, clock_rate) as u32
    }

    /// Makes the frame of a tick.
    fn fill(&mut self, at: Instant) {
        for _ in 0..MAX_PULLS {
            if self.sound.ready.len() >= self.frame.len() {
                break;
            }
            self.sound.add(self.jitter.pull(at), &mut self.counts.malformed);
        }
        self.sound.take(&mut self.frame);
        self.tones.fill(&mut self.frame);
        if let Some(mut detector) = self.detector.take() {
            let mut pressed = [None; 4];
            let mut slots = pressed.iter_mut();
            detector.listen(&self.frame, |press| {
                if let Some(slot) = slots.next() {
                    *slot = Some(press);
                }
            });
            self.detector = Some(detector);
            pressed.into_iter().flatten().for_each(|press| self.heard(press));
        }
    }
}

impl std::fmt::Debug for Transcoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transcoder").field("input", &self.input).field("output", &self.output).finish_non_exhaustive()
    }
}

impl Sound {
    /// Turns what the playout buffer says into samples.
    fn add(&mut self, playout: Playout<'_>, malformed: &mut u64) {
        let duration = match playout {
            Playout::Frame { duration, .. } | Playout::Lost { duration, .. } | Playout::Silence { duration } => duration,
        };
        let samples = (u64::from(duration) * u64::from(self.rate.0) / u64::from(self.rate.1.max(1))).min(MAX_SAMPLES as u64) as usize;
        let length = match playout {
            Playout::Frame { payload, .. } => self.decoder.decode(payload, &mut self.decoded).unwrap_or_else(|_| {
                *malformed += 1;
                self.decoder.conceal(None, &mut self.decoded[..samples]);
                samples
            }),
            Playout::Lost { next, .. } => {
                self.decoder.conceal(next, &mut self.decoded[..samples]);
                samples
            }
            Playout::Silence { .. } => {
                self.noise.fill(&mut self.decoded[..samples]);
                samples
            }
        };
        let begin = self.ready.len();
        self.ready.resize(begin + self.resampler.length(length), 0);
        self.resampler.process(&self.decoded[..length], &mut self.ready[begin..]);
    }

    /// Takes a frame; silence where there is too little.
    fn take(&mut self, frame: &mut [i16]) {
        let length = frame.len().min(self.ready.len());
        let (sound, rest) = frame.split_at_mut(length);
        sound.copy_from_slice(&self.ready[..length]);
        rest.fill(0);
        self.ready.copy_within(length.., 0);
        self.ready.truncate(self.ready.len() - length);
    }
}

/// A frame that is due.
struct Tick {
    at: Instant,
    timestamp: u32,
}

impl Clock {
    fn new(ptime: Duration, clock_rate: u32, timestamp: u32) -> Self {
        let frame = codec::samples(ptime, clock_rate) as u32;
        Self { ptime, frame, now: None, next: None, heard: None, timestamp, paused: None, marker: true }
    }

    /// Begins to tick with a packet.
    fn heard(&mut self, now: Instant) {
        self.now = self.now.max(Some(now));
        self.heard = Some(now);
        if self.next.is_none() {
            let next = now + MIN_DELAY;
            let pause = self.paused.take().map_or(Duration::ZERO, |since| next.saturating_duration_since(since));
            let frames = pause.as_nanos() / self.ptime.as_nanos().max(1);
            self.timestamp = self.timestamp.wrapping_add((frames as u32).wrapping_mul(self.frame));
            self.marker = true;
            self.next = Some(next);
        }
    }

    /// The next frame that is due; skips time after a stall, and stops when nothing comes in.
    fn tick(&mut self, skipped: &mut u64) -> Option<Tick> {
        let (now, mut at) = (self.now?, self.next?);
        if at > now {
            return None;
        }
        if self.heard.is_none_or(|heard| at.saturating_duration_since(heard) > IDLE) {
            self.paused = Some(at);
            self.next = None;
            return None;
        }
        let late = (now.duration_since(at).as_nanos() / self.ptime.as_nanos().max(1)).min(u128::from(u32::MAX)) as u32;
        if late > MAX_CATCH_UP {
            at += self.ptime * late;
            self.timestamp = self.timestamp.wrapping_add(late.wrapping_mul(self.frame));
            self.marker = true;
            *skipped += u64::from(late);
        }
        let tick = Tick { at, timestamp: self.timestamp };
        self.timestamp = self.timestamp.wrapping_add(self.frame);
        self.next = Some(at + self.ptime);
        Some(tick)
    }
}

fn write_header(header: &mut [u8; HEADER], payload_type: u8, marker: bool, sequence: u16, timestamp: u32, ssrc: u32) {
    let [first, second, number @ .., _, _, _, _, _, _, _, _] = header;
    (*first, *second) = (0x80, u8::from(marker) << 7 | payload_type & 0x7f);
    *number = sequence.to_be_bytes();
    let [_, _, _, _, time @ .., _, _, _, _] = header;
    *time = timestamp.to_be_bytes();
    let [_, _, _, _, _, _, _, _, source @ ..] = header;
    *source = ssrc.to_be_bytes();
}

#[cfg(test)]
mod tests;
