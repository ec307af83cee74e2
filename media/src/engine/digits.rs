//! Digits: what a peer presses is told to signaling, and what signaling wants pressed goes to a peer. Named events that both ends agreed
//! on pass with the sound; which of the others become SIP INFO, and which tones, is for signaling to say.

use std::time::{Duration, Instant};

use super::{Engine, Event};
use crate::{dtmf::Digit, port::PortId, sdp::MediaKind};

/// Digits that signaling has not read; further ones are dropped.
const MAX_DIGITS: usize = 1024;

impl Engine {
    /// Presses a key towards the peer of a port for that long, after those that wait: as a named event (RFC 4733) where it takes
    /// them, else as tones. Meanwhile it hears nothing else. A port that sends no sound presses nothing; at most
    /// [`MAX_WAITING`](crate::dtmf::MAX_WAITING) digits wait.
    pub fn press(&mut self, now: Instant, port: PortId, digit: Digit, duration: Duration) {
        let Some(slot) = self.slot(port) else { return };
        let random = &mut self.random;
        let Some(port) = self.ports.get_mut(slot).and_then(Option::as_mut) else { return };
        let is_sound = |agreed: &crate::port::rtp::Agreed| agreed.kind == MediaKind::Audio && agreed.direction.sends();
        if let Some(stream) = port.streams.iter_mut().find(|stream| stream.agreed().is_some_and(is_sound)) {
            stream.press(now, (digit, duration), random);
        }
        self.attend(slot);
    }

    /// A peer has pressed a key.
    pub(super) fn pressed(&mut self, slot: usize, (digit, duration): (Digit, Duration)) {
        let Some(port) = self.ports.get(slot).and_then(Option::as_ref).map(|port| port.id) else { return };
        let unread = self.events.iter().filter(|event| matches!(event, Event::Digit { .. })).count();
        if unread < MAX_DIGITS {
            self.events.push_back(Event::Digit { port, digit, duration });
        }
    }
}
