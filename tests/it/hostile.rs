//! What strangers may not do to the switch as a whole.

use bytes::Bytes;
use serde_json::json;
use sip::Transport::{Tls, Udp};
use sip::message::Name;
use sip::message::parse::parse;
use sip::{Message, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{PATIENCE, Phone, SDP, Switch, TRUNK, switch};
use super::http;

/// The beginning of a TLS record of 512 bytes with a ClientHello, and no more of it.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test]
async fn a_flood_of_half_open_tls_handshakes_is_bounded_and_others_are_served() {
    // S11
    const BOUND: usize = 20;
    switch("[limits]\nconnections_per_address = 20\nhalf_open = \"1s\"\n", async |switch| {
        let address = switch.address(Tls);
        let mut flood = Vec::new();
        for _ in 0..5 * BOUND {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // what was refused may be gone already
            let _ = stream.write_all(HALF_A_HELLO).await;
            flood.push(stream);
        }
        assert_eq!(switch.phone("ann", Udp).await.register(600).await, 200, "beside the flood");
        // all of them end: those beyond the bound at once, the others as half open
        for stream in &mut flood {
            let mut rest = [0; 64];
            timeout(PATIENCE, async { while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {} }).await.unwrap();
        }
        // and there is room again
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(HALF_A_HELLO).await.unwrap();
        assert_eq!(switch.phone("bob", Udp).await.register(600).await, 200);
        assert!(timeout(std::time::Duration::from_millis(100), next.read_u8()).await.is_err(), "it is waited for");
    })
    .await;
}

/// Lets ann call bob, who answers.
async fn in_a_call(switch: &Switch) -> (Phone, Phone, Response) {
    let (mut ann, mut bob) = (switch.phone("ann", Udp).await, switch.phone("bob", Udp).await);
    assert_eq!(bob.register(600).await, 200);
    let invite = ann.invite("bob").await;
    let (answered, invite) = tokio::join!(ann.ask(invite), async {
        let invite = bob.request().await;
        bob.answer(&invite, "200 OK").await;
        invite
    });
    assert_eq!((answered.status.code(), invite.method.as_str()), (200, "INVITE"));
    let ack = ann.within("ACK", &answered);
    ann.send(&ack).await;
    assert_eq!(bob.request().await.method.as_str(), "ACK");
    (ann, bob, answered)
}

fn read(bytes: Bytes) -> Request {
    match parse(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_knows_what_names_a_call_is_not_in_it() {
    // S5, S2
    switch("", async |switch| {
        let (ann, mut bob, answered) = in_a_call(switch).await;
        let mut stranger = ann.moved(switch, "127.0.66.66").await;
        for method in ["INVITE", "BYE", "UPDATE", "REFER", "INFO", "NOTIFY", "PRACK", "MESSAGE", "SUBSCRIBE", "OPTIONS"] {
            let request = stranger.within(method, &answered);
            stranger.send(&request).await;
            assert_eq!(stranger.response().await.status.code(), 407, "{method}");
        }
        // a user, and not the one whose leg it is
        let (bye, bobs) = (read(stranger.within("BYE", &answered)), bob.login());
        assert_eq!(stranger.ask_as(bye, &bobs).await.status.code(), 403);
        // a trunk is nobody's device
        let mut trunk = stranger.moved(switch, TRUNK).await;
        let bye = trunk.within("BYE", &answered);
        trunk.send(&bye).await;
        assert_eq!(trunk.response().await.status.code(), 403);
        // none of it has reached bob, whose own end comes through
        let bye = ann.moved(switch, "127.0.66.1").await.within("BYE", &answered);
        let mut ann = ann;
        ann.send(&bye).await;
        assert_eq!(bob.request().await.method.as_str(), "BYE");
    })
    .await;
}

#[tokio::test]
async fn a_phone_that_moves_in_a_call_proves_who_it_is_and_goes_on() {
    // S5
    switch("", async |switch| {
        let (ann, mut bob, answered) = in_a_call(switch).await;
        let mut moved = ann.moved(switch, "127.0.66.77").await;
        let invite = read(moved.within("INVITE", &answered));
        let mut invite = invite;
        invite.set_body("application/sdp", SDP.into());
        invite.headers.set(Name::ContentLength, SDP.len().to_string());
        let again = moved.ask(invite).await;
        assert_eq!(again.status.code(), 200);
        let ack = moved.within("ACK", &again);
        moved.send(&ack).await;
        // its new address is known now
        let bye = moved.within("BYE", &again);
        moved.send(&bye).await;
        assert_eq!(moved.response().await.status.code(), 200);
        assert_eq!(bob.request().await.method.as_str(), "BYE");
        // and so is that of a registration
        let (ann, mut bob, answered) = in_a_call(switch).await;
        let mut registered = ann.moved(switch, "127.0.66.78").await;
        let register = registered.write("REGISTER", "sip:tandem.test", "<sip:ann@tandem.test>", "", "");
        assert_eq!(registered.ask(register).await.status.code(), 200);
        let bye = registered.within("BYE", &answered);
        registered.send(&bye).await;
        assert_eq!(registered.response().await.status.code(), 200);
        assert_eq!(bob.request().await.method.as_str(), "BYE");
    })
    .await;
}

/// What makes phones answer by themselves.
const AUTO_ANSWER: &str =
    "Alert-Info: <http://127.0.0.1/>;info=alert-autoanswer\r\nCall-Info: <sip:h>;answer-after=0\r\nAnswer-Mode: Auto\r\n";

/// Sends an INVITE for bob, and returns what bob's phone gets.
async fn rung(from: &mut Phone, bob: &mut Phone, more: &str) -> Request {
    rung_while(from, bob, more, async || {}).await
}

async fn rung_while(from: &mut Phone, bob: &mut Phone, more: &str, meanwhile: impl AsyncFnOnce()) -> Request {
    let invite = from.write("INVITE", "sip:bob@tandem.test", "<sip:bob@tandem.test>", more, SDP);
    let (refused, invite) = tokio::join!(from.ask(invite), async {
        let invite = bob.request().await;
        meanwhile().await;
        bob.answer(&invite, "486 Busy Here").await;
        assert_eq!(bob.request().await.method.as_str(), "ACK");
        invite
    });
    assert_eq!(refused.status.code(), 486);
    invite
}

fn has_order(request: &Request) -> bool {
    request.headers.has(Name::AlertInfo) || request.headers.has(Name::CallInfo) || request.headers.other("Answer-Mode").is_some()
}

#[tokio::test]
async fn nobody_but_the_switch_makes_a_phone_answer_by_itself() {
    // S6, S7
    switch("", async |switch| {
        let (mut ann, mut bob) = (switch.phone("ann", Udp).await, switch.phone("bob", Udp).await);
        assert_eq!(bob.register(600).await, 200);
        let mut trunk = switch.phone_at("4930123", Udp, TRUNK).await;
        let invite = rung(&mut ann, &mut bob, AUTO_ANSWER).await;
        assert!(!has_order(&invite), "of a user: {invite:?}");
        let invite = rung(&mut trunk, &mut bob, AUTO_ANSWER).await;
        assert!(!has_order(&invite), "of a trunk: {invite:?}");
    })
    .await;
}

#[tokio::test]
async fn somebody_outside_never_passes_as_one_of_ours() {
    // S6
    let numbers = "[[user]]\nname = \"eve\"\npassword = \"eve-secret\"\nnumbers = [\"501\"]\n[[room]]\nnumber = \"800\"\n";
    switch(numbers, async |switch| {
        let mut bob = switch.phone("bob", Udp).await;
        assert_eq!(bob.register(600).await, 200);
        for (says, host) in [
            ("ann", "peer.invalid"),
            ("501", "peer.invalid"),
            ("800", "peer.invalid"),
            ("boss", "peer.invalid"),
            ("4930123", "tandem.test"),
        ] {
            let mut trunk = switch.phone_at(says, Udp, TRUNK).await;
            let seen = if host == "tandem.test" { says.to_owned() } else { format!("{says}@{host}") };
            let invite = rung_while(&mut trunk, &mut bob, "", async || {
                let list = http::host(switch, "tel", "list", json!({})).await;
                assert_eq!(list["body"]["calls"][0]["parties"][0]["number"], seen.as_str(), "{list}");
            });
            let invite = invite.await;
            for name in [Name::From, Name::PAssertedIdentity] {
                let shown = String::from_utf8_lossy(invite.headers.get(name).unwrap()).into_owned();
                assert!(shown.contains(&format!("sip:{says}@{host}>")), "{shown}");
            }
        }
        let mut trunk = switch.phone_at("ann", Udp, TRUNK).await;
        let message = trunk.write("MESSAGE", "sip:bob@tandem.test", "<sip:bob@tandem.test>", "", "");
        assert_eq!(trunk.ask(message).await.status.code(), 403, "what is sent on as it is cannot be shown as another's");
    })
    .await;
}

#[tokio::test]
async fn a_message_carries_no_order_and_no_claim() {
    // S6, S7
    const CLAIMS: [&str; 10] = [
        "Referred-By",
        "Alert-Info",
        "Call-Info",
        "Path",
        "Service-Route",
        "Record-Route",
        "Diversion",
        "History-Info",
        "Remote-Party-ID",
        "P-Preferred-Identity",
    ];
    switch("", async |switch| {
        let (mut ann, mut bob) = (switch.phone("ann", Udp).await, switch.phone("bob", Udp).await);
        assert_eq!(bob.register(600).await, 200);
        let mut more: String = CLAIMS.iter().map(|name| format!("{name}: <sip:ceo@tandem.test>\r\n")).collect();
        more += "identity: ceo\r\nAnswer-Mode: Auto\r\nPriority: urgent\r\n";
        let message = ann.write("MESSAGE", "sip:bob@tandem.test", "<sip:bob@tandem.test>", &more, "");
        let (answered, message) = tokio::join!(ann.ask(message), async {
            let message = bob.request().await;
            bob.answer(&message, "200 OK").await;
            message
        });
        let text = String::from_utf8_lossy(&message.encode()).to_lowercase();
        assert_eq!(answered.status.code(), 200);
        assert!(!text.contains("ceo") && !text.contains("answer-mode") && text.contains("priority: urgent"), "{text}");
        assert!(text.contains("p-asserted-identity: <sip:ann@tandem.test>"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_a_stranger_is_hardly_longer_than_what_it_asked() {
    // S11: the shortest requests there are; a challenge has realm and nonce to say, which no request has
    switch("", async |switch| {
        let mut stranger = switch.phone("eve", Udp).await;
        for (method, most) in [("OPTIONS", 2), ("INVITE", 3)] {
            let request = format!(
                "{method} sip:tandem.test SIP/2.0\r\nv:SIP/2.0/UDP {};branch=z9hG4bK{method}\r\nf:<sip:a@b>;tag=1\r\nt:<sip:tandem.test>\r\n\
                 i:{method}\r\nCSeq:1 {method}\r\n\r\n",
                stranger.local
            );
            stranger.send(request.as_bytes()).await;
            let answer = stranger.raw().await.unwrap();
            assert!(answer.len() <= most * request.len(), "{} to {}: {answer:?}", answer.len(), request.len());
        }
    })
    .await;
}
