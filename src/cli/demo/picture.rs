//! Synthetic video: frames that look like VP8 to those who only forward them, and say to those who made them whether they came whole
//! (RFC 7741). They decode to nothing, and each is a key frame, so that nobody
//! has to ask for one.

use std::time::Duration;

use bytes::Bytes;
use rtc::rtp::codec::vp8::Vp8Packet;
use rtc::rtp::packetizer::Depacketizer as _;

/// From one frame to the next.
pub const FRAME_TIME: Duration = Duration::from_millis(33);
/// Octets of a frame: a little more than two packets of the usual 1200.
const SIZE: usize = 2500;
/// The frame tag and start code of a key frame (RFC 6386 §9.1).
const KEY_FRAME: [u8; 6] = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a];

/// A camera by its number: its frames are no other one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Camera(pub u8);

impl Camera {
    /// Returns the frame with a number, of which 24 bits count. No two are alike.
    #[must_use]
    pub fn frame(self, number: u32) -> Bytes {
        frame(u32::from(self.0) << 24 | number & 0x00ff_ffff)
    }

    /// Returns whose frame has this number.
    fn of(number: u32) -> Self {
        let [camera, ..] = number.to_be_bytes();
        Self(camera)
    }
}

/// Returns the frame that a number of 32 bits makes.
fn frame(number: u32) -> Bytes {
    let filling = (number..).flat_map(u32::to_be_bytes);
    KEY_FRAME.into_iter().chain(filling).take(SIZE).collect()
}

/// Puts frames together again.
#[derive(Clone, Debug, Default)]
pub struct Album {
    /// Frames that came as they were made, each once.
    pub whole: u32,
    /// The number of the last one.
    last: Option<u32>,
    part: Vec<u8>,
}

impl Album {
    /// Takes the payload of the next packet, and whether its marker says that the frame ends. Returns the camera of a frame that is whole
    /// now, and no older than the last one of the same camera.
    pub fn take(&mut self, payload: &Bytes, marker: bool) -> Option<Camera> {
        let mut descriptor = Vp8Packet::default();
        let part = descriptor.depacketize(payload).ok()?;
        if descriptor.s == 1 {
            self.part.clear();
        }
        self.part.extend_from_slice(&part);
        if !marker && self.part.len() <= SIZE {
            return None;
        }
        let number = number(&std::mem::take(&mut self.part))?;
        if self.last.is_some_and(|last| Camera::of(last) == Camera::of(number) && number <= last) {
            return None;
        }
        self.whole += 1;
        self.last = Some(number);
        Some(Camera::of(number))
    }
}

/// Returns the number of a frame that is whole.
fn number(octets: &[u8]) -> Option<u32> {
    let (number, _) = octets.strip_prefix(&KEY_FRAME)?.split_first_chunk()?;
    let number = u32::from_be_bytes(*number);
    (octets == frame(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use rtc::rtp::codec::vp8::Vp8Payloader;
    use rtc::rtp::packetizer::Payloader as _;

    use super::*;

    #[test]
    fn only_frames_that_come_whole_and_once_are_counted() {
        let packets = |number| Vp8Payloader::default().payload(1200, &frame(number)).unwrap();
        let mut album = Album::default();
        let mut take = |packets: &[Bytes]| {
            for (at, packet) in packets.iter().enumerate() {
                album.take(packet, at == 2);
            }
            album.whole
        };
        let [first, second] = [packets(0), packets(1)];
        assert_eq!(first.len(), 3);
        assert_eq!(take(&first), 1);
        assert_eq!(take(&first), 1, "the same again");
        assert_eq!(take(&[second[0].clone(), second[2].clone(), second[1].clone()]), 1, "in the wrong order");
        assert_eq!(take(&[Bytes::new(), second[1].clone(), second[2].clone()]), 1, "without its beginning");
        assert_eq!(take(&second), 2);
        let other = Vp8Payloader::default().payload(1200, &Camera(3).frame(0)).unwrap();
        assert_eq!(take(&other), 3, "of another camera");
        assert_eq!(take(&second), 4, "and the first one's again");
    }
}
