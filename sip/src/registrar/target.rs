//! From the bindings of an AOR to the targets of a request (RFC 3261 §16.5, RFC 3327 §5.4, RFC 5626 §5.3).

use std::cmp::Reverse;

use bytestring::ByteString;

use super::{Binding, Q, Received};
use crate::message::Uri;
use crate::time::UnixTime;
use crate::transport::Transport;

/// How a request gets to a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By the first URI of the Route (RFC 3327).
    Route,
    /// Over the flow of the registration: the same connection, or for UDP the same pair of addresses. If the connection is gone, nothing
    /// else leads there (RFC 5626 §5.3: 430).
    Flow(Received),
    /// By the Request-URI (RFC 3263).
    Contact,
}

/// One target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The Request-URI: the contact without URI headers and `method` (§19.1.5).
    pub uri: Uri,
    /// The Route header's value from the binding's Path; empty for none.
    pub route: ByteString,
    /// Where to send it.
    pub reach: Reach,
    /// The preference.
    pub q: Q,
    /// Other flows to the same device, to be tried one after the other when this one fails (430, 408), never at once (RFC 5626 §5.3).
    pub spares: Vec<Target>,
}

impl Target {
    /// Makes a target of a URI that goes where the URI says.
    #[must_use]
    pub fn new(uri: Uri) -> Self {
        Self { uri, route: ByteString::new(), reach: Reach::Contact, q: Q::MAX, spares: Vec::new() }
    }

    /// Returns the transport by which the device came, or that its URI names.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match &self.reach {
            Reach::Flow(received) => Some(received.transport),
            Reach::Route | Reach::Contact => self.uri.transport(),
        }
    }

    fn of(binding: &Binding) -> Self {
        Self { uri: request_uri(&binding.contact), route: binding.path.clone(), reach: reach(binding), q: binding.q, spares: Vec::new() }
    }
}

/// Returns the targets of the bindings that have not expired, by q, then newest first.
#[must_use]
pub fn targets(bindings: &[Binding], now: UnixTime) -> Vec<Target> {
    let mut current: Vec<&Binding> = bindings.iter().filter(|binding| !binding.is_expired(now)).collect();
    current.sort_by_key(|binding| Reverse((binding.q, binding.refreshed_at())));
    let mut targets: Vec<(&Binding, Target)> = Vec::with_capacity(current.len());
    for binding in current {
        let is_same_device = |other: &Binding| {
            binding.reg_id.is_some() && other.reg_id.is_some() && !binding.instance.is_empty() && other.instance == binding.instance
        };
        match targets.iter_mut().find(|(other, _)| is_same_device(other)) {
            Some((_, target)) => target.spares.push(Target::of(binding)),
            None => targets.push((binding, Target::of(binding))),
        }
    }
    targets.into_iter().map(|(_, target)| target).collect()
}

/// Chooses between the flow and the contact. A client of a connection can be reached on it only; a UDP client is sent to where it said,
/// unless a NAT has made that meaningless (RFC 5626 §1, RFC 3581).
fn reach(binding: &Binding) -> Reach {
    if !binding.path.is_empty() {
        return Reach::Route;
    }
    let flow = Reach::Flow(binding.received);
    let named = binding.contact.transport();
    match binding.received.transport {
        _ if binding.reg_id.is_some() || binding.behind_nat => flow,
        // A client that wants its calls by UDP may register over TCP because the request was large (§18.1.1).
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss if named == Some(Transport::Udp) => Reach::Contact,
        Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => flow,
        Transport::Udp => Reach::Contact,
    }
}

/// Takes off the parts of a URI that may not stand in a Request-URI.
fn request_uri(contact: &Uri) -> Uri {
    if contact.headers().is_empty() && contact.param("method").is_none() {
        return contact.clone();
    }
    let text = contact.as_str();
    let params = contact.params();
    let headers = if contact.headers().is_empty() { 0 } else { contact.headers().len() + 1 };
    let without = text.get(..text.len().saturating_sub(headers + params.as_str().len())).unwrap_or(text);
    Uri::parse(&format!("{without}{}", params.without("method")).into()).unwrap_or_else(|| contact.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(&text.into()).unwrap()
    }

    fn binding(contact: &str, transport: Transport) -> Binding {
        Binding {
            contact: uri(contact),
            q: Q::MAX,
            expires_at: UnixTime(1000),
            granted: Duration::from_secs(600),
            call_id: "c".into(),
            cseq: 1,
            path: ByteString::new(),
            instance: ByteString::new(),
            reg_id: None,
            user_agent: ByteString::new(),
            received: Received { transport, local: "192.0.2.1:5060".parse().unwrap(), remote: "192.0.2.9:40000".parse().unwrap() },
            behind_nat: false,
        }
    }

    #[test]
    fn targets_are_ordered_by_preference_then_by_age_and_expired_ones_are_gone() {
        let mut list: Vec<_> = ["sip:old@h", "sip:gone@h", "sip:low@h", "sip:new@h"].map(|c| binding(c, Transport::Udp)).into();
        list[1].expires_at = UnixTime(500);
        list[2].q = Q::from_thousandths(300);
        list[2].expires_at = UnixTime(3000);
        list[3].expires_at = UnixTime(1100);
        let found: Vec<_> = targets(&list, UnixTime(500)).into_iter().map(|t| t.uri.to_string()).collect();
        assert_eq!(found, ["sip:new@h", "sip:old@h", "sip:low@h"]);
    }

    #[test]
    fn flows_of_one_device_are_one_target_with_spares() {
        let mut list: Vec<_> = ["sip:a@h", "sip:b@h", "sip:c@h"].map(|c| binding(c, Transport::Tls)).into();
        for (at, binding) in (0..).zip(&mut list) {
            binding.instance = "urn:x".into();
            binding.reg_id = (at < 2).then_some(at);
            binding.expires_at = UnixTime(1000 + u64::from(at));
        }
        let found = targets(&list, UnixTime(0));
        assert_eq!(found.iter().map(|t| t.uri.as_str()).collect::<Vec<_>>(), ["sip:c@h", "sip:b@h"]);
        assert_eq!(found[1].spares.iter().map(|t| t.uri.as_str()).collect::<Vec<_>>(), ["sip:a@h"]);
    }

    #[test]
    fn a_connection_is_used_again_and_udp_goes_to_the_contact() {
        let flow = |binding: &Binding| Reach::Flow(binding.received);
        let udp = binding("sip:a@192.0.2.9:5062", Transport::Udp);
        assert_eq!(reach(&udp), Reach::Contact);
        let nat = Binding { behind_nat: true, ..udp.clone() };
        assert_eq!(reach(&nat), flow(&nat));
        let outbound = Binding { reg_id: Some(1), ..udp.clone() };
        assert_eq!(reach(&outbound), flow(&outbound));
        let path = Binding { path: "<sip:p;lr>".into(), ..nat };
        assert_eq!(reach(&path), Reach::Route);
        for transport in [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss] {
            let open = binding("sip:a@x.invalid;transport=ws", transport);
            assert_eq!(reach(&open), flow(&open));
            assert_eq!(reach(&binding("sip:a@192.0.2.9;transport=udp", transport)), Reach::Contact);
        }
    }

    #[test]
    fn a_request_uri_has_no_headers_and_no_method() {
        for (contact, expected) in [
            ("sip:a@h;x=1", "sip:a@h;x=1"),
            ("sip:a@h;method=BYE;x=1?Route=%3Csip:evil%3E", "sip:a@h;x=1"),
            ("sip:a?b@h;method=BYE", "sip:a?b@h"),
            ("sip:a?b@h?X=1", "sip:a?b@h"),
        ] {
            assert_eq!(request_uri(&uri(contact)).as_str(), expected); // S7
        }
    }
}
