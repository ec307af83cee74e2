//! The interface as a document, made from the types, and a page to read it: embedded, nothing comes from elsewhere.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use bytes::Bytes;

use super::Web;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Writes the document.
pub(super) fn openapi() -> Bytes {
    cas::document::openapi(env!("CARGO_PKG_VERSION")).to_string().into()
}

/// Serves `/cas/openapi.json`.
pub(super) async fn document(State(web): State<Web>) -> Response {
    respond("application/json", web.document)
}

/// Serves the page.
pub(super) async fn page() -> Response {
    respond("text/html; charset=utf-8", PAGE.into())
}

/// Serves the page's style.
pub(super) async fn style() -> Response {
    respond("text/css; charset=utf-8", STYLE.into())
}

/// Serves the page's script.
pub(super) async fn script() -> Response {
    respond("text/javascript; charset=utf-8", SCRIPT.into())
}

fn respond(media_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
