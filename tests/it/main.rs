//! The whole switch, in this process, with real sockets on loopback and scripted phones that speak in plain text.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connection;
mod harness;
mod hostile;
mod http;
mod presence;
mod thin;
mod torture;
mod web;
