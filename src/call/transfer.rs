//! Transfer (RFC 5589), as a B2BUA does it: a party sends the other one to somebody else. While the devices of that somebody ring, the two
//! stay together, or the one who is sent waits with music; who answers takes the place of the party that sent. No peer is told to
//! call anybody. Two calls of a party are joined at once (attended). A parked call that returns is called in the same way.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use media::sdp::negotiate::Finality;
use media::{Kinds, SoundId};
use sip::message::header::Reason;
use sip::message::{Headers, Name};
use sip::{DialogEvent, DialogId, ReferId, StatusCode};
use tracing::info;

use super::command::Ticket;
use super::graph::{Constructed, Missed};
use super::leg::{Leg, LegId, MediaError, Stage};
use super::make::Making;
use super::party::{Party, PartyId, Person, Who};
use super::reach::{Invitation, end_late};
use super::record::EndedBy;
use super::refusal::Refusal;
use super::ring::{Ring, Verdict};
use super::template;
use super::{Call, Calls, Id, Output, State, Switch, Talk, Target};
use crate::device;

/// Whom to tell how it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The peer of a dialog, which sent a REFER.
    Refer {
        /// The dialog in which the REFER came, or which it made.
        dialog: DialogId,
        /// The REFER.
        refer: ReferId,
    },
    /// Who gave a command.
    Outcome(Ticket),
}

/// Somebody who is to take the place of a party.
#[derive(Clone, Debug)]
pub struct Referral {
    /// Who.
    pub to: Person,
    /// Further headers of the INVITEs, such as Referred-By.
    pub headers: Headers,
    /// The devices to ring.
    pub targets: Vec<Target>,
    /// Who is told how it goes.
    pub report: Option<Report>,
}

/// A party on its way into a call, in the place of another one.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Who sent the other party away, and may have left.
    by: PartyId,
    sender: Person,
    /// Whether the sender is called back where nobody comes.
    returns: bool,
    /// Since when their devices are called, in milliseconds since 1970.
    pub(super) since: u64,
    /// Who comes, and as which party: the sender's own if another device of theirs is called.
    pub(super) party: PartyId,
    pub(super) to: Person,
    pub(super) ring: Ring,
    pub(super) report: Option<Report>,
    pub(super) purpose: Purpose,
    /// The device whose early media came.
    early: Option<LegId>,
}

/// What a party comes for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Another one sent it the party that is there.
    Refer,
    /// It parked the one who waits, or sent them away in vain.
    Return,
    /// It takes the one who waits out of the slot.
    Retrieve,
    /// It wants to call somebody.
    Make(Box<Making>),
    /// Somebody who had the call made wants to talk to it.
    Called,
}

impl Calls {
    /// Returns the call of a dialog, and whose the leg is. None for a dialog that is in no call.
    #[must_use]
    pub fn owner(&self, dialog: DialogId) -> Option<(Id, PartyId, &Person, Option<&device::Id>)> {
        let (id, leg) = self.by_dialog.get(&dialog)?;
        let call = self.calls.get(id)?;
        let leg = call.leg(*leg)?;
        Some((*id, leg.party, &call.party(leg.party)?.person, leg.device.as_ref()))
    }

    /// Sends the other party of a call to somebody else (blind), or calls other devices of the one who asks. A REFER gets its answer here;
    /// in a conference it brings somebody in (RFC 4579 §5.5).
    ///
    /// # Errors
    /// See [`Refusal`]; the call is as it was, and a REFER is refused.
    pub fn transfer(&mut self, switch: &mut Switch<'_>, id: Id, by: PartyId, referral: Referral) -> Result<(), Refusal> {
        let report = referral.report;
        let result = self.begin_transfer(switch, id, by, referral);
        if let (Err(refusal), Some(Report::Refer { dialog, refer })) = (result, report) {
            let _gone = switch.sip.refuse_refer(switch.now, dialog, refer, refusal.status());
        }
        self.touch(id);
        result
    }

    fn begin_transfer(&mut self, switch: &mut Switch<'_>, id: Id, by: PartyId, referral: Referral) -> Result<(), Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        if let Some(report @ Report::Refer { .. }) = referral.report.filter(|_| call.conference.is_some()) {
            return self.bring(switch, (id, by), referral, report);
        }
        let sender = call.party(by).ok_or(Refusal::NoCall)?.person.clone();
        call.two_talk()?;
        let is_there = |party: &Party| party.id != by && party.person.who == referral.to.who;
        if call.parties.iter().any(is_there) {
            return Err(Refusal::Present);
        }
        if referral.targets.is_empty() {
            // of oneself: there is no device besides those of the call
            return Err(if referral.to.who == sender.who { Refusal::Present } else { Refusal::Unreachable });
        }
        if let Some(Report::Refer { dialog, refer }) = referral.report {
            switch.sip.accept_refer(switch.now, dialog, refer).map_err(|_| Refusal::NoCall)?;
        }
        info!(call = %id, devices = referral.targets.len(), "transfer");
        self.reach_out(switch, id, (by, sender), referral, Purpose::Refer);
        Ok(())
    }

    /// Calls devices into a call, for whoever is there to talk to.
    pub(super) fn reach_out(
        &mut self,
        switch: &mut Switch<'_>,
        id: Id,
        (by, sender): (PartyId, Person),
        referral: Referral,
        purpose: Purpose,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let mut stays = call.legs.iter().filter(|leg| leg.is_up() && leg.party != by).peekable();
        let Some(person) = stays.peek().and_then(|leg| call.party(leg.party)).map(|party| party.person.clone()) else { return };
        let kinds = stays.fold(Kinds::AUDIO, |kinds, leg| kinds | (leg.carries & leg.media.has()));
        let template = template::offer(&[], kinds, template::Unwanted::Refused, |kind| call.line_of_others(by, kind));
        let party = if referral.to.who == sender.who { by } else { call.next_party() };
        let mut headers = referral.headers;
        if !matches!(purpose, Purpose::Retrieve | Purpose::Called) {
            headers.push(Name::ReferredBy, sender.shown.to_string());
        }
        identify(&mut headers, &person);
        let invitation = Invitation { from: &person.shown, to: &referral.to.shown, headers: &headers, template: Some(Arc::new(template)) };
        let (legs, failures) = self.place_all(switch, (id, party), &referral.targets, &invitation, Kinds::BOTH);
        let ring = Ring::new(switch.now, legs, self.policy.no_answer);
        let (to, report) = (referral.to, referral.report);
        self.begin_arrival(
            switch,
            id,
            Transfer { by, sender, returns: true, since: switch.unix, party, to, ring, report, purpose, early: None },
            failures,
        );
    }

    /// Calls the devices of a party that nobody waits for yet: with an offer of ours, which the party is to talk by.
    pub(super) fn reach_first(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        (targets, carries): (&[Target], Kinds),
        invitation: &Invitation<'_>,
        (making, ticket): (Box<Making>, Ticket),
    ) {
        let Some(person) = self.calls.get(&id).and_then(|call| call.party(party)).map(|party| party.person.clone()) else { return };
        let (legs, failures) = self.place_all(switch, (id, party), targets, invitation, carries);
        let ring = Ring::new(switch.now, legs, self.policy.no_answer);
        let (purpose, report) = (Purpose::Make(making), Some(Report::Outcome(ticket)));
        let mut transfer = Transfer::of(switch.unix, (party, person.clone()), (party, person), ring, report);
        transfer.purpose = purpose;
        self.begin_arrival(switch, id, transfer, failures);
    }

    /// Places an INVITE to each device of a party. Returns their legs, and those that failed at once.
    pub(super) fn place_all(
        &mut self,
        switch: &mut Switch<'_>,
        (id, party): (Id, PartyId),
        targets: &[Target],
        invitation: &Invitation<'_>,
        carries: Kinds,
    ) -> (Vec<LegId>, Vec<(LegId, StatusCode)>) {
        let (mut legs, mut failures) = (Vec::new(), Vec::new());
        let beside = self.calls.get(&id).and_then(|call| call.party(PartyId::CALLER)).and_then(|party| self.port_of(&party.person.who));
        let Some(call) = self.calls.get_mut(&id) else { return (legs, failures) };
        for target in targets {
            let (leg, port) = (call.take_leg_id(), call.any_port().or(beside));
            legs.push(leg);
            match Leg::place(switch, (leg, party), target, invitation.clone(), port) {
                Ok(mut placed) => {
                    placed.carries = carries;
                    self.by_dialog.insert(placed.dialog, (id, leg));
                    call.legs.push(placed);
                }
                Err(error) => failures.push((leg, super::reach::refusal(&error))),
            }
        }
        (legs, failures)
    }

    fn begin_arrival(&mut self, switch: &mut Switch<'_>, id: Id, transfer: Transfer, failures: Vec<(LegId, StatusCode)>) {
        if let Some(user) = transfer.to.who.user() {
            self.by_user.insert((Arc::clone(user), id));
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.transfer = Some(Box::new(transfer));
        }
        self.arrange(switch, id);
        for (leg, status) in failures {
            self.failed(switch, id, leg, status);
        }
    }

    /// Takes an event of a call that somebody is on the way into. Returns it where it means what it means in any call.
    pub(super) fn transfer_event(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, event: DialogEvent) -> Option<DialogEvent> {
        let Some(call) = self.calls.get_mut(&id) else { return Some(event) };
        let Some(transfer) = call.transfer.as_deref_mut() else { return Some(event) };
        let theirs = call.legs.iter().filter(|known| known.party == transfer.by && known.is_up()).count();
        let Some(at) = call.legs.iter_mut().find(|known| known.id == leg) else { return Some(event) };
        let is_coming = at.party == transfer.party && matches!(at.stage, Stage::Reaching(_));
        match event {
            DialogEvent::Progress { status, body, .. } if is_coming => {
                at.shows_life();
                transfer.hear_early(switch, at, &body);
                if let Some(status) = transfer.ring.progress(status) {
                    transfer.tell(switch, &mut self.outputs, status);
                }
                if status == StatusCode::RINGING && matches!(transfer.purpose, Purpose::Called) {
                    call.record.ringing_at.get_or_insert(switch.unix);
                }
                self.arrange(switch, id);
                None
            }
            DialogEvent::Answered { body } if is_coming => {
                let dialog = at.dialog;
                if let Err(error) = self.arrive(switch, id, leg, &body) {
                    info!(call = %id, %error, "the answer cannot be used");
                    end_late(switch, dialog);
                    self.failed(switch, id, leg, StatusCode::NOT_ACCEPTABLE_HERE);
                }
                None
            }
            DialogEvent::Ended { .. }
                if at.is_up() && at.party == transfer.by && theirs == 1 && matches!(transfer.purpose, Purpose::Refer) =>
            {
                // RFC 5589 §6: who sent the other one away need not wait for what comes of it.
                self.depart(switch, id, leg);
                None
            }
            event @ (DialogEvent::Progress { .. }
            | DialogEvent::Answered { .. }
            | DialogEvent::Failed { .. }
            | DialogEvent::Cancelled { .. }
            | DialogEvent::Acknowledged { .. }
            | DialogEvent::Offered { .. }
            | DialogEvent::OfferCancelled
            | DialogEvent::OfferAnswered { .. }
            | DialogEvent::OfferFailed { .. }
            | DialogEvent::Request { .. }
            | DialogEvent::Response { .. }
            | DialogEvent::Ended { .. }) => Some(event),
        }
    }

    /// Returns true for a leg that is on its way into an answered call, or could not even begin.
    pub(super) fn is_coming(&self, id: Id, leg: LegId) -> bool {
        let Some(call) = self.calls.get(&id) else { return false };
        let Some(transfer) = &call.transfer else { return false };
        call.leg(leg).is_none_or(|leg| leg.party == transfer.party && matches!(leg.stage, Stage::Reaching(_)))
    }

    /// Returns true for the party that sent another one away and is still there.
    pub(super) fn has_sent(&self, id: Id, party: PartyId) -> bool {
        let transfer = self.calls.get(&id).and_then(|call| call.transfer.as_ref());
        transfer.is_some_and(|transfer| matches!(transfer.purpose, Purpose::Refer) && transfer.by == party && transfer.party != party)
    }

    /// A device cannot come: the others may.
    pub(super) fn cannot_come(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, status: StatusCode) {
        self.release(switch, id, leg);
        let Some(transfer) = self.calls.get_mut(&id).and_then(|call| call.transfer.as_deref_mut()) else { return };
        let was_heard = transfer.early.take_if(|early| *early == leg).is_some();
        if let Verdict::GiveUp(status) = transfer.ring.failed(leg, status) {
            self.fail_transfer(switch, id, (status, Refusal::of(status)));
        } else if was_heard {
            self.arrange(switch, id);
        }
    }

    pub(super) fn transfer_timeout(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(transfer) = self.calls.get_mut(&id).and_then(|call| call.transfer.as_deref_mut()) else { return };
        if let Verdict::GiveUp(status) = transfer.ring.handle_timeout(switch.now) {
            self.fail_transfer(switch, id, (status, Refusal::NoAnswer));
        }
    }

    /// Nobody is on the way any more. Whose devices still ring are told why; their legs are gone.
    pub(super) fn drop_transfer(&mut self, switch: &mut Switch<'_>, id: Id, reason: &Reason) -> Option<Box<Transfer>> {
        let call = self.calls.get_mut(&id)?;
        let transfer = call.transfer.take()?;
        // Whoever waits may be on the move to another device meanwhile.
        let is_coming = |leg: &&Leg| leg.party == transfer.party && matches!(leg.stage, Stage::Reaching(_));
        let coming: Vec<LegId> = call.legs.iter().filter(is_coming).map(|leg| leg.id).collect();
        for leg in coming {
            if let Some(leg) = self.calls.get(&id).and_then(|call| call.leg(leg)) {
                leg.give_up(switch, Some(reason));
            }
            self.release(switch, id, leg);
        }
        if let Some(call) = self.calls.get_mut(&id).filter(|_| transfer.party != transfer.by) {
            call.highest = call.highest.max(transfer.party.0);
        }
        self.forget_user(id, &transfer.to.who);
        Some(transfer)
    }

    /// Nobody came. The party that sent the other one away has it back: at once if it is still there, else its devices are called
    /// (RFC 5589 §6.3). Who cannot be called back to loses the call, unless it is parked.
    pub(super) fn fail_transfer(&mut self, switch: &mut Switch<'_>, id: Id, (status, refusal): (StatusCode, Refusal)) {
        let reason = if refusal == Refusal::NoAnswer { Reason::sip(408, "No answer") } else { Reason::sip(status.code(), status.reason()) };
        let Some(mut transfer) = self.drop_transfer(switch, id, &reason) else { return };
        info!(call = %id, %status, "nobody came");
        if let Some(call) = self.calls.get_mut(&id) {
            call.missed.extend(transfer.missed(&refusal.to_string()));
        }
        if matches!(transfer.purpose, Purpose::Make(_)) {
            return self.caller_is_not_there(switch, id, *transfer, (status, refusal));
        }
        match transfer.report.take() {
            Some(Report::Refer { dialog, refer }) => switch.sip.report(switch.now, dialog, refer, status),
            Some(Report::Outcome(ticket)) => self.outputs.push_back(Output::Outcome { ticket, result: Err(refusal) }),
            None => {}
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        match transfer.purpose {
            Purpose::Called => return self.not_made(switch, id, (status, refusal)),
            // Whom the slot holds waits on.
            Purpose::Retrieve => return self.arrange(switch, id),
            Purpose::Refer | Purpose::Return | Purpose::Make(_) => {}
        }
        let is_there = call.legs.iter().any(|leg| leg.party == transfer.by);
        let user = transfer.sender.who.user().filter(|_| transfer.returns && transfer.party != transfer.by && !is_there).cloned();
        match user {
            _ if is_there => {}
            Some(user) => self.call_back(id, (transfer.by, transfer.sender), user),
            None if call.parked.is_some() => self.stay_parked(switch, id),
            None => self.nobody_left(switch, id, "nobody answered whom the caller was sent to"),
        }
    }

    /// Asks for the devices of a user who is to be called back.
    pub(super) fn call_back(&mut self, id: Id, (party, person): (PartyId, Person), user: Arc<str>) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.awaited = Some((party, person));
            self.outputs.push_back(Output::Recall { call: id, user });
        }
    }

    /// Calls the devices that were asked for by [`Output::Recall`].
    pub fn recall(&mut self, switch: &mut Switch<'_>, id: Id, headers: Headers, targets: Vec<Target>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some((party, person)) = call.awaited.take() else { return };
        if targets.is_empty() && call.parked.is_some() {
            self.stay_parked(switch, id);
        } else if targets.is_empty() {
            self.nobody_left(switch, id, "the party that sent the other one away cannot be reached");
        } else {
            let referral = Referral { to: person.clone(), headers, targets, report: None };
            self.reach_out(switch, id, (party, person), referral, Purpose::Return);
        }
        self.touch(id);
    }

    /// Ends a call whose last party waits for nobody.
    pub(super) fn nobody_left(&mut self, switch: &mut Switch<'_>, id: Id, why: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.record.ended_by = EndedBy::NoAnswer;
        why.clone_into(&mut call.record.reason);
        self.unanswer(switch, id, false);
        self.hang_up(switch, id, None, Some(&Reason::sip(408, "No answer")));
    }

    /// Who was called answered: the party that sent the other one leaves.
    fn arrive(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, body: &Bytes) -> Result<(), MediaError> {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let Some(leg) = call.leg_mut(device) else { return Ok(()) };
        leg.media.receive_answer(body, Finality::Final)?;
        switch.sip.acknowledge(switch.now, leg.dialog, Bytes::new());
        leg.media.apply(switch.media, limit);
        leg.stage = Stage::Up;
        let label = leg.label.clone();
        let Some(mut transfer) = self.drop_transfer(switch, id, &Reason::sip(200, "Call completed elsewhere")) else { return Ok(()) };
        if matches!(transfer.purpose, Purpose::Make(_)) {
            self.caller_is_there(switch, id, *transfer);
            return Ok(());
        }
        transfer.tell(switch, &mut self.outputs, StatusCode::OK);
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        match transfer.purpose {
            Purpose::Refer if transfer.to.who != transfer.sender.who => {
                call.constructed = Constructed::Transferred(transfer.sender.who.clone());
            }
            Purpose::Called => call.record.answered(switch.unix, label),
            Purpose::Refer | Purpose::Return | Purpose::Retrieve | Purpose::Make(_) => {}
        }
        info!(call = %id, "somebody came");
        self.unpark(id);
        let is_push = transfer.party == transfer.by && call_has(self.calls.get(&id), transfer.by, device);
        if is_push {
            self.come_instead(switch, (id, transfer.party), device);
        } else {
            self.enter(switch, id, device, Party::new(transfer.party, transfer.to), transfer.by);
        }
        Ok(())
    }
}

impl Transfer {
    pub(super) fn poll_timeout(&self) -> std::time::Instant {
        self.ring.poll_timeout()
    }

    /// Makes a way in for a party whose devices ring already.
    pub(super) fn of(
        since: u64,
        (by, sender): (PartyId, Person),
        (party, to): (PartyId, Person),
        ring: Ring,
        report: Option<Report>,
    ) -> Self {
        Self { by, sender, returns: true, since, party, to, ring, report, purpose: Purpose::Refer, early: None }
    }

    /// Returns who sent the other party away.
    pub(super) fn sender(&self) -> &Person {
        &self.sender
    }

    /// Returns who is called when who has the call made has answered.
    pub(super) fn callee_to_be(&self) -> Option<&Person> {
        if let Purpose::Make(making) = &self.purpose { Some(making.callee()) } else { None }
    }

    /// Nobody is called back to a user who is none any more.
    pub(super) fn send_back_no_more(&mut self, user: &str) {
        self.returns &= !is_user(&self.sender, user);
    }

    /// Returns who missed a call: somebody whom it was sent to.
    pub(super) fn missed(&self, why: &str) -> Option<Missed> {
        let is_sent = matches!(self.purpose, Purpose::Refer) && self.party != self.by;
        is_sent.then(|| Missed { party: self.party, why: why.to_owned() })
    }

    /// Tells how it goes. A command that has a call made is carried out when it rings.
    fn tell(&mut self, switch: &mut Switch<'_>, outputs: &mut VecDeque<Output>, status: StatusCode) {
        let rings = matches!(self.purpose, Purpose::Called) && status >= StatusCode::RINGING;
        match self.report {
            Some(Report::Refer { dialog, refer }) => switch.sip.report(switch.now, dialog, refer, status),
            Some(Report::Outcome(ticket)) if rings || status.is_success() => {
                self.report = None;
                outputs.push_back(Output::Outcome { ticket, result: Ok(()) });
            }
            Some(Report::Outcome(_)) | None => {}
        }
    }

    /// Another one took the call, or it is over: so is this.
    pub(super) fn give_up(&mut self, switch: &mut Switch<'_>, outputs: &mut VecDeque<Output>, refusal: Refusal) {
        match self.report.take() {
            Some(Report::Refer { dialog, refer }) => switch.sip.report(switch.now, dialog, refer, StatusCode::REQUEST_TERMINATED),
            Some(Report::Outcome(ticket)) => outputs.push_back(Output::Outcome { ticket, result: Err(refusal) }),
            None => {}
        }
    }

    /// Takes the early media of a device: the first one's that has any.
    fn hear_early(&mut self, switch: &mut Switch<'_>, leg: &mut Leg, body: &Bytes) {
        let is_first = self.early.is_none_or(|early| early == leg.id);
        let is_wanted = is_first && !body.is_empty() && !matches!(self.purpose, Purpose::Make(_));
        if is_wanted && leg.media.receive_answer(body, Finality::Early).is_ok() {
            leg.media.apply(switch.media, None);
            self.early = Some(leg.id);
        }
    }
}

impl Call {
    /// Returns true where two parties talk, and nothing is under way.
    pub(super) fn two_talk(&self) -> Result<(), Refusal> {
        let State::Established(Talk { late_offer, relayed, .. }) = &self.state else { return Err(Refusal::NotAnswered) };
        let moves = self.parties.iter().any(|party| party.moving.is_some());
        if *late_offer || relayed.is_some() || moves || self.transfer.is_some() || self.awaited.is_some() {
            return Err(Refusal::UnderWay);
        }
        let is_pair = self.parties.len() == 2 && self.conference.is_none() && self.parties_up(None) == 2;
        if is_pair { Ok(()) } else { Err(Refusal::NotTalking) }
    }

    /// Returns who is on the way in, and as which party.
    pub(super) fn coming(&self) -> Option<(PartyId, &Person)> {
        self.transfer.as_ref().map(|transfer| (transfer.party, &transfer.to))
    }

    /// Returns the device on its way in whose early media the one who waits hears.
    pub(super) fn early(&self) -> Option<LegId> {
        self.transfer.as_ref()?.early.filter(|_| self.parties_up(None) == 1)
    }

    /// Returns what is played to a party that waits.
    pub(super) fn waiting_sound(&self) -> Option<SoundId> {
        match self.transfer.as_deref() {
            Some(Transfer { purpose: Purpose::Called, ring, .. }) => ring.rings().then_some(SoundId::RINGBACK),
            Some(Transfer { purpose: Purpose::Make(_), .. }) => None,
            Some(_) | None => Some(SoundId::HOLD),
        }
    }

    pub(super) fn next_party(&self) -> PartyId {
        let (there, coming) = (self.parties.iter().map(|party| party.id.0), self.legs.iter().map(|leg| leg.party.0));
        PartyId(there.chain(coming).fold(self.highest, u16::max).saturating_add(1))
    }
}

/// Whether a party has another device in the call than this one.
fn call_has(call: Option<&Call>, party: PartyId, but: LegId) -> bool {
    call.is_some_and(|call| call.legs.iter().any(|leg| leg.party == party && leg.id != but && leg.is_up()))
}

/// Says who calls (RFC 3325), unless they asked not to be shown.
pub(super) fn identify(headers: &mut Headers, person: &Person) {
    if person.is_anonymous() {
        headers.push(Name::Privacy, "id");
    } else {
        headers.push(Name::PAssertedIdentity, person.shown.to_string());
    }
}

/// Who a party is, for a rule about who may do what.
pub(super) fn is_user(person: &Person, user: &str) -> bool {
    matches!(&person.who, Who::User(name) if **name == *user)
}
