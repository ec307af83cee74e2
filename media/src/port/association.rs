//! Association: one transport with DTLS, with or without ICE (`webrtc.rs`), and the SRTP under the keys that it brings. The streams
//! of a browser share one; a DTLS-SRTP phone has one for RTP and, without rtcp-mux, one for RTCP. It knows no streams.

use std::{net::SocketAddr, time::Instant};

use super::{
    cipher::Cipher,
    destination::Policy,
    webrtc::{Certificate, Event, Handled, Refusal, Remote, WebRtc},
};
use crate::sdp::negotiate::{Handshake, Shared};

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A verified connectivity check: its source is the peer's, and the first so many octets of the buffer go back there.
    Checked(usize),
    /// A check that changed nothing, whose answer stands in the buffer.
    Rejected(usize),
    /// The transport's own.
    Consumed,
    /// RTP or RTCP, opened; so many octets.
    Media(usize),
    /// From an address that is not the peer's.
    Stranger,
    /// Not authentic, or nothing at all.
    Forged,
}

/// One transport with DTLS.
#[derive(Debug)]
pub(crate) struct Association {
    transport: WebRtc,
    cipher: Option<Cipher>,
    /// Our ICE user name fragment: when it changes, ICE begins anew.
    shared: Option<Shared>,
    failure: Option<String>,
}

impl Association {
    /// That of a leg with ICE.
    pub(crate) fn with_ice(now: Instant, certificate: &Certificate, shared: &Shared, policy: &Policy) -> Self {
        let mut transport = WebRtc::new(certificate, Some(shared.local.clone()));
        transport.set_remote(now, &remote_of(shared), policy);
        Self { transport, cipher: None, shared: Some(shared.clone()), failure: None }
    }

    /// A new offer and answer of such a leg.
    pub(crate) fn renew(&mut self, now: Instant, shared: &Shared, policy: &Policy) {
        if self.shared.as_ref() == Some(shared) {
            return;
        }
        if self.shared.as_ref().is_none_or(|before| before.local != shared.local) {
            self.transport.restart(shared.local.clone());
        }
        self.transport.set_remote(now, &remote_of(shared), policy);
        self.shared = Some(shared.clone());
        self.settle();
    }

    /// That of a phone whose address the SDP tells.
    pub(crate) fn at(now: Instant, certificate: &Certificate, handshake: &Handshake, address: SocketAddr, policy: &Policy) -> Self {
        let mut association = Self { transport: WebRtc::new(certificate, None), cipher: None, shared: None, failure: None };
        association.expect_at(now, handshake, address, policy);
        association
    }

    /// A new offer and answer of such a phone.
    pub(crate) fn expect_at(&mut self, now: Instant, handshake: &Handshake, address: SocketAddr, policy: &Policy) {
        let Handshake { fingerprints, role } = handshake.clone();
        self.transport.set_remote(now, &Remote { ice: None, fingerprints, role, address: Some(address) }, policy);
        self.settle();
    }

    /// Takes a datagram: the first `length` octets of a buffer.
    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, buffer: &mut [u8], length: usize, policy: &Policy) -> Heard {
        match self.transport.handle_packet(now, from, buffer, length, policy) {
            Handled::Media => {
                let opened = self.open(buffer, length);
                if opened.is_some() {
                    self.transport.heard(now, from);
                }
                opened.map_or(Heard::Forged, Heard::Media)
            }
            Handled::Checked(length) => {
                self.settle();
                Heard::Checked(length)
            }
            Handled::Rejected(length) => Heard::Rejected(length),
            Handled::Consumed => {
                self.settle();
                Heard::Consumed
            }
            // A peer behind a NAT, or on its way from one network to the next, sends media before its next check: what is authentic is
            // heard at once; nothing is sent there until it was checked.
            Handled::Refused(Refusal::Stranger) if matches!(buffer.first(), Some(128..=191)) => {
                self.open(buffer, length).map_or(Heard::Stranger, Heard::Media)
            }
            Handled::Refused(Refusal::Stranger | Refusal::Destination(_)) => Heard::Stranger,
            Handled::Refused(_) => Heard::Forged,
        }
    }

    fn open(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        self.cipher.as_mut().zip(buffer.get_mut(..length)).and_then(|(cipher, bytes)| cipher.open(bytes))
    }

    /// Takes what the transport tells.
    fn settle(&mut self) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                Event::Connected(keys) => self.cipher = Some(Cipher::new(&keys.send, &keys.receive)),
                Event::Failed(failure) => {
                    self.cipher = None;
                    self.failure = Some(failure.to_string());
                }
                Event::Closed => self.cipher = None,
                Event::Moved(_) | Event::Lost => {}
            }
        }
    }

    /// Protects a packet; none before there are keys.
    pub(crate) fn seal(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        self.cipher.as_mut()?.seal(buffer, length)
    }

    /// Where packets to the peer go.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        self.transport.destination()
    }

    /// A datagram of the handshake, written to the buffer, and where it goes.
    pub(crate) fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let (to, datagram) = self.transport.poll_transmit()?;
        buffer.get_mut(..datagram.len())?.copy_from_slice(&datagram);
        Some((to, datagram.len()))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout()
    }

    /// Time has passed. Early calls are harmless.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        self.settle();
    }

    /// Why it failed, if it did since the last time.
    pub(crate) fn failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// What media waits for, in plain words.
    pub(crate) fn awaits(&self) -> Option<&'static str> {
        self.transport.awaits()
    }
}

fn remote_of(shared: &Shared) -> Remote {
    let Handshake { fingerprints, role } = shared.handshake.clone();
    Remote { ice: Some(shared.remote.clone()), fingerprints, role, address: None }
}
