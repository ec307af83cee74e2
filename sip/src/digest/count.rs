//! Which nonce counts were used (RFC 7616 §3.4, `nc`), so that an answer is taken once.

use std::collections::BTreeMap;

use super::nonce::Nonce;

/// Remembers the highest count of each nonce that was used.
///
/// It is bounded: with [`NonceCounts::MAX`] nonces in memory the oldest one is forgotten, and from then on every nonce as old as that one or
/// older that is not in memory is refused, as if it had expired. So an answer never counts twice; what the bound costs is another round
/// trip for clients that are slow to come back.
pub(super) struct NonceCounts {
    used: BTreeMap<u64, u32>,
    /// Nonces up to this key are refused unless they are in memory.
    forgotten: Option<u64>,
}

/// What a request uses of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// This count and all below it.
    Count(u32),
    /// All of it: an answer without qop has no count.
    Whole,
}

impl NonceCounts {
    /// Most nonces in memory: about 8 MB.
    pub(super) const MAX: usize = 1 << 18;
    /// Most expired nonces that one call clears away, so that no call takes long.
    const SWEEP: usize = 32;

    pub(super) fn new() -> Self {
        Self { used: BTreeMap::new(), forgotten: None }
    }

    /// Takes a count; false if it, or a higher one, was taken before, or that cannot be known any more. Nonces issued before
    /// `oldest` (in seconds since the start) have expired.
    pub(super) fn take(&mut self, nonce: Nonce, wanted: Use, oldest: u32) -> bool {
        let key = u64::from(nonce.issued) << 32 | u64::from(nonce.unique);
        let count = match wanted {
            Use::Count(count) => count,
            Use::Whole => u32::MAX,
        };
        if let Some(last) = self.used.get_mut(&key) {
            let fresh = count > *last && wanted != Use::Whole;
            *last = (*last).max(count);
            return fresh;
        }
        if count == 0 || self.forgotten.is_some_and(|forgotten| key <= forgotten) {
            return false;
        }
        self.used.insert(key, count);
        self.sweep(oldest);
        true
    }

    fn sweep(&mut self, oldest: u32) {
        for _ in 0..Self::SWEEP {
            match self.used.first_entry() {
                Some(first) if *first.key() >> 32 < u64::from(oldest) => first.remove(),
                Some(_) | None => break,
            };
        }
        if self.used.len() > Self::MAX
            && let Some((key, _)) = self.used.pop_first()
        {
            self.forgotten = self.forgotten.max(Some(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(issued: u32, unique: u32) -> Nonce {
        Nonce { issued, unique, bound: true }
    }

    #[test]
    fn a_count_is_taken_once_and_only_upwards() {
        let mut counts = NonceCounts::new();
        assert!(counts.take(nonce(1, 1), Use::Count(1), 0));
        assert!(!counts.take(nonce(1, 1), Use::Count(1), 0));
        assert!(counts.take(nonce(1, 1), Use::Count(5), 0));
        assert!(!counts.take(nonce(1, 1), Use::Count(4), 0));
        assert!(counts.take(nonce(1, 2), Use::Count(1), 0));
        assert!(!counts.take(nonce(1, 3), Use::Count(0), 0));
    }

    #[test]
    fn an_answer_without_count_uses_up_the_nonce() {
        let mut counts = NonceCounts::new();
        assert!(counts.take(nonce(1, 1), Use::Whole, 0));
        assert!(!counts.take(nonce(1, 1), Use::Whole, 0));
        assert!(!counts.take(nonce(1, 1), Use::Count(9), 0));
        assert!(counts.take(nonce(2, 1), Use::Count(1), 0));
        assert!(!counts.take(nonce(2, 1), Use::Whole, 0));
        assert!(!counts.take(nonce(2, 1), Use::Count(2), 0), "that try used it up");
    }

    #[test]
    fn what_was_forgotten_at_the_bound_is_refused() {
        let mut counts = NonceCounts::new();
        let max = u32::try_from(NonceCounts::MAX).unwrap();
        for unique in 1..=max + 1 {
            assert!(counts.take(nonce(5, unique), Use::Count(1), 0));
        }
        assert_eq!(counts.used.len(), NonceCounts::MAX);
        assert!(!counts.take(nonce(5, 1), Use::Count(2), 0), "forgotten");
        assert!(!counts.take(nonce(4, 9), Use::Count(1), 0), "older than that");
        assert!(counts.take(nonce(5, 2), Use::Count(2), 0), "still known");
        assert!(counts.take(nonce(6, 0), Use::Count(1), 0), "newer");
    }

    #[test]
    fn expired_nonces_are_cleared_away() {
        let mut counts = NonceCounts::new();
        for unique in 0..20 {
            counts.take(nonce(1, unique), Use::Count(1), 0);
        }
        assert!(counts.take(nonce(100, 1), Use::Count(1), 50));
        assert_eq!(counts.used.len(), 1);
    }
}
