//! The synchronisation sources under one key: their rollover counter, guessed from the sequence number (RFC 3711 §3.3.1), and the
//! window in which repetitions are known (§3.3.2). It knows no cipher; who calls it has authenticated the packet.

use super::Error;

/// Indexes behind the highest one among which repetitions are told apart; older ones are refused.
pub const WINDOW: u64 = 128;
/// Synchronisation sources under one key, of RTP and of RTCP each.
///
/// One more at a [`Receiver`](super::Receiver): the one that was silent longest is forgotten, and only for a packet that was
/// authenticated, so that nobody but the peer makes it happen. What is forgotten with it is its window: somebody who recorded its
/// packets may then send those again that had the rollover counter 0. Nothing else can be done with them, and new keys end it. If
/// the source itself comes back, its packets are taken as long as its rollover counter is 0.
///
/// One more at a [`Sender`](super::Sender): it is refused. Forgetting would let an index be used again, which AES-GCM does not forgive.
pub const MAX_SOURCES: usize = 64;

/// Largest index of RTP: 32 bits of rollover counter, 16 of sequence number.
const MAX_RTP_INDEX: u64 = (1 << 48) - 1;

/// How far a source has come: enough to go on in another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The source.
    pub ssrc: u32,
    /// Its highest index: for RTP the rollover counter before the sequence number, for RTCP the SRTCP index.
    pub highest: u64,
}

/// The highest index, and which of the [`WINDOW`] up to it were used.
#[derive(Clone, Copy)]
pub(super) struct Window {
    highest: u64,
    /// Bit n stands for `highest - n`.
    used: u128,
}

impl Window {
    fn first(index: u64) -> Self {
        Self { highest: index, used: 1 }
    }

    /// All up to this index count as used.
    fn after(index: u64) -> Self {
        Self { highest: index, used: u128::MAX }
    }

    /// The index that a sequence number stands for: the nearest to the highest (§3.3.1). Before the first there is none.
    fn estimate(self, sequence: u16) -> Result<u64, Error> {
        let last = self.highest as u16;
        let guess = self.highest & !0xffff | u64::from(sequence);
        let index = if last < 0x8000 && sequence.saturating_sub(last) > 0x8000 {
            guess.checked_sub(0x1_0000).unwrap_or(guess)
        } else if last >= 0x8000 && last - 0x8000 > sequence {
            guess + 0x1_0000
        } else {
            guess
        };
        if index > MAX_RTP_INDEX { Err(Error::Exhausted) } else { Ok(index) }
    }

    fn check(self, index: u64) -> Result<(), Error> {
        match self.highest.checked_sub(index) {
            None => Ok(()),
            Some(age @ 0..WINDOW) if self.used >> age & 1 == 0 => Ok(()),
            Some(_) => Err(Error::Replay),
        }
    }

    fn mark(&mut self, index: u64) {
        if let Some(advance @ 1..) = index.checked_sub(self.highest) {
            self.used = u32::try_from(advance).ok().and_then(|advance| self.used.checked_shl(advance)).unwrap_or(0) | 1;
            self.highest = index;
        } else {
            let age = self.highest - index;
            self.used |= u32::try_from(age).ok().and_then(|age| 1_u128.checked_shl(age)).unwrap_or(0);
        }
    }
}

struct Source {
    ssrc: u32,
    /// When it was heard last, in packets of all sources.
    heard: u64,
    window: Window,
}

/// The sources of RTP or of RTCP.
#[derive(Default)]
pub(super) struct Sources {
    list: Vec<Source>,
    packets: u64,
}

impl Sources {
    pub(super) fn resume(counters: &[Counter]) -> Self {
        let counters = counters.iter().take(MAX_SOURCES);
        let list = counters.map(|counter| Source { ssrc: counter.ssrc, heard: 0, window: Window::after(counter.highest & MAX_RTP_INDEX) });
        Self { list: list.collect(), packets: 0 }
    }

    pub(super) fn counters(&self) -> Vec<Counter> {
        self.list.iter().map(|source| Counter { ssrc: source.ssrc, highest: source.window.highest }).collect()
    }

    fn window(&self, ssrc: u32) -> Option<Window> {
        self.list.iter().find(|source| source.ssrc == ssrc).map(|source| source.window)
    }

    /// The index of an RTP packet if it may be new.
    pub(super) fn rtp_index(&self, ssrc: u32, sequence: u16) -> Result<u64, Error> {
        let Some(window) = self.window(ssrc) else { return Ok(u64::from(sequence)) };
        let index = window.estimate(sequence)?;
        window.check(index)?;
        Ok(index)
    }

    /// Whether an SRTCP packet may be new.
    pub(super) fn check(&self, ssrc: u32, index: u64) -> Result<(), Error> {
        self.window(ssrc).map_or(Ok(()), |window| window.check(index))
    }

    /// Whether there is room for this source without forgetting another.
    pub(super) fn has_room(&self, ssrc: u32) -> bool {
        self.list.len() < MAX_SOURCES || self.window(ssrc).is_some()
    }

    /// Keeps that an index was used.
    pub(super) fn mark(&mut self, ssrc: u32, index: u64) {
        self.packets = self.packets.wrapping_add(1);
        let heard = self.packets;
        if let Some(source) = self.list.iter_mut().find(|source| source.ssrc == ssrc) {
            source.heard = heard;
            source.window.mark(index);
            return;
        }
        let new = Source { ssrc, heard, window: Window::first(index) };
        if self.list.len() < MAX_SOURCES {
            self.list.push(new);
        } else if let Some(silent) = self.list.iter_mut().min_by_key(|source| source.heard) {
            *silent = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_nearest_to_the_highest() {
        let estimate = |highest: u64, sequence| Window::first(highest).estimate(sequence).unwrap();
        assert_eq!(estimate(0x1_0005, 7), 0x1_0007);
        assert_eq!(estimate(0x1_0005, 0xfffe), 0xfffe, "late, from before the wrap");
        assert_eq!(estimate(0x1_fffe, 3), 0x2_0003, "after the wrap");
        assert_eq!(estimate(0x1_fffe, 0xff00), 0x1_ff00);
        assert_eq!(estimate(0x1_0005, 0x8005), 0x1_8005, "as far ahead as can be");
        assert_eq!(estimate(0x1_0005, 0x8006), 0x8006);
        assert_eq!(estimate(0x1_9000, 0x1000), 0x1_1000, "as far behind as can be");
        assert_eq!(estimate(0x1_9000, 0x0fff), 0x2_0fff);
        assert_eq!(estimate(5, 0xfffe), 0xfffe, "there is nothing before the first round");
        assert_eq!(Window::first(MAX_RTP_INDEX).estimate(0), Err(Error::Exhausted));
        assert_eq!(Window::first(MAX_RTP_INDEX).estimate(0xfff0), Ok(MAX_RTP_INDEX - 15));
    }

    #[test]
    fn each_index_passes_once_and_only_while_it_is_in_the_window() {
        let mut window = Window::first(1000);
        for index in [1000, 872, 0] {
            assert_eq!(window.check(index), Err(Error::Replay), "{index}");
        }
        for index in [873, 999, 1127] {
            assert_eq!(window.check(index), Ok(()), "{index}");
            window.mark(index);
            assert_eq!(window.check(index), Err(Error::Replay), "{index}");
        }
        assert_eq!(window.check(1000), Err(Error::Replay), "now the oldest in the window");
        assert_eq!(window.check(1001), Ok(()));
        window.mark(1 << 40);
        assert_eq!(window.check((1 << 40) - 1), Ok(()), "a jump empties the window");
        assert_eq!(window.check(1 << 40), Err(Error::Replay));
    }

    #[test]
    fn window_agrees_with_a_list_of_what_was_used() {
        let mut number = 7_u64;
        let mut window = Window::first(500);
        let mut used = std::collections::BTreeSet::from([500]);
        for _ in 0..20_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let highest = *used.last().unwrap();
            let index = (highest + (number >> 33) % 300).saturating_sub(250);
            let fresh = !used.contains(&index) && index + WINDOW > highest;
            assert_eq!(window.check(index).is_ok(), fresh, "{index} after {highest}");
            if fresh {
                window.mark(index);
                used.insert(index);
            }
        }
    }

    #[test]
    fn source_silent_longest_is_forgotten() {
        let mut sources = Sources::default();
        for ssrc in 0..MAX_SOURCES as u32 {
            sources.mark(ssrc, 9);
        }
        sources.mark(0, 10);
        assert!(sources.has_room(5) && !sources.has_room(1000));
        sources.mark(1000, 9);
        assert_eq!(sources.list.len(), MAX_SOURCES);
        assert_eq!(sources.check(1, 9), Ok(()), "1 was forgotten");
        assert_eq!(sources.check(0, 9), Err(Error::Replay), "0 was heard again");
    }
}
