//! What a leg is told of the others where no offer of theirs is passed on to it: a description composed of their lines (RFC 3725).
//! It knows no calls and changes nothing.

use std::borrow::Cow;
use std::sync::LazyLock;

use media::Kinds;
use media::sdp::{Attribute, Description, Direction, MediaDescription, Origin, Text};

/// What is offered of a kind that nobody in the call has yet. For sound the negotiation adds the codecs that we have besides.
static NEW: LazyLock<Description> = LazyLock::new(|| {
    let text = b"v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        m=audio 9 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
        m=video 9 RTP/AVP 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 H264/90000\r\n\
        a=fmtp:97 packetization-mode=1;profile-level-id=42e01f;level-asymmetry-allowed=1\r\n";
    Description::parse(text).expect("it is written as RFC 8866 wants")
});

/// What becomes of a line that is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// It is taken away.
    Refused,
    /// It stays, and nothing is sent on it: in a bundle its transport may be that of the others (RFC 8843 §7.3).
    Inactive,
}

/// Composes what the offer to a leg is made after: its own lines, so that each keeps its place, and those it has not yet. `others`: the
/// line of a kind as another leg has it.
pub(super) fn offer(
    own: &[MediaDescription],
    wanted: Kinds,
    unwanted: Unwanted,
    others: impl Fn(Kinds) -> Option<MediaDescription>,
) -> Description {
    let mut left = wanted;
    let mut media = lines((own, true), &mut left, unwanted, &others);
    for kind in left.each() {
        media.extend(others(kind).or_else(|| NEW.media.iter().find(|line| Kinds::of(&line.kind) == kind).cloned()));
    }
    compose(media)
}

/// Composes what the answer to a leg's offer is made after.
pub(super) fn answer(
    offered: &[MediaDescription],
    wanted: Kinds,
    unwanted: Unwanted,
    others: impl Fn(Kinds) -> Option<MediaDescription>,
) -> Description {
    compose(lines((offered, false), &mut { wanted }, unwanted, &others))
}

/// Returns what another leg's peer says as this leg is told it: of this leg's own lines, those that the other one has refused, or has not,
/// stay where they cannot be taken away.
pub(super) fn passed<'a>(own: &[MediaDescription], other: &'a Description, unwanted: Unwanted) -> Cow<'a, Description> {
    let keeps = |(at, line): (usize, &MediaDescription)| {
        line.port != 0 && !Kinds::of(&line.kind).is_empty() && other.media.get(at).is_none_or(|other| other.port == 0)
    };
    let is_wanted = other.media.iter().any(|line| line.port != 0);
    if unwanted == Unwanted::Refused || !is_wanted || !own.iter().enumerate().any(keeps) {
        return Cow::Borrowed(other);
    }
    let mut passed = other.clone();
    for (at, line) in own.iter().enumerate() {
        let kept = keeps((at, line)).then(|| told(line.clone(), Direction::Inactive));
        match (passed.media.get_mut(at), kept) {
            (Some(line), Some(kept)) => *line = kept,
            (Some(_), None) => {}
            (None, Some(kept)) => passed.media.push(kept),
            (None, None) => passed.media.push(MediaDescription { port: 0, ..line.clone() }),
        }
    }
    Cow::Owned(passed)
}

/// The first line of each wanted kind is as another leg has it, or as it is; the others are not wanted. A refused line is used again in
/// an offer only. Takes the kinds found from `left`.
fn lines(
    (own, reuses): (&[MediaDescription], bool),
    left: &mut Kinds,
    unwanted: Unwanted,
    others: &impl Fn(Kinds) -> Option<MediaDescription>,
) -> Vec<MediaDescription> {
    let line = |own: &MediaDescription| {
        let kind = Kinds::of(&own.kind);
        if !kind.is_empty() && left.contains(kind) && (own.port != 0 || reuses) {
            *left = *left - kind;
            return others(kind).unwrap_or_else(|| told(own.clone(), Direction::SendRecv));
        }
        match unwanted {
            Unwanted::Inactive if own.port != 0 => told(own.clone(), Direction::Inactive),
            Unwanted::Inactive | Unwanted::Refused => MediaDescription { port: 0, ..own.clone() },
        }
    };
    own.iter().map(line).collect()
}

/// What one on hold is told: we send, and take nothing of it (RFC 3264 §8.4).
pub(super) fn on_hold(mut description: Description) -> Description {
    let directions: Vec<Direction> = description.media.iter().map(|line| description.direction_of(line)).collect();
    for (line, direction) in description.media.iter_mut().zip(directions) {
        line.attributes.retain(|attribute| !matches!(attribute, Attribute::Direction(_)));
        line.attributes.push(Attribute::Direction(direction.and(Direction::SendOnly)));
    }
    description
}

/// A line of a peer's description as others are told of it: without its transport, and with what it uses now first.
pub(super) fn told(mut line: MediaDescription, direction: Direction) -> MediaDescription {
    line.port = line.port.max(1);
    line.port_count = 1;
    line.protocol = "RTP/AVP".into();
    line.connection = None;
    line.attributes.retain(|attribute| !matches!(attribute, Attribute::Direction(_)));
    line.attributes.push(Attribute::Direction(direction));
    line
}

fn compose(media: Vec<MediaDescription>) -> Description {
    let origin = Origin { username: "-".into(), session_id: "0".into(), version: "0".into(), address: "IN IP4 0.0.0.0".into() };
    Description {
        origin,
        session_name: Text::from("-"),
        connection: None,
        bandwidth: Vec::new(),
        lines: Vec::new(),
        attributes: Vec::new(),
        media,
    }
}

#[cfg(test)]
mod tests {
    use media::sdp::MediaKind;

    use super::*;

    fn lines_of(media: &str) -> Vec<MediaDescription> {
        Description::parse(format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}").as_bytes())
            .unwrap()
            .media
    }

    fn shape(description: &Description) -> Vec<(MediaKind, bool, Option<Direction>)> {
        description.media.iter().map(|line| (line.kind.clone(), line.port != 0, line.direction())).collect()
    }

    const AUDIO: &str = "m=audio 4000 RTP/SAVP 8\r\na=sendonly\r\n";
    const VIDEO: &str = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";

    #[test]
    fn a_new_leg_is_offered_the_wanted_kinds_and_no_other() {
        let theirs = lines_of(&format!("{AUDIO}{VIDEO}"));
        let of = |kind| theirs.iter().find(|line| Kinds::of(&line.kind) == kind).cloned().map(|line| told(line, Direction::SendRecv));
        let both = Some(Direction::SendRecv);
        assert_eq!(shape(&offer(&[], Kinds::VIDEO, Unwanted::Refused, of)), [(MediaKind::Video, true, both)]);
        let all = offer(&[], Kinds::BOTH, Unwanted::Refused, of);
        assert_eq!(shape(&all), [(MediaKind::Audio, true, both), (MediaKind::Video, true, both)]);
        assert_eq!(all.media[0].protocol, "RTP/AVP".into(), "how it travels is each leg's own affair");
    }

    #[test]
    fn lines_keep_their_places() {
        let own = lines_of(&format!("{VIDEO}{AUDIO}"));
        let none = |_| None;
        let taken = shape(&offer(&own, Kinds::AUDIO, Unwanted::Refused, none));
        assert_eq!(taken.iter().map(|(_, active, _)| *active).collect::<Vec<_>>(), [false, true]);
        let kept = shape(&offer(&own, Kinds::AUDIO, Unwanted::Inactive, none));
        let both = [(MediaKind::Video, true, Some(Direction::Inactive)), (MediaKind::Audio, true, Some(Direction::SendRecv))];
        assert_eq!(kept, both);
        let more = shape(&offer(&own[..1], Kinds::BOTH, Unwanted::Refused, none));
        assert_eq!(more.iter().map(|(kind, ..)| kind.clone()).collect::<Vec<_>>(), [MediaKind::Video, MediaKind::Audio]);
    }

    #[test]
    fn what_the_other_one_refuses_stays_in_a_bundle_and_nowhere_else() {
        let own = lines_of(&format!("{AUDIO}{VIDEO}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
        let sound = compose(lines_of(AUDIO));
        let kept = shape(&passed(&own, &sound, Unwanted::Inactive));
        assert_eq!(kept[1], (MediaKind::Video, true, Some(Direction::Inactive)));
        assert_eq!((kept.len(), kept[2].1), (3, false), "no media");
        assert_eq!(passed(&own, &sound, Unwanted::Refused).as_ref(), &sound);
        let nothing = compose(lines_of("m=audio 0 RTP/AVP 8\r\n"));
        assert_eq!(passed(&own, &nothing, Unwanted::Inactive).as_ref(), &nothing, "of a session that is over nothing is kept");
    }

    #[test]
    fn who_is_on_hold_is_sent_to_and_not_listened_to() {
        let inactive = format!("{AUDIO}{}a=inactive\r\n", VIDEO);
        let shape = shape(&on_hold(compose(lines_of(&format!("{inactive}m=audio 4000 RTP/AVP 8\r\n")))));
        let directions: Vec<_> = shape.into_iter().map(|(.., direction)| direction.unwrap()).collect();
        assert_eq!(directions, [Direction::SendOnly, Direction::Inactive, Direction::SendOnly]);
    }

    #[test]
    fn an_answer_has_the_lines_of_its_offer() {
        let offered = lines_of(&format!("{AUDIO}{VIDEO}{AUDIO}"));
        let answered = shape(&answer(&offered, Kinds::AUDIO, Unwanted::Refused, |_| None));
        assert_eq!(answered.iter().map(|(_, active, _)| *active).collect::<Vec<_>>(), [true, false, false]);
    }
}
