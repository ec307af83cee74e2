//! The playout buffer of one received stream (RFC 3550 §6.4.1, appendix A.1): packets in, as the network brings them; frames out,
//! one after the other in the sender's time. It finds its own depth, and tells loss from silence. It knows no codec: what it is
//! told of a packet is how long it sounds.

use std::time::{Duration, Instant};

use crate::codec::{DEFAULT_PTIME, MAX_PAYLOAD};

/// Least delay before a packet is played.
pub const MIN_DELAY: Duration = Duration::from_millis(20);
/// Most delay; what comes later than that after the quickest packets is lost.
pub const MAX_DELAY: Duration = Duration::from_millis(200);
/// Least delay, and what is added to the network's jitter, where sound is taken at the beat of a clock that others share.
pub const TIGHT_DELAY: Duration = Duration::from_millis(3);
/// Packets held, 640 ms at 10 ms each. One that is further ahead starts the buffer anew.
pub const SLOTS: usize = 64;

/// The delay is what the packets of the last one or two of these needed.
const WINDOW: Duration = Duration::from_secs(4);
/// A packet that differs more from its stream's time than this has a new time base: the buffer starts anew.
const NEW_TIME_BASE: Duration = Duration::from_secs(1);
/// After as many packets in a row that came too late the buffer starts anew.
const LATE_IN_A_ROW: u32 = 5;
/// What is missing for longer than this is silence.
const SILENT_AFTER: Duration = Duration::from_millis(100);
/// Frames between two that are left out because the delay has become too long.
const SHRINK_EVERY: u32 = 10;

/// What the buffer needs to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Another one starts the buffer anew.
    pub ssrc: u32,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in units of the clock rate.
    pub timestamp: u32,
    /// Comes back with the frame.
    pub payload_type: u8,
    /// How long the payload sounds, in units of the clock rate; 0 for a packet that only takes up a sequence number, such as an
    /// event (RFC 4733) that goes another way.
    pub duration: u32,
}

/// What to play next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playout<'a> {
    /// A payload.
    Frame {
        /// Payload type.
        payload_type: u8,
        /// Payload.
        payload: &'a [u8],
        /// How long it sounds, in units of the clock rate.
        duration: u32,
    },
    /// Something was sent and is not there: conceal it.
    Lost {
        /// For how long, in units of the clock rate.
        duration: u32,
        /// The payload right behind the gap, which may hold redundancy.
        next: Option<&'a [u8]>,
    },
    /// Nothing was sent, or too long ago to conceal it.
    Silence {
        /// For how long, in units of the clock rate.
        duration: u32,
    },
}

/// What became of packets that were not played, and of frames that were not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Frames concealed.
    pub concealed: u64,
    /// Packets left out to shorten the delay.
    pub skipped: u64,
    /// Times the buffer started anew after the first.
    pub restarts: u64,
}

/// A playout buffer.
#[derive(Clone, Debug)]
pub struct Jitter {
    clock_rate: u32,
    /// Whether the delay is as short as it can be.
    is_tight: bool,
    slots: Box<[Slot; SLOTS]>,
    source: Option<Source>,
    counts: Counts,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// None when the slot is free.
    sequence: Option<i64>,
    timestamp: i64,
    payload_type: u8,
    duration: u32,
    /// Grows to the longest payload it had and stays.
    payload: Vec<u8>,
}

/// One sender and its time base. Numbers and timestamps are extended beyond their wrap.
#[derive(Clone, Debug)]
struct Source {
    ssrc: u32,
    epoch: Instant,
    /// Of the newest packet.
    sequence: i64,
    timestamp: i64,
    /// Duration of the frame played last.
    frame: u32,
    /// Least and greatest transit time in this window and the one before, in units of the clock rate.
    transit: [(i64, i64); 2],
    window_ends: Instant,
    late_in_a_row: u32,
    /// What is played next; none while the buffer fills.
    next: Option<Next>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    sequence: i64,
    timestamp: i64,
    /// For how long nothing was there, in units of the clock rate.
    missing: u32,
    /// Whether the newest packet played was one without sound.
    is_quiet: bool,
    /// Frames since one was left out.
    since_shrink: u32,
}

/// A step of playout, before the payload is borrowed.
enum Step {
    Frame(usize),
    Lost(u32, Option<usize>),
    Silence(u32),
}

impl Jitter {
    /// Makes an empty buffer for a stream of a clock rate in Hz.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        let slots = Box::new(std::array::from_fn(|_| Slot::default()));
        Self { clock_rate: clock_rate.max(1), is_tight: false, slots, source: None, counts: Counts::default() }
    }

    /// Makes an empty buffer that adds as little delay as the network allows: [`TIGHT_DELAY`] at least. What waits longer than a frame
    /// and a quarter beyond that is shortened.
    #[must_use]
    pub fn tight(clock_rate: u32) -> Self {
        Self { is_tight: true, ..Self::new(clock_rate) }
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the delay that the packets of the last seconds ask for, within [`MIN_DELAY`] and [`MAX_DELAY`], or a tight
    /// buffer's [`TIGHT_DELAY`].
    #[must_use]
    pub fn target(&self) -> Duration {
        let units = self.source.as_ref().map_or(0, |source| self.target_of(source));
        Duration::from_micros((units.max(0) as u64) * 1_000_000 / u64::from(self.clock_rate)).clamp(self.least(), MAX_DELAY)
    }

    fn least(&self) -> Duration {
        if self.is_tight { TIGHT_DELAY } else { MIN_DELAY }
    }

    fn units(&self, time: Duration) -> i64 {
        (time.as_micros() as i64).saturating_mul(i64::from(self.clock_rate)) / 1_000_000
    }

    fn target_of(&self, source: &Source) -> i64 {
        let margin = if self.is_tight { self.units(TIGHT_DELAY) } else { i64::from(source.frame / 2) };
        let needed = source.slowest() - source.quickest() + margin;
        needed.clamp(self.units(self.least()), self.units(MAX_DELAY))
    }

    /// The longest delay that is not shortened.
    fn longest(&self, target: i64, frame: u32) -> i64 {
        let frame = i64::from(frame);
        target + if self.is_tight { frame + frame / 4 } else { 2 * frame }
    }

    /// Takes a packet. A payload beyond [`MAX_PAYLOAD`] is dropped as if it were lost.
    pub fn insert(&mut self, now: Instant, header: Header, payload: &[u8]) {
        if payload.len() > MAX_PAYLOAD {
            return;
        }
        let Some((sequence, timestamp)) = self.place(now, header) else {
            self.restart(now, header);
            return self.store(now, header, payload, i64::from(header.sequence), i64::from(header.timestamp));
        };
        self.store(now, header, payload, sequence, timestamp);
    }

    /// The packet's extended number and timestamp; none when it is not of the stream as it is known.
    fn place(&self, now: Instant, header: Header) -> Option<(i64, i64)> {
        let source = self.source.as_ref().filter(|source| source.ssrc == header.ssrc)?;
        let sequence = source.sequence + i64::from(header.sequence.wrapping_sub(source.sequence as u16).cast_signed());
        let timestamp = source.timestamp + i64::from(header.timestamp.wrapping_sub(source.timestamp as u32).cast_signed());
        let first = source.next.map_or(source.sequence, |next| next.sequence);
        let transit = self.units(now.saturating_duration_since(source.epoch)) - timestamp;
        let jump = (transit - source.quickest()).abs();
        let is_known = sequence < first + SLOTS as i64 && source.late_in_a_row < LATE_IN_A_ROW;
        // The timestamp of an event is that of its beginning.
        (is_known && (header.duration == 0 || jump < self.units(NEW_TIME_BASE))).then_some((sequence, timestamp))
    }

    fn restart(&mut self, now: Instant, header: Header) {
        self.counts.restarts += u64::from(self.source.is_some());
        for slot in self.slots.iter_mut() {
            slot.sequence = None;
        }
        let transit = -i64::from(header.timestamp);
        let frame = self.source.as_ref().map_or(self.units(DEFAULT_PTIME) as u32, |source| source.frame);
        self.source = Some(Source {
            ssrc: header.ssrc,
            epoch: now,
            sequence: i64::from(header.sequence),
            timestamp: i64::from(header.timestamp),
            frame,
            transit: [(transit, transit); 2],
            window_ends: now + WINDOW,
            late_in_a_row: 0,
            next: None,
        });
    }

    fn store(&mut self, now: Instant, header: Header, payload: &[u8], sequence: i64, timestamp: i64) {
        let rate = self.clock_rate;
        let Some(source) = &mut self.source else { return };
        let slot = &mut self.slots[sequence.rem_euclid(SLOTS as i64) as usize];
        if slot.sequence == Some(sequence) {
            self.counts.duplicates += 1;
            return;
        }
        if header.duration > 0 {
            source.measure(now, rate, timestamp);
        }
        if sequence > source.sequence {
            source.sequence = sequence;
            source.timestamp = timestamp;
        }
        if source.next.is_some_and(|next| sequence < next.sequence) {
            // Also a duplicate of one that was played: there is no knowing without a list of them.
            self.counts.late += 1;
            return;
        }
        slot.sequence = Some(sequence);
        slot.timestamp = timestamp;
        slot.payload_type = header.payload_type;
        slot.duration = header.duration;
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
    }

    /// Says what to play next, after what it said last. To be called as often as there is need for sound.
    pub fn pull(&mut self, now: Instant) -> Playout<'_> {
        match self.step(now) {
            Step::Frame(at) => {
                let slot = &mut self.slots[at];
                slot.sequence = None;
                Playout::Frame { payload_type: slot.payload_type, payload: &slot.payload, duration: slot.duration }
            }
            Step::Lost(duration, next) => {
                self.counts.concealed += 1;
                Playout::Lost { duration, next: next.and_then(|at| self.slots.get(at)).map(|slot| &slot.payload[..]) }
            }
            Step::Silence(duration) => Playout::Silence { duration },
        }
    }

    fn step(&mut self, now: Instant) -> Step {
        let default = self.units(DEFAULT_PTIME) as u32;
        let Some(mut source) = self.source.take() else { return Step::Silence(default) };
        let step = self.step_of(now, &mut source);
        self.source = Some(source);
        step
    }

    fn step_of(&mut self, now: Instant, source: &mut Source) -> Step {
        let clock = self.units(now.saturating_duration_since(source.epoch)) - source.quickest();
        let target = self.target_of(source);
        let frame = source.frame;
        let longest = self.longest(target, frame);
        let Some(mut next) = source.next.or_else(|| self.begin(source, clock - target)) else { return Step::Silence(frame) };
        let step = loop {
            let delay = clock - next.timestamp;
            if delay > target + self.units(MAX_DELAY) {
                self.jump(&mut next, source.sequence, clock - target);
                continue;
            }
            let Some((at, sequence)) = self.head(next.sequence, source.sequence) else {
                break next.miss(frame, delay >= target, self.units(SILENT_AFTER) as u32);
            };
            let (timestamp, duration) = (self.slots[at].timestamp, self.slots[at].duration);
            let gap = timestamp - next.timestamp;
            let is_late = gap + i64::from(duration) <= 0;
            let is_too_much = delay > longest && next.since_shrink >= SHRINK_EVERY;
            if duration == 0 || is_late || is_too_much && gap <= 0 {
                self.slots[at].sequence = None;
                next.sequence = sequence + 1;
                next.is_quiet |= duration == 0;
                if duration > 0 && is_late {
                    self.counts.late += 1;
                    source.late_in_a_row += 1;
                } else if duration > 0 {
                    self.counts.skipped += 1;
                    next.timestamp = timestamp + i64::from(duration);
                    next.since_shrink = 0;
                }
                continue;
            }
            if gap <= 0 {
                source.late_in_a_row = 0;
                source.frame = duration;
                next = Next { sequence: sequence + 1, timestamp: timestamp + i64::from(duration), missing: 0, is_quiet: false, ..next };
                break Step::Frame(at);
            }
            let length = gap.min(i64::from(frame)) as u32;
            if sequence > next.sequence && delay < target {
                break next.miss(frame, false, self.units(SILENT_AFTER) as u32);
            }
            next.timestamp += i64::from(length);
            if is_too_much || delay > longest && sequence == next.sequence {
                // What is not there is left out first.
                next.since_shrink = 0;
                continue;
            }
            break next.wait(length, sequence, (gap <= i64::from(frame)).then_some(at), self.units(SILENT_AFTER) as u32);
        };
        next.since_shrink = next.since_shrink.saturating_add(1);
        source.next = Some(next);
        step
    }

    /// Begins to play when the first packet has waited long enough.
    fn begin(&self, source: &Source, due: i64) -> Option<Next> {
        let (at, sequence) = self.head(source.sequence - SLOTS as i64 + 1, source.sequence)?;
        let timestamp = self.slots[at].timestamp;
        (timestamp <= due).then_some(Next { sequence, timestamp, missing: 0, is_quiet: false, since_shrink: 0 })
    }

    /// Goes on at a time, leaving out what is before it: we were not asked for a while, or the stream came in a burst.
    fn jump(&mut self, next: &mut Next, newest: i64, timestamp: i64) {
        while let Some((at, sequence)) = self.head(next.sequence, newest) {
            if self.slots[at].timestamp >= timestamp {
                break;
            }
            self.counts.skipped += u64::from(self.slots[at].duration > 0);
            self.slots[at].sequence = None;
            next.sequence = sequence + 1;
        }
        next.timestamp = timestamp;
    }

    /// The slot and number of the first packet there is.
    fn head(&self, from: i64, newest: i64) -> Option<(usize, i64)> {
        (from.max(newest - SLOTS as i64 + 1)..=newest).find_map(|sequence| {
            let at = sequence.rem_euclid(SLOTS as i64) as usize;
            (self.slots[at].sequence == Some(sequence)).then_some((at, sequence))
        })
    }
}

impl Source {
    fn quickest(&self) -> i64 {
        self.transit[0].0.min(self.transit[1].0)
    }

    fn slowest(&self) -> i64 {
        self.transit[0].1.max(self.transit[1].1)
    }

    fn measure(&mut self, now: Instant, clock_rate: u32, timestamp: i64) {
        let elapsed = now.saturating_duration_since(self.epoch).as_micros() as i64;
        let transit = elapsed.saturating_mul(i64::from(clock_rate)) / 1_000_000 - timestamp;
        if now >= self.window_ends {
            self.transit = [(transit, transit), self.transit[0]];
            self.window_ends = now + WINDOW;
        }
        let (least, most) = self.transit[0];
        self.transit[0] = (least.min(transit), most.max(transit));
    }
}

impl Next {
    /// Nothing is there. Time goes on, unless the delay should become longer anyway.
    fn miss(&mut self, frame: u32, goes_on: bool, silent_after: u32) -> Step {
        if goes_on {
            self.timestamp += i64::from(frame);
        }
        self.missing = self.missing.saturating_add(frame);
        if self.is_quiet || self.missing > silent_after { Step::Silence(frame) } else { Step::Lost(frame, None) }
    }

    /// Something is there, but later: a pause if no number is missing, else a loss.
    fn wait(&mut self, length: u32, head: i64, redundancy: Option<usize>, silent_after: u32) -> Step {
        self.missing = self.missing.saturating_add(length);
        let is_pause = head == self.sequence || redundancy.is_none() && self.missing > silent_after;
        if is_pause { Step::Silence(length) } else { Step::Lost(length, redundancy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u32 = 160;
    const TICK: Duration = Duration::from_millis(20);

    /// What was heard: the number in a payload, a loss (with or without redundancy) or silence.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Heard {
        Number(u16),
        Lost,
        Redundant(u16),
        Silence,
    }
    use Heard::{Lost, Number, Redundant, Silence};

    struct Wire {
        jitter: Jitter,
        begin: Instant,
        /// Arrivals still to come: when, and the packet.
        packets: Vec<(Duration, Header)>,
    }

    #[expect(clippy::disallowed_methods, reason = "an instant can only be had from the clock; the tests then add to it")]
    fn now() -> Instant {
        Instant::now()
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Packet number n of a stream just before both of its numbers wrap.
    fn header(n: u16) -> Header {
        let timestamp = (u32::MAX - 500).wrapping_add(u32::from(n) * FRAME);
        Header { ssrc: 7, sequence: 65530u16.wrapping_add(n), timestamp, payload_type: 8, duration: FRAME }
    }

    impl Wire {
        fn new() -> Self {
            Self { jitter: Jitter::new(8000), begin: now(), packets: Vec::new() }
        }

        /// Sends packets, each that much later than its time.
        fn send(mut self, numbers: impl IntoIterator<Item = u16>, delay: impl Fn(u16) -> u64) -> Self {
            self.packets.extend(numbers.into_iter().map(|n| (TICK * u32::from(n) + ms(delay(n)), header(n))));
            self
        }

        fn run(&mut self, ticks: std::ops::Range<u32>) -> Vec<Heard> {
            self.packets.sort_by_key(|packet| packet.0);
            ticks
                .map(|tick| {
                    let time = TICK * tick + ms(1);
                    let due = self.packets.partition_point(|packet| packet.0 <= time);
                    for (arrival, header) in self.packets.drain(..due) {
                        let payload = header.sequence.wrapping_sub(65530).to_be_bytes();
                        self.jitter.insert(self.begin + arrival, header, &payload);
                    }
                    let number = |payload: &[u8]| u16::from_be_bytes(payload.try_into().unwrap());
                    match self.jitter.pull(self.begin + time) {
                        Playout::Frame { payload, duration, payload_type } => {
                            assert_eq!((duration, payload_type), (FRAME, 8));
                            Number(number(payload))
                        }
                        Playout::Lost { next: None, .. } => Lost,
                        Playout::Lost { next: Some(payload), .. } => Redundant(number(payload)),
                        Playout::Silence { .. } => Silence,
                    }
                })
                .collect()
        }
    }

    fn numbers(heard: &[Heard]) -> Vec<u16> {
        heard.iter().filter_map(|heard| if let Number(n) = heard { Some(*n) } else { None }).collect()
    }

    #[test]
    fn steady_stream_is_played_after_the_least_delay_and_over_the_wrap() {
        let heard = Wire::new().send(0..50, |_| 0).run(0..51);
        assert_eq!(heard[0], Silence);
        assert_eq!(heard[1..], (0..50).map(Number).collect::<Vec<_>>());
    }

    #[test]
    fn reordered_and_doubled_packets_are_played_once_and_in_order() {
        let mut wire = Wire::new().send(0..50, |n| if n % 5 == 0 { 25 } else { 0 }).send((0..50).step_by(3), |_| 30);
        let heard = numbers(&wire.run(0..60));
        assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "{heard:?}");
        assert!(heard.len() >= 48);
        assert!(wire.jitter.counts().duplicates + wire.jitter.counts().late >= 17);
    }

    #[test]
    fn lost_frame_is_concealed_with_the_redundancy_of_the_next() {
        let heard = Wire::new().send((0..20).filter(|n| ![5, 10, 11].contains(n)), |_| 0).run(0..21);
        assert_eq!(heard[5..8], [Number(4), Redundant(6), Number(6)]);
        assert_eq!(heard[10..14], [Number(9), Lost, Redundant(12), Number(12)], "{heard:?}");
    }

    #[test]
    fn delay_grows_to_the_jitter_and_then_nothing_is_late() {
        let mut wire = Wire::new().send(0..400, |n| if n % 7 == 0 { 90 } else { u64::from(n % 3) * 5 });
        wire.run(0..50);
        let before = wire.jitter.counts();
        let heard = wire.run(50..400);
        assert_eq!(wire.jitter.counts().late, before.late);
        assert!(heard.iter().all(|heard| matches!(heard, Number(_))), "{heard:?}");
        assert!((ms(90)..ms(120)).contains(&wire.jitter.target()), "{:?}", wire.jitter.target());
    }

    #[test]
    fn delay_shrinks_when_the_network_calms_down() {
        let mut wire = Wire::new().send(0..1000, |n| if n < 100 && n % 5 == 0 { 120 } else { 0 });
        wire.run(0..100);
        assert!(wire.jitter.target() > ms(110));
        let heard = wire.run(100..1000);
        assert_eq!(wire.jitter.target(), MIN_DELAY);
        let Some(Number(last)) = heard.last() else { panic!("{heard:?}") };
        assert!((996..=998).contains(last), "played {last} of 999: no more than 60 ms of delay");
        assert!(wire.jitter.counts().skipped >= 3);
    }

    #[test]
    fn pause_of_the_sender_is_silence_and_no_loss() {
        let mut wire = Wire::new().send(0..10, |_| 0);
        for n in 60..70 {
            let spurt = Header { sequence: header(n - 50).sequence, ..header(n) };
            wire.packets.push((TICK * u32::from(n), spurt));
        }
        let heard = wire.run(0..71);
        assert_eq!(numbers(&heard), (0..20).collect::<Vec<_>>());
        assert!(heard[16..60].iter().all(|&heard| heard == Silence), "after at most 100 ms of doubt: {heard:?}");
        assert_eq!(heard[61], Number(10), "the time of the pause is kept");
    }

    #[test]
    fn packet_without_sound_is_neither_loss_nor_silence() {
        let mut wire = Wire::new().send(0..30, |n| if n == 2 { 50 } else { 0 });
        for (_, header) in wire.packets.iter_mut().filter(|(_, header)| (4..7).contains(&header.sequence.wrapping_sub(65530))) {
            header.duration = 0;
        }
        let heard = wire.run(0..34);
        let at = heard.iter().position(|&heard| heard == Number(3)).unwrap();
        let after = heard.iter().position(|&heard| heard == Number(7)).unwrap();
        assert!(heard[at + 1..after].iter().all(|&heard| heard == Silence), "{heard:?}");
    }

    #[test]
    fn other_ssrc_and_other_time_base_start_anew() {
        let mut wire = Wire::new().send(0..20, |_| 0);
        for n in 20..40 {
            wire.packets.push((TICK * u32::from(n), Header { ssrc: 9, timestamp: 5 + u32::from(n) * FRAME, ..header(n) }));
        }
        for n in 40..60 {
            wire.packets.push((TICK * u32::from(n), Header { ssrc: 9, timestamp: (1 << 30) + u32::from(n) * FRAME, ..header(n) }));
        }
        let heard = wire.run(0..61);
        assert!(numbers(&heard).len() >= 58, "{heard:?}");
        assert_eq!(wire.jitter.counts().restarts, 2);
    }

    #[test]
    fn stream_that_became_slower_for_good_is_heard_again_soon() {
        let mut wire = Wire::new().send(0..300, |n| if n < 100 { 0 } else { 700 });
        let heard = wire.run(0..330);
        let back = heard.iter().skip(110).position(|heard| matches!(heard, Number(_))).unwrap();
        assert!(back < 45, "heard again after {back} frames");
        assert!(numbers(&heard[160..]).len() > 150, "{heard:?}");
    }

    #[test]
    fn after_a_stall_of_ours_the_present_is_played_and_not_the_past() {
        let mut wire = Wire::new().send(0..200, |_| 0);
        wire.run(0..50);
        wire.packets.retain(|packet| packet.0 > TICK * 50);
        let (due, later): (Vec<_>, Vec<_>) = wire.packets.clone().into_iter().partition(|packet| packet.0 <= TICK * 80);
        for (arrival, header) in due {
            wire.jitter.insert(wire.begin + arrival, header, &[0, 0]);
        }
        wire.packets = later;
        let heard = wire.run(80..110);
        assert!(numbers(&heard[3..]).iter().zip(80..).all(|(&n, tick)| n + 5 > tick), "{heard:?}");
        assert!(wire.jitter.counts().skipped > 20);
    }

    #[test]
    fn any_header_is_survived() {
        // S8
        let (mut jitter, mut time, mut seed) = (Jitter::new(48000), now(), 1u64);
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        for _ in 0..50_000 {
            time += ms(random() % 30);
            let header = Header {
                ssrc: (random() % 2) as u32,
                sequence: if random() % 2 == 0 { (random() % 80) as u16 } else { random() as u16 },
                timestamp: if random() % 2 == 0 { (random() % 9000) as u32 } else { (random() as u32).wrapping_mul(3) },
                payload_type: 0,
                duration: [0, 160, 960, u32::MAX][(random() % 4) as usize],
            };
            jitter.insert(time, header, &[1; 40]);
            let _ = jitter.pull(time);
        }
        assert!(jitter.target() <= MAX_DELAY);
    }
}
