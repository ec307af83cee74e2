//! Session timer (RFC 4028), in both roles: when to refresh, when to give up, and what to write into requests and responses; and what
//! takes its place where the peer keeps none.

use std::time::{Duration, Instant};

use crate::message::header::{Refresher, SessionExpires};
use crate::message::{Headers, Name, StatusCode};
use crate::transaction::ClientId;

/// The smallest session interval we take: 90 s (§4).
pub(crate) const MIN_SE: Duration = Duration::from_secs(90);

/// The timer of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refresh {
    interval: Duration,
    ours: bool,
    refresh_at: Option<Instant>,
    expires_at: Instant,
}

/// What the timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send a refresh.
    Refresh,
    /// The peer did not refresh: send BYE (§10).
    Expired,
}

impl Refresh {
    /// Starts or restarts the timer after a 2xx; `ours` when we are the refresher.
    pub(crate) fn start(now: Instant, interval: Duration, ours: bool) -> Self {
        // §10: BYE before the interval is over, by the smaller of 32 s and a third of it.
        let margin = Duration::from_secs(32).min(interval / 3);
        Self { interval, ours, refresh_at: ours.then(|| now + interval / 2), expires_at: now + interval - margin }
    }

    pub(crate) fn restarted(self, now: Instant) -> Self {
        Self::start(now, self.interval, self.ours)
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.ours
    }

    /// Puts the next refresh off, after a 491 or because something else is under way.
    pub(crate) fn retry_at(&mut self, at: Instant) {
        self.refresh_at = Some(at);
    }

    /// Tries again after a failure that says nothing about when: at half of what is left, which makes a handful of times.
    pub(crate) fn retry_later(&mut self, now: Instant) {
        let left = self.expires_at.saturating_duration_since(now);
        self.retry_at(now + (left / 2).max(Duration::from_secs(2)));
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if self.expires_at <= now {
            return Some(Due::Expired);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            return Some(Due::Refresh);
        }
        None
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        crate::transaction::timer::earlier(self.refresh_at, Some(self.expires_at))
    }
}

/// Where no session timer is agreed: from time to time the peer is asked whether it still knows the session, by OPTIONS within the dialog
/// (§12.2.1.2, RFC 5057 §5.1). Any answer but 481 will do, also that it does not know the method.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Probe {
    due: Option<Instant>,
    pub(super) asked: Option<ClientId>,
    /// The last one could not be sent.
    failed: bool,
}

impl Probe {
    /// The peer was heard: asked again half a session interval later, as a refresh would be due.
    pub(super) fn heard(&mut self, now: Instant, interval: Duration) {
        *self = Self { due: Some(now + interval / 2), asked: self.asked, failed: false };
    }

    /// Returns true when the peer is to be asked.
    pub(super) fn handle_timeout(&mut self, now: Instant, interval: Duration) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = Some(now + interval / 2);
        }
        is_due
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the final status of a probe, and returns true where nobody is there any more: the peer says so, is silent, or could not be
    /// reached twice. Its connection may have broken just now, and media flow on.
    pub(super) fn is_lost(&mut self, status: StatusCode) -> bool {
        let failed = std::mem::replace(&mut self.failed, status == StatusCode::SERVICE_UNAVAILABLE);
        is_lost(status) || (failed && self.failed)
    }
}

/// Returns true where the peer no longer knows the dialog, or is silent (§12.2.1.2).
pub(super) fn is_lost(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_TRANSACTION | StatusCode::REQUEST_TIMEOUT)
}

/// What a UAS decides about the session timer of a request (§9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No timer.
    Off,
    /// Answer with this; true when we refresh.
    On(SessionExpires, bool),
    /// Refuse with 422 and our Min-SE.
    TooSmall,
}

/// Decides for a request we received. `wanted` is our own interval.
pub(crate) fn uas(headers: &Headers, wanted: Duration) -> Verdict {
    let supported = headers.has_token(Name::Supported, "timer") || headers.has_token(Name::Require, "timer");
    let Ok(Some(asked)) = headers.optional::<SessionExpires>(Name::SessionExpires) else {
        // The UAC left it to us: only with its support do we ask for refreshes, by ourselves.
        return if supported {
            Verdict::On(SessionExpires { interval: wanted, refresher: Some(Refresher::Uas) }, true)
        } else {
            Verdict::Off
        };
    };
    if asked.interval < MIN_SE {
        return if supported { Verdict::TooSmall } else { Verdict::Off };
    }
    let floor = headers.number(Name::MinSe).ok().flatten().map_or(MIN_SE, |s| Duration::from_secs(s.into())).max(MIN_SE);
    let interval = asked.interval.min(wanted).max(floor).min(asked.interval);
    let refresher = if supported { asked.refresher.unwrap_or(Refresher::Uac) } else { Refresher::Uas };
    Verdict::On(SessionExpires { interval, refresher: Some(refresher) }, refresher == Refresher::Uas)
}

/// Reads the timer out of a 2xx to our request (§7.2). None where the peer wants none.
pub(crate) fn uac(headers: &Headers) -> Option<(Duration, bool)> {
    let agreed = headers.optional::<SessionExpires>(Name::SessionExpires).ok()??;
    Some((agreed.interval.max(MIN_SE), agreed.refresher != Some(Refresher::Uas)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::epoch;

    const WANTED: Duration = Duration::from_secs(1800);

    fn headers(rows: &[(Name, &str)]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in rows {
            headers.push(*name, value);
        }
        headers
    }

    fn on(seconds: u64, refresher: Refresher) -> Verdict {
        let expires = SessionExpires { interval: Duration::from_secs(seconds), refresher: Some(refresher) };
        Verdict::On(expires, refresher == Refresher::Uas)
    }

    #[test]
    fn the_uas_decides_as_section_9_says() {
        let timer = (Name::Supported, "100rel, timer");
        let cases: [(&[(Name, &str)], Verdict); 8] = [
            (&[], Verdict::Off),
            (&[timer], on(1800, Refresher::Uas)),
            (&[timer, (Name::SessionExpires, "600")], on(600, Refresher::Uac)),
            (&[timer, (Name::SessionExpires, "600;refresher=uas")], on(600, Refresher::Uas)),
            (&[timer, (Name::SessionExpires, "89")], Verdict::TooSmall),
            (&[(Name::SessionExpires, "7200"), (Name::MinSe, "3600"), timer], on(3600, Refresher::Uac)),
            (&[(Name::SessionExpires, "3600")], on(1800, Refresher::Uas)),
            (&[(Name::SessionExpires, "30")], Verdict::Off),
        ];
        for (rows, verdict) in cases {
            assert_eq!(uas(&headers(rows), WANTED), verdict, "{rows:?}");
        }
    }

    #[test]
    fn the_refresher_refreshes_at_half_time_and_the_other_gives_up_before_the_end() {
        let now = epoch();
        let mut ours = Refresh::start(now, MIN_SE, true);
        assert_eq!(ours.poll_timeout(), Some(now + MIN_SE / 2));
        assert_eq!(ours.handle_timeout(now + MIN_SE / 2), Some(Due::Refresh));
        assert_eq!(ours.handle_timeout(now + MIN_SE / 2), None);
        let mut theirs = Refresh::start(now, MIN_SE, false);
        assert_eq!(theirs.poll_timeout(), Some(now + Duration::from_secs(60)));
        assert_eq!(theirs.handle_timeout(now + Duration::from_secs(60)), Some(Due::Expired));
    }

    #[test]
    fn the_uac_follows_the_response() {
        assert_eq!(uac(&headers(&[])), None);
        assert_eq!(uac(&headers(&[(Name::SessionExpires, "600;refresher=uas")])), Some((Duration::from_secs(600), false)));
        assert_eq!(uac(&headers(&[(Name::SessionExpires, "600;refresher=uac")])), Some((Duration::from_secs(600), true)));
    }
}
