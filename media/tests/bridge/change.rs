//! Another source takes over: its receiver does not see it.

use media::sdp::{Format, MediaKind};

use crate::{
    assert_one_stream,
    scene::{KINDS, Kind, Scene, format, ms, opus, pcmu},
};

#[test]
fn another_device_goes_on_where_the_first_stopped() {
    // To each kind: first one that passes, then another, then one that is transcoded, then the first again.
    for kind in KINDS {
        let mut scene = Scene::call((kind, pcmu()), (Kind::Plain, pcmu()));
        let carol = scene.phone(Kind::Sdes, vec![(MediaKind::Audio, pcmu())]);
        let dora = scene.phone(Kind::WebRtc, vec![(MediaKind::Audio, opus())]);
        for (source, tone) in [(1, 440), (carol, 1000), (dora, 440), (1, 1000)] {
            scene.bridge(0, source);
            scene.talk(&[(source, tone), (0, 700)], ms(1000), 0, 0);
            scene.wait(ms(300));
        }
        let heard = &scene.phones[0].heard;
        assert!(heard.len() > 180, "{kind:?}: {}", heard.len());
        assert_one_stream(heard);
        assert_eq!(heard[0].ssrc, scene.phones[1].ssrc, "as the first source called it");
        assert!(heard.iter().filter(|heard| heard.marker).count() >= 3, "each begins with a marker");
        assert_one_stream(&scene.phones[carol].heard);
    }
}

fn video() -> Vec<Format> {
    vec![format(96, "VP8", 90000), format(97, "rtx", 90000)]
}

/// A picture of one packet, and one packet of another sent again.
fn picture(scene: &mut Scene, phone: usize, lost: u16) {
    let (ssrc, sequence) = (scene.phones[phone].ssrc, scene.phones[phone].sequence);
    let media = scene.phones[phone].packet(96, b"\x10\0key frame");
    scene.send(phone, 0, &media);
    scene.phones[phone].ssrc = ssrc + 1;
    scene.phones[phone].sequence = sequence.wrapping_add(20_000);
    let again = scene.phones[phone].packet(97, &[&lost.to_be_bytes()[..], b"again"].concat());
    scene.send(phone, 0, &again);
    scene.phones[phone].ssrc = ssrc;
    scene.phones[phone].sequence = sequence.wrapping_add(1);
    scene.phones[phone].timestamp += 3000;
    scene.wait(ms(33));
}

#[test]
fn pictures_and_their_retransmission_stay_two_sources() {
    let mut scene = Scene::new();
    for kind in [Kind::WebRtc, Kind::WebRtc, Kind::Plain] {
        scene.phone(kind, vec![(MediaKind::Video, video())]);
    }
    scene.bridge(0, 1);
    for _ in 0..5 {
        let lost = scene.phones[1].sequence;
        picture(&mut scene, 1, lost);
    }
    let first = scene.phones[1].ssrc;
    let heard: Vec<_> = scene.phones[0].heard.iter().map(|heard| (heard.ssrc, heard.sequence, heard.payload_type)).collect();
    let expected: Vec<_> = (0..5).flat_map(|n| [(first, 2000 + n, 96), (first + 1, 22_000 + n, 97)]).collect();
    assert_eq!(heard, expected, "untouched");
    scene.bridge(0, 2);
    for _ in 0..5 {
        let lost = scene.phones[2].sequence;
        picture(&mut scene, 2, lost);
    }
    let heard: Vec<_> = scene.phones[0].heard[10..].iter().map(|heard| (heard.ssrc, heard.sequence, heard.payload_type)).collect();
    let expected: Vec<_> = (5..10).flat_map(|n| [(first, 2000 + n, 96), (first + 1, 22_000 + n, 97)]).collect();
    assert_eq!(heard, expected, "each goes on where the other device's stopped");
    let named = scene.phones[0].heard[11].payload.clone();
    assert_eq!(named[..2], 2005_u16.to_be_bytes(), "and names its original as the receiver knows it");
    // What was sent before the change cannot be named.
    let before = scene.phones[2].sequence.wrapping_sub(50);
    picture(&mut scene, 2, before);
    assert_eq!(scene.phones[0].heard.len(), 21);
}

#[test]
fn a_source_that_already_sends_is_asked_for_a_key_frame() {
    let mut scene = Scene::new();
    for kind in [Kind::WebRtc, Kind::WebRtc] {
        scene.phone(kind, vec![(MediaKind::Video, video())]);
    }
    picture(&mut scene, 0, 0);
    scene.bridge(0, 1);
    let request = scene.phones[0].rtcp.pop().expect("a request");
    let pli = &request[request.len() - 12..];
    assert_eq!((&pli[..4], &pli[8..]), (&[0x81, 206, 0, 2][..], &scene.phones[0].ssrc.to_be_bytes()[..]));
    assert!(scene.phones[1].rtcp.is_empty(), "it has sent nothing yet: its first picture will be one");
    scene.set(0);
    scene.pump();
    assert!(scene.phones[0].rtcp.is_empty(), "once for each way");
}
