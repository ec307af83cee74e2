//! One CAS message: the standard headers, headers that we do not know, and the body. It knows the names of headers and no topic.
//!
//! ```json
//! {"topic": "tel", "message": "make-call", "timestamp": 1401919283512, "sequence-id": 26, "request-id": 26,
//!  "body": {"destination": "501"}}
//! ```
//!
//! A reply echoes topic, message and `request-id`, and carries `response`: 0 for success, 202 for *it takes longer*, else the
//! number of a [`Fault`]. A reply that takes longer and the final one share a `pending-id`.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::{Error, Fault};
use crate::text::Name;
use crate::{json, xml};

/// Longest message, in bytes. A longer one is refused before it is read (S9).
pub const MAX_MESSAGE: usize = 256 * 1024;

/// Most headers besides the standard ones. A message with more is refused.
pub const MAX_HEADERS: usize = 32;

/// `response` of a reply that tells of success.
pub const SUCCESS: u16 = 0;

/// `response` of a reply that says that the answer takes longer.
pub const PENDING: u16 = 202;

/// The two encodings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// `application/json`.
    #[default]
    Json,
    /// `application/xml`.
    Xml,
}

impl Encoding {
    /// Names of the media types that are taken.
    pub const MEDIA_TYPES: [&str; 2] = ["application/json", "application/xml"];

    /// Chooses by the value of a Content-Type header; JSON where there is none.
    ///
    /// # Errors
    ///
    /// `unknown-encoding` for another media type or another character set than UTF-8.
    pub fn of_content_type(header: Option<&str>) -> Result<Self, Error> {
        let Some(header) = header else { return Ok(Self::Json) };
        let mut parts = header.split(';');
        let media_type = parts.next().unwrap_or_default().trim();
        let strange = parts.filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
            name.trim().eq_ignore_ascii_case("charset") && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
        Self::of_media_type(media_type).filter(|_| !strange).ok_or_else(|| {
            let error =
                Error { header: Some("content-type".into()), ..Error::new(Fault::UnknownEncoding, "the encoding is not spoken here") };
            error.accepting(Self::MEDIA_TYPES)
        })
    }

    /// Chooses by the value of an Accept header (RFC 9110 §12.5.1); `otherwise` where there is none or both are liked alike.
    ///
    /// # Errors
    ///
    /// `not-acceptable` where neither encoding is accepted.
    pub fn of_accept(header: Option<&str>, otherwise: Self) -> Result<Self, Error> {
        let Some(header) = header.filter(|header| !header.trim().is_empty()) else { return Ok(otherwise) };
        let other = if otherwise == Self::Json { Self::Xml } else { Self::Json };
        match (liking(header, otherwise), liking(header, other)) {
            (0, 0) => {
                let error =
                    Error { header: Some("accept".into()), ..Error::new(Fault::NotAcceptable, "no accepted encoding is spoken here") };
                Err(error.accepting(Self::MEDIA_TYPES))
            }
            (first, second) => Ok(if second > first { other } else { otherwise }),
        }
    }

    /// Returns the media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Xml => "application/xml",
        }
    }

    fn of_media_type(text: &str) -> Option<Self> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        match () {
            () if is("application/json") || is("text/json") => Some(Self::Json),
            () if is("application/xml") || is("text/xml") => Some(Self::Xml),
            () => None,
        }
    }

    /// Reads one value in this encoding.
    ///
    /// # Errors
    ///
    /// `too-large` or `bad-message`.
    pub fn read(self, bytes: &[u8]) -> Result<Value, Error> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Error::new(Fault::TooLarge, format!("a message has at most {MAX_MESSAGE} bytes")));
        }
        match self {
            Self::Json => json::read(bytes),
            Self::Xml => xml::read(bytes),
        }
    }

    /// Appends one value in this encoding.
    pub fn write(self, value: &Value, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::write(value, out),
            Self::Xml => xml::write(value, out),
        }
    }
}

/// Returns how much an Accept header likes an encoding, in thousandths: by the most specific range that fits.
fn liking(header: &str, encoding: Encoding) -> u32 {
    let mut best = (0, 0);
    for range in header.split(',').take(32) {
        let mut parts = range.split(';');
        let media = parts.next().unwrap_or_default().trim();
        let quality = parts.find_map(|part| part.trim().strip_prefix("q=").map(|q| q.trim().parse::<f32>().unwrap_or(0.0)));
        let specific = match media {
            "*/*" => 1,
            "application/*" => 2,
            media if Encoding::of_media_type(media) == Some(encoding) => 3,
            _ => continue,
        };
        if specific >= best.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 1000 before")]
            let quality = (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32;
            best = (specific, quality);
        }
    }
    best.1
}

/// A request, a reply or an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The group of services.
    pub topic: Name,
    /// The service in it.
    pub message: Name,
    /// When its sender wrote it, in milliseconds since 1970, UTC.
    pub timestamp: u64,
    /// Its number in its sender's own stream.
    pub sequence_id: u64,
    /// The request's number, chosen by the client; in a reply, that of the request.
    pub request_id: Option<u64>,
    /// How the request went, in a reply.
    pub response: Option<u16>,
    /// What ties a reply that takes longer to its final one.
    pub pending_id: Option<u64>,
    /// Headers that are not standard; they are kept.
    pub headers: Map<String, Value>,
    /// The body; null where there is none.
    pub body: Value,
}

/// A message that could not be read, with the headers that its sender needs to recognise the reply.
#[derive(Debug)]
pub struct Unreadable {
    /// What is wrong with it.
    pub error: Error,
    /// Its topic, if it has one.
    pub topic: Option<Name>,
    /// Its message, if it has one.
    pub message: Option<Name>,
    /// Its `request-id`, if it has one.
    pub request_id: Option<u64>,
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self { error, topic: None, message: None, request_id: None }
    }
}

impl Message {
    /// Reads a message from bytes.
    ///
    /// # Errors
    ///
    /// What is wrong, naming the header.
    pub fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Self, Box<Unreadable>> {
        let value = encoding.read(bytes).map_err(|error| Box::new(error.into()))?;
        Self::from_value(value)
    }

    /// Reads a message from a value.
    ///
    /// # Errors
    ///
    /// What is wrong, naming the header.
    pub fn from_value(value: Value) -> Result<Self, Box<Unreadable>> {
        let Value::Object(mut members) = value else {
            return Err(Box::new(Error::new(Fault::BadMessage, "a message is an object with headers and a body").into()));
        };
        Self::take(&mut members).map_err(|error| {
            Box::new(Unreadable {
                error,
                topic: name(&members, "topic").ok().flatten(),
                message: name(&members, "message").ok().flatten(),
                request_id: number(&members, "request-id").ok().flatten(),
            })
        })
    }

    /// Takes the headers out of the members; leaves these whole where something is wrong.
    fn take(members: &mut Map<String, Value>) -> Result<Self, Error> {
        let topic = name(members, "topic")?.ok_or_else(|| missing("topic"))?;
        let message = name(members, "message")?.ok_or_else(|| missing("message"))?;
        let timestamp = number(members, "timestamp")?.ok_or_else(|| missing("timestamp"))?;
        let sequence_id = number(members, "sequence-id")?.ok_or_else(|| missing("sequence-id"))?;
        let request_id = number(members, "request-id")?;
        let pending_id = number(members, "pending-id")?;
        let response = number(members, "response")?.map(u16::try_from).transpose();
        let response = response.map_err(|_| Error::header("response", "header response must be a number from 0 to 65535"))?;
        let mut headers = std::mem::take(members);
        for standard in STANDARD {
            headers.remove(standard);
        }
        let body = headers.remove("body").unwrap_or_default();
        if headers.len() > MAX_HEADERS {
            return Err(Error::new(Fault::TooLarge, format!("a message has at most {MAX_HEADERS} headers besides the standard ones")));
        }
        Ok(Self { topic, message, timestamp, sequence_id, request_id, response, pending_id, headers, body })
    }

    /// Returns the `request-id`, which each request has.
    ///
    /// # Errors
    ///
    /// `bad-message` naming the header.
    pub fn number(&self) -> Result<u64, Error> {
        self.request_id.ok_or_else(|| missing("request-id"))
    }

    /// Returns the message as one value.
    #[must_use]
    pub fn into_value(self) -> Value {
        let Self { topic, message, timestamp, sequence_id, request_id, response, pending_id, mut headers, body } = self;
        headers.insert("topic".into(), topic.as_str().into());
        headers.insert("message".into(), message.as_str().into());
        headers.insert("timestamp".into(), timestamp.into());
        headers.insert("sequence-id".into(), sequence_id.into());
        let optional = [("request-id", request_id), ("response", response.map(u64::from)), ("pending-id", pending_id)];
        headers.extend(optional.into_iter().filter_map(|(name, number)| Some((name.into(), number?.into()))));
        if !body.is_null() {
            headers.insert("body".into(), body);
        }
        Value::Object(headers)
    }

    /// Writes the message.
    #[must_use]
    pub fn encode(self, encoding: Encoding) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        match encoding {
            Encoding::Json => serde_json::to_writer(&mut out, &self).expect("a vector takes every byte, and every key is text"),
            Encoding::Xml => xml::write(&self.into_value(), &mut out),
        }
        out
    }
}

/// In the order of the examples, and the body last, for people who read it.
impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", &self.topic)?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        map.serialize_entry("sequence-id", &self.sequence_id)?;
        let optional = [("request-id", self.request_id), ("response", self.response.map(u64::from)), ("pending-id", self.pending_id)];
        for (name, number) in optional {
            if let Some(number) = number {
                map.serialize_entry(name, &number)?;
            }
        }
        for (name, value) in &self.headers {
            map.serialize_entry(name, value)?;
        }
        if !self.body.is_null() {
            map.serialize_entry("body", &self.body)?;
        }
        map.end()
    }
}

const STANDARD: [&str; 7] = ["topic", "message", "timestamp", "sequence-id", "request-id", "response", "pending-id"];

fn missing(header: &str) -> Error {
    Error::header(header, format!("header {header} is missing"))
}

fn name(members: &Map<String, Value>, header: &str) -> Result<Option<Name>, Error> {
    let wrong = |detail: &str| Error::header(header, format!("header {header}: {detail}"));
    match members.get(header) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Name::parse(text).map(Some).map_err(wrong),
        Some(_) => Err(wrong("expected a text")),
    }
}

fn number(members: &Map<String, Value>, header: &str) -> Result<Option<u64>, Error> {
    match members.get(header) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let wrong = || Error::header(header, format!("header {header} must be a whole number, not negative"));
            value.as_u64().map(Some).ok_or_else(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> Value {
        json!({"topic": "tel", "message": "make-call", "timestamp": 1_401_919_283_512_u64, "sequence-id": 26, "request-id": 26,
            "x-trace": {"a": [1]}, "body": {"destination": "501"}})
    }

    #[test]
    fn each_missing_header_is_named() {
        // 004-07
        for header in ["topic", "message", "timestamp", "sequence-id", "request-id"] {
            let mut value = example();
            value.as_object_mut().unwrap().remove(header);
            let error = match Message::from_value(value) {
                Ok(message) => message.number().unwrap_err(),
                Err(unreadable) => unreadable.error,
            };
            assert_eq!(error.header.as_deref(), Some(header));
            assert_eq!(error.fault.response(), 400);
        }
    }

    #[test]
    fn each_wrong_header_is_named_with_what_is_expected() {
        for (header, wrong) in [
            ("topic", json!(1)),
            ("topic", json!("a b")),
            ("message", json!("")),
            ("timestamp", json!("now")),
            ("sequence-id", json!(-1)),
            ("request-id", json!(1.5)),
            ("response", json!(70_000)),
            ("pending-id", json!({})),
        ] {
            let mut value = example();
            value[header] = wrong.clone();
            let unreadable = Message::from_value(value).unwrap_err();
            assert_eq!(unreadable.error.header.as_deref(), Some(header), "{wrong}");
            assert!(unreadable.error.detail.contains("must") || unreadable.error.detail.contains("expected"), "{}", unreadable.error);
        }
    }

    #[test]
    fn what_can_be_read_of_a_wrong_message_is_kept_for_the_reply() {
        let mut value = example();
        value["timestamp"] = json!(null);
        let unreadable = Message::from_value(value).unwrap_err();
        assert_eq!((unreadable.request_id, unreadable.topic.unwrap().as_str()), (Some(26), "tel"));
    }

    #[test]
    fn unknown_headers_are_kept() {
        // 004-09
        let message = Message::from_value(example()).unwrap();
        assert_eq!(message.headers.get("x-trace"), Some(&json!({"a": [1]})));
        assert_eq!(message.clone().into_value(), example());
        for encoding in [Encoding::Json, Encoding::Xml] {
            assert_eq!(Message::decode(encoding, &message.clone().encode(encoding)).unwrap(), message);
        }
        let mut value = example();
        value.as_object_mut().unwrap().extend((0..MAX_HEADERS).map(|n| (format!("h{n}"), json!(n))));
        assert_eq!(Message::from_value(value).unwrap_err().error.fault, Fault::TooLarge);
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_unread() {
        // S9
        let bytes = vec![b' '; MAX_MESSAGE + 1];
        assert_eq!(Message::decode(Encoding::Json, &bytes).unwrap_err().error.fault, Fault::TooLarge);
    }

    #[test]
    fn the_content_type_chooses_the_encoding() {
        let of = |header| Encoding::of_content_type(Some(header));
        assert_eq!(of("application/json; charset=UTF-8"), Ok(Encoding::Json));
        assert_eq!(of("Text/XML"), Ok(Encoding::Xml));
        assert_eq!(Encoding::of_content_type(None), Ok(Encoding::Json));
        for header in ["text/plain", "application/json; charset=latin1", ""] {
            let error = of(header).unwrap_err();
            assert_eq!((error.fault.response(), error.accepted.len()), (415, 2), "{header}");
        }
    }

    #[test]
    fn accept_chooses_the_encoding_of_the_reply() {
        let of = |header| Encoding::of_accept(Some(header), Encoding::Json);
        assert_eq!(of("application/xml"), Ok(Encoding::Xml));
        assert_eq!(of("application/json;q=0.5, application/xml;q=0.9"), Ok(Encoding::Xml));
        assert_eq!(of("*/*"), Ok(Encoding::Json));
        assert_eq!(of("application/json;q=0, */*"), Ok(Encoding::Xml));
        assert_eq!(of("text/html").unwrap_err().fault.response(), 406);
        assert_eq!(Encoding::of_accept(None, Encoding::Xml), Ok(Encoding::Xml));
    }
}
