//! Two endpoints, the hosts that drive them, and the network between: lossy datagrams or a stream, in virtual time, from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::endpoint::OutgoingInvite;
use sip::message::Headers;
use sip::random::Random;
use sip::{ConnectionId, DialogEvent, DialogId, Ender, Endpoint, Event, Flow, Hop, Method, StatusCode, Transport};

use super::bench::{AFTERMATH, SDP, address, epoch, name_addr, setup, uri};

/// What the network does to a message.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) transport: Transport,
    /// Of a hundred datagrams, how many are lost, and how many arrive twice.
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// Datagrams overtake each other within this range; a stream keeps its order.
    pub(crate) delay: Range<u64>,
}

impl Link {
    pub(crate) fn clean() -> Self {
        Self { transport: Transport::Udp, loss: 0, duplicates: 0, delay: 10..11 }
    }

    pub(crate) fn lossy(loss: u64) -> Self {
        Self { loss, duplicates: 5, delay: 5..300, ..Self::clean() }
    }

    pub(crate) fn stream() -> Self {
        Self { transport: Transport::Tcp, delay: 5..100, ..Self::clean() }
    }
}

/// How the host of a callee behaves.
#[derive(Clone, Debug)]
pub(crate) struct Callee {
    pub(crate) ring: Option<(StatusCode, &'static [u8])>,
    pub(crate) answer_after: Option<Duration>,
    pub(crate) refuse: Option<StatusCode>,
}

/// One leg as its host sees it.
#[derive(Debug, Default)]
pub(crate) struct Leg {
    pub(crate) established: bool,
    pub(crate) acknowledged: bool,
    /// The last event; exactly one comes, and nothing after it.
    pub(crate) last: Option<String>,
    pub(crate) ender: Option<Ender>,
    pub(crate) offers: u32,
    pub(crate) offers_answered: u32,
}

/// What a host does at a certain time.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Place {
        body: Bytes,
    },
    Progress(DialogId, StatusCode, &'static [u8]),
    Accept(DialogId),
    Refuse(DialogId, StatusCode),
    Acknowledge(DialogId),
    Cancel(DialogId),
    Bye(DialogId),
    Offer(DialogId),
    Info(DialogId),
    /// Gives the leg up in whichever way fits its state.
    HangUp(DialogId),
}

pub(crate) struct Side {
    pub(crate) endpoint: Endpoint,
    flow: Flow,
    pub(crate) callee: Callee,
    pub(crate) legs: BTreeMap<DialogId, Leg>,
    /// How long the host thinks before it answers an event, in milliseconds.
    pub(crate) think: Range<u64>,
    pub(crate) alive: bool,
}

impl Side {
    pub(crate) fn new(at: usize, seed: u64, transport: Transport) -> Self {
        let own = address(["10.0.0.1:5060", "10.0.0.2:5060"][at]);
        let peer = address(["10.0.0.2:5060", "10.0.0.1:5060"][at]);
        let connection = transport.is_reliable().then_some(ConnectionId(1));
        let seed = u8::try_from((seed * 2 + at as u64) % 251).expect("below 251");
        Self {
            endpoint: Endpoint::new(setup(own, seed)),
            flow: Flow { transport, local: own, remote: peer, connection },
            callee: Callee { ring: Some((StatusCode::RINGING, b"")), answer_after: Some(Duration::from_secs(2)), refuse: None },
            legs: BTreeMap::new(),
            think: 0..1,
            alive: true,
        }
    }

    fn leg(&mut self, id: DialogId) -> &mut Leg {
        self.legs.entry(id).or_default()
    }

    pub(crate) fn receive(&mut self, now: Instant, bytes: Bytes) {
        self.endpoint.receive(now, self.flow, bytes);
    }

    pub(crate) fn run(&mut self, now: Instant, task: &Task) -> Option<DialogId> {
        let endpoint = &mut self.endpoint;
        match task {
            Task::Place { body } => {
                let call = OutgoingInvite {
                    uri: uri("sip:bob@10.0.0.2"),
                    routes: Vec::new(),
                    hop: Hop::Flow(self.flow),
                    from: name_addr("\"Ann\" <sip:ann@h>"),
                    to: name_addr("<sip:bob@h>"),
                    headers: Headers::default(),
                    body: body.clone(),
                };
                let id = endpoint.place(now, call);
                self.leg(id);
                return Some(id);
            }
            Task::Progress(id, status, body) => drop(endpoint.progress(now, *id, *status, Bytes::from_static(body))),
            Task::Accept(id) => {
                endpoint.accept(now, *id, SDP.into());
                self.leg(*id).established = true;
            }
            Task::Refuse(id, status) => {
                let early = !self.leg(*id).established;
                if self.endpoint.refuse(now, *id, *status, &Headers::default()).is_ok() && early {
                    self.last(*id, "refused".to_owned());
                }
            }
            Task::Acknowledge(id) => endpoint.acknowledge(now, *id, Bytes::new()),
            Task::Cancel(id) => endpoint.cancel(now, *id, None),
            Task::Bye(id) => endpoint.bye(now, *id, None),
            Task::Offer(id) => {
                let _ = endpoint.offer(now, *id, SDP.into());
            }
            Task::Info(id) => {
                let _ = endpoint.request_within(now, *id, Method::Info, &Headers::default(), Bytes::new());
            }
            Task::HangUp(id) => {
                endpoint.cancel(now, *id, None);
                endpoint.bye(now, *id, None);
                if !self.leg(*id).established {
                    self.run(now, &Task::Refuse(*id, StatusCode::BUSY_HERE));
                }
            }
        }
        None
    }

    fn last(&mut self, id: DialogId, event: String) {
        let leg = self.leg(id);
        assert_eq!(leg.last, None, "{id:?} had its last event, and now {event}");
        leg.last = Some(event);
    }

    /// Deals with the events; returns what the host does about them, and when it has to think.
    pub(crate) fn react(&mut self, now: Instant) -> Vec<(Duration, Task)> {
        let mut tasks = Vec::new();
        while let Some(event) = self.endpoint.next_event() {
            match event {
                Event::Request(incoming) if incoming.request.method == Method::Invite => {
                    let Some(id) = self.endpoint.take(now, *incoming) else { continue };
                    self.leg(id);
                    let soon = Duration::from_millis(20);
                    tasks.extend(self.callee.ring.map(|(status, body)| (soon, Task::Progress(id, status, body))));
                    tasks.extend(self.callee.refuse.map(|status| (soon * 2, Task::Refuse(id, status))));
                    tasks.extend(self.callee.answer_after.map(|after| (after, Task::Accept(id))));
                }
                Event::Request(incoming) => {
                    let server = self.endpoint.admit(now, &incoming);
                    let response = self.endpoint.reply(&incoming.request, StatusCode::OK);
                    self.endpoint.respond(now, server, &response);
                }
                Event::Dialog(id, event) => tasks.extend(self.react_to(now, id, event)),
                Event::Forward(_)
                | Event::Elsewhere(..)
                | Event::Cancel(_)
                | Event::Response(..)
                | Event::Refer(..)
                | Event::Subscription(..) => {
                    panic!("{event:?}")
                }
            }
        }
        tasks
    }

    fn react_to(&mut self, now: Instant, id: DialogId, event: DialogEvent) -> Option<(Duration, Task)> {
        let text = format!("{event:?}");
        assert_eq!(self.leg(id).last, None, "{text} after the last event");
        match event {
            DialogEvent::Answered { .. } => self.leg(id).established = true,
            DialogEvent::Acknowledged { .. } => self.leg(id).acknowledged = true,
            DialogEvent::Offered { .. } => self.leg(id).offers += 1,
            DialogEvent::OfferAnswered { .. } => self.leg(id).offers_answered += 1,
            DialogEvent::Ended { by, .. } => {
                self.leg(id).ender = Some(by);
                self.last(id, text);
            }
            DialogEvent::Failed { .. } | DialogEvent::Cancelled { .. } => self.last(id, text),
            DialogEvent::Request { server, ref request } => {
                let response = self.endpoint.reply(request, StatusCode::OK);
                self.endpoint.respond(now, server, &response);
            }
            DialogEvent::Progress { .. } | DialogEvent::OfferCancelled | DialogEvent::OfferFailed { .. } | DialogEvent::Response { .. } => {
            }
        }
        match event {
            DialogEvent::Answered { .. } | DialogEvent::OfferAnswered { .. } => Some((Duration::ZERO, Task::Acknowledge(id))),
            DialogEvent::Offered { .. } => Some((Duration::ZERO, Task::Accept(id))),
            _ => None,
        }
    }

    /// The messages that leave.
    pub(crate) fn sends(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.endpoint.next_send()).map(|send| send.bytes).collect()
    }
}

#[derive(Debug)]
enum What {
    Message(Bytes),
    Task(Task),
}

/// The whole simulation.
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) sides: [Side; 2],
    pub(crate) random: Random,
    link: Link,
    agenda: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    waiting: BTreeMap<u64, What>,
    number: u64,
    /// When the last message of each direction arrives, for streams.
    arrival: [Instant; 2],
}

impl Net {
    pub(crate) fn new(seed: u64, link: Link) -> Self {
        let start = epoch();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            now: start,
            sides: [Side::new(0, seed, link.transport), Side::new(1, seed, link.transport)],
            random: Random::new(bytes),
            link,
            agenda: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            number: 0,
            arrival: [start; 2],
        }
    }

    fn plan(&mut self, at: Instant, side: usize, what: What) {
        self.number += 1;
        self.agenda.push(Reverse((at, self.number, side)));
        self.waiting.insert(self.number, what);
    }

    /// The host does something after a while.
    pub(crate) fn later(&mut self, side: usize, after: Duration, task: Task) {
        self.plan(self.now + after, side, What::Task(task));
    }

    /// The host does something now.
    pub(crate) fn act(&mut self, side: usize, task: &Task) -> Option<DialogId> {
        let made = self.sides[side].run(self.now, task);
        self.drain(side);
        made
    }

    pub(crate) fn place(&mut self) -> DialogId {
        self.act(0, &Task::Place { body: SDP.into() }).expect("a call is placed")
    }

    fn between(&mut self, range: &Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.random.below(range.end - range.start))
    }

    fn drain(&mut self, side: usize) {
        for (after, task) in self.sides[side].react(self.now) {
            let think = self.sides[side].think.clone();
            let think = self.between(&think);
            if after.is_zero() && think.is_zero() {
                self.sides[side].run(self.now, &task);
            } else {
                self.later(side, after + think, task);
            }
        }
        for bytes in self.sides[side].sends() {
            self.send(side, &bytes);
        }
        if self.sides[side].endpoint.poll_timeout().is_some_and(|at| at <= self.now) {
            self.sides[side].endpoint.handle_timeout(self.now);
            self.drain(side);
        }
    }

    fn send(&mut self, from: usize, bytes: &Bytes) {
        read_by_rsip(bytes);
        let link = self.link.clone();
        let copies = if self.random.below(100) < link.duplicates { 2 } else { 1 };
        for _ in 0..copies {
            let lost = self.random.below(100) < link.loss;
            let mut at = self.now + self.between(&link.delay);
            if link.transport.is_reliable() {
                at = at.max(self.arrival[from]);
                self.arrival[from] = at;
            }
            if !lost {
                self.plan(at, 1 - from, What::Message(bytes.clone()));
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let timers: Vec<_> = (0..2).filter(|side| self.sides[*side].alive).collect();
            let timer = timers.iter().filter_map(|side| Some((self.sides[*side].endpoint.poll_timeout()?, *side))).min();
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            match (timer, next) {
                (Some((at, side)), next) if at <= end && next.is_none_or(|next| at <= next) => {
                    self.now = self.now.max(at);
                    self.sides[side].endpoint.handle_timeout(self.now);
                    self.drain(side);
                }
                (_, Some(at)) if at <= end => {
                    let Some(Reverse((at, number, side))) = self.agenda.pop() else { unreachable!("it was there") };
                    self.now = self.now.max(at);
                    let what = self.waiting.remove(&number);
                    if self.sides[side].alive {
                        match what {
                            Some(What::Message(bytes)) => self.sides[side].receive(self.now, bytes),
                            Some(What::Task(task)) => drop(self.sides[side].run(self.now, &task)),
                            None => {}
                        }
                        self.drain(side);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Returns the only leg of a side.
    #[track_caller]
    pub(crate) fn leg(&self, side: usize) -> &Leg {
        assert_eq!(self.sides[side].legs.len(), 1);
        self.sides[side].legs.values().next().expect("one leg")
    }

    /// After the last call: every leg had its last event, and nothing is left once 64 * T1 have passed, twice where a BYE had to wait for
    /// an ACK.
    #[track_caller]
    pub(crate) fn assert_over(&mut self) {
        self.advance(AFTERMATH * 2);
        for side in self.sides.iter().filter(|side| side.alive) {
            let open: Vec<_> = side.legs.iter().filter(|(_, leg)| leg.last.is_none()).collect();
            assert!(open.is_empty(), "{open:?}");
            assert_eq!((side.endpoint.dialogs(), side.endpoint.transactions(), side.endpoint.poll_timeout()), (0, 0, None));
        }
    }
}

/// A parser that is not ours reads what we send, and finds in it what a message needs.
fn read_by_rsip(bytes: &Bytes) {
    use rsip::prelude::{HeadersExt as _, ToTypedHeader as _};
    let read = || -> Result<(), rsip::Error> {
        let message = rsip::SipMessage::try_from(bytes.as_ref())?;
        let via = message.via_header()?.typed()?;
        assert!(via.branch().is_some());
        let cseq = message.cseq_header()?.typed()?;
        if let rsip::SipMessage::Request(request) = &message {
            assert_eq!(cseq.method, request.method);
        }
        let (from, to) = (message.from_header()?.typed()?, message.to_header()?.typed()?);
        assert!(from.tag().is_some());
        let needs_tag = matches!(&message, rsip::SipMessage::Response(response) if response.status_code.code() > 100);
        assert!(to.tag().is_some() || !needs_tag);
        message.call_id_header()?;
        if let Ok(contact) = message.contact_header() {
            contact.typed()?;
        }
        Ok(())
    };
    if let Err(fault) = read() {
        panic!("{fault}: {}", String::from_utf8_lossy(bytes));
    }
}
