//! What an `Endpoint` does, seen from the wire: scripted peers, two endpoints over a bad network, every order of events, random hosts.
#![expect(clippy::wildcard_enum_match_arm, reason = "what a test does not expect, it panics at")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod calls;
mod dialogs;
mod net;
mod races;
mod random_hosts;
mod refer;
mod replaces;
mod requests;
mod subscriptions;
mod transactions;
mod within;
