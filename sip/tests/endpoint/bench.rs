//! One endpoint and a scripted peer that writes its messages as text.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::endpoint::{OutgoingInvite, Setup};
use sip::message::parse::parse;
use sip::message::{Headers, Name, NameAddr, header::Header as _};
use sip::{
    ClientId, ConnectionId, DialogEvent, DialogId, Endpoint, Event, Flow, Hop, Listeners, Message, Request, Response, Transport, Uri,
};

pub(crate) const OURS: &str = "10.0.0.1:5060";
pub(crate) const PEER: &str = "10.0.0.2:5060";
pub(crate) const SDP: &[u8] = b"v=0\r\n";
/// Longer than any transaction lives: 64 * T1, and T1 for the last message.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(33);

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("a literal address")
}

#[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

pub(crate) fn setup(address: SocketAddr, seed: u8) -> Setup {
    Setup {
        listeners: Listeners(vec![(Transport::Udp, address), (Transport::Tcp, address)]),
        node: 1,
        seed: [seed; 32],
        product: "tandem-test".to_owned(),
        session_interval: Duration::from_secs(1800),
    }
}

pub(crate) fn name_addr(text: &str) -> NameAddr {
    NameAddr::parse(&text.into()).expect("an address")
}

pub(crate) fn uri(text: &str) -> Uri {
    Uri::parse(&text.into()).expect("a URI")
}

/// One message that left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) hop: Hop,
    pub(crate) client: Option<ClientId>,
    pub(crate) message: Message,
    pub(crate) bytes: Bytes,
}

impl Left {
    pub(crate) fn request(&self) -> &Request {
        match &self.message {
            Message::Request(request) => request,
            Message::Response(response) => panic!("a request was due, not {}", response.status),
        }
    }

    pub(crate) fn response(&self) -> &Response {
        match &self.message {
            Message::Response(response) => response,
            Message::Request(request) => panic!("a response was due, not {}", request.method),
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.response().status.code()
    }

    pub(crate) fn get(&self, name: Name) -> String {
        String::from_utf8_lossy(self.message.headers().get(name).unwrap_or(b"")).into_owned()
    }
}

/// `INVITE`, or `200 INVITE`: what a message is in a word.
pub(crate) fn what(message: &Message) -> String {
    match message {
        Message::Request(request) => request.method.to_string(),
        Message::Response(response) => {
            let cseq = response.cseq().expect("we print a CSeq");
            format!("{} {}", response.status.code(), cseq.method)
        }
    }
}

pub(crate) struct Bench {
    pub(crate) endpoint: Endpoint,
    pub(crate) now: Instant,
    pub(crate) flow: Flow,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let flow = Flow { transport: Transport::Udp, local: address(OURS), remote: address(PEER), connection: None };
        Self { endpoint: Endpoint::new(setup(address(OURS), 7)), now: epoch(), flow }
    }

    pub(crate) fn over_tcp() -> Self {
        let flow =
            Flow { transport: Transport::Tcp, local: address(OURS), remote: address("10.0.0.2:40000"), connection: Some(ConnectionId(1)) };
        Self { flow, ..Self::new() }
    }

    pub(crate) fn receive(&mut self, text: &str) {
        self.endpoint.receive(self.now, self.flow, Bytes::copy_from_slice(text.as_bytes()));
    }

    /// Hands a message to the endpoint that came by another flow than its peer's, and lets the host know the sender.
    #[track_caller]
    pub(crate) fn receive_moved(&mut self, text: &str) {
        self.receive(text);
        match self.events().pop() {
            Some(Event::Elsewhere(_, incoming)) => self.endpoint.receive_within(self.now, *incoming),
            other => panic!("{other:?}"),
        }
    }

    /// Everything that leaves now.
    pub(crate) fn left(&mut self) -> Vec<Left> {
        let mut left = Vec::new();
        while let Some(send) = self.endpoint.next_send() {
            let message = parse(send.bytes.clone()).expect("what we print can be read");
            left.push(Left { hop: send.hop, client: send.client, message, bytes: send.bytes });
        }
        left
    }

    /// What leaves now, in a word each.
    pub(crate) fn words(&mut self) -> Vec<String> {
        self.left().iter().map(|left| what(&left.message)).collect()
    }

    /// The one message that leaves now.
    #[track_caller]
    pub(crate) fn one(&mut self) -> Left {
        let mut left = self.left();
        assert_eq!(left.len(), 1, "{:?}", left.iter().map(|left| what(&left.message)).collect::<Vec<_>>());
        left.remove(0)
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.endpoint.next_event()).collect()
    }

    #[track_caller]
    pub(crate) fn dialog_event(&mut self) -> DialogEvent {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        match events.remove(0) {
            Event::Dialog(_, event) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Hands an INVITE to the endpoint and takes it as callee.
    #[track_caller]
    pub(crate) fn take(&mut self, text: &str) -> DialogId {
        self.receive(text);
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        let Event::Request(incoming) = events.remove(0) else { panic!("no request") };
        self.endpoint.take(self.now, *incoming).expect("the INVITE is taken")
    }

    /// A call from the peer, answered and acknowledged; returns our tag, too.
    #[track_caller]
    pub(crate) fn answered(&mut self) -> (DialogId, String) {
        let dialog = self.take(&invite(1, SUPPORTED));
        self.endpoint.accept(self.now, dialog, SDP.into());
        let left = self.left();
        let tag = left.last().expect("200 left").response().to_tag().expect("our tag").to_string();
        self.receive(&inside("ACK", 1, "a1", &tag, "", ""));
        assert!(matches!(self.dialog_event(), DialogEvent::Acknowledged { .. }));
        (dialog, tag)
    }

    /// A call of ours.
    pub(crate) fn place(&mut self) -> DialogId {
        self.place_to(Hop::Flow(self.flow), SDP.into())
    }

    pub(crate) fn place_to(&mut self, hop: Hop, body: Bytes) -> DialogId {
        self.endpoint.place(self.now, call_to(hop, Headers::default(), body))
    }

    /// A call of ours with further headers.
    pub(crate) fn place_with(&mut self, headers: Headers) -> DialogId {
        self.endpoint.place(self.now, call_to(Hop::Flow(self.flow), headers, SDP.into()))
    }

    /// A call of ours, answered by the peer's tag `p` and acknowledged; returns the INVITE, too.
    #[track_caller]
    pub(crate) fn placed(&mut self) -> (DialogId, Left) {
        let dialog = self.place();
        let invite = self.one();
        self.receive(&answer(&invite, "200 OK", "p", CONTACT));
        assert!(matches!(self.dialog_event(), DialogEvent::Answered { .. }));
        self.endpoint.acknowledge(self.now, dialog, Bytes::new());
        assert_eq!(self.words(), ["ACK"]);
        (dialog, invite)
    }

    /// Nothing is left, now or later.
    #[track_caller]
    pub(crate) fn assert_empty(&mut self) {
        self.advance(AFTERMATH);
        let _ = (self.left(), self.events());
        assert_eq!((self.endpoint.dialogs(), self.endpoint.transactions(), self.endpoint.poll_timeout()), (0, 0, None));
    }
}

fn call_to(hop: Hop, headers: Headers, body: Bytes) -> OutgoingInvite {
    let (from, to) = (name_addr("<sip:ann@h>"), name_addr("<sip:bob@h>"));
    OutgoingInvite { uri: uri("sip:bob@10.0.0.2"), routes: Vec::new(), hop, from, to, headers, body }
}

pub(crate) const CONTACT: &str = "Contact: <sip:bob@10.0.0.2>\r\n";
pub(crate) const SUPPORTED: &str = "Supported: 100rel, timer\r\n";

/// An INVITE of the peer, with SDP.
pub(crate) fn invite(cseq: u32, more: &str) -> String {
    invite_on("i1", cseq, more, "v=0\r\n")
}

pub(crate) fn invite_on(branch: &str, cseq: u32, more: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    outside("INVITE", cseq, branch, &format!("Contact: <sip:bob@10.0.0.2>\r\n{kind}{more}"), body)
}

/// A request of the peer outside a dialog.
pub(crate) fn outside(method: &str, cseq: u32, branch: &str, more: &str, body: &str) -> String {
    request(method, cseq, branch, "", more, body)
}

/// A request of the peer within a dialog whose local tag is `tag`.
pub(crate) fn inside(method: &str, cseq: u32, branch: &str, tag: &str, more: &str, body: &str) -> String {
    request(method, cseq, branch, &format!(";tag={tag}"), more, body)
}

fn request(method: &str, cseq: u32, branch: &str, tag: &str, more: &str, body: &str) -> String {
    format!(
        "{method} sip:ann@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:bob@h>;tag=p\r\nTo: <sip:ann@h>{tag}\r\nCall-ID: call\r\nCSeq: {cseq} {method}\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The peer's response to a request of ours.
pub(crate) fn answer(to: &Left, status: &str, tag: &str, more: &str) -> String {
    answer_with(to, status, tag, more, "")
}

pub(crate) fn answer_with(to: &Left, status: &str, tag: &str, more: &str, body: &str) -> String {
    let to_value = to.get(Name::To);
    let tag = if tag.is_empty() || to_value.contains(";tag=") { String::new() } else { format!(";tag={tag}") };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {to_value}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        to.get(Name::Via),
        to.get(Name::From),
        to.get(Name::CallId),
        to.get(Name::CSeq),
        body.len()
    )
}
