//! Two legs of a call exchange descriptions as a B2BUA does it: new calls, holds, late offers, early answers, refusals, and
//! what hostile or broken peers send.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr};

use media::sdp::{
    Description, Direction, MediaKind,
    negotiate::{Error, Finality, Negotiation, StreamAddress, passes_unchanged},
    secret::Secret,
    transport::{Local, Profile, Protection},
};

const AUDIO: &str = "m=audio 4000 RTP/AVP 111 0 8 101\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n";
const VIDEO: &str = "m=video 4010 RTP/AVP 96\r\nb=TIAS:500000\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 profile-level-id=42e01f\r\n";

fn body(from: &str, rest: &str) -> Description {
    Description::parse(format!("v=0\r\no=peer 77 5 IN IP4 {from}\r\ns=secret name\r\nc=IN IP4 {from}\r\nt=0 0\r\n{rest}").as_bytes())
        .unwrap()
}

fn leg(session_id: u64) -> Negotiation {
    Negotiation::new(session_id, Profile::Plain, Protection::Prefer, Secret::default())
}

fn ours(first: u16, count: u16) -> Local {
    let at = |port| SocketAddr::new(IpAddr::from([198, 51, 100, 1]), port);
    let addresses = (0..count).map(|n| StreamAddress { rtp: at(first + 2 * n), rtcp: at(first + 2 * n + 1) }).collect();
    Local { addresses, ..Local::default() }
}

/// The two legs of a call and their ports.
struct Call {
    a: Negotiation,
    b: Negotiation,
    a_port: Local,
    b_port: Local,
}

impl Call {
    fn new() -> Self {
        Self { a: leg(100), b: leg(200), a_port: ours(20000, 2), b_port: ours(30000, 2) }
    }

    fn established() -> Self {
        let mut call = Self::new();
        call.offer(body("192.0.2.1", AUDIO)).unwrap();
        call.answer(body("192.0.2.2", AUDIO)).unwrap();
        call
    }

    /// The caller offers; what the callee is offered.
    fn offer(&mut self, offer: Description) -> Result<String, Error> {
        self.a.receive_offer(offer)?;
        let body = self.b.make_offer(self.a.remote_offer().unwrap(), &self.b_port)?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    /// The callee answers; what the caller is answered.
    fn answer(&mut self, answer: Description) -> Result<String, Error> {
        self.b.receive_answer(answer, Finality::Final)?;
        let body = self.a.make_answer(self.b.remote().unwrap(), &self.a_port)?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }
}

#[test]
fn an_offer_passes_with_our_address_and_the_peers_codecs() {
    let offered = Call::new().offer(body("192.0.2.1", &format!("{AUDIO}{VIDEO}"))).unwrap();
    assert_eq!(
        offered,
        "v=0\r\no=- 100 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
         m=audio 30000 RTP/AVP 111 0 8 101 9 110\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtpmap:9 G722/8000\r\n\
         a=rtpmap:110 telephone-event/48000\r\na=fmtp:110 0-16\r\na=ptime:20\r\na=sendrecv\r\n\
         m=video 30002 RTP/AVP 96\r\nb=TIAS:500000\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 profile-level-id=42e01f\r\na=sendrecv\r\n"
    );
}

#[test]
fn topology_and_transport_of_the_other_side_do_not_pass() {
    let spying = "a=group:BUNDLE a\r\na=ice-lite\r\na=source-filter: incl IN IP4 * 10.1.1.1\r\n\
        m=audio 4000 RTP/AVP 0\r\ni=10.1.1.1\r\na=candidate:1 1 UDP 1 10.1.1.1 4000 typ host\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\n\
        a=fingerprint:sha-1 00\r\na=setup:actpass\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\na=rtcp:4009 IN IP4 10.1.1.1\r\n\
        a=rtcp-mux\r\na=ssrc:1 cname:10.1.1.1\r\na=msid:x\r\na=mid:a\r\na=extmap:1 urn:x\r\na=rtcp-fb:* nack\r\na=X-nat:10.1.1.1\r\n\
        a=rtcp-xr:x\r\na=alt:1 1 : x 10.1.1.1 4000\r\na=label:1\r\n";
    let offered = Call::new().offer(body("192.0.2.1", spying)).unwrap();
    let (_, lines) = offered.split_once("m=audio").unwrap();
    assert_eq!(
        lines,
        " 30000 RTP/AVP 0 8 9 111\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtcp-fb:* nack\r\na=sendrecv\r\n"
    );
    assert!(!offered.contains("10.1.1.1") && !offered.contains("192.0.2.1") && !offered.contains("secret"));
}

#[test]
fn the_answer_has_only_what_both_sides_have() {
    let mut call = Call::new();
    call.offer(body("192.0.2.1", &format!("{AUDIO}{VIDEO}"))).unwrap();
    let answer = "m=audio 5000 RTP/AVP 8 9 101\r\na=rtpmap:101 telephone-event/8000\r\na=recvonly\r\nm=video 0 RTP/AVP 96\r\n";
    let answered = call.answer(body("192.0.2.2", answer)).unwrap();
    let (_, lines) = answered.split_once("m=audio").unwrap();
    // RFC 3264 §6.1: 9 was not offered, which is allowed, but the caller cannot be answered with it.
    assert_eq!(
        lines,
        " 20000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=recvonly\r\nm=video 0 RTP/AVP 96\r\n"
    );
    let (a, b) = (call.a.streams(), call.b.streams());
    assert_eq!((a.len(), b.len()), (1, 1));
    assert_eq!((a[0].direction, b[0].direction), (Direction::RecvOnly, Direction::SendOnly));
    assert_eq!(a[0].remote_rtp, Some("192.0.2.1:4000".parse().unwrap()));
    assert_eq!(b[0].remote_rtcp, Some("192.0.2.2:5001".parse().unwrap()));
    assert_eq!(a[0].receive.iter().map(|f| f.payload_type).collect::<Vec<_>>(), [8, 101]);
    assert_eq!(a[0].send.iter().map(|f| f.payload_type).collect::<Vec<_>>(), [111, 0, 8, 101]);
    assert!(passes_unchanged(&a, &b) && passes_unchanged(&b, &a));
}

#[test]
fn a_dynamic_type_without_rtpmap_means_what_was_offered() {
    let mut call = Call::new();
    call.offer(body("192.0.2.1", AUDIO)).unwrap();
    let answered = call.answer(body("192.0.2.2", "m=audio 5000 RTP/AVP 111\r\n")).unwrap();
    assert!(answered.contains("a=rtpmap:111 opus/48000/2\r\n"));
    assert_eq!(call.b.streams()[0].send[0].clock_rate, 48000);
}

#[test]
fn lines_we_cannot_carry_keep_their_place() {
    let lines =
        format!("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{AUDIO}m=video 9 RTP/SAVPF 96\r\n{VIDEO}m=audio 9/2 RTP/AVP 0\r\n");
    let mut call = Call::new();
    let offered = call.offer(body("192.0.2.1", &lines)).unwrap();
    let m: Vec<&str> = offered.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        m,
        [
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
            "m=audio 30000 RTP/AVP 111 0 8 101 9 110",
            "m=video 0 RTP/SAVPF 96",
            "m=video 30002 RTP/AVP 96",
            "m=audio 0 RTP/AVP 0"
        ]
    );
    let answer =
        format!("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n{AUDIO}m=video 0 RTP/SAVPF 96\r\n{VIDEO}m=audio 0 RTP/AVP 0\r\n");
    let answered = call.answer(body("192.0.2.2", &answer)).unwrap();
    assert_eq!(answered.lines().filter(|line| line.starts_with("m=")).count(), 5);
    let streams: Vec<_> = call.a.streams().iter().map(|stream| (stream.index, stream.line)).collect();
    assert_eq!(streams, [(0, 1), (1, 3)]);
}

#[test]
fn more_streams_than_ports_are_refused_beyond_the_fourth() {
    let mut call = Call::new();
    call.b_port = ours(30000, 6);
    let offer = body("192.0.2.1", &AUDIO.repeat(6));
    assert_eq!(call.b.streams_needed(&offer), 4);
    let offered = call.offer(offer).unwrap();
    assert_eq!(offered.matches("m=audio 0 ").count(), 2);
}

#[test]
fn an_offer_of_nothing_we_can_carry_is_refused_at_once() {
    let mut call = Call::new();
    assert_eq!(call.offer(body("192.0.2.1", "m=audio 4000 RTP/SAVPF 0\r\n")), Err(Error::NothingToCarry));
    assert_eq!(
        call.offer(body("192.0.2.1", "m=audio 4000 RTP/AVP 96 101\r\na=rtpmap:101 telephone-event/8000\r\n")),
        Err(Error::NothingToCarry)
    );
    call.offer(body("192.0.2.1", AUDIO)).expect("the refused offers left nothing behind");
}

#[test]
fn hold_and_resume_pass_in_each_form() {
    for (held, passed, back) in [
        ("a=sendonly\r\n", "a=sendonly", "a=recvonly"),
        ("a=inactive\r\n", "a=inactive", "a=inactive"),
        ("c=IN IP4 0.0.0.0\r\n", "a=sendonly", "a=recvonly"),
        ("c=IN IP4 0.0.0.0\r\na=inactive\r\n", "a=inactive", "a=inactive"),
    ] {
        let mut call = Call::established();
        let offered = call.offer(body("192.0.2.1", &format!("{AUDIO}{held}"))).unwrap();
        assert!(offered.contains(passed), "{held}: {offered}");
        assert!(offered.contains("o=- 100 2 ") && offered.contains("c=IN IP4 198.51.100.1"));
        let answered = call.answer(body("192.0.2.2", &format!("{AUDIO}{back}\r\n"))).unwrap();
        assert!(answered.contains(back), "{held}: {answered}");
        let (a, b) = (call.a.streams(), call.b.streams());
        assert!(!a[0].direction.sends() && !b[0].direction.receives(), "{held}");
        assert_eq!(a[0].remote_rtp.is_none(), held.contains("0.0.0.0"));

        call.offer(body("192.0.2.1", AUDIO)).unwrap();
        call.answer(body("192.0.2.2", AUDIO)).unwrap();
        assert_eq!((call.a.streams()[0].direction, call.b.streams()[0].direction), (Direction::SendRecv, Direction::SendRecv));
    }
}

#[test]
fn an_answer_never_allows_more_than_its_offer() {
    let mut call = Call::established();
    call.offer(body("192.0.2.1", &format!("{AUDIO}a=sendonly\r\n"))).unwrap();
    let answered = call.answer(body("192.0.2.2", AUDIO)).unwrap(); // sendrecv to a sendonly offer
    assert!(answered.contains("a=recvonly"));
    assert_eq!((call.a.streams()[0].direction, call.b.streams()[0].direction), (Direction::RecvOnly, Direction::SendOnly));
}

#[test]
fn the_version_rises_exactly_when_the_body_changes() {
    let mut call = Call::established();
    let first = String::from_utf8(call.a.answer().unwrap().to_vec()).unwrap();
    assert!(first.contains("o=- 50 1 "));
    let offered = call.offer(body("192.0.2.1", AUDIO)).unwrap();
    assert!(offered.contains("o=- 100 1 "), "the same body again: {offered}");
    let answered = call.answer(body("192.0.2.2", AUDIO)).unwrap();
    assert_eq!(answered, first);
    assert!(call.offer(body("192.0.2.1", &format!("{AUDIO}a=inactive\r\n"))).unwrap().contains("o=- 100 2 "));
    call.b.rollback();
    call.a.reject_offer();
    // What was offered and refused was sent all the same: its version is not used again for something else.
    assert!(call.offer(body("192.0.2.1", AUDIO)).unwrap().contains("o=- 100 3 "));
}

#[test]
fn a_late_offer_goes_the_other_way() {
    let mut call = Call::new();
    call.b.receive_offer(body("192.0.2.2", AUDIO)).unwrap();
    call.a.make_offer(call.b.remote_offer().unwrap(), &call.a_port).unwrap();
    call.a.receive_answer(body("192.0.2.1", "m=audio 4000 RTP/AVP 0\r\n"), Finality::Final).unwrap();
    let ack = call.b.make_answer(call.a.remote().unwrap(), &call.b_port).unwrap();
    assert!(String::from_utf8_lossy(&ack).contains("m=audio 30000 RTP/AVP 0\r\n"));
    assert_eq!(call.a.streams()[0].remote_rtp, Some("192.0.2.1:4000".parse().unwrap()));
}

#[test]
fn an_answer_once_given_is_repeated_whoever_picks_up() {
    let mut call = Call::new();
    call.offer(body("192.0.2.1", AUDIO)).unwrap();
    let mut other_device = leg(300);
    let port = ours(40000, 1);
    other_device.make_offer(call.a.remote_offer().unwrap(), &port).unwrap();
    // Early media of the first device …
    call.b.receive_answer(body("192.0.2.2", "m=audio 5000 RTP/AVP 0\r\n"), Finality::Early).unwrap();
    let early = call.a.make_answer(call.b.remote().unwrap(), &call.a_port).unwrap();
    assert_eq!(call.b.streams().len(), 1, "early media flows");
    // … but the second picks up, with another codec.
    other_device.receive_answer(body("192.0.2.3", "m=audio 6000 RTP/AVP 8\r\n"), Finality::Final).unwrap();
    let last = call.a.make_answer(other_device.remote().unwrap(), &call.a_port).unwrap();
    assert_eq!(early, last);
    assert!(!passes_unchanged(&call.a.streams(), &other_device.streams()), "the caller needs a new offer");
    // In its next transaction the caller is answered anew.
    call.a.receive_offer(body("192.0.2.1", AUDIO)).unwrap();
    assert_eq!(call.a.answer(), None);
}

#[test]
fn early_answers_are_replaced_and_the_final_one_counts() {
    let mut call = Call::new();
    call.offer(body("192.0.2.1", AUDIO)).unwrap();
    for port in [5000, 6000] {
        call.b.receive_answer(body("192.0.2.2", &format!("m=audio {port} RTP/AVP 0\r\n")), Finality::Early).unwrap();
        assert_eq!(call.b.streams()[0].remote_rtp.unwrap().port(), port);
        assert!(call.b.has_local_offer());
    }
    call.b.receive_answer(body("192.0.2.2", "m=audio 7000 RTP/AVP 0\r\n"), Finality::Final).unwrap();
    assert_eq!(call.b.streams()[0].remote_rtp.unwrap().port(), 7000);
    assert_eq!(call.b.receive_answer(body("192.0.2.2", AUDIO), Finality::Final), Err(Error::NoOffer), "RFC 3261 §13.2.1");
}

#[test]
fn a_refresh_says_the_same_again_and_concerns_one_leg() {
    let mut call = Call::established();
    let (said, streams) = (call.a.answer().unwrap().clone(), call.a.streams());
    assert_eq!(call.a.repeat_offer().unwrap(), said);
    assert_eq!(call.a.repeat_offer(), Err(Error::OfferPending));
    call.a.receive_answer(body("192.0.2.1", AUDIO), Finality::Final).unwrap();
    assert_eq!(call.a.streams(), streams);
    assert_eq!(leg(1).repeat_offer(), Err(Error::NoOffer));
    // The peer refreshes: answered with the other leg undisturbed.
    call.a.receive_offer(body("192.0.2.1", AUDIO)).unwrap();
    assert!(call.a.offer_moves_only());
    assert_eq!(call.a.make_answer(call.b.remote().unwrap(), &call.a_port).unwrap(), said);
    call.a.receive_offer(body("192.0.2.1", &format!("{AUDIO}a=inactive\r\n"))).unwrap();
    assert!(!call.a.offer_moves_only());
}

#[test]
fn a_failed_reinvite_leaves_all_as_it_was() {
    let mut call = Call::established();
    let before = (call.a.streams(), call.b.streams());
    call.offer(body("192.0.2.9", &format!("{AUDIO}{VIDEO}"))).unwrap();
    call.b.receive_answer(body("192.0.2.8", &format!("{AUDIO}{VIDEO}")), Finality::Early).unwrap();
    assert_eq!(call.b.streams().len(), 2);
    call.b.rollback();
    call.a.reject_offer();
    assert_eq!((call.a.streams(), call.b.streams()), before);
    assert_eq!(call.b.remote().unwrap().connection, body("192.0.2.2", "").connection);
    call.offer(body("192.0.2.1", AUDIO)).expect("both are ready for the next offer");
}

#[test]
fn glare_is_told() {
    let mut call = Call::established();
    call.offer(body("192.0.2.1", AUDIO)).unwrap();
    assert_eq!(call.b.receive_offer(body("192.0.2.2", AUDIO)), Err(Error::OfferPending));
    assert_eq!(call.a.receive_offer(body("192.0.2.1", AUDIO)), Err(Error::OfferPending));
    assert_eq!(call.b.make_offer(&body("192.0.2.1", AUDIO), &call.b_port), Err(Error::OfferPending));
    call.answer(body("192.0.2.2", AUDIO)).expect("the first offer is not disturbed");
}

#[test]
fn inputs_in_the_wrong_state_change_nothing() {
    let mut leg = leg(1);
    assert_eq!(leg.make_answer(&body("192.0.2.1", AUDIO), &ours(2, 1)), Err(Error::NoOffer));
    assert_eq!(leg.receive_answer(body("192.0.2.1", AUDIO), Finality::Final), Err(Error::NoOffer));
    leg.rollback();
    leg.reject_offer();
    leg.make_offer(&body("192.0.2.1", AUDIO), &ours(2, 1)).unwrap();
    leg.reject_offer();
    assert!(leg.has_local_offer(), "only the peer's offer can be refused");
    assert_eq!(leg.make_answer(&body("192.0.2.1", AUDIO), &ours(2, 1)), Err(Error::NoOffer));
    leg.rollback();
    leg.receive_offer(body("192.0.2.1", AUDIO)).unwrap();
    leg.rollback();
    assert!(leg.remote_offer().is_some(), "only our offer can be taken back");
}

#[test]
fn answers_that_break_the_rules_are_told_apart() {
    let offer = format!("{AUDIO}m=video 0 RTP/AVP 96\r\n");
    let mut call = Call::new();
    call.offer(body("192.0.2.1", &offer)).unwrap();
    let line = |line, fault| Error::Line { line, fault };
    for (answer, error) in [
        (AUDIO.to_owned(), Error::LineCount { expected: 2, got: 1 }),
        (format!("{AUDIO}{VIDEO}{VIDEO}"), Error::LineCount { expected: 2, got: 3 }),
        (format!("{VIDEO}m=video 0 RTP/AVP 96\r\n"), line(1, "is of another kind than the offered one")),
        (format!("{AUDIO}{VIDEO}"), line(2, "accepts a stream that was offered as refused")),
        ("m=audio 5 RTP/SAVP 0\r\nm=video 0 RTP/AVP 96\r\n".into(), line(1, "has another profile than the offered one")),
        ("m=audio 5/2 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\n".into(), line(1, "has more than one port")),
        ("m=audio 5 RTP/AVP 18\r\nm=video 0 RTP/AVP 96\r\n".into(), line(1, "has none of the offered codecs")),
        (
            "m=audio 5 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\nm=video 0 RTP/AVP 96\r\n".into(),
            line(1, "has none of the offered codecs"),
        ),
    ] {
        assert_eq!(call.b.receive_answer(body("192.0.2.2", &answer), Finality::Final), Err(error), "{answer}");
        assert!(call.b.has_local_offer());
    }
    call.answer(body("192.0.2.2", &offer)).expect("a right one is still taken");
}

#[test]
fn a_template_of_other_media_answers_nothing() {
    let mut leg = leg(1);
    leg.receive_offer(body("192.0.2.1", "m=audio 4000 RTP/AVP 0\r\n")).unwrap();
    for template in ["m=video 5000 RTP/AVP 0\r\n", "m=audio 5000 RTP/AVP 18\r\n"] {
        assert_eq!(leg.make_answer(&body("192.0.2.2", template), &ours(20000, 1)), Err(Error::NoCommonCodec));
    }
    assert_eq!(
        leg.make_answer(&body("192.0.2.2", "m=audio 5000 RTP/AVP 0\r\n"), &Local::none()),
        Err(Error::NoCommonCodec),
        "no port to answer with"
    );
    let refused = leg.make_answer(&body("192.0.2.2", "m=audio 0 RTP/AVP 0\r\n"), &ours(20000, 1)).expect("the other side refused it");
    assert!(refused.ends_with(b"m=audio 0 RTP/AVP 0\r\n"));
}

#[test]
fn a_line_once_there_stays_there() {
    let mut call = Call::new();
    call.offer(body("192.0.2.1", &format!("{AUDIO}{VIDEO}"))).unwrap();
    call.answer(body("192.0.2.2", &format!("{AUDIO}{VIDEO}"))).unwrap();
    assert_eq!(call.a.receive_offer(body("192.0.2.1", AUDIO)), Err(Error::FewerLines { expected: 2, got: 1 }));
    // A template of another call may have fewer lines: the rest is offered as ended (RFC 3264 §8.2).
    let offered = call.b.make_offer(&body("192.0.2.7", AUDIO), &call.b_port).unwrap();
    assert!(String::from_utf8_lossy(&offered).ends_with("m=video 0 RTP/AVP 96\r\n"));
    call.b.receive_answer(body("192.0.2.2", &format!("{AUDIO}m=video 0 RTP/AVP 96\r\n")), Finality::Final).unwrap();
    assert_eq!(call.b.streams().len(), 1);
}

#[test]
fn video_added_later_gets_the_next_stream() {
    let mut call = Call::established();
    let offer = body("192.0.2.1", &format!("{AUDIO}{VIDEO}"));
    assert_eq!(call.b.streams_needed(&offer), 2);
    call.offer(offer).unwrap();
    call.answer(body("192.0.2.2", &format!("{AUDIO}{VIDEO}"))).unwrap();
    let kinds: Vec<_> = call.b.streams().into_iter().map(|stream| (stream.index, stream.kind)).collect();
    assert_eq!(kinds, [(0, MediaKind::Audio), (1, MediaKind::Video)]);
    // Audio ends, video stays on its port.
    let ended = format!("{}{VIDEO}", AUDIO.replace("4000", "0"));
    call.offer(body("192.0.2.1", &ended)).unwrap();
    call.answer(body("192.0.2.2", &ended)).unwrap();
    assert_eq!(call.b.streams().iter().map(|stream| stream.index).collect::<Vec<_>>(), [1]);
}

#[test]
fn rtcp_goes_where_the_peer_says() {
    let mut call = Call::new();
    call.offer(body("192.0.2.1", "m=audio 4000 RTP/AVP 0\r\na=rtcp:4567 IN IP4 192.0.2.11\r\na=rtcp-mux\r\n")).unwrap();
    let answered = call.answer(body("192.0.2.2", "m=audio 65535 RTP/AVP 0\r\n")).unwrap();
    assert!(answered.contains("a=rtcp-mux"), "accepted from who offers it");
    let (a, b) = (call.a.streams(), call.b.streams());
    assert!(a[0].rtcp_mux && !b[0].rtcp_mux);
    assert_eq!(a[0].remote_rtcp, a[0].remote_rtp);
    assert_eq!(b[0].remote_rtcp, None, "there is no port after 65535");
    let offered = call.a.make_offer(&body("192.0.2.2", AUDIO), &call.a_port).unwrap();
    assert!(String::from_utf8_lossy(&offered).contains("a=rtcp-mux"), "and kept");

    call = Call::new();
    call.b_port.addresses[0].rtcp.set_port(31111);
    let offered = call.offer(body("192.0.2.1", "m=audio 4000 RTP/AVP 0\r\na=rtcp:4567\r\n")).unwrap();
    assert!(offered.contains("a=rtcp:31111 IN IP4 198.51.100.1"));
    call.answer(body("192.0.2.2", "m=audio 5000 RTP/AVP 0\r\n")).unwrap();
    assert_eq!(call.a.streams()[0].remote_rtcp, Some("192.0.2.1:4567".parse().unwrap()));
}

#[test]
fn a_host_name_or_ipv6_address_is_taken_for_what_it_is() {
    let mut call = Call::new();
    let named =
        Description::parse(b"v=0\r\no=- 1 1 IN IP4 x\r\ns=-\r\nc=IN IP4 media.example.com\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n").unwrap();
    call.offer(named).unwrap();
    call.answer(body("192.0.2.2", "c=IN IP6 2001:db8::2\r\nm=audio 6 RTP/AVP 0\r\nc=IN IP6 2001:db8::3\r\n")).unwrap();
    assert_eq!(call.a.streams()[0].remote_rtp, None);
    assert!(call.a.streams()[0].direction.sends(), "it does receive, we only do not know where yet");
    assert_eq!(call.b.streams()[0].remote_rtp, Some("[2001:db8::3]:6".parse().unwrap()));
}

#[test]
fn each_attribute_removed_doubled_or_extreme_ends_no_call() {
    // S18
    let lines: Vec<&str> = AUDIO.lines().chain(["a=sendrecv", "a=maxptime:60", "b=AS:64", "a=rtcp:4001"]).collect();
    let extreme =
        |line: &str| line.chars().map(|c| if c.is_ascii_digit() { "9999999999".to_owned() } else { c.to_string() }).collect::<String>();
    for change in 1..lines.len() {
        let pick = |how: &str| -> String {
            let changed = lines.iter().enumerate().flat_map(|(index, line)| match how {
                "removed" if index == change => vec![],
                "doubled" if index == change => vec![(*line).to_owned(); 2],
                "extreme" if index == change => vec![extreme(line)],
                _ => vec![(*line).to_owned()],
            });
            changed.map(|line| line + "\r\n").collect()
        };
        for how in ["removed", "doubled", "extreme"] {
            let mut call = Call::established();
            let offered = call.offer(body("192.0.2.1", &pick(how))).unwrap_or_else(|error| panic!("{how} {}: {error}", lines[change]));
            assert!(!offered.contains("99999"), "{how}: {offered}");
            let answered = call.answer(body("192.0.2.2", &pick(how))).unwrap_or_else(|error| panic!("{how} {}: {error}", lines[change]));
            assert_eq!(answered.matches("m=").count(), 1);
            assert_eq!(Description::parse(answered.as_bytes()).unwrap().to_bytes(), answered.as_bytes());
            assert_eq!(call.a.streams().len(), 1);
        }
    }
}
