//! Tones in G.711: made, and heard again by the algorithm of Goertzel. It knows no packet.

use std::f64::consts::TAU;

/// Samples a second of G.711.
pub const RATE: u32 = 8000;
/// Samples, and so octets, of a packet of 20 ms.
pub const BLOCK: usize = 160;

/// A tone by its frequency in hertz. Multiples of 50 Hz fit a block exactly, so that none is heard in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tone(pub u16);

impl Tone {
    /// Returns the block of the tone that begins at a sample, in PCMU.
    #[must_use]
    pub fn block(self, first: u32) -> [u8; BLOCK] {
        let mut at = first;
        [(); BLOCK].map(|()| {
            let sample = 8000.0 * (self.step() * f64::from(at)).sin();
            at = at.wrapping_add(1);
            compress(sample as i16)
        })
    }

    /// The angle from one sample to the next.
    fn step(self) -> f64 {
        TAU * f64::from(self.0) / f64::from(RATE)
    }
}

/// Listens for some tones.
pub struct Ear {
    /// Each with the energy heard of it.
    tones: Vec<(Tone, f64)>,
    energy: f64,
}

impl Ear {
    /// Listens for these tones.
    #[must_use]
    pub fn new(tones: &[Tone]) -> Self {
        Self { tones: tones.iter().map(|tone| (*tone, 0.0)).collect(), energy: 0.0 }
    }

    /// Listens to a block of PCMU.
    pub fn hear(&mut self, block: &[u8]) {
        let samples = || block.iter().map(|octet| f64::from(expand(*octet)));
        self.energy += samples().map(|sample| sample * sample).sum::<f64>();
        for (tone, energy) in &mut self.tones {
            let turn = 2.0 * tone.step().cos();
            let (mut last, mut before) = (0.0, 0.0);
            for sample in samples() {
                (last, before) = (sample + turn * last - before, last);
            }
            let power = last * last + before * before - turn * last * before;
            *energy += 2.0 * power / block.len().max(1) as f64;
        }
    }

    /// Returns how much of all that was heard is the tone, from 0 to 1; 0 for silence.
    #[must_use]
    pub fn share(&self, tone: Tone) -> f64 {
        let heard = self.tones.iter().find(|(other, _)| *other == tone).map_or(0.0, |(_, energy)| *energy);
        if self.energy > 0.0 { heard / self.energy } else { 0.0 }
    }
}

/// Below the loudest sample that has a code, and added to each so that every segment begins at a power of two (G.711 table 2a).
const BIAS: u16 = 132;

/// Codes a sample in the µ-law.
fn compress(sample: i16) -> u8 {
    let magnitude = sample.unsigned_abs().min(32_635) + BIAS;
    let segment = 8 - magnitude.leading_zeros() as u8;
    let step = (magnitude >> (segment + 3)) as u8 & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | segment << 4 | step)
}

/// Decodes an octet of the µ-law.
fn expand(octet: u8) -> i16 {
    let code = !octet;
    let (segment, step) = (code >> 4 & 7, u16::from(code & 0x0f));
    let magnitude = (((step << 3) + BIAS) << segment) - BIAS;
    if code & 0x80 == 0 { magnitude.cast_signed() } else { -magnitude.cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_has_the_values_of_g711() {
        for (sample, octet) in [(0, 0xff), (32_124, 0x80), (i16::MAX, 0x80), (-32_124, 0x00), (i16::MIN, 0x00), (132, 0xef), (-8, 0x7e)] {
            assert_eq!(compress(sample), octet, "{sample}");
        }
        for octet in 0..=u8::MAX {
            assert_eq!(expand(compress(expand(octet))), expand(octet), "{octet}");
        }
    }

    #[test]
    fn a_tone_is_heard_and_no_other() {
        let (one, other) = (Tone(400), Tone(1000));
        let mut ear = Ear::new(&[one, other]);
        for block in 0..50 {
            ear.hear(&one.block(block * BLOCK as u32));
        }
        assert!(ear.share(one) > 0.99, "{}", ear.share(one));
        assert!(ear.share(other) < 0.001, "{}", ear.share(other));
    }

    #[test]
    fn of_two_tones_each_is_heard_by_half_and_silence_is_neither() {
        let (one, other) = (Tone(400), Tone(1000));
        let mut ear = Ear::new(&[one, other]);
        ear.hear(&[0xff; BLOCK]);
        assert_eq!((ear.share(one), ear.share(other)), (0.0, 0.0));
        ear.hear(&one.block(0));
        ear.hear(&other.block(0));
        assert!((ear.share(one) - 0.5).abs() < 0.01 && (ear.share(other) - 0.5).abs() < 0.01);
    }
}
