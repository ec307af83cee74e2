//! Phones that do anything at any time: whatever they do, every call ends, has one record, and leaves nothing behind.

use std::time::Duration;

use sip::StatusCode;
use sip::random::Random;

use super::scene::*;

const MEDIA: [&str; 5] = [PCMU, HOLD, BOTH, PCMA, ""];

/// One thing that one phone does, mostly at a bad time.
fn step(scene: &mut Scene, random: &mut Random) {
    let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).expect("small");
    let phone = CALLER + below(scene.phones.len() - 1);
    let media = MEDIA[below(MEDIA.len())];
    let answer = if media.is_empty() { PCMU } else { media };
    match below(26) {
        0 => scene.place(media),
        _ if scene.phones[phone].dialog.is_none() => {}
        1 | 2 => scene.progress(phone, StatusCode::RINGING, ""),
        3 => scene.progress(phone, StatusCode::SESSION_PROGRESS, answer),
        4 => scene.progress(phone, StatusCode::SESSION_PROGRESS, ""),
        5 | 6 => scene.accept(phone, answer),
        7 => scene.refuse(phone, [StatusCode::BUSY_HERE, StatusCode::DECLINE, StatusCode::NOT_ACCEPTABLE_HERE][below(3)]),
        8 => scene.cancel(phone),
        9 => scene.bye(phone),
        10 | 11 => drop(scene.offer(phone, media)),
        12 => scene.info(phone, "5"),
        13 => {
            scene.phones[phone].on_offer =
                [OnOffer::Accept(answer), OnOffer::Refuse(StatusCode::NOT_ACCEPTABLE_HERE), OnOffer::Wait][below(3)]
        }
        14 => scene.phones[phone].acknowledges = below(4) != 0,
        15 => drop(scene.wire.pop_front()),
        16 => scene.wire.rotate_left(usize::from(!scene.wire.is_empty())),
        17 => scene.advance(Duration::from_millis(1 << below(14))),
        18 => drop(scene.media_event()),
        19 => scene.settle(),
        20 => scene.withdraw(phone),
        _ => drop(scene.deliver()),
    }
}

#[test]
fn whatever_the_phones_do_every_call_ends_and_leaves_nothing() {
    let mut seen = (0, 0, 0);
    for seed in 0..150 {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut scene = Scene::seeded(2, seed);
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let mut random = Random::new(bytes);
            for _ in 0..200 {
                step(&mut scene, &mut random);
            }
            let talks = scene.assert_offers_are_taken();
            scene.give_up_all();
            scene.assert_over();
            let answered = scene.records.iter().filter(|record| record.status == 200).count();
            (answered, scene.records.len() - answered, talks)
        });
        match std::panic::catch_unwind(run) {
            Ok(one) => seen = (seen.0 + one.0, seen.1 + one.1, seen.2 + one.2),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(seen.0 > 100 && seen.1 > 100 && seen.2 > 20, "answered, refused, offers at the end: {seen:?}");
}
