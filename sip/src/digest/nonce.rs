//! Nonces that prove themselves (RFC 7616 §3.3, §5.4): a time and a number with a MAC over them and, where asked, the client's address. Nothing
//! is kept until one is used.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// Bytes of a nonce: kind 1, time 4, number 4, MAC 12 (96 bits, RFC 2104 §5). A challenge goes to whoever asks: it is short (S11).
const LENGTH: usize = 21;
const HEAD: usize = 9;
/// Characters of one: four for three bytes, with nothing left over, so that it has one spelling.
const TEXT: usize = LENGTH / 3 * 4;
/// The digits of base 64 that need no quoting anywhere (RFC 4648 §5).
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A nonce of ours that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce {
    /// When it was made, in seconds since the start.
    pub(super) issued: u32,
    /// What tells it from others of the same second.
    pub(super) unique: u32,
    /// Whether it was bound to the address it came from.
    pub(super) bound: bool,
}

/// Makes nonces and knows them again.
pub(super) struct Nonces {
    key: Hmac<Sha256>,
    started: Instant,
}

impl Nonces {
    pub(super) fn new(secret: &[u8; 32], realm: &str, started: Instant) -> Self {
        let keyed = |secret: &[u8]| Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
        // The realm is in the key, so that a nonce of one realm is none in another.
        let key = keyed(secret).chain_update(realm).finalize().into_bytes();
        Self { key: keyed(&key), started }
    }

    /// Returns the seconds since the start.
    pub(super) fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.started).as_secs()).unwrap_or(u32::MAX)
    }

    /// Makes a nonce, bound to an address or not.
    pub(super) fn issue(&self, now: Instant, unique: u32, source: Option<IpAddr>) -> [u8; TEXT] {
        let mut bytes = [0; LENGTH];
        bytes[0] = u8::from(source.is_some());
        bytes[1..5].copy_from_slice(&self.seconds(now).to_be_bytes());
        bytes[5..HEAD].copy_from_slice(&unique.to_be_bytes());
        let mac = self.mac(&bytes[..HEAD], source).finalize().into_bytes();
        bytes[HEAD..].copy_from_slice(&mac[..LENGTH - HEAD]);
        to_text(&bytes)
    }

    /// Reads a nonce of ours; none for any other text. Age and binding are not judged.
    pub(super) fn read(&self, text: &str, source: IpAddr) -> Option<Nonce> {
        let bytes = from_text(text)?;
        let (head, tag) = bytes.split_at(HEAD);
        let bound = match head.first() {
            Some(0) => false,
            Some(1) => true,
            Some(_) | None => return None,
        };
        self.mac(head, bound.then_some(source)).verify_truncated_left(tag).ok()?;
        let number = |range| head.get(range).and_then(|b: &[u8]| b.try_into().ok()).map(u32::from_be_bytes);
        Some(Nonce { issued: number(1..5)?, unique: number(5..HEAD)?, bound })
    }

    /// Returns how old a nonce is; none if it is from the future.
    pub(super) fn age(&self, now: Instant, nonce: Nonce) -> Option<Duration> {
        self.seconds(now).checked_sub(nonce.issued).map(|age| Duration::from_secs(age.into()))
    }

    fn mac(&self, head: &[u8], source: Option<IpAddr>) -> Hmac<Sha256> {
        let mac = self.key.clone().chain_update(head);
        match source {
            Some(address) => mac.chain_update(mapped(address).octets()),
            None => mac,
        }
    }
}

/// One form for an IPv4 address and the IPv6 address it is mapped to.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn to_text(bytes: &[u8; LENGTH]) -> [u8; TEXT] {
    let mut text = [0; TEXT];
    for (slots, three) in text.as_chunks_mut::<4>().0.iter_mut().zip(bytes.as_chunks::<3>().0) {
        let [a, b, c] = three.map(u32::from);
        for (slot, shift) in slots.iter_mut().zip([18, 12, 6, 0]) {
            *slot = DIGITS[((a << 16 | b << 8 | c) >> shift & 0x3f) as usize];
        }
    }
    text
}

/// Reads what [`to_text`] writes: a nonce has one spelling, so that its count cannot be taken twice.
fn from_text(text: &str) -> Option<[u8; LENGTH]> {
    let text: &[u8; TEXT] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; LENGTH];
    for (three, slots) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(text.as_chunks::<4>().0) {
        let digit = |slot: u8| DIGITS.iter().position(|digit| *digit == slot).and_then(|at| u32::try_from(at).ok());
        let number = slots.iter().try_fold(0, |number: u32, slot| Some(number << 6 | digit(*slot)?))?;
        let [_, a, b, c] = number.to_be_bytes();
        *three = [a, b, c];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::origin;

    const SECRET: [u8; 32] = [7; 32];

    #[test]
    fn a_nonce_is_known_again_and_a_changed_one_is_not() {
        let start = origin();
        let nonces = Nonces::new(&SECRET, "r", start);
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        let text = nonces.issue(start + Duration::from_secs(9), 5, Some(home));
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(nonces.read(text, home), Some(Nonce { issued: 9, unique: 5, bound: true }));
        assert_eq!(nonces.read(text, "::ffff:192.0.2.1".parse().unwrap()), nonces.read(text, home));
        assert_eq!(nonces.read(text, "192.0.2.2".parse().unwrap()), None);
        for at in 0..text.len() {
            let mut changed = text.to_owned().into_bytes();
            changed[at] ^= 1;
            assert_eq!(nonces.read(&String::from_utf8(changed).unwrap(), home), None, "{at}");
        }
        for text in ["", "0", &text[1..], &text.to_uppercase(), &format!("{text}A"), &text.replacen('A', "=", 1)] {
            assert_eq!(nonces.read(text, home), None, "{text}");
        }
    }

    #[test]
    fn a_nonce_of_another_realm_or_secret_is_none() {
        let start = origin();
        let text = Nonces::new(&SECRET, "r", start).issue(start, 1, None);
        let text = std::str::from_utf8(&text).unwrap();
        let home = "::1".parse().unwrap();
        assert!(Nonces::new(&SECRET, "r", start).read(text, home).is_some());
        assert!(Nonces::new(&SECRET, "s", start).read(text, home).is_none());
        assert!(Nonces::new(&[8; 32], "r", start).read(text, home).is_none());
    }

    #[test]
    fn age_counts_from_the_issue() {
        let start = origin();
        let nonces = Nonces::new(&SECRET, "r", start);
        let nonce = Nonce { issued: 10, unique: 0, bound: false };
        assert_eq!(nonces.age(start + Duration::from_secs(15), nonce), Some(Duration::from_secs(5)));
        assert_eq!(nonces.age(start, nonce), None);
    }
}
