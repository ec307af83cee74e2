//! Legs of every kind bridged with each other: what passes, what is transcoded, and what the receivers see of it, in virtual time.
//! A failing run prints its seed; `SEED=n` repeats it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod arrange;
mod attack;
mod change;
mod digits;
mod pictures;
mod room;
mod rtcp;
mod scene;
mod told;

use media::sdp::Direction;
use scene::{Heard, KINDS, Kind, Scene, ms, opus, pcma, pcmu};

#[test]
fn every_kind_hears_every_other_through_transcoding_over_a_bad_wire() {
    for a in KINDS {
        for b in KINDS {
            let mut scene = Scene::call((a, opus()), (b, pcma()));
            scene.talk(&[(0, 440), (1, 1000)], ms(3000), 3, 30);
            let levels = [(0, 1000), (0, 440), (1, 440), (1, 1000)].map(|(phone, tone)| scene.phones[phone].level(tone));
            assert!(levels[0] > 5000.0 && levels[2] > 5000.0, "{a:?} {b:?}: {levels:?}");
            assert!(levels[1] < 500.0 && levels[3] < 500.0, "{a:?} {b:?}: {levels:?}");
            let ports = [scene.phones[0].port, scene.phones[1].port];
            let mut reasons = scene.reasons();
            reasons.sort();
            let expected = [(ports[0], "no codec in common: opus to PCMA".into()), (ports[1], "no codec in common: PCMA to opus".into())];
            assert_eq!(reasons, expected);
            assert_one_stream(&scene.phones[0].heard);
            let (ann, bob) = (scene.statistics(0), scene.statistics(1));
            assert_eq!((ann.codec.as_deref(), bob.codec.as_deref()), (Some("opus"), Some("PCMA")));
            assert_eq!(bob.transcoding.as_deref(), Some("no codec in common: opus to PCMA"), "what Bob is sent");
            assert_eq!(bob.sent.packets, scene.phones[1].heard.len() as u64);
            assert!(ann.mos().unwrap().hundredths() > 200 && ann.waits_for.is_none());
        }
    }
}

#[test]
fn every_kind_hears_every_other_as_it_spoke_over_a_bad_wire() {
    for a in KINDS {
        for b in KINDS {
            let mut scene = Scene::call((a, pcmu()), (b, pcmu()));
            scene.talk(&[(0, 440), (1, 1000)], ms(2000), 3, 70);
            let levels = [(0, 1000), (1, 440)].map(|(phone, tone)| scene.phones[phone].level(tone));
            assert!(levels.iter().all(|level| *level > 5000.0), "{a:?} {b:?}: {levels:?}");
            assert_eq!(scene.reasons(), []);
            for (phone, other) in [(0, 1), (1, 0)] {
                let (ssrc, heard) = (scene.phones[other].ssrc, &scene.phones[phone].heard);
                assert!(heard.iter().all(|heard| heard.ssrc == ssrc && heard.at <= scene.now), "untouched");
            }
        }
    }
}

/// All packets are of one source, and each number comes once, in order, with timestamps that advance.
fn assert_one_stream(heard: &[Heard]) {
    for pair in heard.windows(2) {
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{:?}", pair.iter().map(|h| (h.at, h.marker)).collect::<Vec<_>>());
        let advance = pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed();
        assert!((0..48000 * 10).contains(&advance), "{advance}");
    }
}

#[test]
fn payload_types_are_those_of_the_receiver() {
    let mut scene = Scene::call((Kind::Plain, opus()), (Kind::Sdes, vec![scene::format(96, "OPUS", 48000)]));
    scene.phones[1].streams[0].send[0].channels = 2;
    scene.phones[1].streams[0].receive[0].channels = 2;
    scene.set(1);
    scene.talk(&[(0, 440)], ms(500), 0, 0);
    assert!(scene.phones[1].heard.len() == 25 && scene.phones[1].heard.iter().all(|heard| heard.payload_type == 96));
    assert_eq!(scene.reasons(), []);
}

#[test]
fn what_the_other_end_cannot_take_is_dropped() {
    // G.729 that nobody can decode, and a payload type that nobody agreed to.
    let mut scene =
        Scene::call((Kind::Plain, vec![scene::format(18, "G729", 8000), scene::format(0, "PCMU", 8000)]), (Kind::Plain, pcmu()));
    for payload_type in [18, 77] {
        let packet = scene.phones[0].packet(payload_type, &[0; 20]);
        assert!(!scene.send(0, 0, &packet));
    }
    scene.wait(ms(500));
    assert!(scene.phones[1].heard.is_empty());
    assert_eq!(scene.statistics(0).withheld, 2);
}

#[test]
fn a_codec_that_was_not_agreed_but_is_known_is_converted_and_the_log_says_so() {
    let mut scene = Scene::call((Kind::Plain, pcmu()), (Kind::Plain, pcmu()));
    scene.talk(&[(0, 440)], ms(1000), 0, 0);
    scene.phones[0].streams[0].send[0] = scene::format(8, "PCMA", 8000);
    scene.phones[0].reset_codec();
    scene.talk(&[(0, 1000)], ms(1000), 0, 0);
    assert_one_stream(&scene.phones[1].heard);
    assert!(scene.phones[1].level(1000) > 3000.0);
    assert_eq!(scene.reasons()[0].1, "PCMA is sent, which the other end did not agree to: PCMA to PCMU");
    // Back: it passes again, and the transcoder no longer speaks in between.
    let before = scene.phones[1].heard.len();
    scene.phones[0].streams[0].send[0] = scene::format(0, "PCMU", 8000);
    scene.phones[0].reset_codec();
    scene.talk(&[(0, 440)], ms(1000), 0, 0);
    assert_eq!(scene.phones[1].heard.len() - before, 50);
    assert_one_stream(&scene.phones[1].heard);
}

#[test]
fn a_held_side_hears_nothing_of_the_transcoder_and_goes_on_where_it_was() {
    for kind in KINDS {
        let mut scene = Scene::call((Kind::WebRtc, opus()), (kind, pcma()));
        scene.talk(&[(0, 440), (1, 1000)], ms(1000), 0, 0);
        let before = scene.phones[1].heard.len();
        scene.phones[1].streams[0].direction = Direction::RecvOnly;
        scene.set(1);
        scene.talk(&[(0, 440), (1, 1000)], ms(1000), 0, 0);
        assert_eq!(scene.phones[1].heard.len(), before, "{kind:?}");
        scene.phones[1].streams[0].direction = Direction::SendRecv;
        scene.set(1);
        scene.talk(&[(0, 440), (1, 1000)], ms(1000), 0, 0);
        assert!(scene.phones[1].heard.len() > before + 45, "{kind:?}");
        assert_one_stream(&scene.phones[1].heard);
        assert_one_stream(&scene.phones[0].heard);
        assert_eq!(scene.reasons().len(), 2, "told once");
    }
}

#[test]
fn no_burst_follows_a_stall_of_the_engine() {
    let mut scene = Scene::call((Kind::WebRtc, opus()), (Kind::Sdes, pcma()));
    scene.talk(&[(0, 440)], ms(1000), 0, 0);
    scene.now += ms(500);
    let before = scene.phones[1].heard.len();
    let now = scene.now;
    scene.engine.handle_timeout(now);
    scene.pump();
    assert!(scene.phones[1].heard.len() - before <= 4, "{}", scene.phones[1].heard.len() - before);
    scene.phones[0].timestamp += 24000;
    scene.talk(&[(0, 440)], ms(1000), 0, 0);
    assert_one_stream(&scene.phones[1].heard);
    assert!((48..=54).contains(&(scene.phones[1].heard.len() - before)), "and all that follows comes");
}

#[test]
fn transcoding_ends_with_its_source() {
    let mut scene = Scene::call((Kind::Plain, opus()), (Kind::Plain, pcma()));
    scene.talk(&[(0, 440)], ms(1000), 0, 0);
    scene.arrange(&[]);
    let before = scene.phones[1].heard.len();
    scene.wait(ms(20_000));
    assert_eq!((scene.phones[1].heard.len(), scene.engine.poll_timeout()), (before, None), "no sound, no report, no timer");
    let statistics = scene.statistics(1);
    assert_eq!(statistics.transcoding.as_deref(), Some("no codec in common: opus to PCMA"), "for the record");
}

#[test]
fn a_packet_that_comes_before_a_timer_that_is_due_does_not_silence_the_stream() {
    let mut scene = Scene::call((Kind::Plain, opus()), (Kind::Plain, pcma()));
    for _ in 0..100 {
        let packet = scene.phones[0].frame(440);
        scene.now += ms(20);
        scene.send(0, 0, &packet);
        scene.wait(ms(0));
    }
    assert!(scene.phones[1].heard.len() > 90, "{} of 100 frames", scene.phones[1].heard.len());
    assert!(scene.phones[1].level(440) > 5000.0);
}
