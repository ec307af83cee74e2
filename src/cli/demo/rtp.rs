//! The media of a scripted phone: its description (RFC 8866), and G.711 in RTP (RFC 3550, RFC 3551) from one socket.
//!
//! It reads and writes packets by itself, not with the switch's own code, so that a fault there does not cancel out.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::time::{interval, sleep};

use super::stream::Block;
use super::talk::{GRACE, PACKETS, PTIME, Talk};
use super::tone::{BLOCK, Tone};
use crate::clock;

/// Octets of the RTP header without extras.
const HEADER: usize = 12;
/// Tries to find two neighbouring ports.
const TRIES: usize = 50;

/// Speaks and hears.
pub(super) struct Sound {
    rtp: UdpSocket,
    /// Held, so that the switch's RTCP reaches no other program.
    _rtcp: UdpSocket,
    address: SocketAddr,
}

impl Sound {
    /// Opens a port for RTP and the next one for RTCP.
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

    /// Returns the address.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// Describes this end: offer and answer are the same here.
    pub(super) fn description(&self) -> Bytes {
        let (ip, port) = (self.address.ip(), self.address.port());
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        Bytes::from(format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
        ))
    }

    /// Sends a packet to the peer.
    pub(super) async fn speak(&self, peer: SocketAddr, voice: &mut Voice) -> io::Result<()> {
        self.rtp.send_to(&voice.packet(), peer).await.map(drop)
    }

    /// Waits for a packet of the peer; nothing is lost where the future is dropped.
    pub(super) async fn listen(&self, peer: SocketAddr) -> io::Result<Block> {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = self.rtp.recv_from(&mut buffer).await?;
            if let Some(block) = buffer.get(..length).filter(|_| from == peer).and_then(block) {
                return Ok(block);
            }
        }
    }

    /// Sends one tone to the peer for about two seconds, and listens to what comes back for that and another.
    pub(super) async fn talk(&self, peer: SocketAddr, own: Tone, others: Tone, seed: u64) -> io::Result<Talk> {
        let mut talk = Talk::new(own, others);
        let mut voice = Voice::new(own, seed);
        let mut pace = interval(PTIME);
        let end = sleep(PTIME * PACKETS + GRACE);
        tokio::pin!(end);
        let mut buffer = [0; 2048];
        while talk.sent < PACKETS || talk.received < PACKETS {
            tokio::select! {
                biased;
                _ = pace.tick(), if talk.sent < PACKETS => {
                    self.rtp.send_to(&voice.packet(), peer).await?;
                    talk.sent += 1;
                }
                came = self.rtp.recv_from(&mut buffer) => {
                    let (length, from) = came?;
                    let packet = buffer.get(..length).unwrap_or_default();
                    if let Some((timestamp, payload)) = pcmu(packet).filter(|_| from == peer) {
                        talk.hear(clock::now(), timestamp, payload);
                    }
                }
                () = &mut end => break,
            }
        }
        Ok(talk)
    }
}

/// Reads where a description wants its audio.
pub(super) fn audio_address(description: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(description).ok()?;
    let line = |start: &str| text.lines().find_map(|line| line.trim_end().strip_prefix(start));
    let ip: IpAddr = line("c=IN IP4 ").or_else(|| line("c=IN IP6 "))?.parse().ok()?;
    let port: u16 = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    (port != 0).then_some(SocketAddr::new(ip, port))
}

/// Reads timestamp and payload of an RTP packet with PCMU and no extras.
fn pcmu(packet: &[u8]) -> Option<(u32, &[u8])> {
    let (header, payload) = packet.split_first_chunk::<HEADER>()?;
    let [0x80, kind, _, _, a, b, c, d, ..] = *header else { return None };
    (kind & 0x7f == 0 && !payload.is_empty()).then_some((u32::from_be_bytes([a, b, c, d]), payload))
}

/// Reads a packet with PCMU and no extras.
fn block(packet: &[u8]) -> Option<Block> {
    let (timestamp, payload) = pcmu(packet)?;
    let [_, _, a, b, _, _, _, _, c, d, e, f, ..] = *packet else { return None };
    let (sequence, ssrc) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
    Some(Block { ssrc, sequence, timestamp, payload: Bytes::copy_from_slice(payload) })
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
        let marker = if self.packets == 0 { 0x80 } else { 0 };
        let [s, t] = self.first_sequence.wrapping_add(self.packets as u16).to_be_bytes();
        let [a, b, c, d] = self.first_timestamp.wrapping_add(sample).to_be_bytes();
        let [e, f, g, h] = self.ssrc.to_be_bytes();
        let mut packet = [0; HEADER + BLOCK];
        let (header, payload) = packet.split_at_mut(HEADER);
        header.copy_from_slice(&[0x80, marker, s, t, a, b, c, d, e, f, g, h]);
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
        assert_eq!(pcmu(&second), Some((0x90, &Tone(400).block(160)[..])));
        let read = block(&second).map(|block| (block.ssrc, block.sequence, block.timestamp, block.payload.len()));
        assert_eq!(read, Some((0x0102_0304, 0x0500, 0x90, BLOCK)));
        assert_eq!(pcmu(&second[..HEADER]), None);
        assert_eq!(pcmu(&[0x80, 200, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "RTCP");
    }

    #[test]
    fn the_address_of_the_audio_is_read() {
        let description = "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 20000 RTP/AVP 0\r\n";
        assert_eq!(audio_address(description.as_bytes()), Some(([127, 0, 0, 1], 20_000).into()));
        for refused in ["", "c=IN IP4 127.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n", "m=audio 20000 RTP/AVP 0\r\n", "c=IN IP4 x\r\nm=audio 1 x\r\n"]
        {
            assert_eq!(audio_address(refused.as_bytes()), None, "{refused}");
        }
    }
}
