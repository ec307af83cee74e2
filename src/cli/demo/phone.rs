//! A scripted desk phone: it registers, calls, answers, talks and hangs up when the script says so (RFC 3261 §10.2, §13, §15, §22).

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use sip::digest::{self, Answered, Login};
use sip::message::header::{CSeq, NameAddr};
use sip::message::{Headers, Name};
use sip::random::Random;
use sip::{DialogEvent, DialogId, Host, Method, OutgoingInvite, Request, Response, StatusCode, Transport, Uri};

use super::line::Line;
use super::rtp::{Sound, Talk, audio_address};
use super::tone::Tone;
use crate::clock;

/// Whose phone it is, and what it is told of the switch.
pub(super) struct Account<'a> {
    /// User name at the switch.
    pub(super) name: &'a str,
    /// Password of the user.
    pub(super) password: &'a str,
    /// Realm, and host part of the AOR.
    pub(super) domain: &'a str,
    /// Address of the switch.
    pub(super) switch: std::net::SocketAddr,
    /// How to reach it.
    pub(super) transport: Transport,
}

/// The phone.
pub(super) struct Phone {
    line: Line,
    sound: Sound,
    login: Login,
    domain: Host,
    random: Random,
    register: Registering,
}

/// What all REGISTERs of one phone share (§10.2).
struct Registering {
    call_id: String,
    cseq: u32,
}

/// A call that is up.
pub(super) struct Call {
    dialog: DialogId,
    /// Where the other side wants our media.
    remote: std::net::SocketAddr,
}

impl Phone {
    /// Opens the phone's sockets.
    pub(super) async fn open(account: Account<'_>, random: &mut Random) -> anyhow::Result<Self> {
        let mut random = Random::new(seed(random));
        let line = Line::open(account.transport, account.switch, seed(&mut random)).await.context("no connection to the switch")?;
        let sound = Sound::open(account.switch.ip()).await.context("no port for media")?;
        let (username, password, realm) = (account.name.to_owned(), account.password.to_owned(), Some(account.domain.to_owned()));
        let login = Login { username, password, realm };
        let domain = Host::parse(account.domain).context("the domain is no host")?;
        let register = Registering { call_id: random.token().to_string(), cseq: 0 };
        Ok(Self { line, sound, login, domain, random, register })
    }

    /// Registers for a time; none takes the registration back.
    pub(super) async fn register(&mut self, expires: Duration) -> anyhow::Result<()> {
        let mut request = self.registration(expires)?;
        let mut answered = Answered::default();
        loop {
            self.register.cseq += 1;
            request.headers.set(Name::CSeq, CSeq { number: self.register.cseq, method: Method::Register }.to_string());
            let client = self.line.sip.request(clock::now(), request.clone(), self.line.hop());
            let response = self.line.response(client).await?;
            match response.status {
                StatusCode::OK => return Ok(()),
                StatusCode::UNAUTHORIZED => self.answer_challenge(&mut answered, &response, &mut request)?,
                status => bail!("{}", said(status)),
            }
        }
    }

    fn registration(&mut self, expires: Duration) -> anyhow::Result<Request> {
        let registrar = Uri::sip("", &self.domain, None, "").context("the domain is no host")?;
        let user = NameAddr::new(self.uri(&self.login.username)?);
        let (local, transport) = (self.line.local(), self.line.transport().param());
        let contact = format!("<sip:{}@{local};transport={transport}>", self.login.username);
        let mut request = Request::new(Method::Register, registrar);
        let headers = &mut request.headers;
        headers.push(Name::MaxForwards, "70");
        headers.push(Name::To, user.to_string());
        headers.push(Name::From, user.with_tag(&self.random.token()).to_string());
        headers.push(Name::CallId, &self.register.call_id);
        headers.push(Name::Contact, contact);
        headers.push(Name::Expires, expires.as_secs().to_string());
        Ok(request)
    }

    /// Calls, and returns when the other side has answered.
    pub(super) async fn call(&mut self, number: &str) -> anyhow::Result<Call> {
        let uri = self.uri(number)?;
        let from = NameAddr::new(self.uri(&self.login.username)?);
        let offer = self.sound.description();
        let mut answered = Answered::default();
        let mut headers = Headers::default();
        loop {
            let (to, routes, hop) = (NameAddr::new(uri.clone()), Vec::new(), self.line.hop());
            let call = OutgoingInvite { uri: uri.clone(), routes, hop, from: from.clone(), to, headers, body: offer.clone() };
            let dialog = self.line.sip.place(clock::now(), call);
            let challenge = match self.outcome(dialog).await? {
                Outcome::Answered(answer) => {
                    self.line.sip.acknowledge(clock::now(), dialog, Bytes::new());
                    self.line.flush().await?;
                    let remote = audio_address(&answer).context("the answer has no audio")?;
                    return Ok(Call { dialog, remote });
                }
                Outcome::Refused(response) => response,
            };
            // The endpoint makes the INVITE; this one is only to be answered for.
            let mut invite = Request::new(Method::Invite, uri.clone());
            invite.body = offer.clone();
            self.answer_challenge(&mut answered, &challenge, &mut invite)?;
            headers = invite.headers;
        }
    }

    async fn outcome(&mut self, dialog: DialogId) -> anyhow::Result<Outcome> {
        loop {
            match self.line.happening(dialog).await? {
                DialogEvent::Answered { body } => return Ok(Outcome::Answered(body)),
                DialogEvent::Failed { status: StatusCode::PROXY_AUTHENTICATION_REQUIRED, response: Some(response) } => {
                    return Ok(Outcome::Refused(response));
                }
                DialogEvent::Failed { status, .. } => bail!("{}", said(status)),
                DialogEvent::Progress { .. } => {}
                other @ (DialogEvent::Cancelled { .. }
                | DialogEvent::Acknowledged { .. }
                | DialogEvent::Offered { .. }
                | DialogEvent::OfferCancelled
                | DialogEvent::OfferAnswered { .. }
                | DialogEvent::OfferFailed { .. }
                | DialogEvent::Request { .. }
                | DialogEvent::Response { .. }
                | DialogEvent::Ended { .. }) => bail!("{other:?} came before an answer"),
            }
        }
    }

    /// Waits for a call, rings, answers, and returns when that is acknowledged.
    pub(super) async fn answer(&mut self) -> anyhow::Result<Call> {
        let incoming = self.line.invitation().await?;
        let remote = audio_address(&incoming.request.body).context("the offer has no audio")?;
        let dialog = self.line.sip.take(clock::now(), incoming).context("the call cannot be taken")?;
        self.line.sip.progress(clock::now(), dialog, StatusCode::RINGING, Bytes::new())?;
        self.line.sip.accept(clock::now(), dialog, self.sound.description());
        loop {
            let event = self.line.happening(dialog).await?;
            if matches!(event, DialogEvent::Acknowledged { .. }) {
                return Ok(Call { dialog, remote });
            }
            if matches!(event, DialogEvent::Cancelled { .. } | DialogEvent::Ended { .. }) {
                bail!("the call was over before it was acknowledged");
            }
        }
    }

    /// Speaks one tone and listens for another.
    pub(super) async fn talk(&mut self, call: &Call, own: Tone, others: Tone) -> anyhow::Result<Talk> {
        let seed = self.random.number();
        tokio::select! {
            biased;
            ended = until_over(&mut self.line, call) => ended.and_then(|()| bail!("the call ended too early")),
            talk = self.sound.talk(call.remote, own, others, seed) => Ok(talk?),
        }
    }

    /// Hangs up.
    pub(super) async fn hang_up(&mut self, call: &Call) -> anyhow::Result<()> {
        self.line.sip.bye(clock::now(), call.dialog, None);
        until_over(&mut self.line, call).await
    }

    /// Waits until the other side hangs up.
    pub(super) async fn until_over(&mut self, call: &Call) -> anyhow::Result<()> {
        until_over(&mut self.line, call).await
    }

    fn answer_challenge(&mut self, answered: &mut Answered, challenge: &Response, request: &mut Request) -> anyhow::Result<()> {
        let cnonce = self.random.token();
        digest::answer(answered, &self.login, challenge, request, &cnonce).with_context(|| said(challenge.status))
    }

    fn uri(&self, user: &str) -> anyhow::Result<Uri> {
        Uri::sip(user, &self.domain, None, "").with_context(|| format!("{user:?} cannot be called"))
    }
}

/// What an INVITE came to.
enum Outcome {
    /// 200, with its SDP.
    Answered(Bytes),
    /// 407.
    Refused(Box<Response>),
}

async fn until_over(line: &mut Line, call: &Call) -> anyhow::Result<()> {
    while !matches!(line.happening(call.dialog).await?, DialogEvent::Ended { .. }) {}
    line.flush().await
}

fn seed(random: &mut Random) -> [u8; 32] {
    let mut seed = [0; 32];
    for octets in seed.chunks_exact_mut(8) {
        octets.copy_from_slice(&random.number().to_be_bytes());
    }
    seed
}

fn said(status: StatusCode) -> String {
    format!("the switch said {} {}", status.code(), status.reason())
}
