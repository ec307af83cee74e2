//! The pictures of a scripted desk phone: VP8 in RTP (RFC 7741) from one socket.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use rtc::rtp::codec::vp8::Vp8Payloader;
use rtc::rtp::packetizer::Payloader as _;

use super::packet::{Header, Pair};
use super::picture::{Camera, FRAME_TIME};
use super::sight::Piece;

/// The most octets of a payload.
const PAYLOAD: usize = 1200;
/// From one frame to the next on the clock of video.
const TICKS: u32 = 90 * FRAME_TIME.as_millis() as u32;

/// Shows and sees.
pub(super) struct Screen {
    pair: Pair,
}

impl Screen {
    /// Opens its ports.
    pub(super) async fn open(ip: IpAddr) -> io::Result<Self> {
        Ok(Self { pair: Pair::open(ip).await? })
    }

    /// Returns where pictures are seen.
    pub(super) fn address(&self) -> SocketAddr {
        self.pair.address
    }

    /// Sends the next frame to the peer.
    pub(super) async fn show(&self, peer: SocketAddr, film: &mut Film) -> anyhow::Result<()> {
        for packet in film.frame()? {
            self.pair.rtp.send_to(&packet, peer).await?;
        }
        Ok(())
    }

    /// Waits for a packet of the peer with this payload type; nothing is lost where the future is dropped.
    pub(super) async fn watch(&self, peer: SocketAddr, payload_type: u8) -> io::Result<Piece> {
        let piece = |header: Header, payload: &[u8]| {
            let Header { ssrc, sequence, marker, .. } = header;
            (header.payload_type == payload_type).then(|| Piece { ssrc, sequence, marker, payload: Bytes::copy_from_slice(payload) })
        };
        self.pair.receive(peer, piece).await
    }
}

/// What a camera sees, as a stream of packets.
pub(super) struct Film {
    camera: Camera,
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    frames: u32,
    payloader: Vp8Payloader,
}

impl Film {
    /// Sequence and timestamp begin anywhere (RFC 3550 §5.1).
    pub(super) fn new(camera: Camera, payload_type: u8, seed: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = seed.to_be_bytes();
        let (ssrc, timestamp) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Self { camera, payload_type, ssrc, sequence: u16::from_be_bytes([d, e]), timestamp, frames: 0, payloader: Vp8Payloader::default() }
    }

    /// Returns the payload type, which both sides use.
    pub(super) fn payload_type(&self) -> u8 {
        self.payload_type
    }

    fn frame(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let payloads = self.payloader.payload(PAYLOAD, &self.camera.frame(self.frames))?;
        let (mut packets, last) = (Vec::with_capacity(payloads.len()), payloads.len().saturating_sub(1));
        for (at, payload) in payloads.iter().enumerate() {
            let Self { payload_type, sequence, timestamp, ssrc, .. } = *self;
            let header = Header { marker: at == last, payload_type, sequence, timestamp, ssrc };
            packets.push([&header.octets()[..], payload].concat());
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.timestamp = self.timestamp.wrapping_add(TICKS);
        self.frames = self.frames.wrapping_add(1);
        Ok(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::Album;
    use super::*;

    #[test]
    fn a_film_is_seen_again_picture_by_picture() {
        let mut film = Film::new(Camera(2), 96, 0x0102_0304_05ff_ff00);
        let mut album = Album::default();
        let (mut seen, mut numbers) = (Vec::new(), Vec::new());
        for packet in [film.frame().unwrap(), film.frame().unwrap()].concat() {
            let (header, payload) = Header::read(&packet).unwrap();
            numbers.push((header.sequence, header.timestamp, header.marker));
            seen.extend(album.take(&Bytes::copy_from_slice(payload), header.marker));
        }
        assert_eq!(seen, [Camera(2), Camera(2)]);
        let (first, next) = (0x05ff_ff00, 0x05ff_ff00 + 2970);
        let all = [(0x0405, first, false), (0x0406, first, false), (0x0407, first, true)];
        assert_eq!(numbers[..3], all);
        assert_eq!(numbers[3..], all.map(|(sequence, _, marker)| (sequence + 3, next, marker)));
    }
}
