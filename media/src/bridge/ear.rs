//! Ear: what a mix hears of one leg: its packets go through a playout buffer and a decoder to frames of the mix's sample rate. It tells
//! sound from silence, which is neither added nor, where nothing comes, decoded.

use std::time::{Duration, Instant};

use super::{FRAMES_A_SECOND, mixable};
use crate::{
    PortId,
    codec::{Codec, Decoder, MAX_SAMPLES},
    jitter::{Header, Jitter, Playout},
    mix::power,
    port::rtp::Agreed,
    resample::Resampler,
    rtp::Packet,
};

/// Mean power below which a frame is silence: 63 dB below full scale, three steps of the finest segment of G.711.
const SILENCE: u32 = 24 * 24;
/// Frames that still count as sound after the last one that was: 200 ms, so that no word loses its end.
const HANGOVER: u8 = 10;
/// Shortest time between two changes of the codec; a source that changes more often is not heard until then, so that it cannot make us
/// build decoders all the time.
const MIN_CHANGE: Duration = Duration::from_millis(500);
/// Payloads that may be decoded for one frame.
const MAX_PULLS: usize = 8;

/// What a mix hears of one leg.
pub(crate) struct Ear {
    pub(crate) port: PortId,
    pub(crate) party: u16,
    /// Payload types of sound.
    formats: Box<[(u8, &'static dyn Codec)]>,
    rate: u32,
    jitter: Jitter,
    sound: Option<Sound>,
    /// Decoded, and beyond the frame.
    ready: Vec<i16>,
    /// The present frame.
    frame: Vec<i16>,
    /// Frames until it counts as silent.
    hangover: u8,
    /// Of the present frame.
    pub(crate) power: u32,
}

/// The decoder of the payload type that is sent.
struct Sound {
    payload_type: u8,
    decoder: Box<dyn Decoder>,
    resampler: Resampler,
    /// Samples of one unit of the clock: a fraction.
    rate: (u32, u32),
    since: Instant,
}

impl Ear {
    /// An ear for what a leg was told to send; `rate` is the mix's.
    pub(crate) fn new(port: PortId, party: u16, agreed: &Agreed, rate: u32) -> Self {
        let formats: Box<[_]> = mixable(&agreed.receive).collect();
        let clock_rate = formats.first().map_or(8000, |(_, codec)| codec.clock_rate());
        let frame = vec![0; (rate / FRAMES_A_SECOND) as usize];
        Self { port, party, formats, rate, jitter: Jitter::tight(clock_rate), sound: None, ready: Vec::new(), frame, hangover: 0, power: 0 }
    }

    /// Whether it is one for the same leg, formats and rate.
    pub(crate) fn is_for(&self, port: PortId, agreed: &Agreed, rate: u32) -> bool {
        let same = |((a, x), (b, y)): (&(u8, &dyn Codec), (u8, &dyn Codec))| *a == b && std::ptr::addr_eq(*x, y);
        let formats = mixable(&agreed.receive);
        self.port == port
            && self.rate == rate
            && self.formats.len() == formats.clone().count()
            && self.formats.iter().zip(formats).all(same)
    }

    /// The best sample rate of what it may hear.
    pub(crate) fn best_rate(agreed: &Agreed) -> Option<u32> {
        mixable(&agreed.receive).next().and_then(|(_, codec)| codec.sample_rates().last().copied())
    }

    /// Takes a packet of the leg.
    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let (payload_type, payload) = (packet.payload_type(), packet.payload());
        let codec = self.formats.iter().find(|(of, _)| *of == payload_type).map(|(_, codec)| *codec);
        // Events and comfort noise take up a number, and are silence.
        let duration = codec.and_then(|codec| codec.duration(payload)).unwrap_or(0);
        if let Some(codec) = codec.filter(|_| self.sound.as_ref().is_none_or(|sound| sound.payload_type != payload_type))
            && !self.change(now, payload_type, codec)
        {
            return;
        }
        let header = Header { ssrc: packet.ssrc(), sequence: packet.sequence(), timestamp: packet.timestamp(), payload_type, duration };
        self.jitter.insert(now, header, if duration > 0 { payload } else { &[] });
    }

    /// Begins to hear another payload type.
    fn change(&mut self, now: Instant, payload_type: u8, codec: &'static dyn Codec) -> bool {
        if self.sound.as_ref().is_some_and(|sound| now.saturating_duration_since(sound.since) < MIN_CHANGE) {
            return false;
        }
        let rate = codec_rate(codec, self.rate);
        let (Ok(decoder), Ok(resampler)) = (codec.decoder(rate), Resampler::new(rate, self.rate)) else { return false };
        let clock_rate = codec.clock_rate();
        if self.sound.as_ref().is_some_and(|sound| sound.rate.1 != clock_rate) {
            self.jitter = Jitter::tight(clock_rate);
        }
        self.sound = Some(Sound { payload_type, decoder, resampler, rate: (rate, clock_rate), since: now });
        true
    }

    /// Makes the frame of a beat of the mix. `scratch` has room for the longest payload.
    pub(crate) fn listen(&mut self, at: Instant, scratch: &mut [i16]) {
        let wanted = self.frame.len();
        let mut is_silent = self.ready.is_empty();
        for _ in 0..MAX_PULLS {
            if self.ready.len() >= wanted {
                break;
            }
            let Some(sound) = &mut self.sound else { break };
            let (length, heard) = sound.take(self.jitter.pull(at), scratch);
            is_silent &= !heard;
            let begin = self.ready.len();
            self.ready.resize(begin + sound.resampler.length(length), 0);
            if heard {
                sound.resampler.process(scratch.get(..length).unwrap_or_default(), self.ready.get_mut(begin..).unwrap_or_default());
            }
        }
        self.present(wanted, is_silent);
    }

    /// Takes the frame out of what is ready, and tells whether it is sound.
    fn present(&mut self, wanted: usize, is_silent: bool) {
        let length = wanted.min(self.ready.len());
        if is_silent {
            self.ready.drain(..length);
            (self.power, self.hangover) = (0, 0);
            return;
        }
        let (sound, rest) = self.frame.split_at_mut(length);
        sound.copy_from_slice(self.ready.get(..length).unwrap_or_default());
        rest.fill(0);
        self.ready.drain(..length);
        self.power = power(&self.frame);
        self.hangover = if self.power >= SILENCE { HANGOVER } else { self.hangover.saturating_sub(1) };
    }

    /// The present frame; none when it is silence.
    pub(crate) fn frame(&self) -> Option<&[i16]> {
        (self.hangover > 0).then_some(&self.frame[..])
    }
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ear").field("port", &self.port).field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl Sound {
    /// Turns what the playout buffer says into samples. Returns how many, and whether they are written: silence is not.
    fn take(&mut self, playout: Playout<'_>, samples: &mut [i16]) -> (usize, bool) {
        let length =
            |duration: u32| (u64::from(duration) * u64::from(self.rate.0) / u64::from(self.rate.1.max(1))).min(MAX_SAMPLES as u64) as usize;
        let (lost, next) = match playout {
            Playout::Frame { payload, payload_type, duration } if payload_type == self.payload_type => {
                if let Ok(length) = self.decoder.decode(payload, samples) {
                    return (length, true);
                }
                (length(duration), None)
            }
            Playout::Lost { duration, next } => (length(duration), next),
            Playout::Frame { duration, .. } | Playout::Silence { duration } => return (length(duration), false),
        };
        if let Some(samples) = samples.get_mut(..lost) {
            self.decoder.conceal(next, samples);
        }
        (lost, true)
    }
}

/// The codec's best sample rate up to the mix's.
pub(crate) fn codec_rate(codec: &dyn Codec, rate: u32) -> u32 {
    let rates = codec.sample_rates();
    rates.iter().copied().rfind(|own| *own <= rate).or(rates.first().copied()).unwrap_or(rate)
}
