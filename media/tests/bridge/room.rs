//! Several at once: each hears the sum of the other parties and nothing else, whatever the network does, and whoever comes and goes.

use std::{collections::BTreeMap, time::Duration};

use media::{
    Event, Kinds, Member, Sound, SoundId,
    codec::{self, Encoder, Parameters},
    sdp::{Direction, MediaKind},
};

use crate::{
    assert_one_stream,
    scene::{FRAME, Heard, KINDS, Kind, Scene, format, ms, opus, pcma, pcmu},
};

/// Phones with G.711, each a party of its own.
fn meeting(phones: usize) -> Scene {
    let mut scene = Scene::new();
    (0..phones).for_each(|_| {
        scene.phone(Kind::Plain, vec![(MediaKind::Audio, pcmu())]);
    });
    let members: Vec<_> = (0..phones).map(|phone| scene.member(phone, phone as u16)).collect();
    scene.arrange(&members);
    scene
}

/// PCMU of a level, and the level of PCMU.
struct Law(Box<dyn Encoder>);

impl Law {
    fn new() -> Self {
        Self(codec::find("PCMU", 8000).unwrap().encoder(8000, &Parameters::default()).unwrap())
    }

    fn octet(&mut self, level: i32) -> u8 {
        let mut octet = [0];
        self.0.encode(&[level as i16], &mut octet).unwrap();
        octet[0]
    }

    fn level(octet: u8) -> i32 {
        let mut level = [0];
        codec::find("PCMU", 8000).unwrap().decoder(8000).unwrap().decode(&[octet], &mut level).unwrap();
        level[0].into()
    }
}

/// Each phone sends a frame of one level.
fn say(scene: &mut Scene, octets: &[u8]) {
    for (phone, octet) in octets.iter().enumerate() {
        let packet = scene.phones[phone].packet(0, &[*octet; 160]);
        scene.phones[phone].timestamp += 160;
        scene.send(phone, 0, &packet);
    }
    scene.wait(FRAME);
}

/// The one octet that each packet consists of.
fn octets(heard: &[Heard]) -> Vec<u8> {
    heard
        .iter()
        .map(|heard| *heard.payload.first().filter(|first| heard.payload.iter().all(|octet| octet == *first)).unwrap_or(&0xaa))
        .collect()
}

#[test]
fn each_of_three_and_each_of_fifty_hears_exactly_the_sum_of_the_others() {
    for parties in [3, 50] {
        let (mut scene, mut law) = (meeting(parties), Law::new());
        let frames: Vec<Vec<u8>> =
            (0..40).map(|n| (0..parties).map(|phone| law.octet(100 + 7 * (n * phone as i32 % 13) + phone as i32)).collect()).collect();
        frames.iter().for_each(|frame| say(&mut scene, frame));
        for (phone, heard) in scene.phones.iter().map(|phone| &phone.heard).enumerate() {
            assert_one_stream(heard);
            let sum = |frame: &Vec<u8>| (0..parties).filter(|other| *other != phone).map(|other| Law::level(frame[other])).sum();
            let expected: Vec<u8> = frames.iter().map(|frame| law.octet(sum(frame))).collect();
            let heard = octets(heard);
            let first = heard.iter().position(|octet| *octet != law.octet(0)).unwrap();
            assert!(first <= 2 && heard.len() >= 39, "{first}, {}: no more than a frame of delay", heard.len());
            assert_eq!(heard[first..], expected[..heard.len() - first], "{parties}: {phone}");
        }
        assert!(scene.events.is_empty());
    }
}

#[test]
fn legs_of_every_kind_and_codec_are_heard_by_all_others_over_a_bad_wire() {
    let g722 = || vec![format(9, "G722", 8000)];
    let mut scene = Scene::new();
    for (kind, formats) in KINDS.into_iter().zip([pcmu(), pcma(), g722(), opus()]) {
        scene.phone(kind, vec![(MediaKind::Audio, formats)]);
    }
    let members: Vec<_> = (0..4).map(|phone| scene.member(phone, phone as u16)).collect();
    scene.arrange(&members);
    let tones = [440, 700, 1000, 1500];
    let talk: Vec<_> = tones.into_iter().enumerate().collect();
    scene.talk(&talk, ms(3000), 2, 25);
    for phone in 0..4 {
        assert_one_stream(&scene.phones[phone].heard);
        for (other, tone) in tones.into_iter().enumerate() {
            let level = scene.phones[phone].level(tone);
            if other == phone {
                assert!(level < 700.0, "{phone} hears itself: {level}");
            } else {
                assert!(level > 4500.0, "{phone} hears {other}: {level}");
            }
        }
        // Its reports are from us.
        assert!(scene.phones[phone].rtcp.iter().all(|bytes| bytes[1] == 200));
    }
}

#[test]
fn both_devices_of_a_user_may_speak_and_neither_hears_the_other() {
    let mut scene = Scene::new();
    (0..3).for_each(|_| {
        scene.phone(Kind::Plain, vec![(MediaKind::Audio, pcmu())]);
    });
    scene.arrange(&[scene.member(0, 0), scene.member(1, 1), scene.member(2, 1)]);
    scene.talk(&[(0, 440), (1, 1000), (2, 1500)], ms(2000), 0, 0);
    let levels = |phone: usize| [440, 1000, 1500].map(|tone| scene.phones[phone].level(tone) > 5000.0);
    assert_eq!([levels(0), levels(1), levels(2)], [[false, true, true], [true, false, false], [true, false, false]]);
    // To them it is relayed as it is: they hear one other.
    assert!([1, 2].iter().all(|device: &usize| scene.phones[*device].heard.len() == 100));
    assert!(scene.phones[1].heard.iter().all(|heard| heard.ssrc == scene.phones[0].ssrc));
}

#[test]
fn one_who_joins_and_leaves_leaves_no_trace_in_the_numbers() {
    for kind in KINDS {
        let mut scene = Scene::new();
        for kind in [kind, Kind::Plain, Kind::Sdes] {
            scene.phone(kind, vec![(MediaKind::Audio, pcmu())]);
        }
        let two = [scene.member(0, 0), scene.member(1, 1)];
        let three = [two[0], two[1], scene.member(2, 2)];
        for _ in 0..5 {
            scene.arrange(&two);
            scene.talk(&[(0, 440), (1, 1000), (2, 1500)], ms(400), 0, 0);
            scene.arrange(&three);
            scene.talk(&[(0, 440), (1, 1000), (2, 1500)], ms(400), 0, 0);
        }
        scene.arrange(&two);
        let (before, other) = (scene.phones[0].heard.len(), scene.phones[1].heard.len());
        scene.talk(&[(0, 440), (1, 1000), (2, 1500)], ms(400), 0, 0);
        assert_eq!((scene.phones[0].heard.len(), scene.phones[1].heard.len()), (before + 20, other + 20), "relayed again");
        for phone in [0, 1] {
            let heard = &scene.phones[phone].heard;
            assert_one_stream(heard);
            assert!((215..=226).contains(&heard.len()), "{kind:?}: {} packets in 4.4 s", heard.len());
            for pair in heard.windows(2) {
                let (time, advance) = (pair[1].at - pair[0].at, pair[1].timestamp.wrapping_sub(pair[0].timestamp));
                assert!(time <= ms(40) && (160..=320).contains(&advance), "{kind:?}: {time:?}, {advance}");
            }
        }
        // The mix and its clock are gone.
        let quiet = scene.phones[0].heard.len();
        scene.wait(Duration::from_secs(1));
        assert_eq!(scene.phones[0].heard.len(), quiet);
    }
}

#[test]
fn a_move_within_a_meeting_is_heard_by_nobody() {
    let mut scene = Scene::new();
    for kind in [Kind::Plain, Kind::Sdes, Kind::Plain, Kind::WebRtc] {
        scene.phone(kind, vec![(MediaKind::Audio, pcmu())]);
    }
    let members = |scene: &Scene, party: &[(usize, Option<usize>)]| -> Vec<Member> {
        let of = |(device, until): &(usize, Option<usize>)| Member {
            until: until.map(|until| scene.phones[until].port),
            ..scene.member(*device, 2)
        };
        [scene.member(0, 0), scene.member(1, 1)].into_iter().chain(party.iter().map(of)).collect()
    };
    scene.arrange(&members(&scene, &[(2, None)]));
    scene.talk(&[(0, 440), (1, 700), (2, 1500)], ms(1000), 0, 0);
    scene.arrange(&members(&scene, &[(2, Some(3)), (3, None)]));
    scene.talk(&[(0, 440), (1, 700), (2, 1500)], ms(200), 0, 0);
    scene.talk(&[(0, 440), (1, 700), (2, 1500), (3, 1500)], ms(200), 0, 0);
    assert_eq!(scene.events, [Event::Heard { port: scene.phones[3].port, kind: MediaKind::Audio }]);
    scene.arrange(&members(&scene, &[(3, None)]));
    scene.talk(&[(0, 440), (1, 700), (3, 1500)], ms(1000), 0, 0);
    for phone in [0, 1, 3] {
        assert_one_stream(&scene.phones[phone].heard);
    }
    assert!((117..=121).contains(&scene.phones[0].heard.len()), "{}", scene.phones[0].heard.len());
    let levels = [440, 700, 1500].map(|tone| scene.phones[0].level(tone));
    assert!(levels[0] < 500.0 && levels[1] > 7000.0 && levels[2] > 6000.0, "one of them, and not both at once: {levels:?}");
}

#[test]
fn silent_listeners_and_a_member_on_hold_change_nothing() {
    let (mut scene, mut law) = (meeting(5), Law::new());
    let (loud, quiet) = (law.octet(1000), law.octet(0));
    for _ in 0..20 {
        say(&mut scene, &[loud, loud, quiet, quiet, quiet]);
    }
    let sum = law.octet(2 * Law::level(loud));
    let last = |scene: &Scene| -> Vec<u8> { scene.phones.iter().map(|phone| *octets(&phone.heard).last().unwrap()).collect() };
    assert_eq!(last(&scene), [loud, loud, sum, sum, sum]);
    // One goes on hold: it gets nothing, and what it says is not heard.
    scene.phones[1].streams[0].direction = Direction::Inactive;
    scene.set(1);
    let before = scene.phones[1].heard.len();
    for _ in 0..20 {
        say(&mut scene, &[loud, loud, quiet, quiet, quiet]);
    }
    assert_eq!((scene.phones[1].heard.len(), &last(&scene)[2..]), (before, &[loud; 3][..]));
    scene.phones[1].streams[0].direction = Direction::SendRecv;
    scene.set(1);
    for _ in 0..20 {
        say(&mut scene, &[loud, loud, quiet, quiet, quiet]);
    }
    assert_eq!(last(&scene), [loud, loud, sum, sum, sum]);
    assert_one_stream(&scene.phones[1].heard);
}

#[test]
fn music_on_hold_begins_at_once_and_what_follows_goes_on_behind_it() {
    for kind in KINDS {
        let mut scene = Scene::new();
        for (kind, formats) in [(kind, opus()), (Kind::Plain, opus())] {
            scene.phone(kind, vec![(MediaKind::Audio, formats)]);
        }
        scene.engine.add_sound(SoundId::HOLD, Sound::music());
        let held = Member { gives: Kinds::NONE, plays: Some(SoundId::HOLD), ..scene.member(0, 0) };
        let holder = scene.member(1, 1);
        scene.arrange(&[scene.member(0, 0), holder]);
        scene.talk(&[(0, 440), (1, 1000)], ms(1000), 0, 0);
        scene.arrange(&[held, holder]);
        let (before, other) = (scene.phones[0].heard.len(), scene.phones[1].heard.len());
        scene.talk(&[(0, 440), (1, 1000)], ms(2000), 0, 0);
        assert!((98..=101).contains(&(scene.phones[0].heard.len() - before)), "{kind:?}");
        assert_eq!(scene.phones[1].heard.len(), other, "who is held is not heard");
        scene.arrange(&[scene.member(0, 0), holder]);
        scene.talk(&[(0, 440), (1, 1000)], ms(1000), 0, 0);
        let heard = &scene.phones[0].heard;
        assert_one_stream(heard);
        assert!(heard.windows(2).all(|pair| pair[1].at - pair[0].at <= ms(40)), "{kind:?}: no gap");
        assert!((198..=201).contains(&heard.len()), "{kind:?}: {}", heard.len());
    }
}

#[test]
fn all_who_wait_hear_the_same_music_and_nobody_else_does() {
    let mut law = Law::new();
    let mut scene = meeting(4);
    let sound: Vec<i16> = (0..100).flat_map(|n| [2000 + 20 * n; 160]).collect();
    scene.engine.add_sound(SoundId(5), Sound::new(&sound, 8000).unwrap());
    let waits = |scene: &Scene, phone: usize| Member { gives: Kinds::NONE, plays: Some(SoundId(5)), ..scene.member(phone, phone as u16) };
    scene.arrange(&[waits(&scene, 0), waits(&scene, 1), scene.member(2, 2), scene.member(3, 3)]);
    let octet = law.octet(500);
    for _ in 0..220 {
        say(&mut scene, &[octet; 4]);
    }
    for phone in [0, 1] {
        let expected: Vec<u8> = (0..218).map(|n| law.octet(2000 + 20 * (n % 100))).collect();
        assert_eq!(octets(&scene.phones[phone].heard)[..218], expected);
    }
    for phone in [2, 3] {
        assert_eq!(octets(&scene.phones[phone].heard), [octet; 220]);
    }
}

/// What each phone should hear of what was declared: the levels of the others, summed up.
fn model(members: &[Member], levels: &BTreeMap<media::PortId, i32>) -> BTreeMap<media::PortId, i32> {
    let is_over = |member: &Member| {
        let next = members.iter().find(|other| Some(other.port) == member.until && other.party == member.party);
        next.is_some_and(|next| next.gives.audio && next.port != member.port)
    };
    let gives = |member: &Member| member.gives.audio && !is_over(member);
    let hears = |listener: &Member| -> i32 {
        members.iter().filter(|other| other.party != listener.party && gives(other)).map(|other| levels[&other.port]).sum()
    };
    members.iter().filter(|member| member.takes.audio).map(|member| (member.port, hears(member))).collect()
}

#[test]
fn whatever_is_declared_everybody_hears_just_that() {
    const PHONES: usize = 6;
    let (mut scene, mut law) = (meeting(PHONES), Law::new());
    let said: Vec<u8> = (0..PHONES).map(|phone| law.octet(80 << phone)).collect();
    let levels: BTreeMap<_, _> = (0..PHONES).map(|phone| (scene.phones[phone].port, Law::level(said[phone]))).collect();
    for round in 0..150 {
        let mut members = Vec::new();
        for phone in 0..PHONES {
            if scene.below(4) > 0 {
                let kinds = |on: bool| if on { Kinds::BOTH } else { Kinds::NONE };
                let (gives, takes, party) = (kinds(scene.below(4) > 0), kinds(scene.below(5) > 0), scene.below(4) as u16);
                members.push(Member { gives, takes, ..scene.member(phone, party) });
            }
        }
        if let [old, .., new] = &mut members[..]
            && scene.below(3) == 0
        {
            // A chain of handoffs would be heard of in an order of its own.
            (old.until, new.party, new.gives) = (Some(new.port), old.party, Kinds::BOTH);
        }
        scene.arrange(&members);
        for _ in 0..5 {
            say(&mut scene, &said);
        }
        scene.phones.iter_mut().for_each(|phone| phone.heard.clear());
        for _ in 0..2 {
            say(&mut scene, &said);
        }
        let expected = model(&members, &levels);
        for phone in &scene.phones {
            let wanted = expected.get(&phone.port).copied().unwrap_or(0);
            let heard = octets(&phone.heard);
            if wanted == 0 {
                assert!(heard.is_empty(), "{round}: {members:#?}");
            } else {
                assert_eq!(
                    heard,
                    [law.octet(wanted); 2],
                    "{round}: {} in {members:#?}",
                    scene.phones.iter().position(|p| p.port == phone.port).unwrap()
                );
            }
        }
    }
}
