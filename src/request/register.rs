//! REGISTER (RFC 3261 §10.3): the user proves the password and may change the bindings of their own AOR alone.

use sip::Incoming;
use sip::digest::Side;
use sip::message::header::NameAddr;
use sip::message::{Name, Scheme};
use sip::registrar;
use tracing::info;

use super::{Context, Outcome, Registration, Rejection, Sender, auth};
use crate::pii::Pii;

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let request = &incoming.request;
    if request.uri.host().is_some_and(|host| !context.route.is_ours(host)) {
        return Err(Rejection::UnknownUser);
    }
    let Sender::User(name) = auth::sender(context, incoming, Side::Server)? else {
        return Err(Rejection::Forbidden("trunks do not register"));
    };
    let to: NameAddr = request.headers.typed(Name::To).map_err(|_| Rejection::Malformed("malformed To"))?;
    if !matches!(to.uri.scheme(), Scheme::Sip | Scheme::Sips | Scheme::Tel) {
        return Err(Rejection::Malformed("the AOR is no SIP address")); // §10.2, §10.3 step 5
    }
    let user = context.user(&to.uri)?;
    if *user.name != *name {
        return Err(Rejection::Forbidden("the AOR is another user's"));
    }
    let aor = context.aor(user)?;
    let old = context.locations.of(&aor);
    match registrar::register(request, &incoming.flow, &old, context.unix, context.registrar) {
        Ok(registered) => Ok(Outcome::Register(Box::new(Registration { aor, registered }))),
        Err(rejection) => {
            if rejection.reason == registrar::TOO_MANY {
                info!(user = %Pii(&name), most = context.registrar.max_contacts, "a device is not registered: the user has as many as there may be");
            }
            Ok(Outcome::Reply(Box::new(rejection.response(request))))
        }
    }
}
