//! The configuration: every key, its unit and its default. Read once at start into types that cannot be wrong.
//!
//! Unknown keys are errors. A key exists only if two sites need different values. Durations are text with a unit:
//! `"500ms"`, `"30s"`, `"10m"`, `"2h"`. Paths are relative to the file's folder. Knows no socket and no store.

mod check;
mod file;
mod secret;
mod value;

use std::fs::DirBuilder;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

pub use file::ConfigError;
pub use secret::Secret;
pub use value::{Domain, Number, Origin, PortRange, UserName};

/// The whole configuration.
pub struct Config {
    /// Realm, and host part of AORs; default `localhost`.
    pub domain: Domain,
    /// Folder of what must survive a restart; default `data`.
    pub data_dir: PathBuf,
    /// SIP listeners and registration.
    pub sip: Sip,
    /// The certificate.
    pub tls: Tls,
    /// The web listener.
    pub http: Http,
    /// Addresses and ports of media.
    pub media: Media,
    /// What this site allows and prefers.
    pub policy: Policy,
    /// Bounds against guessing and floods.
    pub limits: Limits,
    /// The users that this file manages.
    pub users: Vec<User>,
    /// The trunks that this file manages.
    pub trunks: Vec<Trunk>,
    source: file::Source,
}

/// `[sip]`. Without the section: udp and tcp 5060, tls 5061, ws 5080 and wss 5443 on 127.0.0.1. With it, a list that is
/// absent is empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sip {
    /// UDP listeners.
    #[serde(deserialize_with = "value::addresses")]
    pub udp: Vec<SocketAddr>,
    /// TCP listeners.
    #[serde(deserialize_with = "value::addresses")]
    pub tcp: Vec<SocketAddr>,
    /// TLS listeners.
    #[serde(deserialize_with = "value::addresses")]
    pub tls: Vec<SocketAddr>,
    /// WebSocket listeners (RFC 7118): any path, subprotocol `sip`.
    #[serde(deserialize_with = "value::addresses")]
    pub ws: Vec<SocketAddr>,
    /// Secure WebSocket listeners.
    #[serde(deserialize_with = "value::addresses")]
    pub wss: Vec<SocketAddr>,
    /// Origins of web pages that may open a WebSocket, besides our own; default none. `http://127.0.0.1:*` is any port.
    pub origins: Vec<Origin>,
    /// Whether names are looked up (RFC 3263); default true. False: only literal addresses are reachable.
    pub dns: bool,
    /// Shortest registration; a shorter one is refused with 423; default `"60s"`.
    #[serde(deserialize_with = "value::duration")]
    pub min_expires: Duration,
    /// Registration of a device that names no time; default `"1h"`.
    #[serde(deserialize_with = "value::duration")]
    pub default_expires: Duration,
    /// Longest registration; a longer one is shortened; default `"2h"`.
    #[serde(deserialize_with = "value::duration")]
    pub max_expires: Duration,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            ws: Vec::new(),
            wss: Vec::new(),
            origins: Vec::new(),
            dns: true,
            min_expires: Duration::from_secs(60),
            default_expires: Duration::from_secs(3600),
            max_expires: Duration::from_secs(7200),
        }
    }
}

impl Sip {
    /// The listeners of a switch that was told nothing.
    fn on_loopback() -> Self {
        let at = |port| vec![SocketAddr::from(([127, 0, 0, 1], port))];
        Self { udp: at(5060), tcp: at(5060), tls: at(5061), ws: at(5080), wss: at(5443), ..Self::default() }
    }
}

/// `[tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificate chain in PEM; absent: self-signed, made at first start and kept in `data_dir`. Read again on change.
    pub certificate: Option<PathBuf>,
    /// Private key in PEM; required with `certificate`.
    pub key: Option<PathBuf>,
    /// Further certificate authorities (PEM) that peers we connect to may show; absent: only the system's.
    pub ca: Option<PathBuf>,
}

/// `[http]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Listeners of the web: SIP over WebSocket at `/sip`; default none (with no file at all: 127.0.0.1:8443).
    #[serde(deserialize_with = "value::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Whether the listeners speak HTTP instead of HTTPS, allowed on loopback only; default false.
    pub plain: bool,
}

/// `[media]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Where media ports are bound; default: the address of the first SIP listener.
    pub address: IpAddr,
    /// What is advertised in SDP; default: `address`.
    pub advertise: IpAddr,
    /// UDP ports of plain RTP and RTCP; default `"20000-29999"`.
    pub rtp_ports: PortRange,
    /// The one UDP port of all WebRTC; default 8443.
    pub webrtc_port: u16,
    /// Whether media may go to 127.0.0.0/8 and ::1; default: only when `address` is loopback.
    pub allow_loopback: bool,
    /// How long a leg may send nothing before it counts as dead; default `"60s"`.
    pub timeout: Duration,
}

/// `[policy]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The way of media between two local devices; default `"relay"`.
    pub media: MediaPath,
    /// How long devices ring; default `"60s"`.
    #[serde(deserialize_with = "value::duration")]
    pub no_answer: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { media: MediaPath::Relay, no_answer: Duration::from_secs(60) }
    }
}

/// The way of media between two local devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaPath {
    /// Through our ports.
    Relay,
    /// From device to device; we only proxy the signaling.
    Direct,
}

/// `[limits]`. Whatever is beyond them is refused or closed; established calls and registered devices go first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Failed logins a minute, for one account and for one address; then all of them are refused; default 10.
    pub failed_logins_per_minute: NonZeroU32,
    /// Stream connections in all; then the oldest one without a login is closed; default 20000.
    pub connections: NonZeroU32,
    /// Connections without a login from one address (IPv6: one /64); then new ones are closed; default 100.
    pub connections_per_address: NonZeroU32,
    /// How long a connection without a login may be silent; default `"2m"`.
    #[serde(deserialize_with = "value::duration")]
    pub idle: Duration,
    /// How long a TLS or WebSocket handshake, a first message, or the rest of a message begun may take; default `"20s"`.
    #[serde(deserialize_with = "value::duration")]
    pub half_open: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let count = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            failed_logins_per_minute: count(10),
            connections: count(20_000),
            connections_per_address: count(100),
            idle: Duration::from_secs(120),
            half_open: Duration::from_secs(20),
        }
    }
}

/// `[[user]]`: a person.
#[derive(Clone)]
pub struct User {
    /// User part of the AOR: `alice` is `sip:alice@domain`.
    pub name: UserName,
    /// Password of the person's devices.
    pub password: Secret,
    /// Numbers that reach the person; default none.
    pub numbers: Vec<Number>,
}

/// `[[trunk]]`: a SIP peer network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// Name, ours alone.
    pub name: UserName,
    /// How the peer is known.
    pub kind: TrunkKind,
    /// Addresses and networks whose requests are the trunk's.
    #[serde(deserialize_with = "value::networks")]
    pub addresses: Vec<IpNet>,
}

/// How the peer of a trunk is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrunkKind {
    /// By its address: its requests need no digest and may call any user.
    Ip,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// One sentence that names file, line and key and says what is accepted.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        file::load(path)
    }

    /// Reads the text of a file; `name` is what errors call it, and relative paths start at its folder.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn parse(name: &Path, text: &str) -> Result<Self, ConfigError> {
        file::parse(name, text)
    }

    /// Returns the configuration of a switch without a file: loopback only.
    ///
    /// # Errors
    ///
    /// None in practice: the built-in values pass their own checks.
    pub fn built_in() -> Result<Self, ConfigError> {
        file::parse(Path::new("built-in configuration"), "[http]\nlisten = [\"127.0.0.1:8443\"]\n")
    }

    /// Returns an error about a key, for faults that only sockets or files show.
    #[must_use]
    pub fn fault(&self, key: &str, fault: impl std::fmt::Display) -> ConfigError {
        self.source.fault(key, fault)
    }
    /// Makes sure that the data folder is there, ours alone, and that files can be made in it.
    ///
    /// # Errors
    ///
    /// One sentence that names the folder and the reason.
    pub fn open_data_dir(&self) -> Result<(), ConfigError> {
        let refused = |error: std::io::Error| {
            let folder = self.data_dir.display();
            self.fault("data_dir", format!("no file can be made in {folder}: {error}; accepted: a folder to write to"))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir).map_err(refused)?;
        let probe = self.data_dir.join(".probe");
        std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(refused)
    }
}
