//! Digits in bodies of SIP INFO, as phones send them: `application/dtmf-relay` and `application/dtmf`. No RFC defines them.

use std::time::Duration;

use super::{DEFAULT_DURATION, Digit, MAX_DURATION, MIN_DURATION};

/// Content type of [`print()`]'s bodies.
pub const CONTENT_TYPE: &str = "application/dtmf-relay";
/// Octets of the longest body that is read; a longer one is none.
const MAX_BODY: usize = 256;

/// Reads the digit and its duration from a body: `Signal=5` and `Duration=160` (milliseconds) on lines of their own, or the
/// digit alone. Some phones write event codes for `*`, `#` and the letters. A duration out of range counts as the nearest bound.
#[must_use]
pub fn parse(content_type: &str, body: &[u8]) -> Option<(Digit, Duration)> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let body = std::str::from_utf8(body).ok().filter(|body| body.len() <= MAX_BODY)?;
    if !media_type.eq_ignore_ascii_case(CONTENT_TYPE) && !media_type.eq_ignore_ascii_case("application/dtmf") {
        return None;
    }
    let (mut digit, mut duration) = (None, DEFAULT_DURATION);
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=').unwrap_or(("Signal", line));
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("Signal") {
            digit = Some(signal(value)?);
        } else if name.eq_ignore_ascii_case("Duration") {
            duration = Duration::from_millis(value.parse().ok()?);
        }
    }
    Some((digit?, duration.clamp(MIN_DURATION, MAX_DURATION)))
}

fn signal(value: &str) -> Option<Digit> {
    let mut letters = value.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Digit::from_letter(letter),
        (_, _) if value.eq_ignore_ascii_case("flash") => Some(Digit::FLASH),
        (_, _) => value.parse().ok().and_then(Digit::from_event),
    }
}

/// Writes the body of a digit, of type [`CONTENT_TYPE`].
#[must_use]
pub fn print(digit: Digit, duration: Duration) -> String {
    format!("Signal={}\r\nDuration={}\r\n", digit.letter(), duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<(char, u64)> {
        parse(CONTENT_TYPE, body.as_bytes()).map(|(digit, duration)| (digit.letter(), duration.as_millis() as u64))
    }

    #[test]
    fn bodies_of_phones_are_read() {
        assert_eq!(read("Signal=5\r\nDuration=160"), Some(('5', 160)));
        assert_eq!(read("Signal= 5\nDuration = 250\n"), Some(('5', 250)));
        assert_eq!(read("signal=#\r\n"), Some(('#', 160)));
        assert_eq!(read("Signal=11\r\nDuration=1\r\n"), Some(('#', 40)));
        assert_eq!(read("Duration=99999999\r\nSignal=a\r\nX=y"), Some(('A', 10_000)));
        let alone = parse("application/DTMF; charset=utf-8", b"*\r\n").unwrap();
        assert_eq!(alone.0.letter(), '*');
    }

    #[test]
    fn what_is_no_digit_is_none() {
        for body in ["", "Signal=", "Signal=55", "Signal=1\r\nDuration=x", "Duration=160", "Signal=-1", "=", "Signal=1\r\nSignal=x"] {
            assert_eq!(read(body), None, "{body:?}");
        }
        assert_eq!(parse(CONTENT_TYPE, b"\xff"), None);
        assert_eq!(parse(CONTENT_TYPE, &[b'\n'; 257]), None);
        assert_eq!(parse("text/plain", b"5"), None);
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for code in 0..=16 {
            let digit = Digit::from_event(code).unwrap();
            let body = print(digit, Duration::from_millis(320));
            assert_eq!(parse(CONTENT_TYPE, body.as_bytes()), Some((digit, Duration::from_millis(320))));
        }
    }
}
