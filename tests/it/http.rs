//! CAS on the whole switch: logins, rights, events, plug-ins, and what attackers do to management interfaces.

use std::time::Duration;

use cas::permission::Reach;
use cas::topic::Operation;
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sip::message::Name;
use sip::message::parse::parse;
use sip::{Method, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::harness::{HOME, PATIENCE, Phone, Switch, switch, try_switch};
use super::web::{Client, exchange, message, open, post, read_answer};

const WEB: &str = "[http]\nlisten = [\"127.0.66.1:0\"]\nplain = true\n";

fn web(switch: &Switch) -> std::net::SocketAddr {
    switch.address(Transport::Ws)
}

/// Asks over the host's own socket, as the administrator.
pub(crate) async fn host(switch: &Switch, topic: &str, name: &str, body: Value) -> Value {
    let stream = UnixStream::connect(switch.data().join("tandem.sock")).await.unwrap();
    exchange(stream, &post(None, "Prefer: wait=20\r\n", message(topic, name, body).to_string().as_bytes())).await.json()
}

fn ok(reply: &Value) -> &Value {
    assert_eq!(reply["response"], 0, "{reply}");
    &reply["body"]
}

#[tokio::test]
async fn a_user_added_over_the_hosts_socket_signs_in_and_registers_at_once_and_not_any_more_when_removed() {
    switch(WEB, async |switch| {
        ok(&host(switch, "admin", "add-user", json!({ "user": "eve", "password": "eve-secret", "numbers": ["777"] })).await);
        assert_eq!(host(switch, "admin", "add-user", json!({ "user": "eve", "password": "x" })).await["response"], 409);
        let mut phone = switch.phone("eve", Transport::Udp).await;
        let mut mobile = switch.phone("eve", Transport::Tcp).await;
        assert_eq!((phone.register(600).await, mobile.register(600).await), (200, 200));
        assert_eq!(ok(&host(switch, "admin", "status", json!({})).await)["devices"], 2);
        assert_eq!(mobile.register(0).await, 200);
        let eve = Client::sign_in(web(switch), "eve").await;
        // another password: what registered with the old one does not ring on, after a restart neither
        ok(&host(switch, "admin", "set-user", json!({ "user": "eve", "name": "Eve" })).await);
        let devices = async || ok(&host(switch, "admin", "list-devices", json!({ "user": "eve" })).await)["devices"].clone();
        assert_eq!(devices().await.as_array().unwrap().len(), 1);
        ok(&host(switch, "admin", "set-user", json!({ "user": "eve", "password": "eve-secret" })).await);
        assert_eq!(devices().await, json!([]));
        assert_eq!(eve.ask("login", "refresh", json!({})).await["response"], 401);
        let eve = Client::sign_in(web(switch), "eve").await;
        assert_eq!(phone.register(600).await, 200);
        let devices = eve.ask("admin", "list-devices", json!({})).await;
        assert_eq!(ok(&devices)["devices"][0]["user"], "eve");
        let device = ok(&devices)["devices"][0]["device"].clone();
        ok(&eve.ask("admin", "remove-device", json!({ "device": device })).await);
        assert_eq!(ok(&eve.ask("admin", "list-devices", json!({})).await)["devices"], json!([]));
        ok(&host(switch, "admin", "remove-user", json!({ "user": "eve" })).await);
        assert_eq!(eve.ask("login", "refresh", json!({})).await["response"], 401);
        // a stranger is challenged, again and again
        let register = phone.write("REGISTER", "sip:tandem.test", "<sip:eve@tandem.test>", "Expires: 600\r\n", "");
        phone.send(&register.encode()).await;
        assert_eq!(phone.response().await.status.code(), 401);
    })
    .await;
}

/// Removes eve, and adds another person of that name.
async fn replace_eve(switch: &Switch) -> Client {
    ok(&host(switch, "admin", "remove-user", json!({ "user": "eve" })).await);
    ok(&host(switch, "admin", "add-user", json!({ "user": "eve", "password": "eve-secret" })).await);
    Client::sign_in(web(switch), "eve").await
}

#[tokio::test]
async fn a_removed_user_is_out_of_their_calls_and_who_has_the_name_next_inherits_nothing() {
    // S5
    switch(WEB, async |switch| {
        ok(&host(switch, "admin", "add-user", json!({ "user": "eve", "password": "eve-secret", "name": "Eve Real" })).await);
        let (mut eve, mut bob) = (switch.phone("eve", Transport::Udp).await, switch.phone("bob", Transport::Udp).await);
        assert_eq!((eve.register(600).await, bob.register(600).await), (200, 200));
        // a call that is over, with a note; the caller is who the administrator says, whatever the phone says
        let mut mobile = switch.phone("eve", Transport::Tcp).await;
        let mut invite = mobile.invite("bob").await;
        invite.headers.set(Name::From, "\"CEO\" <sip:eve@tandem.test>;tag=eve");
        let (refused, ()) = tokio::join!(mobile.ask(invite), async {
            let invite = bob.request().await;
            assert!(invite.headers.get_text(Name::From).unwrap().starts_with("\"Eve Real\" <sip:eve@tandem.test>"), "{invite:?}");
            bob.answer(&invite, "486 Busy Here").await;
            assert_eq!(bob.request().await.method.as_str(), "ACK");
        });
        assert_eq!(refused.status.code(), 486);
        let first = Client::sign_in(web(switch), "eve").await;
        let list = first.ask("history", "list", json!({})).await;
        let over = ok(&list)["entries"][0].clone();
        ok(&first.ask("history", "note", json!({ "entry": over["id"], "text": "mine" })).await);
        // and one that goes on
        let answered = talk(&mut eve, &mut bob).await;
        let bobs = Client::sign_in(web(switch), "bob").await;
        let mut events = bobs.socket(None).await;
        let call = ok(&first.ask("tel", "list", json!({})).await)["calls"][0]["id"].clone();
        let second = replace_eve(switch).await;
        for phone in [&mut eve, &mut bob] {
            let bye = phone.request().await;
            assert_eq!(bye.method.as_str(), "BYE");
            phone.answer(&bye, "200 OK").await;
        }
        let ended = events.event("tel").await;
        assert_eq!(ended["body"]["call"]["why"], "the user was removed", "{ended}");
        for method in ["REFER", "INVITE"] {
            let sip::Message::Request(mut request) = parse(eve.within(method, &answered)).unwrap() else { panic!("a request") };
            request.headers.push(Name::ReferTo, "<sip:ann@tandem.test>");
            eve.send(&request.encode()).await;
            assert_eq!(eve.response().await.status.code(), 481, "{method}");
        }
        assert_eq!(ok(&second.ask("tel", "list", json!({})).await)["calls"], json!([]));
        assert_eq!(ok(&second.ask("history", "list", json!({})).await)["entries"], json!([]));
        for call in [&call, &over["call"]] {
            for message in ["why", "show", "drop"] {
                assert_ne!(second.ask("tel", message, json!({ "call": call })).await["response"], 0, "{message}");
            }
            ok(&bobs.ask("tel", "why", json!({ "call": call })).await);
        }
        let entries = bobs.ask("history", "list", json!({})).await;
        let names: Vec<&Value> = ok(&entries)["entries"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
        assert_eq!(names, ["Eve Real", "Eve Real"]);
    })
    .await;
}

#[tokio::test]
async fn an_api_key_signs_in_with_its_scopes_and_ends_with_its_removal() {
    switch(WEB, async |switch| {
        let made = host(switch, "admin", "add-key", json!({ "key": "crm", "user": "ann", "scopes": ["history.*"] })).await;
        let secret = ok(&made)["secret"].clone();
        let mut client = Client { address: web(switch), token: None };
        let login = client.ask("login", "login", json!({ "key": secret })).await;
        client.token = Some(ok(&login)["token"].as_str().unwrap().to_owned());
        ok(&client.ask("history", "list", json!({})).await);
        assert_eq!(client.ask("tel", "list", json!({})).await["body"]["right"], "tel.list");
        ok(&host(switch, "admin", "remove-key", json!({ "key": "crm" })).await);
        assert_eq!(client.ask("history", "list", json!({})).await["response"], 401);
        let again = Client { address: web(switch), token: None }.ask("login", "login", json!({ "key": secret })).await;
        assert_eq!(again["body"]["error"], "wrong-credentials");
    })
    .await;
}

#[tokio::test]
async fn a_call_is_seen_as_it_comes_and_goes_and_is_in_both_histories() {
    switch(WEB, async |switch| {
        let (mut ann, mut bob) = (switch.phone("ann", Transport::Udp).await, switch.phone("bob", Transport::Udp).await);
        assert_eq!((ann.register(600).await, bob.register(600).await), (200, 200));
        let client = Client::sign_in(web(switch), "bob").await;
        let mut events = client.socket(None).await;
        ok(&events.ask("subscription", "add", json!({ "topic": "history" })).await);
        let invite = ann.invite("bob").await;
        let calling = async { ann.ask(invite).await };
        let ringing = async {
            let invite = bob.request().await;
            bob.answer(&invite, "180 Ringing").await;
            let event = events.event("tel").await;
            assert_eq!((&event["message"], &event["body"]["call"]["state"]), (&json!("ringing"), &json!("ringing")));
            bob.answer(&invite, "486 Busy Here").await;
            event
        };
        let (answer, event) = tokio::join!(calling, ringing);
        assert_eq!(answer.status.code(), 486);
        let call = event["body"]["call"]["id"].clone();
        let ended = loop {
            let event = events.event("tel").await;
            if event["message"] == "ended" {
                break event;
            }
        };
        assert_eq!(ended["body"]["call"]["actions"], json!([]));
        let added = events.event("history").await;
        assert_eq!((&added["body"]["entry"]["kind"], &added["body"]["entry"]["number"]), (&json!("missed"), &json!("ann")));
        let why = client.ask("tel", "why", json!({ "call": call })).await;
        assert!(ok(&why)["why"].as_str().unwrap().len() > 5, "{why}");
        let placed = Client::sign_in(web(switch), "ann").await.ask("history", "list", json!({})).await;
        assert_eq!(ok(&placed)["entries"][0]["kind"], "placed");
        let entry = added["body"]["entry"]["id"].clone();
        ok(&client.ask("history", "note", json!({ "entry": entry, "text": "call back" })).await);
        assert_eq!(ok(&client.ask("history", "list", json!({})).await)["entries"][0]["note"], "call back");
        let changed = events.event("history").await;
        assert_eq!((&changed["message"], &changed["body"]["entry"]["note"]), (&json!("changed"), &json!("call back")));
        ok(&client.ask("history", "delete", json!({ "entry": entry })).await);
        let deleted = events.event("history").await;
        assert_eq!((&deleted["message"], &deleted["body"]["entry"]["id"]), (&json!("deleted"), &entry));
        assert_eq!(ok(&client.ask("history", "list", json!({})).await)["entries"], json!([]));
    })
    .await;
}

/// Whether somebody may do an operation at all.
type May = fn(&Operation) -> bool;

/// Whether every login needs it to live.
fn is_vital(operation: &Operation) -> bool {
    let is_one = [("login", "refresh"), ("login", "logout"), ("permission", "get")].contains(&(operation.topic, operation.message));
    is_one || ["event", "bulk", "subscription"].contains(&operation.topic)
}

#[tokio::test]
async fn every_operation_is_decided_alike_for_everybody_over_http_and_websocket() {
    // S15
    switch(WEB, async |switch| {
        for (user, role, taken) in [("app", "application", None), ("eve", "user", Some("tel.*")), ("root", "administrator", None)] {
            ok(&host(switch, "admin", "add-user", json!({ "user": user, "password": format!("{user}-secret") })).await);
            ok(&host(switch, "permission", "set-role", json!({ "user": user, "role": role })).await);
            if let Some(right) = taken {
                ok(&host(switch, "permission", "set", json!({ "user": user, "right": right, "reach": "none" })).await);
            }
        }
        let made = host(switch, "admin", "add-key", json!({ "key": "crm", "user": "root", "scopes": ["history.*", "admin.status"] })).await;
        let mut keyed = Client { address: web(switch), token: None };
        let login = keyed.ask("login", "login", json!({ "key": ok(&made)["secret"] })).await;
        keyed.token = Some(ok(&login)["token"].as_str().unwrap().to_owned());
        let sign_in = async |user| Client::sign_in(web(switch), user).await;
        let may: [(&str, Client, May); 6] = [
            ("nobody", Client { address: web(switch), token: None }, |_| false),
            ("user", sign_in("ann").await, |operation| operation.user != Reach::None),
            ("application", sign_in("app").await, is_vital),
            ("user without a right", sign_in("eve").await, |operation| operation.user != Reach::None && operation.topic != "tel"),
            ("administrator", sign_in("root").await, |_| true),
            ("key", keyed, |operation| {
                operation.topic == "history" || (operation.topic, operation.message) == ("admin", "status") || is_vital(operation)
            }),
        ];
        // a field that nobody knows: whoever may is told of it, and nothing is done
        let body = json!({ "user": "bob", "call": "1", "strange": 1 });
        for operation in cas::topic::OPERATIONS.iter().copied().flatten().filter(|operation| operation.message != "login") {
            for (who, client, may) in &may {
                let name = format!("{who} {}.{}", operation.topic, operation.message);
                let by_http = client.ask(operation.topic, operation.message, body.clone()).await;
                let by_socket = client.socket(None).await.ask(operation.topic, operation.message, body.clone()).await;
                let expected = match *who {
                    "nobody" => 401,
                    _ if may(operation) => 400,
                    _ => 403,
                };
                assert_eq!(by_http["response"], expected, "{name}: {by_http}");
                assert_eq!(by_http["body"], by_socket["body"], "{name}");
            }
            let by_host = host(switch, operation.topic, operation.message, body.clone()).await;
            assert_eq!(by_host["response"], 400, "{}.{}", operation.topic, operation.message);
        }
    })
    .await;
}

#[tokio::test]
async fn a_change_of_rights_reaches_a_connected_client_within_a_second() {
    switch(WEB, async |switch| {
        let client = Client::sign_in(web(switch), "ann").await;
        let mut events = client.socket(None).await;
        ok(&events.ask("login", "list", json!({})).await);
        let began = Instant::now();
        ok(&host(switch, "permission", "set", json!({ "user": "ann", "right": "history.list", "reach": "none" })).await);
        let changed = events.event("permission").await;
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(changed["body"]["effective"]["history.list"], "none");
        assert_eq!(client.ask("history", "list", json!({})).await["body"]["right"], "history.list");
    })
    .await;
}

#[tokio::test]
async fn a_thousand_events_arrive_in_order_without_gap_or_repeat_over_broken_connections() {
    switch(WEB, async |switch| {
        let (address, mut plugin) = (web(switch), plugin(switch, "bob").await);
        let client = Client::sign_in(address, "ann").await;
        ok(&client.ask("subscription", "add", json!({ "topic": "weather" })).await);
        let publish = async {
            for number in 0..1000_u32 {
                ok(&plugin.ask("plugin", "publish", json!({ "topic": "weather", "message": "rain", "body": { "number": number } })).await);
                if number % 200 == 199 {
                    // a plug-in has so many events a second
                    let _pause = timeout(Duration::from_millis(500), std::future::pending::<()>()).await;
                }
            }
        };
        let follow = async {
            let (mut last, mut seen) = (0, Vec::new());
            let mut length = 1;
            while seen.len() < 1000 {
                let mut socket = client.socket(Some(last)).await;
                length = length * 7 % 89 + 1; // each connection lasts for another number of events
                for _ in 0..length.min(1000 - seen.len()) {
                    let event = socket.event("weather").await;
                    last = event["sequence-id"].as_u64().unwrap();
                    seen.push(event["body"]["number"].as_u64().unwrap());
                }
            }
            seen
        };
        let ((), seen) = tokio::join!(publish, follow);
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    })
    .await;
}

/// Signs in as a user who may, and registers a topic.
async fn plugin(switch: &Switch, user: &str) -> super::web::Socket {
    for right in ["plugin.register", "plugin.publish"] {
        ok(&host(switch, "permission", "set", json!({ "user": user, "right": right, "reach": "own" })).await);
    }
    let mut plugin = Client::sign_in(web(switch), user).await.socket(None).await;
    ok(&plugin.ask("plugin", "register", json!({ "topics": ["weather"], "version": 1 })).await);
    plugin
}

#[tokio::test]
async fn a_plug_in_serves_requests_and_is_unavailable_when_it_is_gone() {
    switch(WEB, async |switch| {
        let mut plugin = plugin(switch, "bob").await;
        let client = Client::sign_in(web(switch), "ann").await;
        let serve = async {
            let request = plugin.next().await.unwrap();
            assert_eq!(
                (&request["topic"], &request["message"], &request["body"]["town"]),
                (&json!("weather"), &json!("now"), &json!("Bern"))
            );
            let mut reply = request.clone();
            reply["response"] = 0.into();
            reply["body"] = json!({ "sky": "blue" });
            plugin.send(reply.to_string()).await;
            let _unanswered = plugin.next().await.unwrap();
            drop(plugin);
        };
        let asks = async {
            let reply = client.ask("weather", "now", json!({ "town": "Bern" })).await;
            assert_eq!(ok(&reply)["sky"], "blue");
            // it goes away in the middle of a request
            client.ask("weather", "now", json!({ "town": "Bern" })).await
        };
        let ((), reply) = tokio::join!(serve, asks);
        assert_eq!(reply["body"]["error"], "unavailable", "{reply}");
        assert_eq!(client.ask("weather", "now", json!({})).await["body"]["error"], "unavailable");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_nothing_and_delays_nobody() {
    switch(WEB, async |switch| {
        let (address, mut plugin) = (web(switch), plugin(switch, "bob").await);
        let (slow, quick) = (Client::sign_in(address, "ann").await, Client::sign_in(address, "ann").await);
        for client in [&slow, &quick] {
            ok(&client.ask("subscription", "add", json!({ "topic": "weather" })).await);
        }
        let (mut not_read, mut read) = (slow.socket(Some(0)).await, quick.socket(Some(0)).await);
        let text = "x".repeat(40_000); // more than the sockets take
        for number in 0..100 {
            ok(&plugin
                .ask("plugin", "publish", json!({ "topic": "weather", "message": "rain", "body": { "n": number, "text": text } }))
                .await);
            let began = Instant::now();
            assert_eq!(read.event("weather").await["body"]["n"], number);
            assert!(began.elapsed() < Duration::from_secs(1));
        }
        for number in 0..100 {
            assert_eq!(not_read.event("weather").await["body"]["n"], number);
        }
    })
    .await;
}

#[tokio::test]
async fn sizes_are_bounded_before_anybody_is_known_and_before_anything_is_kept() {
    // S9, S11
    switch(WEB, async |switch| {
        let address = web(switch);
        let connect = || async { TcpStream::connect(address).await.unwrap() };
        let stranger = exchange(connect().await, &post(None, "", &vec![b' '; 9000])).await;
        assert_eq!(stranger.status, 413);
        let head = |length: &str| format!("POST /cas HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        for length in ["18446744073709551615", "9000"] {
            let status = exchange(connect().await, head(length).as_bytes()).await.status;
            assert!(matches!(status, 413 | 431), "{length}: {status}");
        }
        for length in ["-1", "18446744073709551616", "1, 2"] {
            assert_eq!(exchange(connect().await, head(length).as_bytes()).await.status, 400, "{length}");
        }
        let chunked = format!("POST /cas HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{}", " ".repeat(9000));
        assert_eq!(exchange(connect().await, chunked.as_bytes()).await.status, 413);
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
        assert!(matches!(exchange(connect().await, long.as_bytes()).await.status, 414 | 431));
        let ann = Client::sign_in(address, "ann").await;
        let token = ann.token.clone();
        let large = exchange(connect().await, &post(token.as_deref(), "", &vec![b' '; cas::message::MAX_MESSAGE + 1])).await;
        assert_eq!(large.status, 413);
        // S10
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(exchange(connect().await, &post(token.as_deref(), "", deep.as_bytes())).await.status, 400);
        let mut socket = open(address, "/cas/events", &[]).await.unwrap();
        socket.send(" ".repeat(9000)).await;
        assert_eq!(socket.next().await, None, "who has not signed in may send as much as a login needs");
    })
    .await;
}

#[tokio::test]
async fn a_websocket_whose_peer_sends_what_cannot_be_read_is_closed_with_the_reason() {
    // S9, RFC 6455 §7.4.1
    switch(WEB, async |switch| {
        let raw = |bytes: &'static [u8], opcode| Message::Frame(Frame::message(bytes, opcode, true));
        for protocol in ["cas", "cas-xml"] {
            for (sent, code) in [
                (Message::text(" ".repeat(cas::message::MAX_MESSAGE + 1)), 1009),
                (raw(b"{\xff}", OpCode::Data(Data::Text)), 1007),
                (raw(b"{}", OpCode::Data(Data::Reserved(3))), 1002),
            ] {
                let headers = [("Sec-WebSocket-Protocol", protocol)];
                let mut socket = open(web(switch), "/cas/events", &headers).await.unwrap().socket;
                socket.send(sent).await.unwrap();
                let frame = loop {
                    match timeout(PATIENCE, socket.next()).await.expect("it ends") {
                        Some(Ok(Message::Close(frame))) => break frame.expect("a reason"),
                        Some(Ok(_)) => {}
                        end => panic!("{code}: {end:?}"),
                    }
                };
                assert_eq!(u16::from(frame.code), code);
                assert!(!frame.reason.is_empty());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_http_refuses_is_in_the_series_of_the_logins_replies() {
    switch(WEB, async |switch| {
        let ann = Client::sign_in(web(switch), "ann").await;
        let asked = ann.ask("tel", "list", json!({})).await["sequence-id"].as_u64().unwrap();
        let stream = TcpStream::connect(web(switch)).await.unwrap();
        let large = exchange(stream, &post(ann.token.as_deref(), "", &vec![b' '; cas::message::MAX_MESSAGE + 1])).await;
        assert_eq!((large.status, large.json()["sequence-id"].as_u64()), (413, Some(asked + 1)));
    })
    .await;
}

#[tokio::test]
async fn a_number_that_would_not_reach_its_user_is_refused_and_names_the_field() {
    switch(WEB, async |switch| {
        for wrong in ["*70", "tel:502", "audio"] {
            let refused = host(switch, "admin", "add-number", json!({ "number": wrong, "user": "ann" })).await;
            assert_eq!((&refused["response"], &refused["body"]["field"]), (&json!(400), &json!("number")), "{wrong}");
            let refused = host(switch, "admin", "add-user", json!({ "user": "eve", "password": "x", "numbers": [wrong] })).await;
            assert_eq!((&refused["response"], &refused["body"]["field"]), (&json!(400), &json!("numbers")), "{wrong}");
        }
        ok(&host(switch, "admin", "add-number", json!({ "number": "+49-731-500", "user": "ann" })).await);
        for (topic, message) in [("tel", "list"), ("admin", "list-devices"), ("history", "list"), ("login", "list")] {
            assert_eq!(host(switch, topic, message, json!({ "user": "nobody" })).await["response"], 404, "{topic}.{message}");
        }
    })
    .await;
}

#[tokio::test]
async fn passwords_cannot_be_guessed_and_a_known_user_looks_like_an_unknown_one() {
    // S11
    let few = format!("{WEB}[limits]\nfailed_logins_per_minute = 3\n");
    switch(&few, async |switch| {
        let client = Client { address: web(switch), token: None };
        let guess = async |user: &str| client.ask("login", "login", json!({ "user": user, "password": "guess" })).await;
        let (known, unknown) = (guess("ann").await, guess("nobody").await);
        assert_eq!(known["body"], unknown["body"]);
        assert_eq!(known["body"]["error"], "wrong-credentials");
        guess("ann").await;
        guess("ann").await;
        assert_eq!(guess("ann").await["body"]["error"], "too-many");
        let right = client.ask("login", "login", json!({ "user": "ann", "password": "ann-secret" })).await;
        assert_eq!(right["body"]["error"], "too-many", "the right one is not tried either");
    })
    .await;
}

#[tokio::test]
async fn a_websocket_is_opened_by_our_pages_and_by_no_others() {
    // S15
    switch(WEB, async |switch| {
        let address = web(switch);
        let own = format!("http://{HOME}:{}", address.port());
        for path in ["/cas/events", "/sip"] {
            let protocol = ("sec-websocket-protocol", if path == "/sip" { "sip" } else { "cas" });
            assert!(open(address, path, &[protocol]).await.is_ok(), "{path}");
            assert!(open(address, path, &[protocol, ("origin", &own)]).await.is_ok(), "{path}");
            for strange in ["http://evil.example", "null", "https://127.0.66.1", "x"] {
                assert_eq!(open(address, path, &[protocol, ("origin", strange)]).await.err(), Some(403), "{path} {strange}");
            }
        }
        assert_eq!(open(address, "/sip", &[]).await.err(), Some(400), "without the subprotocol");
        let answer = Client { address, token: None }.get("/sip").await;
        assert_eq!(answer.status, 426);
    })
    .await;
}

#[tokio::test]
async fn answers_are_as_the_document_says_and_refusals_are_no_pages() {
    // S16
    switch(WEB, async |switch| {
        let client = Client { address: web(switch), token: None };
        let answer = client.get("/cas/events?after=%3Cscript%3E").await;
        assert_eq!(answer.status, 400);
        assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
        let waiting = client.get("/cas/events").await;
        assert_eq!(waiting.status, 401);
        assert!(waiting.head.contains("www-authenticate: bearer"), "{waiting:?}");
        for path in ["/no-such-page", "/cas/", "/cas"] {
            let answer = client.get(path).await;
            assert_eq!(answer.status, if path == "/cas" { 405 } else { 404 });
            assert!(String::from_utf8_lossy(&answer.body).contains("POST /cas"), "{answer:?}");
            assert_eq!(answer.head.contains("allow: "), path == "/cas", "{answer:?}");
        }
        let ask = async |request: &[u8]| exchange(TcpStream::connect(client.address).await.unwrap(), request).await;
        for (hosts, status) in [("", 400), ("Host: x\r\nHost: x\r\n", 400), ("Host: x\r\n", 200)] {
            assert_eq!(ask(format!("GET /health HTTP/1.1\r\n{hosts}\r\n").as_bytes()).await.status, status, "{hosts}");
        }
        assert_eq!(ask(b"GET /health HTTP/1.0\r\n\r\n").await.status, 200);
        for (coding, status) in [("gzip", 415), ("identity", 400)] {
            let answer = ask(&post(None, &format!("Content-Encoding: {coding}\r\n"), b"{")).await;
            assert_eq!((answer.status, answer.head.contains("accept-encoding: identity")), (status, status == 415), "{answer:?}");
        }
        assert_eq!(client.get("/cas/openapi.json").await.json()["openapi"], "3.1.0");
        let page = client.get("/").await;
        assert!(page.head.contains("content-security-policy: default-src 'none'"), "{page:?}");
        for path in ["/health", "/ready"] {
            assert_eq!(client.get(path).await.status, 200, "{path}");
        }
        let xml = "<cas><topic>login</topic><message>login</message><timestamp type=\"number\">1</timestamp>\
                   <sequence-id type=\"number\">1</sequence-id><request-id type=\"number\">1</request-id>\
                   <body type=\"object\"><user>ann</user><password>ann-secret</password></body></cas>";
        let request = post(None, "Content-Type: application/xml\r\n", xml.as_bytes());
        let answer = exchange(TcpStream::connect(client.address).await.unwrap(), &request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains("content-type: application/xml"));
    })
    .await;
}

#[tokio::test]
async fn one_connection_serves_request_after_request_and_events_by_all_three_ways() {
    switch(WEB, async |switch| {
        let (address, mut plugin) = (web(switch), plugin(switch, "bob").await);
        let ann = Client::sign_in(address, "ann").await;
        let token = ann.token.clone().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            let subscribe = message("subscription", "add", json!({ "topic": "weather" })).to_string();
            stream.write_all(&post(Some(&token), "", subscribe.as_bytes())).await.unwrap();
            assert_eq!(read_answer(&mut stream).await.status, 200);
        }
        let mut events = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /cas/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n");
        events.write_all(head.as_bytes()).await.unwrap();
        ok(&plugin.ask("plugin", "publish", json!({ "topic": "weather", "message": "rain", "body": 5 })).await);
        let mut text = String::new();
        while !text.contains("\n\n") || !text.contains("data: ") {
            let mut chunk = [0; 4096];
            let length = timeout(PATIENCE, events.read(&mut chunk)).await.unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
        assert!(text.contains("text/event-stream") && text.contains("id: 1\n") && text.contains("\"rain\""), "{text}");
        let polled = ann.get("/cas/events?after=0&wait=5").await.json();
        assert_eq!(polled["body"]["events"][0]["message"], "rain");
    })
    .await;
}

/// Lets ann call bob, who answers; returns both phones and the answer that ann got.
async fn talking(switch: &Switch) -> (Phone, Phone, sip::Response) {
    let (mut ann, mut bob) = (switch.phone("ann", Transport::Udp).await, switch.phone("bob", Transport::Udp).await);
    assert_eq!((ann.register(600).await, bob.register(600).await), (200, 200));
    let answered = talk(&mut ann, &mut bob).await;
    (ann, bob, answered)
}

/// Lets a phone call that of bob, who answers; returns the answer.
async fn talk(caller: &mut Phone, bob: &mut Phone) -> sip::Response {
    let invite = caller.invite("bob").await;
    let answering = async {
        let invite = bob.request().await;
        bob.answer(&invite, "200 OK").await;
        assert_eq!(bob.request().await.method.as_str(), "ACK");
    };
    let (answered, ()) = tokio::join!(caller.ask(invite), answering);
    assert_eq!(answered.status.code(), 200);
    let ack = caller.within("ACK", &answered);
    caller.send(&ack).await;
    answered
}

#[tokio::test]
async fn a_call_is_held_resumed_and_dropped_by_an_application_and_its_actions_follow() {
    switch(WEB, async |switch| {
        let client = Client::sign_in(web(switch), "bob").await;
        let (mut ann, mut bob, _) = talking(switch).await;
        let list = client.ask("tel", "list", json!({})).await;
        let call = ok(&list)["calls"][0]["id"].clone();
        let act = async |what: &str| client.ask("tel", what, json!({ "call": call })).await;
        let actions = |reply: &Value| ok(reply)["call"]["actions"].as_array().unwrap().clone();
        let held = act("hold").await;
        assert!(actions(&held).contains(&json!("resume")) && !actions(&held).contains(&json!("hold")), "{held}");
        assert_eq!(act("hold").await["body"]["error"], "not-now");
        let graph = client.ask("graph", "get", json!({ "call": call })).await;
        assert_eq!(ok(&graph)["edges"].as_array().unwrap().len(), 2, "{graph}");
        assert!(actions(&act("resume").await).contains(&json!("hold")));
        let nowhere = client.ask("tel", "move", json!({ "call": call, "device": "nowhere" })).await;
        assert_eq!(nowhere["body"]["error"], "not-found", "{nowhere}");
        assert_eq!(ok(&act("drop").await)["call"]["state"], "ended");
        for phone in [&mut ann, &mut bob] {
            let mut request = phone.request().await;
            while request.method == Method::Invite {
                request = phone.request().await; // who was on hold was offered that
            }
            assert_eq!(request.method, Method::Bye);
        }
        let why = act("why").await;
        assert!(ok(&why)["why"].as_str().unwrap().contains("by command"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn a_stranger_to_a_call_neither_sees_nor_drops_it() {
    // S15
    switch(WEB, async |switch| {
        let (_ann, _bob, _) = talking(switch).await;
        let call = ok(&host(switch, "tel", "list", json!({})).await)["calls"][0]["id"].clone();
        ok(&host(switch, "admin", "add-user", json!({ "user": "eve", "password": "eve-secret" })).await);
        let eve = Client::sign_in(web(switch), "eve").await;
        assert_eq!(ok(&eve.ask("tel", "list", json!({})).await)["calls"], json!([]));
        for message in ["show", "why", "drop", "hold"] {
            assert_eq!(eve.ask("tel", message, json!({ "call": call })).await["response"], 403, "{message}");
        }
        assert_eq!(eve.ask("tel", "drop", json!({ "call": call, "user": "ann" })).await["response"], 403);
        ok(&host(switch, "tel", "drop", json!({ "call": call, "user": "ann" })).await);
    })
    .await;
}

#[tokio::test]
async fn a_switch_that_drains_refuses_new_calls_keeps_those_it_has_and_ends_with_the_last() {
    let ended = try_switch(WEB, async |switch| {
        let (mut ann, mut bob, answered) = talking(switch).await;
        let client = Client { address: web(switch), token: None };
        assert_eq!(client.get("/ready").await.status, 200);
        let drained = host(switch, "admin", "drain", json!({})).await;
        assert_eq!((&ok(&drained)["draining"], &ok(&drained)["calls"]), (&json!(true), &json!(1)));
        assert_eq!((client.get("/ready").await.status, client.get("/health").await.status), (503, 200));
        let mut third = switch.phone("bob", Transport::Udp).await;
        let invite = third.invite("ann").await;
        let refused = third.ask(invite).await;
        assert_eq!(refused.status.code(), 503);
        let bye = ann.within("BYE", &answered);
        ann.send(&bye).await;
        assert_eq!(ann.response().await.status.code(), 200);
        let request = bob.request().await;
        bob.answer(&request, "200 OK").await;
        std::future::pending::<()>().await;
    })
    .await;
    assert!(ended.unwrap_err().is::<tandem::app::Drained>());
}

#[tokio::test]
async fn the_figures_are_for_the_host_and_count_what_happened() {
    switch(WEB, async |switch| {
        let (_ann, _bob, _) = talking(switch).await;
        let client = Client { address: web(switch), token: None };
        let figures = String::from_utf8(client.get("/metrics").await.body).unwrap();
        for line in [
            "tandem_calls 1",
            "tandem_users_registered 2",
            "# TYPE tandem_loop_turn_seconds histogram",
            "tandem_registrations_total ",
            "tandem_media_thread_ports{thread=\"0\"} ",
        ] {
            assert!(figures.contains(line), "{line}: {figures}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_user_says_and_does_is_seen_by_who_watches() {
    switch(WEB, async |switch| {
        let (ann, bob) = (Client::sign_in(web(switch), "ann").await, Client::sign_in(web(switch), "bob").await);
        let mut events = ann.socket(None).await;
        let seen = events.ask("presence", "get", json!({ "users": ["bob"], "subscribe": true })).await;
        assert_eq!(ok(&seen)["users"][0]["presence"]["telephony"], "offline");
        let mut phone = switch.phone("bob", Transport::Udp).await;
        assert_eq!(phone.register(600).await, 200);
        assert_eq!(events.event("presence").await["body"]["presence"]["telephony"], "idle");
        ok(&bob.ask("presence", "set", json!({ "status": "busy", "note": "back at two" })).await);
        assert_eq!(events.event("presence").await["body"]["presence"]["note"], "back at two");
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_dawdles_is_closed_whatever_it_has_begun() {
    // S11
    let hasty = format!("{WEB}[limits]\nhalf_open = \"300ms\"\n");
    switch(&hasty, async |switch| {
        let begun: [&[u8]; 3] =
            [b"", b"POST /cas HTTP/1.1\r\nHost: x\r\n", b"POST /cas HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"];
        for begun in begun {
            let mut stream = TcpStream::connect(web(switch)).await.unwrap();
            stream.write_all(begun).await.unwrap();
            let mut told = Vec::new();
            // a reset is an end as well
            let _end = timeout(PATIENCE, stream.read_to_end(&mut told)).await.expect("it is closed");
            assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&told));
        }
        // HTTP/2: settings, and POST /cas whose body does not come
        let mut stream = TcpStream::connect(web(switch)).await.unwrap();
        let request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x0b\x01\x04\0\0\0\x01\x83\x86\x04\x04/cas\x01\x01x";
        stream.write_all(request).await.unwrap();
        let since = Instant::now();
        let _end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it is closed");
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    })
    .await;
}

#[tokio::test]
async fn the_web_is_encrypted_unless_it_is_told_not_to_be_and_speaks_both_versions() {
    switch("[http]\nlisten = [\"127.0.66.1:0\"]\n", async |switch| {
        let address = switch.address(Transport::Wss);
        let certificate = CertificateDer::from_pem_file(switch.data().join("self-signed.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let (_, own) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        let validity = own.validity();
        assert!(validity.is_valid() && validity.not_after.timestamp() - validity.not_before.timestamp() == 3651 * 86_400);
        roots.add(certificate).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        for versions in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1"]] {
            config.alpn_protocols = versions.iter().map(|version| version.to_vec()).collect();
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config.clone()));
            let stream = TcpStream::connect(address).await.unwrap();
            let mut stream = connector.connect(address.ip().into(), stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), versions.first().copied());
            if versions.len() == 1 {
                stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
                assert_eq!(read_answer(&mut stream).await.status, 200);
            }
        }
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut told = Vec::new();
        let _end = timeout(PATIENCE, plain.read_to_end(&mut told)).await.expect("it is closed");
        assert!(!told.starts_with(b"HTTP"));
    })
    .await;
}
