//! The caller's part of an INVITE usage: the INVITE, its forks, PRACK for reliable provisional responses, CANCEL, and the 2xx
//! (RFC 3261 §13.2, §9.1, RFC 3262 §4).

use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;

use super::Dialog;
use super::body::session;
use super::invite::{DialogEvent, Invite, State, number};
use super::offer::Acknowledgement;
use super::refresh::{self, Refresh};
use crate::endpoint::{Core, SUPPORTED_WITHOUT_100REL};
use crate::message::header::{CSeq, RAck, Reason};
use crate::message::{Headers, Method, Name, NameAddr, Response, StatusCode, Uri};
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
    /// Further headers, such as P-Asserted-Identity. A Max-Forwards among them replaces ours: the hops of the leg before count.
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
    /// Its device answers when it is told to by an event of this package.
    talks: bool,
    early: Option<EarlyAnswer>,
}

/// SDP in a provisional response to our offer.
#[derive(Clone, Debug)]
enum EarlyAnswer {
    /// It came unreliably: what a later response says counts.
    Preview(Bytes),
    /// It came reliably: it is the answer, and later ones are ignored (RFC 3261 §13.2.1, RFC 6337 §3.1).
    Answer(Bytes),
}

impl EarlyAnswer {
    /// Takes in SDP of a further response of the same fork.
    fn follow(&mut self, next: Self) {
        if let Self::Preview(_) = self {
            *self = next;
        }
    }

    /// Returns what the fork answered, if its 2xx has this SDP; empty for none.
    fn confirmed(self, answer: Bytes) -> Bytes {
        match self {
            Self::Answer(early) => early,
            Self::Preview(early) if answer.is_empty() => early,
            Self::Preview(_) => answer,
        }
    }
}

/// An INVITE without its final response.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) client: ClientId,
    hop: Hop,
    forks: Vec<Fork>,
    /// Set once the host gave up; true when CANCEL went out.
    cancelled: Option<(Option<Reason>, bool)>,
}

impl Calling {
    pub(super) fn has_fork(&self, remote_tag: &str) -> bool {
        self.fork(remote_tag).is_some()
    }

    pub(super) fn fork(&self, remote_tag: &str) -> Option<&Dialog> {
        self.forks.iter().map(|fork| &fork.dialog).find(|dialog| dialog.remote_tag() == remote_tag)
    }

    /// Whether a fork has answered the offer already.
    pub(super) fn has_answer(&self, remote_tag: &str) -> bool {
        let fork = self.forks.iter().find(|fork| fork.dialog.remote_tag() == remote_tag);
        fork.is_some_and(|fork| matches!(fork.early, Some(EarlyAnswer::Answer(_))))
    }

    /// The tag of the early dialog that came first.
    pub(super) fn first_tag(&self) -> Option<&str> {
        self.forks.first().map(|fork| fork.dialog.remote_tag())
    }

    pub(super) fn fork_mut(&mut self, remote_tag: &str) -> Option<&mut Dialog> {
        self.forks.iter_mut().map(|fork| &mut fork.dialog).find(|dialog| dialog.remote_tag() == remote_tag)
    }
}

impl Invite {
    /// Sends an INVITE.
    pub(crate) fn outgoing(core: &mut Core, now: Instant, id: u64, call: OutgoingInvite) -> Self {
        let tag = core.tag(id);
        let call_id: ByteString = format!("{}{}", core.random.token(), core.random.token()).into();
        let mut dialog = Dialog::uac(call_id, &call.from.with_tag(&tag), &call.to, call.uri, call.hop.clone());
        dialog.local_seq = u32::try_from(core.random.below(1 << 16)).unwrap_or(1);
        let mut request = dialog.request(Method::Invite);
        for route in call.routes.iter().rev() {
            request.headers.push_front(Name::Route, route.to_string());
        }
        core.describe(&mut request.headers, &call.hop);
        request.headers.push(Name::SessionExpires, core.session_interval.as_secs().to_string());
        request.headers.push(Name::MinSe, refresh::MIN_SE.as_secs().to_string());
        if let Some(left) = call.headers.get(Name::MaxForwards) {
            request.headers.set(Name::MaxForwards, left);
        }
        request.headers.copy_where(&call.headers, |name| name != Name::MaxForwards);
        if call.body.is_empty() {
            // A reliable provisional response to an INVITE without offer would carry the offer (RFC 3262 §5): not wanted.
            request.headers.set(Name::Supported, SUPPORTED_WITHOUT_100REL);
        } else {
            request.set_body("application/sdp", call.body.clone());
        }
        let client = core.begin(now, request, call.hop.clone(), Owner::Dialog(id), None);
        let mut invite = Self::new(id, State::Calling, dialog);
        invite.local_body = call.body;
        invite.calling = Some(Box::new(Calling { client, hop: call.hop, forks: Vec::new(), cancelled: None }));
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
            let Ok(dialog) = self.dialog.answered(response, calling.hop.clone()) else { return };
            calling.forks.push(Fork { dialog, rseq: None, talks: false, early: None });
        }
        if response.headers.has_token(Name::AllowEvents, "talk")
            && let Some(fork) = calling.forks.iter_mut().find(|fork| fork.dialog.remote_tag() == &*tag)
        {
            fork.talks = true;
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
            core.transactions.request(now, fork.dialog.outgoing(prack, Owner::Nobody), &mut core.random);
        }
        let body = session(&response.headers, &response.body).unwrap_or_default();
        if !body.is_empty()
            && let Some(fork) = calling.forks.iter_mut().find(|fork| fork.dialog.remote_tag() == &*tag)
        {
            // a copy: the datagram it came in is let go
            let answer = Bytes::copy_from_slice(&body);
            let early = if rseq.is_some() { EarlyAnswer::Answer(answer) } else { EarlyAnswer::Preview(answer) };
            match &mut fork.early {
                Some(before) => before.follow(early),
                none => *none = Some(early),
            }
        }
        if calling.cancelled.is_none() {
            self.tell(core, DialogEvent::Progress { status: response.status, body, tag });
        }
    }

    fn handle_success(&mut self, core: &mut Core, now: Instant, response: &Response) {
        let Some(calling) = self.calling.take() else { return };
        let tag = response.to_tag().unwrap_or_default();
        let fork = calling.forks.into_iter().find(|fork| fork.dialog.remote_tag() == &*tag);
        let seqs = fork.as_ref().map(|fork| (fork.dialog.local_seq, fork.dialog.remote_seq));
        let (local_seq, remote_seq) = seqs.unwrap_or((self.dialog.local_seq, None));
        // An INVITE without offer has its offer in the 2xx.
        let early = fork.and_then(|fork| fork.early).filter(|_| !self.local_body.is_empty());
        let answered = self.dialog.answered(response, calling.hop.clone());
        let body = session(&response.headers, &response.body).ok().filter(|_| answered.is_ok());
        if let Ok(dialog) = answered.or_else(|_| self.dialog.with_remote(response)) {
            self.dialog = Dialog { local_seq, remote_seq, ..dialog };
        }
        let number = number(&response.headers);
        self.ack = Some(Acknowledgement { client: calling.client, number });
        let Some(body) = body.filter(|_| calling.cancelled.is_none()) else {
            // §9.1, §15: the 2xx crossed our CANCEL, or cannot be used: acknowledge it and hang up.
            self.acknowledge(core, Bytes::new());
            self.send_bye(core, now, None);
            let status = if calling.cancelled.is_some() { StatusCode::REQUEST_TERMINATED } else { StatusCode::BAD_GATEWAY };
            return self.end(core, now, DialogEvent::Failed { status, response: None });
        };
        self.state = State::Established;
        self.note_peer(&response.headers);
        self.refresh = refresh::uac(&response.headers).map(|(interval, ours)| Refresh::start(now, interval, ours));
        self.probe.heard(now, core.session_interval);
        let body = match early {
            Some(early) => early.confirmed(body),
            None => body,
        };
        self.tell(core, DialogEvent::Answered { body });
    }

    fn handle_failure(&mut self, core: &mut Core, now: Instant, response: Response) {
        let Some(calling) = self.calling.as_mut() else { return };
        let cancelled = calling.cancelled.is_some();
        if response.status == StatusCode::SESSION_INTERVAL_TOO_SMALL && !cancelled && self.retry_with_longer_session(core, now, &response) {
            return;
        }
        self.calling = None;
        let status = if cancelled { StatusCode::REQUEST_TERMINATED } else { response.status };
        self.end(core, now, DialogEvent::Failed { status, response: Some(Box::new(response)) });
    }

    /// RFC 4028 §7.3: once more, with the interval the callee wants. Once: a callee that raises it again gets no third INVITE.
    fn retry_with_longer_session(&mut self, core: &mut Core, now: Instant, response: &Response) -> bool {
        let Some(calling) = self.calling.as_mut() else { return false };
        let Some(mut invite) = core.transactions.sent(calling.client) else { return false };
        let asked = response.headers.number(Name::MinSe).ok().flatten().unwrap_or(0);
        let had = invite.headers.number(Name::MinSe).ok().flatten().unwrap_or(0);
        if asked <= had || u64::from(asked) <= core.session_interval.as_secs() {
            return false;
        }
        self.dialog.local_seq += 1;
        invite.headers.pop_first(Name::Via);
        invite.headers.set(Name::MinSe, asked.to_string());
        invite.headers.set(Name::SessionExpires, asked.to_string());
        invite.headers.set(Name::CSeq, CSeq { number: self.dialog.local_seq, method: Method::Invite }.to_string());
        calling.client = core.begin(now, invite, calling.hop.clone(), Owner::Dialog(self.id), None);
        true
    }

    /// Tells the device that rings to answer, if it said that it can be told: a NOTIFY of the event package `talk`, which has no RFC, in
    /// the early dialog. Returns false where it did not say so.
    pub(crate) fn talk(&mut self, core: &mut Core, now: Instant) -> bool {
        let Some(calling) = self.calling.as_mut().filter(|calling| calling.cancelled.is_none()) else { return false };
        let Some(fork) = calling.forks.iter_mut().find(|fork| fork.talks) else { return false };
        let mut notify = fork.dialog.request(Method::Notify);
        core.describe(&mut notify.headers, &calling.hop);
        notify.headers.push(Name::Event, "talk");
        notify.headers.push(Name::SubscriptionState, "active");
        core.transactions.request(now, fork.dialog.outgoing(notify, Owner::Nobody), &mut core.random);
        true
    }

    /// Gives up an INVITE (§9.1): CANCEL as soon as a provisional response allows it. `Failed` follows, after 64·T1 at the latest.
    pub(crate) fn cancel(&mut self, core: &mut Core, now: Instant, reason: Option<Reason>) {
        let Some(calling) = self.calling.as_mut().filter(|calling| calling.cancelled.is_none()) else { return };
        let sent = core.transactions.cancel(now, calling.client, reason.as_ref());
        calling.cancelled = Some((reason, sent));
    }
}

/// A numbering gap that leaves room for the PRACKs of a fork we know nothing of any more.
const PAST_PRACKS: u32 = 1000;

/// A 2xx to an INVITE of ours that no dialog waits for: another fork than the one we took, or one that came after the end. It is
/// acknowledged and hung up (§13.2.2.4); the 2xx of a re-INVITE is acknowledged only, as its session has its BYE already.
pub(crate) fn hang_up_stray(core: &mut Core, now: Instant, client: ClientId, response: &Response) {
    let is_answer = response.status.is_success() && response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
    let (Some(invite), Some(hop)) = (core.transactions.sent(client).filter(|_| is_answer), core.transactions.hop(client).cloned()) else {
        return;
    };
    let headers = &invite.headers;
    let (Ok(from), Ok(to), Ok(call_id)) = (headers.typed(Name::From), headers.typed(Name::To), headers.call_id()) else { return };
    let ours = Dialog::uac(call_id, &from, &to, invite.uri.clone(), hop.clone());
    let Ok(mut stray) = ours.answered(response, hop).or_else(|_| ours.with_remote(response)) else { return };
    let number = number(&response.headers);
    core.send_ack(stray.request_at(Method::Ack, number), stray.hop().clone());
    if invite.to_tag().is_none() && core.transactions.count_stray(client) {
        stray.local_seq = number + PAST_PRACKS;
        let bye = stray.request(Method::Bye);
        core.transactions.request(now, stray.outgoing(bye, Owner::Nobody), &mut core.random);
    }
}
