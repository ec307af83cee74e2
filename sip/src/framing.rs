//! SIP messages out of a byte stream (RFC 3261 §18.3, §7.5) and the keep-alives between them (RFC 5626 §3.5.1).
//!
//! Knows where a message ends and nothing else about it: `message/parse.rs` reads what is in it. Datagrams and WebSocket
//! frames carry one message each and need no framing.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};

/// Bounds on one message of a stream. A message beyond them ends the stream, since where the next one starts is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest start line and header section, with the empty line; 64 KiB by default.
    pub header: usize,
    /// Longest body; 64 KiB by default.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header: 64 * 1024, body: 64 * 1024 }
    }
}

/// What a stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One complete message: start line, headers and the body that Content-Length announces.
    Message(Bytes),
    /// The double CRLF of a client that asks if we live; the answer is a single CRLF ([`PONG`]).
    Ping,
    /// The single CRLF that answers a ping of ours, see [`Framing::expect_pong`].
    Pong,
}

/// The question of the CRLF keep-alive.
pub const PING: &[u8] = b"\r\n\r\n";
/// The answer of the CRLF keep-alive.
pub const PONG: &[u8] = b"\r\n";

/// Why the rest of a stream cannot be split into messages. The caller may answer 400 (Bad Request) where `head` shows a
/// request, and closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct FramingError {
    /// What is wrong.
    pub fault: Fault,
    /// The start line and headers of the message at fault; empty where their end was not found.
    pub head: Bytes,
}

/// The faults that end a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The first byte can start neither a method nor `SIP/2.0`.
    #[error("what starts here is no SIP message")]
    NotSip,
    /// No empty line within [`Limits::header`] bytes.
    #[error("the header section is too long")]
    HeaderTooLong,
    /// No Content-Length, which a stream requires (§18.3).
    #[error("no Content-Length, which a stream requires")]
    NoContentLength,
    /// A Content-Length that is no number, or two that differ.
    #[error("Content-Length is no number, or is there twice with different numbers")]
    BadContentLength,
    /// A Content-Length above [`Limits::body`].
    #[error("the body is too long")]
    BodyTooLong,
}

/// Where the machine is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between messages; true after the first CRLF of a possible ping.
    Between(bool),
    /// Inside a header section, of which this many bytes are known to hold no empty line.
    Head(usize),
    /// Inside a body: the lengths of the header section and of the whole message.
    Body(usize, usize),
    /// After a fault: whatever comes is dropped.
    Failed,
}

/// Splits one byte stream into messages. Memory grows with the bytes received, never with the bytes announced.
#[derive(Debug)]
pub struct Framing {
    limits: Limits,
    buffer: BytesMut,
    state: State,
    pongs: u32,
}

impl Default for Framing {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Framing {
    /// Starts at the beginning of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, buffer: BytesMut::new(), state: State::Between(false), pongs: 0 }
    }

    /// Takes the next bytes of the stream; [`Self::poll_output`] is then drained before more are given.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        if self.state != State::Failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Says that a ping of ours is on its way, so that the next single CRLF is its answer.
    pub fn expect_pong(&mut self) {
        self.pongs = self.pongs.saturating_add(1);
    }

    /// Returns true where a message has begun and is not complete.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        match self.state {
            State::Between(_) => !self.buffer.is_empty(),
            State::Head(_) | State::Body(..) => true,
            State::Failed => false,
        }
    }

    /// Returns what the stream carries next, none until more bytes come.
    ///
    /// # Errors
    ///
    /// [`FramingError`], once; afterwards nothing comes any more.
    pub fn poll_output(&mut self) -> Option<Result<Frame, FramingError>> {
        loop {
            self.state = match self.state {
                State::Between(ping) => match self.between(ping)? {
                    Between::Start => State::Head(0),
                    Between::Crlf => State::Between(true),
                    Between::Frame(frame) => {
                        self.state = State::Between(false);
                        return Some(Ok(frame));
                    }
                    Between::Garbage => return Some(Err(self.fail(Fault::NotSip, 0))),
                },
                State::Head(scanned) => match self.head(scanned)? {
                    Ok((head, whole)) => State::Body(head, whole),
                    Err((fault, head)) => return Some(Err(self.fail(fault, head))),
                },
                State::Body(_, whole) => return self.body(whole).map(Ok),
                State::Failed => return None,
            };
        }
    }

    /// Reads CRLFs between messages.
    fn between(&mut self, ping: bool) -> Option<Between> {
        let first = *self.buffer.first()?;
        if first != b'\r' {
            return Some(if is_token(first) { Between::Start } else { Between::Garbage });
        }
        if *self.buffer.get(1)? != b'\n' {
            return Some(Between::Garbage);
        }
        drop(self.take(PONG.len()));
        Some(if self.pongs > 0 {
            self.pongs -= 1;
            Between::Frame(Frame::Pong)
        } else if ping {
            Between::Frame(Frame::Ping)
        } else {
            Between::Crlf // the first half of a ping, or the CRLF that §7.5 ignores before a start line
        })
    }

    /// Looks for the end of the header section, and returns its length and that of the whole message.
    fn head(&mut self, scanned: usize) -> Option<Result<(usize, usize), (Fault, usize)>> {
        let limit = self.limits.header.min(self.buffer.len());
        let found = self.buffer.get(scanned..limit).and_then(|rest| memmem::find(rest, PING));
        let Some(at) = found else {
            if self.buffer.len() >= self.limits.header {
                return Some(Err((Fault::HeaderTooLong, 0)));
            }
            // the last three bytes may be the beginning of the empty line
            self.state = State::Head(self.buffer.len().saturating_sub(PING.len() - 1).max(scanned));
            return None;
        };
        let head = scanned + at + PING.len();
        let section = self.buffer.get(..head).unwrap_or_default();
        Some(match content_length(section, self.limits.body) {
            Ok(body) => Ok((head, head + body)),
            Err(fault) => Err((fault, head)),
        })
    }

    /// Returns the message once its body is complete.
    fn body(&mut self, whole: usize) -> Option<Frame> {
        if self.buffer.len() < whole {
            return None;
        }
        self.state = State::Between(false);
        Some(Frame::Message(self.take(whole)))
    }

    /// Takes `length` bytes off the front; an emptied buffer gives its memory back, so that an idle stream holds none.
    fn take(&mut self, length: usize) -> Bytes {
        let taken = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        taken
    }

    fn fail(&mut self, fault: Fault, head: usize) -> FramingError {
        let head = self.take(head);
        self.state = State::Failed;
        self.buffer = BytesMut::new();
        FramingError { fault, head }
    }
}

/// What stands between two messages.
enum Between {
    Start,
    Crlf,
    Frame(Frame),
    Garbage,
}

/// Returns true for the characters of a token (§25.1), with which a method and `SIP/2.0` begin.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Reads the Content-Length of a header section that ends with its empty line.
fn content_length(section: &[u8], limit: usize) -> Result<usize, Fault> {
    let mut lines = Lines(section);
    lines.next(); // the start line
    let mut length = None;
    while let Some(line) = lines.next() {
        let Some(value) = value_of_content_length(line) else {
            continue;
        };
        let start = section.len() - lines.0.len() - value.len();
        lines.skip_continuations();
        let end = section.len() - lines.0.len();
        let number = number(section.get(start..end).unwrap_or_default(), limit)?;
        if length.is_some_and(|other| other != number) {
            return Err(Fault::BadContentLength);
        }
        length = Some(number);
    }
    length.ok_or(Fault::NoContentLength)
}

/// The lines of a header section, each with its line end.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.0).map_or(self.0.len(), |at| at + 1);
        let (line, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        (!line.is_empty()).then_some(line)
    }
}

impl Lines<'_> {
    /// Skips the lines that begin with white space: they continue the one before (§7.3.1).
    fn skip_continuations(&mut self) {
        while matches!(self.0.first(), Some(b' ' | b'\t')) {
            self.next();
        }
    }
}

/// Returns what follows the colon where the line is a Content-Length, in any case, long or compact (§7.3.3).
fn value_of_content_length(line: &[u8]) -> Option<&[u8]> {
    if !matches!(line.first(), Some(b'c' | b'C' | b'l' | b'L')) {
        return None;
    }
    let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
    let name = name.trim_ascii_end();
    let known = name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l");
    known.then(|| value.get(1..)).flatten()
}

/// Reads `1*DIGIT` between white space, unsigned and capped before anything is done with it.
fn number(value: &[u8], limit: usize) -> Result<usize, Fault> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::BadContentLength);
    }
    let number = digits.iter().fold(0_u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')));
    usize::try_from(number).ok().filter(|n| *n <= limit).ok_or(Fault::BodyTooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &str, body: &str) -> String {
        format!("OPTIONS sip:a@b SIP/2.0\r\n{headers}\r\n\r\n{body}")
    }

    fn all(framing: &mut Framing) -> Vec<Result<Frame, FramingError>> {
        std::iter::from_fn(|| framing.poll_output()).collect()
    }

    fn split(input: &str) -> Vec<Result<Frame, FramingError>> {
        let mut framing = Framing::default();
        framing.handle_input(input.as_bytes());
        all(&mut framing)
    }

    fn fault(input: &str) -> Fault {
        split(input).pop().unwrap().unwrap_err().fault
    }

    fn frame(text: &str) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn two_messages_and_the_crlf_between_them_are_split() {
        let (a, b) = (message("Content-Length: 4", "abcd"), message("Content-Length: 0", ""));
        assert_eq!(split(&format!("{a}\r\n{b}")), [Ok(frame(&a)), Ok(frame(&b))]);
    }

    #[test]
    fn every_spelling_of_content_length_is_read() {
        for header in [
            "Content-Length: 4",
            "content-LENGTH:4",
            "Content-Length  \t: 4 \t",
            "l:4",
            "L : 0004",
            "Content-Length:\r\n 4",
            "Content-Length: \r\n\t4\r\nSubject: l: 9",
            "Subject: x\r\n Content-Length: 9\r\nl: 4",
            "Content-Length: 4\r\nl: 4",
            "Call-ID: c\r\nContent-Language: de\r\nContent-Length: 4\r\nLl: 7",
        ] {
            let text = message(header, "abcd");
            assert_eq!(split(&text), [Ok(frame(&text))], "{header}");
        }
    }

    #[test]
    fn a_bad_content_length_ends_the_stream() {
        // S9
        for value in ["-1", "+4", "4x", "", "4 4", "4, 4", "0x10", "\u{0664}"] {
            assert_eq!(fault(&message(&format!("Content-Length: {value}"), "abcd")), Fault::BadContentLength, "{value:?}");
        }
        assert_eq!(fault(&message("Content-Length: 4\r\nl: 5", "abcde")), Fault::BadContentLength);
        assert_eq!(fault(&message("Subject: x", "")), Fault::NoContentLength);
        for value in ["65537", "4294967296", "18446744073709551616", &"9".repeat(400)] {
            assert_eq!(fault(&message(&format!("Content-Length: {value}"), "")), Fault::BodyTooLong, "{value}");
        }
    }

    #[test]
    fn a_fault_shows_the_head_and_silences_the_rest() {
        let mut framing = Framing::default();
        let text = message("Content-Length: x", "");
        framing.handle_input(text.as_bytes());
        assert_eq!(framing.poll_output().unwrap().unwrap_err().head, text.as_bytes());
        framing.handle_input(message("Content-Length: 0", "").as_bytes());
        assert_eq!(framing.poll_output(), None);
        assert!(!framing.is_partial());
    }

    #[test]
    fn memory_follows_what_was_received_not_what_was_announced() {
        // S9
        let mut framing = Framing::default();
        framing.handle_input(message("Content-Length: 65536", "abc").as_bytes());
        assert_eq!(framing.poll_output(), None);
        assert!(framing.is_partial());
        assert!(framing.buffer.capacity() < 256, "{}", framing.buffer.capacity());
    }

    #[test]
    fn an_idle_stream_holds_no_memory() {
        let mut framing = Framing::default();
        for byte in message("Content-Length: 0", "").bytes() {
            assert_eq!(framing.poll_output(), None);
            framing.handle_input(&[byte]);
        }
        assert_eq!(all(&mut framing).len(), 1);
        assert_eq!(framing.buffer.capacity(), 0);
        assert!(!framing.is_partial());
    }

    #[test]
    fn an_endless_header_section_ends_the_stream_at_the_limit() {
        // S11
        let mut framing = Framing::new(Limits { header: 1000, body: 0 });
        framing.handle_input(b"OPTIONS ");
        for sent in (8..).step_by(10) {
            match framing.poll_output() {
                None => assert!(sent < 1000, "{sent}"),
                Some(end) => {
                    assert_eq!(end.unwrap_err().fault, Fault::HeaderTooLong);
                    return assert!(sent >= 1000, "{sent}");
                }
            }
            framing.handle_input(b"A: b\r\nC: d");
        }
    }

    #[test]
    fn a_header_section_that_ends_at_the_limit_is_taken() {
        let text = message("Content-Length: 0", "");
        for (header, good) in [(text.len(), true), (text.len() - 1, false)] {
            let mut framing = Framing::new(Limits { header, body: 0 });
            framing.handle_input(text.as_bytes());
            assert_eq!(framing.poll_output().unwrap().is_ok(), good, "{header}");
        }
    }

    #[test]
    fn what_is_no_sip_ends_the_stream_at_its_first_byte() {
        for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"\0", b" OPTIONS", b"\r\r\n", b"\n\n", b"\xff"] {
            let mut framing = Framing::default();
            framing.handle_input(bytes);
            assert_eq!(framing.poll_output().unwrap().unwrap_err().fault, Fault::NotSip, "{bytes:?}");
        }
    }

    #[test]
    fn a_double_crlf_is_a_ping_and_a_single_one_answers_ours() {
        assert_eq!(split("\r\n\r\n\r\n\r\n\r\n"), [Ok(Frame::Ping), Ok(Frame::Ping)]);
        let mut framing = Framing::default();
        framing.expect_pong();
        framing.handle_input(b"\r\n\r\n\r\n");
        assert_eq!(all(&mut framing), [Ok(Frame::Pong), Ok(Frame::Ping)]);
    }

    #[test]
    fn a_single_crlf_before_a_message_does_not_halve_a_later_ping() {
        let text = message("Content-Length: 0", "");
        assert_eq!(split(&format!("\r\n{text}\r\n")), [Ok(frame(&text))]);
    }

    #[test]
    fn any_cuts_give_the_same_messages() {
        let parts = [
            message("Content-Length: 0", ""),
            "\r\n\r\n".into(),
            message("l: 12\r\nSubject: a\r\n b", "a\r\n\r\nb\r\n\r\nzz"),
            "\r\n".into(),
            message("Content-Length : 5", "\r\n\r\n\r"),
            "\r\n\r\n\r\n\r\n".into(),
            message("Content-Length:\r\n\t3", "abc"),
        ];
        let stream = parts.concat();
        let whole = split(&stream);
        assert_eq!(whole.len(), 7);
        let mut seed = 0x9e37_79b9_u64;
        for round in 0..2000 {
            let mut framing = Framing::default();
            let mut frames = Vec::new();
            let mut rest = stream.as_bytes();
            while !rest.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let longest = if round % 2 == 0 { 4 } else { 90 };
                let cut = (1 + (seed >> 33) as usize % longest).min(rest.len());
                framing.handle_input(&rest[..cut]);
                frames.extend(all(&mut framing));
                rest = &rest[cut..];
            }
            assert_eq!(frames, whole, "round {round}");
        }
    }

    #[test]
    fn any_bytes_leave_the_machine_standing() {
        // S8
        let alphabet = [b'\r', b'\n', b':', b' ', b'l', b'1', b'0', b'A', b'\t', 0, 0xff];
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let mut framing = Framing::new(Limits { header: 40, body: 12 });
            for _ in 0..60 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                framing.handle_input(&[alphabet[(seed >> 33) as usize % alphabet.len()]]);
                while let Some(output) = framing.poll_output() {
                    if let Ok(Frame::Message(bytes)) = output {
                        assert!(bytes.len() <= 52);
                    }
                }
                assert!(framing.buffer.len() <= 52);
            }
        }
    }
}
