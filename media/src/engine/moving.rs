//! Ports that go from one media thread to another: calls that become one have their ports on one thread. A port is plain data, so that it
//! goes as it is, with its keys, its numbers and its peers; only its name tells of the new thread.

use std::time::Instant;

use super::{Engine, Timer};
use crate::port::{Port, PortId, webrtc::Leads};

/// A port on its way from one engine to another.
#[derive(Debug)]
pub struct Moving {
    port: Box<Port>,
    /// Its name before.
    was: PortId,
    leads: Leads,
}

impl Engine {
    /// Takes a port out of its bridge and out of this engine; `to` is its name from now on, and what leads to the port leads there.
    /// Returns the slot that it had.
    pub fn take(&mut self, now: Instant, id: PortId, to: PortId) -> Option<(usize, Moving)> {
        self.leave(now, id);
        let slot = self.slots.remove(&id)?;
        let mut port = self.ports.get_mut(slot)?.take()?;
        if let Some(deadline) = port.deadline.take() {
            self.timers.remove(&(deadline, Timer::Port(slot)));
        }
        self.free.push(slot);
        (port.id, port.is_busy) = (to, false);
        let leads = self.demultiplexer.rename(id, to);
        Some((slot, Moving { port: Box::new(port), was: id, leads }))
    }

    /// Takes in a port of another engine. Returns its slot.
    pub fn adopt(&mut self, now: Instant, moving: Moving) -> usize {
        let Moving { port, was, leads } = moving;
        let id = port.id;
        self.epoch.get_or_insert(now);
        self.demultiplexer.rename(was, id);
        self.demultiplexer.adopt(now, id, &leads);
        let slot = self.vacant();
        if let Some(entry) = self.ports.get_mut(slot) {
            *entry = Some(*port);
        }
        self.slots.insert(id, slot);
        self.attend(slot);
        slot
    }

    /// A port of another engine has another name, and lives on another thread.
    pub fn rename(&mut self, id: PortId, to: PortId) {
        self.demultiplexer.rename(id, to);
    }
}
