//! Client transactions: which responses count, what a lost connection means, and requests too long for a datagram.

use std::time::Duration;

use bytes::Bytes;
use sip::message::{Name, Request};
use sip::{ConnectionId, DialogEvent, Event, Flow, Hop, Method, StatusCode, Transport};

use super::bench::*;

fn options(bench: &mut Bench) -> (sip::ClientId, Left) {
    let mut request = Request::new(Method::Options, uri("sip:bob@10.0.0.2"));
    request.headers.push(Name::From, "<sip:ann@h>;tag=1");
    request.headers.push(Name::To, "<sip:bob@h>");
    request.headers.push(Name::CallId, "c");
    request.headers.push(Name::CSeq, "1 OPTIONS");
    let client = bench.endpoint.request(bench.now, request, Hop::Flow(bench.flow));
    (client, bench.one())
}

#[test]
fn a_response_counts_only_with_our_branch_and_its_method() {
    // S14, §17.1.3
    let mut bench = Bench::new();
    let (_, sent) = options(&mut bench);
    let good = answer(&sent, "200 OK", "t", "");
    let via = sent.get(Name::Via);
    let branch = via.split("branch=").nth(1).unwrap().to_owned();
    let (id, secret) = branch.split_at(branch.len() - 16);
    for forged in [
        good.replace(&branch, &format!("{id}0000000000000000")),
        good.replace(&branch, id),
        good.replace(&branch, &format!("{}{secret}", id.replace("z9hG4bK01", "z9hG4bK+1"))),
        good.replace("1 OPTIONS", "1 INVITE"),
        good.replace("1 OPTIONS", "1 CANCEL"),
        good.replace(&format!(";branch={branch}"), ""),
    ] {
        assert_ne!(forged, good);
        bench.receive(&forged);
        assert!(bench.events().is_empty(), "{forged}");
    }
    bench.receive(&good);
    assert!(matches!(&bench.events()[..], [Event::Response(_, r)] if r.status == StatusCode::OK));
    bench.receive(&good);
    assert!(bench.events().is_empty());
    bench.assert_empty();
}

#[test]
fn a_response_with_a_second_via_is_not_for_a_dialog_of_ours() {
    // §8.1.3.3
    let mut bench = Bench::new();
    let _ = bench.place();
    let sent = bench.one();
    bench.receive(&answer(&sent, "200 OK", "p", &format!("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKz\r\n{CONTACT}")));
    assert!(bench.events().is_empty());
    bench.receive(&answer(&sent, "200 OK", "p", CONTACT));
    assert!(matches!(bench.dialog_event(), DialogEvent::Answered { .. }));
}

#[test]
fn a_failed_send_fails_what_waits_and_nothing_else() {
    // §17.1.4
    let mut bench = Bench::new();
    let (client, sent) = options(&mut bench);
    bench.receive(&answer(&sent, "200 OK", "t", ""));
    let _ = bench.events();
    bench.endpoint.send_failed(bench.now, client);
    assert!(bench.events().is_empty(), "it was answered");

    let (client, _) = options(&mut bench);
    bench.endpoint.send_failed(bench.now, client);
    bench.endpoint.send_failed(bench.now, client);
    assert!(matches!(&bench.events()[..], [Event::Response(id, r)] if *id == client && r.status == StatusCode::SERVICE_UNAVAILABLE));
    bench.assert_empty();
}

#[test]
fn a_closed_connection_fails_the_requests_bound_to_it_and_no_others() {
    let mut bench = Bench::over_tcp();
    let (client, _) = options(&mut bench);
    let other = Flow { connection: Some(ConnectionId(2)), ..bench.flow };
    bench.endpoint.bind(client, other);
    bench.endpoint.connection_closed(bench.now, ConnectionId(1));
    assert!(bench.events().is_empty(), "it had moved");
    bench.endpoint.connection_closed(bench.now, ConnectionId(2));
    assert!(matches!(&bench.events()[..], [Event::Response(id, _)] if *id == client));
}

#[test]
fn an_invite_without_answer_is_acknowledged_never_and_gone_after_timer_b() {
    let mut bench = Bench::new();
    let _ = bench.place();
    bench.advance(AFTERMATH);
    assert_eq!(bench.words(), ["INVITE"; 7]);
    assert!(matches!(bench.dialog_event(), DialogEvent::Failed { status: StatusCode::REQUEST_TIMEOUT, .. }));
    bench.assert_empty();
}

#[test]
fn each_repeated_failure_is_acknowledged() {
    let mut bench = Bench::new();
    let _ = bench.place();
    let sent = bench.one();
    for _ in 0..3 {
        bench.receive(&answer(&sent, "486 Busy Here", "p", ""));
        let ack = bench.one();
        assert_eq!((ack.request().method.clone(), ack.get(Name::Via)), (Method::Ack, sent.get(Name::Via)));
        assert!(ack.get(Name::To).ends_with(";tag=p"));
        assert_eq!(ack.get(Name::CSeq).split(' ').next(), sent.get(Name::CSeq).split(' ').next());
    }
    assert_eq!(bench.events().len(), 1);
    bench.assert_empty();
}

fn long_body() -> Bytes {
    vec![b'x'; 1200].into()
}

fn by_udp() -> Hop {
    Hop::Address { transport: Transport::Udp, remote: address(PEER), name: None }
}

#[test]
fn a_request_too_long_for_a_datagram_goes_by_tcp() {
    // §18.1.1
    let mut bench = Bench::new();
    let _ = bench.place_to(by_udp(), long_body());
    let left = bench.one();
    assert_eq!(left.hop.transport(), Transport::Tcp);
    assert!(left.get(Name::Via).starts_with("SIP/2.0/TCP 10.0.0.1:5060;"), "{}", left.get(Name::Via));
    assert_eq!(left.get(Name::Contact), "<sip:10.0.0.1:5060;transport=tcp>");
    bench.advance(Duration::from_secs(5));
    assert!(bench.words().is_empty(), "a stream repeats by itself");
}

#[test]
fn it_goes_by_udp_after_all_when_the_connection_fails() {
    let mut bench = Bench::new();
    let _ = bench.place_to(by_udp(), long_body());
    let first = bench.one();
    bench.endpoint.send_failed(bench.now, first.client.unwrap());
    assert!(bench.events().is_empty());
    let again = bench.one();
    assert_eq!((again.hop.clone(), again.client), (by_udp(), first.client));
    assert!(again.get(Name::Via).starts_with("SIP/2.0/UDP 10.0.0.1:5060;"), "{}", again.get(Name::Via));
    assert_eq!(again.get(Name::Contact), "<sip:10.0.0.1:5060>");
    assert_ne!(again.get(Name::Via), first.get(Name::Via));
    bench.advance(Duration::from_secs(1));
    assert_eq!(bench.words(), ["INVITE"]); // timer A: the transport repeats nothing now
    bench.receive(&answer(&again, "200 OK", "p", CONTACT));
    assert!(matches!(bench.dialog_event(), DialogEvent::Answered { .. }));
    bench.endpoint.send_failed(bench.now, first.client.unwrap());
    assert!(bench.events().is_empty());
}

#[test]
fn along_the_flow_of_a_device_a_long_request_stays_on_udp() {
    // RFC 5626: the flow is the only path that is known to work.
    let mut bench = Bench::new();
    let _ = bench.place_to(Hop::Flow(bench.flow), long_body());
    assert_eq!(bench.one().hop, Hop::Flow(bench.flow));
}

#[test]
fn without_a_tcp_listener_a_long_request_stays_on_udp() {
    let mut bench = Bench::new();
    let mut setup = setup(address(OURS), 1);
    setup.listeners.0.truncate(1);
    bench.endpoint = sip::Endpoint::new(setup);
    let _ = bench.place_to(by_udp(), long_body());
    assert_eq!(bench.one().hop, by_udp());
}

#[test]
fn a_connection_that_breaks_after_a_response_is_no_reason_to_send_again() {
    let mut bench = Bench::new();
    let _ = bench.place_to(by_udp(), long_body());
    let sent = bench.one();
    bench.receive(&answer(&sent, "180 Ringing", "p", CONTACT));
    let _ = bench.events();
    bench.endpoint.send_failed(bench.now, sent.client.unwrap());
    assert!(bench.words().is_empty());
    assert!(matches!(bench.dialog_event(), DialogEvent::Failed { status: StatusCode::SERVICE_UNAVAILABLE, .. }));
}
