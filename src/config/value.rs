//! The small types of the configuration and how each is read from its text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use sip::digest::{Algorithm, Offer};

/// Reads a string by `read`; what it refuses becomes a sentence that says what is accepted.
fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    is: &str,
    accepted: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    read(&text).ok_or_else(|| Error::custom(format!("{text:?} is no {is}; accepted: {accepted}")))
}

/// A host name or address, in lower case: the realm and host part of AORs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

impl Domain {
    /// Reads a host name (RFC 3261 §25.1, at most 253 characters) or a literal address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let name = text.len() <= 253
            && text.split('.').all(label)
            // a name that ends in a number would be read as an address
            && !text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (name || bare.parse::<IpAddr>().is_ok()).then(|| Self(bare.to_ascii_lowercase()))
    }

    /// Returns the name; an IPv6 address is without brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "host", "a host name such as \"example.com\", or an address", Self::parse)
    }
}

/// The user part of an AOR, or another name: letters, digits and `-_.!~*'+`, so that it needs no escape in a URI, and not punctuation alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(String);

impl UserName {
    /// What is a name, in words.
    pub const ACCEPTED: &str = "1 to 64 letters, digits and -_.!~*'+, with a letter or digit among them";

    /// Reads a name of 1 to 64 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=64).contains(&text.len())
            && text.bytes().any(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'+".contains(&b));
        good.then(|| Self(text.to_owned()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "name", Self::ACCEPTED, Self::parse)
    }
}

/// A number to dial: digits, `*` and `#`, with an optional `+` before them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(String);

impl Number {
    /// Reads a number of 1 to 32 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let good = (1..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || b"*#".contains(&b));
        good.then(|| Self(text.to_owned()))
    }

    /// Returns the number.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "number", "digits, * and #, with an optional + first, such as \"501\"", Self::parse)
    }
}

/// An origin of web pages (RFC 6454): scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    /// None: any port.
    port: Option<u16>,
}

impl Origin {
    /// Reads `https://host`, `http://host:port` or, for any port, `http://host:*`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            Some(_) | None => (authority, None),
        };
        let port = match port {
            None => Some(default_port),
            Some("*") => None,
            Some(port) => Some(port.parse().ok()?),
        };
        Domain::parse(host)?;
        Some(Self { scheme: scheme.to_owned(), host: host.to_owned(), port })
    }

    /// Returns the origin of our own pages behind a listener.
    #[must_use]
    pub fn of(scheme: &str, host: &str, port: u16) -> Option<Self> {
        Self::parse(&format!("{scheme}://{host}:{port}"))
    }

    /// Returns true where a page of `origin` may do what is allowed to this one.
    #[must_use]
    pub fn covers(&self, origin: &Self) -> bool {
        self.scheme == origin.scheme && self.host == origin.host && (self.port.is_none() || self.port == origin.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}://{}:{port}", self.scheme, self.host),
            None => write!(f, "{}://{}:*", self.scheme, self.host),
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let accepted = "\"https://HOST\", \"http://HOST:PORT\", or \"http://HOST:*\" for any port";
        text(deserializer, "origin", accepted, Self::parse)
    }
}

/// Ports from `first` to `last`, both included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Makes a range of at least two ports above 1023.
    #[must_use]
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first >= 1024 && first < last).then_some(Self { first, last })
    }

    /// Returns the ports.
    #[must_use]
    pub fn range(self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Returns the lowest port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// Returns the highest port.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }

    /// Returns true where the port is in the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let accepted = "\"FIRST-LAST\" with at least two ports above 1023, such as \"20000-29999\"";
        text(deserializer, "range of ports", accepted, |range| {
            let (first, last) = range.split_once('-')?;
            Self::new(first.trim().parse().ok()?, last.trim().parse().ok()?)
        })
    }
}

/// Reads a duration: a whole number and its unit.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    text(deserializer, "duration", "a number with its unit, such as \"500ms\", \"30s\", \"10m\" or \"2h\"", |text| {
        let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
        let number: u32 = number.parse().ok().filter(|n| *n > 0)?;
        let unit = match unit.trim_start() {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return None,
        };
        unit.checked_mul(number).filter(|d| *d <= Duration::from_secs(100 * 24 * 3600))
    })
}

/// Writes a duration in its largest unit that is whole.
pub(super) fn in_units(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let whole = units.into_iter().find(|(unit, _)| milliseconds >= *unit && milliseconds.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "ms"));
    format!("{}{name}", milliseconds / unit)
}

/// Reads a list of listeners.
pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    struct Item(SocketAddr);
    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let accepted = "IP:PORT such as \"127.0.0.1:5060\" or \"[::1]:5060\"";
            text(deserializer, "address", accepted, |text| text.parse().ok().map(Item))
        }
    }
    Ok(Vec::<Item>::deserialize(deserializer)?.into_iter().map(|item| item.0).collect())
}

/// Reads a list of addresses and networks.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    struct Item(IpNet);
    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let accepted = "an IP such as \"192.0.2.7\" or a network such as \"192.0.2.0/24\"";
            text(deserializer, "address or network", accepted, |text| {
                let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                // bits beyond the prefix are most likely a slip
                net.ok().filter(|net| net.addr() == net.network()).map(Item)
            })
        }
    }
    Ok(Vec::<Item>::deserialize(deserializer)?.into_iter().map(|item| item.0).collect())
}

/// What stands for no list of algorithms: each client's own.
pub(super) const BY_CLIENT: &str = "by-client";

/// Reads a list of digest algorithms, at least one.
pub(super) fn offer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Offer, D::Error> {
    struct Item(Option<Algorithm>);
    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text(deserializer, "digest algorithm", "\"MD5\" or \"SHA-256\"", |text| match text {
                BY_CLIENT => Some(Item(None)),
                text => Algorithm::parse(Some(text)).map(|algorithm| Item(Some(algorithm))),
            })
        }
    }
    let items = Vec::<Item>::deserialize(deserializer)?;
    if let [Item(None)] = *items {
        return Ok(Offer::ByClient);
    }
    let algorithms: Option<Vec<Algorithm>> = items.into_iter().map(|item| item.0).collect();
    let algorithms = algorithms.filter(|algorithms| !algorithms.is_empty());
    let accepted = "expected digest algorithms: \"MD5\", \"SHA-256\", or both, or \"by-client\" alone";
    algorithms.map(Offer::Fixed).ok_or_else(|| serde::de::Error::custom(accepted))
}

/// Reads one address.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    text(deserializer, "address", "an IP such as \"192.0.2.7\"", |text| text.parse().ok().map(Some))
}

/// Reads a duration of a key whose default depends on others.
pub(super) fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
