//! Where a mobile takes its packets out of the `webrtc` crate: behind SRTP, before the crate looks for the track.
//!
//! The crate finds the track of a packet in a description with several m-lines only by `a=ssrc`, or by the extensions for mid and rid
//! (rtc 0.21.1, `ensure_remote_stream_bound`); RFC 8843 §9.2 has the payload type too, which is all that the switch's descriptions give.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtp;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use tokio::sync::mpsc;

/// Packets that may wait until the script listens; further ones are dropped.
const PACKETS: usize = 1024;

/// Copies the RTP that comes in.
pub(super) struct Tap {
    copies: mpsc::Sender<rtp::Packet>,
    incoming: VecDeque<TaggedPacket>,
    outgoing: VecDeque<TaggedPacket>,
}

impl Tap {
    /// Returns a tap, and what comes out of it.
    pub(super) fn new() -> (Self, mpsc::Receiver<rtp::Packet>) {
        let (copies, receiver) = mpsc::channel(PACKETS);
        (Self { copies, incoming: VecDeque::new(), outgoing: VecDeque::new() }, receiver)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(rtp) = &packet.message.packet {
            let _ = self.copies.try_send(rtp.clone()); // nobody listens, or too late
        }
        self.incoming.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.incoming.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.outgoing.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outgoing.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// Names a source in each m-line that has none, for the crate refuses several m-lines without.
pub(super) fn with_sources(description: &str) -> String {
    let mut sections = description.split("\r\nm=");
    let mut named = sections.next().unwrap_or_default().to_owned();
    for (section, source) in sections.zip(1..) {
        named.push_str("\r\nm=");
        named.push_str(section);
        if !section.contains("\r\na=ssrc:") {
            let end = if section.ends_with("\r\n") { "" } else { "\r\n" };
            named.push_str(&format!("{end}a=ssrc:{source} cname:unknown"));
            named.push_str(if end.is_empty() { "\r\n" } else { "" });
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_media_line_has_a_source() {
        let description = "v=0\r\ns=-\r\nm=audio 9 X 0\r\na=mid:0\r\nm=video 9 X 96\r\na=ssrc:7 cname:x\r\nm=audio 9 X 8\r\na=mid:2\r\n";
        assert_eq!(
            with_sources(description),
            "v=0\r\ns=-\r\nm=audio 9 X 0\r\na=mid:0\r\na=ssrc:1 cname:unknown\r\nm=video 9 X 96\r\na=ssrc:7 cname:x\r\n\
             m=audio 9 X 8\r\na=mid:2\r\na=ssrc:3 cname:unknown\r\n"
        );
    }
}
