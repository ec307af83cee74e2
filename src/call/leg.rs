//! Leg: our dialog and media port with one device of a party. It knows what was negotiated on its side and nothing of the other ones.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::dtmf::Digit;
use media::port::Kind;
use media::sdp::negotiate::{Error, Finality, Negotiation, Stream, passes_unchanged, takes_no_sound};
use media::sdp::secret::Secret;
use media::sdp::transport::{Local, Profile, Protection};
use media::sdp::{self, Description, Format, MediaDescription, MediaKind};
use media::{BridgeId, Kinds, Member, PortId, Settings};
use serde::Serialize;
use sip::DialogId;

use super::party::PartyId;
use super::reach::Reach;
use super::template::{self, Unwanted};
use crate::device;

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
    /// Opens a port with that many streams, on the same thread as another one, which may be closed meanwhile.
    ///
    /// # Errors
    /// One sentence: no port is free, or the system refuses one.
    fn open(&mut self, kind: Kind, streams: usize, beside: Option<PortId>) -> Result<Port, String>;
    /// Gives a port more streams.
    ///
    /// # Errors
    /// As [`Ports::open`]; the port is then as before.
    fn extend(&mut self, port: &mut Port, streams: usize) -> Result<(), String>;
    /// Brings a port that is in no bridge to the thread of another one; it has another name then.
    ///
    /// # Errors
    /// One sentence; the port is where it was.
    fn bring(&mut self, port: &mut Port, beside: PortId) -> Result<(), String>;
    /// Applies what was agreed.
    fn set(&mut self, port: PortId, settings: Settings);
    /// Says who is in a bridge, and what each gives and takes: all of it, each time. Nobody: the bridge is over.
    fn arrange(&mut self, bridge: BridgeId, members: &[Member]);
    /// Presses a key towards the peer of a port for that long: as a named event where it takes them, else as tones.
    fn press(&mut self, port: PortId, digit: Digit, duration: Duration);
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

/// Names a leg within its call; later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LegId(pub u32);

impl LegId {
    /// The leg that the call began with.
    pub const CALLER: Self = Self(0);
}

/// How far a leg is.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is the caller's, and waits for our answer.
    Calling,
    /// Our INVITE is out.
    Reaching(Box<Reach>),
    /// It is answered.
    Up,
}

/// One leg of a call.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) id: LegId,
    /// Whose it is.
    pub(super) party: PartyId,
    /// The device at its other end, if it is one of a user's.
    pub(super) device: Option<device::Id>,
    /// Which device this is, for the record: its contact.
    pub(super) label: String,
    /// Its dialog.
    pub(super) dialog: DialogId,
    pub(super) stage: Stage,
    /// What its party uses it for.
    pub(super) carries: Kinds,
    /// What it is to be offered though nobody in the call has it yet.
    pub(super) wishes: Kinds,
    /// What its lines are to carry after our own offer.
    pub(super) asked: Kinds,
    /// What its peer refused to have its lines carry: it is not asked for the same again.
    pub(super) stuck: Option<Kinds>,
    /// When an offer of ours that could not go out, or met another one, may be made again.
    pub(super) again: Option<Instant>,
    /// How often that was so.
    pub(super) tries: u8,
    /// What its peer refused to be told of hold.
    pub(super) unshown: Option<bool>,
    /// It may be on hold for somebody who has left.
    pub(super) stale: bool,
    /// How often it may be offered another codec, since a device joined.
    pub(super) mends: u8,
    /// Why it was silent, if it was.
    pub(super) verdict: Option<String>,
    /// Whether its device has sent a digit in an INFO, and so takes them.
    pub(super) takes_info: bool,
    pub(super) media: Media,
}

impl Leg {
    /// Makes a leg of a dialog.
    pub(super) fn new(
        (id, party): (LegId, PartyId),
        (device, label): (Option<device::Id>, String),
        dialog: DialogId,
        media: Media,
    ) -> Self {
        Self {
            id,
            party,
            device,
            label,
            dialog,
            stage: Stage::Calling,
            carries: Kinds::BOTH,
            wishes: Kinds::NONE,
            asked: Kinds::NONE,
            stuck: None,
            again: None,
            tries: 0,
            unshown: None,
            stale: false,
            mends: 0,
            verdict: None,
            takes_info: false,
            media,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// Its peer refused what it was asked, and told of hold: it is not asked for the same again.
    pub(super) fn note_refused(&mut self, held: bool) {
        if !self.tells_only() {
            self.stuck = Some(self.asked);
        }
        self.unshown = Some(held);
    }

    /// Returns true if our last offer, which is no longer pending, asked for nothing new.
    pub(super) fn tells_only(&self) -> bool {
        self.asked == self.media.has()
    }

    /// Returns true if an offer of ours would not meet another one that we know of.
    pub(super) fn may_offer(&self) -> bool {
        !self.media.is_pending() && self.again.is_none()
    }
}

/// How the packets of a leg may travel.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// What our first offer uses.
    pub(super) profile: Profile,
    /// Whether packets have to be protected.
    pub(super) protection: Protection,
    /// For the description's session id.
    pub(super) session_id: u64,
    /// What ICE credentials and keys are made of.
    pub(super) secret: Secret,
}

/// The media of a leg: what its peer and we told each other, and the port that it is about.
#[derive(Debug)]
pub(super) struct Media {
    negotiation: Negotiation,
    /// The port, once there is one.
    port: Option<Port>,
    /// A port on whose thread this one has to be.
    beside: Option<PortId>,
    /// Where the leg's signaling comes from.
    signaling: Option<IpAddr>,
    /// What our last offer had.
    offered: Kinds,
    /// What its peer did not take when it was offered.
    refused: Kinds,
    /// What its lines have, and nothing is sent on: they cannot be taken away.
    parked: Kinds,
    /// The same before our pending offer.
    parked_before: Kinds,
    /// Its peer is told that it is on hold.
    held: bool,
    /// Our pending offer tells it so.
    offers_hold: bool,
}

impl Media {
    /// Has neither port nor description yet. `beside`: a port of the same call, or of one that it may be joined with.
    pub(super) fn new(manner: Manner, signaling: Option<IpAddr>, beside: Option<PortId>) -> Self {
        let negotiation = Negotiation::new(manner.session_id, manner.profile, manner.protection, manner.secret);
        Self {
            negotiation,
            port: None,
            beside,
            signaling,
            offered: Kinds::NONE,
            refused: Kinds::NONE,
            parked: Kinds::NONE,
            parked_before: Kinds::NONE,
            held: false,
            offers_hold: false,
        }
    }

    /// Returns true if its device takes digits as named events.
    pub(super) fn takes_events(&self) -> bool {
        let sound = self.negotiation.streams().into_iter().find(|stream| stream.kind == MediaKind::Audio);
        sound.is_some_and(|stream| stream.send.iter().any(Format::is_telephone_event))
    }

    /// Returns its port.
    pub(super) fn port(&self) -> Option<PortId> {
        self.port.as_ref().map(|port| port.id)
    }

    /// Brings its port to the thread of another one, where it will be opened if there is none yet. Returns its name now.
    pub(super) fn bring(&mut self, beside: PortId, ports: &mut dyn Ports) -> Result<Option<PortId>, String> {
        self.beside = Some(beside);
        let Some(port) = &mut self.port else { return Ok(None) };
        ports.bring(port, beside)?;
        Ok(Some(port.id))
    }

    /// Says next to which port its own has to be, if it has none yet.
    pub(super) fn set_beside(&mut self, port: Option<PortId>) {
        self.beside = port.or(self.beside);
    }

    /// Takes the peer's offer. After an error nothing has changed.
    pub(super) fn receive_offer(&mut self, body: &Bytes) -> Result<(), MediaError> {
        self.negotiation.receive_offer(Description::parse(body)?)?;
        Ok(())
    }

    /// Makes our offer to the peer after a template: what the others say. After an error nothing has changed.
    pub(super) fn make_offer(&mut self, template: &Description, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        self.make_offer_to(template, takes_no_sound(template), ports)
    }

    /// The same to a peer that is told whether it is on hold.
    pub(super) fn make_offer_to(&mut self, template: &Description, held: bool, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        self.reserve(template, ports)?;
        let offer = self.negotiation.make_offer(template, local(self.port.as_ref()))?;
        self.offered = kinds_of(&template.media);
        self.parked_before = std::mem::take(&mut self.parked);
        self.offers_hold = held;
        Ok(offer)
    }

    /// Makes the offer again in another profile: the peer refused the last one.
    pub(super) fn offer_otherwise(&mut self, profile: Profile, template: &Description, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        self.negotiation.rollback();
        self.negotiation.set_profile(profile);
        self.make_offer(template, ports)
    }

    /// Takes the peer's answer to our offer. After an error nothing has changed.
    pub(super) fn receive_answer(&mut self, body: &Bytes, finality: Finality) -> Result<(), MediaError> {
        self.negotiation.receive_answer(Description::parse(body)?, finality)?;
        if finality == Finality::Final {
            let got = self.kinds();
            self.refused = (self.refused | (self.offered - got)) - got;
            self.held = self.offers_hold;
        }
        Ok(())
    }

    /// Answers the peer after a template: what the others say. After an error nothing has changed.
    pub(super) fn make_answer(&mut self, template: &Description, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        self.make_answer_to(template, false, ports)
    }

    /// The same to a peer that is told whether it is on hold. One that was, and offers to send nothing, is not told that it no longer is.
    pub(super) fn make_answer_to(&mut self, template: &Description, held: bool, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        self.reserve(template, ports)?;
        let offers_sound = self.negotiation.remote_offer().map(sends_sound);
        let answer = self.negotiation.make_answer(template, local(self.port.as_ref()))?;
        self.held = offers_sound.map_or(self.held, |offers| held || self.held && !offers);
        Ok(answer)
    }

    /// Answers the peer as another leg's peer says. What that one refuses is parked where it cannot be taken away.
    pub(super) fn pass_answer(&mut self, other: &Self, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        let held = other.negotiation.remote_offer().map_or_else(|| other.holds(), takes_no_sound);
        let other = other.negotiation.remote_offer().map_or_else(|| other.remote(), Ok)?;
        let Some(offer) = self.negotiation.remote_offer() else { return self.make_answer_to(other, held, ports) };
        let template = template::passed(&offer.media, other, self.unwanted());
        let answer = self.make_answer_to(&template, held, ports)?;
        self.park(kinds_of(&other.media));
        Ok(answer)
    }

    /// Offers the peer what another leg's peer says, likewise.
    pub(super) fn pass_offer(&mut self, other: &Self, ports: &mut dyn Ports) -> Result<Bytes, MediaError> {
        let other = other.negotiation.remote_offer().map_or_else(|| other.remote(), Ok)?;
        let template = template::passed(self.lines(), other, self.unwanted());
        self.make_offer(&template, ports)
    }

    /// Notes what stays parked of its lines after an offer that was passed on from another leg.
    pub(super) fn park_like(&mut self, other: &Self) {
        self.park(kinds_of(other.lines()));
    }

    /// Returns what the peer said last.
    pub(super) fn remote(&self) -> Result<&Description, MediaError> {
        self.negotiation.remote().ok_or(MediaError::Nothing)
    }

    /// Returns the peer's offer that waits for an answer.
    pub(super) fn remote_offer(&self) -> Result<&Description, MediaError> {
        self.negotiation.remote_offer().ok_or(MediaError::Nothing)
    }

    /// Returns true while our offer waits for its answer.
    pub(super) fn has_local_offer(&self) -> bool {
        self.negotiation.has_local_offer()
    }

    /// Returns true while an offer, ours or the peer's, waits for its answer.
    pub(super) fn is_pending(&self) -> bool {
        self.negotiation.has_local_offer() || self.negotiation.remote_offer().is_some()
    }

    /// Returns the lines of what the peer said last.
    pub(super) fn lines(&self) -> &[MediaDescription] {
        self.negotiation.remote().map_or(&[], |remote| &remote.media)
    }

    /// Returns the line of a kind as others are told of it: the codec in use comes first.
    pub(super) fn line(&self, kind: Kinds) -> Option<MediaDescription> {
        let stream = self.negotiation.streams().into_iter().find(|stream| Kinds::of(&stream.kind) == kind)?;
        let mut line = template::told(self.lines().get(stream.line)?.clone(), sdp::Direction::SendRecv);
        let in_use = stream.receive.iter().filter(|format| !format.is_auxiliary());
        let in_use = in_use.filter_map(|format| stream.send.iter().find(|sent| sent.same_codec(format))).next();
        let payload_type = in_use.map(|format| sdp::Text::from(format.payload_type.to_string()));
        if let Some(at) = payload_type.and_then(|text| line.formats.iter().position(|format| *format == text)) {
            line.formats[..=at].rotate_right(1);
        }
        Some(line)
    }

    /// Returns what becomes of its lines that are not wanted.
    pub(super) fn unwanted(&self) -> Unwanted {
        if self.negotiation.profile() == Profile::WebRtc { Unwanted::Inactive } else { Unwanted::Refused }
    }

    /// Returns the kinds of its lines.
    pub(super) fn kinds(&self) -> Kinds {
        self.negotiation.streams().iter().fold(Kinds::NONE, |kinds, stream| kinds | Kinds::of(&stream.kind))
    }

    /// Returns the kinds of its lines on which something may be sent.
    pub(super) fn has(&self) -> Kinds {
        self.kinds() - self.parked
    }

    /// Returns whether our last offer told its peer that it is on hold.
    pub(super) fn offers_hold(&self) -> bool {
        self.offers_hold
    }

    /// Returns the kinds that its peer did not take.
    pub(super) fn refused(&self) -> Kinds {
        self.refused
    }

    /// Notes that nothing is sent on lines of other kinds than these.
    pub(super) fn park(&mut self, wanted: Kinds) {
        self.parked = self.kinds() - wanted;
    }

    /// Notes that its peer refused an offer with these kinds.
    pub(super) fn refuse(&mut self, kinds: Kinds) {
        self.refused = self.refused | (kinds - self.kinds());
    }

    /// Lets these kinds be offered though they were refused.
    pub(super) fn ask_again(&mut self, kinds: Kinds) {
        self.refused = self.refused - kinds;
    }

    /// Returns true if the lines of both are of the same kinds, as far as both have lines: then what one offers can be offered to the other.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.lines().iter().zip(other.lines()).all(|(one, other)| one.kind == other.kind)
    }

    /// Returns true if for each of the kinds the packets of each leg are ones that the other takes, or the two have no codec in common.
    pub(super) fn fits(&self, other: &Self, kinds: Kinds) -> bool {
        kinds.each().all(|kind| match self.stream(kind).zip(other.stream(kind)) {
            Some((ours, theirs)) => {
                let passes = |from: &Stream, to: &Stream| passes_unchanged(std::slice::from_ref(from), std::slice::from_ref(to));
                let has = |format: &Format| theirs.send.iter().any(|other| other.same_codec(format));
                let shares = ours.send.iter().filter(|format| !format.is_auxiliary()).any(has);
                passes(&ours, &theirs) && passes(&theirs, &ours) || !shares
            }
            None => true,
        })
    }

    /// The first stream of a kind, as if it were the first line.
    fn stream(&self, kind: Kinds) -> Option<Stream> {
        let stream = self.negotiation.streams().into_iter().find(|stream| Kinds::of(&stream.kind) == kind)?;
        Some(Stream { line: 0, ..stream })
    }

    /// Returns true if the peer's pending offer changes nothing but where and how its packets travel.
    pub(super) fn offer_moves_only(&self) -> bool {
        self.negotiation.offer_moves_only()
    }

    /// Returns true if every stream goes both ways, but for parked ones.
    pub(super) fn is_open(&self) -> bool {
        let is_parked = |stream: &Stream| self.parked.contains(Kinds::of(&stream.kind));
        self.negotiation.streams().iter().all(|stream| stream.direction == sdp::Direction::SendRecv || is_parked(stream))
    }

    /// Returns true while its peer holds by itself.
    pub(super) fn holds(&self) -> bool {
        self.negotiation.holds()
    }

    /// Returns true if its peer is told that it is on hold: we take nothing of it (RFC 3264 §8.4).
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Forgets the peer's pending offer: what was agreed before holds.
    pub(super) fn drop_offer(&mut self) {
        self.negotiation.reject_offer();
    }

    /// Goes back to what was agreed before the pending offer, ours or the peer's.
    pub(super) fn rollback(&mut self, ports: &mut dyn Ports, limit: Option<Duration>) {
        if self.negotiation.has_local_offer() {
            self.parked = self.parked_before;
        }
        self.negotiation.rollback();
        self.negotiation.reject_offer();
        self.apply(ports, limit);
    }

    /// Tells the port what is agreed now. `limit`: silence after which the leg is reported.
    pub(super) fn apply(&self, ports: &mut dyn Ports, limit: Option<Duration>) {
        if let Some(port) = &self.port {
            let settings = Settings {
                streams: self.negotiation.streams(),
                shared: self.negotiation.shared(),
                signaling: self.signaling,
                media_timeout: limit,
            };
            ports.set(port.id, settings);
        }
    }

    /// Returns what the peer sends, and what it receives.
    pub(super) fn flows(&self) -> (Kinds, Kinds) {
        let streams = self.negotiation.streams();
        let kinds = |which: fn(sdp::Direction) -> bool| {
            let those = streams.iter().filter(|stream| which(stream.direction));
            those.fold(Kinds::NONE, |kinds, stream| kinds | Kinds::of(&stream.kind))
        };
        (kinds(sdp::Direction::receives), kinds(sdp::Direction::sends))
    }

    /// Returns what our last offer had.
    pub(super) fn offered(&self) -> Kinds {
        self.offered
    }

    /// Returns where its signaling comes from.
    pub(super) fn signaling(&self) -> Option<IpAddr> {
        self.signaling
    }

    /// Notes that its signaling goes to another address now.
    pub(super) fn moved(&mut self, signaling: IpAddr) {
        self.signaling = Some(signaling);
    }

    /// Closes the port.
    pub(super) fn close(&mut self, ports: &mut dyn Ports) -> Option<PortId> {
        let port = self.port.take()?;
        ports.close(port.id);
        Some(port.id)
    }

    /// Makes sure that the port has a stream for each line of a description.
    fn reserve(&mut self, template: &Description, ports: &mut dyn Ports) -> Result<(), MediaError> {
        let streams = self.negotiation.streams_needed(template).max(1);
        let kind = if self.negotiation.profile() == Profile::WebRtc { Kind::Shared } else { Kind::Own };
        match &mut self.port {
            Some(port) if port.local.addresses.len() < streams => ports.extend(port, streams),
            Some(_) => Ok(()),
            None => ports.open(kind, streams, self.beside).map(|port| self.port = Some(port)),
        }
        .map_err(MediaError::NoPort)
    }
}

/// The kinds of lines that are not refused.
fn kinds_of(lines: &[MediaDescription]) -> Kinds {
    lines.iter().filter(|line| line.port != 0).fold(Kinds::NONE, |kinds, line| kinds | Kinds::of(&line.kind))
}

/// Whether whoever offers this would send sound.
fn sends_sound(offer: &Description) -> bool {
    let mut sound = offer.media.iter().filter(|line| line.kind == MediaKind::Audio && line.port != 0);
    sound.any(|line| offer.direction_of(line).sends())
}

fn local(port: Option<&Port>) -> &Local {
    static NONE: Local = Local::none();
    port.map_or(&NONE, |port| &port.local)
}
