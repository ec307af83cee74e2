//! Commands: what a party, or an administrator, may want of a call while it lasts. What takes time answers with a ticket, and its outcome
//! follows as [`Output::Outcome`](super::Output::Outcome). Who may ask is not decided here.

use std::sync::Arc;

use media::Kinds;
use media::dtmf::Digit;
use sip::StatusCode;

use super::conference::Guest;
use super::conference::room::Room;
use super::handoff::Manner;
use super::join::Joined;
use super::leg::Stage;
use super::make::Alert;
use super::party::{PartyId, Person};
use super::record::EndedBy;
pub use super::refusal::Refusal;
use super::transfer::{Referral, Report};
use super::{Calls, Id, State, Switch, Target};
use crate::device;

/// Most digits of one command: as many as wait to be sent where none do.
pub const MAX_DIGITS: usize = media::dtmf::MAX_WAITING;

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
    /// The party, everybody in the call, and whoever is in the other calls go into a room that has no PIN.
    Enter {
        /// The call.
        call: Id,
        /// Whose other calls, and who asks.
        party: PartyId,
        /// The other calls.
        calls: Vec<Id>,
        /// The room.
        room: Arc<Room>,
    },
    /// The other party is sent into a room, or to its door.
    Send {
        /// The call.
        call: Id,
        /// Who sends it there.
        party: PartyId,
        /// The room.
        room: Arc<Room>,
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
    /// The others' devices are sent digits; at the door of a room they are those of the PIN.
    Digits {
        /// The call.
        call: Id,
        /// Who sends them.
        party: PartyId,
        /// At most [`MAX_DIGITS`] of `0` to `9`, `*`, `#`, `A` to `D`.
        digits: String,
    },
    /// The other party is sent to somebody else (blind transfer).
    Transfer {
        /// The call.
        call: Id,
        /// Who sends it there.
        party: PartyId,
        /// Where to. Who is told how it goes is who gave the command.
        referral: Box<Referral>,
    },
    /// The other party, and that of another call of the same user, talk; the user leaves both (attended transfer).
    Connect {
        /// The call.
        call: Id,
        /// As whom the user is in it.
        party: PartyId,
        /// The other call. Its devices may ring.
        other: Id,
    },
    /// The other party waits in a slot, and the party leaves.
    Park {
        /// The call.
        call: Id,
        /// Who parks it.
        party: PartyId,
        /// Where; absent: the lowest free slot.
        slot: Option<u16>,
    },
    /// Somebody takes a call that rings at another one, or waits in a slot.
    Pickup {
        /// The call.
        call: Id,
        /// Who takes it.
        person: Person,
        /// Their devices that are called for it.
        devices: Vec<Target>,
        /// How.
        alert: Alert,
    },
    /// A device of the party that rings answers by itself.
    Answer {
        /// The call.
        call: Id,
        /// Who.
        party: PartyId,
        /// Which device; absent: the only one that rings.
        device: Option<device::Id>,
        /// The device that carries video then, where the other one carries only audio.
        video: Option<Box<Target>>,
    },
    /// The party does not want the call that rings.
    Decline {
        /// The call.
        call: Id,
        /// Who.
        party: PartyId,
        /// What the caller is told: 603 or 486.
        status: StatusCode,
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
            | Self::Enter { call, .. }
            | Self::Send { call, .. }
            | Self::Kick { call, .. }
            | Self::Silence { call, .. }
            | Self::Lock { call, .. }
            | Self::Moderate { call, .. }
            | Self::Digits { call, .. }
            | Self::Transfer { call, .. }
            | Self::Connect { call, .. }
            | Self::Park { call, .. }
            | Self::Pickup { call, .. }
            | Self::Answer { call, .. }
            | Self::Decline { call, .. }
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
            Command::Enter { party, calls, room, .. } => self.gather_in_room(switch, (id, party), calls, &room),
            Command::Send { party, room, .. } => self.send_to_room(switch, (id, party), &room, None).map(|()| Answer::Done),
            Command::Kick { by, party, .. } => self.kick(switch, (id, by), party),
            Command::Silence { by, party, kinds, .. } => self.silence(switch, (id, by), (party, kinds)),
            Command::Lock { by, locked, .. } => self.lock((id, by), locked),
            Command::Moderate { by, party, .. } => self.moderate((id, by), party),
            Command::Digits { party, digits, .. } => self.send_digits(switch, (id, party), &digits),
            Command::Transfer { party, referral, .. } => {
                let ticket = self.take_ticket();
                let referral = Referral { report: Some(Report::Outcome(ticket)), ..*referral };
                self.transfer(switch, id, party, referral).map(|()| Answer::Pending(ticket))
            }
            Command::Connect { party, other, .. } => self.connect_calls(switch, (id, party), other),
            Command::Park { party, slot, .. } => self.park(switch, (id, party), slot, None).map(|_| Answer::Done),
            Command::Pickup { person, devices, alert, .. } => self.pick_up_by(switch, id, person, (devices, alert)),
            Command::Answer { party, device, video, .. } => self.answer(switch, (id, party), device.as_ref(), video),
            Command::Decline { party, status, .. } => self.decline(switch, (id, party), status),
            Command::Drop { party, .. } => self.drop_party(switch, (id, party)),
            Command::End { reason, .. } => {
                self.end_call(switch, id, EndedBy::Switch, &reason);
                Ok(Answer::Done)
            }
        };
        self.show_hold(switch, id);
        self.touch(id);
        answer
    }

    /// Each kind goes to its device unless that alone carries it: the second move follows the first.
    fn split(&mut self, switch: &mut Switch<'_>, at: (Id, PartyId), audio: Target, video: Target) -> Result<Answer, Refusal> {
        let is_there = |kinds, target: &Target| self.calls.get(&at.0).is_some_and(|call| call.carries_alone(at.1, kinds, target));
        let is_in = |target: &Target| self.calls.get(&at.0).is_some_and(|call| call.leg_of(at.1, target).is_some());
        match (is_there(Kinds::AUDIO, &audio), is_there(Kinds::VIDEO, &video)) {
            (true, true) => Err(Refusal::Same),
            (true, false) => self.hand_over(switch, at, (Kinds::VIDEO, Manner::Move), video, None),
            (false, true) => self.hand_over(switch, at, (Kinds::AUDIO, Manner::Move), audio, None),
            // The device that is in the call may refuse, and nothing has changed then: it comes first.
            (false, false) if is_in(&video) && !is_in(&audio) => {
                self.hand_over(switch, at, (Kinds::VIDEO, Manner::Move), video, Some((Kinds::AUDIO, Box::new(audio))))
            }
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

    pub(super) fn mute(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), kinds: Kinds) -> Result<Answer, Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        let is_moderated = call.is_moderated(party);
        let party = call.party_mut(party).ok_or(Refusal::NoParty)?;
        if is_moderated && !(party.silenced - kinds).is_empty() {
            return Err(Refusal::Silenced);
        }
        (party.muted, party.silenced) = (kinds, party.silenced & kinds);
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
        if call.is_at_door() {
            self.show_pin(switch, id, digits.chars().filter_map(Digit::from_letter));
            return Ok(Answer::Done);
        }
        self.press_all(switch, (id, party), digits.chars().filter_map(Digit::from_letter));
        Ok(Answer::Done)
    }

    fn connect_calls(&mut self, switch: &mut Switch<'_>, first: (Id, PartyId), other: Id) -> Result<Answer, Refusal> {
        let who = &self.calls.get(&first.0).and_then(|call| call.party(first.1)).ok_or(Refusal::NoParty)?.person.who;
        let second = self.calls.get(&other).ok_or(Refusal::NoCall)?;
        let same = second.parties.iter().find(|party| party.person.who == *who).ok_or(Refusal::NotYours)?.id;
        let ticket = self.take_ticket();
        Ok(match self.join(switch, first, (other, same), Some(Report::Outcome(ticket)))? {
            Joined::Now => Answer::Done,
            Joined::WhenAnswered => Answer::Pending(ticket),
        })
    }

    /// A party whose devices ring does not want the call.
    fn decline(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), status: StatusCode) -> Result<Answer, Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        let is_there = call.legs.iter().any(|leg| leg.party == party && leg.is_up());
        if call.is_invited(party) {
            self.invitee_gone(switch, (id, party), (status, Refusal::of(status)));
        } else if call.is_guest(party) {
            self.guest_declines(switch, (id, party), status);
        } else if !is_there && call.coming().is_some_and(|(coming, _)| coming == party) {
            self.fail_transfer(switch, id, (status, Refusal::of(status)));
        } else if matches!(call.state, State::Ringing(_)) && party == PartyId::CALLEE {
            let reason = if status == StatusCode::BUSY_HERE { "the callee is busy" } else { "the callee declined" };
            self.refuse(switch, id, status, EndedBy::Callee, reason);
        } else {
            return Err(call.party(party).map_or(Refusal::NoParty, |_| Refusal::NotRinging));
        }
        Ok(Answer::Done)
    }

    fn drop_party(&mut self, switch: &mut Switch<'_>, (id, party): (Id, PartyId)) -> Result<Answer, Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        let is_there = call.legs.iter().any(|leg| leg.party == party && leg.is_up());
        let is_coming = !is_there && party != PartyId::CALLER && call.coming().is_some_and(|(coming, _)| coming == party);
        if is_coming || call.is_guest(party) {
            return self.decline(switch, (id, party), StatusCode::DECLINE);
        }
        call.party(party).ok_or(Refusal::NoParty)?;
        if self.has_sent(id, party) {
            // Like a phone that hangs up after its REFER: who was sent goes on waiting.
            self.part(switch, (id, party));
            return Ok(Answer::Done);
        }
        let by = if party == PartyId::CALLER { EndedBy::Caller } else { EndedBy::Callee };
        match &call.state {
            State::Ringing(_) if party == PartyId::CALLER => {
                self.refuse(switch, id, StatusCode::REQUEST_TERMINATED, by, "the caller gave up");
            }
            State::Ringing(_) => return self.decline(switch, (id, party), StatusCode::DECLINE),
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
