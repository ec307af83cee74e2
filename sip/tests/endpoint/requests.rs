//! Requests outside a dialog: matched, merged, refused, cancelled; and what strangers cost.

use std::time::Duration;

use sip::message::{Name, Response};
use sip::{DialogEvent, Event, Hop, StatusCode};

use super::bench::*;

fn incoming(bench: &mut Bench) -> sip::Incoming {
    let mut events = bench.events();
    assert_eq!(events.len(), 1, "{events:?}");
    match events.remove(0) {
        Event::Request(incoming) | Event::Forward(incoming) => *incoming,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stateless_answer_costs_no_memory() {
    // S11
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.receive(&outside("REGISTER", n, &format!("r{n}"), "", ""));
        let request = incoming(&mut bench);
        let response = bench.endpoint.reply(&request.request, StatusCode::UNAUTHORIZED);
        bench.endpoint.respond_statelessly(&request, &response);
        assert_eq!(bench.one().status(), 401);
    }
    assert_eq!((bench.endpoint.transactions(), bench.endpoint.poll_timeout()), (0, None));
}

#[test]
fn a_repeated_request_gets_the_same_answer_and_no_second_event() {
    let mut bench = Bench::new();
    let register = outside("REGISTER", 1, "r", "", "");
    bench.receive(&register);
    let request = incoming(&mut bench);
    let server = bench.endpoint.admit(bench.now, &request);
    bench.receive(&register);
    assert!(bench.words().is_empty());
    let response = bench.endpoint.reply(&request.request, StatusCode::OK);
    bench.endpoint.respond(bench.now, server, &response);
    let first = bench.one().bytes;
    bench.receive(&register);
    assert_eq!(bench.one().bytes, first);
    assert!(bench.events().is_empty());
    bench.assert_empty();
}

#[test]
fn a_request_that_comes_again_before_the_host_admits_it_is_one_request() {
    let mut bench = Bench::new();
    bench.receive(&outside("REGISTER", 1, "r", "", ""));
    bench.receive(&outside("REGISTER", 1, "r", "", ""));
    let requests: Vec<_> = bench.events();
    let [Event::Request(one), Event::Request(other)] = &requests[..] else { panic!("{requests:?}") };
    let first = bench.endpoint.admit(bench.now, one);
    assert_eq!(bench.endpoint.admit(bench.now, other), first);
    assert_eq!(bench.endpoint.transactions(), 1);

    bench.receive(&invite(1, ""));
    bench.receive(&invite(1, ""));
    let mut invites = bench.events().into_iter().map(|event| match event {
        Event::Request(incoming) => *incoming,
        other => panic!("{other:?}"),
    });
    let (one, other) = (invites.next().unwrap(), invites.next().unwrap());
    assert!(bench.endpoint.take(bench.now, one).is_some());
    assert!(bench.endpoint.take(bench.now, other).is_none());
    assert_eq!(bench.words(), ["100 INVITE"]);
    assert_eq!(bench.endpoint.dialogs(), 1);
}

#[test]
fn a_merged_invite_is_482_even_when_both_wait_for_the_host() {
    // §8.2.2.2
    let mut bench = Bench::new();
    bench.receive(&invite_on("path1", 1, "", ""));
    bench.receive(&invite_on("path2", 1, "", ""));
    for (word, event) in ["100 INVITE", "482 INVITE"].into_iter().zip(bench.events()) {
        let Event::Request(incoming) = event else { panic!("{event:?}") };
        assert_eq!(bench.endpoint.take(bench.now, *incoming).is_some(), word == "100 INVITE");
        assert_eq!(bench.words(), [word]);
    }
    bench.receive(&invite_on("path3", 1, "", ""));
    assert_eq!(bench.one().status(), 482);
    assert_eq!((bench.endpoint.dialogs(), bench.endpoint.transactions()), (1, 1));
}

#[test]
fn a_request_nobody_answers_is_forgotten_after_timer_f_of_the_peer() {
    let mut bench = Bench::new();
    bench.receive(&outside("OPTIONS", 1, "o", "", ""));
    let request = incoming(&mut bench);
    bench.endpoint.admit(bench.now, &request);
    bench.assert_empty();
}

#[test]
fn requests_that_only_live_in_dialogs_are_481_without_a_tag() {
    for method in ["BYE", "PRACK", "UPDATE"] {
        let mut bench = Bench::new();
        bench.receive(&outside(method, 1, "b", "", ""));
        assert_eq!(bench.one().status(), 481, "{method}");
        assert!(bench.events().is_empty());
        assert_eq!(bench.endpoint.transactions(), 0);
    }
}

#[test]
fn a_tag_that_looks_like_ours_opens_nothing() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    let number = &tag[..16];
    for forged in [
        number,
        &format!("{number}0000000000000000"),
        &format!("+{}", &tag[1..]),
        "zzz",
        "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
    ] {
        bench.receive(&inside("BYE", 2, &format!("b{}", forged.len()), forged, "", ""));
        let words = bench.words();
        assert!(words == ["481 BYE"] || words == ["400 BYE"], "{forged} {words:?}");
        bench.receive(&inside("ACK", 2, "a9", forged, "", ""));
        assert!(bench.words().is_empty());
    }
    let other_call = inside("BYE", 2, "b8", &tag, "", "").replace("Call-ID: call", "Call-ID: other");
    bench.receive(&other_call);
    assert_eq!(bench.words(), ["481 BYE"]);
    let other_peer = inside("BYE", 2, "b9", &tag, "", "").replace("tag=p", "tag=q");
    bench.receive(&other_peer);
    assert_eq!(bench.words(), ["481 BYE"]);
    assert!(bench.events().is_empty());
    assert_eq!(bench.endpoint.dialogs(), 1);
}

#[test]
fn a_client_without_the_branch_cookie_is_matched_by_the_older_rule() {
    // §17.2.3, RFC 2543
    let old = |method: &str, tag: &str| {
        inside(method, 1, "x", "TAG", "Contact: <sip:bob@10.0.0.2>\r\n", "").replace(";tag=TAG", tag).replace(";rport;branch=z9hG4bKx", "")
    };
    let mut bench = Bench::new();
    let dialog = bench.take(&old("INVITE", ""));
    bench.receive(&old("INVITE", ""));
    assert_eq!(bench.words(), ["100 INVITE", "100 INVITE"]);
    bench.endpoint.refuse(bench.now, dialog, StatusCode::BUSY_HERE, &sip::message::Headers::default()).unwrap();
    let refused = bench.one();
    assert_eq!(refused.status(), 486);
    let tag = refused.response().to_tag().unwrap();
    bench.receive(&old("ACK", &format!(";tag={tag}")));
    bench.advance(Duration::from_secs(6));
    assert!(bench.words().is_empty());
    bench.assert_empty();

    let mut bench = Bench::new();
    let _ = bench.take(&old("INVITE", ""));
    let _ = bench.left();
    bench.receive(&old("CANCEL", ""));
    assert_eq!(bench.words(), ["200 CANCEL", "487 INVITE"]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Cancelled { .. }));
}

#[test]
fn an_unknown_cancel_is_481_and_costs_nothing() {
    let mut bench = Bench::new();
    bench.receive(&outside("CANCEL", 1, "nothing", "", ""));
    assert_eq!(bench.one().status(), 481);
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn responses_go_to_the_source_and_not_where_a_via_says() {
    // §18.2.2, RFC 3581; S11: no reflector
    let mut bench = Bench::new();
    for (via, to) in [
        ("10.0.0.2:5060;rport", "10.0.0.2:5060"),
        ("10.0.0.2:5090", "10.0.0.2:5090"),
        ("10.0.0.2", "10.0.0.2:5060"),
        ("192.0.2.9:5070", "10.0.0.2:5070"),
        ("10.0.0.2:5060;received=192.0.2.66", "10.0.0.2:5060"),
        ("10.0.0.2:5060;maddr=192.0.2.66", "10.0.0.2:5060"),
        ("phone.invalid:5060;rport=99;received=192.0.2.66", "10.0.0.2:5060"),
    ] {
        bench.receive(&outside("BYE", 1, "b", "", "").replace("10.0.0.2:5060;rport", via));
        assert_eq!(bench.one().hop.remote(), address(to), "{via}");
    }
}

#[test]
fn a_broken_request_is_refused_with_its_source_in_via() {
    // RFC 3581 §4
    let mut bench = Bench::new();
    bench.receive(&outside("OPTIONS", 1, "b", "Max-Forwards: x\r\n", ""));
    let refused = bench.one();
    assert_eq!(refused.status(), 400);
    assert!(refused.get(Name::Via).contains("received=10.0.0.2"), "{}", refused.get(Name::Via));
    bench.receive(&outside("ACK", 1, "b", "Max-Forwards: x\r\n", ""));
    assert!(bench.words().is_empty());
}

#[test]
fn a_proxied_invite_is_cancelled_refused_and_acknowledged_by_its_transaction() {
    let mut bench = Bench::new();
    bench.receive(&invite(1, ""));
    let request = incoming(&mut bench);
    let server = bench.endpoint.admit(bench.now, &request);
    assert_eq!(bench.words(), ["100 INVITE"]);
    bench.receive(&outside("CANCEL", 1, "i1", "", ""));
    assert_eq!(bench.words(), ["200 CANCEL"]);
    assert!(matches!(bench.events()[..], [Event::Cancel(id)] if id == server));
    let response = bench.endpoint.reply(&request.request, StatusCode::REQUEST_TERMINATED);
    bench.endpoint.respond(bench.now, server, &response);
    assert_eq!(bench.words(), ["487 INVITE"]);
    bench.advance(Duration::from_millis(600));
    assert_eq!(bench.words(), ["487 INVITE"]); // timer G
    let tag = response.to_tag().unwrap();
    bench.receive(&inside("ACK", 1, "i1", &tag, "", ""));
    bench.advance(Duration::from_secs(3));
    assert!(bench.words().is_empty());
    assert!(bench.events().is_empty());
    bench.assert_empty();
}

#[test]
fn the_ack_of_a_proxied_2xx_is_forwarded_even_with_the_branch_of_the_invite() {
    let mut bench = Bench::new();
    bench.receive(&invite(1, ""));
    let request = incoming(&mut bench);
    let server = bench.endpoint.admit(bench.now, &request);
    let mut ok = Response::to(&request.request, StatusCode::OK);
    ok.set_to_tag("far");
    bench.endpoint.respond(bench.now, server, &ok);
    assert_eq!(bench.words(), ["100 INVITE", "200 INVITE"]);
    for branch in ["i1", "new"] {
        bench.receive(&inside("ACK", 1, branch, "far", "Route: <sip:10.0.0.1;lr>\r\n", ""));
        let events = bench.events();
        assert!(matches!(&events[..], [Event::Forward(_)]), "{branch} {events:?}");
    }
    bench.assert_empty();
}

#[test]
fn a_response_to_a_request_of_the_host_keeps_the_vias_of_others() {
    let mut bench = Bench::new();
    bench.receive(&invite(1, ""));
    let request = incoming(&mut bench).request;
    let client = bench.endpoint.request(bench.now, request, Hop::Flow(bench.flow));
    let left = bench.one();
    let theirs = left.message.headers().all(Name::Via).nth(1).unwrap().to_vec();
    let more = format!("Via: {}\r\n", String::from_utf8(theirs).unwrap());
    bench.receive(&answer(&left, "180 Ringing", "x", &more));
    let events = bench.events();
    assert!(matches!(&events[..], [Event::Response(id, _)] if *id == client), "{events:?}");
}

#[test]
fn a_cancelled_request_of_the_host_ends_even_if_nobody_answers_the_cancel() {
    // §9.1: 64 * T1 after the CANCEL
    let mut bench = Bench::new();
    bench.receive(&invite(1, ""));
    let request = incoming(&mut bench).request;
    let client = bench.endpoint.request(bench.now, request, Hop::Flow(bench.flow));
    let left = bench.one();
    assert!(!bench.endpoint.cancel_request(bench.now, client, None));
    bench.receive(&answer(&left, "180 Ringing", "x", ""));
    let _ = bench.events();
    bench.advance(Duration::from_secs(100));
    assert!(bench.words().is_empty());
    assert!(bench.endpoint.cancel_request(bench.now, client, None));
    assert_eq!(bench.words(), ["CANCEL"]);
    assert!(bench.endpoint.cancel_request(bench.now, client, None));
    assert!(bench.words().is_empty(), "a second CANCEL is the first");
    bench.advance(AFTERMATH);
    let events = bench.events();
    assert!(matches!(&events[..], [Event::Response(id, r)] if *id == client && r.status == StatusCode::REQUEST_TIMEOUT), "{events:?}");
    bench.assert_empty();
}

#[test]
fn a_request_without_a_readable_via_is_refused_to_its_source() {
    let mut bench = Bench::new();
    for (broken, status) in [
        (
            "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;;\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
            "400",
        ),
        (
            "OPTIONS sip:h SIP/7.0\r\nVia: SIP/7.0/UDP 192.0.2.1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
            "505",
        ),
    ] {
        bench.receive(broken);
        let sent = bench.endpoint.next_send().expect("an answer");
        assert!(sent.bytes.starts_with(format!("SIP/2.0 {status} ").as_bytes()), "{:?}", sent.bytes);
        assert_eq!(sent.hop, Hop::Flow(bench.flow));
    }
    assert!(bench.endpoint.next_event().is_none());
}

#[test]
fn a_request_is_merged_only_while_the_first_is_under_way() {
    let mut bench = Bench::new();
    bench.receive(&outside("OPTIONS", 1, "m1", "", ""));
    let request = incoming(&mut bench);
    let server = bench.endpoint.admit(bench.now, &request);
    bench.receive(&outside("OPTIONS", 1, "m2", "", ""));
    assert_eq!(bench.one().status(), 482);
    let response = bench.endpoint.reply(&request.request, StatusCode::OK);
    bench.endpoint.respond(bench.now, server, &response);
    bench.advance(AFTERMATH);
    let _ = bench.left();
    bench.receive(&outside("OPTIONS", 1, "m3", "", ""));
    let _ = incoming(&mut bench);
}

#[test]
fn a_caller_that_takes_no_sdp_is_406_and_told_what_there_is() {
    // RFC 4475 §3.3.15
    for (accept, refused) in [("text/plain", true), ("", true), ("text/plain, application/SDP;level=1", false), ("application/*", false)] {
        let mut bench = Bench::new();
        bench.receive(&invite(1, &format!("Accept: {accept}\r\n")));
        let Some(sip::Event::Request(incoming)) = bench.endpoint.next_event() else { panic!("a request") };
        assert_eq!(bench.endpoint.take(bench.now, *incoming).is_none(), refused, "{accept:?}");
        let left = bench.left();
        let last = left.last().unwrap();
        assert_eq!(
            (last.status(), last.get(Name::Accept)),
            if refused { (406, "application/sdp".to_owned()) } else { (100, String::new()) }
        );
    }
}

#[test]
fn a_request_whose_end_cannot_be_told_is_400_whatever_it_says() {
    let mut bench = Bench::over_tcp();
    for (head, statuses) in [
        (outside("OPTIONS", 1, "o1", "", ""), vec![400]),
        (outside("OPTIONS", 1, "o2", "Content-Length: 7\r\n", ""), vec![400]),
        (outside("ACK", 1, "o3", "", ""), vec![]),
        ("SIP/2.0 200 OK\r\n\r\n".to_owned(), vec![]),
        (String::new(), vec![]),
    ] {
        bench.endpoint.receive_broken(bench.flow, head.into());
        assert_eq!(bench.left().iter().map(Left::status).collect::<Vec<_>>(), statuses);
        assert!(bench.events().is_empty());
    }
}
