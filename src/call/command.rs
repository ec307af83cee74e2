//! Commands: what a party, or an administrator, may want of a call while it lasts. What takes time answers with a ticket, and its outcome
//! follows as [`Output::Outcome`](super::Output::Outcome). Who may ask is not decided here.

use media::Kinds;
use media::dtmf::Digit;
use sip::StatusCode;

use super::conference::Guest;
use super::handoff::Manner;
use super::leg::Stage;
use super::party::PartyId;
use super::record::EndedBy;
use super::{Calls, Id, State, Switch, Target};
use crate::device;

/// Most digits of one command.
pub const MAX_DIGITS: usize = 32;

/// Something to do with a call.
#[derive(Clone, Debug)]
pub enum Command {
    /// The kinds go to this device of the party, which is called unless it is in the call. Both kinds: all that there is.
    Move {
        /// The call.
        call: Id,
        /// Whose devices.
        party: PartyId,
        /// What moves.
        kinds: Kinds,
        /// Where to.
        target: Target,
    },
    /// One device carries audio and another one video.
    Split {
        /// The call.
        call: Id,
        /// Whose devices.
        party: PartyId,
        /// The device for audio.
        audio: Target,
        /// The device for video.
        video: Target,
    },
    /// This device carries the kinds, too, beside those that do already.
    Join {
        /// The call.
        call: Id,
        /// Whose devices.
        party: PartyId,
        /// What it carries.
        kinds: Kinds,
        /// The device.
        target: Target,
    },
    /// This device leaves; what it alone carried goes to another one of the party that can carry it.
    Leave {
        /// The call.
        call: Id,
        /// Whose devices.
        party: PartyId,
        /// The device.
        device: device::Id,
    },
    /// The party puts the others on hold: they hear music.
    Hold {
        /// The call.
        call: Id,
        /// Who.
        party: PartyId,
    },
    /// The party talks again.
    Resume {
        /// The call.
        call: Id,
        /// Who.
        party: PartyId,
    },
    /// The others get everything of the party but this, from now on.
    Mute {
        /// The call.
        call: Id,
        /// Who.
        party: PartyId,
        /// What they do not get.
        kinds: Kinds,
    },
    /// Other calls of the party's user become part of this one, and guests are called into it. With guests it takes time, and works if one
    /// of them comes.
    Gather {
        /// The call.
        call: Id,
        /// Whose other calls, and who asks.
        party: PartyId,
        /// The other calls.
        calls: Vec<Id>,
        /// The guests.
        guests: Vec<Guest>,
    },
    /// The moderator removes a party.
    Kick {
        /// The call.
        call: Id,
        /// The moderator.
        by: PartyId,
        /// Who.
        party: PartyId,
    },
    /// The moderator says what of a party the others do not get, from now on.
    Silence {
        /// The call.
        call: Id,
        /// The moderator.
        by: PartyId,
        /// Who.
        party: PartyId,
        /// What they do not get.
        kinds: Kinds,
    },
    /// The moderator lets nobody join the conference from now on, or lets them again.
    Lock {
        /// The call.
        call: Id,
        /// The moderator.
        by: PartyId,
        /// Whether it is locked.
        locked: bool,
    },
    /// The moderator makes another party the moderator.
    Moderate {
        /// The call.
        call: Id,
        /// The moderator.
        by: PartyId,
        /// Who is the moderator from now on.
        party: PartyId,
    },
    /// The others' devices are sent digits.
    Digits {
        /// The call.
        call: Id,
        /// Who sends them.
        party: PartyId,
        /// At most [`MAX_DIGITS`] of `0` to `9`, `*`, `#`, `A` to `D`.
        digits: String,
    },
    /// The party leaves; of two the call is over then. Before the answer the caller gives up, or the callee declines.
    Drop {
        /// The call.
        call: Id,
        /// Who.
        party: PartyId,
    },
    /// The call is over.
    End {
        /// The call.
        call: Id,
        /// Why, in one sentence, for the record.
        reason: String,
    },
}

/// Names a command that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a command came to at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is carried out.
    Done,
    /// It is under way: [`Output::Outcome`](super::Output::Outcome) with this ticket follows.
    Pending(Ticket),
}

/// Why a command is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call is not there, or not any more.
    #[error("there is no such call")]
    NoCall,
    /// The party is not in the call.
    #[error("this party is not in the call")]
    NoParty,
    /// It needs an answered call.
    #[error("the call is not answered yet")]
    NotAnswered,
    /// One move of a party at a time.
    #[error("another move of this party is not over yet")]
    UnderWay,
    /// The device is not in the call.
    #[error("this device is not in the call")]
    NoDevice,
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
    /// The device could not be reached.
    #[error("the device could not be reached")]
    Unreachable,
    /// The device takes no such media, or the other side does not.
    #[error("the device or the other side does not take this media")]
    NotTaken,
    /// The device hung up, or was lost.
    #[error("the device left the call")]
    TargetGone,
    /// Nobody has this number or name.
    #[error("nobody has this number or name")]
    NoUser,
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
    /// They are in it.
    #[error("they are in the conference already")]
    Present,
    /// A room stays where it is.
    #[error("a room cannot be joined to another call")]
    IsRoom,
    /// Media threads do not share calls.
    #[error("the media of the calls is on different threads, so that they cannot be joined")]
    OtherThread,
    /// The call ended meanwhile.
    #[error("the call ended meanwhile")]
    CallOver,
}

impl Refusal {
    /// Returns what a final response to our INVITE means.
    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BUSY_HERE => Self::Busy,
            StatusCode::NOT_ACCEPTABLE_HERE | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::NOT_ACCEPTABLE => Self::NotTaken,
            StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE | StatusCode::FLOW_FAILED | StatusCode::NOT_FOUND => {
                Self::Unreachable
            }
            StatusCode::REQUEST_TERMINATED => Self::NoAnswer,
            _ => Self::Declined,
        }
    }
}

impl Command {
    /// Returns the call that it is about.
    #[must_use]
    pub fn call(&self) -> Id {
        match self {
            Self::Move { call, .. }
            | Self::Split { call, .. }
            | Self::Join { call, .. }
            | Self::Leave { call, .. }
            | Self::Hold { call, .. }
            | Self::Resume { call, .. }
            | Self::Mute { call, .. }
            | Self::Gather { call, .. }
            | Self::Kick { call, .. }
            | Self::Silence { call, .. }
            | Self::Lock { call, .. }
            | Self::Moderate { call, .. }
            | Self::Digits { call, .. }
            | Self::Drop { call, .. }
            | Self::End { call, .. } => *call,
        }
    }
}

impl Calls {
    /// Carries out a command.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing has changed then.
    pub fn command(&mut self, switch: &mut Switch<'_>, command: Command) -> Result<Answer, Refusal> {
        let id = command.call();
        if self.calls.get(&id).is_none_or(|call| matches!(call.state, State::Over)) {
            return Err(Refusal::NoCall);
        }
        let answer = match command {
            Command::Move { party, kinds, target, .. } => self.hand_over(switch, (id, party), (kinds, Manner::Move), target, None),
            Command::Join { party, kinds, target, .. } => self.hand_over(switch, (id, party), (kinds, Manner::Join), target, None),
            Command::Split { party, audio, video, .. } => self.split(switch, (id, party), audio, video),
            Command::Leave { party, device, .. } => self.leave(switch, (id, party), &device),
            Command::Hold { party, .. } => self.set_holding(switch, (id, party), true),
            Command::Resume { party, .. } => self.set_holding(switch, (id, party), false),
            Command::Mute { party, kinds, .. } => self.mute(switch, (id, party), kinds),
            Command::Gather { party, calls, guests, .. } => self.gather(switch, (id, party), calls, guests),
            Command::Kick { by, party, .. } => self.kick(switch, (id, by), party),
            Command::Silence { by, party, kinds, .. } => self.silence(switch, (id, by), (party, kinds)),
            Command::Lock { by, locked, .. } => self.lock((id, by), locked),
            Command::Moderate { by, party, .. } => self.moderate((id, by), party),
            Command::Digits { party, digits, .. } => self.send_digits(switch, (id, party), &digits),
            Command::Drop { party, .. } => self.drop_party(switch, (id, party)),
            Command::End { reason, .. } => {
                self.end_call(switch, id, EndedBy::Switch, &reason);
                Ok(Answer::Done)
            }
        };
        self.touch(id);
        answer
    }

    /// Each kind goes to its device unless that alone carries it: the second move follows the first.
    fn split(&mut self, switch: &mut Switch<'_>, at: (Id, PartyId), audio: Target, video: Target) -> Result<Answer, Refusal> {
        let is_there = |kinds, target: &Target| self.calls.get(&at.0).is_some_and(|call| call.carries_alone(at.1, kinds, target));
        match (is_there(Kinds::AUDIO, &audio), is_there(Kinds::VIDEO, &video)) {
            (true, true) => Err(Refusal::Same),
            (true, false) => self.hand_over(switch, at, (Kinds::VIDEO, Manner::Move), video, None),
            (false, true) => self.hand_over(switch, at, (Kinds::AUDIO, Manner::Move), audio, None),
            (false, false) => self.hand_over(switch, at, (Kinds::AUDIO, Manner::Move), audio, Some((Kinds::VIDEO, Box::new(video)))),
        }
    }

    fn leave(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), device: &device::Id) -> Result<Answer, Refusal> {
        let call = self.calls.get(&id).filter(|call| call.party(party).is_some()).ok_or(Refusal::NoParty)?;
        let theirs = |leg: &&super::leg::Leg| leg.party == party && leg.device.as_ref() == Some(device);
        let leg = call.legs.iter().find(theirs).ok_or(Refusal::NoDevice)?;
        if !matches!(leg.stage, Stage::Up) {
            return Err(Refusal::NotAnswered);
        }
        if call.legs.iter().filter(|other| other.party == party && other.is_up()).count() < 2 {
            return Err(Refusal::LastDevice);
        }
        let leg = leg.id;
        self.let_leave(switch, id, leg, None);
        Ok(Answer::Done)
    }

    fn set_holding(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), holding: bool) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        if !matches!(call.state, State::Established(_)) {
            return Err(Refusal::NotAnswered);
        }
        call.party_mut(party).ok_or(Refusal::NoParty)?.holding = holding;
        self.arrange(switch, id);
        Ok(Answer::Done)
    }

    fn mute(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), kinds: Kinds) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        call.party_mut(party).ok_or(Refusal::NoParty)?.muted = kinds;
        self.arrange(switch, id);
        Ok(Answer::Done)
    }

    /// Presses each digit towards the other parties, in the way that their devices take.
    fn send_digits(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), digits: &str) -> Result<Answer, Refusal> {
        let is_digit = |digit: char| matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D');
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.chars().all(is_digit) {
            return Err(Refusal::BadDigits);
        }
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        if !matches!(call.state, State::Established(_)) {
            return Err(Refusal::NotAnswered);
        }
        call.party(party).ok_or(Refusal::NoParty)?;
        self.press_all(switch, (id, party), digits.chars().filter_map(Digit::from_letter));
        Ok(Answer::Done)
    }

    fn drop_party(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId)) -> Result<Answer, Refusal> {
        let call = self.calls.get(&id).filter(|call| call.party(party).is_some()).ok_or(Refusal::NoParty)?;
        let by = if party == PartyId::CALLER { EndedBy::Caller } else { EndedBy::Callee };
        match &call.state {
            State::Ringing(_) if party == PartyId::CALLER => {
                self.refuse(switch, id, StatusCode::REQUEST_TERMINATED, by, "the caller gave up");
            }
            State::Ringing(_) => self.refuse(switch, id, StatusCode::DECLINE, by, "the callee declined"),
            State::Established(_) | State::Over => self.party_left(switch, (id, party), by, "dropped by command", None),
        }
        Ok(Answer::Done)
    }

    /// Ends a call from our side, answered or not.
    pub(super) fn end_call(&mut self, switch: &mut Switch<'_>, id: Id, by: EndedBy, reason: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let State::Ringing(_) = call.state {
            return self.refuse(switch, id, StatusCode::TEMPORARILY_UNAVAILABLE, by, reason);
        }
        call.record.ended_by = by;
        reason.clone_into(&mut call.record.reason);
        self.unanswer(switch, id, false);
        self.hang_up(switch, id, None, None);
    }
}
