//! `media::port::webrtc::stun` and the ICE-lite agent: no message that was not made with the password changes anything, and no error
//! is answered with more than was asked (S4).

use std::{net::SocketAddr, sync::OnceLock};

use media::port::{
    destination::{Loopback, Policy},
    webrtc::{Credentials, Demultiplexer, Handled, WebRtc, stun},
};

use crate::dtls::{certificate, start};

/// Tries one datagram.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    let policy = POLICY.get_or_init(|| Policy {
        loopback: Loopback::Refused,
        own: Vec::new(),
        ports: std::sync::Arc::default(),
        listeners: Vec::new(),
    });
    let from = SocketAddr::from(([192, 0, 2, 1], 5000));
    let _ = Demultiplexer::new(0).find(from, data);
    let mut port = WebRtc::new(certificate(), Some(Credentials::generate(0, &mut |octets| octets.fill(1))));
    let mut buffer = data.to_vec();
    buffer.resize(data.len() + stun::MAX_RESPONSE, 0);
    let handled = port.handle_packet(start(), from, &mut buffer, data.len(), policy);
    match handled {
        Handled::Checked(length) => assert!(length <= buffer.len()),
        Handled::Rejected(length) => {
            let answer = buffer.get(..length).expect("within the buffer");
            let answer = stun::Message::parse(answer).expect("what is written can be read");
            assert!(answer.class == stun::Class::Error && (answer.has_integrity() || length <= data.len()));
        }
        Handled::Consumed | Handled::Media | Handled::Refused(_) => {}
    }
    assert_eq!(port.destination().is_some(), matches!(handled, Handled::Checked(_)));
    let Ok(message) = stun::Message::parse(data) else { return false };
    assert!(!message.verify(b"a password that no input can know"));
    assert!(message.class != stun::Class::Request || stun::username(data).is_some() || message.username.is_none());
    true
}

/// A check that the port verifies, and one that it does not.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let credentials = Credentials::generate(0, &mut |octets| octets.fill(1));
    let write = |password: &str| {
        let mut buffer = [0; 200];
        let username = format!("{}:peer", credentials.ufrag());
        let writer = stun::Writer::new(&mut buffer, stun::Class::Request, &[7; 12]).username(username.as_bytes()).priority(9);
        let writer = writer.control(stun::Control::Controlling, 5).use_candidate().integrity(password.as_bytes());
        writer.finish().and_then(|length| buffer.get(..length)).map(<[u8]>::to_vec)
    };
    [write(credentials.password()), write("wrong")].into_iter().flatten().collect()
}
