//! Our own requests within a session: offers, refreshes (RFC 4028), ACK, and others of the host; and what their responses mean
//! (RFC 3261 §12.2.1.2, §14.1).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::session;
use super::invite::{CommandError, DialogEvent, Ender, Invite, Purpose, State, number};
use super::refresh::{self, Refresh, is_lost};
use super::uac::hang_up_stray;
use crate::endpoint::{Core, SUPPORTED_WITHOUT_100REL};
use crate::message::{Headers, Method, Name, Response, StatusCode};
use crate::transaction::{ClientId, Owner};

/// An ACK that is due: of which INVITE.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement {
    pub(super) client: ClientId,
    pub(super) number: u32,
}

impl Invite {
    /// Sends an offer, or with an empty body asks for one: as re-INVITE.
    pub(crate) fn offer(&mut self, core: &mut Core, now: Instant, body: Bytes) -> Result<(), CommandError> {
        if self.answer_waits() {
            return Err(CommandError::Pending);
        }
        if self.state != State::Established || self.is_hanging_up() {
            return Err(CommandError::Gone);
        }
        if self.is_negotiating() {
            return Err(CommandError::Pending);
        }
        self.send_offer(core, now, body, Purpose::Offer);
        Ok(())
    }

    /// Returns true while an offer waits for its answer, or a 2xx for its ACK.
    fn is_negotiating(&self) -> bool {
        self.client.is_some() || self.pending.is_some() || self.two_hundred.is_some() || self.ack.is_some()
    }

    fn send_offer(&mut self, core: &mut Core, now: Instant, body: Bytes, purpose: Purpose) {
        let method = if purpose == Purpose::BareRefresh { Method::Update } else { Method::Invite };
        let mut request = self.dialog.request(method);
        core.describe(&mut request.headers, self.dialog.hop());
        // A reliable provisional response to it would need a PRACK that nobody here sends.
        request.headers.set(Name::Supported, SUPPORTED_WITHOUT_100REL);
        self.write_session_timer(core, &mut request.headers);
        if !body.is_empty() {
            self.local_body = body.clone();
            request.set_body("application/sdp", body);
        }
        let client = self.send(core, now, request, Owner::Dialog(self.id));
        self.client = Some((client, purpose));
    }

    fn write_session_timer(&self, core: &Core, headers: &mut Headers) {
        let (interval, role) = match self.refresh {
            Some(refresh) if refresh.is_ours() => (refresh.interval(), ";refresher=uac"),
            Some(refresh) => (refresh.interval(), ";refresher=uas"),
            None => (core.session_interval, ""),
        };
        headers.push(Name::SessionExpires, format!("{}{role}", interval.as_secs()));
        headers.push(Name::MinSe, refresh::MIN_SE.as_secs().to_string());
    }

    /// Sends another request within the dialog; its response comes as [`DialogEvent::Response`]. None for a method with machinery of
    /// its own.
    pub(crate) fn request(&mut self, core: &mut Core, now: Instant, method: Method, headers: &Headers, body: Bytes) -> Option<ClientId> {
        let is_plain = !matches!(method, Method::Invite | Method::Ack | Method::Bye | Method::Cancel | Method::Prack | Method::Update);
        if self.state != State::Established || !is_plain {
            return None;
        }
        let mut request = self.dialog.request(method);
        request.headers.copy_where(headers, |_| true);
        request.body = body;
        Some(self.send(core, now, request, Owner::Dialog(self.id)))
    }

    /// A response that the transaction layer passed up, or one it made (408, 503).
    pub(crate) fn handle_response(&mut self, core: &mut Core, now: Instant, client: ClientId, response: Response) {
        if self.calling.as_ref().is_some_and(|calling| calling.client == client) {
            return self.handle_invite_response(core, now, response);
        }
        if self.handle_notify_response(core, now, client, &response) {
            return;
        }
        if self.state == State::Ended {
            return hang_up_stray(core, now, client, &response);
        }
        match self.client.take() {
            Some((id, purpose)) if id == client => self.handle_offer_response(core, now, (id, purpose), response),
            other => {
                self.client = other;
                if response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite) {
                    return self.handle_further_success(core, now, client, &response);
                }
                self.handle_other_response(core, now, client, response);
            }
        }
    }

    /// Asks the peer whether it still knows the session.
    pub(super) fn send_probe(&mut self, core: &mut Core, now: Instant) {
        let request = self.dialog.request(Method::Options);
        self.probe.asked = Some(self.send(core, now, request, Owner::Dialog(self.id)));
    }

    fn handle_other_response(&mut self, core: &mut Core, now: Instant, client: ClientId, response: Response) {
        if response.status.is_provisional() || self.state == State::Ended {
            return;
        }
        if self.probe.asked == Some(client) {
            self.probe.asked = None;
            if self.probe.is_lost(response.status) {
                self.lose(core, now);
            }
            return;
        }
        let lost = is_lost(response.status);
        self.tell(core, DialogEvent::Response { client, response: Box::new(response) });
        if lost {
            self.lose(core, now);
        }
    }

    fn lose(&mut self, core: &mut Core, now: Instant) {
        self.send_bye(core, now, None);
        if let Some(pending) = self.pending.take() {
            core.reply(now, pending.server, &pending.request, StatusCode::REQUEST_TERMINATED, self.dialog.local_tag());
        }
        self.end(core, now, DialogEvent::Ended { by: Ender::Lost, reason: None });
    }

    fn handle_offer_response(&mut self, core: &mut Core, now: Instant, (client, purpose): (ClientId, Purpose), response: Response) {
        if response.status.is_provisional() {
            self.client = Some((client, purpose));
            return;
        }
        if response.status.is_success() {
            self.dialog.refresh_target(&response.headers, None);
            self.refresh = refresh::uac(&response.headers).map(|(interval, ours)| Refresh::start(now, interval, ours));
            self.probe.heard(now, core.session_interval);
            if purpose != Purpose::BareRefresh {
                self.ack = Some(Acknowledgement { client, number: number(&response.headers) });
            }
            return match purpose {
                Purpose::Offer => {
                    let body = session(&response.headers, &response.body).unwrap_or_default();
                    self.tell(core, DialogEvent::OfferAnswered { body });
                }
                Purpose::Refresh => self.acknowledge(core, Bytes::new()),
                Purpose::BareRefresh => {}
            };
        }
        if is_lost(response.status) {
            return self.lose(core, now);
        }
        match purpose {
            Purpose::Offer => self.tell(core, DialogEvent::OfferFailed { status: response.status }),
            Purpose::Refresh | Purpose::BareRefresh => self.handle_refresh_failure(core, now, purpose, &response),
        }
    }

    fn handle_refresh_failure(&mut self, core: &mut Core, now: Instant, purpose: Purpose, response: &Response) {
        let Some(refresh) = self.refresh.as_mut() else { return };
        let asked =
            response.headers.number(Name::MinSe).ok().flatten().map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.into()));
        match response.status {
            StatusCode::SESSION_INTERVAL_TOO_SMALL if asked > refresh.interval() => {
                *refresh = Refresh::start(now, asked, refresh.is_ours());
                refresh.retry_at(now);
            }
            // §14.1: the owner of the Call-ID waits longer.
            StatusCode::REQUEST_PENDING if self.placed => refresh.retry_at(now + Duration::from_millis(2100 + core.random.below(1900))),
            StatusCode::REQUEST_PENDING => refresh.retry_at(now + Duration::from_millis(core.random.below(2000))),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED if purpose == Purpose::BareRefresh => {
                self.peer_updates = false;
                refresh.retry_at(now);
            }
            _ => refresh.retry_later(now),
        }
    }

    /// Sends the ACK of the 2xx that was told last, with the answer to a late offer or an empty body. Nothing if none is due.
    pub(crate) fn acknowledge(&mut self, core: &mut Core, body: Bytes) {
        let Some(Acknowledgement { client, number }) = self.ack.take() else { return };
        let mut request = self.dialog.request_at(Method::Ack, number);
        if !body.is_empty() {
            self.local_body = body.clone();
            request.set_body("application/sdp", body);
        }
        let (tag, hop) = (self.dialog.remote_tag().into(), self.dialog.hop().clone());
        core.transactions.acknowledge_success(client, tag, request, hop, &mut core.random);
    }

    /// A 2xx that comes again before the host gave its ACK, or another fork that answers.
    fn handle_further_success(&mut self, core: &mut Core, now: Instant, client: ClientId, response: &Response) {
        if response.status.is_success() && response.to_tag().is_none_or(|tag| *tag != *self.dialog.remote_tag()) {
            hang_up_stray(core, now, client, response);
        }
    }

    pub(super) fn refresh_session(&mut self, core: &mut Core, now: Instant) {
        let is_busy = self.is_negotiating();
        match self.refresh.as_mut() {
            Some(refresh) if is_busy => refresh.retry_at(now + Duration::from_secs(1)),
            _ if self.peer_updates => self.send_offer(core, now, Bytes::new(), Purpose::BareRefresh),
            _ => self.send_offer(core, now, self.local_body.clone(), Purpose::Refresh),
        }
    }
}
