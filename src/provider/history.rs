//! Calls that are over, from the histories that were written with their records.

use cas::error::{Error, Fault};
use cas::text::{EntryId, Prose};
use cas::topic::history::{Entry, Query};

use super::{News, Provider, unwritten};
use crate::history::{self, Change, Kept};
use crate::storage::{Batch, StorageError};

impl cas::provider::History for Provider {
    async fn list(&self, query: &Query) -> Result<Vec<Entry>, Error> {
        let (storage, query) = (self.storage.clone(), query.clone());
        read(move || history::list(&storage, &query)).await
    }

    async fn entry(&self, entry: &EntryId) -> Result<Entry, Error> {
        Ok(self.find(entry).await?.entry)
    }

    async fn note(&self, entry: &EntryId, note: Option<Prose>) -> Result<Entry, Error> {
        let _one_at_a_time = self.entries.lock().await;
        let mut kept = self.find(entry).await?;
        kept.entry.note = note;
        let mut batch = Batch::new();
        kept.put(&mut batch);
        self.storage.write(&batch).await.map_err(|error| unwritten(&error))?;
        self.tell(Change::Changed, kept.clone());
        Ok(kept.entry)
    }

    async fn delete(&self, entry: &EntryId) -> Result<(), Error> {
        let _one_at_a_time = self.entries.lock().await;
        let kept = self.find(entry).await?;
        let mut batch = Batch::new();
        kept.remove(&mut batch);
        self.storage.write(&batch).await.map_err(|error| unwritten(&error))?;
        self.tell(Change::Deleted, kept);
        Ok(())
    }
}

impl Provider {
    /// Tells the user's other clients.
    fn tell(&self, change: Change, kept: Kept) {
        // as for all news: what does not fit is lost
        let _lost = self.news.try_send(News::Entry(change, Box::new(kept)));
    }

    async fn find(&self, entry: &EntryId) -> Result<Kept, Error> {
        let (storage, id) = (self.storage.clone(), entry.clone());
        let found = read(move || history::find(&storage, &id)).await?;
        found.ok_or_else(|| Error::new(Fault::NotFound, format!("no entry {entry}")))
    }
}

/// Reads the disk where nobody waits for it.
pub(super) async fn read<T: Send + 'static>(read: impl FnOnce() -> Result<T, StorageError> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|_| Error::new(Fault::Internal, "the store could not be read"))?.map_err(|error| unwritten(&error))
}
