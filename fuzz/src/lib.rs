//! Bodies of the fuzz targets; `tests/replay.rs` runs them over `corpus/` on stable.
