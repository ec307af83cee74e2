//! What signaling declares of a bridge, and what each member then hears: devices of one party, handoffs, split parties.

use std::time::Duration;

use media::{
    Event, Kinds, Member,
    sdp::{Format, MediaKind},
};

use crate::{
    assert_one_stream,
    scene::{FRAME, KINDS, Kind, Scene, format, ms, opus, pcma, pcmu},
};

/// A far end, and two devices of one user.
fn three(far: (Kind, Vec<Format>), desk: (Kind, Vec<Format>), mobile: (Kind, Vec<Format>)) -> Scene {
    let mut scene = Scene::new();
    for (kind, formats) in [far, desk, mobile] {
        scene.phone(kind, vec![(MediaKind::Audio, formats)]);
    }
    scene
}

const FAR: usize = 0;

/// Frames of each of the phones in turn.
fn frames(scene: &mut Scene, phones: &[usize], count: usize) {
    for _ in 0..count {
        for phone in phones {
            let packet = scene.phones[*phone].frame(400 + 200 * *phone as u32);
            scene.send(*phone, 0, &packet);
        }
        scene.wait(FRAME);
    }
}

#[test]
fn both_devices_of_a_user_hear_the_far_end_and_never_each_other() {
    for kind in KINDS {
        let mut scene = three((kind, pcmu()), (Kind::Sdes, pcmu()), (Kind::WebRtc, pcmu()));
        let muted = Member { gives: Kinds::NONE, ..scene.member(2, 1) };
        scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1), muted]);
        frames(&mut scene, &[0, 1, 2], 50);
        let of = |phone: usize, from: usize| scene.phones[phone].heard.iter().filter(|heard| heard.ssrc == scene.phones[from].ssrc).count();
        assert_eq!([of(FAR, 1), of(FAR, 2), of(1, FAR), of(2, FAR), of(1, 2), of(2, 1)], [50, 0, 50, 50, 0, 0], "{kind:?}");
        assert_eq!(scene.phones.iter().map(|phone| phone.heard.len()).sum::<usize>(), 150);
        assert_eq!(scene.events, []);
    }
}

#[test]
fn a_receiver_that_needs_another_codec_gets_it_beside_one_that_does_not() {
    let mut scene = three((Kind::Plain, pcmu()), (Kind::Sdes, pcmu()), (Kind::WebRtc, opus()));
    let muted = Member { gives: Kinds::NONE, ..scene.member(2, 1) };
    scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1), muted]);
    frames(&mut scene, &[0, 1, 2], 100);
    assert_eq!(scene.phones[1].heard.len(), 100);
    assert!(scene.phones[2].heard.len() > 95 && scene.phones[2].level(400) > 5000.0, "{}", scene.phones[2].heard.len());
    assert_eq!(scene.reasons().len(), 1);
}

/// Moves the user to the other device: both are in until it is heard.
fn hand_off(scene: &mut Scene, from: usize, to: usize) {
    scene.events.clear();
    let old = Member { until: Some(scene.phones[to].port), ..scene.member(from, 1) };
    scene.arrange(&[scene.member(FAR, 0), old, scene.member(to, 1)]);
}

#[test]
fn twenty_handoffs_lose_nothing_repeat_nothing_and_leave_no_trace_in_the_numbers() {
    for kind in KINDS {
        let mut scene = three((kind, pcmu()), (Kind::Plain, pcmu()), (Kind::Sdes, pcmu()));
        scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1)]);
        frames(&mut scene, &[0, 1], 10);
        let mut spoken = 10;
        for round in 0..20 {
            let (old, new) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
            hand_off(&mut scene, old, new);
            frames(&mut scene, &[FAR, old], 5);
            assert_eq!(scene.events, [], "not yet");
            // The new device begins between two packets of the old one, which goes on for a while.
            scene.wait(ms(7));
            frames(&mut scene, &[new, FAR, old], 5);
            assert_eq!(scene.events, [Event::Heard { port: scene.phones[new].port, kind: MediaKind::Audio }]);
            scene.arrange(&[scene.member(FAR, 0), scene.member(new, 1)]);
            frames(&mut scene, &[FAR, new], 5);
            spoken += 15;
        }
        let heard = &scene.phones[FAR].heard;
        assert_eq!(heard.len(), spoken, "{kind:?}");
        assert_one_stream(heard);
        for pair in heard.windows(2) {
            let (time, advance) = (pair[1].at - pair[0].at, pair[1].timestamp.wrapping_sub(pair[0].timestamp));
            assert!(time <= ms(27) && (160..=216).contains(&advance), "{kind:?}: {time:?}, {advance}");
        }
        // Each device has heard all that was said while it was in the call.
        assert_eq!(scene.phones[1].heard.len() + scene.phones[2].heard.len(), spoken + 20 * 10);
        for device in [1, 2] {
            scene.phones[device].heard.iter().for_each(|heard| assert_eq!(heard.ssrc, scene.phones[FAR].ssrc));
        }
    }
}

#[test]
fn handoffs_between_codecs_keep_the_stream_whole() {
    for far in [pcmu(), pcma(), opus()] {
        let mut scene = three((Kind::Plain, far.clone()), (Kind::Sdes, pcma()), (Kind::WebRtc, opus()));
        scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1)]);
        frames(&mut scene, &[0, 1], 50);
        for round in 0..20 {
            let (old, new) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
            hand_off(&mut scene, old, new);
            frames(&mut scene, &[FAR, old], 3);
            frames(&mut scene, &[new, FAR, old], 3);
            assert!(scene.events.contains(&Event::Heard { port: scene.phones[new].port, kind: MediaKind::Audio }));
            scene.arrange(&[scene.member(FAR, 0), scene.member(new, 1)]);
            frames(&mut scene, &[FAR, new], 6);
        }
        let heard = &scene.phones[FAR].heard;
        assert_one_stream(heard);
        assert!(heard.windows(2).all(|pair| pair[1].at - pair[0].at <= ms(60)), "{far:?}");
        assert!((260..=292).contains(&heard.len()), "{far:?}: {} of 290", heard.len());
        assert_eq!(scene.statistics(FAR).withheld, 0);
    }
}

#[test]
fn a_handoff_that_is_called_off_leaves_the_old_device_untouched() {
    let mut scene = three((Kind::Plain, pcmu()), (Kind::Sdes, pcmu()), (Kind::WebRtc, pcmu()));
    scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1)]);
    frames(&mut scene, &[0, 1], 5);
    hand_off(&mut scene, 1, 2);
    frames(&mut scene, &[0, 1], 5);
    scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1)]);
    frames(&mut scene, &[0, 1, 2], 5);
    let heard = &scene.phones[FAR].heard;
    assert!(heard.len() == 15 && heard.iter().all(|heard| heard.ssrc == scene.phones[1].ssrc && !heard.marker));
    assert_eq!(scene.phones[2].heard.len(), 5);
    // And a device that speaks before it is waited for has not been heard.
    hand_off(&mut scene, 1, 2);
    frames(&mut scene, &[0, 1], 2);
    assert_eq!(scene.events, []);
    frames(&mut scene, &[0, 2], 2);
    assert_eq!(scene.events.len(), 1);
    assert_eq!(scene.phones[FAR].heard.len(), 19);
}

#[test]
fn a_device_that_is_lost_in_the_middle_of_a_handoff_leaves_the_other_one() {
    let mut scene = three((Kind::Plain, pcmu()), (Kind::Sdes, pcmu()), (Kind::WebRtc, pcmu()));
    hand_off(&mut scene, 1, 2);
    frames(&mut scene, &[0, 1], 5);
    let (now, port) = (scene.now, scene.phones[1].port);
    scene.engine.close(now, port);
    frames(&mut scene, &[0, 2], 5);
    assert_eq!((scene.phones[FAR].heard.len(), scene.phones[2].heard.len()), (10, 10));
    assert_one_stream(&scene.phones[FAR].heard);
}

fn video() -> Vec<Format> {
    vec![format(96, "VP8", 90000)]
}

#[test]
fn a_party_may_be_split_and_collapsed() {
    for kind in [Kind::Plain, Kind::WebRtc] {
        let mut scene = Scene::new();
        scene.phone(kind, vec![(MediaKind::Audio, pcmu()), (MediaKind::Video, video())]);
        scene.phone(Kind::Sdes, vec![(MediaKind::Audio, pcmu())]);
        // Its only line is the video: lines need not have the same position.
        scene.phone(Kind::WebRtc, vec![(MediaKind::Video, video())]);
        let split = |scene: &Scene, phone, kinds| Member { gives: kinds, takes: kinds, ..scene.member(phone, 1) };
        scene.arrange(&[scene.member(FAR, 0), split(&scene, 1, Kinds::AUDIO), split(&scene, 2, Kinds::VIDEO)]);
        for _ in 0..20 {
            for (phone, stream, payload_type) in [(FAR, 0, 0), (FAR, 1, 96), (1, 0, 0), (2, 0, 96)] {
                let packet = scene.phones[phone].packet(payload_type, &[0x10; 100]);
                scene.send(phone, stream, &packet);
                scene.phones[phone].timestamp += 160;
            }
            scene.wait(FRAME);
        }
        let kinds = |phone: usize| -> Vec<usize> {
            let of = |payload_type| scene.phones[phone].heard.iter().filter(|heard| heard.payload_type == payload_type).count();
            vec![of(0), of(96)]
        };
        assert_eq!([kinds(FAR), kinds(1), kinds(2)], [[20, 20], [20, 0], [0, 20]], "{kind:?}");
        // All to the first device, which has no video.
        scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1)]);
        let before = scene.phones[2].heard.len();
        let packet = scene.phones[FAR].packet(96, &[0x10; 100]);
        assert!(!scene.send(FAR, 1, &packet));
        assert_eq!(scene.phones[2].heard.len(), before);
    }
}

#[test]
fn only_what_is_handed_off_moves() {
    // The sound stays on the desk phone; the video of both devices is handed over.
    let lines = || vec![(MediaKind::Audio, pcmu()), (MediaKind::Video, video())];
    let mut scene = Scene::new();
    (0..3).for_each(|_| {
        scene.phone(Kind::Plain, lines());
    });
    let old = Member { until: Some(scene.phones[2].port), ..scene.member(1, 1) };
    let new = Member { gives: Kinds::VIDEO, takes: Kinds::VIDEO, ..scene.member(2, 1) };
    scene.arrange(&[scene.member(FAR, 0), old, new]);
    for _ in 0..5 {
        for phone in [1, 2] {
            for (stream, payload_type) in [(0, 0), (1, 96)] {
                let packet = scene.phones[phone].packet(payload_type, &[0x10; 100]);
                scene.send(phone, stream, &packet);
            }
        }
        scene.wait(FRAME);
    }
    assert_eq!(scene.events, [Event::Heard { port: scene.phones[2].port, kind: MediaKind::Video }]);
    let of = |payload_type| scene.phones[FAR].heard.iter().filter(|heard| heard.payload_type == payload_type).count();
    assert_eq!((of(0), of(96)), (5, 6), "the first device's sound, its first picture, and the second device's pictures");
}

/// RTCP with one packet behind an empty report.
fn rtcp(first: u8, kind: u8, words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x80, 201, 0, 1, 0, 0, 0, 9, 0x80 | first, kind, 0, words.len() as u8];
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    bytes
}

#[test]
fn feedback_of_each_viewer_reaches_the_source_and_its_reports_do_not() {
    for kind in KINDS {
        let mut scene = Scene::new();
        for kind in [kind, Kind::Sdes, Kind::WebRtc] {
            scene.phone(kind, vec![(MediaKind::Video, video())]);
        }
        let viewer = Member { gives: Kinds::NONE, ..scene.member(2, 1) };
        scene.arrange(&[scene.member(FAR, 0), scene.member(1, 1), viewer]);
        for phone in [FAR, 1, FAR, 1] {
            let packet = scene.phones[phone].packet(96, &[0x10; 100]);
            scene.send(phone, 0, &packet);
        }
        scene.phones.iter_mut().for_each(|phone| phone.rtcp.clear());
        let (source, lost) = (scene.phones[FAR].ssrc, u32::from(scene.phones[FAR].sequence) - 1);
        for viewer in [1, 2] {
            let pli = rtcp(1, 206, &[9, source]);
            let nack = rtcp(1, 205, &[9, source, lost << 16]);
            for request in [pli, nack] {
                assert!(scene.send(viewer, 0, &request), "{kind:?}, {viewer}");
                let got = scene.phones[FAR].rtcp.pop().expect("feedback");
                assert_eq!(got[8..10], request[8..10]);
                assert_eq!(got[16..], request[16..], "the same stream, the same number");
            }
            assert!(scene.phones[3 - viewer].rtcp.is_empty());
        }
        // A report of the one that is not the source's partner is for us.
        let report = [0x81, 201, 0, 7, 0, 0, 0, 9].into_iter().chain(source.to_be_bytes()).chain([0; 20]).collect::<Vec<u8>>();
        assert!(!scene.send(2, 0, &report) && scene.phones[FAR].rtcp.is_empty());
        assert!(scene.send(1, 0, &report) && scene.phones[FAR].rtcp.len() == 1);
        // And it hears how the source is doing from us.
        scene.wait(Duration::from_secs(6));
        assert!(!scene.phones[2].rtcp.is_empty(), "{kind:?}");
    }
}
