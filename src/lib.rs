//! tandem: the map of the system.

pub mod call;
pub mod clock;
pub mod config;
pub mod net;
pub mod pii;
pub mod storage;
pub mod telemetry;
