//! Conferences: calls that are joined, guests who are called in, rooms and their doors, the moderator; and moves in the middle of it.

use std::sync::Arc;
use std::time::Duration;

use media::dtmf::Digit;
use media::sdp::MediaKind;
use media::{BridgeId, Event as MediaEvent, Kinds, Member, PortId, SoundId};
use sip::message::{Headers, Message, Name};
use sip::{DialogEvent, DialogId, StatusCode};

use super::scene::*;
use crate::call::command::{Answer, Command, Refusal, Ticket};
use crate::call::conference::room::{Pin, Room};
use crate::call::conference::{Guest, MAX_PARTIES};
use crate::call::graph::{Constructed, Standing, State, View};
use crate::call::make::{Alert, Destination};
use crate::call::party::PartyId;
use crate::call::pickup::Place;
use crate::call::record::EndedBy;
use crate::call::{Account, Id};

const ANN: usize = CALLER;
const BOB: usize = DESK;
const P0: PartyId = PartyId(0);
const P1: PartyId = PartyId(1);
const P2: PartyId = PartyId(2);

fn room(pin: Option<&str>, moderator: Option<&str>) -> Arc<Room> {
    let pin = pin.map(|pin| Pin::parse(pin).expect("digits"));
    Arc::new(Room { number: "800".into(), pin, moderator: moderator.map(Into::into) })
}

/// Ann talks to bob and, with bob on hold, to carol. The two calls, and ann's dialog in each.
fn two_calls() -> (Scene, [Id; 2], [DialogId; 2]) {
    let mut scene = Scene::new(3);
    scene.targets = vec![BOB];
    scene.place(PCMU);
    scene.settle();
    scene.answers(BOB, PCMU);
    let first = scene.phones[ANN].dialog.expect("a call");
    scene.phones[BOB].on_offer = OnOffer::Accept(LISTENING);
    assert!(scene.offer(ANN, HOLD));
    scene.settle();
    scene.phones[BOB].on_offer = OnOffer::Accept(PCMU);
    scene.targets = vec![CAROL];
    scene.place_from(ANN, ("ann", "carol"), PCMU);
    scene.settle();
    scene.answers(CAROL, PCMU);
    let ids: Vec<Id> = scene.calls.views().map(|view| view.id).collect();
    let dialogs = [first, scene.phones[ANN].dialog.expect("a call")];
    (scene, ids.try_into().expect("two calls"), dialogs)
}

/// Ann, bob and carol in one call; ann moderates.
fn three() -> (Scene, Id) {
    let (mut scene, [first, second], dialogs) = two_calls();
    let gather = Command::Gather { call: first, party: P0, calls: vec![second], guests: Vec::new() };
    assert_eq!(scene.command(gather), Ok(Answer::Done));
    scene.settle();
    scene.phones[ANN].dialog = Some(dialogs[1]);
    (scene, first)
}

impl Scene {
    fn of(&self, id: Id) -> Arc<View> {
        self.calls.view(id).expect("the call")
    }

    fn guest(&self, user: &str, phones: &[usize]) -> Guest {
        let targets = phones.iter().map(|phone| self.target_of(user, *phone)).collect();
        Guest { person: person(user), headers: Headers::default(), targets }
    }

    fn call_in(&mut self, id: Id, user: &str, phones: &[usize]) -> Result<Answer, Refusal> {
        let guests = vec![self.guest(user, phones)];
        let answer = self.command(Command::Gather { call: id, party: P0, calls: Vec::new(), guests });
        self.settle();
        answer
    }

    /// A phone of a user dials a room.
    fn visit(&mut self, phone: usize, user: &str, room: &Arc<Room>, media: &str) {
        self.room = Some(Arc::clone(room));
        self.place_from(phone, (user, "800"), media);
        self.settle();
    }

    /// A phone presses keys, as named events.
    fn dial(&mut self, phone: usize, digits: &str) {
        let port = self.port(phone);
        for letter in digits.chars() {
            let digit = Digit::from_letter(letter).expect("a digit");
            self.media.events.push_back(MediaEvent::Digit { port, digit, duration: Duration::from_millis(100) });
        }
        self.settle();
    }

    /// Just these phones are in a call, each the only one of its party, and every one hears every other one.
    #[track_caller]
    fn assert_all_hear(&self, id: Id, phones: &[usize]) {
        let members = &self.media.arranged[&BridgeId(id.0)];
        let ports = |members: &[Member]| members.iter().map(|member| member.port).collect::<std::collections::BTreeSet<PortId>>();
        let expected: std::collections::BTreeSet<PortId> = phones.iter().map(|phone| self.port(*phone)).collect();
        assert_eq!(ports(members), expected);
        let parties: std::collections::BTreeSet<u16> = members.iter().map(|member| member.party).collect();
        assert_eq!(parties.len(), phones.len(), "nobody hears themself: {members:?}");
        for member in members {
            assert!(member.gives.audio && member.takes.audio && member.plays.is_none(), "{members:?}");
        }
        assert!(self.directions().iter().all(|direction| direction == "SendRecv"), "{:?}", self.directions());
    }

    fn moderator(&self, id: Id) -> Option<PartyId> {
        self.of(id).conference.as_ref().and_then(|conference| conference.moderator)
    }
}

// ---- calls that are joined

#[test]
fn a_user_joins_two_calls_and_three_hear_each_other() {
    let (mut scene, [first, second], [gone, stays]) = two_calls();
    let answer = scene.command(Command::Gather { call: first, party: P0, calls: vec![second, first, second], guests: Vec::new() });
    assert_eq!(answer, Ok(Answer::Done));
    scene.settle();
    assert_eq!(scene.names(first), ["ann", "bob", "carol"]);
    scene.assert_all_hear(first, &[ANN, BOB, CAROL]);
    assert_eq!((scene.count(SWITCH, ANN, "BYE"), scene.sip.dialogs()), (1, 3), "of ann's legs the one on hold is hung up");
    let ended =
        |dialog: DialogId| scene.phones[ANN].events.iter().any(|(of, event)| *of == dialog && matches!(event, DialogEvent::Ended { .. }));
    assert_eq!((ended(gone), ended(stays), scene.count(SWITCH, ANN, "INVITE")), (true, false, 0));
    assert_eq!(scene.count(SWITCH, CAROL, "INVITE"), 1, "who was not on hold is asked nothing");
    let view = scene.of(first);
    assert_eq!((&view.constructed, scene.moderator(first)), (&Constructed::Conference, Some(P0)));
    assert_eq!(scene.record().reason, format!("joined with call {first}"));
}

#[test]
fn who_leaves_lets_the_others_talk_and_two_have_a_plain_call() {
    let (mut scene, id) = three();
    scene.now += Duration::from_secs(5);
    scene.hangs_up(ANN);
    assert_eq!(scene.names(id), ["bob", "carol"]);
    scene.assert_all_hear(id, &[BOB, CAROL]);
    assert_eq!(scene.of(id).conference, None);
    // 2 * an offer of one is the other's affair again
    let before = scene.count(SWITCH, CAROL, "INVITE");
    assert!(scene.offer(BOB, BOTH));
    scene.settle();
    assert_eq!(scene.count(SWITCH, CAROL, "INVITE"), before + 1);
    scene.now += Duration::from_secs(5);
    scene.hangs_up(BOB);
    assert_eq!(scene.count(SWITCH, CAROL, "BYE"), 1);
    let record = scene.records.iter().find(|record| record.id == id).expect("its record");
    let stays: Vec<_> = record.parties.iter().map(|stay| (&*stay.party, stay.left_at)).collect();
    let (early, late) = (Some(UNIX + 5000), Some(UNIX + 10_000));
    assert_eq!(stays, [("ann@h", early), ("bob@h", late), ("carol@h", late)]);
    scene.assert_over();
}

#[test]
fn two_who_talked_before_have_the_call_that_they_had() {
    type End = (&'static str, &'static str, fn(&mut Scene, Id));
    let ends: [End; 3] = [
        ("hangs up", "", |scene, _| scene.hangs_up(CAROL)),
        ("drops", "", |scene, call| assert_eq!(scene.command(Command::Drop { call, party: P2 }), Ok(Answer::Done))),
        ("is kicked", "removed by the moderator", |scene, call| {
            assert_eq!(scene.command(Command::Kick { call, by: P0, party: P2 }), Ok(Answer::Done));
        }),
    ];
    for (what, why, end) in ends {
        let mut scene = Scene::house();
        let id = scene.call();
        for (user, phone) in [("carol", CAROL), ("dave", DAVE)] {
            scene.call_in(id, user, &[phone]).expect("the guest is called");
            scene.answers(phone, PCMU);
        }
        scene.hangs_up(DAVE);
        assert_eq!(scene.of(id).constructed, Constructed::Conference, "{what}");
        end(&mut scene, id);
        scene.settle();
        let view = scene.of(id);
        assert_eq!((&view.constructed, &view.conference, view.parties.len()), (&Constructed::Direct, &None, 2), "{what}");
        assert_eq!(scene.missed.last().map_or("", |missed| &missed.why), why, "{what}");
        assert_eq!(scene.command(Command::Park { call: id, party: P1, slot: None }), Ok(Answer::Done), "{what}");
        let devices = vec![scene.target_of("bob", BOB)];
        let pickup = Command::Pickup { call: id, person: person("bob"), devices, alert: Alert::Answer };
        assert!(matches!(scene.command(pickup), Ok(Answer::Pending(_))), "{what}");
        scene.settle();
        scene.answers(BOB, PCMU);
        // another guest, who does not come, does not take those from the record who were there
        scene.call_in(id, "dave", &[DAVE]).expect("the guest is called");
        scene.refuse(DAVE, StatusCode::BUSY_HERE);
        scene.settle();
        scene.hangs_up(ANN);
        let parties: Vec<_> = scene.record().parties.iter().map(|stay| &*stay.party).collect();
        assert_eq!(parties, ["ann@h", "bob@h", "carol@h", "dave@h", "bob@h"], "{what}");
        scene.assert_over();
    }
}

#[test]
fn each_leg_of_a_conference_negotiates_with_us_alone() {
    let (mut scene, id) = three();
    let before: usize = [ANN, CAROL].map(|phone| scene.count(SWITCH, phone, "INVITE")).iter().sum();
    assert!(scene.offer(BOB, BOTH));
    scene.settle();
    assert_eq!(scene.count(SWITCH, BOB, "200 INVITE"), 1);
    assert_eq!([ANN, CAROL].map(|phone| scene.count(SWITCH, phone, "INVITE")).iter().sum::<usize>(), before);
    scene.assert_all_hear(id, &[ANN, BOB, CAROL]);
}

#[test]
fn everybodys_camera_is_offered() {
    let (mut scene, id) = three();
    for phone in &mut scene.phones {
        phone.on_offer = OnOffer::Fit { video: true };
    }
    scene.phones[CAROL].on_offer = OnOffer::Fit { video: false };
    assert!(scene.offer(BOB, FILM));
    scene.settle();
    let videos: Vec<bool> = scene.of(id).parties.iter().map(|party| party.legs[0].gives.video).collect();
    assert_eq!(videos, [true, true, false]);
}

#[test]
fn calls_that_cannot_be_joined_stay_as_they_are() {
    let (mut scene, [first, second], _) = two_calls();
    let gather = |call, party, calls: &[Id]| Command::Gather { call, party, calls: calls.to_vec(), guests: Vec::new() };
    let before: Vec<_> = scene.calls.views().collect();
    assert_eq!(scene.command(gather(first, P1, &[second])), Err(Refusal::NoParty), "bob is not in the second call");
    assert_eq!(scene.command(gather(first, P2, &[second])), Err(Refusal::NoParty));
    assert_eq!(scene.command(gather(first, P0, &[Id(7)])), Err(Refusal::NoCall));
    assert_eq!(scene.command(gather(first, P0, &[first])), Ok(Answer::Done), "nothing to do");
    let guest = scene.guest("dave", &[]);
    let command = Command::Gather { call: first, party: P0, calls: vec![second], guests: vec![guest] };
    assert_eq!(scene.command(command), Err(Refusal::Unreachable));
    let guest = scene.guest("bob", &[DAVE]);
    let command = Command::Gather { call: first, party: P0, calls: vec![second], guests: vec![guest] };
    assert_eq!(scene.command(command), Err(Refusal::Present));
    assert_eq!(scene.calls.views().collect::<Vec<_>>(), before);
    // a call that rings
    scene.targets = vec![DAVE];
    scene.place_from(ANN, ("ann", "dave"), PCMU);
    scene.settle();
    let ringing = scene.calls.views().last().expect("a call").id;
    assert_eq!(scene.command(gather(first, P0, &[ringing])), Err(Refusal::NotAnswered));
    assert_eq!(scene.command(gather(ringing, P0, &[first])), Err(Refusal::NotAnswered));
}

#[test]
fn calls_on_two_media_threads_are_brought_to_one() {
    let (mut scene, [first, _], _) = two_calls();
    scene.media.thread = 7;
    scene.targets = vec![DAVE];
    scene.place_from(ANN, ("ann", "dave"), PCMU);
    scene.settle();
    scene.answers(DAVE, PCMU);
    let other = scene.calls.views().last().expect("a call").id;
    let gather = Command::Gather { call: first, party: P0, calls: vec![other], guests: Vec::new() };
    let before: Vec<_> = scene.calls.views().collect();
    scene.media.brings = Some(1);
    assert_eq!(scene.command(gather.clone()), Err(Refusal::OtherThread), "the thread is overloaded");
    assert_eq!(scene.calls.views().collect::<Vec<_>>(), before);
    scene.media.brought.clear();
    assert_eq!(scene.command(gather), Ok(Answer::Done));
    scene.settle();
    assert_eq!(scene.names(first), ["ann", "bob", "dave"]);
    let members = &scene.media.arranged[&BridgeId(first.0)];
    assert!(members.iter().all(|member| member.port.thread() != 7), "{members:?}");
    assert_eq!((scene.count(SWITCH, DAVE, "INVITE"), scene.media.brought.len()), (1, 2), "dave is asked nothing");
    scene.give_up_all();
    scene.assert_over();
}

#[test]
fn a_visitor_from_another_media_thread_comes_into_a_room() {
    let mut scene = Scene::house();
    scene.media.thread = 7;
    let room = room(None, None);
    scene.visit(CAROL, "carol", &room, PCMU);
    let (talk, hall) = (scene.calls.views().next().expect("a call").id, scene.calls.views().last().expect("a call").id);
    let sent = scene.with_calls(|calls, switch| calls.send_to_room(switch, (talk, P1), &room, None));
    scene.settle();
    assert_eq!((sent, scene.names(hall)), (Ok(()), vec!["carol".to_owned(), "ann".to_owned()]));
    scene.assert_all_hear(hall, &[ANN, CAROL]);
}

#[test]
fn who_is_in_both_calls_is_one_party_with_two_devices() {
    let mut scene = Scene::new(3);
    for (phone, caller) in [(BOB, ANN), (CAROL, ANN)] {
        scene.targets = vec![phone];
        scene.place_from(caller, ("ann", "bob"), PCMU);
        scene.settle();
        scene.answers(phone, PCMU);
    }
    let ids: Vec<Id> = scene.calls.views().map(|view| view.id).collect();
    let gather = Command::Gather { call: ids[0], party: P0, calls: vec![ids[1]], guests: Vec::new() };
    assert_eq!(scene.command(gather), Ok(Answer::Done));
    scene.settle();
    let view = scene.of(ids[0]);
    assert_eq!(view.parties.iter().map(|party| party.legs.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(view.conference, None, "they are two");
}

// ---- guests

#[test]
fn a_guest_rings_while_the_others_talk_and_comes_in() {
    let mut scene = Scene::house();
    let id = scene.call();
    assert_eq!(scene.call_in(id, "carol", &[CAROL, DAVE]), Ok(Answer::Pending(Ticket(1))));
    for phone in [CAROL, DAVE] {
        scene.progress(phone, StatusCode::RINGING, "");
    }
    scene.settle();
    scene.assert_all_hear(id, &[ANN, BOB]);
    let standings = |scene: &Scene| scene.of(id).parties.iter().map(|party| party.state).collect::<Vec<_>>();
    assert_eq!(standings(&scene), [Standing::Connected, Standing::Connected, Standing::Ringing]);
    assert_eq!(scene.of(id).constructed, Constructed::Direct);
    scene.answers(DAVE, PCMU);
    assert_eq!(scene.outcomes, [(Ticket(1), Ok(()))]);
    scene.assert_all_hear(id, &[ANN, BOB, DAVE]);
    assert_eq!((scene.count(SWITCH, CAROL, "CANCEL"), scene.count(SWITCH, ANN, "INVITE")), (1, 0));
    assert_eq!((scene.of(id).constructed.clone(), scene.moderator(id)), (Constructed::Conference, Some(P0)));
    assert_eq!(scene.calls.views_of("carol").count(), 1);
    for phone in [ANN, BOB] {
        scene.hangs_up(phone);
    }
    assert_eq!(scene.count(SWITCH, DAVE, "BYE"), 1, "alone is no conference");
    scene.assert_over();
}

#[test]
fn a_guest_who_does_not_come_changes_nothing() {
    type End = (&'static str, Refusal, fn(&mut Scene));
    let ends: [End; 4] = [
        ("busy", Refusal::Busy, |scene| scene.refuse(CAROL, StatusCode::BUSY_HERE)),
        ("never answers", Refusal::NoAnswer, |scene| scene.advance(NO_ANSWER)),
        ("declines by command", Refusal::Declined, |scene| {
            let call = scene.call();
            assert_eq!(scene.command(Command::Drop { call, party: P2 }), Ok(Answer::Done));
        }),
        ("answers with nonsense", Refusal::NotTaken, |scene| scene.accept(CAROL, "m=nothing\r\n")),
    ];
    for (what, refusal, end) in ends {
        let mut scene = Scene::house();
        let id = scene.call();
        let before = scene.of(id);
        assert_eq!(scene.call_in(id, "carol", &[CAROL]), Ok(Answer::Pending(Ticket(1))), "{what}");
        assert_eq!(
            scene.command(Command::Move { call: id, party: P2, kinds: Kinds::BOTH, target: scene.target_of("carol", DAVE) }),
            Err(Refusal::NotAnswered)
        );
        end(&mut scene);
        scene.settle();
        assert_eq!(scene.outcomes, [(Ticket(1), Err(refusal))], "{what}");
        assert_eq!(scene.of(id), before, "{what}");
        assert_eq!(scene.calls.views_of("carol").count(), 0, "{what}");
        scene.assert_talking();
        scene.hangs_up(ANN);
        assert!(scene.record().parties.is_empty(), "{what}");
        scene.assert_over();
    }
}

#[test]
fn of_several_guests_one_is_enough() {
    let mut scene = Scene::house();
    let id = scene.call();
    let guests = vec![scene.guest("carol", &[CAROL]), scene.guest("dave", &[DAVE])];
    let gather = Command::Gather { call: id, party: P0, calls: Vec::new(), guests };
    assert_eq!(scene.command(gather), Ok(Answer::Pending(Ticket(1))));
    scene.settle();
    scene.answers(CAROL, PCMU);
    assert_eq!(scene.outcomes, []);
    scene.refuses(DAVE, StatusCode::BUSY_HERE);
    assert_eq!(scene.outcomes, [(Ticket(1), Ok(()))]);
    scene.assert_all_hear(id, &[ANN, BOB, CAROL]);
}

#[test]
fn a_call_that_ends_takes_its_guests_back() {
    let mut scene = Scene::talking_with(2, PCMU);
    let id = scene.call();
    assert!(scene.call_in(id, "carol", &[CAROL]).is_ok());
    scene.hangs_up(BOB);
    assert_eq!(scene.outcomes, [(Ticket(1), Err(Refusal::CallOver))]);
    assert_eq!(scene.count(SWITCH, CAROL, "CANCEL"), 1);
    scene.assert_over();
}

// ---- the moderator

#[test]
fn each_command_in_each_state() {
    use Refusal::{Locked, NoConference, NoParty, NotAnswered, NotModerator, Unreachable};
    let ringing = || {
        let mut scene = Scene::new(1);
        scene.place(PCMU);
        scene.settle();
        let id = scene.call();
        (scene, id)
    };
    let plain = || {
        let scene = Scene::house();
        let id = scene.call();
        (scene, id)
    };
    let locked = || {
        let (mut scene, id) = three();
        assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: true }), Ok(Answer::Done));
        (scene, id)
    };
    let in_room = || {
        let (mut scene, room) = (Scene::new(3), room(None, None));
        for (phone, user) in [(ANN, "ann"), (BOB, "bob"), (CAROL, "carol")] {
            scene.visit(phone, user, &room, PCMU);
        }
        let id = scene.call();
        (scene, id)
    };
    let at_door = || {
        let mut scene = Scene::new(3);
        scene.visit(ANN, "ann", &room(Some("1234"), None), PCMU);
        let id = scene.call();
        (scene, id)
    };
    type Make<'a> = &'a dyn Fn() -> (Scene, Id);
    let states: [Make<'_>; 6] = [&ringing, &plain, &three, &locked, &in_room, &at_door];
    let done = Ok(Answer::Done);
    let no = |refusal| Err(refusal);
    // by command: what comes of it in a call that rings, that is plain, a conference, a locked one, a room, and at a door
    type Row<'a> = (&'a str, &'a dyn Fn(&Scene, Id) -> Command, [Result<Answer, Refusal>; 6]);
    let (none, not_answered, moderator) = (no(NoConference), no(NotAnswered), no(NotModerator));
    let table: [Row<'_>; 9] = [
        ("lock", &|_, call| Command::Lock { call, by: P0, locked: true }, [none, none, done, done, done, moderator]),
        ("unlock", &|_, call| Command::Lock { call, by: P0, locked: false }, [none, none, done, done, done, moderator]),
        (
            "lock by another",
            &|_, call| Command::Lock { call, by: P1, locked: true },
            [none, none, moderator, moderator, moderator, moderator],
        ),
        ("kick", &|_, call| Command::Kick { call, by: P0, party: P2 }, [none, none, done, done, done, moderator]),
        (
            "kick nobody",
            &|_, call| Command::Kick { call, by: P0, party: PartyId(9) },
            [none, none, no(NoParty), no(NoParty), no(NoParty), moderator],
        ),
        (
            "silence",
            &|_, call| Command::Silence { call, by: P0, party: P1, kinds: Kinds::AUDIO },
            [none, none, done, done, done, moderator],
        ),
        ("pass on", &|_, call| Command::Moderate { call, by: P0, party: P1 }, [none, none, done, done, done, no(NoParty)]),
        (
            "call in",
            &|scene, call| Command::Gather { call, party: P0, calls: Vec::new(), guests: vec![scene.guest("dave", &[DAVE])] },
            [
                not_answered,
                Ok(Answer::Pending(Ticket(1))),
                Ok(Answer::Pending(Ticket(1))),
                no(Locked),
                Ok(Answer::Pending(Ticket(1))),
                not_answered,
            ],
        ),
        (
            "call in nowhere",
            &|scene, call| Command::Gather { call, party: P0, calls: Vec::new(), guests: vec![scene.guest("dave", &[])] },
            [not_answered, no(Unreachable), no(Unreachable), no(Locked), no(Unreachable), not_answered],
        ),
    ];
    for (name, command, expected) in table {
        for (state, (make, expected)) in states.iter().zip(expected).enumerate() {
            let (mut scene, id) = make();
            let command = command(&scene, id);
            assert_eq!(scene.command(command), expected, "{name} in state {state}");
        }
    }
}

#[test]
fn the_moderator_silences_and_removes_and_passes_it_on() {
    let (mut scene, id) = three();
    let gives = |scene: &Scene| scene.of(id).parties.iter().map(|party| party.legs[0].gives.audio).collect::<Vec<_>>();
    assert_eq!(scene.command(Command::Silence { call: id, by: P0, party: P1, kinds: Kinds::AUDIO }), Ok(Answer::Done));
    assert_eq!((gives(&scene), scene.of(id).parties[1].muted), (vec![true, false, true], Kinds::AUDIO));
    assert_eq!(scene.command(Command::Silence { call: id, by: P0, party: P1, kinds: Kinds::NONE }), Ok(Answer::Done));
    assert_eq!(gives(&scene), [true, true, true]);
    assert_eq!(scene.command(Command::Moderate { call: id, by: P0, party: P1 }), Ok(Answer::Done));
    assert_eq!(scene.moderator(id), Some(P1));
    assert_eq!(scene.command(Command::Kick { call: id, by: P0, party: P2 }), Err(Refusal::NotModerator));
    assert_eq!(scene.command(Command::Kick { call: id, by: P1, party: P2 }), Ok(Answer::Done));
    scene.settle();
    assert_eq!((scene.count(SWITCH, CAROL, "BYE"), scene.names(id)), (1, vec!["ann".to_owned(), "bob".to_owned()]));
    scene.hangs_up(ANN);
    scene.assert_over();
}

#[test]
fn who_is_muted_by_the_moderator_cannot_undo_it() {
    let (mut scene, id) = three();
    let gives = |scene: &Scene| scene.of(id).parties[1].legs[0].gives.audio;
    let mute = |scene: &mut Scene, kinds| scene.command(Command::Mute { call: id, party: P1, kinds });
    let silence = |scene: &mut Scene, by, kinds| scene.command(Command::Silence { call: id, by, party: P1, kinds });
    assert_eq!(silence(&mut scene, P0, Kinds::AUDIO), Ok(Answer::Done));
    assert_eq!(mute(&mut scene, Kinds::NONE), Err(Refusal::Silenced));
    assert_eq!((gives(&scene), scene.of(id).parties[1].silenced), (false, Kinds::AUDIO));
    assert_eq!(mute(&mut scene, Kinds::BOTH), Ok(Answer::Done), "more is their own affair");
    assert_eq!(mute(&mut scene, Kinds::AUDIO), Ok(Answer::Done), "and that they undo");
    assert_eq!(silence(&mut scene, P0, Kinds::NONE), Ok(Answer::Done));
    assert!(gives(&scene));
    // their own they undo, also what they kept back when they became the moderator
    assert_eq!((mute(&mut scene, Kinds::AUDIO), mute(&mut scene, Kinds::NONE)), (Ok(Answer::Done), Ok(Answer::Done)));
    assert_eq!(silence(&mut scene, P0, Kinds::AUDIO), Ok(Answer::Done));
    assert_eq!(scene.command(Command::Moderate { call: id, by: P0, party: P1 }), Ok(Answer::Done));
    assert_eq!((scene.of(id).parties[1].silenced, silence(&mut scene, P1, Kinds::NONE)), (Kinds::NONE, Ok(Answer::Done)));
    assert!(gives(&scene));
    // where nobody moderates any more, they are not silent for ever
    assert_eq!(scene.command(Command::Moderate { call: id, by: P1, party: P0 }), Ok(Answer::Done));
    assert_eq!(silence(&mut scene, P0, Kinds::AUDIO), Ok(Answer::Done));
    scene.hangs_up(ANN);
    assert_eq!((scene.of(id).conference.as_ref(), scene.of(id).parties[0].muted), (None, Kinds::AUDIO));
    assert_eq!(mute(&mut scene, Kinds::NONE), Ok(Answer::Done));
    scene.assert_all_hear(id, &[BOB, CAROL]);
}

#[test]
fn who_moderates_and_leaves_is_followed_by_the_next() {
    let mut scene = Scene::new(3);
    let room = room(None, None);
    for (phone, user) in [(ANN, "ann"), (BOB, "bob"), (CAROL, "carol")] {
        scene.visit(phone, user, &room, PCMU);
    }
    let id = scene.call();
    assert_eq!(scene.moderator(id), Some(P0));
    scene.hangs_up(ANN);
    assert_eq!(scene.moderator(id), Some(P1));
}

// ---- moves

#[test]
fn a_party_of_a_conference_moves_and_the_others_are_asked_nothing() {
    let (mut scene, id) = three();
    let asked = |scene: &Scene| [ANN, CAROL].map(|phone| scene.count(SWITCH, phone, "INVITE"));
    let before = asked(&scene);
    let target = scene.target(DAVE);
    assert_eq!(scene.command(Command::Move { call: id, party: P1, kinds: Kinds::BOTH, target }), Ok(Answer::Pending(Ticket(1))));
    scene.settle();
    scene.answers(DAVE, PCMU);
    let mut parties: Vec<u16> = scene.media.arranged[&BridgeId(id.0)].iter().map(|member| member.party).collect();
    parties.sort_unstable();
    assert_eq!(parties, [0, 1, 1, 2], "both devices, one party");
    scene.hear(MediaKind::Audio);
    assert_eq!(scene.outcomes, [(Ticket(1), Ok(()))]);
    scene.assert_all_hear(id, &[ANN, CAROL, DAVE]);
    assert_eq!(asked(&scene), before);
    assert_eq!(scene.names(id), ["ann", "bob", "carol"]);
}

#[test]
fn a_party_of_a_conference_splits_audio_and_video() {
    let (mut scene, id) = three();
    for phone in &mut scene.phones {
        phone.on_offer = OnOffer::Fit { video: true };
    }
    assert!(scene.offer(ANN, FILM));
    scene.settle();
    let (audio, video) = (scene.target(BOB), scene.target(DAVE));
    assert_eq!(scene.command(Command::Split { call: id, party: P1, audio, video }), Ok(Answer::Pending(Ticket(1))));
    scene.settle();
    scene.accept_fitting(DAVE, true);
    scene.settle();
    scene.hear(MediaKind::Video);
    assert_eq!(scene.outcomes, [(Ticket(1), Ok(()))]);
    let carried: Vec<(usize, Kinds)> = scene.carried().into_iter().map(|(phone, gives, _)| (phone, gives)).collect();
    assert_eq!(carried, [(ANN, Kinds::BOTH), (BOB, Kinds::AUDIO), (DAVE, Kinds::VIDEO), (CAROL, Kinds::BOTH)]);
}

#[test]
fn a_party_in_the_middle_of_a_move_may_be_joined() {
    let (mut scene, [first, second], _) = two_calls();
    let target = scene.target_of("carol", DAVE);
    assert!(scene.command(Command::Move { call: second, party: P1, kinds: Kinds::BOTH, target }).is_ok());
    scene.settle();
    let gather = Command::Gather { call: first, party: P0, calls: vec![second], guests: Vec::new() };
    assert_eq!(scene.command(gather), Ok(Answer::Done));
    scene.settle();
    scene.answers(DAVE, PCMU);
    scene.hear(MediaKind::Audio);
    assert_eq!(scene.outcomes, [(Ticket(1), Ok(()))]);
    scene.assert_all_hear(first, &[ANN, BOB, DAVE]);
}

// ---- a phone's REFER

#[test]
fn a_phone_of_a_conference_brings_somebody_in() {
    let (mut scene, id) = three();
    assert_eq!(scene.transfer(BOB, "dave", &[DAVE]), Ok(()));
    assert_eq!(scene.count(SWITCH, BOB, "202 REFER"), 1);
    let Message::Request(invite) = scene.last(SWITCH, DAVE, "INVITE") else { unreachable!("INVITE is a request") };
    assert_eq!(invite.headers.get_text(Name::ReferredBy).as_deref(), Some("<sip:bob@h>"));
    scene.rings(DAVE);
    scene.assert_all_hear(id, &[ANN, BOB, CAROL]);
    scene.answers(DAVE, PCMU);
    assert_eq!(scene.told(BOB), ["100 Trying", "180 Ringing", "200 OK"]);
    scene.assert_all_hear(id, &[ANN, BOB, CAROL, DAVE]);
    for (user, to) in [("carol", &[DAVE][..]), ("bob", &[DAVE])] {
        assert_eq!(scene.transfer(BOB, user, to), Err(Refusal::Present), "{user}");
    }
    assert_eq!((scene.count(SWITCH, BOB, "403 REFER"), scene.names(id).len()), (2, 4));
}

#[test]
fn a_phone_is_told_why_nobody_came_into_the_conference() {
    type End = (&'static str, fn(&mut Scene));
    let ends: [End; 3] = [
        ("486 Busy Here", |scene| scene.refuses(DAVE, StatusCode::BUSY_HERE)),
        ("480 Temporarily Unavailable", |scene| scene.advance(NO_ANSWER)),
        ("487 Request Terminated", |scene| {
            let call = scene.call();
            let end = Command::End { call, reason: "enough".to_owned() };
            assert_eq!(scene.command(end), Ok(Answer::Done));
            scene.settle();
        }),
    ];
    for (told, end) in ends {
        let (mut scene, id) = three();
        scene.transfer(BOB, "dave", &[DAVE]).unwrap();
        end(&mut scene);
        assert_eq!(scene.told(BOB).last().map(String::as_str), Some(told));
        if let Some(view) = scene.calls.view(id) {
            assert_eq!((view.parties.len(), scene.missed.len()), (3, 1), "{told}");
            scene.assert_all_hear(id, &[ANN, BOB, CAROL]);
            assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: true }), Ok(Answer::Done));
            assert_eq!(scene.transfer(BOB, "dave", &[DAVE]), Err(Refusal::Locked), "{told}");
        }
    }
}

// ---- rooms

#[test]
fn who_is_alone_in_a_room_goes_on_by_another_device() {
    type Way = (&'static str, fn(&mut Scene, Id));
    let ways: [Way; 3] = [
        ("takes it over", |scene, id| {
            scene.place = Some(Place::Own(id, P0));
            scene.place_from(CAROL, ("ann", "anybody"), PCMU);
        }),
        ("takes it over without an offer", |scene, id| {
            scene.place = Some(Place::Own(id, P0));
            scene.place_from(CAROL, ("ann", "anybody"), "");
        }),
        ("moves", |scene, id| {
            let target = scene.target_of("ann", CAROL);
            let command = Command::Move { call: id, party: P0, kinds: Kinds::BOTH, target };
            assert!(matches!(scene.command(command), Ok(Answer::Pending(_))));
            scene.settle();
            scene.answers(CAROL, PCMU);
        }),
    ];
    for (way, go) in ways {
        let mut scene = Scene::new(3);
        scene.visit(ANN, "ann", &room(None, None), PCMU);
        let id = scene.call();
        go(&mut scene, id);
        scene.settle();
        assert_eq!(scene.refusal, None, "{way}");
        scene.advance(Duration::from_secs(4));
        assert_eq!((scene.names(id), scene.count(SWITCH, ANN, "BYE")), (vec!["ann".to_owned()], 1), "{way}");
        let alone = &scene.media.arranged[&BridgeId(id.0)];
        assert_eq!(alone.iter().map(|member| (member.port, member.plays)).collect::<Vec<_>>(), [(scene.port(CAROL), Some(SoundId::HOLD))]);
        scene.visit(BOB, "bob", &room(None, None), PCMU);
        scene.assert_all_hear(id, &[BOB, CAROL]);
        for phone in [CAROL, BOB] {
            scene.hangs_up(phone);
        }
        scene.started = 1;
        scene.assert_over();
    }
}

#[test]
fn a_room_is_open_while_somebody_is_in_it() {
    let mut scene = Scene::new(3);
    let room = room(None, Some("bob"));
    scene.visit(ANN, "ann", &room, PCMU);
    assert_eq!(scene.visited, Some(Ok(())));
    let id = scene.call();
    let alone = &scene.media.arranged[&BridgeId(id.0)];
    assert_eq!(alone.iter().map(|member| member.plays).collect::<Vec<_>>(), [Some(SoundId::HOLD)], "who is alone hears music");
    let view = scene.of(id);
    assert_eq!((view.state, view.conference.as_ref().and_then(|it| it.room.clone()).as_deref()), (State::Connected, Some("800")));
    assert_eq!(scene.moderator(id), None, "the room says who it is");
    for (phone, user, media) in [(BOB, "bob", PCMU), (CAROL, "carol", "")] {
        scene.visit(phone, user, &room, media);
        assert_eq!(scene.visited, Some(Ok(())), "{user}");
    }
    scene.assert_all_hear(id, &[ANN, BOB, CAROL]);
    assert_eq!((scene.moderator(id), scene.calls.len()), (Some(P1), 1));
    assert_eq!(scene.media.beside[1..], [Some(scene.port(ANN)), Some(scene.port(ANN))], "all on one media thread");
    for phone in [BOB, ANN] {
        scene.hangs_up(phone);
    }
    assert_eq!((scene.names(id), scene.moderator(id)), (vec!["carol".to_owned()], None));
    scene.hangs_up(CAROL);
    let record = scene.record();
    assert_eq!((&*record.callee, record.parties.len(), record.media.len()), ("800", 3, 3));
    scene.started = 1;
    scene.assert_over();
    scene.visit(ANN, "ann", &room, PCMU);
    assert_ne!(scene.call(), id, "it opens again");
}

#[test]
fn another_device_of_somebody_in_a_room_joins_them() {
    let mut scene = Scene::new(2);
    let room = room(None, None);
    for (phone, user) in [(ANN, "ann"), (BOB, "bob"), (CAROL, "ann")] {
        scene.visit(phone, user, &room, PCMU);
    }
    let id = scene.call();
    assert_eq!(scene.names(id), ["ann", "bob"]);
    let parties: Vec<u16> = scene.media.arranged[&BridgeId(id.0)].iter().map(|member| member.party).collect();
    assert_eq!(parties, [0, 1, 0]);
}

#[test]
fn a_pin_is_asked_for_before_anybody_is_let_in() {
    let mut scene = Scene::new(3);
    let room = room(Some("2468"), None);
    scene.visit(ANN, "ann", &room, PCMU);
    let id = scene.call();
    scene.dial(ANN, "2468");
    assert_eq!(scene.moderator(id), Some(P0));
    scene.visit(BOB, "bob", &room, PCMU);
    let door = scene.calls.views().last().expect("a call").id;
    assert_ne!(door, id);
    assert_eq!((scene.names(id), scene.names(door)), (vec!["ann".to_owned()], vec!["bob".to_owned()]), "neither learns of the other");
    scene.dial(BOB, "99*2468");
    assert_eq!(scene.names(id), ["ann", "bob"]);
    scene.assert_all_hear(id, &[ANN, BOB]);
    assert_eq!((scene.calls.views().count(), scene.records.len()), (1, 0), "the room's record tells of bob");
    // by INFO, and ended by a hash
    scene.visit(CAROL, "carol", &room, PCMU);
    for digit in ["Signal=2", "Signal=4", "Signal=#", "Signal=2", "Signal=4", "Signal=6", "Signal=8"] {
        scene.info(CAROL, digit);
        scene.settle();
    }
    assert_eq!(scene.count(SWITCH, CAROL, "200 INFO"), 7);
    scene.assert_all_hear(id, &[ANN, BOB, CAROL]);
    for phone in [ANN, BOB, CAROL] {
        scene.hangs_up(phone);
    }
    let record = scene.record();
    assert_eq!((record.parties.len(), record.ended_by, &*record.reason), (3, EndedBy::Callee, "carol hung up"));
    scene.started = 1;
    scene.assert_over();
}

#[test]
fn a_pin_is_not_guessed() {
    // "Guessing is limited per account": security.md, "Also required"
    let mut scene = Scene::new(2);
    let room = room(Some("2468"), None);
    scene.visit(ANN, "ann", &room, PCMU);
    scene.dial(ANN, "1111222233");
    assert_eq!(scene.count(SWITCH, ANN, "BYE"), 0);
    scene.dial(ANN, "33");
    assert_eq!((scene.count(SWITCH, ANN, "BYE"), scene.record().reason.as_str()), (1, "three wrong PINs"));
    for _ in 1..3 {
        scene.visit(ANN, "ann", &room, PCMU);
        scene.dial(ANN, "1#1#1#");
    }
    scene.visit(ANN, "ann", &room, PCMU);
    scene.dial(ANN, "2468");
    let at_door = |scene: &Scene| scene.media.arranged.values().flatten().all(|member| member.plays.is_some());
    assert_eq!((scene.moderator(scene.call()), at_door(&scene)), (None, true), "nine of ann's were wrong within a minute");
    scene.visit(BOB, "bob", &room, PCMU);
    scene.dial(BOB, "2468");
    let open = scene.calls.views().last().expect("a call").id;
    assert_eq!(scene.moderator(open), Some(P0), "who did not guess is let in");
    scene.advance(Duration::from_secs(61));
    assert_eq!(scene.records.last().expect("a record").reason, "no PIN in time");
    scene.visit(ANN, "ann", &room, PCMU);
    scene.dial(ANN, "2468");
    assert_eq!(scene.names(open), ["bob", "ann"]);
}

#[test]
fn a_room_counts_among_the_calls_of_whoever_is_in_it() {
    // S11
    let (mut scene, open, closed) = (Scene::house(), room(None, None), room(Some("2468"), None));
    let charged = |scene: &Scene, user: &str| scene.calls.made.get(&Account::User(user.into())).copied().unwrap_or(0);
    assert_eq!((charged(&scene, "ann"), charged(&scene, "bob")), (1, 0), "ann called bob");
    let talk = scene.call();
    scene.visit(CAROL, "carol", &open, PCMU);
    scene.calls.policy.calls_per_user = 1;
    let sent = scene.with_calls(|calls, switch| calls.send_to_room(switch, (talk, P1), &open, None));
    scene.settle();
    let hall = scene.call();
    assert_eq!((sent, scene.names(hall)), (Ok(()), vec!["carol".to_owned(), "ann".to_owned()]));
    assert_eq!((charged(&scene, "ann"), charged(&scene, "carol")), (1, 1), "what ann called counts as before");
    scene.place_from(DAVE, ("carol", "bob"), PCMU);
    scene.settle();
    assert_eq!(scene.count(SWITCH, DAVE, "486 INVITE"), 1);
    scene.visit(DAVE, "carol", &open, PCMU);
    assert_eq!((scene.visited, charged(&scene, "carol")), (Some(Ok(())), 1), "another device of who is in");
    scene.visit(BOB, "bob", &open, PCMU);
    assert_eq!((scene.visited, charged(&scene, "bob")), (Some(Ok(())), 1));
    // who has opened it may leave, and is free for other calls
    for phone in [CAROL, DAVE] {
        scene.hangs_up(phone);
    }
    assert_eq!((charged(&scene, "carol"), scene.names(hall)), (0, vec!["ann".to_owned(), "bob".to_owned()]));
    scene.visit(CAROL, "carol", &closed, PCMU);
    assert_eq!((scene.visited, charged(&scene, "carol")), (Some(Ok(())), 1), "at a door");
    scene.visit(DAVE, "carol", &open, PCMU);
    assert_eq!((scene.visited, scene.count(SWITCH, DAVE, "486 INVITE")), (Some(Err(Refusal::TooManyOfUser)), 2));
    scene.dial(CAROL, "2468");
    assert_eq!((scene.names(hall).len(), charged(&scene, "carol")), (3, 1), "and inside");
    assert_eq!(scene.command(Command::Kick { call: hall, by: PartyId(1), party: PartyId(3) }), Ok(Answer::Done));
    assert_eq!((scene.names(hall), charged(&scene, "carol")), (vec!["ann".to_owned(), "bob".to_owned()], 0));
    for phone in [ANN, BOB] {
        scene.hangs_up(phone);
    }
    scene.started = scene.records.len();
    scene.assert_over();
}

#[test]
fn a_hash_behind_a_pin_that_was_judged_is_no_other_guess() {
    let mut scene = Scene::new(2);
    let room = room(Some("2468"), None);
    scene.visit(ANN, "ann", &room, PCMU);
    scene.dial(ANN, "#1111#2222##");
    assert_eq!(scene.count(SWITCH, ANN, "BYE"), 0);
    scene.dial(ANN, "3333");
    assert_eq!((scene.count(SWITCH, ANN, "BYE"), scene.record().reason.as_str()), (1, "three wrong PINs"));
}

#[test]
fn a_locked_room_takes_nobody() {
    let mut scene = Scene::new(3);
    let room = room(None, None);
    for (phone, user) in [(ANN, "ann"), (BOB, "bob")] {
        scene.visit(phone, user, &room, PCMU);
    }
    let id = scene.call();
    assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: true }), Ok(Answer::Done));
    assert!(scene.of(id).conference.as_ref().is_some_and(|conference| conference.locked));
    scene.visit(CAROL, "carol", &room, PCMU);
    assert_eq!((scene.visited, scene.count(SWITCH, CAROL, "403 INVITE")), (Some(Err(Refusal::Locked)), 1));
    scene.visit(CAROL, "bob", &room, PCMU);
    assert_eq!(scene.visited, Some(Ok(())), "another device of who is in");
    assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: false }), Ok(Answer::Done));
    scene.visit(DAVE, "dave", &room, PCMU);
    assert_eq!(scene.visited, Some(Ok(())));
}

#[test]
fn a_visitor_who_offers_nonsense_is_refused() {
    let mut scene = Scene::new(2);
    let room = room(None, None);
    scene.visit(ANN, "ann", &room, "m=nothing\r\n");
    assert_eq!((scene.visited, scene.count(SWITCH, ANN, "488 INVITE")), (Some(Err(Refusal::NotTaken)), 1));
    scene.visit(ANN, "ann", &room, PCMU);
    scene.visit(BOB, "bob", &room, "m=nothing\r\n");
    assert_eq!((scene.visited, scene.names(scene.call()).len()), (Some(Err(Refusal::NotTaken)), 1));
    scene.hangs_up(ANN);
    scene.started = 2;
    scene.assert_over();
}

#[test]
fn a_party_is_sent_into_a_room() {
    for pin in [None, Some("2468")] {
        let mut scene = Scene::house();
        let id = scene.call();
        let room = room(pin, None);
        assert_eq!(scene.command(Command::Send { call: id, party: P1, room: Arc::clone(&room) }), Ok(Answer::Done));
        scene.settle();
        assert_eq!((scene.count(SWITCH, BOB, "BYE"), scene.names(id)), (1, vec!["ann".to_owned()]));
        assert_eq!(scene.moderator(id), pin.is_none().then_some(P0));
        scene.dial(ANN, pin.unwrap_or_default());
        scene.visit(CAROL, "carol", &room, PCMU);
        scene.dial(CAROL, pin.unwrap_or_default());
        scene.assert_all_hear(id, &[ANN, CAROL]);
        // and into one that is open
        scene.targets = vec![BOB];
        scene.place_from(DAVE, ("dave", "bob"), PCMU);
        scene.settle();
        scene.answers(BOB, PCMU);
        let other = scene.calls.views().last().expect("a call").id;
        let send = |call| Command::Send { call, party: P1, room: Arc::clone(&room) };
        assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: true }), Ok(Answer::Done));
        assert_eq!(scene.command(send(other)), Err(Refusal::Locked));
        assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: false }), Ok(Answer::Done));
        assert_eq!((scene.names(other), scene.command(send(other))), (vec!["dave".to_owned(), "bob".to_owned()], Ok(Answer::Done)));
        scene.settle();
        scene.dial(DAVE, pin.unwrap_or_default());
        assert_eq!(scene.names(id), ["ann", "carol", "dave"]);
        scene.assert_all_hear(id, &[ANN, CAROL, DAVE]);
        let record = scene.record();
        assert_eq!(
            (record.id, &*record.callee, &*record.reason),
            (other, "bob@h", &*format!("joined with call {id}")),
            "bob's call is known"
        );
        for phone in [ANN, CAROL, DAVE] {
            scene.hangs_up(phone);
        }
        scene.started = 2;
        scene.assert_over();
    }
}

// ---- rooms that client applications have called

/// A user wants to be in a room by a phone.
fn call_room(scene: &mut Scene, (phone, user): (usize, &str), room: &Arc<Room>) -> Result<(Id, Ticket), Refusal> {
    scene.make_to((user, phone), (Kinds::AUDIO, None), (&room.number, Destination::Room(Arc::clone(room))))
}

#[test]
fn who_has_a_room_called_is_in_it_when_their_phone_answers() {
    let (mut scene, room) = (Scene::new(3), room(None, None));
    let (id, ticket) = call_room(&mut scene, (ANN, "ann"), &room).expect("it is made");
    let invite = scene.last(SWITCH, ANN, "INVITE").headers();
    assert_eq!(invite.get_text(Name::From).map(|from| from.starts_with("<sip:800@h>")), Some(true), "it is shown the room");
    assert!(invite.get_text(Name::AlertInfo).is_some());
    let view = scene.of(id);
    assert_eq!(
        (view.state, view.parties[0].state, &*view.dialled, &scene.outcomes),
        (State::Ringing, Standing::Calling, "800", &Vec::new())
    );
    scene.advance(Duration::from_secs(2));
    scene.answers(ANN, PCMU);
    let view = scene.of(id);
    assert_eq!((scene.outcomes.as_slice(), view.state), ([(ticket, Ok(()))].as_slice(), State::Connected));
    assert_eq!((view.answered_at, view.conference.as_ref().and_then(|it| it.room.as_deref())), (Some(UNIX + 2000), Some("800")));
    assert_eq!((scene.moderator(id), &view.constructed), (Some(P0), &Constructed::Conference));
    assert_eq!(scene.media.arranged[&BridgeId(id.0)][0].plays, Some(SoundId::HOLD));
    scene.visit(BOB, "bob", &room, PCMU);
    scene.assert_all_hear(id, &[ANN, BOB]);
    // somebody is in it: the call becomes part of theirs
    let (own, ticket) = call_room(&mut scene, (CAROL, "carol"), &room).expect("it is made");
    assert_eq!((scene.names(id).len(), scene.names(own)), (2, vec!["carol".to_owned()]), "nobody is told before she is there");
    scene.answers(CAROL, PCMU);
    assert_eq!((scene.outcomes.last(), scene.merged.as_slice()), (Some(&(ticket, Ok(()))), [(own, id)].as_slice()));
    assert_eq!((scene.names(id), scene.calls.view(own)), (["ann", "bob", "carol"].map(str::to_owned).to_vec(), None));
    scene.assert_all_hear(id, &[ANN, BOB, CAROL]);
    // and by another phone, with a camera on a further one
    let to = Destination::Room(Arc::clone(&room));
    scene.make_to(("ann", DAVE), (Kinds::BOTH, None), ("800", to)).expect("it is made");
    scene.accept_fitting(DAVE, true);
    scene.settle();
    assert_eq!((scene.names(id).len(), scene.of(id).parties[0].legs.len()), (3, 2), "ann is there once");
    for phone in [ANN, DAVE, BOB, CAROL] {
        scene.hangs_up(phone);
    }
    let record = scene.record();
    assert_eq!((&*record.callee, record.answered_by.as_deref(), record.parties.len()), ("800", Some("room 800"), 3));
    scene.started = 1;
    scene.assert_over();
}

#[test]
fn who_has_a_room_called_shows_its_pin_by_the_phone_or_by_command() {
    let (mut scene, room) = (Scene::new(3), room(Some("2468"), None));
    let digits = |call, digits: &str| Command::Digits { call, party: P0, digits: digits.to_owned() };
    let door = |scene: &mut Scene, phone, user| {
        let (call, ticket) = call_room(scene, (phone, user), &room).expect("it is made");
        scene.answers(phone, PCMU);
        assert_eq!(scene.outcomes.last(), Some(&(ticket, Ok(()))), "the room has answered");
        assert!(scene.of(call).conference.as_ref().is_some_and(|it| it.at_door && it.moderator.is_none()));
        call
    };
    let id = door(&mut scene, ANN, "ann");
    scene.dial(ANN, "2468");
    assert!(scene.of(id).conference.as_ref().is_some_and(|it| !it.at_door));
    let own = door(&mut scene, BOB, "bob");
    assert_eq!((scene.names(id), scene.command(digits(own, "112468"))), (vec!["ann".to_owned()], Ok(Answer::Done)), "one is wrong");
    assert_eq!(scene.command(digits(own, "*2468")), Ok(Answer::Done));
    scene.settle();
    assert_eq!((scene.names(id), scene.merged.as_slice()), (vec!["ann".to_owned(), "bob".to_owned()], [(own, id)].as_slice()));
    scene.assert_all_hear(id, &[ANN, BOB]);
    // the wrong ones end the call, whoever sent them
    let own = door(&mut scene, CAROL, "carol");
    assert_eq!(scene.command(digits(own, "1#2#3#2468")), Ok(Answer::Done), "what comes too late is dropped");
    scene.settle();
    assert_eq!((scene.count(SWITCH, CAROL, "BYE"), &*scene.record().reason), (1, "three wrong PINs"));
    // nobody learns at the door that the room is locked
    assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: true }), Ok(Answer::Done));
    let own = door(&mut scene, CAROL, "carol");
    assert_eq!(scene.command(digits(own, "2468")), Ok(Answer::Done));
    scene.settle();
    assert_eq!((scene.calls.view(own), &*scene.records[1].reason), (None, "the conference is locked"));
    for phone in [ANN, BOB] {
        scene.hangs_up(phone);
    }
    scene.started = 3;
    scene.assert_over();
}

#[test]
fn a_room_that_takes_nobody_is_not_called() {
    let (mut scene, room) = (Scene::new(3), room(None, None));
    scene.visit(ANN, "ann", &room, PCMU);
    let id = scene.call();
    let (own, ticket) = call_room(&mut scene, (BOB, "bob"), &room).expect("it is made");
    assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: true }), Ok(Answer::Done));
    assert_eq!(call_room(&mut scene, (CAROL, "carol"), &room), Err(Refusal::Locked));
    assert_eq!(scene.count(SWITCH, CAROL, "INVITE"), 0);
    scene.answers(BOB, PCMU);
    assert_eq!((scene.outcomes.as_slice(), scene.calls.view(own)), ([(ticket, Err(Refusal::Locked))].as_slice(), None), "locked meanwhile");
    assert_eq!((scene.count(SWITCH, BOB, "BYE"), scene.record().id), (1, own));
    assert_eq!(scene.command(Command::Lock { call: id, by: P0, locked: false }), Ok(Answer::Done));
    scene.calls.policy.calls_per_user = 1; // S11
    assert_eq!(call_room(&mut scene, (CAROL, "ann"), &room), Err(Refusal::TooManyOfUser));
    let (_, ticket) = call_room(&mut scene, (CAROL, "carol"), &room).expect("it is made");
    assert_eq!(call_room(&mut scene, (DAVE, "carol"), &room), Err(Refusal::TooManyOfUser));
    scene.refuses(CAROL, StatusCode::BUSY_HERE);
    assert_eq!(scene.outcomes.last(), Some(&(ticket, Err(Refusal::Busy))));
    scene.hangs_up(ANN);
    scene.started = 3;
    scene.assert_over();
}

#[test]
fn a_user_takes_their_calls_into_a_room() {
    for (is_open, moderator) in [(false, None), (true, None), (false, Some("carol"))] {
        let (mut scene, [first, second], dialogs) = two_calls();
        let room = room(None, moderator);
        if is_open {
            scene.visit(DAVE, "dave", &room, PCMU);
        }
        let hall = scene.calls.views().last().filter(|_| is_open).map_or(first, |view| view.id);
        let enter = Command::Enter { call: first, party: P0, calls: vec![second], room: Arc::clone(&room) };
        assert_eq!(scene.command(enter), Ok(Answer::Pending(Ticket(1))));
        scene.settle();
        assert_eq!((scene.outcomes.as_slice(), scene.calls.views().count()), ([(Ticket(1), Ok(()))].as_slice(), 1));
        scene.phones[ANN].dialog = Some(dialogs[1]);
        let all: &[usize] = if is_open { &[DAVE, ANN, BOB, CAROL] } else { &[ANN, BOB, CAROL] };
        scene.assert_all_hear(hall, all);
        assert_eq!(scene.merged.contains(&(first, hall)), is_open);
        let view = scene.of(hall);
        assert_eq!(view.conference.as_ref().and_then(|it| it.room.as_deref()), Some("800"));
        let moderates = scene.moderator(hall).and_then(|party| view.party(party)).and_then(|party| party.who.user());
        assert_eq!(moderates.map(|user| &**user), Some(if is_open { "dave" } else { moderator.unwrap_or("ann") }));
        for phone in all {
            scene.hangs_up(*phone);
        }
        let reasons = scene.records.iter().filter(|record| record.reason.starts_with("joined with call")).count();
        assert_eq!(reasons, if is_open { 2 } else { 1 });
        scene.started = if is_open { 3 } else { 2 };
        scene.assert_over();
    }
}

#[test]
fn calls_that_cannot_go_into_a_room_stay_as_they_are() {
    let (mut scene, [first, second], _) = two_calls();
    let (open, closed) = (room(None, None), room(Some("2468"), None));
    scene.visit(DAVE, "dave", &open, PCMU);
    let hall = scene.calls.views().last().expect("a call").id;
    let enter = |call, party, room: &Arc<Room>| Command::Enter { call, party, calls: vec![second], room: Arc::clone(room) };
    assert_eq!(scene.command(Command::Lock { call: hall, by: P0, locked: true }), Ok(Answer::Done));
    let before: Vec<_> = scene.calls.views().collect();
    assert_eq!(scene.command(enter(first, P0, &closed)), Err(Refusal::AsksPin));
    assert_eq!(scene.command(enter(first, P0, &open)), Err(Refusal::Locked));
    assert_eq!(scene.command(enter(first, P2, &open)), Err(Refusal::NoParty));
    assert_eq!(scene.command(enter(first, P1, &open)), Err(Refusal::Locked));
    assert_eq!(scene.command(enter(hall, P0, &open)), Err(Refusal::Locked));
    assert_eq!(scene.calls.views().collect::<Vec<_>>(), before);
    assert_eq!(scene.command(Command::Lock { call: hall, by: P0, locked: false }), Ok(Answer::Done));
    assert_eq!(scene.command(enter(hall, P0, &open)), Err(Refusal::IsRoom), "a room goes nowhere");
    assert_eq!(scene.command(enter(first, P1, &open)), Err(Refusal::NoParty), "bob is not in the second call");
}

#[test]
fn as_many_as_may_are_in_a_room_and_no_more() {
    let mut scene = Scene::new(MAX_PARTIES);
    let room = room(None, None);
    for phone in 1..=MAX_PARTIES {
        scene.visit(phone, &format!("user{phone}"), &room, PCMU);
        assert_eq!(scene.visited, Some(Ok(())), "{phone}");
    }
    let id = scene.call();
    scene.assert_all_hear(id, &(1..=MAX_PARTIES).collect::<Vec<_>>());
    scene.visit(MAX_PARTIES + 1, "late", &room, PCMU);
    assert_eq!((scene.visited, scene.count(SWITCH, MAX_PARTIES + 1, "486 INVITE")), (Some(Err(Refusal::Full)), 1));
    for phone in 1..=MAX_PARTIES {
        scene.hangs_up(phone);
    }
    scene.started = 1;
    scene.assert_over();
}

#[test]
fn two_in_a_room_negotiate_with_us_alone_and_show_their_cameras() {
    let mut scene = Scene::new(2);
    let room = room(None, None);
    for (phone, user) in [(ANN, "ann"), (BOB, "bob")] {
        scene.visit(phone, user, &room, FILM);
        assert!(!scene.body(SWITCH, phone, "200 INVITE").contains("m=video 0"), "whoever comes may have a camera");
    }
    assert!(scene.offer(ANN, FILM));
    scene.settle();
    assert_eq!((scene.count(SWITCH, ANN, "200 INVITE"), scene.count(SWITCH, BOB, "INVITE")), (2, 0));
    assert!(scene.carried().iter().all(|(_, gives, takes)| (*gives, *takes) == (Kinds::BOTH, Kinds::BOTH)));
}

#[test]
fn a_conference_goes_on_without_a_user_who_is_removed() {
    let (mut scene, id) = three();
    assert!(scene.call_in(id, "dave", &[DAVE]).is_ok());
    scene.rings(DAVE);
    for gone in ["dave", "ann"] {
        scene.with_calls(|calls, switch| calls.remove_user(switch, gone));
        scene.settle();
    }
    assert_eq!((scene.count(SWITCH, DAVE, "CANCEL"), scene.names(id)), (1, vec!["bob".to_owned(), "carol".to_owned()]));
    assert_eq!(scene.phones[ANN].endpoint.dialogs(), 0);
    scene.assert_hear(BOB, CAROL);
    scene.bye(BOB);
    scene.assert_over();
}
