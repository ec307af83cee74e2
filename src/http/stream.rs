//! Server-sent events: `GET /cas/events` with `Accept: text/event-stream`. The next events are asked for when the last ones are written,
//! so that a client that does not read fills nothing but its own share of the login's events.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use cas::Token;
use cas::error::{Error, Fault};
use cas::event::Frame;
use cas::message::Encoding;
use tokio::time::timeout;

use super::Web;
use super::connection::Connection;
use crate::clients::{Stopped, Stream, ToStream};

/// How often a stream with nothing to say sends a comment, which keeps NATs and proxies open and finds out who has gone.
const COMMENT: Duration = Duration::from_secs(15);

/// Whether a header Accept names such a stream, and nothing that it likes more (`q`, RFC 9110 §12.4.2).
pub(super) fn is_asked_for(accept: &str) -> bool {
    let (mut stream, mut other) = (0.0_f32, 0.0_f32);
    for range in accept.split(',').take(32) {
        let mut parts = range.split(';');
        let is_stream = parts.next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"));
        let quality = parts.find_map(|part| part.trim().strip_prefix("q=").map(|q| q.trim().parse().unwrap_or(0.0))).unwrap_or(1.0);
        let best = if is_stream { &mut stream } else { &mut other };
        *best = best.max(quality);
    }
    stream > 0.0 && stream >= other
}

/// Opens a stream and answers with it.
pub(super) async fn serve(web: &Web, connection: &Connection, token: Option<Token>, after: Option<u64>) -> Result<Response, Error> {
    // without a login nothing is opened: there is no way to sign in on such a stream
    let token = token.ok_or_else(|| Error::new(Fault::LoginRequired, "a login comes first: topic login, message login"))?;
    let mut stream = web.clients.open(connection.peer, Some(token), after, Encoding::Json).await?;
    match stream.next().await {
        Some(ToStream::Opened) => {}
        Some(ToStream::Close(why)) => return Err(why),
        Some(ToStream::Events(_) | ToStream::Reply(_) | ToStream::Forward(_)) | None => return Err(Stopped.into()),
    }
    connection.signed_in();
    let body = futures_util::stream::unfold(Some(stream), next);
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Returns the next chunk. That it is asked for says that the socket took the last one.
async fn next(stream: Option<Stream>) -> Option<(Result<Bytes, Stopped>, Option<Stream>)> {
    let mut stream = stream?;
    stream.tell_written().await.ok()?;
    loop {
        match timeout(COMMENT, stream.next()).await {
            Err(_) => return Some((Ok(Bytes::from_static(b":\n\n")), Some(stream))),
            Ok(None) => return None,
            Ok(Some(ToStream::Events(frames))) => return Some((Ok(events(&mut stream, &frames)), Some(stream))),
            Ok(Some(ToStream::Close(why))) => return Some((Ok(farewell(&why)), None)),
            // nobody asks anything on such a stream
            Ok(Some(ToStream::Opened | ToStream::Reply(_) | ToStream::Forward(_))) => {}
        }
    }
}

/// Writes events. JSON has no line ends in it.
fn events(stream: &mut Stream, frames: &[Frame]) -> Bytes {
    let mut out = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 32).sum());
    for frame in frames {
        stream.wrote(frame);
        out.extend_from_slice(format!("id: {}\ndata: ", frame.sequence_id).as_bytes());
        frame.write(Encoding::Json, &mut out);
        out.extend_from_slice(b"\n\n");
    }
    out.into()
}

/// Says why the stream ends: an event of another type, which is not numbered.
fn farewell(why: &Error) -> Bytes {
    let mut out = BytesMut::from(&b"event: end\ndata: "[..]);
    out.extend_from_slice(&serde_json::to_vec(why).unwrap_or_default());
    out.extend_from_slice(b"\n\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_stream_is_opened_for_who_accepts_one() {
        for (accept, is_asked_for) in [
            ("text/event-stream", true),
            ("application/json;q=0.5, Text/Event-Stream;q=0.5", true),
            ("application/json, text/event-stream;q=0.5", false),
            ("text/event-stream;q=0, application/json", false),
            ("text/event-stream;q=0.000", false),
            ("text/event-streams, */*", false),
        ] {
            assert_eq!(super::is_asked_for(accept), is_asked_for, "{accept}");
        }
    }
}
