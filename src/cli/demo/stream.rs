//! What one side hears while devices change at the other: whether it is one stream without a break (RFC 3550 §5.1). It knows no socket.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::tone::{Ear, RATE, Tone};

/// The least part of a packet that a tone must be to be heard in it.
const CLEAR: f64 = 0.9;

/// A packet of PCMU.
pub(super) struct Block {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) payload: Bytes,
}

/// The numbers of the packets of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    /// Packets.
    pub(super) packets: u32,
    /// Sequence numbers that were left out.
    pub(super) lost: u32,
    /// Packets that came twice, or after their successor.
    pub(super) repeated: u32,
    /// Changes of the SSRC.
    pub(super) breaks: u32,
    last: Option<(u32, u16)>,
}

/// Where a packet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the first, or has another SSRC.
    New,
    /// It is later than all before.
    On,
    /// It came twice, or too late.
    Back,
}

impl Numbers {
    /// Takes a packet.
    pub(super) fn take(&mut self, ssrc: u32, sequence: u16) -> Step {
        self.packets += 1;
        let step = match self.last {
            Some((before, last)) if before == ssrc => match sequence.wrapping_sub(last).cast_signed() {
                ahead @ 1.. => {
                    self.lost += u32::from(ahead.unsigned_abs()) - 1;
                    Step::On
                }
                ..=0 => {
                    self.repeated += 1;
                    return Step::Back;
                }
            },
            Some(_) => {
                self.breaks += 1;
                Step::New
            }
            None => Step::New,
        };
        self.last = Some((ssrc, sequence));
        step
    }
}

/// The sound as it arrives.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stream {
    /// Its packets.
    pub(super) numbers: Numbers,
    /// The longest silence, by the timestamps: what a listener misses, whenever the packets come.
    pub(super) silence: Duration,
    /// The longest time from one packet to the next on this computer.
    pub(super) pause: Duration,
    /// The tone of the newest packet, and in how many packets it was heard one after the other.
    pub(super) heard: Option<(Tone, u32)>,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Last {
    at: Instant,
    /// Where in time the newest packet ends.
    end: u32,
    quiet: u32,
}

impl Stream {
    /// Takes a packet; the tones are those of the devices that may be heard.
    pub(super) fn hear(&mut self, now: Instant, block: &Block, tones: &[Tone]) {
        let step = self.numbers.take(block.ssrc, block.sequence);
        if let Some(last) = self.last {
            self.pause = self.pause.max(now.saturating_duration_since(last.at));
        }
        if step == Step::Back {
            return;
        }
        let samples = u32::try_from(block.payload.len()).unwrap_or(u32::MAX);
        let mut ear = Ear::new(tones);
        ear.hear(&block.payload);
        let tone = tones.iter().copied().find(|tone| ear.share(*tone) >= CLEAR);
        let mut quiet = if tone.is_some() { 0 } else { samples };
        if let Some(last) = self.last.filter(|_| step == Step::On) {
            let missing = block.timestamp.wrapping_sub(last.end).cast_signed().max(0).unsigned_abs();
            self.note_silence(last.quiet.saturating_add(missing));
            quiet = if tone.is_some() { 0 } else { last.quiet.saturating_add(missing).saturating_add(samples) };
        }
        self.note_silence(quiet);
        self.heard = tone.map(|tone| (tone, self.heard.filter(|(before, _)| *before == tone).map_or(0, |(_, count)| count) + 1));
        let end = block.timestamp.wrapping_add(samples);
        self.last = Some(Last { at: now, end, quiet });
    }

    fn note_silence(&mut self, samples: u32) {
        self.silence = self.silence.max(Duration::from_secs_f64(f64::from(samples) / f64::from(RATE)));
    }

    /// Returns whether a tone was heard in the last so many packets.
    pub(super) fn hears(&self, tone: Tone, packets: u32) -> bool {
        self.heard.is_some_and(|(heard, count)| heard == tone && count >= packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const ONE: Tone = Tone(400);
    const OTHER: Tone = Tone(600);
    const BLOCK: u32 = 160;

    fn block(ssrc: u32, number: u16, time: u32, tone: Option<Tone>) -> Block {
        let payload = tone.map_or_else(|| Bytes::from_static(&[0xff; 160]), |tone| Bytes::copy_from_slice(&tone.block(time)));
        Block { ssrc, sequence: number, timestamp: time, payload }
    }

    fn heard(blocks: &[(u32, u16, u32, Option<Tone>)]) -> Stream {
        let mut stream = Stream::default();
        for (ssrc, number, time, tone) in blocks {
            stream.hear(clock::now(), &block(*ssrc, *number, *time, *tone), &[ONE, OTHER]);
        }
        stream
    }

    fn figures(stream: &Stream) -> (u32, u32, u32, u128) {
        let Numbers { lost, repeated, breaks, .. } = stream.numbers;
        (lost, repeated, breaks, stream.silence.as_millis())
    }

    #[test]
    fn one_stream_of_two_tones_has_no_break() {
        let stream = heard(&[(1, u16::MAX, u32::MAX - 159, Some(ONE)), (1, 0, 0, Some(OTHER)), (1, 1, BLOCK, Some(OTHER))]);
        assert_eq!(figures(&stream), (0, 0, 0, 0));
        assert!(stream.hears(OTHER, 2) && !stream.hears(OTHER, 3) && !stream.hears(ONE, 1));
    }

    #[test]
    fn what_is_missing_twice_or_from_elsewhere_is_seen() {
        assert_eq!(figures(&heard(&[(1, 1, 0, Some(ONE)), (1, 4, 3 * BLOCK, Some(ONE))])), (2, 0, 0, 40));
        assert_eq!(figures(&heard(&[(1, 1, 0, Some(ONE)), (1, 1, 0, Some(ONE)), (1, 2, BLOCK, Some(ONE))])), (0, 1, 0, 0));
        assert_eq!(figures(&heard(&[(1, 1, 0, Some(ONE)), (2, 9, 77, Some(ONE))])), (0, 0, 1, 0));
    }

    #[test]
    fn silence_is_what_lies_between_two_tones() {
        let stream = heard(&[(1, 1, 0, Some(ONE)), (1, 2, BLOCK, None), (1, 3, 3 * BLOCK, Some(ONE))]);
        assert_eq!(figures(&stream), (0, 0, 0, 40), "one packet of silence and one left out in time");
    }
}
