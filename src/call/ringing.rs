//! A call until it is answered or refused: the devices that ring, what the caller hears meanwhile, and the answer that wins.

use std::sync::Arc;

use bytes::Bytes;
use media::PortId;
use media::sdp::Description;
use media::sdp::negotiate::Finality;
use media::sdp::transport::Profile;
use sip::StatusCode;
use sip::message::Headers;
use sip::message::header::Reason;
use tracing::{debug, info};

use super::leg::{Leg, LegId, Media, MediaError, Stage};
use super::party::{Party, PartyId};
use super::reach::{Invitation, end_late, refusal};
use super::record::{EndedBy, Record};
use super::refusal::{Refusal, retry_after};
use super::ring::{Ring, Verdict};
use super::{Call, Calls, Id, Plan, Ringing, State, Switch, Talk};

impl Calls {
    /// Starts a call: every device rings at once.
    pub fn start(&mut self, switch: &mut Switch<'_>, plan: Plan) {
        let id = self.take_id(switch.unix);
        let may_start = self.may_start(&plan.caller.who);
        let beside = self.port_of(&plan.caller.who).or_else(|| self.port_of(&plan.callee.who));
        let manner = switch.manner(Profile::Plain, plan.protection);
        let media = Media::new(manner, Some(plan.signaling), beside);
        let names = (plan.device.clone(), plan.caller.address.to_string());
        let mut caller = Leg::new((LegId::CALLER, PartyId::CALLER), names, plan.dialog, media);
        let fault = match () {
            () if let Err(refusal) = may_start => Some((refusal.status(), refusal.to_string())),
            () if plan.offer.is_empty() => None,
            () => caller.media.receive_offer(&plan.offer).err().map(|error| (refusal(&error), error.to_string())),
        };
        info!(call = %id, devices = plan.targets.len(), "call");
        let mut call = Call::new(Record::begun(id, (&plan.caller.address, &plan.callee.address), &plan.dialled, switch.unix));
        let caller_id = call.take_leg_id();
        debug_assert_eq!(caller_id, LegId::CALLER);
        call.legs.push(caller);
        let devices: Vec<LegId> = plan.targets.iter().map(|_| call.take_leg_id()).collect();
        let expires = plan.expires.and_then(|expires| switch.now.checked_add(expires));
        let ring = Ring::new(switch.now, devices.clone(), self.policy.no_answer).expiring(expires);
        call.state = State::Ringing(Ringing { ring, early: None, guests: Vec::new() });
        call.parties.extend([Party::new(PartyId::CALLER, plan.caller.clone()), Party::new(PartyId::CALLEE, plan.callee.clone())]);
        for user in call.parties.iter().filter_map(|party| party.person.who.user()) {
            self.by_user.insert((Arc::clone(user), id));
        }
        self.by_dialog.insert(plan.dialog, (id, LegId::CALLER));
        self.begin(id, call, &plan.caller.who);
        if self.given_up.remove(&plan.dialog) {
            self.give_up(switch, id, StatusCode::REQUEST_TERMINATED, EndedBy::Caller, "the caller gave up");
        } else if let Some((status, reason)) = fault {
            self.refuse(switch, id, status, EndedBy::Switch, &reason);
        } else if plan.targets.is_empty() {
            self.tell(id); // there was a call
            self.refuse(switch, id, StatusCode::TEMPORARILY_UNAVAILABLE, EndedBy::Switch, "no device can be reached");
        } else {
            self.ring_devices(switch, id, (plan, devices), beside);
        }
        self.touch(id);
    }

    fn ring_devices(&mut self, switch: &mut Switch<'_>, id: Id, (plan, devices): (Plan, Vec<LegId>), beside: Option<PortId>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let offer = call.leg(LegId::CALLER).and_then(|caller| caller.media.remote_offer().ok().cloned());
        let template: Option<Arc<Description>> = offer.map(Arc::new);
        let mut failures = Vec::new();
        for (device, target) in devices.into_iter().zip(&plan.targets) {
            let invitation =
                Invitation { from: &plan.caller.shown, to: &plan.callee.shown, headers: &plan.headers, template: template.clone() };
            let beside = call.any_port().or(beside);
            match Leg::place(switch, (device, PartyId::CALLEE), target, invitation, beside) {
                Ok(leg) => {
                    self.by_dialog.insert(leg.dialog, (id, device));
                    call.legs.push(leg);
                }
                Err(error) => failures.push((device, error)),
            }
        }
        let port = call.any_port();
        if let Some(caller) = call.leg_mut(LegId::CALLER) {
            caller.media.set_beside(port);
        }
        self.arrange(switch, id);
        let is_ours = failures.iter().find(|(_, error)| matches!(error, MediaError::NoPort(_)));
        if let Some((_, error)) = is_ours.filter(|_| failures.len() == plan.targets.len()) {
            return self.refuse(switch, id, StatusCode::SERVICE_UNAVAILABLE, EndedBy::Switch, &error.to_string());
        }
        for (device, error) in failures {
            self.note(id, &error.to_string());
            self.failed(switch, id, device, refusal(&error));
        }
    }

    /// A device sent a provisional response.
    pub(super) fn progress(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, status: StatusCode, body: &Bytes) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(leg) = call.leg_mut(device) {
            leg.shows_life();
        }
        // Whoever picks it up is not whom the caller called: the caller is told of the callee's devices.
        if call.leg(device).is_some_and(|leg| call.is_guest(leg.party)) {
            return;
        }
        if let Some(party) = call.leg(device).map(|leg| leg.party).filter(|party| call.is_invited(*party)) {
            return self.invitee_progress(switch, (id, party), status);
        }
        let State::Ringing(ringing) = &mut call.state else { return };
        let told = ringing.ring.progress(status);
        if status == StatusCode::RINGING {
            call.record.ringing_at.get_or_insert(switch.unix);
        }
        // The caller hears the early media of the first device that sends any; RFC 3960 leaves the choice to us.
        let is_first = ringing.early.is_none_or(|early| early == device);
        let Some((leg, caller)) = call.two(device, LegId::CALLER) else { return };
        let caller_dialog = caller.dialog;
        if !body.is_empty() && is_first {
            match early_answer(caller, leg, switch, body) {
                Ok(answer) => {
                    leg.media.apply(switch.media, None);
                    caller.media.apply(switch.media, None);
                    if let State::Ringing(ringing) = &mut call.state {
                        ringing.early = Some(device);
                    }
                    self.arrange(switch, id);
                    let status = if status == StatusCode::RINGING { status } else { StatusCode::SESSION_PROGRESS };
                    let _gone = switch.sip.progress(switch.now, caller_dialog, status, answer);
                    return;
                }
                Err(error) => debug!(call = %id, %error, "early media not used"),
            }
        }
        if let Some(status) = told {
            let _gone = switch.sip.progress(switch.now, caller_dialog, status, Bytes::new());
        }
    }

    /// A device answered: it wins, unless another one has.
    pub(super) fn answered(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, body: &Bytes) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(dialog) = call.leg(device).map(|leg| leg.dialog) else { return };
        if !matches!(call.state, State::Ringing(_)) {
            return self.target_answered(switch, id, device, body);
        }
        let (came, guests) = self.part_guests(id, device);
        match self.connect(switch, id, device, body) {
            Ok(()) => {
                self.cancel_others(switch, id, device);
                for guest in guests {
                    self.guest_left(id, guest, Err(Refusal::Elsewhere));
                }
                if let Some(guest) = came {
                    self.guest_came(id, guest);
                }
            }
            Err(error) => {
                self.restore_guests(id, device, came, guests);
                let reason = format!("the callee's answer cannot be used: {error}");
                end_late(switch, dialog);
                if matches!(error, MediaError::NoPort(_)) {
                    self.release(switch, id, device);
                    return self.refuse(switch, id, StatusCode::SERVICE_UNAVAILABLE, EndedBy::Switch, &error.to_string());
                }
                self.note(id, &reason);
                self.failed(switch, id, device, StatusCode::NOT_ACCEPTABLE_HERE);
            }
        }
    }

    /// Negotiates the answer, connects media and answers the caller.
    fn connect(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, body: &Bytes) -> Result<(), MediaError> {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let Some((leg, caller)) = call.two(device, LegId::CALLER) else { return Ok(()) };
        let late_offer = !leg.media.has_local_offer();
        let answer = if late_offer {
            leg.media.receive_offer(body)?;
            caller.media.make_offer(leg.media.remote_offer()?, switch.media)?
        } else {
            leg.media.receive_answer(body, Finality::Final)?;
            caller.media.pass_answer(&leg.media, switch.media)?
        };
        if !late_offer {
            switch.sip.acknowledge(switch.now, leg.dialog, Bytes::new());
            leg.media.apply(switch.media, limit);
            caller.media.apply(switch.media, limit);
        }
        leg.media.set_beside(caller.media.port());
        let (label, dialog) = (leg.label.clone(), caller.dialog);
        (leg.stage, caller.stage) = (Stage::Up, Stage::Up);
        call.record.answered(switch.unix, label);
        call.state = State::Established(Talk { late_offer, ..Talk::default() });
        self.arrange(switch, id);
        switch.sip.accept(switch.now, dialog, answer);
        info!(call = %id, "call answered");
        Ok(())
    }

    pub(super) fn cancel_others(&mut self, switch: &mut Switch<'_>, id: Id, winner: LegId) {
        let reason = Reason::sip(200, "Call completed elsewhere");
        let Some(call) = self.calls.get_mut(&id) else { return };
        let others: Vec<LegId> = call.legs.iter().filter(|leg| !leg.is_up() && leg.id != winner).map(|leg| leg.id).collect();
        for leg in others {
            if let Some(leg) = self.calls.get(&id).and_then(|call| call.leg(leg)) {
                switch.sip.cancel(switch.now, leg.dialog, Some(reason.clone()));
            }
            self.release(switch, id, leg);
        }
    }

    /// A device refused, could not be reached, or gave up.
    pub(super) fn failed(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, status: StatusCode) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(leg) = call.leg_mut(device) {
            let dialog = leg.dialog;
            if leg.place_again(switch, status) {
                self.by_dialog.remove(&dialog);
                self.by_dialog.insert(leg.dialog, (id, device));
                return;
            }
        }
        if let Some(party) =
            self.calls.get(&id).and_then(|call| call.leg(device).map(|leg| leg.party).filter(|party| call.is_guest(*party)))
        {
            return self.guest_failed(switch, id, (device, party), status);
        }
        if self.is_coming(id, device) {
            return self.cannot_come(switch, id, device, status);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let State::Ringing(ringing) = &mut call.state {
            ringing.early.take_if(|early| *early == device);
        }
        let party = call.leg(device).map(|leg| leg.party);
        self.release(switch, id, device);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let (State::Established(_), Some(party)) = (&call.state, party) {
            return self.target_failed(switch, (id, party), device, status);
        }
        let State::Ringing(ringing) = &mut call.state else { return };
        if let Verdict::GiveUp(told) = ringing.ring.failed(device, status) {
            // What we could not do ourselves is noted; a device that was busy nevertheless tells the caller more.
            let ours = !call.record.reason.is_empty()
                && matches!(told, StatusCode::TEMPORARILY_UNAVAILABLE | StatusCode::NOT_ACCEPTABLE_HERE | StatusCode::BAD_REQUEST);
            let (by, reason) = if ours {
                (EndedBy::Switch, call.record.reason.clone())
            } else {
                (EndedBy::Callee, format!("the callee's device said {status}"))
            };
            self.refuse(switch, id, told, by, &reason);
        }
    }

    /// A device that refused one offer and is silent about the next has refused.
    pub(super) fn impatient(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let mut silent = Vec::new();
        for leg in &mut call.legs {
            if leg.lose_patience(switch) {
                debug!(call = %id, leg = leg.id.0, "silent about another offer");
                silent.push(leg.id);
            }
        }
        for device in silent {
            self.failed(switch, id, device, StatusCode::NOT_ACCEPTABLE_HERE);
        }
    }

    pub(super) fn no_answer(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(State::Ringing(ringing)) = self.calls.get_mut(&id).map(|call| &mut call.state) else { return };
        if let Verdict::GiveUp(status) = ringing.ring.handle_timeout(switch.now) {
            self.refuse(switch, id, status, EndedBy::NoAnswer, "nobody answered in time");
        }
    }

    fn note(&mut self, id: Id, reason: &str) {
        if let Some(call) = self.calls.get_mut(&id) {
            reason.clone_into(&mut call.record.reason);
        }
    }

    /// Refuses the caller and gives up the devices.
    pub(super) fn refuse(&mut self, switch: &mut Switch<'_>, id: Id, status: StatusCode, by: EndedBy, reason: &str) {
        let Some(dialog) = self.dialog(id, LegId::CALLER) else { return };
        let is_passing = status == StatusCode::SERVICE_UNAVAILABLE || by == EndedBy::Switch && status == StatusCode::BUSY_HERE;
        let headers = if is_passing { retry_after(switch.random) } else { Headers::default() };
        let _gone = switch.sip.refuse(switch.now, dialog, status, &headers);
        self.give_up(switch, id, status, by, reason);
    }

    /// Gives up every device; the caller is told already.
    pub(super) fn give_up(&mut self, switch: &mut Switch<'_>, id: Id, status: StatusCode, by: EndedBy, reason: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.record.refused(status, by, reason);
        for leg in call.legs.iter().filter(|leg| leg.id != LegId::CALLER) {
            leg.give_up(switch, cancel_reason(by, status).as_ref());
        }
        self.close(switch, id);
    }

    /// Returns a port of a call that this user has, so that the calls of a user can be joined: their ports are on one thread then.
    pub(super) fn port_of(&self, who: &super::party::Who) -> Option<PortId> {
        let user = who.user()?;
        let theirs = self.by_user.range((Arc::clone(user), Id(0))..).take_while(|(name, _)| name == user);
        theirs.filter_map(|(_, id)| self.calls.get(id)).find_map(Call::any_port)
    }
}

fn cancel_reason(by: EndedBy, status: StatusCode) -> Option<Reason> {
    match by {
        EndedBy::Caller => None,
        EndedBy::NoAnswer => Some(Reason::sip(408, "No answer")),
        EndedBy::Callee => Some(Reason::sip(status.code(), "Declined elsewhere")),
        EndedBy::Lost | EndedBy::Switch => Some(Reason::sip(status.code(), status.reason())),
    }
}

fn early_answer(caller: &mut Leg, leg: &mut Leg, switch: &mut Switch<'_>, body: &Bytes) -> Result<Bytes, MediaError> {
    leg.media.receive_answer(body, Finality::Early)?;
    caller.media.pass_answer(&leg.media, switch.media)
}
