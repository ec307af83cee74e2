//! Guessing of passwords and keys, limited for a user from an address, for an address, and for a user from everywhere. The last bound
//! is high, and spares addresses where the user is signed in: else a stranger could lock somebody out (S11). Known and unknown users
//! count alike.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::text::UserName;

/// How long failures are counted together.
const WINDOW: Duration = Duration::from_secs(60);

/// How many times as many failures an address may have as one user from there.
pub(crate) const OF_ADDRESS: u32 = 3;

/// How many times as many failures a user may have from all addresses as from one.
pub(crate) const OF_USER: u32 = 10;

/// Most users, addresses, and users from addresses whose failures are counted, each. Where one more fails, the counts whose window is
/// over go; if none is, the one that began first goes.
pub(crate) const MAX_COUNTED: usize = 10_000;

/// The failures of the last minute.
#[derive(Debug)]
pub(crate) struct Guesses {
    pairs: Counts<(UserName, IpAddr)>,
    addresses: Counts<IpAddr>,
    users: Counts<UserName>,
}

/// Failures by who had them.
#[derive(Debug)]
struct Counts<K> {
    most: u32,
    failures: BTreeMap<K, (Instant, u32)>,
}

impl Guesses {
    /// Starts with how many failures a user may have from one address.
    pub(crate) fn new(most: u32) -> Self {
        let users = Counts::new(most.saturating_mul(OF_USER));
        Self { pairs: Counts::new(most), addresses: Counts::new(most.saturating_mul(OF_ADDRESS)), users }
    }

    /// Returns whether another try may be made; `is_home` says that the user is signed in from that address. The host is not limited.
    pub(crate) fn may_try(&self, now: Instant, user: Option<&UserName>, address: Option<IpAddr>, is_home: bool) -> bool {
        let Some(address) = address.map(network) else { return true };
        let Some(user) = user else { return self.addresses.is_free(now, &address) };
        self.pairs.is_free(now, &(user.clone(), address))
            && self.addresses.is_free(now, &address)
            && (is_home || self.users.is_free(now, user))
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self, now: Instant, user: Option<&UserName>, address: Option<IpAddr>) {
        let Some(address) = address.map(network) else { return };
        self.addresses.add(now, address);
        if let Some(user) = user {
            self.pairs.add(now, (user.clone(), address));
            self.users.add(now, user.clone());
        }
    }
}

impl<K: Ord + Clone> Counts<K> {
    fn new(most: u32) -> Self {
        Self { most, failures: BTreeMap::new() }
    }

    fn is_free(&self, now: Instant, who: &K) -> bool {
        self.failures.get(who).is_none_or(|(since, count)| now >= *since + WINDOW || *count < self.most)
    }

    fn add(&mut self, now: Instant, who: K) {
        if self.failures.len() >= MAX_COUNTED && !self.failures.contains_key(&who) {
            self.make_room(now);
        }
        let entry = self.failures.entry(who).or_insert((now, 0));
        *entry = if now < entry.0 + WINDOW { (entry.0, entry.1.saturating_add(1)) } else { (now, 1) };
    }

    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, (since, _)| now < *since + WINDOW);
        if self.failures.len() >= MAX_COUNTED
            && let Some(first) = self.failures.iter().min_by_key(|(_, (since, _))| *since).map(|(who, _)| who.clone())
        {
            self.failures.remove(&first);
        }
    }
}

/// Returns what counts as one address: of IPv6 a /64, which is what one subscriber has.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    fn start(most: u32) -> (Instant, Guesses) {
        (Instant::now(), Guesses::new(most))
    }

    #[test]
    fn a_user_is_limited_from_an_address_and_not_from_others() {
        // S11
        let (now, mut guesses) = start(2);
        let (ann, bob) = (user("ann"), user("bob"));
        let (home, away) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        (0..2).for_each(|_| {
            assert!(guesses.may_try(now, Some(&ann), home, false));
            guesses.failed(now, Some(&ann), home);
        });
        assert!(!guesses.may_try(now, Some(&ann), home, false));
        assert!(!guesses.may_try(now, Some(&ann), home, true));
        assert!(guesses.may_try(now, Some(&ann), away, false));
        assert!(guesses.may_try(now, Some(&bob), home, false));
        (0..4).for_each(|_| guesses.failed(now, Some(&bob), home));
        assert!(!guesses.may_try(now, Some(&user("eve")), home, false) && !guesses.may_try(now, None, home, false));
        assert!(guesses.may_try(now + WINDOW, Some(&ann), home, false));
        assert!(guesses.may_try(now, Some(&ann), None, false), "the host");
    }

    #[test]
    fn a_user_who_is_guessed_from_everywhere_may_sign_in_where_they_are() {
        // S11
        let (now, mut guesses) = start(2);
        let address = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        (0..20).for_each(|n| guesses.failed(now, Some(&user("ann")), address(n)));
        assert!(!guesses.may_try(now, Some(&user("ann")), address(200), false));
        assert!(guesses.may_try(now, Some(&user("ann")), address(200), true));
        assert!(guesses.may_try(now, Some(&user("bob")), address(200), false));
    }

    #[test]
    fn a_subnet_of_ipv6_is_one_address_and_the_counts_are_bounded() {
        let (now, mut guesses) = start(1);
        let address = |text: &str| Some(text.parse().unwrap());
        guesses.failed(now, Some(&user("ann")), address("2001:db8::1"));
        assert!(!guesses.may_try(now, Some(&user("ann")), address("2001:db8::2:3"), false));
        assert!(guesses.may_try(now, Some(&user("ann")), address("2001:db8:0:1::1"), false));
        for n in 0..=u32::try_from(MAX_COUNTED).unwrap() {
            guesses.failed(now, Some(&user("ann")), Some(IpAddr::from(n.to_be_bytes())));
        }
        assert_eq!(
            (guesses.addresses.failures.len(), guesses.pairs.failures.len(), guesses.users.failures.len()),
            (MAX_COUNTED, MAX_COUNTED, 1)
        );
    }
}
