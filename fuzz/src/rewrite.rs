//! `media::rtp::{rewrite, report}` and the readers of digits: what is left of a compound is a compound; a packet keeps its length
//! and gets the stream's SSRC; a digit that is read is printed so that it is read again.

use std::time::{Duration, Instant};

use media::{
    dtmf::{event::Listener, info},
    rtp::{
        Packet, report,
        rewrite::{Identity, Marker, Rewriter},
        rtcp,
    },
};

const RATE: u32 = 8000;

/// Tries a datagram as RTP, as RTCP and as the body of an INFO request.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let digit = info::parse(info::CONTENT_TYPE, data);
    if let Some((digit, duration)) = digit {
        assert_eq!(info::parse(info::CONTENT_TYPE, info::print(digit, duration).as_bytes()), Some((digit, duration)));
    }
    let mut bytes = data.to_vec();
    rtp(&mut bytes) || report(&mut bytes) || digit.is_some()
}

#[expect(clippy::disallowed_methods, reason = "an instant can only be had from the clock; which one it is does not matter")]
fn now() -> Instant {
    Instant::now()
}

fn stream(ssrc: u32) -> Rewriter {
    let mut rewriter = Rewriter::new(Identity { ssrc, sequence: 65535, timestamp: u32::MAX }, Marker::Talkspurt);
    // A source with the SSRC of the seeds' reports would be found by chance only.
    let mut bytes = [0x80, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 7, 0];
    if let Ok(mut packet) = Packet::parse(&mut bytes) {
        let _ = rewriter.rewrite(now(), 1, RATE, &mut packet);
    }
    rewriter
}

fn rtp(bytes: &mut [u8]) -> bool {
    let (mut rewriter, mut listener, now) = (stream(1), Listener::new(RATE), now());
    let Ok(mut packet) = Packet::parse(bytes) else { return false };
    for press in listener.handle_packet(now, packet.timestamp(), packet.payload()).into_iter().flatten() {
        assert!(format!("{press:?}").len() > 4);
    }
    let length = packet.payload().len();
    if rewriter.rewrite(now + Duration::from_secs(1), 2, RATE, &mut packet).is_ok() {
        assert_eq!((packet.ssrc(), packet.sequence(), packet.payload().len()), (1, 0, length));
    }
    true
}

fn report(bytes: &mut [u8]) -> bool {
    let (sent, received) = (stream(1), stream(2));
    let Ok(length) = report::rewrite(report::Streams { sent: Some(&sent), received: Some(&received), cname: 7 }, bytes) else {
        return false;
    };
    assert!(length <= bytes.len() && (length == 0 || rtcp::parse(&bytes[..length]).is_ok()));
    true
}
