//! Faults that no single key shows: ports used twice, a certificate without its key, two users of one name.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Config;

/// A key and what is wrong with it.
type Fault = (String, String);

/// Returns the first fault.
pub(super) fn fault(config: &Config) -> Option<Fault> {
    data_folder(config)
        .or_else(|| listeners(config))
        .or_else(|| media(config))
        .or_else(|| pairs(config))
        .or_else(|| people(config))
        .or_else(|| trunks(config))
        .or_else(|| features(config))
        .or_else(|| rooms(config))
}

/// Returns what may be meant and seldom is: the key and why.
pub(super) fn warnings(config: &Config) -> Vec<Fault> {
    let networks = |trunk: &super::Trunk| trunk.addresses.clone().into_iter().enumerate();
    let all = config.trunks.iter().enumerate().flat_map(|(index, trunk)| networks(trunk).map(move |(n, network)| (index, n, network)));
    all.filter(|(.., network)| network.prefix_len() == 0)
        .map(|(index, n, network)| {
            let why = format!("{network} is every address: whoever reaches the switch may call as this trunk, without a password");
            (format!("trunk[{index}].addresses[{n}]"), why)
        })
        .collect()
}

fn data_folder(config: &Config) -> Option<Fault> {
    let is_other = config.data_dir.exists() && !config.data_dir.is_dir();
    is_other.then(|| ("data_dir".to_owned(), format!("{} is no folder; accepted: a folder to write to", config.data_dir.display())))
}

/// A room's number leads to it alone, its PIN can be dialled, and its moderator is a user.
fn rooms(config: &Config) -> Option<Fault> {
    let mut seen = std::collections::BTreeSet::new();
    config.rooms.iter().enumerate().find_map(|(index, room)| {
        let at = |key: &str| format!("room[{index}].{key}");
        let number = room.number.as_str();
        let is_users = |user: &super::User| user.name.as_str() == number || user.numbers.iter().any(|one| one.as_str() == number);
        if !seen.insert(number) || config.users.iter().any(is_users) || config.features.find(number).is_some() {
            return fault_at(at("number"), format!("{number:?} is dialled for something else; accepted: a number of its own"));
        }
        let can_be_dialled = |pin: &str| (4..=12).contains(&pin.len()) && pin.bytes().all(|b| b.is_ascii_digit());
        if room.pin.as_ref().is_some_and(|pin| !can_be_dialled(pin.reveal())) {
            return fault_at(at("pin"), "no PIN that can be dialled; accepted: 4 to 12 digits");
        }
        let stranger = room.moderator.as_ref().filter(|name| config.users.iter().all(|user| user.name != **name));
        stranger.and_then(|_| fault_at(at("moderator"), "no such user; accepted: the name of a user of this file"))
    })
}

/// Codes that differ, and groups of users that there are.
fn features(config: &Config) -> Option<Fault> {
    if let Some((one, other)) = config.features.doubled() {
        return fault_at(format!("features.{other}"), format!("the code of {one}; accepted: a code of its own, or \"\" for none"));
    }
    if let Some((one, other)) = config.features.shadowed() {
        let why = format!("begins with the code of {one}, which takes what follows; accepted: another code, or \"\" for none");
        return fault_at(format!("features.{other}"), why);
    }
    let mut names = std::collections::BTreeSet::new();
    config.groups.iter().enumerate().find_map(|(index, group)| {
        let name = group.name.as_str();
        if !names.insert(name) {
            return fault_at(format!("group[{index}].name"), format!("{name:?} is the name of another group; accepted: a name of its own"));
        }
        let stranger = group.members.iter().position(|member| config.users.iter().all(|user| user.name != *member))?;
        fault_at(format!("group[{index}].members[{stranger}]"), "no such user; accepted: the name of a user of this file")
    })
}

fn fault_at(key: impl Into<String>, fault: impl Into<String>) -> Option<Fault> {
    Some((key.into(), fault.into()))
}

/// Each listener on an address of its own, none on a wildcard.
fn listeners(config: &Config) -> Option<Fault> {
    let (sip, http) = (&config.sip, &config.http);
    let udp = [("sip.udp", &sip.udp)];
    let streams = [("sip.tcp", &sip.tcp), ("sip.tls", &sip.tls), ("sip.ws", &sip.ws), ("sip.wss", &sip.wss), ("http.listen", &http.listen)];
    if udp.iter().chain(&streams).all(|(_, list)| list.is_empty()) {
        return fault_at("sip", "no listener; accepted: at least one address in sip.udp, tcp, tls, ws, wss or http.listen");
    }
    same_address(&udp).or_else(|| same_address(&streams)).or_else(|| {
        let exposed = http.listen.iter().find(|address| http.plain && !address.ip().is_loopback())?;
        fault_at("http.plain", format!("{exposed} is not loopback; accepted: plain = true on loopback only"))
    })
}

fn same_address(lists: &[(&str, &Vec<SocketAddr>)]) -> Option<Fault> {
    let mut seen = BTreeMap::new();
    for (list, addresses) in lists {
        for (index, address) in addresses.iter().enumerate() {
            let key = format!("{list}[{index}]");
            if let Some(fault) = unusable(address.ip()) {
                return fault_at(key, fault);
            }
            if let Some(other) = seen.insert(*address, key.clone()).filter(|_| address.port() != 0) {
                return fault_at(key, format!("{address} is taken by {other}; accepted: an address of its own"));
            }
        }
    }
    None
}

/// A listener's address is what Via, Contact and SDP tell the peer, so it has to be a real one.
fn unusable(ip: IpAddr) -> Option<String> {
    (ip.is_unspecified() || ip.is_multicast())
        .then(|| format!("{ip} is no address that a peer can answer to; accepted: an address of this machine, each in an entry of its own"))
}

fn media(config: &Config) -> Option<Fault> {
    let media = &config.media;
    for (key, ip) in [("media.address", media.address), ("media.advertise", media.advertise)] {
        if let Some(fault) = unusable(ip) {
            return fault_at(key, fault);
        }
    }
    if media.rtp_ports.contains(media.webrtc_port) {
        return fault_at("media.webrtc_port", "the port is in media.rtp_ports; accepted: a port outside of them");
    }
    let (index, udp) = config.sip.udp.iter().enumerate().find(|(_, udp)| {
        let port = udp.port();
        udp.ip() == media.address && (media.rtp_ports.contains(port) || port != 0 && port == media.webrtc_port) // 0: any free one
    })?;
    fault_at(format!("sip.udp[{index}]"), format!("{udp} is among the media ports; accepted: another port"))
}

/// Keys that only make sense together.
fn pairs(config: &Config) -> Option<Fault> {
    let (sip, tls) = (&config.sip, &config.tls);
    if tls.certificate.is_some() != tls.key.is_some() {
        return fault_at("tls", "only one of certificate and key; accepted: both, or none for a self-signed one");
    }
    if sip.min_expires > sip.default_expires {
        return fault_at("sip.min_expires", "longer than sip.default_expires; accepted: at most that");
    }
    if sip.default_expires > sip.max_expires {
        return fault_at("sip.default_expires", "longer than sip.max_expires; accepted: at most that");
    }
    None
}

/// A name or number leads to one user, and to nothing else; what is a room's is said where the room is.
fn people(config: &Config) -> Option<Fault> {
    let mut seen = BTreeMap::new();
    for (index, user) in config.users.iter().enumerate() {
        let numbers = user.numbers.iter().enumerate();
        let numbers = numbers.map(|(n, number)| (format!("user[{index}].numbers[{n}]"), number.as_str()));
        for (key, name) in std::iter::once((format!("user[{index}].name"), user.name.as_str())).chain(numbers) {
            if let Some(why) = config.features.elsewhere(name, |_| false) {
                return fault_at(
                    key,
                    format!("{name:?} {why}; accepted: a name or number that begins with none of the codes of [features]"),
                );
            }
            if let Some(other) = seen.insert(name, key.clone()) {
                return fault_at(key, format!("{name:?} is taken by {other}; accepted: a name or number of its own"));
            }
        }
    }
    None
}

/// A name leads to one trunk, and so does an address.
fn trunks(config: &Config) -> Option<Fault> {
    let mut names = BTreeMap::new();
    let mut networks = BTreeMap::new();
    for (index, trunk) in config.trunks.iter().enumerate() {
        let key = format!("trunk[{index}].name");
        if let Some(other) = names.insert(trunk.name.as_str(), key.clone()) {
            return fault_at(key, format!("{:?} is taken by {other}; accepted: a name of its own", trunk.name.as_str()));
        }
        if trunk.addresses.is_empty() {
            let key = format!("trunk[{index}].addresses");
            return fault_at(key, "no address; accepted: at least one, for an ip trunk is known by nothing else");
        }
        for (n, network) in trunk.addresses.iter().enumerate() {
            let key = format!("trunk[{index}].addresses[{n}]");
            if let Some(other) = networks.insert(*network, key.clone()) {
                return fault_at(key, format!("{network} is taken by {other}; accepted: an address of its own"));
            }
        }
    }
    None
}
