//! `Endpoint`: every transaction and dialog behind our addresses. Messages go in as bytes with the flow they came by; out come messages
//! to send and events. It decides what RFC 3261 decides; who may call whom is the host's business.
//!
//! Drive it as every machine here: after each call drain [`Endpoint::next_send`] and [`Endpoint::next_event`], then wait until
//! [`Endpoint::poll_timeout`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use crate::dialog::invite::{CommandError, DialogEvent, DialogId, Invite};
use crate::message::header::{Reason, Replaces};
use crate::message::parse::{ParseError, parse};
use crate::message::{Headers, Message, Method, Name, NameAddr, Request, Response, StatusCode, Via};
use crate::random::Random;
use crate::transaction::{ClientId, Failed, Matched, Owner, Send, ServerId, Transactions};
use crate::transport::{ConnectionId, Flow, Hop, Listeners};

pub use crate::dialog::uac::OutgoingInvite;

/// What an endpoint starts from.
#[derive(Debug)]
pub struct Setup {
    /// The addresses we listen on.
    pub listeners: Listeners,
    /// Which of several loops this is; part of every id, tag and branch.
    pub node: u8,
    /// Seed of tags, branches and Call-IDs, from the operating system.
    pub seed: [u8; 32],
    /// User-Agent and Server.
    pub product: String,
    /// The session interval we propose (RFC 4028), 1800 s by default.
    pub session_interval: Duration,
}

/// A request outside a dialog, for the host to decide about. Nothing is kept of it until the host admits it.
#[derive(Debug)]
pub struct Incoming {
    /// The flow it came by.
    pub flow: Flow,
    /// The request, its topmost Via stamped with the source (RFC 3581).
    pub request: Request,
    via: Via,
    key: ByteString,
}

/// What the host has to know or decide.
#[derive(Debug)]
pub enum Event {
    /// A request outside a dialog: admit, take or answer it.
    Request(Box<Incoming>),
    /// A request to be forwarded as it is: an ACK or another request in a dialog that runs through us as a proxy.
    Forward(Box<Incoming>),
    /// The INVITE that the host admitted by [`Endpoint::admit`] was cancelled.
    Cancel(ServerId),
    /// A response to a request of the host, or one made here: 408, 503.
    Response(ClientId, Box<Response>),
    /// Something on a leg.
    Dialog(DialogId, DialogEvent),
}

/// What dialogs and transactions share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) transactions: Transactions,
    pub(crate) random: Random,
    pub(crate) events: VecDeque<Event>,
    pub(crate) session_interval: Duration,
    product: String,
}

/// The methods we take within calls; the host may take more outside.
pub const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, REGISTER";
/// The extensions that a UAS of ours understands (RFC 3262, 4028, 3891).
pub const SUPPORTED: [&str; 3] = ["100rel", "timer", "replaces"];

impl Core {
    /// Returns the tag of a dialog of ours: its number, then what cannot be guessed.
    pub(crate) fn tag(&mut self, id: u64) -> ByteString {
        format!("{id:016x}{}", self.random.token()).into()
    }

    pub(crate) fn response(&self, request: &Request, status: StatusCode, tag: &str) -> Response {
        let mut response = Response::to(request, status);
        response.set_to_tag(tag);
        match status {
            StatusCode::METHOD_NOT_ALLOWED => response.headers.push(Name::Allow, ALLOW),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => response.headers.push(Name::Accept, "application/sdp"),
            _ => {}
        }
        response
    }

    pub(crate) fn reply(&mut self, now: Instant, server: ServerId, request: &Request, status: StatusCode, tag: &str) {
        let response = self.response(request, status, tag);
        self.transactions.respond(now, server, &response);
    }

    /// Writes Contact, Allow, Supported and who we are, towards a peer.
    pub(crate) fn describe(&self, headers: &mut Headers, hop: &Hop) {
        headers.push(Name::Contact, self.contact(hop));
        headers.push(Name::Allow, ALLOW);
        headers.push(Name::Supported, SUPPORTED.join(", "));
        headers.push(Name::UserAgent, &self.product);
    }

    pub(crate) fn supported_without_100rel(&self) -> String {
        SUPPORTED.iter().filter(|option| **option != "100rel").copied().collect::<Vec<_>>().join(", ")
    }

    fn contact(&self, hop: &Hop) -> String {
        let transport = hop.transport();
        let ours = self.transactions.listeners().towards(hop).map_or_else(|| "invalid.invalid".to_owned(), |a| a.to_string());
        if transport == crate::Transport::Udp {
            return format!("<sip:{ours}>");
        }
        format!("<sip:{ours};transport={}>", transport.param())
    }
}

/// Every transaction and dialog behind our addresses.
#[derive(Debug)]
pub struct Endpoint {
    core: Core,
    dialogs: HashMap<u64, Invite>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Endpoint {
    /// Starts with nothing under way.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let core = Core {
            transactions: Transactions::new(setup.listeners, setup.node),
            random: Random::new(setup.seed),
            events: VecDeque::new(),
            session_interval: setup.session_interval,
            product: setup.product,
        };
        Self { core, dialogs: HashMap::new(), timers: BinaryHeap::new() }
    }

    /// Returns the addresses we listen on.
    #[must_use]
    pub fn listeners(&self) -> &Listeners {
        self.core.transactions.listeners()
    }

    /// Returns the number of INVITE dialogs.
    #[must_use]
    pub fn dialogs(&self) -> usize {
        self.dialogs.len()
    }

    // ---- input

    /// Takes a message: a datagram, a frame, or what the framing cut out of a stream.
    pub fn receive(&mut self, now: Instant, flow: Flow, bytes: Bytes) {
        match parse(bytes) {
            Ok(Message::Request(request)) => self.receive_request(now, flow, request),
            Ok(Message::Response(response)) => self.receive_response(now, response),
            Err(ParseError::Refused { status, headers, method, .. }) if *method != *"ACK" => {
                self.refuse_unreadable(flow, status, &headers);
            }
            Err(ParseError::Refused { .. } | ParseError::NotSip(_)) => {}
        }
    }

    /// A request that cannot be read is answered without a transaction, where its Via can be.
    fn refuse_unreadable(&mut self, flow: Flow, status: StatusCode, headers: &Headers) {
        let Ok(via) = headers.first::<Via>(Name::Via) else { return };
        let mut response = Response::to_headers(headers, status);
        let tag = self.core.random.token();
        response.set_to_tag(&tag);
        self.core.transactions.respond_statelessly(flow, &via, &response);
    }

    fn receive_request(&mut self, now: Instant, flow: Flow, mut request: Request) {
        let Ok(via) = request.headers.first::<Via>(Name::Via) else { return };
        let via = via.stamped(flow.remote);
        request.headers.pop_first(Name::Via);
        request.headers.push_front(Name::Via, via.to_string());
        let (key, merged) = match self.core.transactions.matching(now, &request, &via) {
            Matched::Absorbed => return,
            Matched::Ack(Some(dialog)) => return self.with(now, dialog, |invite, core| invite.handle_ack(core, now, &request)),
            Matched::Ack(None) => return,
            Matched::New { key, merged } => (key, merged),
        };
        let incoming = Incoming { flow, request, via, key };
        if incoming.request.method == Method::Cancel {
            return self.receive_cancel(now, &incoming);
        }
        let Some(tag) = incoming.request.to_tag() else {
            return self.receive_outside(incoming, merged);
        };
        match self.dialog_of(&incoming.request, &tag) {
            Some(dialog) => self.receive_inside(now, dialog, incoming),
            None if self.is_routed_through(&incoming.request) => self.core.events.push_back(Event::Forward(Box::new(incoming))),
            None if incoming.request.method == Method::Ack => {}
            None => self.reply_statelessly(&incoming, StatusCode::NO_TRANSACTION),
        }
    }

    fn receive_outside(&mut self, incoming: Incoming, merged: bool) {
        if incoming.request.method == Method::Ack {
            if self.is_routed_through(&incoming.request) {
                self.core.events.push_back(Event::Forward(Box::new(incoming)));
            }
            return;
        }
        if merged {
            return self.reply_statelessly(&incoming, StatusCode::LOOP_DETECTED);
        }
        if self.core.transactions.is_full() {
            let mut response = self.reply(&incoming.request, StatusCode::SERVICE_UNAVAILABLE);
            response.headers.push(Name::RetryAfter, (5 + self.core.random.below(30)).to_string());
            return self.respond_statelessly(&incoming, &response);
        }
        self.core.events.push_back(Event::Request(Box::new(incoming)));
    }

    fn receive_inside(&mut self, now: Instant, dialog: u64, incoming: Incoming) {
        if incoming.request.method == Method::Ack {
            return self.with(now, dialog, |invite, core| invite.handle_ack(core, now, &incoming.request));
        }
        let unsupported = unsupported(&incoming.request);
        if !unsupported.is_empty() {
            return self.refuse_extension(&incoming, &unsupported);
        }
        let server = self.core.transactions.open(incoming.flow, &incoming.request, incoming.key, &incoming.via);
        self.with(now, dialog, |invite, core| invite.handle_request(core, now, server, incoming.request));
    }

    fn receive_cancel(&mut self, now: Instant, incoming: &Incoming) {
        let Some((server, dialog, proceeding)) = self.core.transactions.cancelled(&incoming.request, &incoming.via) else {
            return self.reply_statelessly(incoming, StatusCode::NO_TRANSACTION);
        };
        let own = self.core.transactions.open(incoming.flow, &incoming.request, incoming.key.clone(), &incoming.via);
        let tag = dialog.and_then(|id| self.dialogs.get(&id)).map(|invite| invite.local_tag().to_owned());
        let tag = tag.unwrap_or_else(|| self.core.random.token().to_string());
        self.core.reply(now, own, &incoming.request, StatusCode::OK, &tag);
        match dialog {
            _ if !proceeding => {}
            Some(dialog) => self.with(now, dialog, |invite, core| invite.handle_cancel(core, now, &incoming.request)),
            None => self.core.events.push_back(Event::Cancel(server)),
        }
    }

    fn dialog_of(&self, request: &Request, local_tag: &str) -> Option<u64> {
        let id = u64::from_str_radix(local_tag.get(..16)?, 16).ok()?;
        let call_id = request.headers.call_id().ok()?;
        let remote_tag = request.from_tag().unwrap_or_default();
        self.dialogs.get(&id).filter(|invite| invite.matches(&call_id, local_tag, &remote_tag)).map(|_| id)
    }

    /// Returns true when the topmost Route is ours: we put it there by Record-Route as a proxy (§16.4).
    fn is_routed_through(&self, request: &Request) -> bool {
        let Ok(route) = request.headers.first::<NameAddr>(Name::Route) else { return false };
        let Some(ip) = route.uri.host().and_then(crate::Host::ip) else { return false };
        let transport = route.uri.transport().unwrap_or(crate::Transport::Udp);
        let port = route.uri.port().unwrap_or_else(|| transport.default_port());
        route.uri.is_loose_router() && self.listeners().is_ours(std::net::SocketAddr::new(ip, port))
    }

    fn receive_response(&mut self, now: Instant, response: Response) {
        match self.core.transactions.receive(now, &response) {
            Some((client, Owner::Dialog(dialog))) => {
                self.with(now, dialog, |invite, core| invite.handle_response(core, now, client, response));
            }
            Some((client, Owner::Host)) => self.core.events.push_back(Event::Response(client, Box::new(response))),
            Some((_, Owner::Nobody)) | None => {}
        }
        self.tell_failed(now);
    }

    /// A connection is gone; requests that wait on it fail with 503.
    pub fn connection_closed(&mut self, now: Instant, connection: ConnectionId) {
        self.core.transactions.connection_closed(connection);
        self.tell_failed(now);
    }

    /// A message of a client transaction could not be sent.
    pub fn send_failed(&mut self, now: Instant, client: ClientId) {
        self.core.transactions.send_failed(client);
        self.tell_failed(now);
    }

    /// Notes the flow that a request to an address took.
    pub fn bind(&mut self, client: ClientId, flow: Flow) {
        self.core.transactions.bind(client, flow);
    }

    fn tell_failed(&mut self, now: Instant) {
        while let Some(Failed { client, owner, status }) = self.core.transactions.next_failed() {
            let response = Response::new(status);
            match owner {
                Owner::Dialog(dialog) => self.with(now, dialog, |invite, core| invite.handle_response(core, now, client, response)),
                Owner::Host => self.core.events.push_back(Event::Response(client, Box::new(response))),
                Owner::Nobody => {}
            }
        }
    }

    /// Works on one dialog, then puts its next time on the heap, or drops it if it is over.
    fn with<R: Default>(&mut self, now: Instant, id: u64, work: impl FnOnce(&mut Invite, &mut Core) -> R) -> R {
        let Some(invite) = self.dialogs.get_mut(&id) else { return R::default() };
        let result = work(invite, &mut self.core);
        self.settle(now, id);
        result
    }

    fn settle(&mut self, now: Instant, id: u64) {
        let Some(invite) = self.dialogs.get_mut(&id) else { return };
        if invite.is_ended() {
            self.dialogs.remove(&id);
            return;
        }
        let at = invite.poll_timeout().map(|at| at.max(now));
        if let Some(at) = at
            && invite.scheduled.is_none_or(|planned| at < planned)
        {
            invite.scheduled = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    // ---- time and output

    /// Time has passed; early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.core.transactions.handle_timeout(now);
        self.tell_failed(now);
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            if let Some(invite) = self.dialogs.get_mut(&id) {
                invite.scheduled = None;
                invite.handle_timeout(&mut self.core, now);
                self.settle(now, id);
            }
        }
    }

    /// Returns when to call [`Endpoint::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dialogs = self.timers.peek().map(|Reverse((at, _))| *at);
        crate::transaction::timer::earlier(self.core.transactions.poll_timeout(), dialogs)
    }

    /// Returns the next message to send.
    pub fn next_send(&mut self) -> Option<Send> {
        self.core.transactions.next_send()
    }

    /// Returns the next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.core.events.pop_front()
    }

    // ---- requests outside a dialog

    /// Makes the response to a request, with a tag for To.
    #[must_use]
    pub fn reply(&mut self, request: &Request, status: StatusCode) -> Response {
        let tag = self.core.random.token();
        self.core.response(request, status, &tag)
    }

    /// Answers a request and forgets it: for strangers, who shall cost us no memory (S11).
    pub fn respond_statelessly(&mut self, incoming: &Incoming, response: &Response) {
        self.core.transactions.respond_statelessly(incoming.flow, &incoming.via, response);
    }

    fn reply_statelessly(&mut self, incoming: &Incoming, status: StatusCode) {
        let response = self.reply(&incoming.request, status);
        self.respond_statelessly(incoming, &response);
    }

    fn refuse_extension(&mut self, incoming: &Incoming, unsupported: &str) {
        let mut response = self.reply(&incoming.request, StatusCode::BAD_EXTENSION);
        response.headers.push(Name::Unsupported, unsupported);
        self.respond_statelessly(incoming, &response);
    }

    /// Opens the server transaction of a request that is no INVITE for us; an INVITE admitted so is the host's own (a proxy's).
    pub fn admit(&mut self, now: Instant, incoming: &Incoming) -> ServerId {
        let server = self.core.transactions.open(incoming.flow, &incoming.request, incoming.key.clone(), &incoming.via);
        if incoming.request.method == Method::Invite {
            let trying = Response::to(&incoming.request, StatusCode::TRYING);
            self.core.transactions.respond(now, server, &trying);
        }
        server
    }

    /// Answers an admitted request, or one that came within a dialog.
    pub fn respond(&mut self, now: Instant, server: ServerId, response: &Response) {
        self.core.transactions.respond(now, server, response);
    }

    /// Sends a request of the host's own, which has every header but Via. The response comes as [`Event::Response`].
    pub fn request(&mut self, now: Instant, request: Request, hop: Hop) -> ClientId {
        self.core.transactions.request(now, request, hop, Owner::Host, &mut self.core.random)
    }

    /// Sends a request without a transaction: an ACK that a proxy passes on.
    pub fn forward(&mut self, request: Request, hop: Hop) {
        self.core.transactions.send_ack(request, hop, &mut self.core.random);
    }

    /// Cancels an INVITE of the host's own; false while it has no provisional response, or has its final one.
    pub fn cancel_request(&mut self, now: Instant, client: ClientId, reason: Option<&Reason>) -> bool {
        self.core.transactions.cancel(now, client, reason)
    }

    // ---- calls

    /// Takes an INVITE as callee: 100 goes out, the dialog begins. None if it was refused here (400, 415, 420, 422).
    pub fn take(&mut self, now: Instant, incoming: Incoming) -> Option<DialogId> {
        let unsupported = unsupported(&incoming.request);
        if !unsupported.is_empty() {
            self.refuse_extension(&incoming, &unsupported);
            return None;
        }
        let server = self.admit(now, &incoming);
        let id = self.core.transactions.id();
        let Incoming { flow, request, .. } = incoming;
        let copy = Response::to(&request, StatusCode::BAD_REQUEST);
        match Invite::incoming(&mut self.core, now, (id, server, flow), request) {
            Ok(invite) if invite.is_ended() => None,
            Ok(invite) => {
                self.dialogs.insert(id, invite);
                Some(DialogId(id))
            }
            Err(_) => {
                let mut response = copy;
                let tag = self.core.random.token();
                response.set_to_tag(&tag);
                self.core.transactions.respond(now, server, &response);
                None
            }
        }
    }

    /// Places a call.
    pub fn place(&mut self, now: Instant, call: OutgoingInvite) -> DialogId {
        let id = self.core.transactions.id();
        let invite = Invite::outgoing(&mut self.core, now, id, call);
        self.dialogs.insert(id, invite);
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

    /// Sends the ACK that is due, with an answer or an empty body.
    pub fn acknowledge(&mut self, now: Instant, dialog: DialogId, body: Bytes) {
        self.with(now, dialog.0, |invite, core| invite.acknowledge(core, now, body));
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

    /// Sends another request within a session; its response comes as [`DialogEvent::Response`]. None without a session.
    pub fn request_within(&mut self, now: Instant, dialog: DialogId, method: Method, headers: &Headers, body: Bytes) -> Option<ClientId> {
        self.with(now, dialog.0, |invite, core| invite.request(core, now, method, headers, body))
    }

    /// Finds the dialog that a Replaces header names (RFC 3891 §3), and whether it is early.
    #[must_use]
    pub fn replaced(&self, replaces: &Replaces) -> Option<(DialogId, bool)> {
        let id = u64::from_str_radix(replaces.to_tag.get(..16)?, 16).ok()?;
        let invite = self.dialogs.get(&id)?;
        invite.matches(&replaces.call_id, &replaces.to_tag, &replaces.from_tag).then(|| (DialogId(id), invite.is_early()))
    }

    fn command(
        &mut self,
        now: Instant,
        dialog: DialogId,
        work: impl FnOnce(&mut Invite, &mut Core) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        self.with(now, dialog.0, |invite, core| Some(work(invite, core))).unwrap_or(Err(CommandError::Gone))
    }
}

/// Returns the options of Require that we do not understand as a UAS (§8.2.2.3).
#[must_use]
pub fn unsupported(request: &Request) -> String {
    let unknown = request.headers.tokens(Name::Require).filter(|option| !SUPPORTED.iter().any(|ours| ours.eq_ignore_ascii_case(option)));
    unknown.collect::<Vec<_>>().join(", ")
}
