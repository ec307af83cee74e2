//! Fuzz target `pidf`: what devices publish. It stands here because it needs the switch itself, which the crate `fuzz` does not know;
//! `fuzz/fuzz_targets/pidf.rs` wraps it for libFuzzer.

use cas::text::Line;
use cas::topic::presence::Presence;
use sip::Aor;
use tandem::presence::pidf;

/// Reads a document; what is read of one is written, and read again as the same. True where it was accepted.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(read) = pidf::parse(data) else { return false };
    assert!(read.note.as_ref().is_none_or(|note| Line::parse(note.as_str()).is_ok()), "a note is one line");
    let presence = Presence {
        telephony: None,
        im: None,
        mobile: None,
        status: read.status,
        note: read.note.clone(),
        most_available: None,
        semi_available: None,
    };
    let aor = Aor::new("ann", "tandem.test").expect("an AOR");
    let again = pidf::parse(&pidf::print(&aor, read.open == Some(true), &presence)).expect("what we write we read");
    assert_eq!(again.open, Some(read.open == Some(true)));
    assert_eq!(again.note.as_ref().map(Line::as_str), read.note.as_ref().map(|note| note.as_str().trim()).filter(|note| !note.is_empty()));
    true
}

/// Words of such documents.
pub(crate) const DICTIONARY: &[&[u8]] = &[
    b"<presence>",
    b"</presence>",
    b"<tuple id='a'>",
    b"<status>",
    b"<basic>open</basic>",
    b"<dm:person>",
    b"<rpid:activities>",
    b"<rpid:busy/>",
    b"<note>",
    b"</note>",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"<?xml version='1.0'?>",
    b"&amp;",
    b"&#x0;",
    b"&#10;",
    b"&b;",
    b"xmlns:dm='urn:x'",
];
