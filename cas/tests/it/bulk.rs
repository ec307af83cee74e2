//! Several requests in one message.

use std::time::Duration;

use cas::message::Encoding;
use serde_json::{Value, json};

use crate::host::{Host, bytes, once};

fn request(number: u64, topic: &str, message: &str, body: Value) -> Value {
    json!({ "topic": topic, "message": message, "timestamp": 1, "sequence-id": number, "request-id": number, "body": body })
}

fn five() -> Vec<Value> {
    vec![
        request(1, "presence", "get", json!({ "users": ["bob"] })),
        request(2, "history", "list", json!({})),
        request(3, "admin", "status", json!({})),
        request(4, "tel", "make-call", json!({ "destination": "501" })),
        request(5, "tel", "list", json!({})),
    ]
}

fn responses(replies: &Value) -> Vec<(u64, u64)> {
    let pair = |reply: &Value| (reply["request-id"].as_u64().unwrap_or_default(), reply["response"].as_u64().unwrap());
    replies.as_array().unwrap().iter().map(pair).collect()
}

#[test]
fn a_bulk_reply_has_every_reply_in_order_and_one_bad_request_spoils_none() {
    // 004-80, 004-81, 004-82, 004-83
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let reply = host.post(&token, "bulk", "bulk", json!({ "requests": five() }));
    assert_eq!(responses(&reply.body["replies"]), [(1, 0), (2, 0), (3, 403), (4, 202), (5, 0)]);
    let numbers: Vec<u64> = reply.body["replies"].as_array().unwrap().iter().map(|reply| reply["sequence-id"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let poll = host.poll(&token, None, Some(0));
    assert_eq!(host.reply(poll).unwrap().body["events"][0]["request-id"], 4);
}

#[test]
fn a_bulk_waits_for_slow_work_if_asked() {
    // 004-82
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    let exchange = host.send(once(Some(&token)), Encoding::Json, Some("wait=20"), bytes("bulk", "bulk", json!({ "requests": five() })));
    for _ in 0..3 {
        host.work_one();
    }
    assert!(host.reply(exchange).is_none());
    host.work_one();
    assert_eq!(responses(&host.reply(exchange).unwrap().body["replies"]), [(1, 0), (2, 0), (3, 403), (4, 0), (5, 0)]);
    let exchange =
        host.send(once(Some(&token)), Encoding::Json, Some("respond-async"), bytes("bulk", "bulk", json!({ "requests": five() })));
    assert_eq!(responses(&host.reply(exchange).unwrap().body["replies"]), [(1, 202), (2, 202), (3, 403), (4, 202), (5, 202)]);
}

#[test]
fn serial_replies_come_one_by_one_as_they_are_ready() {
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    let stream = host.open(1, Some(&token), None);
    let reply = host.post(&token, "bulk", "bulk", json!({ "requests": five(), "replies": "serial" }));
    assert_eq!(reply.body["pending"], json!([1, 2, 3, 4, 5]));
    let told = |host: &mut Host| {
        host.events(stream).iter().map(|event| (event["pending-id"].clone(), event["response"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut host), [(json!(3), json!(403))]);
    host.work.rotate_left(2);
    host.work_one();
    assert_eq!(told(&mut host), [(json!(4), json!(0))]);
    host.advance(Duration::from_secs(10));
    assert_eq!(told(&mut host), [(json!(1), json!(504)), (json!(2), json!(504)), (json!(5), json!(504))]);
}

#[test]
fn the_largest_bulk_has_room_to_wait() {
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    let requests: Vec<Value> = (1..=100).map(|_| five()[0].clone()).collect();
    let reply = host.post(&token, "bulk", "bulk", json!({ "requests": requests, "replies": "serial" }));
    assert_eq!(reply.body["pending"].as_array().unwrap().len(), 100);
    (0..100).for_each(|_| host.work_one());
    let exchange = host.poll(&token, Some(0), Some(0));
    let events = host.reply(exchange).unwrap().body["events"].clone();
    assert!(events.as_array().is_some_and(|events| events.len() == 100 && events.iter().all(|event| event["response"] == 0)), "{events}");
}

#[test]
fn mixed_replies_come_by_groups() {
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    let stream = host.open(1, Some(&token), None);
    let reply = host.post(&token, "bulk", "bulk", json!({ "requests": five(), "replies": "mixed", "groups": [[3], [4, 0, 1], [2]] }));
    assert_eq!(reply.body["pending"], json!([1, 2, 3]));
    while !host.work.is_empty() {
        host.work_one();
    }
    let events = host.events(stream);
    let told: Vec<_> = events.iter().map(|event| (event["pending-id"].as_u64().unwrap(), responses(&event["body"]["replies"]))).collect();
    assert_eq!(told, [(3, vec![(3, 403)]), (1, vec![(4, 0)]), (2, vec![(1, 0), (2, 0), (5, 0)])]);
}

#[test]
fn what_cannot_be_part_of_a_bulk_is_refused_in_its_place() {
    let mut host = Host::new();
    let token = host.sign_in("ann");
    let requests = vec![
        request(1, "bulk", "bulk", json!({ "requests": five() })),
        request(2, "login", "logout", json!({})),
        request(3, "event", "get-event", json!({})),
        request(4, "login", "login", json!({ "user": "bob", "password": "bob-secret" })),
        json!({ "topic": "tel", "request-id": 5 }),
        json!("x"),
        request(7, "subscription", "list", json!({})),
    ];
    let reply = host.post(&token, "bulk", "bulk", json!({ "requests": requests }));
    assert_eq!(responses(&reply.body["replies"]), [(1, 400), (2, 400), (3, 400), (4, 400), (5, 400), (0, 400), (7, 0)]);
    let nameless = &reply.body["replies"][5];
    assert_eq!((&nameless["topic"], &nameless["message"], nameless.get("request-id")), (&json!("cas"), &json!("error"), None));
    let many = vec![request(1, "tel", "list", json!({})); 101];
    assert_eq!(host.post(&token, "bulk", "bulk", json!({ "requests": many })).response, Some(413));
    assert_eq!(host.post(&token, "bulk", "bulk", json!({ "requests": [] })).response, Some(400));
}

#[test]
fn a_login_that_ends_answers_its_bulks_and_takes_nothing_later() {
    let mut host = Host::new();
    host.lazy = true;
    let (token, root) = (host.sign_in("ann"), host.sign_in("root"));
    let exchange = host.send(once(Some(&token)), Encoding::Json, Some("wait=60"), bytes("bulk", "bulk", json!({ "requests": five() })));
    assert_eq!(host.post(&root, "login", "revoke", json!({ "login": 1 })).response, Some(0));
    assert_eq!(host.reply(exchange).unwrap().response, Some(401));
    while !host.work.is_empty() {
        host.work_one();
    }
    assert!(host.replies.is_empty());
}
