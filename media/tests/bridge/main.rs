//! Legs of every kind bridged with each other: what passes, what is transcoded, and what the receivers see of it, in virtual time.
//! A failing run prints its seed; `SEED=n` repeats it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod scene;

use scene::{KINDS, Kind, Scene, ms, opus, pcma, pcmu};

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
                let ssrc = scene.phones[other].ssrc;
                assert!(scene.phones[phone].heard.iter().all(|heard| heard.ssrc == ssrc), "untouched");
            }
        }
    }
}
