//! Non-INVITE server transaction: RFC 3261 §17.2.2, figure 8.

use std::time::Instant;

use super::timer::LIFE;
use super::{Action, StatusClass};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    /// The request came again.
    Request,
    /// Our user responds.
    Response(StatusClass),
}

#[derive(Debug)]
pub(crate) struct Server {
    state: State,
    reliable: bool,
    timer_j: Option<Instant>,
}

impl Server {
    pub(crate) fn new(reliable: bool) -> Self {
        Self { state: State::Trying, reliable, timer_j: None }
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input) -> Action {
        use State::{Completed, Proceeding, Terminated, Trying};
        let (state, action) = match (self.state, input) {
            (Trying | Proceeding, Input::Response(StatusClass::Provisional)) => (Proceeding, Action::Send),
            (Trying | Proceeding, Input::Response(StatusClass::Success | StatusClass::Failure)) => {
                self.timer_j = Some(if self.reliable { now } else { now + LIFE });
                (Completed, Action::Send)
            }
            (state @ (Proceeding | Completed), Input::Request) => (state, Action::Resend),
            (state @ (Trying | Completed | Terminated), _) => (state, Action::None),
        };
        self.state = state;
        action
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Action {
        if self.timer_j.is_some_and(|end| end <= now) {
            self.state = State::Terminated;
            return Action::Terminated;
        }
        Action::None
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timer_j
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::epoch;

    #[test]
    fn every_state_answers_every_input_as_figure_8() {
        use State::{Completed, Proceeding, Terminated, Trying};
        use StatusClass::{Failure, Provisional, Success};
        let now = epoch();
        let table = [
            (Trying, Input::Request, Trying, Action::None),
            (Trying, Input::Response(Provisional), Proceeding, Action::Send),
            (Trying, Input::Response(Success), Completed, Action::Send),
            (Trying, Input::Response(Failure), Completed, Action::Send),
            (Proceeding, Input::Request, Proceeding, Action::Resend),
            (Proceeding, Input::Response(Provisional), Proceeding, Action::Send),
            (Proceeding, Input::Response(Success), Completed, Action::Send),
            (Proceeding, Input::Response(Failure), Completed, Action::Send),
            (Completed, Input::Request, Completed, Action::Resend),
            (Completed, Input::Response(Provisional), Completed, Action::None),
            (Completed, Input::Response(Success), Completed, Action::None),
            (Terminated, Input::Request, Terminated, Action::None),
            (Terminated, Input::Response(Success), Terminated, Action::None),
        ];
        for (from, input, to, action) in table {
            let mut machine = Server { state: from, reliable: false, timer_j: None };
            assert_eq!(machine.handle_input(now, input), action, "{from:?} {input:?}");
            assert_eq!(machine.state, to, "{from:?} {input:?}");
        }
    }

    #[test]
    fn timer_j_ends_it_after_32_s_or_at_once_over_a_reliable_transport() {
        let now = epoch();
        for (reliable, end) in [(false, now + LIFE), (true, now)] {
            let mut machine = Server::new(reliable);
            machine.handle_input(now, Input::Response(StatusClass::Success));
            assert_eq!(machine.poll_timeout(), Some(end));
            assert_eq!(machine.handle_timeout(end), Action::Terminated);
        }
    }
}
