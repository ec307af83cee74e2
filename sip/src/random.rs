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
        format!("{:016x}", self.number()).into()
    }
}
