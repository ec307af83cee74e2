//! A switch on ports that the system chose, and phones that write their messages themselves.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use sip::digest::{Answered, Login, answer};
use sip::framing::{Frame, Framing};
use sip::message::Name;
use sip::message::parse::parse;
use sip::{Message, Method, Request, Response, Transport};
use tandem::app::{self, Running};
use tandem::config::Config;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// So long no test waits for anything that is to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Where the switch listens, and where a phone is that is nobody special.
pub(crate) const HOME: &str = "127.0.66.1";
/// The address of the trunk.
pub(crate) const TRUNK: &str = "127.0.66.50";
pub(crate) const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.66.9\r\ns=-\r\nc=IN IP4 127.0.66.9\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";

/// Runs a switch for `tandem.test`; see [`switch_for`].
pub(crate) async fn switch(more: &str, work: impl AsyncFnOnce(&Switch)) {
    switch_for("tandem.test", more, work).await;
}

/// Runs a switch with UDP, TCP and TLS listeners, the users ann and bob and a trunk; `more` is further configuration.
pub(crate) async fn switch_for(domain: &'static str, more: &str, work: impl AsyncFnOnce(&Switch)) {
    run(domain, more, work).await.unwrap();
}

/// Runs a switch as [`switch`] does, and tells how it ended.
pub(crate) async fn try_switch(more: &str, work: impl AsyncFnOnce(&Switch)) -> anyhow::Result<()> {
    run("tandem.test", more, work).await
}

async fn run(domain: &'static str, more: &str, work: impl AsyncFnOnce(&Switch)) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "domain = \"{domain}\"\n[sip]\nudp = [\"{HOME}:0\"]\ntcp = [\"{HOME}:0\"]\ntls = [\"{HOME}:0\"]\ndns = false\n[media]\nwebrtc_port = 0\n\
         [[user]]\nname = \"ann\"\npassword = \"ann-secret\"\n[[user]]\nname = \"bob\"\npassword = \"bob-secret\"\n\
         [[trunk]]\nname = \"peer\"\nkind = \"ip\"\naddresses = [\"{TRUNK}\"]\n{more}"
    );
    let config = Config::parse(&folder.path().join("tandem.toml"), &text).unwrap_or_else(|e| panic!("{e}"));
    let run = app::run_beside(&config, async |running| {
        // the futures of a whole test and a whole switch are more than a thread's stack takes
        Box::pin(work(&Switch { running, domain, folder })).await;
        Ok(())
    });
    Box::pin(run).await
}

pub(crate) struct Switch {
    pub(crate) running: Running,
    domain: &'static str,
    folder: TempDir,
}

impl Switch {
    /// Returns the folder of what survives a restart.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn address(&self, transport: Transport) -> SocketAddr {
        self.running.listeners().iter().find(|l| l.transport == transport).unwrap().address
    }

    pub(crate) async fn phone(&self, name: &str, transport: Transport) -> Phone {
        self.phone_at(name, transport, HOME).await
    }

    /// Opens a phone's socket at an address of its own.
    pub(crate) async fn phone_at(&self, name: &str, transport: Transport, ip: &str) -> Phone {
        let (switch, here) = (self.address(transport), SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 0));
        let (local, line) = if transport == Transport::Tcp {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(here).unwrap();
            let stream = socket.connect(switch).await.unwrap();
            (stream.local_addr().unwrap(), Line::Tcp(stream, Framing::default()))
        } else {
            let socket = UdpSocket::bind(here).await.unwrap();
            socket.connect(switch).await.unwrap();
            (socket.local_addr().unwrap(), Line::Udp(socket))
        };
        Phone {
            name: name.to_owned(),
            domain: self.domain,
            transport,
            local,
            line,
            call_id: format!("{name}-{}", local.port()),
            sequence: 0,
        }
    }
}

enum Line {
    Udp(UdpSocket),
    Tcp(TcpStream, Framing),
}

/// A phone of a user, known by its name; its password is the name and `-secret`.
pub(crate) struct Phone {
    pub(crate) name: String,
    domain: &'static str,
    pub(crate) transport: Transport,
    pub(crate) local: SocketAddr,
    line: Line,
    call_id: String,
    sequence: u32,
}

impl Phone {
    /// Opens a socket at another address for the same dialogs: the phone has moved, or somebody there knows what names them.
    pub(crate) async fn moved(&self, switch: &Switch, ip: &str) -> Self {
        let there = switch.phone_at(&self.name, self.transport, ip).await;
        Self { call_id: self.call_id.clone(), sequence: self.sequence, ..there }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        match &mut self.line {
            Line::Udp(socket) => drop(socket.send(bytes).await.unwrap()),
            // the switch may have closed it: the next read tells
            Line::Tcp(stream, _) => drop(stream.write_all(bytes).await),
        }
    }

    /// Waits for the next message; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        Some(parse(self.raw().await?).expect("the switch writes SIP"))
    }

    /// Waits for the next message, whatever it is: an answer repeats what the request had.
    pub(crate) async fn raw(&mut self) -> Option<Bytes> {
        timeout(PATIENCE, self.line.read()).await.expect("something comes")
    }

    pub(crate) async fn response(&mut self) -> Response {
        loop {
            match self.next().await.expect("the connection lives") {
                Message::Response(response) if response.status.is_final() => return response,
                Message::Response(_) => {}
                Message::Request(request) => panic!("{} came, not a response", request.method),
            }
        }
    }

    pub(crate) async fn request(&mut self) -> Request {
        match self.next().await.expect("the connection lives") {
            Message::Request(request) => request,
            Message::Response(response) => panic!("{} came, not a request", response.status),
        }
    }

    /// Writes a request; `to` is what follows `To: `.
    pub(crate) fn write(&mut self, method: &str, uri: &str, to: &str, more: &str, body: &str) -> Request {
        self.sequence += 1;
        let Self { name, domain, transport, local, call_id, sequence, .. } = self;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let token = transport.token();
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{token} {local};rport;branch=z9hG4bK{call_id}.{sequence}\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@{domain}>;tag={name}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {sequence} {method}\r\n\
             Contact: <sip:{name}@{local};transport={}>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            transport.param(),
            body.len()
        );
        match parse(Bytes::from(text)).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => unreachable!("a request was written"),
        }
    }

    /// Sends a request, again with credentials if it is challenged, and returns its final response.
    pub(crate) async fn ask(&mut self, request: Request) -> Response {
        self.ask_as(request, &self.login()).await
    }

    /// As [`Phone::ask`], with these credentials.
    pub(crate) async fn ask_as(&mut self, mut request: Request, login: &Login) -> Response {
        let mut answered = Answered::default();
        loop {
            self.send(&request.encode()).await;
            let response = self.response().await;
            if !matches!(response.status.code(), 401 | 407) {
                return response;
            }
            if request.method == Method::Invite {
                let ack = self.ack_of(&request, &response);
                self.send(&ack).await;
            }
            if answer(&mut answered, login, &response, &mut request, "0123456789abcdef").is_err() {
                return response;
            }
            self.sequence += 1;
            let (method, sequence, branch) = (request.method.to_string(), self.sequence, format!("{}.{}", self.call_id, self.sequence));
            request.headers.set(Name::CSeq, format!("{sequence} {method}"));
            let via = format!("SIP/2.0/{} {};rport;branch=z9hG4bK{branch}", self.transport.token(), self.local);
            request.headers.set(Name::Via, via);
        }
    }

    pub(crate) fn login(&self) -> Login {
        Login { username: self.name.clone(), password: format!("{}-secret", self.name), realm: Some(self.domain.to_owned()) }
    }

    /// Writes the ACK of a refusal.
    fn ack_of(&self, invite: &Request, response: &Response) -> Vec<u8> {
        let mut ack = invite.clone();
        let number = self.sequence;
        ack.headers.set(Name::CSeq, format!("{number} ACK"));
        ack.headers.set(Name::To, text(response, Name::To));
        ack.body = Bytes::new();
        ack.headers.remove(Name::ContentType);
        let written = String::from_utf8(ack.encode().to_vec()).unwrap();
        written.replacen("INVITE", "ACK", 1).into_bytes()
    }

    /// Registers for so many seconds, 0 for no more, and returns the status.
    pub(crate) async fn register(&mut self, expires: u32) -> u16 {
        let (to, registrar) = (format!("<sip:{}@{}>", self.name, self.domain), format!("sip:{}", self.domain));
        let request = self.write("REGISTER", &registrar, &to, &format!("Expires: {expires}\r\n"), "");
        self.ask(request).await.status.code()
    }

    /// Calls a user, and returns the 200.
    pub(crate) async fn invite(&mut self, callee: &str) -> Request {
        let uri = format!("sip:{callee}@{}", self.domain);
        self.write("INVITE", &uri, &format!("<{uri}>"), "", SDP)
    }

    /// Writes an ACK or a further request in the dialog of a 2xx that came.
    pub(crate) fn within(&mut self, method: &str, answered: &Response) -> Bytes {
        let contact = text(answered, Name::Contact);
        let uri = contact.trim_start_matches('<').split('>').next().unwrap().to_owned();
        if method == "ACK" {
            self.sequence -= 1; // an ACK has the number of its INVITE
        }
        self.write(method, &uri, &text(answered, Name::To), "", "").encode()
    }

    /// Answers a request with a status, a tag, a Contact and, with 200 to an INVITE, SDP.
    pub(crate) async fn answer(&mut self, request: &Request, status: &str) {
        let mut lines = format!("SIP/2.0 {status}\r\n");
        for name in [Name::Via, Name::From, Name::CallId, Name::CSeq, Name::RecordRoute] {
            for row in request.headers.all(name) {
                lines += &format!("{}: {}\r\n", name.as_str(), String::from_utf8_lossy(row));
            }
        }
        let to = String::from_utf8_lossy(request.headers.get(Name::To).unwrap()).into_owned();
        let tag = if to.contains("tag=") { String::new() } else { format!(";tag={}", self.name) };
        let body = if status.starts_with("200") && *request.method.as_str() == *"INVITE" { SDP } else { "" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let (name, local, param) = (&self.name, self.local, self.transport.param());
        lines += &format!(
            "To: {to}{tag}\r\nContact: <sip:{name}@{local};transport={param}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(lines.as_bytes()).await;
    }

    /// Waits until the switch closes the connection.
    pub(crate) async fn until_closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// Returns the value of a header.
pub(crate) fn text(response: &Response, name: Name) -> String {
    String::from_utf8_lossy(response.headers.get(name).unwrap_or_default()).into_owned()
}

impl Line {
    async fn read(&mut self) -> Option<Bytes> {
        let mut chunk = vec![0; 65_535];
        match self {
            Self::Udp(socket) => {
                let length = socket.recv(&mut chunk).await.unwrap();
                Some(Bytes::copy_from_slice(&chunk[..length]))
            }
            Self::Tcp(stream, framing) => loop {
                if let Some(Frame::Message(bytes)) = framing.poll_output().map(Result::unwrap) {
                    return Some(bytes);
                }
                match stream.read(&mut chunk).await {
                    Ok(length) if length > 0 => framing.handle_input(&chunk[..length]),
                    // a reset is an end as well
                    _ => return None,
                }
            },
        }
    }
}
