//! Texts that a client supplies, parsed once into types that cannot be wrong: bounded, and without control characters, so that none
//! can carry a line break into another syntax (S7).

/// Declares a text type: its doc, its name, its longest length in characters, which characters it may have, as a function and as a
/// regular expression, and in words what it must be.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $longest:literal, $allowed:expr, $pattern:literal, $words:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Longest, in characters.
            pub const LONGEST: usize = $longest;

            /// Checks a text.
            ///
            /// # Errors
            ///
            /// What the text must be, in plain words.
            pub fn parse(text: &str) -> Result<Self, &'static str> {
                let allowed: fn(&str) -> bool = $allowed;
                let long = text.len() > 4 * Self::LONGEST || text.chars().nth(Self::LONGEST).is_some();
                if text.is_empty() || long || !allowed(text) {
                    return Err(concat!("expected 1 to ", stringify!($longest), " ", $words));
                }
                Ok(Self(text.into()))
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "minLength": 1, "maxLength": $longest, "pattern": $pattern,
                    "description": concat!("1 to ", stringify!($longest), " ", $words),
                })
            }
        }
    };
}
pub(crate) use text;

fn is_printable(c: char) -> bool {
    // U+2028 and U+2029 end lines too; the bidirectional overrides make a name show as another.
    !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| is_printable(c) && !c.is_whitespace())
}

fn is_text(text: &str) -> bool {
    text.chars().all(|c| is_printable(c) || matches!(c, '\r' | '\n' | '\t'))
}

text!(
    /// Name of a topic or of a message in it.
    Name, 64, is_name, "^[A-Za-z0-9._-]+$", "letters, digits, dots, underscores and hyphens"
);
text!(
    /// The user part of a person's AOR.
    UserName, 128, |text| is_word(text) && !text.contains(['@', '/', '<', '>', '"']),
    r#"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufffe\uffff\s@/<>"]+$"#, "characters without spaces, @, /, <, > and quotes"
);
text!(
    /// A device of a user.
    DeviceId, 128, is_word, r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufffe\uffff\s]+$", "characters without spaces"
);
text!(
    /// The switch's own number of a call.
    CallId, 64, is_name, "^[A-Za-z0-9._-]+$", "letters, digits, dots, underscores and hyphens"
);
text!(
    /// An entry of a history.
    EntryId, 64, is_name, "^[A-Za-z0-9._-]+$", "letters, digits, dots, underscores and hyphens"
);
text!(
    /// What is dialled: a number, a user, or a SIP or tel URI.
    Destination, 256, is_word, r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufffe\uffff\s]+$", "characters without spaces"
);
text!(
    /// Digits to send as DTMF.
    Digits, 32, |text| text.chars().all(|c| matches!(c, '0'..='9' | 'A'..='D' | '*' | '#')), "^[0-9A-D*#]+$", "of 0 to 9, A to D, * and #"
);
text!(
    /// One line for people.
    Line, 256, |text| text.chars().all(is_printable), r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufffe\uffff]+$",
    "characters without line breaks and control characters"
);
text!(
    /// Several lines for people, such as a note.
    Prose, 4000, is_text, r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufffe\uffff]+$",
    "characters without control characters other than line breaks and tabs"
);
text!(
    /// A session description (RFC 8866).
    Sdp, 32768, is_text, r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufffe\uffff]+$",
    "characters without control characters other than line breaks and tabs"
);

/// A password or a key. It is not printed and not written.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(Box<str>);

impl Secret {
    /// Longest, in bytes: what a slow hash is asked to read is bounded.
    pub const LONGEST: usize = 1024;

    /// Returns the text, for the one place that checks it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Secret {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || text.len() > Self::LONGEST {
            return Err("expected 1 to 1024 bytes");
        }
        Ok(Self(text.into()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "password", "minLength": 1, "maxLength": 1024 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_or_a_control_character_is_no_text() {
        // S7
        for text in ["501\r\nX: y", "501\0", "a\nb", "", "\u{1b}[2J", "a\u{2028}b", "\u{202e}evil"] {
            assert!(Destination::parse(text).is_err(), "{text:?}");
            assert!(Line::parse(text).is_err(), "{text:?}");
        }
        assert!(Destination::parse("sip:bob@tandem.test;user=phone").is_ok());
        assert!(Line::parse("Jürgen \u{1f600}").is_ok());
    }

    #[test]
    fn the_longest_text_passes_and_one_more_character_does_not() {
        assert!(Digits::parse(&"1".repeat(Digits::LONGEST)).is_ok());
        assert!(Digits::parse(&"1".repeat(Digits::LONGEST + 1)).is_err());
    }

    #[test]
    fn a_wrong_text_says_what_is_expected() {
        let error = serde_json::from_str::<Digits>("\"12a\"").unwrap_err();
        assert!(error.to_string().starts_with("expected 1 to 32 of 0 to 9, A to D, * and #"), "{error}");
    }
}
