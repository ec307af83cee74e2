//! INVITE client transaction: RFC 3261 §17.1.1, figure 5, with the Accepted state of RFC 6026 §7.2.

use std::time::Instant;

use super::timer::{LIFE, Repeat, earlier};
use super::{Action, StatusClass};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Calling,
    Proceeding,
    Accepted,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct InviteClient {
    state: State,
    reliable: bool,
    timer_a: Repeat,
    /// Timer B, D or M, whichever state we are in; none in Proceeding, where the user sets the limit.
    end: Option<Instant>,
}

impl InviteClient {
    /// The INVITE has just been sent.
    pub(crate) fn new(now: Instant, reliable: bool) -> Self {
        Self { state: State::Calling, reliable, timer_a: Repeat::start(now, reliable, LIFE), end: Some(now + LIFE) }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn handle_response(&mut self, now: Instant, class: StatusClass) -> Action {
        use State::{Accepted, Calling, Completed, Proceeding, Terminated};
        let (state, action) = match (self.state, class) {
            (Calling | Proceeding, StatusClass::Provisional) => {
                self.timer_a.stop();
                self.end = None;
                (Proceeding, Action::Pass)
            }
            (Calling | Proceeding, StatusClass::Success) => {
                self.timer_a.stop();
                self.end = Some(now + LIFE);
                (Accepted, Action::Pass)
            }
            (Calling | Proceeding, StatusClass::Failure) => {
                self.timer_a.stop();
                self.end = Some(if self.reliable { now } else { now + LIFE });
                (Completed, Action::AckAndPass)
            }
            (Accepted, StatusClass::Success) => (Accepted, Action::Pass),
            (Completed, StatusClass::Failure) => (Completed, Action::Ack),
            (state @ (Accepted | Completed | Terminated), _) => (state, Action::None),
        };
        self.state = state;
        action
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Action {
        if self.end.is_some_and(|end| end <= now) {
            let unanswered = self.state == State::Calling;
            self.state = State::Terminated;
            return if unanswered { Action::TimedOut } else { Action::Terminated };
        }
        if self.timer_a.fired(now) { Action::Resend } else { Action::None }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.timer_a.at(), self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::epoch;

    #[test]
    fn every_state_answers_every_response_as_figure_5() {
        use State::{Accepted, Calling, Completed, Proceeding, Terminated};
        use StatusClass::{Failure, Provisional, Success};
        let now = epoch();
        let table = [
            (Calling, Provisional, Proceeding, Action::Pass),
            (Calling, Success, Accepted, Action::Pass),
            (Calling, Failure, Completed, Action::AckAndPass),
            (Proceeding, Provisional, Proceeding, Action::Pass),
            (Proceeding, Success, Accepted, Action::Pass),
            (Proceeding, Failure, Completed, Action::AckAndPass),
            (Accepted, Provisional, Accepted, Action::None),
            (Accepted, Success, Accepted, Action::Pass),
            (Accepted, Failure, Accepted, Action::None),
            (Completed, Provisional, Completed, Action::None),
            (Completed, Success, Completed, Action::None),
            (Completed, Failure, Completed, Action::Ack),
            (Terminated, Provisional, Terminated, Action::None),
            (Terminated, Success, Terminated, Action::None),
            (Terminated, Failure, Terminated, Action::None),
        ];
        for (from, class, to, action) in table {
            let mut machine = InviteClient { state: from, ..InviteClient::new(now, false) };
            assert_eq!(machine.handle_response(now, class), action, "{from:?} {class:?}");
            assert_eq!(machine.state(), to, "{from:?} {class:?}");
        }
    }

    #[test]
    fn the_invite_is_repeated_six_times_until_timer_b() {
        let start = epoch();
        let mut machine = InviteClient::new(start, false);
        let mut resent = Vec::new();
        loop {
            let now = machine.poll_timeout().expect("timer B runs");
            match machine.handle_timeout(now) {
                Action::Resend => resent.push((now - start).as_millis()),
                action => {
                    assert_eq!((action, now - start), (Action::TimedOut, LIFE));
                    break;
                }
            }
        }
        assert_eq!(resent, [500, 1500, 3500, 7500, 15_500, 31_500]);
    }

    #[test]
    fn ringing_has_no_timer_of_the_transaction() {
        let now = epoch();
        let mut machine = InviteClient::new(now, false);
        machine.handle_response(now, StatusClass::Provisional);
        assert_eq!(machine.poll_timeout(), None);
    }
}
