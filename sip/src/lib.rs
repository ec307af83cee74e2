//! SIP (RFC 3261) without I/O: messages, transactions, dialogs, registrar and proxy as state machines.
//!
//! This crate opens no socket, reads no clock and starts no task.
#![warn(missing_docs)]

pub mod framing;
pub mod transport;
