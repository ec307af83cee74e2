//! The interface as a document, made from the types, and a page to read it: embedded, nothing comes from elsewhere.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Web;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Writes the document: what `cas` says of itself, and the routes that are the switch's own.
pub(super) fn openapi() -> Bytes {
    let mut document = cas::document::openapi(env!("CARGO_PKG_VERSION"));
    document["paths"]["/cas/openapi.json"] = route("document", "This document.", &[(200, "It.", "application/json")]);
    let health = [(200, "The process answers.", "text/plain")];
    document["paths"]["/health"] = route("health", "Whether the switch lives.", &health);
    let ready = [(200, "It does.", "text/plain"), (503, "It is draining, or its store has failed: the text says so.", "text/plain")];
    document["paths"]["/ready"] = route("ready", "Whether the switch takes new work.", &ready);
    let refused = (403, "Neither is the caller on this host, nor has their login the right admin.status.", "application/json");
    let metrics = [(200, "Figures for Prometheus.", "text/plain"), refused, (503, "The switch is stopping.", "text/plain")];
    document["paths"]["/metrics"] = route("metrics", "What the switch does, in figures.", &metrics);
    document.to_string().into()
}

/// Describes a route that takes nothing: the status codes, what each means, and the media type of its body.
fn route(name: &str, summary: &str, answers: &[(u16, &str, &str)]) -> Value {
    let schema = |status: u16, media_type: &str| match (status, media_type) {
        (403, _) => json!({ "$ref": "#/components/schemas/Refusal" }),
        (_, "application/json") => json!({ "type": "object" }),
        _ => json!({ "type": "string" }),
    };
    let answers = answers.iter().map(|(status, meaning, media_type)| {
        let content = json!({ *media_type: { "schema": schema(*status, media_type) } });
        (status.to_string(), json!({ "description": meaning, "content": content }))
    });
    json!({ "get": { "operationId": name, "summary": summary, "security": [{}], "responses": answers.collect::<Map<_, _>>() } })
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
