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
use crate::history::{Change, Kept, Kind, Part};
use crate::presence::Presence;
use crate::storage::Batch;

/// News that wait to be told; beyond it they are lost.
const QUEUE: usize = 65_536;
/// Calls that are over and can still be asked about. Where one more ends, the one that ended first is forgotten: its record stays.
const ENDED: usize = 1000;

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

    /// Finds a call.
    pub(super) fn find(&self, id: call::Id) -> Option<Arc<View>> {
        self.0.iter().rev().find(|view| view.id == id).cloned()
    }
}

impl Signaling {
    /// Tells of a change of a call. When it is over, or a user has left it before, their part in it goes into their history.
    pub(super) fn call_changed(&mut self, event: Box<Event>) {
        let has_left = |party: &&Party| event.after.party(party.id).is_none();
        let done: Vec<&Party> = match &event.before {
            _ if event.after.state == State::Ended => event.after.parties.iter().collect(),
            Some(before) => before.parties.iter().filter(has_left).collect(),
            None => Vec::new(),
        };
        let kept: Vec<Kept> = done.into_iter().filter_map(|party| part(&event, party, super::millis(self.unix))).collect();
        kept.into_iter().for_each(|kept| self.keep(kept));
        if event.after.state == State::Ended {
            self.past.push(Arc::clone(&event.after));
        }
        self.news.tell(News::Call(event));
    }

    fn keep(&mut self, kept: Kept) {
        let mut batch = Batch::new();
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

/// Makes the entry of a user's history, whose part in the call is over now.
fn part(event: &Event, party: &Party, now: u64) -> Option<Kept> {
    let view = &event.after;
    let user = party.who.user()?;
    let room = view.conference.as_ref().and_then(|conference| conference.room.as_deref());
    let other = view.parties.iter().find(|other| other.id != party.id);
    let (other_number, other_name) = match other {
        _ if room.is_some() => (room, None),
        Some(other) if other.anonymous => (None, None),
        Some(Party { who: Who::Outside { number, .. }, name, .. }) => (Some(&**number), name.as_deref()),
        Some(Party { who: Who::User(name), name: shown, .. }) => (Some(&**name), shown.as_deref()),
        None => (Some(&*view.dialled), None),
    };
    let before = event.before.as_ref().and_then(|before| before.party(party.id)).unwrap_or(party);
    let is_in = |standing| matches!(standing, Standing::Connected | Standing::Holding | Standing::Calling);
    let device = |of: &Party| of.legs.iter().find(|leg| is_in(leg.state)).and_then(|leg| leg.device.as_ref().map(ToString::to_string));
    let device = device(before);
    let rang: Vec<String> = before.legs.iter().filter_map(|leg| leg.device.as_ref().map(ToString::to_string)).collect();
    Kept::of(&Part {
        call: view.id.0,
        party: u8::try_from(party.id.0).ok()?,
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
        why: view.why.as_deref().unwrap_or_default(),
    })
}
