//! A user is none any more: their part in every call is over as if they had left it, nobody is sent back to them, and nobody is put through
//! to them.

use sip::StatusCode;
use sip::message::Headers;

use super::party::{PartyId, Person};
use super::record::EndedBy;
use super::refusal::Refusal;
use super::transfer::is_user;
use super::{Call, Calls, Id, State, Switch};

/// Why a call ended with its user, for the record.
pub(super) const REASON: &str = "the user was removed";

impl Calls {
    /// Ends a user's part in every call. It looks at all calls: this is rare.
    pub fn remove_user(&mut self, switch: &mut Switch<'_>, user: &str) {
        let theirs = |(_, call): &(&Id, &Call)| call.people().any(|person| is_user(person, user));
        for id in self.calls.iter().filter(theirs).map(|(id, _)| *id).collect::<Vec<_>>() {
            for party in self.calls.get(&id).map(|call| call.parties_of(user)).unwrap_or_default() {
                self.remove_party(switch, (id, party));
            }
            self.send_back_no_more(switch, id, user);
            self.touch(id);
        }
    }

    fn remove_party(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId)) {
        let Some(call) = self.calls.get(&id) else { return };
        let is_there = call.legs.iter().any(|leg| leg.party == party && leg.is_up());
        // who has a call made is in it, and comes all the same
        let may_come = !is_there && (party != PartyId::CALLER || call.party(party).is_none());
        let is_coming = may_come && call.coming().is_some_and(|(coming, _)| coming == party);
        if call.is_guest(party) {
            return self.guest_declines(switch, (id, party), StatusCode::DECLINE);
        }
        if call.is_invited(party) {
            return self.invitee_gone(switch, (id, party), (StatusCode::DECLINE, Refusal::Removed));
        }
        if is_coming {
            return self.fail_transfer(switch, id, (StatusCode::DECLINE, Refusal::Removed));
        }
        if self.has_sent(id, party) {
            return self.part(switch, (id, party));
        }
        match &call.state {
            State::Ringing(_) => {
                let status = if party == PartyId::CALLER { StatusCode::REQUEST_TERMINATED } else { StatusCode::DECLINE };
                self.refuse(switch, id, status, EndedBy::Switch, REASON);
            }
            State::Established(_) => self.party_left(switch, (id, party), EndedBy::Switch, REASON, None),
            State::Over => {}
        }
    }

    /// Whoever waits for the user, or was sent away or parked by them, waits for somebody else or for nobody.
    fn send_back_no_more(&mut self, switch: &mut Switch<'_>, id: Id, user: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(parked) = call.parked.as_mut().filter(|parked| is_user(parked.parker(), user)) {
            parked.return_no_more();
        }
        if let Some(transfer) = call.transfer.as_deref_mut() {
            if transfer.callee_to_be().is_some_and(|callee| is_user(callee, user)) {
                return self.end_call(switch, id, EndedBy::Switch, REASON);
            }
            transfer.send_back_no_more(user);
        }
        if call.awaited.as_ref().is_some_and(|(_, person)| is_user(person, user)) {
            self.recall(switch, id, Headers::default(), Vec::new());
        }
    }
}

impl Call {
    /// Returns everybody whom the call knows by name.
    fn people(&self) -> impl Iterator<Item = &Person> {
        let parties = self.parties.iter().map(|party| &party.person);
        let coming = self.coming().into_iter().chain(self.guests()).map(|(_, person)| person);
        let awaited = self.awaited.iter().map(|(_, person)| person);
        let parker = self.parked.as_ref().map(|parked| parked.parker());
        let sent = self.transfer.as_deref().map(|transfer| transfer.sender());
        let callee = self.transfer.as_deref().and_then(|transfer| transfer.callee_to_be());
        parties.chain(coming).chain(awaited).chain(parker).chain(sent).chain(callee)
    }

    /// Returns as which parties a user is in the call, or on the way into it.
    fn parties_of(&self, user: &str) -> Vec<PartyId> {
        let parties = self.parties.iter().map(|party| (party.id, &party.person));
        let all = parties.chain(self.coming()).chain(self.guests());
        let mut theirs: Vec<PartyId> = all.filter(|(_, person)| is_user(person, user)).map(|(party, _)| party).collect();
        theirs.sort_unstable();
        theirs.dedup();
        theirs
    }
}
