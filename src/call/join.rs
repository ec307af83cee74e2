//! Attended transfer (RFC 5589 §7): two calls of a user become one without them.

use std::sync::Arc;

use sip::StatusCode;
use sip::message::header::Reason;
use tracing::info;

use super::graph::Constructed;
use super::leg::Leg;
use super::party::PartyId;
use super::record::EndedBy;
use super::refusal::Refusal;
use super::ring::Ring;
use super::transfer::{Report, Transfer};
use super::{Calls, Id, State, Switch};

/// When two calls are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Now.
    Now,
    /// When a device of the second one, which rings, answers.
    WhenAnswered,
}

impl Calls {
    /// Joins two calls of a user: the other party of the first one and that of the second one talk, and the user leaves both (attended
    /// transfer). In the second one the devices may still ring. A REFER gets its answer here.
    ///
    /// # Errors
    /// See [`Refusal`]; the calls are as they were, and a REFER is refused.
    pub fn join(
        &mut self,
        switch: &mut Switch<'_>,
        first: (Id, PartyId),
        second: (Id, PartyId),
        report: Option<Report>,
    ) -> Result<Joined, Refusal> {
        let result = self.check_join(first, second).and_then(|()| self.bring_beside(switch, second.0, first.0));
        match (result, report) {
            (Err(refusal), Some(Report::Refer { dialog, refer })) => {
                let _gone = switch.sip.refuse_refer(switch.now, dialog, refer, refusal.status());
            }
            (Ok(()), Some(Report::Refer { dialog, refer })) => {
                let _gone = switch.sip.accept_refer(switch.now, dialog, refer);
            }
            (_, Some(Report::Outcome(_)) | None) => {}
        }
        result?;
        let rings = self.calls.get(&second.0).is_some_and(|call| matches!(call.state, State::Ringing(_)));
        if rings {
            self.join_ringing(switch, first, second, report);
        } else {
            self.join_talking(switch, first, second);
            if let Some(Report::Refer { dialog, refer }) = report {
                switch.sip.report(switch.now, dialog, refer, StatusCode::OK);
            }
            self.part(switch, first);
        }
        self.touch(first.0);
        self.touch(second.0);
        Ok(if rings { Joined::WhenAnswered } else { Joined::Now })
    }

    fn check_join(&self, first: (Id, PartyId), second: (Id, PartyId)) -> Result<(), Refusal> {
        let (Some(one), Some(other)) = (self.calls.get(&first.0), self.calls.get(&second.0)) else { return Err(Refusal::NoCall) };
        let (Some(in_one), Some(in_other)) = (one.party(first.1), other.party(second.1)) else { return Err(Refusal::NoCall) };
        if in_one.person.who != in_other.person.who {
            return Err(Refusal::NotYours);
        }
        if first.0 == second.0 {
            return Err(Refusal::NotTalking);
        }
        one.two_talk()?;
        let of = |(id, party)| self.calls.get(&id)?.parties.iter().find(|other| other.id != party)?.person.who.user();
        if of(first).is_some_and(|user| of(second) == Some(user)) {
            return Err(Refusal::Present);
        }
        match &other.state {
            State::Ringing(_) if second.1 == PartyId::CALLER => Ok(()),
            State::Ringing(_) | State::Over => Err(Refusal::NotTalking),
            State::Established(_) => other.two_talk(),
        }
    }

    fn join_talking(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId), (from, as_party): (Id, PartyId)) {
        let Some(other) = self.calls.get_mut(&from) else { return };
        let Some(at) = other.parties.iter().position(|party| party.id != as_party) else { return };
        let mut comes = other.parties.remove(at);
        let legs: Vec<Leg> = other.legs.extract_if(.., |leg| leg.party == comes.id).collect();
        info!(call = %id, with = %from, "joined");
        other.record.ended_by = EndedBy::Switch;
        other.record.reason = format!("joined with call {id}");
        other.joined = Some((id, vec![comes.gone_on()]));
        if let Some(user) = comes.person.who.user() {
            self.by_user.remove(&(Arc::clone(user), from));
            self.by_user.insert((Arc::clone(user), id));
        }
        // A port is in one bridge at a time.
        self.arrange(switch, from);
        self.hang_up(switch, from, None, Some(&Reason::sip(200, "Call completed elsewhere")));
        let Some(call) = self.calls.get_mut(&id) else { return };
        let sender = call.party(by).map(|party| party.person.who.clone());
        call.constructed = sender.map_or(Constructed::Direct, Constructed::Transferred);
        (comes.id, comes.since) = (call.next_party(), Some(switch.unix));
        for mut leg in legs {
            (leg.id, leg.party) = (call.take_leg_id(), comes.id);
            self.by_dialog.insert(leg.dialog, (id, leg.id));
            call.legs.push(leg);
        }
        let name = comes.id;
        call.parties.push(comes);
        call.came(name, switch.unix);
    }

    /// The devices that ring in the second call ring in the first one from now on.
    fn join_ringing(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId), (from, _): (Id, PartyId), report: Option<Report>) {
        let Some(other) = self.calls.get_mut(&from) else { return };
        let Some(at) = other.parties.iter().position(|party| party.id == PartyId::CALLEE) else { return };
        let rings = other.parties.remove(at);
        other.joined = Some((id, vec![rings.gone_on()]));
        let to = rings.person;
        if let Some(user) = to.who.user() {
            self.by_user.remove(&(Arc::clone(user), from));
        }
        let legs: Vec<Leg> = other.legs.extract_if(.., |leg| leg.party == PartyId::CALLEE).collect();
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(sender) = call.party(by).map(|party| party.person.clone()) else { return };
        let party = call.next_party();
        let mut ringing = Vec::new();
        for mut leg in legs {
            (leg.id, leg.party) = (call.take_leg_id(), party);
            self.by_dialog.insert(leg.dialog, (id, leg.id));
            ringing.push(leg.id);
            if let Some(port) = leg.media.port() {
                self.by_port.insert(port, (id, leg.id));
            }
            call.legs.push(leg);
        }
        let ring = Ring::new(switch.now, ringing, self.policy.no_answer);
        if let Some(user) = to.who.user() {
            self.by_user.insert((Arc::clone(user), id));
        }
        call.transfer = Some(Box::new(Transfer::of(switch.unix, (by, sender), (party, to), ring, report)));
        self.refuse(switch, from, StatusCode::REQUEST_TERMINATED, EndedBy::Switch, &format!("joined with call {id}"));
    }

    /// The party that joined two others leaves.
    pub(super) fn part(&mut self, switch: &mut Switch<'_>, (id, by): (Id, PartyId)) {
        self.dismiss(switch, (id, by), None, &Reason::sip(200, "Call completed elsewhere"));
        let came = self.calls.get(&id).and_then(|call| call.parties.last()).map(|party| party.id);
        self.meet(switch, id, came.unwrap_or(by));
    }
}
