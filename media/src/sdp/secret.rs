//! What one leg keeps secret: a random value, from which its ICE credentials, SRTP keys and SSRCs are derived, so that a negotiation
//! needs no source of randomness. Each derived value has its own label and number; none tells anything about another.

use aws_lc_rs::hmac;

use super::source::Sources;
use crate::{port::webrtc::Credentials, rtp::srtp};

/// The random value of one leg.
#[derive(Clone, Default)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Takes 32 octets of a cryptographic generator.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The ICE credentials of a generation; a restart begins a new one. The user name fragment says which media thread the leg
    /// lives on.
    pub(super) fn credentials(&self, generation: u32, thread: u16) -> Credentials {
        let mut parts = 0;
        Credentials::generate(thread, &mut |octets| self.fill(b"ice", generation, &mut parts, octets))
    }

    /// The key with which a stream of ours is protected.
    pub(super) fn key(&self, profile: srtp::Profile, stream: usize) -> srtp::Keys {
        let number = u32::from(profile.dtls_number()) << 16 | stream as u32 & 0xffff;
        let mut parts = 0;
        srtp::Keys::random(profile, &mut |octets| self.fill(b"sdes", number, &mut parts, octets))
    }

    /// What we call our streams on one m-line, and ourselves.
    pub(super) fn sources(&self, stream: usize) -> Sources {
        let (mut numbers, mut name) = ([[0; 4]; 3], [0; 8]);
        self.fill(b"ssrc", stream as u32, &mut 0, numbers.as_flattened_mut());
        self.fill(b"cname", 0, &mut 0, &mut name);
        // Some take 0 for no source.
        let [media, retransmission, repair] = numbers.map(|number| u32::from_be_bytes(number).max(1));
        Sources { media, retransmission, repair, cname: u64::from_be_bytes(name) }
    }

    /// Writes derived octets; `parts` counts those written before under the same label and number.
    fn fill(&self, label: &[u8], number: u32, parts: &mut u32, octets: &mut [u8]) {
        for chunk in octets.chunks_mut(32) {
            let input = [label, &number.to_be_bytes(), &parts.to_be_bytes()].concat();
            let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), &input);
            *parts += 1;
            for (to, from) in chunk.iter_mut().zip(derived.as_ref()) {
                *to = *from;
            }
        }
    }
}
