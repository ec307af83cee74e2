//! Via (RFC 3261 §20.42) with rport and received (RFC 3581).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytestring::ByteString;

use super::{Header, Params};
use crate::message::is_token;
use crate::message::uri::{Host, host_port};
use crate::transport::Transport;

/// One Via: where the response goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The transport token as written, such as `UDP`.
    pub transport: ByteString,
    /// Host of sent-by.
    pub host: Host,
    /// Port of sent-by, if written.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params,
}

impl Via {
    /// What a branch of RFC 3261 starts with (§8.1.1.7).
    pub const COOKIE: &'static str = "z9hG4bK";

    /// Returns the branch.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch").filter(|b| !b.is_empty())
    }

    /// Returns the address that `received` and `rport` name, for the way back (RFC 3581 §4).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.get("received")?;
        text.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// Returns where a response over UDP goes (§18.2.2, RFC 3581 §4): received and rport, else sent-by.
    #[must_use]
    pub fn response_address(&self) -> Option<SocketAddr> {
        let ip = self.received().or_else(|| self.host.ip())?;
        let rport = self.params.get("rport").and_then(|p| p.parse().ok());
        let default = Transport::parse(&self.transport).map_or(5060, Transport::default_port);
        Some(SocketAddr::new(ip, rport.or(self.port).unwrap_or(default)))
    }

    /// Notes where the request really came from (§18.2.1, RFC 3581 §4): `received` when sent-by is another address or rport was
    /// asked for, and the value of `rport`.
    #[must_use]
    pub fn stamped(&self, from: SocketAddr) -> Self {
        let wants_rport = self.params.get("rport").is_some();
        if !wants_rport && self.host.ip() == Some(from.ip()) {
            return self.clone();
        }
        let mut params = String::with_capacity(self.params.as_str().len() + 64);
        for (name, value) in self.params.iter().filter(|(name, _)| !is_stamp(name)) {
            params.extend([";", name]);
            if !value.is_empty() {
                params.extend(["=", value]);
            }
        }
        if wants_rport {
            params.push_str(&format!(";rport={}", from.port()));
        }
        params.push_str(&format!(";received={}", from.ip()));
        Self { params: Params::of(params.into()), ..self.clone() }
    }
}

fn is_stamp(name: &str) -> bool {
    name.eq_ignore_ascii_case("rport") || name.eq_ignore_ascii_case("received")
}

impl Header for Via {
    fn parse(text: &ByteString) -> Option<Self> {
        let rest = after_version(text)?.trim_start();
        let space = rest.find([' ', '\t'])?;
        let transport = rest.get(..space)?;
        let sent = rest.get(space..)?.trim_start();
        let semicolon = sent.find(';').unwrap_or(sent.len());
        let (sent_by, params) = sent.split_at_checked(semicolon)?;
        // "host : port" with white space around the colon is legal (§25.1, COLON).
        let (host, port) = if sent_by.contains([' ', '\t']) {
            let whole = ByteString::from(sent_by.replace([' ', '\t'], ""));
            host_port(&whole, &whole)?
        } else {
            host_port(text, sent_by)?
        };
        is_token(transport).then_some(())?;
        Some(Self { transport: text.slice_ref(transport), host, port, params: Params::parse(&text.slice_ref(params))? })
    }
}

/// Returns what follows `SIP/2.0/`, which may be written with white space.
fn after_version(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("SIP/2.0/") {
        return Some(rest);
    }
    let (name, rest) = text.split_once('/')?;
    let (version, rest) = rest.split_once('/')?;
    (name.trim().eq_ignore_ascii_case("SIP") && version.trim() == "2.0").then_some(rest)
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Via {
        Via::parse(&text.into()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn odd_but_legal_vias_are_read() {
        let v = via("SIP  / 2.0\t/ UDP  192.0.2.1 : 5070 ;branch=z9hG4bKx; rport");
        assert_eq!((&*v.transport, v.port, v.branch()), ("UDP", Some(5070), Some("z9hG4bKx")));
        assert_eq!(via("SIP/2.0/TLS [2001:db8::1];branch=b").host.ip(), "2001:db8::1".parse().ok());
    }

    #[test]
    fn broken_vias_are_refused() {
        for text in ["SIP/2.0/UDP", "SIP/2.0/UDP h;;", "SIP/7.0/UDP h", "SIP/2.0 UDP h", "UDP h", "SIP/2.0/U@P h", "SIP/2.0/UDP h:99999"] {
            assert!(Via::parse(&text.into()).is_none(), "{text}");
        }
    }

    #[test]
    fn the_real_source_is_noted_and_used_for_the_response() {
        let from = "10.0.0.9:4711".parse().unwrap();
        let v = via("SIP/2.0/UDP pc33.example.com;branch=b;rport").stamped(from);
        assert_eq!(v.response_address(), Some(from));
        let v = via("SIP/2.0/UDP 10.0.0.9:5080;branch=b").stamped(from);
        assert_eq!(v.response_address(), "10.0.0.9:5080".parse().ok());
        assert_eq!(v.params.get("received"), None);
    }
}
