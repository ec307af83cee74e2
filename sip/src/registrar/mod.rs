//! The registrar (RFC 3261 §10.3, RFC 3327, RFC 5626 §6, RFC 8599 §4): a REGISTER and the old bindings of an AOR to its new bindings and
//! the response. Pure functions: it knows neither users nor storage nor connections. Who may register is decided before.

mod binding;
mod store;
mod target;

use std::time::Duration;

use bytestring::ByteString;

use crate::message::{Headers, Host, Request, Response, StatusCode};
use crate::time::UnixTime;
use crate::transport::Flow;

pub use binding::{Binding, Q, Received};
pub use store::{decode, encode};
pub use target::{Reach, Target, targets};

/// What the registrar allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Shortest expiry; a shorter one but 0 is refused with 423. Default: 60 s.
    pub min_expires: Duration,
    /// Expiry where none is asked for. Default: 1 hour.
    pub default_expires: Duration,
    /// Longest expiry granted. Default: 1 hour.
    pub max_expires: Duration,
    /// Most bindings of an AOR. A REGISTER that would leave more is refused with 403; nothing is dropped for it. Default: 10.
    pub max_contacts: usize,
    /// Our own host names and addresses with their ports: a binding to them would be a loop, and is refused with 403. Default: none.
    pub own: Vec<(Host, u16)>,
    /// Push services that can wake a device, such as `apns` (RFC 8599 §4.1). A REGISTER that names another one is refused with 555.
    /// Default: none; then pn- parameters are kept and not looked at.
    pub push: Vec<ByteString>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_expires: Duration::from_secs(60),
            default_expires: Duration::from_secs(3600),
            max_expires: Duration::from_secs(3600),
            max_contacts: 10,
            own: Vec::new(),
            push: Vec::new(),
        }
    }
}

/// What a REGISTER changes, so that the caller knows how soon it must be on disk and whom to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: a query.
    None,
    /// Only expiry, Call-ID and CSeq of bindings that were there.
    Refreshed,
    /// More than that.
    Altered {
        /// How many bindings are new.
        added: usize,
        /// How many were removed by the request.
        removed: usize,
    },
}

/// What comes of a REGISTER that is accepted.
#[derive(Debug)]
pub struct Registered {
    /// The bindings of the AOR from now on, without those that have expired.
    pub bindings: Vec<Binding>,
    /// What the request changed.
    pub change: Change,
    /// Contact, Date and, where they apply, Path, Require, Supported and Feature-Caps of the 200.
    pub headers: Headers,
}

impl Registered {
    /// Makes the 200; it lists all current bindings (§10.3 step 8). The To tag is the caller's.
    #[must_use]
    pub fn response(&self, request: &Request) -> Response {
        let _ = request;
        todo!()
    }
}

/// A REGISTER that is refused; nothing has changed (§10.3 step 7).
#[derive(Debug, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct Rejection {
    /// 400, 403, 420, 423, 439, 500 or 555.
    pub status: StatusCode,
    /// What is wrong.
    pub reason: &'static str,
    /// Headers of the response, such as Min-Expires or Unsupported.
    pub headers: Headers,
}

/// Applies a REGISTER (§10.3 steps 6 to 8) that came over `flow`. `old` are the bindings of the AOR in To, expired ones included.
///
/// # Errors
/// See [`Rejection`].
pub fn register(request: &Request, flow: &Flow, old: &[Binding], now: UnixTime, policy: &Policy) -> Result<Registered, Rejection> {
    let _ = (request, flow, old, now, policy);
    todo!()
}
