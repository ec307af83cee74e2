//! Cipher: SRTP and SRTCP of one pair of keys, both ways. It knows no addresses and where the keys are from.

use crate::rtp::{
    self,
    srtp::{Keys, Receiver, Sender},
};

/// Protects what goes out and opens what comes in.
pub(crate) struct Cipher {
    keys: [Keys; 2],
    send: Sender,
    receive: Receiver,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    pub(crate) fn new(send: &Keys, receive: &Keys) -> Self {
        Self { keys: [send.clone(), receive.clone()], send: Sender::new(send), receive: Receiver::new(receive) }
    }

    /// Takes the keys of a new offer and answer. A direction whose key stays goes on where it was: its indexes must not be used again.
    pub(crate) fn rekey(&mut self, send: &Keys, receive: &Keys) {
        if self.keys[0] != *send {
            self.send = Sender::new(send);
        }
        if self.keys[1] != *receive {
            self.receive = Receiver::new(receive);
        }
        self.keys = [send.clone(), receive.clone()];
    }

    /// Opens a packet; none when it is not authentic, or comes again. Returns its length.
    pub(crate) fn open(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let opened = if rtp::is_rtcp(bytes) { self.receive.unprotect_rtcp(bytes) } else { self.receive.unprotect_rtp(bytes) };
        opened.ok()
    }

    /// Protects the packet in the first octets of a buffer. Returns its length.
    pub(crate) fn seal(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        let is_rtcp = buffer.get(..length).is_some_and(rtp::is_rtcp);
        let sealed = if is_rtcp { self.send.protect_rtcp(buffer, length) } else { self.send.protect_rtp(buffer, length) };
        sealed.ok()
    }
}
