//! RTP packets without extras (RFC 3550 §5.1), and the two sockets that a scripted phone has for a kind of media.
//!
//! It reads and writes packets by itself, not with the switch's own code, so that a fault there does not cancel out.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

/// Octets of the RTP header without extras.
pub(super) const HEADER: usize = 12;
/// Tries to find two neighbouring ports.
const TRIES: usize = 50;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
}

impl Header {
    /// Reads a packet: its header and its payload. None: it has extras, or is none of RTP.
    pub(super) fn read(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (header, payload) = packet.split_first_chunk::<HEADER>()?;
        let [0x80, kind, s, t, a, b, c, d, e, f, g, h] = *header else { return None };
        let (sequence, timestamp) = (u16::from_be_bytes([s, t]), u32::from_be_bytes([a, b, c, d]));
        let ssrc = u32::from_be_bytes([e, f, g, h]);
        let header = Self { marker: kind & 0x80 != 0, payload_type: kind & 0x7f, sequence, timestamp, ssrc };
        (!payload.is_empty()).then_some((header, payload))
    }

    /// Writes it.
    pub(super) fn octets(self) -> [u8; HEADER] {
        let marker = if self.marker { 0x80 } else { 0 };
        let ([s, t], [a, b, c, d]) = (self.sequence.to_be_bytes(), self.timestamp.to_be_bytes());
        let [e, f, g, h] = self.ssrc.to_be_bytes();
        [0x80, marker | self.payload_type, s, t, a, b, c, d, e, f, g, h]
    }
}

/// A port for RTP and the next one for RTCP.
pub(super) struct Pair {
    pub(super) rtp: UdpSocket,
    /// Held, so that the switch's RTCP reaches no other program.
    _rtcp: UdpSocket,
    pub(super) address: SocketAddr,
}

impl Pair {
    /// Opens it on an address.
    pub(super) async fn open(ip: IpAddr) -> io::Result<Self> {
        let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            let rtp = UdpSocket::bind((ip, 0)).await?;
            let address = rtp.local_addr()?;
            let Some(next) = address.port().checked_add(1) else { continue };
            match UdpSocket::bind((ip, next)).await {
                Ok(rtcp) => return Ok(Self { rtp, _rtcp: rtcp, address }),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Waits for what `read` makes of a packet of the peer; nothing is lost where the future is dropped.
    pub(super) async fn receive<T>(&self, peer: SocketAddr, read: impl Fn(Header, &[u8]) -> Option<T>) -> io::Result<T> {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = self.rtp.recv_from(&mut buffer).await?;
            let packet = buffer.get(..length).filter(|_| from == peer).and_then(Header::read);
            if let Some(came) = packet.and_then(|(header, payload)| read(header, payload)) {
                return Ok(came);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header { marker: true, payload_type: 96, sequence: 0x0102, timestamp: 0x0304_0506, ssrc: 0x0708_090a };
        let octets = header.octets();
        assert_eq!(octets, [0x80, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(Header::read(&[&octets[..], &[1]].concat()), Some((header, &[1][..])));
        assert_eq!(Header::read(&octets), None, "no payload");
        assert_eq!(Header::read(&[0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "an extension");
    }
}
