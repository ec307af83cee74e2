//! MESSAGE, INFO and OPTIONS for a user: sent on to the user's devices as a proxy does (RFC 3261 §16).

use sip::Incoming;
use sip::digest::Side;

use super::{Context, Outcome, Rejection, Sender, auth, hops_left, identity};

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let sender = auth::sender(context, incoming, Side::Proxy)?;
    forward(context, incoming, &sender)
}

/// Sends on what a sender who is known already asks a user.
pub(super) fn forward(context: &Context<'_>, incoming: &Incoming, sender: &Sender) -> Result<Outcome, Rejection> {
    hops_left(&incoming.request)?;
    let shown = identity::forwarded(context, incoming, sender)?;
    let user = context.user(&incoming.request.uri)?;
    let aor = context.aor(user)?;
    Ok(Outcome::Forward(context.targets(&aor)?, shown))
}
