//! The server: it takes requests from clients, events from the switch and answers from providers, and says what to send to whom. It
//! does no I/O: the host moves bytes, spawns [`topic::serve`](crate::topic::serve) for each [`Output::Serve`], and checks passwords.
//!
//! After each input drain [`Server::poll_output`], then wait until [`Server::poll_timeout`].
//!
//! # What the host does
//!
//! - `POST /cas` is [`Input::Request`]; the reply's [`Reply::status`] is the status code. 401 wants `WWW-Authenticate: Bearer`.
//! - `GET /cas/events` is [`Input::Poll`]; with `Accept: text/event-stream` it is [`Input::Open`], answered when [`Output::Opened`] or
//!   [`Output::Close`] comes, the frames' numbers as `id`, and `Last-Event-ID` as `after`.
//! - A WebSocket is [`Input::Open`] too, and each of its messages an [`Input::Request`] on its stream. The host checks its origin.
//! - It bounds connections, the time that a message takes to arrive, and its length ([`MAX_MESSAGE`](crate::message::MAX_MESSAGE))
//!   before it keeps the bytes; and it finds out by pings which streams are dead.
//! - It never logs bodies: replies of `login` have tokens in them.

mod away;
mod deliver;
mod dispatch;
mod forward;
mod own;
mod reply;
mod sign_in;
mod subscribers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bulk::Bulk;
use crate::error::Error;
use crate::event::Frames;
use crate::login::{Guesses, Identity, LoginId, Logins};
use crate::message::Encoding;
use crate::pending::{Pendings, ServeId};
use crate::permission::Rights;
use crate::plugin::Plugins;
use crate::random::Token;
use crate::text::{Name, Secret, UserName};
use crate::topic::{Done, Happening, Work};

pub use away::AWAY_LIMIT;
pub(crate) use deliver::Attached;
pub use deliver::{MAX_BATCH, MAX_BATCH_BYTES, MAX_POLL, MAX_STREAMS, MAX_STREAMS_OF_LOGIN, POLL, SIGN_IN_LIMIT, Written};
pub use dispatch::MAX_SIGN_IN;
pub use reply::Reply;
pub use sign_in::{MAX_VERIFYING, MAX_VERIFYING_OF_ADDRESS};

use deliver::{Poll, Stream};
use sign_in::Verifying;
use subscribers::Subscribers;

/// Times and rates.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a token is good; default 15 minutes.
    pub token_lifetime: Duration,
    /// How long a login lives without a request, a waiting one or an open stream; default 5 minutes.
    pub idle_limit: Duration,
    /// Failed logins per minute of a user from an address, after which no more are tried; from an address thrice as many, and of a user
    /// ten times as many, except from addresses where they are signed in; default 10.
    pub failed_logins_per_minute: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { token_lifetime: Duration::from_secs(15 * 60), idle_limit: Duration::from_secs(5 * 60), failed_logins_per_minute: 10 }
    }
}

/// Number of one HTTP request, or one message on a stream; the host chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// Number of one WebSocket connection or one stream of server-sent events; the host chooses it, and none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Number of a password or key to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerifyId(pub u64);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The host's own Unix socket: who may open it is an administrator, and needs no login for requests.
    Host,
    /// Somebody on the network.
    Network {
        /// Their address.
        address: IpAddr,
        /// Whether others can read what they send.
        wire: Wire,
    },
}

/// Whether others can read what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// They can; only loopback may use it.
    Clear,
    /// They cannot: TLS.
    Encrypted,
}

impl Peer {
    /// Returns the address, an IPv4 one as such; none: the host itself.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Host => None,
            Self::Network { address, .. } => Some(address.to_canonical()),
        }
    }

    fn is_private(self) -> bool {
        match self {
            Self::Host => true,
            Self::Network { address, wire } => wire == Wire::Encrypted || address.to_canonical().is_loopback(),
        }
    }
}

/// How a request came.
#[derive(Clone, Debug)]
pub enum Channel {
    /// By HTTP, with its token if it has one.
    Once {
        /// Who sent it.
        peer: Peer,
        /// From the header Authorization, scheme Bearer.
        token: Option<Token>,
    },
    /// As a message on a stream, which has its own login.
    Stream(StreamId),
}

/// A request's bytes and what the transport knows of them.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the reply goes.
    pub exchange: ExchangeId,
    /// How it came.
    pub channel: Channel,
    /// The header Content-Type; on a stream its own encoding counts.
    pub content_type: Option<String>,
    /// The header Accept; on a stream its own encoding counts.
    pub accept: Option<String>,
    /// The header Prefer.
    pub prefer: Option<String>,
    /// The message.
    pub body: Bytes,
}

/// `GET /cas/events`: the request `get-event` without a message around it.
#[derive(Clone, Debug)]
pub struct PollRequest {
    /// Where the reply goes.
    pub exchange: ExchangeId,
    /// Who sent it.
    pub peer: Peer,
    /// From the header Authorization.
    pub token: Option<Token>,
    /// The header Accept.
    pub accept: Option<String>,
    /// The parameter `after`.
    pub after: Option<u64>,
    /// The parameter `wait`, in seconds.
    pub wait: Option<u32>,
}

/// A stream that was opened.
#[derive(Clone, Debug)]
pub struct Open {
    /// Its number.
    pub stream: StreamId,
    /// Who opened it.
    pub peer: Peer,
    /// The token, if the opening request had one; else the first message must be `login`.
    pub token: Option<Token>,
    /// The number of the last event that the client has.
    pub after: Option<u64>,
    /// The encoding of everything on it.
    pub encoding: Encoding,
}

/// What the server is told.
#[derive(Debug)]
pub enum Input {
    /// A client sent a request.
    Request(Request),
    /// A client waits for events.
    Poll(PollRequest),
    /// A client sent something that the host could not take as a request; the refusal gets its number and its encoding here.
    Refused {
        /// Where the reply goes.
        exchange: ExchangeId,
        /// From the header Authorization.
        token: Option<Token>,
        /// The header Accept.
        accept: Option<String>,
        /// What was wrong.
        error: Error,
    },
    /// A client opened a stream.
    Open(Open),
    /// So many events of a stream were written since the last time that this was said.
    Written(StreamId, Written),
    /// A stream is closed.
    Closed(StreamId),
    /// A password or a key was checked.
    Verified {
        /// Which.
        verify: VerifyId,
        /// Who it is; none if it is wrong.
        identity: Option<Identity>,
    },
    /// A provider is done.
    Served {
        /// With what.
        serve: ServeId,
        /// What it came to.
        outcome: Result<Done, Error>,
    },
    /// Something happened on the switch.
    Happened(Happening),
    /// A user's rights are others now, by another way than the topic `permission`.
    Rights {
        /// Whose.
        user: UserName,
        /// The new ones.
        rights: Arc<Rights>,
    },
}

/// What somebody shows to sign in.
#[derive(Debug)]
pub enum Credential {
    /// User and password.
    Password(UserName, Secret),
    /// An API key.
    Key(Secret),
}

/// What was wrong with what somebody showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The password, or there is no such user; or the key.
    Credentials,
    /// The token, or it has expired.
    Token,
    /// Too many were wrong: this one was not looked at.
    TooMany,
}

/// What the server asks for.
#[derive(Debug)]
pub enum Output {
    /// Send this reply.
    Reply {
        /// To whom.
        exchange: ExchangeId,
        /// The bytes and how they went.
        reply: Reply,
    },
    /// The stream is open and has a login: an HTTP server answers 200 now.
    Opened(StreamId),
    /// Write these events, and say [`Input::Written`] at the latest when it [is due](Written::is_due). A stream has at most
    /// [`MAX_BATCH`] events and about [`MAX_BATCH_BYTES`] that are not known to be written; the others wait in the login.
    Events {
        /// To which stream.
        stream: StreamId,
        /// The events, in order.
        frames: Frames,
    },
    /// Write this message to a plug-in. At most [`MAX_WAITING`](crate::plugin::MAX_WAITING) of them are unanswered.
    Forward {
        /// To which stream.
        stream: StreamId,
        /// The message.
        body: Bytes,
    },
    /// Close a stream.
    Close {
        /// Which.
        stream: StreamId,
        /// Why.
        why: Error,
    },
    /// Check a password or a key, and answer with [`Input::Verified`]; unknown users take as long as known ones.
    Verify {
        /// The number for the answer.
        verify: VerifyId,
        /// What was shown.
        credential: Credential,
        /// Who showed it.
        peer: Peer,
    },
    /// Somebody showed what signs nobody in, or tried too often; for the host's log.
    Denied {
        /// Who showed it.
        peer: Peer,
        /// As whom, where a name was shown.
        user: Option<UserName>,
        /// What was wrong.
        why: Denied,
    },
    /// Run [`topic::serve`](crate::topic::serve) and answer with [`Input::Served`].
    Serve {
        /// The number for the answer.
        serve: ServeId,
        /// What to do.
        work: Box<Work>,
    },
    /// Nobody waits for this any more; it may be stopped.
    Abandon(ServeId),
    /// A login is over: what the host keeps for it alone ends, too. Work that it asked for may still go on.
    LoginOver(LoginId),
    /// The client of a login has no stream, and has asked for nothing for [`AWAY_LIMIT`]: it hears of nothing.
    Away(LoginId),
    /// The client that was [`Output::Away`] is there again.
    Back(LoginId),
}

/// Whom an answer goes to.
#[derive(Debug)]
pub(crate) struct Asked {
    topic: Name,
    message: Name,
    request_id: Option<u64>,
    sender: Sender,
    sink: Sink,
}

/// Who asks, as far as they are known: each has replies with numbers of their own.
#[derive(Clone, Copy, Debug, Default)]
struct Sender {
    login: Option<LoginId>,
    stream: Option<StreamId>,
}

#[derive(Debug)]
enum Sink {
    /// A client that waits for it.
    Exchange(ExchangeId, Encoding),
    /// A place in a bulk.
    Slot(u64, usize),
}

/// What is due at some time. A timer that is no longer meant changes nothing when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Idle(LoginId),
    Away(LoginId),
    TokenEnds(LoginId),
    Poll(LoginId),
    Work(ServeId),
    Verify(VerifyId),
    SignIn(StreamId),
}

/// How much there is of everything that clients fill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Logins.
    pub logins: usize,
    /// Open streams.
    pub streams: usize,
    /// Requests that wait for events.
    pub polls: usize,
    /// Requests that wait for a provider or a plug-in.
    pub pending: usize,
    /// Bulks that wait for replies.
    pub bulks: usize,
    /// Passwords and keys that are being checked.
    pub verifying: usize,
    /// Plug-ins.
    pub plugins: usize,
    /// Users of topics that somebody subscribed to.
    pub subscribed: usize,
}

/// The client application server.
pub struct Server {
    settings: Settings,
    /// When the wall clock showed how many milliseconds since 1970.
    clock: (Instant, u64),
    logins: Logins,
    guesses: Guesses,
    verifying: BTreeMap<VerifyId, Verifying>,
    last_verify: u64,
    /// The login of the host's own socket, once somebody asked there without one.
    host: Option<LoginId>,
    pendings: Pendings,
    bulks: BTreeMap<u64, Bulk>,
    last_bulk: u64,
    streams: BTreeMap<StreamId, Stream>,
    polls: BTreeMap<LoginId, Poll>,
    subscribers: Subscribers,
    plugins: Plugins,
    timers: BTreeSet<(Instant, Timer)>,
    outputs: VecDeque<Output>,
}

impl Server {
    /// Starts with a seed from the operating system, and what the wall clock shows, in milliseconds since 1970, UTC.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32], now: Instant, unix: u64) -> Self {
        Self {
            settings,
            clock: (now, unix),
            logins: Logins::new(seed),
            guesses: Guesses::new(settings.failed_logins_per_minute),
            verifying: BTreeMap::new(),
            last_verify: 0,
            host: None,
            pendings: Pendings::default(),
            bulks: BTreeMap::new(),
            last_bulk: 0,
            streams: BTreeMap::new(),
            polls: BTreeMap::new(),
            subscribers: Subscribers::default(),
            plugins: Plugins::default(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Sets the wall clock, which only headers show; nothing is timed by it.
    pub fn set_clock(&mut self, now: Instant, unix: u64) {
        self.clock = (now, unix);
    }

    /// Returns how many logins there are.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.logins.len()
    }

    /// Returns whether a login wants to hear of calls that may be picked up: else a host need not tell of them.
    #[must_use]
    pub fn wants_pickups(&self) -> bool {
        self.subscribers.has(crate::topic::tel::PICKUP)
    }

    /// Checks a token, for a host that takes more from who has a login than from a stranger.
    ///
    /// # Errors
    ///
    /// The token is unknown or has expired.
    pub fn knows(&self, now: Instant, token: &Token) -> Result<(), Error> {
        self.logins.authenticate(now, token).map(drop)
    }

    /// Finds the login of a token that somebody shows.
    fn authenticate(&mut self, now: Instant, peer: Peer, token: &Token) -> Result<LoginId, Error> {
        let found = self.logins.authenticate(now, token);
        if found.is_err() {
            self.output(Output::Denied { peer, user: None, why: Denied::Token });
        }
        found
    }

    /// Returns how much there is of everything that clients fill, for metrics.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            logins: self.logins.len(),
            streams: self.streams.len(),
            polls: self.polls.len(),
            pending: self.pendings.len(),
            bulks: self.bulks.len(),
            verifying: self.verifying.len(),
            plugins: self.plugins.all().count(),
            subscribed: self.subscribers.len(),
        }
    }

    /// Takes an input.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Request(request) => self.request(now, request),
            Input::Poll(request) => self.poll_request(now, request),
            Input::Refused { exchange, token, accept, error } => self.refused(now, exchange, token.as_ref(), accept.as_deref(), error),
            Input::Open(open) => self.open(now, open),
            Input::Written(stream, written) => self.written(now, stream, written),
            Input::Closed(stream) => self.closed(now, stream),
            Input::Verified { verify, identity } => self.verified(now, verify, identity),
            Input::Served { serve, outcome } => self.finished(now, serve, outcome),
            Input::Happened(happening) => self.happened(now, &happening),
            Input::Rights { user, rights } => self.change_rights(now, &user, &rights),
        }
    }

    /// Does what is due; early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Idle(login) => self.idle(now, login),
                Timer::Away(login) => self.away_due(now, login),
                Timer::TokenEnds(login) => self.token_ends(now, login),
                Timer::Poll(login) => self.poll_ends(now, login),
                Timer::Work(serve) => self.work_due(now, serve),
                Timer::Verify(verify) => self.verify_due(now, verify),
                Timer::SignIn(stream) => self.sign_in_due(stream),
            }
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn after(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Returns what the wall clock shows.
    fn unix(&self, now: Instant) -> u64 {
        let (then, unix) = self.clock;
        unix.saturating_add(u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX))
    }
}
