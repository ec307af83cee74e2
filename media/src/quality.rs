//! Loss, jitter, delay and counts of each stream (RFC 3550 §6.4, appendices A.1, A.3 and A.8), from what passed and from what
//! the peer's RTCP reports. It changes no packet and keeps no list.

mod mos;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

pub use self::mos::Mos;
use crate::{
    rtp::{
        Packet,
        rtcp::{Block, Compound, Packet as Rtcp},
    },
    sdp::MediaKind,
};

/// A gap in the sequence beyond which the source is taken to have started anew (RFC 3550 A.1: MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3000;
/// How late a packet may be before the source is taken to have started anew (MAX_MISORDER).
const MAX_MISORDER: u16 = 100;

/// Counts of one leg's streams, complete at any moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Statistics {
    /// One for each stream of the port.
    pub streams: Vec<StreamStatistics>,
}

/// Counts of one stream. Received and sent are seen from tandem.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StreamStatistics {
    /// Audio, video …; none when it was never negotiated.
    pub kind: Option<MediaKind>,
    /// Where its RTP comes from and goes to now.
    pub remote: Option<SocketAddr>,
    /// RTP received and taken.
    pub received: Count,
    /// RTP sent.
    pub sent: Count,
    /// RTP packets missing in what was received.
    pub lost: u64,
    /// Jitter of what was received.
    pub jitter: Duration,
    /// Round trip to the peer, when its RTCP tells.
    pub round_trip: Option<Duration>,
    /// What the peer reports of what it receives.
    pub reported: Option<Reported>,
    /// Encoding name of what was received last, as in the SDP.
    pub codec: Option<String>,
    /// Why what is sent is transcoded, or last was; none when it never was.
    pub transcoding: Option<String>,
    /// How long what is sent is kept back against jitter, where it is transcoded.
    pub held_back: Duration,
    /// What the stream waits for, if it does.
    pub waits_for: Option<String>,
    /// Named events (RFC 4733), such as digits, that were received.
    pub events: u64,
    /// Packets dropped because they came from another address than the peer's.
    pub strangers: u64,
    /// Packets dropped because they were neither RTP nor RTCP.
    pub malformed: u64,
    /// Packets dropped because they were not authentic, or came again (SRTP).
    pub forged: u64,
    /// Packets dropped because the other side is on hold, has no address or is not bridged.
    pub withheld: u64,
}

/// Packets and their octets, RTP header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub octets: u64,
}

impl StreamStatistics {
    /// Packets lost of those that the peer sent, in 10,000ths.
    #[must_use]
    pub fn loss(&self) -> u32 {
        let expected = u128::from(self.received.packets) + u128::from(self.lost);
        u32::try_from((u128::from(self.lost) * 10_000).checked_div(expected).unwrap_or(0)).unwrap_or(10_000)
    }

    /// An estimate of how what the peer sends sounds at us: from its loss, half the round trip, twice its jitter for a playout buffer,
    /// and one frame. None before anything came, for pictures, and for codecs unknown to it.
    #[must_use]
    pub fn mos(&self) -> Option<Mos> {
        const FRAME: Duration = Duration::from_millis(20);
        if self.kind != Some(MediaKind::Audio) || self.received.packets == 0 {
            return None;
        }
        Mos::estimate(self.loss(), self.round_trip.unwrap_or_default() / 2 + self.jitter * 2 + FRAME, self.codec.as_deref()?)
    }

    /// How it goes, in plain words.
    #[must_use]
    pub fn verdict(&self) -> String {
        if let Some(wait) = &self.waits_for {
            return wait.clone();
        }
        let mut faults = Vec::new();
        if self.loss() >= 100 {
            faults.push(format!("{}.{} % of the packets are lost", self.loss() / 100, self.loss() / 10 % 10));
        }
        if self.jitter >= Duration::from_millis(50) {
            faults.push(format!("{} ms of jitter", self.jitter.as_millis()));
        }
        if let Some(round_trip) = self.round_trip.filter(|time| *time >= Duration::from_millis(300)) {
            faults.push(format!("a round trip of {} ms", round_trip.as_millis()));
        }
        match (self.mos(), faults.is_empty()) {
            (Some(mos), true) => format!("{} ({mos})", mos.word()),
            (Some(mos), false) => format!("{} ({mos}): {}", mos.word(), faults.join(", ")),
            (None, true) => "nothing wrong".to_owned(),
            (None, false) => faults.join(", "),
        }
    }
}

impl Count {
    pub(crate) fn add(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
    }
}

/// A receiver's report on what we sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Packets lost since the beginning.
    pub lost: i32,
    /// Loss since its last report, in 256ths.
    pub fraction_lost: u8,
}

/// Running figures of one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quality {
    pub(crate) received: Count,
    pub(crate) sent: Count,
    pub(crate) events: u64,
    pub(crate) strangers: u64,
    pub(crate) malformed: u64,
    pub(crate) forged: u64,
    pub(crate) withheld: u64,
    source: Option<Source>,
    /// Lost of sources before the present one.
    lost_before: u64,
    /// Timestamp of the named event that is going on.
    event: Option<u32>,
    reported: Option<Reported>,
    round_trip: Option<Duration>,
    /// The newest sender report that went to the peer: its NTP time, and when.
    last_sr: Option<(u32, Instant)>,
    /// The newest one that came from the peer, likewise.
    heard_sr: Option<(u32, Instant)>,
}

/// What RFC 3550 A.1 keeps of a source.
#[derive(Clone, Debug)]
struct Source {
    ssrc: u32,
    first: u64,
    /// Highest sequence number with its cycles.
    highest: u64,
    received: u64,
    began: Instant,
    payload_type: u8,
    rate: u32,
    transit: u32,
    /// In clock units times 16 (A.8).
    jitter: u32,
    /// Expected and received at the last report.
    before: (u64, u64),
}

impl Quality {
    /// Counts a packet of the peer. `rate` is its clock rate; `event` tells a named event from media.
    pub(crate) fn count(&mut self, now: Instant, packet: &Packet<'_>, octets: usize, rate: u32, event: bool) {
        self.received.add(octets);
        let restart = match &mut self.source {
            Some(source) if source.ssrc == packet.ssrc() => !source.advance(packet.sequence()),
            Some(_) | None => true,
        };
        if restart {
            self.lost_before += self.source.as_ref().map_or(0, Source::lost);
            self.source = Some(Source::new(now, packet, rate));
        }
        if event {
            // An event is several packets with the timestamp of its beginning (RFC 4733 §2.5.1.2).
            if self.event.replace(packet.timestamp()) != Some(packet.timestamp()) {
                self.events += 1;
            }
        } else if let Some(source) = self.source.as_mut() {
            source.measure(now, packet, rate);
        }
    }

    /// Reads the peer's reports on what it receives from us.
    pub(crate) fn reports(&mut self, now: Instant, compound: &Compound<'_>) {
        for packet in compound.packets() {
            if let Rtcp::SenderReport { ssrc, ntp, .. } = packet
                && self.ssrc() == Some(ssrc)
            {
                self.heard_sr = Some((ntp, now));
            }
            let blocks = match packet {
                Rtcp::SenderReport { blocks, .. } | Rtcp::ReceiverReport { blocks, .. } => blocks,
                Rtcp::Bye | Rtcp::Other(_) => continue,
            };
            for block in blocks.iter() {
                self.reported = Some(Reported { lost: block.lost, fraction_lost: block.fraction_lost });
                self.round_trip = self.round_trip_of(now, &block).or(self.round_trip);
            }
        }
    }

    /// Remembers a sender report that goes to the peer, so that its answer tells the round trip.
    pub(crate) fn forwards(&mut self, now: Instant, compound: &Compound<'_>) {
        for packet in compound.packets() {
            if let Rtcp::SenderReport { ntp, .. } = packet {
                self.last_sr = Some((ntp, now));
            }
        }
    }

    fn round_trip_of(&self, now: Instant, block: &Block) -> Option<Duration> {
        let (_, at) = self.last_sr.filter(|(ntp, _)| block.last_sr != 0 && *ntp == block.last_sr)?;
        let delay = Duration::from_nanos(u64::from(block.delay_since_last_sr) * 1_000_000_000 / 65536);
        now.saturating_duration_since(at).checked_sub(delay)
    }

    /// What to report of the peer's stream; counts the loss since the last time.
    pub(crate) fn block(&mut self, now: Instant) -> Option<Block> {
        let (last_sr, delay_since_last_sr) = self.heard_sr.map_or((0, 0), |(ntp, at)| {
            let delay = now.saturating_duration_since(at).as_micros() * 65536 / 1_000_000;
            (ntp, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        let source = self.source.as_mut()?;
        Some(Block {
            ssrc: source.ssrc,
            fraction_lost: source.fraction_lost(),
            lost: i32::try_from(source.expected() as i64 - source.received as i64).unwrap_or(i32::MAX).clamp(-0x80_0000, 0x7f_ffff),
            highest: source.highest as u32,
            jitter: source.jitter >> 4,
            last_sr,
            delay_since_last_sr,
        })
    }

    /// The peer's present source.
    pub(crate) fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// Payload type of its newest media.
    pub(crate) fn payload_type(&self) -> Option<u8> {
        self.source.as_ref().map(|source| source.payload_type)
    }

    pub(crate) fn report(&self) -> StreamStatistics {
        StreamStatistics {
            received: self.received,
            sent: self.sent,
            lost: self.lost_before + self.source.as_ref().map_or(0, Source::lost),
            jitter: self.source.as_ref().map_or(Duration::ZERO, Source::jitter),
            round_trip: self.round_trip,
            reported: self.reported,
            events: self.events,
            strangers: self.strangers,
            malformed: self.malformed,
            forged: self.forged,
            withheld: self.withheld,
            ..StreamStatistics::default()
        }
    }
}

impl Source {
    fn new(now: Instant, packet: &Packet<'_>, rate: u32) -> Self {
        let first = u64::from(packet.sequence());
        Self {
            ssrc: packet.ssrc(),
            first,
            highest: first,
            received: 1,
            began: now,
            payload_type: packet.payload_type(),
            rate,
            transit: packet.timestamp().wrapping_neg(),
            jitter: 0,
            before: (0, 0),
        }
    }

    /// Takes a sequence number; false when it is too far from the last (A.1).
    fn advance(&mut self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead < MAX_DROPOUT {
            self.highest += u64::from(ahead);
        } else if ahead <= u16::MAX - MAX_MISORDER {
            return false;
        }
        self.received += 1;
        true
    }

    /// Packets missing (A.3); duplicates make up for some.
    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    fn expected(&self) -> u64 {
        self.highest - self.first + 1
    }

    /// Loss since the last time in 256ths (A.3).
    fn fraction_lost(&mut self) -> u8 {
        let (expected, received) = (self.expected() - self.before.0, self.received - self.before.1);
        self.before = (self.expected(), self.received);
        let lost = expected.saturating_sub(received) << 8;
        u8::try_from(lost.checked_div(expected).unwrap_or(0)).unwrap_or(u8::MAX)
    }

    /// Interarrival jitter (A.8).
    fn measure(&mut self, now: Instant, packet: &Packet<'_>, rate: u32) {
        let since = now.saturating_duration_since(self.began).as_micros() as u64;
        let arrival = (since.wrapping_mul(u64::from(rate)) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(packet.timestamp());
        let same_clock = packet.payload_type() == self.payload_type && rate == self.rate;
        let difference = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
        (self.transit, self.payload_type, self.rate) = (transit, packet.payload_type(), rate);
        // More than a second is a new timestamp origin, not jitter.
        if same_clock && difference <= rate {
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
    }

    fn jitter(&self) -> Duration {
        Duration::from_micros(u64::from(self.jitter >> 4) * 1_000_000 / u64::from(self.rate.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp;

    struct Feed {
        quality: Quality,
        now: Instant,
    }

    impl Feed {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]
        fn new() -> Self {
            Self { quality: Quality::default(), now: Instant::now() }
        }

        fn packet(&mut self, sequence: u16, timestamp: u32, ssrc: u32, event: bool) {
            let mut bytes = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            let mut packet = Packet::parse(&mut bytes).unwrap();
            packet.set_sequence(sequence);
            packet.set_timestamp(timestamp);
            packet.set_ssrc(ssrc);
            self.quality.count(self.now, &packet, 13, 8000, event);
        }

        /// Packets in the 20 ms rhythm of G.711.
        fn play(&mut self, sequences: impl IntoIterator<Item = u16>) {
            for sequence in sequences {
                self.now += Duration::from_millis(20);
                self.packet(sequence, u32::from(sequence) * 160, 1, false);
            }
        }
    }

    #[test]
    fn a_steady_source_has_neither_loss_nor_jitter() {
        let mut feed = Feed::new();
        feed.play(0..500);
        let report = feed.quality.report();
        assert_eq!((report.received, report.lost, report.jitter), (Count { packets: 500, octets: 6500 }, 0, Duration::ZERO));
    }

    #[test]
    fn loss_is_what_is_missing_between_first_and_highest() {
        let mut feed = Feed::new();
        feed.play((65530..=65535).chain(0..10).filter(|sequence| ![65533, 3, 4].contains(sequence)));
        assert_eq!(feed.quality.report().lost, 3, "over the wrap");
        feed.play([4]);
        assert_eq!(feed.quality.report().lost, 2, "late is not lost");
    }

    #[test]
    fn a_new_source_or_sequence_starts_anew() {
        let mut feed = Feed::new();
        feed.play([1, 2, 4]);
        feed.play([30000, 30001]);
        feed.packet(5, 0, 2, false);
        feed.packet(7, 0, 2, false);
        assert_eq!(feed.quality.report().lost, 2);
        assert_eq!(feed.quality.report().received.packets, 7);
    }

    #[test]
    fn jitter_settles_at_the_deviation() {
        let mut feed = Feed::new();
        for sequence in 0..2000_u16 {
            let late = if sequence % 2 == 0 { 15 } else { 25 };
            feed.now += Duration::from_millis(late);
            feed.packet(sequence, u32::from(sequence) * 160, 1, false);
        }
        let jitter = feed.quality.report().jitter;
        assert!((Duration::from_millis(4)..Duration::from_millis(6)).contains(&jitter), "{jitter:?}");
    }

    #[test]
    fn a_jump_of_the_timestamp_is_no_jitter() {
        let mut feed = Feed::new();
        feed.play(0..10);
        for timestamp in [u32::MAX, 0x8000_0000, 0, 0x7fff_ffff] {
            feed.packet(10, timestamp, 1, false);
        }
        assert!(feed.quality.report().jitter < Duration::from_millis(20));
    }

    #[test]
    fn an_event_counts_once_for_all_its_packets() {
        let mut feed = Feed::new();
        for (sequence, timestamp) in [(1, 800), (2, 800), (3, 800), (4, 1600), (5, 1600)] {
            feed.packet(sequence, timestamp, 1, true);
        }
        assert_eq!(feed.quality.report().events, 2);
        assert_eq!(feed.quality.report().jitter, Duration::ZERO);
    }

    #[test]
    fn the_verdict_names_what_is_wrong() {
        let of = |statistics: StreamStatistics| StreamStatistics {
            kind: Some(MediaKind::Audio),
            codec: Some("PCMU".into()),
            received: Count { packets: 90, octets: 0 },
            ..statistics
        };
        assert_eq!(of(StreamStatistics::default()).verdict(), "good (4.40)");
        let bad = StreamStatistics {
            lost: 10,
            jitter: Duration::from_millis(60),
            round_trip: Some(Duration::from_millis(400)),
            ..Default::default()
        };
        assert_eq!(of(bad).verdict(), "bad (2.07): 10.0 % of the packets are lost, 60 ms of jitter, a round trip of 400 ms");
        let waits = StreamStatistics { waits_for: Some("no packet has come".into()), ..Default::default() };
        assert_eq!(waits.verdict(), "no packet has come");
        assert_eq!(StreamStatistics { kind: Some(MediaKind::Video), ..Default::default() }.verdict(), "nothing wrong");
    }

    #[test]
    fn a_report_block_tells_the_loss_since_the_last_one() {
        let mut feed = Feed::new();
        feed.play((65530..=65535).chain(0..14).filter(|sequence| ![65533, 1, 2, 3, 4].contains(sequence)));
        let block = feed.quality.block(feed.now).unwrap();
        assert_eq!((block.ssrc, block.fraction_lost, block.lost, block.highest), (1, 64, 5, 0x1_000d), "5 of 20");
        feed.play(14..34);
        let block = feed.quality.block(feed.now).unwrap();
        assert_eq!((block.fraction_lost, block.lost, block.highest), (0, 5, 0x1_0021));
        feed.play([33, 33, 33, 33, 33, 33]);
        assert_eq!(feed.quality.block(feed.now).unwrap().lost, -1, "doubles count as found");
    }

    #[test]
    fn the_round_trip_is_the_time_to_the_answer_less_its_delay() {
        let mut feed = Feed::new();
        let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 9, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0];
        report.extend_from_slice(&[0; 12]);
        feed.quality.forwards(feed.now, &rtcp::parse(&report).unwrap());
        feed.now += Duration::from_millis(580);
        let mut answer = vec![0x81, 201, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 26, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0];
        answer.extend_from_slice(&[0x12, 0x34, 0x56, 0x78, 0, 0, 0x80, 0]); // half a second later
        feed.quality.reports(feed.now, &rtcp::parse(&answer).unwrap());
        let read = feed.quality.report();
        assert_eq!(read.round_trip, Some(Duration::from_millis(80)));
        assert_eq!(read.reported, Some(Reported { lost: 5, fraction_lost: 26 }));
        // A delay longer than the time that passed, or an unknown report, tells nothing.
        let mut unknown = answer.clone();
        unknown[24] = 0;
        answer[28..].copy_from_slice(&[0xff; 4]);
        feed.now += Duration::from_millis(10);
        for report in [answer, unknown] {
            feed.quality.reports(feed.now, &rtcp::parse(&report).unwrap());
        }
        assert_eq!(feed.quality.report().round_trip, Some(Duration::from_millis(80)));
    }
}
