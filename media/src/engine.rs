//! Engine: the ports and bridges of one media thread. A packet goes in with its socket and source and comes out as where the
//! same octets are to be sent, without a copy, an allocation or a lock. It owns no socket and reads no clock.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    bridge::Bridge,
    port::{
        Port, PortId, Settings, SocketId,
        destination::Policy,
        rtp::{Component, Received},
    },
    quality::Statistics,
};

/// What to do with the octets that were given to [`Engine::handle_packet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// By which socket they go.
    pub socket: SocketId,
    /// Where they go.
    pub to: SocketAddr,
    /// How many octets of the buffer.
    pub length: usize,
}

/// What the engine tells signaling. Each port has at most one unread of the first two kinds for each packet-less spell; the
/// others answer commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A leg that should be sending has been silent for its `media_timeout`.
    Silent {
        /// Whose port.
        port: PortId,
        /// Why, in plain words.
        verdict: String,
    },
    /// It sends again.
    Resumed {
        /// Whose port.
        port: PortId,
    },
    /// The answer to [`Engine::report`].
    Statistics {
        /// Whose port.
        port: PortId,
        /// Its figures so far.
        statistics: Statistics,
    },
    /// The answer to [`Engine::close`].
    Closed {
        /// Whose port.
        port: PortId,
        /// Its last figures.
        statistics: Statistics,
    },
}

/// The ports and bridges of one media thread.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    /// By slot. Slots are used again, ids are not.
    ports: Vec<Option<Port>>,
    free: Vec<usize>,
    slots: HashMap<PortId, usize>,
    /// When to look whether a port is silent. A packet does not touch it: the look finds out and sets the next one.
    timers: BTreeSet<(Instant, usize)>,
    events: VecDeque<Event>,
}

impl Engine {
    /// An engine without ports.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, ports: Vec::new(), free: Vec::new(), slots: HashMap::new(), timers: BTreeSet::new(), events: VecDeque::new() }
    }

    /// Opens a port with idle streams. Returns its slot, which with stream and component names its sockets
    /// ([`SocketId::new`]).
    pub fn open(&mut self, id: PortId, streams: usize) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.ports.push(None);
            self.ports.len() - 1
        });
        if let Some(entry) = self.ports.get_mut(slot) {
            *entry = Some(Port::new(id, streams));
        }
        self.slots.insert(id, slot);
        slot
    }

    /// The slot of an open port.
    #[must_use]
    pub fn slot(&self, id: PortId) -> Option<usize> {
        self.slots.get(&id).copied()
    }

    /// Gives a port more streams. A closed port stays closed.
    pub fn extend(&mut self, id: PortId, streams: usize) {
        if let Some(port) = self.port_mut(id) {
            port.extend(streams);
        }
    }

    /// Applies what a leg's offer and answer agreed.
    pub fn set(&mut self, now: Instant, id: PortId, settings: &Settings) {
        let Some(slot) = self.slot(id) else { return };
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        port.negotiate(now, settings, &self.policy);
        let due = port.watch.limit.filter(|_| !port.watch.silent).map(|limit| now + limit);
        let other = port.bridge.map(|bridge| bridge.other);
        self.arm(slot, due);
        if let Some(other) = other {
            self.connect(slot, other);
        }
    }

    /// Lets two ports hear each other. Whoever they were bridged with before hears them no more.
    pub fn bridge(&mut self, a: PortId, b: PortId) {
        let (Some(a_slot), Some(b_slot)) = (self.slot(a), self.slot(b)) else {
            return;
        };
        if a_slot == b_slot {
            return;
        }
        self.unbridge(a);
        self.unbridge(b);
        self.connect(a_slot, b_slot);
    }

    /// Takes a port out of its bridge.
    pub fn unbridge(&mut self, id: PortId) {
        let Some(bridge) = self.port_mut(id).and_then(|port| port.bridge.take()) else {
            return;
        };
        if let Some(other) = self.ports.get_mut(bridge.other).and_then(Option::as_mut) {
            other.bridge = None;
        }
    }

    /// Closes a port; its last figures come as [`Event::Closed`]. Returns the slot that it had.
    pub fn close(&mut self, id: PortId) -> Option<usize> {
        self.unbridge(id);
        let slot = self.slots.remove(&id)?;
        self.arm(slot, None);
        let port = self.ports.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.events.push_back(Event::Closed { port: id, statistics: port.statistics() });
        Some(slot)
    }

    /// Asks for a port's figures so far: [`Event::Statistics`].
    pub fn report(&mut self, id: PortId) {
        if let Some(port) = self.port_mut(id) {
            let statistics = port.statistics();
            self.events.push_back(Event::Statistics { port: id, statistics });
        }
    }

    /// Takes a datagram: the first `length` octets of `buffer`, whose rest is room for what later kinds of port add.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<Transmit> {
        let (slot, index, component) = socket.parts();
        let port = self.ports.get_mut(slot)?.as_mut()?;
        let stream = port.streams.get_mut(index)?;
        let bytes = buffer.get_mut(..length)?;
        let received = stream.receive(now, component, from, bytes, &self.policy);
        if received == Received::Dropped {
            return None;
        }
        port.watch.heard = Some(now);
        let resumed = std::mem::take(&mut port.watch.silent);
        let id = port.id;
        let bridge = port.bridge;
        let sent = match (received, bridge) {
            (Received::ToForward(component), Some(bridge)) => self.relay(now, bridge, index, component, bytes),
            (Received::Dropped | Received::Kept | Received::ToForward(_), _) => None,
        };
        if resumed {
            self.resume(now, slot, id);
        }
        if sent.is_none()
            && received != Received::Kept
            && let Some(stream) = self.ports.get_mut(slot)?.as_mut()?.streams.get_mut(index)
        {
            stream.quality.withheld += 1;
        }
        sent
    }

    fn relay(&mut self, now: Instant, bridge: Bridge, stream: usize, component: Component, bytes: &[u8]) -> Option<Transmit> {
        let target = usize::from((*bridge.streams.get(stream)?)?);
        let other = self.ports.get_mut(bridge.other)?.as_mut()?;
        let (component, to) = other.streams.get_mut(target)?.send(now, component, bytes)?;
        Some(Transmit { socket: SocketId::new(bridge.other, target, component), to, length: bytes.len() })
    }

    fn resume(&mut self, now: Instant, slot: usize, port: PortId) {
        self.events.push_back(Event::Resumed { port });
        let limit = self.ports.get(slot).and_then(Option::as_ref).and_then(|port| port.watch.limit);
        self.arm(slot, limit.map(|limit| now + limit));
    }

    /// Looks after ports that have been silent. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, slot)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, slot));
            let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            port.watch.deadline = None;
            let Some(limit) = port.watch.limit else {
                continue;
            };
            let next = port.watch.heard.unwrap_or(now) + limit;
            if now < next {
                self.arm(slot, Some(next));
                continue;
            }
            port.watch.silent = true;
            let event = Event::Silent { port: port.id, verdict: port.verdict(limit) };
            self.events.push_back(event);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// What to tell signaling.
    pub fn poll_output(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many ports are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no port is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        let slot = self.slot(id)?;
        self.ports.get_mut(slot)?.as_mut()
    }

    /// Makes both parties' views of their bridge.
    fn connect(&mut self, a: usize, b: usize) {
        let port = |slot: usize| self.ports.get(slot).and_then(Option::as_ref);
        let (Some(a_port), Some(b_port)) = (port(a), port(b)) else {
            return;
        };
        let (a_view, b_view) = (Bridge::between(a_port, b, b_port), Bridge::between(b_port, a, a_port));
        for (slot, view) in [(a, a_view), (b, b_view)] {
            if let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) {
                port.bridge = Some(view);
            }
        }
    }

    /// Sets or clears the one timer of a port.
    fn arm(&mut self, slot: usize, due: Option<Instant>) {
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut port.watch.deadline, due) {
            self.timers.remove(&(old, slot));
        }
        if let Some(due) = due {
            self.timers.insert((due, slot));
        }
    }
}

/// Silence after which signaling is told, unless the configuration says otherwise.
pub const MEDIA_TIMEOUT: Duration = Duration::from_secs(30);
