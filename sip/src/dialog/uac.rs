//! The caller's part of an INVITE usage: the INVITE, its forks, PRACK for reliable provisional responses, CANCEL, and the 2xx
//! (RFC 3261 §13.2, §9.1, RFC 3262 §4).

use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;

use super::Dialog;
use super::invite::{Acknowledgement, DialogEvent, Invite, State};
use super::refresh::{self, Refresh};
use super::uas::is_sdp;
use crate::endpoint::Core;
use crate::message::header::{CSeq, RAck, Reason};
use crate::message::{Headers, Method, Name, NameAddr, Request, Response, StatusCode, Uri};
use crate::transaction::timer::LIFE;
use crate::transaction::{ClientId, Owner};
use crate::transport::Hop;

/// A call to place.
#[derive(Clone, Debug)]
pub struct OutgoingInvite {
    /// The Request-URI, such as the contact of a binding.
    pub uri: Uri,
    /// Routes to go through, such as a binding's Path.
    pub routes: Vec<NameAddr>,
    /// Where the request goes.
    pub hop: Hop,
    /// From, without a tag.
    pub from: NameAddr,
    /// To, without a tag.
    pub to: NameAddr,
    /// Further headers, such as P-Asserted-Identity.
    pub headers: Headers,
    /// The offer; empty asks the callee to offer.
    pub body: Bytes,
}

/// Most early dialogs of one INVITE; provisional responses of further forks are passed over.
const MAX_FORKS: usize = 16;

#[derive(Debug)]
struct Fork {
    dialog: Dialog,
    rseq: Option<u32>,
}

/// An INVITE without its final response.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) client: ClientId,
    invite: Request,
    hop: Hop,
    forks: Vec<Fork>,
    /// Set once the host gave up; true when CANCEL went out.
    cancelled: Option<(Option<Reason>, bool)>,
    /// When to stop waiting for the final response of a cancelled INVITE (§9.1).
    pub(super) give_up: Option<Instant>,
}

impl Calling {
    pub(super) fn has_fork(&self, remote_tag: &str) -> bool {
        self.forks.iter().any(|fork| fork.dialog.remote_tag() == remote_tag)
    }
}

impl Invite {
    /// Sends an INVITE.
    pub(crate) fn outgoing(core: &mut Core, now: Instant, id: u64, call: OutgoingInvite) -> Self {
        let tag = core.tag(id);
        let call_id: ByteString = format!("{}{}", core.random.token(), core.random.token()).into();
        let mut dialog = Dialog::uac(call_id, call.from.with_tag(&tag), call.to, call.uri, call.hop.clone());
        dialog.local_seq = u32::try_from(core.random.below(1 << 16)).unwrap_or(1);
        let mut request = dialog.request(Method::Invite);
        for route in call.routes.iter().rev() {
            request.headers.push_front(Name::Route, route.to_string());
        }
        core.describe(&mut request.headers, &call.hop);
        request.headers.push(Name::SessionExpires, core.session_interval.as_secs().to_string());
        request.headers.push(Name::MinSe, refresh::MIN_SE.as_secs().to_string());
        request.headers.copy_where(&call.headers, |_| true);
        if call.body.is_empty() {
            // A reliable provisional response to an INVITE without offer would carry the offer (RFC 3262 §5): not wanted.
            request.headers.set(Name::Supported, core.supported_without_100rel());
        } else {
            request.set_body("application/sdp", call.body.clone());
        }
        let client = core.transactions.request(now, request.clone(), call.hop.clone(), Owner::Dialog(id), &mut core.random);
        let mut invite = Self::new(id, State::Calling, dialog);
        invite.local_body = call.body;
        invite.calling =
            Some(Box::new(Calling { client, invite: request, hop: call.hop, forks: Vec::new(), cancelled: None, give_up: None }));
        invite
    }

    pub(super) fn handle_invite_response(&mut self, core: &mut Core, now: Instant, response: Response) {
        match response.status {
            status if status.is_provisional() => self.handle_provisional(core, now, &response),
            status if status.is_success() => self.handle_success(core, now, &response),
            _ => self.handle_failure(core, now, response),
        }
    }

    fn handle_provisional(&mut self, core: &mut Core, now: Instant, response: &Response) {
        let Some(calling) = self.calling.as_mut() else { return };
        if let Some((reason, sent @ false)) = &mut calling.cancelled {
            *sent = core.transactions.cancel(now, calling.client, reason.as_ref());
        }
        let tag = response.to_tag().unwrap_or_default();
        if response.status == StatusCode::TRYING {
            return;
        }
        let reliable = response.headers.has_token(Name::Require, "100rel");
        let rseq = response.headers.number(Name::RSeq).ok().flatten().filter(|_| reliable);
        if !tag.is_empty() && !calling.has_fork(&tag) && calling.forks.len() < MAX_FORKS {
            let hop = core.transactions.hop(calling.client).cloned().unwrap_or_else(|| calling.hop.clone());
            let Ok(dialog) = self.dialog.answered(response, hop) else { return };
            calling.forks.push(Fork { dialog, rseq: None });
        }
        if let (Some(rseq), Some(fork)) = (rseq, calling.forks.iter_mut().find(|fork| fork.dialog.remote_tag() == &*tag)) {
            // RFC 3262 §4: only the next one counts; a repeated one has its PRACK on the way.
            if fork.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) {
                return;
            }
            fork.rseq = Some(rseq);
            let number = response.cseq().map_or(0, |cseq| cseq.number);
            let mut prack = fork.dialog.request(Method::Prack);
            prack.headers.push(Name::RAck, RAck { rseq, cseq: number, method: Method::Invite }.to_string());
            let hop = fork.dialog.hop().clone();
            core.transactions.request(now, prack, hop, Owner::Nobody, &mut core.random);
        }
        if calling.cancelled.is_none() {
            let body = if is_sdp(&response.headers) { response.body.clone() } else { Bytes::new() };
            self.tell(core, DialogEvent::Progress { status: response.status, body, tag });
        }
    }

    fn handle_success(&mut self, core: &mut Core, now: Instant, response: &Response) {
        let Some(calling) = self.calling.take() else { return };
        let tag = response.to_tag().unwrap_or_default();
        let hop = core.transactions.hop(calling.client).cloned().unwrap_or_else(|| calling.hop.clone());
        let number = response.cseq().map_or(self.dialog.local_seq, |cseq| cseq.number);
        let early = calling.forks.into_iter().find(|fork| fork.dialog.remote_tag() == &*tag);
        let answered = self.dialog.answered(response, hop);
        let usable = answered.is_ok() && (response.body.is_empty() || is_sdp(&response.headers));
        if let Ok(dialog) = answered {
            let local_seq = early.map_or(self.dialog.local_seq, |fork| fork.dialog.local_seq);
            self.dialog = Dialog { local_seq, ..dialog };
        } else if let Ok(to) = response.headers.typed::<NameAddr>(Name::To) {
            self.dialog.remote = to;
        }
        self.ack = Some(Acknowledgement { number, sent: None });
        if calling.cancelled.is_some() || !usable {
            // §9.1, §15: the 2xx crossed our CANCEL, or cannot be used: acknowledge it and hang up.
            self.acknowledge(core, now, Bytes::new());
            self.send_bye(core, now, None);
            let status = if calling.cancelled.is_some() { StatusCode::REQUEST_TERMINATED } else { StatusCode::BAD_GATEWAY };
            return self.end(core, DialogEvent::Failed { status, response: None });
        }
        self.state = State::Established;
        self.note_peer(&response.headers);
        self.refresh = refresh::uac(&response.headers).map(|(interval, ours)| Refresh::start(now, interval, ours));
        self.tell(core, DialogEvent::Answered { body: response.body.clone() });
    }

    fn handle_failure(&mut self, core: &mut Core, now: Instant, response: Response) {
        let Some(calling) = self.calling.as_mut() else { return };
        let cancelled = calling.cancelled.is_some();
        if response.status == StatusCode::SESSION_INTERVAL_TOO_SMALL && !cancelled && self.retry_with_longer_session(core, now, &response) {
            return;
        }
        self.calling = None;
        let status = if cancelled { StatusCode::REQUEST_TERMINATED } else { response.status };
        self.end(core, DialogEvent::Failed { status, response: Some(Box::new(response)) });
    }

    /// RFC 4028 §7.3: once more, with the interval the callee wants. Once: a callee that raises it again gets no third INVITE.
    fn retry_with_longer_session(&mut self, core: &mut Core, now: Instant, response: &Response) -> bool {
        let Some(calling) = self.calling.as_mut() else { return false };
        let asked = response.headers.number(Name::MinSe).ok().flatten().unwrap_or(0);
        let had = calling.invite.headers.number(Name::MinSe).ok().flatten().unwrap_or(0);
        if asked <= had || u64::from(asked) <= core.session_interval.as_secs() {
            return false;
        }
        self.dialog.local_seq += 1;
        calling.invite.headers.set(Name::MinSe, asked.to_string());
        calling.invite.headers.set(Name::SessionExpires, asked.to_string());
        calling.invite.headers.set(Name::CSeq, CSeq { number: self.dialog.local_seq, method: Method::Invite }.to_string());
        let (request, hop) = (calling.invite.clone(), calling.hop.clone());
        calling.client = core.transactions.request(now, request, hop, Owner::Dialog(self.id), &mut core.random);
        true
    }

    /// Gives up an INVITE (§9.1): CANCEL as soon as a provisional response allows it. `Failed` follows.
    pub(crate) fn cancel(&mut self, core: &mut Core, now: Instant, reason: Option<Reason>) {
        let Some(calling) = self.calling.as_mut().filter(|calling| calling.cancelled.is_none()) else { return };
        let sent = core.transactions.cancel(now, calling.client, reason.as_ref());
        calling.cancelled = Some((reason, sent));
        calling.give_up = Some(now + LIFE);
    }

    pub(super) fn handle_cancel_timeout(&mut self, core: &mut Core, now: Instant) {
        if self.calling.as_ref().and_then(|calling| calling.give_up).is_some_and(|at| at <= now) {
            if let Some(calling) = self.calling.take() {
                core.transactions.forget(calling.client);
            }
            self.end(core, DialogEvent::Failed { status: StatusCode::REQUEST_TERMINATED, response: None });
        }
    }

    /// A 2xx of another fork than the one we took: acknowledged and hung up (§13.2.2.4).
    pub(super) fn end_fork(&self, core: &mut Core, now: Instant, response: &Response) {
        let Ok(mut fork) = self.dialog.answered(response, self.dialog.hop().clone()) else { return };
        let number = response.cseq().map_or(0, |cseq| cseq.number);
        let ack = fork.request_at(Method::Ack, number);
        let hop = fork.hop().clone();
        core.transactions.send_ack(ack, hop.clone(), &mut core.random);
        let bye = fork.request(Method::Bye);
        core.transactions.request(now, bye, hop, Owner::Nobody, &mut core.random);
    }
}
