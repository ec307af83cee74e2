//! The table of topics, and [`serve`], the `async fn` that calls a provider for a request. To add a topic: a file here, and a line in
//! [`OPERATIONS`] and in each enum below it.

pub mod admin;
pub(crate) mod declare;
pub mod event;
pub mod graph;
pub mod history;
pub(crate) mod known;
pub mod login;
pub mod operation;
pub mod permission;
pub mod plugin;
pub mod presence;
pub(crate) mod snapshot;
pub(crate) mod strict;
pub mod subscription;
pub mod tel;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Fault};
use crate::login::LoginId;
use crate::permission::{Caller, Owner, Reach, Right, Rights, decide};
use crate::provider::Providers;
use crate::text::{Line, Name, UserName};

pub use operation::{Mode, Operation};

/// What every topic can do. These topics are the switch's: no plug-in may take one (004-95).
pub static OPERATIONS: &[&[Operation]] = &[
    login::OPERATIONS,
    tel::OPERATIONS,
    graph::OPERATIONS,
    history::OPERATIONS,
    presence::OPERATIONS,
    subscription::OPERATIONS,
    permission::OPERATIONS,
    admin::OPERATIONS,
    plugin::OPERATIONS,
    event::poll::OPERATIONS,
    event::bulk::OPERATIONS,
];

/// Finds the operations of a topic.
pub(crate) fn operations(topic: &str) -> Option<&'static [Operation]> {
    OPERATIONS.iter().copied().find(|operations| operations.first().is_some_and(|operation| operation.topic == topic))
}

/// A request that a provider serves.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the request of the topic of that name")]
pub enum Request {
    Tel(tel::Request),
    Graph(graph::Request),
    History(history::Request),
    Presence(presence::Request),
    Permission(permission::Request),
    Admin(admin::Request),
    Snapshot(snapshot::Request),
    Known(known::Request),
}

impl Request {
    /// Reads a request that a provider serves.
    pub(crate) fn decode(topic: &str, message: &str, body: Value) -> Result<Self, Error> {
        match topic {
            "tel" => tel::Request::decode(message, body).map(Self::Tel),
            "graph" => graph::Request::decode(message, body).map(Self::Graph),
            "history" => history::Request::decode(message, body).map(Self::History),
            "presence" => presence::Request::decode(message, body).map(Self::Presence),
            "permission" => permission::Request::decode(message, body).map(Self::Permission),
            "admin" => admin::Request::decode(message, body).map(Self::Admin),
            _ => Err(Error::new(Fault::NoProvider, format!("nothing serves the topic {topic}"))),
        }
    }
}

/// A request whose caller is known and may ask for such things: what the host spawns [`serve`] for.
#[derive(Debug)]
pub struct Work {
    /// Who asks.
    pub caller: Arc<Caller>,
    /// What for.
    pub request: Request,
    /// When it came, in milliseconds since 1970, UTC.
    pub at: u64,
}

/// What a request came to.
#[derive(Debug)]
pub struct Done {
    /// Body of the reply.
    pub body: Value,
    /// What the server does besides.
    pub(crate) effects: Vec<Effect>,
}

/// What the server does besides replying.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The login is told of changes from now on: of these users, or of everybody.
    Subscribe { topic: &'static str, users: Option<Vec<UserName>> },
    /// A user's rights are others now.
    Rights { user: UserName, rights: Arc<Rights> },
    /// The application of the login is a device from now on, or none any more.
    Device(bool),
    /// What the request is about exists: the server serves it.
    Serve(known::Then),
    /// A user is gone, or has another password: their logins end once the reply is on its way.
    EndLogins { user: UserName, why: &'static str },
    /// An API key is gone: its logins end once the reply is on its way.
    EndLoginsOfKey { key: Line },
}

impl Effect {
    pub(crate) fn ends_logins(&self) -> bool {
        match self {
            Self::EndLogins { .. } | Self::EndLoginsOfKey { .. } => true,
            Self::Subscribe { .. } | Self::Rights { .. } | Self::Device(_) | Self::Serve(_) => false,
        }
    }
}

/// Makes a reply without effects.
pub(crate) fn reply<T: Serialize>(body: &T) -> Result<Done, Error> {
    let body = serde_json::to_value(body).map_err(|_| Error::new(Fault::Internal, "the reply cannot be written"))?;
    Ok(Done { body, effects: Vec::new() })
}

/// Serves a request: decides whether the caller may do it with the object at hand, then asks the provider.
///
/// # Errors
///
/// What the client is told.
pub async fn serve<P: Providers>(providers: &P, work: Work) -> Result<Done, Error> {
    let caller = &work.caller;
    let listed = known::listed(&work.request, caller);
    let done = match work.request {
        Request::Tel(request) => tel::serve(providers, caller, request).await,
        Request::Graph(request) => graph::serve(providers, caller, request).await,
        Request::History(request) => history::serve(providers, caller, work.at, request).await,
        Request::Presence(request) => presence::serve(providers, caller, request).await,
        Request::Permission(request) => permission::serve(providers, caller, request).await,
        Request::Admin(request) => admin::serve(providers, caller, request).await,
        Request::Snapshot(request) => snapshot::serve(providers, caller, request).await,
        Request::Known(request) => known::serve(providers, request).await,
    }?;
    match listed {
        Some(listed) => known::check(providers, done, listed).await,
        None => Ok(done),
    }
}

/// An event's body, which may look different to different logins: two that have the same view see the same.
pub(crate) trait Seen {
    /// Returns what a login sees of it, as a number.
    fn view(&self, caller: &Caller) -> u64;
    /// Returns the message for logins with this view.
    fn message(&self, view: u64) -> &str;
    /// Appends what logins with this view see, as JSON.
    fn write(&self, view: u64, out: &mut Vec<u8>);
}

/// Appends a body as JSON.
pub(crate) fn write_body<T: Serialize>(body: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, body).expect("a vector takes every byte, and every key is text");
}

/// Decides whether somebody may be told of everybody's changes in a topic, or of some users'. Who sees only their own may ask for
/// everybody's, and gets those.
pub(crate) fn may_subscribe(caller: &Caller, topic: &str, users: Option<&[UserName]>) -> Result<(), Error> {
    let right = event_right(topic);
    match users {
        Some(users) if !users.is_empty() => users.iter().try_for_each(|user| decide(caller, right, Owner::User(user))),
        Some(_) | None if topic == "admin" => decide(caller, right, Owner::Users(&[])),
        Some(_) | None => decide(caller, right, Owner::Service),
    }
}

/// Returns the right that a login needs to see events of a topic.
pub(crate) fn event_right(topic: &str) -> Right<'_> {
    match topic {
        "tel" => tel::SHOW,
        tel::PICKUP => tel::TAKE,
        "graph" => graph::GET,
        "history" => history::LIST,
        "presence" => presence::GET,
        "admin" => admin::EVENTS,
        _ => crate::plugin::right(topic, "subscribe"),
    }
}

/// Something that happened, for the server to tell those who subscribed and may know.
#[derive(Debug)]
pub enum Happening {
    /// A call was made, changed or ended.
    Tel(tel::CallEvent),
    /// Users left a call that goes on. Who sees it all the same is told by [`Self::Tel`].
    Left(tel::Left),
    /// The switch describes media to an application that is itself a device.
    Described(tel::Described),
    /// A call may be picked up, or no longer may.
    Waiting(tel::Waiting),
    /// A call's graph changed.
    Graph(graph::Changed),
    /// A history changed.
    History(history::EntryEvent),
    /// A presence changed.
    Presence(presence::Changed),
    /// Something that administrators should know.
    Admin(admin::Notice),
    /// An event of a plug-in.
    Plugin {
        /// Its topic.
        topic: Name,
        /// Its message.
        message: Name,
        /// Whose business it is; none: everybody's.
        users: Option<Vec<UserName>>,
        /// Its body.
        body: Value,
    },
}

impl Happening {
    /// Returns its topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::Tel(_) | Self::Left(_) | Self::Described(_) | Self::Waiting(_) => "tel",
            Self::Graph(_) => "graph",
            Self::History(_) => "history",
            Self::Presence(_) => "presence",
            Self::Admin(_) => "admin",
            Self::Plugin { topic, .. } => topic.as_str(),
        }
    }

    /// Returns what logins subscribed to that are told.
    pub(crate) fn subscription(&self) -> &str {
        if let Self::Waiting(_) = self { tel::PICKUP } else { self.topic() }
    }

    /// Returns whose business it is; none: everybody's.
    pub(crate) fn users(&self) -> Option<Vec<UserName>> {
        match self {
            Self::Tel(event) => Some(event.call.users()),
            Self::Left(event) => Some(event.users.clone()),
            Self::Waiting(event) => event.at.clone().map(|user| vec![user]),
            Self::Described(event) => Some(vec![event.user.clone()]),
            Self::Graph(event) => {
                let mut users = event.new.users();
                users.extend(event.old.users());
                users.sort_unstable();
                users.dedup();
                Some(users)
            }
            Self::History(event) => Some(vec![event.entry.user.clone()]),
            Self::Presence(event) => Some(vec![event.user.clone()]),
            Self::Admin(_) => Some(Vec::new()),
            Self::Plugin { users, .. } => users.clone(),
        }
    }

    /// Returns true if somebody who may know is to be told: what is over for those who left is not over for who sees it all the same.
    pub(crate) fn is_for(&self, caller: &Caller) -> bool {
        #[expect(clippy::wildcard_enum_match_arm, reason = "everything else is for all who may know")]
        match self {
            Self::Left(_) => caller.reach(event_right(self.topic())) == Reach::Own,
            Self::Waiting(event) => event.is_for(caller),
            _ => true,
        }
    }

    /// Returns the one login that is told; none: all that subscribed.
    pub(crate) fn login(&self) -> Option<LoginId> {
        if let Self::Described(event) = self { Some(event.login) } else { None }
    }
}

impl Seen for Happening {
    fn message(&self, view: u64) -> &str {
        match self {
            Self::Tel(event) => event.message(view),
            Self::Left(_) => tel::Change::Ended.name(),
            Self::Waiting(_) => tel::Action::Pickup.name(),
            Self::Described(_) => "sdp",
            Self::Graph(event) => event.message(view),
            Self::History(event) => event.message(view),
            Self::Presence(event) => event.message(view),
            Self::Admin(event) => event.message(view),
            Self::Plugin { message, .. } => message.as_str(),
        }
    }

    fn view(&self, caller: &Caller) -> u64 {
        match self {
            Self::Tel(event) => event.view(caller),
            Self::History(event) => event.view(caller),
            Self::Left(event) => event.call.sight(caller).bits(),
            Self::Graph(event) => event.view(caller),
            Self::Described(_) | Self::Waiting(_) | Self::Presence(_) | Self::Admin(_) | Self::Plugin { .. } => 0,
        }
    }

    fn write(&self, view: u64, out: &mut Vec<u8>) {
        match self {
            Self::Tel(event) => event.write(view, out),
            Self::Left(event) => tel::write_call(&event.call, view, out),
            Self::Waiting(event) => event.write(out),
            Self::Described(event) => write_body(&event.description, out),
            Self::Graph(event) => event.write(view, out),
            Self::History(event) => event.write(view, out),
            Self::Presence(event) => event.write(view, out),
            Self::Admin(event) => event.write(view, out),
            Self::Plugin { body, .. } => write_body(body, out),
        }
    }
}
