//! What client applications have done with calls: transfer, park, pickup, decline, and calls made for a user; and what goes wrong.

use std::time::Duration;

use media::{Kinds, SoundId};
use sip::StatusCode;
use sip::message::{Headers, Message, Name};

use super::scene::*;
use crate::call::command::{Answer, Command, Ticket};
use crate::call::graph::{Constructed, Standing, State};
use crate::call::make::{Alert, Destination, Make};
use crate::call::party::{PartyId, Who};
use crate::call::record::EndedBy;
use crate::call::refusal::Refusal;
use crate::call::transfer::Referral;
use crate::call::{Id, Target};

const BOB: PartyId = PartyId::CALLEE;

impl Scene {
    fn order(&mut self, command: Command) -> Result<Answer, Refusal> {
        let answer = self.command(command);
        self.settle();
        answer
    }

    fn send_to(&mut self, party: PartyId, user: &str, phones: &[usize]) -> Result<Answer, Refusal> {
        let targets: Vec<Target> = phones.iter().map(|phone| self.target_of(user, *phone)).collect();
        let referral = Box::new(Referral { to: person(user), headers: Headers::default(), targets, report: None });
        let call = self.call();
        self.order(Command::Transfer { call, party, referral })
    }

    fn pick_up(&mut self, user: &str, phone: usize) -> Result<Answer, Refusal> {
        let (call, devices) = (self.call(), vec![self.target_of(user, phone)]);
        self.order(Command::Pickup { call, person: person(user), devices, alert: Alert::Answer })
    }

    /// Ann wants to talk to bob by the phone CALLER.
    fn make(&mut self, media: (Kinds, Option<usize>)) -> (Id, Ticket) {
        let to = Destination::Devices(vec![self.target_of("bob", DESK)]);
        self.make_to(("ann", CALLER), media, ("bob", to)).expect("it is made")
    }

    /// Who is in the call, and where.
    fn standing(&self) -> Vec<(String, Standing)> {
        let view = self.calls.views().next().expect("a call");
        view.parties.iter().map(|party| (party.who.user().expect("a user").to_string(), party.state)).collect()
    }

    /// What each port of the call hears that nobody says.
    fn played(&self) -> Vec<Option<SoundId>> {
        self.media.arranged.values().flatten().map(|member| member.plays).collect()
    }

    /// What came of the only command that took time.
    #[track_caller]
    fn assert_outcome(&self, answer: Result<Answer, Refusal>, expected: Result<(), Refusal>) {
        let Ok(Answer::Pending(ticket)) = answer else { panic!("{answer:?}") };
        assert_eq!(self.outcomes, [(ticket, expected)]);
    }
}

fn header(message: &Message, name: Name) -> String {
    let Message::Request(request) = message else { panic!("no request") };
    request.headers.get_text(name).unwrap_or_default().to_string()
}

fn named(who: &str, state: Standing) -> (String, Standing) {
    (who.to_owned(), state)
}

// ---- transfer

#[test]
fn a_blind_transfer_by_command_is_answered_when_the_target_is() {
    let mut scene = Scene::house();
    let answer = scene.send_to(BOB, "carol", &[CAROL]);
    scene.rings(CAROL);
    assert!(scene.outcomes.is_empty(), "ringing is no answer");
    let bob = named("bob", Standing::Connected);
    assert_eq!(scene.standing(), [named("ann", Standing::Connected), bob, named("carol", Standing::Ringing)]);
    assert_eq!(scene.calls.views_of("carol").count(), 1, "the call rings at her");
    scene.answers(CAROL, PCMU);
    scene.assert_outcome(answer, Ok(()));
    scene.assert_hear(CALLER, CAROL);
    assert_eq!(scene.count(SWITCH, DESK, "NOTIFY"), 0, "bob's phone asked for nothing");
    let call = scene.call();
    assert_eq!(scene.calls.view(call).unwrap().constructed, Constructed::Transferred(Who::User("bob".into())));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_blind_transfer_that_fails_is_told_with_its_reason() {
    for (status, refusal) in [
        (StatusCode::BUSY_HERE, Refusal::Busy),
        (StatusCode::DECLINE, Refusal::Declined),
        (StatusCode::SERVICE_UNAVAILABLE, Refusal::Unreachable),
        (StatusCode::NOT_ACCEPTABLE_HERE, Refusal::NotTaken),
    ] {
        let mut scene = Scene::house();
        let answer = scene.send_to(BOB, "carol", &[CAROL]);
        scene.refuses(CAROL, status);
        scene.assert_outcome(answer, Err(refusal));
        assert_eq!(scene.calls.views_of("carol").count(), 0);
        scene.assert_hear(CALLER, DESK);
        scene.bye(CALLER);
        scene.assert_over();
    }
    let mut scene = Scene::house();
    let answer = scene.send_to(BOB, "carol", &[CAROL]);
    scene.advance(NO_ANSWER);
    scene.assert_outcome(answer, Err(Refusal::NoAnswer));
    let answer = scene.send_to(BOB, "carol", &[CAROL]);
    scene.outcomes.clear();
    scene.hangs_up(CALLER);
    scene.assert_outcome(answer, Err(Refusal::CallOver));
    scene.assert_over();
}

#[test]
fn whoever_a_call_is_sent_to_may_decline_it_by_command() {
    let mut scene = Scene::house();
    let answer = scene.send_to(BOB, "carol", &[CAROL]);
    let (call, party) = (scene.call(), scene.calls.views().next().unwrap().party_of("carol").unwrap().id);
    assert_eq!(scene.order(Command::Decline { call, party, status: StatusCode::BUSY_HERE }), Ok(Answer::Done));
    scene.assert_outcome(answer, Err(Refusal::Busy));
    assert_eq!(scene.count(SWITCH, CAROL, "CANCEL"), 1);
    scene.assert_hear(CALLER, DESK);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn who_waits_hears_the_early_media_of_the_target() {
    let mut scene = Scene::house();
    scene.send_to(BOB, "carol", &[CAROL]).unwrap();
    scene.progress(CAROL, StatusCode::SESSION_PROGRESS, PCMU);
    scene.settle();
    assert_eq!(scene.media.arranged.values().map(Vec::len).collect::<Vec<_>>(), [2], "ann and bob talk");
    scene.hangs_up(DESK);
    assert_eq!(scene.media.bridged.len(), 2, "ann hears carol's phone");
    assert!(scene.media.arranged.values().flatten().all(|member| member.gives.audio && member.takes.audio));
    assert_eq!(scene.played(), [None, None]);
    scene.answers(CAROL, PCMU);
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn who_sent_the_other_one_away_may_hang_up_by_command() {
    let mut scene = Scene::house();
    let answer = scene.send_to(BOB, "carol", &[CAROL]);
    let call = scene.call();
    assert_eq!(scene.order(Command::Drop { call, party: BOB }), Ok(Answer::Done));
    assert_eq!((scene.count(SWITCH, DESK, "BYE"), scene.played()), (1, vec![Some(SoundId::HOLD)]));
    scene.answers(CAROL, PCMU);
    scene.assert_outcome(answer, Ok(()));
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_parked_party_may_be_on_the_move_when_it_is_taken_out() {
    let mut scene = Scene::house();
    let call = scene.call();
    scene.order(Command::Park { call, party: BOB, slot: None }).unwrap();
    let (kinds, target) = (Kinds::BOTH, scene.target_of("ann", DESK));
    let moved = scene.order(Command::Move { call, party: PartyId::CALLER, kinds, target });
    let picked = scene.pick_up("carol", CAROL);
    scene.answers(CAROL, PCMU);
    scene.assert_outcome(picked, Ok(()));
    scene.outcomes.clear();
    scene.answers(DESK, PCMU);
    scene.hear(media::sdp::MediaKind::Audio);
    scene.assert_outcome(moved, Ok(()));
    scene.assert_hear(DESK, CAROL);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn early_media_that_ends_gives_way_to_music() {
    let mut scene = Scene::house();
    scene.send_to(BOB, "carol", &[CAROL, DAVE]).unwrap();
    scene.bye(DESK);
    scene.progress(CAROL, StatusCode::SESSION_PROGRESS, PCMU);
    scene.settle();
    assert_eq!(scene.played(), [None, None]);
    scene.refuses(CAROL, StatusCode::BUSY_HERE);
    assert_eq!(scene.played(), [Some(SoundId::HOLD)]);
    scene.answers(DAVE, PCMU);
    scene.assert_hear(CALLER, DAVE);
    scene.bye(DAVE);
    scene.assert_over();
}

#[test]
fn an_attended_transfer_by_command() {
    for answered in [true, false] {
        let mut scene = Scene::house();
        let first = scene.call();
        scene.targets = vec![CAROL];
        scene.place_from(DESK, ("bob", "carol"), PCMU);
        scene.settle();
        if answered {
            scene.answers(CAROL, PCMU);
        }
        let other = *scene.views.keys().next_back().expect("two calls");
        assert_eq!(scene.order(Command::Connect { call: first, party: BOB, other: Id(7) }), Err(Refusal::NoCall));
        assert_eq!(scene.order(Command::Connect { call: first, party: PartyId::CALLER, other }), Err(Refusal::NotYours));
        let answer = scene.order(Command::Connect { call: first, party: BOB, other });
        if answered {
            assert_eq!(answer, Ok(Answer::Done));
        } else {
            assert!(scene.outcomes.is_empty());
            scene.answers(CAROL, PCMU);
            scene.assert_outcome(answer, Ok(()));
        }
        scene.assert_hear(CALLER, CAROL);
        scene.bye(CAROL);
        scene.assert_over();
    }
}

#[test]
fn a_split_party_is_transferred_parked_and_joined() {
    let split = || {
        let mut scene = Scene::talking_with(3, FILM);
        scene.phones[CALLER].on_offer = OnOffer::Fit { video: true };
        scene.phones[DESK].on_offer = OnOffer::Fit { video: true };
        let (call, audio, video) = (scene.call(), scene.target(DESK), scene.target(MOBILE));
        scene.order(Command::Split { call, party: BOB, audio, video }).unwrap();
        scene.answers(MOBILE, PICTURE);
        scene.hear(media::sdp::MediaKind::Video);
        scene.outcomes.clear();
        assert_eq!(scene.carried().len(), 3, "{:?}", scene.carried());
        scene
    };
    // bob, who is split, sends ann to dave; then ann sends bob there.
    for (by, stays) in [(BOB, vec![CALLER]), (PartyId::CALLER, vec![DESK, MOBILE])] {
        let mut scene = split();
        for phone in [CALLER, DESK, MOBILE] {
            scene.phones[phone].on_offer = OnOffer::Fit { video: true };
        }
        let answer = scene.send_to(by, "dave", &[DAVE]);
        assert!(scene.body(SWITCH, DAVE, "INVITE").contains("m=video 2"), "dave is offered both kinds");
        scene.accept_fitting(DAVE, true);
        scene.settle();
        scene.assert_outcome(answer, Ok(()));
        let mut there: Vec<usize> = scene.carried().into_iter().map(|(phone, ..)| phone).collect();
        there.sort_unstable();
        assert_eq!(there, [stays.as_slice(), &[DAVE]].concat());
        scene.give_up_all();
        scene.assert_over();
    }
    let mut scene = split();
    let call = scene.call();
    assert_eq!(scene.order(Command::Park { call, party: PartyId::CALLER, slot: None }), Ok(Answer::Done));
    assert_eq!(scene.calls.view(call).unwrap().slot, Some(1));
    let answer = scene.pick_up("dave", DAVE);
    assert!(scene.body(SWITCH, DAVE, "INVITE").contains("m=video 2"), "dave is offered both kinds");
    scene.accept_fitting(DAVE, true);
    scene.settle();
    scene.assert_outcome(answer, Ok(()));
    assert_eq!(scene.carried().len(), 3);
    scene.give_up_all();
    scene.assert_over();
}

// ---- park and pickup

#[test]
fn a_call_is_parked_and_taken_out_by_command() {
    let mut scene = Scene::house();
    let call = scene.call();
    assert_eq!(scene.pick_up("carol", CAROL), Err(Refusal::NoSlot));
    assert_eq!(scene.order(Command::Park { call, party: BOB, slot: Some(0) }), Err(Refusal::NoSlot));
    assert_eq!(scene.order(Command::Park { call, party: BOB, slot: Some(7) }), Ok(Answer::Done));
    let view = scene.calls.view(call).unwrap();
    assert_eq!((view.state, view.slot, scene.played()), (State::Parked, Some(7), vec![Some(SoundId::HOLD)]));
    let answer = scene.pick_up("carol", CAROL);
    assert_eq!(scene.standing(), [named("ann", Standing::Connected), named("carol", Standing::Ringing)]);
    assert!(header(scene.last(SWITCH, CAROL, "INVITE"), Name::AlertInfo).contains("info=alert-autoanswer"));
    assert_eq!(header(scene.last(SWITCH, CAROL, "INVITE"), Name::ReferredBy), "");
    assert_eq!((scene.pick_up("dave", DAVE), scene.calls.view(call).unwrap().waits), (Err(Refusal::UnderWay), false));
    scene.answers(CAROL, PCMU);
    scene.assert_outcome(answer, Ok(()));
    scene.assert_hear(CALLER, CAROL);
    assert_eq!(scene.calls.view(call).unwrap().slot, None);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_slot_is_left_to_whoever_comes() {
    let mut scene = Scene::house();
    let call = scene.call();
    scene.order(Command::Park { call, party: BOB, slot: None }).unwrap();
    // a device that declines leaves it where it is
    let answer = scene.pick_up("carol", CAROL);
    scene.refuses(CAROL, StatusCode::DECLINE);
    scene.assert_outcome(answer, Err(Refusal::Declined));
    assert_eq!((scene.calls.in_slot(1), scene.calls.views_of("carol").count()), (Some(call), 0));
    assert!(scene.calls.view(call).unwrap().waits, "for everybody again");
    // somebody dials the slot meanwhile
    scene.outcomes.clear();
    let answer = scene.pick_up("carol", CAROL);
    scene.place = Some(crate::call::pickup::Place::Slot(call));
    scene.place_from(DAVE, ("dave", "slot"), PCMU);
    scene.settle();
    scene.assert_outcome(answer, Err(Refusal::Elsewhere));
    scene.assert_hear(CALLER, DAVE);
    scene.bye(DAVE);
    scene.assert_over();
}

#[test]
fn a_parked_call_that_returns_can_be_taken_by_command() {
    let mut scene = Scene::house();
    let call = scene.call();
    scene.order(Command::Park { call, party: BOB, slot: None }).unwrap();
    scene.advance(PARK);
    let (id, user) = scene.recalls.pop().expect("bob is to be called back");
    let targets = vec![scene.target_of(&user, DESK)];
    scene.with_calls(|calls, switch| calls.recall(switch, id, Headers::default(), targets));
    scene.settle();
    let answer = scene.pick_up("carol", CAROL);
    assert_eq!(scene.count(SWITCH, DESK, "CANCEL"), 1, "bob is no longer called");
    scene.answers(CAROL, PCMU);
    scene.assert_outcome(answer, Ok(()));
    scene.assert_hear(CALLER, CAROL);
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_ringing_call_is_picked_up_by_command() {
    let mut scene = Scene::ringing();
    let answer = scene.pick_up("carol", CAROL);
    let names = [named("ann", Standing::Calling), named("bob", Standing::Ringing), named("carol", Standing::Ringing)];
    assert_eq!(scene.standing(), names);
    assert_eq!(scene.pick_up("carol", DAVE), Err(Refusal::UnderWay));
    assert_eq!(scene.pick_up("bob", DAVE), Err(Refusal::NotYours), "it rings at him");
    scene.answers(CAROL, PCMU);
    scene.assert_outcome(answer, Ok(()));
    assert_eq!(scene.count(SWITCH, DESK, "CANCEL"), 1);
    scene.assert_hear(CALLER, CAROL);
    assert_eq!(scene.standing(), [named("ann", Standing::Connected), named("carol", Standing::Connected)]);
    let call = scene.call();
    assert_eq!(scene.calls.view(call).unwrap().constructed, Constructed::PickedUp(Who::User("carol".into())));
    assert_eq!((scene.calls.views_of("bob").count(), scene.calls.views_of("carol").count()), (0, 1));
    scene.bye(CAROL);
    scene.assert_over();
}

#[test]
fn a_pickup_that_comes_to_nothing_leaves_the_call_ringing() {
    let mut scene = Scene::ringing();
    for _ in 0..2 {
        scene.outcomes.clear();
        let answer = scene.pick_up("carol", CAROL);
        scene.refuses(CAROL, StatusCode::DECLINE);
        scene.assert_outcome(answer, Err(Refusal::Declined));
        assert_eq!(scene.calls.views_of("carol").count(), 0);
    }
    scene.outcomes.clear();
    let answer = scene.pick_up("carol", CAROL);
    let (call, party) = (scene.call(), scene.calls.views().next().unwrap().party_of("carol").unwrap().id);
    scene.order(Command::Drop { call, party }).unwrap();
    scene.assert_outcome(answer, Err(Refusal::Declined));
    // an answer that cannot be used
    scene.outcomes.clear();
    let answer = scene.pick_up("carol", CAROL);
    scene.answers(CAROL, "m=video 4000 RTP/AVP 96\r\n");
    scene.assert_outcome(answer, Err(Refusal::NotTaken));
    // bob is faster
    scene.outcomes.clear();
    let answer = scene.pick_up("carol", CAROL);
    scene.answers(DESK, PCMU);
    scene.assert_outcome(answer, Err(Refusal::Elsewhere));
    scene.assert_hear(CALLER, DESK);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_caller_who_gives_up_ends_the_pickup() {
    let mut scene = Scene::ringing();
    let answer = scene.pick_up("carol", CAROL);
    scene.cancel(CALLER);
    scene.settle();
    scene.assert_outcome(answer, Err(Refusal::CallOver));
    assert_eq!((scene.count(SWITCH, CAROL, "CANCEL"), scene.count(SWITCH, DESK, "CANCEL")), (1, 1));
    scene.assert_over();
}

#[test]
fn a_call_is_declined_with_what_the_caller_is_told() {
    for (status, said) in [(StatusCode::BUSY_HERE, "486 INVITE"), (StatusCode::DECLINE, "603 INVITE")] {
        let mut scene = Scene::ringing();
        let call = scene.call();
        let caller = PartyId::CALLER;
        assert_eq!(scene.order(Command::Decline { call, party: caller, status }), Err(Refusal::NotRinging));
        assert_eq!(scene.order(Command::Decline { call, party: PartyId(7), status }), Err(Refusal::NoParty));
        scene.order(Command::Decline { call, party: BOB, status }).unwrap();
        assert_eq!((scene.count(SWITCH, CALLER, said), scene.count(SWITCH, DESK, "CANCEL")), (1, 1));
        scene.assert_over();
        assert_eq!(scene.record().ended_by, EndedBy::Callee);
    }
}

// ---- answer

#[test]
fn a_phone_that_can_be_told_answers() {
    let mut scene = Scene::new(2);
    scene.talks = true;
    scene.place(PCMU);
    scene.settle();
    scene.progress(DESK, StatusCode::RINGING, "");
    scene.rings(MOBILE);
    let call = scene.call();
    let by = |device: Option<usize>| Command::Answer {
        call,
        party: BOB,
        device: device.map(|phone| crate::device::Id::named(&format!("phone{phone}"))),
        video: None,
    };
    assert_eq!(scene.order(by(None)), Err(Refusal::WhichDevice));
    assert_eq!(scene.order(by(Some(DAVE))), Err(Refusal::NoDevice));
    let answer = scene.order(by(Some(DESK)));
    assert_eq!((scene.count(SWITCH, DESK, "NOTIFY"), scene.count(SWITCH, DESK, "INVITE")), (1, 1));
    assert_eq!(header(scene.last(SWITCH, DESK, "NOTIFY"), Name::Event), "talk");
    assert_eq!(scene.order(by(Some(MOBILE))), Err(Refusal::UnderWay));
    scene.answers(DESK, PCMU);
    scene.assert_outcome(answer, Ok(()));
    scene.assert_hear(CALLER, DESK);
    assert_eq!(scene.order(by(Some(DESK))), Err(Refusal::NotRinging));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn another_phone_is_called_again_to_answer_by_itself() {
    let mut scene = Scene::ringing();
    let call = scene.call();
    let answer = scene.order(Command::Answer { call, party: BOB, device: None, video: None });
    assert_eq!(scene.words(SWITCH, DESK), ["INVITE", "CANCEL", "ACK", "INVITE"], "the second one when the first is over");
    let invite = scene.last(SWITCH, DESK, "INVITE");
    assert!(header(invite, Name::CallInfo).ends_with(";answer-after=0") && header(invite, Name::AlertInfo).contains("alert-autoanswer"));
    scene.answers(DESK, PCMU);
    scene.assert_outcome(answer, Ok(()));
    scene.assert_hear(CALLER, DESK);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn a_phone_that_does_not_answer_by_itself_goes_on_ringing() {
    let mut scene = Scene::ringing();
    let call = scene.call();
    let command = Command::Answer { call, party: BOB, device: None, video: None };
    let answer = scene.order(command.clone());
    scene.progress(DESK, StatusCode::RINGING, "");
    scene.advance(Duration::from_secs(5));
    scene.assert_outcome(answer, Err(Refusal::NotByItself));
    assert_eq!(scene.standing(), [named("ann", Standing::Calling), named("bob", Standing::Ringing)]);
    scene.outcomes.clear();
    let answer = scene.order(command);
    scene.cancel(CALLER);
    scene.settle();
    scene.assert_outcome(answer, Err(Refusal::CallOver));
    scene.assert_over();
}

#[test]
fn a_call_is_answered_split() {
    let mut scene = Scene::new(2);
    scene.targets = vec![DESK];
    scene.place(FILM);
    scene.settle();
    scene.rings(DESK);
    for phone in [CALLER, DESK] {
        scene.phones[phone].on_offer = OnOffer::Fit { video: true };
    }
    let (call, video) = (scene.call(), Some(Box::new(scene.target(MOBILE))));
    let answer = scene.order(Command::Answer { call, party: BOB, device: None, video });
    scene.accept_fitting(DESK, true);
    scene.settle();
    scene.accept_fitting(MOBILE, true);
    scene.settle();
    scene.hear(media::sdp::MediaKind::Video);
    scene.assert_outcome(answer, Ok(()));
    let (desk, mobile) = ((DESK, Kinds::AUDIO, Kinds::AUDIO), (MOBILE, Kinds::VIDEO, Kinds::VIDEO));
    assert_eq!(scene.carried(), [(CALLER, Kinds::BOTH, Kinds::BOTH), desk, mobile]);
    scene.bye(CALLER);
    scene.assert_over();
}

// ---- calls that are made

#[test]
fn a_call_is_made_from_the_users_own_phone() {
    let mut scene = Scene::new(2);
    let (call, ticket) = scene.make((Kinds::AUDIO, None));
    let invite = scene.last(SWITCH, CALLER, "INVITE");
    assert!(header(invite, Name::From).starts_with("<sip:bob@h>"), "it is shown whom it will call");
    assert!(header(invite, Name::AlertInfo).contains(";info=alert-autoanswer"));
    assert_eq!(header(invite, Name::CallInfo), "<sip:bob@h>;answer-after=0");
    assert!(!scene.body(SWITCH, CALLER, "INVITE").contains("m=video"));
    assert_eq!(scene.standing(), [named("ann", Standing::Calling)]);
    assert_eq!((scene.count(SWITCH, DESK, "INVITE"), scene.calls.view(call).unwrap().state), (0, State::Ringing));
    scene.answers(CALLER, PCMU);
    let invite = scene.last(SWITCH, DESK, "INVITE");
    assert!(header(invite, Name::From).starts_with("<sip:ann@h>") && header(invite, Name::ReferredBy).is_empty());
    assert_eq!(scene.standing(), [named("ann", Standing::Calling), named("bob", Standing::Ringing)]);
    assert_eq!((scene.played(), scene.outcomes.len()), (vec![None], 0), "nothing rings yet");
    scene.rings(DESK);
    assert_eq!((scene.played(), &*scene.outcomes), (vec![Some(SoundId::RINGBACK)], [(ticket, Ok(()))].as_slice()));
    assert_eq!(scene.calls.view(call).unwrap().state, State::Ringing);
    scene.advance(Duration::from_secs(5));
    scene.answers(DESK, PCMU);
    scene.assert_hear(CALLER, DESK);
    assert_eq!(scene.standing(), [named("ann", Standing::Connected), named("bob", Standing::Connected)]);
    let view = scene.calls.view(call).unwrap();
    assert_eq!((view.state, &view.constructed, view.answered_at), (State::Connected, &Constructed::Direct, Some(UNIX + 5000)));
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 1, "ann's phone is asked nothing more");
    scene.bye(DESK);
    scene.assert_over();
    let record = scene.record();
    assert_eq!((&*record.caller, &*record.callee, record.status, record.ended_by), ("ann@h", "bob@h", 200, EndedBy::Callee));
}

#[test]
fn early_media_takes_the_place_of_the_tone() {
    let mut scene = Scene::new(1);
    scene.make((Kinds::AUDIO, None));
    scene.answers(CALLER, PCMU);
    scene.progress(DESK, StatusCode::RINGING, "");
    scene.progress(DESK, StatusCode::SESSION_PROGRESS, PCMU);
    scene.settle();
    assert_eq!((scene.played(), scene.media.bridged.len()), (vec![None, None], 2));
    scene.answers(DESK, PCMU);
    scene.assert_hear(CALLER, DESK);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn the_users_own_phone_may_refuse_or_nobody_be_there() {
    for (status, refusal) in [(StatusCode::BUSY_HERE, Refusal::Busy), (StatusCode::NOT_ACCEPTABLE_HERE, Refusal::NotTaken)] {
        let mut scene = Scene::new(1);
        let (_, ticket) = scene.make((Kinds::AUDIO, None));
        scene.refuses(CALLER, status);
        assert_eq!(scene.outcomes, [(ticket, Err(refusal))]);
        assert_eq!(scene.count(SWITCH, DESK, "INVITE"), 0);
        scene.assert_over();
        assert_eq!((scene.record().status, &*scene.record().reason), (status.code(), &*format!("the caller's own device said {status}")));
    }
    let mut scene = Scene::new(1);
    let (_, ticket) = scene.make((Kinds::AUDIO, None));
    scene.advance(NO_ANSWER);
    assert_eq!(scene.outcomes, [(ticket, Err(Refusal::NoAnswer))]);
    scene.assert_over();
    assert_eq!(scene.record().reason, "nobody answered at the caller's own device in time");
}

#[test]
fn a_destination_that_does_not_answer_is_told_to_the_user() {
    for (status, refusal) in [(StatusCode::BUSY_HERE, Refusal::Busy), (StatusCode::DECLINE, Refusal::Declined)] {
        let mut scene = Scene::new(1);
        let (_, ticket) = scene.make((Kinds::AUDIO, None));
        scene.answers(CALLER, PCMU);
        scene.refuses(DESK, status);
        assert_eq!(scene.outcomes, [(ticket, Err(refusal))]);
        assert!(header(scene.last(SWITCH, CALLER, "BYE"), Name::Reason).contains(&format!("cause={}", status.code())));
        scene.assert_over();
        assert_eq!((scene.record().status, scene.record().ended_by), (status.code(), EndedBy::Callee));
    }
    let mut scene = Scene::new(1);
    scene.make((Kinds::AUDIO, None));
    scene.answers(CALLER, PCMU);
    scene.progress(DESK, StatusCode::RINGING, "");
    scene.advance(NO_ANSWER);
    assert_eq!((scene.count(SWITCH, DESK, "CANCEL"), scene.outcomes.len()), (1, 1), "it was told when it rang");
    scene.assert_over();
    assert_eq!((scene.record().status, scene.record().ended_by), (480, EndedBy::NoAnswer));
}

#[test]
fn the_user_gives_up_a_call_that_was_made() {
    for by_phone in [true, false] {
        let mut scene = Scene::new(1);
        let (call, ticket) = scene.make((Kinds::AUDIO, None));
        scene.answers(CALLER, PCMU);
        if by_phone {
            scene.bye(CALLER);
        } else {
            scene.order(Command::Drop { call, party: PartyId::CALLER }).unwrap();
        }
        scene.settle();
        assert_eq!(scene.outcomes, [(ticket, Err(Refusal::CallOver))]);
        assert_eq!(scene.count(SWITCH, DESK, "CANCEL") + scene.count(DESK, SWITCH, "487 INVITE"), 2);
        scene.assert_over();
        assert_eq!((scene.record().status, scene.record().ended_by), (487, EndedBy::Caller));
    }
    let mut scene = Scene::new(1);
    let (call, _) = scene.make((Kinds::AUDIO, None));
    scene.order(Command::Drop { call, party: PartyId::CALLER }).unwrap();
    assert_eq!(scene.count(SWITCH, CALLER, "CANCEL"), 1);
    scene.assert_over();
}

#[test]
fn the_callee_declines_a_call_that_was_made() {
    let mut scene = Scene::new(1);
    let (call, ticket) = scene.make((Kinds::AUDIO, None));
    scene.answers(CALLER, PCMU);
    scene.order(Command::Decline { call, party: BOB, status: StatusCode::BUSY_HERE }).unwrap();
    assert_eq!(scene.outcomes, [(ticket, Err(Refusal::Busy))]);
    scene.assert_over();
}

#[test]
fn a_call_begins_split() {
    let mut scene = Scene::new(2);
    let (call, ticket) = scene.make((Kinds::BOTH, Some(MOBILE)));
    assert!(!scene.body(SWITCH, CALLER, "INVITE").contains("m=video"));
    scene.accept_fitting(CALLER, false);
    scene.settle();
    assert!(!scene.body(SWITCH, MOBILE, "INVITE").contains("m=audio"));
    assert_eq!(scene.count(SWITCH, DESK, "INVITE"), 0);
    scene.accept_fitting(MOBILE, true);
    scene.settle();
    let offer = scene.body(SWITCH, DESK, "INVITE");
    assert!(offer.contains("m=audio 2") && offer.contains("m=video 2"), "bob is offered both: {offer}");
    for phone in [CALLER, MOBILE] {
        scene.phones[phone].on_offer = OnOffer::Fit { video: true };
    }
    scene.accept_fitting(DESK, true);
    scene.settle();
    assert_eq!(scene.outcomes, [(ticket, Ok(()))]);
    assert_eq!(
        scene.carried(),
        [(CALLER, Kinds::AUDIO, Kinds::AUDIO), (MOBILE, Kinds::VIDEO, Kinds::VIDEO), (DESK, Kinds::BOTH, Kinds::BOTH)]
    );
    assert_eq!(scene.standing(), [named("ann", Standing::Connected), named("bob", Standing::Connected)]);
    scene.order(Command::Drop { call, party: PartyId::CALLER }).unwrap();
    scene.assert_over();
}

#[test]
fn a_call_begins_without_the_video_that_nobody_takes() {
    let mut scene = Scene::new(2);
    scene.make((Kinds::BOTH, Some(MOBILE)));
    scene.accept_fitting(CALLER, false);
    scene.settle();
    scene.refuses(MOBILE, StatusCode::DECLINE);
    assert!(!scene.body(SWITCH, DESK, "INVITE").contains("m=video"));
    scene.accept_fitting(DESK, true);
    scene.settle();
    scene.assert_hear(CALLER, DESK);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_call_that_cannot_be_is_not_made() {
    let mut scene = Scene::new(1);
    let make = |devices: Vec<Target>, targets: Vec<Target>| Make {
        caller: person("ann"),
        devices,
        alert: Alert::Ring,
        video: None,
        kinds: Kinds::AUDIO,
        dialled: "bob".to_owned(),
        callee: person("bob"),
        to: Destination::Devices(targets),
    };
    let (ours, theirs) = (vec![scene.target_of("ann", CALLER)], vec![scene.target_of("bob", DESK)]);
    for (make, refusal) in [(make(Vec::new(), theirs.clone()), Refusal::NoWay), (make(ours.clone(), Vec::new()), Refusal::Unreachable)] {
        assert_eq!(scene.with_calls(|calls, switch| calls.make(switch, make)), Err(refusal));
    }
    scene.assert_over();
    // without a port
    scene.media.left = Some(0);
    let made = scene.with_calls(|calls, switch| calls.make(switch, make(ours, theirs)));
    scene.started += 1;
    scene.settle();
    assert_eq!(scene.outcomes, [(made.unwrap().1, Err(Refusal::Unreachable))]);
    scene.assert_over();
}

// ---- a user who is removed

impl Scene {
    fn remove(&mut self, user: &str) {
        self.with_calls(|calls, switch| calls.remove_user(switch, user));
        self.settle();
        assert_eq!(self.calls.views_of(user).count(), 0);
    }

    /// The only call ended because its user was removed.
    #[track_caller]
    fn assert_ended_with_user(&mut self, status: StatusCode) {
        self.assert_over();
        let record = self.record();
        assert_eq!((record.status, record.ended_by, &*record.reason), (status.code(), EndedBy::Switch, "the user was removed"));
    }
}

#[test]
fn the_calls_of_a_removed_user_end_and_both_sides_are_told() {
    for user in ["ann", "bob"] {
        let mut scene = Scene::house();
        scene.remove(user);
        assert_eq!((scene.count(SWITCH, CALLER, "BYE"), scene.count(SWITCH, DESK, "BYE")), (1, 1), "{user}");
        scene.assert_ended_with_user(StatusCode::OK);
    }
    for (user, told) in [("ann", "487 INVITE"), ("bob", "603 INVITE")] {
        let mut scene = Scene::ringing();
        scene.remove(user);
        assert_eq!((scene.count(SWITCH, CALLER, told), scene.count(SWITCH, DESK, "CANCEL")), (1, 1), "{user}");
        scene.assert_ended_with_user(if user == "ann" { StatusCode::REQUEST_TERMINATED } else { StatusCode::DECLINE });
    }
}

#[test]
fn a_call_goes_on_without_a_removed_user_it_was_sent_to_or_picked_up_by() {
    let mut scene = Scene::house();
    let answer = scene.send_to(BOB, "carol", &[CAROL]);
    scene.rings(CAROL);
    scene.remove("carol");
    scene.assert_outcome(answer, Err(Refusal::Removed));
    assert_eq!(scene.count(SWITCH, CAROL, "CANCEL"), 1);
    scene.assert_hear(CALLER, DESK);
    scene.remove("dave");
    scene.assert_hear(CALLER, DESK);
    scene.bye(CALLER);
    scene.assert_over();

    let mut scene = Scene::ringing();
    let answer = scene.pick_up("carol", CAROL);
    scene.remove("carol");
    scene.assert_outcome(answer, Err(Refusal::Declined));
    assert_eq!(scene.count(SWITCH, CAROL, "CANCEL"), 1);
    scene.answers(DESK, PCMU);
    scene.assert_hear(CALLER, DESK);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn nobody_is_sent_back_to_a_removed_user() {
    // sent away, and the sender hung up: whoever has the name by then is not called
    let mut scene = Scene::house();
    let _pending = scene.send_to(BOB, "carol", &[CAROL]);
    scene.rings(CAROL);
    scene.remove("bob");
    assert_eq!(scene.calls.views().count(), 1, "carol still rings");
    scene.refuses(CAROL, StatusCode::BUSY_HERE);
    assert!(scene.recalls.is_empty());
    scene.assert_over();

    // parked
    for returning in [false, true] {
        let mut scene = Scene::house();
        let call = scene.call();
        scene.order(Command::Park { call, party: BOB, slot: None }).unwrap();
        if returning {
            scene.advance(PARK);
            assert_eq!(scene.recalls.len(), 1);
        }
        scene.remove("bob");
        assert_eq!(scene.calls.in_slot(1), Some(call), "the other one waits");
        scene.recalls.clear();
        scene.advance(PARK);
        assert!(scene.recalls.is_empty() && scene.calls.views().count() == 0);
        scene.assert_over();
    }
}

#[test]
fn a_call_to_a_removed_user_is_not_made() {
    let mut scene = Scene::new(1);
    let (_, ticket) = scene.make((Kinds::AUDIO, None));
    scene.remove("bob");
    assert_eq!((scene.count(SWITCH, CALLER, "CANCEL"), scene.count(SWITCH, DESK, "INVITE")), (1, 0));
    assert_eq!(scene.outcomes, [(ticket, Err(Refusal::CallOver))]);
    scene.assert_ended_with_user(StatusCode::REQUEST_TERMINATED);

    let mut scene = Scene::new(1);
    scene.make((Kinds::AUDIO, None));
    scene.answers(CALLER, PCMU);
    scene.rings(DESK);
    scene.remove("bob");
    assert_eq!((scene.count(SWITCH, CALLER, "BYE"), scene.count(SWITCH, DESK, "CANCEL")), (1, 1));
    scene.assert_ended_with_user(StatusCode::DECLINE);
}
