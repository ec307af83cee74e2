//! REFER received, in a dialog and outside of one, and the NOTIFYs that tell how it goes (RFC 3515, RFC 4488, RFC 5057).

use std::time::Duration;

use sip::endpoint::Reports;
use sip::message::Name;
use sip::{CommandError, DialogEvent, DialogId, Event, Method, Refer, StatusCode};

use super::bench::*;

const TO_CAROL: &str = "Refer-To: <sip:carol@h>\r\nReferred-By: <sip:bob@h>\r\nContact: <sip:bob@10.0.0.2>\r\n";

fn refer(cseq: u32, tag: &str, more: &str) -> String {
    inside("REFER", cseq, &format!("r{cseq}"), tag, more, "")
}

impl Bench {
    #[track_caller]
    fn referred(&mut self) -> (DialogId, Refer) {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        match events.remove(0) {
            Event::Refer(dialog, refer) => (dialog, *refer),
            other => panic!("{other:?}"),
        }
    }

    /// A call with a REFER that is accepted; its first NOTIFY is out and answered.
    #[track_caller]
    fn accepted(&mut self) -> (DialogId, Refer, String) {
        let (dialog, tag) = self.answered();
        self.receive(&refer(2, &tag, TO_CAROL));
        let (_, refer) = self.referred();
        self.endpoint.accept_refer(self.now, dialog, refer.id).unwrap();
        let left = self.left();
        assert_eq!(left[0].status(), 202);
        self.told(&left[1], "active;expires=300", "100 Trying");
        (dialog, refer, tag)
    }

    /// Looks at a NOTIFY and answers it.
    #[track_caller]
    fn told(&mut self, notify: &Left, state: &str, status: &str) {
        assert_eq!(notify.request().method, Method::Notify);
        assert_eq!(
            (notify.get(Name::SubscriptionState), notify.get(Name::ContentType)),
            (state.into(), "message/sipfrag;version=2.0".into())
        );
        assert_eq!(notify.request().body, format!("SIP/2.0 {status}\r\n"));
        assert!(!notify.get(Name::Contact).is_empty());
        self.receive(&answer(notify, "200 OK", "", ""));
    }
}

#[test]
fn a_refer_is_told_to_the_host_and_reported_until_the_outcome() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&refer(2, &tag, TO_CAROL));
    let (on, refer) = bench.referred();
    assert_eq!((on, refer.to.uri.as_str(), refer.reports), (dialog, "sip:carol@h", Reports::Wanted));
    assert_eq!(refer.by.unwrap().0.uri.as_str(), "sip:bob@h");
    assert!(bench.left().is_empty(), "the host decides");
    bench.endpoint.accept_refer(bench.now, dialog, refer.id).unwrap();
    let left = bench.left();
    assert_eq!((left.len(), left[0].status()), (2, 202));
    assert_eq!(left[1].get(Name::Event), "refer;id=2");
    bench.told(&left[1], "active;expires=300", "100 Trying");
    bench.advance(Duration::from_secs(2));
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::RINGING);
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::RINGING);
    let ringing = bench.one();
    bench.told(&ringing, "active;expires=298", "180 Ringing");
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
    let outcome = bench.one();
    bench.told(&outcome, "terminated;reason=noresource", "200 OK");
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::BUSY_HERE);
    assert!(bench.left().is_empty(), "the outcome is the last");
    assert_eq!(bench.endpoint.accept_refer(bench.now, dialog, refer.id), Err(CommandError::Gone));
    assert_eq!(bench.endpoint.dialogs(), 1, "the session goes on");
}

#[test]
fn a_refused_refer_makes_no_subscription() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&refer(2, &tag, TO_CAROL));
    let (_, refer) = bench.referred();
    bench.endpoint.refuse_refer(bench.now, dialog, refer.id, StatusCode::FORBIDDEN).unwrap();
    assert_eq!(bench.one().status(), 403);
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
    assert!(bench.left().is_empty());
}

#[test]
fn each_bad_refer_has_its_status() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    let bad = [
        (400, ""),
        (400, "Refer-To: <sip:carol@h>\r\nRefer-To: <sip:dave@h>\r\n"),
        (400, "Refer-To: <sip:carol@h>, <sip:dave@h>\r\n"),
        (400, "Refer-To: <sip:carol@h?Replaces=x>\r\n"),
        (400, "Refer-To: <sip:carol@h>\r\nReferred-By: <sip:bob@h\r\n"),
        (400, "Refer-To: <sip:carol@h>\r\nRefer-Sub: perhaps\r\n"),
        (400, "Refer-To: <sip:carol@h>\r\nReplaces: x;to-tag=1;from-tag=2\r\n"),
        (416, "Refer-To: <http://carol.example>\r\n"),
        (420, "Refer-To: <sip:carol@h>\r\nRequire: unheard-of\r\n"),
        (501, "Refer-To: <sip:carol@h;method=BYE>\r\n"),
    ];
    for (cseq, (status, more)) in (2..).zip(bad) {
        bench.receive(&refer(cseq, &tag, more));
        assert_eq!(bench.one().status(), status, "{more}");
        assert!(bench.events().is_empty(), "{more}");
    }
}

#[test]
fn a_refer_before_the_answer_waits_for_it() {
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, bytes::Bytes::new()).unwrap();
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&refer(2, &tag, TO_CAROL));
    assert_eq!(bench.one().status(), 491);
}

#[test]
fn a_peer_that_wants_no_reports_gets_none() {
    // RFC 4488 §4
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&refer(2, &tag, &format!("{TO_CAROL}Refer-Sub: false\r\n")));
    let (_, refer) = bench.referred();
    assert_eq!(refer.reports, Reports::Unwanted);
    bench.endpoint.accept_refer(bench.now, dialog, refer.id).unwrap();
    let accepted = bench.one();
    assert_eq!((accepted.status(), accepted.get(Name::ReferSub)), (200, "false".into()));
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
    assert!(bench.left().is_empty());
}

#[test]
fn several_refers_in_a_dialog_are_told_apart() {
    let mut bench = Bench::new();
    let (dialog, first, tag) = bench.accepted();
    bench.receive(&refer(3, &tag, "Refer-To: <sip:dave@h>\r\n"));
    let (_, second) = bench.referred();
    bench.endpoint.accept_refer(bench.now, dialog, second.id).unwrap();
    let left = bench.left();
    assert_eq!(left[1].get(Name::Event), "refer;id=3");
    bench.told(&left[1], "active;expires=300", "100 Trying");
    bench.endpoint.report(bench.now, dialog, second.id, StatusCode::BUSY_HERE);
    bench.endpoint.report(bench.now, dialog, first.id, StatusCode::OK);
    let left = bench.left();
    assert_eq!((left[0].get(Name::Event), left[1].get(Name::Event)), ("refer;id=3".into(), "refer;id=2".into()));
    bench.told(&left[0], "terminated;reason=noresource", "486 Busy Here");
    bench.told(&left[1], "terminated;reason=noresource", "200 OK");
}

#[test]
fn a_flood_of_refers_is_put_off() {
    // S11
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    for cseq in 2..10 {
        bench.receive(&refer(cseq, &tag, TO_CAROL));
    }
    assert_eq!(bench.events().len(), 8);
    bench.receive(&refer(10, &tag, TO_CAROL));
    let refused = bench.one();
    assert_eq!((refused.status(), refused.get(Name::RetryAfter).is_empty()), (500, false));
}

#[test]
fn one_notify_waits_for_the_other_and_the_last_for_none() {
    let mut bench = Bench::new();
    let (dialog, refer, tag) = bench.accepted();
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::RINGING);
    let ringing = bench.one();
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::SESSION_PROGRESS);
    assert!(bench.left().is_empty());
    // a phone that has not heard the outcome at the end of its call may give up hearing it, or more
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
    bench.endpoint.bye(bench.now, dialog, None);
    let left = bench.left();
    assert_eq!((left.len(), left[1].request().method.clone()), (2, Method::Bye));
    bench.receive(&inside("SUBSCRIBE", 3, "s", &tag, "Event: refer;id=2\r\nExpires: 60\r\n", ""));
    let subscribed = bench.one();
    assert_eq!((subscribed.status(), subscribed.get(Name::Expires)), (200, "0".into()), "it is over, but who asks cannot know yet");
    bench.told(&left[0], "terminated;reason=noresource", "200 OK");
    bench.receive(&answer(&left[1], "200 OK", "", ""));
    bench.receive(&answer(&ringing, "481 Gone", "", ""));
    let _ = bench.events();
    assert_eq!(bench.endpoint.dialogs(), 0);
    bench.receive(&inside("SUBSCRIBE", 4, "t", &tag, "Event: refer;id=2\r\nExpires: 0\r\n", ""));
    assert_eq!(bench.one().status(), 481);
}

#[test]
fn a_notify_that_the_last_overtook_ends_no_session_by_its_failure() {
    let mut bench = Bench::new();
    let (dialog, refer, _) = bench.accepted();
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::RINGING);
    let ringing = bench.one();
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::BUSY_HERE);
    let outcome = bench.one();
    bench.receive(&answer(&outcome, "481 Gone", "", ""));
    bench.receive(&answer(&ringing, "481 Gone", "", ""));
    assert_eq!((bench.left().len(), bench.endpoint.dialogs()), (0, 1), "the session goes on");
}

#[test]
fn who_hangs_up_hears_the_outcome_nevertheless() {
    // RFC 5057 §3: the dialog lives as long as one of its usages.
    let mut bench = Bench::new();
    let (dialog, refer, tag) = bench.accepted();
    bench.receive(&inside("BYE", 3, "b", &tag, "", ""));
    assert_eq!(bench.words(), ["200 BYE"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Ended { .. }));
    assert_eq!(bench.endpoint.dialogs(), 1);
    for (cseq, method) in [(4, "BYE"), (5, "INVITE"), (6, "INFO"), (7, "REFER")] {
        bench.receive(&inside(method, cseq, &format!("l{cseq}"), &tag, CONTACT, ""));
        assert_eq!(bench.one().status(), 481, "{method}");
    }
    bench.endpoint.bye(bench.now, dialog, None);
    assert_eq!(bench.endpoint.offer(bench.now, dialog, SDP.into()), Err(CommandError::Gone));
    assert!(bench.left().is_empty() && bench.events().is_empty(), "there is no session");
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
    let outcome = bench.one();
    bench.told(&outcome, "terminated;reason=noresource", "200 OK");
    bench.assert_empty();
}

#[test]
fn who_hangs_up_before_the_decision_gets_487() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&refer(2, &tag, TO_CAROL));
    let (_, refer) = bench.referred();
    bench.receive(&inside("BYE", 3, "b", &tag, "", ""));
    assert_eq!(bench.words(), ["200 BYE", "487 REFER"]);
    assert_eq!(bench.endpoint.accept_refer(bench.now, dialog, refer.id), Err(CommandError::Gone));
    let _ = bench.events();
    bench.assert_empty();
}

#[test]
fn a_peer_that_refuses_a_notify_ends_the_subscription_and_not_the_session() {
    // RFC 5057 §5.1
    for status in ["481 Gone", "489 Bad Event", "405 Not Allowed"] {
        let mut bench = Bench::new();
        let (dialog, refer, _) = bench.accepted();
        bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::RINGING);
        let ringing = bench.one();
        bench.receive(&answer(&ringing, status, "", ""));
        bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
        assert!(bench.left().is_empty() && bench.events().is_empty(), "{status}");
        assert_eq!(bench.endpoint.dialogs(), 1, "{status}");
    }
}

#[test]
fn a_peer_that_never_answers_a_notify_is_told_no_more() {
    let mut bench = Bench::new();
    let (dialog, refer, tag) = bench.accepted();
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::RINGING);
    bench.receive(&inside("BYE", 3, "b", &tag, "", ""));
    let _ = (bench.left(), bench.events());
    bench.advance(Duration::from_secs(32));
    assert_eq!(bench.endpoint.dialogs(), 0);
    bench.assert_empty();
}

#[test]
fn an_outcome_that_never_comes_is_told_so() {
    let mut bench = Bench::new();
    let (_, _, tag) = bench.accepted();
    bench.receive(&inside("BYE", 3, "b", &tag, "", ""));
    let _ = (bench.left(), bench.events());
    bench.advance(Duration::from_secs(300));
    let last = bench.one();
    bench.told(&last, "terminated;reason=timeout", "100 Trying");
    bench.assert_empty();
}

#[test]
fn a_refer_that_the_host_forgets_leaves_nothing() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&refer(2, &tag, TO_CAROL));
    let (_, refer) = bench.referred();
    bench.advance(Duration::from_secs(32));
    assert_eq!(bench.endpoint.accept_refer(bench.now, dialog, refer.id), Err(CommandError::Gone));
}

#[test]
fn the_peer_may_listen_longer_or_no_more() {
    let mut bench = Bench::new();
    let (dialog, refer, tag) = bench.accepted();
    let subscribe = |cseq: u32, more: &str| inside("SUBSCRIBE", cseq, &format!("s{cseq}"), &tag, more, "");
    bench.receive(&subscribe(3, "Event: refer;id=2\r\nExpires: 20\r\n"));
    let left = bench.left();
    assert_eq!((left[0].status(), left[0].get(Name::Expires)), (200, "20".into()));
    bench.told(&left[1], "active;expires=20", "100 Trying");
    for (cseq, more, status) in [
        (4, "Event: refer;id=9\r\n", 481),
        (5, "Event: refer;id=x\r\n", 200), // no number: as without
        (6, "Event: refer;id=2\r\nExpires: soon\r\n", 400),
    ] {
        bench.receive(&subscribe(cseq, more));
        let left = bench.left();
        assert_eq!(left[0].status(), status, "{more}");
        if let Some(notify) = left.get(1) {
            bench.told(notify, "active;expires=300", "100 Trying");
        }
    }
    bench.receive(&subscribe(7, "Event: refer\r\nExpires: 0\r\n"));
    let left = bench.left();
    assert_eq!((left[0].status(), left[0].get(Name::Expires)), (200, "0".into()));
    bench.told(&left[1], "terminated;reason=timeout", "100 Trying");
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
    assert!(bench.left().is_empty());
    bench.receive(&subscribe(8, "Event: presence\r\n"));
    assert!(matches!(bench.dialog_event(), DialogEvent::Request { .. }), "another package is the host's business");
}

#[test]
fn an_answer_to_a_reinvite_that_crosses_the_end_is_acknowledged_while_a_refer_lives() {
    let mut bench = Bench::new();
    let (dialog, _, tag) = bench.accepted();
    bench.endpoint.offer(bench.now, dialog, SDP.into()).unwrap();
    let reinvite = bench.one();
    bench.receive(&inside("BYE", 3, "b", &tag, "", ""));
    let _ = (bench.left(), bench.events());
    bench.receive(&answer(&reinvite, "200 OK", "", CONTACT));
    assert_eq!(bench.words(), ["ACK"]);
    assert!(bench.events().is_empty());
}

#[test]
fn an_answer_that_crosses_the_end_is_repeated_no_more_while_a_refer_lives() {
    let mut bench = Bench::new();
    let (dialog, _, tag) = bench.accepted();
    bench.receive(&inside("INVITE", 3, "i3", &tag, CONTACT, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    bench.receive(&inside("BYE", 4, "b", &tag, "", ""));
    let _ = (bench.left(), bench.events());
    bench.advance(Duration::from_secs(40));
    assert_eq!((bench.words(), bench.events().len()), (Vec::new(), 0));
    assert_eq!(bench.endpoint.dialogs(), 1);
}

// ---- outside a dialog

impl Bench {
    fn take_refer(&mut self, more: &str) -> Option<(DialogId, Refer)> {
        self.receive(&outside("REFER", 1, "o1", more, ""));
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        let Event::Request(incoming) = events.remove(0) else { panic!("no request") };
        self.endpoint.take_refer(self.now, *incoming)
    }
}

#[test]
fn a_refer_outside_a_dialog_makes_one_for_its_reports() {
    let mut bench = Bench::new();
    let (dialog, refer) = bench.take_refer(TO_CAROL).expect("it is taken");
    bench.endpoint.accept_refer(bench.now, dialog, refer.id).unwrap();
    let left = bench.left();
    let tag = left[0].response().to_tag().expect("our tag");
    assert_eq!((left[0].status(), left[1].request().from_tag()), (202, Some(tag.clone())));
    bench.told(&left[1], "active;expires=300", "100 Trying");
    bench.receive(&inside("INVITE", 2, "i2", &tag, CONTACT, ""));
    assert_eq!(bench.one().status(), 481, "it has no session");
    bench.endpoint.report(bench.now, dialog, refer.id, StatusCode::OK);
    let outcome = bench.one();
    bench.told(&outcome, "terminated;reason=noresource", "200 OK");
    assert!(bench.events().is_empty());
    bench.assert_empty();
}

#[test]
fn a_refer_outside_a_dialog_is_refused_by_the_host_or_here() {
    let mut bench = Bench::new();
    let (dialog, refer) = bench.take_refer(TO_CAROL).expect("it is taken");
    bench.endpoint.refuse_refer(bench.now, dialog, refer.id, StatusCode::FORBIDDEN).unwrap();
    assert_eq!(bench.one().status(), 403);
    bench.assert_empty();
    for (status, more) in [
        (400, "Contact: <sip:bob@10.0.0.2>\r\n"),
        (400, "Refer-To: <sip:carol@h>\r\n"), // without Contact nothing can be told
        (416, "Contact: <sip:bob@10.0.0.2>\r\nRefer-To: <urn:service:sos>\r\n"),
        (420, "Contact: <sip:bob@10.0.0.2>\r\nRefer-To: <sip:carol@h>\r\nRequire: unheard-of\r\n"),
    ] {
        let mut bench = Bench::new();
        assert!(bench.take_refer(more).is_none(), "{more}");
        assert_eq!(bench.one().status(), status, "{more}");
        bench.assert_empty();
    }
}

#[test]
fn a_repeated_refer_outside_a_dialog_is_taken_once() {
    let mut bench = Bench::new();
    let text = outside("REFER", 1, "o1", TO_CAROL, "");
    bench.receive(&text);
    bench.receive(&text);
    let mut incoming = bench.events().into_iter().map(|event| match event {
        Event::Request(incoming) => *incoming,
        other => panic!("{other:?}"),
    });
    let (first, second) = (incoming.next().unwrap(), incoming.next().unwrap());
    assert!(bench.endpoint.take_refer(bench.now, first).is_some());
    assert!(bench.endpoint.take_refer(bench.now, second).is_none());
    assert_eq!(bench.endpoint.dialogs(), 1);
}
