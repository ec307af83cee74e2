//! Topic `permission`: what a user may do, for themself to know and for an administrator to change. A change reaches the user's logins
//! as the event `changed`.

use std::collections::BTreeMap;

use super::declare::bodies;
use super::operation::operations;
use super::{Done, Effect, OPERATIONS as TOPICS, reply};
use crate::error::Error;
use crate::permission::{Caller, MAX_EXCEPTIONS, Owner, Pattern, Reach, Rights, Role, decide};
use crate::provider::Store;
use crate::text::{DeviceId, Line, UserName};

operations! { "permission";
    /// Tells what a user may do, each right by name, with the version of the whole.
    "get" Get(Get) -> Snapshot, Quick, Own;
    /// Sets a right, or takes its exception away; for a user or for one of their devices.
    "set" Set(Set) -> Snapshot, Quick, None;
    /// Sets what a user is: user, administrator or application.
    "set-role" SetRole(SetRole) -> Snapshot, Quick, None;
    /// Sets how many days of their history a user sees.
    "set-history-days" SetHistoryDays(SetHistoryDays) -> Snapshot, Quick, None;
}

bodies! {
    /// Request of `get`.
    Get {
        /// Whose; absent: the caller's.
        user: Option<UserName> = default,
    }
    /// Request of `set`.
    Set {
        /// Whose.
        user: UserName,
        /// Only from this device; a device can only take away.
        device: Option<DeviceId> = default,
        /// Which right: `topic.message`, `topic.*` or `*`.
        right: Pattern,
        /// How far it reaches; absent: what the role says.
        reach: Option<Reach> = default,
    }
    /// Request of `set-role`.
    SetRole {
        /// Whose.
        user: UserName,
        /// What they are.
        role: Role,
    }
    /// Request of `set-history-days`.
    SetHistoryDays {
        /// Whose.
        user: UserName,
        /// How many days; absent: all.
        days: Option<u16> = default,
    }
    /// Reply of every message of this topic, and body of `changed`.
    Snapshot {
        /// Whose.
        user: UserName,
        /// Counts the changes.
        version: u64,
        /// What they are, and what is special about them.
        rights: Rights,
        /// Every right of the switch, and how far they have it.
        effective: BTreeMap<String, Reach>,
    }
}

impl Snapshot {
    /// Tells what a caller may do.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        let operations = TOPICS.iter().flat_map(|operations| operations.iter());
        Self {
            user: caller.user.clone(),
            version: caller.rights.version,
            rights: Rights::clone(&caller.rights),
            effective: operations.map(|op| (format!("{}.{}", op.topic, op.message), caller.reach(op.right()))).collect(),
        }
    }

    fn of_user(caller: &Caller, user: UserName, rights: &Rights) -> Self {
        let rights = std::sync::Arc::new(rights.clone());
        if user == caller.user {
            return Self::of(&Caller { rights, ..caller.clone() });
        }
        let application: Option<Line> = None;
        Self::of(&Caller { login: caller.login, user, application, device: None, rights, scopes: None })
    }
}

/// Serves a request.
pub(crate) async fn serve<S: Store>(store: &S, caller: &Caller, request: Request) -> Result<Done, Error> {
    let right = request.right();
    let (user, change) = match request {
        Request::Get(request) => {
            let user = request.user.unwrap_or_else(|| caller.user.clone());
            decide(caller, right, Owner::User(&user))?;
            let rights = if user == caller.user { Rights::clone(&caller.rights) } else { store.rights(&user).await? };
            return reply(&Snapshot::of_user(caller, user, &rights));
        }
        Request::Set(request) => (request.user.clone(), RightsChange::Exception(*request)),
        Request::SetRole(request) => (request.user, RightsChange::Role(request.role)),
        Request::SetHistoryDays(request) => (request.user, RightsChange::HistoryDays(request.days)),
    };
    decide(caller, right, Owner::User(&user))?;
    if let RightsChange::Exception(set) = &change {
        check_right(&set.right, "right")?;
    }
    let rights = store.change_rights(&user, change).await?;
    let mut done = reply(&Snapshot::of_user(caller, user.clone(), &rights))?;
    done.effects.push(Effect::Rights { user, rights: rights.into() });
    Ok(done)
}

/// Refuses a right of the switch that does not exist: a misspelt one would change nothing, silently.
pub(crate) fn check_right(pattern: &Pattern, field: &str) -> Result<(), Error> {
    let Some((topic, message)) = pattern.as_str().rsplit_once('.') else { return Ok(()) };
    let Some(operations) = super::operations(topic).filter(|_| message != "*") else { return Ok(()) };
    if operations.iter().any(|operation| operation.message == message) {
        return Ok(());
    }
    let known = operations.iter().map(|operation| format!("{topic}.{}", operation.message));
    Err(Error::field(field, format!("field {field}: topic {topic} has no message {message}")).accepting(known))
}

/// A change of a user's rights, which the store carries out as one step and durably.
#[derive(Clone, Debug, PartialEq)]
pub enum RightsChange {
    /// One exception is set or taken away.
    Exception(Set),
    /// The role changes.
    Role(Role),
    /// The limit of the history changes.
    HistoryDays(Option<u16>),
}

impl RightsChange {
    /// Returns the rights after the change, one version later.
    ///
    /// # Errors
    ///
    /// `too-large` past [`MAX_EXCEPTIONS`].
    pub fn apply(self, mut rights: Rights) -> Result<Rights, Error> {
        match self {
            Self::Role(role) => rights.role = role,
            Self::HistoryDays(days) => rights.history_days = days,
            Self::Exception(Set { device, right, reach, .. }) => {
                if device.as_ref().is_some_and(|device| !rights.devices.contains_key(device)) && rights.devices.len() >= MAX_EXCEPTIONS {
                    return Err(too_many());
                }
                let exceptions = match &device {
                    Some(device) => rights.devices.entry(device.clone()).or_default(),
                    None => &mut rights.exceptions,
                };
                match reach {
                    Some(reach) => drop(exceptions.insert(right, reach)),
                    None => drop(exceptions.remove(&right)),
                }
                if exceptions.len() > MAX_EXCEPTIONS {
                    return Err(too_many());
                }
                rights.devices.retain(|_, exceptions| !exceptions.is_empty());
            }
        }
        rights.version += 1;
        Ok(rights)
    }
}

fn too_many() -> Error {
    Error::new(crate::error::Fault::TooLarge, format!("a user has at most {MAX_EXCEPTIONS} exceptions, and so has a device"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_the_version_and_stays_in_its_bound() {
        let pattern = |n: usize| Pattern::parse(&format!("t{n}.x")).unwrap();
        let set = |n, reach| {
            let user = UserName::parse("ann").unwrap();
            RightsChange::Exception(Set { user, device: None, right: pattern(n), reach })
        };
        let mut rights = Rights::default();
        for n in 0..MAX_EXCEPTIONS {
            rights = set(n, Some(Reach::None)).apply(rights).unwrap();
        }
        assert_eq!(rights.version, MAX_EXCEPTIONS as u64);
        assert!(set(MAX_EXCEPTIONS, Some(Reach::None)).apply(rights.clone()).is_err());
        let fewer = set(0, None).apply(rights).unwrap();
        assert!(!fewer.exceptions.contains_key(&pattern(0)));
    }
}
