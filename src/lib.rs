//! tandem: the map of the system.

pub mod call;
pub mod clock;
pub mod config;
pub mod location;
pub mod net;
pub mod pii;
pub mod request;
pub mod storage;
pub mod telemetry;
pub mod user;
