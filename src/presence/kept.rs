//! What users say themselves, as the store keeps it: it outlives the process, unlike what devices publish.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Line, Said, Status};
use crate::storage::{Batch, Storage, StorageError, Table};

/// What is said for longer than that ends then.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What a user says, with the time of day at which it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// How they are; none leaves it to their devices.
    pub status: Option<Status>,
    /// A line about it.
    pub note: Option<Line>,
    /// When it ends by itself, in milliseconds since 1970, UTC.
    pub until: Option<u64>,
}

impl Kept {
    /// Reads what the store has, with the users' names. What cannot be read is left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(storage: &Storage) -> Result<Vec<(String, Self)>, StorageError> {
        let mut all = Vec::new();
        for entry in storage.scan(Table::Presence, b"") {
            let (user, value) = entry?;
            if let (Ok(user), Ok(kept)) = (String::from_utf8(user), serde_json::from_slice(&value)) {
                all.push((user, kept));
            }
        }
        Ok(all)
    }

    /// Returns the write that makes it last; without status and note, that there is none any more.
    ///
    /// # Panics
    /// Never: it has no map.
    #[must_use]
    pub fn batch(&self, user: &str) -> Batch {
        let mut batch = Batch::new();
        if self.status.is_none() && self.note.is_none() {
            batch.remove(Table::Presence, user.as_bytes());
        } else {
            let value = serde_json::to_vec(self).expect("it has no map with keys that are no text");
            batch.put(Table::Presence, user.as_bytes(), &value);
        }
        batch
    }

    /// Returns it with its end on our clock; `unix` is the time of day in milliseconds.
    #[must_use]
    pub fn said(self, now: Instant, unix: u64) -> Said {
        let until = self.until.map(|until| now + Duration::from_millis(until.saturating_sub(unix)).min(FOREVER));
        Said { status: self.status, note: self.note, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_user_says_outlives_the_process_until_nothing_is_said() {
        let (storage, _memory) = Storage::memory();
        let kept = Kept { status: Some(Status::Away), note: Line::parse("lunch").ok(), until: Some(5) };
        storage.write(&kept.batch("ann")).await.unwrap();
        assert_eq!(Kept::load(&storage).unwrap(), [("ann".to_owned(), kept)]);
        storage.write(&Kept::default().batch("ann")).await.unwrap();
        assert!(Kept::load(&storage).unwrap().is_empty());
    }

    #[test]
    fn the_end_is_a_time_of_day_and_one_that_has_passed_is_now() {
        let now = crate::clock::now();
        let ends = |until| Kept { until, ..Kept::default() }.said(now, 1000).until;
        assert_eq!(ends(Some(1500)), Some(now + Duration::from_millis(500)));
        assert_eq!(ends(Some(999)), Some(now));
        assert_eq!(ends(Some(u64::MAX)), Some(now + FOREVER));
        assert_eq!(ends(None), None);
    }
}
