//! Sockets.

pub mod rtp;
