//! Limits on guessing passwords.

use std::net::IpAddr;
use std::time::Instant;

/// How we know the address a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Anybody.
    Stranger,
    /// The account has a current binding from this address. The limit per account does not hold for it, so that guessing from elsewhere
    /// cannot lock the owner out; the limit per address does.
    Registered,
}

/// Counts wrong answers per account and per address.
pub struct Guesses {}

impl Guesses {
    /// Makes a table that allows that many wrong answers a minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let _ = per_minute;
        todo!()
    }

    /// Returns true if no answer for this account, or from this address, is looked at now.
    #[must_use]
    pub fn is_blocked(&self, now: Instant, account: &str, source: IpAddr, standing: Standing) -> bool {
        let _ = (now, account, source, standing);
        todo!()
    }

    /// Counts a wrong answer.
    pub fn wrong(&mut self, now: Instant, account: &str, source: IpAddr) {
        let _ = (now, account, source);
        todo!()
    }
}
