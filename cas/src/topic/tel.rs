//! Topic `tel`: calls. What may be done with a call now follows from its state here, and is cut by the caller's rights; how it is done
//! is the provider's ([`Telephony`]).

pub(crate) mod action;
pub(crate) mod privacy;
pub(crate) mod types;

pub use action::{Act, Actions, Take};
pub use types::*;

use privacy::Sight;

use super::login::Nothing;
use super::operation::operations;
use super::subscription::MAX_USERS;
use super::{Done, Effect, Seen, reply, write_body};
use crate::error::{Error, Fault};
use crate::login::LoginId;
use crate::permission::{Caller, Owner, Reach, Right, decide};
use crate::provider::Telephony;
use crate::text::UserName;

operations! { "tel";
    /// Calls a number, a user or a URI from a device; `sdp` makes the application itself the device.
    "make-call" MakeCall(MakeCall) -> CallReply, Slow, Own;
    /// Answers a ringing call on a device.
    "answer" Answer(Answer) -> CallReply, Slow, Own;
    /// Declines a ringing call.
    "decline" Decline(Decline) -> CallReply, Slow, Own;
    /// Puts the call on hold.
    "hold" Hold(Plain) -> CallReply, Slow, Own;
    /// Takes the call off hold.
    "resume" Resume(Plain) -> CallReply, Slow, Own;
    /// Hangs up, or gives up a call that rings.
    "drop" Drop(Plain) -> CallReply, Slow, Own;
    /// Transfers the other party: blind to `destination`, or attended to the party of `consult`.
    "transfer" Transfer(Transfer) -> CallReply, Slow, Own;
    /// Joins other calls and destinations to the call.
    "conference" Conference(Conference) -> CallReply, Slow, Own;
    /// Takes a party's media from the others: one's own, or as the moderator of a conference that of another.
    "mute" Mute(Mute) -> CallReply, Slow, Own;
    /// Gives a party's media to the others again.
    "unmute" Unmute(Mute) -> CallReply, Slow, Own;
    /// Lets nobody join the conference; for its moderator.
    "lock" Lock(Plain) -> CallReply, Slow, Own;
    /// Lets people join the conference again; for its moderator.
    "unlock" Unlock(Plain) -> CallReply, Slow, Own;
    /// Removes a party from the conference; for its moderator.
    "kick" Kick(Member) -> CallReply, Slow, Own;
    /// Makes another user the moderator of the conference; for its moderator.
    "moderate" Moderate(Member) -> CallReply, Slow, Own;
    /// Parks the call.
    "park" Park(Park) -> CallReply, Slow, Own;
    /// Picks up a parked call, or one that rings elsewhere: one of `call` and `slot`.
    "pickup" Pickup(Pickup) -> CallReply, Slow, Own;
    /// Sends DTMF digits to the other party.
    "dtmf" Dtmf(Dtmf) -> CallReply, Slow, Own;
    /// Moves the user's side of the call to another device.
    "move" Move(Move) -> CallReply, Slow, Own;
    /// Splits the user's side over two devices, by kind of media.
    "split" Split(Split) -> CallReply, Slow, Own;
    /// Renegotiates media of an application that is itself the device: a new offer, whose answer is in the reply, or the answer to the
    /// switch's.
    "negotiate" Negotiate(Negotiate) -> CallReply, Slow, Own;
    /// Makes the application itself a device of its user: it rings, and the event `sdp` brings what is offered, until the login is over.
    "register" Register(Register) -> Registered, Quick, Own;
    /// Lets the application ring no more; its calls go on.
    "unregister" Unregister(Nothing) -> Nothing, Quick, Own;
    /// Lists the calls in progress, or with `pickup` those that may be picked up.
    "list" List(List) -> CallList, Quick, Own;
    /// Shows one call.
    "show" Show(Show) -> CallReply, Quick, Own;
    /// Tells in one sentence why a call ended or failed.
    "why" Why(Show) -> Verdict, Quick, Own;
}

/// The right to see a call, in replies and in events.
pub(crate) const SHOW: Right<'static> = Right { topic: "tel", message: "show", user: Reach::Own };

/// The right to pick up, and to hear of what may be picked up.
pub(crate) const TAKE: Right<'static> = Right { topic: "tel", message: "pickup", user: Reach::Own };

/// Serves a request.
pub(crate) async fn serve<T: Telephony>(telephony: &T, caller: &Caller, request: Request) -> Result<Done, Error> {
    let right = request.right();
    let act = match request {
        Request::MakeCall(request) => {
            let user = request.user.clone().unwrap_or_else(|| caller.user.clone());
            decide(caller, right, Owner::User(&user))?;
            if let Some(guided) = &request.guided {
                check_guided(telephony, caller, &user, guided).await?;
            }
            let acted = telephony.make_call(caller, &user, *request).await?;
            return reply(&CallReply::new(acted, caller));
        }
        Request::List(request) if request.pickup => return list_waiting(telephony, caller, *request).await,
        Request::List(request) => return list(telephony, caller, right, *request).await,
        Request::Show(request) => {
            let call = telephony.call(&request.call).await?;
            decide(caller, right, Owner::Users(&call.users()))?;
            return reply(&CallReply::new(Acted { call, sdp: None }, caller));
        }
        Request::Why(request) => {
            let ending = telephony.why(&request.call).await?;
            decide(caller, right, Owner::Users(&ending.users))?;
            return reply(&Verdict { call: request.call, why: ending.why });
        }
        Request::Register(request) => {
            decide(caller, right, Owner::User(&caller.user))?;
            let registered = Registered { device: telephony.register(caller, *request).await? };
            return Ok(Done { effects: vec![Effect::Device(true)], ..reply(&registered)? });
        }
        Request::Unregister(_) => {
            decide(caller, right, Owner::User(&caller.user))?;
            telephony.unregister(caller).await?;
            return Ok(Done { effects: vec![Effect::Device(false)], ..reply(&Nothing {})? });
        }
        Request::Answer(request) => Act::Answer(*request),
        Request::Decline(request) => Act::Decline(*request),
        Request::Hold(request) => Act::Hold(*request),
        Request::Resume(request) => Act::Resume(*request),
        Request::Drop(request) => Act::Drop(*request),
        Request::Transfer(request) => Act::Transfer(*request),
        Request::Conference(request) => Act::Conference(*request),
        Request::Mute(request) => Act::Mute(*request),
        Request::Unmute(request) => Act::Unmute(*request),
        Request::Lock(request) => Act::Lock(*request),
        Request::Unlock(request) => Act::Unlock(*request),
        Request::Kick(request) => Act::Kick(*request),
        Request::Moderate(request) => Act::Moderate(*request),
        Request::Park(request) => Act::Park(*request),
        Request::Pickup(request) => Act::Pickup(take(telephony, caller, right, *request).await?),
        Request::Dtmf(request) => Act::Dtmf(*request),
        Request::Move(request) => Act::Move(*request),
        Request::Split(request) => Act::Split(*request),
        Request::Negotiate(request) => Act::Negotiate(*request),
    };
    operate(telephony, caller, right, act).await
}

async fn list<T: Telephony>(telephony: &T, caller: &Caller, right: Right<'_>, request: List) -> Result<Done, Error> {
    if request.subscribe {
        return Err(Error::field("subscribe", "field subscribe: expected with pickup; a login hears of its user's calls without it"));
    }
    if let Some(user) = &request.user {
        decide(caller, right, Owner::User(user))?;
    }
    let mut calls = telephony.calls(request.user.as_ref().or((caller.reach(right) != Reach::All).then_some(&caller.user))).await?;
    calls.retain(|call| decide(caller, right, Owner::Users(&call.users())).is_ok());
    let calls = calls.into_iter().map(|call| CallView::new(call, caller)).collect();
    reply(&CallList { calls, actions: of_telephony(caller), subscription: None })
}

/// Returns what the caller may do with telephony as a whole.
fn of_telephony(caller: &Caller) -> Actions {
    [Action::MakeCall].into_iter().filter(|action| may(caller, *action, &[])).collect()
}

/// Lists what may be picked up, which takes the right to do so.
async fn list_waiting<T: Telephony>(telephony: &T, caller: &Caller, request: List) -> Result<Done, Error> {
    let right = TAKE;
    let user = request.user.or_else(|| (caller.reach(right) != Reach::All).then(|| caller.user.clone()));
    decide(caller, right, user.as_ref().map_or(Owner::Service, Owner::User))?;
    let waiting = telephony.waiting(user.as_ref()).await?;
    let actions: Actions = [Action::Pickup].into_iter().collect();
    let calls = waiting.calls.into_iter().map(|call| CallView { call, actions }).collect();
    let mut done = reply(&CallList { calls, actions: of_telephony(caller), subscription: None })?;
    if request.subscribe {
        if waiting.at.as_ref().is_some_and(|users| users.len() > MAX_USERS) {
            return Err(Error::new(Fault::TooMany, format!("the user has more than {MAX_USERS} colleagues")));
        }
        done.effects.push(Effect::Subscribe { topic: PICKUP, users: waiting.at });
    }
    Ok(done)
}

/// Finds the call that is to be picked up. A slot is looked into once it is known that the caller may pick up at all.
async fn take<T: Telephony>(telephony: &T, caller: &Caller, right: Right<'_>, request: Pickup) -> Result<Take, Error> {
    let Pickup { call, slot, user, device } = request;
    let call = match (call, slot) {
        (Some(call), None) => call,
        (None, Some(slot)) => {
            decide(caller, right, Owner::User(user.as_ref().unwrap_or(&caller.user)))?;
            telephony.parked(&slot).await?.id
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Error::field("call", "expected one of the fields call and slot").accepting(["call", "slot"]));
        }
    };
    Ok(Take { call, user, device })
}

/// Does something with a call that exists: right first, then state, then the provider.
async fn operate<T: Telephony>(telephony: &T, caller: &Caller, right: Right<'_>, act: Act) -> Result<Done, Error> {
    act.check()?;
    // who is hidden from the caller is nobody whom the caller may name
    let call = telephony.call(act.call()).await?.seen_by(caller);
    let user = act.user().cloned().unwrap_or_else(|| default_side(&call, caller, &act));
    // Who acts for a party needs the right over that party; who is none of them is a stranger to the call. A call that is picked up is
    // always another's: what counts is for whom.
    let is_party = call.party(&user).is_some();
    let owners = if is_party || act.action() == Action::Pickup { vec![user.clone()] } else { call.users() };
    decide(caller, right, Owner::Users(&owners))?;
    let mut others = Vec::new();
    for other in act.other_calls() {
        let other = telephony.call(other).await?;
        decide(caller, right, Owner::Users(&other.users()))?;
        others.push(other);
    }
    let possible = call.possible(&user);
    // Who is no party of a call and names none means the whole of it.
    let ends_all = matches!(&act, Act::Drop(request) if request.user.is_none()) && !is_party && call.state != State::Ended;
    if !possible.contains(act.action()) && !ends_all {
        if !is_party && call.state != State::Ended && act.action() != Action::Pickup {
            let detail = match act.user() {
                Some(_) => "field user: they are not in the call",
                None => "field user: say whose side of the call is meant",
            };
            return Err(Error::field("user", detail).accepting(call.users().iter().map(UserName::as_str)));
        }
        if act.is_moderation() && !call.conference {
            return Err(Error::new(Fault::NotNow, "the call is no conference"));
        }
        let allowed = possible.iter().filter(|action| may(caller, *action, &owners)).map(Action::name);
        let is_silenced = act.action() == Action::Unmute && call.party(&user).is_some_and(|party| !party.silenced.is_empty());
        let detail = match is_silenced {
            true => "the moderator has muted this: only the moderator can undo it".to_owned(),
            false => call.why_not(act.action(), &user),
        };
        return Err(Error::new(Fault::NotNow, detail).accepting(allowed));
    }
    if act.action() == Action::Conference && others.iter().any(|other| other.room.is_some() && other.id != call.id) {
        let detail = "field calls: a room cannot be joined to another call: join that call to the one in the room";
        return Err(Error { field: Some("calls".into()), ..Error::new(Fault::NotNow, detail) });
    }
    let acted = telephony.act(caller, &user, act).await?;
    reply(&CallReply::new(acted, caller))
}

/// A call is made for another one: what is to happen to that one needs the right for it, and has to be possible now.
async fn check_guided<T: Telephony>(telephony: &T, caller: &Caller, user: &UserName, guided: &Guided) -> Result<(), Error> {
    let action = match guided.purpose {
        Purpose::Transfer => Action::Transfer,
        Purpose::Conference => Action::Conference,
    };
    let call = telephony.call(&guided.call).await?.seen_by(caller);
    let owners = if call.party(user).is_some() { vec![user.clone()] } else { call.users() };
    decide(caller, Request::right_of(action), Owner::Users(&owners))?;
    if call.possible(user).contains(action) {
        return Ok(());
    }
    Err(Error::new(Fault::NotNow, format!("field guided: {}", call.why_not(action, user))))
}

/// Whose side is meant if the request does not say: one's own, or the moderator's for what only that may do, or the only other one, or
/// one's own in vain. Who picks up is nobody who is in it.
fn default_side(call: &Call, caller: &Caller, act: &Act) -> UserName {
    let users = call.users();
    let moderator = call.parties.iter().find(|party| party.moderator).and_then(|party| party.user.as_ref());
    match (users.as_slice(), moderator) {
        (_, Some(moderator)) if act.is_moderation() && call.party(&caller.user).is_none() => moderator.clone(),
        ([only], _) if call.party(&caller.user).is_none() && act.action() != Action::Pickup => only.clone(),
        _ => caller.user.clone(),
    }
}

fn may(caller: &Caller, action: Action, owners: &[UserName]) -> bool {
    let owner = if owners.is_empty() { Owner::Service } else { Owner::Users(owners) };
    decide(caller, Request::right_of(action), owner).is_ok()
}

impl Request {
    fn right_of(action: Action) -> Right<'static> {
        Right { topic: "tel", message: action.name(), user: Reach::Own }
    }
}

impl Call {
    /// Returns what the caller may do with the call now: what its state allows, cut by their rights.
    #[must_use]
    pub fn actions(&self, caller: &Caller) -> Actions {
        let is_own = self.party(&caller.user).is_some();
        let others = self.parties.iter().filter(|_| !is_own).filter_map(|party| party.user.as_ref());
        let possible = others.map(|user| self.possible(user)).fold(self.possible(&caller.user), Actions::union);
        let may = |action: &Action| match caller.reach(Request::right_of(*action)) {
            Reach::All => true,
            Reach::Own => is_own || *action == Action::Pickup,
            Reach::None => false,
        };
        possible.iter().filter(may).collect()
    }
}

/// [`CallView`] of a call that is not given away.
#[derive(serde::Serialize)]
struct Seeing<'a> {
    #[serde(flatten)]
    call: &'a Call,
    actions: Actions,
}

/// An event of this topic: a call was made, changed or ended.
#[derive(Debug)]
pub struct CallEvent {
    /// What happened.
    pub change: Change,
    /// The call as it is now.
    pub call: Call,
    /// To whom it is new although it is not: it begins to ring at them.
    pub reaches: Vec<UserName>,
}

/// The bit of a view that the event is [`Change::Ringing`] to: no action's, and below those of [`Sight`].
const REACHED: u64 = 1 << 31;

impl Seen for CallEvent {
    fn view(&self, caller: &Caller) -> u64 {
        let reached = if self.reaches.contains(&caller.user) { REACHED } else { 0 };
        self.call.sight(caller).bits() | u64::from(self.call.actions(caller).bits()) | reached
    }

    fn message(&self, view: u64) -> &str {
        if view & REACHED == 0 { self.change.name() } else { Change::Ringing.name() }
    }

    fn write(&self, view: u64, out: &mut Vec<u8>) {
        write_call(&self.call, view, out);
    }
}

/// Appends the body of an event about a call, as JSON: with these actions, and what is in that sight.
pub(crate) fn write_call(call: &Call, view: u64, out: &mut Vec<u8>) {
    let sight = Sight::from_bits(view);
    let shown = (sight != Sight::ALL).then(|| call.clone().in_sight(sight));
    let call = Seeing { call: shown.as_ref().unwrap_or(call), actions: Actions::from_bits(view & !REACHED) };
    write_body(&std::collections::BTreeMap::from([("call", call)]), out);
}

/// The name under which subscriptions to [`Waiting`] are kept.
pub(crate) const PICKUP: &str = "pickup";

/// A call that somebody may pick up, as it is shown to those who may; also an event of this topic, for those who subscribed to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The call, with nothing but what they may see.
    pub call: Call,
    /// Whose call it is: they are told of it otherwise.
    pub of: Vec<UserName>,
    /// At whom it rings; none: it is parked, for everybody to take.
    pub at: Option<UserName>,
    /// Whether it may be picked up now; else it no longer may.
    pub waits: bool,
}

/// What a user may pick up.
#[derive(Clone, Debug, Default)]
pub struct Waitings {
    /// The calls, each as [`Waiting`] shows it, the oldest first.
    pub calls: Vec<Call>,
    /// The user and those whose ringing calls they may pick up; none: everybody.
    pub at: Option<Vec<UserName>>,
}

impl Waiting {
    pub(crate) fn is_for(&self, caller: &Caller) -> bool {
        !self.of.contains(&caller.user)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let actions: Actions = [Action::Pickup].into_iter().filter(|_| self.waits).collect();
        write_call(&self.call, actions.bits().into(), out);
    }
}

/// An event of this topic for users who left a call that goes on: to them it is over.
#[derive(Debug)]
pub struct Left {
    /// Who.
    pub users: Vec<UserName>,
    /// The call as it ended for them.
    pub call: Call,
}

/// An event of this topic for one login: what the switch describes to the application that is itself the device.
#[derive(Debug)]
pub struct Described {
    /// The login.
    pub login: LoginId,
    /// Whose it is.
    pub user: UserName,
    /// What it is told.
    pub description: Description,
}
