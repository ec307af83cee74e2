//! Reads a request's body into the type of its operation, and says what is wrong in words for people. It is stricter than serde's own
//! way: where an object with names is expected, a list is refused, at any depth.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::error::Error;

/// Most characters of a client's own text that a detail repeats.
const QUOTED: usize = 40;

/// Reads a request's body; none is an empty one.
///
/// # Errors
///
/// `bad-message` naming the field and what it accepts.
pub(crate) fn decode<T: DeserializeOwned>(body: Value) -> Result<T, Error> {
    let body = if body.is_null() { Value::Object(Map::new()) } else { body };
    if !body.is_object() {
        return Err(Error::field("body", format!("field body: expected an object, not {}", said(&unexpected(&body)))));
    }
    serde_path_to_error::deserialize(Strict(body)).map_err(|error| {
        let path = error.path().to_string();
        let Wrong { detail, missing, accepted } = error.into_inner();
        // what is missing stands in the object that lacks it
        let field = match missing {
            Some(name) if path == "." => name.to_owned(),
            Some(name) => format!("{path}.{name}"),
            None => path,
        };
        Error::field(&field, format!("field {field}{detail}")).accepting(accepted)
    })
}

/// What is wrong, to be read after the name of the field.
#[derive(Debug)]
struct Wrong {
    detail: String,
    missing: Option<&'static str>,
    accepted: &'static [&'static str],
}

impl Wrong {
    fn new(detail: String) -> Self {
        Self { detail, missing: None, accepted: &[] }
    }

    fn instead(found: &Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = wanted(&expected.to_string());
        let hint = match (found, expected.as_str()) {
            (Unexpected::Str("true" | "false"), TRUTH) => r#" (in XML: type="boolean")"#,
            (Unexpected::Str(text), expected) if expected.contains("number") && text.parse::<f64>().is_ok() => {
                r#" (in XML: type="number")"#
            }
            (Unexpected::Str(_) | Unexpected::Map, LIST) => r#" (in XML: type="array")"#,
            (Unexpected::Str(""), OBJECT) => r#" (in XML: type="object")"#,
            _ => "",
        };
        Self::new(format!(": expected {expected}, not {}{hint}", said(found)))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        Self::new(format!(": {detail}"))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::instead(&found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::instead(&found, expected)
    }

    fn unknown_variant(variant: &str, accepted: &'static [&'static str]) -> Self {
        Self { accepted, ..Self::new(format!(": {} is not known there", quoted(variant))) }
    }

    fn unknown_field(_: &str, accepted: &'static [&'static str]) -> Self {
        Self { accepted, ..Self::new(" is not known there".to_owned()) }
    }

    fn missing_field(missing: &'static str) -> Self {
        Self { missing: Some(missing), ..Self::new(" is missing".to_owned()) }
    }
}

const TRUTH: &str = "true or false";
const LIST: &str = "a list";
const OBJECT: &str = "an object";

/// Returns serde's name of what it expects in words for people.
fn wanted(name: &str) -> String {
    match name {
        "a boolean" => TRUTH.to_owned(),
        "a sequence" => LIST.to_owned(),
        "a map" => OBJECT.to_owned(),
        name if name.starts_with("struct ") => OBJECT.to_owned(),
        "a string" | "string" => "a text".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, not negative".to_owned(),
        name => name.to_owned(),
    }
}

/// Returns what was found in words for people.
#[expect(clippy::wildcard_enum_match_arm, reason = "JSON has nothing else")]
fn said(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Str(text) => format!("the text \"{}\"", quoted(text)),
        Unexpected::Unit => "null".to_owned(),
        Unexpected::Seq => LIST.to_owned(),
        Unexpected::Map => OBJECT.to_owned(),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTED).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Unexpected::Unsigned(number),
            (None, Some(number)) => Unexpected::Signed(number),
            (None, None) => Unexpected::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// A value to read.
struct Strict(Value);

impl<'de> IntoDeserializer<'de, Wrong> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Strict {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Strict));
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            Value::Object(members) => {
                let mut members = MapDeserializer::new(members.into_iter().map(|(name, value)| (name, Self(value))));
                let value = visitor.visit_map(&mut members)?;
                members.end().map(|()| value)
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        if self.0.is_object() { self.deserialize_any(visitor) } else { Err(Wrong::invalid_type(unexpected(&self.0), &OBJECT)) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    /// Every enum of this interface is a word.
    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        let Value::String(word) = self.0 else { return Err(Wrong::invalid_type(unexpected(&self.0), &"a word")) };
        visitor.visit_enum(word.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only the names count")]
    struct Outer {
        inner: Vec<Inner>,
        #[serde(default)]
        deep: Vec<Deep>,
        count: Option<u16>,
        #[serde(default)]
        all: bool,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Inner {
        First,
        SecondOne,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the names count")]
    struct Deep {
        name: String,
    }

    fn error(body: Value) -> Error {
        decode::<Outer>(body).unwrap_err()
    }

    fn field(body: Value) -> String {
        error(body).field.unwrap().into_string()
    }

    #[test]
    fn an_error_names_the_field_and_what_it_accepts() {
        assert_eq!(field(json!({"inner": ["first", "third"]})), "inner[1]");
        assert_eq!(*error(json!({"inner": ["third"]})).accepted, ["first".into(), "second-one".into()]);
        assert_eq!(field(json!(null)), "inner");
        assert_eq!(field(json!({"inner": [], "iner": 1})), "iner");
        assert_eq!(error(json!({"inner": [], "iner": 1})).accepted[0], "inner".into());
        assert_eq!(field(json!({"inner": "x"})), "inner");
        assert_eq!(field(json!({"inner": [], "deep": [{}]})), "deep[0].name");
        assert!(decode::<Outer>(json!({"inner": ["first", "second-one"], "deep": [{"name": "x"}], "count": 7, "all": true})).is_ok());
        assert!(decode::<Outer>(json!({"inner": [], "count": null})).is_ok());
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        for (body, at) in [(json!([[]]), "body"), (json!("x"), "body"), (json!({"inner": [], "deep": [["x"]]}), "deep[0]")] {
            assert_eq!(field(body.clone()), at);
            assert!(error(body).detail.contains("expected an object, not "));
        }
    }

    #[test]
    fn an_error_is_a_sentence_for_people() {
        for (body, sentence) in [
            (json!({}), "field inner is missing"),
            (json!({"inner": ["lazy"]}), "field inner[0]: lazy is not known there"),
            (json!({"inner": [5]}), "field inner[0]: expected a word, not 5"),
            (json!({"inner": [], "iner": 1}), "field iner is not known there"),
            (json!({"inner": [], "count": -1}), "field count: expected a whole number from 0 to 65535, not -1"),
            (
                json!({"inner": [], "count": "7"}),
                r#"field count: expected a whole number from 0 to 65535, not the text "7" (in XML: type="number")"#,
            ),
            (json!({"inner": [], "all": "true"}), r#"field all: expected true or false, not the text "true" (in XML: type="boolean")"#),
            (json!({"inner": {}}), r#"field inner: expected a list, not an object (in XML: type="array")"#),
            (json!({"inner": [], "deep": [{"name": 1.5}]}), "field deep[0].name: expected a text, not 1.5"),
        ] {
            assert_eq!(&*error(body).detail, sentence);
        }
    }
}
