//! The network of this host: ports, the advertised address, datagrams that arrive, names that are found.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use sip::Transport;
use sip::locate::{Dns as LookUps, Permit, Policy, RecordKind};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;

use super::{Finding, Switch};
use crate::config::Config;
use crate::net::dns::Dns;

/// Ports of the RTP range that are tried.
const SAMPLES: usize = 16;
/// How long a datagram may take from one socket of this host to another.
const ARRIVES: Duration = Duration::from_secs(1);
/// How long a name may take to be found.
const LOOKS_UP: Duration = Duration::from_secs(6);
/// A datagram that fits in any frame, and one that has to be cut into pieces.
const SIZES: [usize; 2] = [1200, 4000];

/// How a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Free,
    Taken,
    NotOurs,
    Forbidden,
}

impl Port {
    fn of<T>(bound: std::io::Result<T>) -> Self {
        match bound.map_err(|error| error.kind()) {
            Ok(_) => Self::Free,
            Err(ErrorKind::AddrNotAvailable) => Self::NotOurs,
            Err(ErrorKind::PermissionDenied) => Self::Forbidden,
            Err(_) => Self::Taken,
        }
    }
}

/// Looks at every listener of the file, and at the ports of media.
pub(super) async fn ports(config: &Config, switch: Switch) -> Vec<Finding> {
    let (sip, http) = (&config.sip, &config.http);
    let streams = [("tcp", &sip.tcp), ("tls", &sip.tls), ("ws", &sip.ws), ("wss", &sip.wss), ("http", &http.listen)];
    let mut findings = Vec::new();
    for address in &sip.udp {
        findings.push(judge("udp", *address, Port::of(UdpSocket::bind(address).await), switch));
    }
    for (name, addresses) in streams {
        for address in addresses {
            findings.push(judge(name, *address, Port::of(TcpListener::bind(address).await), switch));
        }
    }
    let webrtc = SocketAddr::new(config.media.address, config.media.webrtc_port);
    findings.push(judge("webrtc", webrtc, Port::of(UdpSocket::bind(webrtc).await), switch));
    findings.push(rtp(config, switch).await);
    findings
}

fn judge(name: &str, address: SocketAddr, port: Port, switch: Switch) -> Finding {
    const CHECK: &str = "ports";
    match (port, switch) {
        (Port::Free, _) if address.port() == 0 => Finding::ok(CHECK, format!("{name} {address}: any free port is taken")),
        (Port::Free, Switch::Down) => Finding::ok(CHECK, format!("{name} {address} is free")),
        (Port::Taken, Switch::Up) => Finding::ok(CHECK, format!("{name} {address} is served")),
        (Port::Free, Switch::Up) => {
            let advice = "restart the switch: it runs with another file, or with an older version of this one";
            Finding::warn(CHECK, format!("{name} {address} is free although the switch runs"), advice)
        }
        (Port::Taken, Switch::Down) => {
            let advice = format!("`ss -lnp | grep :{}` tells which program has it; stop that one or choose another port", address.port());
            Finding::fail(CHECK, format!("{name} {address} is taken by another program"), advice)
        }
        (Port::NotOurs, _) => {
            let advice = "`ip address` lists those that are; put one of them in the file";
            Finding::fail(CHECK, format!("{name} {address}: this machine has no such address"), advice)
        }
        (Port::Forbidden, _) => {
            let advice = "choose a port from 1024 on, or allow it: AmbientCapabilities=CAP_NET_BIND_SERVICE of the service";
            Finding::fail(CHECK, format!("{name} {address} is not for this user"), advice)
        }
    }
}

async fn rtp(config: &Config, switch: Switch) -> Finding {
    const CHECK: &str = "media ports";
    let (address, ports) = (config.media.address, config.media.rtp_ports);
    let all = ports.range();
    let step = (all.len() / SAMPLES).max(1);
    let mut taken = 0;
    for port in all.clone().step_by(step).take(SAMPLES) {
        taken += usize::from(Port::of(UdpSocket::bind(SocketAddr::new(address, port)).await) == Port::Taken);
    }
    let range = format!("{address} {}-{}", ports.first(), ports.last());
    let legs = all.len() / 2;
    match switch {
        Switch::Down if taken > 0 => {
            let advice = "choose a range that no other program uses, outside of net.ipv4.ip_local_port_range";
            Finding::warn(CHECK, format!("{range}: {taken} of {SAMPLES} that were tried are taken"), advice)
        }
        Switch::Down | Switch::Up => Finding::ok(CHECK, format!("{range}, enough for {legs} phones at once")),
    }
}

/// Looks whether peers can send media to the address that they are told.
pub(super) fn advertised(config: &Config) -> Finding {
    let listeners = [&config.sip.udp, &config.sip.tcp, &config.sip.tls, &config.sip.ws, &config.sip.wss, &config.http.listen];
    let is_open = listeners.into_iter().flatten().any(|listener| !listener.ip().is_loopback());
    let local: Vec<IpAddr> = getifaddrs().into_iter().flatten().filter_map(|interface| ip_of(interface.address?)).collect();
    judge_advertised(config.media.advertise, config.media.address, is_open, &local)
}

fn ip_of(address: nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn judge_advertised(advertise: IpAddr, bound: IpAddr, is_open: bool, local: &[IpAddr]) -> Finding {
    const CHECK: &str = "advertised";
    let is_local = |ip: IpAddr| ip.is_loopback() || local.contains(&ip);
    if !is_local(bound) {
        let advice = "set media.address to one of this machine, and media.advertise to what peers see";
        return Finding::fail(CHECK, format!("media.address {bound} is no address of this machine"), advice);
    }
    if advertise.is_loopback() && is_open {
        let advice = "set media.advertise to an address that phones reach: calls would be silent";
        return Finding::fail(CHECK, format!("phones elsewhere are told to send media to {advertise}"), advice);
    }
    if advertise != bound && !is_local(advertise) {
        let advice = "right behind NAT: the router must forward the media ports unchanged; wrong if this machine moved";
        return Finding::warn(CHECK, format!("{advertise} is told to phones and is no address of this machine"), advice);
    }
    Finding::ok(CHECK, format!("{advertise} is an address of this machine"))
}

/// Sends datagrams from this host to itself, also one that is cut into pieces: a firewall that drops those breaks SIP over UDP.
pub(super) async fn datagrams(config: &Config) -> Finding {
    const CHECK: &str = "datagrams";
    let address = config.media.address;
    let sent = async {
        let (from, to) = (UdpSocket::bind((address, 0)).await?, UdpSocket::bind((address, 0)).await?);
        let mut buffer = vec![0; 64 * 1024];
        for size in SIZES {
            from.send_to(&vec![1; size], to.local_addr()?).await?;
            match timeout(ARRIVES, to.recv_from(&mut buffer)).await {
                Ok(Ok((length, _))) if length == size => {}
                Ok(Ok(_) | Err(_)) | Err(_) => return Ok(Some(size)),
            }
        }
        Ok::<_, std::io::Error>(None)
    };
    match sent.await {
        Ok(None) => Finding::ok(CHECK, format!("{} and {} bytes arrive at {address}", SIZES[0], SIZES[1])),
        Ok(Some(size)) => {
            let advice = "look at the firewall of this machine: UDP to its own addresses, and fragments, must pass";
            Finding::fail(CHECK, format!("{size} bytes from {address} to itself do not arrive"), advice)
        }
        Err(error) => Finding::fail(CHECK, format!("none can be sent from {address}: {error}"), "set media.address to one of this machine"),
    }
}

/// Looks the domain up as phones do (RFC 3263).
pub(super) async fn names(config: &Config) -> Finding {
    const CHECK: &str = "names";
    let domain = config.domain.as_str();
    if !config.sip.dns {
        return Finding::ok(CHECK, "sip.dns is off: only literal addresses are reachable");
    }
    if domain.parse::<IpAddr>().is_ok() || domain == "localhost" {
        return Finding::ok(CHECK, format!("{domain} needs no look-up"));
    }
    let dns = match Dns::system() {
        Ok(dns) => dns,
        Err(error) => {
            return Finding::fail(CHECK, format!("there is no name server: {error}"), "mend /etc/resolv.conf, or set sip.dns = false");
        }
    };
    let Some(uri) = sip::Uri::parse(&format!("sip:{domain}").into()) else {
        return Finding::warn(CHECK, format!("{domain} cannot be in a SIP URI"), "choose a name of a host as domain");
    };
    let advice = "phones that are told the domain alone do not find this switch: add SRV or address records, or tell them an address";
    let policy = Policy {
        dns: LookUps::On,
        permit: Permit::Any,
        transports: vec![Transport::Udp, Transport::Tcp, Transport::Tls],
        families: vec![RecordKind::A, RecordKind::Aaaa],
    };
    match timeout(LOOKS_UP, dns.locate(&uri, &policy, 0)).await {
        Ok(Ok(targets)) => match targets.first() {
            Some(first) => Finding::ok(CHECK, format!("{domain} leads to {}", first.address)),
            None => Finding::warn(CHECK, format!("{domain} leads nowhere"), advice),
        },
        Ok(Err(error)) => Finding::warn(CHECK, format!("{domain} is not found: {error}"), advice),
        Err(_) => Finding::warn(
            CHECK,
            format!("no answer about {domain} in {} s", LOOKS_UP.as_secs()),
            "look at the name servers in /etc/resolv.conf",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[tokio::test]
    async fn a_port_is_free_taken_or_not_ours() {
        let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(Port::of(UdpSocket::bind(taken.local_addr().unwrap()).await), Port::Taken);
        assert_eq!(Port::of(UdpSocket::bind("127.0.0.1:0").await), Port::Free);
        assert_eq!(Port::of(UdpSocket::bind("192.0.2.1:0").await), Port::NotOurs);
    }

    #[test]
    fn a_taken_port_is_good_while_the_switch_runs_and_bad_while_it_does_not() {
        let verdict = |port, switch| judge("udp", "127.0.0.1:5060".parse().unwrap(), port, switch).verdict;
        assert_eq!([verdict(Port::Taken, Switch::Up), verdict(Port::Taken, Switch::Down)], [Verdict::Ok, Verdict::Fail]);
        assert_eq!([verdict(Port::Free, Switch::Up), verdict(Port::Free, Switch::Down)], [Verdict::Warn, Verdict::Ok]);
        assert_eq!([verdict(Port::NotOurs, Switch::Up), verdict(Port::Forbidden, Switch::Down)], [Verdict::Fail, Verdict::Fail]);
        assert_eq!(judge("udp", "127.0.0.1:0".parse().unwrap(), Port::Free, Switch::Up).verdict, Verdict::Ok);
    }

    #[test]
    fn an_advertised_address_must_be_reachable() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let local = [ip("10.0.0.5")];
        let verdict = |advertise, bound, open| judge_advertised(ip(advertise), ip(bound), open, &local).verdict;
        assert_eq!(verdict("10.0.0.5", "10.0.0.5", true), Verdict::Ok);
        assert_eq!(verdict("127.0.0.1", "127.0.0.1", false), Verdict::Ok);
        assert_eq!(verdict("127.0.0.1", "10.0.0.5", true), Verdict::Fail);
        assert_eq!(verdict("203.0.113.5", "10.0.0.5", true), Verdict::Warn);
        assert_eq!(verdict("10.0.0.5", "10.9.9.9", true), Verdict::Fail);
    }

    #[tokio::test]
    async fn datagrams_arrive_on_loopback() {
        let config = Config::parse(std::path::Path::new("t.toml"), "[sip]\nudp = [\"127.0.0.1:0\"]").unwrap_or_else(|e| panic!("{e}"));
        let finding = datagrams(&config).await;
        assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
    }
}
