//! SIP (RFC 3261) without I/O: messages, transactions, dialogs, registrar and proxy as state machines.
//!
//! This crate opens no socket, reads no clock and starts no task.
#![warn(missing_docs)]

pub mod digest;
pub mod locate;
pub mod message;
pub mod proxy;
pub mod registrar;
pub mod time;
pub mod transport;

pub use message::{Aor, Host, Message, Method, Request, Response, StatusCode, Uri};
pub use time::UnixTime;
pub use transport::{ConnectionId, Flow, Transport};
