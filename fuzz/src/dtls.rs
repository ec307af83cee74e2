//! The DTLS entry of `media::port::webrtc`: datagrams of the peer's address, in either role, neither panic nor give keys nor make us
//! send without end (S1). An input is datagrams, each behind two octets of its length; the first octet of all chooses the role.

use std::{
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use media::port::{
    destination::{Loopback, Policy},
    webrtc::{Certificate, Event, Fingerprint, Handled, Hash, Remote, Role, WebRtc},
};

/// Datagrams of one run.
const MAX_DATAGRAMS: usize = 32;

/// Virtual time begins somewhere.
#[expect(clippy::disallowed_methods, reason = "there is no other way to make an Instant; its value does not matter")]
pub(crate) fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// One for all runs: making it costs more than a run.
pub(crate) fn certificate() -> &'static Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["tandem.test".to_owned()]).expect("a certificate");
        Certificate::new(made.cert.der().to_vec(), &made.signing_key.serialize_der()).expect("its key")
    })
}

/// Tries one series of datagrams.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Some((role, mut rest)) = data.split_first() else { return false };
    let policy = Policy { loopback: Loopback::Refused, own: Vec::new(), ports: std::sync::Arc::default(), listeners: Vec::new() };
    let from = SocketAddr::from(([192, 0, 2, 1], 5000));
    let role = if role % 2 == 0 { Role::Server } else { Role::Client };
    let fingerprints = vec![Fingerprint::of(b"a certificate that no input can prove", Hash::Sha256)];
    let mut port = WebRtc::new(certificate(), None);
    port.set_remote(start(), &Remote { ice: None, fingerprints, role, address: Some(from) }, &policy);
    let (mut now, mut sent, mut heard, mut steps) = (start(), 0, 0, 1);
    while let Some(((high, low), next)) = rest.split_first_chunk::<2>().map(|([high, low], next)| ((*high, *low), next)) {
        let length = usize::from(u16::from_be_bytes([high, low])).min(next.len());
        let (datagram, next) = next.split_at(length);
        rest = next;
        let handled = port.handle_packet(now, from, &mut datagram.to_vec(), length, &policy);
        heard += usize::from(handled == Handled::Consumed);
        steps += 1;
        now += Duration::from_millis(50);
        port.handle_timeout(now);
        while port.poll_transmit().is_some() {
            sent += 1;
        }
        if steps > MAX_DATAGRAMS {
            break;
        }
    }
    // A flight has at most 3 datagrams of 1,200 octets; what comes and the time that passes make one each at most.
    assert!(sent <= 6 * steps, "{sent} datagrams in {steps} steps");
    while let Some(event) = port.poll_event() {
        assert!(!matches!(event, Event::Connected(_)), "keys without the peer's certificate");
    }
    heard > 0 && sent > usize::from(role == Role::Client)
}

/// A ClientHello to the server role; unprotected records of other kinds to both.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let record = |kind: u8, epoch: u8, number: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).expect("a short record").to_be_bytes();
        let mut record = vec![kind, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, number, length[0], length[1]];
        record.extend_from_slice(body);
        record
    };
    let datagram = |parts: &[&[u8]]| {
        let whole = parts.concat();
        [&u16::try_from(whole.len()).expect("a short datagram").to_be_bytes()[..], &whole].concat()
    };
    let alert = record(21, 0, 1, &[2, 40]);
    let cipher_spec = record(20, 0, 2, &[1]);
    let protected = record(22, 1, 0, &[7; 40]);
    let fragment = record(22, 0, 3, &[&[1, 0, 0, 60, 0, 0, 0, 0, 10, 0, 0, 9][..], &[5; 9]].concat());
    [0, 1].into_iter().map(|role| [&[role][..], &datagram(&[&alert, &cipher_spec, &protected]), &datagram(&[&fragment])].concat()).collect()
}
