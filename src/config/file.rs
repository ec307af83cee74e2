//! From the text of a file to [`Config`]: reading, line numbers of faults, and values that depend on one another.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::feature::RoomKeys;
use super::secret::SecretSource;
use super::value::{self, Domain, Number, PortRange, UserName};
use super::{Config, Features, Group, History, Http, Limits, Log, Media, Policy, Room, Sip, Srtp, Tls, Trunk, User, check};

/// RTP and RTCP of both legs.
const PORTS_OF_A_CALL: u32 = 4;
/// Calls that one user or trunk may have however few ports there are.
const LEAST_CALLS: u32 = 16;

/// One sentence that names file, line and key and says what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The text behind a configuration, kept to find the line of a key that turns out wrong later.
pub(super) struct Source {
    name: PathBuf,
    text: String,
}

impl Source {
    pub(super) fn fault(&self, key: &str, fault: impl fmt::Display) -> ConfigError {
        let name = self.name.display();
        let place = match DeTable::parse(&self.text) {
            Ok(table) => line_of(&self.text, table.get_ref(), key),
            Err(_) => None,
        };
        let place = place.map_or_else(String::new, |line| format!(":{line}"));
        let key = if key.is_empty() { String::new() } else { format!(" {key}:") };
        ConfigError(format!("{name}{place}:{key} {fault}"))
    }
}

/// Returns the line of a key such as `sip.udp[0]`, or of the nearest part of its path that is written down.
fn line_of(text: &str, table: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut parts = key.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    let (name, mut value) = table.get_key_value(parts.next()?)?;
    let mut at = name.span().start;
    for part in parts {
        let next = match value.get_ref() {
            DeValue::Table(table) => match table.get_key_value(part) {
                Some((name, next)) => {
                    at = name.span().start;
                    value = next;
                    continue;
                }
                None => None,
            },
            DeValue::Array(array) => part.parse().ok().and_then(|index: usize| array.get(index)),
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => None,
        };
        let Some(next) = next else { break };
        at = next.span().start;
        value = next;
    }
    line_at(text, at)
}

fn line_at(text: &str, at: usize) -> Option<usize> {
    text.get(..at).map(|before| before.matches('\n').count() + 1)
}

/// The keys of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    domain: Option<Domain>,
    data_dir: Option<PathBuf>,
    sip: Option<Sip>,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    http: Http,
    #[serde(default)]
    media: MediaKeys,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    features: Features,
    #[serde(default)]
    history: History,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    user: Vec<UserKeys>,
    #[serde(default)]
    trunk: Vec<Trunk>,
    #[serde(default)]
    group: Vec<Group>,
    #[serde(default)]
    room: Vec<RoomKeys>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MediaKeys {
    #[serde(deserialize_with = "value::address")]
    address: Option<IpAddr>,
    #[serde(deserialize_with = "value::address")]
    advertise: Option<IpAddr>,
    rtp_ports: Option<PortRange>,
    webrtc_port: Option<u16>,
    allow_loopback: Option<bool>,
    #[serde(deserialize_with = "value::some_duration")]
    timeout: Option<Duration>,
    srtp: Srtp,
    music_on_hold: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserKeys {
    name: UserName,
    password: SecretSource,
    #[serde(default)]
    numbers: Vec<Number>,
    srtp: Option<Srtp>,
}

pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError(format!("{}: cannot be read: {error}", path.display())))?;
    parse(path, &text)
}

pub(super) fn parse(name: &Path, text: &str) -> Result<Config, ConfigError> {
    let source = Source { name: name.to_owned(), text: text.to_owned() };
    let keys = read(&source)?;
    let folder = name.parent().unwrap_or(Path::new(""));
    let users = users(keys.user, keys.media.srtp, folder, &source)?;
    let rooms = rooms(keys.room, folder, &source)?;
    let sip = keys.sip.unwrap_or_else(Sip::on_loopback);
    let media = media(keys.media, &sip, folder);
    let limits = limits(keys.limits, media.rtp_ports);
    let config = Config {
        domain: keys.domain.or_else(|| Domain::parse("localhost")).expect("localhost is a host name"),
        data_dir: folder.join(keys.data_dir.unwrap_or_else(|| "data".into())),
        media,
        sip,
        tls: Tls {
            certificate: keys.tls.certificate.map(|path| folder.join(path)),
            key: keys.tls.key.map(|path| folder.join(path)),
            ca: keys.tls.ca.map(|path| folder.join(path)),
        },
        http: keys.http,
        policy: keys.policy,
        features: keys.features,
        history: keys.history,
        limits,
        log: keys.log,
        users,
        trunks: keys.trunk,
        groups: keys.group,
        rooms,
        source,
    };
    match check::fault(&config) {
        Some((key, fault)) => Err(config.fault(&key, fault)),
        None => Ok(config),
    }
}

/// Reads the keys; serde's words become ours, and the path and the line are added.
fn read(source: &Source) -> Result<Keys, ConfigError> {
    let syntax = |error: &toml::de::Error| {
        let line = error.span().and_then(|span| line_at(&source.text, span.start)).unwrap_or(1);
        let message = error.message().replace('\n', "; ");
        ConfigError(format!("{}:{line}: {message}", source.name.display()))
    };
    let deserializer = toml::Deserializer::parse(&source.text).map_err(|error| syntax(&error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        let message = error.inner().message();
        let message = message
            .replace("unknown field", "unknown key")
            .replace("missing field", "missing key")
            .replace("unknown variant", "unknown value")
            .replace(", expected", "; accepted:")
            .replace("accepted: one of", "accepted:");
        source.fault(if key == "." { "" } else { &key }, message)
    })
}

fn users(keys: Vec<UserKeys>, default: Srtp, folder: &Path, source: &Source) -> Result<Vec<User>, ConfigError> {
    let user = |(index, keys): (usize, UserKeys)| {
        let password = keys.password.fetch(folder);
        let password = password.map_err(|fault| source.fault(&format!("user[{index}].password"), fault))?;
        Ok(User { name: keys.name, password, numbers: keys.numbers, srtp: keys.srtp.unwrap_or(default) })
    };
    keys.into_iter().enumerate().map(user).collect()
}

fn rooms(keys: Vec<RoomKeys>, folder: &Path, source: &Source) -> Result<Vec<Room>, ConfigError> {
    let room = |(index, keys): (usize, RoomKeys)| {
        let pin = keys.pin.map(|pin| pin.fetch(folder)).transpose();
        let pin = pin.map_err(|fault| source.fault(&format!("room[{index}].pin"), fault))?;
        Ok(Room { number: keys.number, pin, moderator: keys.moderator })
    };
    keys.into_iter().enumerate().map(room).collect()
}

/// Puts the limits in that follow from others: one user may have a sixteenth of the calls that there are ports for, one trunk three quarters.
fn limits(mut limits: Limits, ports: PortRange) -> Limits {
    let calls = u32::from(ports.last() - ports.first()).div_ceil(PORTS_OF_A_CALL);
    let some = |calls: u32| NonZeroU32::new(calls.max(LEAST_CALLS));
    limits.calls_per_user = limits.calls_per_user.or_else(|| some(calls / 16));
    limits.calls_per_trunk = limits.calls_per_trunk.or_else(|| some(calls / 4 * 3));
    limits
}

fn media(keys: MediaKeys, sip: &Sip, folder: &Path) -> Media {
    let lists = [&sip.udp, &sip.tcp, &sip.tls, &sip.ws, &sip.wss];
    let first = lists.into_iter().flatten().next().map(std::net::SocketAddr::ip);
    let address = keys.address.or(first).unwrap_or(IpAddr::from([127, 0, 0, 1]));
    Media {
        address,
        advertise: keys.advertise.unwrap_or(address),
        rtp_ports: keys.rtp_ports.or_else(|| PortRange::new(20_000, 29_999)).expect("the default range is a range"),
        webrtc_port: keys.webrtc_port.unwrap_or(8443),
        allow_loopback: keys.allow_loopback.unwrap_or(address.is_loopback()),
        timeout: keys.timeout.unwrap_or(Duration::from_secs(60)),
        srtp: keys.srtp,
        music_on_hold: keys.music_on_hold.map(|path| folder.join(path)),
    }
}
