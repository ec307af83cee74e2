//! SIP sockets: UDP, TCP, TLS and WebSocket (RFC 3261 §18, RFC 5626, RFC 7118), behind one value that the signaling loop owns.
//!
//! UDP is read and written by the loop itself, in batches: no task, no channel, one buffer a message. Each stream
//! connection has a task of its own. This module tells messages apart and reads none: that is `sip`'s part.

mod connection;
pub(crate) mod dns;
mod error;
pub mod rtp;
mod tcp;
mod tls;
mod udp;
pub mod web;
mod ws;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use sip::framing::FramingError;
use sip::transport::{Flow, Transport};
use tokio::sync::mpsc;

use crate::config::{Config, ConfigError, Origin};

pub use connection::Door;
pub use error::{BindError, CloseReason, SendError};

/// Events of stream connections between their tasks and the loop; beyond it the tasks wait, and so do their peers.
const REPORTS: usize = 1024;
/// How many of them one turn of the loop takes.
const REPORTS_A_TURN: usize = 64;
/// Connections without a login that are closed where the process has run out of file descriptors.
const EVICTIONS: usize = 16;

/// What the sockets tell the loop.
#[derive(Debug)]
pub enum Event {
    /// A complete message.
    Message {
        /// Where it came from, and where answers go.
        flow: Flow,
        /// The message, in a buffer of its own.
        bytes: Bytes,
        /// When it was read.
        now: Instant,
    },
    /// A stream that cannot be split into messages any more. A response sent at once still goes out; then it closes.
    Malformed {
        /// The connection.
        flow: Flow,
        /// What is wrong, and the headers of the message at fault.
        error: FramingError,
    },
    /// A connection is up, handshakes done: an incoming one, or one that [`Net::connect`] began.
    Opened {
        /// The connection.
        flow: Flow,
    },
    /// A connection is gone; the last event of each connection that was opened or begun here.
    Closed {
        /// The connection.
        flow: Flow,
        /// Why.
        reason: CloseReason,
    },
    /// Nothing came for as long as [`Net::keep`] lets pass at a time. Who uses it no more is to be [released](Net::release).
    Silent {
        /// The connection.
        flow: Flow,
    },
    /// The peer asked if the flow lives (RFC 5626 §3.5.1); the answer is already on its way.
    KeepAlive {
        /// The connection.
        flow: Flow,
        /// When it asked.
        now: Instant,
    },
}

/// An open listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The transport of the messages that come in.
    pub transport: Transport,
    /// The address, with its real port.
    pub address: SocketAddr,
    /// The list it comes from.
    pub place: Place,
}

/// The list of the configuration that a listener comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A list of `[sip]`.
    Sip,
    /// `[http] listen`.
    Http,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.place {
            Place::Sip => self.transport.param(),
            Place::Http => "http",
        };
        write!(f, "{name}={}", self.address)
    }
}

/// Every SIP socket of the process.
pub struct Net {
    listeners: Vec<Listener>,
    udp: udp::Sockets,
    acceptors: tcp::Acceptors,
    connections: connection::Connections,
    reports: mpsc::Receiver<connection::Report>,
    /// What was read and not handed out; at most one turn of each source.
    ready: VecDeque<Event>,
    turn: Turn,
    rested: bool,
    tls: tls::Tls,
    guests: Option<mpsc::Receiver<web::Guest>>,
}

/// What one look at the sources found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing, and the waker is set.
    Idle,
    /// Something, and perhaps there is more.
    Busy,
}

impl Net {
    /// Opens every listener of the configuration, or none. Runs within a tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// One sentence that names the key, the address and the reason.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        config.open_data_dir()?;
        let tls = tls::Tls::open(config)?;
        let (udp, mut listeners) = udp::Sockets::bind(config)?;
        let acceptors = tcp::Acceptors::bind(config, &mut listeners)?;
        let (sender, reports) = mpsc::channel(REPORTS);
        let (lent, guests) = mpsc::channel(web::GUESTS);
        let connections = connection::Connections::new(&config.limits, sender, lent);
        let (ready, turn, guests) = (VecDeque::new(), Turn::Idle, Some(guests));
        Ok(Self { listeners, udp, acceptors, connections, reports, ready, turn, rested: true, tls, guests })
    }

    /// Returns the connections of the web's listeners as they come, for whoever speaks HTTP; once.
    pub fn guests(&mut self) -> Option<mpsc::Receiver<web::Guest>> {
        self.guests.take()
    }

    /// Returns the origins of web pages that may open a WebSocket: our own, and those of the configuration.
    #[must_use]
    pub fn origins(&self, config: &Config) -> Vec<Origin> {
        ws::origins(config, &self.listeners)
    }

    /// Finds out what [`Self::bind`] would refuse, without keeping a port, and returns notes on ports in use: those of a
    /// running switch are no fault of its file.
    ///
    /// # Errors
    ///
    /// One sentence, as from [`Self::bind`].
    pub fn check(config: &Config) -> Result<Vec<String>, ConfigError> {
        tls::check(config)?;
        rtp::music::of(config)?;
        udp::check(config)
    }

    /// Returns the open listeners in the order of the configuration. Printed after `ready` they are the line that
    /// `tandem serve` owes.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Returns the listener whose address suits messages to `remote`: of its family, and loopback for loopback.
    #[must_use]
    pub fn local_for(&self, transport: Transport, remote: IpAddr) -> Option<SocketAddr> {
        let suits = |l: &&Listener| l.place == Place::Sip && l.transport == transport && l.address.is_ipv4() == remote.is_ipv4();
        let all = || self.listeners.iter().filter(suits);
        let near = all().find(|l| l.address.ip().is_loopback() == remote.is_loopback());
        near.or_else(|| all().next()).map(|l| l.address)
    }

    /// Waits for the next event. Nothing is lost where the future is dropped. After a full batch the other tasks of the
    /// runtime get their turn first.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the next event of the batch that [`Self::next`] began, without waiting and without a system call.
    pub fn try_next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Returns true if a look at the sockets has found nothing to do since this was asked last: the loop keeps up with them.
    pub fn has_rested(&mut self) -> bool {
        std::mem::replace(&mut self.rested, false)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(event);
            }
            if std::mem::replace(&mut self.turn, Turn::Idle) == Turn::Busy {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.turn = self.udp.poll_turn(cx, &mut self.ready);
            let streams = [self.poll_reports(cx), self.poll_accept(cx)];
            if streams.contains(&Turn::Busy) {
                self.turn = Turn::Busy;
            }
            if self.ready.is_empty() && self.turn == Turn::Idle {
                self.rested = true;
                return Poll::Pending;
            }
        }
    }

    fn poll_reports(&mut self, cx: &mut Context<'_>) -> Turn {
        for _ in 0..REPORTS_A_TURN {
            match self.reports.poll_recv(cx) {
                Poll::Ready(Some(report)) => self.ready.extend(self.connections.handle_report(report)),
                Poll::Ready(None) | Poll::Pending => return Turn::Idle,
            }
        }
        Turn::Busy
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Turn {
        let (connections, ready, tls) = (&mut self.connections, &mut self.ready, &self.tls);
        self.acceptors.poll_turn(cx, |accepted| match accepted {
            tcp::Accepted::Socket(socket, remote, acceptor) => {
                ready.extend(connections.accept(socket, remote, acceptor, tls));
            }
            tcp::Accepted::Exhausted => ready.extend((0..EVICTIONS).filter_map(|_| connections.evict())),
        })
    }

    /// Sends a message on a flow; never waits. A UDP datagram that does not fit into the socket's buffer is lost, as the
    /// network may lose it. A stream's queue is bounded; beyond the bound the connection closes.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the message will not arrive by this flow.
    pub fn send(&mut self, flow: &Flow, bytes: Bytes) -> Result<(), SendError> {
        match flow.connection {
            None => self.udp.send(flow, &bytes),
            Some(id) => {
                let (result, event) = self.connections.send(id, bytes);
                self.ready.extend(event);
                result
            }
        }
    }

    /// Begins a TCP or TLS connection and returns its flow at once; what is sent on it waits until it is up. Ends in
    /// [`Event::Opened`] or [`Event::Closed`]. `server_name` is what the certificate must name, else the address. The
    /// flow's `local` is the listener that Via and Contact should name.
    pub fn connect(&mut self, transport: Transport, local: Option<IpAddr>, remote: SocketAddr, server_name: Option<&str>) -> Flow {
        let local = self.listener_at(transport, local).or_else(|| self.local_for(transport, remote.ip()));
        let local = local.unwrap_or_else(|| match remote {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        });
        let (flow, event) = self.connections.connect(transport, local, remote, server_name, &self.tls);
        self.ready.extend(event);
        flow
    }

    fn listener_at(&self, transport: Transport, ip: Option<IpAddr>) -> Option<SocketAddr> {
        let at = |l: &&Listener| l.transport == transport && Some(l.address.ip()) == ip;
        self.listeners.iter().find(at).map(|l| l.address)
    }

    /// Closes a connection once what was sent on it is written.
    pub fn close(&mut self, flow: &Flow) {
        if let Some(id) = flow.connection {
            self.connections.close(id);
        }
    }

    /// Says that a registration, a call or a trunk uses the connection: from now on it is not closed to make room, and
    /// where it is silent for `limits.idle` the loop is asked ([`Event::Silent`]). Connections of our own begin so.
    pub fn keep(&mut self, flow: &Flow) {
        if let Some(id) = flow.connection {
            self.connections.keep(id);
        }
    }

    /// Takes back what [`Self::keep`] said: nobody uses the connection any more. Silence ends it.
    pub fn release(&mut self, flow: &Flow) {
        if let Some(id) = flow.connection {
            self.connections.release(id);
        }
    }
}
