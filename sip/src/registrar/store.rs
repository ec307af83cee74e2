//! The stored form of an AOR's bindings: versioned, compact, read without a panic whatever the bytes are.

use super::Binding;

/// Writes the bindings of one AOR.
#[must_use]
pub fn encode(bindings: &[Binding]) -> Vec<u8> {
    let _ = bindings;
    todo!()
}

/// Reads what [`encode`] wrote; none for other bytes, of a later version among them.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<Binding>> {
    let _ = bytes;
    todo!()
}
