//! What happens in the loop, for whoever tells client applications. The loop never waits for them: beyond the bound news are lost, counted
//! and reported.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::{Description, Signaling, Unwritten};
use crate::call;
use crate::call::graph::{Event, Party, Standing, State, View};
use crate::call::party::{PartyId, Who};
use crate::history::{Change, Kept, Kind, Part, detail};
use crate::presence::Presence;
use crate::storage::Batch;

/// News that wait to be told; beyond it they are lost.
const QUEUE: usize = 65_536;
/// Calls that are over and can still be asked about. Where one more ends, the one that ended first is forgotten: its record stays.
const ENDED: usize = 1000;

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
        let kept: Vec<Kept> = done(&event).filter_map(|(party, why)| part(before, &event.after, (party, why), now)).collect();
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
        let entries: Vec<Kept> = after.parties.iter().filter(came).filter_map(|party| part(after, after, (party, None), now)).collect();
        let mut batches = Vec::new();
        if before.is_none() {
            let mut batch = Batch::new();
            detail::note_call(record, &mut batch);
            batches.push(batch);
        }
        for some in entries.chunks(NOTED) {
            let mut batch = Batch::new();
            some.iter().for_each(|kept| detail::note_part(kept, &mut batch));
            batches.push(batch);
        }
        for batch in batches {
            if let Err(error) = self.writer.submit(&batch, 0) {
                warn!(call = %event.call, %error, "a call that goes on would leave no record if the switch stopped without warning");
                self.note_failure(error);
            }
        }
    }

    /// Whether it is somebody outside, or a user; one may have been removed in the middle of a call.
    fn is_known(&self, who: &Who) -> bool {
        who.user().is_none_or(|name| self.users.named(name).is_some())
    }

    fn keep(&mut self, kept: Kept) {
        let mut batch = Batch::new();
        if self.users.named(kept.entry.user.as_str()).is_none() {
            detail::forget(&kept, &mut batch);
            if let Err(error) = self.writer.submit(&batch, 0) {
                warn!(%error, "a part of somebody who was removed, in a call that is over, stays in the store");
                self.note_failure(error);
            }
            return;
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

/// Returns those whose part in a call is over now, and why they missed it, if they did while it goes on. Whoever rings and is neither the
/// callee nor sent the call (a colleague who picks it up, the one who parked it) misses nothing.
fn done(event: &Event) -> impl Iterator<Item = (&Party, Option<&str>)> {
    let is_over = event.after.state == State::Ended;
    let ended = event.after.parties.iter().filter(move |_| is_over).map(|party| (party, None));
    let before = event.before.iter().flat_map(|before| &before.parties);
    let gone = before.filter(|party| event.after.party(party.id).is_none()).filter_map(move |party| {
        let missed = event.missed.iter().find(|missed| missed.party == party.id);
        let is_done = missed.is_some() || !is_over && party.state != Standing::Ringing;
        is_done.then_some((party, missed.map(|missed| &*missed.why)))
    });
    ended.chain(gone)
}

/// Makes the entry of a user's history, whose part in the call is over now.
fn part(before: &View, view: &View, (party, missed): (&Party, Option<&str>), now: u64) -> Option<Kept> {
    let user = party.who.user()?;
    let room = view.conference.as_ref().and_then(|conference| conference.room.as_deref());
    let is_other = |other: &&Party| other.id != party.id;
    let other = view.parties.iter().find(is_other).or_else(|| before.parties.iter().find(is_other));
    let (other_number, other_name) = match other {
        _ if room.is_some() => (room, None),
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
        party: party.id.0,
        user,
        kind: match (party.id, view.answered_at) {
            (PartyId::CALLER, _) => Kind::Placed,
            _ if room.is_some() => Kind::Placed,
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
        why: missed.or(view.why.as_deref()).unwrap_or_default(),
    })
}
