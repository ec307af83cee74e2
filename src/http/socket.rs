//! WebSockets (RFC 6455): the handshake with its checks, CAS on one at `/cas/events`, and SIP (RFC 7118) at `/sip`, which goes back to
//! `net` once it is open.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use cas::Token;
use cas::error::{Error, Fault};
use cas::message::{Encoding, MAX_MESSAGE};
use cas::server::MAX_SIGN_IN;
use futures_util::{SinkExt as _, StreamExt as _, poll};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::debug;

use super::cas::{Parameters, refused, token};
use super::connection::Connection;
use super::{Web, cors};
use crate::clients::{Handle, Stream, ToStream};

/// How long a connection that says nothing is believed; then a ping asks, and after as long again it is closed.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a peer may refuse to read before its stream ends; its login and its events stay.
const STALL: Duration = Duration::from_secs(30);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Subprotocols of CAS, by encoding; the default is JSON without any.
const PROTOCOLS: [(&str, Encoding); 2] = [("cas", Encoding::Json), ("cas-xml", Encoding::Xml)];
/// What the subprotocol with a token begins with: the one place where a page can show one.
const TOKEN: &str = "token.";

/// Returns whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    has(headers, &UPGRADE, "websocket")
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

fn has(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// Checks a handshake, and returns the accepted key.
fn accepted(web: &Web, request: &Request) -> Result<String, StatusCode> {
    let headers = request.headers();
    let asks = request.method() == Method::GET && request.version() == Version::HTTP_11;
    if !asks || !is_upgrade(headers) || !has(headers, &CONNECTION, "upgrade") {
        return Err(StatusCode::UPGRADE_REQUIRED);
    }
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    if one(&SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(StatusCode::UPGRADE_REQUIRED);
    }
    if !cors::may_open(&web.origins, headers) {
        return Err(StatusCode::FORBIDDEN);
    }
    let key = one(&SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24).ok_or(StatusCode::BAD_REQUEST)?;
    Ok(derive_accept_key(key.as_bytes()))
}

fn switching(key: &str, protocol: Option<&'static str>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    }
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

fn refuse(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// Serves `/sip`.
pub(super) async fn sip(State(web): State<Web>, Extension(connection): Extension<Connection>, mut request: Request) -> Response {
    let key = match accepted(&web, &request) {
        Ok(key) => key,
        Err(status) => return refuse(status),
    };
    // RFC 7118 §4: the subprotocol is required, and spelled so
    if !tokens(request.headers(), &SEC_WEBSOCKET_PROTOCOL).any(|protocol| protocol == "sip") {
        return refuse(StatusCode::BAD_REQUEST);
    }
    let Some(bond) = connection.take_bond() else { return refuse(StatusCode::NOT_FOUND) };
    let upgrade = hyper::upgrade::on(&mut request);
    spawn(async move {
        match upgrade.await {
            Ok(upgraded) => bond.go_back(Box::pin(TokioIo::new(upgraded))),
            Err(error) => debug!(%error, "a WebSocket was lost in its handshake"),
        }
    });
    switching(&key, Some("sip"))
}

/// Serves `/cas/events` as a WebSocket.
pub(super) fn cas(web: &Web, connection: &Connection, request: &mut Request) -> Response {
    let key = match accepted(web, request) {
        Ok(key) => key,
        Err(status) => return refuse(status),
    };
    let headers = request.headers();
    let protocol = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).find_map(|asked| PROTOCOLS.into_iter().find(|(name, _)| *name == asked));
    let shown = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).find_map(|asked| asked.strip_prefix(TOKEN)).map(Token::shown);
    let opening = token(headers).and_then(|token| Ok((token.or(shown), Parameters::read(request.uri().query())?.after)));
    let (token, after) = match opening {
        Ok(opening) => opening,
        Err(error) => return refused(&error),
    };
    let (upgrade, clients, connection) = (hyper::upgrade::on(&mut *request), web.clients.clone(), connection.clone());
    let encoding = protocol.map_or(Encoding::Json, |(_, encoding)| encoding);
    spawn(async move {
        if let Err(error) = run(upgrade, &clients, &connection, token, after, encoding).await {
            debug!(%error, "a WebSocket ended");
        }
    });
    switching(&key, protocol.map(|(name, _)| name))
}

/// The upgrade of a connection is finished by hyper after the response: it cannot be waited for within.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "the one task of each WebSocket starts here")]
    tokio::spawn(task);
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why a WebSocket ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("handshake: {0}")]
    Handshake(#[from] hyper::Error),
    #[error(transparent)]
    Stopped(#[from] crate::clients::Stopped),
    #[error(transparent)]
    Socket(#[from] tokio_tungstenite::tungstenite::Error),
    #[error("the peer went silent")]
    Silent,
    #[error("the peer does not read")]
    Stalled,
}

async fn run(
    upgrade: OnUpgrade,
    clients: &Handle,
    connection: &Connection,
    token: Option<Token>,
    after: Option<u64>,
    encoding: Encoding,
) -> Result<(), Ended> {
    // a buffer is cleared for each look at the socket, after each event; short events of one batch go in one write
    let mut config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(4096).max_write_buffer_size(usize::MAX);
    config = config.max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let upgraded = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
    let mut stream = clients.open(connection.peer, token, after, encoding).await?;
    let mut buffer = BytesMut::new();
    let mut heard = Instant::now();
    let (mut is_asked, mut is_open) = (false, false);
    let silence = sleep_until(heard + SILENCE);
    tokio::pin!(silence);
    loop {
        tokio::select! {
            biased;
            out = stream.next() => match out {
                None => return farewell(socket, CloseCode::Away, "the switch is stopping").await,
                Some(ToStream::Close(why)) => return farewell(socket, code(why.fault), &why.detail).await,
                Some(ToStream::Opened) => {
                    connection.signed_in();
                    is_open = true;
                }
                Some(out) => {
                    if let Some(why) = write(&mut socket, &mut stream, &mut buffer, out).await? {
                        return farewell(socket, code(why.fault), &why.detail).await;
                    }
                    stream.tell_written().await?;
                }
            },
            message = socket.next() => match message {
                Some(message) => {
                    (heard, is_asked) = (Instant::now(), false);
                    let message = match message {
                        Ok(message) => message,
                        Err(error) => return broken(socket, error).await,
                    };
                    match message {
                        Message::Text(text) if is_open || text.len() <= MAX_SIGN_IN => stream.said(text.into()).await?,
                        Message::Binary(bytes) if is_open || bytes.len() <= MAX_SIGN_IN => stream.said(bytes).await?,
                        Message::Text(_) | Message::Binary(_) => return farewell(socket, CloseCode::Size, "a login comes first").await,
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                        Message::Close(_) => {
                            let _gone = timeout(FAREWELL, socket.flush()).await; // the answer to it is written by this
                            return Ok(());
                        }
                    }
                }
                None => return Ok(()),
            },
            () = &mut silence => {
                let now = Instant::now();
                if now >= heard + SILENCE {
                    if is_asked {
                        return Err(Ended::Silent);
                    }
                    (heard, is_asked) = (now, true);
                    timed(socket.send(Message::Ping(Bytes::new()))).await?;
                }
                // something was heard since the last look
                silence.as_mut().reset(heard + SILENCE);
            }
        }
    }
}

/// Writes what is there for the peer, all that waits in one go; returns why the stream closes if that is among it.
async fn write(socket: &mut Socket, stream: &mut Stream, buffer: &mut BytesMut, first: ToStream) -> Result<Option<Error>, Ended> {
    let mut next = Some(first);
    while let Some(out) = next {
        match out {
            ToStream::Opened => {}
            ToStream::Close(why) => return Ok(Some(why)),
            ToStream::Reply(reply) => timed(socket.feed(text(reply.body))).await?,
            ToStream::Forward(body) => timed(socket.feed(text(body))).await?,
            ToStream::Events(frames) => {
                for frame in &frames {
                    buffer.reserve(frame.len());
                    frame.write(stream.encoding(), buffer);
                    timed(socket.feed(text(buffer.split().freeze()))).await?;
                    stream.wrote(frame);
                }
            }
        }
        next = stream.ready();
    }
    timed(socket.flush()).await?;
    Ok(None)
}

async fn timed(write: impl Future<Output = Result<(), tokio_tungstenite::tungstenite::Error>>) -> Result<(), Ended> {
    let mut write = pin!(write);
    // mostly the socket has room, and no clock is needed
    match poll!(write.as_mut()) {
        Poll::Ready(written) => Ok(written?),
        Poll::Pending => Ok(timeout(STALL, write).await.map_err(|_| Ended::Stalled)??),
    }
}

/// Both encodings are UTF-8, and what is ours need not be looked at for that.
fn text(body: Bytes) -> Message {
    Message::Frame(Frame::message(body, OpCode::Data(Data::Text), true))
}

fn code(fault: Fault) -> CloseCode {
    CloseCode::Library(4000 + fault.response())
}

/// Ends a WebSocket whose peer sent what cannot be read, and tells it why (RFC 6455 §7.4.1).
async fn broken(mut socket: Socket, error: tungstenite::Error) -> Result<(), Ended> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "after any other error nothing can be written")]
    let (code, reason) = match &error {
        tungstenite::Error::Capacity(_) => (CloseCode::Size, format!("a message has at most {MAX_MESSAGE} bytes")),
        tungstenite::Error::Utf8(_) => (CloseCode::Invalid, "a text is UTF-8".to_owned()),
        tungstenite::Error::Protocol(violation) => (CloseCode::Protocol, violation.to_string()),
        _ => return Err(error.into()),
    };
    say_farewell(&mut socket, code, &reason).await;
    // a socket that is closed with bytes unread is reset, and the farewell would be lost
    let mut rest = [0; 4096];
    let read_rest = async { while socket.get_mut().read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    let _gone = timeout(FAREWELL, read_rest).await;
    Err(error.into())
}

async fn farewell(mut socket: Socket, code: CloseCode, reason: &str) -> Result<(), Ended> {
    say_farewell(&mut socket, code, reason).await;
    Ok(())
}

async fn say_farewell(socket: &mut Socket, code: CloseCode, reason: &str) {
    // a close frame has room for 123 bytes
    let cut = reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 123).last().unwrap_or(0);
    let reason = reason.get(..cut).unwrap_or_default().to_owned().into();
    let _gone = timeout(FAREWELL, socket.close(Some(CloseFrame { code, reason }))).await; // the peer may be gone already
}
