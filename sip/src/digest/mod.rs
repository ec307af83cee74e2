//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760): our challenges and their check ([`Challenger`]), our answers to
//! challenges ([`answer`]), limits on guessing ([`Guesses`]). It does not know users: the caller looks up their [`Ha1`].

mod answer;
mod challenger;
mod count;
mod guess;
mod nonce;

use hmac::digest::Digest as _;
use md5::Md5;
use sha2::Sha256;

pub use crate::message::header::auth::Credentials;
pub use answer::{Answered, Login, Refusal, answer};
pub use challenger::{Bind, Challenger, Policy, Stale, Verdict};
pub use guess::{Guesses, Standing};

/// A hash algorithm of RFC 8760 that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `MD5`, for the phones that know nothing else.
    Md5,
    /// `SHA-256`.
    Sha256,
}

impl Algorithm {
    /// The algorithms in the order in which we offer them: the strongest first (RFC 8760 §2.4).
    pub const OFFERED: [Self; 2] = [Self::Sha256, Self::Md5];

    /// Returns the token of the `algorithm` parameter.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// Reads the `algorithm` parameter; absent means MD5 (RFC 7616 §3.3).
    #[must_use]
    pub fn parse(token: Option<&str>) -> Option<Self> {
        let Some(token) = token else { return Some(Self::Md5) };
        Self::OFFERED.into_iter().find(|a| a.token().eq_ignore_ascii_case(token))
    }
}

/// H(user:realm:password) in both algorithms: enough to check and to answer, so a secret like the password. It has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    md5: [u8; 16],
    sha256: [u8; 32],
}

impl Ha1 {
    /// Computes both hashes.
    #[must_use]
    pub fn new(username: &str, realm: &str, password: &str) -> Self {
        let parts = [username.as_bytes(), b":", realm.as_bytes(), b":", password.as_bytes()];
        let mut md5 = Md5::new();
        let mut sha256 = Sha256::new();
        for part in parts {
            md5.update(part);
            sha256.update(part);
        }
        Self { md5: md5.finalize().into(), sha256: sha256.finalize().into() }
    }

    /// Returns the hashes for storage: 16 bytes MD5, 32 bytes SHA-256.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 48] {
        let mut out = [0; 48];
        out[..16].copy_from_slice(&self.md5);
        out[16..].copy_from_slice(&self.sha256);
        out
    }

    /// Takes the hashes from storage; none if there are not 48 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (md5, sha256) = bytes.split_at_checked(16)?;
        Some(Self { md5: md5.try_into().ok()?, sha256: sha256.try_into().ok()? })
    }
}
