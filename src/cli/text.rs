//! Texts of the command line: what people type as a time, what they read as one, and what may reach a terminal.

use std::time::Duration;

use time::OffsetDateTime;

use crate::clock;

/// Reads a time with its unit, such as `30s`, `10m`, `2h` or `1d`.
///
/// # Errors
///
/// What is accepted.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "expected a number with its unit, such as 500ms, 30s, 10m, 2h or 1d";
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(WRONG)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(WRONG),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or(WRONG)
}

/// Returns what time it is, in milliseconds since 1970, UTC.
pub(super) fn now() -> u64 {
    u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX)
}

/// Writes a moment in milliseconds since 1970 as date and time, UTC.
pub(super) fn moment(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else { return millis.to_string() };
    let (year, month, day) = at.to_calendar_date();
    format!("{year:04}-{:02}-{day:02} {:02}:{:02}:{:02}Z", u8::from(month), at.hour(), at.minute(), at.second())
}

/// Writes a span of time with its two largest units.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Replaces what could steer a terminal or forge a line; names and agents come from the network.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes JSON whose every character is harmless on a terminal; what is escaped is still the same JSON.
pub(super) fn harmless_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) && c != '\n' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit_and_does_not_overflow() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "10", "m", "1.5h", "-1s", "10 m", "99999999999999999999s", "9999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(moment(1_401_919_283_512), "2014-06-04 22:01:23Z");
        assert_eq!(moment(u64::MAX), u64::MAX.to_string());
        assert_eq!([span(900), span(61_000), span(3_600_000), span(90_000_000)], ["0s", "1m 1s", "1h 0m", "1d 1h"]);
    }

    #[test]
    fn nothing_from_the_network_steers_the_terminal() {
        // S16
        assert_eq!(printable("a\x1b[2Jb\u{9b}\u{202e}é\n"), "a\\u{1b}[2Jb\\u{9b}\\u{202e}é\\u{a}");
        let json = serde_json::to_string("a\u{9b}\u{202e}é\x1b").unwrap();
        let harmless = harmless_json(&json);
        assert!(harmless.chars().all(|c| !steers(c)), "{harmless}");
        assert_eq!(serde_json::from_str::<String>(&harmless).unwrap(), "a\u{9b}\u{202e}é\x1b");
    }
}
