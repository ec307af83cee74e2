//! Converts frames between 8, 16 and 48 kHz: a polyphase low-pass of our own for the whole ratios 2, 3 and 6.
//!
//! `rubato` 5.0 was measured first: its FFT resampler delays by half a chunk, 10 ms for frames of 20 ms, and takes 3.1 us (16 to
//! 8 kHz) to 9.0 us (48 to 8 kHz) for each, on `f32` buffers behind adapters. This filter delays by 1.5 ms with 8 kHz and by 0.75 ms
//! between 16 and 48 kHz, takes `i16` slices, and needs 2.4 us and 7.4 us (`benches/transcode.rs`). Transcoding between Opus and
//! G.711 needs neither, since the Opus codec works at 8 kHz itself.

use crate::codec::MAX_SAMPLES;

/// Taps on each side of a sample at the lower rate; the delay is as many samples of that rate.
const HALF: usize = 12;
/// Taps per sample at the lower rate.
const TAPS: usize = 2 * HALF;
/// Most samples at the lower rate that the filter keeps: those of the longest frame, and the taps before it.
const LOWEST: usize = MAX_SAMPLES + TAPS;
/// Shape of the Kaiser window: some 60 dB of attenuation.
const BETA: f64 = 5.6;
/// Where the pass band ends, in parts of the lower rate's Nyquist frequency.
const CUTOFF: f64 = 0.92;

/// The sample rates are not a pair of 8000, 16000 and 48000 Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no whole ratio between the sample rates")]
pub struct Unsupported;

/// The filter of one direction of one stream.
#[derive(Clone, Debug)]
pub struct Resampler {
    ratio: Ratio,
    /// Upwards: the taps of each phase in a row. Downwards: all taps.
    taps: Vec<f32>,
    /// Samples that the next ones are weighed with, then those of the frame.
    line: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
enum Ratio {
    Same,
    Up(usize),
    Down(usize),
}

impl Resampler {
    /// Designs the filter from one rate to another, in Hz.
    ///
    /// # Errors
    /// [`Unsupported`] for other rates than 8000, 16000 and 48000.
    pub fn new(from: u32, to: u32) -> Result<Self, Unsupported> {
        if ![from, to].iter().all(|rate| [8000, 16000, 48000].contains(rate)) {
            return Err(Unsupported);
        }
        let ratio = match (to / from, from / to) {
            (1, 1) => Ratio::Same,
            (up, 0) => Ratio::Up(up as usize),
            (_, down) => Ratio::Down(down as usize),
        };
        let (taps, before) = match ratio {
            Ratio::Same => (Vec::new(), 0),
            Ratio::Up(factor) => (phases(factor), TAPS - 1),
            Ratio::Down(factor) => (prototype(factor).iter().map(|tap| (tap / factor as f64) as f32).collect(), TAPS * factor - factor),
        };
        let mut line = Vec::with_capacity(LOWEST * ratio.factor_down());
        line.resize(before, 0.0);
        Ok(Self { ratio, taps, line })
    }

    /// Returns how many samples come of a frame.
    #[must_use]
    pub fn length(&self, samples: usize) -> usize {
        match self.ratio {
            Ratio::Same => samples,
            Ratio::Up(factor) => samples * factor,
            Ratio::Down(factor) => samples / factor,
        }
    }

    /// Converts a frame and returns the samples written: as many as fit. Frames are whole milliseconds, at most [`MAX_SAMPLES`]
    /// long at the lower rate; what is over is left out.
    pub fn process(&mut self, input: &[i16], output: &mut [i16]) -> usize {
        let wanted = self.length(input.len()).min(output.len());
        let output = &mut output[..wanted];
        let before = self.line.len();
        match self.ratio {
            Ratio::Same => output.copy_from_slice(&input[..wanted]),
            Ratio::Up(factor) => {
                self.line.extend(input.iter().map(|&sample| f32::from(sample)));
                let windows = self.line.windows(TAPS);
                for (window, out) in windows.zip(output.chunks_mut(factor)) {
                    for (taps, out) in self.taps.chunks_exact(TAPS).zip(out) {
                        *out = dot(window, taps) as i16;
                    }
                }
            }
            Ratio::Down(factor) => {
                self.line.extend(input.iter().map(|&sample| f32::from(sample)));
                let windows = self.line.windows(TAPS * factor).step_by(factor);
                for (window, out) in windows.zip(output) {
                    *out = dot(window, &self.taps) as i16;
                }
            }
        }
        let used = self.line.len() - before;
        self.line.copy_within(used.., 0);
        self.line.truncate(before);
        wanted
    }
}

impl Ratio {
    fn factor_down(self) -> usize {
        if let Self::Down(factor) = self { factor } else { 1 }
    }
}

/// The low-pass at the higher rate: a sinc under a Kaiser window, with a gain of the factor.
fn prototype(factor: usize) -> Vec<f64> {
    let length = TAPS * factor;
    let middle = (length - 1) as f64 / 2.0;
    let mut taps: Vec<f64> = (0..length)
        .map(|n| {
            let at = n as f64 - middle;
            let x = std::f64::consts::PI * at * CUTOFF / factor as f64;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
            sinc * bessel(BETA * (1.0 - (at / middle).powi(2)).max(0.0).sqrt())
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap *= factor as f64 / sum);
    taps
}

/// The taps of each output sample between two input samples, oldest input first.
fn phases(factor: usize) -> Vec<f32> {
    let taps = prototype(factor);
    (0..factor).flat_map(|phase| taps.iter().skip(phase).step_by(factor).rev().map(|&tap| tap as f32).collect::<Vec<_>>()).collect()
}

/// The modified Bessel function of order 0.
fn bessel(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..30 {
        term *= (x / 2.0 / f64::from(n)).powi(2);
        sum += term;
    }
    sum
}

/// Eight sums side by side, which the compiler turns into vectors; one sum it may not reorder.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for n in 0..8 {
            sums[n] += a[n] * b[n];
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tone::{Tone, level, snr};

    const RATES: [u32; 3] = [8000, 16000, 48000];

    fn through(from: u32, to: u32, frequency: f64) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut tone = Tone::new(from, frequency, 10000.0);
        let (mut input, mut output) = (vec![0; from as usize / 50], vec![0; to as usize / 50]);
        let mut all = Vec::new();
        for _ in 0..50 {
            tone.fill(&mut input);
            assert_eq!(resampler.process(&input, &mut output), output.len());
            all.extend_from_slice(&output);
        }
        all.split_off(to as usize / 5)
    }

    #[test]
    fn tone_keeps_frequency_and_level_between_all_rates() {
        for from in RATES {
            for to in RATES {
                for frequency in [200.0, 1000.0, 3000.0] {
                    let sound = through(from, to, frequency);
                    let heard = level(&sound, to, frequency);
                    assert!((heard / 10000.0 - 1.0).abs() < 0.02, "{from} to {to}: {frequency} Hz with {heard}");
                    let snr = snr(&sound, to, frequency);
                    assert!(snr > 50.0, "{from} to {to}: {frequency} Hz with {snr:.1} dB");
                }
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        for (from, to, frequency) in [(16000, 8000, 5000.0), (48000, 8000, 5000.0), (48000, 16000, 10000.0)] {
            let loudest = through(from, to, frequency).iter().map(|sample| sample.abs()).max().unwrap();
            assert!(loudest < 60, "{from} to {to}: {loudest}");
        }
    }

    #[test]
    fn delay_is_a_few_samples() {
        for (from, to) in [(8000, 16000), (16000, 8000), (48000, 8000), (8000, 48000), (16000, 48000)] {
            let mut resampler = Resampler::new(from, to).unwrap();
            let (mut input, mut output) = (vec![0; from as usize / 50], vec![0; to as usize / 50]);
            input[..4 * from as usize / 8000].fill(10000);
            resampler.process(&input, &mut output);
            let peak = (0..output.len()).max_by_key(|&n| output[n]).unwrap() as f64 / f64::from(to);
            let expected = HALF as f64 / f64::from(from.min(to)) + 0.00025;
            assert!((peak - expected).abs() < 0.00025, "{from} to {to}: {peak} s");
        }
    }

    #[test]
    fn short_output_and_full_scale_are_fine() {
        let mut resampler = Resampler::new(8000, 48000).unwrap();
        assert_eq!(resampler.process(&[i16::MIN; 160], &mut [0; 10]), 10);
        assert_eq!(resampler.process(&[i16::MAX; 160], &mut [0; 960]), 960);
        assert_eq!(resampler.process(&[], &mut []), 0);
        assert!(Resampler::new(44100, 8000).is_err());
    }
}
