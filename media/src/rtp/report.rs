//! RTCP between two streams whose numbers are rewritten ([`rewrite`](super::rewrite)): reports and feedback are edited in place so
//! that each side sees its own numbers (RFC 3550 §6.4, RFC 4585 §6, RFC 5104 §4.3, REMB). What cannot be mapped is taken out.

use super::{rewrite::Rewriter, rtcp};

/// The two streams of a leg's RTCP: what its sender sends, and what it receives.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// The stream that the sender of the RTCP feeds, towards the one the RTCP goes to, if it has begun.
    pub sent: Option<&'a Rewriter>,
    /// The stream that the sender of the RTCP receives, fed by the one the RTCP goes to, if it has begun.
    pub received: Option<&'a Rewriter>,
    /// What we are called by the one the RTCP goes to: the CNAME of `sent` whatever feeds it (RFC 3550 §6.5.1).
    pub cname: u64,
}

/// Edits a compound for the other side and returns the octets that are left, from the beginning; 0 when nothing is left to send.
/// BYE is taken out, since the end of a source is not the end of the stream.
///
/// # Errors
/// [`rtcp::Error`] when it is no compound; then it is unchanged.
pub fn rewrite(streams: Streams<'_>, bytes: &mut [u8]) -> Result<usize, rtcp::Error> {
    rtcp::parse(bytes)?;
    Ok(each(bytes, |packet| streams.packet(packet)))
}

/// Keeps of a compound, the first `length` octets of `buffer`, what its sender says of the pictures that it receives (RTPFB and PSFB) for
/// the one who sends them, who knows the sender of the RTCP as `sender`. Returns the octets that are left, behind an empty receiver
/// report (RFC 4585 §3.1); 0 when there is nothing to say, or no room for it.
///
/// # Errors
/// [`rtcp::Error`] when it is no compound; then it is unchanged.
pub fn feedback(sender: u32, received: &Rewriter, buffer: &mut [u8], length: usize) -> Result<usize, rtcp::Error> {
    let bytes = buffer.get_mut(..length).ok_or(rtcp::Error::Length)?;
    rtcp::parse(bytes)?;
    let streams = Streams { sent: None, received: Some(received), cname: 0 };
    let kept = each(bytes, |packet| {
        let [first, kind @ (RTPFB | PSFB), ..] = *packet else { return None };
        let kept = streams.feedback(packet, kind, first & 0x1f)?;
        put(packet, 4, sender)?;
        Some(kept)
    });
    if kept == 0 || buffer.len() < kept + REPORT.len() + 4 {
        return Ok(0);
    }
    buffer.copy_within(..kept, 8);
    buffer[..4].copy_from_slice(&REPORT);
    buffer[4..8].copy_from_slice(&sender.to_be_bytes());
    Ok(kept + 8)
}

/// Edits each packet of a compound and puts together what is kept of them.
fn each(bytes: &mut [u8], mut edit: impl FnMut(&mut [u8]) -> Option<usize>) -> usize {
    let (mut read, mut write) = (0, 0);
    while let Some([_, _, high, low]) = bytes.get(read..).and_then(<[u8]>::first_chunk::<4>).copied() {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let Some(packet) = bytes.get_mut(read..read + length) else { break };
        let kept = unpad(packet).and_then(|length| edit(packet.get_mut(..length)?)).unwrap_or(0);
        bytes.copy_within(read..read + kept, write);
        read += length;
        write += kept;
    }
    write
}

/// The beginning of an empty receiver report.
const REPORT: [u8; 4] = [0x80, RR, 0, 1];
/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1).
const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
const RTPFB: u8 = 205;
const PSFB: u8 = 206;
/// Octets of a report block.
const BLOCK: usize = 24;

impl Streams<'_> {
    /// Edits one packet; returns the octets of it to keep, none to take it out.
    fn packet(self, packet: &mut [u8]) -> Option<usize> {
        let [first, kind, ..] = *packet else { return None };
        let (count, length) = (first & 0x1f, packet.len());
        match kind {
            SR => self.sender_report(packet, usize::from(count)),
            RR => {
                self.sender(packet, 4)?;
                self.blocks(packet, 8, usize::from(count))
            }
            SDES => {
                // One that receives only keeps its SSRC; a name that has no room for ours is left out.
                let ssrc = self.sent.map_or(word(packet, 4)?, Rewriter::ssrc);
                let description = rtcp::description(ssrc, self.cname);
                packet.first_chunk_mut().map(|chunk| *chunk = description)?;
                Some(description.len())
            }
            BYE => None,
            RTPFB | PSFB => self.feedback(packet, kind, count),
            _ => {
                self.sender(packet, 4)?;
                Some(length)
            }
        }
    }

    fn sender_report(self, packet: &mut [u8], blocks: usize) -> Option<usize> {
        let sent = self.sent.filter(|sent| word(packet, 4) == sent.source_ssrc())?;
        put(packet, 4, sent.ssrc())?;
        put(packet, 16, sent.timestamp(word(packet, 16)?)?)?;
        let (packets, octets) = sent.counts();
        put(packet, 20, packets)?;
        put(packet, 24, octets)?;
        self.blocks(packet, 28, blocks)
    }

    /// Writes our name of the sender. One that has a stream here but has sent none of it has the stream's name too; one that has
    /// none keeps its own.
    fn sender(self, packet: &mut [u8], at: usize) -> Option<()> {
        self.sent.map_or(Some(()), |sent| put(packet, at, sent.ssrc()))
    }

    /// Maps the report blocks, leaving out those about other streams or former sources.
    fn blocks(self, packet: &mut [u8], start: usize, count: usize) -> Option<usize> {
        let mut kept = 0usize;
        let end = start + count * BLOCK;
        for at in (start..end).step_by(BLOCK) {
            let (ssrc, highest) = (word(packet, at)?, word(packet, at + 8)?);
            let received = self.received.filter(|received| ssrc == received.ssrc());
            let named = received.and_then(|received| received.source_sequence(highest as u16).zip(received.source_ssrc()));
            let Some((sequence, source)) = named else { continue };
            put(packet, at, source)?;
            put(packet, at + 8, highest & 0xffff_0000 | u32::from(sequence))?;
            packet.copy_within(at..at + BLOCK, start + kept * BLOCK);
            kept += 1;
        }
        let tail = packet.len().checked_sub(end)?;
        packet.copy_within(end.., start + kept * BLOCK);
        let first = packet.first_mut()?;
        *first = *first & 0xe0 | kept as u8;
        shorten(packet, start + kept * BLOCK + tail)
    }

    fn feedback(self, packet: &mut [u8], kind: u8, format: u8) -> Option<usize> {
        let (media, length) = (word(packet, 8)?, packet.len());
        self.sender(packet, 4)?;
        let received = self.received?;
        let source = received.source_ssrc()?;
        match (kind, format) {
            (RTPFB, 1) if media == received.ssrc() => {
                put(packet, 8, source)?;
                nack(received, packet)
            }
            // TMMBR, TMMBN and FIR name the stream in each of their entries, and 0 in the header (RFC 5104 §4.2.1, §4.3.1).
            (RTPFB, 3 | 4) | (PSFB, 4) => entries(received, packet, 12, 8),
            // REMB: "REMB", a count and a rate, then SSRCs.
            (PSFB, 15) if packet.get(12..16) == Some(b"REMB") => entries(received, packet, 20, 4),
            (_, _) if media == received.ssrc() => {
                put(packet, 8, source)?;
                Some(length)
            }
            (_, _) => None,
        }
    }
}

/// Maps the numbers of a generic NACK (RFC 4585 §6.2.1), leaving out what a former source sent.
fn nack(received: &Rewriter, packet: &mut [u8]) -> Option<usize> {
    let mut end = 12;
    for at in (12..packet.len()).step_by(4) {
        let entry = word(packet, at)?;
        let Some((pid, mask)) = lost(received, (entry >> 16) as u16, entry as u16) else { continue };
        put(packet, end, u32::from(pid) << 16 | u32::from(mask))?;
        end += 4;
    }
    if end == 12 { None } else { shorten(packet, end) }
}

/// Maps a packet and the sixteen after it, as far as they are the present source's.
fn lost(received: &Rewriter, pid: u16, mask: u16) -> Option<(u16, u16)> {
    let is_ours = |bit: &u16| received.source_sequence(pid.wrapping_add(bit + 1)).is_some();
    let mask = (0..16).filter(|bit| mask & 1 << bit != 0).filter(is_ours).fold(0u16, |sum, bit| sum | 1 << bit);
    if let Some(pid) = received.source_sequence(pid) {
        return Some((pid, mask));
    }
    let first = u16::try_from(mask.trailing_zeros()).ok().filter(|_| mask != 0)?;
    let pid = received.source_sequence(pid.wrapping_add(first + 1))?;
    Some((pid, mask.checked_shr(u32::from(first) + 1).unwrap_or(0)))
}

/// Maps the SSRC at the beginning of each entry that is about the stream.
fn entries(received: &Rewriter, packet: &mut [u8], start: usize, size: usize) -> Option<usize> {
    let source = received.source_ssrc()?;
    let mut any = false;
    for at in (start..packet.len()).step_by(size) {
        if word(packet, at) == Some(received.ssrc()) {
            put(packet, at, source)?;
            any = true;
        }
    }
    any.then_some(packet.len())
}

/// Takes the padding off (RFC 3550 §6.4.1); returns the length without it, none when it is longer than the packet.
fn unpad(packet: &mut [u8]) -> Option<usize> {
    let padding = packet.last().filter(|_| packet.first().is_some_and(|first| first & 0x20 != 0)).copied().map_or(0, usize::from);
    let length = packet.len().checked_sub(padding).filter(|length| *length >= 8 && length.is_multiple_of(4))?;
    *packet.first_mut()? &= !0x20;
    shorten(packet, length)
}

/// Writes the length into the header of a packet that shrank.
fn shorten(packet: &mut [u8], length: usize) -> Option<usize> {
    let words = u16::try_from((length / 4).checked_sub(1)?).ok()?;
    packet.get_mut(2..4)?.copy_from_slice(&words.to_be_bytes());
    Some(length)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

fn put(bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{
        super::{
            Packet,
            rewrite::{Identity, Marker},
        },
        *,
    };

    const ANN: u32 = 0xA;
    const BOB: u32 = 0xB;
    const TO_ANN: u32 = 0x1A;
    const TO_BOB: u32 = 0x1B;
    const CNAME: u64 = 0x0123_4567_89ab_cdef;

    #[expect(clippy::disallowed_methods, reason = "an instant can only be had from the clock")]
    fn now() -> Instant {
        Instant::now()
    }

    fn feed(rewriter: &mut Rewriter, ssrc: u32, sequence: u16, timestamp: u32) {
        let mut bytes = vec![0x80, 0];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([timestamp, ssrc].map(u32::to_be_bytes).concat());
        bytes.extend([0; 160]);
        rewriter.rewrite(now(), ssrc, 8000, &mut Packet::parse(&mut bytes).unwrap()).unwrap();
    }

    /// Ann's stream to Bob: 100 packets of an old device of hers, then hers from number 5000. Bob's stream to Ann from number 1.
    fn both() -> (Rewriter, Rewriter) {
        let stream = |ssrc, sequence| Rewriter::new(Identity { ssrc, sequence, timestamp: 0 }, Marker::Talkspurt);
        let (mut to_bob, mut to_ann) = (stream(TO_BOB, 1000), stream(TO_ANN, 60000));
        (0..100).for_each(|n| feed(&mut to_bob, 0xDEAD, n, u32::from(n) * 160));
        (0..100).for_each(|n| feed(&mut to_bob, ANN, 5000 + n, 7_000_000 + u32::from(n) * 160));
        (0..50).for_each(|n| feed(&mut to_ann, BOB, 1 + n, u32::from(n) * 160));
        (to_bob, to_ann)
    }

    fn words(first: u8, kind: u8, words: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0x80 | first, kind, 0, words.len() as u8];
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        bytes
    }

    /// What Ann gets of Bob's RTCP.
    fn from_bob(mut bytes: Vec<u8>) -> Vec<u8> {
        let (to_bob, to_ann) = both();
        let length = rewrite(Streams { sent: Some(&to_ann), received: Some(&to_bob), cname: CNAME }, &mut bytes).unwrap();
        bytes.truncate(length);
        assert!(bytes.is_empty() || rtcp::parse(&bytes).is_ok());
        bytes
    }

    #[test]
    fn sender_report_has_the_streams_numbers() {
        let report = words(1, SR, &[BOB, 1, 2, 160, 9, 9, TO_BOB, 0, 1199, 0, 0, 0]);
        assert_eq!(from_bob(report), words(1, SR, &[TO_ANN, 1, 2, 160, 50, 8000, ANN, 0, 5099, 0, 0, 0]));
        assert_eq!(from_bob(words(0, SR, &[0xDEAD, 1, 2, 160, 9, 9])), b"", "a former source's clock says nothing");
    }

    #[test]
    fn reports_about_others_are_left_out() {
        let report = words(2, RR, &[BOB, 0x77, 0, 1199, 0, 0, 0, TO_BOB, 5, 1150, 0, 0, 0]);
        assert_eq!(from_bob(report), words(1, RR, &[TO_ANN, ANN, 5, 5050, 0, 0, 0]));
        assert_eq!(from_bob(words(1, RR, &[BOB, TO_BOB, 5, 1050, 0, 0, 0])), words(0, RR, &[TO_ANN]), "what the former source sent");
    }

    #[test]
    fn nack_names_the_source_s_own_packets() {
        let nack = |entry: u32| from_bob(words(1, RTPFB, &[BOB, TO_BOB, entry]));
        assert_eq!(nack(1150 << 16 | 3), words(1, RTPFB, &[TO_ANN, ANN, 5050 << 16 | 3]));
        assert_eq!(nack(1050 << 16), b"", "the former device cannot send it again");
        assert_eq!(nack(1098 << 16 | 0b1110), words(1, RTPFB, &[TO_ANN, ANN, 5000 << 16 | 0b11]), "only the part after the switch");
        assert_eq!(nack(1300 << 16), b"", "not sent yet");
        assert_eq!(from_bob(words(1, RTPFB, &[BOB, 0x77, 1150 << 16])), b"");
    }

    #[test]
    fn feedback_on_pictures_reaches_the_source() {
        assert_eq!(from_bob(words(1, PSFB, &[BOB, TO_BOB])), words(1, PSFB, &[TO_ANN, ANN]), "PLI");
        assert_eq!(from_bob(words(4, PSFB, &[BOB, 0, TO_BOB, 1 << 24])), words(4, PSFB, &[TO_ANN, 0, ANN, 1 << 24]), "FIR");
        let remb = |ssrc| [BOB, 0, u32::from_be_bytes(*b"REMB"), 0x0100_ffff, ssrc];
        let mut mapped = remb(ANN);
        mapped[0] = TO_ANN;
        assert_eq!(from_bob(words(15, PSFB, &remb(TO_BOB))), words(15, PSFB, &mapped));
    }

    #[test]
    fn bye_is_taken_out_and_the_rest_closes_up() {
        let mut compound = words(0, RR, &[BOB]);
        compound.extend(words(1, BYE, &[BOB]));
        compound.extend(words(0, RR, &[BOB]));
        assert_eq!(from_bob(compound), words(0, RR, &[TO_ANN]).repeat(2));
        assert_eq!(from_bob(words(0x21, RTPFB, &[BOB, TO_BOB, 1150 << 16, 4])), words(1, RTPFB, &[TO_ANN, ANN, 5050 << 16]), "padding");
    }

    #[test]
    fn name_is_ours_whoever_feeds_the_stream() {
        let description = |chunk: &[u8]| {
            let mut bytes = vec![0x81, SDES, 0, (chunk.len() / 4) as u8];
            bytes.extend_from_slice(chunk);
            bytes
        };
        let named = [&TO_ANN.to_be_bytes()[..], b"\x01\x100123456789abcdef\0\0"].concat();
        let theirs = |name: &[u8]| [&BOB.to_be_bytes()[..], &[1, name.len() as u8], name, &[0, 0][..2 - name.len() % 2]].concat();
        assert_eq!(from_bob(description(&theirs(b"bob@host.test.io"))), description(&named));
        assert_eq!(from_bob(description(&theirs(b"bob with a much longer name than"))), description(&named));
        assert_eq!(from_bob(words(1, SDES, &[BOB, 0x0101_6100])), b"", "there is no room for it");
    }

    #[test]
    fn feedback_of_one_that_only_receives_reaches_the_source() {
        let (to_bob, _) = both();
        let mut request = words(1, PSFB, &[BOB, TO_BOB]);
        let streams = Streams { sent: None, received: Some(&to_bob), cname: CNAME };
        assert_eq!(rewrite(streams, &mut request), Ok(12));
        assert_eq!(request, words(1, PSFB, &[BOB, ANN]));
        let mut report = words(0, SR, &[BOB, 1, 2, 160, 9, 9]);
        assert_eq!(rewrite(streams, &mut report), Ok(0), "it says nothing of a stream that has not begun");
    }

    #[test]
    fn short_and_lying_packets_are_refused_or_taken_out() {
        // S18
        for kind in [SR, RR, SDES, BYE, 204, RTPFB, PSFB, 207] {
            for first in 0..64 {
                for length in 0..12 {
                    let mut bytes = words(first, kind, &[TO_BOB; 12][..length]);
                    let (to_bob, to_ann) = both();
                    let before = bytes.len();
                    if let Ok(length) = rewrite(Streams { sent: Some(&to_ann), received: Some(&to_bob), cname: CNAME }, &mut bytes) {
                        assert!(length <= before && (length == 0 || rtcp::parse(&bytes[..length]).is_ok()), "{first} {kind} {length}");
                    }
                }
            }
        }
    }
}
