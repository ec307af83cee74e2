//! Secrets of the configuration: a string, `{ file = "…" }` or `{ env = "…" }`. They cannot be printed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

const ACCEPTED: &str = "a string, { file = \"PATH\" } or { env = \"NAME\" }";

/// A secret. It has neither `Debug` nor `Display`, so that no log can show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret that was made here.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// Returns the secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where a secret comes from.
pub(super) enum SecretSource {
    Text(String),
    File(PathBuf),
    Env(String),
}

impl SecretSource {
    /// Fetches the secret; a relative file starts at `folder`. The line end of a file is no part of it.
    pub(super) fn fetch(self, folder: &Path) -> Result<Secret, String> {
        let secret = match self {
            Self::Text(text) => text,
            Self::File(path) => std::fs::read_to_string(folder.join(&path))
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("{}: {error}", path.display()))?,
            Self::Env(name) => std::env::var(&name).map_err(|_| format!("the environment variable {name} is not set, or is no UTF-8"))?,
        };
        if secret.is_empty() || secret.contains(char::is_control) {
            return Err("the secret is empty or holds control characters; accepted: text of one line".into());
        }
        Ok(Secret(secret))
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ACCEPTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretSource, E> {
        Ok(SecretSource::Text(text.to_owned()))
    }

    // serde's own words would show the secret
    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretSource, E> {
        Err(E::custom(format!("a number is no secret; accepted: {ACCEPTED}")))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretSource, E> {
        self.visit_i64(0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let entry: Option<(String, String)> = map.next_entry()?;
        let source = match entry.as_ref().map(|(key, value)| (key.as_str(), value)) {
            Some(("file", path)) => Some(SecretSource::File(PathBuf::from(path))),
            Some(("env", name)) => Some(SecretSource::Env(name.clone())),
            Some(_) | None => None,
        };
        match (source, map.next_key::<String>()?) {
            (Some(source), None) => Ok(source),
            (_, _) => Err(Error::custom(format!("this is no secret; accepted: {ACCEPTED}"))),
        }
    }
}
