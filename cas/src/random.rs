//! Unguessable tokens. The generator is seeded by the host, so that a test replays.

use std::fmt;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// A seeded generator.
#[derive(Debug)]
pub(crate) struct Random(ChaCha12Rng);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// Returns a token of 256 random bits.
    pub(crate) fn token(&mut self) -> Token {
        let mut text = String::with_capacity(64);
        for _ in 0..4 {
            text.push_str(&format!("{:016x}", self.0.next_u64()));
        }
        Token(text.into())
    }
}

/// What a client shows to act as its login: 64 hexadecimal digits. It prints as dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// Takes a token as a client showed it; any text will do, it is only compared.
    #[must_use]
    pub fn shown(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns its text, for the one reply that hands it out.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what is kept of it: a dump of the memory has no token in it.
    pub(crate) fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// SHA-256 of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TokenDigest([u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_256_bits_and_does_not_print() {
        let mut random = Random::new([7; 32]);
        let (one, two) = (random.token(), random.token());
        assert_eq!(one.reveal().len(), 64);
        assert_ne!(one.digest(), two.digest());
        assert_eq!(format!("{one:?}"), "Token(…)");
    }
}
