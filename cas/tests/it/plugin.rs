//! Plug-ins on a stream: well-behaved ones, dead ones, slow ones, ones that flood.

use std::time::Duration;

use cas::message::Encoding;
use cas::permission::{Pattern, Reach, Rights, Role};
use cas::server::{Channel, ExchangeId, Input, StreamId};
use serde_json::{Value, json};

use crate::host::{Host, bytes, once, user};

/// A host with a plug-in on stream 1 that serves `weather`, and the token of a client.
fn with_plugin(register: Value) -> (Host, StreamId, cas::Token) {
    let mut host = Host::new();
    let exceptions = [(Pattern::parse("plugin.*").unwrap(), Reach::Own)].into();
    host.switch.rights.lock().unwrap().insert(user("gadget"), Rights { exceptions, ..Rights::of(Role::Application) });
    let token = host.sign_in_with(json!({ "key": "key:gadget:plugin.*" }));
    let stream = host.open(1, Some(&token), None);
    let registered = host.say(stream, "plugin", "register", register).unwrap();
    assert_eq!((registered.response, &registered.body["version"]), (Some(0), &json!(1)), "{registered:?}");
    let client = host.sign_in("ann");
    (host, stream, client)
}

fn ask(host: &mut Host, token: &cas::Token, body: Value) -> ExchangeId {
    host.send(once(Some(token)), Encoding::Json, None, bytes("weather", "get", body))
}

fn answer(host: &mut Host, stream: StreamId, request: &Value, response: u16, body: Value) {
    let mut reply = request.clone();
    reply["response"] = response.into();
    reply["body"] = body;
    host.send(Channel::Stream(stream), Encoding::Json, None, reply.to_string().into_bytes());
}

#[test]
fn a_request_makes_four_hops_and_its_body_is_passed_on_as_it_is() {
    // 004-91, 004-92, 004-98
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1 }));
    let opaque = json!({ "city": ["Ulm", { "deep": [1.5, null, "<&>"] }], "n": -7 });
    let exchange = ask(&mut host, &client, opaque.clone());
    let forwarded = host.events(stream).remove(0);
    assert_eq!(
        (&forwarded["topic"], &forwarded["message"], &forwarded["body"], &forwarded["user"]),
        (&json!("weather"), &json!("get"), &opaque, &json!("ann"))
    );
    answer(&mut host, stream, &forwarded, 0, opaque.clone());
    let reply = host.reply(exchange).unwrap();
    assert_eq!((reply.request_id, reply.response, reply.body), (Some(26), Some(0), opaque));
    let exchange = ask(&mut host, &client, json!({}));
    let forwarded = host.events(stream).remove(0);
    answer(&mut host, stream, &forwarded, 404, json!({ "error": "not-found", "detail": "no such city" }));
    assert_eq!(host.reply(exchange).unwrap().body["detail"], "no such city");
}

#[test]
fn events_reach_those_who_subscribed_and_no_other_topic_can_be_used() {
    // 004-32, 004-93
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1 }));
    let deaf = host.sign_in("bob");
    assert_eq!(host.post(&client, "subscription", "add", json!({ "topic": "weather" })).response, Some(0));
    let publish = |topic: &str, users: Value| json!({ "topic": topic, "message": "storm", "users": users, "body": { "wind": 9 } });
    assert_eq!(host.say(stream, "plugin", "publish", publish("weather", Value::Null)).unwrap().response, Some(0));
    assert_eq!(host.say(stream, "plugin", "publish", publish("weather", json!(["bob"]))).unwrap().response, Some(0));
    assert_eq!(host.say(stream, "plugin", "publish", publish("tel", Value::Null)).unwrap().response, Some(403));
    let poll = host.poll(&client, None, Some(0));
    let events = host.reply(poll).unwrap().body["events"].clone();
    assert!(events.as_array().unwrap().iter().all(|event| event["topic"] == "weather" && event["body"] == json!({ "wind": 9 })));
    let poll = host.poll(&deaf, None, Some(0));
    assert_eq!(host.reply(poll).unwrap().body["events"], json!([]));
}

#[test]
fn a_killed_plug_in_answers_unavailable_and_touches_nothing_else() {
    // 004-90
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1 }));
    let waiting: Vec<ExchangeId> = (0..3).map(|_| ask(&mut host, &client, json!({}))).collect();
    host.input(Input::Closed(stream));
    for exchange in waiting {
        assert_eq!(host.reply(exchange).unwrap().body["error"], "unavailable");
    }
    assert_eq!(host.post(&client, "weather", "get", json!({})).body["error"], "unavailable");
    assert_eq!(host.post(&client, "tel", "list", json!({})).response, Some(0));
    let again = host.sign_in_with(json!({ "key": "key:gadget:plugin.*" }));
    let stream = host.open(2, Some(&again), None);
    assert_eq!(host.say(stream, "plugin", "register", json!({ "topics": ["weather"], "version": 1 })).unwrap().response, Some(0));
    let exchange = ask(&mut host, &client, json!({}));
    let forwarded = host.events(stream).remove(0);
    answer(&mut host, stream, &forwarded, 0, json!(1));
    assert_eq!(host.reply(exchange).unwrap().body, json!(1));
}

#[test]
fn a_slow_plug_in_costs_its_clients_a_time_out_and_nobody_memory() {
    // 004-101
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1 }));
    let exchange = ask(&mut host, &client, json!({}));
    host.advance(Duration::from_millis(499));
    assert!(host.reply(exchange).is_none());
    host.advance(Duration::from_millis(1));
    let pending = host.reply(exchange).unwrap();
    assert_eq!((pending.response, pending.pending_id), (Some(202), Some(1)));
    host.advance(Duration::from_millis(9500));
    let poll = host.poll(&client, None, Some(0));
    let told = host.reply(poll).unwrap().body["events"][0].clone();
    assert_eq!((&told["body"]["error"], &told["pending-id"]), (&json!("timeout"), &json!(1)));
    let late = host.events(stream).remove(0);
    answer(&mut host, stream, &late, 0, json!("late"));
    assert!(host.replies.is_empty());
    let clients: Vec<_> = (0..5).map(|n| host.sign_in(&format!("u{n}"))).collect();
    let mut refused = 0;
    for round in 0..60 {
        for client in &clients {
            let exchange = ask(&mut host, client, json!({ "round": round }));
            refused += usize::from(host.reply(exchange).is_some_and(|reply| reply.response == Some(503)));
        }
    }
    assert_eq!((host.events(stream).len(), refused), (256, 44));
    let root = host.sign_in("root");
    let listed = host.post(&root, "plugin", "list", json!({}));
    assert_eq!((&listed.body["plugins"][0]["waiting"], &listed.body["plugins"][0]["timeouts"]), (&json!(256), &json!(1)));
}

#[test]
fn a_plug_in_that_floods_is_refused_and_counted() {
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1 }));
    host.post(&client, "subscription", "add", json!({ "topic": "weather" }));
    let publish = json!({ "topic": "weather", "message": "storm" });
    let told: Vec<_> = (0..600).map(|_| host.say(stream, "plugin", "publish", publish.clone()).unwrap().response.unwrap()).collect();
    assert_eq!(
        (told.iter().filter(|response| **response == 0).count(), told.iter().filter(|response| **response == 429).count()),
        (500, 100)
    );
    host.advance(Duration::from_secs(1));
    assert_eq!(host.say(stream, "plugin", "publish", publish).unwrap().response, Some(0));
}

#[test]
fn a_reply_counts_only_from_the_plug_in_that_was_asked() {
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1 }));
    let other = host.sign_in_with(json!({ "key": "key:gadget:plugin.*" }));
    assert_eq!(host.post(&other, "login", "refresh", json!({})).response, Some(0), "a plug-in outlives its token");
    let other = host.open(2, Some(&other), None);
    host.say(other, "plugin", "register", json!({ "topics": ["tides"], "version": 1 }));
    let exchange = ask(&mut host, &client, json!({}));
    let forwarded = host.events(stream).remove(0);
    answer(&mut host, other, &forwarded, 0, json!("forged"));
    let liar = host.open(3, Some(&client), None);
    answer(&mut host, liar, &forwarded, 0, json!("forged"));
    assert!(host.reply(exchange).is_none());
    answer(&mut host, stream, &forwarded, 0, json!("true"));
    assert_eq!(host.reply(exchange).unwrap().body, json!("true"));
}

#[test]
fn json_rpc_becomes_cas() {
    // 004-12
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1, "dialect": "json-rpc" }));
    host.post(&client, "subscription", "add", json!({ "topic": "weather" }));
    let exchange = ask(&mut host, &client, json!({ "city": "Ulm" }));
    let call = host.events(stream).remove(0);
    assert_eq!((&call["method"], &call["params"]["body"]), (&json!("weather.get"), &json!({ "city": "Ulm" })));
    let result = json!({ "jsonrpc": "2.0", "id": call["id"], "result": { "sun": true } });
    host.send(Channel::Stream(stream), Encoding::Json, None, result.to_string().into_bytes());
    assert_eq!(host.reply(exchange).unwrap().body, json!({ "sun": true }));
    let event = json!({ "jsonrpc": "2.0", "method": "weather.storm", "params": { "wind": 9 } });
    host.send(Channel::Stream(stream), Encoding::Json, None, event.to_string().into_bytes());
    let poll = host.poll(&client, None, Some(0));
    assert_eq!(host.reply(poll).unwrap().body["events"][0]["body"], json!({ "wind": 9 }));
}

#[test]
fn registering_needs_the_right_a_stream_and_the_version() {
    // 004-94, 004-95
    let (mut host, stream, client) = with_plugin(json!({ "topics": ["weather"], "version": 1 }));
    let register = json!({ "topics": ["x"], "version": 1 });
    assert_eq!(host.post(&client, "plugin", "register", register.clone()).body["right"], "plugin.register");
    assert_eq!(host.say(stream, "plugin", "register", json!({ "topics": ["x"], "version": 2 })).unwrap().body["field"], "version");
    assert_eq!(
        host.say(stream, "plugin", "register", json!({ "topics": ["tel"], "version": 1 })).unwrap().body["error"],
        "restricted-topic"
    );
    let root = host.sign_in("root");
    assert_eq!(host.post(&root, "plugin", "register", register.clone()).response, Some(400));
    assert_eq!(host.post(&client, "x", "get", json!({})).body["error"], "no-provider");
    let rights = Rights { exceptions: [(Pattern::parse("weather.*").unwrap(), Reach::None)].into(), ..Rights::default() };
    host.input(Input::Rights { user: user("ann"), rights: rights.into() });
    assert_eq!(host.post(&client, "weather", "get", json!({})).body["right"], "weather.get");
}
