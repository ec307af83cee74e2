//! Who subscribed to what: from a topic and the users that an event is about to the logins that may have to be told.

use std::collections::{BTreeMap, BTreeSet};

use crate::login::LoginId;
use crate::permission::{Caller, Reach};
use crate::text::{Name, UserName};
use crate::topic::event_right;
use crate::topic::subscription::Subscription;

#[derive(Debug, Default)]
pub(super) struct Subscribers(BTreeMap<Name, Topic>);

#[derive(Debug, Default)]
struct Topic {
    of_user: BTreeMap<UserName, BTreeSet<LoginId>>,
    of_all: BTreeSet<LoginId>,
}

impl Subscribers {
    /// Adds a login's subscriptions; adding one twice changes nothing.
    pub(super) fn add(&mut self, caller: &Caller, subscriptions: &[Subscription]) {
        let login = caller.login;
        for subscription in subscriptions {
            let topic = self.0.entry(subscription.topic.clone()).or_default();
            match users(caller, subscription) {
                None => {
                    topic.of_all.insert(login);
                }
                Some(users) => {
                    for user in users {
                        topic.of_user.entry(user.clone()).or_default().insert(login);
                    }
                }
            }
        }
    }

    /// Removes a login's subscriptions. Those that overlap with others of the login must be added again.
    /// The caller must have the rights with which they were added.
    pub(super) fn remove(&mut self, caller: &Caller, subscriptions: &[Subscription]) {
        let login = caller.login;
        for subscription in subscriptions {
            let Some(topic) = self.0.get_mut(&subscription.topic) else { continue };
            match users(caller, subscription) {
                None => {
                    topic.of_all.remove(&login);
                }
                Some(users) => users.iter().for_each(|user| {
                    if let Some(logins) = topic.of_user.get_mut(user) {
                        logins.remove(&login);
                        if logins.is_empty() {
                            topic.of_user.remove(user);
                        }
                    }
                }),
            }
            if topic.of_all.is_empty() && topic.of_user.is_empty() {
                self.0.remove(&subscription.topic);
            }
        }
    }

    /// Returns to how many users' changes in how many topics somebody subscribed.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|topic| topic.of_user.len() + usize::from(!topic.of_all.is_empty())).sum()
    }

    /// Returns whether anybody subscribed to anything in a topic.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    /// Returns who subscribed to events about some of the users; about nobody in particular where none are named.
    pub(super) fn of(&self, topic: &str, users: Option<&[UserName]>) -> Vec<LoginId> {
        let Some(topic) = self.0.get(topic) else { return Vec::new() };
        let mut logins: Vec<LoginId> = topic.of_all.iter().copied().collect();
        match users {
            Some(users) => logins.extend(users.iter().filter_map(|user| topic.of_user.get(user)).flatten()),
            None => logins.extend(topic.of_user.values().flatten()),
        }
        logins.sort_unstable();
        logins.dedup();
        logins
    }
}

/// Returns the users whose changes a subscription is about. Who may see only their own is not looked at for everybody's: else each
/// event would cost something for each login.
fn users<'a>(caller: &'a Caller, subscription: &'a Subscription) -> Option<&'a [UserName]> {
    let is_own = || caller.reach(event_right(subscription.topic.as_str())) == Reach::Own;
    subscription.users.as_deref().or_else(|| is_own().then_some(std::slice::from_ref(&caller.user)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::tests::caller;
    use crate::permission::{Rights, Role};

    #[test]
    fn a_login_is_found_once_by_topic_and_user_until_it_is_removed() {
        let user = |name: &str| UserName::parse(name).unwrap();
        let subscription = |id, users: Option<&[&str]>| Subscription {
            id,
            topic: Name::parse("tel").unwrap(),
            users: users.map(|users| users.iter().map(|name| user(name)).collect()),
        };
        let caller = |login, name, role| Caller { login: LoginId(login), ..caller(name, Rights::of(role)) };
        let (root, eve) = (caller(1, "root", Role::Administrator), caller(2, "eve", Role::User));
        let mut subscribers = Subscribers::default();
        let both = [subscription(1, Some(&["ann", "bob"])), subscription(2, None)];
        subscribers.add(&root, &both);
        subscribers.add(&eve, &both);
        assert_eq!(subscribers.of("tel", Some(&[user("ann"), user("bob")])), [LoginId(1), LoginId(2)]);
        assert_eq!(subscribers.of("tel", Some(&[user("joe")])), [LoginId(1)]);
        assert_eq!(subscribers.of("tel", Some(&[user("eve")])), [LoginId(1), LoginId(2)]);
        assert_eq!(subscribers.of("tel", None), [LoginId(1), LoginId(2)]);
        assert_eq!(subscribers.of("te", None), []);
        subscribers.remove(&root, &both);
        assert_eq!(subscribers.of("tel", Some(&[user("ann")])), [LoginId(2)]);
        subscribers.remove(&eve, &both);
        assert!(subscribers.0.is_empty());
    }
}
