//! tandem: the map of the system.

pub mod app;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod location;
pub mod net;
pub mod pii;
pub mod request;
mod signaling;
pub mod storage;
pub mod telemetry;
pub mod user;
