//! The end of legs and of calls: what they hold is let go, and the record is written once the last figures are there.

use std::sync::Arc;

use media::PortId;
use media::quality::Statistics;
use sip::StatusCode;
use tracing::info;

use super::leg::LegId;
use super::record::LegMedia;
use super::refusal::Refusal;
use super::{Calls, Closing, Id, Output, State, Switch};

impl Calls {
    pub(super) fn port_closed(&mut self, port: PortId, statistics: &Statistics) {
        let Some((id, _)) = self.by_port.remove(&port) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(at) = call.closing.iter().position(|closing| closing.port == port) {
            let closed = call.closing.swap_remove(at);
            if closed.is_kept {
                call.heard.insert(closed.leg, LegMedia::new(statistics, closed.verdict));
            }
        }
        self.finish(id);
    }

    /// Writes the record once the call is over and its ports are closed.
    fn finish(&mut self, id: Id) {
        let done = self.calls.get(&id).is_some_and(|call| matches!(call.state, State::Over) && call.closing.is_empty());
        if done && let Some(call) = self.calls.remove(&id) {
            let parties = call.parties.iter().filter_map(|party| party.account.as_ref());
            call.account.iter().chain(parties).for_each(|account| self.forget_account(Some(account)));
            let mut record = call.record;
            record.media.extend(call.heard.into_values());
            record.end_stays();
            if call.is_visit {
                return;
            }
            self.outputs.push_back(Output::Record(Box::new(record)));
        }
    }

    /// Lets go of a leg whose peer is told already.
    pub(super) fn release(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(at) = call.legs.iter().position(|known| known.id == leg) else { return };
        let mut leg = call.legs.remove(at);
        self.by_dialog.remove(&leg.dialog);
        if leg.media.port().is_some() {
            self.arrange(switch, id);
        }
        if let Some((port, call)) = leg.media.close(switch.media).zip(self.calls.get_mut(&id)) {
            let is_kept = leg.id == LegId::CALLER || leg.is_up();
            self.by_port.insert(port, (id, leg.id));
            call.closing.push(Closing { port, leg: leg.id, is_kept, verdict: leg.verdict });
        }
    }

    /// Ends what the call holds: its legs are already told. Its record follows.
    pub(super) fn close(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if matches!(call.state, State::Over) {
            return;
        }
        let (transfer, guests) = (call.transfer.take(), call.take_guests());
        if let Some(ticket) = call.take_answering() {
            self.outputs.push_back(Output::Outcome { ticket, result: Err(Refusal::CallOver) });
        }
        if let Some(mut transfer) = transfer {
            if let Some(call) = self.calls.get_mut(&id) {
                call.missed.extend(transfer.missed(&call.record.reason));
            }
            transfer.give_up(switch, &mut self.outputs, Refusal::CallOver);
            self.forget_user(id, &transfer.to.who);
        }
        for guest in guests {
            self.guest_left(id, guest, Err(Refusal::CallOver));
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.state = State::Over;
        call.record.ended_at = switch.unix;
        for party in &mut call.parties {
            if let Some(user) = party.person.who.user() {
                self.by_user.remove(&(Arc::clone(user), id));
            }
            if let Some(moving) = party.moving.take() {
                self.outputs.push_back(Output::Outcome { ticket: moving.ticket, result: Err(Refusal::CallOver) });
            }
        }
        for client in call.passing.drain(..) {
            // The response would come to a dialog that is gone.
            if let Some((_, _, server, request)) = self.passed.remove(&client) {
                let response = switch.sip.reply(&request, StatusCode::NO_TRANSACTION);
                switch.sip.respond(switch.now, server, &response);
            }
        }
        self.unpark(id);
        self.end_conference(switch, id);
        let Some(call) = self.calls.get(&id) else { return };
        let record = &call.record;
        info!(call = %id, status = record.status, ended_by = ?record.ended_by, reason = record.reason, "call ended");
        let legs: Vec<LegId> = call.legs.iter().map(|leg| leg.id).collect();
        self.arrange(switch, id);
        for leg in legs {
            self.release(switch, id, leg);
        }
        self.touch(id);
        self.finish(id);
    }
}
