//! JSON (RFC 8259) to values and back: bounded nesting (S10), no name twice in an object. It knows nothing of messages.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{Error, Fault};

/// Deepest nesting of a message, in JSON and in XML. Deeper ones are refused (S10).
pub const MAX_DEPTH: usize = 32;

/// Reads one value.
///
/// # Errors
///
/// `bad-message` where the bytes are no JSON, nest deeper than [`MAX_DEPTH`], or name a member twice.
pub fn read(bytes: &[u8]) -> Result<Value, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Nested(MAX_DEPTH).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| Error::new(Fault::BadMessage, format!("not JSON that is taken here: {error}")))
}

/// Appends a value.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a vector takes every byte, and a value's keys are text");
}

/// A value that may still nest this deep.
struct Nested(usize);

impl Nested {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom(format!("nested deeper than {MAX_DEPTH}")))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.inner::<A::Error>()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.inner::<A::Error>()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.inner()?)?;
            // Two readers that pick different ones of two members would see two messages.
            if object.contains_key(&name) {
                return Err(A::Error::custom("a member twice in one object"));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_stops_at_the_limit() {
        // S10
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
        let error = read(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(error.detail.contains("nested deeper than 32"), "{error}");
        assert!(read("[".repeat(1_000_000).as_bytes()).is_err());
        assert!(read("{\"a\":".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn a_member_twice_is_refused() {
        assert!(read(br#"{"user": "ann", "user": "bob"}"#).unwrap_err().detail.contains("twice"));
        assert!(read(br#"{"a": {"b": 1}, "b": 1}"#).is_ok());
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        assert!(read(b"{} {}").is_err());
        assert!(read(b" {} \n").is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bytes in [&b""[..], b"{", b"nul", b"\"\xff\"", b"1e999", b"\"\\ud800\"", b"[1,]", b"{'a':1}"] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
