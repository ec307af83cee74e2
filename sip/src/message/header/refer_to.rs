//! Refer-To (RFC 3515 §2.1), with the Replaces header that its URI may carry (RFC 3891 §6.1, RFC 3261 §19.1.1).

use bytestring::ByteString;

use super::{Header, NameAddr, Replaces};
use crate::message::Method;
use crate::message::uri::{Uri, unescape};

/// Where a REFER sends its recipient. It is a parsed URI: no text of it is pasted into anything else (S7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferTo {
    /// The address without the headers behind its `?`.
    pub uri: Uri,
    /// The method of the request to send there: INVITE unless the URI names another one.
    pub method: Method,
    /// The dialog that the INVITE is to take the place of. Other headers in the URI are passed over (RFC 3261 §19.1.5).
    pub replaces: Option<Replaces>,
}

impl Header for ReferTo {
    fn parse(text: &ByteString) -> Option<Self> {
        let NameAddr { uri: whole, .. } = NameAddr::parse(text)?;
        let method = whole.param("method").map_or(Some(Method::Invite), Method::parse)?;
        let mut replaces = None;
        for header in whole.headers().split('&') {
            let (name, value) = header.split_once('=').unwrap_or((header, ""));
            if !unescape(name)?.eq_ignore_ascii_case("Replaces") {
                continue;
            }
            let value = Replaces::parse(&unescape(value)?.into())?;
            if replaces.replace(value).is_some() {
                return None;
            }
        }
        let text = whole.as_str();
        let uri = match whole.headers().len() {
            0 => whole,
            headers => Uri::parse(&text.get(..text.len().checked_sub(headers + 1)?)?.into())?,
        };
        Some(Self { uri, method, replaces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<ReferTo> {
        ReferTo::parse(&text.into())
    }

    #[test]
    fn a_plain_address_is_called() {
        let to = read("\"Bob\" <sip:bob?x@h;transport=tcp>;a=b").unwrap();
        assert_eq!((to.uri.as_str(), &to.method, &to.replaces), ("sip:bob?x@h;transport=tcp", &Method::Invite, &None));
        assert_eq!(read("tel:+4930").unwrap().uri.user(), "+4930");
        assert_eq!(read("<sip:bob@h;method=BYE>").unwrap().method, Method::Bye);
    }

    #[test]
    fn replaces_is_read_escaped_or_not() {
        for escaped in ["a%40h%3Bto-tag%3D1%3Bfrom-tag%3D2", "a%40h;to-tag=1;from-tag=2", "a%40h%3bfrom-tag%3d2%3bto-tag%3d1"] {
            let to = read(&format!("<sip:bob@h?Require=replaces&%52eplaces={escaped}>")).unwrap();
            let replaces = to.replaces.unwrap();
            assert_eq!(to.uri.as_str(), "sip:bob@h", "{escaped}");
            assert_eq!((&*replaces.call_id, &*replaces.to_tag, &*replaces.from_tag), ("a@h", "1", "2"), "{escaped}");
        }
    }

    #[test]
    fn what_is_malformed_or_ambiguous_is_refused() {
        for text in [
            "",
            "sip:bob@h?Replaces=a", // §20.10: needs brackets
            "<sip:bob@h?Replaces=a>",
            "<sip:bob@h?Replaces=a%3Bto-tag%3D1>",
            "<sip:bob@h?Replaces=a;to-tag=1;from-tag=2&Replaces=b;to-tag=1;from-tag=2>",
            "<sip:bob@h?Replaces=a;to-tag=1;from-tag=2%0d%0aRoute:x>", // S7
            "<sip:bob@h;method=IN(VITE>",
            "<sip:bob@h>, <sip:ann@h>",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
