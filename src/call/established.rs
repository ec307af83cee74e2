//! A call after the answer: late offers, re-INVITE and UPDATE passed from side to side, requests within the session, and the end.

use bytes::Bytes;
use media::Kinds;
use media::sdp::negotiate::Finality;
use sip::message::header::Reason;
use sip::message::{Headers, Method, Name, Response};
use sip::{ClientId, CommandError, DialogId, Ender, ServerId, StatusCode};
use tracing::debug;

use super::leg::{Leg, LegId, MediaError};
use super::party::PartyId;
use super::record::EndedBy;
use super::{Call, Calls, Id, Relayed, State, Switch, Talk};

/// Most requests that are passed within sessions and wait for their response; further ones get 503.
const MAX_PASSED: usize = 10_000;

impl Calls {
    /// The ACK of our 2xx came. It carries the answer where the 2xx carried the offer.
    pub(super) fn acknowledged(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(talk) = call.talk() else { return };
        if leg == LegId::CALLER && std::mem::take(&mut talk.late_offer) {
            let other = call.other(leg);
            return other.into_iter().for_each(|other| self.late_answer(switch, id, (leg, other), body));
        }
        if let Some(relayed) = talk.relayed.take_if(|relayed| relayed.late && relayed.from == leg) {
            return self.late_answer(switch, id, (leg, relayed.to), body);
        }
        let is_quiet = talk.relayed.is_none() && leg == LegId::CALLER;
        if call.leg(leg).is_some_and(|leg| leg.media.has_local_offer()) {
            return self.asked_answered(switch, id, leg, body);
        }
        // The caller may have been answered early for another device than the one that picked up; then a new offer mends it.
        if is_quiet && call.pair(leg).is_some_and(|(leg, other)| !leg.media.fits(&other.media, Kinds::BOTH)) {
            let _unfit = self.mend(switch, id, leg);
        } else if call.is_managed {
            self.align(switch, id);
        }
    }

    /// Offers a side again what the other one said last. One that cannot go out now is dropped: the ACK of what is under way asks anew.
    fn mend(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) -> Result<(), MediaError> {
        let limit = Some(self.policy.media_timeout);
        let Some((leg, other)) = self.calls.get_mut(&id).and_then(|call| call.pair(leg)) else { return Ok(()) };
        let offer = leg.media.pass_offer(&other.media, switch.media)?;
        leg.asked = other.media.kinds();
        if switch.sip.offer(switch.now, leg.dialog, offer).is_err() {
            leg.media.rollback(switch.media, limit);
        }
        Ok(())
    }

    /// Takes the answer that an ACK carries to the side that made the offer.
    fn late_answer(&mut self, switch: &mut Switch<'_>, id: Id, (leg, other): (LegId, LegId), body: &Bytes) {
        let limit = Some(self.policy.media_timeout);
        let result = self.calls.get_mut(&id).and_then(|call| call.two(leg, other)).map(|(leg, other)| {
            leg.media.receive_answer(body, Finality::Final)?;
            other.media.set_beside(leg.media.port());
            let answer = other.media.pass_answer(&leg.media, switch.media)?;
            leg.media.park_like(&other.media);
            switch.sip.acknowledge(switch.now, other.dialog, answer);
            leg.media.apply(switch.media, limit);
            other.media.apply(switch.media, limit);
            Ok::<_, MediaError>(())
        });
        match result {
            Some(Ok(())) => self.exchanged(switch, id),
            Some(Err(error)) => self.fail(switch, id, &format!("the answer to a late offer cannot be used: {error}")),
            None => {}
        }
    }

    /// An exchange that was passed from side to side is over.
    fn exchanged(&mut self, switch: &mut Switch<'_>, id: Id) {
        self.arrange(switch, id);
        if self.calls.get(&id).is_some_and(|call| call.is_managed) {
            self.align(switch, id);
        }
    }

    /// A side sent an offer, or asks for one.
    pub(super) fn offered(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) {
        let Some(dialog) = self.dialog(id, leg) else { return };
        if let Err(status) = self.take_offer(switch, id, leg, body) {
            let _gone = switch.sip.refuse(switch.now, dialog, status, &Headers::default());
        }
    }

    /// Of two alike sides the offer of one is the other's affair; else it is ours.
    fn take_offer(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) -> Result<(), StatusCode> {
        let Some(call) = self.calls.get_mut(&id) else { return Err(StatusCode::NO_TRANSACTION) };
        let State::Established(Talk { late_offer: false, relayed: None }) = call.state else { return Err(StatusCode::REQUEST_PENDING) };
        let pair = call.other(leg).and_then(|other| call.leg(leg).zip(call.leg(other)));
        let is_passed = |(ours, other): &(&Leg, &Leg)| ours.media.is_like(&other.media) && !call.is_held_by_us(ours, other);
        let Some((ours, other)) = pair.filter(is_passed) else {
            return self.answer_self(switch, id, leg, body);
        };
        if ours.media.is_pending() || other.media.is_pending() {
            return Err(StatusCode::REQUEST_PENDING);
        }
        let other = other.id;
        if self.answer_alone(switch, id, leg, body) {
            return Ok(());
        }
        if let Some(talk) = self.calls.get_mut(&id).and_then(Call::talk) {
            talk.relayed = Some(Relayed { from: leg, to: other, late: body.is_empty(), withdrawn: false });
        }
        let passed = self.relay_offer(switch, id, leg, body);
        if passed.is_err() {
            self.end_relay(switch, id, leg);
        }
        passed
    }

    /// An offer that only moves a side's packets (another address, ICE restart, session refresh) is between that side and us.
    fn answer_alone(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) -> bool {
        let limit = Some(self.policy.media_timeout);
        let Some((leg, other)) = self.calls.get_mut(&id).and_then(|call| call.pair(leg)) else { return false };
        if body.is_empty() || leg.media.receive_offer(body).is_err() {
            return false;
        }
        let answer = if leg.media.offer_moves_only() { leg.media.pass_answer(&other.media, switch.media).ok() } else { None };
        let Some(answer) = answer else {
            leg.media.drop_offer();
            return false;
        };
        switch.sip.accept(switch.now, leg.dialog, answer);
        leg.media.apply(switch.media, limit);
        true
    }

    fn relay_offer(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) -> Result<(), StatusCode> {
        let pair = self.calls.get_mut(&id).and_then(|call| call.pair(leg));
        let Some((leg, other)) = pair else { return Err(StatusCode::NO_TRANSACTION) };
        let unusable = |error: MediaError| {
            debug!(call = %id, %error, "offer refused");
            StatusCode::NOT_ACCEPTABLE_HERE
        };
        let offer = if body.is_empty() {
            Bytes::new()
        } else {
            leg.media.receive_offer(body).map_err(unusable)?;
            other.media.pass_offer(&leg.media, switch.media).map_err(unusable)?
        };
        switch.sip.offer(switch.now, other.dialog, offer).map_err(|error| match error {
            CommandError::Pending => StatusCode::REQUEST_PENDING,
            CommandError::Gone => StatusCode::NO_TRANSACTION,
        })
    }

    /// Takes back a relayed offer on both sides: what was agreed before holds.
    fn end_relay(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId) {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(talk) = call.talk() else { return };
        if let Some(relayed) = talk.relayed.take_if(|relayed| relayed.from == leg)
            && let Some((from, to)) = call.two(relayed.from, relayed.to)
        {
            from.media.rollback(switch.media, limit);
            to.media.rollback(switch.media, limit);
        }
    }

    /// Our offer was answered: the side that made it gets the answer.
    pub(super) fn offer_answered(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, body: &Bytes) {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(talk) = call.talk() else { return };
        let Some(Relayed { from, late, withdrawn, .. }) = talk.relayed.filter(|relayed| relayed.to == leg) else {
            return self.own_answered(switch, id, leg, body);
        };
        if withdrawn {
            return self.answered_in_vain(switch, id, (leg, from), late, body);
        }
        if !late {
            talk.relayed = None;
        }
        let Some((answering, offering)) = call.two(leg, from) else { return };
        let result = if late {
            // What came is an offer: the other side's ACK will bring its answer.
            answering.media.receive_offer(body).and_then(|()| offering.media.pass_offer(&answering.media, switch.media))
        } else {
            switch.sip.acknowledge(switch.now, answering.dialog, Bytes::new());
            let received = answering.media.receive_answer(body, Finality::Final);
            received.and_then(|()| {
                let answer = offering.media.pass_answer(&answering.media, switch.media)?;
                answering.media.park_like(&offering.media);
                Ok(answer)
            })
        };
        match result {
            Ok(answer) => {
                switch.sip.accept(switch.now, offering.dialog, answer);
                if !late {
                    answering.media.apply(switch.media, limit);
                    offering.media.apply(switch.media, limit);
                    self.exchanged(switch, id);
                }
            }
            Err(error) => self.fail(switch, id, &format!("an answer within the call cannot be used: {error}")),
        }
    }

    /// A side took back its re-INVITE before it was answered; the endpoint sent the 487.
    pub(super) fn offer_withdrawn(&mut self, id: Id, leg: LegId) {
        let Some(talk) = self.calls.get_mut(&id).and_then(Call::talk) else { return };
        if let Some(relayed) = talk.relayed.as_mut().filter(|relayed| relayed.from == leg) {
            relayed.withdrawn = true;
        }
    }

    /// The answer to an offer that was taken back meanwhile: a new offer brings this side back to what holds.
    fn answered_in_vain(&mut self, switch: &mut Switch<'_>, id: Id, (leg, from): (LegId, LegId), late: bool, body: &Bytes) {
        let limit = Some(self.policy.media_timeout);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(talk) = call.talk() {
            talk.relayed = None;
        }
        let Some((answering, offering)) = call.two(leg, from) else { return };
        offering.media.rollback(switch.media, limit);
        let again = if late {
            // What came is an offer: it is answered with what the other side said before.
            let received = answering.media.receive_offer(body);
            received.and_then(|()| answering.media.pass_answer(&offering.media, switch.media)).map(|answer| {
                switch.sip.acknowledge(switch.now, answering.dialog, answer);
                answering.media.apply(switch.media, limit);
            })
        } else {
            switch.sip.acknowledge(switch.now, answering.dialog, Bytes::new());
            answering.media.receive_answer(body, Finality::Final).and_then(|()| self.mend(switch, id, leg))
        };
        if let Err(error) = again {
            self.fail(switch, id, &format!("an answer within the call cannot be used: {error}"));
        }
    }

    /// Our offer was refused: so is the one it was made from.
    pub(super) fn offer_failed(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, status: StatusCode) {
        let Some(talk) = self.calls.get_mut(&id).and_then(Call::talk) else { return };
        let Some(Relayed { from, withdrawn, .. }) = talk.relayed.filter(|relayed| relayed.to == leg) else {
            return self.own_failed(switch, id, leg, status);
        };
        self.end_relay(switch, id, from);
        if let Some(dialog) = self.dialog(id, from).filter(|_| !withdrawn) {
            let _gone = switch.sip.refuse(switch.now, dialog, status, &Headers::default());
        }
        self.exchanged(switch, id);
    }

    /// Passes a request within the session to the other side.
    pub(super) fn pass(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, server: ServerId, request: Box<sip::Request>) {
        if self.info_pressed(switch, id, leg, server, &request) {
            return;
        }
        let other = self.calls.get(&id).and_then(|call| call.other(leg)).and_then(|other| self.dialog(id, other));
        let status = match (&request.method, other) {
            // Candidates of this leg (RFC 8840): its checks tell us as much, and the other leg has nothing to do with them.
            (Method::Info, _) if is_trickle(&request) => StatusCode::OK,
            (Method::Info | Method::Message, Some(other)) if self.passed.len() < MAX_PASSED => {
                let mut headers = Headers::default();
                headers.copy_where(&request.headers, |name| {
                    matches!(name, Name::ContentType | Name::ContentDisposition | Name::ContentEncoding)
                });
                if let Some(package) = request.headers.other("Info-Package") {
                    headers.push_other("Info-Package", package);
                }
                let client = switch.sip.request_within(switch.now, other, request.method.clone(), &headers, request.body.clone());
                if let Some((client, call)) = client.zip(self.calls.get_mut(&id)) {
                    call.passing.push(client);
                    self.passed.insert(client, (id, leg, server, request));
                    return;
                }
                StatusCode::NO_TRANSACTION
            }
            (Method::Info | Method::Message, _) => StatusCode::SERVICE_UNAVAILABLE,
            (Method::Options, _) => StatusCode::OK,
            (Method::Subscribe | Method::Notify, _) => StatusCode::BAD_EVENT,
            (Method::Other(_), _) => StatusCode::NOT_IMPLEMENTED,
            (
                Method::Invite
                | Method::Ack
                | Method::Bye
                | Method::Cancel
                | Method::Register
                | Method::Prack
                | Method::Update
                | Method::Refer
                | Method::Publish,
                _,
            ) => StatusCode::METHOD_NOT_ALLOWED,
        };
        let response = switch.sip.reply(&request, status);
        switch.sip.respond(switch.now, server, &response);
    }

    /// The other side answered a passed request.
    pub(super) fn passed_back(&mut self, switch: &mut Switch<'_>, client: ClientId, response: &Response) {
        let Some((id, leg, server, request)) = self.passed.remove(&client) else { return };
        if let Some(call) = self.calls.get_mut(&id) {
            call.passing.retain(|passing| *passing != client);
        }
        if !response.status.is_success() && self.info_refused(switch, (id, leg), &request) {
            let reply = switch.sip.reply(&request, StatusCode::OK);
            return switch.sip.respond(switch.now, server, &reply);
        }
        let mut reply = switch.sip.reply(&request, response.status);
        reply.headers.copy(&response.headers, Name::ContentType);
        reply.body = response.body.clone();
        switch.sip.respond(switch.now, server, &reply);
    }

    /// A side's session is over: the other one is hung up.
    pub(super) fn ended(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, by: Ender, reason: Option<Reason>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match &call.state {
            State::Ringing(_) if by == Ender::Peer => {
                return self.give_up(switch, id, StatusCode::REQUEST_TERMINATED, EndedBy::Caller, "the caller gave up");
            }
            State::Ringing(_) => {
                // The caller never acknowledged a reliable provisional response: nobody is there.
                return self.give_up(switch, id, StatusCode::SERVER_TIMEOUT, EndedBy::Lost, "the caller did not acknowledge");
            }
            State::Over => return,
            State::Established(_) => {}
        }
        if self.leg_ended(switch, (id, leg), by, reason.as_ref()) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let is_caller = call.leg(leg).is_some_and(|leg| leg.party == PartyId::CALLER);
        let is_gone = reason.as_ref().is_some_and(|why| &*why.protocol == "SIP" && why.cause == Some(StatusCode::REQUEST_TIMEOUT.code()));
        (call.record.ended_by, call.record.reason) = match by {
            Ender::Peer if is_gone => (EndedBy::Lost, "a device is gone".to_owned()),
            Ender::Peer if call.conference.is_some() => {
                let by = if is_caller { EndedBy::Caller } else { EndedBy::Callee };
                (
                    by,
                    format!(
                        "{} hung up",
                        call.leg(leg).and_then(|leg| call.party(leg.party)).map_or("somebody", |party| party.person.told())
                    ),
                )
            }
            Ender::Peer if is_caller => (EndedBy::Caller, "the caller hung up".to_owned()),
            Ender::Peer => (EndedBy::Callee, "the callee hung up".to_owned()),
            Ender::Us => (EndedBy::Switch, "ended by the switch".to_owned()),
            Ender::NoPrack => (EndedBy::Lost, "the caller did not acknowledge".to_owned()),
            Ender::NoAck => (EndedBy::Lost, "a device did not acknowledge the answer".to_owned()),
            Ender::SessionTimer => (EndedBy::Lost, "the session timer ran out".to_owned()),
            Ender::Lost => (EndedBy::Lost, "a device no longer knows the call, or is gone".to_owned()),
        };
        self.unanswer(switch, id, by == Ender::NoPrack);
        self.hang_up(switch, id, Some(leg), reason.as_ref());
    }

    /// A call that ends before its caller was told the answer, which waited for a PRACK, was not answered.
    pub(super) fn unanswer(&mut self, switch: &mut Switch<'_>, id: Id, refused: bool) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        // what the endpoint tells the caller in either case; one that was made by command was never answered until its callee did
        let status = match refused {
            true => StatusCode::SERVER_TIMEOUT,
            false if call.record.answered_at.is_none() => StatusCode::REQUEST_TERMINATED,
            false => StatusCode::TEMPORARILY_UNAVAILABLE,
        };
        let is_early = call.leg(LegId::CALLER).is_some_and(|caller| switch.sip.is_early(caller.dialog));
        if refused || is_early || call.record.answered_at.is_none() {
            let (by, reason) = (call.record.ended_by, std::mem::take(&mut call.record.reason));
            call.record.refused(status, by, reason);
        }
    }

    /// Ends an established call from our side.
    pub(super) fn fail(&mut self, switch: &mut Switch<'_>, id: Id, why: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.record.ended_by = EndedBy::Switch;
        why.clone_into(&mut call.record.reason);
        self.unanswer(switch, id, false);
        self.hang_up(switch, id, None, Some(&Reason::sip(488, "Not acceptable here")));
    }

    /// Hangs up every leg but one that is gone already, and closes the call.
    pub(super) fn hang_up(&mut self, switch: &mut Switch<'_>, id: Id, gone: Option<LegId>, reason: Option<&Reason>) {
        let Some(call) = self.calls.get(&id) else { return };
        for leg in call.legs.iter().filter(|leg| Some(leg.id) != gone) {
            leg.give_up(switch, reason);
        }
        self.close(switch, id);
    }

    pub(super) fn dialog(&self, id: Id, leg: LegId) -> Option<DialogId> {
        self.calls.get(&id).and_then(|call| call.leg(leg)).map(|leg| leg.dialog)
    }
}

/// Whether an INFO carries ICE candidates (RFC 8840 §4.2).
fn is_trickle(request: &sip::Request) -> bool {
    request.headers.get(Name::ContentType).is_some_and(|value| value.trim_ascii().starts_with(b"application/trickle-ice-sdpfrag"))
}
