//! The server with a host around it: providers in memory, clients that send bytes, time as a variable.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod bulk;
mod encoding;
mod host;
mod journey;
mod matrix;
mod plugin;
mod random;
mod resume;
