//! Real sockets on loopback: what a peer on the other end of `tandem::net` sees, and what the loop is told.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test that cannot go on has failed")]

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sip::framing::Fault;
use sip::transport::{Flow, Transport};
use tandem::config::Config;
use tandem::net::{CloseReason, Event, Net, Place, SendError};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

const OPTIONS: &str = "OPTIONS sip:a@localhost SIP/2.0\r\nContent-Length: 4\r\n\r\nbody";
/// So long no test waits for anything that is to come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Switch {
    net: Net,
    folder: TempDir,
}

/// Opens a switch; `{dir}` in the text is its folder.
fn open(text: &str) -> Switch {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, text);
    Switch { net: Net::bind(&config).unwrap_or_else(|e| panic!("{e}")), folder }
}

fn config(folder: &TempDir, text: &str) -> Config {
    let text = text.replace("{dir}", folder.path().to_str().unwrap());
    Config::parse(&folder.path().join("tandem.toml"), &text).unwrap_or_else(|e| panic!("{e}"))
}

impl Switch {
    fn address(&self, transport: Transport) -> SocketAddr {
        self.net.listeners().iter().find(|l| l.transport == transport).unwrap().address
    }

    /// Lets the switch run while a peer does something, and returns what the switch was told.
    async fn during<T>(&mut self, peer: impl Future<Output = T>) -> (T, Vec<Event>) {
        let mut events = Vec::new();
        let mut peer = std::pin::pin!(peer);
        let work = async {
            loop {
                tokio::select! {
                    biased;
                    event = self.net.next() => events.push(event),
                    done = &mut peer => return done,
                }
            }
        };
        let done = timeout(PATIENCE, work).await.expect("the peer is done");
        (done, events)
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.net.next()).await.expect("an event")
    }

    async fn opened(&mut self) -> Flow {
        match self.event().await {
            Event::Opened { flow } => flow,
            other => panic!("{other:?}"),
        }
    }

    async fn message(&mut self) -> (Flow, Bytes) {
        match self.event().await {
            Event::Message { flow, bytes, .. } => (flow, bytes),
            other => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) -> (Flow, CloseReason) {
        match self.event().await {
            Event::Closed { flow, reason } => (flow, reason),
            other => panic!("{other:?}"),
        }
    }

    /// Finds the end of a connection among events, or waits for it.
    async fn end(&mut self, events: Vec<Event>) -> (Flow, CloseReason) {
        for event in events {
            if let Event::Closed { flow, reason } = event {
                return (flow, reason);
            }
        }
        self.closed().await
    }

    /// Finds the beginning of a connection among events, or waits for it.
    async fn start(&mut self, events: Vec<Event>) -> Flow {
        for event in events {
            if let Event::Opened { flow } = event {
                return flow;
            }
        }
        self.opened().await
    }

    async fn tcp(&mut self) -> (TcpStream, Flow) {
        let stream = TcpStream::connect(self.address(Transport::Tcp)).await.unwrap();
        let flow = self.opened().await;
        (stream, flow)
    }
}

/// Reads until the switch closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // a reset is an end as well
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the switch closes");
    rest
}

#[tokio::test]
async fn datagrams_of_both_families_come_in_batches_and_are_answered() {
    let mut switch = open("[sip]\nudp = [\"127.0.0.1:0\", \"[::1]:0\"]");
    for round in 0..3 {
        for listener in switch.net.listeners().to_vec() {
            let phone = UdpSocket::bind((listener.address.ip(), 0)).await.unwrap();
            for keepalive in [&b"\r\n\r\n"[..], b"\0\0\0\0", b"\x00\x01\x00\x00\x21\x12\xa4\x42", b""] {
                phone.send_to(keepalive, listener.address).await.unwrap();
            }
            for n in 0..70 {
                phone.send_to(format!("round {round} number {n}").as_bytes(), listener.address).await.unwrap();
            }
            for n in 0..70 {
                let (flow, bytes) = switch.message().await;
                assert_eq!(bytes, format!("round {round} number {n}"));
                assert_eq!((flow.transport, flow.local, flow.connection), (Transport::Udp, listener.address, None));
                assert_eq!(flow.remote, phone.local_addr().unwrap());
                switch.net.send(&flow, bytes).unwrap();
            }
            let mut answer = [0; 64];
            let (length, from) = phone.recv_from(&mut answer).await.unwrap();
            assert_eq!((&answer[..length], from), (format!("round {round} number 0").as_bytes(), listener.address));
        }
    }
}

#[tokio::test]
async fn the_longest_datagram_comes_whole() {
    let mut switch = open("[sip]\nudp = [\"127.0.0.1:0\"]");
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let longest = vec![b'x'; 65_507];
    phone.send_to(&longest, switch.address(Transport::Udp)).await.unwrap();
    assert_eq!(switch.message().await.1, longest);
}

#[tokio::test]
async fn a_burst_comes_whole_and_a_batch_of_it_without_waiting() {
    let mut switch = open("[sip]\nudp = [\"127.0.0.1:0\"]");
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..150 {
        phone.send_to(b"OPTIONS", switch.address(Transport::Udp)).await.unwrap();
    }
    let (mut heard, mut waits) = (0, 0);
    while heard < 150 {
        switch.message().await;
        heard += 1 + std::iter::from_fn(|| switch.net.try_next()).count();
        waits += 1;
    }
    assert_eq!((heard, waits), (150, 5), "32 datagrams a batch");
}

#[tokio::test]
async fn a_datagram_without_its_listener_is_refused() {
    let mut switch = open("[sip]\nudp = [\"127.0.0.1:0\"]");
    let local = SocketAddr::from(([127, 0, 0, 9], 5060));
    let flow = Flow { transport: Transport::Udp, local, remote: local, connection: None };
    assert!(matches!(switch.net.send(&flow, Bytes::new()), Err(SendError::NoListener(_))));
    let flow = Flow { local: switch.address(Transport::Udp), ..flow };
    assert!(matches!(switch.net.send(&flow, vec![0; 70_000].into()), Err(SendError::Network(_))));
}

#[tokio::test]
async fn a_message_in_pieces_is_one_message() {
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]");
    let (mut phone, flow) = switch.tcp().await;
    phone.set_nodelay(true).unwrap();
    for piece in OPTIONS.as_bytes().chunks(7) {
        phone.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    assert_eq!(switch.message().await, (flow, OPTIONS.into()));
    assert_eq!(switch.message().await, (flow, OPTIONS.into()));
    assert_eq!(flow.remote, phone.local_addr().unwrap());

    switch.net.send(&flow, "SIP/2.0 200 OK\r\n\r\n".into()).unwrap();
    let mut answer = [0; 18];
    switch.during(phone.read_exact(&mut answer)).await.0.unwrap();
    assert_eq!(&answer, b"SIP/2.0 200 OK\r\n\r\n");
    drop(phone);
    assert_eq!(switch.closed().await, (flow, CloseReason::Peer));
    assert!(matches!(switch.net.send(&flow, Bytes::new()), Err(SendError::Closed)));
}

#[tokio::test]
async fn a_ping_is_answered_and_reported() {
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]");
    let (mut phone, flow) = switch.tcp().await;
    phone.write_all(b"\r\n\r\n").await.unwrap();
    assert!(matches!(switch.event().await, Event::KeepAlive { flow: f, .. } if f == flow));
    let mut pong = [0; 2];
    switch.during(phone.read_exact(&mut pong)).await.0.unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test]
async fn a_malformed_stream_gets_its_answer_and_ends() {
    // S9
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]");
    let (mut phone, flow) = switch.tcp().await;
    phone.write_all(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n").await.unwrap();
    match switch.event().await {
        Event::Malformed { error, .. } => {
            assert_eq!(error.fault, Fault::BadContentLength);
            assert!(error.head.starts_with(b"OPTIONS"));
        }
        other => panic!("{other:?}"),
    }
    switch.net.send(&flow, "SIP/2.0 400 Bad Request\r\n\r\n".into()).unwrap();
    let (rest, events) = switch.during(rest(&mut phone)).await;
    assert_eq!(rest, b"SIP/2.0 400 Bad Request\r\n\r\n");
    assert!(matches!(switch.end(events).await.1, CloseReason::Malformed(_)));
}

#[tokio::test]
async fn closing_writes_what_waits_first() {
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]");
    let (mut phone, flow) = switch.tcp().await;
    for _ in 0..100 {
        switch.net.send(&flow, vec![b'x'; 1000].into()).unwrap();
    }
    switch.net.close(&flow);
    assert!(matches!(switch.net.send(&flow, Bytes::new()), Err(SendError::Closed)));
    let (rest, events) = switch.during(rest(&mut phone)).await;
    assert_eq!(rest.len(), 100_000);
    assert_eq!(switch.end(events).await, (flow, CloseReason::Local));
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_connection_not_our_memory() {
    // S11
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]");
    let (_phone, flow) = switch.tcp().await;
    let piece = Bytes::from(vec![b'x'; 60_000]);
    let mut sent = 0;
    while switch.net.send(&flow, piece.clone()).is_ok() {
        sent += 1;
        assert!(sent < 400, "the bound is bytes, besides what the kernel takes");
        tokio::task::yield_now().await;
    }
    assert_eq!(switch.closed().await, (flow, CloseReason::Overflow));
}

#[tokio::test]
async fn a_connection_of_ours_carries_what_was_sent_before_it_was_up() {
    let mut here = open("[sip]\ntcp = [\"127.0.0.2:0\"]");
    let mut there = open("[sip]\ntcp = [\"127.0.0.3:0\"]");
    let remote = there.address(Transport::Tcp);
    let flow = here.net.connect(Transport::Tcp, None, remote, None);
    assert_eq!((flow.local, flow.remote), (here.address(Transport::Tcp), remote));
    here.net.send(&flow, OPTIONS.into()).unwrap();
    let ((back, bytes), events) = here
        .during(async {
            there.opened().await;
            there.message().await
        })
        .await;
    assert_eq!(bytes, OPTIONS);
    assert_eq!(back.remote.ip(), flow.local.ip(), "the peer may know us by our address");
    assert!(matches!(&events[..], [Event::Opened { flow: f }] if *f == flow), "{events:?}");
    there.net.send(&back, OPTIONS.into()).unwrap();
    there.net.close(&back);
    let ((answer, end), _) = there.during(async { (here.message().await, here.closed().await) }).await;
    assert_eq!(answer, (flow, OPTIONS.into()));
    assert_eq!(end, (flow, CloseReason::Peer));
}

#[tokio::test]
async fn a_connection_that_does_not_come_up_says_so() {
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let flow = switch.net.connect(Transport::Tcp, None, free, None);
    switch.net.send(&flow, OPTIONS.into()).unwrap();
    let (closed, reason) = switch.closed().await;
    assert_eq!(closed, flow);
    assert!(matches!(reason, CloseReason::Connect(_)), "{reason}");
    let other = switch.net.connect(Transport::Wss, None, free, None);
    assert_ne!(other.connection, flow.connection);
    assert!(matches!(switch.closed().await.1, CloseReason::Connect(_)));
}

/// Connects to a TLS listener as `localhost`, trusting only the certificate in `trusted`.
async fn tls(address: SocketAddr, trusted: &Path) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

#[tokio::test]
async fn a_self_signed_certificate_is_made_once_for_us_alone() {
    let mut switch = open("[sip]\ntls = [\"127.0.0.1:0\"]");
    let (certificate, key) = (switch.folder.path().join("data/self-signed.pem"), "data/self-signed.key");
    let mode = switch.folder.path().join(key).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(switch.folder.path().join("data").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let address = switch.address(Transport::Tls);
    let (phone, events) = switch.during(tls(address, &certificate)).await;
    let mut phone = phone.unwrap();
    let flow = switch.start(events).await;
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    assert_eq!(switch.message().await, (flow, OPTIONS.into()));
    let made = std::fs::read(&certificate).unwrap();
    let folder = switch.folder;
    drop(switch.net);
    Net::bind(&config(&folder, "[sip]\ntls = [\"127.0.0.1:0\"]")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(std::fs::read(&certificate).unwrap(), made);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_the_old_ones_live() {
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let mut switch = open("[sip]\ntls = [\"127.0.0.1:0\"]");
    let address = switch.address(Transport::Tls);
    let data = switch.folder.path().join("data");
    let (pem, key) = (data.join("self-signed.pem"), data.join("self-signed.key"));
    let old = data.join("old.pem");
    std::fs::copy(&pem, &old).unwrap();
    let mut phone = switch.during(tls(address, &old)).await.0.unwrap();

    let other = open("[sip]\ntls = [\"127.0.0.1:0\"]");
    let new = other.folder.path().join("data/self-signed.pem");
    // half a replacement: the certificate without its key cannot be used, so the old pair stays
    std::fs::copy(&new, &pem).unwrap();
    for _ in 0..2 {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
        switch.during(hangups.recv()).await.0.unwrap();
        switch.during(tls(address, &old)).await.0.expect("the old certificate stays");
    }
    std::fs::copy(other.folder.path().join("data/self-signed.key"), &key).unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    let renewed = async { while tls(address, &new).await.is_err() {} };
    switch.during(renewed).await;
    assert!(switch.during(tls(address, &old)).await.0.is_err());

    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (_, events) = switch.during(async { phone.write_all(OPTIONS.as_bytes()).await }).await;
    let heard = events.iter().filter(|e| matches!(e, Event::Message { .. })).count();
    if heard == 0 {
        while !matches!(switch.event().await, Event::Message { .. }) {}
    }
}

/// Opens a WebSocket with these headers besides the usual ones; else returns the status that refuses it.
async fn websocket(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<WebSocketStream<TcpStream>, u16> {
    upgrade(TcpStream::connect(address).await.unwrap(), path, headers).await
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<S>, u16> {
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match client_async(request, stream).await {
        Ok((stream, _)) => Ok(stream),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

const SIP: (&str, &str) = ("sec-websocket-protocol", "sip");

#[tokio::test]
async fn a_websocket_needs_the_subprotocol_and_a_known_origin() {
    let text = "[sip]\nws = [\"127.0.0.1:0\"]\norigins = [\"https://app.example\", \"http://127.0.0.1:*\"]\n";
    let mut switch = open(text);
    let address = switch.address(Transport::Ws);
    for (headers, answer) in [
        (&[SIP][..], Ok(())),
        (&[("sec-websocket-protocol", "msrp, sip")], Ok(())),
        (&[SIP, ("origin", "https://app.example")], Ok(())),
        (&[SIP, ("origin", "http://127.0.0.1:3000")], Ok(())),
        (&[SIP, ("origin", &format!("http://localhost:{}", address.port()))], Ok(())),
        (&[], Err(400)),
        (&[("sec-websocket-protocol", "sip2, SIP")], Err(400)),
        (&[SIP, ("origin", "https://app.example.evil.example")], Err(403)),
        (&[SIP, ("origin", "http://app.example")], Err(403)),
        (&[SIP, ("origin", "null")], Err(403)),
        (&[SIP, ("sec-websocket-version", "8")], Err(426)),
        (&[SIP, ("x-long", &"x".repeat(9000))], Err(431)),
    ] {
        let (answered, _) = switch.during(websocket(address, "/any", headers)).await;
        assert_eq!(answered.map(drop), answer, "{:.80}", format!("{headers:?}"));
    }
}

#[tokio::test]
async fn messages_go_both_ways_over_a_websocket() {
    let mut switch = open("[sip]\nws = [\"127.0.0.1:0\"]\n");
    let address = switch.address(Transport::Ws);
    let (phone, events) = switch.during(websocket(address, "/", &[SIP])).await;
    let mut phone = phone.unwrap();
    let flow = switch.start(events).await;
    phone.send(Message::text(OPTIONS)).await.unwrap();
    phone.send(Message::binary(OPTIONS)).await.unwrap();
    assert_eq!(switch.message().await, (flow, OPTIONS.into()));
    assert_eq!(switch.message().await, (flow, OPTIONS.into()));
    switch.net.send(&flow, OPTIONS.into()).unwrap();
    switch.net.send(&flow, Bytes::from_static(b"\xff")).unwrap();
    assert_eq!(switch.during(phone.next()).await.0.unwrap().unwrap(), Message::text(OPTIONS));
    assert_eq!(switch.during(phone.next()).await.0.unwrap().unwrap(), Message::binary(&b"\xff"[..]));
    phone.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(switch.during(phone.next()).await.0.unwrap().unwrap(), Message::text("\r\n"));
    phone.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(switch.during(phone.next()).await.0.unwrap().unwrap(), Message::Pong("p".into()));
    switch.net.close(&flow);
    let closed = switch.during(phone.next()).await.0.unwrap().unwrap();
    assert!(closed.is_close(), "{closed}");
}

#[tokio::test]
async fn secure_websockets_come_in() {
    let mut switch = open("[sip]\nwss = [\"127.0.0.1:0\"]\n");
    let certificate = switch.folder.path().join("data/self-signed.pem");
    for listener in switch.net.listeners().to_vec() {
        assert_eq!(listener.transport, Transport::Wss);
        let origin = format!("https://127.0.0.1:{}", listener.address.port());
        let headers = [SIP, ("origin", origin.as_str())];
        let phone = async {
            let stream = tls(listener.address, &certificate).await.unwrap();
            let mut phone = upgrade(stream, "/any", &headers).await.unwrap();
            phone.send(Message::text(OPTIONS)).await.unwrap();
            phone
        };
        let (_phone, events) = switch.during(phone).await;
        let heard = events.iter().any(|event| matches!(event, Event::Message { .. }));
        let flow = switch.start(events).await;
        assert_eq!((flow.transport, flow.local), (Transport::Wss, listener.address));
        if !heard {
            assert_eq!(switch.message().await, (flow, OPTIONS.into()));
        }
    }
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_connection() {
    // S9
    let mut switch = open("[sip]\nws = [\"127.0.0.1:0\"]\n");
    let address = switch.address(Transport::Ws);
    for announced in [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1][..], &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]] {
        let (phone, _) = switch.during(websocket(address, "/", &[SIP])).await;
        let mut socket = phone.unwrap().into_inner();
        // only the length of a frame, above the limit, and its mask
        socket.write_all(&[announced, &[1, 2, 3, 4, b'x']].concat()).await.unwrap();
        let mut told = Vec::new();
        let (_, events) = switch.during(socket.read_to_end(&mut told)).await;
        assert!(matches!(switch.end(events).await.1, CloseReason::Malformed(_)));
        assert_eq!(told.get(..4), Some(&[0x88, 2, 0x03, 0xf1][..]), "close code 1009");
    }
}

#[tokio::test]
async fn what_is_no_frame_and_what_is_no_text_is_told_apart() {
    // S9
    let mut switch = open("[sip]\nws = [\"127.0.0.1:0\"]\n");
    let address = switch.address(Transport::Ws);
    // a reserved opcode, a frame without a mask, and text that is no UTF-8
    for (frame, code) in [(&[0x83, 0x80, 0, 0, 0, 0][..], 0xea), (&[0x81, 1, b'x'], 0xea), (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 0xef)] {
        let (phone, _) = switch.during(websocket(address, "/", &[SIP])).await;
        let mut socket = phone.unwrap().into_inner();
        socket.write_all(frame).await.unwrap();
        let mut told = Vec::new();
        let (_, events) = switch.during(socket.read_to_end(&mut told)).await;
        assert!(matches!(switch.end(events).await.1, CloseReason::Malformed(_)));
        assert_eq!(told.get(..4), Some(&[0x88, 2, 0x03, code][..]), "close codes 1002 and 1007");
    }
}

#[tokio::test]
async fn a_connection_of_the_web_is_lent_and_comes_back_for_sip_at_its_old_place() {
    let mut switch = open("[sip]\n[http]\nlisten = [\"127.0.0.1:0\"]\nplain = true\n");
    let mut guests = switch.net.guests().unwrap();
    assert_eq!(switch.net.listeners()[0].place, Place::Http);
    assert!(switch.net.listeners()[0].to_string().starts_with("http=127.0.0.1:"));
    let address = switch.address(Transport::Ws);
    let mut browser = TcpStream::connect(address).await.unwrap();
    let (guest, _) = switch.during(guests.recv()).await;
    let guest = guest.unwrap();
    assert_eq!((guest.remote, guest.tls.is_some()), (browser.local_addr().unwrap(), false));
    // its first message, in a masked frame whose mask is zero
    let frame = [&[0x82, 0x80 | u8::try_from(OPTIONS.len()).unwrap(), 0, 0, 0, 0], OPTIONS.as_bytes()].concat();
    browser.write_all(&frame).await.unwrap();
    guest.bond.go_back(Box::pin(TcpStream::from_std(guest.socket).unwrap()));
    let opened = switch.opened().await;
    assert_eq!((opened.transport, opened.local), (Transport::Ws, address));
    assert_eq!(switch.message().await, (opened, OPTIONS.into()));
}

#[tokio::test]
async fn a_guest_keeps_a_place_like_everybody_and_loses_it_like_everybody() {
    // S11
    let mut switch =
        open("[sip]\n[http]\nlisten = [\"127.0.0.1:0\"]\nplain = true\n[limits]\nconnections = 2\nconnections_per_address = 2");
    let (address, mut guests) = (switch.address(Transport::Ws), switch.net.guests().unwrap());
    let (_first, _second) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
    let (mut first, mut second) = (switch.during(guests.recv()).await.0.unwrap(), switch.during(guests.recv()).await.0.unwrap());
    let mut refused = TcpStream::connect(address).await.unwrap();
    assert_eq!(switch.during(rest(&mut refused)).await.0, b"");
    first.bond.door().signed_in();
    let _third = TcpStream::connect(address).await.unwrap();
    let (_third, _) = switch.during(guests.recv()).await;
    switch.during(second.broken.wait()).await;
    assert!(tokio::time::timeout(Duration::from_millis(1), first.broken.wait()).await.is_err(), "who has signed in stays");
}

#[tokio::test]
async fn one_address_has_so_many_connections_without_a_login() {
    // S11
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]\n[limits]\nconnections_per_address = 2");
    let (_a, first) = switch.tcp().await;
    let (_b, _) = switch.tcp().await;
    let mut refused = TcpStream::connect(switch.address(Transport::Tcp)).await.unwrap();
    assert_eq!(switch.during(rest(&mut refused)).await.0, b"");
    switch.net.keep(&first);
    let (_c, _) = switch.tcp().await; // a login makes room
    switch.net.release(&first);
    let mut refused = TcpStream::connect(switch.address(Transport::Tcp)).await.unwrap();
    let (_, events) = switch.during(rest(&mut refused)).await;
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test]
async fn a_full_switch_closes_the_oldest_connection_without_a_login() {
    // S11
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]\n[limits]\nconnections = 3");
    let (_a, kept) = switch.tcp().await;
    switch.net.keep(&kept);
    let (mut b, oldest) = switch.tcp().await;
    let (_c, last) = switch.tcp().await;
    let _d = TcpStream::connect(switch.address(Transport::Tcp)).await.unwrap();
    assert_eq!(switch.closed().await, (oldest, CloseReason::Evicted));
    let d = switch.opened().await;
    assert_eq!(switch.during(rest(&mut b)).await.0, b"");
    for flow in [last, d] {
        switch.net.keep(&flow);
    }
    let mut refused = TcpStream::connect(switch.address(Transport::Tcp)).await.unwrap();
    let (_, events) = switch.during(rest(&mut refused)).await;
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test]
async fn half_open_connections_are_reaped() {
    // S11
    let text = "[sip]\ntcp = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:0\"]\nws = [\"127.0.0.1:0\"]\n\
                [limits]\nhalf_open = \"50ms\"";
    let mut switch = open(text);
    for (transport, sent, opens) in [
        (Transport::Tcp, &b""[..], true),
        (Transport::Tcp, b"\r\n\r\n", true),
        (Transport::Tcp, b"OPTIONS sip:a SIP/2.0\r\n", true),
        (Transport::Tls, b"", false),
        (Transport::Tls, b"\x16\x03\x01", false),
        (Transport::Ws, b"", false),
        (Transport::Ws, b"GET / HTTP/1.1\r\n", false),
    ] {
        let mut phone = TcpStream::connect(switch.address(transport)).await.unwrap();
        phone.write_all(sent).await.unwrap();
        if opens {
            let flow = switch.opened().await;
            let end = loop {
                match switch.event().await {
                    Event::KeepAlive { .. } => {}
                    end => break end,
                }
            };
            let reaped = matches!(end, Event::Closed { flow: f, reason: CloseReason::HalfOpen } if f == flow);
            assert!(reaped, "{transport} {sent:?} {end:?}");
        }
        let (_, events) = switch.during(rest(&mut phone)).await;
        assert!(events.is_empty(), "{transport} {sent:?} {events:?}");
    }
}

#[tokio::test]
async fn the_rest_of_a_message_is_waited_for_no_longer_on_a_connection_that_is_kept() {
    // S11
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]\n[limits]\nhalf_open = \"100ms\"");
    let (mut phone, flow) = switch.tcp().await;
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    switch.message().await;
    switch.net.keep(&flow);
    phone.write_all(b"O").await.unwrap();
    assert_eq!(switch.closed().await, (flow, CloseReason::HalfOpen));
}

#[tokio::test]
async fn silence_ends_a_connection_unless_it_is_kept_and_then_the_loop_is_asked() {
    // S11
    let mut switch = open("[sip]\ntcp = [\"127.0.0.1:0\"]\n[limits]\nidle = \"60ms\"");
    let (mut stranger, flow) = switch.tcp().await;
    stranger.write_all(OPTIONS.as_bytes()).await.unwrap();
    switch.message().await;
    assert_eq!(switch.closed().await, (flow, CloseReason::Idle));
    let (mut phone, flow) = switch.tcp().await;
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    switch.message().await;
    switch.net.keep(&flow);
    for _ in 0..3 {
        assert!(matches!(switch.event().await, Event::Silent { flow: f } if f == flow));
    }
    switch.net.release(&flow);
    assert_eq!(switch.closed().await, (flow, CloseReason::Idle));
}

#[tokio::test]
async fn a_connection_of_ours_begins_kept() {
    let mut here = open("[sip]\ntcp = [\"127.0.0.2:0\"]\n[limits]\nidle = \"60ms\"");
    let there = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let flow = here.net.connect(Transport::Tcp, None, there.local_addr().unwrap(), None);
    let (_accepted, events) = here.during(there.accept()).await;
    assert_eq!(here.start(events).await, flow);
    assert!(matches!(here.event().await, Event::Silent { flow: f } if f == flow));
    here.net.release(&flow);
    assert_eq!(here.closed().await, (flow, CloseReason::Idle));
}

#[tokio::test]
async fn what_cannot_be_opened_is_one_sentence_and_nothing_stays_open() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let busy = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let other = open("[sip]\ntls = [\"127.0.0.1:0\"]");
    std::fs::copy(other.folder.path().join("data/self-signed.pem"), folder.path().join("a.pem")).unwrap();
    let another = open("[sip]\ntls = [\"127.0.0.1:0\"]");
    std::fs::copy(another.folder.path().join("data/self-signed.key"), folder.path().join("b.key")).unwrap();
    for (text, sentence) in [
        (
            format!("[sip]\nudp = [\"{free}\"]\ntcp = [\"{busy}\"]"),
            format!("tandem.toml:3: sip.tcp[0]: {busy} is in use by another program; accepted: a free port"),
        ),
        (
            "[sip]\nudp = [\"192.0.2.1:5060\"]".to_owned(),
            "tandem.toml:2: sip.udp[0]: 192.0.2.1:5060 is no address of this machine; accepted: one that `ip address` lists".to_owned(),
        ),
        (
            "data_dir = \"file/data\"\n[sip]\nudp = [\"127.0.0.1:0\"]".to_owned(),
            "tandem.toml:1: data_dir: no file can be made in {dir}/file/data: Not a directory (os error 20); accepted: a folder to write to".to_owned(),
        ),
        (
            "[sip]\ntls = [\"127.0.0.1:0\"]\n[tls]\ncertificate = \"no.pem\"\nkey = \"b.key\"".to_owned(),
            "tandem.toml:4: tls.certificate: {dir}/no.pem: No such file or directory (os error 2); accepted: certificates in PEM".to_owned(),
        ),
        (
            "[sip]\ntls = [\"127.0.0.1:0\"]\n[tls]\ncertificate = \"a.pem\"\nkey = \"a.pem\"".to_owned(),
            "tandem.toml:5: tls.key: {dir}/a.pem: holds none; accepted: a private key in PEM".to_owned(),
        ),
        (
            "[sip]\ntls = [\"127.0.0.1:0\"]\n[tls]\ncertificate = \"a.pem\"\nkey = \"b.key\"".to_owned(),
            "tandem.toml:5: tls.key: {dir}/b.key does not belong to the certificate {dir}/a.pem; accepted: its own key".to_owned(),
        ),
        (
            "[sip]\ntls = [\"127.0.0.1:0\"]\n[tls]\nca = \"b.key\"".to_owned(),
            "tandem.toml:4: tls.ca: {dir}/b.key: holds no certificate; accepted: certificates in PEM".to_owned(),
        ),
    ] {
        let config = config(&folder, &text);
        let error = Net::bind(&config).err().expect("a fault").to_string();
        let dir = folder.path().to_str().unwrap();
        assert_eq!(error, format!("{dir}/{}", sentence.replace("{dir}", dir)));
    }
    UdpSocket::bind(free).await.expect("the listener that could be opened is closed again");
}

#[tokio::test]
async fn a_check_notes_ports_in_use_and_refuses_strange_addresses() {
    let switch = open("[sip]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]");
    let (udp, tcp) = (switch.address(Transport::Udp), switch.address(Transport::Tcp));
    let text = format!("[sip]\nudp = [\"{udp}\", \"127.0.0.1:0\"]\ntcp = [\"{tcp}\"]");
    let notes = Net::check(&config(&switch.folder, &text)).unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes.iter().all(|note| note.ends_with(" is in use: by the switch, if it runs with this file, else by another program")),
        "{notes:?}"
    );
    let text = "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nmusic_on_hold = \"no.wav\"";
    let fault = Net::check(&config(&switch.folder, text)).unwrap_err().to_string();
    assert!(fault.contains("tandem.toml:4: media.music_on_hold: ") && fault.contains("; accepted: a WAV file"), "{fault}");
    let text = format!("[sip]\nudp = [\"{udp}\"]\n[media]\naddress = \"192.0.2.1\"");
    let fault = Net::check(&config(&switch.folder, &text)).unwrap_err().to_string();
    assert!(fault.contains("tandem.toml:4: media.address: 192.0.2.1"), "{fault}");
}
