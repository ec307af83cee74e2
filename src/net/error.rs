//! What can go wrong with sockets, and whose fault it is.

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;

/// Why the listeners could not be opened; one sentence.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BindError(#[from] ConfigError);

/// Why a message will not arrive by this flow.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Ours: no UDP listener has the flow's local address.
    #[error("no listener has the address {0}")]
    NoListener(SocketAddr),
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
    /// The peer does not read; the connection closes.
    #[error("the peer does not read: its queue is full")]
    Overflow,
    /// The network refuses the datagram.
    #[error("the datagram cannot be sent: {0}")]
    Network(#[source] io::Error),
}

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Peer,
    /// The loop closed it.
    #[error("closed by us")]
    Local,
    /// The network lost it.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// It did not come up.
    #[error("no connection: {0}")]
    Connect(String),
    /// The TLS or WebSocket handshake failed.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// It carried something that is no SIP, or a message beyond the limits.
    #[error("what came is no SIP message: {0}")]
    Malformed(String),
    /// A handshake, a first message or the rest of a message did not come in time.
    #[error("half open for too long")]
    HalfOpen,
    /// It was silent, and no registration, call or trunk used it.
    #[error("silent for too long, and of no use")]
    Idle,
    /// The peer does not read what we send.
    #[error("the peer does not read")]
    Overflow,
    /// It made room for another one, as the oldest without a login.
    #[error("closed to make room")]
    Evicted,
    /// Our fault: its task panicked.
    #[error("internal error")]
    Panicked,
}
