//! Party: one user, or one outside number, in a call, whichever devices they are in with.

use std::sync::Arc;

use media::Kinds;
use serde::Serialize;
use sip::message::NameAddr;

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
        /// Their number.
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

/// A person in a call.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) id: PartyId,
    pub(super) person: Person,
    /// They put the others on hold, by command.
    pub(super) holding: bool,
    /// What of them the others do not get, by command.
    pub(super) muted: Kinds,
}

impl Party {
    pub(super) fn new(id: PartyId, person: Person) -> Self {
        Self { id, person, holding: false, muted: Kinds::NONE }
    }
}
