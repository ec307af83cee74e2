//! `media::sdp::crypto`: a usable line reads the same after printing, and its answer has its tag and profile.

use media::{
    rtp::srtp::Keys,
    sdp::crypto::{Crypto, MAX_CRYPTO, agree, choose, read},
};

/// Tries one input: a line of it is the value of an `a=crypto` attribute.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let lines = read(data.split(|octet| *octet == b'\n'));
    assert!(lines.len() <= MAX_CRYPTO);
    for line in lines.iter().flatten() {
        let printed = line.to_text();
        let again = Crypto::parse(printed.as_bytes());
        assert!(again.as_ref() == Ok(line), "what we print is refused: {printed}");
        assert!(line.tag <= 999_999_999);
    }
    let Some(chosen) = choose(&lines) else { return false };
    let keys = Keys::random(chosen.keys.profile(), &mut |octets| octets.fill(7));
    let answer = [Ok(Crypto { tag: chosen.tag, keys })];
    let offered: Vec<Crypto> = lines.iter().flatten().cloned().collect();
    assert!(agree(&offered, &answer).is_some_and(|(ours, _)| ours == chosen), "the answer is to the first usable line");
    true
}
