//! Party: one user, or one outside number, in a call, whichever devices they are in with.

use std::sync::Arc;

use media::Kinds;
use serde::Serialize;
use sip::message::NameAddr;

use super::command::Ticket;
use super::handoff::Handoff;
use super::leg::LegId;
use super::{Account, Target};

/// Names a party within its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PartyId(pub u16);

impl PartyId {
    /// Who called.
    pub const CALLER: Self = Self(0);
    /// Who was called.
    pub const CALLEE: Self = Self(1);
}

/// Who a party is to the switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// One of our users, by name.
    User(Arc<str>),
    /// Somebody behind a trunk.
    Outside {
        /// The trunk's name.
        trunk: Arc<str>,
        /// Their number; of who has none, or claims one of ours, the address that phones are shown.
        number: Arc<str>,
    },
}

impl Who {
    /// Returns the name of the user, if it is one of ours.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<str>> {
        match self {
            Self::User(name) => Some(name),
            Self::Outside { .. } => None,
        }
    }

    /// Returns what others are told of them: a user's name, but no number, which may be withheld.
    #[must_use]
    pub fn told(&self) -> &str {
        self.user().map_or("somebody outside", |user| user)
    }

    /// Returns whether it is this user.
    #[must_use]
    pub fn is_user(&self, name: &str) -> bool {
        self.user().is_some_and(|user| **user == *name)
    }
}

/// A person as calls know them.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// Who it is.
    pub who: Who,
    /// For the record: the AOR, or number and trunk.
    pub address: Arc<str>,
    /// What the others are shown, in From and To: anonymous if they asked for it.
    pub shown: NameAddr,
}

impl Person {
    /// Returns true if they asked not to be shown to the others (RFC 3323).
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.shown.uri.host().is_some_and(|host| host.to_string() == "anonymous.invalid")
    }

    /// Returns what others are told of them in a sentence.
    #[must_use]
    pub fn told(&self) -> &str {
        if self.is_anonymous() { "somebody" } else { self.who.told() }
    }
}

/// A person in a call.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) id: PartyId,
    pub(super) person: Person,
    /// When they came, if not with the call: milliseconds since 1970.
    pub(super) since: Option<u64>,
    /// They put the others on hold, by command.
    pub(super) holding: bool,
    /// What of them the others do not get, by command.
    pub(super) muted: Kinds,
    /// What of them the moderator keeps from the others.
    pub(super) silenced: Kinds,
    /// In a room: whose call theirs is, as far as it is counted.
    pub(super) account: Option<Account>,
    /// Their media on its way to another device.
    pub(super) moving: Option<Box<Moving>>,
}

/// A handoff, and what it is about.
#[derive(Debug)]
pub(super) struct Moving {
    /// The leg that is to carry the media.
    pub(super) to: LegId,
    /// What that leg was used for before; none: it came for this.
    pub(super) before: Option<Kinds>,
    pub(super) handoff: Handoff,
    /// Who asked.
    pub(super) ticket: Ticket,
    /// What moves next, and where to.
    pub(super) then: Option<(Kinds, Box<Target>)>,
}

impl Party {
    pub(super) fn new(id: PartyId, person: Person) -> Self {
        Self { id, person, since: None, holding: false, muted: Kinds::NONE, silenced: Kinds::NONE, account: None, moving: None }
    }

    /// Returns what is left of them in a call that they went on from into another one.
    pub(super) fn gone_on(&self) -> Self {
        Self { since: self.since, ..Self::new(self.id, self.person.clone()) }
    }

    /// Returns what the others do not get of them.
    pub(super) fn kept_back(&self) -> Kinds {
        self.muted | self.silenced
    }
}
