//! Publications (RFC 3903): what the devices of one user say of the user, each under an entity tag of its own and for so long. They outlive
//! the process: their tags are known after a restart.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sip::dialog::subscription::MAX_EXPIRES;

use super::pidf::Document;
use crate::storage::{Batch, Storage, StorageError, Table};

/// A PUBLISH that was read.
#[derive(Debug)]
pub struct Publish {
    /// SIP-If-Match; none for a new publication.
    pub matches: Option<String>,
    /// How long it lasts; zero ends it.
    pub lasts: Duration,
    /// The document; none repeats the one before.
    pub document: Option<Document>,
}

/// Why a PUBLISH is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No publication has that entity tag: 412.
    #[error("no publication has that entity tag")]
    NoMatch,
    /// It is new and has no document: 400.
    #[error("a new publication without a document")]
    NoDocument,
}

#[derive(Debug)]
struct Publication {
    tag: Box<str>,
    document: Document,
    until: Instant,
}

/// All publications of a user, the document that came last at the end; refreshes change no place.
#[derive(Debug, Default)]
pub(super) struct Publications(Vec<Publication>);

/// A publication as the store has it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    tag: Box<str>,
    document: Document,
    /// When it ends, in milliseconds since 1970, UTC.
    until: u64,
}

/// Reads what the store has, with the users' names. What cannot be read is left out.
///
/// # Errors
/// The store cannot be read.
pub fn load(storage: &Storage) -> Result<Vec<(String, Vec<Lasting>)>, StorageError> {
    let mut all = Vec::new();
    for entry in storage.scan(Table::Publication, b"") {
        let (user, value) = entry?;
        if let (Ok(user), Ok(lasting)) = (String::from_utf8(user), serde_json::from_slice(&value)) {
            all.push((user, lasting));
        }
    }
    Ok(all)
}

/// Returns the write that makes the publications of a user last.
pub(super) fn batch(user: &str, publications: &[Lasting]) -> Batch {
    let mut batch = Batch::new();
    if publications.is_empty() {
        batch.remove(Table::Publication, user.as_bytes());
    } else {
        let value = serde_json::to_vec(publications).expect("it has no map with keys that are no text");
        batch.put(Table::Publication, user.as_bytes(), &value);
    }
    batch
}

impl Publications {
    /// Most publications of a user; for a further one the one nearest to its end is dropped, and its device hears 412.
    pub(super) const MAX: usize = 16;

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a PUBLISH; whatever it refers to has the new tag from now on (RFC 3903 §6).
    pub(super) fn publish(&mut self, now: Instant, publish: Publish, tag: &str) -> Result<(), PublishError> {
        let before = match &publish.matches {
            None => None,
            Some(matches) => Some(self.0.iter().position(|one| *one.tag == **matches).ok_or(PublishError::NoMatch)?),
        };
        let until = now + publish.lasts;
        match (publish.document, before) {
            _ if publish.lasts.is_zero() => drop(before.map(|at| self.0.remove(at))),
            (None, Some(at)) => {
                let refreshed = self.0.get_mut(at).into_iter();
                refreshed.for_each(|one| (one.tag, one.until) = (tag.into(), until));
            }
            (None, None) => return Err(PublishError::NoDocument),
            (Some(document), before) => {
                match before {
                    Some(at) => drop(self.0.remove(at)),
                    None => self.make_room(),
                }
                self.0.push(Publication { tag: tag.into(), document, until });
            }
        }
        Ok(())
    }

    fn make_room(&mut self) {
        if self.0.len() >= Self::MAX
            && let Some((at, _)) = self.0.iter().enumerate().min_by_key(|(_, one)| one.until)
        {
            self.0.remove(at);
        }
    }

    pub(super) fn kept(&self, now: Instant, unix: u64) -> Vec<Lasting> {
        let ends =
            |until: Instant| unix.saturating_add(u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX));
        self.0.iter().map(|one| Lasting { tag: one.tag.clone(), document: one.document.clone(), until: ends(one.until) }).collect()
    }

    /// Goes on with what was kept. The clock may have been set back since: nothing lasts longer than it may be granted.
    pub(super) fn restore(&mut self, now: Instant, unix: u64, kept: Vec<Lasting>) {
        let left = |until: u64| Duration::from_millis(until.saturating_sub(unix)).min(MAX_EXPIRES);
        let each = kept.into_iter().map(|one| Publication { tag: one.tag, document: one.document, until: now + left(one.until) });
        self.0 = each.filter(|one| now < one.until).take(Self::MAX).collect();
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.0.retain(|one| now < one.until);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|one| one.until).min()
    }

    /// Returns the document that was said last: a person is how they said at last, on whichever device.
    pub(super) fn latest(&self) -> Option<&Document> {
        self.0.last().map(|one| &one.document)
    }

    /// Returns true if a device says it can be reached.
    pub(super) fn is_open(&self) -> bool {
        self.0.iter().any(|one| one.document.open == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::Status;

    const SECOND: Duration = Duration::from_secs(1);

    fn says(status: Status, matches: Option<&str>, lasts: Duration) -> Publish {
        let document = Document { open: Some(true), status: Some(status), note: None };
        Publish { matches: matches.map(str::to_owned), lasts, document: Some(document) }
    }

    #[tokio::test]
    async fn what_is_published_outlives_the_process_with_its_tags_and_its_order_until_its_end() {
        let (storage, memory) = Storage::memory();
        let now = crate::clock::now();
        let mut publications = Publications::default();
        publications.publish(now, says(Status::Busy, None, 60 * SECOND), "desk").unwrap();
        publications.publish(now, says(Status::Away, None, 600 * SECOND), "mobile").unwrap();
        let refresh = Publish { matches: Some("desk".to_owned()), lasts: 120 * SECOND, document: None };
        publications.publish(now, refresh, "desk2").unwrap();
        storage.write(&batch("ann", &publications.kept(now, 1_000))).await.unwrap();
        drop(storage);

        let restored = |unix| {
            let mut publications = Publications::default();
            let (user, lasting) = load(&memory.open()).unwrap().remove(0);
            assert_eq!(user, "ann");
            publications.restore(now, unix, lasting);
            publications
        };
        let mut after = restored(61_000);
        assert_eq!(after.latest().unwrap().status, Some(Status::Away), "the order is that of the documents");
        assert_eq!(after.publish(now, says(Status::Busy, Some("desk"), SECOND), "x"), Err(PublishError::NoMatch), "an old tag");
        assert_eq!(after.poll_timeout(), Some(now + 60 * SECOND));
        after.publish(now, says(Status::Busy, Some("desk2"), 60 * SECOND), "desk3").unwrap();
        assert_eq!(after.latest().unwrap().status, Some(Status::Busy));
        assert_eq!(restored(121_000).len(), 1);
        assert!(restored(601_000).is_empty());
        assert!(restored(0).poll_timeout() <= Some(now + MAX_EXPIRES), "a clock that was set back");
    }

    #[tokio::test]
    async fn what_is_taken_back_is_not_kept() {
        let (storage, _memory) = Storage::memory();
        let now = crate::clock::now();
        let mut publications = Publications::default();
        publications.publish(now, says(Status::Busy, None, 60 * SECOND), "a").unwrap();
        storage.write(&batch("ann", &publications.kept(now, 0))).await.unwrap();
        publications.publish(now, says(Status::Busy, Some("a"), Duration::ZERO), "b").unwrap();
        storage.write(&batch("ann", &publications.kept(now, 0))).await.unwrap();
        assert!(load(&storage).unwrap().is_empty());
    }
}
