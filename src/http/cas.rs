//! `POST /cas` and `GET /cas/events`: HTTP to a request of `cas::Server`, and its reply to HTTP.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use cas::Token;
use cas::error::{Error, Fault};
use cas::message::{Encoding, MAX_MESSAGE};
use cas::server::{MAX_SIGN_IN, Reply};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use super::connection::Connection;
use super::{Web, cors, socket, stream};
use crate::clients::{Ask, Poll, Refused};

/// The only coding that messages are read in.
const IDENTITY: &str = "identity";

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Serves `POST /cas`.
pub(super) async fn request(State(web): State<Web>, Extension(connection): Extension<Connection>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let origin = cors::allowed(&web.origins, &parts.headers);
    let response = match take(&web, &connection, &parts.headers, body).await {
        Ok(reply) => {
            if reply.response < 400 {
                connection.signed_in();
            }
            written(reply)
        }
        Err(error) => {
            let is_encoded = error.header.as_deref() == Some(CONTENT_ENCODING.as_str());
            let mut refused = refuse(&web, &parts.headers, error).await;
            if is_encoded {
                refused.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(IDENTITY));
            }
            refused
        }
    };
    cors::admit(response, origin)
}

/// Refuses what is compressed (RFC 9110 §15.5.16): how long a message is must be known before it is read.
fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    match text(headers, &CONTENT_ENCODING)? {
        Some(encoding) if !encoding.eq_ignore_ascii_case(IDENTITY) => {
            let detail = format!("header content-encoding: {encoding} is not read here; send the message as it is");
            Err(Error { fault: Fault::UnknownEncoding, ..Error::header(CONTENT_ENCODING.as_str(), detail).accepting([IDENTITY]) })
        }
        Some(_) | None => Ok(()),
    }
}

async fn take(web: &Web, connection: &Connection, headers: &HeaderMap, body: Body) -> Result<Reply, Error> {
    let token = token(headers)?;
    check_encoding(headers)?;
    // Who has shown nothing, or a token that is none, may send as much as a login needs (S9, S11).
    let most = match &token {
        _ if connection.peer == cas::server::Peer::Host => MAX_MESSAGE,
        Some(token) if announced(headers).is_none_or(|length| length > MAX_SIGN_IN as u64) => {
            web.clients.knows(token.clone()).await??;
            MAX_MESSAGE
        }
        Some(_) | None => MAX_SIGN_IN,
    };
    let body = read(headers, body, (most, connection.patience)).await;
    let body = body.inspect_err(|error| {
        if error.fault == Fault::RequestTimeout {
            connection.dawdles();
        }
    })?;
    let ask = Ask {
        peer: connection.peer,
        token,
        content_type: text(headers, &CONTENT_TYPE)?,
        accept: text(headers, &ACCEPT)?,
        prefer: text(headers, &PREFER)?,
        body,
    };
    Ok(web.clients.request(ask).await?)
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
}

/// Reads a body up to a bound in bytes and time; the first holds before anything is kept.
async fn read(headers: &HeaderMap, body: Body, (most, patience): (usize, Duration)) -> Result<Bytes, Error> {
    let too_large = || Error::new(Fault::TooLarge, format!("the message is longer than {most} bytes"));
    if announced(headers).is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    match timeout(patience, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(_)) => Err(Error::new(Fault::BadMessage, "the message broke off")),
        Err(_) => Err(Error::new(Fault::RequestTimeout, format!("the message did not arrive within {} seconds", patience.as_secs()))),
    }
}

/// Serves `GET /cas/events`: a WebSocket, server-sent events, or one answer.
pub(super) async fn events(State(web): State<Web>, Extension(connection): Extension<Connection>, mut request: Request) -> Response {
    if socket::is_upgrade(request.headers()) {
        return socket::cas(&web, &connection, &mut request);
    }
    let (parts, _) = request.into_parts();
    let origin = cors::allowed(&web.origins, &parts.headers);
    let response = match wait(&web, &connection, &parts).await {
        Ok(response) => response,
        Err(error) => refuse(&web, &parts.headers, error).await,
    };
    cors::admit(response, origin)
}

async fn wait(web: &Web, connection: &Connection, parts: &Parts) -> Result<Response, Error> {
    let headers = &parts.headers;
    let token = token(headers)?;
    let parameters = Parameters::read(parts.uri.query())?;
    let accept = text(headers, &ACCEPT)?;
    if accept.as_deref().is_some_and(stream::is_asked_for) {
        let last = text(headers, &HeaderName::from_static("last-event-id"))?;
        let after = match last.filter(|last| !last.is_empty()) {
            Some(last) => Some(last.parse().map_err(|_| Error::header("last-event-id", "expected the number of an event"))?),
            None => parameters.after,
        };
        return stream::serve(web, connection, token, after).await;
    }
    let poll = Poll { peer: connection.peer, token, accept, after: parameters.after, wait: parameters.wait };
    let reply = web.clients.poll(poll).await?;
    if reply.response < 400 {
        connection.signed_in();
    }
    Ok(written(reply))
}

/// The query of `/cas/events`.
pub(super) struct Parameters {
    pub(super) after: Option<u64>,
    wait: Option<u32>,
}

impl Parameters {
    pub(super) fn read(query: Option<&str>) -> Result<Self, Error> {
        let mut parameters = Self { after: None, wait: None };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "after" => parameters.after = Some(number(name, value)?),
                "wait" => parameters.wait = Some(number(name, value)?),
                _ => {} // a proxy's, or one of tomorrow's
            }
        }
        Ok(parameters)
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_| Error::field(name, format!("field {name}: expected a number")))
}

/// Returns the token of a request.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<Token>, Error> {
    let Some(header) = text(headers, &AUTHORIZATION)? else { return Ok(None) };
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(Token::shown(token.trim()))),
        Some(_) | None => Err(Error::header("authorization", "expected the scheme Bearer and a token").accepting(["Bearer TOKEN"])),
    }
}

/// Returns the value of a header that may be there once.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let several = values.next().is_some() && *name != ACCEPT && *name != PREFER;
    match value.to_str() {
        Ok(text) if !several => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(Error::header(name.as_str(), "expected the header once, in visible ASCII characters")),
    }
}

/// Writes a reply.
pub(super) fn written(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(status, reply.encoding, reply.body)
}

/// Writes a refusal of what is no request, in the series of the login's replies if there is one.
async fn refuse(web: &Web, headers: &HeaderMap, error: Error) -> Response {
    let Ok(Some(token)) = token(headers) else { return refused(&error) };
    let accept = text(headers, &ACCEPT).ok().flatten();
    let reply = web.clients.refuse(Refused { token, accept, error: error.clone() }).await;
    reply.map_or_else(|_| refused(&error), written)
}

/// Writes a refusal that `cas::Server` never saw.
pub(super) fn refused(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.fault.response()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let message = serde_json::json!({
        "topic": "cas", "message": "error", "timestamp": u64::try_from(crate::clock::unix().as_millis()).unwrap_or(u64::MAX),
        "sequence-id": 1, "response": error.fault.response(), "body": error,
    });
    respond(status, Encoding::Json, message.to_string().into())
}

fn respond(status: StatusCode, encoding: Encoding, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let media_type = match encoding {
        Encoding::Json => "application/json",
        Encoding::Xml => "application/xml",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
