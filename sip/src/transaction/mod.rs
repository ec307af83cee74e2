//! Transactions (RFC 3261 §17): the four machines, and the layer that matches messages to them (§17.1.3, §17.2.3), keeps what they
//! repeat and runs their timers.
//!
//! It knows no dialogs: what a machine passes up comes out of [`Transactions::receive`] and [`Transactions::next_event`].

mod client;
mod invite_client;
mod invite_server;
mod server;
pub mod timer;

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;

use crate::message::header::{CSeq, Reason};
use crate::message::{Method, Name, NameAddr, Request, Response, StatusCode, Via};
use crate::random::Random;
use crate::transport::{ConnectionId, Flow, Hop, Listeners};
use client::Client;
use invite_client::InviteClient;
use invite_server::InviteServer;
use server::Server;

/// Names one of our client transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(crate) u64);

/// Names one of our server transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub(crate) u64);

/// Who gets the responses of a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A dialog, by its number.
    Dialog(u64),
    /// The host, which sent the request itself.
    Host,
    /// Nobody waits for them (BYE, CANCEL, PRACK).
    Nobody,
}

/// What a machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Send the response just given, and keep it.
    Send,
    /// Send the kept message again.
    Resend,
    /// Pass the message up.
    Pass,
    /// Send an ACK.
    Ack,
    /// Send an ACK and pass the response up.
    AckAndPass,
    /// It ended without the message it waited for.
    TimedOut,
    /// It ended.
    Terminated,
}

/// The class of a response, as far as the machines care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusClass {
    /// 1xx
    Provisional,
    /// 2xx
    Success,
    /// 3xx to 6xx
    Failure,
}

impl From<StatusCode> for StatusClass {
    fn from(status: StatusCode) -> Self {
        match status {
            status if status.is_provisional() => Self::Provisional,
            status if status.is_success() => Self::Success,
            _ => Self::Failure,
        }
    }
}

/// A message for the wire.
#[derive(Debug)]
pub struct Send {
    /// Where to.
    pub hop: Hop,
    /// For a response, where else if its connection is gone (§18.2.2).
    pub fallback: Option<SocketAddr>,
    /// The message.
    pub bytes: Bytes,
    /// The client transaction that fails if this cannot be sent.
    pub client: Option<ClientId>,
}

/// What a client transaction came to without a response.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) client: ClientId,
    pub(crate) owner: Owner,
    pub(crate) status: StatusCode,
}

#[derive(Debug)]
enum ClientMachine {
    Invite(InviteClient, Box<Request>),
    Other(Client),
}

#[derive(Debug)]
struct ClientTransaction {
    machine: ClientMachine,
    method: Method,
    branch: ByteString,
    hop: Hop,
    bytes: Bytes,
    owner: Owner,
    scheduled: Option<Instant>,
}

#[derive(Debug)]
enum ServerMachine {
    Invite(InviteServer),
    Other(Server),
}

#[derive(Debug)]
struct ServerTransaction {
    machine: ServerMachine,
    key: ByteString,
    merge: u64,
    flow: Flow,
    via: SocketAddr,
    last: Option<Bytes>,
    dialog: Option<u64>,
    scheduled: Option<Instant>,
}

/// What a request belongs to.
#[derive(Debug)]
pub(crate) enum Matched {
    /// A repetition, or the ACK of a failure: dealt with.
    Absorbed,
    /// The ACK of a 2xx whose transaction is still there, with its dialog.
    Ack(Option<u64>),
    /// A new request.
    New {
        /// The key to open a transaction with.
        key: ByteString,
        /// True when the same request came by another path (§8.2.2.2).
        merged: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerOf {
    Client(u64),
    Server(u64),
}

/// All transactions behind our addresses.
#[derive(Debug)]
pub(crate) struct Transactions {
    listeners: Listeners,
    node: u8,
    next: u64,
    clients: HashMap<u64, ClientTransaction>,
    by_connection: BTreeSet<(ConnectionId, u64)>,
    servers: HashMap<u64, ServerTransaction>,
    by_key: HashMap<ByteString, u64>,
    by_merge: HashMap<u64, u64>,
    hasher: RandomState,
    timers: BinaryHeap<Reverse<(Instant, TimerOf)>>,
    sends: VecDeque<Send>,
    failed: VecDeque<Failed>,
}

impl Transactions {
    /// Most server transactions at a time; a new request beyond is answered 503 without one.
    pub(crate) const MAX_SERVERS: usize = 400_000;

    pub(crate) fn new(listeners: Listeners, node: u8) -> Self {
        Self {
            listeners,
            node,
            next: 0,
            clients: HashMap::new(),
            by_connection: BTreeSet::new(),
            servers: HashMap::new(),
            by_key: HashMap::new(),
            by_merge: HashMap::new(),
            hasher: RandomState::new(),
            timers: BinaryHeap::new(),
            sends: VecDeque::new(),
            failed: VecDeque::new(),
        }
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    pub(crate) fn is_full(&self) -> bool {
        self.servers.len() >= Self::MAX_SERVERS
    }

    /// Returns a number that was never used before; its top byte names the loop it belongs to.
    pub(crate) fn id(&mut self) -> u64 {
        self.next += 1;
        u64::from(self.node) << 56 | self.next
    }

    pub(crate) fn next_send(&mut self) -> Option<Send> {
        self.sends.pop_front()
    }

    pub(crate) fn next_failed(&mut self) -> Option<Failed> {
        self.failed.pop_front()
    }

    // ---- server side

    /// Finds what a request belongs to (§17.2.3).
    pub(crate) fn matching(&mut self, now: Instant, request: &Request, via: &Via) -> Matched {
        let key = server_key(request, via, &request.method);
        if let Some(id) = self.by_key.get(&key).copied() {
            return self.repeated(now, id, request.method == Method::Ack);
        }
        let merged = request.method != Method::Ack && request.to_tag().is_none() && self.by_merge.contains_key(&self.merge_hash(request));
        Matched::New { key, merged }
    }

    fn repeated(&mut self, now: Instant, id: u64, is_ack: bool) -> Matched {
        let Some(server) = self.servers.get_mut(&id) else { return Matched::Absorbed };
        let action = match &mut server.machine {
            ServerMachine::Invite(machine) => {
                machine.handle_input(now, if is_ack { invite_server::Input::Ack } else { invite_server::Input::Request })
            }
            ServerMachine::Other(machine) => machine.handle_input(now, server::Input::Request),
        };
        let dialog = server.dialog;
        self.act_server(now, id, action, None);
        if action == Action::Pass { Matched::Ack(dialog) } else { Matched::Absorbed }
    }

    /// Finds the INVITE that a CANCEL is for (§9.2): its transaction and dialog. None if it is gone or has its final response.
    pub(crate) fn cancelled(&self, cancel: &Request, via: &Via) -> Option<(ServerId, Option<u64>, bool)> {
        let id = *self.by_key.get(&server_key(cancel, via, &Method::Invite))?;
        let server = self.servers.get(&id)?;
        match &server.machine {
            ServerMachine::Invite(machine) => Some((ServerId(id), server.dialog, machine.state() == invite_server::State::Proceeding)),
            ServerMachine::Other(_) => None,
        }
    }

    fn merge_hash(&self, request: &Request) -> u64 {
        let cseq = request.headers.get(Name::CSeq);
        self.hasher.hash_one((request.headers.get(Name::CallId), request.from_tag(), cseq))
    }

    /// Opens a server transaction.
    pub(crate) fn open(&mut self, flow: Flow, request: &Request, key: ByteString, via: &Via) -> ServerId {
        let id = self.id();
        let reliable = flow.transport.is_reliable();
        let machine = if request.method == Method::Invite {
            ServerMachine::Invite(InviteServer::new(reliable))
        } else {
            ServerMachine::Other(Server::new(reliable))
        };
        let merge = if request.to_tag().is_none() { self.merge_hash(request) } else { 0 };
        if merge != 0 {
            self.by_merge.insert(merge, id);
        }
        self.by_key.insert(key.clone(), id);
        let via = response_address(via, flow);
        self.servers.insert(id, ServerTransaction { machine, key, merge, flow, via, last: None, dialog: None, scheduled: None });
        ServerId(id)
    }

    /// Notes the dialog that an INVITE's ACK and CANCEL belong to.
    pub(crate) fn attach(&mut self, id: ServerId, dialog: u64) {
        if let Some(server) = self.servers.get_mut(&id.0) {
            server.dialog = Some(dialog);
        }
    }

    pub(crate) fn respond(&mut self, now: Instant, id: ServerId, response: &Response) {
        let class = StatusClass::from(response.status);
        let Some(server) = self.servers.get_mut(&id.0) else { return };
        let action = match &mut server.machine {
            ServerMachine::Invite(machine) => machine.handle_input(now, invite_server::Input::Response(class)),
            ServerMachine::Other(machine) => machine.handle_input(now, server::Input::Response(class)),
        };
        self.act_server(now, id.0, action, Some(response));
    }

    /// Sends a response that no transaction keeps.
    pub(crate) fn respond_statelessly(&mut self, flow: Flow, via: &Via, response: &Response) {
        let via = response_address(via, flow);
        self.sends.push_back(respond_on(flow, via, response.encode()));
    }

    fn act_server(&mut self, now: Instant, id: u64, action: Action, response: Option<&Response>) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        match action {
            Action::Send => {
                let bytes = response.map(Response::encode).unwrap_or_default();
                // A 2xx to INVITE is repeated by its dialog (§13.3.1.4), all else by the transaction.
                server.last = Some(bytes.clone());
                self.sends.push_back(respond_on(server.flow, server.via, bytes));
            }
            Action::Resend => {
                if let Some(bytes) = server.last.clone() {
                    self.sends.push_back(respond_on(server.flow, server.via, bytes));
                }
            }
            Action::TimedOut | Action::Terminated => {
                let Some(server) = self.servers.remove(&id) else { return };
                self.by_key.remove(&server.key);
                if self.by_merge.get(&server.merge) == Some(&id) {
                    self.by_merge.remove(&server.merge);
                }
                return;
            }
            Action::None | Action::Pass | Action::Ack | Action::AckAndPass => {}
        }
        let at = match &server.machine {
            ServerMachine::Invite(machine) => machine.poll_timeout(),
            ServerMachine::Other(machine) => machine.poll_timeout(),
        };
        if at.is_some_and(|at| at <= now) {
            return self.fire(now, TimerOf::Server(id));
        }
        schedule(&mut self.timers, &mut server.scheduled, at, TimerOf::Server(id));
    }

    // ---- client side

    /// Returns the Via of a request that leaves towards a hop, and its branch.
    fn via(&self, id: u64, hop: &Hop, random: &mut Random) -> (String, ByteString) {
        let branch: ByteString = format!("{}{id:016x}{}", Via::COOKIE, random.token()).into();
        let transport = hop.transport();
        let ours = self.listeners.towards(hop).map_or_else(|| "invalid.invalid".to_owned(), |address| address.to_string());
        (format!("SIP/2.0/{transport} {ours};rport;branch={branch}"), branch)
    }

    /// Sends a request in a transaction of its own. It has every header but Via.
    pub(crate) fn request(&mut self, now: Instant, mut request: Request, hop: Hop, owner: Owner, random: &mut Random) -> ClientId {
        let id = self.id();
        let (via, branch) = self.via(id, &hop, random);
        request.headers.push_front(Name::Via, via);
        let bytes = request.encode();
        let method = request.method.clone();
        let reliable = hop.transport().is_reliable();
        let machine = if method == Method::Invite {
            ClientMachine::Invite(InviteClient::new(now, reliable), Box::new(request))
        } else {
            ClientMachine::Other(Client::new(now, reliable))
        };
        self.start(id, ClientTransaction { machine, method, branch, hop, bytes, owner, scheduled: None })
    }

    fn start(&mut self, id: u64, mut client: ClientTransaction) -> ClientId {
        self.sends.push_back(Send { hop: client.hop.clone(), fallback: None, bytes: client.bytes.clone(), client: Some(ClientId(id)) });
        let at = client.machine.poll_timeout();
        schedule(&mut self.timers, &mut client.scheduled, at, TimerOf::Client(id));
        if let Hop::Flow(Flow { connection: Some(connection), .. }) = client.hop {
            self.by_connection.insert((connection, id));
        }
        self.clients.insert(id, client);
        ClientId(id)
    }

    /// Sends a message that no transaction repeats: the ACK of a 2xx.
    pub(crate) fn send_ack(&mut self, mut ack: Request, hop: Hop, random: &mut Random) -> Bytes {
        let id = self.id();
        let (via, _) = self.via(id, &hop, random);
        ack.headers.push_front(Name::Via, via);
        let bytes = ack.encode();
        self.send(hop, bytes.clone());
        bytes
    }

    /// Sends bytes that were printed before.
    pub(crate) fn send(&mut self, hop: Hop, bytes: Bytes) {
        self.sends.push_back(Send { hop, fallback: None, bytes, client: None });
    }

    /// Cancels an INVITE that has a provisional response (§9.1). False if it has none yet, or its final one.
    pub(crate) fn cancel(&mut self, now: Instant, invite: ClientId, reason: Option<&Reason>) -> bool {
        let Some(client) = self.clients.get(&invite.0) else { return false };
        let ClientMachine::Invite(machine, request) = &client.machine else { return false };
        if machine.state() != invite_client::State::Proceeding {
            return false;
        }
        let mut cancel = follow_up(request, Method::Cancel);
        cancel.headers.copy(&request.headers, Name::To);
        if let Some(reason) = reason {
            cancel.headers.push(Name::Reason, reason.to_string());
        }
        let (branch, hop) = (client.branch.clone(), client.hop.clone());
        let machine = ClientMachine::Other(Client::new(now, hop.transport().is_reliable()));
        let bytes = cancel.encode();
        self.start(
            invite.0 ^ CANCEL,
            ClientTransaction { machine, method: Method::Cancel, branch, hop, bytes, owner: Owner::Nobody, scheduled: None },
        );
        true
    }

    /// Notes the flow that a request took, once the host has found or made it.
    pub(crate) fn bind(&mut self, id: ClientId, flow: Flow) {
        if let Some(client) = self.clients.get_mut(&id.0) {
            client.hop = Hop::Flow(flow);
            if let Some(connection) = flow.connection {
                self.by_connection.insert((connection, id.0));
            }
        }
    }

    /// Returns the hop that a request took.
    pub(crate) fn hop(&self, id: ClientId) -> Option<&Hop> {
        self.clients.get(&id.0).map(|client| &client.hop)
    }

    /// Matches a response (§17.1.3); what the machine passes up is returned with its owner.
    pub(crate) fn receive(&mut self, now: Instant, response: &Response) -> Option<(ClientId, Owner)> {
        let via: Via = response.headers.first(Name::Via).ok()?;
        let cseq: CSeq = response.headers.typed(Name::CSeq).ok()?;
        let branch = via.branch()?;
        let id = u64::from_str_radix(branch.strip_prefix(Via::COOKIE)?.get(..16)?, 16).ok()?;
        let id = if cseq.method == Method::Cancel { id ^ CANCEL } else { id };
        let client = self.clients.get_mut(&id)?;
        if *client.branch != *branch || client.method != cseq.method {
            return None;
        }
        let class = StatusClass::from(response.status);
        let action = match &mut client.machine {
            ClientMachine::Invite(machine, _) => machine.handle_response(now, class),
            ClientMachine::Other(machine) => machine.handle_response(now, class),
        };
        let owner = client.owner;
        if matches!(action, Action::Ack | Action::AckAndPass) {
            self.acknowledge(id, response);
        }
        self.act_client(now, id, action);
        matches!(action, Action::Pass | Action::AckAndPass).then_some((ClientId(id), owner))
    }

    /// Sends the ACK of a failure (§17.1.1.3).
    fn acknowledge(&mut self, id: u64, response: &Response) {
        let Some(client) = self.clients.get(&id) else { return };
        let ClientMachine::Invite(_, invite) = &client.machine else { return };
        let mut ack = follow_up(invite, Method::Ack);
        ack.headers.copy(&response.headers, Name::To);
        let hop = client.hop.clone();
        self.send(hop, ack.encode());
    }

    fn act_client(&mut self, now: Instant, id: u64, action: Action) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match action {
            Action::Resend => {
                let again = Send { hop: client.hop.clone(), fallback: None, bytes: client.bytes.clone(), client: Some(ClientId(id)) };
                self.sends.push_back(again);
            }
            Action::TimedOut => return self.fail(id, StatusCode::REQUEST_TIMEOUT),
            Action::Terminated => return self.remove_client(id),
            Action::None | Action::Send | Action::Pass | Action::Ack | Action::AckAndPass => {}
        }
        let at = client.machine.poll_timeout();
        if at.is_some_and(|at| at <= now) {
            return self.fire(now, TimerOf::Client(id));
        }
        schedule(&mut self.timers, &mut client.scheduled, at, TimerOf::Client(id));
    }

    fn remove_client(&mut self, id: u64) {
        if let Some(ClientTransaction { hop: Hop::Flow(Flow { connection: Some(connection), .. }), .. }) = self.clients.remove(&id) {
            self.by_connection.remove(&(connection, id));
        }
    }

    /// Drops an INVITE that was cancelled and never got its final response.
    pub(crate) fn forget(&mut self, id: ClientId) {
        self.remove_client(id.0);
    }

    fn fail(&mut self, id: u64, status: StatusCode) {
        let Some(client) = self.clients.get(&id) else { return };
        self.failed.push_back(Failed { client: ClientId(id), owner: client.owner, status });
        self.remove_client(id);
    }

    /// The transport could not send a request (§17.1.4): as if 503 had come.
    pub(crate) fn send_failed(&mut self, id: ClientId) {
        let waits = self.clients.get(&id.0).is_some_and(|client| match &client.machine {
            ClientMachine::Invite(machine, _) => {
                matches!(machine.state(), invite_client::State::Calling | invite_client::State::Proceeding)
            }
            ClientMachine::Other(_) => true,
        });
        if waits {
            self.fail(id.0, StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    /// A connection is gone: requests that wait for a response on it fail.
    pub(crate) fn connection_closed(&mut self, connection: ConnectionId) {
        let waiting: Vec<u64> = self.by_connection.range((connection, 0)..=(connection, u64::MAX)).map(|(_, id)| *id).collect();
        for id in waiting {
            self.by_connection.remove(&(connection, id));
            self.send_failed(ClientId(id));
        }
    }

    // ---- time

    fn fire(&mut self, now: Instant, timer: TimerOf) {
        match timer {
            TimerOf::Client(id) => {
                let Some(client) = self.clients.get_mut(&id) else { return };
                client.scheduled = None;
                let action = client.machine.handle_timeout(now);
                self.act_client(now, id, action);
            }
            TimerOf::Server(id) => {
                let Some(server) = self.servers.get_mut(&id) else { return };
                server.scheduled = None;
                let action = match &mut server.machine {
                    ServerMachine::Invite(machine) => machine.handle_timeout(now),
                    ServerMachine::Other(machine) => machine.handle_timeout(now),
                };
                self.act_server(now, id, action, None);
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            self.fire(now, timer);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }
}

/// Told apart from its INVITE, whose branch it shares (§9.1).
const CANCEL: u64 = 1 << 55;

impl ClientMachine {
    fn handle_timeout(&mut self, now: Instant) -> Action {
        match self {
            Self::Invite(machine, _) => machine.handle_timeout(now),
            Self::Other(machine) => machine.handle_timeout(now),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine, _) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
        }
    }
}

/// Puts a machine's next time on the heap, unless an earlier or equal one is there: that one looks again when it fires.
fn schedule(timers: &mut BinaryHeap<Reverse<(Instant, TimerOf)>>, scheduled: &mut Option<Instant>, at: Option<Instant>, timer: TimerOf) {
    let Some(at) = at else { return };
    if scheduled.is_none_or(|planned| at < planned) {
        *scheduled = Some(at);
        timers.push(Reverse((at, timer)));
    }
}

/// Makes the ACK of a failure or the CANCEL of an INVITE, less its To (§9.1, §17.1.1.3).
fn follow_up(invite: &Request, method: Method) -> Request {
    let mut request = Request::new(method, invite.uri.clone());
    if let Some(via) = invite.headers.get(Name::Via) {
        request.headers.push(Name::Via, via);
    }
    request.headers.copy(&invite.headers, Name::Route);
    request.headers.push(Name::MaxForwards, "70");
    request.headers.copy(&invite.headers, Name::From);
    request.headers.copy(&invite.headers, Name::CallId);
    let number = invite.headers.typed::<CSeq>(Name::CSeq).map_or(1, |cseq| cseq.number);
    let cseq = CSeq { number, method: request.method.clone() };
    request.headers.push(Name::CSeq, cseq.to_string());
    request
}

fn response_address(via: &Via, flow: Flow) -> SocketAddr {
    via.stamped(flow.remote).response_address().unwrap_or(flow.remote)
}

fn respond_on(flow: Flow, via: SocketAddr, bytes: Bytes) -> Send {
    let (hop, fallback) = if flow.transport.is_reliable() {
        (flow, (!flow.transport.is_websocket()).then_some(via))
    } else {
        (Flow { remote: via, ..flow }, None)
    };
    Send { hop: Hop::Flow(hop), fallback, bytes, client: None }
}

/// The key of §17.2.3. An ACK has the key of its INVITE. Without the cookie of RFC 3261 the older rule applies.
fn server_key(request: &Request, via: &Via, method: &Method) -> ByteString {
    let method = if *method == Method::Ack { &Method::Invite } else { method };
    let port = via.port.unwrap_or(0);
    if let Some(branch) = via.branch().filter(|branch| branch.starts_with(Via::COOKIE)) {
        return format!("{branch} {}:{port} {method}", via.host).into();
    }
    let from: Option<NameAddr> = request.headers.typed(Name::From).ok();
    let cseq: Option<CSeq> = request.headers.typed(Name::CSeq).ok();
    format!(
        "{} {} {} {} {via} {method}",
        request.uri,
        from.as_ref().and_then(NameAddr::tag).unwrap_or(""),
        request.headers.get_text(Name::CallId).unwrap_or_default(),
        cseq.map_or(0, |cseq| cseq.number),
    )
    .into()
}

#[cfg(test)]
pub(crate) mod testing {
    //! A start of virtual time for tests.
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
    pub(crate) fn epoch() -> Instant {
        Instant::now()
    }
}
