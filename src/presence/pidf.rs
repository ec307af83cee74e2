//! Presence documents (RFC 3863) with what a person does (RFC 4479, RFC 4480): those that devices publish are read, those that watchers
//! get are written. Reading has bounds: no recursion, no document type and so no entities (S10, S16); unknown elements are passed over.

use bytes::Bytes;
use cas::text::Line;
use cas::topic::presence::{Status, Telephony};
use quick_xml::events::{BytesRef, Event};
use quick_xml::reader::Reader;
use serde::{Deserialize, Serialize};
use sip::Aor;

use super::xml::{push_escaped, push_uri};

/// The content type.
pub const TYPE: &str = "application/pidf+xml";

/// Deepest nesting of a document that is read.
const MAX_DEPTH: usize = 16;

/// What a document says of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Whether one of its tuples is open; none without any.
    pub open: Option<bool>,
    /// What the person does, if that is one of our words.
    pub status: Option<Status>,
    /// A line about it; a longer one is cut, one with control characters is left out.
    pub note: Option<Line>,
}

/// Why a document is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PidfError {
    /// It is not well-formed UTF-8 XML.
    #[error("not well-formed XML")]
    Malformed,
    /// It has a document type, a processing instruction or an entity of its own.
    #[error("a document type, processing instruction or entity")]
    Forbidden,
    /// It nests deeper than anything that means something.
    #[error("nested too deeply")]
    TooDeep,
    /// Its root is not `presence`.
    #[error("no presence document")]
    NotPresence,
}

/// An element that means something, wherever it stands in its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Presence,
    Tuple,
    Status,
    Basic,
    Person,
    Activities,
    Note,
    Other,
}

impl Element {
    /// Reads a local name: documents differ in their prefixes.
    fn parse(local: &str) -> Self {
        match local {
            "presence" => Self::Presence,
            "tuple" => Self::Tuple,
            "status" => Self::Status,
            "basic" => Self::Basic,
            "person" => Self::Person,
            "activities" => Self::Activities,
            "note" => Self::Note,
            _ => Self::Other,
        }
    }
}

/// Reads a document.
///
/// # Errors
/// See [`PidfError`].
pub fn parse(body: &[u8]) -> Result<Document, PidfError> {
    let text = std::str::from_utf8(body).map_err(|_| PidfError::Malformed)?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut reading = Reading::default();
    loop {
        match reader.read_event().map_err(|_| PidfError::Malformed)? {
            Event::Start(start) => reading.open(start.local_name().as_ref())?,
            Event::Empty(start) => {
                reading.open(start.local_name().as_ref())?;
                reading.close();
            }
            Event::End(_) => reading.close(),
            Event::Text(part) => reading.text(&part.xml10_content()),
            Event::CData(part) => reading.text(&part.xml10_content()),
            Event::GeneralRef(reference) => reading.text(resolve(&reference)?.encode_utf8(&mut [0; 4])),
            Event::Decl(_) | Event::Comment(_) => {}
            Event::PI(_) | Event::DocType(_) => return Err(PidfError::Forbidden),
            Event::Eof if reading.stack.is_empty() && reading.is_presence => return Ok(reading.document),
            Event::Eof if reading.stack.is_empty() => return Err(PidfError::NotPresence),
            Event::Eof => return Err(PidfError::Malformed),
        }
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, PidfError> {
    if let Some(c) = reference.resolve_char_ref().map_err(|_| PidfError::Malformed)? {
        return Ok(c);
    }
    match &**reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(PidfError::Forbidden),
    }
}

#[derive(Default)]
struct Reading {
    stack: Vec<Element>,
    is_presence: bool,
    /// Text of the innermost `basic` or `note`.
    text: String,
    document: Document,
}

impl Reading {
    fn open(&mut self, local: &str) -> Result<(), PidfError> {
        if self.stack.len() == MAX_DEPTH {
            return Err(PidfError::TooDeep);
        }
        let element = Element::parse(local);
        match self.stack.last() {
            None if self.is_presence || element != Element::Presence => return Err(PidfError::NotPresence),
            None => self.is_presence = true,
            Some(Element::Activities) => self.document.status = self.document.status.max(activity(local)),
            Some(_) => {}
        }
        self.text.clear();
        self.stack.push(element);
        Ok(())
    }

    fn text(&mut self, part: &str) {
        if matches!(self.stack.last(), Some(Element::Basic | Element::Note)) {
            self.text.push_str(part);
        }
    }

    fn close(&mut self) {
        let closed = self.stack.pop();
        match (closed, self.stack.last()) {
            (Some(Element::Basic), Some(Element::Status)) => {
                let open = match self.text.trim() {
                    "open" => Some(true),
                    "closed" => Some(false),
                    _ => None,
                };
                self.document.open = self.document.open.max(open);
            }
            (Some(Element::Note), Some(Element::Person | Element::Tuple | Element::Presence | Element::Activities)) => {
                let line: String = self.text.trim().chars().take(Line::LONGEST).collect();
                self.document.note = self.document.note.take().or_else(|| Line::parse(&line).ok());
            }
            _ => {}
        }
        self.text.clear();
    }
}

/// The word for an activity (RFC 4480 §3.2, and `dnd` of phones); of several the one that keeps most callers away counts.
fn activity(local: &str) -> Option<Status> {
    match local {
        "away" | "meal" | "lunch" | "dinner" | "breakfast" | "sleeping" | "travel" | "in-transit" => Some(Status::Away),
        "busy" | "meeting" | "appointment" | "presentation" | "performance" | "on-the-phone" => Some(Status::Busy),
        "dnd" | "do-not-disturb" => Some(Status::DoNotDisturb),
        "vacation" | "holiday" | "permanent-absence" => Some(Status::OutOfOffice),
        _ => None,
    }
}

/// Writes the document of a user.
#[must_use]
pub fn print(aor: &Aor, open: bool, presence: &cas::topic::presence::Presence) -> Bytes {
    let mut text = String::with_capacity(640);
    text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\"");
    text.push_str(" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"");
    push_uri(&mut text, aor);
    text.push_str("\"><tuple id=\"devices\"><status><basic>");
    text.push_str(if open { "open" } else { "closed" });
    text.push_str("</basic></status><contact>");
    push_uri(&mut text, aor);
    text.push_str("</contact></tuple>");
    let activities = activities(presence);
    if !activities.is_empty() || presence.note.is_some() {
        text.push_str("<dm:person id=\"person\">");
        if !activities.is_empty() {
            text.push_str("<rpid:activities>");
            activities.iter().for_each(|activity| text.push_str(activity));
            text.push_str("</rpid:activities>");
        }
        if let Some(note) = &presence.note {
            text.push_str("<dm:note>");
            push_escaped(&mut text, note.as_str());
            text.push_str("</dm:note>");
        }
        text.push_str("</dm:person>");
    }
    text.push_str("</presence>\r\n");
    text.into()
}

fn activities(presence: &cas::topic::presence::Presence) -> Vec<&'static str> {
    let mut activities = Vec::new();
    match presence.telephony {
        Some(Telephony::OnCall | Telephony::OnHold) => activities.push("<rpid:on-the-phone/>"),
        Some(Telephony::Idle | Telephony::Ringing | Telephony::Offline) | None => {}
    }
    match presence.status {
        Some(Status::Away) => activities.push("<rpid:away/>"),
        // RFC 4480 has no word of its own for the second
        Some(Status::Busy | Status::DoNotDisturb) => activities.push("<rpid:busy/>"),
        Some(Status::OutOfOffice) => activities.extend(["<rpid:away/>", "<rpid:vacation/>"]),
        Some(Status::Available) | None => {}
    }
    activities
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<presence xmlns='urn:ietf:params:xml:ns:pidf' xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model' \
                        xmlns:r='urn:ietf:params:xml:ns:pidf:rpid' entity='sip:a@h'>";

    fn read(inner: &str) -> Result<Document, PidfError> {
        parse(format!("{HEAD}{inner}</presence>").as_bytes())
    }

    fn presence(telephony: Telephony, status: Option<Status>, note: Option<&str>) -> cas::topic::presence::Presence {
        let note = note.map(|note| Line::parse(note).unwrap());
        let (im, mobile, most_available, semi_available) = (None, None, None, None);
        cas::topic::presence::Presence { telephony: Some(telephony), im, mobile, status, note, most_available, semi_available }
    }

    #[test]
    fn status_activity_and_note_are_read_whatever_the_prefixes() {
        let document = read(
            "<tuple id='1'><status><basic> open </basic></status></tuple><tuple id='2'><status><basic>closed</basic></status></tuple>\
             <!-- x --><dm:person id='p'><r:activities><r:away/><r:busy/></r:activities><dm:note>a &amp; b&#33;</dm:note></dm:person>",
        );
        let note = Line::parse("a & b!").ok();
        assert_eq!(document, Ok(Document { open: Some(true), status: Some(Status::Busy), note }));
        assert_eq!(read(""), Ok(Document::default()));
        assert_eq!(read("<note><![CDATA[<lunch>]]></note>").unwrap().note, Line::parse("<lunch>").ok());
    }

    #[test]
    fn elements_in_other_places_mean_nothing() {
        for inner in ["<basic>open</basic>", "<tuple><basic>open</basic></tuple>", "<away/>", "<tuple><x><note>n</note></x></tuple>"] {
            assert_eq!(read(inner), Ok(Document::default()), "{inner}");
        }
        assert_eq!(read("<tuple><status><basic>open<x/></basic></status></tuple>").unwrap().open, None);
    }

    #[test]
    fn a_long_note_is_cut_and_one_with_control_characters_is_left_out() {
        let note = read(&format!("<note>{}</note>", "x".repeat(1000))).unwrap().note.unwrap();
        assert_eq!(note.as_str().len(), Line::LONGEST);
        assert_eq!(read("<note>a&#13;&#10;Via: b</note>").unwrap().note, None);
    }

    #[test]
    fn what_is_no_plain_presence_document_is_refused() {
        // S10, S16
        let deep = format!("{}{}", "<a>".repeat(16), "</a>".repeat(16));
        for (body, error) in [
            ("", PidfError::NotPresence),
            ("<html/>", PidfError::NotPresence),
            ("<presence/><presence/>", PidfError::NotPresence),
            ("<presence>", PidfError::Malformed),
            ("<presence></tuple></presence>", PidfError::Malformed),
            ("<presence><note>&#xFFFFFFFF;</note></presence>", PidfError::Malformed),
            ("<!DOCTYPE presence [<!ENTITY a \"b\">]><presence/>", PidfError::Forbidden),
            ("<presence><note>&a;</note></presence>", PidfError::Forbidden),
            ("<?php x?><presence/>", PidfError::Forbidden),
            (&*format!("<presence>{deep}</presence>"), PidfError::TooDeep),
        ] {
            assert_eq!(parse(body.as_bytes()), Err(error), "{body}");
        }
        assert_eq!(parse(b"<presence>\xFF</presence>"), Err(PidfError::Malformed));
    }

    #[test]
    fn what_we_print_reads_the_same() {
        let aor = Aor::new("o'neil&co", "h").unwrap();
        for status in Status::ALL.iter().copied().map(Some).chain([None]) {
            for open in [true, false] {
                let printed = print(&aor, open, &presence(Telephony::Idle, status, Some("<\"5 > 3\">")));
                let expected = match status {
                    Some(Status::Available) => None,
                    Some(Status::DoNotDisturb) => Some(Status::Busy),
                    other => other,
                };
                let note = Line::parse("<\"5 > 3\">").ok();
                assert_eq!(parse(&printed), Ok(Document { open: Some(open), status: expected, note }));
            }
        }
    }

    #[test]
    fn a_call_shows_as_on_the_phone() {
        let aor = Aor::new("ann", "h").unwrap();
        for (telephony, shows) in
            [(Telephony::Idle, false), (Telephony::Ringing, false), (Telephony::OnCall, true), (Telephony::OnHold, true)]
        {
            let printed = String::from_utf8(print(&aor, true, &presence(telephony, None, None)).to_vec()).unwrap();
            assert_eq!(printed.contains("<rpid:on-the-phone/>"), shows);
        }
    }

    #[test]
    fn no_body_makes_it_panic() {
        // S9, S10
        let seeds: Vec<Vec<u8>> = [
            print(&Aor::new("ann", "h").unwrap(), true, &presence(Telephony::OnCall, Some(Status::OutOfOffice), Some("a & b"))).to_vec(),
            format!("{HEAD}<tuple id='1'><status><basic>open</basic></status><note>&#33;<![CDATA[x]]></note></tuple></presence>")
                .into_bytes(),
            b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><presence><!-- - --><?p i?>&b;</presence>".to_vec(),
        ]
        .into();
        const WORDS: &[&[u8]] = &[
            b"<presence>",
            b"</presence>",
            b"<basic>",
            b"<activities>",
            b"<away/>",
            b"&amp;",
            b"&#0;",
            b"<!DOCTYPE ",
            b"]]>",
            b"<![CDATA[",
        ];
        let (mut random, mut input, mut read) = (fuzz::mutate::Random(7), Vec::new(), 0);
        for _ in 0..50_000 {
            let (Some(one), Some(other)) = (random.choose(&seeds), random.choose(&seeds)) else { unreachable!("there are seeds") };
            fuzz::mutate::mutate(&mut random, WORDS, one, other, &mut input);
            read += u32::from(parse(&input).is_ok());
        }
        assert!(read > 1000, "nothing deep was tried: {read}");
    }
}
