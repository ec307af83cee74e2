//! Locations: where each AOR's devices are (RFC 3261 §10), in memory in the form in which they are stored, and the connections that lead
//! to devices of stream transports. What a REGISTER does to bindings is `sip::registrar`'s affair.

use std::collections::HashMap;
use std::net::SocketAddr;

use sip::registrar::{self, Binding, Received};
use sip::{Aor, Flow, Transport, UnixTime};

use crate::inside::is_inside;
use crate::storage::{Batch, Storage, StorageError, Table};

/// Bindings of all AORs.
#[derive(Default)]
pub struct Locations {
    /// The stored form: a third of the memory of the read one.
    bindings: HashMap<Box<str>, Box<[u8]>>,
    connections: HashMap<(Transport, SocketAddr), Connection>,
    /// AORs whose bindings were replaced, until the loop has looked.
    changed: Vec<Aor>,
}

/// The bindings of an AOR before they were replaced, as they were stored.
#[derive(Debug)]
pub struct Former(Option<Box<[u8]>>);

struct Connection {
    flow: Flow,
    /// Who registered on it, at some time; at most [`Locations::MAX_AORS`].
    aors: Vec<Aor>,
}

impl Locations {
    /// Most AORs noted with one connection, each of which proved its password there; beyond, the one that registered first is forgotten:
    /// the connection does not stay open for it.
    const MAX_AORS: usize = 256;

    /// Reads what the store has; bindings that ended meanwhile are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(storage: &Storage, now: UnixTime) -> Result<Self, StorageError> {
        let mut locations = Self::default();
        for entry in storage.scan(Table::Binding, b"") {
            let (key, value) = entry?;
            let Ok(aor) = String::from_utf8(key) else { continue };
            let Some(mut bindings) = registrar::decode(&value) else { continue };
            // the clock may have been set back since: nobody stays longer than was granted
            bindings.iter_mut().for_each(|binding| binding.clamp(now));
            if bindings.iter().any(|binding| !binding.is_expired(now)) {
                locations.bindings.insert(aor.into(), registrar::encode(&bindings).into());
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

    /// Replaces the bindings of an AOR, here at once; the returned write makes it last, and [`Self::restore`] takes it back where the write
    /// fails. Those of thin clients end with their logins, which do not outlive the process: they are not written.
    pub fn replace(&mut self, aor: &Aor, bindings: &[Binding]) -> (Batch, Former) {
        self.changed.push(aor.clone());
        let mut batch = Batch::new();
        if bindings.is_empty() {
            batch.remove(Table::Binding, aor.as_str().as_bytes());
            return (batch, Former(self.bindings.remove(aor.as_str())));
        }
        let stored: Box<[u8]> = registrar::encode(bindings).into();
        let is_lasting = |binding: &&Binding| !is_inside(&binding.received);
        let lasting: Vec<Binding> = bindings.iter().filter(is_lasting).cloned().collect();
        match lasting.len() {
            0 => batch.remove(Table::Binding, aor.as_str().as_bytes()),
            count if count == bindings.len() => batch.put(Table::Binding, aor.as_str().as_bytes(), &stored),
            _ => batch.put(Table::Binding, aor.as_str().as_bytes(), &registrar::encode(&lasting)),
        };
        let former = match self.bindings.get_mut(aor.as_str()) {
            Some(slot) => Some(std::mem::replace(slot, stored)),
            None => self.bindings.insert(aor.as_str().into(), stored),
        };
        (batch, Former(former))
    }

    /// Takes a replacement back whose write failed. Of several it is the newest one first. Thin clients stay as they are: they are not
    /// written.
    pub fn restore(&mut self, aor: &Aor, former: Former) {
        let mut bindings = former.0.and_then(|stored| registrar::decode(&stored)).unwrap_or_default();
        bindings.retain(|binding| !is_inside(&binding.received));
        bindings.extend(self.of(aor).into_iter().filter(|binding| is_inside(&binding.received)));
        let _written = self.replace(aor, &bindings);
    }

    /// The time of day was set: each binding lasts for as long as before. The store hears of it with the next change of each AOR, so that
    /// after a restart the time of day counts.
    pub fn set_clock(&mut self, from: UnixTime, to: UnixTime) {
        for stored in self.bindings.values_mut() {
            let Some(mut bindings) = registrar::decode(stored) else { continue };
            for binding in &mut bindings {
                binding.expires_at = UnixTime(binding.expires_at.0.saturating_add(to.0).saturating_sub(from.0));
            }
            *stored = registrar::encode(&bindings).into();
        }
    }

    /// Returns the next AOR whose bindings were replaced.
    pub fn poll_changed(&mut self) -> Option<Aor> {
        self.changed.pop()
    }

    /// Notes a connection.
    pub fn opened(&mut self, flow: Flow) {
        let key = (flow.transport, flow.remote);
        if self.connections.get(&key).is_none_or(|known| known.flow != flow) {
            self.connections.insert(key, Connection { flow, aors: Vec::new() });
        }
    }

    /// Notes who registered on a connection.
    pub fn registered(&mut self, flow: &Flow, aor: &Aor) {
        let connection = self.connections.get_mut(&(flow.transport, flow.remote));
        let Some(connection) = connection.filter(|known| known.flow == *flow && !known.aors.contains(aor)) else { return };
        if connection.aors.len() >= Self::MAX_AORS {
            connection.aors.remove(0);
        }
        connection.aors.push(aor.clone());
    }

    /// Returns true while a binding lives that came by this connection. Who has none any more is forgotten there.
    pub fn is_registered(&mut self, flow: &Flow, now: UnixTime) -> bool {
        let received = Received::from(flow);
        let Some(connection) = self.connections.get_mut(&(flow.transport, flow.remote)).filter(|known| known.flow == *flow) else {
            return false;
        };
        let bound =
            |stored: &[u8]| registrar::decode(stored).is_some_and(|all| all.iter().any(|b| b.received == received && !b.is_expired(now)));
        connection.aors.retain(|aor| self.bindings.get(aor.as_str()).is_some_and(|stored| bound(stored)));
        !connection.aors.is_empty()
    }

    /// Forgets a connection.
    pub fn closed(&mut self, flow: &Flow) {
        let key = (flow.transport, flow.remote);
        if self.connections.get(&key).is_some_and(|known| known.flow.connection == flow.connection) {
            self.connections.remove(&key);
        }
    }

    /// Returns the connection to a peer, if there is one.
    #[must_use]
    pub fn connection(&self, transport: Transport, remote: SocketAddr) -> Option<Flow> {
        self.connections.get(&(transport, remote)).map(|known| known.flow)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sip::ConnectionId;
    use sip::message::Uri;
    use sip::registrar::Q;

    use super::*;

    fn flow(connection: u64) -> Flow {
        let address = |text: &str| text.parse().unwrap();
        let (local, remote) = (address("192.0.2.1:5060"), address("192.0.2.9:40000"));
        Flow { transport: Transport::Tcp, local, remote, connection: Some(ConnectionId(connection)) }
    }

    fn aor(name: &str) -> Aor {
        Aor::new(name, "example.com").unwrap()
    }

    fn binding(flow: &Flow, expires_at: u64) -> Binding {
        Binding {
            contact: Uri::parse(&"sip:ann@192.0.2.9".into()).unwrap(),
            q: Q::MAX,
            expires_at: UnixTime(expires_at),
            granted: Duration::from_secs(600),
            call_id: "c".into(),
            cseq: 1,
            path: "".into(),
            instance: "".into(),
            reg_id: None,
            user_agent: "".into(),
            received: Received::from(flow),
            behind_nat: false,
        }
    }

    #[test]
    fn a_connection_is_registered_on_while_a_binding_of_it_lives() {
        let (mut locations, here) = (Locations::default(), flow(1));
        locations.opened(here);
        locations.replace(&aor("ann"), &[binding(&here, 600)]);
        assert!(!locations.is_registered(&here, UnixTime(0)), "nobody said so");
        locations.registered(&here, &aor("ann"));
        locations.registered(&here, &aor("bob"));
        locations.opened(here); // an outgoing connection is noted twice
        assert!(locations.is_registered(&here, UnixTime(599)));
        assert!(!locations.is_registered(&here, UnixTime(600)));
        locations.replace(&aor("ann"), &[binding(&here, 1200)]);
        locations.registered(&here, &aor("ann"));
        assert!(locations.is_registered(&here, UnixTime(600)));
        locations.replace(&aor("ann"), &[]);
        assert!(!locations.is_registered(&here, UnixTime(600)));
    }

    #[tokio::test]
    async fn a_thin_client_is_there_until_the_process_ends_and_not_longer() {
        let (storage, _memory) = Storage::memory();
        let mut locations = Locations::default();
        let thin = binding(&crate::inside::flow(1), 600);
        let phone = binding(&flow(1), 600);
        let after_a_restart = async |batch: &Batch| {
            storage.write(batch).await.unwrap();
            Locations::load(&storage, UnixTime(0)).unwrap().of(&aor("ann"))
        };
        let (both, _) = locations.replace(&aor("ann"), &[thin.clone(), phone.clone()]);
        assert_eq!(locations.of(&aor("ann")).len(), 2);
        assert_eq!(after_a_restart(&both).await, [phone]);
        let (one, _) = locations.replace(&aor("ann"), std::slice::from_ref(&thin));
        assert_eq!(locations.of(&aor("ann")), [thin]);
        assert_eq!(after_a_restart(&one).await, []);
    }

    #[tokio::test]
    async fn after_a_restart_nobody_stays_longer_than_was_granted_wherever_the_clock_is() {
        const DAY: u64 = 86_400;
        let (storage, _memory) = Storage::memory();
        let mut locations = Locations::default();
        let (batch, _) = locations.replace(&aor("ann"), &[binding(&flow(1), 2 * DAY + 600)]);
        storage.write(&batch).await.unwrap();
        // the clock was a day ahead when ann registered, and is right now
        let restarted = Locations::load(&storage, UnixTime(DAY)).unwrap();
        let [ann] = &restarted.of(&aor("ann"))[..] else { panic!("one binding") };
        assert_eq!(ann.expires_at, UnixTime(DAY + 600));
        // it is a day ahead now: whatever was granted is over
        assert!(Locations::load(&storage, UnixTime(3 * DAY)).unwrap().is_empty());
    }

    // "What is acknowledged is kept, what is refused is not there": security.md, "Also required"
    #[test]
    fn what_could_not_be_written_is_taken_back_newest_first() {
        let (mut locations, ann) = (Locations::default(), aor("ann"));
        let (old, new, thin) = (binding(&flow(1), 600), binding(&flow(2), 1200), binding(&crate::inside::flow(1), 600));
        let (_, nothing) = locations.replace(&ann, std::slice::from_ref(&old));
        let (_, first) = locations.replace(&ann, &[old.clone(), new.clone()]);
        let (_, second) = locations.replace(&ann, &[]);
        let _thin = locations.replace(&ann, std::slice::from_ref(&thin));
        while locations.poll_changed().is_some() {}
        locations.restore(&ann, second);
        assert_eq!(locations.of(&ann), [old.clone(), new, thin.clone()], "the empty list is taken back, the thin client stays");
        locations.restore(&ann, first);
        assert_eq!(locations.of(&ann), [old, thin.clone()]);
        locations.restore(&ann, nothing);
        assert_eq!(locations.of(&ann), [thin]);
        assert_eq!(locations.poll_changed(), Some(ann), "who watches is told");
    }

    // "Clock jumps of a day in either direction are survived": security.md, "Also required"
    #[test]
    fn bindings_last_as_long_as_they_did_when_the_time_of_day_is_set() {
        const DAY: u64 = 86_400;
        let (mut locations, ann) = (Locations::default(), aor("ann"));
        let _batch = locations.replace(&ann, &[binding(&flow(1), 2 * DAY + 600)]);
        let ends = |locations: &Locations| locations.of(&ann)[0].expires_at;
        locations.set_clock(UnixTime(2 * DAY), UnixTime(3 * DAY + 5));
        assert_eq!(ends(&locations), UnixTime(3 * DAY + 605));
        locations.set_clock(UnixTime(3 * DAY + 5), UnixTime(DAY));
        assert_eq!(ends(&locations), UnixTime(DAY + 600));
    }

    #[test]
    fn the_next_connection_from_an_address_has_nobody_of_the_last_one() {
        let (mut locations, old, new) = (Locations::default(), flow(1), flow(2));
        locations.opened(old);
        locations.replace(&aor("ann"), &[binding(&old, 600)]);
        locations.registered(&old, &aor("ann"));
        locations.opened(new);
        locations.registered(&old, &aor("ann"));
        assert!(!locations.is_registered(&new, UnixTime(0)) && !locations.is_registered(&old, UnixTime(0)));
        locations.closed(&old);
        assert_eq!(locations.connection(Transport::Tcp, new.remote), Some(new));
    }

    #[test]
    fn a_connection_remembers_so_many_aors_and_no_more() {
        let (mut locations, here) = (Locations::default(), flow(1));
        locations.opened(here);
        for number in 0..=Locations::MAX_AORS {
            let aor = aor(&format!("user{number}"));
            locations.replace(&aor, &[binding(&here, 600)]);
            locations.registered(&here, &aor);
        }
        assert_eq!(locations.connections[&(here.transport, here.remote)].aors.len(), Locations::MAX_AORS);
        assert!(locations.is_registered(&here, UnixTime(0)));
    }
}
