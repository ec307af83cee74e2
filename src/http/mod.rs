//! The web: CAS by HTTP, server-sent events and WebSocket; the documents; health and metrics; SIP over WebSocket, which goes back to
//! `net`. Thin: decode, ask the owner, encode. HTTP/1.1 and 2, on the web's listeners and on the host's own Unix socket.

mod cas;
mod connection;
mod cors;
mod document;
mod health;
mod socket;
mod stream;
mod unix;

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get, post};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clients::Handle;
use crate::config::Origin;
use crate::net::web::Guest;

pub use unix::{SocketError, listen};

/// Connections at once beyond which those on the Unix socket wait; `net` bounds the others.
const MAX_CONNECTIONS: usize = 20_256;

/// What every request is served with.
#[derive(Clone)]
struct Web {
    clients: Handle,
    /// Whose pages may open a WebSocket or read an answer.
    origins: Arc<[Origin]>,
    /// The interface as a document.
    document: Bytes,
}

/// The web, before it runs.
pub(crate) struct Http {
    web: Web,
    guests: mpsc::Receiver<Guest>,
    local: Option<UnixListener>,
}

impl Http {
    /// Puts it together; `guests` are connections of the web's listeners, `local` is the host's own socket.
    pub(crate) fn new(clients: Handle, origins: Vec<Origin>, guests: mpsc::Receiver<Guest>, local: Option<UnixListener>) -> Self {
        let web = Web { clients, origins: origins.into(), document: document::openapi() };
        Self { web, guests, local }
    }

    /// Serves until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let router = router(self.web.clone());
        let mut connections = JoinSet::new();
        let local = self.local.map(tokio::net::UnixListener::from_std).transpose();
        let local = local.inspect_err(|error| tracing::error!(%error, "the command line cannot reach this switch")).ok().flatten();
        loop {
            let room = connections.len() < MAX_CONNECTIONS;
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                Some(guest) = self.guests.recv() => {
                    connections.spawn(connection::serve_guest(router.clone(), guest));
                }
                accepted = unix::accept(local.as_ref()), if room => {
                    if let Some(stream) = accepted {
                        connections.spawn(connection::serve_local(router.clone(), stream));
                    }
                }
            }
        }
    }
}

/// What is told to who asks for something else.
const WHAT_THERE_IS: &str = "There is POST /cas for requests and GET /cas/events for events, both described at GET /cas/openapi.json; \
                             GET /, /health, /ready and /metrics; and SIP over WebSocket at /sip.\n";

fn router(web: Web) -> Router {
    Router::new()
        .route("/", get(document::page))
        .route("/cas", post(cas::request).options(cors::preflight))
        .route("/cas/events", get(cas::events).options(cors::preflight))
        .route("/cas/openapi.json", get(document::document))
        .route("/cas/page.css", get(document::style))
        .route("/cas/page.js", get(document::script))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/sip", any(socket::sip))
        .fallback(async || (StatusCode::NOT_FOUND, WHAT_THERE_IS))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, WHAT_THERE_IS))
        .with_state(web)
}
