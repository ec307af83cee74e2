//! Logins whose client has gone without a word: it has no stream, waits for no event and for no reply. Long before such a login is
//! abandoned the host learns of it, so that nobody is called who cannot hear of it; and when the client is there again.

use std::time::{Duration, Instant};

use super::{Output, Server, Timer};
use crate::login::LoginId;

/// How long a client may have no stream and ask for nothing until it counts as away: a page may be loaded anew meanwhile.
pub const AWAY_LIMIT: Duration = Duration::from_secs(15);

impl Server {
    /// Notes that a client is there.
    pub(super) fn touch(&mut self, now: Instant, id: LoginId) {
        let Some(login) = self.logins.find_mut(id) else { return };
        login.last_active = now;
        let was_away = std::mem::take(&mut login.is_away);
        let was_watched = std::mem::replace(&mut login.is_watched, true);
        if was_away {
            self.output(Output::Back(id));
        }
        if !was_watched {
            self.after(now + AWAY_LIMIT, Timer::Away(id));
        }
    }

    /// Looks whether a client is still there. One that listens is looked at again when it has stopped.
    pub(super) fn away_due(&mut self, now: Instant, id: LoginId) {
        let is_polling = self.polls.contains_key(&id);
        let Some(login) = self.logins.find_mut(id) else { return };
        let ends = login.last_active + AWAY_LIMIT;
        match () {
            () if is_polling || !login.streams.is_empty() => login.is_watched = false,
            () if login.waiting > 0 => self.after(now + AWAY_LIMIT, Timer::Away(id)),
            () if now < ends => self.after(ends, Timer::Away(id)),
            () => {
                (login.is_watched, login.is_away) = (false, true);
                self.output(Output::Away(id));
            }
        }
    }
}
