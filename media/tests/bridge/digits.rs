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

#[test]
fn an_end_without_events_hears_tones() {
    let scene = dial(opus(), vec![format(8, "PCMA", 8000)]);
    let (sound, rate) = scene.phones[1].sound();
    let mut detector = media::dtmf::inband::Detector::new(rate);
    let mut digits = String::new();
    for frame in sound.chunks(160) {
        detector.listen(frame, |press| {
            if let Press::Down(digit) = press {
                digits.push(digit.letter());
            }
        });
    }
    assert_eq!(digits, "15#");
}

#[test]
fn where_sound_passes_an_end_without_events_gets_none() {
    let scene = dial(pcmu(), vec![format(0, "PCMU", 8000)]);
    assert!(scene.phones[1].heard.iter().all(|heard| heard.payload_type == 0));
    assert_eq!(scene.reasons(), []);
}
