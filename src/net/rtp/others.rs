//! What media threads tell each other: a packet of the shared port that the kernel gave to another thread than its port's, and what
//! one of them learned of addresses. A packet travels in a buffer that comes back, so that none is allocated while one is spare.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use rustix::event::{EventfdFlags, eventfd};

use super::{Command, Thread};

/// Buffers that wait to be used again; a further one is freed.
const SPARE: usize = 1024;
/// What a buffer takes without growing: more than a packet on Ethernet.
const PACKET: usize = 1536;

/// The media threads as one of them sees them.
pub(super) struct Others {
    own: u16,
    all: Vec<Door>,
    /// Buffers that came back.
    spare: Receiver<Vec<u8>>,
}

/// The way to a thread.
struct Door {
    commands: Option<SyncSender<Command>>,
    wake: Arc<Wake>,
    spare: SyncSender<Vec<u8>>,
}

impl Others {
    /// Makes what each of the threads gets.
    pub(super) fn of(threads: &[Thread]) -> Vec<Self> {
        let (senders, receivers): (Vec<_>, Vec<_>) = threads.iter().map(|_| sync_channel::<Vec<u8>>(SPARE)).unzip();
        let door = |(thread, spare): (&Thread, &SyncSender<_>)| Door {
            commands: thread.commands.clone(),
            wake: Arc::clone(&thread.wake),
            spare: spare.clone(),
        };
        let doors = || threads.iter().zip(&senders).map(door).collect();
        receivers.into_iter().enumerate().map(|(own, spare)| Self { own: own as u16, all: doors(), spare }).collect()
    }

    pub(super) fn own(&self) -> u16 {
        self.own
    }

    /// Tells one of them. It is lost when that one does not get on, as on the network.
    pub(super) fn tell(&self, thread: u16, command: Command) {
        let Some(Door { commands: Some(commands), wake, .. }) = self.all.get(usize::from(thread)).filter(|_| thread != self.own) else {
            return;
        };
        match commands.try_send(command) {
            Ok(()) => wake.wake(),
            Err(TrySendError::Full(Command::Packet { bytes, .. })) => self.give_back(self.own, bytes),
            Err(_) => {}
        }
    }

    pub(super) fn tell_all(&self, command: impl Fn() -> Command) {
        let others = (0..self.all.len() as u16).filter(|thread| *thread != self.own);
        others.for_each(|thread| self.tell(thread, command()));
    }

    /// Hands a packet to the thread of its port.
    pub(super) fn hand_over(&self, thread: u16, from: SocketAddr, bytes: &[u8]) {
        self.tell(thread, self.packet(from, bytes));
    }

    /// Hands a packet on to the thread to which its port has gone, as from the thread that it came to.
    pub(super) fn hand_on(&self, thread: u16, via: u16, from: SocketAddr, bytes: &[u8]) {
        if let Command::Packet { bytes, .. } = self.packet(from, bytes) {
            self.tell(thread, Command::Packet { via, from, bytes });
        }
    }

    /// Hands a packet to all, one of which may know whose it is.
    pub(super) fn ask(&self, from: SocketAddr, bytes: &[u8]) {
        self.tell_all(|| self.packet(from, bytes));
    }

    /// Gives a packet's buffer back to the thread that it came from.
    pub(super) fn give_back(&self, via: u16, buffer: Vec<u8>) {
        if let Some(door) = self.all.get(usize::from(via)) {
            let _freed = door.spare.try_send(buffer);
        }
    }

    fn packet(&self, from: SocketAddr, packet: &[u8]) -> Command {
        let mut bytes = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(PACKET));
        bytes.clear();
        bytes.extend_from_slice(packet);
        Command::Packet { via: self.own, from, bytes }
    }
}

/// Wakes a media thread for its commands, with at most one system call for each time it sleeps.
#[derive(Debug)]
pub(super) struct Wake {
    event: OwnedFd,
    pending: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { event, pending: AtomicBool::new(false) })
    }

    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // It fails only when its counter is full, and then the thread wakes anyway.
            let _full = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Before looking at the commands: one that comes after this wakes again.
    pub(super) fn clear(&self) {
        let _empty = rustix::io::read(&self.event, &mut [0; 8]);
        self.pending.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the next packet of a thread, which came from another one with this address.
    fn next(commands: &Receiver<Command>) -> (u16, Vec<u8>) {
        match commands.try_recv() {
            Ok(Command::Packet { via, bytes, .. }) => (via, bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn buffer_of_a_packet_comes_back_and_is_used_again() {
        let ((first, _first), (second, commands)) = (sync_channel(4), sync_channel(4));
        let thread = |commands| Thread { commands: Some(commands), wake: Arc::new(Wake::new().unwrap()) };
        let mut threads = [thread(first), thread(second)];
        let [one, other] = <[Others; 2]>::try_from(Others::of(&threads)).ok().unwrap();
        threads.iter_mut().for_each(|thread| thread.commands = None); // they would wait for room to say that they end
        let from = "192.0.2.1:4000".parse().unwrap();
        // A buffer that once took this is known by its room.
        one.hand_over(1, from, &[1; 2 * PACKET]);
        let (via, bytes) = next(&commands);
        assert_eq!((via, &*bytes), (0, &[1; 2 * PACKET][..]));
        other.give_back(via, bytes);
        one.hand_over(1, from, &[2; 20]);
        let (via, bytes) = next(&commands);
        assert_eq!((bytes.capacity() > PACKET, &*bytes), (true, &[2; 20][..]));

        (0..4).for_each(|_| one.ask(from, &[3; 20]));
        one.tell(1, Command::Packet { via, from, bytes });
        let Command::Packet { bytes, .. } = one.packet(from, &[4; 20]) else { panic!("a packet is handed over as one") };
        assert!(bytes.capacity() > PACKET, "what a thread has no room for is spare again");
    }
}
