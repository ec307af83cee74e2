//! Requests in our dialogs that come by another way than their peer's (S5): nothing happens until the host says whose they are.

use sip::message::Name;
use sip::{ConnectionId, DialogEvent, Event, Flow, Hop, Transport, Within};

use super::bench::*;

/// Another host, which has learned Call-ID and tags.
fn stranger(bench: &Bench) -> Flow {
    Flow { remote: address("10.0.0.66:5060"), ..bench.flow }
}

/// Hands a message to the endpoint that came by another flow.
fn receive_by(bench: &mut Bench, flow: Flow, text: &str) {
    let own = std::mem::replace(&mut bench.flow, flow);
    bench.receive(text);
    bench.flow = own;
}

/// Returns what the host is asked about, alone.
#[track_caller]
fn elsewhere(bench: &mut Bench) -> (Within, sip::Incoming) {
    let mut events = bench.events();
    assert_eq!(events.len(), 1, "{events:?}");
    match events.remove(0) {
        Event::Elsewhere(within, incoming) => (within, *incoming),
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_knows_a_dialog_is_not_its_peer() {
    // S5
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    let flow = stranger(&bench);
    let methods = ["INVITE", "BYE", "UPDATE", "REFER", "INFO", "NOTIFY", "PRACK", "MESSAGE", "SUBSCRIBE", "OPTIONS", "ACK"];
    for (number, method) in (2..).zip(methods) {
        receive_by(&mut bench, flow, &inside(method, number, &format!("x{number}"), &tag, "", ""));
        assert_eq!(elsewhere(&mut bench).0, Within::Dialog(dialog), "{method}");
        assert!(bench.left().is_empty(), "{method}");
    }
    assert_eq!((bench.endpoint.dialogs(), bench.endpoint.is_early(dialog)), (1, false));
    bench.receive(&inside("BYE", 2, "b2", &tag, "", ""));
    assert_eq!(bench.words(), ["200 BYE"], "the numbers of the others do not count");
}

#[test]
fn a_peer_that_moved_goes_on_once_the_host_knows_it() {
    let mut bench = Bench::over_tcp();
    let (dialog, tag) = bench.answered();
    let moved = Flow { remote: address("10.9.9.9:1024"), connection: Some(ConnectionId(2)), ..bench.flow };
    let reinvite = inside("INVITE", 2, "i2", &tag, "Contact: <sip:bob@10.9.9.9>\r\nContent-Type: application/sdp\r\n", "v=0\r\n");
    receive_by(&mut bench, moved, &reinvite);
    let (_, incoming) = elsewhere(&mut bench);
    bench.endpoint.receive_within(bench.now, incoming);
    assert!(matches!(bench.dialog_event(), DialogEvent::Offered { .. }));
    bench.endpoint.accept(bench.now, dialog, SDP.into());
    let left = bench.left();
    assert_eq!((left[1].status(), &left[1].hop), (200, &Hop::Flow(moved)));
    // from here on its new way is its own, and the old one is not
    receive_by(&mut bench, moved, &inside("ACK", 2, "a2", &tag, "", ""));
    assert!(matches!(bench.dialog_event(), DialogEvent::Acknowledged { .. }));
    bench.receive(&inside("BYE", 3, "b3", &tag, "", ""));
    assert_eq!(elsewhere(&mut bench).0, Within::Dialog(dialog));
    receive_by(&mut bench, moved, &inside("BYE", 3, "b4", &tag, "", ""));
    assert_eq!(bench.words(), ["200 BYE"]);
}

#[test]
fn a_nat_and_a_long_request_change_port_and_transport_of_datagrams_alone() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    let port = Flow { remote: address("10.0.0.2:61000"), ..bench.flow };
    let stream = Flow { transport: Transport::Tcp, connection: Some(ConnectionId(7)), ..port };
    for (number, flow) in (2..).zip([port, stream]) {
        receive_by(&mut bench, flow, &inside("INFO", number, &format!("n{number}"), &tag, "", ""));
        assert!(matches!(bench.dialog_event(), DialogEvent::Request { .. }));
    }
    let mut bench = Bench::over_tcp();
    let (_, tag) = bench.answered();
    for (number, flow) in (2..).zip([port, stream]) {
        receive_by(&mut bench, flow, &inside("INFO", number, &format!("n{number}"), &tag, "", ""));
        let _asked = elsewhere(&mut bench);
    }
}

#[test]
fn a_peer_called_by_address_sends_from_there_or_from_its_contact() {
    let mut bench = Bench::new();
    let hop = Hop::Address { transport: Transport::Udp, remote: address("10.0.0.2:5060"), name: None };
    let dialog = bench.place_to(hop, SDP.into());
    let invite = bench.one();
    bench.receive(&answer(&invite, "200 OK", "p", "Contact: <sip:bob@10.0.0.3>\r\n"));
    assert!(matches!(bench.dialog_event(), DialogEvent::Answered { .. }));
    bench.endpoint.acknowledge(bench.now, dialog, bytes::Bytes::new());
    let _ack = bench.left();
    let tag = invite.request().from_tag().expect("our tag");
    let info = |number: u32| {
        let text = inside("INFO", number, &format!("n{number}"), &tag, "", "");
        text.replace("Call-ID: call", &format!("Call-ID: {}", invite.get(Name::CallId)))
    };
    for (number, remote) in (1..).zip(["10.0.0.2:5060", "10.0.0.3:5099"]) {
        receive_by(&mut bench, Flow { remote: address(remote), ..stranger(&Bench::new()) }, &info(number));
        assert!(matches!(bench.dialog_event(), DialogEvent::Request { .. }), "{remote}");
    }
    let flow = stranger(&bench);
    receive_by(&mut bench, flow, &info(3));
    assert_eq!(elsewhere(&mut bench).0, Within::Dialog(dialog));
}

#[test]
fn a_cancel_comes_the_way_of_its_invite() {
    // S5
    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, SUPPORTED));
    let _trying = bench.left();
    let flow = stranger(&bench);
    receive_by(&mut bench, flow, &outside("CANCEL", 1, "i1", "", ""));
    let (within, incoming) = elsewhere(&mut bench);
    assert_eq!((within, bench.left().len()), (Within::Dialog(dialog), 0));
    bench.endpoint.receive_within(bench.now, incoming);
    assert_eq!(bench.words(), ["200 CANCEL", "487 INVITE"]);
    let mut proxy = Bench::new();
    proxy.receive(&invite(1, SUPPORTED));
    let Some(Event::Request(incoming)) = proxy.events().pop() else { panic!("no request") };
    proxy.endpoint.admit(proxy.now, &incoming);
    let _trying = proxy.left();
    receive_by(&mut proxy, flow, &outside("CANCEL", 1, "i1", "", ""));
    assert_eq!((proxy.words(), proxy.events().len()), (vec!["481 CANCEL".to_owned()], 0), "nobody knows whose it is");
}

#[test]
fn a_subscription_is_its_watchers() {
    // S5
    let mut bench = Bench::new();
    let more = "Contact: <sip:bob@10.0.0.2>\r\nEvent: presence\r\nExpires: 600\r\n";
    bench.receive(&outside("SUBSCRIBE", 1, "s1", more, ""));
    let Some(Event::Request(incoming)) = bench.events().pop() else { panic!("no request") };
    let id = bench.endpoint.subscribe(bench.now, &incoming).expect("the SUBSCRIBE is taken");
    bench.endpoint.grant(bench.now, id);
    let tag = bench.left().remove(0).response().to_tag().expect("our tag");
    let _due = bench.events();
    let flow = stranger(&bench);
    receive_by(&mut bench, flow, &inside("SUBSCRIBE", 2, "s2", &tag, more, ""));
    let (within, incoming) = elsewhere(&mut bench);
    assert_eq!((within, bench.left().len()), (Within::Subscription(id), 0));
    bench.endpoint.receive_within(bench.now, incoming);
    bench.endpoint.grant(bench.now, id);
    assert_eq!(bench.words(), ["200 SUBSCRIBE"]);
}
