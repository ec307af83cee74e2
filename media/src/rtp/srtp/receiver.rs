//! Receiver: opens the SRTP and SRTCP that one end receives on one m-line (RFC 3711 §3.3, §3.4). What it keeps of a source comes from
//! authentic packets only.

use std::fmt;

use super::{Counter, Error, Header, Keys, SRTCP_INDEX, derive::Usage, rtcp_ssrc, source::Sources, transform::Transform};

/// Opens packets under one master key.
pub struct Receiver {
    rtp: Transform,
    rtcp: Transform,
    rtp_sources: Sources,
    rtcp_sources: Sources,
}

/// How far a [`Receiver`] has come: plain data to go on with the same keys in another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// RTP of each source.
    pub rtp: Vec<Counter>,
    /// SRTCP of each source.
    pub rtcp: Vec<Counter>,
}

impl Receiver {
    /// A receiver that has received nothing. The first packet of a source has the rollover counter 0.
    #[must_use]
    pub fn new(keys: &Keys) -> Self {
        Self::resume(keys, &Received::default())
    }

    /// A receiver that goes on where another stopped: what is not newer than the counters is refused.
    #[must_use]
    pub fn resume(keys: &Keys, received: &Received) -> Self {
        Self {
            rtp: Transform::new(keys, Usage::Rtp),
            rtcp: Transform::new(keys, Usage::Rtcp),
            rtp_sources: Sources::resume(&received.rtp),
            rtcp_sources: Sources::resume(&received.rtcp),
        }
    }

    /// Tells how far it has come.
    #[must_use]
    pub fn received(&self) -> Received {
        Received { rtp: self.rtp_sources.counters(), rtcp: self.rtcp_sources.counters() }
    }

    /// Opens an SRTP packet, and returns how long the RTP packet is that `bytes` then begins with.
    ///
    /// # Errors
    /// [`Error`] `Malformed`, `Replay`, `Authentication` or `Exhausted`; then `bytes` is to be dropped, and nothing else changed.
    pub fn unprotect_rtp(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let length = bytes.len().checked_sub(self.rtp.tag_len()).ok_or(Error::Malformed)?;
        let header = bytes.get(..length).and_then(Header::of_rtp).ok_or(Error::Malformed)?;
        let index = self.rtp_sources.rtp_index(header.ssrc, header.sequence)?;
        let length = self.rtp.open_rtp(bytes, &header, index)?;
        self.rtp_sources.mark(header.ssrc, index);
        Ok(length)
    }

    /// Opens an SRTCP packet, and returns how long the RTCP compound is that `bytes` then begins with. One that is authenticated
    /// but not encrypted is taken.
    ///
    /// # Errors
    /// [`Error`] `Malformed`, `Replay` or `Authentication`; then `bytes` is to be dropped, and nothing else changed.
    pub fn unprotect_rtcp(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let length = bytes.len().checked_sub(self.rtcp.tag_len() + SRTCP_INDEX).ok_or(Error::Malformed)?;
        let ssrc = bytes.get(..length).and_then(rtcp_ssrc).ok_or(Error::Malformed)?;
        let index = self.rtcp.claimed_index(bytes).ok_or(Error::Malformed)?;
        self.rtcp_sources.check(ssrc, index)?;
        let length = self.rtcp.open_rtcp(bytes, ssrc)?;
        self.rtcp_sources.mark(ssrc, index);
        Ok(length)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("received", &self.received()).finish_non_exhaustive()
    }
}
