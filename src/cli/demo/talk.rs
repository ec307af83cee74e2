//! What comes of a conversation: what one side sent, and what reached it. It knows no socket.

use std::time::{Duration, Instant};

use super::picture::Album;
use super::tone::{Ear, RATE, Tone};

/// Packets of sound that each side sends.
pub const PACKETS: u32 = 100;
/// Sound in a packet.
pub const PTIME: Duration = Duration::from_millis(20);
/// How long the last packets may take.
pub const GRACE: Duration = Duration::from_millis(500);

/// What came of a talk.
pub struct Talk {
    /// Packets of sound sent.
    pub sent: u32,
    /// Packets of sound received.
    pub received: u32,
    /// When the first of them came.
    pub first: Option<Instant>,
    /// What was heard.
    pub ear: Ear,
    /// The pictures, of a call with video.
    pub pictures: Option<Pictures>,
    arrivals: Arrivals,
}

/// The pictures of a talk.
#[derive(Default)]
pub struct Pictures {
    /// Frames sent.
    pub sent: u32,
    /// Frames received.
    pub album: Album,
}

impl Talk {
    /// Begins to listen for two tones.
    #[must_use]
    pub fn new(own: Tone, others: Tone) -> Self {
        let ear = Ear::new(&[own, others]);
        Self { sent: 0, received: 0, first: None, ear, pictures: None, arrivals: Arrivals::default() }
    }

    /// Hears a packet of PCMU.
    pub fn hear(&mut self, now: Instant, timestamp: u32, payload: &[u8]) {
        self.received += 1;
        self.first.get_or_insert(now);
        self.ear.hear(payload);
        self.arrivals.note(now, timestamp);
    }

    /// Returns the interarrival jitter (RFC 3550 §6.4.1).
    #[must_use]
    pub fn jitter(&self) -> Duration {
        Duration::from_secs_f64(self.arrivals.jitter)
    }
}

/// The interarrival jitter (RFC 3550 §6.4.1), in seconds.
#[derive(Default)]
struct Arrivals {
    last: Option<(Instant, u32)>,
    jitter: f64,
}

impl Arrivals {
    fn note(&mut self, now: Instant, timestamp: u32) {
        if let Some((before, earlier)) = self.last.replace((now, timestamp)) {
            let sent = f64::from(timestamp.wrapping_sub(earlier).cast_signed()) / f64::from(RATE);
            let difference = now.saturating_duration_since(before).as_secs_f64() - sent;
            self.jitter += (difference.abs() - self.jitter) / 16.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_packets_have_no_jitter_and_uneven_ones_have() {
        let start = Instant::from(tokio::time::Instant::now());
        let jitter = |late: u32| {
            let mut arrivals = Arrivals::default();
            for n in 0..200 {
                arrivals.note(start + PTIME * n + Duration::from_millis(u64::from(n % 2 * late)), (u32::MAX - 8000).wrapping_add(n * 160));
            }
            arrivals.jitter
        };
        assert!(jitter(0) < 1e-6);
        assert!((jitter(4) - 0.004).abs() < 1e-4, "{}", jitter(4));
    }
}
