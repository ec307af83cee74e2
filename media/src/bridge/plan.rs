//! Plan: from what was declared of a bridge to what each stream of its ports is fed with, and where each packet goes. Streams meet by
//! their kind: those of the same m-line first, the others in their order.

use super::{Feed, Floor, Listener, Place, Room, Route, Seat, Speaker, View, Way};
use crate::{
    arrange::{Kinds, Member},
    port::{
        Port,
        rtp::{Agreed, RtpStream},
    },
    sdp::{MediaKind, negotiate::MAX_STREAMS},
};

/// A member whose port is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg<'a> {
    pub(crate) slot: usize,
    pub(crate) port: &'a Port,
    pub(crate) seat: &'a Seat,
}

/// What becomes of each leg.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    /// In the order of the legs, with the slots of their ports.
    pub(crate) views: Vec<(usize, View)>,
    /// Whom the mix hears; empty when nobody hears several.
    pub(crate) speakers: Vec<Speaker<'a>>,
    /// Who hears the mix, or a sound.
    pub(crate) listeners: Vec<Listener<'a>>,
    /// Whether somebody could see one of several.
    pub(crate) has_choice: bool,
}

/// Makes each leg's view.
pub(crate) fn plan<'a>(room: usize, bridge: &Room, floor: Option<&Floor>, legs: &[Leg<'a>]) -> Planned<'a> {
    let views = legs.iter().map(|leg| (leg.slot, View::new(room))).collect();
    let mut planned = Planned { views, speakers: Vec::new(), listeners: Vec::new(), has_choice: false };
    for (leg, (_, view)) in legs.iter().zip(&mut planned.views) {
        for (entry, stream) in view.ways.iter_mut().zip(&leg.port.streams) {
            let Some(agreed) = stream.agreed() else { continue };
            *entry = Some(Box::new(Way { is_awaited: is_awaited(bridge, leg.seat, carrier(&agreed.kind)), ..Way::default() }));
        }
    }
    planned.plan_sound(bridge, legs);
    planned.plan_pictures(bridge, floor, legs);
    let views = &mut planned.views;
    let feeds: Vec<_> = views.iter().map(|(slot, view)| (*slot, std::array::from_fn(|stream| view.feed(stream)))).collect();
    for (slot, view) in &mut *views {
        for (stream, way) in view.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            way.partner = partner(way, Place::new(*slot, stream), &feeds);
        }
    }
    let split = split(views);
    for (slot, view) in views {
        for way in view.ways.iter_mut().flatten() {
            way.partner = way.partner.filter(|partner| !split.contains(slot) && !split.contains(&partner.parts().0));
            way.refresh();
        }
    }
    planned
}

/// The slots of ports whose streams have partners at several ports. Two devices report with two clocks: who hears the one and sees the
/// other would play them apart (RFC 3550 §6.4.1), so that each end talks with us.
fn split(views: &[(usize, View)]) -> Vec<usize> {
    let partners =
        |view: &View| view.ways.iter().flatten().filter_map(|way| way.partner).map(|partner| partner.parts().0).collect::<Vec<_>>();
    views.iter().filter(|(_, view)| partners(view).windows(2).any(|pair| pair[0] != pair[1])).map(|(slot, _)| *slot).collect()
}

impl<'a> Planned<'a> {
    /// One other is relayed, several are mixed.
    fn plan_sound(&mut self, bridge: &Room, legs: &[Leg<'a>]) {
        let givers = givers(bridge, legs, Kinds::AUDIO);
        let mut mixed: Vec<u16> = Vec::new();
        for (taker, leg) in legs.iter().enumerate() {
            let member = &leg.seat.member;
            if let Some(sound) = member.plays {
                self.listen(leg, taker, Feed::Sound(sound));
                continue;
            }
            if !member.takes.contains(Kinds::AUDIO) {
                continue;
            }
            let others = || givers.iter().filter(|giver| giver.party != member.party);
            if others().filter(|giver| giver.sends).nth(1).is_some() {
                self.listen(leg, taker, Feed::Mix);
                mixed.push(member.party);
            } else if let Some(giver) = others().min_by_key(|giver| !giver.sends) {
                self.connect(legs, giver.leg, taker, Kinds::AUDIO);
            }
        }
        mixed.sort_unstable();
        mixed.dedup();
        for Giver { leg: giver, party, .. } in givers.into_iter().filter(|giver| mixed.iter().any(|listener| *listener != giver.party)) {
            let Some((leg, stream)) = legs.get(giver).and_then(|leg| Some((leg, sound_of(leg.port)?))) else { continue };
            let (Some(agreed), Ok(ear)) = (agreed(leg.port, stream), u16::try_from(self.speakers.len())) else { continue };
            if let Some(way) = self.way_mut(giver, stream) {
                way.ear = Some(ear);
                self.speakers.push(Speaker { port: leg.port.id, party, agreed });
            }
        }
    }

    /// Lets a leg hear the mix, or a sound.
    fn listen(&mut self, leg: &Leg<'a>, taker: usize, feed: Feed) {
        let Some((stream, agreed)) = sound_of(leg.port).and_then(|stream| Some((stream, agreed(leg.port, stream)?))) else { return };
        let Some(way) = self.way_mut(taker, stream) else { return };
        way.feed = feed;
        let Member { party, plays, .. } = leg.seat.member;
        self.listeners.push(Listener { port: leg.port.id, place: Place::new(leg.slot, stream), party, plays, agreed });
    }

    /// Of several others the one is seen who spoke last.
    fn plan_pictures(&mut self, bridge: &Room, floor: Option<&Floor>, legs: &[Leg<'a>]) {
        let givers = givers(bridge, legs, Kinds::VIDEO);
        let rank = |party: u16| floor.map_or(usize::MAX, |floor| floor.rank(party));
        for (taker, leg) in legs.iter().enumerate() {
            let member = &leg.seat.member;
            if !member.takes.contains(Kinds::VIDEO) || member.plays.is_some() {
                continue;
            }
            let others = || givers.iter().filter(|giver| giver.party != member.party);
            self.has_choice |= others().filter(|giver| giver.sends).nth(1).is_some();
            if let Some(giver) = others().min_by_key(|giver| (!giver.sends, rank(giver.party))) {
                self.connect(legs, giver.leg, taker, Kinds::VIDEO);
            }
        }
    }

    /// Feeds the streams of a kind of one leg with those of another.
    fn connect(&mut self, legs: &[Leg<'a>], giver: usize, taker: usize, kind: Kinds) {
        let (Some(from), Some(to)) = (legs.get(giver), legs.get(taker)) else { return };
        for (target, source) in meet(from.port, to.port).into_iter().enumerate() {
            let Some(source) = source else { continue };
            let (Some(sent), Some(wanted)) = (agreed(from.port, source), agreed(to.port, target)) else { continue };
            if carrier(&wanted.kind) != kind {
                continue;
            }
            let place = Place::new(to.slot, target);
            if let Some(way) = self.way_mut(giver, source) {
                way.routes.push(Route::between(sent, place, wanted));
            }
            if let Some(way) = self.way_mut(taker, target) {
                way.feed = Feed::Port(from.port.id, Place::new(from.slot, source));
            }
        }
    }

    fn way_mut(&mut self, leg: usize, stream: usize) -> Option<&mut Way> {
        self.views.get_mut(leg)?.1.ways.get_mut(stream)?.as_deref_mut()
    }
}

/// A leg that gives a kind now.
#[derive(Clone, Copy, Debug)]
struct Giver {
    leg: usize,
    party: u16,
    /// Whether it may send: it is not on hold.
    sends: bool,
}

fn givers(bridge: &Room, legs: &[Leg<'_>], kind: Kinds) -> Vec<Giver> {
    let of_kind = |stream: &RtpStream, sends: bool| {
        stream.agreed().is_some_and(|agreed| Kinds::of(&agreed.kind) == kind && (!sends || agreed.direction.receives()))
    };
    let has = |leg: &Leg<'_>, sends: bool| leg.port.streams.iter().any(|stream| of_kind(stream, sends));
    let giving = legs.iter().enumerate().filter(|(_, leg)| has(leg, false) && gives(bridge, leg.seat, kind));
    giving.map(|(index, leg)| Giver { leg: index, party: leg.seat.member.party, sends: has(leg, true) }).collect()
}

/// A leg's sound: its first stream of that kind.
fn sound_of(port: &Port) -> Option<usize> {
    port.streams.iter().position(|stream| stream.agreed().is_some_and(|agreed| agreed.kind == MediaKind::Audio))
}

/// With which kind a medium goes: text goes where the sound goes.
pub(crate) fn carrier(kind: &MediaKind) -> Kinds {
    if *kind == MediaKind::Video { Kinds::VIDEO } else { Kinds::AUDIO }
}

/// Whether a member gives a kind now: the one before a handoff until the other is heard, the other from then on.
fn gives(bridge: &Room, seat: &Seat, kind: Kinds) -> bool {
    let successor = seat.member.until.and_then(|port| bridge.seats.iter().find(|other| other.member.port == port));
    let is_over = successor
        .is_some_and(|other| other.member.party == seat.member.party && other.member.gives.contains(kind) && other.heard.contains(kind));
    seat.member.gives.contains(kind) && !is_over && !is_awaited(bridge, seat, kind)
}

/// Whether a handoff waits for a member to be heard with a kind.
fn is_awaited(bridge: &Room, seat: &Seat, kind: Kinds) -> bool {
    let names = |other: &Seat| {
        other.member.until == Some(seat.member.port)
            && other.member.party == seat.member.party
            && other.member.port != seat.member.port
            && other.member.gives.contains(kind)
    };
    seat.member.gives.contains(kind) && !seat.heard.contains(kind) && bridge.seats.iter().any(names)
}

fn agreed(port: &Port, stream: usize) -> Option<&Agreed> {
    port.streams.get(stream)?.agreed()
}

/// For each stream of one port the stream of the other that goes there.
fn meet(from: &Port, to: &Port) -> [Option<usize>; MAX_STREAMS] {
    let (mut met, mut used) = ([None; MAX_STREAMS], [false; MAX_STREAMS]);
    for is_same_line in [true, false] {
        for (entry, wanted) in met.iter_mut().zip(&to.streams).filter(|(entry, _)| entry.is_none()) {
            let Some(wanted) = wanted.agreed() else { continue };
            let suits = |sent: &Agreed| sent.kind == wanted.kind && (sent.line == wanted.line || !is_same_line);
            let found =
                used.iter_mut().zip(&from.streams).enumerate().find(|(_, (used, sent))| !**used && sent.agreed().is_some_and(suits));
            if let Some((index, (used, _))) = found {
                (*entry, *used) = (Some(index), true);
            }
        }
    }
    met
}

/// The one with whom a stream's RTCP is exchanged: where the two are each other's only ones.
fn partner(way: &Way, own: Place, feeds: &[(usize, [Feed; MAX_STREAMS])]) -> Option<Place> {
    let feed_of = |place: Place| {
        let (slot, stream) = place.parts();
        let (_, streams) = feeds.iter().find(|(of, _)| *of == slot)?;
        streams.get(stream).copied()
    };
    let takers = |of: Place| feeds.iter().flat_map(|(_, streams)| streams).filter(move |feed| feed.place() == Some(of)).count();
    match way.feed {
        Feed::Port(_, source) => match feed_of(source)? {
            Feed::Port(_, place) => place == own,
            Feed::Nothing => takers(source) == 1,
            Feed::Mix | Feed::Sound(_) => false,
        }
        .then_some(source),
        Feed::Mix | Feed::Sound(_) => None,
        Feed::Nothing => {
            let [route] = &way.routes[..] else { return None };
            (feed_of(route.to)?.place() == Some(own)).then_some(route.to)
        }
    }
}
