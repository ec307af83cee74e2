//! tandem: the map of the system.

pub mod clock;
pub mod net;
pub mod storage;
