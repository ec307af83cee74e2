//! Feature codes, what a phone dials to act on calls; groups, the people who may answer each other's phones; and rooms for conferences.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::secret::{Secret, SecretSource};
use super::value::{self, Number, UserName};

/// `[features]`: codes that users dial; an empty one is off. A code that others take for what is dialled behind
/// theirs is refused; else, where one code begins another, the longer one counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Features {
    /// Takes the caller's own call from another device to this one; default `"*11"`.
    pub pull: Code,
    /// Parks a call, in the slot whose number follows or in a free one: dialled, or as target of a transfer; default `"*70"`.
    pub park: Code,
    /// Takes the call out of the slot whose number follows; default `"*71"`.
    pub retrieve: Code,
    /// Answers what rings at the user whose name or number follows; default `"**"`.
    pub pickup: Code,
    /// Answers what has rung longest in the caller's groups; default `"*8"`.
    pub group_pickup: Code,
    /// How long a call is parked before the one who parked it is called back; default `"2m"`.
    #[serde(deserialize_with = "value::duration")]
    pub park_timeout: Duration,
}

impl Default for Features {
    fn default() -> Self {
        let code = |text: &str| Code(text.into());
        Self {
            pull: code("*11"),
            park: code("*70"),
            retrieve: code("*71"),
            pickup: code("**"),
            group_pickup: code("*8"),
            park_timeout: Duration::from_secs(120),
        }
    }
}

/// A code to dial: up to eight of `0`-`9`, `*` and `#`, beginning with `*` or `#`; or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code(Box<str>);

impl Code {
    /// Returns the code; empty: none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let valid = text.len() <= 8
            && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'#'))
            && (text.is_empty() || text.starts_with(['*', '#']));
        let fault =
            || Error::custom(format!("{text:?} is no code; accepted: up to eight of 0-9, * and #, the first * or #, or \"\" for none"));
        if valid { Ok(Self(text.into())) } else { Err(fault()) }
    }
}

/// What a dialled code asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The caller's own call, to this device.
    Pull,
    /// To park a call, in that slot or any.
    Park(Option<u16>),
    /// What is in that slot.
    Retrieve(u16),
    /// What rings at that user or number.
    Pickup(String),
    /// What rings in the caller's groups.
    GroupPickup,
}

impl Features {
    /// Returns what a dialled number asks for, if it is a feature code.
    #[must_use]
    pub fn find(&self, dialled: &str) -> Option<Feature> {
        let behind = |code: &Code| if code.0.is_empty() { None } else { dialled.strip_prefix(&*code.0) };
        let slot = |rest: &str| sip::message::header::params::decimal::<u16>(rest);
        let found = [
            (&self.pull, behind(&self.pull).filter(|rest| rest.is_empty()).map(|_| Feature::Pull)),
            (&self.group_pickup, behind(&self.group_pickup).filter(|rest| rest.is_empty()).map(|_| Feature::GroupPickup)),
            (&self.park, behind(&self.park).filter(|rest| rest.is_empty() || slot(rest).is_some()).map(|rest| Feature::Park(slot(rest)))),
            (&self.retrieve, behind(&self.retrieve).and_then(slot).map(Feature::Retrieve)),
            (&self.pickup, behind(&self.pickup).filter(|rest| !rest.is_empty()).map(|rest| Feature::Pickup(rest.to_owned()))),
        ];
        let found = found.into_iter().filter_map(|(code, feature)| Some((code.0.len(), feature?)));
        found.max_by_key(|(length, _)| *length).map(|(_, feature)| feature)
    }

    /// Returns what leads elsewhere than to a user whose name or number it would be: what is dialled for a feature, or a room's number.
    #[must_use]
    pub fn elsewhere(&self, dialled: &str, is_room: impl FnOnce(&str) -> bool) -> Option<&'static str> {
        if self.find(dialled).is_some() {
            return Some("is dialled for a feature");
        }
        is_room(dialled).then_some("is the number of a room")
    }

    fn all(&self) -> [(&'static str, &Code); 5] {
        [
            ("pull", &self.pull),
            ("park", &self.park),
            ("retrieve", &self.retrieve),
            ("pickup", &self.pickup),
            ("group_pickup", &self.group_pickup),
        ]
    }

    /// Returns two keys, if there are any, where what is dialled behind the code of the one may be the code of the other.
    pub(super) fn shadowed(&self) -> Option<(&'static str, &'static str)> {
        let is_slot: fn(&str) -> bool = |rest| rest.bytes().all(|b| b.is_ascii_digit());
        let any: fn(&str) -> bool = |_| true;
        let takes = [("park", &self.park, is_slot), ("retrieve", &self.retrieve, is_slot), ("pickup", &self.pickup, any)];
        takes.into_iter().filter(|(_, code, _)| !code.0.is_empty()).find_map(|(one, code, takes)| {
            let begins = |other: &Code| other.0.strip_prefix(&*code.0).is_some_and(|rest| !rest.is_empty() && takes(rest));
            self.all().into_iter().find(|(_, other)| begins(other)).map(|(other, _)| (one, other))
        })
    }

    /// Returns two keys with the same code, if there are any.
    pub(super) fn doubled(&self) -> Option<(&'static str, &'static str)> {
        let all = self.all();
        let mut pairs = all.iter().enumerate().flat_map(|(at, one)| all.iter().skip(at + 1).map(move |other| (one, other)));
        pairs.find(|((_, one), (_, other))| one == other && !one.0.is_empty()).map(|(one, other)| (one.0, other.0))
    }
}

/// `[[group]]`: people who may answer what rings at one of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name, ours alone.
    pub name: UserName,
    /// Names of users.
    pub members: Vec<UserName>,
}

impl Group {
    /// Returns true if two users are in a group together.
    #[must_use]
    pub fn joins(groups: &[Self], one: &str, other: &str) -> bool {
        let has = |group: &Self, user: &str| group.members.iter().any(|member| member.as_str() == user);
        groups.iter().any(|group| has(group, one) && has(group, other))
    }

    /// Returns the other members of a user's groups, each once, by name.
    #[must_use]
    pub fn colleagues<'a>(groups: &'a [Self], user: &str) -> BTreeSet<&'a str> {
        let of_user = groups.iter().filter(|group| group.members.iter().any(|member| member.as_str() == user));
        of_user.flat_map(|group| &group.members).map(UserName::as_str).filter(|member| *member != user).collect()
    }
}

/// `[[room]]`: a conference that has a number.
#[derive(Clone)]
pub struct Room {
    /// What is dialled to come in, ours alone.
    pub number: Number,
    /// 4 to 12 digits that visitors have to press before they are let in; default none.
    pub pin: Option<Secret>,
    /// Name of the user who removes and silences others and locks the room; absent: the first of our users who is in.
    pub moderator: Option<UserName>,
}

/// The keys of a room.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomKeys {
    pub(super) number: Number,
    pub(super) pin: Option<SecretSource>,
    pub(super) moderator: Option<UserName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_code_counts() {
        let features = Features::default();
        let found = |dialled: &str| features.find(dialled);
        assert_eq!(found("*11"), Some(Feature::Pull));
        assert_eq!((found("*70"), found("*705")), (Some(Feature::Park(None)), Some(Feature::Park(Some(5)))));
        assert_eq!(found("*7112"), Some(Feature::Retrieve(12)));
        assert_eq!((found("*8"), found("**bob")), (Some(Feature::GroupPickup), Some(Feature::Pickup("bob".into()))));
        for other in ["", "*", "**", "*71", "*71x", "*711111111", "*70x", "*112", "*88", "501", "bob"] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn an_empty_code_is_off_and_two_must_differ() {
        let read = |text: &str| toml::from_str::<Features>(text);
        let off = read("pull = \"\"\ngroup_pickup = \"\"").unwrap();
        assert_eq!((off.find(""), off.find("*11"), off.doubled()), (None, None, None));
        assert_eq!(read("park = \"*71\"").unwrap().doubled(), Some(("park", "retrieve")));
        for wrong in ["70", "*7x", "*12345678"] {
            assert!(read(&format!("park = \"{wrong}\"")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn colleagues_are_in_a_group_together() {
        let group = |text: &str| toml::from_str::<Group>(text).unwrap();
        let groups = [group("name = \"sales\"\nmembers = [\"ann\", \"bob\"]"), group("name = \"desk\"\nmembers = [\"bob\", \"carol\"]")];
        assert!(Group::joins(&groups, "ann", "bob") && Group::joins(&groups, "carol", "bob"));
        assert!(!Group::joins(&groups, "ann", "carol") && !Group::joins(&groups, "dave", "dave"));
        assert_eq!(Group::colleagues(&groups, "bob").into_iter().collect::<Vec<_>>(), ["ann", "carol"]);
        assert!(Group::colleagues(&groups, "dave").is_empty());
    }
}
