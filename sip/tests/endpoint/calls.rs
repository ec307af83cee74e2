//! Whole calls between two endpoints over a network that loses, delays, reorders and doubles what it carries.

use std::time::Duration;

use bytes::Bytes;
use sip::{Ender, StatusCode};

use super::bench::SDP;
use super::net::*;

const SECOND: Duration = Duration::from_secs(1);

/// Runs a story for each loss rate and many seeds, and over a stream; says which seed failed.
fn over_bad_networks(story: impl Fn(&mut Net)) {
    for loss in [0, 5, 10, 20, 30] {
        for seed in 0..60 {
            told(seed, &Link::lossy(loss), &story);
        }
    }
    for seed in 0..20 {
        told(seed, &Link::stream(), &story);
    }
}

fn told(seed: u64, link: &Link, story: &impl Fn(&mut Net)) {
    let run = std::panic::AssertUnwindSafe(|| {
        let mut net = Net::new(seed, link.clone());
        story(&mut net);
        net.assert_over();
    });
    if let Err(panic) = std::panic::catch_unwind(run) {
        eprintln!("seed {seed} over {link:?}");
        std::panic::resume_unwind(panic);
    }
}

/// Both ends agree: answered on both sides and ended on both, or on neither answered and acknowledged.
fn assert_agreement(net: &Net) {
    let (caller, Some(callee)) = (net.leg(0), net.sides[1].legs.values().next()) else { return };
    if callee.acknowledged && !caller.established {
        // An answer that crossed the CANCEL: acknowledged and hung up by the caller.
        assert_eq!(callee.ender, Some(Ender::Peer), "{caller:?} {callee:?}");
    }
    if caller.established && callee.ender != Some(Ender::NoAck) {
        assert!(callee.established, "{caller:?} {callee:?}");
    }
}

#[test]
fn a_call_the_caller_hangs_up_ends_on_both_sides() {
    over_bad_networks(|net| {
        let id = net.place();
        net.later(0, 40 * SECOND, Task::HangUp(id));
        net.advance(41 * SECOND);
        net.advance(33 * SECOND);
        assert_agreement(net);
    });
}

#[test]
fn a_call_the_callee_hangs_up_ends_on_both_sides() {
    over_bad_networks(|net| {
        net.place();
        net.advance(40 * SECOND);
        for id in net.sides[1].legs.keys().copied().collect::<Vec<_>>() {
            net.act(1, &Task::HangUp(id));
        }
        net.advance(33 * SECOND);
        assert_agreement(net);
        net.advance(1900 * SECOND); // whoever never heard of it has the session timer
    });
}

#[test]
fn a_call_cancelled_at_any_moment_ends_on_both_sides() {
    for moment in [0, 15, 35, 300, 1990, 2000, 2010, 2020, 2050, 2300] {
        for link in [Link::clean(), Link::lossy(20), Link::stream()] {
            for seed in 0..20 {
                told(seed, &link, &|net| {
                    let id = net.place();
                    net.later(0, Duration::from_millis(moment), Task::HangUp(id));
                    net.advance(100 * SECOND);
                    assert_agreement(net);
                });
            }
        }
    }
}

#[test]
fn a_refused_call_ends_on_both_sides() {
    over_bad_networks(|net| {
        net.sides[1].callee = Callee { ring: Some((StatusCode::RINGING, b"")), answer_after: None, refuse: Some(StatusCode::BUSY_HERE) };
        net.place();
        net.advance(70 * SECOND);
        let id = *net.sides[0].legs.keys().next().unwrap();
        net.act(0, &Task::HangUp(id));
    });
}

#[test]
fn early_media_is_acknowledged_before_the_answer() {
    over_bad_networks(|net| {
        net.sides[1].callee.ring = Some((StatusCode::SESSION_PROGRESS, SDP));
        net.sides[1].callee.answer_after = Some(Duration::from_millis(21));
        let id = net.place();
        net.later(0, 60 * SECOND, Task::HangUp(id));
        net.advance(100 * SECOND);
        assert_agreement(net);
    });
    // Without loss it always works.
    let mut net = Net::new(1, Link::clean());
    net.sides[1].callee.ring = Some((StatusCode::SESSION_PROGRESS, SDP));
    net.sides[1].callee.answer_after = Some(Duration::from_millis(21));
    net.place();
    net.advance(SECOND);
    assert!(net.leg(0).established && net.leg(1).acknowledged);
}

#[test]
fn a_call_without_offer_is_answered_with_one() {
    over_bad_networks(|net| {
        let id = net.act(0, &Task::Place { body: Bytes::new() }).unwrap();
        net.later(0, 60 * SECOND, Task::HangUp(id));
        net.advance(100 * SECOND);
        assert_agreement(net);
    });
}

#[test]
fn hold_and_resume_by_both_ends_keeps_both_in_step() {
    over_bad_networks(|net| {
        let id = net.place();
        net.advance(30 * SECOND);
        for round in 0..6 {
            net.later(0, (5 * round) * SECOND, Task::Offer(id));
            if let Some(theirs) = net.sides[1].legs.keys().next().copied() {
                // Every second time both at once: glare.
                net.later(1, (5 * round + 2 * (round % 2)) * SECOND, Task::Offer(theirs));
            }
        }
        net.advance(200 * SECOND);
        if let Some(theirs) = net.sides[1].legs.keys().next().copied()
            && net.leg(0).last.is_none()
            && net.leg(1).last.is_none()
        {
            assert!(net.leg(0).offers_answered >= net.leg(1).offers.saturating_sub(6));
            net.act(0, &Task::Info(id));
            net.act(1, &Task::Info(theirs));
        }
        net.advance(40 * SECOND);
        net.act(0, &Task::HangUp(id));
        net.advance(1900 * SECOND);
    });
    // Without loss and glare each offer is answered.
    let mut net = Net::new(1, Link::clean());
    let id = net.place();
    net.advance(3 * SECOND);
    for _ in 0..3 {
        net.act(0, &Task::Offer(id));
        net.advance(SECOND);
        let theirs = *net.sides[1].legs.keys().next().unwrap();
        net.act(1, &Task::Offer(theirs));
        net.advance(SECOND);
    }
    assert_eq!((net.leg(0).offers_answered, net.leg(0).offers, net.leg(1).offers_answered, net.leg(1).offers), (3, 3, 3, 3));
}

#[test]
fn sessions_are_refreshed_for_hours() {
    for link in [Link::clean(), Link::lossy(10), Link::stream()] {
        for seed in 0..10 {
            told(seed, &link, &|net| {
                let id = net.place();
                net.advance(40 * SECOND);
                let answered = net.leg(0).established && net.leg(0).last.is_none();
                net.advance(5 * 3600 * SECOND);
                if answered {
                    assert_eq!(net.leg(0).last, None);
                    assert_eq!(net.leg(1).last, None);
                }
                net.act(0, &Task::HangUp(id));
                net.advance(1900 * SECOND);
            });
        }
    }
}

#[test]
fn a_session_whose_peer_died_is_over_before_the_interval_is() {
    for dead in [0, 1] {
        for link in [Link::clean(), Link::stream()] {
            told(1, &link, &|net| {
                net.place();
                net.advance(10 * SECOND);
                assert!(net.leg(0).established && net.leg(1).acknowledged);
                net.sides[dead].alive = false;
                net.advance(1800 * SECOND);
                let ender = net.leg(1 - dead).ender;
                assert!(matches!(ender, Some(Ender::SessionTimer | Ender::Lost)), "{ender:?}");
            });
        }
    }
}

#[test]
fn many_calls_at_once_leave_nothing() {
    told(3, &Link::lossy(15), &|net| {
        for n in 0..200 {
            let id = net.place();
            net.later(0, Duration::from_millis(37 * n), Task::HangUp(id));
            net.advance(Duration::from_millis(20));
        }
        net.advance(100 * SECOND);
        for side in 0..2 {
            for id in net.sides[side].legs.keys().copied().collect::<Vec<_>>() {
                net.act(side, &Task::HangUp(id));
            }
        }
        net.advance(100 * SECOND);
    });
}
