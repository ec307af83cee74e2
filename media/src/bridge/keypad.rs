//! Keypad: presses keys towards one receiver while no transcoder is at work for it: as named events where it takes them, else as
//! tones. It knows no stream and no bridge.

use std::time::{Duration, Instant};

use super::route::{codec_of, events_at};
use crate::{
    codec::{Codec, g711},
    dtmf::{Digit, Press},
    port::rtp::Agreed,
    rtp::rewrite::Identity,
    transcode::{Digits, Input, Output, Transcoder},
};

/// A transcoder into which nothing goes but keys.
#[derive(Debug)]
pub(crate) struct Keypad {
    transcoder: Transcoder,
    pub(super) clock_rate: u32,
    /// The latest time known.
    pub(super) now: Instant,
    /// When the transcoder last looked at the time.
    ticked: Option<Instant>,
}

impl Keypad {
    /// None for a receiver that takes neither events nor a codec of ours.
    pub(super) fn new(now: Instant, to: &Agreed, identity: Identity) -> Option<Self> {
        let sound = to.send.iter().find_map(|format| Some((codec_of(format)?, format.payload_type)));
        let events = events_at(&to.send, sound.map_or(8000, |(codec, _)| codec.clock_rate()));
        // Only events are sent to a receiver that takes them, so that it does not matter what sound would be.
        let (codec, payload_type) = sound.or(events.map(|_| (&g711::PCMU as &dyn Codec, 0)))?;
        let digits = events.map_or(Digits::Tones, |(payload_type, clock_rate)| Digits::Events { payload_type, clock_rate });
        let input = Input { codec, payload_type, comfort_noise: 13, events: None };
        let output = Output { codec, payload_type, parameters: to.wishes.parameters(payload_type), digits, identity };
        let clock_rate = if let Digits::Events { clock_rate, .. } = digits { clock_rate } else { codec.clock_rate() };
        Some(Self { transcoder: Transcoder::new(input, output).ok()?, clock_rate, now, ticked: None })
    }

    /// Presses a key after those that wait.
    pub(super) fn press(&mut self, now: Instant, digit: Digit, duration: Duration) {
        self.now = now;
        self.transcoder.keep_on(now);
        self.transcoder.press(Press::Down(digit));
        self.transcoder.press(Press::Up(digit, duration));
    }

    /// Whether there is nothing left to press.
    pub(super) fn is_done(&self) -> bool {
        !self.transcoder.is_pressing()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.transcoder.poll_timeout().filter(|due| self.ticked.is_none_or(|ticked| *due > ticked))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        (self.now, self.ticked) = (now, Some(now));
        self.transcoder.keep_on(now);
        self.transcoder.handle_timeout(now);
    }

    /// Writes the next packet that is due.
    pub(super) fn poll_packet(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if self.is_done() { None } else { self.transcoder.poll_packet(buffer) }
    }
}
