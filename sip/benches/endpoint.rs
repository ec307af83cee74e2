//! What an endpoint costs: CPU time and allocations of one request admitted and answered, and of one whole call through a dialog as UAS
//! and one as UAC, which is what a B2BUA spends on a call, less its sockets. Time advances as at 1000 calls a second, so that tables and
//! timers are as full as they are then. `cargo bench -p sip --bench endpoint`; plain std.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::endpoint::{OutgoingInvite, Setup};
use sip::message::{Headers, Name, NameAddr, header::Header as _};
use sip::{DialogEvent, DialogId, Endpoint, Event, Flow, Hop, Listeners, Method, StatusCode, Transport, Uri};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
#[expect(unsafe_code, reason = "an allocator that counts can only be written so; it is in no product")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(size as u64, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SDP: &[u8] =
    b"v=0\r\no=- 3915 3915 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
const STEP: Duration = Duration::from_millis(1);
/// 40 s at 1000 a second: every table has reached its size.
const WARM_UP: u32 = 40_000;
const RUNS: u32 = 60_000;
/// Enough for a profiler that counts instructions: `-- calls` runs nothing but this many calls.
const FEW: u32 = 1000;

fn main() {
    if std::env::args().any(|argument| argument == "calls") {
        let mut calls = Calls::new();
        return (0..FEW).for_each(|_| calls.one());
    }
    let mut registrations = Registrations::new();
    measure("REGISTER admitted and answered", || registrations.one());
    println!("  {} transactions, {} bytes a transaction", registrations.endpoint.transactions(), registrations.memory());
    let mut calls = Calls::new();
    measure("call, one UAS and one UAC dialog, 7 messages", || calls.one());
    let mut calls = Calls::new();
    let before = LIVE.load(Ordering::Relaxed);
    let open = 20_000;
    for _ in 0..open {
        calls.set_up();
    }
    calls.now += Duration::from_secs(60);
    calls.tick();
    println!("established call: {} bytes, both dialogs", (LIVE.load(Ordering::Relaxed) - before) / open);
}

/// Nanoseconds this thread has spent on a CPU.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps scheduler statistics");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("the first field is a number")
}

fn measure(name: &str, mut work: impl FnMut()) {
    for _ in 0..WARM_UP {
        work();
    }
    let (time, allocations) = (cpu(), ALLOCATIONS.load(Ordering::Relaxed));
    for _ in 0..RUNS {
        work();
    }
    let time = cpu() - time;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    println!("{name}: {:.2} us CPU, {} allocations", time as f64 / 1000.0 / f64::from(RUNS), allocations / u64::from(RUNS));
}

#[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
fn epoch() -> Instant {
    Instant::now()
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::new(Setup {
        listeners: Listeners(vec![(Transport::Udp, address.parse().expect("an address"))]),
        node: 1,
        seed: [7; 32],
        product: "tandem/0.1".to_owned(),
        session_interval: Duration::from_secs(1800),
    })
}

fn flow(local: &str, remote: &str) -> Flow {
    let parse = |text: &str| text.parse().expect("an address");
    Flow { transport: Transport::Udp, local: parse(local), remote: parse(remote), connection: None }
}

struct Registrations {
    endpoint: Endpoint,
    now: Instant,
    flow: Flow,
    number: u64,
    before: u64,
}

impl Registrations {
    fn new() -> Self {
        let endpoint = endpoint("198.51.100.1:5060");
        let before = LIVE.load(Ordering::Relaxed);
        Self { endpoint, now: epoch(), flow: flow("198.51.100.1:5060", "198.51.100.7:5060"), number: 0, before }
    }

    fn memory(&self) -> u64 {
        (LIVE.load(Ordering::Relaxed) - self.before) / self.endpoint.transactions() as u64
    }

    fn one(&mut self) {
        self.now += STEP;
        self.number += 1;
        let text = format!(
            "REGISTER sip:tandem.example SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-{n:016x};rport\r\nMax-Forwards: 70\r\n\
             Contact: <sip:alice@198.51.100.7:5060;ob>;reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"\r\n\
             To: <sip:alice@tandem.example>\r\nFrom: <sip:alice@tandem.example>;tag=3aa1d7e1\r\nCall-ID: NGI0ZDQxMjA5ZDc1YzE0ZGY2\r\n\
             CSeq: {n} REGISTER\r\nExpires: 600\r\nSupported: path, outbound, gruu\r\nUser-Agent: Desk Phone 4.2.1\r\n\
             Content-Length: 0\r\n\r\n",
            n = self.number
        );
        self.endpoint.receive(self.now, self.flow, Bytes::from(text));
        while let Some(event) = self.endpoint.next_event() {
            let Event::Request(incoming) = event else { continue };
            let server = self.endpoint.admit(self.now, &incoming);
            let mut response = self.endpoint.reply(&incoming.request, StatusCode::OK);
            response.headers.push(Name::Contact, incoming.request.headers.get(Name::Contact).unwrap_or(b""));
            response.headers.push(Name::Expires, "600");
            self.endpoint.respond(self.now, server, &response);
        }
        while let Some(send) = self.endpoint.next_send() {
            black_box(send);
        }
        self.endpoint.handle_timeout(self.now);
    }
}

struct Calls {
    ends: [Endpoint; 2],
    flows: [Flow; 2],
    call: OutgoingInvite,
    now: Instant,
}

impl Calls {
    fn new() -> Self {
        let addresses = ["198.51.100.1:5060", "198.51.100.7:5060"];
        let flows = [flow(addresses[0], addresses[1]), flow(addresses[1], addresses[0])];
        let address = |text: &str| NameAddr::parse(&text.into()).expect("an address");
        let call = OutgoingInvite {
            uri: Uri::parse(&"sip:alice@198.51.100.7:5060;transport=udp".into()).expect("a URI"),
            routes: Vec::new(),
            hop: Hop::Flow(flows[0]),
            from: address("\"Bob Example\" <sip:bob@tandem.example>"),
            to: address("<sip:+4930123456@tandem.example;user=phone>"),
            headers: Headers::default(),
            body: Bytes::from_static(SDP),
        };
        Self { ends: addresses.map(endpoint), flows, call, now: epoch() }
    }

    fn tick(&mut self) {
        self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now));
    }

    /// Carries messages both ways until none is left; answers events as a host that wants the call.
    fn run(&mut self) {
        loop {
            let mut quiet = true;
            for side in 0..2 {
                while let Some(send) = self.ends[side].next_send() {
                    quiet = false;
                    self.ends[1 - side].receive(self.now, self.flows[1 - side], send.bytes);
                }
                while let Some(event) = self.ends[side].next_event() {
                    self.answer(side, event);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn answer(&mut self, side: usize, event: Event) {
        let (now, end) = (self.now, &mut self.ends[side]);
        match event {
            Event::Request(incoming) if incoming.request.method == Method::Invite => {
                let id = end.take(now, *incoming).expect("the INVITE is good");
                let _ = end.progress(now, id, StatusCode::RINGING, Bytes::new());
                end.accept(now, id, Bytes::from_static(SDP));
            }
            Event::Dialog(id, DialogEvent::Answered { .. }) => end.acknowledge(now, id, Bytes::new()),
            Event::Request(_)
            | Event::Forward(_)
            | Event::Elsewhere(..)
            | Event::Cancel(_)
            | Event::Response(..)
            | Event::Refer(..)
            | Event::Dialog(..)
            | Event::Subscription(..) => {}
        }
    }

    fn set_up(&mut self) -> DialogId {
        self.now += STEP;
        let id = self.ends[0].place(self.now, self.call.clone());
        self.run();
        id
    }

    fn one(&mut self) {
        let id = self.set_up();
        self.ends[0].bye(self.now, id, None);
        self.run();
        self.tick();
    }
}
