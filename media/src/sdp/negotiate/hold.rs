//! Hold (RFC 3264 §8.4): whether a peer takes no sound of its own accord, and not because nothing is sent to it. Music and display follow
//! from it elsewhere.

use super::super::{Description, Direction, MediaDescription, MediaKind};

fn is_sound(media: &MediaDescription) -> bool {
    media.kind == MediaKind::Audio && media.port != 0
}

/// Returns true if whoever offers this takes no sound: it holds.
#[must_use]
pub fn takes_no_sound(offer: &Description) -> bool {
    let mut sound = offer.media.iter().filter(|media| is_sound(media)).map(|media| offer.direction_of(media)).peekable();
    sound.peek().is_some() && !sound.any(Direction::receives)
}

/// Returns whether a peer that answers our offer so holds. Where we offered to send nothing its answer says nothing, and where we hold
/// ourselves a refusal to listen says nothing new: it is as it was before.
pub(super) fn by_answer(offer: &Description, answer: &Description, before: bool) -> bool {
    let lines = offer.media.iter().zip(&answer.media).filter(|(_, answered)| is_sound(answered));
    let mut taken =
        lines.filter(|(offered, _)| offer.direction_of(offered).sends()).map(|(_, answered)| answer.direction_of(answered)).peekable();
    let says_nothing = taken.peek().is_none();
    let listens = taken.any(Direction::receives);
    if says_nothing || takes_no_sound(offer) && !listens { before } else { !listens }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn said(direction: &str) -> Description {
        let text = format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na={direction}\r\n\
             m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
        );
        Description::parse(&Bytes::from(text)).unwrap()
    }

    #[test]
    fn who_offers_to_take_no_sound_holds() {
        for (direction, expected) in [("sendonly", true), ("inactive", true), ("sendrecv", false), ("recvonly", false)] {
            assert_eq!(takes_no_sound(&said(direction)), expected, "{direction}");
        }
    }

    #[test]
    fn who_answers_that_it_takes_none_holds_unless_none_was_offered() {
        for (offered, answered, before, expected) in [
            ("sendrecv", "sendonly", false, true),
            ("sendrecv", "inactive", false, true),
            ("sendrecv", "sendrecv", true, false),
            ("sendonly", "recvonly", true, false),
            ("sendonly", "recvonly", false, false),
            ("sendonly", "inactive", false, false),
            ("sendonly", "inactive", true, true),
            ("inactive", "inactive", false, false),
            ("inactive", "inactive", true, true),
            ("recvonly", "sendonly", false, false),
        ] {
            assert_eq!(by_answer(&said(offered), &said(answered), before), expected, "{offered} {answered} {before}");
        }
    }
}
