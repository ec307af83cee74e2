//! `sip::message::parse`: what is accepted reads the same after printing, can be answered and forwarded; what is refused can be answered.

use bytes::Bytes;
use sip::message::header::{CSeq, Event, Params, RAck, Reason, Replaces, SessionExpires};
use sip::message::parse::parse;
use sip::message::{Headers, MAX_MESSAGE, Name, NameAddr, ParseError, Via};
use sip::{Message, Request, Response, StatusCode};

use crate::{sip_header, torture};

/// RFC 4475's messages.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    torture::MESSAGES.iter().map(|torture| torture.bytes.to_vec()).collect()
}

/// Tries one datagram.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let message = match parse(Bytes::copy_from_slice(data)) {
        Ok(message) => message,
        Err(ParseError::NotSip(_)) => return false,
        Err(ParseError::Refused { status, headers, method, .. }) => {
            assert!(matches!(status.code(), 400 | 501 | 505), "{status}");
            assert!(!method.is_empty());
            typed(&headers);
            let _ = Response::to_headers(&headers, status).encode();
            return false;
        }
    };
    typed(message.headers());
    let printed = message.encode();
    if printed.len() <= MAX_MESSAGE {
        let again = read(&printed);
        same(&message, &again);
        assert_eq!(again.encode(), printed);
    }
    if let Message::Request(request) = message {
        answer(&request);
        forward(request);
    }
    true
}

fn read(printed: &Bytes) -> Message {
    parse(printed.clone()).unwrap_or_else(|e| panic!("what we print is refused ({e}): {}", printed.escape_ascii()))
}

fn same(one: &Message, other: &Message) {
    let rows = |message: &Message| {
        let all = message.headers().iter().filter(|(name, _)| *name != b"Content-Length");
        all.map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(rows(one), rows(other));
    match (one, other) {
        (Message::Request(a), Message::Request(b)) => assert_eq!((&a.method, &a.uri, &a.body), (&b.method, &b.uri, &b.body)),
        (Message::Response(a), Message::Response(b)) => assert_eq!((a.status, a.reason(), &a.body), (b.status, b.reason(), &b.body)),
        (a, b) => panic!("{a:?} became {b:?}"),
    }
}

/// A response to any request we accept can be read, and has its tag.
fn answer(request: &Request) {
    let mut response = Response::to(request, StatusCode::OK);
    response.set_to_tag("ours");
    let printed = response.encode();
    // With one parameter more than we read, ours is for the sender to read.
    let full = request.headers.typed::<NameAddr>(Name::To).is_ok_and(|to| to.params.iter().count() == Params::MAX);
    if printed.len() > MAX_MESSAGE || full {
        return;
    }
    let Message::Response(again) = read(&printed) else { panic!("a response became a request") };
    let had = request.to_tag();
    assert_eq!(again.to_tag().as_deref(), Some(had.as_deref().unwrap_or("ours")));
    assert_eq!(again.headers.call_id().ok(), request.headers.call_id().ok());
    assert_eq!(again.cseq().ok(), request.headers.typed::<CSeq>(Name::CSeq).ok());
}

/// What a proxy does to a request leaves a request.
fn forward(mut request: Request) {
    let vias = request.headers.all(Name::Via).count();
    request.headers.push_front(Name::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKfuzz");
    request.headers.set(Name::MaxForwards, "69");
    request.headers.pop_first(Name::Route);
    let printed = request.encode();
    if printed.len() > MAX_MESSAGE || request.headers.iter().count() > Headers::MAX {
        return;
    }
    let Message::Request(mut again) = read(&printed) else { panic!("a request became a response") };
    assert_eq!(again.headers.all(Name::Via).count(), vias + 1);
    again.headers.pop_first(Name::Via);
    assert_eq!(again.headers.all(Name::Via).count(), vias);
}

/// Asks for every typed header, and tries every type on every row.
fn typed(headers: &Headers) {
    for (_, value) in headers.iter() {
        let _ = std::str::from_utf8(value).is_ok_and(sip_header::every_type);
    }
    for name in [Name::Contact, Name::Route, Name::RecordRoute, Name::Path, Name::PAssertedIdentity, Name::ReferTo, Name::Via] {
        let all = headers.list::<NameAddr>(name);
        assert!(all.is_err() || all.is_ok_and(|all| all.len() <= Headers::MAX_LIST));
        let _ = headers.first::<NameAddr>(name);
        let _ = headers.list::<Via>(name);
        let _ = headers.tokens(name).count();
    }
    let _ = (headers.optional::<CSeq>(Name::CSeq), headers.optional::<RAck>(Name::RAck), headers.optional::<Event>(Name::Event));
    let _ = (headers.optional::<Reason>(Name::Reason), headers.optional::<Replaces>(Name::Replaces));
    let _ = headers.optional::<SessionExpires>(Name::SessionExpires);
    for name in [Name::Expires, Name::MaxForwards, Name::RSeq, Name::MinExpires, Name::RetryAfter, Name::ContentLength] {
        let _ = headers.number(name);
    }
    let _ = headers.has_token(Name::Supported, "100rel");
    let mut rest = headers.clone();
    for name in [Name::Via, Name::Contact, Name::Route] {
        for _ in 0..4 {
            rest.pop_first(name);
        }
    }
}
