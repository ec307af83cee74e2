//! `sip::registrar`: the stored form reads back what was written; what a REGISTER makes of the bindings is within the policy, can be
//! stored, and its response can be read.

use std::net::SocketAddr;

use bytes::Bytes;
use sip::message::parse::parse;
use sip::registrar::{Binding, Policy, decode, encode, register, targets};
use sip::{Flow, Message, Method, Transport, UnixTime};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// Tries the bytes of a store.
#[must_use]
pub fn stored(data: &[u8]) -> bool {
    let Some(bindings) = decode(data) else { return false };
    let written = encode(&bindings);
    assert_eq!(decode(&written).as_deref(), Some(&bindings[..]));
    let _ = targets(&bindings, NOW);
    true
}

/// Tries a REGISTER twice: on no bindings, and on what the first made.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Ok(Message::Request(mut request)) = parse(Bytes::copy_from_slice(data)) else { return false };
    request.method = Method::Register;
    let policy = Policy::default();
    let address = |last| SocketAddr::from(([192, 0, 2, last], 5060));
    let flow = Flow { transport: Transport::Udp, local: address(1), remote: address(2), connection: None };
    let mut bindings: Vec<Binding> = Vec::new();
    for _ in 0..2 {
        let response = match register(&request, &flow, &bindings, NOW, &policy) {
            Ok(registered) => {
                let response = registered.response(&request);
                bindings = registered.bindings;
                response
            }
            Err(rejection) => rejection.response(&request),
        };
        let printed = response.encode();
        assert!(printed.len() > sip::message::MAX_MESSAGE || parse(printed).is_ok(), "the response can be read");
        assert!(bindings.len() <= policy.max_contacts);
        assert!(bindings.iter().all(|binding| !binding.is_expired(NOW) && binding.granted <= policy.max_expires));
        assert_eq!(decode(&encode(&bindings)).as_deref(), Some(&bindings[..]));
    }
    !bindings.is_empty()
}

/// What the REGISTERs among the seeds make.
#[must_use]
pub fn stored_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "<sip:a@192.0.2.4;pn-provider=apns;pn-prid=x>;q=0.7;expires=600",
        "<sips:b@[2001:db8::1]:5061;transport=tls>;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\";reg-id=2",
        "<tel:+4930123>;q=0, <sip:%61@h.example>;expires=60",
    ];
    let register_of = |contacts: &str| {
        format!(
            "REGISTER sip:h SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nf: <sip:a@h>;tag=1\r\nt: <sip:a@h>\r\ni: c\r\n\
             CSeq: 1 REGISTER\r\nSupported: path, outbound\r\nPath: <sip:p.example;lr;ob>\r\nUser-Agent: x\r\nm: {contacts}\r\n\r\n"
        )
    };
    let flow = |v6: bool| {
        let ip: std::net::IpAddr = if v6 { std::net::Ipv6Addr::LOCALHOST.into() } else { std::net::Ipv4Addr::LOCALHOST.into() };
        let transport = if v6 { Transport::Wss } else { Transport::Udp };
        Flow { transport, local: (ip, 5060).into(), remote: (ip, 4711).into(), connection: None }
    };
    let stored = |(at, contacts): (usize, &&str)| {
        let Ok(Message::Request(request)) = parse(register_of(contacts).into()) else { return None };
        register(&request, &flow(at == 1), &[], NOW, &Policy::default()).ok().map(|registered| encode(&registered.bindings))
    };
    texts.iter().enumerate().filter_map(stored).collect()
}
