//! The INVITE usage of a dialog (RFC 3261 §13 to §15): one leg of a call, from its first INVITE to its last event.
//!
//! This file has the state that both roles share, the requests of the peer, and the end; `uac.rs` places calls, `uas.rs` takes them,
//! `offer.rs` has our own requests within the session. Offers and answers are bytes here: what they mean is decided above.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::Dialog;
pub use super::event::{CommandError, DialogEvent, DialogId, Ender};
use super::offer::Acknowledgement;
use super::refer::Reference;
use super::refresh::{self, Due, Probe, Refresh, Verdict};
use super::uac::Calling;
use super::uas::{self, Pending, Provisional, TwoHundred};
use crate::endpoint::{Core, Event};
use crate::message::header::{CSeq, Reason, Replaces};
use crate::message::{Headers, Method, Name, Request, StatusCode};
use crate::transaction::timer::earlier;
use crate::transaction::{ClientId, Owner, ServerId};
use crate::transport::{Flow, Hop, Transport};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// We sent the INVITE and wait for its final response.
    Calling,
    /// We received the INVITE and owe its final response.
    Incoming,
    /// A 2xx was sent or received.
    Established,
    /// The last event was told, or there never was a session; a REFER may still be under way.
    Ended,
}

/// What our pending client transaction within the session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An offer of the host, in a re-INVITE.
    Offer,
    /// A refresh of our own (RFC 4028), in a re-INVITE.
    Refresh,
    /// A refresh in an UPDATE without offer.
    BareRefresh,
}

/// One INVITE usage.
#[derive(Debug)]
pub(crate) struct Invite {
    pub(super) id: u64,
    pub(super) state: State,
    pub(super) dialog: Dialog,
    /// True for a call we placed: its Call-ID is ours (§14.1).
    pub(super) placed: bool,
    /// While Calling: the INVITE, its forks, its cancellation.
    pub(super) calling: Option<Box<Calling>>,
    /// An INVITE or an offer in UPDATE that we owe a final response.
    pub(super) pending: Option<Box<Pending>>,
    /// Our provisional responses, until the ACK.
    pub(super) provisional: Option<Box<Provisional>>,
    /// Our 2xx that waits for its ACK.
    pub(super) two_hundred: Option<Box<TwoHundred>>,
    /// Our INVITE or UPDATE within the session.
    pub(super) client: Option<(ClientId, Purpose)>,
    /// The ACK that is due.
    pub(super) ack: Option<Acknowledgement>,
    pub(super) refresh: Option<Refresh>,
    /// What the peer asked for by REFER.
    pub(super) references: Vec<Reference>,
    pub(super) probe: Probe,
    /// The last SDP we sent: a refreshing re-INVITE repeats it.
    pub(super) local_body: Bytes,
    /// The peer's Allow has UPDATE.
    pub(super) peer_updates: bool,
    pub(crate) scheduled: Option<Instant>,
    /// The peer that the endpoint counts this dialog for.
    pub(crate) counted: Option<(Transport, SocketAddr)>,
}

impl Invite {
    pub(crate) fn new(id: u64, state: State, dialog: Dialog) -> Self {
        Self {
            id,
            state,
            dialog,
            placed: state == State::Calling,
            calling: None,
            pending: None,
            provisional: None,
            two_hundred: None,
            client: None,
            ack: None,
            refresh: None,
            references: Vec::new(),
            probe: Probe::default(),
            local_body: Bytes::new(),
            peer_updates: false,
            scheduled: None,
            counted: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
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

    /// Returns true if a request that matches came by a flow of the peer, or of the fork that has its tag.
    pub(crate) fn is_from_peer(&self, request: &Request, flow: &Flow) -> bool {
        let fork = self.calling.as_ref().and_then(|calling| calling.fork(&request.from_tag().unwrap_or_default()));
        fork.unwrap_or(&self.dialog).is_from_peer(flow)
    }

    /// Returns what names this dialog to its peer; none while it has no tag.
    pub(crate) fn replaces(&self) -> Option<Replaces> {
        let early = self.calling.as_ref().and_then(|calling| calling.first_tag());
        let (to_tag, from_tag) = (early.unwrap_or_else(|| self.dialog.remote_tag()), self.dialog.local_tag());
        (self.state != State::Ended && !to_tag.is_empty()).then(|| Replaces {
            call_id: self.dialog.call_id.clone(),
            to_tag: to_tag.into(),
            from_tag: from_tag.into(),
            early_only: false,
        })
    }

    /// Returns the far end of the connection that requests go over, until the dialog is over; none for datagrams.
    pub(crate) fn peer(&self) -> Option<(Transport, SocketAddr)> {
        let hop = self.dialog.hop();
        (!self.is_over() && hop.transport().is_reliable()).then(|| (hop.transport(), hop.remote()))
    }

    pub(crate) fn reroute(&mut self, hop: Hop) {
        self.dialog.reroute(hop);
    }

    pub(super) fn tell(&self, core: &mut Core, event: DialogEvent) {
        core.events.push_back(Event::Dialog(DialogId(self.id), event));
    }

    /// Tells the last event. Transactions that are under way end by their own timers.
    pub(super) fn end(&mut self, core: &mut Core, now: Instant, event: DialogEvent) {
        if let Some((client, _)) = self.client.take() {
            core.transactions.abandon(now, client);
        }
        self.drop_asked(core, now);
        (self.pending, self.provisional, self.two_hundred, self.refresh) = (None, None, None, None);
        self.state = State::Ended;
        self.tell(core, event);
    }

    // ---- requests of the peer

    /// The last sequence number of the peer, or of the fork that sent the request.
    fn remote_seq(&mut self, request: &Request) -> &mut Option<u32> {
        let fork = match self.calling.as_mut() {
            Some(calling) => calling.fork_mut(&request.from_tag().unwrap_or_default()),
            None => None,
        };
        fork.map_or(&mut self.dialog.remote_seq, |dialog| &mut dialog.remote_seq)
    }

    /// Returns true for a request whose number is not above all before (§12.2.2).
    pub(crate) fn is_out_of_order(&mut self, request: &Request) -> bool {
        let number = number(&request.headers);
        self.remote_seq(request).is_some_and(|last| number <= last)
    }

    /// A request within the dialog; its server transaction is open.
    pub(crate) fn handle_request(&mut self, core: &mut Core, now: Instant, (server, flow): (ServerId, Flow), mut request: Request) {
        if self.is_out_of_order(&request) {
            return core.reply(now, server, &request, StatusCode::SERVER_INTERNAL_ERROR, self.dialog.local_tag());
        }
        *self.remote_seq(&request) = Some(number(&request.headers));
        if self.state == State::Ended {
            return self.handle_late_request(core, now, server, &request);
        }
        self.probe.heard(now, core.session_interval);
        let is_strange = matches!(request.method, Method::Invite | Method::Update) && uas::reduce(&mut request).is_err();
        match request.method {
            _ if Self::is_about_refer(&request) => self.handle_subscribe(core, now, server, &request),
            Method::Bye => self.handle_bye(core, now, server, &request),
            Method::Prack => self.handle_prack(core, now, server, &request),
            // The host is done with this call; only the ACK is missing for our BYE.
            _ if self.is_hanging_up() => self.put_off(core, now, server, &request, StatusCode::SERVER_INTERNAL_ERROR),
            _ if is_strange => {
                core.reply(now, server, &request, StatusCode::UNSUPPORTED_MEDIA_TYPE, self.dialog.local_tag());
            }
            Method::Invite => self.handle_reinvite(core, now, (server, flow), request),
            Method::Update => self.handle_update(core, now, (server, flow), request),
            Method::Ack | Method::Cancel => {}
            Method::Refer => self.handle_refer(core, now, server, request),
            Method::Register | Method::Publish => {
                core.reply(now, server, &request, StatusCode::METHOD_NOT_ALLOWED, self.dialog.local_tag());
            }
            Method::Options | Method::Info | Method::Message | Method::Subscribe | Method::Notify | Method::Other(_) => {
                self.tell(core, DialogEvent::Request { server, request: Box::new(request) });
            }
        }
    }

    /// The session is over, and a REFER keeps the dialog.
    fn handle_late_request(&mut self, core: &mut Core, now: Instant, server: ServerId, request: &Request) {
        if Self::is_about_refer(request) {
            return self.handle_subscribe(core, now, server, request);
        }
        core.reply(now, server, request, StatusCode::NO_TRANSACTION, self.dialog.local_tag());
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
        let by = if self.is_hanging_up() { Ender::Us } else { Ender::Peer };
        self.end(core, now, DialogEvent::Ended { by, reason });
    }

    /// Returns what to answer an offer of the peer that cannot be taken now (§14.2, RFC 3311 §5.2): 500 while its own last offer waits
    /// for our answer, 491 while ours waits for its answer. An offer in an early dialog is put off until the call is answered.
    fn busy(&self) -> Option<StatusCode> {
        let ours_waits = match self.client {
            Some((_, purpose)) => purpose != Purpose::BareRefresh,
            None => self.ack.is_some() || self.two_hundred.as_ref().is_some_and(|answered| answered.is_offer()),
        };
        match self.state {
            State::Incoming => Some(StatusCode::SERVER_INTERNAL_ERROR),
            _ if self.pending.is_some() => Some(StatusCode::SERVER_INTERNAL_ERROR),
            State::Calling => Some(StatusCode::REQUEST_PENDING),
            State::Established | State::Ended => ours_waits.then_some(StatusCode::REQUEST_PENDING),
        }
    }

    /// Returns true where a reliable provisional response has answered the INVITE's offer, and its PRACK is there.
    fn has_early_session(&self, request: &Request) -> bool {
        match self.state {
            State::Incoming => self.provisional.as_ref().is_some_and(|provisional| provisional.is_answer()),
            State::Calling => self.calling.as_ref().is_some_and(|calling| calling.has_answer(&request.from_tag().unwrap_or_default())),
            State::Established | State::Ended => false,
        }
    }

    fn handle_reinvite(&mut self, core: &mut Core, now: Instant, (server, flow): (ServerId, Flow), request: Request) {
        if let Some(status) = self.busy() {
            return self.put_off(core, now, server, &request, status);
        }
        if self.two_hundred.take().is_some() {
            self.provisional = None;
            // It could not be there if our 2xx had not arrived: it is as good as the ACK it overtook (RFC 5407 §3.1.4).
            self.tell(core, DialogEvent::Acknowledged { body: Bytes::new() });
        }
        self.take_offer(core, now, (server, flow), request);
    }

    fn handle_update(&mut self, core: &mut Core, now: Instant, (server, flow): (ServerId, Flow), request: Request) {
        match self.busy() {
            // The early session could be changed (RFC 3311 §5.2); we leave it as it is until the call is answered.
            Some(_) if !request.body.is_empty() && self.has_early_session(&request) => {
                core.reply(now, server, &request, StatusCode::NOT_ACCEPTABLE_HERE, self.dialog.local_tag());
            }
            Some(status) if !request.body.is_empty() => self.put_off(core, now, server, &request, status),
            Some(_) | None => self.take_offer(core, now, (server, flow), request),
        }
    }

    pub(super) fn put_off(&mut self, core: &mut Core, now: Instant, server: ServerId, request: &Request, status: StatusCode) {
        let mut response = core.response(request, status, self.dialog.local_tag());
        if status == StatusCode::SERVER_INTERNAL_ERROR {
            response.headers.push(Name::RetryAfter, core.random.below(11).to_string());
        }
        core.transactions.respond(now, server, &response);
    }

    fn take_offer(&mut self, core: &mut Core, now: Instant, (server, flow): (ServerId, Flow), request: Request) {
        if refresh::uas(&request.headers, core.session_interval) == Verdict::TooSmall {
            let mut response = core.response(&request, StatusCode::SESSION_INTERVAL_TOO_SMALL, self.dialog.local_tag());
            response.headers.push(Name::MinSe, refresh::MIN_SE.as_secs().to_string());
            core.transactions.respond(now, server, &response);
            return;
        }
        self.note_peer(&request.headers);
        core.transactions.attach(server, self.id);
        if request.method == Method::Update && request.body.is_empty() {
            return self.answer_bare_update(core, now, (server, flow), &request);
        }
        if request.method == Method::Invite {
            // Whoever has to answer may need longer than the 200 ms of §17.2.1.
            core.reply(now, server, &request, StatusCode::TRYING, "");
        }
        let body = request.body.clone();
        self.pending = Some(Box::new(Pending { server, flow, request }));
        self.tell(core, DialogEvent::Offered { body });
    }

    /// A bare UPDATE refreshes session and target, and changes nothing else (RFC 4028 §7.4).
    fn answer_bare_update(&mut self, core: &mut Core, now: Instant, (server, flow): (ServerId, Flow), request: &Request) {
        if self.state != State::Calling {
            self.dialog.refresh_target(&request.headers, Some(flow));
        }
        let mut response = core.response(request, StatusCode::OK, self.dialog.local_tag());
        core.describe(&mut response.headers, self.dialog.hop());
        if self.state == State::Established {
            self.agree_session_timer(core, now, request, &mut response);
        }
        core.transactions.respond(now, server, &response);
    }

    pub(super) fn note_peer(&mut self, headers: &Headers) {
        if headers.has(Name::Allow) {
            self.peer_updates = headers.has_token(Name::Allow, "UPDATE");
        }
    }

    // ---- the end

    /// Ends the session; `Ended` follows at once, or after the ACK that has to come first.
    pub(crate) fn bye(&mut self, core: &mut Core, now: Instant, reason: Option<Reason>) {
        if self.answer_waits() {
            // Our 2xx still waits for a PRACK: to the caller the call is not answered yet.
            let _ = self.refuse(core, now, StatusCode::TEMPORARILY_UNAVAILABLE, &Headers::default());
            return self.end(core, now, DialogEvent::Ended { by: Ender::Us, reason });
        }
        if self.state != State::Established {
            return;
        }
        self.acknowledge(core, Bytes::new());
        if let Some(answered) = self.two_hundred.as_mut().filter(|answered| answered.is_first()) {
            answered.hang_up = Some(reason);
            return;
        }
        self.send_bye(core, now, reason.as_ref());
        if let Some(pending) = self.pending.take() {
            core.reply(now, pending.server, &pending.request, StatusCode::REQUEST_TERMINATED, self.dialog.local_tag());
        }
        self.end(core, now, DialogEvent::Ended { by: Ender::Us, reason });
    }

    /// Returns true when the host hung up, and BYE waits for the ACK (§15).
    pub(super) fn is_hanging_up(&self) -> bool {
        self.two_hundred.as_ref().is_some_and(|answered| answered.hang_up.is_some())
    }

    pub(super) fn send_bye(&mut self, core: &mut Core, now: Instant, reason: Option<&Reason>) {
        let mut request = self.dialog.request(Method::Bye);
        if let Some(reason) = reason {
            request.headers.push(Name::Reason, reason.to_string());
        }
        self.send(core, now, request, Owner::Nobody);
    }

    pub(super) fn send(&self, core: &mut Core, now: Instant, request: Request, owner: Owner) -> ClientId {
        core.transactions.request(now, self.dialog.outgoing(request, owner), &mut core.random)
    }

    // ---- time

    pub(crate) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        self.handle_provisional_timeout(core, now);
        self.handle_two_hundred_timeout(core, now);
        self.handle_reference_timeout(core, now);
        if self.state != State::Established {
            return;
        }
        match self.refresh.as_mut().and_then(|refresh| refresh.handle_timeout(now)) {
            Some(Due::Expired) => {
                self.send_bye(core, now, Some(&Reason::sip(408, "Session timer expired")));
                self.end(core, now, DialogEvent::Ended { by: Ender::SessionTimer, reason: None });
            }
            Some(Due::Refresh) => self.refresh_session(core, now),
            None if self.refresh.is_none() && self.probe.handle_timeout(now, core.session_interval) => self.send_probe(core, now),
            None => {}
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let alive = || self.refresh.map_or_else(|| self.probe.poll_timeout(), |refresh| refresh.poll_timeout());
        let refresh = if self.state == State::Established { alive() } else { None };
        let answered = self.two_hundred.as_ref().and_then(|answered| answered.poll_timeout());
        let provisional = self.provisional.as_ref().and_then(|provisional| provisional.poll_timeout());
        earlier(earlier(refresh, self.poll_reference_timeout()), earlier(provisional, answered))
    }
}

pub(super) fn number(headers: &Headers) -> u32 {
    headers.typed::<CSeq>(Name::CSeq).map_or(0, |cseq| cseq.number)
}
