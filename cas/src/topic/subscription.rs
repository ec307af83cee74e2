//! Topic `subscription`: which changes a login is told of. The server keeps subscriptions itself, with the login; every reply has the
//! whole list (004-34).

use super::declare::bodies;
use super::operation::operations;
use crate::text::{Name, UserName};

/// Most subscriptions of a login. A further one is refused.
pub const MAX_SUBSCRIPTIONS: usize = 64;

/// Most users of one subscription. More are refused.
pub const MAX_USERS: usize = 500;

operations! { "subscription";
    /// Adds a subscription.
    "add" Add(Add) -> Subscriptions, Own, Own;
    /// Changes the users of a subscription.
    "modify" Modify(Modify) -> Subscriptions, Own, Own;
    /// Deletes a subscription.
    "delete" Delete(Delete) -> Subscriptions, Own, Own;
    /// Lists the login's subscriptions.
    "list" List(List) -> Subscriptions, Own, Own;
}

bodies! {
    /// Request of `add`.
    Add {
        /// The topic: one of the switch, or one of a plug-in.
        topic: Name,
        /// Whose changes; absent: everybody's whom the caller may see.
        users: Option<Vec<UserName>> = default,
    }
    /// Request of `modify`.
    Modify {
        /// The subscription.
        id: u32,
        /// Whose changes; absent: everybody's whom the caller may see.
        users: Option<Vec<UserName>> = default,
    }
    /// Request of `delete`.
    Delete {
        /// The subscription.
        id: u32,
    }
    /// Request of `list`.
    List {
    }
    /// Every reply of this topic.
    Subscriptions {
        /// The subscription that was added or changed.
        id: Option<u32> = default,
        /// All of the login.
        subscriptions: Vec<Subscription>,
    }
    /// A subscription.
    Subscription {
        /// Its number in the login.
        id: u32,
        /// The topic.
        topic: Name,
        /// Whose changes; absent: everybody's whom the caller may see.
        users: Option<Vec<UserName>> = default,
    }
}
