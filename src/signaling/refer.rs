//! Calls that change hands at the wish of a phone: REFER, INVITE with Replaces, feature codes. Who may do what is decided here; what it
//! does is the calls' business.

use bytes::Bytes;
use media::sdp::Description;
use media::sdp::negotiate::Negotiation;
use media::sdp::secret::Secret;
use media::sdp::transport::{Local, Profile, Protection};
use sip::endpoint::Named;
use sip::message::Headers;
use sip::message::header::{NameAddr, Reason};
use sip::{Aor, DialogId, Hop, Incoming, Refer, StatusCode};
use tracing::info;

use super::outside::protection;
use super::resolve::{Job, Way};
use super::{Signaling, source};
use crate::call::party::{PartyId, Person, Who};
use crate::call::pickup::{Entrant, Place};
use crate::call::refusal::Refusal;
use crate::call::transfer::{Referral, Report};
use crate::call::{Id, Target};
use crate::config::{Feature, Group};
use crate::device;
use crate::request::{Entry, Sender, Wish};
use crate::route::Meant;

impl Signaling {
    /// A device calls to take a place in a call that there is, or to park one.
    pub(super) fn enter(&mut self, incoming: Incoming, entry: Entry) {
        let device = self.calling_device(&Sender::User(entry.user.clone()), &incoming);
        let place = self.place(&entry, device.as_ref());
        let place = match place {
            Ok(place) => place,
            Err(refusal) => {
                info!(%refusal, "refused");
                let server = self.sip.admit(self.now, &incoming);
                let response = self.sip.reply(&incoming.request, refusal.status());
                return self.sip.respond(self.now, server, &response);
            }
        };
        let (signaling, flow) = (source(&incoming.flow), incoming.flow);
        let offer = incoming.session();
        let Some(dialog) = self.sip.take(self.now, incoming) else { return };
        self.net.keep(&flow);
        let Wanted::Place(place) = place else {
            let Wanted::Park(call, slot) = place else { return };
            return self.park_dialled(dialog, &offer, call, slot);
        };
        let person = Person { who: Who::User(entry.user.as_str().into()), address: entry.caller.into(), shown: entry.from };
        let entrant = Entrant { dialog, offer, signaling, protection: protection(entry.srtp), person, device };
        let (calls, mut switch) = self.calls();
        let _told = calls.take_place(&mut switch, entrant, place);
    }

    fn place(&self, entry: &Entry, device: Option<&device::Id>) -> Result<Wanted, Refusal> {
        let user = entry.user.as_str();
        let is_colleague = |other: &str| Group::joins(&self.groups, user, other);
        let place = match &entry.wish {
            Wish::Replace(dialog) => self.calls.place_of(*dialog, user, is_colleague)?,
            Wish::Feature(Feature::Pull) => {
                let (call, party) = self.calls.elsewhere(user, device).ok_or(Refusal::NoCall)?;
                Place::Own(call, party)
            }
            Wish::Feature(Feature::Pickup(whom)) => {
                let whom = self.users.find(whom).ok_or(Refusal::NoCall)?;
                if *whom.name != *user && !is_colleague(&whom.name) {
                    return Err(Refusal::NotYours);
                }
                self.calls.ringing_at(|other| *other == *whom.name).ok_or(Refusal::NoCall)?
            }
            Wish::Feature(Feature::GroupPickup) => {
                self.calls.ringing_at(|other| other != user && is_colleague(other)).ok_or(Refusal::NoCall)?
            }
            Wish::Feature(Feature::Retrieve(slot)) => Place::Slot(self.calls.in_slot(*slot).ok_or(Refusal::NoSlot)?),
            Wish::Feature(Feature::Park(slot)) => {
                let call = self.calls.here(user, device).ok_or(Refusal::NoCall)?;
                return Ok(Wanted::Park(call, *slot));
            }
        };
        Ok(Wanted::Place(place))
    }

    /// A phone dialled the code for parking, with the call on hold: it is told that it is done, and where.
    fn park_dialled(&mut self, dialog: DialogId, offer: &Bytes, call: (Id, PartyId), slot: Option<u16>) {
        let (calls, mut switch) = self.calls();
        let parked = calls.park(&mut switch, call, slot, None);
        let answer = parked.and_then(|slot| declined(offer).map(|answer| (slot, answer)).ok_or(Refusal::NotTaken));
        match answer {
            Ok((slot, answer)) => {
                self.sip.accept(self.now, dialog, answer);
                self.sip.bye(self.now, dialog, Some(Reason::sip(200, &format!("Parked at {slot}"))));
            }
            Err(refusal) => {
                let _gone = self.sip.refuse(self.now, dialog, refusal.status(), &Headers::default());
            }
        }
    }

    /// A REFER outside a dialog, about a call of the same user.
    pub(super) fn take_refer(&mut self, incoming: Incoming, user: &str, session: DialogId) {
        let is_theirs = |who: &Who| who.user().is_some_and(|name| **name == *user);
        if self.calls.owner(session).is_none_or(|(_, _, person, _)| !is_theirs(&person.who)) {
            let response = self.sip.reply(&incoming.request, StatusCode::FORBIDDEN);
            return self.sip.respond_statelessly(&incoming, &response);
        }
        if let Some((dialog, refer)) = self.sip.take_refer(self.now, incoming) {
            self.refer(dialog, &refer, session);
        }
    }

    /// A party refers the other one of its call somewhere.
    pub(super) fn refer(&mut self, dialog: DialogId, refer: &Refer, session: DialogId) {
        let report = Report::Refer { dialog, refer: refer.id };
        if let Err(status) = self.decide(report, refer, session) {
            info!(%status, "REFER refused");
            let _gone = self.sip.refuse_refer(self.now, dialog, refer.id, status);
        }
    }

    fn decide(&mut self, report: Report, refer: &Refer, session: DialogId) -> Result<(), StatusCode> {
        let (call, party, person, _) = self.calls.owner(session).ok_or(StatusCode::NO_TRANSACTION)?;
        // A trunk's word sends nobody anywhere.
        let user = person.who.user().cloned().ok_or(StatusCode::FORBIDDEN)?;
        if let Some(replaces) = &refer.to.replaces {
            let second = match self.sip.named(&replaces.call_id, &replaces.to_tag, &replaces.from_tag) {
                Some(Named::Established(_)) if replaces.early_only => return Err(StatusCode::BUSY_HERE),
                Some(Named::Established(dialog) | Named::Incoming(dialog)) => dialog,
                Some(Named::Calling(_)) | None => return Err(StatusCode::NO_TRANSACTION),
            };
            let (other, other_party, ..) = self.calls.owner(second).ok_or(StatusCode::NO_TRANSACTION)?;
            let (calls, mut switch) = self.calls();
            let _told = calls.join(&mut switch, (call, party), (other, other_party), Some(report));
            return Ok(());
        }
        let callee = match self.route().find(&refer.to.uri) {
            Meant::User(callee) => callee,
            Meant::Room(number) => {
                let room = self.rooms.get(number).cloned().ok_or(StatusCode::NOT_FOUND)?;
                self.refer_to_room((call, party), &room, report);
                return Ok(());
            }
            Meant::Feature(Feature::Park(slot)) => {
                let (calls, mut switch) = self.calls();
                let _told = calls.park(&mut switch, (call, party), slot, Some(report));
                return Ok(());
            }
            Meant::Feature(Feature::Pull | Feature::Retrieve(_) | Feature::Pickup(_) | Feature::GroupPickup) => {
                return Err(StatusCode::FORBIDDEN);
            }
            Meant::Switch | Meant::Elsewhere | Meant::Nobody => return Err(StatusCode::NOT_FOUND),
        };
        let (name, srtp) = (callee.name.clone(), callee.srtp);
        let aor = Aor::new(&name, &self.domain).ok_or(StatusCode::NOT_FOUND)?;
        let (mut ways, mut targets) = self.devices_of(&aor, srtp);
        if *name == *user {
            let here = self.devices_in(call);
            (ways, targets) = ways.into_iter().zip(targets).filter(|(_, target)| !is_one_of(target, &here)).unzip();
        }
        let shown = aor.uri().map(NameAddr::new).ok_or(StatusCode::NOT_FOUND)?;
        let to = Person { who: Who::User((*name).into()), address: aor.as_str().into(), shown };
        let referral = Referral { to, headers: Headers::default(), targets, report: Some(report) };
        self.resolve_all(ways, Job::Transfer { call, party, referral: Box::new(referral) });
        Ok(())
    }

    /// Sends a party to devices whose next hops are known now.
    pub(super) fn start_transfer(&mut self, call: Id, party: PartyId, mut referral: Referral, hops: Vec<Vec<Hop>>) {
        referral.targets = with_hops(referral.targets, hops);
        let (calls, mut switch) = self.calls();
        if let Err(refusal) = calls.transfer(&mut switch, call, party, referral) {
            info!(%call, %refusal, "not transferred");
        }
    }

    /// Looks for the devices of a user who is called back.
    pub(super) fn recall(&mut self, call: Id, user: &str) {
        let srtp = self.users.named(user).map(|user| user.srtp).unwrap_or_default();
        let (ways, targets) = Aor::new(user, &self.domain).map(|aor| self.devices_of(&aor, srtp)).unwrap_or_default();
        self.resolve_all(ways, Job::Recall { call, targets });
    }

    pub(super) fn start_recall(&mut self, call: Id, targets: Vec<Target>, hops: Vec<Vec<Hop>>) {
        let targets = with_hops(targets, hops);
        let (calls, mut switch) = self.calls();
        calls.recall(&mut switch, call, Headers::default(), targets);
    }

    pub(super) fn devices_of(&self, aor: &Aor, srtp: crate::config::Srtp) -> (Vec<Way>, Vec<Target>) {
        let bindings = self.locations.of(aor);
        let targets = sip::registrar::targets(&bindings, self.unix());
        targets.iter().map(|target| self.device(target, &bindings, srtp)).unzip()
    }

    /// Returns the devices that are in a call.
    pub(super) fn devices_in(&self, call: Id) -> Vec<device::Id> {
        let view = self.calls.view(call);
        let legs = view.iter().flat_map(|view| &view.parties).flat_map(|party| &party.legs);
        legs.filter_map(|leg| leg.device.clone()).collect()
    }
}

/// Whether a device is one of those.
pub(super) fn is_one_of(target: &Target, devices: &[device::Id]) -> bool {
    target.device.as_ref().is_some_and(|device| devices.contains(device))
}

/// What a device that calls is to get.
enum Wanted {
    Place(Place),
    Park((Id, PartyId), Option<u16>),
}

fn with_hops(targets: Vec<Target>, hops: Vec<Vec<Hop>>) -> Vec<Target> {
    reachable(targets.into_iter().zip(hops).map(|(target, hops)| Target { hops, ..target }).collect())
}

/// Leaves out what no way leads to.
pub(super) fn reachable(mut targets: Vec<Target>) -> Vec<Target> {
    targets.retain(|target| !target.hops.is_empty());
    targets
}

/// An answer that takes none of the offered streams.
fn declined(offer: &Bytes) -> Option<Bytes> {
    let offer = Description::parse(offer).ok()?;
    let mut template = offer.clone();
    template.media.iter_mut().for_each(|media| media.port = 0);
    let mut negotiation = Negotiation::new(0, Profile::Plain, Protection::Prefer, Secret::new([0; 32]));
    negotiation.receive_offer(offer).ok()?;
    negotiation.make_answer(&template, &Local::none()).ok()
}
