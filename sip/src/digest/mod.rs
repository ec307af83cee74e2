//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760): our challenges and their check ([`Challenger`]), our answers to
//! challenges ([`answer()`]), limits on guessing ([`Guesses`]). It does not know users: the caller looks up their [`Ha1`].

mod answer;
mod challenger;
mod count;
mod guess;
mod nonce;
mod offer;

use hmac::digest::Digest as _;
use md5::Md5;
use sha2::Sha256;

pub use crate::message::header::auth::Credentials;
pub use answer::{Answered, Login, Refusal, answer};
pub use challenger::{Bind, Challenger, Policy, Side, Stale, Verdict};
pub use guess::{Guesses, Standing};
pub use offer::Offer;

/// A hash algorithm of RFC 8760 that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `MD5`, for the phones that know nothing else.
    Md5,
    /// `SHA-256`.
    Sha256,
}

impl Algorithm {
    /// Every algorithm, the strongest first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

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
        Self::ALL.into_iter().find(|a| a.token().eq_ignore_ascii_case(token))
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

/// The quality of protection an answer is computed with (RFC 7616 §3.4.1).
#[derive(Clone, Copy)]
enum Qop<'a> {
    /// None, as RFC 2069.
    None,
    /// `auth`.
    Auth { nc: &'a str, cnonce: &'a str },
    /// `auth-int`, with the body.
    AuthInt { nc: &'a str, cnonce: &'a str, body: &'a [u8] },
}

/// What is proved: method, digest-uri and nonce.
#[derive(Clone, Copy)]
struct Statement<'a> {
    method: &'a str,
    uri: &'a str,
    nonce: &'a str,
    qop: Qop<'a>,
}

/// A hash in lower-case hex.
struct Hex([u8; 64], usize);

impl Hex {
    fn of(hash: &[u8]) -> Self {
        let mut out = [0; 64];
        hex(hash, &mut out);
        Self(out, (2 * hash.len()).min(64))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or(&self.0)
    }
}

/// Computes the `response` of an answer (RFC 7616 §3.4.1 to §3.4.3).
fn response(algorithm: Algorithm, ha1: &Ha1, statement: &Statement<'_>) -> Hex {
    match algorithm {
        Algorithm::Md5 => keyed::<Md5>(&ha1.md5, statement),
        Algorithm::Sha256 => keyed::<Sha256>(&ha1.sha256, statement),
    }
}

fn keyed<D: hmac::digest::Digest>(ha1: &[u8], statement: &Statement<'_>) -> Hex {
    let mut a2 = D::new_with_prefix(statement.method);
    a2.update(b":");
    a2.update(statement.uri);
    if let Qop::AuthInt { body, .. } = statement.qop {
        a2.update(b":");
        a2.update(Hex::of(&D::digest(body)).as_bytes());
    }
    let a2 = Hex::of(&a2.finalize());
    let a1 = Hex::of(ha1);
    let mut all = D::new_with_prefix(a1.as_bytes());
    let mut part = |text: &[u8]| {
        all.update(b":");
        all.update(text);
    };
    part(statement.nonce.as_bytes());
    let proof = match statement.qop {
        Qop::None => None,
        Qop::Auth { nc, cnonce } => Some((nc, cnonce, "auth")),
        Qop::AuthInt { nc, cnonce, .. } => Some((nc, cnonce, "auth-int")),
    };
    if let Some((nc, cnonce, qop)) = proof {
        part(nc.as_bytes());
        part(cnonce.as_bytes());
        part(qop.as_bytes());
    }
    part(a2.as_bytes());
    Hex::of(&all.finalize())
}

/// Writes bytes as lower-case hex, as far as there is room.
fn hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.as_chunks_mut::<2>().0) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hex: &Hex) -> &str {
        std::str::from_utf8(hex.as_bytes()).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_7616_section_3_9_1() {
        let ha1 = Ha1::new("Mufasa", "http-auth@example.org", "Circle of Life");
        let statement = Statement {
            method: "GET",
            uri: "/dir/index.html",
            nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            qop: Qop::Auth { nc: "00000001", cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ" },
        };
        assert_eq!(text(&response(Algorithm::Md5, &ha1, &statement)), "8ca523f5e9506fed4657c9700eebdbec");
        let sha256 = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert_eq!(text(&response(Algorithm::Sha256, &ha1, &statement)), sha256);
    }

    #[test]
    fn the_example_of_rfc_2617_section_3_5_and_without_qop() {
        let ha1 = Ha1::new("Mufasa", "testrealm@host.com", "Circle Of Life");
        let mut statement = Statement {
            method: "GET",
            uri: "/dir/index.html",
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            qop: Qop::Auth { nc: "00000001", cnonce: "0a4f113b" },
        };
        assert_eq!(text(&response(Algorithm::Md5, &ha1, &statement)), "6629fae49393a05397450978507c4ef1");
        statement.qop = Qop::None;
        assert_eq!(text(&response(Algorithm::Md5, &ha1, &statement)), "670fd8c2df070c60b045671b8b24ff02");
    }

    #[test]
    fn stored_hashes_read_back_and_others_do_not() {
        let ha1 = Ha1::new("a", "r", "p");
        assert!(Ha1::from_bytes(&ha1.to_bytes()) == Some(ha1));
        assert!(Ha1::from_bytes(&[0; 47]).is_none());
        assert!(Ha1::from_bytes(&[]).is_none());
    }
}
