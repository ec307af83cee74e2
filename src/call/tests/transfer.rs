//! Calls that change hands: blind and attended transfer, push to an own device, take-over, pickup, park and retrieval; and what goes wrong.

use std::time::Duration;

use sip::message::{Headers, Message, Name};
use sip::{DialogEvent, StatusCode};

use super::scene::*;
use crate::call::command::{Answer, Command};
use crate::call::graph::{Constructed, Missed, State};
use crate::call::join::Joined;
use crate::call::party::{PartyId, Who};
use crate::call::pickup::Place;
use crate::call::refusal::Refusal;
use crate::call::transfer::Report;
use crate::call::{Calls, Id};

/// By then a device that took over has the call, heard or not.
const HEARD: Duration = Duration::from_secs(4);

impl Scene {
    /// The switch finds the devices of whoever is to be called back.
    fn recall(&mut self, phone: Option<usize>) {
        let (id, user) = self.recalls.pop().expect("somebody is to be called back");
        let targets = phone.map(|phone| self.target_of(&user, phone)).into_iter().collect();
        self.with_calls(|calls, switch| calls.recall(switch, id, Headers::default(), targets));
        self.settle();
    }

    fn park(&mut self, phone: usize, slot: Option<u16>) -> Result<u16, Refusal> {
        let (dialog, report) = self.refer(phone);
        let (id, party, ..) = self.calls.owner(dialog).expect("the phone is in a call");
        let result = self.with_calls(|calls, switch| calls.park(switch, (id, party), slot, Some(report)));
        self.settle();
        result
    }
}

// ---- blind transfer

#[test]
fn a_blind_transfer_tells_the_transferor_and_asks_the_transferee_nothing() {
    let mut scene = Scene::house();
    assert_eq!(scene.transfer(DESK, "carol", &[CAROL]), Ok(()));
    assert_eq!(scene.count(SWITCH, DESK, "202 REFER"), 1);
    let Message::Request(invite) = scene.last(SWITCH, CAROL, "INVITE") else { unreachable!("INVITE is a request") };
    assert_eq!(invite.headers.get_text(Name::From).unwrap().split(';').next(), Some("<sip:ann@h>"));
    assert_eq!(invite.headers.get_text(Name::ReferredBy).as_deref(), Some("<sip:bob@h>"));
    scene.rings(CAROL);
    assert_eq!(scene.told(DESK), ["100 Trying", "180 Ringing"]);
    assert_eq!(scene.media.bridged.len(), 2, "ann and bob are together until carol is there");
    scene.answers(CAROL, PCMU);
    assert_eq!(scene.told(DESK), ["100 Trying", "180 Ringing", "200 OK"]);
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 1);
    scene.assert_hear(CALLER, CAROL);
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 0, "ann is asked nothing");
    let id = scene.call();
    assert_eq!(scene.names(id), ["ann", "carol"]);
    assert_eq!(scene.calls.view(id).unwrap().constructed, Constructed::Transferred(Who::User("bob".into())));
    assert_eq!((scene.calls.views_of("bob").count(), scene.calls.views_of("carol").count()), (0, 1));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn either_side_may_transfer_and_hang_up_at_once() {
    for (sender, stays) in [(CALLER, DESK), (DESK, CALLER)] {
        let mut scene = Scene::house();
        scene.transfer(sender, "carol", &[CAROL]).unwrap();
        scene.hangs_up(sender);
        let members = scene.media.arranged.values().next().expect("a bridge").clone();
        assert_eq!((members.len(), members[0].plays.is_some()), (1, true), "who waits hears music");
        scene.answers(CAROL, PCMU);
        assert_eq!(scene.told(sender).last().map(String::as_str), Some("200 OK"), "it is told after its BYE");
        scene.assert_hear(stays, CAROL);
        scene.bye(CAROL);
        scene.assert_over();
    }
}

#[test]
fn a_party_on_hold_is_taken_off_hold_when_it_is_transferred() {
    let mut scene = Scene::house();
    scene.phones[CALLER].on_offer = OnOffer::Accept(LISTENING);
    scene.offer(DESK, HOLD);
    scene.settle();
    scene.phones[CALLER].on_offer = OnOffer::Accept(PCMU);
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    assert!(!scene.body(SWITCH, CAROL, "INVITE").contains("a=recvonly"), "carol is not to hold");
    scene.answers(CAROL, PCMU);
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 2, "one for the hold, one for carol");
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn who_has_other_codecs_is_offered_them() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.phones[CALLER].on_offer = OnOffer::Accept(PCMU);
    scene.answers(CAROL, PCMA);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_failed_transfer_leaves_the_call_to_a_transferor_who_waited() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.refuses(CAROL, StatusCode::BUSY_HERE);
    assert_eq!(scene.told(DESK), ["100 Trying", "486 Busy Here"]);
    scene.assert_hear(CALLER, DESK);
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.advance(NO_ANSWER);
    assert_eq!(scene.told(DESK).last().map(String::as_str), Some("480 Temporarily Unavailable"));
    scene.assert_hear(CALLER, DESK);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn a_failed_transfer_returns_to_a_transferor_who_hung_up() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.hangs_up(DESK);
    scene.refuses(CAROL, StatusCode::BUSY_HERE);
    scene.recall(Some(DESK));
    scene.answers(DESK, PCMU);
    scene.assert_hear(CALLER, DESK);
    let id = scene.call();
    assert_eq!(scene.names(id), ["ann", "bob"]);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn who_cannot_be_called_back_to_loses_the_call() {
    for phone in [None, Some(DESK)] {
        let mut scene = Scene::house();
        scene.transfer(DESK, "carol", &[CAROL]).unwrap();
        scene.hangs_up(DESK);
        scene.refuses(CAROL, StatusCode::BUSY_HERE);
        scene.recall(phone);
        scene.advance(NO_ANSWER);
        assert_eq!(scene.count(SWITCH, CALLER, "BYE"), 1);
        scene.assert_over();
    }
}

#[test]
fn all_devices_of_the_target_ring_and_one_wins() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL, DAVE]).unwrap();
    scene.progress(CAROL, StatusCode::RINGING, "");
    scene.rings(DAVE);
    scene.refuses(CAROL, StatusCode::BUSY_HERE);
    scene.answers(DAVE, PCMU);
    assert_eq!(scene.told(DESK), ["100 Trying", "180 Ringing", "200 OK"]);
    scene.assert_hear(CALLER, DAVE);
    scene.bye(DAVE);
    scene.assert_over();
}

#[test]
fn the_transferee_hangs_up_while_the_target_rings() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.rings(CAROL);
    scene.hangs_up(CALLER);
    assert_eq!((scene.count(SWITCH, CAROL, "CANCEL"), scene.count(SWITCH, DESK, "BYE")), (1, 1));
    assert_eq!(scene.told(DESK).last().map(String::as_str), Some("487 Request Terminated"));
    scene.assert_over();
}

#[test]
fn a_second_transfer_waits_for_the_first() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    assert_eq!(scene.transfer(CALLER, "dave", &[DAVE]), Err(Refusal::UnderWay));
    assert_eq!(scene.count(SWITCH, CALLER, "491 REFER"), 1);
    scene.answers(CAROL, PCMU);
    assert_eq!(scene.transfer(CALLER, "dave", &[]), Err(Refusal::Unreachable));
    assert_eq!(scene.count(SWITCH, CALLER, "480 REFER"), 1);
    scene.transfer(CALLER, "dave", &[DAVE]).unwrap();
    scene.answers(DAVE, PCMU);
    scene.assert_hear(CAROL, DAVE);
    scene.bye(DAVE);
    scene.assert_over();
}

#[test]
fn the_one_who_waits_may_hold_and_ask_again() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.hangs_up(DESK);
    scene.offer(CALLER, HOLD);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 2);
    scene.offer(CALLER, PCMU);
    scene.settle();
    scene.answers(CAROL, PCMU);
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn an_offer_that_waits_while_the_transferor_leaves_is_answered() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.phones[DESK].on_offer = OnOffer::Wait;
    scene.offer(CALLER, HOLD);
    scene.settle();
    scene.answers(CAROL, PCMU);
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 2);
    scene.advance(Duration::from_secs(2));
    scene.assert_hear(CALLER, CAROL);
    scene.offer(CALLER, PCMU);
    scene.settle();
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn an_answer_that_cannot_be_used_fails_the_transfer() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "carol", &[CAROL]).unwrap();
    scene.answers(CAROL, "m=video 4000 RTP/AVP 96\r\n");
    assert_eq!(scene.told(DESK).last().map(String::as_str), Some("488 Not Acceptable Here"));
    assert_eq!(scene.count(SWITCH, CAROL, "BYE"), 1);
    scene.assert_hear(CALLER, DESK);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_call_is_pushed_to_an_own_device() {
    let mut scene = Scene::house();
    scene.transfer(DESK, "bob", &[MOBILE]).unwrap();
    scene.answers(MOBILE, PCMU);
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 0, "not before the other one is heard");
    scene.advance(HEARD);
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 1);
    scene.assert_hear(CALLER, MOBILE);
    let id = scene.call();
    assert_eq!(scene.names(id), ["ann", "bob"]);
    assert_eq!(scene.calls.view(id).unwrap().constructed, Constructed::Direct, "bob is where he was");
    scene.bye(MOBILE);
    scene.assert_over();
}

#[test]
fn whoever_a_call_is_sent_to_in_vain_has_missed_it() {
    type End = (&'static str, fn(&mut Scene));
    let ends: [End; 5] = [
        ("the device is busy", |scene| scene.refuses(CAROL, StatusCode::BUSY_HERE)),
        ("the call was declined at the device", |scene| scene.refuses(CAROL, StatusCode::DECLINE)),
        ("nobody answered at the device in time", |scene| scene.advance(NO_ANSWER)),
        ("the caller hung up", |scene| scene.hangs_up(CALLER)),
        ("dropped by command", |scene| {
            let call = scene.call();
            assert_eq!(scene.command(Command::Drop { call, party: PartyId::CALLER }), Ok(Answer::Done));
            scene.settle();
        }),
    ];
    for (why, end) in ends {
        let mut scene = Scene::house();
        scene.now += Duration::from_secs(5);
        scene.transfer(DESK, "carol", &[CAROL]).unwrap();
        let id = scene.call();
        let (began, came) = scene.calls.view(id).map(|view| (view.parties[0].came_at, view.parties[2].came_at)).unwrap();
        assert_eq!((began, came), (UNIX, UNIX + 5000), "when it rang at her, not when the call began");
        end(&mut scene);
        assert_eq!(scene.missed, [Missed { party: PartyId(2), why: why.to_owned() }]);
        if scene.calls.view(id).is_some() {
            scene.transfer(DESK, "dave", &[DAVE]).unwrap();
            assert_eq!(scene.calls.view(id).unwrap().parties[2].id, PartyId(3), "no two of them have one entry");
            scene.answers(DAVE, PCMU);
            assert_eq!(scene.missed.len(), 1, "who came has missed nothing");
            scene.hangs_up(CALLER);
        }
        scene.assert_over();
    }
}

#[test]
fn who_is_called_back_or_picks_up_misses_nothing() {
    let mut scene = Scene::house();
    scene.park(DESK, None).unwrap();
    scene.advance(PARK);
    scene.recall(Some(DESK));
    scene.advance(NO_ANSWER);
    scene.hangs_up(CALLER);
    scene.assert_over();
    let (mut other, first, second, report) = consulting(false);
    other.with_calls(|calls, switch| calls.join(switch, first, second, Some(report))).unwrap();
    other.answers(CAROL, PCMU);
    other.hangs_up(CALLER);
    other.assert_over();
    assert_eq!((scene.missed, other.missed), (Vec::new(), Vec::new()));
}

#[test]
fn nobody_is_sent_to_whom_they_talk_to_already() {
    let mut scene = Scene::house();
    assert_eq!(scene.transfer(DESK, "ann", &[CAROL]), Err(Refusal::Present), "ann would talk to herself");
    assert_eq!(scene.transfer(DESK, "bob", &[]), Err(Refusal::Present), "bob has no other device");
    assert_eq!(scene.count(SWITCH, DESK, "403 REFER"), 2);
    scene.assert_hear(CALLER, DESK);
    // ann calls bob by another phone, too, and he joins her to herself
    scene.targets = vec![DESK];
    scene.place_from(DAVE, ("ann", "bob"), PCMU);
    scene.settle();
    scene.answers(DESK, PCMU);
    let ids: Vec<Id> = scene.calls.views().map(|view| view.id).collect();
    let (first, second) = ((ids[0], PartyId::CALLEE), (ids[1], PartyId::CALLEE));
    assert_eq!(scene.with_calls(|calls, switch| calls.join(switch, first, second, None)), Err(Refusal::Present));
    scene.hangs_up(CALLER);
    scene.hangs_up(DAVE);
    scene.assert_over();
}

// ---- attended transfer

/// Ann and bob talk, and bob calls carol by the same phone.
fn consulting(answered: bool) -> (Scene, (Id, PartyId), (Id, PartyId), Report) {
    let mut scene = Scene::house();
    let first = scene.call();
    let held = scene.phones[DESK].dialog;
    scene.targets = vec![CAROL];
    scene.place_from(DESK, ("bob", "carol"), PCMU);
    scene.settle();
    if answered {
        scene.answers(CAROL, PCMU);
    }
    scene.phones[DESK].dialog = held;
    let (_, report) = scene.refer(DESK);
    let second = *scene.views.keys().next_back().expect("two calls");
    (scene, (first, PartyId::CALLEE), (second, PartyId::CALLER), report)
}

#[test]
fn an_attended_transfer_joins_the_two_others() {
    let (mut scene, first, second, report) = consulting(true);
    let result = scene.with_calls(|calls, switch| calls.join(switch, first, second, Some(report)));
    assert_eq!(result, Ok(Joined::Now));
    scene.settle();
    assert_eq!(scene.told(DESK), ["100 Trying", "200 OK"]);
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 2, "bob is out of both");
    scene.assert_hear(CALLER, CAROL);
    assert_eq!(scene.names(first.0), ["ann", "carol"]);
    assert!(scene.calls.view(second.0).is_none());
    assert_eq!((scene.count(SWITCH, CALLER, "INVITE"), scene.count(SWITCH, CAROL, "INVITE")), (0, 1), "nobody is asked anything");
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn an_attended_transfer_joins_calls_of_two_media_threads() {
    for answered in [true, false] {
        let mut scene = Scene::house();
        let first = scene.call();
        scene.media.thread = 7;
        scene.targets = vec![CAROL];
        scene.place_from(DESK, ("bob", "carol"), PCMU);
        scene.settle();
        if answered {
            scene.answers(CAROL, PCMU);
        }
        let second = scene.calls.views().last().expect("a call").id;
        let joined = scene.with_calls(|calls, switch| calls.join(switch, (first, PartyId::CALLEE), (second, PartyId::CALLER), None));
        assert!(joined.is_ok(), "{joined:?}");
        scene.media.thread = 0;
        scene.settle();
        if !answered {
            scene.answers(CAROL, PCMU);
        }
        scene.assert_hear(CALLER, CAROL);
        assert!(scene.media.bridged.keys().all(|port| port.thread() != 7));
        scene.hangs_up(CAROL);
        scene.assert_over();
    }
}

#[test]
fn an_attended_transfer_takes_both_off_hold() {
    let (mut scene, first, second, _) = consulting(true);
    for phone in [CALLER, CAROL] {
        scene.phones[phone].on_offer = OnOffer::Accept(LISTENING);
    }
    for dialog in scene.phones[DESK].endpoint_dialogs() {
        scene.phones[DESK].dialog = Some(dialog);
        scene.offer(DESK, HOLD);
        scene.settle();
    }
    for phone in [CALLER, CAROL] {
        scene.phones[phone].on_offer = OnOffer::Accept(PCMU);
    }
    scene.with_calls(|calls, switch| calls.join(switch, first, second, None)).unwrap();
    scene.settle();
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CALLER);
    let _refer = scene.refers.pop();
    scene.assert_over();
}

#[test]
fn an_attended_transfer_to_one_who_still_rings_goes_on_ringing() {
    let (mut scene, first, second, report) = consulting(false);
    scene.with_calls(|calls, switch| calls.join(switch, first, second, Some(report))).unwrap();
    scene.settle();
    assert_eq!(scene.count(SWITCH, DESK, "487 INVITE"), 1);
    assert_eq!((scene.count(SWITCH, CAROL, "CANCEL"), scene.count(SWITCH, CAROL, "INVITE")), (0, 1));
    scene.rings(CAROL);
    scene.answers(CAROL, PCMU);
    assert_eq!(scene.told(DESK), ["100 Trying", "180 Ringing", "200 OK"]);
    scene.assert_hear(CALLER, CAROL);
    assert_eq!(scene.names(first.0), ["ann", "carol"]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn calls_of_different_users_are_not_joined() {
    let (mut scene, (first, _), (second, _), report) = consulting(true);
    let wrong = (first, PartyId::CALLER);
    let result = scene.with_calls(|calls, switch| calls.join(switch, wrong, (second, PartyId::CALLER), Some(report)));
    assert_eq!(result, Err(Refusal::NotYours));
    scene.settle();
    assert_eq!(scene.count(SWITCH, DESK, "403 REFER"), 1);
    let same = (first, PartyId::CALLEE);
    assert_eq!(scene.with_calls(|calls, switch| calls.join(switch, same, same, None)), Err(Refusal::NotTalking));
    let gone = (Id(7), PartyId::CALLER);
    assert_eq!(scene.with_calls(|calls, switch| calls.join(switch, same, gone, None)), Err(Refusal::NoCall));
    scene.give_up_all();
    scene.assert_over();
}

// ---- take-over

#[test]
fn another_device_of_the_user_takes_the_call_over() {
    for (phone, caller, stays) in [(DESK, "bob", CALLER), (CALLER, "ann", DESK)] {
        let mut scene = Scene::house();
        let dialog = scene.switch_dialog(phone);
        let place = scene.calls.place_of(dialog, caller, |_| false).expect("it is theirs");
        scene.place = Some(place);
        scene.place_from(MOBILE, (caller, "anybody"), PCMU);
        scene.settle();
        assert_eq!(scene.refusal, None);
        scene.advance(HEARD);
        assert_eq!((scene.count(SWITCH, phone, "BYE"), scene.count(SWITCH, MOBILE, "200 INVITE")), (1, 1));
        assert_eq!(scene.count(SWITCH, stays, "INVITE"), usize::from(stays == DESK), "the other side is asked nothing");
        scene.assert_hear(stays, MOBILE);
        let id = scene.call();
        assert_eq!(scene.names(id), ["ann", "bob"]);
        scene.bye(MOBILE);
        scene.assert_over();
    }
}

#[test]
fn a_device_that_takes_over_without_an_offer_is_made_one() {
    let mut scene = Scene::house();
    scene.place = Some(Place::Own(scene.call(), PartyId::CALLEE));
    scene.place_from(MOBILE, ("bob", "anybody"), "");
    scene.settle();
    assert_eq!(scene.refusal, None);
    assert!(scene.body(SWITCH, MOBILE, "200 INVITE").contains("m=audio "));
    scene.advance(HEARD);
    assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.count(SWITCH, CALLER, "INVITE")), (1, 0));
    scene.assert_hear(CALLER, MOBILE);
    scene.bye(MOBILE);
    scene.assert_over();
}

#[test]
fn a_device_that_takes_over_and_does_not_answer_our_offer_has_no_call() {
    for answers in [true, false] {
        let mut scene = Scene::house();
        scene.phones[MOBILE].acknowledges = answers;
        scene.phones[MOBILE].late_answer = "m=audio 0 RTP/AVP 0\r\n";
        scene.place = Some(Place::Own(scene.call(), PartyId::CALLEE));
        scene.place_from(MOBILE, ("bob", "anybody"), "");
        scene.settle();
        scene.advance(Duration::from_secs(40));
        assert_eq!((scene.count(SWITCH, MOBILE, "BYE"), scene.count(SWITCH, DESK, "BYE")), (1, 0));
        scene.assert_hear(CALLER, DESK);
        scene.bye(CALLER);
        scene.assert_over();
    }
}

#[test]
fn only_the_user_takes_over_what_is_theirs() {
    let scene = Scene::house();
    let (desk, ann) = (scene.switch_dialog(DESK), scene.switch_dialog(CALLER));
    assert_eq!(scene.calls.place_of(desk, "bob", |_| false), Ok(Place::Own(scene.call(), PartyId::CALLEE)));
    assert_eq!(scene.calls.place_of(desk, "carol", |_| true), Err(Refusal::NotYours), "a call that is answered is not picked up");
    assert_eq!(scene.calls.place_of(ann, "bob", |_| true), Err(Refusal::NotYours));
}

#[test]
fn a_take_over_that_cannot_be_leaves_the_call_as_it_was() {
    let mut scene = Scene::house();
    let id = scene.call();
    scene.place = Some(Place::Own(id, PartyId::CALLEE));
    scene.place_from(MOBILE, ("bob", "anybody"), "m=audio 4000 TCP/MRCP 0\r\n");
    scene.settle();
    assert_eq!((scene.refusal, scene.count(SWITCH, MOBILE, "488 INVITE")), (Some(Refusal::NotTaken), 1));
    scene.place = Some(Place::Own(id, PartyId::CALLEE));
    scene.place_from(MOBILE, ("carol", "anybody"), PCMU);
    scene.settle();
    assert_eq!((scene.refusal, scene.count(SWITCH, MOBILE, "403 INVITE")), (Some(Refusal::NotYours), 1));
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

// ---- pickup

#[test]
fn a_colleague_answers_what_rings_elsewhere() {
    let mut scene = Scene::ringing();
    let dialog = scene.switch_dialog(DESK);
    assert_eq!(scene.calls.place_of(dialog, "carol", |_| false), Err(Refusal::NotYours), "not without the right");
    let place = scene.calls.place_of(dialog, "carol", |whom| whom == "bob").unwrap();
    assert_eq!(scene.calls.ringing_at(|whom| whom == "bob"), Some(place));
    assert_eq!(scene.calls.ringing_at(|whom| whom == "ann"), None);
    scene.place = Some(place);
    scene.place_from(CAROL, ("carol", "bob"), PCMU);
    scene.settle();
    assert_eq!(scene.refusal, None);
    let Message::Request(cancel) = scene.last(SWITCH, DESK, "CANCEL") else { unreachable!("CANCEL is a request") };
    assert!(cancel.headers.get_text(Name::Reason).unwrap().contains("completed elsewhere"));
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 1);
    scene.assert_hear(CALLER, CAROL);
    let id = scene.call();
    assert_eq!(scene.names(id), ["ann", "carol"]);
    let view = scene.calls.view(id).unwrap();
    assert_eq!((view.state, view.constructed.clone()), (State::Connected, Constructed::PickedUp(Who::User("carol".into()))));
    assert_eq!(scene.calls.views_of("bob").count(), 0);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_pickup_with_other_media_leaves_it_ringing() {
    let mut scene = Scene::ringing();
    let place = scene.calls.ringing_at(|_| true);
    scene.place = place;
    scene.place_from(CAROL, ("carol", "bob"), "m=video 4000 RTP/AVP 31\r\n");
    scene.settle();
    assert_eq!(scene.count(SWITCH, CAROL, "488 INVITE"), 1);
    // where no media port is free, it is the switch's fault, and passes
    (scene.place, scene.media.left) = (place, Some(0));
    scene.place_from(CAROL, ("carol", "bob"), PCMU);
    scene.settle();
    assert_eq!((scene.refusal, scene.count(SWITCH, CAROL, "503 INVITE")), (Some(Refusal::NoPorts), 1));
    let Message::Response(refused) = scene.last(SWITCH, CAROL, "503 INVITE") else { unreachable!("503 is a response") };
    assert!(refused.headers.get(Name::RetryAfter).is_some());
    scene.media.left = None;
    scene.answers(DESK, PCMU);
    scene.assert_hear(CALLER, DESK);
    scene.place = place;
    scene.place_from(CAROL, ("carol", "bob"), PCMU);
    scene.settle();
    assert_eq!(scene.refusal, Some(Refusal::NoCall), "it was answered meanwhile");
    scene.bye(CALLER);
    scene.assert_over();
}

/// What the caller and who picks up say, the phone that is made another offer, and what it says to that.
type Lateness = (&'static str, &'static str, Option<usize>);

#[test]
fn a_pickup_needs_an_offer_of_neither_side() {
    let cases: [Lateness; 5] = [("", PCMU, None), (PCMU, "", None), ("", "", None), ("", BOTH, Some(CAROL)), (BOTH, "", Some(CALLER))];
    for (caller, entrant, asked) in cases {
        let mut scene = Scene::ringing_with(caller);
        for phone in [CALLER, CAROL] {
            scene.phones[phone].late_answer = if asked.is_some() { PCMA } else { PCMU };
            scene.phones[phone].on_offer = OnOffer::Accept(PCMA);
        }
        scene.place = scene.calls.ringing_at(|whom| whom == "bob");
        scene.place_from(CAROL, ("carol", "bob"), entrant);
        scene.settle();
        assert_eq!((scene.refusal, scene.count(SWITCH, DESK, "CANCEL")), (None, 1), "{caller:?} {entrant:?}");
        scene.assert_hear(CALLER, CAROL);
        let offers = [CALLER, CAROL].map(|phone| scene.count(SWITCH, phone, "INVITE"));
        assert_eq!(offers, [CALLER, CAROL].map(|phone| usize::from(asked == Some(phone))), "{caller:?} {entrant:?}");
        // It is a plain call: what one side offers is passed to the other.
        scene.phones[CAROL].on_offer = OnOffer::Accept(PCMU);
        assert!(scene.offer(CALLER, HOLD));
        scene.settle();
        assert!(scene.body(SWITCH, CAROL, "INVITE").contains("a=sendonly"), "{caller:?} {entrant:?}");
        scene.hangs_up(CAROL);
        scene.assert_over();
    }
}

#[test]
fn a_pickup_follows_early_media() {
    for entrant in [PCMU, ""] {
        let mut scene = Scene::ringing();
        scene.progress(DESK, StatusCode::SESSION_PROGRESS, PCMU);
        scene.settle();
        assert_eq!(scene.media.bridged.len(), 2, "ann hears bob's phone");
        scene.place = scene.calls.ringing_at(|whom| whom == "bob");
        scene.place_from(CAROL, ("carol", "bob"), entrant);
        scene.settle();
        assert_eq!(scene.refusal, None, "{entrant:?}");
        scene.assert_hear(CALLER, CAROL);
        scene.hangs_up(CAROL);
        scene.assert_over();
    }
}

#[test]
fn a_pickup_whose_late_offer_is_not_answered_ends() {
    let ends: [fn(&mut Scene); 2] =
        [|scene| scene.phones[CALLER].late_answer = "m=audio 4000 RTP/AVP 18\r\n", |scene| scene.phones[CALLER].acknowledges = false];
    for end in ends {
        let mut scene = Scene::ringing_with("");
        end(&mut scene);
        scene.place = scene.calls.ringing_at(|whom| whom == "bob");
        scene.place_from(CAROL, ("carol", "bob"), PCMU);
        scene.settle();
        scene.advance(Duration::from_secs(40));
        assert_eq!(scene.count(SWITCH, CAROL, "BYE"), 1);
        scene.phones[CALLER].acknowledges = true;
        scene.give_up_all();
        scene.assert_over();
    }
}

// ---- park

#[test]
fn a_parked_call_waits_with_music_until_somebody_takes_it() {
    let mut scene = Scene::house();
    assert_eq!(scene.park(DESK, None), Ok(1));
    assert_eq!(scene.told(DESK).last().map(String::as_str), Some("200 OK"));
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 1);
    let id = scene.call();
    let view = scene.calls.view(id).unwrap();
    assert_eq!((view.state, view.slot, scene.names(id)), (State::Parked, Some(1), vec!["ann".to_owned()]));
    let members = scene.media.arranged.values().next().expect("a bridge").clone();
    assert!(matches!(&members[..], [one] if one.plays.is_some()), "{members:?}");
    scene.place = scene.calls.in_slot(1).map(Place::Slot);
    scene.place_from(CAROL, ("carol", "*711"), PCMU);
    scene.settle();
    scene.assert_hear(CALLER, CAROL);
    assert_eq!((scene.calls.in_slot(1), scene.names(id)), (None, vec!["ann".to_owned(), "carol".to_owned()]));
    assert_eq!(scene.calls.view(id).unwrap().state, State::Connected);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_parked_call_is_taken_by_a_phone_that_makes_no_offer() {
    let mut scene = Scene::house();
    assert_eq!(scene.park(DESK, None), Ok(1));
    scene.place = scene.calls.in_slot(1).map(Place::Slot);
    scene.place_from(CAROL, ("carol", "*711"), "");
    scene.settle();
    assert_eq!(scene.refusal, None);
    scene.assert_hear(CALLER, CAROL);
    assert!(scene.directions().iter().all(|direction| direction == "SendRecv"), "{:?}", scene.directions());
    assert_eq!(scene.directions().len(), 2);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_user_takes_so_many_slots_and_no_more() {
    // S11
    let mut scene = Scene::new(3);
    scene.targets = vec![DESK];
    let call = |scene: &mut Scene, desk: usize| {
        scene.targets = vec![desk];
        scene.place_from(DAVE, ("dave", if desk == DESK { "bob" } else { "carol" }), PCMU);
        scene.settle();
        scene.accept(desk, PCMU);
        scene.settle();
        scene.park(desk, None)
    };
    for _ in 0..Calls::SLOTS_OF_ONE {
        assert!(call(&mut scene, DESK).is_ok());
    }
    assert_eq!(call(&mut scene, DESK), Err(Refusal::TooManyParked));
    assert!(call(&mut scene, CAROL).is_ok(), "there are more for others");
}

#[test]
fn a_slot_holds_one_call_and_is_free_when_the_call_ends() {
    let mut scene = Scene::house();
    for slot in [0, Calls::SLOTS + 1] {
        assert_eq!(scene.park(DESK, Some(slot)), Err(Refusal::NoSlot));
    }
    assert_eq!(scene.count(SWITCH, DESK, "404 REFER"), 2);
    assert_eq!(scene.park(DESK, Some(7)), Ok(7));
    scene.targets = vec![CAROL];
    scene.place_from(DAVE, ("dave", "carol"), PCMU);
    scene.settle();
    scene.answers(CAROL, PCMU);
    assert_eq!(scene.park(CAROL, Some(7)), Err(Refusal::SlotTaken));
    assert_eq!(scene.count(SWITCH, CAROL, "486 REFER"), 1);
    scene.hangs_up(CALLER);
    assert_eq!(scene.calls.in_slot(7), None);
    assert_eq!(scene.park(CAROL, Some(7)), Ok(7));
    scene.bye(DAVE);
    scene.assert_over();
}

#[test]
fn a_parked_call_returns_to_the_one_who_parked_it() {
    let mut scene = Scene::house();
    scene.park(DESK, None).unwrap();
    scene.advance(PARK);
    scene.recall(Some(DESK));
    assert_eq!(scene.calls.in_slot(1), Some(scene.call()), "it is there until he answers");
    scene.answers(DESK, PCMU);
    scene.assert_hear(CALLER, DESK);
    assert_eq!(scene.calls.in_slot(1), None);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn a_parked_call_is_taken_while_it_returns() {
    let mut scene = Scene::house();
    scene.park(DESK, None).unwrap();
    scene.advance(PARK);
    scene.recall(Some(DESK));
    scene.rings(DESK);
    scene.place = scene.calls.in_slot(1).map(Place::Slot);
    scene.place_from(CAROL, ("carol", "*711"), PCMU);
    scene.settle();
    assert_eq!(scene.count(SWITCH, DESK, "CANCEL"), 1);
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_parked_call_that_nobody_wants_ends() {
    let mut scene = Scene::house();
    scene.park(DESK, None).unwrap();
    for round in 0..3 {
        scene.advance(PARK);
        scene.recall((round != 1).then_some(DESK));
        scene.advance(if round == 1 { Duration::ZERO } else { NO_ANSWER });
        assert_eq!(scene.count(SWITCH, CALLER, "BYE"), 0, "round {round}");
    }
    scene.advance(PARK);
    assert_eq!(scene.count(SWITCH, CALLER, "BYE"), 1);
    scene.assert_over();
}

#[test]
fn a_parked_party_may_hang_up_and_refresh() {
    let mut scene = Scene::house();
    scene.park(DESK, None).unwrap();
    scene.offer(CALLER, PCMU);
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 2);
    scene.hangs_up(CALLER);
    assert_eq!(scene.calls.in_slot(1), None);
    assert!(scene.phones[CALLER].events.iter().any(|(_, event)| matches!(event, DialogEvent::Ended { .. })));
    scene.assert_over();
}
