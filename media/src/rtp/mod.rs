//! RTP packets (RFC 3550 §5.1): a view of received octets that reads and edits them in place. It knows no codec and no port.

pub mod probation;
pub mod report;
pub mod rewrite;
pub mod rtcp;
pub mod srtp;

/// Octets of the fixed header.
const HEADER: usize = 12;

/// Why octets are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than the header, or than the CSRC list or extension that it announces.
    #[error("the packet ends inside its header")]
    Short,
    /// Another version than 2: STUN, DTLS, an old keep-alive.
    #[error("the version is not 2")]
    Version,
    /// More padding than payload, or a padding of zero octets.
    #[error("the padding is longer than the payload")]
    Padding,
}

/// A valid RTP packet.
#[derive(Debug)]
pub struct Packet<'a> {
    header: &'a mut [u8; HEADER],
    /// What follows the fixed header.
    rest: &'a mut [u8],
    payload: std::ops::Range<usize>,
}

impl<'a> Packet<'a> {
    /// Checks version, CSRC count, extension and padding, so that all else is safe to read.
    ///
    /// # Errors
    /// [`Error`] when it is no RTP packet.
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, Error> {
        let (header, rest) = bytes.split_first_chunk_mut::<HEADER>().ok_or(Error::Short)?;
        if header[0] >> 6 != 2 {
            return Err(Error::Version);
        }
        let mut start = usize::from(header[0] & 0x0f) * 4;
        if header[0] & 0x10 != 0 {
            let extension = rest.get(start..).and_then(<[u8]>::first_chunk::<4>).ok_or(Error::Short)?;
            start += 4 + usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4;
        }
        let mut end = rest.len();
        if start > end {
            return Err(Error::Short);
        }
        if header[0] & 0x20 != 0 {
            let padding = rest.last().copied().map_or(0, usize::from);
            if padding == 0 || padding > end - start {
                return Err(Error::Padding);
            }
            end -= padding;
        }
        Ok(Self { header, rest, payload: start..end })
    }

    /// Marker bit.
    #[must_use]
    pub fn marker(&self) -> bool {
        self.header[1] & 0x80 != 0
    }

    /// Payload type, 0 to 127.
    #[must_use]
    pub fn payload_type(&self) -> u8 {
        self.header[1] & 0x7f
    }

    /// Sequence number.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Timestamp in units of the clock rate.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        let [.., a, b, c, d, _, _, _, _] = *self.header;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Synchronisation source.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        let [.., a, b, c, d] = *self.header;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Payload without padding.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.rest.get(self.payload.clone()).unwrap_or_default()
    }

    /// Payload without padding, to edit.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.rest.get_mut(self.payload.clone()).unwrap_or_default()
    }

    /// Writes another payload type; the marker stays.
    pub fn set_payload_type(&mut self, payload_type: u8) {
        self.header[1] = self.header[1] & 0x80 | payload_type & 0x7f;
    }

    /// Sets the marker.
    pub fn set_marker(&mut self) {
        self.header[1] |= 0x80;
    }

    /// Writes another sequence number.
    pub fn set_sequence(&mut self, sequence: u16) {
        [self.header[2], self.header[3]] = sequence.to_be_bytes();
    }

    /// Writes another timestamp.
    pub fn set_timestamp(&mut self, timestamp: u32) {
        let [_, _, _, _, at @ .., _, _, _, _] = self.header;
        *at = timestamp.to_be_bytes();
    }

    /// Writes another synchronisation source.
    pub fn set_ssrc(&mut self, ssrc: u32) {
        let [_, _, _, _, _, _, _, _, at @ ..] = self.header;
        *at = ssrc.to_be_bytes();
    }
}

/// Whether octets on a port with RTP and RTCP are RTCP: packet types 192 to 223 (RFC 5761 §4).
#[must_use]
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [first, 192..=223, ..] if first >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | 96, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn header_is_read() {
        let mut bytes = packet(0x80, b"sound");
        let packet = Packet::parse(&mut bytes).unwrap();
        assert_eq!((packet.marker(), packet.payload_type(), packet.sequence()), (true, 96, 0x1234));
        assert_eq!((packet.timestamp(), packet.ssrc(), packet.payload()), (0x0102_0304, 0x0506_0708, &b"sound"[..]));
    }

    #[test]
    fn payload_stands_behind_csrc_and_extension_and_before_padding() {
        let mut bytes = packet(0x80 | 0x20 | 0x10 | 1, b"CSRC\xbe\xde\0\x01EXT.sound\0\0\x03");
        assert_eq!(Packet::parse(&mut bytes).unwrap().payload(), b"sound");
    }

    #[test]
    fn edits_in_place_leave_the_rest() {
        let mut bytes = packet(0x80, b"sound");
        let mut packet = Packet::parse(&mut bytes).unwrap();
        packet.set_payload_type(0xff);
        packet.set_sequence(0xaabb);
        packet.set_timestamp(0x1111_2222);
        packet.set_ssrc(0x3333_4444);
        assert_eq!(bytes, *b"\x80\xff\xaa\xbb\x11\x11\x22\x22\x33\x33\x44\x44sound");
    }

    #[test]
    fn what_is_no_rtp_is_refused() {
        let error = |mut bytes: Vec<u8>| Packet::parse(&mut bytes).map(|_| ()).unwrap_err();
        assert_eq!(error(vec![0x80; 11]), Error::Short);
        assert_eq!(error(packet(0x00, b"stun")), Error::Version);
        assert_eq!(error(packet(0x8f, &[0; 59])), Error::Short, "15 CSRCs need 60 octets");
        assert_eq!(error(packet(0x90, b"\xbe\xde\0")), Error::Short);
        assert_eq!(error(packet(0x90, b"\xbe\xde\xff\xffshort")), Error::Short);
        assert_eq!(error(packet(0xa0, b"")), Error::Padding);
        assert_eq!(error(packet(0xa0, b"a\0")), Error::Padding);
        assert_eq!(error(packet(0xa0, b"a\x03")), Error::Padding);
        Packet::parse(&mut packet(0xa0, b"a\x02")).expect("all of the payload may be padding");
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_type() {
        assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x80, 192]) && is_rtcp(&[0x80, 223]));
        assert!(!is_rtcp(&[0x80, 224]) && !is_rtcp(&[0x80, 191]) && !is_rtcp(&[0x00, 200]) && !is_rtcp(&[0x80]));
    }
}
