//! URIs (RFC 3261 §19.1, RFC 3966) and addresses of record. The text is kept as it came, escapes and all; the parts are spans of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use bytestring::ByteString;

use super::header::params::{self, Params};
use crate::transport::Transport;

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other absolute URI: kept, but not understood.
    Other,
}

/// The host part of a SIP URI or Via: a domain name in lower case, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A domain name, in lower case.
    Name(ByteString),
    /// A literal address; IPv6 without its brackets.
    Ip(IpAddr),
}

impl Host {
    /// Reads a host name, an IPv4 address or a bracketed IPv6 reference; none if it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = ByteString::from(text);
        Self::parse_in(&text, &text)
    }

    /// As `parse`, of a part of a text that the host then shares.
    fn parse_in(whole: &ByteString, text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(address.into()));
        }
        if text.ends_with(|c: char| c.is_ascii_digit())
            && let Ok(address) = text.parse()
        {
            return Some(Self::Ip(IpAddr::V4(address)));
        }
        let valid = !text.is_empty()
            && text.len() <= 255
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
            && !text.starts_with(['.', '-']);
        if !valid {
            return None;
        }
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        Some(Self::Name(if lower { whole.slice_ref(text) } else { text.to_ascii_lowercase().into() }))
    }

    /// Returns the address if the host is a literal one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Splits `host[:port]`, a part of the whole, with IPv6 in brackets. `Some((_, None))` where there is no port.
pub(crate) fn host_port(whole: &ByteString, text: &str) -> Option<(Host, Option<u16>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at_checked(end)?;
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some(digits) => Some(params::decimal(digits).filter(|port| *port > 0)?),
    };
    Some((Host::parse_in(whole, host)?, port))
}

/// A URI. Two are `==` when their text is; use [`Uri::is_equivalent`] for §19.1.4.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    text: ByteString,
    scheme: Scheme,
    /// Offsets into `text`: end of the user part (with password), of the host and port, of the parameters.
    user: (u32, u32),
    host: Option<(Host, Option<u16>)>,
    params: (u32, u32),
}

impl Uri {
    /// Reads an absolute URI. None for what §25.1 does not allow, spaces and control characters above all.
    #[must_use]
    pub fn parse(text: &ByteString) -> Option<Self> {
        if !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"')) {
            return None;
        }
        let colon = text.find(':')?;
        let (scheme, rest) = (text.get(..colon)?, text.get(colon + 1..)?);
        if rest.is_empty() || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        if !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            return None;
        }
        let scheme = match () {
            () if scheme.eq_ignore_ascii_case("sip") => Scheme::Sip,
            () if scheme.eq_ignore_ascii_case("sips") => Scheme::Sips,
            () if scheme.eq_ignore_ascii_case("tel") => Scheme::Tel,
            () => Scheme::Other,
        };
        let start = colon + 1;
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::parse_sip(text, scheme, start),
            Scheme::Tel => {
                let number = rest.find(';').unwrap_or(rest.len());
                let digits = rest.get(..number)?;
                let valid = !digits.is_empty()
                    && digits.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'+' | b'-' | b'.' | b'(' | b')' | b'*' | b'#'));
                let params = Params::check(rest.get(number..)?)?;
                valid.then(|| Self::new(text, scheme, (start, start + number), None, (start + number, start + number + params)))
            }
            Scheme::Other => Some(Self::new(text, scheme, (start, start), None, (text.len(), text.len()))),
        }
    }

    fn parse_sip(text: &ByteString, scheme: Scheme, start: usize) -> Option<Self> {
        let rest = text.get(start..)?;
        // The user part may itself hold ';' and '?', so the '@' decides first; none is allowed unescaped after it.
        let user_end = rest.find('@').unwrap_or(0);
        let host_at = if rest.contains('@') { user_end + 1 } else { 0 };
        if host_at > 0 && user_end == 0 {
            return None;
        }
        if !escapes_are_whole(rest.get(..user_end)?) {
            return None;
        }
        let tail = rest.get(host_at..)?;
        if tail.contains('@') {
            return None;
        }
        let host_len = tail.find([';', '?']).unwrap_or(tail.len());
        let host = host_port(text, tail.get(..host_len)?)?;
        let after = tail.get(host_len..)?;
        let params_len = after.find('?').unwrap_or(after.len());
        if after.get(params_len..) == Some("?") {
            return None;
        }
        Params::check(after.get(..params_len)?)?;
        let params = start + host_at + host_len;
        Some(Self::new(text, scheme, (start, start + user_end), Some(host), (params, params + params_len)))
    }

    fn new(text: &ByteString, scheme: Scheme, user: (usize, usize), host: Option<(Host, Option<u16>)>, params: (usize, usize)) -> Self {
        let span = |(from, to): (usize, usize)| (u32::try_from(from).unwrap_or(0), u32::try_from(to).unwrap_or(0));
        Self { text: text.clone(), scheme, user: span(user), host, params: span(params) }
    }

    /// Makes `sip:user@host:port` with the given parameter text (such as `;transport=tcp`), escaping the user part.
    #[must_use]
    pub fn sip(user: &str, host: &Host, port: Option<u16>, params: &str) -> Option<Self> {
        let mut text = String::from("sip:");
        if !user.is_empty() {
            escape_user(user, &mut text);
            text.push('@');
        }
        text.push_str(&host.to_string());
        if let Some(port) = port {
            text.push(':');
            text.push_str(&port.to_string());
        }
        text.push_str(params);
        Self::parse(&text.into())
    }

    fn span(&self, (from, to): (u32, u32)) -> &str {
        self.text.get(from as usize..to as usize).unwrap_or("")
    }

    /// Returns the scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the user part as written, without a password; for `tel:` the number. Empty if there is none.
    #[must_use]
    pub fn user(&self) -> &str {
        let user = self.span(self.user);
        match self.scheme {
            Scheme::Sip | Scheme::Sips => user.split(':').next().unwrap_or(""),
            Scheme::Tel | Scheme::Other => user,
        }
    }

    /// Returns the user part with its escapes resolved; none if they do not make UTF-8 or hide a control character (S7).
    #[must_use]
    pub fn user_unescaped(&self) -> Option<String> {
        unescape(self.user())
    }

    /// Returns the host; none for `tel:` and foreign schemes.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref().map(|(host, _)| host)
    }

    /// Returns the port, if one is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.host.as_ref().and_then(|(_, port)| *port)
    }

    /// Returns the URI parameters.
    #[must_use]
    pub fn params(&self) -> Params {
        Params::of(self.text.slice_ref(self.span(self.params)))
    }

    /// Returns the value of one URI parameter, as written; `Some("")` for one without a value. Its name is found in any case, escaped
    /// or not (RFC 4475 §3.1.1.3).
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        params::iter(self.span(self.params)).find(|(theirs, _)| same_in_any_case(theirs, name)).map(|(_, value)| value)
    }

    /// Returns the header part behind `?`, as written.
    #[must_use]
    pub fn headers(&self) -> &str {
        self.text.get(self.params.1 as usize..).and_then(|tail| tail.strip_prefix('?')).unwrap_or("")
    }

    /// Returns the transport that the URI names, if we know it.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        self.param("transport").and_then(Transport::parse)
    }

    /// Returns true for a loose router's URI (`;lr`, §16.12).
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.param("lr").is_some()
    }

    /// Compares as §19.1.4 says: escapes and case of host and parameters do not count; parameters on one side only do not
    /// either, except user, ttl, method, maddr and transport.
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        if self.scheme != other.scheme || self.host != other.host {
            return false;
        }
        if self.scheme == Scheme::Other {
            return self.text == other.text;
        }
        let same_user = characters(self.span(self.user)).eq(characters(other.span(other.user)));
        same_user && params_match(self, other) && params_match(other, self) && headers_match(self.headers(), other.headers())
    }

    /// Returns `sip:user@host[:port]` without parameters and headers, for a topology-hiding From or To.
    #[must_use]
    pub fn aor(&self) -> Option<Aor> {
        let host = self.host()?;
        Aor::new(&self.user_unescaped()?, &host.to_string())
    }
}

/// Of a parameter that is there twice, against §19.1.1, the first counts, here as everywhere.
fn params_match(one: &Uri, other: &Uri) -> bool {
    one.params().iter().all(|(name, _)| match (one.param(name), other.param(name)) {
        (Some(ours), Some(theirs)) => same_in_any_case(ours, theirs),
        (None, _) | (_, None) => !["user", "ttl", "method", "maddr", "transport"].iter().any(|n| same_in_any_case(n, name)),
    })
}

fn headers_match(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut parts: Vec<String> = text.split('&').map(str::to_ascii_lowercase).collect();
        parts.sort();
        parts
    };
    one == other || sorted(one) == sorted(other)
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|tail| tail.len() >= 2 && tail.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

/// Returns the bytes that the text stands for, and of each whether it was escaped. A `%` without two digits stands for itself.
fn octets(text: &str) -> impl Iterator<Item = (u8, bool)> {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        rest = tail;
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                rest = tail.get(2..)?;
                Some((high << 4 | low, true))
            }
            _ => Some((*first, false)),
        }
    })
}

/// Returns what §19.1.4 compares: an escape is the same as its character, unless that is reserved (RFC 2396 §2.2).
fn characters(text: &str) -> impl Iterator<Item = (u8, bool)> {
    octets(text).map(|(byte, escaped)| (byte, escaped && b";/?:@&=+$,".contains(&byte)))
}

fn same_in_any_case(one: &str, other: &str) -> bool {
    let lower = |(byte, escaped): (u8, bool)| (byte.to_ascii_lowercase(), escaped);
    one.eq_ignore_ascii_case(other)
        || (one.contains('%') || other.contains('%')) && characters(one).map(lower).eq(characters(other).map(lower))
}

/// Resolves %-escapes; none if one is not whole, or the result is not UTF-8 or holds a control character.
#[must_use]
pub fn unescape(text: &str) -> Option<String> {
    if !text.contains('%') {
        return (!text.bytes().any(|b| b.is_ascii_control())).then(|| text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    for (byte, escaped) in octets(text) {
        if byte.is_ascii_control() || (byte == b'%' && !escaped) {
            return None;
        }
        out.push(byte);
    }
    String::from_utf8(out).ok()
}

fn escape_user(user: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in user.bytes() {
        // unreserved and user-unreserved of §25.1
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

/// An address of record (§10): user and domain in canonical form, the key of the registrar's table.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aor(ByteString);

impl Aor {
    /// Longest address of record we take, in bytes.
    pub const MAX: usize = 320;

    /// Makes the address of record of a user (escapes resolved) in a domain; none if a part is empty, too long or holds a control character.
    #[must_use]
    pub fn new(user: &str, domain: &str) -> Option<Self> {
        let valid = !user.is_empty()
            && !domain.is_empty()
            && user.len() + domain.len() < Self::MAX
            && !user.bytes().chain(domain.bytes()).any(|b| b.is_ascii_control() || b == b'@');
        valid.then(|| Self(format!("{user}@{}", domain.to_ascii_lowercase()).into()))
    }

    /// Reads `user@domain`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (user, domain) = text.split_once('@')?;
        Self::new(user, domain)
    }

    /// Returns `user@domain`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the user part.
    #[must_use]
    pub fn user(&self) -> &str {
        self.0.split('@').next().unwrap_or("")
    }

    /// Returns the domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.split('@').nth(1).unwrap_or("")
    }

    /// Returns `sip:user@domain`.
    #[must_use]
    pub fn uri(&self) -> Option<Uri> {
        Uri::sip(self.user(), &Host::parse(self.domain())?, None, "")
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(&text.into()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn the_parts_of_a_sip_uri_are_found() {
        let full = uri("sips:alice;day=tue:pw@[2001:db8::9:1]:5070;transport=TLS;lr?Subject=hi&Priority=urgent");
        assert_eq!(full.scheme(), Scheme::Sips);
        assert_eq!(full.user(), "alice;day=tue");
        assert_eq!(full.host().and_then(Host::ip), "2001:db8::9:1".parse().ok());
        assert_eq!(full.port(), Some(5070));
        assert_eq!(full.transport(), Some(Transport::Tls));
        assert!(full.is_loose_router());
        assert!(uri("sip:a@h;%6C%72").is_loose_router());
        assert_eq!(full.headers(), "Subject=hi&Priority=urgent");
        assert_eq!(uri("sip:example.com").user(), "");
        assert_eq!(uri("tel:+49-30-1;phone-context=x").user(), "+49-30-1");
        assert_eq!(uri("urn:service:sos").scheme(), Scheme::Other);
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "sip:",
            "sip:@h",
            "sip:a b@h",
            "sip:a@h:0",
            "sip:a@h:65536",
            "sip:a@h:x",
            "sip:a@[::1",
            "sip:a@[zz]",
            "sip:a@b@c",
            "sip:a@h;;x",
            "sip:a@h;",
            "sip:a@h?",
            "sip:a%4@h",
            "<sip:a@h>",
            "1sip:a@h",
            "tel:",
            "tel:x!",
            "sip:a@h\r\nX: y",
            "sip:a@-h",
            "nocolon",
        ] {
            assert!(Uri::parse(&text.into()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn equivalence_is_that_of_section_19_1_4() {
        let equal = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;a=1;a=2", "sip:carol@chicago.com;a=1;a=2"),
            ("sip:carol@chicago.com;%74ransport=%74cp", "sip:carol@chicago.com;transport=TCP"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
        ];
        for (a, b) in equal {
            assert!(uri(a).is_equivalent(&uri(b)), "{a} {b}");
        }
        let different = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:carol@chicago.com;%6daddr=1.2.3.4", "sip:carol@chicago.com"),
        ];
        for (a, b) in different {
            assert!(!uri(a).is_equivalent(&uri(b)), "{a} {b}");
        }
    }

    #[test]
    fn users_that_have_no_text_are_still_compared() {
        // RFC 4475 §3.1.1.4: two contacts, not one.
        let different = [("%00", "%00%00"), ("%ff", "%fe"), ("a%3Bb", "a;b"), ("a", "A")];
        for (a, b) in different {
            assert!(!uri(&format!("sip:{a}@h")).is_equivalent(&uri(&format!("sip:{b}@h"))), "{a} {b}");
        }
        assert!(uri("sip:%00%fF%3b@h").is_equivalent(&uri("sip:%00%Ff%3B@h")));
        for text in ["%", "%4", "%+1", "%zz", "a%0ab", "%ff"] {
            assert_eq!(unescape(text), None, "{text}");
        }
        assert_eq!(unescape("%25%34%31").as_deref(), Some("%41"));
    }

    #[test]
    fn an_aor_is_canonical_and_holds_no_control_characters() {
        assert_eq!(uri("sip:%61lice@Atlanta.COM:5070;x=1").aor(), Aor::parse("alice@atlanta.com"));
        assert_eq!(uri("sip:null-%00-null@example.com").aor(), None); // S7
        assert_eq!(Aor::new("", "x"), None);
    }

    #[test]
    fn a_made_uri_escapes_its_user_part() {
        let made = Uri::sip("a b@c%", &Host::Ip("::1".parse().unwrap()), Some(5060), ";lr").unwrap();
        assert_eq!(made.as_str(), "sip:a%20b%40c%25@[::1]:5060;lr");
        assert_eq!(made.user_unescaped().as_deref(), Some("a b@c%"));
    }
}
