//! `media::rtp`: the view reads and edits only its packet, and what was set is read again.

use media::rtp::{Packet, is_rtcp};

/// Tries one packet.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let _ = is_rtcp(data);
    let mut bytes = data.to_vec();
    let payload = {
        let Ok(mut packet) = Packet::parse(&mut bytes) else { return false };
        let (marker, payload) = (packet.marker(), packet.payload().to_vec());
        packet.set_payload_type(111);
        packet.set_sequence(0xFFFE);
        packet.set_timestamp(u32::MAX);
        packet.set_ssrc(7);
        assert_eq!((packet.payload_type(), packet.sequence(), packet.timestamp(), packet.ssrc()), (111, 0xFFFE, u32::MAX, 7));
        assert_eq!((packet.marker(), packet.payload()), (marker, &payload[..]));
        payload
    };
    assert!(data.get(12..) == bytes.get(12..), "what follows the header is left alone");
    assert!(Packet::parse(&mut bytes).is_ok_and(|packet| packet.payload() == payload));
    true
}
