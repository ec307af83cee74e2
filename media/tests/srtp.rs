//! SRTP between our machines and `rtc-srtp`, which we did not write, over a wire with loss, reorder, repetition and attackers.

use media::rtp::srtp::{Counter, Error, Keys, MAX_OVERHEAD, MAX_SOURCES, PROFILES, Profile, Receiver, Sender, WINDOW};
use rtc_srtp::{
    context::Context,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * bound as u128) >> 64) as usize
    }

    fn fill(&mut self, octets: &mut [u8]) {
        octets.iter_mut().for_each(|octet| *octet = self.below(256) as u8);
    }

    fn octets(&mut self, length: usize) -> Vec<u8> {
        let mut octets = vec![0; length];
        self.fill(&mut octets);
        octets
    }

    /// An RTP packet, at times with CSRCs and an extension.
    fn rtp(&mut self, ssrc: u32, sequence: u16) -> Vec<u8> {
        let (sources, extension) = (self.below(4) / 3 * self.below(16), self.below(3) == 0);
        let mut packet = vec![0x80 | u8::from(extension) << 4 | sources as u8, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend(self.octets(4));
        packet.extend(ssrc.to_be_bytes());
        packet.extend(self.octets(4 * sources));
        if extension {
            let words = self.below(5);
            packet.extend([0x12, 0x34, 0, words as u8]);
            packet.extend(self.octets(4 * words));
        }
        let length = self.below(300);
        packet.extend(self.octets(length));
        packet
    }

    /// A receiver report.
    fn rtcp(&mut self, ssrc: u32) -> Vec<u8> {
        let blocks = self.below(8) as u8;
        let mut packet = vec![0x80 | blocks, 201, 0, 1 + 6 * blocks];
        packet.extend(ssrc.to_be_bytes());
        packet.extend(self.octets(24 * usize::from(blocks)));
        packet
    }

    /// The packets after a wire: some lost, some twice, none more than 60 places from where it was.
    fn wire(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut arriving: Vec<(usize, &Vec<u8>)> = Vec::new();
        for (place, packet) in packets.iter().enumerate() {
            let copies = [0, 1, 1, 1, 1, 1, 1, 2][self.below(8)];
            arriving.extend((0..copies).map(|_| (place + self.below(60), packet)));
        }
        arriving.sort_by_key(|arriving| arriving.0);
        arriving.into_iter().map(|(_, packet)| packet.clone()).collect()
    }
}

const SSRCS: [u32; 3] = [0xcafe_babe, 7, 0];

fn keys(profile: Profile) -> Keys {
    Keys::random(profile, &mut |octets| Random(42).fill(octets))
}

fn stranger(keys: &Keys) -> Context {
    let octets = keys.to_octets();
    let (key, salt) = octets.split_at(keys.profile().key_len());
    let profile = match keys.profile() {
        Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
    };
    let windows = (srtp_replay_protection(WINDOW as usize), srtcp_replay_protection(WINDOW as usize));
    let provider = rtc_crypto::default_provider().expect("the feature of one is on");
    Context::new(key, salt, profile, Some(windows.0), Some(windows.1), provider.crypto()).expect("keys of their lengths")
}

/// With room for the tag.
fn protect(packet: &[u8], protect: impl FnOnce(&mut [u8], usize) -> Result<usize, Error>) -> Result<Vec<u8>, Error> {
    let mut buffer = [packet, &[0; MAX_OVERHEAD]].concat();
    let length = protect(&mut buffer, packet.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn unprotect(packet: &[u8], unprotect: impl FnOnce(&mut [u8]) -> Result<usize, Error>) -> Result<Vec<u8>, Error> {
    let mut buffer = packet.to_vec();
    let length = unprotect(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// RTP of three sources over some rounds of their sequence numbers, with long gaps.
fn conversation(random: &mut Random) -> Vec<Vec<u8>> {
    let mut sequences = [0xfff0_u32, 3, 0x7fff];
    let steps = (0..9000).map(|step| {
        let source = step % SSRCS.len();
        sequences[source] += 1 + if random.below(100) == 0 { random.below(20_000) } else { random.below(3) } as u32;
        random.rtp(SSRCS[source], sequences[source] as u16)
    });
    steps.collect()
}

#[test]
fn stranger_opens_what_we_protect() {
    for profile in PROFILES {
        let (mut random, keys) = (Random(1), keys(profile));
        let (mut sender, mut stranger, mut receiver) = (Sender::new(&keys), stranger(&keys), Receiver::new(&keys));
        let plain = conversation(&mut random);
        let sealed: Vec<_> = plain.iter().map(|packet| protect(packet, |b, l| sender.protect_rtp(b, l)).unwrap()).collect();
        assert!(sealed.iter().zip(&plain).all(|(sealed, plain)| sealed.len() == plain.len() + profile.tag_len()));
        let mut opened = 0;
        for packet in random.wire(&sealed) {
            let theirs = stranger.decrypt_rtp(&packet).ok();
            let ours = unprotect(&packet, |bytes| receiver.unprotect_rtp(bytes));
            assert_eq!(ours.as_ref().ok().map(|packet| &packet[..]), theirs.as_deref(), "{profile:?}: {ours:?}");
            opened += usize::from(ours.is_ok_and(|packet| plain.contains(&packet)));
        }
        assert!(opened > 7000, "{opened} of 9000");
        assert!(receiver.received().rtp.iter().all(|counter| counter.highest > 3 << 16), "each source wrapped");
        for n in 0..300 {
            let plain = random.rtcp(SSRCS[n % SSRCS.len()]);
            let sealed = protect(&plain, |b, l| sender.protect_rtcp(b, l)).unwrap();
            assert_eq!(sealed.len(), plain.len() + profile.rtcp_overhead());
            assert_eq!(stranger.decrypt_rtcp(&sealed).unwrap(), plain);
        }
    }
}

#[test]
fn we_open_what_a_stranger_protects() {
    for profile in PROFILES {
        let (mut random, keys) = (Random(2), keys(profile));
        let (mut stranger, mut other, mut receiver) = (stranger(&keys), stranger(&keys), Receiver::new(&keys));
        let plain = conversation(&mut random);
        let sealed: Vec<_> = plain.iter().map(|packet| stranger.encrypt_rtp(packet).unwrap().to_vec()).collect();
        let mut opened = 0;
        for packet in random.wire(&sealed) {
            let ours = unprotect(&packet, |bytes| receiver.unprotect_rtp(bytes)).ok();
            assert_eq!(ours.as_deref(), other.decrypt_rtp(&packet).ok().as_deref(), "{profile:?}");
            opened += usize::from(ours.is_some_and(|packet| plain.contains(&packet)));
        }
        assert!(opened > 7000, "{opened} of 9000");
        let reports: Vec<_> = (0..300).map(|n| random.rtcp(SSRCS[n % SSRCS.len()])).collect();
        let sealed: Vec<_> = reports.iter().map(|report| stranger.encrypt_rtcp(report).unwrap().to_vec()).collect();
        for packet in random.wire(&sealed) {
            let ours = unprotect(&packet, |bytes| receiver.unprotect_rtcp(bytes)).ok();
            assert_eq!(ours.as_deref(), other.decrypt_rtcp(&packet).ok().as_deref(), "{profile:?}");
            assert!(ours.is_none_or(|report| reports.contains(&report)));
        }
    }
}

#[test]
fn forged_packets_change_nothing() {
    // S2, S3: however many come, the peer's next packet passes, and nothing of theirs is kept
    for profile in PROFILES {
        let (mut random, keys) = (Random(3), keys(profile));
        let (mut sender, mut receiver) = (Sender::new(&keys), Receiver::new(&keys));
        let mut seal = |random: &mut Random, sequence| protect(&random.rtp(7, sequence), |b, l| sender.protect_rtp(b, l)).unwrap();
        let heard = seal(&mut random, 1000);
        unprotect(&heard, |bytes| receiver.unprotect_rtp(bytes)).unwrap();
        let report = protect(&random.rtcp(7), |b, l| Sender::new(&keys).protect_rtcp(b, l)).unwrap();
        let (next, before) = (seal(&mut random, 1001), receiver.received());
        let mut buffer = Vec::new();
        for round in 0..200_000 {
            buffer.clear();
            match round % 4 {
                0 => buffer.extend(random.rtp(random_ssrc(round), round as u16)),
                1 => {
                    buffer.extend(&next);
                    let bit = random.below(next.len() * 8);
                    buffer[bit / 8] ^= 1 << (bit % 8);
                }
                2 => buffer.extend(&next[..random.below(next.len())]),
                _ => {
                    buffer.extend(&report);
                    let bit = random.below(report.len() * 8);
                    buffer[bit / 8] ^= 1 << (bit % 8);
                }
            }
            if round % 4 == 3 {
                receiver.unprotect_rtcp(&mut buffer).expect_err("forged");
            } else {
                receiver.unprotect_rtp(&mut buffer).expect_err("forged");
            }
        }
        assert_eq!(receiver.received(), before, "{profile:?}");
        unprotect(&next, |bytes| receiver.unprotect_rtp(bytes)).unwrap();
        unprotect(&report, |bytes| receiver.unprotect_rtcp(bytes)).unwrap();
    }
}

fn random_ssrc(round: usize) -> u32 {
    if round.is_multiple_of(8) { 7 } else { round as u32 }
}

#[test]
fn packet_passes_once() {
    // S3
    for profile in PROFILES {
        let (mut random, keys) = (Random(4), keys(profile));
        let (mut sender, mut receiver) = (Sender::new(&keys), Receiver::new(&keys));
        let rtp: Vec<_> = (0..300)
            .map(|n| protect(&random.rtp(9, 65_400_u16.wrapping_add(n)), |b, l| sender.protect_rtp(b, l)).unwrap())
            .collect::<Vec<_>>();
        let rtcp: Vec<_> = (0..300).map(|_| protect(&random.rtcp(9), |b, l| sender.protect_rtcp(b, l)).unwrap()).collect::<Vec<_>>();
        for (rtp, rtcp) in rtp.iter().zip(&rtcp) {
            unprotect(rtp, |bytes| receiver.unprotect_rtp(bytes)).unwrap();
            unprotect(rtcp, |bytes| receiver.unprotect_rtcp(bytes)).unwrap();
        }
        for (rtp, rtcp) in rtp.iter().zip(&rtcp) {
            assert_eq!(unprotect(rtp, |bytes| receiver.unprotect_rtp(bytes)), Err(Error::Replay));
            assert_eq!(unprotect(rtcp, |bytes| receiver.unprotect_rtcp(bytes)), Err(Error::Replay));
        }
    }
}

#[test]
fn no_length_of_any_packet_panics() {
    for profile in PROFILES {
        let (mut random, keys) = (Random(5), keys(profile));
        for round in 0..200 {
            let (mut sender, mut receiver) = (Sender::new(&keys), Receiver::new(&keys));
            let (rtp, rtcp) = (random.rtp(1, round), random.rtcp(1));
            let sealed = protect(&rtp, |b, l| sender.protect_rtp(b, l)).unwrap();
            for length in 0..sealed.len() {
                receiver.unprotect_rtp(&mut sealed[..length].to_vec()).expect_err("cut");
                receiver.unprotect_rtcp(&mut sealed[..length].to_vec()).expect_err("cut");
                let room = rtp.len() + length % profile.tag_len();
                assert_eq!(Sender::new(&keys).protect_rtp(&mut [&rtp[..], &[0; 16]].concat()[..room], rtp.len()), Err(Error::Room));
                let _ = Sender::new(&keys).protect_rtp(&mut sealed.clone(), length);
                let _ = Sender::new(&keys).protect_rtcp(&mut sealed.clone(), length);
            }
            let sealed = protect(&rtcp, |b, l| sender.protect_rtcp(b, l)).unwrap();
            (0..sealed.len()).for_each(|length| _ = receiver.unprotect_rtcp(&mut sealed[..length].to_vec()).expect_err("cut"));
            assert_eq!(sender.protect_rtp(&mut sealed.clone(), usize::MAX), Err(Error::Malformed));
        }
    }
}

#[test]
fn sequence_number_is_protected_once_and_late_ones_keep_their_index() {
    for profile in PROFILES {
        let (mut random, keys) = (Random(6), keys(profile));
        let (mut sender, mut receiver) = (Sender::new(&keys), Receiver::new(&keys));
        let mut send = |random: &mut Random, sequence| protect(&random.rtp(5, sequence), |b, l| sender.protect_rtp(b, l));
        let late_after_wrap = [65_530, 65_534, 2, 65_533, 4, 65_531, 3];
        for sequence in late_after_wrap {
            let sealed = send(&mut random, sequence).unwrap();
            unprotect(&sealed, |bytes| receiver.unprotect_rtp(bytes)).unwrap_or_else(|e| panic!("{sequence}: {e}"));
        }
        assert_eq!(receiver.received().rtp, [Counter { ssrc: 5, highest: 0x1_0004 }]);
        for sequence in late_after_wrap {
            assert_eq!(send(&mut random, sequence), Err(Error::Replay), "another content would give the key away");
        }
        assert_eq!(send(&mut random, 4_u16.wrapping_sub(WINDOW as u16)), Err(Error::Replay), "too late to tell");
    }
}

#[test]
fn sender_forgets_no_source_and_a_receiver_the_one_silent_longest() {
    let keys = keys(Profile::AeadAes128Gcm);
    let (mut random, mut sender, mut receiver) = (Random(7), Sender::new(&keys), Receiver::new(&keys));
    for ssrc in 0..MAX_SOURCES as u32 {
        let sealed = protect(&random.rtp(ssrc, 1), |b, l| sender.protect_rtp(b, l)).unwrap();
        unprotect(&sealed, |bytes| receiver.unprotect_rtp(bytes)).unwrap();
    }
    assert_eq!(protect(&random.rtp(1000, 1), |b, l| sender.protect_rtp(b, l)), Err(Error::Sources));
    protect(&random.rtp(0, 2), |b, l| sender.protect_rtp(b, l)).expect("a source it knows");
    let sealed = protect(&random.rtp(1000, 1), |b, l| Sender::new(&keys).protect_rtp(b, l)).unwrap();
    unprotect(&sealed, |bytes| receiver.unprotect_rtp(bytes)).unwrap();
    let known: Vec<u32> = receiver.received().rtp.iter().map(|counter| counter.ssrc).collect();
    assert!(known.len() == MAX_SOURCES && known.contains(&1000) && !known.contains(&0));
}

#[test]
fn another_process_goes_on() {
    for profile in PROFILES {
        let (mut random, keys) = (Random(8), keys(profile));
        let (mut sender, mut receiver) = (Sender::new(&keys), Receiver::new(&keys));
        let (mut last, mut last_report) = (Vec::new(), Vec::new());
        for sequence in [65_535, 0, 1] {
            last = protect(&random.rtp(5, sequence), |b, l| sender.protect_rtp(b, l)).unwrap();
            unprotect(&last, |bytes| receiver.unprotect_rtp(bytes)).unwrap();
            last_report = protect(&random.rtcp(5), |b, l| sender.protect_rtcp(b, l)).unwrap();
            unprotect(&last_report, |bytes| receiver.unprotect_rtcp(bytes)).unwrap();
        }
        let (mut sender, mut receiver) = (Sender::resume(&keys, &sender.sent()), Receiver::resume(&keys, &receiver.received()));
        assert_eq!(unprotect(&last, |bytes| receiver.unprotect_rtp(bytes)), Err(Error::Replay));
        assert_eq!(unprotect(&last_report, |bytes| receiver.unprotect_rtcp(bytes)), Err(Error::Replay));
        assert_eq!(protect(&random.rtp(5, 1), |b, l| sender.protect_rtp(b, l)), Err(Error::Replay));
        let next = protect(&random.rtp(5, 2), |b, l| sender.protect_rtp(b, l)).unwrap();
        unprotect(&next, |bytes| receiver.unprotect_rtp(bytes)).expect("the rollover counter is still 1");
        let report = protect(&random.rtcp(5), |b, l| sender.protect_rtcp(b, l)).unwrap();
        unprotect(&report, |bytes| receiver.unprotect_rtcp(bytes)).expect("an index that was not used");
    }
}

#[test]
fn used_up_key_protects_no_more() {
    let keys = keys(Profile::AeadAes128Gcm);
    let last = Counter { ssrc: 5, highest: (1 << 48) - 2 };
    let mut sent = Sender::new(&keys).sent();
    sent.rtp.push(last);
    sent.rtcp = (1 << 31) - (1 << 16) - 1;
    let (mut random, mut sender) = (Random(9), Sender::resume(&keys, &sent));
    protect(&random.rtp(5, 0xffff), |b, l| sender.protect_rtp(b, l)).expect("the last index");
    assert_eq!(protect(&random.rtp(5, 0), |b, l| sender.protect_rtp(b, l)), Err(Error::Exhausted));
    protect(&random.rtcp(5), |b, l| sender.protect_rtcp(b, l)).expect("the last index");
    assert_eq!(protect(&random.rtcp(5), |b, l| sender.protect_rtcp(b, l)), Err(Error::Exhausted));
}

#[test]
fn dtls_gives_each_direction_its_keys() {
    for profile in PROFILES {
        let exported = Random(10).octets(profile.exported_len());
        let (client, server) = Keys::from_dtls(profile, &exported).unwrap();
        let (key, salt) = (profile.key_len(), profile.salt_len());
        // RFC 5764 §4.2: both keys, then both salts
        assert_eq!(client.to_octets()[..], [&exported[..key], &exported[2 * key..2 * key + salt]].concat());
        assert_eq!(server.to_octets()[..], [&exported[key..2 * key], &exported[2 * key + salt..]].concat());
        assert!(Keys::from_dtls(profile, &exported[1..]).is_none());
        assert!(Keys::from_dtls(profile, &[&exported[..], &[0]].concat()).is_none());
        assert_eq!(Profile::from_dtls_number(profile.dtls_number()), Some(profile));
        assert_eq!(Profile::from_sdes_name(profile.sdes_name().as_bytes()), Some(profile));
    }
}
