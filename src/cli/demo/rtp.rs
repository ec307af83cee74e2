//! The sound of a scripted phone: G.711 in RTP (RFC 3551) from one socket.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tokio::time::{interval, sleep};

use super::lines;
use super::packet::{HEADER, Header, Pair};
use super::stream::Block;
use super::talk::{GRACE, PACKETS, PTIME, Talk};
use super::tone::{BLOCK, Tone};
use crate::clock;

/// Speaks and hears.
pub(super) struct Sound {
    pair: Pair,
}

impl Sound {
    /// Opens its ports.
    pub(super) async fn open(ip: IpAddr) -> io::Result<Self> {
        Ok(Self { pair: Pair::open(ip).await? })
    }

    /// Returns where it is heard.
    pub(super) fn address(&self) -> SocketAddr {
        self.pair.address
    }

    /// Describes this end: offer and answer are the same here.
    pub(super) fn description(&self) -> Bytes {
        lines::sound(self.pair.address)
    }

    /// Sends a packet to the peer.
    pub(super) async fn speak(&self, peer: SocketAddr, voice: &mut Voice) -> io::Result<()> {
        self.pair.rtp.send_to(&voice.packet(), peer).await.map(drop)
    }

    /// Waits for a packet of the peer; nothing is lost where the future is dropped.
    pub(super) async fn listen(&self, peer: SocketAddr) -> io::Result<Block> {
        self.pair.receive(peer, block).await
    }

    /// Sends one tone to the peer for about two seconds, and listens to what comes back for that and another.
    pub(super) async fn talk(&self, peer: SocketAddr, own: Tone, others: Tone, seed: u64) -> io::Result<Talk> {
        let mut talk = Talk::new(own, others);
        let mut voice = Voice::new(own, seed);
        let mut pace = interval(PTIME);
        let end = sleep(PTIME * PACKETS + GRACE);
        tokio::pin!(end);
        while talk.sent < PACKETS || talk.received < PACKETS {
            tokio::select! {
                biased;
                _ = pace.tick(), if talk.sent < PACKETS => {
                    self.pair.rtp.send_to(&voice.packet(), peer).await?;
                    talk.sent += 1;
                }
                came = self.listen(peer) => {
                    let Block { timestamp, payload, .. } = came?;
                    talk.hear(clock::now(), timestamp, &payload);
                }
                () = &mut end => break,
            }
        }
        Ok(talk)
    }
}

/// Reads a packet with PCMU.
fn block(header: Header, payload: &[u8]) -> Option<Block> {
    let Header { ssrc, sequence, timestamp, .. } = header;
    (header.payload_type == 0).then(|| Block { ssrc, sequence, timestamp, payload: Bytes::copy_from_slice(payload) })
}

/// A tone as a stream of packets.
pub(super) struct Voice {
    tone: Tone,
    ssrc: u32,
    first_sequence: u16,
    first_timestamp: u32,
    packets: u32,
}

impl Voice {
    /// Sequence and timestamp begin anywhere (RFC 3550 §5.1).
    pub(super) fn new(tone: Tone, seed: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = seed.to_be_bytes();
        let first_timestamp = u32::from_be_bytes([e, f, g, h]);
        Self { tone, ssrc: u32::from_be_bytes([a, b, c, d]), first_sequence: u16::from_be_bytes([d, e]), first_timestamp, packets: 0 }
    }

    fn packet(&mut self) -> [u8; HEADER + BLOCK] {
        let sample = self.packets * BLOCK as u32;
        let header = Header {
            marker: self.packets == 0,
            payload_type: 0,
            sequence: self.first_sequence.wrapping_add(self.packets as u16),
            timestamp: self.first_timestamp.wrapping_add(sample),
            ssrc: self.ssrc,
        };
        let mut packet = [0; HEADER + BLOCK];
        let (head, payload) = packet.split_at_mut(HEADER);
        head.copy_from_slice(&header.octets());
        payload.copy_from_slice(&self.tone.block(sample));
        self.packets += 1;
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_says_what_it_carries() {
        let mut voice = Voice::new(Tone(400), 0x0102_0304_ffff_fff0);
        let first = voice.packet();
        assert_eq!(&first[..HEADER], [0x80, 0x80, 4, 0xff, 0xff, 0xff, 0xff, 0xf0, 1, 2, 3, 4]);
        let second = voice.packet();
        assert_eq!(&second[..HEADER], [0x80, 0, 5, 0, 0, 0, 0, 0x90, 1, 2, 3, 4], "both numbers wrap");
        let (header, payload) = Header::read(&second).unwrap();
        assert_eq!(payload, &Tone(400).block(160)[..]);
        let read = block(header, payload).map(|block| (block.ssrc, block.sequence, block.timestamp, block.payload.len()));
        assert_eq!(read, Some((0x0102_0304, 0x0500, 0x90, BLOCK)));
        assert!(block(Header { payload_type: 96, ..header }, payload).is_none(), "another format");
    }
}
