//! One topic from end to end, then each way in which a request, its reply and its events travel.

use std::time::Duration;

use crate::host::{Host, UNKNOWN, actions, bytes, call, call_id, loopback, once, user};
use cas::error::Fault;
use cas::login::LoginId;
use cas::message::Encoding;
use cas::server::{AWAY_LIMIT, Channel, Denied, Input, Peer, StreamId, Wire};
use cas::text::{DeviceId, Sdp, UserName};
use cas::topic::Happening;
use cas::topic::graph::{self, Edge, Graph, Node};
use cas::topic::tel::{CallEvent, Carrying, Change, Described, Description, Left, Party, PartyState, SdpType, State, Waiting};
use serde_json::{Value, json};

fn changed(change: Change, call: cas::topic::tel::Call) -> Input {
    Input::Happened(Happening::Tel(CallEvent { change, call, reaches: Vec::new() }))
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["sequence-id"].as_u64().unwrap()).collect()
}

#[test]
fn who_leaves_a_call_that_goes_on_is_told_that_it_is_over_for_them() {
    // 004-39
    let mut host = Host::new();
    let logins = ["ann", "bob", "root"].map(|name| (name, host.sign_in(name)));
    host.post(&logins[2].1, "subscription", "add", json!({ "topic": "tel" }));
    let left = Left { users: vec![user("ann")], call: call("77", State::Ended, &[("ann", PartyState::Left), ("bob", PartyState::Left)]) };
    host.input(changed(Change::Changed, call("77", State::Connected, &[("bob", PartyState::Connected)])));
    host.input(Input::Happened(Happening::Left(left)));
    let told = logins.map(|(name, token)| {
        let poll = host.poll(&token, None, Some(0));
        let body = host.reply(poll).unwrap().body;
        let events = body["events"].as_array().unwrap();
        let mut told: Vec<(String, usize)> = Vec::new();
        for event in events.iter().filter(|event| event["topic"] == "tel") {
            told.push((event["message"].as_str().unwrap().to_owned(), actions(&event["body"]).len()));
        }
        (name, told.iter().map(|(message, _)| message.clone()).collect::<Vec<_>>(), told.iter().any(|(_, actions)| *actions == 0))
    });
    let expected = |name, messages: &[&str], is_over| (name, messages.iter().map(ToString::to_string).collect::<Vec<_>>(), is_over);
    assert_eq!(told, [expected("ann", &["ended"], true), expected("bob", &["changed"], false), expected("root", &["changed"], false)]);
}

#[test]
fn who_is_anonymous_is_seen_by_themselves_and_by_who_may_see_all_calls() {
    // RFC 3323
    let mut host = Host::new();
    let logins = ["ann", "bob", "eve", "root"].map(|name| host.sign_in(name));
    host.post(&logins[3], "subscription", "add", json!({ "topic": "tel" }));
    for login in &logins {
        host.post(login, "subscription", "add", json!({ "topic": "graph" }));
    }
    let parties = ["ann", "bob", "eve"].map(|name| (name, PartyState::Connected));
    let mut talk = call("77", State::Connected, &parties);
    for party in [0, 2] {
        talk.parties[party].anonymous = true;
        let device = DeviceId::parse(&format!("{}-desk", parties[party].0)).unwrap();
        talk.parties[party].devices.push(Carrying { device, media: Vec::new(), application: false, ringing: false });
    }
    host.switch.put(talk.clone());
    let node = |party: &Party| Node {
        id: party.user.as_ref().unwrap().to_string(),
        user: party.user.clone(),
        anonymous: party.anonymous,
        muted: Vec::new(),
        moderator: false,
    };
    let edge = |name: &str| Edge {
        node: name.to_owned(),
        device: DeviceId::parse(&format!("{name}-desk")).unwrap(),
        media: Vec::new(),
        state: PartyState::Connected,
    };
    let graph = |parties: &[Party]| Graph {
        call: call_id("77"),
        nodes: parties.iter().map(node).collect(),
        edges: parties.iter().filter(|party| party.anonymous).filter_map(|party| Some(edge(party.user.as_ref()?.as_str()))).collect(),
        locked: false,
    };
    let joined = graph::Changed { old: graph(&talk.parties[..2]), new: graph(&talk.parties) };
    let left = Left { users: vec![user("bob"), user("ann")], call: talk.clone() };
    host.input(changed(Change::Changed, talk));
    host.input(Input::Happened(Happening::Graph(joined)));
    host.input(Input::Happened(Happening::Left(left)));
    let names = |text: &str| ["ann", "bob", "eve"].map(|name| text.contains(&format!("\"{name}")));
    for (token, expected) in logins.iter().zip([[true, true, false], [false, true, false], [false, true, true], [true; 3]]) {
        let poll = host.poll(token, None, Some(0));
        let body = host.reply(poll).unwrap().body;
        let events = body["events"].as_array().unwrap().iter().filter(|event| event["topic"] == "tel" || event["topic"] == "graph");
        let told: Vec<_> = events.map(|event| names(&event["body"].to_string())).collect();
        assert!(told.len() >= 2 && told.iter().all(|told| *told == expected), "{expected:?}: {told:?}");
        for (topic, message, body) in
            [("tel", "list", json!({})), ("tel", "show", json!({ "call": "77" })), ("graph", "get", json!({ "call": "77" }))]
        {
            let reply = host.post(token, topic, message, body);
            assert_eq!(names(&reply.body.to_string()), expected, "{topic}.{message}");
        }
    }
    // who guesses a name is told the same as with any other
    for name in ["ann", "root", "bob"] {
        host.post(&logins[1], "tel", "hold", json!({ "call": "77", "user": name }));
    }
    let poll = host.poll(&logins[1], None, Some(0));
    let body = host.reply(poll).unwrap().body;
    let [right, wrong, done] = &body["events"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!((&right["response"], &right["body"]), (&wrong["response"], &wrong["body"]));
    assert!(done["response"] == 0 && names(&done.to_string()) == [false, true, false], "{done}");
}

#[test]
fn who_asked_for_it_hears_what_may_be_picked_up_and_when_no_longer() {
    let mut host = Host::new();
    let names = ["ann", "bob", "eve", "root"];
    let logins = names.map(|name| host.sign_in(name));
    assert_eq!(host.post(&logins[0], "tel", "list", json!({ "subscribe": true })).body["field"], "subscribe");
    // the switch says that bob is ann's and eve's only colleague
    for login in &logins[..3] {
        assert!(host.post(login, "tel", "list", json!({ "pickup": true, "subscribe": true })).body["subscription"].is_u64());
    }
    let mut tell = |call: &cas::topic::tel::Call, at: Option<&str>, waits| {
        let waiting = Waiting { call: call.clone(), of: vec![user("eve"), user("bob")], at: at.map(user), waits };
        host.input(Input::Happened(Happening::Waiting(waiting)));
        logins.each_ref().map(|token| {
            let poll = host.poll(token, None, Some(0));
            let events = host.reply(poll).unwrap().body["events"].as_array().unwrap().clone();
            let told = events.iter().filter(|event| (&event["topic"], &event["message"]) == (&json!("tel"), &json!("pickup")));
            told.map(|event| actions(&event["body"]).len()).collect::<Vec<_>>()
        })
    };
    let rings = call("77", State::Ringing, &[("eve", PartyState::Dialing), ("bob", PartyState::Ringing)]);
    let nobody: [Vec<usize>; 4] = Default::default();
    assert_eq!(tell(&rings, Some("joe"), true), nobody, "he is nobody's colleague");
    assert_eq!(tell(&rings, Some("bob"), true), [vec![1], vec![], vec![], vec![]], "not who is in it, not who did not ask");
    assert_eq!(tell(&rings, Some("bob"), false), [vec![0], vec![], vec![], vec![]]);
    assert_eq!(tell(&rings, None, true), [vec![1], vec![], vec![], vec![]], "parked");
    // who loses the right hears no more
    host.post(&logins[3], "permission", "set", json!({ "user": "ann", "right": "tel.pickup", "reach": "none" }));
    let waiting = Waiting { call: rings, of: Vec::new(), at: None, waits: true };
    host.input(Input::Happened(Happening::Waiting(waiting)));
    let heard = [0, 2].map(|at| {
        let poll = host.poll(&logins[at], None, Some(0));
        let events = host.reply(poll).unwrap().body["events"].as_array().unwrap().clone();
        events.iter().filter(|event| event["message"] == "pickup").count()
    });
    assert_eq!(heard, [0, 1]);
}

#[test]
fn what_is_picked_up_is_named_by_its_number_or_its_slot() {
    let mut host = Host::new();
    let eve = host.sign_in("eve");
    let rings = call("77", State::Ringing, &[("bob", PartyState::Ringing)]); // somebody outside calls him
    let parked = call("78", State::Parked, &[("bob", PartyState::Parked)]);
    host.switch.put(rings);
    host.switch.put(cas::topic::tel::Call { slot: Some("7".to_owned()), ..parked });
    let mut ask = |body: Value| host.post_preferring(&eve, Some("wait=5"), "tel", "pickup", body).body;
    for body in [json!({}), json!({ "call": "78", "slot": "7" })] {
        let refused = ask(body);
        assert_eq!((&refused["error"], &refused["accepted"]), (&json!("bad-message"), &json!(["call", "slot"])));
    }
    assert_eq!(ask(json!({ "slot": "8" }))["error"], "not-found", "an empty slot");
    assert_eq!(ask(json!({ "slot": "7" }))["call"]["id"], "78");
    assert_eq!(ask(json!({ "call": "77" }))["call"]["id"], "77", "for herself, though only bob is in it");
    assert_eq!(host.switch.asked(), ["tel.pickup eve 78", "tel.pickup eve 77"]);
}

#[test]
fn who_is_no_party_says_whose_side_is_meant_or_ends_the_whole_call() {
    let mut host = Host::new();
    let root = host.sign_in("root");
    host.switch.put(call("77", State::Connected, &[("ann", PartyState::Connected), ("bob", PartyState::Connected)]));
    for (user, accepted) in [(json!(null), json!(["ann", "bob"])), (json!("eve"), json!(["ann", "bob"]))] {
        host.post(&root, "tel", "hold", json!({ "call": "77", "user": user }));
        let poll = host.poll(&root, None, Some(0));
        let refused = host.reply(poll).unwrap().body["events"][0].clone();
        assert_eq!(
            (&refused["response"], &refused["body"]["field"], &refused["body"]["accepted"]),
            (&json!(400), &json!("user"), &accepted)
        );
    }
    host.switch.asked();
    host.post(&root, "tel", "drop", json!({ "call": "77" }));
    assert_eq!(host.switch.asked().last().map(String::as_str), Some("tel.drop root 77"));
}

#[test]
fn a_call_from_login_to_event() {
    // 004-08, 004-15, 004-19, 004-20, 004-35, 004-39
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    let pending = host.post(&token, "tel", "make-call", json!({ "destination": "501", "name-hint": "Bob" }));
    assert_eq!((pending.request_id, pending.response, pending.pending_id), (Some(26), Some(202), Some(1)));
    assert_eq!((pending.topic.as_str(), pending.message.as_str(), &pending.body), ("tel", "make-call", &json!({ "id": 1 })));

    let poll = host.poll(&token, None, None);
    assert!(host.reply(poll).is_none());
    host.work_one();
    assert_eq!(host.switch.asked(), ["tel.make-call ann 501"]);
    let reply = host.reply(poll).unwrap();
    let done = &reply.body["events"][0];
    assert_eq!(
        (&done["sequence-id"], &done["pending-id"], &done["request-id"], &done["response"]),
        (&json!(1), &json!(1), &json!(26), &json!(0))
    );
    assert_eq!(actions(&done["body"]), ["drop"]);

    let poll = host.poll(&token, Some(1), None);
    let talking = call("77", State::Connected, &[("ann", PartyState::Connected)]);
    host.input(changed(Change::Connected, talking.clone()));
    let reply = host.reply(poll).unwrap();
    let event = &reply.body["events"][0];
    assert_eq!((&event["sequence-id"], &event["topic"], &event["message"]), (&json!(2), &json!("tel"), &json!("connected")));
    assert!(actions(&event["body"]).contains(&"hold"));

    host.switch.put(talking);
    let pending = host.post(&token, "tel", "hold", json!({ "call": "77" }));
    assert_eq!(pending.pending_id, Some(2));
    host.work_one();
    let poll = host.poll(&token, Some(2), Some(0));
    let held = host.reply(poll).unwrap().body["events"][0].clone();
    assert!(actions(&held["body"]).contains(&"resume") && !actions(&held["body"]).contains(&"hold"));
}

#[test]
fn nothing_runs_before_a_login() {
    // 004-22
    let mut host = Host::new();
    let exchange = host.send(once(None), Encoding::Json, None, bytes("tel", "make-call", json!({ "destination": "501" })));
    assert_eq!(host.replies[&exchange].status(), 401);
    assert_eq!(host.reply(exchange).unwrap().body["error"], "login-required");
    let stranger = cas::Token::shown("0000");
    assert_eq!(host.post(&stranger, "tel", "list", json!({})).response, Some(401));
    assert_eq!(host.switch.asked(), [""; 0]);
    let long = bytes("login", "login", json!({ "user": "x".repeat(10_000) }));
    let exchange = host.send(once(None), Encoding::Json, None, long);
    assert_eq!(host.replies[&exchange].response, 401);
}

#[test]
fn credentials_travel_encrypted_outside_loopback() {
    let mut host = Host::new();
    let sent = |host: &mut Host, address: [u8; 4], wire| {
        let channel = Channel::Once { peer: Peer::Network { address: address.into(), wire }, token: None };
        let exchange =
            host.send(channel, Encoding::Json, None, bytes("login", "login", json!({ "user": "ann", "password": "ann-secret" })));
        host.reply(exchange).unwrap()
    };
    assert_eq!(sent(&mut host, [192, 0, 2, 1], Wire::Clear).body["error"], "tls-required");
    assert_eq!(host.verified, 0);
    assert_eq!(sent(&mut host, [192, 0, 2, 1], Wire::Encrypted).response, Some(0));
    assert_eq!(sent(&mut host, [127, 0, 0, 9], Wire::Clear).response, Some(0));
}

#[test]
fn the_hosts_own_socket_needs_no_password() {
    let mut host = Host::new();
    let channel = Channel::Once { peer: Peer::Host, token: None };
    let exchange = host.send(channel, Encoding::Json, None, bytes("login", "login", json!({})));
    let token = cas::Token::shown(host.reply(exchange).unwrap().body["token"].as_str().unwrap());
    assert_eq!(host.post(&token, "admin", "status", json!(null)).response, Some(0));
    let exchange = host.send(once(None), Encoding::Json, None, bytes("login", "login", json!({})));
    assert_eq!(host.reply(exchange).unwrap().response, Some(400));
}

fn sign_in_from(host: &mut Host, address: [u8; 4], name: &str, password: &str) -> u16 {
    let channel = Channel::Once { peer: Peer::Network { address: address.into(), wire: Wire::Encrypted }, token: None };
    let exchange = host.send(channel, Encoding::Json, None, bytes("login", "login", json!({ "user": name, "password": password })));
    host.reply(exchange).unwrap().response.unwrap()
}

#[test]
fn a_guesser_locks_nobody_out_elsewhere() {
    // S11
    let mut host = Host::new();
    let (home, away) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    (0..10).for_each(|_| assert_eq!(sign_in_from(&mut host, away, "ann", "wrong"), 401));
    assert_eq!(sign_in_from(&mut host, away, "ann", "ann-secret"), 429);
    assert_eq!(host.verified, 10);
    let whys: Vec<_> = host.denied.iter().map(|(user, why)| (user.as_ref().unwrap().as_str(), *why)).collect();
    assert_eq!((whys.len(), whys[9], whys[10]), (11, ("ann", Denied::Credentials), ("ann", Denied::TooMany)));
    assert_eq!(sign_in_from(&mut host, home, "ann", "ann-secret"), 0);
    assert_eq!(sign_in_from(&mut host, away, "bob", "bob-secret"), 0);
    (0..20).for_each(|n| assert_eq!(sign_in_from(&mut host, away, &format!("u{n}"), "wrong"), 401));
    assert_eq!(sign_in_from(&mut host, away, "eve", "eve-secret"), 429);
    for n in 0..90 {
        assert_eq!(sign_in_from(&mut host, [198, 51, 100, n], "ann", "wrong"), 401);
    }
    assert_eq!(sign_in_from(&mut host, [198, 51, 100, 200], "ann", "ann-secret"), 429, "a hundred failures from everywhere");
    assert_eq!(sign_in_from(&mut host, home, "ann", "ann-secret"), 0, "she is signed in there");
    host.advance(Duration::from_secs(60));
    assert_eq!(sign_in_from(&mut host, away, "ann", "ann-secret"), 0);
}

#[test]
fn another_password_ends_the_logins_that_the_old_one_began() {
    let mut host = Host::new();
    let (first, second, root) = (host.sign_in("ann"), host.sign_in("ann"), host.sign_in("root"));
    let stream = host.open(1, Some(&second), None);
    let set = |body: Value| bytes("admin", "set-user", body);
    assert_eq!(host.post(&root, "admin", "set-user", json!({ "user": "ann", "name": "Ann" })).response, Some(0));
    assert_eq!(host.post(&first, "tel", "list", json!({})).response, Some(0));
    host.slow = true;
    let late = host.send(once(None), Encoding::Json, None, bytes("login", "login", json!({ "user": "ann", "password": "ann-secret" })));
    let by_host = Channel::Once { peer: Peer::Host, token: None };
    let exchange = host.send(by_host.clone(), Encoding::Json, None, set(json!({ "user": "ann", "password": "new" })));
    assert_eq!(host.reply(exchange).unwrap().response, Some(0));
    assert_eq!(host.post(&first, "login", "refresh", json!({})).response, Some(401));
    assert_eq!(&*host.closed[&stream].detail, "the user has another password");
    let (verify, identity) = host.checking.remove(0);
    host.input(Input::Verified { verify, identity });
    assert_eq!(host.reply(late).unwrap().body["error"], "unavailable", "the old one was checked before it changed");
    let exchange = host.send(by_host.clone(), Encoding::Json, None, set(json!({ "user": "administrator", "password": "new" })));
    assert_eq!(host.reply(exchange).unwrap().response, Some(0));
    assert_eq!(host.server.logins(), 2, "the host's own has no password");
}

#[test]
fn who_changes_their_own_password_is_told_so_before_they_are_signed_out() {
    let mut host = Host::new();
    let root = host.sign_in("root");
    host.post(&root, "permission", "set", json!({ "user": "ann", "right": "admin.set-user", "reach": "own" }));
    let token = host.sign_in("ann");
    let stream = host.open(1, Some(&token), None);
    assert_eq!(host.say(stream, "admin", "set-user", json!({ "user": "ann", "password": "new" })).unwrap().response, Some(0));
    assert_eq!(host.closed[&stream].fault, Fault::LoginRequired);
}

#[test]
fn a_subscription_needs_the_right_to_hear_and_users_who_exist() {
    // 004-75, 004-78
    let mut host = Host::new();
    let (token, root) = (host.sign_in("ann"), host.sign_in("root"));
    let add = |topic: &str, users: Value| json!({ "topic": topic, "users": users });
    for (topic, users, right) in [
        ("tel", json!(["ann", "bob"]), "tel.show"),
        ("history", json!(["nobody"]), "history.list"),
        ("admin", Value::Null, "admin.status"),
        ("graph", json!(["bob"]), "graph.get"),
    ] {
        let refused = host.post(&token, "subscription", "add", add(topic, users));
        assert_eq!((refused.response, &refused.body["right"]), (Some(403), &json!(right)), "{topic}");
    }
    let refused = host.post(&token, "subscription", "modify", json!({ "id": 1, "users": ["bob"] }));
    assert_eq!(refused.body["right"], "tel.show");
    for (topic, users) in [("tel", json!(["ann"])), ("history", Value::Null), ("presence", json!(["bob"]))] {
        assert_eq!(host.post(&token, "subscription", "add", add(topic, users)).response, Some(0), "{topic}");
    }
    let unknown = host.post(&root, "subscription", "add", add("tel", json!(["ann", "nobody"])));
    assert_eq!((unknown.response, &unknown.body["field"]), (Some(404), &json!("users[1]")));
    assert_eq!(host.post(&root, "subscription", "add", add("tel", json!(["ann", "bob"]))).response, Some(0));
    assert_eq!(host.post(&root, "subscription", "list", json!({})).body["subscriptions"].as_array().unwrap().len(), 2);
}

#[test]
fn the_list_of_a_user_who_does_not_exist_is_not_found() {
    let mut host = Host::new();
    let root = host.sign_in("root");
    for (topic, message) in [("tel", "list"), ("history", "list"), ("login", "list")] {
        let reply = host.post(&root, topic, message, json!({ "user": "nobody" }));
        assert_eq!((reply.response, &reply.body["field"]), (Some(404), &json!("user")), "{topic}");
        assert_eq!(host.post(&root, topic, message, json!({ "user": "bob" })).response, Some(0), "{topic}");
    }
    let token = host.sign_in("ann");
    assert_eq!(host.post(&token, "tel", "list", json!({ "user": "nobody" })).response, Some(403), "who may not ask learns nothing");
}

#[test]
fn each_sender_has_one_series_of_replies() {
    let mut host = Host::new();
    let (ann, bob) = (host.sign_in("ann"), host.sign_in("bob"));
    let number = |host: &mut Host, channel: Channel, body: &[u8]| {
        let exchange = host.send(channel, Encoding::Json, None, body.to_vec());
        host.reply(exchange).unwrap().sequence_id
    };
    for (n, token) in [(2, &ann), (3, &ann), (2, &bob), (4, &ann)] {
        assert_eq!(number(&mut host, once(Some(token)), b"{}"), n, "a malformed message counts like any other");
    }
    let stream = host.open(1, None, None);
    let say = || Channel::Stream(stream);
    assert_eq!([number(&mut host, say(), b"{}"), number(&mut host, say(), b"x")], [1, 2]);
    let login = bytes("login", "login", json!({ "user": "ann", "password": "ann-secret" }));
    assert_eq!([number(&mut host, say(), &login), number(&mut host, say(), b"{}")], [3, 4]);
    assert_eq!([number(&mut host, once(None), b"{}"), number(&mut host, once(None), b"{}")], [1, 1]);
    let exchange = host.exchange();
    let error = cas::error::Error::new(Fault::TooLarge, "too long");
    host.input(Input::Refused { exchange, token: Some(bob), accept: Some("application/xml".into()), error });
    assert_eq!(host.replies[&exchange].encoding, Encoding::Xml);
    assert_eq!(host.reply(exchange).unwrap().sequence_id, 3);
}

#[test]
fn the_same_request_means_the_same_in_both_encodings() {
    // 004-11
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let xml =
        b"<cas><topic>presence</topic><message>get</message><timestamp>1</timestamp><sequence-id>1</sequence-id><request-id>5</request-id>\
        <body><users type=\"array\"><item>bob</item></users></body></cas>";
    let exchange = host.send(once(Some(&token)), Encoding::Xml, None, xml.to_vec());
    let by_xml = host.reply(exchange).unwrap();
    let by_json = host.post(&token, "presence", "get", json!({ "users": ["bob"] }));
    assert_eq!(by_xml.body, by_json.body);
    assert_eq!(by_xml.request_id, Some(5));
}

#[test]
fn an_error_names_header_field_and_what_is_accepted() {
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let reply = host.post(&token, "tel", "make-cal", json!({}));
    assert_eq!((reply.response, &reply.body["header"]), (Some(404), &json!("message")));
    assert!(reply.body["accepted"].as_array().unwrap().contains(&json!("make-call")));
    let reply = host.post(&token, "tel", "make-call", json!({ "destination": "501", "media": ["audio", "smell"] }));
    assert_eq!(
        (reply.response, &reply.body["field"], &reply.body["accepted"]),
        (Some(400), &json!("media[1]"), &json!(["audio", "video"]))
    );
    let reply = host.post(&token, "tel", "make-call", json!({ "destination": "501\r\nX: y" }));
    assert_eq!((reply.response, &reply.body["field"]), (Some(400), &json!("destination")));
    let reply = host.post(&token, "presence", "get", json!([["bob"]]));
    assert_eq!((reply.response, &reply.body["field"]), (Some(400), &json!("body")));
    let reply = host.post(&token, "nothing", "x", json!({}));
    assert_eq!((reply.response, &reply.body["error"]), (Some(404), &json!("no-provider")));
    assert_eq!(host.switch.asked(), [""; 0]);
}

#[test]
fn a_client_may_wait_for_the_answer_and_is_told_when_it_takes_longer() {
    // 004-21
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    let make_call = bytes("tel", "make-call", json!({ "destination": "501" }));
    let exchange = host.send(once(Some(&token)), Encoding::Json, Some("wait=5"), make_call.clone());
    host.advance(Duration::from_secs(4));
    assert!(host.reply(exchange).is_none());
    host.work_one();
    assert_eq!(host.reply(exchange).unwrap().response, Some(0));
    let exchange = host.send(once(Some(&token)), Encoding::Json, Some("wait=5"), make_call);
    host.advance(Duration::from_secs(5));
    assert_eq!(host.reply(exchange).unwrap().response, Some(202));
    host.work_one();
    let poll = host.poll(&token, None, Some(0));
    assert_eq!(host.reply(poll).unwrap().body["events"][0]["pending-id"], 1);
}

#[test]
fn two_answers_that_come_swapped_are_told_apart() {
    // 004-20
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    for destination in ["501", "502"] {
        host.post(&token, "tel", "make-call", json!({ "destination": destination }));
    }
    host.work.swap(0, 1);
    host.work_one();
    host.work_one();
    let poll = host.poll(&token, None, Some(0));
    let reply = host.reply(poll).unwrap();
    let told =
        |n: usize| (reply.body["events"][n]["pending-id"].clone(), reply.body["events"][n]["body"]["call"]["parties"][1]["number"].clone());
    assert_eq!((told(0), told(1)), ((json!(2), json!("502")), (json!(1), json!("501"))));
}

#[test]
fn work_that_takes_too_long_is_given_up() {
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    let exchange = host.send(once(Some(&token)), Encoding::Json, None, bytes("tel", "list", json!({})));
    host.advance(Duration::from_secs(10));
    assert_eq!(host.reply(exchange).unwrap().body["error"], "timeout");
    assert_eq!(host.abandoned.len(), 1);
    host.work_one();
    let fresh = host.sign_in("ann");
    host.post(&fresh, "tel", "make-call", json!({ "destination": "501" }));
    host.open(1, Some(&fresh), None);
    host.advance(Duration::from_secs(180));
    let told = host.events(StreamId(1));
    assert_eq!((&told[0]["response"], &told[0]["pending-id"]), (&json!(504), &json!(1)));
}

#[test]
fn a_poll_ends_empty_at_its_limit_and_a_new_one_frees_the_old() {
    // 004-25
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let poll = host.poll(&token, Some(0), Some(20));
    host.advance(Duration::from_secs(19));
    assert!(host.reply(poll).is_none());
    host.advance(Duration::from_secs(1));
    assert_eq!(host.reply(poll).unwrap().body, json!({ "events": [] }));
    let (old, new) = (host.poll(&token, Some(0), Some(20)), host.poll(&token, Some(0), Some(20)));
    assert!(host.reply(old).is_some() && host.reply(new).is_none());
    for (after, wait, field) in [(Some(1), None, "after"), (None, Some(61), "wait")] {
        let poll = host.poll(&token, after, wait);
        assert_eq!(host.reply(poll).unwrap().body["field"], field);
    }
}

#[test]
fn a_websocket_signs_in_asks_and_hears_on_one_connection() {
    // 004-24
    let mut host = Host::new();
    let stream = host.open(1, None, None);
    assert_eq!(host.say(stream, "tel", "list", json!({})).unwrap().response, Some(401));
    let login = json!({ "user": "bob", "password": "bob-secret" });
    assert_eq!(host.say(stream, "login", "login", login.clone()).unwrap().response, Some(0));
    assert_eq!(host.say(stream, "login", "login", login).unwrap().response, Some(409));
    host.input(changed(Change::Ringing, call("9", State::Ringing, &[("ann", PartyState::Dialing), ("bob", PartyState::Ringing)])));
    assert_eq!(host.say(stream, "tel", "list", json!({})).unwrap().response, Some(0));
    let events = host.events(stream);
    assert_eq!((numbers(&events), actions(&events[0]["body"])), (vec![1], vec!["answer", "decline"]));
    assert_eq!(host.say(stream, "login", "logout", json!({})).unwrap().response, Some(0));
    assert_eq!(host.closed[&stream].fault, Fault::LoginRequired);
}

#[test]
fn a_stream_without_a_login_is_closed() {
    let mut host = Host::new();
    let stream = host.open(1, None, None);
    host.advance(Duration::from_secs(10));
    assert!(host.closed.contains_key(&stream));
    let stranger = host.open(2, Some(&cas::Token::shown("x")), None);
    assert_eq!(host.closed[&stranger].fault, Fault::LoginRequired);
}

#[test]
fn each_login_hears_its_own_calls_with_its_own_actions() {
    let mut host = Host::new();
    let tokens: Vec<_> = ["ann", "bob", "eve", "root"].iter().map(|name| host.sign_in(name)).collect();
    let streams: Vec<StreamId> = (0..).zip(&tokens).map(|(number, token)| host.open(number, Some(token), None)).collect();
    host.say(streams[2], "subscription", "add", json!({ "topic": "tel" }));
    host.say(streams[3], "subscription", "add", json!({ "topic": "tel" }));
    host.input(changed(Change::Changed, call("9", State::Connected, &[("ann", PartyState::Held), ("bob", PartyState::Connected)])));
    let heard: Vec<Vec<Value>> = streams.iter().map(|stream| host.events(*stream)).collect();
    assert!(actions(&heard[0][0]["body"]).contains(&"resume") && !actions(&heard[1][0]["body"]).contains(&"resume"));
    assert!(heard[2].is_empty(), "eve may not see others' calls");
    assert_eq!(heard[3].len(), 1);
}

#[test]
fn a_right_that_grows_or_shrinks_changes_what_a_subscription_brings() {
    let mut host = Host::new();
    let (token, root) = (host.sign_in("eve"), host.sign_in("root"));
    let stream = host.open(1, Some(&token), None);
    host.say(stream, "subscription", "add", json!({ "topic": "tel" }));
    for (reach, expected) in [(json!(null), 0), (json!("all"), 1), (json!("own"), 0), (json!("all"), 1), (json!("none"), 0)] {
        host.post(&root, "permission", "set", json!({ "user": "eve", "right": "tel.show", "reach": reach }));
        host.events(stream);
        host.input(changed(Change::Changed, call("9", State::Connected, &[("ann", PartyState::Held)])));
        assert_eq!(host.events(stream).len(), expected, "{reach}");
    }
}

#[test]
fn subscriptions_are_added_changed_listed_and_deleted() {
    // 004-30, 004-33, 004-34
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let added = host.post(&token, "subscription", "add", json!({ "topic": "presence", "users": ["bob"] }));
    assert_eq!((&added.body["id"], added.body["subscriptions"].as_array().unwrap().len()), (&json!(2), 2));
    let changed = host.post(&token, "subscription", "modify", json!({ "id": 2, "users": ["eve"] }));
    assert_eq!(changed.body["subscriptions"][1]["users"], json!(["eve"]));
    let deleted = host.post(&token, "subscription", "delete", json!({ "id": 1 }));
    assert_eq!(deleted.body["subscriptions"].as_array().unwrap().len(), 1);
    assert_eq!(host.post(&token, "subscription", "delete", json!({ "id": 1 })).response, Some(404));
    assert_eq!(host.post(&token, "subscription", "add", json!({ "topic": "nothing" })).response, Some(404));
    assert_eq!(host.post(&token, "subscription", "list", json!({})).body["subscriptions"], deleted.body["subscriptions"]);
}

fn idle(name: &str) -> Input {
    let presence = cas::topic::presence::Presence {
        telephony: Some(cas::topic::presence::Telephony::OnCall),
        im: None,
        mobile: None,
        status: None,
        note: None,
        most_available: None,
        semi_available: None,
    };
    Input::Happened(Happening::Presence(cas::topic::presence::Changed { user: user(name), presence }))
}

#[test]
fn presence_is_told_until_cancel_logout_or_abandonment() {
    // 004-28, 004-29, 004-58
    for stop in ["cancel", "logout", "abandonment"] {
        let mut host = Host::new();
        let (token, admin) = (host.sign_in("ann"), host.sign_in("root"));
        let watch = host.open(9, Some(&admin), None);
        host.say(watch, "subscription", "add", json!({ "topic": "admin" }));
        for (field, who) in [("users", UNKNOWN), ("addresses", "599")] {
            assert_eq!(host.post(&token, "presence", "get", json!({ field: [who] })).body["users"], json!([]));
            let refused = host.post(&token, "presence", "get", json!({ field: [who], "subscribe": true })).body;
            assert_eq!((&refused["error"], &refused["field"]), (&json!("not-found"), &json!(field)));
        }
        let listing = host.post(&token, "presence", "get", json!({ "users": ["bob"], "parts": ["rollup"], "subscribe": true }));
        assert_eq!(listing.body["users"][0]["presence"], json!({ "most-available": "available", "semi-available": "available" }));
        assert_eq!(listing.body["subscription"], 2);
        host.input(idle("bob"));
        host.input(idle("eve"));
        let poll = host.poll(&token, Some(0), Some(0));
        let events = host.reply(poll).unwrap().body["events"].clone();
        assert_eq!((events.as_array().unwrap().len(), &events[0]["body"]["presence"]["most-available"]), (1, &json!("unavailable")));
        match stop {
            "cancel" => drop(host.post(&token, "subscription", "delete", json!({ "id": 2 }))),
            "logout" => drop(host.post(&token, "login", "logout", json!({}))),
            _ => host.advance(Duration::from_secs(300)),
        }
        host.input(idle("bob"));
        let poll = host.poll(&token, None, Some(0));
        let after = host.reply(poll).unwrap();
        assert_eq!(after.response, Some(if stop == "cancel" { 0 } else { 401 }), "{stop}");
        let told = host.events(watch);
        assert_eq!(told.iter().any(|event| event["message"] == "login-abandoned"), stop == "abandonment");
    }
}

#[test]
fn a_guided_call_needs_what_is_to_happen_to_the_call_that_waits() {
    // 004-15
    let mut host = Host::new();
    let (ann, eve) = (host.sign_in("ann"), host.sign_in("eve"));
    host.switch.put(call("1", State::Connected, &[("ann", PartyState::Held), ("bob", PartyState::Connected)]));
    host.switch.put(call("2", State::Ringing, &[("ann", PartyState::Ringing), ("bob", PartyState::Dialing)]));
    let guided = |call: &str, purpose: &str| json!({ "destination": "501", "guided": { "call": call, "purpose": purpose } });
    let wait = Some("wait=5");
    let stranger = host.post_preferring(&eve, wait, "tel", "make-call", guided("1", "transfer"));
    assert_eq!((stranger.response, &stranger.body["right"]), (Some(403), &json!("tel.transfer")));
    let ringing = host.post_preferring(&ann, wait, "tel", "make-call", guided("2", "conference"));
    assert_eq!((ringing.response, &ringing.body["error"]), (Some(409), &json!("not-now")));
    assert_eq!(host.post_preferring(&ann, wait, "tel", "make-call", guided("3", "transfer")).response, Some(404));
    assert_eq!(host.switch.asked(), [""; 0], "nothing was done");
    for purpose in ["transfer", "conference"] {
        assert_eq!(host.post_preferring(&ann, wait, "tel", "make-call", guided("1", purpose)).response, Some(0));
        assert_eq!(host.switch.asked(), ["tel.make-call ann 501"]);
    }
}

#[test]
fn a_client_that_listens_to_nothing_is_away_until_it_asks_for_something() {
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let comings = |host: &mut Host| std::mem::take(&mut host.comings).into_iter().map(|(_, is_there)| is_there).collect::<Vec<_>>();
    let (stream, second) = (host.open(1, Some(&token), None), host.open(2, Some(&token), None));
    host.advance(10 * AWAY_LIMIT);
    host.input(Input::Closed(stream));
    host.advance(AWAY_LIMIT);
    assert_eq!(comings(&mut host), [false; 0], "one stream is enough");
    host.input(Input::Closed(second));
    host.advance(AWAY_LIMIT - Duration::from_millis(1));
    assert_eq!(comings(&mut host), [false; 0], "a page may be loaded anew");
    host.advance(Duration::from_millis(1));
    assert_eq!(comings(&mut host), [false]);
    host.advance(AWAY_LIMIT);
    assert_eq!(comings(&mut host), [false; 0], "once is enough");
    let again = host.open(3, Some(&token), None);
    assert_eq!(comings(&mut host), [true]);
    host.input(Input::Closed(again));
    // requests keep it there as long as they come, and as long as their work takes
    for _ in 0..3 {
        host.advance(AWAY_LIMIT / 2);
        host.post(&token, "login", "list", json!({}));
    }
    let poll = host.poll(&token, None, Some(60));
    host.advance(Duration::from_secs(60));
    assert!(host.reply(poll).is_some());
    host.lazy = true;
    let call = host.send(once(Some(&token)), Encoding::Json, None, bytes("tel", "make-call", json!({ "destination": "bob" })));
    host.advance(AWAY_LIMIT + Duration::from_secs(1));
    assert_eq!(comings(&mut host), [false; 0]);
    host.work_one();
    assert!(host.reply(call).is_some());
    host.advance(2 * AWAY_LIMIT);
    assert_eq!(comings(&mut host), [false]);
    host.lazy = false;
    assert_eq!(host.post(&token, "login", "logout", json!({})).response, Some(0));
    assert_eq!(comings(&mut host), [true]);
    host.advance(10 * AWAY_LIMIT);
    assert_eq!(comings(&mut host), [false; 0], "a login that is over is not looked at");
}

#[test]
fn a_changed_right_reaches_a_connected_client_at_once() {
    // 004-73, 004-75, 004-77, 004-79
    let mut host = Host::new();
    let (token, admin) = (host.sign_in("ann"), host.sign_in("root"));
    host.switch.entries.lock().unwrap().insert(crate::host::entry("1", "ann", 1).id, crate::host::entry("1", "ann", 1));
    assert_eq!(host.post(&token, "history", "list", json!({})).body["entries"][0]["actions"], json!(["note", "delete"]));
    let stream = host.open(1, Some(&token), None);
    let set = json!({ "user": "ann", "right": "history.delete", "reach": "none" });
    assert_eq!(host.post(&token, "permission", "set", set.clone()).body["right"], "permission.set");
    assert_eq!(host.post(&admin, "permission", "set", set).response, Some(0));
    let events = host.events(stream);
    assert_eq!((&events[0]["message"], &events[0]["body"]["effective"]["history.delete"]), (&json!("changed"), &json!("none")));
    assert_eq!(events[0]["body"]["version"], 1);
    assert_eq!(host.post(&token, "history", "list", json!({})).body["entries"][0]["actions"], json!(["note"]));
    let refused = host.post(&token, "history", "delete", json!({ "entry": "1" }));
    assert_eq!((refused.response, &refused.body["right"]), (Some(403), &json!("history.delete")));
    assert!(host.switch.entries.lock().unwrap().len() == 1);
    assert_eq!(host.post(&token, "permission", "get", json!({})).body["version"], 1);
}

#[test]
fn a_history_may_be_limited_to_the_last_days() {
    // 004-72
    const DAY: u64 = 86_400_000;
    let mut host = Host::new();
    let admin = host.sign_in("root");
    for (id, age) in [("1", 40), ("2", 3)] {
        let entry = crate::host::entry(id, "ann", 1_700_000_000_000 - age * DAY);
        host.switch.entries.lock().unwrap().insert(entry.id.clone(), entry);
    }
    host.post(&admin, "permission", "set-history-days", json!({ "user": "ann", "days": 30 }));
    let token = host.sign_in("ann");
    let page = host.post(&token, "history", "list", json!({ "since": 0 }));
    assert_eq!((page.body["entries"].as_array().unwrap().len(), &page.body["days"]), (1, &json!(30)));
    assert_eq!(host.post(&token, "history", "delete", json!({ "entry": "1" })).response, Some(404));
    assert_eq!(host.post(&token, "history", "delete", json!({ "entry": "2" })).response, Some(0));
}

#[test]
fn an_expired_token_ends_its_login_and_a_refresh_keeps_it() {
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let stream = host.open(1, Some(&token), None);
    host.advance(Duration::from_secs(800));
    let fresh = host.say(stream, "login", "refresh", json!({})).unwrap();
    let fresh = cas::Token::shown(fresh.body["token"].as_str().unwrap());
    host.advance(Duration::from_secs(800));
    assert_eq!(host.post(&token, "tel", "list", json!({})).response, Some(401));
    assert_eq!(host.post(&fresh, "tel", "list", json!({})).response, Some(0));
    host.advance(Duration::from_secs(101));
    assert_eq!(host.closed[&stream].fault, Fault::LoginRequired);
    assert_eq!(host.server.logins(), 0);
}

#[test]
fn logins_are_listed_and_revoked() {
    let mut host = Host::new();
    let (first, second, root) = (host.sign_in("ann"), host.sign_in("ann"), host.sign_in("root"));
    assert_eq!(host.post(&first, "login", "list", json!({})).body["logins"].as_array().unwrap().len(), 2);
    assert_eq!(host.post(&first, "login", "list", json!({ "all": true })).response, Some(403));
    assert_eq!(host.post(&root, "login", "list", json!({ "all": true })).body["logins"].as_array().unwrap().len(), 3);
    let poll = host.poll(&second, None, None);
    assert_eq!(host.post(&first, "login", "revoke", json!({ "login": 3 })).response, Some(403));
    assert_eq!(host.post(&first, "login", "revoke", json!({ "login": 9 })).response, Some(403));
    assert_eq!(host.post(&root, "login", "revoke", json!({ "login": 9 })).response, Some(404));
    assert_eq!(host.post(&first, "login", "revoke", json!({ "login": 2 })).response, Some(0));
    assert_eq!(host.reply(poll).unwrap().response, Some(401));
    assert_eq!(host.post(&second, "tel", "list", json!({})).response, Some(401));
}

#[test]
fn an_api_key_can_do_what_its_scopes_say() {
    // 004-77
    let mut host = Host::new();
    let token = host.sign_in_with(json!({ "key": "key:root:history.*,tel.list" }));
    assert_eq!(host.post(&token, "history", "list", json!({})).response, Some(0));
    assert_eq!(host.post(&token, "tel", "list", json!({})).response, Some(0));
    assert_eq!(host.post(&token, "tel", "show", json!({ "call": "1" })).body["right"], "tel.show");
    assert_eq!(host.post(&token, "admin", "status", json!({})).response, Some(403));
    let others = json!({ "topic": "tel", "users": ["ann"] });
    assert_eq!(host.post(&token, "subscription", "add", others).body["right"], "tel.show");
    assert_eq!(host.post(&token, "permission", "get", json!({ "user": "ann" })).body["right"], "permission.get");
    let token = {
        let fresh = host.post(&token, "login", "refresh", json!({}));
        cas::Token::shown(fresh.body["token"].as_str().unwrap())
    };
    assert_eq!(host.post(&token, "permission", "get", json!({})).response, Some(0));
    let poll = host.poll(&token, None, Some(0));
    assert_eq!(host.reply(poll).unwrap().response, Some(0));
    let root = host.sign_in("root");
    let misspelt = json!({ "key": "crm", "user": "ann", "scopes": ["tel.*", "tel.holdd"] });
    assert_eq!(host.post(&root, "admin", "add-key", misspelt).body["field"], "scopes[1]");
    assert_eq!(host.post(&root, "admin", "add-key", json!({ "key": "crm", "user": "ann", "scopes": ["notes.get"] })).response, Some(0));
    assert_eq!(host.post(&root, "admin", "remove-key", json!({ "key": "a key" })).response, Some(0));
    assert_eq!(host.post(&token, "tel", "list", json!({})).response, Some(401));
    let gone = host.sign_in("ann");
    host.post(&root, "admin", "remove-user", json!({ "user": "ann" }));
    assert_eq!(host.post(&gone, "tel", "list", json!({})).response, Some(401));
}

#[test]
fn a_login_has_a_bounded_number_of_waiting_requests_and_streams() {
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    for _ in 0..cas::pending::MAX_PENDING_OF_LOGIN {
        assert_eq!(host.post(&token, "tel", "make-call", json!({ "destination": "501" })).response, Some(202));
    }
    assert_eq!(host.post(&token, "tel", "make-call", json!({ "destination": "501" })).response, Some(429));
    host.work_one();
    assert_eq!(host.post(&token, "tel", "make-call", json!({ "destination": "501" })).response, Some(202));
    for number in 0..9 {
        host.open(number, Some(&token), None);
    }
    assert_eq!(host.closed.keys().collect::<Vec<_>>(), [&StreamId(0)]);
}

#[test]
fn a_description_goes_to_the_login_that_is_the_device_and_to_no_other() {
    let mut host = Host::new();
    let (first, second) = (host.sign_in("ann"), host.sign_in("ann"));
    assert_eq!(host.post(&first, "tel", "register", json!({ "device": "page" })).body, json!({ "device": "page" }));
    let streams = [host.open(1, Some(&first), None), host.open(2, Some(&second), None)];
    let description = Description {
        call: call_id("1"),
        device: DeviceId::parse("page").unwrap(),
        r#type: SdpType::Offer,
        sdp: Some(Sdp::parse("v=0\r\n").unwrap()),
    };
    host.input(Input::Happened(Happening::Described(Described { login: LoginId(1), user: user("ann"), description })));
    let told = host.events(streams[0]);
    assert_eq!((&told[0]["message"], &told[0]["body"]["type"]), (&json!("sdp"), &json!("offer")));
    assert_eq!((told.len(), host.events(streams[1]).len()), (1, 0));
}

#[test]
fn the_host_learns_of_the_end_of_each_login_once() {
    let mut host = Host::new();
    let out = host.sign_in("ann");
    host.sign_in("ann");
    host.post(&out, "login", "logout", json!({}));
    assert_eq!(host.over, [LoginId(1)]);
    host.advance(Duration::from_secs(301));
    assert_eq!(host.over, [LoginId(1), LoginId(2)]);
}

#[test]
fn a_description_comes_with_an_offer_and_an_answer_and_with_nothing_else() {
    let mut host = Host::new();
    host.switch.put(call("1", State::Connected, &[("ann", PartyState::Connected), ("bob", PartyState::Connected)]));
    let token = host.sign_in("ann");
    let mut field = |body: Value| {
        let reply = host.post_preferring(&token, Some("wait=5"), "tel", "negotiate", body);
        reply.body["field"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(field(json!({ "call": "1", "sdp": "v=0" })), "");
    assert_eq!(field(json!({ "call": "1", "type": "rollback" })), "");
    assert_eq!(field(json!({ "call": "1", "type": "answer" })), "sdp");
    assert_eq!(field(json!({ "call": "1", "type": "rollback", "sdp": "v=0" })), "sdp");
    assert_eq!(field(json!({ "call": "1", "type": "request", "sdp": "v=0" })), "type");
}

#[test]
fn every_object_says_what_may_be_done_with_it() {
    // 004-70, 004-71
    let mut host = Host::new();
    let (token, root) = (host.sign_in("ann"), host.sign_in("root"));
    assert_eq!(host.post(&root, "admin", "list-users", json!({})).body["users"][0]["actions"], json!(["set-user", "remove-user"]));
    assert_eq!(host.post(&token, "admin", "list-devices", json!({})).body["devices"][0]["actions"], json!(["remove-device"]));
    let users = host.post(&token, "presence", "get", json!({ "users": ["ann", "bob"] })).body["users"].clone();
    assert_eq!((&users[0]["actions"], users[1].get("actions")), (&json!(["set"]), None));
    assert_eq!(host.post(&token, "login", "list", json!({})).body["logins"][0]["actions"], json!(["revoke"]));
    assert_eq!(host.post(&token, "tel", "list", json!({})).body["actions"], json!(["make-call"]));
    assert_eq!(host.post(&token, "history", "list", json!({})).body["actions"], json!(["note", "delete"]));
}

#[test]
fn a_user_name_is_no_text_of_any_kind() {
    assert!(UserName::parse("ann").is_ok() && UserName::parse("a b").is_err());
    assert_eq!(loopback(), loopback());
}
