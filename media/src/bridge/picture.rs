//! Key frames: pictures that build on no others. What tells where one begins in RTP payloads (RFC 7741 §4, RFC 9628 §4, RFC 6184 §5,
//! RFC 7798 §4, the AV1 payload's §4), and when a source is asked for one (RFC 4585 §6.3.1, RFC 5104 §4.3.1).

use std::time::{Duration, Instant};

use crate::sdp::Format;

/// Time between two requests.
const AGAIN: Duration = Duration::from_millis(200);
/// Requests to a source whose pictures we can tell; then what comes is passed on as it is.
const MOST: u8 = 10;
/// Requests to another source.
const MOST_UNKNOWN: u8 = 3;

/// Whether a key frame begins in a payload; none = the format is not one whose pictures we can tell.
pub(crate) fn begins(format: &Format, payload: &[u8]) -> Option<bool> {
    let is = |name: &[u8]| format.encoding.eq_ignore_case(name);
    if is(b"VP8") {
        Some(vp8(payload).unwrap_or(false))
    } else if is(b"VP9") {
        Some(vp9(payload).unwrap_or(false))
    } else if is(b"H264") {
        Some(h264(payload).unwrap_or(false))
    } else if is(b"H265") {
        Some(h265(payload).unwrap_or(false))
    } else if is(b"AV1") {
        // The N bit: the first packet of a coded video sequence.
        Some(payload.first().is_some_and(|first| first & 0x08 != 0))
    } else {
        None
    }
}

fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extended = *payload.get(1)?;
        at += 1;
        if extended & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extended & 0x40 != 0) + usize::from(extended & 0x30 != 0);
    }
    // The start of the first partition, whose first bit tells a frame that builds on others.
    Some(first & 0x17 == 0x10 && payload.get(at)? & 1 == 0)
}

fn vp9(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    let layer = if first & 0x20 != 0 { payload.get(at)? >> 1 & 7 } else { 0 };
    Some(first & 0x48 == 0x08 && layer == 0)
}

/// Parameter sets come before the picture that they are for.
fn h264(payload: &[u8]) -> Option<bool> {
    let is_key = |unit: u8| matches!(unit & 0x1f, 5 | 7);
    let first = *payload.first()?;
    Some(match first & 0x1f {
        24 => units(payload.get(1..)?).any(|unit| unit.first().is_some_and(|first| is_key(*first))),
        28 | 29 => payload.get(1).is_some_and(|header| header & 0x80 != 0 && is_key(*header)),
        _ => is_key(first),
    })
}

fn h265(payload: &[u8]) -> Option<bool> {
    let is_key = |kind: u8| matches!(kind, 16..=21 | 32..=34);
    let kind = |first: u8| first >> 1 & 0x3f;
    let first = *payload.first()?;
    Some(match kind(first) {
        48 => units(payload.get(2..)?).any(|unit| unit.first().is_some_and(|first| is_key(kind(*first)))),
        49 => payload.get(2).is_some_and(|header| header & 0x80 != 0 && is_key(header & 0x3f)),
        other => is_key(other),
    })
}

/// The units of an aggregation packet, each behind its length.
fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (unit, next) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = next;
        Some(unit)
    })
}

/// Requests to a source, until its key frame is seen.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// As whom we ask.
    pub(crate) ssrc: u32,
    /// What the numbers of our requests begin behind: they must differ from those before.
    first: u8,
    /// When to ask next; none while the source is silent: it will begin with one.
    next: Option<Instant>,
    is_due: bool,
    sent: u8,
    most: u8,
}

impl Asking {
    /// Asks at once if the source is known.
    pub(crate) fn new(now: Instant, ssrc: u32, is_sending: bool) -> Self {
        Self { ssrc, first: ssrc as u8, next: is_sending.then_some(now), is_due: is_sending, sent: 0, most: MOST }
    }

    /// The source sends something that is no key frame, or of which we cannot tell.
    pub(crate) fn go_on(&mut self, now: Instant, is_known: bool) {
        self.most = if is_known { MOST } else { MOST_UNKNOWN };
        if self.next.is_none() {
            (self.next, self.is_due) = (Some(now), true);
        }
    }

    /// When to look again; none while a request waits to be polled.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next.filter(|_| !self.is_due)
    }

    /// Returns whether it is over: no request has helped.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| next <= now) {
            self.is_due = self.sent < self.most;
            return !self.is_due;
        }
        false
    }

    /// The number of the request that is due.
    pub(crate) fn poll(&mut self) -> Option<u8> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        self.next = self.next.map(|next| next + AGAIN);
        self.sent = self.sent.saturating_add(1);
        Some(self.first.wrapping_add(self.sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins_in(name: &'static str, payload: &[u8]) -> Option<bool> {
        begins(&Format { payload_type: 96, encoding: name.into(), clock_rate: 90000, channels: 1 }, payload)
    }

    #[test]
    fn the_beginning_of_a_key_frame_is_told_in_each_codec() {
        for (name, key, other) in [
            (
                "VP8",
                &[&[0x10, 0x00][..], &[0x90, 0xf0, 0x81, 0x02, 3, 4, 0x10]][..],
                &[&[0x10, 0x01][..], &[0x00, 0x00], &[0x11, 0x00]][..],
            ),
            ("VP9", &[&[0x08][..], &[0x8a, 0x81, 0x23], &[0xa8, 0x01, 0x10]], &[&[0x48][..], &[0x00], &[0xa8, 0x01, 0x12]]),
            (
                "H264",
                &[&[0x65, 1][..], &[0x67], &[0x78, 0, 1, 0x09, 0, 2, 0x67, 0x42], &[0x7c, 0x85]],
                &[&[0x41][..], &[0x7c, 0x05], &[0x78, 0, 1, 0x09], &[0x06]],
            ),
            (
                "H265",
                &[&[0x26, 1][..], &[0x40, 1], &[0x60, 1, 0, 2, 0x42, 1], &[0x62, 1, 0x93]],
                &[&[0x02, 1][..], &[0x62, 1, 0x13], &[0x62, 1, 0x81]],
            ),
            ("AV1", &[&[0x08][..], &[0x18]], &[&[0x10][..], &[0x80]]),
        ] {
            for payload in key {
                assert_eq!(begins_in(name, payload), Some(true), "{name} {payload:x?}");
                for length in 0..payload.len() {
                    let _cut = begins_in(name, &payload[..length]);
                }
            }
            for payload in other {
                assert_eq!(begins_in(name, payload), Some(false), "{name} {payload:x?}");
            }
            assert_eq!(begins_in(name, &[]), Some(false));
        }
        assert_eq!(begins_in("H263", &[0]), None);
    }

    #[test]
    fn a_source_is_asked_until_it_is_enough() {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
        let start = Instant::now();
        let mut asking = Asking::new(start, 7, false);
        assert_eq!((asking.poll(), asking.poll_timeout()), (None, None), "it has not sent anything");
        let mut requests = Vec::new();
        asking.go_on(start, true);
        loop {
            assert_eq!(asking.poll_timeout(), None, "it waits to be polled");
            requests.push(asking.poll().unwrap());
            asking.go_on(start, true);
            if asking.handle_timeout(asking.poll_timeout().unwrap()) {
                break;
            }
        }
        assert_eq!(requests, [8, 9, 10, 11, 12, 13, 14, 15, 16, 17], "each FIR has a number of its own");
        assert_eq!(asking.poll_timeout(), Some(start + 10 * AGAIN));
    }
}
