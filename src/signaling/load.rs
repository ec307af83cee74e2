//! Whether the loop keeps up. While it does not, new calls are refused, so that those under way, and the registrations, get their time.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

/// What the loop knows of its own load.
#[derive(Debug)]
pub(super) struct Load {
    rested: Instant,
    /// Messages since.
    worked: u32,
    /// Refused INVITEs, by hash: the ones of this period and of the last one.
    refused: [HashSet<u64>; 2],
    since: Instant,
    hasher: RandomState,
}

impl Load {
    /// How long the loop may find work at every look before it counts as overloaded: a phone repeats its INVITE after 500 ms, and by then
    /// what waits has to be answered.
    const LIMIT: Duration = Duration::from_millis(50);
    /// How many messages it must have worked on since: a process that was stopped for a while, with little to do, is not overloaded.
    const BURST: u32 = 64;
    /// How long a refused INVITE is remembered, at least: as long as its copies come (RFC 3261 §17.1.1.2, timer B).
    const MEMORY: Duration = Duration::from_secs(32);
    /// Most refused INVITEs remembered in one such time; beyond, the oldest are forgotten, and a late copy of one may count as a new call.
    const MAX_REFUSED: usize = 32_768;

    pub(super) fn new(now: Instant) -> Self {
        Self { rested: now, worked: 0, refused: Default::default(), since: now, hasher: RandomState::new() }
    }

    /// A look at the sources found nothing to do.
    pub(super) fn rested(&mut self, now: Instant) {
        (self.rested, self.worked) = (now, 0);
    }

    /// A message was taken.
    pub(super) fn worked(&mut self) {
        self.worked = self.worked.saturating_add(1);
    }

    /// Decides about an INVITE of a new call, told apart by its topmost Via. A copy of one that was refused stays refused: its caller has
    /// given up, and a call begun for the copy would ring for nobody.
    pub(super) fn admits(&mut self, now: Instant, via: &[u8]) -> bool {
        self.forget(now);
        let invite = self.hasher.hash_one(via);
        let known = self.refused.iter().any(|refused| refused.contains(&invite));
        let over = self.worked >= Self::BURST && now.saturating_duration_since(self.rested) > Self::LIMIT;
        if over && !known {
            self.refused[0].insert(invite);
        }
        !over && !known
    }

    fn forget(&mut self, now: Instant) {
        let [current, last] = &mut self.refused;
        if current.len() >= Self::MAX_REFUSED || now.saturating_duration_since(self.since) >= Self::MEMORY {
            self.since = now;
            std::mem::swap(current, last);
            current.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> (Load, impl Fn(u64) -> Instant) {
        let start = crate::clock::now();
        (Load::new(start), move |milliseconds| start + Duration::from_millis(milliseconds))
    }

    fn burst(load: &mut Load) {
        (0..Load::BURST).for_each(|_| load.worked());
    }

    #[test]
    fn new_calls_are_refused_while_every_look_finds_work() {
        let (mut load, at) = start();
        burst(&mut load);
        assert!(load.admits(at(50), b"a"));
        assert!(!load.admits(at(51), b"b"));
        assert!(!load.admits(at(5_000), b"c"));
        load.rested(at(5_001));
        assert!(load.admits(at(6_000), b"d"), "so far there was little to do");
        burst(&mut load);
        assert!(!load.admits(at(6_000), b"e"));
    }

    #[test]
    fn a_copy_of_a_refused_invite_stays_refused_for_as_long_as_copies_come() {
        let (mut load, at) = start();
        burst(&mut load);
        assert!(!load.admits(at(200), b"a"));
        load.rested(at(201));
        assert!(!load.admits(at(700), b"a"), "the copy");
        assert!(load.admits(at(700), b"b"), "another one");
        assert!(!load.admits(at(32_001), b"a"));
        assert!(load.admits(at(96_001), b"c"));
        assert!(load.admits(at(160_001), b"a"));
    }

    #[test]
    fn what_was_refused_is_remembered_within_a_bound() {
        // S11
        let (mut load, at) = start();
        burst(&mut load);
        for number in 0..3 * Load::MAX_REFUSED {
            assert!(!load.admits(at(200), &number.to_be_bytes()));
        }
        assert!(load.refused.iter().map(HashSet::len).sum::<usize>() <= 2 * Load::MAX_REFUSED);
        load.rested(at(201));
        assert!(!load.admits(at(201), &(3 * Load::MAX_REFUSED - 1).to_be_bytes()), "the last one is known");
    }
}
