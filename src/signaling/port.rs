//! Media ports as calls see them, on the media threads.

use media::{PortId, Settings};
use tracing::warn;

use crate::call::leg::{Port, Ports};
use crate::net::rtp::{Error, Media, OpenPort};

/// The handle of the media threads.
pub(super) struct MediaPorts(pub(super) Media);

impl Ports for MediaPorts {
    fn open(&mut self, streams: usize, beside: Option<PortId>) -> Result<Port, String> {
        let OpenPort { id, addresses } = self.0.open(streams, beside).map_err(|error| error.to_string())?;
        Ok(Port { id, addresses })
    }

    fn extend(&mut self, port: &mut Port, streams: usize) -> Result<(), String> {
        let mut open = OpenPort { id: port.id, addresses: std::mem::take(&mut port.addresses) };
        let extended = self.0.extend(&mut open, streams);
        port.addresses = open.addresses;
        extended.map_err(|error| error.to_string())
    }

    fn set(&mut self, port: PortId, settings: Settings) {
        told(self.0.set(port, settings));
    }

    fn bridge(&mut self, a: PortId, b: PortId) {
        told(self.0.bridge(a, b));
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
