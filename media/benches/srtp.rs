//! What SRTP costs: time and allocations to protect and to open a packet of 172 octets (20 ms of PCMU), for each profile, and what a
//! sender and a receiver weigh. `cargo bench -p media --bench srtp`; plain std.
#![expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use media::rtp::srtp::{Keys, MAX_OVERHEAD, PROFILES, Receiver, Sender};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
#[expect(unsafe_code, reason = "an allocator that counts can only be written so; it is in no product")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LENGTH: usize = 172;
const PACKETS: usize = 50_000;
const ROUNDS: usize = 7;
type Buffer = [u8; LENGTH + MAX_OVERHEAD];

/// Runs over all packets and returns nanoseconds and allocations of one.
fn measure(packets: &mut [Buffer], mut run: impl FnMut(&mut Buffer)) -> (f64, f64) {
    let (allocations, start) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    packets.iter_mut().for_each(|packet| run(black_box(packet)));
    let nanoseconds = start.elapsed().as_secs_f64() * 1e9;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    (nanoseconds / PACKETS as f64, allocations as f64 / PACKETS as f64)
}

/// The median of the rounds.
fn median(mut rounds: Vec<(f64, f64)>) -> (f64, f64) {
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

fn main() {
    println!("sender {} octets, receiver {} octets", size_of::<Sender>(), size_of::<Receiver>());
    for profile in PROFILES {
        let keys = Keys::random(profile, &mut |octets| octets.fill(7));
        let (mut protecting, mut opening) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mut sender, mut receiver) = (Sender::new(&keys), Receiver::new(&keys));
            let mut packets = vec![[0; LENGTH + MAX_OVERHEAD]; PACKETS];
            for (number, packet) in packets.iter_mut().enumerate() {
                packet[0] = 0x80;
                [packet[2], packet[3]] = (number as u16).to_be_bytes();
            }
            protecting.push(measure(&mut packets, |packet| _ = black_box(sender.protect_rtp(packet, LENGTH)).expect("a new packet")));
            let length = LENGTH + profile.tag_len();
            opening.push(measure(&mut packets, |packet| _ = black_box(receiver.unprotect_rtp(&mut packet[..length])).expect("authentic")));
        }
        let (protect, open) = (median(protecting), median(opening));
        println!(
            "{:<24} protect {:.0} ns, {:.3} allocations; open {:.0} ns, {:.3} allocations",
            profile.sdes_name(),
            protect.0,
            protect.1,
            open.0,
            open.1
        );
    }
}
