//! Topic `history`: calls that were placed, received and missed, per device and per user, with notes.

use super::declare::{bodies, words};
use super::operation::operations;
use super::{Done, Seen, reply, write_body};
use crate::error::Error;
use crate::permission::{Caller, Owner, Reach, Right, decide};
use crate::provider::History;
use crate::text::{CallId, DeviceId, EntryId, Prose, UserName};

/// Most entries in one reply.
pub const MAX_PAGE: u16 = 200;

/// Entries in one reply where the request does not say.
pub const PAGE: u16 = 50;

operations! { "history";
    /// Lists entries, newest first: of a user over all devices, or of one device.
    "list" List(List) -> Page, Quick, Own;
    /// Changes the note on an entry.
    "note" Note(Note) -> EntryReply, Quick, Own;
    /// Deletes an entry.
    "delete" Delete(Delete) -> Deleted, Quick, Own;
}

/// The right to see a history, in replies and in events.
pub(crate) const LIST: Right<'static> = Right { topic: "history", message: "list", user: Reach::Own };
const NOTE: Right<'static> = Right { topic: "history", message: "note", user: Reach::Own };
const DELETE: Right<'static> = Right { topic: "history", message: "delete", user: Reach::Own };

words! {
    /// Which way a call went.
    Kind {
        /// The user called.
        Placed = "placed",
        /// The user was called and answered.
        Received = "received",
        /// The user was called and did not answer.
        Missed = "missed",
    }
    /// What may be done with an entry.
    Action {
        /// Change its note.
        Note = "note",
        /// Delete it.
        Delete = "delete",
    }
    /// What happened to an entry.
    Change {
        /// A call was over.
        Added = "added",
        /// Its note changed.
        Changed = "changed",
        /// It was deleted.
        Deleted = "deleted",
    }
}

bodies! {
    /// Request of `list`.
    List {
        /// Whose history; absent: the caller's.
        user: Option<UserName> = default,
        /// Only the calls of this device.
        device: Option<DeviceId> = default,
        /// Only these kinds; absent: all.
        kinds: Vec<Kind> = default,
        /// Only calls that began at or after this time, in milliseconds since 1970, UTC.
        since: Option<u64> = default,
        /// Only calls that began before this time.
        until: Option<u64> = default,
        /// How many entries at most; default 50, at most 200.
        limit: Option<u16> = default,
        /// Where the page before this one ended: its `next`.
        after: Option<EntryId> = default,
    }
    /// Request of `note`.
    Note {
        /// The entry.
        entry: EntryId,
        /// The new note; absent: none.
        text: Option<Prose> = default,
    }
    /// Request of `delete`.
    Delete {
        /// The entry.
        entry: EntryId,
    }
    /// Reply of `list`.
    Page {
        /// The entries.
        entries: Vec<EntryView>,
        /// Where the next page begins, if there is one: its `after`.
        next: Option<EntryId> = default,
        /// How many days back the caller may see; absent: all.
        days: Option<u16> = default,
        /// What the caller may do with entries of this user at all.
        actions: Vec<Action>,
    }
    /// Reply of `note`.
    EntryReply {
        /// The entry as it is now.
        entry: EntryView,
    }
    /// Reply of `delete`.
    Deleted {
        /// The entry that is gone.
        entry: EntryId,
    }
}

/// A call as a history keeps it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// Its number; later entries have higher ones.
    pub id: EntryId,
    /// Whose entry it is.
    pub user: UserName,
    /// The device that placed or answered the call, or that rang.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Which way the call went.
    pub kind: Kind,
    /// The other party's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The other party's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The call.
    pub call: CallId,
    /// When it began, in milliseconds since 1970, UTC.
    pub started_at: u64,
    /// How long the parties talked, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub talked: Option<u64>,
    /// Why it ended or failed, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The user's note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Prose>,
}

/// An entry, and what the caller may do with it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct EntryView {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// What the caller may do with it.
    pub actions: Vec<Action>,
}

/// What a provider is asked for; times and the limit are final.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Whose history.
    pub user: UserName,
    /// Only the calls of this device.
    pub device: Option<DeviceId>,
    /// Only these kinds; empty: all.
    pub kinds: Vec<Kind>,
    /// Only calls that began at or after this time, in milliseconds since 1970, UTC.
    pub since: u64,
    /// Only calls that began before this time.
    pub until: u64,
    /// How many entries at most.
    pub limit: u16,
    /// Only entries older than this one.
    pub after: Option<EntryId>,
}

/// Serves a request; `at` is the time, in milliseconds since 1970.
pub(crate) async fn serve<H: History>(history: &H, caller: &Caller, at: u64, request: Request) -> Result<Done, Error> {
    let right = request.right();
    match request {
        Request::List(request) => list(history, caller, at, *request).await,
        Request::Note(request) => {
            let entry = own_entry(history, caller, right, at, &request.entry).await?;
            let entry = history.note(&entry.id, request.text).await?;
            reply(&EntryReply { entry: EntryView::new(entry, caller) })
        }
        Request::Delete(request) => {
            let entry = own_entry(history, caller, right, at, &request.entry).await?;
            history.delete(&entry.id).await?;
            reply(&Deleted { entry: request.entry })
        }
    }
}

async fn list<H: History>(history: &H, caller: &Caller, at: u64, request: List) -> Result<Done, Error> {
    let user = request.user.unwrap_or_else(|| caller.user.clone());
    decide(caller, LIST, Owner::User(&user))?;
    let limit = request.limit.unwrap_or(PAGE);
    if limit == 0 || limit > MAX_PAGE {
        return Err(Error::field("limit", format!("field limit: expected 1 to {MAX_PAGE}")));
    }
    let actions = actions(caller, &user);
    let query = Query {
        user,
        device: request.device,
        kinds: request.kinds,
        since: request.since.unwrap_or(0).max(first_visible(caller, at)),
        until: request.until.unwrap_or(u64::MAX),
        limit,
        after: request.after,
    };
    let entries = history.list(&query).await?;
    let next = entries.last().filter(|_| entries.len() >= usize::from(limit)).map(|entry| entry.id.clone());
    let entries = entries.into_iter().map(|entry| EntryView::new(entry, caller)).collect();
    reply(&Page { entries, next, days: caller.rights.history_days, actions })
}

/// Finds an entry that the caller may treat so; one that is too old for them is not there (004-72).
async fn own_entry<H: History>(history: &H, caller: &Caller, right: Right<'_>, at: u64, id: &EntryId) -> Result<Entry, Error> {
    let entry = history.entry(id).await?;
    decide(caller, right, Owner::User(&entry.user))?;
    if entry.started_at < first_visible(caller, at) {
        return Err(Error::new(crate::error::Fault::NotFound, format!("no entry {id}")));
    }
    Ok(entry)
}

fn first_visible(caller: &Caller, at: u64) -> u64 {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    caller.rights.history_days.map_or(0, |days| at.saturating_sub(u64::from(days) * DAY))
}

fn actions(caller: &Caller, user: &UserName) -> Vec<Action> {
    let may = |right| decide(caller, right, Owner::User(user)).is_ok();
    [(Action::Note, NOTE), (Action::Delete, DELETE)].into_iter().filter(|(_, right)| may(*right)).map(|(action, _)| action).collect()
}

impl EntryView {
    fn new(entry: Entry, caller: &Caller) -> Self {
        Self { actions: actions(caller, &entry.user), entry }
    }
}

/// An event of this topic.
#[derive(Debug)]
pub struct EntryEvent {
    /// What happened.
    pub change: Change,
    /// The entry as it is, or was.
    pub entry: Entry,
}

impl Seen for EntryEvent {
    fn message(&self, _: u64) -> &str {
        self.change.name()
    }

    fn view(&self, caller: &Caller) -> u64 {
        actions(caller, &self.entry.user).into_iter().fold(0, |bits, action| bits | 1 << action as u32)
    }

    fn write(&self, view: u64, out: &mut Vec<u8>) {
        let actions = Action::ALL.iter().copied().filter(|action| self.change != Change::Deleted && view & 1 << (*action as u32) != 0);
        write_body(&EntryReply { entry: EntryView { entry: self.entry.clone(), actions: actions.collect() } }, out);
    }
}
