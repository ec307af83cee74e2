//! `sip::digest` on both sides: no credentials that were not made with the password pass, each challenge of ours can be read and
//! answered, and what we answer to any challenge is a request that can be read (S12).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Instant;

use bytes::Bytes;
use sip::digest::{Answered, Challenger, Ha1, Login, Policy, Side, Stale, Standing, Verdict, answer};
use sip::message::parse::parse;
use sip::{Message, Method, Request, Response, Uri};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Tries one message: a request's credentials, or a response's challenge.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    match parse(Bytes::copy_from_slice(data)) {
        Ok(Message::Request(request)) => server(&request),
        Ok(Message::Response(response)) => client(&response),
        Err(_) => false,
    }
}

/// Virtual time begins somewhere.
#[expect(clippy::disallowed_methods, reason = "there is no other way to make an Instant; its value does not matter")]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn server(request: &Request) -> bool {
    let mut challenger = Challenger::new([7; 32], "tandem.test", Policy::default(), start());
    let ha1 = Ha1::new("bob", "tandem.test", "a password that no input can know");
    let mut found = false;
    for side in [Side::Server, Side::Proxy] {
        if let Ok(Some(credentials)) = challenger.credentials(request, side) {
            found = true;
            let verdict = challenger.verify(start(), request, &credentials, Some(&ha1), SOURCE, Standing::Registered);
            assert_ne!(verdict, Verdict::Ok);
            let verdict = challenger.verify(start(), request, &credentials, None, SOURCE, Standing::Registered);
            assert_ne!(verdict, Verdict::Ok);
        }
        let printed = challenger.challenge(start(), request, side, SOURCE, 1, Stale::No).encode();
        assert!(matches!(parse(printed), Ok(Message::Response(_))), "a challenge can be read");
    }
    found
}

fn client(response: &Response) -> bool {
    let login = Login { username: "b\"o\\b".into(), password: "secret".into(), realm: None };
    let uri = Uri::parse(&"sip:tandem.test".into()).expect("a URI");
    let mut request = Request::new(Method::Register, uri);
    request.headers.copy_where(&response.headers, |name| Response::to_headers(&response.headers, response.status).headers.has(name));
    let mut answered = Answered::default();
    for _ in 0..=Answered::MAX {
        if answer(&mut answered, &login, response, &mut request, "cnonce").is_err() {
            break;
        }
    }
    let credentials = request.encode().windows(20).any(|w| w == b"Authorization: Diges");
    assert!(answer(&mut answered, &login, response, &mut request, "cnonce").is_err(), "the same challenge is answered once");
    let rows = |name: &[u8]| request.headers.iter().filter(|(n, _)| *n == name).count();
    assert!(rows(b"Authorization") <= 16 && rows(b"Proxy-Authorization") <= 16);
    assert!(request.headers.iter().all(|(_, value)| !value.contains(&b'\n')));
    credentials
}
