//! Session-Expires (RFC 4028 §4).

use std::fmt;
use std::time::Duration;

use bytestring::ByteString;

use super::{Header, Params, params};

/// Who refreshes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The UAC of the transaction that carries the header.
    Uac,
    /// The UAS of it.
    Uas,
}

/// The interval after which a session without refresh is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session interval, in whole seconds.
    pub interval: Duration,
    /// The refresher, if named.
    pub refresher: Option<Refresher>,
}

impl Header for SessionExpires {
    fn parse(text: &ByteString) -> Option<Self> {
        let end = text.find(';').unwrap_or(text.len());
        let seconds = params::decimal::<u32>(text.get(..end)?.trim())?;
        let list = Params::parse(&text.slice_ref(text.get(end..)?))?;
        let refresher = match list.get("refresher") {
            Some(r) if r.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(r) if r.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            Some(_) => return None,
            None => None,
        };
        Some(Self { interval: Duration::from_secs(seconds.into()), refresher })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.interval.as_secs())?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_and_refresher_print_and_read_the_same() {
        for text in ["1800", "90;refresher=uac", "90;refresher=uas"] {
            assert_eq!(SessionExpires::parse(&text.into()).unwrap().to_string(), text);
        }
        for text in ["", "x", "90;refresher=me", "-1", "4294967296"] {
            assert_eq!(SessionExpires::parse(&text.into()), None, "{text}");
        }
    }
}
