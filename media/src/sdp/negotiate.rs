//! Offer and answer of one leg (RFC 3264), and how one leg's descriptions become the other's.
//!
//! A B2BUA holds one [`Negotiation`] per leg. A description that came on one leg is the *template* of what goes out on the
//! other: same m-lines, formats, payload types, `fmtp`, `ptime` and direction, but our origin, addresses and ports
//! (`template.rs`). It knows no SIP: who sends what in which message is the caller's business, and so is the random session id.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::{
    Attribute, Connection, Description, Direction, Format, Line, MediaDescription, MediaKind, Origin, Text,
    print::origin_address,
    template::{active_line, answered_formats, formats_with, is_carried, refused_line},
};

/// Most RTP streams of a leg; further m-lines are offered and answered with port 0.
pub const MAX_STREAMS: usize = 4;

/// Why a description cannot be taken or made. The first five are the peer's fault, the others ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None of the offered m-lines is one we can carry.
    #[error("the offer has no RTP/AVP stream")]
    NothingToCarry,
    /// A new offer has fewer m-lines than the description before it (RFC 3264 §8).
    #[error("the offer has {got} m-lines, but the session already has {expected}")]
    FewerLines {
        /// How many the session has.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// An answer has more or fewer m-lines than its offer (RFC 3264 §6).
    #[error("the answer has {got} m-lines, the offer {expected}")]
    LineCount {
        /// How many were offered.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// An answered m-line is not the offered one.
    #[error("m-line {line} of the answer {fault}")]
    Line {
        /// Which, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Our answer to the peer would accept nothing of what it offered, though the template accepts something.
    #[error("no codec of the answer is one that was offered")]
    NoCommonCodec,
    /// An offer came or was to be made while another is pending (glare: 491, or 500 for a UAS).
    #[error("an offer is already pending")]
    OfferPending,
    /// There is no offer that this could answer.
    #[error("there is no offer to answer")]
    NoOffer,
}

/// The address of one stream of a port of ours, as others are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAddress {
    /// Where we receive RTP.
    pub rtp: SocketAddr,
    /// Where we receive RTCP.
    pub rtcp: SocketAddr,
}

/// Whether an answer may still be replaced by another in the same transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// In an unreliable provisional response, or of one of several early dialogs: the offer stays pending.
    Early,
    /// In a 2xx, an ACK, a PRACK or a reliable provisional response: the offer is answered.
    Final,
}

/// What was agreed for one stream of a leg: all that its port must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which stream of the port.
    pub index: usize,
    /// Which m-line; two ports are bridged line by line.
    pub line: usize,
    /// Audio, video …
    pub kind: MediaKind,
    /// Where the peer wants RTP, if it gave an address.
    pub remote_rtp: Option<SocketAddr>,
    /// Where the peer wants RTCP, if it gave an address.
    pub remote_rtcp: Option<SocketAddr>,
    /// Whether RTCP shares the RTP port.
    pub rtcp_mux: bool,
    /// From our point of view: whether we may send to the peer, and whether it sends to us.
    pub direction: Direction,
    /// What the peer takes: payload types of packets to it, most wanted first.
    pub send: Vec<Format>,
    /// What we told it to send: payload types of packets from it.
    pub receive: Vec<Format>,
}

/// Offer/answer state of one leg.
#[derive(Clone, Debug)]
pub struct Negotiation {
    session_id: u64,
    version: u64,
    state: State,
    /// The description we sent last, whether or not it was accepted: what the next one's version is counted from.
    sent: Option<Bytes>,
    agreed: Option<Agreed>,
    /// What an early answer made of the pending offer.
    early: Option<Agreed>,
    /// The answer we gave in this transaction.
    answer: Option<Bytes>,
}

#[derive(Clone, Debug)]
enum State {
    Stable,
    LocalOffer { offer: Description, slots: Slots },
    RemoteOffer(Description),
}

#[derive(Clone, Debug)]
struct Agreed {
    local: Description,
    remote: Description,
    slots: Slots,
}

/// Which stream of the port each m-line uses.
type Slots = Vec<Option<usize>>;

impl Negotiation {
    /// A leg that has neither sent nor received a description. `session_id` is random: it must differ from leg to leg.
    #[must_use]
    pub fn new(session_id: u64) -> Self {
        Self {
            session_id: session_id >> 1, // peers read it into a signed number
            version: 0,
            state: State::Stable,
            sent: None,
            agreed: None,
            early: None,
            answer: None,
        }
    }

    /// Takes the peer's offer. It stays pending until [`make_answer`](Self::make_answer) or [`reject_offer`](Self::reject_offer).
    ///
    /// # Errors
    /// [`Error::OfferPending`], [`Error::FewerLines`], [`Error::NothingToCarry`]; nothing has changed then.
    pub fn receive_offer(&mut self, offer: Description) -> Result<(), Error> {
        self.require_stable()?;
        let expected = self.agreed.as_ref().map_or(0, |agreed| agreed.remote.media.len());
        if offer.media.len() < expected {
            return Err(Error::FewerLines { expected, got: offer.media.len() });
        }
        let mut wanted = offer.media.iter().filter(|media| media.port != 0).peekable();
        if wanted.peek().is_some() && !wanted.any(is_carried) {
            return Err(Error::NothingToCarry);
        }
        self.answer = None;
        self.state = State::RemoteOffer(offer);
        Ok(())
    }

    /// Answers the pending offer after the example of the other leg's answer, with our addresses. An answer once made in a
    /// transaction is returned again unchanged, whatever the template: what a 183 said the 200 must repeat.
    ///
    /// # Errors
    /// [`Error::NoOffer`], [`Error::NoCommonCodec`]; nothing has changed then.
    pub fn make_answer(&mut self, template: &Description, local: &[StreamAddress]) -> Result<Bytes, Error> {
        let offer = match (&self.state, &self.answer) {
            (State::RemoteOffer(offer), _) => offer,
            (State::Stable, Some(answer)) => return Ok(answer.clone()),
            (State::Stable, None) | (State::LocalOffer { .. }, _) => return Err(Error::NoOffer),
        };
        let formats: Vec<Vec<Format>> =
            offer.media.iter().enumerate().map(|(line, offered)| answered_formats(offered, template.media.get(line))).collect();
        let slots = self.assign(formats.iter().map(|formats| !formats.is_empty()), local.len());
        let template_accepts = template.media.iter().any(|media| media.port != 0);
        if template_accepts && slots.iter().all(Option::is_none) && offer.media.iter().any(|media| media.port != 0) {
            return Err(Error::NoCommonCodec);
        }
        let mut answer = self.blank(local);
        for (line, (offered, formats)) in offer.media.iter().zip(formats).enumerate() {
            let address = slots.get(line).copied().flatten().and_then(|slot| local.get(slot));
            answer.media.push(match (address, template.media.get(line)) {
                (Some(address), Some(media)) => {
                    // RFC 3264 §6.1: an answer allows no more than the offer did.
                    let direction = template.direction_of(media).and(offer.direction_of(offered).reversed());
                    active_line(media, formats, direction, address, offered.rtcp_mux(), &answer)
                }
                (None, _) | (_, None) => refused_line(offered),
            });
        }
        let remote = offer.clone();
        let body = self.print(&mut answer);
        self.agreed = Some(Agreed { local: answer, remote, slots });
        self.state = State::Stable;
        self.answer = Some(body.clone());
        Ok(body)
    }

    /// The answer given in this transaction, if one was.
    #[must_use]
    pub fn answer(&self) -> Option<&Bytes> {
        self.answer.as_ref()
    }

    /// Makes an offer after the example of the other leg's offer, with our addresses. It stays pending until a final answer
    /// or [`rollback`](Self::rollback).
    ///
    /// # Errors
    /// [`Error::OfferPending`], [`Error::NothingToCarry`]; nothing has changed then.
    pub fn make_offer(&mut self, template: &Description, local: &[StreamAddress]) -> Result<Bytes, Error> {
        self.require_stable()?;
        let previous = self.agreed.as_ref().map_or(&[][..], |agreed| &agreed.local.media);
        // RFC 3264 §8: a line once there never goes away.
        let lines = template.media.iter().chain(previous.get(template.media.len()..).unwrap_or_default());
        let active = |line: usize, media: &MediaDescription| line < template.media.len() && is_carried(media);
        let slots = self.assign(lines.clone().enumerate().map(|(line, media)| active(line, media)), local.len());
        if template.media.iter().any(|media| media.port != 0) && slots.iter().all(Option::is_none) {
            return Err(Error::NothingToCarry);
        }
        let mut offer = self.blank(local);
        for (line, media) in lines.enumerate() {
            let address = slots.get(line).copied().flatten().and_then(|slot| local.get(slot));
            let mux = self.agreed.as_ref().is_some_and(|agreed| agreed.muxes(line));
            offer.media.push(match address {
                Some(address) => active_line(media, media.rtp_formats(), template.direction_of(media), address, mux, &offer),
                None => refused_line(media),
            });
        }
        let body = self.print(&mut offer);
        self.answer = None;
        self.early = None;
        self.state = State::LocalOffer { offer, slots };
        Ok(body)
    }

    /// Takes the peer's answer to our pending offer. An early one may be followed by others (of other early dialogs, or the
    /// final one); the last one counts.
    ///
    /// # Errors
    /// [`Error::NoOffer`] when none is pending (a repetition in a later response is to be ignored, RFC 3261 §13.2.1),
    /// [`Error::LineCount`], [`Error::Line`]; nothing has changed then.
    pub fn receive_answer(&mut self, answer: Description, finality: Finality) -> Result<(), Error> {
        let State::LocalOffer { offer, slots } = &self.state else {
            return Err(Error::NoOffer);
        };
        check_answer(offer, &answer)?;
        let slots = slots.iter().zip(&answer.media).map(|(slot, media)| slot.filter(|_| media.port != 0)).collect();
        let agreed = Agreed { local: offer.clone(), remote: answer, slots };
        match finality {
            Finality::Early => self.early = Some(agreed),
            Finality::Final => {
                self.agreed = Some(agreed);
                self.early = None;
                self.state = State::Stable;
            }
        }
        Ok(())
    }

    /// The final response to our pending offer has no body: the early answer counts. False when there was none, and the offer
    /// is still unanswered.
    pub fn confirm_early(&mut self) -> bool {
        let Some(early) = self.early.take() else { return false };
        self.agreed = Some(early);
        self.state = State::Stable;
        true
    }

    /// Offers again what we said last, in the same words: to refresh a session.
    ///
    /// # Errors
    /// [`Error::OfferPending`], [`Error::NoOffer`] when nothing was agreed yet.
    pub fn repeat_offer(&mut self) -> Result<Bytes, Error> {
        self.require_stable()?;
        let agreed = self.agreed.as_ref().ok_or(Error::NoOffer)?;
        let (mut offer, slots) = (agreed.local.clone(), agreed.slots.clone());
        let body = self.print(&mut offer);
        self.answer = None;
        self.state = State::LocalOffer { offer, slots };
        Ok(body)
    }

    /// Whether the peer's pending offer is, word for word, what it said last: then only this leg needs an answer, and the
    /// other leg's last description is the template for it.
    #[must_use]
    pub fn offer_changes_nothing(&self) -> bool {
        matches!((&self.state, &self.agreed), (State::RemoteOffer(offer), Some(agreed)) if *offer == agreed.remote)
    }

    /// Gives up our pending offer, as when its re-INVITE failed: what was agreed before holds (RFC 6141 §3). The port must be
    /// told [`streams`](Self::streams) again if an early answer had been applied.
    pub fn rollback(&mut self) {
        if let State::LocalOffer { .. } = self.state {
            self.state = State::Stable;
            self.early = None;
        }
    }

    /// Refuses the peer's pending offer (488): what was agreed before holds.
    pub fn reject_offer(&mut self) {
        if let State::RemoteOffer(_) = self.state {
            self.state = State::Stable;
        }
    }

    /// Whether an offer of ours is pending.
    #[must_use]
    pub fn has_local_offer(&self) -> bool {
        matches!(self.state, State::LocalOffer { .. })
    }

    /// The peer's newest description: its pending offer, an early answer, or what was agreed. It is the template for the other
    /// leg.
    #[must_use]
    pub fn remote(&self) -> Option<&Description> {
        match &self.state {
            State::RemoteOffer(offer) => Some(offer),
            State::Stable | State::LocalOffer { .. } => self.in_force().map(|agreed| &agreed.remote),
        }
    }

    /// The peer's offer that waits for an answer.
    #[must_use]
    pub fn remote_offer(&self) -> Option<&Description> {
        match &self.state {
            State::RemoteOffer(offer) => Some(offer),
            State::Stable | State::LocalOffer { .. } => None,
        }
    }

    /// How many streams the leg's port needs to carry all of a description: before an offer or answer after that template.
    #[must_use]
    pub fn streams_needed(&self, template: &Description) -> usize {
        let slots = self.assign(template.media.iter().map(is_carried), MAX_STREAMS);
        slots.iter().flatten().max().map_or(0, |highest| highest + 1)
    }

    /// What is agreed now for each stream, an early answer included: what [`Engine::set`](crate::Engine::set) takes.
    #[must_use]
    pub fn streams(&self) -> Vec<Stream> {
        self.in_force().map_or_else(Vec::new, Agreed::streams)
    }

    fn in_force(&self) -> Option<&Agreed> {
        self.early.as_ref().or(self.agreed.as_ref())
    }

    fn require_stable(&self) -> Result<(), Error> {
        match self.state {
            State::Stable => Ok(()),
            State::LocalOffer { .. } | State::RemoteOffer(_) => Err(Error::OfferPending),
        }
    }

    /// Gives each active line its stream: the one it has, else the lowest free one, else none.
    fn assign(&self, active: impl Iterator<Item = bool>, available: usize) -> Slots {
        let kept: &[Option<usize>] = self.agreed.as_ref().map_or(&[], |agreed| &agreed.slots);
        let available = available.min(MAX_STREAMS);
        let mut slots: Slots = Vec::new();
        for (line, active) in active.enumerate() {
            let free = |slot: &usize| !kept.contains(&Some(*slot)) && !slots.contains(&Some(*slot));
            let slot = kept.get(line).copied().flatten().or_else(|| (0..available).find(free));
            slots.push(slot.filter(|slot| active && *slot < available));
        }
        slots
    }

    /// A description of ours without m-lines. One address for all streams stands at the session.
    fn blank(&self, local: &[StreamAddress]) -> Description {
        let ip = local.first().map(|address| address.rtp.ip());
        Description {
            origin: Origin {
                username: "-".into(),
                session_id: Text(self.session_id.to_string().into()),
                version: Text::default(), // print() sets it
                address: ip.map_or_else(|| "IN IP4 0.0.0.0".into(), origin_address),
            },
            session_name: "-".into(),
            connection: ip.map(Connection::Ip),
            bandwidth: Vec::new(),
            lines: vec![Line { kind: b't', value: "0 0".into() }],
            attributes: Vec::new(),
            media: Vec::new(),
        }
    }

    /// Writes a description of ours. Its version is one higher than the last sent exactly when something else differs.
    fn print(&mut self, description: &mut Description) -> Bytes {
        let versioned = |description: &mut Description, version: u64| {
            description.origin.version = Text(version.to_string().into());
            Bytes::from(description.to_bytes())
        };
        let body = versioned(description, self.version);
        if self.sent.as_ref() == Some(&body) {
            return body;
        }
        self.version += 1;
        let body = versioned(description, self.version);
        self.sent = Some(body.clone());
        body
    }
}

impl Agreed {
    fn muxes(&self, line: usize) -> bool {
        let both = (self.local.media.get(line), self.remote.media.get(line));
        matches!(both, (Some(local), Some(remote)) if local.rtcp_mux() && remote.rtcp_mux())
    }

    fn streams(&self) -> Vec<Stream> {
        let lines = self.slots.iter().zip(self.local.media.iter().zip(&self.remote.media)).enumerate();
        lines.filter_map(|(line, (slot, (local, remote)))| Some(self.stream(line, (*slot)?, local, remote))).collect()
    }

    fn stream(&self, line: usize, index: usize, local: &MediaDescription, remote: &MediaDescription) -> Stream {
        let ip = self.remote.connection_of(remote).and_then(Connection::ip);
        let rtcp_mux = self.muxes(line);
        let remote_rtp = ip.filter(|_| remote.port != 0).map(|ip| SocketAddr::new(ip, remote.port));
        Stream {
            index,
            line,
            kind: remote.kind.clone(),
            remote_rtp,
            remote_rtcp: if rtcp_mux { remote_rtp } else { rtcp_address(remote, ip) },
            rtcp_mux,
            direction: self.local.direction_of(local).and(self.remote.direction_of(remote).reversed()),
            send: formats_with(remote, local),
            receive: formats_with(local, remote),
        }
    }
}

/// Whether packets pass unchanged from a leg with these streams to a leg with those: every codec we told the one to send, under
/// its payload type, is one that the other takes. It may fail when the answer given to the caller early came from another
/// device than the one that picked up; a new offer to the caller mends it.
#[must_use]
pub fn passes_unchanged(from: &[Stream], to: &[Stream]) -> bool {
    from.iter().all(|from| {
        let to = to.iter().find(|to| to.line == from.line && to.kind == from.kind);
        let taken =
            |format: &Format| to.is_none_or(|to| to.send.iter().any(|f| f.payload_type == format.payload_type && f.same_codec(format)));
        from.receive.iter().filter(|format| !format.is_auxiliary()).all(taken)
    })
}

fn rtcp_address(media: &MediaDescription, ip: Option<IpAddr>) -> Option<SocketAddr> {
    let said = media
        .attributes
        .iter()
        .find_map(|attribute| if let Attribute::Rtcp { port, address } = attribute { Some((*port, *address)) } else { None });
    let (port, address) = match said {
        Some((port, address)) => (port, address.filter(|ip| !ip.is_unspecified()).or(ip)),
        None => (media.port.checked_add(1)?, ip),
    };
    Some(SocketAddr::new(address?, port))
}

fn check_answer(offer: &Description, answer: &Description) -> Result<(), Error> {
    if offer.media.len() != answer.media.len() {
        return Err(Error::LineCount { expected: offer.media.len(), got: answer.media.len() });
    }
    for (line, (offered, answered)) in offer.media.iter().zip(&answer.media).enumerate() {
        let fault = |fault| Err(Error::Line { line: line + 1, fault });
        if offered.kind != answered.kind {
            return fault("is of another kind than the offered one");
        }
        if answered.port == 0 {
            continue;
        }
        if offered.port == 0 {
            return fault("accepts a stream that was offered as refused");
        }
        if !offered.protocol.eq_ignore_case(answered.protocol.as_bytes()) {
            return fault("has another profile than the offered one");
        }
        if answered.port_count != 1 {
            return fault("has more than one port");
        }
        // RFC 3264 §6.1 allows formats that were not offered beside those that were; they are of no use here.
        if answered_formats(offered, Some(answered)).is_empty() {
            return fault("has none of the offered codecs");
        }
    }
    Ok(())
}
