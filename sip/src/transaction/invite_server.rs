//! INVITE server transaction: RFC 3261 §17.2.1, figure 7, with the Accepted state of RFC 6026 §7.1.
//!
//! It knows no message: the owner keeps the last response and sends it when told to.

use std::time::Instant;

use super::timer::{LIFE, Repeat, T2, T4, earlier};
use super::{Action, StatusClass};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Proceeding,
    Accepted,
    Completed,
    Confirmed,
    Terminated,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    /// The INVITE came again.
    Request,
    /// Our user responds.
    Response(StatusClass),
    /// An ACK matched: its branch is the INVITE's, or its dialog is.
    Ack,
}

#[derive(Debug)]
pub(crate) struct InviteServer {
    state: State,
    reliable: bool,
    timer_g: Repeat,
    /// Timer H, I or L, whichever state we are in.
    end: Option<Instant>,
}

impl InviteServer {
    pub(crate) fn new(reliable: bool) -> Self {
        Self { state: State::Proceeding, reliable, timer_g: Repeat::OFF, end: None }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input) -> Action {
        use State::{Accepted, Completed, Confirmed, Proceeding, Terminated};
        let (state, action) = match (self.state, input) {
            (Proceeding, Input::Request) => (Proceeding, Action::Resend),
            (Proceeding, Input::Response(StatusClass::Provisional)) => (Proceeding, Action::Send),
            (Proceeding, Input::Response(StatusClass::Success)) => {
                self.end = Some(now + LIFE);
                (Accepted, Action::Send)
            }
            (Proceeding, Input::Response(StatusClass::Failure)) => {
                self.timer_g = Repeat::start(now, self.reliable, T2);
                self.end = Some(now + LIFE);
                (Completed, Action::Send)
            }
            (Accepted, Input::Response(StatusClass::Success)) => (Accepted, Action::Send),
            (Accepted, Input::Ack) => (Accepted, Action::Pass),
            (Completed, Input::Request) => (Completed, Action::Resend),
            (Completed, Input::Ack) => {
                self.timer_g.stop();
                self.end = Some(if self.reliable { now } else { now + T4 });
                (Confirmed, Action::None)
            }
            (state @ (Proceeding | Accepted | Completed | Confirmed | Terminated), _) => (state, Action::None),
        };
        self.state = state;
        action
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Action {
        if self.end.is_some_and(|end| end <= now) {
            let unacknowledged = self.state == State::Completed;
            self.state = State::Terminated;
            return if unacknowledged { Action::TimedOut } else { Action::Terminated };
        }
        if self.timer_g.fired(now) { Action::Resend } else { Action::None }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.timer_g.at(), self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::epoch;

    fn in_state(state: State, now: Instant) -> InviteServer {
        let mut machine = InviteServer::new(false);
        match state {
            State::Proceeding => {}
            State::Accepted => drop(machine.handle_input(now, Input::Response(StatusClass::Success))),
            State::Completed | State::Confirmed => drop(machine.handle_input(now, Input::Response(StatusClass::Failure))),
            State::Terminated => machine.state = State::Terminated,
        }
        if state == State::Confirmed {
            let _ = machine.handle_input(now, Input::Ack);
        }
        assert_eq!(machine.state(), state);
        machine
    }

    #[test]
    fn every_state_answers_every_input_as_figure_7() {
        use State::{Accepted, Completed, Confirmed, Proceeding, Terminated};
        use StatusClass::{Failure, Provisional, Success};
        let now = epoch();
        let table = [
            (Proceeding, Input::Request, Proceeding, Action::Resend),
            (Proceeding, Input::Response(Provisional), Proceeding, Action::Send),
            (Proceeding, Input::Response(Success), Accepted, Action::Send),
            (Proceeding, Input::Response(Failure), Completed, Action::Send),
            (Proceeding, Input::Ack, Proceeding, Action::None),
            (Accepted, Input::Request, Accepted, Action::None),
            (Accepted, Input::Response(Provisional), Accepted, Action::None),
            (Accepted, Input::Response(Success), Accepted, Action::Send),
            (Accepted, Input::Response(Failure), Accepted, Action::None),
            (Accepted, Input::Ack, Accepted, Action::Pass),
            (Completed, Input::Request, Completed, Action::Resend),
            (Completed, Input::Response(Provisional), Completed, Action::None),
            (Completed, Input::Response(Success), Completed, Action::None),
            (Completed, Input::Response(Failure), Completed, Action::None),
            (Completed, Input::Ack, Confirmed, Action::None),
            (Confirmed, Input::Request, Confirmed, Action::None),
            (Confirmed, Input::Response(Failure), Confirmed, Action::None),
            (Confirmed, Input::Ack, Confirmed, Action::None),
            (Terminated, Input::Request, Terminated, Action::None),
        ];
        for (from, input, to, action) in table {
            let mut machine = in_state(from, now);
            assert_eq!(machine.handle_input(now, input), action, "{from:?} {input:?}");
            assert_eq!(machine.state(), to, "{from:?} {input:?}");
        }
    }

    #[test]
    fn a_failure_is_repeated_until_timer_h() {
        let mut now = epoch();
        let start = now;
        let mut machine = in_state(State::Completed, now);
        let mut resent = Vec::new();
        while let Some(at) = machine.poll_timeout() {
            now = at;
            let action = machine.handle_timeout(now);
            if action != Action::Resend {
                assert_eq!(action, Action::TimedOut);
                break;
            }
            resent.push((now - start).as_millis());
        }
        assert_eq!(resent[..5], [500, 1500, 3500, 7500, 11500]);
        assert_eq!(now - start, LIFE);
    }

    #[test]
    fn over_a_reliable_transport_nothing_is_repeated_and_ack_ends_it() {
        let now = epoch();
        let mut machine = InviteServer::new(true);
        machine.handle_input(now, Input::Response(StatusClass::Failure));
        assert_eq!(machine.poll_timeout(), Some(now + LIFE));
        machine.handle_input(now, Input::Ack);
        assert_eq!(machine.handle_timeout(now), Action::Terminated);
    }
}
