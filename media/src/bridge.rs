//! Bridge: who hears and sees whom. Each party of a bridge holds its own view: the other party, and which of its own streams
//! go to which of the other's. For now a bridge has two parties and relays packets as they are.

use crate::{
    port::{Port, rtp::RtpStream},
    sdp::negotiate::MAX_STREAMS,
};

/// One party's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Slot of the other party's port.
    pub(crate) other: usize,
    /// The other party's stream for each of ours.
    pub(crate) streams: [Option<u8>; MAX_STREAMS],
}

impl Bridge {
    /// Connects the streams of two ports whose m-lines have the same position and media.
    pub(crate) fn between(port: &Port, other: usize, other_port: &Port) -> Self {
        let mut streams = [None; MAX_STREAMS];
        for (entry, stream) in streams.iter_mut().zip(&port.streams) {
            let matches = |other: &RtpStream| match (stream.agreed(), other.agreed()) {
                (Some(a), Some(b)) => a.line == b.line && a.kind == b.kind,
                (Some(_) | None, _) => false,
            };
            *entry = other_port.streams.iter().position(matches).and_then(|index| u8::try_from(index).ok());
        }
        Self { other, streams }
    }
}
