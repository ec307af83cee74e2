//! Memory: a store for tests that keeps the contract of `mod.rs` without a disk or a thread: a batch is durable when
//! `submit` returns, unless the test holds it back or makes it fail. It must not know `sled.rs`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::batch::Changes;
use super::commit::Committer;
use super::{Backend, Entry, PAGE, Storage, StorageError};

/// The test's hand on a store in memory: outlives it like a disk, holds acknowledgements back, and injects a failure.
#[derive(Clone, Default)]
pub struct Memory {
    disk: Arc<Disk>,
}

#[derive(Default)]
struct Disk {
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    failure: Option<Arc<str>>,
    committer: Weak<Committer>,
}

impl Memory {
    /// Opens a store on what was committed so far, as after a restart; the hand is on the new store from now on.
    #[must_use]
    pub fn open(&self) -> Storage {
        let committer = Arc::new(Committer::inline(Arc::<Disk>::clone(&self.disk)));
        self.disk.lock().committer = Arc::downgrade(&committer);
        Storage { committer }
    }

    /// Commits nothing until [`Self::release`]; what the store takes meanwhile is lost if it is dropped.
    pub fn hold(&self) {
        if let Some(committer) = self.committer() {
            committer.hold();
        }
    }

    /// Commits what was held back, as one group.
    pub fn release(&self) {
        if let Some(committer) = self.committer() {
            committer.release();
        }
    }

    /// Makes the next commit fail with `reason`, and with it the store.
    pub fn fail(&self, reason: &str) {
        self.disk.lock().failure = Some(reason.into());
    }

    fn committer(&self) -> Option<Arc<Committer>> {
        self.disk.lock().committer.upgrade()
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.lock().map.get(key).cloned())
    }

    fn page(&self, prefix: &[u8], after: Option<&[u8]>, page: &mut Vec<Entry>) -> Result<(), StorageError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let contents = self.lock();
        let entries = contents.map.range::<[u8], _>((from, Bound::Unbounded));
        page.extend(entries.take_while(|(key, _)| key.starts_with(prefix)).take(PAGE).map(|(k, v)| (k.clone(), v.clone())));
        Ok(())
    }

    fn commit(&self, batches: &[Changes<'_>]) -> Result<(), StorageError> {
        let mut contents = self.lock();
        if let Some(reason) = contents.failure.take() {
            return Err(StorageError::Failed(reason));
        }
        for change in batches.iter().copied().flatten() {
            match change.value {
                Some(value) => contents.map.insert(change.key.to_vec(), value.to_vec()),
                None => contents.map.remove(change.key),
            };
        }
        Ok(())
    }
}
