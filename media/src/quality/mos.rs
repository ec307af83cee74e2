//! What a listener may think of the sound: the E-model (ITU-T G.107), simplified as by Cole and Rosenbluth ("Voice over IP
//! performance monitoring", 2001) and with its defaults:
//!
//! - R = 93.2 - Id - Ie,eff
//! - Id = 0.024 d + 0.11 (d - 177.3) if d > 177.3, where d is the one-way delay in ms
//! - Ie,eff = Ie + (95 - Ie) Ppl / (Ppl + Bpl), where Ppl is the loss in per cent, taken as random (BurstR = 1)
//! - MOS = 1 + 0.035 R + 7e-6 R (R - 60)(100 - R)
//!
//! Ie and Bpl of G.711 with concealment are those of G.113 appendix I. G.722 and Opus have none on this scale, which ends at
//! 4.4 for telephone sound: they count as G.711, with a little less tolerance of loss. The figure is an estimate to compare legs by.

use std::{fmt, time::Duration};

/// A mean opinion score (ITU-T P.800): 1 is bad, 4.4 as good as a telephone gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mos(u16);

impl Mos {
    /// Estimates it from loss in 10,000ths of the packets, the delay from mouth to ear, and the codec; none for a codec of which
    /// nothing is known.
    #[must_use]
    pub fn estimate(loss: u32, delay: Duration, codec: &str) -> Option<Self> {
        let is = |name: &str| codec.eq_ignore_ascii_case(name);
        let (impairment, robustness) = if is("PCMU") || is("PCMA") {
            (0.0, 25.1)
        } else if is("G722") || is("opus") {
            (0.0, 20.0)
        } else if is("G729") {
            (11.0, 19.0)
        } else {
            return None;
        };
        let (loss, delay) = (f64::from(loss.min(10_000)) / 100.0, delay.as_secs_f64() * 1000.0);
        let from_delay = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
        let from_loss = impairment + (95.0 - impairment) * loss / (loss + robustness);
        let r = (93.2 - from_delay - from_loss).clamp(0.0, 100.0);
        let mos = 1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r);
        Some(Self((mos.clamp(1.0, 4.5) * 100.0).round() as u16))
    }

    /// The score in hundredths, 100 to 450.
    #[must_use]
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// What it means, in a word (G.107 annex B).
    #[must_use]
    pub fn word(self) -> &'static str {
        match self.0 {
            403.. => "good",
            360.. => "fair",
            310.. => "poor",
            _ => "bad",
        }
    }
}

impl fmt::Display for Mos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mos(loss: u32, delay: u64, codec: &str) -> u16 {
        Mos::estimate(loss, Duration::from_millis(delay), codec).unwrap().hundredths()
    }

    #[test]
    fn known_points_of_the_model() {
        assert_eq!(mos(0, 0, "PCMU"), 441, "R = 93.2");
        assert!((425..=440).contains(&mos(0, 150, "pcma")));
        assert!((338..=340).contains(&mos(0, 350, "PCMA")), "{}", mos(0, 350, "PCMA"));
        assert!((386..=388).contains(&mos(500, 50, "PCMU")), "{}", mos(500, 50, "PCMU"));
        assert_eq!(Mos::estimate(0, Duration::ZERO, "speex"), None);
    }

    #[test]
    fn worse_is_never_better() {
        for loss in (0..10_000).step_by(250) {
            assert!(mos(loss + 250, 60, "opus") <= mos(loss, 60, "opus"));
            assert!(mos(100, u64::from(loss) + 250, "opus") <= mos(100, u64::from(loss), "opus"));
        }
        assert_eq!(mos(u32::MAX, u64::MAX / 1000, "PCMU"), 100);
    }

    #[test]
    fn it_is_told_in_a_word_and_two_digits() {
        let best = Mos::estimate(0, Duration::ZERO, "PCMU").unwrap();
        assert_eq!((best.to_string().as_str(), best.word()), ("4.41", "good"));
        assert_eq!(Mos(305).to_string(), "3.05");
        assert_eq!((Mos(402).word(), Mos(359).word(), Mos(100).word()), ("fair", "poor", "bad"));
    }
}
