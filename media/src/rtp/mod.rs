//! RTP packets (RFC 3550 §5.1): a view of received octets that reads and edits them in place. It knows no codec and no port.

pub mod rtcp;

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

    /// Writes another payload type; the marker stays.
    pub fn set_payload_type(&mut self, payload_type: u8) {
        self.header[1] = self.header[1] & 0x80 | payload_type & 0x7f;
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
