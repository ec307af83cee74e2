//! News of the switch to what CAS tells client applications.

use cas::login::LoginId;
use cas::text::{CallId, DeviceId, UserName};
use cas::topic::Happening;
use cas::topic::graph::Changed;
use cas::topic::history::EntryEvent;
use cas::topic::presence;
use cas::topic::tel::{self, CallEvent, Change, Described, Left, SdpType, Waiting};

use super::view;
use crate::call::command::Refusal;
use crate::call::graph::{Constructed, Event, Party, Standing, State, View};
use crate::clock;
use crate::signaling::{Description, News};
use crate::thin::Kind;

/// Turns news into what is told of them: with what may be picked up only where somebody wants that.
pub(crate) fn happenings(news: News, pickups: bool) -> Vec<Happening> {
    match news {
        News::Call(event) => call(&event).into_iter().chain(pickups.then(|| pickup(&event)).flatten()).collect(),
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

/// Returns those at whom a call begins to ring that there was already.
fn reaches(before: &View, after: &View) -> Vec<UserName> {
    let rings = after.parties.iter().filter(|party| party.state == Standing::Ringing).filter_map(|party| party.who.user());
    rings.filter(|user| before.party_of(user).is_none()).filter_map(|user| UserName::parse(user).ok()).collect()
}

/// Returns the call as it ended for each user who is no longer in it.
fn left<'a>(before: &'a View, event: &'a Event) -> impl Iterator<Item = Left> + 'a {
    let is_first = |party: &Party, user: &str| before.party_of(user).is_some_and(|first| first.id == party.id);
    before.parties.iter().filter_map(move |party| {
        let user = party.who.user().filter(|user| event.after.party_of(user).is_none() && is_first(party, user))?;
        let users = vec![UserName::parse(user).ok()?];
        let why = Some(why_gone(before, event, party));
        let parties = before.parties.iter().map(|party| Party { state: Standing::Left, legs: Vec::new(), ..party.clone() }).collect();
        let ended_at = u64::try_from(clock::unix().as_millis()).ok();
        let call = view::call(&View { state: State::Ended, parties, ended_at, slot: None, waits: false, why, ..before.clone() })?;
        Some(Left { users, call })
    })
}

/// Tells a party why a call that goes on is over for them.
fn why_gone(before: &View, event: &Event, party: &Party) -> String {
    let after = &event.after;
    let is_turn = before.constructed != after.constructed && before.conference.is_none();
    let rang = party.state == Standing::Ringing;
    let missed = event.missed.iter().find(|missed| missed.party == party.id);
    match (&after.constructed, after.slot, missed) {
        _ if after.joined.is_some() => "transferred".to_owned(),
        _ if after.state == State::Ended => after.why.clone().unwrap_or_default(),
        (_, Some(slot), _) if before.slot.is_none() => format!("parked in slot {slot}"),
        (Constructed::PickedUp(who), ..) if is_turn => format!("picked up by {}", who.told()),
        (_, _, Some(missed)) => missed.why.clone(),
        (Constructed::Transferred(_), ..) if is_turn && !rang => "transferred".to_owned(),
        _ if rang && before.state != State::Connected && after.state == State::Connected => Refusal::Elsewhere.to_string(),
        _ if rang => "not answered, and the call goes on".to_owned(),
        _ => "left, and the others go on".to_owned(),
    }
}

/// Returns what those are told who may pick up a call: that it waits, or is shown otherwise, or that it waits no more.
fn pickup(event: &Event) -> Option<Happening> {
    let before = event.before.as_deref().and_then(view::waiting);
    let told = match (before, view::waiting(&event.after)) {
        (before, Some(after)) => Some(after).filter(|after| before.as_ref() != Some(after))?,
        (Some(before), None) => {
            let call = tel::Call { state: view::state(&event.after), parties: Vec::new(), slot: None, ..before.call };
            Waiting { call, waits: false, ..before }
        }
        (None, None) => return None,
    };
    Some(Happening::Waiting(told))
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
    // what has changed may be nothing that clients see
    let is_twin = change == Change::Changed && before.and_then(view::call).as_ref() == Some(&call);
    let left = before.into_iter().flat_map(|before| left(before, event));
    let reaches = before.map(|before| reaches(before, &event.after)).unwrap_or_default();
    let mut told: Vec<Happening> = (!is_twin).then_some(Happening::Tel(CallEvent { change, call, reaches })).into_iter().collect();
    told.extend(left.map(Happening::Left));
    if let (Some(new), Some(old)) = (view::graph(&event.after), before.map_or_else(|| view::empty(&event.after), view::graph))
        && new != old
    {
        told.push(Happening::Graph(Changed { old, new }));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::graph::sample::view;
    use crate::call::graph::{Conference, Missed};
    use crate::call::party::{PartyId, Who};

    const RINGING: &[(u16, &str, Standing)] = &[(0, "ann", Standing::Calling), (1, "bob", Standing::Ringing)];
    const TALKING: &[(u16, &str, Standing)] = &[(0, "ann", Standing::Connected), (1, "bob", Standing::Connected)];

    fn told(before: Option<&View>, after: &View, pickups: bool) -> Vec<Happening> {
        let (before, after) = (before.cloned().map(Into::into), after.clone().into());
        happenings(News::Call(Box::new(Event { number: 1, call: crate::call::Id(7), before, after, missed: Vec::new() })), pickups)
    }

    fn of_calls(told: &[Happening]) -> Vec<Change> {
        told.iter().filter_map(|one| if let Happening::Tel(event) = one { Some(event.change) } else { None }).collect()
    }

    fn waiting(told: Vec<Happening>) -> Option<Waiting> {
        told.into_iter().find_map(|one| if let Happening::Waiting(waiting) = one { Some(waiting) } else { None })
    }

    #[test]
    fn clients_are_told_of_a_change_that_they_see_and_of_no_other() {
        let rings = view(State::Ringing, RINGING);
        assert_eq!(of_calls(&told(None, &rings, false)), [Change::Ringing]);
        let at_the_phone = View { ringing_at: Some(5), ..rings.clone() };
        assert!(told(Some(&rings), &at_the_phone, true).is_empty());
        let talks = view(State::Connected, TALKING);
        assert_eq!(of_calls(&told(Some(&at_the_phone), &talks, false)), [Change::Connected]);
        let mut held = talks.clone();
        held.parties[0].state = Standing::Holding;
        assert_eq!(of_calls(&told(Some(&talks), &held, false)), [Change::Changed]);
    }

    #[test]
    fn who_is_reached_later_is_told_that_it_rings_and_that_it_is_over() {
        let talks = view(State::Connected, TALKING);
        let mut transferred = talks.clone();
        transferred.parties.push(view(State::Ringing, &[(2, "carol", Standing::Ringing)]).parties.remove(0));
        let reached = told(Some(&talks), &transferred, false);
        let Some(Happening::Tel(event)) = reached.first() else { panic!("{reached:?}") };
        assert_eq!(event.reaches.iter().map(UserName::as_str).collect::<Vec<_>>(), ["carol"]);
        let left = |before: &View, after: &View| {
            let told = told(Some(before), after, false);
            let left = told.iter().find_map(|one| if let Happening::Left(left) = one { Some(left) } else { None }).unwrap();
            (left.users.iter().map(ToString::to_string).collect::<Vec<_>>(), left.call.state, left.call.why.clone().unwrap().to_string())
        };
        let over = View { why: Some("bob hung up".to_owned()), ..view(State::Ended, TALKING) };
        assert_eq!(left(&transferred, &over), (vec!["carol".to_owned()], tel::State::Ended, "bob hung up".to_owned()));
        let joined = View { joined: Some(crate::call::Id(9)), ..view(State::Ended, &TALKING[1..]) };
        assert_eq!(left(&talks, &joined), (vec!["ann".to_owned()], tel::State::Ended, "transferred".to_owned()));
    }

    #[test]
    fn who_may_pick_up_is_told_what_a_lamp_shows() {
        // S5: who is anonymous stays so, and nobody is told who has it then
        let mut rings = view(State::Ringing, RINGING);
        assert!(waiting(told(None, &rings, false)).is_none(), "nobody asked");
        let shown = waiting(told(None, &rings, true)).unwrap();
        let users = |of: &[tel::Party]| of.iter().map(|party| party.user.as_ref().map(ToString::to_string)).collect::<Vec<_>>();
        let both = [Some("ann".to_owned()), Some("bob".to_owned())];
        assert_eq!((users(&shown.call.parties), shown.at.as_ref().map(UserName::as_str)), (both.to_vec(), Some("bob")));
        assert_eq!(shown.of.iter().map(UserName::as_str).collect::<Vec<_>>(), ["ann", "bob"]);
        (rings.parties[0].anonymous, rings.parties[0].name) = (true, Some("Ann".to_owned()));
        let shown = waiting(told(None, &rings, true)).unwrap();
        assert_eq!((users(&shown.call.parties), &shown.call.parties[0].name), (vec![None, both[1].clone()], &None));
        // a colleague's phone that rings beside is no change
        let mut guest = rings.clone();
        guest.parties.push(view(State::Ringing, &[(2, "carol", Standing::Ringing)]).parties.remove(0));
        assert_eq!(waiting(told(Some(&rings), &guest, true)), None);
        let gone = waiting(told(Some(&rings), &view(State::Connected, TALKING), true)).unwrap();
        assert_eq!((gone.waits, gone.call.parties.len(), gone.call.state), (false, 0, tel::State::Connected));
        assert_eq!(waiting(told(Some(&guest), &view(State::Connected, TALKING), false)), None);
    }

    #[test]
    fn who_is_out_of_a_call_that_goes_on_is_told_why() {
        let whys = |before: &View, after: &View, missed: &[(u16, &str)]| {
            let missed = missed.iter().map(|(party, why)| Missed { party: PartyId(*party), why: (*why).to_owned() }).collect();
            let event = Event { number: 1, call: before.id, before: Some(before.clone().into()), after: after.clone().into(), missed };
            let told = call(&event).into_iter();
            told.filter_map(|one| if let Happening::Left(left) = one { Some((left.users[0].to_string(), left.call.why?)) } else { None })
                .collect::<Vec<_>>()
        };
        let of = |user: &str, why: &str| vec![(user.to_owned(), why.to_owned())];
        let with = |last: Standing, parties: &[(u16, &'static str, Standing)]| [parties, &[(2, "carol", last)]].concat();
        let talks = view(State::Connected, TALKING);
        let three = view(State::Connected, &with(Standing::Connected, TALKING));
        assert_eq!(whys(&three, &talks, &[(2, "removed by the moderator")]), of("carol", "removed by the moderator"));
        assert_eq!(whys(&three, &talks, &[]), of("carol", "left, and the others go on"));
        let target = view(State::Connected, &with(Standing::Ringing, TALKING));
        assert_eq!(whys(&target, &talks, &[(2, "the device is busy")]), of("carol", "the device is busy"));
        let guest = view(State::Ringing, &with(Standing::Ringing, RINGING));
        assert_eq!(whys(&guest, &talks, &[]), of("carol", "another one has taken the call"));
        assert_eq!(whys(&guest, &view(State::Ringing, RINGING), &[]), of("carol", "not answered, and the call goes on"));
        // two are as they were before the conference: the third was not transferred
        let again = View { constructed: Constructed::Transferred(Who::User("dave".into())), ..talks };
        let conference = Some(Conference { moderator: None, locked: false, room: None, at_door: false });
        assert_eq!(whys(&View { conference, ..three }, &again, &[]), of("carol", "left, and the others go on"));
    }

    #[test]
    fn a_parked_call_is_for_everybody_and_shows_who_waits() {
        let parties = &[(0, "ann", Standing::Connected), (1, "bob", Standing::Ringing)]; // who parked it is called back
        let parked = View { slot: Some(7), ..view(State::Parked, parties) };
        let shown = waiting(told(Some(&view(State::Connected, TALKING)), &parked, true)).unwrap();
        assert_eq!((shown.at, shown.call.slot.as_deref(), shown.call.parties.len()), (None, Some("7"), 1));
        assert_eq!(shown.call.parties[0].state, tel::PartyState::Parked);
        let sent = View { constructed: Constructed::Transferred(Who::User("bob".into())), ..parked.clone() };
        let shown = waiting(told(None, &sent, true)).unwrap().call.constructed;
        assert_eq!((shown.how, shown.by), (tel::How::Transferred, None));
        let outside = Who::Outside { trunk: "t".into(), number: "+491".into() };
        let mut withheld = parked;
        (withheld.parties[0].who, withheld.parties[0].anonymous) = (outside, true);
        assert_eq!(waiting(told(None, &withheld, true)).unwrap().call.parties[0].number, None);
    }
}
