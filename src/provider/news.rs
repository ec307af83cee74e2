//! News of the switch to what CAS tells client applications.

use cas::login::LoginId;
use cas::text::{CallId, DeviceId, UserName};
use cas::topic::Happening;
use cas::topic::graph::Changed;
use cas::topic::history::EntryEvent;
use cas::topic::presence;
use cas::topic::tel::{self, CallEvent, Change, Described, Left, SdpType};

use super::view;
use crate::call::graph::{Constructed, Event, Party, Standing, State, View};
use crate::clock;
use crate::signaling::{Description, News};
use crate::thin::Kind;

/// Turns news into what is told of them.
pub(crate) fn happenings(news: News) -> Vec<Happening> {
    match news {
        News::Call(event) => call(&event),
        News::Presence(user, presence) => {
            UserName::parse(&user).map(|user| Happening::Presence(presence::Changed { user, presence: *presence })).into_iter().collect()
        }
        News::Described(description) => described(*description).map(Happening::Described).into_iter().collect(),
        News::Entry(change, kept) => vec![Happening::History(EntryEvent { change, entry: kept.entry })],
    }
}

/// Turns what a thin client is told into its event; none where the other side's words are none that CAS can carry.
fn described(description: Description) -> Option<Described> {
    let Description { login, user, device, call, kind, sdp } = description;
    let description = tel::Description {
        call: CallId::parse(&call.to_string()).ok()?,
        device: DeviceId::parse(device.as_str()).ok()?,
        r#type: match kind {
            Kind::Offer => SdpType::Offer,
            Kind::Pranswer => SdpType::Pranswer,
            Kind::Answer => SdpType::Answer,
            Kind::Rollback => SdpType::Rollback,
            Kind::Request => SdpType::Request,
        },
        sdp: view::sdp(&sdp)?,
    };
    Some(Described { login: LoginId(login), user: UserName::parse(&user).ok()?, description })
}

/// Returns the call as it ended for users who are no longer in it.
fn left(before: &View, after: &View) -> Option<Left> {
    let gone = before.parties.iter().filter_map(|party| party.who.user()).filter(|user| after.party_of(user).is_none());
    let users: Vec<UserName> = gone.filter_map(|user| UserName::parse(user).ok()).collect();
    let why = match (&after.constructed, after.slot) {
        _ if users.is_empty() => return None,
        (_, Some(slot)) if before.slot.is_none() => format!("parked in slot {slot}"),
        (Constructed::Transferred(_), _) if before.constructed != after.constructed => "transferred".to_owned(),
        (Constructed::PickedUp(_), _) if before.constructed != after.constructed => "picked up by somebody else".to_owned(),
        _ => "left, and the others go on".to_owned(),
    };
    let parties = before.parties.iter().map(|party| Party { state: Standing::Left, legs: Vec::new(), ..party.clone() }).collect();
    let ended_at = u64::try_from(clock::unix().as_millis()).ok();
    let call = view::call(&View { state: State::Ended, parties, ended_at, slot: None, why: Some(why), ..before.clone() })?;
    Some(Left { users, call })
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
    let left = before.filter(|_| change != Change::Ended).and_then(|before| left(before, &event.after));
    let mut told = vec![Happening::Tel(CallEvent { change, call })];
    told.extend(left.map(Happening::Left));
    if let (Some(new), Some(old)) = (view::graph(&event.after), before.map_or_else(|| view::empty(&event.after), view::graph))
        && new != old
    {
        told.push(Happening::Graph(Changed { old, new }));
    }
    told
}
