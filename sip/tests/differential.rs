//! What we print, another parser reads the same: random messages made through our API, read by `rsip` 0.4.
//!
//! Within what rsip can read: no tel: or IPv6 URIs, no folds, no compact names, no `<` in a quoted name (`architecture.md`, section 9). Seeded and bounded; a
//! failure prints the seed of its message.

use bytes::Bytes;
use rsip::prelude::{HasHeaders, HeadersExt, ToTypedHeader, UntypedHeader};
use sip::message::header::{CSeq, Reason};
use sip::message::parse::parse;
use sip::message::{Name, NameAddr};
use sip::{Host, Message, Method, Request, Response, StatusCode, Uri};

const MESSAGES: u64 = 5_000;

/// A generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or(0) % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn word(&mut self) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789-._";
        let length = 1 + self.below(24);
        let mut word: String = (0..length).map(|_| char::from(LETTERS[self.below(LETTERS.len())])).collect();
        word.insert(0, 'x');
        word
    }

    fn host(&mut self) -> Host {
        let name = format!("{}.example.com", self.word().replace(['.', '_'], "").trim_end_matches('-').to_lowercase());
        let address = format!("192.0.2.{}", self.below(256));
        Host::parse(if self.below(2) == 0 { &name } else { &address }).expect("a host")
    }

    fn uri(&mut self) -> Uri {
        let user = match self.below(4) {
            0 => String::new(),
            1 => format!("+49{}", self.below(1_000_000_000)),
            _ => self.word(),
        };
        let port = (self.below(2) == 0).then(|| u16::try_from(1 + self.below(65_535)).expect("a port"));
        // In capitals, as rsip prints it.
        let params = self.one(&["", ";lr", ";transport=TCP", ";user=phone", ";transport=UDP;lr", ";ob;x=1"]);
        Uri::sip(&user, &self.host(), port, params).expect("a URI")
    }

    fn address(&mut self) -> NameAddr {
        let display = match self.below(3) {
            0 => String::new(),
            1 => self.word(),
            _ => self.one(&["Zo\u{eb} M\u{fc}ller", "a, b", "a \"q\" b", "semi;colon", "O'Hara (home)"]).to_owned(),
        };
        NameAddr::new(self.uri()).with_display(&display)
    }

    fn via(&mut self) -> String {
        let transport = self.one(&["UDP", "TCP", "TLS", "WS", "WSS"]);
        let (host, port) = (self.host(), 1 + self.below(65_535));
        format!(
            "SIP/2.0/{transport} {host}:{port};branch=z9hG4bK{}{}",
            self.word(),
            self.one(&["", ";rport", ";received=192.0.2.7;rport=5061"])
        )
    }

    fn request(&mut self) -> Request {
        let method = Method::KNOWN[self.below(Method::KNOWN.len())].clone();
        let mut request = Request::new(method.clone(), self.uri());
        let headers = &mut request.headers;
        for _ in 0..=self.below(3) {
            headers.push(Name::Via, self.via());
        }
        headers.push(Name::MaxForwards, self.below(256).to_string());
        headers.push(Name::From, self.address().with_tag(&self.word()).to_string());
        let to = self.address();
        headers.push(Name::To, if self.below(2) == 0 { to.with_tag(&self.word()) } else { to }.to_string());
        headers.push(Name::CallId, format!("{}@{}", self.word(), self.host()));
        let number = u32::try_from(self.below(1 << 31)).expect("31 bits");
        headers.push(Name::CSeq, CSeq { number, method }.to_string());
        headers.push(Name::Contact, self.address().to_string());
        headers.push(Name::Reason, Reason::sip(200, "Call completed elsewhere").to_string());
        headers.push_other("X-Tandem", self.word());
        headers.set(Name::Subject, "\u{c4}\r\nnot a header: x"); // S7
        let body = self.word();
        if self.below(2) == 0 {
            request.set_body("text/plain", Bytes::from(body));
        }
        request
    }
}

fn address(headers: &sip::message::Headers, name: Name) -> (Option<String>, String, Option<String>) {
    let address: NameAddr = headers.typed(name).expect("we made it");
    (address.display_name(), address.uri.to_string(), address.tag().map(str::to_owned))
}

/// rsip keeps quotes and escapes of a display name in some forms; we compare the text.
fn theirs(display: Option<&str>, uri: &rsip::Uri, tag: Option<String>) -> (Option<String>, String, Option<String>) {
    let display = display.map(|d| sip::message::header::params::unquote(d.trim()).replace('\\', "")).filter(|d| !d.is_empty());
    (display, uri.to_string(), tag)
}

fn same_headers(message: &Message, other: &rsip::SipMessage) {
    let headers = message.headers();
    let from = other.from_header().expect("From").typed().expect("From");
    let tag = from.tag().map(|tag| tag.value().to_owned());
    assert_eq!(theirs(from.display_name.as_deref(), &from.uri, tag), address(headers, Name::From));
    let to = other.to_header().expect("To").typed().expect("To");
    let tag = to.tag().map(|tag| tag.value().to_owned());
    assert_eq!(theirs(to.display_name.as_deref(), &to.uri, tag), address(headers, Name::To));
    assert_eq!(other.call_id_header().expect("Call-ID").value(), &*headers.call_id().expect("Call-ID"));
    let (cseq, ours) = (other.cseq_header().expect("CSeq").typed().expect("CSeq"), headers.typed::<CSeq>(Name::CSeq).expect("CSeq"));
    assert_eq!((cseq.seq, cseq.method.to_string().as_str()), (ours.number, ours.method.as_str()));
    let via = other.via_header().expect("Via").typed().expect("Via");
    let ours: sip::message::Via = headers.first(Name::Via).expect("Via");
    assert_eq!(via.branch().map(|branch| branch.value()), ours.branch());
    assert_eq!(via.transport.to_string(), &*ours.transport);
    assert_eq!(via.uri.host().to_string(), ours.host.to_string());
    assert_eq!(via.uri.port().map(|port| *port.value()), ours.port);
    assert_eq!(via.received().ok().flatten(), ours.received());
    assert_eq!(other.headers().iter().filter(|h| matches!(h, rsip::Header::Via(_))).count(), headers.all(Name::Via).count());
    assert_eq!(other.headers().iter().count(), headers.iter().filter(|(name, _)| *name != b"Content-Length").count() + 1);
}

#[test]
fn what_we_print_rsip_reads_the_same() {
    for seed in 0..MESSAGES {
        let request = Random(seed).request();
        let printed = request.encode();
        let other = rsip::SipMessage::try_from(&printed[..]).unwrap_or_else(|e| panic!("seed {seed}: {e}: {}", printed.escape_ascii()));
        let rsip::SipMessage::Request(theirs) = &other else { panic!("seed {seed}: a response") };
        assert_eq!(theirs.method.to_string(), request.method.as_str(), "seed {seed}");
        assert_eq!(theirs.uri.to_string(), request.uri.as_str(), "seed {seed}");
        assert_eq!(theirs.body, request.body, "seed {seed}");
        same_headers(&Message::Request(request.clone()), &other);

        let mut response = Response::to(&request, StatusCode::new(100 + u16::try_from(seed % 600).expect("below 600")).expect("a status"));
        response.set_to_tag("ours");
        let printed = response.encode();
        let other = rsip::SipMessage::try_from(&printed[..]).unwrap_or_else(|e| panic!("seed {seed}: {e}: {}", printed.escape_ascii()));
        let rsip::SipMessage::Response(theirs) = &other else { panic!("seed {seed}: a request") };
        assert_eq!(theirs.status_code.code(), response.status.code(), "seed {seed}");
        same_headers(&Message::Response(response), &other);
    }
}

#[test]
fn what_rsip_prints_we_read_the_same() {
    for seed in 0..MESSAGES / 10 {
        let first = Random(seed).request().encode();
        let other = rsip::SipMessage::try_from(&first[..]).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let theirs: Bytes = Vec::<u8>::from(other.clone()).into();
        let ours = parse(theirs.clone()).unwrap_or_else(|e| panic!("seed {seed}: {e}: {}", theirs.escape_ascii()));
        same_headers(&ours, &other);
    }
}
