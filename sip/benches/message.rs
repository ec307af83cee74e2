//! Time and allocations to read a message, and to read, change and print it as a proxy does. `cargo bench -p sip`; plain std.
//!
//! `cargo bench -p sip -- scaling` measures the worst inputs we know at 16 and at 64 KiB: a ratio far above 4 is quadratic behaviour.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use sip::Message;
use sip::message::header::{CSeq, Params};
use sip::message::parse::parse;
use sip::message::{Name, NameAddr, Via};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
#[expect(unsafe_code, reason = "an allocator that counts can only be written so; it is in no product")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INVITE: &str = "INVITE sip:+4930123456@tandem.example;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-524287-1---c2f1a7d0b6e94e33;rport\r\n\
    Max-Forwards: 70\r\n\
    Contact: <sip:alice@198.51.100.7:5060;transport=udp>\r\n\
    To: <sip:+4930123456@tandem.example;user=phone>\r\n\
    From: \"Alice Example\" <sip:alice@tandem.example>;tag=9fxced76sl\r\n\
    Call-ID: 3848276298220188511@198.51.100.7\r\n\
    CSeq: 2 INVITE\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, NOTIFY, REFER, INFO, MESSAGE\r\n\
    Supported: replaces, timer, 100rel, outbound, path, gruu\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    Min-SE: 90\r\n\
    Proxy-Authorization: Digest username=\"alice\", realm=\"tandem.example\", nonce=\"MTcyNjE5ODQwMDpiM2M5\", \
    uri=\"sip:+4930123456@tandem.example\", response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5, qop=auth, nc=00000001, \
    cnonce=\"0a4f113b\"\r\n\
    User-Agent: Desk Phone 4.2.1\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 153\r\n\r\n\
    v=0\r\no=- 3915 3915 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

const REGISTER: &str = "REGISTER sip:tandem.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-d8754z-7b1e4d2a91c0f853-1---d8754z-;rport\r\n\
    Max-Forwards: 70\r\n\
    Contact: <sip:alice@198.51.100.7:5060;ob>;reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\";expires=600\r\n\
    To: <sip:alice@tandem.example>\r\n\
    From: <sip:alice@tandem.example>;tag=3aa1d7e1\r\n\
    Call-ID: NGI0ZDQxMjA5ZDc1YzE0ZGY2\r\n\
    CSeq: 41 REGISTER\r\n\
    Expires: 600\r\n\
    Supported: path, outbound, gruu\r\n\
    User-Agent: Desk Phone 4.2.1\r\n\
    Content-Length: 0\r\n\r\n";

fn main() {
    if std::env::args().any(|argument| argument == "scaling") {
        return scaling();
    }
    for (name, text) in [("INVITE", INVITE), ("REGISTER", REGISTER)] {
        let bytes = Bytes::from(text.as_bytes().to_vec());
        assert!(forward(&bytes).is_some() && respond(&bytes).is_some() && read(&bytes).is_some(), "{name} is read");
        measure(&format!("parse {name} ({} bytes)", bytes.len()), || parse(bytes.clone()).map(|m| matches!(m, Message::Request(_))));
        measure(&format!("parse {name}, read what a transaction needs"), || read(&bytes));
        measure(&format!("parse and forward {name}"), || forward(&bytes));
        measure(&format!("parse {name}, take a response in and forward it"), || respond(&bytes));
    }
}

/// Via branch, tags, Call-ID and CSeq: what the transaction and dialog layers ask of each message.
fn read(bytes: &Bytes) -> Option<usize> {
    let Ok(Message::Request(request)) = parse(bytes.clone()) else { return None };
    let via: Via = request.headers.first(Name::Via).ok()?;
    let cseq: CSeq = request.headers.typed(Name::CSeq).ok()?;
    let call_id = request.headers.call_id().ok()?;
    Some(via.branch()?.len() + call_id.len() + request.from_tag()?.len() + usize::from(cseq.number > 1))
}

fn forward(bytes: &Bytes) -> Option<Bytes> {
    let Ok(Message::Request(mut request)) = parse(bytes.clone()) else { return None };
    let hops = request.headers.number(Name::MaxForwards).ok()??;
    request.headers.push_front(Name::Via, "SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bK7f3a91");
    request.headers.set(Name::MaxForwards, if hops > 69 { "69" } else { "0" });
    Some(request.encode())
}

fn respond(bytes: &Bytes) -> Option<Bytes> {
    let Ok(Message::Request(mut request)) = parse(bytes.clone()) else { return None };
    request.headers.pop_first(Name::Via);
    Some(request.encode())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// Prints the best of many rounds so short that most are not interrupted: their time is CPU time. And the allocations of one run.
fn measure<T>(name: &str, mut run: impl FnMut() -> T) {
    const RUNS: u32 = 200;
    black_box(run());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    black_box(run());
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let round = |_| {
        let start = now();
        for _ in 0..RUNS {
            black_box(run());
        }
        start.elapsed() / RUNS
    };
    let best = (0..2_000).map(round).min().unwrap_or_default();
    println!("{name}: {} ns, {allocations} allocations", best.as_nanos());
}

const HEAD: &str =
    "INVITE sip:a@h SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:a@h>;tag=1\r\nt: <sip:b@h>\r\ni: c\r\nCSeq: 1 INVITE\r\n";

/// The worst inputs we know: what is repeated, and between what.
const WORST: &[(&str, &str, &str, &str)] = &[
    ("commas in Contact", "m: ", ",", "\r\n"),
    ("elements in Route", "Route: <sip:h>", ",<sip:h>", "\r\n"),
    ("semicolons in Contact", "m: <sip:a@h>", ";", "\r\n"),
    ("parameters in Contact", "m: <sip:a@h>", ";a=b", "\r\n"),
    ("parameters in a URI", "m: <sip:a@h", ";a=b", ">\r\n"),
    ("quotes in Contact", "m: ", "\"\" ", "<sip:a@h>\r\n"),
    ("backslashes in a quoted name", "m: \"", "\\\\", "\" <sip:a@h>\r\n"),
    ("open brackets in Contact", "m: ", "<", "\r\n"),
    ("folds", "s: a", "\r\n ", "\r\n"),
    ("white space in a row", "s: a", " ", "b\r\n"),
    ("escapes in a URI", "m: <sip:", "%41", "@h>\r\n"),
    ("ats in a URI", "m: <sip:a", "@h", ">\r\n"),
    ("headers in a URI", "m: <sip:a@h?a=b", "&a=b", ">\r\n"),
    ("rows", "", "X: y\r\n", ""),
    ("Via rows", "", "v: SIP/2.0/UDP h\r\n", ""),
    ("colons", "s", ":", "\r\n"),
    ("slashes in Via", "v: SIP/2.0/UDP h", "/", "\r\n"),
    ("tokens in Require", "Require: a", ",a", "\r\n"),
    ("non-UTF-8", "m: ", "\u{fe}", "\r\n"),
    ("empty lines in front", "", "", ""),
    ("spaces in the start line", "", "", ""),
];

fn worst(size: usize, (name, before, unit, after): (&str, &str, &str, &str)) -> Bytes {
    let fill = size - HEAD.len() - before.len() - after.len() - 2;
    match name {
        "empty lines in front" => format!("{}{HEAD}\r\n", "\r\n".repeat(fill / 2)).into(),
        "spaces in the start line" => HEAD.replacen(' ', &" ".repeat(fill), 1).into(),
        "non-UTF-8" => [HEAD.as_bytes(), before.as_bytes(), &vec![0xFE; fill], b"\r\n\r\n"].concat().into(),
        _ => format!("{HEAD}{before}{}{after}\r\n", unit.repeat(fill / unit.len())).into(),
    }
}

/// Reads the message and everything that can be asked of it.
fn everything(bytes: &Bytes) {
    let Ok(message) = parse(bytes.clone()) else { return };
    let headers = message.headers();
    black_box(headers.list::<NameAddr>(Name::Contact).map(|all| all.iter().map(|c| c.params.with("x", "y")).collect::<Vec<Params>>()).ok());
    if let Ok(contacts) = headers.list::<NameAddr>(Name::Contact) {
        black_box(contacts.iter().all(|c| c.uri.is_equivalent(&contacts[0].uri)));
    }
    black_box(headers.list::<NameAddr>(Name::Route).is_ok());
    black_box(headers.list::<Via>(Name::Via).is_ok());
    black_box(headers.has_token(Name::Require, "x"));
    let mut rest = headers.clone();
    for name in [Name::Via, Name::Route, Name::Contact] {
        for _ in 0..8 {
            rest.pop_first(name);
        }
    }
    black_box(message.encode());
}

fn scaling() {
    for case in WORST {
        let (small, large) = (worst(16 << 10, *case), worst(65_535, *case));
        let time = |bytes: &Bytes| {
            let once = |_| {
                let start = now();
                (0..10).for_each(|_| everything(bytes));
                start.elapsed() / 10
            };
            (0..10).map(once).min().unwrap_or_default()
        };
        let (small, large) = (time(&small), time(&large));
        println!("{}: {small:?} at 16 KiB, {large:?} at 64 KiB, ratio {:.1}", case.0, large.as_secs_f64() / small.as_secs_f64());
    }
}
