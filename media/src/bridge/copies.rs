//! Copies: packets that go to several receivers. The first has the octets in the buffer they came in, each further one a copy, which
//! waits here until the driver sends it. The buffers are used again.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{port::SocketId, rtp::srtp::MAX_OVERHEAD};

/// Copies that wait; further ones are lost, as on the network.
pub(super) const MAX_COPIES: usize = 4096;

/// Copies that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    waiting: VecDeque<Copy>,
    free: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Copy {
    socket: SocketId,
    to: SocketAddr,
    length: usize,
    bytes: Vec<u8>,
}

impl Copies {
    /// Makes a copy with room for protection; none when too many wait.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.waiting.len() >= MAX_COPIES {
            return None;
        }
        let mut copy = self.free.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        copy.resize(bytes.len() + MAX_OVERHEAD, 0);
        Some(copy)
    }

    /// Takes back one that goes nowhere.
    pub(crate) fn give_back(&mut self, bytes: Vec<u8>) {
        self.free.push(bytes);
    }

    /// Lets one wait to be sent.
    pub(crate) fn push(&mut self, socket: SocketId, to: SocketAddr, length: usize, bytes: Vec<u8>) {
        self.waiting.push_back(Copy { socket, to, length, bytes });
    }

    /// Writes the next one to the buffer. Returns its socket, where it goes, and its length.
    pub(crate) fn poll(&mut self, buffer: &mut [u8]) -> Option<(SocketId, SocketAddr, usize)> {
        while let Some(Copy { socket, to, length, bytes }) = self.waiting.pop_front() {
            let written = buffer.get_mut(..length).zip(bytes.get(..length)).map(|(buffer, bytes)| buffer.copy_from_slice(bytes));
            self.free.push(bytes);
            if written.is_some() {
                return Some((socket, to, length));
            }
        }
        None
    }
}
