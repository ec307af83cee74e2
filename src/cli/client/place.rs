//! Where the switch is: on this host behind the Unix socket in its data folder, or somewhere else behind a URL.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyper::Uri;

use crate::cli::failure::{Exit, Failure};

/// Name of the socket in the data folder.
const SOCKET: &str = "tandem.sock";
/// The data folder of a switch whose file does not name one.
const DATA_DIR: &str = "data";

/// How a command finds the switch, and what it may do there.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Where the switch is")]
pub(in crate::cli) struct On {
    /// Configuration file of the switch on this host; its data folder has the socket [default folder: data]
    #[arg(long, global = true, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Unix socket of the switch on this host, instead of --config
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "url")]
    pub(in crate::cli) socket: Option<PathBuf>,
    /// Web address of a switch, such as `https://pbx.example:8443`; needs --token or --key
    #[arg(long, global = true, value_name = "URL", value_parser = url)]
    pub(in crate::cli) url: Option<Url>,
    /// Token of a login that is already there
    #[arg(long, global = true, env = "TANDEM_TOKEN", hide_env_values = true)]
    pub(in crate::cli) token: Option<String>,
    /// API key to sign in with
    #[arg(id = "api-key", long = "key", value_name = "KEY", global = true, env = "TANDEM_KEY", hide_env_values = true)]
    pub(in crate::cli) key: Option<String>,
    /// Further certificate authorities (PEM) to trust, such as the switch's own self-signed certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub(in crate::cli) ca: Option<PathBuf>,
}

/// Where the switch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Place {
    /// Its socket on this host.
    Socket(PathBuf),
    /// Its web listener.
    Url(Url),
}

/// A web address: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Url {
    /// Whether TLS is spoken.
    pub(super) is_secure: bool,
    /// Name or address; an IPv6 address without its brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

impl On {
    /// Finds the switch.
    ///
    /// # Errors
    ///
    /// The configuration file cannot be read.
    pub(in crate::cli) fn place(&self) -> anyhow::Result<Place> {
        if let Some(url) = &self.url {
            return Ok(Place::Url(url.clone()));
        }
        let socket = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(file)) => data_dir(file)?.join(SOCKET),
            (None, None) => Path::new(DATA_DIR).join(SOCKET),
        };
        Ok(Place::Socket(socket))
    }
}

/// Reads where the data is and nothing else: the secrets of the file need not be readable for whoever asks.
fn data_dir(file: &Path) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let table: toml::Table = text.parse().map_err(|_| {
        let sentence = format!("{0} is no configuration file; `tandem config check {0}` tells where", file.display());
        Failure::new(Exit::Error, sentence)
    })?;
    let folder = table.get("data_dir").and_then(toml::Value::as_str).unwrap_or(DATA_DIR);
    Ok(file.parent().unwrap_or(Path::new("")).join(folder))
}

fn url(text: &str) -> Result<Url, &'static str> {
    const WRONG: &str = "expected https://HOST[:PORT], or http:// on loopback";
    let uri: Uri = text.parse().map_err(|_| WRONG)?;
    let is_secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(WRONG),
    };
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|authority| bare && !authority.as_str().contains('@')).ok_or(WRONG)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    if host.is_empty() { Err(WRONG) } else { Ok(Url { is_secure, host, port }) }
}

impl Url {
    /// Returns host and port as the header Host has them.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{}://{}", if url.is_secure { "https" } else { "http" }, url.authority()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_and_port() {
        let read = |text| url(text).map(|url| (url.is_secure, url.authority()));
        assert_eq!(read("https://pbx.example"), Ok((true, "pbx.example:443".to_owned())));
        assert_eq!(read("http://127.0.0.1:8080/"), Ok((false, "127.0.0.1:8080".to_owned())));
        assert_eq!(read("https://[::1]:8443"), Ok((true, "[::1]:8443".to_owned())));
        for text in ["pbx.example", "ftp://x", "https://x/cas", "https://u:p@x", "https://x?y", "https://", ""] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_socket_is_in_the_data_folder_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tandem.toml");
        let place = |text: &str| {
            std::fs::write(&file, text).unwrap();
            On { config: Some(file.clone()), ..On::default() }.place().map_err(|error| error.to_string())
        };
        let secret = "[[user]]\nname = \"a\"\npassword = { env = \"NOT_SET_HERE\" }";
        assert_eq!(place(secret), Ok(Place::Socket(folder.path().join("data/tandem.sock"))));
        assert_eq!(place("data_dir = \"/var/x\""), Ok(Place::Socket("/var/x/tandem.sock".into())));
        assert!(place("data_dir = ").unwrap_err().contains("tandem config check"));
        assert_eq!(On::default().place().unwrap(), Place::Socket("data/tandem.sock".into()));
    }
}
