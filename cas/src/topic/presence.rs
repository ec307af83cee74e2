//! Topic `presence`: telephony, instant messages, mobile, reachability, what the user says themself, and rollups of them.

use super::declare::{bodies, words};
use super::operation::operations;
use super::{Done, Effect, Seen, reply, write_body};
use crate::error::Error;
use crate::permission::{Caller, Owner, Reach, Right, decide};
use crate::provider::Presence as Provider;
use crate::text::{Destination, Line, UserName};

/// Most users that one request asks for.
pub const MAX_USERS: usize = 500;

operations! { "presence";
    /// Tells the presence of users, named by name or address; `subscribe` sends changes until cancel, logout or abandonment.
    "get" Get(Get) -> Listing, Quick, All;
    /// Sets what the user says themself.
    "set" Set(Set) -> Listing, Quick, Own;
}

/// The right to see presence, in replies and in events.
pub(crate) const GET: Right<'static> = Right { topic: "presence", message: "get", user: Reach::All };

const SET: Right<'static> = Right { topic: "presence", message: "set", user: Reach::Own };

words! {
    /// What a user's telephones do.
    Telephony {
        /// Nothing.
        Idle = "idle",
        /// One rings.
        Ringing = "ringing",
        /// The user is on a call.
        OnCall = "on-call",
        /// The user has put a call on hold.
        OnHold = "on-hold",
        /// No device is registered, and none can be woken.
        Offline = "offline",
    }
    /// Whether a user can be reached in one way.
    Availability {
        /// Yes.
        Available = "available",
        /// In some ways.
        SemiAvailable = "semi-available",
        /// No.
        Unavailable = "unavailable",
        /// Not signed in.
        Offline = "offline",
    }
    /// What a user says of themself.
    Status {
        /// Reach me.
        Available = "available",
        /// Away from the desk.
        Away = "away",
        /// Busy.
        Busy = "busy",
        /// Do not disturb.
        DoNotDisturb = "do-not-disturb",
        /// Out of office.
        OutOfOffice = "out-of-office",
    }
    /// What may be done with a presence.
    Action {
        /// Say how the user is.
        Set = "set",
    }
    /// A part of a presence.
    Part {
        /// What the telephones do.
        Telephony = "telephony",
        /// Instant messages.
        Im = "im",
        /// The mobile app.
        Mobile = "mobile",
        /// What the user says.
        Status = "status",
        /// The two rollups.
        Rollup = "rollup",
        /// All of these.
        Everything = "everything",
    }
}

bodies! {
    /// Request of `get`.
    Get {
        /// Names of users; at most 500 with the addresses.
        users: Vec<UserName> = default,
        /// Numbers or URIs of users.
        addresses: Vec<Destination> = default,
        /// Which parts; absent: everything.
        parts: Vec<Part> = default,
        /// Send changes too.
        subscribe: bool = default,
    }
    /// Request of `set`.
    Set {
        /// Whose; absent: the caller's.
        user: Option<UserName> = default,
        /// The status; absent: whatever the devices say.
        status: Option<Status> = default,
        /// A line about it.
        note: Option<Line> = default,
        /// When it ends by itself, in milliseconds since 1970, UTC: a time to come.
        until: Option<u64> = default,
    }
    /// Reply: each user that was asked for and is known.
    Listing {
        /// The users.
        users: Vec<User>,
        /// The subscription that `subscribe` made.
        subscription: Option<u32> = default,
    }
    /// A user, with their presence if the caller may see it.
    User {
        /// The user.
        user: UserName,
        /// Their presence.
        presence: Option<Presence> = default,
        /// What the caller may do with it; the server fills this in.
        actions: Vec<Action> = default,
    }
    /// A user's presence; parts that were not asked for, or are not known, are absent.
    Presence {
        /// What the telephones do.
        telephony: Option<Telephony> = default,
        /// Instant messages.
        im: Option<Availability> = default,
        /// The mobile app.
        mobile: Option<Availability> = default,
        /// What the user says.
        status: Option<Status> = default,
        /// A line about it.
        note: Option<Line> = default,
        /// Available if one way is.
        most_available: Option<Availability> = default,
        /// Semi-available if only some ways are.
        semi_available: Option<Availability> = default,
    }
    /// Body of `changed`.
    Changed {
        /// The user.
        user: UserName,
        /// Their presence now, with every part.
        presence: Presence,
    }
}

impl Presence {
    /// Puts both rollups over the parts that are known (004-63, 004-64).
    #[must_use]
    pub fn rolled_up(mut self) -> Self {
        let telephony = self.telephony.map(|telephony| match telephony {
            Telephony::Idle => Availability::Available,
            Telephony::Ringing | Telephony::OnCall | Telephony::OnHold => Availability::Unavailable,
            Telephony::Offline => Availability::Offline,
        });
        let ways: Vec<Availability> = [telephony, self.im, self.mobile].into_iter().flatten().collect();
        self.most_available = most_available(&ways);
        self.semi_available = semi_available(&ways);
        self
    }

    fn only(self, parts: &[Part]) -> Self {
        let wants = |part| parts.is_empty() || parts.contains(&part) || parts.contains(&Part::Everything);
        Self {
            telephony: self.telephony.filter(|_| wants(Part::Telephony)),
            im: self.im.filter(|_| wants(Part::Im)),
            mobile: self.mobile.filter(|_| wants(Part::Mobile)),
            status: self.status.filter(|_| wants(Part::Status)),
            note: self.note.filter(|_| wants(Part::Status)),
            most_available: self.most_available.filter(|_| wants(Part::Rollup)),
            semi_available: self.semi_available.filter(|_| wants(Part::Rollup)),
        }
    }
}

/// Returns available if one way is; offline if all are; else unavailable.
#[must_use]
pub fn most_available(ways: &[Availability]) -> Option<Availability> {
    roll_up(ways, Availability::Available)
}

/// Returns available if every way is, semi-available if some are, else unavailable.
#[must_use]
pub fn semi_available(ways: &[Availability]) -> Option<Availability> {
    roll_up(ways, Availability::SemiAvailable)
        .map(|rollup| if rollup == Availability::Offline { Availability::Unavailable } else { rollup })
}

fn roll_up(ways: &[Availability], some: Availability) -> Option<Availability> {
    let available = ways.iter().filter(|way| **way == Availability::Available).count();
    let partly = ways.contains(&Availability::SemiAvailable);
    match () {
        () if ways.is_empty() => None,
        () if available == ways.len() => Some(Availability::Available),
        () if available > 0 || partly => Some(some),
        () if ways.iter().all(|way| *way == Availability::Offline) => Some(Availability::Offline),
        () => Some(Availability::Unavailable),
    }
}

/// Serves a request.
pub(crate) async fn serve<P: Provider>(provider: &P, caller: &Caller, request: Request) -> Result<Done, Error> {
    let right = request.right();
    match request {
        Request::Get(request) => get(provider, caller, right, *request).await,
        Request::Set(request) => {
            let user = request.user.clone().unwrap_or_else(|| caller.user.clone());
            decide(caller, right, Owner::User(&user))?;
            let presence = provider.set(&user, *request).await?.rolled_up();
            reply(&Listing { users: vec![User { actions: actions(caller, &user), user, presence: Some(presence) }], subscription: None })
        }
    }
}

async fn get<P: Provider>(provider: &P, caller: &Caller, right: Right<'_>, request: Get) -> Result<Done, Error> {
    if request.users.len() + request.addresses.len() > MAX_USERS {
        return Err(Error::field("users", format!("field users: at most {MAX_USERS} users and addresses")));
    }
    let mut users = request.users;
    let resolved = provider.resolve(&request.addresses).await?;
    // what is subscribed to must be there; who only looks is told of those who are
    let is_missing = |field: &str| Err(Error { field: Some(field.into()), ..Error::new(crate::error::Fault::NotFound, "no such user") });
    if request.subscribe && resolved.len() < request.addresses.len() {
        return is_missing("addresses");
    }
    users.extend(resolved);
    users.sort_unstable();
    users.dedup();
    // A user whose presence the caller may not see is listed without it (004-60).
    let visible: Vec<UserName> = users.iter().filter(|user| decide(caller, right, Owner::User(user)).is_ok()).cloned().collect();
    let known = provider.presence(caller, &users).await?;
    if request.subscribe && known.len() < users.len() {
        return is_missing("users");
    }
    let listed = known.into_iter().map(|user| User {
        presence: user
            .presence
            .filter(|_| visible.binary_search(&user.user).is_ok())
            .map(|presence| presence.rolled_up().only(&request.parts)),
        actions: actions(caller, &user.user),
        user: user.user,
    });
    let mut done = reply(&Listing { users: listed.collect(), subscription: None })?;
    if request.subscribe {
        done.effects.push(Effect::Subscribe { topic: "presence", users: Some(visible) });
    }
    Ok(done)
}

fn actions(caller: &Caller, user: &UserName) -> Vec<Action> {
    decide(caller, SET, Owner::User(user)).map(|()| Action::Set).into_iter().collect()
}

impl Seen for Changed {
    fn message(&self, _: u64) -> &str {
        "changed"
    }

    fn view(&self, _: &Caller) -> u64 {
        0
    }

    fn write(&self, _: u64, out: &mut Vec<u8>) {
        write_body(&Self { user: self.user.clone(), presence: self.presence.clone().rolled_up() }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollups_follow_their_truth_tables() {
        // 004-63, 004-64
        use Availability::{Available as A, Offline as O, SemiAvailable as S, Unavailable as U};
        for (ways, most, semi) in [
            (&[A, A, A][..], A, A),
            (&[A, U, O], A, S),
            (&[U, U, A], A, S),
            (&[U, O, U], U, U),
            (&[O, O, O], O, U),
            (&[U], U, U),
            (&[A], A, A),
        ] {
            assert_eq!((most_available(ways), semi_available(ways)), (Some(most), Some(semi)), "{ways:?}");
        }
        assert_eq!((most_available(&[]), semi_available(&[])), (None, None));
    }

    #[test]
    fn only_the_parts_that_were_asked_for_are_told() {
        let presence = Presence {
            telephony: Some(Telephony::Idle),
            im: Some(Availability::Offline),
            mobile: None,
            status: Some(Status::Away),
            note: Line::parse("lunch").ok(),
            most_available: None,
            semi_available: None,
        };
        let rollup = presence.clone().rolled_up().only(&[Part::Rollup]);
        assert_eq!((rollup.telephony, rollup.most_available), (None, Some(Availability::Available)));
        assert_eq!(presence.clone().rolled_up().only(&[]), presence.rolled_up());
    }
}
