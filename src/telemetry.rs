//! Logs: to standard error, filtered by `TANDEM_LOG` (default `info`), one line an event whatever a peer sent; and [`metrics`].

pub mod metrics;

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::pii;

/// Starts logging. Variables: `TANDEM_LOG`, a filter such as `info,tandem::net=debug`; `TANDEM_LOG_PII=show`.
///
/// # Errors
///
/// One sentence where the filter cannot be read.
pub fn start(format: LogFormat) -> Result<(), String> {
    let filter = std::env::var("TANDEM_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| format!("TANDEM_LOG: {filter:?} is no filter ({error}); accepted: \"info\" or \"info,tandem::net=debug\""))?;
    if std::env::var("TANDEM_LOG_PII").is_ok_and(|value| value == "show") {
        pii::show();
    }
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || Escape(io::stderr(), format));
    let started = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("logging cannot start: {error}"))
}

/// Writes control characters as `\x1b`, or `\u001b` in JSON, so that a value from the network can forge neither a line nor a colour. The
/// formatter writes one event at a time, with its line end.
struct Escape<W>(W, LogFormat);

impl<W: Write> Write for Escape<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = match event.split_last() {
            Some((b'\n', text)) => (text, &b"\n"[..]),
            Some(_) | None => (event, &b""[..]),
        };
        let mut escaped = Vec::with_capacity(event.len());
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                    match self.1 {
                        LogFormat::Text => write!(escaped, "\\x{:02x}", u32::from(c))?,
                        LogFormat::Json => write!(escaped, "\\u{:04x}", u32::from(c))?,
                    }
                } else {
                    write!(escaped, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(escaped, "\\x{byte:02x}")?;
            }
        }
        escaped.extend_from_slice(end);
        self.0.write_all(&escaped)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_forges_neither_line_nor_colour() {
        // S16
        let mut written = Vec::new();
        let event = "from=a\r\nERROR fake \x1b[31m\u{85}\u{202e} grün\n";
        assert_eq!(Escape(&mut written, LogFormat::Text).write(event.as_bytes()).unwrap(), event.len());
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text, "from=a\\x0d\\x0aERROR fake \\x1b[31m\\x85\\x202e grün\n");
    }

    #[test]
    fn an_event_of_the_real_formatter_stays_one_line() {
        // S16
        let written = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = written.clone();
        let logs = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Escape(Shared(sink.clone()), LogFormat::Text)).finish();
        tracing::subscriber::with_default(logs, || tracing::info!(name = %"a\nb\x07", "c\nd"));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.contains('\x07'));
    }

    #[test]
    fn an_event_in_json_stays_json_whatever_is_in_it() {
        // S16
        let written = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = written.clone();
        let writer = move || Escape(Shared(sink.clone()), LogFormat::Json);
        let logs = tracing_subscriber::fmt().with_ansi(false).json().flatten_event(true).with_writer(writer).finish();
        tracing::subscriber::with_default(logs, || tracing::info!(name = %"a\nb\u{202e}\"\\", "said"));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&event["message"], &event["name"]), (&"said".into(), &"a\nb\u{202e}\"\\".into()));
        assert!(!text.contains('\u{202e}') && text.matches('\n').count() == 1);
    }

    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
