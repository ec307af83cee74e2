//! The sum of N parties minus oneself, on frames of one sample rate. It knows no codec and no time.

use crate::codec::MAX_SAMPLES;

/// Above this the sum is bent, at half the slope up to full scale; below it nothing is changed.
const KNEE: i32 = 24576;
/// Full scale.
const FULL: i32 = 32767;

/// The sum of a frame of all parties.
#[derive(Clone, Debug)]
pub struct Mix {
    sum: Vec<i32>,
    /// The sum without one of them.
    others: Vec<i32>,
    length: usize,
}

impl Default for Mix {
    fn default() -> Self {
        Self { sum: vec![0; MAX_SAMPLES], others: vec![0; MAX_SAMPLES], length: 0 }
    }
}

impl Mix {
    /// Starts a frame of that many samples, at most [`MAX_SAMPLES`].
    pub fn start(&mut self, samples: usize) {
        self.length = samples.min(MAX_SAMPLES);
        self.sum[..self.length].fill(0);
    }

    /// Adds what a party says; a shorter frame ends in silence. 65536 parties can be added.
    pub fn add(&mut self, party: &[i16]) {
        for (sum, &sample) in self.sum[..self.length].iter_mut().zip(party) {
            *sum += i32::from(sample);
        }
    }

    /// Writes what a party hears: the others. `own` is what it added, one frame for each of its devices; a listener has none. Returns
    /// the samples written.
    pub fn without<'a>(&mut self, own: impl Iterator<Item = &'a [i16]>, heard: &mut [i16]) -> usize {
        let length = self.length.min(heard.len());
        self.others[..length].copy_from_slice(&self.sum[..length]);
        for frame in own {
            for (sum, &sample) in self.others[..length].iter_mut().zip(frame) {
                *sum -= i32::from(sample);
            }
        }
        for (out, &sum) in heard.iter_mut().zip(&self.others[..length]) {
            *out = limit(sum);
        }
        length
    }
}

/// Bends what is too loud instead of cutting it off.
fn limit(sum: i32) -> i16 {
    let over = sum.saturating_abs() - KNEE;
    if over <= 0 {
        return sum as i16;
    }
    let limited = (KNEE + over / 2).min(FULL);
    (if sum < 0 { -limited } else { limited }) as i16
}

/// Returns the mean power of a frame, by which the loudest speaker is found.
#[must_use]
pub fn power(samples: &[i16]) -> u32 {
    let sum: u64 = samples.iter().map(|&sample| u64::from(i32::from(sample).unsigned_abs()).pow(2)).sum();
    (sum / samples.len().max(1) as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_hears_the_others() {
        let mut mix = Mix::default();
        let parties = [[100i16; 4], [20; 4], [3; 4]];
        mix.start(4);
        parties.iter().for_each(|party| mix.add(party));
        let mut heard = [0; 4];
        for (party, expected) in parties.iter().zip([23, 103, 120]) {
            assert_eq!(mix.without([&party[..]].into_iter(), &mut heard), 4);
            assert_eq!(heard, [expected; 4]);
        }
        mix.without(std::iter::empty(), &mut heard);
        assert_eq!(heard, [123; 4], "a listener hears all");
        mix.without([&parties[0][..], &parties[2]].into_iter(), &mut heard);
        assert_eq!(heard, [20; 4], "with two devices");
    }

    #[test]
    fn loud_parties_are_bent_and_do_not_wrap() {
        let mut last = i16::MIN;
        for sum in (-70000..70000).step_by(7) {
            let out = limit(sum);
            assert!(out >= last, "louder stays louder");
            assert!(sum.abs() > KNEE || i32::from(out) == sum);
            last = out;
        }
        let mut mix = Mix::default();
        mix.start(1);
        (0..1000).for_each(|_| mix.add(&[i16::MIN]));
        let mut heard = [0];
        mix.without(std::iter::empty(), &mut heard);
        assert_eq!(heard, [-32767]);
    }

    #[test]
    fn short_frames_end_in_silence_and_a_new_frame_forgets() {
        let mut mix = Mix::default();
        mix.start(3);
        mix.add(&[5]);
        mix.add(&[7; 9]);
        let mut heard = [9; 2];
        assert_eq!(mix.without([&[5][..]].into_iter(), &mut heard), 2);
        assert_eq!(heard, [7, 7]);
        mix.start(2);
        mix.without(std::iter::empty(), &mut heard);
        assert_eq!(heard, [0, 0]);
    }

    #[test]
    fn power_tells_who_speaks() {
        assert!(power(&[1000, -1000]) > power(&[10, -10]) && power(&[]) == 0);
        assert_eq!(power(&[i16::MIN; 100]), 1 << 30);
    }
}
