//! What may be done with a call: the sets of actions, which of them a call's state allows, and what a provider is asked to do.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::{
    Action, Answer, Call, Conference, Decline, Dtmf, MAX_JOINED, Member, Move, Mute, Negotiate, Park, Party, PartyState, Plain, SdpType,
    Split, State, Transfer,
};
use crate::error::Error;
use crate::text::{CallId, DeviceId, UserName};

/// A set of actions; on the wire, their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(u32);

impl Actions {
    /// Returns whether an action is in the set.
    #[must_use]
    pub fn contains(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }

    /// Returns both sets as one.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Lists the actions.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.iter().copied().filter(move |action| self.contains(*action))
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the upper half is no business of actions")]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits as u32)
    }
}

fn bit(action: Action) -> u32 {
    1 << action as u32
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | bit(action)))
    }
}

impl Serialize for Actions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Action::name))
    }
}

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Action>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl JsonSchema for Actions {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Actions".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "uniqueItems": true, "items": generator.subschema_for::<Action>() })
    }
}

/// What a provider is asked to do with a call that exists.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Answer it.
    Answer(Answer),
    /// Decline it.
    Decline(Decline),
    /// Put it on hold.
    Hold(Plain),
    /// Take it off hold.
    Resume(Plain),
    /// Hang up.
    Drop(Plain),
    /// Transfer the other party.
    Transfer(Transfer),
    /// Join others.
    Conference(Conference),
    /// Park it.
    Park(Park),
    /// Pick it up.
    Pickup(Take),
    /// Send digits.
    Dtmf(Dtmf),
    /// Move the user's side.
    Move(Move),
    /// Split the user's side.
    Split(Split),
    /// Renegotiate media.
    Negotiate(Negotiate),
    /// Take media from the others.
    Mute(Mute),
    /// Give it to them again.
    Unmute(Mute),
    /// Let nobody join.
    Lock(Plain),
    /// Let people join again.
    Unlock(Plain),
    /// Remove a party.
    Kick(Member),
    /// Make a user the moderator.
    Moderate(Member),
}

/// Who takes a call, and by which device.
#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    /// The call.
    pub call: CallId,
    /// For whom; absent: the caller.
    pub user: Option<UserName>,
    /// The device that gets it; absent: whichever answers first.
    pub device: Option<DeviceId>,
}

/// Lists, for each act, its action and its request.
macro_rules! of_act {
    ($act:expr, $request:ident => $value:expr) => {
        match $act {
            Act::Answer($request) => $value,
            Act::Decline($request) => $value,
            Act::Hold($request) | Act::Resume($request) | Act::Drop($request) | Act::Lock($request) | Act::Unlock($request) => $value,
            Act::Transfer($request) => $value,
            Act::Conference($request) => $value,
            Act::Park($request) => $value,
            Act::Pickup($request) => $value,
            Act::Dtmf($request) => $value,
            Act::Move($request) => $value,
            Act::Split($request) => $value,
            Act::Negotiate($request) => $value,
            Act::Mute($request) | Act::Unmute($request) => $value,
            Act::Kick($request) | Act::Moderate($request) => $value,
        }
    };
}

impl Act {
    /// Returns the call.
    #[must_use]
    pub fn call(&self) -> &CallId {
        of_act!(self, request => &request.call)
    }

    /// Returns whose side is meant, if the request says so.
    #[must_use]
    pub fn user(&self) -> Option<&UserName> {
        of_act!(self, request => request.user.as_ref())
    }

    /// Returns what it does.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::Answer(_) => Action::Answer,
            Self::Decline(_) => Action::Decline,
            Self::Hold(_) => Action::Hold,
            Self::Resume(_) => Action::Resume,
            Self::Drop(_) => Action::Drop,
            Self::Transfer(_) => Action::Transfer,
            Self::Conference(_) => Action::Conference,
            Self::Park(_) => Action::Park,
            Self::Pickup(_) => Action::Pickup,
            Self::Dtmf(_) => Action::Dtmf,
            Self::Move(_) => Action::Move,
            Self::Split(_) => Action::Split,
            Self::Negotiate(_) => Action::Negotiate,
            Self::Mute(_) => Action::Mute,
            Self::Unmute(_) => Action::Unmute,
            Self::Lock(_) => Action::Lock,
            Self::Unlock(_) => Action::Unlock,
            Self::Kick(_) => Action::Kick,
            Self::Moderate(_) => Action::Moderate,
        }
    }

    /// Returns true for what only the moderator of a conference may do.
    pub(crate) fn is_moderation(&self) -> bool {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other act is a party's own affair")]
        match self {
            Self::Lock(_) | Self::Unlock(_) | Self::Kick(_) | Self::Moderate(_) => true,
            Self::Mute(request) | Self::Unmute(request) => request.party.is_some(),
            _ => false,
        }
    }

    /// Returns the other calls that it touches; the caller needs the right over each.
    pub(crate) fn other_calls(&self) -> Vec<&CallId> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other act names one call only")]
        match self {
            Self::Transfer(request) => request.consult.iter().collect(),
            Self::Conference(request) => request.calls.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Checks what the types cannot say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the types of every other act say all")]
        match self {
            Self::Transfer(Transfer { destination, consult, .. }) if destination.is_some() == consult.is_some() => {
                Err(Error::field("destination", "expected one of the fields destination and consult").accepting(["destination", "consult"]))
            }
            Self::Conference(Conference { calls, destinations, .. }) if calls.is_empty() && destinations.is_empty() => {
                Err(Error::field("calls", "expected a call or a destination to join").accepting(["calls", "destinations"]))
            }
            Self::Conference(Conference { calls, destinations, .. }) if calls.len() > MAX_JOINED || destinations.len() > MAX_JOINED => {
                Err(Error::field("calls", format!("at most {MAX_JOINED} calls and {MAX_JOINED} destinations join at once")))
            }
            Self::Negotiate(Negotiate { r#type: Some(kind @ (SdpType::Pranswer | SdpType::Request)), .. }) => {
                let detail = format!("field type: an application gives no {}", kind.name());
                Err(Error::field("type", detail).accepting([SdpType::Offer, SdpType::Answer, SdpType::Rollback].map(SdpType::name)))
            }
            Self::Negotiate(Negotiate { r#type, sdp, .. }) if sdp.is_none() != (*r#type == Some(SdpType::Rollback)) => {
                Err(Error::field("sdp", "field sdp: expected with an offer and an answer, and not with a rollback"))
            }
            _ => Ok(()),
        }
    }
}

impl Call {
    /// Returns the users who are, or were, in the call.
    #[must_use]
    pub fn users(&self) -> Vec<UserName> {
        self.parties.iter().filter_map(|party| party.user.clone()).collect()
    }

    /// Returns a user's part in the call.
    #[must_use]
    pub fn party(&self, user: &UserName) -> Option<&Party> {
        self.parties.iter().find(|party| party.user.as_ref() == Some(user))
    }

    /// Returns what the state allows a user to do, whatever their rights.
    #[must_use]
    pub fn possible(&self, user: &UserName) -> Actions {
        use Action::{Answer, Conference, Decline, Drop, Dtmf, Hold, Move, Negotiate, Park, Pickup, Resume, Split, Transfer};
        let party = self.party(user);
        let actions: &[Action] = match (self.state, party.map(|party| party.state)) {
            (State::Ended, _) | (State::Connected, None) | (_, Some(PartyState::Left)) => &[],
            (State::Parked | State::Ringing, None) => &[Pickup],
            // who parked it may as well take it by another device
            (State::Parked, Some(PartyState::Ringing)) => &[Answer, Decline, Pickup, Negotiate],
            (_, Some(PartyState::Ringing)) => &[Answer, Decline, Negotiate],
            (_, Some(PartyState::Dialing | PartyState::Parked)) | (State::Parked, Some(_)) => &[Drop, Negotiate],
            (_, Some(PartyState::Connected)) => &[Hold, Drop, Transfer, Conference, Park, Dtmf, Move, Split, Negotiate],
            (_, Some(PartyState::Held)) => &[Resume, Drop, Transfer, Conference, Park, Move, Negotiate],
        };
        let is_application = party.is_some_and(|party| party.devices.iter().any(|device| device.application));
        let is_settled = self.conference || !self.is_coming();
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others depend on nothing else")]
        let allowed = actions.iter().copied().filter(|action| match action {
            Negotiate => is_application,
            Pickup => self.waits,
            Conference => !self.locked && !self.asks_pin && is_settled,
            Transfer | Park => !self.conference && is_settled && !self.parties.iter().any(Party::is_moving),
            Move => is_settled && !party.is_some_and(Party::is_moving),
            Split => is_settled && party.is_some_and(|party| !party.is_moving() && party.may_film),
            Resume => party.is_some_and(|party| !party.held_at_device),
            _ => true,
        });
        allowed.collect::<Actions>().union(party.map(|party| self.of_party(party)).unwrap_or_default())
    }

    /// Returns true while somebody is on their way into a call that was answered: a transfer's target, or who had it parked.
    fn is_coming(&self) -> bool {
        self.state == State::Connected && self.parties.iter().any(|party| party.state == PartyState::Ringing)
    }

    /// Returns why a user cannot do this now, in one sentence.
    pub(crate) fn why_not(&self, action: Action, user: &UserName) -> String {
        use Action::{Conference, Move, Park, Pickup, Split, Transfer};
        let name = action.name();
        let party = self.party(user).filter(|_| self.state != State::Ended);
        let rings = party.is_some_and(|party| party.state == PartyState::Ringing);
        match (action, self.state) {
            (Transfer | Park, State::Connected) if self.conference => {
                return format!("{name} is for a call of two, and this is a conference");
            }
            (Split, State::Connected) if party.is_some_and(|party| !party.may_film) => {
                return format!("{name} is not possible: nobody takes video");
            }
            (Pickup, State::Ringing) if rings => return format!("{name} is not possible: the call rings at the user already"),
            (Pickup, State::Parked) if rings || party.is_none() => {
                return format!("{name} is not possible now: another one is about to take the call");
            }
            (Pickup, State::Ringing) if party.is_none() => return format!("{name} is not possible now: nobody else may take the call"),
            _ => {}
        }
        let changes = self.is_coming() || self.parties.iter().any(Party::is_moving);
        if changes && [Conference, Move, Park, Split, Transfer].contains(&action) {
            return format!("{name} is not possible now: another change of the call is not over yet");
        }
        format!("{name} is not possible while the call is {}", self.state_for(user))
    }

    /// What there is besides for a party who talks: its own sound, and all that a moderator may do.
    fn of_party(&self, party: &Party) -> Actions {
        use Action::{Kick, Lock, Moderate, Mute, Unlock, Unmute};
        let is_in = self.state == State::Connected && matches!(party.state, PartyState::Connected | PartyState::Held);
        let own =
            if party.muted.iter().all(|media| party.silenced.contains(media)) { [Mute].as_slice() } else { [Mute, Unmute].as_slice() };
        let lock = if self.locked { Unlock } else { Lock };
        let moderator = [Mute, Unmute, Kick, Moderate, lock];
        let moderator = if party.moderator { moderator.as_slice() } else { &[] };
        own.iter().chain(moderator).copied().filter(|_| is_in).collect()
    }

    fn state_for(&self, user: &UserName) -> &'static str {
        match self.party(user) {
            Some(party) if self.state != State::Ended => party.state.name(),
            _ => self.state.name(),
        }
    }
}

impl Party {
    /// Returns true while they talk and media is on its way to another device of theirs.
    fn is_moving(&self) -> bool {
        matches!(self.state, PartyState::Connected | PartyState::Held) && self.devices.iter().any(|device| device.ringing)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::types::{Carrying, Constructed, How};
    use super::*;
    use crate::permission::tests::caller;
    use crate::permission::{Reach, Rights, Role};

    /// A call between ann and bob.
    pub(crate) fn call(state: State, ann: PartyState, bob: PartyState) -> Call {
        let party = |name: &str, state| Party {
            user: Some(UserName::parse(name).unwrap()),
            number: None,
            name: None,
            anonymous: false,
            state,
            muted: Vec::new(),
            silenced: Vec::new(),
            held_at_device: false,
            moderator: false,
            may_film: true,
            devices: Vec::new(),
        };
        Call {
            id: CallId::parse("0001").unwrap(),
            state,
            parties: vec![party("ann", ann), party("bob", bob)],
            constructed: Constructed { how: How::Direct, by: None },
            started_at: 1,
            answered_at: None,
            ended_at: None,
            slot: None,
            room: None,
            asks_pin: false,
            conference: false,
            waits: matches!(state, State::Ringing | State::Parked),
            locked: false,
            joined: None,
            why: None,
        }
    }

    #[test]
    fn a_held_call_has_resume_and_not_hold() {
        // 004-76
        let actions = |state| call(State::Connected, state, PartyState::Connected).actions(&caller("ann", Rights::default()));
        assert!(actions(PartyState::Held).contains(Action::Resume) && !actions(PartyState::Held).contains(Action::Hold));
        assert!(actions(PartyState::Connected).contains(Action::Hold) && !actions(PartyState::Connected).contains(Action::Resume));
        let ringing = call(State::Ringing, PartyState::Dialing, PartyState::Ringing);
        let names = |actions: Actions| actions.iter().map(Action::name).collect::<Vec<_>>();
        assert_eq!(names(ringing.actions(&caller("bob", Rights::default()))), ["answer", "decline"]);
        assert_eq!(names(ringing.actions(&caller("ann", Rights::default()))), ["drop"]);
        assert_eq!(names(ringing.actions(&caller("eve", Rights::default()))), ["pickup"]);
        assert_eq!(names(call(State::Ended, PartyState::Left, PartyState::Left).actions(&caller("ann", Rights::default()))), [""; 0]);
    }

    #[test]
    fn what_is_parked_joined_or_under_way_has_other_actions() {
        // 004-36, 004-76
        let names = |call: &Call, of: &str| call.actions(&caller(of, Rights::default())).iter().map(Action::name).collect::<Vec<_>>();
        let mut parked = call(State::Parked, PartyState::Left, PartyState::Parked);
        assert_eq!((names(&parked, "bob"), names(&parked, "eve"), names(&parked, "ann")), (vec!["drop"], vec!["pickup"], vec![]));
        parked.parties[0].state = PartyState::Ringing;
        assert_eq!(names(&parked, "ann"), ["answer", "decline", "pickup"], "it rings again at who parked it");
        parked.waits = false;
        assert_eq!((names(&parked, "ann"), names(&parked, "eve")), (vec!["answer", "decline"], vec![]), "it rings at who picks it up");
        for user in ["ann", "eve"] {
            assert!(parked.why_not(Action::Pickup, &UserName::parse(user).unwrap()).contains("another one"), "{user}");
        }
        let mut talking = call(State::Connected, PartyState::Connected, PartyState::Held);
        let has = |call: &Call, of: &str, name: &str| names(call, of).contains(&name);
        assert!(has(&talking, "ann", "transfer") && has(&talking, "ann", "move") && has(&talking, "bob", "resume"));
        talking.parties[1].held_at_device = true;
        assert!(!has(&talking, "bob", "resume"), "only its device can");
        let target = Party { user: Some(UserName::parse("eve").unwrap()), state: PartyState::Ringing, ..talking.parties[0].clone() };
        talking.parties.push(target);
        assert!(
            !has(&talking, "ann", "transfer") && !has(&talking, "ann", "move") && has(&talking, "ann", "drop"),
            "a transfer is under way"
        );
        (talking.parties[2].state, talking.conference) = (PartyState::Connected, true);
        assert!(!has(&talking, "ann", "park") && has(&talking, "ann", "conference"), "of three, nobody is the other one");
        assert!(talking.why_not(Action::Park, &UserName::parse("ann").unwrap()).contains("is for a call of two"));
        let left = talking.parties.pop();
        talking.conference = false;
        assert!(has(&talking, "ann", "park") && has(&talking, "ann", "transfer"), "a conference of two is a plain call again");
        (talking.parties[0].may_film, talking.conference) = (false, true);
        talking.parties.extend(left);
        assert!(!has(&talking, "ann", "split") && talking.why_not(Action::Split, &UserName::parse("ann").unwrap()).contains("video"));
        assert!(!has(&talking, "ann", "negotiate"));
        let device = DeviceId::parse("page").unwrap();
        talking.parties[0].devices.push(Carrying { device, media: Vec::new(), application: true, ringing: false });
        assert!(has(&talking, "ann", "negotiate"));
    }

    #[test]
    fn while_a_device_rings_for_a_move_nothing_is_offered_that_has_to_wait() {
        let mut talking = call(State::Connected, PartyState::Connected, PartyState::Connected);
        let device = DeviceId::parse("mobile").unwrap();
        talking.parties[0].devices.push(Carrying { device, media: Vec::new(), application: false, ringing: true });
        let possible = |user: &str| talking.possible(&UserName::parse(user).unwrap());
        for action in [Action::Transfer, Action::Park, Action::Move, Action::Split] {
            assert!(!possible("ann").contains(action), "{action:?}");
            assert!(talking.why_not(action, &UserName::parse("ann").unwrap()).contains("another change"), "{action:?}");
        }
        assert!(possible("ann").contains(Action::Drop) && possible("ann").contains(Action::Hold));
        assert!(possible("bob").contains(Action::Move) && !possible("bob").contains(Action::Transfer));
    }

    #[test]
    fn a_moderator_may_do_more_and_a_locked_call_takes_nobody() {
        // 004-36
        let mut talking = call(State::Connected, PartyState::Connected, PartyState::Connected);
        talking.parties[0].moderator = true;
        let names = |call: &Call, of: &str| {
            let all = call.actions(&caller(of, Rights::default())).iter().map(Action::name).collect::<Vec<_>>();
            let is_about = |name: &&str| ["conference", "mute", "unmute", "lock", "unlock", "kick", "moderate"].contains(name);
            all.into_iter().filter(is_about).collect::<Vec<_>>()
        };
        assert_eq!(names(&talking, "ann"), ["conference", "mute", "unmute", "lock", "kick", "moderate"]);
        assert_eq!(names(&talking, "bob"), ["conference", "mute"]);
        talking.locked = true;
        talking.parties[1].muted = vec![super::super::types::Media::Audio];
        assert_eq!(names(&talking, "ann"), ["mute", "unmute", "unlock", "kick", "moderate"]);
        assert_eq!(names(&talking, "bob"), ["mute", "unmute"]);
        talking.state = State::Ended;
        assert_eq!(names(&talking, "ann"), [""; 0]);
        // at the door of a room there is nobody to call in
        let mut alone = call(State::Connected, PartyState::Connected, PartyState::Left);
        (alone.room, alone.asks_pin) = (Some("800".to_owned()), true);
        assert_eq!(names(&alone, "ann"), ["mute"]);
    }

    #[test]
    fn rights_cut_the_actions() {
        let talking = call(State::Connected, PartyState::Connected, PartyState::Connected);
        let without =
            Rights { exceptions: [(crate::permission::Pattern::parse("tel.transfer").unwrap(), Reach::None)].into(), ..Rights::default() };
        assert!(!talking.actions(&caller("ann", without)).contains(Action::Transfer));
        assert_eq!(talking.actions(&caller("eve", Rights::default())).bits(), 0);
        assert!(talking.actions(&caller("root", Rights::of(Role::Administrator))).contains(Action::Drop));
    }
}
