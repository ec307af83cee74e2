//! `Endpoint`: every transaction and dialog behind our addresses. Messages go in as bytes with the flow they came by; out come messages
//! to send and events. It decides what RFC 3261 decides; who may call whom is the host's business.
//!
//! Drive it as every machine here: after each call drain [`Endpoint::next_send`] and [`Endpoint::next_event`], then wait until
//! [`Endpoint::poll_timeout`].

mod call;
mod core;
mod refer;
mod subscription;
mod within;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::dialog::body;
use crate::dialog::invite::{DialogEvent, DialogId, Invite};
use crate::dialog::subscription::{Subscription, SubscriptionEvent, SubscriptionId};
use crate::dialog::uac::hang_up_stray;
use crate::message::header::Reason;
use crate::message::parse::{ParseError, parse};
use crate::message::{Headers, Message, Method, Name, NameAddr, Request, Response, StatusCode, Via};
use crate::transaction::{ClientId, Failed, Key, Matched, Owner, Send, ServerId, bound};
use crate::transport::{ConnectionId, Flow, Hop, Listeners, Transport};

pub use self::core::{ACCEPT, ALLOW, ALLOW_EVENTS, SUPPORTED};
pub(crate) use self::core::{Core, SUPPORTED_WITHOUT_100REL};
pub use self::refer::Named;
pub use self::within::Within;
pub use crate::dialog::refer::{Refer, ReferId, Reports};
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
    key: Key,
    merge: Option<Key>,
}

impl Incoming {
    /// Returns the session description of its body; empty where it has none that is understood: [`Endpoint::take`] refuses what it had to be.
    #[must_use]
    pub fn session(&self) -> Bytes {
        body::session(&self.request.headers, &self.request.body).unwrap_or_default()
    }
}

/// What the host has to know or decide.
#[derive(Debug)]
pub enum Event {
    /// A request outside a dialog: admit, take or answer it.
    Request(Box<Incoming>),
    /// A request that its Route sends through us as a proxy, with a To tag: an ACK or another request in a dialog of others. That such a
    /// dialog exists is only what the request says; the host forwards it if its Record-Route bears it out.
    Forward(Box<Incoming>),
    /// A request in a dialog of ours that did not come by its peer's flow. If the host finds that the peer sent it all the same,
    /// [`Endpoint::receive_within`] takes it; else the host answers it, unless it is an ACK.
    Elsewhere(Within, Box<Incoming>),
    /// The INVITE that the host admitted by [`Endpoint::admit`] was cancelled.
    Cancel(ServerId),
    /// A response to a request of the host, or one made here: 408, 503.
    Response(ClientId, Box<Response>),
    /// Something on a leg.
    Dialog(DialogId, DialogEvent),
    /// The peer of a leg refers us elsewhere: [`Endpoint::accept_refer`] or [`Endpoint::refuse_refer`] is due.
    Refer(DialogId, Box<Refer>),
    /// Something about a subscription.
    Subscription(SubscriptionId, SubscriptionEvent),
}

/// Every transaction and dialog behind our addresses.
#[derive(Debug)]
pub struct Endpoint {
    core: Core,
    dialogs: HashMap<u64, Box<Invite>>,
    subscriptions: HashMap<u64, Box<Subscription>>,
    timers: BTreeSet<(Instant, u64)>,
    /// How many dialogs and subscriptions send to each peer of a stream transport.
    peers: HashMap<Peer, u32>,
    ended: refer::Ended,
}

/// The far end of a connection.
type Peer = (Transport, SocketAddr);

impl Endpoint {
    /// Most INVITE dialogs; beyond, [`Endpoint::take`] answers 503 and [`Endpoint::place`] fails with it.
    pub const MAX_DIALOGS: usize = bound(200_000);

    /// Starts with nothing under way.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { listeners, node, seed, product, session_interval } = setup;
        let core = Core::new(listeners, node, seed, session_interval, product);
        let (dialogs, subscriptions, peers) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { core, dialogs, subscriptions, timers: BTreeSet::new(), peers, ended: refer::Ended::default() }
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

    /// Returns true while a dialog, early ones and subscriptions included, sends its requests over a connection to this peer.
    #[must_use]
    pub fn uses(&self, transport: Transport, remote: SocketAddr) -> bool {
        self.peers.contains_key(&(transport, remote))
    }

    /// Returns the number of transactions, ours and the peers'.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.core.transactions.len()
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

    /// Takes the head of a message whose end on its stream cannot be told (§18.3): a request is refused, whatever it says; the stream ends.
    pub fn receive_broken(&mut self, flow: Flow, head: Bytes) {
        match parse(head) {
            Ok(Message::Request(request)) if request.method != Method::Ack => {
                self.refuse_unreadable(flow, StatusCode::BAD_REQUEST, &request.headers);
            }
            Err(ParseError::Refused { status, headers, method, .. }) if *method != *"ACK" => {
                self.refuse_unreadable(flow, status, &headers);
            }
            Ok(_) | Err(ParseError::Refused { .. } | ParseError::NotSip(_)) => {}
        }
    }

    /// A request that cannot be read is answered without a transaction: to where its Via says, or to its source if not even that can be
    /// read.
    fn refuse_unreadable(&mut self, flow: Flow, status: StatusCode, headers: &Headers) {
        let mut response = Response::to_headers(headers, status);
        let tag = self.core.random.token();
        response.set_to_tag(&tag);
        let Ok(via) = headers.first::<Via>(Name::Via) else {
            return self.core.transactions.send(Hop::Flow(flow), response.encode());
        };
        response.headers.pop_first(Name::Via);
        response.headers.push_front(Name::Via, via.stamped(flow.remote).to_string());
        self.core.transactions.respond_statelessly(flow, &via, &response);
    }

    fn receive_request(&mut self, now: Instant, flow: Flow, mut request: Request) {
        let Ok(via) = request.headers.first::<Via>(Name::Via) else { return };
        let via = via.stamped(flow.remote);
        request.headers.pop_first(Name::Via);
        request.headers.push_front(Name::Via, via.to_string());
        let key = match self.core.transactions.matching(now, &request, &via) {
            Matched::Absorbed => return,
            Matched::Ack(dialog) => return self.with(now, dialog, |invite, core| invite.handle_ack(core, now, &request)),
            Matched::New(key) => key,
        };
        let mut incoming = Incoming { flow, request, via, key, merge: None };
        if incoming.request.method == Method::Cancel {
            return self.receive_cancel(now, incoming);
        }
        let Some(tag) = incoming.request.to_tag() else {
            incoming.merge = (incoming.request.method != Method::Ack).then(|| self.core.transactions.merge_key(&incoming.request));
            return self.receive_outside(incoming);
        };
        match self.within(&incoming.request, &tag) {
            Some(within) if self.is_from_peer(within, &incoming) => self.take_within(now, within, incoming),
            Some(within) => self.core.events.push_back(Event::Elsewhere(within, Box::new(incoming))),
            None if self.is_routed_through(&incoming.request) => self.core.events.push_back(Event::Forward(Box::new(incoming))),
            None if incoming.request.method == Method::Ack => {}
            None => self.reply_statelessly(&incoming, StatusCode::NO_TRANSACTION),
        }
    }

    fn receive_outside(&mut self, incoming: Incoming) {
        let (method, transactions) = (&incoming.request.method, &self.core.transactions);
        match () {
            () if *method == Method::Ack && !self.is_routed_through(&incoming.request) => {}
            () if *method == Method::Ack => self.core.events.push_back(Event::Forward(Box::new(incoming))),
            // They only live in dialogs (§15.1.2).
            () if matches!(method, Method::Bye | Method::Prack | Method::Update) => {
                self.reply_statelessly(&incoming, StatusCode::NO_TRANSACTION);
            }
            () if transactions.is_merged(incoming.merge) => self.reply_statelessly(&incoming, StatusCode::LOOP_DETECTED),
            () if transactions.is_full() => self.put_off(&incoming),
            () => self.core.events.push_back(Event::Request(Box::new(incoming))),
        }
    }

    fn open(&mut self, now: Instant, incoming: &Incoming) -> ServerId {
        let Incoming { flow, request, via, key, merge } = incoming;
        self.core.transactions.open(now, (*flow, via), &request.method, *key, *merge)
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
            Some((client, Owner::Dialog(dialog))) if self.dialogs.contains_key(&dialog) => {
                self.with(now, dialog, |invite, core| invite.handle_response(core, now, client, response));
            }
            Some((client, Owner::Dialog(id))) if self.subscriptions.contains_key(&id) => {
                self.with_subscription(now, id, |subscription, core| subscription.handle_response(core, now, client, &response));
            }
            Some((client, Owner::Dialog(_))) => hang_up_stray(&mut self.core, now, client, &response),
            Some((client, Owner::Host)) => self.core.events.push_back(Event::Response(client, Box::new(response))),
            Some((_, Owner::Nobody)) | None => {}
        }
        self.tell_failed(now);
    }

    /// A connection is gone; requests that wait on it fail with 503.
    pub fn connection_closed(&mut self, now: Instant, connection: ConnectionId) {
        self.core.transactions.connection_closed(now, connection, &mut self.core.random);
        self.tell_failed(now);
    }

    /// A message of a client transaction could not be sent.
    pub fn send_failed(&mut self, now: Instant, client: ClientId) {
        self.core.transactions.send_failed(now, client, &mut self.core.random);
        self.tell_failed(now);
    }

    /// Notes the flow that a request to an address took.
    pub fn bind(&mut self, client: ClientId, flow: Flow) {
        self.core.transactions.bind(client, flow);
    }

    fn tell_failed(&mut self, now: Instant) {
        while let Some(Failed { client, owner, status }) = self.core.transactions.next_failed() {
            match owner {
                Owner::Dialog(id) if self.subscriptions.contains_key(&id) => {
                    self.with_subscription(now, id, |subscription, core| subscription.handle_failure(core, now, client, status));
                }
                Owner::Dialog(dialog) => {
                    self.with(now, dialog, |invite, core| invite.handle_response(core, now, client, Response::new(status)));
                }
                Owner::Host => self.core.events.push_back(Event::Response(client, Box::new(Response::new(status)))),
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
        let at = if invite.is_over() { None } else { invite.poll_timeout().map(|at| at.max(now)) };
        if invite.scheduled != at {
            if let Some(planned) = invite.scheduled {
                self.timers.remove(&(planned, id));
            }
            invite.scheduled = at;
            self.timers.extend(at.map(|at| (at, id)));
        }
        self.count(id);
        if self.dialogs.get(&id).is_some_and(|invite| invite.is_over())
            && let Some(invite) = self.dialogs.remove(&id)
        {
            self.ended.insert(invite.local_tag());
        }
    }

    /// Notes the peer that a dialog sends to from now on, none once it is over.
    fn count(&mut self, id: u64) {
        let Some(invite) = self.dialogs.get_mut(&id) else { return };
        let peer = invite.peer();
        let before = std::mem::replace(&mut invite.counted, peer);
        self.recount(before, peer);
    }

    fn recount(&mut self, before: Option<Peer>, peer: Option<Peer>) {
        if before == peer {
            return;
        }
        if let Some(peer) = peer {
            *self.peers.entry(peer).or_default() += 1;
        }
        if let Some(before) = before
            && let Entry::Occupied(mut dialogs) = self.peers.entry(before)
        {
            *dialogs.get_mut() -= 1;
            if *dialogs.get() == 0 {
                dialogs.remove();
            }
        }
    }

    // ---- time and output

    /// Time has passed; early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.core.transactions.handle_timeout(now);
        self.tell_failed(now);
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(invite) = self.dialogs.get_mut(&id) {
                invite.scheduled = None;
                invite.handle_timeout(&mut self.core, now);
                self.settle(now, id);
            } else {
                self.with_subscription(now, id, |subscription, core| {
                    subscription.scheduled = None;
                    subscription.handle_timeout(core, now);
                });
            }
        }
    }

    /// Returns when to call [`Endpoint::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        crate::transaction::timer::earlier(self.core.transactions.poll_timeout(), self.timers.first().map(|(at, _)| *at))
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

    fn refuse_statelessly(&mut self, incoming: &Incoming, status: StatusCode, name: Name, value: &str) {
        let mut response = self.reply(&incoming.request, status);
        if !value.is_empty() {
            response.headers.push(name, value);
        }
        self.respond_statelessly(incoming, &response);
    }

    /// Too many transactions: later, and not all at the same time.
    fn put_off(&mut self, incoming: &Incoming) {
        let after = self.retry_after();
        self.refuse_statelessly(incoming, StatusCode::SERVICE_UNAVAILABLE, Name::RetryAfter, &after);
    }

    fn retry_after(&mut self) -> String {
        (5 + self.core.random.below(30)).to_string()
    }

    /// Opens the server transaction of a request that is no INVITE for us; an INVITE admitted so is the host's own (a proxy's).
    /// A request that came twice before it was admitted has one transaction; its second answer goes nowhere.
    pub fn admit(&mut self, now: Instant, incoming: &Incoming) -> ServerId {
        if let Some(server) = self.core.transactions.opened(incoming.key) {
            return server;
        }
        let server = self.open(now, incoming);
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
        let client = self.core.begin(now, request, hop, Owner::Host, None);
        self.tell_failed(now);
        client
    }

    /// As [`Endpoint::request`], for a proxy: the hash in the branch tells a loop (§16.6 item 8).
    pub fn forward_request(&mut self, now: Instant, request: Request, hop: Hop, loop_hash: u64) -> ClientId {
        let client = self.core.begin(now, request, hop, Owner::Host, Some(loop_hash));
        self.tell_failed(now);
        client
    }

    /// Sends a request without a transaction: an ACK that a proxy passes on.
    pub fn forward(&mut self, request: Request, hop: Hop) {
        self.core.send_ack(request, hop);
    }

    /// Cancels an INVITE of the host's own; false while it has no provisional response, or has its final one. If no final response
    /// comes within 64·T1, a 408 made here ends it (§9.1).
    pub fn cancel_request(&mut self, now: Instant, client: ClientId, reason: Option<&Reason>) -> bool {
        self.core.transactions.cancel(now, client, reason)
    }
}

/// Returns the options of Require that we do not understand as a UAS (§8.2.2.3).
#[must_use]
pub fn unsupported(request: &Request) -> String {
    let unknown = request.headers.tokens(Name::Require).filter(|option| !SUPPORTED.iter().any(|ours| ours.eq_ignore_ascii_case(option)));
    unknown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    //! What happens at the bounds; all else is in `tests/endpoint`.

    use super::*;
    use crate::Transport;
    use crate::message::header::Header as _;
    use crate::transaction::testing::epoch;

    const CONTACT: &str = "Contact: <sip:b@10.0.0.2>\r\n";

    struct Bench {
        endpoint: Endpoint,
        now: Instant,
        flow: Flow,
    }

    impl Bench {
        fn new() -> Self {
            let (ours, theirs) = ("10.0.0.1:5060", "10.0.0.2:5060");
            let parse = |text: &str| text.parse().expect("an address");
            let flow = Flow { transport: Transport::Udp, local: parse(ours), remote: parse(theirs), connection: None };
            let listeners = Listeners(vec![(Transport::Udp, flow.local)]);
            let session_interval = Duration::from_secs(1800);
            let setup = Setup { listeners, node: 0, seed: [1; 32], product: String::new(), session_interval };
            Self { endpoint: Endpoint::new(setup), now: epoch(), flow }
        }

        fn receive(&mut self, method: &str, number: usize, tag: &str) {
            let text = format!(
                "{method} sip:a@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK{number}\r\nFrom: <sip:b@h>;tag=1\r\n\
                 To: <sip:a@h>{tag}\r\nCall-ID: c\r\nCSeq: {number} {method}\r\n{CONTACT}\r\n"
            );
            self.endpoint.receive(self.now, self.flow, Bytes::from(text));
        }

        fn statuses(&mut self) -> Vec<u16> {
            let mut statuses = Vec::new();
            while let Some(send) = self.endpoint.next_send() {
                if let Ok(Message::Response(response)) = parse(send.bytes) {
                    statuses.push(response.status.code());
                }
            }
            statuses
        }

        fn requests(&mut self) -> Vec<Incoming> {
            let events = std::iter::from_fn(|| self.endpoint.next_event());
            events.filter_map(|event| if let Event::Request(incoming) = event { Some(*incoming) } else { None }).collect()
        }

        fn call(&self) -> OutgoingInvite {
            let address = |text: &str| NameAddr::parse(&text.into()).expect("an address");
            let (from, to) = (address("<sip:a@h>"), address("<sip:b@h>"));
            let (uri, hop) = (to.uri.clone(), Hop::Flow(self.flow));
            OutgoingInvite { uri, routes: Vec::new(), hop, from, to, headers: Headers::default(), body: Bytes::new() }
        }
    }

    #[test]
    fn beyond_its_bounds_an_endpoint_takes_only_what_ends_a_call() {
        // S11
        let mut bench = Bench::new();
        bench.receive("INVITE", 1, "");
        let incoming = bench.requests().remove(0);
        let id = bench.endpoint.take(bench.now, incoming).expect("the first call is taken");
        bench.endpoint.accept(bench.now, id, Bytes::new());
        let tag = format!(";tag={}", bench.endpoint.dialogs[&id.0].local_tag());
        bench.receive("ACK", 1, &tag);
        let _ = (bench.statuses(), bench.requests());
        let mut number = 2;
        while bench.endpoint.transactions() < 10 {
            bench.receive("OPTIONS", number, "");
            let incoming = bench.requests().remove(0);
            bench.endpoint.admit(bench.now, &incoming);
            number += 1;
        }
        bench.receive("OPTIONS", 90, "");
        assert_eq!((bench.statuses(), bench.requests().len()), (vec![503], 0), "outside a dialog");
        while bench.endpoint.transactions() < 20 {
            bench.receive("INFO", number, &tag);
            number += 1;
        }
        bench.receive("INFO", 91, &tag);
        assert_eq!((bench.statuses(), bench.endpoint.transactions()), (vec![503], 20), "in a dialog");
        bench.receive("BYE", 92, &tag);
        assert_eq!((bench.statuses(), bench.endpoint.dialogs()), (vec![200], 0), "BYE is always taken");
    }

    #[test]
    fn beyond_its_bounds_an_endpoint_takes_no_subscription() {
        // S11
        let mut bench = Bench::new();
        let subscribe = |bench: &mut Bench, number: usize| {
            let text = format!(
                "SUBSCRIBE sip:a@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK{number}\r\nFrom: <sip:b@h>;tag=1\r\n\
                 To: <sip:a@h>\r\nCall-ID: c{number}\r\nCSeq: 1 SUBSCRIBE\r\nEvent: presence\r\n{CONTACT}\r\n"
            );
            bench.endpoint.receive(bench.now, bench.flow, Bytes::from(text));
            let incoming = bench.requests().pop();
            incoming.and_then(|incoming| bench.endpoint.subscribe(bench.now, &incoming))
        };
        for number in 0..Endpoint::MAX_SUBSCRIPTIONS {
            assert!(subscribe(&mut bench, number).is_some());
            bench.now += Duration::from_secs(33); // its transaction is over
            bench.endpoint.handle_timeout(bench.now);
        }
        let _ = bench.statuses();
        assert_eq!(subscribe(&mut bench, 99), None);
        assert_eq!((bench.statuses(), bench.endpoint.subscriptions()), (vec![503], Endpoint::MAX_SUBSCRIPTIONS));
    }

    #[test]
    fn beyond_its_bounds_an_endpoint_begins_nothing() {
        let mut bench = Bench::new();
        for _ in 0..Endpoint::MAX_DIALOGS {
            bench.endpoint.place(bench.now, bench.call());
        }
        assert_eq!(bench.requests().len(), 0);
        bench.receive("INVITE", 1, "");
        let incoming = bench.requests().remove(0);
        assert_eq!(bench.endpoint.take(bench.now, incoming), None);
        assert_eq!(bench.statuses(), [503]);
        bench.endpoint.place(bench.now, bench.call());
        let failed = bench.endpoint.next_event();
        assert!(
            matches!(failed, Some(Event::Dialog(_, DialogEvent::Failed { status: StatusCode::SERVICE_UNAVAILABLE, .. }))),
            "{failed:?}"
        );
        let request = Request::new(Method::Options, bench.call().uri);
        let client = bench.endpoint.request(bench.now, request, Hop::Flow(bench.flow));
        let failed = bench.endpoint.next_event();
        assert!(matches!(failed, Some(Event::Response(id, r)) if id == client && r.status == StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!((bench.endpoint.dialogs(), bench.endpoint.transactions()), (10, 10));
    }
}
