//! Server transactions: matching (RFC 3261 §17.2.3), merged requests (§8.2.2.2), CANCEL (§9.2), where responses go (§18.2.2, RFC 3581).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::invite_server::{self, InviteServer};
use super::server::{self, Server};
use super::{Action, Send, ServerId, StatusClass, TimerOf, Transactions, bound};
use crate::message::header::CSeq;
use crate::message::{Method, Name, Request, Response, Via};
use crate::transport::{Flow, Hop, Transport};

/// What a request is matched by, as a keyed hash: a peer can neither choose it nor make it long. At 10,000 requests a second and with
/// [`Transactions::MAX_SERVERS`] open, two meet by chance once in a century.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

#[derive(Debug)]
enum Machine {
    Invite(InviteServer),
    Other(Server),
}

impl Machine {
    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Action {
        match self {
            Self::Invite(machine) => machine.handle_timeout(now),
            Self::Other(machine) => machine.handle_timeout(now),
        }
    }

    /// Returns true where the machine may ask for its last response again. A 2xx to INVITE is repeated by its dialog (§13.3.1.4).
    fn repeats_response(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.state() != invite_server::State::Accepted,
            Self::Other(_) => true,
        }
    }
}

/// Of the request itself nothing is kept: its dialog or the host has it for as long as an answer is due.
#[derive(Debug)]
struct ServerTransaction {
    machine: Machine,
    key: Key,
    merge: Option<Key>,
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
    /// The ACK of a 2xx that a dialog sent, by the branch of its INVITE.
    Ack(u64),
    /// A new request, with the key to open a transaction with.
    New(Key),
}

/// The INVITE that a CANCEL is for.
pub(crate) struct Cancelled {
    pub(crate) server: ServerId,
    pub(crate) dialog: Option<u64>,
    /// The flow it came by.
    pub(crate) flow: Flow,
    /// Whether its final response is still due.
    pub(crate) is_due: bool,
}

#[derive(Debug, Default)]
pub(super) struct Servers {
    transactions: HashMap<u64, ServerTransaction>,
    by_key: HashMap<Key, u64>,
    by_merge: HashMap<Key, u64>,
    hasher: RandomState,
}

impl Servers {
    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    fn hash(&self, value: impl Hash) -> Key {
        Key(self.hasher.hash_one(value))
    }

    /// The key of §17.2.3. Without the cookie of RFC 3261 the older rule applies: all that an ACK or CANCEL has like its INVITE.
    fn key(&self, request: &Request, via: &Via, method: &Method) -> Key {
        let port = via.port.unwrap_or(0);
        if let Some(branch) = via.branch().filter(|branch| branch.starts_with(Via::COOKIE)) {
            return self.hash((branch, &via.host, port, method.as_str()));
        }
        let number = request.headers.typed::<CSeq>(Name::CSeq).map_or(0, |cseq| cseq.number);
        let call = (request.headers.get(Name::CallId), request.from_tag(), number);
        self.hash((request.uri.as_str(), call, (&via.host, port, via.branch()), method.as_str()))
    }

    fn remove(&mut self, id: u64) {
        let Some(server) = self.transactions.remove(&id) else { return };
        self.by_key.remove(&server.key);
        if let Some(merge) = server.merge
            && self.by_merge.get(&merge) == Some(&id)
        {
            self.by_merge.remove(&merge);
        }
    }
}

impl Transactions {
    /// Most server transactions before a new request outside a dialog is answered 503 without one.
    pub(crate) const MAX_SERVERS: usize = bound(400_000);
    /// Further ones for requests within dialogs; beyond, they too are answered 503 without one, and only BYE is taken.
    pub(crate) const RESERVE: usize = bound(100_000);

    pub(crate) fn is_full(&self) -> bool {
        self.servers.len() >= Self::MAX_SERVERS
    }

    pub(crate) fn is_reserve_full(&self) -> bool {
        self.servers.len() >= Self::MAX_SERVERS + Self::RESERVE
    }

    /// Finds what a request belongs to.
    pub(crate) fn matching(&mut self, now: Instant, request: &Request, via: &Via) -> Matched {
        let is_ack = request.method == Method::Ack;
        let key = self.servers.key(request, via, if is_ack { &Method::Invite } else { &request.method });
        let Some(id) = self.servers.by_key.get(&key).copied() else { return Matched::New(key) };
        let Some(server) = self.servers.transactions.get_mut(&id) else { return Matched::Absorbed };
        let dialog = server.dialog;
        let action = match &mut server.machine {
            Machine::Invite(machine) => {
                machine.handle_input(now, if is_ack { invite_server::Input::Ack } else { invite_server::Input::Request })
            }
            Machine::Other(machine) => machine.handle_input(now, server::Input::Request),
        };
        self.act_server(now, id, action, None);
        match (action, dialog) {
            (Action::Pass, Some(dialog)) => Matched::Ack(dialog),
            // The ACK of a 2xx that went through us as a proxy: a client that reuses the branch means the far end all the same.
            (Action::Pass, None) => Matched::New(key),
            _ => Matched::Absorbed,
        }
    }

    /// Returns what a request outside a dialog has alike by whichever path it comes (§8.2.2.2).
    pub(crate) fn merge_key(&self, request: &Request) -> Key {
        self.servers.hash((request.headers.get(Name::CallId), request.from_tag(), request.headers.get(Name::CSeq)))
    }

    /// Returns true when the same request came by another path and is under way.
    pub(crate) fn is_merged(&self, merge: Option<Key>) -> bool {
        merge.is_some_and(|merge| self.servers.by_merge.contains_key(&merge))
    }

    /// Returns the transaction of a key, if it is open.
    pub(crate) fn opened(&self, key: Key) -> Option<ServerId> {
        self.servers.by_key.get(&key).copied().map(ServerId)
    }

    /// Finds the INVITE that a CANCEL is for (§9.2).
    pub(crate) fn cancelled(&self, cancel: &Request, via: &Via) -> Option<Cancelled> {
        let id = *self.servers.by_key.get(&self.servers.key(cancel, via, &Method::Invite))?;
        let ServerTransaction { machine, dialog, flow, .. } = self.servers.transactions.get(&id)?;
        match machine {
            Machine::Invite(machine) => {
                let is_due = machine.state() == invite_server::State::Proceeding;
                Some(Cancelled { server: ServerId(id), dialog: *dialog, flow: *flow, is_due })
            }
            Machine::Other(_) => None,
        }
    }

    /// Opens a server transaction. `merge` is for requests outside a dialog.
    pub(crate) fn open(&mut self, now: Instant, (flow, via): (Flow, &Via), method: &Method, key: Key, merge: Option<Key>) -> ServerId {
        let id = self.id();
        let reliable = flow.transport.is_reliable();
        let machine = if *method == Method::Invite {
            Machine::Invite(InviteServer::new(reliable))
        } else {
            Machine::Other(Server::new(now, reliable))
        };
        if let Some(merge) = merge {
            self.servers.by_merge.insert(merge, id);
        }
        self.servers.by_key.insert(key, id);
        let mut server =
            ServerTransaction { machine, key, merge, flow, via: response_address(via, flow), last: None, dialog: None, scheduled: None };
        self.timers.schedule(&mut server.scheduled, server.machine.poll_timeout(), TimerOf::Server(id));
        self.servers.transactions.insert(id, server);
        ServerId(id)
    }

    /// Notes the dialog that an INVITE's ACK and CANCEL belong to.
    pub(crate) fn attach(&mut self, id: ServerId, dialog: u64) {
        if let Some(server) = self.servers.transactions.get_mut(&id.0) {
            server.dialog = Some(dialog);
        }
    }

    /// Sends a response and returns it printed; empty if the transaction is gone or wants none.
    pub(crate) fn respond(&mut self, now: Instant, id: ServerId, response: &Response) -> Bytes {
        let class = StatusClass::from(response.status);
        let Some(server) = self.servers.transactions.get_mut(&id.0) else { return Bytes::new() };
        let action = match &mut server.machine {
            Machine::Invite(machine) => machine.handle_input(now, invite_server::Input::Response(class)),
            Machine::Other(machine) => machine.handle_input(now, server::Input::Response(class)),
        };
        let bytes = if action == Action::Send { response.encode() } else { Bytes::new() };
        self.act_server(now, id.0, action, Some(bytes.clone()));
        bytes
    }

    /// Sends a response again that its dialog repeats: a 2xx to INVITE, or a reliable provisional one.
    pub(crate) fn respond_again(&mut self, id: ServerId, bytes: Bytes) {
        if let Some(server) = self.servers.transactions.get(&id.0) {
            self.sends.push_back(respond_on(server.flow, server.via, bytes));
        }
    }

    /// Sends a response that no transaction keeps.
    pub(crate) fn respond_statelessly(&mut self, flow: Flow, via: &Via, response: &Response) {
        self.sends.push_back(respond_on(flow, response_address(via, flow), response.encode()));
    }

    fn act_server(&mut self, now: Instant, id: u64, action: Action, response: Option<Bytes>) {
        let Some(server) = self.servers.transactions.get_mut(&id) else { return };
        match action {
            Action::Send => {
                let bytes = response.unwrap_or_default();
                server.last = server.machine.repeats_response().then(|| bytes.clone());
                self.sends.push_back(respond_on(server.flow, server.via, bytes));
            }
            Action::Resend => {
                if let Some(bytes) = server.last.clone() {
                    self.sends.push_back(respond_on(server.flow, server.via, bytes));
                }
            }
            Action::TimedOut | Action::Terminated => return self.servers.remove(id),
            Action::None | Action::Pass | Action::Ack | Action::AckAndPass => {}
        }
        let at = server.machine.poll_timeout();
        if at.is_some_and(|at| at <= now) {
            return self.fire_server(now, id);
        }
        self.timers.schedule(&mut server.scheduled, at, TimerOf::Server(id));
    }

    pub(super) fn fire_server(&mut self, now: Instant, id: u64) {
        let Some(server) = self.servers.transactions.get_mut(&id) else { return };
        server.scheduled = None;
        let action = server.machine.handle_timeout(now);
        self.act_server(now, id, action, None);
    }
}

/// Returns where a response over UDP goes: to the source of the request, at its port where rport asks for that (RFC 3581), else at the
/// port of sent-by. A `received` or `maddr` that the client wrote itself is not believed: we are no reflector (S11).
fn response_address(via: &Via, flow: Flow) -> SocketAddr {
    if via.params.get("rport").is_some() && !flow.transport.is_reliable() {
        return flow.remote;
    }
    let default = Transport::parse(&via.transport).map_or(5060, Transport::default_port);
    SocketAddr::new(flow.remote.ip(), via.port.unwrap_or(default))
}

fn respond_on(flow: Flow, via: SocketAddr, bytes: Bytes) -> Send {
    let (hop, fallback) = if flow.transport.is_reliable() {
        (flow, (!flow.transport.is_websocket()).then_some(via))
    } else {
        (Flow { remote: via, ..flow }, None)
    };
    Send { hop: Hop::Flow(hop), fallback, bytes, client: None }
}
