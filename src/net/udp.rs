//! UDP (RFC 3261 §18): datagrams in batches by recvmmsg(2), one sendto(2) each out. The loop calls both: no task between.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll};

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmmsg, sendto};
use sip::transport::{Flow, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::error::SendError;
use super::{Event, Listener, Place, Turn};
use crate::clock;
use crate::config::{Config, ConfigError};

/// Datagrams one system call reads at most.
const BATCH: usize = 32;
/// The longest datagram (RFC 768).
const DATAGRAM: usize = 65_535;
/// What we ask of the kernel for each direction; it gives as much as it allows.
const SOCKET_BUFFER: usize = 8 << 20;

/// The UDP listeners.
pub(super) struct Sockets {
    sockets: Vec<(SocketAddr, UdpSocket)>,
    /// Where datagrams land before each is copied into a buffer of its own size. Pages that no datagram reached cost
    /// nothing.
    buffers: Box<[u8]>,
}

impl Sockets {
    pub(super) fn bind(config: &Config) -> Result<(Self, Vec<Listener>), ConfigError> {
        let mut sockets = Vec::new();
        let mut listeners = Vec::new();
        for (index, address) in config.sip.udp.iter().enumerate() {
            let (local, socket) = open(*address).map_err(|error| refused(config, &format!("sip.udp[{index}]"), *address, &error))?;
            listeners.push(Listener { transport: Transport::Udp, address: local, place: Place::Sip });
            sockets.push((local, socket));
        }
        let buffers = if sockets.is_empty() { 0 } else { BATCH * DATAGRAM };
        Ok((Self { sockets, buffers: vec![0; buffers].into() }, listeners))
    }

    /// Reads one batch from each socket that has something.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>, ready: &mut VecDeque<Event>) -> Turn {
        let mut turn = Turn::Idle;
        for (local, socket) in &self.sockets {
            while let Poll::Ready(Ok(())) = socket.poll_recv_ready(cx) {
                let read = socket.try_io(Interest::READABLE, || {
                    let count = receive(socket.as_raw_fd(), *local, &mut self.buffers, ready)?;
                    // a short batch has emptied the socket: with this tokio waits for the next edge, without another call
                    if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                });
                match read {
                    // the next look sets the waker
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => {
                        tracing::debug!(%local, %error, "a datagram was lost on its way in")
                    }
                    Ok(()) => {}
                }
                turn = Turn::Busy; // there may be more
                break;
            }
        }
        turn
    }

    pub(super) fn send(&self, flow: &Flow, bytes: &[u8]) -> Result<(), SendError> {
        let socket = self.sockets.iter().find(|(local, _)| *local == flow.local);
        let (_, socket) = socket.ok_or(SendError::NoListener(flow.local))?;
        // past tokio, whose idea of a writable socket is as old as the last look at the poller
        let (fd, now) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let sent = match flow.remote {
            SocketAddr::V4(remote) => sendto(fd, bytes, &SockaddrIn::from(remote), now),
            SocketAddr::V6(remote) => sendto(fd, bytes, &SockaddrIn6::from(remote), now),
        };
        match sent {
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()), // lost, as the network may lose it
            Err(error) => Err(SendError::Network(error.into())),
        }
    }
}

/// Opens one socket, with buffers that hold a burst.
fn open(address: SocketAddr) -> io::Result<(SocketAddr, UdpSocket)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // the kernel caps the size instead of refusing it; a smaller buffer only loses more under load
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let socket = UdpSocket::from_std(StdSocket::from(socket))?;
    Ok((socket.local_addr()?, socket))
}

/// Says why an address could not be listened on.
pub(super) fn refused(config: &Config, key: &str, address: SocketAddr, error: &io::Error) -> ConfigError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is open; all but these print well")]
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "is in use by another program; accepted: a free port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "is no address of this machine; accepted: one that `ip address` lists".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "needs a right this process lacks; accepted: a port above 1023, or CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => format!("cannot be opened: {error}"),
    };
    config.fault(key, format!("{address} {reason}"))
}

/// Finds addresses of other machines. A port in use may be our own running switch's, so it makes a note, no error.
pub(super) fn check(config: &Config) -> Result<Vec<String>, ConfigError> {
    let (sip, http) = (&config.sip, &config.http);
    let lists = [
        ("sip.udp", &sip.udp),
        ("sip.tcp", &sip.tcp),
        ("sip.tls", &sip.tls),
        ("sip.ws", &sip.ws),
        ("sip.wss", &sip.wss),
        ("http.listen", &http.listen),
    ];
    let listed = lists
        .into_iter()
        .flat_map(|(list, addresses)| addresses.iter().enumerate().map(move |(index, address)| (format!("{list}[{index}]"), *address)));
    let mut notes = Vec::new();
    for (key, address) in listed.chain([("media.address".to_owned(), (config.media.address, 0).into())]) {
        match is_free(address, if key.starts_with("sip.udp") { Type::DGRAM } else { Type::STREAM }) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let whose = "is in use: by the switch, if it runs with this file, else by another program";
                notes.push(config.fault(&key, format!("{address} {whose}")).to_string());
            }
            Err(error) => return Err(refused(config, &key, address, &error)),
        }
    }
    Ok(notes)
}

fn is_free(address: SocketAddr, kind: Type) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&address.into())
}

thread_local! {
    // recvmmsg's headers hold pointers between calls, which would keep `Net` from moving between threads. Two sets, since
    // the kernel writes the length of the family's addresses into them and expects it there at the next call.
    static HEADERS: RefCell<[MultiHeaders<SockaddrStorage>; 2]> =
        RefCell::new([MultiHeaders::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None)]);
}

/// Reads one batch and returns how many datagrams it had.
fn receive(fd: RawFd, local: SocketAddr, buffers: &mut [u8], ready: &mut VecDeque<Event>) -> io::Result<usize> {
    HEADERS.with_borrow_mut(|[v4, v6]| {
        let headers = if local.is_ipv4() { v4 } else { v6 };
        let mut sizes = [(0, None); BATCH];
        let count = {
            let mut chunks = buffers.chunks_exact_mut(DATAGRAM);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
            let received = recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            received.zip(&mut sizes).map(|(datagram, size)| *size = (datagram.bytes, source(datagram.address))).count()
        };
        let now = clock::now();
        for ((size, remote), buffer) in sizes.into_iter().take(count).zip(buffers.chunks_exact(DATAGRAM)) {
            let (Some(bytes), Some(remote)) = (buffer.get(..size), remote) else {
                continue;
            };
            if is_message(bytes) {
                let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
                ready.push_back(Event::Message { flow, bytes: Bytes::copy_from_slice(bytes), now });
            }
        }
        Ok(count)
    })
}

fn source(address: Option<SockaddrStorage>) -> Option<SocketAddr> {
    let address = address?;
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(std::net::SocketAddrV4::from(*v4)));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(std::net::SocketAddrV6::from(*v6))))
}

/// Tells messages from keep-alives: empty lines and zeros, STUN (RFC 5626 §3.5.2: the first two bits are zero).
fn is_message(datagram: &[u8]) -> bool {
    datagram.iter().find(|b| !matches!(b, b'\r' | b'\n')).is_some_and(|first| *first >= 0x20)
}
