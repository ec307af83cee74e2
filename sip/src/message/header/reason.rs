//! Reason (RFC 3326).

use std::fmt;

use bytestring::ByteString;

use super::params::{quote, unquote};
use super::{Header, Params, params};
use crate::message::is_token;

/// Why a request was sent: `SIP;cause=200;text="Call completed elsewhere"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850` or another protocol token.
    pub protocol: ByteString,
    /// The cause, if given.
    pub cause: Option<u16>,
    /// The text without quotes; empty for none.
    pub text: String,
}

impl Reason {
    /// Makes a Reason of protocol SIP.
    #[must_use]
    pub fn sip(cause: u16, text: &str) -> Self {
        Self { protocol: ByteString::from_static("SIP"), cause: Some(cause), text: text.to_owned() }
    }
}

impl Header for Reason {
    fn parse(text: &ByteString) -> Option<Self> {
        let end = text.find(';').unwrap_or(text.len());
        let protocol = text.get(..end)?.trim();
        is_token(protocol).then_some(())?;
        let list = Params::parse(&text.slice_ref(text.get(end..)?))?;
        let cause = list.get("cause").map(|c| params::decimal(c).ok_or(())).transpose().ok()?;
        Some(Self { protocol: text.slice_ref(protocol), cause, text: list.get("text").map(unquote).unwrap_or_default() })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.protocol)?;
        if let Some(cause) = self.cause {
            write!(f, ";cause={cause}")?;
        }
        if !self.text.is_empty() {
            write!(f, ";text={}", quote(&self.text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_prints_and_reads_the_same() {
        let text = "SIP;cause=200;text=\"Call completed elsewhere\"";
        let reason = Reason::parse(&text.into()).unwrap();
        assert_eq!(reason, Reason::sip(200, "Call completed elsewhere"));
        assert_eq!(reason.to_string(), text);
        assert_eq!(Reason::parse(&"Q.850;cause=x".into()), None);
    }
}
