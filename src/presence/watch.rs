//! Who watches whom, and the form in which a subscription is kept (RFC 6665): it outlives the process. The dialog in it is `sip`'s affair.

use std::sync::Arc;

use sip::SubscriptionId;
use sip::dialog::subscription::MAX_NOTIFIES;

use super::{dialog_info, pidf};
use crate::storage::{Batch, Storage, StorageError, Table};

/// First byte of each record.
const FORM: u8 = 1;
/// Under which the starts of the process are counted.
const STARTS: &[u8] = b"starts";
/// Records that are taken out at once.
const AT_ONCE: usize = 500;

/// An event package that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Package {
    /// `presence` (RFC 3856).
    Presence,
    /// `dialog` (RFC 4235).
    Dialog,
}

impl Package {
    /// Reads its name, which is compared byte by byte (RFC 6665 §8.2.1).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "presence" => Some(Self::Presence),
            "dialog" => Some(Self::Dialog),
            _ => None,
        }
    }

    /// Returns the type of its documents.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Presence => pidf::TYPE,
            Self::Dialog => dialog_info::TYPE,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Presence => 1,
            Self::Dialog => 2,
        }
    }
}

/// A user who watches another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The user who watches.
    pub watcher: Arc<str>,
    /// The user who is watched.
    pub user: Arc<str>,
    /// Under which name or number: it is what the documents are about, for phones compare that with what they asked for.
    pub address: Arc<str>,
    /// What is watched.
    pub package: Package,
}

/// A subscription as the store has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// Who watches whom.
    pub watch: Watch,
    /// The version of the next document when it was kept (RFC 4235 §4.1.1).
    pub version: u32,
    /// The start of the process that kept it.
    pub start: u32,
    /// What the SIP endpoint has to know.
    pub dialog: Vec<u8>,
}

impl Kept {
    /// Adds the write that makes it last.
    pub fn put(&self, id: SubscriptionId, batch: &mut Batch) {
        let Watch { watcher, user, address, package } = &self.watch;
        let mut value = Vec::with_capacity(16 + watcher.len() + user.len() + address.len() + self.dialog.len());
        value.extend([FORM, package.number()]);
        value.extend(self.start.to_be_bytes());
        value.extend(self.version.to_be_bytes());
        for name in [watcher, user, address] {
            // a longer name than that is no user's
            value.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
            value.extend(name.as_bytes());
        }
        value.extend(&self.dialog);
        batch.put(Table::Subscription, &id.number().to_be_bytes(), &value);
    }

    /// Adds the write that nothing is left of a subscription.
    pub fn remove(id: SubscriptionId, batch: &mut Batch) {
        batch.remove(Table::Subscription, &id.number().to_be_bytes());
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let ([form, package], rest) = value.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (watcher, rest) = name(rest)?;
        let (user, rest) = name(rest)?;
        let (address, dialog) = name(rest)?;
        let package = [Package::Presence, Package::Dialog].into_iter().find(|one| one.number() == *package)?;
        let (start, version) = (u32::from_be_bytes(*start), u32::from_be_bytes(*version));
        (*form == FORM).then(|| Self { watch: Watch { watcher, user, address, package }, version, start, dialog: dialog.to_vec() })
    }

    /// Returns the version of the next document in a later start: none is used twice, although the store does not hear of each.
    #[must_use]
    pub fn version_in(&self, start: u32) -> u32 {
        self.version.saturating_add(start.saturating_sub(self.start).saturating_mul(MAX_NOTIFIES))
    }
}

fn name(bytes: &[u8]) -> Option<(Arc<str>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(name).ok()?.into(), rest))
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Found {
    /// Which start of the process on this store it is.
    pub start: u32,
    /// The subscriptions of earlier ones.
    pub subscriptions: Vec<(SubscriptionId, Kept)>,
}

impl Found {
    /// Counts a start and reads what the store has; what cannot be read is taken out.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn load(storage: &Storage) -> Result<Self, StorageError> {
        let before = storage.get(Table::Meta, STARTS)?.and_then(|value| value.try_into().ok()).map_or(0, u32::from_be_bytes);
        let mut found = Self { start: before.saturating_add(1), subscriptions: Vec::new() };
        storage.write(Batch::new().put(Table::Meta, STARTS, &found.start.to_be_bytes())).await?;
        for entry in storage.scan(Table::Subscription, b"") {
            let (key, value) = entry?;
            let id = key.as_slice().try_into().map(|number| SubscriptionId::from_number(u64::from_be_bytes(number)));
            match (id, Kept::parse(&value)) {
                (Ok(id), Some(kept)) => found.subscriptions.push((id, kept)),
                (Ok(_) | Err(_), _) => storage.write(Batch::new().remove(Table::Subscription, &key)).await?,
            }
        }
        Ok(found)
    }
}

/// Returns the writes that nothing is left of these subscriptions.
pub fn removed(ids: &[SubscriptionId]) -> impl Iterator<Item = Batch> + '_ {
    ids.chunks(AT_ONCE).map(|ids| {
        let mut batch = Batch::new();
        ids.iter().for_each(|id| Kept::remove(*id, &mut batch));
        batch
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(start: u32) -> Kept {
        let watch = Watch { watcher: "bob".into(), user: "ann".into(), address: "501".into(), package: Package::Dialog };
        Kept { watch, version: 7, start, dialog: b"dialog".to_vec() }
    }

    #[tokio::test]
    async fn a_subscription_outlives_the_process_and_what_is_removed_does_not() {
        let (storage, memory) = Storage::memory();
        assert_eq!(Found::load(&storage).await.unwrap().start, 1);
        let mut batch = Batch::new();
        for number in 0..1200 {
            kept(1).put(SubscriptionId::from_number(number), &mut batch);
            storage.write(&batch).await.unwrap();
            batch.clear();
        }
        let gone: Vec<_> = (1..1200).map(SubscriptionId::from_number).collect();
        for batch in removed(&gone) {
            storage.write(&batch).await.unwrap();
        }
        drop(storage);
        let found = Found::load(&memory.open()).await.unwrap();
        assert_eq!((found.start, &found.subscriptions[..]), (2, &[(SubscriptionId::FIRST, kept(1))][..]));
        assert_eq!(kept(1).version_in(1), 7);
        assert_eq!(kept(1).version_in(3), 7 + 2 * MAX_NOTIFIES);
        assert_eq!(kept(1).version_in(u32::MAX), u32::MAX);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_taken_out() {
        let (storage, _memory) = Storage::memory();
        let mut batch = Batch::new();
        kept(1).put(SubscriptionId::FIRST, &mut batch);
        storage.write(&batch).await.unwrap();
        let whole = storage.get(Table::Subscription, &[0; 8]).unwrap().unwrap();
        for end in 0..whole.len() {
            assert_eq!(Kept::parse(&whole[..end]).is_some(), end >= whole.len() - 6, "cut at {end}");
        }
        storage.write(Batch::new().put(Table::Subscription, b"short", &whole).put(Table::Subscription, &[9; 8], b"x")).await.unwrap();
        assert_eq!(Found::load(&storage).await.unwrap().subscriptions.len(), 1);
        assert_eq!(storage.scan(Table::Subscription, b"").count(), 1);
    }
}
