//! A person's media goes from device to device in mid-call: moves, splits, both at once, and all that can go wrong with them.

use std::time::Duration;

use media::sdp::MediaKind;
use media::{Kinds, PortId};
use sip::StatusCode;

use super::scene::*;
use crate::call::command::{Answer, Command, Refusal};
use crate::call::handoff::LINGER;
use crate::call::party::PartyId;
use crate::call::record::EndedBy;
use crate::device;

const NONE: Kinds = Kinds::NONE;
const AUDIO: Kinds = Kinds::AUDIO;
const VIDEO: Kinds = Kinds::VIDEO;
const BOTH: Kinds = Kinds::BOTH;
/// Another device of the caller.
const TABLET: usize = 4;
const CALLEE: PartyId = PartyId(1);

/// The callee's media is on its way to the mobile, which has answered and is not heard yet.
fn overlapping(kinds: Kinds, call: &str, answer: &str) -> Scene {
    let mut scene = Scene::talking_with(3, call);
    assert!(matches!(scene.hand_over(1, kinds, MOBILE), Ok(Answer::Pending(_))));
    scene.answers(MOBILE, answer);
    scene
}

#[track_caller]
fn assert_desk_only(scene: &Scene, refusal: Refusal) {
    scene.assert_outcomes(&[Err(refusal)]);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, AUDIO, AUDIO)]);
    assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.count(SWITCH, CALLER, "INVITE")), (0, 0));
    scene.assert_talking();
}

#[test]
fn a_call_moves_to_the_mobile_and_the_far_end_is_told_nothing() {
    let mut scene = overlapping(BOTH, BOTH_CODECS, PCMU);
    assert!(scene.body(SWITCH, MOBILE, "INVITE").contains("m=audio 20006 RTP/AVP 0 8"), "{}", scene.body(SWITCH, MOBILE, "INVITE"));
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    let until: Vec<_> = scene.media.arranged.values().flatten().map(|member| (member.party, member.until.is_some())).collect();
    assert_eq!(until, [(0, false), (1, true), (1, false)]);
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 0, "make before break");
    assert!(scene.outcomes.is_empty());
    scene.begin_to_hear(MediaKind::Audio);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, Kinds::NONE, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    assert_eq!(scene.count(SWITCH, DESK, "BYE"), 0, "it plays on while the other's jitter buffer fills");
    scene.advance(LINGER);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.count(SWITCH, CALLER, "INVITE")), (1, 0));
    scene.assert_outcomes(&[Ok(())]);
    scene.assert_talking();
    // It is a plain call again: what one side offers is passed to the other.
    scene.offer(CALLER, HOLD);
    scene.settle();
    assert!(scene.body(SWITCH, MOBILE, "INVITE").contains("a=sendonly"));
    scene.bye(MOBILE);
    scene.assert_over();
    let record = scene.record();
    assert_eq!((record.ended_by, record.moves.len(), record.media.len()), (EndedBy::Callee, 1, 3));
    let moved = &record.moves[0];
    assert_eq!((&*moved.party, &*moved.from[0], &*moved.to), ("bob@h", "sip:bob@10.0.0.3", "sip:bob@10.0.0.4"));
}

const BOTH_CODECS: &str = super::scene::BOTH;

#[test]
fn a_call_moves_to_and_fro_twenty_times() {
    let mut scene = Scene::talking_with(3, PCMU);
    for round in 0..20 {
        let to = if round % 2 == 0 { MOBILE } else { DESK };
        scene.hand_over(1, BOTH, to).unwrap();
        scene.answers(to, PCMU);
        scene.hear(MediaKind::Audio);
        assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (to, AUDIO, AUDIO)]);
        scene.advance(Duration::from_secs(1));
    }
    assert_eq!((scene.outcomes.len(), scene.count(SWITCH, CALLER, "INVITE")), (20, 0));
    scene.bye(CALLER);
    scene.assert_over();
    assert_eq!(scene.record().moves.len(), 20);
}

#[test]
fn a_device_that_is_never_heard_has_the_call_after_a_while() {
    let mut scene = overlapping(BOTH, PCMU, PCMU);
    scene.advance(Duration::from_millis(2900));
    assert!(scene.outcomes.is_empty());
    scene.advance(Duration::from_millis(200));
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_device_that_refuses_leaves_the_call_where_it_was_and_says_why() {
    let cases = [
        (StatusCode::BUSY_HERE, Refusal::Busy),
        (StatusCode::DECLINE, Refusal::Declined),
        (StatusCode::NOT_ACCEPTABLE_HERE, Refusal::NotTaken),
        (StatusCode::SERVICE_UNAVAILABLE, Refusal::Unreachable),
    ];
    for (status, refusal) in cases {
        let mut scene = Scene::talking_with(3, PCMU);
        scene.hand_over(1, BOTH, MOBILE).unwrap();
        scene.refuses(MOBILE, status);
        assert_desk_only(&scene, refusal);
        scene.bye(CALLER);
        scene.assert_over();
        assert!(scene.record().moves.is_empty());
    }
}

#[test]
fn a_device_that_nobody_answers_is_given_up_in_time() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.progress(MOBILE, StatusCode::RINGING, "");
    scene.advance(NO_ANSWER);
    assert_eq!(scene.count(SWITCH, MOBILE, "CANCEL"), 1);
    assert_desk_only(&scene, Refusal::NoAnswer);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn an_answer_that_crosses_our_cancel_does_not_move_the_call() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.rings(MOBILE);
    scene.now += NO_ANSWER;
    scene.tick();
    scene.answers(MOBILE, PCMU);
    assert_eq!((scene.count(SWITCH, MOBILE, "ACK"), scene.count(SWITCH, MOBILE, "BYE")), (1, 1));
    assert_desk_only(&scene, Refusal::NoAnswer);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_dead_device_is_one_that_cannot_be_reached() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.phones[MOBILE].dead = true;
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.advance(Duration::from_secs(33));
    assert_desk_only(&scene, Refusal::Unreachable);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn an_answer_that_cannot_be_used_does_not_move_the_call() {
    let mut scene = overlapping(BOTH, PCMU, "m=video 4000 RTP/AVP 0\r\n");
    assert_eq!((scene.count(SWITCH, MOBILE, "ACK"), scene.count(SWITCH, MOBILE, "BYE")), (1, 1));
    assert_desk_only(&scene, Refusal::NotTaken);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_device_is_offered_media_otherwise_when_it_refuses_like_one_that_rings() {
    use media::sdp::transport::Profile;
    let mut scene = Scene::talking_with(3, PCMU);
    scene.profiles = vec![Profile::Plain, Profile::Sdes];
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.refuses(MOBILE, StatusCode::NOT_ACCEPTABLE_HERE);
    assert_eq!(scene.count(SWITCH, MOBILE, "INVITE"), 2);
    assert!(scene.body(SWITCH, MOBILE, "INVITE").contains("RTP/SAVP"));
    scene.advance(Duration::from_secs(4));
    assert_desk_only(&scene, Refusal::NotTaken);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn whoever_hangs_up_while_the_device_rings_is_heeded() {
    for leaving in [CALLER, DESK] {
        let mut scene = Scene::talking_with(3, PCMU);
        scene.hand_over(1, BOTH, MOBILE).unwrap();
        scene.rings(MOBILE);
        scene.hangs_up(leaving);
        assert_eq!(scene.count(SWITCH, MOBILE, "CANCEL"), 1);
        scene.assert_outcomes(&[Err(Refusal::CallOver)]);
        scene.assert_over();
    }
}

#[test]
fn whoever_hangs_up_while_both_devices_are_in_is_heeded() {
    // The far end: the call is over. The old device: the move is done. The new one: the call stays.
    let mut scene = overlapping(BOTH, PCMU, PCMU);
    scene.hangs_up(CALLER);
    assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.count(SWITCH, MOBILE, "BYE")), (1, 1));
    scene.assert_outcomes(&[Err(Refusal::CallOver)]);
    scene.assert_over();

    let mut scene = overlapping(BOTH, PCMU, PCMU);
    scene.hangs_up(DESK);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    scene.bye(CALLER);
    scene.assert_over();

    let mut scene = overlapping(BOTH, PCMU, PCMU);
    scene.hangs_up(MOBILE);
    assert_desk_only(&scene, Refusal::TargetGone);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_device_that_loses_its_network_while_the_other_rings_does_not_end_the_call() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.phones[DESK].dead = true;
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.progress(MOBILE, StatusCode::RINGING, "");
    scene.offer(CALLER, HOLD); // nobody answers it: the desk phone is found gone
    scene.advance(Duration::from_secs(40));
    assert_eq!(scene.carried().iter().map(|(phone, ..)| *phone).collect::<Vec<_>>(), [CALLER, MOBILE]);
    scene.answers(MOBILE, PCMU);
    scene.assert_outcomes(&[Ok(())]);
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();

    let mut scene = Scene::talking_with(3, PCMU);
    scene.phones[DESK].dead = true;
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.progress(MOBILE, StatusCode::RINGING, "");
    scene.offer(CALLER, HOLD);
    scene.advance(Duration::from_secs(70));
    scene.assert_outcomes(&[Err(Refusal::NoAnswer)]);
    assert_eq!((scene.count(SWITCH, CALLER, "BYE"), scene.record().ended_by), (1, EndedBy::Lost));
    scene.assert_over();
}

#[test]
fn both_sides_move_at_the_same_instant() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.hand_over(0, BOTH, TABLET).unwrap();
    scene.accept(MOBILE, PCMU);
    scene.answers(TABLET, PCMU);
    assert_eq!(scene.carried().len(), 4);
    scene.hear(MediaKind::Audio);
    assert_eq!(scene.outcomes.iter().map(|(_, result)| *result).collect::<Vec<_>>(), [Ok(()), Ok(())]);
    assert_eq!(scene.carried(), [(TABLET, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    scene.assert_talking();
    scene.bye(TABLET);
    scene.assert_over();
}

#[test]
fn one_move_of_a_party_at_a_time() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    assert_eq!(scene.hand_over(1, BOTH, TABLET), Err(Refusal::UnderWay));
    scene.refuses(MOBILE, StatusCode::BUSY_HERE);
    assert_eq!(scene.hand_over(1, BOTH, DESK), Err(Refusal::Same));
    let mut nowhere = scene.target(TABLET);
    nowhere.hops.clear();
    let call = scene.call();
    assert_eq!(scene.command(Command::Move { call, party: CALLEE, kinds: BOTH, target: nowhere.clone() }), Err(Refusal::NoWay));
    assert_eq!(scene.command(Command::Move { call, party: PartyId(7), kinds: BOTH, target: nowhere }), Err(Refusal::NoParty));
    scene.bye(CALLER);
    scene.assert_over();
    let target = scene.target(MOBILE);
    assert_eq!(scene.command(Command::Move { call, party: CALLEE, kinds: BOTH, target }), Err(Refusal::NoCall));
}

/// The desk phone carries audio, the mobile video.
fn split() -> Scene {
    let mut scene = overlapping(VIDEO, FILM, PICTURE);
    assert!(!scene.body(SWITCH, MOBILE, "INVITE").contains("m=audio"));
    scene.phones[DESK].on_offer = OnOffer::Accept(NO_PICTURE);
    scene.hear(MediaKind::Video);
    scene.assert_outcomes(&[Ok(())]);
    scene.outcomes.clear();
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (DESK, AUDIO, AUDIO), (MOBILE, VIDEO, VIDEO)]);
    assert!(scene.body(SWITCH, DESK, "INVITE").contains("m=video 0 "));
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 0);
    scene
}

#[test]
fn video_goes_to_the_mobile_and_audio_stays() {
    let mut scene = split();
    scene.hangs_up(CALLER);
    assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.count(SWITCH, MOBILE, "BYE")), (1, 1));
    scene.assert_over();
}

#[test]
fn a_split_collapses_to_the_desk_phone() {
    let mut scene = split();
    scene.phones[DESK].on_offer = OnOffer::Accept(FILM);
    scene.hand_over(1, BOTH, DESK).unwrap();
    scene.hear(MediaKind::Video);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (DESK, BOTH, BOTH)]);
    assert_eq!((scene.count(SWITCH, MOBILE, "BYE"), scene.count(SWITCH, CALLER, "INVITE")), (1, 0));
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn a_split_turns_round_by_two_moves() {
    let mut scene = split();
    let (call, audio, video) = (scene.call(), scene.target(MOBILE), scene.target(DESK));
    scene.phones[DESK].on_offer = OnOffer::Accept(NO_SOUND);
    scene.phones[MOBILE].on_offer = OnOffer::Accept("m=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\nm=audio 4000 RTP/AVP 0\r\n");
    let (again_audio, again_video) = (audio.clone(), video.clone());
    assert!(matches!(scene.command(Command::Split { call, party: CALLEE, audio, video }), Ok(Answer::Pending(_))));
    scene.settle();
    // The desk phone is there with its audio until the mobile is heard; then it has nothing left, leaves, and is called for the video.
    scene.hear(MediaKind::Audio);
    assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.outcomes.len()), (1, 0));
    scene.phones[MOBILE].on_offer = OnOffer::Accept("m=video 0 RTP/AVP 97\r\nm=audio 4000 RTP/AVP 0\r\n");
    scene.answers(DESK, PICTURE);
    scene.hear(MediaKind::Video);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (MOBILE, AUDIO, AUDIO), (DESK, VIDEO, VIDEO)]);
    assert_eq!(scene.command(Command::Split { call, party: CALLEE, audio: again_audio, video: again_video }), Err(Refusal::Same));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn what_the_desk_phone_of_a_split_carried_goes_to_the_mobile_when_it_hangs_up() {
    let mut scene = split();
    scene.phones[MOBILE].on_offer = OnOffer::Accept("m=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\nm=audio 4000 RTP/AVP 0\r\n");
    scene.hangs_up(DESK);
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (MOBILE, BOTH, BOTH)]);
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 0);
    scene.hangs_up(MOBILE);
    assert_eq!(scene.count(SWITCH, CALLER, "BYE"), 1, "the last device");
    scene.assert_over();
}

#[test]
fn what_the_other_device_cannot_carry_is_gone() {
    let mut scene = split();
    scene.phones[DESK].on_offer = OnOffer::Accept(NO_PICTURE);
    scene.phones[CALLER].on_offer = OnOffer::Accept(NO_PICTURE);
    let (call, device) = (scene.call(), device::Id::named("phone3"));
    assert_eq!(scene.command(Command::Leave { call, party: CALLEE, device: device.clone() }), Ok(Answer::Done));
    scene.settle();
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, AUDIO, AUDIO)]);
    assert!(scene.body(SWITCH, CALLER, "INVITE").contains("m=video 0 "));
    assert_eq!(scene.command(Command::Leave { call, party: CALLEE, device }), Err(Refusal::NoDevice));
    let device = device::Id::named("phone2");
    assert_eq!(scene.command(Command::Leave { call, party: CALLEE, device }), Err(Refusal::LastDevice));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn video_joins_a_call_that_had_none() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.phones[CALLER].on_offer = OnOffer::Accept(FILM);
    scene.hand_over(1, VIDEO, MOBILE).unwrap();
    assert!(scene.body(SWITCH, MOBILE, "INVITE").contains("H264/90000"));
    scene.answers(MOBILE, PICTURE);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (DESK, AUDIO, AUDIO), (MOBILE, VIDEO, VIDEO)]);
    assert_eq!((scene.count(SWITCH, CALLER, "INVITE"), scene.count(SWITCH, DESK, "INVITE")), (1, 1), "the desk phone rang once");
    scene.bye(CALLER);
    scene.assert_over();
}

macro_rules! browser {
    ($setup:literal) => {
        concat!(
            "a=group:BUNDLE 0 1\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:",
            $setup,
            "\r\na=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n",
            "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=rtcp-mux\r\n",
            "m=video 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:1\r\na=rtcp-mux\r\na=rtpmap:97 H264/90000\r\n"
        )
    };
}

/// What a browser whose camera runs has in its video line.
#[track_caller]
fn line_of_video(body: &str) -> (bool, bool) {
    let line = body.split("m=video ").nth(1).expect("a video line");
    (!line.starts_with("0 "), line.contains("a=inactive"))
}

#[test]
fn a_browser_whose_video_the_other_side_does_not_take_keeps_its_camera() {
    let mut scene = Scene::new(2);
    scene.targets.truncate(1);
    scene.place(browser!("actpass"));
    scene.settle();
    scene.answers(DESK, NO_PICTURE);
    assert_eq!(line_of_video(&scene.body(SWITCH, CALLER, "200 INVITE")), (true, true), "it stays, and rests");
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, AUDIO, AUDIO)]);
    // A refresh from the browser, hold from the desk phone, and the browser's next offer after that.
    scene.offer(CALLER, browser!("actpass"));
    scene.settle();
    assert_eq!(line_of_video(&scene.body(SWITCH, CALLER, "200 INVITE")), (true, true));
    assert_eq!(scene.count(SWITCH, DESK, "INVITE"), 1, "a refresh is the browser's own affair");
    scene.phones[CALLER].on_offer = OnOffer::Accept(browser!("passive"));
    for hold in ["m=audio 4000 RTP/AVP 0\r\na=sendonly\r\nm=video 0 RTP/AVP 97\r\n", NO_PICTURE] {
        scene.offer(DESK, hold);
        scene.settle();
        assert_eq!(line_of_video(&scene.body(SWITCH, CALLER, "INVITE")), (true, true));
    }
    scene.phones[DESK].on_offer = OnOffer::Accept(NO_PICTURE);
    scene.offer(CALLER, browser!("actpass"));
    scene.settle();
    assert_eq!(line_of_video(&scene.body(SWITCH, CALLER, "200 INVITE")), (true, true));
    // Video by name wakes the line again.
    scene.hand_over(1, VIDEO, MOBILE).unwrap();
    scene.answers(MOBILE, PICTURE);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(line_of_video(&scene.body(SWITCH, CALLER, "INVITE")), (true, false));
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (DESK, AUDIO, AUDIO), (MOBILE, VIDEO, VIDEO)]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_whole_move_offers_no_video_that_rests() {
    let mut scene = Scene::new(2);
    scene.targets.truncate(1);
    scene.place(browser!("actpass"));
    scene.settle();
    scene.answers(DESK, NO_PICTURE);
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    assert!(!scene.body(SWITCH, MOBILE, "INVITE").contains("m=video"));
    scene.answers(MOBILE, PCMU);
    scene.hear(MediaKind::Audio);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 0);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn video_that_the_far_end_does_not_take_joins_nothing() {
    for answer in [OnOffer::Accept(NO_PICTURE), OnOffer::Refuse(StatusCode::NOT_ACCEPTABLE_HERE)] {
        let mut scene = Scene::talking_with(3, PCMU);
        scene.phones[CALLER].on_offer = answer;
        scene.hand_over(1, VIDEO, MOBILE).unwrap();
        scene.answers(MOBILE, PICTURE);
        scene.assert_outcomes(&[Err(Refusal::NotTaken)]);
        assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, AUDIO, AUDIO)]);
        assert_eq!(scene.count(SWITCH, MOBILE, "BYE"), 1);
        scene.bye(CALLER);
        scene.assert_over();
    }
}

#[test]
fn video_joins_on_the_device_that_has_the_call() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.phones[CALLER].on_offer = OnOffer::Accept(FILM);
    scene.phones[DESK].on_offer = OnOffer::Accept(FILM);
    scene.hand_over(1, VIDEO, DESK).unwrap();
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (DESK, BOTH, BOTH)]);
    scene.bye(CALLER);
    scene.assert_over();

    let mut scene = Scene::talking_with(3, PCMU);
    scene.phones[DESK].on_offer = OnOffer::Accept(NO_PICTURE);
    scene.hand_over(1, VIDEO, DESK).unwrap();
    assert_desk_only_after_an_offer(&scene);
    scene.bye(CALLER);
    scene.assert_over();
}

#[track_caller]
fn assert_desk_only_after_an_offer(scene: &Scene) {
    assert_desk_only(scene, Refusal::NotTaken);
    assert_eq!(scene.count(SWITCH, DESK, "INVITE"), 2);
}

#[test]
fn a_far_end_that_offers_at_the_same_time_is_asked_again() {
    let mut scene = Scene::talking_with(3, PCMU);
    scene.phones[CALLER].on_offer = OnOffer::Wait;
    scene.hand_over(1, VIDEO, MOBILE).unwrap();
    scene.answers(MOBILE, PICTURE);
    scene.refuses(CALLER, StatusCode::REQUEST_PENDING);
    assert!(scene.outcomes.is_empty());
    scene.phones[CALLER].on_offer = OnOffer::Accept(FILM);
    scene.advance(Duration::from_secs(4));
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, BOTH, BOTH), (DESK, AUDIO, AUDIO), (MOBILE, VIDEO, VIDEO)]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_whole_move_to_a_phone_without_video_takes_the_picture_away() {
    let mut scene = overlapping(BOTH, FILM, NO_PICTURE);
    scene.phones[CALLER].on_offer = OnOffer::Accept(NO_PICTURE);
    scene.hear(MediaKind::Audio);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    assert!(scene.body(SWITCH, CALLER, "INVITE").contains("m=video 0 "));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_far_end_changes_its_codec_only_when_the_new_device_has_another() {
    let mut scene = Scene::talking_with(3, BOTH_CODECS);
    scene.phones[CALLER].on_offer = OnOffer::Accept(PCMA);
    scene.hand_over(1, BOTH, MOBILE).unwrap();
    scene.answers(MOBILE, PCMA);
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 1);
    assert!(scene.body(SWITCH, CALLER, "INVITE").contains("RTP/AVP 8 "));
    scene.hear(MediaKind::Audio);
    scene.assert_outcomes(&[Ok(())]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn both_devices_of_a_person_are_in_the_call_at_once() {
    let mut scene = Scene::talking_with(3, PCMU);
    let (call, target) = (scene.call(), scene.target(MOBILE));
    assert!(matches!(scene.command(Command::Join { call, party: CALLEE, kinds: BOTH, target }), Ok(Answer::Pending(_))));
    scene.settle();
    scene.answers(MOBILE, PCMU);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    let members: Vec<_> = scene.media.arranged.values().flatten().map(|member| (member.party, member.until)).collect();
    assert_eq!(members, [(0, None), (1, None), (1, None)], "no echo: members of one party do not hear each other");
    // Each leg negotiates with us alone.
    scene.offer(DESK, HOLD);
    scene.settle();
    assert!(scene.body(SWITCH, DESK, "200 INVITE").contains("a=recvonly"));
    assert_eq!((scene.count(SWITCH, CALLER, "INVITE"), scene.count(SWITCH, MOBILE, "INVITE")), (0, 1));
    scene.offer(CALLER, "");
    scene.settle();
    assert_eq!(scene.count(SWITCH, CALLER, "200 INVITE"), 2);
    scene.hangs_up(DESK);
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (MOBILE, AUDIO, AUDIO)]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn an_offer_that_is_being_passed_to_the_device_that_leaves_is_answered() {
    for media in [HOLD, ""] {
        let mut scene = overlapping(BOTH, PCMU, PCMU);
        let mut early = Scene::talking_with(3, PCMU);
        // The far end's offer waits at the desk phone while the mobile takes over.
        early.phones[DESK].on_offer = OnOffer::Wait;
        early.hand_over(1, BOTH, MOBILE).unwrap();
        early.offer(CALLER, media);
        early.settle();
        assert_eq!(early.count(SWITCH, DESK, "INVITE"), 2);
        early.accept(MOBILE, PCMU);
        early.settle();
        early.hear(MediaKind::Audio);
        assert_eq!(early.count(SWITCH, CALLER, "200 INVITE"), 2, "{media:?}");
        early.assert_outcomes(&[Ok(())]);
        early.bye(CALLER);
        early.assert_over();
        // While both are in, the far end's offer is ours to answer.
        scene.offer(CALLER, media);
        scene.settle();
        assert_eq!(
            (scene.count(SWITCH, CALLER, "200 INVITE"), scene.count(SWITCH, DESK, "INVITE")),
            (2, if media == HOLD { 2 } else { 1 })
        );
        assert_eq!(scene.body(SWITCH, DESK, "INVITE").contains("a=sendonly"), media == HOLD, "hold is told leg by leg");
        scene.bye(CALLER);
        scene.assert_over();
    }
}

#[test]
fn who_holds_neither_hears_nor_is_heard_and_the_other_hears_music() {
    let mut scene = Scene::talking_with(3, PCMU);
    let call = scene.call();
    scene.command(Command::Hold { call, party: CALLEE }).unwrap();
    scene.settle();
    let members: Vec<_> =
        scene.media.arranged.values().flatten().map(|member| (member.party, member.gives, member.takes, member.plays.is_some())).collect();
    assert_eq!(members, [(0, BOTH, BOTH, true), (1, NONE, NONE, false)]);
    scene.command(Command::Resume { call, party: CALLEE }).unwrap();
    scene.settle();
    scene.command(Command::Mute { call, party: CALLEE, kinds: AUDIO }).unwrap();
    assert_eq!(scene.carried(), [(CALLER, AUDIO, AUDIO), (DESK, NONE, AUDIO)]);
    scene.command(Command::Mute { call, party: CALLEE, kinds: NONE }).unwrap();
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn digits_go_to_the_other_side_and_nothing_else_does() {
    let mut scene = Scene::talking_with(3, PCMU);
    let call = scene.call();
    scene.command(Command::Digits { call, party: CALLEE, digits: "1#".to_owned() }).unwrap();
    scene.settle();
    let pressed: Vec<char> = scene.media.pressed.iter().map(|(_, letter)| *letter).collect();
    let ports: Vec<PortId> = scene.media.pressed.iter().map(|(port, _)| *port).collect();
    assert_eq!((pressed.as_slice(), ports.as_slice()), (&['1', '#'][..], &[scene.port(CALLER); 2][..]));
    for digits in ["", "1 2", "5\r\nX: y", &"1".repeat(33)] {
        let refused = scene.command(Command::Digits { call, party: CALLEE, digits: digits.to_owned() });
        assert_eq!(refused, Err(Refusal::BadDigits)); // S7
    }
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_party_is_dropped_and_a_call_ended_by_command() {
    let mut scene = Scene::talking_with(3, PCMU);
    let call = scene.call();
    scene.command(Command::Drop { call, party: CALLEE }).unwrap();
    scene.settle();
    assert_eq!((scene.count(SWITCH, CALLER, "BYE"), scene.count(SWITCH, DESK, "BYE")), (1, 1));
    scene.assert_over();
    assert_eq!(scene.record().ended_by, EndedBy::Callee);

    for (party, status, by) in [(PartyId(0), "487 INVITE", EndedBy::Caller), (CALLEE, "603 INVITE", EndedBy::Callee)] {
        let mut scene = Scene::new(1);
        scene.place(PCMU);
        scene.settle();
        let (call, target) = (scene.call(), scene.target(DESK));
        assert_eq!(scene.command(Command::Join { call, party, kinds: BOTH, target }), Err(Refusal::NotAnswered));
        scene.command(Command::Drop { call, party }).unwrap();
        scene.settle();
        assert_eq!(scene.count(SWITCH, CALLER, status), 1);
        scene.refuse(DESK, StatusCode::REQUEST_TERMINATED);
        scene.assert_over();
        assert_eq!(scene.record().ended_by, by);
    }

    let mut scene = Scene::talking_with(3, PCMU);
    let call = scene.call();
    scene.command(Command::End { call, reason: "an administrator ended it".to_owned() }).unwrap();
    scene.settle();
    scene.assert_over();
    assert_eq!((scene.record().ended_by, &*scene.record().reason), (EndedBy::Switch, "an administrator ended it"));
}
