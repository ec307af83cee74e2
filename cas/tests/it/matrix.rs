//! Who may do what with whose object: every operation of every topic, every kind of caller, own and others' objects, over HTTP and
//! over a stream. What is refused is refused with the name of the right, and before the switch was asked to change anything (S15).

use std::collections::BTreeMap;

use cas::message::Encoding;
use cas::permission::{Caller, Pattern, Reach, Right, Rights, Role};
use cas::server::{Channel, Peer, StreamId};
use cas::topic::tel::{PartyState, State};
use cas::topic::{Mode, OPERATIONS};
use serde_json::{Value, json};

use crate::host::{Host, bytes, call, caller, entry, user};
use Reach::{All, None as Nowhere, Own};

/// What a row of the matrix is about.
#[derive(Clone, Copy, PartialEq)]
enum Object {
    /// No object: the operation as a whole, or what belongs to the login itself.
    Service,
    /// Ann's.
    Anns,
    /// The switch's: only a reach to all passes.
    Nobodys,
}
use Object::{Anns, Nobodys, Service};

/// Every operation: how far a user has it, what its object is, and a body that names Ann's.
fn rows() -> Vec<(&'static str, Reach, Object, Value)> {
    let on = |state: &str| json!({ "call": state, "user": "ann" });
    let with = |state: &str, more: Value| {
        let mut body = on(state);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let login = json!({ "user": "ann", "password": "ann-secret" });
    vec![
        ("login.login", Own, Service, login),
        ("login.refresh", Own, Service, json!({})),
        ("login.logout", Own, Service, json!({})),
        ("login.list", Own, Anns, json!({ "user": "ann" })),
        ("login.revoke", Own, Anns, json!({ "login": 1 })),
        ("tel.make-call", Own, Anns, json!({ "destination": "501", "user": "ann" })),
        ("tel.answer", Own, Anns, on("ringing")),
        ("tel.decline", Own, Anns, on("ringing")),
        ("tel.hold", Own, Anns, on("talking")),
        ("tel.resume", Own, Anns, on("held")),
        ("tel.drop", Own, Anns, on("talking")),
        ("tel.transfer", Own, Anns, with("talking", json!({ "destination": "502" }))),
        ("tel.conference", Own, Anns, with("talking", json!({ "destinations": ["502"] }))),
        ("tel.mute", Own, Anns, on("meeting")),
        ("tel.unmute", Own, Anns, with("meeting", json!({ "party": "bob" }))),
        ("tel.lock", Own, Anns, on("meeting")),
        ("tel.unlock", Own, Anns, on("meeting")),
        ("tel.kick", Own, Anns, with("meeting", json!({ "party": "bob" }))),
        ("tel.moderate", Own, Anns, with("meeting", json!({ "party": "bob" }))),
        ("tel.park", Own, Anns, on("talking")),
        ("tel.pickup", Own, Anns, on("parked")),
        ("tel.pickup", Own, Anns, json!({ "slot": "7", "user": "ann" })),
        ("tel.dtmf", Own, Anns, with("talking", json!({ "digits": "1" }))),
        ("tel.move", Own, Anns, with("talking", json!({ "device": "desk" }))),
        ("tel.split", Own, Anns, with("talking", json!({ "audio": "desk", "video": "app" }))),
        ("tel.negotiate", Own, Anns, with("talking", json!({ "sdp": "v=0\r\n" }))),
        ("tel.register", Own, Service, json!({})),
        ("tel.unregister", Own, Service, json!({})),
        ("tel.list", Own, Anns, json!({ "user": "ann" })),
        ("tel.show", Own, Anns, json!({ "call": "talking" })),
        ("tel.why", Own, Anns, json!({ "call": "talking" })),
        ("graph.get", Own, Anns, json!({ "call": "talking" })),
        ("history.list", Own, Anns, json!({ "user": "ann" })),
        ("history.note", Own, Anns, json!({ "entry": "1", "text": "x" })),
        ("history.delete", Own, Anns, json!({ "entry": "1" })),
        // Presence of users whom the caller may not see is left out; see `presence_is_left_out`.
        ("presence.get", All, Service, json!({ "users": ["ann"] })),
        ("presence.set", Own, Anns, json!({ "user": "ann", "status": "away" })),
        ("subscription.add", Own, Service, json!({ "topic": "tel" })),
        ("subscription.modify", Own, Service, json!({ "id": 1 })),
        ("subscription.delete", Own, Service, json!({ "id": 1 })),
        ("subscription.list", Own, Service, json!({})),
        ("permission.get", Own, Anns, json!({ "user": "ann" })),
        ("permission.set", Nowhere, Anns, json!({ "user": "ann", "right": "tel.hold", "reach": "none" })),
        ("permission.set-role", Nowhere, Anns, json!({ "user": "ann", "role": "user" })),
        ("permission.set-history-days", Nowhere, Anns, json!({ "user": "ann", "days": 3 })),
        ("admin.list-users", Nowhere, Nobodys, json!({})),
        ("admin.add-user", Nowhere, Nobodys, json!({ "user": "new", "password": "x" })),
        ("admin.set-user", Nowhere, Anns, json!({ "user": "ann", "password": "x" })),
        ("admin.remove-user", Nowhere, Nobodys, json!({ "user": "gone" })),
        ("admin.list-devices", Own, Anns, json!({ "user": "ann" })),
        ("admin.remove-device", Own, Anns, json!({ "user": "ann", "device": "desk" })),
        ("admin.list-numbers", Nowhere, Nobodys, json!({})),
        ("admin.add-number", Nowhere, Nobodys, json!({ "number": "5", "user": "ann" })),
        ("admin.remove-number", Nowhere, Nobodys, json!({ "number": "5" })),
        ("admin.list-keys", Nowhere, Nobodys, json!({})),
        ("admin.add-key", Nowhere, Nobodys, json!({ "key": "k", "user": "ann", "scopes": ["tel.*"] })),
        ("admin.remove-key", Nowhere, Nobodys, json!({ "key": "k" })),
        ("admin.status", Nowhere, Nobodys, json!({})),
        ("admin.drain", Nowhere, Nobodys, json!({ "stay": true })),
        ("plugin.register", Nowhere, Service, json!({ "topics": ["x"], "version": 1 })),
        ("plugin.unregister", Nowhere, Service, json!({})),
        ("plugin.publish", Nowhere, Service, json!({ "topic": "x", "message": "y" })),
        ("plugin.list", Nowhere, Service, json!({})),
        ("event.get-event", Own, Service, json!({ "wait": 0 })),
        ("bulk.bulk", Own, Service, json!({ "requests": [{}] })),
    ]
}

/// Every kind of caller: name, rights, scopes of their key, and how far they have the right in question.
fn callers(right: &str, default: Reach) -> Vec<(&'static str, Rights, Option<String>, Reach)> {
    let with = |role, rules: &[(&str, Reach)]| {
        let exceptions = rules.iter().map(|(pattern, reach)| (Pattern::parse(pattern).unwrap(), *reach)).collect();
        Rights { exceptions, ..Rights::of(role) }
    };
    let topic = format!("{}.*", right.split('.').next().unwrap());
    let is_vital = ["subscription.", "event.", "bulk."].iter().any(|topic| right.starts_with(topic))
        || ["login.refresh", "login.logout", "permission.get"].contains(&right);
    let vital = if is_vital { Own } else { Nowhere };
    vec![
        ("ann", with(Role::User, &[]), None, default),
        ("eve", with(Role::User, &[]), None, default),
        ("root", with(Role::Administrator, &[]), None, All),
        ("app", with(Role::Application, &[]), None, vital),
        ("app", with(Role::Application, &[(right, Own)]), None, Own),
        ("ann", with(Role::User, &[(right, Nowhere)]), None, Nowhere),
        ("ann", with(Role::User, &[(&topic, Nowhere)]), None, Nowhere),
        ("eve", with(Role::User, &[(right, All)]), None, All),
        ("eve", with(Role::User, &[("*", All), (right, Own)]), None, Own),
        ("root", with(Role::Administrator, &[(right, Nowhere)]), None, Nowhere),
        ("root", with(Role::Administrator, &[]), Some("other.thing".into()), vital),
        ("root", with(Role::Administrator, &[]), Some(format!("other.*,{right}")), All),
        ("ann", with(Role::User, &[]), Some("*".into()), default),
        ("ann", with(Role::User, &[]), Some(topic.clone()), default),
        ("eve", with(Role::User, &[]), Some(right.to_owned()), default),
    ]
}

/// The same request for something that is not there, and what it names; none where it names nothing.
fn of_nothing(body: &Value) -> Option<(Value, &'static str)> {
    let names = [("call", json!("gone")), ("entry", json!("gone")), ("login", json!(999)), ("user", json!("nobody"))];
    let (name, value) = names.into_iter().find(|(name, _)| body.get(name).is_some())?;
    let mut body = body.clone();
    body[name] = value;
    Some((body, name))
}

fn host() -> Host {
    let mut host = Host::new();
    host.sign_in("ann");
    let pair = |state| [("ann", state), ("bob", PartyState::Connected)];
    host.switch.put(call("talking", State::Connected, &pair(PartyState::Connected)));
    let mut meeting = call("meeting", State::Connected, &pair(PartyState::Connected));
    meeting.parties[0].moderator = true;
    host.switch.put(meeting);
    host.switch.put(call("held", State::Connected, &pair(PartyState::Held)));
    host.switch.put(call("ringing", State::Ringing, &pair(PartyState::Ringing)));
    let parked = call("parked", State::Parked, &[("bob", PartyState::Parked)]);
    host.switch.put(cas::topic::tel::Call { slot: Some("7".to_owned()), ..parked });
    let entry = entry("1", "ann", 1);
    host.switch.entries.lock().unwrap().insert(entry.id.clone(), entry);
    host
}

fn caller_on(host: &mut Host, name: &str, rights: Rights, scopes: Option<&String>) -> (cas::Token, StreamId) {
    host.switch.rights.lock().unwrap().insert(user(name), rights);
    let token = match scopes {
        Some(scopes) => host.sign_in_with(json!({ "key": format!("key:{name}:{scopes}") })),
        None => host.sign_in(name),
    };
    let stream = host.open(9, Some(&token), None);
    (token, stream)
}

#[test]
fn every_operation_has_a_row() {
    let rows: BTreeMap<&str, Reach> = rows().iter().map(|(right, reach, ..)| (*right, *reach)).collect();
    let operations = OPERATIONS.iter().copied().flatten();
    let known: BTreeMap<String, Reach> = operations.map(|op| (format!("{}.{}", op.topic, op.message), op.user)).collect();
    assert_eq!(known.iter().map(|(name, reach)| (name.as_str(), *reach)).collect::<BTreeMap<_, _>>(), rows);
}

#[test]
fn each_caller_can_do_what_their_rights_say_and_nothing_else() {
    // S15, 004-75, 004-78
    for (right, default, object, body) in rows() {
        if right == "login.login" {
            continue;
        }
        for (name, rights, scopes, reach) in callers(right, default) {
            for over_stream in [false, true] {
                let case = format!("{right} by {name} {rights:?} {scopes:?} stream {over_stream}");
                let mut host = host();
                let signed_in = caller_on(&mut host, name, rights.clone(), scopes.as_ref());
                let (final_reply, worked) = ask(&mut host, &signed_in, over_stream, right, &body);
                let is_own = object == Service || (object == Anns && name == "ann");
                let allowed = reach == All || (reach == Own && is_own);
                let asked = host.switch.asked();
                if allowed {
                    // to hear of a topic's changes takes a right of that topic besides
                    assert_ne!(final_reply["body"]["right"], right, "{case}: {final_reply}");
                } else {
                    assert_eq!(final_reply["response"], 403, "{case}: {final_reply}");
                    assert_eq!(final_reply["body"]["right"], right, "{case}");
                    assert_eq!(asked, [""; 0], "{case}");
                    assert!(reach != Nowhere || !worked, "{case}: no provider runs without the right");
                }
            }
        }
    }
}

#[test]
fn what_is_not_there_is_no_way_around_a_right() {
    // S15
    for (right, default, object, body) in rows() {
        let Some((body, named)) = of_nothing(&body).filter(|_| object == Anns) else { continue };
        for (name, rights, scopes, reach) in callers(right, default) {
            for over_stream in [false, true] {
                let case = format!("{right} {body} by {name} {rights:?} {scopes:?} stream {over_stream}");
                let mut host = host();
                let signed_in = caller_on(&mut host, name, rights.clone(), scopes.as_ref());
                let (reply, _) = ask(&mut host, &signed_in, over_stream, right, &body);
                let response = reply["response"].as_u64().unwrap();
                match (reach, named) {
                    (All, "user") => assert_ne!(response, 403, "{case}: {reply}"),
                    (All, _) => assert_eq!(response, 404, "{case}: {reply}"),
                    // whose a call or an entry is, is known once it is found
                    (Own, "call" | "entry") => assert!(matches!(response, 403 | 404), "{case}: {reply}"),
                    (Own | Nowhere, _) => assert_eq!((response, &reply["body"]["right"]), (403, &json!(right)), "{case}: {reply}"),
                }
                assert!((reach, named) == (All, "user") || host.switch.asked().is_empty(), "{case}");
            }
        }
    }
}

#[test]
fn who_is_on_the_host_may_do_everything() {
    for (right, _, _, body) in rows() {
        let mut host = host();
        let (topic, message) = right.split_once('.').unwrap();
        let channel = Channel::Once { peer: Peer::Host, token: None };
        let exchange = host.send(channel, Encoding::Json, Some("wait=5"), bytes(topic, message, body));
        let reply = host.reply(exchange).unwrap_or_else(|| panic!("{right} has no reply"));
        assert!(!matches!(reply.response, Some(401 | 403)), "{right}: {reply:?}");
    }
}

/// Asks, by HTTP or on the stream; returns the final reply, and whether a provider worked for it.
fn ask(host: &mut Host, (token, stream): &(cas::Token, StreamId), over_stream: bool, right: &str, body: &Value) -> (Value, bool) {
    let (topic, message) = right.split_once('.').unwrap();
    host.switch.asked();
    host.lazy = true;
    let before = host.work.len();
    let reply = if over_stream {
        host.say(*stream, topic, message, body.clone())
    } else {
        Some(host.post_preferring(token, Some("respond-async"), topic, message, body.clone()))
    };
    let worked = host.work.len() > before;
    (finish(host, reply, worked), worked)
}

/// Returns the final answer: the reply, or the event that follows a pending one.
fn finish(host: &mut Host, reply: Option<cas::message::Message>, worked: bool) -> Value {
    if !worked {
        return reply.expect("a reply at once").into_value();
    }
    let before = host.replies.keys().copied().collect::<Vec<_>>();
    host.work_one();
    if let Some(exchange) = host.replies.keys().copied().find(|exchange| !before.contains(exchange)) {
        return host.reply(exchange).unwrap().into_value();
    }
    let events = host.events(StreamId(9));
    events.into_iter().find(|event| event.get("pending-id").is_some()).expect("a final reply")
}

#[test]
fn nobody_can_do_anything_but_sign_in() {
    for (right, _, _, body) in rows() {
        let (topic, message) = right.split_once('.').unwrap();
        let mut host = host();
        let stream = host.open(9, None, None);
        let by_stream = host.say(stream, topic, message, body.clone()).unwrap();
        let by_http = host.post(&cas::Token::shown("wrong"), topic, message, body);
        let expected = if right == "login.login" { 0 } else { 401 };
        assert_eq!((by_stream.response, by_http.response), (Some(expected), Some(401)), "{right}");
        assert_eq!(host.switch.asked(), [""; 0]);
    }
}

#[test]
fn other_calls_that_a_request_names_need_the_right_too() {
    // S15
    for (message, more) in [("transfer", json!({ "consult": "theirs" })), ("conference", json!({ "calls": ["theirs"] }))] {
        let mut host = host();
        host.switch.put(call("theirs", State::Connected, &[("bob", PartyState::Connected), ("eve", PartyState::Connected)]));
        let (token, _) = caller_on(&mut host, "ann", Rights::default(), None);
        let mut body = json!({ "call": "talking" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = host.post_preferring(&token, Some("wait=5"), "tel", message, body);
        assert_eq!(reply.body["right"], format!("tel.{message}"));
        assert_eq!(host.switch.asked(), [""; 0]);
    }
}

#[test]
fn what_may_be_picked_up_is_listed_and_told_for_whom_the_right_reaches() {
    // S15
    for (name, rights, scopes, reach) in callers("tel.pickup", Own) {
        for whose in [None, Some("ann"), Some("eve")] {
            let case = format!("{whose:?} by {name} {rights:?} {scopes:?}");
            let mut host = host();
            let (token, _) = caller_on(&mut host, name, rights.clone(), scopes.as_ref());
            let scopes = scopes.as_ref().map(|scopes| scopes.split(',').map(|scope| Pattern::parse(scope).unwrap()).collect());
            let caller = Caller { scopes, ..caller(name, rights.clone()) };
            let lists = caller.reach(Right { topic: "tel", message: "list", user: Own }) != Nowhere;
            let allowed = reach == All || reach == Own && whose.is_none_or(|user| user == name);
            let reply = host.post(&token, "tel", "list", json!({ "pickup": true, "subscribe": true, "user": whose }));
            let subscribed = host.post(&token, "subscription", "list", json!({})).body["subscriptions"].as_array().map_or(0, Vec::len);
            if lists && allowed {
                assert_eq!((reply.response, reply.body["subscription"].is_u64()), (Some(0), true), "{case}: {reply:?}");
            } else {
                let right = if lists { "tel.pickup" } else { "tel.list" };
                assert_eq!((reply.response, &reply.body["right"], subscribed), (Some(403), &json!(right), 1), "{case}: {reply:?}");
            }
        }
    }
}

#[test]
fn presence_is_left_out_of_a_listing_that_the_caller_may_see() {
    // 004-60
    let mut host = host();
    let rights = Rights { exceptions: [(Pattern::parse("presence.get").unwrap(), Own)].into(), ..Rights::default() };
    let (token, _) = caller_on(&mut host, "ann", rights, None);
    let reply = host.post(&token, "presence", "get", json!({ "users": ["ann", "bob"], "subscribe": true }));
    let users = reply.body["users"].as_array().unwrap();
    assert!(users[0]["presence"].is_object() && users[1].get("presence").is_none(), "{users:?}");
}

#[test]
fn what_the_state_does_not_allow_now_is_refused_with_what_it_does() {
    // 004-76
    let mut host = host();
    let (token, _) = caller_on(&mut host, "ann", Rights::default(), None);
    let reply = host.post_preferring(&token, Some("wait=5"), "tel", "hold", json!({ "call": "held" }));
    assert_eq!((reply.response, &reply.body["error"]), (Some(409), &json!("not-now")));
    let accepted = reply.body["accepted"].as_array().unwrap();
    assert!(accepted.contains(&json!("resume")) && !accepted.contains(&json!("hold")));
    assert_eq!(host.switch.asked(), [""; 0]);
}

#[test]
fn the_modes_are_as_the_source_says() {
    // 004-17, 004-18
    for operation in OPERATIONS.iter().copied().flatten() {
        let slow = operation.topic == "tel" && !["list", "show", "why", "register", "unregister"].contains(&operation.message);
        assert_eq!(operation.mode == Mode::Slow, slow, "{}.{}", operation.topic, operation.message);
    }
}
