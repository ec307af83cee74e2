//! Until the answer: who rings, who wins, what the caller hears, and every way to give up.

use std::time::Duration;

use media::sdp::transport::Profile;
use sip::StatusCode;
use sip::message::{Message, Name};

use super::scene::*;
use crate::call::record::EndedBy;

fn ringing(devices: usize) -> Scene {
    let mut scene = Scene::new(devices);
    scene.place(PCMU);
    scene.settle();
    for phone in DESK..DESK + devices {
        scene.progress(phone, StatusCode::RINGING, "");
    }
    scene.settle();
    scene
}

fn reason(message: &Message) -> String {
    String::from_utf8_lossy(message.headers().get(Name::Reason).unwrap_or_default()).into_owned()
}

#[test]
fn all_devices_ring_the_first_answer_wins_and_the_others_are_told_so() {
    let mut scene = ringing(3);
    assert_eq!(scene.words(SWITCH, CALLER), ["100 INVITE", "180 INVITE"]);
    scene.advance(Duration::from_secs(5));
    scene.answers(MOBILE, PCMU);
    for loser in [DESK, MOBILE + 1] {
        let cancel = scene.last(SWITCH, loser, "CANCEL");
        assert_eq!(reason(cancel), "SIP;cause=200;text=\"Call completed elsewhere\"");
    }
    assert_eq!(scene.count(SWITCH, MOBILE, "CANCEL"), 0);
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 1);
    scene.assert_talking();
    scene.advance(Duration::from_secs(7));
    scene.bye(CALLER);
    scene.assert_over();
    let record = scene.record();
    assert_eq!((record.status, record.ended_by, record.answered_by.as_deref()), (200, EndedBy::Caller, Some("sip:bob@10.0.0.4")));
    let times = (record.started_at, record.ringing_at, record.answered_at, record.ended_at);
    assert_eq!(times, (UNIX, Some(UNIX), Some(UNIX + 5_000), UNIX + 12_000));
    assert_eq!(record.media.len(), 2);
}

#[test]
fn of_two_answers_at_once_one_is_the_call_and_the_other_is_hung_up() {
    let mut scene = ringing(2);
    scene.accept(DESK, PCMU);
    scene.answers(MOBILE, PCMU);
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 1);
    assert_eq!((scene.count(SWITCH, MOBILE, "ACK"), scene.count(SWITCH, MOBILE, "BYE")), (1, 1));
    assert_eq!((scene.count(SWITCH, DESK, "ACK"), scene.count(SWITCH, DESK, "BYE")), (1, 0));
    scene.assert_talking();
    scene.bye(DESK);
    scene.assert_over();
    assert_eq!(scene.record().ended_by, EndedBy::Callee);
}

#[test]
fn refusals_become_what_the_caller_is_told() {
    let cases = [
        (StatusCode::BUSY_HERE, 486),
        (StatusCode::DECLINE, 603),
        (StatusCode::NOT_FOUND, 480),
        (StatusCode::SERVICE_UNAVAILABLE, 480),
        (StatusCode::NOT_ACCEPTABLE_HERE, 488),
    ];
    for (said, told) in cases {
        let mut scene = ringing(1);
        scene.refuses(DESK, said);
        assert_eq!(scene.count(SWITCH, CALLER, &format!("{told} INVITE")), 1, "{:?}", scene.words(SWITCH, CALLER));
        scene.assert_over();
        assert_eq!((scene.record().status, scene.record().ended_by), (told, EndedBy::Callee));
    }
}

#[test]
fn a_decline_for_all_cancels_the_others() {
    let mut scene = ringing(2);
    scene.refuses(DESK, StatusCode::DECLINE);
    assert_eq!(scene.count(SWITCH, MOBILE, "CANCEL"), 1);
    assert_eq!(scene.count(SWITCH, CALLER, "603 INVITE"), 1);
    scene.assert_over();
}

#[test]
fn an_invitation_is_over_when_it_says() {
    // RFC 3261 §13.3.1
    let mut scene = Scene::new(2);
    scene.expires = Some(Duration::from_secs(5));
    scene.place(PCMU);
    scene.settle();
    scene.rings(DESK);
    scene.advance(Duration::from_secs(4));
    assert_eq!(scene.count(SWITCH, CALLER, "487 INVITE"), 0);
    scene.advance(Duration::from_secs(1));
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "487 INVITE"), 1);
    assert_eq!(scene.count(SWITCH, DESK, "CANCEL"), 1);
    scene.assert_over();
}

#[test]
fn nobody_answers() {
    let mut scene = ringing(2);
    scene.advance(NO_ANSWER);
    assert_eq!(scene.count(SWITCH, CALLER, "480 INVITE"), 1);
    assert_eq!((scene.count(SWITCH, DESK, "CANCEL"), scene.count(SWITCH, MOBILE, "CANCEL")), (1, 1));
    scene.assert_over();
    assert_eq!((scene.record().ended_by, scene.record().ended_at), (EndedBy::NoAnswer, UNIX + 60_000));
}

#[test]
fn a_dead_device_is_an_unavailable_user() {
    let mut scene = Scene::new(1);
    scene.phones[DESK].dead = true;
    scene.place(PCMU);
    scene.advance(Duration::from_secs(33));
    assert_eq!(scene.count(SWITCH, CALLER, "480 INVITE"), 1);
    scene.assert_over();
}

#[test]
fn a_device_is_tried_at_its_next_address() {
    let mut scene = Scene::new(2);
    scene.one_device = true;
    scene.phones[DESK].dead = true;
    scene.place(PCMU);
    scene.advance(Duration::from_secs(33));
    assert_eq!(scene.count(SWITCH, MOBILE, "INVITE"), 1);
    scene.answers(MOBILE, PCMU);
    scene.assert_talking();
    let heard_from: Vec<_> = scene.media.settings.values().map(|settings| settings.signaling).collect();
    assert!(heard_from.contains(&Some(address(MOBILE).ip())), "{heard_from:?}");
    scene.bye(MOBILE);
    scene.assert_over();
}

#[test]
fn the_caller_gives_up_before_anything_rings() {
    let mut scene = Scene::new(2);
    scene.place(PCMU);
    for _ in 0..2 {
        scene.deliver(); // the INVITE, and the 100 without which there is no CANCEL
    }
    scene.wire.retain(|carried| carried.to != CALLER || word(&carried.message) != "180 INVITE");
    scene.cancel(CALLER);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "487 INVITE"), 1);
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by), (487, EndedBy::Caller));
}

#[test]
fn the_caller_gives_up_while_devices_ring() {
    let mut scene = ringing(2);
    scene.cancel(CALLER);
    scene.settle();
    assert_eq!((scene.count(SWITCH, DESK, "CANCEL"), scene.count(SWITCH, MOBILE, "CANCEL")), (1, 1));
    assert_eq!(scene.count(SWITCH, CALLER, "487 INVITE"), 1);
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by), (487, EndedBy::Caller));
}

#[test]
fn an_answer_that_crosses_our_cancel_is_hung_up() {
    let mut scene = ringing(1);
    scene.cancel(CALLER);
    scene.deliver();
    scene.answers(DESK, PCMU);
    assert_eq!((scene.count(SWITCH, DESK, "ACK"), scene.count(SWITCH, DESK, "BYE")), (1, 1));
    scene.assert_over();
    assert_eq!(scene.record().status, 487);
}

#[test]
fn a_cancel_that_crosses_our_200_is_too_late() {
    let mut scene = ringing(1);
    scene.accept(DESK, PCMU);
    scene.deliver(); // our 200 is on the wire
    scene.cancel(CALLER);
    scene.settle();
    // The caller acknowledges and hangs up by itself.
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by), (200, EndedBy::Caller));
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 1);
}

/// A device has answered, and our 200 waits for the PRACK of a 183 that got lost.
fn waiting_for_a_prack() -> Scene {
    let mut scene = ringing(1);
    scene.progress(DESK, StatusCode::SESSION_PROGRESS, PCMU);
    // The device's 183 and the 200 behind it arrive; our 183 does not.
    while scene.count(SWITCH, CALLER, "183 INVITE") == 0 && scene.deliver() {
        if scene.wire.front().is_some_and(|carried| carried.to == CALLER) {
            scene.wire.pop_front();
            break;
        }
    }
    scene.settle();
    scene.answers(DESK, PCMU);
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 0, "it waits");
    scene
}

#[test]
fn an_answer_that_no_prack_let_go_is_none() {
    let mut scene = waiting_for_a_prack();
    scene.phones[CALLER].dead = true;
    scene.advance(Duration::from_secs(33));
    assert_eq!((scene.count(SWITCH, CALLER, "504 INVITE") > 0, scene.count(SWITCH, DESK, "BYE")), (true, 1));
    let record = scene.record();
    assert_eq!((record.status, record.ended_by, record.answered_at), (504, EndedBy::Lost, None), "{record:?}");
    scene.assert_over();
}

#[test]
fn an_answer_that_is_taken_back_before_the_prack_is_none() {
    let mut scene = waiting_for_a_prack();
    scene.hangs_up(DESK);
    assert_eq!((scene.count(SWITCH, CALLER, "480 INVITE"), scene.count(SWITCH, CALLER, "200 INVITE")), (1, 0));
    let record = scene.record();
    assert_eq!((record.status, record.ended_by, record.answered_at), (480, EndedBy::Callee, None), "{record:?}");
    scene.assert_over();
}

#[test]
fn a_cancel_while_the_answer_waits_for_a_prack_hangs_up_the_device() {
    let mut scene = waiting_for_a_prack();
    scene.cancel(CALLER);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "487 INVITE"), 1);
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 1);
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by, scene.record().answered_at), (487, EndedBy::Caller, None));
}

#[test]
fn a_caller_that_gave_up_while_names_were_looked_up_rings_nobody() {
    let mut scene = Scene::new(1);
    scene.plans_wait = true;
    scene.place(PCMU);
    scene.settle();
    scene.cancel(CALLER);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "487 INVITE"), 1);
    scene.start_plans();
    scene.settle();
    assert_eq!(scene.words(SWITCH, DESK).len(), 0);
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by), (487, EndedBy::Caller));
}

#[test]
fn a_caller_may_hang_up_its_early_dialog() {
    let mut scene = ringing(1);
    let invite = scene.last(CALLER, SWITCH, "INVITE").headers().clone();
    let to = scene.last(SWITCH, CALLER, "180 INVITE").headers().clone();
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.expect("it is there")).into_owned();
    let bye = format!(
        "BYE sip:10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: 100000 BYE\r\nContent-Length: 0\r\n\r\n",
        text(invite.get(Name::From)),
        text(to.get(Name::To)),
        text(invite.get(Name::CallId)),
    );
    scene.carry(CALLER, SWITCH, bye.into());
    scene.settle();
    assert_eq!((scene.count(SWITCH, CALLER, "487 INVITE"), scene.count(SWITCH, DESK, "CANCEL")), (1, 1));
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by), (487, EndedBy::Caller));
}

#[test]
fn ringing_is_heard_after_a_bare_183() {
    let mut scene = Scene::new(1);
    scene.place(PCMU);
    scene.settle();
    scene.progress(DESK, StatusCode::SESSION_PROGRESS, "");
    scene.progress(DESK, StatusCode::RINGING, "");
    scene.rings(DESK);
    assert_eq!(scene.words(SWITCH, CALLER), ["100 INVITE", "183 INVITE", "180 INVITE"]);
    scene.refuse(DESK, StatusCode::BUSY_HERE);
    scene.assert_over();
}

#[test]
fn early_media_of_one_device_then_the_answer_of_another() {
    let mut scene = Scene::new(2);
    scene.phones[CALLER].on_offer = OnOffer::Accept(PCMA);
    scene.place(BOTH);
    scene.settle();
    scene.progress(DESK, StatusCode::SESSION_PROGRESS, PCMU);
    scene.settle();
    assert_eq!(scene.media.bridged.len(), 2, "the caller hears the device");
    let early = scene.body(SWITCH, CALLER, "183 INVITE");
    scene.answers(MOBILE, PCMA);
    // The 200 repeats what the 183 said; a new offer brings the caller to the other codec.
    assert_eq!(scene.body(SWITCH, CALLER, "200 INVITE"), early);
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 1);
    assert!(scene.body(SWITCH, CALLER, "INVITE").contains("RTP/AVP 8 "));
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

/// The caller was answered with another device's codec, and has our mending offer before it.
fn mending() -> Scene {
    let mut scene = Scene::new(2);
    scene.phones[CALLER].on_offer = OnOffer::Wait;
    scene.place(BOTH);
    scene.settle();
    scene.progress(DESK, StatusCode::SESSION_PROGRESS, PCMU);
    scene.settle();
    scene.answers(MOBILE, PCMA);
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 1);
    scene
}

#[test]
fn an_offer_while_we_mend_is_put_off_and_the_mending_goes_on() {
    let mut scene = mending();
    scene.offer(MOBILE, PCMA);
    scene.settle();
    assert_eq!(scene.count(SWITCH, MOBILE, "491 INVITE"), 1);
    scene.answers(CALLER, PCMA);
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn after_a_refused_mending_offers_are_taken_again() {
    let mut scene = mending();
    scene.refuses(CALLER, StatusCode::REQUEST_PENDING);
    scene.phones[MOBILE].on_offer = OnOffer::Accept(PCMA);
    scene.offer(CALLER, PCMA);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 2);
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_mending_that_met_another_offer_is_made_again() {
    let mut scene = mending();
    scene.refuse(CALLER, StatusCode::REQUEST_PENDING);
    scene.phones[CALLER].on_offer = OnOffer::Accept(PCMA);
    scene.advance(Duration::from_secs(4));
    assert_eq!(scene.count(CALLER, SWITCH, "200 INVITE"), 1);
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn two_devices_with_one_contact_have_one_place_in_the_record() {
    let mut scene = Scene::new(2);
    scene.same_contact = true;
    scene.place(PCMU);
    scene.settle();
    scene.answers(DESK, PCMU);
    scene.bye(CALLER);
    scene.assert_over();
    assert_eq!(scene.record().media.len(), 2);
}

#[test]
fn without_a_media_port_the_switch_ended_the_call() {
    for left in [0, 1] {
        let mut scene = Scene::new(1);
        scene.media.left = Some(left);
        scene.place(PCMU);
        scene.settle();
        if left == 1 {
            scene.accept(DESK, PCMU);
        }
        scene.assert_over();
        assert_eq!((scene.record().ended_by, scene.record().answered_at), (EndedBy::Switch, None), "{:?}", scene.record());
        assert!(scene.record().reason.contains("no media port is free"), "{:?}", scene.record());
        assert!(is_told_when_to_try_again(scene.last(SWITCH, CALLER, "503 INVITE")), "it is not the callee's fault");
    }
}

fn is_told_when_to_try_again(refused: &Message) -> bool {
    let after = refused.headers().get(Name::RetryAfter).and_then(|after| std::str::from_utf8(after).ok()?.parse::<u64>().ok());
    after.is_some_and(|after| (1..=10).contains(&after))
}

#[test]
fn a_user_makes_so_many_calls_and_no_more() {
    // S11
    let mut scene = Scene::new(3);
    scene.calls.policy.calls_per_user = 2;
    scene.targets = vec![DESK];
    for _ in 0..2 {
        scene.place(PCMU);
        scene.settle();
    }
    scene.place_from(DESK + 1, ("ann", "bob"), PCMU);
    scene.settle();
    assert!(is_told_when_to_try_again(scene.last(SWITCH, DESK + 1, "486 INVITE")), "from whatever device");
    scene.place_from(DESK + 2, ("bob", "bob"), PCMU);
    scene.settle();
    assert_eq!(scene.count(SWITCH, DESK, "INVITE"), 3, "calls that others make to a user are not theirs");
    scene.cancel(CALLER);
    scene.settle();
    scene.place_from(DESK + 1, ("ann", "bob"), PCMU);
    scene.settle();
    assert_eq!(scene.count(SWITCH, DESK, "INVITE"), 4, "one is over");
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let mut scene = Scene::new(1);
    scene.place("");
    scene.settle();
    assert_eq!(scene.body(SWITCH, DESK, "INVITE"), "");
    scene.answers(DESK, BOTH);
    assert!(scene.body(SWITCH, CALLER, "200 INVITE").contains("RTP/AVP 0 8"));
    assert!(scene.body(SWITCH, DESK, "ACK").contains("RTP/AVP 0\r\n"));
    scene.assert_talking();
    scene.bye(DESK);
    scene.assert_over();
    assert_eq!(scene.record().media.len(), 2);
}

#[test]
fn an_unusable_answer_to_a_late_offer_ends_the_call() {
    for answer in ["m=audio 4000 RTP/AVP 18\r\n", "m=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/AVP 0\r\n", "m=video 4000 RTP/AVP 0\r\n"] {
        let mut scene = Scene::new(1);
        scene.phones[CALLER].late_answer = answer;
        scene.place("");
        scene.settle();
        scene.answers(DESK, PCMU);
        assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.count(SWITCH, CALLER, "BYE")), (1, 1), "{answer}");
        scene.assert_over();
        assert_eq!(scene.record().ended_by, EndedBy::Switch);
    }
}

#[test]
fn a_caller_that_never_acknowledges_is_hung_up() {
    let mut scene = ringing(1);
    scene.phones[CALLER].acknowledges = false;
    scene.accept(DESK, PCMU);
    scene.advance(Duration::from_secs(33));
    assert_eq!((scene.count(SWITCH, CALLER, "BYE"), scene.count(SWITCH, DESK, "BYE")), (1, 1));
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by), (200, EndedBy::Lost));
}

/// A phone's answer to an offer with keys.
const KEYED: &str = "m=audio 4000 RTP/SAVP 0\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n";

fn refused_plain(profiles: &[Profile]) -> Scene {
    let mut scene = Scene::new(1);
    scene.profiles = profiles.to_vec();
    scene.place(PCMU);
    scene.settle();
    scene.refuses(DESK, StatusCode::NOT_ACCEPTABLE_HERE);
    scene
}

#[test]
fn a_device_that_refuses_plain_media_is_offered_keys() {
    let mut scene = refused_plain(&[Profile::Plain, Profile::Sdes]);
    assert_eq!((scene.count(SWITCH, DESK, "INVITE"), scene.words(SWITCH, CALLER).len()), (2, 1), "the caller notices nothing");
    let offered = scene.body(SWITCH, DESK, "INVITE");
    assert!(offered.contains("RTP/SAVP 0") && offered.contains("a=crypto:1 ") && !offered.contains("RTP/AVP"), "{offered}");
    scene.progress(DESK, StatusCode::RINGING, "");
    scene.advance(Duration::from_secs(20));
    scene.answers(DESK, KEYED);
    assert!(scene.body(SWITCH, CALLER, "200 INVITE").contains("RTP/AVP 0"));
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_device_that_refuses_every_offer_has_refused() {
    let mut scene = refused_plain(&[Profile::Plain, Profile::Sdes]);
    scene.refuses(DESK, StatusCode::NOT_ACCEPTABLE_HERE);
    assert_eq!((scene.count(SWITCH, DESK, "INVITE"), scene.count(SWITCH, CALLER, "488 INVITE")), (2, 1));
    scene.assert_over();
}

#[test]
fn a_device_that_is_silent_about_another_offer_has_refused() {
    let mut scene = refused_plain(&[Profile::Plain, Profile::Sdes, Profile::Dtls]);
    scene.advance(Duration::from_secs(2));
    assert_eq!(scene.count(SWITCH, CALLER, "488 INVITE"), 0);
    scene.advance(Duration::from_secs(2));
    assert_eq!(scene.count(SWITCH, CALLER, "488 INVITE"), 1);
    scene.refuses(DESK, StatusCode::REQUEST_TERMINATED);
    scene.assert_over();
}
