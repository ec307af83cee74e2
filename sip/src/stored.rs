//! What stored forms have in common: numbers as varints (seven bits a byte, lowest first), addresses, and texts with a varint of their
//! length before them. They are read without a panic whatever the bytes are; what is kept in them is their owners' affair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf as _, Bytes};
use bytestring::ByteString;

use crate::transport::Transport;

/// The bits of [`number_of`].
pub(crate) const TRANSPORT: u8 = 0b0000_0111;

/// Returns the number that stands for a transport.
pub(crate) fn number_of(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
        Transport::Ws => 3,
        Transport::Wss => 4,
    }
}

/// Returns the transport that a number stands for.
pub(crate) fn transport_of(number: u8) -> Option<Transport> {
    Transport::ALL.into_iter().find(|transport| number_of(*transport) == number)
}

/// Writes an address; its reader has to know its family.
pub(crate) fn push_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// Writes a number.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes a text.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads one stored form; its texts share one buffer.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// Returns true when nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|mut byte| byte.get_u8())
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let length = self.0.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
        let digits = self.take(length)?;
        // The tenth byte holds the last of 64 bits, and no number ends in a needless zero.
        let valid = digits.last().is_some_and(|last| (length == 1 || *last > 0) && (length < 10 || *last == 1));
        valid.then(|| digits.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
    }

    /// Reads a number of 32 bits.
    pub(crate) fn number(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    pub(crate) fn address(&mut self, is_v6: bool) -> Option<SocketAddr> {
        let ip =
            if is_v6 { IpAddr::V6(Ipv6Addr::from(self.take(16)?.get_u128())) } else { IpAddr::V4(Ipv4Addr::from(self.take(4)?.get_u32())) };
        Some(SocketAddr::new(ip, self.take(2)?.get_u16()))
    }

    pub(crate) fn text(&mut self) -> Option<ByteString> {
        let length = usize::try_from(self.varint()?).ok()?;
        ByteString::try_from(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transport_has_its_number() {
        for transport in Transport::ALL {
            assert_eq!(transport_of(number_of(transport)), Some(transport));
        }
        assert_eq!(transport_of(5), None);
    }

    #[test]
    fn a_number_has_one_form_and_64_bits() {
        let read = |bytes: &'static [u8]| Reader::new(bytes).varint();
        assert_eq!(read(&[0]), Some(0));
        assert_eq!(read(&[0x80, 1]), Some(128));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Some(u64::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None, "65 bits");
        assert_eq!(read(&[0x81, 0]), None, "a needless zero");
        assert_eq!(read(&[0x80; 11]), None);
        assert_eq!(read(&[]), None);
    }
}
