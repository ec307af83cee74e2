//! The INVITE usage of a dialog (RFC 3261 §13 to §15): one leg of a call, from its first INVITE to its last event.
//!
//! This file has the state that both roles share and what happens in an established session; `uac.rs` places calls, `uas.rs` takes them.
//! Offers and answers are bytes here: what they mean is decided above.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Dialog;
use super::refresh::{Due, Refresh, Verdict};
use super::uac::Calling;
use super::uas::{Pending, Provisional, TwoHundred};
use super::{refresh, uas};
use crate::endpoint::{Core, Event};
use crate::message::header::{CSeq, Reason};
use crate::message::{Headers, Method, Name, Request, Response, StatusCode};
use crate::transaction::timer::earlier;
use crate::transaction::{ClientId, Owner, ServerId};
use crate::transport::Hop;

/// Names one INVITE dialog of ours, from before its first message to after its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub(crate) u64);

/// What happens on a leg. `Failed`, `Cancelled` and `Ended` are the last event of a dialog; exactly one of them comes.
#[derive(Debug)]
pub enum DialogEvent {
    /// Our INVITE got a provisional response above 100.
    Progress {
        /// The status code.
        status: StatusCode,
        /// SDP; empty for none.
        body: Bytes,
        /// The tag of the early dialog it belongs to; several mean that the INVITE was forked.
        tag: bytestring::ByteString,
    },
    /// Our INVITE got its 2xx. [`crate::Endpoint::acknowledge`] is due.
    Answered {
        /// SDP; empty for none.
        body: Bytes,
    },
    /// Our INVITE got a final failure, no response (408), or could not be sent (503).
    Failed {
        /// The status code.
        status: StatusCode,
        /// The response, if one came.
        response: Option<Box<Response>>,
    },
    /// The caller gave up; 487 was sent.
    Cancelled {
        /// Why, if the caller said so.
        reason: Option<Reason>,
    },
    /// The ACK of our 2xx came.
    Acknowledged {
        /// SDP of a late offer's answer; empty for none.
        body: Bytes,
    },
    /// The peer sent a re-INVITE or an UPDATE with an offer. [`crate::Endpoint::accept`] or [`crate::Endpoint::refuse`] is due.
    Offered {
        /// SDP; empty for a re-INVITE that asks us to offer.
        body: Bytes,
    },
    /// Our re-INVITE or UPDATE got a 2xx. [`crate::Endpoint::acknowledge`] is due.
    OfferAnswered {
        /// SDP; empty for none.
        body: Bytes,
    },
    /// Our re-INVITE or UPDATE failed; the session is as it was before.
    OfferFailed {
        /// The status code.
        status: StatusCode,
    },
    /// Another request came within the dialog (INFO, MESSAGE …). [`crate::Endpoint::respond`] is due.
    Request {
        /// Its transaction.
        server: ServerId,
        /// The request.
        request: Box<Request>,
    },
    /// A request that we sent within the dialog is answered.
    Response {
        /// Its transaction.
        client: ClientId,
        /// The response; one we made ourselves (408, 503) where none came.
        response: Box<Response>,
    },
    /// The session is over.
    Ended {
        /// Who ended it.
        by: Ender,
        /// Why, if the peer said so.
        reason: Option<Reason>,
    },
}

/// Who or what ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ender {
    /// The peer sent BYE.
    Peer,
    /// We did.
    Us,
    /// The peer never acknowledged our 2xx (§13.3.1.4).
    NoAck,
    /// The session timer ran out (RFC 4028 §10).
    SessionTimer,
    /// The peer no longer knows the dialog (408 or 481 to a request in it, §12.2.1.2).
    Lost,
}

/// Why a command could not be carried out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such dialog any more.
    #[error("the dialog is over")]
    Gone,
    /// Another offer is under way, ours or the peer's (§14.1).
    #[error("another offer is pending")]
    Pending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// We sent the INVITE and wait for its final response.
    Calling,
    /// We received the INVITE and owe its final response.
    Incoming,
    /// A 2xx was sent or received.
    Established,
    /// The last event was told.
    Ended,
}

/// What our pending client transaction within the session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An offer of the host.
    Offer,
    /// A refresh of our own (RFC 4028).
    Refresh,
}

/// An ACK that is due, or was sent and is repeated for each repeated 2xx.
#[derive(Debug)]
pub(super) struct Acknowledgement {
    pub(super) number: u32,
    pub(super) sent: Option<(Hop, Bytes)>,
}

/// One INVITE usage.
#[derive(Debug)]
pub(crate) struct Invite {
    pub(super) id: u64,
    pub(super) state: State,
    pub(super) dialog: Dialog,
    /// While Calling: the INVITE, its forks, its cancellation.
    pub(super) calling: Option<Box<Calling>>,
    /// An INVITE or UPDATE of the peer that we owe a final response.
    pub(super) pending: Option<Pending>,
    /// While Incoming: reliable provisional responses (RFC 3262).
    pub(super) provisional: Provisional,
    /// Our 2xx that waits for its ACK.
    pub(super) two_hundred: Option<TwoHundred>,
    /// Our INVITE or UPDATE within the session.
    pub(super) client: Option<(ClientId, Method, Purpose)>,
    pub(super) ack: Option<Acknowledgement>,
    pub(super) refresh: Option<Refresh>,
    /// The last SDP we sent: a refreshing re-INVITE repeats it.
    pub(super) local_body: Bytes,
    /// The peer's Allow has UPDATE.
    pub(super) peer_updates: bool,
    /// Set when BYE has to wait for the ACK (§15).
    pub(super) bye_after_ack: Option<Option<Reason>>,
    pub(crate) scheduled: Option<Instant>,
}

impl Invite {
    pub(super) fn new(id: u64, state: State, dialog: Dialog) -> Self {
        Self {
            id,
            state,
            dialog,
            calling: None,
            pending: None,
            provisional: Provisional::default(),
            two_hundred: None,
            client: None,
            ack: None,
            refresh: None,
            local_body: Bytes::new(),
            peer_updates: false,
            bye_after_ack: None,
            scheduled: None,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    pub(crate) fn local_tag(&self) -> &str {
        self.dialog.local_tag()
    }

    pub(crate) fn is_early(&self) -> bool {
        matches!(self.state, State::Calling | State::Incoming)
    }

    /// Returns true for a message of this dialog: our tag and the Call-ID match, and the peer's tag where we know it.
    pub(crate) fn matches(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> bool {
        let tag_fits = match self.state {
            State::Calling => self.calling.as_ref().is_some_and(|calling| calling.has_fork(remote_tag)),
            State::Incoming | State::Established | State::Ended => self.dialog.remote_tag() == remote_tag,
        };
        *self.dialog.call_id == *call_id && self.dialog.local_tag() == local_tag && tag_fits
    }

    pub(super) fn tell(&self, core: &mut Core, event: DialogEvent) {
        core.events.push_back(Event::Dialog(DialogId(self.id), event));
    }

    pub(super) fn end(&mut self, core: &mut Core, event: DialogEvent) {
        self.state = State::Ended;
        self.tell(core, event);
    }

    // ---- requests of the peer

    /// A request within the dialog; its server transaction is open.
    pub(crate) fn handle_request(&mut self, core: &mut Core, now: Instant, server: ServerId, request: Request) {
        let number = request.headers.typed::<CSeq>(Name::CSeq).map_or(0, |cseq| cseq.number);
        if self.dialog.remote_seq.is_some_and(|last| number <= last) {
            // §12.2.2: out of order.
            return core.reply(now, server, &request, StatusCode::SERVER_INTERNAL_ERROR, self.dialog.local_tag());
        }
        self.dialog.remote_seq = Some(number);
        match request.method {
            Method::Bye => self.handle_bye(core, now, server, &request),
            Method::Invite => self.handle_reinvite(core, now, server, request),
            Method::Update => self.handle_update(core, now, server, request),
            Method::Prack => self.handle_prack(core, now, server, &request),
            Method::Ack | Method::Cancel => {}
            Method::Register | Method::Publish => {
                core.reply(now, server, &request, StatusCode::METHOD_NOT_ALLOWED, self.dialog.local_tag());
            }
            Method::Options | Method::Info | Method::Message | Method::Subscribe | Method::Notify | Method::Refer | Method::Other(_) => {
                self.tell(core, DialogEvent::Request { server, request: Box::new(request) });
            }
        }
    }

    fn handle_bye(&mut self, core: &mut Core, now: Instant, server: ServerId, request: &Request) {
        core.reply(now, server, request, StatusCode::OK, self.dialog.local_tag());
        if let Some(pending) = self.pending.take() {
            // §15.1.2: what is still open gets 487.
            core.reply(now, pending.server, &pending.request, StatusCode::REQUEST_TERMINATED, self.dialog.local_tag());
        }
        let reason = request.headers.first(Name::Reason).ok();
        if self.state == State::Calling {
            // A peer that hangs up an early dialog of our INVITE: we give up the INVITE as a whole.
            self.cancel(core, now, None);
            return;
        }
        self.end(core, DialogEvent::Ended { by: Ender::Peer, reason });
    }

    fn handle_reinvite(&mut self, core: &mut Core, now: Instant, server: ServerId, request: Request) {
        // §14.2: one at a time, and none while ours is under way.
        let status = match () {
            () if self.pending.is_some() || self.state != State::Established => StatusCode::SERVER_INTERNAL_ERROR,
            () if self.client.is_some() => StatusCode::REQUEST_PENDING,
            () => return self.take_offer(core, now, server, request),
        };
        self.refuse_offer(core, now, server, &request, status);
    }

    fn refuse_offer(&mut self, core: &mut Core, now: Instant, server: ServerId, request: &Request, status: StatusCode) {
        let mut response = core.response(request, status, self.dialog.local_tag());
        if status == StatusCode::SERVER_INTERNAL_ERROR {
            response.headers.push(Name::RetryAfter, core.random.below(11).to_string());
        }
        core.transactions.respond(now, server, &response);
    }

    fn handle_update(&mut self, core: &mut Core, now: Instant, server: ServerId, request: Request) {
        // RFC 3311 §5.2
        let busy = match () {
            () if request.body.is_empty() => None,
            () if self.pending.as_ref().is_some_and(|p| p.request.method == Method::Update) => Some(StatusCode::SERVER_INTERNAL_ERROR),
            () if self.client.is_some() || self.two_hundred.is_some() || self.pending.is_some() || self.is_early() => {
                Some(StatusCode::REQUEST_PENDING)
            }
            () => None,
        };
        match busy {
            Some(status) => self.refuse_offer(core, now, server, &request, status),
            None => self.take_offer(core, now, server, request),
        }
    }

    fn take_offer(&mut self, core: &mut Core, now: Instant, server: ServerId, request: Request) {
        if refresh::uas(&request.headers, core.session_interval) == Verdict::TooSmall {
            let mut response = core.response(&request, StatusCode::SESSION_INTERVAL_TOO_SMALL, self.dialog.local_tag());
            response.headers.push(Name::MinSe, refresh::MIN_SE.as_secs().to_string());
            return core.transactions.respond(now, server, &response);
        }
        if !uas::has_sdp_or_nothing(&request) {
            return core.reply(now, server, &request, StatusCode::UNSUPPORTED_MEDIA_TYPE, self.dialog.local_tag());
        }
        self.dialog.refresh_target(&request.headers);
        self.note_peer(&request.headers);
        let body = request.body.clone();
        let refresh_only = request.method == Method::Update && body.is_empty();
        core.transactions.attach(server, self.id);
        self.pending = Some(Pending { server, request: Box::new(request) });
        if refresh_only {
            // A bare UPDATE refreshes the session and changes nothing (RFC 4028 §7.4).
            self.accept(core, now, Bytes::new());
        } else {
            self.tell(core, DialogEvent::Offered { body });
        }
    }

    pub(super) fn note_peer(&mut self, headers: &Headers) {
        if headers.has(Name::Allow) {
            self.peer_updates = headers.has_token(Name::Allow, "UPDATE");
        }
    }

    // ---- requests of ours within the session

    /// Sends an offer, or with an empty body asks for one: as re-INVITE.
    pub(crate) fn offer(&mut self, core: &mut Core, now: Instant, body: Bytes) -> Result<(), CommandError> {
        if self.state != State::Established {
            return Err(CommandError::Gone);
        }
        if self.client.is_some() || self.pending.is_some() || self.two_hundred.is_some() || self.ack_is_due() {
            return Err(CommandError::Pending);
        }
        self.send_offer(core, now, Method::Invite, body, Purpose::Offer);
        Ok(())
    }

    fn ack_is_due(&self) -> bool {
        self.ack.as_ref().is_some_and(|ack| ack.sent.is_none())
    }

    fn send_offer(&mut self, core: &mut Core, now: Instant, method: Method, body: Bytes, purpose: Purpose) {
        let mut request = self.dialog.request(method.clone());
        core.describe(&mut request.headers, self.dialog.hop());
        self.write_session_timer(core, &mut request.headers);
        if !body.is_empty() {
            self.local_body = body.clone();
            request.set_body("application/sdp", body);
        }
        let client = core.transactions.request(now, request, self.dialog.hop().clone(), Owner::Dialog(self.id), &mut core.random);
        self.client = Some((client, method, purpose));
    }

    fn write_session_timer(&self, core: &Core, headers: &mut Headers) {
        let (interval, refresher) = match self.refresh {
            Some(refresh) => (refresh.interval(), Some(refresh.is_ours())),
            None => (core.session_interval, None),
        };
        let role = match refresher {
            Some(true) => ";refresher=uac",
            Some(false) => ";refresher=uas",
            None => "",
        };
        headers.push(Name::SessionExpires, format!("{}{role}", interval.as_secs()));
        headers.push(Name::MinSe, refresh::MIN_SE.as_secs().to_string());
    }

    /// Sends another request within the dialog; its response comes as [`DialogEvent::Response`].
    pub(crate) fn request(&mut self, core: &mut Core, now: Instant, method: Method, headers: &Headers, body: Bytes) -> Option<ClientId> {
        if self.state != State::Established {
            return None;
        }
        let mut request = self.dialog.request(method);
        request.headers.copy_where(headers, |_| true);
        request.body = body;
        Some(core.transactions.request(now, request, self.dialog.hop().clone(), Owner::Dialog(self.id), &mut core.random))
    }

    /// A response that the transaction layer passed up, or one it made (408, 503).
    pub(crate) fn handle_response(&mut self, core: &mut Core, now: Instant, client: ClientId, response: Response) {
        if self.calling.as_ref().is_some_and(|calling| calling.client == client) {
            return self.handle_invite_response(core, now, response);
        }
        let cseq = response.headers.typed::<CSeq>(Name::CSeq).map_or(0, |cseq| cseq.number);
        match self.client.take() {
            Some((id, method, purpose)) if id == client => self.handle_offer_response(core, now, (id, method, purpose), cseq, response),
            other => {
                self.client = other;
                if response.headers.typed::<CSeq>(Name::CSeq).is_ok_and(|c| c.method == Method::Invite) {
                    return self.repeat_ack(core, now, cseq, &response);
                }
                self.handle_other_response(core, now, client, response);
            }
        }
    }

    fn handle_other_response(&mut self, core: &mut Core, now: Instant, client: ClientId, response: Response) {
        if response.status.is_provisional() || self.state == State::Ended {
            return;
        }
        let lost = response.status == StatusCode::NO_TRANSACTION;
        self.tell(core, DialogEvent::Response { client, response: Box::new(response) });
        if lost {
            self.lose(core, now);
        }
    }

    fn lose(&mut self, core: &mut Core, now: Instant) {
        self.send_bye(core, now, None);
        self.end(core, DialogEvent::Ended { by: Ender::Lost, reason: None });
    }

    fn handle_offer_response(
        &mut self,
        core: &mut Core,
        now: Instant,
        (client, method, purpose): (ClientId, Method, Purpose),
        number: u32,
        response: Response,
    ) {
        if response.status.is_provisional() {
            self.client = Some((client, method, purpose));
            return;
        }
        if response.status.is_success() {
            self.dialog.refresh_target(&response.headers);
            self.refresh = refresh::uac(&response.headers).map(|(interval, ours)| Refresh::start(now, interval, ours));
            let is_invite = method == Method::Invite;
            self.ack = is_invite.then_some(Acknowledgement { number, sent: None });
            return match purpose {
                Purpose::Offer => self.tell(core, DialogEvent::OfferAnswered { body: response.body }),
                Purpose::Refresh => self.acknowledge(core, now, Bytes::new()),
            };
        }
        if matches!(response.status, StatusCode::NO_TRANSACTION | StatusCode::REQUEST_TIMEOUT) {
            return self.lose(core, now);
        }
        match (purpose, self.refresh.as_mut()) {
            (Purpose::Offer, _) => self.tell(core, DialogEvent::OfferFailed { status: response.status }),
            (Purpose::Refresh, Some(refresh)) if response.status == StatusCode::SESSION_INTERVAL_TOO_SMALL => {
                let asked = response.headers.number(Name::MinSe).ok().flatten().unwrap_or(0);
                let interval = refresh.interval().max(Duration::from_secs(asked.into()));
                let ours = refresh.is_ours();
                *refresh = Refresh::start(now, interval, ours);
                refresh.retry_at(now);
            }
            // §14.1: the owner of the Call-ID waits longer; either way before the session ends.
            (Purpose::Refresh, Some(refresh)) => refresh.retry_at(now + Duration::from_millis(2100 + core.random.below(1900))),
            (Purpose::Refresh, None) => {}
        }
    }

    /// Sends the ACK of the 2xx that was told last, with the answer to a late offer or an empty body.
    pub(crate) fn acknowledge(&mut self, core: &mut Core, now: Instant, body: Bytes) {
        let Some(ack) = self.ack.as_mut().filter(|ack| ack.sent.is_none()) else { return };
        let mut request = self.dialog.request_at(Method::Ack, ack.number);
        if !body.is_empty() {
            self.local_body = body.clone();
            request.set_body("application/sdp", body);
        }
        let hop = self.dialog.hop().clone();
        ack.sent = Some((hop.clone(), core.transactions.send_ack(request, hop, &mut core.random)));
        if let Some(reason) = self.bye_after_ack.take() {
            self.bye(core, now, reason);
        }
    }

    /// The peer repeated a 2xx: our ACK was lost (§13.2.2.4).
    fn repeat_ack(&mut self, core: &mut Core, now: Instant, number: u32, response: &Response) {
        let ours = response.to_tag().is_some_and(|tag| *tag == *self.dialog.remote_tag());
        if !ours {
            return self.end_fork(core, now, response);
        }
        if let Some(Acknowledgement { number: acked, sent: Some((hop, bytes)) }) = &self.ack
            && *acked == number
        {
            core.transactions.send(hop.clone(), bytes.clone());
        }
    }

    // ---- the end

    /// Ends the session; `Ended` follows at once, or after the ACK that has to come first.
    pub(crate) fn bye(&mut self, core: &mut Core, now: Instant, reason: Option<Reason>) {
        if self.state != State::Established {
            return;
        }
        if self.ack_is_due() {
            self.acknowledge(core, now, Bytes::new());
        }
        if self.two_hundred.is_some() && self.pending_two_hundred_is_first() {
            self.bye_after_ack = Some(reason);
            return;
        }
        self.send_bye(core, now, reason.as_ref());
        if let Some(pending) = self.pending.take() {
            core.reply(now, pending.server, &pending.request, StatusCode::REQUEST_TERMINATED, self.dialog.local_tag());
        }
        self.end(core, DialogEvent::Ended { by: Ender::Us, reason });
    }

    pub(super) fn send_bye(&mut self, core: &mut Core, now: Instant, reason: Option<&Reason>) {
        let mut request = self.dialog.request(Method::Bye);
        if let Some(reason) = reason {
            request.headers.push(Name::Reason, reason.to_string());
        }
        core.transactions.request(now, request, self.dialog.hop().clone(), Owner::Nobody, &mut core.random);
    }

    // ---- time

    pub(crate) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        self.handle_provisional_timeout(core, now);
        self.handle_two_hundred_timeout(core, now);
        self.handle_cancel_timeout(core, now);
        if self.state != State::Established {
            return;
        }
        match self.refresh.as_mut().and_then(|refresh| refresh.handle_timeout(now)) {
            Some(Due::Expired) => {
                self.send_bye(core, now, Some(&Reason::sip(408, "Session timer expired")));
                self.end(core, DialogEvent::Ended { by: Ender::SessionTimer, reason: None });
            }
            Some(Due::Refresh) if self.client.is_none() && self.pending.is_none() => self.send_refresh(core, now),
            Some(Due::Refresh) => {
                if let Some(refresh) = self.refresh.as_mut() {
                    refresh.retry_at(now + Duration::from_secs(1));
                }
            }
            None => {}
        }
    }

    fn send_refresh(&mut self, core: &mut Core, now: Instant) {
        let (method, body) = if self.peer_updates { (Method::Update, Bytes::new()) } else { (Method::Invite, self.local_body.clone()) };
        self.send_offer(core, now, method, body, Purpose::Refresh);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let refresh = self.refresh.filter(|_| self.state == State::Established).and_then(|refresh| refresh.poll_timeout());
        let calling = self.calling.as_ref().and_then(|calling| calling.give_up);
        let answered = self.two_hundred.as_ref().and_then(TwoHundred::poll_timeout);
        earlier(earlier(refresh, calling), earlier(self.provisional.poll_timeout(), answered))
    }
}
