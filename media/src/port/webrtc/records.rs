//! What of a datagram reaches the DTLS library (RFC 6347 §4.1, §4.2). Before there are keys anyone who forges the peer's address can
//! send records, and the library keeps every fragment, joins them by recursion, lets an unprotected alert end the handshake, and
//! stops retransmitting when it hears a repeat. So handshake messages are put together here, within bounds, and handed over whole,
//! in order and once; repeats are reported instead; unprotected alerts and data are dropped. It knows no cryptography.

use std::{collections::VecDeque, ops::Range};

const HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;
/// Octets of a handshake message that is put together; longer ones are dropped. Certificates of browsers have 300 to 2,000.
pub(super) const MAX_MESSAGE: usize = 16 * 1024;
/// Messages that are put together ahead of the one that is due: a flight has 5. Those further ahead are dropped.
const WINDOW: u16 = 8;
/// Pieces of one message with gaps between them. More are dropped until gaps close.
const MAX_PIECES: usize = 32;
/// Protected records that wait for keys; the newest are kept.
const MAX_HELD: usize = 4;
/// Octets of such a record; longer ones are dropped. Finished has 53.
const MAX_HELD_RECORD: usize = 256;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// Types of handshake messages (RFC 5246 §7.4).
pub(super) mod kind {
    pub(in super::super) const CLIENT_HELLO: u8 = 1;
    pub(in super::super) const SERVER_HELLO: u8 = 2;
    pub(in super::super) const HELLO_VERIFY_REQUEST: u8 = 3;
    pub(in super::super) const CERTIFICATE: u8 = 11;
    pub(in super::super) const CERTIFICATE_VERIFY: u8 = 15;
    pub(in super::super) const CLIENT_KEY_EXCHANGE: u8 = 16;
}

/// The handshake message that an outgoing datagram begins with.
pub(super) fn first_message(datagram: &[u8]) -> Option<u8> {
    let record = Record::split(datagram)?.0;
    if record.kind == HANDSHAKE && record.epoch == 0 { record.body.first().copied() } else { None }
}

#[derive(Clone, Copy)]
struct Record<'a> {
    kind: u8,
    epoch: u16,
    whole: &'a [u8],
    body: &'a [u8],
}

impl<'a> Record<'a> {
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [kind, major, minor, e0, e1, .., l0, l1] = *bytes.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (whole, rest) = bytes.split_at_checked(HEADER + length)?;
        // DTLS 1.0 to 1.2.
        if major != 0xFE || !matches!(minor, 0xFF | 0xFD) || length == 0 {
            return None;
        }
        Some((Self { kind, epoch: u16::from_be_bytes([e0, e1]), whole, body: whole.get(HEADER..)? }, rest))
    }
}

/// One fragment of a handshake message (RFC 6347 §4.2.2).
struct Fragment<'a> {
    kind: u8,
    length: usize,
    sequence: u16,
    range: Range<usize>,
    data: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [kind, n0, n1, n2, s0, s1, o0, o1, o2, f0, f1, f2] = *bytes.first_chunk::<MESSAGE_HEADER>()?;
        let number = |a: u8, b: u8, c: u8| usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let (length, start, size) = (number(n0, n1, n2), number(o0, o1, o2), number(f0, f1, f2));
        let (data, rest) = bytes.get(MESSAGE_HEADER..)?.split_at_checked(size)?;
        let range = start..start + size;
        let good = range.end <= length && length <= MAX_MESSAGE;
        good.then_some((Self { kind, length, sequence: u16::from_be_bytes([s0, s1]), range, data }, rest))
    }
}

/// A message that is being put together.
#[derive(Debug, Default)]
struct Partial {
    kind: u8,
    length: usize,
    /// Grows with what came, not with what was promised.
    octets: Vec<u8>,
    /// What is there: in order, apart from each other. None before the first fragment.
    pieces: Option<Vec<Range<usize>>>,
}

impl Partial {
    fn add(&mut self, fragment: &Fragment<'_>) {
        let pieces = self.pieces.get_or_insert_with(|| {
            (self.kind, self.length) = (fragment.kind, fragment.length);
            Vec::new()
        });
        if (self.kind, self.length) != (fragment.kind, fragment.length) {
            return;
        }
        let mut range = fragment.range.clone();
        let apart = |piece: &Range<usize>| piece.end < range.start || range.end < piece.start;
        if pieces.len() >= MAX_PIECES && pieces.iter().all(apart) {
            return;
        }
        if self.octets.len() < range.end {
            self.octets.resize(range.end, 0);
        }
        if let Some(place) = self.octets.get_mut(range.clone()) {
            place.copy_from_slice(fragment.data);
        }
        pieces.retain(|piece| {
            let joins = piece.start <= range.end && range.start <= piece.end;
            if joins {
                range = piece.start.min(range.start)..piece.end.max(range.end);
            }
            !joins
        });
        let place = pieces.partition_point(|piece| piece.start < range.start);
        pieces.insert(place, range);
    }

    fn is_whole(&self) -> bool {
        matches!(self.pieces.as_deref(), Some([only]) if *only == (0..self.length))
    }
}

/// What came with a datagram besides what is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The last handshake message that was handed over.
    pub(super) delivered: Option<u8>,
    /// The first handshake message that had been handed over before: the peer has not got our answer.
    pub(super) repeated: Option<u8>,
}

/// The way in for one association.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// The sequence number of the message that is due.
    due: u16,
    /// The messages from `due` on.
    partials: VecDeque<Partial>,
    /// Numbers the unprotected records that are handed over: those of the wire cannot be trusted, and one becomes several.
    sequence: u64,
    /// Whether protected records can be read now.
    open: bool,
    held: VecDeque<Box<[u8]>>,
    /// Whether the handshake is complete and the peer has our last flight for certain.
    deaf: bool,
    /// The last unprotected alert: only for the diagnosis.
    pub(super) alert: Option<u8>,
}

impl Intake {
    /// Takes a datagram; `out` gets records for the library, in order.
    pub(super) fn take(&mut self, datagram: &[u8], out: &mut Vec<u8>) -> Seen {
        let mut seen = Seen::default();
        let mut rest = datagram;
        while let Some((record, next)) = Record::split(rest) {
            rest = next;
            match (record.epoch, record.kind) {
                (0, HANDSHAKE) if !self.deaf => self.fragments(record.body, out, &mut seen),
                (0, CHANGE_CIPHER_SPEC) if record.body == [1] => self.protected(&record, out),
                (0, ALERT) => self.alert = record.body.get(1).copied().or(self.alert),
                (_, HANDSHAKE) if self.deaf => {}
                (1, CHANGE_CIPHER_SPEC..=23) => self.protected(&record, out),
                _ => {}
            }
        }
        seen
    }

    /// For a new handshake. The alert is remembered.
    pub(super) fn begin_again(&mut self) {
        *self = Self { alert: self.alert, ..Self::default() };
    }

    /// Protected records can be read from now on. Gives those that waited.
    pub(super) fn open(&mut self, out: &mut Vec<u8>) {
        self.open = true;
        for record in std::mem::take(&mut self.held) {
            if let Some((record, _)) = Record::split(&record) {
                self.protected(&record, out);
            }
        }
    }

    /// The handshake is complete. A server still hears the client repeat its Finished, because it may have to repeat its own; a
    /// client that answered repeats would only keep both repeating.
    pub(super) fn complete(&mut self, hears_repeats: bool) {
        self.deaf = !hears_repeats;
        (self.partials, self.held) = (VecDeque::new(), VecDeque::new());
    }

    fn protected(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        match (self.open, record.epoch) {
            (true, 0) => self.hand_over(record.kind, record.body, out),
            (true, _) => out.extend_from_slice(record.whole),
            (false, _) if record.whole.len() <= MAX_HELD_RECORD => {
                if self.held.len() >= MAX_HELD {
                    self.held.pop_front();
                }
                self.held.push_back(record.whole.into());
            }
            (false, _) => {}
        }
    }

    fn fragments(&mut self, mut rest: &[u8], out: &mut Vec<u8>, seen: &mut Seen) {
        while let Some((fragment, next)) = Fragment::split(rest) {
            rest = next;
            let Some(ahead) = fragment.sequence.checked_sub(self.due) else {
                seen.repeated.get_or_insert(fragment.kind);
                continue;
            };
            if ahead >= WINDOW {
                continue;
            }
            let ahead = usize::from(ahead);
            if self.partials.len() <= ahead {
                self.partials.resize_with(ahead + 1, Partial::default);
            }
            if let Some(partial) = self.partials.get_mut(ahead) {
                partial.add(&fragment);
            }
        }
        while self.partials.front().is_some_and(Partial::is_whole) {
            let Some(partial) = self.partials.pop_front() else { return };
            let size = (partial.length as u32).to_be_bytes();
            let mut message = Vec::with_capacity(MESSAGE_HEADER + partial.length);
            message.push(partial.kind);
            message.extend_from_slice(size.get(1..).unwrap_or_default());
            message.extend_from_slice(&self.due.to_be_bytes());
            message.extend_from_slice(&[0; 3]);
            message.extend_from_slice(size.get(1..).unwrap_or_default());
            message.extend_from_slice(&partial.octets);
            self.hand_over(HANDSHAKE, &message, out);
            self.due = self.due.saturating_add(1);
            seen.delivered = Some(partial.kind);
        }
    }

    fn hand_over(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[kind, 0xFE, 0xFD]);
        // Epoch 0 and 48 bits of sequence number.
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        out.extend_from_slice(body);
        self.sequence += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&[kind, 0xFE, 0xFD, 0, epoch, 9, 9, 9, 9, 9, 9, length[0], length[1]], body].concat()
    }

    /// A fragment of a message whose octets count up from 0.
    fn fragment(kind: u8, sequence: u8, length: u16, range: Range<usize>) -> Vec<u8> {
        let number = |value: usize| [0, (value >> 8) as u8, value as u8];
        let data = range.clone().map(|octet| octet as u8).collect::<Vec<_>>();
        [&[kind], &number(length.into())[..], &[0, sequence], &number(range.start), &number(range.len()), &data].concat()
    }

    /// What is handed over for these datagrams: sequence number and octets of each message.
    fn taken(intake: &mut Intake, datagrams: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
        let mut out = Vec::new();
        for datagram in datagrams {
            intake.take(datagram, &mut out);
        }
        let mut rest = &out[..];
        let mut messages = Vec::new();
        while let Some((record, next)) = Record::split(rest) {
            rest = next;
            let (fragment, more) = Fragment::split(record.body).expect("a message");
            assert!(fragment.range == (0..fragment.length) && more.is_empty());
            messages.push((fragment.sequence as u8, fragment.data.to_vec()));
        }
        assert!(rest.is_empty());
        messages
    }

    fn octets(length: u8) -> Vec<u8> {
        (0..length).collect()
    }

    #[test]
    fn messages_are_put_together_in_order_and_handed_over_once() {
        let mut intake = Intake::default();
        let second = record(22, 0, &fragment(11, 1, 40, 0..40));
        let tail = record(22, 0, &fragment(1, 0, 90, 50..90));
        let overlap = record(22, 0, &fragment(1, 0, 90, 10..60));
        let head = record(22, 0, &fragment(1, 0, 90, 0..20));
        assert!(taken(&mut intake, &[second.clone(), tail, overlap]).is_empty());
        assert_eq!(taken(&mut intake, std::slice::from_ref(&head)), [(0, octets(90)), (1, octets(40))]);
        assert!(taken(&mut intake, &[head.clone(), second]).is_empty());
        let mut out = Vec::new();
        assert_eq!(intake.take(&head, &mut out), Seen { delivered: None, repeated: Some(1) });
    }

    #[test]
    fn several_fragments_in_one_record_are_told_apart() {
        let mut intake = Intake::default();
        let head = record(22, 0, &fragment(11, 0, 30, 0..20));
        let rest = record(22, 0, &[fragment(11, 0, 30, 20..30), fragment(14, 1, 0, 0..0), fragment(20, 2, 5, 0..5)].concat());
        assert_eq!(taken(&mut intake, &[[head, rest].concat()]), [(0, octets(30)), (1, vec![]), (2, octets(5))]);
    }

    #[test]
    fn fragments_that_never_end_take_bounded_memory() {
        // S1: a million forged fragments without data, and of messages that are promised to be long.
        let mut intake = Intake::default();
        for round in 0..2000_usize {
            for sequence in 0..=u8::MAX {
                let start = round * 7 % 16_000;
                let range = start..start + usize::from(sequence % 2);
                assert!(taken(&mut intake, &[record(22, 0, &fragment(1, sequence, 16_383, range))]).is_empty());
            }
        }
        assert!(intake.partials.len() <= usize::from(WINDOW));
        assert!(intake.partials.iter().all(|partial| partial.octets.len() <= MAX_MESSAGE));
        assert!(intake.partials.iter().all(|partial| partial.pieces.as_ref().is_none_or(|pieces| pieces.len() <= MAX_PIECES)));
        let long = record(22, 0, &fragment(1, 0, 0xFFFF, 0..9));
        assert!(taken(&mut Intake::default(), &[long]).is_empty());
    }

    #[test]
    fn a_fragment_that_contradicts_the_first_is_dropped() {
        let mut intake = Intake::default();
        let other_length = record(22, 0, &fragment(1, 0, 30, 10..20));
        let other_kind = record(22, 0, &fragment(2, 0, 20, 10..20));
        let good = [record(22, 0, &fragment(1, 0, 20, 0..10)), other_length, other_kind];
        assert!(taken(&mut intake, &good).is_empty());
        assert_eq!(taken(&mut intake, &[record(22, 0, &fragment(1, 0, 20, 10..20))]), [(0, octets(20))]);
    }

    #[test]
    fn protected_records_wait_for_keys_and_the_newest_few_are_kept() {
        let mut intake = Intake::default();
        let mut out = Vec::new();
        for number in 0..10 {
            intake.take(&record(22, 1, &[number; 40]), &mut out);
        }
        intake.take(&record(22, 1, &[0; 1000]), &mut out);
        assert!(out.is_empty());
        intake.open(&mut out);
        assert_eq!(out, (6..10).flat_map(|number| record(22, 1, &[number; 40])).collect::<Vec<_>>());
        out.clear();
        intake.take(&record(21, 1, &[5; 30]), &mut out);
        assert_eq!(out, record(21, 1, &[5; 30]));
    }

    #[test]
    fn unprotected_alerts_and_data_are_not_handed_over() {
        // S1
        let mut intake = Intake::default();
        let mut out = Vec::new();
        intake.open(&mut out);
        for (kind, body) in [(21, &[2, 40][..]), (23, b"data"), (20, &[2]), (24, b"heartbeat")] {
            intake.take(&record(kind, 0, body), &mut out);
            intake.take(&record(kind, 2, body), &mut out);
        }
        assert!(out.is_empty() && intake.alert == Some(40));
        intake.take(&record(20, 0, &[1]), &mut out);
        assert_eq!(out.len(), 14);
    }
}
