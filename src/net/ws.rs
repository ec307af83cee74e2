//! SIP over WebSocket (RFC 6455, RFC 7118): the handshake with its checks, then one message a frame.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use sip::framing::{PING, PONG};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::connection::{Task, Watch, What};
use super::error::CloseReason;
use super::tcp::lost;
use super::{Listener, Place};
use crate::clock;
use crate::config::{Config, Origin};

/// Longest request of a handshake; a longer one is refused with 431.
const REQUEST: usize = 8192;
/// Headers of a handshake; more are refused with 431.
const HEADERS: usize = 64;
/// Longest frame and message; a longer one ends the connection.
const MESSAGE: usize = 64 * 1024;
/// How often a connection with nothing to say gets a ping, which keeps NATs and proxies open.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a peer may refuse to read while we write one message.
const STALL: Duration = Duration::from_secs(20);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// The origins of web pages that may come in; a client without an origin is no web page.
pub(super) type Origins = Arc<[Origin]>;

/// Returns the origins of the configuration and our own: our web listeners, by domain and by address.
pub(super) fn origins(config: &Config, listeners: &[Listener]) -> Vec<Origin> {
    let web = listeners.iter().filter(|l| l.transport.is_websocket());
    let own = web.flat_map(|listener| {
        let scheme = if listener.transport.is_secure() { "https" } else { "http" };
        let (ip, port) = (listener.address.ip(), listener.address.port());
        let ip = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        let local = (listener.address.ip().is_loopback() && listener.place == Place::Http).then_some("localhost");
        let names = [Some(ip.as_str()), Some(config.domain.as_str()), local];
        names.into_iter().flatten().filter_map(|name| Origin::of(scheme, name, port)).collect::<Vec<_>>()
    });
    config.sip.origins.iter().cloned().chain(own).collect()
}

/// Does the server's handshake. A refused one gets its HTTP response.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    origins: &[Origin],
) -> Result<WebSocketStream<S>, CloseReason> {
    let mut request = BytesMut::new();
    let (head, answer) = loop {
        match stream.read_buf(&mut request).await {
            Ok(0) => return Err(CloseReason::Peer),
            Ok(_) => {}
            Err(error) => return Err(lost(&error)),
        }
        match answer(&request, origins) {
            Ok(Some((head, key))) => break (head, Ok(accepted(&key))),
            Ok(None) if request.len() <= REQUEST => {}
            Ok(None) => break (0, Err("431 Request Header Fields Too Large")),
            Err(status) => break (0, Err(status)),
        }
    };
    let text = match &answer {
        Ok(text) => text.clone(),
        Err(status) => refused(status),
    };
    let written = async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    };
    written.await.map_err(|error| lost(&error))?;
    if let Err(status) = answer {
        let _ = stream.shutdown().await; // the peer may be gone already
        return Err(CloseReason::Handshake(format!("answered {status}")));
    }
    let rest = request.split_off(head.min(request.len())).to_vec();
    Ok(WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config())).await)
}

/// Returns the bounds of a connection.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0).max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE))
}

/// Reads a request: none while it is incomplete, its length and key where it is accepted, else the status that refuses it.
fn answer(request: &[u8], origins: &[Origin]) -> Result<Option<(usize, String)>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(request) {
        Ok(httparse::Status::Complete(head)) if head <= REQUEST => head,
        Ok(httparse::Status::Complete(_)) => return Err("431 Request Header Fields Too Large"),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("431 Request Header Fields Too Large"),
        Err(_) => return Err("400 Bad Request"),
    };
    let headers = Headers(parsed.headers);
    if parsed.method != Some("GET") || !headers.has("connection", "upgrade") || !headers.has("upgrade", "websocket") {
        return Err("426 Upgrade Required");
    }
    if headers.one("sec-websocket-version")? != Some("13") {
        return Err("426 Upgrade Required");
    }
    if let Some(origin) = headers.one("origin")? {
        let origin = Origin::parse(origin).ok_or("403 Forbidden")?;
        if !origins.iter().any(|allowed| allowed.covers(&origin)) {
            return Err("403 Forbidden");
        }
    }
    // RFC 7118 §4: the subprotocol is required, and spelled so
    if !headers.tokens("sec-websocket-protocol").any(|token| token == b"sip") {
        return Err("400 Bad Request");
    }
    let key = headers.one("sec-websocket-key")?.filter(|key| key.len() == 24).ok_or("400 Bad Request")?;
    Ok(Some((head, key.to_owned())))
}

/// The headers of a request.
struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }

    /// Returns the members of comma-separated lists.
    fn tokens(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(|value| value.split(|b| *b == b',')).map(<[u8]>::trim_ascii)
    }

    /// Returns true where a list has the token, in any case.
    fn has(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Returns the value of a header that may be there once.
    fn one(&self, name: &str) -> Result<Option<&'a str>, &'static str> {
        let mut values = self.all(name);
        let value = values.next().map(str::from_utf8).transpose().map_err(|_| "400 Bad Request")?;
        if values.next().is_some() { Err("400 Bad Request") } else { Ok(value) }
    }
}

fn accepted(key: &str) -> String {
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )
}

fn refused(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Carries messages both ways until one side ends the connection.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    task: &Task,
    queue: mpsc::Receiver<Bytes>,
    stream: WebSocketStream<S>,
    watch: Watch,
) -> CloseReason {
    task.report(What::Opened).await;
    let (mut sink, stream) = stream.split();
    let (reason, code) = {
        let (write, read) = (pin!(write(task, &mut sink, queue)), pin!(read(task, stream, watch)));
        tokio::select! { biased; reason = write => (reason, None), end = read => end }
    };
    let code = code.unwrap_or(if reason == CloseReason::Local { CloseCode::Normal } else { CloseCode::Policy });
    let farewell = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }));
    let _ = timeout(FAREWELL, sink.send(farewell)).await; // the peer may be gone already
    reason
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    task: &Task,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    mut queue: mpsc::Receiver<Bytes>,
) -> CloseReason {
    loop {
        let (length, message) = match timeout(PING_INTERVAL, queue.recv()).await {
            Ok(Some(bytes)) => (bytes.len(), message(bytes)),
            Ok(None) => return CloseReason::Local,
            Err(_) => (0, Message::Ping(Bytes::new())),
        };
        match timeout(STALL, sink.send(message)).await {
            Ok(Ok(())) => task.written(length),
            Ok(Err(error)) => {
                sleep(FAREWELL).await; // the reader mostly knows better why
                return CloseReason::Lost(error.to_string());
            }
            Err(_) => return CloseReason::Overflow,
        }
    }
}

/// RFC 7118 §4.2: a text frame where the message is UTF-8, else a binary one.
fn message(bytes: Bytes) -> Message {
    match Utf8Bytes::try_from(bytes.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(bytes),
    }
}

/// Returns what to tell a peer whose frames cannot be read (RFC 6455 §7.4.1).
#[expect(clippy::wildcard_enum_match_arm, reason = "every other error is one of the protocol")]
fn code(error: &Error) -> CloseCode {
    match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    task: &Task,
    mut stream: SplitStream<WebSocketStream<S>>,
    mut watch: Watch,
) -> (CloseReason, Option<CloseCode>) {
    loop {
        let bytes = match timeout_at(watch.deadline().into(), stream.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => Bytes::from(text),
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => continue,
            Ok(None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed))) => {
                return (CloseReason::Peer, None);
            }
            Ok(Some(Err(Error::Io(error)))) => return (lost(&error), None),
            Ok(Some(Err(error))) => return (CloseReason::Malformed(error.to_string()), Some(code(&error))),
            Err(_) => match task.overdue(&mut watch).await {
                Some(reason) => return (reason, None),
                None => continue,
            },
        };
        let now = clock::now();
        if bytes == PING {
            task.answer(Bytes::from_static(PONG));
            task.report(What::KeepAlive(now)).await;
        } else if !bytes.trim_ascii().is_empty() {
            watch.message(now);
            task.report(What::Message(bytes, now)).await;
        }
    }
}
