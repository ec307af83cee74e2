//! Reach: an INVITE to one device, seen through until the device answers or has refused for good. A device that cannot be reached is
//! tried at its next address (RFC 3263 §4.3), one that does not take media as it was offered is offered it otherwise. Devices that ring
//! and the target of a move are reached alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::PortId;
use media::sdp::Description;
use media::sdp::transport::Profile;
use sip::message::header::Reason;
use sip::message::{Headers, NameAddr};
use sip::{Hop, OutgoingInvite, StatusCode};
use tracing::debug;

use super::leg::{Leg, LegId, Media, MediaError, Stage};
use super::make::Alert;
use super::party::{PartyId, Person};
use super::{Switch, Target};

/// How long a device may be silent about an offer after it refused another one.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a device is told by its INVITE.
#[derive(Clone, Debug)]
pub(super) struct Invitation<'a> {
    /// From.
    pub(super) from: &'a NameAddr,
    /// To.
    pub(super) to: &'a NameAddr,
    /// Further headers.
    pub(super) headers: &'a Headers,
    /// What the offer is made after; none: the device makes the offer.
    pub(super) template: Option<Arc<Description>>,
}

/// What else may be tried with a device.
#[derive(Debug)]
pub(super) struct Reach {
    /// The INVITE as it was sent last.
    invite: OutgoingInvite,
    template: Option<Arc<Description>>,
    /// The addresses not tried yet, the next one last.
    hops: Vec<Hop>,
    /// The ways to carry media not offered yet, the next one last.
    profiles: Vec<Profile>,
    /// Until when the device has to show that it takes an offer that was made otherwise.
    patience: Option<Instant>,
    /// It is about to be called again, to answer by itself.
    is_asked: bool,
}

impl Leg {
    /// Places the INVITE to a device.
    pub(super) fn place(
        switch: &mut Switch<'_>,
        (id, party): (LegId, PartyId),
        target: &Target,
        invitation: Invitation<'_>,
        beside: Option<PortId>,
    ) -> Result<Self, MediaError> {
        let (hop, spares) = target.hops.split_first().ok_or_else(|| MediaError::NoPort("no way leads to the device".to_owned()))?;
        let manner = switch.manner(target.profiles.first().copied().unwrap_or_default(), target.protection);
        let mut media = Media::new(manner, Some(hop.remote().ip()), beside);
        let offer = invitation.template.as_ref().map(|template| media.make_offer(template, switch.media)).transpose();
        let body = match offer {
            Ok(body) => body.unwrap_or_default(),
            Err(error) => {
                media.close(switch.media);
                return Err(error);
            }
        };
        let invite = OutgoingInvite {
            uri: target.uri.clone(),
            routes: target.routes.clone(),
            hop: hop.clone(),
            from: invitation.from.clone(),
            to: invitation.to.clone(),
            headers: invitation.headers.clone(),
            body,
        };
        let dialog = switch.sip.place(switch.now, invite.clone());
        let reach = Reach {
            invite,
            template: invitation.template,
            hops: spares.iter().rev().cloned().collect(),
            profiles: target.profiles.iter().skip(1).rev().copied().collect(),
            patience: None,
            is_asked: false,
        };
        let mut leg = Self::new((id, party), (target.device.clone(), target.uri.to_string()), dialog, media);
        leg.stage = Stage::Reaching(Box::new(reach));
        Ok(leg)
    }

    /// The device showed that it is there.
    pub(super) fn shows_life(&mut self) {
        if let Some(reach) = self.reach() {
            reach.patience = None;
        }
    }

    /// Returns when the device has to show that it is there at the latest.
    pub(super) fn patience(&self) -> Option<Instant> {
        if let Stage::Reaching(reach) = &self.stage { reach.patience } else { None }
    }

    /// Has a device that rings answer. One that can be told so is told; another one is called again, with what phones go by that answer by
    /// themselves: once its first INVITE is over, as some take no second call while one rings.
    pub(super) fn have_answered(&mut self, switch: &mut Switch<'_>, of: &Person) {
        if switch.sip.talk(switch.now, self.dialog) {
            return;
        }
        let dialog = self.dialog;
        let Some(reach) = self.reach().filter(|reach| !reach.is_asked) else { return };
        reach.is_asked = true;
        Alert::Answer.describe(&mut reach.invite.headers, of);
        switch.sip.cancel(switch.now, dialog, Some(Reason::sip(200, "Call completed elsewhere")));
    }

    fn call_again(&mut self, switch: &mut Switch<'_>) -> bool {
        let Some(reach) = self.reach() else { return false };
        if !std::mem::take(&mut reach.is_asked) {
            return false;
        }
        let invite = reach.invite.clone();
        self.dialog = switch.sip.place(switch.now, invite);
        true
    }

    /// The INVITE failed: places another one, in a new dialog, where one may do. Returns false when nothing is left to try.
    pub(super) fn place_again(&mut self, switch: &mut Switch<'_>, status: StatusCode) -> bool {
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => self.try_next_address(switch),
            StatusCode::NOT_ACCEPTABLE_HERE => self.try_next_profile(switch),
            StatusCode::REQUEST_TERMINATED => self.call_again(switch),
            _ => false,
        }
    }

    fn try_next_address(&mut self, switch: &mut Switch<'_>) -> bool {
        let Some(hop) = self.reach().and_then(|reach| reach.hops.pop()) else { return false };
        self.media.moved(hop.remote().ip());
        let Some(reach) = self.reach() else { return false };
        reach.invite.hop = hop;
        let invite = reach.invite.clone();
        self.dialog = switch.sip.place(switch.now, invite);
        true
    }

    /// A phone that insists on SRTP says so only by refusing.
    fn try_next_profile(&mut self, switch: &mut Switch<'_>) -> bool {
        let Stage::Reaching(reach) = &mut self.stage else { return false };
        let Some((profile, template)) = reach.profiles.pop().zip(reach.template.as_ref()) else { return false };
        let Ok(body) = self.media.offer_otherwise(profile, template, switch.media) else { return false };
        debug!(leg = self.id.0, ?profile, "offered otherwise");
        reach.invite.body = body;
        reach.patience = Some(switch.now + PATIENCE);
        self.dialog = switch.sip.place(switch.now, reach.invite.clone());
        true
    }

    /// Gives up a device that refused one offer and is silent about the next: it has refused. Returns whether it was so.
    pub(super) fn lose_patience(&mut self, switch: &mut Switch<'_>) -> bool {
        let now = switch.now;
        let Some(reach) = self.reach().filter(|reach| reach.patience.is_some_and(|until| until <= now)) else { return false };
        reach.patience = None;
        reach.profiles.clear();
        switch.sip.cancel(now, self.dialog, None);
        true
    }

    /// Takes back the INVITE, or hangs up whoever answered it meanwhile.
    pub(super) fn give_up(&self, switch: &mut Switch<'_>, reason: Option<&Reason>) {
        // The one fits a device that rings, the other one that answered.
        switch.sip.cancel(switch.now, self.dialog, reason.cloned());
        switch.sip.bye(switch.now, self.dialog, reason.cloned());
    }

    fn reach(&mut self) -> Option<&mut Reach> {
        if let Stage::Reaching(reach) = &mut self.stage { Some(reach) } else { None }
    }
}

/// A 2xx that comes too late or cannot be used: acknowledged and hung up.
pub(super) fn end_late(switch: &mut Switch<'_>, dialog: sip::DialogId) {
    switch.sip.acknowledge(switch.now, dialog, Bytes::new());
    switch.sip.bye(switch.now, dialog, None);
}

/// What a device is told when its description cannot be used.
pub(super) fn refusal(error: &MediaError) -> StatusCode {
    match error {
        MediaError::Malformed(_) => StatusCode::BAD_REQUEST,
        MediaError::Negotiation(_) | MediaError::Nothing => StatusCode::NOT_ACCEPTABLE_HERE,
        MediaError::NoPort(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
