//! Events of the SIP endpoint, each to its owner.

use sip::{Event, StatusCode};

use super::Signaling;

impl Signaling {
    pub(super) fn dispatch(&mut self, event: Event) {
        match event {
            Event::Request(incoming) => self.handle_request(*incoming),
            Event::Dialog(dialog, event) => {
                let (calls, mut switch) = self.calls();
                calls.handle_dialog(&mut switch, dialog, event);
            }
            Event::Forward(incoming) => {
                let response = self.sip.reply(&incoming.request, StatusCode::NO_TRANSACTION);
                self.sip.respond_statelessly(&incoming, &response);
            }
            Event::Cancel(_) | Event::Response(..) => {}
        }
    }
}
