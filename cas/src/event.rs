//! Events: written once, numbered per login, kept until the client has them. It knows no topics and no logins.
//!
//! A login's events have the numbers 1, 2, 3 … in the order in which they happened. A client that reads on after a number gets each
//! later event once, in order. *Slow readers*: what a client has not read is kept up to [`MAX_EVENTS`] and [`MAX_BYTES`]; beyond that
//! the oldest go, and when the client reads on it gets a snapshot of the state in place of what it lacks, behind the final replies that are
//! still there, then every event since. Nobody else notices.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes};
use serde_json::Value;
use smallvec::SmallVec;

use crate::message::{Encoding, Message};
use crate::xml;

/// Most events kept for a login. The oldest one goes where one more comes.
pub const MAX_EVENTS: usize = 4096;

/// Most bytes of events kept for a login, as JSON. Events that several logins get are kept once, but count for each.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Events that are kept although they were written to a stream: it may break off before they arrive.
pub const KEPT_AFTER_WRITING: usize = 512;

/// An event without its number: the part that is the same for all who get it, written once.
#[derive(Debug)]
pub struct Event {
    json: Bytes,
    xml: OnceLock<Bytes>,
    /// A final reply: no snapshot has it.
    is_reply: bool,
}

impl Event {
    /// Writes an event; its own `sequence-id` is left out.
    #[must_use]
    pub fn new(message: &Message) -> Arc<Self> {
        let json = serde_json::to_vec(message).expect("a vector takes every byte, and every key is text");
        let is_reply = message.response.is_some();
        Arc::new(Self { json: without_number(&json, message.sequence_id), xml: OnceLock::new(), is_reply })
    }

    /// Writes an event whose body writes itself as JSON.
    pub(crate) fn written(topic: &str, message: &str, timestamp: u64, body: impl FnOnce(&mut Vec<u8>)) -> Arc<Self> {
        let mut json = Vec::with_capacity(1024);
        for part in ["\"topic\":\"", topic, "\",\"message\":\"", message, "\",\"timestamp\":"] {
            json.extend_from_slice(part.as_bytes());
        }
        json.extend_from_slice(decimal(timestamp, &mut [0; 20]));
        json.extend_from_slice(b",\"body\":");
        body(&mut json);
        json.push(b'}');
        json.shrink_to_fit();
        Arc::new(Self { json: json.into(), xml: OnceLock::new(), is_reply: false })
    }

    /// Returns how much it counts in [`MAX_BYTES`].
    fn len(&self) -> usize {
        self.json.len()
    }

    fn xml(&self) -> &Bytes {
        self.xml.get_or_init(|| {
            let mut json = b"{".to_vec();
            json.extend_from_slice(&self.json);
            let value: Value = serde_json::from_slice(&json).unwrap_or_default();
            let mut text = String::new();
            xml::write_members(value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value)), &mut text);
            text.into()
        })
    }
}

/// Cuts `{` and the member `sequence-id` out of a message's JSON. Topic, message and timestamp come before it, and have no quotation
/// marks in them.
fn without_number(json: &[u8], number: u64) -> Bytes {
    let member = format!(",\"sequence-id\":{number}");
    let at = json.windows(member.len()).position(|window| window == member.as_bytes()).expect("each message is written with its number");
    let mut out = Vec::with_capacity(json.len());
    out.extend_from_slice(json.get(1..at).unwrap_or_default());
    out.extend_from_slice(json.get(at + member.len()..).unwrap_or_default());
    out.into()
}

/// One event of one login.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number in the login.
    pub sequence_id: u64,
    event: Arc<Event>,
}

impl Frame {
    /// Makes a frame outside a queue: a snapshot has the number of the last event it covers.
    pub(crate) fn new(sequence_id: u64, event: Arc<Event>) -> Self {
        Self { sequence_id, event }
    }

    /// Appends the event as one message.
    pub fn write(&self, encoding: Encoding, out: &mut impl BufMut) {
        self.write_as("cas", encoding, out);
    }

    /// Appends the event as an item of a list.
    pub(crate) fn write_item(&self, encoding: Encoding, out: &mut Vec<u8>) {
        self.write_as("item", encoding, out);
    }

    fn write_as(&self, element: &str, encoding: Encoding, out: &mut impl BufMut) {
        let mut number = [0; 20];
        let number = decimal(self.sequence_id, &mut number);
        let parts: &[&[u8]] = match encoding {
            Encoding::Json => &[b"{\"sequence-id\":", number, b",", &self.event.json],
            Encoding::Xml => {
                let start = b" type=\"object\"><sequence-id type=\"number\">";
                &[b"<", element.as_bytes(), start, number, b"</sequence-id>", self.event.xml(), b"</", element.as_bytes(), b">"]
            }
        };
        parts.iter().for_each(|part| out.put_slice(part));
    }

    /// Returns about how many bytes [`Self::write`] appends as JSON.
    #[expect(clippy::len_without_is_empty, reason = "no event is empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.event.len() + 32
    }
}

/// Events in order; mostly one.
pub type Frames = SmallVec<[Frame; 2]>;

fn decimal(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + u8::try_from(number % 10).expect("below ten");
        at -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    buffer.get(at..).unwrap_or_default()
}

/// Why events after a number cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Some of them are gone.
    Gone,
    /// The number is higher than any event's.
    Ahead,
}

/// The events of one login that it may still ask for.
#[derive(Debug, Default)]
pub struct Events {
    /// How many events are gone: the number of the one before the first that is kept.
    gone: u64,
    kept: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Events {
    /// Returns the number of the last event; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.gone + self.kept.len() as u64
    }

    /// Returns the number of the last event that is gone.
    #[must_use]
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// Adds an event.
    pub fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.len();
        self.kept.push_back(event);
        while self.kept.len() > MAX_EVENTS || self.bytes > MAX_BYTES && self.kept.len() > 1 {
            self.drop_first();
        }
    }

    /// Returns the events after a number, at most so many and about so many bytes.
    ///
    /// # Errors
    ///
    /// The gap between the number and what is kept.
    pub fn after(&self, number: u64, count: usize, bytes: usize) -> Result<Frames, Gap> {
        let skip = number.checked_sub(self.gone).ok_or(Gap::Gone)?;
        let skip = usize::try_from(skip).ok().filter(|skip| *skip <= self.kept.len()).ok_or(Gap::Ahead)?;
        let mut room = bytes;
        let mut frames = Frames::with_capacity(count.min(self.kept.len() - skip));
        for (event, sequence_id) in self.kept.range(skip..).zip(number + 1..).take(count) {
            if !frames.is_empty() && event.len() > room {
                break;
            }
            room = room.saturating_sub(event.len());
            frames.push(Frame { sequence_id, event: event.clone() });
        }
        Ok(frames)
    }

    /// Returns the number of the last event that a snapshot of now stands for: the final replies after it are no state.
    pub(crate) fn covered(&self) -> u64 {
        self.last() - self.kept.iter().rev().take_while(|event| event.is_reply).count() as u64
    }

    /// Returns the final replies that are kept of the events after a number up to another, at most so many, the newest.
    pub(crate) fn replies(&self, after: u64, up_to: u64, count: usize) -> Frames {
        let newest_first = self.kept.iter().enumerate().rev().map(|(at, event)| (event, self.gone + 1 + at as u64));
        let replies = newest_first.filter(|(event, number)| event.is_reply && *number > after && *number <= up_to).take(count);
        let mut frames: Frames = replies.map(|(event, sequence_id)| Frame { sequence_id, event: event.clone() }).collect();
        frames.reverse();
        frames
    }

    /// Forgets the events up to a number: the client has them.
    pub fn acknowledge(&mut self, number: u64) {
        while self.gone < number && !self.kept.is_empty() {
            self.drop_first();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    fn drop_first(&mut self) {
        if let Some(event) = self.kept.pop_front() {
            self.gone += 1;
            self.bytes -= event.len();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::text::Name;

    pub(crate) fn message(number: u64) -> Message {
        Message {
            topic: Name::parse("tel").unwrap(),
            message: Name::parse("changed").unwrap(),
            timestamp: 1,
            sequence_id: 0,
            request_id: None,
            response: None,
            pending_id: None,
            headers: serde_json::Map::new(),
            body: json!({ "number": number, "text": "\"sequence-id\":0,<&>" }),
        }
    }

    fn numbers(events: &Events, after: u64) -> Vec<u64> {
        events.after(after, usize::MAX, usize::MAX).unwrap().iter().map(|frame| frame.sequence_id).collect()
    }

    fn filled(count: u64) -> Events {
        let mut events = Events::default();
        (1..=count).for_each(|number| events.push(Event::new(&message(number))));
        events
    }

    #[test]
    fn a_frame_is_the_message_with_its_own_number_in_both_encodings() {
        let frame = Frame::new(77, Event::new(&message(5)));
        let bare = Frame::new(77, Event::new(&Message { body: Value::Null, ..message(0) }));
        for encoding in [Encoding::Json, Encoding::Xml] {
            let read = |frame: &Frame| {
                let mut out = Vec::new();
                frame.write(encoding, &mut out);
                Message::decode(encoding, &out).unwrap()
            };
            assert_eq!(read(&frame), Message { sequence_id: 77, ..message(5) });
            assert_eq!(read(&bare), Message { sequence_id: 77, body: Value::Null, ..message(0) });
        }
    }

    #[test]
    fn a_number_is_written_in_decimal() {
        for number in [0, 9, 10, 12345, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_client_reads_on_after_any_number_that_is_kept() {
        let mut events = filled(5);
        assert_eq!(numbers(&events, 0), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&events, 3), [4, 5]);
        assert_eq!(numbers(&events, 5), [0; 0]);
        assert_eq!(events.after(6, 9, 9).unwrap_err(), Gap::Ahead);
        events.acknowledge(3);
        assert_eq!(events.after(2, 9, 9).unwrap_err(), Gap::Gone);
        assert_eq!(numbers(&events, 3), [4, 5]);
        events.acknowledge(9);
        assert_eq!(events.last(), 5);
        events.push(Event::new(&message(6)));
        assert_eq!(numbers(&events, 5), [6]);
    }

    #[test]
    fn the_oldest_go_where_a_bound_is_reached() {
        let events = filled(MAX_EVENTS as u64 + 2);
        assert_eq!(events.after(1, 1, 1).unwrap_err(), Gap::Gone);
        assert_eq!(numbers(&events, 2).len(), MAX_EVENTS);
        let mut events = Events::default();
        let large = Message { body: json!("x".repeat(MAX_BYTES / 2)), ..message(0) };
        (0..3).for_each(|_| events.push(Event::new(&large)));
        assert_eq!(numbers(&events, 2), [3]);
    }

    #[test]
    fn a_batch_is_bounded_in_count_and_bytes_but_never_empty() {
        let events = filled(5);
        assert_eq!(events.after(0, 2, usize::MAX).unwrap().len(), 2);
        assert_eq!(events.after(0, 9, 0).unwrap().len(), 1);
    }
}
