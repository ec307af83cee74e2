//! The loop that owns SIP: `sip::Endpoint`, the calls, the registrar's bindings. One task; everything else sends it messages.
//!
//! An input comes from a socket, the storage, the media threads or the clock; then whatever it led to is carried out until nothing is left
//! ([`Signaling::settle`]), and the loop waits again.

mod ask;
mod command;
mod conference;
mod connection;
mod dispatch;
mod drain;
mod forward;
mod guide;
mod lasting;
mod load;
mod news;
mod outside;
mod port;
mod refer;
mod resolve;
mod thin;
mod unwritten;
mod watcher;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use media::Event as MediaEvent;
use sip::digest::Challenger;
use sip::random::Random;
use sip::{Endpoint, Hop, UnixTime, registrar};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, warn};

use crate::call::command::Ticket;
use crate::call::conference::room::{Pin, Room};
use crate::call::{Calls, Output, Switch};
use crate::clock;
use crate::config::{Config, Group, MediaPath, Srtp, Trunk};
use crate::history::detail;
use crate::inside;
use crate::location::Locations;
use crate::net::dns::Dns;
use crate::net::{Event as NetEvent, Net};
use crate::presence::publication::Lasting;
use crate::presence::watch::Found;
use crate::presence::{Kept, Presences};
use crate::route::Route;
use crate::storage::{StorageError, Writer};
use crate::telemetry::metrics::Metrics;
use crate::thin::{self as thin_client, Thin};
use crate::user::Users;
pub(crate) use ask::{Ask, Failed, Figures, Handle, People, Stopped, Waiting};
pub(crate) use command::{NewCall, Unable, Want};
use drain::Farewell;
pub(crate) use drain::{Draining, Ended};
use forward::Forwards;
pub(crate) use guide::{Guide, Purpose};
use load::Load;
use news::{DialledWrongly, Past};
pub(crate) use news::{Feed, News};
use port::MediaPorts;
use resolve::Resolving;
pub(crate) use thin::{Came, Description, What};
use unwritten::{Registered, Unwritten};
use watcher::Watchers;

/// A change of the time of day by more than that besides the time that passed is worth a word.
const CLOCK_JUMP: Duration = Duration::from_secs(10);

/// What the loop starts from.
pub(crate) struct Parts {
    pub(crate) net: Net,
    pub(crate) sip: Endpoint,
    pub(crate) thin: Thin,
    pub(crate) calls: Calls,
    pub(crate) media: crate::net::rtp::Media,
    pub(crate) media_events: mpsc::Receiver<MediaEvent>,
    pub(crate) writer: Writer,
    pub(crate) users: Users,
    pub(crate) locations: Locations,
    pub(crate) said: Vec<(String, Kept)>,
    pub(crate) published: Vec<(String, Vec<Lasting>)>,
    pub(crate) watches: Found,
    pub(crate) challenger: Challenger,
    pub(crate) random: Random,
    pub(crate) registrar: registrar::Policy,
    pub(crate) dns: Dns,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) news: Feed,
}

/// The loop's state.
pub(crate) struct Signaling {
    net: Net,
    sip: Endpoint,
    /// The user agent of client applications that are devices; its messages come and go in memory.
    thin: Thin,
    calls: Calls,
    media: MediaPorts,
    media_events: mpsc::Receiver<MediaEvent>,
    writer: Writer,
    users: Users,
    locations: Locations,
    challenger: Challenger,
    random: Random,
    registrar: registrar::Policy,
    domain: String,
    trunks: Vec<Trunk>,
    groups: Vec<Group>,
    /// The rooms, by number.
    rooms: BTreeMap<Arc<str>, Arc<Room>>,
    media_path: MediaPath,
    srtp: Srtp,
    asks: mpsc::Receiver<Ask>,
    news: Feed,
    past: Past,
    dialled_wrongly: DialledWrongly,
    /// Calls that nobody has answered yet, with the other call that waits for that.
    guided: HashMap<crate::call::Id, Guide>,
    /// Calls that come into a room when another change of theirs is over, with the room's call.
    delayed: HashMap<crate::call::Id, (crate::call::Id, Guide)>,
    /// Who waits for what comes of a command.
    ordered: HashMap<Ticket, (crate::call::Id, oneshot::Sender<Result<crate::call::Id, Unable>>)>,
    /// Who waits for an answer of the switch to what an application described.
    wishes: HashMap<thin_client::Ticket, oneshot::Sender<Result<Came, thin_client::Refusal>>>,
    draining: Option<drain::Drain>,
    metrics: Metrics,
    /// What waits until what it says is durable.
    unwritten: HashMap<u64, (Instant, Unwritten)>,
    /// Why nothing can be kept any more.
    store: Option<StorageError>,
    next_write: u64,
    forwards: Forwards,
    presences: Presences,
    watchers: Watchers,
    dns: Dns,
    looks_up: bool,
    resolving: FuturesUnordered<Resolving>,
    load: Load,
    /// When the wake-up began, and the time of day then.
    now: Instant,
    unix: Duration,
}

impl Signaling {
    pub(crate) fn new(parts: Parts, config: &Config) -> Self {
        let (now, unix) = (clock::now(), clock::unix());
        let mut presences = Presences::default();
        for (user, kept) in parts.said {
            if parts.users.named(&user).is_some() {
                presences.say(now, &user, kept.said(now, millis(unix)));
            }
        }
        let mut signaling = Self {
            net: parts.net,
            sip: parts.sip,
            thin: parts.thin,
            wishes: HashMap::new(),
            calls: parts.calls,
            media: MediaPorts::new(parts.media),
            media_events: parts.media_events,
            writer: parts.writer,
            users: parts.users,
            locations: parts.locations,
            challenger: parts.challenger,
            random: parts.random,
            registrar: parts.registrar,
            domain: config.domain.as_str().to_owned(),
            trunks: config.trunks.clone(),
            groups: config.groups.clone(),
            rooms: config.rooms.iter().map(room).map(|room| (Arc::clone(&room.number), room)).collect(),
            media_path: config.policy.media,
            srtp: config.media.srtp,
            unwritten: HashMap::new(),
            next_write: 0,
            forwards: Forwards::default(),
            presences,
            watchers: Watchers::default(),
            dns: parts.dns,
            asks: parts.asks,
            news: parts.news,
            past: Past::default(),
            dialled_wrongly: DialledWrongly::default(),
            guided: HashMap::new(),
            delayed: HashMap::new(),
            ordered: HashMap::new(),
            draining: None,
            metrics: Metrics::new(),
            store: None,
            looks_up: config.sip.dns,
            resolving: FuturesUnordered::new(),
            load: Load::new(clock::now()),
            now,
            unix,
        };
        signaling.take_up(parts.watches, parts.published);
        signaling
    }

    /// Runs until told to stop, or until it is drained.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Ended {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut armed: Option<Instant> = None;
        let mut farewell: Option<Farewell> = None;
        loop {
            let deadline = self.poll_timeout().into_iter().chain(farewell.as_ref().map(|farewell| farewell.next(self.now))).min();
            if let Some(at) = deadline
                && armed != deadline
            {
                timer.as_mut().reset(at.into());
                armed = deadline;
            }
            tokio::select! {
                biased;
                _ = stop.changed(), if farewell.is_none() => { self.tick(); farewell = Some(self.farewell(Ended::Told)) }
                committed = self.writer.committed(), if !self.unwritten.is_empty() => { self.tick(); self.handle_committed(committed) }
                event = self.net.next() => { self.tick(); self.handle_net(event) }
                Some(ask) = self.asks.recv() => { self.tick(); self.handle_ask(ask) }
                Some(event) = self.media_events.recv() => { self.tick(); self.handle_media(event) }
                Some(resolved) = self.resolving.next() => { self.tick(); self.handle_resolved(resolved) }
                () = &mut timer, if deadline.is_some() => { self.tick(); armed = None }
            }
            self.handle_timeouts();
            self.settle();
            self.writer.flush();
            self.metrics.turn.record(clock::now().saturating_duration_since(self.now));
            if farewell.is_none() && self.is_drained() {
                farewell = Some(self.farewell(Ended::Drained));
            }
            if let Some(farewell) = &farewell
                && farewell.is_over(self.now, self.calls.is_empty())
            {
                return farewell.ended;
            }
        }
    }

    fn tick(&mut self) {
        let (now, unix) = (clock::now(), clock::unix());
        let expected = self.unix + now.saturating_duration_since(self.now);
        if unix.abs_diff(expected) > CLOCK_JUMP {
            let way = if unix > expected { "ahead" } else { "back" };
            warn!(
                seconds = unix.abs_diff(expected).as_secs(),
                "the time of day was set {way}: registrations last as long as they would have; over a restart only refreshed ones do"
            );
            self.locations.set_clock(UnixTime(expected.as_secs()), UnixTime(unix.as_secs()));
        }
        (self.now, self.unix) = (now, unix);
        if self.net.has_rested() {
            self.load.rested(self.now);
        }
    }

    fn handle_net(&mut self, first: NetEvent) {
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                NetEvent::Message { flow, bytes, .. } => {
                    self.load.worked();
                    self.sip.receive(self.now, flow, bytes);
                    self.settle();
                }
                NetEvent::Malformed { flow, error } => {
                    debug!(remote = %flow.remote, %error, "malformed stream");
                    self.sip.receive_broken(flow, error.head);
                    self.settle();
                }
                NetEvent::Opened { flow } => self.handle_opened(flow),
                NetEvent::Silent { flow } => self.handle_silent(&flow),
                NetEvent::Closed { flow, reason } => {
                    debug!(remote = %flow.remote, %reason, "connection closed");
                    self.locations.closed(&flow);
                    if let Some(connection) = flow.connection {
                        self.sip.connection_closed(self.now, connection);
                    }
                    self.settle();
                }
                NetEvent::KeepAlive { .. } => {}
            }
            next = self.net.try_next();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let machines = [
            self.sip.poll_timeout(),
            self.thin.poll_timeout(),
            self.calls.poll_timeout(),
            self.forwards.poll_timeout(),
            self.presences.poll_timeout(),
        ];
        machines.into_iter().chain([self.drain_timeout()]).flatten().min()
    }

    fn handle_timeouts(&mut self) {
        self.sip.handle_timeout(self.now);
        self.thin.handle_timeout(self.now);
        let (calls, mut switch) = self.calls();
        calls.handle_timeout(&mut switch);
        self.handle_forward_timeouts();
        self.presences.handle_timeout(self.now);
    }

    fn handle_media(&mut self, event: MediaEvent) {
        let (calls, mut switch) = self.calls();
        calls.handle_media(&mut switch, event);
    }

    /// Returns the calls, and what they act on.
    fn calls(&mut self) -> (&mut Calls, Switch<'_>) {
        let unix = millis(self.unix);
        let switch = Switch { now: self.now, unix, sip: &mut self.sip, media: &mut self.media, random: &mut self.random };
        (&mut self.calls, switch)
    }

    fn unix(&self) -> UnixTime {
        UnixTime(self.unix.as_secs())
    }

    /// Carries out whatever the last input led to.
    fn settle(&mut self) {
        loop {
            if let Some(event) = self.sip.next_event() {
                self.dispatch(event);
            } else if let Some(output) = self.calls.poll_output() {
                // before what is sent: an application hears that a call is another one before it gets a description for that
                self.carry_out(output);
            } else if let Some(send) = self.sip.next_send() {
                self.send(send);
            } else if let Some(output) = self.thin.poll_output() {
                self.carry_out_thin(output);
            } else if let Some(aor) = self.locations.poll_changed() {
                self.look_at(aor.user());
            } else if let Some(user) = self.presences.poll_output() {
                self.presence_changed(&user);
            } else {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Record(record) => {
                self.metrics.record(&record);
                let call = record.id;
                for batch in detail::writes(*record) {
                    self.note(&batch, format_args!("the record of call {call} is lost"));
                }
            }
            Output::Recall { call, user } => self.recall(call, &user),
            Output::Merged { call, into } => self.merged(call, into),
            Output::Outcome { ticket, result } => {
                debug!(ticket = ticket.0, ?result, "command carried out");
                if let Some((call, answer)) = self.ordered.remove(&ticket) {
                    let _gone = answer.send(result.map(|()| call).map_err(Into::into));
                }
            }
            Output::Event(event) => {
                debug!(call = %event.call, number = event.number, state = ?event.after.state, "call changed");
                self.follow_call(&event);
                let view = std::sync::Arc::clone(&event.after);
                self.call_changed(event);
                self.follow_guided(&view);
            }
        }
    }

    /// Where what is dialled leads.
    fn route(&self) -> Route<'_> {
        Route { domain: &self.domain, listeners: self.sip.listeners(), users: &self.users }
    }

    fn send(&mut self, send: sip::Send) {
        let flow = match &send.hop {
            Hop::Flow(flow) if inside::login_of(flow).is_some() => return self.thin.receive(self.now, *flow, send.bytes),
            Hop::Flow(flow) => *flow,
            Hop::Address { transport, remote, name } => {
                let flow = self.flow_to(*transport, *remote, name.as_deref(), &send.hop);
                let Some(flow) = flow else {
                    if let Some(client) = send.client {
                        self.sip.send_failed(self.now, client);
                    }
                    return;
                };
                if let Some(client) = send.client {
                    self.sip.bind(client, flow);
                }
                flow
            }
        };
        let Err(error) = self.net.send(&flow, send.bytes.clone()) else { return };
        debug!(remote = %flow.remote, %error, "not sent");
        if let Some(client) = send.client {
            self.sip.send_failed(self.now, client);
        } else if let Some(fallback) = send.fallback {
            self.send_elsewhere(flow, fallback, send.bytes);
        }
    }

    /// A response whose connection is gone goes to where Via says (RFC 3261 §18.2.2).
    fn send_elsewhere(&mut self, gone: sip::Flow, fallback: std::net::SocketAddr, bytes: Bytes) {
        let hop = Hop::Address { transport: gone.transport, remote: fallback, name: None };
        if let Some(flow) = self.flow_to(gone.transport, fallback, None, &hop) {
            let _lost = self.net.send(&flow, bytes);
        }
    }

    /// Returns the flow to an address: for UDP from the listener that suits, for streams the connection there is, or a new one.
    fn flow_to(&mut self, transport: sip::Transport, remote: std::net::SocketAddr, name: Option<&str>, hop: &Hop) -> Option<sip::Flow> {
        let local = self.sip.listeners().towards(hop)?;
        if self.sip.listeners().is_ours(remote) {
            return None;
        }
        if !transport.is_reliable() {
            return Some(sip::Flow { transport, local, remote, connection: None });
        }
        if let Some(flow) = self.locations.connection(transport, remote) {
            return Some(flow);
        }
        if transport.is_websocket() {
            return None;
        }
        let flow = self.net.connect(transport, Some(local.ip()), remote, name);
        self.locations.opened(flow);
        Some(flow)
    }
}

/// Makes a room of what the configuration says, which was checked.
fn room(keys: &crate::config::Room) -> Arc<Room> {
    let pin = keys.pin.as_ref().and_then(|pin| Pin::parse(pin.reveal()));
    Arc::new(Room { number: keys.number.as_str().into(), pin, moderator: keys.moderator.as_ref().map(|name| name.as_str().into()) })
}

/// Returns the source address of a request's flow.
fn source(flow: &sip::Flow) -> IpAddr {
    flow.remote.ip()
}

/// Returns a time of day in milliseconds since 1970.
fn millis(unix: Duration) -> u64 {
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}
