//! Session keys out of master keys (RFC 3711 §4.3, RFC 7714 §11), with a key derivation rate of 0: once for all packets.

use aes::{
    Aes128Enc,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use zeroize::Zeroize;

use super::{KEY, Keys, SALT_CM};

/// What the keys are for; the labels of §4.3.1 and §4.3.2.
#[derive(Clone, Copy)]
pub(super) enum Usage {
    Rtp,
    Rtcp,
}

/// Octets of the key of HMAC-SHA1.
const AUTHENTICATION: usize = 20;

/// Keys of one usage, wiped when dropped.
pub(super) struct SessionKeys {
    pub(super) key: [u8; KEY],
    pub(super) authentication: [u8; AUTHENTICATION],
    pub(super) salt: [u8; SALT_CM],
}

impl SessionKeys {
    pub(super) fn derive(keys: &Keys, usage: Usage) -> Self {
        let first = match usage {
            Usage::Rtp => 0,
            Usage::Rtcp => 3,
        };
        let cipher = Aes128Enc::new(&keys.key.into());
        let mut session = Self { key: [0; KEY], authentication: [0; AUTHENTICATION], salt: [0; SALT_CM] };
        generate(&cipher, &keys.salt, first, &mut session.key);
        generate(&cipher, &keys.salt, first + 1, &mut session.authentication);
        generate(&cipher, &keys.salt, first + 2, &mut session.salt);
        session
    }
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        self.key.zeroize();
        self.authentication.zeroize();
        self.salt.zeroize();
    }
}

/// The first octets of the pseudo-random function for a label: AES in counter mode from `(label << 48 XOR salt) << 16`.
fn generate(cipher: &Aes128Enc, salt: &[u8; SALT_CM], label: u8, out: &mut [u8]) {
    let mut start = [0; KEY];
    let (head, _) = start.split_at_mut(SALT_CM);
    head.copy_from_slice(salt);
    start[7] ^= label;
    for (part, counter) in out.chunks_mut(KEY).zip(u128::from_be_bytes(start)..) {
        let mut block = counter.to_be_bytes().into();
        cipher.encrypt_block(&mut block);
        let (head, _) = block.split_at(part.len());
        part.copy_from_slice(head);
        block.as_mut_slice().zeroize();
    }
    start.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::srtp::{Profile, transform::tests::octets};

    #[test]
    fn session_keys_are_those_of_rfc_3711() {
        // RFC 3711 B.3; the SRTCP keys as libsrtp and others have them
        let salt = octets("0EC675AD498AFEEBB6960B3AABE6");
        let keys = Keys::new(Profile::AesCm128HmacSha1_80, &octets("E1F97A0D3E018BE0D64FA32C06DE4139"), &salt).unwrap();
        let rtp = SessionKeys::derive(&keys, Usage::Rtp);
        assert_eq!(rtp.key[..], octets("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(rtp.authentication[..], octets("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
        assert_eq!(rtp.salt[..], octets("30CBBC08863D8C85D49DB34A9AE1"));
        let rtcp = SessionKeys::derive(&keys, Usage::Rtcp);
        assert_eq!(rtcp.key[..], octets("4c1aa45a81f73d61c800bbb00fbb1eaa"));
        assert_eq!(rtcp.authentication[..], octets("8d54534feb49ae8e7993a6bd0b844fc323a93dfd"));
        assert_eq!(rtcp.salt[..], octets("9581c7ad87b3e530bf3e4454a8b3"));
    }

    #[test]
    fn function_yields_the_octets_of_rfc_3711() {
        // RFC 3711 B.3: the first octets for label 1, whose full example goes on past the 20 that are used
        let salt = octets("0EC675AD498AFEEBB6960B3AABE6").try_into().unwrap();
        let key: [u8; KEY] = octets("E1F97A0D3E018BE0D64FA32C06DE4139").try_into().unwrap();
        let mut out = [0; 94];
        generate(&Aes128Enc::new(&key.into()), &salt, 1, &mut out);
        let expected = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF72270986371C10C9A369AC2\
                        F94A8C5FBCDDDC256D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2";
        assert_eq!(out[..], octets(expected));
    }
}
