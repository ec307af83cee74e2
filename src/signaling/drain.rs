//! Draining: no new calls, while those that there are go on. With the last of them, or at a deadline, the loop ends, if that is wanted.
//! At its end, whatever the reason, the calls that are left are ended in good order: each device gets its BYE, each call its record.

use std::time::{Duration, Instant};

use tracing::info;

use super::Signaling;
use crate::call::{self, command::Command};

/// What draining comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    /// When calls that still last do not count any more.
    until: Option<Instant>,
    /// The loop ends then.
    ends: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draining {
    /// New calls are taken again.
    Cancel,
    /// No new calls; the loop goes on.
    Stay,
    /// No new calls; the loop ends with the last one, or after so long.
    End(Option<Duration>),
}

/// How long the connections of devices and applications have for what they are told at the end.
const WRITING: Duration = Duration::from_millis(100);
/// How long the calls' last figures are waited for at the end.
const FIGURES: Duration = Duration::from_secs(2);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Told,
    /// There are no calls any more, and there were to be no new ones.
    Drained,
}

/// The end of the loop, which has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    pub(super) ended: Ended,
    /// Not before.
    from: Instant,
    /// Not after.
    until: Instant,
}

impl Farewell {
    /// Returns when to look again.
    pub(super) fn next(&self, now: Instant) -> Instant {
        if now < self.from { self.from } else { self.until }
    }

    /// Whether the loop ends now.
    pub(super) fn is_over(&self, now: Instant, is_empty: bool) -> bool {
        self.until <= now || self.from <= now && is_empty
    }
}

impl Signaling {
    /// Ends every call, and begins the end of the loop.
    pub(super) fn farewell(&mut self, ended: Ended) -> Farewell {
        let calls: Vec<call::Id> = self.calls.views().map(|view| view.id).collect();
        info!(calls = calls.len(), "stopping");
        // who asked for the end by draining is told that it comes
        let from = if calls.is_empty() && ended == Ended::Told { self.now } else { self.now + WRITING };
        for call in calls {
            let (calls, mut switch) = self.calls();
            // it may have ended by itself
            let _gone = calls.command(&mut switch, Command::End { call, reason: "the switch was stopped".to_owned() });
        }
        self.settle();
        Farewell { ended, from, until: self.now + FIGURES }
    }

    pub(super) fn set_draining(&mut self, draining: Draining) {
        self.draining = match draining {
            Draining::Cancel => None,
            Draining::Stay => Some(Drain { until: None, ends: false }),
            Draining::End(deadline) => Some(Drain { until: deadline.map(|after| self.now + after), ends: true }),
        };
        info!(?draining, calls = self.calls.len(), "draining");
    }

    /// When the deadline is.
    pub(super) fn drain_timeout(&self) -> Option<Instant> {
        self.draining.and_then(|drain| drain.until)
    }

    /// Whether the loop has to end.
    pub(super) fn is_drained(&self) -> bool {
        self.draining.is_some_and(|drain| drain.ends && (self.calls.is_empty() || drain.until.is_some_and(|until| until <= self.now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_the_last_figures_but_not_for_ever() {
        let now = crate::clock::now();
        let farewell = Farewell { ended: Ended::Told, from: now + WRITING, until: now + FIGURES };
        assert!(!farewell.is_over(now, true), "what is being written has a moment");
        assert_eq!(farewell.next(now), now + WRITING);
        assert!(farewell.is_over(now + WRITING, true) && !farewell.is_over(now + WRITING, false));
        assert_eq!(farewell.next(now + WRITING), now + FIGURES);
        assert!(farewell.is_over(now + FIGURES, false));
    }
}
