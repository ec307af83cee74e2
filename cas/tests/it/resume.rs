//! Events over connections that break: all, in order, no gap, no repeat; and what becomes of clients that do not read.

use std::time::Duration;

use cas::event::MAX_EVENTS;
use cas::server::{Input, MAX_BATCH, StreamId};
use cas::topic::Happening;
use cas::topic::tel::{CallEvent, Change, PartyState, State};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::host::{Host, call};

/// Ann's call number so many changed.
fn event(host: &mut Host, number: usize) {
    let call = call(&number.to_string(), State::Connected, &[("ann", PartyState::Connected)]);
    host.input(Input::Happened(Happening::Tel(CallEvent { change: Change::Changed, call, reaches: Vec::new() })));
}

/// A client that takes each event's number and what it tells.
#[derive(Default)]
struct Client {
    heard: Vec<u64>,
}

impl Client {
    fn last(&self) -> u64 {
        self.heard.last().copied().unwrap_or(0)
    }

    fn hear(&mut self, event: &Value) {
        let number = event["sequence-id"].as_u64().unwrap();
        assert_eq!(event["body"]["call"]["id"], number.to_string(), "each event tells of the call of its own number");
        self.heard.push(number);
    }
}

#[test]
fn a_thousand_events_over_random_reconnects_are_all_heard_once_in_order() {
    // 004-27
    const EVENTS: usize = 1000;
    for seed in 0..20 {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut below = move |limit: u64| random.next_u64() % limit;
        let mut host = Host::new();
        let token = host.sign_in("ann");
        let (mut client, mut told, mut next_stream) = (Client::default(), 0, 0);
        while client.heard.len() < EVENTS {
            for _ in 0..below(8).min((EVENTS - told) as u64) {
                told += 1;
                event(&mut host, told);
            }
            match below(3) {
                // A request that waits, whose reply may be lost on the way.
                0 => {
                    let exchange = host.poll(&token, Some(client.last()), Some(0));
                    let reply = host.reply(exchange).unwrap();
                    if below(3) > 0 {
                        reply.body["events"].as_array().unwrap().iter().for_each(|event| client.hear(event));
                    }
                }
                // A stream that breaks off after some events, with more on the way.
                1 => {
                    next_stream += 1;
                    let stream = host.open(next_stream, Some(&token), Some(client.last()));
                    for _ in 0..below(20).min((EVENTS - told) as u64) {
                        told += 1;
                        event(&mut host, told);
                    }
                    let events = host.events(stream);
                    let arrived = below(events.len() as u64 + 1) as usize;
                    events[..arrived].iter().for_each(|event| client.hear(event));
                    host.input(Input::Closed(stream));
                }
                _ => host.advance(Duration::from_millis(below(1000))),
            }
        }
        assert_eq!(client.heard, (1..=EVENTS as u64).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_client_that_stops_reading_for_a_while_loses_nothing() {
    let mut host = Host::new();
    let (slow, other) = (host.sign_in("ann"), host.sign_in("ann"));
    let (stuck, reading) = (host.open(1, Some(&slow), None), host.open(2, Some(&other), None));
    host.stuck.push(stuck);
    (1..=MAX_EVENTS).for_each(|number| event(&mut host, number));
    assert_eq!(host.events(reading).len(), MAX_EVENTS, "nobody else notices");
    assert_eq!(host.events(stuck).len(), MAX_BATCH, "one batch is under way, no more");
    host.stuck.clear();
    host.written(stuck);
    let heard: Vec<u64> = host.events(stuck).iter().map(|event| event["sequence-id"].as_u64().unwrap()).collect();
    assert_eq!(heard, (MAX_BATCH as u64 + 1..=MAX_EVENTS as u64).collect::<Vec<_>>());
}

#[test]
fn a_client_that_reads_too_late_gets_a_snapshot_and_every_event_since() {
    let mut host = Host::new();
    let token = host.sign_in("ann");
    host.post(&token, "subscription", "add", json!({ "topic": "presence", "users": ["bob"] }));
    host.post(&token, "subscription", "add", json!({ "topic": "history" }));
    host.switch.put(call("now", State::Connected, &[("ann", PartyState::Held)]));
    let stream = host.open(1, Some(&token), None);
    host.stuck.push(stream);
    let last = MAX_EVENTS + MAX_BATCH + 10;
    (1..last - 1).for_each(|number| event(&mut host, number));
    host.post(&token, "tel", "hold", json!({ "call": "none" }));
    event(&mut host, last);
    host.events(stream);
    host.stuck.clear();
    host.lazy = true;
    host.written(stream);
    event(&mut host, last + 1);
    assert!(host.events(stream).is_empty(), "what is newer waits for the snapshot");
    host.work_one();
    let mut events = host.events(stream);
    let reply = events.remove(0);
    assert_eq!((&reply["message"], reply["sequence-id"].as_u64()), (&json!("hold"), Some(last as u64 - 1)), "no snapshot has a reply");
    assert_eq!((&events[0]["message"], events[0]["sequence-id"].as_u64()), (&json!("snapshot"), Some(last as u64)));
    let body = &events[0]["body"];
    assert_eq!((&body["tel"]["calls"][0]["id"], &body["presence"]["users"][0]["user"]), (&json!("now"), &json!("bob")));
    assert_eq!(body["ask"], json!(["history", "permission"]));
    assert!(body["tel"]["calls"][0]["actions"].as_array().unwrap().contains(&json!("resume")));
    assert_eq!(events[1..].iter().map(|event| event["sequence-id"].as_u64().unwrap()).collect::<Vec<_>>(), [last as u64 + 1]);
}

#[test]
fn a_request_after_a_number_that_is_too_old_gets_a_snapshot() {
    let mut host = Host::new();
    let token = host.sign_in("ann");
    (1..=MAX_EVENTS).for_each(|number| event(&mut host, number));
    let ask = |host: &mut Host| drop(host.post(&token, "tel", "hold", json!({ "call": "77" })));
    // a final reply is no state: it comes all the same, before the snapshot or behind it
    ask(&mut host);
    event(&mut host, MAX_EVENTS + 2);
    ask(&mut host);
    let heard = |host: &mut Host, after: u64| {
        let exchange = host.poll(&token, Some(after), Some(0));
        let reply = host.reply(exchange).unwrap();
        let told = reply.body["events"].as_array().unwrap().iter();
        told.map(|event| (event["message"].as_str().unwrap().to_owned(), event["sequence-id"].as_u64().unwrap() - MAX_EVENTS as u64))
            .collect::<Vec<_>>()
    };
    assert_eq!(heard(&mut host, 1), [("hold".to_owned(), 1), ("snapshot".to_owned(), 2)]);
    assert_eq!(heard(&mut host, MAX_EVENTS as u64 + 2), [("hold".to_owned(), 3)]);
}

#[test]
fn a_snapshot_that_cannot_be_had_says_what_to_ask_for() {
    let mut host = Host::new();
    host.lazy = true;
    let token = host.sign_in("ann");
    (1..=MAX_EVENTS + 10).for_each(|number| event(&mut host, number));
    let stream = host.open(1, Some(&token), Some(1));
    assert!(host.events(stream).is_empty());
    host.advance(Duration::from_secs(10));
    let events = host.events(stream);
    assert_eq!((&events[0]["message"], &events[0]["body"]["ask"]), (&json!("snapshot"), &json!(["tel", "presence", "permission"])));
    event(&mut host, MAX_EVENTS + 11);
    assert_eq!(host.events(StreamId(1)).len(), 1);
}
