//! What strangers, and peers that lie, can do to a call: nothing. Each test names its row of the threat model.

use std::time::Duration;

use media::{port::webrtc::stun, sdp::negotiate::Security};

use crate::scene::{KINDS, Kind, Scene, at, keys, ms, opus, pcma, pcmu};

const MALLORY: &str = "192.0.2.66:4000";

fn talks(scene: &mut Scene) -> bool {
    let before: Vec<_> = scene.phones.iter().map(|phone| phone.heard.len()).collect();
    scene.talk(&[(0, 440), (1, 1000)], ms(200), 0, 0);
    scene.phones.iter().zip(before).all(|(phone, before)| phone.heard.len() >= before + 8)
}

#[test]
fn a_client_hello_of_a_stranger_spoils_nothing() {
    // S1
    let mut hello = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 48];
    hello.resize(73, 0);
    for kind in [Kind::Dtls, Kind::WebRtc] {
        let mut scene = Scene::call((kind, opus()), (Kind::Plain, pcma()));
        for from in [at(MALLORY), "203.0.113.1:4999".parse().unwrap()] {
            assert!(!scene.arrives(0, 0, from, &hello), "no answer");
        }
        // From the peer's own address, which can be forged: it is no message of the association.
        let peer = scene.phones[0].address;
        scene.arrives(0, 0, peer, &hello);
        scene.wait(Duration::from_secs(5));
        assert!(talks(&mut scene), "{kind:?}");
    }
}

#[test]
fn plain_packets_in_a_protected_stream_are_dropped_and_cost_no_call() {
    // S2, S3: from the peer's own address, more than any counter would bear; and none of them starts a transcoder.
    for kind in [Kind::Sdes, Kind::Dtls, Kind::WebRtc] {
        for from in [at(MALLORY), at("203.0.113.1:4000")] {
            let mut scene = Scene::call((kind, opus()), (Kind::Plain, pcma()));
            for sequence in 0..300_u16 {
                let mut plain = scene.phones[0].frame(440);
                plain[2..4].copy_from_slice(&sequence.to_be_bytes());
                assert!(!scene.arrives(0, 0, from, &plain));
                scene.wait(ms(1));
            }
            assert!(scene.phones[1].heard.is_empty() && scene.reasons().is_empty(), "{kind:?}");
            let statistics = scene.statistics(0);
            assert_eq!((statistics.received.packets, statistics.codec), (0, None));
            assert!(talks(&mut scene), "{kind:?}");
        }
    }
}

#[test]
fn replayed_packets_are_heard_once() {
    // S3
    for kind in [Kind::Sdes, Kind::Dtls, Kind::WebRtc] {
        let mut scene = Scene::call((kind, pcmu()), (Kind::Plain, pcmu()));
        let (address, packet) = (scene.phones[0].address, scene.phones[0].frame(440));
        let sealed = scene.phones[0].seal(&packet);
        assert!(scene.arrives(0, 0, address, &sealed));
        assert!((0..200).all(|_| !scene.arrives(0, 0, address, &sealed)), "{kind:?}");
        assert_eq!(scene.phones[1].heard.len(), 1);
        assert!(talks(&mut scene));
    }
}

#[test]
fn forged_checks_move_nothing() {
    // S4: no integrity, a wrong key, a response nobody asked for
    let mut scene = Scene::call((Kind::WebRtc, opus()), (Kind::Plain, pcma()));
    let username = scene.username(0);
    let forge = |class, key: Option<&[u8]>| {
        let mut buffer = [0; 300];
        let writer = stun::Writer::new(&mut buffer, class, &[9; 12]).username(username.as_bytes()).priority(1).use_candidate();
        let length = match key {
            Some(key) => writer.integrity(key).finish(),
            None => writer.finish(),
        };
        buffer[..length.unwrap()].to_vec()
    };
    let wrong = [7; 24];
    for bytes in [forge(stun::Class::Request, None), forge(stun::Class::Request, Some(&wrong)), forge(stun::Class::Success, Some(&wrong))] {
        scene.arrives_from_nobody(0, at(MALLORY), &bytes);
        assert!(talks(&mut scene));
        assert_eq!(scene.statistics(0).remote, Some(scene.phones[0].address));
    }
}

#[test]
fn a_new_offer_never_makes_a_protected_stream_plain() {
    // S13: whatever keys a new offer brings, plain packets are not taken, and none are sent.
    for kind in [Kind::Sdes, Kind::Dtls, Kind::WebRtc] {
        let mut scene = Scene::call((kind, opus()), (Kind::Plain, pcma()));
        assert!(talks(&mut scene));
        if kind == Kind::Sdes {
            scene.phones[0].streams[0].security = Security::Sdes { send: keys(50), receive: keys(51) };
        }
        scene.set(0);
        let heard = scene.phones[1].heard.len();
        let (address, plain) = (scene.phones[0].address, scene.phones[0].frame(440));
        assert!(!scene.arrives(0, 0, address, &plain), "{kind:?}");
        assert!(scene.phones[1].heard.len() <= heard + 1, "{kind:?}");
        // What goes to the phone is protected still: it refuses all else.
        if kind == Kind::Sdes {
            scene.phones[0].renew(&keys(51), &keys(50));
        }
        assert!(talks(&mut scene), "{kind:?}");
    }
}

#[test]
fn rtcp_with_lying_lengths_is_dropped_by_every_kind() {
    // S18: authentic, for an attacker may be a peer; relayed, mapped and used up
    for kind in KINDS {
        for formats in [pcmu(), pcma()] {
            let mut scene = Scene::call((kind, formats), (Kind::Plain, pcmu()));
            scene.talk(&[(0, 440), (1, 1000)], ms(700), 0, 0);
            let mut malformed = 0;
            for packet_type in [200, 201, 202, 203, 204, 205, 206, 207] {
                for (count, words) in [(31, 0), (0, 0xffff), (1, 7), (31, 200), (5, 1)] {
                    for length in [8, 12, 28, 40] {
                        let mut bytes = vec![0x80 | count, packet_type, (words >> 8) as u8, words as u8];
                        bytes.resize(length, 0xff);
                        malformed += u64::from(media::rtp::rtcp::parse(&bytes).is_err());
                        scene.send(0, 0, &bytes);
                    }
                }
            }
            scene.phones[1].rtcp.clear();
            assert!(malformed > 100 && talks(&mut scene), "{kind:?}");
            if kind != Kind::WebRtc {
                assert_eq!(scene.statistics(0).malformed, malformed, "{kind:?}");
            }
        }
    }
}

#[test]
fn a_transcoder_sends_nothing_inside_because_an_sdp_says_so() {
    // S19
    for inside in ["127.0.0.1:22", "169.254.169.254:80", "224.0.0.1:4000", "192.0.2.1:8443"] {
        let mut scene = Scene::call((Kind::WebRtc, opus()), (Kind::Plain, pcma()));
        scene.phones[1].streams[0].remote_rtp = Some(at(inside));
        scene.phones[1].streams[0].remote_rtcp = Some(at(inside));
        scene.set(1);
        scene.talk(&[(0, 440)], Duration::from_secs(10), 0, 0);
        assert!(scene.phones[1].heard.is_empty() && scene.phones[1].rtcp.is_empty(), "{inside}");
    }
}

#[test]
fn changing_codecs_all_the_time_builds_few_transcoders() {
    // S18: a peer that alternates between two codecs that both have to be converted
    let formats = vec![crate::scene::format(9, "G722", 8000), crate::scene::format(0, "PCMU", 8000)];
    let mut scene = Scene::call((Kind::Plain, formats), (Kind::Plain, pcma()));
    for n in 0..200 {
        let packet = scene.phones[0].packet(if n % 2 == 0 { 9 } else { 0 }, &[0x55; 160]);
        scene.phones[0].timestamp += 160;
        scene.send(0, 0, &packet);
        scene.wait(ms(20));
    }
    assert_eq!(scene.reasons().len(), 1, "and says so once");
    crate::assert_one_stream(&scene.phones[1].heard);
}
