//! RFC 4475's messages, sent to the whole switch over UDP and TCP by a trunk, a user and a stranger: each gets what the RFC says, and
//! the switch serves on.

use bytes::Bytes;
use fuzz::torture::{Duty, MESSAGES, Torture};
use sip::Message;
use sip::Transport::{self, Tcp, Udp};
use sip::digest::{Answered, answer};
use sip::message::Name;
use sip::message::parse::parse;

use super::harness::{HOME, Phone, Switch, TRUNK, switch_for};

/// The messages are for it, and for its user `user`.
const DOMAIN: &str = "example.com";
const MORE: &str = "[[user]]\nname = \"user\"\npassword = \"user-secret\"\n[limits]\nhalf_open = \"300ms\"\n";

/// Asks for the answer at the port we have (RFC 3581): the messages name hosts and ports of their own.
fn with_rport(message: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = message.to_ascii_lowercase();
    let is_via = |line: &[u8]| line.starts_with(b"via") || line.starts_with(b"v:");
    let mut at = 0;
    while !is_via(&text[at..]) {
        at += text[at..].iter().position(|b| *b == b'\n').expect("a Via") + 1;
    }
    let rest = &text[at..];
    // before the first parameter, the next Via of the row, or the end of the row
    let end = rest.iter().position(|b| matches!(b, b';' | b',')).unwrap_or(rest.len());
    let line = rest.iter().position(|b| *b == b'\r').expect("the end of a row");
    at += if rest.get(line + 2).is_some_and(|b| matches!(b, b' ' | b'\t')) { end } else { end.min(line) };
    [&message[..at], b";rport", &message[at..]].concat()
}

/// Waits for the final answer; none where the connection ends, which it may after a message that cannot be read.
async fn final_answer(phone: &mut Phone) -> Option<Bytes> {
    while let Some(told) = phone.raw().await {
        assert!(told.starts_with(b"SIP/2.0 "), "{told:?}");
        if code(&told) >= 200 {
            return Some(told);
        }
    }
    None
}

/// Returns true if a message is to be dropped: what is sent after it is answered first.
async fn is_dropped(phone: &mut Phone, message: &[u8]) -> bool {
    phone.send(message).await;
    let probe = phone.write("OPTIONS", "sip:example.com", "<sip:example.com>", "", "");
    phone.send(&probe.encode()).await;
    let call_id = probe.headers.get(Name::CallId).unwrap();
    final_answer(phone).await.is_none_or(|told| memchr::memmem::find(&told, call_id).is_some())
}

fn code(response: &[u8]) -> u16 {
    std::str::from_utf8(&response[8..11]).unwrap().parse().unwrap()
}

/// Returns the final status that a message gets, once its sender has proved the password where a registrar asks for it.
async fn status(switch: &Switch, transport: Transport, from: &str, torture: &Torture) -> Option<u16> {
    let mut phone = switch.phone_at("user", transport, from).await;
    let message = if transport == Udp { with_rport(torture.bytes) } else { torture.bytes.to_vec() };
    let no_answer = matches!(torture.duty, Duty::Drop | Duty::OweDrop) || torture.bytes.starts_with(b"SIP/2.0 ");
    if no_answer && is_dropped(&mut phone, &message).await {
        return None;
    }
    if !no_answer {
        phone.send(&message).await;
    }
    let told = final_answer(&mut phone).await?;
    if code(&told) != 401 || torture.name == "regaut01" {
        return Some(code(&told));
    }
    let Ok(Message::Request(mut request)) = parse(Bytes::from(message.clone())) else { panic!("challenged, but no request") };
    let Ok(Message::Response(challenge)) = parse(told) else { panic!("a challenge that cannot be read") };
    answer(&mut Answered::default(), &phone.login(), &challenge, &mut request, "0123456789abcdef").unwrap();
    let row = request.headers.get(Name::Authorization).unwrap();
    let line = message.iter().position(|b| *b == b'\n').unwrap() + 1;
    let proved = [&message[..line], b"Authorization: ", row, b"\r\n", &message[line..]].concat();
    phone.send(&proved).await;
    final_answer(&mut phone).await.map(|told| code(&told))
}

/// A phone of the user that takes no call and says yes to everything else.
async fn answer_all(mut phone: Phone) {
    while let Some(Message::Request(request)) = phone.next().await {
        match request.method.as_str() {
            "ACK" => {}
            "INVITE" => phone.answer(&request, "486 Busy Here").await,
            _ => phone.answer(&request, "200 OK").await,
        }
    }
}

/// What is wrong with an answer, if anything is.
fn fault(torture: &Torture, transport: Transport, from: &str, got: Option<u16>) -> Option<String> {
    let is_response = torture.bytes.starts_with(b"SIP/2.0 ");
    let good = match (torture.name, transport, torture.duty) {
        // where a message ends on a stream is what Content-Length says: one waits for the rest, the other has none
        ("clerr", Tcp, _) => got.is_none(),
        ("inv2543", Tcp, _) => got == Some(400),
        (_, _, Duty::Accept) if is_response => got.is_none(),
        (_, _, Duty::Accept) => got.is_some_and(|status| (200..500).contains(&status) && status != 400 || (600..700).contains(&status)),
        (_, _, Duty::Refuse(status)) => got == Some(status),
        // who it is comes before what is asked for (S5)
        (_, _, Duty::Owe(_)) if from == HOME && got == Some(407) => true,
        (_, _, Duty::Owe(statuses)) => got.is_some_and(|status| statuses.contains(&status)),
        (_, _, Duty::Drop | Duty::OweDrop) => got.is_none(),
    };
    (!good).then(|| format!("{} (§{}) from {from} over {transport}: {:?}, not {got:?}", torture.name, torture.section, torture.duty))
}

/// Sends all of them to one switch. The next one gets a switch of its own: to the same it would be repetitions of the same transactions.
async fn torment(transport: Transport, from: &str) {
    switch_for(DOMAIN, MORE, async |switch| {
        let mut phone = switch.phone("user", Udp).await;
        assert_eq!(phone.register(3600).await, 200);
        let all = async {
            let mut faults = Vec::new();
            for torture in MESSAGES {
                faults.extend(fault(torture, transport, from, status(switch, transport, from, torture).await));
            }
            faults
        };
        let faults = tokio::select! {
            biased;
            faults = all => faults,
            () = answer_all(phone) => unreachable!("the switch serves on"),
        };
        assert!(faults.is_empty(), "{faults:#?}");
        assert_eq!(switch.phone("ann", transport).await.register(600).await, 200);
    })
    .await;
}

#[tokio::test]
async fn a_trunk_gets_what_rfc_4475_says_over_udp() {
    torment(Udp, TRUNK).await;
}

#[tokio::test]
async fn a_trunk_gets_what_rfc_4475_says_over_tcp() {
    torment(Tcp, TRUNK).await;
}

#[tokio::test]
async fn a_phone_gets_what_rfc_4475_says_over_udp() {
    torment(Udp, HOME).await;
}

#[tokio::test]
async fn a_phone_gets_what_rfc_4475_says_over_tcp() {
    torment(Tcp, HOME).await;
}
