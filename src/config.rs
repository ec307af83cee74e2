//! The configuration: every key, its unit and its default. Read once at start into types that cannot be wrong.
//!
//! Unknown keys are errors. A key exists only if two sites need different values. Durations are text with a unit:
//! `"500ms"`, `"30s"`, `"10m"`, `"2h"`. Paths are relative to the file's folder. Knows no socket and no store.

mod check;
mod feature;
mod file;
mod secret;
mod show;
mod value;

use std::fs::DirBuilder;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use sip::digest::Offer;

pub use feature::{Code, Feature, Features, Group, Room};
pub use file::ConfigError;
pub use secret::Secret;
pub use show::to_toml;
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
    /// What users dial to act on calls.
    pub features: Features,
    /// How long calls that are over are kept.
    pub history: History,
    /// Bounds against guessing and floods.
    pub limits: Limits,
    /// The log.
    pub log: Log,
    /// The users that this file manages.
    pub users: Vec<User>,
    /// The trunks that this file manages.
    pub trunks: Vec<Trunk>,
    /// The groups that this file manages.
    pub groups: Vec<Group>,
    /// The rooms for conferences.
    pub rooms: Vec<Room>,
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
    /// Digest algorithms of challenges (RFC 8760), the preferred one first; default both, SHA-256 first, but to clients that stumble over
    /// that what they can read. What is said here is offered to all.
    #[serde(deserialize_with = "value::offer")]
    pub digest: Offer,
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
            digest: Offer::ByClient,
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
    /// How long a leg may send nothing before it is reported; the call goes on; default `"60s"`.
    pub timeout: Duration,
    /// Whether phones' media is protected, for users and trunks that say nothing else; default `"prefer"`. Browsers' always is.
    pub srtp: Srtp,
    /// WAV file that a party hears while it is on hold: 16-bit PCM, mono or stereo, at 8, 16 or 48 kHz; absent: the built-in music.
    pub music_on_hold: Option<PathBuf>,
}

/// Whether media is protected by SRTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Never: an offer with SRTP alone is refused with 488.
    Off,
    /// When the phone can.
    #[default]
    Prefer,
    /// Always: an offer without is refused with 488, and none is made.
    Require,
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

/// `[history]`: how long calls that are over are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// Days after which a call leaves the histories and its record the store; 0: never; default 365.
    pub keep_days: u32,
    /// Most entries in the history of a user; then the oldest go; default 10000.
    pub max: NonZeroU32,
}

impl Default for History {
    fn default() -> Self {
        Self { keep_days: 365, max: NonZeroU32::new(10_000).unwrap_or(NonZeroU32::MIN) }
    }
}

impl History {
    /// Returns the days that calls are kept; none: for ever.
    #[must_use]
    pub fn days(&self) -> Option<u32> {
        Some(self.keep_days).filter(|days| *days > 0)
    }

    /// Returns the most entries of a user.
    #[must_use]
    pub fn most(&self) -> usize {
        usize::try_from(self.max.get()).unwrap_or(usize::MAX)
    }
}

/// `[limits]`. Whatever is beyond them is refused or closed; established calls and registered devices go first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Failed logins a minute, for one account and for one address; then all of them are refused; of CAS for an account from an address,
    /// thrice as many for an address, and ten times as many for an account where it is not signed in; default 10.
    pub failed_logins_per_minute: NonZeroU32,
    /// Stream connections in all; then the oldest one without a login is closed; default 20000.
    pub connections: NonZeroU32,
    /// Connections without a login from one address (IPv6: one /64); then new ones are closed; default 100.
    pub connections_per_address: NonZeroU32,
    /// Calls at a time that one user has made; then a further one is refused with 486. Default: a sixteenth of the calls that
    /// `media.rtp_ports` is enough for, but no fewer than 16.
    pub calls_per_user: Option<NonZeroU32>,
    /// Calls at a time that have come by one trunk; then a further one is refused with 503. Default: three quarters of the calls that
    /// `media.rtp_ports` is enough for, but no fewer than 16.
    pub calls_per_trunk: Option<NonZeroU32>,
    /// How long a connection may be silent that no registration, call or trunk uses; default `"2m"`.
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
            calls_per_user: None,
            calls_per_trunk: None,
            idle: Duration::from_secs(120),
            half_open: Duration::from_secs(20),
        }
    }
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How an event is written; default `"text"`.
    pub format: LogFormat,
}

/// How an event of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A line of JSON for machines.
    Json,
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
    /// Whether media of the person's devices is protected; default: `media.srtp`.
    pub srtp: Srtp,
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
    /// Whether its media is protected; default: `media.srtp`.
    pub srtp: Option<Srtp>,
}

impl Trunk {
    /// Returns the domain of those behind the trunk of a name: one that nobody has (RFC 2606).
    #[must_use]
    pub fn domain(name: &str) -> String {
        format!("{name}.invalid")
    }
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

    /// Returns what may be meant and seldom is, one sentence each that names file, line and key.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self).into_iter().map(|(key, why)| self.fault(&key, why).to_string()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../examples/tandem.toml");

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("tandem.toml"), text).map_err(|error| error.to_string())
    }

    fn fault(text: &str) -> String {
        parse(text).err().expect("a fault")
    }

    #[test]
    fn the_example_is_the_defaults() {
        let example = parse(EXAMPLE).unwrap();
        let absent = parse("").unwrap();
        assert_eq!(example.domain, absent.domain);
        assert_eq!(example.data_dir, absent.data_dir);
        assert_eq!(example.sip, absent.sip);
        assert_eq!(example.tls, absent.tls);
        assert_eq!(example.http, absent.http);
        assert_eq!(example.media, absent.media);
        assert_eq!(example.policy, absent.policy);
        assert_eq!(example.features, absent.features);
        assert_eq!(example.history, absent.history);
        assert_eq!(example.limits, absent.limits);
        assert_eq!(example.log, absent.log);
        assert_eq!(Config::built_in().unwrap_or_else(|e| panic!("{e}")).sip, absent.sip);
    }

    #[test]
    fn the_example_shows_every_key() {
        let sections = ["", "[sip]", "[tls]", "[http]", "[media]", "[policy]", "[features]", "[history]", "[limits]", "[log]"];
        for section in sections.into_iter().chain(["[[user]]", "[[trunk]]", "[[group]]", "[[room]]"]) {
            let refused = fault(&format!("{section}\nno_such_key = 1\n"));
            let (_, accepted) = refused.split_once("accepted:").unwrap();
            let keys: Vec<_> = accepted.split('`').skip(1).step_by(2).collect();
            assert!(!keys.is_empty(), "{refused}");
            for key in keys {
                let shown = EXAMPLE.lines().any(|line| {
                    let line = line.trim_start_matches("# ");
                    line.starts_with(&format!("{key} = ")) || line.starts_with(&format!("[{key}]")) || line == format!("[[{key}]]")
                });
                assert!(shown, "{section} {key}");
            }
        }
    }

    #[test]
    fn how_many_calls_one_may_make_follows_from_the_ports() {
        let limits = |more: &str| {
            let limits = parse(more).unwrap().limits;
            [limits.calls_per_user, limits.calls_per_trunk].map(|limit| limit.unwrap().get())
        };
        assert_eq!(limits(""), [156, 1875]);
        assert_eq!(limits("[media]\nrtp_ports = \"30000-30999\"\n"), [16, 186]);
        assert_eq!(limits("[media]\nrtp_ports = \"30000-30009\"\n[limits]\ncalls_per_trunk = 2\n"), [16, 2]);
    }

    #[test]
    fn the_contract_is_read() {
        let config = parse(
            "domain = \"Tandem.test\"\ndata_dir = \"/var/d\"\n\
             [sip]\nudp = [\"127.0.66.1:5060\", \"[::1]:5060\"]\norigins = [\"http://127.0.0.1:*\"]\ndns = false\n\
             [tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n\
             [http]\nlisten = [\"127.0.66.1:8443\"]\nplain = true\n\
             [media]\naddress = \"127.0.66.1\"\nadvertise = \"203.0.113.5\"\nrtp_ports = \"20000-29999\"\n\
             webrtc_port = 8443\nallow_loopback = true\n\
             [limits]\nfailed_logins_per_minute = 10\n\
             [[user]]\nname = \"alice\"\npassword = \"alice-secret\"\nnumbers = [\"501\"]\n\
             [[trunk]]\nname = \"test\"\nkind = \"ip\"\naddresses = [\"127.0.66.50\"]\n",
        )
        .unwrap();
        assert_eq!(config.domain.as_str(), "tandem.test");
        assert_eq!(config.data_dir, Path::new("/var/d"));
        assert_eq!(config.sip.udp.len(), 2);
        assert!(config.sip.tcp.is_empty() && !config.sip.dns);
        assert_eq!(config.media.advertise.to_string(), "203.0.113.5");
        assert_eq!(config.users[0].password.reveal(), "alice-secret");
        assert!(config.trunks[0].addresses[0].contains(&"127.0.66.50".parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn paths_start_at_the_files_folder() {
        let text = "[tls]\ncertificate = \"c.pem\"\nkey = \"/k.pem\"";
        let config = Config::parse(Path::new("/etc/tandem/tandem.toml"), text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.data_dir, Path::new("/etc/tandem/data"));
        assert_eq!(config.tls.certificate.as_deref(), Some(Path::new("/etc/tandem/c.pem")));
        assert_eq!(config.tls.key.as_deref(), Some(Path::new("/k.pem")));
    }

    #[test]
    fn media_follows_the_first_listener() {
        let config = parse("[sip]\ntls = [\"192.0.2.1:5061\"]").unwrap();
        assert_eq!(config.media.address.to_string(), "192.0.2.1");
        assert_eq!(config.media.advertise.to_string(), "192.0.2.1");
        assert!(!config.media.allow_loopback);
    }

    #[test]
    fn a_fault_names_file_line_and_key_and_what_is_accepted() {
        for (text, sentence) in [
            (
                "domain = \"d\"\n[sip]\ntcp = []\nudp = [\n  \"127.0.0.1:1\",\n  \"foo\"]",
                "tandem.toml:6: sip.udp[1]: \"foo\" is no address; accepted: IP:PORT such as \"127.0.0.1:5060\" or \"[::1]:5060\"",
            ),
            ("\n[policy]\nmadia = 1", "tandem.toml:3: policy.madia: unknown key `madia`; accepted: `media` or `no_answer`"),
            ("\n[policy]\nmedia = \"x\"", "tandem.toml:3: policy.media: unknown value `x`; accepted: `relay` or `direct`"),
            ("[policy]\nno_answer = 5", "tandem.toml:2: policy.no_answer: invalid type: integer `5`; accepted: a string"),
            (
                "[policy]\nno_answer = \"5 s/m\"",
                "tandem.toml:2: policy.no_answer: \"5 s/m\" is no duration; accepted: a number with its unit, such as \"500ms\", \"30s\", \"10m\" or \"2h\"",
            ),
            ("[[user]]\nname = \"a\"", "tandem.toml:1: user[0]: missing key `password`"),
            (
                "[[user]]\nname = \"a\"\npassword = 7",
                "tandem.toml:3: user[0].password: a number is no secret; accepted: a string, { file = \"PATH\" } or { env = \"NAME\" }",
            ),
            (
                "[[user]]\nname = \"a\"\npassword = { env = \"NO_SUCH_VARIABLE\" }",
                "tandem.toml:3: user[0].password: the environment variable NO_SUCH_VARIABLE is not set, or is no UTF-8",
            ),
            ("[limits]\nconnections = 0", "tandem.toml:2: limits.connections: invalid value: integer `0`; accepted: a nonzero u32"),
        ] {
            assert_eq!(fault(text), sentence);
        }
        assert!(fault("a = \n[sip]").starts_with("tandem.toml:1: "), "{}", fault("a = \n[sip]"));
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused() {
        for (text, key) in [
            ("[sip]\ndns = true", "1: sip: no listener"),
            ("[sip]\ntcp = [\"127.0.0.1:1\"]\nws = [\"127.0.0.1:1\"]", "3: sip.ws[0]: 127.0.0.1:1 is taken by sip.tcp[0]"),
            ("[sip]\nudp = [\"127.0.0.1:1\",\n\"127.0.0.1:1\"]", "3: sip.udp[1]: "),
            ("[sip]\ntls = [\"127.0.0.1:1\"]\n[http]\nlisten = [\"127.0.0.1:1\"]", "4: http.listen[0]: "),
            ("[sip]\nudp = [\"0.0.0.0:5060\"]", "2: sip.udp[0]: 0.0.0.0 is no address that a peer can answer to"),
            ("[sip]\nudp = [\"[::]:5060\"]", "2: sip.udp[0]: "),
            ("[sip]\nudp = [\"127.0.0.1:20001\"]", "2: sip.udp[0]: 127.0.0.1:20001 is among the media ports"),
            ("[media]\nadvertise = \"224.0.0.1\"", "2: media.advertise: "),
            ("[media]\nwebrtc_port = 20001", "2: media.webrtc_port: "),
            ("[media]\nrtp_ports = \"3000-2000\"", "2: media.rtp_ports: \"3000-2000\" is no range"),
            ("[media]\nrtp_ports = \"80-90\"", "2: media.rtp_ports: "),
            ("[tls]\nkey = \"k\"", "1: tls: only one of certificate and key"),
            ("[http]\nlisten = [\"192.0.2.1:80\"]\nplain = true", "3: http.plain: 192.0.2.1:80 is not loopback"),
            ("[sip]\nudp = [\"127.0.0.1:1\"]\nmin_expires = \"2h\"", "3: sip.min_expires: "),
            ("[sip]\nudp = [\"127.0.0.1:1\"]\nmax_expires = \"2m\"", "sip.default_expires: "),
            ("domain = \"a b\"", "1: domain: \"a b\" is no host"),
            ("domain = \"1.2.3\"", "1: domain: "),
            ("[[user]]\nname = \"a@b\"\npassword = \"x\"", "2: user[0].name: \"a@b\" is no name"),
            (
                "[[user]]\nname = \"a\"\npassword = \"x\"\nnumbers = [\"1\"]\n[[user]]\nname = \"1\"\npassword = \"x\"",
                "6: user[1].name: \"1\" is taken by user[0].numbers[0]",
            ),
            ("[[user]]\nname = \"a\"\npassword = \"\"", "3: user[0].password: the secret is empty"),
            ("[[trunk]]\nname = \"t\"\nkind = \"ip\"\naddresses = [\"10.0.0.1/8\"]", "4: trunk[0].addresses[0]: "),
            ("[[trunk]]\nname = \"t\"\nkind = \"ip\"\naddresses = []", "4: trunk[0].addresses: "),
            ("[features]\npark = \"*7\"", "features.retrieve: begins with the code of park, which takes what follows"),
            ("[features]\npull = \"**1\"", "2: features.pull: begins with the code of pickup"),
            ("data_dir = \"/proc/version\"", "1: data_dir: /proc/version is no folder"),
            ("[[user]]\nname = \".\"\npassword = \"x\"", "2: user[0].name: \".\" is no name"),
            ("[[user]]\nname = \"**b\"\npassword = \"x\"", "2: user[0].name: \"**b\" is dialled for a feature"),
            ("[[user]]\nname = \"b\"\npassword = \"x\"\nnumbers = [\"1\", \"*70\"]", "4: user[0].numbers[1]: \"*70\" is dialled"),
            ("[[user]]\nname = \"b\"\npassword = \"x\"\nnumbers = [\"**1\"]", "4: user[0].numbers[0]: "),
            ("[[room]]\nnumber = \"8\"\n[[room]]\nnumber = \"8\"", "4: room[1].number: \"8\" is dialled for something else"),
            ("[[room]]\nnumber = \"*70\"", "2: room[0].number: \"*70\" is dialled for something else"),
            ("[[user]]\nname = \"a\"\npassword = \"x\"\nnumbers = [\"8\"]\n[[room]]\nnumber = \"8\"", "6: room[0].number: "),
            ("[[room]]\nnumber = \"8\"\npin = \"123\"", "3: room[0].pin: no PIN that can be dialled; accepted: 4 to 12 digits"),
            ("[[room]]\nnumber = \"8\"\npin = \"12#4\"", "3: room[0].pin: "),
            ("[[room]]\nnumber = \"8\"\nmoderator = \"eve\"", "3: room[0].moderator: no such user"),
            ("[sip]\nudp = [\"127.0.0.1:1\"]\norigins = [\"ftp://x\"]", "3: sip.origins[0]: \"ftp://x\" is no origin"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(key), "{fault}");
        }
    }

    #[test]
    fn a_trunk_that_is_everybody_is_warned_of() {
        let trunk = |networks: &str| format!("[[trunk]]\nname = \"t\"\nkind = \"ip\"\naddresses = [{networks}]");
        let warnings = parse(&trunk("\"10.0.0.0/8\", \"0.0.0.0/0\",\n\"::/0\"")).unwrap().warnings();
        assert!(warnings[0].starts_with("tandem.toml:4: trunk[0].addresses[1]: 0.0.0.0/0 is every address"), "{warnings:?}");
        assert!(warnings[1].starts_with("tandem.toml:5: trunk[0].addresses[2]: ::/0 ") && warnings.len() == 2, "{warnings:?}");
        assert!(parse(&trunk("\"10.0.0.0/8\"")).unwrap().warnings().is_empty());
    }

    #[test]
    fn secrets_come_from_files_without_their_line_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "s3cret \r\n").unwrap();
        let text = "[[user]]\nname = \"a\"\npassword = { file = \"pw\" }";
        let config = Config::parse(&folder.path().join("t.toml"), text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.users[0].password.reveal(), "s3cret ");
        assert!(fault(&text.replace("pw", "absent")).contains("user[0].password: absent: "), "{}", fault(text));
    }

    #[test]
    fn origins_cover_their_ports() {
        let origin = |text| Origin::parse(text).unwrap();
        assert!(origin("http://127.0.0.1:*").covers(&origin("http://127.0.0.1:1234")));
        assert!(origin("https://a.example").covers(&origin("https://A.example:443")));
        assert!(!origin("https://a.example").covers(&origin("http://a.example")));
        assert!(!origin("https://a.example").covers(&origin("https://b.a.example")));
        assert!(!origin("http://127.0.0.1:80").covers(&origin("http://127.0.0.1:81")));
        for bad in ["null", "https://", "https://a/b", "https://u@a", "file://a", "https://a:x"] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
        assert!(origin("http://[::1]:*").covers(&origin("http://[::1]:8080")));
    }
}
