//! The client application server (CAS) without I/O: one interface by which applications log in, make and steer calls, read histories,
//! watch presence and hear events; and by which other processes offer topics of their own.
//!
//! # The life of a request
//!
//! The host reads bytes from HTTP or a WebSocket and gives them to [`server::Server`] as [`server::Input::Request`].
//! [`message::Encoding`] makes a value of them ([`json`], [`xml`]) and [`message::Message`] reads its headers. The server finds
//! the [`login`], the [`topic::Operation`], and lets [`permission::decide`] say whether the caller may do such things at all.
//! Then the server answers itself, forwards to a [`plugin`], or asks the host to run [`topic::serve`] ([`server::Output::Serve`]):
//! that looks at the object, decides again with its owner, and calls a trait of [`provider`], which the host implements.
//! What comes of it is the reply, or a [`pending`] reply and later an [`event`]. A [`bulk`] is several of these at once.
//!
//! # The life of an event
//!
//! The host tells what happened ([`server::Input::Happened`]). Who subscribed and may know gets it in their own order, with the
//! actions that they may take now; it is written once for all who see the same. Streams and waiting requests carry it away.
//!
//! # The documents
//!
//! [`document::openapi`] describes all of it, from the types.
//!
//! # To add a topic
//!
//! A file in `topic/` whose `operations!` table makes its requests, rights and schemas, and a line in [`topic::OPERATIONS`]; if it
//! needs the switch, a trait in [`provider`].
#![warn(missing_docs)]

pub mod bulk;
pub mod document;
pub mod error;
pub mod event;
pub mod json;
pub mod login;
pub mod message;
pub mod pending;
pub mod permission;
pub mod plugin;
pub mod provider;
mod random;
pub mod server;
pub mod text;
pub mod topic;
pub mod xml;

pub use random::Token;
