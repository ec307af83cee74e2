//! Bridge: who hears and sees whom. Each party of a bridge holds its own view: the other party, and what becomes of each payload
//! type of its own streams there (`route.rs`). What a stream is towards its receiver, whoever feeds it, is in `outgoing.rs`; the
//! RTCP that we make ourselves in `reports.rs`. For now a bridge has two parties.

mod outgoing;
mod reports;
mod route;

pub(crate) use self::{
    outgoing::{Fed, Outgoing},
    reports::{Random, Reports, key_frame_request},
    route::{Class, Hop, Plan, Route},
};
use crate::{
    port::{Port, rtp::RtpStream},
    sdp::negotiate::MAX_STREAMS,
};

/// One party's view.
#[derive(Debug)]
pub(crate) struct Bridge {
    /// Slot of the other party's port.
    pub(crate) other: usize,
    /// The way of each of our streams to the other party.
    pub(crate) routes: [Option<Box<Route>>; MAX_STREAMS],
}

impl Bridge {
    /// Connects the streams of two ports whose m-lines have the same position and media.
    pub(crate) fn between(port: &Port, other: usize, other_port: &Port) -> Self {
        let mut routes = [const { None }; MAX_STREAMS];
        for (entry, stream) in routes.iter_mut().zip(&port.streams) {
            let Some(agreed) = stream.agreed() else { continue };
            let matches = |other: &RtpStream| other.agreed().is_some_and(|other| other.line == agreed.line && other.kind == agreed.kind);
            let Some(index) = other_port.streams.iter().position(matches) else { continue };
            *entry = other_port.streams.get(index).and_then(RtpStream::agreed).map(|other| Box::new(Route::between(agreed, index, other)));
        }
        Self { other, routes }
    }

    pub(crate) fn route(&self, stream: usize) -> Option<&Route> {
        self.routes.get(stream)?.as_deref()
    }
}
