//! `media::rtp::rtcp`: an accepted compound can be walked to its end, and has at most 31 blocks in a report.

use media::rtp::rtcp::{Packet, parse};

/// Tries one compound.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Ok(compound) = parse(data) else { return false };
    let mut packets = 0;
    for packet in compound.packets() {
        packets += 1;
        match packet {
            Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
                assert!(blocks.iter().count() <= 31);
                assert!(blocks.iter().all(|block| (-(1 << 23)..1 << 23).contains(&block.lost)));
            }
            Packet::Bye | Packet::Other(_) => {}
        }
    }
    assert!((1..=data.len() / 4).contains(&packets));
    true
}
