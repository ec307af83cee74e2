//! Keys: the digits that the peer of a stream presses (RFC 4733), whether or not they pass to another end: signaling is told of them. It
//! sends none.

use std::time::{Duration, Instant};

use crate::dtmf::{Digit, MIN_DURATION, Press, event::Listener};

/// What a peer presses.
#[derive(Debug)]
pub(crate) struct Keys {
    clock_rate: u32,
    listener: Listener,
    /// When signaling may be told of the next one: nobody presses faster, and events with made-up timestamps must not flood it.
    next: Option<Instant>,
}

impl Keys {
    /// Keys of events of a clock rate in Hz.
    fn new(clock_rate: u32) -> Self {
        Self { clock_rate, listener: Listener::new(clock_rate), next: None }
    }

    /// Takes an event's packet; `keys` is what there is of the stream yet. Returns a digit that ended with it.
    pub(crate) fn hear(
        keys: &mut Option<Box<Self>>,
        now: Instant,
        clock_rate: u32,
        timestamp: u32,
        payload: &[u8],
    ) -> Option<(Digit, Duration)> {
        let keys = match keys {
            Some(keys) if keys.clock_rate == clock_rate => keys,
            keys => keys.insert(Box::new(Self::new(clock_rate))),
        };
        let presses = keys.listener.handle_packet(now, timestamp, payload);
        presses.into_iter().flatten().find_map(|press| keys.ended(now, press))
    }

    /// Ends a digit of which nothing was heard for a while.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<(Digit, Duration)> {
        self.listener.handle_timeout(now).and_then(|press| self.ended(now, press))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.listener.poll_timeout()
    }

    fn ended(&mut self, now: Instant, press: Press) -> Option<(Digit, Duration)> {
        let Press::Up(digit, duration) = press else { return None };
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + MIN_DURATION);
        Some((digit, duration))
    }
}
