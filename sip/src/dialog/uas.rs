//! The callee's part of an INVITE usage: provisional responses, reliable ones too (RFC 3262), the final response, and the 2xx that is
//! repeated until its ACK (RFC 3261 §13.3.1.4).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Dialog;
use super::body::{NotUnderstood, session};
use super::invite::{CommandError, DialogEvent, Ender, Invite, State, number};
use super::refresh::{self, Refresh, Verdict};
use crate::endpoint::Core;
use crate::message::header::{RAck, Reason};
use crate::message::{Headers, Method, Name, Request, Response, StatusCode};
use crate::transaction::ServerId;
use crate::transaction::timer::{LIFE, Repeat, T2, earlier};
use crate::transport::{Flow, Hop};

/// A request that we owe a final response.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) server: ServerId,
    pub(super) flow: Flow,
    pub(super) request: Request,
}

/// What a 2xx of ours is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It establishes the session.
    First,
    /// It answers a re-INVITE.
    Further,
}

/// Our 2xx to an INVITE.
#[derive(Debug)]
pub(super) struct TwoHundred {
    server: ServerId,
    bytes: Bytes,
    number: u32,
    answer: Answer,
    /// The INVITE had no offer: ours is in the 2xx, and the answer comes in the ACK.
    late_offer: bool,
    repeat: Repeat,
    end: Instant,
    /// Set when the host hung up; BYE has to wait for the ACK (§15).
    pub(super) hang_up: Option<Option<Reason>>,
}

impl TwoHundred {
    pub(super) fn is_first(&self) -> bool {
        self.answer == Answer::First
    }

    pub(super) fn is_offer(&self) -> bool {
        self.late_offer
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.repeat.at(), Some(self.end))
    }
}

/// A reliable provisional response that waits for its PRACK.
#[derive(Debug)]
struct Outstanding {
    rseq: u32,
    /// The CSeq number of the INVITE.
    number: u32,
    has_body: bool,
    bytes: Bytes,
    repeat: Repeat,
    end: Option<Instant>,
}

/// Provisional responses of one INVITE. Of the reliable ones (RFC 3262), one waits for its PRACK, others wait behind it.
#[derive(Debug, Default)]
pub(super) struct Provisional {
    last_rseq: u32,
    outstanding: Option<Outstanding>,
    waiting: VecDeque<(StatusCode, Bytes)>,
    /// The 2xx that must not overtake a provisional response with SDP (RFC 3262 §3).
    accept: Option<Bytes>,
    /// A reliable one with SDP has its PRACK: the offer is answered.
    is_answer: bool,
    /// The last one, and when to send it again.
    again: Option<(StatusCode, Instant)>,
}

/// Most provisional responses that wait behind one without PRACK; further ones are dropped.
const MAX_WAITING: usize = 8;

/// How often a call that rings says so, against timer C of proxies on the way (§13.3.1.1).
const STILL_RINGING: Duration = Duration::from_secs(60);

impl Provisional {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let prack = self.outstanding.as_ref().and_then(|out| earlier(out.repeat.at(), out.end));
        earlier(prack, self.again.map(|(_, at)| at))
    }

    pub(super) fn is_answer(&self) -> bool {
        self.is_answer
    }

    /// The final response went out: nothing is repeated any more, but a PRACK that is on its way is still good (RFC 3262 §3).
    fn finish(&mut self) {
        self.waiting.clear();
        self.again = None;
        if let Some(out) = self.outstanding.as_mut() {
            (out.repeat, out.end, out.bytes) = (Repeat::OFF, None, Bytes::new());
        }
    }
}

/// Leaves of a request's body what is its session description.
pub(super) fn reduce(request: &mut Request) -> Result<(), NotUnderstood> {
    request.body = session(&request.headers, &request.body)?;
    Ok(())
}

/// Returns true where our SDP is understood: without Accept it is (§20.1).
fn accepts_sdp(headers: &Headers) -> bool {
    let kind = |range: &str| range.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    !headers.has(Name::Accept)
        || headers.tokens(Name::Accept).any(|range| matches!(&*kind(range), "application/sdp" | "application/*" | "*/*"))
}

impl Invite {
    /// Takes an INVITE from outside a dialog. None if it was refused.
    pub(crate) fn incoming(core: &mut Core, now: Instant, (id, server, flow): (u64, ServerId, Flow), mut request: Request) -> Option<Self> {
        let tag = core.tag(id);
        let refused = match () {
            () if reduce(&mut request).is_err() => Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, None)),
            () if !accepts_sdp(&request.headers) => Some((StatusCode::NOT_ACCEPTABLE, None)),
            () if refresh::uas(&request.headers, core.session_interval) == Verdict::TooSmall => {
                Some((StatusCode::SESSION_INTERVAL_TOO_SMALL, Some(refresh::MIN_SE)))
            }
            () => None,
        };
        let dialog = match refused {
            None => Dialog::uas(&request, &tag, Hop::Flow(flow)).map_err(|_| (StatusCode::BAD_REQUEST, None)),
            Some(refused) => Err(refused),
        };
        let mut dialog = match dialog {
            Ok(dialog) => dialog,
            Err((status, min_se)) => {
                let mut response = core.response(&request, status, &tag);
                if let Some(min_se) = min_se {
                    response.headers.push(Name::MinSe, min_se.as_secs().to_string());
                }
                core.transactions.respond(now, server, &response);
                return None;
            }
        };
        dialog.local_seq = u32::try_from(core.random.below(1 << 30)).unwrap_or(1);
        let mut invite = Self::new(id, State::Incoming, dialog);
        invite.note_peer(&request.headers);
        let last_rseq = u32::try_from(core.random.below(1 << 30)).unwrap_or(1) + 1;
        invite.provisional = Some(Box::new(Provisional { last_rseq, ..Provisional::default() }));
        invite.pending = Some(Box::new(Pending { server, flow, request }));
        core.transactions.attach(server, id);
        Some(invite)
    }

    /// Sends a provisional response, reliably where the caller asks for it, or supports it and there is SDP.
    pub(crate) fn progress(&mut self, core: &mut Core, now: Instant, status: StatusCode, body: Bytes) -> Result<(), CommandError> {
        let (State::Incoming, Some(pending), Some(provisional)) = (self.state, &self.pending, &mut self.provisional) else {
            return Err(CommandError::Gone);
        };
        let headers = &pending.request.headers;
        let late_offer = pending.request.body.is_empty();
        let required = headers.has_token(Name::Require, "100rel");
        if late_offer && required {
            // It would have to carry our offer (RFC 3262 §5), which goes out in the 2xx: this caller hears nothing until then.
            return Ok(());
        }
        let body = if late_offer { Bytes::new() } else { body };
        let reliable = required || (!body.is_empty() && headers.has_token(Name::Supported, "100rel"));
        provisional.again = Some((status, now + STILL_RINGING));
        if !reliable {
            let response = self.provisional_response(core, status, body);
            if let (Some(response), Some(pending)) = (response, &self.pending) {
                core.transactions.respond(now, pending.server, &response);
            }
        } else if provisional.outstanding.is_some() {
            if provisional.waiting.len() < MAX_WAITING {
                provisional.waiting.push_back((status, body));
            }
        } else {
            self.send_reliably(core, now, status, body);
        }
        Ok(())
    }

    /// Returns true while our 2xx waits for the PRACK of a provisional response.
    pub(super) fn answer_waits(&self) -> bool {
        self.provisional.as_ref().is_some_and(|provisional| provisional.accept.is_some())
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
        let (Some(pending), Some(provisional)) = (&self.pending, &mut self.provisional) else { return };
        provisional.last_rseq += 1;
        let rseq = provisional.last_rseq;
        response.headers.push(Name::Require, "100rel");
        response.headers.push(Name::RSeq, rseq.to_string());
        let bytes = core.transactions.respond(now, pending.server, &response);
        // RFC 3262 §3: doubling without the limit of T2.
        let repeat = Repeat::start(now, false, LIFE);
        let (number, has_body) = (number(&pending.request.headers), !response.body.is_empty());
        provisional.outstanding = Some(Outstanding { rseq, number, has_body, bytes, repeat, end: Some(now + LIFE) });
    }

    pub(super) fn handle_provisional_timeout(&mut self, core: &mut Core, now: Instant) {
        let (State::Incoming, Some(pending), Some(provisional)) = (self.state, &self.pending, &mut self.provisional) else { return };
        if let Some(out) = provisional.outstanding.as_mut() {
            if out.end.is_some_and(|end| end <= now) {
                // RFC 3262 §3: no PRACK in 64·T1 rejects the INVITE with a 5xx.
                let _ = self.refuse(core, now, StatusCode::SERVER_TIMEOUT, &Headers::default());
                return self.end(core, now, DialogEvent::Ended { by: Ender::NoPrack, reason: None });
            }
            if out.repeat.fired(now) {
                core.transactions.respond_again(pending.server, out.bytes.clone());
            }
        }
        if let Some((status, _)) = provisional.again.filter(|(_, at)| *at <= now) {
            let _ = self.progress(core, now, status, Bytes::new());
        }
    }

    pub(super) fn handle_prack(&mut self, core: &mut Core, now: Instant, server: ServerId, request: &Request) {
        let rack: Option<RAck> = request.headers.typed(Name::RAck).ok();
        let provisional = self.provisional.as_mut();
        let acknowledged = match (&rack, provisional.as_ref().and_then(|provisional| provisional.outstanding.as_ref())) {
            (Some(rack), Some(out)) => rack.rseq == out.rseq && rack.cseq == out.number && rack.method == Method::Invite,
            _ => false,
        };
        let Some(provisional) = provisional.filter(|_| acknowledged) else {
            return core.reply(now, server, request, StatusCode::NO_TRANSACTION, self.dialog.local_tag());
        };
        // An offer inside a PRACK is not taken (RFC 3262 §5 leaves that to us); the early session stays as it is.
        let status = if request.body.is_empty() { StatusCode::OK } else { StatusCode::NOT_ACCEPTABLE_HERE };
        core.reply(now, server, request, status, self.dialog.local_tag());
        provisional.is_answer |= provisional.outstanding.take().is_some_and(|out| out.has_body);
        if let Some(body) = provisional.accept.take() {
            self.accept(core, now, body);
        } else if let Some((status, body)) = provisional.waiting.pop_front() {
            self.send_reliably(core, now, status, body);
        }
    }

    /// Answers the pending INVITE, re-INVITE or UPDATE with 200.
    pub(crate) fn accept(&mut self, core: &mut Core, now: Instant, body: Bytes) {
        let first = self.state == State::Incoming;
        if let Some(provisional) = self.provisional.as_mut().filter(|_| first) {
            if provisional.outstanding.as_ref().is_some_and(|out| out.has_body) {
                provisional.accept = Some(body);
                return;
            }
            provisional.finish();
        }
        let Some(pending) = self.pending.take() else { return };
        let headers = &pending.request.headers;
        let mut response = core.response(&pending.request, StatusCode::OK, self.dialog.local_tag());
        if first {
            response.headers.copy(headers, Name::RecordRoute);
        } else {
            self.dialog.refresh_target(headers, Some(pending.flow));
        }
        core.describe(&mut response.headers, self.dialog.hop());
        self.agree_session_timer(core, now, &pending.request, &mut response);
        if !body.is_empty() {
            self.local_body = body.clone();
            response.set_body("application/sdp", body);
        }
        let bytes = core.transactions.respond(now, pending.server, &response);
        self.state = State::Established;
        self.probe.heard(now, core.session_interval);
        if pending.request.method == Method::Invite {
            let answer = if first { Answer::First } else { Answer::Further };
            let (number, late_offer) = (number(headers), pending.request.body.is_empty());
            let repeat = Repeat::start(now, false, T2);
            let (server, end) = (pending.server, now + LIFE);
            self.two_hundred = Some(Box::new(TwoHundred { server, bytes, number, answer, late_offer, repeat, end, hang_up: None }));
        }
    }

    pub(super) fn agree_session_timer(&mut self, core: &Core, now: Instant, request: &Request, response: &mut Response) {
        match refresh::uas(&request.headers, core.session_interval) {
            Verdict::On(expires, ours) => {
                response.headers.push(Name::SessionExpires, expires.to_string());
                if !ours {
                    response.headers.push(Name::Require, "timer");
                }
                self.refresh = Some(Refresh::start(now, expires.interval, ours));
            }
            // A peer that knows no timer keeps none; ours goes on.
            Verdict::Off | Verdict::TooSmall => self.refresh = self.refresh.filter(Refresh::is_ours).map(|refresh| refresh.restarted(now)),
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
            return self.end(core, now, DialogEvent::Cancelled { reason });
        }
        self.tell(core, DialogEvent::OfferCancelled);
    }

    /// The ACK of our 2xx.
    pub(crate) fn handle_ack(&mut self, core: &mut Core, now: Instant, ack: &Request) {
        let number = number(&ack.headers);
        if self.two_hundred.as_ref().is_none_or(|answered| answered.number != number) {
            return;
        }
        let hang_up = self.two_hundred.take().and_then(|answered| answered.hang_up);
        self.provisional = None;
        if let Some(reason) = hang_up {
            return self.bye(core, now, reason);
        }
        let body = session(&ack.headers, &ack.body).unwrap_or_default();
        self.tell(core, DialogEvent::Acknowledged { body });
    }

    pub(super) fn handle_two_hundred_timeout(&mut self, core: &mut Core, now: Instant) {
        let Some(answered) = self.two_hundred.as_mut() else { return };
        if answered.end <= now {
            let by = if answered.hang_up.is_some() { Ender::Us } else { Ender::NoAck };
            self.two_hundred = None;
            self.send_bye(core, now, Some(&Reason::sip(408, "No ACK")));
            self.end(core, now, DialogEvent::Ended { by, reason: None });
        } else if answered.repeat.fired(now) {
            core.transactions.respond_again(answered.server, answered.bytes.clone());
        }
    }
}
