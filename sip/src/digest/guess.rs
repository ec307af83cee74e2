//! Limits on guessing passwords: so many wrong answers a minute per account and per address. Known and unknown accounts are treated alike.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How we know the address a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Anybody.
    Stranger,
    /// The account has a current binding from this address. The limit per account does not hold for it, so that guessing from elsewhere
    /// cannot lock the owner out; the limit per address does.
    Registered,
}

/// Counts wrong answers per account and per address (of IPv6 the /64).
///
/// Each has a debt that one wrong answer raises by a minute's share and that time pays off: whoever has used up a minute's guesses gets one
/// more each time a share has passed. A right answer pays nothing, or an attacker with an account of his own could guess without end.
pub struct Guesses {
    share: Duration,
    /// For each account or address, when its debt is paid.
    debts: BTreeMap<u64, Instant>,
    order: BTreeSet<(Instant, u64)>,
}

impl Guesses {
    /// Most accounts and addresses in debt. Beyond that the one that is nearest to having paid is forgiven.
    pub const MAX: usize = 65_536;
    const WINDOW: Duration = Duration::from_secs(60);
    /// Most paid debts that one call clears away.
    const SWEEP: usize = 32;

    /// Makes a table that allows that many wrong answers a minute; at least one.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { share: Self::WINDOW / per_minute.max(1), debts: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Returns true if no answer for this account, or from this address, is looked at now.
    #[must_use]
    pub fn is_blocked(&self, now: Instant, account: &str, source: IpAddr, standing: Standing) -> bool {
        let spent = |key| {
            let debt = self.debts.get(&key).map_or(Duration::ZERO, |paid_at: &Instant| paid_at.saturating_duration_since(now));
            debt + self.share > Self::WINDOW
        };
        spent(address_key(source)) || (standing == Standing::Stranger && spent(account_key(account)))
    }

    /// Counts a wrong answer.
    pub fn wrong(&mut self, now: Instant, account: &str, source: IpAddr) {
        self.sweep(now);
        for key in [account_key(account), address_key(source)] {
            let before = self.debts.get(&key).copied();
            if let Some(before) = before {
                self.order.remove(&(before, key));
            }
            let paid_at = before.map_or(now, |before| before.max(now)) + self.share;
            self.debts.insert(key, paid_at);
            self.order.insert((paid_at, key));
            if self.debts.len() > Self::MAX
                && let Some((_, forgiven)) = self.order.pop_first()
            {
                self.debts.remove(&forgiven);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        for _ in 0..Self::SWEEP {
            match self.order.first().copied() {
                Some((paid_at, key)) if paid_at <= now => {
                    self.order.pop_first();
                    self.debts.remove(&key);
                }
                Some(_) | None => return,
            }
        }
    }
}

fn account_key(account: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    account.hash(&mut hasher);
    hasher.finish()
}

fn address_key(address: IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    match address.to_canonical() {
        IpAddr::V4(address) => address.hash(&mut hasher),
        // One customer has a whole /64 to guess from.
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64).hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::origin;

    const LIMIT: u32 = 10;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn blocked(guesses: &Guesses, now: Instant, account: &str, from: &str) -> bool {
        guesses.is_blocked(now, account, ip(from), Standing::Stranger)
    }

    #[test]
    fn an_account_is_blocked_for_all_strangers_after_the_limit() {
        let now = origin();
        let mut guesses = Guesses::new(LIMIT);
        for n in 0..LIMIT {
            assert!(!blocked(&guesses, now, "ann", "192.0.2.99"), "{n}");
            guesses.wrong(now, "ann", ip(&format!("192.0.2.{n}")));
        }
        assert!(blocked(&guesses, now, "ann", "192.0.2.99"));
        assert!(!blocked(&guesses, now, "bob", "192.0.2.99"));
        assert!(!guesses.is_blocked(now, "ann", ip("192.0.2.99"), Standing::Registered), "the owner is not locked out");
    }

    #[test]
    fn an_address_is_blocked_for_all_accounts_after_the_limit() {
        let now = origin();
        let mut guesses = Guesses::new(LIMIT);
        for n in 0..LIMIT {
            guesses.wrong(now, &format!("user{n}"), ip(&format!("2001:db8::{n}")));
        }
        assert!(blocked(&guesses, now, "other", "2001:db8::ffff"));
        assert!(guesses.is_blocked(now, "other", ip("2001:db8::1"), Standing::Registered));
        assert!(!blocked(&guesses, now, "other", "2001:db8:0:1::1"));
    }

    #[test]
    fn time_allows_one_guess_after_the_other() {
        let now = origin();
        let mut guesses = Guesses::new(LIMIT);
        for _ in 0..LIMIT {
            guesses.wrong(now, "ann", ip("192.0.2.1"));
        }
        assert!(blocked(&guesses, now + Duration::from_millis(5_999), "ann", "192.0.2.1"));
        let later = now + Duration::from_secs(6);
        assert!(!blocked(&guesses, later, "ann", "192.0.2.1"));
        guesses.wrong(later, "ann", ip("192.0.2.1"));
        assert!(blocked(&guesses, later, "ann", "192.0.2.1"));
        assert!(!blocked(&guesses, now + Duration::from_secs(120), "ann", "192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_smallest_debt() {
        let now = origin();
        let mut guesses = Guesses::new(LIMIT);
        for _ in 0..LIMIT {
            guesses.wrong(now, "ann", ip("192.0.2.1"));
        }
        for n in 0..u32::try_from(Guesses::MAX).unwrap() {
            guesses.wrong(now, &n.to_string(), IpAddr::from(n.to_be_bytes()));
        }
        assert_eq!((guesses.debts.len(), guesses.order.len()), (Guesses::MAX, Guesses::MAX));
        assert!(blocked(&guesses, now, "ann", "198.51.100.1"));
        guesses.wrong(now + Duration::from_secs(3600), "x", ip("192.0.2.2"));
        assert!(guesses.debts.len() < Guesses::MAX, "paid debts are cleared away");
    }
}
