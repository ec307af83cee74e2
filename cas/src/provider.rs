//! What the host implements: the only way by which this crate reaches the switch. Each request has been decoded and its caller may make
//! it: rights are decided before a method is called, and nothing here decides them again.
//!
//! Methods are `async`: an implementation sends a message to the owner of the state and waits for its answer. Their errors go to the
//! client as they are; [`Fault::NotFound`](crate::error::Fault::NotFound), `NotNow`, `Conflict`, `NotSupported` and `Unavailable` are
//! the usual ones.

use std::future::Future;

use crate::error::Error;
use crate::permission::{Caller, Rights};
use crate::text::{CallId, Destination, DeviceId, EntryId, Line, Prose, UserName};
use crate::topic::{admin, graph, history, permission, presence, tel};

type Answer<T> = Result<T, Error>;

/// Calls.
pub trait Telephony: Send + Sync {
    /// Finds a call, also one that ended lately.
    fn call(&self, call: &CallId) -> impl Future<Output = Answer<tel::Call>> + Send;
    /// Lists the calls in progress, of a user or of all.
    fn calls(&self, user: Option<&UserName>) -> impl Future<Output = Answer<Vec<tel::Call>>> + Send;
    /// Lists the calls that a user may pick up, or that anybody may.
    fn waiting(&self, user: Option<&UserName>) -> impl Future<Output = Answer<tel::Waitings>> + Send;
    /// Finds the call that is parked in a slot.
    fn parked(&self, slot: &Line) -> impl Future<Output = Answer<tel::Call>> + Send;
    /// Starts a call for a user; answers when it rings or was refused.
    fn make_call(&self, caller: &Caller, user: &UserName, request: tel::MakeCall) -> impl Future<Output = Answer<tel::Acted>> + Send;
    /// Does something on a user's side of a call; answers when it is done. The state may have changed since it was looked at: then
    /// the answer is `not-now`. Whose ringing calls a user may pick up is decided here, by the groups of the switch.
    fn act(&self, caller: &Caller, user: &UserName, act: tel::Act) -> impl Future<Output = Answer<tel::Acted>> + Send;
    /// Makes the application a device of its user, until its login is over. The host learns of that end by
    /// [`Output::LoginOver`](crate::server::Output::LoginOver).
    fn register(&self, caller: &Caller, request: tel::Register) -> impl Future<Output = Answer<DeviceId>> + Send;
    /// Lets the application ring no more; its calls go on.
    fn unregister(&self, caller: &Caller) -> impl Future<Output = Answer<()>> + Send;
    /// Tells in one sentence why a call ended or failed, however long ago that was, and who was in it.
    fn why(&self, call: &CallId) -> impl Future<Output = Answer<Ending>> + Send;
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Our users who were in it, as far as that is known.
    pub users: Vec<UserName>,
    /// Why, in one sentence.
    pub why: String,
}

/// Who is in a call with which devices.
pub trait Graph: Send + Sync {
    /// Shows the graph of a call.
    fn graph(&self, call: &CallId) -> impl Future<Output = Answer<graph::Graph>> + Send;
}

/// Calls that are over.
pub trait History: Send + Sync {
    /// Lists entries, newest first.
    fn list(&self, query: &history::Query) -> impl Future<Output = Answer<Vec<history::Entry>>> + Send;
    /// Finds an entry.
    fn entry(&self, entry: &EntryId) -> impl Future<Output = Answer<history::Entry>> + Send;
    /// Changes the note on an entry; answers when that is durable.
    fn note(&self, entry: &EntryId, note: Option<Prose>) -> impl Future<Output = Answer<history::Entry>> + Send;
    /// Deletes an entry; answers when that is durable.
    fn delete(&self, entry: &EntryId) -> impl Future<Output = Answer<()>> + Send;
}

/// Whether people can be reached.
pub trait Presence: Send + Sync {
    /// Tells the presence of users, in any order, without rollups; unknown users are left out, and so is a presence that its user
    /// hides from the viewer.
    fn presence(&self, viewer: &Caller, users: &[UserName]) -> impl Future<Output = Answer<Vec<presence::User>>> + Send;
    /// Finds the users of numbers and URIs; unknown ones are left out.
    fn resolve(&self, addresses: &[Destination]) -> impl Future<Output = Answer<Vec<UserName>>> + Send;
    /// Sets what a user says themself.
    fn set(&self, user: &UserName, status: presence::Set) -> impl Future<Output = Answer<presence::Presence>> + Send;
}

/// Users, devices, numbers and keys. Lists have at most [`admin::MAX_PAGE`] records, in the order of their names, after the one named.
pub trait Admin: Send + Sync {
    /// Lists users.
    fn users(&self, after: Option<Line>) -> impl Future<Output = Answer<admin::Users>> + Send;
    /// Adds a user; answers when that is durable.
    fn add_user(&self, request: admin::AddUser) -> impl Future<Output = Answer<admin::User>> + Send;
    /// Changes a user; answers when that is durable.
    fn set_user(&self, request: admin::SetUser) -> impl Future<Output = Answer<admin::User>> + Send;
    /// Removes a user; answers when that is durable.
    fn remove_user(&self, user: &UserName) -> impl Future<Output = Answer<()>> + Send;
    /// Lists devices, of a user or of all.
    fn devices(&self, user: Option<&UserName>, after: Option<DeviceId>) -> impl Future<Output = Answer<admin::Devices>> + Send;
    /// Removes a device of a user; answers when that is durable.
    fn remove_device(&self, user: &UserName, device: &DeviceId) -> impl Future<Output = Answer<()>> + Send;
    /// Lists numbers.
    fn numbers(&self, after: Option<Line>) -> impl Future<Output = Answer<admin::Numbers>> + Send;
    /// Gives a number to a user; answers when that is durable.
    fn add_number(&self, request: admin::AddNumber) -> impl Future<Output = Answer<admin::Number>> + Send;
    /// Takes a number away; answers when that is durable.
    fn remove_number(&self, number: &Destination) -> impl Future<Output = Answer<()>> + Send;
    /// Lists API keys.
    fn keys(&self, after: Option<Line>) -> impl Future<Output = Answer<admin::Keys>> + Send;
    /// Makes an API key with a secret of its own; answers when that is durable.
    fn add_key(&self, request: admin::AddKey) -> impl Future<Output = Answer<admin::NewKey>> + Send;
    /// Removes an API key; answers when that is durable.
    fn remove_key(&self, key: &Line) -> impl Future<Output = Answer<()>> + Send;
    /// Tells how the switch is.
    fn status(&self) -> impl Future<Output = Answer<admin::SwitchStatus>> + Send;
    /// Takes no new calls, or takes them again; tells how the switch is then.
    fn drain(&self, request: admin::Drain) -> impl Future<Output = Answer<admin::SwitchStatus>> + Send;
}

/// What is kept of users for this crate.
pub trait Store: Send + Sync {
    /// Finds one of the users who does not exist; none where all do.
    fn unknown(&self, users: &[UserName]) -> impl Future<Output = Answer<Option<UserName>>> + Send;
    /// Reads a user's rights; those of a plain user where none were ever set.
    fn rights(&self, user: &UserName) -> impl Future<Output = Answer<Rights>> + Send;
    /// Changes a user's rights by [`permission::RightsChange::apply`], as one step; answers with the new ones when they are durable.
    fn change_rights(&self, user: &UserName, change: permission::RightsChange) -> impl Future<Output = Answer<Rights>> + Send;
}

/// Everything that the host implements.
pub trait Providers: Telephony + Graph + History + Presence + Admin + Store {}

impl<T: Telephony + Graph + History + Presence + Admin + Store> Providers for T {}
