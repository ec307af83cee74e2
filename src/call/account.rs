//! How many calls each user and each trunk has made: the bounds that keep one of them from taking all.

use std::sync::Arc;

use super::party::Who;
use super::refusal::Refusal;
use super::{Call, Calls, Id};

/// Who answers for a call: a user, or a trunk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Account {
    User(Arc<str>),
    Trunk(Arc<str>),
}

impl Account {
    pub(super) fn of(who: &Who) -> Self {
        match who {
            Who::User(name) => Self::User(Arc::clone(name)),
            Who::Outside { trunk, .. } => Self::Trunk(Arc::clone(trunk)),
        }
    }
}

impl Calls {
    /// Whether somebody may make another call.
    pub(super) fn may_start(&self, who: &Who) -> Result<(), Refusal> {
        let account = Account::of(who);
        let made = self.made.get(&account).copied().unwrap_or(0);
        match account {
            _ if self.calls.len() >= Self::MAX => Err(Refusal::TooManyCalls),
            Account::User(_) if made >= self.policy.calls_per_user => Err(Refusal::TooManyOfUser),
            Account::Trunk(_) if made >= self.policy.calls_per_trunk => Err(Refusal::TooManyOfTrunk),
            Account::User(_) | Account::Trunk(_) => Ok(()),
        }
    }

    /// Takes a new call, and notes who has made it.
    pub(super) fn begin(&mut self, id: Id, mut call: Call, who: &Who) {
        call.account = Some(self.charge(who));
        self.calls.insert(id, call);
    }

    /// Counts a call of somebody.
    pub(super) fn charge(&mut self, who: &Who) -> Account {
        let account = Account::of(who);
        *self.made.entry(account.clone()).or_default() += 1;
        account
    }

    /// A call is over that somebody has made, or they have left a room.
    pub(super) fn forget_account(&mut self, account: Option<&Account>) {
        if let Some((account, made)) = account.and_then(|account| Some((account, self.made.get_mut(account)?))) {
            *made -= 1;
            if *made == 0 {
                self.made.remove(account);
            }
        }
    }
}
