//! Fills the gaps of a codec that has no concealment of its own: the last pitch period is repeated and fades to silence. The
//! idea is that of G.711 Appendix I, without its delay; the code is ours.

use std::array;

/// Longest pitch period that is found, in parts of a second: 66 Hz.
const LOWEST_PITCH: usize = 66;
/// Shortest pitch period, in parts of a second: 200 Hz; of a higher voice two periods are found.
const HIGHEST_PITCH: usize = 200;
/// Samples kept: the longest period twice and the window it is compared over, at 16 kHz.
const HISTORY: usize = 1024;
/// Milliseconds at full level, before the fade.
const HOLD: usize = 10;
/// Milliseconds from the gap's beginning to silence.
const SILENT: usize = 60;
/// Milliseconds over which the sound behind the gap takes over.
const MERGE: usize = 4;

/// What was heard last of one stream.
#[derive(Clone, Debug)]
pub struct Concealment {
    sample_rate: usize,
    history: [i16; HISTORY],
    /// Samples filled since the gap began; none outside of a gap.
    filled: Option<usize>,
    period: usize,
}

impl Concealment {
    /// Starts with silence, at 8 or 16 kHz.
    #[must_use]
    pub fn new(sample_rate: u32) -> Self {
        Self { sample_rate: (sample_rate as usize).clamp(8000, 16000), history: [0; HISTORY], filled: None, period: 1 }
    }

    /// Takes note of decoded samples. Behind a gap it lets the concealment run out under their beginning.
    pub fn heard(&mut self, samples: &mut [i16]) {
        if let Some(filled) = self.filled.take() {
            let merge = (self.sample_rate * MERGE / 1000).min(samples.len());
            for (n, sample) in samples.iter_mut().take(merge).enumerate() {
                let old = self.synthetic(filled + n) * (merge - n) as f32;
                *sample = ((old + f32::from(*sample) * n as f32) / merge as f32) as i16;
            }
        }
        let keep = HISTORY.saturating_sub(samples.len());
        self.history.copy_within(HISTORY - keep.., 0);
        let newest = &samples[samples.len() - (HISTORY - keep)..];
        self.history[keep..].copy_from_slice(newest);
    }

    /// Continues the sound over a gap.
    pub fn fill(&mut self, samples: &mut [i16]) {
        let begin = self.filled.unwrap_or_else(|| {
            self.period = self.find_period();
            0
        });
        for (n, sample) in samples.iter_mut().enumerate() {
            *sample = self.synthetic(begin + n) as i16;
        }
        self.filled = Some(begin.saturating_add(samples.len()));
    }

    /// The sample that many samples into the gap.
    fn synthetic(&self, at: usize) -> f32 {
        let milliseconds = self.sample_rate / 1000;
        let (hold, silent) = (HOLD * milliseconds, SILENT * milliseconds);
        if at >= silent {
            return 0.0;
        }
        let overlap = self.period / 4;
        let phase = at % self.period;
        let mut value = f32::from(self.history[HISTORY - self.period + phase]);
        if let Some(left) = (phase + overlap).checked_sub(self.period) {
            // Towards its end the period turns into the end of the one before, so that its beginning follows smoothly.
            let weight = (left + 1) as f32 / (overlap + 1) as f32;
            value += (f32::from(self.history[HISTORY - 2 * self.period + phase]) - value) * weight;
        }
        if at < overlap {
            // The last sample heard had not turned yet: its step fades.
            let [last, before] = array::from_fn(|n| f32::from(self.history[HISTORY - 1 - n * self.period]));
            value += (last - before) * (1.0 - (at + 1) as f32 / (overlap + 1) as f32);
        }
        if at < hold { value } else { value * (silent - at) as f32 / (silent - hold) as f32 }
    }

    /// The lag at which the sound is most like itself.
    fn find_period(&self) -> usize {
        let (shortest, longest) = (self.sample_rate / HIGHEST_PITCH, self.sample_rate / LOWEST_PITCH);
        let step = self.sample_rate / 4000;
        let coarse = self.best_lag((shortest..=longest).step_by(step), step);
        self.best_lag(coarse.saturating_sub(step).max(shortest)..=(coarse + step).min(longest), 1)
    }

    fn best_lag(&self, lags: impl Iterator<Item = usize>, step: usize) -> usize {
        let window = HISTORY - self.sample_rate / 50..HISTORY;
        let mut best = (self.sample_rate / HIGHEST_PITCH, f32::MIN);
        for lag in lags {
            let (mut product, mut energy) = (0.0, 1.0);
            for at in window.clone().step_by(step) {
                let (now, before) = (f32::from(self.history[at]), f32::from(self.history[at - lag]));
                product += now * before;
                energy += before * before;
            }
            let likeness = product / f32::sqrt(energy);
            if likeness > best.1 {
                best = (lag, likeness);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tone::Tone, *};

    /// Loses each sixth frame; returns the error of `conceal` over the power of the frames lost.
    fn error(sample_rate: u32, frequency: f64, mut conceal: impl FnMut(&mut Concealment, &mut [i16])) -> f64 {
        let mut tone = Tone::new(sample_rate, frequency, 10000.0);
        let mut concealment = Concealment::new(sample_rate);
        let (mut error, mut power) = (0.0, 0.0);
        let mut frame = vec![0; sample_rate as usize / 50];
        for n in 0..60 {
            tone.fill(&mut frame);
            if n % 6 == 5 {
                let sent = frame.clone();
                conceal(&mut concealment, &mut frame);
                error += frame.iter().zip(&sent).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>();
                power += sent.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>();
            } else {
                concealment.heard(&mut frame);
            }
        }
        error / power
    }

    #[test]
    fn repeated_period_is_better_than_silence() {
        for rate in [8000, 16000] {
            for frequency in [150.0, 200.0, 317.0, 1000.0] {
                let concealed = error(rate, frequency, Concealment::fill);
                assert!(concealed < 0.2, "{frequency} Hz at {rate}: {concealed}");
                let silence = error(rate, frequency, |_, frame| frame.fill(0));
                assert!((0.9..1.1).contains(&silence));
            }
        }
    }

    #[test]
    fn long_gap_fades_to_silence_and_the_sound_comes_back_without_a_step() {
        let mut concealment = Concealment::new(8000);
        let mut tone = Tone::new(8000, 200.0, 10000.0);
        let mut frame = [0; 160];
        for _ in 0..10 {
            tone.fill(&mut frame);
            concealment.heard(&mut frame);
        }
        let mut last = frame[159];
        let mut loudest = vec![];
        for _ in 0..5 {
            concealment.fill(&mut frame);
            assert!((i32::from(last) - i32::from(frame[0])).abs() < 2500, "no step of more than the tone's own");
            loudest.push(frame.iter().map(|sample| sample.abs()).max().unwrap());
            last = frame[159];
        }
        assert!(loudest.is_sorted_by(|a, b| a >= b) && loudest[0] > 9000 && loudest[2] < 4500 && loudest[3] == 0, "{loudest:?}");
        frame = [9000; 160];
        concealment.heard(&mut frame);
        assert!(frame[0] == 0 && frame[10] < 4000 && frame[40] == 9000);
    }

    #[test]
    fn any_frame_length_and_a_gap_before_any_sound_are_fine() {
        let mut concealment = Concealment::new(16000);
        for length in [0, 1, 7, 160, 1024, 5760] {
            let mut frame = vec![i16::MIN; length];
            concealment.fill(&mut frame);
            concealment.heard(&mut frame);
            concealment.fill(&mut vec![0; length]);
        }
    }
}
