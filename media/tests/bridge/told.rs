//! Streams whose SSRCs the receiver was told in the SDP.

use media::{
    rtp::rtcp,
    sdp::{
        MediaKind,
        negotiate::{KeyFrameRequest, Sources},
        source::cname,
    },
};

use crate::scene::{Kind, Scene, format, ms, opus, pcma, pcmu};

const TOLD: Sources = Sources { media: 0x7000_0001, retransmission: 0x7000_0002, repair: 0x7000_0003, cname: 0x0123_4567_89ab_cdef };

/// A browser that was told our SSRCs, and a phone.
fn call(browser: Vec<media::sdp::Format>, phone: Vec<media::sdp::Format>, kind: MediaKind) -> Scene {
    let mut scene = Scene::new();
    scene.phone(Kind::WebRtc, vec![(kind.clone(), browser)]);
    scene.phone(Kind::Plain, vec![(kind, phone)]);
    scene.phones[0].streams[0].sources = Some(TOLD);
    scene.set(0);
    scene.bridge(0, 1);
    scene
}

fn words(first: u8, kind: u8, words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x80 | first, kind, 0, words.len() as u8];
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    bytes
}

#[test]
fn sound_has_the_told_source_whoever_feeds_it() {
    let mut scene = call(pcmu(), pcmu(), MediaKind::Audio);
    scene.talk(&[(1, 440)], ms(100), 0, 0);
    let second = scene.phone(Kind::Plain, vec![(MediaKind::Audio, pcmu())]);
    scene.bridge(0, second);
    scene.talk(&[(second, 440)], ms(100), 0, 0);
    let third = scene.phone(Kind::Plain, vec![(MediaKind::Audio, pcma())]);
    scene.bridge(0, third);
    scene.talk(&[(third, 440)], ms(200), 0, 0);
    let heard = &scene.phones[0].heard;
    assert!(heard.len() > 15 && heard.iter().all(|heard| heard.ssrc == TOLD.media), "{heard:?}");
    assert!(heard.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
    assert_eq!(heard[0].sequence, 2000, "but for the source the first phone's packets are as they were");
}

#[test]
fn transcoded_sound_has_it_from_the_beginning() {
    let mut scene = call(opus(), pcma(), MediaKind::Audio);
    scene.talk(&[(1, 440)], ms(100), 0, 0);
    assert!(!scene.phones[0].heard.is_empty() && scene.phones[0].heard.iter().all(|heard| heard.ssrc == TOLD.media));
}

#[test]
fn what_is_sent_again_has_a_source_of_its_own() {
    let formats = || vec![format(96, "VP8", 90000), format(97, "rtx", 90000)];
    let mut scene = call(formats(), formats(), MediaKind::Video);
    let picture = scene.phones[1].packet(96, b"\x10\0key frame");
    scene.send(1, 0, &picture);
    let number = scene.phones[1].sequence - 1;
    scene.phones[1].ssrc += 1;
    let again = scene.phones[1].packet(97, &[&number.to_be_bytes()[..], b"picture"].concat());
    scene.send(1, 0, &again);
    let heard: Vec<_> = scene.phones[0].heard.iter().map(|heard| heard.ssrc).collect();
    assert_eq!(heard, [TOLD.media, TOLD.retransmission]);
    assert_eq!(scene.phones[0].heard[1].payload[..2], scene.phones[0].heard[0].sequence.to_be_bytes());
}

#[test]
fn rtcp_is_about_the_told_source_one_way_and_the_phones_own_the_other() {
    let mut scene = call(pcmu(), pcmu(), MediaKind::Audio);
    // The browser only listens.
    scene.talk(&[(1, 440)], ms(100), 0, 0);
    let (phone, browser) = (scene.phones[1].ssrc, scene.phones[0].ssrc);
    scene.send(0, 0, &words(1, 201, &[browser, TOLD.media, 7, 2003, 0, 0, 0]));
    assert_eq!(scene.phones[1].rtcp, [words(1, 201, &[browser, phone, 7, 2003, 0, 0, 0])]);
    let report = [words(0, 200, &[phone, 1, 2, scene.phones[1].timestamp, 5, 800]), rtcp::description(phone, 7).to_vec()];
    scene.send(1, 0, &report.concat());
    let told = [words(0, 200, &[TOLD.media, 1, 2, scene.phones[1].timestamp, 5, 800]), rtcp::description(TOLD.media, TOLD.cname).to_vec()];
    assert_eq!(scene.phones[0].rtcp, [told.concat()]);
    assert!(scene.phones[0].rtcp[0].windows(16).any(|window| window == cname(TOLD.cname).as_bytes()), "as the SDP has it");
}

#[test]
fn key_frame_is_asked_for_as_agreed() {
    let formats = || vec![format(96, "VP8", 90000)];
    let mut scene = Scene::new();
    for kind in [Kind::Plain, Kind::WebRtc] {
        scene.phone(kind, vec![(MediaKind::Video, formats())]);
    }
    for phone in 0..2 {
        scene.phones[phone].streams[0].wishes.key_frame = KeyFrameRequest::Fir;
        scene.set(phone);
        let picture = scene.phones[phone].packet(96, b"picture");
        scene.send(phone, 0, &picture);
    }
    scene.bridge(0, 1);
    for phone in &scene.phones {
        let request = phone.rtcp.iter().find_map(|bytes| bytes.windows(20).find(|part| part[..2] == [0x84, 206])).expect("a request");
        assert_eq!((&request[8..12], &request[12..16]), (&[0; 4][..], &phone.ssrc.to_be_bytes()[..]));
    }
}
