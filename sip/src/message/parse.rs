//! Bytes to message (RFC 3261 §7.3, §7.5, §25.1): one pass that indexes the header section in place. Never panics, bounded in every
//! dimension. Lines end in CRLF; a lone CR or LF is malformed, so that no header hides in another (S7).

use bytes::Bytes;
use bytestring::ByteString;

use super::header::{CSeq, Header as _, params};
use super::{Headers, MAX_MESSAGE, Message, Method, Name, NameAddr, Request, Response, StatusCode, Uri, Via};

/// Longest name of a header; a message with a longer one is refused.
const MAX_NAME: usize = 256;
/// Longest tag of From or To; a message with a longer one is refused.
const MAX_TAG: usize = 256;
/// Most Via values: no request passes more hops than the Max-Forwards that all begin with (RFC 3261 §8.1.1.6). A message with more is refused.
const MAX_VIAS: usize = 70;

/// Why bytes are not a message that can be handled.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// No SIP at all, or a response we cannot use: there is nobody to answer.
    #[error("not a SIP message: {0}")]
    NotSip(&'static str),
    /// A broken request, with what is needed to answer it.
    #[error("{status}: {reason}")]
    Refused {
        /// What to answer: 400, 501 or 505.
        status: StatusCode,
        /// What is wrong with it.
        reason: &'static str,
        /// The headers, as far as they could be read.
        headers: Box<Headers>,
        /// The method token.
        method: ByteString,
    },
}

/// Reads a message that fills a datagram or a WebSocket frame, or that the framing cut out of a stream.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(datagram: Bytes) -> Result<Message, ParseError> {
    let start = datagram.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    let bytes = datagram.slice(start..);
    if bytes.is_empty() || bytes.len() > MAX_MESSAGE {
        return Err(ParseError::NotSip("empty or too long"));
    }
    read(&bytes).unwrap_or_else(|Folded| read(&unfold(&bytes)).unwrap_or(Err(ParseError::NotSip("folded twice"))))
}

/// A row continues the one before (§7.3.1): the bytes are to be unfolded and read again.
struct Folded;

fn read(bytes: &Bytes) -> Result<Result<Message, ParseError>, Folded> {
    let Some(line_end) = memchr::memchr(b'\n', bytes).and_then(|at| at.checked_sub(1)).filter(|at| bytes.get(*at) == Some(&b'\r')) else {
        return Ok(Err(ParseError::NotSip("no line")));
    };
    let Ok(line) = ByteString::try_from(bytes.slice(..line_end)) else {
        return Ok(Err(ParseError::NotSip("start line is not UTF-8")));
    };
    let mut fault = None;
    let (headers, body_at) = index(bytes, line_end + 2, &mut fault)?;
    let body = bytes.slice(body_at.min(bytes.len())..);
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/")) && !line.contains(" SIP/") {
        return Ok(response(&line, headers, &body, fault));
    }
    Ok(request(&line, headers, &body, fault))
}

/// Turns each line fold into spaces, in a copy.
fn unfold(bytes: &Bytes) -> Bytes {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n").unwrap_or(bytes.len());
    let mut copy = bytes.to_vec();
    for at in memchr::memmem::find_iter(bytes, b"\r\n").take_while(|at| *at < head) {
        if let Some([cr, lf, b' ' | b'\t']) = copy.get_mut(at..at + 3) {
            (*cr, *lf) = (b' ', b' ');
        }
    }
    copy.into()
}

/// Indexes the header rows from `at` on; returns where the body begins. The first fault is kept.
fn index(bytes: &Bytes, mut at: usize, fault: &mut Option<&'static str>) -> Result<(Headers, usize), Folded> {
    let mut headers = Headers::over(bytes.clone());
    while let Some(rest) = bytes.get(at..) {
        let Some(length) = memchr::memchr2(b'\r', b'\n', rest) else {
            fault.get_or_insert("the header section does not end in an empty line");
            return Ok((headers, bytes.len()));
        };
        if rest.get(length..length + 2) != Some(b"\r\n") {
            fault.get_or_insert("a lone CR or LF in the header section");
            return Ok((headers, bytes.len()));
        }
        let Some(row) = rest.get(..length).filter(|row| !row.is_empty()) else {
            return Ok((headers, at + 2));
        };
        if matches!(row.first(), Some(b' ' | b'\t')) {
            return Err(Folded);
        }
        match split_row(row) {
            Some((name, value)) => {
                if !headers.index((at, at + name), (at + value.0, at + value.1)) {
                    fault.get_or_insert("too many headers");
                    return Ok((headers, bytes.len()));
                }
            }
            None => {
                fault.get_or_insert("a header row without a name, with too long a one or with a bare NUL");
            }
        }
        at += length + 2;
    }
    Ok((headers, bytes.len()))
}

/// Returns the length of the name and the span of the value. White space before the colon is legal (HCOLON).
fn split_row(row: &[u8]) -> Option<(usize, (usize, usize))> {
    let colon = memchr::memchr(b':', row)?;
    let name = row.get(..colon)?.trim_ascii_end();
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(|b| super::is_token_char(*b)) {
        return None;
    }
    let value = row.get(colon + 1..)?;
    if memchr::memchr(0, value).is_some_and(|_| !nuls_are_quoted(value)) {
        return None;
    }
    let start = colon + 1 + (value.len() - value.trim_ascii_start().len());
    Some((name.len(), (start, start + value.trim_ascii().len())))
}

/// Returns true if each NUL stands behind a backslash in a quoted string, the one place where it is legal (§25.1, quoted-pair).
fn nuls_are_quoted(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            0 => return false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    true
}

fn request(line: &ByteString, headers: Headers, body: &Bytes, fault: Option<&'static str>) -> Result<Message, ParseError> {
    let method_text = line.split([' ', '\t']).next().unwrap_or("");
    let Some(method) = Method::parse(method_text) else { return Err(ParseError::NotSip("no method")) };
    let version = line.rsplit([' ', '\t']).find(|word| !word.is_empty()).unwrap_or("");
    if !version.get(..4).is_some_and(|v| v.eq_ignore_ascii_case("SIP/")) {
        return Err(ParseError::NotSip("no SIP version"));
    }
    let refuse =
        |status, reason, headers| ParseError::Refused { status, reason, headers: Box::new(headers), method: line.slice_ref(method_text) };
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(refuse(StatusCode::VERSION_NOT_SUPPORTED, "SIP version", headers));
    }
    let mut words = line.split(' ').skip(1);
    let uri = match (words.next(), words.next(), words.next()) {
        (Some(uri), Some(_), None) => Uri::parse(&line.slice_ref(uri)),
        _ => None,
    };
    let Some(uri) = uri else {
        return Err(refuse(StatusCode::BAD_REQUEST, "malformed Request-URI or request line", headers));
    };
    if !uri.headers().is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "headers in the Request-URI", headers));
    }
    let checked = fault.map_or_else(|| check(&headers).and_then(|cseq| content(&headers, body).map(|body| (cseq, body))), Err);
    match checked {
        Ok((cseq, _)) if cseq.method != method => {
            // RFC 4475 §3.1.2.18: who speaks of a method we do not know may have rules of its own.
            let status = if matches!(method, Method::Other(_)) { StatusCode::NOT_IMPLEMENTED } else { StatusCode::BAD_REQUEST };
            Err(refuse(status, "CSeq names another method", headers))
        }
        Ok((_, body)) => Ok(Message::Request(Request { method, uri, headers, body })),
        Err(reason) => Err(refuse(StatusCode::BAD_REQUEST, reason, headers)),
    }
}

fn response(line: &ByteString, headers: Headers, body: &Bytes, fault: Option<&'static str>) -> Result<Message, ParseError> {
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap_or("");
    let status = words.next().filter(|digits| digits.len() == 3).and_then(params::decimal).and_then(StatusCode::new);
    let (true, Some(status)) = (version.eq_ignore_ascii_case("SIP/2.0"), status) else {
        return Err(ParseError::NotSip("malformed status line"));
    };
    if line.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err(ParseError::NotSip("a control character in the status line"));
    }
    let reason = words.next().map(|reason| line.slice_ref(reason).into_bytes()).unwrap_or_default();
    if let Some(fault) = fault {
        return Err(ParseError::NotSip(fault));
    }
    check(&headers).map_err(ParseError::NotSip)?;
    let body = content(&headers, body).map_err(ParseError::NotSip)?;
    Ok(Message::Response(Response { status, reason, headers, body }))
}

/// Checks the headers that every message has (§8.1.1).
fn check(headers: &Headers) -> Result<CSeq, &'static str> {
    headers.first::<Via>(Name::Via).map_err(|_| "missing or malformed Via")?;
    // commas within a quoted parameter count as well: there is no such Via
    let vias = |row| 1 + memchr::memchr_iter(b',', row).count();
    if headers.all(Name::Via).map(vias).sum::<usize>() > MAX_VIAS {
        return Err("too many Via");
    }
    let from = headers.typed::<NameAddr>(Name::From).map_err(|_| "missing or malformed From")?;
    let to = headers.typed::<NameAddr>(Name::To).map_err(|_| "missing or malformed To")?;
    if [from, to].iter().any(|party| party.params.get("tag").is_some_and(|tag| tag.len() > MAX_TAG)) {
        return Err("too long a tag");
    }
    headers.call_id().map_err(|_| "missing or malformed Call-ID")?;
    if headers.number(Name::MaxForwards).is_err() || headers.number(Name::MaxForwards).is_ok_and(|n| n > Some(255)) {
        return Err("malformed Max-Forwards");
    }
    let text = headers.get_text(Name::CSeq).ok_or("missing CSeq")?;
    if headers.all(Name::CSeq).count() > 1 {
        return Err("more than one CSeq");
    }
    CSeq::parse(&text).ok_or("malformed CSeq")
}

/// Cuts the body to Content-Length; without one it fills the datagram (§18.3).
fn content(headers: &Headers, rest: &Bytes) -> Result<Bytes, &'static str> {
    match headers.number(Name::ContentLength).map_err(|_| "malformed Content-Length")? {
        None => Ok(rest.clone()),
        Some(length) => {
            let length = usize::try_from(length).map_err(|_| "Content-Length is beyond the message")?;
            if length > rest.len() {
                return Err("Content-Length is beyond the message");
            }
            Ok(rest.slice(..length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:bob@h SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nf: <sip:a@h>;tag=1\r\n\
                          t: <sip:bob@h>\r\ni: c1\r\nCSeq: 1 INVITE\r\n";

    fn read(text: &str) -> Result<Message, ParseError> {
        parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn request_of(text: &str) -> Request {
        match read(text) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn compact_names_folds_and_unknown_headers_are_read() {
        let request = request_of(&format!("\r\n\r\n{INVITE}Subject: a\r\n  b\r\n\tc\r\nX-Odd : 1\r\nl: 3\r\n\r\nabcdef"));
        assert_eq!(request.headers.get(Name::Subject), Some(&b"a    b  \tc"[..]));
        assert_eq!(request.headers.other("x-odd"), Some(&b"1"[..])); // S7: white space before the colon
        assert_eq!(&request.body[..], b"abc");
    }

    #[test]
    fn without_content_length_the_body_fills_the_datagram() {
        assert_eq!(&request_of(&format!("{INVITE}\r\nab\0c")).body[..], b"ab\0c");
    }

    #[test]
    fn what_is_broken_is_refused_with_what_is_needed_to_answer() {
        let long = "X: y\r\n".repeat(Headers::MAX);
        for tail in [
            "l: 9\r\n\r\nx",
            "l: -1\r\n\r\n",
            "l: 1\r\nl: 1\r\n\r\nx",
            "Max-Forwards: 300\r\n\r\n",
            "\nX: y\r\n\r\n",
            "X\r\n\r\n",
            "S: a\0b\r\n\r\n",
            "S: \"a\0b\"\r\n\r\n",
            "S: \\\0\r\n\r\n",
            "S: a\r\n",
            &long,
        ] {
            match read(&format!("{INVITE}{tail}")) {
                Err(ParseError::Refused { status, headers, .. }) => {
                    assert_eq!(status, StatusCode::BAD_REQUEST, "{tail:?}");
                    assert!(headers.has(Name::Via));
                }
                other => panic!("{tail:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn names_tags_and_vias_have_a_bound() {
        // S8
        let name = |length: usize| format!("{INVITE}{}: x\r\n\r\n", "N".repeat(length));
        let tag = |length: usize| format!("{}\r\n", INVITE.replace("tag=1", &format!("tag={}", "1".repeat(length))));
        let rows = |count: usize| format!("{INVITE}{}\r\n", "v: SIP/2.0/UDP h;branch=z9hG4bK2\r\n".repeat(count - 1));
        let list = |count: usize| format!("{INVITE}v: SIP/2.0/UDP h{}\r\n\r\n", ", SIP/2.0/UDP h".repeat(count - 2));
        for (most, write) in [(MAX_NAME, &name as &dyn Fn(usize) -> String), (MAX_TAG, &tag), (MAX_VIAS, &rows), (MAX_VIAS, &list)] {
            request_of(&write(most));
            let refused = read(&write(most + 1));
            assert!(matches!(refused, Err(ParseError::Refused { status: StatusCode::BAD_REQUEST, .. })), "{refused:?}");
        }
    }

    #[test]
    fn another_version_is_505_and_no_sip_at_all_is_nothing() {
        let version = INVITE.replace("h SIP/2.0\r\n", "h SIP/7.0\r\n") + "\r\n";
        assert!(matches!(read(&version), Err(ParseError::Refused { status: StatusCode::VERSION_NOT_SUPPORTED, .. })));
        for text in ["", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\0\0\0", "SIP/2.0 4294967301 X\r\n\r\n", "SIP/2.0 99 X\r\n\r\n"] {
            assert!(matches!(read(text), Err(ParseError::NotSip(_))), "{text:?}");
        }
    }

    #[test]
    fn headers_in_a_request_uri_are_refused() {
        // §19.1.1, table 1; S7: no layer above can forget to strip them.
        let text = INVITE.replace("sip:bob@h SIP", "sip:bob@h?Route=%3Csip:evil%3E SIP") + "\r\n";
        assert!(matches!(read(&text), Err(ParseError::Refused { status: StatusCode::BAD_REQUEST, .. })));
    }

    #[test]
    fn a_cseq_of_another_method_is_400_or_501() {
        let status = |line: &str| match read(&(INVITE.replace("INVITE sip", line) + "\r\n")) {
            Err(ParseError::Refused { status, .. }) => status.code(),
            other => panic!("{other:?}"),
        };
        assert_eq!((status("OPTIONS sip"), status("NEWMETHOD sip")), (400, 501));
    }

    #[test]
    fn responses_keep_a_reason_phrase_of_any_form() {
        let head = INVITE.split_once("\r\n").unwrap().1;
        let Ok(Message::Response(response)) = read(&format!("SIP/2.0 200 = 2**3 * 5**2 \u{442}\r\n{head}\r\n")) else {
            panic!("no response")
        };
        assert_eq!(response.reason(), "= 2**3 * 5**2 \u{442}".as_bytes());
        let Ok(Message::Response(response)) = read(&format!("SIP/2.0 100 \r\n{head}\r\n")) else { panic!("no response") };
        assert_eq!(response.status, StatusCode::TRYING);
        for reason in ["a\rb", "a\nX: y", "a\0b"] {
            assert!(read(&format!("SIP/2.0 200 {reason}\r\n{head}\r\n")).is_err(), "{reason:?}"); // S7
        }
    }
}
