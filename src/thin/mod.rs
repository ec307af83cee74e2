//! Thin clients: applications of CAS that are a device themselves and have no SIP stack. Each gives and gets session descriptions; here is
//! the user agent that speaks SIP for all of them, so that to the rest of the switch each is a device like any other.
//!
//! The user agent is a second [`sip::Endpoint`]. Its messages go to the switch's own one and back in memory, by flows that no socket has
//! ([`inside::flow`]). It knows neither CAS nor calls: what belongs together is told by who drives it, `signaling/thin.rs`.

pub mod device;
mod event;
mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::sdp::{self, Description};
use sip::message::header::{Reason, Replaces};
use sip::message::{Headers, NameAddr};
use sip::random::Random;
use sip::{DialogId, Endpoint, Flow, Hop, OutgoingInvite, Setup, StatusCode, Uri};

use crate::inside;
use device::Device;
use session::{Session, State, Wants};

/// Most devices of one user; a further one is refused.
pub const MAX_OF_USER: usize = 8;
/// Most calls of one device at once; a further one of its own is refused, one that comes is answered 486.
pub const MAX_CALLS: usize = 8;
/// Longest description of an application in octets; a longer one is refused unread.
pub const MAX_SDP: usize = 32 * 1024;
/// How long an application may take to answer an offer within a call; then the offer is refused, and the call stays as it was.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Most logins that are over and known to be; of one that was forgotten a late request would make a device that nobody ends.
const MAX_OVER: usize = 4096;

/// Names a request of an application that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a description is, in the words of WebRTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An offer.
    Offer,
    /// An answer before the call is answered: early media.
    Pranswer,
    /// An answer.
    Answer,
    /// The last offer is taken back, or refused; there is no description.
    Rollback,
    /// The switch asks for an offer; there is no description.
    Request,
}

/// What the user agent asks for.
#[derive(Debug)]
pub enum Output {
    /// Hand this message to the switch's endpoint, as if it came by this flow.
    Send(Flow, Bytes),
    /// Tell an application.
    Described {
        /// The login of the application.
        login: u64,
        /// The call, as its dialog here.
        session: DialogId,
        /// What was noted of the call last; its dialog may be over.
        noted: Option<u64>,
        /// What the description is.
        kind: Kind,
        /// The description, empty for none.
        sdp: Bytes,
    },
    /// A request that took time is over.
    Done {
        /// Which.
        ticket: Ticket,
        /// The call, as its dialog here.
        session: DialogId,
        /// The switch's answer, empty for none.
        result: Result<Bytes, Refusal>,
    },
}

/// What became of a request at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is done.
    Done,
    /// [`Output::Done`] with this ticket follows.
    Pending(Ticket),
}

/// Why a request of an application is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The login has ended meanwhile.
    #[error("the login is over")]
    LoginOver,
    /// The application has no stream of events, and asked for none.
    #[error("the application was gone")]
    Gone,
    /// It is the host's own.
    #[error("the login is of no user of this switch")]
    NoUser,
    /// There are [`MAX_OF_USER`].
    #[error("the user has {MAX_OF_USER} applications that are devices already")]
    TooManyDevices,
    /// The registrar takes no more.
    #[error("the user has as many registered devices as are possible")]
    TooManyBindings,
    /// There are [`MAX_CALLS`].
    #[error("the application has {MAX_CALLS} calls already")]
    TooManyCalls,
    /// The description is too long.
    #[error("the session description is longer than {MAX_SDP} octets")]
    TooLong,
    /// It is no description.
    #[error("malformed session description: {0}")]
    Malformed(#[from] sdp::ParseError),
    /// There is nothing in it to talk by.
    #[error("the session description has no media by WebRTC: each m-line needs UDP/TLS/RTP/SAVPF, a DTLS fingerprint and ICE credentials")]
    NotWebRtc,
    /// What is dialled is no address.
    #[error("this is no number, user or SIP address")]
    BadDestination,
    /// The application is not in the call.
    #[error("the application has no part in this call")]
    NoSession,
    /// There is no offer of the switch.
    #[error("no offer of the switch waits for an answer")]
    NothingOffered,
    /// There is an offer of the switch.
    #[error("an offer of the switch waits for its answer first")]
    OfferWaits,
    /// There is an offer of the application.
    #[error("an offer of the application waits for its answer already")]
    UnderWay,
    /// Offers follow the first one when the call is answered.
    #[error("the call is not answered yet")]
    NotAnswered,
    /// The switch offered at the same time.
    #[error("the switch made an offer at the same time: answer that one, then offer again")]
    Glare,
    /// The switch, or the other side, refused.
    #[error("it was refused: {} {}", .0.code(), .0.reason())]
    Refused(StatusCode),
    /// The call ended before there was an answer.
    #[error("the call ended meanwhile")]
    Over,
}

/// The user agent of all thin clients.
#[derive(Debug)]
pub struct Thin {
    sip: Endpoint,
    random: Random,
    devices: BTreeMap<u64, Device>,
    /// The logins of each user that have devices.
    by_user: BTreeMap<Box<str>, Vec<u64>>,
    sessions: BTreeMap<DialogId, Session>,
    deadlines: BTreeSet<(Instant, DialogId)>,
    outputs: VecDeque<Output>,
    over: BTreeSet<u64>,
    last_ticket: u64,
}

/// What is called, and by whom.
#[derive(Clone, Debug)]
pub struct Callee {
    /// The user's address, with the name to show.
    pub from: NameAddr,
    /// What is dialled.
    pub uri: Uri,
}

impl Thin {
    /// Starts without applications. The endpoint listens nowhere: the setup is to have no listeners.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let random = Random::new(setup.seed);
        Self {
            random,
            sip: Endpoint::new(setup),
            devices: BTreeMap::new(),
            by_user: BTreeMap::new(),
            sessions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            over: BTreeSet::new(),
            last_ticket: 0,
        }
    }

    /// Makes the application of a login a device of its user that rings, and returns it. `name` is the same
    /// whenever the device is; a device of that name that another login has rings no more.
    ///
    /// # Errors
    /// [`Refusal::LoginOver`] and [`Refusal::TooManyDevices`].
    pub fn register(&mut self, login: u64, user: &str, name: Option<&str>, agent: &str) -> Result<Device, Refusal> {
        let binding = Device::new(login, user, name, agent).binding;
        for other in self.by_user.get(user).cloned().unwrap_or_default() {
            let is_same = |device: &&mut Device| other != login && device.binding.instance == binding.instance;
            let Some(device) = self.devices.get_mut(&other).filter(is_same) else { continue };
            device.is_registered = false;
            if device.sessions.is_empty() {
                self.forget(other); // a page that was loaded anew many times leaves no crowd behind
            }
        }
        self.admit(login, user)?;
        let device = self.devices.get_mut(&login).ok_or(Refusal::LoginOver)?;
        (device.binding, device.is_registered) = (binding, true);
        Ok(device.clone())
    }

    /// Lets an application ring no more; its calls go on.
    pub fn unregister(&mut self, login: u64) {
        if let Some(device) = self.devices.get_mut(&login) {
            device.is_registered = false;
        }
    }

    /// Calls somebody, with the offer of the application. The answer follows as [`Output::Done`].
    ///
    /// # Errors
    /// The description cannot be used, or there is too much of something.
    pub fn call(&mut self, now: Instant, (login, user): (u64, &str), callee: Callee, offer: Bytes) -> Result<Ticket, Refusal> {
        check(&offer)?;
        self.admit(login, user)?;
        if self.sessions_of(login).count() >= MAX_CALLS {
            return Err(Refusal::TooManyCalls);
        }
        let Callee { from, uri } = callee;
        let to = NameAddr::new(uri.clone());
        let hop = Hop::Flow(inside::flow(login));
        let call = OutgoingInvite { uri, routes: Vec::new(), hop, from, to, headers: Headers::default(), body: offer };
        let ticket = self.ticket();
        let session = self.sip.place(now, call);
        self.begin(session, Session { waiting: Some(ticket), ..Session::new(login, State::Calling, Wants::Nothing) });
        self.settle(now);
        Ok(ticket)
    }

    /// Takes a description of an application: its answer to an offer of the switch, an offer of its own, or that it refuses.
    ///
    /// # Errors
    /// The description cannot be used, or does not fit what is under way.
    pub fn describe(&mut self, now: Instant, session: DialogId, kind: Kind, sdp: Bytes) -> Result<Progress, Refusal> {
        if kind != Kind::Rollback {
            check(&sdp)?;
        }
        let wants = self.sessions.get(&session).ok_or(Refusal::NoSession)?.wants;
        let progress = match (kind, wants) {
            (Kind::Offer, Wants::Nothing) => self.offer(now, session, sdp),
            (Kind::Offer, Wants::Answer) => Err(Refusal::OfferWaits),
            (Kind::Offer | Kind::Answer, Wants::Offer) => Ok(self.accept_with_offer(now, session, sdp)),
            (Kind::Answer, Wants::Answer) => {
                self.sip.accept(now, session, sdp);
                self.answered(session);
                Ok(Progress::Done)
            }
            (Kind::Rollback, Wants::Answer | Wants::Offer) => {
                self.decline(now, session);
                Ok(Progress::Done)
            }
            (Kind::Answer | Kind::Rollback, Wants::Nothing) => Err(Refusal::NothingOffered),
            (Kind::Pranswer | Kind::Request, _) => Err(Refusal::NothingOffered),
        };
        self.settle(now);
        progress
    }

    /// A login is over: its device goes, and its calls end. Returns whether it rang.
    pub fn leave(&mut self, now: Instant, login: u64) -> bool {
        if self.over.len() >= MAX_OVER {
            self.over.pop_first();
        }
        self.over.insert(login);
        let Some(Device { sessions, is_registered, .. }) = self.forget(login) else { return false };
        self.hang_up(now, sessions, (&Refusal::LoginOver, None));
        is_registered
    }

    /// An application has gone without a word: its calls end, and it rings no more until it is [`Self::back`]. Returns whether that is
    /// news. `turn` puts such words in their order.
    pub fn away(&mut self, now: Instant, login: u64, turn: u64) -> bool {
        let Some(device) = self.devices.get_mut(&login).filter(|device| device.turn < turn) else { return false };
        (device.is_away, device.turn) = (true, turn);
        let (sessions, is_registered) = (device.sessions.clone(), device.is_registered);
        let lost = Reason::sip(StatusCode::REQUEST_TIMEOUT.code(), &Refusal::Gone.to_string());
        self.hang_up(now, sessions, (&Refusal::Gone, Some(&lost)));
        if !is_registered {
            self.forget(login);
        }
        true
    }

    /// An application is there again. Returns its device if that rings from now on.
    pub fn back(&mut self, login: u64, turn: u64) -> Option<&Device> {
        let device = self.devices.get_mut(&login).filter(|device| device.turn < turn)?;
        (device.is_away, device.turn) = (false, turn);
        Some(&*device).filter(|device| device.is_registered)
    }

    fn forget(&mut self, login: u64) -> Option<Device> {
        let device = self.devices.remove(&login)?;
        if let Some(theirs) = self.by_user.get_mut(&device.user) {
            theirs.retain(|other| *other != login);
            if theirs.is_empty() {
                self.by_user.remove(&device.user);
            }
        }
        Some(device)
    }

    fn hang_up(&mut self, now: Instant, sessions: Vec<DialogId>, (why, reason): (&Refusal, Option<&Reason>)) {
        for session in sessions {
            let state = self.sessions.get(&session).map(|session| session.state);
            match state {
                Some(State::Calling) => self.sip.cancel(now, session, reason.cloned()),
                Some(State::Up) => self.sip.bye(now, session, reason.cloned()),
                // one that is gone has nothing to refuse
                Some(State::Ringing) => drop(self.sip.refuse(now, session, StatusCode::TEMPORARILY_UNAVAILABLE, &Headers::default())),
                None => {}
            }
            self.end(session, why.clone());
        }
        self.settle(now);
    }

    /// Takes a message of the switch's endpoint by a flow of ours.
    pub fn receive(&mut self, now: Instant, flow: Flow, bytes: Bytes) {
        self.sip.receive(now, flow, bytes);
        self.settle(now);
    }

    /// Returns the device whose messages come by a flow.
    #[must_use]
    pub fn device(&self, flow: &Flow) -> Option<&Device> {
        self.devices.get(&inside::login_of(flow)?)
    }

    /// Returns the device of a login.
    #[must_use]
    pub fn device_of(&self, login: u64) -> Option<&Device> {
        self.devices.get(&login)
    }

    /// Returns the login whose call this is.
    #[must_use]
    pub fn login_of(&self, session: DialogId) -> Option<u64> {
        self.sessions.get(&session).map(|session| session.login)
    }

    /// Returns true while the switch waits for the application to say something about its media.
    #[must_use]
    pub fn is_asked(&self, session: DialogId) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.wants != Wants::Nothing)
    }

    /// Returns the calls of a login, each as its dialog here.
    pub fn sessions_of(&self, login: u64) -> impl Iterator<Item = DialogId> {
        self.devices.get(&login).into_iter().flat_map(|device| device.sessions.iter().copied())
    }

    /// Notes which call a dialog here belongs to.
    pub fn note(&mut self, session: DialogId, call: u64) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.noted = Some(call);
        }
    }

    /// Returns what names a dialog here to the switch's endpoint; none while that has given it no tag.
    #[must_use]
    pub fn named(&self, session: DialogId) -> Option<Replaces> {
        self.sip.replaces(session)
    }

    /// Time has passed; early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sip.handle_timeout(now);
        while let Some((at, session)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, session));
            self.wake(now, session);
        }
        self.settle(now);
    }

    /// Returns when to call [`Thin::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sip.poll_timeout().into_iter().chain(self.deadlines.first().map(|(at, _)| *at)).min()
    }

    /// Returns the next thing asked for.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Makes sure that the application of a login is a device, one that does not ring if it is new.
    fn admit(&mut self, login: u64, user: &str) -> Result<(), Refusal> {
        match () {
            () if self.devices.contains_key(&login) => return Ok(()),
            () if self.over.contains(&login) => return Err(Refusal::LoginOver),
            () if self.by_user.get(user).is_some_and(|theirs| theirs.len() >= MAX_OF_USER) => return Err(Refusal::TooManyDevices),
            () => {}
        }
        self.by_user.entry(user.into()).or_default().push(login);
        self.devices.insert(login, Device::new(login, user, None, ""));
        Ok(())
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }
}

/// Checks a description before it goes anywhere: whoever gave it is told in one sentence.
fn check(sdp: &Bytes) -> Result<(), Refusal> {
    if sdp.len() > MAX_SDP {
        return Err(Refusal::TooLong);
    }
    let description = Description::parse(sdp)?;
    let has = |name: &[u8], line: &sdp::MediaDescription| {
        let is = |attribute: &sdp::Attribute| matches!(attribute, sdp::Attribute::Other { name: other, .. } if other.eq_ignore_case(name));
        line.attributes.iter().chain(&description.attributes).any(is)
    };
    // of a bundle, only the first line need have a port and credentials of its own (RFC 9143 §7.2.1)
    let is_webrtc = |line: &sdp::MediaDescription| {
        line.protocol.as_bytes().to_ascii_uppercase().starts_with(b"UDP/TLS/RTP/") && has(b"fingerprint", line) && has(b"ice-ufrag", line)
    };
    if description.media.iter().any(is_webrtc) { Ok(()) } else { Err(Refusal::NotWebRtc) }
}

#[cfg(test)]
mod tests;
