//! Topic `plugin`: how another process offers topics of its own. The server serves it itself; see [`crate::plugin`].

use serde_json::Value;

use super::declare::{bodies, words};
use super::login::Nothing;
use super::operation::operations;
use crate::text::{Name, UserName};

operations! { "plugin";
    /// Registers topics for the connection that asks; it gets their requests from then on.
    "register" Register(Register) -> Registered, Own, None;
    /// Gives topics back.
    "unregister" Unregister(Unregister) -> Registered, Own, None;
    /// Publishes an event of a topic that the connection has registered.
    "publish" Publish(Publish) -> Nothing, Own, None;
    /// Lists the plug-ins.
    "list" List(Nothing) -> Plugins, Own, None;
}

words! {
    /// What a plug-in speaks.
    Dialect {
        /// CAS messages.
        Cas = "cas",
        /// JSON-RPC 2.0; the server translates.
        JsonRpc = "json-rpc",
    }
}

bodies! {
    /// Request of `register`.
    Register {
        /// The topics; all or none is registered.
        topics: Vec<Name>,
        /// The version of this interface that the plug-in was written for: 1.
        version: u32,
        /// What it speaks; absent: CAS messages.
        dialect: Option<Dialect> = default,
    }
    /// Request of `unregister`.
    Unregister {
        /// The topics; absent: all.
        topics: Vec<Name> = default,
    }
    /// Reply of `register` and `unregister`.
    Registered {
        /// The topics that the connection has now.
        topics: Vec<Name>,
        /// The version of this interface.
        version: u32,
        /// How long the plug-in may take for a reply, in milliseconds.
        time_limit: u64,
        /// How many requests it gets at once at most.
        most_requests: u32,
        /// How many events a second it may publish.
        events_per_second: u32,
    }
    /// Request of `publish`.
    Publish {
        /// The topic.
        topic: Name,
        /// The event's message.
        message: Name,
        /// Whose business it is; absent: everybody's who subscribed.
        users: Option<Vec<UserName>> = default,
        /// The event's body, passed on as it is.
        body: Value = default,
    }
    /// Reply of `list`.
    Plugins {
        /// The plug-ins.
        plugins: Vec<Plugin>,
    }
    /// A plug-in.
    Plugin {
        /// Its login.
        login: u64,
        /// As whom it signed in.
        user: UserName,
        /// Its topics.
        topics: Vec<Name>,
        /// Requests that wait for it.
        waiting: u32,
        /// Requests that it did not answer in time.
        timeouts: u64,
        /// Events that were refused because they came too fast.
        refused_events: u64,
    }
}
