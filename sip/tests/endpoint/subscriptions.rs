//! Subscriptions seen from the wire (RFC 6665): the notifier's answers, when a NOTIFY leaves, and how it all ends.

use std::time::{Duration, Instant};

use sip::dialog::subscription::{MAX_EXPIRES, MAX_NOTIFIES, MIN_EXPIRES, MIN_INTERVAL};
use sip::message::Name;
use sip::random::Random;
use sip::{ConnectionId, Event, Flow, Hop, Restart, StatusCode, SubscriptionEvent, SubscriptionId, Termination, Transport, UnixTime};

use super::bench::*;

/// A notifier and its host, which answers `Due` with the number of the latest change.
struct Notifier {
    bench: Bench,
    state: u32,
    dues: u32,
    ended: u32,
    /// When the last NOTIFY left, and the one before.
    sent: [Option<Instant>; 2],
    /// What the disk has.
    kept: Option<Vec<u8>>,
    /// The disk is slow: nothing is granted by itself.
    holds: bool,
}

/// The time of day when a notifier begins.
const EPOCH: UnixTime = UnixTime(1_785_000_000);

impl Notifier {
    fn new() -> Self {
        Self::on(Bench::new())
    }

    fn on(bench: Bench) -> Self {
        Self { bench, state: 1, dues: 0, ended: 0, sent: [None; 2], kept: None, holds: false }
    }

    /// Hands a SUBSCRIBE to the endpoint and takes it.
    fn take(&mut self, text: &str) -> Option<SubscriptionId> {
        self.bench.receive(text);
        let mut events = self.bench.events();
        assert_eq!(events.len(), 1, "{events:?}");
        let Event::Request(incoming) = events.remove(0) else { panic!("no request") };
        let id = self.bench.endpoint.subscribe(self.bench.now, &incoming);
        self.serve();
        id
    }

    /// A subscription that got its 200 and its first NOTIFY, which was answered; with our tag.
    fn subscribed(&mut self) -> (SubscriptionId, String) {
        let id = self.take(&subscribe(1, "600")).expect("the SUBSCRIBE is taken");
        let left = self.bench.left();
        assert_eq!(left.iter().map(|left| what(&left.message)).collect::<Vec<_>>(), ["200 SUBSCRIBE", "NOTIFY"]);
        self.bench.receive(&answer(&left[1], "200 OK", "", ""));
        (id, left[0].response().to_tag().expect("our tag").to_string())
    }

    fn serve(&mut self) {
        for event in self.bench.events() {
            match event {
                Event::Subscription(id, SubscriptionEvent::Asked) => {
                    self.kept = self.bench.endpoint.kept(self.bench.now, EPOCH, id);
                    if !self.holds {
                        self.bench.endpoint.grant(self.bench.now, id);
                        self.serve();
                    }
                }
                Event::Subscription(id, SubscriptionEvent::Due) => {
                    self.dues += 1;
                    self.sent = [Some(self.bench.now), self.sent[0]];
                    let body = self.state.to_string().into_bytes().into();
                    self.bench.endpoint.notify(self.bench.now, id, "text/plain", body);
                }
                Event::Subscription(_, SubscriptionEvent::Ended) => self.ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The process ends, and another begins on what was kept, `after` so long; true if the subscription is taken up.
    fn restart(&mut self, id: SubscriptionId, starts: u32, after: Duration) -> bool {
        self.bench.now += after;
        self.restart_at(id, starts, EPOCH.plus(after))
    }

    fn restart_at(&mut self, id: SubscriptionId, starts: u32, unix: UnixTime) -> bool {
        let now = self.bench.now;
        let flow = Flow { connection: self.bench.flow.connection.map(|_| ConnectionId(90)), ..self.bench.flow };
        self.bench = Bench { now, flow, ..Bench::new() };
        let restart = Restart { now, unix, notify_at: now + SPREAD, starts };
        let restored = self.bench.endpoint.restore(id, self.kept.as_ref().expect("something is kept"), &restart);
        assert!(self.bench.left().is_empty());
        restored
    }

    fn change(&mut self, id: SubscriptionId) {
        self.state += 1;
        self.bench.endpoint.changed(self.bench.now, id);
        self.serve();
    }

    fn receive(&mut self, text: &str) {
        self.bench.receive(text);
        self.serve();
    }

    fn advance(&mut self, by: Duration) {
        let end = self.bench.now + by;
        while let Some(at) = self.bench.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.bench.now = self.bench.now.max(at);
            self.bench.endpoint.handle_timeout(self.bench.now);
            self.serve();
        }
        self.bench.now = end;
    }

    /// The NOTIFY that leaves now: its Subscription-State and its body.
    #[track_caller]
    fn notified(&mut self) -> (Left, String, String) {
        let left = self.bench.one();
        assert_eq!(what(&left.message), "NOTIFY");
        let (state, body) = (left.get(Name::SubscriptionState), String::from_utf8(left.request().body.to_vec()).expect("text"));
        (left, state, body)
    }

    #[track_caller]
    fn assert_over(&mut self) {
        assert_eq!((self.bench.endpoint.subscriptions(), self.ended), (0, 1));
        self.advance(AFTERMATH);
        let _ = self.bench.left();
        assert_eq!((self.bench.endpoint.transactions(), self.bench.endpoint.poll_timeout(), self.ended), (0, None, 1));
        assert!(!self.bench.endpoint.uses(self.bench.flow.transport, self.bench.flow.remote));
    }
}

/// When the first NOTIFY after a restart may leave.
const SPREAD: Duration = Duration::from_millis(300);

fn headers(expires: &str) -> String {
    let expires = if expires.is_empty() { String::new() } else { format!("Expires: {expires}\r\n") };
    format!("{CONTACT}Event: presence;id=7\r\n{expires}")
}

fn subscribe(cseq: u32, expires: &str) -> String {
    outside("SUBSCRIBE", cseq, &format!("s{cseq}"), &headers(expires), "")
}

fn refresh(cseq: u32, tag: &str, expires: &str) -> String {
    inside("SUBSCRIBE", cseq, &format!("s{cseq}"), tag, &headers(expires), "")
}

#[test]
fn a_subscription_begins_is_refreshed_and_ends() {
    let mut notifier = Notifier::new();
    let id = notifier.take(&subscribe(1, "600")).expect("taken");
    let left = notifier.bench.left();
    let [ok, notify] = &left[..] else { panic!("{left:?}") };
    assert_eq!((ok.status(), ok.get(Name::Expires)), (200, "600".to_owned()));
    assert_eq!(ok.get(Name::Contact), "<sip:10.0.0.1:5060>");
    let tag = ok.response().to_tag().expect("our tag").to_string();
    assert_eq!(notify.get(Name::SubscriptionState), "active;expires=600");
    assert_eq!((notify.get(Name::Event), notify.get(Name::ContentType)), ("presence;id=7".to_owned(), "text/plain".to_owned()));
    assert_eq!(notify.get(Name::From), format!("<sip:ann@h>;tag={tag}"));
    assert_eq!((notify.get(Name::To), notify.get(Name::CallId)), ("<sip:bob@h>;tag=p".to_owned(), "call".to_owned()));
    assert_eq!((notify.get(Name::CSeq), notify.get(Name::Contact)), ("1 NOTIFY".to_owned(), "<sip:10.0.0.1:5060>".to_owned()));
    assert_eq!(notify.request().uri.as_str(), "sip:bob@10.0.0.2");
    notifier.receive(&answer(notify, "200 OK", "", ""));

    notifier.advance(Duration::from_millis(300_500));
    notifier.change(id);
    let (notify, state, body) = notifier.notified();
    assert_eq!((&*state, &*body), ("active;expires=300", "2"));
    notifier.receive(&answer(&notify, "200 OK", "", ""));

    notifier.receive(&refresh(2, &tag, ""));
    let left = notifier.bench.left();
    assert_eq!((left[0].status(), left[0].get(Name::Expires)), (200, "3600".to_owned()));
    assert_eq!(left[1].get(Name::SubscriptionState), "active;expires=3600", "at once, although one left just before");
    notifier.receive(&answer(&left[1], "200 OK", "", ""));

    notifier.receive(&refresh(3, &tag, "0"));
    let left = notifier.bench.left();
    assert_eq!((left[0].status(), left[0].get(Name::Expires)), (200, "0".to_owned()));
    assert_eq!(left[1].get(Name::SubscriptionState), "terminated;reason=timeout");
    assert_eq!(&left[1].request().body[..], b"2", "the last NOTIFY has the state, too");
    notifier.receive(&refresh(4, &tag, "600"));
    assert_eq!(notifier.bench.one().status(), 481);
    notifier.receive(&answer(&left[1], "200 OK", "", ""));
    notifier.assert_over();
}

#[test]
fn the_state_can_be_fetched_without_a_subscription() {
    // §4.4.3
    let mut notifier = Notifier::new();
    notifier.take(&subscribe(1, "0")).expect("taken");
    let left = notifier.bench.left();
    assert_eq!((left[0].status(), left[0].get(Name::Expires)), (200, "0".to_owned()));
    assert_eq!(left[1].get(Name::SubscriptionState), "terminated;reason=timeout");
    assert_eq!(&left[1].request().body[..], b"1");
    notifier.receive(&answer(&left[1], "200 OK", "", ""));
    notifier.assert_over();
}

#[test]
fn a_subscribe_that_cannot_be_taken_has_its_status_and_leaves_nothing() {
    for (from, to, status) in [
        ("Expires: 600", "Expires: 59", 423),
        ("Expires: 600", "Expires: soon", 400),
        ("Contact: <sip:bob@10.0.0.2>", "Subject: none", 400),
        ("Contact: <sip:bob@10.0.0.2>", "Contact: *", 400),
        ("Event: presence;id=7", "Event: ;id=7", 400),
        ("Expires: 600", "Require: eventlist", 420),
    ] {
        let mut notifier = Notifier::new();
        assert_eq!(notifier.take(&subscribe(1, "600").replace(from, to)), None);
        let answer = notifier.bench.one();
        assert_eq!(answer.status(), status, "{to}");
        assert!(answer.response().to_tag().is_some());
        assert_eq!(answer.get(Name::MinExpires), if status == 423 { "60" } else { "" });
        assert_eq!((notifier.bench.endpoint.subscriptions(), notifier.bench.endpoint.transactions()), (0, 0));
    }
}

#[test]
fn a_refresh_that_is_refused_leaves_the_subscription_as_it_was() {
    let mut notifier = Notifier::new();
    let (id, tag) = notifier.subscribed();
    for (cseq, from, to, status) in [
        (2, "Expires: 600", "Expires: 5", 423),
        (3, "Event: presence;id=7", "Event: presence;id=8", 481),
        (4, "Event: presence;id=7", "Event: presence", 481),
        (5, "Event: presence;id=7", "Event: dialog;id=7", 481),
        (6, "Expires: 600", "Require: eventlist", 420),
        (1, "", "", 500),
        (9, "SUBSCRIBE", "OPTIONS", 405),
        (9, "SUBSCRIBE", "BYE", 405),
        (9, "SUBSCRIBE", "NOTIFY", 405),
    ] {
        notifier.receive(&refresh(cseq, &tag, "600").replace(from, to).replace("z9hG4bKs1", "z9hG4bKlate"));
        assert_eq!(notifier.bench.one().status(), status, "{to}");
    }
    notifier.advance(MIN_INTERVAL);
    notifier.change(id);
    assert_eq!(notifier.notified().2, "2");
}

#[test]
fn changes_are_told_once_a_second_and_the_latest_state_wins() {
    let mut notifier = Notifier::new();
    let (id, _) = notifier.subscribed();
    for _ in 0..5 {
        notifier.change(id);
        notifier.advance(Duration::from_millis(100));
    }
    assert!(notifier.bench.left().is_empty());
    notifier.advance(Duration::from_millis(499));
    assert!(notifier.bench.left().is_empty());
    notifier.advance(Duration::from_millis(1));
    let (notify, _, body) = notifier.notified();
    assert_eq!(body, "6");
    // and none while that one is unanswered
    notifier.change(id);
    notifier.advance(Duration::from_millis(200));
    notifier.change(id);
    assert_eq!(notifier.dues, 2);
    notifier.receive(&answer(&notify, "200 OK", "", ""));
    notifier.advance(MIN_INTERVAL);
    assert_eq!(notifier.notified().2, "8");
}

#[test]
fn a_subscription_nobody_refreshes_ends_with_a_word() {
    let mut notifier = Notifier::new();
    notifier.subscribed();
    notifier.advance(Duration::from_millis(599_999));
    assert!(notifier.bench.left().is_empty());
    notifier.advance(Duration::from_millis(1));
    let (notify, state, body) = notifier.notified();
    assert_eq!((&*state, &*body), ("terminated;reason=timeout", "1"));
    notifier.receive(&answer(&notify, "200 OK", "", ""));
    notifier.assert_over();
}

#[test]
fn a_watcher_that_refuses_or_is_gone_is_not_notified_again() {
    // §4.2.2
    for status in ["481 Subscription Does Not Exist", "403 Forbidden", "407 Proxy Authentication Required", "500 No\r\nX: y"] {
        let mut notifier = Notifier::new();
        let (id, _) = notifier.subscribed();
        notifier.advance(MIN_INTERVAL);
        notifier.change(id);
        let (notify, ..) = notifier.notified();
        notifier.receive(&answer(&notify, status, "", ""));
        notifier.change(id);
        assert!(notifier.bench.left().is_empty(), "{status}");
        notifier.assert_over();
    }
    let mut notifier = Notifier::new();
    let (id, _) = notifier.subscribed();
    notifier.advance(MIN_INTERVAL);
    notifier.change(id);
    notifier.advance(AFTERMATH);
    assert_eq!(notifier.bench.words().len(), 11, "timer E, until timer F");
    notifier.assert_over();
}

#[test]
fn a_watcher_that_asks_for_time_gets_it() {
    let mut notifier = Notifier::new();
    let (id, _) = notifier.subscribed();
    notifier.advance(MIN_INTERVAL);
    notifier.change(id);
    let (notify, ..) = notifier.notified();
    notifier.receive(&answer(&notify, "503 Service Unavailable", "", "Retry-After: 10\r\n"));
    notifier.advance(Duration::from_millis(9_999));
    notifier.change(id);
    assert!(notifier.bench.left().is_empty());
    notifier.advance(Duration::from_millis(1));
    assert_eq!(notifier.notified().2, "3");
}

#[test]
fn a_subscription_of_a_dialog_that_is_not_there_is_481() {
    let mut notifier = Notifier::new();
    let (_, tag) = notifier.subscribed();
    let number = &tag[..16];
    for forged in ["nobody", number, &format!("{number}0000000000000000")] {
        // S5
        notifier.receive(&refresh(2, forged, "600"));
        assert_eq!(notifier.bench.one().status(), 481, "{forged}");
    }
    notifier.receive(&refresh(2, &tag, "600").replace("Call-ID: call", "Call-ID: other"));
    assert_eq!(notifier.bench.one().status(), 481);
    notifier.receive(&refresh(2, &tag, "0").replace("tag=p", "tag=q"));
    assert_eq!(notifier.bench.one().status(), 481);
    assert_eq!((notifier.bench.endpoint.subscriptions(), notifier.dues), (1, 1));
}

#[test]
fn repetitions_change_nothing() {
    let mut notifier = Notifier::new();
    let (_, tag) = notifier.subscribed();
    notifier.receive(&subscribe(1, "600"));
    assert_eq!(notifier.bench.words(), ["200 SUBSCRIBE"]);
    notifier.receive(&refresh(2, &tag, "600"));
    let left = notifier.bench.left();
    notifier.receive(&refresh(2, &tag, "600"));
    assert_eq!(notifier.bench.words(), ["200 SUBSCRIBE"]);
    notifier.receive(&answer(&left[1], "200 OK", "", ""));
    notifier.receive(&answer(&left[1], "481 Late", "", ""));
    assert_eq!((notifier.bench.endpoint.subscriptions(), notifier.dues, notifier.ended), (1, 2, 0));
}

#[test]
fn a_subscribe_that_comes_twice_before_the_host_takes_it_is_one_subscription() {
    let mut notifier = Notifier::new();
    notifier.bench.receive(&subscribe(1, "600"));
    notifier.bench.receive(&subscribe(1, "600"));
    notifier.bench.receive(&subscribe(1, "600").replace("z9hG4bKs1", "z9hG4bKfork"));
    let events = notifier.bench.events();
    let taken = events.into_iter().map(|event| match event {
        Event::Request(incoming) => notifier.bench.endpoint.subscribe(notifier.bench.now, &incoming).is_some(),
        other => panic!("{other:?}"),
    });
    assert_eq!(taken.collect::<Vec<_>>(), [true, false, false]);
    let Some(Event::Subscription(id, SubscriptionEvent::Asked)) = notifier.bench.events().pop() else { panic!("nobody is asked") };
    notifier.bench.endpoint.grant(notifier.bench.now, id);
    assert_eq!(notifier.bench.words(), ["482 SUBSCRIBE", "200 SUBSCRIBE"]);
}

#[test]
fn a_notify_follows_the_route_set_and_a_refresh_moves_its_target() {
    let mut notifier = Notifier::new();
    let routes = "Record-Route: <sip:10.0.0.9;lr>\r\nRecord-Route: <sip:10.0.0.8;lr>\r\n";
    notifier.take(&subscribe(1, "600").replace("Expires", &format!("{routes}Expires"))).expect("taken");
    let left = notifier.bench.left();
    assert_eq!(left[0].response().headers.all(Name::RecordRoute).count(), 2);
    let route: Vec<_> = left[1].request().headers.all(Name::Route).map(|route| String::from_utf8_lossy(route).into_owned()).collect();
    assert_eq!(route, ["<sip:10.0.0.9;lr>", "<sip:10.0.0.8;lr>"]);
    notifier.receive(&answer(&left[1], "200 OK", "", ""));
    let tag = left[0].response().to_tag().expect("our tag").to_string();
    notifier.bench.flow.remote = address("10.0.0.2:6060"); // the NAT forgot it
    notifier.receive(&refresh(2, &tag, "600").replace("sip:bob@10.0.0.2>", "sip:bob@10.0.0.2:6060>"));
    let left = notifier.bench.left();
    assert_eq!(left[1].request().uri.as_str(), "sip:bob@10.0.0.2:6060");
    assert_eq!(left[1].hop.remote(), address("10.0.0.2:6060"));
}

#[test]
fn the_host_may_end_a_subscription_at_any_time() {
    // S14
    let mut notifier = Notifier::new();
    let (id, _) = notifier.subscribed();
    notifier.bench.endpoint.terminate(notifier.bench.now, id, Termination::Rejected);
    notifier.serve();
    let (_, state, body) = notifier.notified();
    assert_eq!((&*state, &*body), ("terminated;reason=rejected", ""));
    notifier.bench.endpoint.terminate(notifier.bench.now, id, Termination::NoResource);
    notifier.bench.endpoint.changed(notifier.bench.now, id);
    notifier.bench.endpoint.notify(notifier.bench.now, id, "text/plain", "x".into());
    notifier.serve();
    assert!(notifier.bench.left().is_empty());
    notifier.assert_over();

    let mut notifier = Notifier::new();
    let (id, _) = notifier.subscribed();
    notifier.advance(MIN_INTERVAL);
    notifier.change(id);
    let (notify, ..) = notifier.notified();
    notifier.bench.endpoint.terminate(notifier.bench.now, id, Termination::Deactivated);
    notifier.serve();
    assert!(notifier.bench.left().is_empty(), "the last NOTIFY does not overtake the one before");
    notifier.receive(&answer(&notify, "200 OK", "", ""));
    assert_eq!(notifier.notified().1, "terminated;reason=deactivated");
    notifier.assert_over();
}

#[test]
fn a_connection_is_in_use_while_somebody_subscribed_on_it() {
    let mut notifier = Notifier::on(Bench::over_tcp());
    let (id, _) = notifier.subscribed();
    let (transport, remote) = (notifier.bench.flow.transport, notifier.bench.flow.remote);
    assert!(notifier.bench.endpoint.uses(transport, remote));
    notifier.bench.endpoint.connection_closed(notifier.bench.now, notifier.bench.flow.connection.expect("a connection"));
    notifier.advance(MIN_INTERVAL);
    notifier.change(id);
    let (notify, ..) = notifier.notified();
    notifier.bench.endpoint.send_failed(notifier.bench.now, notify.client.expect("a transaction"));
    notifier.serve();
    // its Contact is on the same host: tried once, then it is gone
    let (notify, ..) = notifier.notified();
    notifier.bench.endpoint.send_failed(notifier.bench.now, notify.client.expect("a transaction"));
    notifier.serve();
    notifier.assert_over();
}

#[test]
fn whatever_comes_in_whichever_order_the_watcher_has_the_latest_state_in_the_end() {
    for seed in 0..=255_u8 {
        let mut random = Random::new([seed; 32]);
        let mut notifier = Notifier::new();
        let (id, tag) = notifier.subscribed();
        let (mut cseq, mut told, mut waiting): (u32, u32, Vec<Left>) = (1, 1, Vec::new());
        for _ in 0..200 {
            let asked = random.below(6);
            match asked {
                0 | 1 => notifier.change(id),
                2 => notifier.advance(Duration::from_millis(random.below(1500))),
                3 if !waiting.is_empty() => {
                    let notify = waiting.remove(0);
                    notifier.receive(&answer(&notify, "200 OK", "", ""));
                }
                4 if random.below(4) == 0 => {
                    cseq += 1;
                    notifier.receive(&refresh(cseq, &tag, "3600"));
                }
                _ => notifier.receive(&refresh(1, &tag, "3600").replace("z9hG4bKs1", "z9hG4bKold")),
            }
            for left in notifier.bench.left().into_iter().filter(|left| what(&left.message) == "NOTIFY") {
                let body: u32 = std::str::from_utf8(&left.request().body).unwrap().parse().unwrap();
                if left.get(Name::CSeq) == waiting.first().map_or_else(String::new, |first| first.get(Name::CSeq)) {
                    continue; // a repetition
                }
                assert!(waiting.is_empty(), "seed {seed}: two NOTIFYs at a time");
                assert!(body >= told, "seed {seed}: an older state after a newer one");
                told = body;
                if let (2, [Some(last), Some(before)]) = (asked, notifier.sent) {
                    assert!(last >= before + MIN_INTERVAL, "seed {seed}: two changes within a second");
                }
                waiting.push(left);
            }
        }
        for _ in 0..3 {
            for notify in waiting.drain(..) {
                notifier.receive(&answer(&notify, "200 OK", "", ""));
            }
            notifier.advance(MIN_INTERVAL);
            for left in notifier.bench.left().into_iter().filter(|left| what(&left.message) == "NOTIFY") {
                told = std::str::from_utf8(&left.request().body).unwrap().parse().unwrap();
                waiting.push(left);
            }
        }
        assert_eq!((told, notifier.ended), (notifier.state, 0), "seed {seed}");
        for notify in waiting {
            notifier.receive(&answer(&notify, "200 OK", "", ""));
        }
        notifier.advance(MAX_EXPIRES + MIN_EXPIRES);
        notifier.assert_over();
    }
}

fn number(left: &Left) -> u32 {
    left.get(Name::CSeq).split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn nothing_is_said_before_it_is_kept() {
    let mut notifier = Notifier::new();
    notifier.holds = true;
    let id = notifier.take(&subscribe(1, "600")).expect("taken");
    notifier.change(id);
    notifier.receive(&subscribe(1, "600"));
    notifier.advance(Duration::from_millis(100));
    assert!(notifier.bench.left().is_empty() && notifier.kept.is_some());
    notifier.bench.endpoint.grant(notifier.bench.now, id);
    notifier.serve();
    let left = notifier.bench.left();
    assert_eq!(left.iter().map(|left| what(&left.message)).collect::<Vec<_>>(), ["200 SUBSCRIBE", "NOTIFY"]);
    notifier.receive(&answer(&left[1], "200 OK", "", ""));
    let tag = left[0].response().to_tag().expect("our tag").to_string();

    // a further one that waits keeps the subscription alive beyond its end, and is the only one
    notifier.advance(Duration::from_secs(599));
    notifier.receive(&refresh(2, &tag, "600"));
    notifier.receive(&refresh(3, &tag, "600"));
    assert_eq!(notifier.bench.words(), ["503 SUBSCRIBE"]);
    notifier.advance(Duration::from_secs(2));
    notifier.change(id);
    let (notify, state, _) = notifier.notified();
    assert_eq!(state, "active;expires=0", "news go on");
    notifier.receive(&answer(&notify, "481 Gone", "", ""));
    notifier.bench.endpoint.grant(notifier.bench.now, id);
    notifier.serve();
    let left = notifier.bench.left();
    assert_eq!(
        (left[0].status(), left[1].get(Name::SubscriptionState)),
        (200, "active;expires=598".to_owned()),
        "whatever was refused before"
    );
    notifier.receive(&answer(&left[1], "200 OK", "", ""));

    notifier.receive(&refresh(4, &tag, "0"));
    assert_eq!(notifier.kept, None, "its end is kept as well");
    notifier.bench.endpoint.terminate(notifier.bench.now, id, Termination::Rejected);
    notifier.serve();
    assert_eq!(notifier.bench.words(), ["481 SUBSCRIBE", "NOTIFY"]);
    notifier.assert_over();
}

#[test]
fn what_cannot_be_kept_is_as_if_it_had_not_come() {
    let refused = |notifier: &mut Notifier, id| {
        let after = Duration::from_secs(30);
        notifier.bench.endpoint.refuse_subscribe(notifier.bench.now, id, StatusCode::SERVER_INTERNAL_ERROR, after);
        notifier.serve();
        let left = notifier.bench.one();
        assert_eq!((left.status(), left.get(Name::RetryAfter)), (500, "30".to_owned()));
    };
    let mut notifier = Notifier::new();
    notifier.holds = true;
    let id = notifier.take(&subscribe(1, "600")).expect("taken");
    refused(&mut notifier, id);
    notifier.assert_over();

    let mut notifier = Notifier::new();
    let (id, tag) = notifier.subscribed();
    notifier.holds = true;
    notifier.receive(&refresh(2, &tag, "3600").replace("sip:bob@10.0.0.2>", "sip:bob@10.0.0.3>"));
    refused(&mut notifier, id);
    notifier.advance(Duration::from_secs(600));
    let (notify, state, _) = notifier.notified();
    assert_eq!((&*state, notify.request().uri.as_str()), ("terminated;reason=timeout", "sip:bob@10.0.0.2"));
}

#[test]
fn a_subscription_goes_on_after_a_restart() {
    let mut notifier = Notifier::new();
    let routes = "Record-Route: <sip:10.0.0.2:5070;lr>\r\nRecord-Route: <sip:10.0.0.8;lr>\r\n";
    let id = notifier.take(&subscribe(1, "600").replace("Expires", &format!("{routes}Expires"))).expect("taken");
    let left = notifier.bench.left();
    notifier.receive(&answer(&left[1], "200 OK", "", ""));
    let tag = left[0].response().to_tag().expect("our tag").to_string();
    assert!(notifier.restart(id, 1, Duration::from_secs(100)));
    notifier.change(id);
    notifier.advance(SPREAD - Duration::from_millis(1));
    assert!(notifier.bench.left().is_empty(), "its turn has not come");
    notifier.advance(Duration::from_millis(1));
    let (notify, state, body) = notifier.notified();
    assert_eq!((&*state, &*body), ("active;expires=500", "2"));
    assert_eq!((notify.get(Name::Event), notify.get(Name::CallId)), ("presence;id=7".to_owned(), "call".to_owned()));
    assert_eq!((notify.get(Name::From), notify.get(Name::To)), (format!("<sip:ann@h>;tag={tag}"), "<sip:bob@h>;tag=p".to_owned()));
    assert_eq!((notify.request().uri.as_str(), notify.hop.clone()), ("sip:bob@10.0.0.2", Hop::Flow(notifier.bench.flow)));
    assert_eq!(notify.request().headers.all(Name::Route).count(), 2);
    assert!(number(&notify) > MAX_NOTIFIES);
    notifier.receive(&answer(&notify, "200 OK", "", ""));

    let next = notifier.take(&subscribe(9, "600").replace("Call-ID: call", "Call-ID: next")).expect("taken");
    assert_ne!(next, id, "no number is used twice");
    let _ = notifier.bench.left();
    notifier.receive(&refresh(1, &tag, "600"));
    let left = notifier.bench.left();
    assert_eq!((left[0].status(), what(&left[1].message)), (200, "NOTIFY".to_owned()), "the repetition of what was not answered");
    notifier.receive(&answer(&left[1], "200 OK", "", ""));
    notifier.receive(&refresh(1, &tag, "600").replace("z9hG4bKs1", "z9hG4bKlate"));
    assert_eq!(notifier.bench.one().status(), 500, "once");
    notifier.receive(&refresh(2, &tag, "0"));
    assert_eq!((notifier.bench.left()[0].status(), &notifier.kept), (200, &None));
}

#[test]
fn a_watcher_is_told_from_the_listener_that_there_is_now() {
    let mut notifier = Notifier::on(Bench { flow: Flow { local: address("10.0.0.9:5060"), ..Bench::new().flow }, ..Bench::new() });
    let (id, _) = notifier.subscribed();
    assert!(notifier.restart(id, 1, Duration::ZERO));
    notifier.advance(SPREAD);
    let (notify, ..) = notifier.notified();
    assert_eq!(notify.hop, Hop::Flow(Flow { local: address(OURS), ..notifier.bench.flow }));
}

#[test]
fn no_number_is_used_twice_however_often_it_restarts_and_whatever_was_sent() {
    let mut notifier = Notifier::new();
    let id = notifier.take(&subscribe(1, "3600")).expect("taken");
    let _ = notifier.bench.left();
    let mut last = 1;
    for starts in 1..4 {
        assert!(notifier.restart(id, starts, Duration::ZERO));
        notifier.advance(SPREAD);
        for _ in 0..MAX_EXPIRES.as_secs() {
            let (notify, ..) = notifier.notified();
            assert!(number(&notify) > last);
            last = number(&notify);
            notifier.receive(&answer(&notify, "200 OK", "", ""));
            notifier.advance(MIN_INTERVAL);
            notifier.change(id);
        }
        let _ = notifier.bench.left();
    }
    assert!(!notifier.restart(id, 1 << 20, Duration::ZERO), "no number is left");
}

#[test]
fn what_ended_while_the_process_was_down_does_not_come_back() {
    let mut notifier = Notifier::new();
    let (id, _) = notifier.subscribed();
    assert!(!notifier.restart(id, 1, Duration::from_secs(600)));
    assert_eq!((notifier.bench.endpoint.subscriptions(), notifier.bench.endpoint.poll_timeout()), (0, None));
    notifier.bench.now -= Duration::from_secs(1);
    assert!(notifier.restart_at(id, 2, EPOCH.plus(Duration::from_secs(599))));
    notifier.advance(SPREAD);
    let (notify, state, _) = notifier.notified();
    assert_eq!(state, "active;expires=1");
    notifier.receive(&answer(&notify, "200 OK", "", ""));
    notifier.advance(Duration::from_secs(1));
    let (notify, state, _) = notifier.notified();
    assert_eq!(state, "terminated;reason=timeout");
    notifier.receive(&answer(&notify, "200 OK", "", ""));
    notifier.assert_over();
}

/// A subscription over TCP, after a restart.
fn restored_over_tcp() -> (Notifier, SubscriptionId) {
    let mut notifier = Notifier::on(Bench::over_tcp());
    let (id, _) = notifier.subscribed();
    assert!(notifier.restart(id, 1, Duration::ZERO));
    notifier.advance(SPREAD);
    (notifier, id)
}

#[test]
fn a_watcher_whose_connection_is_gone_is_reached_at_its_contact_or_waited_for() {
    let (mut notifier, id) = restored_over_tcp();
    let (notify, ..) = notifier.notified();
    let hop = Hop::Address { transport: Transport::Tcp, remote: address("10.0.0.2:5060"), name: None };
    assert_eq!((&notify.hop, notify.get(Name::Contact)), (&hop, "<sip:10.0.0.1:5060;transport=tcp>".to_owned()));
    notifier.bench.endpoint.send_failed(notifier.bench.now, notify.client.expect("a transaction"));
    notifier.advance(Duration::from_secs(60));
    notifier.change(id);
    assert!(notifier.bench.left().is_empty() && !notifier.bench.endpoint.uses(Transport::Tcp, address("10.0.0.2:5060")));
    assert_eq!(notifier.bench.endpoint.watcher_contact(id).map(ToString::to_string), Some("sip:bob@10.0.0.2".to_owned()));
    // it registers anew
    notifier.bench.endpoint.follow(notifier.bench.now, id, notifier.bench.flow);
    notifier.serve();
    let (notify, _, body) = notifier.notified();
    assert_eq!((&notify.hop, &*body), (&Hop::Flow(notifier.bench.flow), "2"));
    notifier.bench.endpoint.follow(notifier.bench.now, id, notifier.bench.flow);
    assert!(notifier.bench.left().is_empty(), "it is on its way");
    notifier.receive(&answer(&notify, "200 OK", "", ""));
    let elsewhere = Flow { remote: address("10.0.0.2:40001"), ..notifier.bench.flow };
    notifier.bench.endpoint.follow(notifier.bench.now, id, elsewhere);
    assert_eq!(notifier.bench.endpoint.flow_of(id), Some(notifier.bench.flow), "it was heard there");
}

#[test]
fn a_watcher_that_comes_back_is_not_waited_for_on_the_way_that_is_dead() {
    let (mut notifier, id) = restored_over_tcp();
    let (dead, ..) = notifier.notified();
    notifier.bench.endpoint.follow(notifier.bench.now, id, notifier.bench.flow);
    notifier.advance(Duration::ZERO);
    notifier.serve();
    let (notify, ..) = notifier.notified();
    assert_eq!(notify.hop, Hop::Flow(notifier.bench.flow));
    assert!(number(&notify) > number(&dead));
    notifier.bench.endpoint.send_failed(notifier.bench.now, dead.client.expect("a transaction"));
    notifier.receive(&answer(&notify, "200 OK", "", ""));
    notifier.advance(MIN_INTERVAL);
    notifier.change(id);
    assert_eq!(notifier.notified().2, "2");
}

#[test]
fn a_watcher_that_does_not_come_back_is_forgotten_at_its_end() {
    // S11
    let (mut notifier, _) = restored_over_tcp();
    let (notify, ..) = notifier.notified();
    notifier.bench.endpoint.send_failed(notifier.bench.now, notify.client.expect("a transaction"));
    notifier.advance(Duration::from_secs(601));
    assert!(notifier.bench.left().is_empty());
    notifier.assert_over();

    let (mut notifier, id) = restored_over_tcp();
    let (notify, ..) = notifier.notified();
    notifier.bench.endpoint.send_failed(notifier.bench.now, notify.client.expect("a transaction"));
    notifier.bench.endpoint.terminate(notifier.bench.now, id, Termination::NoResource);
    notifier.serve();
    assert!(notifier.bench.left().is_empty());
    notifier.assert_over();

    // nobody answers at the old address of a phone without a connection
    let mut notifier = Notifier::new();
    let (id, _) = notifier.subscribed();
    assert!(notifier.restart(id, 1, Duration::ZERO));
    notifier.advance(SPREAD + AFTERMATH);
    notifier.assert_over();
}
