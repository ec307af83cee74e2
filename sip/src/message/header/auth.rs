//! WWW-Authenticate, Proxy-Authenticate, Authorization and Proxy-Authorization of scheme Digest (RFC 3261 §20.7, §20.44, RFC 7616
//! §3.3, §3.4), as views of a row. What they prove is the business of `digest`.

use std::borrow::Cow;

use super::{Headers, Name};

/// The parameters of one `Digest …` row. Values are as written, without their quotes; escapes stay, because a digest is computed
/// over the text as it came.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parameters<'a> {
    pub(crate) username: Option<&'a str>,
    pub(crate) realm: Option<&'a str>,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) uri: Option<&'a str>,
    pub(crate) response: Option<&'a str>,
    pub(crate) algorithm: Option<&'a str>,
    pub(crate) cnonce: Option<&'a str>,
    pub(crate) opaque: Option<&'a str>,
    pub(crate) qop: Option<&'a str>,
    pub(crate) nc: Option<&'a str>,
    pub(crate) stale: Option<&'a str>,
}

/// Most parameters of one row; a row with more is malformed.
pub const MAX_PARAMETERS: usize = 32;

/// What one row holds.
pub(crate) enum Row<'a> {
    /// Another scheme, such as Basic or Bearer.
    OtherScheme,
    /// A Digest row that breaks its grammar or names a parameter twice.
    Malformed,
    /// A Digest row.
    Digest(Parameters<'a>),
}

impl<'a> Parameters<'a> {
    /// Reads a row.
    pub(crate) fn parse(row: &'a [u8]) -> Row<'a> {
        let Ok(text) = std::str::from_utf8(row) else { return Row::Malformed };
        let (scheme, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Row::OtherScheme;
        }
        Self::list(rest).map_or(Row::Malformed, Row::Digest)
    }

    fn list(text: &'a str) -> Option<Self> {
        let mut found = Self::default();
        let mut rest = text.trim();
        for _ in 0..MAX_PARAMETERS {
            let (name, tail) = rest.split_once('=')?;
            let (value, tail) = value(tail.trim_start())?;
            if !found.set(name.trim(), value) {
                return None;
            }
            rest = tail.trim_start();
            if rest.is_empty() {
                return Some(found);
            }
            rest = rest.strip_prefix(',')?.trim_start();
        }
        None
    }

    /// Keeps a value; false if the name is no token or was there before. Unknown names are passed over (RFC 7616 §3.3).
    fn set(&mut self, name: &str, value: &'a str) -> bool {
        let known: [(&str, &mut Option<&'a str>); 11] = [
            ("username", &mut self.username),
            ("realm", &mut self.realm),
            ("nonce", &mut self.nonce),
            ("uri", &mut self.uri),
            ("response", &mut self.response),
            ("algorithm", &mut self.algorithm),
            ("cnonce", &mut self.cnonce),
            ("opaque", &mut self.opaque),
            ("qop", &mut self.qop),
            ("nc", &mut self.nc),
            ("stale", &mut self.stale),
        ];
        match known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, slot)) => slot.replace(value).is_none(),
            None => crate::message::is_token(name),
        }
    }
}

/// Splits a token or quoted string off; the quotes are dropped.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        return (!token.is_empty() && !token.contains('"')).then_some((token, rest));
    };
    let mut escaped = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((inner.get(..at)?, inner.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

/// Resolves the escapes of a quoted string whose quotes are already gone.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(out)
}

/// Credentials that a request carries for one realm.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub(crate) username: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) response: &'a str,
    pub(crate) algorithm: Option<&'a str>,
    pub(crate) cnonce: Option<&'a str>,
    pub(crate) qop: Option<&'a str>,
    pub(crate) nc: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// Takes the parameters of a row; none if one that is needed is missing.
    pub(crate) fn of(row: &Parameters<'a>) -> Option<Self> {
        Some(Self {
            username: row.username?,
            nonce: row.nonce?,
            uri: row.uri?,
            response: row.response?,
            algorithm: row.algorithm,
            cnonce: row.cnonce,
            qop: row.qop,
            nc: row.nc,
        })
    }

    /// Returns the user name with its escapes resolved.
    #[must_use]
    pub fn username(&self) -> Cow<'a, str> {
        unescape(self.username)
    }
}

/// Removes the rows of that name with credentials for that realm; the others keep their order.
pub(crate) fn remove_credentials(headers: &mut Headers, name: Name, realm: &str) {
    let is_theirs = |row: &[u8]| match Parameters::parse(row) {
        Row::Digest(row) => row.realm.is_none_or(|theirs| unescape(theirs) != realm),
        Row::Malformed | Row::OtherScheme => true,
    };
    if headers.all(name).all(is_theirs) {
        return;
    }
    let kept: Vec<Vec<u8>> = headers.all(name).filter(|row| is_theirs(row)).map(<[u8]>::to_vec).collect();
    headers.remove(name);
    for row in kept {
        headers.push(name, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Parameters<'_>> {
        match Parameters::parse(text.as_bytes()) {
            Row::Digest(row) => Some(row),
            Row::Malformed | Row::OtherScheme => None,
        }
    }

    #[test]
    fn odd_but_legal_rows_are_read() {
        let row = read("dIgEsT  username=\"Al \\\"i\\\\ce, x\" ,REALM = \"r\",\tnc=00000001, qop=auth,x-new=\"a,b=c\", uri=\"sip:h;a=b\"")
            .unwrap();
        assert_eq!(row.username.map(unescape).as_deref(), Some("Al \"i\\ce, x"));
        assert_eq!((row.realm, row.nc, row.qop, row.uri), (Some("r"), Some("00000001"), Some("auth"), Some("sip:h;a=b")));
        assert_eq!(read("Digest realm=\"\u{fc}\",nonce=\"\"").unwrap().nonce, Some(""));
    }

    #[test]
    fn broken_rows_are_malformed() {
        // S12
        for text in [
            "Digest",
            "Digest ",
            "Digest realm",
            "Digest realm=",
            "Digest realm=\"r",
            "Digest realm=\"r\\\"",
            "Digest realm=\"r\",",
            "Digest realm=\"r\" nonce=\"n\"",
            "Digest realm=\"r\",,nonce=\"n\"",
            "Digest realm=\"r\",Realm=\"q\"",
            "Digest =\"r\"",
            "Digest a b=\"r\"",
            "Digest realm=r\"x\"",
        ] {
            assert!(matches!(Parameters::parse(text.as_bytes()), Row::Malformed), "{text}");
        }
        let many: Vec<_> = (0..=MAX_PARAMETERS).map(|n| format!("p{n}=1")).collect();
        assert!(read(&format!("Digest {}", many.join(","))).is_none());
        assert!(read(&format!("Digest {}", many[1..].join(","))).is_some());
        assert!(matches!(Parameters::parse(b"Digest realm=\"\xff\""), Row::Malformed));
        assert!(matches!(Parameters::parse(b"Bearer abc"), Row::OtherScheme));
    }

    #[test]
    fn only_the_credentials_of_one_realm_are_removed() {
        let mut headers = Headers::default();
        for row in ["Digest realm=\"a\"", "Digest realm=\"b\"", "Bearer x", "Digest realm=\"a\", nonce=\"n\""] {
            headers.push(Name::ProxyAuthorization, row);
        }
        remove_credentials(&mut headers, Name::ProxyAuthorization, "a");
        let rows: Vec<_> = headers.all(Name::ProxyAuthorization).collect();
        assert_eq!(rows, [b"Digest realm=\"b\"".as_slice(), b"Bearer x"]);
    }
}
