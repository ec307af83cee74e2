//! How a call is written for people: a row, a sentence, or the whole of it.

use serde_json::Value;

use crate::cli::table::{Column, Form, View, plain, render};
use crate::cli::text::printable;

/// Columns of lists of calls.
pub(in crate::cli) const COLUMNS: &[Column] = &[
    Column("call", "/id", Form::Plain),
    Column("state", "/state", Form::Plain),
    Column("parties", "/parties", Form::By(parties)),
    Column("how", "/constructed/how", Form::Plain),
    Column("began", "/started-at", Form::Moment),
    Column("slot", "/slot", Form::Plain),
];

const RECORD: &[Column] = &[
    Column("call", "/id", Form::Plain),
    Column("state", "/state", Form::Plain),
    Column("how", "/constructed/how", Form::Plain),
    Column("by", "/constructed/by", Form::Plain),
    Column("began", "/started-at", Form::Moment),
    Column("answered", "/answered-at", Form::Moment),
    Column("ended", "/ended-at", Form::Moment),
    Column("slot", "/slot", Form::Plain),
    Column("room", "/room", Form::Plain),
    Column("locked", "/locked", Form::Plain),
    Column("why", "/why", Form::Plain),
    Column("actions", "/actions", Form::Plain),
];

const PARTIES: &[Column] = &[
    Column("party", "", Form::By(party)),
    Column("number", "/number", Form::Plain),
    Column("name", "/name", Form::Plain),
    Column("state", "/state", Form::Plain),
    Column("muted", "/muted", Form::Plain),
    Column("moderator", "/moderator", Form::Plain),
    Column("devices", "/devices", Form::By(devices)),
];

/// Writes the reply of `show`.
pub(super) fn whole(reply: &Value) -> String {
    let call = &reply["call"];
    let record = render(&View::Record("", RECORD), call);
    format!("{record}\n\n{}", render(&View::List("/parties", PARTIES, "Nobody is in it."), call))
}

/// Writes a call as one sentence.
pub(in crate::cli) fn sentence(call: &Value) -> String {
    let (id, state) = (plain(&call["id"]), plain(&call["state"]));
    let place = call["slot"].as_str().map_or_else(String::new, |slot| format!(" in {slot}"));
    let why = call["why"].as_str().map_or_else(String::new, |why| format!(": {why}"));
    printable(&format!("Call {id} of {} is {state}{place}{why}", parties(&call["parties"])))
}

/// Writes why a call ended as a sentence, also where a peer's few words are all that is known.
pub(super) fn why(said: &str) -> String {
    let mut letters = said.trim().chars();
    let Some(first) = letters.next() else { return "It ended, and nobody said why.".to_owned() };
    let sentence: String = first.to_uppercase().chain(letters).collect();
    printable(&if sentence.ends_with(['.', '!', '?']) { sentence } else { format!("{sentence}.") })
}

/// Writes who is in a call, and where they are if that is not talking.
pub(in crate::cli) fn parties(parties: &Value) -> String {
    let written = |one: &Value| match one["state"].as_str() {
        Some("connected") | None => party(one),
        Some(state) => format!("{} ({state})", party(one)),
    };
    let all: Vec<_> = parties.as_array().into_iter().flatten().map(written).collect();
    if all.is_empty() { "nobody".to_owned() } else { all.join(", ") }
}

fn party(party: &Value) -> String {
    let hidden = party["anonymous"].as_bool() == Some(true);
    match (["user", "name", "number"].iter().find_map(|member| party[member].as_str()), hidden) {
        (Some(known), false) => known.to_owned(),
        (Some(known), true) => format!("{known} (anonymous)"),
        (None, true) => "anonymous".to_owned(),
        (None, false) => "unknown".to_owned(),
    }
}

fn devices(devices: &Value) -> String {
    let written = |one: &Value| match plain(&one["media"]) {
        media if media.is_empty() => plain(&one["device"]),
        media => format!("{} ({media})", plain(&one["device"])),
    };
    devices.as_array().into_iter().flatten().map(written).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_a_sentence() {
        let call = json!({ "id": "7", "state": "parked", "slot": "701", "parties": [
            { "user": "ann", "state": "left" }, { "number": "+49301", "state": "connected" },
        ]});
        assert_eq!(sentence(&call), "Call 7 of ann (left), +49301 is parked in 701");
        let ended = json!({ "id": "7", "state": "ended", "parties": [], "why": "ann hung up." });
        assert_eq!(sentence(&ended), "Call 7 of nobody is ended: ann hung up.");
        let hidden = json!({ "id": "7", "state": "ringing", "parties": [{ "anonymous": true, "state": "dialing" }, { "user": "bob" }] });
        assert_eq!(sentence(&hidden), "Call 7 of anonymous (dialing), bob is ringing");
    }

    #[test]
    fn why_is_always_a_sentence() {
        assert_eq!(
            [why("busy here"), why("ann hung up."), why(" "), why("a\nb")],
            ["Busy here.", "Ann hung up.", "It ended, and nobody said why.", "A\\u{a}b."]
        );
    }

    #[test]
    fn a_split_user_has_two_devices() {
        let call = json!({ "id": "7", "state": "connected", "parties": [{ "user": "ann", "state": "connected", "devices": [
            { "device": "desk", "media": ["audio"] }, { "device": "app", "media": ["video"] }, { "device": "idle" },
        ]}]});
        let text = whole(&json!({ "call": call }));
        assert!(text.contains("desk (audio), app (video), idle"), "{text}");
    }
}
