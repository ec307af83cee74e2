//! INVITE client transaction: RFC 3261 §17.1.1, figure 5, with the Accepted state of RFC 6026 §7.2.

use std::time::{Duration, Instant};

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
    /// Timer B, D or M, whichever state we are in. In Proceeding the user sets the limit, at the start or when it gives up.
    end: Option<Instant>,
    limit: Option<Duration>,
}

impl InviteClient {
    /// The INVITE has just been sent. `limit` is how long it may stay in Proceeding.
    pub(crate) fn new(now: Instant, reliable: bool, limit: Option<Duration>) -> Self {
        Self { state: State::Calling, reliable, timer_a: Repeat::start(now, reliable, LIFE), end: Some(now + LIFE), limit }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Returns true while the final response is missing.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// The user no longer wants it: the final response has 64·T1 to come (§9.1). Timer B does not change.
    pub(crate) fn give_up(&mut self, now: Instant) {
        let end = now + LIFE;
        if self.state == State::Proceeding && self.end.is_none_or(|at| at > end) {
            self.end = Some(end);
        }
        self.limit = Some(LIFE);
    }

    pub(crate) fn handle_response(&mut self, now: Instant, class: StatusClass) -> Action {
        use State::{Accepted, Calling, Completed, Proceeding, Terminated};
        let (state, action) = match (self.state, class) {
            (Calling, StatusClass::Provisional) => {
                self.timer_a.stop();
                self.end = self.limit.map(|limit| now + limit);
                (Proceeding, Action::Pass)
            }
            (Proceeding, StatusClass::Provisional) => (Proceeding, Action::Pass),
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
            let unanswered = self.is_waiting();
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
            let mut machine = InviteClient { state: from, ..InviteClient::new(now, false, None) };
            assert_eq!(machine.handle_response(now, class), action, "{from:?} {class:?}");
            assert_eq!(machine.state(), to, "{from:?} {class:?}");
        }
    }

    #[test]
    fn the_invite_is_repeated_six_times_until_timer_b() {
        let start = epoch();
        let mut machine = InviteClient::new(start, false, None);
        let mut resent = Vec::new();
        loop {
            let now = machine.poll_timeout().expect("timer B runs");
            let action = machine.handle_timeout(now);
            if action != Action::Resend {
                assert_eq!((action, now - start), (Action::TimedOut, LIFE));
                break;
            }
            resent.push((now - start).as_millis());
        }
        assert_eq!(resent, [500, 1500, 3500, 7500, 15_500, 31_500]);
    }

    #[test]
    fn ringing_has_no_timer_of_the_transaction() {
        let now = epoch();
        let mut machine = InviteClient::new(now, false, None);
        machine.handle_response(now, StatusClass::Provisional);
        assert_eq!(machine.poll_timeout(), None);
    }

    #[test]
    fn given_up_it_waits_for_its_final_response_only_so_long() {
        let now = epoch();
        let mut machine = InviteClient::new(now, false, None);
        machine.handle_response(now, StatusClass::Provisional);
        machine.give_up(now);
        machine.handle_response(now, StatusClass::Provisional);
        assert_eq!(machine.poll_timeout(), Some(now + LIFE));
        assert_eq!(machine.handle_timeout(now + LIFE), Action::TimedOut);
    }
}
