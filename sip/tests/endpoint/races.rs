//! Every order of events: two endpoints, two hosts with a list of things to do, and a network that keeps the order of each direction.
//! All ways to interleave deliveries and actions are tried, each from the start (S14).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::random::Random;
use sip::{DialogId, Ender, StatusCode, Transport};

use super::bench::{AFTERMATH, SDP, epoch};
use super::net::{Callee, Side, Task};

/// What a host does next with its only leg.
#[derive(Clone, Copy, Debug)]
enum Act {
    Place,
    Ring,
    EarlyMedia,
    Accept,
    Refuse,
    Cancel,
    Bye,
    Offer,
    Info,
}

struct World {
    now: Instant,
    sides: [Side; 2],
    scripts: [VecDeque<Act>; 2],
    flight: [VecDeque<Bytes>; 2],
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Act(usize),
    Deliver(usize),
}

impl World {
    fn new(scripts: &[&[Act]; 2]) -> Self {
        let mut sides = [Side::new(0, 1, Transport::Udp), Side::new(1, 1, Transport::Udp)];
        for side in &mut sides {
            side.callee = Callee { ring: None, answer_after: None, refuse: None };
        }
        Self { now: epoch(), sides, scripts: scripts.map(|script| script.iter().copied().collect()), flight: Default::default() }
    }

    fn leg(&self, side: usize) -> Option<DialogId> {
        self.sides[side].legs.keys().next().copied()
    }

    /// What can happen next. An action waits until its leg is there.
    fn moves(&self) -> Vec<Move> {
        let acts = (0..2).filter(|side| match self.scripts[*side].front() {
            Some(Act::Place) => true,
            Some(_) => self.leg(*side).is_some(),
            None => false,
        });
        let deliveries = (0..2).filter(|side| !self.flight[*side].is_empty());
        acts.map(Move::Act).chain(deliveries.map(Move::Deliver)).collect()
    }

    fn make(&mut self, what: Move) {
        match what {
            Move::Act(side) => {
                let Some(act) = self.scripts[side].pop_front() else { return };
                let id = self.leg(side).unwrap_or_else(|| self.sides[side].run(self.now, &Task::Place { body: SDP.into() }).unwrap());
                let task = match act {
                    Act::Place => None,
                    Act::Ring => Some(Task::Progress(id, StatusCode::RINGING, b"")),
                    Act::EarlyMedia => Some(Task::Progress(id, StatusCode::SESSION_PROGRESS, SDP)),
                    Act::Accept => Some(Task::Accept(id)),
                    Act::Refuse => Some(Task::Refuse(id, StatusCode::BUSY_HERE)),
                    Act::Cancel => Some(Task::Cancel(id)),
                    Act::Bye => Some(Task::Bye(id)),
                    Act::Offer => Some(Task::Offer(id)),
                    Act::Info => Some(Task::Info(id)),
                };
                if let Some(task) = task {
                    self.sides[side].run(self.now, &task);
                }
                self.drain(side);
            }
            Move::Deliver(to) => {
                let Some(bytes) = self.flight[to].pop_front() else { return };
                self.sides[to].receive(self.now, bytes);
                self.drain(to);
            }
        }
    }

    fn drain(&mut self, side: usize) {
        for (_, task) in self.sides[side].react(self.now) {
            self.sides[side].run(self.now, &task);
        }
        self.flight[1 - side].extend(self.sides[side].sends());
    }

    /// Delivers all, in turn, until nothing moves.
    fn settle(&mut self) {
        while let Some(what) = self.moves().first().copied() {
            self.make(what);
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some((at, side)) = (0..2).filter_map(|side| Some((self.sides[side].endpoint.poll_timeout()?, side))).min() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            self.sides[side].endpoint.handle_timeout(self.now);
            self.drain(side);
            self.settle();
        }
        self.now = end;
    }

    /// Ends what is still up, and looks at what is left.
    fn check(&mut self) {
        self.settle();
        // The network lost nothing: nobody had to wait for a timer to know where the call is.
        for side in &self.sides {
            for leg in side.legs.values() {
                assert!(!matches!(leg.ender, Some(Ender::NoAck | Ender::SessionTimer | Ender::Lost)), "{leg:?}");
            }
        }
        let over: Vec<_> = self.sides.iter().filter(|side| side.legs.values().all(|leg| leg.last.is_some())).collect();
        assert!(matches!(over.len(), 0 | 2), "only one side thinks the call is over: {:?} {:?}", self.sides[0].legs, self.sides[1].legs);
        for side in 0..2 {
            if let Some(id) = self.leg(side) {
                self.sides[side].run(self.now, &Task::HangUp(id));
                self.drain(side);
                self.settle();
            }
        }
        self.advance(AFTERMATH * 2);
        for side in &self.sides {
            assert!(side.legs.values().all(|leg| leg.last.is_some()), "{:?}", side.legs);
            assert_eq!((side.endpoint.dialogs(), side.endpoint.transactions(), side.endpoint.poll_timeout()), (0, 0, None));
        }
    }
}

/// Most orders that are tried one after the other; of longer scripts, as many again at random.
const MOST: usize = 1000;

/// Runs one order: the choice at each step comes from `choose`, which is told how many there are.
fn one_order(scripts: &[&[Act]; 2], mut choose: impl FnMut(usize, usize) -> usize) {
    let mut log = Vec::new();
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut world = World::new(scripts);
        loop {
            let moves = world.moves();
            if moves.is_empty() {
                break;
            }
            let what = moves[choose(log.len(), moves.len())];
            log.push(what);
            world.make(what);
        }
        world.check();
    }));
    if let Err(panic) = run {
        eprintln!("{scripts:?}\n{log:?}");
        std::panic::resume_unwind(panic);
    }
}

/// Tries every order; returns how many there were.
fn every_order(scripts: [&[Act]; 2]) -> usize {
    // The next order to try: the choice at each step, and how many there were.
    let mut path: Vec<(usize, usize)> = Vec::new();
    for orders in 1..=MOST {
        one_order(&scripts, |step, of| {
            if step == path.len() {
                path.push((0, of));
            }
            path[step].0
        });
        while path.last().is_some_and(|(choice, of)| choice + 1 == *of) {
            path.pop();
        }
        match path.last_mut() {
            Some((choice, _)) => *choice += 1,
            None => return orders,
        }
    }
    let mut random = Random::new([9; 32]);
    for _ in 0..MOST {
        one_order(&scripts, |_, of| usize::try_from(random.below(of as u64)).expect("a small number"));
    }
    2 * MOST
}

#[test]
fn set_up_and_give_up_in_every_order() {
    use Act::*;
    let callers: [&[Act]; 3] = [&[Place, Cancel], &[Place, Cancel, Bye], &[Place, Bye]];
    let callees: [&[Act]; 6] = [&[Accept], &[Ring, Accept], &[Refuse], &[Ring, Refuse], &[Ring, Accept, Bye], &[EarlyMedia, Accept]];
    let mut orders = 0;
    for caller in callers {
        for callee in callees {
            orders += every_order([caller, callee]);
        }
    }
    assert!(orders > 500, "{orders}");
}

#[test]
fn early_media_answer_and_hang_up_in_every_order() {
    use Act::*;
    for caller in [&[Place][..], &[Place, Cancel], &[Place, Bye]] {
        for callee in [&[EarlyMedia, Accept, Bye][..], &[EarlyMedia, Refuse], &[EarlyMedia, EarlyMedia, Accept]] {
            every_order([caller, callee]);
        }
    }
}

#[test]
fn offers_and_hang_up_in_every_order() {
    use Act::*;
    for caller in [&[Place, Offer][..], &[Place, Offer, Bye], &[Place, Info, Bye]] {
        for callee in [&[Accept, Offer][..], &[Accept, Offer, Bye], &[Accept, Info, Bye]] {
            every_order([caller, callee]);
        }
    }
}
