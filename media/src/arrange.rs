//! What a bridge is to be: the ports in it, whose they are, and what each gives and takes. Plain data: the engine works out what changes
//! ([`Engine::arrange`](crate::Engine)). It knows no codecs and no packets.

use std::ops::{BitAnd, BitOr, Sub};

use crate::{PortId, sdp::MediaKind};

/// Names a bridge of a media thread; the host chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BridgeId(pub u64);

/// Names a sound that a port can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SoundId(pub u16);

impl SoundId {
    /// The music that a party hears while it is on hold or parked.
    pub const HOLD: Self = Self(0);
    /// The tone that who calls hears while it rings.
    pub const RINGBACK: Self = Self(1);
}

/// A set of kinds of media: audio, video, both or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Kinds {
    /// Audio is in it.
    pub audio: bool,
    /// Video is in it.
    pub video: bool,
}

impl Kinds {
    /// Neither.
    pub const NONE: Self = Self { audio: false, video: false };
    /// Audio.
    pub const AUDIO: Self = Self { audio: true, video: false };
    /// Video.
    pub const VIDEO: Self = Self { audio: false, video: true };
    /// Audio and video.
    pub const BOTH: Self = Self { audio: true, video: true };

    /// Returns the set of one kind; what is neither audio nor video is in no set.
    #[must_use]
    pub fn of(kind: &MediaKind) -> Self {
        match kind {
            MediaKind::Audio => Self::AUDIO,
            MediaKind::Video => Self::VIDEO,
            MediaKind::Other(_) => Self::NONE,
        }
    }

    /// Returns true without a kind.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Returns true if each of the other set's kinds is in this one.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self & other == other
    }

    /// Returns the kinds one by one, audio first.
    pub fn each(self) -> impl Iterator<Item = Self> {
        [Self::AUDIO, Self::VIDEO].into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { audio: self.audio || other.audio, video: self.video || other.video }
    }
}

impl BitAnd for Kinds {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self { audio: self.audio && other.audio, video: self.video && other.video }
    }
}

impl Sub for Kinds {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { audio: self.audio && !other.audio, video: self.video && !other.video }
    }
}

/// A port in a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub port: PortId,
    /// Whose: members of the same party neither hear nor see each other.
    pub party: u16,
    /// What of it goes to the other parties.
    pub gives: Kinds,
    /// What it gets from the other parties.
    pub takes: Kinds,
    /// During a handoff: it gives each kind only until this other member of its party is first heard with that kind.
    pub until: Option<PortId>,
    /// It hears this instead of the others.
    pub plays: Option<SoundId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_sets() {
        let all = [Kinds::NONE, Kinds::AUDIO, Kinds::VIDEO, Kinds::BOTH];
        for a in all {
            for b in all {
                assert_eq!((a | b) - b, a - b);
                assert_eq!((a - b) | (a & b), a);
                assert_eq!(a.contains(b), (b - a).is_empty());
            }
            assert_eq!(a.each().fold(Kinds::NONE, BitOr::bitor), a);
        }
    }
}
