//! The timers of RFC 3261 §17 (table 4) with RFC 6026. Each transaction has at most two running: one that repeats a message, one that ends it.

use std::time::{Duration, Instant};

/// Round-trip time estimate: 500 ms.
pub const T1: Duration = Duration::from_millis(500);
/// Longest interval between two repetitions: 4 s.
pub const T2: Duration = Duration::from_secs(4);
/// How long a message stays in the network: 5 s.
pub const T4: Duration = Duration::from_secs(5);
/// Timers B, F, H, J, L and M: 64·T1, 32 s.
pub const LIFE: Duration = Duration::from_secs(32);

/// A timer that fires at growing intervals (A, E, G).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeat {
    at: Option<Instant>,
    interval: Duration,
    longest: Duration,
}

impl Repeat {
    pub(crate) const OFF: Self = Self { at: None, interval: T1, longest: T2 };

    /// Starts at T1, doubling up to `longest`; over a reliable transport it never fires.
    pub(crate) fn start(now: Instant, reliable: bool, longest: Duration) -> Self {
        Self { at: (!reliable).then(|| now + T1), interval: T1, longest }
    }

    pub(crate) fn stop(&mut self) {
        self.at = None;
    }

    /// Goes on at the longest interval (timer E in Proceeding).
    pub(crate) fn slow_down(&mut self) {
        self.interval = self.longest;
    }

    /// Returns true once for each time it fires.
    pub(crate) fn fired(&mut self, now: Instant) -> bool {
        match self.at {
            Some(at) if at <= now => {
                self.interval = (self.interval * 2).min(self.longest);
                self.at = Some(now + self.interval);
                true
            }
            Some(_) | None => false,
        }
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }
}

/// Returns the earlier of two optional times.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (some, None) | (None, some) => some,
    }
}
