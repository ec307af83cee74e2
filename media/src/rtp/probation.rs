//! Probation of sources (RFC 3550 §6.2.1, A.1): of a stream that one source feeds, another one takes over once it has shown two packets in
//! sequence. A stray or forged packet so neither is heard nor silences whom it is not of. It knows no address and no packet, only SSRCs and
//! sequence numbers.

/// How far ahead of its last packet the next one of a source may be to count as in sequence: what lies between was lost (A.1:
/// MAX_MISORDER).
const MAX_AHEAD: u16 = 100;
/// Former sources that are remembered, the oldest forgotten first: none of them starts from nothing because strangers come between its
/// packets.
const FORMER: usize = 3;

/// Who feeds a stream.
#[derive(Clone, Debug, Default)]
pub struct Probation {
    source: Option<u32>,
    former: [Option<Candidate>; FORMER],
    /// The last of all others.
    stranger: Option<Candidate>,
}

/// A source that may take over.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    ssrc: u32,
    /// Number of its last packet, if it sent one since it became a candidate.
    last: Option<u16>,
}

impl Probation {
    /// Takes note of a packet. Returns whether it is the source's: the first one's, at first, then that of whoever took over last.
    pub fn take(&mut self, ssrc: u32, sequence: u16) -> bool {
        match self.source {
            Some(source) if source == ssrc => true,
            Some(source) => self.is_proved(ssrc, sequence) && self.take_over(source, ssrc),
            None => {
                self.source = Some(ssrc);
                true
            }
        }
    }

    fn is_proved(&mut self, ssrc: u32, sequence: u16) -> bool {
        let known = self.former.iter_mut().chain([&mut self.stranger]).flatten().find(|candidate| candidate.ssrc == ssrc);
        let Some(candidate) = known else {
            self.stranger = Some(Candidate { ssrc, last: Some(sequence) });
            return false;
        };
        let last = candidate.last.replace(sequence);
        last.is_some_and(|last| (1..=MAX_AHEAD).contains(&sequence.wrapping_sub(last)))
    }

    fn take_over(&mut self, source: u32, ssrc: u32) -> bool {
        let place = self.former.iter().position(|former| former.is_some_and(|former| former.ssrc == ssrc)).unwrap_or(FORMER - 1);
        if let Some(newest) = self.former.get_mut(..=place) {
            newest.rotate_right(1);
        }
        if let Some(newest) = self.former.first_mut() {
            *newest = Some(Candidate { ssrc: source, last: None });
        }
        self.source = Some(ssrc);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the packets (SSRC, number) pass.
    fn passed(probation: &mut Probation, packets: impl IntoIterator<Item = (u32, u16)>) -> Vec<bool> {
        packets.into_iter().map(|(ssrc, sequence)| probation.take(ssrc, sequence)).collect()
    }

    #[test]
    fn a_change_of_source_costs_one_packet() {
        let mut probation = Probation::default();
        let packets = [(7, 65535), (7, 0), (8, 500), (8, 501), (8, 502), (8, 503)];
        assert_eq!(passed(&mut probation, packets), [true, true, false, true, true, true]);
        assert_eq!(passed(&mut probation, [(7, 1), (8, 504)]), [false, true], "a late packet of the former one changes nothing");
        assert_eq!(passed(&mut probation, [(9, 10), (9, 12), (9, 13)]), [false, true, true], "also where one is lost");
        assert_eq!(passed(&mut probation, [(5, 10), (5, 10), (5, 9), (5, 300), (5, 301)]), [false, false, false, false, true]);
    }

    #[test]
    fn strangers_do_not_silence_the_source() {
        // S2
        let mut probation = Probation::default();
        let mut genuine = 0..;
        let mut next = |probation: &mut Probation| probation.take(7, genuine.next().unwrap());
        assert!(next(&mut probation));
        for n in 0..1000u32 {
            assert!(!probation.take(1000 + n, n as u16), "a source of one packet");
            assert!(next(&mut probation));
        }
        for round in 0..100u32 {
            assert_eq!([0, 1].map(|n| probation.take(5000 + round, n)), [false, true], "one that proves itself is believed");
            assert!((0..50).all(|n| !probation.take(9000 + n, 77)), "and others come between");
            assert_eq!([next(&mut probation), next(&mut probation)], [false, true], "but who goes on is taken back at once");
        }
    }
}
