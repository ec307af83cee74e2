//! One connection: its TLS, its HTTP, and what it may cost. Heads, handshakes and silence between requests are timed by hyper; how many
//! connections one address may have is `net`'s affair.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse as _, Response};
use cas::server::{Peer, Wire};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;
use tracing::debug;

use crate::net::web::{Bond, Guest, Stream};
use crate::pii::Pii;

/// Longest head of a request.
const HEAD: usize = 16 * 1024;
/// Headers of a request; more are refused.
const HEADERS: usize = 100;
/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 64;
/// How long a peer of HTTP/2 may leave a ping unanswered.
const PING: Duration = Duration::from_secs(20);
/// How long a local client may take for a request's head, and for its body.
const LOCAL: Duration = Duration::from_secs(20);

/// The connection of a request.
#[derive(Clone)]
pub(super) struct Connection {
    /// Who is at the other end.
    pub(super) peer: Peer,
    /// How long the head or the body of a request may take.
    pub(super) patience: Duration,
    /// Said when a request took too long to arrive.
    late: Arc<Notify>,
    /// Whether it was said that somebody has signed in.
    is_known: Arc<AtomicBool>,
    /// Its place in the table of connections, until it goes back as SIP; none for local ones.
    bond: Option<Arc<Mutex<Option<Bond>>>>,
}

impl Connection {
    /// Says that whoever is there has signed in.
    pub(super) fn signed_in(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed)
            && let Some(bond) = &self.bond
            && let Some(bond) = &*bond.lock().unwrap_or_else(PoisonError::into_inner)
        {
            bond.door().signed_in();
        }
    }

    /// Says that a request took too long to arrive: the connection of a stranger ends when its answers are written. Who has signed in may
    /// have other streams on it.
    pub(super) fn dawdles(&self) {
        if !self.is_known.load(Ordering::Relaxed) {
            self.late.notify_one();
        }
    }

    /// Takes the connection's place along: it goes back as SIP.
    pub(super) fn take_bond(&self) -> Option<Bond> {
        self.bond.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Serves a connection of the web's listeners to its end.
pub(super) async fn serve_guest(router: Router, guest: Guest) {
    let Guest { socket, remote, tls, half_open, bond, mut broken } = guest;
    let wire = if tls.is_some() { Wire::Encrypted } else { Wire::Clear };
    let peer = Peer::Network { address: remote.ip(), wire };
    let bond = Some(Arc::new(Mutex::new(Some(bond))));
    let connection = Connection { peer, patience: half_open, late: Arc::default(), is_known: Arc::default(), bond };
    let served = async {
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return debug!(remote = %Pii(remote), %error, "a connection was lost"),
        };
        let Some(tls) = tls else { return serve(router, connection, socket).await };
        match timeout(half_open, TlsAcceptor::from(tls).accept(socket)).await {
            Ok(Ok(stream)) => serve(router, connection, stream).await,
            Ok(Err(error)) => debug!(remote = %Pii(remote), %error, "TLS handshake failed"),
            Err(_) => debug!(remote = %Pii(remote), "TLS handshake took too long"),
        }
    };
    tokio::select! { biased; () = broken.wait() => {} () = served => {} }
}

/// Serves a connection of the host's own socket to its end.
pub(super) async fn serve_local(router: Router, stream: UnixStream) {
    let connection = Connection { peer: Peer::Host, patience: LOCAL, late: Arc::default(), is_known: Arc::default(), bond: None };
    serve(router, connection, stream).await;
}

async fn serve<S: Stream + 'static>(router: Router, connection: Connection, stream: S) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(connection.patience).max_buf_size(HEAD).max_headers(HEADERS);
    let http2 = &mut builder.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(16 * 1024);
    http2.keep_alive_interval(PING).keep_alive_timeout(PING).max_pending_accept_reset_streams(STREAMS as usize);
    let (patience, has_asked) = (connection.patience, Arc::new(AtomicBool::new(false)));
    let (asked, late) = (has_asked.clone(), connection.late.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(connection.clone());
        let mut router = router.clone();
        async move { answer(&mut router, request.map(Body::new)).await }
    });
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    // hyper times heads once it knows the version, which it waits for as long as it takes
    let first = async {
        sleep(patience).await;
        if has_asked.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = first => return debug!("a connection asked for nothing"),
        // HTTP/1.1 ends by itself after that, HTTP/2 would wait for its next request
        () = late.notified() => {
            served.as_mut().graceful_shutdown();
            match timeout(patience, served).await {
                Ok(ended) => ended,
                Err(_) => return debug!("a connection whose request did not arrive took no answer"),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP connection ended");
    }
}

async fn answer(router: &mut Router, request: Request) -> Result<Response, Infallible> {
    let hosts = request.headers().get_all(HOST).iter().count();
    // RFC 9112 §3.2; HTTP/2 has it in the request line, and HTTP/1.0 need not have it
    if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
        return Ok((StatusCode::BAD_REQUEST, "A request of HTTP/1.1 has the header Host once.\n").into_response());
    }
    router.call(request).await
}
