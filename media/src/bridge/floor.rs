//! Floor: who speaks, of several in a bridge. The others see the speaker, who sees the one before. It changes when another one is clearly
//! louder for a while, not with each cough.

use std::time::{Duration, Instant};

/// How long another one has to be louder before the floor is its own.
const LOUDER_FOR: Duration = Duration::from_millis(400);
/// Shortest time between two changes.
const HOLD: Duration = Duration::from_secs(2);
/// How much louder it has to be: 3 dB, in parts of power.
const LOUDER: u32 = 2;
/// Least power of speech: 44 dB below full scale.
const SPEECH: u32 = 200 * 200;
/// Frames over which loudness is smoothed, about.
const SMOOTH: u32 = 8;

/// The order in which the parties of a bridge spoke.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    parties: Vec<Standing>,
    /// Who spoke last comes first.
    order: Vec<u16>,
    challenger: Option<(u16, Instant)>,
    changed: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    party: u16,
    level: u32,
    /// Of the present frame.
    power: u32,
}

impl Floor {
    /// Takes how loud the parties were in a frame. Returns whether another one has the floor now.
    pub(crate) fn hear(&mut self, at: Instant, loudness: impl Iterator<Item = (u16, u32)>) -> bool {
        self.parties.iter_mut().for_each(|standing| standing.power = 0);
        for (party, power) in loudness {
            match self.parties.iter_mut().find(|standing| standing.party == party) {
                Some(standing) => standing.power = standing.power.max(power),
                None => self.parties.push(Standing { party, level: 0, power }),
            }
        }
        for standing in &mut self.parties {
            standing.level = standing.level - standing.level / SMOOTH + standing.power / SMOOTH;
        }
        let Some(loudest) = self.parties.iter().max_by_key(|standing| standing.level).copied() else { return false };
        let speaker = self.order.first().copied();
        let level = self.parties.iter().find(|standing| Some(standing.party) == speaker).map_or(0, |standing| standing.level);
        if speaker == Some(loudest.party) || loudest.level < SPEECH || loudest.level / LOUDER < level {
            self.challenger = None;
            return false;
        }
        let since = match self.challenger {
            Some((party, since)) if party == loudest.party => since,
            Some(_) | None => at,
        };
        self.challenger = Some((loudest.party, since));
        let has_held = self.changed.is_none_or(|changed| at.saturating_duration_since(changed) >= HOLD);
        if at.saturating_duration_since(since) < LOUDER_FOR || !has_held {
            return false;
        }
        self.order.retain(|party| *party != loudest.party);
        self.order.insert(0, loudest.party);
        (self.challenger, self.changed) = (None, Some(at));
        true
    }

    /// Forgets who is not there any more.
    pub(crate) fn keep(&mut self, is_there: impl Fn(u16) -> bool) {
        self.parties.retain(|standing| is_there(standing.party));
        self.order.retain(|party| is_there(*party));
    }

    /// How long ago a party had the floor, in turns; those that never had it come last.
    pub(crate) fn rank(&self, party: u16) -> usize {
        self.order.iter().position(|of| *of == party).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: u32 = 3000 * 3000;

    struct Meeting {
        floor: Floor,
        now: Instant,
    }

    impl Meeting {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
        fn new() -> Self {
            Self { floor: Floor::default(), now: Instant::now() }
        }

        /// Lets parties speak for some frames; how often the floor changed.
        fn speak(&mut self, frames: u32, loudness: &[(u16, u32)]) -> usize {
            let beats = (0..frames).filter(|_| {
                self.now += Duration::from_millis(20);
                self.floor.hear(self.now, loudness.iter().copied())
            });
            beats.count()
        }
    }

    #[test]
    fn whoever_speaks_for_a_while_has_the_floor_and_the_one_before_comes_next() {
        let mut meeting = Meeting::new();
        assert_eq!(meeting.speak(100, &[(1, LOUD), (2, 0), (3, 10)]), 1);
        assert_eq!(meeting.speak(100, &[(1, 0), (2, LOUD), (3, 10)]), 1);
        assert_eq!(meeting.floor.order, [2, 1]);
        assert_eq!(meeting.speak(500, &[(1, 0), (2, 0), (3, 10)]), 0, "silence changes nothing");
        assert_eq!((meeting.floor.rank(2), meeting.floor.rank(1), meeting.floor.rank(3)), (0, 1, usize::MAX));
        meeting.floor.keep(|party| party != 2);
        assert_eq!(meeting.floor.rank(1), 0);
    }

    #[test]
    fn a_cough_or_an_equal_voice_does_not_take_it() {
        let mut meeting = Meeting::new();
        meeting.speak(200, &[(1, LOUD), (2, 0)]);
        for _ in 0..20 {
            assert_eq!(meeting.speak(8, &[(1, 0), (2, LOUD)]), 0);
            assert_eq!(meeting.speak(40, &[(1, LOUD), (2, 0)]), 0);
        }
        assert_eq!(meeting.speak(500, &[(1, LOUD), (2, LOUD + LOUD / 2)]), 0);
    }

    #[test]
    fn it_does_not_flicker() {
        let mut meeting = Meeting::new();
        let changes: usize = (0..20).map(|turn| meeting.speak(30, &[(turn % 2, LOUD)])).sum();
        assert!(changes <= 6, "{changes} in 12 s");
    }
}
