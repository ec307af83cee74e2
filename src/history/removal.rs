//! The history of a user who is none any more goes, in batches so small that others read and write between them; nobody is told.

use cas::text::UserName;

use super::Kept;
use super::retention::REMOVED;
use crate::storage::{Batch, Storage, StorageError, Table};

/// Removes the whole history of a user, to whom nothing is added meanwhile.
///
/// # Errors
///
/// The store cannot be read or written.
pub async fn remove_all(storage: &Storage, user: &UserName) -> Result<(), StorageError> {
    loop {
        let (reader, name) = (storage.clone(), user.clone());
        let read = tokio::task::spawn_blocking(move || next(&reader, &name)).await;
        match read {
            Ok(found) => match found? {
                Some(batch) => storage.write(&batch).await?,
                None => return Ok(()),
            },
            Err(_) => return Ok(()), // the process is ending
        }
    }
}

/// Returns the removal of some entries; none where there are none.
fn next(storage: &Storage, user: &UserName) -> Result<Option<Batch>, StorageError> {
    let mut batch = None;
    for found in storage.scan(Table::History, &[user.as_str().as_bytes(), &[0]].concat()).take(REMOVED) {
        let (key, value) = found?;
        let batch: &mut Batch = batch.get_or_insert_default();
        batch.remove(Table::History, &key);
        if let Ok(kept) = serde_json::from_slice::<Kept>(&value) {
            batch.remove(Table::Entry, kept.entry.id.as_str().as_bytes());
        }
    }
    Ok(batch)
}
