//! `cas`: whatever bytes come, both decoders take them or refuse them; what they take reads the same after either encoding; and a server
//! answers each request once (S9, S10, S16).

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use cas::Token;
use cas::login::Identity;
use cas::message::{Encoding, Message};
use cas::pending::Prefer;
use cas::permission::{Rights, Role};
use cas::server::{Channel, ExchangeId, Input, Output, Peer, Request, Server, Settings};
use cas::text::UserName;

/// Reads a message in the encoding that it begins like.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    if let Ok(header) = std::str::from_utf8(data) {
        let _ = (Encoding::of_content_type(Some(header)), Encoding::of_accept(Some(header), Encoding::Json), Prefer::parse(header));
    }
    let Ok(value) = encoding(data).read(data) else { return false };
    for encoding in [Encoding::Json, Encoding::Xml] {
        let mut out = Vec::new();
        encoding.write(&value, &mut out);
        // What is written is longer than what was read where characters are escaped; only then may it be past the bound.
        if out.len() <= cas::message::MAX_MESSAGE {
            assert_eq!(encoding.read(&out).expect("what is written can be read"), value);
        }
    }
    let Ok(message) = Message::from_value(value) else { return false };
    for encoding in [Encoding::Json, Encoding::Xml] {
        let out = message.clone().encode(encoding);
        if out.len() <= cas::message::MAX_MESSAGE {
            assert_eq!(Message::decode(encoding, &out).expect("what is written can be read"), message);
        }
    }
    true
}

/// Sends a request of an administrator to a server; true where it was taken.
#[must_use]
pub fn served(data: &[u8]) -> bool {
    let now = start();
    let mut server = Server::new(Settings::default(), [1; 32], now, 0);
    let login = br#"{"topic":"login","message":"login","timestamp":1,"sequence-id":1,"request-id":1,"body":{"user":"a","password":"b"}}"#;
    let (replies, _) = ask(&mut server, now, None, login, 0);
    let value = replies.first().and_then(|reply| Encoding::Json.read(reply).ok()).expect("a login is granted");
    let token = Token::shown(value["body"]["token"].as_str().expect("a token"));
    let (replies, works) = ask(&mut server, now, Some(token), data, 1);
    assert!(replies.len() + works > 0 || server.load().polls == 1, "no answer");
    assert!(replies.len() <= 1, "more than one answer");
    let answered = replies.first().and_then(|reply| Message::decode(encoding(reply), reply).ok());
    assert_eq!(answered.is_some(), !replies.is_empty(), "an answer that cannot be read");
    answered.is_none_or(|reply| reply.response.is_some_and(|response| response < 400))
}

fn ask(server: &mut Server, now: Instant, token: Option<Token>, data: &[u8], number: u64) -> (Vec<Vec<u8>>, usize) {
    let content_type = Some(encoding(data).media_type().to_owned());
    let channel = Channel::Once { peer: Peer::Host, token };
    let exchange = ExchangeId(number);
    let body = data.to_vec().into();
    server.handle_input(now, Input::Request(Request { exchange, channel, content_type, accept: None, prefer: None, body }));
    let (mut replies, mut works) = (Vec::new(), 0);
    while let Some(output) = server.poll_output() {
        match output {
            Output::Reply { reply, .. } => replies.push(reply.body.to_vec()),
            Output::Serve { .. } => works += 1,
            Output::Verify { verify, .. } => {
                let user = UserName::parse("a").expect("a name");
                let identity = Identity { user, rights: Arc::new(Rights::of(Role::Administrator)), scopes: None, key: None };
                server.handle_input(now, Input::Verified { verify, identity: Some(identity) });
            }
            Output::Opened(_)
            | Output::Events { .. }
            | Output::Forward { .. }
            | Output::Close { .. }
            | Output::Denied { .. }
            | Output::Abandon(_)
            | Output::LoginOver(_)
            | Output::Away(_)
            | Output::Back(_) => {}
        }
    }
    (replies, works)
}

fn encoding(data: &[u8]) -> Encoding {
    let first = data.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'<') { Encoding::Xml } else { Encoding::Json }
}

#[expect(clippy::disallowed_methods, reason = "time begins somewhere, and does not pass here")]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
