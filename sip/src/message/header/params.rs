//! Parameters behind a semicolon (RFC 3261 §25.1, generic-param), of headers and of URIs.

use std::fmt;

use bytestring::ByteString;

use super::quoted::{self, Found};
use crate::message::alphanumeric_and;

/// A list of parameters, kept as text (`;a=b;c`), checked once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Params(ByteString);

impl Params {
    /// Most parameters of one list; a longer list is malformed. It keeps comparing two lists cheap.
    pub const MAX: usize = 64;

    /// Reads `;name[=value]…`, white space allowed around `;` and `=`. None for an empty or malformed parameter, or for too many.
    #[must_use]
    pub fn parse(text: &ByteString) -> Option<Self> {
        Self::check(text)?;
        Some(Self(text.clone()))
    }

    pub(crate) fn of(text: ByteString) -> Self {
        Self(text)
    }

    /// Returns the length of the text if it is a list of well-formed parameters.
    pub(crate) fn check(text: &str) -> Option<usize> {
        let mut rest = text.trim();
        if !rest.is_empty() && !rest.starts_with(';') {
            return None;
        }
        let mut count = 0;
        while let Some(tail) = rest.strip_prefix(';') {
            let end = end_of_param(tail)?;
            let (name, value) = split(tail.get(..end)?);
            count += 1;
            if count > Self::MAX || name.is_empty() || !name.bytes().all(is_param_char) || !value.is_none_or(is_value) {
                return None;
            }
            rest = tail.get(end..)?;
        }
        rest.is_empty().then_some(text.len())
    }

    /// Returns the value of the first parameter of that name, in any case; `Some("")` for one without a value.
    /// The quotes around a value stay.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.0, name)
    }

    /// Returns the value of a parameter that stands once and is not empty, in a copy of its own.
    pub(super) fn one(&self, name: &str) -> Option<ByteString> {
        let mut all = self.iter().filter(|(n, v)| n.eq_ignore_ascii_case(name) && !v.is_empty());
        let value = all.next()?.1;
        all.next().is_none().then(|| value.into())
    }

    /// Reads `call-id;…`, which names a dialog (RFC 3891 §6.1, RFC 4538 §7).
    pub(super) fn behind_call_id(text: &ByteString) -> Option<(ByteString, Self)> {
        let end = text.find(';')?;
        let call_id = text.get(..end)?.trim();
        let valid = !call_id.is_empty() && call_id.bytes().all(|b| b.is_ascii_graphic());
        valid.then_some((text.slice_ref(call_id), Self::parse(&text.slice_ref(text.get(end..)?))?))
    }

    /// Returns names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        iter(&self.0)
    }

    /// Returns the text with its leading semicolon; empty for none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns these parameters with one of that name replaced or added; an empty value writes the name alone.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut text = self.without(name).0.to_string();
        text.push(';');
        text.push_str(name);
        if !value.is_empty() {
            text.push('=');
            text.push_str(value);
        }
        Self(text.into())
    }

    /// Returns these parameters without those of that name.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut text = String::new();
        for (n, v) in self.iter().filter(|(n, _)| !n.eq_ignore_ascii_case(name)) {
            text.push(';');
            text.push_str(n);
            if !v.is_empty() {
                text.push('=');
                text.push_str(v);
            }
        }
        Self(text.into())
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a decimal number without sign; none where it is empty, no number or too large for the type.
pub fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Returns the value of the first parameter of that name in a well-formed list.
pub(crate) fn find<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    iter(text).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

pub(crate) fn iter(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let tail = rest.trim_start().strip_prefix(';')?;
        let end = end_of_param(tail)?;
        rest = tail.get(end..)?;
        let (name, value) = split(tail.get(..end)?);
        Some((name, value.unwrap_or("")))
    })
}

fn split(param: &str) -> (&str, Option<&str>) {
    match param.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (param.trim(), None),
    }
}

/// Finds the next semicolon outside quotes; none for an open quote.
fn end_of_param(text: &str) -> Option<usize> {
    match memchr::memchr2(b';', b'"', text.as_bytes()) {
        None => return Some(text.len()),
        Some(at) if text.as_bytes().get(at) == Some(&b';') => return Some(at),
        Some(_) => {} // a quote: byte by byte
    }
    match quoted::find(text.as_bytes(), |byte| byte == b';') {
        Found::At(at) => Some(at),
        Found::Nowhere => Some(text.len()),
        Found::OpenQuote => None,
    }
}

/// Token characters, and those that URI parameters have besides (§25.1, param-unreserved).
fn is_param_char(byte: u8) -> bool {
    static PARAM: [bool; 256] = alphanumeric_and(b"-.!%*_+`'~[]/:&$()");
    PARAM[usize::from(byte)]
}

fn is_value(value: &str) -> bool {
    if let Some(inner) = value.strip_prefix('"') {
        return inner.ends_with('"') && !inner.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0));
    }
    !value.is_empty() && value.bytes().all(|b| is_param_char(b) || matches!(b, b'@' | b'?' | b'=' | b',') || !b.is_ascii())
}

/// Strips the quotes of a quoted string and resolves its backslashes; other text is returned as it is.
#[must_use]
pub fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else { return text.to_owned() };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            out.extend(chars.next());
        } else {
            out.push(c);
        }
    }
    out
}

/// Puts text in quotes, escaping quotes and backslashes and dropping control characters (S6, S7).
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_any_case_with_quotes_and_spaces() {
        let params = Params::parse(&"; Tag = 1 ;x=\"a;\\\"b\";lr".into()).unwrap();
        assert_eq!(params.get("tag"), Some("1"));
        assert_eq!(params.get("X").map(unquote).as_deref(), Some("a;\"b"));
        assert_eq!(params.get("lr"), Some(""));
        assert_eq!(params.get("none"), None);
        assert_eq!(params.with("TAG", "2").as_str(), ";x=\"a;\\\"b\";lr;TAG=2");
    }

    #[test]
    fn malformed_parameters_are_refused() {
        for text in [";", ";;a", ";a;", ";a=", "a=b", ";a=\"x", ";=x", ";a b=c", ";a=\"x\"y"] {
            assert_eq!(Params::parse(&text.into()), None, "{text}");
        }
    }

    #[test]
    fn a_list_has_a_bound() {
        // S8
        assert!(Params::parse(&";a".repeat(Params::MAX).into()).is_some());
        assert_eq!(Params::parse(&";a".repeat(Params::MAX + 1).into()), None);
    }

    #[test]
    fn quoting_round_trips_and_drops_control_characters() {
        assert_eq!(unquote(&quote("a\"b\\c")), "a\"b\\c");
        assert_eq!(quote("a\r\nb\0"), "\"ab\"");
    }

    #[test]
    fn decimals_have_no_sign_and_a_limit() {
        assert_eq!(decimal::<u8>("255"), Some(255));
        for text in ["", "-1", "+1", " 1", "256", "1a"] {
            assert_eq!(decimal::<u8>(text), None, "{text}");
        }
    }
}
