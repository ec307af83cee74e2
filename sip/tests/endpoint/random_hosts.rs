//! Hosts that do anything at any time. Whatever they do: one last event for each leg, nothing after it, no panic, and nothing left.

use std::time::Duration;

use sip::{DialogId, StatusCode};

use super::bench::SDP;
use super::net::*;

fn any_task(net: &mut Net, side: usize) -> Option<Task> {
    let legs: Vec<DialogId> = net.sides[side].legs.keys().copied().collect();
    let recent = legs.len().saturating_sub(6);
    if legs.is_empty() || net.random.below(12) == 0 {
        let body = if net.random.below(4) == 0 { bytes::Bytes::new() } else { SDP.into() };
        return Some(Task::Place { body });
    }
    // Mostly the latest legs, some of them long over.
    let at = recent + usize::try_from(net.random.below((legs.len() - recent) as u64)).expect("a small number");
    let id = legs[at];
    Some(match net.random.below(14) {
        0 => Task::Progress(id, StatusCode::RINGING, b""),
        1 => Task::Progress(id, StatusCode::SESSION_PROGRESS, SDP),
        2 | 3 => Task::Accept(id),
        4 => Task::Refuse(id, StatusCode::DECLINE),
        5 => Task::Acknowledge(id),
        6 => Task::Cancel(id),
        7 => Task::Bye(id),
        8 | 9 => Task::Offer(id),
        10 => Task::Info(id),
        11 => Task::HangUp(id),
        _ => return None,
    })
}

fn run(seed: u64, steps: u64) {
    let link = match seed % 4 {
        0 => Link::clean(),
        1 => Link::stream(),
        loss => Link::lossy(loss * 7),
    };
    let mut net = Net::new(seed, link);
    for side in &mut net.sides {
        // Sometimes the host answers by itself, sometimes only at random.
        side.callee = match seed % 3 {
            0 => Callee { ring: None, answer_after: None, refuse: None },
            1 => Callee { ring: Some((StatusCode::SESSION_PROGRESS, SDP)), answer_after: Some(Duration::from_millis(700)), refuse: None },
            _ => Callee { ring: Some((StatusCode::RINGING, b"")), answer_after: Some(Duration::from_secs(3)), refuse: None },
        };
        side.think = if seed.is_multiple_of(5) { 0..1 } else { 0..400 };
    }
    for _ in 0..steps {
        let side = usize::from(net.random.below(2) == 0);
        if let Some(task) = any_task(&mut net, side) {
            net.act(side, &task);
        }
        let wait = net.random.below(500);
        net.advance(Duration::from_millis(wait));
    }
    net.advance(Duration::from_secs(40));
    // Late offers may still wait for their answer: the host gives everything up, again where it was too early.
    for _ in 0..3 {
        for side in 0..2 {
            for id in net.sides[side].legs.iter().filter(|(_, leg)| leg.last.is_none()).map(|(id, _)| *id).collect::<Vec<_>>() {
                net.act(side, &Task::HangUp(id));
            }
        }
        net.advance(Duration::from_secs(40));
    }
    net.assert_over();
}

#[test]
fn random_hosts_leave_nothing_behind() {
    for seed in 0..120 {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed, 300)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn random_hosts_over_a_long_day() {
    run(4242, 6000);
}
