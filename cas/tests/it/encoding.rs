//! The two encodings on every value, and on every message that the document describes; and the document against what is accepted.

use cas::message::{Encoding, Message};
use cas::topic::OPERATIONS;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use crate::host::Host;

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| serde_json::Number::from_f64(number).map(Value::Number)),
        any::<String>().prop_map(Value::from),
        "[ \\t\\r\\n<>&\"'\\]]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..6).prop_map(|map| map.into_iter().collect())
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_survives_both_encodings(value in values()) {
        // 004-11
        for encoding in [Encoding::Json, Encoding::Xml] {
            let mut bytes = Vec::new();
            encoding.write(&value, &mut bytes);
            prop_assert_eq!(encoding.read(&bytes).unwrap(), value.clone());
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200)) {
        // S9, S10, S16
        for encoding in [Encoding::Json, Encoding::Xml] {
            let _ = Message::decode(encoding, &bytes);
        }
    }
}

/// Makes values that a schema describes.
struct Maker<'a> {
    document: &'a Value,
    random: ChaCha12Rng,
}

impl Maker<'_> {
    fn below(&mut self, limit: usize) -> usize {
        (self.random.next_u64() % limit as u64) as usize
    }

    fn make(&mut self, schema: &Value, depth: usize) -> Value {
        if let Some(target) = schema["$ref"].as_str() {
            let target = self.document.pointer(target.strip_prefix('#').unwrap()).unwrap().clone();
            return self.make(&target, depth);
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[choice].as_array().cloned() {
                let chosen = self.below(choices.len());
                return self.make(&choices[chosen], depth);
            }
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(words) = schema["enum"].as_array().cloned() {
            return words[self.below(words.len())].clone();
        }
        let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        let kind = &kinds[if depth > 5 { kinds.len() - 1 } else { self.below(kinds.len()) }];
        match kind.as_str() {
            Some("string") => self.text(schema),
            Some("integer" | "number") => json!(self.below(50)),
            Some("boolean") => json!(self.below(2) == 0),
            Some("null") => Value::Null,
            Some("array") => (0..if depth > 5 { 0 } else { self.below(4) }).map(|_| self.make(&schema["items"], depth + 1)).collect(),
            Some("object") => self.object(schema, depth),
            _ => json!({ "anything": [1, "<&>", null] }),
        }
    }

    fn text(&mut self, schema: &Value) -> Value {
        let alphabet: Vec<char> = match schema["pattern"].as_str() {
            Some(pattern) if pattern.contains("A-D*#") => "0123ABCD*#".chars().collect(),
            Some(pattern) if pattern.contains("\\*") => return json!("tel.hold"),
            Some(pattern) if pattern.starts_with("^[A-Za-z0-9") => "abz09._-".chars().collect(),
            Some(pattern) if pattern.contains("\\s") => "abz09._-äß\u{1f600}".chars().collect(),
            _ => "ab z<&>'äß\u{1f600}".chars().collect(),
        };
        let length = 1 + self.below(12);
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect::<String>().into()
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut object = Map::new();
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in schema["properties"].as_object().cloned().unwrap_or_default() {
            if required.contains(&name.as_str()) || (depth <= 5 && self.below(2) == 0) {
                object.insert(name, self.make(&property, depth + 1));
            }
        }
        if schema["additionalProperties"].is_object() && depth <= 5 {
            object.insert("tel.hold".into(), self.make(&schema["additionalProperties"], depth + 1));
        }
        Value::Object(object)
    }
}

#[test]
fn every_message_type_survives_json_xml_json() {
    // 004-11
    let document = cas::document::openapi("1");
    let mut maker = Maker { document: &document, random: ChaCha12Rng::seed_from_u64(1) };
    let mut kinds = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if !name.contains('.') {
            continue;
        }
        kinds += 1;
        for _ in 0..20 {
            let made = maker.make(schema, 0);
            let message = Message::from_value(made).unwrap_or_else(|unreadable| panic!("{name}: {unreadable:?}"));
            let by_xml = Message::decode(Encoding::Xml, &message.clone().encode(Encoding::Xml)).unwrap();
            let by_json = Message::decode(Encoding::Json, &by_xml.clone().encode(Encoding::Json)).unwrap();
            assert_eq!((&by_xml, &by_json), (&message, &message), "{name}");
        }
    }
    assert_eq!(kinds, 2 * OPERATIONS.iter().map(|operations| operations.len()).sum::<usize>() + 14);
}

#[test]
fn what_the_document_describes_is_understood_and_what_is_answered_is_described() {
    let document = cas::document::openapi("1");
    let mut maker = Maker { document: &document, random: ChaCha12Rng::seed_from_u64(2) };
    let statuses = document["paths"]["/cas"]["post"]["responses"].as_object().unwrap();
    for operation in OPERATIONS.iter().copied().flatten() {
        let name = format!("{}.{}", operation.topic, operation.message);
        for _ in 0..20 {
            let mut host = Host::new();
            let token = host.sign_in("root");
            let mut made = maker.make(&document["components"]["schemas"][&name], 0);
            made.as_object_mut().unwrap().remove("prefer");
            let exchange = host.send(crate::host::once(Some(&token)), Encoding::Json, None, made.to_string().into_bytes());
            let Some(reply) = host.reply(exchange) else { continue };
            let response = reply.response.unwrap();
            assert!(statuses.contains_key(&if response == 0 { 200 } else { response }.to_string()), "{name}: {response}");
            let detail = reply.body["detail"].as_str().unwrap_or_default();
            for wrong in ["unknown field", "missing field", "unknown variant", "invalid type", "expected 1 to"] {
                let by_design = ["limit", "scopes", "topics"].iter().any(|field| reply.body["field"] == *field);
                assert!(by_design || !detail.contains(wrong), "{name}: {detail} in {made}");
            }
            assert_ne!(response, 500, "{name}: {detail}");
        }
    }
}
