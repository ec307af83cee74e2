//! The callee's part of an INVITE usage: provisional responses, reliable ones too (RFC 3262), the final response, and the 2xx that is
//! repeated until its ACK (RFC 3261 §13.3.1.4).

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::invite::{CommandError, DialogEvent, Ender, Invite, State};
use super::refresh::{self, Refresh, Verdict};
use super::{Dialog, DialogError};
use crate::endpoint::Core;
use crate::message::header::{CSeq, RAck, Reason};
use crate::message::{Headers, Method, Name, Request, Response, StatusCode};
use crate::transaction::ServerId;
use crate::transaction::timer::{LIFE, Repeat, T2, earlier};
use crate::transport::{Flow, Hop};

/// A request that we owe a final response.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) server: ServerId,
    pub(super) request: Box<Request>,
}

/// Our 2xx to an INVITE.
#[derive(Debug)]
pub(super) struct TwoHundred {
    server: ServerId,
    response: Response,
    number: u32,
    initial: bool,
    repeat: Repeat,
    end: Instant,
}

impl TwoHundred {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.repeat.at(), Some(self.end))
    }
}

#[derive(Debug)]
struct Outstanding {
    rseq: u32,
    response: Response,
    repeat: Repeat,
    end: Instant,
}

/// Reliable provisional responses of one INVITE: one waits for its PRACK, others wait behind it.
#[derive(Debug, Default)]
pub(super) struct Provisional {
    last_rseq: u32,
    outstanding: Option<Outstanding>,
    waiting: VecDeque<(StatusCode, Bytes)>,
    /// The 2xx that must not overtake a provisional response with SDP (RFC 3262 §3).
    accept: Option<Bytes>,
}

/// Most provisional responses that wait behind one without PRACK; further ones are dropped.
const MAX_WAITING: usize = 8;

impl Provisional {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.outstanding.as_ref().and_then(|out| earlier(out.repeat.at(), Some(out.end)))
    }
}

/// Returns true where the body is SDP or absent: nothing else is understood.
pub(super) fn has_sdp_or_nothing(request: &Request) -> bool {
    request.body.is_empty() || is_sdp(&request.headers)
}

pub(super) fn is_sdp(headers: &Headers) -> bool {
    let kind = headers.get(Name::ContentType).unwrap_or(b"");
    let kind = kind.split(|b| *b == b';').next().unwrap_or(b"").trim_ascii();
    kind.eq_ignore_ascii_case(b"application/sdp")
        && headers.get(Name::ContentEncoding).is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity"))
}

impl Invite {
    /// Takes an INVITE from outside a dialog. On an error the request was answered.
    pub(crate) fn incoming(
        core: &mut Core,
        now: Instant,
        (id, server, flow): (u64, ServerId, Flow),
        request: Request,
    ) -> Result<Self, DialogError> {
        let tag = core.tag(id);
        let mut dialog = Dialog::uas(&request, &tag, Hop::Flow(flow))?;
        dialog.local_seq = u32::try_from(core.random.below(1 << 30)).unwrap_or(1);
        let mut invite = Self::new(id, State::Incoming, dialog);
        invite.note_peer(&request.headers);
        invite.pending = Some(Pending { server, request: Box::new(request) });
        invite.provisional.last_rseq = u32::try_from(core.random.below(1 << 30)).unwrap_or(1) + 1;
        core.transactions.attach(server, id);
        let refused = match invite.pending.as_ref().map(|pending| &pending.request) {
            Some(request) if !has_sdp_or_nothing(request) => {
                Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, Name::Accept, "application/sdp".to_owned()))
            }
            Some(request) if refresh::uas(&request.headers, core.session_interval) == Verdict::TooSmall => {
                Some((StatusCode::SESSION_INTERVAL_TOO_SMALL, Name::MinSe, refresh::MIN_SE.as_secs().to_string()))
            }
            Some(_) | None => None,
        };
        if let Some((status, name, value)) = refused {
            let mut headers = Headers::default();
            headers.push(name, value);
            let _ = invite.refuse(core, now, status, &headers);
            invite.state = State::Ended;
        }
        Ok(invite)
    }

    /// Sends a provisional response, reliably where the caller asks for it, or supports it and there is SDP.
    pub(crate) fn progress(&mut self, core: &mut Core, now: Instant, status: StatusCode, body: Bytes) -> Result<(), CommandError> {
        let (State::Incoming, Some(pending)) = (self.state, &self.pending) else { return Err(CommandError::Gone) };
        let headers = &pending.request.headers;
        let late_offer = pending.request.body.is_empty();
        let required = headers.has_token(Name::Require, "100rel");
        let reliable = required || (!body.is_empty() && headers.has_token(Name::Supported, "100rel"));
        // The offer of a late-offer call goes out in the 2xx; a reliable provisional response would have to carry it (RFC 3262 §5).
        let body = if late_offer { Bytes::new() } else { body };
        if !reliable {
            let response = self.provisional_response(core, status, body);
            if let (Some(response), Some(pending)) = (response, &self.pending) {
                core.transactions.respond(now, pending.server, &response);
            }
        } else if self.provisional.outstanding.is_some() {
            if self.provisional.waiting.len() < MAX_WAITING {
                self.provisional.waiting.push_back((status, body));
            }
        } else {
            self.send_reliably(core, now, status, body);
        }
        Ok(())
    }

    fn provisional_response(&self, core: &Core, status: StatusCode, body: Bytes) -> Option<Response> {
        let pending = self.pending.as_ref()?;
        let mut response = core.response(&pending.request, status, self.dialog.local_tag());
        response.headers.copy(&pending.request.headers, Name::RecordRoute);
        core.describe(&mut response.headers, self.dialog.hop());
        if !body.is_empty() {
            response.set_body("application/sdp", body);
        }
        Some(response)
    }

    fn send_reliably(&mut self, core: &mut Core, now: Instant, status: StatusCode, body: Bytes) {
        let Some(mut response) = self.provisional_response(core, status, body) else { return };
        let Some(pending) = &self.pending else { return };
        self.provisional.last_rseq += 1;
        let rseq = self.provisional.last_rseq;
        response.headers.push(Name::Require, "100rel");
        response.headers.push(Name::RSeq, rseq.to_string());
        core.transactions.respond(now, pending.server, &response);
        // RFC 3262 §3: doubling without the limit of T2.
        let repeat = Repeat::start(now, false, LIFE);
        self.provisional.outstanding = Some(Outstanding { rseq, response, repeat, end: now + LIFE });
    }

    pub(super) fn handle_provisional_timeout(&mut self, core: &mut Core, now: Instant) {
        let (Some(out), Some(pending)) = (self.provisional.outstanding.as_mut(), &self.pending) else { return };
        if out.end <= now {
            // RFC 3262 §3: no PRACK in 64·T1 rejects the INVITE with a 5xx.
            self.provisional.outstanding = None;
            let _ = self.refuse(core, now, StatusCode::SERVER_TIMEOUT, &Headers::default());
            self.end(core, DialogEvent::Ended { by: Ender::NoAck, reason: None });
        } else if out.repeat.fired(now) {
            core.transactions.respond(now, pending.server, &out.response);
        }
    }

    pub(super) fn handle_prack(&mut self, core: &mut Core, now: Instant, server: ServerId, request: &Request) {
        let rack: Option<RAck> = request.headers.typed(Name::RAck).ok();
        let number = self.pending.as_ref().and_then(|p| p.request.headers.typed::<CSeq>(Name::CSeq).ok()).map(|cseq| cseq.number);
        let acknowledged = match (&rack, &self.provisional.outstanding) {
            (Some(rack), Some(out)) => rack.rseq == out.rseq && Some(rack.cseq) == number && rack.method == Method::Invite,
            _ => false,
        };
        if !acknowledged {
            return core.reply(now, server, request, StatusCode::NO_TRANSACTION, self.dialog.local_tag());
        }
        // An offer inside a PRACK is not taken (RFC 3262 §5 leaves that to us); the early session stays as it is.
        let status = if request.body.is_empty() { StatusCode::OK } else { StatusCode::NOT_ACCEPTABLE_HERE };
        core.reply(now, server, request, status, self.dialog.local_tag());
        self.provisional.outstanding = None;
        if let Some(body) = self.provisional.accept.take() {
            self.accept(core, now, body);
        } else if let Some((status, body)) = self.provisional.waiting.pop_front() {
            self.send_reliably(core, now, status, body);
        }
    }

    /// Answers the pending INVITE, re-INVITE or UPDATE with 200.
    pub(crate) fn accept(&mut self, core: &mut Core, now: Instant, body: Bytes) {
        let sdp_unacknowledged = self.provisional.outstanding.as_ref().is_some_and(|out| !out.response.body.is_empty());
        if sdp_unacknowledged && self.pending.as_ref().is_some_and(|p| p.request.method == Method::Invite) {
            self.provisional.accept = Some(body);
            return;
        }
        let Some(pending) = self.pending.take() else { return };
        let initial = self.state == State::Incoming;
        let mut response = core.response(&pending.request, StatusCode::OK, self.dialog.local_tag());
        if initial {
            response.headers.copy(&pending.request.headers, Name::RecordRoute);
        }
        core.describe(&mut response.headers, self.dialog.hop());
        self.agree_session_timer(core, now, &pending.request, &mut response);
        if !body.is_empty() {
            self.local_body = body.clone();
            response.set_body("application/sdp", body);
        }
        core.transactions.respond(now, pending.server, &response);
        self.provisional = Provisional { last_rseq: self.provisional.last_rseq, ..Provisional::default() };
        self.state = State::Established;
        if pending.request.method == Method::Invite {
            let number = pending.request.headers.typed::<CSeq>(Name::CSeq).map_or(0, |cseq| cseq.number);
            let repeat = Repeat::start(now, false, T2);
            self.two_hundred = Some(TwoHundred { server: pending.server, response, number, initial, repeat, end: now + LIFE });
        }
    }

    fn agree_session_timer(&mut self, core: &Core, now: Instant, request: &Request, response: &mut Response) {
        if !matches!(request.method, Method::Invite | Method::Update) {
            return;
        }
        match refresh::uas(&request.headers, core.session_interval) {
            Verdict::On(expires, ours) => {
                response.headers.push(Name::SessionExpires, expires.to_string());
                if !ours {
                    response.headers.push(Name::Require, "timer");
                }
                self.refresh = Some(Refresh::start(now, expires.interval, ours));
            }
            Verdict::Off | Verdict::TooSmall => self.refresh = self.refresh.map(|refresh| refresh.restarted(now)),
        }
    }

    /// Refuses the pending INVITE, re-INVITE or UPDATE. An initial INVITE ends with it, without an event.
    pub(crate) fn refuse(&mut self, core: &mut Core, now: Instant, status: StatusCode, headers: &Headers) -> Result<(), CommandError> {
        let Some(pending) = self.pending.take() else { return Err(CommandError::Gone) };
        let mut response = core.response(&pending.request, status, self.dialog.local_tag());
        response.headers.copy_where(headers, |_| true);
        core.transactions.respond(now, pending.server, &response);
        if self.state == State::Incoming {
            self.state = State::Ended;
        }
        Ok(())
    }

    /// The caller cancelled the pending INVITE or re-INVITE; its CANCEL is answered already.
    pub(crate) fn handle_cancel(&mut self, core: &mut Core, now: Instant, cancel: &Request) {
        let Some(pending) = self.pending.take() else { return };
        core.reply(now, pending.server, &pending.request, StatusCode::REQUEST_TERMINATED, self.dialog.local_tag());
        if self.state == State::Incoming {
            let reason = cancel.headers.first(Name::Reason).ok();
            self.end(core, DialogEvent::Cancelled { reason });
        }
    }

    /// The ACK of our 2xx.
    pub(crate) fn handle_ack(&mut self, core: &mut Core, now: Instant, ack: &Request) {
        let number = ack.headers.typed::<CSeq>(Name::CSeq).map_or(0, |cseq| cseq.number);
        if self.two_hundred.as_ref().is_none_or(|answered| answered.number != number) {
            return;
        }
        self.two_hundred = None;
        let body = if is_sdp(&ack.headers) { ack.body.clone() } else { Bytes::new() };
        if let Some(reason) = self.bye_after_ack.take() {
            return self.bye(core, now, reason);
        }
        self.tell(core, DialogEvent::Acknowledged { body });
    }

    pub(super) fn pending_two_hundred_is_first(&self) -> bool {
        self.two_hundred.as_ref().is_some_and(|answered| answered.initial)
    }

    pub(super) fn handle_two_hundred_timeout(&mut self, core: &mut Core, now: Instant) {
        let Some(answered) = self.two_hundred.as_mut() else { return };
        if answered.end <= now {
            self.two_hundred = None;
            self.send_bye(core, now, Some(&Reason::sip(408, "No ACK")));
            let by = if self.bye_after_ack.is_some() { Ender::Us } else { Ender::NoAck };
            self.end(core, DialogEvent::Ended { by, reason: None });
        } else if answered.repeat.fired(now) {
            core.transactions.respond(now, answered.server, &answered.response);
        }
    }
}
