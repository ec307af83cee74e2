//! RFC 4733 named events: their payload, a listener that turns packets into key presses, a sender that turns key presses into
//! packets, and the conversion of packets to another clock rate (RFC 4733 §2.3, §2.5).

use std::time::{Duration, Instant};

use super::{Digit, Key, MIN_DURATION, Press, Waiting};
use crate::rtp::Packet;

/// After as long without a packet an event has ended, though its end was lost (§2.5.2.2 leaves the time to us).
const LOST_END: Duration = Duration::from_millis(150);
/// Times the end is sent (§2.5.1.4).
const ENDS: u8 = 3;
/// Power that is sent, in dB below 1 mW (§2.3.4).
const VOLUME: u8 = 10;

/// Payload of an event (§2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Event code.
    pub code: u8,
    /// Whether the event has ended.
    pub end: bool,
    /// Power in dB below 1 mW, 0 to 63.
    pub volume: u8,
    /// Time since the timestamp, in units of the clock rate.
    pub duration: u16,
}

impl Event {
    /// Reads the first event of a payload.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &[code, flags, high, low] = payload.first_chunk()?;
        Some(Self { code, end: flags & 0x80 != 0, volume: flags & 0x3f, duration: u16::from_be_bytes([high, low]) })
    }

    /// Returns the payload.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.code, u8::from(self.end) << 7 | self.volume & 0x3f, high, low]
    }
}

/// Turns packets into key presses: one press for each event, whatever the network did to its packets.
#[derive(Clone, Debug)]
pub struct Listener {
    clock_rate: u32,
    /// Timestamp of the newest event.
    newest: Option<u32>,
    down: Option<Down>,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    digit: Digit,
    /// In units of the clock rate, from the beginning of the first segment.
    duration: u32,
    /// What segments before this one lasted (§2.5.1.3).
    before: u32,
    heard: Instant,
}

impl Listener {
    /// Listens to events of a clock rate in Hz.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate: clock_rate.max(1), newest: None, down: None }
    }

    /// Takes a packet's timestamp and payload. Up to two presses result: the end of an event whose own was lost, and this one's
    /// beginning; a packet that is an end of which no beginning was heard is both in one.
    pub fn handle_packet(&mut self, now: Instant, timestamp: u32, payload: &[u8]) -> [Option<Press>; 2] {
        let Some((event, digit)) = Event::parse(payload).and_then(|event| Some((event, Digit::from_event(event.code)?))) else {
            return [None, None];
        };
        let since = self.newest.map(|newest| timestamp.wrapping_sub(newest).cast_signed());
        match (since, &mut self.down) {
            (Some(..0), _) | (Some(0), None) => [None, None],
            (Some(0), Some(down)) => {
                down.duration = down.duration.max(down.before + u32::from(event.duration));
                down.heard = now;
                [None, if event.end { self.up() } else { None }]
            }
            (Some(since), Some(down)) if down.is_next_segment(since, digit) => {
                self.newest = Some(timestamp);
                down.before += since.cast_unsigned();
                down.duration = down.before + u32::from(event.duration);
                down.heard = now;
                [None, if event.end { self.up() } else { None }]
            }
            (_, _) => {
                let lost = self.up();
                self.newest = Some(timestamp);
                self.down = Some(Down { digit, duration: event.duration.into(), before: 0, heard: now });
                if event.end && lost.is_none() { [Some(Press::Down(digit)), self.up()] } else { [lost, Some(Press::Down(digit))] }
            }
        }
    }

    /// Ends an event of which nothing was heard for a while.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Press> {
        if self.poll_timeout().is_some_and(|at| now >= at) { self.up() } else { None }
    }

    /// Returns when to call [`Listener::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.down.map(|down| down.heard + LOST_END)
    }

    fn up(&mut self) -> Option<Press> {
        let down = self.down.take()?;
        let duration = Duration::from_micros(u64::from(down.duration) * 1_000_000 / u64::from(self.clock_rate));
        Some(Press::Up(down.digit, duration))
    }
}

impl Down {
    fn is_next_segment(&self, since: i32, digit: Digit) -> bool {
        self.digit == digit && since.cast_unsigned() == 0xffff && self.before < 0x00ff_ffff
    }
}

/// A packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Payload.
    pub event: Event,
    /// Timestamp: that of the event's beginning.
    pub timestamp: u32,
    /// Whether it is the event's first packet.
    pub marker: bool,
}

/// Turns key presses into packets, one for each frame of the stream.
#[derive(Clone, Debug)]
pub struct Sender {
    clock_rate: u32,
    waiting: Waiting,
    sending: Option<Sending>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    timestamp: u32,
    duration: u32,
    /// What was sent of it in segments that are over.
    before: u32,
    ends: u8,
    is_first: bool,
}

impl Sender {
    /// Sends events of a clock rate in Hz.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, waiting: Waiting::default(), sending: None }
    }

    /// Takes a press. At most [`MAX_WAITING`](super::MAX_WAITING) digits wait.
    pub fn press(&mut self, press: Press) {
        self.waiting.press(press);
    }

    /// Returns whether a digit is being sent, or waits.
    #[must_use]
    pub fn is_pressing(&self) -> bool {
        self.waiting.first().is_some()
    }

    /// Returns how many digits were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.waiting.dropped
    }

    /// Returns the packet of a frame that begins at the timestamp and is that long, in units of the clock rate; none when no key
    /// is down, and sound may be sent.
    pub fn poll(&mut self, timestamp: u32, frame: u32) -> Option<Outgoing> {
        let Key { digit, duration } = self.waiting.first()?;
        let begin = Sending { timestamp, duration: 0, before: 0, ends: 0, is_first: true };
        let sending = self.sending.get_or_insert(begin);
        if sending.ends == 0 {
            sending.grow(frame);
        }
        let least = (MIN_DURATION.as_millis() as u64 * u64::from(self.clock_rate) / 1000) as u32;
        let whole = duration.map(|duration| (duration.as_millis() as u64 * u64::from(self.clock_rate) / 1000) as u32);
        let end = whole.is_some_and(|whole| sending.before + sending.duration >= whole.max(least));
        sending.ends += u8::from(end);
        let event = Event { code: digit.event(), end, volume: VOLUME, duration: u16::try_from(sending.duration).unwrap_or(u16::MAX) };
        let outgoing = Outgoing { event, timestamp: sending.timestamp, marker: sending.is_first };
        sending.is_first = false;
        if sending.ends == ENDS {
            self.sending = None;
            self.waiting.done();
        }
        Some(outgoing)
    }
}

impl Sending {
    /// Lets the event go on; what does not fit into the field begins a new segment (§2.5.1.3).
    fn grow(&mut self, frame: u32) {
        self.duration += frame;
        if let Some(over) = self.duration.checked_sub(0xffff).filter(|over| *over > 0) {
            self.timestamp = self.timestamp.wrapping_add(0xffff);
            self.before += 0xffff;
            self.duration = over;
        }
    }
}

/// Converts the packets of events to another clock rate in place, for a stream that is otherwise relayed.
#[derive(Clone, Copy, Debug)]
pub struct Rescale {
    from: u32,
    to: u32,
    /// A timestamp of the source, and the same moment in ours.
    anchor: Option<(u32, u32)>,
}

impl Rescale {
    /// Converts from one clock rate to another, in Hz.
    #[must_use]
    pub fn new(from: u32, to: u32) -> Self {
        Self { from: from.max(1), to, anchor: None }
    }

    /// Scales the duration and the timestamp of a packet. The first one keeps its timestamp; the distances between them scale.
    pub fn rescale(&mut self, packet: &mut Packet<'_>) {
        let timestamp = packet.timestamp();
        let (from, to) = *self.anchor.get_or_insert((timestamp, timestamp));
        let distance = i64::from(timestamp.wrapping_sub(from).cast_signed()) * i64::from(self.to) / i64::from(self.from);
        let scaled = to.wrapping_add(distance as u32);
        if distance > 0 {
            // A new anchor for each event, so that distances stay short and no fraction adds up over a call.
            self.anchor = Some((timestamp, scaled));
        }
        packet.set_timestamp(scaled);
        if let Some(event) = Event::parse(packet.payload()) {
            let duration = u64::from(event.duration) * u64::from(self.to) / u64::from(self.from);
            let event = Event { duration: u16::try_from(duration).unwrap_or(u16::MAX), ..event };
            if let Some(payload) = packet.payload_mut().first_chunk_mut() {
                *payload = event.to_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant can only be had from the clock; the tests then add to it")]
    fn now() -> Instant {
        Instant::now()
    }

    fn key(letter: char) -> Digit {
        Digit::from_letter(letter).unwrap()
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// All packets of a digit string.
    fn packets(clock_rate: u32, digits: &str, duration: Duration) -> Vec<Outgoing> {
        let mut sender = Sender::new(clock_rate);
        for digit in digits.chars().map(key) {
            sender.press(Press::Down(digit));
            sender.press(Press::Up(digit, duration));
        }
        let frame = clock_rate / 50;
        (0..).map_while(|n| sender.poll(1000 + n * frame, frame)).collect()
    }

    /// What is heard of packets, 20 ms apart.
    fn heard<'a>(clock_rate: u32, packets: impl IntoIterator<Item = &'a Outgoing>) -> Vec<Press> {
        let (mut listener, mut time) = (Listener::new(clock_rate), now());
        let mut presses = Vec::new();
        for packet in packets {
            time += ms(20);
            presses.extend(listener.handle_timeout(time));
            presses.extend(listener.handle_packet(time, packet.timestamp, &packet.event.to_bytes()).into_iter().flatten());
        }
        presses.extend(listener.handle_timeout(time + LOST_END));
        presses
    }

    fn digits(presses: &[Press]) -> String {
        presses.iter().filter_map(|press| if let Press::Up(digit, _) = press { Some(digit.letter()) } else { None }).collect()
    }

    #[test]
    fn event_grows_from_its_timestamp_and_ends_three_times() {
        let packets = packets(8000, "5", ms(80));
        let durations: Vec<_> = packets.iter().map(|packet| (packet.event.duration, packet.event.end)).collect();
        assert_eq!(durations, [(160, false), (320, false), (480, false), (640, true), (640, true), (640, true)]);
        assert!(packets.iter().all(|packet| packet.timestamp == 1000 && packet.event.code == 5));
        assert_eq!(packets.iter().filter(|packet| packet.marker).count(), 1);
    }

    #[test]
    fn digits_are_heard_as_they_were_sent_at_both_rates() {
        for rate in [8000, 48000] {
            let presses = heard(rate, &packets(rate, "1122#*D!", ms(100)));
            assert_eq!(digits(&presses), "1122#*D!");
            assert!(presses.chunks(2).all(|pair| matches!(pair, [Press::Down(a), Press::Up(b, time)] if a == b && *time == ms(100))));
        }
    }

    #[test]
    fn lost_and_reordered_packets_lose_no_digit() {
        let all = packets(8000, "123", ms(100));
        assert_eq!(digits(&heard(8000, all.iter().filter(|packet| !packet.event.end))), "123", "no end");
        assert_eq!(digits(&heard(8000, all.iter().filter(|packet| packet.event.end))), "123", "nothing but ends");
        assert_eq!(digits(&heard(8000, all.iter().filter(|packet| !packet.marker))), "123", "no beginning");
        let mut swapped = all.clone();
        swapped.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        assert_eq!(digits(&heard(8000, &swapped)), "123");
        assert_eq!(digits(&heard(8000, all.iter().flat_map(|packet| [packet, packet]))), "123", "doubled");
    }

    #[test]
    fn long_press_is_one_press_in_segments() {
        let packets = packets(48000, "7", ms(3000));
        assert_eq!(packets.iter().map(|packet| packet.timestamp).collect::<std::collections::BTreeSet<_>>().len(), 3);
        let presses = heard(48000, &packets);
        assert_eq!(presses, [Press::Down(key('7')), Press::Up(key('7'), ms(3000))]);
    }

    #[test]
    fn key_held_is_sent_until_it_comes_up() {
        let mut sender = Sender::new(8000);
        sender.press(Press::Down(key('9')));
        for n in 1..=20 {
            let event = sender.poll(0, 160).unwrap().event;
            assert_eq!((event.duration, event.end), (n * 160, false));
        }
        sender.press(Press::Up(key('9'), ms(410)));
        assert!(sender.poll(0, 160).unwrap().event.end);
        assert!(sender.poll(0, 160).is_some() && sender.poll(0, 160).is_some() && sender.poll(0, 160).is_none());
    }

    #[test]
    fn end_is_heard_without_its_packets_after_a_while() {
        let (mut listener, time) = (Listener::new(8000), now());
        let event = Event { code: 3, end: false, volume: 10, duration: 400 };
        assert_eq!(listener.handle_packet(time, 5, &event.to_bytes()), [None, Some(Press::Down(key('3')))]);
        assert_eq!(listener.handle_timeout(time + LOST_END / 2), None);
        assert_eq!(listener.poll_timeout(), Some(time + LOST_END));
        assert_eq!(listener.handle_timeout(time + LOST_END), Some(Press::Up(key('3'), ms(50))));
        assert_eq!(listener.handle_packet(time + LOST_END, 5, &event.to_bytes()), [None, None], "it does not begin again");
    }

    #[test]
    fn other_events_and_short_payloads_are_no_keys() {
        let mut listener = Listener::new(8000);
        for payload in [&[][..], &[1, 2, 3], &[36, 0, 0, 1], &[255, 255, 255, 255]] {
            assert_eq!(listener.handle_packet(now(), 0, payload), [None, None]);
        }
    }

    #[test]
    fn event_of_one_clock_is_the_same_event_in_another() {
        let mut rescale = Rescale::new(8000, 48000);
        let mut scaled = Vec::new();
        for packet in packets(8000, "12", ms(100)) {
            let mut bytes = vec![0x80, 101, 0, 1];
            bytes.extend(packet.timestamp.to_be_bytes());
            bytes.extend([0, 0, 0, 9]);
            bytes.extend(packet.event.to_bytes());
            let mut view = Packet::parse(&mut bytes).unwrap();
            rescale.rescale(&mut view);
            let event = Event::parse(view.payload()).unwrap();
            scaled.push(Outgoing { event, timestamp: view.timestamp(), marker: false });
        }
        let presses = heard(48000, &scaled);
        assert_eq!(digits(&presses), "12");
        assert!(presses.contains(&Press::Up(key('2'), ms(100))));
        assert_eq!(scaled.last().unwrap().timestamp - scaled[0].timestamp, 7 * 960);
    }
}
