//! What the log says of those whom CAS does not let in. It knows no message and no login.

use std::time::{Duration, Instant};

use cas::server::{Denied, Peer};
use cas::text::UserName;
use tracing::info;

use crate::pii::Pii;

/// Lines in a minute; of what is beyond, only that there was more. Passwords are counted and refused long before, tokens are not.
const LINES: u32 = 600;
const MINUTE: Duration = Duration::from_secs(60);

/// The lines of this minute.
#[derive(Debug)]
pub(super) struct Log {
    since: Instant,
    lines: u32,
}

impl Log {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, lines: 0 }
    }

    /// Writes a line as `request::auth` does for SIP.
    pub(super) fn write(&mut self, now: Instant, peer: Peer, user: Option<&UserName>, why: Denied) {
        if now.saturating_duration_since(self.since) >= MINUTE {
            *self = Self::new(now);
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines >= LINES {
            if self.lines == LINES {
                info!("more wrong credentials of CAS than a minute has lines for; the next ones are not told");
            }
            return;
        }
        let source = peer.address().map_or_else(|| "host".to_owned(), |address| address.to_string());
        let user = user.map(|user| tracing::field::display(Pii(user.as_str())));
        match why {
            Denied::Credentials => info!(user, %source, "wrong credentials"),
            Denied::Token => info!(%source, "wrong or expired token"),
            Denied::TooMany => info!(user, %source, "too many wrong credentials"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_is_denied_is_told_without_their_name_and_not_without_end() {
        // S11 S16
        let lines = Lines::default();
        let sink = lines.clone();
        let logs = tracing_subscriber::fmt().with_ansi(false).with_writer(move || sink.clone()).finish();
        let taken = || String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
        tracing::subscriber::with_default(logs, || {
            let (now, peer) = (crate::clock::now(), Peer::Network { address: [192, 0, 2, 1].into(), wire: cas::server::Wire::Encrypted });
            let mut log = Log::new(now);
            let ann = UserName::parse("ann").unwrap();
            log.write(now, peer, Some(&ann), Denied::Credentials);
            let line = taken();
            assert!(line.contains("wrong credentials user=pii:") && line.contains("source=192.0.2.1"), "{line}");
            log.write(now, peer, None, Denied::Credentials);
            assert!(taken().contains("wrong credentials source=192.0.2.1"));
            (0..2 * LINES).for_each(|_| log.write(now, peer, None, Denied::Token));
            assert_eq!(taken().lines().count(), LINES as usize - 2);
            log.write(now + MINUTE, Peer::Host, Some(&ann), Denied::TooMany);
            assert!(taken().contains("too many wrong credentials user=pii:"));
        });
    }
}
