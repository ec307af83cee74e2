//! Guessing of passwords and keys, limited per user and per address. Known and unknown users count alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::text::UserName;

/// How long failures are counted together.
const WINDOW: Duration = Duration::from_secs(60);

/// Most users and addresses whose failures are counted. Where one more fails, the counts whose window is over go; if none is, the
/// one that began first goes.
pub(crate) const MAX_COUNTED: usize = 10_000;

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    User(UserName),
    Address(IpAddr),
}

/// The failures of the last minute.
#[derive(Debug)]
pub(crate) struct Guesses {
    most: u32,
    failures: BTreeMap<Who, (Instant, u32)>,
}

impl Guesses {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, failures: BTreeMap::new() }
    }

    /// Returns whether another try may be made.
    pub(crate) fn may_try(&self, now: Instant, user: Option<&UserName>, address: Option<IpAddr>) -> bool {
        !who(user, address).any(|who| self.failures.get(&who).is_some_and(|(since, count)| now < *since + WINDOW && *count >= self.most))
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self, now: Instant, user: Option<&UserName>, address: Option<IpAddr>) {
        for who in who(user, address) {
            if self.failures.len() >= MAX_COUNTED && !self.failures.contains_key(&who) {
                self.make_room(now);
            }
            let entry = self.failures.entry(who).or_insert((now, 0));
            *entry = if now < entry.0 + WINDOW { (entry.0, entry.1 + 1) } else { (now, 1) };
        }
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

fn who(user: Option<&UserName>, address: Option<IpAddr>) -> impl Iterator<Item = Who> {
    user.cloned().map(Who::User).into_iter().chain(address.map(Who::Address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    fn a_user_and_an_address_are_each_limited_for_a_minute() {
        let (now, mut guesses) = (Instant::now(), Guesses::new(2));
        let (ann, bob) = (UserName::parse("ann").unwrap(), UserName::parse("bob").unwrap());
        let (home, away) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        guesses.failed(now, Some(&ann), Some(home));
        assert!(guesses.may_try(now, Some(&ann), Some(home)));
        guesses.failed(now, Some(&ann), Some(home));
        assert!(!guesses.may_try(now, Some(&ann), Some(away)));
        assert!(!guesses.may_try(now, Some(&bob), Some(home)));
        assert!(guesses.may_try(now, Some(&bob), Some(away)));
        assert!(guesses.may_try(now + WINDOW, Some(&ann), Some(home)));
        for n in 0..=MAX_COUNTED as u128 {
            guesses.failed(now, None, Some(IpAddr::from(n.to_be_bytes())));
        }
        assert_eq!(guesses.failures.len(), MAX_COUNTED);
    }
}
