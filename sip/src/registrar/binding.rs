//! One binding of an AOR, as plain data.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytestring::ByteString;

use crate::message::Uri;
use crate::message::header::params::{decimal, quote};
use crate::time::UnixTime;
use crate::transport::{Flow, Transport};

/// A preference between 0 and 1 in thousandths (§20.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Q(u16);

impl Q {
    /// The highest preference, and the one of a contact that names none.
    pub const MAX: Self = Self(1000);

    /// Makes a preference of that many thousandths, at most 1000.
    #[must_use]
    pub fn from_thousandths(thousandths: u16) -> Self {
        Self(thousandths.min(1000))
    }

    /// Returns the thousandths.
    #[must_use]
    pub fn thousandths(self) -> u16 {
        self.0
    }

    /// Reads `0.7` (§25.1, qvalue).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 3 || whole.len() > 1 || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let whole: u16 = if whole.is_empty() { 0 } else { decimal(whole)? };
        let thousandths: u16 = if fraction.is_empty() { 0 } else { decimal(&format!("{fraction:0<3}"))? };
        Some(whole * 1000 + thousandths).filter(|q| *q <= 1000).map(Self)
    }
}

impl fmt::Display for Q {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            1000 => f.write_str("1"),
            fraction => write!(f, "0.{}", format!("{fraction:03}").trim_end_matches('0')),
        }
    }
}

/// Where a REGISTER came from: the flow without its connection, which does not outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The transport.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address as seen in the packet.
    pub remote: SocketAddr,
}

impl From<&Flow> for Received {
    fn from(flow: &Flow) -> Self {
        Self { transport: flow.transport, local: flow.local, remote: flow.remote }
    }
}

/// A binding of an AOR to a contact (§10). The AOR is the key under which it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The contact's URI with its parameters, the pn- ones of RFC 8599 among them.
    pub contact: Uri,
    /// The preference.
    pub q: Q,
    /// When it ends.
    pub expires_at: UnixTime,
    /// What was granted at the last refresh.
    pub granted: Duration,
    /// Call-ID of the last refresh.
    pub call_id: ByteString,
    /// CSeq of the last refresh.
    pub cseq: u32,
    /// The Path as one header value (RFC 3327); empty for none.
    pub path: ByteString,
    /// `+sip.instance` without quotes and angle brackets (RFC 5626 §4.1); empty for none.
    pub instance: ByteString,
    /// `reg-id`, where outbound applies (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// User-Agent, cut to [`Binding::MAX_USER_AGENT`].
    pub user_agent: ByteString,
    /// Where the last refresh came from.
    pub received: Received,
    /// True if Via named another address than that: a NAT is between us.
    pub behind_nat: bool,
}

impl Binding {
    /// Longest contact URI, push parameters included; a longer one is refused with 400.
    pub const MAX_CONTACT: usize = 2048;
    /// Longest Path, all its values together; a longer one is refused with 400.
    pub const MAX_PATH: usize = 2048;
    /// Longest instance; a longer one is refused with 400.
    pub const MAX_INSTANCE: usize = 256;
    /// How much of User-Agent is kept: enough to tell devices apart.
    pub const MAX_USER_AGENT: usize = 64;

    /// Returns true once the binding has ended.
    #[must_use]
    pub fn is_expired(&self, now: UnixTime) -> bool {
        now >= self.expires_at
    }

    /// Returns how long the binding has left: never more than was granted, even if the clock was set back.
    #[must_use]
    pub fn remaining(&self, now: UnixTime) -> Duration {
        self.expires_at.since(now).min(self.granted)
    }

    /// Ends the binding no later than it would if it had been refreshed now: to be applied to what is read from storage, in case the clock
    /// was set back since.
    pub fn clamp(&mut self, now: UnixTime) {
        self.expires_at = self.expires_at.min(now.plus(self.granted));
    }

    /// Returns when it was last refreshed.
    #[must_use]
    pub fn refreshed_at(&self) -> UnixTime {
        UnixTime(self.expires_at.0.saturating_sub(self.granted.as_secs()))
    }

    /// Returns a parameter of RFC 8599: `pn-provider`, `pn-param` or `pn-prid`.
    #[must_use]
    pub fn push(&self, name: &str) -> Option<&str> {
        self.contact.param(name).filter(|value| !value.is_empty())
    }

    /// Returns true if nothing but the times of the binding differs, as after a refresh.
    pub(super) fn is_refresh_of(&self, old: &Self) -> bool {
        let Self { contact, q, path, instance, reg_id, user_agent, received, behind_nat, .. } = self;
        *contact == old.contact
            && *q == old.q
            && *path == old.path
            && *instance == old.instance
            && *reg_id == old.reg_id
            && *user_agent == old.user_agent
            && *received == old.received
            && *behind_nat == old.behind_nat
    }

    /// Prints the value of Contact in a response to REGISTER (§10.3 step 8).
    pub(super) fn to_contact(&self, now: UnixTime) -> String {
        use fmt::Write as _;
        let mut text = format!("<{}>;expires={}", self.contact, self.remaining(now).as_secs());
        let mut add = |part: fmt::Arguments<'_>| text.write_fmt(part).expect("a String takes all text");
        if self.q != Q::MAX {
            add(format_args!(";q={}", self.q));
        }
        if !self.instance.is_empty() {
            add(format_args!(";+sip.instance={}", quote(&format!("<{}>", self.instance))));
        }
        if let Some(reg_id) = self.reg_id {
            add(format_args!(";reg-id={reg_id}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_have_three_digits() {
        for (text, thousandths, printed) in [
            ("1", 1000, "1"),
            ("1.000", 1000, "1"),
            ("0", 0, "0"),
            ("0.", 0, "0"),
            ("0.7", 700, "0.7"),
            (".05", 50, "0.05"),
            ("0.125", 125, "0.125"),
        ] {
            let q = Q::parse(text).unwrap();
            assert_eq!((q.thousandths(), q.to_string().as_str()), (thousandths, printed), "{text}");
        }
        for text in ["", ".", "1.1", "2", "0.1234", "-1", "0.x", "00.1", "1.0.0", "0.\u{e9}"] {
            assert_eq!(Q::parse(text), None, "{text}");
        }
    }
}
