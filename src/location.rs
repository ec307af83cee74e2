//! Locations: where each AOR's devices are (RFC 3261 §10), in memory in the form in which they are stored, and the connections that lead
//! to devices of stream transports. What a REGISTER does to bindings is `sip::registrar`'s affair.

use std::collections::HashMap;
use std::net::SocketAddr;

use sip::registrar::{self, Binding, Received};
use sip::{Aor, Flow, Transport, UnixTime};

use crate::storage::{Batch, Storage, StorageError, Table};

/// Bindings of all AORs.
#[derive(Default)]
pub struct Locations {
    /// The stored form: a third of the memory of the read one.
    bindings: HashMap<Box<str>, Box<[u8]>>,
    connections: HashMap<(Transport, SocketAddr), Flow>,
}

impl Locations {
    /// Reads what the store has; bindings that ended meanwhile are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(storage: &Storage, now: UnixTime) -> Result<Self, StorageError> {
        let mut locations = Self::default();
        for entry in storage.scan(Table::Binding, b"") {
            let (key, value) = entry?;
            let Ok(aor) = String::from_utf8(key) else { continue };
            if registrar::decode(&value).is_some_and(|bindings| bindings.iter().any(|binding| !binding.is_expired(now))) {
                locations.bindings.insert(aor.into(), value.into());
            }
        }
        Ok(locations)
    }

    /// Returns the number of AORs with bindings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Returns true without bindings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Returns the bindings of an AOR, expired ones included.
    #[must_use]
    pub fn of(&self, aor: &Aor) -> Vec<Binding> {
        self.bindings.get(aor.as_str()).and_then(|stored| registrar::decode(stored)).unwrap_or_default()
    }

    /// Replaces the bindings of an AOR, here at once; the returned write makes it last.
    pub fn replace(&mut self, aor: &Aor, bindings: &[Binding]) -> Batch {
        let mut batch = Batch::new();
        if bindings.is_empty() {
            self.bindings.remove(aor.as_str());
            batch.remove(Table::Binding, aor.as_str().as_bytes());
            return batch;
        }
        let stored: Box<[u8]> = registrar::encode(bindings).into();
        batch.put(Table::Binding, aor.as_str().as_bytes(), &stored);
        match self.bindings.get_mut(aor.as_str()) {
            Some(slot) => *slot = stored,
            None => {
                self.bindings.insert(aor.as_str().into(), stored);
            }
        }
        batch
    }

    /// Notes a connection.
    pub fn opened(&mut self, flow: Flow) {
        self.connections.insert((flow.transport, flow.remote), flow);
    }

    /// Forgets a connection.
    pub fn closed(&mut self, flow: &Flow) {
        let key = (flow.transport, flow.remote);
        if self.connections.get(&key).is_some_and(|known| known.connection == flow.connection) {
            self.connections.remove(&key);
        }
    }

    /// Returns the connection to a peer, if there is one.
    #[must_use]
    pub fn connection(&self, transport: Transport, remote: SocketAddr) -> Option<Flow> {
        self.connections.get(&(transport, remote)).copied()
    }

    /// Returns the flow that a registration came by, if it still lives.
    #[must_use]
    pub fn flow(&self, received: &Received) -> Option<Flow> {
        if received.transport.is_reliable() {
            return self.connection(received.transport, received.remote);
        }
        Some(Flow { transport: received.transport, local: received.local, remote: received.remote, connection: None })
    }
}
