//! TCP, and the byte streams of TLS and WebSocket on top of it: listening, accepting, connecting, and one task a connection.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use sip::framing::{Frame, Framing, FramingError, PONG};
use sip::transport::Transport;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::connection::{Task, Watch, What, watch};
use super::error::CloseReason;
use super::tls::{Client, Server};
use super::udp::refused;
use super::ws::{self, Origins};
use super::{Listener, Place, Turn};
use crate::clock;
use crate::config::{Config, ConfigError};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Connections that one turn of the loop accepts from one listener.
const ACCEPTS_A_TURN: usize = 16;
/// How long accepting rests after the process ran out of file descriptors or memory.
const REST: Duration = Duration::from_millis(500);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a peer may refuse to read while we write one message.
const STALL: Duration = Duration::from_secs(20);
/// How long a malformed stream stays open for the answer.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read at once, on the stack: an idle connection holds no buffer.
const CHUNK: usize = 8192;

/// A stream listener.
pub(super) struct Acceptor {
    io: TcpListener,
    pub(super) listener: Listener,
    /// Whose pages may open a WebSocket; none for TCP and TLS.
    pub(super) origins: Option<Origins>,
}

/// The stream listeners.
pub(super) struct Acceptors {
    acceptors: Vec<Acceptor>,
    rest: Option<Pin<Box<Sleep>>>,
}

/// What accepting brought.
pub(super) enum Accepted<'a> {
    /// A connection.
    Socket(TcpStream, SocketAddr, &'a Acceptor),
    /// No file descriptor or memory for one.
    Exhausted,
}

impl Acceptors {
    pub(super) fn bind(config: &Config, listeners: &mut Vec<Listener>) -> Result<Self, ConfigError> {
        let (sip, http) = (&config.sip, &config.http);
        let web = if http.plain { Transport::Ws } else { Transport::Wss };
        let lists = [
            ("sip.tcp", &sip.tcp, Transport::Tcp, Place::Sip),
            ("sip.tls", &sip.tls, Transport::Tls, Place::Sip),
            ("sip.ws", &sip.ws, Transport::Ws, Place::Sip),
            ("sip.wss", &sip.wss, Transport::Wss, Place::Sip),
            ("http.listen", &http.listen, web, Place::Http),
        ];
        let mut acceptors = Vec::new();
        for (list, addresses, transport, place) in lists {
            for (index, address) in addresses.iter().enumerate() {
                let opened = listen(*address);
                let (address, io) = opened.map_err(|error| refused(config, &format!("{list}[{index}]"), *address, &error))?;
                let listener = Listener { transport, address, place };
                listeners.push(listener);
                acceptors.push(Acceptor { io, listener, origins: None });
            }
        }
        let origins: Arc<[_]> = ws::origins(config, listeners).into();
        for acceptor in &mut acceptors {
            let listener = acceptor.listener;
            acceptor.origins = listener.transport.is_websocket().then(|| origins.clone());
        }
        Ok(Self { acceptors, rest: None })
    }

    /// Accepts what waits. Errors of one connection pass; where the process has no room, accepting rests.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>, mut accepted: impl FnMut(Accepted<'_>)) -> Turn {
        if let Some(rest) = &mut self.rest {
            if rest.as_mut().poll(cx).is_pending() {
                return Turn::Idle;
            }
            self.rest = None;
        }
        let mut turn = Turn::Idle;
        for acceptor in &self.acceptors {
            for n in 1.. {
                match acceptor.io.poll_accept(cx) {
                    Poll::Ready(Ok((socket, remote))) => accepted(Accepted::Socket(socket, remote, acceptor)),
                    Poll::Ready(Err(error)) if is_exhausted(&error) => {
                        tracing::warn!(listener = %acceptor.listener, %error, "no connection can be accepted");
                        accepted(Accepted::Exhausted);
                        let mut rest = Box::pin(sleep(REST));
                        let _ = rest.as_mut().poll(cx);
                        self.rest = Some(rest);
                        return turn;
                    }
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(listener = %acceptor.listener, %error, "a connection was lost before it was accepted");
                    }
                    Poll::Pending => break,
                }
                if n == ACCEPTS_A_TURN {
                    turn = Turn::Busy;
                    break;
                }
            }
        }
        turn
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|raw| exhausted.contains(&Errno::from_raw(raw)))
}

fn listen(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // connections of a process that just ended must not keep the next one from listening
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    Ok((listener.local_addr()?, listener))
}

/// Sends small messages at once, and finds peers that vanished.
pub(super) fn tune(socket: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20)).with_retries(3);
    let reference = SockRef::from(socket);
    let tuned = reference
        .set_tcp_nodelay(true)
        .and_then(|()| reference.set_tcp_keepalive(&keepalive))
        .and_then(|()| reference.set_tcp_user_timeout(Some(Duration::from_secs(60))));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a socket option was refused"); // the connection works without
    }
}

/// Serves an incoming connection from its handshakes to its end.
pub(super) async fn serve(
    task: Arc<Task>,
    queue: mpsc::Receiver<Bytes>,
    socket: TcpStream,
    server: Option<Server>,
    origins: Option<Origins>,
) -> CloseReason {
    tune(&socket);
    let until = Instant::now() + task.limits.half_open;
    let Some(server) = server else {
        return serve_plain(&task, queue, socket, origins, until).await;
    };
    match timeout_at(until, TlsAcceptor::from(server).accept(socket)).await {
        Ok(Ok(stream)) => serve_plain(&task, queue, stream, origins, until).await,
        Ok(Err(error)) => CloseReason::Handshake(error.to_string()),
        Err(_) => CloseReason::HalfOpen,
    }
}

async fn serve_plain<S: AsyncRead + AsyncWrite + Unpin>(
    task: &Task,
    queue: mpsc::Receiver<Bytes>,
    stream: S,
    origins: Option<Origins>,
    until: Instant,
) -> CloseReason {
    let Some(origins) = origins else {
        return run(task, queue, stream, watch(task, true)).await;
    };
    match timeout_at(until, ws::accept(stream, &origins)).await {
        Ok(Ok(stream)) => ws::run(task, queue, stream, watch(task, true)).await,
        Ok(Err(reason)) => reason,
        Err(_) => CloseReason::HalfOpen,
    }
}

/// Opens a connection and serves it to its end.
pub(super) async fn connect(
    task: Arc<Task>,
    queue: mpsc::Receiver<Bytes>,
    transport: Transport,
    local: IpAddr,
    remote: SocketAddr,
    client: Result<Option<Client>, CloseReason>,
) -> CloseReason {
    if transport != Transport::Tcp && transport != Transport::Tls {
        return CloseReason::Connect(format!("{transport} connections come in only"));
    }
    let client = match client {
        Ok(client) => client,
        Err(reason) => return reason,
    };
    let socket = match timeout(CONNECT, open(local, remote)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return CloseReason::Connect(error.to_string()),
        Err(_) => return CloseReason::Connect("no answer".to_owned()),
    };
    tune(&socket);
    let Some((connector, name)) = client else {
        return run(&task, queue, socket, watch(&task, false)).await;
    };
    match timeout(CONNECT, connector.connect(name, socket)).await {
        Ok(Ok(stream)) => run(&task, queue, stream, watch(&task, false)).await,
        Ok(Err(error)) => CloseReason::Handshake(error.to_string()),
        Err(_) => CloseReason::Handshake("no answer".to_owned()),
    }
}

/// The peer sees the address that we listen on, by which it may know us.
async fn open(local: IpAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !local.is_unspecified() {
        socket.bind((local, 0).into())?;
    }
    socket.connect(remote).await
}

/// Carries messages both ways until one side ends the stream.
async fn run<S: AsyncRead + AsyncWrite + Unpin>(task: &Task, queue: mpsc::Receiver<Bytes>, stream: S, watch: Watch) -> CloseReason {
    task.report(What::Opened).await;
    let (reader, writer) = tokio::io::split(stream);
    let (write, read) = (pin!(write(task, writer, queue)), pin!(read(task, reader, watch)));
    tokio::select! { biased; reason = write => reason, reason = read => reason }
}

/// Writes what is queued; the end of the queue is our wish to close.
async fn write<W: AsyncWrite + Unpin>(task: &Task, mut writer: W, mut queue: mpsc::Receiver<Bytes>) -> CloseReason {
    while let Some(bytes) = queue.recv().await {
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match timeout(STALL, written).await {
            Ok(Ok(())) => task.written(bytes.len()),
            Ok(Err(error)) => return lost(&error),
            Err(_) => return CloseReason::Overflow,
        }
    }
    let _ = timeout(LINGER, writer.shutdown()).await; // the peer may be gone already
    CloseReason::Local
}

/// Reads messages and tells the table.
async fn read<R: AsyncRead + Unpin>(task: &Task, mut reader: R, mut watch: Watch) -> CloseReason {
    let mut framing = Framing::default();
    loop {
        match timeout_at(watch.deadline().into(), read_chunk(&mut reader, &mut framing)).await {
            Ok(Ok(0)) => return CloseReason::Peer,
            Ok(Ok(_)) => {
                if let Err(error) = report_frames(task, &mut framing, &mut watch).await {
                    let reason = CloseReason::Malformed(error.to_string());
                    task.report(What::Malformed(error)).await;
                    sleep(LINGER).await; // for the answer
                    return reason;
                }
            }
            Ok(Err(error)) => return lost(&error),
            Err(_) => {
                if let Some(reason) = task.overdue(&mut watch).await {
                    return reason;
                }
            }
        }
    }
}

/// Reads what is there through the stack into the framing.
async fn read_chunk<R: AsyncRead + Unpin>(reader: &mut R, framing: &mut Framing) -> io::Result<usize> {
    std::future::poll_fn(|cx| {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut *reader).poll_read(cx, &mut chunk))?;
        framing.handle_input(chunk.filled());
        Poll::Ready(Ok(chunk.filled().len()))
    })
    .await
}

async fn report_frames(task: &Task, framing: &mut Framing, watch: &mut Watch) -> Result<(), FramingError> {
    let now = clock::now();
    while let Some(frame) = framing.poll_output() {
        match frame? {
            Frame::Message(bytes) => {
                watch.message(now);
                task.report(What::Message(bytes, now)).await;
            }
            Frame::Ping => {
                task.answer(Bytes::from_static(PONG));
                task.report(What::KeepAlive(now)).await;
            }
            Frame::Pong => {}
        }
    }
    watch.bytes(now, framing.is_partial());
    Ok(())
}

pub(super) fn lost(error: &io::Error) -> CloseReason {
    // what a peer does that closes TCP without TLS's own farewell
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return CloseReason::Peer;
    }
    CloseReason::Lost(error.to_string())
}
