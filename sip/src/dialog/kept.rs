//! The stored form of a subscription (RFC 6665 §4.2): the dialog, the event and the end, which is what a notifier has to know to go on
//! after a restart. Versioned, compact, read without a panic whatever the bytes are.

use std::time::Duration;

use bytestring::ByteString;

use super::{Dialog, Party, routes, towards};
use crate::message::header::Header as _;
use crate::message::{Headers, Name, NameAddr, Uri};
use crate::stored::{Reader, TRANSPORT, number_of, push_address, push_text, push_varint, transport_of};
use crate::time::UnixTime;
use crate::transport::{Flow, Hop};

const VERSION: u8 = 1;

const LOCAL_V6: u8 = 0b0000_1000;
const REMOTE_V6: u8 = 0b0001_0000;

/// What was stored. Its dialog's hop is the flow that its last SUBSCRIBE came by, without a connection.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) dialog: Dialog,
    pub(super) flow: Flow,
    pub(super) event: ByteString,
    pub(super) expires_at: UnixTime,
    pub(super) granted: Duration,
}

/// Writes a subscription whose last SUBSCRIBE came by this flow.
pub(super) fn encode(dialog: &Dialog, flow: &Flow, event: &str, expires_at: UnixTime, granted: Duration) -> Vec<u8> {
    let routes = dialog.routes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let texts = [&*dialog.call_id, &*dialog.local.address, &*dialog.remote.address, dialog.target.as_str(), &*routes, event];
    let mut out = Vec::with_capacity(64 + texts.iter().map(|text| text.len()).sum::<usize>());
    out.push(VERSION);
    let families = [(flow.local.is_ipv6(), LOCAL_V6), (flow.remote.is_ipv6(), REMOTE_V6)];
    out.push(families.into_iter().fold(number_of(flow.transport), |flags, (is_v6, flag)| if is_v6 { flags | flag } else { flags }));
    push_address(&mut out, flow.local);
    push_address(&mut out, flow.remote);
    push_varint(&mut out, expires_at.0);
    push_varint(&mut out, granted.as_secs());
    push_varint(&mut out, dialog.local_seq.into());
    push_varint(&mut out, dialog.remote_seq.unwrap_or(0).into());
    for text in texts {
        push_text(&mut out, text);
    }
    out
}

/// Reads what [`encode`] wrote; none for other bytes, those of a later version among them.
pub(super) fn decode(bytes: &[u8]) -> Option<Kept> {
    let mut reader = Reader::new(bytes);
    if reader.byte()? != VERSION {
        return None;
    }
    let flags = reader.byte()?;
    if flags >= REMOTE_V6 << 1 {
        return None;
    }
    let transport = transport_of(flags & TRANSPORT)?;
    let (local, remote) = (reader.address(flags & LOCAL_V6 != 0)?, reader.address(flags & REMOTE_V6 != 0)?);
    let flow = Flow { transport, local, remote, connection: None };
    let (expires_at, granted) = (UnixTime(reader.varint()?), Duration::from_secs(reader.varint()?));
    let (local_seq, remote_seq) = (reader.number()?, reader.number()?);
    let (call_id, local, remote) = (reader.text()?, reader.text()?, reader.text()?);
    let (target, routed, event) = (Uri::parse(&reader.text()?)?, reader.text()?, reader.text()?);
    let mut headers = Headers::default();
    if !routed.is_empty() {
        headers.push(Name::RecordRoute, &*routed);
    }
    let dialog = Dialog {
        call_id,
        local: party(&local)?,
        remote: party(&remote)?,
        local_seq,
        // The answer to that SUBSCRIBE may have been lost with the process: its repetition is one more refresh.
        remote_seq: remote_seq.checked_sub(1),
        routes: routes(&headers).ok()?,
        target,
        hop: Hop::Flow(flow),
        host: flow.remote.ip(),
    };
    reader.is_empty().then_some(Kept { dialog, flow, event, expires_at, granted })
}

fn party(address: &ByteString) -> Option<Party> {
    NameAddr::parse(address).map(|_| Party::from_text(address.to_string()))
}

impl Kept {
    /// Returns the way that is left to the watcher. A datagram finds it as before. The connection is gone; its host is tried at the route or
    /// Contact that the dialog names (§18.1.1 of RFC 3261), and no other host because a peer names it. None where nobody listens there.
    pub(super) fn way(&self) -> Option<Hop> {
        let Flow { transport, remote, .. } = self.flow;
        if !transport.is_reliable() {
            return Some(Hop::Flow(self.flow));
        }
        let named = towards(&self.dialog.routes, &self.dialog.target, Hop::Address { transport, remote, name: None });
        let is_tried = !transport.is_websocket() && named.transport().is_reliable() && !named.transport().is_websocket();
        (is_tried && named.remote().ip() == remote.ip() && (named.transport().is_secure() || !transport.is_secure())).then_some(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Transport;

    fn flow(transport: Transport, remote: &str) -> Flow {
        let local = if remote.starts_with('[') { "[2001:db8::1]:5060" } else { "192.0.2.1:5060" };
        Flow { transport, local: local.parse().unwrap(), remote: remote.parse().unwrap(), connection: None }
    }

    fn dialog(contact: &str, record_route: &str, flow: Flow) -> Dialog {
        let party = |text: &str| Party::from_text(text.to_owned());
        let mut headers = Headers::default();
        if !record_route.is_empty() {
            headers.push(Name::RecordRoute, record_route);
        }
        Dialog {
            call_id: "c@h".into(),
            local: party("<sip:ann@h>;tag=ours"),
            remote: party("\"B\" <sip:bob@h>;tag=theirs"),
            local_seq: 7,
            remote_seq: Some(2),
            routes: routes(&headers).unwrap(),
            target: Uri::parse(&contact.into()).unwrap(),
            hop: Hop::Flow(flow),
            host: flow.remote.ip(),
        }
    }

    fn stored(contact: &str, record_route: &str, flow: Flow) -> Vec<u8> {
        encode(&dialog(contact, record_route, flow), &flow, "dialog;id=3", UnixTime(1_785_000_000), Duration::from_secs(600))
    }

    #[test]
    fn what_is_written_reads_back_and_the_last_number_may_come_again() {
        for (record_route, flow) in [
            ("", flow(Transport::Udp, "192.0.2.17:5060")),
            ("<sip:p1.example.com;lr>, <sip:p2.example.com;lr;ob>", flow(Transport::Wss, "[2001:db8::2]:65535")),
        ] {
            let kept = decode(&stored("sip:bob@192.0.2.17", record_route, flow)).unwrap();
            let wanted = Dialog { remote_seq: Some(1), ..dialog("sip:bob@192.0.2.17", record_route, flow) };
            assert_eq!(format!("{:?}", kept.dialog), format!("{wanted:?}"));
            assert_eq!((kept.flow, &*kept.event, kept.expires_at), (flow, "dialog;id=3", UnixTime(1_785_000_000)));
            assert_eq!(kept.granted, Duration::from_secs(600));
        }
    }

    #[test]
    fn a_typical_subscription_takes_less_than_200_bytes() {
        let length = stored("sip:bob-0x55d3a1e2@192.0.2.17:5060", "", flow(Transport::Udp, "192.0.2.17:5060")).len();
        assert!(length < 150, "{length}");
    }

    #[test]
    fn no_bytes_panic() {
        let whole = stored("sip:bob@192.0.2.17", "<sip:p1.example.com;lr>", flow(Transport::Tcp, "192.0.2.17:40000"));
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_none(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                let _read = decode(&changed);
            }
        }
        assert!(decode(&[whole, vec![0]].concat()).is_none(), "something behind it");
    }

    #[test]
    fn a_connection_that_is_gone_leaves_its_own_host_and_no_other() {
        let way = |contact: &str, record_route: &str, transport, remote: &str| {
            decode(&stored(contact, record_route, flow(transport, remote)))
                .unwrap()
                .way()
                .map(|hop| (hop.transport(), hop.remote().to_string()))
        };
        let found = |transport, address: &str| Some((transport, address.to_owned()));
        let phone = "192.0.2.17:40000";
        assert_eq!(way("sip:b@192.0.2.99", "", Transport::Udp, phone), found(Transport::Udp, phone), "datagrams follow the flow");
        assert_eq!(way("sip:b@192.0.2.17;transport=tcp", "", Transport::Tcp, phone), found(Transport::Tcp, "192.0.2.17:5060"));
        assert_eq!(way("sip:b@192.0.2.17:40000;transport=tcp", "", Transport::Tcp, phone), found(Transport::Tcp, phone));
        assert_eq!(way("sips:b@192.0.2.17", "", Transport::Tls, phone), found(Transport::Tls, "192.0.2.17:5061"));
        assert_eq!(way("sip:b@192.0.2.99;transport=tcp", "", Transport::Tcp, phone), None, "another host");
        assert_eq!(way("sip:b@10.0.0.1;transport=tcp", "<sip:192.0.2.17:5070;transport=tcp;lr>", Transport::Tcp, phone), {
            found(Transport::Tcp, "192.0.2.17:5070")
        });
        assert_eq!(way("sip:b@192.0.2.17", "<sip:192.0.2.99;transport=tcp;lr>", Transport::Tcp, phone), None, "a route to another host");
        assert_eq!(way("sip:b@192.0.2.17;transport=tcp", "", Transport::Tls, phone), None, "what was encrypted stays so");
        for transport in [Transport::Ws, Transport::Wss] {
            assert_eq!(way("sip:b@192.0.2.17;transport=ws", "", transport, phone), None, "a browser listens nowhere");
        }
    }
}
