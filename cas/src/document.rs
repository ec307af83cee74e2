//! The interface as a document: OpenAPI 3.1 for the HTTP surface, with the JSON Schema of every message, made from the types that the
//! server reads and writes. The host serves it at `/cas/openapi.json`.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::error::{Error, Fault};
use crate::message::Encoding;
use crate::plugin;
use crate::topic::{self, Mode, Operation, event, graph, history, permission, presence, tel};

/// Makes the schema of a type.
type Make = fn(&mut SchemaGenerator) -> Schema;

/// The events: topic, message, what it says, schema of its body.
const EVENTS: &[(&str, &str, &str, Make)] = &[
    ("tel", "ringing", "A call is made, or begins to ring at the user.", schema::<tel::CallEventBody>),
    ("tel", "connected", "A call is answered for the first time.", schema::<tel::CallEventBody>),
    ("tel", "changed", "Something else in a call is another.", schema::<tel::CallEventBody>),
    ("tel", "ended", "A call is over, for all or for the user.", schema::<tel::CallEventBody>),
    ("tel", "pickup", "A call may be picked up, or, without `actions`, no longer.", schema::<tel::CallEventBody>),
    ("tel", "sdp", "The switch describes media to the application that is the device.", schema::<tel::Description>),
    ("graph", "changed", "Who is in a call with what is another.", schema::<graph::Changed>),
    ("history", "added", "An entry came into a history.", schema::<history::EntryReply>),
    ("history", "changed", "An entry's note is another.", schema::<history::EntryReply>),
    ("history", "deleted", "An entry is gone.", schema::<history::EntryReply>),
    ("presence", "changed", "A presence is another.", schema::<presence::Changed>),
    ("permission", "changed", "The user's rights are others; so may be the `actions` of every object.", schema::<permission::Snapshot>),
    ("event", "snapshot", "The state, in place of events that are gone.", schema::<event::Snapshot>),
    ("bulk", "bulk", "A group of replies.", schema::<event::BulkReply>),
];

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Makes the document for a switch of this version.
#[must_use]
pub fn openapi(version: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    let mut schemas = BTreeMap::new();
    let operations: Vec<&Operation> = topic::OPERATIONS.iter().copied().flatten().collect();
    let (mut requests, mut replies, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for operation in operations {
        let name = format!("{}.{}", operation.topic, operation.message);
        schemas.insert(name.clone(), request(operation, &mut generator));
        requests.push(reference(&name));
        let name = format!("{name}.reply");
        schemas.insert(name.clone(), reply(operation, &mut generator));
        replies.push(reference(&name));
    }
    for (topic, message, says, make) in EVENTS {
        let name = format!("{topic}.{message}.event");
        let body = make(&mut generator);
        schemas.insert(name.clone(), message_schema(says, topic, message, &["sequence-id"], json!({ "body": body })));
        events.push(reference(&name));
    }
    schemas.insert("Request".into(), json!({ "description": "A request to a topic of the switch.", "oneOf": requests }));
    let known = topic::OPERATIONS.iter().filter_map(|operations| operations.first()).map(|operation| operation.topic);
    let known = known.chain(plugin::RESERVED);
    schemas.insert("PluginRequest".into(), plugin_request(&known.collect::<Vec<_>>()));
    schemas.insert("Reply".into(), json!({ "description": "A reply that tells of success.", "anyOf": replies }));
    schemas.insert("Event".into(), json!({ "description": "An event of the switch.", "anyOf": events }));
    schemas.insert("Pending".into(), pending());
    schemas.insert("Refusal".into(), refusal(&mut generator));
    for (name, definition) in generator.take_definitions(true) {
        schemas.entry(name).or_insert(definition);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "tandem CAS", "version": version, "description": "One interface to calls, devices, history and presence." },
        "paths": paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "The token of a login." } },
        },
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Makes the schema of a message: the headers, of which some are required, and what else belongs to it.
fn message_schema(doc: &str, topic: &str, message: &str, required: &[&str], more: Value) -> Value {
    let number = json!({ "type": "integer", "minimum": 0 });
    let mut properties = json!({
        "topic": { "const": topic },
        "message": { "const": message },
        "timestamp": number,
        "sequence-id": number,
        "request-id": number,
        "pending-id": number,
    });
    if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
        properties.extend(more);
    }
    let required: Vec<&str> = ["topic", "message", "timestamp"].iter().chain(required).copied().collect();
    json!({ "description": doc.trim(), "type": "object", "properties": properties, "required": required })
}

fn request(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let body = (operation.request)(generator);
    let how = match operation.mode {
        Mode::Own | Mode::Quick => "",
        Mode::Slow => " The reply is pending unless the client prefers to wait.",
    };
    let doc = format!("{}{how} Needs the right {}.{}.", operation.doc.trim(), operation.topic, operation.message);
    // A request whose fields may all be absent needs no body.
    let name = body.get("$ref").and_then(Value::as_str).and_then(|target| target.rsplit('/').next());
    let definition = name.and_then(|name| generator.definitions().get(name));
    let has_required =
        definition.and_then(|definition| definition.get("required")).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let required: &[&str] = if has_required { &["sequence-id", "request-id", "body"] } else { &["sequence-id", "request-id"] };
    let more = json!({ "body": body, "prefer": { "type": "string" } });
    message_schema(&doc, operation.topic, operation.message, required, more)
}

fn reply(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let body = (operation.reply)(generator);
    let more = json!({ "body": body, "response": { "const": 0 } });
    message_schema("The reply.", operation.topic, operation.message, &["sequence-id", "request-id", "response"], more)
}

fn plugin_request(known: &[&str]) -> Value {
    let mut schema = message_schema("A request to a topic of a plug-in.", "", "", &["sequence-id", "request-id"], json!({ "body": {} }));
    let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" });
    schema["properties"]["message"] = name.clone();
    schema["properties"]["topic"] = json!({ "allOf": [name, { "not": { "enum": known } }] });
    schema
}

fn pending() -> Value {
    let number = json!({ "type": "integer", "minimum": 0 });
    let id = json!({ "type": "object", "properties": { "id": number }, "required": ["id"] });
    let mut schema = message_schema(
        "The answer takes longer; it comes as an event with the same `pending-id`.",
        "",
        "",
        &["sequence-id", "request-id", "response", "pending-id"],
        json!({ "response": { "const": 202 }, "body": id }),
    );
    for name in ["topic", "message"] {
        schema["properties"][name] = json!({ "type": "string" });
    }
    schema
}

fn refusal(generator: &mut SchemaGenerator) -> Value {
    let body = generator.subschema_for::<Error>();
    let mut schema = message_schema(
        "A refusal: what was wrong, and what would have been accepted.",
        "",
        "",
        &["sequence-id", "response", "body"],
        json!({ "response": { "enum": refusals() }, "body": body }),
    );
    for name in ["topic", "message"] {
        schema["properties"][name] = json!({ "type": "string" });
    }
    schema
}

fn refusals() -> Vec<u16> {
    let mut numbers: Vec<u16> = Fault::ALL.iter().map(|fault| fault.response()).collect();
    numbers.dedup();
    numbers
}

fn content(schema: &Value) -> Value {
    Encoding::MEDIA_TYPES
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({ "schema": schema })))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn responses(success: &Value) -> Value {
    let mut responses = serde_json::Map::new();
    responses.insert("200".into(), json!({ "description": "Done.", "content": content(success) }));
    responses.insert("202".into(), json!({ "description": "The answer takes longer.", "content": content(&reference("Pending")) }));
    for number in refusals() {
        let kinds: Vec<String> = Fault::ALL.iter().filter(|fault| fault.response() == number).map(|fault| format!("{fault:?}")).collect();
        let response = json!({ "description": kinds.join(", "), "content": content(&reference("Refusal")) });
        responses.insert(number.to_string(), response);
    }
    responses.into()
}

fn paths() -> Value {
    let prefer = json!({ "name": "Prefer", "in": "header", "schema": { "type": "string" }, "description": "respond-async, wait=SECONDS (RFC 7240)" });
    let parameter =
        |name: &str, doc: &str| json!({ "name": name, "in": "query", "schema": { "type": "integer", "minimum": 0 }, "description": doc });
    let mut events = responses(&json!({ "$ref": "#/components/schemas/event.get-event.reply" }));
    events["200"]["content"]["text/event-stream"] = json!({
        "schema": { "type": "string", "description": "Each event as `data`, its number as `id`; a comment every 15 seconds." },
    });
    events["101"] = json!({
        "description": "A WebSocket (RFC 6455). Its messages are requests and replies as of /cas, in the header `prefer` what is the header Prefer \
            there, and events. Without a token the first one is login.login.",
    });
    let header = |name: &str, doc: &str| json!({ "name": name, "in": "header", "schema": { "type": "string" }, "description": doc });
    json!({
        "/cas": {
            "post": {
                "operationId": "request",
                "summary": "Sends one request. All but login.login need a token.",
                "security": [{ "token": [] }, {}],
                "parameters": [prefer],
                "requestBody": { "required": true, "content": content(&json!({ "anyOf": [reference("Request"), reference("PluginRequest")] })) },
                "responses": responses(&json!({ "anyOf": [reference("Reply"), { "type": "object" }] })),
            },
        },
        "/cas/events": {
            "get": {
                "operationId": "events",
                "summary": "Waits for events; with Accept: text/event-stream, or as a WebSocket, streams them.",
                "security": [{ "token": [] }, {}],
                "parameters": [
                    parameter("after", "Number of the last event that the client has."),
                    parameter("wait", "How long to wait, in seconds; at most 60."),
                    header("Last-Event-ID", "With text/event-stream: counts as `after`."),
                    header("Sec-WebSocket-Protocol", "Of a WebSocket: cas (JSON, the default) or cas-xml; and token.TOKEN where no Authorization can be sent."),
                ],
                "responses": events,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.insert(target.clone());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_is_there() {
        let document = openapi("1");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for target in &found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        for operation in topic::OPERATIONS.iter().copied().flatten() {
            assert!(found.contains(&format!("#/components/schemas/{}.{}", operation.topic, operation.message)));
        }
        assert!(document["components"]["schemas"]["CallView"]["properties"]["parties"].is_object());
    }

    #[test]
    fn a_body_refuses_unknown_fields_and_lists_words() {
        let document = openapi("1");
        let body = &document["components"]["schemas"]["MakeCall"];
        assert_eq!(body["additionalProperties"], json!(false));
        assert_eq!(body["required"], json!(["destination"]));
        assert!(document.to_string().contains("most-available"));
    }

    #[test]
    fn the_ways_to_events_are_described() {
        let document = openapi("1");
        let events = &document["paths"]["/cas/events"]["get"];
        assert!(events["responses"]["200"]["content"]["text/event-stream"].is_object() && events["responses"]["101"].is_object());
        let names: Vec<&str> = events["parameters"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names, ["after", "wait", "Last-Event-ID", "Sec-WebSocket-Protocol"]);
    }
}
