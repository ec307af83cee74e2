//! A stateful proxy (RFC 3261 §16, RFC 5393): [`validate`], [`preprocess`], then one [`Proxy`] for each request that is forwarded. It
//! sees messages, branches and targets; transactions, next hops and flows are the caller's.
//!
//! The life of a request: `validate` → `preprocess` → choose targets → `Proxy::new` → `Output::Forward` for each branch, which the caller
//! sends in a client transaction with the given branch parameter → `Input::Response` … → `Output::Respond` → `Output::Done`.

mod request;

use std::time::{Duration, Instant};

use bytestring::ByteString;

use crate::message::{Request, Response, Uri};
use crate::registrar::{Reach, Target};

pub use request::{Ours, forward_ack, preprocess, validate};

/// Most branches of one request; further targets are not tried.
pub const MAX_BRANCHES: usize = 32;

/// Timer C: how long a branch may ring without another provisional response (§16.6 item 11: more than three minutes).
pub const TIMER_C: Duration = Duration::from_secs(181);

/// How to forward.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Our URIs for Record-Route, the one the callee's side must use last (RFC 5658); empty: we do not stay in the path.
    pub record_route: Vec<Uri>,
    /// Another value for each request, such as a random number in hex: the first part of the branch.
    pub unique: ByteString,
    /// Our digest realm: credentials for it end here (S12).
    pub realm: ByteString,
}

/// A request to send on.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Which branch this is; names it in inputs and outputs.
    pub branch: usize,
    /// The request, all but our own Via, whose transport and address are known only when the next hop is.
    pub request: Request,
    /// The branch parameter of our Via.
    pub via_branch: ByteString,
    /// Where it goes (§16.6 item 7): the URI to locate, unless `reach` is a flow.
    pub next_hop: Uri,
    /// How to get there.
    pub reach: Reach,
}

/// What [`Proxy`] takes. Branches that do not exist, and input after their end, change nothing.
#[derive(Debug)]
pub enum Input {
    /// A response on a branch, our Via still on top.
    Response(usize, Response),
    /// The branch's client transaction timed out (timer B or F).
    Timeout(usize),
    /// The request could not be sent on that branch.
    TransportError(usize),
    /// A CANCEL for the request, with its Reason if it has one; the CANCEL itself was answered by the caller with 200.
    Cancel(Option<ByteString>),
}

/// What [`Proxy`] wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this in a new client transaction.
    Forward(Forward),
    /// Send this in the server transaction.
    Respond(Response),
    /// Send CANCEL for this branch, with this value of Reason if not empty (RFC 3326). It is given only once a provisional response has
    /// come (§9.1).
    Cancel(usize, ByteString),
    /// All is over.
    Done,
}

/// The response context of one forwarded request (§16.7).
#[derive(Debug)]
pub struct Proxy {}

impl Proxy {
    /// Starts forwarding a validated and preprocessed request to all targets at once.
    #[must_use]
    pub fn new(now: Instant, request: Request, targets: Vec<Target>, options: &Options) -> Self {
        let _ = (now, request, targets, options);
        todo!()
    }

    /// Takes an input.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// Handles timer C, and branches that stay silent after their CANCEL.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// Returns when to call [`Proxy::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
}
