//! One continuous stream towards a receiver while what feeds it changes: another device, a transcoder, ringback (RFC 3550 §5.1,
//! §8.2; the translator of §7.2). RTP is edited in place, and so is the RTCP about it, both ways. It knows no address and no
//! codec; what an offset means is that all packets of a source keep their order, their gaps and their duplicates.

use std::time::{Duration, Instant};

use super::Packet;

/// A gap in the sequence beyond which the source is taken to have started anew (RFC 3550 A.1: MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3000;
/// How late a packet may be before the source is taken to have started anew (MAX_MISORDER).
const MAX_MISORDER: u16 = 100;

/// A longer advance of the timestamp is a pause.
const LONGEST_FRAME: Duration = Duration::from_millis(120);

/// Whether the marker bit tells the first packet after a silence (RFC 3551 §4.1) or the end of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Audio: it is set on the first packet of a new source.
    Talkspurt,
    /// Video: it is left as it is.
    Frame,
}

/// What a stream is called towards its receiver. It should be random (RFC 3550 §5.1); the caller has the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SSRC of all packets.
    pub ssrc: u32,
    /// Sequence number of the first packet.
    pub sequence: u16,
    /// Timestamp of the first packet.
    pub timestamp: u32,
}

/// Why a packet is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It is of a source that has been replaced, or older than the switch to its own.
    #[error("it belongs before the last change of source")]
    Former,
    /// Its sequence number is far from the source's; the next one decides whether the source started anew.
    #[error("its sequence number is out of the source's range")]
    OutOfRange,
}

/// The numbers of one stream towards one receiver.
#[derive(Clone, Debug)]
pub struct Rewriter {
    identity: Identity,
    marker: Marker,
    /// The only key that is taken, once one was selected.
    selected: Option<u32>,
    source: Option<Source>,
    /// Whether a source that starts anew under its own SSRC is lined up behind itself, too.
    renumbers: bool,
    sent: Sent,
}

/// What is fed into the stream now.
#[derive(Clone, Copy, Debug)]
struct Source {
    /// The caller's name of it.
    key: u32,
    ssrc: u32,
    clock_rate: u32,
    /// What is added to the source's numbers.
    sequence_offset: u16,
    timestamp_offset: u32,
    /// Highest sequence number of the source.
    highest: u16,
    /// How far before `highest` the source began; saturates.
    seen: u16,
    /// The sequence number that, after one out of range, means a new start (A.1: bad_seq).
    restart: Option<u16>,
    /// Whether another source was sent before it, whose numbers it must not use.
    follows: bool,
}

/// What the receiver has had.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Number and timestamp of the newest packet, and when that timestamp was first sent.
    newest: Option<(u16, u32, Instant)>,
    packets: u32,
    octets: u32,
    /// The last advance of the timestamp: a frame.
    step: u32,
}

impl Rewriter {
    /// Starts a stream that has sent nothing yet.
    #[must_use]
    pub fn new(identity: Identity, marker: Marker) -> Self {
        Self { identity, marker, selected: None, source: None, renumbers: true, sent: Sent::default() }
    }

    /// Starts a stream with the numbers of its first packet, which stays as it is but for an SSRC that the receiver was told; all of its
    /// source stay so, also those far from the others, unless [`set_renumbers`](Self::set_renumbers) says that the receiver could not
    /// bear it.
    #[must_use]
    pub fn of(now: Instant, key: u32, clock_rate: u32, packet: &mut Packet<'_>, marker: Marker, ssrc: Option<u32>) -> Self {
        let ssrc = ssrc.unwrap_or(packet.ssrc());
        let identity = Identity { ssrc, sequence: packet.sequence(), timestamp: packet.timestamp() };
        let mut stream = Self { renumbers: false, ..Self::new(identity, marker) };
        stream.switch(now, key, clock_rate, packet);
        packet.set_ssrc(ssrc);
        stream.sent.count(now, identity.sequence, identity.timestamp, packet.payload().len(), longest(clock_rate));
        stream
    }

    /// Returns the SSRC towards the receiver.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.identity.ssrc
    }

    /// Returns the SSRC of the present source, which RTCP to it is about.
    #[must_use]
    pub fn source_ssrc(&self) -> Option<u32> {
        self.source.map(|source| source.ssrc)
    }

    /// Takes only packets of this key from now on, so that those of another device that are still on their way do not switch
    /// back. Until it is called, each key is taken.
    pub fn select(&mut self, key: u32) {
        self.selected = Some(key);
    }

    /// Says whether numbers must never jump back: SRTP uses each but once (RFC 3711 §3.3.1).
    pub fn set_renumbers(&mut self, renumbers: bool) {
        self.renumbers = renumbers;
    }

    /// Gives a packet the numbers of the stream. `key` names where it comes from, such as a port: another key is another source
    /// at once, and so is another SSRC of the same key: that it is no stranger's is to be known before (`rtp::probation`). `clock_rate` is
    /// the source's, in Hz.
    ///
    /// # Errors
    /// [`Dropped`] when the packet must not be sent; then it is unchanged.
    pub fn rewrite(&mut self, now: Instant, key: u32, clock_rate: u32, packet: &mut Packet<'_>) -> Result<(), Dropped> {
        let (sequence, ssrc) = (packet.sequence(), packet.ssrc());
        if self.selected.is_some_and(|selected| selected != key) {
            return Err(Dropped::Former);
        }
        let is_new = match &mut self.source {
            Some(source) if source.key == key && source.ssrc == ssrc => source.take(sequence, self.renumbers)?,
            Some(_) | None => true,
        };
        if is_new {
            self.switch(now, key, clock_rate, packet);
        }
        let source = self.source.as_ref().ok_or(Dropped::Former)?;
        let out = sequence.wrapping_add(source.sequence_offset);
        let timestamp = packet.timestamp().wrapping_add(source.timestamp_offset);
        if is_new && self.marker == Marker::Talkspurt {
            packet.set_marker();
        }
        packet.set_sequence(out);
        packet.set_timestamp(timestamp);
        packet.set_ssrc(self.identity.ssrc);
        self.sent.count(now, out, timestamp, packet.payload().len(), longest(clock_rate));
        Ok(())
    }

    /// Lines the numbers of a new source up behind what was sent: the next number, and a timestamp that is later by the time
    /// that passed, by a frame at least.
    fn switch(&mut self, now: Instant, key: u32, clock_rate: u32, packet: &Packet<'_>) {
        let (sequence, timestamp) = match self.sent.newest {
            None => (self.identity.sequence, self.identity.timestamp),
            Some((sequence, timestamp, at)) => {
                let elapsed = now.saturating_duration_since(at).as_micros() * u128::from(clock_rate) / 1_000_000;
                let step = (elapsed as u32 & i32::MAX as u32).max(self.sent.step).max(1);
                (sequence.wrapping_add(1), timestamp.wrapping_add(step))
            }
        };
        self.source = Some(Source {
            key,
            ssrc: packet.ssrc(),
            clock_rate,
            sequence_offset: sequence.wrapping_sub(packet.sequence()),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp()),
            highest: packet.sequence(),
            seen: 0,
            restart: None,
            follows: self.sent.newest.is_some(),
        });
    }

    /// Returns the present source's number for one that the receiver knows; none for a packet of a former source.
    #[must_use]
    pub fn source_sequence(&self, sequence: u16) -> Option<u16> {
        let source = self.source?;
        let original = sequence.wrapping_sub(source.sequence_offset);
        source.covers(original).then_some(original)
    }

    /// Returns the stream's number for one of the present source; none for one before it.
    #[must_use]
    pub fn stream_sequence(&self, sequence: u16) -> Option<u16> {
        let source = self.source?;
        source.covers(sequence).then_some(sequence.wrapping_add(source.sequence_offset))
    }

    /// Returns the SSRC of the present source if it has this key.
    #[must_use]
    pub fn source_of(&self, key: u32) -> Option<u32> {
        self.source.filter(|source| source.key == key).map(|source| source.ssrc)
    }

    /// Whether the present source's numbers are the stream's, so that neither RTP nor RTCP is changed.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.source.is_none_or(|source| (source.sequence_offset, source.timestamp_offset, source.ssrc) == (0, 0, self.identity.ssrc))
    }

    /// Returns what the stream's timestamp is at a time, for sender reports; none before the first packet.
    #[must_use]
    pub fn clock(&self, now: Instant) -> Option<u32> {
        let ((_, timestamp, at), clock_rate) = self.sent.newest.zip(self.clock_rate())?;
        let elapsed = now.saturating_duration_since(at).as_micros() * u128::from(clock_rate) / 1_000_000;
        Some(timestamp.wrapping_add(elapsed as u32))
    }

    /// Returns the present clock rate in Hz.
    #[must_use]
    pub fn clock_rate(&self) -> Option<u32> {
        self.source.map(|source| source.clock_rate)
    }

    /// The stream's timestamp for one of the source.
    pub(super) fn timestamp(&self, timestamp: u32) -> Option<u32> {
        self.source.map(|source| timestamp.wrapping_add(source.timestamp_offset))
    }

    /// Packets and payload octets sent so far, for sender reports.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.sent.packets, self.sent.octets)
    }
}

/// The longest frame in units of a clock rate.
fn longest(clock_rate: u32) -> u32 {
    clock_rate / 1000 * LONGEST_FRAME.as_millis() as u32
}

impl Source {
    /// Takes note of a number. Returns whether the source started anew, as told by two packets in a row (A.1), and is to be lined up.
    fn take(&mut self, sequence: u16, renumbers: bool) -> Result<bool, Dropped> {
        let ahead = sequence.wrapping_sub(self.highest);
        let behind = self.highest.wrapping_sub(sequence);
        if ahead < MAX_DROPOUT {
            self.highest = sequence;
            self.seen = self.seen.saturating_add(ahead);
        } else if behind >= MAX_MISORDER {
            let is_restart = self.restart.replace(sequence.wrapping_add(1)) == Some(sequence);
            return match (is_restart, renumbers || self.follows) {
                (true, true) => Ok(true),
                (false, true) => Err(Dropped::OutOfRange),
                (true, false) => {
                    (self.highest, self.restart) = (sequence, None);
                    Ok(false)
                }
                (false, false) => Ok(false),
            };
        } else if !self.covers(sequence) {
            return Err(Dropped::Former);
        }
        self.restart = None;
        Ok(false)
    }

    /// Whether a number of the source, up to the highest, is its own towards the receiver.
    fn covers(&self, sequence: u16) -> bool {
        let behind = self.highest.wrapping_sub(sequence);
        behind <= if self.follows { self.seen.min(i16::MAX as u16) } else { i16::MAX as u16 }
    }
}

impl Sent {
    fn count(&mut self, now: Instant, sequence: u16, timestamp: u32, octets: usize, longest: u32) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets as u32);
        let (newest, latest) = self.newest.map_or((sequence.wrapping_sub(1), timestamp), |(number, latest, _)| (number, latest));
        if sequence.wrapping_sub(newest).cast_signed() <= 0 {
            return;
        }
        let advance = timestamp.wrapping_sub(latest).cast_signed();
        if (1..=longest.cast_signed()).contains(&advance) {
            self.step = advance.cast_unsigned();
        }
        // An event repeats the timestamp of its beginning (RFC 4733 §2.5.1.2), a picture has several packets: the time is that of the
        // first. What follows must not go behind what was sent.
        self.newest = match self.newest {
            Some((_, latest, at)) if advance <= 0 => Some((sequence, latest, at)),
            Some(_) | None => Some((sequence, timestamp, now)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const IDENTITY: Identity = Identity { ssrc: 0xABCD, sequence: 65530, timestamp: u32::MAX - 1000 };
    const FRAME: Duration = Duration::from_millis(20);

    #[expect(clippy::disallowed_methods, reason = "an instant can only be had from the clock; the tests then add to it")]
    fn now() -> Instant {
        Instant::now()
    }

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Vec<u8> {
        let mut bytes = vec![0x80, 0];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes.extend([0; 160]);
        bytes
    }

    fn send(rewriter: &mut Rewriter, now: Instant, key: u32, bytes: &[u8]) -> Result<(u16, u32, bool), Dropped> {
        let mut bytes = bytes.to_vec();
        let mut packet = Packet::parse(&mut bytes).unwrap();
        rewriter.rewrite(now, key, 8000, &mut packet)?;
        assert_eq!(packet.ssrc(), IDENTITY.ssrc);
        Ok((packet.sequence(), packet.timestamp(), packet.marker()))
    }

    fn start() -> (Rewriter, Instant) {
        (Rewriter::new(IDENTITY, Marker::Talkspurt), now())
    }

    #[test]
    fn a_source_that_jumps_passes_as_it_is_unless_the_receiver_could_not_bear_it() {
        let start = now();
        let first = packet(7, 3000, 0);
        let stream = |renumbers| {
            let mut stream = Rewriter::of(start, 1, 8000, &mut Packet::parse(&mut first.clone()).unwrap(), Marker::Talkspurt, None);
            stream.set_renumbers(renumbers);
            stream
        };
        let numbers = |stream: &mut Rewriter, sequences: &[u16]| -> Vec<Option<u16>> {
            let one = |sequence: &u16| {
                let mut bytes = packet(7, *sequence, u32::from(*sequence) * 160);
                let mut packet = Packet::parse(&mut bytes).unwrap();
                stream.rewrite(start, 1, 8000, &mut packet).ok().map(|()| packet.sequence())
            };
            sequences.iter().map(one).collect()
        };
        let sent = [60000, 60000, 0, 1, 2, 3001];
        assert_eq!(numbers(&mut stream(false), &sent), sent.map(Some));
        assert_eq!(numbers(&mut stream(true), &[0, 1, 2]), [None, Some(3001), Some(3002)], "and never back");
    }

    #[test]
    fn first_packet_has_the_numbers_of_the_stream() {
        let (mut rewriter, now) = start();
        assert_eq!(send(&mut rewriter, now, 1, &packet(7, 100, 5000)), Ok((65530, IDENTITY.timestamp, true)));
        assert_eq!(send(&mut rewriter, now, 1, &packet(7, 101, 5160)), Ok((65531, IDENTITY.timestamp + 160, false)));
    }

    #[test]
    fn same_packet_has_the_same_number_however_often_it_comes() {
        let (mut rewriter, now) = start();
        let number = |rewriter: &mut Rewriter, sequence| send(rewriter, now, 1, &packet(7, sequence, 0)).map(|sent| sent.0);
        for (sequence, out) in [(100, 65530), (103, 65533), (101, 65531), (103, 65533), (102, 65532), (110, 4), (99, 65529)] {
            assert_eq!(number(&mut rewriter, sequence), Ok(out));
        }
    }

    #[test]
    fn new_source_follows_on_by_the_clock() {
        let (mut rewriter, now) = start();
        send(&mut rewriter, now, 1, &packet(7, 100, 5000)).unwrap();
        send(&mut rewriter, now + FRAME, 1, &packet(7, 101, 5160)).unwrap();
        let later = now + FRAME + Duration::from_secs(3);
        let (sequence, timestamp, marker) = send(&mut rewriter, later, 2, &packet(8, 9, 1)).unwrap();
        assert_eq!((sequence, timestamp.wrapping_sub(IDENTITY.timestamp), marker), (65532, 160 + 24000, true));
        let at_once = send(&mut rewriter, later, 3, &packet(8, 60000, 99)).unwrap();
        assert_eq!(at_once, (65533, timestamp.wrapping_add(160), true), "a frame later at least");
    }

    #[test]
    fn former_source_does_not_come_back_by_a_late_packet() {
        let (mut rewriter, now) = start();
        send(&mut rewriter, now, 1, &packet(7, 100, 0)).unwrap();
        send(&mut rewriter, now, 1, &packet(8, 500, 0)).unwrap();
        assert_eq!(send(&mut rewriter, now + FRAME, 1, &packet(8, 499, 0)), Err(Dropped::Former), "its number was the former's");
        rewriter.select(2);
        assert_eq!(send(&mut rewriter, now + FRAME, 1, &packet(8, 501, 160)), Err(Dropped::Former));
        assert_eq!(send(&mut rewriter, now + FRAME, 2, &packet(7, 302, 160)).map(|sent| sent.0), Ok(65532));
    }

    #[test]
    fn source_that_starts_anew_goes_on_after_two_packets() {
        let (mut rewriter, now) = start();
        send(&mut rewriter, now, 1, &packet(7, 100, 0)).unwrap();
        assert_eq!(send(&mut rewriter, now, 1, &packet(7, 40000, 77)), Err(Dropped::OutOfRange));
        assert_eq!(send(&mut rewriter, now, 1, &packet(7, 101, 160)).map(|sent| sent.0), Ok(65531), "one stray packet is nothing");
        assert_eq!(send(&mut rewriter, now, 1, &packet(7, 40001, 237)), Err(Dropped::OutOfRange));
        assert_eq!(send(&mut rewriter, now, 1, &packet(7, 40002, 397)).map(|sent| sent.0), Ok(65532));
    }

    #[test]
    fn video_keeps_its_marker() {
        let now = now();
        let mut rewriter = Rewriter::new(IDENTITY, Marker::Frame);
        assert_eq!(send(&mut rewriter, now, 1, &packet(7, 1, 0)).map(|sent| sent.2), Ok(false));
    }

    #[test]
    fn sound_behind_a_long_event_has_the_time_that_passed() {
        let (mut rewriter, now) = start();
        let mut last = 0;
        for sequence in 0..20 {
            last = send(&mut rewriter, now + FRAME * sequence, 1, &packet(7, sequence as u16, 800)).unwrap().1;
        }
        let (_, timestamp, _) = send(&mut rewriter, now + FRAME * 20, 2, &packet(9, 1, 1)).unwrap();
        assert_eq!(timestamp.wrapping_sub(last), 20 * 160, "what follows sounds when the event is over");
    }

    /// A generator of random numbers; a failure prints its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// What the receiver has: a packet's content (who, which) and timestamp by its extended number.
    #[derive(Default)]
    struct Receiver {
        highest: i64,
        had: BTreeMap<i64, (u64, i64, u32)>,
    }

    impl Receiver {
        fn take(&mut self, out: u16, content: (u64, i64), timestamp: u32) -> i64 {
            let number = self.highest + i64::from(out.wrapping_sub(self.highest as u16).cast_signed());
            self.highest = self.highest.max(number);
            let old = self.had.insert(number, (content.0, content.1, timestamp));
            assert!(old.is_none_or(|old| old == (content.0, content.1, timestamp)), "number {number} is two packets");
            number
        }
    }

    /// Devices take turns over a wire that loses, doubles and reorders.
    fn run(seed: u64) {
        let (mut rewriter, mut now) = start();
        let mut random = Random(seed);
        let mut receiver = Receiver { highest: i64::from(IDENTITY.sequence), ..Receiver::default() };
        for turn in 0..8u64 {
            let (ssrc, key) = (random.below(1 << 32) as u32, random.below(3) as u32);
            let (first, zero) = (random.below(1 << 16) as u16, random.below(1 << 32) as u32);
            let mut wire: Vec<(u64, i64)> = Vec::new();
            for n in 0..120i64 {
                if random.below(10) > 0 {
                    wire.push((n as u64 * 20 + random.below(70), n));
                }
                if random.below(20) == 0 {
                    wire.push((n as u64 * 20 + random.below(200), n));
                }
            }
            wire.sort_unstable();
            let begin = now + Duration::from_millis(random.below(500));
            let before = receiver.highest;
            let mut offset = None;
            for (delay, n) in wire {
                now = begin + Duration::from_millis(delay);
                let bytes = packet(ssrc, first.wrapping_add(n as u16), zero.wrapping_add(n as u32 * 160));
                let Ok((out, timestamp, _)) = send(&mut rewriter, now, key, &bytes) else { continue };
                let number = receiver.take(out, (turn, n), timestamp);
                assert_eq!(*offset.get_or_insert(number - n), number - n, "seed {seed}: the source's gaps are kept, and no others");
                if turn > 0 && number == before + 1 {
                    assert!(now >= begin);
                }
                assert!(turn == 0 || number > before, "seed {seed}: a number of the former source");
            }
            assert!(turn == 0 || receiver.had.contains_key(&(before + 1)), "seed {seed}: the switch left no gap");
        }
        let times: Vec<_> = receiver.had.values().map(|had| had.2).collect();
        assert!(times.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]).cast_signed() > 0), "seed {seed}: time goes on");
        assert!(receiver.had.len() > 700);
    }

    #[test]
    fn receiver_sees_one_stream_whatever_happens_to_its_sources() {
        for seed in 0..200 {
            run(seed);
        }
    }
}
