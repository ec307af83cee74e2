//! Whose a packet is, where all WebRTC legs share one UDP port: a connectivity check belongs to the ufrag in its USERNAME, everything
//! else to its source address, which only verified checks teach. A stranger finds nothing, and finding nothing costs one look-up.
//! Each media thread owns one; a packet for another thread is handed over. It verifies nothing itself.

use std::{collections::HashMap, net::SocketAddr, time::Instant};

use super::{
    ice::{CONSENT_TIMEOUT, MAX_ADDRESSES, UFRAG, split, thread_of},
    stun,
};
use crate::{port::PortId, rtp::is_rtcp};

/// Ufrags of a port: that in use and that of an ICE restart. A third takes the place of the oldest.
pub const MAX_UFRAGS: usize = 2;
/// Addresses in a table, of all ports together. At the bound new ones are not learnt until old ones are forgotten.
pub const MAX_LEARNT: usize = 1 << 20;

/// Media sources of a port that are remembered; a further one takes the place of the oldest.
pub const MAX_SOURCES: usize = 8;

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This port; its thread may be another one.
    Port(PortId),
    /// A port of this thread, which alone knows which.
    Thread(u16),
}

#[derive(Clone, Copy, Debug)]
struct Learnt {
    port: PortId,
    checked: Instant,
}

/// What leads to a port.
#[derive(Clone, Debug, Default)]
pub struct Leads {
    ufrags: Vec<[u8; UFRAG]>,
    addresses: Vec<SocketAddr>,
    sources: Vec<u32>,
}

/// The table.
#[derive(Debug)]
pub struct Demultiplexer {
    thread: u16,
    ufrags: HashMap<[u8; UFRAG], PortId>,
    addresses: HashMap<SocketAddr, Learnt>,
    /// Whose media source an SSRC is.
    sources: HashMap<u32, PortId>,
    ports: HashMap<PortId, Leads>,
}

impl Demultiplexer {
    /// The empty table of a media thread.
    #[must_use]
    pub fn new(thread: u16) -> Self {
        Self { thread, ufrags: HashMap::new(), addresses: HashMap::new(), sources: HashMap::new(), ports: HashMap::new() }
    }

    /// Lets checks with this ufrag of ours find a port. False if it is not one that
    /// [`Credentials::generate`](super::Credentials::generate) made, or another port has it: then generate again.
    #[must_use]
    pub fn add(&mut self, port: PortId, ufrag: &str) -> bool {
        let Ok(ufrag) = <[u8; UFRAG]>::try_from(ufrag.as_bytes()) else { return false };
        if self.ufrags.get(&ufrag).is_some_and(|owner| *owner != port) {
            return false;
        }
        let known = self.ports.entry(port).or_default();
        if !known.ufrags.contains(&ufrag) {
            if known.ufrags.len() >= MAX_UFRAGS {
                self.ufrags.remove(&known.ufrags.remove(0));
            }
            known.ufrags.push(ufrag);
        }
        self.ufrags.insert(ufrag, port);
        true
    }

    /// Forgets a port and all that leads to it.
    pub fn remove(&mut self, port: PortId) {
        let Some(known) = self.ports.remove(&port) else { return };
        for ufrag in known.ufrags {
            self.ufrags.remove(&ufrag);
        }
        for source in known.sources {
            if self.sources.get(&source) == Some(&port) {
                self.sources.remove(&source);
            }
        }
        for address in known.addresses {
            if self.addresses.get(&address).is_some_and(|learnt| learnt.port == port) {
                self.addresses.remove(&address);
            }
        }
    }

    /// A port has another name and lives on another thread: what leads to it leads there. Returns that, for the table of its new thread.
    pub fn rename(&mut self, port: PortId, to: PortId) -> Leads {
        let Some(known) = self.ports.remove(&port) else { return Leads::default() };
        for ufrag in &known.ufrags {
            self.ufrags.insert(*ufrag, to);
        }
        for source in &known.sources {
            self.sources.entry(*source).and_modify(|owner| *owner = if *owner == port { to } else { *owner });
        }
        for address in &known.addresses {
            self.addresses.entry(*address).and_modify(|learnt| learnt.port = if learnt.port == port { to } else { learnt.port });
        }
        self.ports.insert(to, known.clone());
        known
    }

    /// A port comes from another thread with what leads to it.
    pub fn adopt(&mut self, now: Instant, port: PortId, leads: &Leads) {
        for ufrag in leads.ufrags.iter().filter_map(|ufrag| std::str::from_utf8(ufrag).ok()) {
            let _taken = self.add(port, ufrag);
        }
        for source in &leads.sources {
            self.add_source(port, *source);
        }
        for address in &leads.addresses {
            let _taken = self.learn(now, port, *address);
        }
    }

    /// Whose a packet is. None: nobody's.
    #[must_use]
    pub fn find(&self, from: SocketAddr, bytes: &[u8]) -> Option<Owner> {
        if stun::is_stun(bytes)
            && let Some(username) = stun::username(bytes)
        {
            let (ours, _) = split(username)?;
            let known = <&[u8; UFRAG]>::try_from(ours).ok().and_then(|ufrag| self.ufrags.get(ufrag));
            return match (known, thread_of(ours)) {
                (Some(port), _) => Some(Owner::Port(*port)),
                (None, Some(thread)) if thread != self.thread => Some(Owner::Thread(thread)),
                (None, Some(_) | None) => None,
            };
        }
        self.port_at(from).map(Owner::Port)
    }

    /// Whose an address is.
    #[must_use]
    pub fn port_at(&self, from: SocketAddr) -> Option<PortId> {
        self.addresses.get(&from).map(|learnt| learnt.port)
    }

    /// The port whose authentic media had the source of this packet: whose peer may be on its way to another address. The port is
    /// still to prove that the packet is its.
    #[must_use]
    pub fn roaming(&self, bytes: &[u8]) -> Option<PortId> {
        self.sources.get(&source_of(bytes)?).copied()
    }

    /// Authentic media of a port had this source. Two ports with the same one: the later has it.
    pub fn add_source(&mut self, port: PortId, source: u32) {
        let known = self.ports.entry(port).or_default();
        if known.sources.contains(&source) {
            return;
        }
        if known.sources.len() >= MAX_SOURCES {
            let oldest = known.sources.remove(0);
            if self.sources.get(&oldest) == Some(&port) {
                self.sources.remove(&oldest);
            }
        }
        known.sources.push(source);
        self.sources.insert(source, port);
    }

    /// A check from this address was verified by the port ([`Handled::Checked`](super::Handled::Checked)), so other packets from
    /// there are its. The thread to which the address's packets come must be told, too, if it is another one. An address that
    /// another port's checks keep alive stays that port's: no peer can take the packets of another by forging a source.
    pub fn learn(&mut self, now: Instant, port: PortId, from: SocketAddr) -> bool {
        if let Some(learnt) = self.addresses.get_mut(&from) {
            if learnt.port == port {
                learnt.checked = now;
                return true;
            }
            if now < learnt.checked + CONSENT_TIMEOUT {
                return false;
            }
        } else if self.addresses.len() >= MAX_LEARNT {
            self.sweep(now);
            if self.addresses.len() >= MAX_LEARNT {
                return false;
            }
        }
        if let Some(loser) = self.addresses.insert(from, Learnt { port, checked: now }) {
            self.forget(loser.port, from);
        }
        let known = self.ports.entry(port).or_default();
        if known.addresses.len() >= MAX_ADDRESSES {
            let checked = |address: &SocketAddr| self.addresses.get(address).map(|learnt| learnt.checked);
            if let Some(oldest) = (0..known.addresses.len()).min_by_key(|index| known.addresses.get(*index).and_then(checked)) {
                self.addresses.remove(&known.addresses.swap_remove(oldest));
            }
        }
        known.addresses.push(from);
        true
    }

    fn forget(&mut self, port: PortId, address: SocketAddr) {
        if let Some(known) = self.ports.get_mut(&port) {
            known.addresses.retain(|known| *known != address);
        }
    }

    /// Forgets addresses that are not checked any more; it visits all. A table that is full does so by itself.
    pub fn sweep(&mut self, now: Instant) {
        let ports = &mut self.ports;
        self.addresses.retain(|address, learnt| {
            let alive = now < learnt.checked + CONSENT_TIMEOUT;
            if !alive && let Some(known) = ports.get_mut(&learnt.port) {
                known.addresses.retain(|known| known != address);
            }
            alive
        });
        ports.retain(|_, known| !known.ufrags.is_empty() || !known.addresses.is_empty());
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// SSRC of what looks like RTP or RTCP (RFC 7983, RFC 5761).
fn source_of(bytes: &[u8]) -> Option<u32> {
    let at = if is_rtcp(bytes) { 4 } else { 8 };
    let source = bytes.get(at..)?.first_chunk()?;
    matches!(bytes.first(), Some(128..=191)).then(|| u32::from_be_bytes(*source))
}
