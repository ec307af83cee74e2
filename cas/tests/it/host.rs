//! A host for the server: providers in memory, and clients that send messages and read what comes back. Time is a variable, and a
//! provider's work is done when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cas::Token;
use cas::error::{Error, Fault};
use cas::login::{Identity, LoginId};
use cas::message::{Encoding, Message};
use cas::pending::ServeId;
use cas::permission::{Caller, Pattern, Rights, Role};
use cas::provider::{Admin, Ending, Graph, History, Presence, Store, Telephony};
use cas::server::{
    Channel, Credential, ExchangeId, Input, Open, Output, Peer, PollRequest, Reply, Request, Server, Settings, StreamId, VerifyId, Wire,
    Written,
};
use cas::text::{CallId, Destination, DeviceId, EntryId, Line, Prose, UserName};
use cas::topic::tel::{Act, Acted, Call, Constructed, How, Party, PartyState, State};
use cas::topic::{self, Work, admin, graph, history, permission, presence, tel};
use serde_json::{Value, json};

pub(crate) fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

pub(crate) fn call_id(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}

/// The switch, as the providers see it. It notes each method that was called.
#[derive(Default)]
pub(crate) struct Switch {
    pub(crate) calls: Mutex<BTreeMap<CallId, Call>>,
    pub(crate) entries: Mutex<BTreeMap<EntryId, history::Entry>>,
    pub(crate) rights: Mutex<BTreeMap<UserName, Rights>>,
    pub(crate) log: Mutex<Vec<String>>,
}

impl Switch {
    fn note(&self, text: impl Into<String>) {
        self.log.lock().unwrap().push(text.into());
    }

    /// Returns what was asked of the switch since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub(crate) fn put(&self, call: Call) {
        self.calls.lock().unwrap().insert(call.id.clone(), call);
    }
}

/// A call between users.
pub(crate) fn call(id: &str, state: State, parties: &[(&str, PartyState)]) -> Call {
    let party = |(name, state): &(&str, PartyState)| Party {
        user: Some(user(name)),
        number: None,
        name: None,
        anonymous: false,
        state: *state,
        muted: Vec::new(),
        silenced: Vec::new(),
        held_at_device: false,
        moderator: false,
        may_film: true,
        devices: Vec::new(),
    };
    Call {
        id: call_id(id),
        state,
        parties: parties.iter().map(party).collect(),
        constructed: Constructed { how: How::Direct, by: None },
        started_at: 1,
        answered_at: None,
        ended_at: None,
        slot: None,
        room: None,
        asks_pin: false,
        conference: false,
        waits: matches!(state, State::Ringing | State::Parked),
        locked: false,
        why: None,
        joined: None,
    }
}

pub(crate) fn entry(id: &str, of: &str, started_at: u64) -> history::Entry {
    history::Entry {
        id: EntryId::parse(id).unwrap(),
        user: user(of),
        device: None,
        kind: history::Kind::Missed,
        number: Some("501".into()),
        name: None,
        call: call_id("1"),
        started_at,
        talked: None,
        why: None,
        note: None,
    }
}

fn not_found(what: &str) -> Error {
    Error::new(Fault::NotFound, format!("no {what}"))
}

impl Telephony for Switch {
    async fn call(&self, call: &CallId) -> Result<Call, Error> {
        self.calls.lock().unwrap().get(call).cloned().ok_or_else(|| not_found("such call"))
    }

    async fn calls(&self, of: Option<&UserName>) -> Result<Vec<Call>, Error> {
        let calls = self.calls.lock().unwrap();
        Ok(calls.values().filter(|call| of.is_none_or(|user| call.party(user).is_some())).cloned().collect())
    }

    async fn waiting(&self, of: Option<&UserName>) -> Result<tel::Waitings, Error> {
        let calls = self.calls.lock().unwrap();
        let waits =
            |call: &&Call| call.state == State::Parked || call.state == State::Ringing && of.is_none_or(|user| call.party(user).is_none());
        Ok(tel::Waitings { calls: calls.values().filter(waits).cloned().collect(), at: of.map(|of| vec![of.clone(), user("bob")]) })
    }

    async fn parked(&self, slot: &Line) -> Result<Call, Error> {
        let calls = self.calls.lock().unwrap();
        let found = calls.values().find(|call| call.slot.as_deref() == Some(slot.as_str()));
        found.cloned().ok_or_else(|| not_found("call in the slot"))
    }

    async fn make_call(&self, _: &Caller, of: &UserName, request: tel::MakeCall) -> Result<Acted, Error> {
        self.note(format!("tel.make-call {of} {}", request.destination));
        let mut call = call("77", State::Ringing, &[(of.as_str(), PartyState::Dialing)]);
        call.parties.push(Party {
            user: None,
            number: Some(request.destination.to_string()),
            name: None,
            anonymous: false,
            state: PartyState::Ringing,
            muted: Vec::new(),
            silenced: Vec::new(),
            held_at_device: false,
            moderator: false,
            may_film: true,
            devices: Vec::new(),
        });
        self.put(call.clone());
        Ok(Acted { call, sdp: request.sdp })
    }

    async fn act(&self, _: &Caller, of: &UserName, act: Act) -> Result<Acted, Error> {
        self.note(format!("tel.{} {of} {}", act.action().name(), act.call()));
        let mut calls = self.calls.lock().unwrap();
        let call = calls.get_mut(act.call()).ok_or_else(|| not_found("such call"))?;
        let state = match act {
            Act::Hold(_) => Some(PartyState::Held),
            Act::Resume(_) | Act::Answer(_) => Some(PartyState::Connected),
            Act::Drop(_) | Act::Decline(_) => Some(PartyState::Left),
            Act::Transfer(_) | Act::Conference(_) | Act::Park(_) | Act::Pickup(_) => None,
            Act::Dtmf(_) | Act::Move(_) | Act::Split(_) | Act::Negotiate(_) => None,
            Act::Mute(_) | Act::Unmute(_) | Act::Lock(_) | Act::Unlock(_) | Act::Kick(_) | Act::Moderate(_) => None,
        };
        if let (Some(state), Some(party)) = (state, call.parties.iter_mut().find(|party| party.user.as_ref() == Some(of))) {
            party.state = state;
        }
        Ok(Acted { call: call.clone(), sdp: None })
    }

    async fn register(&self, caller: &Caller, request: tel::Register) -> Result<DeviceId, Error> {
        self.note(format!("tel.register {}", caller.user));
        Ok(request.device.unwrap_or_else(|| DeviceId::parse("thin").unwrap()))
    }

    async fn unregister(&self, caller: &Caller) -> Result<(), Error> {
        self.note(format!("tel.unregister {}", caller.user));
        Ok(())
    }

    async fn why(&self, call: &CallId) -> Result<Ending, Error> {
        let users = Telephony::call(self, call).await?.users();
        Ok(Ending { users, why: format!("call {call} was answered and hung up") })
    }
}

impl Graph for Switch {
    async fn graph(&self, call: &CallId) -> Result<graph::Graph, Error> {
        let call = Telephony::call(self, call).await?;
        let node = |party: &Party| {
            let (user, anonymous) = (party.user.clone()?, party.anonymous);
            Some(graph::Node { id: user.to_string(), user: Some(user), anonymous, muted: Vec::new(), moderator: false })
        };
        let nodes = call.parties.iter().filter_map(node).collect();
        Ok(graph::Graph { call: call.id, nodes, edges: Vec::new(), locked: false })
    }
}

impl History for Switch {
    async fn list(&self, query: &history::Query) -> Result<Vec<history::Entry>, Error> {
        let entries = self.entries.lock().unwrap();
        let own = entries
            .values()
            .rev()
            .filter(|entry| entry.user == query.user && entry.started_at >= query.since && entry.started_at < query.until);
        let own = own.filter(|entry| query.after.as_ref().is_none_or(|after| entry.id < *after));
        Ok(own.take(query.limit.into()).cloned().collect())
    }

    async fn entry(&self, entry: &EntryId) -> Result<history::Entry, Error> {
        self.entries.lock().unwrap().get(entry).cloned().ok_or_else(|| not_found("such entry"))
    }

    async fn note(&self, entry: &EntryId, note: Option<Prose>) -> Result<history::Entry, Error> {
        self.note(format!("history.note {entry}"));
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(entry).ok_or_else(|| not_found("such entry"))?;
        entry.note = note;
        Ok(entry.clone())
    }

    async fn delete(&self, entry: &EntryId) -> Result<(), Error> {
        self.note(format!("history.delete {entry}"));
        self.entries.lock().unwrap().remove(entry).map(drop).ok_or_else(|| not_found("such entry"))
    }
}

impl Presence for Switch {
    async fn presence(&self, _: &Caller, users: &[UserName]) -> Result<Vec<presence::User>, Error> {
        let idle = presence::Presence {
            telephony: Some(presence::Telephony::Idle),
            im: None,
            mobile: None,
            status: None,
            note: None,
            most_available: None,
            semi_available: None,
        };
        let known = users.iter().filter(|user| user.as_str() != UNKNOWN);
        Ok(known.map(|user| presence::User { user: user.clone(), presence: Some(idle.clone()), actions: Vec::new() }).collect())
    }

    async fn resolve(&self, addresses: &[Destination]) -> Result<Vec<UserName>, Error> {
        Ok(addresses.iter().filter(|address| address.as_str() == "501").map(|_| user("ann")).collect())
    }

    async fn set(&self, of: &UserName, status: presence::Set) -> Result<presence::Presence, Error> {
        self.note(format!("presence.set {of}"));
        let mut all = Presence::presence(self, &caller(of.as_str(), Rights::default()), std::slice::from_ref(of)).await?;
        let presence = all.remove(0).presence.unwrap();
        Ok(presence::Presence { status: status.status, note: status.note, ..presence })
    }
}

/// No user.
pub(crate) const UNKNOWN: &str = "mallory";

/// A caller, for providers that are asked directly.
pub(crate) fn caller(name: &str, rights: Rights) -> Caller {
    let rights = Arc::new(rights);
    Caller { login: cas::login::LoginId(1), user: user(name), application: None, device: None, rights, scopes: None }
}

fn a_user(name: UserName) -> admin::User {
    admin::User { user: name, name: None, numbers: Vec::new(), managed: admin::Managed::Store, actions: Vec::new() }
}

impl Admin for Switch {
    async fn users(&self, _: Option<Line>) -> Result<admin::Users, Error> {
        Ok(admin::Users { users: vec![a_user(user("ann"))], more: false })
    }

    async fn add_user(&self, request: admin::AddUser) -> Result<admin::User, Error> {
        self.note(format!("admin.add-user {}", request.user));
        Ok(a_user(request.user))
    }

    async fn set_user(&self, request: admin::SetUser) -> Result<admin::User, Error> {
        self.note(format!("admin.set-user {}", request.user));
        Ok(a_user(request.user))
    }

    async fn remove_user(&self, user: &UserName) -> Result<(), Error> {
        self.note(format!("admin.remove-user {user}"));
        Ok(())
    }

    async fn devices(&self, of: Option<&UserName>, _: Option<DeviceId>) -> Result<admin::Devices, Error> {
        let device = |user: &UserName| admin::Device {
            device: DeviceId::parse("desk").unwrap(),
            user: user.clone(),
            agent: None,
            transport: None,
            expires_at: None,
            wakeable: false,
            actions: Vec::new(),
        };
        Ok(admin::Devices { devices: of.map(device).into_iter().collect(), more: false })
    }

    async fn remove_device(&self, user: &UserName, device: &DeviceId) -> Result<(), Error> {
        self.note(format!("admin.remove-device {user} {device}"));
        Ok(())
    }

    async fn numbers(&self, _: Option<Line>) -> Result<admin::Numbers, Error> {
        Ok(admin::Numbers { numbers: Vec::new(), more: false })
    }

    async fn add_number(&self, request: admin::AddNumber) -> Result<admin::Number, Error> {
        self.note(format!("admin.add-number {}", request.number));
        Ok(admin::Number { number: request.number, user: request.user, managed: admin::Managed::Store, actions: Vec::new() })
    }

    async fn remove_number(&self, number: &Destination) -> Result<(), Error> {
        self.note(format!("admin.remove-number {number}"));
        Ok(())
    }

    async fn keys(&self, _: Option<Line>) -> Result<admin::Keys, Error> {
        Ok(admin::Keys { keys: Vec::new(), more: false })
    }

    async fn add_key(&self, request: admin::AddKey) -> Result<admin::NewKey, Error> {
        self.note(format!("admin.add-key {}", request.key));
        let admin::AddKey { key, user, scopes } = request;
        Ok(admin::NewKey { key: admin::Key { key, user, scopes, actions: Vec::new() }, secret: "s3cret".into() })
    }

    async fn remove_key(&self, key: &Line) -> Result<(), Error> {
        self.note(format!("admin.remove-key {key}"));
        Ok(())
    }

    async fn status(&self) -> Result<admin::SwitchStatus, Error> {
        Ok(admin::SwitchStatus { version: "0".into(), uptime: 1, users: 1, devices: 1, calls: 0, draining: false, warnings: Vec::new() })
    }

    async fn drain(&self, _: admin::Drain) -> Result<admin::SwitchStatus, Error> {
        self.status().await
    }
}

impl Store for Switch {
    async fn unknown(&self, users: &[UserName]) -> Result<Option<UserName>, Error> {
        Ok(users.iter().find(|user| user.as_str() == "nobody").cloned())
    }

    async fn rights(&self, user: &UserName) -> Result<Rights, Error> {
        Ok(self.rights.lock().unwrap().get(user).cloned().unwrap_or_default())
    }

    async fn change_rights(&self, user: &UserName, change: permission::RightsChange) -> Result<Rights, Error> {
        self.note(format!("permission.change {user}"));
        let mut all = self.rights.lock().unwrap();
        let rights = change.apply(all.get(user).cloned().unwrap_or_default())?;
        all.insert(user.clone(), rights.clone());
        Ok(rights)
    }
}

/// Runs work of a provider in memory, which never waits.
pub(crate) fn run(switch: &Switch, work: Work) -> Result<topic::Done, Error> {
    let mut future = pin!(topic::serve(switch, work));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("a provider in memory never waits"),
    }
}

/// A server and everything around it.
pub(crate) struct Host {
    pub(crate) server: Server,
    pub(crate) switch: Switch,
    pub(crate) now: Instant,
    pub(crate) replies: BTreeMap<ExchangeId, Reply>,
    /// What streams were sent, as messages.
    pub(crate) streams: BTreeMap<StreamId, VecDeque<Value>>,
    /// Streams whose sockets take nothing.
    pub(crate) stuck: Vec<StreamId>,
    unsaid: BTreeMap<StreamId, Written>,
    pub(crate) closed: BTreeMap<StreamId, Error>,
    /// Work that waits, where `lazy`.
    pub(crate) work: VecDeque<(ServeId, Box<Work>)>,
    pub(crate) lazy: bool,
    pub(crate) abandoned: Vec<ServeId>,
    /// Who was not let in: as whom, and why.
    pub(crate) denied: Vec<(Option<UserName>, cas::server::Denied)>,
    /// Logins whose clients went away (false) or came back.
    pub(crate) comings: Vec<(LoginId, bool)>,
    /// Logins that are over.
    pub(crate) over: Vec<LoginId>,
    /// Passwords that are being checked, where `slow`.
    pub(crate) checking: Vec<(VerifyId, Option<Identity>)>,
    pub(crate) slow: bool,
    /// Most passwords that were ever asked for.
    pub(crate) verified: usize,
    last_exchange: u64,
}

impl Host {
    #[expect(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            server: Server::new(Settings::default(), [7; 32], now, 1_700_000_000_000),
            switch: Switch::default(),
            now,
            replies: BTreeMap::new(),
            streams: BTreeMap::new(),
            stuck: Vec::new(),
            unsaid: BTreeMap::new(),
            closed: BTreeMap::new(),
            work: VecDeque::new(),
            lazy: false,
            abandoned: Vec::new(),
            denied: Vec::new(),
            comings: Vec::new(),
            over: Vec::new(),
            checking: Vec::new(),
            slow: false,
            verified: 0,
            last_exchange: 0,
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.server.handle_input(self.now, input);
        self.drain();
    }

    /// Lets time pass, step by step.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.server.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Says that all that is on a stream was written.
    pub(crate) fn written(&mut self, stream: StreamId) {
        let written = self.unsaid.remove(&stream).unwrap_or_default();
        self.input(Input::Written(stream, written));
    }

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Reply { exchange, reply } => assert!(self.replies.insert(exchange, reply).is_none(), "two replies"),
                Output::Events { stream, frames } => {
                    let queue = self.streams.entry(stream).or_default();
                    let written = self.unsaid.entry(stream).or_default();
                    for frame in frames {
                        written.add(&frame);
                        let mut out = Vec::new();
                        frame.write(Encoding::Json, &mut out);
                        queue.push_back(serde_json::from_slice(&out).unwrap());
                    }
                    if written.is_due() && !self.stuck.contains(&stream) {
                        self.server.handle_input(self.now, Input::Written(stream, std::mem::take(written)));
                    }
                }
                Output::Forward { stream, body } => {
                    self.streams.entry(stream).or_default().push_back(serde_json::from_slice(&body).unwrap());
                }
                Output::Opened(_) => {}
                Output::Close { stream, why } => drop(self.closed.insert(stream, why)),
                Output::Verify { verify, credential, .. } => {
                    self.verified += 1;
                    let identity = self.identity(&credential);
                    if self.slow {
                        self.checking.push((verify, identity));
                    } else {
                        self.server.handle_input(self.now, Input::Verified { verify, identity });
                    }
                }
                Output::Serve { serve, work } => {
                    self.work.push_back((serve, work));
                    if !self.lazy {
                        self.work_one();
                    }
                }
                Output::Denied { user, why, .. } => self.denied.push((user, why)),
                Output::Abandon(serve) => self.abandoned.push(serve),
                Output::Away(login) => self.comings.push((login, false)),
                Output::Back(login) => self.comings.push((login, true)),
                Output::LoginOver(login) => self.over.push(login),
            }
        }
    }

    /// Does the work that waited longest.
    pub(crate) fn work_one(&mut self) {
        if let Some((serve, work)) = self.work.pop_front() {
            let outcome = run(&self.switch, *work);
            self.server.handle_input(self.now, Input::Served { serve, outcome });
            self.drain();
        }
    }

    /// Passwords are the name with `-secret`; `root` is an administrator; a key `key:USER:SCOPE,SCOPE` signs in as the user.
    fn identity(&self, credential: &Credential) -> Option<Identity> {
        let (name, scopes, key) = match credential {
            Credential::Password(name, password) => {
                (name.clone(), None, None).into_some_if(password.reveal() == format!("{name}-secret"))?
            }
            Credential::Key(key) => {
                let mut parts = key.reveal().strip_prefix("key:")?.split(':');
                let name = user(parts.next()?);
                let scopes: Arc<[Pattern]> = parts.next()?.split(',').map(|scope| Pattern::parse(scope).unwrap()).collect();
                (name, Some(scopes), Line::parse("a key").ok())
            }
        };
        let stored = self.switch.rights.lock().unwrap().get(&name).cloned();
        let role = if name.as_str() == "root" { Role::Administrator } else { Role::User };
        let rights = Arc::new(stored.unwrap_or_else(|| Rights::of(role)));
        Some(Identity { user: name, rights, scopes, key })
    }

    pub(crate) fn exchange(&mut self) -> ExchangeId {
        self.last_exchange += 1;
        ExchangeId(self.last_exchange)
    }

    /// Sends bytes; returns where the reply will be.
    pub(crate) fn send(&mut self, channel: Channel, encoding: Encoding, prefer: Option<&str>, body: Vec<u8>) -> ExchangeId {
        let exchange = self.exchange();
        let media_type = Some(encoding.media_type().to_owned());
        let request = Request {
            exchange,
            channel,
            content_type: media_type.clone(),
            accept: media_type,
            prefer: prefer.map(str::to_owned),
            body: body.into(),
        };
        self.input(Input::Request(request));
        exchange
    }

    pub(crate) fn reply(&mut self, exchange: ExchangeId) -> Option<Message> {
        let reply = self.replies.remove(&exchange)?;
        Some(Message::decode(reply.encoding, &reply.body).unwrap())
    }

    /// Posts a request of a client; returns its reply.
    pub(crate) fn post(&mut self, token: &Token, topic: &str, message: &str, body: Value) -> Message {
        self.post_preferring(token, None, topic, message, body)
    }

    pub(crate) fn post_preferring(&mut self, token: &Token, prefer: Option<&str>, topic: &str, message: &str, body: Value) -> Message {
        let exchange = self.send(once(Some(token)), Encoding::Json, prefer, bytes(topic, message, body));
        self.reply(exchange).unwrap_or_else(|| panic!("{topic}.{message} has no reply yet"))
    }

    pub(crate) fn sign_in(&mut self, name: &str) -> Token {
        let body = json!({ "user": name, "password": format!("{name}-secret") });
        self.sign_in_with(body)
    }

    pub(crate) fn sign_in_with(&mut self, body: Value) -> Token {
        let exchange = self.send(once(None), Encoding::Json, None, bytes("login", "login", body));
        let reply = self.reply(exchange).unwrap();
        assert_eq!(reply.response, Some(0), "{reply:?}");
        Token::shown(reply.body["token"].as_str().unwrap())
    }

    /// Opens a stream.
    pub(crate) fn open(&mut self, number: u64, token: Option<&Token>, after: Option<u64>) -> StreamId {
        let stream = StreamId(number);
        self.input(Input::Open(Open { stream, peer: loopback(), token: token.cloned(), after, encoding: Encoding::Json }));
        stream
    }

    /// Sends a message on a stream; returns the reply if there is one already.
    pub(crate) fn say(&mut self, stream: StreamId, topic: &str, message: &str, body: Value) -> Option<Message> {
        let exchange = self.send(Channel::Stream(stream), Encoding::Json, None, bytes(topic, message, body));
        self.reply(exchange)
    }

    /// Asks for events by HTTP; returns where the reply will be.
    pub(crate) fn poll(&mut self, token: &Token, after: Option<u64>, wait: Option<u32>) -> ExchangeId {
        let exchange = self.exchange();
        let token = Some(token.clone());
        self.input(Input::Poll(PollRequest { exchange, peer: loopback(), token, accept: None, after, wait }));
        exchange
    }

    /// Returns the events that a stream was sent since the last look.
    pub(crate) fn events(&mut self, stream: StreamId) -> Vec<Value> {
        self.streams.entry(stream).or_default().drain(..).collect()
    }
}

trait IntoSomeIf: Sized {
    fn into_some_if(self, condition: bool) -> Option<Self> {
        condition.then_some(self)
    }
}

impl<T> IntoSomeIf for T {}

pub(crate) fn loopback() -> Peer {
    Peer::Network { address: [127, 0, 0, 1].into(), wire: Wire::Clear }
}

pub(crate) fn once(token: Option<&Token>) -> Channel {
    Channel::Once { peer: loopback(), token: token.cloned() }
}

/// A request as JSON.
pub(crate) fn bytes(topic: &str, message: &str, body: Value) -> Vec<u8> {
    json!({ "topic": topic, "message": message, "timestamp": 1, "sequence-id": 26, "request-id": 26, "body": body })
        .to_string()
        .into_bytes()
}

/// Names of the things that an event or a reply lists as `actions` of its call.
pub(crate) fn actions(body: &Value) -> Vec<&str> {
    body["call"]["actions"].as_array().unwrap().iter().map(|action| action.as_str().unwrap()).collect()
}
