//! The configuration as it is in force: every key with its value, defaults and what follows from others included, secrets hidden. What is
//! shown is a configuration itself.

use std::fmt::Display;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use sip::digest::Offer;

use super::value::{BY_CLIENT, in_units};
use super::{Config, LogFormat, MediaPath, Srtp, TrunkKind};

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

/// What stands in place of a PIN: digits, so that it can be read again.
const HIDDEN_PIN: &str = "000000";

impl Config {
    /// Returns every key with its value; a key that is absent has none.
    #[must_use]
    pub fn shown(&self) -> Value {
        let Self { sip, tls, http, media, policy, features, history, limits, log, .. } = self;
        let mut shown = json!({
            "domain": self.domain.as_str(),
            "data_dir": self.data_dir,
            "sip": {
                "udp": texts(&sip.udp), "tcp": texts(&sip.tcp), "tls": texts(&sip.tls), "ws": texts(&sip.ws), "wss": texts(&sip.wss),
                "origins": texts(&sip.origins),
                "digest": match &sip.digest {
                    Offer::ByClient => vec![BY_CLIENT],
                    Offer::Fixed(algorithms) => algorithms.iter().map(|algorithm| algorithm.token()).collect(),
                },
                "dns": sip.dns,
                "min_expires": in_units(sip.min_expires),
                "default_expires": in_units(sip.default_expires),
                "max_expires": in_units(sip.max_expires),
            },
            "tls": {},
            "http": { "listen": texts(&http.listen), "plain": http.plain },
            "media": {
                "address": media.address, "advertise": media.advertise,
                "rtp_ports": format!("{}-{}", media.rtp_ports.first(), media.rtp_ports.last()),
                "webrtc_port": media.webrtc_port, "allow_loopback": media.allow_loopback,
                "srtp": srtp(media.srtp), "timeout": in_units(media.timeout),
            },
            "policy": { "media": path(policy.media), "no_answer": in_units(policy.no_answer) },
            "features": {
                "pull": features.pull.as_str(), "park": features.park.as_str(), "retrieve": features.retrieve.as_str(),
                "pickup": features.pickup.as_str(), "group_pickup": features.group_pickup.as_str(),
                "park_timeout": in_units(features.park_timeout),
            },
            "history": { "keep_days": history.keep_days, "max": history.max },
            "limits": {
                "failed_logins_per_minute": limits.failed_logins_per_minute,
                "connections": limits.connections,
                "connections_per_address": limits.connections_per_address,
                "calls_per_user": limits.calls_per_user, "calls_per_trunk": limits.calls_per_trunk,
                "idle": in_units(limits.idle), "half_open": in_units(limits.half_open),
            },
            "log": { "format": match log.format { LogFormat::Text => "text", LogFormat::Json => "json" } },
        });
        for (section, key, file) in [
            ("tls", "certificate", &tls.certificate),
            ("tls", "key", &tls.key),
            ("tls", "ca", &tls.ca),
            ("media", "music_on_hold", &media.music_on_hold),
        ] {
            put_file(&mut shown[section], key, file.as_ref());
        }
        let lists = [self.shown_users(), self.shown_trunks(), self.shown_groups(), self.shown_rooms()];
        for (name, list) in ["user", "trunk", "group", "room"].into_iter().zip(lists) {
            if !list.is_empty() {
                shown[name] = list.into();
            }
        }
        shown
    }

    fn shown_users(&self) -> Vec<Value> {
        let user = |user: &super::User| {
            let numbers: Vec<_> = user.numbers.iter().map(super::Number::as_str).collect();
            json!({ "name": user.name.as_str(), "password": HIDDEN, "numbers": numbers, "srtp": srtp(user.srtp) })
        };
        self.users.iter().map(user).collect()
    }

    fn shown_trunks(&self) -> Vec<Value> {
        let trunk = |trunk: &super::Trunk| {
            let kind = match trunk.kind {
                TrunkKind::Ip => "ip",
            };
            let protected = srtp(trunk.srtp.unwrap_or(self.media.srtp));
            json!({ "name": trunk.name.as_str(), "kind": kind, "addresses": texts(&trunk.addresses), "srtp": protected })
        };
        self.trunks.iter().map(trunk).collect()
    }

    fn shown_groups(&self) -> Vec<Value> {
        let group = |group: &super::Group| {
            let members: Vec<_> = group.members.iter().map(super::UserName::as_str).collect();
            json!({ "name": group.name.as_str(), "members": members })
        };
        self.groups.iter().map(group).collect()
    }

    fn shown_rooms(&self) -> Vec<Value> {
        let room = |room: &super::Room| {
            let keys =
                [("pin", room.pin.as_ref().map(|_| HIDDEN_PIN)), ("moderator", room.moderator.as_ref().map(super::UserName::as_str))];
            let mut shown = Map::from_iter([("number".to_owned(), room.number.as_str().into())]);
            shown.extend(keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
            shown.into()
        };
        self.rooms.iter().map(room).collect()
    }
}

fn texts<T: Display>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn put_file(section: &mut Value, key: &str, file: Option<&PathBuf>) {
    if let (Some(section), Some(file)) = (section.as_object_mut(), file) {
        section.insert(key.to_owned(), json!(file));
    }
}

fn srtp(srtp: Srtp) -> &'static str {
    match srtp {
        Srtp::Off => "off",
        Srtp::Prefer => "prefer",
        Srtp::Require => "require",
    }
}

fn path(path: MediaPath) -> &'static str {
    match path {
        MediaPath::Relay => "relay",
        MediaPath::Direct => "direct",
    }
}

/// Writes what is shown as the text of a file.
#[must_use]
pub fn to_toml(shown: &Value) -> String {
    let mut text = String::new();
    let none = Map::new();
    let top = shown.as_object().unwrap_or(&none);
    keys(&mut text, top);
    for (name, value) in top {
        match value {
            Value::Object(section) => {
                text.push_str(&format!("\n[{name}]\n"));
                keys(&mut text, section);
            }
            Value::Array(list) => list.iter().filter_map(Value::as_object).for_each(|item| {
                text.push_str(&format!("\n[[{name}]]\n"));
                keys(&mut text, item);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    text
}

/// Numbers, truth values, texts and lists of texts are written in TOML as in JSON.
fn keys(text: &mut String, table: &Map<String, Value>) {
    for (key, value) in table {
        let is_table = value.is_object() || value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
        if !is_table {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = include_str!("../../examples/tandem.toml");

    fn parse(text: &str) -> Config {
        Config::parse(Path::new("/etc/tandem/tandem.toml"), text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn what_is_shown_reads_as_the_same_configuration_without_its_secrets() {
        let more = "[[user]]\nname = \"bob\"\npassword = \"bob \\\"secret\\\"\"\nsrtp = \"off\"\n";
        let changed =
            EXAMPLE.replace("min_expires = \"60s\"", "min_expires = \"90s\"").replace("origins = []", "origins = [\"http://a:*\"]");
        let config = parse(&format!("{changed}\n{more}"));
        let text = to_toml(&config.shown());
        let again = parse(&text);
        assert_eq!(again.shown(), config.shown());
        assert_eq!((again.domain, again.data_dir), (config.domain, config.data_dir));
        assert_eq!((again.sip, again.tls, again.http), (config.sip, config.tls, config.http));
        assert_eq!((again.media, again.policy, again.features), (config.media, config.policy, config.features));
        assert_eq!((again.history, again.limits, again.log), (config.history, config.limits, config.log));
        assert_eq!((again.groups, again.trunks.len()), (config.groups, config.trunks.len()));
        assert!(
            !text.contains("secret")
                && !text.contains("change-me")
                && !text.contains("24681")
                && again.users[1].password.reveal() == HIDDEN,
            "{text}"
        );
    }

    #[test]
    fn every_key_of_the_example_is_shown() {
        let files = "[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\nca = \"ca.pem\"\n[media]\nmusic_on_hold = \"m.wav\"\n";
        let text = to_toml(&parse(EXAMPLE).shown()) + &to_toml(&parse(files).shown());
        let keys = EXAMPLE.lines().filter_map(|line| Some(line.trim_start_matches("# ").split_once(" = ")?.0));
        for key in keys.filter(|key| !key.contains(' ')) {
            assert!(text.contains(&format!("\n{key} = ")) || text.starts_with(&format!("{key} = ")), "{key} is not in {text}");
        }
    }
}
