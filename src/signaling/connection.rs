//! Who uses a stream connection: a registration, a session, a trunk. While somebody does, silence does not end it (`limits.idle`).
//!
//! Nobody counts users up and down: [`Net::keep`](crate::net::Net::keep) when a use begins, and after each long silence one look at
//! who is there. What has ended meanwhile, for whatever reason, has released the connection by that.

use super::Signaling;

impl Signaling {
    pub(super) fn handle_opened(&mut self, flow: sip::Flow) {
        self.locations.opened(flow);
        if self.is_trunk(&flow) {
            self.net.keep(&flow);
        }
    }

    pub(super) fn handle_silent(&mut self, flow: &sip::Flow) {
        let used = self.is_trunk(flow) || self.sip.uses(flow.transport, flow.remote) || self.locations.is_registered(flow, self.unix());
        if !used {
            self.net.release(flow);
        }
    }

    fn is_trunk(&self, flow: &sip::Flow) -> bool {
        let ip = flow.remote.ip();
        self.trunks.iter().any(|trunk| trunk.addresses.iter().any(|network| network.contains(&ip)))
    }
}
