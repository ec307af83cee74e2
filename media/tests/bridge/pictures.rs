//! Whose pictures are seen, and from which one on.

use media::{
    Event, Kinds, Member,
    sdp::{Format, MediaKind},
};

use crate::scene::{FRAME, Kind, Scene, format, pcmu};

const KEY: &[u8] = b"\x10\0key frame";
const OTHER: &[u8] = b"\x10\x01another";

fn vp8() -> Vec<Format> {
    vec![format(96, "VP8", 90000)]
}

/// Sends a picture of one packet.
fn show(scene: &mut Scene, phone: usize, stream: usize, payload: &[u8]) {
    let packet = scene.phones[phone].packet(96, payload);
    scene.phones[phone].timestamp += 1800;
    scene.send(phone, stream, &packet);
}

/// How a phone was asked for key frames: the formats of PSFB packets.
fn asked(scene: &mut Scene, phone: usize) -> Vec<u8> {
    let compounds = std::mem::take(&mut scene.phones[phone].rtcp);
    let mut formats = Vec::new();
    for bytes in compounds {
        let mut rest = &bytes[..];
        while let [first, kind, high, low, ..] = *rest {
            if kind == 206 {
                formats.push(first & 0x1f);
            }
            rest = &rest[(usize::from(u16::from_be_bytes([high, low])) + 1) * 4..];
        }
    }
    formats
}

#[test]
fn a_key_frame_is_asked_for_until_it_comes_and_nothing_is_shown_before() {
    let mut scene = Scene::new();
    for kind in [Kind::Plain, Kind::WebRtc, Kind::Sdes] {
        scene.phone(kind, vec![(MediaKind::Video, vp8())]);
    }
    scene.bridge(0, 1);
    show(&mut scene, 0, 0, KEY);
    show(&mut scene, 0, 0, OTHER);
    assert_eq!(scene.phones[1].heard.len(), 2);
    assert_eq!(asked(&mut scene, 0), [], "it began with one");
    let viewer = Member { gives: Kinds::NONE, ..scene.member(2, 2) };
    scene.arrange(&[scene.member(0, 0), scene.member(1, 1), viewer]);
    for _ in 0..40 {
        show(&mut scene, 0, 0, OTHER);
        scene.wait(FRAME);
    }
    assert_eq!((scene.phones[1].heard.len(), scene.phones[2].heard.len()), (42, 0), "who saw it all goes on seeing it");
    assert_eq!(asked(&mut scene, 0), [1; 5], "PLI, every 200 ms");
    show(&mut scene, 0, 0, KEY);
    for _ in 0..40 {
        show(&mut scene, 0, 0, OTHER);
        scene.wait(FRAME);
    }
    assert_eq!((scene.phones[1].heard.len(), scene.phones[2].heard.len()), (83, 41));
    assert_eq!(scene.phones[2].heard[0].payload, KEY);
    assert_eq!(asked(&mut scene, 0), []);
}

#[test]
fn a_source_that_never_sends_one_is_shown_in_the_end() {
    for (codec, requests) in [("VP8", 10), ("H263-1998", 3)] {
        let mut scene = Scene::new();
        for kind in [Kind::Plain, Kind::Plain] {
            scene.phone(kind, vec![(MediaKind::Video, vec![format(96, codec, 90000)])]);
        }
        show(&mut scene, 0, 0, OTHER);
        scene.bridge(0, 1);
        for _ in 0..150 {
            show(&mut scene, 0, 0, OTHER);
            scene.wait(FRAME);
        }
        assert_eq!(asked(&mut scene, 0).len(), requests, "{codec}");
        let heard = scene.phones[1].heard.len();
        assert!(if codec == "VP8" { (45..=51).contains(&heard) } else { heard == 150 }, "{codec}: {heard}");
        assert_eq!(scene.engine.poll_timeout(), None);
    }
}

#[test]
fn video_is_handed_over_with_the_first_key_frame_and_never_shows_less() {
    let mut scene = Scene::new();
    for kind in [Kind::WebRtc, Kind::Sdes, Kind::Plain] {
        scene.phone(kind, vec![(MediaKind::Video, vp8())]);
    }
    scene.bridge(0, 1);
    show(&mut scene, 1, 0, KEY);
    let old = Member { until: Some(scene.phones[2].port), ..scene.member(1, 1) };
    scene.arrange(&[scene.member(0, 0), old, scene.member(2, 1)]);
    for _ in 0..5 {
        show(&mut scene, 1, 0, OTHER);
        show(&mut scene, 2, 0, OTHER);
        scene.wait(FRAME);
    }
    assert_eq!((scene.phones[0].heard.len(), scene.events.len()), (6, 0));
    assert_eq!(asked(&mut scene, 2), [1]);
    show(&mut scene, 2, 0, KEY);
    scene.pump();
    assert_eq!(scene.events, [Event::Heard { port: scene.phones[2].port, kind: MediaKind::Video }]);
    show(&mut scene, 1, 0, OTHER);
    show(&mut scene, 2, 0, OTHER);
    let payloads: Vec<_> = scene.phones[0].heard[6..].iter().map(|heard| &heard.payload[..]).collect();
    assert_eq!(payloads, [KEY, OTHER]);
    crate::assert_one_stream(&scene.phones[0].heard);
}

#[test]
fn all_see_the_speaker_who_sees_the_one_before() {
    let mut scene = Scene::new();
    (0..4).for_each(|_| {
        scene.phone(Kind::Plain, vec![(MediaKind::Audio, pcmu()), (MediaKind::Video, vp8())]);
    });
    let members: Vec<_> = (0..4).map(|phone| scene.member(phone, phone as u16)).collect();
    scene.arrange(&members);
    // Each shows pictures of its own; whoever is asked sends a key frame. One speaks.
    let mut sound = 0_u16;
    let mut run = |scene: &mut Scene, speaker: usize, frames: usize| {
        for _ in 0..frames {
            for phone in 0..4 {
                let level = if phone == speaker { 0x90 } else { 0xff };
                let mut packet = vec![0x80, 0];
                packet.extend(sound.to_be_bytes());
                packet.extend((u32::from(sound) * 160).to_be_bytes());
                packet.extend((100 + phone as u32).to_be_bytes());
                packet.extend([level; 160]);
                scene.send(phone, 0, &packet);
                let is_asked = !asked(scene, phone).is_empty();
                show(scene, phone, 1, &[if is_asked { KEY } else { OTHER }, &[phone as u8]].concat());
            }
            sound += 1;
            scene.wait(FRAME);
        }
    };
    let seen = |scene: &mut Scene| -> Vec<Vec<u8>> {
        let of = |heard: &mut Vec<crate::scene::Heard>| {
            let mut seen: Vec<u8> =
                heard.drain(..).filter(|heard| heard.payload_type == 96).map(|heard| *heard.payload.last().unwrap()).collect();
            seen.dedup();
            seen
        };
        scene.phones.iter_mut().map(|phone| of(&mut phone.heard)).collect()
    };
    run(&mut scene, 2, 60);
    seen(&mut scene);
    run(&mut scene, 2, 20);
    let first = seen(&mut scene);
    assert_eq!([&first[0], &first[1], &first[3]], [&[2], &[2], &[2]]);
    run(&mut scene, 0, 150);
    seen(&mut scene);
    run(&mut scene, 0, 20);
    assert_eq!(seen(&mut scene), [[2], [0], [0], [0]], "the speaker sees the one before");
    // Short remarks change nothing.
    for _ in 0..10 {
        run(&mut scene, 3, 10);
        run(&mut scene, 0, 20);
    }
    assert_eq!(seen(&mut scene), [[2], [0], [0], [0]]);
}
