//! Comfort noise (RFC 3389, payload type 13): the level of a payload becomes noise of that level; its spectrum is not used.

/// Static payload type of comfort noise at 8 kHz.
pub const PAYLOAD_TYPE: u8 = 13;
/// Loudest noise in dB below full scale; a payload that asks for more is held to it.
const LOUDEST: u8 = 35;

/// A source of noise.
#[derive(Clone, Debug)]
pub struct Noise {
    amplitude: f32,
    seed: u32,
    /// The low-pass that makes it less harsh.
    last: f32,
}

impl Default for Noise {
    fn default() -> Self {
        Self { amplitude: 0.0, seed: 0x9e37_79b9, last: 0.0 }
    }
}

impl Noise {
    /// Takes the level from a payload; one without a level is silence.
    pub fn set(&mut self, payload: &[u8]) {
        self.amplitude = match payload.first() {
            // A low-passed uniform noise has a fourth of the power of its bounds.
            Some(level @ 0..127) => 2.0 * 32768.0 * 10f32.powf(-f32::from((*level).max(LOUDEST)) / 20.0),
            Some(_) | None => 0.0,
        };
    }

    /// Fills a frame with noise.
    pub fn fill(&mut self, samples: &mut [i16]) {
        for sample in samples {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 17;
            self.seed ^= self.seed << 5;
            let white = self.seed as i32 as f32 / 2_147_483_648.0;
            self.last = (self.last + white) / 2.0;
            *sample = (self.last * self.amplitude * 1.5) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(payload: &[u8]) -> f64 {
        let mut noise = Noise::default();
        noise.set(payload);
        let mut frame = [0; 8000];
        noise.fill(&mut frame);
        let power = frame.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / 8000.0;
        20.0 * (power.sqrt().max(1e-9) / 32768.0).log10()
    }

    #[test]
    fn noise_has_the_level_of_its_payload() {
        for asked in [40, 55, 65] {
            let heard = level(&[asked, 1, 2]);
            assert!((heard + f64::from(asked)).abs() < 2.0, "{asked}: {heard}");
        }
    }

    #[test]
    fn loud_noise_is_held_down_and_none_is_silence() {
        assert!(level(&[0]) < -33.0);
        assert!(level(&[127]) < -100.0 && level(&[255]) < -100.0 && level(&[]) < -100.0);
    }
}
