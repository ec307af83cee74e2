//! The loop of one media thread: epoll, one buffer, [`media::Engine`].
//!
//! All WebRTC legs share one UDP port, of which each thread has a socket; the kernel chooses the socket by the peer's address. A packet
//! that so comes to another thread than its port's is handed over.
//!
//! Level-triggered, and one datagram per ready socket and round: a socket with a backlog is simply ready again in the next
//! round, so that it can neither starve the others nor be forgotten after an overload. The clock is read once per round. Under
//! load it does not wait for the next packet but rests, see [`Pace`].

use std::{
    io,
    mem::MaybeUninit,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError},
    },
    time::{Duration, Instant},
};

use media::{
    Engine, Event, PortId, SocketId, Transmit,
    port::{SOCKETS, destination::PortSet, rtp::Component},
};
use rustix::event::{Timespec, epoll, poll};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{
    Command, Parcel,
    others::{Others, Wake},
    pace::Pace,
    socket::{Pair, Socket, close},
};
use crate::{clock, telemetry::metrics::OfThread};

/// Ready sockets taken in one round.
const ROUND: usize = 256;
/// Datagrams of the shared socket taken in one round.
const SHARED_ROUND: usize = 64;
/// Media packets from unknown addresses about which a thread asks the others in a second: it may be a peer that just changed its
/// address. Further ones are dropped.
const STRANGERS: u32 = 500;
/// Commands carried out in one round, so that packets do not wait for all of a burst.
const COMMANDS: usize = 64;
/// Largest datagram. Longer ones are dropped; no RTP sender makes them.
const DATAGRAM: usize = 9 * 1024;
/// Room behind a datagram for what a kind of port may add.
const ROOM: usize = 256;
/// When to try again to hand an event to signaling that has not read those before.
const RETRY: Duration = Duration::from_millis(10);
/// The epoll token of [`Wake`]; no socket's index is as high.
const WAKE: u64 = u64::MAX;
/// The epoll token of the shared socket.
const SHARED: u64 = u64::MAX - 1;

/// A media thread.
pub(super) struct Worker {
    engine: Engine,
    /// By [`SocketId::index`].
    sockets: Vec<Option<Socket>>,
    /// Ours of the sockets that share the WebRTC port.
    shared: UdpSocket,
    /// Packets from unknown addresses that the other threads were asked about in this second, and when it began.
    strangers: u32,
    second: Instant,
    others: Others,
    /// A port that comes from another thread; commands wait for it.
    awaited: Option<Receiver<Parcel>>,
    taken: Arc<PortSet>,
    epoll: OwnedFd,
    wake: Arc<Wake>,
    commands: Receiver<Command>,
    /// Whether there may be commands that the last round left.
    more: bool,
    events: Sender<Event>,
    /// An event that signaling had no room for.
    held: Option<Event>,
    pace: Pace,
    metrics: OfThread,
    /// Datagrams sent that are not counted yet.
    sent: u64,
    buffer: Box<[u8; DATAGRAM + ROOM]>,
}

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Loop {
    GoesOn,
    Ends,
}

impl Worker {
    pub(super) fn new(
        engine: Engine,
        shared: UdpSocket,
        taken: Arc<PortSet>,
        commands: Receiver<Command>,
        events: Sender<Event>,
        wake: Arc<Wake>,
        others: Others,
    ) -> io::Result<Self> {
        let metrics = OfThread::new(others.own());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, wake.as_fd(), epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        epoll::add(&epoll, shared.as_fd(), epoll::EventData::new_u64(SHARED), epoll::EventFlags::IN)?;
        Ok(Self {
            taken,
            engine,
            sockets: Vec::new(),
            shared,
            strangers: 0,
            second: clock::now(),
            others,
            awaited: None,
            epoll,
            wake,
            commands,
            more: false,
            events,
            held: None,
            pace: Pace::new(clock::now()),
            metrics,
            sent: 0,
            buffer: Box::new([0; DATAGRAM + ROOM]),
        })
    }

    /// Runs until the handle is dropped. A panic over one packet or command loses that one; the calls go on.
    pub(super) fn run(mut self) {
        while catch_unwind(AssertUnwindSafe(|| self.rounds())).is_err() {}
    }

    fn rounds(&mut self) {
        let mut ready = [const { MaybeUninit::<epoll::Event>::uninit() }; ROUND];
        let mut now = clock::now();
        loop {
            let Ok((events, _)) = epoll::wait(&self.epoll, &mut ready, self.sleep(now).as_ref()) else { continue };
            now = clock::now();
            let mut woken = std::mem::take(&mut self.more) || self.awaited.is_some();
            let (empty, mut packets) = (events.is_empty(), 0);
            for event in events {
                match event.data.u64() {
                    WAKE => woken = true,
                    SHARED => packets += self.shared_packets(now),
                    index => {
                        self.packet(now, index as usize);
                        packets += 1;
                    }
                }
            }
            self.pace.count(now, packets);
            if woken && self.carry_out(now) == Loop::Ends {
                return;
            }
            if self.engine.poll_timeout().is_some_and(|due| due <= now) {
                self.engine.handle_timeout(now);
            }
            self.transmit_own();
            self.tell_events();
            self.count(packets);
            if empty && !self.more {
                self.rest(now);
            }
        }
    }

    /// Counts what a round has moved.
    fn count(&mut self, received: usize) {
        if received > 0 {
            self.metrics.received.increment(received as u64);
        }
        if self.sent > 0 {
            self.metrics.sent.increment(std::mem::take(&mut self.sent));
        }
    }

    /// Lets packets gather when there are many, and no longer than that.
    fn rest(&self, now: Instant) {
        if let Some(Ok(rest)) = self.pace.rest(now).map(Timespec::try_from) {
            // A rest that is cut short only means one look more.
            let _interrupted = poll(&mut [], Some(&rest));
        }
    }

    /// How long to wait for packets; none = for ever.
    fn sleep(&self, now: Instant) -> Option<Timespec> {
        let timer = self.engine.poll_timeout().map(|due| due.saturating_duration_since(now));
        let retry = (self.held.is_some() || self.awaited.is_some()).then_some(RETRY);
        let look = (self.more || self.pace.is_busy()).then_some(Duration::ZERO);
        let wait = [timer, retry, look].into_iter().flatten().min()?;
        // A wait that does not fit ends early, which is harmless.
        Some(Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }))
    }

    /// Moves one datagram.
    fn packet(&mut self, now: Instant, index: usize) {
        let Some(Some(socket)) = self.sockets.get(index) else { return };
        // An error is the answer of the network to something sent before: of no use here.
        let Ok((length, from)) = socket.udp.recv_from(&mut self.buffer[..DATAGRAM]) else { return };
        if length == DATAGRAM {
            return; // cut off
        }
        let transmit = self.engine.handle_packet(now, SocketId::from_index(index), canonical(from), &mut self.buffer[..], length);
        self.transmit(transmit);
    }

    /// Moves what has come to the shared socket, at most so much that the sockets of other ports have their turn. Returns how many
    /// datagrams that were.
    fn shared_packets(&mut self, now: Instant) -> usize {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.strangers, self.second) = (0, now);
        }
        for taken in 0..SHARED_ROUND {
            let Ok((length, from)) = self.shared.recv_from(&mut self.buffer[..DATAGRAM]) else { return taken };
            if length == DATAGRAM {
                continue; // cut off
            }
            let (from, bytes) = (canonical(from), self.buffer.get(..length).unwrap_or_default());
            match self.engine.thread_of(from, bytes) {
                None if is_media(bytes) && self.strangers < STRANGERS => {
                    self.strangers += 1;
                    self.others.ask(from, bytes);
                }
                None => {}
                Some(thread) if thread == self.others.own() => {
                    let transmit = self.engine.handle_packet(now, SocketId::SHARED, from, &mut self.buffer[..], length);
                    self.transmit(transmit);
                }
                Some(thread) => self.others.hand_over(thread, from, bytes),
            }
        }
        SHARED_ROUND
    }

    /// Takes a packet that came to another thread.
    fn handed_over(&mut self, now: Instant, via: u16, from: SocketAddr, bytes: &[u8]) {
        // Its port may have gone to another thread since.
        if let Some(thread) = self.engine.thread_of(from, bytes).filter(|thread| *thread != self.others.own()) {
            return self.others.hand_on(thread, via, from, bytes);
        }
        let Some(place) = self.buffer.get_mut(..bytes.len()) else { return };
        place.copy_from_slice(bytes);
        let before = self.engine.port_at(from);
        let transmit = self.engine.handle_packet(now, SocketId::SHARED, from, &mut self.buffer[..], bytes.len());
        self.transmit(transmit);
        if let Some(port) = self.engine.port_at(from)
            && (before != Some(port) || is_check(bytes))
        {
            self.others.tell(via, Command::Learn { port, from });
        }
    }

    /// Sends what stands in the buffer.
    fn transmit(&mut self, transmit: Option<Transmit>) {
        let Some(transmit) = transmit else { return };
        self.sent += 1;
        let socket = if transmit.socket == SocketId::SHARED {
            &self.shared
        } else {
            let Some(Some(socket)) = self.sockets.get(transmit.socket.index()) else { return };
            &socket.udp
        };
        if let Some(bytes) = self.buffer.get(..transmit.length) {
            // What the network does not take now is lost, as it would be on the way.
            let _lost = socket.send_to(bytes, transmit.to);
        }
    }

    /// Sends what ports themselves have to say.
    fn transmit_own(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit(&mut self.buffer[..]) {
            self.transmit(Some(transmit));
        }
    }

    fn carry_out(&mut self, now: Instant) -> Loop {
        let goes_on = self.carry_out_some(now);
        self.metrics.ports(self.engine.len());
        goes_on
    }

    fn carry_out_some(&mut self, now: Instant) -> Loop {
        self.wake.clear();
        for _ in 0..COMMANDS {
            if !self.adopt(now) {
                return Loop::GoesOn;
            }
            match self.commands.try_recv() {
                Ok(Command::End) => return Loop::Ends,
                Ok(command) => self.command(now, command),
                Err(TryRecvError::Empty) => return Loop::GoesOn,
                Err(TryRecvError::Disconnected) => return Loop::Ends,
            }
        }
        self.more = true;
        Loop::GoesOn
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Open { port, streams, pairs } => {
                let slot = self.engine.open(port, streams);
                self.install(slot, 0, pairs);
            }
            Command::Extend { port, streams, pairs } => self.extend(port, streams, pairs),
            Command::Set { port, settings } => self.engine.set(now, port, &settings),
            Command::Arrange { bridge, members } => self.engine.arrange(now, bridge, &members),
            Command::Report { port } => self.engine.report(port),
            Command::Press { port, digit, duration } => self.engine.press(now, port, digit, duration),
            Command::Close { port } => self.close(now, port),
            Command::Packet { via, from, bytes } => {
                self.handed_over(now, via, from, &bytes);
                self.others.give_back(via, bytes);
            }
            Command::Learn { port, from } => self.engine.learn(now, port, from),
            Command::Forget { port } => self.engine.forget(port),
            Command::Move { port, to, way } => self.send_off(now, (port, to), &way),
            Command::Adopt { way } => self.awaited = Some(way),
            Command::Rename { port, to } => self.engine.rename(port, to),
            Command::End => {}
        }
    }

    fn extend(&mut self, port: PortId, streams: usize, pairs: Vec<Pair>) {
        let Some(slot) = self.engine.slot(port) else {
            return pairs.into_iter().for_each(|pair| {
                close(pair.rtcp, &self.taken);
                close(pair.rtp, &self.taken);
            });
        };
        let first = self.sockets.iter().skip(slot * SOCKETS).take(SOCKETS).step_by(2).flatten().count();
        self.engine.extend(port, streams);
        self.install(slot, first, pairs);
    }

    /// Puts sockets into the table and under watch, `pairs` being the streams of a slot from `first` on.
    fn install(&mut self, slot: usize, first: usize, pairs: Vec<Pair>) {
        for (index, pair) in pairs.into_iter().enumerate() {
            for (component, socket) in [(Component::Rtp, pair.rtp), (Component::Rtcp, pair.rtcp)] {
                self.watch(SocketId::new(slot, first + index, component).index(), socket);
            }
        }
    }

    fn watch(&mut self, index: usize, socket: Socket) {
        let end = (index / SOCKETS + 1) * SOCKETS;
        if self.sockets.len() < end {
            self.sockets.resize_with(end, || None);
        }
        let watched = epoll::add(&self.epoll, &socket.udp, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN);
        debug_assert!(watched.is_ok(), "only a lack of memory or of watches refuses a socket that nobody watches");
        if let Some(entry) = self.sockets.get_mut(index) {
            *entry = Some(socket);
        }
    }

    /// Sends a port to another thread.
    fn send_off(&mut self, now: Instant, (port, to): (PortId, PortId), way: &SyncSender<Parcel>) {
        let Some((slot, port_itself)) = self.engine.take(now, port, to) else { return };
        let places = self.sockets.iter_mut().skip(slot * SOCKETS).take(SOCKETS).enumerate();
        let sockets: Vec<(usize, Socket)> = places.filter_map(|(place, socket)| Some((place, socket.take()?))).collect();
        for (_, socket) in &sockets {
            let unwatched = epoll::delete(&self.epoll, &socket.udp);
            debug_assert!(unwatched.is_ok(), "it was under watch");
        }
        let _ending = way.try_send(Parcel { port: port_itself, sockets });
        // This wakes the thread that waits for it, too.
        self.others.tell_all(|| Command::Rename { port, to });
    }

    /// Takes in the port that is on its way, if one is. Returns whether none is any more.
    fn adopt(&mut self, now: Instant) -> bool {
        let Some(way) = &self.awaited else { return true };
        match way.try_recv() {
            Ok(Parcel { port, sockets }) => {
                let slot = self.engine.adopt(now, port);
                sockets.into_iter().for_each(|(place, socket)| self.watch(slot * SOCKETS + place, socket));
            }
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => {} // it has not set out, or is gone with its thread
        }
        self.awaited = None;
        true
    }

    fn close(&mut self, now: Instant, port: PortId) {
        let Some(slot) = self.engine.close(now, port) else { return };
        self.others.tell_all(|| Command::Forget { port });
        let sockets = self.sockets.iter_mut().skip(slot * SOCKETS).take(SOCKETS);
        // The odd port first: whoever claims the even one then finds both free. Closing ends the watch.
        sockets.rev().filter_map(Option::take).for_each(|socket| close(socket, &self.taken));
    }

    fn tell_events(&mut self) {
        while let Some(event) = self.held.take().or_else(|| self.engine.poll_output().inspect(|event| self.metrics.event(event))) {
            match self.events.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(event)) => {
                    self.held = Some(event);
                    return;
                }
            }
        }
    }
}

/// Whether it looks like RTP or RTCP (RFC 7983).
fn is_media(bytes: &[u8]) -> bool {
    matches!(bytes, [128..=191, ..])
}

/// Whether it is a connectivity check rather than media or DTLS (RFC 7983).
fn is_check(bytes: &[u8]) -> bool {
    matches!(bytes, [0..=3, ..])
}

/// The address as SDP and signaling write it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
