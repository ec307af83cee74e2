//! Sender: protects the RTP and RTCP that one end sends on one m-line (RFC 3711 §3.3, §3.4). The sequence numbers are those of the
//! packets; the rollover counter follows them.

use std::fmt;

use super::{Counter, Error, Header, Keys, RTCP_HEADER, SRTCP_INDEX, derive::Usage, rtcp_ssrc, source::Sources, transform::Transform};

/// Largest SRTCP index.
const MAX_RTCP_INDEX: u32 = (1 << 31) - 1;
/// SRTCP packets that may have been sent after their count was written down.
const RTCP_LEAP: u32 = 1 << 16;

/// Protects packets under one master key.
///
/// An index protects one packet. A packet of an older sequence number that was not sent before keeps its right index, within the
/// [window](super::WINDOW); a sequence number that was sent before is refused with [`Error::Replay`], whatever the content is: with
/// another content AES-GCM would give its authentication key away (RFC 7714 §7.1), and counter mode the payload of both. Who must
/// send a packet again keeps it protected and sends those octets. A source whose sequence numbers jump back by 128 to 32768 is not
/// heard by any receiver, and so is refused too: let `rewrite` make them continuous.
pub struct Sender {
    rtp: Transform,
    rtcp: Transform,
    sources: Sources,
    /// Of the next SRTCP packet. All sources count together: each index is used once, and receivers allow for gaps.
    rtcp_index: u32,
}

/// How far a [`Sender`] has come: plain data to go on with the same keys in another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// RTP of each source.
    pub rtp: Vec<Counter>,
    /// SRTCP packets of all sources.
    pub rtcp: u32,
}

impl Sender {
    /// A sender that has sent nothing.
    #[must_use]
    pub fn new(keys: &Keys) -> Self {
        let (rtp, rtcp) = (Transform::new(keys, Usage::Rtp), Transform::new(keys, Usage::Rtcp));
        Self { rtp, rtcp, sources: Sources::default(), rtcp_index: 0 }
    }

    /// A sender that goes on where another stopped. All RTP up to the counters counts as sent, and 65536 more SRTCP packets than
    /// were counted; what was sent of RTP after they were written down must not be sent again.
    #[must_use]
    pub fn resume(keys: &Keys, sent: &Sent) -> Self {
        Self { sources: Sources::resume(&sent.rtp), rtcp_index: sent.rtcp.saturating_add(RTCP_LEAP), ..Self::new(keys) }
    }

    /// Tells how far it has come.
    #[must_use]
    pub fn sent(&self) -> Sent {
        Sent { rtp: self.sources.counters(), rtcp: self.rtcp_index }
    }

    /// Protects the RTP packet in the first `length` octets, and returns how long it is then. Behind it the buffer has room for
    /// [`Profile::tag_len`](super::Profile::tag_len) octets.
    ///
    /// # Errors
    /// [`Error`] other than `Authentication`; then the packet is as it was.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, Error> {
        let header = buffer.get(..length).and_then(Header::of_rtp).ok_or(Error::Malformed)?;
        let end = length.saturating_add(self.rtp.tag_len());
        let bytes = buffer.get_mut(..end).ok_or(Error::Room)?;
        if !self.sources.has_room(header.ssrc) {
            return Err(Error::Sources);
        }
        let index = self.sources.rtp_index(header.ssrc, header.sequence)?;
        self.rtp.seal_rtp(bytes, &header, index)?;
        self.sources.mark(header.ssrc, index);
        Ok(end)
    }

    /// Protects the RTCP compound in the first `length` octets, and returns how long it is then. Behind it the buffer has room for
    /// [`Profile::rtcp_overhead`](super::Profile::rtcp_overhead) octets.
    ///
    /// # Errors
    /// [`Error`] `Malformed`, `Room` or `Exhausted`; then the packet is as it was.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, Error> {
        let packet = buffer.get(..length).filter(|packet| packet.len() >= RTCP_HEADER);
        let ssrc = packet.and_then(rtcp_ssrc).ok_or(Error::Malformed)?;
        let end = length.saturating_add(self.rtcp.tag_len() + SRTCP_INDEX);
        let bytes = buffer.get_mut(..end).ok_or(Error::Room)?;
        if self.rtcp_index > MAX_RTCP_INDEX {
            return Err(Error::Exhausted);
        }
        self.rtcp.seal_rtcp(bytes, ssrc, self.rtcp_index)?;
        self.rtcp_index += 1;
        Ok(end)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("sent", &self.sent()).finish_non_exhaustive()
    }
}
