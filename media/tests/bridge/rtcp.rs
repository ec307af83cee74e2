//! Each end's RTCP in the numbers that the other end knows, and ours where each talks with us alone.

use std::collections::BTreeSet;

use media::{
    Kinds, Member,
    rtp::rtcp::{self, Block, Packet},
    sdp::MediaKind,
};

use crate::scene::{KINDS, Kind, Scene, format, ms, opus, pcma, pcmu};

fn words(first: u8, kind: u8, words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x80 | first, kind, 0, words.len() as u8];
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    bytes
}

/// The reports in what a phone got: whether they are of a sender, its SSRC, and the first block.
fn reports(scene: &Scene, phone: usize) -> Vec<(bool, u32, Option<Block>)> {
    let packets = scene.phones[phone].rtcp.iter().flat_map(|bytes| rtcp::parse(bytes).unwrap().packets().collect::<Vec<_>>());
    packets
        .filter_map(|packet| match packet {
            Packet::SenderReport { ssrc, blocks, .. } => Some((true, ssrc, blocks.iter().next())),
            Packet::ReceiverReport { ssrc, blocks } => Some((false, ssrc, blocks.iter().next())),
            Packet::Bye | Packet::Other(_) => None,
        })
        .collect()
}

#[test]
fn it_passes_untouched_while_the_first_source_speaks() {
    for kind in KINDS {
        let mut scene = Scene::call((Kind::Plain, pcmu()), (kind, pcmu()));
        scene.talk(&[(0, 440), (1, 440)], ms(200), 0, 0);
        let report = words(1, 201, &[scene.phones[1].ssrc, scene.phones[0].ssrc, 7, 1005, 0, 0, 0]);
        assert!(scene.send(1, 0, &report));
        assert_eq!(scene.phones[0].rtcp, [report]);
    }
}

#[test]
fn after_a_change_both_ends_see_numbers_that_they_know() {
    for kind in KINDS {
        let mut scene = Scene::call((kind, pcmu()), (Kind::Plain, pcmu()));
        let carol = scene.phone(kind, vec![(MediaKind::Audio, pcmu())]);
        scene.talk(&[(0, 440), (1, 440)], ms(1000), 0, 0);
        scene.bridge(0, carol);
        scene.talk(&[(0, 440), (carol, 440)], ms(1000), 0, 0);
        let last = scene.phones[0].heard.last().unwrap().clone();
        let (ann, bob, carol_ssrc) = (scene.phones[0].ssrc, scene.phones[1].ssrc, scene.phones[carol].ssrc);
        // Ann reports on what she knows as Bob's stream; Carol sees hers.
        scene.send(0, 0, &words(1, 201, &[ann, bob, 3, u32::from(last.sequence), 0, 0, 0]));
        let highest = u32::from(scene.phones[carol].sequence - 1);
        let seen = reports(&scene, carol);
        assert!(
            matches!(seen[..], [(false, a, Some(Block { ssrc, highest: h, .. }))] if a == ann && ssrc == carol_ssrc && h == highest),
            "{seen:?}"
        );
        // Carol's sender report comes to Ann as that of the stream.
        scene.send(carol, 0, &words(0, 200, &[carol_ssrc, 1, 2, scene.phones[carol].timestamp, 50, 8000]));
        assert_eq!(reports(&scene, 0), [(true, bob, None)]);
    }
}

#[test]
fn where_sound_is_transcoded_each_end_has_reports_of_ours_and_none_of_the_other() {
    for kind in KINDS {
        let mut scene = Scene::call((kind, opus()), (Kind::Sdes, pcma()));
        for _ in 0..60 {
            scene.talk(&[(0, 440), (1, 1000)], ms(500), 10, 0);
            for (phone, other) in [(0, 1), (1, 0)] {
                let heard = scene.phones[phone].heard.last().map_or(1, |heard| heard.ssrc);
                let report = words(1, 201, &[scene.phones[phone].ssrc, heard, 26 << 24 | 5, 9, 80, 0, 0]);
                let before = scene.phones[other].rtcp.len();
                assert!(!scene.send(phone, 0, &report), "it is used up");
                assert_eq!(scene.phones[other].rtcp.len(), before);
            }
        }
        for phone in [0, 1] {
            let seen = reports(&scene, phone);
            assert!((3..=14).contains(&seen.len()), "{kind:?}: about every 5 s in 30 s: {}", seen.len());
            let stream = scene.phones[phone].heard[0].ssrc;
            for (is_sender, ssrc, block) in &seen[1..] {
                assert!(*is_sender && *ssrc == stream, "{kind:?}");
                let block = block.unwrap();
                assert_eq!(block.ssrc, scene.phones[phone].ssrc);
                assert!(block.lost > 0 && block.highest != 0, "{block:?}");
            }
            let names: Vec<_> = scene.phones[phone].rtcp.iter().map(|bytes| bytes[bytes.len() - 18..].to_vec()).collect();
            assert!(names.windows(2).all(|pair| pair[0] == pair[1]), "one CNAME for the leg");
            assert_eq!(scene.statistics(phone).withheld, 0);
            assert_eq!(scene.statistics(phone).reported.map(|reported| reported.fraction_lost), Some(26));
        }
        let name = |phone: usize| scene.phones[phone].rtcp[0][scene.phones[phone].rtcp[0].len() - 18..].to_vec();
        assert_ne!(name(0), name(1), "and another for the other");
    }
}

#[test]
fn a_split_party_has_one_clock() {
    // 000-17: two devices have two clocks, and the other side plays sound and pictures together by what reports say of them.
    for kind in [Kind::Plain, Kind::Sdes, Kind::WebRtc] {
        let mut scene = Scene::new();
        scene.phone(kind, vec![(MediaKind::Audio, pcmu()), (MediaKind::Video, vec![format(96, "VP8", 90000)])]);
        scene.phone(Kind::Plain, vec![(MediaKind::Audio, pcmu())]);
        scene.phone(Kind::WebRtc, vec![(MediaKind::Video, vec![format(96, "VP8", 90000)])]);
        let device = |scene: &Scene, phone, kinds| Member { gives: kinds, takes: kinds, ..scene.member(phone, 1) };
        scene.arrange(&[scene.member(0, 0), device(&scene, 1, Kinds::AUDIO), device(&scene, 2, Kinds::VIDEO)]);
        for second in 0..30 {
            for (phone, payload_type, clock) in [(1, 0, 1000), (2, 96, 900_000)] {
                let packet = scene.phones[phone].packet(payload_type, &[0x10; 100]);
                scene.send(phone, 0, &packet);
                let own = words(0, 200, &[scene.phones[phone].ssrc, clock + second, 2, scene.phones[phone].timestamp, 50, 8000]);
                scene.send(phone, 0, &own);
            }
            scene.wait(ms(1000));
        }
        let packets = scene.phones[0].rtcp.iter().flat_map(|bytes| rtcp::parse(bytes).unwrap().packets().collect::<Vec<_>>());
        let told: Vec<_> = packets
            .filter_map(|packet| if let Packet::SenderReport { ssrc, ntp, .. } = packet { Some((ssrc, ntp)) } else { None })
            .collect();
        let sources: BTreeSet<_> = told.iter().map(|(ssrc, _)| *ssrc).collect();
        assert_eq!(sources.len(), 2, "{kind:?}: of both streams");
        let steps: Vec<_> = told.windows(2).map(|pair| pair[1].1.wrapping_sub(pair[0].1) >> 16).collect();
        assert!(steps.iter().all(|seconds| *seconds <= 10), "{kind:?}: {steps:?}");
    }
}

#[test]
fn the_round_trip_is_known_from_the_answer_to_our_report() {
    let mut scene = Scene::call((Kind::WebRtc, opus()), (Kind::Plain, pcma()));
    while scene.phones[1].rtcp.is_empty() {
        scene.talk(&[(0, 440), (1, 1000)], ms(20), 0, 0);
    }
    let ours = scene.phones[1].rtcp[0].clone();
    let middle = u32::from_be_bytes([ours[10], ours[11], ours[12], ours[13]]);
    let stream = scene.phones[1].heard[0].ssrc;
    scene.wait(ms(60));
    scene.send(1, 0, &words(1, 201, &[scene.phones[1].ssrc, stream, 0, 9, 0, middle, 0]));
    let statistics = scene.statistics(1);
    let round_trip = statistics.round_trip.expect("told").as_millis();
    assert!((60..=80).contains(&round_trip), "{round_trip}");
}
