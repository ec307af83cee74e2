//! `media::sdp`: a description reads the same after printing, and offer and answer made of any description can be read (S18).

use std::net::SocketAddr;

use media::sdp::negotiate::{Finality, Negotiation, StreamAddress};
use media::sdp::secret::Secret;
use media::sdp::transport::{Local, Profile, Protection};
use media::sdp::{Description, MediaDescription};

use crate::torture;

/// The bodies of RFC 4475's messages.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let body =
        |torture: &torture::Torture| torture.bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| torture.bytes[at + 4..].to_vec());
    torture::MESSAGES.iter().filter_map(body).filter(|body| body.starts_with(b"v=0")).collect()
}

/// Tries one body: as a description, and as the offer and the answer of a call between two legs.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Ok(offer) = Description::parse(data) else { return false };
    let printed = offer.to_bytes();
    let again = read(&printed);
    // Lines that stood out of the grammar's order are printed in it, so the first print may differ in their order.
    assert_eq!((&again.attributes, &again.connection), (&offer.attributes, &offer.connection));
    assert!(again.media.iter().map(in_order).eq(offer.media.iter().map(in_order)));
    assert_eq!(again.to_bytes(), printed);
    // One call: a's offer goes to b; b answers with the same body; the answer goes back to a.
    let profiles = [Profile::Plain, Profile::Opportunistic, Profile::Sdes, Profile::Dtls, Profile::WebRtc];
    let profile = profiles[data.len() % profiles.len()];
    let leg = |id, profile| Negotiation::new(id, profile, Protection::Prefer, Secret::new([7; 32]));
    let (mut a, mut b) = (leg(1, Profile::Plain), leg(2, profile));
    if a.receive_offer(offer.clone()).is_err() {
        return true;
    }
    if let Ok(body) = b.make_offer(&offer, &addresses(b.streams_needed(&offer))) {
        assert_eq!(read(&body).media.len(), offer.media.len());
        let _ = b.receive_answer(offer.clone(), Finality::Early);
        let _ = (b.streams(), b.receive_answer(offer.clone(), Finality::Final), b.streams());
        b.rollback();
    }
    let template = b.remote().cloned().unwrap_or_else(|| offer.clone());
    if let Ok(body) = a.make_answer(&template, &addresses(a.streams_needed(&offer))) {
        assert_eq!(read(&body).media.len(), offer.media.len(), "an answer has the lines of its offer");
        let _ = a.streams();
    }
    true
}

/// An m-line with its other lines in the order of print.
fn in_order(media: &MediaDescription) -> MediaDescription {
    let mut media = media.clone();
    media.lines.sort_by_key(|line| line.kind);
    media
}

fn read(body: &[u8]) -> Description {
    Description::parse(body).unwrap_or_else(|e| panic!("what we print is refused ({e}): {}", body.escape_ascii()))
}

fn addresses(count: usize) -> Local {
    let at = |port: usize| SocketAddr::from(([192, 0, 2, 1], u16::try_from(port).unwrap_or(9)));
    let addresses = (0..count).map(|stream| StreamAddress { rtp: at(20_000 + 2 * stream), rtcp: at(20_001 + 2 * stream) }).collect();
    Local { addresses, fingerprint: format!("sha-256 {}FF", "00:".repeat(31)).into(), thread: 0 }
}
