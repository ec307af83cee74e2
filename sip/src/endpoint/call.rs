//! What a host may do with calls: take, place, answer, refuse, offer, hang up.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Endpoint, Event, Incoming, OutgoingInvite, unsupported};
use crate::dialog::invite::{CommandError, DialogEvent, DialogId, Invite};
use crate::message::header::Reason;
use crate::message::{Headers, Method, Name, StatusCode};
use crate::transaction::ClientId;
use crate::transport::Hop;

impl Endpoint {
    /// Takes an INVITE as callee: 100 goes out, the dialog begins. None if it was refused here (400, 406, 415, 420, 422, 482, 503) or is a
    /// repetition of one that was taken.
    pub fn take(&mut self, now: Instant, incoming: Incoming) -> Option<DialogId> {
        if self.core.transactions.opened(incoming.key).is_some() {
            return None;
        }
        let unsupported = unsupported(&incoming.request);
        let refusal = match () {
            () if !unsupported.is_empty() => Some((StatusCode::BAD_EXTENSION, Name::Unsupported, unsupported)),
            () if self.core.transactions.is_merged(incoming.merge) => Some((StatusCode::LOOP_DETECTED, Name::Other, String::new())),
            () if self.dialogs.len() >= Self::MAX_DIALOGS => Some((StatusCode::SERVICE_UNAVAILABLE, Name::RetryAfter, self.retry_after())),
            () => None,
        };
        if let Some((status, name, value)) = refusal {
            self.refuse_statelessly(&incoming, status, name, &value);
            return None;
        }
        let server = self.admit(now, &incoming);
        let id = self.core.transactions.id();
        let Incoming { flow, request, .. } = incoming;
        let invite = Invite::incoming(&mut self.core, now, (id, server, flow), request)?;
        self.dialogs.insert(id, Box::new(invite));
        self.count(id);
        Some(DialogId(id))
    }

    /// Places a call. At [`Endpoint::MAX_DIALOGS`] it fails at once: the only event is `Failed` with 503.
    pub fn place(&mut self, now: Instant, call: OutgoingInvite) -> DialogId {
        let id = self.core.transactions.id();
        if self.dialogs.len() >= Self::MAX_DIALOGS {
            let failed = DialogEvent::Failed { status: StatusCode::SERVICE_UNAVAILABLE, response: None };
            self.core.events.push_back(Event::Dialog(DialogId(id), failed));
            return DialogId(id);
        }
        let invite = Invite::outgoing(&mut self.core, now, id, call);
        self.dialogs.insert(id, Box::new(invite));
        self.tell_failed(now);
        self.settle(now, id);
        DialogId(id)
    }

    /// Sends a provisional response with SDP or an empty body.
    ///
    /// # Errors
    /// Gone: the INVITE is answered or over.
    pub fn progress(&mut self, now: Instant, dialog: DialogId, status: StatusCode, body: Bytes) -> Result<(), CommandError> {
        self.command(now, dialog, |invite, core| invite.progress(core, now, status, body))
    }

    /// Answers the pending INVITE, re-INVITE or UPDATE with 200 and SDP.
    pub fn accept(&mut self, now: Instant, dialog: DialogId, body: Bytes) {
        self.with(now, dialog.0, |invite, core| invite.accept(core, now, body));
    }

    /// Refuses the pending INVITE (no event follows), re-INVITE or UPDATE, with further headers.
    ///
    /// # Errors
    /// Gone: nothing is pending.
    pub fn refuse(&mut self, now: Instant, dialog: DialogId, status: StatusCode, headers: &Headers) -> Result<(), CommandError> {
        self.command(now, dialog, |invite, core| invite.refuse(core, now, status, headers))
    }

    /// Gives up a placed call; `Failed` follows.
    pub fn cancel(&mut self, now: Instant, dialog: DialogId, reason: Option<Reason>) {
        self.with(now, dialog.0, |invite, core| invite.cancel(core, now, reason));
    }

    /// Tells the device that a placed call rings at to answer, by a NOTIFY of the event package `talk`. Returns false where no device said
    /// in a provisional response that it can be told so (Allow-Events); then nothing is sent. A device that does as it is told answers the INVITE.
    pub fn talk(&mut self, now: Instant, dialog: DialogId) -> bool {
        self.with(now, dialog.0, |invite, core| invite.talk(core, now))
    }

    /// Sends the ACK that is due, with an answer or an empty body.
    pub fn acknowledge(&mut self, now: Instant, dialog: DialogId, body: Bytes) {
        self.with(now, dialog.0, |invite, core| invite.acknowledge(core, body));
    }

    /// Sends a re-INVITE with an offer, or with an empty body asks for one.
    ///
    /// # Errors
    /// Pending: another offer is under way; Gone: no established session.
    pub fn offer(&mut self, now: Instant, dialog: DialogId, body: Bytes) -> Result<(), CommandError> {
        self.command(now, dialog, |invite, core| invite.offer(core, now, body))
    }

    /// Ends an established session; `Ended` follows.
    pub fn bye(&mut self, now: Instant, dialog: DialogId, reason: Option<Reason>) {
        self.with(now, dialog.0, |invite, core| invite.bye(core, now, reason));
    }

    /// Returns true until the INVITE of a dialog has its final response; a 2xx of ours may be waiting for a PRACK.
    #[must_use]
    pub fn is_early(&self, dialog: DialogId) -> bool {
        self.dialogs.get(&dialog.0).is_some_and(|invite| invite.is_early())
    }

    /// Sends another request within a session; its response comes as [`DialogEvent::Response`]. None without a session.
    pub fn request_within(&mut self, now: Instant, dialog: DialogId, method: Method, headers: &Headers, body: Bytes) -> Option<ClientId> {
        self.with(now, dialog.0, |invite, core| invite.request(core, now, method, headers, body))
    }

    /// Sends further requests of a dialog along another hop: its device has registered again by a new flow (RFC 5626 §5.3).
    pub fn reroute(&mut self, dialog: DialogId, hop: Hop) {
        if let Some(invite) = self.dialogs.get_mut(&dialog.0) {
            invite.reroute(hop);
        }
        self.count(dialog.0);
    }

    pub(super) fn command(
        &mut self,
        now: Instant,
        dialog: DialogId,
        work: impl FnOnce(&mut Invite, &mut Core) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        self.with(now, dialog.0, |invite, core| Some(work(invite, core))).unwrap_or(Err(CommandError::Gone))
    }
}
