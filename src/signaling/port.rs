//! Media ports as calls see them, on the media threads.

use std::time::{Duration, Instant};

use media::dtmf::Digit;
use media::port::Kind;
use media::{BridgeId, Member, PortId, Settings};
use tracing::warn;

use crate::call::leg::{Port, Ports};
use crate::clock;
use crate::net::rtp::{Error, Media, OpenPort};

/// How often at most it is said that ports cannot be opened.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The handle of the media threads.
pub(super) struct MediaPorts {
    media: Media,
    /// When it was said last that ports cannot be opened, and how many could not be since.
    said: Option<(Instant, u64)>,
}

impl MediaPorts {
    pub(super) fn new(media: Media) -> Self {
        Self { media, said: None }
    }

    /// The machine or its settings are too small for the calls there are: who runs it is told, once for many.
    fn cannot(&mut self, error: &Error) -> String {
        let now = clock::now();
        match &mut self.said {
            Some((said, more)) if now.saturating_duration_since(*said) < SAY_EVERY => *more += 1,
            said => {
                let more = said.replace((now, 0)).map_or(0, |(_, more)| more);
                warn!(%error, more, "calls are refused: no media port can be opened");
            }
        }
        error.to_string()
    }
}

impl Ports for MediaPorts {
    fn open(&mut self, kind: Kind, streams: usize, beside: Option<PortId>) -> Result<Port, String> {
        let OpenPort { id, local } = self.media.open(kind, streams, beside).map_err(|error| self.cannot(&error))?;
        Ok(Port { id, local })
    }

    fn extend(&mut self, port: &mut Port, streams: usize) -> Result<(), String> {
        let mut open = OpenPort { id: port.id, local: std::mem::take(&mut port.local) };
        let extended = self.media.extend(&mut open, streams);
        port.local = open.local;
        extended.map_err(|error| self.cannot(&error))
    }

    fn set(&mut self, port: PortId, settings: Settings) {
        told(self.media.set(port, settings));
    }

    fn arrange(&mut self, bridge: BridgeId, members: &[Member]) {
        told(self.media.arrange(bridge, members));
    }

    fn press(&mut self, port: PortId, digit: Digit, duration: Duration) {
        told(self.media.press(port, digit, duration));
    }

    fn close(&mut self, port: PortId) {
        self.media.close(port);
    }
}

fn told(result: Result<(), Error>) {
    if let Err(error) = result {
        warn!(%error, "a media thread was not told");
    }
}
