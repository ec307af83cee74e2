//! Digits as pairs of tones in the sound (ITU-T Q.23, Q.24): made, and heard by Goertzel's algorithm. Speech is told from digits
//! by what else is in it: nearly all of the power must be in the two tones, in two blocks in a row.

use std::{f32::consts::TAU, time::Duration};

use super::{Digit, Key, MIN_DURATION, Press, Waiting};

const LOW: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const HIGH: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
/// The keys, by the row of the low tone and the column of the high one.
const PAD: [[char; 4]; 4] = [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];
/// Amplitudes of what is sent: -11 dBm0 and -9 dBm0, the high tone louder against the loss of the line.
const AMPLITUDES: [f32; 2] = [6500.0, 8000.0];
/// Silence after a digit, so that the same one may follow.
const PAUSE: Duration = Duration::from_millis(60);

/// Makes the sound of digits, one after the other.
#[derive(Clone, Debug)]
pub struct Tones {
    sample_rate: u32,
    waiting: Waiting,
    /// Samples of the digit that were made.
    made: usize,
}

impl Tones {
    /// Makes tones at a sample rate in Hz.
    #[must_use]
    pub fn new(sample_rate: u32) -> Self {
        Self { sample_rate: sample_rate.max(1), waiting: Waiting::default(), made: 0 }
    }

    /// Takes a press. At most [`MAX_WAITING`](super::MAX_WAITING) digits wait. A flash makes no sound.
    pub fn press(&mut self, press: Press) {
        let (Press::Down(digit) | Press::Up(digit, _)) = press;
        if digit != Digit::FLASH {
            self.waiting.press(press);
        }
    }

    /// Returns whether a digit is being made, or waits, with the pause behind it.
    #[must_use]
    pub fn is_pressing(&self) -> bool {
        self.waiting.first().is_some()
    }

    /// Writes tones and the pauses between them over a frame; returns whether there were any, else the frame is as it was.
    pub fn fill(&mut self, samples: &mut [i16]) -> bool {
        if self.waiting.first().is_none() {
            return false;
        }
        for sample in samples {
            *sample = self.next();
        }
        true
    }

    fn next(&mut self) -> i16 {
        let Some(Key { digit, duration }) = self.waiting.first() else { return 0 };
        let count = |duration: Duration| crate::codec::samples(duration, self.sample_rate);
        let length = duration.map_or(usize::MAX, |duration| count(duration.max(MIN_DURATION)));
        if self.made >= length.saturating_add(count(PAUSE)) {
            self.waiting.done();
            self.made = 0;
            return self.next_of_following();
        }
        let value = if self.made < length { self.sine_pair(digit) } else { 0.0 };
        self.made += 1;
        value as i16
    }

    fn next_of_following(&mut self) -> i16 {
        self.made = usize::from(self.waiting.first().is_some());
        0
    }

    fn sine_pair(&self, digit: Digit) -> f32 {
        let Some((low, high)) = frequencies(digit) else { return 0.0 };
        // The phase is taken within a second, in which each tone has whole periods, to keep it exact.
        let time = (self.made % self.sample_rate as usize) as f32 / self.sample_rate as f32;
        (TAU * (low * time).fract()).sin() * AMPLITUDES[0] + (TAU * (high * time).fract()).sin() * AMPLITUDES[1]
    }
}

fn frequencies(digit: Digit) -> Option<(f32, f32)> {
    PAD.iter().zip(LOW).find_map(|(row, low)| row.iter().zip(HIGH).find(|(key, _)| **key == digit.letter()).map(|(_, high)| (low, high)))
}

/// Blocks a second: 12.75 ms each, short enough for two in a tone of 40 ms, long enough to tell the tones apart.
const BLOCKS: f32 = 8000.0 / 102.0;
/// Blocks that must agree that a tone began, or that it ended.
const AGREE: u8 = 2;
/// Part of the power that must be in the two tones.
const PURE: f32 = 0.8;
/// Least amplitude of each tone: -35 dBm0.
const QUIETEST: f32 = 400.0;
/// How much more power than any other of its group a tone must have.
const DISTINCT: f32 = 6.3;
/// How much more power the low tone may have than the high one, 8 dB; and the other way round, 4 dB turned to 8 by lossy lines.
const TWIST: f32 = 6.3;

/// Hears digits in sound.
#[derive(Clone, Debug)]
pub struct Detector {
    sample_rate: u32,
    block: usize,
    coefficients: [f32; 8],
    states: [[f32; 2]; 8],
    energy: f32,
    filled: usize,
    /// What the last blocks heard, and how many of them.
    candidate: Option<Digit>,
    agreed: u8,
    /// The digit that is down, and its blocks so far.
    down: Option<(Digit, u32)>,
}

impl Detector {
    /// Listens to sound of a sample rate in Hz.
    #[must_use]
    pub fn new(sample_rate: u32) -> Self {
        let block = ((sample_rate as f32 / BLOCKS) as usize).max(1);
        let mut coefficients = [0.0; 8];
        for (coefficient, frequency) in coefficients.iter_mut().zip(LOW.into_iter().chain(HIGH)) {
            *coefficient = 2.0 * (TAU * frequency / sample_rate as f32).cos();
        }
        let states = [[0.0; 2]; 8];
        Self { sample_rate, block, coefficients, states, energy: 0.0, filled: 0, candidate: None, agreed: 0, down: None }
    }

    /// Listens to a frame and calls for each press that it hears.
    pub fn listen(&mut self, samples: &[i16], mut pressed: impl FnMut(Press)) {
        let mut rest = samples;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.block - self.filled));
            self.filter(now);
            rest = later;
            if self.filled == self.block
                && let Some(press) = self.end_of_block()
            {
                pressed(press);
            }
        }
    }

    fn filter(&mut self, samples: &[i16]) {
        for &sample in samples {
            let sample = f32::from(sample);
            self.energy += sample * sample;
            for ([last, before], coefficient) in self.states.iter_mut().zip(self.coefficients) {
                let next = sample + coefficient * *last - *before;
                *before = *last;
                *last = next;
            }
        }
        self.filled += samples.len();
    }

    fn end_of_block(&mut self) -> Option<Press> {
        let heard = self.digit();
        self.states = [[0.0; 2]; 8];
        (self.energy, self.filled) = (0.0, 0);
        self.agreed = if heard == self.candidate { self.agreed.saturating_add(1) } else { 1 };
        self.candidate = heard;
        match self.down {
            Some((digit, blocks)) if heard == Some(digit) || self.agreed < AGREE => {
                self.down = Some((digit, blocks.saturating_add(u32::from(heard == Some(digit)))));
                None
            }
            Some((digit, blocks)) => {
                self.down = None;
                self.agreed = self.agreed.min(AGREE - 1);
                let samples = u64::from(blocks) * self.block as u64;
                Some(Press::Up(digit, Duration::from_micros(samples * 1_000_000 / u64::from(self.sample_rate.max(1)))))
            }
            None => {
                let digit = heard.filter(|_| self.agreed >= AGREE)?;
                self.down = Some((digit, u32::from(AGREE)));
                Some(Press::Down(digit))
            }
        }
    }

    /// The digit of a block, if it is one.
    fn digit(&self) -> Option<Digit> {
        let mut powers = [0.0f32; 8];
        for ((power, [last, before]), coefficient) in powers.iter_mut().zip(self.states).zip(self.coefficients) {
            *power = last * last + before * before - coefficient * last * before;
        }
        let (low, high) = powers.split_at(4);
        let (row, low) = loudest(low)?;
        let (column, high) = loudest(high)?;
        let half = self.block as f32 / 2.0;
        let loud_enough = low.min(high) > (QUIETEST * half).powi(2);
        let is_pure = low + high > PURE * self.energy * half;
        let is_level = low < high * TWIST && high < low * TWIST;
        let letter = PAD.get(row)?.get(column)?;
        Digit::from_letter(*letter).filter(|_| loud_enough && is_pure && is_level)
    }
}

/// The one with the most power, if it is clearly so.
fn loudest(powers: &[f32]) -> Option<(usize, f32)> {
    let (at, &power) = powers.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let is_distinct = powers.iter().enumerate().all(|(other, &less)| other == at || less * DISTINCT < power);
    is_distinct.then_some((at, power))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "1234567890*#ABCD";

    fn sound(sample_rate: u32, digits: &str, duration: Duration) -> Vec<i16> {
        let mut tones = Tones::new(sample_rate);
        for digit in digits.chars().filter_map(Digit::from_letter) {
            tones.press(Press::Down(digit));
            tones.press(Press::Up(digit, duration));
        }
        let (mut all, mut frame) = (Vec::new(), vec![0; sample_rate as usize / 50]);
        while tones.fill(&mut frame) {
            all.extend_from_slice(&frame);
        }
        all.extend(vec![0; sample_rate as usize / 10]);
        all
    }

    fn heard(sample_rate: u32, sound: &[i16]) -> (String, Vec<Duration>) {
        let mut detector = Detector::new(sample_rate);
        let (mut digits, mut durations) = (String::new(), Vec::new());
        for frame in sound.chunks(sample_rate as usize / 50) {
            detector.listen(frame, |press| match press {
                Press::Down(digit) => digits.push(digit.letter()),
                Press::Up(_, duration) => durations.push(duration),
            });
        }
        (digits, durations)
    }

    #[test]
    fn digits_are_heard_as_they_were_made_at_all_rates() {
        for rate in [8000, 16000, 48000] {
            for duration in [50, 100, 300].map(Duration::from_millis) {
                let (digits, durations) = heard(rate, &sound(rate, ALL, duration));
                assert_eq!(digits, ALL, "{duration:?} at {rate}");
                let error = durations.iter().map(|heard| heard.abs_diff(duration)).max().unwrap();
                assert!(error < Duration::from_millis(27), "{duration:?} at {rate}: {error:?}");
            }
        }
        assert_eq!(heard(8000, &sound(8000, "1155", Duration::from_millis(60))).0, "1155", "the same digit twice");
    }

    #[test]
    fn digits_are_heard_through_noise_and_a_codec() {
        use crate::codec::{CODECS, MAX_PAYLOAD, Parameters};
        for &codec in CODECS {
            let rate = codec.sample_rates()[0];
            let mut encoder = codec.encoder(rate, &Parameters::default()).unwrap();
            let mut decoder = codec.decoder(rate).unwrap();
            let mut sound = sound(rate, ALL, Duration::from_millis(100));
            sound.truncate(sound.len() / (rate as usize / 50) * (rate as usize / 50));
            let mut payload = [0; MAX_PAYLOAD];
            for frame in sound.chunks_exact_mut(rate as usize / 50) {
                let octets = encoder.encode(frame, &mut payload).unwrap();
                decoder.decode(&payload[..octets], frame).unwrap();
            }
            assert_eq!(heard(rate, &sound).0, ALL, "{codec:?}");
        }
        let mut noise = crate::codec::noise::Noise::default();
        noise.set(&[38]);
        let mut sound = sound(8000, ALL, Duration::from_millis(100));
        let mut hiss = vec![0; sound.len()];
        noise.fill(&mut hiss);
        sound.iter_mut().zip(hiss).for_each(|(sample, hiss)| *sample = sample.saturating_add(hiss));
        assert_eq!(heard(8000, &sound).0, ALL);
    }

    #[test]
    fn voices_single_tones_and_noise_are_no_digits() {
        let mut seed = 1u32;
        let mut sound = Vec::new();
        for n in 0..80_000u32 {
            let time = n as f32 / 8000.0;
            // A voice that glides over an octave and a half, with its harmonics.
            let pitch = 110.0 + 90.0 * (time * 1.7).sin();
            let voice: f32 = (1..16).map(|harmonic| (TAU * pitch * harmonic as f32 * time).sin() / harmonic as f32).sum();
            sound.push((voice * 5000.0) as i16);
        }
        for frequency in LOW.into_iter().chain(HIGH) {
            sound.extend((0..4000).map(|n| ((TAU * frequency * n as f32 / 8000.0).sin() * 12000.0) as i16));
        }
        sound.extend((0..80_000).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as i16 / 2
        }));
        assert_eq!(heard(8000, &sound).0, "");
    }

    #[test]
    fn flash_makes_no_sound_and_a_frame_without_digits_stays() {
        let mut tones = Tones::new(8000);
        tones.press(Press::Down(Digit::FLASH));
        let mut frame = [7; 160];
        assert!(!tones.fill(&mut frame) && frame == [7; 160]);
    }
}
