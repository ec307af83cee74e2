//! A seeded mutator that knows a little of the formats: besides bits and ranges it moves lines between messages, puts extremes in the
//! place of numbers, and uses the words of the protocol. It runs on stable; libFuzzer brings its own.

/// Longest input made, a little above the longest message that is read.
const LONGEST: usize = 70_000;

/// Words of SIP: header names in their forms, values that carry structure, and what has broken parsers before.
#[rustfmt::skip]
pub const SIP: &[&[u8]] = &[
    b"Via: ", b"v: ", b"From: ", b"f: ", b"To: ", b"t: ", b"Call-ID: ", b"i: ", b"CSeq: ", b"Contact: ", b"m: ", b"Max-Forwards: ",
    b"Content-Length: ", b"l: ", b"Content-Length : 0", b"Content-Type: ", b"Route: ", b"Record-Route: ", b"Require: ", b"RAck: ",
    b"Event: ", b"Reason: ", b"Replaces: ", b"Session-Expires: ", b"Authorization: ", b"Path: ", b"Expires: ", b"X-Other: ",
    b"SIP/2.0/UDP ", b"SIP/2.0/TLS ", b"SIP/2.0", b"SIP/3.0", b" SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n", b"SIP/2.0 100 \r\n",
    b"INVITE ", b"REGISTER ", b"ACK ", b"OPTIONS ", b"PRACK ", b"Digest ", b"username=\"", b"realm=\"", b"nc=00000001", b"qop=auth",
    b"sip:", b"sips:", b"tel:+1", b"urn:service:sos", b"sip:a@[::1]:5060", b"<sip:a@h>", b"\"A\" <sip:a@h;lr>;tag=1", b"[::]", b"[::ffff:1.2.3.4]",
    b";branch=z9hG4bK1", b";rport", b";received=1.2.3.4", b";tag=x", b";lr", b";maddr=", b";transport=tcp", b";q=0.5", b";expires=0", b";to-tag=a;from-tag=b", b";refresher=uac", b";cause=200;text=\"x\"",
    b"%00", b"%", b"%4", b"%zz", b"%0d%0a", b"\\\"", b"\\", b"\"", b"\"\"", b"<", b">", b"<>", b",", b",,", b";", b";;", b"=", b"@", b"?", b"?Route=%3Csip:e%3E",
    b"\r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"\r", b"\n", b"\0", b"\t", b" ", b"  ", b":", b"/", b"\xff", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\xe2\x80\xae",
];

/// Words of SDP.
#[rustfmt::skip]
pub const SDP: &[&[u8]] = &[
    b"v=0\r\n", b"o=- 1 1 IN IP4 192.0.2.1\r\n", b"s=-\r\n", b"t=0 0\r\n", b"c=IN IP4 0.0.0.0\r\n", b"c=IN IP6 ::1\r\n", b"c=IN IP4 224.2.1.1/127/3\r\n",
    b"m=audio 4000 RTP/AVP 0 8 101\r\n", b"m=video 0 RTP/AVP 31\r\n", b"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    b"a=rtpmap:", b"a=rtpmap:111 opus/48000/2\r\n", b"a=rtpmap:101 telephone-event/8000\r\n", b"a=fmtp:", b"a=fmtp:101 0-15\r\n", b"a=ptime:", b"a=ptime:0\r\n", b"a=maxptime:",
    b"a=sendrecv\r\n", b"a=sendonly\r\n", b"a=recvonly\r\n", b"a=inactive\r\n", b"a=rtcp:", b"a=rtcp-mux\r\n", b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:", b"a=setup:actpass\r\n",
    b"a=fingerprint:sha-256 ", b"a=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\n", b"a=ice-ufrag:", b"a=ice-pwd:", b"a=group:BUNDLE 0 1\r\n", b"a=mid:", b"b=AS:", b"b=TIAS:", b"a=rtcp-fb:* nack\r\n",
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"=", b":", b"/", b";", b"a=", b"m=", b"c=", b"IN IP4 ", b"RTP/SAVP", b"\xff",
];

/// Words of CAS messages, in JSON and in XML.
#[rustfmt::skip]
pub const CAS: &[&[u8]] = &[
    b"{", b"}", b"[", b"]", b",", b":", b"\"", b"{\"a\":", b"[[[[[[[[", b"null", b"true", b"-0.0", b"1e308", b"\\u0000", b"\\ud800", b"\\u2028", b"\"body\":{}",
    b"\"topic\":\"tel\"", b"\"message\":\"hold\"", b"\"request-id\":1", b"\"response\":0", b"\"pending-id\":1", b"\"prefer\":\"wait=1\"", b"\"call\":\"1\"",
    b"<cas>", b"</cas>", b"<a>", b"</a>", b"<a/>", b"<_ key=\"\">", b"<_ key-json='\"\\u0000\"'/>", b" type=\"number\"", b" type=\"array\"", b" type=\"object\"", b" type=\"json-string\"",
    b"<!DOCTYPE a [<!ENTITY b \"c\">]>", b"&b;", b"&amp;", b"&#0;", b"&#xD;", b"&#10;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?xml version=\"1.0\"?>", b"\xef\xbb\xbf",
    b"\0", b"\r\n", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbf\xbe", b"\xf0\x9f\x98\x80",
];

const NUMBERS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"+1",
    b"00000000000000000001",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999999999999",
    b"1e9",
    b"0x10",
    b"",
];

/// A generator of random numbers (splitmix64): small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below the bound; 0 for the bound 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let scaled = u128::from(self.number()) * bound as u128;
        (scaled >> 64) as usize
    }

    /// Returns one of the items; none of an empty list.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Returns a range of at most `most` within a length.
    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(most) + 1)
    }
}

/// Makes `out` a mutation of the seed, with parts of another seed.
pub fn mutate(random: &mut Random, dictionary: &[&[u8]], seed: &[u8], other: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(seed);
    for _ in 0..=random.below(4) {
        let is_text = !dictionary.is_empty();
        match random.below(if is_text { 16 } else { 9 }) {
            0 => flip(random, out),
            1 => set(random, out),
            2 => drop(out.drain(random.range(out.len(), 64))),
            3 => copy(random, out),
            4 => splice(random, other, out),
            5 => out.truncate(random.below(out.len() + 1)),
            6 => word(random, out),
            7 => repeat(random, dictionary, out),
            8 => insert(random, out, other),
            9 | 10 => insert_word(random, dictionary, out),
            11 | 12 => number(random, out),
            13 => lines(random, other, out),
            14 => swap_lines(random, out),
            _ => change_case(random, out),
        }
        out.truncate(LONGEST);
    }
}

fn flip(random: &mut Random, out: &mut [u8]) {
    let at = random.below(out.len());
    if let Some(byte) = out.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn set(random: &mut Random, out: &mut [u8]) {
    let at = random.below(out.len());
    let value = *random.choose(b"\0\x01\t\r\n \"%,:;<=>?@[\\]\x7f\x80\xff").unwrap_or(&0);
    if let Some(byte) = out.get_mut(at) {
        *byte = value;
    }
}

/// Puts a part of the message somewhere else in it once more.
fn copy(random: &mut Random, out: &mut Vec<u8>) {
    let part = out.get(random.range(out.len(), 256)).unwrap_or_default().to_vec();
    put(random.below(out.len() + 1), &part, out);
}

/// Ends the message as the other one ends.
fn splice(random: &mut Random, other: &[u8], out: &mut Vec<u8>) {
    out.truncate(random.below(out.len() + 1));
    out.extend_from_slice(other.get(random.below(other.len() + 1)..).unwrap_or_default());
}

/// Puts an extreme of two or four bytes in: lengths and counts of binary formats.
fn word(random: &mut Random, out: &mut [u8]) {
    let value = *random.choose(&[0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, u32::MAX]).unwrap_or(&0);
    let width = if random.below(2) == 0 { 2 } else { 4 };
    let at = random.below(out.len());
    for (byte, new) in out.iter_mut().skip(at).zip(value.to_be_bytes().into_iter().skip(4 - width)) {
        *byte = new;
    }
}

/// Repeats a part or a word many times; seldom so often that the message is too long.
fn repeat(random: &mut Random, dictionary: &[&[u8]], out: &mut Vec<u8>) {
    let own = out.get(random.range(out.len(), 16)).unwrap_or_default().to_vec();
    let part = random.choose(dictionary).filter(|_| own.len().is_multiple_of(2)).map_or(own, |word| word.to_vec());
    let times = if random.below(1000) == 0 { 20_000 } else { random.below(200) };
    put(random.below(out.len() + 1), &part.repeat(times.min(LONGEST / part.len().max(1))), out);
}

fn insert(random: &mut Random, out: &mut Vec<u8>, other: &[u8]) {
    let part = other.get(random.range(other.len(), 128)).unwrap_or_default();
    put(random.below(out.len() + 1), part, out);
}

fn insert_word(random: &mut Random, dictionary: &[&[u8]], out: &mut Vec<u8>) {
    let word = random.choose(dictionary).copied().unwrap_or_default();
    put(random.below(out.len() + 1), word, out);
}

/// Puts an extreme in the place of a number.
fn number(random: &mut Random, out: &mut Vec<u8>) {
    let from = random.below(out.len() + 1);
    let Some(start) = out.iter().skip(from).position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let end = out.iter().skip(start).position(|b| !b.is_ascii_digit()).map_or(out.len(), |length| start + length);
    out.splice(start..end, random.choose(NUMBERS).copied().unwrap_or_default().iter().copied());
}

/// Doubles or removes a line, or takes one of the other message.
fn lines(random: &mut Random, other: &[u8], out: &mut Vec<u8>) {
    let line = any_line(random, out);
    match random.below(3) {
        0 => {
            let copy = out.get(line.clone()).unwrap_or_default().to_vec();
            put(line.start, &copy, out);
        }
        1 => drop(out.drain(line)),
        _ => put(line.start, other.get(any_line(random, other)).unwrap_or_default(), out),
    }
}

fn swap_lines(random: &mut Random, out: &mut Vec<u8>) {
    let one = any_line(random, out);
    let text = out.drain(one).collect::<Vec<_>>();
    let at = any_line(random, out).start;
    put(at, &text, out);
}

/// Returns the span of a line with its end.
fn any_line(random: &mut Random, text: &[u8]) -> std::ops::Range<usize> {
    let middle = random.below(text.len());
    let start = text.iter().take(middle).rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let end = text.iter().skip(middle).position(|b| *b == b'\n').map_or(text.len(), |at| middle + at + 1);
    start..end
}

fn change_case(random: &mut Random, out: &mut [u8]) {
    let part = random.range(out.len(), 16);
    for byte in out.get_mut(part).unwrap_or_default() {
        *byte ^= if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
    }
}

fn put(at: usize, part: &[u8], out: &mut Vec<u8>) {
    if out.len() + part.len() <= LONGEST {
        out.splice(at..at, part.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_every_input_differs_from_its_seed_mostly() {
        let run = |seed| {
            let (mut random, mut out) = (Random(seed), Vec::new());
            let mut make = |_| {
                mutate(&mut random, SIP, b"OPTIONS sip:a@h SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n", b"m: <sip:b@h>\r\n", &mut out);
                out.clone()
            };
            (0..200).map(&mut make).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let made = run(3);
        assert!(made.iter().all(|out| out.len() <= LONGEST));
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        assert!(distinct.len() > 150, "{}", distinct.len());
    }

    #[test]
    fn nothing_is_out_of_range_for_an_empty_seed() {
        let (mut random, mut out) = (Random(9), Vec::new());
        for _ in 0..10_000 {
            mutate(&mut random, SIP, b"", b"", &mut out);
            mutate(&mut random, &[], b"", b"", &mut out);
        }
    }
}
