//! SUBSCRIBE outside a dialog (RFC 6665): which event package of which user, and whether the sender may watch it. Strangers and trunks may
//! not; users may watch each other as far as their rights reach.

use sip::Incoming;
use sip::digest::Side;
use sip::message::header;
use sip::message::{HeaderError, Name};

use super::{Context, Outcome, Rejection, Sender, auth, identity};
use crate::presence::right::sight;
use crate::presence::watch::{Package, Watch};

/// The longest address that is kept with a subscription; documents are about the user's name where one is longer.
const MAX_ADDRESS: usize = 64;

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let request = &incoming.request;
    let sender = auth::sender(context, incoming, Side::Proxy)?;
    let Sender::User(watcher) = &sender else { return Err(Rejection::Forbidden("a trunk watches nobody")) };
    identity::check_from(context, incoming, &sender)?;
    let package = package(incoming)?;
    if !accepts(incoming, package.content_type()) {
        return Err(Rejection::NotAcceptable(package.content_type()));
    }
    let user = context.user(&request.uri)?;
    // What groups add is seen in documents; who sees nothing without them sees nothing with them.
    if context.route.users.named(watcher).and_then(|watcher| sight(watcher, user, &[])).is_none() {
        return Err(Rejection::Forbidden("no right to watch this user"));
    }
    let address = context.route.written(&request.uri);
    let address = if address.len() <= MAX_ADDRESS { address.as_str() } else { &*user.name }.into();
    Ok(Outcome::Subscribe(Watch { watcher: watcher.as_str().into(), user: (*user.name).into(), address, package }))
}

/// Returns the package that Event names; without one, none is meant.
pub(super) fn package(incoming: &Incoming) -> Result<Package, Rejection> {
    match incoming.request.headers.typed::<header::Event>(Name::Event) {
        Ok(event) => Package::parse(&event.package).ok_or(Rejection::BadEvent),
        Err(HeaderError::Missing(_)) => Err(Rejection::BadEvent),
        Err(HeaderError::Malformed(_)) => Err(Rejection::Malformed("malformed Event")),
    }
}

/// Returns true without Accept: each package has one type by default.
fn accepts(incoming: &Incoming, content_type: &str) -> bool {
    let headers = &incoming.request.headers;
    let fits = |range: &str| {
        let range = range.split(';').next().unwrap_or("").trim();
        range.eq_ignore_ascii_case(content_type) || range.eq_ignore_ascii_case("application/*") || range == "*/*"
    };
    !headers.has(Name::Accept) || headers.tokens(Name::Accept).any(fits)
}
