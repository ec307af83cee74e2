//! Media threads: sockets around [`media::Engine`], on threads of their own, so that signaling never delays a packet.
//!
//! [`Media`] is the handle that signaling holds. It binds ports on the caller's thread, so that their addresses can stand in
//! an SDP at once, and hands the sockets to a thread over a bounded channel; events come back over the channel given to
//! [`Media::start`]. The loop of a thread is in `rtp/worker.rs`, what threads tell each other in `rtp/others.rs`, their rests in
//! `rtp/pace.rs`, the choice of ports in `rtp/socket.rs`, the music on hold in `rtp/music.rs`. It knows no SIP and no call.

pub mod music;
mod others;
mod pace;
mod socket;
mod worker;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use media::{
    BridgeId, Engine, Event, Member, PortId, Settings, Sound, SoundId,
    dtmf::Digit,
    port::{
        Kind,
        destination::{Loopback, Policy, PortSet},
        webrtc::Certificate,
    },
    sdp::{
        negotiate::{MAX_STREAMS, StreamAddress},
        transport::Local,
    },
};
use tokio::sync::mpsc;

use self::{
    others::{Others, Wake},
    socket::{Pair, Range},
    worker::Worker,
};

/// Commands that may wait for a media thread. When there are more, [`Error::Busy`]: the thread does not get on.
const COMMANDS: usize = 16 * 1024;

/// Where media is received, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address that ports are bound to.
    pub address: IpAddr,
    /// Address that is told to peers; that of the ports unless a NAT stands before us.
    pub advertise: IpAddr,
    /// Ports: RTP on even ones, RTCP on the next.
    pub ports: RangeInclusive<u16>,
    /// The one UDP port of all WebRTC; 0 = any.
    pub webrtc_port: u16,
    /// What DTLS shows.
    pub certificate: Certificate,
    /// Whether media may go to loopback addresses.
    pub loopback: Loopback,
    /// Other sockets of ours, to which media is never sent.
    pub listeners: Vec<SocketAddr>,
    /// Media threads; by default one per core.
    pub threads: Option<usize>,
    /// Seed for the choice of ports: random outside tests.
    pub seed: u64,
    /// What a party hears while it is on hold.
    pub music: Sound,
}

/// Why a port could not be opened or commanded. Ours or the machine's fault in every case.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every port pair of the range is in use, by us or by others.
    #[error("all RTP ports from {first} to {last} are in use; widen media.rtp_ports")]
    Exhausted {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// The range has no even port with its successor.
    #[error("media.rtp_ports {first}-{last} has no even port with the odd one after it")]
    NoPorts {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// The system refused a socket.
    #[error("cannot open a media socket on {address}: {source}")]
    Socket {
        /// The media address.
        address: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The port of all WebRTC cannot be opened.
    #[error("cannot open media.webrtc_port {address}: {source}")]
    WebRtc {
        /// The address with the port.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A media thread could not be started.
    #[error("cannot start a media thread: {0}")]
    Thread(io::Error),
    /// The media thread has too many commands waiting.
    #[error("the media thread is overloaded")]
    Busy,
    /// The media thread has ended.
    #[error("the media thread has ended")]
    Ended,
    /// Ports to be bridged live on different threads: they were not opened beside each other.
    #[error("the ports live on different media threads")]
    Apart,
}

/// The handle of the media threads. Clones are cheap; the threads end when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Media(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    advertise: IpAddr,
    range: Range,
    /// The port that all WebRTC legs share.
    webrtc_port: u16,
    /// Of our certificate, as SDP has it.
    fingerprint: String,
    threads: Vec<Thread>,
    next_thread: AtomicUsize,
    next_port: AtomicU64,
}

#[derive(Debug)]
struct Thread {
    /// Taken when dropped.
    commands: Option<SyncSender<Command>>,
    wake: Arc<Wake>,
}

/// What a media thread is told.
#[derive(Debug)]
enum Command {
    Open {
        port: PortId,
        streams: usize,
        pairs: Vec<Pair>,
    },
    Extend {
        port: PortId,
        streams: usize,
        pairs: Vec<Pair>,
    },
    Set {
        port: PortId,
        settings: Settings,
    },
    Arrange {
        bridge: BridgeId,
        members: Box<[Member]>,
    },
    Report {
        port: PortId,
    },
    Press {
        port: PortId,
        digit: Digit,
        duration: Duration,
    },
    Close {
        port: PortId,
    },
    /// A datagram that came to the shared socket of another thread, and of which.
    Packet {
        via: u16,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// The source of a datagram that was handed over is the peer of this port of another thread.
    Learn {
        port: PortId,
        from: SocketAddr,
    },
    /// That port is closed.
    Forget {
        port: PortId,
    },
    /// The handle was dropped.
    End,
}

/// A port that was opened: what a call keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPort {
    /// Names it in commands and events.
    pub id: PortId,
    /// What peers are told of it: for `make_offer` and `make_answer`.
    pub local: Local,
}

impl Media {
    /// Starts the media threads.
    ///
    /// # Errors
    /// [`Error::NoPorts`], [`Error::WebRtc`], [`Error::Thread`], and [`Error::Socket`] when nothing can be bound to the media address.
    pub fn start(config: Config, events: mpsc::Sender<Event>) -> Result<Self, Error> {
        let ports = Arc::new(PortSet::of(config.ports.clone()));
        let range = Range::new(config.address, &config.ports, Arc::clone(&ports), config.seed)?;
        range.probe()?;
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = config.threads.unwrap_or_else(cores).clamp(1, usize::from(u16::MAX));
        let address = SocketAddr::new(config.address, config.webrtc_port);
        let shared = socket::shared(address, count).map_err(|source| Error::WebRtc { address, source })?;
        let webrtc_port = shared.first().and_then(|socket| socket.local_addr().ok()).map_or(config.webrtc_port, |address| address.port());
        let own = vec![config.address, config.advertise];
        let webrtc = own.iter().map(|address| SocketAddr::new(*address, webrtc_port));
        let listeners = config.listeners.into_iter().chain(webrtc).collect();
        let policy = Policy { loopback: config.loopback, own, ports, listeners };
        let fingerprint = config.certificate.fingerprint().to_string();
        let threads =
            Thread::start_all(shared, &policy, &config.certificate, config.seed, &config.music, &events).map_err(Error::Thread)?;
        Ok(Self(Arc::new(Shared {
            advertise: config.advertise,
            range,
            webrtc_port,
            fingerprint,
            threads,
            next_thread: AtomicUsize::new(0),
            next_port: AtomicU64::new(0),
        })))
    }

    /// Opens a port with 1 to 4 streams, bound when this returns. `beside` is the port of the call's other leg: both then
    /// live on the same thread, and can be bridged.
    ///
    /// # Errors
    /// [`Error::Exhausted`], [`Error::Socket`], [`Error::Busy`], [`Error::Ended`]; nothing is open then.
    pub fn open(&self, kind: Kind, streams: usize, beside: Option<PortId>) -> Result<OpenPort, Error> {
        let shared = &self.0;
        let round_robin = || shared.next_thread.fetch_add(1, Ordering::Relaxed) % shared.threads.len();
        let thread = beside.map_or_else(round_robin, |port| usize::from(port.thread()));
        let id = PortId::new(thread as u16, shared.next_port.fetch_add(1, Ordering::Relaxed));
        let streams = streams.clamp(1, MAX_STREAMS);
        let (pairs, addresses) = match kind {
            Kind::Own => {
                let pairs = shared.pairs(streams)?;
                let addresses = shared.addresses(&pairs);
                (pairs, addresses)
            }
            Kind::Shared => (Vec::new(), vec![shared.shared_address(); streams]),
        };
        // No wake-up: nothing comes in before the port is set, and that wakes the thread.
        self.push(id, Command::Open { port: id, streams, pairs })?;
        Ok(OpenPort { id, local: Local { addresses, fingerprint: shared.fingerprint.clone().into(), thread: id.thread() } })
    }

    /// Gives a port more streams, up to the number given; their addresses are added.
    ///
    /// # Errors
    /// As [`open`](Self::open); the port is then as before.
    pub fn extend(&self, port: &mut OpenPort, streams: usize) -> Result<(), Error> {
        let streams = streams.min(MAX_STREAMS);
        let more = streams.saturating_sub(port.local.addresses.len());
        if more == 0 {
            return Ok(());
        }
        let shared = self.0.shared_address();
        let pairs = if port.local.addresses.contains(&shared) { Vec::new() } else { self.0.pairs(more)? };
        let addresses = if pairs.is_empty() { vec![shared; more] } else { self.0.addresses(&pairs) };
        self.push(port.id, Command::Extend { port: port.id, streams, pairs })?;
        port.local.addresses.extend(addresses);
        Ok(())
    }

    /// Applies what a leg's offer and answer agreed.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Ended`].
    pub fn set(&self, port: PortId, settings: Settings) -> Result<(), Error> {
        self.tell(port, Command::Set { port, settings })
    }

    /// Declares what a bridge is to be, in place of all that it was; no members = it ends. All its ports live on one thread.
    ///
    /// # Errors
    /// [`Error::Apart`], [`Error::Busy`], [`Error::Ended`]; the bridge is then as before.
    pub fn arrange(&self, bridge: BridgeId, members: &[Member]) -> Result<(), Error> {
        let command = || Command::Arrange { bridge, members: members.into() };
        let Some(first) = members.first() else {
            // No port tells the thread: they are all asked, and to all but one the bridge is unknown.
            return (0..self.0.threads.len()).try_for_each(|thread| self.tell(PortId::new(thread as u16, 0), command()));
        };
        if members.iter().any(|member| member.port.thread() != first.port.thread()) {
            return Err(Error::Apart);
        }
        self.tell(first.port, command())
    }

    /// Asks for a port's figures: they come as [`Event::Statistics`].
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Ended`].
    pub fn report(&self, port: PortId) -> Result<(), Error> {
        self.tell(port, Command::Report { port })
    }

    /// Presses a key towards the peer of a port for that long: as a named event where it takes them, else as tones.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Ended`].
    pub fn press(&self, port: PortId, digit: Digit, duration: Duration) -> Result<(), Error> {
        self.tell(port, Command::Press { port, digit, duration })
    }

    /// Closes a port; its last figures come as [`Event::Closed`]. It waits for room in the thread's channel rather than lose a
    /// port for ever.
    pub fn close(&self, port: PortId) {
        let Some(thread) = self.thread(port) else { return };
        if let Err(Error::Busy) = self.tell(port, Command::Close { port })
            && let Some(commands) = &thread.commands
        {
            let _ended = commands.send(Command::Close { port });
            thread.wake.wake();
        }
    }

    fn tell(&self, port: PortId, command: Command) -> Result<(), Error> {
        self.push(port, command)?;
        if let Some(thread) = self.thread(port) {
            thread.wake.wake();
        }
        Ok(())
    }

    fn push(&self, port: PortId, command: Command) -> Result<(), Error> {
        let thread = self.thread(port).ok_or(Error::Ended)?;
        let commands = thread.commands.as_ref().ok_or(Error::Ended)?;
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) => {
                thread.wake.wake();
                self.0.give_back(command);
                Error::Busy
            }
            TrySendError::Disconnected(command) => {
                self.0.give_back(command);
                Error::Ended
            }
        })
    }

    fn thread(&self, port: PortId) -> Option<&Thread> {
        self.0.threads.get(usize::from(port.thread()))
    }
}

impl Shared {
    fn pairs(&self, count: usize) -> Result<Vec<Pair>, Error> {
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            match self.range.open() {
                Ok(pair) => pairs.push(pair),
                Err(error) => {
                    pairs.into_iter().for_each(|pair: Pair| self.range.close(pair));
                    return Err(error);
                }
            }
        }
        Ok(pairs)
    }

    fn addresses(&self, pairs: &[Pair]) -> Vec<StreamAddress> {
        let at = |port| SocketAddr::new(self.advertise, port);
        pairs.iter().map(|pair| StreamAddress { rtp: at(pair.rtp.port), rtcp: at(pair.rtcp.port) }).collect()
    }

    fn shared_address(&self) -> StreamAddress {
        let address = SocketAddr::new(self.advertise, self.webrtc_port);
        StreamAddress { rtp: address, rtcp: address }
    }

    /// Releases the sockets of a command that found no taker.
    fn give_back(&self, command: Command) {
        match command {
            Command::Open { pairs, .. } | Command::Extend { pairs, .. } => pairs.into_iter().for_each(|pair| self.range.close(pair)),
            Command::Set { .. }
            | Command::Arrange { .. }
            | Command::Report { .. }
            | Command::Press { .. }
            | Command::Close { .. }
            | Command::Packet { .. }
            | Command::Learn { .. }
            | Command::Forget { .. }
            | Command::End => {}
        }
    }
}

impl Thread {
    /// Starts a thread for each of the sockets that share the WebRTC port.
    fn start_all(
        sockets: Vec<UdpSocket>,
        policy: &Policy,
        certificate: &Certificate,
        seed: u64,
        music: &Sound,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<Vec<Self>> {
        let mut threads = Vec::new();
        let mut receivers = Vec::new();
        for _ in &sockets {
            let (sender, receiver) = sync_channel(COMMANDS);
            threads.push(Self { commands: Some(sender), wake: Arc::new(Wake::new()?) });
            receivers.push(receiver);
        }
        for (index, ((shared, commands), others)) in sockets.into_iter().zip(receivers).zip(Others::of(&threads)).enumerate() {
            let mut engine = Engine::new(index as u16, policy.clone(), certificate.clone(), seed.wrapping_add(index as u64));
            engine.add_sound(SoundId::HOLD, music.clone());
            engine.add_sound(SoundId::RINGBACK, Sound::ringback());
            let wake = threads.get(index).map(|thread| Arc::clone(&thread.wake)).ok_or(io::ErrorKind::NotFound)?;
            let worker = Worker::new(engine, shared, Arc::clone(&policy.ports), commands, events.clone(), wake, others)?;
            thread::Builder::new().name(format!("media-{index}")).spawn(move || worker.run())?;
        }
        Ok(threads)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The threads hold each other's channels, so that none ends by its being closed.
        if let Some(commands) = self.commands.take() {
            let _ended = commands.send(Command::End);
            self.wake.wake();
        }
    }
}
