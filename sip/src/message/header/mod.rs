//! `Headers`: the header section of one message, order and unknown headers kept, and the table of typed headers.
//!
//! A parsed message keeps its header section in the datagram it came in; an entry is a pair of spans. Headers added later live in a
//! second buffer. A typed header is parsed when it is asked for ([`Headers::typed`], [`Headers::list`]).

pub mod auth;
pub mod cseq;
pub mod event;
pub mod name;
pub mod name_addr;
pub mod params;
mod quoted;
pub mod rack;
pub mod reason;
pub mod refer_to;
pub mod referred_by;
pub mod replaces;
pub mod session_expires;
pub mod target_dialog;
pub mod via;

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

pub use cseq::CSeq;
pub use event::Event;
pub use name::Name;
pub use name_addr::NameAddr;
pub use params::Params;
use quoted::Found;
pub use rack::RAck;
pub use reason::Reason;
pub use refer_to::ReferTo;
pub use referred_by::ReferredBy;
pub use replaces::Replaces;
pub use session_expires::{Refresher, SessionExpires};
pub use target_dialog::TargetDialog;
pub use via::Via;

/// A header that is parsed into a type.
pub trait Header: Sized {
    /// Reads one value: a whole row, or one element of a comma-separated row.
    fn parse(text: &ByteString) -> Option<Self>;
}

/// Why a header could not be read; becomes a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The header is not there.
    #[error("no {} header", .0.as_str())]
    Missing(Name),
    /// The header does not follow its grammar, or has several values where one is allowed.
    #[error("malformed {} header", .0.as_str())]
    Malformed(Name),
}

#[derive(Clone, Copy)]
struct Entry {
    name: Name,
    added: bool,
    name_len: u16,
    name_at: u32,
    at: u32,
    len: u32,
}

/// The headers of a message.
#[derive(Clone, Default)]
pub struct Headers {
    received: Bytes,
    added: Vec<u8>,
    entries: SmallVec<[Entry; 20]>,
}

impl Headers {
    /// Most header rows of one message; a message with more is refused as malformed.
    pub const MAX: usize = 160;
    /// Most elements that are read of one list header; further ones make the list malformed.
    pub const MAX_LIST: usize = 64;

    pub(crate) fn over(received: Bytes) -> Self {
        Self { received, added: Vec::new(), entries: SmallVec::new() }
    }

    /// Adds a row of the received buffer. False when the table is full or an offset does not fit.
    pub(crate) fn index(&mut self, name: (usize, usize), value: (usize, usize)) -> bool {
        let Some(text) = self.received.get(name.0..name.1) else { return false };
        let (Ok(name_len), Ok(name_at)) = (u16::try_from(text.len()), u32::try_from(name.0)) else { return false };
        let (Ok(at), Ok(len)) = (u32::try_from(value.0), u32::try_from(value.1.saturating_sub(value.0))) else { return false };
        if self.entries.len() == Self::MAX {
            return false;
        }
        self.entries.push(Entry { name: Name::parse(text), added: false, name_len, name_at, at, len });
        true
    }

    fn slice(&self, added: bool, at: u32, len: usize) -> &[u8] {
        let buffer: &[u8] = if added { &self.added } else { &self.received };
        buffer.get(at as usize..at as usize + len).unwrap_or(b"")
    }

    fn value(&self, entry: &Entry) -> &[u8] {
        self.slice(entry.added, entry.at, entry.len as usize)
    }

    /// Returns the value as text: a slice of the received datagram where that is UTF-8, else a copy with the bad bytes replaced.
    fn text(&self, entry: &Entry) -> ByteString {
        let bytes = self.value(entry);
        if !entry.added
            && let Ok(text) = ByteString::try_from(self.received.slice_ref(bytes))
        {
            return text;
        }
        String::from_utf8_lossy(bytes).into_owned().into()
    }

    fn rows(&self, name: Name) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.name == name)
    }

    /// Returns the value of the first row of that name, as it came, without the white space around it.
    #[must_use]
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        self.rows(name).next().map(|entry| self.value(entry))
    }

    /// Returns the first row of that name as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn get_text(&self, name: Name) -> Option<ByteString> {
        self.rows(name).next().map(|entry| self.text(entry))
    }

    /// Returns the text of a header that stands once.
    pub(crate) fn single(&self, name: Name) -> Option<ByteString> {
        let mut rows = self.rows(name);
        let entry = rows.next()?;
        rows.next().is_none().then(|| self.text(entry))
    }

    /// Returns the values of all rows of that name.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.rows(name).map(|entry| self.value(entry))
    }

    /// Returns the first row of a header we have no variant for.
    #[must_use]
    pub fn other(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Returns true if there is a row of that name.
    #[must_use]
    pub fn has(&self, name: Name) -> bool {
        self.rows(name).next().is_some()
    }

    /// Returns each row's name (full form where we know it) and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| (self.name(entry), self.value(entry)))
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        if entry.name == Name::Other {
            return self.slice(entry.added, entry.name_at, usize::from(entry.name_len));
        }
        entry.name.as_str().as_bytes()
    }

    /// Returns the only value of a header that may stand once.
    ///
    /// # Errors
    /// Missing, malformed, or more than one row of it.
    pub fn typed<H: Header>(&self, name: Name) -> Result<H, HeaderError> {
        self.optional(name)?.ok_or(HeaderError::Missing(name))
    }

    /// Returns the only value of a header that may stand once, or none.
    ///
    /// # Errors
    /// Malformed, or more than one row of it.
    pub fn optional<H: Header>(&self, name: Name) -> Result<Option<H>, HeaderError> {
        let mut rows = self.rows(name);
        let Some(entry) = rows.next() else { return Ok(None) };
        if rows.next().is_some() {
            return Err(HeaderError::Malformed(name));
        }
        H::parse(&self.text(entry)).map(Some).ok_or(HeaderError::Malformed(name))
    }

    /// Returns the first element of a list header.
    ///
    /// # Errors
    /// Missing or malformed.
    pub fn first<H: Header>(&self, name: Name) -> Result<H, HeaderError> {
        let entry = self.rows(name).next().ok_or(HeaderError::Missing(name))?;
        let text = self.text(entry);
        let (item, _) = split_item(&text).ok_or(HeaderError::Malformed(name))?;
        H::parse(&text.slice_ref(item)).ok_or(HeaderError::Malformed(name))
    }

    /// Returns every element of a list header, over all its rows.
    ///
    /// # Errors
    /// An element is malformed or empty, or there are more than [`Headers::MAX_LIST`].
    pub fn list<H: Header>(&self, name: Name) -> Result<Vec<H>, HeaderError> {
        let mut items = Vec::new();
        for entry in self.rows(name) {
            let text = self.text(entry);
            let mut rest = Some(&*text);
            while let Some(now) = rest {
                let (item, tail) = split_item(now).ok_or(HeaderError::Malformed(name))?;
                let item = H::parse(&text.slice_ref(item)).ok_or(HeaderError::Malformed(name))?;
                if items.len() == Self::MAX_LIST {
                    return Err(HeaderError::Malformed(name));
                }
                items.push(item);
                rest = tail;
            }
        }
        Ok(items)
    }

    /// Returns the elements of a header that is a list of tokens, such as Allow or Require, over all its rows.
    pub fn tokens(&self, name: Name) -> impl Iterator<Item = &str> {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|token| !token.is_empty())
    }

    /// Returns true if a header that is a list of tokens has that token, in any case.
    #[must_use]
    pub fn has_token(&self, name: Name, token: &str) -> bool {
        self.tokens(name).any(|t| t.eq_ignore_ascii_case(token))
    }

    /// Returns the number in a header such as Expires, Max-Forwards or RSeq; parameters behind it are passed over.
    ///
    /// # Errors
    /// More than one row, not a decimal, or above 2³²-1.
    pub fn number(&self, name: Name) -> Result<Option<u32>, HeaderError> {
        let mut rows = self.rows(name);
        let Some(entry) = rows.next() else { return Ok(None) };
        let text = std::str::from_utf8(self.value(entry)).unwrap_or("");
        let digits = text.split([';', '(']).next().unwrap_or("").trim();
        match params::decimal(digits) {
            Some(number) if rows.next().is_none() => Ok(Some(number)),
            _ => Err(HeaderError::Malformed(name)),
        }
    }

    /// Returns the Call-ID.
    ///
    /// # Errors
    /// Missing, more than one, empty, or with white space in it.
    pub fn call_id(&self) -> Result<ByteString, HeaderError> {
        let mut rows = self.rows(Name::CallId);
        let entry = rows.next().ok_or(HeaderError::Missing(Name::CallId))?;
        let text = self.text(entry);
        let valid = !text.is_empty() && text.len() <= 1024 && rows.next().is_none() && text.bytes().all(|b| b.is_ascii_graphic());
        if valid { Ok(text) } else { Err(HeaderError::Malformed(Name::CallId)) }
    }

    fn append(&mut self, name: Name, text: &str, value: &[u8]) -> Entry {
        if self.added.is_empty() {
            self.added.reserve(256); // one allocation for what a proxy adds
        }
        let name_at = self.added.len();
        self.added.extend_from_slice(text.as_bytes());
        let at = self.added.len();
        self.added.extend_from_slice(value);
        let span = |n: usize| u32::try_from(n).expect("a message we build stays far below 4 GiB");
        Entry {
            name,
            added: true,
            name_len: u16::try_from(text.len()).expect("header names we write are short"),
            name_at: span(name_at),
            at: span(at),
            len: span(value.len()),
        }
    }

    /// As `append`, for a value of ours or of an application: none can start a new header line (S7).
    fn append_clean(&mut self, name: Name, text: &str, value: &[u8]) -> Entry {
        let entry = self.append(name, text, value);
        let copy = self.added.get_mut(entry.at as usize..).unwrap_or_default();
        copy.iter_mut().filter(|b| matches!(b, b'\r' | b'\n' | 0)).for_each(|b| *b = b' ');
        entry
    }

    /// Adds a row at the end. CR, LF and NUL in the value become spaces.
    pub fn push(&mut self, name: Name, value: impl AsRef<[u8]>) {
        let entry = self.append_clean(name, "", value.as_ref());
        self.entries.push(entry);
    }

    /// Adds a row before all others.
    pub fn push_front(&mut self, name: Name, value: impl AsRef<[u8]>) {
        let entry = self.append_clean(name, "", value.as_ref());
        self.entries.insert(0, entry);
    }

    /// Adds a row of a header that has no variant.
    ///
    /// # Panics
    /// When the name is no token: names come from our code or were checked at the API.
    pub fn push_other(&mut self, name: &str, value: impl AsRef<[u8]>) {
        assert!(super::is_token(name), "a header name is a token");
        let entry = self.append_clean(Name::parse(name.as_bytes()), name, value.as_ref());
        self.entries.push(entry);
    }

    /// Removes every row of that name.
    pub fn remove(&mut self, name: Name) {
        self.entries.retain(|entry| entry.name != name);
    }

    /// Removes every row of a name that no variant stands for, in any case.
    pub fn remove_other(&mut self, name: &str) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| entry.name != Name::Other || !self.name(entry).eq_ignore_ascii_case(name.as_bytes()));
        self.entries = entries;
    }

    /// Replaces the rows of that name by one, in the place of the first, or at the end.
    pub fn set(&mut self, name: Name, value: impl AsRef<[u8]>) {
        let new = self.append_clean(name, "", value.as_ref());
        self.replace(name, new);
    }

    /// As `set`, for a value that is taken from a parsed header and may hold an escaped NUL.
    pub(crate) fn set_received(&mut self, name: Name, value: &[u8]) {
        let new = self.append(name, "", value);
        self.replace(name, new);
    }

    fn replace(&mut self, name: Name, new: Entry) {
        match self.entries.iter().position(|entry| entry.name == name) {
            Some(at) => {
                self.remove(name);
                self.entries.insert(at.min(self.entries.len()), new);
            }
            None => self.entries.push(new),
        }
    }

    /// Removes the first element of a list header, such as the topmost Via or Route.
    pub fn pop_first(&mut self, name: Name) {
        let Some(at) = self.entries.iter().position(|entry| entry.name == name) else { return };
        let Some(entry) = self.entries.get(at).copied() else { return };
        let value = self.value(&entry);
        let rest = item_end(value).flatten().and_then(|comma| value.get(comma + 1..)).map(<[u8]>::trim_ascii_start);
        match (rest.map(|rest| u32::try_from(rest.len())), self.entries.get_mut(at)) {
            // The rest stays where it is: the row becomes shorter at its front.
            (Some(Ok(len)), Some(slot)) => *slot = Entry { at: entry.at + (entry.len - len), len, ..entry },
            _ => drop(self.entries.remove(at)),
        }
    }

    /// Copies every row of that name from another message, in order, byte for byte.
    pub fn copy(&mut self, from: &Self, name: Name) {
        for value in from.all(name) {
            let entry = self.append(name, "", value);
            self.entries.push(entry);
        }
    }

    /// Copies every row whose name is not refused, unknown ones included.
    pub fn copy_where(&mut self, from: &Self, wanted: impl Fn(Name) -> bool) {
        for entry in from.entries.iter().filter(|entry| wanted(entry.name)) {
            let name = std::str::from_utf8(from.name(entry)).unwrap_or("");
            let new = self.append(entry.name, if entry.name == Name::Other { name } else { "" }, from.value(entry));
            self.entries.push(new);
        }
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

/// Splits off the first element of a comma-separated value. None for an open quote or bracket.
fn split_item(text: &str) -> Option<(&str, Option<&str>)> {
    match item_end(text.as_bytes())? {
        Some(comma) => Some((text.get(..comma)?.trim(), Some(text.get(comma + 1..)?.trim_start()))),
        None => Some((text.trim(), None)),
    }
}

/// Finds the first comma that is not in quotes or angle brackets. None for an open quote or bracket.
fn item_end(value: &[u8]) -> Option<Option<usize>> {
    // Nearly all rows have nothing to look at more closely.
    match memchr::memchr3(b',', b'"', b'<', value) {
        None => return Some(None),
        Some(at) if value.get(at) == Some(&b',') => return Some(Some(at)),
        Some(_) => {}
    }
    let mut angle = false;
    let comma = quoted::find(value, |byte| {
        angle = (angle || byte == b'<') && byte != b'>';
        byte == b',' && !angle
    });
    match comma {
        Found::At(at) => Some(Some(at)),
        Found::Nowhere => (!angle).then_some(None),
        Found::OpenQuote => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(Name, &str)]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in rows {
            headers.push(*name, value);
        }
        headers
    }

    #[test]
    fn lists_span_rows_and_commas_in_quotes_do_not_split() {
        let h = headers(&[(Name::Contact, "\"a, b\" <sip:a@h;x=1,2>, <sip:b@h>"), (Name::Contact, "sip:c@h")]);
        let uris: Vec<_> = h.list::<NameAddr>(Name::Contact).unwrap().into_iter().map(|c| c.uri.to_string()).collect();
        assert_eq!(uris, ["sip:a@h;x=1,2", "sip:b@h", "sip:c@h"]);
    }

    #[test]
    fn an_unclosed_quote_or_empty_element_is_malformed() {
        for value in ["\"Mr. J. <sip:a@h>", "<sip:a@h", "<sip:a@h>,", ",<sip:a@h>"] {
            let h = headers(&[(Name::Contact, value)]);
            assert_eq!(h.list::<NameAddr>(Name::Contact).err(), Some(HeaderError::Malformed(Name::Contact)), "{value}");
        }
    }

    #[test]
    fn popping_takes_one_element_also_of_a_shared_row() {
        let mut h = headers(&[(Name::Route, "<sip:1@h>, <sip:2@h>"), (Name::Route, "<sip:3@h>")]);
        h.pop_first(Name::Route);
        assert_eq!(h.get(Name::Route), Some(&b"<sip:2@h>"[..]));
        h.pop_first(Name::Route);
        assert_eq!(h.get(Name::Route), Some(&b"<sip:3@h>"[..]));
        h.pop_first(Name::Route);
        assert!(!h.has(Name::Route));
    }

    #[test]
    fn popping_leaves_the_other_elements_byte_for_byte() {
        let mut h = Headers::default();
        h.push(Name::Contact, b"\"a,\" <sip:a@h> ,\t\xFF <sip:b@h>,c");
        h.pop_first(Name::Contact);
        assert_eq!(h.get(Name::Contact), Some(&b"\xFF <sip:b@h>,c"[..]));
    }

    #[test]
    fn a_single_header_given_twice_is_malformed() {
        let h = headers(&[(Name::CSeq, "1 INVITE"), (Name::CSeq, "1 INVITE"), (Name::Expires, "1"), (Name::Expires, "2")]);
        assert_eq!(h.typed::<CSeq>(Name::CSeq).err(), Some(HeaderError::Malformed(Name::CSeq)));
        assert_eq!(h.number(Name::Expires), Err(HeaderError::Malformed(Name::Expires)));
    }

    #[test]
    fn no_value_can_start_a_new_line() {
        // S7
        let h = headers(&[(Name::Subject, "a\r\nRoute: <sip:evil>\0")]);
        assert_eq!(h.get(Name::Subject), Some(&b"a  Route: <sip:evil> "[..]));
    }

    #[test]
    fn copies_are_byte_for_byte() {
        // RFC 4475 §3.1.1.2: an escaped NUL in a quoted string is legal, and To goes back as it came (§8.2.6.2).
        let mut from = Headers::over(Bytes::from_static(b"To\"\\\0\""));
        assert!(from.index((0, 2), (2, 6)));
        let mut to = Headers::default();
        to.copy(&from, Name::To);
        to.copy_where(&from, |_| true);
        assert_eq!(to.all(Name::To).collect::<Vec<_>>(), [b"\"\\\0\""; 2]);
    }

    #[test]
    fn setting_keeps_the_place_of_the_first_row() {
        let mut h = headers(&[(Name::Via, "a"), (Name::To, "b"), (Name::Via, "c")]);
        h.set(Name::Via, "d");
        let rows: Vec<_> = h.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        assert_eq!(rows, [(b"Via".to_vec(), b"d".to_vec()), (b"To".to_vec(), b"b".to_vec())]);
    }
}
