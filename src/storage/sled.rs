//! Sled: the embedded store, sled 0.34.7 with the durability that it lacks on Linux.
//!
//! sled's own flush ends in `sync_file_range`, which empties no disk cache and writes no metadata. So each group is applied,
//! flushed by sled, and then `fdatasync`ed through a handle of our own on sled's one file, `db`. What follows from reading
//! sled, and must stay true for that to be enough:
//! - All tables share one tree. Its log is recovered up to the first gap, so a later write never survives an earlier one.
//! - Values are small enough that sled never keeps one, or a page of them, in a file of its own (`blobs/`): its limit is a
//!   quarter of a segment, and a page splits beyond 16 entries.
//! - A segment is written over only when the segment that holds its successors is full; a group is far smaller than a
//!   segment, so by then its successors are durable.
//! - `conf`, `snap.*` and the folder's entries change only while sled opens; they are synced at the end of it. The first
//!   time, that happens in a folder aside, which then gets its name.
//! - A batch of several changes is written behind an intent, a copy of it under a key of our own, which is applied again
//!   at the next start unless it was taken away. (sled's batches do the same with two more flushes, and can wait for ever
//!   when the disk is full.)

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::mem;
use std::ops::Bound;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs2::FileExt;
use thiserror::Error;

use super::batch::Changes;
use super::{Backend, Entry, PAGE, StorageError};

/// The layout of tables and keys that this tandem reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

const SCHEMA_KEY: &[u8] = b"\x01schema";
/// Sorts before all tables and belongs to none.
const INTENT_KEY: &[u8] = b"\x00intent";
/// Power of two. See the module on why it bounds values and groups.
const SEGMENT_SIZE: usize = 2 << 20;
/// Below this sled spends its time on evicting; it asserts 256.
const MIN_CACHE: u64 = 64 << 10;

/// Says in one sentence why the store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The path is something else than a folder.
    #[error("the data folder {} is not a folder", .folder.display())]
    NotAFolder {
        /// The data folder.
        folder: PathBuf,
    },
    /// The folder may not be made or written.
    #[error("the data folder {} is not writable ({source})", .folder.display())]
    NotWritable {
        /// The data folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error("the data folder {} is in use by another process", .folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// What is stored contradicts itself.
    #[error("the store in the data folder {} is corrupt ({reason}); restore it from a backup", .folder.display())]
    Corrupt {
        /// The data folder.
        folder: PathBuf,
        /// What sled said.
        reason: String,
    },
    /// It was written by another version of tandem.
    #[error("the store in the data folder {} has schema {found}, this version reads {SCHEMA_VERSION}", .folder.display())]
    Schema {
        /// The data folder.
        folder: PathBuf,
        /// The schema found there.
        found: u32,
    },
    /// The system failed us.
    #[error("the store in the data folder {} could not be opened ({source})", .folder.display())]
    Io {
        /// The data folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(super) struct Sled {
    /// With the lock on the data folder; none only while it is dropped.
    held: Option<(sled::Db, File)>,
    file: File,
    /// Set while it opens and while a commit runs, so that it stays set after one that failed or panicked.
    failed: AtomicBool,
}

impl Sled {
    pub(super) fn open(folder: &Path, cache_capacity: u64) -> Result<Self, OpenError> {
        let made = make_folder(folder)?;
        let lock = File::open(folder).map_err(|error| system_error(folder, error))?;
        lock.try_lock_exclusive().map_err(|_| OpenError::InUse { folder: folder.to_owned() })?;
        let store = folder.join("store");
        if !store.exists() {
            first_start(folder, &store, made)?;
        }
        let db = open_sled(&store, cache_capacity).map_err(|error| open_error(folder, error))?;
        let io = |source| OpenError::Io { folder: folder.to_owned(), source };
        let file = File::open(store.join("db")).map_err(io)?;
        let opened = Self { held: Some((db, lock)), file, failed: AtomicBool::new(true) };
        opened.recover(folder)?;
        sync_folder(&store).map_err(io)?;
        opened.failed.store(false, Ordering::Relaxed);
        Ok(opened)
    }

    /// Checks the schema and applies a batch that the last process left half applied.
    fn recover(&self, folder: &Path) -> Result<(), OpenError> {
        let sled = |error| open_error(folder, error);
        let corrupt = |reason: &str| OpenError::Corrupt { folder: folder.to_owned(), reason: reason.into() };
        let db = self.db();
        let found = db.get(SCHEMA_KEY).map_err(sled)?.ok_or_else(|| corrupt("it has no schema"))?;
        let found = <[u8; 4]>::try_from(&*found).map_err(|_| corrupt("its schema is no number"))?;
        let found = u32::from_le_bytes(found);
        if found != SCHEMA_VERSION {
            return Err(OpenError::Schema { folder: folder.to_owned(), found });
        }
        if let Some(intent) = db.get(INTENT_KEY).map_err(sled)? {
            let changes = Changes(&intent);
            if !changes.is_whole() {
                return Err(corrupt("its intent is no batch"));
            }
            self.change(changes).and_then(|()| db.remove(INTENT_KEY)).map_err(sled)?;
        }
        db.flush().map_err(sled)?;
        Ok(())
    }

    /// Applies the batches in order; a single change that a later batch changes again is left out.
    fn apply(&self, batches: &[Changes<'_>]) -> sled::Result<()> {
        let mut last = HashMap::new();
        if batches.len() > 1 {
            for (index, batch) in batches.iter().enumerate() {
                last.extend(batch.map(|change| (change.key, index)));
            }
        }
        let mut intent = false;
        for (index, batch) in batches.iter().enumerate() {
            if !batch.is_single() {
                intent = true;
                self.db().insert(INTENT_KEY, batch.bytes())?;
            } else if let Some(change) = batch.clone().next()
                && last.get(change.key).is_some_and(|last| *last != index)
            {
                continue;
            }
            self.change(*batch)?;
        }
        if intent {
            self.db().remove(INTENT_KEY)?;
        }
        Ok(())
    }

    fn change(&self, changes: Changes<'_>) -> sled::Result<()> {
        for change in changes {
            match change.value {
                Some(value) => self.db().insert(change.key, value)?,
                None => self.db().remove(change.key)?,
            };
        }
        Ok(())
    }

    fn db(&self) -> &sled::Db {
        &self.held.as_ref().expect("taken only in drop").0
    }
}

impl Backend for Sled {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.db().get(key).map_err(read_error)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn page(&self, prefix: &[u8], after: Option<&[u8]>, page: &mut Vec<Entry>) -> Result<(), StorageError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        for entry in self.db().range::<&[u8], _>((from, Bound::Unbounded)).take(PAGE) {
            let (key, value) = entry.map_err(read_error)?;
            if !key.starts_with(prefix) {
                break;
            }
            page.push((key.to_vec(), value.to_vec()));
        }
        Ok(())
    }

    fn commit(&self, batches: &[Changes<'_>]) -> Result<(), StorageError> {
        self.failed.store(true, Ordering::Relaxed);
        self.apply(batches)
            .and_then(|()| self.db().flush())
            .map_err(|error| StorageError::Failed(format!("sled could not write ({})", in_words(&error)).into()))?;
        self.file.sync_data().map_err(|error| StorageError::Failed(format!("fdatasync of its file failed ({error})").into()))?;
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        if self.failed.load(Ordering::Relaxed) {
            // sled would write once more, and panic when its fsync fails; the folder stays locked until the process ends.
            mem::forget(self.held.take());
        }
        if let Some((db, lock)) = self.held.take() {
            drop(db);
            let _freed_when_closed_at_the_latest = unlock(&lock);
        }
    }
}

/// Gives a lock back at once. Closing the file alone would leave it with a child process that was forked and has not yet
/// called exec, which closes its copy.
fn unlock(file: &File) -> io::Result<()> {
    FileExt::unlock(file)
}

fn open_sled(store: &Path, cache_capacity: u64) -> sled::Result<sled::Db> {
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?; // half a snapshot, left by a start that was killed; sled takes it for a whole one
        }
    }
    let config =
        sled::Config::new().path(store).segment_size(SEGMENT_SIZE).cache_capacity(cache_capacity.max(MIN_CACHE)).flush_every_ms(None);
    // sled's pool threads may hold the file, locked, for a moment after it was closed in this process; nobody else can,
    // because the folder is ours.
    match File::open(store.join("db")) {
        Ok(file) => {
            file.lock_exclusive()?;
            unlock(&file)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // sled asserts that some of what it reads is its own.
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .unwrap_or_else(|_| Err(sled::Error::ReportableBug("sled panicked while it opened".into())))
}

/// Makes the store aside and moves it into place when it is whole and synced: sled could not open half a first start.
fn first_start(folder: &Path, store: &Path, made: usize) -> Result<(), OpenError> {
    let aside = folder.join("store.new");
    let io = |error| system_error(folder, error);
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(io)?; // left by a first start that did not end
    }
    DirBuilder::new().mode(0o700).create(&aside).map_err(io)?;
    let new = || {
        let db = open_sled(&aside, 0)?;
        db.insert(SCHEMA_KEY, &SCHEMA_VERSION.to_le_bytes())?;
        db.flush()?;
        Ok(())
    };
    catch_unwind(new) // when sled closes it panics if its fsync fails
        .unwrap_or_else(|_| Err(io::Error::other("sled could not sync its file").into()))
        .map_err(|error| open_error(folder, error))?;
    sync_folder(&aside).map_err(io)?;
    fs::rename(&aside, store).map_err(io)?;
    for path in folder.ancestors().take(1 + made) {
        sync(or_here(path)).map_err(io)?;
    }
    Ok(())
}

/// Makes the folder with its parents if need be, and returns how many were made.
fn make_folder(folder: &Path) -> Result<usize, OpenError> {
    let made = folder.ancestors().take_while(|path| !or_here(path).exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| system_error(folder, error))?;
    Ok(made)
}

/// Makes durable what sled made while it opened: its files, their names, and its folder for blobs.
fn sync_folder(store: &Path) -> io::Result<()> {
    for entry in store.read_dir()? {
        sync(&entry?.path())?;
    }
    sync(store)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The parent of a relative path of one part is the empty path.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn open_error(folder: &Path, error: sled::Error) -> OpenError {
    let reason = match error {
        sled::Error::Io(error) => return system_error(folder, error),
        sled::Error::Unsupported(reason) | sled::Error::ReportableBug(reason) => reason,
        sled::Error::Corruption { .. } => "a checksum is wrong".into(),
        sled::Error::CollectionNotFound(_) => "its tree is missing".into(),
    };
    OpenError::Corrupt { folder: folder.to_owned(), reason }
}

fn system_error(folder: &Path, source: io::Error) -> OpenError {
    let folder = folder.to_owned();
    if source.kind() == io::ErrorKind::PermissionDenied || source.kind() == io::ErrorKind::ReadOnlyFilesystem {
        OpenError::NotWritable { folder, source }
    } else if folder.exists() && !folder.is_dir() || source.kind() == io::ErrorKind::NotADirectory {
        OpenError::NotAFolder { folder }
    } else if source.kind() == io::ErrorKind::UnexpectedEof {
        OpenError::Corrupt { folder, reason: "a file ends early".into() }
    } else {
        OpenError::Io { folder, source }
    }
}

/// Returns what the system says of its errors, and sled of its own.
fn in_words(error: &sled::Error) -> String {
    if let sled::Error::Io(error) = error { error.to_string() } else { error.to_string() }
}

fn read_error(error: sled::Error) -> StorageError {
    StorageError::Read(in_words(&error).into())
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Table};
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
        let _absent = fs::remove_dir_all(&folder);
        folder
    }

    fn batch(changes: &[(&[u8], Option<&[u8]>)]) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(Table::User, key, value),
                None => batch.remove(Table::User, key),
            };
        }
        batch
    }

    fn users(store: &Sled) -> Vec<(String, String)> {
        let mut page = Vec::new();
        store.page(&[Table::User as u8], None, &mut page).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        page.iter().map(|(key, value)| (text(&key[1..]), text(value))).collect()
    }

    #[test]
    fn a_batch_left_half_applied_is_finished_at_the_next_start() {
        let folder = folder("intent");
        let store = Sled::open(&folder, 0).unwrap();
        store.commit(&[Changes(batch(&[(b"c", Some(b"old"))]).checked().unwrap())]).unwrap();
        let batch = batch(&[(b"a", Some(b"1")), (b"b", Some(b"1")), (b"c", None)]);
        let mut changes = Changes(batch.checked().unwrap());
        store.db().insert(INTENT_KEY, changes.bytes()).unwrap();
        let first = changes.next().unwrap();
        store.db().insert(first.key, first.value.unwrap()).unwrap();
        drop(store);
        let store = Sled::open(&folder, 0).unwrap();
        assert_eq!(users(&store), [("a".into(), "1".into()), ("b".into(), "1".into())]);
        assert_eq!(store.db().get(INTENT_KEY).unwrap(), None);
        drop(store);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn in_a_group_the_last_change_of_a_key_wins() {
        let folder = folder("last");
        let store = Sled::open(&folder, 0).unwrap();
        let group = [
            batch(&[(b"a", Some(b"1"))]),
            batch(&[(b"a", Some(b"2")), (b"b", Some(b"2"))]),
            batch(&[(b"b", Some(b"3"))]),
            batch(&[(b"c", Some(b"4"))]),
            batch(&[]),
            batch(&[(b"c", None)]),
            batch(&[(b"d", None)]),
            batch(&[(b"d", Some(b"5"))]),
        ];
        let group: Vec<_> = group.iter().map(|batch| Changes(batch.checked().unwrap())).collect();
        store.commit(&group).unwrap();
        let expected = [("a", "2"), ("b", "3"), ("d", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(users(&store), expected);
        assert_eq!(store.db().get(INTENT_KEY).unwrap(), None);
        drop(store);
        fs::remove_dir_all(folder).unwrap();
    }
}
