//! CSeq (RFC 3261 §20.16).

use std::fmt;

use bytestring::ByteString;

use super::{Header, params};
use crate::message::method::Method;

/// Sequence number and method of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// The number, below 2³¹ (§8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl Header for CSeq {
    fn parse(text: &ByteString) -> Option<Self> {
        let (number, method) = text.split_once([' ', '\t'])?;
        let number = params::decimal::<u32>(number).filter(|n| *n < 1 << 31)?;
        Some(Self { number, method: Method::parse(method.trim())? })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_leading_zeros_and_a_limit() {
        assert_eq!(CSeq::parse(&"0009  INVITE".into()), Some(CSeq { number: 9, method: Method::Invite }));
        for text in ["", "1", "INVITE", "36893488147419103232 REGISTER", "2147483648 OPTIONS", "-1 BYE", "1 IN VITE"] {
            assert_eq!(CSeq::parse(&text.into()), None, "{text}");
        }
    }
}
