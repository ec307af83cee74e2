//! tandem: the map of the system.
