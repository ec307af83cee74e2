//! RAck (RFC 3262 §7.2).

use std::fmt;

use bytestring::ByteString;

use super::{Header, params};
use crate::message::method::Method;

/// Names the reliable provisional response that a PRACK acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// The RSeq of the response.
    pub rseq: u32,
    /// The CSeq number of the response.
    pub cseq: u32,
    /// The CSeq method of the response.
    pub method: Method,
}

impl Header for RAck {
    fn parse(text: &ByteString) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let rack =
            Self { rseq: params::decimal(words.next()?)?, cseq: params::decimal(words.next()?)?, method: Method::parse(words.next()?)? };
        words.next().is_none().then_some(rack)
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rseq, self.cseq, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_are_read_and_nothing_else() {
        let rack = RAck::parse(&"776656 1 INVITE".into()).unwrap();
        assert_eq!(rack.to_string(), "776656 1 INVITE");
        assert_eq!(RAck::parse(&"1 INVITE".into()), None);
        assert_eq!(RAck::parse(&"1 1 INVITE x".into()), None);
    }
}
