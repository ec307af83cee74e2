//! Client transactions: matching (RFC 3261 §17.1.3), ACK of failures (§17.1.1.3), CANCEL (§9.1), and the way a request takes: a
//! datagram, a stream where it is too long for one (§18.1.1), another way where the first fails.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::client::Client;
use super::invite_client::{self, InviteClient};
use super::{Action, ClientId, Failed, Owner, Send, StatusClass, TimerOf, Transactions};
use crate::message::header::{CSeq, Reason, params};
use crate::message::parse::parse;
use crate::message::{Message, Method, Name, Request, Response, StatusCode, Via};
use crate::random::{Random, push_hexadecimal};
use crate::transport::{ConnectionId, Flow, Hop, Transport};

/// A request longer than this goes by a stream, not by a datagram (§18.1.1: 200 bytes below the usual path MTU).
const MAX_DATAGRAM: usize = 1300;

/// How long a re-INVITE may go without its final response. A person has to answer an INVITE, a device a re-INVITE.
const REINVITE_LIMIT: Duration = Duration::from_secs(180);

/// Most forks of one INVITE that are hung up because they answered beside the one we took; others run into their own timers.
const MAX_STRAYS: u8 = 16;

/// Told apart from its INVITE, whose branch it shares (§9.1).
const CANCEL: u64 = 1 << 55;

/// A request to send, and how.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Every header but Via.
    pub(crate) request: Request,
    pub(crate) hop: Hop,
    /// Where it goes when the hop fails before any response came.
    pub(crate) otherwise: Option<Hop>,
    pub(crate) owner: Owner,
    pub(crate) order: Order,
    /// What a proxy adds to the branch to know a loop by (§16.6 item 8).
    pub(crate) loop_hash: Option<u64>,
}

/// Whether a request begins something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Outside a dialog.
    First,
    /// Within a dialog: a re-INVITE has a limit.
    Within,
}

#[derive(Debug)]
enum Machine {
    Invite(InviteClient),
    Other(Client),
}

impl Machine {
    fn new(now: Instant, method: &Method, reliable: bool, order: Order) -> Self {
        let limit = (order == Order::Within).then_some(REINVITE_LIMIT);
        if *method == Method::Invite {
            Self::Invite(InviteClient::new(now, reliable, limit))
        } else {
            Self::Other(Client::new(now, reliable))
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Action {
        match self {
            Self::Invite(machine) => machine.handle_timeout(now),
            Self::Other(machine) => machine.handle_timeout(now),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
        }
    }

    /// Returns true while no response at all has come.
    fn is_unheard(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.state() == invite_client::State::Calling,
            Self::Other(machine) => machine.is_trying(),
        }
    }

    fn is_waiting(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_waiting(),
            Self::Other(machine) => machine.is_waiting(),
        }
    }
}

#[derive(Debug)]
struct ClientTransaction {
    machine: Machine,
    method: Method,
    order: Order,
    /// The part of the branch that nobody can guess.
    secret: u64,
    hop: Hop,
    otherwise: Option<Hop>,
    /// The request as it went out; its ACK and CANCEL are read out of it.
    bytes: Bytes,
    owner: Owner,
    /// The ACK of our 2xx, for as long as the 2xx may come again.
    ack: Option<Box<KeptAck>>,
    strays: u8,
    scheduled: Option<Instant>,
}

/// An ACK that is sent again for each repetition of its 2xx (§13.2.2.4).
#[derive(Debug)]
struct KeptAck {
    tag: ByteString,
    hop: Hop,
    bytes: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Clients {
    transactions: HashMap<u64, ClientTransaction>,
    by_connection: BTreeSet<(ConnectionId, u64)>,
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    fn insert(&mut self, id: u64, client: ClientTransaction) {
        if let Some(connection) = connection(&client.hop) {
            self.by_connection.insert((connection, id));
        }
        self.transactions.insert(id, client);
    }

    fn remove(&mut self, id: u64) -> Option<ClientTransaction> {
        let client = self.transactions.remove(&id)?;
        if let Some(connection) = connection(&client.hop) {
            self.by_connection.remove(&(connection, id));
        }
        Some(client)
    }
}

impl Transactions {
    /// Most client transactions before a request that begins something fails with 503. Those within dialogs are few for each.
    pub(crate) const MAX_CLIENTS: usize = 400_000;

    pub(crate) fn is_busy(&self) -> bool {
        self.clients.len() >= Self::MAX_CLIENTS
    }

    /// Sends a request in a transaction of its own.
    pub(crate) fn request(&mut self, now: Instant, outgoing: Outgoing, random: &mut Random) -> ClientId {
        let id = self.id();
        self.start(now, id, outgoing, random);
        ClientId(id)
    }

    fn start(&mut self, now: Instant, id: u64, outgoing: Outgoing, random: &mut Random) {
        let Outgoing { mut request, mut hop, mut otherwise, owner, order, loop_hash } = outgoing;
        let secret = random.number();
        request.headers.push_front(Name::Via, self.via(id, secret, &hop, loop_hash));
        let mut bytes = request.encode();
        // Along a flow it stays a datagram: that is the only way known to reach a device (RFC 5626).
        if bytes.len() > MAX_DATAGRAM
            && let Some(stream) = self.stream_beside(&hop)
        {
            request.headers.pop_first(Name::Via);
            self.readdress(&mut request, &hop, &stream);
            request.headers.push_front(Name::Via, self.via(id, secret, &stream, loop_hash));
            bytes = request.encode();
            otherwise = Some(std::mem::replace(&mut hop, stream));
        }
        let machine = Machine::new(now, &request.method, hop.transport().is_reliable(), order);
        let method = request.method;
        self.begin(
            id,
            ClientTransaction { machine, method, order, secret, hop, otherwise, bytes, owner, ack: None, strays: 0, scheduled: None },
        );
    }

    fn begin(&mut self, id: u64, mut client: ClientTransaction) {
        self.sends.push_back(Send { hop: client.hop.clone(), fallback: None, bytes: client.bytes.clone(), client: Some(ClientId(id)) });
        self.timers.schedule(&mut client.scheduled, client.machine.poll_timeout(), TimerOf::Client(id));
        self.clients.insert(id, client);
    }

    /// Returns the Via of a request that leaves towards a hop. Its branch has the transaction's number and a secret.
    fn via(&self, id: u64, secret: u64, hop: &Hop, loop_hash: Option<u64>) -> String {
        let mut via = self.names.via(hop);
        push_hexadecimal(&mut via, id);
        push_hexadecimal(&mut via, secret);
        if let Some(hash) = loop_hash {
            via.push('.');
            push_hexadecimal(&mut via, hash);
        }
        via
    }

    /// The TCP address beside a UDP address, where a peer listens on both (§18.1.1); none where we could not be reached there.
    fn stream_beside(&self, hop: &Hop) -> Option<Hop> {
        let Hop::Address { transport: Transport::Udp, remote, name } = hop else { return None };
        let stream = Hop::Address { transport: Transport::Tcp, remote: *remote, name: name.clone() };
        self.names.listeners().towards(&stream).map(|_| stream)
    }

    /// Our Contact names the transport; one that is not ours stays.
    fn readdress(&self, request: &mut Request, from: &Hop, to: &Hop) {
        if request.headers.get(Name::Contact) == Some(self.names.contact(from).as_bytes()) {
            request.headers.set(Name::Contact, self.names.contact(to));
        }
    }

    /// Sends a message that no transaction repeats, the ACK of a 2xx, and returns it printed.
    pub(crate) fn send_ack(&mut self, mut ack: Request, hop: Hop, random: &mut Random) -> Bytes {
        let id = self.id();
        ack.headers.push_front(Name::Via, self.via(id, random.number(), &hop, None));
        let bytes = ack.encode();
        self.send(hop, bytes.clone());
        bytes
    }

    /// Cancels an INVITE that has a provisional response, once (§9.1). False if it has none yet, or its final one.
    pub(crate) fn cancel(&mut self, now: Instant, invite: ClientId, reason: Option<&Reason>) -> bool {
        let Some(client) = self.clients.transactions.get_mut(&invite.0) else { return false };
        let Machine::Invite(machine) = &mut client.machine else { return false };
        if machine.state() != invite_client::State::Proceeding {
            return false;
        }
        let id = invite.0 ^ CANCEL;
        let (secret, hop) = (client.secret, client.hop.clone());
        self.abandon(now, invite);
        if self.clients.transactions.contains_key(&id) {
            return true;
        }
        let Some(sent) = self.sent(invite) else { return false };
        let mut cancel = follow_up(&sent, Method::Cancel);
        cancel.headers.copy(&sent.headers, Name::To);
        if let Some(reason) = reason {
            cancel.headers.push(Name::Reason, reason.to_string());
        }
        let machine = Machine::Other(Client::new(now, hop.transport().is_reliable()));
        let (bytes, method, order, owner) = (cancel.encode(), Method::Cancel, Order::Within, Owner::Nobody);
        self.begin(
            id,
            ClientTransaction { machine, method, order, secret, hop, otherwise: None, bytes, owner, ack: None, strays: 0, scheduled: None },
        );
        true
    }

    /// Nobody waits for the final response of an INVITE any more: it may take 64·T1.
    pub(crate) fn abandon(&mut self, now: Instant, invite: ClientId) {
        let Some(client) = self.clients.transactions.get_mut(&invite.0) else { return };
        if let Machine::Invite(machine) = &mut client.machine {
            machine.give_up(now);
            self.timers.schedule(&mut client.scheduled, client.machine.poll_timeout(), TimerOf::Client(invite.0));
        }
    }

    /// Notes the flow that a request took, once the host has found or made it.
    pub(crate) fn bind(&mut self, id: ClientId, flow: Flow) {
        if let Some(client) = self.clients.remove(id.0) {
            self.clients.insert(id.0, ClientTransaction { hop: Hop::Flow(flow), ..client });
        }
    }

    /// Reads a request of ours again, as it went out.
    pub(crate) fn sent(&self, id: ClientId) -> Option<Request> {
        let client = self.clients.transactions.get(&id.0)?;
        match parse(client.bytes.clone()) {
            Ok(Message::Request(request)) => Some(request),
            Ok(Message::Response(_)) | Err(_) => None,
        }
    }

    /// Returns the hop that a request took.
    pub(crate) fn hop(&self, id: ClientId) -> Option<&Hop> {
        self.clients.transactions.get(&id.0).map(|client| &client.hop)
    }

    /// Sends the ACK of a 2xx, and again whenever that 2xx comes again. `tag` is the peer's.
    pub(crate) fn acknowledge_success(&mut self, id: ClientId, tag: ByteString, ack: Request, hop: Hop, random: &mut Random) {
        let bytes = self.send_ack(ack, hop.clone(), random);
        if let Some(client) = self.clients.transactions.get_mut(&id.0) {
            client.ack = Some(Box::new(KeptAck { tag, hop, bytes }));
        }
    }

    /// Counts a fork that answered beside the one we took; false when there were too many to care for.
    pub(crate) fn count_stray(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.transactions.get_mut(&id.0) else { return false };
        client.strays = client.strays.saturating_add(1);
        client.strays <= MAX_STRAYS
    }

    /// Matches a response; what the machine passes up is returned with its owner.
    pub(crate) fn receive(&mut self, now: Instant, response: &Response) -> Option<(ClientId, Owner)> {
        let cseq: CSeq = response.headers.typed(Name::CSeq).ok()?;
        let via = std::str::from_utf8(response.headers.get(Name::Via)?).ok()?;
        let (id, rest) = branch(via)?.strip_prefix(Via::COOKIE)?.split_at_checked(16)?;
        let secret = rest.split('.').next()?;
        let (id, secret) = (hexadecimal(id)?, hexadecimal(secret)?);
        let id = if cseq.method == Method::Cancel { id ^ CANCEL } else { id };
        let client = self.clients.transactions.get_mut(&id)?;
        if client.secret != secret || client.method != cseq.method {
            return None;
        }
        // §8.1.3.3: a response to what began here has no Via but ours.
        if client.owner != Owner::Host && has_further_via(response) {
            return None;
        }
        let class = StatusClass::from(response.status);
        let action = match &mut client.machine {
            Machine::Invite(machine) => machine.handle_response(now, class),
            Machine::Other(machine) => machine.handle_response(now, class),
        };
        let owner = client.owner;
        if class == StatusClass::Success
            && let Some(ack) = client.ack.as_ref().filter(|ack| response.to_tag().is_some_and(|tag| tag == ack.tag))
        {
            let (hop, bytes) = (ack.hop.clone(), ack.bytes.clone());
            self.send(hop, bytes);
            return None;
        }
        if matches!(action, Action::Ack | Action::AckAndPass) {
            self.acknowledge(id, response);
        }
        self.act_client(id, action);
        matches!(action, Action::Pass | Action::AckAndPass).then_some((ClientId(id), owner))
    }

    /// Sends the ACK of a failure (§17.1.1.3).
    fn acknowledge(&mut self, id: u64, response: &Response) {
        let Some(invite) = self.sent(ClientId(id)) else { return };
        let Some(hop) = self.hop(ClientId(id)).cloned() else { return };
        let mut ack = follow_up(&invite, Method::Ack);
        ack.headers.copy(&response.headers, Name::To);
        self.send(hop, ack.encode());
    }

    fn act_client(&mut self, id: u64, action: Action) {
        let Some(client) = self.clients.transactions.get_mut(&id) else { return };
        match action {
            Action::Resend => {
                let again = Send { hop: client.hop.clone(), fallback: None, bytes: client.bytes.clone(), client: Some(ClientId(id)) };
                self.sends.push_back(again);
            }
            Action::TimedOut => return self.fail(id, StatusCode::REQUEST_TIMEOUT),
            Action::Terminated => return drop(self.clients.remove(id)),
            Action::None | Action::Send | Action::Pass | Action::Ack | Action::AckAndPass => {}
        }
        // What ends at once (timers D and K over a stream) ends with the next `handle_timeout`: its owner may still read the request.
        self.timers.schedule(&mut client.scheduled, client.machine.poll_timeout(), TimerOf::Client(id));
    }

    pub(super) fn fire_client(&mut self, now: Instant, id: u64) {
        let Some(client) = self.clients.transactions.get_mut(&id) else { return };
        client.scheduled = None;
        let action = client.machine.handle_timeout(now);
        self.act_client(id, action);
    }

    fn fail(&mut self, id: u64, status: StatusCode) {
        if let Some(client) = self.clients.remove(id) {
            self.failed.push_back(Failed { client: ClientId(id), owner: client.owner, status });
        }
    }

    /// The transport could not send a request: it goes another way if there is one, else it is as if 503 had come (§17.1.4).
    pub(crate) fn send_failed(&mut self, now: Instant, id: ClientId, random: &mut Random) {
        let Some(client) = self.clients.transactions.get(&id.0).filter(|client| client.machine.is_waiting()) else { return };
        if client.otherwise.is_none() || !client.machine.is_unheard() {
            return self.fail(id.0, StatusCode::SERVICE_UNAVAILABLE);
        }
        let sent = self.sent(id);
        let (Some(client), Some(mut request)) = (self.clients.remove(id.0), sent) else { return };
        let Some(hop) = client.otherwise else { return };
        // The branch is a new one: what the first way may still bring back belongs to the past.
        let secret = random.number();
        let loop_hash = request.headers.first::<Via>(Name::Via).ok().and_then(|via| hexadecimal(via.branch()?.split_once('.')?.1));
        request.headers.pop_first(Name::Via);
        self.readdress(&mut request, &client.hop, &hop);
        request.headers.push_front(Name::Via, self.via(id.0, secret, &hop, loop_hash));
        let machine = Machine::new(now, &client.method, hop.transport().is_reliable(), client.order);
        let bytes = request.encode();
        self.begin(id.0, ClientTransaction { machine, secret, hop, otherwise: None, bytes, scheduled: None, ..client });
    }

    /// A connection is gone: requests that wait for a response on it fail.
    pub(crate) fn connection_closed(&mut self, now: Instant, connection: ConnectionId, random: &mut Random) {
        let bound = self.clients.by_connection.range((connection, 0)..=(connection, u64::MAX));
        let waiting: Vec<u64> = bound.map(|(_, id)| *id).collect();
        for id in waiting {
            self.send_failed(now, ClientId(id), random);
        }
    }
}

fn connection(hop: &Hop) -> Option<ConnectionId> {
    match hop {
        Hop::Flow(flow) => flow.connection,
        Hop::Address { .. } => None,
    }
}

/// Reads sixteen digits; `from_str_radix` would take a sign, too.
fn hexadecimal(digits: &str) -> Option<u64> {
    if digits.len() != 16 || digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Finds the branch in the topmost Via of a response: the one we wrote, without quotes and commas.
fn branch(via: &str) -> Option<&str> {
    let ours = via.split(',').next()?;
    params::find(ours.get(ours.find(';')?..)?, "branch")
}

fn has_further_via(response: &Response) -> bool {
    let mut rows = response.headers.all(Name::Via);
    rows.next().is_some_and(|row| row.contains(&b',')) || rows.next().is_some()
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
