//! The request on its way through (§16.3, §16.4, §16.6).

use super::{Forward, Options};
use crate::message::{Host, Request, Response, Uri};
use crate::registrar::Target;

/// Tells whether a host and port are ours: our domains, and the addresses we listen on.
pub type Ours<'a> = &'a dyn Fn(&Host, Option<u16>) -> bool;

/// Checks a request (§16.3): Max-Forwards, loops, Proxy-Require. `is_sent_by` tells which Via are ours.
///
/// # Errors
/// The response: 483, 482 or 420.
pub fn validate(request: &Request, is_sent_by: Ours<'_>) -> Result<(), Box<Response>> {
    let _ = (request, is_sent_by);
    todo!()
}

/// Undoes what a strict router did, and takes our own URI from the top of Route (§16.4). Returns the URI that was taken, whose user part
/// is what we put there.
pub fn preprocess(request: &mut Request, is_ours: Ours<'_>) -> Option<Uri> {
    let _ = (request, is_ours);
    todo!()
}

/// Prepares the ACK for a 2xx, which is forwarded without state (§16.11): the same ACK always gets the same branch.
#[must_use]
pub fn forward_ack(request: &Request, target: Target, options: &Options) -> Forward {
    let _ = (request, target, options);
    todo!()
}
