//! What one side sees while devices change at the other: whether it is one stream without a break, and how long the picture stands still.
//! It knows no socket.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::picture::{Album, Camera};
use super::stream::{Numbers, Step};

/// A packet of VP8.
pub(super) struct Piece {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) marker: bool,
    pub(super) payload: Bytes,
}

/// The pictures as they arrive.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// Its packets.
    pub(super) numbers: Numbers,
    /// The longest time from one whole picture to the next.
    pub(super) pause: Duration,
    /// The camera of the newest picture, and how many came from it one after the other.
    pub(super) seen: Option<(Camera, u32)>,
    /// When the first of those came.
    pub(super) since: Option<Instant>,
    album: Album,
    last: Option<Instant>,
}

impl Sight {
    /// Takes a packet.
    pub(super) fn see(&mut self, now: Instant, piece: &Piece) {
        if self.numbers.take(piece.ssrc, piece.sequence) == Step::Back {
            return;
        }
        let Some(camera) = self.album.take(&piece.payload, piece.marker) else { return };
        if let Some(last) = self.last.replace(now) {
            self.pause = self.pause.max(now.saturating_duration_since(last));
        }
        let before = self.seen.filter(|(before, _)| *before == camera).map_or(0, |(_, count)| count);
        if before == 0 {
            self.since = Some(now);
        }
        self.seen = Some((camera, before + 1));
    }

    /// Returns how many pictures came whole.
    pub(super) fn pictures(&self) -> u32 {
        self.album.whole
    }

    /// Returns whether the last so many pictures are of a camera.
    pub(super) fn sees(&self, camera: Camera, pictures: u32) -> bool {
        self.seen.is_some_and(|(seen, count)| seen == camera && count >= pictures)
    }
}

#[cfg(test)]
mod tests {
    use rtc::rtp::codec::vp8::Vp8Payloader;
    use rtc::rtp::packetizer::Payloader as _;

    use super::*;

    fn pieces(ssrc: u32, first: u16, camera: Camera, number: u32) -> Vec<Piece> {
        let payloads = Vp8Payloader::default().payload(1200, &camera.frame(number)).unwrap();
        let last = payloads.len() - 1;
        let piece = |(at, payload)| Piece { ssrc, sequence: first.wrapping_add(at as u16), marker: at == last, payload };
        payloads.into_iter().enumerate().map(piece).collect()
    }

    #[test]
    fn one_stream_of_two_cameras_has_no_break_and_its_longest_pause_is_known() {
        let (mut sight, start) = (Sight::default(), crate::clock::now());
        let frames = [(65_534, Camera(1), 0, 0), (1, Camera(1), 1, 33), (4, Camera(2), 0, 133), (7, Camera(2), 1, 166)];
        for (first, camera, number, at) in frames {
            for piece in pieces(1, first, camera, number) {
                sight.see(start + Duration::from_millis(at), &piece);
            }
        }
        let Numbers { packets, lost, repeated, breaks, .. } = sight.numbers;
        assert_eq!((packets, lost, repeated, breaks, sight.pictures()), (12, 0, 0, 0, 4));
        assert_eq!(sight.pause, Duration::from_millis(100));
        assert!(sight.sees(Camera(2), 2) && !sight.sees(Camera(2), 3) && !sight.sees(Camera(1), 1));
        assert_eq!(sight.since, Some(start + Duration::from_millis(133)));
    }

    #[test]
    fn a_picture_with_a_hole_is_none_and_a_packet_that_comes_again_is_not_looked_at() {
        let (mut sight, now) = (Sight::default(), crate::clock::now());
        let frame = pieces(1, 0, Camera(1), 0);
        for piece in [&frame[0], &frame[2]] {
            sight.see(now, piece);
        }
        assert_eq!((sight.pictures(), sight.numbers.lost), (0, 1));
        let frame = pieces(1, 3, Camera(1), 1);
        for piece in [&frame[0], &frame[1], &frame[1], &frame[2]] {
            sight.see(now, piece);
        }
        assert_eq!((sight.pictures(), sight.numbers.repeated), (1, 1));
    }
}
