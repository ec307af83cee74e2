//! A call until it is answered or refused: offers to the devices, what the caller hears meanwhile, and the answer that wins.

use std::time::Duration;

use bytes::Bytes;
use media::sdp::negotiate::Finality;
use media::sdp::transport::Profile;
use sip::message::Headers;
use sip::message::header::Reason;
use sip::{DialogId, OutgoingInvite, StatusCode};
use tracing::{debug, info};

use super::leg::{Leg, MediaError, Spare};
use super::record::{EndedBy, Record};
use super::ring::{Ring, Verdict};
use super::{Call, Calls, Id, Plan, Side, State, Switch, Target};

/// How long a device may be silent about an offer after it refused another one.
const PATIENCE: Duration = Duration::from_secs(3);

impl Calls {
    /// Starts a call: every device rings at once.
    pub fn start(&mut self, switch: &mut Switch<'_>, plan: Plan) {
        let id = self.id(switch.unix);
        let manner = switch.manner(Profile::Plain, plan.protection);
        let mut caller = Leg::new(plan.dialog, switch.random.number(), manner, Some(plan.signaling), plan.caller.clone());
        let fault = match () {
            () if self.calls.len() >= Self::MAX => Some((StatusCode::SERVICE_UNAVAILABLE, "too many calls".to_owned())),
            () if plan.offer.is_empty() => None,
            () => caller.receive_offer(&plan.offer).err().map(|error| (refusal(&error), error.to_string())),
        };
        info!(call = %id, devices = plan.targets.len(), "call");
        let record = Record {
            id,
            caller: plan.caller.clone(),
            dialled: plan.dialled.clone(),
            callee: plan.callee.clone(),
            started_at: switch.unix,
            ringing_at: None,
            answered_at: None,
            ended_at: switch.unix,
            answered_by: None,
            status: StatusCode::TEMPORARILY_UNAVAILABLE.code(),
            ended_by: EndedBy::Switch,
            reason: String::new(),
            media: Vec::new(),
        };
        let ring = Ring::new(switch.now, plan.targets.len(), self.policy.no_answer);
        self.deadlines.insert((ring.poll_timeout(), id));
        self.by_dialog.insert(plan.dialog, (id, Side::Caller));
        let call = Call {
            state: State::Ringing(ring),
            caller,
            callees: Vec::new(),
            early: None,
            answering: None,
            passing: Vec::new(),
            mending: None,
            mended: 0,
            record,
            verdicts: [None, None],
            closing: Vec::new(),
        };
        self.calls.insert(id, call);
        if self.given_up.remove(&plan.dialog) {
            return self.give_up(switch, id, StatusCode::REQUEST_TERMINATED, EndedBy::Caller, "the caller gave up");
        }
        if let Some((status, reason)) = fault {
            return self.refuse(switch, id, status, EndedBy::Switch, &reason);
        }
        if plan.targets.is_empty() {
            return self.refuse(switch, id, StatusCode::TEMPORARILY_UNAVAILABLE, EndedBy::Switch, "no device can be reached");
        }
        self.ring_devices(switch, id, plan);
    }

    fn ring_devices(&mut self, switch: &mut Switch<'_>, id: Id, plan: Plan) {
        let mut failures = Vec::new();
        for (device, target) in plan.targets.iter().enumerate() {
            let Some(call) = self.calls.get_mut(&id) else { return };
            let label = target.uri.to_string();
            // Until the INVITE is placed the leg has the caller's dialog: nothing looks it up there.
            let manner = switch.manner(target.profiles.first().copied().unwrap_or_default(), target.protection);
            let signaling = target.hops.first().map(|hop| hop.remote().ip());
            let mut leg = Leg::new(plan.dialog, switch.random.number(), manner, signaling, label);
            let offer = if plan.offer.is_empty() { Ok(Bytes::new()) } else { leg.make_offer(&call.caller, switch.media) };
            match offer {
                Ok(body) => place(switch, &plan, target, body, &mut leg),
                Err(error) => failures.push((device, error)),
            }
            if let Some(port) = leg.port() {
                self.by_port.insert(port, (id, Side::Callee(device)));
            }
            if leg.dialog != plan.dialog {
                self.by_dialog.insert(leg.dialog, (id, Side::Callee(device)));
            }
            call.callees.push(leg);
        }
        for (device, error) in failures {
            self.note(id, &error.to_string());
            self.failed(switch, id, device, refusal(&error));
        }
    }

    /// A device sent a provisional response.
    pub(super) fn progress(&mut self, switch: &mut Switch<'_>, id: Id, device: usize, status: StatusCode, body: &Bytes) {
        let limit = None;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let State::Ringing(ring) = &mut call.state else { return };
        let told = ring.progress(status);
        let spare = call.callees.get_mut(device).and_then(|leg| leg.spare.as_mut());
        if let Some(until) = spare.and_then(|spare| spare.patience.take()) {
            self.deadlines.remove(&(until, id));
        }
        if status == StatusCode::RINGING {
            call.record.ringing_at.get_or_insert(switch.unix);
        }
        // The caller hears the early media of the first device that sends any; RFC 3960 leaves the choice to us.
        let first = call.early.is_none() || call.early == Some(device);
        if !body.is_empty() && first {
            let Some(leg) = call.callees.get_mut(device) else { return };
            match early_answer(&mut call.caller, leg, switch, body) {
                Ok(answer) => {
                    call.early = Some(device);
                    leg.apply(switch.media, limit);
                    call.caller.apply(switch.media, limit);
                    let (caller, callee) = (call.caller.port(), leg.port());
                    self.join(switch, id, caller, callee);
                    let status = if status == StatusCode::RINGING { status } else { StatusCode::SESSION_PROGRESS };
                    let Some(call) = self.calls.get(&id) else { return };
                    let _gone = switch.sip.progress(switch.now, call.caller.dialog, status, answer);
                    return;
                }
                Err(error) => debug!(call = %id, %error, "early media not used"),
            }
        }
        if let Some(status) = told {
            let _gone = switch.sip.progress(switch.now, call.caller.dialog, status, Bytes::new());
        }
    }

    /// Connects the ports of the caller and of one device.
    pub(super) fn join(&mut self, switch: &mut Switch<'_>, id: Id, caller: Option<media::PortId>, callee: Option<media::PortId>) {
        let (Some(caller), Some(callee)) = (caller, callee) else { return };
        self.by_port.insert(caller, (id, Side::Caller));
        switch.media.bridge(caller, callee);
    }

    /// A device answered: it wins, unless another one has.
    pub(super) fn answered(&mut self, switch: &mut Switch<'_>, id: Id, device: usize, body: &Bytes) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(dialog) = call.callees.get(device).map(|leg| leg.dialog) else { return };
        if !matches!(call.state, State::Ringing(_)) {
            return end_late(switch, dialog);
        }
        match self.connect(switch, id, device, body) {
            Ok(()) => self.cancel_others(switch, id, device),
            Err(error) => {
                let reason = format!("the callee's answer cannot be used: {error}");
                end_late(switch, dialog);
                self.note(id, &reason);
                self.failed(switch, id, device, StatusCode::NOT_ACCEPTABLE_HERE);
            }
        }
    }

    /// Negotiates the answer, connects media and answers the caller.
    fn connect(&mut self, switch: &mut Switch<'_>, id: Id, device: usize, body: &Bytes) -> Result<(), MediaError> {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let Some(leg) = call.callees.get_mut(device) else { return Ok(()) };
        let late_offer = !leg.has_local_offer();
        let answer = if late_offer {
            leg.receive_offer(body)?;
            call.caller.make_offer(leg, switch.media)?
        } else {
            leg.receive_answer(body, Finality::Final)?;
            call.caller.make_answer(leg, switch.media)?
        };
        if !late_offer {
            switch.sip.acknowledge(switch.now, leg.dialog, Bytes::new());
            leg.apply(switch.media, limit);
            call.caller.apply(switch.media, limit);
        }
        let (caller, callee) = (call.caller.port(), leg.port());
        if let Some(port) = callee {
            self.by_port.insert(port, (id, Side::Callee(device)));
        }
        call.record.answered_at = Some(switch.unix);
        call.record.answered_by = Some(leg.label.clone());
        call.answering = Some(device);
        call.record.status = StatusCode::OK.code();
        let dialog = call.caller.dialog;
        if let State::Ringing(ring) = &call.state {
            self.deadlines.remove(&(ring.poll_timeout(), id));
        }
        call.state = State::Established { callee: device, late_offer, relayed: None };
        self.join(switch, id, caller, callee);
        switch.sip.accept(switch.now, dialog, answer);
        info!(call = %id, "call answered");
        Ok(())
    }

    fn cancel_others(&mut self, switch: &mut Switch<'_>, id: Id, winner: usize) {
        let reason = Reason::sip(200, "Call completed elsewhere");
        let Some(call) = self.calls.get_mut(&id) else { return };
        for (device, leg) in call.callees.iter_mut().enumerate().filter(|(device, _)| *device != winner) {
            if self.by_dialog.get(&leg.dialog) == Some(&(id, Side::Callee(device))) {
                self.by_dialog.remove(&leg.dialog);
                switch.sip.cancel(switch.now, leg.dialog, Some(reason.clone()));
            }
            call.closing.extend(leg.close(switch.media));
        }
    }

    /// A device refused, could not be reached, or gave up.
    pub(super) fn failed(&mut self, switch: &mut Switch<'_>, id: Id, device: usize, status: StatusCode) {
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT) && self.try_next_address(switch, id, device) {
            return;
        }
        if status == StatusCode::NOT_ACCEPTABLE_HERE && self.try_next_profile(switch, id, device) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(leg) = call.callees.get_mut(device) {
            if self.by_dialog.get(&leg.dialog) == Some(&(id, Side::Callee(device))) {
                self.by_dialog.remove(&leg.dialog);
            }
            call.closing.extend(leg.close(switch.media));
        }
        if call.early == Some(device) {
            call.early = None;
        }
        let State::Ringing(ring) = &mut call.state else { return };
        if let Verdict::GiveUp(told) = ring.failed(device, status) {
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

    /// The device's address did not answer: the next one may (RFC 3263 §4.3).
    fn try_next_address(&mut self, switch: &mut Switch<'_>, id: Id, device: usize) -> bool {
        let Some(call) = self.calls.get_mut(&id).filter(|call| matches!(call.state, State::Ringing(_))) else { return false };
        let Some(leg) = call.callees.get_mut(device) else { return false };
        let Some(spare) = leg.spare.as_mut() else { return false };
        let Some(hop) = spare.hops.pop() else { return false };
        let signaling = hop.remote().ip();
        spare.invite.hop = hop;
        let invite = spare.invite.clone();
        leg.moved(signaling);
        self.by_dialog.remove(&leg.dialog);
        leg.dialog = switch.sip.place(switch.now, invite);
        self.by_dialog.insert(leg.dialog, (id, Side::Callee(device)));
        true
    }

    /// The device does not take media as it was offered: the next way may do (a phone that insists on SRTP says so only by refusing).
    fn try_next_profile(&mut self, switch: &mut Switch<'_>, id: Id, device: usize) -> bool {
        let Some(call) = self.calls.get_mut(&id).filter(|call| matches!(call.state, State::Ringing(_))) else { return false };
        let Some(leg) = call.callees.get_mut(device) else { return false };
        let Some(mut spare) = leg.spare.take() else { return false };
        let Some(profile) = spare.profiles.pop().filter(|_| leg.has_local_offer()) else { return false };
        let Ok(body) = leg.offer_otherwise(profile, &call.caller, switch.media) else { return false };
        debug!(call = %id, device, ?profile, "offered otherwise");
        spare.invite.body = body;
        spare.patience = Some(switch.now + PATIENCE);
        self.deadlines.insert((switch.now + PATIENCE, id));
        self.by_dialog.remove(&leg.dialog);
        leg.dialog = switch.sip.place(switch.now, spare.invite.clone());
        leg.spare = Some(spare);
        self.by_dialog.insert(leg.dialog, (id, Side::Callee(device)));
        true
    }

    /// A device that refused one offer and is silent about the next has refused.
    pub(super) fn impatient(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| matches!(call.state, State::Ringing(_))) else { return };
        let mut silent = Vec::new();
        for (device, leg) in call.callees.iter_mut().enumerate() {
            if let Some(spare) = leg.spare.take_if(|spare| spare.patience.is_some_and(|until| until <= switch.now)) {
                switch.sip.cancel(switch.now, leg.dialog, None);
                debug!(call = %id, device, left = spare.profiles.len(), "silent about another offer");
                silent.push(device);
            }
        }
        for device in silent {
            self.failed(switch, id, device, StatusCode::NOT_ACCEPTABLE_HERE);
        }
    }

    pub(super) fn no_answer(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(State::Ringing(ring)) = self.calls.get_mut(&id).map(|call| &mut call.state) else { return };
        if let Verdict::GiveUp(status) = ring.handle_timeout(switch.now) {
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
        let Some(dialog) = self.calls.get(&id).map(|call| call.caller.dialog) else { return };
        let _gone = switch.sip.refuse(switch.now, dialog, status, &Headers::default());
        self.give_up(switch, id, status, by, reason);
    }

    /// Gives up every device that still rings; the caller is told already.
    pub(super) fn give_up(&mut self, switch: &mut Switch<'_>, id: Id, status: StatusCode, by: EndedBy, reason: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.record.refused(status, by, reason);
        call.answering = None;
        for (device, leg) in call.callees.iter().enumerate() {
            if self.by_dialog.get(&leg.dialog) == Some(&(id, Side::Callee(device))) {
                // The one fits a device that rings, the other one that answered while the caller gave up.
                switch.sip.cancel(switch.now, leg.dialog, cancel_reason(by, status));
                switch.sip.bye(switch.now, leg.dialog, cancel_reason(by, status));
            }
        }
        self.close(switch, id);
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

fn place(switch: &mut Switch<'_>, plan: &Plan, target: &Target, body: Bytes, leg: &mut Leg) {
    let Some((hop, spares)) = target.hops.split_first() else { return };
    let invite = OutgoingInvite {
        uri: target.uri.clone(),
        routes: target.routes.clone(),
        hop: hop.clone(),
        from: plan.from.clone(),
        to: plan.to.clone(),
        headers: plan.headers.clone(),
        body,
    };
    let profiles: Vec<Profile> = target.profiles.iter().skip(1).rev().copied().collect();
    if !spares.is_empty() || !profiles.is_empty() {
        leg.spare =
            Some(Box::new(Spare { invite: invite.clone(), hops: spares.iter().rev().cloned().collect(), profiles, patience: None }));
    }
    leg.dialog = switch.sip.place(switch.now, invite);
}

fn early_answer(caller: &mut Leg, leg: &mut Leg, switch: &mut Switch<'_>, body: &Bytes) -> Result<Bytes, MediaError> {
    leg.receive_answer(body, Finality::Early)?;
    caller.make_answer(leg, switch.media)
}

/// A 2xx that comes too late or cannot be used: acknowledged and hung up.
fn end_late(switch: &mut Switch<'_>, dialog: DialogId) {
    switch.sip.acknowledge(switch.now, dialog, Bytes::new());
    switch.sip.bye(switch.now, dialog, None);
}

fn refusal(error: &MediaError) -> StatusCode {
    match error {
        MediaError::Malformed(_) => StatusCode::BAD_REQUEST,
        MediaError::Negotiation(_) | MediaError::Nothing => StatusCode::NOT_ACCEPTABLE_HERE,
        MediaError::NoPort(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
