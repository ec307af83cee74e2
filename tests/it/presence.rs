//! Presence over SIP: who may watch whom, what watchers are told of registrations and calls, and what PUBLISH adds to it.

use serde_json::{Value, json};
use sip::message::Name;
use sip::{Request, Transport};

use super::harness::{Phone, SDP, Switch, switch, text};
use super::web::Client;

/// Subscribes; returns the status of the answer.
async fn subscribe(phone: &mut Phone, user: &str, event: &str, more: &str) -> u16 {
    let uri = format!("sip:{user}@tandem.test");
    let request = phone.write("SUBSCRIBE", &uri, &format!("<{uri}>"), &format!("Event: {event}\r\nExpires: 600\r\n{more}"), "");
    phone.ask(request).await.status.code()
}

/// Waits for a NOTIFY, answers it, and returns its Subscription-State and its body.
async fn notified(phone: &mut Phone) -> (Request, String, String) {
    let notify = phone.request().await;
    assert_eq!(notify.method.as_str(), "NOTIFY");
    phone.answer(&notify, "200 OK").await;
    let state = String::from_utf8(notify.headers.get(Name::SubscriptionState).unwrap().to_vec()).unwrap();
    let body = String::from_utf8(notify.body.to_vec()).unwrap();
    (notify, state, body)
}

async fn publish(phone: &mut Phone, user: &str, more: &str, body: &str) -> (u16, String) {
    let uri = format!("sip:{user}@tandem.test");
    let kind = if body.is_empty() { "" } else { "Content-Type: application/pidf+xml\r\n" };
    let mut request = phone.write("PUBLISH", &uri, &format!("<{uri}>"), &format!("Event: presence\r\n{kind}{more}"), "");
    request.headers.set(Name::ContentLength, body.len().to_string());
    request.body = body.to_owned().into();
    let response = phone.ask(request).await;
    (response.status.code(), text(&response, Name::SipEtag))
}

fn document(activity: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:bob@tandem.test\"><tuple id=\"1\"><status>\
         <basic>open</basic></status></tuple><person><activities><{activity}/></activities></person></presence>"
    )
}

#[tokio::test]
async fn a_watcher_is_told_when_a_user_registers_and_leaves() {
    switch("", async |switch: &Switch| {
        let mut ann = switch.phone("ann", Transport::Udp).await;
        let mut bob = switch.phone("bob", Transport::Udp).await;
        assert_eq!(subscribe(&mut ann, "bob", "presence", "").await, 200);
        let (notify, state, body) = notified(&mut ann).await;
        assert_eq!(state, "active;expires=600");
        assert_eq!(notify.headers.get(Name::ContentType), Some(&b"application/pidf+xml"[..]));
        assert!(body.contains("<basic>closed</basic>"), "{body}");
        assert_eq!(bob.register(600).await, 200);
        assert!(notified(&mut ann).await.2.contains("<basic>open</basic>"));
        assert_eq!(bob.register(0).await, 200);
        assert!(notified(&mut ann).await.2.contains("<basic>closed</basic>"));
    })
    .await;
}

#[tokio::test]
async fn a_lamp_follows_a_call_and_shows_no_more_than_the_watcher_may_see() {
    switch("", async |switch: &Switch| {
        let mut ann = switch.phone("ann", Transport::Udp).await;
        let mut bob = switch.phone("bob", Transport::Udp).await;
        let mut lamp = switch.phone("ann", Transport::Tcp).await;
        let mut desk = switch.phone("bob", Transport::Tcp).await;
        assert_eq!(bob.register(600).await, 200);
        assert_eq!(subscribe(&mut lamp, "bob", "dialog", "Accept: application/dialog-info+xml\r\n").await, 200);
        assert!(notified(&mut lamp).await.2.contains("version=\"0\" state=\"full\" entity=\"sip:bob@tandem.test\""));
        assert_eq!(subscribe(&mut desk, "bob", "dialog", "").await, 200);
        notified(&mut desk).await;

        let call = async {
            let invite = ann.invite("bob").await;
            ann.ask(invite).await
        };
        let ring = async {
            let invite = bob.request().await;
            bob.answer(&invite, "180 Ringing").await;
            let early = notified(&mut lamp).await.2;
            assert!(early.contains("direction=\"recipient\"><state>early</state><local>"), "{early}");
            assert!(!early.contains("call-id") && !early.contains("remote"), "{early}");
            // Bob's own other phone sees who rings, and what it needs to take the call
            let own = loop {
                let own = notified(&mut desk).await.2;
                if own.contains("local-tag=\"bob\"") {
                    break own;
                }
            };
            assert!(own.contains("<state>early</state>") && own.contains("sip:ann@tandem.test"), "{own}");
            let call_id = String::from_utf8(invite.headers.get(Name::CallId).unwrap().to_vec()).unwrap();
            assert!(own.contains(&format!("call-id=\"{call_id}\"")), "{own}");
            let tag = invite.from_tag().unwrap();
            assert!(own.contains(&format!("remote-tag=\"{tag}\"")), "{own}");
            bob.answer(&invite, "200 OK").await;
        };
        let (answered, ()) = tokio::join!(call, ring);
        assert_eq!(answered.status.code(), 200);
        let ack = ann.within("ACK", &answered);
        ann.send(&ack).await;
        loop {
            if notified(&mut lamp).await.2.contains("<state>confirmed</state>") {
                break;
            }
        }
        let bye = ann.within("BYE", &answered);
        ann.send(&bye).await;
        let over = notified(&mut lamp).await.2;
        assert!(over.contains("<state>terminated</state>"), "{over}");
    })
    .await;
}

#[tokio::test]
async fn what_a_device_publishes_reaches_the_watchers() {
    switch("", async |switch: &Switch| {
        let mut ann = switch.phone("ann", Transport::Tcp).await;
        let mut bob = switch.phone("bob", Transport::Udp).await;
        assert_eq!(subscribe(&mut ann, "bob", "presence", "").await, 200);
        notified(&mut ann).await;
        let (status, tag) = publish(&mut bob, "bob", "", &document("away")).await;
        assert_eq!((status, tag.len()), (200, 16));
        assert!(notified(&mut ann).await.2.contains("<rpid:away/>"));
        let (status, next) = publish(&mut bob, "bob", &format!("SIP-If-Match: {tag}\r\n"), &document("busy")).await;
        assert_eq!(status, 200);
        assert!(notified(&mut ann).await.2.contains("<rpid:busy/>"));
        assert_eq!(publish(&mut bob, "bob", &format!("SIP-If-Match: {tag}\r\n"), "").await.0, 412);
        assert_eq!(publish(&mut bob, "bob", &format!("SIP-If-Match: {next}\r\nExpires: 0\r\n"), "").await.0, 200);
        assert!(!notified(&mut ann).await.2.contains("rpid:activities"));
    })
    .await;
}

#[tokio::test]
async fn a_lamp_is_of_the_address_that_the_phone_asked_for() {
    let numbers = "[[user]]\nname = \"carol\"\npassword = \"carol-secret\"\nnumbers = [\"503\"]\n";
    switch(numbers, async |switch: &Switch| {
        for (event, asked) in [("dialog", "503"), ("presence", "503"), ("dialog", "carol")] {
            let mut ann = switch.phone("ann", Transport::Udp).await;
            assert_eq!(subscribe(&mut ann, asked, event, "").await, 200);
            let body = notified(&mut ann).await.2;
            assert!(body.contains(&format!("entity=\"sip:{asked}@tandem.test\"")), "{body}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_watched_or_published_is_refused() {
    // S5
    switch("", async |switch: &Switch| {
        let mut ann = switch.phone("ann", Transport::Tcp).await;
        for method in ["SUBSCRIBE", "PUBLISH"] {
            let request = ann.write(method, "sip:bob@tandem.test", "<sip:bob@tandem.test>", "Event: presence\r\n", "");
            ann.send(&request.encode()).await;
            assert_eq!(ann.response().await.status.code(), 407, "a stranger's {method}");
        }
        for (user, event, more, status) in [
            ("bob", "message-summary", "", 489),
            ("bob", "Presence", "", 489),
            ("bob", ";x", "", 400),
            ("bob", "presence", "Accept: text/plain\r\n", 406),
            ("nobody", "presence", "", 404),
            ("bob", "presence", "Require: eventlist\r\n", 420),
        ] {
            assert_eq!(subscribe(&mut ann, user, event, more).await, status, "{user} {event} {more}");
        }
        for (user, more, body, status) in [
            ("bob", "", document("away"), 403),
            ("ann", "Expires: 10\r\n", document("away"), 423),
            ("ann", "SIP-If-Match: x\r\n", document("away"), 412),
            ("ann", "", String::new(), 400),
            ("ann", "", "<!DOCTYPE presence><presence/>".to_owned(), 400),
        ] {
            assert_eq!(publish(&mut ann, user, more, &body).await.0, status, "{user} {more} {body}");
        }
        let uri = "sip:ann@tandem.test";
        let request = ann.write("PUBLISH", uri, &format!("<{uri}>"), "Event: presence\r\n", SDP);
        let response = ann.ask(request).await;
        assert_eq!((response.status.code(), text(&response, Name::Accept)), (415, "application/pidf+xml".to_owned()));
        let request = ann.write("SUBSCRIBE", uri, &format!("<{uri}>"), "", "");
        let response = ann.ask(request).await;
        assert_eq!((response.status.code(), text(&response, Name::AllowEvents)), (489, "presence, dialog".to_owned()));
        let mut spoof = ann.write("SUBSCRIBE", uri, &format!("<{uri}>"), "Event: presence\r\n", "");
        spoof.headers.set(Name::From, "<sip:bob@tandem.test>;tag=ann");
        assert_eq!(ann.ask(spoof).await.status.code(), 403);
        let mut trunk = switch.phone_at("trunk", Transport::Udp, super::harness::TRUNK).await;
        assert_eq!(subscribe(&mut trunk, "bob", "presence", "").await, 403);
        assert_eq!(publish(&mut trunk, "bob", "", &document("away")).await.0, 403);
    })
    .await;
}

const WEB: &str = "[http]\nlisten = [\"127.0.66.1:0\"]\nplain = true\n";

fn ok(reply: &Value) -> &Value {
    assert_eq!(reply["response"], 0, "{reply}");
    &reply["body"]
}

#[tokio::test]
async fn applications_and_watchers_see_the_same() {
    switch(WEB, async |switch: &Switch| {
        let mut ann = switch.phone("ann", Transport::Udp).await;
        let mut bob = switch.phone("bob", Transport::Udp).await;
        let application = Client::sign_in(switch.address(Transport::Ws), "ann").await;
        let mut events = application.socket(None).await;
        let listing = events.ask("presence", "get", json!({ "addresses": ["sip:%62ob@tandem.test:5060"], "subscribe": true })).await;
        assert_eq!(ok(&listing)["users"][0]["presence"]["telephony"], "offline");
        assert_eq!(subscribe(&mut ann, "bob", "presence", "").await, 200);
        notified(&mut ann).await;
        assert_eq!(bob.register(600).await, 200);
        assert_eq!(events.event("presence").await["body"]["presence"]["telephony"], "idle");
        assert!(notified(&mut ann).await.2.contains("open"));
        // Bob says by an application how he is
        let bobs = Client::sign_in(switch.address(Transport::Ws), "bob").await;
        let past = bobs.ask("presence", "set", json!({ "status": "away", "until": 5 })).await;
        assert_eq!((&past["body"]["error"], &past["body"]["field"]), (&json!("bad-message"), &json!("until")));
        let set = bobs.ask("presence", "set", json!({ "status": "do-not-disturb", "note": "writing" })).await;
        assert_eq!(ok(&set)["users"][0]["presence"]["status"], "do-not-disturb");
        assert_eq!(events.event("presence").await["body"]["presence"]["note"], "writing");
        let body = notified(&mut ann).await.2;
        assert!(body.contains("<rpid:busy/>") && body.contains("writing"), "{body}");
        // and his phone says something else: what he says himself counts until he takes it back
        assert_eq!(publish(&mut bob, "bob", "", &document("away")).await.0, 200);
        ok(&bobs.ask("presence", "set", json!({})).await);
        assert_eq!(events.event("presence").await["body"]["presence"]["status"], "away");
        assert!(notified(&mut ann).await.2.contains("<rpid:away/>"));
    })
    .await;
}

#[tokio::test]
async fn who_loses_the_right_to_watch_is_told_no_more() {
    // S5, S15
    switch(WEB, async |switch: &Switch| {
        let mut ann = switch.phone("ann", Transport::Udp).await;
        let mut bob = switch.phone("bob", Transport::Udp).await;
        assert_eq!(subscribe(&mut ann, "bob", "presence", "").await, 200);
        notified(&mut ann).await;
        let change = json!({ "user": "ann", "right": "presence.get", "reach": "own" });
        ok(&super::http::host(switch, "permission", "set", change).await);
        assert_eq!(bob.register(600).await, 200);
        let (_, state, body) = notified(&mut ann).await;
        assert_eq!((&*state, &*body), ("terminated;reason=rejected", ""));
        assert_eq!(subscribe(&mut ann, "bob", "presence", "").await, 403);
    })
    .await;
}

#[tokio::test]
async fn nobody_watches_a_user_who_is_removed() {
    switch(WEB, async |switch: &Switch| {
        let eve = json!({ "user": "eve", "password": "eve-secret" });
        ok(&super::http::host(switch, "admin", "add-user", eve.clone()).await);
        let (mut lamp, mut list) = (switch.phone("ann", Transport::Udp).await, switch.phone("ann", Transport::Udp).await);
        for (phone, event) in [(&mut lamp, "dialog"), (&mut list, "presence")] {
            assert_eq!(subscribe(phone, "eve", event, "").await, 200);
            notified(phone).await;
        }
        ok(&super::http::host(switch, "admin", "remove-user", json!({ "user": "eve" })).await);
        ok(&super::http::host(switch, "admin", "add-user", eve).await);
        for phone in [&mut lamp, &mut list] {
            assert_eq!(notified(phone).await.1, "terminated;reason=noresource");
        }
    })
    .await;
}
