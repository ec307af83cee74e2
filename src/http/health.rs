//! `/health`: the process answers. `/ready`: it takes new work. `/metrics`: its figures, for Prometheus.

use axum::extract::State;
use axum::http::StatusCode;

use super::Web;

/// Serves `/health`.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Serves `/ready`.
pub(super) async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    match web.clients.load().await {
        Ok(_) => (StatusCode::OK, "ready\n".to_owned()),
        Err(stopped) => (StatusCode::SERVICE_UNAVAILABLE, format!("{stopped}\n")),
    }
}

/// Serves `/metrics`.
pub(super) async fn metrics(State(web): State<Web>) -> (StatusCode, String) {
    match web.clients.load().await {
        Ok(load) => (StatusCode::OK, format!("# TYPE tandem_cas_logins gauge\ntandem_cas_logins {}\n", load.logins)),
        Err(stopped) => (StatusCode::SERVICE_UNAVAILABLE, format!("{stopped}\n")),
    }
}
