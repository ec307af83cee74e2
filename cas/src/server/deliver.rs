//! Events on their way: from something that happened to the logins that may know, and from there to streams and waiting requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::dispatch::check_wire;
use super::{Asked, Open, Output, Peer, PollRequest, Sender, Server, Sink, StreamId, Timer};
use crate::error::{Error, Fault};
use crate::event::{Event, Events, Frame, Frames, Gap, KEPT_AFTER_WRITING};
use crate::login::{Login, LoginId, login_required};
use crate::message::{Encoding, Message, Unreadable};
use crate::pending::{Pending, QUICK_LIMIT, Then, Worker};
use crate::permission::{Owner, decide, permits};
use crate::text::{Name, UserName};
use crate::topic::event::GetEvent;
use crate::topic::{Happening, Request, Seen, Work, event_right, snapshot};

/// Most streams at once. A further one is closed.
pub const MAX_STREAMS: usize = 20_000;

/// Most streams of a login. A further one closes the oldest.
pub const MAX_STREAMS_OF_LOGIN: usize = 8;

/// Most events in one reply, and on their way to one stream that are not known to be written.
pub const MAX_BATCH: usize = 256;

/// About how many bytes they have at most, as JSON.
pub const MAX_BATCH_BYTES: usize = 512 * 1024;

/// How long a stream may be open without a login.
pub const SIGN_IN_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for events, in seconds. A longer one is refused.
pub const MAX_POLL: u32 = 60;

/// Wait for events of a client that does not say, in seconds.
pub const POLL: u32 = 30;

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) peer: Peer,
    pub(super) login: Option<LoginId>,
    pub(super) encoding: Encoding,
    /// Number of the last reply before there was a login.
    pub(super) replies: u64,
}

/// A stream of a login: how far it is with the login's events.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(super) stream: StreamId,
    /// Number of the last event that was put on it.
    cursor: u64,
    /// What was put on it and is not known to be written.
    under_way: Written,
    /// Whether a snapshot is made for it; what is newer waits.
    waits: bool,
}

/// Events that a host wrote to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    events: usize,
    bytes: usize,
}

impl Written {
    /// Counts one more.
    pub fn add(&mut self, frame: &Frame) {
        self.events += 1;
        self.bytes += frame.len();
    }

    /// Returns whether so much was written that the server must be told, for it to go on.
    #[must_use]
    pub fn is_due(self) -> bool {
        self.events >= MAX_BATCH / 8 || self.bytes >= MAX_BATCH_BYTES / 8
    }
}

impl Attached {
    /// Returns the number of the last event that is known to be written.
    fn written(&self) -> u64 {
        self.cursor.saturating_sub(self.under_way.events as u64)
    }

    /// Takes what the stream lacks, as far as there is room on it. The stream of a gap waits for a snapshot.
    fn advance(&mut self, login: &Events) -> Result<Option<Output>, Gap> {
        let room = (MAX_BATCH.saturating_sub(self.under_way.events), MAX_BATCH_BYTES.saturating_sub(self.under_way.bytes));
        if self.waits || room.0 == 0 || room.1 == 0 {
            return Ok(None);
        }
        let frames = login.after(self.cursor, room.0, room.1).inspect_err(|_| self.waits = true)?;
        let Some(last) = frames.last() else { return Ok(None) };
        self.cursor = last.sequence_id;
        frames.iter().for_each(|frame| self.under_way.add(frame));
        Ok(Some(Output::Events { stream: self.stream, frames }))
    }
}

/// A request that waits for events.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) asked: Asked,
    after: u64,
    until: Instant,
}

impl Server {
    /// Tells something to the logins that subscribed to it, or to the one that it is for, if they may know.
    pub(super) fn happened(&mut self, now: Instant, happening: &Happening) {
        let users = happening.users();
        let timestamp = self.unix(now);
        let mut written: Vec<(u64, Arc<Event>)> = Vec::with_capacity(2);
        let logins = happening.login().map_or_else(|| self.subscribers.of(happening.subscription(), users.as_deref()), |login| vec![login]);
        // At whom something waits to be picked up is not who may: that was decided for each who subscribed.
        let owners = users.as_deref().filter(|_| !matches!(happening, Happening::Waiting(_)));
        let (right, owner) = (event_right(happening.subscription()), owners.map_or(Owner::Service, Owner::Users));
        for id in logins {
            let Some(login) = self.logins.find_mut(id).filter(|login| permits(&login.caller, right, owner)) else { continue };
            if !happening.is_for(&login.caller) {
                continue;
            }
            let view = happening.view(&login.caller);
            let event = match written.iter().find(|(other, _)| *other == view) {
                Some((_, event)) => event.clone(),
                None => {
                    let body = |out: &mut Vec<u8>| happening.write(view, out);
                    let event = Event::written(happening.topic(), happening.message(view), timestamp, body);
                    written.push((view, event.clone()));
                    event
                }
            };
            let lacking = hand_on(login, event, &mut self.outputs);
            self.handed_on(now, id, lacking);
        }
    }

    /// Adds an event to a login, and hands it on if somebody waits for it.
    pub(super) fn push(&mut self, now: Instant, id: LoginId, event: Arc<Event>) {
        let Some(login) = self.logins.find_mut(id) else { return };
        let lacking = hand_on(login, event, &mut self.outputs);
        self.handed_on(now, id, lacking);
    }

    fn handed_on(&mut self, now: Instant, id: LoginId, lacking: Vec<StreamId>) {
        if let Some(poll) = self.polls.remove(&id) {
            self.timers.remove(&(poll.until, Timer::Poll(id)));
            self.touch(now, id);
            self.answer_poll(now, id, poll.asked, poll.after);
        }
        for stream in lacking {
            self.make_snapshot(now, id, stream);
        }
    }

    /// Takes `GET /cas/events`.
    pub(super) fn poll_request(&mut self, now: Instant, request: PollRequest) {
        let PollRequest { exchange, peer, token, accept, after, wait } = request;
        let encoding = match Encoding::of_accept(accept.as_deref(), Encoding::Json) {
            Ok(encoding) => encoding,
            Err(error) => return self.refused(now, exchange, token.as_ref(), None, error),
        };
        let token = token.ok_or_else(|| login_required("a login comes first: topic login, message login"));
        let login = check_wire(peer).and(token).and_then(|token| self.logins.authenticate(now, &token));
        let name = |text| Name::parse(text).expect("a plain word");
        match login {
            Err(error) => {
                let (topic, message) = (Some(name("event")), Some(name("get-event")));
                let sink = Sink::Exchange(exchange, encoding);
                self.refuse(now, sink, Sender::default(), Unreadable { error, topic, message, request_id: None });
            }
            Ok(login) => {
                self.touch(now, login);
                let (topic, message) = (name("event"), name("get-event"));
                let sender = Sender { login: Some(login), stream: None };
                let asked = Asked { topic, message, request_id: Some(0), sender, sink: Sink::Exchange(exchange, encoding) };
                let Some(caller) = self.logins.find(login).map(|login| login.caller.clone()) else { return };
                let right = crate::permission::Right { topic: "event", message: "get-event", user: crate::permission::Reach::Own };
                match decide(&caller, right, Owner::Service) {
                    Ok(()) => self.wait_for_events(now, login, asked, &GetEvent { after, wait }),
                    Err(error) => self.answer(now, asked, Err(error)),
                }
            }
        }
    }

    /// Answers with events, or waits for one.
    pub(super) fn wait_for_events(&mut self, now: Instant, id: LoginId, asked: Asked, request: &GetEvent) {
        let wait = request.wait.unwrap_or(POLL);
        if wait > MAX_POLL {
            return self.answer(now, asked, Err(Error::field("wait", format!("field wait: expected 0 to {MAX_POLL} seconds"))));
        }
        if matches!(asked.sink, Sink::Slot(..)) {
            return self.answer(now, asked, Err(Error::new(Fault::BadMessage, "waiting for events cannot be part of a bulk")));
        }
        // A client has one request waiting: an older one is of a connection that it gave up.
        if let Some(older) = self.polls.remove(&id) {
            self.timers.remove(&(older.until, Timer::Poll(id)));
            self.answer_events(now, older.asked, &[]);
        }
        let Some(login) = self.logins.find_mut(id) else { return };
        let after = request.after.unwrap_or(login.polled.max(login.events.gone()));
        if after > login.events.last() {
            let last = login.events.last();
            return self.answer(now, asked, Err(Error::field("after", format!("field after: expected 0 to {last}"))));
        }
        if request.after.is_some() && login.streams.is_empty() {
            login.events.acknowledge(after);
        }
        if login.events.last() > after || wait == 0 {
            return self.answer_poll(now, id, asked, after);
        }
        let until = now + Duration::from_secs(wait.into());
        self.polls.insert(id, Poll { asked, after, until });
        self.after(until, Timer::Poll(id));
    }

    fn answer_poll(&mut self, now: Instant, id: LoginId, asked: Asked, after: u64) {
        let Some(login) = self.logins.find_mut(id) else { return };
        match login.events.after(after, MAX_BATCH, MAX_BATCH_BYTES) {
            Ok(frames) => {
                login.polled = frames.last().map_or(after, |frame| frame.sequence_id);
                self.answer_events(now, asked, &frames);
            }
            Err(Gap::Gone | Gap::Ahead) => {
                let at = login.events.covered();
                let work = self.snapshot_work(now, id);
                if let (Some(work), Some(serve)) =
                    (work, self.begin(now, id, asked, Worker::SnapshotReply { after, at }, (QUICK_LIMIT, Then::Timeout), QUICK_LIMIT))
                {
                    self.output(Output::Serve { serve, work: Box::new(work) });
                }
            }
        }
    }

    pub(super) fn poll_ends(&mut self, now: Instant, id: LoginId) {
        if self.polls.get(&id).is_some_and(|poll| poll.until <= now)
            && let Some(poll) = self.polls.remove(&id)
        {
            self.touch(now, id);
            self.answer_events(now, poll.asked, &[]);
        }
    }

    /// Takes a stream that was opened.
    pub(super) fn open(&mut self, now: Instant, open: Open) {
        let Open { stream, peer, token, after, encoding } = open;
        let full = || Error::new(Fault::Unavailable, format!("there are {MAX_STREAMS} streams; no more are taken"));
        let room = if self.streams.len() < MAX_STREAMS { Ok(()) } else { Err(full()) };
        let login = check_wire(peer).and(room).and_then(|()| token.map(|token| self.logins.authenticate(now, &token)).transpose());
        match login {
            Err(why) => self.output(Output::Close { stream, why }),
            Ok(login) => {
                self.streams.insert(stream, Stream { peer, login: None, encoding, replies: 0 });
                match login {
                    Some(login) => self.attach(now, stream, login, after),
                    None => self.after(now + SIGN_IN_LIMIT, Timer::SignIn(stream)),
                }
            }
        }
    }

    /// Gives a stream its login; events flow from then on.
    pub(super) fn attach(&mut self, now: Instant, id: StreamId, login: LoginId, after: Option<u64>) {
        let Some(known) = self.logins.find_mut(login) else { return };
        let last = known.events.last();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let cursor = after.unwrap_or(known.polled.max(known.events.gone()));
        if cursor > last {
            self.streams.remove(&id);
            return self.output(Output::Close { stream: id, why: Error::field("after", format!("field after: expected 0 to {last}")) });
        }
        stream.login = Some(login);
        known.streams.push(Attached { stream: id, cursor, under_way: Written::default(), waits: false });
        let surplus = known.streams.first().filter(|_| known.streams.len() > MAX_STREAMS_OF_LOGIN).map(|oldest| oldest.stream);
        self.touch(now, login);
        self.output(Output::Opened(id));
        self.pump(now, login, id);
        if let Some(oldest) = surplus {
            let why = Error::new(Fault::TooMany, format!("a login has at most {MAX_STREAMS_OF_LOGIN} streams; a newer one took the place"));
            self.output(Output::Close { stream: oldest, why });
            self.closed(now, oldest);
        }
    }

    pub(super) fn sign_in_due(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(|stream| stream.login.is_none()) {
            self.streams.remove(&id);
            self.output(Output::Close { stream: id, why: login_required("no login came in time") });
        }
    }

    pub(super) fn written(&mut self, now: Instant, id: StreamId, written: Written) {
        let Some(login) = self.streams.get(&id).and_then(|stream| stream.login) else { return };
        let Some(known) = self.logins.find_mut(login) else { return };
        let Some(attached) = known.streams.iter_mut().find(|attached| attached.stream == id) else { return };
        let Written { events, bytes } = &mut attached.under_way;
        *events = events.saturating_sub(written.events);
        *bytes = bytes.saturating_sub(written.bytes);
        // A stream that breaks off now may have lost what was written last; the slowest of a login's streams counts.
        let slowest = known.streams.iter().map(Attached::written).min().unwrap_or_default();
        known.events.acknowledge(slowest.saturating_sub(KEPT_AFTER_WRITING as u64));
        self.pump(now, login, id);
    }

    pub(super) fn closed(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if let Some(login) = stream.login {
            self.touch(now, login);
            if let Some(login) = self.logins.find_mut(login) {
                login.streams.retain(|attached| attached.stream != id);
            }
        }
        self.plugin_gone(now, id);
    }

    /// Puts events on a stream that takes them.
    fn pump(&mut self, now: Instant, login: LoginId, id: StreamId) {
        let Some(known) = self.logins.find_mut(login) else { return };
        let Some(attached) = known.streams.iter_mut().find(|attached| attached.stream == id) else { return };
        match attached.advance(&known.events) {
            Ok(output) => self.outputs.extend(output),
            Err(Gap::Gone | Gap::Ahead) => self.make_snapshot(now, login, id),
        }
    }

    /// Has a snapshot made for a stream that lacks events.
    fn make_snapshot(&mut self, now: Instant, login: LoginId, id: StreamId) {
        let Some(work) = self.snapshot_work(now, login) else { return };
        let worker = Worker::SnapshotFor(id, self.logins.find(login).map_or(0, |login| login.events.covered()));
        let (until, deadline) = (now + QUICK_LIMIT, now + QUICK_LIMIT);
        let pending = Pending { login, asked: None, worker, until, then: Then::Timeout, deadline, pending_id: None };
        let serve = self.pendings.add(pending);
        self.after(deadline, Timer::Work(serve));
        self.output(Output::Serve { serve, work: Box::new(work) });
    }

    fn snapshot_work(&self, now: Instant, id: LoginId) -> Option<Work> {
        let login = self.logins.find(id)?;
        let (mut tel, mut presence, mut ask) = (false, Vec::<UserName>::new(), Vec::<String>::new());
        for subscription in &login.subscriptions {
            match (subscription.topic.as_str(), &subscription.users) {
                ("tel", _) => tel = true,
                ("presence", Some(users)) => presence.extend(users.iter().cloned()),
                (topic, _) => ask.push(topic.to_owned()),
            }
        }
        presence.sort_unstable();
        presence.dedup();
        if presence.len() > crate::topic::presence::MAX_USERS {
            presence.clear();
            ask.push("presence".to_owned());
        }
        ask.push("permission".to_owned());
        ask.sort_unstable();
        ask.dedup();
        let request = Request::Snapshot(snapshot::Request { tel, presence, ask });
        Some(Work { caller: login.caller.clone(), request, at: self.unix(now) })
    }

    /// Puts a snapshot on the stream that lacks events, in their place.
    pub(super) fn snapshot_for(&mut self, now: Instant, id: StreamId, at: u64, outcome: Result<Value, Error>) {
        let snapshot = self.snapshot_frame(now, at, outcome);
        let Some(login) = self.streams.get(&id).and_then(|stream| stream.login) else { return };
        let Some(known) = self.logins.find_mut(login) else { return };
        let Some(attached) = known.streams.iter_mut().find(|attached| attached.stream == id) else { return };
        let mut frames = known.events.replies(attached.cursor, at, MAX_BATCH);
        frames.push(snapshot);
        (attached.cursor, attached.waits) = (at, false);
        frames.iter().for_each(|frame| attached.under_way.add(frame));
        self.output(Output::Events { stream: id, frames });
        self.pump(now, login, id);
    }

    /// Gives a snapshot to the waiting request that lacks events.
    pub(super) fn snapshot_reply(&mut self, now: Instant, asked: Asked, (after, at): (u64, u64), outcome: Result<Value, Error>) {
        let snapshot = self.snapshot_frame(now, at, outcome);
        let mut frames = Frames::new();
        if let Some(login) = asked.sender.login.and_then(|id| self.logins.find_mut(id)) {
            login.polled = at;
            frames = login.events.replies(after, at, MAX_BATCH);
        }
        frames.push(snapshot);
        self.answer_events(now, asked, &frames);
    }

    fn snapshot_frame(&self, now: Instant, at: u64, outcome: Result<Value, Error>) -> Frame {
        // Where the state cannot be had, the client is told to ask for all of it.
        let body = outcome.unwrap_or_else(|_| json!({ "ask": ["tel", "presence", "permission"] }));
        Frame::new(at, Event::new(&event_message("event", "snapshot", self.unix(now), body)))
    }
}

/// Adds an event to a login, and puts it on those of its streams that take it. Returns those that lack older ones.
fn hand_on(login: &mut Login, event: Arc<Event>, outputs: &mut VecDeque<Output>) -> Vec<StreamId> {
    login.events.push(event);
    let mut lacking = Vec::new();
    for attached in &mut login.streams {
        match attached.advance(&login.events) {
            Ok(output) => outputs.extend(output),
            Err(Gap::Gone | Gap::Ahead) => lacking.push(attached.stream),
        }
    }
    lacking
}

fn event_message(topic: &str, message: &str, timestamp: u64, body: Value) -> Message {
    let name = |text| Name::parse(text).expect("topics and messages of events are names");
    let (topic, message) = (name(topic), name(message));
    Message { topic, message, timestamp, sequence_id: 0, request_id: None, response: None, pending_id: None, headers: Map::new(), body }
}
