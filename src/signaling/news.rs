//! What happens in the loop, for whoever tells client applications. The loop never waits for them: beyond the bound news are lost, counted
//! and reported.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::{Description, Signaling, Unwritten};
use crate::call;
use crate::call::graph::{Constructed, Event, Party, Standing, State, View};
use crate::call::party::{PartyId, Who};
use crate::history::{Change, Kept, Kind, Part, detail};
use crate::presence::Presence;
use crate::storage::Batch;

/// News that wait to be told; beyond it they are lost.
const QUEUE: usize = 65_536;
/// Calls that are over and can still be asked about. Where one more ends, the one that ended first is forgotten: its record stays.
const ENDED: usize = 1000;

/// Calls of a user to numbers that there are not, that are noted within a minute; further ones are not, so that a phone gone wild does not
/// fill the store.
const UNKNOWN_A_MINUTE: u8 = 10;

/// The longest number, in bytes, that is noted where there is none such; an entry does without a longer one.
const MAX_DIALLED: usize = 128;

/// Who dialled how often what nobody is reached by, in this minute: no more than there are users.
#[derive(Default)]
pub(super) struct DialledWrongly {
    minute: u64,
    of_user: HashMap<String, u8>,
}

impl DialledWrongly {
    fn admits(&mut self, now: u64, user: &str) -> bool {
        let minute = now / 60_000;
        if minute != self.minute {
            (self.minute, self.of_user) = (minute, HashMap::new());
        }
        let count = self.of_user.entry(user.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count <= UNKNOWN_A_MINUTE
    }
}

/// Parts of users in a call that one write has, at most.
const NOTED: usize = 8;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum News {
    /// A call began, changed or ended.
    Call(Box<Event>),
    /// The switch describes media to an application that is itself a device.
    Described(Box<Description>),
    /// An entry was added to a history, changed in it, or deleted from it.
    Entry(Change, Box<Kept>),
    /// A user's presence is another.
    Presence(Arc<str>, Box<Presence>),
}

/// The way of news out of the loop.
pub(crate) struct Feed {
    news: mpsc::Sender<News>,
    lost: u64,
}

impl Feed {
    /// Makes the way, and its end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<News>) {
        let (news, told) = mpsc::channel(QUEUE);
        (Self { news, lost: 0 }, told)
    }

    /// Returns a way for others beside the loop; what does not fit is lost, as for all news.
    pub(crate) fn beside(&self) -> mpsc::Sender<News> {
        self.news.clone()
    }

    pub(super) fn tell(&mut self, news: News) {
        match self.news.try_send(news) {
            Ok(()) if self.lost > 0 => {
                warn!(lost = self.lost, "client applications were too slow for what happened; they missed some of it");
                self.lost = 0;
            }
            Err(mpsc::error::TrySendError::Full(_)) => self.lost += 1,
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {} // the process is ending
        }
    }
}

/// The calls that ended last.
#[derive(Default)]
pub(super) struct Past(VecDeque<Arc<View>>);

impl Past {
    fn push(&mut self, view: Arc<View>) {
        if self.0.len() >= ENDED {
            self.0.pop_front();
        }
        self.0.push_back(view);
    }

    /// Forgets the calls of a user who is none any more: their records stay.
    pub(super) fn forget(&mut self, user: &str) {
        self.0.retain(|view| view.party_of(user).is_none());
    }

    /// Finds a call.
    pub(super) fn find(&self, id: call::Id) -> Option<Arc<View>> {
        self.0.iter().rev().find(|view| view.id == id).cloned()
    }
}

impl Signaling {
    /// Tells of a change of a call. When it is over, or a user has left it before, their part in it goes into their history.
    pub(super) fn call_changed(&mut self, event: Box<Event>) {
        let now = super::millis(self.unix);
        let before = event.before.as_ref().unwrap_or(&event.after);
        let kept: Vec<Kept> = done(&event).filter_map(|done| part(before, &event.after, &done, now)).collect();
        kept.into_iter().for_each(|kept| self.keep(kept));
        self.note_under_way(&event, now);
        if event.after.state == State::Ended && event.after.parties.iter().all(|party| self.is_known(&party.who)) {
            self.past.push(Arc::clone(&event.after));
        }
        self.news.tell(News::Call(event));
    }

    /// Keeps what an answered call comes to if the process does not survive it. Nobody waits for that.
    fn note_under_way(&mut self, event: &Event, now: u64) {
        let after = &event.after;
        let Some(record) = self.calls.record(event.call).filter(|_| after.answered_at.is_some() && after.state != State::Ended) else {
            return;
        };
        let before = event.before.as_ref().filter(|before| before.answered_at.is_some());
        let is_in = |party: &Party| matches!(party.state, Standing::Connected | Standing::Holding);
        let came = |party: &&Party| is_in(party) && !before.and_then(|before| before.party(party.id)).is_some_and(is_in);
        let entries: Vec<Kept> =
            after.parties.iter().filter(came).filter_map(|party| part(after, after, &Done::of(party, None)?, now)).collect();
        // mostly one write: the record with all there are
        let mut batches: Vec<Batch> = Vec::new();
        if before.is_none() {
            let mut batch = Batch::new();
            detail::note_call(record, &mut batch);
            batches.push(batch);
        }
        for (at, kept) in entries.iter().enumerate() {
            if at % NOTED == 0 && (at > 0 || batches.is_empty()) {
                batches.push(Batch::new());
            }
            batches.last_mut().into_iter().for_each(|batch| detail::note_part(kept, batch));
        }
        for batch in batches {
            self.note(&batch, format_args!("call {} would leave no record if the switch stopped without warning", event.call));
        }
    }

    /// Whether it is somebody outside, or a user; one may have been removed in the middle of a call.
    fn is_known(&self, who: &Who) -> bool {
        who.user().is_none_or(|name| self.users.named(name).is_some())
    }

    /// Notes that a user dialled what nobody is reached by. Beyond [`UNKNOWN_A_MINUTE`] they are answered, and nothing is noted.
    pub(super) fn note_unknown(&mut self, user: &str, dialled: &str) {
        let now = super::millis(self.unix);
        if !self.dialled_wrongly.admits(now, user) {
            return;
        }
        let part = Part {
            call: self.calls.take_id(now).0,
            party: 0,
            user,
            kind: Kind::Placed,
            number: Some(dialled).filter(|dialled| dialled.len() <= MAX_DIALLED),
            name: None,
            device: None,
            rang: &[],
            started_at: now,
            talked: None,
            why: "no such number",
        };
        if let Some(kept) = Kept::of(&part) {
            self.keep(kept);
        }
    }

    fn keep(&mut self, kept: Kept) {
        let mut batch = Batch::new();
        if self.users.named(kept.entry.user.as_str()).is_none() {
            detail::forget(&kept, &mut batch);
            return self.note(&batch, format_args!("a part of somebody who was removed, in a call that is over, stays in the store"));
        }
        kept.put(&mut batch);
        let news = self.news.news.clone();
        let told = move |written: Result<(), _>| {
            if written.is_ok() {
                // as for all news: what does not fit is lost
                let _lost = news.try_send(News::Entry(Change::Added, Box::new(kept)));
            }
        };
        self.write(&batch, Unwritten::Asked(Box::new(told), Box::default()));
    }
}

/// The number of the entry of who was called and did not get it, because another one has taken their place in the call: parties have lower
/// ones.
const DISPLACED: u16 = u16::MAX;

/// A party whose part in a call is over now.
struct Done<'a> {
    /// As they were last.
    party: &'a Party,
    /// The number of their entry.
    entry: u16,
    why: Option<String>,
}

impl<'a> Done<'a> {
    fn of(party: &'a Party, why: Option<String>) -> Option<Self> {
        Some(party.id.0).filter(|number| *number != DISPLACED).map(|entry| Self { party, entry, why })
    }
}

/// Returns those whose part in a call is over now. Whoever rings and is neither the callee nor sent the call (a colleague who picks it up,
/// the one who parked it) misses nothing.
fn done(event: &Event) -> impl Iterator<Item = Done<'_>> {
    let is_over = event.after.state == State::Ended;
    // Who rings on in another call, or is a visitor who was let into a room, has the entry of that call.
    let is_visit = event.after.joined.is_some() && room_of(&event.after).is_some();
    let rang = |id| event.before.as_ref().and_then(|before| before.party(id)).is_some_and(|party| party.state == Standing::Ringing);
    let has_part = move |party: &&Party| is_over && !is_visit && !(event.after.joined.is_some() && rang(party.id));
    let ended = event.after.parties.iter().filter(has_part);
    let ended = ended.filter_map(move |party| Done::of(party, at_the_end(event, party)));
    let before = event.before.iter().flat_map(|before| &before.parties);
    let gone = before.filter_map(move |party| match event.after.party(party.id) {
        Some(now) if now.who == party.who => None,
        Some(now) => Some(Done { party, entry: DISPLACED, why: Some(format!("picked up by {}", now.who.told())) }),
        None => {
            let missed = event.missed.iter().find(|missed| missed.party == party.id);
            let is_done = missed.is_some() || (!is_over || event.after.joined.is_some()) && party.state != Standing::Ringing;
            let why = || missed.map(|missed| missed.why.clone()).or_else(|| on_leaving(event, party));
            is_done.then(|| Done::of(party, why()))?
        }
    });
    ended.chain(gone)
}

/// Tells why a party has left a call that goes on.
fn on_leaving(event: &Event, party: &Party) -> Option<String> {
    let (before, after) = (event.before.as_ref()?, &event.after);
    match &after.constructed {
        _ if room_of(before).is_none() && room_of(after).is_some() => room_of(after).map(|room| format!("transferred to {room}")),
        _ if after.joined.is_some() => Some("transferred".to_owned()),
        _ if after.state == State::Ended => after.why.clone(),
        _ if before.slot.is_none() && after.slot.is_some() => after.slot.map(|slot| format!("parked in slot {slot}")),
        // two of a conference that is over have the call that they had before it
        Constructed::Transferred(who) if before.constructed != after.constructed && before.conference.is_none() => {
            let other = before.parties.iter().find(|other| other.id != party.id && other.state != Standing::Ringing)?.id;
            let came = after.parties.iter().find(|came| came.id != other).filter(|_| *who == party.who)?;
            Some(format!("transferred to {}", named(came)))
        }
        Constructed::Direct
        | Constructed::Forwarded(_)
        | Constructed::Transferred(_)
        | Constructed::PickedUp(_)
        | Constructed::Conference => None,
    }
}

/// Tells a party why a call is over, and before that who took it or sent it elsewhere meanwhile.
fn at_the_end(event: &Event, party: &Party) -> Option<String> {
    let view = &event.after;
    let other = view.parties.iter().find(|other| other.id != party.id);
    let others_left = || matches!(party.id, PartyId::CALLER | PartyId::CALLEE) && other.is_some_and(|other| other.id > PartyId::CALLEE);
    let turn = match (&view.constructed, other) {
        (Constructed::PickedUp(who), _) if *who == party.who => Some("picked up".to_owned()),
        (Constructed::PickedUp(who), _) => Some(format!("picked up by {}", who.told())),
        (Constructed::Transferred(who), Some(other)) if others_left() => Some(format!("transferred to {} by {}", named(other), who.told())),
        (Constructed::Transferred(who), _) => Some(format!("transferred by {}", who.told())),
        (Constructed::Direct, Some(other)) if others_left() => Some(format!("taken by {}", named(other))),
        (Constructed::Direct | Constructed::Forwarded(_) | Constructed::Conference, _) => None,
    };
    let why = view.why.as_deref().filter(|why| !why.is_empty());
    let said: Vec<&str> = turn.as_deref().into_iter().chain(why).collect();
    Some(said.join("; ")).filter(|said| !said.is_empty())
}

/// Returns what a party is called where others read it.
fn named(party: &Party) -> &str {
    match &party.who {
        _ if party.anonymous => "somebody",
        Who::User(name) => name,
        Who::Outside { number, .. } => number,
    }
}

/// Makes the entry of a user's history, whose part in the call is over now.
fn part(before: &View, view: &View, done: &Done<'_>, now: u64) -> Option<Kept> {
    let party = done.party;
    let user = party.who.user()?;
    // who was in the call before it came into a room was in none
    let last = if view.party(party.id).is_some() { view } else { before };
    let room = room_of(last).filter(|_| party.id != PartyId::CALLER);
    let is_other = |other: &&Party| other.id != party.id;
    let other = view.parties.iter().find(is_other).or_else(|| before.parties.iter().find(is_other));
    let (other_number, other_name) = match other {
        _ if room.is_some() => (room, None),
        // what was dialled is to be dialled again, whoever took it or came to have it
        _ if party.id == PartyId::CALLER && (is_anothers(view) || room_of(view).is_some()) => (Some(&*view.dialled), None),
        Some(other) if other.anonymous => (None, None),
        Some(Party { who: Who::Outside { number, .. }, name, .. }) => (Some(&**number), name.as_deref()),
        Some(Party { who: Who::User(name), name: shown, .. }) => (Some(&**name), shown.as_deref()),
        None => (Some(&*view.dialled), None),
    };
    let before = before.party(party.id).unwrap_or(party);
    let is_in = |standing| matches!(standing, Standing::Connected | Standing::Holding | Standing::Calling);
    let device = |of: &Party| of.legs.iter().find(|leg| is_in(leg.state)).and_then(|leg| leg.device.as_ref().map(ToString::to_string));
    let device = device(before);
    let rang: Vec<String> = before.legs.iter().filter_map(|leg| leg.device.as_ref().map(ToString::to_string)).collect();
    Kept::of(&Part {
        call: view.id.0,
        party: done.entry,
        user,
        kind: match (party.id, view.answered_at) {
            (PartyId::CALLER, _) => Kind::Placed,
            _ if room.is_some() && party.id != PartyId::CALLEE => Kind::Placed,
            (_, Some(_)) if before.state != Standing::Ringing => Kind::Received,
            (_, Some(_) | None) => Kind::Missed,
        },
        number: other_number,
        name: other_name,
        device: device.as_deref(),
        rang: &rang,
        started_at: party.came_at,
        talked: view.answered_at.filter(|_| before.state != Standing::Ringing).map(|answered| {
            let until = view.ended_at.unwrap_or(now);
            until.saturating_sub(answered.max(party.came_at))
        }),
        why: done.why.as_deref().unwrap_or_default(),
    })
}

fn room_of(view: &View) -> Option<&str> {
    view.conference.as_ref().and_then(|conference| conference.room.as_deref())
}

/// Returns whether the place of who was called is another's, or nobody's any more.
fn is_anothers(view: &View) -> bool {
    matches!(view.constructed, Constructed::PickedUp(_)) || view.answered_at.is_some() && view.party(PartyId::CALLEE).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::graph::sample::view;

    const UNTIL: u64 = 10_000;

    /// Whose entry, of which number, its kind, whom it names, and why.
    type Written = (String, String, Kind, Option<String>, Option<String>);

    /// What is written of a change.
    fn written(before: &View, after: &View) -> Vec<Written> {
        let event =
            Event { number: 1, call: after.id, before: Some(Arc::new(before.clone())), after: Arc::new(after.clone()), missed: Vec::new() };
        let kept = done(&event).filter_map(|done| part(before, &event.after, &done, UNTIL));
        kept.map(|kept| kept.entry)
            .map(|entry| (entry.user.to_string(), entry.id.to_string(), entry.kind, entry.number, entry.why))
            .collect()
    }

    fn entry(user: &str, party: u16, kind: Kind, number: &str, why: &str) -> Written {
        (user.to_owned(), format!("{:016x}-{party}", 7), kind, Some(number.to_owned()), Some(why.to_owned()))
    }

    fn over(view: &View) -> View {
        View { state: State::Ended, ended_at: Some(UNTIL), why: Some("the caller hung up".to_owned()), ..view.clone() }
    }

    use Standing::{Calling, Connected, Ringing};

    #[test]
    fn who_picks_up_has_received_it_and_who_was_called_has_missed_it() {
        let rings = view(State::Ringing, &[(0, "ann", Calling), (1, "bob", Ringing), (2, "carol", Ringing)]);
        let carol = Who::User("carol".into());
        let picked =
            View { constructed: Constructed::PickedUp(carol), ..view(State::Connected, &[(0, "ann", Connected), (1, "carol", Connected)]) };
        assert_eq!(written(&rings, &picked), [entry("bob", DISPLACED, Kind::Missed, "ann", "picked up by carol")]);
        let expected = [
            entry("ann", 0, Kind::Placed, "502", "picked up by carol; the caller hung up"),
            entry("carol", 1, Kind::Received, "ann", "picked up; the caller hung up"),
        ];
        assert_eq!(written(&picked, &over(&picked)), expected);
    }

    #[test]
    fn a_call_that_is_parked_and_taken_is_in_three_histories() {
        let talk = view(State::Connected, &[(0, "ann", Connected), (1, "bob", Connected)]);
        let parked = View { slot: Some(7), ..view(State::Parked, &[(0, "ann", Connected)]) };
        assert_eq!(written(&talk, &parked), [entry("bob", 1, Kind::Received, "ann", "parked in slot 7")]);
        let taken = view(State::Connected, &[(0, "ann", Connected), (2, "carol", Connected)]);
        assert_eq!(written(&parked, &taken), []);
        let expected = [
            entry("ann", 0, Kind::Placed, "502", "taken by carol; the caller hung up"),
            entry("carol", 2, Kind::Received, "ann", "the caller hung up"),
        ];
        assert_eq!(written(&taken, &over(&taken)), expected);
    }

    #[test]
    fn a_transfer_says_who_sent_whom_where() {
        let talk = view(State::Connected, &[(0, "ann", Connected), (1, "bob", Connected), (2, "carol", Ringing)]);
        let constructed = Constructed::Transferred(Who::User("bob".into()));
        let sent = View { constructed, ..view(State::Connected, &[(0, "ann", Connected), (2, "carol", Connected)]) };
        assert_eq!(written(&talk, &sent), [entry("bob", 1, Kind::Received, "ann", "transferred to carol")]);
        let expected = [
            entry("ann", 0, Kind::Placed, "502", "transferred to carol by bob; the caller hung up"),
            entry("carol", 2, Kind::Received, "ann", "transferred by bob; the caller hung up"),
        ];
        assert_eq!(written(&sent, &over(&sent)), expected);
    }

    #[test]
    fn who_transfers_into_a_room_has_called_whom_they_called() {
        let talk = view(State::Connected, &[(0, "ann", Connected), (1, "bob", Connected)]);
        let room = crate::call::graph::Conference { moderator: None, locked: false, room: Some("801".into()), at_door: false };
        let waits = View { conference: Some(room), ..view(State::Connected, &[(1, "bob", Connected)]) };
        assert_eq!(written(&talk, &waits), [entry("ann", 0, Kind::Placed, "502", "transferred to 801")]);
        assert_eq!(written(&waits, &over(&waits)), [entry("bob", 1, Kind::Received, "801", "the caller hung up")]);
        // somebody is there already: the call becomes part of the room's
        let joined = View { joined: Some(crate::call::Id(9)), ..over(&waits) };
        assert_eq!(written(&talk, &joined), [entry("ann", 0, Kind::Placed, "502", "transferred to 801")]);
        // who dialled it
        let alone =
            View { conference: waits.conference.clone(), dialled: "801".into(), ..view(State::Connected, &[(0, "ann", Connected)]) };
        assert_eq!(written(&alone, &over(&alone)), [entry("ann", 0, Kind::Placed, "801", "the caller hung up")]);
    }

    #[test]
    fn what_a_user_dials_wrongly_is_noted_ten_times_a_minute() {
        // S11
        let mut dialled = DialledWrongly::default();
        let noted = |dialled: &mut DialledWrongly, now, user| (0..100).filter(|_| dialled.admits(now, user)).count();
        assert_eq!([noted(&mut dialled, 0, "ann"), noted(&mut dialled, 0, "bob"), noted(&mut dialled, 59_999, "ann")], [10, 10, 0]);
        assert_eq!((noted(&mut dialled, 60_000, "ann"), dialled.of_user.len()), (10, 1));
    }
}
