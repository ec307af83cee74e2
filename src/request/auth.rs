//! Who sent this: a user who proved the password, here or to CAS, a trunk by its address, or a stranger, who is challenged (S5).

use sip::digest::{Side, Stale, Standing, Verdict};
use sip::{Aor, Incoming};
use tracing::info;

use super::{Context, Rejection};
use crate::config::Trunk;
use crate::pii::Pii;

/// A sender who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A user, by name.
    User(String),
    /// A trunk, by name.
    Trunk(String),
}

/// Finds out who sent a request. A trunk's REGISTER is a user's like any other: it has to prove the password.
pub(super) fn sender(context: &mut Context<'_>, incoming: &Incoming, side: Side) -> Result<Sender, Rejection> {
    if let Some(user) = context.inside {
        return Ok(Sender::User(user.to_owned()));
    }
    let source = incoming.flow.remote.ip();
    if let Some(trunk) = trunk(context, incoming).filter(|_| side == Side::Proxy) {
        return Ok(Sender::Trunk(trunk.name.as_str().to_owned()));
    }
    let request = &incoming.request;
    let credentials = context.challenger.credentials(request, side).map_err(Rejection::Malformed)?;
    let Some(credentials) = credentials else { return Err(Rejection::Challenge(side, Stale::No)) };
    let name = credentials.username().into_owned();
    let user = context.route.users.named(&name);
    let standing = match user.and_then(|user| Aor::new(&user.name, context.route.domain)) {
        Some(aor) if context.locations.of(&aor).iter().any(|b| b.received.remote.ip() == source && !b.is_expired(context.unix)) => {
            Standing::Registered
        }
        Some(_) | None => Standing::Stranger,
    };
    match context.challenger.verify(context.now, request, &credentials, user.map(|user| &user.ha1), source, standing) {
        Verdict::Ok => Ok(Sender::User(name)),
        Verdict::Challenge(stale) => {
            if stale == Stale::No {
                info!(user = %Pii(&name), %source, "wrong credentials");
            }
            Err(Rejection::Challenge(side, stale))
        }
        Verdict::Blocked => {
            info!(user = %Pii(&name), %source, "too many wrong credentials");
            Err(Rejection::Challenge(side, Stale::No))
        }
        Verdict::Malformed(reason) => Err(Rejection::Malformed(reason)),
    }
}

/// Returns the trunk that a request came from, by its address.
pub(super) fn trunk<'a>(context: &Context<'a>, incoming: &Incoming) -> Option<&'a Trunk> {
    let source = incoming.flow.remote.ip();
    context.trunks.iter().find(|trunk| trunk.addresses.iter().any(|network| network.contains(&source)))
}
