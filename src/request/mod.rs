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
use sip::message::{Headers, Name, Scheme};
use sip::random::Random;
use sip::registrar::{self, Registered, Target};
use sip::{Aor, DialogId, Incoming, Method, Request, Response, StatusCode, UnixTime};

use crate::config::{Feature, MediaPath, Srtp, Trunk};
use crate::location::Locations;
use crate::presence::watch::Watch;
use crate::route::{Meant, Route};
use crate::user::User;

pub use auth::Sender;

/// What a handler may look at.
pub struct Context<'a> {
    /// The time.
    pub now: Instant,
    /// The time of day.
    pub unix: UnixTime,
    /// What we are called, whom we serve, and where what is dialled leads.
    pub route: Route<'a>,
    /// The SIP peers.
    pub trunks: &'a [Trunk],
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
    /// Send it on as a proxy, to these targets, with this in the place of what it said of its sender.
    Forward(Vec<Target>, identity::Shown),
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

impl<'a> Context<'a> {
    /// Finds the user that a URI means.
    fn user(&self, uri: &sip::Uri) -> Result<&'a User, Rejection> {
        match self.route.find(uri) {
            Meant::User(user) => Ok(user),
            Meant::Room(_) | Meant::Feature(_) | Meant::Switch | Meant::Elsewhere | Meant::Nobody => Err(Rejection::UnknownUser),
        }
    }

    /// Returns whether a sender's media is protected.
    fn srtp(&self, sender: &Sender) -> Srtp {
        match sender {
            Sender::User(name) => self.route.users.named(name).map(|user| user.srtp),
            Sender::Trunk(name) => self.trunks.iter().find(|trunk| trunk.name.as_str() == name).and_then(|trunk| trunk.srtp),
        }
        .unwrap_or(self.srtp)
    }

    fn aor(&self, user: &User) -> Result<Aor, Rejection> {
        Aor::new(&user.name, self.route.domain).ok_or(Rejection::UnknownUser)
    }

    /// Returns the targets of a user.
    fn targets(&self, aor: &Aor) -> Result<Vec<Target>, Rejection> {
        let targets = registrar::targets(&self.locations.of(aor), self.unix);
        if targets.is_empty() { Err(Rejection::NotRegistered) } else { Ok(targets) }
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
