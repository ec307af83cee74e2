//! Who of a call each login is shown: who asked to be anonymous (RFC 3323) is seen by themselves, and by whoever may see all calls.
//! Delivery and rights go by who they are all the same.

use super::SHOW;
use super::types::{Call, Party};
use crate::permission::{Caller, Reach, Right};
use crate::text::UserName;

/// Whom of the anonymous parties a login sees, as a number: everybody, nobody, or from 2 on the party at that place, who it is itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight(u32);

impl Sight {
    pub(crate) const ALL: Self = Self(0);
    const NONE: Self = Self(1);

    /// Returns what a login sees of parties, of whom each is anonymous or not.
    pub(crate) fn of<'a>(parties: impl Iterator<Item = (bool, Option<&'a UserName>)>, caller: &Caller, right: Right<'_>) -> Self {
        let mut sight = Self::ALL;
        for (place, (anonymous, user)) in (2..).zip(parties) {
            if anonymous && user == Some(&caller.user) {
                sight = Self(place);
                break;
            }
            if anonymous && user.is_some() {
                sight = Self::NONE;
            }
        }
        if sight != Self::ALL && caller.reach(right) == Reach::All { Self::ALL } else { sight }
    }

    /// Returns the one of these parties whom the login is itself.
    pub(crate) fn own<T>(self, mut parties: impl Iterator<Item = T>) -> Option<T> {
        parties.nth(usize::try_from(self.0.checked_sub(2)?).ok()?)
    }

    pub(crate) fn bits(self) -> u64 {
        u64::from(self.0) << 32
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self((bits >> 32) as u32)
    }
}

impl Call {
    pub(crate) fn sight(&self, caller: &Caller) -> Sight {
        Sight::of(self.parties.iter().map(|party| (party.anonymous, party.user.as_ref())), caller, SHOW)
    }

    /// Returns the call with nothing but what is in sight.
    pub(crate) fn in_sight(mut self, sight: Sight) -> Self {
        if sight == Sight::ALL {
            return self;
        }
        let own = sight.own(self.parties.iter()).and_then(|party| party.user.clone());
        for party in self.parties.iter_mut().filter(|party| party.anonymous && (own.is_none() || party.user != own)) {
            let (user, number, name, devices) = Default::default();
            *party = Party { user, number, name, devices, ..party.clone() };
        }
        self
    }

    /// Returns the call as a login sees it.
    pub(crate) fn seen_by(self, caller: &Caller) -> Self {
        let sight = self.sight(caller);
        self.in_sight(sight)
    }
}
