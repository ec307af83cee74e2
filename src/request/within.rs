//! Requests in a dialog of ours that did not come by its peer's flow (RFC 3261 §12.2.2, §22; RFC 5626 §5.3). Who knows Call-ID and tags has
//! proved nothing (S5): the sender must be the one whom the dialog is with, by the flow of a registration, by the trunk's addresses, or by
//! the password. So a phone that moves in mid-call goes on.

use sip::digest::Side;
use sip::registrar::Received;
use sip::{Aor, Incoming, Method, StatusCode};

use super::{Context, Rejection, Sender, auth};

/// Checks that whom a dialog is with has sent a request in it; none if the dialog is nobody's.
///
/// # Errors
/// See [`Rejection`]. An ACK is not answered.
pub fn check(context: &mut Context<'_>, incoming: &Incoming, owner: Option<&Sender>) -> Result<(), Rejection> {
    let is_theirs = match owner {
        Some(Sender::Trunk(name)) => auth::trunk(context, incoming).is_some_and(|trunk| trunk.name.as_str() == name),
        Some(Sender::User(name)) => context.inside == Some(name) || is_registered(context, incoming, name),
        None => false,
    };
    match (&incoming.request.method, owner) {
        _ if is_theirs => Ok(()),
        // §22.1: neither can be challenged, as neither can be sent again
        (Method::Ack | Method::Cancel, _) => Err(Rejection::Dialog(StatusCode::NO_TRANSACTION)),
        (_, Some(owner @ Sender::User(_))) if auth::sender(context, incoming, Side::Proxy)? == *owner => Ok(()),
        _ => Err(Rejection::Forbidden("the dialog is another's")),
    }
}

/// Returns true for the flow of a registration of this user.
fn is_registered(context: &Context<'_>, incoming: &Incoming, name: &str) -> bool {
    let received = Received::from(&incoming.flow);
    let lives = |aor: &Aor| context.locations.of(aor).iter().any(|b| b.received == received && !b.is_expired(context.unix));
    Aor::new(name, context.route.domain).is_some_and(|aor| lives(&aor))
}
