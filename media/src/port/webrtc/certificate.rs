//! Certificates as DTLS-SRTP uses them: self-signed, known by the fingerprint that the SDP carries (RFC 8122). Ours is made outside
//! (the crate draws no keys) and shared by all ports. It knows no DTLS beyond the settings that are the same for every handshake.

use std::{fmt, str::FromStr, sync::Arc};

use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto_provider::{SignatureScheme, default_provider},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::dtls::{Role, STEP};

/// A hash function of RFC 8122 §5 that is believed; MD5 and SHA-1 are not. Later is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// sha-256
    Sha256,
    /// sha-384
    Sha384,
    /// sha-512
    Sha512,
}

impl Hash {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// Why a text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// A hash function that is unknown or too weak: RFC 8122 §5 passes over it.
    #[error("a hash function other than sha-256, sha-384 and sha-512")]
    Hash,
    /// Not pairs of hexadecimal digits with colons between them, or not as many as the hash function gives.
    #[error("not a fingerprint")]
    Digits,
}

/// The value of an `a=fingerprint` line. Prints as that: `sha-256 AB:CD:…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    digest: [u8; 64],
}

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8], hash: Hash) -> Self {
        let mut digest = [0; 64];
        match hash {
            Hash::Sha256 => digest[..32].copy_from_slice(&Sha256::digest(certificate)),
            Hash::Sha384 => digest[..48].copy_from_slice(&Sha384::digest(certificate)),
            Hash::Sha512 => digest.copy_from_slice(&Sha512::digest(certificate)),
        }
        Self { hash, digest }
    }

    /// The hash function.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    fn octets(&self) -> &[u8] {
        self.digest.get(..self.hash.length()).unwrap_or_default()
    }
}

/// Whether a certificate is one that the SDP names: only fingerprints of the strongest hash function count (RFC 8122 §5.1).
pub(super) fn matches(certificate: &[u8], fingerprints: &[Fingerprint]) -> bool {
    let Some(hash) = fingerprints.iter().map(Fingerprint::hash).max() else { return false };
    fingerprints.contains(&Fingerprint::of(certificate, hash))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        for (index, octet) in self.octets().iter().enumerate() {
            write!(f, "{}{octet:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads the value of an `a=fingerprint` line. Case does not count.
    fn from_str(value: &str) -> Result<Self, FingerprintError> {
        let (name, digits) = value.trim().split_once(' ').ok_or(FingerprintError::Digits)?;
        let known = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
        let hash = known.into_iter().find(|hash| hash.name().eq_ignore_ascii_case(name)).ok_or(FingerprintError::Hash)?;
        let mut digest = [0; 64];
        let mut count = 0;
        for pair in digits.trim().split(':') {
            let free = digest.get_mut(count).ok_or(FingerprintError::Digits)?;
            let hexadecimal = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *free = u8::from_str_radix(pair, 16).ok().filter(|_| hexadecimal).ok_or(FingerprintError::Digits)?;
            count += 1;
        }
        if count == hash.length() { Ok(Self { hash, digest }) } else { Err(FingerprintError::Digits) }
    }
}

/// Why a certificate and key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate for DTLS cannot be used: {0}")]
pub struct CertificateError(String);

/// Our certificate, its key, and the settings of every handshake made with them. A clone is the same one.
#[derive(Clone)]
pub struct Certificate {
    pub(super) client: Arc<HandshakeConfig>,
    pub(super) server: Arc<HandshakeConfig>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.fingerprint).finish()
    }
}

impl Certificate {
    /// Takes a certificate in DER and its ECDSA P-256 key in PKCS #8.
    ///
    /// # Errors
    /// [`CertificateError`] when the key is of another kind or broken.
    pub fn new(der: Vec<u8>, key: &[u8]) -> Result<Self, CertificateError> {
        let error = |error: &dyn fmt::Display| CertificateError(error.to_string());
        let fingerprint = Fingerprint::of(&der, Hash::Sha256);
        let provider = default_provider().map_err(|e| error(&e))?;
        let key = provider.crypto().import_signing_key(SignatureScheme::EcdsaP256Sha256, key).map_err(|e| error(&e))?;
        let certificate = rtc_dtls::crypto::Certificate::from_signing_key(vec![der.into()], key);
        let build = |role: Role| {
            // The peer is known by its fingerprint, which `dtls.rs` compares before it gives keys out: no chain is checked. The
            // extended master secret (RFC 7627) is required because it ties the keys to the whole handshake; the library's server
            // does not compare the client's Finished itself.
            let builder = ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(vec![
                    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                ])
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .with_insecure_skip_verify(true)
                .with_server_name("tandem".to_owned())
                .with_flight_interval(STEP);
            builder.build(role == Role::Client, None).map(Arc::new).map_err(|e| error(&e))
        };
        Ok(Self { client: build(Role::Client)?, server: build(Role::Server)?, fingerprint })
    }

    /// Its SHA-256 fingerprint, for the SDP.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_prints_as_it_is_read() {
        for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let fingerprint = Fingerprint::of(b"certificate", hash);
            let text = fingerprint.to_string();
            assert_eq!(text.parse(), Ok(fingerprint));
            assert_eq!(text.to_lowercase().parse(), Ok(fingerprint));
        }
        assert!(Fingerprint::of(b"abc", Hash::Sha256).to_string().starts_with("sha-256 BA:78:16:BF:"));
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let good = Fingerprint::of(b"certificate", Hash::Sha256).to_string();
        let cut = &good[..good.len() - 3];
        for text in
            ["", "sha-256", "sha-256 ", cut, &format!("{good}:00"), &good.replacen(':', ";", 1), &good.replacen("sha-256 ", "sha-256 +", 1)]
        {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError::Digits), "{text}");
        }
        assert_eq!("sha-1 00:11".parse::<Fingerprint>(), Err(FingerprintError::Hash));
    }

    #[test]
    fn the_strongest_hash_function_decides() {
        let weak = Fingerprint::of(b"theirs", Hash::Sha256);
        let strong = Fingerprint::of(b"theirs", Hash::Sha512);
        let other = Fingerprint::of(b"another", Hash::Sha512);
        assert!(matches(b"theirs", &[weak]) && matches(b"theirs", &[weak, other, strong]));
        assert!(!matches(b"theirs", &[weak, other]) && !matches(b"theirs", &[]));
    }

    #[test]
    fn a_broken_key_is_refused() {
        assert!(Certificate::new(b"certificate".to_vec(), b"key").is_err());
    }
}
