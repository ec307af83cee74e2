//! URIs, hosts and addresses of record: equivalence is reflexive and symmetric, and what we make reads back as what it was made of.

use bytestring::ByteString;
use sip::message::uri::unescape;
use sip::{Aor, Host, Uri};

use crate::torture;

/// What looks like a URI in RFC 4475's messages.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let words = |torture: &torture::Torture| {
        let text = String::from_utf8_lossy(torture.bytes).into_owned();
        let words = text.split(|c: char| c.is_ascii_whitespace() || c == '<' || c == '>').filter(|word| word.contains(':'));
        words.map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>()
    };
    torture::MESSAGES.iter().flat_map(words).collect()
}

/// Tries one URI, or two with a line end between them.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut uris = text.split("\r\n").filter_map(|text| one(&text.into()));
    match (uris.next(), uris.next()) {
        (Some(a), Some(b)) => {
            assert_eq!(a.is_equivalent(&b), b.is_equivalent(&a), "{a} {b}");
            true
        }
        (a, _) => a.is_some(),
    }
}

fn one(text: &ByteString) -> Option<Uri> {
    if let Some(host) = Host::parse(text) {
        assert_eq!(Host::parse(&host.to_string()), Some(host));
    }
    if let Some(aor) = Aor::parse(text) {
        made(&aor);
    }
    let uri = Uri::parse(text)?;
    assert_eq!(uri.as_str(), &**text);
    assert!(uri.is_equivalent(&uri), "{uri}");
    if let Some(host) = uri.host() {
        assert_eq!(Host::parse(&host.to_string()).as_ref(), Some(host));
    }
    assert!(uri.user_unescaped().is_none_or(|user| !user.contains(|c: char| c.is_ascii_control()))); // S7
    assert!(uri.params().iter().all(|(name, _)| uri.param(name).is_some()));
    let _ = (uri.transport(), uri.is_loose_router(), uri.port(), unescape(uri.headers()));
    if let Some(aor) = uri.aor() {
        made(&aor);
    }
    if let (Some(user), Some(host)) = (uri.user_unescaped(), uri.host()) {
        let again = Uri::sip(&user, host, uri.port(), "").unwrap_or_else(|| panic!("{uri} cannot be made again"));
        assert_eq!((again.user_unescaped(), again.host(), again.port()), (Some(user), Some(host), uri.port()));
    }
    Some(uri)
}

fn made(aor: &Aor) {
    assert_eq!(Aor::parse(aor.as_str()).as_ref(), Some(aor));
    if let Some(uri) = aor.uri() {
        assert_eq!(uri.aor().as_ref(), Some(aor), "{uri}");
    }
}
