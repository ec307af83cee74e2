//! Sounds that are played to a leg, such as music on hold: each is encoded once for each codec, as far as it has been heard, and shared
//! by all who hear it. The built-in one is computed. It knows no files: whoever adds a sound has its samples.

use std::{
    collections::BTreeMap,
    f32::consts::TAU,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    SoundId,
    codec::{self, Codec, DEFAULT_PTIME, Encoder, MAX_PAYLOAD, Parameters},
    resample::Resampler,
};

/// Longest sound; what is beyond is left out.
pub const MAX_LENGTH: Duration = Duration::from_secs(600);
/// Sample rates that are kept of a sound, ascending.
const RATES: [u32; 2] = [8000, 16000];

/// Why samples are no sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another sample rate than 8000, 16000 or 48000 Hz.
    #[error("its sample rate is {0} Hz instead of 8000, 16000 or 48000 Hz")]
    SampleRate(u32),
    /// Less than one frame of 20 ms.
    #[error("it is shorter than 20 ms")]
    Short,
}

/// A sound that is played again and again: mono, 16 bit. Clones are cheap.
#[derive(Clone)]
pub struct Sound(Arc<[Vec<i16>; RATES.len()]>);

impl Sound {
    /// A sound from samples at 8, 16 or 48 kHz; what is left of the last 20 ms, and beyond [`MAX_LENGTH`], is left out.
    ///
    /// # Errors
    /// [`Error`] when the rate is another, or nothing is left.
    pub fn new(samples: &[i16], sample_rate: u32) -> Result<Self, Error> {
        if ![8000, 16000, 48000].contains(&sample_rate) {
            return Err(Error::SampleRate(sample_rate));
        }
        let frame = codec::samples(DEFAULT_PTIME, sample_rate);
        let most = codec::samples(MAX_LENGTH, sample_rate);
        let frames = samples.len().min(most) / frame;
        if frames == 0 {
            return Err(Error::Short);
        }
        let whole = samples.get(..frames * frame).unwrap_or_default();
        Ok(Self(Arc::new(RATES.map(|rate| converted(whole, sample_rate, rate)))))
    }

    /// The built-in music: broken chords of soft tones, quiet enough to talk beside it.
    #[must_use]
    pub fn music() -> Self {
        static MUSIC: OnceLock<Sound> = OnceLock::new();
        // All of its tones are low: the wider rate needs no more.
        let [rate, _] = RATES;
        MUSIC
            .get_or_init(|| {
                let music = compose(rate);
                Self(Arc::new(RATES.map(|to| converted(&music, rate, to))))
            })
            .clone()
    }

    /// The ring-back tone of most of Europe: 425 Hz for one second of five (ITU-T E.180).
    #[must_use]
    pub fn ringback() -> Self {
        let rate = RATES.first().copied().unwrap_or(8000);
        let sample = |n: u32| {
            let time = n as f32 / rate as f32;
            if n < rate { ((425.0 * time).fract() * TAU).sin() * RINGBACK * 32767.0 } else { 0.0 }
        };
        let samples: Vec<i16> = (0..5 * rate).map(|n| sample(n) as i16).collect();
        Self(Arc::new(RATES.map(|to| converted(&samples, rate, to))))
    }

    /// The samples of a rate.
    fn at(&self, rate: u32) -> &[i16] {
        let index = RATES.iter().position(|of| *of == rate);
        index.and_then(|index| self.0.get(index)).map_or(&[], Vec::as_slice)
    }
}

impl std::fmt::Debug for Sound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sound of {} ms", self.at(8000).len() / 8)
    }
}

fn converted(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
    let Ok(mut resampler) = Resampler::new(from, to) else { return Vec::new() };
    let frame = codec::samples(DEFAULT_PTIME, from);
    let mut converted = vec![0; resampler.length(samples.len())];
    for (input, output) in samples.chunks(frame).zip(converted.chunks_mut(codec::samples(DEFAULT_PTIME, to))) {
        resampler.process(input, output);
    }
    converted
}

/// Loudness of the ring-back tone, in parts of full scale: -18 dBm0.
const RINGBACK: f32 = 0.09;
/// Time between two tones of the music.
const STEP: f32 = 0.4;
/// How long a tone sounds.
const RING: f32 = 2.4;
/// Its loudness, in parts of full scale.
const LOUDNESS: f32 = 0.11;
/// The chords, in half tones above A of 220 Hz: A minor, F, C, G and their like, sixteen chords of eight tones in two rounds.
const CHORDS: [[i8; 4]; 8] =
    [[0, 7, 12, 15], [-4, 3, 8, 12], [3, 7, 10, 15], [-2, 5, 10, 14], [0, 3, 7, 12], [-7, 0, 5, 8], [-4, 3, 8, 12], [-5, 2, 7, 11]];
/// Which tone of a chord follows which.
const ORDER: [usize; 8] = [0, 1, 2, 3, 2, 3, 1, 2];

/// Computes the music; its end runs into its beginning.
fn compose(rate: u32) -> Vec<i16> {
    let frame = codec::samples(DEFAULT_PTIME, rate);
    let steps = CHORDS.len() * ORDER.len();
    let length = ((steps as f32 * STEP * rate as f32) as usize).next_multiple_of(frame);
    let (mut sum, mut tones) = (vec![0f32; length], BTreeMap::new());
    let melody = CHORDS.iter().flat_map(|chord| ORDER.iter().filter_map(|tone| chord.get(*tone)));
    for (step, half_tones) in melody.enumerate() {
        let tone = tones.entry(half_tones).or_insert_with(|| tone(*half_tones, rate as f32));
        let begin = (step as f32 * STEP * rate as f32) as usize;
        let places = (begin..length).chain(0..begin);
        for (sample, place) in tone.iter().zip(places) {
            if let Some(sum) = sum.get_mut(place) {
                *sum += sample;
            }
        }
    }
    sum.iter().map(|sample| (sample * LOUDNESS * 32767.0).clamp(-32767.0, 32767.0) as i16).collect()
}

/// A tone that swells within 30 ms and dies away; its second and third harmonic die sooner.
fn tone(half_tones: i8, rate: f32) -> Vec<f32> {
    let pitch = 220.0 * 2f32.powf(f32::from(half_tones) / 12.0);
    let sample = |n: usize| {
        let time = n as f32 / rate;
        let harmonic = |number: f32| ((number * pitch * time).fract() * TAU).sin();
        let wave = harmonic(1.0) + 0.35 * (-time * 2.0).exp() * harmonic(2.0) + 0.12 * (-time * 4.0).exp() * harmonic(3.0);
        wave * (time / 0.03).min(1.0) * (-time * 2.2).exp() * (1.0 - time / RING)
    };
    (0..(RING * rate) as usize).map(sample).collect()
}

/// The sounds of an engine.
#[derive(Debug, Default)]
pub(crate) struct Sounds(BTreeMap<SoundId, Track>);

#[derive(Debug)]
struct Track {
    sound: Sound,
    encoded: Vec<Encoded>,
}

/// A sound in one codec, as far as it has been played.
struct Encoded {
    codec: &'static dyn Codec,
    rate: u32,
    encoder: Box<dyn Encoder>,
    payloads: Vec<Box<[u8]>>,
}

impl Sounds {
    pub(crate) fn add(&mut self, id: SoundId, sound: Sound) {
        self.0.insert(id, Track { sound, encoded: Vec::new() });
    }

    /// The payload of a frame, counted from the beginning; after the last comes the first. None when there is no such sound.
    pub(crate) fn payload(&mut self, id: SoundId, codec: &'static dyn Codec, frame: usize) -> Option<&[u8]> {
        let Track { sound, encoded } = self.0.get_mut(&id)?;
        let index = encoded.iter().position(|encoded| std::ptr::addr_eq(encoded.codec, codec));
        let index = match index {
            Some(index) => index,
            None => {
                encoded.push(Encoded::new(codec)?);
                encoded.len() - 1
            }
        };
        encoded.get_mut(index)?.payload(sound, frame)
    }
}

impl Encoded {
    fn new(codec: &'static dyn Codec) -> Option<Self> {
        let rate = codec.sample_rates().iter().copied().rfind(|rate| RATES.contains(rate))?;
        let encoder = codec.encoder(rate, &Parameters::default()).ok()?;
        Some(Self { codec, rate, encoder, payloads: Vec::new() })
    }

    /// Frames are encoded in their order, when they are first heard: those who hear a sound begin at its beginning.
    fn payload(&mut self, sound: &Sound, frame: usize) -> Option<&[u8]> {
        let samples = sound.at(self.rate);
        let length = codec::samples(DEFAULT_PTIME, self.rate);
        let frame = frame % (samples.len() / length).max(1);
        let mut payload = [0; MAX_PAYLOAD];
        while self.payloads.len() <= frame {
            let begin = self.payloads.len() * length;
            let octets = self.encoder.encode(samples.get(begin..begin + length)?, &mut payload).ok()?;
            self.payloads.push(payload.get(..octets)?.into());
        }
        self.payloads.get(frame).map(|payload| &**payload)
    }
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frames in {:?}", self.payloads.len(), self.codec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ringing_is_a_tone_for_one_second_of_five() {
        let sound = Sound::ringback();
        for rate in RATES {
            let samples = sound.at(rate);
            assert_eq!(samples.len(), 5 * rate as usize);
            let (tone, pause) = samples.split_at(rate as usize + 400);
            assert!(
                tone.iter().any(|sample| sample.unsigned_abs() > 2000) && pause.iter().all(|sample| sample.unsigned_abs() < 3),
                "{rate}"
            );
        }
    }

    #[test]
    fn the_music_is_quiet_and_never_silent_and_never_too_loud() {
        let music = Sound::music();
        for rate in RATES {
            let samples = music.at(rate);
            assert_eq!(samples.len() % (rate as usize / 50), 0);
            assert!((25..=26).contains(&(samples.len() / rate as usize)), "{} samples", samples.len());
            let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
            assert!((3000..12000).contains(&loudest), "{loudest}");
            for second in samples.chunks_exact(rate as usize) {
                let power = crate::mix::power(second);
                assert!((200u32.pow(2)..3000u32.pow(2)).contains(&power), "{power}");
            }
            // Its end runs into its beginning.
            let largest = |pair: &[i16]| pair[1].abs_diff(pair[0]);
            let step = samples.windows(2).map(largest).max().unwrap();
            assert!(largest(&[samples[samples.len() - 1], samples[0]]) <= step);
        }
    }

    #[test]
    fn a_sound_goes_round_in_each_codec_and_is_encoded_once() {
        let mut sounds = Sounds::default();
        let samples: Vec<i16> = (0..8000).map(|n| (n % 160) as i16 * 100).collect();
        sounds.add(SoundId(3), Sound::new(&samples, 8000).unwrap());
        for &codec in codec::CODECS {
            let first: Vec<Vec<u8>> = (0..50).map(|frame| sounds.payload(SoundId(3), codec, frame).unwrap().to_vec()).collect();
            for (frame, payload) in first.iter().enumerate() {
                assert_eq!(sounds.payload(SoundId(3), codec, frame + 100).unwrap(), payload, "{codec:?}");
            }
        }
        assert!(sounds.payload(SoundId(4), codec::CODECS[0], 0).is_none());
    }

    #[test]
    fn what_is_no_sound_is_refused() {
        assert_eq!(Sound::new(&[0; 44100], 44100).unwrap_err(), Error::SampleRate(44100));
        assert_eq!(Sound::new(&[0; 319], 16000).unwrap_err(), Error::Short);
        assert_eq!(Sound::new(&vec![0; 8000 * 601], 8000).unwrap().at(16000).len(), 16000 * 600);
    }
}
