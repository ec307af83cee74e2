//! Route: what becomes of each payload type of a stream at the other end of a bridge: it passes, with the number that the other
//! end gave it, or is converted, or is dropped. Computed from what both ends agreed, whenever that changes; looked up for each packet.

use crate::{
    bridge::Place,
    codec::{self, Codec, Parameters},
    dtmf::event,
    port::rtp::Agreed,
    rtp::rewrite::Marker,
    sdp::{Format, MediaKind},
    transcode::Digits,
};

/// Payload types that a peer may use without having agreed to them (RFC 3551 §6): G.711, G.722, and comfort noise.
const UNASKED: [u8; 4] = [0, 8, 9, 13];

/// What shares one numbering towards the receiver. Pictures, what is sent again of them and what repairs them are sources of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Sound or pictures.
    Media,
    /// RTX (RFC 4588).
    Retransmission,
    /// FlexFEC (RFC 8627). ULPFEC and RED are of the pictures' own source.
    Repair,
}

impl Class {
    pub(crate) fn of(format: &Format) -> Self {
        let is = |name: &[u8]| format.encoding.eq_ignore_case(name);
        if is(b"rtx") {
            Self::Retransmission
        } else if is(b"flexfec") || is(b"flexfec-03") {
            Self::Repair
        } else {
            Self::Media
        }
    }
}

/// How a packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The number that the other end takes.
    pub(crate) payload_type: u8,
    pub(crate) clock_rate: u32,
    pub(crate) class: Class,
    pub(crate) marker: Marker,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// It goes on.
    Pass(Pass),
    /// It goes through the transcoder of a plan.
    Transcode(u8),
    /// An event or comfort noise goes the way of the sound: through the transcoder where one is at work; else it passes, events with
    /// that clock rate in place of theirs if they differ.
    Beside(Option<Pass>, Option<u32>),
}

/// A conversion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) from: &'static dyn Codec,
    pub(crate) from_type: u8,
    pub(crate) noise_type: u8,
    pub(crate) events: Option<(u8, u32)>,
    pub(crate) to: &'static dyn Codec,
    pub(crate) to_type: u8,
    /// How the other end wants its codec.
    pub(crate) parameters: Parameters,
    pub(crate) digits: Digits,
    /// Whether there is a codec that both ends have, though the source does not use it.
    is_avoidable: bool,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        let ends =
            |plan: &Self| (plan.from.name(), plan.from_type, plan.noise_type, plan.events, plan.to.name(), plan.to_type, plan.digits);
        ends(self) == ends(other) && self.parameters == other.parameters
    }
}

impl Plan {
    /// Why there is a conversion, in plain words.
    pub(crate) fn reason(&self) -> String {
        let (from, to) = (self.from.name(), self.to.name());
        if self.is_avoidable {
            format!("{from} is sent, which the other end did not agree to: {from} to {to}")
        } else {
            format!("no codec in common: {from} to {to}")
        }
    }
}

/// The way of one stream.
#[derive(Debug)]
pub(crate) struct Route {
    /// The stream of the other port.
    pub(crate) to: Place,
    hops: Box<[(u8, Hop)]>,
    plans: Box<[Plan]>,
    /// Of events that come before any sound, where no codec passes.
    first_plan: Option<u8>,
    /// Whether the receiver waits for a key frame of the source, before which it is sent nothing.
    pub(crate) waits: bool,
}

impl Route {
    /// From what one end sends to what the other takes.
    pub(crate) fn between(from: &Agreed, place: Place, to: &Agreed) -> Self {
        let is_audio = from.kind == MediaKind::Audio;
        let marker = if is_audio { Marker::Talkspurt } else { Marker::Frame };
        let pass = |format: &Format| {
            let payload_type = counterpart(format, &from.receive, &to.send)?;
            Some(Pass { payload_type, clock_rate: format.clock_rate, class: Class::of(format), marker })
        };
        let unasked = UNASKED.iter().filter(|_| is_audio).filter_map(|payload_type| Format::of_static_type(*payload_type));
        let known = |format: &Format| from.receive.iter().any(|known| known.payload_type == format.payload_type);
        let formats: Vec<Format> = from.receive.iter().cloned().chain(unasked.filter(|format| !known(format))).collect();
        // What we told it and it named, too: the rest of an offer that it did not take is no codec of its.
        let named = |format: &Format| from.send.iter().any(|theirs| theirs.same_codec(format));
        let is_avoidable = from.receive.iter().any(|format| !format.is_auxiliary() && named(format) && pass(format).is_some());
        let output = to.send.iter().filter(|_| is_audio).find_map(|format| Some((codec_of(format)?, format.payload_type)));
        let (mut hops, mut plans) = (Vec::with_capacity(formats.len()), Vec::new());
        for format in &formats {
            let hop = if is_audio && (format.is_telephone_event() || is_noise(format)) {
                beside(format, pass(format), &to.send)
            } else if let Some(pass) = pass(format) {
                Hop::Pass(pass)
            } else if let Some((from_codec, (to_codec, to_type))) = codec_of(format).zip(output) {
                plans.push(Plan {
                    from: from_codec,
                    from_type: format.payload_type,
                    noise_type: from.receive.iter().find(|format| is_noise(format)).map_or(13, |format| format.payload_type),
                    events: events_at(&from.receive, from_codec.clock_rate()),
                    to: to_codec,
                    to_type,
                    parameters: to.wishes.parameters(to_type),
                    digits: events_at(&to.send, to_codec.clock_rate())
                        .map_or(Digits::Reported, |(payload_type, clock_rate)| Digits::Events { payload_type, clock_rate }),
                    is_avoidable,
                });
                Hop::Transcode((plans.len() - 1) as u8)
            } else {
                continue;
            };
            hops.push((format.payload_type, hop));
        }
        let first_plan = (!is_avoidable && !plans.is_empty()).then_some(0);
        Self { to: place, hops: hops.into(), plans: plans.into(), first_plan, waits: false }
    }

    /// What becomes of a packet; none = it is dropped.
    pub(crate) fn hop(&self, payload_type: u8) -> Option<Hop> {
        self.hops.iter().find(|(of, _)| *of == payload_type).map(|(_, hop)| *hop)
    }

    /// The conversion of a packet, where it is one for a transcoder, or may begin one.
    pub(crate) fn plan(&self, hop: Hop) -> Option<Plan> {
        let index = match hop {
            Hop::Pass(_) => return None,
            Hop::Transcode(plan) => plan,
            Hop::Beside(..) => self.first_plan?,
        };
        self.plans.get(usize::from(index)).copied()
    }

    /// Whether a conversion is still one of this way.
    pub(crate) fn has(&self, plan: &Plan) -> bool {
        self.plans.contains(plan)
    }
}

fn beside(format: &Format, pass: Option<Pass>, to: &[Format]) -> Hop {
    let other = to.iter().find(|other| other.is_telephone_event()).filter(|_| format.is_telephone_event() && pass.is_none());
    match other {
        Some(other) => {
            let pass =
                Pass { payload_type: other.payload_type, clock_rate: format.clock_rate, class: Class::Media, marker: Marker::Talkspurt };
            Hop::Beside(Some(pass), Some(other.clock_rate))
        }
        None => Hop::Beside(pass, None),
    }
}

/// The number that the other end gave the same format. Where it gave several, the same one is meant: `fmtp` tells them apart and
/// passes from end to end with the numbers. RTX is for a codec that only `fmtp` names: another number is taken only where there
/// is one on each side.
fn counterpart(format: &Format, from: &[Format], to: &[Format]) -> Option<u8> {
    let same = |other: &&Format| format.same_codec(other);
    let number = to.iter().filter(same).find(|other| other.payload_type == format.payload_type).or_else(|| {
        let is_alone = Class::of(format) == Class::Media || [from, to].iter().all(|formats| formats.iter().filter(same).count() == 1);
        to.iter().find(same).filter(|_| is_alone)
    });
    number.map(|other| other.payload_type)
}

/// The payload type and rate of named events; best those of the codec's own clock rate (RFC 4733 §2.1).
pub(super) fn events_at(formats: &[Format], clock_rate: u32) -> Option<(u8, u32)> {
    let events = || formats.iter().filter(|format| format.is_telephone_event());
    let best = events().find(|format| format.clock_rate == clock_rate).or_else(|| events().next())?;
    Some((best.payload_type, best.clock_rate))
}

fn is_noise(format: &Format) -> bool {
    format.encoding.eq_ignore_case(b"CN")
}

pub(super) fn codec_of(format: &Format) -> Option<&'static dyn Codec> {
    codec::find(std::str::from_utf8(format.encoding.as_bytes()).ok()?, format.clock_rate)
}

/// A converter of events between two clock rates, and the rates.
#[derive(Debug)]
pub(crate) struct Rescaling {
    pub(crate) rates: (u32, u32),
    pub(crate) rescale: event::Rescale,
}
