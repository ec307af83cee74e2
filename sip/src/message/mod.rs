//! SIP messages (RFC 3261 §7): `Request` and `Response` with their headers and body. Bodies are bytes: SDP belongs to `media`.

pub mod header;
pub mod method;
pub mod parse;
pub mod print;
pub mod status;
pub mod uri;

use bytes::Bytes;
use bytestring::ByteString;

pub use header::{Header, HeaderError, Headers, Name, NameAddr, Via};
pub use method::Method;
pub use parse::ParseError;
pub use status::StatusCode;
pub use uri::{Aor, Host, Scheme, Uri};

use header::CSeq;

/// Most bytes of one message, header section and body together; a longer one is refused.
pub const MAX_MESSAGE: usize = 65_535;

/// A request or a response.
#[derive(Clone, Debug)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// The headers.
    pub headers: Headers,
    /// The body, as bytes.
    pub body: Bytes,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The reason phrase; empty means the code's own.
    pub reason: Bytes,
    /// The headers.
    pub headers: Headers,
    /// The body, as bytes.
    pub body: Bytes,
}

impl Request {
    /// Makes a request without headers.
    #[must_use]
    pub fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: Headers::default(), body: Bytes::new() }
    }

    /// Returns the tag of To: present in a dialog, absent outside.
    #[must_use]
    pub fn to_tag(&self) -> Option<ByteString> {
        tag(&self.headers, Name::To)
    }

    /// Returns the tag of From.
    #[must_use]
    pub fn from_tag(&self) -> Option<ByteString> {
        tag(&self.headers, Name::From)
    }

    /// Sets the body with its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: Bytes) {
        self.headers.set(Name::ContentType, content_type);
        self.body = body;
    }
}

impl Response {
    /// Makes a response without headers.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason: Bytes::new(), headers: Headers::default(), body: Bytes::new() }
    }

    /// Makes the response to a request: Via, From, To, Call-ID, CSeq and Timestamp as it had them (§8.2.6).
    /// A tag for To is added with [`Response::set_to_tag`].
    #[must_use]
    pub fn to(request: &Request, status: StatusCode) -> Self {
        Self::to_headers(&request.headers, status)
    }

    /// As [`Response::to`], for a request that could not be read as a whole.
    #[must_use]
    pub fn to_headers(headers: &Headers, status: StatusCode) -> Self {
        let mut response = Self::new(status);
        response.headers.copy_where(headers, |name| {
            matches!(name, Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq)
                || (name == Name::Timestamp && status == StatusCode::TRYING)
        });
        response
    }

    /// Adds a tag to To where it has none (§8.2.6.2).
    pub fn set_to_tag(&mut self, tag: &str) {
        let Some(text) = self.headers.single(Name::To) else { return };
        match header::params::find(header::name_addr::params_of(&text), "tag") {
            None if text.contains('<') => {
                // The bytes as they came, so that a display name we only understood in part is returned as it was.
                let came = self.headers.get(Name::To).unwrap_or(b"");
                let new = [came, b";tag=", tag.as_bytes()].concat();
                self.headers.set_received(Name::To, &new);
            }
            Some("") | None => {
                // A tag without value is none, and would hide ours; without brackets parameters could be the URI's.
                let Ok(to) = self.headers.typed::<NameAddr>(Name::To) else { return };
                self.headers.set_received(Name::To, to.with_tag(tag).to_string().as_bytes());
            }
            Some(_) => {}
        }
    }

    /// Returns the tag of To.
    #[must_use]
    pub fn to_tag(&self) -> Option<ByteString> {
        tag(&self.headers, Name::To)
    }

    /// Returns the CSeq.
    ///
    /// # Errors
    /// Missing or malformed.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        self.headers.typed(Name::CSeq)
    }

    /// Returns the reason phrase, the code's own if none was given.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        if self.reason.is_empty() { self.status.reason().as_bytes() } else { &self.reason }
    }

    /// Sets the body with its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: Bytes) {
        self.headers.set(Name::ContentType, content_type);
        self.body = body;
    }
}

impl Message {
    /// Returns the headers of either kind.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }
}

/// Finds the tag of From or To without reading the URI: the parser has seen to it that the header is well-formed.
fn tag(headers: &Headers, name: Name) -> Option<ByteString> {
    let text = headers.single(name)?;
    let tag = header::params::find(header::name_addr::params_of(&text), "tag").filter(|tag| !tag.is_empty())?;
    Some(text.slice_ref(tag))
}

/// Makes a table of the letters, the digits and these characters.
pub(crate) const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// Returns true for a character of a token (§25.1).
#[must_use]
pub(crate) fn is_token_char(byte: u8) -> bool {
    static TOKEN: [bool; 256] = alphanumeric_and(b"-.!%*_+`'~");
    TOKEN[usize::from(byte)]
}

/// Returns true for a token (§25.1).
#[must_use]
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_one_tag_in_to() {
        for (to, wanted) in [
            ("<sip:a@h>", "<sip:a@h>;tag=x"),
            ("sip:a@h", "<sip:a@h>;tag=x"),
            ("<sip:a@h>;tag;y", "<sip:a@h>;y;tag=x"),
            ("\"\\\u{1}\" <sip:a@h;tag=n>", "\"\\\u{1}\" <sip:a@h;tag=n>;tag=x"),
            ("<sip:a@h>;tag=y", "<sip:a@h>;tag=y"),
        ] {
            let mut headers = Headers::default();
            headers.push(Name::To, to);
            let mut response = Response::to_headers(&headers, StatusCode::OK);
            response.set_to_tag("x");
            assert_eq!(response.headers.get(Name::To), Some(wanted.as_bytes()));
            assert!(response.to_tag().is_some());
        }
    }
}
