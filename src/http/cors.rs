//! Which web pages may read our answers (the Fetch standard, CORS): ours, and those of the configuration. There are no cookies: a page
//! that is not allowed can act for nobody, with or without this.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use super::Web;
use super::connection::Connection;
use crate::config::Origin;

/// Returns the origin of a page that may read the answer.
pub(super) fn allowed(origins: &[Origin], headers: &HeaderMap) -> Option<HeaderValue> {
    let header = headers.get(ORIGIN)?;
    let origin = Origin::parse(header.to_str().ok()?)?;
    origins.iter().any(|allowed| allowed.covers(&origin)).then(|| header.clone())
}

/// Returns whether a WebSocket may be opened: by a page that is allowed, or by what is no page.
pub(super) fn may_open(origins: &[Origin], headers: &HeaderMap) -> bool {
    match headers.get_all(ORIGIN).iter().count() {
        0 => true,
        1 => allowed(origins, headers).is_some(),
        _ => false,
    }
}

/// Lets a page read an answer.
pub(super) fn admit(mut response: Response, origin: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// Answers what a browser asks before it lets a page send a request.
pub(super) async fn preflight(State(web): State<Web>, Extension(_): Extension<Connection>, request: Request) -> Response {
    let origin = allowed(&web.origins, request.headers());
    let is_allowed = origin.is_some();
    let mut response = admit(Response::default(), origin);
    *response.status_mut() = StatusCode::NO_CONTENT;
    if is_allowed {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        let names = "accept, authorization, content-type, last-event-id, prefer";
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}
