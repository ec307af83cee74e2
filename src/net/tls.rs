//! TLS: our certificate, read again when its files change, and the certificates that we trust.
//!
//! TLS 1.2 and 1.3 by rustls. Connections keep what they began with; only new ones see a new certificate.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sip::transport::Transport;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio_rustls::TlsConnector;

use super::error::CloseReason;
use crate::clock;
use crate::config::{Config, ConfigError};

/// How often the files of the certificate are read again.
const RELOAD: Duration = Duration::from_secs(3);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a certificate of our own is valid; `tandem doctor` tells when it ends.
const SELF_SIGNED_FOR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What an incoming TLS connection needs.
pub(super) type Server = Arc<ServerConfig>;
/// What an outgoing TLS connection needs, with the name that the peer's certificate must have.
pub(super) type Client = (TlsConnector, ServerName<'static>);

/// Our side of every TLS connection.
pub(super) struct Tls {
    server: Option<Server>,
    web: Option<Server>,
    client: TlsConnector,
    reloader: Option<AbortHandle>,
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Some(reloader) = &self.reloader {
            reloader.abort();
        }
    }
}

impl Tls {
    /// Reads the certificate, or makes a self-signed one, and begins to watch it.
    pub(super) fn open(config: &Config) -> Result<Self, ConfigError> {
        let client = TlsConnector::from(Arc::new(client(config)?));
        // also without TLS: nobody means to end the switch by this signal
        let hangup = signal(SignalKind::hangup()).map_err(|error| config.fault("tls", error))?;
        if !is_used(config) {
            return Ok(Self { server: None, web: None, client, reloader: None });
        }
        let pair = Pair::of(config)?;
        let certificate = pair.load().map_err(|fault| config.fault(fault.key, fault.text))?;
        let resolver = Arc::new(Resolver(ArcSwap::from_pointee(certificate)));
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| config.fault("tls", error))?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        #[expect(clippy::disallowed_methods, reason = "the one task that watches the certificate")]
        let reloader = tokio::spawn(reload(pair, resolver, hangup)).abort_handle();
        let mut web = server.clone();
        web.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { server: Some(Arc::new(server)), web: Some(Arc::new(web)), client, reloader: Some(reloader) })
    }

    /// Returns what a connection of this transport needs, none where it is plain.
    pub(super) fn server(&self, transport: Transport) -> Option<Server> {
        self.server.clone().filter(|_| transport.is_secure())
    }

    /// Returns what a connection of a web listener needs, none where it is plain.
    pub(super) fn web_server(&self, transport: Transport) -> Option<Server> {
        self.web.clone().filter(|_| transport.is_secure())
    }

    /// Returns what a connection to a peer needs, none where it is plain.
    pub(super) fn client(&self, transport: Transport, remote: IpAddr, name: Option<&str>) -> Result<Option<Client>, CloseReason> {
        if !transport.is_secure() {
            return Ok(None);
        }
        let name = match name {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| CloseReason::Connect(format!("{name:?} is no name that a certificate can have")))?,
            None => ServerName::from(remote),
        };
        Ok(Some((self.client.clone(), name)))
    }
}

/// Finds faults of the certificate without making one.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    client(config)?;
    if config.tls.certificate.is_none() || !is_used(config) {
        return Ok(());
    }
    Pair::of(config)?.load().map_err(|fault| config.fault(fault.key, fault.text)).map(drop)
}

fn is_used(config: &Config) -> bool {
    let (sip, http) = (&config.sip, &config.http);
    config.tls.certificate.is_some() || !(sip.tls.is_empty() && sip.wss.is_empty() && (http.plain || http.listen.is_empty()))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    // fails where it is installed already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let installed = rustls::crypto::CryptoProvider::get_default();
    installed.cloned().unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// Trusts the system's authorities and those of `tls.ca`.
fn client(config: &Config) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &config.tls.ca {
        let certificates = certificates(path).map_err(|text| config.fault("tls.ca", text))?;
        let (_, refused) = roots.add_parsable_certificates(certificates);
        if refused > 0 {
            let text = format!("{}: {refused} of its certificates are no authority", path.display());
            return Err(config.fault("tls.ca", text));
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| config.fault("tls", error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Shows the newest certificate to new connections.
struct Resolver(ArcSwap<CertifiedKey>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A certificate's two files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// What is wrong with a pair, and the key of the configuration it belongs to.
struct PairFault {
    key: &'static str,
    text: String,
}

impl Pair {
    /// Takes the files of the configuration; without any, the self-signed pair of the data folder, made where missing.
    fn of(config: &Config) -> Result<Self, ConfigError> {
        if let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key) {
            return Ok(Self { certificate: certificate.clone(), key: key.clone() });
        }
        let folder = &config.data_dir;
        let pair = Self { certificate: folder.join("self-signed.pem"), key: folder.join("self-signed.key") };
        if !(pair.certificate.exists() && pair.key.exists()) {
            self_signed(&pair, config)
                .map_err(|error| config.fault("data_dir", format!("no certificate can be made in {}: {error}", folder.display())))?;
            tracing::info!(certificate = %pair.certificate.display(), "made a self-signed certificate");
        }
        Ok(pair)
    }

    fn load(&self) -> Result<CertifiedKey, PairFault> {
        let chain = certificates(&self.certificate).map_err(|text| PairFault { key: "tls.certificate", text })?;
        let fault = |error: &dyn std::fmt::Display| PairFault {
            key: "tls.key",
            text: format!("{}: {error}; accepted: a private key in PEM", self.key.display()),
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| fault(&pem(&error)))?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            if !matches!(error, rustls::Error::InconsistentKeys(_)) {
                return fault(&error);
            }
            let (key, certificate) = (self.key.display(), self.certificate.display());
            let text = format!("{key} does not belong to the certificate {certificate}; accepted: its own key");
            PairFault { key: "tls.key", text }
        })
    }

    /// Returns what the files hold now; a change of it is a reason to read them again.
    fn contents(&self) -> [Option<Vec<u8>>; 2] {
        [fs::read(&self.certificate).ok(), fs::read(&self.key).ok()]
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let refused = |error: &dyn std::fmt::Display| format!("{}: {error}; accepted: certificates in PEM", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refused(&pem(&error)))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| refused(&pem(&error)))?;
    if certificates.is_empty() { Err(refused(&"holds no certificate")) } else { Ok(certificates) }
}

fn pem(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is open; all but these two print well")]
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "holds none".to_owned(),
        error => error.to_string(),
    }
}

/// Makes a pair for our domain and our addresses. A key without its certificate, after a crash between the two, is made
/// anew.
fn self_signed(pair: &Pair, config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let (sip, http) = (&config.sip, &config.http);
    let addresses = [&sip.tls, &sip.wss, &http.listen].into_iter().flatten().map(SocketAddr::ip);
    let mut names: Vec<String> = addresses.map(|ip| ip.to_string()).collect();
    names.extend([config.domain.to_string(), "localhost".to_owned()]);
    names.sort();
    names.dedup();
    let mut params = rcgen::CertificateParams::new(names)?;
    let now = SystemTime::UNIX_EPOCH + clock::unix();
    (params.not_before, params.not_after) = ((now - DAY).into(), (now + SELF_SIGNED_FOR).into());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, config.domain.as_str());
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write_private(&pair.key, &key.serialize_pem())?;
    write_private(&pair.certificate, &certificate.pem())?;
    Ok(())
}

/// Writes a file that only we can read, whole or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft); // of a process that ended here
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// Reads the pair again when its files change, and at once on SIGHUP. A pair that cannot be used is reported once, and the
/// old one stays; a pair that is half replaced gets one more look first.
async fn reload(pair: Pair, resolver: Arc<Resolver>, mut hangup: Signal) {
    let pair = Arc::new(pair);
    let (mut used, mut broken) = (contents(&pair).await, None);
    loop {
        tokio::select! { biased; _ = hangup.recv() => {} () = tokio::time::sleep(RELOAD) => {} }
        let found = contents(&pair).await;
        if found == used {
            continue;
        }
        let reader = pair.clone();
        match spawn_blocking(move || reader.load()).await {
            Ok(Ok(certificate)) => {
                resolver.0.store(Arc::new(certificate));
                tracing::info!(certificate = %pair.certificate.display(), "certificate read again");
                (used, broken) = (found, None);
            }
            Ok(Err(fault)) if broken.as_ref() == Some(&found) => {
                tracing::warn!("{}: {}; the old certificate stays", fault.key, fault.text);
                used = found;
            }
            Ok(Err(_)) | Err(_) => broken = Some(found),
        }
    }
}

async fn contents(pair: &Arc<Pair>) -> [Option<Vec<u8>>; 2] {
    let pair = pair.clone();
    spawn_blocking(move || pair.contents()).await.unwrap_or_default()
}
