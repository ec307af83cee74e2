//! When to try again (Retry-After, RFC 3261 §20.33): each who is refused hears another time, so that they do not come back all at once.

use sip::message::{Headers, Name};
use sip::random::Random;

/// How long the reason is likely to last.
#[derive(Clone, Copy)]
pub(crate) enum Retry {
    /// Load, or a limit of what comes and goes: 1 to 10 s.
    Soon,
    /// What somebody has to mend, or a limit that lasts: 30 to 89 s.
    Later,
}

impl Retry {
    /// Returns after how many seconds.
    pub(crate) fn seconds(self, random: &mut Random) -> u64 {
        match self {
            Self::Soon => 1 + random.below(10),
            Self::Later => 30 + random.below(60),
        }
    }

    /// Says so in a refusal.
    pub(crate) fn push(self, headers: &mut Headers, random: &mut Random) {
        headers.push(Name::RetryAfter, self.seconds(random).to_string());
    }
}
