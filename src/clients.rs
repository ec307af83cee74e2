//! The loop that owns `cas::Server`. One task; connections send it requests, the switch sends it what happened, providers send it what
//! their work came to. It writes to nobody: each connection has a channel of its own, and one that does not read fills only that.

mod denied;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cas::Token;
use cas::error::{Error, Fault};
use cas::event::{Frame, Frames};
use cas::login::{Identity, LoginId};
use cas::message::Encoding;
use cas::pending::{MAX_PENDING_OF_LOGIN, ServeId};
use cas::plugin;
use cas::server::{
    Channel, ExchangeId, Input, Load, MAX_BATCH, Open, Output, Peer, PollRequest, Reply, Request, Server, Settings, StreamId, VerifyId,
    Written,
};
use cas::topic::{self, Done};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::provider::{News, Provider, happenings};
use crate::{clock, telemetry};

/// Requests that may wait for the loop; beyond it connections wait, and so do their peers.
const INBOX: usize = 1024;
/// Messages of one stream that wait for the loop; beyond it the stream is not read.
const MAX_SAID: usize = 64;
/// What may wait for one stream: its replies, a plug-in's requests, events, its opening and its end. Each is bounded where it comes from,
/// given that a stream takes no message while anything waits to be written to it.
const OUTLET: usize = MAX_SAID + MAX_PENDING_OF_LOGIN + plugin::MAX_WAITING as usize + MAX_BATCH + 4;
/// The bit that tells a stream's exchanges from those of single requests; the rest of one is the number of its stream.
const OF_STREAM: u64 = 1 << 63;
/// Changes of the switch that one turn of the loop takes.
const NEWS_A_TURN: usize = 256;
/// Messages of connections that one turn of the loop takes: a turn costs as much as a message.
const MESSAGES_A_TURN: usize = 64;
/// How often the wall clock is read again.
const CLOCK: Duration = Duration::from_secs(10);

/// The loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the switch is stopping")]
pub struct Stopped;

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        Self::new(Fault::Unavailable, stopped.to_string())
    }
}

/// What the loop is told by connections.
enum Message {
    Request(Ask, oneshot::Sender<Reply>),
    Poll(Poll, oneshot::Sender<Reply>),
    Refuse(Refused, oneshot::Sender<Reply>),
    Open(Open, mpsc::Sender<ToStream>),
    Said(StreamId, Bytes, OwnedSemaphorePermit),
    Written(StreamId, Written),
    Load(oneshot::Sender<Load>),
    Knows(Token, oneshot::Sender<Result<(), Error>>),
}

/// A request that came by HTTP.
pub struct Ask {
    /// Who sent it.
    pub peer: Peer,
    /// From the header Authorization.
    pub token: Option<Token>,
    /// The header Content-Type.
    pub content_type: Option<String>,
    /// The header Accept.
    pub accept: Option<String>,
    /// The header Prefer.
    pub prefer: Option<String>,
    /// The message.
    pub body: Bytes,
}

/// A request that waits for events.
pub struct Poll {
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

/// Something that came by HTTP and could not be taken as a request.
pub struct Refused {
    /// From the header Authorization.
    pub token: Token,
    /// The header Accept.
    pub accept: Option<String>,
    /// What was wrong.
    pub error: Error,
}

/// What a stream is to write.
#[derive(Debug)]
pub enum ToStream {
    /// It has a login now.
    Opened,
    /// Events; [`Stream::wrote`] each, and then [`Stream::tell_written`].
    Events(Frames),
    /// A reply.
    Reply(Reply),
    /// A request to a plug-in.
    Forward(Bytes),
    /// The last there is: why it closes.
    Close(Error),
}

/// A way to the loop; clones lead to the same one.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    streams: Arc<AtomicU64>,
    provider: Provider,
}

impl Handle {
    /// Returns why the switch takes no new work now; none: it does.
    pub async fn refuses(&self) -> Option<String> {
        self.provider.refuses().await
    }

    /// Writes the figures of the process for Prometheus.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn figures(&self) -> Result<String, Stopped> {
        let load = self.load().await?;
        for (name, value) in [
            ("tandem_cas_logins", load.logins),
            ("tandem_cas_streams", load.streams),
            ("tandem_cas_polls", load.polls),
            ("tandem_cas_pending", load.pending),
            ("tandem_cas_plugins", load.plugins),
        ] {
            telemetry::metrics::set(name, value);
        }
        self.provider.figures().await.ok_or(Stopped)
    }

    /// Sends a request, and waits for the reply.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn request(&self, ask: Ask) -> Result<Reply, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.say(Message::Request(ask, answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// Waits for events.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn poll(&self, poll: Poll) -> Result<Reply, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.say(Message::Poll(poll, answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// Writes a refusal, with the next number of the replies to its login.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn refuse(&self, refused: Refused) -> Result<Reply, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.say(Message::Refuse(refused, answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// Opens a stream. It closes when it is dropped.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn open(&self, peer: Peer, token: Option<Token>, after: Option<u64>, encoding: Encoding) -> Result<Stream, Stopped> {
        let stream = StreamId(self.streams.fetch_add(1, Ordering::Relaxed));
        let (outlet, from) = mpsc::channel(OUTLET);
        self.say(Message::Open(Open { stream, peer, token, after, encoding }, outlet)).await?;
        Ok(Stream {
            stream,
            encoding,
            inbox: self.inbox.clone(),
            from,
            room: Arc::new(Semaphore::new(MAX_SAID)),
            written: Written::default(),
        })
    }

    /// Returns how much there is of everything that clients fill.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn load(&self) -> Result<Load, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.say(Message::Load(answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// Finds out whether a token is good now: the outer error where the loop has ended, the inner one where it is not.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn knows(&self, token: Token) -> Result<Result<(), Error>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.say(Message::Knows(token, answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    async fn say(&self, message: Message) -> Result<(), Stopped> {
        self.inbox.send(message).await.map_err(|_| Stopped)
    }
}

/// An open stream.
pub struct Stream {
    stream: StreamId,
    encoding: Encoding,
    inbox: mpsc::Sender<Message>,
    from: mpsc::Receiver<ToStream>,
    room: Arc<Semaphore>,
    /// What the loop has not been told of.
    written: Written,
}

impl Stream {
    /// Returns its encoding.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Waits for what is to be written; none at the end. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Option<ToStream> {
        self.from.recv().await
    }

    /// Returns what is to be written, if it is there already.
    pub fn ready(&mut self) -> Option<ToStream> {
        self.from.try_recv().ok()
    }

    /// Counts an event that is written.
    pub fn wrote(&mut self, frame: &Frame) {
        self.written.add(frame);
    }

    /// Tells the loop what was written, when there is enough of it.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn tell_written(&mut self) -> Result<(), Stopped> {
        if !self.written.is_due() {
            return Ok(());
        }
        self.inbox.send(Message::Written(self.stream, std::mem::take(&mut self.written))).await.map_err(|_| Stopped)
    }

    /// Takes a message of the peer, once the loop has taken those before it. To be called while nothing waits to be written.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub async fn said(&self, body: Bytes) -> Result<(), Stopped> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| Stopped)?;
        self.inbox.send(Message::Said(self.stream, body, room)).await.map_err(|_| Stopped)
    }
}

/// What work came to.
enum Came {
    Verified(VerifyId, Option<Identity>),
    Served(ServeId, Box<Result<Done, Error>>),
    /// The switch knows of a login's end, or that its client went or came.
    Told,
}

/// The loop's state.
pub(crate) struct Clients {
    server: Server,
    provider: Provider,
    inbox: mpsc::Receiver<Message>,
    news: mpsc::Receiver<News>,
    exchanges: HashMap<ExchangeId, oneshot::Sender<Reply>>,
    last_exchange: u64,
    last_turn: u64,
    streams: BTreeMap<StreamId, mpsc::Sender<ToStream>>,
    /// Each ends when the connection of its stream has gone.
    closing: FuturesUnordered<BoxFuture<'static, StreamId>>,
    work: JoinSet<Came>,
    serving: HashMap<ServeId, AbortHandle>,
    clock_read: Instant,
    events: metrics::Counter,
    denied: denied::Log,
}

impl Clients {
    /// Makes the loop and a way to it; `news` is what happens on the switch.
    pub(crate) fn new(settings: Settings, seed: [u8; 32], provider: Provider, news: mpsc::Receiver<News>) -> (Self, Handle) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (now, to_provider) = (clock::now(), provider.clone());
        let clients = Self {
            server: Server::new(settings, seed, now, unix()),
            provider,
            inbox,
            news,
            exchanges: HashMap::new(),
            last_exchange: 0,
            last_turn: 0,
            streams: BTreeMap::new(),
            closing: FuturesUnordered::new(),
            work: JoinSet::new(),
            serving: HashMap::new(),
            clock_read: now,
            events: metrics::counter!("tandem_cas_events_total"),
            denied: denied::Log::new(now),
        };
        (clients, Handle { inbox: sender, streams: Arc::default(), provider: to_provider })
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut armed = None;
        let mut news = Vec::with_capacity(NEWS_A_TURN);
        let mut messages = Vec::with_capacity(MESSAGES_A_TURN);
        loop {
            let deadline = self.server.poll_timeout();
            if let Some(at) = deadline.filter(|_| deadline != armed) {
                timer.as_mut().reset(at.into());
            }
            armed = deadline;
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                () = &mut timer, if deadline.is_some() => armed = None,
                count = self.news.recv_many(&mut news, NEWS_A_TURN), if !self.news.is_closed() || !self.news.is_empty() => {
                    if count > 0 {
                        let now = clock::now();
                        let pickups = self.server.wants_pickups();
                        let told = news.drain(..).flat_map(|news| happenings(news, pickups));
                        told.for_each(|happening| self.server.handle_input(now, Input::Happened(happening)));
                    }
                }
                Some(came) = self.work.join_next(), if !self.work.is_empty() => self.handle_work(came),
                Some(stream) = self.closing.next(), if !self.closing.is_empty() => self.handle_closed(stream),
                count = self.inbox.recv_many(&mut messages, MESSAGES_A_TURN) => {
                    if count == 0 {
                        break;
                    }
                    let now = clock::now();
                    messages.drain(..).for_each(|message| self.handle_message(now, message));
                }
            }
            let now = clock::now();
            if now.saturating_duration_since(self.clock_read) > CLOCK {
                self.clock_read = now;
                self.server.set_clock(now, unix());
            }
            self.server.handle_timeout(now);
            while let Some(output) = self.server.poll_output() {
                self.carry_out(output);
            }
        }
    }

    fn handle_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Request(ask, answer) => {
                let Ask { peer, token, content_type, accept, prefer, body } = ask;
                let exchange = self.exchange(answer);
                let channel = Channel::Once { peer, token };
                self.server.handle_input(now, Input::Request(Request { exchange, channel, content_type, accept, prefer, body }));
            }
            Message::Poll(poll, answer) => {
                let Poll { peer, token, accept, after, wait } = poll;
                let exchange = self.exchange(answer);
                self.server.handle_input(now, Input::Poll(PollRequest { exchange, peer, token, accept, after, wait }));
            }
            Message::Refuse(Refused { token, accept, error }, answer) => {
                let exchange = self.exchange(answer);
                self.server.handle_input(now, Input::Refused { exchange, token: Some(token), accept, error });
            }
            Message::Open(open, outlet) => {
                let (stream, closed) = (open.stream, outlet.clone());
                self.closing.push(async move { closed.closed().map(|()| stream).await }.boxed());
                self.streams.insert(stream, outlet);
                self.server.handle_input(now, Input::Open(open));
            }
            Message::Said(stream, body, _room) => {
                let exchange = ExchangeId(OF_STREAM | stream.0);
                let channel = Channel::Stream(stream);
                let (content_type, accept, prefer) = (None, None, None);
                self.server.handle_input(now, Input::Request(Request { exchange, channel, content_type, accept, prefer, body }));
            }
            Message::Written(stream, written) => self.server.handle_input(now, Input::Written(stream, written)),
            // who asked may have gone away meanwhile
            Message::Load(answer) => drop(answer.send(self.server.load())),
            Message::Knows(token, answer) => drop(answer.send(self.server.knows(now, &token))),
        }
    }

    fn exchange(&mut self, waiting: oneshot::Sender<Reply>) -> ExchangeId {
        self.last_exchange += 1;
        let exchange = ExchangeId(self.last_exchange);
        self.exchanges.insert(exchange, waiting);
        exchange
    }

    fn handle_closed(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.server.handle_input(clock::now(), Input::Closed(stream));
    }

    fn handle_work(&mut self, came: Result<Came, tokio::task::JoinError>) {
        // only what nobody waits for any more is aborted, and no work panics through
        let Ok(came) = came else { return };
        let now = clock::now();
        match came {
            Came::Verified(verify, identity) => self.server.handle_input(now, Input::Verified { verify, identity }),
            Came::Told => {}
            Came::Served(serve, outcome) => {
                self.serving.remove(&serve);
                self.server.handle_input(now, Input::Served { serve, outcome: *outcome });
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        if let Output::Reply { reply, .. } = &output {
            telemetry::metrics::replied(reply.response);
        }
        match output {
            Output::Reply { exchange: ExchangeId(exchange), reply } if exchange & OF_STREAM != 0 => {
                self.tell(StreamId(exchange & !OF_STREAM), ToStream::Reply(reply));
            }
            Output::Reply { exchange, reply } => {
                if let Some(answer) = self.exchanges.remove(&exchange) {
                    drop(answer.send(reply)); // who asked may have gone away meanwhile
                }
            }
            Output::Opened(stream) => self.tell(stream, ToStream::Opened),
            Output::Events { stream, frames } => {
                self.events.increment(frames.len() as u64);
                self.tell(stream, ToStream::Events(frames));
            }
            Output::Forward { stream, body } => self.tell(stream, ToStream::Forward(body)),
            Output::Close { stream, why } => {
                self.tell(stream, ToStream::Close(why));
                self.streams.remove(&stream);
            }
            Output::Verify { verify, credential, peer: _ } => {
                let provider = self.provider.clone();
                self.work.spawn(async move { Came::Verified(verify, provider.verify(credential).await.unwrap_or_default()) });
            }
            Output::Serve { serve, work } => {
                let provider = self.provider.clone();
                let served = self.work.spawn(async move {
                    let outcome = AssertUnwindSafe(topic::serve(&provider, *work)).catch_unwind().await;
                    let outcome = outcome.unwrap_or_else(|_| Err(Error::new(Fault::Internal, "the request could not be served")));
                    Came::Served(serve, Box::new(outcome))
                });
                self.serving.insert(serve, served);
            }
            Output::Denied { peer, user, why } => self.denied.write(clock::now(), peer, user.as_ref(), why),
            Output::Away(login) => self.tell_presence(login, false),
            Output::Back(login) => self.tell_presence(login, true),
            Output::LoginOver(login) => {
                let provider = self.provider.clone();
                self.work.spawn(async move {
                    provider.login_over(login).await;
                    Came::Told
                });
            }
            Output::Abandon(serve) => {
                if let Some(served) = self.serving.remove(&serve) {
                    served.abort();
                }
            }
        }
    }

    /// Tells the switch whether the client of a login hears of calls. Two of these may overtake each other: the later one counts.
    fn tell_presence(&mut self, login: LoginId, is_there: bool) {
        self.last_turn += 1;
        let (provider, turn) = (self.provider.clone(), self.last_turn);
        self.work.spawn(async move {
            provider.login_hears(login, is_there, turn).await;
            Came::Told
        });
    }

    /// Hands something to a stream. One that is gone is on its way to [`Self::handle_closed`].
    fn tell(&mut self, stream: StreamId, what: ToStream) {
        let Some(outlet) = self.streams.get(&stream) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = outlet.try_send(what) {
            tracing::error!(stream = stream.0, "a stream was told more than its bounds allow; it is closed");
            self.streams.remove(&stream);
            self.server.handle_input(clock::now(), Input::Closed(stream));
        }
    }
}

/// Returns the time of day in milliseconds since 1970.
fn unix() -> u64 {
    u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX)
}
