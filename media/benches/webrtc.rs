//! What a WebRTC leg costs: memory of a connected transport, processor time of its side of a handshake, and of one connectivity
//! check. `cargo bench -p media --bench webrtc`; Linux, because it reads the resident set of the process.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement may panic and needs the clock")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use media::port::{
    destination::{Loopback, Policy, PortSet},
    webrtc::{Certificate, Credentials, Event, Remote, Role, WebRtc, stun},
};

const LEGS: usize = 2000;

fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["tandem.test".to_owned()]).unwrap();
    Certificate::new(made.cert.der().to_vec(), &made.signing_key.serialize_der()).unwrap()
}

/// Octets of the process in memory, those of C libraries too.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

struct Bench {
    ours: Certificate,
    theirs: Certificate,
    policy: Policy,
    now: Instant,
    spent: Duration,
}

impl Bench {
    fn timed<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        self.spent += begin.elapsed();
        done
    }

    /// A connected leg. Only its own work counts.
    fn leg(&mut self, number: usize, role: Role) -> (WebRtc, Vec<u8>) {
        let (a, b) = (SocketAddr::from(([203, 0, 113, 5], 1000 + number as u16)), SocketAddr::from(([192, 0, 2, 1], 8443)));
        let seed = number.to_be_bytes();
        let local = Credentials::generate(0, &mut |octets| octets.iter_mut().zip(seed.iter().cycle()).for_each(|(to, from)| *to = *from));
        let peer_ice = Credentials::parse("peer", "0123456789012345678901").unwrap();
        let mut check = [0; 300];
        let username = format!("{}:peer", local.ufrag());
        let writer = stun::Writer::new(&mut check, stun::Class::Request, &[1; 12]).username(username.as_bytes()).use_candidate();
        let length = writer.integrity(local.password().as_bytes()).finish().unwrap();
        let check = check[..length].to_vec();

        let (policy, now, ours) = (self.policy.clone(), self.now, self.ours.clone());
        let mut port = WebRtc::new(&ours, Some(local));
        let remote = Remote { ice: Some(peer_ice), fingerprints: vec![self.theirs.fingerprint()], role, address: None };
        self.timed(|| port.set_remote(now, &remote, &policy));
        let mut peer = WebRtc::new(&self.theirs, None);
        let peer_role = if role == Role::Client { Role::Server } else { Role::Client };
        let remote = Remote { ice: None, fingerprints: vec![self.ours.fingerprint()], role: peer_role, address: Some(b) };
        let mut buffer = [0; 1500];
        buffer[..length].copy_from_slice(&check);
        self.timed(|| port.handle_packet(now, a, &mut buffer, length, &policy));
        peer.set_remote(now, &remote, &policy);
        loop {
            let mut quiet = true;
            while let Some((_, mut datagram)) = self.timed(|| port.poll_transmit()) {
                quiet = false;
                let length = datagram.len();
                peer.handle_packet(now, b, &mut datagram, length, &policy);
            }
            while let Some((_, mut datagram)) = peer.poll_transmit() {
                quiet = false;
                let length = datagram.len();
                self.timed(|| port.handle_packet(now, a, &mut datagram, length, &policy));
            }
            if quiet {
                break;
            }
        }
        assert!(matches!(port.poll_event(), Some(Event::Connected(_))));
        (port, check)
    }
}

fn main() {
    let policy = Policy { loopback: Loopback::Refused, own: vec![], ports: Arc::new(PortSet::default()), listeners: vec![] };
    let mut bench = Bench { ours: certificate(), theirs: certificate(), policy, now: Instant::now(), spent: Duration::ZERO };
    println!("size_of WebRtc: {} octets", size_of::<WebRtc>());
    for role in [Role::Client, Role::Server] {
        let warm: Vec<_> = (0..50).map(|number| bench.leg(number, role)).collect();
        let (before, spent) = (resident(), bench.spent);
        let mut legs: Vec<_> = (0..LEGS).map(|number| bench.leg(number, role)).collect();
        let memory = (resident() - before) / LEGS;
        println!("{role:?}: {memory} octets a leg, {:?} a handshake", (bench.spent - spent) / LEGS as u32);
        let begin = Instant::now();
        for (number, (port, check)) in legs.iter_mut().enumerate() {
            let from = SocketAddr::from(([203, 0, 113, 5], 1000 + number as u16));
            let mut buffer = [0; 300];
            buffer[..check.len()].copy_from_slice(check);
            port.handle_packet(bench.now, from, &mut buffer, check.len(), &bench.policy);
        }
        println!("{role:?}: {:?} a check", begin.elapsed() / LEGS as u32);
        drop(warm);
    }
}
