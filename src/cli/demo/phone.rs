//! The SIP of a scripted device: it registers, calls, answers and hangs up when the script says so (RFC 3261 §10.2, §13, §15, §22).
//! Offers and answers come from the device; it does not read them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use sip::digest::{self, Answered, Login};
use sip::message::header::{CSeq, NameAddr};
use sip::message::{Headers, Name};
use sip::random::Random;
use sip::{DialogEvent, DialogId, Event, Host, Method, OutgoingInvite, Request, Response, StatusCode, Transport, Uri};

use super::line::Line;
use crate::clock;

/// Whose phone it is, and what it is told of the switch.
pub struct Account<'a> {
    /// User name at the switch.
    pub name: &'a str,
    /// Password of the user.
    pub password: &'a str,
    /// Realm, and host part of the AOR.
    pub domain: &'a str,
    /// Address of the switch.
    pub switch: std::net::SocketAddr,
    /// How to reach it.
    pub transport: Transport,
    /// Certificate of the switch in PEM, for a secure transport.
    pub certificate: &'a [u8],
}

/// The SIP of a device.
pub struct Phone {
    line: Line,
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

impl Phone {
    /// Connects to the switch.
    ///
    /// # Errors
    /// The switch cannot be reached.
    pub async fn open(account: Account<'_>, random: &mut Random) -> anyhow::Result<Self> {
        let mut random = Random::new(seed(random));
        let line = Line::open(account.transport, account.switch, account.certificate, seed(&mut random));
        let line = line.await.context("no connection to the switch")?;
        let (username, password, realm) = (account.name.to_owned(), account.password.to_owned(), Some(account.domain.to_owned()));
        let login = Login { username, password, realm };
        let domain = Host::parse(account.domain).context("the domain is no host")?;
        let register = Registering { call_id: random.token().to_string(), cseq: 0 };
        Ok(Self { line, login, domain, random, register })
    }

    /// Registers for a time; none takes the registration back.
    ///
    /// # Errors
    /// The switch cannot be reached, or refuses.
    pub async fn register(&mut self, expires: Duration) -> anyhow::Result<()> {
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

    /// Calls, and returns the answer of the other side.
    ///
    /// # Errors
    /// The switch cannot be reached, or refuses.
    pub async fn call(&mut self, number: &str, offer: Bytes) -> anyhow::Result<(DialogId, Bytes)> {
        let uri = self.uri(number)?;
        let from = NameAddr::new(self.uri(&self.login.username)?);
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
                    return Ok((dialog, answer));
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

    /// Waits until something happens that the switch began; nothing is lost where the future is dropped while it waits.
    pub(super) async fn news(&mut self) -> anyhow::Result<News> {
        loop {
            let event = self.line.next().await?;
            if let Event::Request(incoming) = event {
                if incoming.request.method != Method::Invite {
                    continue;
                }
                let offer = incoming.request.body.clone();
                let dialog = self.line.sip.take(clock::now(), *incoming).context("the call cannot be taken")?;
                self.line.sip.progress(clock::now(), dialog, StatusCode::RINGING, Bytes::new())?;
                self.line.flush().await?;
                return Ok(News::Rings { dialog, offer });
            }
            let Event::Dialog(dialog, event) = event else { continue };
            if let DialogEvent::Offered { body } = event {
                return Ok(News::Offered { dialog, offer: body });
            }
            if matches!(event, DialogEvent::Cancelled { .. } | DialogEvent::Ended { .. }) {
                self.line.flush().await?;
                return Ok(News::Over(dialog));
            }
        }
    }

    /// Answers an offer in a call that is up.
    pub(super) async fn agree(&mut self, dialog: DialogId, answer: Bytes) -> anyhow::Result<()> {
        self.line.sip.accept(clock::now(), dialog, answer);
        self.line.flush().await
    }

    /// Waits for a call, rings, and returns its offer.
    ///
    /// # Errors
    /// The switch cannot be reached.
    pub async fn ring(&mut self) -> anyhow::Result<(DialogId, Bytes)> {
        let incoming = self.line.invitation().await?;
        let offer = incoming.request.body.clone();
        let dialog = self.line.sip.take(clock::now(), incoming).context("the call cannot be taken")?;
        self.line.sip.progress(clock::now(), dialog, StatusCode::RINGING, Bytes::new())?;
        self.line.flush().await?;
        Ok((dialog, offer))
    }

    /// Answers, and returns when that is acknowledged.
    ///
    /// # Errors
    /// The switch cannot be reached, or gave up.
    pub async fn accept(&mut self, dialog: DialogId, answer: Bytes) -> anyhow::Result<()> {
        self.line.sip.accept(clock::now(), dialog, answer);
        loop {
            let event = self.line.happening(dialog).await?;
            if matches!(event, DialogEvent::Acknowledged { .. }) {
                return Ok(());
            }
            if matches!(event, DialogEvent::Cancelled { .. } | DialogEvent::Ended { .. }) {
                bail!("the call was over before it was acknowledged");
            }
        }
    }

    /// Hangs up.
    ///
    /// # Errors
    /// The switch cannot be reached.
    pub async fn hang_up(&mut self, dialog: DialogId) -> anyhow::Result<()> {
        self.line.sip.bye(clock::now(), dialog, None);
        self.until_over(dialog).await
    }

    /// Waits until the call is over.
    ///
    /// # Errors
    /// The switch cannot be reached.
    pub async fn until_over(&mut self, dialog: DialogId) -> anyhow::Result<()> {
        while !matches!(self.line.happening(dialog).await?, DialogEvent::Ended { .. }) {}
        self.line.flush().await
    }

    /// Returns a source of random numbers of the device's own.
    pub(super) fn random(&mut self) -> Random {
        Random::new(seed(&mut self.random))
    }

    /// Returns a random number.
    pub fn number(&mut self) -> u64 {
        self.random.number()
    }

    fn answer_challenge(&mut self, answered: &mut Answered, challenge: &Response, request: &mut Request) -> anyhow::Result<()> {
        let cnonce = self.random.token();
        digest::answer(answered, &self.login, challenge, request, &cnonce).with_context(|| said(challenge.status))
    }

    fn uri(&self, user: &str) -> anyhow::Result<Uri> {
        Uri::sip(user, &self.domain, None, "").with_context(|| format!("{user:?} cannot be called"))
    }
}

/// What the switch began.
pub(super) enum News {
    /// A call; the phone says that it rings.
    Rings {
        /// The call.
        dialog: DialogId,
        /// The switch's SDP.
        offer: Bytes,
    },
    /// A re-INVITE or an UPDATE.
    Offered {
        /// The call.
        dialog: DialogId,
        /// The switch's SDP.
        offer: Bytes,
    },
    /// The call is over, answered or not.
    Over(DialogId),
}

/// What an INVITE came to.
enum Outcome {
    /// 200, with its SDP.
    Answered(Bytes),
    /// 407.
    Refused(Box<Response>),
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
