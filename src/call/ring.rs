//! Ring: which devices ring, who wins, and what the caller hears when nobody does. It knows statuses and numbers, no messages.

use std::time::{Duration, Instant};

use sip::StatusCode;

use super::leg::LegId;

/// The devices of a callee while they ring.
#[derive(Debug)]
pub struct Ring {
    ringing: Vec<LegId>,
    deadline: Instant,
    /// When the caller's invitation is over (RFC 3261 §13.3.1).
    expires: Option<Instant>,
    best: Option<StatusCode>,
    /// Which provisional statuses the caller was told: a bit for each from 100 to 199.
    told: u128,
}

/// What to do after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on ringing.
    Wait,
    /// Nobody is left: refuse the caller with this status, and cancel whoever still rings.
    GiveUp(StatusCode),
}

impl Ring {
    /// Starts with the legs of these devices, for at most that long.
    #[must_use]
    pub fn new(now: Instant, devices: Vec<LegId>, no_answer: Duration) -> Self {
        Self { ringing: devices, deadline: now + no_answer, expires: None, best: None, told: 0 }
    }

    /// Has it end when the caller's invitation does, if that is earlier.
    #[must_use]
    pub fn expiring(self, at: Option<Instant>) -> Self {
        Self { expires: at.filter(|at| *at < self.deadline), ..self }
    }

    /// A device sent a provisional response: returns the status that the caller gets, once for each.
    pub fn progress(&mut self, status: StatusCode) -> Option<StatusCode> {
        let bit = |status: StatusCode| 1_u128.checked_shl(u32::from(status.code()).saturating_sub(100)).unwrap_or(0);
        // Once the caller hears ringing, a device that is only being tried is no news.
        let rings = self.told & bit(StatusCode::RINGING) != 0;
        if self.told & bit(status) != 0 || rings && status < StatusCode::RINGING {
            return None;
        }
        self.told |= bit(status);
        Some(status)
    }

    /// Returns true once the caller was told that it rings.
    #[must_use]
    pub fn rings(&self) -> bool {
        self.told & (1 << 80) != 0
    }

    /// A device refused, could not be reached, or gave up.
    pub fn failed(&mut self, device: LegId, status: StatusCode) -> Verdict {
        self.ringing.retain(|ringing| *ringing != device);
        self.best = Some(match self.best {
            Some(best) if rank(best) >= rank(status) => best,
            Some(_) | None => status,
        });
        let refused_for_all = status.code() >= 600;
        if refused_for_all || self.ringing.is_empty() {
            return Verdict::GiveUp(told_to_caller(self.best.unwrap_or(status)));
        }
        Verdict::Wait
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Verdict {
        if self.expires.is_some_and(|at| now >= at) {
            return Verdict::GiveUp(StatusCode::REQUEST_TERMINATED);
        }
        // RFC 3261 §16.7 would say 408; 480 tells the caller that there is somebody who did not answer.
        if now >= self.deadline { Verdict::GiveUp(StatusCode::TEMPORARILY_UNAVAILABLE) } else { Verdict::Wait }
    }

    /// Returns when nobody has answered.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.expires.unwrap_or(self.deadline)
    }
}

/// Which refusal tells the caller most (§16.7 item 6): one for all devices, then busy, then what a person or phone decided.
fn rank(status: StatusCode) -> u8 {
    match status {
        status if status.code() >= 600 => 4,
        StatusCode::BUSY_HERE => 3,
        StatusCode::NOT_ACCEPTABLE_HERE | StatusCode::UNSUPPORTED_MEDIA_TYPE => 2,
        status if told_to_caller(status) != StatusCode::TEMPORARILY_UNAVAILABLE => 1,
        _ => 0,
    }
}

/// What one device's refusal means to the caller. That a device cannot be reached, wants credentials or has moved is our affair.
fn told_to_caller(status: StatusCode) -> StatusCode {
    match status.code() {
        300..=399 | 401 | 403 | 404 | 407 | 408 | 410 | 430 | 480 | 481 | 487 | 500..=599 => StatusCode::TEMPORARILY_UNAVAILABLE,
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(devices: u32) -> Ring {
        Ring::new(crate::clock::now(), (0..devices).map(LegId).collect(), Duration::from_secs(60))
    }

    #[test]
    fn the_last_refusal_ends_the_ringing_with_the_best_one() {
        let mut ring = ring(3);
        assert_eq!(ring.failed(LegId(0), StatusCode::SERVICE_UNAVAILABLE), Verdict::Wait);
        assert_eq!(ring.failed(LegId(1), StatusCode::BUSY_HERE), Verdict::Wait);
        assert_eq!(ring.failed(LegId(2), StatusCode::NOT_ACCEPTABLE_HERE), Verdict::GiveUp(StatusCode::BUSY_HERE));
    }

    #[test]
    fn a_refusal_for_all_ends_it_at_once() {
        assert_eq!(ring(3).failed(LegId(1), StatusCode::DECLINE), Verdict::GiveUp(StatusCode::DECLINE));
    }

    #[test]
    fn an_unreachable_device_is_an_unavailable_user() {
        for status in
            [StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNAUTHORIZED, StatusCode::MOVED_TEMPORARILY]
        {
            assert_eq!(ring(1).failed(LegId(0), status), Verdict::GiveUp(StatusCode::TEMPORARILY_UNAVAILABLE), "{status}");
        }
    }

    #[test]
    fn the_caller_hears_of_each_progress_once() {
        let mut ring = ring(2);
        assert_eq!(ring.progress(StatusCode::RINGING), Some(StatusCode::RINGING));
        assert_eq!(ring.progress(StatusCode::RINGING), None);
        assert_eq!(ring.progress(StatusCode::SESSION_PROGRESS), Some(StatusCode::SESSION_PROGRESS));
        assert_eq!(ring.progress(StatusCode::RINGING), None);
    }

    #[test]
    fn nobody_answers_for_ever() {
        let mut ring = ring(1);
        let end = ring.poll_timeout();
        assert_eq!(ring.handle_timeout(end - Duration::from_millis(1)), Verdict::Wait);
        assert_eq!(ring.handle_timeout(end), Verdict::GiveUp(StatusCode::TEMPORARILY_UNAVAILABLE));
    }

    #[test]
    fn an_invitation_that_is_over_ends_the_ringing_if_that_is_earlier() {
        let start = ring(1).poll_timeout() - Duration::from_secs(60);
        for (seconds, end, status) in
            [(5, 5, StatusCode::REQUEST_TERMINATED), (0, 0, StatusCode::REQUEST_TERMINATED), (120, 60, StatusCode::TEMPORARILY_UNAVAILABLE)]
        {
            let ring = Ring::new(start, vec![LegId(0)], Duration::from_secs(60));
            let mut ring = ring.expiring(Some(start + Duration::from_secs(seconds)));
            let end = start + Duration::from_secs(end);
            assert_eq!(ring.poll_timeout(), end);
            assert_eq!(ring.handle_timeout(end), Verdict::GiveUp(status), "{seconds}");
        }
    }
}
