//! Non-INVITE client transaction: RFC 3261 §17.1.2, figure 6.

use std::time::Instant;

use super::timer::{LIFE, Repeat, T2, T4, earlier};
use super::{Action, StatusClass};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct Client {
    state: State,
    reliable: bool,
    timer_e: Repeat,
    /// Timer F or K.
    end: Instant,
}

impl Client {
    /// The request has just been sent.
    pub(crate) fn new(now: Instant, reliable: bool) -> Self {
        Self { state: State::Trying, reliable, timer_e: Repeat::start(now, reliable, T2), end: now + LIFE }
    }

    /// Returns true while no response at all has come.
    pub(crate) fn is_trying(&self) -> bool {
        self.state == State::Trying
    }

    /// Returns true while the final response is missing.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding)
    }

    pub(crate) fn handle_response(&mut self, now: Instant, class: StatusClass) -> Action {
        use State::{Completed, Proceeding, Terminated, Trying};
        let (state, action) = match (self.state, class) {
            (Trying | Proceeding, StatusClass::Provisional) => {
                self.timer_e.slow_down();
                (Proceeding, Action::Pass)
            }
            (Trying | Proceeding, StatusClass::Success | StatusClass::Failure) => {
                self.timer_e.stop();
                self.end = if self.reliable { now } else { now + T4 };
                (Completed, Action::Pass)
            }
            (state @ (Completed | Terminated), _) => (state, Action::None),
        };
        self.state = state;
        action
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Action {
        if self.end <= now {
            let unanswered = self.state != State::Completed;
            self.state = State::Terminated;
            return if unanswered { Action::TimedOut } else { Action::Terminated };
        }
        if self.timer_e.fired(now) { Action::Resend } else { Action::None }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.timer_e.at(), Some(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::epoch;

    #[test]
    fn every_state_answers_every_response_as_figure_6() {
        use State::{Completed, Proceeding, Terminated, Trying};
        use StatusClass::{Failure, Provisional, Success};
        let now = epoch();
        let table = [
            (Trying, Provisional, Proceeding, Action::Pass),
            (Trying, Success, Completed, Action::Pass),
            (Trying, Failure, Completed, Action::Pass),
            (Proceeding, Provisional, Proceeding, Action::Pass),
            (Proceeding, Success, Completed, Action::Pass),
            (Proceeding, Failure, Completed, Action::Pass),
            (Completed, Provisional, Completed, Action::None),
            (Completed, Success, Completed, Action::None),
            (Completed, Failure, Completed, Action::None),
            (Terminated, Success, Terminated, Action::None),
        ];
        for (from, class, to, action) in table {
            let mut machine = Client { state: from, ..Client::new(now, false) };
            assert_eq!(machine.handle_response(now, class), action, "{from:?} {class:?}");
            assert_eq!(machine.state, to, "{from:?} {class:?}");
        }
    }

    #[test]
    fn the_request_is_repeated_at_up_to_t2_until_timer_f() {
        let start = epoch();
        let mut machine = Client::new(start, false);
        let mut resent = Vec::new();
        loop {
            let now = machine.poll_timeout().expect("timer F runs");
            let action = machine.handle_timeout(now);
            if action != Action::Resend {
                assert_eq!((action, now - start), (Action::TimedOut, LIFE));
                break;
            }
            resent.push((now - start).as_millis());
        }
        assert_eq!(resent, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    }
}
