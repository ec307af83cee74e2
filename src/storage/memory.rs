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

#[cfg(test)]
mod tests {
    use super::super::{Batch, Table};
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::User, key, value);
        batch
    }

    #[tokio::test]
    async fn a_restart_finds_what_was_acknowledged_and_no_more() {
        let (storage, memory) = Storage::memory();
        let mut writer = storage.writer();
        storage.write(&put(b"ann", b"1")).await.unwrap();
        memory.hold();
        writer.submit(&put(b"ann", b"2"), 1).unwrap();
        writer.submit(&put(b"bob", b"2"), 2).unwrap();
        assert!(writer.try_committed().is_none(), "held back");
        drop((writer, storage));
        let storage = memory.open();
        let users: Vec<_> = storage.scan(Table::User, b"").map(Result::unwrap).collect();
        assert_eq!(users, [(b"ann".to_vec(), b"1".to_vec())]);
    }

    #[tokio::test]
    async fn an_injected_failure_ends_the_store_but_not_what_it_kept() {
        let (storage, memory) = Storage::memory();
        storage.write(&put(b"ann", b"1")).await.unwrap();
        memory.fail("pulled the plug");
        let failed = Err(StorageError::Failed("pulled the plug".into()));
        assert_eq!(storage.write(&put(b"ann", b"2")).await, failed);
        assert_eq!(storage.write(&put(b"ann", b"3")).await, failed);
        assert_eq!(memory.open().get(Table::User, b"ann").unwrap().unwrap(), b"1");
    }

    #[tokio::test]
    async fn a_scan_pages_in_order_and_stays_in_its_prefix_and_table() {
        let (storage, _memory) = Storage::memory();
        for n in 0..1000u32 {
            let mut key = b"k".to_vec();
            key.extend(n.to_be_bytes());
            storage.write(&put(&key, b"")).await.unwrap();
        }
        storage.write(put(b"j", b"").put(Table::Trunk, b"k", b"").put(Table::User, b"l", b"")).await.unwrap();
        let keys = |scan: super::super::Scan| scan.map(|entry| entry.unwrap().0).collect::<Vec<_>>();
        let all = keys(storage.scan(Table::User, b"k"));
        assert_eq!(all.len(), 1000);
        assert!(all.is_sorted());
        assert_eq!(keys(storage.scan_after(Table::User, b"k", &all[499])), all[500..]);
        assert_eq!(keys(storage.scan_after(Table::User, b"k", b"")), all);
        assert_eq!(keys(storage.scan(Table::User, b"")).len(), 1002);
    }
}
