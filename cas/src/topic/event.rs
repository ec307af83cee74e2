//! Topics `event` and `bulk`: how a client waits for events, and how it puts several requests in one message. The server serves both.

use serde_json::Value;

use super::declare::{bodies, words};

/// The operations of the topic `event`.
pub mod poll {
    use super::super::operation::operations;
    use super::{Events, GetEvent};

    operations! { "event";
        /// Waits for events after a number; answers at once if there are any, else with none when the wait is over.
        "get-event" GetEvent(GetEvent) -> Events, Own, Own;
    }
}

/// The operations of the topic `bulk`.
pub mod bulk {
    use super::super::operation::operations;
    use super::{Bulk, BulkReply};

    operations! { "bulk";
        /// Serves several requests in one message.
        "bulk" Bulk(Bulk) -> BulkReply, Own, Own;
    }
}

words! {
    /// How the replies of a bulk come.
    Replies {
        /// All in the reply to the bulk.
        Bulk = "bulk",
        /// Each as a message of its own in the event stream.
        Serial = "serial",
        /// By the groups that the request makes, each as a message in the event stream.
        Mixed = "mixed",
    }
}

bodies! {
    /// Request of `get-event`.
    GetEvent {
        /// The number of the last event that the client has; absent: the last one that was sent.
        after: Option<u64> = default,
        /// How long to wait, in seconds; default 30, at most 60.
        wait: Option<u32> = default,
    }
    /// Reply of `get-event`.
    Events {
        /// The events, in order.
        events: Vec<Value>,
    }
    /// Request of `bulk`.
    Bulk {
        /// The requests: whole messages, at most 100.
        requests: Vec<Value>,
        /// How the replies come; absent: all in one.
        replies: Option<Replies> = default,
        /// For `mixed`: the groups, by positions of their requests; each request is in one group.
        groups: Vec<Vec<usize>> = default,
    }
    /// Reply of `bulk`, and body of the event `bulk` for a group.
    BulkReply {
        /// Replies, as whole messages, in the order of the requests.
        replies: Vec<Value> = default,
        /// For `serial` and `mixed`: what the messages in the event stream are told apart by, in the order of requests or groups.
        pending: Vec<u64> = default,
    }
    /// Body of the event `snapshot`, which takes the place of events that are gone.
    Snapshot {
        /// Calls that the login may see.
        tel: Option<Value> = default,
        /// Presence of the users it subscribed to.
        presence: Option<Value> = default,
        /// Topics whose state the client must ask for.
        ask: Vec<String> = default,
    }
}
