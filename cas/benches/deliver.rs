//! What a delivered event costs: an event of a call goes to the logins that subscribed, and each stream's bytes are written.
//! `cargo bench -p cas`. The time is CPU time of the thread.
#![expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use cas::login::Identity;
use cas::message::Encoding;
use cas::permission::Rights;
use cas::server::{Channel, ExchangeId, Input, Open, Output, Peer, Request, Server, Settings, StreamId, Wire, Written};
use cas::text::{CallId, DeviceId, UserName};
use cas::topic::Happening;
use cas::topic::tel::{Call, CallEvent, Carrying, Change, Constructed, How, Media, Party, PartyState, State};
use serde_json::json;

const LOGINS: u64 = 2000;
const EVENTS: u64 = 50_000;

fn main() {
    for (name, everyone) in [("each event to the two parties of a call", false), ("each event to all 2,000 logins", true)] {
        let (mut server, mut written) = (server(everyone), HashMap::new());
        let mut out = Vec::with_capacity(1 << 16);
        let (mut delivered, mut bytes) = (0_u64, 0_usize);
        let events = if everyone { 100 } else { EVENTS };
        let (now, begun) = (Instant::now(), cpu_time());
        for number in 0..events {
            let call = call(number, number * 2 % LOGINS);
            server.handle_input(now, Input::Happened(Happening::Tel(CallEvent { change: Change::Changed, call, reaches: Vec::new() })));
            while let Some(output) = server.poll_output() {
                let Output::Events { stream, frames } = output else { continue };
                for frame in &frames {
                    out.clear();
                    frame.write(Encoding::Json, &mut out);
                    bytes += out.len();
                    delivered += 1;
                }
                let written = written.entry(stream).or_insert_with(Written::default);
                frames.iter().for_each(|frame| written.add(frame));
                if written.is_due() {
                    server.handle_input(now, Input::Written(stream, std::mem::take(written)));
                }
            }
        }
        let each = (cpu_time() - begun) as f64 / 1000.0 / delivered as f64;
        println!("{name}: {each:.2} us for each of {delivered} delivered events of {} bytes", bytes / delivered as usize);
    }
}

/// CPU time of this thread, in nanoseconds.
fn cpu_time() -> u64 {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    figures.split(' ').next().and_then(|figure| figure.parse().ok()).expect("the first figure is the time on the CPU")
}

fn user(number: u64) -> UserName {
    UserName::parse(&format!("user{number}")).expect("a name")
}

fn call(number: u64, first: u64) -> Call {
    let party = |number| Party {
        user: Some(user(number)),
        number: Some(format!("50{number}")),
        name: Some("Somebody".into()),
        state: PartyState::Connected,
        devices: vec![Carrying {
            device: DeviceId::parse("desk-phone").expect("a device"),
            media: vec![Media::Audio],
            application: false,
            ringing: false,
        }],
        muted: Vec::new(),
        silenced: Vec::new(),
        held_at_device: false,
        anonymous: false,
        moderator: false,
        may_film: true,
    };
    Call {
        id: CallId::parse(&format!("{number:016x}")).expect("an id"),
        state: State::Connected,
        parties: vec![party(first), party(first + 1)],
        constructed: Constructed { how: How::Direct, by: None },
        started_at: 1_700_000_000_000,
        answered_at: Some(1_700_000_001_000),
        ended_at: None,
        slot: None,
        room: None,
        locked: false,
        why: None,
        joined: None,
        asks_pin: false,
        conference: false,
        waits: false,
    }
}

/// A server with 2,000 logins, each with a stream. Where everyone hears, each subscribed to a call's first user and may see it.
fn server(everyone: bool) -> Server {
    let now = Instant::now();
    let mut server = Server::new(Settings::default(), [1; 32], now, 1_700_000_000_000);
    let rights = Arc::new(if everyone { Rights::of(cas::permission::Role::Administrator) } else { Rights::default() });
    for number in 0..LOGINS {
        let stream = StreamId(number);
        let peer = Peer::Network { address: [127, 0, 0, 1].into(), wire: Wire::Clear };
        server.handle_input(now, Input::Open(Open { stream, peer, token: None, after: None, encoding: Encoding::Json }));
        say(&mut server, stream, "login", "login", json!({ "user": user(number), "password": "x" }));
        while let Some(output) = server.poll_output() {
            if let Output::Verify { verify, .. } = output {
                let identity = Identity { user: user(number), rights: rights.clone(), scopes: None, key: None };
                server.handle_input(now, Input::Verified { verify, identity: Some(identity) });
            }
        }
        if everyone {
            say(&mut server, stream, "subscription", "add", json!({ "topic": "tel" }));
        }
        while server.poll_output().is_some() {}
    }
    server
}

fn say(server: &mut Server, stream: StreamId, topic: &str, message: &str, body: serde_json::Value) {
    let message = json!({ "topic": topic, "message": message, "timestamp": 1, "sequence-id": 1, "request-id": 1, "body": body });
    let (channel, body) = (Channel::Stream(stream), message.to_string().into_bytes().into());
    let request = Request { exchange: ExchangeId(0), channel, content_type: None, accept: None, prefer: None, body };
    server.handle_input(Instant::now(), Input::Request(request));
}
