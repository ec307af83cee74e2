//! Offers and answers between legs of different kinds: plain, SDES, DTLS and browsers; what must never fall back to plain.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;

use media::{
    port::webrtc::Role,
    sdp::{
        Description, Direction,
        negotiate::{Error, Finality, KeyFrameRequest, Negotiation, Security, StreamAddress},
        secret::Secret,
        source,
        transport::{Local, Profile, Protection},
    },
};

const FINGERPRINT: &str = "sha-256 01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF";
const KEY: &str = "AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";
const PLAIN: &str = "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";

fn body(rest: &str) -> Description {
    let text = format!("v=0\r\no=p 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{rest}");
    Description::parse(text.as_bytes()).unwrap()
}

fn sdes(port: u16) -> Description {
    body(&format!("m=audio {port} RTP/SAVP 0 8\r\na=crypto:1 F8_128_HMAC_SHA1_80 inline:x\r\na=crypto:7 {KEY}\r\n"))
}

/// What a browser says: sound, and with `video` pictures in one bundle, whose second part has no candidate of its own.
fn browser(ufrag: &str, setup: &str, video: bool) -> Description {
    let transport = format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789abcdefABCDEF01\r\na=fingerprint:{FINGERPRINT}\r\na=setup:{setup}\r\na=rtcp-mux\r\n\
         a=candidate:1 1 udp 1 10.1.1.1 5 typ host\r\n"
    );
    let mut text = format!(
        "a=group:BUNDLE 0 1\r\nm=audio 5000 UDP/TLS/RTP/SAVPF 111 0 110\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n\
         a=rtpmap:110 telephone-event/48000\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=extmap:2 urn:x:mid\r\n{transport}"
    );
    if video {
        text.push_str(&format!(
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n\
             a=rtcp-fb:96 transport-cc\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=simulcast:send 1;2\r\na=rid:1 send\r\n{transport}"
        ));
    }
    body(&text)
}

fn leg(profile: Profile, protection: Protection) -> Negotiation {
    Negotiation::new(9, profile, protection, Secret::new([3; 32]))
}

fn local(streams: u16) -> Local {
    let at = |port| SocketAddr::from(([198, 51, 100, 1], port));
    let addresses = (0..streams).map(|n| StreamAddress { rtp: at(20_000 + 2 * n), rtcp: at(20_001 + 2 * n) }).collect();
    Local { addresses, fingerprint: FINGERPRINT.to_owned().into(), thread: 2 }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn read(bytes: &[u8]) -> Description {
    Description::parse(bytes).unwrap()
}

/// One leg offers after a template; what the peer is told.
fn offer(profile: Profile, template: &Description) -> (Negotiation, String) {
    let mut leg = leg(profile, Protection::Prefer);
    let offered = leg.make_offer(template, &local(2)).unwrap();
    (leg, text(&offered))
}

/// One leg answers an offer after a template.
fn answer(offered: Description, template: &Description) -> (Negotiation, String) {
    let mut leg = leg(Profile::Plain, Protection::Prefer);
    leg.receive_offer(offered).unwrap();
    let answered = leg.make_answer(template, &local(2)).unwrap();
    (leg, text(&answered))
}

fn value<'a>(text: &'a str, attribute: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("a={attribute}:")));
    line.unwrap_or_else(|| panic!("no a={attribute} in {text}"))
}

#[test]
fn a_phone_hears_nothing_of_ice_and_dtls_of_a_browser() {
    let (_, offered) = offer(Profile::Plain, &browser("abcd", "actpass", true));
    assert!(offered.contains("m=audio 20000 RTP/AVP 111 0 110 8 9") && offered.contains("m=video 20002 RTP/AVP 96 97"), "{offered}");
    for ours in
        ["ice", "candidate", "fingerprint", "setup", "mid", "BUNDLE", "rtcp-mux", "crypto", "simulcast", "rid", "urn:x", "transport-cc"]
    {
        assert!(!offered.contains(ours), "{ours} in {offered}");
    }
    assert!(offered.contains("a=rtcp-fb:96 nack pli") && offered.contains("audio-level") && offered.contains("a=fmtp:97 apt=96"));
}

#[test]
fn a_browser_is_offered_all_that_it_needs() {
    let (mut leg, offered) = offer(Profile::WebRtc, &body(PLAIN));
    assert!(offered.contains("m=audio 20000 UDP/TLS/RTP/SAVPF 0 8 101"), "{offered}");
    assert_eq!((value(&offered, "fingerprint"), value(&offered, "setup"), value(&offered, "group")), (FINGERPRINT, "actpass", "BUNDLE t0"));
    assert!(offered.contains("a=ice-lite\r\n") && offered.contains("a=rtcp-mux\r\n") && offered.contains("a=msid:tandem audio\r\n"));
    assert_eq!(value(&offered, "candidate"), "1 1 UDP 2130706431 198.51.100.1 20000 typ host");
    assert_eq!(media::port::webrtc::thread_of(value(&offered, "ice-ufrag").as_bytes()), Some(2));
    let answered = browser("abcd", "active", false);
    leg.receive_answer(answered, Finality::Final).unwrap();
    let shared = leg.shared().unwrap();
    assert_eq!((shared.handshake.role, shared.remote.ufrag()), (Role::Server, "abcd"));
    assert_eq!(leg.streams()[0].security, Security::Shared);
}

#[test]
fn a_browser_is_answered_in_one_bundle_and_sends_its_picture() {
    let (leg, answered) =
        answer(browser("abcd", "actpass", true), &body(&format!("{PLAIN}m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n")));
    assert_eq!((value(&answered, "group"), value(&answered, "setup")), ("BUNDLE 0 1", "active"));
    let video = answered.split_once("m=video").unwrap().1;
    assert!(video.contains("a=sendrecv") && video.contains("a=rtcp-fb:96 nack pli") && video.contains("a=mid:1"), "{video}");
    assert!(!video.contains("simulcast") && !video.contains("transport-cc"));
    assert_eq!(leg.streams()[1].direction, Direction::SendRecv, "c=0.0.0.0 is no hold where ICE is");
}

#[test]
fn of_a_browser_that_does_not_bundle_one_stream_is_taken() {
    let mut offered = text(&browser("abcd", "actpass", true).to_bytes()).replace("a=group:BUNDLE 0 1\r\n", "");
    offered.push_str("m=audio 5004 RTP/AVP 0\r\n");
    let (leg, answered) = answer(read(offered.as_bytes()), &browser("efgh", "active", true));
    assert!(answered.contains("m=video 0 ") && answered.contains("m=audio 0 RTP/AVP"), "{answered}");
    assert_eq!(leg.streams().len(), 1);
}

#[test]
fn an_ice_restart_renews_our_credentials_and_nothing_else() {
    let (mut leg, first) = answer(browser("abcd", "actpass", false), &body(PLAIN));
    leg.receive_offer(browser("abcd", "actpass", false)).unwrap();
    assert!(leg.offer_moves_only());
    let same = text(&leg.make_answer(&body(PLAIN), &local(1)).unwrap());
    assert_eq!(value(&same, "ice-ufrag"), value(&first, "ice-ufrag"));
    leg.receive_offer(browser("wxyz", "actpass", false)).unwrap();
    assert!(leg.offer_moves_only());
    let restarted = text(&leg.make_answer(&body(PLAIN), &local(1)).unwrap());
    assert_ne!(value(&restarted, "ice-ufrag"), value(&first, "ice-ufrag"));
    assert_ne!(value(&restarted, "ice-pwd"), value(&first, "ice-pwd"));
    assert_eq!(value(&restarted, "setup"), "active", "the role stays");
    assert_eq!(leg.shared().unwrap().remote.ufrag(), "wxyz");
}

#[test]
fn what_changes_a_stream_is_no_mere_move() {
    let offers = |before: &str, now: &str| {
        let (mut leg, _) = answer(body(before), &body(PLAIN));
        leg.receive_offer(body(now)).unwrap();
        leg.offer_moves_only()
    };
    assert!(offers(PLAIN, &PLAIN.replace("4000", "4444")));
    assert!(offers(PLAIN, &PLAIN.replace("0 8 101", "0 8 101 9")), "a codec that is not in use");
    assert!(!offers(PLAIN, &PLAIN.replace("0 8 101", "8 101")), "a codec that is");
    assert!(!offers(PLAIN, &format!("{PLAIN}a=sendonly\r\n")));
    assert!(!offers(PLAIN, &format!("{PLAIN}m=video 4002 RTP/AVP 34\r\n")));
    assert!(!offers(PLAIN, "m=audio 0 RTP/AVP 0\r\n"));
}

#[test]
fn keys_are_chosen_by_what_the_answer_says() {
    let (mut leg, offered) = offer(Profile::Sdes, &body(PLAIN));
    assert!(
        offered.contains("RTP/SAVP 0") && offered.contains("a=crypto:1 AEAD_AES_128_GCM") && offered.contains("a=crypto:2 AES_CM"),
        "{offered}"
    );
    leg.receive_answer(body(&format!("m=audio 4000 RTP/SAVP 0\r\na=crypto:2 {KEY}\r\n")), Finality::Final).unwrap();
    let Security::Sdes { send, receive } = leg.streams().remove(0).security else { panic!("no keys") };
    assert!(send != receive && offered.contains(&text(leg_key(&offered, 2).as_bytes())));
    let (leg, answered) = answer(sdes(4000), &body(PLAIN));
    assert!(answered.contains("m=audio 20000 RTP/SAVP 0") && value(&answered, "crypto").starts_with("7 AES_CM"), "{answered}");
    assert!(matches!(leg.streams()[0].security, Security::Sdes { .. }));
}

fn leg_key(offered: &str, tag: u32) -> String {
    offered.lines().find(|line| line.starts_with(&format!("a=crypto:{tag} "))).unwrap().to_owned()
}

#[test]
fn key_lines_beyond_the_bound_are_not_looked_at() {
    // S8
    let offer = |unusable: usize| {
        let lines = "a=crypto:1 F8_128_HMAC_SHA1_80 inline:x\r\n".repeat(unusable);
        leg(Profile::Plain, Protection::Prefer).receive_offer(body(&format!("m=audio 4000 RTP/SAVP 0\r\n{lines}a=crypto:7 {KEY}\r\n")))
    };
    assert_eq!((offer(7), offer(8)), (Ok(()), Err(Error::NothingToCarry)));
}

#[test]
fn a_phone_may_answer_keys_with_dtls() {
    let (mut leg, _) = offer(Profile::Sdes, &body(PLAIN));
    let answer = format!("m=audio 4000 RTP/SAVP 0\r\na=fingerprint:{FINGERPRINT}\r\na=setup:passive\r\n");
    leg.receive_answer(body(&answer), Finality::Final).unwrap();
    assert!(matches!(&leg.streams()[0].security, Security::Dtls(handshake) if handshake.role == Role::Client));
}

#[test]
fn protected_offers_never_end_in_plain_media() {
    // S13
    for (profile, protocol) in [(Profile::Sdes, "RTP/SAVP"), (Profile::Dtls, "UDP/TLS/RTP/SAVP"), (Profile::WebRtc, "UDP/TLS/RTP/SAVPF")] {
        let (mut leg, _) = offer(profile, &body(PLAIN));
        let unprotected = [
            format!("m=audio 4000 {protocol} 0\r\n"),
            "m=audio 4000 RTP/AVP 0\r\n".to_owned(),
            format!("m=audio 4000 {protocol} 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:short\r\n"),
            format!("m=audio 4000 {protocol} 0\r\na=crypto:2 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw==\r\n"),
            format!("m=audio 4000 {protocol} 0\r\na=fingerprint:sha-256 00\r\na=setup:active\r\n"),
        ];
        for answer in unprotected {
            let refused = leg.receive_answer(body(&answer), Finality::Final);
            assert!(matches!(refused, Err(Error::Line { .. })), "{profile:?}: {answer}");
            assert!(leg.streams().is_empty());
        }
    }
    let mut leg = leg(Profile::Plain, Protection::Require);
    assert_eq!(leg.receive_offer(body(PLAIN)), Err(Error::Protection(true)));
    leg.receive_offer(sdes(4000)).unwrap();
    leg.make_answer(&body(PLAIN), &local(1)).unwrap();
    assert_eq!(leg.receive_offer(body(PLAIN)), Err(Error::Protection(true)), "nor later");
    assert!(matches!(leg.streams()[0].security, Security::Sdes { .. }));
}

#[test]
fn what_is_switched_off_is_neither_taken_nor_answered() {
    let mut off = leg(Profile::Plain, Protection::Off);
    assert_eq!(off.receive_offer(sdes(4000)), Err(Error::Protection(false)));
    let offered = body(&format!("m=audio 4000 RTP/AVP 0\r\na=crypto:1 {KEY}\r\n"));
    off.receive_offer(offered.clone()).unwrap();
    assert!(!text(&off.make_answer(&body(PLAIN), &local(1)).unwrap()).contains("crypto"));
    let (_, answered) = answer(offered, &body(PLAIN));
    assert!(
        answered.contains("RTP/AVP 0\r\n") && answered.contains("a=crypto:1 AES_CM"),
        "the profile stays that of the offer: {answered}"
    );
}

#[test]
fn ends_without_a_common_codec_are_each_told_their_own() {
    let (mut callee, offered) = offer(Profile::Plain, &body("m=audio 4000 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\n"));
    assert!(offered.contains("m=audio 20000 RTP/AVP 111 8 0 9\r\n"), "{offered}");
    callee.receive_answer(body("m=audio 6000 RTP/AVP 8\r\n"), Finality::Final).unwrap();
    let (caller, answered) = answer(body("m=audio 4000 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\n"), callee.remote().unwrap());
    assert!(answered.contains("RTP/AVP 111\r\na=rtpmap:111 opus/48000/2"), "{answered}");
    assert!(!caller.shares_codec(&callee.streams()));
    let (_, offered) = offer(Profile::Plain, &body("m=audio 4000 RTP/AVP 18\r\n"));
    assert!(offered.contains("RTP/AVP 18\r\n"), "what we cannot decode is not promised in another codec: {offered}");
}

#[test]
fn no_line_of_an_offer_can_be_lost_doubled_or_extreme_enough_to_break_a_call() {
    // S18
    let offers = [browser("abcd", "actpass", true), sdes(4000), body(PLAIN)];
    for offered in offers {
        let (leg, _) = answer(offered.clone(), &body(PLAIN));
        let printed = text(&offered.to_bytes());
        let lines: Vec<&str> = printed.lines().collect();
        let extremes = ["0", "-1", "65536", "4294967296", "99999999999999999999", ""];
        for at in 0..lines.len() {
            let changed = |line: &[String]| {
                let all = lines[..at].iter().map(|line| (*line).to_owned()).chain(line.iter().cloned());
                all.chain(lines[at + 1..].iter().map(|line| (*line).to_owned())).map(|line| line + "\r\n").collect::<String>()
            };
            let numbers = extremes.iter().map(|extreme| vec![with_numbers(lines[at], extreme)]);
            let variants = [Vec::new(), vec![lines[at].to_owned(); 2], vec![lines[at].to_owned(); 600]];
            for variant in variants.into_iter().chain(numbers) {
                let Ok(again) = Description::parse(changed(&variant).as_bytes()) else { continue };
                let mut leg = leg.clone();
                if leg.receive_offer(again).is_ok()
                    && let Ok(answered) = leg.make_answer(&body(PLAIN), &local(2))
                {
                    assert_eq!(read(&answered).media.len(), leg.remote().unwrap().media.len());
                }
                let _streams = (leg.streams(), leg.shared(), leg.offer_moves_only());
            }
        }
    }
}

/// A line whose numbers are another one.
fn with_numbers(line: &str, number: &str) -> String {
    let (kind, rest) = line.split_at(2);
    let mut out = kind.to_owned();
    let mut in_number = false;
    for c in rest.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !in_number {
            out.push_str(number);
        }
        in_number = c.is_ascii_digit();
    }
    out
}

#[test]
fn a_browser_is_told_the_sources_of_what_it_gets() {
    let (mut leg, offered) = offer(Profile::WebRtc, &browser("abcd", "actpass", true));
    leg.receive_answer(browser("efgh", "active", true), Finality::Final).unwrap();
    let streams = leg.streams();
    let [sound, picture] = [0, 1].map(|stream: usize| streams[stream].sources.unwrap());
    let cname = source::cname(sound.cname);
    assert_eq!(sound.cname, picture.cname);
    let (audio, video) = offered.split_once("m=video").unwrap();
    assert!(audio.contains(&format!("a=ssrc:{} cname:{cname}\r\n", sound.media)) && !audio.contains("a=ssrc-group"), "{audio}");
    let group = format!("a=ssrc-group:FID {} {}\r\n", picture.media, picture.retransmission);
    assert!(video.contains(&group) && video.matches(&format!(" cname:{cname}\r\n")).count() == 2, "{video}");
    let all = [sound.media, picture.media, picture.retransmission];
    assert!(all.iter().enumerate().all(|(at, ssrc)| !all[..at].contains(ssrc)), "each has its own");

    // An answer, and whatever is offered later, name the same ones.
    let (mut answering, answered) = answer(browser("abcd", "actpass", true), &browser("efgh", "active", true));
    assert_eq!(answering.streams()[1].sources, Some(picture));
    assert!(answered.contains(&group));
    let again = text(&answering.make_offer(&browser("ijkl", "actpass", true), &local(2)).unwrap());
    assert!(again.contains(&group));
}

#[test]
fn a_phone_is_told_no_sources() {
    let (mut leg, offered) = offer(Profile::Sdes, &browser("abcd", "actpass", true));
    assert!(!offered.contains("ssrc:") && !offered.contains("msid"), "{offered}");
    leg.receive_answer(sdes_answer(&offered), Finality::Final).unwrap();
    assert_eq!(leg.streams()[0].sources, None);
}

/// Takes the first stream of an offer.
fn sdes_answer(offered: &str) -> Description {
    body(&format!("m=audio 4000 RTP/SAVP 0\r\na=crypto:{}\r\nm=video 0 RTP/SAVP 96\r\n", value(offered, "crypto")))
}

#[test]
fn sources_stay_while_a_browser_gets_nothing() {
    // Chromium lets a stream go silent for good whose source went away and came back.
    let template = |direction: &str| body(&format!("{PLAIN}a={direction}\r\n"));
    let (mut leg, offered) = offer(Profile::WebRtc, &template("sendrecv"));
    leg.receive_answer(browser("abcd", "active", false), Finality::Final).unwrap();
    let held = text(&leg.make_offer(&template("recvonly"), &local(1)).unwrap());
    assert_eq!((value(&held, "ssrc"), held.contains("a=recvonly")), (value(&offered, "ssrc"), true));
}

#[test]
fn the_peers_wishes_are_those_of_its_own_line() {
    let ms = std::time::Duration::from_millis;
    let opus = |rest: &str| body(&format!("m=audio 4000 RTP/AVP 96 0\r\na=rtpmap:96 opus/48000/2\r\n{rest}"));
    let (mut leg, _) = offer(Profile::Plain, &opus("a=fmtp:96 maxplaybackrate=48000\r\na=ptime:20\r\n"));
    let wishes = "a=fmtp:96 maxplaybackrate=16000;useinbandfec=1;usedtx=1;minptime=30\r\na=ptime:20\r\na=maxptime:40\r\n";
    leg.receive_answer(opus(wishes), Finality::Final).unwrap();
    let wishes = &leg.streams()[0].wishes;
    let (opus, pcmu) = (wishes.parameters(96), wishes.parameters(0));
    assert_eq!((opus.max_playback_rate, opus.use_inband_fec, opus.use_dtx, opus.ptime), (16000, true, true, ms(30)));
    assert_eq!((pcmu.use_inband_fec, pcmu.ptime), (false, ms(20)));
}

#[test]
fn longest_frame_bounds_the_wanted_one() {
    // S18: the two contradict each other, or are extreme
    let ms = std::time::Duration::from_millis;
    for (lines, ptime) in
        [("a=ptime:60\r\na=maxptime:30\r\n", 30), ("a=ptime:30\r\na=ptime:60\r\n", 30), ("a=maxptime:10\r\n", 10), ("a=ptime:0\r\n", 20)]
    {
        let (leg, _) = answer(body(&format!("m=audio 4000 RTP/AVP 0\r\n{lines}")), &body(PLAIN));
        assert_eq!(leg.streams()[0].wishes.parameters(0).ptime, ms(ptime), "{lines}");
    }
}

#[test]
fn key_frame_is_asked_for_by_fir_where_only_that_was_agreed() {
    let video = |feedback: &str| body(&format!("m=video 4002 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\n{feedback}"));
    for (theirs, request) in [
        ("a=rtcp-fb:96 ccm fir\r\n", KeyFrameRequest::Fir),
        ("a=rtcp-fb:* ccm fir\r\na=rtcp-fb:96 nack pli\r\n", KeyFrameRequest::Pli),
        ("a=rtcp-fb:96 nack\r\n", KeyFrameRequest::Pli),
        ("", KeyFrameRequest::Pli),
    ] {
        let (leg, _) = answer(video(theirs), &video(theirs));
        assert_eq!(leg.streams()[0].wishes.key_frame, request, "{theirs}");
    }
}
