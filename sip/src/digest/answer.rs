//! The client's side (RFC 3261 §22.2, §22.3, RFC 8760 §2.5): answers to challenges for the configured realm only.

use crate::message::{Name, Request, Response};

/// The user name and password we have at a peer. It has no `Debug`.
#[derive(Clone)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// The one realm to answer; none answers whatever realm the peer names, so use it only for challenges of that very peer (S12).
    pub realm: Option<String>,
}

/// What was answered so far in one attempt to get a request through.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    _private: (),
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No challenge is for our realm.
    #[error("challenged for another realm")]
    OtherRealm,
    /// None uses an algorithm and a qop that we know.
    #[error("no challenge we can answer")]
    Unsupported,
    /// Our last answer was refused: the user name or the password is wrong.
    #[error("the answer was refused")]
    Refused,
}

/// Answers the 401 or 407 to a request of ours: replaces its Authorization or Proxy-Authorization for the challenged realm. The caller
/// then raises CSeq and sends it with a new branch. Only the topmost challenge that we support is answered (RFC 8760 §2.5), each nonce once,
/// and a second one only if the server calls the first stale (S12).
///
/// `cnonce` is random, at least 64 bits.
///
/// # Errors
/// See [`Refusal`]; the request is unchanged then.
pub fn answer(answered: &mut Answered, login: &Login, response: &Response, request: &mut Request, cnonce: &str) -> Result<Name, Refusal> {
    let _ = (answered, login, response, request, cnonce);
    todo!()
}
