//! SIP over secure WebSocket as a client (RFC 7118): trusts one certificate, sends and receives a message a frame.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

/// A connection to the switch.
pub(super) struct Wss(WebSocketStream<TlsStream<TcpStream>>);

impl Wss {
    /// Connects to the switch, whose certificate must be the one given in PEM, and returns our end too.
    pub(super) async fn open(switch: SocketAddr, certificate: &[u8]) -> anyhow::Result<(SocketAddr, Self)> {
        let stream = TcpStream::connect(switch).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let stream = trusting(certificate)?.connect(ServerName::from(switch.ip()), stream).await.context("TLS failed")?;
        let uri: Uri = format!("wss://{switch}/").parse()?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("sip");
        let (socket, _) = client_async(request, stream).await.context("the WebSocket was refused")?;
        Ok((local, Self(socket)))
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &Bytes) -> anyhow::Result<()> {
        let text = Utf8Bytes::try_from(message.clone());
        let frame = text.map_or_else(|_| Message::Binary(message.clone()), Message::Text);
        self.0.send(frame).await.context("the switch cannot be reached")
    }

    /// Waits for a message; nothing is lost where the future is dropped.
    pub(super) async fn receive(&mut self) -> anyhow::Result<Bytes> {
        while let Some(frame) = self.0.next().await {
            match frame.context("the switch cannot be reached")? {
                Message::Text(text) => return Ok(text.into()),
                Message::Binary(octets) => return Ok(octets),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {} // a ping is answered by the library
            }
        }
        bail!("the switch closed the connection")
    }
}

/// TLS that trusts one certificate only.
fn trusting(certificate: &[u8]) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate).context("the switch's certificate cannot be read")?)?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}
