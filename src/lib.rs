//! tandem: the map of the system.

pub mod storage;
