//! Random sequences of calls, moves, splits, hold, conferences, transfers, park, pickup, device loss and hang-ups: after each step every
//! party hears exactly the others, no leg is without an owner, no media goes to a leg that left, and the graph equals what the legs
//! carry. Nothing is left in the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use media::sdp::MediaKind;
use media::{Kinds, Member};
use sip::StatusCode;
use sip::message::Headers;
use sip::random::Random;

use super::scene::*;
use crate::call::command::{Command, Refusal};
use crate::call::conference::Guest;
use crate::call::conference::room::Room;
use crate::call::make::{Alert, Destination, Make};
use crate::call::party::{Party, PartyId};
use crate::call::transfer::Referral;
use crate::call::{Call, Id, State};
use crate::device;

const CAROL: usize = 5;
/// How many sequences there are.
const SEQUENCES: u64 = 100_000;
/// How many are tried in a scene, one after the other.
const IN_A_SCENE: u64 = 50;
/// Two tests share the work, so that two cores do.
const SHARES: u64 = 2;

/// What phones and people do; the step is drawn by its place.
fn step(scene: &mut Scene, random: &mut Random) {
    let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).expect("small");
    let phone = CALLER + below(scene.phones.len() - 1);
    let party = PartyId(u16::try_from(below(2)).expect("small"));
    let (kinds, video) = ([Kinds::AUDIO, Kinds::VIDEO, Kinds::BOTH][below(3)], below(3) != 0);
    let has_dialog = scene.phones[phone].dialog.is_some();
    let call = scene.calls.views().next().map(|view| view.id);
    // The callee's devices are the desk phone and the mobile, the caller's are its phone and the tablet.
    let device = if party == PartyId::CALLER { [CALLER, 4][below(2)] } else { [DESK, MOBILE][below(2)] };
    let target = scene.target(device);
    match (below(34), call) {
        (30, Some(call)) if below(4) == 0 => into_room(scene, call, below(2) == 0),
        (24..=28, _) => order(scene, random),
        (29, _) => call_back(scene, below(2) == 0),
        (30..=33, Some(call)) => confer(scene, call, below(8), video),
        (0..=6, Some(call)) => {
            let command = match below(10) {
                0 => Command::Join { call, party, kinds, target },
                1 => Command::Split { call, party, audio: target, video: scene.target(if device > MOBILE { CALLER } else { MOBILE }) },
                2 => Command::Leave { call, party, device: device::Id::named(&format!("phone{device}")) },
                3 => Command::Hold { call, party },
                4 => Command::Resume { call, party },
                5 => Command::Mute { call, party, kinds },
                _ => Command::Move { call, party, kinds, target },
            };
            let _refused: Result<_, Refusal> = scene.command(command);
            if below(4) != 0 {
                scene.settle();
                if scene.phones[device].dialog.is_some() && below(4) != 0 {
                    scene.accept_fitting(device, video);
                    scene.settle();
                }
            }
        }
        (7..=10, Some(_)) if has_dialog => scene.accept_fitting(phone, video),
        (11, Some(_)) if has_dialog => {
            scene.refuse(phone, [StatusCode::BUSY_HERE, StatusCode::DECLINE, StatusCode::NOT_ACCEPTABLE_HERE][below(3)]);
        }
        (12, Some(_)) if has_dialog && below(3) == 0 => scene.bye(phone),
        (13, Some(_)) if has_dialog => drop(scene.change(phone, video, below(2) == 0)),
        (14, _) => {
            scene.phones[phone].on_offer = match below(4) {
                0 => OnOffer::Refuse([StatusCode::NOT_ACCEPTABLE_HERE, StatusCode::REQUEST_PENDING][below(2)]),
                _ => OnOffer::Fit { video },
            }
        }
        (15, Some(_)) => scene.hear(if video { MediaKind::Video } else { MediaKind::Audio }),
        (16, _) => scene.advance(Duration::from_millis(1 << below(15))),
        (17, Some(_)) if below(8) == 0 => scene.phones[phone].dead = true,
        (18, Some(_)) if below(3) == 0 && scene.phones[CALLER].dialog.is_some() => scene.cancel(CALLER),
        (19, _) => drop(scene.deliver()),
        (20, Some(_)) if has_dialog && below(3) == 0 => scene.withdraw(phone),
        (_, None) => scene.place(if video { FILM } else { PCMU }),
        _ => scene.settle(),
    }
}

/// Carol, whose phone is the last one, is called in, calls bob, comes in by that call, is removed; and the conference is locked.
fn confer(scene: &mut Scene, call: Id, what: usize, video: bool) {
    let by = |scene: &Scene| scene.calls.view(call).and_then(|view| view.conference.as_ref()?.moderator).unwrap_or(PartyId::CALLER);
    let command = match what {
        0..=2 => {
            let targets = vec![scene.target_of("carol", CAROL)];
            let guest = Guest { person: person("carol"), headers: Headers::default(), targets };
            Command::Gather { call, party: by(scene), calls: Vec::new(), guests: vec![guest] }
        }
        3 if scene.calls.views().count() == 1 => {
            scene.place_from(CAROL, ("carol", "bob"), if video { FILM } else { PCMU });
            scene.settle();
            return scene.accept_fitting(DESK, video);
        }
        3..=5 => {
            let others = scene.calls.views().map(|view| view.id).filter(|other| *other != call).collect();
            Command::Gather { call, party: PartyId::CALLEE, calls: others, guests: Vec::new() }
        }
        6 => Command::Kick { call, by: by(scene), party: PartyId(2) },
        _ => Command::Lock { call, by: by(scene), locked: video },
    };
    let _refused: Result<_, Refusal> = scene.command(command);
    scene.settle();
    if what < 3 && scene.phones[CAROL].dialog.is_some() {
        scene.accept_fitting(CAROL, video);
        scene.settle();
    }
}

fn room() -> Arc<Room> {
    Arc::new(Room { number: "800".into(), pin: None, moderator: None })
}

/// A call goes into the room, whole or without who sends it there.
fn into_room(scene: &mut Scene, call: Id, is_whole: bool) {
    let others = scene.calls.views().map(|view| view.id).filter(|other| *other != call).collect();
    let command = match is_whole {
        true => Command::Enter { call, party: PartyId::CALLEE, calls: others, room: room() },
        false => Command::Send { call, party: PartyId::CALLEE, room: room() },
    };
    let _refused: Result<_, Refusal> = scene.command(command);
    scene.settle();
}

/// What client applications want besides: with any user, by any phone.
fn order(scene: &mut Scene, random: &mut Random) {
    let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).expect("small");
    let (phone, user) = (CALLER + below(scene.phones.len() - 1), ["ann", "bob", "carol", "dave"][below(4)]);
    let (devices, alert) = (vec![scene.target_of(user, phone)], [Alert::Ring, Alert::Answer][below(2)]);
    let Some(view) = scene.calls.views().next() else {
        let video = (below(3) == 0).then(|| scene.target_of("ann", MOBILE));
        let make = Make {
            caller: person("ann"),
            devices: vec![scene.target_of("ann", CALLER)],
            alert,
            video,
            kinds: [Kinds::AUDIO, Kinds::BOTH][below(2)],
            dialled: user.to_owned(),
            callee: person(user),
            to: if below(3) == 0 { Destination::Room(room()) } else { Destination::Devices(devices) },
        };
        scene.started += 1;
        let _made = scene.with_calls(|calls, switch| calls.make(switch, make)).expect("it has devices");
        return;
    };
    let (call, party) = (view.id, view.parties[below(view.parties.len())].id);
    let status = [StatusCode::DECLINE, StatusCode::BUSY_HERE][below(2)];
    let command = match below(8) {
        0..=2 => {
            let referral = Referral { to: person(user), headers: Headers::default(), targets: devices, report: None };
            Command::Transfer { call, party, referral: Box::new(referral) }
        }
        3 => Command::Park { call, party, slot: None },
        4 | 5 => Command::Pickup { call, person: person(user), devices, alert },
        6 => Command::Answer { call, party, device: None, video: (below(2) == 0).then(|| Box::new(scene.target(MOBILE))) },
        _ => Command::Decline { call, party, status },
    };
    let _refused: Result<_, Refusal> = scene.command(command);
    if below(3) != 0 {
        scene.settle();
        if scene.phones[phone].dialog.is_some() && below(4) != 0 {
            scene.accept_fitting(phone, below(3) != 0);
        }
    }
}

/// Those who are to be called back are found, or not.
fn call_back(scene: &mut Scene, is_found: bool) {
    for (id, user) in std::mem::take(&mut scene.recalls) {
        let targets = if is_found { vec![scene.target_of(&user, DESK)] } else { Vec::new() };
        scene.with_calls(|calls, switch| calls.recall(switch, id, Headers::default(), targets));
    }
    scene.settle();
}

/// The rules, of each call at any time.
#[track_caller]
fn check(scene: &Scene) {
    let mut in_bridges = BTreeSet::new();
    for (id, call) in &scene.calls.calls {
        let members = scene.media.arranged.get(&media::BridgeId(id.0)).map_or(&[][..], Vec::as_slice);
        assert_eq!(members, call.members(), "media does what the parties want");
        let told = call.told.as_deref();
        assert_eq!(told, (!matches!(call.state, State::Over)).then(|| call.view()).as_ref(), "the graph is the call");
        for member in members {
            assert!(call.legs.iter().any(|leg| leg.media.port() == Some(member.port) && leg.party.0 == member.party), "a leg that left");
            assert!(in_bridges.insert(member.port), "in two bridges");
        }
        for leg in &call.legs {
            let comes = call.is_guest(leg.party) || call.coming().is_some_and(|(party, _)| party == leg.party);
            assert!(call.party(leg.party).is_some() || comes, "a leg without an owner");
            assert_eq!(scene.calls.by_dialog.get(&leg.dialog), Some(&(*id, leg.id)));
        }
        if let State::Established(_) = call.state {
            let has_leg = |party: PartyId| call.legs.iter().any(|leg| leg.party == party);
            assert!(call.parties.iter().all(|party| has_leg(party.id)), "a party without a device: {call:?}");
            check_hearing(call, members);
        }
    }
    let legs: usize = scene.calls.calls.values().map(|call| call.legs.len()).sum();
    assert_eq!(scene.calls.by_dialog.len(), legs, "a dialog without a leg");
}

/// Each party gets each kind of each other one from just the devices that it uses for it, and none of its own.
#[track_caller]
fn check_hearing(call: &Call, members: &[Member]) {
    for (listener, talker) in call.parties.iter().flat_map(|one| call.parties.iter().map(move |other| (one, other))) {
        let of = |party: PartyId| members.iter().filter(move |member| member.party == party.0);
        if listener.id == talker.id || of(listener.id).count() == 0 || of(talker.id).count() == 0 {
            continue;
        }
        let takes = of(listener.id).fold(Kinds::NONE, |kinds, member| kinds | member.takes);
        let gives = of(talker.id).fold(Kinds::NONE, |kinds, member| kinds | member.gives);
        let (deaf, quiet) = (call.is_holding(listener.id), call.is_holding(talker.id));
        assert_eq!(takes.contains(Kinds::AUDIO), !deaf, "{members:?}");
        assert_eq!(gives.contains(Kinds::AUDIO), !quiet && !talker.muted.audio, "{members:?}");
        let is_there = |other: &&Party| other.id != listener.id && !call.is_holding(other.id) && of(other.id).count() > 0;
        let is_alone = !call.parties.iter().any(|other| is_there(&other));
        assert_eq!(of(listener.id).any(|member| member.plays.is_some()), is_alone && !deaf, "music when nobody is there: {members:?}");
        // Of a move only the device that takes over has no other one to wait for.
        let waits = of(talker.id).filter(|member| member.until.is_some()).count();
        assert!(waits == 0 || of(talker.id).any(|member| member.until.is_none()), "{members:?}");
    }
}

/// Once the phones do what they should, nothing is under way for long, and each leg's lines are what its party uses it for.
#[track_caller]
fn check_rest(scene: &mut Scene) {
    for phone in CALLER..scene.phones.len() {
        scene.phones[phone].on_offer = OnOffer::Fit { video: true };
        if scene.phones[phone].dialog.is_some() {
            scene.act(phone, |endpoint, now, dialog| {
                let _none_waits = endpoint.refuse(now, dialog, StatusCode::TEMPORARILY_UNAVAILABLE, &Headers::default());
            });
        }
    }
    call_back(scene, false);
    // A call that is made rings at the user's two devices, then at the other side.
    scene.advance(3 * NO_ANSWER + Duration::from_secs(10));
    call_back(scene, false);
    check(scene);
    for call in scene.calls.calls.values() {
        assert!(call.parties.iter().all(|party| party.moving.is_none()), "a move that does not end");
        assert!(call.legs.iter().all(|leg| leg.is_up() && !leg.media.is_pending()), "an offer that does not end: {:?}", call.legs);
        for leg in &call.legs {
            let wanted = call.wanted(leg);
            let is_so = !call.is_managed || wanted == leg.media.has() || wanted.is_empty() || leg.stuck == Some(wanted);
            assert!(is_so, "{wanted:?} {leg:?}");
            let shown = leg.media.has().audio.then(|| call.on_hold(leg)).flatten().filter(|_| leg.unshown.is_none());
            assert!(shown.is_none_or(|held| leg.media.is_held() == held), "{shown:?} {leg:?}");
            assert!(shown != Some(true) || !leg.media.flows().0.audio, "who is on hold would be heard: {leg:?}");
        }
    }
}

fn sequence(scene: &mut Scene, random: &mut Random) {
    scene.place(if random.below(2) == 0 { FILM } else { PCMU });
    scene.settle();
    if random.below(8) != 0 {
        scene.accept_fitting(DESK, random.below(2) == 0);
        scene.settle();
    }
    for _ in 0..2 + random.below(8) {
        step(scene, random);
        check(scene);
    }
    if random.below(8) == 0 && scene.phones.iter().all(|phone| !phone.dead) {
        check_rest(scene);
    }
    for phone in &mut scene.phones {
        phone.dead = false;
    }
    let calls: Vec<_> = scene.calls.views().map(|view| view.id).collect();
    for call in calls {
        let _over = scene.command(Command::End { call, reason: "enough".to_owned() });
    }
    scene.settle();
    check(scene);
    scene.give_up_all();
    scene.settle();
    scene.log.clear();
    for phone in &mut scene.phones {
        phone.on_offer = OnOffer::Fit { video: true };
        phone.forget();
    }
}

/// Tries a share of the sequences, each scene with its seed.
fn sequences(share: u64) {
    let (mut moves, mut refused, mut conferences) = (0, 0, 0);
    for seed in (0..SEQUENCES / IN_A_SCENE).filter(|seed| seed % SHARES == share) {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut scene = Scene::seeded(4, seed);
            scene.targets.truncate(1);
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let mut random = Random::new(bytes);
            for phone in &mut scene.phones {
                phone.on_offer = OnOffer::Fit { video: true };
            }
            for _ in 0..IN_A_SCENE {
                sequence(&mut scene, &mut random);
            }
            scene.give_up_all();
            scene.assert_over();
            let done = scene.outcomes.iter().filter(|(_, result)| result.is_ok()).count();
            let conferences = scene.records.iter().filter(|record| record.parties.len() > 2).count();
            (done, scene.outcomes.len() - done, conferences)
        });
        match std::panic::catch_unwind(run) {
            Ok(one) => (moves, refused, conferences) = (moves + one.0, refused + one.1, conferences + one.2),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let seen = (moves, refused, conferences);
    assert!(moves > 100 && refused > 100 && conferences > 100, "moves that worked, that did not, and conferences: {seen:?}");
}

#[test]
fn the_first_half_of_all_sequences_keeps_the_rules() {
    sequences(0);
}

#[test]
fn the_second_half_of_all_sequences_keeps_the_rules() {
    sequences(1);
}
