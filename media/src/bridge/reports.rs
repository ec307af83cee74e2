//! RTCP that we make ourselves (RFC 3550 §6), where an end of a stream talks with us and not with the other end: sound is
//! transcoded. And the request for a key frame (RFC 4585 §6.3.1, RFC 5104 §4.3.1). What the other end says passes by `rtp/report.rs` instead.

use std::time::{Duration, Instant};

use crate::{
    quality::Quality,
    rtp::{
        rewrite::Rewriter,
        rtcp::{self, Block},
    },
    sdp::negotiate::KeyFrameRequest,
};

/// Mean time between reports (RFC 3550 §6.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// Added to our time since the start: the receiver takes 0 for no time at all.
const NTP_START: u64 = 1 << 20;

/// SplitMix64, from the seed that the engine is given: for SSRCs, first numbers and intervals, which have to be different rather
/// than secret.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// When to report, and as whom.
#[derive(Debug)]
pub(crate) struct Reports {
    random: Random,
    /// When our time began.
    epoch: Instant,
    /// Ours while nothing was sent.
    ssrc: u32,
    next: Instant,
    /// The time of the report that is to be sent.
    due: Option<Instant>,
}

impl Reports {
    pub(crate) fn new(now: Instant, epoch: Instant, seed: u64) -> Self {
        let mut random = Random(seed);
        let ssrc = (random.next() >> 32) as u32;
        let next = now + interval(&mut random) / 2;
        Self { random, epoch, ssrc, next, due: None }
    }

    /// With the SSRC that the receiver was told, if it was.
    pub(crate) fn named(self, told: Option<u32>) -> Self {
        Self { ssrc: told.unwrap_or(self.ssrc), ..self }
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.next
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.next <= now {
            self.due = Some(now);
            self.next = now + interval(&mut self.random);
        }
    }

    /// Writes the compound that is due: what was sent and received, and who we are. Returns its time and its length.
    pub(crate) fn poll(
        &mut self,
        sent: Option<&Rewriter>,
        quality: &mut Quality,
        cname: u64,
        buffer: &mut [u8],
    ) -> Option<(Instant, usize)> {
        let now = self.due.take()?;
        let ssrc = sent.map_or(self.ssrc, Rewriter::ssrc);
        let block = quality.block(now);
        let count = u8::from(block.is_some());
        let mut out = Writer { buffer, length: 0 };
        match sent.and_then(|sent| Some((sent.counts(), sent.clock(now)?))) {
            Some(((packets, octets), timestamp)) => {
                let ntp = ntp(now.saturating_duration_since(self.epoch));
                out.packet(count, 200, &[ssrc, (ntp >> 32) as u32, ntp as u32, timestamp, packets, octets], block)?;
            }
            None => out.packet(count, 201, &[ssrc], block)?,
        }
        out.put(&rtcp::description(ssrc, cname))?;
        Some((now, out.length))
    }
}

/// 0.5 to 1.5 times the mean, over what makes up for the reconsideration of intervals (RFC 3550 §6.3.1).
fn interval(random: &mut Random) -> Duration {
    const COMPENSATION: f64 = std::f64::consts::E - 1.5;
    let part = (random.next() >> 40) as f64 / (1u64 << 24) as f64;
    INTERVAL.mul_f64((0.5 + part) / COMPENSATION)
}

fn ntp(time: Duration) -> u64 {
    let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
    (time.as_secs() + NTP_START) << 32 | fraction
}

/// Writes a compound that asks a source for a key frame. Returns its length.
pub(crate) fn key_frame_request(
    (request, sequence): (KeyFrameRequest, u8),
    ssrc: u32,
    media: u32,
    cname: u64,
    buffer: &mut [u8],
) -> Option<usize> {
    let mut out = Writer { buffer, length: 0 };
    out.packet(0, 201, &[ssrc], None)?;
    out.put(&rtcp::description(ssrc, cname))?;
    match request {
        KeyFrameRequest::Pli => out.packet(1, 206, &[ssrc, media], None)?,
        KeyFrameRequest::Fir => out.put(&rtcp::full_intra_request(ssrc, media, sequence))?,
    }
    Some(out.length)
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        self.buffer.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    fn packet(&mut self, count: u8, kind: u8, words: &[u32], block: Option<Block>) -> Option<()> {
        let length = words.len() + if block.is_some() { 6 } else { 0 };
        self.put(&[0x80 | count, kind, 0, length as u8])?;
        for word in words {
            self.put(&word.to_be_bytes())?;
        }
        let Some(block) = block else { return Some(()) };
        let loss = u32::from(block.fraction_lost) << 24 | block.lost.cast_unsigned() & 0x00ff_ffff;
        for word in [block.ssrc, loss, block.highest, block.jitter, block.last_sr, block.delay_since_last_sr] {
            self.put(&word.to_be_bytes())?;
        }
        Some(())
    }
}
