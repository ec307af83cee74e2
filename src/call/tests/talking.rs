//! After the answer: hold and resume, glare, offers refused and withdrawn, requests passed, and every end.

use std::time::Duration;

use bytes::Bytes;
use media::Event as MediaEvent;
use media::dtmf::Digit;
use sip::{DialogEvent, StatusCode};

use super::scene::*;
use crate::call::command::{Command, Refusal};
use crate::call::graph::Standing;
use crate::call::party::PartyId;
use crate::call::record::EndedBy;

#[test]
fn either_side_holds_and_resumes() {
    for (side, other) in [(CALLER, DESK), (DESK, CALLER)] {
        let mut scene = Scene::talking();
        scene.phones[other].on_offer = OnOffer::Accept(LISTENING);
        scene.offer(side, HOLD);
        scene.settle();
        assert!(scene.body(SWITCH, other, "INVITE").contains("a=sendonly"));
        assert!(scene.body(SWITCH, side, "200 INVITE").contains("a=recvonly"));
        let mut held = scene.directions();
        held.sort();
        assert_eq!(held, ["RecvOnly", "SendOnly"]);
        let standing = |scene: &Scene, at: usize| scene.calls.views().next().unwrap().parties[at].state;
        let (one, two) = if side == CALLER { (0, 1) } else { (1, 0) };
        assert_eq!((standing(&scene, one), standing(&scene, two)), (Standing::Holding, Standing::Connected));
        let plays: Vec<bool> = scene.media.arranged.values().flatten().map(|member| member.plays.is_some()).collect();
        assert_eq!((plays[one], plays[two]), (false, true), "the one on hold hears music");
        scene.phones[other].on_offer = OnOffer::Accept(PCMU);
        scene.offer(side, PCMU);
        scene.settle();
        assert_eq!(scene.directions(), ["SendRecv", "SendRecv"]);
        assert_eq!((standing(&scene, one), standing(&scene, two)), (Standing::Connected, Standing::Connected));
        scene.assert_talking();
        scene.bye(side);
        scene.assert_over();
    }
}

#[test]
fn what_a_phone_holds_it_alone_takes_off_hold() {
    // 004-36, 004-76
    let mut scene = Scene::talking();
    scene.phones[CALLER].on_offer = OnOffer::Accept(LISTENING);
    scene.offer(DESK, HOLD);
    scene.settle();
    let view = scene.calls.views().next().unwrap();
    assert_eq!(view.parties.iter().map(|party| party.held_at_device).collect::<Vec<_>>(), [false, true]);
    let (call, party) = (view.id, PartyId::CALLEE);
    assert_eq!(scene.command(Command::Resume { call, party }), Err(Refusal::HoldsItself));
    // Held by both, a command takes back what a command did.
    scene.command(Command::Hold { call, party }).unwrap();
    scene.command(Command::Resume { call, party }).unwrap();
    assert_eq!(scene.calls.views().next().unwrap().parties[1].state, Standing::Holding);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn two_offers_at_once_are_both_put_off() {
    let mut scene = Scene::talking();
    scene.offer(CALLER, HOLD);
    scene.offer(DESK, HOLD);
    scene.settle();
    assert_eq!((scene.count(SWITCH, CALLER, "491 INVITE"), scene.count(SWITCH, DESK, "491 INVITE")), (1, 1));
    assert_eq!(scene.directions(), ["SendRecv", "SendRecv"]);
    scene.offer(DESK, PCMU);
    scene.settle();
    scene.assert_talking();
    assert_eq!(scene.count(SWITCH, DESK, "200 INVITE"), 1);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn a_refused_offer_leaves_media_as_before() {
    let mut scene = Scene::talking();
    scene.phones[DESK].on_offer = OnOffer::Refuse(StatusCode::NOT_ACCEPTABLE_HERE);
    let before = scene.media.settings.clone();
    scene.offer(CALLER, HOLD);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "488 INVITE"), 1);
    assert_eq!(scene.media.settings, before);
    scene.phones[DESK].on_offer = OnOffer::Accept(PCMU);
    scene.offer(CALLER, PCMU);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 2, "the next offer is taken");
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn an_offer_we_cannot_carry_is_refused_without_asking_the_other_side() {
    let mut scene = Scene::talking();
    scene.offer(CALLER, "m=audio 4000 TCP/MRCP 0\r\n");
    scene.settle();
    assert_eq!((scene.count(SWITCH, CALLER, "488 INVITE"), scene.count(SWITCH, DESK, "INVITE")), (1, 1));
    scene.bye(CALLER);
    scene.assert_over();
}

/// A re-INVITE of the caller taken back before the device answers it.
fn withdrawn(media: &str) -> Scene {
    let mut scene = Scene::talking();
    scene.phones[DESK].on_offer = OnOffer::Wait;
    scene.offer(CALLER, media);
    scene.settle();
    scene.withdraw(CALLER);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "487 INVITE"), 1);
    scene
}

#[test]
fn a_withdrawn_offer_leaves_media_as_before_whatever_the_other_side_says() {
    for media in [HOLD, ""] {
        let mut scene = withdrawn(media);
        scene.phones[DESK].on_offer = OnOffer::Accept(PCMU);
        scene.answers(DESK, if media.is_empty() { PCMU } else { LISTENING });
        scene.assert_talking();
        assert_eq!(scene.directions(), ["SendRecv", "SendRecv"]);
        assert_eq!(scene.count(SWITCH, DESK, "ACK"), scene.count(DESK, SWITCH, "200 INVITE"));
        scene.bye(CALLER);
        scene.assert_over();

        let mut scene = withdrawn(media);
        scene.refuses(DESK, StatusCode::NOT_ACCEPTABLE_HERE);
        scene.assert_talking();
        scene.bye(CALLER);
        scene.assert_over();
    }
}

#[test]
fn a_new_offer_after_a_withdrawn_one_waits_for_its_end() {
    let mut scene = withdrawn(HOLD);
    scene.offer(CALLER, PCMU);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "491 INVITE"), 1);
    scene.phones[DESK].on_offer = OnOffer::Accept(PCMU);
    scene.answers(DESK, LISTENING);
    scene.assert_talking();
    assert_eq!(scene.directions(), ["SendRecv", "SendRecv"]);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn an_offer_in_an_update_is_passed_as_a_re_invite() {
    let mut scene = Scene::talking();
    scene.phones[DESK].on_offer = OnOffer::Accept(LISTENING);
    scene.update(CALLER, HOLD);
    scene.settle();
    assert!(scene.body(SWITCH, CALLER, "200 UPDATE").contains("a=recvonly"));
    assert_eq!(scene.count(SWITCH, DESK, "INVITE"), 2);
    scene.assert_talking();
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn an_offer_asked_for_goes_round() {
    let mut scene = Scene::talking();
    scene.phones[DESK].on_offer = OnOffer::Accept(BOTH);
    scene.offer(CALLER, "");
    scene.settle();
    assert!(scene.body(SWITCH, CALLER, "200 INVITE").contains("RTP/AVP 0 8"));
    assert!(scene.body(SWITCH, DESK, "ACK").contains("RTP/AVP 0\r\n"));
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn an_offer_that_overtakes_the_ack_is_taken() {
    let mut scene = Scene::new(2);
    scene.place(BOTH);
    scene.settle();
    scene.progress(DESK, StatusCode::SESSION_PROGRESS, PCMU);
    scene.settle();
    scene.accept(MOBILE, PCMA);
    while scene.wire.front().is_none_or(|carried| carried.from != CALLER || word(&carried.message) != "ACK") {
        assert!(scene.deliver());
    }
    let ack = scene.wire.pop_front().expect("the ACK");
    scene.phones[MOBILE].on_offer = OnOffer::Accept(PCMA);
    scene.offer(CALLER, PCMA);
    scene.settle();
    scene.wire.push_back(ack);
    scene.settle();
    scene.offer(CALLER, PCMA);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "488 INVITE"), 0, "{:?}", scene.words(SWITCH, CALLER));
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_side_may_hang_up_while_an_offer_waits() {
    for (offering, leaving) in [(CALLER, CALLER), (CALLER, DESK), (DESK, CALLER), (DESK, DESK)] {
        for media in [HOLD, ""] {
            let mut scene = Scene::talking();
            scene.phones[CALLER].on_offer = OnOffer::Wait;
            scene.phones[DESK].on_offer = OnOffer::Wait;
            scene.offer(offering, media);
            scene.settle();
            scene.hangs_up(leaving);
            scene.assert_over();
            let by = if leaving == CALLER { EndedBy::Caller } else { EndedBy::Callee };
            assert_eq!(scene.record().ended_by, by);
        }
    }
}

#[test]
fn the_device_hangs_up_before_the_caller_acknowledged() {
    for media in [PCMU, ""] {
        let mut scene = Scene::new(1);
        scene.phones[CALLER].acknowledges = false;
        scene.place(media);
        scene.settle();
        scene.answers(DESK, PCMU);
        scene.hangs_up(DESK);
        assert_eq!(scene.count(SWITCH, CALLER, "BYE"), 0, "the ACK comes first");
        scene.act(CALLER, |endpoint, now, dialog| endpoint.acknowledge(now, dialog, Bytes::new()));
        scene.settle();
        assert_eq!(scene.count(SWITCH, CALLER, "BYE"), if media.is_empty() { 0 } else { 1 } + usize::from(media.is_empty()));
        scene.assert_over();
        assert_eq!(scene.record().status, 200);
    }
}

#[test]
fn both_hang_up_at_once() {
    let mut scene = Scene::talking();
    scene.bye(CALLER);
    scene.bye(DESK);
    scene.assert_over();
    assert_eq!(scene.record().ended_by, EndedBy::Caller);
}

#[test]
fn a_phone_that_vanished_is_found_by_the_session_timer() {
    for (gone, there) in [(CALLER, DESK), (DESK, CALLER)] {
        let mut scene = Scene::talking();
        scene.phones[gone].dead = true;
        scene.advance(Duration::from_secs(1801));
        assert_eq!(scene.count(SWITCH, there, "BYE"), 1);
        scene.assert_over();
        assert_eq!((scene.record().status, scene.record().ended_by), (200, EndedBy::Lost));
    }
}

#[test]
fn a_long_call_is_refreshed() {
    let mut scene = Scene::talking();
    scene.advance(Duration::from_secs(4 * 3600));
    scene.assert_talking();
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn info_passes_both_ways() {
    let mut scene = Scene::talking();
    for (from, to) in [(CALLER, DESK), (DESK, CALLER)] {
        scene.info(from, "Signal=5");
        scene.settle();
        assert_eq!(scene.body(SWITCH, to, "INFO"), "Signal=5");
        assert_eq!(scene.count(SWITCH, from, "200 INFO"), 1);
        let heard = scene.phones[from].events.iter().any(|(_, event)| matches!(event, DialogEvent::Response { .. }));
        assert!(heard);
    }
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_request_that_waits_is_answered_when_the_call_ends() {
    let mut scene = Scene::talking();
    scene.phones[DESK].answers_requests = false;
    scene.info(CALLER, "Signal=5");
    scene.settle();
    scene.hangs_up(DESK);
    assert_eq!(scene.count(SWITCH, CALLER, "481 INFO"), 1);
    assert_eq!(scene.calls.left(), [0; 7]);
    scene.answer_requests(DESK);
    scene.assert_over();
}

#[test]
fn a_call_whose_phones_vanish_ends_without_session_timers_too() {
    let mut scene = Scene::new(1);
    scene.no_timers = true;
    scene.place(PCMU);
    scene.settle();
    scene.answers(DESK, PCMU);
    (scene.phones[CALLER].answers_requests, scene.phones[DESK].answers_requests) = (true, true);
    scene.advance(Duration::from_secs(7200));
    scene.assert_talking();
    assert_eq!((scene.count(SWITCH, CALLER, "OPTIONS"), scene.count(SWITCH, DESK, "OPTIONS")), (8, 8), "every quarter of an hour");
    (scene.phones[CALLER].dead, scene.phones[DESK].dead) = (true, true);
    scene.advance(Duration::from_secs(900 + 33));
    let record = scene.record();
    assert_eq!((record.status, record.ended_by, &*record.reason), (200, EndedBy::Lost, "a device no longer knows the call, or is gone"));
    scene.assert_over();
}

#[test]
fn a_phone_that_forgot_the_call_ends_it_for_the_other() {
    let mut scene = Scene::new(1);
    scene.no_timers = true;
    scene.place(PCMU);
    scene.settle();
    scene.answers(DESK, PCMU);
    (scene.phones[CALLER].answers_requests, scene.phones[DESK].dead) = (true, true);
    scene.advance(Duration::from_secs(900 + 33));
    assert_eq!((scene.count(SWITCH, CALLER, "BYE"), scene.record().ended_by), (1, EndedBy::Lost));
    scene.assert_over();
}

const EVENTS: &str = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

/// A call whose phones offer and answer that.
fn talking_with(caller: &'static str, desk: &'static str) -> Scene {
    let mut scene = Scene::new(1);
    scene.place(caller);
    scene.settle();
    scene.answers(DESK, desk);
    scene
}

fn press(scene: &mut Scene, phone: usize, letter: char) {
    let event = MediaEvent::Digit {
        port: scene.port(phone),
        digit: Digit::from_letter(letter).expect("a key"),
        duration: Duration::from_millis(160),
    };
    scene.media.events.push_back(event);
    scene.settle();
}

#[test]
fn digit_of_an_info_is_a_named_event_for_a_phone_that_agreed_on_those() {
    let mut scene = talking_with(EVENTS, EVENTS);
    scene.info(CALLER, "Signal=5\r\nDuration=200\r\n");
    scene.settle();
    assert_eq!((scene.count(SWITCH, CALLER, "200 INFO"), scene.count(SWITCH, DESK, "INFO")), (1, 0));
    assert_eq!(scene.media.pressed, [(scene.port(DESK), '5')]);
    press(&mut scene, CALLER, '6');
    assert_eq!(scene.media.pressed.len(), 1, "its named events pass by themselves");
}

#[test]
fn key_of_a_phone_is_tones_or_an_info_for_one_without_named_events() {
    let mut scene = talking_with(EVENTS, PCMU);
    press(&mut scene, CALLER, '#');
    assert_eq!((scene.media.pressed.as_slice(), scene.count(SWITCH, DESK, "INFO")), (&[(scene.port(DESK), '#')][..], 0));
    scene.info(DESK, "Signal=1\r\n");
    scene.settle();
    press(&mut scene, CALLER, '7');
    assert_eq!(scene.body(SWITCH, DESK, "INFO"), "Signal=7\r\nDuration=160\r\n", "now it is known to take them");
    assert_eq!(scene.media.pressed, [(scene.port(DESK), '#'), (scene.port(CALLER), '1')]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn refused_info_is_tones() {
    let mut scene = talking_with(PCMU, PCMU);
    scene.phones[DESK].answers_requests = false;
    scene.info(CALLER, "Signal=5\r\n");
    scene.settle();
    scene.refuse_requests(DESK, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    scene.settle();
    assert_eq!((scene.count(SWITCH, CALLER, "200 INFO"), scene.count(SWITCH, CALLER, "415 INFO")), (1, 0));
    assert_eq!(scene.media.pressed, [(scene.port(DESK), '5')]);
}
