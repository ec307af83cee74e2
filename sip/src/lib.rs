//! SIP (RFC 3261) without I/O: messages, transactions, dialogs, registrar and proxy as state machines.
//!
//! This crate opens no socket, reads no clock and starts no task.
#![warn(missing_docs)]

pub mod dialog;
pub mod digest;
pub mod endpoint;
pub mod framing;
pub mod locate;
pub mod message;
pub mod proxy;
pub mod random;
pub mod registrar;
pub mod time;
pub mod transaction;
pub mod transport;

pub use dialog::invite::{CommandError, DialogEvent, DialogId, Ender};
pub use dialog::subscription::{SubscriptionEvent, SubscriptionId, Termination};
pub use endpoint::{Endpoint, Event, Incoming, Named, OutgoingInvite, Refer, ReferId, Setup, Within};
pub use message::{Aor, Host, Message, Method, Request, Response, StatusCode, Uri};
pub use time::UnixTime;
pub use transaction::{ClientId, Send, ServerId};
pub use transport::{ConnectionId, Flow, Hop, Listeners, Transport};
