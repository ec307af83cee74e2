//! tandem: the map of the system.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod net;
pub mod pii;
pub mod telemetry;
