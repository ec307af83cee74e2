//! RTCP compound packets (RFC 3550 §6): as much as statistics need. Sender and receiver reports are read; SDES, BYE, XR,
//! feedback and unknown types are stepped over by their length. A reduced-size packet (RFC 5506) is a compound of one.

/// Why octets are no RTCP compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A packet ends after the datagram, or inside its own fixed part.
    #[error("a packet is shorter than its length or type says")]
    Length,
    /// Another version than 2, or a type that is not RTCP's.
    #[error("not RTCP")]
    Type,
}

/// A compound whose packets lie within the datagram.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a>(&'a [u8]);

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// SR.
    SenderReport {
        /// Who sends.
        ssrc: u32,
        /// The middle 32 bits of its NTP time.
        ntp: u32,
        /// What it received.
        blocks: Blocks<'a>,
    },
    /// RR.
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// What it received.
        blocks: Blocks<'a>,
    },
    /// BYE.
    Bye,
    /// Another type.
    Other(u8),
}

/// Report blocks, at most 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

/// What a receiver says of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The source it is about.
    pub ssrc: u32,
    /// Loss since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; duplicates can make it negative.
    pub lost: i32,
    /// Highest sequence number received, and how often it began anew before (upper 16 bits).
    pub highest: u32,
    /// Jitter in units of the source's clock.
    pub jitter: u32,
    /// NTP time of the last SR it saw (middle 32 bits), 0 when none.
    pub last_sr: u32,
    /// Time since that SR in 65536ths of a second.
    pub delay_since_last_sr: u32,
}

/// Checks that every packet of the datagram has a right version, type and length.
///
/// # Errors
/// [`Error`] when one has not; then nothing of it is used.
pub fn parse(bytes: &[u8]) -> Result<Compound<'_>, Error> {
    let mut rest = bytes;
    loop {
        let (packet, next) = split(rest)?;
        if read(packet).is_none() {
            return Err(Error::Length);
        }
        if next.is_empty() {
            return Ok(Compound(bytes));
        }
        rest = next;
    }
}

/// The SDES packet that says whose a source is: a CNAME alone, as the SDP has it ([`cname`](crate::sdp::source::cname)).
#[must_use]
pub fn description(ssrc: u32, cname: u64) -> [u8; 28] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0; 28];
    let [_, _, _, _, source @ .., _, _] = &mut bytes;
    let [s0, s1, s2, s3, kind, length, digits @ ..] = source;
    [*s0, *s1, *s2, *s3] = ssrc.to_be_bytes();
    (*kind, *length) = (1, 16);
    for (digit, shift) in digits.iter_mut().zip((0..16).rev()) {
        *digit = DIGITS.get((cname >> (4 * shift) & 0xf) as usize).copied().unwrap_or_default();
    }
    let [first, kind, high, low, ..] = &mut bytes;
    [*first, *kind, *high, *low] = [0x81, 202, 0, 6];
    bytes
}

/// A Full Intra Request (RFC 5104 §4.3.1) of a source to another. `sequence` is one higher for each new request, and the same when one
/// is repeated.
#[must_use]
pub fn full_intra_request(ssrc: u32, media: u32, sequence: u8) -> [u8; 20] {
    let words = [0x84ce_0004, ssrc, 0, media, u32::from(sequence) << 24];
    let mut bytes = [0; 20];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
    bytes
}

/// The first packet, and what follows it.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let [first, kind, high, low, ..] = *bytes else {
        return Err(Error::Length);
    };
    if first >> 6 != 2 || !(192..=223).contains(&kind) {
        return Err(Error::Type);
    }
    let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
    bytes.split_at_checked(length).ok_or(Error::Length)
}

fn read(packet: &[u8]) -> Option<Packet<'_>> {
    let [first, kind, ..] = *packet else {
        return None;
    };
    let blocks = |at: usize| Some(Blocks(packet.get(at..at + usize::from(first & 0x1f) * BLOCK)?));
    Some(match kind {
        200 => Packet::SenderReport { ssrc: word(packet, 4)?, ntp: ntp_middle(packet)?, blocks: blocks(28)? },
        201 => Packet::ReceiverReport { ssrc: word(packet, 4)?, blocks: blocks(8)? },
        203 => Packet::Bye,
        other => Packet::Other(other),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

fn ntp_middle(packet: &[u8]) -> Option<u32> {
    Some(word(packet, 8)? << 16 | word(packet, 12)? >> 16)
}

/// Most sources that are looked at of one compound.
pub(crate) const SOURCES: usize = 8;

/// Octets of a report block.
const BLOCK: usize = 24;

impl<'a> Compound<'a> {
    /// Its packets.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (packet, next) = split(rest).ok()?;
            rest = next;
            read(packet)
        })
    }

    /// The sources that it is from or about, senders and media, of which the first [`SOURCES`] are told.
    pub(crate) fn sources(&self) -> [Option<u32>; SOURCES] {
        let mut sources = [None; SOURCES];
        let mut free = sources.iter_mut();
        let mut add = |ssrc: Option<u32>| {
            if let Some((ssrc, place)) = ssrc.filter(|ssrc| *ssrc != 0).zip(free.next()) {
                *place = Some(ssrc);
            }
        };
        let mut rest = self.0;
        while let Ok((packet, next)) = split(rest) {
            rest = next;
            add(word(packet, 4));
            match packet.get(1) {
                // Feedback names the media source, a full intra request only in its entry (RFC 4585 §6.1, RFC 5104 §4.3.1).
                Some(205 | 206) => [8, 12].map(|at| word(packet, at)).into_iter().for_each(&mut add),
                Some(200) => add(word(packet, 28)),
                Some(201) => add(word(packet, 8)),
                Some(_) | None => {}
            }
        }
        sources
    }
}

impl Blocks<'_> {
    /// The blocks.
    pub fn iter(&self) -> impl Iterator<Item = Block> {
        self.0.chunks_exact(BLOCK).filter_map(|block| {
            let loss = word(block, 4)?;
            Some(Block {
                ssrc: word(block, 0)?,
                fraction_lost: (loss >> 24) as u8,
                lost: ((loss << 8) as i32) >> 8, // 24 bits with a sign
                highest: word(block, 8)?,
                jitter: word(block, 12)?,
                last_sr: word(block, 16)?,
                delay_since_last_sr: word(block, 20)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with its length filled in.
    fn packet(count: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let words = (rest.len() / 4) as u16;
        let mut bytes = vec![0x80 | count, kind];
        bytes.extend_from_slice(&words.to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    fn block() -> Vec<u8> {
        [7_u32, 0x40ff_fffe, 0x0001_0005, 80, 0xaabb_ccdd, 65536].iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn a_compound_is_read_packet_by_packet() {
        let mut bytes = packet(1, 200, &[&[0, 0, 0, 9, 1, 2, 0xaa, 0xbb, 0xcc, 0xdd, 3, 4][..], &[0; 12], &block()].concat());
        bytes.extend(packet(0, 201, &[0, 0, 0, 9]));
        bytes.extend(packet(1, 202, b"abcdefgh"));
        bytes.extend(packet(0, 203, b""));
        bytes.extend(packet(15, 206, b"feedback"));
        let packets: Vec<_> = parse(&bytes).unwrap().packets().collect();
        let [Packet::SenderReport { ssrc: 9, ntp: 0xaabb_ccdd, blocks }, Packet::ReceiverReport { .. }, rest @ ..] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert_eq!(rest, [Packet::Other(202), Packet::Bye, Packet::Other(206)]);
        let expected = Block {
            ssrc: 7,
            fraction_lost: 64,
            lost: -2,
            highest: 0x0001_0005,
            jitter: 80,
            last_sr: 0xaabb_ccdd,
            delay_since_last_sr: 65536,
        };
        assert_eq!(blocks.iter().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        // S18: CVE-2021-43804, CVE-2021-43845, CVE-2022-24786
        let refused = |bytes: &[u8]| parse(bytes).map(|_| ()).unwrap_err();
        assert_eq!(refused(b""), Error::Length);
        assert_eq!(refused(&[0x80, 200, 0]), Error::Length);
        assert_eq!(refused(&[0x80, 203, 0xff, 0xff]), Error::Length);
        assert_eq!(refused(&packet(1, 201, &[0, 0, 0, 9])), Error::Length, "a block announced, none there");
        assert_eq!(refused(&packet(31, 201, &[0; 28])), Error::Length);
        assert_eq!(refused(&packet(0, 200, &[0; 20])), Error::Length, "no room for the sender's part");
        assert_eq!(refused(&packet(0, 201, b"")), Error::Length);
        assert_eq!(refused(&[0x00, 200, 0, 0]), Error::Type);
        assert_eq!(refused(&[0x80, 96, 0, 0]), Error::Type);
        let mut trailing = packet(0, 203, b"");
        trailing.push(0);
        assert_eq!(refused(&trailing), Error::Length);
    }
}
