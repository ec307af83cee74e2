//! Park: a party waits in a slot with music until somebody dials the slot, or the one who parked it is called back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::StatusCode;
use sip::message::header::Reason;
use tracing::info;

use super::leg::Leg;
use super::party::{PartyId, Person};
use super::refusal::Refusal;
use super::transfer::{Report, is_user};
use super::{Account, Call, Calls, Id, Switch};
use crate::device;

/// How often the one who parked a call is called back; then the call ends.
const MAX_RETURNS: u8 = 3;

/// A call that waits in a slot.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) slot: u16,
    by: PartyId,
    parker: Person,
    /// When the parker is called back.
    until: Instant,
    returns: u8,
}

impl Parked {
    /// Returns who parked it, and as which party.
    pub(super) fn by(&self) -> (PartyId, Person) {
        (self.by, self.parker.clone())
    }

    /// Returns who parked it.
    pub(super) fn parker(&self) -> &Person {
        &self.parker
    }

    /// There is nobody to be called back: the call ends when it has waited for its time.
    pub(super) fn return_no_more(&mut self) {
        self.returns = MAX_RETURNS;
    }
}

impl Calls {
    /// The highest slot; there are that many.
    pub const SLOTS: u16 = 99;

    /// Most slots that are taken by calls that one user parked, or all those behind one trunk; a further one is refused.
    pub const SLOTS_OF_ONE: usize = 20;

    /// Parks the other party of a call in a slot, or in the lowest free one; the one who asks leaves. A REFER gets its answer here.
    ///
    /// # Errors
    /// See [`Refusal`]; the call is as it was, and a REFER is refused.
    pub fn park(
        &mut self,
        switch: &mut Switch<'_>,
        (id, by): (Id, PartyId),
        slot: Option<u16>,
        report: Option<Report>,
    ) -> Result<u16, Refusal> {
        let result = self.find_slot(id, by, slot);
        match (result, report) {
            (Err(refusal), Some(Report::Refer { dialog, refer })) => {
                let _gone = switch.sip.refuse_refer(switch.now, dialog, refer, refusal.status());
            }
            (Ok(_), Some(Report::Refer { dialog, refer })) => {
                let _gone = switch.sip.accept_refer(switch.now, dialog, refer);
                switch.sip.report(switch.now, dialog, refer, StatusCode::OK);
            }
            (_, Some(Report::Outcome(_)) | None) => {}
        }
        let slot = result?;
        let Some(call) = self.calls.get_mut(&id) else { return Err(Refusal::NoCall) };
        let Some(parker) = call.party(by).map(|party| party.person.clone()) else { return Err(Refusal::NoCall) };
        let until = switch.now + self.policy.park;
        info!(call = %id, slot, "parked");
        call.parked = Some(Parked { slot, by, parker, until, returns: 0 });
        self.slots.insert(slot, id);
        self.dismiss(switch, (id, by), None, &Reason::sip(200, &format!("Parked at {slot}")));
        self.arrange(switch, id);
        self.touch(id);
        Ok(slot)
    }

    fn find_slot(&self, id: Id, by: PartyId, slot: Option<u16>) -> Result<u16, Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        let parker = Account::of(&call.party(by).ok_or(Refusal::NoCall)?.person.who);
        call.two_talk()?;
        let parked = self.slots.values().filter_map(|id| self.calls.get(id)?.parked.as_ref());
        if parked.filter(|parked| Account::of(&parked.parker.who) == parker).count() >= Self::SLOTS_OF_ONE {
            return Err(Refusal::TooManyParked);
        }
        let is_free = |slot: &u16| !self.slots.contains_key(slot);
        match slot {
            Some(slot) if !(1..=Self::SLOTS).contains(&slot) => Err(Refusal::NoSlot),
            Some(slot) => Some(slot).filter(is_free).ok_or(Refusal::SlotTaken),
            None => (1..=Self::SLOTS).find(is_free).ok_or(Refusal::SlotTaken),
        }
    }

    /// Returns the call in a slot.
    #[must_use]
    pub fn in_slot(&self, slot: u16) -> Option<Id> {
        self.slots.get(&slot).copied()
    }

    /// Returns the newest call that a user is in by this device, and as which party.
    #[must_use]
    pub fn here(&self, user: &str, device: Option<&device::Id>) -> Option<(Id, PartyId)> {
        self.newest(user, |leg| leg.device.as_ref() == device)
    }

    /// Returns the newest call that a user is in by another device than this one, and as which party.
    #[must_use]
    pub fn elsewhere(&self, user: &str, device: Option<&device::Id>) -> Option<(Id, PartyId)> {
        self.newest(user, |leg| leg.device.is_none() || leg.device.as_ref() != device)
    }

    fn newest(&self, user: &str, is_wanted: impl Fn(&Leg) -> bool) -> Option<(Id, PartyId)> {
        let user: Arc<str> = user.into();
        let theirs = self.by_user.range((Arc::clone(&user), Id(0))..).take_while(|(name, _)| *name == user);
        let found = theirs.filter_map(|(_, id)| {
            let call = self.calls.get(id)?;
            let owns = |leg: &&Leg| call.party(leg.party).is_some_and(|party| is_user(&party.person, &user));
            let leg = call.legs.iter().find(|leg| leg.is_up() && owns(leg) && is_wanted(leg))?;
            Some((*id, leg.party))
        });
        found.last()
    }

    /// The time in the slot is over: the one who parked is called.
    pub(super) fn park_timeout(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.transfer.is_none() && call.awaited.is_none()) else { return };
        let Some(parked) = call.parked.as_mut().filter(|parked| parked.until <= switch.now) else { return };
        parked.returns += 1;
        let parker = (parked.by, parked.parker.clone());
        match parker.1.who.user().cloned() {
            Some(user) if parked.returns <= MAX_RETURNS => self.call_back(id, parker, user),
            Some(_) | None => self.nobody_left(switch, id, "nobody took the call out of its slot"),
        }
    }

    /// The one who parked did not answer: the call waits again.
    pub(super) fn stay_parked(&mut self, switch: &mut Switch<'_>, id: Id) {
        let wait: Duration = self.policy.park;
        if let Some(parked) = self.calls.get_mut(&id).and_then(|call| call.parked.as_mut()) {
            parked.until = switch.now + wait;
        }
    }

    /// The call leaves its slot.
    pub(super) fn unpark(&mut self, id: Id) {
        if let Some(parked) = self.calls.get_mut(&id).and_then(|call| call.parked.take()) {
            self.slots.remove(&parked.slot);
        }
    }
}

impl Call {
    /// Returns when the one who parked it is called back.
    pub(super) fn poll_park_timeout(&self) -> Option<Instant> {
        self.parked.as_ref().map(|parked| parked.until).filter(|_| self.transfer.is_none() && self.awaited.is_none())
    }
}
