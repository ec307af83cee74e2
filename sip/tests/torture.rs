//! RFC 4475 at the level of the message layer: what is valid gives the right values and survives print and parse; what is invalid is
//! refused with the right status and with what is needed to answer. What only a higher layer can refuse is parsed, see the table.

#[path = "common/torture.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate mounts the same file and exports it")]
mod table;

use bytes::Bytes;
use sip::message::header::{Header, Params};
use sip::message::parse::parse;
use sip::message::uri::unescape;
use sip::message::{Headers, Name, NameAddr, ParseError, Scheme, Via};
use sip::{Aor, Message, Method, Request, Response, StatusCode};
use table::{Duty, MESSAGES, Torture};

fn of(name: &str) -> &'static Torture {
    MESSAGES.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no message {name}"))
}

fn read(name: &str) -> Result<Message, ParseError> {
    parse(Bytes::from_static(of(name).bytes))
}

fn request(name: &str) -> Request {
    match read(name) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn response(name: &str) -> Response {
    match read(name) {
        Ok(Message::Response(response)) => response,
        other => panic!("{name}: {other:?}"),
    }
}

fn list<H: Header>(headers: &Headers, name: Name) -> Vec<H> {
    headers.list(name).expect("a well-formed list")
}

fn one(headers: &Headers, name: Name) -> NameAddr {
    headers.typed(name).expect("a well-formed address")
}

fn rows(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
    let known = headers.iter().filter(|(name, _)| *name != b"Content-Length");
    known.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

#[test]
fn every_message_is_handled_as_the_table_says() {
    assert_eq!(MESSAGES.len(), 49);
    for torture in MESSAGES {
        let got = match parse(Bytes::from_static(torture.bytes)) {
            Ok(_) => None,
            Err(ParseError::Refused { status, .. }) => Some(status.code()),
            Err(ParseError::NotSip(_)) => Some(0),
        };
        let wanted = match torture.duty {
            Duty::Accept | Duty::Owe(_) | Duty::OweDrop => None,
            Duty::Refuse(status) => Some(status),
            Duty::Drop => Some(0),
        };
        assert_eq!(got, wanted, "{} (§{}): {}", torture.name, torture.section, torture.choice);
    }
}

#[test]
fn what_is_accepted_survives_print_and_parse() {
    for torture in MESSAGES {
        let Ok(first) = parse(Bytes::from_static(torture.bytes)) else { continue };
        let printed = first.encode();
        let second = parse(printed.clone()).unwrap_or_else(|e| panic!("{}: {e}", torture.name));
        assert_eq!(rows(first.headers()), rows(second.headers()), "{}", torture.name);
        assert_eq!(second.encode(), printed, "{}", torture.name);
        match (first, second) {
            (Message::Request(a), Message::Request(b)) => assert_eq!((a.method, a.uri, a.body), (b.method, b.uri, b.body)),
            (Message::Response(a), Message::Response(b)) => assert_eq!((a.status, a.reason(), &a.body), (b.status, b.reason(), &b.body)),
            (a, b) => panic!("{}: {a:?} became {b:?}", torture.name),
        }
    }
}

#[test]
fn a_refusal_carries_what_is_needed_to_answer() {
    for torture in MESSAGES.iter().filter(|t| matches!(t.duty, Duty::Refuse(_))) {
        let Err(ParseError::Refused { status, headers, method, .. }) = parse(Bytes::from_static(torture.bytes)) else {
            panic!("{} is not refused", torture.name)
        };
        assert!(torture.bytes.starts_with(method.as_bytes()), "{}", torture.name);
        let answer = Response::to_headers(&headers, status);
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            let had: Vec<_> = headers.all(name).collect();
            assert_eq!(answer.headers.all(name).collect::<Vec<_>>(), had, "{}: {name:?}", torture.name);
            let may_miss = torture.name == "insuf" && matches!(name, Name::From | Name::To | Name::CallId);
            assert!(may_miss || !had.is_empty(), "{}: {name:?}", torture.name);
        }
    }
}

#[test]
fn wsinv_folds_and_white_space_change_no_value() {
    let r = request("wsinv");
    let h = &r.headers;
    assert_eq!((r.method, r.uri.user(), r.uri.param("unknownparam")), (Method::Invite, "vivekg", Some("")));
    assert_eq!(one(h, Name::To).tag(), Some("1918181833n"));
    let from = one(h, Name::From);
    assert_eq!((from.display_name().as_deref(), from.tag()), (Some("J Rosenberg \\\""), Some("98asjd8")));
    assert_eq!(h.number(Name::MaxForwards), Ok(Some(68)));
    assert_eq!(h.call_id().unwrap(), "wsinv.ndaksdj@192.0.2.1");
    assert_eq!(h.typed::<sip::message::header::CSeq>(Name::CSeq).unwrap().number, 9);
    assert_eq!(h.get(Name::Subject), Some(&b""[..]));
    assert_eq!(h.other("UnknownHeaderWithUnusualValue"), Some(&b";;,,;;,;"[..]));
    let vias: Vec<Via> = list(h, Name::Via);
    let vias: Vec<_> = vias.iter().map(|v| (&*v.transport, v.host.to_string(), v.branch().unwrap())).collect();
    let wanted =
        [("UDP", "192.0.2.2", "390skdjuw"), ("TCP", "spindle.example.com", "z9hG4bK9ikj8"), ("UDP", "192.168.255.111", "z9hG4bK30239")];
    assert_eq!(vias, wanted.map(|(t, h, b)| (t, h.to_owned(), b)));
    let route = &list::<NameAddr>(h, Name::Route)[0].uri;
    assert!(route.is_loose_router());
    assert_eq!((route.param("unknownwith"), route.param("unknown-no-value")), (Some("value"), Some("")));
    let contact = &list::<NameAddr>(h, Name::Contact)[0];
    assert_eq!(contact.display_name().as_deref(), Some("Quoted string \"\""));
    let params: Vec<_> = contact.params.iter().collect();
    assert_eq!(params, [("newparam", "newvalue"), ("secondparam", ""), ("q", "0.33")]);
    assert_eq!(r.body.len(), 150);
}

#[test]
fn intmeth_every_legal_character_is_kept_and_control_characters_reach_no_name() {
    let r = request("intmeth");
    let h = &r.headers;
    assert_eq!(r.method.as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(r.uri.user(), "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*");
    assert_eq!(r.uri.host().unwrap().to_string(), "example.com");
    assert_eq!(h.first::<Via>(Name::Via).unwrap().branch(), Some("z9hG4bK-.!%66*_+`'~"));
    assert_eq!(one(h, Name::To).display_name().as_deref(), Some("BEL: NUL: DEL:")); // S6
    let from = one(h, Name::From);
    assert_eq!((from.display_name().as_deref(), from.tag()), (Some("token1~` token2'+_ token3*%!.-"), Some("_token~1'+`*%!-.")));
    assert_eq!(from.params.get("fromParam''~+*_!.-%"), Some("\"\u{440}\u{430}\u{431}\u{43e}\u{442}\u{430}\u{44e}\u{449}\u{438}\u{439}\""));
    assert_eq!(h.call_id().unwrap(), "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
    assert_eq!(h.number(Name::MaxForwards), Ok(Some(255)));
    assert_eq!(h.other("extensionHeader-!.%*+_`'~"), Some("\u{feff}\u{5927}\u{505c}\u{96fb}".as_bytes()));
    // The response has To as the request had it, control characters and all (§8.2.6.2).
    let answer = Response::to(&r, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(answer.headers.get(Name::To), h.get(Name::To));
}

#[test]
fn escapes_are_resolved_once_and_only_where_the_grammar_has_them() {
    let r = request("esc01");
    assert_eq!(r.uri.user_unescaped().as_deref(), Some("sips:user@example.com"));
    assert_eq!(one(&r.headers, Name::To).uri.user_unescaped().as_deref(), Some("user"));
    assert_eq!(one(&r.headers, Name::From).uri.user_unescaped().as_deref(), Some("I have spaces"));
    let contact = &list::<NameAddr>(&r.headers, Name::Contact)[0].uri;
    assert_eq!(contact.user_unescaped().as_deref(), Some("caller"));
    let params: Vec<_> = contact.params().iter().map(|(n, v)| (unescape(n).unwrap(), unescape(v).unwrap())).collect();
    assert_eq!(params, [("lr".into(), String::new()), ("name".into(), "value%41".to_owned())]);

    let r = request("esc02");
    assert_eq!(r.method, Method::Other("RE%47IST%45R".into()));
    assert_eq!(one(&r.headers, Name::To).display_name().as_deref(), Some("%Z%45"));
    let contacts: Vec<_> = list::<NameAddr>(&r.headers, Name::Contact).iter().map(|c| c.uri.user().to_owned()).collect();
    assert_eq!(contacts, ["alias1", "alias3"]);
    assert_eq!(r.headers.other("C%6Fntact"), Some(&b"<sip:alias2@host2.example.com>"[..]));
}

#[test]
fn escnull_shortens_no_name() {
    // S7
    let r = request("escnull");
    assert_eq!(one(&r.headers, Name::To).uri.user(), "null-%00-null");
    assert_eq!(one(&r.headers, Name::To).uri.aor(), None::<Aor>);
    let contacts = list::<NameAddr>(&r.headers, Name::Contact);
    assert_eq!(contacts.len(), 2);
    assert!(!contacts[0].uri.is_equivalent(&contacts[1].uri));
}

#[test]
fn lwsdisp_needs_no_space_before_the_bracket() {
    let from = one(&request("lwsdisp").headers, Name::From);
    assert_eq!((from.display_name().as_deref(), from.tag()), (Some("caller"), Some("323")));
}

#[test]
fn longreq_has_34_vias_and_long_names() {
    let r = request("longreq");
    let h = &r.headers;
    let vias: Vec<Via> = list(h, Name::Via);
    assert_eq!(vias.len(), 34);
    assert_eq!(vias[0].host.to_string(), "sip33.example.com");
    assert_eq!(vias[33].branch().unwrap().len(), "very".len() + 50 * 4 + "branchvalue".len());
    assert_eq!(one(h, Name::From).tag().unwrap().len(), 2 + 50 * 3 + 3);
    let to = one(h, Name::To);
    assert_eq!(to.uri.port(), Some(6000));
    assert_eq!(to.uri.param(&format!("longparam{}", "name".repeat(25))), Some("shortvalue"));
    assert_eq!(h.call_id().unwrap().len(), "longreq.one".len() + 20 * 6 + "longcallid".len());
    assert_eq!(r.body.len(), 150);
}

#[test]
fn dblreq_ends_where_its_content_length_says() {
    let r = request("dblreq");
    assert_eq!((r.method.clone(), r.body.len()), (Method::Register, 0));
    assert!(!r.encode().windows(6).any(|w| w == b"INVITE"));
}

#[test]
fn semiuri_keeps_the_semicolon_in_the_user() {
    let r = request("semiuri");
    assert_eq!(r.uri.user_unescaped().as_deref(), Some("user;par=u@example.net"));
    assert_eq!((r.uri.host().unwrap().to_string().as_str(), r.uri.params()), ("example.com", Params::default()));
    assert_eq!(r.headers.tokens(Name::Accept).count(), 6);
}

#[test]
fn transports_of_any_name_are_read() {
    let vias: Vec<Via> = list(&request("transports").headers, Name::Via);
    let names: Vec<_> = vias.iter().map(|v| &*v.transport).collect();
    assert_eq!(names, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
}

#[test]
fn mpart01_has_a_body_with_nuls() {
    let r = request("mpart01");
    assert_eq!(r.body.len(), 553);
    assert!(r.body.contains(&0));
    assert!(r.body.ends_with(b"--7a9cbec02ceef655--\r\n"));
}

#[test]
fn reason_phrases_of_any_form_are_kept() {
    assert!(response("unreason").reason().starts_with("= 2**3 * 5**2 \u{43d}\u{43e}".as_bytes()));
    let empty = response("noreason");
    assert_eq!((empty.status, empty.reason.len()), (StatusCode::TRYING, 0));
    assert_eq!(list::<Via>(&response("bcast").headers, Name::Via)[1].host.to_string(), "255.255.255.255");
}

#[test]
fn what_a_higher_layer_refuses_can_be_told_from_the_values() {
    assert_eq!(request("unkscm").uri.scheme(), Scheme::Other);
    assert_eq!(request("novelsc").uri.scheme(), Scheme::Other);
    let r = request("unksm2");
    assert_eq!(one(&r.headers, Name::To).uri.aor(), None);
    assert!(request("regbadct").headers.list::<NameAddr>(Name::Contact).is_err());
    let r = request("bext01");
    assert_eq!(r.headers.tokens(Name::Require).collect::<Vec<_>>(), ["nothingSupportsThis", "nothingSupportsThisEither"]);
    assert_eq!(r.headers.tokens(Name::ProxyRequire).count(), 2);
    assert_eq!(request("invut").headers.get(Name::ContentType), Some(&b"application/unknownformat"[..]));
    assert_eq!(request("zeromf").headers.number(Name::MaxForwards), Ok(Some(0)));
    assert_eq!(request("sdp01").headers.tokens(Name::Accept).collect::<Vec<_>>(), ["text/nobodyKnowsThis"]);
    assert_eq!(request("badbranch").headers.first::<Via>(Name::Via).unwrap().branch(), Some(Via::COOKIE));
}

#[test]
fn a_parameter_belongs_to_the_contact_or_to_its_uri() {
    let contact = |name: &str| list::<NameAddr>(&request(name).headers, Name::Contact).remove(0);
    let header = contact("cparam01");
    assert_eq!((header.params.get("unknownparam"), header.uri.param("unknownparam")), (Some(""), None));
    let uri = contact("cparam02");
    assert_eq!((uri.params.get("unknownparam"), uri.uri.param("unknownparam")), (None, Some("")));
    assert_eq!(contact("regescrt").uri.headers(), "Route=%3Csip:sip.example.com%3E");
}

#[test]
fn inv2543_needs_no_branch_tag_or_max_forwards() {
    let r = request("inv2543");
    assert_eq!(r.headers.first::<Via>(Name::Via).unwrap().branch(), None);
    assert_eq!(r.from_tag(), None);
    assert_eq!(r.headers.number(Name::MaxForwards), Ok(None));
    assert!(r.body.ends_with(b"RTP/AVP 0\r\n"));
}
