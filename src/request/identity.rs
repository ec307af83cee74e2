//! What others are told of who sends a request, and which of its headers go on to them (RFC 3325, RFC 3323): one policy for calls, which we
//! place anew, and for what we send on as a proxy. A user is who proved the password; somebody behind a trunk never passes as one of ours (S6).

use sip::message::header::NameAddr;
use sip::message::{Headers, Host, Name, Uri};
use sip::{Aor, Incoming, Method, Request, Response};

use super::{Context, Rejection, Sender};
use crate::config::Trunk;

/// What a user says of itself and of where a call came from: we know better, or do not know.
const CLAIMS: [Name; 6] =
    [Name::PPreferredIdentity, Name::PAssertedIdentity, Name::RemotePartyId, Name::Diversion, Name::HistoryInfo, Name::ReferredBy];

/// What makes a device ring in another way, answer by itself or fetch something, and what only a registrar is to read: nobody's to send on.
/// The switch alone orders a phone to answer (`call/make.rs`).
const ORDERS: [Name; 4] = [Name::AlertInfo, Name::CallInfo, Name::Path, Name::ServiceRoute];

/// The same where we have no variant of the name: RFC 8224, RFC 5373, and what phones take for it.
const OTHER_ORDERS: [&str; 6] = ["Identity", "Identity-Info", "Answer-Mode", "Priv-Answer-Mode", "P-Auto-Answer", "X-AutoAnswer"];

/// Returns the caller's identity as we assert it: for a user the AOR, for a trunk what it asserts, as somebody outside. The display name is
/// what the administrator calls the user; of whom nobody has named it is their own choice, cleaned of control characters.
pub(super) fn of(context: &Context<'_>, request: &Request, sender: &Sender) -> Result<NameAddr, Rejection> {
    let from: NameAddr = request.headers.typed(Name::From).map_err(|_| Rejection::Malformed("malformed From"))?;
    let (aor, shown) = match sender {
        Sender::User(name) => (Aor::new(name, context.route.domain), from),
        Sender::Trunk(trunk) => {
            let asserted: Option<NameAddr> = request.headers.first(Name::PAssertedIdentity).ok();
            let shown = asserted.unwrap_or(from);
            let user = shown.uri.user_unescaped().filter(|user| !user.is_empty()).unwrap_or_else(|| "anonymous".to_owned());
            (outside(context, trunk, &user), shown)
        }
    };
    let uri = aor.and_then(|aor| aor.uri()).ok_or(Rejection::Malformed("malformed From"))?;
    let given = given_name(context, sender).map(ToOwned::to_owned);
    Ok(NameAddr::new(uri).with_display(&given.or_else(|| shown.display_name()).unwrap_or_default()))
}

/// Returns what the administrator calls a user.
fn given_name<'a>(context: &Context<'a>, sender: &Sender) -> Option<&'a str> {
    match sender {
        Sender::User(name) => context.route.users.named(name)?.shown.as_deref(),
        Sender::Trunk(_) => None,
    }
}

/// A number that is nobody's here is shown as one that can be dialled here; any other name of somebody outside has the trunk for a domain.
fn outside(context: &Context<'_>, trunk: &str, user: &str) -> Option<Aor> {
    let digits = user.strip_prefix('+').unwrap_or(user);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && context.route.users.find(user).is_none() && context.route.users.room(user).is_none() {
        return Aor::new(user, context.route.domain);
    }
    Aor::new(user, &Trunk::domain(trunk)).or_else(|| Aor::new(user, NOWHERE))
}

/// The domain of those behind a trunk whose name can be part of none.
const NOWHERE: &str = "outside.invalid";

/// Returns what the others are shown of who calls.
pub(super) fn shown(request: &Request, caller: &NameAddr) -> Result<NameAddr, Rejection> {
    if is_hidden(&request.headers)? { nobody() } else { Some(caller.clone()) }.ok_or(Rejection::Malformed("malformed From"))
}

/// Returns the headers of an INVITE that go on to the devices that ring.
pub(super) fn headers(request: &Request, caller: &NameAddr, hops: u32) -> Result<Headers, Rejection> {
    let mut headers = Headers::default();
    headers.push(Name::MaxForwards, hops.to_string());
    if is_hidden(&request.headers)? {
        headers.push(Name::Privacy, "id");
    } else {
        // RFC 3325 §8: what the user says of itself is dropped; what we know takes its place.
        headers.push(Name::PAssertedIdentity, caller.to_string());
    }
    for name in [Name::Subject, Name::Priority] {
        headers.copy(&request.headers, name);
    }
    Ok(headers)
}

/// By these values of Privacy a caller asks not to be shown (RFC 3323 §4.2, RFC 3325 §9.3): of their headers and session nothing else goes on
/// when we place a call anew, so that the identity is what is left to hide.
const HIDES: [&str; 4] = ["id", "user", "header", "session"];

/// Nothing is left to do for these: History-Info never goes on (RFC 7044 §7).
const SHOWS: [&str; 3] = ["none", "history", ""];

/// Returns whether a caller asks not to be shown. Values are separated by semicolons; what separates them with commas, against the grammar,
/// is understood, too. Who insists (`critical`) on what we do not know is refused (RFC 3323 §5).
pub(super) fn is_hidden(headers: &Headers) -> Result<bool, Rejection> {
    let is_one_of = |value: &str, names: &[&str]| names.iter().any(|name| value.eq_ignore_ascii_case(name));
    let (mut hides, mut insists, mut is_known) = (false, false, true);
    for value in headers.tokens(Name::Privacy).flat_map(|value| value.split(';')).map(str::trim) {
        match () {
            () if is_one_of(value, &HIDES) => hides = true,
            () if is_one_of(value, &["critical"]) => insists = true,
            () => is_known &= is_one_of(value, &SHOWS),
        }
    }
    if insists && !is_known { Err(Rejection::Privacy) } else { Ok(hides) }
}

fn nobody() -> Option<NameAddr> {
    let uri = Uri::sip("anonymous", &Host::parse("anonymous.invalid")?, None, "")?;
    Some(NameAddr::new(uri).with_display("Anonymous"))
}

/// Checks what goes on unchanged: a user's From names that user, and a trunk's names none of ours (S6).
pub(super) fn check_from(context: &Context<'_>, incoming: &Incoming, sender: &Sender) -> Result<(), Rejection> {
    let headers = &incoming.request.headers;
    let from: NameAddr = headers.typed(Name::From).map_err(|_| Rejection::Malformed("malformed From"))?;
    let asserted: Option<NameAddr> = headers.first(Name::PAssertedIdentity).ok();
    let is_ours = |address: &NameAddr| context.user(&address.uri).is_ok();
    match sender {
        Sender::User(name) if context.user(&from.uri).is_ok_and(|user| *user.name == **name) => Ok(()),
        Sender::User(_) => Err(Rejection::Forbidden("From is not the authenticated user")),
        Sender::Trunk(_) if is_ours(&from) || asserted.as_ref().is_some_and(is_ours) => {
            Err(Rejection::Forbidden("From is a user of ours, and the sender a trunk"))
        }
        Sender::Trunk(_) => Ok(()),
    }
}

/// Who a request that is sent on says it is from.
#[derive(Clone, Debug)]
pub enum Shown {
    /// A user, as we assert it (RFC 3325 §5).
    User(NameAddr),
    /// Whoever it said before: a trunk's word is taken (RFC 3325 §6).
    AsItCame,
    /// Nobody: the sender asks not to be shown (RFC 3323).
    Nobody,
}

/// Returns what a request that is sent on shows of its sender.
pub(super) fn forwarded(context: &Context<'_>, incoming: &Incoming, sender: &Sender) -> Result<Shown, Rejection> {
    if is_hidden(&incoming.request.headers)? {
        return Ok(Shown::Nobody);
    }
    check_from(context, incoming, sender)?;
    let Sender::User(name) = sender else { return Ok(Shown::AsItCame) };
    let uri = Aor::new(name, context.route.domain).and_then(|aor| aor.uri()).ok_or(Rejection::Malformed("malformed From"))?;
    Ok(Shown::User(NameAddr::new(uri).with_display(given_name(context, sender).unwrap_or_default())))
}

/// Takes out of a request that is sent on what is not the sender's to say, and puts our word in its place.
pub fn cleanse(request: &mut Request, shown: &Shown) {
    let headers = &mut request.headers;
    ORDERS.into_iter().for_each(|name| headers.remove(name));
    OTHER_ORDERS.into_iter().for_each(|name| headers.remove_other(name));
    // only what makes a dialog comes back by the proxies on its way (RFC 3261 §16.6 step 4)
    if request.method != Method::Invite {
        headers.remove(Name::RecordRoute);
    }
    match shown {
        Shown::AsItCame => return,
        Shown::User(_) => {}
        Shown::Nobody => {
            PERSONAL.into_iter().for_each(|name| headers.remove(name));
            headers.set(Name::Privacy, "id");
        }
    }
    CLAIMS.into_iter().for_each(|name| headers.remove(name));
    if let Shown::User(identity) = shown {
        headers.push(Name::PAssertedIdentity, identity.to_string());
    }
}

/// What else tells of a sender, and nobody needs (RFC 3323 §4.1).
const PERSONAL: [Name; 5] = [Name::Contact, Name::ReplyTo, Name::InReplyTo, Name::Organization, Name::UserAgent];

/// What tells of a sender in a request that is sent on, and is needed in the responses.
const RETURNED: [Name; 3] = [Name::Via, Name::From, Name::CallId];

/// Takes out of a request on its way to a device what leads to its sender, all but the dialog's tag; the Call-ID becomes this one.
pub fn hide(request: &mut Request, call_id: &str) {
    let tag = request.from_tag().map_or_else(String::new, |tag| format!(";tag={tag}"));
    request.headers.remove(Name::Via);
    request.headers.set(Name::From, format!("\"Anonymous\" <sip:anonymous@anonymous.invalid>{tag}"));
    request.headers.set(Name::CallId, call_id);
}

/// Returns what [`hide`] takes out.
#[must_use]
pub fn hidden(request: &Request) -> Headers {
    let mut headers = Headers::default();
    RETURNED.into_iter().for_each(|name| headers.copy(&request.headers, name));
    headers
}

/// Gives a response of the device, our own Via still on top, what its request was without.
pub fn restore(response: &mut Response, hidden: &Headers) {
    [Name::From, Name::CallId].into_iter().for_each(|name| response.headers.remove(name));
    RETURNED.into_iter().for_each(|name| response.headers.copy(hidden, name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_of_privacy_hides_and_none_shows() {
        // S6; RFC 3323 §4.2
        for (value, hides) in [
            ("id", Ok(true)),
            ("ID", Ok(true)),
            ("user;id", Ok(true)),
            ("id;user", Ok(true)),
            ("id,user", Ok(true)),
            ("header;id", Ok(true)),
            ("header", Ok(true)),
            ("session", Ok(true)),
            ("id; critical", Ok(true)),
            ("x; id", Ok(true)),
            ("none", Ok(false)),
            ("none;critical", Ok(false)),
            ("critical", Ok(false)),
            ("history;critical", Ok(false)),
            ("identity", Ok(false)),
            ("", Ok(false)),
            ("id;x;critical", Err(Rejection::Privacy)),
        ] {
            let mut headers = Headers::default();
            headers.push(Name::Privacy, value);
            assert_eq!(is_hidden(&headers), hides, "{value}");
        }
        assert_eq!(is_hidden(&Headers::default()), Ok(false));
    }
}
