//! Unguessable names: tags, branches, Call-IDs. The generator is seeded by the host, so that a test replays.

use bytestring::ByteString;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// A seeded generator.
#[derive(Debug)]
pub struct Random(ChaCha12Rng);

impl Random {
    /// Starts from a seed; the host takes it from the operating system.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// Returns 64 random bits.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    /// Returns 16 random hexadecimal digits.
    pub fn token(&mut self) -> ByteString {
        let mut text = String::with_capacity(16);
        push_hexadecimal(&mut text, self.number());
        text.into()
    }
}

/// Writes sixteen hexadecimal digits, as each tag, branch and Call-ID of ours has them.
pub(crate) fn push_hexadecimal(text: &mut String, number: u64) {
    text.extend((0..16).rev().map(|digit| {
        let value = u8::try_from(number >> (digit * 4) & 15).expect("four bits fit");
        char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_sixteen_digits() {
        for number in [0, 1, 0xdead_beef, u64::MAX, 0x0123_4567_89ab_cdef] {
            let mut text = String::new();
            push_hexadecimal(&mut text, number);
            assert_eq!(text, format!("{number:016x}"));
        }
    }
}
