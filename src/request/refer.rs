//! REFER outside a dialog (RFC 3515, RFC 4538): a device of a user may refer in a call that another device of the same user is in, named by
//! Target-Dialog. Any other one is refused.

use sip::digest::Side;
use sip::endpoint::Named;
use sip::{Incoming, StatusCode};

use super::{Context, Outcome, Rejection, Sender, auth};

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let Sender::User(user) = auth::sender(context, incoming, Side::Proxy)? else {
        return Err(Rejection::Forbidden("only users refer"));
    };
    match context.target_dialog {
        Ok(Some(Named::Established(session))) => Ok(Outcome::Refer { user, session }),
        Ok(Some(Named::Calling(_) | Named::Incoming(_))) => Err(Rejection::Dialog(StatusCode::REQUEST_PENDING)),
        Ok(None) => Err(Rejection::Forbidden("a REFER outside a call has to name one")),
        Err(status) => Err(Rejection::Dialog(status)),
    }
}
