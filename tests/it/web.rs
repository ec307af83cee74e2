//! A client of the web in tests: HTTP/1.1 as plain text over TCP or a Unix socket, and WebSockets by a library that we did not write.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::harness::PATIENCE;

/// An answer: its status, its head in lower case, its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Sends a request on a connection of its own and reads to its end.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> Answer {
    // a refusal may come, and the connection go, before everything was sent
    let _refused = stream.write_all(request).await;
    read_answer(&mut stream).await
}

pub(crate) async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S) -> Answer {
    let mut read = Vec::new();
    let mut chunk = [0; 16_384];
    loop {
        if let Some(answer) = whole(&read) {
            return answer;
        }
        match timeout(PATIENCE, stream.read(&mut chunk)).await.expect("something comes") {
            Ok(length) if length > 0 => read.extend_from_slice(&chunk[..length]),
            _ => panic!("the connection ended after {:?}", String::from_utf8_lossy(&read)),
        }
    }
}

fn whole(read: &[u8]) -> Option<Answer> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    let body = read.get(end + 4..end + 4 + length)?.to_vec();
    Some(Answer { status, head, body })
}

/// Writes a CAS request.
pub(crate) fn message(topic: &str, name: &str, body: Value) -> Value {
    json!({ "topic": topic, "message": name, "timestamp": 1, "sequence-id": 1, "request-id": 7, "body": body })
}

/// Writes `POST /cas`.
pub(crate) fn post(token: Option<&str>, more: &str, body: &[u8]) -> Vec<u8> {
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!("POST /cas HTTP/1.1\r\nHost: x\r\n{token}{more}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A client application at the web's listener.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
}

impl Client {
    pub(crate) async fn sign_in(address: SocketAddr, user: &str) -> Self {
        let mut client = Self { address, token: None };
        let login = client.ask("login", "login", json!({ "user": user, "password": format!("{user}-secret") })).await;
        client.token = Some(login["body"]["token"].as_str().unwrap_or_else(|| panic!("{login}")).to_owned());
        client
    }

    /// Sends a request, and waits for its final reply.
    pub(crate) async fn ask(&self, topic: &str, name: &str, body: Value) -> Value {
        let request = post(self.token.as_deref(), "Prefer: wait=20\r\n", message(topic, name, body).to_string().as_bytes());
        exchange(TcpStream::connect(self.address).await.unwrap(), &request).await.json()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let token = self.token.as_deref().map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{token}\r\n");
        exchange(TcpStream::connect(self.address).await.unwrap(), request.as_bytes()).await
    }

    /// Opens a WebSocket after the event of a number.
    pub(crate) async fn socket(&self, after: Option<u64>) -> Socket {
        let path = after.map_or_else(|| "/cas/events".to_owned(), |after| format!("/cas/events?after={after}"));
        let protocols = self.token.as_deref().map_or_else(|| "cas".to_owned(), |token| format!("cas, token.{token}"));
        open(self.address, &path, &[("sec-websocket-protocol", &protocols)]).await.unwrap()
    }
}

/// Opens a WebSocket; a refusal is its status.
pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(Socket { socket, asked: 0 }),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) struct Socket {
    pub(crate) socket: WebSocketStream<TcpStream>,
    asked: u64,
}

impl Socket {
    pub(crate) async fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Waits for the next message; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("something comes")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends a request, and waits for its final reply; events that come meanwhile are lost.
    pub(crate) async fn ask(&mut self, topic: &str, name: &str, body: Value) -> Value {
        self.asked += 1;
        let mut request = message(topic, name, body);
        request["request-id"] = self.asked.into();
        request["prefer"] = "wait=20".into();
        self.send(request.to_string()).await;
        loop {
            let reply = self.next().await.expect("the stream lives");
            if reply["request-id"] == request["request-id"] {
                return reply;
            }
        }
    }

    /// Waits for the next event of a topic.
    pub(crate) async fn event(&mut self, topic: &str) -> Value {
        loop {
            let event = self.next().await.expect("the stream lives");
            if event["topic"] == topic && event.get("response").is_none() {
                return event;
            }
        }
    }
}
