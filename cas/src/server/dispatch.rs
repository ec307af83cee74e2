//! One request from its bytes to whoever serves it: who asks, what for, whether they may, then to the server itself, a provider or a
//! plug-in. The right is decided before the body is read and before any state is touched (S15), for HTTP and streams alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::deliver::Stream;
use super::{Asked, Channel, ExchangeId, Output, Peer, Request, Sender, Server, Sink, StreamId, Timer};
use crate::error::{Error, Fault};
use crate::login::{LoginId, login_required};
use crate::message::{Encoding, Message, Unreadable};
use crate::pending::{MAX_PENDING, MAX_PENDING_OF_LOGIN, Pace, Pending, Prefer, ServeId, Then, Worker};
use crate::permission::{Caller, Owner, decide};
use crate::plugin;
use crate::random::Token;
use crate::topic::operation::unknown_message;
use crate::topic::subscription::Subscription;
use crate::topic::{self, Done, Effect, Mode, Work};

/// Longest message of somebody without a login, in bytes: room for `login`. A longer one is refused unread.
pub const MAX_SIGN_IN: usize = 8 * 1024;

impl Server {
    pub(super) fn request(&mut self, now: Instant, request: Request) {
        let exchange = request.exchange;
        let found = self.sender(now, &request);
        let sender = found.as_ref().map(|(sender, _)| *sender).unwrap_or_else(|_| request.channel.sender());
        let (reads, writes) = match self.encodings(&request) {
            Ok(encodings) => encodings,
            Err(error) => return self.refuse(now, Sink::Exchange(exchange, Encoding::Json), sender, error.into()),
        };
        let sink = Sink::Exchange(exchange, writes);
        let taken = found.and_then(|(_, peer)| Ok((self.read(now, &request, sender, reads)?, peer)));
        match taken {
            Err(error) => self.refuse(now, sink, sender, error.into()),
            Ok((Taken::Done, _)) => {}
            Ok((Taken::Message(Err(unreadable)), _)) => self.refuse(now, sink, sender, *unreadable),
            Ok((Taken::Message(Ok(message)), peer)) => self.take(now, sink, &request, (sender, peer), message),
        }
    }

    /// Refuses what the host could not take as a request.
    pub(super) fn refused(&mut self, now: Instant, exchange: ExchangeId, token: Option<&Token>, accept: Option<&str>, error: Error) {
        let login = token.and_then(|token| self.logins.authenticate(now, token).ok());
        let encoding = Encoding::of_accept(accept, Encoding::Json).unwrap_or_default();
        self.refuse(now, Sink::Exchange(exchange, encoding), Sender { login, stream: None }, error.into());
    }

    fn take(&mut self, now: Instant, sink: Sink, request: &Request, (sender, peer): (Sender, Peer), message: Message) {
        let prefer = match message.headers.get("prefer").and_then(Value::as_str).or(request.prefer.as_deref()) {
            Some(header) => Prefer::parse(header),
            None => Ok(Prefer::default()),
        };
        let (prefer, request_id) = match prefer.and_then(|prefer| Ok((prefer, message.number()?))) {
            Ok(numbers) => numbers,
            Err(error) => {
                let (topic, name) = (Some(message.topic), Some(message.message));
                return self.refuse(now, sink, sender, Unreadable { error, topic, message: name, request_id: message.request_id });
            }
        };
        let Message { topic, message: name, body, .. } = message;
        let asked = Asked { topic, message: name, request_id: Some(request_id), sender, sink };
        match sender.login {
            _ if asked.topic.as_str() == "login" && asked.message.as_str() == "login" => {
                if sender.stream.is_some() && sender.login.is_some() {
                    return self.answer(now, asked, Err(Error::new(Fault::Conflict, "this stream has a login; log out first")));
                }
                self.sign_in(now, asked, peer, body);
            }
            Some(login) => {
                self.touch(now, login);
                self.dispatch(now, login, sender.stream, prefer, asked, body);
            }
            None => self.answer(now, asked, Err(login_required("a login comes first: topic login, message login"))),
        }
    }

    fn encodings(&self, request: &Request) -> Result<(Encoding, Encoding), Error> {
        if let Channel::Stream(stream) = request.channel {
            let encoding = self.streams.get(&stream).map_or(Encoding::Json, |stream| stream.encoding);
            return Ok((encoding, encoding));
        }
        let reads = Encoding::of_content_type(request.content_type.as_deref())?;
        Ok((reads, Encoding::of_accept(request.accept.as_deref(), reads)?))
    }

    /// Finds out who sent a request, before anything in it is read.
    fn sender(&mut self, now: Instant, request: &Request) -> Result<(Sender, Peer), Error> {
        match &request.channel {
            Channel::Once { peer: Peer::Host, token: None } => {
                let login = self.host_login(now)?;
                Ok((Sender { login: Some(login), stream: None }, Peer::Host))
            }
            Channel::Once { peer, token } => {
                check_wire(*peer)?;
                let login = token.as_ref().map(|token| self.logins.authenticate(now, token)).transpose()?;
                Ok((Sender { login, stream: None }, *peer))
            }
            Channel::Stream(id) => {
                let Stream { peer, login, .. } = self.streams.get(id).ok_or_else(|| login_required("the stream is closed"))?;
                Ok((Sender { login: *login, stream: Some(*id) }, *peer))
            }
        }
    }

    fn read(&mut self, now: Instant, request: &Request, sender: Sender, encoding: Encoding) -> Result<Taken, Error> {
        if sender.login.is_none() && request.body.len() > MAX_SIGN_IN {
            return Err(login_required("a login comes first: topic login, message login"));
        }
        let value = encoding.read(&request.body)?;
        let Some(stream) = sender.stream.filter(|stream| self.plugins.find_mut(*stream).is_some()) else {
            return Ok(Taken::Message(Message::from_value(value)));
        };
        if let Some(said) = plugin::of_json_rpc(&value) {
            let login = sender.login;
            self.plugin_said(now, stream, login, said?);
            return Ok(Taken::Done);
        }
        match Message::from_value(value) {
            Ok(message) if message.response.is_some() => {
                let said = plugin::of_reply(message).ok_or_else(|| Error::header("request-id", "header request-id is missing"))?;
                self.plugin_said(now, stream, sender.login, said);
                Ok(Taken::Done)
            }
            message => Ok(Taken::Message(message)),
        }
    }

    /// Sends a request of a login to whoever serves it.
    pub(super) fn dispatch(&mut self, now: Instant, login: LoginId, stream: Option<StreamId>, prefer: Prefer, asked: Asked, body: Value) {
        let Some(caller) = self.logins.find(login).map(|login| login.caller.clone()) else { return };
        let Some(operations) = topic::operations(asked.topic.as_str()) else {
            let right = plugin::right(asked.topic.as_str(), asked.message.as_str());
            return match decide(&caller, right, Owner::Service) {
                Ok(()) => self.forward(now, &caller, prefer, asked, body),
                Err(error) => self.answer(now, asked, Err(error)),
            };
        };
        let Some(operation) = operations.iter().find(|operation| operation.message == asked.message.as_str()) else {
            let error = unknown_message(operations, asked.message.as_str());
            return self.answer(now, asked, Err(error));
        };
        if let Err(error) = decide(&caller, operation.right(), Owner::Service) {
            return self.answer(now, asked, Err(error));
        }
        if operation.mode == Mode::Own {
            return self.serve_own(now, &caller, stream, prefer, asked, body);
        }
        match topic::Request::decode(operation.topic, operation.message, body) {
            Err(error) => self.answer(now, asked, Err(error)),
            Ok(request) => {
                self.ask_provider(now, caller, prefer, asked, request, &Pace::of(operation.mode));
            }
        }
    }

    /// Has a request served by a provider.
    pub(super) fn ask_provider(
        &mut self,
        now: Instant,
        caller: Arc<Caller>,
        prefer: Prefer,
        asked: Asked,
        request: topic::Request,
        pace: &Pace,
    ) {
        let (login, patience) = (caller.login, self.patience(&asked, prefer, pace));
        let work = Work { caller, request, at: self.unix(now) };
        if let Some(serve) = self.begin(now, login, asked, Worker::Provider, patience, pace.limit) {
            self.output(Output::Serve { serve, work: Box::new(work) });
            self.work_due(now, serve);
        }
    }

    /// Notes that somebody works for a request; refuses it where too many wait.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        login: LoginId,
        asked: Asked,
        worker: Worker,
        patience: (Duration, Then),
        limit: Duration,
    ) -> Option<ServeId> {
        let is_full = self.pendings.len() >= MAX_PENDING;
        let known = self.logins.find_mut(login).filter(|login| !is_full && login.waiting < MAX_PENDING_OF_LOGIN);
        let Some(known) = known else {
            if let Worker::Plugin(stream) = worker {
                self.plugins.find_mut(stream).into_iter().for_each(|plugin| plugin.waiting -= 1);
            }
            self.answer(now, asked, Err(Error::new(Fault::TooMany, format!("{MAX_PENDING_OF_LOGIN} requests of this login wait already"))));
            return None;
        };
        known.waiting += 1;
        let (wait, then) = patience;
        let deadline = now + limit;
        let until = (now + wait).min(deadline);
        let pending = Pending { login, asked: Some(asked), worker, until, then, deadline, pending_id: None };
        let serve = self.pendings.add(pending);
        self.after(until, Timer::Work(serve));
        Some(serve)
    }

    /// Returns how long the client waits. Replies of a bulk that come by themselves are final.
    pub(super) fn patience(&self, asked: &Asked, prefer: Prefer, pace: &Pace) -> (Duration, Then) {
        match asked.sink {
            Sink::Slot(bulk, _) if self.bulks.get(&bulk).is_some_and(|bulk| bulk.asked.is_none()) => (pace.limit, Then::Timeout),
            Sink::Slot(..) | Sink::Exchange(..) => prefer.patience(pace),
        }
    }

    /// Looks whether a client waited long enough, or the work took too long.
    pub(super) fn work_due(&mut self, now: Instant, serve: ServeId) {
        let Some(pending) = self.pendings.find(serve) else { return };
        let (until, deadline, then, login) = (pending.until, pending.deadline, pending.then, pending.login);
        let is_told = pending.pending_id.is_some() || pending.asked.is_none();
        if now >= deadline || (now >= until && then == Then::Timeout && !is_told) {
            return self.give_up(now, serve);
        }
        if now < until || is_told {
            return self.after(if is_told { deadline } else { until }, Timer::Work(serve));
        }
        self.after(deadline, Timer::Work(serve));
        self.timers.remove(&(until, Timer::Work(serve)));
        let pending_id = self.next_pending_id(login);
        let Some(asked) = self.pendings.find_mut(serve).and_then(|pending| {
            pending.pending_id = Some(pending_id);
            let asked = pending.asked.as_ref()?;
            let kept = Asked { topic: asked.topic.clone(), message: asked.message.clone(), sink: Sink::Slot(0, 0), ..*asked };
            pending.asked.replace(kept)
        }) else {
            return;
        };
        self.answer_pending(now, asked, pending_id);
    }

    pub(super) fn next_pending_id(&mut self, login: LoginId) -> u64 {
        self.logins.find_mut(login).map_or(0, |login| {
            login.pending_ids += 1;
            login.pending_ids
        })
    }

    fn give_up(&mut self, now: Instant, serve: ServeId) {
        if let Some(Worker::Plugin(stream)) = self.pendings.find(serve).map(|pending| pending.worker.clone())
            && let Some(plugin) = self.plugins.find_mut(stream)
        {
            plugin.timeouts += 1;
        }
        self.output(Output::Abandon(serve));
        self.finished(now, serve, Err(Error::new(Fault::Timeout, "what serves this did not answer in time")));
    }

    /// Takes what a piece of work came to.
    pub(super) fn finished(&mut self, now: Instant, serve: ServeId, outcome: Result<Done, Error>) {
        let Some(pending) = self.pendings.take(serve) else { return };
        self.release(serve, &pending);
        let Pending { login, asked, worker, pending_id, .. } = pending;
        let (outcome, ends) = match outcome {
            Ok(Done { body, effects }) => {
                let (ends, effects) = effects.into_iter().partition(Effect::ends_logins);
                (self.take_effects(now, login, Done { body, effects }), ends)
            }
            Err(error) => (Err(error), Vec::new()),
        };
        match (worker, asked, pending_id) {
            (Worker::SnapshotFor(stream, at), ..) => self.snapshot_for(now, stream, at, outcome),
            (Worker::SnapshotReply { after, at }, Some(asked), _) => self.snapshot_reply(now, asked, (after, at), outcome),
            (_, Some(asked), Some(pending_id)) => self.complete(now, login, &asked, pending_id, outcome),
            (_, Some(asked), None) => self.answer(now, asked, outcome),
            (_, None, _) => {}
        }
        ends.into_iter().for_each(|effect| self.take_end(now, effect));
    }

    /// Frees what a piece of work held.
    pub(super) fn release(&mut self, serve: ServeId, pending: &Pending) {
        self.timers.remove(&(pending.until, Timer::Work(serve)));
        self.timers.remove(&(pending.deadline, Timer::Work(serve)));
        if let Some(login) = self.logins.find_mut(pending.login) {
            login.waiting = login.waiting.saturating_sub(1);
        }
        if let Worker::Plugin(stream) = pending.worker
            && let Some(plugin) = self.plugins.find_mut(stream)
        {
            plugin.waiting = plugin.waiting.saturating_sub(1);
        }
    }

    fn take_effects(&mut self, now: Instant, login: LoginId, done: Done) -> Result<Value, Error> {
        let Done { mut body, effects } = done;
        for effect in effects {
            match effect {
                Effect::Subscribe { topic, users } => {
                    let topic = crate::text::Name::parse(topic).expect("a topic of ours is a name");
                    let id = self.add_subscription(login, Subscription { id: 0, topic, users })?;
                    body["subscription"] = id.into();
                }
                Effect::Rights { user, rights } => self.change_rights(now, &user, &rights),
                Effect::Device(is_device) => {
                    if let Some(login) = self.logins.find_mut(login) {
                        login.is_device = is_device;
                    }
                }
                Effect::Serve(then) => body = self.serve_known(now, login, then)?,
                Effect::EndLogins { .. } | Effect::EndLoginsOfKey { .. } => self.take_end(now, effect),
            }
        }
        Ok(body)
    }

    fn take_end(&mut self, now: Instant, effect: Effect) {
        match effect {
            Effect::EndLogins { user, why } => self.end_logins_of(now, &user, why),
            Effect::EndLoginsOfKey { key } => self.end_logins_of_key(now, &key),
            Effect::Subscribe { .. } | Effect::Rights { .. } | Effect::Device(_) | Effect::Serve(_) => {}
        }
    }
}

impl Channel {
    /// Returns who sent something where no login is known.
    fn sender(&self) -> Sender {
        match self {
            Self::Once { .. } => Sender::default(),
            Self::Stream(stream) => Sender { login: None, stream: Some(*stream) },
        }
    }
}

/// What a message on a channel was.
enum Taken {
    /// A plug-in's word, which has been taken.
    Done,
    /// A request, or something that should be one.
    Message(Result<Message, Box<Unreadable>>),
}

/// Refuses to talk where others can read.
pub(super) fn check_wire(peer: Peer) -> Result<(), Error> {
    if peer.is_private() { Ok(()) } else { Err(Error::new(Fault::TlsRequired, "outside loopback only TLS is spoken")) }
}
