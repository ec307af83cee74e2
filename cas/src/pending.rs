//! Requests that wait for a provider or a plug-in: how long the client waits, what it is told then, and what ties the final reply to
//! the pending one. It knows no topics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::login::LoginId;
use crate::plugin::TIME_LIMIT;
use crate::server::{Asked, StreamId};
use crate::topic::Mode;

/// Most requests of one login that wait: those of the largest bulk, and some beside it. A further one is refused.
pub const MAX_PENDING_OF_LOGIN: usize = 128;

/// Most requests that wait at once. A further one is refused.
pub const MAX_PENDING: usize = 16_384;

/// How long a client that has no preference waits for a provider that reads or writes a store.
pub const QUICK_LIMIT: Duration = Duration::from_secs(10);

/// How long a provider that must ask somebody else may take.
pub const SLOW_LIMIT: Duration = Duration::from_secs(180);

/// How long a client that has no preference waits for a plug-in; then the answer comes as an event.
pub const MOMENT: Duration = Duration::from_millis(500);

/// How long a client may ask to wait.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// What the client prefers (RFC 7240).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// `respond-async`: a pending reply at once, or when `wait` is over.
    pub respond_async: bool,
    /// `wait`: how long the client waits for the answer, before a pending reply.
    pub wait: Option<Duration>,
}

impl Prefer {
    /// Reads a Prefer header. Preferences that are not known here are ignored, as the RFC says.
    ///
    /// # Errors
    ///
    /// `bad-message` for a `wait` that is no number of seconds.
    pub fn parse(header: &str) -> Result<Self, Error> {
        let mut prefer = Self::default();
        for preference in header.split(',') {
            let token = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = token.split_once('=').map_or((token, ""), |(name, value)| (name.trim(), value.trim()));
            if name.eq_ignore_ascii_case("respond-async") {
                prefer.respond_async = true;
            } else if name.eq_ignore_ascii_case("wait") {
                let seconds: Result<u32, _> = value.trim_matches('"').parse();
                let seconds = seconds.map_err(|_| Error::header("prefer", "header prefer: wait must be a number of seconds"))?;
                prefer.wait = Some(Duration::from_secs(seconds.into()).min(MAX_WAIT));
            }
        }
        Ok(prefer)
    }

    /// Returns how long the client waits, and what it is told when that is over.
    pub(crate) fn patience(self, pace: &Pace) -> (Duration, Then) {
        match (self.wait, self.respond_async) {
            (Some(wait), _) => (wait, Then::Pending),
            (None, true) => (Duration::ZERO, Then::Pending),
            (None, false) => (pace.wait, pace.then),
        }
    }
}

/// How fast somebody serves.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How long a client without a preference waits,
    wait: Duration,
    /// and what it is told then.
    then: Then,
    /// How long the work may take.
    pub(crate) limit: Duration,
}

impl Pace {
    /// A plug-in's.
    pub(crate) const PLUGIN: Self = Self { wait: MOMENT, then: Then::Pending, limit: TIME_LIMIT };

    /// A provider's.
    pub(crate) const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Own | Mode::Quick => Self { wait: QUICK_LIMIT, then: Then::Timeout, limit: QUICK_LIMIT },
            Mode::Slow => Self { wait: Duration::ZERO, then: Then::Pending, limit: SLOW_LIMIT },
        }
    }
}

/// What a client is told whose wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The answer takes longer; it comes as an event.
    Pending,
    /// There is no answer.
    Timeout,
}

/// Number of a piece of work that a provider or a plug-in does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServeId(pub u64);

/// Who works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// A provider of the host.
    Provider,
    /// The plug-in on this stream.
    Plugin(StreamId),
    /// A provider, for the snapshot that a stream lacks.
    SnapshotFor(StreamId, u64),
    /// A provider, for the snapshot that a waiting request lacks: in place of the events after a number, up to another.
    SnapshotReply {
        /// The number that the client has.
        after: u64,
        /// The last that the snapshot covers.
        at: u64,
    },
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) login: LoginId,
    /// Whom the answer goes to; none for a stream's snapshot.
    pub(crate) asked: Option<Asked>,
    pub(crate) worker: Worker,
    /// When the client is told something else than the answer.
    pub(crate) until: Instant,
    pub(crate) then: Then,
    /// When the work is given up.
    pub(crate) deadline: Instant,
    /// What the client was told to know the final reply by.
    pub(crate) pending_id: Option<u64>,
}

/// All requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Pendings {
    last: u64,
    by_id: BTreeMap<ServeId, Pending>,
}

impl Pendings {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn add(&mut self, pending: Pending) -> ServeId {
        self.last += 1;
        self.by_id.insert(ServeId(self.last), pending);
        ServeId(self.last)
    }

    pub(crate) fn find(&self, id: ServeId) -> Option<&Pending> {
        self.by_id.get(&id)
    }

    pub(crate) fn find_mut(&mut self, id: ServeId) -> Option<&mut Pending> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn take(&mut self, id: ServeId) -> Option<Pending> {
        self.by_id.remove(&id)
    }

    /// Returns the work that fits.
    pub(crate) fn which(&self, fits: impl Fn(&Pending) -> bool) -> Vec<ServeId> {
        self.by_id.iter().filter(|(_, pending)| fits(pending)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_read_and_a_strange_one_ignored() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(Prefer::parse("respond-async, wait=5"), Ok(Prefer { respond_async: true, wait: seconds(5) }));
        assert_eq!(Prefer::parse("handling=lenient; x, Wait = \"7\""), Ok(Prefer { respond_async: false, wait: seconds(7) }));
        assert_eq!(Prefer::parse("wait=4000000"), Ok(Prefer { respond_async: false, wait: Some(MAX_WAIT) }));
        assert_eq!(Prefer::parse(""), Ok(Prefer::default()));
        assert_eq!(Prefer::parse("wait=soon").unwrap_err().header.as_deref(), Some("prefer"));
    }

    #[test]
    fn a_client_without_a_preference_waits_for_a_store_and_a_moment_for_a_plug_in_and_not_for_people() {
        let none = Prefer::default();
        let (quick, slow) = (Pace::of(Mode::Quick), Pace::of(Mode::Slow));
        assert_eq!(none.patience(&quick), (QUICK_LIMIT, Then::Timeout));
        assert_eq!(none.patience(&Pace::PLUGIN), (MOMENT, Then::Pending));
        assert_eq!(none.patience(&slow), (Duration::ZERO, Then::Pending));
        let wait = Prefer { respond_async: true, wait: Some(Duration::from_secs(3)) };
        assert_eq!(wait.patience(&quick), (Duration::from_secs(3), Then::Pending));
        let at_once = Prefer { respond_async: true, wait: None };
        assert_eq!(at_once.patience(&quick), (Duration::ZERO, Then::Pending));
    }
}
