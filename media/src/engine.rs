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
        webrtc::{Certificate, Demultiplexer, Owner},
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
    certificate: Certificate,
    /// Whose the packets of the shared socket are.
    demultiplexer: Demultiplexer,
    /// By slot. Slots are used again, ids are not.
    ports: Vec<Option<Port>>,
    free: Vec<usize>,
    slots: HashMap<PortId, usize>,
    /// When a port has something to do. A packet does not touch it: whether a port is silent the look finds out, and sets the next one.
    timers: BTreeSet<(Instant, usize)>,
    /// Slots of ports that have datagrams of their own to send.
    busy: VecDeque<usize>,
    events: VecDeque<Event>,
}

impl Engine {
    /// An engine without ports.
    #[must_use]
    pub fn new(thread: u16, policy: Policy, certificate: Certificate) -> Self {
        Self {
            policy,
            certificate,
            demultiplexer: Demultiplexer::new(thread),
            ports: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            timers: BTreeSet::new(),
            busy: VecDeque::new(),
            events: VecDeque::new(),
        }
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
        port.negotiate(now, settings, &self.policy, &self.certificate);
        let other = port.bridge.map(|bridge| bridge.other);
        if let Some(shared) = &settings.shared {
            // It is random; one that another port has already is one whose checks fail.
            let _taken = self.demultiplexer.add(id, shared.local.ufrag());
        }
        self.attend(slot);
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
        self.demultiplexer.remove(id);
        let port = self.ports.get_mut(slot)?.take()?;
        if let Some(deadline) = port.deadline {
            self.timers.remove(&(deadline, slot));
        }
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

    /// Takes a datagram: the first `length` octets of `buffer`, whose rest has room for [`MAX_OVERHEAD`](crate::rtp::srtp::MAX_OVERHEAD).
    /// Afterwards [`poll_transmit`](Self::poll_transmit) may have something, too.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<Transmit> {
        let (slot, index, received) = if socket == SocketId::SHARED {
            let bytes = buffer.get(..length)?;
            let id = match self.demultiplexer.find(from, bytes) {
                Some(Owner::Port(id)) => id,
                Some(Owner::Thread(_)) => return None,
                None => self.demultiplexer.roaming(bytes)?,
            };
            let slot = self.slot(id)?;
            let port = self.ports.get_mut(slot)?.as_mut()?;
            let (index, received) = port.receive_shared(now, from, buffer, length, &self.policy);
            if let Some(source) = port.streams.get_mut(index).and_then(|stream| stream.fresh.take()) {
                self.demultiplexer.add_source(id, source);
            }
            if let Received::Checked(_) = received {
                let _taken = self.demultiplexer.learn(now, id, from);
            }
            (slot, index, received)
        } else {
            let (slot, index, component) = socket.parts();
            let stream = self.ports.get_mut(slot)?.as_mut()?.streams.get_mut(index)?;
            (slot, index, stream.receive(now, component, from, buffer, length, &self.policy))
        };
        match received {
            Received::Dropped => None,
            Received::Handled => {
                self.attend(slot);
                None
            }
            Received::Answered(length) => Some(Transmit { socket, to: from, length }),
            Received::Checked(length) => {
                self.attend(slot);
                Some(Transmit { socket, to: from, length })
            }
            Received::Kept => {
                self.heard(now, slot);
                None
            }
            Received::ToForward(component, length) => {
                self.heard(now, slot);
                let sent = self.relay(now, (slot, index), component, buffer, length);
                if sent.is_none()
                    && let Some(stream) = self.ports.get_mut(slot)?.as_mut()?.streams.get_mut(index)
                {
                    stream.quality.withheld += 1;
                }
                sent
            }
        }
    }

    /// Which media thread a datagram of the shared socket is for; none: a stranger's, or of a peer of another thread that is on its
    /// way to another address.
    #[must_use]
    pub fn thread_of(&self, from: SocketAddr, bytes: &[u8]) -> Option<u16> {
        match self.demultiplexer.find(from, bytes) {
            Some(Owner::Port(port)) => Some(port.thread()),
            Some(Owner::Thread(thread)) => Some(thread),
            None => self.demultiplexer.roaming(bytes).map(PortId::thread),
        }
    }

    /// The port whose peer a source of the shared socket is known to be.
    #[must_use]
    pub fn port_at(&self, from: SocketAddr) -> Option<PortId> {
        self.demultiplexer.port_at(from)
    }

    /// Notes that a source of the shared socket is the peer of a port on another thread.
    pub fn learn(&mut self, now: Instant, port: PortId, from: SocketAddr) {
        let _taken = self.demultiplexer.learn(now, port, from);
    }

    /// Forgets the sources of a port on another thread.
    pub fn forget(&mut self, port: PortId) {
        self.demultiplexer.remove(port);
    }

    /// A port's peer has been heard.
    fn heard(&mut self, now: Instant, slot: usize) {
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { return };
        port.watch.heard = Some(now);
        if std::mem::take(&mut port.watch.silent) {
            port.watch.due = port.watch.limit.map(|limit| now + limit);
            self.events.push_back(Event::Resumed { port: port.id });
            self.arm(slot);
        }
    }

    fn relay(
        &mut self,
        now: Instant,
        (slot, stream): (usize, usize),
        component: Component,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<Transmit> {
        let bridge = self.ports.get(slot)?.as_ref()?.bridge?;
        let target = usize::from((*bridge.streams.get(stream)?)?);
        let other = self.ports.get_mut(bridge.other)?.as_mut()?;
        if !other.streams.get_mut(target)?.pass(now, component, buffer.get_mut(..length)?) {
            return None;
        }
        let (socket, to, length) = other.send(bridge.other, target, component, buffer, length)?;
        Some(Transmit { socket, to, length })
    }

    /// The next datagram that a port itself has to send, written to the buffer.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some(slot) = self.busy.front().copied() {
            if let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) {
                if let Some((socket, to, length)) = port.poll_transmit(slot, buffer) {
                    return Some(Transmit { socket, to, length });
                }
                port.is_busy = false;
            }
            self.busy.pop_front();
        }
        None
    }

    /// Something happened to a port's transports: they may have to send, and to be woken.
    fn attend(&mut self, slot: usize) {
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { return };
        if !std::mem::replace(&mut port.is_busy, true) {
            self.busy.push_back(slot);
        }
        if let Some(verdict) = port.failure() {
            self.events.push_back(Event::Silent { port: port.id, verdict });
        }
        self.arm(slot);
    }

    /// Looks after ports that have been silent, and lets transports repeat what was lost. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, slot)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, slot));
            let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { continue };
            port.deadline = None;
            port.handle_timeout(now);
            if port.watch.due.is_some_and(|due| due <= now) {
                self.look(now, slot);
            }
            self.attend(slot);
        }
    }

    /// Whether a port has been silent for too long.
    fn look(&mut self, now: Instant, slot: usize) {
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { return };
        port.watch.due = None;
        let Some(limit) = port.watch.limit else { return };
        let next = port.watch.heard.unwrap_or(now) + limit;
        if now < next {
            port.watch.due = Some(next);
            return;
        }
        port.watch.silent = true;
        let event = Event::Silent { port: port.id, verdict: port.verdict(limit) };
        self.events.push_back(event);
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
    fn arm(&mut self, slot: usize) {
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { return };
        let due = port.poll_timeout();
        let old = std::mem::replace(&mut port.deadline, due);
        if old == due {
            return;
        }
        if let Some(old) = old {
            self.timers.remove(&(old, slot));
        }
        if let Some(due) = due {
            self.timers.insert((due, slot));
        }
    }
}

/// Silence after which signaling is told, unless the configuration says otherwise.
pub const MEDIA_TIMEOUT: Duration = Duration::from_secs(30);
