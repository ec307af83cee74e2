//! News of the switch to what CAS tells client applications.

use cas::text::UserName;
use cas::topic::Happening;
use cas::topic::graph::Changed;
use cas::topic::history::EntryEvent;
use cas::topic::presence;
use cas::topic::tel::{CallEvent, Change};

use super::view;
use crate::call::graph::{Event, State};
use crate::signaling::News;

/// Turns news into what is told of them.
pub(crate) fn happenings(news: News) -> Vec<Happening> {
    match news {
        News::Call(event) => call(&event),
        News::Presence(user, presence) => {
            UserName::parse(&user).map(|user| Happening::Presence(presence::Changed { user, presence: *presence })).into_iter().collect()
        }
        News::Entry(change, kept) => vec![Happening::History(EntryEvent { change, entry: kept.entry })],
    }
}

fn call(event: &Event) -> Vec<Happening> {
    let Some(call) = view::call(&event.after) else { return Vec::new() };
    let before = event.before.as_deref();
    let change = match (before.map(|before| before.state), event.after.state) {
        (_, State::Ended) => Change::Ended,
        (None, _) => Change::Ringing,
        (Some(State::Ringing), State::Connected) => Change::Connected,
        (Some(_), _) => Change::Changed,
    };
    let mut told = vec![Happening::Tel(CallEvent { change, call })];
    if let (Some(new), Some(old)) = (view::graph(&event.after), before.map_or_else(|| view::empty(&event.after), view::graph))
        && new != old
    {
        told.push(Happening::Graph(Changed { old, new }));
    }
    told
}
