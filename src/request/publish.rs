//! PUBLISH (RFC 3903): what a device says of its own user. Nobody publishes for another.

use sip::dialog::subscription::interval;
use sip::digest::Side;
use sip::message::Name;
use sip::{Incoming, Request};

use super::subscribe::{Package, package};
use super::{Context, Outcome, Rejection, Sender, auth, identity};
use crate::presence::{Publish, pidf};

/// A PUBLISH that may be taken.
#[derive(Debug)]
pub struct Publication {
    /// Whose it is.
    pub user: Box<str>,
    /// What it says.
    pub publish: Publish,
}

pub(super) fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let request = &incoming.request;
    let sender = auth::sender(context, incoming, Side::Proxy)?;
    let Sender::User(name) = &sender else { return Err(Rejection::Forbidden("a trunk publishes nothing")) };
    identity::check_from(context, incoming, &sender)?;
    if package(incoming)? != Package::Presence {
        return Err(Rejection::BadEvent);
    }
    let user = context.user(&request.uri)?;
    if *user.name != **name {
        return Err(Rejection::Forbidden("presence of another user"));
    }
    let unsupported = sip::endpoint::unsupported(request);
    if !unsupported.is_empty() {
        let mut response = sip::Response::to(request, sip::StatusCode::BAD_EXTENSION);
        response.headers.push(Name::Unsupported, unsupported);
        return Ok(Outcome::Reply(Box::new(response)));
    }
    let lasts = match interval(&request.headers) {
        Ok(lasts) => lasts,
        Err(error) => return Ok(Outcome::Reply(Box::new(error.response(request)))),
    };
    let publish = Publish { matches: matches(request)?, lasts, document: document(request)? };
    if publish.matches.is_none() && publish.document.is_none() {
        return Err(Rejection::Malformed("a publication without a document"));
    }
    Ok(Outcome::Publish(Box::new(Publication { user: user.name.clone(), publish })))
}

/// Reads SIP-If-Match: one entity tag (RFC 3903 §11.3.2).
fn matches(request: &Request) -> Result<Option<String>, Rejection> {
    let mut tags = request.headers.all(Name::SipIfMatch);
    match (tags.next(), tags.next()) {
        (None, _) => Ok(None),
        (Some(tag), None) if !tag.is_empty() => {
            std::str::from_utf8(tag).map(|tag| Some(tag.to_owned())).map_err(|_| Rejection::Malformed("malformed SIP-If-Match"))
        }
        (Some(_), _) => Err(Rejection::Malformed("malformed SIP-If-Match")),
    }
}

fn document(request: &Request) -> Result<Option<pidf::Document>, Rejection> {
    if request.body.is_empty() {
        return Ok(None);
    }
    let kind = request.headers.get_text(Name::ContentType).unwrap_or_default();
    if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(pidf::TYPE) || request.headers.has(Name::ContentEncoding) {
        return Err(Rejection::UnsupportedMedia(pidf::TYPE));
    }
    pidf::parse(&request.body).map(Some).map_err(|_| Rejection::Malformed("no presence document that is read here"))
}
