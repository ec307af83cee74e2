//! The client application server without I/O.
#![warn(missing_docs)]

pub mod error;
pub mod json;
pub mod message;
mod random;
pub mod text;
pub mod xml;

pub use random::Token;
