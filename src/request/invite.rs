//! INVITE outside a dialog: who calls, whom, and with what identity (RFC 3261 §13, RFC 3325).

use sip::digest::Side;
use sip::endpoint::Named;
use sip::message::header::NameAddr;
use sip::message::{Headers, Host, Name, Uri};
use sip::registrar::{Reach, Target};
use sip::{Aor, Incoming, Request, StatusCode, Transport};

use super::{Context, Entry, Invitation, Outcome, Rejection, Sender, Visit, Wish, auth, hops_left};
use crate::config::MediaPath;
use crate::inside;

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let request = &incoming.request;
    let sender = auth::sender(context, incoming, Side::Proxy)?;
    let hops = hops_left(request)?;
    if let Some(wish) = wish(context, request, &sender)? {
        return enter(context, request, &sender, wish);
    }
    if let Some(visit) = visit(context, request, &sender)? {
        return Ok(Outcome::Visit(Box::new(visit)));
    }
    let callee = context.user(&request.uri)?;
    let callee_srtp = callee.srtp;
    let callee = context.aor(callee)?;
    let targets = context.targets(&callee)?;
    if context.media == MediaPath::Direct && matches!(sender, Sender::User(_)) && can_talk_directly(context, incoming, &targets) {
        auth::check_from(context, incoming, &sender)?;
        return Ok(Outcome::Forward(targets, auth::asserted(context, &sender)));
    }
    let caller = identity(context, request, &sender)?;
    let mut headers = Headers::default();
    headers.push(Name::MaxForwards, hops.to_string());
    let from = shown(request, &caller)?;
    if is_anonymous(request) {
        headers.push(Name::Privacy, "id");
    } else {
        // RFC 3325 §8: what the user says of itself is dropped; what we know takes its place.
        headers.push(Name::PAssertedIdentity, caller.to_string());
    }
    for name in [Name::Subject, Name::AlertInfo, Name::Priority] {
        headers.copy(&request.headers, name);
    }
    let to = callee.uri().map(NameAddr::new).ok_or(Rejection::UnknownUser)?;
    let who = caller_of(&sender, &caller);
    let dialled = request.uri.user().to_owned();
    let caller_srtp = context.srtp(&sender);
    let invitation = Invitation { sender, caller: who, dialled, callee, from, to, headers, targets, caller_srtp, callee_srtp };
    Ok(Outcome::Call(Box::new(invitation)))
}

/// Returns what an INVITE asks for that makes no new call: the place of a dialog, or what a feature code stands for.
fn wish(context: &Context<'_>, request: &Request, sender: &Sender) -> Result<Option<Wish>, Rejection> {
    match (context.replaced, sender) {
        (Ok(Some(Named::Established(dialog) | Named::Calling(dialog) | Named::Incoming(dialog))), Sender::User(_)) => {
            return Ok(Some(Wish::Replace(dialog)));
        }
        // Where we only proxy, the dialog is the callee's to know.
        (Err(StatusCode::NO_TRANSACTION), _) if context.media == MediaPath::Direct => {}
        (Err(status), _) => return Err(Rejection::Dialog(status)),
        (Ok(Some(_)), Sender::Trunk(_)) => return Err(Rejection::Forbidden("only users take a place in a call")),
        (Ok(None), _) => {}
    }
    let is_ours = request.uri.host().is_none_or(|host| context.is_ours(host));
    let Some(dialled) = request.uri.user_unescaped().filter(|_| is_ours && matches!(sender, Sender::User(_))) else { return Ok(None) };
    Ok(context.features.find(&dialled).map(Wish::Feature))
}

/// Returns the visit that an INVITE to the number of a room is.
fn visit(context: &Context<'_>, request: &Request, sender: &Sender) -> Result<Option<Visit>, Rejection> {
    let is_ours = request.uri.host().is_none_or(|host| context.is_ours(host));
    let room = request.uri.user_unescaped().filter(|dialled| is_ours && (context.is_room)(dialled));
    let Some(room) = room else { return Ok(None) };
    let caller = identity(context, request, sender)?;
    let from = shown(request, &caller)?;
    let srtp = context.srtp(sender);
    Ok(Some(Visit { room, caller: caller_of(sender, &caller), sender: sender.clone(), from, srtp }))
}

/// Who calls, for the record.
fn caller_of(sender: &Sender, caller: &NameAddr) -> String {
    match sender {
        Sender::User(_) => caller.uri.aor().map_or_else(String::new, |aor| aor.to_string()),
        Sender::Trunk(trunk) => format!("{}@{trunk}", caller.uri.user()),
    }
}

fn is_anonymous(request: &Request) -> bool {
    request.headers.has_token(Name::Privacy, "id") || request.headers.has_token(Name::Privacy, "user")
}

/// What the others are shown of who calls.
fn shown(request: &Request, caller: &NameAddr) -> Result<NameAddr, Rejection> {
    if is_anonymous(request) { nobody() } else { Some(caller.clone()) }.ok_or(Rejection::Malformed("malformed From"))
}

fn enter(context: &Context<'_>, request: &Request, sender: &Sender, wish: Wish) -> Result<Outcome, Rejection> {
    let Sender::User(user) = sender else { return Err(Rejection::Forbidden("only users take a place in a call")) };
    let from = identity(context, request, sender)?;
    let caller = from.uri.aor().map_or_else(String::new, |aor| aor.to_string());
    Ok(Outcome::Enter(Box::new(Entry { user: user.clone(), caller, from, srtp: context.srtp(sender), wish })))
}

/// Whether the media of the caller's device can be that of each of the callee's: a browser and a phone need us between them, and who has no
/// SIP of its own is in calls of ours alone.
fn can_talk_directly(context: &Context<'_>, incoming: &Incoming, targets: &[Target]) -> bool {
    let is_thin = |target: &Target| matches!(&target.reach, Reach::Flow(received) if inside::is_inside(received));
    if context.inside.is_some() || targets.iter().any(is_thin) {
        return false;
    }
    let is_browser = incoming.flow.transport.is_websocket();
    targets.iter().all(|target| target.transport().is_some_and(Transport::is_websocket) == is_browser)
}

/// The caller's identity as we assert it: for a user the AOR, for a trunk the number it asserts, in our domain (S6). The display name
/// is the caller's choice, cleaned of control characters.
fn identity(context: &Context<'_>, request: &Request, sender: &Sender) -> Result<NameAddr, Rejection> {
    let from: NameAddr = request.headers.typed(Name::From).map_err(|_| Rejection::Malformed("malformed From"))?;
    let (aor, shown) = match sender {
        Sender::User(name) => (Aor::new(name, context.domain), from),
        Sender::Trunk(_) => {
            let asserted: Option<NameAddr> = request.headers.first(Name::PAssertedIdentity).ok();
            let shown = asserted.unwrap_or(from);
            let user = shown.uri.user_unescaped().filter(|user| !user.is_empty()).unwrap_or_else(|| "anonymous".to_owned());
            (Aor::new(&user, context.domain), shown)
        }
    };
    let uri = aor.and_then(|aor| aor.uri()).ok_or(Rejection::Malformed("malformed From"))?;
    Ok(NameAddr::new(uri).with_display(&shown.display_name().unwrap_or_default()))
}

fn nobody() -> Option<NameAddr> {
    let uri = Uri::sip("anonymous", &Host::parse("anonymous.invalid")?, None, "")?;
    Some(NameAddr::new(uri).with_display("Anonymous"))
}
