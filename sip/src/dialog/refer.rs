//! REFER, received (RFC 3515): what the peer asks for goes to the host, and how it goes is told to the peer by NOTIFY, in a subscription
//! that the REFER makes (RFC 6665), unless the peer wants none (RFC 4488). It shares the dialog with the session, if there is one, and
//! outlives it: one does not end with the other (RFC 5057). What a referral means is decided above.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::invite::{CommandError, DialogId, Invite, State, number};
use crate::endpoint::{Core, Event};
use crate::message::header::{self, HeaderError, ReferTo, ReferredBy, params};
use crate::message::{Method, Name, Request, Response, Scheme, StatusCode};
use crate::transaction::timer::{LIFE, earlier};
use crate::transaction::{ClientId, Owner, ServerId};

/// Most REFERs of one dialog whose outcome is not told yet; a further one gets 500 with Retry-After.
const MAX_REFERENCES: usize = 8;

/// How long the peer is told about a REFER whose outcome stays unknown; the peer may ask for more or less within it.
const LONGEST: Duration = Duration::from_secs(300);

/// Names one REFER of a dialog: the number of its CSeq, which is also the `id` of its NOTIFYs (RFC 3515 §2.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferId(pub(crate) u32);

/// Whether the peer hears how its REFER goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// By NOTIFY.
    Wanted,
    /// Not at all (`Refer-Sub: false`, RFC 4488).
    Unwanted,
}

/// A REFER: the peer asks for a call to somewhere else.
#[derive(Clone, Debug)]
pub struct Refer {
    /// Its name in its dialog.
    pub id: ReferId,
    /// Where to.
    pub to: ReferTo,
    /// Who says so, by the peer's word alone.
    pub by: Option<ReferredBy>,
    /// Whether the peer hears how it goes.
    pub reports: Reports,
}

impl Refer {
    /// Reads a REFER, or returns the status that refuses it: 400 where Refer-To is not there once and well-formed (RFC 3515 §2.4.2), 416 for a
    /// URI that nobody can call, 501 where another method than INVITE is wanted.
    pub(crate) fn read(request: &Request) -> Result<Self, StatusCode> {
        let malformed = |_: HeaderError| StatusCode::BAD_REQUEST;
        let to: ReferTo = request.headers.typed(Name::ReferTo).map_err(malformed)?;
        let by = request.headers.optional(Name::ReferredBy).map_err(malformed)?;
        let reports = match request.headers.optional::<Wanted>(Name::ReferSub).map_err(malformed)? {
            Some(Wanted(false)) => Reports::Unwanted,
            Some(Wanted(true)) | None => Reports::Wanted,
        };
        match to.uri.scheme() {
            Scheme::Other => Err(StatusCode::UNSUPPORTED_URI_SCHEME),
            Scheme::Sip | Scheme::Sips | Scheme::Tel if to.method != Method::Invite => Err(StatusCode::NOT_IMPLEMENTED),
            Scheme::Sip | Scheme::Sips | Scheme::Tel => Ok(Self { id: ReferId(number(&request.headers)), to, by, reports }),
        }
    }
}

/// Refer-Sub (RFC 4488 §4).
struct Wanted(bool);

impl header::Header for Wanted {
    fn parse(text: &bytestring::ByteString) -> Option<Self> {
        match text.split(';').next()?.trim() {
            word if word.eq_ignore_ascii_case("true") => Some(Self(true)),
            word if word.eq_ignore_ascii_case("false") => Some(Self(false)),
            _ => None,
        }
    }
}

/// Where a REFER stands.
#[derive(Debug)]
enum Stage {
    /// The host decides.
    Asked { server: ServerId, request: Box<Request>, reports: Reports },
    /// Accepted; the outcome is not known.
    Active,
    /// The outcome is told, or nobody wants to hear it.
    Over(&'static str),
}

/// One REFER of the peer and the subscription it made.
#[derive(Debug)]
pub(super) struct Reference {
    id: ReferId,
    stage: Stage,
    /// The last that is known.
    status: StatusCode,
    /// A NOTIFY that waits for its response: the next one waits for it, too, unless it is the last.
    notify: Option<ClientId>,
    /// The one before the last, which the last did not wait for.
    overtaken: Option<ClientId>,
    /// The peer does not know what is known.
    untold: bool,
    expires: Instant,
}

impl Reference {
    fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Over(_)) && self.notify.is_none() && self.overtaken.is_none() && !self.untold
    }

    /// Returns true for a NOTIFY that is to be sent now. The last waits for none: a BYE that follows it is not to be there first, for
    /// phones end what they know of the REFER with the call.
    fn is_due(&self) -> bool {
        self.untold && (self.notify.is_none() || matches!(self.stage, Stage::Over(_)))
    }
}

impl Invite {
    /// A REFER came within the dialog; its server transaction is open.
    pub(super) fn handle_refer(&mut self, core: &mut Core, now: Instant, server: ServerId, request: Request) {
        let refer = match Refer::read(&request) {
            // The peer's own INVITE, or ours to it, is not answered yet.
            Ok(_) if self.is_early() => Err(StatusCode::REQUEST_PENDING),
            Ok(_) if self.references.len() >= MAX_REFERENCES => {
                return self.put_off(core, now, server, &request, StatusCode::SERVER_INTERNAL_ERROR);
            }
            other => other,
        };
        match refer {
            Ok(refer) => {
                self.ask(now, server, request, &refer);
                core.events.push_back(Event::Refer(DialogId(self.id), Box::new(refer)));
            }
            Err(status) => core.reply(now, server, &request, status, self.dialog.local_tag()),
        }
    }

    /// Keeps a REFER until the host decides.
    pub(crate) fn ask(&mut self, now: Instant, server: ServerId, request: Request, refer: &Refer) {
        let stage = Stage::Asked { server, request: Box::new(request), reports: refer.reports };
        let expires = now + LIFE; // of the peer's transaction (timer F)
        self.references.push(Reference {
            id: refer.id,
            stage,
            status: StatusCode::TRYING,
            notify: None,
            overtaken: None,
            untold: false,
            expires,
        });
    }

    /// Takes a REFER on: 202 and the first NOTIFY, or 200 where no reports are wanted.
    pub(crate) fn accept_refer(&mut self, core: &mut Core, now: Instant, id: ReferId) -> Result<(), CommandError> {
        let (server, request, reports) = self.asked(id)?;
        self.dialog.refresh_target(&request.headers, None); // RFC 5057 §5.3
        let status = if reports == Reports::Wanted { StatusCode::ACCEPTED } else { StatusCode::OK };
        let mut response = core.response(&request, status, self.dialog.local_tag());
        response.headers.copy(&request.headers, Name::RecordRoute);
        core.describe(&mut response.headers, self.dialog.hop());
        if reports == Reports::Unwanted {
            response.headers.push(Name::ReferSub, "false");
        } else {
            let expires = now + LONGEST;
            let stage = Stage::Active;
            let status = StatusCode::TRYING;
            self.references.push(Reference { id, stage, status, notify: None, overtaken: None, untold: true, expires });
        }
        core.transactions.respond(now, server, &response);
        self.notify(core, now);
        Ok(())
    }

    /// Refuses a REFER; nothing follows.
    pub(crate) fn refuse_refer(&mut self, core: &mut Core, now: Instant, id: ReferId, status: StatusCode) -> Result<(), CommandError> {
        let (server, request, _) = self.asked(id)?;
        core.reply(now, server, &request, status, self.dialog.local_tag());
        Ok(())
    }

    fn asked(&mut self, id: ReferId) -> Result<(ServerId, Box<Request>, Reports), CommandError> {
        let at = self.references.iter().position(|reference| reference.id == id && matches!(reference.stage, Stage::Asked { .. }));
        match at.map(|at| self.references.remove(at).stage) {
            Some(Stage::Asked { server, request, reports }) => Ok((server, request, reports)),
            Some(Stage::Active | Stage::Over(_)) | None => Err(CommandError::Gone),
        }
    }

    /// Tells the peer how its REFER goes; a final status ends the subscription. Nothing happens where nobody listens any more.
    pub(crate) fn report(&mut self, core: &mut Core, now: Instant, id: ReferId, status: StatusCode) {
        let active = |reference: &&mut Reference| reference.id == id && matches!(reference.stage, Stage::Active);
        let Some(reference) = self.references.iter_mut().find(active).filter(|reference| reference.status != status) else { return };
        (reference.status, reference.untold) = (status, true);
        if status.is_final() {
            reference.stage = Stage::Over("noresource");
        }
        self.notify(core, now);
    }

    /// Sends the NOTIFYs that are due: the latest state.
    fn notify(&mut self, core: &mut Core, now: Instant) {
        let mut references = std::mem::take(&mut self.references);
        for reference in references.iter_mut().filter(|reference| reference.is_due()) {
            reference.untold = false;
            reference.overtaken = reference.notify.replace(self.send_notify(core, now, reference));
        }
        references.retain(|reference| !reference.is_done());
        self.references = references;
    }

    fn send_notify(&mut self, core: &mut Core, now: Instant, reference: &Reference) -> ClientId {
        let state = match reference.stage {
            Stage::Over(reason) => format!("terminated;reason={reason}"),
            Stage::Asked { .. } | Stage::Active => {
                format!("active;expires={}", reference.expires.saturating_duration_since(now).as_secs())
            }
        };
        let mut request = self.dialog.request(Method::Notify);
        core.describe(&mut request.headers, self.dialog.hop());
        request.headers.push(Name::Event, format!("refer;id={}", reference.id.0));
        request.headers.push(Name::SubscriptionState, state);
        request.set_body("message/sipfrag;version=2.0", Bytes::from(format!("SIP/2.0 {}\r\n", reference.status)));
        self.send(core, now, request, Owner::Dialog(self.id))
    }

    /// The response to a NOTIFY, or nothing came (408): a failure ends the subscription, and nothing else (RFC 5057 §5.1). False where it
    /// belongs to no NOTIFY of ours.
    pub(super) fn handle_notify_response(&mut self, core: &mut Core, now: Instant, client: ClientId, response: &Response) -> bool {
        let sent = |reference: &&mut Reference| reference.notify == Some(client) || reference.overtaken == Some(client);
        let Some(reference) = self.references.iter_mut().find(sent) else { return false };
        match response.status.is_final() {
            false => return true,
            true if reference.overtaken == Some(client) => reference.overtaken = None,
            true => {
                reference.notify = None;
                if response.status.is_failure() {
                    (reference.stage, reference.untold) = (Stage::Over("noresource"), false);
                }
            }
        }
        self.notify(core, now);
        true
    }

    /// Returns true for a SUBSCRIBE that is about a REFER (RFC 3515 §2.4.4).
    pub(super) fn is_about_refer(request: &Request) -> bool {
        request.method == Method::Subscribe
            && request.headers.typed::<header::Event>(Name::Event).is_ok_and(|event| event.package.eq_ignore_ascii_case("refer"))
    }

    /// The peer wants to hear longer how its REFER goes, or no more.
    pub(super) fn handle_subscribe(&mut self, core: &mut Core, now: Instant, server: ServerId, request: &Request) {
        let id: Option<u32> = match request.headers.typed::<header::Event>(Name::Event).map(|event| event.params) {
            Ok(params) => params.get("id").and_then(params::decimal),
            Err(_) => None,
        };
        // Without an id it is about the first one (RFC 3515 §2.4.6). One that is over may not be known to be.
        let is_taken = |reference: &Reference| !matches!(reference.stage, Stage::Asked { .. });
        let wanted = |reference: &&mut Reference| id.is_none_or(|id| reference.id.0 == id) && is_taken(reference);
        let expires = request.headers.number(Name::Expires);
        let (Some(reference), Ok(expires)) = (self.references.iter_mut().find(wanted), expires) else {
            let status = if expires.is_err() { StatusCode::BAD_REQUEST } else { StatusCode::NO_TRANSACTION };
            return core.reply(now, server, request, status, self.dialog.local_tag());
        };
        let mut granted = expires.map_or(LONGEST, |seconds| Duration::from_secs(seconds.into()).min(LONGEST));
        if let Stage::Over(_) = reference.stage {
            granted = Duration::ZERO;
        } else {
            (reference.expires, reference.untold) = (now + granted, true);
            if granted.is_zero() {
                reference.stage = Stage::Over("timeout");
            }
        }
        self.dialog.refresh_target(&request.headers, None);
        let mut response = core.response(request, StatusCode::OK, self.dialog.local_tag());
        core.describe(&mut response.headers, self.dialog.hop());
        response.headers.push(Name::Expires, granted.as_secs().to_string());
        core.transactions.respond(now, server, &response);
        self.notify(core, now);
    }

    /// The session is over: who asked for something and then hung up has no answer to wait for (RFC 3261 §15.1.2). What is accepted goes on.
    pub(super) fn drop_asked(&mut self, core: &mut Core, now: Instant) {
        let tag = self.dialog.local_tag();
        self.references.retain(|reference| match &reference.stage {
            Stage::Asked { server, request, .. } => {
                core.reply(now, *server, request, StatusCode::REQUEST_TERMINATED, tag);
                false
            }
            Stage::Active | Stage::Over(_) => true,
        });
    }

    pub(super) fn handle_reference_timeout(&mut self, core: &mut Core, now: Instant) {
        // Whoever should decide or tell has forgotten it.
        self.references.retain(|reference| reference.expires > now || !matches!(reference.stage, Stage::Asked { .. }));
        for reference in self.references.iter_mut().filter(|reference| reference.expires <= now && matches!(reference.stage, Stage::Active))
        {
            (reference.stage, reference.untold) = (Stage::Over("timeout"), true);
        }
        self.notify(core, now);
    }

    pub(super) fn poll_reference_timeout(&self) -> Option<Instant> {
        let waits = |reference: &&Reference| !matches!(reference.stage, Stage::Over(_));
        self.references.iter().filter(waits).map(|reference| Some(reference.expires)).fold(None, earlier)
    }

    /// Returns true when the session is over, or never was one, and nobody waits to hear about a REFER.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Ended && self.references.is_empty()
    }
}
