//! The only reader of the clock. Everything below takes time as an argument.

use std::time::{Duration, Instant, SystemTime};

/// Returns the time that timers run on. In tests with a paused runtime it stands still with the runtime.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time of day, since 1970. It may jump either way: use it for records and nonces, never for timers.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
