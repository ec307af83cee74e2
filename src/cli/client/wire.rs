//! One HTTP/1.1 connection to the switch, over its Unix socket, TCP or TLS (RFC 9112 by hyper). It knows no CAS messages.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::place::{Place, Url};
use crate::cli::failure::{Exit, Failure};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a reply may take that waits for nobody.
pub(super) const AT_ONCE: Duration = Duration::from_secs(10);
/// Longest reply that is read, in bytes.
const MAX_REPLY: usize = 32 * 1024 * 1024;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// What moves the bytes; it has to be polled beside whatever waits for them.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection.
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
    host: String,
}

/// A reply whose body goes on and on.
pub(super) struct Stream {
    body: Incoming,
    driver: Option<Driver>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody answers there, or not with TLS that is trusted.
    pub(super) async fn open(place: &Place, ca: Option<&Path>) -> anyhow::Result<Self> {
        let opened = timeout(CONNECT, connect(place, ca)).await;
        let (socket, host) = opened.unwrap_or_else(|_| Err(silent(place)))?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|_| silent(place))?;
        let driver: Driver = Box::pin(async move {
            // how it ended is seen by whoever waits for a reply
            let _ = connection.await;
        });
        Ok(Self { sender, driver: Some(driver), host })
    }

    /// Returns whether the connection takes another request.
    pub(super) fn is_open(&self) -> bool {
        self.driver.is_some() && !self.sender.is_closed()
    }

    /// Sends a request and reads its reply to the end, which may take so long. A late reply finds the connection closed.
    ///
    /// # Errors
    ///
    /// The connection broke, or the reply is too long or too late.
    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>, limit: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
        let work = async |sender: &mut SendRequest<_>, request| {
            let response = sender.send_request(request).await.context("the connection broke")?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_REPLY).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the reply broke off: {error}"))?;
            Ok((status, body.to_bytes()))
        };
        let request = self.addressed(request)?;
        let exchange = drive(&mut self.driver, work(&mut self.sender, request));
        let exchanged = timeout(limit, exchange).await;
        exchanged.unwrap_or_else(|_| {
            self.driver = None;
            Err(anyhow::anyhow!("the switch took the request and did not answer within {} s", limit.as_secs()))
        })
    }

    /// Sends a request and returns the reply with its body still to come.
    ///
    /// # Errors
    ///
    /// The connection broke, or the reply is too late.
    pub(super) async fn stream(mut self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Stream)> {
        let request = self.addressed(request)?;
        let response = drive(&mut self.driver, async { self.sender.send_request(request).await.context("the connection broke") });
        let response: Response<Incoming> = timeout(AT_ONCE, response).await.context("the switch does not answer")??;
        Ok((response.status(), Stream { body: response.into_body(), driver: self.driver }))
    }

    fn addressed(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Request<Full<Bytes>>> {
        request.headers_mut().insert(HOST, self.host.parse()?);
        Ok(request)
    }
}

impl Stream {
    /// Returns the next piece; none at the end.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = drive(&mut self.driver, async { self.body.frame().await.transpose().context("the connection broke") }).await?;
            match frame.map(hyper::body::Frame::into_data) {
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(_)) => {} // trailers
                None => return Ok(None),
            }
        }
    }
}

/// Waits for work that needs the connection to move. A connection that has ended may still have a reply in its hands.
async fn drive<T>(driver: &mut Option<Driver>, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::pin!(work);
    if let Some(connection) = driver {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = connection => {}
        }
    }
    *driver = None;
    work.await
}

async fn connect(place: &Place, ca: Option<&Path>) -> anyhow::Result<(Box<dyn Socket>, String)> {
    match place {
        Place::Socket(path) => match UnixStream::connect(path).await {
            Ok(socket) => Ok((Box::new(socket), "localhost".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let sentence = format!("{place} is not yours to open; run as the user that runs the switch, or use --url with --key");
                Err(Failure::new(Exit::Refused, sentence).into())
            }
            Err(_) => Err(silent(place)),
        },
        Place::Url(url) => {
            let socket = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|_| silent(place))?;
            socket.set_nodelay(true)?;
            let socket: Box<dyn Socket> = if url.is_secure { secure(socket, url, ca).await? } else { Box::new(socket) };
            Ok((socket, url.authority()))
        }
    }
}

fn silent(place: &Place) -> anyhow::Error {
    let advice = match place {
        Place::Socket(_) => "is `tandem serve` running with this data_dir?",
        Place::Url(_) => "is it its `[http] listen` address?",
    };
    Failure::new(Exit::Error, format!("no switch answers at {place}; {advice}")).into()
}

async fn secure(socket: TcpStream, url: &Url, ca: Option<&Path>) -> anyhow::Result<Box<dyn Socket>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let unreadable = || format!("{} has no certificate that can be read", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
            roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(url.host.clone()).with_context(|| format!("{:?} is no name that a certificate can have", url.host))?;
    let secured = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
    let secured = secured.map_err(|error| anyhow::anyhow!("{} is not trusted ({error}); --ca names its authority", url.authority()))?;
    Ok(Box::new(secured))
}
