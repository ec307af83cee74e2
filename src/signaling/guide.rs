//! Guided calls: one that a user makes while another one waits on hold, which is to be transferred to whoever answers, or joined with them.

use tokio::sync::oneshot;

use super::Signaling;
use super::command::{Order, Unable, Want};
use crate::call;
use crate::call::command::Refusal;
use crate::call::graph::{State, View};

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
        if self.guided.len() >= MAX_GUIDED {
            return;
        }
        self.guided.insert(call, guide);
        match self.calls.view(call) {
            Some(view) => self.follow_guided(&view),
            None => self.follow_guide(call, State::Ended, false),
        }
    }

    /// A call changed: one that is guided may have been answered, or be over. Where the other call does not let it be done, both stay.
    pub(super) fn follow_guided(&mut self, view: &View) {
        if let Some((call, guide)) = self.delayed.remove(&view.id).filter(|_| view.state != State::Ended) {
            self.guide_into_room(call, guide);
        }
        let room = view.conference.as_ref().filter(|conference| conference.room.is_some());
        let waits = view.state == State::Ringing || view.state != State::Ended && room.is_some_and(|room| room.at_door);
        if !waits {
            self.follow_guide(view.id, view.state, room.is_some());
        }
    }

    fn follow_guide(&mut self, call: call::Id, state: State, is_room: bool) {
        let Some(Guide { waiting, user, purpose, resumes }) = self.guided.remove(&call) else { return };
        if state == State::Connected && is_room {
            return self.guide_into_room(call, Guide { waiting, user, purpose, resumes });
        }
        let want = match (state, purpose) {
            (State::Connected, Purpose::Transfer) => Want::Connect(call),
            (State::Connected, Purpose::Conference) => Want::Gather(vec![call], Vec::new()),
            (State::Ended, _) if resumes => Want::Resume,
            (State::Ringing | State::Parked | State::Ended, _) => return,
        };
        let (answer, _nobody_waits) = oneshot::channel();
        self.handle_order(Order { call: waiting, user, want, answer });
    }

    /// A room stays where it is: the call that waits comes into it, and to have transferred it there the user leaves. A phone that has just
    /// answered may be about to put the call that waits on hold: then it comes when that is over.
    fn guide_into_room(&mut self, call: call::Id, guide: Guide) {
        let (answer, mut told) = oneshot::channel();
        let want = Want::Gather(vec![guide.waiting], Vec::new());
        self.handle_order(Order { call, user: guide.user.clone(), want, answer });
        match told.try_recv() {
            Ok(Err(Unable::Refused(Refusal::UnderWay))) if self.delayed.len() < MAX_GUIDED => {
                self.delayed.insert(guide.waiting, (call, guide));
            }
            Ok(Ok(_)) if guide.purpose == Purpose::Transfer => {
                let (answer, _nobody_waits) = oneshot::channel();
                self.handle_order(Order { call, user: guide.user, want: Want::Drop, answer });
            }
            Ok(_) | Err(_) => {}
        }
    }
}
