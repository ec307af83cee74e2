//! SRTP and SRTCP in place (RFC 3711; AES-GCM: RFC 7714): profiles and master keys. [`Sender`] protects what one end sends on one
//! m-line, [`Receiver`] opens what the other end sends; each has keys of its own. It knows neither SDP nor DTLS (`sdp/crypto.rs` and
//! the port bring the keys), no addresses and no policy.
//!
//! Whatever comes in is authenticated before anything is kept of it: a forged or repeated packet changes nothing, however many come.
//!
//! # How it is made
//!
//! The master key gives session keys once (`derive.rs`; a key derivation rate of 0). `transform.rs` has the two ciphers with their
//! key schedules ready, `source.rs` the rollover counter and the window of each synchronisation source. No packet allocates; only
//! the first packet of a new source may.

mod derive;
mod receiver;
mod sender;
mod source;
mod transform;

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

pub use receiver::{Received, Receiver};
pub use sender::{Sender, Sent};
pub use source::{Counter, MAX_SOURCES, WINDOW};

/// Most octets that protecting adds to a packet of any profile, RTP or RTCP: an AEAD tag and the SRTCP index.
pub const MAX_OVERHEAD: usize = TAG_GCM + SRTCP_INDEX;
/// Label with which DTLS exports keying material for SRTP (RFC 5764 §4.2).
pub const DTLS_LABEL: &str = "EXTRACTOR-dtls_srtp";

const KEY: usize = 16;
const SALT_CM: usize = 14;
const SALT_GCM: usize = 12;
const TAG_CM: usize = 10;
const TAG_GCM: usize = 16;
/// Octets of the E flag and SRTCP index.
const SRTCP_INDEX: usize = 4;
/// Octets of an RTCP packet that are never encrypted: the first header and its SSRC.
const RTCP_HEADER: usize = 8;

/// A cipher with its authentication. `AES_CM_128_HMAC_SHA1_32` is left out: every phone that has it has the other too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AES in counter mode and an HMAC-SHA1 tag of 80 bits (RFC 3711, RFC 4568 §6.2.1).
    AesCm128HmacSha1_80,
    /// AES-GCM with a key of 128 bits and a tag of 128 bits (RFC 7714).
    AeadAes128Gcm,
}

/// The profiles in the order in which they are offered: the cheaper and stronger one first.
pub const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80];

impl Profile {
    /// Its name in an `a=crypto` line (RFC 4568 §6.2, RFC 7714 §14.1).
    #[must_use]
    pub fn sdes_name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
        }
    }

    /// Its number in the DTLS extension `use_srtp` (RFC 5764 §4.1.2, RFC 7714 §14.2).
    #[must_use]
    pub fn dtls_number(self) -> u16 {
        match self {
            Self::AesCm128HmacSha1_80 => 0x0001,
            Self::AeadAes128Gcm => 0x0007,
        }
    }

    /// The profile with this name in SDP, which has no case.
    #[must_use]
    pub fn from_sdes_name(name: &[u8]) -> Option<Self> {
        PROFILES.into_iter().find(|profile| profile.sdes_name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The profile with this number in DTLS.
    #[must_use]
    pub fn from_dtls_number(number: u16) -> Option<Self> {
        PROFILES.into_iter().find(|profile| profile.dtls_number() == number)
    }

    /// Octets of the master key.
    #[must_use]
    pub fn key_len(self) -> usize {
        KEY
    }

    /// Octets of the master salt.
    #[must_use]
    pub fn salt_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => SALT_CM,
            Self::AeadAes128Gcm => SALT_GCM,
        }
    }

    /// Octets that DTLS exports for both directions together.
    #[must_use]
    pub fn exported_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// Octets of the authentication tag: what protecting adds to an RTP packet.
    #[must_use]
    pub fn tag_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => TAG_CM,
            Self::AeadAes128Gcm => TAG_GCM,
        }
    }

    /// Octets that protecting adds to an RTCP packet.
    #[must_use]
    pub fn rtcp_overhead(self) -> usize {
        self.tag_len() + SRTCP_INDEX
    }
}

/// Master key and master salt of one direction. Its `Debug` is without them, and they are wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    profile: Profile,
    key: [u8; KEY],
    /// The salt; behind a shorter one, zeros (RFC 7714 §11).
    salt: [u8; SALT_CM],
}

impl Keys {
    /// Keys that were agreed on; none when a length is not the profile's.
    #[must_use]
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        let key = <[u8; KEY]>::try_from(key).ok()?;
        let mut keys = Self { profile, key, salt: [0; SALT_CM] };
        if salt.len() != profile.salt_len() {
            return None;
        }
        keys.salt.get_mut(..salt.len())?.copy_from_slice(salt);
        Some(keys)
    }

    /// New keys. `fill` writes random octets fit for keys.
    #[must_use]
    pub fn random(profile: Profile, fill: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut keys = Self { profile, key: [0; KEY], salt: [0; SALT_CM] };
        fill(&mut keys.key);
        let (salt, _) = keys.salt.split_at_mut(profile.salt_len());
        fill(salt);
        keys
    }

    /// The keys with which the DTLS client and the DTLS server send, from what was exported under [`DTLS_LABEL`]; none when its
    /// length is not [`Profile::exported_len`].
    #[must_use]
    pub fn from_dtls(profile: Profile, exported: &[u8]) -> Option<(Self, Self)> {
        let (client_key, rest) = exported.split_at_checked(profile.key_len())?;
        let (server_key, rest) = rest.split_at_checked(profile.key_len())?;
        let (client_salt, server_salt) = rest.split_at_checked(profile.salt_len())?;
        Some((Self::new(profile, client_key, client_salt)?, Self::new(profile, server_key, server_salt)?))
    }

    /// What they are for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The secret octets, key before salt, as SDP has them; they are wiped when they are dropped.
    #[must_use]
    pub fn to_octets(&self) -> Zeroizing<Vec<u8>> {
        let (salt, _) = self.salt.split_at(self.profile.salt_len());
        Zeroizing::new([&self.key, salt].concat())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

/// Why a packet was not protected or not opened. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another version than 2, or too short for its header, or for the tag of the profile.
    #[error("not an SRTP or SRTCP packet")]
    Malformed,
    /// The buffer ends before the tag does: our fault.
    #[error("the buffer has no room for the tag")]
    Room,
    /// The tag is wrong: forged, damaged, for other keys, or more than 32768 packets away from the last one. The payload in the
    /// buffer is no longer what it was.
    #[error("the packet is not authentic")]
    Authentication,
    /// The index was used before, or lies [`WINDOW`] or more behind the highest one.
    #[error("the packet is a repetition, or too late to tell")]
    Replay,
    /// A sender has [`MAX_SOURCES`] synchronisation sources already: new keys are needed.
    #[error("too many synchronisation sources under one key")]
    Sources,
    /// All packets that one key may protect are used up (2^48 of RTP, 2^31 of RTCP): new keys are needed.
    #[error("the key is used up")]
    Exhausted,
}

/// What is needed of an RTP header.
struct Header {
    /// Octets with CSRC list and extension: all that is not encrypted.
    length: usize,
    sequence: u16,
    ssrc: u32,
}

impl Header {
    fn of_rtp(packet: &[u8]) -> Option<Self> {
        let [first, _, s0, s1, _, _, _, _, r0, r1, r2, r3, ..] = *packet else { return None };
        if first >> 6 != 2 {
            return None;
        }
        let mut length = 12 + usize::from(first & 0x0f) * 4;
        if first & 0x10 != 0 {
            let [_, _, words @ ..] = packet.get(length..)?.first_chunk::<4>()?;
            length += 4 + usize::from(u16::from_be_bytes(*words)) * 4;
        }
        let ssrc = u32::from_be_bytes([r0, r1, r2, r3]);
        (length <= packet.len()).then_some(Self { length, sequence: u16::from_be_bytes([s0, s1]), ssrc })
    }
}

/// Who sends an RTCP packet of at least [`RTCP_HEADER`] octets.
fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let [first, _, _, _, r0, r1, r2, r3, ..] = *packet else { return None };
    (first >> 6 == 2).then_some(u32::from_be_bytes([r0, r1, r2, r3]))
}

#[cfg(test)]
mod tests {
    use super::{transform::tests::octets, *};

    fn check(keys: &Keys, rtp: &str, rtcp: &str) {
        let plain = octets("800f1234decafbadcafebabeabababababababababababababababab");
        let mut bytes = [&plain[..], &[0; MAX_OVERHEAD]].concat();
        let length = Sender::new(keys).protect_rtp(&mut bytes, plain.len()).unwrap();
        assert_eq!(bytes[..length], octets(rtp));
        let length = Receiver::new(keys).unprotect_rtp(&mut bytes[..length]).unwrap();
        assert_eq!(bytes[..length], plain);

        let plain = octets("81c8000bcafebabeabababababababababababababababab");
        let mut sender = Sender::new(keys);
        let first = &mut [&plain[..], &[0; MAX_OVERHEAD]].concat();
        sender.protect_rtcp(first, plain.len()).unwrap();
        // The vectors have the index 1.
        let mut bytes = [&plain[..], &[0; MAX_OVERHEAD]].concat();
        let length = sender.protect_rtcp(&mut bytes, plain.len()).unwrap();
        assert_eq!(bytes[..length], octets(rtcp));
        let length = Receiver::new(keys).unprotect_rtcp(&mut bytes[..length]).unwrap();
        assert_eq!(bytes[..length], plain);
    }

    #[test]
    fn packets_are_those_of_libsrtp() {
        let keys = |profile, salt| Keys::new(profile, &octets("e1f97a0d3e018be0d64fa32c06de4139"), &octets(salt)).unwrap();
        check(
            &keys(Profile::AesCm128HmacSha1_80, "0ec675ad498afeebb6960b3aabe6"),
            "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
            "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
        );
        let keys =
            Keys::new(Profile::AeadAes128Gcm, &octets("000102030405060708090a0b0c0d0e0f"), &octets("a0a1a2a3a4a5a6a7a8a9aaab")).unwrap();
        check(
            &keys,
            "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
            "81c8000bcafebabec98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e80000001",
        );
    }

    #[test]
    fn keys_have_the_lengths_of_their_profile() {
        for profile in PROFILES {
            let lengths = [(16, profile.salt_len()), (15, profile.salt_len()), (17, profile.salt_len()), (16, 13), (0, 0)];
            let fit = lengths.map(|(key, salt)| Keys::new(profile, &vec![1; key], &vec![1; salt]).is_some());
            assert_eq!(fit, [true, false, false, false, false]);
            assert_eq!(Keys::random(profile, &mut |octets| octets.fill(9)).to_octets()[..], vec![9; 16 + profile.salt_len()]);
        }
    }

    #[test]
    fn debug_is_without_the_keys() {
        let keys = Keys::random(Profile::AeadAes128Gcm, &mut |octets| octets.fill(9));
        assert_eq!(format!("{keys:?}"), "Keys { profile: AeadAes128Gcm, .. }");
        assert_eq!(format!("{:?}", Sender::new(&keys)), "Sender { sent: Sent { rtp: [], rtcp: 0 }, .. }");
        assert_eq!(format!("{:?}", Receiver::new(&keys)), "Receiver { received: Received { rtp: [], rtcp: [] }, .. }");
    }

    #[test]
    fn header_ends_behind_csrc_and_extension() {
        let length = |rest: &[u8], first: u8| {
            let packet = [&[first, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9][..], rest].concat();
            Header::of_rtp(&packet).map(|header| (header.length, header.sequence, header.ssrc))
        };
        assert_eq!(length(b"", 0x80), Some((12, 0x0102, 9)));
        assert_eq!(length(b"csrc\xbe\xde\0\x01ext.sound", 0x91), Some((24, 0x0102, 9)));
        assert_eq!(length(b"csr", 0x81), None);
        assert_eq!(length(b"\xbe\xde\0", 0x90), None);
        assert_eq!(length(b"\xbe\xde\xff\xffshort", 0x90), None);
        assert_eq!(length(b"", 0x40), None, "another version");
    }

    #[test]
    fn ciphers_use_the_processor() {
        // On other processors the software is used; then there is nothing to see.
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("aes") {
            assert!(aes::hardware_accelerated());
        }
    }
}
