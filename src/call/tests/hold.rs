//! Hold by command as the phones see it: offered, refused, slow, pressed on both sides, and in the middle of moves and conferences.

use std::time::Duration;

use media::Kinds;
use media::sdp::MediaKind;
use sip::StatusCode;
use sip::message::Headers;

use super::scene::*;
use crate::call::command::{Answer, Command};
use crate::call::conference::Guest;
use crate::call::graph::Standing;
use crate::call::party::PartyId;
use crate::call::record::EndedBy;

const SHOWN: &str = "a=sendonly";
const P0: PartyId = PartyId::CALLER;
const P1: PartyId = PartyId::CALLEE;

impl Scene {
    /// Somebody holds, or no longer does, by command; phones have not been told yet.
    #[track_caller]
    fn holds(&mut self, party: PartyId, holds: bool) {
        let call = self.call();
        let command = if holds { Command::Hold { call, party } } else { Command::Resume { call, party } };
        assert_eq!(self.command(command), Ok(Answer::Done));
    }

    /// Whether music is played to each party.
    fn music(&self) -> Vec<bool> {
        self.media.arranged.values().flatten().map(|member| member.plays.is_some()).collect()
    }

    /// The last offer to a phone tells it that it is on hold.
    fn is_shown(&self, phone: usize) -> bool {
        self.body(SWITCH, phone, "INVITE").contains(SHOWN)
    }

    fn states(&self) -> Vec<(Standing, bool)> {
        let view = self.calls.views().next().expect("a call");
        view.parties.iter().map(|party| (party.state, party.held_at_device)).collect()
    }

    fn sorted_directions(&self) -> Vec<String> {
        let mut directions = self.directions();
        directions.sort();
        directions
    }
}

/// Ann, the caller, and bob at the desk phone talk; phones answer as they should.
fn talking() -> Scene {
    let mut scene = Scene::talking_with(3, PCMU);
    for phone in &mut scene.phones {
        phone.on_offer = OnOffer::Fit { video: false };
    }
    scene
}

#[test]
fn who_is_put_on_hold_by_command_sees_it_and_hears_music_at_once() {
    // 004-36
    for (holder, held, phone, other) in [(P1, 0, CALLER, DESK), (P0, 1, DESK, CALLER)] {
        let mut scene = talking();
        let before = (scene.count(SWITCH, phone, "INVITE"), scene.count(SWITCH, other, "INVITE"));
        scene.holds(holder, true);
        assert!(scene.music()[held] && !scene.music()[1 - held], "the music does not wait for the phone");
        scene.settle();
        assert!(scene.is_shown(phone));
        assert_eq!(scene.count(SWITCH, other, "INVITE"), before.1, "who holds is asked nothing");
        assert_eq!(scene.sorted_directions(), ["SendOnly", "SendRecv"]);
        assert_eq!(scene.states()[held], (Standing::Connected, false), "who answers recvonly does not hold");
        assert_eq!(scene.states()[1 - held], (Standing::Holding, false));
        scene.holds(holder, false);
        assert_eq!(scene.music(), [false, false]);
        scene.settle();
        assert!(!scene.is_shown(phone));
        assert_eq!(scene.directions(), ["SendRecv", "SendRecv"]);
        scene.advance(Duration::from_secs(60));
        assert_eq!(scene.count(SWITCH, phone, "INVITE"), before.0 + 2, "each is told once");
        scene.assert_talking();
        scene.bye(phone);
        scene.assert_over();
    }
}

#[test]
fn a_phone_that_refuses_to_show_hold_changes_nothing_else() {
    for on_offer in [OnOffer::Refuse(StatusCode::NOT_ACCEPTABLE_HERE), OnOffer::Accept("")] {
        let mut scene = talking();
        scene.phones[CALLER].on_offer = on_offer;
        scene.holds(P1, true);
        scene.advance(Duration::from_secs(60));
        assert_eq!((scene.music(), scene.count(SWITCH, CALLER, "INVITE")), (vec![true, false], 1), "it is asked once");
        assert_eq!(scene.directions(), ["SendRecv", "SendRecv"]);
        scene.holds(P1, false);
        scene.advance(Duration::from_secs(60));
        assert_eq!((scene.music(), scene.count(SWITCH, CALLER, "INVITE")), (vec![false, false], 1), "there is nothing to take back");
        scene.phones[CALLER].on_offer = OnOffer::Fit { video: false };
        scene.holds(P1, true);
        scene.settle();
        assert!(scene.is_shown(CALLER) && scene.count(SWITCH, CALLER, "INVITE") == 2, "the next hold is told");
        scene.bye(DESK);
        scene.assert_over();
    }
}

#[test]
fn a_phone_that_is_busy_with_an_offer_is_told_later() {
    let mut scene = talking();
    scene.phones[CALLER].on_offer = OnOffer::Refuse(StatusCode::REQUEST_PENDING);
    scene.holds(P1, true);
    scene.settle();
    scene.phones[CALLER].on_offer = OnOffer::Fit { video: false };
    scene.advance(Duration::from_secs(1));
    assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 1, "RFC 3261 §14.1: two seconds and more");
    scene.advance(Duration::from_secs(4));
    assert_eq!((scene.count(SWITCH, CALLER, "INVITE"), scene.sorted_directions().join(" ")), (2, "SendOnly SendRecv".to_owned()));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn of_many_changes_the_last_one_is_shown() {
    for (changes, shown) in [(3, true), (2, false), (4, false)] {
        let mut scene = talking();
        scene.phones[CALLER].on_offer = OnOffer::Wait;
        for change in 0..changes {
            scene.holds(P1, change % 2 == 0);
            scene.settle();
        }
        assert_eq!(scene.count(SWITCH, CALLER, "INVITE"), 1, "one offer at a time");
        scene.phones[CALLER].on_offer = OnOffer::Fit { video: false };
        scene.accept(CALLER, LISTENING);
        scene.advance(Duration::from_secs(5));
        assert_eq!((scene.count(SWITCH, CALLER, "INVITE"), scene.is_shown(CALLER)), (if shown { 1 } else { 2 }, shown));
        assert_eq!(scene.sorted_directions()[0], if shown { "SendOnly" } else { "SendRecv" });
        scene.bye(CALLER);
        scene.assert_over();
    }
}

#[test]
fn a_held_phone_that_is_gone_or_answers_after_the_end_leaves_nothing() {
    let mut scene = talking();
    scene.phones[CALLER].dead = true;
    scene.holds(P1, true);
    scene.advance(Duration::from_secs(60));
    assert_eq!(scene.record().ended_by, EndedBy::Lost);
    scene.assert_over();

    let mut scene = talking();
    scene.phones[CALLER].on_offer = OnOffer::Wait;
    scene.holds(P1, true);
    scene.settle();
    scene.bye(DESK);
    scene.settle();
    scene.accept(CALLER, LISTENING);
    scene.settle();
    scene.refuse(CALLER, StatusCode::REQUEST_TERMINATED);
    scene.assert_over();
}

#[test]
fn what_a_held_phone_offers_is_answered_as_hold_wants_it() {
    let mut scene = talking();
    scene.holds(P1, true);
    scene.settle();
    for (offered, answered) in [(LISTENING, "a=sendonly"), (PCMU, "a=sendonly"), ("m=audio 4000 RTP/AVP 0\r\na=inactive\r\n", "a=inactive")]
    {
        scene.offer(CALLER, offered);
        scene.settle();
        assert!(scene.body(SWITCH, CALLER, "200 INVITE").contains(answered), "{offered}");
    }
    // It holds, too: the other phone shows that, and goes on when it no longer does.
    assert_eq!((scene.states()[0], scene.is_shown(DESK)), ((Standing::Holding, true), true));
    scene.phones[CALLER].on_offer = OnOffer::Accept(HOLD);
    scene.holds(P1, false);
    scene.settle();
    assert_eq!((scene.states()[0], scene.states()[1]), ((Standing::Holding, true), (Standing::Connected, false)));
    scene.offer(CALLER, PCMU);
    scene.settle();
    assert_eq!((scene.directions(), scene.is_shown(DESK)), (vec!["SendRecv".to_owned(); 2], false));
    scene.assert_talking();
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn a_session_refresh_while_the_end_of_hold_is_told_leaves_nobody_deaf() {
    let mut scene = talking();
    scene.holds(P1, true);
    scene.settle();
    scene.phones[CALLER].on_offer = OnOffer::Refuse(StatusCode::REQUEST_PENDING);
    scene.holds(P1, false);
    scene.settle();
    let asked = scene.count(SWITCH, DESK, "INVITE");
    scene.phones[CALLER].on_offer = OnOffer::Fit { video: false };
    scene.offer(CALLER, LISTENING);
    scene.offer(DESK, PCMU);
    scene.settle();
    assert!(!scene.body(SWITCH, DESK, "200 INVITE").contains("a=recvonly"), "who held is not told what the held phone said");
    scene.advance(Duration::from_secs(5));
    assert_eq!((scene.count(SWITCH, DESK, "INVITE"), scene.is_shown(CALLER)), (asked, false));
    assert_eq!(scene.directions(), ["SendRecv", "SendRecv"]);
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn hold_stays_while_either_side_moves() {
    let mut scene = talking();
    scene.holds(P1, true);
    scene.settle();
    scene.hand_over(1, Kinds::BOTH, MOBILE).unwrap();
    scene.accept(MOBILE, PCMU);
    scene.settle();
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!((scene.count(SWITCH, CALLER, "INVITE"), scene.music()), (1, vec![true, false]), "the held phone is asked nothing");
    scene.bye(CALLER);
    scene.assert_over();

    let mut scene = talking();
    scene.holds(P0, true);
    scene.settle();
    scene.hand_over(1, Kinds::BOTH, MOBILE).unwrap();
    assert!(!scene.is_shown(MOBILE), "a device that rings is offered a call");
    scene.accept(MOBILE, PCMU);
    scene.settle();
    scene.hear(MediaKind::Audio);
    scene.assert_outcomes(&[Ok(())]);
    assert_eq!((scene.is_shown(MOBILE), scene.count(SWITCH, CALLER, "INVITE")), (true, 0));
    scene.bye(CALLER);
    scene.assert_over();
}

#[test]
fn in_a_conference_hold_is_shown_to_nobody() {
    let mut scene = talking();
    scene.holds(P0, true);
    scene.settle();
    assert!(scene.is_shown(DESK));
    let call = scene.call();
    let guest = Guest { person: person("carol"), headers: Headers::default(), targets: vec![scene.target_of("carol", CAROL)] };
    scene.command(Command::Gather { call, party: P0, calls: Vec::new(), guests: vec![guest] }).unwrap();
    scene.settle();
    scene.answers(CAROL, PCMU);
    scene.advance(Duration::from_secs(5));
    assert!(!scene.is_shown(DESK) && !scene.is_shown(CAROL));
    let asked = [CALLER, DESK, CAROL].map(|phone| scene.count(SWITCH, phone, "INVITE"));
    scene.holds(P0, false);
    scene.holds(P1, true);
    scene.advance(Duration::from_secs(5));
    assert_eq!([CALLER, DESK, CAROL].map(|phone| scene.count(SWITCH, phone, "INVITE")), asked);
    for phone in [CALLER, CAROL] {
        scene.bye(phone);
    }
    scene.bye(DESK);
    scene.assert_over();
}
