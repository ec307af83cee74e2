//! Media ports as calls see them, on the media threads.

use std::time::Duration;

use media::dtmf::Digit;
use media::port::Kind;
use media::{BridgeId, Member, PortId, Settings};
use tracing::warn;

use crate::call::leg::{Port, Ports};
use crate::net::rtp::{Error, Media, OpenPort};

/// The handle of the media threads.
pub(super) struct MediaPorts(pub(super) Media);

impl Ports for MediaPorts {
    fn open(&mut self, kind: Kind, streams: usize, beside: Option<PortId>) -> Result<Port, String> {
        let OpenPort { id, local } = self.0.open(kind, streams, beside).map_err(|error| error.to_string())?;
        Ok(Port { id, local })
    }

    fn extend(&mut self, port: &mut Port, streams: usize) -> Result<(), String> {
        let mut open = OpenPort { id: port.id, local: std::mem::take(&mut port.local) };
        let extended = self.0.extend(&mut open, streams);
        port.local = open.local;
        extended.map_err(|error| error.to_string())
    }

    fn bring(&mut self, port: &mut Port, beside: PortId) -> Result<(), String> {
        let mut open = OpenPort { id: port.id, local: std::mem::take(&mut port.local) };
        let brought = self.0.bring(&mut open, beside);
        (port.id, port.local) = (open.id, open.local);
        brought.map_err(|error| error.to_string())
    }

    fn set(&mut self, port: PortId, settings: Settings) {
        told(self.0.set(port, settings));
    }

    fn arrange(&mut self, bridge: BridgeId, members: &[Member]) {
        told(self.0.arrange(bridge, members));
    }

    fn press(&mut self, port: PortId, digit: Digit, duration: Duration) {
        told(self.0.press(port, digit, duration));
    }

    fn close(&mut self, port: PortId) {
        self.0.close(port);
    }
}

fn told(result: Result<(), Error>) {
    if let Err(error) = result {
        warn!(%error, "a media thread was not told");
    }
}
