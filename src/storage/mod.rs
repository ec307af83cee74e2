//! Storage: what must be there after a restart, as bytes under ordered keys in named tables.
//!
//! A write is a [`Batch`]. It is taken without blocking and acknowledged once it is durable, together with everything
//! else that became durable with it (group commit, `commit.rs`). Where it is kept is a `Backend`, one file each:
//! `sled.rs` (the embedded default) and `memory.rs` (tests). What the bytes mean is their owners' affair: nothing here
//! knows SIP, users or calls.
//!
//! After the first write that could not be made durable nothing is acknowledged any more and every later write fails:
//! what the disk still holds then is unknown, so trying again would be a guess.

mod batch;
mod commit;
mod memory;
mod sled;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use self::batch::{Batch, MAX_BATCH, MAX_KEY, MAX_VALUE};
pub use self::commit::{MAX_QUEUED, MAX_QUEUED_BYTES, MAX_UNCOLLECTED, Writer};
pub use self::memory::Memory;
pub use self::sled::{OpenError, SCHEMA_VERSION};

use self::batch::Changes;
use self::commit::{Committer, NOTE_WAITS};

/// Names the part of the store that a key belongs to; its number is the first byte of each stored key, so it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Facts about the store itself, and secrets made at the first start.
    Meta = 1,
    /// Users.
    User = 2,
    /// Trunks.
    Trunk = 3,
    /// Bindings of the registrar.
    Binding = 4,
    /// Call detail records.
    Cdr = 5,
    /// Rights of users, where they are not those of everybody.
    Rights = 6,
    /// Numbers that an administrator gave to users.
    Number = 7,
    /// API keys.
    Key = 8,
    /// Entries of the users' histories, newest first.
    History = 9,
    /// Whose an entry of a history is.
    Entry = 10,
    /// What users say of themselves.
    Presence = 11,
    /// Subscriptions of watchers.
    Subscription = 12,
    /// What the devices of users publish of them.
    Publication = 13,
    /// Calls that were answered and are not over, and the users' parts in them.
    UnderWay = 14,
}

/// Says why a write was not taken or not kept, or a read gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StorageError {
    /// The disk is slower than the writers, or the writer does not collect its acknowledgements; the write was not taken.
    #[error("the storage has too many writes waiting and took no more")]
    Full,
    /// The write can never be taken; the caller's fault.
    #[error("a {part} of {bytes} bytes is more than the storage takes ({limit})")]
    TooLarge {
        /// The part that is too large: key, value or batch.
        part: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A write could not be made durable; nothing was or will be acknowledged after it.
    #[error("the storage failed and keeps nothing any more until a restart: {0}")]
    Failed(Arc<str>),
    /// The store could not be read.
    #[error("the storage could not be read: {0}")]
    Read(Arc<str>),
}

/// Holds what differs from one embedded store to the next.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for pages read or written lately, in bytes. Default: 1 MiB.
    pub cache_capacity: u64,
    /// The longest pause between two commits under load. Default: 10 ms. See [`Storage`] for when there is a pause at all.
    pub group_window: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_capacity: 1 << 20, group_window: Duration::from_millis(10) }
    }
}

/// An entry of a scan: the key (without its table) and the value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A place to keep bytes; implemented by one file each, called by `commit.rs` and the reads of [`Storage`].
pub(crate) trait Backend: Send + Sync {
    /// Returns the value under `key` (with the table's byte).
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Appends to `page` up to [`PAGE`] entries whose keys are greater than `after` (from `prefix` on without it), and
    /// begin with `prefix`, in order; keys with the table's byte.
    fn page(&self, prefix: &[u8], after: Option<&[u8]>, page: &mut Vec<Entry>) -> Result<(), StorageError>;

    /// Makes the batches durable, each wholly or not at all; on an error nobody knows what is kept.
    fn commit(&self, batches: &[Changes<'_>]) -> Result<(), StorageError>;
}

/// Entries read at once by a scan.
pub(crate) const PAGE: usize = 256;

/// A handle on the store; clones share it, and the last one to go waits until everything taken is durable.
///
/// Writes are committed in groups. A lone write is committed at once, one that nobody waits for with the next. After a group of several the storage pauses for a
/// millisecond per batch of it, [`Options::group_window`] at most, because what a commit costs does not depend on its size.
#[derive(Clone)]
pub struct Storage {
    committer: Arc<Committer>,
}

impl Storage {
    /// Opens the embedded store in `folder`, which is made (mode 0700) at the first start.
    ///
    /// # Errors
    /// [`OpenError`] names the folder and what is wrong with it.
    pub fn open(folder: &std::path::Path, options: &Options) -> Result<Self, OpenError> {
        let backend = sled::Sled::open(folder, options.cache_capacity)?;
        let committer = Committer::start(Arc::new(backend), options.group_window, NOTE_WAITS)
            .map_err(|source| OpenError::Io { folder: folder.to_owned(), source })?;
        Ok(Self { committer: Arc::new(committer) })
    }

    /// Makes a store in memory for tests; it commits within `submit`, without a thread, so paused clocks stay exact.
    #[must_use]
    pub fn memory() -> (Self, Memory) {
        let memory = Memory::default();
        (memory.open(), memory)
    }

    /// Returns a writer, for a loop that submits much and wants to hear of whole groups.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(Arc::clone(&self.committer))
    }

    /// Writes a batch and waits until it is durable; for those who write seldom. Once polled, the write may happen even
    /// if the future is dropped.
    ///
    /// # Errors
    /// [`StorageError`]; the batch is not kept, or nobody knows whether it is ([`StorageError::Failed`]).
    pub async fn write(&self, batch: &Batch) -> Result<(), StorageError> {
        self.committer.write(batch).await
    }

    /// Returns a value; may read the disk, so not for a loop that must not wait. It may be one not yet durable.
    ///
    /// # Errors
    /// [`StorageError::Read`]
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.committer.backend().get(&stored_key(table, key))
    }

    /// Reads the entries whose keys begin with `prefix`, in order, a page at a time; may read the disk like [`Self::get`].
    #[must_use]
    pub fn scan(&self, table: Table, prefix: &[u8]) -> Scan {
        Scan {
            committer: Arc::clone(&self.committer),
            prefix: stored_key(table, prefix),
            after: None,
            page: Vec::new().into_iter(),
            ended: false,
        }
    }

    /// Continues such a scan behind the key `after`, which need not exist: the next page of a list.
    #[must_use]
    pub fn scan_after(&self, table: Table, prefix: &[u8], after: &[u8]) -> Scan {
        let mut scan = self.scan(table, prefix);
        scan.after = Some(stored_key(table, after));
        scan
    }
}

/// Walks over entries in the order of their keys; entries written meanwhile may or may not be met.
pub struct Scan {
    committer: Arc<Committer>,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    page: std::vec::IntoIter<Entry>,
    ended: bool,
}

impl Iterator for Scan {
    type Item = Result<Entry, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 && !self.ended {
            let mut page = Vec::with_capacity(PAGE);
            if let Err(error) = self.committer.backend().page(&self.prefix, self.after.as_deref(), &mut page) {
                self.ended = true;
                return Some(Err(error));
            }
            self.ended = page.len() < PAGE;
            if let Some((last, _)) = page.last() {
                self.after = Some(last.clone());
            }
            self.page = page.into_iter();
        }
        let (mut key, value) = self.page.next()?;
        key.remove(0); // the table's byte
        Some(Ok((key, value)))
    }
}

fn stored_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(table as u8);
    stored.extend_from_slice(key);
    stored
}
