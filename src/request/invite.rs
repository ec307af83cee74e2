//! INVITE outside a dialog: who calls, whom, and with what identity (RFC 3261 §13, RFC 3325).

use std::time::Duration;

use sip::digest::Side;
use sip::endpoint::Named;
use sip::message::header::NameAddr;
use sip::message::{Name, Scheme};
use sip::registrar::{Reach, Target};
use sip::{DialogId, Incoming, Request, StatusCode, Transport};

use super::{Context, Entry, Invitation, Outcome, Rejection, Sender, Visit, Wish, auth, hops_left, identity};
use crate::config::MediaPath;
use crate::inside;
use crate::route::Meant;

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let request = &incoming.request;
    let sender = auth::sender(context, incoming, Side::Proxy)?;
    let hops = hops_left(request)?;
    // RFC 3261 §26.2.2: each hop is over TLS
    let is_sips = request.uri.scheme() == Scheme::Sips;
    if is_sips && !incoming.flow.transport.is_secure() && context.inside.is_none() {
        return Err(Rejection::UnsupportedScheme);
    }
    if let Some(dialog) = replaced(context, &sender)? {
        return enter(context, request, &sender, Wish::Replace(dialog));
    }
    let callee = match (context.route.find(&request.uri), &sender) {
        (Meant::User(callee), _) => callee,
        (Meant::Room(room), _) => return visit(context, request, &sender, room),
        (Meant::Feature(feature), Sender::User(_)) => return enter(context, request, &sender, Wish::Feature(feature)),
        (Meant::Feature(_) | Meant::Switch | Meant::Elsewhere | Meant::Nobody, Sender::Trunk(_)) => return Err(Rejection::UnknownUser),
        (Meant::Switch | Meant::Elsewhere | Meant::Nobody, Sender::User(user)) => {
            return Ok(Outcome::Nobody { user: user.clone(), dialled: context.route.written(&request.uri) });
        }
    };
    let (callee_srtp, callee_name) = (callee.srtp, callee.shown.clone().unwrap_or_default());
    let callee = context.aor(callee)?;
    // where there are none, the call is one that both have in their histories
    let mut targets = context.targets(&callee).unwrap_or_default();
    targets.retain(|target| !is_sips || is_secure(target));
    // who calls their own devices rings all but the one that calls
    let is_by_another = matches!(&sender, Sender::User(name) if **name != *callee.user());
    let may_be_direct =
        context.media == MediaPath::Direct && is_by_another && !targets.is_empty() && !identity::is_hidden(&request.headers)?;
    if may_be_direct && can_talk_directly(context, incoming, &targets) {
        return Ok(Outcome::Forward(targets, identity::forwarded(context, incoming, &sender)?));
    }
    let caller = identity::of(context, request, &sender)?;
    let from = identity::shown(request, &caller)?;
    let headers = identity::headers(request, &caller, hops)?;
    let to = NameAddr::new(callee.uri().ok_or(Rejection::UnknownUser)?).with_display(&callee_name);
    let who = caller_of(context, &sender, &caller);
    let dialled = context.route.written(&request.uri);
    let caller_srtp = context.srtp(&sender);
    let expires = request.headers.number(Name::Expires).ok().flatten().map(|seconds| Duration::from_secs(seconds.into()));
    let invitation = Invitation { sender, caller: who, dialled, callee, from, to, headers, expires, targets, caller_srtp, callee_srtp };
    Ok(Outcome::Call(Box::new(invitation)))
}

/// Returns the dialog whose place an INVITE asks for.
fn replaced(context: &Context<'_>, sender: &Sender) -> Result<Option<DialogId>, Rejection> {
    match (context.replaced, sender) {
        (Ok(Some(Named::Established(dialog) | Named::Calling(dialog) | Named::Incoming(dialog))), Sender::User(_)) => Ok(Some(dialog)),
        // Where we only proxy, the dialog is the callee's to know.
        (Err(StatusCode::NO_TRANSACTION), _) if context.media == MediaPath::Direct => Ok(None),
        (Err(status), _) => Err(Rejection::Dialog(status)),
        (Ok(Some(_)), Sender::Trunk(_)) => Err(Rejection::Forbidden("only users take a place in a call")),
        (Ok(None), _) => Ok(None),
    }
}

/// An INVITE to the number of a room.
fn visit(context: &Context<'_>, request: &Request, sender: &Sender, room: &str) -> Result<Outcome, Rejection> {
    let caller = identity::of(context, request, sender)?;
    let from = identity::shown(request, &caller)?;
    let srtp = context.srtp(sender);
    let caller = caller_of(context, sender, &caller);
    Ok(Outcome::Visit(Box::new(Visit { room: room.to_owned(), caller, sender: sender.clone(), from, srtp })))
}

/// Who calls, for the record: an AOR, or of somebody behind a trunk the number or what the phones show in its place, and the trunk.
fn caller_of(context: &Context<'_>, sender: &Sender, caller: &NameAddr) -> String {
    let aor = || caller.uri.aor().map_or_else(String::new, |aor| aor.to_string());
    match sender {
        Sender::User(_) => aor(),
        Sender::Trunk(trunk) if caller.uri.host().is_some_and(|host| context.route.is_ours(host)) => {
            format!("{}@{trunk}", caller.uri.user())
        }
        Sender::Trunk(trunk) => format!("{}@{trunk}", aor()),
    }
}

fn enter(context: &Context<'_>, request: &Request, sender: &Sender, wish: Wish) -> Result<Outcome, Rejection> {
    let Sender::User(user) = sender else { return Err(Rejection::Forbidden("only users take a place in a call")) };
    let caller = identity::of(context, request, sender)?;
    let from = identity::shown(request, &caller)?;
    let caller = caller_of(context, sender, &caller);
    Ok(Outcome::Enter(Box::new(Entry { user: user.clone(), caller, from, srtp: context.srtp(sender), wish })))
}

/// Whether the media of the caller's device can be that of each of the callee's: a browser and a phone need us between them, and who has no
/// SIP of its own is in calls of ours alone.
fn can_talk_directly(context: &Context<'_>, incoming: &Incoming, targets: &[Target]) -> bool {
    if context.inside.is_some() || targets.iter().any(is_thin) {
        return false;
    }
    let is_browser = incoming.flow.transport.is_websocket();
    targets.iter().all(|target| target.transport().is_some_and(Transport::is_websocket) == is_browser)
}

/// Whether a device has no SIP of its own.
fn is_thin(target: &Target) -> bool {
    matches!(&target.reach, Reach::Flow(received) if inside::is_inside(received))
}

/// Whether nobody on the way to a device can read what it is sent.
fn is_secure(target: &Target) -> bool {
    is_thin(target) || target.uri.scheme() == Scheme::Sips || target.transport().is_some_and(Transport::is_secure)
}
