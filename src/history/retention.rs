//! How long calls that are over are kept. What is too old, or more than a user may have, goes in small batches, between which others read
//! and write; nobody is told.

use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::Kept;
use crate::clock;
use crate::storage::{Batch, Storage, StorageError, Table};

/// How often it is looked what is too old.
const PERIOD: Duration = Duration::from_secs(3600);
/// Entries read at once.
const READ: usize = 256;
/// Entries removed at once: their keys fit into one batch.
pub(super) const REMOVED: usize = 12;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How many days calls are kept; none: for ever.
    pub days: Option<u32>,
    /// Most entries of a user; where one more comes, the oldest goes.
    pub most: usize,
}

/// How far a walk over the store has come.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In the histories: behind this key, of whose user so many were kept.
    Entry(Vec<u8>, usize),
    /// In the records of calls, of which the oldest come first: behind this key.
    Record(Vec<u8>),
}

impl Retention {
    /// Removes what is too old now and every hour, until told to stop.
    pub(crate) async fn run(self, storage: Storage, mut stop: watch::Receiver<bool>) {
        loop {
            let oldest = u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX);
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                done = self.walk(&storage, oldest) => match done {
                    Ok(0) => {}
                    Ok(removed) => info!(removed, "old calls were removed from the histories"),
                    Err(error) => warn!(%error, "old calls cannot be removed from the histories"),
                },
            }
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Walks once over everything, and returns how many entries and records went; `now` is in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// The store cannot be read or written.
    pub async fn walk(self, storage: &Storage, now: u64) -> Result<usize, StorageError> {
        let oldest = self.days.map_or(0, |days| now.saturating_sub(u64::from(days) * DAY));
        let (mut place, mut removed) = (Some(Place::Entry(Vec::new(), 0)), 0);
        while let Some(from) = place {
            let reader = storage.clone();
            let read = tokio::task::spawn_blocking(move || self.step(&reader, oldest, from)).await;
            let Ok(step) = read else { break }; // the process is ending
            let (batch, count, next) = step?;
            if count > 0 {
                storage.write(&batch).await?;
            }
            removed += count;
            place = next;
        }
        Ok(removed)
    }

    /// Reads on, and returns what is to go, how much that is, and where to read on.
    fn step(self, storage: &Storage, oldest: u64, from: Place) -> Result<(Batch, usize, Option<Place>), StorageError> {
        match from {
            Place::Entry(after, kept) => self.entries(storage, oldest, after, kept),
            Place::Record(after) => records(storage, oldest, after),
        }
    }

    fn entries(
        self,
        storage: &Storage,
        oldest: u64,
        mut last: Vec<u8>,
        mut kept: usize,
    ) -> Result<(Batch, usize, Option<Place>), StorageError> {
        let (mut batch, mut count) = (Batch::new(), 0);
        for found in storage.scan_after(Table::History, b"", &last.clone()).take(READ) {
            let (key, value) = found?;
            kept = if user_of(&key) == user_of(&last) { kept } else { 0 };
            last = key;
            let entry = serde_json::from_slice::<Kept>(&value).ok();
            match entry.filter(|found| kept >= self.most || found.entry.started_at < oldest) {
                Some(old) => {
                    old.remove(&mut batch);
                    count += 1;
                }
                None => kept += 1,
            }
            if count == REMOVED {
                return Ok((batch, count, Some(Place::Entry(last, kept))));
            }
        }
        let more = storage.scan_after(Table::History, b"", &last).next().transpose()?.is_some();
        Ok((batch, count, Some(if more { Place::Entry(last, kept) } else { Place::Record(Vec::new()) })))
    }
}

/// The oldest come first: the walk ends at the first that stays.
fn records(storage: &Storage, oldest: u64, mut last: Vec<u8>) -> Result<(Batch, usize, Option<Place>), StorageError> {
    #[derive(serde::Deserialize)]
    struct Started {
        started_at: u64,
    }
    let (mut batch, mut count) = (Batch::new(), 0);
    for found in storage.scan_after(Table::Cdr, b"", &last.clone()).take(REMOVED) {
        let (key, value) = found?;
        if serde_json::from_slice::<Started>(&value).is_ok_and(|record| record.started_at >= oldest) {
            return Ok((batch, count, None));
        }
        batch.remove(Table::Cdr, &key);
        count += 1;
        last = key;
    }
    Ok((batch, count, (count == REMOVED).then_some(Place::Record(last))))
}

/// The user's part of a key.
fn user_of(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use cas::text::UserName;
    use cas::topic::history::{Kind, Query};

    use super::super::{Part, find, list};
    use super::*;

    const NOW: u64 = 1_000 * DAY;

    /// Writes calls of users on a day each, the last one today.
    async fn store(users: &[(&str, u64)]) -> Storage {
        let (storage, _) = Storage::memory();
        for &(user, days) in users {
            for day in 0..days {
                let call = 1_000_000 - day;
                let part = Part {
                    call,
                    party: 0,
                    user,
                    kind: Kind::Placed,
                    number: None,
                    name: None,
                    device: None,
                    rang: &[],
                    started_at: NOW - day * DAY,
                    talked: None,
                    why: "",
                };
                let mut batch = Batch::new();
                Kept::of(&part).unwrap().put(&mut batch);
                batch.put(Table::Cdr, &call.to_be_bytes(), format!("{{\"started_at\":{}}}", part.started_at).as_bytes());
                storage.write(&batch).await.unwrap();
            }
        }
        storage
    }

    fn count(storage: &Storage, user: &str) -> usize {
        let user = UserName::parse(user).unwrap();
        let query = Query { user, device: None, kinds: Vec::new(), since: 0, until: u64::MAX, limit: u16::MAX, after: None };
        list(storage, &query).unwrap().len()
    }

    fn records_of(storage: &Storage) -> usize {
        storage.scan(Table::Cdr, b"").count()
    }

    #[tokio::test]
    async fn calls_that_are_too_old_go_with_their_records_and_no_others() {
        let storage = store(&[("ann", 400)]).await;
        let retention = Retention { days: Some(30), most: usize::MAX };
        assert_eq!(retention.walk(&storage, NOW).await.unwrap(), 2 * (400 - 31));
        assert_eq!((count(&storage, "ann"), records_of(&storage)), (31, 31));
        let gone = cas::text::EntryId::parse(&format!("{:016x}-0", 1_000_000 - 31)).unwrap();
        assert!(find(&storage, &gone).unwrap().is_none());
        assert_eq!(retention.walk(&storage, NOW).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn each_user_has_the_newest_so_many() {
        let storage = store(&[("ann", 300), ("bo", 5), ("zoe", 40)]).await;
        let retention = Retention { days: None, most: 20 };
        assert_eq!(retention.walk(&storage, NOW).await.unwrap(), 280 + 20);
        assert_eq!(["ann", "bo", "zoe"].map(|user| count(&storage, user)), [20, 5, 20]);
        let user = UserName::parse("zoe").unwrap();
        let query = Query { user, device: None, kinds: Vec::new(), since: 0, until: u64::MAX, limit: 200, after: None };
        assert_eq!(list(&storage, &query).unwrap().last().unwrap().started_at, NOW - 19 * DAY);
        assert_eq!(records_of(&storage), 300, "records are kept by their days alone");
    }
}
