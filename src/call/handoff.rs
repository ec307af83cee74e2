//! Handoff: a party's media on its way to another of its devices, make before break (RFC 5631). It decides; [`super::command`] begins it
//! and [`super::carry`] does what it says. It knows no messages, no ports and no clock.
//!
//! ```text
//!  device not in the call          device in the call, without a line for the kind
//!        |                               |
//!        v                               v
//!    Reaching --Up--+              Adding --Settled--+
//!        |          |                    |           |      the device takes it:
//!        |          +---------> Overlap <+-----------+      both give, until the new one is heard
//!        |                         | Heard, Timeout, Alone
//!        |                         v
//!        |                     Lingering                    the old ones only take, while the new one begins to play
//!        |                         | Timeout, Alone
//!        |                         v
//!        |                      Settling                    the old ones let go; everybody's lines follow
//!        |                         | Settled
//!        v                         v
//!      Over <---------------------Over
//! ```

use std::time::{Duration, Instant};

use media::Kinds;

use super::command::Refusal;

/// How long both devices carry the media while nothing is heard from the new one; then it has it all the same.
pub(super) const HEARD_LIMIT: Duration = Duration::from_secs(3);

/// How long the old devices still play after the new one is heard: its jitter buffer has to fill before its user hears anything.
pub(super) const LINGER: Duration = Duration::from_millis(400);

/// What is to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// The kinds leave the party's other devices.
    Move,
    /// The device carries them, too.
    Join,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The device rings.
    Reaching {
        until: Instant,
    },
    /// The device is in the call, and offered more lines.
    Adding,
    /// It carries the media beside the old ones.
    Overlap {
        unheard: Kinds,
        until: Instant,
    },
    /// It is heard; the old ones give nothing more.
    Lingering {
        until: Instant,
    },
    /// The old ones have let go; offers that follow from it are under way.
    Settling,
    Over,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// The device answered: what it takes of the kinds, and of those what old devices give until it is heard.
    Up(Taken),
    /// It refused, was not reached, or its answer cannot be used.
    Refused(Refusal),
    /// It is heard.
    Heard(Kinds),
    /// No offer is under way in the call: what it takes of the kinds.
    Settled(Taken),
    /// It has left the call.
    Gone,
    /// The party's other devices have left the call.
    Alone,
    /// Time has passed.
    Timeout,
}

/// What a device takes of the kinds that it is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) kinds: Kinds,
    /// Of those, what it sends and another device of the party gives.
    pub(super) unheard: Kinds,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// The bridge has changed.
    Arrange,
    /// The party's other devices lose what has moved.
    LetGo,
    /// It has worked.
    Done,
    /// It has not: the device that was to carry the media does not, for this reason.
    Abandon(Refusal),
}

/// A handoff of one party. It is over with [`Effect::Done`] or [`Effect::Abandon`].
#[derive(Debug)]
pub(super) struct Handoff {
    /// What moves.
    pub(super) kinds: Kinds,
    manner: Manner,
    state: State,
}

impl Handoff {
    /// Begins with a device that is not in the call, and rings until then.
    pub(super) fn reaching(kinds: Kinds, manner: Manner, until: Instant) -> Self {
        Self { kinds, manner, state: State::Reaching { until } }
    }

    /// Begins with a device that is in the call.
    pub(super) fn adding(kinds: Kinds, manner: Manner) -> Self {
        Self { kinds, manner, state: State::Adding }
    }

    /// Returns true while old devices and the new one carry the media.
    pub(super) fn overlaps(&self) -> bool {
        matches!(self.state, State::Overlap { .. })
    }

    /// Returns true while old devices only take.
    pub(super) fn lingers(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// Returns what leaves the party's other devices in the end.
    pub(super) fn leaves(&self) -> Kinds {
        if self.manner == Manner::Move { self.kinds } else { Kinds::NONE }
    }

    /// Returns when to tell that time has passed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Reaching { until } | State::Overlap { until, .. } | State::Lingering { until } => Some(until),
            State::Adding | State::Settling | State::Over => None,
        }
    }

    /// Takes what happened, and returns what to do.
    pub(super) fn handle(&mut self, now: Instant, input: Input) -> Effect {
        let (state, effect) = match (self.state, input) {
            (State::Reaching { .. }, Input::Up(taken)) | (State::Adding, Input::Settled(taken)) => self.taken(now, taken),
            (State::Reaching { until }, Input::Timeout) if now >= until => (State::Over, Effect::Abandon(Refusal::NoAnswer)),
            (State::Reaching { .. } | State::Adding, Input::Refused(refusal)) => (State::Over, Effect::Abandon(refusal)),
            (State::Overlap { unheard, until }, Input::Heard(kinds)) if !(unheard - kinds).is_empty() => {
                (State::Overlap { unheard: unheard - kinds, until }, Effect::Nothing)
            }
            (State::Overlap { .. }, Input::Heard(_)) => (State::Lingering { until: now + LINGER }, Effect::Arrange),
            (State::Overlap { .. } | State::Lingering { .. }, Input::Alone) => (State::Settling, Effect::LetGo),
            (State::Overlap { until, .. } | State::Lingering { until }, Input::Timeout) if now >= until => (State::Settling, Effect::LetGo),
            (State::Settling, Input::Settled(taken)) if taken.kinds.is_empty() => (State::Over, Effect::Abandon(Refusal::NotTaken)),
            (State::Settling, Input::Settled(_)) => (State::Over, Effect::Done),
            (State::Reaching { .. } | State::Adding | State::Overlap { .. } | State::Lingering { .. } | State::Settling, Input::Gone) => {
                (State::Over, Effect::Abandon(Refusal::TargetGone))
            }
            // Late or early input changes nothing.
            (state, _) => (state, Effect::Nothing),
        };
        self.state = state;
        effect
    }

    /// The device told what it takes: all of a whole move may be less than there was, a kind that was asked for by name may not.
    fn taken(&self, now: Instant, taken: Taken) -> (State, Effect) {
        let is_enough = if self.kinds == Kinds::BOTH { !taken.kinds.is_empty() } else { taken.kinds.contains(self.kinds) };
        match self.manner {
            _ if !is_enough => (State::Over, Effect::Abandon(Refusal::NotTaken)),
            Manner::Move if !taken.unheard.is_empty() => {
                (State::Overlap { unheard: taken.unheard, until: now + HEARD_LIMIT }, Effect::Arrange)
            }
            Manner::Move | Manner::Join => (State::Settling, Effect::LetGo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Taken = Taken { kinds: Kinds::BOTH, unheard: Kinds::BOTH };
    const FRESH: Taken = Taken { kinds: Kinds::BOTH, unheard: Kinds::NONE };
    const NONE: Taken = Taken { kinds: Kinds::NONE, unheard: Kinds::NONE };
    const REFUSED: Input = Input::Refused(Refusal::Busy);

    /// A handoff in each of the states, by name, and a time at which nothing is due.
    fn states(manner: Manner) -> [(&'static str, Handoff); 6] {
        let now = crate::clock::now();
        let in_state = |state| Handoff { kinds: Kinds::BOTH, manner, state };
        [
            ("reaching", Handoff::reaching(Kinds::BOTH, manner, now + HEARD_LIMIT)),
            ("adding", Handoff::adding(Kinds::BOTH, manner)),
            ("overlap", in_state(State::Overlap { unheard: Kinds::BOTH, until: now + HEARD_LIMIT })),
            ("lingering", in_state(State::Lingering { until: now + LINGER })),
            ("settling", in_state(State::Settling)),
            ("over", in_state(State::Over)),
        ]
    }

    #[test]
    fn each_input_in_each_state() {
        use Effect::{Abandon, Arrange, Done, LetGo, Nothing};
        let (busy, gone, not_taken) = (Abandon(Refusal::Busy), Abandon(Refusal::TargetGone), Abandon(Refusal::NotTaken));
        let no_answer = Abandon(Refusal::NoAnswer);
        // in the order of `states`: reaching, adding, overlap, lingering, settling, over
        let table = [
            (Input::Up(ALL), [Arrange, Nothing, Nothing, Nothing, Nothing, Nothing]),
            (Input::Up(FRESH), [LetGo, Nothing, Nothing, Nothing, Nothing, Nothing]),
            (Input::Up(NONE), [not_taken, Nothing, Nothing, Nothing, Nothing, Nothing]),
            (REFUSED, [busy, busy, Nothing, Nothing, Nothing, Nothing]),
            (Input::Heard(Kinds::BOTH), [Nothing, Nothing, Arrange, Nothing, Nothing, Nothing]),
            (Input::Heard(Kinds::AUDIO), [Nothing, Nothing, Nothing, Nothing, Nothing, Nothing]),
            (Input::Settled(ALL), [Nothing, Arrange, Nothing, Nothing, Done, Nothing]),
            (Input::Settled(FRESH), [Nothing, LetGo, Nothing, Nothing, Done, Nothing]),
            (Input::Settled(NONE), [Nothing, not_taken, Nothing, Nothing, not_taken, Nothing]),
            (Input::Gone, [gone, gone, gone, gone, gone, Nothing]),
            (Input::Alone, [Nothing, Nothing, LetGo, LetGo, Nothing, Nothing]),
        ];
        let now = crate::clock::now();
        for (input, effects) in table {
            for ((name, mut handoff), effect) in states(Manner::Move).into_iter().zip(effects) {
                assert_eq!(handoff.handle(now, input), effect, "{name} {input:?}");
                assert_eq!(handoff.state == State::Over, matches!(effect, Done | Abandon(_)) || name == "over", "{name} {input:?}");
            }
        }
        for (name, mut handoff) in states(Manner::Move) {
            assert_eq!(handoff.handle(now, Input::Timeout), Nothing, "{name}: too early");
            let due = handoff.poll_timeout();
            assert_eq!(due.is_some(), matches!(name, "reaching" | "overlap" | "lingering"), "{name}");
            let expected = if name == "reaching" {
                no_answer
            } else if matches!(name, "overlap" | "lingering") {
                LetGo
            } else {
                Nothing
            };
            assert_eq!(handoff.handle(now + 2 * HEARD_LIMIT, Input::Timeout), expected, "{name}");
        }
    }

    #[test]
    fn both_kinds_are_heard_one_after_the_other() {
        let now = crate::clock::now();
        let mut handoff = Handoff::reaching(Kinds::BOTH, Manner::Move, now);
        assert_eq!(handoff.handle(now, Input::Up(ALL)), Effect::Arrange);
        assert!(handoff.overlaps());
        assert_eq!(handoff.handle(now, Input::Heard(Kinds::VIDEO)), Effect::Nothing);
        assert_eq!(handoff.handle(now, Input::Heard(Kinds::VIDEO)), Effect::Nothing);
        assert_eq!(handoff.handle(now, Input::Heard(Kinds::AUDIO)), Effect::Arrange);
        assert!(handoff.lingers());
        assert_eq!(handoff.handle(now, Input::Timeout), Effect::Nothing);
        assert_eq!(handoff.handle(now + LINGER, Input::Timeout), Effect::LetGo);
        assert_eq!(handoff.handle(now, Input::Settled(FRESH)), Effect::Done);
    }

    #[test]
    fn who_joins_takes_nothing_from_the_others() {
        let now = crate::clock::now();
        let mut handoff = Handoff::reaching(Kinds::AUDIO, Manner::Join, now);
        assert_eq!(handoff.leaves(), Kinds::NONE);
        assert_eq!(handoff.handle(now, Input::Up(ALL)), Effect::LetGo);
        assert_eq!(handoff.handle(now, Input::Settled(ALL)), Effect::Done);
    }

    #[test]
    fn a_whole_move_may_lose_video_and_a_move_of_video_may_not() {
        let now = crate::clock::now();
        let sound = Taken { kinds: Kinds::AUDIO, unheard: Kinds::AUDIO };
        let mut whole = Handoff::reaching(Kinds::BOTH, Manner::Move, now);
        assert_eq!(whole.handle(now, Input::Up(sound)), Effect::Arrange);
        let mut picture = Handoff::reaching(Kinds::VIDEO, Manner::Move, now);
        assert_eq!(picture.handle(now, Input::Up(sound)), Effect::Abandon(Refusal::NotTaken));
    }
}
