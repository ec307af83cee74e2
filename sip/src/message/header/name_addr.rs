//! From, To, Contact, Route, Record-Route, Path, Refer-To, P-Asserted-Identity: a display name, a URI, parameters (§20.10).

use std::fmt;

use bytestring::ByteString;

use super::params::{quote, unquote};
use super::quoted::{self, Found};
use super::{Header, Params};
use crate::message::is_token_char;
use crate::message::uri::Uri;

/// A name-addr or addr-spec with its header parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name as written, quotes and escapes included; empty for none. [`NameAddr::display_name`] is the text to show.
    pub display: ByteString,
    /// The address.
    pub uri: Uri,
    /// The parameters behind the address. Without angle brackets all parameters are the header's (§20).
    pub params: Params,
}

impl NameAddr {
    /// Makes `<uri>`.
    #[must_use]
    pub fn new(uri: Uri) -> Self {
        Self { display: ByteString::new(), uri, params: Params::default() }
    }

    /// Returns this with a display name; it is quoted, and control characters are dropped.
    #[must_use]
    pub fn with_display(mut self, name: &str) -> Self {
        self.display = if name.is_empty() { ByteString::new() } else { quote(name).into() };
        self
    }

    /// Returns this with a tag.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.params = self.params.with("tag", tag);
        self
    }

    /// Returns the display name without quotes, escapes and control characters (S6); none if it is empty.
    #[must_use]
    pub fn display_name(&self) -> Option<String> {
        (!self.display.is_empty()).then(|| unquote(&self.display).replace('\t', " ").replace(char::is_control, ""))
    }

    /// Returns the tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").filter(|t| !t.is_empty())
    }
}

impl Header for NameAddr {
    fn parse(text: &ByteString) -> Option<Self> {
        let trimmed = text.trim();
        let (display, uri, params) = if let Some(open) = angle(trimmed) {
            let display = trimmed.get(..open)?.trim();
            let inner = trimmed.get(open + 1..)?;
            let close = inner.find('>')?;
            (display, inner.get(..close)?, inner.get(close + 1..)?.trim())
        } else {
            // §20.10: a URI with comma, question mark or semicolon must be in brackets; what follows ';' is the header's.
            let end = trimmed.find(';').unwrap_or(trimmed.len());
            let (uri, params) = trimmed.split_at_checked(end)?;
            if uri.contains(['?', ',']) {
                return None;
            }
            ("", uri.trim_end(), params)
        };
        if !is_display(display) {
            return None;
        }
        Some(Self {
            display: text.slice_ref(display),
            uri: Uri::parse(&text.slice_ref(uri))?,
            params: Params::parse(&text.slice_ref(params))?,
        })
    }
}

/// Returns the parameters of a well-formed address, with their semicolon.
pub(crate) fn params_of(text: &str) -> &str {
    let rest = match angle(text) {
        Some(open) => text.get(open..).and_then(|rest| rest.get(rest.find('>')?..)),
        None => Some(text),
    };
    rest.and_then(|rest| rest.get(rest.find(';')?..)).unwrap_or("")
}

/// Finds the `<` that is not inside a quoted display name.
fn angle(text: &str) -> Option<usize> {
    match quoted::find(text.as_bytes(), |byte| byte == b'<') {
        Found::At(at) => Some(at),
        Found::Nowhere | Found::OpenQuote => None,
    }
}

/// A display name is a quoted string or words. We take words with any printable character but the separators that
/// carry structure (RFC 4475 §3.1.2.15 leaves that to us); control characters only escaped, as the grammar has them (S6).
fn is_display(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('"') {
        return inner.strip_suffix('"').is_some_and(quotes_are_escaped);
    }
    text.bytes().all(|b| {
        is_token_char(b) || matches!(b, b' ' | b'\t') || !b.is_ascii() || matches!(b, b'(' | b')' | b'/' | b'@' | b'&' | b'$' | b'#')
    })
}

/// Returns true for the inside of a quoted string (§25.1): quotes and control characters only behind a backslash.
fn quotes_are_escaped(inner: &str) -> bool {
    let mut escaped = false;
    for byte in inner.bytes() {
        match byte {
            b'\r' | b'\n' => return false,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return false,
            b'\t' => {}
            control if control.is_ascii_control() => return false,
            _ => {}
        }
    }
    !escaped
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.display.is_empty() {
            write!(f, "{} ", self.display)?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<NameAddr> {
        NameAddr::parse(&text.into())
    }

    #[test]
    fn display_names_of_every_form_are_read() {
        let full = read("\"J. \\\"R\\\" <x> \\\\\" <sip:j@h;lr>;tag=a").unwrap();
        assert_eq!(full.display_name().as_deref(), Some("J. \"R\" <x> \\"));
        assert_eq!((full.uri.as_str(), full.tag()), ("sip:j@h;lr", Some("a")));
        assert_eq!(read("Anonymous Caller <sip:c@h>").unwrap().display_name().as_deref(), Some("Anonymous Caller"));
        let bare = read("sip:a@h;tag=1").unwrap();
        assert_eq!((bare.uri.as_str(), bare.tag()), ("sip:a@h", Some("1")));
        assert_eq!(read("caller<sip:caller@example.com>;tag=323").unwrap().tag(), Some("323"));
    }

    #[test]
    fn broken_addresses_are_refused() {
        for text in [
            "",
            "<>",
            "<sip:a@h",
            "\"Mr <sip:a@h>",
            "sip:a@h?x=y",
            "Bell, A <sip:a@h>",
            "<sip:a@h>;;",
            "<sip:a@h> x",
            "< sip:a@h>",
            "<sip: a@h>",
            "\"a\0b\" <sip:a@h>",
            "\"a\u{1}b\" <sip:a@h>", // S6
            "a\u{1}b <sip:a@h>",
            "\"a\\\rb\" <sip:a@h>", // S7
            "\"a\" \"b\" <sip:a@h>",
        ] {
            assert!(read(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn escaped_control_characters_are_legal_and_not_shown() {
        // S6, RFC 4475 §3.1.1.2
        let address = read("\"ad\\\u{1}min\\\0\\\u{7f}\" <sip:a@h>").unwrap();
        assert_eq!(address.display_name().as_deref(), Some("admin"));
    }

    #[test]
    fn a_made_display_name_is_quoted_and_clean() {
        let made = NameAddr::new(Uri::parse(&"sip:a@h".into()).unwrap()).with_display("x\"\r\n\u{1}y").with_tag("t");
        assert_eq!(made.to_string(), "\"x\\\"y\" <sip:a@h>;tag=t"); // S6
    }
}
