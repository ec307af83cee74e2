//! Media sockets and the range their ports come from. A closed port is not used again at once, for its last peer may still
//! send: the search begins a random step after the pair that was opened last.
//!
//! Buffers of a stream have the system's default size (about 280 packets of audio, 5 s): more would only deliver stale sound after a
//! stall. The port of all WebRTC has more, since one socket serves all its legs.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use media::port::destination::PortSet;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::Error;

/// A bound, non-blocking socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    pub(super) port: u16,
}

/// The sockets of one stream.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) rtp: Socket,
    pub(super) rtcp: Socket,
}

/// The port pairs of the media address.
#[derive(Debug)]
pub(super) struct Range {
    address: IpAddr,
    ports: RangeInclusive<u16>,
    /// First even port.
    first: u16,
    pairs: u32,
    taken: Arc<PortSet>,
    /// Pair to begin the next search after.
    cursor: AtomicU32,
    random: AtomicU64,
}

impl Range {
    pub(super) fn new(address: IpAddr, ports: &RangeInclusive<u16>, taken: Arc<PortSet>, seed: u64) -> Result<Self, Error> {
        let (start, end) = (u32::from(*ports.start()).max(2).next_multiple_of(2), u32::from(*ports.end()) + 1);
        let pairs = end.saturating_sub(start) / 2;
        let none = Error::NoPorts { first: *ports.start(), last: *ports.end() };
        let Some(first) = u16::try_from(start).ok().filter(|_| pairs > 0) else { return Err(none) };
        let range = Self { address, ports: ports.clone(), first, pairs, taken, cursor: AtomicU32::new(0), random: AtomicU64::new(seed) };
        range.cursor.store((range.random() % u64::from(pairs)) as u32, Ordering::Relaxed);
        Ok(range)
    }

    /// Finds out at start whether ports can be bound.
    pub(super) fn probe(&self) -> Result<(), Error> {
        self.open().map(|pair| self.close(pair))
    }

    /// Opens the next free pair.
    pub(super) fn open(&self) -> Result<Pair, Error> {
        let start = self.cursor.load(Ordering::Relaxed) + (self.random() % STEP) as u32;
        for offset in 0..self.pairs {
            let place = (start + offset) % self.pairs;
            let port = self.first + (place * 2) as u16;
            if !self.taken.claim(port) {
                continue;
            }
            // The odd port goes with the even one, but has a bit of its own, for the check of destinations.
            let _claimed = self.taken.claim(port + 1);
            match self.bind(port).and_then(|rtp| Ok(Pair { rtp, rtcp: self.bind(port + 1)? })) {
                Ok(pair) => {
                    self.cursor.store(place + 1, Ordering::Relaxed);
                    return Ok(pair);
                }
                Err(error) => {
                    self.taken.release(port + 1);
                    self.taken.release(port);
                    if error.kind() != io::ErrorKind::AddrInUse {
                        return Err(Error::Socket { address: self.address, source: error });
                    }
                }
            }
        }
        Err(Error::Exhausted { first: *self.ports.start(), last: *self.ports.end() })
    }

    pub(super) fn close(&self, pair: Pair) {
        close(pair.rtcp, &self.taken);
        close(pair.rtp, &self.taken);
    }

    fn bind(&self, port: u16) -> io::Result<Socket> {
        let family = if self.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddr::new(self.address, port))?;
        Ok(Socket { udp: UdpSocket::from(socket), port })
    }

    /// SplitMix64: ports need to be hard to foresee, not impossible, since a guess is turned away by the latch.
    fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Octets that a socket of the WebRTC port may hold for all its peers together: about 3,600 packets of video or 10,900 of audio; what
/// comes to a full one is lost. The kernel gives as much of it as `net.core.rmem_max` allows.
const SHARED_BUFFER: usize = 4 << 20;

/// Opens the sockets that share one port, one for each media thread: the kernel sends all of one peer's packets to the same one.
pub(super) fn shared(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let open = |address: SocketAddr, shares: bool| {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&socket, shares)?;
        sockopt::set_socket_recv_buffer_size(&socket, SHARED_BUFFER)?;
        bind(&socket, &address)?;
        Ok::<_, io::Error>(UdpSocket::from(socket))
    };
    // Another process of ours would share the port with us unseen; one socket that shares with nobody finds it out.
    let address = open(address, false)?.local_addr()?;
    (0..count).map(|_| open(address, true)).collect()
}

/// Pairs stepped over from one opened pair to the next, less than this.
const STEP: u64 = 16;

/// Closes a socket, then gives its port back: in this order, or the next to claim it could not bind it.
pub(super) fn close(socket: Socket, taken: &PortSet) {
    let port = socket.port;
    drop(socket);
    taken.release(port);
}
