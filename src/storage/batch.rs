//! Batch: the changes of one write, encoded in one buffer that is copied into the queue and read by the backend.
//!
//! A change is: length of the key (with its table's byte), length of the value plus one (0 = remove), key, value. It must
//! not know who reads it; sled also keeps it as an intent (`sled.rs`).

use super::{StorageError, Table};

/// Longest key in bytes; a longer one is refused by `submit`.
pub const MAX_KEY: usize = 512;
/// Longest value in bytes; a longer one is refused by `submit`. Larger things (recordings, pictures) are files.
pub const MAX_VALUE: usize = 16 * 1024;
/// Most bytes of a batch with several changes, overhead of 9 a change included; a larger one is refused by `submit`.
pub const MAX_BATCH: usize = 16 * 1024;

const HEADER: usize = 8;

/// Collects puts and removes that become durable together or not at all; can be cleared and used again.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    changes: usize,
    refused: Option<StorageError>,
}

impl Batch {
    /// Returns an empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value` under `key`; a later change of the same key wins.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> &mut Self {
        if value.len() > MAX_VALUE {
            self.refuse("value", value.len(), MAX_VALUE);
        } else {
            self.push(table, key, Some(value));
        }
        self
    }

    /// Removes `key`, if it is there.
    pub fn remove(&mut self, table: Table, key: &[u8]) -> &mut Self {
        self.push(table, key, None);
        self
    }

    /// Adds the changes of another batch behind these.
    pub fn append(&mut self, other: Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.changes += other.changes;
        self.refused = self.refused.take().or(other.refused);
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.changes = 0;
        self.refused = None;
    }

    /// Returns the encoded changes of a batch that may be written.
    pub(super) fn checked(&self) -> Result<&[u8], StorageError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if self.changes > 1 && self.bytes.len() > MAX_BATCH {
            return Err(StorageError::TooLarge { part: "batch", bytes: self.bytes.len(), limit: MAX_BATCH });
        }
        Ok(&self.bytes)
    }

    fn push(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        if key.len() > MAX_KEY {
            return self.refuse("key", key.len(), MAX_KEY);
        }
        let key_len = u32::try_from(1 + key.len()).expect("at most MAX_KEY + 1");
        let value_len = u32::try_from(value.map_or(0, |v| v.len() + 1)).expect("at most MAX_VALUE + 1");
        self.bytes.reserve(HEADER + 1 + key.len() + value.map_or(0, <[u8]>::len));
        self.bytes.extend_from_slice(&key_len.to_le_bytes());
        self.bytes.extend_from_slice(&value_len.to_le_bytes());
        self.bytes.push(table as u8);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.changes += 1;
    }

    fn refuse(&mut self, part: &'static str, bytes: usize, limit: usize) {
        self.refused = Some(StorageError::TooLarge { part, bytes, limit });
    }
}

/// One change: the key with its table's byte, and the value to put (none removes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

/// Reads the changes of an encoded batch in order; bytes that are no batch end it early, which [`Self::is_whole`] tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changes<'a>(pub(crate) &'a [u8]);

impl<'a> Changes<'a> {
    /// Returns the encoded bytes that are left.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Tells whether there is exactly one change left.
    pub(crate) fn is_single(&self) -> bool {
        let mut rest = *self;
        rest.next().is_some() && rest.0.is_empty()
    }

    /// Tells whether the bytes are a batch to their end.
    pub(crate) fn is_whole(&self) -> bool {
        let mut rest = *self;
        while rest.next().is_some() {}
        rest.0.is_empty()
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        let (key_len, rest) = self.0.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let key_len = usize::try_from(u32::from_le_bytes(*key_len)).ok()?;
        let value_len = usize::try_from(u32::from_le_bytes(*value_len)).ok()?;
        let (key, rest) = rest.split_at_checked(key_len)?;
        let (value, rest) = rest.split_at_checked(value_len.saturating_sub(1))?;
        self.0 = rest;
        Some(Change { key, value: (value_len > 0).then_some(value) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_in_order_with_empty_values_and_removes_apart() {
        let mut batch = Batch::new();
        batch.put(Table::User, b"ann", b"1").put(Table::Cdr, b"", b"").remove(Table::Binding, b"bob");
        let changes = Changes(batch.checked().unwrap());
        assert!(changes.is_whole() && !changes.is_single());
        let read: Vec<_> = changes.collect();
        assert_eq!(read[0], Change { key: b"\x02ann", value: Some(b"1") });
        assert_eq!(read[1], Change { key: b"\x05", value: Some(b"") });
        assert_eq!(read[2], Change { key: b"\x04bob", value: None });
        batch.clear();
        assert_eq!(Changes(batch.checked().unwrap()).count(), 0);
    }

    #[test]
    fn a_batch_cut_anywhere_is_not_whole() {
        let mut batch = Batch::new();
        batch.put(Table::User, b"ann", b"value");
        let bytes = batch.checked().unwrap();
        for cut in 1..bytes.len() {
            assert!(!Changes(&bytes[..cut]).is_whole(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_with_its_size() {
        let too_large = |part, bytes, limit| Err(StorageError::TooLarge { part, bytes, limit });
        let mut batch = Batch::new();
        batch.put(Table::User, b"k", &[0; MAX_VALUE]);
        assert!(batch.checked().is_ok());
        batch.put(Table::User, b"l", b"");
        assert!(matches!(batch.checked(), Err(StorageError::TooLarge { part: "batch", .. })));
        let mut batch = Batch::new();
        batch.put(Table::User, b"k", &[0; MAX_VALUE + 1]);
        assert_eq!(batch.checked(), too_large("value", MAX_VALUE + 1, MAX_VALUE));
        let mut batch = Batch::new();
        batch.remove(Table::User, &[0; MAX_KEY + 1]);
        assert_eq!(batch.checked(), too_large("key", MAX_KEY + 1, MAX_KEY));
    }
}
