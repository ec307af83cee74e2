//! The table of stream connections: who is there, who may stay, and the queue to each.
//!
//! Bounds: connections in all, connections without a login from one address, bytes and messages waiting for one peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use sip::framing::FramingError;
use sip::transport::{ConnectionId, Flow, Transport};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Event;
use super::Place;
use super::error::{CloseReason, SendError};
use super::tcp::{self, Acceptor};
use super::tls::Tls;
use super::web::{self, Guest};
use crate::clock;
use crate::config;
use crate::pii::Pii;

/// Bytes that may wait for one peer; beyond them the connection closes: the peer does not read.
const QUEUE_BYTES: usize = 1 << 20;
/// Messages that may wait for one peer; beyond them the connection closes.
const QUEUE_MESSAGES: usize = 1024;
/// How long a closing connection may take to write what waits.
const DRAIN: Duration = Duration::from_secs(5);

/// What a connection's task tells the table.
pub(super) struct Report {
    id: ConnectionId,
    what: What,
}

/// The news of one connection.
pub(super) enum What {
    Opened,
    Message(Bytes, Instant),
    KeepAlive(Instant),
    Silent,
    /// Whoever is there has signed in.
    SignedIn,
    Malformed(FramingError),
    Closed(CloseReason),
}

/// What the table and a connection's task both know.
struct Shared {
    queued: AtomicUsize,
    kept: AtomicBool,
}

/// A connection's task: its name, and its way to the table.
pub(super) struct Task {
    id: ConnectionId,
    pub(super) limits: Times,
    reports: mpsc::Sender<Report>,
    queue: mpsc::WeakSender<Bytes>,
    shared: Arc<Shared>,
}

/// The times of one connection.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// For a handshake, a first message, the rest of a message.
    pub(super) half_open: Duration,
    /// For silence without a login.
    pub(super) idle: Duration,
}

/// A way for a guest to keep its place.
#[derive(Clone)]
pub struct Door {
    id: ConnectionId,
    reports: mpsc::Sender<Report>,
}

impl Door {
    /// Says that whoever is there has signed in: the connection does not have to make room for others any more.
    pub fn signed_in(&self) {
        // a loop that is too busy leaves a stranger a stranger
        let _ = self.reports.try_send(Report { id: self.id, what: What::SignedIn });
    }
}

impl Task {
    pub(super) fn door(&self) -> Door {
        Door { id: self.id, reports: self.reports.clone() }
    }

    /// Tells the table; waits where the loop is busy, so that the peer has to wait too.
    pub(super) async fn report(&self, what: What) {
        // the table is gone only when the process ends
        let _ = self.reports.send(Report { id: self.id, what }).await;
    }

    /// Sends a keep-alive's answer; one that does not fit into the queue is dropped.
    pub(super) fn answer(&self, bytes: Bytes) {
        if let Some(queue) = self.queue.upgrade() {
            self.shared.queued.fetch_add(bytes.len(), Ordering::Relaxed);
            if let Err(mpsc::error::TrySendError::Full(bytes) | mpsc::error::TrySendError::Closed(bytes)) = queue.try_send(bytes) {
                self.written(bytes.len());
            }
        }
    }

    /// Says that bytes have left the queue.
    pub(super) fn written(&self, length: usize) {
        self.shared.queued.fetch_sub(length, Ordering::Relaxed);
    }

    /// A time of the watch has passed: returns why the connection has to end now, if it has to.
    pub(super) async fn overdue(&self, watch: &mut Watch) -> Option<CloseReason> {
        match watch.verdict(clock::now(), self.shared.kept.load(Ordering::Relaxed))? {
            Verdict::End(reason) => Some(reason),
            Verdict::Ask => {
                self.report(What::Silent).await;
                None
            }
        }
    }
}

struct Connection {
    flow: Flow,
    side: Side,
    opened: bool,
    /// None once we close it: the task then writes what waits and ends.
    queue: Option<mpsc::Sender<Bytes>>,
    shared: Arc<Shared>,
    abort: AbortHandle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Incoming,
    Outgoing,
}

pub(super) struct Connections {
    limit: usize,
    limit_per_address: u32,
    times: Times,
    table: BTreeMap<ConnectionId, Connection>,
    /// Incoming ones without a login; the smallest id is the oldest.
    strangers: BTreeSet<ConnectionId>,
    strangers_at: BTreeMap<IpAddr, u32>,
    next: u64,
    reports: mpsc::Sender<Report>,
    guests: mpsc::Sender<Guest>,
}

impl Connections {
    pub(super) fn new(limits: &config::Limits, reports: mpsc::Sender<Report>, guests: mpsc::Sender<Guest>) -> Self {
        Self {
            limit: usize::try_from(limits.connections.get()).unwrap_or(usize::MAX),
            limit_per_address: limits.connections_per_address.get(),
            times: Times { half_open: limits.half_open, idle: limits.idle },
            table: BTreeMap::new(),
            strangers: BTreeSet::new(),
            strangers_at: BTreeMap::new(),
            next: 0,
            reports,
            guests,
        }
    }

    /// Takes an incoming connection, or drops it where its address has too many without a login. A full table first
    /// loses its oldest connection without a login.
    pub(super) fn accept(&mut self, socket: TcpStream, remote: SocketAddr, acceptor: &Acceptor, tls: &Tls) -> Option<Event> {
        let address = block(remote.ip());
        if self.strangers_at.get(&address).is_some_and(|n| *n >= self.limit_per_address) {
            tracing::debug!(address = %Pii(address), "connection refused: too many from there without a login");
            return None;
        }
        let (room, event) = self.make_room();
        if !room {
            tracing::debug!(address = %Pii(address), "connection refused: no room");
            return event;
        }
        let (transport, local) = (acceptor.listener.transport, acceptor.listener.address);
        let id = if acceptor.listener.place == Place::Http {
            let (server, guests) = (tls.web_server(transport), self.guests.clone());
            tcp::tune(&socket);
            self.open(transport, local, remote, Side::Incoming, |task, queue| web::serve(task, queue, socket, remote, server, guests))
        } else {
            let (server, origins) = (tls.server(transport), acceptor.origins.clone());
            self.open(transport, local, remote, Side::Incoming, |task, queue| tcp::serve(task, queue, socket, server, origins))
        };
        self.strangers.insert(id);
        *self.strangers_at.entry(address).or_default() += 1;
        event
    }

    /// Begins a connection.
    pub(super) fn connect(
        &mut self,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        server_name: Option<&str>,
        tls: &Tls,
    ) -> (Flow, Option<Event>) {
        let (_, event) = self.make_room(); // ours may go beyond the limit: the loop decides how many it begins
        let client = tls.client(transport, remote.ip(), server_name);
        let id = self
            .open(transport, local, remote, Side::Outgoing, |task, queue| tcp::connect(task, queue, transport, local.ip(), remote, client));
        (Flow { transport, local, remote, connection: Some(id) }, event)
    }

    fn open<F>(
        &mut self,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        side: Side,
        run: impl FnOnce(Arc<Task>, mpsc::Receiver<Bytes>) -> F,
    ) -> ConnectionId
    where
        F: Future<Output = CloseReason> + Send + 'static,
    {
        let id = ConnectionId(self.next);
        self.next += 1;
        let (queue, receiver) = mpsc::channel(QUEUE_MESSAGES);
        // ours are begun for a use, and nobody but us can fill the table with them
        let kept = AtomicBool::new(side == Side::Outgoing);
        let shared = Arc::new(Shared { queued: AtomicUsize::new(0), kept });
        let task =
            Arc::new(Task { id, limits: self.times, reports: self.reports.clone(), queue: queue.downgrade(), shared: shared.clone() });
        let run = run(task.clone(), receiver);
        #[expect(clippy::disallowed_methods, reason = "the one task of each connection starts here")]
        let abort = tokio::spawn(async move {
            let ended = AssertUnwindSafe(run).catch_unwind().await;
            task.report(What::Closed(ended.unwrap_or(CloseReason::Panicked))).await;
        })
        .abort_handle();
        let flow = Flow { transport, local, remote, connection: Some(id) };
        self.table.insert(id, Connection { flow, side, opened: false, queue: Some(queue), shared, abort });
        id
    }

    /// Returns true where one more fits, perhaps after the oldest without a login went.
    fn make_room(&mut self) -> (bool, Option<Event>) {
        if self.table.len() < self.limit {
            return (true, None);
        }
        let before = self.table.len();
        let event = self.evict();
        (self.table.len() < before, event)
    }

    /// Closes the oldest connection without a login.
    pub(super) fn evict(&mut self) -> Option<Event> {
        let id = self.strangers.first().copied()?;
        self.end(id, CloseReason::Evicted)
    }

    /// Turns the news of a task into an event; news of connections that are gone is dropped.
    pub(super) fn handle_report(&mut self, report: Report) -> Option<Event> {
        let connection = self.table.get_mut(&report.id)?;
        let flow = connection.flow;
        match report.what {
            What::Opened => {
                connection.opened = true;
                Some(Event::Opened { flow })
            }
            What::Message(bytes, now) => Some(Event::Message { flow, bytes, now }),
            What::KeepAlive(now) => Some(Event::KeepAlive { flow, now }),
            What::Silent => Some(Event::Silent { flow }),
            What::SignedIn => {
                self.keep(report.id);
                None
            }
            What::Malformed(error) => Some(Event::Malformed { flow, error }),
            What::Closed(reason) => self.end(report.id, reason),
        }
    }

    /// Queues a message; an overflow ends the connection.
    pub(super) fn send(&mut self, id: ConnectionId, bytes: Bytes) -> (Result<(), SendError>, Option<Event>) {
        let connection = self.table.get(&id);
        let Some((connection, queue)) = connection.and_then(|c| Some((c, c.queue.as_ref()?))) else {
            return (Err(SendError::Closed), None);
        };
        let length = bytes.len();
        let queued = &connection.shared.queued;
        let fits = queued.fetch_add(length, Ordering::Relaxed) + length <= QUEUE_BYTES;
        match if fits { queue.try_send(bytes) } else { Err(mpsc::error::TrySendError::Full(bytes)) } {
            Ok(()) => (Ok(()), None),
            Err(mpsc::error::TrySendError::Full(_)) => (Err(SendError::Overflow), self.end(id, CloseReason::Overflow)),
            Err(mpsc::error::TrySendError::Closed(_)) => (Err(SendError::Closed), None), // its report is on the way
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(&id) else {
            return;
        };
        if connection.queue.take().is_some() {
            let reports = self.reports.clone();
            #[expect(clippy::disallowed_methods, reason = "a peer that does not read must not hold a closing connection")]
            tokio::spawn(async move {
                tokio::time::sleep(DRAIN).await;
                let _ = reports.send(Report { id, what: What::Closed(CloseReason::Local) }).await;
            });
        }
    }

    pub(super) fn keep(&mut self, id: ConnectionId) {
        if let Some(connection) = self.table.get(&id) {
            connection.shared.kept.store(true, Ordering::Relaxed);
            self.forget_stranger(id);
        }
    }

    pub(super) fn release(&mut self, id: ConnectionId) {
        let Some(connection) = self.table.get(&id) else {
            return;
        };
        connection.shared.kept.store(false, Ordering::Relaxed);
        if connection.side == Side::Incoming && self.strangers.insert(id) {
            *self.strangers_at.entry(block(connection.flow.remote.ip())).or_default() += 1;
        }
    }

    /// Ends a connection; only what the loop has heard of makes an event.
    fn end(&mut self, id: ConnectionId, reason: CloseReason) -> Option<Event> {
        self.forget_stranger(id);
        let connection = self.table.remove(&id)?;
        connection.abort.abort();
        let flow = connection.flow;
        tracing::debug!(remote = %Pii(flow.remote), transport = %flow.transport, %reason, "connection closed");
        let known = connection.opened || connection.side == Side::Outgoing;
        known.then_some(Event::Closed { flow, reason })
    }

    fn forget_stranger(&mut self, id: ConnectionId) {
        if !self.strangers.remove(&id) {
            return;
        }
        let Some(connection) = self.table.get(&id) else {
            return;
        };
        let address = block(connection.flow.remote.ip());
        if let Some(count) = self.strangers_at.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.strangers_at.remove(&address);
            }
        }
    }
}

/// The block of addresses that one customer has: an IPv4 address, an IPv6 /64.
fn block(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// When a connection counts as half open or idle. Time is an argument.
pub(super) struct Watch {
    times: Times,
    /// Until when a message has to be complete: the first one, or one that has begun.
    half: Option<Instant>,
    /// The last complete message.
    last: Instant,
}

impl Watch {
    /// Starts after the handshakes; `first` where the peer owes us a message.
    pub(super) fn new(now: Instant, times: Times, first: bool) -> Self {
        Self { times, half: first.then(|| now + times.half_open), last: now }
    }

    /// A message is complete.
    pub(super) fn message(&mut self, now: Instant) {
        self.last = now;
        self.half = None;
    }

    /// More bytes came; `partial` where a message has begun and is not complete. They give it no more time.
    pub(super) fn bytes(&mut self, now: Instant, partial: bool) {
        if partial {
            self.half.get_or_insert(now + self.times.half_open);
        }
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Instant {
        let idle = self.last + self.times.idle;
        self.half.map_or(idle, |half| half.min(idle))
    }

    /// Returns what has to happen now, if anything has to.
    fn verdict(&mut self, now: Instant, kept: bool) -> Option<Verdict> {
        if self.half.is_some_and(|half| half <= now) {
            return Some(Verdict::End(CloseReason::HalfOpen));
        }
        if self.last + self.times.idle > now {
            return None;
        }
        self.last = now; // looked at; whoever is kept has as much time again
        Some(if kept { Verdict::Ask } else { Verdict::End(CloseReason::Idle) })
    }
}

/// What a time that has passed means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    End(CloseReason),
    /// Silent, and kept when last heard of: is it used still?
    Ask,
}

/// The clock of a connection's task.
pub(super) fn watch(task: &Task, first: bool) -> Watch {
    Watch::new(clock::now(), task.limits, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { half_open: Duration::from_secs(20), idle: Duration::from_secs(120) };

    fn watch_from(start: Instant, first: bool) -> (Watch, impl Fn(u64) -> Instant) {
        (Watch::new(start, TIMES, first), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_first_message_is_owed_whatever_else_comes() {
        let (mut watch, at) = watch_from(clock::now(), true);
        watch.bytes(at(10), false);
        watch.bytes(at(15), true);
        assert_eq!(watch.deadline(), at(20));
        assert_eq!(watch.verdict(at(19), false), None);
        assert_eq!(watch.verdict(at(20), true), Some(Verdict::End(CloseReason::HalfOpen)));
    }

    #[test]
    fn a_message_that_drips_gets_no_more_time() {
        // S11
        let (mut watch, at) = watch_from(clock::now(), false);
        for second in 30..49 {
            watch.bytes(at(second), true);
        }
        assert_eq!(watch.deadline(), at(50));
        assert_eq!(watch.verdict(at(50), true), Some(Verdict::End(CloseReason::HalfOpen)));
    }

    #[test]
    fn a_complete_message_starts_both_times_anew() {
        let (mut watch, at) = watch_from(clock::now(), true);
        watch.message(at(19));
        watch.bytes(at(19), false);
        assert_eq!(watch.deadline(), at(139));
        assert_eq!(watch.verdict(at(138), false), None);
        assert_eq!(watch.verdict(at(139), false), Some(Verdict::End(CloseReason::Idle)));
    }

    #[test]
    fn of_a_silent_connection_that_is_kept_the_loop_is_asked_again_and_again() {
        let (mut watch, at) = watch_from(clock::now(), false);
        assert_eq!(watch.verdict(at(120), true), Some(Verdict::Ask));
        assert_eq!(watch.deadline(), at(240));
        assert_eq!(watch.verdict(at(239), true), None);
        assert_eq!(watch.verdict(at(240), false), Some(Verdict::End(CloseReason::Idle)));
    }

    #[test]
    fn one_customer_of_ipv6_is_one_address() {
        let ip = |text: &str| block(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:0:0:2"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
    }
}
