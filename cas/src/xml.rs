//! XML 1.0 to values and back, lossless for every JSON value. Bounded nesting (S10); no document type, so no entities (S16); it knows
//! nothing of messages.
//!
//! An element has a `type`: `string`, `number`, `boolean`, `null`, `object` or `array`; without one it is an object if it has
//! elements, else a string. A member whose name is no XML name is `<_ key="…">`. A text with characters that XML cannot hold is
//! written as a JSON string: in an element of type `json-string`, in the attribute `key-json`.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::{Map, Value};

use crate::error::{Error, Fault};
use crate::json::MAX_DEPTH;

/// Name of the root element.
const ROOT: &str = "cas";

/// Most attributes of an element. More are refused.
const MAX_ATTRIBUTES: usize = 16;

/// Headers that are numbers although a client that writes XML by hand gives them no type.
const NUMBERS: [&str; 5] = ["timestamp", "sequence-id", "request-id", "response", "pending-id"];

/// Reads one document.
///
/// # Errors
///
/// `bad-message` where the bytes are no XML of this form, nest deeper than [`MAX_DEPTH`], or have a document type.
pub fn read(bytes: &[u8]) -> Result<Value, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| refusal("not UTF-8"))?;
    let mut parser = Parser { reader: Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) };
    parser.document()
}

/// Appends a document.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    let mut text = String::new();
    write_element(ROOT, value, &mut text);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the members of an object as elements, for a document that is put together from parts.
pub(crate) fn write_members<'a>(members: impl IntoIterator<Item = (&'a str, &'a Value)>, out: &mut String) {
    for (name, value) in members {
        write_element(name, value, out);
    }
}

fn refusal(detail: impl std::fmt::Display) -> Error {
    Error::new(Fault::BadMessage, format!("not XML that is taken here: {detail}"))
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
}

/// What an element says of itself.
struct Tag {
    key: String,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    JsonString,
    Number,
    Boolean,
    Null,
    Object,
    Array,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Result<Event<'a>, Error> {
        self.reader.read_event().map_err(refusal)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else the reader knows is refused")]
    fn document(&mut self) -> Result<Value, Error> {
        let value = loop {
            match self.next()? {
                Event::Decl(_) | Event::Comment(_) => {}
                Event::Text(text) if is_blank(&text) => {}
                Event::Start(start) => break self.element(&root(&start)?, MAX_DEPTH)?,
                Event::Empty(start) => break empty(&root(&start)?)?,
                other => return Err(unexpected(&other)),
            }
        };
        loop {
            match self.next()? {
                Event::Eof => return Ok(value),
                Event::Comment(_) => {}
                Event::Text(text) if is_blank(&text) => {}
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Reads the content of an element up to its end tag.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else the reader knows is refused")]
    fn element(&mut self, tag: &Tag, depth: usize) -> Result<Value, Error> {
        let mut text = String::new();
        let mut children: Vec<(String, Value)> = Vec::new();
        loop {
            match self.next()? {
                Event::Start(start) => {
                    let inner = depth.checked_sub(1).filter(|depth| *depth > 0);
                    let inner = inner.ok_or_else(|| refusal(format!("nested deeper than {MAX_DEPTH}")))?;
                    let child = tag_of(&start, depth == MAX_DEPTH)?;
                    let value = self.element(&child, inner)?;
                    children.push((child.key, value));
                }
                Event::Empty(start) => {
                    let child = tag_of(&start, depth == MAX_DEPTH)?;
                    let value = empty(&child)?;
                    children.push((child.key, value));
                }
                Event::Text(part) => text.push_str(&part.xml10_content()),
                Event::CData(part) => text.push_str(&part.xml10_content()),
                Event::GeneralRef(reference) => text.push(resolve(&reference)?),
                Event::Comment(_) => {}
                Event::End(_) => return value(tag, text, children),
                other => return Err(unexpected(&other)),
            }
        }
    }
}

fn is_blank(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' ' | '\t' | '\r' | '\n'))
}

fn unexpected(event: &Event<'_>) -> Error {
    refusal(match event {
        Event::DocType(_) => "a document type is not allowed",
        Event::PI(_) => "a processing instruction is not allowed",
        Event::Eof => "the document ends too early",
        Event::Start(_) | Event::Empty(_) => "a second root element",
        Event::End(_) => "an end tag without a start tag",
        Event::Decl(_) => "an XML declaration inside the document",
        Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) | Event::Comment(_) => "text outside the root element",
    })
}

fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, Error> {
    if let Some(c) = reference.resolve_char_ref().map_err(refusal)? {
        return is_xml(c).then_some(c).ok_or_else(|| refusal("a character that XML does not allow"));
    }
    match &**reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(refusal("an entity other than amp, lt, gt, quot and apos")),
    }
}

fn root(start: &BytesStart<'_>) -> Result<Tag, Error> {
    let tag = tag_of(start, false)?;
    if start.name().as_ref() != ROOT {
        return Err(refusal("the root element must be <cas>"));
    }
    Ok(tag)
}

fn tag_of(start: &BytesStart<'_>, is_header: bool) -> Result<Tag, Error> {
    let mut tag = Tag { key: start.name().as_ref().to_owned(), kind: None };
    let mut attributes = start.attributes();
    // The check for doubles compares each with each; ours is by the few names that count.
    let attributes = attributes.with_checks(false);
    let (mut kinds, mut keys) = (0, 0);
    for (count, attribute) in attributes.enumerate() {
        let attribute = attribute.map_err(refusal)?;
        if count == MAX_ATTRIBUTES {
            return Err(refusal(format!("more than {MAX_ATTRIBUTES} attributes")));
        }
        let text = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(refusal)?;
        match attribute.key.as_ref() {
            "type" => {
                kinds += 1;
                tag.kind = Some(kind(&text)?);
            }
            "key" => {
                keys += 1;
                tag.key = text.into_owned();
            }
            "key-json" => {
                keys += 1;
                tag.key = serde_json::from_str(&text).map_err(refusal)?;
            }
            _ => {}
        }
    }
    if kinds > 1 || keys > 1 {
        return Err(refusal("an attribute twice in one element"));
    }
    if is_header && tag.kind.is_none() && NUMBERS.contains(&tag.key.as_str()) {
        tag.kind = Some(Kind::Number);
    }
    Ok(tag)
}

fn kind(text: &str) -> Result<Kind, Error> {
    Ok(match text {
        "string" => Kind::String,
        "json-string" => Kind::JsonString,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        "null" => Kind::Null,
        "object" => Kind::Object,
        "array" => Kind::Array,
        _ => return Err(refusal("a type other than string, json-string, number, boolean, null, object and array")),
    })
}

fn empty(tag: &Tag) -> Result<Value, Error> {
    value(tag, String::new(), Vec::new())
}

fn value(tag: &Tag, text: String, children: Vec<(String, Value)>) -> Result<Value, Error> {
    let kind = tag.kind.unwrap_or(if children.is_empty() { Kind::String } else { Kind::Object });
    let (holds_elements, holds_text) = match kind {
        Kind::Object | Kind::Array => (true, false),
        Kind::Null => (false, false),
        Kind::String | Kind::JsonString | Kind::Number | Kind::Boolean => (false, true),
    };
    if !holds_elements && !children.is_empty() {
        return Err(refusal("elements inside an element of a type that holds none"));
    }
    if !holds_text && !is_blank(&text) {
        return Err(refusal("text inside an element of a type that holds none"));
    }
    Ok(match kind {
        Kind::String => Value::String(text),
        Kind::JsonString => Value::String(serde_json::from_str(text.trim()).map_err(refusal)?),
        Kind::Number => Value::Number(serde_json::from_str(text.trim()).map_err(|_| refusal("a number that is none"))?),
        Kind::Boolean => Value::Bool(serde_json::from_str(text.trim()).map_err(|_| refusal("a boolean must be true or false"))?),
        Kind::Null => Value::Null,
        Kind::Array => Value::Array(children.into_iter().map(|(_, value)| value).collect()),
        Kind::Object => {
            let mut object = Map::new();
            for (key, value) in children {
                if object.contains_key(&key) {
                    return Err(refusal("a member twice in one object"));
                }
                object.insert(key, value);
            }
            Value::Object(object)
        }
    })
}

fn write_element(key: &str, value: &Value, out: &mut String) {
    let name = if is_name(key) { key } else { "_" };
    out.push('<');
    out.push_str(name);
    if name != key || key == "_" {
        let plain = key.chars().all(is_xml);
        out.push_str(if plain { " key=\"" } else { " key-json=\"" });
        escape(&if plain { key.into() } else { json_string(key) }, out);
        out.push('"');
    }
    match value {
        Value::Null => return out.push_str(" type=\"null\"/>"),
        Value::Bool(value) => out.push_str(if *value { " type=\"boolean\">true" } else { " type=\"boolean\">false" }),
        Value::Number(number) => {
            out.push_str(" type=\"number\">");
            out.push_str(&number.to_string());
        }
        Value::String(text) if text.chars().all(is_xml) => {
            // Without its type a reader would take it for a number.
            out.push_str(if NUMBERS.contains(&key) { " type=\"string\">" } else { ">" });
            escape(text, out);
        }
        Value::String(text) => {
            out.push_str(" type=\"json-string\">");
            escape(&json_string(text), out);
        }
        Value::Array(items) => {
            out.push_str(" type=\"array\">");
            write_members(items.iter().map(|item| ("item", item)), out);
        }
        Value::Object(members) => {
            out.push_str(" type=\"object\">");
            write_members(members.iter().map(|(key, value)| (key.as_str(), value)), out);
        }
    }
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Returns whether a text can be an element's name; only ASCII ones are used, though XML has more.
fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(first)
        && text.len() <= 128
        && text.chars().all(|c| first(c) || c.is_ascii_digit() || matches!(c, '-' | '.'))
        && !text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("xml"))
}

/// Returns whether XML 1.0 has the character (production 2).
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Appends a text for an element or an attribute. Line breaks are written as references: a reader would change them (§2.11, §3.3.3).
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\u{85}' => out.push_str("&#133;"),
            '\u{2028}' => out.push_str("&#8232;"),
            _ => out.push(c),
        }
    }
}

/// Returns a text as a JSON string in which every character that XML does not have is escaped.
fn json_string(text: &str) -> String {
    let json = Value::from(text).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_xml(c) { out.push(c) } else { out.push_str(&format!("\\u{:04x}", u32::from(c))) }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(value: &Value) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        let value = json!({
            "text": "a < b & \"c\"\r\n\t ]]> \u{85}\u{2028}", "empty": "", "blank": "  ", "null": null, "yes": true, "no": false,
            "int": 18_446_744_073_709_551_615_u64, "negative": -5, "float": 1.0, "tiny": 5e-324, "list": [1, "a", [], {}, null],
            "object": {}, "_": 1, "": 2, "a b": 3, "1a": 4, "xmlish": 5, "nul\u{0}": "\u{0}\u{fffe}\\", "é": "é", "key\n": "x",
        });
        assert_eq!(read(written(&value).as_bytes()).unwrap(), value, "{}", written(&value));
    }

    #[test]
    fn a_text_in_the_place_of_a_number_stays_a_text() {
        let value = json!({"timestamp": "abc", "request-id": "7", "body": {"response": "x"}});
        assert_eq!(read(written(&value).as_bytes()).unwrap(), value);
    }

    #[test]
    fn a_document_written_by_hand_needs_few_types() {
        let text = b"<?xml version='1.0'?>\n<cas>\n <topic>tel</topic> <sequence-id>26</sequence-id>\n <body><destination>501</destination></body>\n</cas>\n";
        assert_eq!(read(text).unwrap(), json!({"topic": "tel", "sequence-id": 26, "body": {"destination": "501"}}));
    }

    #[test]
    fn a_document_type_or_an_entity_is_refused() {
        // S16
        let bomb = br#"<!DOCTYPE cas [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><cas><topic>&b;</topic></cas>"#;
        assert!(read(bomb).unwrap_err().detail.contains("document type"));
        assert!(read(br#"<!DOCTYPE cas SYSTEM "file:///etc/passwd"><cas/>"#).is_err());
        assert!(read(b"<cas><topic>&b;</topic></cas>").unwrap_err().detail.contains("entity"));
        assert!(read(b"<cas><_ key=\"&b;\">x</_></cas>").is_err());
        assert!(read(b"<cas><?php x?></cas>").is_err());
        assert!(read(b"<cas>&#0;</cas>").is_err());
    }

    #[test]
    fn nesting_stops_at_the_limit() {
        // S10
        let nested = |depth: usize| format!("<cas>{}{}</cas>", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(read(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(read(nested(MAX_DEPTH).as_bytes()).unwrap_err().detail.contains("nested deeper"));
        assert!(read(format!("<cas>{}", "<a>".repeat(100_000)).as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_such_document_is_refused() {
        for text in [
            "",
            "x",
            "<cas>",
            "<cas></cas",
            "<a/>",
            "<cas/><cas/>",
            "<cas>x<a/></cas>",
            "<cas type='number'>x</cas>",
            "<cas type='b'/>",
            "<cas type='null'>x</cas>",
            "<cas><a/><a/></cas>",
            "<cas type='string'><a/></cas>",
            "<cas></b>",
            "<cas type='string' type='null'/>",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn many_attributes_are_refused_before_they_cost_anything() {
        let text = format!("<cas {}/>", "a='' ".repeat(100_000));
        assert!(read(text.as_bytes()).unwrap_err().detail.contains("attributes"));
    }
}
