//! Digits of each end at the other, whatever both agreed.

use media::{
    dtmf::{
        Digit, Press,
        event::{Event, Listener},
    },
    sdp::Format,
};

use crate::scene::{FRAME, Kind, Scene, format, ms, opus, pcma, pcmu};

/// A key held for 100 ms while the phone is otherwise silent.
fn press(scene: &mut Scene, phone: usize, payload_type: u8, clock_rate: u32, code: u8) {
    for step in 1..=7_u16 {
        let duration = step.min(5) * (clock_rate / 50) as u16;
        let event = Event { code, end: step >= 5, volume: 10, duration };
        let packet = scene.phones[phone].packet(payload_type, &event.to_bytes());
        scene.send(phone, 0, &packet);
        scene.wait(FRAME);
    }
    scene.phones[phone].timestamp += clock_rate / 10;
}

/// What a phone understands of the events it hears.
fn heard(scene: &Scene, phone: usize, events: &Format) -> String {
    let mut listener = Listener::new(events.clock_rate);
    let presses = scene.phones[phone].heard.iter().filter(|heard| heard.payload_type == events.payload_type);
    presses
        .flat_map(|heard| listener.handle_packet(heard.at, heard.timestamp, &heard.payload))
        .flatten()
        .filter_map(|press| if let Press::Up(digit, time) = press { Some((digit, time)) } else { None })
        .map(|(digit, time)| {
            assert!((80..=160).contains(&time.as_millis()), "{time:?}");
            digit.letter()
        })
        .collect()
}

fn dial(from: Vec<Format>, to: Vec<Format>) -> Scene {
    let events = from[1].clone();
    let mut scene = Scene::call((Kind::WebRtc, from), (Kind::Sdes, to));
    scene.talk(&[(0, 440)], ms(500), 0, 0);
    for letter in "15#".chars() {
        press(&mut scene, 0, events.payload_type, events.clock_rate, Digit::from_letter(letter).unwrap().event());
        scene.talk(&[(0, 440)], ms(300), 0, 0);
    }
    scene
}

#[test]
fn digits_reach_the_other_end_between_all_clock_rates() {
    let g711_and_48 = || vec![format(0, "PCMU", 8000), format(126, "telephone-event", 48000)];
    for (from, to) in [
        (pcmu(), vec![format(0, "PCMU", 8000), format(96, "telephone-event", 8000)]),
        (opus(), pcma()),
        (pcma(), opus()),
        (pcmu(), pcma()),
        (pcmu(), g711_and_48()),
        (g711_and_48(), pcmu()),
    ] {
        let scene = dial(from.clone(), to.clone());
        assert_eq!(heard(&scene, 1, &to[1]), "15#", "{from:?} {to:?}");
    }
}

/// The tones in what a phone hears.
fn tones(scene: &Scene, phone: usize) -> String {
    let (sound, rate) = scene.phones[phone].sound();
    let mut detector = media::dtmf::inband::Detector::new(rate);
    let mut digits = String::new();
    for frame in sound.chunks(rate as usize / 50) {
        detector.listen(frame, |press| {
            if let Press::Down(digit) = press {
                digits.push(digit.letter());
            }
        });
    }
    digits
}

/// What signaling was told that a phone pressed.
fn told(scene: &Scene, phone: usize) -> String {
    let of_phone = |event: &media::Event| {
        let media::Event::Digit { port, digit, .. } = event else { return None };
        (*port == scene.phones[phone].port).then(|| digit.letter())
    };
    scene.events.iter().filter_map(of_phone).collect()
}

#[test]
fn an_end_without_events_is_left_to_signaling() {
    for (from, to) in [(opus(), vec![format(8, "PCMA", 8000)]), (pcmu(), vec![format(0, "PCMU", 8000)])] {
        let mut scene = dial(from, to);
        assert_eq!((told(&scene, 0).as_str(), tones(&scene, 1).as_str()), ("15#", ""));
        for letter in "15#".chars() {
            scene.engine.press(scene.now, scene.phones[1].port, Digit::from_letter(letter).unwrap(), ms(120));
        }
        scene.talk(&[(0, 440)], ms(1000), 0, 0);
        assert_eq!(tones(&scene, 1), "15#");
        assert!(scene.phones[1].heard.iter().all(|heard| [0, 8].contains(&heard.payload_type)));
    }
}

#[test]
fn signaling_presses_keys_while_sound_is_relayed_or_transcoded_or_there_is_none() {
    let events = pcmu()[1].clone();
    for (from, talks) in [(pcmu(), true), (opus(), true), (pcmu(), false)] {
        let mut scene = Scene::call((Kind::WebRtc, from), (Kind::Sdes, pcmu()));
        let tones = if talks { &[(0, 440)][..] } else { &[] };
        scene.talk(tones, ms(300), 0, 0);
        for letter in "4*".chars() {
            scene.engine.press(scene.now, scene.phones[1].port, Digit::from_letter(letter).unwrap(), ms(100));
        }
        scene.talk(tones, ms(600), 0, 0);
        assert_eq!(heard(&scene, 1, &events), "4*");
        let all = &scene.phones[1].heard;
        assert!(all.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)), "one numbering");
        assert!(all.iter().all(|heard| heard.ssrc == all[0].ssrc));
        if talks {
            // Sound goes on at its time, not where the last event began.
            let after = all.last().unwrap();
            let first = &all[0];
            let (time, clock) = (after.at - first.at, after.timestamp.wrapping_sub(first.timestamp) / 8);
            assert!(time.as_millis().abs_diff(u128::from(clock)) <= 60, "{time:?} {clock}");
            assert_eq!(after.payload_type, 0);
        } else {
            assert!(all.iter().all(|heard| heard.payload_type == events.payload_type), "no sound that nobody makes");
        }
        scene.wait(ms(20_000));
        assert!(scene.phones[1].heard.last().is_some_and(|last| scene.now - last.at > ms(10_000)), "the keypad is put away");
    }
}

#[test]
fn digit_whose_end_is_lost_is_told_all_the_same() {
    let mut scene = Scene::call((Kind::Plain, pcmu()), (Kind::Plain, pcmu()));
    let event = Event { code: 3, end: false, volume: 10, duration: 800 };
    let packet = scene.phones[0].packet(101, &event.to_bytes());
    scene.send(0, 0, &packet);
    scene.wait(ms(100));
    assert_eq!(told(&scene, 0), "");
    scene.wait(ms(100));
    assert_eq!(told(&scene, 0), "3");
}

#[test]
fn flood_of_events_does_not_flood_signaling() {
    // S11: each packet is a digit of its own
    let mut scene = Scene::call((Kind::Plain, pcmu()), (Kind::Plain, pcmu()));
    for _ in 0..1000 {
        scene.phones[0].timestamp += 8;
        let event = Event { code: 1, end: true, volume: 10, duration: 8 };
        let packet = scene.phones[0].packet(101, &event.to_bytes());
        scene.send(0, 0, &packet);
        scene.wait(ms(1));
    }
    assert_eq!(told(&scene, 0).len(), 25);
}

#[test]
fn keys_are_pressed_towards_nobody_who_takes_them() {
    let mut scene = Scene::call((Kind::Plain, vec![format(18, "G729", 8000)]), (Kind::Plain, vec![format(18, "G729", 8000)]));
    scene.engine.press(scene.now, scene.phones[1].port, Digit::from_letter('1').unwrap(), ms(100));
    scene.wait(ms(500));
    assert!(scene.phones[1].heard.is_empty());
    scene.phones[1].streams[0].send.push(format(101, "telephone-event", 8000));
    scene.set(1);
    scene.engine.press(scene.now, scene.phones[1].port, Digit::from_letter('1').unwrap(), ms(100));
    scene.wait(ms(500));
    assert!(scene.phones[1].heard.len() > 3 && scene.phones[1].heard.iter().all(|heard| heard.payload_type == 101));
}
