//! Tones for tests: made, and measured by Goertzel's algorithm.

use std::f64::consts::TAU;

/// A sine that goes on from frame to frame.
pub(crate) struct Tone {
    phase: f64,
    step: f64,
    amplitude: f64,
}

impl Tone {
    pub(crate) fn new(sample_rate: u32, frequency: f64, amplitude: f64) -> Self {
        Self { phase: 0.0, step: TAU * frequency / f64::from(sample_rate), amplitude }
    }

    pub(crate) fn fill(&mut self, samples: &mut [i16]) {
        for sample in samples {
            *sample = (self.phase.sin() * self.amplitude) as i16;
            self.phase += self.step;
        }
    }
}

/// Amplitude of a frequency; the sound should be whole periods.
pub(crate) fn level(sound: &[i16], sample_rate: u32, frequency: f64) -> f64 {
    let step = TAU * frequency / f64::from(sample_rate);
    let (mut re, mut im) = (0.0, 0.0);
    for (n, &sample) in sound.iter().enumerate() {
        re += f64::from(sample) * (step * n as f64).cos();
        im += f64::from(sample) * (step * n as f64).sin();
    }
    2.0 * re.hypot(im) / sound.len() as f64
}

/// Power of a frequency over that of all else, in dB.
pub(crate) fn snr(sound: &[i16], sample_rate: u32, frequency: f64) -> f64 {
    let total = sound.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / sound.len() as f64;
    let signal = level(sound, sample_rate, frequency).powi(2) / 2.0;
    10.0 * (signal / (total - signal).max(1e-9)).log10()
}
