//! One INVITE dialog and a peer that behaves well, late, twice or badly.

use std::time::Duration;

use bytes::Bytes;
use sip::message::{Headers, Name};
use sip::{CommandError, DialogEvent, Ender, Event, Hop, Method, StatusCode};

use super::bench::*;

const OFFER: &str = "Content-Type: application/sdp\r\n";

fn ended(bench: &mut Bench) -> Ender {
    match bench.dialog_event() {
        DialogEvent::Ended { by, .. } => by,
        other => panic!("{other:?}"),
    }
}

// ---- the callee's side

#[test]
fn an_answer_is_repeated_until_its_ack_and_then_no_more() {
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.advance(Duration::from_secs(4));
    assert_eq!(bench.words(), ["200 INVITE"; 3]);
    bench.receive(&invite(1, ""));
    assert!(bench.words().is_empty(), "the transaction absorbs the INVITE (RFC 6026)");
    bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
    bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
    assert!(matches!(bench.dialog_event(), DialogEvent::Acknowledged { .. }));
    bench.advance(Duration::from_secs(20));
    assert!(bench.words().is_empty());
}

#[test]
fn an_ack_with_the_branch_of_the_invite_counts() {
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&inside("ACK", 1, "i1", &tag, "", ""));
    assert!(matches!(bench.dialog_event(), DialogEvent::Acknowledged { .. }));
}

#[test]
fn without_ack_the_callee_hangs_up() {
    // §13.3.1.4
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    bench.advance(Duration::from_secs(32));
    assert_eq!(ended(&mut bench), Ender::NoAck);
    assert_eq!(bench.words().last().map(String::as_str), Some("BYE"));
    bench.assert_empty();
}

#[test]
fn hanging_up_before_the_ack_waits_for_it() {
    // §15
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.endpoint.bye(bench.now, dialog, None);
    assert!(bench.words().is_empty());
    bench.receive(&inside("INVITE", 2, "r", &tag, CONTACT, ""));
    assert!(bench.events().is_empty(), "the host is done with it");
    assert_eq!(bench.one().status(), 500);
    bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
    assert_eq!(bench.words(), ["BYE"]);
    assert_eq!(ended(&mut bench), Ender::Us);
    bench.assert_empty();
}

#[test]
fn cancel_at_each_step_of_the_callee() {
    let cancel = outside("CANCEL", 1, "i1", "Reason: SIP;cause=200\r\n", "");
    let mut bench = Bench::new();
    let _ = bench.take(&invite(1, ""));
    let _ = bench.left();
    bench.receive(&cancel);
    assert_eq!(bench.words(), ["200 CANCEL", "487 INVITE"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Cancelled { reason: Some(r) } if r.cause == Some(200)));
    bench.receive(&cancel);
    assert_eq!(bench.words(), ["200 CANCEL"]);
    bench.assert_empty();

    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let _ = bench.left();
    bench.receive(&cancel);
    assert_eq!(bench.words(), ["200 CANCEL"]);
    assert!(bench.events().is_empty());
    assert_eq!(bench.endpoint.dialogs(), 1);
}

#[test]
fn bye_at_each_step_of_the_callee() {
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, Bytes::new()).unwrap();
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&inside("BYE", 2, "b", &tag, "", ""));
    assert_eq!(bench.words(), ["200 BYE", "487 INVITE"]);
    assert_eq!(ended(&mut bench), Ender::Peer);
    bench.assert_empty();

    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&inside("BYE", 2, "b", &tag, "Reason: Q.850;cause=16\r\n", ""));
    assert_eq!(bench.words(), ["200 BYE"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Ended { by: Ender::Peer, reason: Some(r) } if r.cause == Some(16)));
    bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
    bench.receive(&inside("BYE", 3, "b3", &tag, "", ""));
    assert_eq!(bench.words(), ["481 BYE"]);
    bench.assert_empty();
}

#[test]
fn requests_out_of_order_are_500_and_keep_nothing() {
    // §12.2.2
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    bench.receive(&inside("INFO", 7, "n7", &tag, "", ""));
    assert!(matches!(bench.dialog_event(), DialogEvent::Request { .. }));
    let before = bench.endpoint.transactions();
    for (cseq, branch) in [(7, "x7"), (6, "x6"), (1, "x1")] {
        bench.receive(&inside("INFO", cseq, branch, &tag, "", ""));
        assert_eq!(bench.one().status(), 500);
    }
    assert!(bench.events().is_empty());
    assert_eq!(bench.endpoint.transactions(), before);
}

#[test]
fn an_unknown_extension_is_420_in_a_dialog_too() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    bench.receive(&inside("INVITE", 2, "r", &tag, &format!("{CONTACT}Require: magic\r\n"), ""));
    let refused = bench.one();
    assert_eq!((refused.status(), refused.get(Name::Unsupported)), (420, "magic".to_owned()));
}

#[test]
fn a_reinvite_is_answered_100_at_once_and_offered_to_the_host() {
    // §17.2.1
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&inside("INVITE", 2, "r", &tag, &format!("{CONTACT}{OFFER}"), "v=1\r\n"));
    assert_eq!(bench.words(), ["100 INVITE"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Offered { body } if &body[..] == b"v=1\r\n"));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    assert_eq!(bench.words(), ["200 INVITE"]);
    bench.receive(&inside("ACK", 2, "a2", &tag, "", ""));
    assert!(matches!(bench.dialog_event(), DialogEvent::Acknowledged { .. }));
}

#[test]
fn a_refused_reinvite_does_not_move_the_target() {
    // RFC 6141 §4
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    let moved = "Contact: <sip:elsewhere@10.0.0.3>\r\n";
    bench.receive(&inside("INVITE", 2, "r", &tag, moved, ""));
    let _ = bench.events();
    bench.endpoint.refuse(bench.now, dialog, StatusCode::NOT_ACCEPTABLE_HERE, &Headers::default()).unwrap();
    bench.receive(&inside("ACK", 2, "r", &tag, "", ""));
    let _ = bench.left();
    bench.endpoint.request_within(bench.now, dialog, Method::Info, &Headers::default(), Bytes::new());
    assert_eq!(bench.one().request().uri.as_str(), "sip:bob@10.0.0.2");
    bench.receive(&inside("INVITE", 3, "r3", &tag, moved, ""));
    let _ = bench.events();
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let _ = bench.left();
    bench.endpoint.request_within(bench.now, dialog, Method::Info, &Headers::default(), Bytes::new());
    assert_eq!(bench.one().request().uri.as_str(), "sip:elsewhere@10.0.0.3");
}

#[test]
fn a_cancelled_reinvite_leaves_the_session_as_it_was() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&inside("INVITE", 2, "r", &tag, CONTACT, ""));
    let _ = (bench.events(), bench.left());
    bench.receive(&inside("CANCEL", 2, "r", &tag, "", ""));
    assert_eq!(bench.words(), ["200 CANCEL", "487 INVITE"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::OfferCancelled));
    assert_eq!(bench.endpoint.refuse(bench.now, dialog, StatusCode::BUSY_HERE, &Headers::default()), Err(CommandError::Gone));
    assert_eq!(bench.endpoint.dialogs(), 1);
}

#[test]
fn glare_is_491_or_500_whichever_way_it_comes() {
    // §14.2, RFC 3311 §5.2
    let offer = |method: &str, cseq: u32, tag: &str| {
        inside(method, cseq, &format!("g{method}{cseq}"), tag, &format!("{CONTACT}{OFFER}"), "v=1\r\n")
    };
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.endpoint.offer(bench.now, dialog, SDP.into()).unwrap();
    let ours = bench.one();
    for (cseq, method) in [(2, "INVITE"), (3, "UPDATE")] {
        bench.receive(&offer(method, cseq, &tag));
        assert_eq!(bench.one().status(), 491, "{method}");
    }
    assert!(bench.events().is_empty());
    bench.receive(&answer(&ours, "491 Request Pending", "p", ""));
    assert!(matches!(bench.dialog_event(), DialogEvent::OfferFailed { status: StatusCode::REQUEST_PENDING }));

    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    bench.receive(&offer("INVITE", 2, &tag));
    assert!(matches!(bench.dialog_event(), DialogEvent::Offered { .. }));
    let _ = bench.left();
    assert_eq!(bench.endpoint.offer(bench.now, dialog, SDP.into()), Err(CommandError::Pending));
    for (cseq, method) in [(3, "INVITE"), (4, "UPDATE")] {
        bench.receive(&offer(method, cseq, &tag));
        let refused = bench.one();
        assert_eq!(refused.status(), 500, "{method}");
        assert!(refused.get(Name::RetryAfter).parse::<u8>().unwrap() <= 10);
    }
    assert!(bench.events().is_empty());
}

#[test]
fn a_new_offer_is_as_good_as_the_ack_it_overtook() {
    // RFC 5407 §3.1.4
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&inside("INVITE", 2, "r", &tag, CONTACT, ""));
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::Dialog(_, DialogEvent::Acknowledged { .. }), Event::Dialog(_, DialogEvent::Offered { .. })]),
        "{events:?}"
    );
    bench.advance(Duration::from_millis(600));
    assert_eq!(bench.words(), ["100 INVITE"], "the first 2xx is no longer repeated");
    bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
    assert!(bench.events().is_empty());
}

#[test]
fn an_offer_of_ours_that_waits_for_its_answer_in_the_ack_refuses_others() {
    let mut bench = Bench::new();
    let dialog = bench.take(&invite_on("i1", 1, "", ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&inside("INVITE", 2, "r", &tag, &format!("{CONTACT}{OFFER}"), "v=1\r\n"));
    assert_eq!(bench.one().status(), 491);
    bench.receive(&inside("ACK", 1, "a", &tag, OFFER, "v=2\r\n"));
    assert!(matches!(bench.dialog_event(), DialogEvent::Acknowledged { body } if &body[..] == b"v=2\r\n"));
}

#[test]
fn a_bare_update_is_answered_at_any_step_and_changes_nothing() {
    // RFC 4028 §7.4, RFC 3311
    let update = |cseq: u32, tag: &str| inside("UPDATE", cseq, &format!("u{cseq}"), tag, CONTACT, "");
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, Bytes::new()).unwrap();
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&update(2, &tag));
    assert_eq!(bench.words(), ["200 UPDATE"]);
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    assert_eq!(bench.words(), ["200 INVITE"], "the INVITE was still ours to answer");
    bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
    bench.receive(&inside("INVITE", 3, "r", &tag, CONTACT, ""));
    let _ = (bench.left(), bench.events());
    bench.receive(&update(4, &tag));
    assert_eq!(bench.words(), ["200 UPDATE"]);
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    assert_eq!(bench.words(), ["200 INVITE"]);
}

#[test]
fn an_offer_in_an_early_dialog_is_put_off() {
    // RFC 3311 §5.2: the INVITE's own offer is not answered yet.
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, Bytes::new()).unwrap();
    let tag = bench.left()[1].response().to_tag().unwrap();
    bench.receive(&inside("UPDATE", 2, "u", &tag, &format!("{CONTACT}{OFFER}"), "v=1\r\n"));
    let refused = bench.one();
    assert_eq!(refused.status(), 500);
    assert!(!refused.get(Name::RetryAfter).is_empty());
    assert!(bench.events().is_empty());

    let mut bench = Bench::new();
    let _ = bench.place();
    let sent = bench.one();
    bench.receive(&answer(&sent, "180 Ringing", "p", CONTACT));
    let _ = bench.events();
    let update = from_callee(&sent, "UPDATE", 1, "p", &format!("{CONTACT}{OFFER}"), "v=1\r\n");
    bench.receive(&update);
    assert_eq!(bench.one().status(), 491);
}

#[test]
fn an_offer_in_an_early_dialog_that_is_answered_is_not_taken() {
    // RFC 3311 §5.2: nothing is pending then, so that it would be refused for ever if it were put off.
    let mut bench = Bench::new();
    let (_, tag, rseq) = ring_reliably(&mut bench);
    let update = |cseq: u32| inside("UPDATE", cseq, &format!("u{cseq}"), &tag, &format!("{CONTACT}{OFFER}"), "v=1\r\n");
    bench.receive(&update(2));
    assert_eq!(bench.one().status(), 500, "the answer may not have arrived");
    bench.receive(&inside("PRACK", 3, "k", &tag, &format!("RAck: {rseq} 1 INVITE\r\n"), ""));
    bench.left();
    bench.receive(&update(4));
    assert_eq!(bench.one().status(), 488);

    let mut bench = Bench::new();
    let _ = bench.place();
    let sent = bench.one();
    let reliable = format!("{CONTACT}Require: 100rel\r\nRSeq: 5\r\n");
    bench.receive(&answer_with(&sent, "183 Session Progress", "p", &reliable, "v=0\r\n"));
    let _ = (bench.events(), bench.left());
    bench.receive(&from_callee(&sent, "UPDATE", 1, "p", &format!("{CONTACT}{OFFER}"), "v=1\r\n"));
    assert_eq!(bench.one().status(), 488);
}

/// A request of the callee whose tag is `tag` within the dialog of our INVITE.
fn from_callee(invite: &Left, method: &str, cseq: u32, tag: &str, more: &str, body: &str) -> String {
    let ours = invite.request().from_tag().unwrap();
    let text = inside(method, cseq, &format!("{method}{cseq}{tag}"), &ours, more, body);
    text.replace("tag=p\r\n", &format!("tag={tag}\r\n")).replace("Call-ID: call", &format!("Call-ID: {}", invite.get(Name::CallId)))
}

// ---- reliable provisional responses

fn ring_reliably(bench: &mut Bench) -> (sip::DialogId, String, String) {
    let dialog = bench.take(&invite(1, SUPPORTED));
    bench.endpoint.progress(bench.now, dialog, StatusCode::SESSION_PROGRESS, SDP.into()).unwrap();
    let left = bench.left();
    let progress = &left[1];
    assert_eq!((progress.status(), progress.get(Name::Require)), (183, "100rel".to_owned()));
    (dialog, progress.response().to_tag().unwrap().to_string(), progress.get(Name::RSeq))
}

#[test]
fn an_answer_waits_for_the_prack_of_early_media() {
    // RFC 3262 §3
    let mut bench = Bench::new();
    let (dialog, tag, rseq) = ring_reliably(&mut bench);
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    assert!(bench.words().is_empty());
    bench.advance(Duration::from_millis(1600));
    assert_eq!(bench.words(), ["183 INVITE"; 2]);
    bench.receive(&inside("PRACK", 2, "k", &tag, &format!("RAck: {rseq} 2 INVITE\r\n"), ""));
    assert_eq!(bench.words(), ["481 PRACK"], "wrong CSeq");
    bench.receive(&inside("PRACK", 3, "k3", &tag, &format!("RAck: {rseq} 1 INVITE\r\n"), ""));
    assert_eq!(bench.words(), ["200 PRACK", "200 INVITE"]);
}

#[test]
fn hanging_up_while_the_answer_waits_refuses_the_call() {
    let mut bench = Bench::new();
    let (dialog, _, _) = ring_reliably(&mut bench);
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    assert_eq!(bench.endpoint.offer(bench.now, dialog, SDP.into()), Err(CommandError::Pending));
    bench.endpoint.bye(bench.now, dialog, None);
    assert_eq!(bench.words(), ["480 INVITE"]);
    assert_eq!(ended(&mut bench), Ender::Us);
    bench.assert_empty();
}

#[test]
fn a_prack_that_comes_after_the_answer_is_still_good() {
    // RFC 3262 §3: only SDP holds the 2xx back; PRACKs that are due are answered all the same.
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, "Require: 100rel\r\n"));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, Bytes::new()).unwrap();
    let left = bench.left();
    let (tag, rseq) = (left[1].response().to_tag().unwrap(), left[1].get(Name::RSeq));
    assert!(!rseq.is_empty());
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    assert_eq!(bench.words(), ["200 INVITE"]);
    bench.receive(&inside("PRACK", 2, "k", &tag, &format!("RAck: {rseq} 1 INVITE\r\n"), ""));
    assert_eq!(bench.words(), ["200 PRACK"]);
    bench.receive(&inside("PRACK", 3, "k3", &tag, &format!("RAck: {rseq} 1 INVITE\r\n"), ""));
    assert_eq!(bench.words(), ["481 PRACK"]);
}

#[test]
fn without_prack_the_call_is_refused() {
    let mut bench = Bench::new();
    let _ = ring_reliably(&mut bench);
    bench.advance(Duration::from_secs(33));
    assert_eq!(ended(&mut bench), Ender::NoPrack);
    assert!(bench.words().contains(&"504 INVITE".to_owned()));
    bench.assert_empty();
}

#[test]
fn a_late_offer_call_rings_without_reliability() {
    // RFC 3262 §5: the first reliable response would have to carry our offer.
    let mut bench = Bench::new();
    let dialog = bench.take(&invite_on("i1", 1, SUPPORTED, ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::SESSION_PROGRESS, SDP.into()).unwrap();
    let left = bench.left();
    assert_eq!((left[1].get(Name::RSeq), left[1].response().body.len()), (String::new(), 0));

    let mut bench = Bench::new();
    let dialog = bench.take(&invite_on("i1", 1, "Require: 100rel\r\n", ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, Bytes::new()).unwrap();
    assert_eq!(bench.words(), ["100 INVITE"]);
}

#[test]
fn reliable_provisional_responses_of_each_fork_get_their_prack_once() {
    let mut bench = Bench::new();
    let _ = bench.place();
    let sent = bench.one();
    let ring = |tag: &str, rseq: u32| answer(&sent, "180 Ringing", tag, &format!("{CONTACT}Require: 100rel\r\nRSeq: {rseq}\r\n"));
    for (tag, rseq, pracks) in [("p", 5, 1), ("p", 5, 0), ("p", 7, 0), ("p", 6, 1), ("q", 90, 1), ("p", 6, 0), ("q", 91, 1)] {
        bench.receive(&ring(tag, rseq));
        let left = bench.left();
        assert_eq!(left.len(), pracks, "{tag} {rseq}");
        for prack in left {
            assert!(prack.get(Name::RAck).starts_with(&format!("{rseq} ")));
            assert!(prack.get(Name::To).ends_with(tag));
        }
    }
}

// ---- the caller's side

#[test]
fn an_answer_in_a_reliable_provisional_response_is_the_answer() {
    // RFC 3261 §13.2.1, RFC 6337 §3.1: of each fork its own; without reliability the last word counts
    let reliable = "Require: 100rel\r\nRSeq: 5\r\n";
    let cases = [
        (reliable, "", "p", "v=p\r\n"),
        (reliable, "v=p\r\n", "p", "v=p\r\n"),
        (reliable, "v=2\r\n", "p", "v=p\r\n"),
        (reliable, "", "q", "v=q\r\n"),
        (reliable, "v=2\r\n", "r", "v=2\r\n"),
        (reliable, "", "r", ""),
        ("", "", "p", "v=p\r\n"),
        ("", "v=2\r\n", "p", "v=2\r\n"),
    ];
    for (more, last, tag, counts) in cases {
        let mut bench = Bench::new();
        let _dialog = bench.place();
        let sent = bench.one();
        for tag in ["p", "q"] {
            bench.receive(&answer_with(&sent, "183 Session Progress", tag, &format!("{CONTACT}{more}"), &format!("v={tag}\r\n")));
        }
        // a reliable one that is repeated, and a preview, change nothing
        bench.receive(&answer_with(&sent, "183 Session Progress", "p", &format!("{CONTACT}{more}"), "v=p\r\n"));
        bench.events();
        bench.receive(&answer_with(&sent, "200 OK", tag, CONTACT, last));
        match bench.dialog_event() {
            DialogEvent::Answered { body } => assert_eq!(body, counts, "{more} {last} {tag}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    // §9.1
    let mut bench = Bench::new();
    let dialog = bench.place();
    let sent = bench.one();
    bench.endpoint.cancel(bench.now, dialog, None);
    assert!(bench.words().is_empty());
    bench.receive(&answer(&sent, "100 Trying", "", ""));
    let cancel = bench.one();
    assert_eq!((cancel.request().method.clone(), cancel.get(Name::Via)), (Method::Cancel, sent.get(Name::Via)));
    bench.receive(&answer(&cancel, "200 OK", "p", ""));
    bench.receive(&answer(&sent, "487 Request Terminated", "p", ""));
    assert_eq!(bench.words(), ["ACK"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Failed { status: StatusCode::REQUEST_TERMINATED, .. }));
    bench.assert_empty();
}

#[test]
fn a_cancel_has_its_whole_time_even_if_the_peer_was_slow_to_ring() {
    let mut bench = Bench::new();
    let dialog = bench.place();
    let sent = bench.one();
    bench.endpoint.cancel(bench.now, dialog, None);
    bench.advance(Duration::from_secs(30));
    let _ = bench.left();
    bench.receive(&answer(&sent, "180 Ringing", "p", CONTACT));
    assert_eq!(bench.words(), ["CANCEL"]);
    bench.advance(Duration::from_secs(5));
    assert!(bench.events().is_empty());
    bench.advance(AFTERMATH);
    assert!(matches!(bench.dialog_event(), DialogEvent::Failed { status: StatusCode::REQUEST_TERMINATED, .. }));
    bench.assert_empty();
}

#[test]
fn an_answer_that_crosses_our_cancel_is_acknowledged_and_hung_up() {
    let mut bench = Bench::new();
    let dialog = bench.place();
    let sent = bench.one();
    bench.receive(&answer(&sent, "180 Ringing", "p", CONTACT));
    bench.endpoint.cancel(bench.now, dialog, None);
    let _ = (bench.left(), bench.events());
    bench.receive(&answer(&sent, "200 OK", "p", CONTACT));
    assert_eq!(bench.words(), ["ACK", "BYE"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Failed { status: StatusCode::REQUEST_TERMINATED, .. }));
    bench.assert_empty();
}

#[test]
fn every_other_fork_that_answers_is_acknowledged_and_hung_up() {
    // §13.2.2.4
    let mut bench = Bench::new();
    let (dialog, sent) = bench.placed();
    let other = answer(&sent, "200 OK", "q", "Contact: <sip:q@10.0.0.7>\r\n");
    bench.receive(&other);
    let left = bench.left();
    assert_eq!(left.iter().map(|l| what(&l.message)).collect::<Vec<_>>(), ["ACK", "BYE"]);
    assert!(left.iter().all(|l| l.get(Name::To).ends_with("tag=q") && l.request().uri.as_str() == "sip:q@10.0.0.7"));
    assert!(bench.events().is_empty());
    // And when the call we took is over already.
    bench.endpoint.bye(bench.now, dialog, None);
    let _ = (bench.left(), bench.events());
    assert_eq!(bench.endpoint.dialogs(), 0);
    bench.receive(&answer(&sent, "200 OK", "r", CONTACT));
    assert_eq!(bench.words(), ["ACK", "BYE"]);
    bench.assert_empty();
}

#[test]
fn each_fork_counts_its_own_requests() {
    let mut bench = Bench::new();
    let _ = bench.place();
    let sent = bench.one();
    for tag in ["p", "q"] {
        bench.receive(&answer(&sent, "180 Ringing", tag, CONTACT));
    }
    let _ = bench.events();
    bench.receive(&from_callee(&sent, "INFO", 100, "p", "", ""));
    bench.receive(&from_callee(&sent, "INFO", 5, "q", "", ""));
    assert_eq!(bench.events().len(), 2);
    bench.receive(&from_callee(&sent, "INFO", 5, "x", "", ""));
    assert_eq!(bench.words(), ["481 INFO"], "no such fork");
    bench.receive(&answer(&sent, "200 OK", "q", CONTACT));
    let _ = bench.events();
    bench.receive(&from_callee(&sent, "INFO", 6, "q", "", ""));
    assert_eq!(bench.events().len(), 1, "the count went on");
    bench.receive(&from_callee(&sent, "INFO", 4, "q", "", ""));
    assert_eq!(bench.words(), ["500 INFO"]);
}

#[test]
fn a_repeated_answer_gets_the_same_ack_again() {
    let mut bench = Bench::new();
    let dialog = bench.place();
    let sent = bench.one();
    let ok = answer(&sent, "200 OK", "p", CONTACT);
    bench.receive(&ok);
    bench.receive(&ok);
    assert!(bench.words().is_empty(), "the host has not given the ACK yet");
    bench.endpoint.acknowledge(bench.now, dialog, Bytes::new());
    let ack = bench.one().bytes;
    bench.receive(&ok);
    assert_eq!(bench.one().bytes, ack);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn an_answer_without_contact_or_with_a_strange_body_is_hung_up() {
    for more in ["", "Contact: *\r\n"] {
        let mut bench = Bench::new();
        let _ = bench.place();
        let sent = bench.one();
        bench.receive(&answer(&sent, "200 OK", "p", more));
        assert_eq!(bench.words(), ["ACK", "BYE"]);
        assert!(matches!(bench.dialog_event(), DialogEvent::Failed { status: StatusCode::BAD_GATEWAY, .. }));
        bench.assert_empty();
    }
}

#[test]
fn a_session_description_is_found_among_parts_and_without_one_we_offer() {
    // RFC 5621 §3, RFC 3261 §8.2.3
    let parts = "--b\r\nContent-Type: application/sdp\r\n\r\nv=7\r\n\r\n--b--\r\n";
    let mixed = "Content-Type: multipart/mixed;boundary=b\r\n";
    let strange = "Content-Type: text/plain\r\nContent-Disposition: render;handling=optional\r\n";
    for (kind, body, offer) in [(mixed, parts, "v=7\r\n"), (strange, "x", "")] {
        let mut bench = Bench::new();
        bench.receive(&outside("INVITE", 1, "i1", &format!("{CONTACT}{kind}"), body));
        let Some(Event::Request(incoming)) = bench.events().pop() else { panic!("no request") };
        assert_eq!(incoming.session(), offer);
        let dialog = bench.endpoint.take(bench.now, *incoming).unwrap();
        bench.endpoint.accept(bench.now, dialog, SDP.into());
        let tag = bench.left()[1].response().to_tag().unwrap();
        bench.receive(&inside("ACK", 1, "a", &tag, mixed, parts));
        assert!(matches!(bench.dialog_event(), DialogEvent::Acknowledged { body } if body == "v=7\r\n"));
        bench.receive(&inside("INVITE", 2, "i2", &tag, &format!("{CONTACT}{kind}"), body));
        assert!(matches!(bench.dialog_event(), DialogEvent::Offered { body } if body == offer));
        bench.endpoint.accept(bench.now, dialog, SDP.into());
        bench.left();
        bench.receive(&inside("ACK", 2, "a2", &tag, "", ""));
        bench.events();
        let packed = format!("{CONTACT}{OFFER}Content-Encoding: gzip\r\n");
        for method in ["INVITE", "UPDATE"] {
            bench.receive(&inside(method, 3 + u32::from(method == "UPDATE"), method, &tag, &packed, "x"));
            let refused = bench.one();
            assert_eq!((refused.status(), refused.get(Name::AcceptEncoding)), (415, "identity".to_owned()));
            assert!(refused.get(Name::Accept).contains("application/sdp"));
        }
        bench.endpoint.offer(bench.now, dialog, SDP.into()).unwrap();
        let ours = bench.left().pop().unwrap();
        bench.receive(
            &answer_with(&ours, "200 OK", "p", &format!("{CONTACT}{mixed}"), parts)
                .replace("Content-Type: application/sdp\r\nContent-L", "Content-L"),
        );
        assert!(matches!(bench.dialog_event(), DialogEvent::OfferAnswered { body } if body == "v=7\r\n"));
    }
    let mut bench = Bench::new();
    let _dialog = bench.place();
    let sent = bench.one();
    let taken = answer_with(&sent, "200 OK", "p", &format!("{CONTACT}{mixed}"), parts);
    bench.receive(&taken.replace("Content-Type: application/sdp\r\nContent-L", "Content-L"));
    assert!(matches!(bench.dialog_event(), DialogEvent::Answered { body } if body == "v=7\r\n"));
}

#[test]
fn a_session_interval_too_small_is_tried_once_more() {
    // RFC 4028 §7.3
    let mut bench = Bench::new();
    let _ = bench.place();
    let first = bench.one();
    bench.receive(&answer(&first, "422 Session Interval Too Small", "p", "Min-SE: 3600\r\n"));
    let left = bench.left();
    assert_eq!(left.iter().map(|l| what(&l.message)).collect::<Vec<_>>(), ["ACK", "INVITE"]);
    let again = &left[1];
    assert_eq!((again.get(Name::SessionExpires), again.get(Name::MinSe)), ("3600".to_owned(), "3600".to_owned()));
    assert_eq!(again.get(Name::CallId), first.get(Name::CallId));
    assert_ne!(again.get(Name::CSeq), first.get(Name::CSeq));
    assert_eq!(again.message.headers().all(Name::Via).count(), 1);
    bench.receive(&answer(again, "422 Session Interval Too Small", "p", "Min-SE: 3600\r\n"));
    assert!(matches!(bench.dialog_event(), DialogEvent::Failed { .. }));
    bench.assert_empty();
}

#[test]
fn a_header_of_the_host_replaces_max_forwards() {
    let mut bench = Bench::new();
    let mut headers = Headers::default();
    headers.push(Name::MaxForwards, "9");
    let call = sip::OutgoingInvite {
        uri: uri("sip:bob@10.0.0.2"),
        routes: vec![name_addr("<sip:r1@h;lr>"), name_addr("<sip:r2@h;lr>")],
        hop: Hop::Flow(bench.flow),
        from: name_addr("<sip:ann@h>"),
        to: name_addr("<sip:bob@h>"),
        headers,
        body: SDP.into(),
    };
    bench.endpoint.place(bench.now, call);
    let sent = bench.one();
    assert_eq!(sent.message.headers().all(Name::MaxForwards).collect::<Vec<_>>(), [b"9"]);
    assert_eq!(sent.message.headers().all(Name::Route).collect::<Vec<_>>(), [&b"<sip:r1@h;lr>"[..], b"<sip:r2@h;lr>"]);
}

// ---- requests of ours within a session

#[test]
fn bye_while_our_reinvite_rings_leaves_nothing() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.answered();
    bench.endpoint.offer(bench.now, dialog, SDP.into()).unwrap();
    let reinvite = bench.one();
    assert!(!reinvite.get(Name::Supported).contains("100rel"), "nobody here would send the PRACK");
    bench.receive(&answer(&reinvite, "100 Trying", "p", ""));
    bench.endpoint.bye(bench.now, dialog, None);
    assert_eq!(ended(&mut bench), Ender::Us);
    let _ = bench.left();
    bench.assert_empty();
}

#[test]
fn a_late_answer_to_our_reinvite_is_acknowledged_after_the_end() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.answered();
    bench.endpoint.offer(bench.now, dialog, SDP.into()).unwrap();
    let reinvite = bench.one();
    bench.endpoint.bye(bench.now, dialog, None);
    let _ = (bench.left(), bench.events());
    bench.receive(&answer(&reinvite, "200 OK", "p", CONTACT));
    assert_eq!(bench.words(), ["ACK"]);
    bench.assert_empty();
}

#[test]
fn a_reinvite_that_is_never_answered_ends_the_session() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.placed();
    bench.endpoint.offer(bench.now, dialog, SDP.into()).unwrap();
    let reinvite = bench.one();
    bench.receive(&answer(&reinvite, "180 Ringing", "p", CONTACT));
    bench.advance(Duration::from_secs(200));
    assert_eq!(ended(&mut bench), Ender::Lost);
    bench.assert_empty();
}

#[test]
fn a_peer_that_lost_the_dialog_or_is_silent_ends_it() {
    // §12.2.1.2
    for status in [Some("481 Call/Transaction Does Not Exist"), Some("408 Request Timeout"), None] {
        let mut bench = Bench::new();
        let (dialog, _) = bench.answered();
        bench.endpoint.request_within(bench.now, dialog, Method::Info, &Headers::default(), Bytes::new()).unwrap();
        let info = bench.one();
        match status {
            Some(status) => bench.receive(&answer(&info, status, "p", "")),
            None => bench.advance(AFTERMATH),
        }
        let events = bench.events();
        assert!(
            matches!(
                &events[..],
                [Event::Dialog(_, DialogEvent::Response { .. }), Event::Dialog(_, DialogEvent::Ended { by: Ender::Lost, .. })]
            ),
            "{status:?} {events:?}"
        );
        bench.assert_empty();
    }
}

#[test]
fn methods_with_machinery_of_their_own_are_not_sent_as_plain_requests() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.answered();
    for method in [Method::Invite, Method::Ack, Method::Bye, Method::Cancel, Method::Prack, Method::Update] {
        assert_eq!(bench.endpoint.request_within(bench.now, dialog, method, &Headers::default(), Bytes::new()), None);
    }
    assert!(bench.words().is_empty());
}

#[test]
fn requests_follow_a_device_to_its_new_flow() {
    // RFC 5626 §5.3: a device that moved sends a re-INVITE, or registers again and the host knows.
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    let old = bench.flow;
    bench.flow.remote = address("10.9.9.9:1234");
    bench.receive_moved(&inside("INFO", 2, "n", &tag, "", ""));
    let _ = bench.events();
    bench.endpoint.request_within(bench.now, dialog, Method::Info, &Headers::default(), Bytes::new());
    assert_eq!(bench.one().hop, Hop::Flow(old), "only a target refresh moves it");
    bench.receive_moved(&inside("INVITE", 3, "r", &tag, CONTACT, ""));
    let _ = (bench.left(), bench.events());
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    bench.receive(&inside("ACK", 3, "a3", &tag, "", ""));
    let _ = bench.left();
    bench.endpoint.request_within(bench.now, dialog, Method::Info, &Headers::default(), Bytes::new());
    assert_eq!(bench.one().hop, Hop::Flow(bench.flow));
    bench.endpoint.reroute(dialog, Hop::Flow(old));
    bench.endpoint.bye(bench.now, dialog, None);
    assert_eq!(bench.one().hop, Hop::Flow(old));
}

#[test]
fn a_call_that_rings_long_says_so_each_minute() {
    // §13.3.1.1
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, Bytes::new()).unwrap();
    let _ = bench.left();
    bench.advance(Duration::from_secs(181));
    assert_eq!(bench.words(), ["180 INVITE"; 3]);
}

// ---- the session timer

fn expires(bench: &mut Bench, refresher: &str, allow: &str) -> (sip::DialogId, Left) {
    let dialog = bench.place();
    let sent = bench.one();
    let more = format!("{CONTACT}{allow}Require: timer\r\nSession-Expires: 90;refresher={refresher}\r\n");
    bench.receive(&answer(&sent, "200 OK", "p", &more));
    bench.endpoint.acknowledge(bench.now, dialog, Bytes::new());
    let _ = (bench.left(), bench.events());
    (dialog, sent)
}

#[test]
fn a_peer_without_update_gets_the_refresh_as_reinvite() {
    let mut bench = Bench::new();
    let (_, _) = expires(&mut bench, "uac", "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n");
    bench.advance(Duration::from_secs(45));
    let update = bench.one();
    assert_eq!(update.request().method, Method::Update);
    assert_eq!(update.get(Name::SessionExpires), "90;refresher=uac");
    bench.receive(&answer(&update, "501 Not Implemented", "p", ""));
    bench.advance(Duration::from_millis(1));
    let reinvite = bench.one();
    assert_eq!(reinvite.request().method, Method::Invite);
    assert_eq!(&reinvite.request().body[..], SDP);
    bench.receive(&answer(&reinvite, "200 OK", "p", &format!("{CONTACT}Session-Expires: 90;refresher=uac\r\n")));
    assert_eq!(bench.words(), ["ACK"]);
    assert!(bench.events().is_empty());
    assert_eq!(bench.endpoint.dialogs(), 1);
}

#[test]
fn a_refresh_that_keeps_failing_is_not_a_flood() {
    let mut bench = Bench::new();
    let dialog = bench.place();
    let sent = bench.one();
    let more = format!("{CONTACT}Allow: UPDATE\r\nSession-Expires: 1800;refresher=uac\r\n");
    bench.receive(&answer(&sent, "200 OK", "p", &more));
    bench.endpoint.acknowledge(bench.now, dialog, Bytes::new());
    let _ = (bench.left(), bench.events());
    let mut refreshes = 0;
    for _ in 0..1800 {
        bench.advance(Duration::from_secs(1));
        for left in bench.left().into_iter().filter(|left| what(&left.message) == "UPDATE") {
            refreshes += 1;
            bench.receive(&answer(&left, "500 Server Internal Error", "p", ""));
        }
    }
    assert!((3..20).contains(&refreshes), "{refreshes}");
    assert_eq!(ended(&mut bench), Ender::SessionTimer);
}

#[test]
fn a_refresh_that_meets_glare_is_tried_again_soon() {
    let mut bench = Bench::new();
    let _ = expires(&mut bench, "uac", "Allow: UPDATE\r\n");
    bench.advance(Duration::from_secs(45));
    let update = bench.one();
    bench.receive(&answer(&update, "491 Request Pending", "p", ""));
    bench.advance(Duration::from_millis(2000));
    assert!(bench.words().is_empty(), "the owner of the Call-ID waits 2.1 s at least");
    bench.advance(Duration::from_millis(2000));
    assert!(bench.words().iter().all(|word| word == "UPDATE"));
    assert!(bench.endpoint.transactions() > 0);
}

#[test]
fn a_peer_that_stops_refreshing_is_hung_up() {
    let mut bench = Bench::new();
    let _ = expires(&mut bench, "uas", "");
    bench.advance(Duration::from_secs(60));
    assert_eq!(bench.words(), ["BYE"]);
    assert_eq!(ended(&mut bench), Ender::SessionTimer);
    bench.assert_empty();
}

#[test]
fn a_refresh_of_the_peer_without_timer_support_ends_its_duty_not_the_call() {
    let mut bench = Bench::new();
    let (dialog, sent) = expires(&mut bench, "uas", "");
    bench.receive(&from_callee(&sent, "INVITE", 1, "p", CONTACT, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let left = bench.left();
    assert!(left.iter().all(|l| l.get(Name::SessionExpires).is_empty()));
    bench.receive(&from_callee(&sent, "ACK", 1, "p", "", ""));
    let _ = bench.events();
    bench.advance(Duration::from_secs(600));
    assert!(bench.words().is_empty());
    assert_eq!(bench.endpoint.dialogs(), 1);
}

// ---- where requests go

#[test]
fn the_route_set_is_turned_around_for_the_caller_and_a_strict_router_gets_its_own_uri() {
    // §12.1.2, §12.2.1.1
    for (record_route, target, routes) in [
        ("<sip:10.1.0.2;lr>, <sip:10.1.0.1;lr>", "sip:bob@10.0.0.2", vec!["<sip:10.1.0.1;lr>", "<sip:10.1.0.2;lr>"]),
        ("<sip:10.1.0.2;lr>, <sip:10.1.0.1>", "sip:10.1.0.1", vec!["<sip:10.1.0.2;lr>", "<sip:bob@10.0.0.2>"]),
    ] {
        let mut bench = Bench::new();
        let dialog = bench.place();
        let sent = bench.one();
        bench.receive(&answer(&sent, "200 OK", "p", &format!("{CONTACT}Record-Route: {record_route}\r\n")));
        bench.endpoint.acknowledge(bench.now, dialog, Bytes::new());
        let ack = bench.one();
        assert_eq!(ack.request().uri.as_str(), target);
        let sent: Vec<_> = ack.message.headers().all(Name::Route).map(|route| String::from_utf8_lossy(route).into_owned()).collect();
        assert_eq!(sent, routes);
    }
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, "Record-Route: <sip:10.1.0.1;lr>, <sip:10.1.0.2;lr>\r\n"));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let left = bench.left();
    assert_eq!(left[1].get(Name::RecordRoute), "<sip:10.1.0.1;lr>, <sip:10.1.0.2;lr>");
    let tag = left[1].response().to_tag().unwrap();
    bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
    bench.endpoint.bye(bench.now, dialog, None);
    assert_eq!(bench.one().get(Name::Route), "<sip:10.1.0.1;lr>");
}

#[test]
fn a_peer_that_closed_its_connection_is_called_at_its_contact_if_that_is_the_same_host() {
    for (contact, again) in [("10.0.0.2:5070;transport=tcp", true), ("10.0.0.2:5070", true), ("192.168.1.9:5060", false)] {
        let mut bench = Bench::over_tcp();
        let dialog = bench.take(&invite(1, "").replace("Contact: <sip:bob@10.0.0.2>", &format!("Contact: <sip:bob@{contact}>")));
        bench.endpoint.accept(bench.now, dialog, SDP.into());
        let tag = bench.left()[1].response().to_tag().unwrap();
        bench.receive(&inside("ACK", 1, "a", &tag, "", ""));
        let _ = bench.events();
        bench.endpoint.bye(bench.now, dialog, None);
        let bye = bench.one();
        assert_eq!(bye.hop, Hop::Flow(bench.flow));
        bench.endpoint.send_failed(bench.now, bye.client.unwrap());
        let left = bench.left();
        assert_eq!(!left.is_empty(), again, "{contact}");
        for left in left {
            let remote = address("10.0.0.2:5070");
            assert_eq!(left.hop, Hop::Address { transport: sip::Transport::Tcp, remote, name: None });
            assert_eq!(left.request().method, Method::Bye);
        }
        let _ = bench.events();
        bench.assert_empty();
    }
}

#[test]
fn a_flood_of_forks_is_not_hung_up_without_end() {
    // S11
    let mut bench = Bench::new();
    let (_, sent) = bench.placed();
    for fork in 0..100 {
        bench.receive(&answer(&sent, "200 OK", &format!("q{fork}"), CONTACT));
    }
    let words = bench.words();
    assert_eq!((words.iter().filter(|w| *w == "ACK").count(), words.iter().filter(|w| *w == "BYE").count()), (100, 16));
}

// ---- the connections that dialogs use

#[test]
fn a_peer_is_used_while_a_dialog_sends_to_it() {
    let mut bench = Bench::over_tcp();
    let peer = (bench.flow.transport, bench.flow.remote);
    let uses = |bench: &Bench| bench.endpoint.uses(peer.0, peer.1);
    assert!(!uses(&bench));
    let refused = bench.take(&invite(1, ""));
    assert!(uses(&bench), "an early dialog counts");
    bench.endpoint.refuse(bench.now, refused, StatusCode::BUSY_HERE, &Headers::default()).unwrap();
    assert!(!uses(&bench));
    bench.advance(AFTERMATH);
    bench.left();
    let (dialog, _) = bench.placed();
    assert!(uses(&bench));
    let moved = sip::Flow { remote: address("10.0.0.2:40001"), ..bench.flow };
    bench.endpoint.reroute(dialog, Hop::Flow(moved));
    assert!(!uses(&bench) && bench.endpoint.uses(moved.transport, moved.remote));
    bench.endpoint.bye(bench.now, dialog, None);
    bench.advance(AFTERMATH);
    assert!(!uses(&bench) && !bench.endpoint.uses(moved.transport, moved.remote));
    bench.assert_empty();
}

#[test]
fn datagrams_have_no_connection_to_use() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.placed();
    assert!(!bench.endpoint.uses(bench.flow.transport, bench.flow.remote));
    bench.endpoint.bye(bench.now, dialog, None);
    bench.assert_empty();
}

// ---- sessions without a session timer

/// Half of the session interval that `setup` proposes.
const PROBE: Duration = Duration::from_secs(900);

/// A call from a peer that knows no session timer.
fn answered_without_timer(bench: &mut Bench) -> String {
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let tag = bench.left().last().unwrap().response().to_tag().unwrap().to_string();
    bench.receive(&inside("ACK", 1, "a1", &tag, "", ""));
    bench.events();
    tag
}

#[test]
fn a_peer_without_session_timer_is_asked_whether_it_is_there() {
    let mut bench = Bench::new();
    let tag = answered_without_timer(&mut bench);
    bench.advance(PROBE / 2);
    bench.receive(&inside("OPTIONS", 2, "o2", &tag, "", ""));
    bench.events();
    bench.left();
    bench.advance(PROBE - Duration::from_secs(1));
    assert!(bench.words().is_empty(), "it was heard meanwhile");
    // a peer that knows nothing of OPTIONS is there all the same
    for status in ["200 OK", "405 Method Not Allowed", "501 Not Implemented"] {
        bench.advance(Duration::from_secs(1));
        let probe = bench.one();
        assert_eq!(what(&probe.message), "OPTIONS");
        bench.receive(&answer(&probe, status, "", ""));
        assert!(bench.events().is_empty());
        bench.advance(PROBE - Duration::from_secs(1));
    }
    assert_eq!(bench.endpoint.dialogs(), 1);
}

#[test]
fn a_peer_that_is_gone_without_session_timer_ends_the_session() {
    let mut bench = Bench::new();
    answered_without_timer(&mut bench);
    bench.advance(PROBE + Duration::from_secs(33));
    assert_eq!(ended(&mut bench), Ender::Lost, "it is silent");
    assert_eq!(bench.words().last().map(String::as_str), Some("BYE"));
    bench.assert_empty();

    let (_, invite) = bench.placed();
    assert_eq!(what(&invite.message), "INVITE");
    bench.advance(PROBE);
    let probe = bench.one();
    bench.receive(&answer(&probe, "481 Call/Transaction Does Not Exist", "", ""));
    assert_eq!(ended(&mut bench), Ender::Lost, "it says so");
    bench.assert_empty();
}

#[test]
fn a_peer_that_cannot_be_reached_twice_is_gone() {
    let mut bench = Bench::over_tcp();
    answered_without_timer(&mut bench);
    for _ in 0..2 {
        assert!(bench.events().is_empty());
        bench.advance(PROBE);
        // by its connection, and by what Contact says
        for _ in 0..2 {
            let probe = bench.one();
            assert_eq!(what(&probe.message), "OPTIONS");
            bench.endpoint.send_failed(bench.now, probe.client.unwrap());
        }
        bench.advance(Duration::from_secs(0));
    }
    assert_eq!(bench.words(), ["BYE"]);
    assert_eq!(ended(&mut bench), Ender::Lost);
    bench.assert_empty();
}

#[test]
fn with_a_session_timer_nobody_is_asked_besides() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    bench.advance(PROBE);
    let refresh = bench.one();
    assert_eq!(what(&refresh.message), "INVITE");
    bench.receive(&answer(&refresh, "200 OK", "", "Contact: <sip:bob@10.0.0.2>\r\nSession-Expires: 1800;refresher=uac\r\n"));
    assert_eq!(bench.words(), ["ACK"]);
    bench.advance(PROBE - Duration::from_secs(1));
    assert!(bench.words().is_empty() && !tag.is_empty());
}
