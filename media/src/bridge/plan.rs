//! Plan: from what was declared of a bridge to what each stream of its ports is fed with, and where each packet goes. Streams meet by
//! their kind: those of the same m-line first, the others in their order.

use super::{Feed, Place, Room, Route, Seat, View, Way};
use crate::{
    arrange::Kinds,
    port::{Port, rtp::Agreed},
    sdp::{MediaKind, negotiate::MAX_STREAMS},
};

/// A member whose port is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg<'a> {
    pub(crate) slot: usize,
    pub(crate) port: &'a Port,
    pub(crate) seat: &'a Seat,
}

/// Makes each leg's view, in the order of the legs.
pub(crate) fn plan(room: usize, bridge: &Room, legs: &[Leg<'_>]) -> Vec<(usize, View)> {
    let mut views: Vec<_> = legs.iter().map(|leg| (leg.slot, View::new(room))).collect();
    for (leg, (_, view)) in legs.iter().zip(&mut views) {
        for (entry, stream) in view.ways.iter_mut().zip(&leg.port.streams) {
            let Some(agreed) = stream.agreed() else { continue };
            *entry = Some(Box::new(Way { is_awaited: is_awaited(bridge, leg.seat, carrier(&agreed.kind)), ..Way::default() }));
        }
    }
    for kind in [Kinds::AUDIO, Kinds::VIDEO] {
        let givers: Vec<usize> = (0..legs.len()).filter(|giver| gives(bridge, legs[*giver].seat, kind)).collect();
        for (taker, leg) in legs.iter().enumerate().filter(|(_, leg)| takes(leg.seat, kind)) {
            let Some(giver) = givers.iter().find(|giver| legs[**giver].seat.member.party != leg.seat.member.party) else { continue };
            connect(&mut views, legs, *giver, taker, kind);
        }
    }
    let feeds: Vec<_> = views.iter().map(|(slot, view)| (*slot, std::array::from_fn(|stream| view.feed(stream)))).collect();
    for (slot, view) in &mut views {
        for (stream, way) in view.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            way.partner = partner(way, Place::new(*slot, stream), &feeds);
            way.is_beyond = way.is_awaited || way.routes.len() > 1;
        }
    }
    views
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

fn takes(seat: &Seat, kind: Kinds) -> bool {
    seat.member.takes.contains(kind) && seat.member.plays.is_none()
}

/// Feeds the streams of a kind of one leg with those of another.
fn connect(views: &mut [(usize, View)], legs: &[Leg<'_>], giver: usize, taker: usize, kind: Kinds) {
    let (Some(from), Some(to)) = (legs.get(giver), legs.get(taker)) else { return };
    for (target, source) in meet(from.port, to.port).into_iter().enumerate() {
        let Some(source) = source else { continue };
        let (Some(sent), Some(wanted)) = (agreed(from.port, source), agreed(to.port, target)) else { continue };
        if carrier(&wanted.kind) != kind {
            continue;
        }
        let place = Place::new(to.slot, target);
        if let Some(way) = way_mut(views, giver, source) {
            way.routes.push(Route::between(sent, place, wanted));
        }
        if let Some(way) = way_mut(views, taker, target) {
            way.feed = Feed::Port(from.port.id, Place::new(from.slot, source));
        }
    }
}

fn agreed(port: &Port, stream: usize) -> Option<&Agreed> {
    port.streams.get(stream)?.agreed()
}

fn way_mut(views: &mut [(usize, View)], leg: usize, stream: usize) -> Option<&mut Way> {
    views.get_mut(leg)?.1.ways.get_mut(stream)?.as_deref_mut()
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
        }
        .then_some(source),
        Feed::Nothing => {
            let [route] = &way.routes[..] else { return None };
            (feed_of(route.to)?.place() == Some(own)).then_some(route.to)
        }
    }
}
