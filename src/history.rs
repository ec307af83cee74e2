//! Histories: for each user the calls that were placed, received and missed, newest first. They are written together with the call's
//! record, under keys from which a page is read without looking at other users or other pages.
//!
//! An entry's name is the call's and the number of the party. Its key is the user, a zero byte, and both of those with every bit turned
//! over, so that later calls come first; a party beyond 255 has a zero byte before its number, which has two then.

pub mod detail;
mod removal;
mod retention;

use cas::provider::Ending;
use cas::text::{CallId, DeviceId, EntryId, UserName};
use cas::topic::history::{Entry, Query};
use serde::{Deserialize, Serialize};

pub use cas::topic::history::{Change, Kind};
pub use removal::remove_all;
pub use retention::Retention;

use crate::storage::{Batch, Storage, StorageError, Table};

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What clients see.
    pub entry: Entry,
    /// The devices that rang, or placed or answered the call.
    pub devices: Vec<DeviceId>,
}

/// One user's part in a call that is over. Times are milliseconds since 1970, UTC.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Our number of the call.
    pub call: u64,
    /// The number of the party in it.
    pub party: u16,
    /// The user.
    pub user: &'a str,
    /// Which way the call went.
    pub kind: Kind,
    /// The other party's number.
    pub number: Option<&'a str>,
    /// The other party's name.
    pub name: Option<&'a str>,
    /// The device that placed or answered it.
    pub device: Option<&'a str>,
    /// The devices that rang.
    pub rang: &'a [String],
    /// When it began.
    pub started_at: u64,
    /// How long the parties talked, in milliseconds.
    pub talked: Option<u64>,
    /// Why it ended or failed.
    pub why: &'a str,
}

impl Kept {
    /// Makes the entry of a user's part; none where a name is not one that clients can read.
    #[must_use]
    pub fn of(part: &Part<'_>) -> Option<Self> {
        let device = |name: &str| DeviceId::parse(name).ok();
        let entry = Entry {
            id: EntryId::parse(&format!("{:016x}-{}", part.call, part.party)).ok()?,
            user: UserName::parse(part.user).ok()?,
            device: part.device.or_else(|| part.rang.first().filter(|_| part.rang.len() == 1).map(String::as_str)).and_then(device),
            kind: part.kind,
            number: part.number.map(str::to_owned),
            name: part.name.map(str::to_owned),
            call: CallId::parse(&format!("{:016x}", part.call)).ok()?,
            started_at: part.started_at,
            talked: part.talked,
            why: Some(part.why.to_owned()).filter(|why| !why.is_empty()),
            note: None,
        };
        let devices = part.device.into_iter().chain(part.rang.iter().map(String::as_str)).filter_map(device).collect();
        Some(Self { entry, devices })
    }

    /// Writes the entry.
    pub fn put(&self, batch: &mut Batch) {
        let Some(key) = key(&self.entry.user, &self.entry.id) else { return };
        let value = serde_json::to_vec(self).expect("the keys are text");
        batch.put(Table::History, &key, &value);
        batch.put(Table::Entry, self.entry.id.as_str().as_bytes(), self.entry.user.as_str().as_bytes());
        detail::forget(self, batch);
    }

    /// Removes the entry.
    pub fn remove(&self, batch: &mut Batch) {
        if let Some(key) = key(&self.entry.user, &self.entry.id) {
            batch.remove(Table::History, &key);
        }
        batch.remove(Table::Entry, self.entry.id.as_str().as_bytes());
    }
}

/// Finds an entry; may read the disk.
///
/// # Errors
///
/// The store cannot be read.
pub fn find(storage: &Storage, id: &EntryId) -> Result<Option<Kept>, StorageError> {
    let user = storage.get(Table::Entry, id.as_str().as_bytes())?.and_then(|user| String::from_utf8(user).ok());
    let Some(key) = user.and_then(|user| UserName::parse(&user).ok()).and_then(|user| key(&user, id)) else { return Ok(None) };
    Ok(storage.get(Table::History, &key)?.and_then(|value| serde_json::from_slice(&value).ok()))
}

/// Finds out why a call ended, and which users have it in their histories; none for a call of which nothing is kept. May read the disk.
///
/// # Errors
///
/// The store cannot be read.
pub fn ending(storage: &Storage, call: u64) -> Result<Option<Ending>, StorageError> {
    let (mut users, mut why) = (Vec::new(), None);
    for found in storage.scan(Table::Entry, format!("{call:016x}-").as_bytes()) {
        let (id, user) = found?;
        users.extend(String::from_utf8(user).ok().and_then(|user| UserName::parse(&user).ok()));
        if why.is_none()
            && let Some(id) = String::from_utf8(id).ok().and_then(|id| EntryId::parse(&id).ok())
        {
            why = find(storage, &id)?.and_then(|kept| kept.entry.why);
        }
    }
    let record = storage.get(Table::Cdr, &call.to_be_bytes())?;
    let told = record.as_deref().and_then(|record| serde_json::from_slice::<Told>(record).ok()).map(|record| record.reason);
    Ok((told.is_some() || !users.is_empty()).then(|| Ending { users, why: told.or(why).unwrap_or_default() }))
}

/// What is read of a call's record.
#[derive(Deserialize)]
struct Told {
    reason: String,
}

/// Lists entries, newest first; may read the disk. It reads what it lists, and what lies between that and does not fit.
///
/// # Errors
///
/// The store cannot be read.
pub fn list(storage: &Storage, query: &Query) -> Result<Vec<Entry>, StorageError> {
    let prefix = [query.user.as_str().as_bytes(), &[0]].concat();
    let after = query.after.as_ref().map(|id| key(&query.user, id));
    let scan = match after {
        Some(Some(after)) => storage.scan_after(Table::History, &prefix, &after),
        Some(None) => return Ok(Vec::new()),
        None => storage.scan(Table::History, &prefix),
    };
    let mut entries = Vec::new();
    for found in scan {
        let (_, value) = found?;
        let Ok(kept) = serde_json::from_slice::<Kept>(&value) else { continue };
        if kept.entry.started_at < query.since {
            break;
        }
        let fits = kept.entry.started_at < query.until
            && (query.kinds.is_empty() || query.kinds.contains(&kept.entry.kind))
            && query.device.as_ref().is_none_or(|device| kept.devices.contains(device));
        if fits {
            entries.push(kept.entry);
        }
        if entries.len() >= usize::from(query.limit) {
            break;
        }
    }
    Ok(entries)
}

/// Returns the key of an entry; none where the name is no entry's.
fn key(user: &UserName, id: &EntryId) -> Option<Vec<u8>> {
    let (call, party) = id.as_str().split_once('-')?;
    let (call, party) = (u64::from_str_radix(call, 16).ok()?, party.parse::<u16>().ok()?);
    let turned = (!party).to_be_bytes();
    // Most calls have few parties: one byte says which.
    let turned = if party > u16::from(u8::MAX) { [&[0][..], &turned].concat() } else { vec![turned[1]] };
    Some([user.as_str().as_bytes(), &[0], &(!call).to_be_bytes(), &turned].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(call: u64, user: &str, kind: Kind) -> Kept {
        let part = Part {
            call,
            party: 1,
            user,
            kind,
            number: Some("501"),
            name: None,
            device: None,
            rang: &["desk".to_owned(), "app".to_owned()],
            started_at: call * 10,
            talked: None,
            why: "nobody answered",
        };
        Kept::of(&part).unwrap()
    }

    fn query(user: &str) -> Query {
        let user = UserName::parse(user).unwrap();
        Query { user, device: None, kinds: Vec::new(), since: 0, until: u64::MAX, limit: 3, after: None }
    }

    fn calls(storage: &Storage, query: &Query) -> Vec<u64> {
        list(storage, query).unwrap().iter().map(|entry| entry.started_at / 10).collect()
    }

    async fn filled() -> Storage {
        let (storage, _memory) = Storage::memory();
        let mut batch = Batch::new();
        for call in 1..=9 {
            part(call, "ann", if call % 2 == 0 { Kind::Missed } else { Kind::Received }).put(&mut batch);
            part(call, "ann2", Kind::Placed).put(&mut batch);
        }
        storage.write(&batch).await.unwrap();
        storage
    }

    #[tokio::test]
    async fn pages_are_newest_first_and_go_on_where_the_last_one_ended() {
        let storage = filled().await;
        let first = query("ann");
        assert_eq!(calls(&storage, &first), [9, 8, 7]);
        let last = list(&storage, &first).unwrap().pop().unwrap().id;
        assert_eq!(calls(&storage, &Query { after: Some(last), ..first.clone() }), [6, 5, 4]);
        assert_eq!(calls(&storage, &Query { kinds: vec![Kind::Missed], limit: 9, ..first.clone() }), [8, 6, 4, 2]);
        assert_eq!(calls(&storage, &Query { since: 30, until: 50, ..first.clone() }), [4, 3]);
        assert_eq!(calls(&storage, &Query { device: DeviceId::parse("app").ok(), limit: 2, ..first.clone() }), [9, 8]);
        assert_eq!(calls(&storage, &Query { device: DeviceId::parse("hall").ok(), ..first }), [0; 0]);
        assert_eq!(calls(&storage, &query("an")), [0; 0], "another user");
    }

    #[tokio::test]
    async fn why_a_call_ended_is_read_from_its_record_or_else_its_entries() {
        let storage = filled().await;
        let mut batch = Batch::new();
        batch.put(Table::Cdr, &2_u64.to_be_bytes(), br#"{"id":2,"reason":"the caller hung up","media":[]}"#);
        batch.put(Table::Cdr, &77_u64.to_be_bytes(), br#"{"id":77,"reason":"too many calls"}"#);
        storage.write(&batch).await.unwrap();
        // entries of one call have the number of the party: here both users have the same, so the last one is found
        let users = vec![UserName::parse("ann2").unwrap()];
        let ending = |call| ending(&storage, call).unwrap();
        assert_eq!(ending(1), Some(Ending { users: users.clone(), why: "nobody answered".to_owned() }));
        assert_eq!(ending(2), Some(Ending { users, why: "the caller hung up".to_owned() }));
        assert_eq!(ending(77), Some(Ending { users: Vec::new(), why: "too many calls".to_owned() }));
        assert_eq!(ending(0x11), None, "1 is not the beginning of it");
    }

    #[tokio::test]
    async fn the_history_of_a_removed_user_goes_whole_and_that_of_others_stays() {
        let storage = filled().await;
        let mut batch = Batch::new();
        (10..=30).for_each(|call| part(call, "ann", Kind::Placed).put(&mut batch));
        storage.write(&batch).await.unwrap();
        remove_all(&storage, &UserName::parse("ann").unwrap()).await.unwrap();
        assert_eq!((calls(&storage, &query("ann")), calls(&storage, &query("ann2"))), (Vec::new(), vec![9, 8, 7]));
        assert!(find(&storage, &EntryId::parse("000000000000001e-1").unwrap()).unwrap().is_none());
        assert_eq!(storage.scan(Table::Entry, b"000000000000001e").count(), 0);
    }

    #[tokio::test]
    async fn an_entry_is_found_by_its_name_changed_and_removed() {
        let storage = filled().await;
        let id = EntryId::parse("0000000000000009-1").unwrap();
        let kept = find(&storage, &id).unwrap().unwrap();
        let mut batch = Batch::new();
        kept.remove(&mut batch);
        storage.write(&batch).await.unwrap();
        assert!(find(&storage, &id).unwrap().is_none());
        assert!(!calls(&storage, &query(kept.entry.user.as_str())).contains(&9));
        for strange in ["x", "1-300", "1-70000", "-", "zz-1"] {
            assert!(find(&storage, &EntryId::parse(strange).unwrap()).unwrap().is_none());
        }
    }
}
