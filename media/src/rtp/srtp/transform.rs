//! The two ciphers with their key schedules ready: AES in counter mode with HMAC-SHA1 (RFC 3711 §4.1.1, §4.2.1) and AES-GCM
//! (RFC 7714 §8, §9). A transform has the session keys of RTP or of RTCP. It keeps no state: who calls it sees to it that an index
//! is used once.

use aes::{
    Aes128Enc,
    cipher::{InnerIvInit, KeyInit, StreamCipherCore},
};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ctr::{CtrCore, flavors};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use zeroize::Zeroize;

use super::{
    Error, Header, Keys, Profile, RTCP_HEADER, SALT_GCM, SRTCP_INDEX, TAG_CM, TAG_GCM,
    derive::{SessionKeys, Usage},
};

/// The flag of an encrypted SRTCP packet, before its index.
const ENCRYPTED: u32 = 1 << 31;

/// One cipher with the session keys of one usage.
pub(super) enum Transform {
    /// Boxed: its key schedule is twenty times the other variant.
    AesCm(Box<AesCm>),
    AesGcm(AesGcm),
}

impl Transform {
    pub(super) fn new(keys: &Keys, usage: Usage) -> Self {
        let session = SessionKeys::derive(keys, usage);
        match keys.profile {
            Profile::AesCm128HmacSha1_80 => Self::AesCm(Box::new(AesCm::new(&session))),
            Profile::AeadAes128Gcm => Self::AesGcm(AesGcm::new(&session)),
        }
    }

    pub(super) fn tag_len(&self) -> usize {
        match self {
            Self::AesCm(_) => TAG_CM,
            Self::AesGcm(_) => TAG_GCM,
        }
    }

    /// Protects the RTP packet that ends `tag_len` before the end of `bytes`.
    pub(super) fn seal_rtp(&self, bytes: &mut [u8], header: &Header, index: u64) -> Result<(), Error> {
        let (packet, tag) = split_end(bytes, self.tag_len())?;
        let (clear, body) = packet.split_at_mut_checked(header.length).ok_or(Error::Malformed)?;
        match self {
            Self::AesCm(cm) => {
                cm.crypt(header.ssrc, index, body);
                tag.copy_from_slice(&cm.tag(packet, rollover(index)));
            }
            Self::AesGcm(gcm) => tag.copy_from_slice(&gcm.seal(header.ssrc, index, clear, body)?),
        }
        Ok(())
    }

    /// Opens an RTP packet, and tells how long it is without its tag.
    pub(super) fn open_rtp(&self, bytes: &mut [u8], header: &Header, index: u64) -> Result<usize, Error> {
        let length = bytes.len().checked_sub(self.tag_len()).ok_or(Error::Malformed)?;
        match self {
            Self::AesCm(cm) => {
                let (packet, tag) = split_end(bytes, TAG_CM)?;
                cm.verify(packet, rollover(index), tag)?;
                cm.crypt(header.ssrc, index, packet.get_mut(header.length..).ok_or(Error::Malformed)?);
            }
            Self::AesGcm(gcm) => {
                let (clear, sealed) = bytes.split_at_mut_checked(header.length).ok_or(Error::Malformed)?;
                gcm.open(header.ssrc, index, clear, sealed)?;
            }
        }
        Ok(length)
    }

    /// Encrypts and protects the RTCP packet that ends `tag_len` and an index before the end of `bytes`.
    pub(super) fn seal_rtcp(&self, bytes: &mut [u8], ssrc: u32, index: u32) -> Result<(), Error> {
        let (packet, trailer) = split_end(bytes, self.tag_len() + SRTCP_INDEX)?;
        let (clear, body) = packet.split_first_chunk_mut::<RTCP_HEADER>().ok_or(Error::Malformed)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        match self {
            Self::AesCm(cm) => {
                cm.crypt(ssrc, u64::from(index), body);
                let (place, tag) = trailer.split_at_mut(SRTCP_INDEX);
                tag.copy_from_slice(&cm.tag(packet, word));
                place.copy_from_slice(&word);
            }
            Self::AesGcm(gcm) => {
                let (tag, place) = trailer.split_at_mut(TAG_GCM);
                tag.copy_from_slice(&gcm.seal(ssrc, u64::from(index), &with_word(clear, word), body)?);
                place.copy_from_slice(&word);
            }
        }
        Ok(())
    }

    /// The index that an SRTCP packet claims to have.
    pub(super) fn claimed_index(&self, bytes: &[u8]) -> Option<u64> {
        let end = match self {
            Self::AesCm(_) => bytes.len().checked_sub(TAG_CM)?,
            Self::AesGcm(_) => bytes.len(),
        };
        let word = bytes.get(..end)?.last_chunk::<SRTCP_INDEX>()?;
        Some(u64::from(u32::from_be_bytes(*word) & !ENCRYPTED))
    }

    /// Opens an RTCP packet, encrypted or not, and tells how long it is without tag and index.
    pub(super) fn open_rtcp(&self, bytes: &mut [u8], ssrc: u32) -> Result<usize, Error> {
        let (packet, trailer) = split_end(bytes, self.tag_len() + SRTCP_INDEX)?;
        let length = packet.len();
        match self {
            Self::AesCm(cm) => {
                let (word, tag) = trailer.split_first_chunk::<SRTCP_INDEX>().ok_or(Error::Malformed)?;
                cm.verify(packet, *word, tag)?;
                let word = u32::from_be_bytes(*word);
                if word & ENCRYPTED != 0 {
                    cm.crypt(ssrc, u64::from(word & !ENCRYPTED), packet.get_mut(RTCP_HEADER..).ok_or(Error::Malformed)?);
                }
            }
            Self::AesGcm(gcm) => {
                let word = *trailer.last_chunk::<SRTCP_INDEX>().ok_or(Error::Malformed)?;
                let number = u32::from_be_bytes(word);
                let index = u64::from(number & !ENCRYPTED);
                if number & ENCRYPTED != 0 {
                    let (sealed, _) = split_end(bytes, SRTCP_INDEX)?;
                    let (clear, sealed) = sealed.split_first_chunk_mut::<RTCP_HEADER>().ok_or(Error::Malformed)?;
                    gcm.open(ssrc, index, &with_word(clear, word), sealed)?;
                } else {
                    // All of the packet is associated data, and the index follows it there (RFC 7714 §9.3): move it before the tag.
                    let mut tag = *trailer.first_chunk::<TAG_GCM>().ok_or(Error::Malformed)?;
                    let (place, _) = trailer.split_first_chunk_mut::<SRTCP_INDEX>().ok_or(Error::Malformed)?;
                    *place = word;
                    let associated = bytes.get(..length + SRTCP_INDEX).ok_or(Error::Malformed)?;
                    gcm.open(ssrc, index, associated, &mut tag)?;
                }
            }
        }
        Ok(length)
    }
}

fn split_end(bytes: &mut [u8], end: usize) -> Result<(&mut [u8], &mut [u8]), Error> {
    let at = bytes.len().checked_sub(end).ok_or(Error::Malformed)?;
    bytes.split_at_mut_checked(at).ok_or(Error::Malformed)
}

fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// The associated data of an encrypted SRTCP packet (RFC 7714 §9.2).
fn with_word(clear: &[u8; RTCP_HEADER], word: [u8; SRTCP_INDEX]) -> [u8; RTCP_HEADER + SRTCP_INDEX] {
    let mut associated = [0; RTCP_HEADER + SRTCP_INDEX];
    let (head, tail) = associated.split_at_mut(RTCP_HEADER);
    head.copy_from_slice(clear);
    tail.copy_from_slice(&word);
    associated
}

/// AES in counter mode, and HMAC-SHA1 with its inner and outer state.
pub(super) struct AesCm {
    cipher: Aes128Enc,
    /// The salt, where the counter block has it.
    salt: u128,
    mac: Hmac<Sha1>,
}

impl AesCm {
    fn new(session: &SessionKeys) -> Self {
        let salt = session.salt.iter().fold(0, |salt, octet| salt << 8 | u128::from(*octet)) << 16;
        let mac = Hmac::new_from_slice(&session.authentication).expect("HMAC takes a key of any length");
        Self { cipher: Aes128Enc::new(&session.key.into()), salt, mac }
    }

    /// Encrypts or decrypts. A datagram has fewer than the 2^16 blocks of one index.
    fn crypt(&self, ssrc: u32, index: u64, body: &mut [u8]) {
        let start = self.salt ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        CtrCore::<_, flavors::Ctr128BE>::inner_iv_init(&self.cipher, &start.to_be_bytes().into()).apply_keystream_partial(body.into());
    }

    fn state(&self, packet: &[u8], end: [u8; 4]) -> Hmac<Sha1> {
        self.mac.clone().chain_update(packet).chain_update(end)
    }

    fn tag(&self, packet: &[u8], end: [u8; 4]) -> [u8; TAG_CM] {
        let mut tag = [0; TAG_CM];
        let whole = self.state(packet, end).finalize().into_bytes();
        tag.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        tag
    }

    fn verify(&self, packet: &[u8], end: [u8; 4], tag: &[u8]) -> Result<(), Error> {
        self.state(packet, end).verify_truncated_left(tag).map_err(|_| Error::Authentication)
    }
}

impl Drop for AesCm {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

/// AES-GCM.
pub(super) struct AesGcm {
    key: LessSafeKey,
    salt: [u8; SALT_GCM],
}

impl AesGcm {
    fn new(session: &SessionKeys) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &session.key).expect("a key of 16 octets is one of AES-128");
        let mut salt = [0; SALT_GCM];
        salt.iter_mut().zip(session.salt).for_each(|(to, from)| *to = from);
        Self { key: LessSafeKey::new(key), salt }
    }

    /// The salt with SSRC and index in their places (RFC 7714 §8.1, §9.1).
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let place = u128::from(ssrc) << 48 | u128::from(index);
        let [_, _, _, _, place @ ..] = place.to_be_bytes();
        nonce.iter_mut().zip(self.salt).zip(place).for_each(|((nonce, salt), place)| *nonce = salt ^ place);
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, ssrc: u32, index: u64, associated: &[u8], body: &mut [u8]) -> Result<[u8; TAG_GCM], Error> {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(associated), body);
        // It refuses only bodies of gigabytes.
        tag.ok().and_then(|tag| tag.as_ref().try_into().ok()).ok_or(Error::Malformed)
    }

    /// Opens a body with the tag behind it.
    fn open(&self, ssrc: u32, index: u64, associated: &[u8], sealed: &mut [u8]) -> Result<(), Error> {
        let opened = self.key.open_in_place(self.nonce(ssrc, index), Aad::from(associated), sealed);
        opened.map(|_| ()).map_err(|_| Error::Authentication)
    }
}

impl Drop for AesGcm {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Octets of hexadecimal digits.
    pub(in crate::rtp::srtp) fn octets(digits: &str) -> Vec<u8> {
        let value = |digit: u8| (digit as char).to_digit(16).unwrap() as u8;
        let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b' ').map(value).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// The session keys of RFC 7714 §16 and §17: the salt is "Quid pro quo".
    fn gcm() -> Transform {
        let key = octets("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let salt = octets("517569642070726f2071756f0000").try_into().unwrap();
        Transform::AesGcm(AesGcm::new(&SessionKeys { key, authentication: [0; 20], salt }))
    }

    #[test]
    fn rtp_is_that_of_rfc_7714() {
        let plain =
            octets("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573");
        let sealed = octets(
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833\
             899d7f27 beb16a91 52cf765e e4390cce",
        );
        let header = Header::of_rtp(&plain).unwrap();
        let mut bytes = [&plain[..], &[0; TAG_GCM]].concat();
        gcm().seal_rtp(&mut bytes, &header, 0xf17b).unwrap();
        assert_eq!(bytes, sealed);
        assert_eq!(gcm().open_rtp(&mut bytes, &header, 0xf17b), Ok(plain.len()));
        assert_eq!(bytes[..plain.len()], plain);
    }

    const RTCP: &str =
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef";

    #[test]
    fn rtcp_is_that_of_rfc_7714() {
        let sealed = octets(
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded\
             0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        );
        let mut bytes = [&octets(RTCP)[..], &[0; TAG_GCM + SRTCP_INDEX]].concat();
        gcm().seal_rtcp(&mut bytes, 0x4d61_7273, 0x5d4).unwrap();
        assert_eq!(bytes, sealed);
        assert_eq!(gcm().claimed_index(&bytes), Some(0x5d4));
        let length = gcm().open_rtcp(&mut bytes, 0x4d61_7273).unwrap();
        assert_eq!(bytes[..length], octets(RTCP));
    }

    #[test]
    fn rtcp_that_is_not_encrypted_is_that_of_rfc_7714() {
        let sealed = [octets(RTCP), octets("841dd968 3dd78ec9 2ae58790 125f62b3 000005d4")].concat();
        let mut bytes = sealed.clone();
        let length = gcm().open_rtcp(&mut bytes, 0x4d61_7273).unwrap();
        assert_eq!(bytes[..length], octets(RTCP));
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone();
            bytes[at] ^= 1;
            // The SSRC is given beside the packet, and is in the associated data too.
            assert_eq!(gcm().open_rtcp(&mut bytes, 0x4d61_7273), Err(Error::Authentication), "octet {at}");
        }
    }

    /// The session keys of RFC 3711 B.2.
    fn cm() -> AesCm {
        let key = octets("2B7E151628AED2A6ABF7158809CF4F3C").try_into().unwrap();
        let salt = octets("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        AesCm::new(&SessionKeys { key, authentication: [0; 20], salt })
    }

    #[test]
    fn rtcp_that_is_authenticated_but_not_encrypted_is_left_as_it_is() {
        let (plain, index) = (octets(RTCP), [0, 0, 5, 0xd4]);
        let sealed = [&plain[..], &index, &cm().tag(&plain, index)].concat();
        let transform = Transform::AesCm(Box::new(cm()));
        let mut bytes = sealed.clone();
        let length = transform.open_rtcp(&mut bytes, 0x4d61_7273).unwrap();
        assert_eq!(bytes[..length], plain);
        let mut bytes = sealed;
        bytes[plain.len()] |= 0x80;
        assert_eq!(transform.open_rtcp(&mut bytes, 0x4d61_7273), Err(Error::Authentication), "the flag is authenticated");
    }

    #[test]
    fn keystream_is_that_of_rfc_3711() {
        // RFC 3711 B.2: SSRC 0, index 0; the last block of 0xff02
        let cm = cm();
        let mut stream = vec![0; 0xff02 * 16];
        cm.crypt(0, 0, &mut stream);
        assert_eq!(
            stream[..48],
            octets("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0")
        );
        let end = octets("EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44");
        assert_eq!(stream[0xfeff * 16..], end);
    }
}
