//! Dialogs that messages name: Replaces (RFC 3891) and Target-Dialog (RFC 4538).

use bytes::Bytes;
use sip::endpoint::Named;
use sip::message::{Headers, Message, Name, parse::parse};
use sip::{DialogId, Request, StatusCode};

use super::bench::*;

fn invite_with(more: &str) -> Request {
    request_with("INVITE", more)
}

fn request_with(method: &str, more: &str) -> Request {
    match parse(Bytes::from(outside(method, 1, "r1", more, ""))) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn replaces(call: &str, to: &str, from: &str) -> Request {
    invite_with(&format!("Replaces: {call};to-tag={to};from-tag={from}\r\n"))
}

fn early_only(call: &str, to: &str, from: &str) -> Request {
    invite_with(&format!("Replaces: {call};early-only;to-tag={to};from-tag={from}\r\n"))
}

/// A call of ours that rings with the peer's tag `p`; returns its Call-ID and our tag.
fn ringing(bench: &mut Bench) -> (DialogId, String, String) {
    let dialog = bench.place();
    let sent = bench.one();
    bench.receive(&answer(&sent, "180 Ringing", "p", CONTACT));
    let _ = bench.events();
    (dialog, sent.get(Name::CallId), sent.request().from_tag().unwrap().to_string())
}

#[test]
fn an_established_dialog_is_found_by_its_call_id_and_both_tags() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    assert_eq!(bench.endpoint.replaced(&replaces("call", &tag, "p")), Ok(Some(Named::Established(dialog))));
    assert_eq!(bench.endpoint.replaced(&invite_with("")), Ok(None));
    for wrong in [replaces("call", "p", &tag), replaces("other", &tag, "p"), replaces("call", &tag, "q"), replaces("call", "x", "p")] {
        assert_eq!(bench.endpoint.replaced(&wrong), Err(StatusCode::NO_TRANSACTION));
    }
}

#[test]
fn early_only_spares_an_established_dialog() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    assert_eq!(bench.endpoint.replaced(&early_only("call", &tag, "p")), Err(StatusCode::BUSY_HERE));
    let (early, call, ours) = ringing(&mut bench);
    assert_eq!(bench.endpoint.replaced(&early_only(&call, &ours, "p")), Ok(Some(Named::Calling(early))));
}

#[test]
fn an_early_dialog_counts_only_if_we_began_it() {
    let mut bench = Bench::new();
    let (early, call, ours) = ringing(&mut bench);
    assert_eq!(bench.endpoint.replaced(&replaces(&call, &ours, "p")), Ok(Some(Named::Calling(early))));
    assert_eq!(bench.endpoint.replaced(&replaces(&call, &ours, "q")), Err(StatusCode::NO_TRANSACTION), "no such fork");

    let mut bench = Bench::new();
    let dialog = bench.take(&invite(1, ""));
    bench.endpoint.progress(bench.now, dialog, StatusCode::RINGING, Bytes::new()).unwrap();
    let tag = bench.left()[1].response().to_tag().unwrap();
    assert_eq!(bench.endpoint.replaced(&replaces("call", &tag, "p")), Err(StatusCode::NO_TRANSACTION));
    assert_eq!(bench.endpoint.named("call", &tag, "p"), Some(Named::Incoming(dialog)), "a REFER may name it nevertheless");
}

#[test]
fn a_dialog_that_has_ended_is_declined() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    bench.receive(&inside("BYE", 2, "b", &tag, "", ""));
    assert_eq!(bench.endpoint.replaced(&replaces("call", &tag, "p")), Err(StatusCode::DECLINE));
    for strange in ["", "00", &"0".repeat(32), &tag[..31], &"\u{e9}".repeat(16)] {
        assert_eq!(bench.endpoint.replaced(&replaces("call", &format!("x{strange}"), "p")), Err(StatusCode::NO_TRANSACTION));
    }
}

#[test]
fn replaces_that_is_malformed_doubled_or_beside_join_is_400() {
    let mut bench = Bench::new();
    let (_, tag) = bench.answered();
    let good = format!("Replaces: call;to-tag={tag};from-tag=p\r\n");
    for more in ["Replaces: call\r\n", &format!("{good}{good}"), &format!("{good}Join: call;to-tag=1;from-tag=2\r\n")] {
        assert_eq!(bench.endpoint.replaced(&invite_with(more)), Err(StatusCode::BAD_REQUEST), "{more}");
    }
    assert_eq!(bench.endpoint.replaced(&request_with("MESSAGE", &good)), Err(StatusCode::BAD_REQUEST));
    bench.receive(&inside("INFO", 2, "n", &tag, &good, ""));
    assert_eq!(bench.one().status(), 400);
    assert!(bench.events().is_empty());
}

#[test]
fn an_invite_of_ours_can_take_the_place_of_a_dialog() {
    let mut bench = Bench::new();
    let (dialog, invite) = bench.placed();
    let replaces = bench.endpoint.replaces(dialog).expect("it is established");
    assert_eq!((&*replaces.to_tag, &*replaces.from_tag), ("p", &*invite.request().from_tag().unwrap()));
    assert_eq!(replaces.call_id, invite.get(Name::CallId));
    let mut headers = Headers::default();
    headers.push(Name::Replaces, replaces.to_string());
    headers.push(Name::Require, "replaces");
    bench.place_with(headers);
    let sent = bench.one();
    assert_eq!(sent.get(Name::Replaces), replaces.to_string());
    assert_eq!(sent.get(Name::Require), "replaces");
    let ringing = bench.place();
    assert_eq!(bench.endpoint.replaces(ringing), None, "the peer has no tag yet");
}

#[test]
fn target_dialog_finds_the_dialog_from_either_end() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.answered();
    let target =
        |local: &str, remote: &str| request_with("REFER", &format!("Target-Dialog: call;local-tag={local};remote-tag={remote}\r\n"));
    for request in [target("p", &tag), target(&tag, "p")] {
        assert_eq!(bench.endpoint.target_dialog(&request), Ok(Some(Named::Established(dialog))));
    }
    assert_eq!(bench.endpoint.target_dialog(&target("q", &tag)), Err(StatusCode::NO_TRANSACTION));
    assert_eq!(bench.endpoint.target_dialog(&request_with("REFER", "Target-Dialog: call\r\n")), Err(StatusCode::BAD_REQUEST));
    assert_eq!(bench.endpoint.target_dialog(&request_with("REFER", "")), Ok(None));
}
