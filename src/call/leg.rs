//! Leg: one dialog and one media port, with one device or trunk. It knows what was negotiated on its side and nothing of the other one.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::port::Kind;
use media::sdp::negotiate::{Error, Finality, Negotiation, passes_unchanged};
use media::sdp::secret::Secret;
use media::sdp::transport::{Local, Profile, Protection};
use media::sdp::{self, Description};
use media::{PortId, Settings};
use sip::{DialogId, Hop, OutgoingInvite};

/// A media port as a leg keeps it.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub id: PortId,
    /// What peers are told of it.
    pub local: Local,
}

/// Opens and steers media ports; the media threads in the switch, a list in tests.
pub trait Ports {
    /// Opens a port with that many streams, on the same thread as another one.
    ///
    /// # Errors
    /// One sentence: no port is free, or the system refuses one.
    fn open(&mut self, kind: Kind, streams: usize, beside: Option<PortId>) -> Result<Port, String>;
    /// Gives a port more streams.
    ///
    /// # Errors
    /// As [`Ports::open`]; the port is then as before.
    fn extend(&mut self, port: &mut Port, streams: usize) -> Result<(), String>;
    /// Applies what was agreed.
    fn set(&mut self, port: PortId, settings: Settings);
    /// Lets two ports hear each other.
    fn bridge(&mut self, a: PortId, b: PortId);
    /// Closes a port; its figures come as an event.
    fn close(&mut self, port: PortId);
}

/// Why a description cannot be used. The call answers 488, or ends.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// It is no SDP.
    #[error("malformed SDP: {0}")]
    Malformed(#[from] sdp::ParseError),
    /// It does not fit the offer/answer exchange.
    #[error(transparent)]
    Negotiation(#[from] Error),
    /// There is no port for it.
    #[error("{0}")]
    NoPort(String),
    /// The other leg has said nothing yet that could be passed on.
    #[error("no description to pass on")]
    Nothing,
}

/// One leg of a call.
#[derive(Debug)]
pub struct Leg {
    /// Its dialog.
    pub dialog: DialogId,
    /// What its peer and we told each other.
    negotiation: Negotiation,
    /// Its media port, once there is one.
    port: Option<Port>,
    /// Where its signaling comes from.
    signaling: Option<IpAddr>,
    /// Who this is, for the record: the contact, or the trunk.
    pub label: String,
    /// The INVITE again for what else may be tried, while there is something.
    pub spare: Option<Box<Spare>>,
}

/// What else may be tried with a device.
#[derive(Debug)]
pub struct Spare {
    /// The INVITE as it was sent first.
    pub invite: OutgoingInvite,
    /// The addresses not tried yet, the next one last (RFC 3263 §4.3).
    pub hops: Vec<Hop>,
    /// The ways to carry media not offered yet, the next one last.
    pub profiles: Vec<Profile>,
    /// Until when the device has to show that it takes an offer that was made otherwise.
    pub patience: Option<Instant>,
}

/// How the packets of a leg may travel.
#[derive(Clone, Debug)]
pub struct Manner {
    /// What our first offer uses.
    pub profile: Profile,
    /// Whether packets have to be protected.
    pub protection: Protection,
    /// What ICE credentials and keys are made of.
    pub secret: Secret,
}

impl Leg {
    /// Makes a leg without media.
    #[must_use]
    pub fn new(dialog: DialogId, session_id: u64, manner: Manner, signaling: Option<IpAddr>, label: String) -> Self {
        let negotiation = Negotiation::new(session_id, manner.profile, manner.protection, manner.secret);
        Self { dialog, negotiation, port: None, signaling, label, spare: None }
    }

    /// Returns its port.
    #[must_use]
    pub fn port(&self) -> Option<PortId> {
        self.port.as_ref().map(|port| port.id)
    }

    /// Takes the peer's offer.
    ///
    /// # Errors
    /// See [`MediaError`]; nothing has changed then.
    pub fn receive_offer(&mut self, body: &Bytes) -> Result<(), MediaError> {
        self.negotiation.receive_offer(Description::parse(body)?)?;
        Ok(())
    }

    /// Makes our offer to this leg's peer out of the other leg's.
    ///
    /// # Errors
    /// See [`MediaError`]; nothing has changed then.
    pub fn make_offer(&mut self, other: &Self, media: &mut dyn Ports) -> Result<Bytes, MediaError> {
        let template = other.negotiation.remote_offer().ok_or(MediaError::Nothing)?;
        self.reserve(template, other, media)?;
        Ok(self.negotiation.make_offer(template, local(self.port.as_ref()))?)
    }

    /// Makes the offer again in another profile: the peer refused the last one.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub fn offer_otherwise(&mut self, profile: Profile, other: &Self, media: &mut dyn Ports) -> Result<Bytes, MediaError> {
        self.negotiation.rollback();
        self.negotiation.set_profile(profile);
        self.make_offer(other, media)
    }

    /// Takes the peer's answer to our offer.
    ///
    /// # Errors
    /// See [`MediaError`]; nothing has changed then.
    pub fn receive_answer(&mut self, body: &Bytes, finality: Finality) -> Result<(), MediaError> {
        self.negotiation.receive_answer(Description::parse(body)?, finality)?;
        Ok(())
    }

    /// Answers this leg's peer with what the other leg's peer answered.
    ///
    /// # Errors
    /// See [`MediaError`]; nothing has changed then.
    pub fn make_answer(&mut self, other: &Self, media: &mut dyn Ports) -> Result<Bytes, MediaError> {
        let template = other.negotiation.remote().ok_or(MediaError::Nothing)?;
        self.reserve(template, other, media)?;
        Ok(self.negotiation.make_answer(template, local(self.port.as_ref()))?)
    }

    /// Returns true while an answer of an earlier response would be given again.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.negotiation.answer().is_some()
    }

    /// Returns true while our offer waits for its answer.
    #[must_use]
    pub fn has_local_offer(&self) -> bool {
        self.negotiation.has_local_offer()
    }

    /// Returns true if the packets of each leg are ones that the other takes, or the two have no codec in common.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.negotiation.streams(), other.negotiation.streams());
        passes_unchanged(&ours, &theirs) && passes_unchanged(&theirs, &ours) || !self.negotiation.shares_codec(&theirs)
    }

    /// Makes an offer to this leg's peer that repeats what the other leg's peer said last.
    ///
    /// # Errors
    /// See [`MediaError`]; nothing has changed then.
    pub fn offer_again(&mut self, other: &Self, media: &mut dyn Ports) -> Result<Bytes, MediaError> {
        let template = other.negotiation.remote().ok_or(MediaError::Nothing)?;
        self.reserve(template, other, media)?;
        Ok(self.negotiation.make_offer(template, local(self.port.as_ref()))?)
    }

    /// Returns true if the peer's pending offer changes nothing but where and how its packets travel.
    #[must_use]
    pub fn offer_moves_only(&self) -> bool {
        self.negotiation.offer_moves_only()
    }

    /// Forgets the peer's pending offer: what was agreed before holds.
    pub fn drop_offer(&mut self) {
        self.negotiation.reject_offer();
    }

    /// Goes back to what was agreed before the pending offer, ours or the peer's.
    pub fn rollback(&mut self, media: &mut dyn Ports, limit: Option<Duration>) {
        self.negotiation.rollback();
        self.negotiation.reject_offer();
        self.apply(media, limit);
    }

    /// Tells the port what is agreed now. `limit`: silence after which the leg is reported.
    pub fn apply(&self, media: &mut dyn Ports, limit: Option<Duration>) {
        if let Some(port) = &self.port {
            let settings = Settings {
                streams: self.negotiation.streams(),
                shared: self.negotiation.shared(),
                signaling: self.signaling,
                media_timeout: limit,
            };
            media.set(port.id, settings);
        }
    }

    /// Notes that its signaling goes to another address now.
    pub fn moved(&mut self, signaling: IpAddr) {
        self.signaling = Some(signaling);
    }

    /// Closes the port.
    pub fn close(&mut self, media: &mut dyn Ports) -> Option<PortId> {
        let port = self.port.take()?;
        media.close(port.id);
        Some(port.id)
    }

    /// Makes sure that the port has a stream for each line of a description.
    fn reserve(&mut self, template: &Description, other: &Self, media: &mut dyn Ports) -> Result<(), MediaError> {
        let streams = self.negotiation.streams_needed(template).max(1);
        let kind = if self.negotiation.profile() == Profile::WebRtc { Kind::Shared } else { Kind::Own };
        match &mut self.port {
            Some(port) if port.local.addresses.len() < streams => media.extend(port, streams),
            Some(_) => Ok(()),
            None => media.open(kind, streams, other.port()).map(|port| self.port = Some(port)),
        }
        .map_err(MediaError::NoPort)
    }
}

fn local(port: Option<&Port>) -> &Local {
    static NONE: Local = Local::none();
    port.map_or(&NONE, |port| &port.local)
}
