//! The user agent of thin clients against an endpoint that plays the switch, in virtual time.

use std::collections::VecDeque;

use sip::message::Host;
use sip::{DialogEvent, Event, Listeners, UnixTime};

use super::*;

const ANN: u64 = 7;
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n";
const ANSWER: &str = "v=0\r\n";

struct Bench {
    now: Instant,
    thin: Thin,
    switch: Endpoint,
    /// What the switch's endpoint tells.
    events: VecDeque<(DialogId, DialogEvent)>,
    /// INVITEs that the switch took, with their offers.
    taken: VecDeque<(DialogId, Bytes)>,
    /// What the application is told.
    told: VecDeque<(u64, DialogId, Kind, Bytes)>,
    done: BTreeMap<u64, Result<Bytes, Refusal>>,
}

fn setup(node: u8) -> Setup {
    let (listeners, product) = (Listeners::default(), "test".to_owned());
    Setup { listeners, node, seed: [node; 32], product, session_interval: Duration::from_secs(1800) }
}

fn uri(user: &str) -> Uri {
    Uri::sip(user, &Host::parse("tandem.test").unwrap(), None, "").unwrap()
}

impl Bench {
    fn new() -> Self {
        let (thin, switch) = (Thin::new(setup(255)), Endpoint::new(setup(0)));
        let (events, taken, told) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { now: crate::clock::now(), thin, switch, events, taken, told, done: BTreeMap::new() }
    }

    fn registered() -> Self {
        let mut bench = Self::new();
        bench.thin.register(ANN, "ann", Some("page"), "test").unwrap();
        bench
    }

    /// Carries messages to and fro until there are none.
    fn run(&mut self) {
        loop {
            if let Some(output) = self.thin.poll_output() {
                match output {
                    Output::Send(flow, bytes) => self.switch.receive(self.now, flow, bytes),
                    Output::Described { login, session, kind, sdp, .. } => self.told.push_back((login, session, kind, sdp)),
                    Output::Done { ticket, result, .. } => assert!(self.done.insert(ticket.0, result).is_none(), "twice"),
                }
            } else if let Some(send) = self.switch.next_send() {
                let Hop::Flow(flow) = send.hop else { panic!("no flow") };
                self.thin.receive(self.now, flow, send.bytes);
            } else if let Some(event) = self.switch.next_event() {
                match event {
                    Event::Request(incoming) => {
                        let offer = incoming.request.body.clone();
                        self.taken.extend(self.switch.take(self.now, *incoming).map(|dialog| (dialog, offer)));
                    }
                    Event::Dialog(dialog, event) => self.events.push_back((dialog, event)),
                    other @ (Event::Forward(_)
                    | Event::Elsewhere(..)
                    | Event::Cancel(_)
                    | Event::Response(..)
                    | Event::Refer(..)
                    | Event::Subscription(..)) => {
                        panic!("{other:?}");
                    }
                }
            } else {
                return;
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = [self.thin.poll_timeout(), self.switch.poll_timeout()].into_iter().flatten().min().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.thin.handle_timeout(self.now);
            self.switch.handle_timeout(self.now);
            self.run();
        }
        self.now = end;
    }

    fn call(&mut self, to: &str) -> Result<Ticket, Refusal> {
        let callee = Callee { from: NameAddr::new(uri("ann")), uri: uri(to) };
        let ticket = self.thin.call(self.now, (ANN, "ann"), callee, OFFER.into());
        self.run();
        ticket
    }

    /// The switch calls the application.
    fn invite(&mut self, body: &'static str) -> DialogId {
        let flow = inside::flow(ANN);
        let (from, to) = (NameAddr::new(uri("bob")), NameAddr::new(uri("ann")));
        let headers = Headers::default();
        let uri = uri("login7");
        let call = OutgoingInvite { uri, routes: Vec::new(), hop: Hop::Flow(flow), from, to, headers, body: body.into() };
        let dialog = self.switch.place(self.now, call);
        self.run();
        dialog
    }

    fn describe(&mut self, session: DialogId, kind: Kind, sdp: &'static str) -> Result<Progress, Refusal> {
        let progress = self.thin.describe(self.now, session, kind, sdp.into());
        self.run();
        progress
    }

    /// An answered call that the switch made: its dialogs there and here.
    fn talking() -> (Self, DialogId, DialogId) {
        let mut bench = Self::registered();
        let there = bench.invite(OFFER);
        let (_, here, ..) = bench.told.pop_front().unwrap();
        assert_eq!(bench.describe(here, Kind::Answer, OFFER), Ok(Progress::Done));
        assert!(matches!(bench.event(), DialogEvent::Progress { .. }));
        assert!(matches!(bench.event(), DialogEvent::Answered { .. }));
        bench.switch.acknowledge(bench.now, there, Bytes::new());
        bench.run();
        (bench, there, here)
    }

    fn event(&mut self) -> DialogEvent {
        self.events.pop_front().expect("an event").1
    }
}

#[test]
fn an_application_calls_hears_early_media_and_gets_the_answer() {
    let mut bench = Bench::new();
    let ticket = bench.call("bob").unwrap();
    let (dialog, offer) = bench.taken.pop_front().unwrap();
    assert_eq!(offer, OFFER);
    bench.switch.progress(bench.now, dialog, StatusCode::SESSION_PROGRESS, ANSWER.into()).unwrap();
    bench.run();
    let (login, session, kind, sdp) = bench.told.pop_front().unwrap();
    assert_eq!((login, kind, &*sdp), (ANN, Kind::Pranswer, ANSWER.as_bytes()));
    let named = bench.thin.named(session).unwrap();
    assert!(bench.switch.named(&named.call_id, &named.to_tag, &named.from_tag).is_some(), "the switch knows the dialog by its name");
    bench.switch.accept(bench.now, dialog, ANSWER.into());
    bench.run();
    assert_eq!(bench.done.remove(&ticket.0), Some(Ok(ANSWER.into())));
    assert!(matches!(bench.event(), DialogEvent::Acknowledged { .. }));
    bench.switch.bye(bench.now, dialog, None);
    bench.run();
    assert_eq!(bench.thin.sessions_of(ANN).count(), 0);
}

#[test]
fn a_refused_call_is_told_with_its_status() {
    let mut bench = Bench::new();
    let ticket = bench.call("bob").unwrap();
    let (dialog, _) = bench.taken.pop_front().unwrap();
    bench.switch.refuse(bench.now, dialog, StatusCode::BUSY_HERE, &Headers::default()).unwrap();
    bench.run();
    let refusal = bench.done.remove(&ticket.0).unwrap().unwrap_err();
    assert_eq!(refusal.to_string(), "it was refused: 486 Busy Here");
    assert_eq!(bench.thin.sessions_of(ANN).count(), 0);
}

#[test]
fn a_registered_application_rings_and_answers() {
    let mut bench = Bench::registered();
    bench.invite(OFFER);
    assert!(matches!(bench.event(), DialogEvent::Progress { status: StatusCode::RINGING, .. }));
    let (login, session, kind, sdp) = bench.told.pop_front().unwrap();
    assert_eq!((login, kind, &*sdp), (ANN, Kind::Offer, OFFER.as_bytes()));
    assert_eq!(bench.describe(session, Kind::Offer, OFFER), Err(Refusal::OfferWaits));
    assert_eq!(bench.describe(session, Kind::Answer, OFFER), Ok(Progress::Done));
    assert!(matches!(bench.event(), DialogEvent::Answered { body } if body == OFFER));
    assert_eq!(bench.describe(session, Kind::Answer, OFFER), Err(Refusal::NothingOffered));
}

#[test]
fn an_application_that_rings_is_told_when_it_stops() {
    let mut bench = Bench::registered();
    let there = bench.invite(OFFER);
    let (_, session, ..) = bench.told.pop_front().unwrap();
    bench.thin.note(session, 42);
    bench.switch.cancel(bench.now, there, None);
    while let Some(send) = bench.switch.next_send() {
        let Hop::Flow(flow) = send.hop else { panic!("no flow") };
        bench.thin.receive(bench.now, flow, send.bytes);
    }
    let told = std::iter::from_fn(|| bench.thin.poll_output()).find_map(|output| match output {
        Output::Described { kind, noted, .. } => Some((kind, noted)),
        Output::Send(..) | Output::Done { .. } => None,
    });
    assert_eq!(told, Some((Kind::Rollback, Some(42))));
    assert_eq!(bench.thin.sessions_of(ANN).count(), 0);
}

#[test]
fn who_is_not_registered_does_not_ring_and_who_declines_says_so() {
    let failed = |bench: &mut Bench| match bench.events.pop_back() {
        Some((_, DialogEvent::Failed { status, .. })) => status.code(),
        other => panic!("{other:?}"),
    };
    let mut bench = Bench::new();
    bench.invite(OFFER);
    assert_eq!(failed(&mut bench), 480);
    bench.thin.register(ANN, "ann", None, "").unwrap();
    bench.invite(OFFER);
    let (_, session, ..) = bench.told.pop_front().unwrap();
    assert_eq!(bench.describe(session, Kind::Rollback, ""), Ok(Progress::Done));
    assert_eq!(failed(&mut bench), 603);
    bench.thin.register(8, "ann", None, "").unwrap();
    bench.thin.unregister(ANN);
    bench.invite(OFFER);
    assert_eq!(failed(&mut bench), 480);
}

#[test]
fn an_offer_of_the_application_within_the_call_gets_its_answer() {
    let (mut bench, there, here) = Bench::talking();
    let Ok(Progress::Pending(ticket)) = bench.describe(here, Kind::Offer, OFFER) else { panic!("not sent") };
    assert!(matches!(bench.event(), DialogEvent::Offered { body } if body == OFFER));
    assert_eq!(bench.describe(here, Kind::Offer, OFFER), Err(Refusal::UnderWay));
    bench.switch.accept(bench.now, there, ANSWER.into());
    bench.run();
    assert_eq!(bench.done.remove(&ticket.0), Some(Ok(ANSWER.into())));
}

#[test]
fn an_offer_of_the_switch_is_answered_or_refused_when_its_time_is_over() {
    let (mut bench, there, here) = Bench::talking();
    bench.switch.offer(bench.now, there, OFFER.into()).unwrap();
    bench.run();
    assert!(matches!(bench.told.pop_front(), Some((ANN, _, Kind::Offer, sdp)) if sdp == OFFER));
    assert_eq!(bench.describe(here, Kind::Answer, OFFER), Ok(Progress::Done));
    assert!(matches!(bench.event(), DialogEvent::OfferAnswered { .. }));
    bench.switch.acknowledge(bench.now, there, Bytes::new());
    bench.run();
    bench.switch.offer(bench.now, there, OFFER.into()).unwrap();
    bench.run();
    bench.told.clear();
    bench.advance(ANSWER_LIMIT);
    assert!(matches!(bench.event(), DialogEvent::OfferFailed { status: StatusCode::NOT_ACCEPTABLE_HERE }));
    assert!(matches!(bench.told.pop_front(), Some((ANN, _, Kind::Rollback, _))));
    assert_eq!(bench.describe(here, Kind::Answer, OFFER), Err(Refusal::NothingOffered));
}

#[test]
fn an_offer_that_meets_another_is_made_again_and_gives_way_to_the_switchs() {
    let (mut bench, there, here) = Bench::talking();
    let Ok(Progress::Pending(ticket)) = bench.describe(here, Kind::Offer, OFFER) else { panic!("not sent") };
    let put_off = |bench: &mut Bench| {
        assert!(matches!(bench.event(), DialogEvent::Offered { .. }));
        bench.switch.refuse(bench.now, there, StatusCode::REQUEST_PENDING, &Headers::default()).unwrap();
        bench.run();
    };
    put_off(&mut bench);
    assert!(bench.events.is_empty());
    bench.advance(Duration::from_secs(2));
    assert!(bench.done.is_empty());
    put_off(&mut bench);
    bench.switch.offer(bench.now, there, OFFER.into()).unwrap();
    bench.run();
    assert_eq!(bench.done.remove(&ticket.0), Some(Err(Refusal::Glare)));
    assert!(matches!(bench.told.pop_front(), Some((ANN, _, Kind::Offer, _))));
    assert_eq!(bench.describe(here, Kind::Answer, OFFER), Ok(Progress::Done));
}

#[test]
fn an_offer_that_always_meets_another_is_given_up() {
    let (mut bench, there, here) = Bench::talking();
    let Ok(Progress::Pending(ticket)) = bench.describe(here, Kind::Offer, OFFER) else { panic!("not sent") };
    for _ in 0..=4 {
        assert!(matches!(bench.event(), DialogEvent::Offered { .. }));
        bench.switch.refuse(bench.now, there, StatusCode::REQUEST_PENDING, &Headers::default()).unwrap();
        bench.run();
        bench.advance(Duration::from_secs(2));
    }
    assert_eq!(bench.done.remove(&ticket.0), Some(Err(Refusal::Refused(StatusCode::REQUEST_PENDING))));
    assert!(bench.events.is_empty());
}

#[test]
fn a_switch_that_asks_for_an_offer_gives_the_answer_with_its_ack() {
    let mut bench = Bench::registered();
    let there = bench.invite("");
    let (_, here, kind, _) = bench.told.pop_front().unwrap();
    assert_eq!(kind, Kind::Request);
    let Ok(Progress::Pending(ticket)) = bench.describe(here, Kind::Offer, OFFER) else { panic!("not sent") };
    assert!(bench.done.is_empty());
    bench.switch.acknowledge(bench.now, there, ANSWER.into());
    bench.run();
    assert_eq!(bench.done.remove(&ticket.0), Some(Ok(ANSWER.into())));
}

#[test]
fn with_its_login_a_device_goes_and_its_calls_end() {
    let (mut bench, ..) = Bench::talking();
    let ringing = bench.invite(OFFER);
    let ticket = bench.call("bob").unwrap();
    let (calling, _) = bench.taken.pop_front().unwrap();
    bench.events.clear();
    assert!(bench.thin.leave(bench.now, ANN), "it rang");
    bench.run();
    let ended = |dialog| bench.events.iter().find(|(of, _)| *of == dialog).map(|(_, event)| event);
    assert!(matches!(ended(ringing), Some(DialogEvent::Failed { status: StatusCode::TEMPORARILY_UNAVAILABLE, .. })));
    assert!(matches!(ended(calling), Some(DialogEvent::Cancelled { .. })));
    assert_eq!(bench.events.iter().filter(|(_, event)| matches!(event, DialogEvent::Ended { .. })).count(), 1);
    assert_eq!(bench.done.remove(&ticket.0), Some(Err(Refusal::LoginOver)));
    assert!(bench.thin.device_of(ANN).is_none() && bench.thin.sessions.is_empty() && bench.thin.deadlines.is_empty());
    assert!(bench.thin.by_user.is_empty());
    assert_eq!(bench.thin.register(ANN, "ann", None, "").unwrap_err(), Refusal::LoginOver);
    assert_eq!(bench.call("bob"), Err(Refusal::LoginOver), "a request that was under way makes no device");
}

#[test]
fn an_application_that_went_without_a_word_ends_its_calls_and_rings_when_it_is_back() {
    let (mut bench, up, _) = Bench::talking();
    let ringing = bench.invite(OFFER);
    bench.events.clear();
    assert!(bench.thin.away(bench.now, ANN, 1));
    bench.run();
    let ended = |bench: &Bench, dialog| {
        bench.events.iter().filter(|(of, _)| *of == dialog).map(|(_, event)| format!("{event:?}")).collect::<String>()
    };
    assert!(ended(&bench, up).starts_with("Ended") && ended(&bench, ringing).contains("480"), "{:?}", bench.events);
    assert!(bench.thin.sessions.is_empty() && bench.thin.deadlines.is_empty());
    let device = bench.thin.device_of(ANN).unwrap();
    assert!(device.is_away && device.is_registered, "it rings again by itself");
    assert_eq!(bench.thin.back(ANN, 2).map(Device::id), Some(bench.thin.device_of(ANN).unwrap().id()));
    assert!(!bench.thin.away(bench.now, ANN, 1) && !bench.thin.device_of(ANN).unwrap().is_away, "a word that was overtaken");
    assert!(bench.thin.away(bench.now, ANN, 3) && bench.thin.back(ANN, 2).is_none(), "and so the other way");
    bench.thin.unregister(ANN);
    assert!(bench.thin.back(ANN, 4).is_none() && !bench.thin.device_of(ANN).unwrap().is_away, "who did not ring does not");
    assert!(bench.thin.away(bench.now, ANN, 5) && bench.thin.device_of(ANN).is_none(), "and is no device while away");
    assert!(!bench.thin.away(bench.now, 8, 5) && bench.thin.back(8, 6).is_none(), "other logins are no devices");
}

#[test]
fn devices_and_calls_are_bounded() {
    // S11
    let mut bench = Bench::registered();
    for login in 0..MAX_OF_USER as u64 - 1 {
        bench.thin.register(100 + login, "ann", None, "").unwrap();
    }
    assert_eq!(bench.thin.register(200, "ann", None, "").unwrap_err(), Refusal::TooManyDevices);
    assert!(bench.thin.register(ANN, "ann", None, "").is_ok(), "the same again is no further one");
    assert!(bench.thin.register(201, "bob", None, "").is_ok());
    for _ in 0..MAX_CALLS {
        bench.call("bob").unwrap();
    }
    assert_eq!(bench.call("bob"), Err(Refusal::TooManyCalls));
    bench.invite(OFFER);
    assert!(matches!(bench.event(), DialogEvent::Failed { status: StatusCode::BUSY_HERE, .. }));
}

#[test]
fn a_newer_device_of_the_name_rings_instead() {
    let mut bench = Bench::registered();
    let binding = |device: Device| device.binding(UnixTime(5)).instance;
    let other = bench.thin.register(8, "ann", Some("page"), "").unwrap();
    assert!(bench.thin.device_of(ANN).is_none(), "it has no call, and is no device any more");
    assert_eq!(bench.thin.register(ANN, "ann", Some("page"), "").unwrap().id(), other.id());
    bench.invite(OFFER);
    bench.thin.register(8, "ann", Some("page"), "").unwrap();
    assert!(!bench.thin.device_of(ANN).unwrap().is_registered, "one with a call stays for that");
    assert!(bench.thin.away(bench.now, ANN, 1) && bench.thin.device_of(ANN).is_none(), "and goes with it");
    bench.run();
    for login in 100..100 + 2 * MAX_OF_USER as u64 {
        bench.thin.register(login, "ann", Some("page"), "").unwrap();
    }
    assert_ne!(binding(other), binding(bench.thin.register(9, "bob", Some("page"), "").unwrap()));
}

#[test]
fn a_description_that_cannot_be_used_is_refused_in_one_sentence() {
    // S11
    let says = |sdp: &str| check(&Bytes::copy_from_slice(sdp.as_bytes())).unwrap_err().to_string();
    assert!(says(&"x".repeat(MAX_SDP + 1)).contains("longer than 32768 octets"));
    assert!(says("hello").starts_with("malformed session description: "));
    assert!(says("v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n").contains("by WebRTC"));
    assert!(says(&OFFER.replace("a=ice-ufrag:u\r\n", "")).contains("ICE"));
    assert_eq!(check(&OFFER.into()), Ok(()));
    let mut bench = Bench::new();
    let callee = Callee { from: NameAddr::new(uri("ann")), uri: uri("bob") };
    assert!(bench.thin.call(bench.now, (ANN, "ann"), callee, "hello".into()).is_err());
    assert!(bench.thin.device_of(ANN).is_none() && bench.thin.poll_output().is_none());
}
