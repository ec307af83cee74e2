//! What the switch's messages mean to a thin client: events of the endpoint (RFC 3261 §13.3, §14.2) to what an application is told.

use std::time::Instant;

use bytes::Bytes;
use sip::message::Headers;
use sip::{DialogEvent, DialogId, Event, Hop, Incoming, Method, StatusCode};

use super::session::{Session, State, Wants};
use super::{Kind, MAX_CALLS, Output, Refusal, Thin};
use crate::inside;

impl Thin {
    /// Carries out whatever the last input led to.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.sip.next_event() {
                self.handle_event(now, event);
            } else if let Some(send) = self.sip.next_send() {
                match send.hop {
                    Hop::Flow(flow) => self.outputs.push_back(Output::Send(flow, send.bytes)),
                    // no address leads out of memory
                    Hop::Address { .. } => send.client.into_iter().for_each(|client| self.sip.send_failed(now, client)),
                }
            } else {
                return;
            }
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request(incoming) if incoming.request.method == Method::Invite => self.invited(now, *incoming),
            Event::Request(incoming) => {
                let status = if incoming.request.method == Method::Options { StatusCode::OK } else { StatusCode::METHOD_NOT_ALLOWED };
                let response = self.sip.reply(&incoming.request, status);
                self.sip.respond_statelessly(&incoming, &response);
            }
            Event::Dialog(session, event) => self.handle_dialog(now, session, event),
            Event::Refer(dialog, refer) => drop(self.sip.refuse_refer(now, dialog, refer.id, StatusCode::DECLINE)),
            Event::Forward(_) | Event::Elsewhere(..) | Event::Cancel(_) | Event::Response(..) | Event::Subscription(..) => {}
        }
    }

    /// The switch calls a device.
    fn invited(&mut self, now: Instant, incoming: Incoming) {
        let login = inside::login_of(&incoming.flow);
        let Some(login) = login.filter(|login| self.devices.get(login).is_some_and(|device| device.is_registered)) else {
            let response = self.sip.reply(&incoming.request, StatusCode::TEMPORARILY_UNAVAILABLE);
            return self.sip.respond_statelessly(&incoming, &response);
        };
        let offer = incoming.request.body.clone();
        let Some(id) = self.sip.take(now, incoming) else { return };
        if self.sessions_of(login).count() >= MAX_CALLS {
            let _gone = self.sip.refuse(now, id, StatusCode::BUSY_HERE, &Headers::default());
            return;
        }
        let (wants, kind) = if offer.is_empty() { (Wants::Offer, Kind::Request) } else { (Wants::Answer, Kind::Offer) };
        self.begin(id, Session::new(login, State::Ringing, wants));
        let _gone = self.sip.progress(now, id, StatusCode::RINGING, Bytes::new());
        while let Some(send) = self.sip.next_send() {
            // The switch learns of the dialog first: by that it knows which call the description belongs to.
            if let Hop::Flow(flow) = send.hop {
                self.outputs.push_back(Output::Send(flow, send.bytes));
            }
        }
        self.tell(id, kind, offer);
    }

    fn handle_dialog(&mut self, now: Instant, id: DialogId, event: DialogEvent) {
        match event {
            DialogEvent::Progress { body, .. } => self.early(id, body),
            DialogEvent::Answered { body } => {
                self.sip.acknowledge(now, id, Bytes::new());
                let Some(session) = self.sessions.get_mut(&id) else { return self.sip.bye(now, id, None) };
                session.state = State::Up;
                let answer = if body.is_empty() { std::mem::take(&mut session.early) } else { body };
                self.finish(id, Ok(answer));
            }
            DialogEvent::Failed { status, .. } => self.end(id, Refusal::Refused(status)),
            DialogEvent::Acknowledged { body } => {
                if self.sessions.get_mut(&id).is_some_and(|session| std::mem::take(&mut session.is_late)) {
                    self.finish(id, Ok(body));
                }
            }
            DialogEvent::Offered { body } => self.offered(now, id, body),
            DialogEvent::OfferCancelled => self.withdrawn(id),
            DialogEvent::OfferAnswered { body } => {
                self.sip.acknowledge(now, id, Bytes::new());
                self.finish(id, Ok(body));
            }
            DialogEvent::OfferFailed { status: StatusCode::REQUEST_PENDING } => self.offer_later(now, id),
            DialogEvent::OfferFailed { status } => self.finish(id, Err(Refusal::Refused(status))),
            DialogEvent::Request { server, request } => {
                let response = self.sip.reply(&request, StatusCode::METHOD_NOT_ALLOWED);
                self.sip.respond(now, server, &response);
            }
            DialogEvent::Response { .. } => {}
            DialogEvent::Cancelled { .. } | DialogEvent::Ended { .. } => self.given_up(id),
        }
    }

    /// A provisional response: where it has an answer, the application can play early media.
    fn early(&mut self, id: DialogId, body: Bytes) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !body.is_empty() && session.early != body {
            session.early = body.clone();
            self.tell(id, Kind::Pranswer, body);
        }
    }
}
