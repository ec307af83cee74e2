//! Engine: the ports and bridges of one media thread. A packet goes in with its socket and source and comes out as where the
//! same octets are to be sent, without a copy, an allocation or a lock; what is transcoded comes out by the clock. What bridges are to
//! be is carried out in `engine/arrange.rs`; what is more than one packet from one port to another, in `engine/beyond.rs`; mixes and sounds
//! are in `engine/mixing.rs`, keys that are pressed in `engine/digits.rs`, ports that go to another thread in `engine/moving.rs`. It owns no
//! socket and reads no clock.

mod arrange;
mod beyond;
mod digits;
mod mixing;
mod moving;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use self::arrange::Turn;
pub use self::moving::Moving;
use crate::{
    BridgeId,
    bridge::{Copies, Fed, Hop, Place, Plan, Random, Room, Route},
    dtmf::Digit,
    play::Sounds,
    port::{
        Port, PortId, Settings, SocketId,
        destination::Policy,
        rtp::{Component, Received},
        webrtc::{Certificate, Demultiplexer, Owner},
    },
    quality::Statistics,
    rtp::report,
    sdp::MediaKind,
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
    /// What a port sends has to be transcoded for the other end. Once for each stream of a bridge.
    Transcoding {
        /// Whose port.
        port: PortId,
        /// Why, in plain words.
        reason: String,
    },
    /// A port that another member of its party waits for in a handoff ([`Member::until`](crate::Member::until)) is heard, and has taken
    /// over. Once for each kind.
    Heard {
        /// Whose port.
        port: PortId,
        /// Audio or video.
        kind: MediaKind,
    },
    /// A peer has pressed a key and let it go, as its named events tell. They pass with the sound to those who take them.
    Digit {
        /// Whose port.
        port: PortId,
        /// Which key.
        digit: Digit,
        /// For how long.
        duration: Duration,
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
    timers: BTreeSet<(Instant, Timer)>,
    /// Slots of ports that have datagrams of their own to send.
    busy: VecDeque<usize>,
    /// Bridges by their places, which are used again, and the places by their names.
    rooms: Vec<Option<Room>>,
    free_rooms: Vec<usize>,
    room_of: BTreeMap<BridgeId, usize>,
    copies: Copies,
    /// Rooms whose mix is due.
    beating: VecDeque<usize>,
    sounds: Sounds,
    events: VecDeque<Event>,
    random: Random,
    /// The first time known, from which that in sender reports counts.
    epoch: Option<Instant>,
}

/// What has something to do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The port of a slot.
    Port(usize),
    /// The mix of a bridge.
    Room(usize),
}

/// What became of a packet for the other end.
enum Relayed {
    Sent(Transmit),
    /// It was used up.
    Taken,
    /// The other end does not get it.
    Withheld,
}

/// A packet's way to one receiver.
#[derive(Clone, Copy)]
struct Passage {
    /// What the receiver's stream calls its source.
    key: u32,
    to: (usize, usize),
    hop: Hop,
    plan: Option<Plan>,
}

impl Passage {
    fn of(key: u32, route: &Route, packet: &[u8]) -> Option<Self> {
        let hop = route.hop(packet.get(1)? & 0x7f)?;
        Some(Self { key, to: route.to.parts(), hop, plan: route.plan(hop) })
    }
}

impl Engine {
    /// An engine without ports. `seed` is for SSRCs, CNAMEs and RTCP intervals.
    #[must_use]
    pub fn new(thread: u16, policy: Policy, certificate: Certificate, seed: u64) -> Self {
        Self {
            policy,
            certificate,
            demultiplexer: Demultiplexer::new(thread),
            ports: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            timers: BTreeSet::new(),
            busy: VecDeque::new(),
            rooms: Vec::new(),
            free_rooms: Vec::new(),
            room_of: BTreeMap::new(),
            copies: Copies::default(),
            beating: VecDeque::new(),
            sounds: Sounds::default(),
            events: VecDeque::new(),
            random: Random(seed),
            epoch: None,
        }
    }

    /// Opens a port with idle streams. Returns its slot, which with stream and component names its sockets
    /// ([`SocketId::new`]).
    pub fn open(&mut self, id: PortId, streams: usize) -> usize {
        let slot = self.vacant();
        let cname = self.random.next();
        if let Some(entry) = self.ports.get_mut(slot) {
            *entry = Some(Port::new(id, streams, cname));
        }
        self.slots.insert(id, slot);
        slot
    }

    /// A free slot.
    fn vacant(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.ports.push(None);
            self.ports.len() - 1
        })
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
        let room = port.view.as_ref().map(|view| view.room);
        self.epoch.get_or_insert(now);
        if let Some(shared) = &settings.shared {
            // It is random; one that another port has already is one whose checks fail.
            let _taken = self.demultiplexer.add(id, shared.local.ufrag());
        }
        self.attend(slot);
        if let Some(room) = room {
            self.rearrange(now, room, Turn::Anew);
        }
    }

    /// Closes a port; its last figures come as [`Event::Closed`]. Returns the slot that it had.
    pub fn close(&mut self, now: Instant, id: PortId) -> Option<usize> {
        self.leave(now, id);
        let slot = self.slots.remove(&id)?;
        self.demultiplexer.remove(id);
        let port = self.ports.get_mut(slot)?.take()?;
        if let Some(deadline) = port.deadline {
            self.timers.remove(&(deadline, Timer::Port(slot)));
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
            Received::ToForward(component, length) => self.forward(now, (slot, index), component, buffer, length),
            Received::Event(length, digit) => {
                if let Some(digit) = digit {
                    self.pressed(slot, digit);
                }
                self.arm(slot);
                self.forward(now, (slot, index), Component::Rtp, buffer, length)
            }
        }
    }

    /// Takes a packet of a peer's to whoever is to have it.
    fn forward(
        &mut self,
        now: Instant,
        (slot, index): (usize, usize),
        component: Component,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<Transmit> {
        self.heard(now, slot);
        let relayed = match component {
            Component::Rtp => self.relay(now, (slot, index), buffer, length),
            Component::Rtcp => self.relay_rtcp(now, (slot, index), buffer, length),
        };
        match relayed.unwrap_or(Relayed::Withheld) {
            Relayed::Sent(transmit) => Some(transmit),
            Relayed::Taken => None,
            Relayed::Withheld => {
                self.ports.get_mut(slot)?.as_mut()?.streams.get_mut(index)?.quality.withheld += 1;
                None
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

    fn relay(&mut self, now: Instant, (slot, stream): (usize, usize), buffer: &mut [u8], length: usize) -> Option<Relayed> {
        let source = self.ports.get(slot)?.as_ref()?;
        let (key, way) = (source.id.key(), source.way(stream)?);
        if way.is_beyond {
            return self.relay_beyond(now, (slot, stream), buffer, length);
        }
        let passage = Passage::of(key, way.routes.first()?, buffer)?;
        self.relay_to(now, (slot, stream), passage, buffer, length)
    }

    /// Takes a packet to one receiver.
    fn relay_to(&mut self, now: Instant, from: (usize, usize), passage: Passage, buffer: &mut [u8], length: usize) -> Option<Relayed> {
        let Passage { key, to: (slot, target), hop, plan } = passage;
        let other = self.ports.get_mut(slot)?.as_mut()?;
        let fed = other.streams.get_mut(target)?.feed(now, key, hop, plan.as_ref(), buffer.get_mut(..length)?, &mut self.random);
        match fed {
            Fed::Passes => {
                let (socket, to, length) = other.send(slot, target, Component::Rtp, buffer, length)?;
                return Some(Relayed::Sent(Transmit { socket, to, length }));
            }
            Fed::Dropped => return Some(Relayed::Withheld),
            Fed::Began => self.transcoding_begins(now, from, (slot, target)),
            Fed::Taken => {}
        }
        self.arm(slot);
        Some(Relayed::Taken)
    }

    /// Both ends of a stream have us to talk with in RTCP, from now on.
    fn transcoding_begins(&mut self, now: Instant, from: (usize, usize), to: (usize, usize)) {
        for (slot, stream) in [from, to] {
            self.report_to(now, Place::new(slot, stream));
        }
        let port = |slot: usize| self.ports.get(slot).and_then(Option::as_ref);
        let plan = port(to.0).and_then(|port| port.streams.get(to.1)).and_then(|stream| stream.out.at_work());
        if let Some((port, (plan, _))) = port(from.0).zip(plan) {
            self.events.push_back(Event::Transcoding { port: port.id, reason: plan.reason() });
        }
    }

    /// RTCP goes to the other end with the numbers that it knows, unless each end talks with us alone.
    fn relay_rtcp(&mut self, now: Instant, (slot, stream): (usize, usize), buffer: &mut [u8], mut length: usize) -> Option<Relayed> {
        let source = self.ports.get(slot)?.as_ref()?;
        let Some((other_slot, target)) = source.way(stream)?.partner.map(Place::parts) else {
            return self.relay_feedback(now, (slot, stream), buffer, length);
        };
        let received = &source.streams.get(stream)?.out;
        let other = self.ports.get(other_slot)?.as_ref()?;
        let sent = &other.streams.get(target)?.out;
        if received.reports.is_some() {
            return Some(Relayed::Taken);
        }
        if !(sent.is_identity() && received.is_identity()) {
            let streams = report::Streams { sent: sent.media(), received: received.media(), cname: other.cname };
            length = report::rewrite(streams, buffer.get_mut(..length)?).ok()?;
            if length == 0 {
                return Some(Relayed::Taken);
            }
        }
        let other = self.ports.get_mut(other_slot)?.as_mut()?;
        other.streams.get_mut(target)?.reported(now, buffer.get(..length)?);
        let (socket, to, length) = other.send(other_slot, target, Component::Rtcp, buffer, length)?;
        Some(Relayed::Sent(Transmit { socket, to, length }))
    }

    /// The next datagram that a port itself has to send, written to the buffer.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        if let Some((socket, to, length)) = self.copies.poll(buffer) {
            return Some(Transmit { socket, to, length });
        }
        while let Some(slot) = self.busy.front().copied() {
            if let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) {
                if let Some((socket, to, length)) = port.poll_transmit(slot, buffer) {
                    return Some(Transmit { socket, to, length });
                }
                port.is_busy = false;
            }
            self.busy.pop_front();
            self.arm(slot);
        }
        self.poll_mixed(buffer)
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
        while let Some((due, timer)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, timer));
            let slot = match timer {
                Timer::Port(slot) => slot,
                Timer::Room(place) => {
                    self.beat(now, place);
                    continue;
                }
            };
            let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { continue };
            port.deadline = None;
            let digit = port.handle_timeout(now);
            if port.watch.due.is_some_and(|due| due <= now) {
                self.look(now, slot);
            }
            if let Some(digit) = digit {
                self.pressed(slot, digit);
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
        let seats = port.view.as_ref().and_then(|view| self.rooms.get(view.room)?.as_ref()).map(|room| &room.seats);
        let seat = seats.and_then(|seats| seats.iter().find(|seat| seat.member.port == port.id));
        if seat.is_some_and(|seat| seat.member.gives.is_empty()) {
            // On hold, or muted: nobody waits for what it says.
            (port.watch.heard, port.watch.due) = (Some(now), Some(now + limit));
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

    /// Sets or clears the one timer of a port.
    fn arm(&mut self, slot: usize) {
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { return };
        let due = port.poll_timeout();
        let old = std::mem::replace(&mut port.deadline, due);
        if old == due {
            return;
        }
        if let Some(old) = old {
            self.timers.remove(&(old, Timer::Port(slot)));
        }
        if let Some(due) = due {
            self.timers.insert((due, Timer::Port(slot)));
        }
    }
}

/// Silence after which signaling is told, unless the configuration says otherwise.
pub const MEDIA_TIMEOUT: Duration = Duration::from_secs(30);
