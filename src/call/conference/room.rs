//! Rooms: conferences that have a number. Who dials it is in, once they have shown the PIN in digits if there is one; who is alone hears
//! music. A party is sent into a room by REFER as anywhere else. A room lasts while somebody is in it.
//!
//! Before the PIN is shown a visitor's call is one of its own, so that it says nothing of who is in; then it becomes part of the room's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::Kinds;
use media::PortId;
use media::dtmf::Digit;
use media::sdp::transport::Profile;
use sip::StatusCode;
use sip::message::header::Reason;
use tracing::{debug, info};

use super::{Conference, MAX_PARTIES};
use crate::call::command::{Refusal, Ticket};
use crate::call::graph::Constructed;
use crate::call::leg::{Leg, Media, Stage};
use crate::call::party::{Party, PartyId, Person, Who};
use crate::call::pickup::Entrant;
use crate::call::reach::refusal;
use crate::call::record::{EndedBy, Record};
use crate::call::template::{self, Unwanted};
use crate::call::transfer::Report;
use crate::call::{Account, Call, Calls, Id, Output, State, Switch, Talk};

/// Wrong PINs of one visitor; then they are hung up.
const MAX_WRONG: u8 = 3;

/// Wrong PINs of one user, or of one number behind a trunk, for a room within [`GUESSING`]; then no PIN of theirs is right until it is over.
const MAX_GUESSES: u32 = 9;

/// Wrong PINs of everybody behind one trunk, whose numbers are what the trunk says; then no PIN from there is right until it is over. Our
/// users are let in all the same.
const MAX_GUESSES_OF_TRUNK: u32 = 60;

/// Most who are counted; beyond, all counts begin anew.
const MAX_GUESSERS: usize = 10_000;

/// How long wrong PINs are counted.
const GUESSING: Duration = Duration::from_secs(60);

/// How long a visitor may stand at the door.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most digits of a PIN; further ones that are typed are dropped.
pub const MAX_PIN: usize = 12;

/// A room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// What is dialled to come in.
    pub number: Arc<str>,
    /// What has to be shown, if anything.
    pub pin: Option<Pin>,
    /// The user who moderates; none: the first of our users who is in.
    pub moderator: Option<Arc<str>>,
}

/// The digits that let visitors in. They cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(Box<str>);

impl Pin {
    /// Reads 4 to [`MAX_PIN`] digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = (4..=MAX_PIN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        good.then(|| Self(text.into()))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(…)")
    }
}

/// Where a visitor shows the PIN.
#[derive(Debug)]
pub(super) struct Door {
    typed: String,
    wrong: u8,
    until: Instant,
}

impl Door {
    pub(super) fn poll_timeout(&self) -> Instant {
        self.until
    }
}

/// What is known of a room while the switch runs.
#[derive(Debug, Default)]
struct Hall {
    /// The call of who is in.
    call: Option<Id>,
    /// Those of who is at the door.
    at_door: BTreeSet<Id>,
    guesses: Guesses,
}

/// The wrong PINs that were shown at a door lately.
#[derive(Debug, Default)]
struct Guesses {
    /// When the first one was.
    since: Option<Instant>,
    /// How many, by who showed them: someone, or with no number all of a trunk.
    wrong: BTreeMap<Who, u32>,
}

impl Guesses {
    /// Whether somebody has shown so many wrong ones that none is right.
    fn is_over(&mut self, now: Instant, who: &Who) -> bool {
        if self.since.is_some_and(|since| now >= since + GUESSING) || self.wrong.len() >= MAX_GUESSERS {
            *self = Self::default();
        }
        let shown = |who: &Who| self.wrong.get(who).copied().unwrap_or(0);
        shown(who) >= MAX_GUESSES || all_of_trunk(who).is_some_and(|all| shown(&all) >= MAX_GUESSES_OF_TRUNK)
    }

    fn add(&mut self, now: Instant, who: Who) {
        self.since.get_or_insert(now);
        for who in all_of_trunk(&who).into_iter().chain([who]) {
            *self.wrong.entry(who).or_default() += 1;
        }
    }
}

fn all_of_trunk(who: &Who) -> Option<Who> {
    match who {
        Who::User(_) => None,
        Who::Outside { trunk, .. } => Some(Who::Outside { trunk: Arc::clone(trunk), number: "".into() }),
    }
}

/// The rooms that were visited, by number: at most as many as are configured.
#[derive(Debug, Default)]
pub(in crate::call) struct Rooms(BTreeMap<Arc<str>, Hall>);

impl Rooms {
    fn of(&mut self, room: &Room) -> &mut Hall {
        self.0.entry(Arc::clone(&room.number)).or_default()
    }
}

impl Calls {
    /// Lets a device into a room, or to its door: its INVITE is answered.
    ///
    /// # Errors
    /// See [`Refusal`]; the INVITE is refused.
    pub fn visit(&mut self, switch: &mut Switch<'_>, visitor: Entrant, room: &Arc<Room>) -> Result<(), Refusal> {
        let dialog = visitor.dialog;
        let result = self.let_in(switch, visitor, room);
        if let Err(refusal) = result {
            info!(room = &*room.number, %refusal, "not let in");
            let headers = refusal.headers(switch.random);
            let _gone = switch.sip.refuse(switch.now, dialog, refusal.status(), &headers);
        }
        result
    }

    fn let_in(&mut self, switch: &mut Switch<'_>, visitor: Entrant, room: &Arc<Room>) -> Result<(), Refusal> {
        if self.given_up.remove(&visitor.dialog) {
            return Err(Refusal::CallOver);
        }
        let Some(id) = self.rooms.of(room).call.filter(|_| room.pin.is_none()) else { return self.open_visit(switch, visitor, room) };
        self.may_enter(id, &visitor.person.who)?;
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        let known = call.same_user(&visitor.person.who);
        if known.is_none() {
            self.may_start(&visitor.person.who)?;
        }
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        let party = known.unwrap_or_else(|| call.next_party());
        let person = visitor.person.clone();
        self.seat(switch, visitor, (id, party))?;
        if known.is_none() {
            self.sit_down(id, Party::new(party, person), switch.unix);
        }
        self.met_in_room(switch, id);
        Ok(())
    }

    /// A visitor comes with a call of their own: that of the room, or one at its door.
    fn open_visit(&mut self, switch: &mut Switch<'_>, visitor: Entrant, room: &Arc<Room>) -> Result<(), Refusal> {
        self.may_start(&visitor.person.who)?;
        let id = self.take_id(switch.unix);
        let person = visitor.person.clone();
        let mut call = Call::new(Record::visit(id, &person, &room.number, switch.unix));
        call.state = State::Established(Talk::default());
        call.constructed = Constructed::Conference;
        call.is_managed = true;
        call.conference = Some(Box::new(Conference::at_door(room, switch.now)));
        self.calls.insert(id, call);
        self.rooms.of(room).at_door.insert(id);
        if let Err(refusal) = self.seat(switch, visitor, (id, PartyId::CALLER)) {
            if let Some(call) = self.calls.get_mut(&id) {
                call.record.refused(refusal.status(), EndedBy::Switch, refusal.to_string());
            }
            self.close(switch, id);
            return Err(refusal);
        }
        self.sit_down(id, Party::new(PartyId::CALLER, person), switch.unix);
        self.arrange(switch, id);
        if room.pin.is_none() {
            self.admit(switch, id)?;
        }
        self.touch(id);
        Ok(())
    }

    /// Who has had a room called is there: their call goes into it, or to its door.
    pub(in crate::call) fn visit_by_command(&mut self, switch: &mut Switch<'_>, id: Id, room: &Arc<Room>, ticket: Ticket) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.record.answered(switch.unix, label(&room.number));
        call.constructed = Constructed::Conference;
        let result = self.approach(switch, id, room);
        self.outputs.push_back(Output::Outcome { ticket, result });
    }

    /// A call of people who talk, or of one who is alone, goes into a room, or to its door.
    pub(super) fn approach(&mut self, switch: &mut Switch<'_>, id: Id, room: &Arc<Room>) -> Result<(), Refusal> {
        self.charge_parties(id);
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        call.is_managed = true;
        let before = call.conference.replace(Box::new(Conference::at_door(room, switch.now)));
        match before {
            Some(before) => {
                let moderator = before.moderator.filter(|_| room.moderator.is_none());
                call.conference.iter_mut().for_each(|conference| conference.moderator = moderator);
            }
            None => {
                call.parties.iter().map(|party| party.id).collect::<Vec<_>>().into_iter().for_each(|party| call.came(party, switch.unix))
            }
        }
        self.rooms.of(room).at_door.insert(id);
        let result = match room.pin {
            None => self.admit(switch, id),
            Some(_) => {
                self.meet_all(switch, id);
                Ok(())
            }
        };
        self.touch(id);
        result
    }

    /// A party is in a room, or at its door: that counts as a call of theirs.
    fn sit_down(&mut self, id: Id, mut party: Party, unix: u64) {
        party.account = Some(self.charge(&party.person.who));
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(user) = party.person.who.user() {
            self.by_user.insert((Arc::clone(user), id));
        }
        let name = party.id;
        call.parties.push(party);
        call.came(name, unix);
    }

    /// A call becomes that of a room: of who made it the party is counted from now on, if it is there.
    pub(super) fn charge_parties(&mut self, id: Id) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(account) = call.account.take() else { return };
        let made = |party: &&mut Party| party.account.is_none() && Account::of(&party.person.who) == account;
        match call.parties.iter_mut().find(made) {
            Some(party) => party.account = Some(account),
            None => self.forget_account(Some(&account)),
        }
    }

    fn met_in_room(&mut self, switch: &mut Switch<'_>, id: Id) {
        self.arrange(switch, id);
        self.align(switch, id);
        self.touch(id);
    }

    /// Answers a device that comes into a room.
    fn seat(&mut self, switch: &mut Switch<'_>, visitor: Entrant, (id, party): (Id, PartyId)) -> Result<(), Refusal> {
        let limit = Some(self.policy.media_timeout);
        let beside = self.port_near(id, &visitor.person.who);
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        let leg_id = call.take_leg_id();
        let (dialog, label) = (visitor.dialog, visitor.person.address.to_string());
        let media = Media::new(switch.manner(Profile::Plain, visitor.protection), Some(visitor.signaling), beside);
        call.legs.push(Leg::new((leg_id, party), (visitor.device, label), dialog, media));
        self.by_dialog.insert(dialog, (id, leg_id));
        let leg = call.leg_mut(leg_id).ok_or(Refusal::NoCall)?;
        let body = if visitor.offer.is_empty() {
            let template = template::offer(&[], Kinds::AUDIO, Unwanted::Refused, |_| None);
            leg.asked = Kinds::AUDIO;
            let offer = leg.media.make_offer(&template, switch.media).map_err(|error| Refusal::unusable(refusal(&error)));
            offer.inspect(|_| leg.media.apply(switch.media, limit))
        } else {
            let received = leg.media.receive_offer(&visitor.offer).map_err(|_| Refusal::NotTaken);
            received.and_then(|()| self.compose_answer(switch, id, leg_id).map_err(Refusal::unusable))
        };
        match body {
            Ok(body) => {
                if let Some(leg) = self.calls.get_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
                    leg.stage = Stage::Up;
                }
                switch.sip.accept(switch.now, dialog, body);
                Ok(())
            }
            Err(refusal) => {
                self.release(switch, id, leg_id);
                Err(refusal)
            }
        }
    }

    /// Returns a port next to which one for a visitor has to be: all visitors of a room are on one media thread, also those at its door.
    fn port_near(&self, id: Id, who: &Who) -> Option<PortId> {
        let call = self.calls.get(&id)?;
        let hall = call.conference.as_ref()?.room.as_ref().and_then(|room| self.rooms.0.get(&room.number));
        let halls = hall.into_iter().flat_map(|hall| hall.call.iter().chain(&hall.at_door));
        let near = halls.filter_map(|id| self.calls.get(id)).find_map(Call::any_port);
        call.any_port().or(near).or_else(|| self.port_of(who))
    }

    /// Returns the call of a room that somebody is in.
    pub(super) fn open_room(&self, room: &Room) -> Option<Id> {
        self.rooms.0.get(&room.number).and_then(|hall| hall.call)
    }

    /// Whether somebody may call a room now: of one with a PIN nobody learns more before they have shown it.
    pub(in crate::call) fn may_visit(&self, who: &Who, room: &Room) -> Result<(), Refusal> {
        self.open_room(room).filter(|_| room.pin.is_none()).map_or(Ok(()), |id| self.may_enter(id, who))
    }

    /// Whether somebody may come into the call of a room.
    fn may_enter(&self, id: Id, who: &Who) -> Result<(), Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        if call.same_user(who).is_none() {
            if call.conference.as_ref().is_some_and(|conference| conference.locked) {
                return Err(Refusal::Locked);
            }
            if call.parties.len() >= MAX_PARTIES {
                return Err(Refusal::Full);
            }
        }
        Ok(())
    }

    /// The visitor at the door is in: their call is the room's, or becomes part of it.
    fn admit(&mut self, switch: &mut Switch<'_>, id: Id) -> Result<(), Refusal> {
        let call = self.calls.get_mut(&id).ok_or(Refusal::NoCall)?;
        let room = call.conference.as_ref().and_then(|conference| conference.room.clone()).ok_or(Refusal::NoConference)?;
        let who = call.parties.first().map(|party| party.person.who.clone()).ok_or(Refusal::NoParty)?;
        // the room's record tells of a visit; who was sent, or taken along, has had a call of their own before
        let is_visit = call.record.callee == room.number;
        let hall = self.rooms.of(&room);
        hall.at_door.remove(&id);
        let Some(into) = hall.call else {
            hall.call = Some(id);
            info!(call = %id, room = &*room.number, "a room is open");
            if let Some(conference) = call.conference.as_deref_mut() {
                conference.door = None;
            }
            call.choose_moderator();
            self.meet_all(switch, id);
            return Ok(());
        };
        if let Err(refusal) = self.may_enter(into, &who).and_then(|()| self.bring_beside(switch, id, into)) {
            self.turn_away(switch, id, &refusal.to_string(), refusal.status());
            return Err(refusal);
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.is_visit = is_visit;
        }
        self.absorb(switch, into, (id, None));
        self.meet_all(switch, into);
        self.touch(into);
        Ok(())
    }

    /// Who is on hold for somebody who has left hears the others.
    fn meet_all(&mut self, switch: &mut Switch<'_>, id: Id) {
        let last = self.calls.get(&id).and_then(|call| call.parties.last()).map_or(PartyId::CALLER, |party| party.id);
        self.meet(switch, id, last);
    }

    fn turn_away(&mut self, switch: &mut Switch<'_>, id: Id, why: &str, status: StatusCode) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        info!(call = %id, why, "turned away");
        (call.record.ended_by, call.record.reason) = (EndedBy::Switch, why.to_owned());
        self.hang_up(switch, id, None, Some(&Reason::sip(status.code(), why)));
    }

    /// A visitor at the door has pressed a key. Returns false if there is no door.
    pub(in crate::call) fn door_pressed(&mut self, switch: &mut Switch<'_>, id: Id, digit: Digit) -> bool {
        // one that was turned away may still have keys on their way
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.is_at_door()) else { return false };
        let Some(who) = call.parties.first().map(|party| party.person.who.clone()) else { return false };
        let conference = call.conference.as_deref_mut();
        let Some((room, door)) = conference.and_then(|conference| conference.room.as_ref().zip(conference.door.as_mut())) else {
            return false;
        };
        let Some(pin) = room.pin.as_ref() else { return false };
        match digit.letter() {
            '#' if door.typed.is_empty() => return true, // the PIN before it was judged at its last digit
            '#' => {}
            '*' => {
                door.typed.clear();
                return true;
            }
            digit => {
                if door.typed.len() < MAX_PIN {
                    door.typed.push(digit);
                }
                if door.typed.len() < pin.0.len() {
                    return true;
                }
            }
        }
        let (typed, guesses) = (std::mem::take(&mut door.typed), &mut self.rooms.of(room).guesses);
        if !guesses.is_over(switch.now, &who) && typed == *pin.0 {
            let _turned_away = self.admit(switch, id);
        } else {
            guesses.add(switch.now, who);
            door.wrong += 1;
            debug!(call = %id, wrong = door.wrong, "wrong PIN");
            if door.wrong >= MAX_WRONG {
                self.turn_away(switch, id, "three wrong PINs", StatusCode::FORBIDDEN);
            }
        }
        true
    }

    /// A visitor at the door has the digits of the PIN sent by command.
    pub(in crate::call) fn show_pin(&mut self, switch: &mut Switch<'_>, id: Id, digits: impl Iterator<Item = Digit>) {
        for digit in digits {
            if !self.calls.get(&id).is_some_and(Call::is_at_door) {
                return;
            }
            self.door_pressed(switch, id, digit);
        }
    }

    /// Nobody stands at a door for ever.
    pub(super) fn door_timeout(&mut self, switch: &mut Switch<'_>, id: Id) {
        let Some(conference) = self.calls.get(&id).and_then(|call| call.conference.as_deref()) else { return };
        if conference.door.as_ref().is_some_and(|door| door.until <= switch.now) {
            self.turn_away(switch, id, "no PIN in time", StatusCode::REQUEST_TIMEOUT);
        }
    }

    /// A call that is over is in no room.
    pub(super) fn leave_room(&mut self, id: Id) {
        let conference = self.calls.get(&id).and_then(|call| call.conference.as_deref());
        let Some(room) = conference.and_then(|conference| conference.room.clone()) else { return };
        let hall = self.rooms.of(&room);
        hall.at_door.remove(&id);
        hall.call.take_if(|call| *call == id);
    }

    /// Sends the other party of a call into a room; the one who asks leaves. A REFER gets its answer here.
    ///
    /// # Errors
    /// See [`Refusal`]; the call is as it was, and a REFER is refused.
    pub fn send_to_room(
        &mut self,
        switch: &mut Switch<'_>,
        (id, by): (Id, PartyId),
        room: &Arc<Room>,
        report: Option<Report>,
    ) -> Result<(), Refusal> {
        let beside = |calls: &mut Self, switch: &mut Switch<'_>| match calls.open_room(room).filter(|_| room.pin.is_none()) {
            Some(into) => calls.bring_beside(switch, id, into),
            None => Ok(()),
        };
        let result = self.may_be_sent((id, by), room).and_then(|()| beside(self, switch));
        match (result, report) {
            (Err(refusal), Some(Report::Refer { dialog, refer })) => {
                let _gone = switch.sip.refuse_refer(switch.now, dialog, refer, refusal.status());
            }
            (Ok(()), Some(Report::Refer { dialog, refer })) => {
                let _gone = switch.sip.accept_refer(switch.now, dialog, refer);
                switch.sip.report(switch.now, dialog, refer, StatusCode::OK);
            }
            (_, Some(Report::Outcome(_)) | None) => {}
        }
        result?;
        let Some(call) = self.calls.get_mut(&id) else { return Err(Refusal::NoCall) };
        info!(call = %id, room = &*room.number, "sent to a room");
        if let Some(sender) = call.party(by).map(|party| party.person.who.clone()) {
            call.constructed = Constructed::Transferred(sender);
        }
        self.dismiss(switch, (id, by), None, &Reason::sip(200, "Call completed elsewhere"));
        self.approach(switch, id, room)
    }

    fn may_be_sent(&self, (id, by): (Id, PartyId), room: &Room) -> Result<(), Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        call.party(by).ok_or(Refusal::NoParty)?;
        call.two_talk()?;
        let sent = call.parties.iter().find(|party| party.id != by).ok_or(Refusal::NoParty)?;
        self.open_room(room).map_or(Ok(()), |into| self.may_enter(into, &sent.person.who))
    }
}

impl Conference {
    /// Of a visitor, until they are admitted.
    fn at_door(room: &Arc<Room>, now: Instant) -> Self {
        let door = Door { typed: String::new(), wrong: 0, until: now + PATIENCE };
        Self { room: Some(Arc::clone(room)), door: Some(door), ..Self::default() }
    }
}

/// What has answered, for the record.
fn label(room: &str) -> String {
    format!("room {room}")
}

impl Record {
    /// Begins the record of a visit to a room, which answers at once.
    fn visit(id: Id, visitor: &Person, room: &Arc<str>, unix: u64) -> Self {
        Self {
            id,
            caller: Arc::clone(&visitor.address),
            dialled: Arc::clone(room),
            callee: Arc::clone(room),
            started_at: unix,
            ringing_at: None,
            answered_at: Some(unix),
            ended_at: unix,
            answered_by: Some(label(room)),
            status: StatusCode::OK.code(),
            ended_by: EndedBy::Switch,
            reason: String::new(),
            moves: Vec::new(),
            parties: Vec::new(),
            media: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // "Guessing is limited": security.md, "Also required"
    #[test]
    fn who_guesses_behind_a_trunk_locks_out_neither_our_users_nor_other_trunks() {
        let (mut guesses, now) = (Guesses::default(), crate::clock::now());
        let outside = |trunk: &str, number: u32| Who::Outside { trunk: trunk.into(), number: number.to_string().into() };
        for number in 0..MAX_GUESSES_OF_TRUNK {
            assert!(!guesses.is_over(now, &outside("t", 7777)), "after {number} of others");
            guesses.add(now, outside("t", number));
        }
        assert!(guesses.is_over(now, &outside("t", 7777)), "a number is whatever the trunk says");
        assert!(!guesses.is_over(now, &outside("u", 7777)) && !guesses.is_over(now, &Who::User("ann".into())));
        for _ in 0..MAX_GUESSES {
            assert!(!guesses.is_over(now, &outside("u", 1)));
            guesses.add(now, outside("u", 1));
        }
        assert!(guesses.is_over(now, &outside("u", 1)) && !guesses.is_over(now, &outside("u", 2)));
        assert!(!guesses.is_over(now + GUESSING, &outside("u", 1)));
    }
}
