//! Events of the SIP endpoint, each to its owner.

use sip::Event;

use super::Signaling;

impl Signaling {
    pub(super) fn dispatch(&mut self, event: Event) {
        match event {
            Event::Request(incoming) => self.handle_request(*incoming),
            Event::Dialog(dialog, event) => {
                let (calls, mut switch) = self.calls();
                calls.handle_dialog(&mut switch, dialog, event);
            }
            Event::Refer(dialog, refer) => self.refer(dialog, &refer, dialog),
            Event::Forward(incoming) => self.forward_within(&incoming),
            Event::Elsewhere(within, incoming) => self.handle_elsewhere(within, *incoming),
            Event::Cancel(server) => self.forward_cancel(server),
            Event::Subscription(subscription, event) => self.handle_subscription(subscription, event),
            Event::Response(client, response) => self.forward_response(client, *response),
        }
    }
}
