//! Requests outside a dialog: a method's handler reads the request, decides, changes nothing, and returns an [`Outcome`] for
//! `signaling.rs` to carry out. Here are the table of methods and the status code of each [`Rejection`].

mod auth;
mod forward;
pub mod identity;
mod invite;
mod options;
pub mod publish;
mod refer;
mod register;
mod subscribe;
pub mod within;

use std::time::{Duration, Instant};

use sip::digest::{Challenger, Side, Stale};
use sip::endpoint::Named;
use sip::message::header::NameAddr;
use sip::message::{Headers, Host, Name, Scheme};
use sip::random::Random;
use sip::registrar::{self, Registered, Target};
use sip::{Aor, DialogId, Incoming, Listeners, Method, Request, Response, StatusCode, UnixTime};

use crate::config::{Feature, Features, MediaPath, Srtp, Trunk};
use crate::location::Locations;
use crate::presence::watch::Watch;
use crate::user::{User, Users};

pub use auth::Sender;

/// What a handler may look at.
pub struct Context<'a> {
    /// The time.
    pub now: Instant,
    /// The time of day.
    pub unix: UnixTime,
    /// Our domain: realm, and host part of AORs.
    pub domain: &'a str,
    /// Our addresses.
    pub listeners: &'a Listeners,
    /// The people.
    pub users: &'a Users,
    /// The SIP peers.
    pub trunks: &'a [Trunk],
    /// What users dial to act on calls.
    pub features: &'a Features,
    /// Whether a number is that of a room for conferences.
    pub is_room: &'a dyn Fn(&str) -> bool,
    /// The dialog that the request is to take the place of (Replaces), or why there is none.
    pub replaced: Result<Option<Named>, StatusCode>,
    /// The dialog that the request is about (Target-Dialog), or why there is none.
    pub target_dialog: Result<Option<Named>, StatusCode>,
    /// Where devices are.
    pub locations: &'a Locations,
    /// The user whose application sent this within the switch, by CAS: its login has proved who it is.
    pub inside: Option<&'a str>,
    /// Digest.
    pub challenger: &'a mut Challenger,
    /// What the registrar allows.
    pub registrar: &'a registrar::Policy,
    /// The way of media between two local devices.
    pub media: MediaPath,
    /// Whether media is protected, of those who say nothing else.
    pub srtp: Srtp,
}

/// What a request comes to.
#[derive(Debug)]
pub enum Outcome {
    /// Answer it.
    Reply(Box<Response>),
    /// Make these bindings durable, then answer it.
    Register(Box<Registration>),
    /// Connect a call.
    Call(Box<Invitation>),
    /// Refuse a call of a user, by name, because what was dialled reaches nobody.
    Nobody {
        /// The user.
        user: String,
        /// What they dialled.
        dialled: String,
    },
    /// Let a device take a place in a call that there is, or do what its feature code says.
    Enter(Box<Entry>),
    /// Let the sender into a room.
    Visit(Box<Visit>),
    /// Do what a REFER says in the call of a dialog, if the leg there is this user's.
    Refer {
        /// Who sent it.
        user: String,
        /// The dialog.
        session: DialogId,
    },
    /// Send it on as a proxy, to these targets, with this identity of the sender instead of what it said of itself; none for a trunk,
    /// whose word we take (RFC 3325 §6).
    Forward(Vec<Target>, Option<NameAddr>),
    /// Let the sender watch somebody.
    Subscribe(Watch),
    /// Take what a device says of its user.
    Publish(Box<publish::Publication>),
}

/// A REGISTER that is accepted.
#[derive(Debug)]
pub struct Registration {
    /// Whose bindings.
    pub aor: Aor,
    /// What they are from now on, and the response.
    pub registered: Registered,
}

/// A call that may be made.
#[derive(Debug)]
pub struct Invitation {
    /// Who sent it.
    pub sender: Sender,
    /// Who calls, for the record.
    pub caller: String,
    /// What was dialled, for the record.
    pub dialled: String,
    /// Who is called.
    pub callee: Aor,
    /// From of the outgoing INVITEs.
    pub from: NameAddr,
    /// To of the outgoing INVITEs.
    pub to: NameAddr,
    /// Further headers of the outgoing INVITEs.
    pub headers: Headers,
    /// How long the INVITE is good (Expires); none if it does not say.
    pub expires: Option<Duration>,
    /// The callee's devices.
    pub targets: Vec<Target>,
    /// Whether the caller's media is protected.
    pub caller_srtp: Srtp,
    /// Whether that of the callee's devices is.
    pub callee_srtp: Srtp,
}

/// A device that calls to act on calls.
#[derive(Debug)]
pub struct Entry {
    /// Whose it is, by name.
    pub user: String,
    /// Their AOR, for the record.
    pub caller: String,
    /// What the others are shown.
    pub from: NameAddr,
    /// Whether its media is protected.
    pub srtp: Srtp,
    /// What it asks for.
    pub wish: Wish,
}

/// A call to a room.
#[derive(Debug)]
pub struct Visit {
    /// The room's number.
    pub room: String,
    /// Who sent it.
    pub sender: Sender,
    /// Who calls, for the record.
    pub caller: String,
    /// What the others are shown.
    pub from: NameAddr,
    /// Whether its media is protected.
    pub srtp: Srtp,
}

/// What a device asks for that calls to act on calls.
#[derive(Debug)]
pub enum Wish {
    /// The place of a dialog (RFC 3891).
    Replace(DialogId),
    /// What a code stands for.
    Feature(Feature),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nobody proved who sent it.
    #[error("who sent it is not proved")]
    Challenge(Side, Stale),
    /// It is against the grammar or the RFC.
    #[error("{0}")]
    Malformed(&'static str),
    /// The sender may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such user here.
    #[error("no such user")]
    UnknownUser,
    /// The user has no device now.
    #[error("the user has no registered device")]
    NotRegistered,
    /// It names a dialog that it cannot be about.
    #[error("the dialog that it names is not there, or cannot be replaced")]
    Dialog(StatusCode),
    /// Max-Forwards is used up.
    #[error("Max-Forwards is used up")]
    TooManyHops,
    /// It insists on privacy of a kind that we do not know.
    #[error("it insists on privacy of an unknown kind")]
    Privacy,
    /// The Request-URI is of a scheme that we do not serve, or not by this transport.
    #[error("no URI scheme that is served by this transport")]
    UnsupportedScheme,
    /// We know the method and do not serve it outside a dialog.
    #[error("method not allowed here")]
    NotAllowed,
    /// We do not know the method.
    #[error("unknown method")]
    NotImplemented,
    /// We have no such event package.
    #[error("no such event package")]
    BadEvent,
    /// The sender takes no document of the type that we write.
    #[error("no type that the sender takes")]
    NotAcceptable(&'static str),
    /// The body is not of the type that we read.
    #[error("no type that is read here")]
    UnsupportedMedia(&'static str),
}

impl Rejection {
    fn status(self) -> StatusCode {
        match self {
            Self::Challenge(side, _) => side.status(),
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::UnknownUser => StatusCode::NOT_FOUND,
            Self::NotRegistered => StatusCode::TEMPORARILY_UNAVAILABLE,
            Self::Dialog(status) => status,
            Self::TooManyHops => StatusCode::TOO_MANY_HOPS,
            Self::Privacy => StatusCode::SERVER_INTERNAL_ERROR,
            Self::UnsupportedScheme => StatusCode::UNSUPPORTED_URI_SCHEME,
            Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::BadEvent => StatusCode::BAD_EVENT,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::UnsupportedMedia(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// Decides about a request.
///
/// # Errors
/// See [`Rejection`]; [`response`] makes its answer.
pub fn handle(context: &mut Context<'_>, incoming: &Incoming) -> Result<Outcome, Rejection> {
    let request = &incoming.request;
    if request.uri.scheme() == Scheme::Other {
        return Err(Rejection::UnsupportedScheme);
    }
    match &request.method {
        Method::Register => register::handle(context, incoming),
        Method::Invite => invite::handle(context, incoming),
        Method::Options => options::handle(context, incoming),
        Method::Refer => refer::handle(context, incoming),
        Method::Message | Method::Info => forward::handle(context, incoming),
        Method::Subscribe => subscribe::handle(context, incoming),
        Method::Publish => publish::handle(context, incoming),
        // Default deny: who is not known learns nothing about what we serve (S5).
        Method::Other(_) => auth::sender(context, incoming, Side::Proxy).and(Err(Rejection::NotImplemented)),
        Method::Ack | Method::Bye | Method::Cancel | Method::Prack | Method::Update | Method::Notify => {
            auth::sender(context, incoming, Side::Proxy).and(Err(Rejection::NotAllowed))
        }
    }
}

/// Makes the response of a rejection.
#[must_use]
pub fn response(context: &mut Context<'_>, incoming: &Incoming, rejection: Rejection, random: &mut Random) -> Response {
    let request = &incoming.request;
    let mut response = if let Rejection::Challenge(side, stale) = rejection {
        let unique = u32::try_from(random.below(1 << 32)).unwrap_or(0);
        context.challenger.challenge(context.now, request, side, incoming.flow.remote.ip(), unique, stale)
    } else {
        Response::to(request, rejection.status())
    };
    match rejection {
        Rejection::NotAllowed | Rejection::NotImplemented => response.headers.push(Name::Allow, sip::endpoint::ALLOW),
        Rejection::BadEvent => response.headers.push(Name::AllowEvents, sip::endpoint::ALLOW_EVENTS),
        Rejection::NotAcceptable(accepted) | Rejection::UnsupportedMedia(accepted) => response.headers.push(Name::Accept, accepted),
        Rejection::Challenge(..)
        | Rejection::Malformed(_)
        | Rejection::Forbidden(_)
        | Rejection::UnknownUser
        | Rejection::NotRegistered
        | Rejection::Dialog(_)
        | Rejection::TooManyHops
        | Rejection::Privacy
        | Rejection::UnsupportedScheme => {}
    }
    response.set_to_tag(&random.token());
    response
}

impl Context<'_> {
    /// Returns true for our domain and for our own addresses.
    fn is_ours(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => name.eq_ignore_ascii_case(self.domain),
            Host::Ip(ip) => self.domain.parse() == Ok(*ip) || self.listeners.0.iter().any(|(_, address)| address.ip() == *ip),
        }
    }

    /// Finds the user that a URI means: `sip:` of ours by name or number, `tel:` by number.
    fn user(&self, uri: &sip::Uri) -> Result<&User, Rejection> {
        let dialled = self.dialled(uri).ok_or(Rejection::UnknownUser)?;
        self.users.find(&dialled).ok_or(Rejection::UnknownUser)
    }

    /// Returns the name or number that a URI of ours has; none for one of another domain.
    fn dialled(&self, uri: &sip::Uri) -> Option<String> {
        dialled(uri, |host| self.is_ours(host))
    }

    /// Returns whether a sender's media is protected.
    fn srtp(&self, sender: &Sender) -> Srtp {
        match sender {
            Sender::User(name) => self.users.named(name).map(|user| user.srtp),
            Sender::Trunk(name) => self.trunks.iter().find(|trunk| trunk.name.as_str() == name).and_then(|trunk| trunk.srtp),
        }
        .unwrap_or(self.srtp)
    }

    fn aor(&self, user: &User) -> Result<Aor, Rejection> {
        Aor::new(&user.name, self.domain).ok_or(Rejection::UnknownUser)
    }

    /// Returns the targets of a user.
    fn targets(&self, aor: &Aor) -> Result<Vec<Target>, Rejection> {
        let targets = registrar::targets(&self.locations.of(aor), self.unix);
        if targets.is_empty() { Err(Rejection::NotRegistered) } else { Ok(targets) }
    }
}

/// Returns the user part of a URI of ours, or the number of a `tel:`. A local number is one of its context (RFC 3966 §5.1.5): ours alone is
/// known as a domain; behind the beginning of a global number it is that number's rest.
fn dialled(uri: &sip::Uri, is_ours: impl Fn(&Host) -> bool) -> Option<String> {
    // with control characters in it a name is well formed, and nobody's (S7)
    let user = uri.user_unescaped()?;
    match (uri.host(), uri.param("phone-context")) {
        (Some(host), _) => is_ours(host).then_some(user),
        (None, Some(context)) if !user.starts_with('+') => {
            if context.starts_with('+') {
                return Some(format!("{context}{user}"));
            }
            Host::parse(context).is_some_and(|host| is_ours(&host)).then_some(user)
        }
        (None, _) => Some(user),
    }
}

/// Returns Max-Forwards of the request that goes on (§16.6 step 3).
fn hops_left(request: &Request) -> Result<u32, Rejection> {
    match request.headers.number(Name::MaxForwards) {
        Ok(Some(0)) => Err(Rejection::TooManyHops),
        Ok(Some(hops)) => Ok(hops - 1),
        Ok(None) => Ok(70),
        Err(_) => Err(Rejection::Malformed("malformed Max-Forwards")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_number_is_one_of_its_context() {
        // RFC 3966 §5.1.5
        for (uri, number) in [
            ("sip:502@tandem.test", Some("502")),
            ("sip:502@example.com", None),
            ("tel:502", Some("502")),
            ("tel:502;phone-context=tandem.test", Some("502")),
            ("tel:502;Phone-Context=TANDEM.test", Some("502")),
            ("tel:502;phone-context=example.com", None),
            ("tel:502;phone-context=+4930", Some("+4930502")),
            ("tel:+4930502;phone-context=example.com", Some("+4930502")),
        ] {
            let uri = sip::Uri::parse(&uri.into()).unwrap();
            let found = dialled(&uri, |host| host.to_string() == "tandem.test");
            assert_eq!(found.as_deref(), number, "{uri}");
        }
    }
}
