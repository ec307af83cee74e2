//! The only reader of the clock. Everything below takes time as an argument.

use std::time::Instant;

/// Returns the time that timers run on.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
pub fn now() -> Instant {
    Instant::now()
}
