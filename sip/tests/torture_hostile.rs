//! What attackers send, at the level of the message layer (rows S7, S8 and S9 of the threat table): counts, lengths, numbers, NULs and
//! bytes that are no text. Time is measured by `cargo bench -p sip -- scaling`, not asserted here.

use bytes::Bytes;
use sip::message::header::{CSeq, Params, RAck, SessionExpires};
use sip::message::parse::parse;
use sip::message::{Headers, MAX_MESSAGE, Name, NameAddr, ParseError, Via};
use sip::{Message, Request, Response, StatusCode};

const HEAD: &str = "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";
const ROWS: usize = 5;

fn with(rows: impl AsRef<[u8]>) -> Result<Message, ParseError> {
    parse([HEAD.as_bytes(), rows.as_ref(), b"\r\n"].concat().into())
}

fn request(rows: impl AsRef<[u8]>) -> Request {
    match with(rows) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// The status of a refusal, from which an answer can be made.
fn refusal(rows: impl AsRef<[u8]>) -> u16 {
    match with(rows) {
        Err(ParseError::Refused { status, headers, .. }) => {
            assert!(Response::to_headers(&headers, status).encode().len() <= MAX_MESSAGE * 3);
            status.code()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_are_counted() {
    // S8
    assert_eq!(request("X: y\r\n".repeat(Headers::MAX - ROWS)).headers.iter().count(), Headers::MAX);
    assert_eq!(refusal("X: y\r\n".repeat(Headers::MAX - ROWS + 1)), 400);
    assert_eq!(refusal("X: y\r\n".repeat(10_000)), 400);
}

#[test]
fn elements_of_a_list_are_counted_over_all_rows() {
    // S8
    let list = |count: usize| format!("Contact: <sip:h>{}\r\nContact: <sip:h>\r\n", ", <sip:h>".repeat(count - 2));
    assert_eq!(request(list(Headers::MAX_LIST)).headers.list::<NameAddr>(Name::Contact).map(|all| all.len()), Ok(Headers::MAX_LIST));
    assert!(request(list(Headers::MAX_LIST + 1)).headers.list::<NameAddr>(Name::Contact).is_err());
    assert!(request(list(6_000)).headers.list::<NameAddr>(Name::Contact).is_err());
    let vias = request("Via: SIP/2.0/UDP h\r\n".repeat(Headers::MAX_LIST));
    assert!(vias.headers.list::<Via>(Name::Via).is_err());
    assert!(vias.headers.first::<Via>(Name::Via).is_ok(), "the first one is enough to answer");
}

#[test]
fn parameters_are_counted() {
    // S8
    let contact = |count: usize| format!("Contact: <sip:a@h{}>{}\r\n", ";a=b".repeat(count), ";c=d".repeat(count));
    assert!(request(contact(Params::MAX)).headers.first::<NameAddr>(Name::Contact).is_ok());
    assert!(request(contact(Params::MAX + 1)).headers.first::<NameAddr>(Name::Contact).is_err());
    assert!(request(contact(8_000)).headers.first::<NameAddr>(Name::Contact).is_err());
    assert!(request(format!("Contact: <sip:a@h>;x={}\r\n", "\"".repeat(60_001))).headers.first::<NameAddr>(Name::Contact).is_err());
}

#[test]
fn one_row_may_fill_the_message_and_no_more() {
    // S8
    let room = MAX_MESSAGE - HEAD.len() - "X-: \r\n\r\n".len();
    let filled = request(format!("X-: {}\r\n", "y".repeat(room)));
    assert_eq!(filled.headers.other("X-").map(<[u8]>::len), Some(room));
    assert!(matches!(with(format!("X-: {}\r\n", "y".repeat(room + 1))), Err(ParseError::NotSip(_))));
    // A name as long as that, and values that are all structure.
    assert_eq!(refusal(format!("{}: y\r\n", "X".repeat(room))), 400);
    for character in ["<", "\"", "\\", ",", ";", ":", "/", "@", "%", "?", "[", " ", "\t"] {
        let many = request(format!("m: {}\r\nRoute: {0}\r\n", character.repeat(20_000))).headers;
        assert!(many.list::<NameAddr>(Name::Contact).is_err(), "{character}");
    }
    assert_eq!(refusal(format!("v: {}\r\n", ",".repeat(20_000))), 400);
    assert!(parse(Bytes::from("\r\n".repeat(40_000))).is_err());
    assert!(parse(Bytes::from(HEAD.replacen(' ', &" ".repeat(60_000), 1) + "\r\n")).is_err());
}

#[test]
fn numbers_have_limits() {
    // S8, S9
    let huge = "9".repeat(15_000);
    for number in ["4294967296", "18446744073709551616", "-1", "+1", "0x1", "1e3", "1 2", "", &huge] {
        for header in ["Content-Length", "Max-Forwards"] {
            assert_eq!(refusal(format!("{header}: {number}\r\n")), 400, "{header}: {number:.20}");
        }
        let odd = request(format!("Expires: {number}\r\nSession-Expires: {number}\r\nRAck: {number} {number} INVITE\r\n")).headers;
        assert!(odd.number(Name::Expires).is_err(), "{number:.20}");
        assert!(odd.typed::<SessionExpires>(Name::SessionExpires).is_err(), "{number:.20}");
        assert!(odd.typed::<RAck>(Name::RAck).is_err(), "{number:.20}");
        assert!(parse(Bytes::from(HEAD.replace("CSeq: 1 ", &format!("CSeq: {number} ")) + "\r\n")).is_err(), "{number:.20}");
    }
    assert_eq!(refusal("Content-Length: 65536\r\n"), 400);
    assert_eq!(request("Max-Forwards: 0000000000000000000000255\r\n").headers.number(Name::MaxForwards), Ok(Some(255)));
}

#[test]
fn bytes_that_are_no_text_are_kept_and_never_trusted() {
    // S8
    let request = request(b"Subject: \xFF\xFE\r\nX-\x61: \xC3\x28\r\nContact: \"\xFF\" <sip:a@h>\r\nRoute: <sip:\xFF@h>\r\n");
    assert_eq!(request.headers.get(Name::Subject), Some(&b"\xFF\xFE"[..]));
    assert_eq!(request.headers.first::<NameAddr>(Name::Contact).unwrap().display_name().as_deref(), Some("\u{FFFD}"));
    assert!(request.headers.first::<NameAddr>(Name::Route).is_err());
    assert!(request.encode().windows(2).any(|w| w == b"\xFF\xFE"));
    for at in 0..HEAD.len() {
        let mut bytes = (HEAD.to_owned() + "\r\n").into_bytes();
        bytes[at] = 0xFF;
        if let Ok(message) = parse(bytes.into()) {
            assert!(parse(message.encode()).is_ok(), "byte {at}");
        }
    }
    // In the places that decide where an answer goes, a byte that is no text is a fault.
    for row in ["From: <sip:a@h>", "CSeq: 1 O", "Call-ID: c", "UDP h", "OPTIONS sip:a"] {
        let at = HEAD.find(row).map(|at| at + row.len() - 1).expect("a row of HEAD");
        let mut bytes = (HEAD.to_owned() + "\r\n").into_bytes();
        bytes[at] = 0xFF;
        assert!(parse(bytes.into()).is_err(), "{row}");
    }
}

#[test]
fn no_row_hides_in_another() {
    // S7
    for rows in [
        "X: a\rRoute: <sip:e>\r\n",
        "X: a\nRoute: <sip:e>\r\n",
        "X: a\0b\r\n",
        "X\0: a\r\n",
        "X Y: a\r\n",
        ": a\r\n",
        "X\r\n",
        "\u{b}X: a\r\n",
    ] {
        assert_eq!(refusal(rows), 400, "{rows:?}");
    }
    let spaced = request("Route  : <sip:r;lr>\r\nrOUTE\t:<sip:s;lr>\r\n");
    assert_eq!(spaced.headers.all(Name::Route).count(), 2);
    let folded = request("Subject: a\r\n Route: <sip:e>\r\n");
    assert!(!folded.headers.has(Name::Route));
    assert!(!folded.encode().windows(8).any(|w| w == b"\r\nRoute:"));
    // What an application gives cannot start a row either.
    let mut ours = Response::new(StatusCode::OK);
    ours.headers.push(Name::Reason, "a\r\nRoute: <sip:e>");
    ours.headers.set(Name::Subject, "a\nRoute: <sip:e>\0");
    ours.headers.push_other("X-Any", "a\rRoute: <sip:e>");
    ours.reason = Bytes::from_static(b"OK\r\nRoute: <sip:e>");
    assert!(!ours.encode().split(|b| *b == b'\n').any(|line| line.starts_with(b"Route")));
}

#[test]
fn a_single_header_that_comes_twice_is_not_chosen_from() {
    // S7
    for row in
        ["From: <sip:x@h>;tag=2", "f: <sip:x@h>", "To: <sip:x@h>", "Call-ID: d", "i: d", "CSeq: 1 OPTIONS", "Content-Length: 0\r\nl: 0"]
    {
        assert_eq!(refusal(format!("{row}\r\n")), 400, "{row}");
    }
    assert!(request("Expires: 1\r\nExpires: 1\r\n").headers.typed::<CSeq>(Name::Expires).is_err());
}
