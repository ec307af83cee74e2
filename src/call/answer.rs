//! Answer by command: a device that rings is to answer without a hand on it. Some phones can be told so, others answer an INVITE that asks
//! for it; of one that does neither the user has to pick up the handset, and whoever asked is told so after a while. It goes on ringing.

use std::time::{Duration, Instant};

use media::Kinds;
use tracing::info;

use super::command::{Answer, Ticket};
use super::handoff::Manner;
use super::leg::{LegId, Stage};
use super::party::PartyId;
use super::refusal::Refusal;
use super::{Call, Calls, Id, Output, Switch, Target};
use crate::device;

/// How long a device has to answer that was asked to.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// A device that is to answer.
#[derive(Debug)]
pub(super) struct Answering {
    leg: LegId,
    pub(super) until: Instant,
    /// Where video goes then.
    video: Option<Box<Target>>,
    ticket: Ticket,
}

impl Calls {
    /// Has a device of a party answer; another one may carry video then.
    pub(super) fn answer(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        device: Option<&device::Id>,
        video: Option<Box<Target>>,
    ) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        if call.answering.is_some() {
            return Err(Refusal::UnderWay);
        }
        let of = call.parties.iter().find(|other| other.id != party).map(|other| other.person.clone()).ok_or(Refusal::NoParty)?;
        let rings = |leg: &&mut super::leg::Leg| leg.party == party && matches!(leg.stage, Stage::Reaching(_));
        let mut ringing = call.legs.iter_mut().filter(rings).peekable();
        ringing.peek().ok_or(Refusal::NotRinging)?;
        let mut meant = ringing.filter(|leg| device.is_none() || leg.device.as_ref() == device);
        let leg = match (meant.next(), meant.next()) {
            (Some(leg), None) => leg,
            (None, _) => return Err(Refusal::NoDevice),
            (Some(_), Some(_)) => return Err(Refusal::WhichDevice),
        };
        leg.have_answered(switch, &of);
        let leg = leg.id;
        let ticket = self.take_ticket();
        if let Some(call) = self.calls.get_mut(&id) {
            call.answering = Some(Answering { leg, until: switch.now + PATIENCE, video, ticket });
        }
        Ok(Answer::Pending(ticket))
    }

    /// After each input: looks whether the device that is to answer has.
    pub(super) fn follow_answer(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(answering) = &call.answering else { return };
        let leg = call.leg(answering.leg).map(|leg| (leg.is_up(), leg.party));
        let result = match leg {
            Some((true, party)) => Ok(party),
            Some((false, _)) if switch.now < answering.until => return,
            Some((false, _)) => Err(Refusal::NotByItself),
            None => Err(Refusal::TargetGone),
        };
        let Some(Answering { video, ticket, .. }) = call.answering.take() else { return };
        let split = result.and_then(|party| match video {
            Some(video) => {
                info!(call = %id, "answered split");
                self.begin_handoff(switch, (id, party), (Kinds::VIDEO, Manner::Move), *video, (ticket, None)).map(|()| true)
            }
            None => Ok(false),
        });
        match split {
            // The outcome is that of the handoff.
            Ok(true) => {}
            Ok(false) => self.outputs.push_back(Output::Outcome { ticket, result: Ok(()) }),
            Err(refusal) => self.outputs.push_back(Output::Outcome { ticket, result: Err(refusal) }),
        }
    }
}

impl Call {
    pub(super) fn poll_answer_timeout(&self) -> Option<Instant> {
        self.answering.as_ref().map(|answering| answering.until)
    }

    /// The call is over: so is this.
    pub(super) fn take_answering(&mut self) -> Option<Ticket> {
        self.answering.take().map(|answering| answering.ticket)
    }
}
