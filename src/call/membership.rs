//! Who is in a call: parties come in with a device, and go with their last one; who is left hears whoever is there.

use std::sync::Arc;

use sip::message::header::Reason;

use super::leg::LegId;
use super::party::{Party, PartyId, Who};
use super::{Calls, Id, Switch};

impl Calls {
    /// A leg of a party is in: the party comes in with it, and the legs in whose place it is go.
    pub(super) fn enter(&mut self, switch: &mut Switch<'_>, id: Id, device: LegId, party: Party, instead: PartyId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(user) = party.person.who.user() {
            self.by_user.insert((Arc::clone(user), id));
        }
        match call.parties.iter_mut().find(|known| known.id == party.id) {
            Some(known) => known.person = party.person,
            None => {
                let name = party.id;
                call.parties.push(Party { since: Some(switch.unix), ..party });
                call.came(name, switch.unix);
            }
        }
        self.dismiss(switch, (id, instead), Some(device), &Reason::sip(200, "Call completed elsewhere"));
        let came = self.calls.get(&id).and_then(|call| call.leg(device)).map(|leg| leg.party);
        self.meet(switch, id, came.unwrap_or(instead));
    }

    /// The devices of a party are told to go, but for one of them perhaps, and the party goes with the last one.
    pub(super) fn dismiss(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), but: Option<LegId>, reason: &Reason) {
        let Some(call) = self.calls.get(&id) else { return };
        let leaving: Vec<LegId> = call.legs.iter().filter(|leg| leg.party == party && Some(leg.id) != but).map(|leg| leg.id).collect();
        for leg in leaving {
            if let Some(dialog) = self.dialog(id, leg) {
                switch.sip.bye(switch.now, dialog, Some(reason.clone()));
            }
            self.depart(switch, id, leg);
        }
    }

    /// A leg is gone, and its party with it if it was the last one.
    pub(super) fn depart(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) {
        let Some(party) = self.calls.get(&id).and_then(|call| call.leg(leg)).map(|leg| leg.party) else { return };
        self.remove_leg(switch, id, leg);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.legs.iter().any(|leg| leg.party == party) {
            return;
        }
        let Some(at) = call.parties.iter().position(|known| known.id == party) else { return };
        let gone = call.parties.remove(at);
        call.went(&gone, switch.unix);
        self.forget_user(id, &gone.person.who);
        self.forget_account(gone.account.as_ref());
        self.arrange(switch, id);
    }

    /// Two parties are together who were not before: who is on hold for somebody who has left, or does not fit, gets an offer.
    pub(super) fn meet(&mut self, switch: &mut Switch<'_>, id: Id, came: PartyId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        for leg in call.legs.iter_mut().filter(|leg| leg.is_up()) {
            let may_not_fit = leg.party != came;
            (leg.stale, leg.stuck) = (true, None);
            leg.mends = u8::from(may_not_fit || !leg.media.is_open());
        }
        self.arrange(switch, id);
        self.align(switch, id);
    }

    /// A user is no longer listed with a call, unless they are in it.
    pub(super) fn forget_user(&mut self, id: Id, who: &Who) {
        let stays = self.calls.get(&id).is_some_and(|call| call.parties.iter().any(|party| party.person.who == *who));
        if let Some(user) = who.user().filter(|_| !stays) {
            self.by_user.remove(&(Arc::clone(user), id));
        }
    }
}
