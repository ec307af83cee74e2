//! Non-INVITE server transaction: RFC 3261 §17.2.2, figure 8, with the end that RFC 4320 §4.2 gives it: once the peer's timer F has
//! fired, no response is of use.

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
    /// Timer J; before it, when nobody waits for our response any more.
    end: Instant,
}

impl Server {
    /// The request has just come.
    pub(crate) fn new(now: Instant, reliable: bool) -> Self {
        Self { state: State::Trying, reliable, end: now + LIFE }
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input) -> Action {
        use State::{Completed, Proceeding, Terminated, Trying};
        let (state, action) = match (self.state, input) {
            (Trying | Proceeding, Input::Response(StatusClass::Provisional)) => (Proceeding, Action::Send),
            (Trying | Proceeding, Input::Response(StatusClass::Success | StatusClass::Failure)) => {
                self.end = if self.reliable { now } else { now + LIFE };
                (Completed, Action::Send)
            }
            (state @ (Proceeding | Completed), Input::Request) => (state, Action::Resend),
            (state @ (Trying | Completed | Terminated), _) => (state, Action::None),
        };
        self.state = state;
        action
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Action {
        if self.end <= now {
            self.state = State::Terminated;
            return Action::Terminated;
        }
        Action::None
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.end)
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
            let mut machine = Server { state: from, ..Server::new(now, false) };
            assert_eq!(machine.handle_input(now, input), action, "{from:?} {input:?}");
            assert_eq!(machine.state, to, "{from:?} {input:?}");
        }
    }

    #[test]
    fn timer_j_ends_it_after_32_s_or_at_once_over_a_reliable_transport() {
        let now = epoch();
        for (reliable, end) in [(false, now + LIFE), (true, now)] {
            let mut machine = Server::new(now, reliable);
            machine.handle_input(now, Input::Response(StatusClass::Success));
            assert_eq!(machine.poll_timeout(), Some(end));
            assert_eq!(machine.handle_timeout(end), Action::Terminated);
        }
    }

    #[test]
    fn a_request_without_response_is_dropped_when_the_peer_has_given_up() {
        let now = epoch();
        let mut machine = Server::new(now, false);
        assert_eq!(machine.poll_timeout(), Some(now + LIFE));
        assert_eq!(machine.handle_timeout(now + LIFE), Action::Terminated);
    }
}
