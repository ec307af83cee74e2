//! `/health`: the process answers. `/ready`: it takes new work. `/metrics`: its figures, for Prometheus.

use ::cas::error::Error;
use ::cas::server::Peer;
use axum::Extension;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::connection::Connection;
use super::{Web, cas};
use crate::clients::Ask;

/// Serves `/health`.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Serves `/ready`.
pub(super) async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    match web.clients.refuses().await {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Serves `/metrics`, to the host itself, and to who may ask for its status: figures tell strangers what is worth attacking.
pub(super) async fn metrics(State(web): State<Web>, Extension(connection): Extension<Connection>, headers: HeaderMap) -> Response {
    if !may_look(&web, &connection, &headers).await {
        return cas::refused(&Error::missing_right("admin.status"));
    }
    let (status, text) = match web.clients.figures().await {
        Ok(figures) => (StatusCode::OK, figures),
        Err(stopped) => (StatusCode::SERVICE_UNAVAILABLE, format!("{stopped}\n")),
    };
    (status, [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn may_look(web: &Web, connection: &Connection, headers: &HeaderMap) -> bool {
    let is_here = match connection.peer {
        Peer::Host => true,
        Peer::Network { address, .. } => address.to_canonical().is_loopback(),
    };
    if is_here {
        return true;
    }
    let Ok(Some(token)) = cas::token(headers) else { return false };
    let body = r#"{"topic":"admin","message":"status","timestamp":0,"sequence-id":1,"request-id":1}"#;
    let (content_type, accept, prefer) = (None, None, None);
    let ask = Ask { peer: connection.peer, token: Some(token), content_type, accept, prefer, body: body.into() };
    web.clients.request(ask).await.is_ok_and(|reply| reply.status() == 200)
}
