//! What dialogs and transactions share: the transactions, the generator, the events; and what every message of ours says about us.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::Event;
use crate::message::{Headers, Name, Request, Response, StatusCode};
use crate::random::{Random, push_hexadecimal};
use crate::transaction::{ClientId, Failed, Order, Outgoing, Owner, ServerId, Transactions};
use crate::transport::{Hop, Listeners};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) transactions: Transactions,
    pub(crate) random: Random,
    pub(crate) events: VecDeque<Event>,
    pub(crate) session_interval: Duration,
    product: String,
}

/// The methods we take within calls; the host may take more outside.
pub const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, REGISTER, SUBSCRIBE, PUBLISH, REFER";
/// The bodies that are read in INVITE and UPDATE, and in their responses.
pub const ACCEPT: &str = "application/sdp, multipart/mixed, multipart/alternative";
/// The event packages that a host of ours serves (RFC 3856, 4235).
pub const ALLOW_EVENTS: &str = "presence, dialog";
/// The extensions that a UAS of ours understands (RFC 3262, 3891, 4028, 4488, 4538).
pub const SUPPORTED: [&str; 5] = ["100rel", "timer", "replaces", "norefersub", "tdialog"];
const SUPPORTED_TEXT: &str = "100rel, timer, replaces, norefersub, tdialog";
/// What we support where nobody here would send a PRACK.
pub(crate) const SUPPORTED_WITHOUT_100REL: &str = "timer, replaces, norefersub, tdialog";

impl Core {
    pub(super) fn new(listeners: Listeners, node: u8, seed: [u8; 32], session_interval: Duration, product: String) -> Self {
        let (transactions, random) = (Transactions::new(listeners, node), Random::new(seed));
        Self { transactions, random, events: VecDeque::new(), session_interval, product }
    }

    /// Returns the tag of a dialog of ours: its number, then what cannot be guessed.
    pub(crate) fn tag(&mut self, id: u64) -> ByteString {
        let mut tag = String::with_capacity(32);
        push_hexadecimal(&mut tag, id);
        push_hexadecimal(&mut tag, self.random.number());
        tag.into()
    }

    pub(crate) fn response(&self, request: &Request, status: StatusCode, tag: &str) -> Response {
        let mut response = Response::to(request, status);
        response.set_to_tag(tag);
        match status {
            StatusCode::METHOD_NOT_ALLOWED => response.headers.push(Name::Allow, ALLOW),
            StatusCode::NOT_ACCEPTABLE => response.headers.push(Name::Accept, "application/sdp"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                response.headers.push(Name::Accept, ACCEPT);
                if request.headers.has(Name::ContentEncoding) {
                    response.headers.push(Name::AcceptEncoding, "identity");
                }
            }
            _ => {}
        }
        response
    }

    pub(crate) fn reply(&mut self, now: Instant, server: ServerId, request: &Request, status: StatusCode, tag: &str) {
        let response = self.response(request, status, tag);
        self.transactions.respond(now, server, &response);
    }

    /// Sends a request of a dialog that is about to begin, or of the host. At [`Transactions::MAX_CLIENTS`] it fails with 503 at once.
    pub(crate) fn begin(&mut self, now: Instant, request: Request, hop: Hop, owner: Owner, loop_hash: Option<u64>) -> ClientId {
        if self.transactions.is_busy() {
            let client = ClientId(self.transactions.id());
            self.transactions.refuse(Failed { client, owner, status: StatusCode::SERVICE_UNAVAILABLE });
            return client;
        }
        self.transactions.request(now, Outgoing { request, hop, otherwise: None, owner, order: Order::First, loop_hash }, &mut self.random)
    }

    pub(crate) fn send_ack(&mut self, ack: Request, hop: Hop) -> Bytes {
        self.transactions.send_ack(ack, hop, &mut self.random)
    }

    /// Writes Contact, Allow, Supported and who we are, towards a peer.
    pub(crate) fn describe(&self, headers: &mut Headers, hop: &Hop) {
        headers.push(Name::Contact, self.transactions.names().contact(hop));
        headers.push(Name::Allow, ALLOW);
        headers.push(Name::Supported, SUPPORTED_TEXT);
        headers.push(Name::UserAgent, &self.product);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supported_header_has_every_extension_we_understand() {
        assert_eq!(SUPPORTED.join(", "), SUPPORTED_TEXT);
        assert_eq!(SUPPORTED_TEXT.replace("100rel, ", ""), SUPPORTED_WITHOUT_100REL);
    }
}
