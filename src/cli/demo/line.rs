//! The SIP of a scripted phone: an endpoint and its one socket to the switch. It moves only while somebody waits for what comes next.

use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use sip::framing::{Frame, Framing};
use sip::{
    ClientId, ConnectionId, DialogEvent, DialogId, Endpoint, Event, Flow, Hop, Incoming, Listeners, Method, Response, Setup, Transport,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::sleep_until;

use super::wss::Wss;
use crate::clock;

/// The session interval that the phones propose.
const SESSION_INTERVAL: Duration = Duration::from_secs(1800);
/// What is read from a stream at once.
const CHUNK: usize = 4096;
/// The longest datagram.
const DATAGRAM: usize = 65_535;

/// An endpoint that talks to one switch only.
pub(super) struct Line {
    pub(super) sip: Endpoint,
    flow: Flow,
    socket: Socket,
}

enum Socket {
    /// The socket, and where a datagram lands.
    Udp(UdpSocket, Vec<u8>),
    /// The connection, and the messages in it.
    Tcp(TcpStream, Framing),
    /// A frame is a message.
    Wss(Box<Wss>),
}

impl Line {
    /// Opens a socket to the switch.
    pub(super) async fn open(transport: Transport, switch: SocketAddr, authority: &[u8], seed: [u8; 32]) -> anyhow::Result<Self> {
        let (local, socket) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind((switch.ip(), 0)).await?;
                socket.connect(switch).await?;
                (socket.local_addr()?, Socket::Udp(socket, vec![0; DATAGRAM]))
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(switch).await?;
                stream.set_nodelay(true)?;
                (stream.local_addr()?, Socket::Tcp(stream, Framing::default()))
            }
            Transport::Wss => {
                let (local, socket) = Wss::open(switch, authority).await?;
                (local, Socket::Wss(Box::new(socket)))
            }
            Transport::Tls | Transport::Ws => bail!("no scripted phone speaks {transport}"),
        };
        let connection = transport.is_reliable().then_some(ConnectionId(1));
        let setup = Setup {
            listeners: Listeners(vec![(transport, local)]),
            node: 0,
            seed,
            product: concat!("tandem-demo/", env!("CARGO_PKG_VERSION")).to_owned(),
            session_interval: SESSION_INTERVAL,
        };
        Ok(Self { sip: Endpoint::new(setup), flow: Flow { transport, local, remote: switch, connection }, socket })
    }

    /// Returns the way to the switch: every request goes there.
    pub(super) fn hop(&self) -> Hop {
        Hop::Flow(self.flow)
    }

    /// Returns our end of the line.
    pub(super) fn local(&self) -> SocketAddr {
        self.flow.local
    }

    /// Returns the transport.
    pub(super) fn transport(&self) -> Transport {
        self.flow.transport
    }

    /// Waits for the final response to a request.
    pub(super) async fn response(&mut self, request: ClientId) -> anyhow::Result<Response> {
        loop {
            if let Event::Response(client, response) = self.next().await?
                && client == request
                && response.status.is_final()
            {
                return Ok(*response);
            }
        }
    }

    /// Waits for a call.
    pub(super) async fn invitation(&mut self) -> anyhow::Result<Incoming> {
        loop {
            if let Event::Request(incoming) = self.next().await?
                && incoming.request.method == Method::Invite
            {
                return Ok(*incoming);
            }
        }
    }

    /// Waits until something happens in a call.
    pub(super) async fn happening(&mut self, dialog: DialogId) -> anyhow::Result<DialogEvent> {
        loop {
            if let Event::Dialog(id, event) = self.next().await?
                && id == dialog
            {
                return Ok(event);
            }
        }
    }

    /// Waits for the next event, and sends meanwhile what is to be sent.
    pub(super) async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            self.flush().await?;
            if let Some(event) = self.sip.next_event() {
                return Ok(event);
            }
            let deadline = self.sip.poll_timeout();
            tokio::select! {
                biased;
                message = self.socket.receive() => self.sip.receive(clock::now(), self.flow, message?),
                () = at(deadline) => self.sip.handle_timeout(clock::now()),
            }
        }
    }

    /// Sends what is to be sent.
    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(send) = self.sip.next_send() {
            match &mut self.socket {
                Socket::Udp(socket, _) => socket.send(&send.bytes).await.map(drop),
                Socket::Tcp(stream, _) => stream.write_all(&send.bytes).await,
                Socket::Wss(socket) => {
                    socket.send(&send.bytes).await?;
                    continue;
                }
            }
            .context("the switch cannot be reached")?;
        }
        Ok(())
    }
}

impl Socket {
    /// Waits for a message; nothing is lost where the future is dropped.
    async fn receive(&mut self) -> anyhow::Result<Bytes> {
        match self {
            Self::Udp(socket, datagram) => {
                let length = socket.recv(datagram).await.context("the switch cannot be reached")?;
                Ok(Bytes::copy_from_slice(datagram.get(..length).unwrap_or_default()))
            }
            Self::Tcp(stream, framing) => loop {
                match framing.poll_output() {
                    Some(Ok(Frame::Message(message))) => return Ok(message),
                    Some(Ok(Frame::Ping | Frame::Pong)) => {}
                    Some(Err(error)) => bail!("the switch sent what is no SIP: {error}"),
                    None => {
                        let mut chunk = [0; CHUNK];
                        let length = stream.read(&mut chunk).await.context("the switch cannot be reached")?;
                        if length == 0 {
                            bail!("the switch closed the connection");
                        }
                        framing.handle_input(chunk.get(..length).unwrap_or_default());
                    }
                }
            },
            Self::Wss(socket) => socket.receive().await,
        }
    }
}

/// Waits until then; without a time, for ever.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
