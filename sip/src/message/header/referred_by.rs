//! Referred-By (RFC 3892): who a REFER, and the request it led to, are said to come from. Whoever reads it has to know the sender
//! some other way; a signed body behind `cid` is passed over.

use bytestring::ByteString;

use super::{Header, NameAddr};

/// The address of the referrer, as the sender of the message has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferredBy(pub NameAddr);

impl Header for ReferredBy {
    fn parse(text: &ByteString) -> Option<Self> {
        NameAddr::parse(text).map(Self)
    }
}

impl std::fmt::Display for ReferredBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_referrer_is_read_with_or_without_a_signed_body() {
        for text in ["<sip:ann@h>", "\"Ann\" <sip:ann@h>;cid=\"20398823.2UWQFN309shb3@h\"", "sip:ann@h"] {
            assert_eq!(ReferredBy::parse(&text.into()).unwrap().0.uri.as_str(), "sip:ann@h", "{text}");
        }
        assert_eq!(ReferredBy::parse(&"<sip:ann@h".into()), None);
    }
}
