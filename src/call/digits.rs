//! Digits: what a device presses reaches the other parties in the way that each of their devices takes. Named events that both ends agreed on
//! pass in the media (RFC 4733) and are none of this file's business; for a device without them a digit is an INFO if it has
//! sent one itself, else it is made of tones. There is no standard for digits in INFO: `media::dtmf::info` has the form.

use std::time::Duration;

use bytes::Bytes;
use media::dtmf::{Digit, info};
use media::{Kinds, PortId};
use sip::message::{Headers, Name};
use sip::{Method, ServerId, StatusCode};

use super::leg::{Leg, LegId};
use super::party::PartyId;
use super::{Call, Calls, Id, Switch};

impl Calls {
    /// A device has pressed a key, as its named events tell.
    pub(super) fn key_pressed(&mut self, switch: &mut Switch<'_>, port: PortId, key: (Digit, Duration)) {
        let Some((id, leg)) = self.by_port.get(&port).copied() else { return };
        if self.door_pressed(switch, id, key.0) {
            return self.touch(id);
        }
        let Some(call) = self.calls.get(&id) else { return };
        let Some(from) = call.leg(leg) else { return };
        call.listeners(from.party).filter(|leg| !leg.media.takes_events()).for_each(|leg| press(switch, leg, key));
    }

    /// Takes the digit of an INFO to the others, and answers it. Returns whether it did: the only other device gets the INFO as it is, unless
    /// it takes named events.
    pub(super) fn info_pressed(&mut self, switch: &mut Switch<'_>, id: Id, leg: LegId, server: ServerId, request: &sip::Request) -> bool {
        let Some(key) = digit(request) else { return false };
        // the answer first: a third wrong PIN ends the session
        if self.calls.get(&id).is_some_and(Call::is_at_door) {
            let response = switch.sip.reply(request, StatusCode::OK);
            switch.sip.respond(switch.now, server, &response);
            return self.door_pressed(switch, id, key.0);
        }
        let Some(call) = self.calls.get_mut(&id) else { return false };
        let Some(from) = call.leg_mut(leg) else { return false };
        from.takes_info = true;
        let party = from.party;
        let mut listeners = call.listeners(party);
        match (listeners.next(), listeners.next()) {
            (None, _) => return false,
            (Some(only), None) if !only.media.takes_events() => return false,
            (Some(_), _) => {}
        }
        call.listeners(party).for_each(|leg| press(switch, leg, key));
        let response = switch.sip.reply(request, StatusCode::OK);
        switch.sip.respond(switch.now, server, &response);
        true
    }

    /// Makes tones of the digit of an INFO of a device, which the only other one refused. Returns whether it did.
    pub(super) fn info_refused(&self, switch: &mut Switch<'_>, (id, leg): (Id, LegId), request: &sip::Request) -> bool {
        let Some((key, call)) = digit(request).zip(self.calls.get(&id)) else { return false };
        let listener = call.leg(leg).and_then(|from| call.listeners(from.party).next());
        let Some(port) = listener.and_then(|leg| leg.media.port()) else { return false };
        switch.media.press(port, key.0, key.1);
        true
    }

    /// Sends digits to all but one party.
    pub(super) fn press_all(&self, switch: &mut Switch<'_>, (id, party): (Id, PartyId), keys: impl Iterator<Item = Digit> + Clone) {
        let Some(call) = self.calls.get(&id) else { return };
        for leg in call.listeners(party) {
            keys.clone().for_each(|digit| press(switch, leg, (digit, media::dtmf::DEFAULT_DURATION)));
        }
    }
}

impl Call {
    /// The legs that hear a party.
    fn listeners(&self, party: PartyId) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(move |leg| leg.party != party && leg.is_up() && leg.carries.contains(Kinds::AUDIO))
    }
}

fn digit(request: &sip::Request) -> Option<(Digit, Duration)> {
    let content_type = request.headers.get(Name::ContentType).and_then(|value| std::str::from_utf8(value).ok())?;
    info::parse(content_type, &request.body).filter(|_| request.method == Method::Info)
}

/// Presses a key towards the device of a leg, in the way that it takes.
fn press(switch: &mut Switch<'_>, leg: &Leg, (digit, duration): (Digit, Duration)) {
    if leg.takes_info && !leg.media.takes_events() {
        let mut headers = Headers::default();
        headers.push(Name::ContentType, info::CONTENT_TYPE);
        let body = Bytes::from(info::print(digit, duration));
        // Its response says nothing that could be told to anybody.
        let _client = switch.sip.request_within(switch.now, leg.dialog, Method::Info, &headers, body);
    } else if let Some(port) = leg.media.port() {
        switch.media.press(port, digit, duration);
    }
}
