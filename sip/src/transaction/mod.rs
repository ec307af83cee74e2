//! Transactions (RFC 3261 §17): the four machines, and the layer that matches messages to them (§17.1.3, §17.2.3), keeps what they
//! repeat and runs their timers.
//!
//! It knows no dialogs: what a machine passes up is returned by `receive`, what fails without a response by `next_failed`.

mod client;
mod clients;
mod invite_client;
mod invite_server;
mod server;
mod servers;
pub mod timer;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::message::StatusCode;
use crate::transport::{Hop, Listeners, Names};
use clients::Clients;
pub(crate) use clients::{Order, Outgoing};
use servers::Servers;
pub(crate) use servers::{Cancelled, Key, Matched};

/// Names one of our client transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(crate) u64);

/// Names one of our server transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub(crate) u64);

/// Who gets the responses of a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A dialog, by its number.
    Dialog(u64),
    /// The host, which sent the request itself.
    Host,
    /// Nobody waits for them (BYE, CANCEL, PRACK).
    Nobody,
}

/// What a machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Send the response just given, and keep it.
    Send,
    /// Send the kept message again.
    Resend,
    /// Pass the message up.
    Pass,
    /// Send an ACK.
    Ack,
    /// Send an ACK and pass the response up.
    AckAndPass,
    /// It ended without the message it waited for.
    TimedOut,
    /// It ended.
    Terminated,
}

/// The class of a response, as far as the machines care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusClass {
    /// 1xx
    Provisional,
    /// 2xx
    Success,
    /// 3xx to 6xx
    Failure,
}

impl From<StatusCode> for StatusClass {
    fn from(status: StatusCode) -> Self {
        match status {
            status if status.is_provisional() => Self::Provisional,
            status if status.is_success() => Self::Success,
            _ => Self::Failure,
        }
    }
}

/// A message for the wire.
#[derive(Debug)]
pub struct Send {
    /// Where to.
    pub hop: Hop,
    /// For a response, where else if its connection is gone (§18.2.2).
    pub fallback: Option<SocketAddr>,
    /// The message.
    pub bytes: Bytes,
    /// The client transaction that fails if this cannot be sent.
    pub client: Option<ClientId>,
}

/// What a client transaction came to without a response.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) client: ClientId,
    pub(crate) owner: Owner,
    pub(crate) status: StatusCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerOf {
    Client(u64),
    Server(u64),
}

/// When machines want to be woken. Nearly all timers have one of few lengths, so those of one length come in order by themselves: a time
/// goes to the queue whose last one is the nearest before it, and nothing is ever moved. What ends early leaves its entry behind, for
/// 64·T1 at most.
#[derive(Debug, Default)]
struct Timers(Vec<VecDeque<(Instant, TimerOf)>>);

impl Timers {
    /// Plans a machine's next time, unless an earlier or equal one is planned: it looks again when that comes.
    fn schedule(&mut self, scheduled: &mut Option<Instant>, at: Option<Instant>, timer: TimerOf) {
        let Some(at) = at.filter(|at| scheduled.is_none_or(|planned| *at < planned)) else { return };
        *scheduled = Some(at);
        let fitting = self.0.iter_mut().filter(|queue| queue.back().is_none_or(|(last, _)| *last <= at));
        match fitting.max_by_key(|queue| queue.back().map(|(last, _)| *last)) {
            Some(queue) => queue.push_back((at, timer)),
            None => self.0.push(VecDeque::from([(at, timer)])),
        }
    }

    fn next(&self) -> Option<Instant> {
        self.0.iter().filter_map(|queue| queue.front()).map(|(at, _)| *at).min()
    }

    /// Takes out what is due.
    fn pop(&mut self, now: Instant) -> Option<TimerOf> {
        let first = self.0.iter_mut().filter(|queue| !queue.is_empty()).min_by_key(|queue| queue.front().copied())?;
        let (_, timer) = first.front().copied().filter(|(at, _)| *at <= now)?;
        first.pop_front();
        Some(timer)
    }
}

/// A bound as it is; small in unit tests, which have to reach it.
pub(crate) const fn bound(number: usize) -> usize {
    if cfg!(test) { 10 } else { number }
}

/// All transactions behind our addresses. `clients.rs` has what we send, `servers.rs` what we receive.
#[derive(Debug)]
pub(crate) struct Transactions {
    names: Names,
    node: u8,
    next: u64,
    clients: Clients,
    servers: Servers,
    timers: Timers,
    sends: VecDeque<Send>,
    failed: VecDeque<Failed>,
}

impl Transactions {
    pub(crate) fn new(listeners: Listeners, node: u8) -> Self {
        Self {
            names: Names::new(listeners),
            node,
            next: 0,
            clients: Clients::default(),
            servers: Servers::default(),
            timers: Timers::default(),
            sends: VecDeque::new(),
            failed: VecDeque::new(),
        }
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        self.names.listeners()
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// Returns a number that was never used before; its top byte names the loop it belongs to.
    pub(crate) fn id(&mut self) -> u64 {
        self.next += 1;
        u64::from(self.node) << 56 | self.next
    }

    pub(crate) fn next_send(&mut self) -> Option<Send> {
        self.sends.pop_front()
    }

    pub(crate) fn next_failed(&mut self) -> Option<Failed> {
        self.failed.pop_front()
    }

    /// Notes a request that was not even sent.
    pub(crate) fn refuse(&mut self, failed: Failed) {
        self.failed.push_back(failed);
    }

    /// Sends bytes that nothing repeats, or whose owner repeats them by itself: the ACK of a 2xx.
    pub(crate) fn send(&mut self, hop: Hop, bytes: Bytes) {
        self.sends.push_back(Send { hop, fallback: None, bytes, client: None });
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
            self.fire(now, timer);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn fire(&mut self, now: Instant, timer: TimerOf) {
        match timer {
            TimerOf::Client(id) => self.fire_client(now, id),
            TimerOf::Server(id) => self.fire_server(now, id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::testing::epoch;
    use super::timer::{LIFE, T1, T4};
    use super::*;

    #[test]
    fn timers_come_in_order_and_each_length_has_its_queue() {
        let start = epoch();
        let mut timers = Timers::default();
        for n in 0..1000 {
            let now = start + Duration::from_millis(n);
            for after in [LIFE, T1, T4] {
                timers.schedule(&mut None, Some(now + after), TimerOf::Client(n));
            }
        }
        assert_eq!(timers.0.len(), 3);
        let mut last = start;
        for _ in 0..3000 {
            let at = timers.next().expect("timers are left");
            assert!(at >= last);
            assert_eq!(timers.pop(at - Duration::from_nanos(1)), None);
            assert!(timers.pop(at).is_some());
            last = at;
        }
        assert_eq!((timers.next(), timers.pop(last + LIFE)), (None, None));
    }

    #[test]
    fn a_timer_planned_for_earlier_is_not_planned_again() {
        let now = epoch();
        let (mut timers, mut scheduled) = (Timers::default(), None);
        timers.schedule(&mut scheduled, Some(now + T1), TimerOf::Server(1));
        timers.schedule(&mut scheduled, Some(now + LIFE), TimerOf::Server(1));
        timers.schedule(&mut scheduled, None, TimerOf::Server(1));
        assert_eq!((timers.next(), timers.0.len()), (Some(now + T1), 1));
        timers.schedule(&mut scheduled, Some(now), TimerOf::Server(1));
        assert_eq!(timers.next(), Some(now));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A start of virtual time for tests.
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
    pub(crate) fn epoch() -> Instant {
        Instant::now()
    }
}
