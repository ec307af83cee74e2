//! Where a mobile takes its packets out of the `webrtc` crate: behind SRTP, before the crate looks for the track.

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
