//! From the bindings of an AOR to the targets of a request (RFC 3261 §16.5, RFC 3327 §5.4, RFC 5626 §5.3).

use bytestring::ByteString;

use super::{Binding, Q, Received};
use crate::message::Uri;
use crate::time::UnixTime;

/// How a request gets to a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By the first URI of the Route (RFC 3327).
    Route,
    /// Over the flow of the registration: the same connection, or for UDP the same pair of addresses.
    Flow(Received),
    /// By the contact's URI (RFC 3263).
    Contact,
}

/// One target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The Request-URI: the contact without URI headers and `method` (§19.1.5).
    pub uri: Uri,
    /// The Route header's value from the binding's Path; empty for none.
    pub route: ByteString,
    /// Where to send it.
    pub reach: Reach,
    /// The preference.
    pub q: Q,
}

/// Returns the targets of the bindings that have not expired, by q, then newest first. Of several flows of one device (RFC 5626, the
/// same instance) only the newest is a target; the others follow in `spare`.
#[must_use]
pub fn targets(bindings: &[Binding], now: UnixTime) -> Vec<Target> {
    let _ = (bindings, now);
    todo!()
}
