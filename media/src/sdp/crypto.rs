//! The `a=crypto` attribute (RFC 4568 §9.1, RFC 7714 §14.1): SRTP keys in SDP. A line that asks for what is not done here is not
//! usable, and is never taken for one that asks for less (S13). This file knows no ports, and not who may have which keys.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD_INDIFFERENT},
};
use bytes::Bytes;
use zeroize::Zeroizing;

use super::Text;
use crate::rtp::srtp::{Keys, Profile};

/// Most `a=crypto` lines of an m-line that are read; further ones are as if they were not there.
pub const MAX_CRYPTO: usize = 8;

/// Room for a key and a salt; what is longer fits no profile.
const ROOM: usize = 64;
/// Largest lifetime: the packets that one key may protect (RFC 3711 §9.2).
const MAX_LIFETIME: u64 = 1 << 48;

/// One line: a profile and keys for what its speaker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// What an answer names it by, at most 999,999,999.
    pub tag: u32,
    /// The keys, and the profile they are for.
    pub keys: Keys,
}

/// Why a line is not usable. It does no harm to the lines beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It does not follow the grammar.
    #[error("the line is malformed")]
    Malformed,
    /// A suite that is not one of ours.
    #[error("the suite is not supported")]
    Suite,
    /// A key that is not base64, or not as long as that of the suite.
    #[error("the key does not fit the suite")]
    Key,
    /// More than one key, or a key with an identifier in each packet.
    #[error("master key identifiers are not supported")]
    Mki,
    /// No encryption, no authentication, FEC, a key derivation rate, or another parameter that must be understood.
    #[error("a session parameter is not supported")]
    Parameter,
}

impl Crypto {
    /// Reads what stands after `a=crypto:`. A lifetime is read and not kept: it binds who sends with the key.
    ///
    /// # Errors
    /// [`Unusable`] when we cannot do all that the line asks for.
    pub fn parse(value: &[u8]) -> Result<Self, Unusable> {
        let mut fields = value.split(|octet| matches!(octet, b' ' | b'\t')).filter(|field| !field.is_empty());
        let tag = fields.next().and_then(|tag| number(tag, 9)).and_then(|tag| u32::try_from(tag).ok()).ok_or(Unusable::Malformed)?;
        let suite = fields.next().ok_or(Unusable::Malformed)?;
        let key = fields.next().ok_or(Unusable::Malformed)?;
        let profile = Profile::from_sdes_name(suite).ok_or(Unusable::Suite)?;
        let keys = keys(profile, key)?;
        if fields.all(is_harmless) { Ok(Self { tag, keys }) } else { Err(Unusable::Parameter) }
    }

    /// What stands after `a=crypto:`.
    #[must_use]
    pub fn to_text(&self) -> Text {
        let inline = Zeroizing::new(STANDARD.encode(self.keys.to_octets()));
        Text(Bytes::from(format!("{} {} inline:{}", self.tag, self.keys.profile().sdes_name(), *inline)))
    }
}

/// Reads the values of an m-line's `a=crypto` lines in their order, at most [`MAX_CRYPTO`].
pub fn read<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Crypto, Unusable>> {
    values.into_iter().take(MAX_CRYPTO).map(Crypto::parse).collect()
}

/// The line of an offer that is to be answered: the first usable one.
#[must_use]
pub fn choose(offered: &[Result<Crypto, Unusable>]) -> Option<&Crypto> {
    offered.iter().find_map(|line| line.as_ref().ok())
}

/// Our line and the peer's that hold after an answer (RFC 4568 §5.1.3): the peer's has the tag and the profile of one that we
/// offered. None when it has not; then the m-line has no keys, and is not to be used without.
#[must_use]
pub fn agree<'a>(offered: &'a [Crypto], answered: &'a [Result<Crypto, Unusable>]) -> Option<(&'a Crypto, &'a Crypto)> {
    answered.iter().filter_map(|line| line.as_ref().ok()).find_map(|theirs| {
        let ours = offered.iter().find(|ours| ours.tag == theirs.tag)?;
        (ours.keys.profile() == theirs.keys.profile()).then_some((ours, theirs))
    })
}

/// `inline:key||salt[|lifetime][|MKI:length]`.
fn keys(profile: Profile, text: &[u8]) -> Result<Keys, Unusable> {
    if text.contains(&b';') {
        return Err(Unusable::Mki);
    }
    let (method, parameters) = text.split_at_checked(b"inline:".len()).ok_or(Unusable::Malformed)?;
    if !method.eq_ignore_ascii_case(b"inline:") {
        return Err(Unusable::Malformed);
    }
    let mut parameters = parameters.split(|octet| *octet == b'|');
    let inline = parameters.next().ok_or(Unusable::Malformed)?;
    let mut next = parameters.next();
    if let Some(lifetime) = next.filter(|parameter| !parameter.contains(&b':')) {
        if !is_lifetime(lifetime) {
            return Err(Unusable::Malformed);
        }
        next = parameters.next();
    }
    if let Some(mki) = next {
        let mut halves = mki.split(|octet| *octet == b':');
        let (_, length) = (halves.next(), halves.next());
        if length.and_then(|length| number(length, 3)) != Some(0) {
            return Err(Unusable::Mki);
        }
    }
    if parameters.next().is_some() {
        return Err(Unusable::Malformed);
    }
    decode(profile, inline).ok_or(Unusable::Key)
}

fn decode(profile: Profile, inline: &[u8]) -> Option<Keys> {
    let mut octets = Zeroizing::new([0; ROOM]);
    // Some phones leave the padding out.
    let length = STANDARD_NO_PAD_INDIFFERENT.decode_slice(inline, octets.as_mut_slice()).ok()?;
    let (key, salt) = octets.get(..length)?.split_at_checked(profile.key_len())?;
    Keys::new(profile, key, salt)
}

/// `2^n` or a number of packets.
fn is_lifetime(text: &[u8]) -> bool {
    let packets = match text.strip_prefix(b"2^") {
        Some(exponent) => number(exponent, 2).and_then(|exponent| 1_u64.checked_shl(u32::try_from(exponent).ok()?)),
        None => number(text, 15),
    };
    packets.is_some_and(|packets| (1..=MAX_LIFETIME).contains(&packets))
}

/// Whether a session parameter changes nothing for us: a hint at the size of the window, or one that may be ignored (§6.3.7).
fn is_harmless(parameter: &[u8]) -> bool {
    parameter.starts_with(b"-") || parameter.strip_prefix(b"WSH=").is_some_and(|size| number(size, 9).is_some())
}

/// A decimal number of at most so many digits.
fn number(text: &[u8], digits: usize) -> Option<u64> {
    let is_number = (1..=digits).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0_u64, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CM: &str = "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

    fn parse(line: &str) -> Result<Crypto, Unusable> {
        Crypto::parse(line.as_bytes())
    }

    fn count_up(octets: &mut [u8]) {
        octets.iter_mut().zip(1..).for_each(|(octet, number)| *octet = number);
    }

    #[test]
    fn line_of_rfc_4568_is_read() {
        let crypto = parse(CM).unwrap();
        assert_eq!((crypto.tag, crypto.keys.profile()), (1, Profile::AesCm128HmacSha1_80));
        assert_eq!(crypto.keys.to_octets()[..], *b"=-n@%^x!Bjufr9)?,#5h\\`=&]{qiPQ");
        assert_eq!(crypto.to_text().as_bytes(), CM.as_bytes());
    }

    #[test]
    fn each_profile_reads_what_it_prints() {
        for profile in crate::rtp::srtp::PROFILES {
            let crypto = Crypto { tag: 999_999_999, keys: Keys::random(profile, &mut count_up) };
            let text = crypto.to_text();
            assert_eq!(Crypto::parse(text.as_bytes()).as_ref(), Ok(&crypto));
            let unpadded = text.to_string().trim_end_matches('=').to_owned();
            assert_eq!(parse(&unpadded).as_ref(), Ok(&crypto));
        }
    }

    #[test]
    fn lifetime_and_hints_make_no_difference() {
        for end in ["|2^20", "|1048576", "|2^48", "|1:0", "|2^31|1:0", " WSH=64", " -later=x WSH=512", "|2^20 \t "] {
            assert_eq!(parse(&format!("{CM}{end}")), parse(CM), "{end}");
        }
        assert!(parse(&CM.replace("AES_CM", "aes_cm").replace("inline", "INLINE").replace(' ', "  ")).is_ok());
    }

    #[test]
    fn line_that_asks_for_more_is_not_usable() {
        // S13: none of these may become a line without what it asks for
        let parameters = [
            "UNENCRYPTED_SRTP",
            "UNENCRYPTED_SRTCP",
            "UNAUTHENTICATED_SRTP",
            "FEC_ORDER=FEC_SRTP",
            "KDR=4",
            "FEC_KEY=inline:x",
            "WSH",
            "new",
        ];
        for parameter in parameters {
            assert_eq!(parse(&format!("{CM} WSH=64 {parameter}")), Err(Unusable::Parameter), "{parameter}");
        }
        for end in [
            "|1:4",
            "|2^20|1:32",
            "|2^20|1:",
            "|:",
            "|1:999",
            ";inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR",
            "|2^20;inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20",
        ] {
            assert_eq!(parse(&format!("{CM}{end}")), Err(Unusable::Mki), "{end}");
        }
        for end in ["|", "|2^49", "|2^99", "|0", "|999999999999999", "|2^", "|2^20|1:0|1:0", "|-1", "|2^20|1:0|2^20"] {
            assert_eq!(parse(&format!("{CM}{end}")), Err(Unusable::Malformed), "{end}");
        }
    }

    #[test]
    fn key_of_another_length_is_not_usable() {
        for key in [
            "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBRAAAA",
            "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtx",
            "",
            "====",
            "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVB*",
            &"A".repeat(9999),
        ] {
            assert_eq!(parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}")), Err(Unusable::Key), "{key}");
        }
        assert_eq!(parse(&CM.replace("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM")), Err(Unusable::Key));
    }

    #[test]
    fn what_is_no_line_is_malformed() {
        for line in
            ["", " ", "1", "1 AES_CM_128_HMAC_SHA1_80", "x AES_CM_128_HMAC_SHA1_80 inline:A", "1234567890 F8 inline:A", "-1 F8 inline:A"]
        {
            assert_eq!(parse(line), Err(Unusable::Malformed), "{line}");
        }
        assert_eq!(parse(&CM.replace("inline:", "outline:")), Err(Unusable::Malformed));
        assert_eq!(parse(&CM.replace("inline:", "i")), Err(Unusable::Malformed));
    }

    #[test]
    fn first_usable_line_is_chosen() {
        let lines = ["4 AES_CM_128_HMAC_SHA1_32 inline:A", "2 F8_128_HMAC_SHA1_80 inline:A", &CM.replace("1 AES", "7 AES"), CM];
        let offered = read(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(offered[..2], [Err(Unusable::Suite), Err(Unusable::Suite)]);
        let chosen = choose(&offered).unwrap();
        assert_eq!((chosen.tag, chosen.keys.profile()), (7, Profile::AesCm128HmacSha1_80));
        assert_eq!(choose(&offered[..2]), None);
        assert_eq!(read(std::iter::repeat_n(CM.as_bytes(), 100)).len(), MAX_CRYPTO);
    }

    #[test]
    fn answer_must_have_the_tag_and_the_profile_of_an_offered_line() {
        let [first, second] = crate::rtp::srtp::PROFILES.map(|profile| Keys::random(profile, &mut count_up));
        let offered = [Crypto { tag: 1, keys: first }, Crypto { tag: 2, keys: second }];
        let answered = |tag: u32, of: &Crypto| [Ok(Crypto { tag, keys: of.keys.clone() })];
        assert_eq!(agree(&offered, &answered(2, &offered[1])).map(|(ours, theirs)| (ours.tag, theirs.tag)), Some((2, 2)));
        assert_eq!(agree(&offered, &answered(1, &offered[1])), None, "the profile of the other line");
        assert_eq!(agree(&offered, &answered(3, &offered[0])), None, "a tag that was not offered");
        assert_eq!(agree(&offered, &[Err(Unusable::Parameter)]), None);
    }
}
