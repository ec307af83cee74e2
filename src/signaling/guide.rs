//! Guided calls: one that a user makes while another one waits on hold, which is to be transferred to whoever answers, or joined with them.

use tokio::sync::oneshot;

use super::Signaling;
use super::command::{Order, Want};
use crate::call;
use crate::call::graph::State;

/// Most guided calls that nobody has answered yet; a further one is a plain call.
const MAX_GUIDED: usize = 4096;

/// What happens to the call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its other party talks to who answers, and the user leaves.
    Transfer,
    /// Who answers comes into it.
    Conference,
}

/// A call that waits for the answer to another one.
#[derive(Clone, Debug)]
pub(crate) struct Guide {
    /// The call that waits.
    pub(crate) waiting: call::Id,
    /// Whose both calls are.
    pub(crate) user: String,
    /// What happens to it.
    pub(crate) purpose: Purpose,
    /// It was put on hold for this, and is taken off hold where nobody answers.
    pub(crate) resumes: bool,
}

impl Signaling {
    /// Guides a call that was made just now, and may have been answered meanwhile.
    pub(super) fn guide(&mut self, call: call::Id, guide: Guide) {
        let state = self.calls.view(call).map_or(State::Ended, |view| view.state);
        if self.guided.len() < MAX_GUIDED {
            self.guided.insert(call, guide);
            self.follow_guided(call, state);
        }
    }

    /// A call changed: one that is guided may have been answered, or be over. Where the other call does not let it be done, both stay.
    pub(super) fn follow_guided(&mut self, call: call::Id, state: State) {
        if state == State::Ringing {
            return;
        }
        let Some(Guide { waiting, user, purpose, resumes }) = self.guided.remove(&call) else { return };
        let want = match (state, purpose) {
            (State::Connected, Purpose::Transfer) => Want::Connect(call),
            (State::Connected, Purpose::Conference) => Want::Gather(vec![call], Vec::new()),
            (State::Ended, _) if resumes => Want::Resume,
            (State::Ringing | State::Parked | State::Ended, _) => return,
        };
        let (answer, _nobody_waits) = oneshot::channel();
        self.handle_order(Order { call: waiting, user, want, answer });
    }
}
