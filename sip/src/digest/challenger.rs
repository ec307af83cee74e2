//! The server's side (RFC 3261 §22.1 to §22.3, RFC 7616 §3.3 to §3.4).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Credentials, Ha1, Standing};
use crate::message::{Method, Request, Response};

/// Which nonces are bound to the address they were sent to. Those for REGISTER always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Only those for REGISTER: for peers that send from several addresses.
    Register,
    /// All.
    All,
}

/// What the challenger allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which nonces are bound to an address. Default: all.
    pub bind: Bind,
    /// How long a nonce is good for REGISTER. Default: 65 minutes, so that a refresh within the hour needs no second round trip;
    /// harmless, because a count is taken once.
    pub register_lifetime: Duration,
    /// How long a nonce is good for any other request. Default: 5 minutes.
    pub lifetime: Duration,
    /// Wrong answers per minute that one account, and one address, may give. Default: 10.
    pub guesses_per_minute: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            bind: Bind::All,
            register_lifetime: Duration::from_secs(65 * 60),
            lifetime: Duration::from_secs(5 * 60),
            guesses_per_minute: 10,
        }
    }
}

/// Whether the answer was right but its nonce was not (RFC 7616 §3.3): then the client tries again without asking its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// `stale=true`
    Yes,
    /// No `stale` parameter.
    No,
}

/// The result of [`Challenger::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sender knows the password of `credentials.username()`. Whether that user may send this request is the caller's question.
    Ok,
    /// Challenge it (again).
    Challenge(Stale),
    /// Too many wrong answers for this account or from this address. Answer exactly as to `Challenge(Stale::No)`: whoever guesses must
    /// not learn that the guess did not count. It is a verdict of its own for the log.
    Blocked,
    /// 400 with this reason.
    Malformed(&'static str),
}

/// Makes challenges and checks the answers.
pub struct Challenger {}

impl Challenger {
    /// Makes a challenger. The secret is random and of this process alone: with an old one, answers that were used before the start
    /// could be used again. `started` is any instant before the first call.
    #[must_use]
    pub fn new(secret: [u8; 32], realm: &str, policy: Policy, started: Instant) -> Self {
        let _ = (secret, realm, policy, started);
        todo!()
    }

    /// Returns the realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        todo!()
    }

    /// Finds the credentials for our realm among the rows of Authorization and Proxy-Authorization. None means: challenge it, without
    /// [`Challenger::verify`].
    ///
    /// # Errors
    /// The row for our realm is malformed: 400 with this reason.
    pub fn credentials<'r>(&self, request: &'r Request) -> Result<Option<Credentials<'r>>, &'static str> {
        let _ = request;
        todo!()
    }

    /// Checks credentials. `ha1` is that of `credentials.username()`, none if there is no such user: the work and the verdict are the
    /// same as for a wrong password.
    pub fn verify(
        &mut self,
        now: Instant,
        request: &Request,
        credentials: &Credentials<'_>,
        ha1: Option<&Ha1>,
        source: IpAddr,
        standing: Standing,
    ) -> Verdict {
        let _ = (now, request, credentials, ha1, source, standing);
        todo!()
    }

    /// Adds our challenges to a 401 (WWW-Authenticate) or 407 (Proxy-Authenticate): SHA-256 above MD5 (RFC 8760 §2.4). `unique` is
    /// another number for each call, such as a random one: two clients behind one address must not be given the same nonce.
    pub fn challenge(&self, now: Instant, response: &mut Response, method: &Method, source: IpAddr, unique: u32, stale: Stale) {
        let _ = (now, response, method, source, unique, stale);
        todo!()
    }
}
