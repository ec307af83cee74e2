//! Whether an answer fits its offer (RFC 3264 §6), and is protected where the offer was (security row S13).

use super::super::{Description, MediaDescription, template::answered_formats, transport::Profile};
use super::{Error, agreed::chosen};

pub(super) fn check_answer(offer: &Description, answer: &Description) -> Result<(), Error> {
    if offer.media.len() != answer.media.len() {
        return Err(Error::LineCount { expected: offer.media.len(), got: answer.media.len() });
    }
    for (line, (offered, answered)) in offer.media.iter().zip(&answer.media).enumerate() {
        let fault = |fault| Err(Error::Line { line: line + 1, fault });
        if offered.kind != answered.kind {
            return fault("is of another kind than the offered one");
        }
        if answered.port == 0 {
            continue;
        }
        if offered.port == 0 {
            return fault("accepts a stream that was offered as refused");
        }
        if !same_profile(offered, answered) {
            return fault("has another profile than the offered one");
        }
        if answered.port_count != 1 {
            return fault("has more than one port");
        }
        // RFC 3264 §6.1 allows formats that were not offered beside those that were; they are of no use here.
        if answered_formats(offered, Some(answered)).is_empty() {
            return fault("has none of the offered codecs");
        }
    }
    Ok(())
}

/// Whether both use the same profile, with or without feedback (RFC 4585 §3.1: some answer AVP to AVPF and mean it).
fn same_profile(offered: &MediaDescription, answered: &MediaDescription) -> bool {
    let base = |media: &MediaDescription| {
        let name = media.protocol.as_bytes().to_ascii_uppercase();
        name.strip_suffix(b"F").map_or(name.clone(), <[u8]>::to_vec)
    };
    base(offered) == base(answered)
}

/// An answer without a key to an offer that wants one never means unprotected media (S13).
pub(super) fn check_protection(offer: &Description, answer: &Description) -> Result<(), Error> {
    for (line, (offered, answered)) in offer.media.iter().zip(&answer.media).enumerate() {
        let (ours, theirs) = (Profile::of(offer, offered), Profile::of(answer, answered));
        let fault = |fault| Err(Error::Line { line: line + 1, fault });
        match (ours, theirs) {
            _ if answered.port == 0 => {}
            (Some(ours), None) if ours.is_protected() => return fault("has no key or fingerprint for a protected stream"),
            (Some(Profile::WebRtc), theirs) if theirs != Some(Profile::WebRtc) => return fault("lacks ICE or rtcp-mux"),
            (Some(Profile::Sdes), Some(Profile::Dtls)) => {}
            (Some(Profile::Sdes), _) if chosen(offered, answered).is_none() => return fault("has no key for a protected stream"),
            (Some(_) | None, _) => {}
        }
    }
    Ok(())
}
