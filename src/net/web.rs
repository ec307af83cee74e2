//! Connections of the web's listeners, on loan to whoever speaks HTTP: accepted, counted and closed here like every other one, read and
//! written there. What turns out to be SIP over WebSocket comes back and goes on here. It knows no HTTP.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::connection::{Door, Task, watch};
use super::error::CloseReason;
use super::ws;

/// Connections that were accepted and wait for whoever speaks HTTP; beyond it they wait here, and count as half open.
pub(super) const GUESTS: usize = 256;

/// A byte stream, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that speaks HTTP.
pub struct Guest {
    /// Its socket, which belongs to no runtime now.
    pub socket: std::net::TcpStream,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// What TLS needs; none: it is plain.
    pub tls: Option<Arc<ServerConfig>>,
    /// How long a handshake, or a request's head, may take.
    pub half_open: Duration,
    /// What binds it to its place in the table of connections.
    pub bond: Bond,
    /// Tells when it has lost that place.
    pub broken: Broken,
}

/// What binds a guest to its place in the table. The place is given up when this is dropped.
pub struct Bond {
    back: oneshot::Sender<Pin<Box<dyn Stream>>>,
    door: Door,
}

/// Tells when a guest has lost its place.
pub struct Broken(oneshot::Receiver<()>);

impl Broken {
    /// Waits until the connection has to end: it lost its place to another one.
    pub async fn wait(&mut self) {
        // the other side never sends: it goes
        let _gone = (&mut self.0).await;
    }
}

impl Bond {
    /// Returns a handle that keeps the place for a guest who has signed in.
    #[must_use]
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Gives back a connection whose WebSocket handshake for SIP is done (RFC 7118).
    pub fn go_back(self, stream: Pin<Box<dyn Stream>>) {
        let _too_late = self.back.send(stream);
    }
}

/// Lends a connection, and carries SIP messages once it comes back as a WebSocket.
pub(super) async fn serve(
    task: Arc<Task>,
    queue: mpsc::Receiver<Bytes>,
    socket: TcpStream,
    remote: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    guests: mpsc::Sender<Guest>,
) -> CloseReason {
    let socket = match socket.into_std() {
        Ok(socket) => socket,
        Err(error) => return CloseReason::Lost(error.to_string()),
    };
    let (back, returned) = oneshot::channel();
    let (_here, gone) = oneshot::channel();
    let (bond, broken) = (Bond { back, door: task.door() }, Broken(gone));
    let guest = Guest { socket, remote, tls, half_open: task.limits.half_open, bond, broken };
    if guests.send(guest).await.is_err() {
        return CloseReason::Local;
    }
    let Ok(stream) = returned.await else { return CloseReason::Peer };
    let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(ws::config())).await;
    ws::run(&task, queue, stream, watch(&task, true)).await
}
