//! Random clients, providers, streams and times: whatever happens, each request is answered once, and what ends leaves nothing.

use std::time::Duration;

use cas::message::Encoding;
use cas::server::{Channel, ExchangeId, Input, StreamId};
use cas::topic::Happening;
use cas::topic::tel::{CallEvent, Change, PartyState, State};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::host::{Host, bytes, call, once};

struct Dice(ChaCha12Rng);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn a_request(dice: &mut Dice) -> Vec<u8> {
    let inner = |topic: &str, message: &str, body: Value| json!({ "topic": topic, "message": message, "timestamp": 1, "sequence-id": 1, "request-id": 1, "body": body });
    let some = [
        ("tel", "make-call", json!({ "destination": "501" })),
        ("tel", "hold", json!({ "call": "9" })),
        ("tel", "list", json!({})),
        ("presence", "get", json!({ "users": ["bob"], "subscribe": true })),
        ("history", "list", json!({})),
        ("subscription", "add", json!({ "topic": "tel" })),
        ("subscription", "delete", json!({ "id": 2 })),
        ("permission", "set", json!({ "user": "ann", "right": "tel.hold", "reach": "own" })),
        ("login", "refresh", json!({})),
        ("login", "logout", json!({})),
        ("login", "revoke", json!({ "login": 2 })),
        ("login", "login", json!({ "user": "ann", "password": "ann-secret" })),
        ("admin", "remove-user", json!({ "user": "bob" })),
        ("event", "get-event", json!({ "wait": 20 })),
        ("plugin", "register", json!({ "topics": ["weather"], "version": 1 })),
        ("plugin", "publish", json!({ "topic": "weather", "message": "x" })),
        ("weather", "get", json!([1])),
        ("nothing", "x", json!(null)),
    ];
    let (topic, message, body) = dice.pick(&some);
    match dice.below(12) {
        0 => {
            let requests: Vec<Value> = (0..dice.below(5)).map(|_| dice.pick(&some).clone()).map(|(t, m, b)| inner(t, m, b)).collect();
            let replies = dice.pick(&["bulk", "serial", "mixed"]);
            let groups = vec![(0..requests.len()).rev().collect::<Vec<_>>()];
            bytes("bulk", "bulk", json!({ "requests": requests, "replies": replies, "groups": groups }))
        }
        1 => json!({ "topic": topic, "message": message, "request-id": dice.below(40), "response": 0, "timestamp": 1, "sequence-id": 1 })
            .to_string()
            .into(),
        2 => {
            let mut bytes = bytes(topic, message, body.clone());
            let at = dice.below(bytes.len());
            bytes[at] = dice.below(256) as u8;
            bytes
        }
        _ => bytes(topic, message, body.clone()),
    }
}

#[test]
fn every_request_is_answered_once_and_what_ends_leaves_nothing() {
    for seed in 0..60 {
        let mut dice = Dice(ChaCha12Rng::seed_from_u64(seed));
        let mut host = Host::new();
        host.lazy = true;
        let names = ["ann", "bob", "root"];
        let mut tokens: Vec<cas::Token> = names.iter().map(|name| host.sign_in(name)).collect();
        let mut asked: Vec<(ExchangeId, Option<StreamId>)> = Vec::new();
        let mut streams = 0;
        for _ in 0..400 {
            match dice.below(10) {
                0 => host.work_one(),
                1 => {
                    let state = *dice.pick(&[PartyState::Connected, PartyState::Held, PartyState::Ringing]);
                    let call = call("9", State::Connected, &[("ann", state), ("bob", PartyState::Connected)]);
                    host.switch.put(call.clone());
                    host.input(Input::Happened(Happening::Tel(CallEvent { change: Change::Changed, call, reaches: Vec::new() })));
                }
                2 => {
                    streams += 1;
                    let token = dice.pick(&tokens).clone();
                    let token = (dice.below(4) > 0).then_some(&token);
                    let stream = host.open(streams, token, None);
                    if dice.below(2) == 0 {
                        host.stuck.push(stream);
                    }
                }
                3 if streams > 0 => host.input(Input::Closed(StreamId(1 + dice.below(streams as usize) as u64))),
                4 => host.advance(Duration::from_millis(dice.below(20_000) as u64)),
                5 if streams > 0 => host.written(StreamId(1 + dice.below(streams as usize) as u64)),
                6 | 7 if streams > 0 => {
                    let stream = StreamId(1 + dice.below(streams as usize) as u64);
                    let request = a_request(&mut dice);
                    asked.push((host.send(Channel::Stream(stream), Encoding::Json, None, request), Some(stream)));
                }
                8 if dice.below(10) == 0 => tokens.push(host.sign_in("ann")),
                _ => {
                    let (token, request) = (dice.pick(&tokens).clone(), a_request(&mut dice));
                    let prefer = *dice.pick(&[None, Some("respond-async"), Some("wait=3")]);
                    asked.push((host.send(once(Some(&token)), Encoding::Json, prefer, request), None));
                }
            }
        }
        host.advance(Duration::from_secs(200));
        for (exchange, stream) in asked {
            let answered = host.replies.remove(&exchange).is_some();
            // A plug-in's reply to a forwarded request is no request: it has no answer.
            assert!(answered || stream.is_some(), "seed {seed}: {exchange:?}");
        }
        for stream in 1..=streams {
            host.input(Input::Closed(StreamId(stream)));
        }
        host.advance(Duration::from_secs(2000));
        assert_eq!(host.server.logins(), 0, "seed {seed}");
        assert_eq!(host.server.poll_timeout(), None, "seed {seed}: {:?}", host.server.load());
        assert_eq!(host.server.load(), cas::server::Load::default(), "seed {seed}");
    }
}

#[test]
fn bytes_of_any_kind_are_answered_and_harm_nothing() {
    // S9, S10, S16
    let mut dice = Dice(ChaCha12Rng::seed_from_u64(1));
    let mut host = Host::new();
    let token = host.sign_in("ann");
    for round in 0..3000 {
        let encoding = if round % 2 == 0 { Encoding::Json } else { Encoding::Xml };
        let mut body =
            if encoding == Encoding::Json { a_request(&mut dice) } else { b"<cas><topic>tel</topic><body>&lt;</body></cas>".to_vec() };
        for _ in 0..dice.below(6) {
            let at = dice.below(body.len());
            match dice.below(3) {
                0 => body[at] = dice.below(256) as u8,
                1 => drop(body.remove(at)),
                _ => body.insert(at, *dice.pick(b"<>&;\"{}[]:,\\\0\xff-09e.")),
            }
        }
        let exchange = host.send(once(Some(&token)), encoding, None, body);
        if let Some(reply) = host.reply(exchange) {
            assert_ne!(reply.response, Some(500));
        }
        if round % 50 == 0 {
            host.sign_in("ann");
        }
    }
}
