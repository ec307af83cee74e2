//! Pace of a media thread under load: it drains its sockets, then rests for what is left of a millisecond, so that one waking serves
//! many packets. Waking for each packet is a quarter of what the packet costs. Below [`BUSY`] it never rests, and a packet waits
//! for nothing.

use std::time::{Duration, Instant};

/// How long packets gather: the longest that a packet waits for others.
const WINDOW: Duration = Duration::from_millis(1);
/// Packets in a window that make the thread busy: about 80 calls on one thread.
const BUSY: usize = 8;

/// Counts packets by windows.
pub(super) struct Pace {
    since: Instant,
    packets: usize,
    busy: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, packets: 0, busy: false }
    }

    /// Counts the packets of a round.
    pub(super) fn count(&mut self, now: Instant, packets: usize) {
        self.packets += packets;
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.busy = self.packets >= BUSY;
            (self.since, self.packets) = (now, 0);
        }
    }

    /// Whether the thread looks for packets without waiting, and rests when there are none.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// How long to rest, now that all sockets are empty; none = wait for the next packet.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let rest = WINDOW.checked_sub(now.saturating_duration_since(self.since))?;
        self.busy.then_some(rest).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One packet each `gap` until `end`; whether the thread is busy then.
    fn packets(pace: &mut Pace, start: Instant, gap: Duration, count: u32) -> Instant {
        (1..=count).for_each(|number| pace.count(start + gap * number, 1));
        start + gap * count
    }

    #[test]
    fn a_light_load_never_rests() {
        let start = crate::clock::now();
        let mut pace = Pace::new(start);
        let now = packets(&mut pace, start, Duration::from_micros(200), 1000);
        assert!(!pace.is_busy());
        assert_eq!(pace.rest(now), None);
        // Not after a second without packets either, whatever they sum up to.
        pace.count(now + Duration::from_secs(1), 1);
        assert_eq!(pace.rest(now + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_heavy_load_rests_for_what_is_left_of_the_window() {
        let start = crate::clock::now();
        let mut pace = Pace::new(start);
        let now = packets(&mut pace, start, Duration::from_micros(20), 50);
        assert!(pace.is_busy());
        assert_eq!(pace.rest(now + Duration::from_micros(300)), Some(Duration::from_micros(700)));
        // A thread that needs the whole window does not rest.
        assert_eq!(pace.rest(now + Duration::from_millis(1)), None);
        assert_eq!(pace.rest(now + Duration::from_millis(9)), None);
    }

    #[test]
    fn rest_ends_with_the_load() {
        let start = crate::clock::now();
        let mut pace = Pace::new(start);
        let mut now = packets(&mut pace, start, Duration::from_micros(20), 50);
        for _ in 0..2 {
            now += WINDOW;
            pace.count(now, 0);
        }
        assert!(!pace.is_busy());
        assert_eq!(pace.rest(now), None);
    }
}
