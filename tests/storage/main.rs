//! The storage on a disk: what it promises when the process is killed, the power goes, or the disk breaks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod break_off;
mod disk;
mod open;
mod workload;
