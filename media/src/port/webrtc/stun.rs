//! STUN as far as an ICE-lite agent needs it (RFC 8489; attributes of RFC 8445 §16.1): reads Binding messages, checks and writes
//! MESSAGE-INTEGRITY and FINGERPRINT, writes responses. Pure functions over borrowed octets: nothing is allocated and nothing
//! remembered. It knows no candidate pair and no credentials besides the key it is given.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const INTEGRITY: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// Unknown attributes that an error response names; a request with more is refused for these.
const MAX_UNKNOWN: usize = 4;
/// Octets of the longest response: success with an IPv6 address. An error that names four unknown attributes has 72.
pub const MAX_RESPONSE: usize = 76;

mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(super) const ICE_CONTROLLING: u16 = 0x802A;
}

/// What is wrong with a message. Such messages are dropped: RFC 8489 §6.3 answers only what can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a STUN header, or a length that is not the datagram's.
    #[error("not a STUN message")]
    Header,
    /// An attribute is longer than the message, or has the wrong length.
    #[error("a malformed attribute")]
    Attribute,
    /// FINGERPRINT is wrong or not the last attribute.
    #[error("a wrong FINGERPRINT")]
    Fingerprint,
    /// Not the Binding method.
    #[error("a method other than Binding")]
    Method,
}

/// The class of a message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It wants a response.
    Request,
    /// It wants none.
    Indication,
    /// A success response.
    Success,
    /// An error response.
    Error,
}

impl Class {
    fn of(kind: u16) -> Result<Self, Fault> {
        match kind {
            0x0001 => Ok(Self::Request),
            0x0011 => Ok(Self::Indication),
            0x0101 => Ok(Self::Success),
            0x0111 => Ok(Self::Error),
            _ => Err(Fault::Method),
        }
    }

    fn binding(self) -> u16 {
        match self {
            Self::Request => 0x0001,
            Self::Indication => 0x0011,
            Self::Success => 0x0101,
            Self::Error => 0x0111,
        }
    }
}

/// The role that the sender of a check takes (RFC 8445 §7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// ICE-CONTROLLING.
    Controlling,
    /// ICE-CONTROLLED.
    Controlled,
}

/// Names what is meant of the same message in a response.
pub type TransactionId = [u8; 12];

/// One Binding message, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Request, indication or response.
    pub class: Class,
    /// USERNAME.
    pub username: Option<&'a [u8]>,
    /// PRIORITY.
    pub priority: Option<u32>,
    /// USE-CANDIDATE.
    pub use_candidate: bool,
    /// ICE-CONTROLLING or ICE-CONTROLLED.
    pub control: Option<Control>,
    /// Where MESSAGE-INTEGRITY begins.
    integrity: Option<usize>,
    unknown: [u16; MAX_UNKNOWN],
    unknown_count: usize,
}

impl<'a> Message<'a> {
    /// Reads one datagram. Attributes behind MESSAGE-INTEGRITY are not believed (RFC 8489 §14.5), of two of a kind the first counts.
    ///
    /// # Errors
    /// The [`Fault`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let class = header(bytes)?;
        let empty = [0; MAX_UNKNOWN];
        let mut message = Self {
            bytes,
            class,
            username: None,
            priority: None,
            use_candidate: false,
            control: None,
            integrity: None,
            unknown: empty,
            unknown_count: 0,
        };
        for attribute in Attributes::of(bytes) {
            let (offset, kind, value) = attribute?;
            match kind {
                attribute::FINGERPRINT => message.check_fingerprint(offset, value)?,
                _ if message.integrity.is_some() => {}
                attribute::MESSAGE_INTEGRITY if value.len() == INTEGRITY => message.integrity = Some(offset),
                attribute::MESSAGE_INTEGRITY => return Err(Fault::Attribute),
                _ => message.take(kind, value)?,
            }
        }
        Ok(message)
    }

    fn take(&mut self, kind: u16, value: &'a [u8]) -> Result<(), Fault> {
        match kind {
            attribute::USERNAME => _ = self.username.get_or_insert(value),
            attribute::PRIORITY => {
                let value = <[u8; 4]>::try_from(value).map_err(|_| Fault::Attribute)?;
                self.priority.get_or_insert(u32::from_be_bytes(value));
            }
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLING => _ = self.control.get_or_insert(Control::Controlling),
            attribute::ICE_CONTROLLED => _ = self.control.get_or_insert(Control::Controlled),
            // The stronger integrity is for agents that negotiated it; ICE has not (RFC 8445 §7.1).
            attribute::MESSAGE_INTEGRITY_SHA256 | attribute::XOR_MAPPED_ADDRESS | attribute::ERROR_CODE | 0x8000.. => {}
            unknown => {
                if let Some(free) = self.unknown.get_mut(self.unknown_count) {
                    *free = unknown;
                    self.unknown_count += 1;
                }
            }
        }
        Ok(())
    }

    fn check_fingerprint(&self, offset: usize, value: &[u8]) -> Result<(), Fault> {
        let last = offset + 8 == self.bytes.len();
        let covered = self.bytes.get(..offset).ok_or(Fault::Fingerprint)?;
        let expected = (crc32fast::hash(covered) ^ FINGERPRINT_XOR).to_be_bytes();
        if last && value == expected { Ok(()) } else { Err(Fault::Fingerprint) }
    }

    /// The transaction id, which the response repeats.
    #[must_use]
    pub fn transaction_id(&self) -> TransactionId {
        self.bytes.get(8..HEADER).and_then(|id| id.try_into().ok()).unwrap_or_default()
    }

    /// Whether it carries MESSAGE-INTEGRITY.
    #[must_use]
    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether MESSAGE-INTEGRITY was made with this key, in constant time.
    #[must_use]
    pub fn verify(&self, key: &[u8]) -> bool {
        let Some(offset) = self.integrity else { return false };
        let Some(value) = self.bytes.get(offset + 4..offset + 4 + INTEGRITY) else { return false };
        integrity(self.bytes, offset, key).is_some_and(|mac| mac.verify_slice(value).is_ok())
    }

    /// Attributes that must be understood and are not: the first few of them.
    #[must_use]
    pub fn unknown(&self) -> &[u16] {
        self.unknown.get(..self.unknown_count).unwrap_or_default()
    }
}

/// Whether a datagram is STUN by its first octet (RFC 7983 §7).
#[must_use]
pub fn is_stun(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0..=3))
}

/// The USERNAME of a Binding request, found without any cryptography. It says whom the request is for, not that it is true.
#[must_use]
pub fn username(bytes: &[u8]) -> Option<&[u8]> {
    if header(bytes).ok()? != Class::Request {
        return None;
    }
    Attributes::of(bytes).map_while(Result::ok).find(|(_, kind, _)| *kind == attribute::USERNAME).map(|(_, _, value)| value)
}

fn header(bytes: &[u8]) -> Result<Class, Fault> {
    let head = bytes.first_chunk::<HEADER>().ok_or(Fault::Header)?;
    let [kind_high, kind_low, length_high, length_low, c0, c1, c2, c3, ..] = *head;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let whole = length.is_multiple_of(4) && HEADER + length == bytes.len();
    if kind_high & 0xC0 != 0 || [c0, c1, c2, c3] != MAGIC_COOKIE || !whole {
        return Err(Fault::Header);
    }
    Class::of(u16::from_be_bytes([kind_high, kind_low]))
}

/// The HMAC over all that is before MESSAGE-INTEGRITY, with a header that ends the message behind it (RFC 8489 §14.5).
fn integrity(bytes: &[u8], offset: usize, key: &[u8]) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
    let length = u16::try_from(offset + 4 + INTEGRITY - HEADER).ok()?;
    mac.update(bytes.get(..2)?);
    mac.update(&length.to_be_bytes());
    mac.update(bytes.get(4..offset)?);
    Some(mac)
}

struct Attributes<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: HEADER }
    }

    fn read(&self) -> Option<(u16, usize, &'a [u8])> {
        let rest = self.bytes.get(self.offset..)?;
        let [k0, k1, l0, l1] = *rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = rest.get(4..4 + length)?;
        let next = self.offset + 4 + length.next_multiple_of(4);
        (next <= self.bytes.len()).then_some((u16::from_be_bytes([k0, k1]), next, value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(usize, u16, &'a [u8]), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let Some((kind, next, value)) = self.read() else {
            self.offset = self.bytes.len();
            return Some(Err(Fault::Attribute));
        };
        let offset = std::mem::replace(&mut self.offset, next);
        Some(Ok((offset, kind, value)))
    }
}

/// Writes one message into a buffer. What does not fit makes [`finish`](Self::finish) give None.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
    fits: bool,
}

impl<'a> Writer<'a> {
    /// A Binding message of this class, without attributes.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], class: Class, transaction: &TransactionId) -> Self {
        let mut writer = Self { buffer, length: 0, fits: true };
        writer.put(&class.binding().to_be_bytes());
        writer.put(&[0, 0]);
        writer.put(&MAGIC_COOKIE);
        writer.put(transaction);
        writer
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.length..self.length + bytes.len()) {
            Some(free) => {
                free.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.fits = false,
        }
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(&kind.to_be_bytes());
        self.put(&(value.len() as u16).to_be_bytes());
        self.put(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.put([0; 3].get(..padding).unwrap_or_default());
        let length = (self.length.saturating_sub(HEADER) as u16).to_be_bytes();
        if let Some(field) = self.buffer.get_mut(2..4) {
            field.copy_from_slice(&length);
        }
        self
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 §14.2). An IPv4 address inside IPv6 is written as IPv4.
    #[must_use]
    pub fn xor_mapped_address(self, address: SocketAddr) -> Self {
        let port = (address.port() ^ 0x2112).to_be_bytes();
        let mut value = [0, 0, port[0], port[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let key = self.buffer.get(4..HEADER).and_then(|key| <[u8; 16]>::try_from(key).ok()).unwrap_or_default();
        let mut octets = [0; 16];
        let (family, size) = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                octets[..4].copy_from_slice(&ip.octets());
                (1, 4)
            }
            IpAddr::V6(ip) => {
                octets = ip.octets();
                (2, 16)
            }
        };
        value[1] = family;
        for (to, (octet, key)) in value.iter_mut().skip(4).zip(octets.iter().zip(key)) {
            *to = octet ^ key;
        }
        self.attribute(attribute::XOR_MAPPED_ADDRESS, value.get(..4 + size).unwrap_or_default())
    }

    /// ERROR-CODE with an empty reason phrase (RFC 8489 §14.8), so that the answer is never longer than the question.
    #[must_use]
    pub fn error_code(self, code: u16) -> Self {
        self.attribute(attribute::ERROR_CODE, &[0, 0, (code / 100) as u8, (code % 100) as u8])
    }

    /// UNKNOWN-ATTRIBUTES (RFC 8489 §14.9).
    #[must_use]
    pub fn unknown_attributes(self, unknown: &[u16]) -> Self {
        let mut value = [0; MAX_UNKNOWN * 2];
        for (to, kind) in value.chunks_exact_mut(2).zip(unknown) {
            to.copy_from_slice(&kind.to_be_bytes());
        }
        let size = unknown.len().min(MAX_UNKNOWN) * 2;
        self.attribute(attribute::UNKNOWN_ATTRIBUTES, value.get(..size).unwrap_or_default())
    }

    /// USERNAME.
    #[must_use]
    pub fn username(self, username: &[u8]) -> Self {
        self.attribute(attribute::USERNAME, username)
    }

    /// PRIORITY.
    #[must_use]
    pub fn priority(self, priority: u32) -> Self {
        self.attribute(attribute::PRIORITY, &priority.to_be_bytes())
    }

    /// USE-CANDIDATE.
    #[must_use]
    pub fn use_candidate(self) -> Self {
        self.attribute(attribute::USE_CANDIDATE, &[])
    }

    /// ICE-CONTROLLING or ICE-CONTROLLED.
    #[must_use]
    pub fn control(self, control: Control, tie_breaker: u64) -> Self {
        let kind = match control {
            Control::Controlling => attribute::ICE_CONTROLLING,
            Control::Controlled => attribute::ICE_CONTROLLED,
        };
        self.attribute(kind, &tie_breaker.to_be_bytes())
    }

    /// MESSAGE-INTEGRITY over all that was written.
    #[must_use]
    pub fn integrity(self, key: &[u8]) -> Self {
        let written = self.buffer.get(..self.length).unwrap_or_default();
        let mac = integrity(written, self.length, key).map(|mac| <[u8; INTEGRITY]>::from(mac.finalize().into_bytes()));
        match mac {
            Some(mac) => self.attribute(attribute::MESSAGE_INTEGRITY, &mac),
            None => Self { fits: false, ..self },
        }
    }

    /// Adds FINGERPRINT and gives the length of the message; None when the buffer is too small.
    #[must_use]
    pub fn finish(self) -> Option<usize> {
        let (covered, fits) = (self.length, self.fits);
        let done = self.attribute(attribute::FINGERPRINT, &[0; 4]);
        let (head, tail) = done.buffer.split_at_mut_checked(covered)?;
        let crc = (crc32fast::hash(head) ^ FINGERPRINT_XOR).to_be_bytes();
        tail.get_mut(4..8)?.copy_from_slice(&crc);
        (fits && done.fits).then_some(done.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 §2.1: a request with a SOFTWARE attribute and a padded USERNAME.
    const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    const SAMPLE_KEY: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn the_sample_request_of_rfc_5769_is_read() {
        let message = Message::parse(SAMPLE_REQUEST).expect("a message");
        assert_eq!((message.class, message.username, message.priority), (Class::Request, Some(&b"evtj:h6vY"[..]), Some(0x6e00_01ff)));
        assert_eq!((message.control, message.use_candidate, message.unknown()), (Some(Control::Controlled), false, &[][..]));
        assert!(message.verify(SAMPLE_KEY) && !message.verify(b"VOkJxbRl1RmTxUk/WvJxBs"));
        assert_eq!(username(SAMPLE_REQUEST), Some(&b"evtj:h6vY"[..]));
    }

    #[test]
    fn the_sample_addresses_of_rfc_5769_are_written() {
        let transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let write = |address: &str| {
            let mut buffer = [0; 44];
            let writer = Writer::new(&mut buffer, Class::Success, &transaction).xor_mapped_address(address.parse().expect("an address"));
            let length = writer.length;
            buffer[HEADER + 4..length].to_vec()
        };
        assert_eq!(write("192.0.2.1:32853"), b"\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        assert_eq!(write("[::ffff:192.0.2.1]:32853"), b"\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        let expected = b"\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        assert_eq!(write("[2001:db8:1234:5678:11:2233:4455:6677]:32853"), expected);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut buffer = [0; 200];
        let writer = Writer::new(&mut buffer, Class::Request, &[7; 12]).username(b"abcd:efgh").priority(5).use_candidate();
        let length = writer.control(Control::Controlling, 9).integrity(b"key").finish().expect("it fits");
        let message = Message::parse(&buffer[..length]).expect("a message");
        assert_eq!((message.transaction_id(), message.username, message.priority), ([7; 12], Some(&b"abcd:efgh"[..]), Some(5)));
        assert!(message.use_candidate && message.control == Some(Control::Controlling) && message.verify(b"key"));
    }

    #[test]
    fn the_longest_response_fits_and_a_small_buffer_is_noticed() {
        for size in 0..=MAX_RESPONSE {
            let mut buffer = vec![0; size];
            let writer = Writer::new(&mut buffer, Class::Error, &[7; 12]).error_code(420).unknown_attributes(&[1; 9]);
            let error = writer.integrity(b"key").finish();
            let writer = Writer::new(&mut buffer, Class::Success, &[7; 12]).xor_mapped_address("[2001:db8::1]:9".parse().expect("it"));
            let success = writer.integrity(b"key").finish();
            assert_eq!((error.is_some(), success.is_some()), (size >= 72, size >= 76), "{size}");
        }
    }

    #[test]
    fn a_changed_octet_is_noticed() {
        // S4: FINGERPRINT alone is not covered, and means nothing to the request.
        for index in 0..SAMPLE_REQUEST.len() - 8 {
            let mut bytes = SAMPLE_REQUEST.to_vec();
            bytes[index] ^= 0x10;
            let believed = Message::parse(&bytes).is_ok_and(|message| message.verify(SAMPLE_KEY));
            assert!(!believed, "octet {index}");
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        // S4
        for length in 0..SAMPLE_REQUEST.len() {
            assert!(Message::parse(&SAMPLE_REQUEST[..length]).is_err(), "cut to {length}");
        }
        let mut bytes = SAMPLE_REQUEST.to_vec();
        bytes[22..24].copy_from_slice(&[0xFF, 0xFF]);
        assert_eq!(Message::parse(&bytes).map(|_| ()), Err(Fault::Attribute));
        assert_eq!(username(&bytes), None);
    }

    #[test]
    fn what_follows_the_integrity_is_not_believed() {
        // S4
        let mut buffer = [0; 200];
        let writer = Writer::new(&mut buffer, Class::Request, &[7; 12]).username(b"abcd:efgh").integrity(b"key");
        let length = writer.use_candidate().finish().expect("it fits");
        let message = Message::parse(&buffer[..length]).expect("a message");
        assert!(message.verify(b"key") && !message.use_candidate);
    }
}
