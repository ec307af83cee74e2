//! `media::rtp::srtp`: what was protected opens to the same packet, once; nothing else opens, and nothing is kept of it (S2, S3).

use media::rtp::srtp::{Keys, MAX_OVERHEAD, PROFILES, Receiver, Sender};

/// Tries one packet behind an octet: bit 0 is the profile, bit 1 is set for RTCP, the others choose the octet to be forged.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Some((choice, packet)) = data.split_first() else { return false };
    let keys = Keys::random(PROFILES[usize::from(choice & 1)], &mut |octets| octets.fill(0x5A));
    let is_rtcp = choice & 2 != 0;
    let (mut sender, mut receiver) = (Sender::new(&keys), Receiver::new(&keys));
    let mut open = |bytes: &mut [u8]| {
        let before = receiver.received();
        let opened = if is_rtcp { receiver.unprotect_rtcp(bytes) } else { receiver.unprotect_rtp(bytes) };
        assert!(opened.is_ok() || receiver.received() == before, "a packet that is refused changes nothing");
        opened
    };
    // Only who has the keys of 0x5A makes one that opens.
    let _ = open(&mut packet.to_vec());
    let mut bytes = [packet, &[0; MAX_OVERHEAD]].concat();
    let protected = if is_rtcp { sender.protect_rtcp(&mut bytes, packet.len()) } else { sender.protect_rtp(&mut bytes, packet.len()) };
    let Ok(length) = protected else {
        assert_eq!(&bytes[..packet.len()], packet, "a packet that is not protected stays as it was");
        return false;
    };
    bytes.truncate(length);
    let mut forged = bytes.clone();
    let at = (usize::from(choice >> 2) * 7) % length;
    forged[at] ^= choice.wrapping_add(1);
    if forged[at] != bytes[at] {
        assert!(open(&mut forged).is_err(), "octet {at} was changed");
    }
    let mut again = bytes.clone();
    let opened = open(&mut bytes).unwrap_or_else(|e| panic!("what we protect is refused: {e}"));
    assert_eq!(&bytes[..opened], packet);
    assert!(open(&mut again).is_err(), "it opens once");
    true
}

/// RTP and RTCP of each profile, with all that a header can have.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let rtp: &[u8] = b"\x80\x00\xff\xfe\0\0\0\xa0\xca\xfe\xba\xbesound";
    let whole: &[u8] = b"\xb1\x60\x80\x01\0\0\0\xa0\0\0\0\x01CSRC\xbe\xde\0\x01EXT.sound\0\0\x03";
    let rtcp: &[u8] = b"\x80\xc9\0\x01\xca\xfe\xba\xbe\x81\xca\0\x02\xca\xfe\xba\xbe\x01\x01a\0";
    let of = |(choice, packet): (u8, &[u8])| [&[choice], packet].concat();
    [(0, rtp), (1, rtp), (4, whole), (9, whole), (2, rtcp), (255, rtcp)].map(of).to_vec()
}
