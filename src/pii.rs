//! Redaction of people's numbers, names and addresses in logs.

use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static SHOWN: AtomicBool = AtomicBool::new(false);

/// Shows people's data in logs from now on: an operator asked for it (`TANDEM_LOG_PII=show`).
pub fn show() {
    SHOWN.store(true, Ordering::Relaxed);
}

/// Wraps a value that tells who somebody is. It prints as a tag that is the same for the same value while the process
/// lives, so that lines can be matched, and tells nothing else.
pub struct Pii<T>(pub T);

impl<T: fmt::Display> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if SHOWN.load(Ordering::Relaxed) {
            return self.0.fmt(f);
        }
        let mut tag = Tag(key().build_hasher());
        write!(tag, "{}", self.0)?;
        write!(f, "pii:{:06x}", tag.0.finish() & 0xff_ffff)
    }
}

impl<T: fmt::Display> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key is drawn at start: a tag cannot be looked up in a table of numbers.
fn key() -> &'static RandomState {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new)
}

struct Tag<H>(H);

impl<H: Hasher> Write for Tag<H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_prints_as_a_tag_that_only_matches_itself() {
        let tag = Pii("+49301234").to_string();
        assert_eq!(tag, format!("{:?}", Pii(String::from("+49301234"))));
        assert_ne!(tag, Pii("+49301235").to_string());
        assert!(tag.starts_with("pii:") && !tag.contains("49301234"), "{tag}");
    }
}
