//! Why a call stays as it is. One type for whoever asks: a phone is told a status, a client application a sentence.

use sip::StatusCode;
use sip::message::Headers;
use sip::random::Random;

use crate::retry::Retry;

/// Why something is not done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call is not there, or not any more.
    #[error("there is no such call")]
    NoCall,
    /// The party is not in the call.
    #[error("this party is not in the call")]
    NoParty,
    /// It does not belong to who asks.
    #[error("the call is somebody else's")]
    NotYours,
    /// It needs an answered call.
    #[error("the call is not answered yet")]
    NotAnswered,
    /// It needs a device that rings.
    #[error("no device of the party rings")]
    NotRinging,
    /// It is about a call of two parties who talk, and this is none.
    #[error("the call is not one of two parties who talk")]
    NotTalking,
    /// One change at a time.
    #[error("another change of the call is not over yet")]
    UnderWay,
    /// Several devices ring, and none was named.
    #[error("several devices ring: say which one is to answer")]
    WhichDevice,
    /// The device cannot be told to answer.
    #[error("the device does not answer by itself: it goes on ringing")]
    NotByItself,
    /// The device holds by itself.
    #[error("the call is on hold at the device, which alone can take it off")]
    HoldsItself,
    /// The device is not in the call.
    #[error("this device is not in the call")]
    NoDevice,
    /// No such device of the user is registered.
    #[error("the user has no registered device of this name")]
    UnknownDevice,
    /// None of the user's devices is registered.
    #[error("no device of the user is registered")]
    NothingRegistered,
    /// There would be no device left.
    #[error("this is the party's only device in the call")]
    LastDevice,
    /// It is so already.
    #[error("this device carries it already")]
    Same,
    /// There are [`MAX_DEVICES`](super::MAX_DEVICES).
    #[error("the party has as many devices in the call as are possible")]
    TooManyDevices,
    /// There is no address to call.
    #[error("no way leads to the device")]
    NoWay,
    /// These are no digits, or too many.
    #[error("these are not up to 32 digits")]
    BadDigits,
    /// The device said that it is busy.
    #[error("the device is busy")]
    Busy,
    /// Somebody declined at the device.
    #[error("the call was declined at the device")]
    Declined,
    /// Nobody answered at the device.
    #[error("nobody answered at the device in time")]
    NoAnswer,
    /// No device could be reached.
    #[error("no device could be reached")]
    Unreachable,
    /// The device takes no such media, or the other side does not.
    #[error("the device or the other side does not take this media")]
    NotTaken,
    /// The device hung up, or was lost.
    #[error("the device left the call")]
    TargetGone,
    /// There is no such slot, or no call in it.
    #[error("there is no such slot, or no call in it")]
    NoSlot,
    /// Another call is in the slot, or one is in each.
    #[error("the slot is taken")]
    SlotTaken,
    /// Another one took the call meanwhile.
    #[error("another one has taken the call")]
    Elsewhere,
    /// There are [`Calls::MAX`](super::Calls::MAX).
    #[error("there are too many calls")]
    TooManyCalls,
    /// There are [`Policy::calls_per_user`](super::Policy::calls_per_user).
    #[error("the user has made as many calls as one may have (limits.calls_per_user)")]
    TooManyOfUser,
    /// There are [`Policy::calls_per_trunk`](super::Policy::calls_per_trunk).
    #[error("as many calls have come by the trunk as may (limits.calls_per_trunk)")]
    TooManyOfTrunk,
    /// No media port is free, or the system refuses one.
    #[error("no media port can be opened")]
    NoPorts,
    /// There are [`Calls::SLOTS_OF_ONE`](super::Calls::SLOTS_OF_ONE).
    #[error("the user has parked as many calls as one may")]
    TooManyParked,
    /// It needs a conference.
    #[error("the call is no conference")]
    NoConference,
    /// It is the moderator's to do, or nobody whom this can be done by.
    #[error("only a user who is the moderator may do this")]
    NotModerator,
    /// The moderator lets nobody in.
    #[error("the conference is locked")]
    Locked,
    /// There are [`MAX_PARTIES`](super::conference::MAX_PARTIES).
    #[error("the conference has as many parties as are possible")]
    Full,
    /// They are in it, and would talk to themselves.
    #[error("they are in the call already")]
    Present,
    /// It is the moderator's to undo.
    #[error("the moderator has muted this: only the moderator can undo it")]
    Silenced,
    /// A room stays where it is.
    #[error("a room cannot be joined to another call")]
    IsRoom,
    /// Each visitor of the room shows the PIN.
    #[error("the room asks for its PIN: call it, and join this call to yours there")]
    AsksPin,
    /// A media thread is overloaded, and the ports of a call cannot go to another one.
    #[error("the media of the calls is on different threads, and cannot be brought together now")]
    OtherThread,
    /// The call ended meanwhile.
    #[error("the call ended meanwhile")]
    CallOver,
    /// They are no user any more.
    #[error("the user was removed")]
    Removed,
}

/// When to try again.
pub(super) fn retry_after(random: &mut Random) -> Headers {
    let mut headers = Headers::default();
    Retry::Soon.push(&mut headers, random);
    headers
}

impl Refusal {
    /// Returns what a phone is told.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoCall | Self::NoParty | Self::Elsewhere | Self::CallOver => StatusCode::NO_TRANSACTION,
            Self::NotYours | Self::Locked | Self::NotModerator | Self::Silenced | Self::Present => StatusCode::FORBIDDEN,
            Self::NotAnswered
            | Self::NotRinging
            | Self::WhichDevice
            | Self::NotByItself
            | Self::HoldsItself
            | Self::NotTalking
            | Self::UnderWay
            | Self::LastDevice
            | Self::Same
            | Self::TooManyDevices => StatusCode::REQUEST_PENDING,
            Self::NoDevice
            | Self::UnknownDevice
            | Self::NothingRegistered
            | Self::NoWay
            | Self::NoAnswer
            | Self::Unreachable
            | Self::TargetGone => StatusCode::TEMPORARILY_UNAVAILABLE,
            Self::NoConference | Self::IsRoom | Self::AsksPin => StatusCode::REQUEST_PENDING,
            Self::OtherThread => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadDigits => StatusCode::BAD_REQUEST,
            // not 503: for what one user does too much, a phone must not turn away from the switch (RFC 3261 §21.5.4)
            Self::Busy | Self::Full | Self::SlotTaken | Self::TooManyOfUser | Self::TooManyParked => StatusCode::BUSY_HERE,
            Self::Declined => StatusCode::DECLINE,
            Self::NotTaken => StatusCode::NOT_ACCEPTABLE_HERE,
            Self::NoSlot | Self::Removed => StatusCode::NOT_FOUND,
            Self::TooManyCalls | Self::TooManyOfTrunk | Self::NoPorts => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns what a phone is told besides.
    pub(super) fn headers(self, random: &mut Random) -> Headers {
        let is_passing = self.status() == StatusCode::SERVICE_UNAVAILABLE || self == Self::TooManyOfUser;
        if is_passing { retry_after(random) } else { Headers::default() }
    }

    /// Returns why media could not be agreed on, of what a phone is told.
    pub(super) fn unusable(status: StatusCode) -> Self {
        if status == StatusCode::SERVICE_UNAVAILABLE { Self::NoPorts } else { Self::NotTaken }
    }

    /// Returns what a final response to our INVITE means.
    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BUSY_HERE => Self::Busy,
            StatusCode::NOT_ACCEPTABLE_HERE | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::NOT_ACCEPTABLE => Self::NotTaken,
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::FLOW_FAILED
            | StatusCode::NOT_FOUND
            | StatusCode::TEMPORARILY_UNAVAILABLE => Self::Unreachable,
            StatusCode::REQUEST_TERMINATED => Self::NoAnswer,
            _ => Self::Declined,
        }
    }
}
