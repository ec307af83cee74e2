//! Presence: whether people can be reached and what they do, in one place. It is made of their registrations, their calls, what they say
//! themselves and what their devices publish (RFC 3903); watchers over SIP and applications over CAS see the same.
//!
//! [`Presences`] is a machine: the loop that owns it tells it what happened and passes its changes on. It knows no SIP dialogs, no HTTP
//! and, but for the form in which something is kept, no storage.

pub mod dialog_info;
mod kept;
pub mod pidf;
pub mod publication;
pub mod right;
pub mod watch;
mod xml;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub use cas::text::Line;
pub use cas::topic::presence::{Availability, Presence, Status, Telephony};

pub use kept::Kept;
pub use publication::{Publish, PublishError};

use crate::call::graph::{Standing, View};
use crate::storage::Batch;
use publication::{Lasting, Publications};

/// What users say themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// How they are; none leaves it to their devices.
    pub status: Option<Status>,
    /// A line about it.
    pub note: Option<Line>,
    /// When it ends by itself.
    pub until: Option<Instant>,
}

/// A user as others see them.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Whether calls and messages have somewhere to go.
    pub open: bool,
    /// Every part that is known, without rollups.
    pub presence: Presence,
}

#[derive(Debug)]
struct Person {
    /// The end of the last registration.
    reachable_until: Option<Instant>,
    /// What the calls come to; [`Telephony::Idle`] without one.
    telephony: Telephony,
    said: Said,
    publications: Publications,
    /// What was told last.
    told: Seen,
    scheduled: Option<Instant>,
}

/// The presence of all users of whom anything is known.
#[derive(Debug, Default)]
pub struct Presences {
    /// No more than there are users: nobody else registers, calls or publishes here.
    people: BTreeMap<Arc<str>, Person>,
    deadlines: BTreeSet<(Instant, Arc<str>)>,
    changed: VecDeque<Arc<str>>,
}

impl Presences {
    /// Notes until when a user has a registered device; none without one.
    pub fn registered(&mut self, now: Instant, user: &str, until: Option<Instant>) {
        self.with(now, user, |person| person.reachable_until = until);
    }

    /// Notes what a user's calls come to: see [`telephony`].
    pub fn called(&mut self, now: Instant, user: &str, telephony: Telephony) {
        self.with(now, user, |person| person.telephony = telephony);
    }

    /// Notes what a user says, and returns what they said before.
    pub fn say(&mut self, now: Instant, user: &str, said: Said) -> Said {
        self.with(now, user, |person| std::mem::replace(&mut person.said, said))
    }

    /// Takes a PUBLISH of a user; `tag` names the publication from now on, and was never used before.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(&mut self, now: Instant, user: &str, publish: Publish, tag: &str) -> Result<(), PublishError> {
        self.with(now, user, |person| person.publications.publish(now, publish, tag))
    }

    /// Returns the write that makes what is published of a user last; `unix` is the time of day in milliseconds.
    #[must_use]
    pub fn kept(&self, now: Instant, unix: u64, user: &str) -> Batch {
        publication::batch(user, &self.published(now, unix, user))
    }

    /// Returns what is published of a user, for [`restore`](Self::restore); `unix` is the time of day in milliseconds.
    #[must_use]
    pub fn published(&self, now: Instant, unix: u64, user: &str) -> Vec<Lasting> {
        self.people.get(user).map_or_else(Vec::new, |person| person.publications.kept(now, unix))
    }

    /// Goes on with what was published in an earlier process, or before a change that is taken back; `unix` is the time of day in milliseconds.
    pub fn restore(&mut self, now: Instant, unix: u64, user: &str, published: Vec<Lasting>) {
        self.with(now, user, |person| person.publications.restore(now, unix, published));
    }

    /// Forgets a user who is none any more.
    pub fn remove(&mut self, now: Instant, user: &str) {
        self.with(now, user, |person| *person = Person { told: person.told.clone(), scheduled: person.scheduled, ..Person::new() });
    }

    /// Returns a user as they are now.
    #[must_use]
    pub fn seen(&self, user: &str) -> Seen {
        self.people.get(user).map_or_else(Seen::nobody, |person| person.told.clone())
    }

    /// Returns the next user whose presence changed. Who changed several times may come several times.
    pub fn poll_output(&mut self) -> Option<Arc<str>> {
        self.changed.pop_front()
    }

    /// Time has passed: registrations and publications end, and what users said for a while.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, user)) = self.deadlines.first().filter(|(at, _)| *at <= now).cloned() {
            self.with(now, &user, |_| {});
        }
    }

    /// Returns when to call [`Presences::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Works on a person, then sees what has changed by it.
    fn with<R>(&mut self, now: Instant, user: &str, work: impl FnOnce(&mut Person) -> R) -> R {
        let key = self.people.get_key_value(user).map_or_else(|| user.into(), |(key, _)| Arc::clone(key));
        let person = self.people.entry(Arc::clone(&key)).or_insert_with(Person::new);
        let result = work(person);
        person.forget(now);
        let seen = person.seen();
        if seen != person.told {
            person.told = seen;
            if self.changed.back() != Some(&key) {
                self.changed.push_back(Arc::clone(&key));
            }
        }
        let at = person.poll_timeout();
        if let Some(before) = std::mem::replace(&mut person.scheduled, at).filter(|before| Some(*before) != at) {
            self.deadlines.remove(&(before, Arc::clone(&key)));
        }
        if person.is_nobody() {
            self.people.remove(&key);
        }
        self.deadlines.extend(at.map(|at| (at, key)));
        result
    }
}

impl Person {
    fn new() -> Self {
        Self {
            reachable_until: None,
            telephony: Telephony::Idle,
            said: Said::default(),
            publications: Publications::default(),
            told: Seen::nobody(),
            scheduled: None,
        }
    }

    fn is_nobody(&self) -> bool {
        let said = self.said != Said::default() || !self.publications.is_empty();
        self.reachable_until.is_none() && self.telephony == Telephony::Idle && !said
    }

    /// Drops what has ended.
    fn forget(&mut self, now: Instant) {
        self.reachable_until = self.reachable_until.filter(|until| now < *until);
        self.publications.handle_timeout(now);
        if self.said.until.is_some_and(|until| until <= now) {
            self.said = Said::default();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.reachable_until, self.said.until, self.publications.poll_timeout()].into_iter().flatten().min()
    }

    /// Puts it together: what users say themselves goes before what a device of theirs says.
    fn seen(&self) -> Seen {
        let registered = self.reachable_until.is_some();
        let published = self.publications.latest();
        let (status, note) = if self.said.status.is_some() || self.said.note.is_some() {
            (self.said.status, self.said.note.clone())
        } else {
            (published.and_then(|document| document.status), published.and_then(|document| document.note.clone()))
        };
        let is_out = !registered && matches!(self.telephony, Telephony::Idle | Telephony::Offline);
        let telephony = if is_out { Telephony::Offline } else { self.telephony };
        let im = if registered { Availability::Available } else { Availability::Offline };
        let (mobile, most_available, semi_available) = (None, None, None);
        let presence = Presence { telephony: Some(telephony), im: Some(im), mobile, status, note, most_available, semi_available };
        Seen { open: registered || self.publications.is_open(), presence }
    }
}

impl Seen {
    /// Of whom nothing is known.
    fn nobody() -> Self {
        let (telephony, im) = (Some(Telephony::Offline), Some(Availability::Offline));
        let (mobile, status, note, most_available, semi_available) = (None, None, None, None, None);
        Self { open: false, presence: Presence { telephony, im, mobile, status, note, most_available, semi_available } }
    }
}

/// Returns what the calls of a user come to: a call that goes on says more than one on hold, and that more than one that rings.
pub fn telephony<'a>(user: &str, calls: impl IntoIterator<Item = &'a View>) -> Telephony {
    let standing = |view: &View| view.party_of(user).map(|party| party.state);
    let each = calls.into_iter().filter_map(standing).map(|standing| match standing {
        Standing::Calling | Standing::Connected => (3, Telephony::OnCall),
        Standing::Holding => (2, Telephony::OnHold),
        Standing::Ringing => (1, Telephony::Ringing),
        Standing::Left => (0, Telephony::Idle),
    });
    each.max_by_key(|(rank, _)| *rank).map_or(Telephony::Idle, |(_, telephony)| telephony)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Scene {
        presences: Presences,
        now: Instant,
        tags: u32,
    }

    impl Scene {
        fn new() -> Self {
            Self { presences: Presences::default(), now: crate::clock::now(), tags: 0 }
        }

        fn advance(&mut self, by: Duration) {
            let end = self.now + by;
            while let Some(at) = self.presences.poll_timeout().filter(|at| *at <= end) {
                assert!(at > self.now, "no deadline is left behind");
                self.now = at;
                self.presences.handle_timeout(at);
            }
            self.now = end;
        }

        fn changed(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.presences.poll_output()).map(|user| user.to_string()).collect()
        }

        fn register(&mut self, lasts: Duration) {
            self.presences.registered(self.now, "ann", Some(self.now + lasts));
        }

        fn publish(&mut self, matches: Option<&str>, lasts: Duration, body: Option<&str>) -> Result<String, PublishError> {
            self.tags += 1;
            let tag = format!("t{}", self.tags);
            let document = body.map(|body| {
                let body = format!("<presence><tuple><status><basic>open</basic></status></tuple><person><activities><{body}/></activities></person></presence>");
                pidf::parse(body.as_bytes()).unwrap()
            });
            let publish = Publish { matches: matches.map(str::to_owned), lasts, document };
            self.presences.publish(self.now, "ann", publish, &tag).map(|()| tag)
        }

        fn status(&self) -> Option<Status> {
            self.presences.seen("ann").presence.status
        }

        fn telephony(&self) -> Telephony {
            self.presences.seen("ann").presence.telephony.unwrap()
        }
    }

    #[test]
    fn a_user_is_offline_until_a_device_registers_and_again_when_the_last_registration_ends() {
        let mut scene = Scene::new();
        assert_eq!((scene.telephony(), scene.presences.seen("ann").open), (Telephony::Offline, false));
        scene.register(60 * SECOND);
        assert_eq!((scene.telephony(), scene.presences.seen("ann").open), (Telephony::Idle, true));
        scene.advance(30 * SECOND);
        scene.register(60 * SECOND);
        assert_eq!(scene.changed(), ["ann"], "a refresh changes nothing");
        scene.advance(59 * SECOND);
        assert_eq!(scene.telephony(), Telephony::Idle);
        scene.advance(SECOND);
        assert_eq!((scene.telephony(), scene.changed()), (Telephony::Offline, vec!["ann".to_owned()]));
        assert_eq!((scene.presences.people.len(), scene.presences.poll_timeout()), (0, None));
        scene.register(60 * SECOND);
        scene.presences.registered(scene.now, "ann", None);
        assert_eq!((scene.telephony(), scene.presences.poll_timeout()), (Telephony::Offline, None));
    }

    #[test]
    fn calls_show_whatever_is_registered() {
        let mut scene = Scene::new();
        scene.presences.called(scene.now, "ann", Telephony::OnCall);
        assert_eq!((scene.telephony(), scene.changed()), (Telephony::OnCall, vec!["ann".to_owned()]));
        scene.presences.called(scene.now, "ann", Telephony::OnCall);
        assert!(scene.changed().is_empty());
        scene.presences.called(scene.now, "ann", Telephony::Idle);
        assert_eq!((scene.telephony(), scene.presences.people.len()), (Telephony::Offline, 0));
    }

    #[test]
    fn a_publication_that_is_taken_back_leaves_what_was_published_before() {
        let mut scene = Scene::new();
        let tag = scene.publish(None, 600 * SECOND, Some("away")).unwrap();
        let before = scene.presences.published(scene.now, 0, "ann");
        let later = scene.publish(Some(&tag), 600 * SECOND, Some("busy")).unwrap();
        scene.presences.restore(scene.now, 0, "ann", before);
        assert_eq!(scene.status(), Some(Status::Away));
        assert_eq!(scene.publish(Some(&later), 600 * SECOND, None), Err(PublishError::NoMatch));
        scene.publish(Some(&tag), Duration::ZERO, None).unwrap();
        assert_eq!(scene.status(), None);
    }

    #[test]
    fn what_users_say_goes_before_what_their_devices_say_and_ends_when_they_said() {
        let mut scene = Scene::new();
        scene.publish(None, 600 * SECOND, Some("away")).unwrap();
        assert_eq!(scene.status(), Some(Status::Away));
        let said = Said { status: Some(Status::DoNotDisturb), note: None, until: Some(scene.now + 60 * SECOND) };
        scene.presences.say(scene.now, "ann", said);
        assert_eq!(scene.status(), Some(Status::DoNotDisturb));
        scene.publish(None, 600 * SECOND, Some("busy")).unwrap();
        assert_eq!(scene.status(), Some(Status::DoNotDisturb));
        let _ = scene.changed();
        scene.advance(60 * SECOND);
        assert_eq!((scene.status(), scene.changed()), (Some(Status::Busy), vec!["ann".to_owned()]));
        scene.presences.say(scene.now, "ann", Said { status: Some(Status::Available), note: None, until: None });
        assert_eq!(scene.status(), Some(Status::Available));
        scene.presences.say(scene.now, "ann", Said::default());
        assert_eq!(scene.status(), Some(Status::Busy));
    }

    #[test]
    fn a_publication_is_refreshed_modified_and_removed_by_its_tag() {
        // RFC 3903 §4 and §6
        let mut scene = Scene::new();
        let first = scene.publish(None, 60 * SECOND, Some("away")).unwrap();
        scene.advance(50 * SECOND);
        let second = scene.publish(Some(&first), 60 * SECOND, None).unwrap();
        scene.advance(50 * SECOND);
        assert_eq!(scene.status(), Some(Status::Away));
        assert_eq!(scene.publish(Some(&first), 60 * SECOND, None), Err(PublishError::NoMatch));
        let third = scene.publish(Some(&second), 60 * SECOND, Some("busy")).unwrap();
        assert_eq!(scene.status(), Some(Status::Busy));
        scene.publish(Some(&third), Duration::ZERO, None).unwrap();
        assert_eq!((scene.status(), scene.presences.people.len()), (None, 0));
        assert_eq!(scene.publish(Some(&third), 60 * SECOND, None), Err(PublishError::NoMatch));
        assert_eq!(scene.publish(None, 60 * SECOND, None), Err(PublishError::NoDocument));
        assert_eq!((scene.presences.people.len(), scene.presences.poll_timeout()), (0, None), "what is refused leaves nothing");
    }

    #[test]
    fn a_publication_nobody_refreshes_ends() {
        let mut scene = Scene::new();
        let tag = scene.publish(None, 60 * SECOND, Some("away")).unwrap();
        assert!(scene.presences.seen("ann").open);
        scene.advance(60 * SECOND);
        assert_eq!((scene.status(), scene.presences.seen("ann").open, scene.presences.poll_timeout()), (None, false, None));
        assert_eq!(scene.publish(Some(&tag), 60 * SECOND, None), Err(PublishError::NoMatch));
    }

    #[test]
    fn of_several_devices_the_one_that_spoke_last_counts() {
        let mut scene = Scene::new();
        let desk = scene.publish(None, 600 * SECOND, Some("busy")).unwrap();
        scene.advance(SECOND);
        let mobile = scene.publish(None, 600 * SECOND, Some("away")).unwrap();
        assert_eq!(scene.status(), Some(Status::Away));
        scene.advance(SECOND);
        scene.publish(Some(&desk), 600 * SECOND, None).unwrap();
        assert_eq!(scene.status(), Some(Status::Away), "a refresh says nothing new");
        scene.publish(Some(&mobile), Duration::ZERO, None).unwrap();
        assert_eq!(scene.status(), Some(Status::Busy));
    }

    #[test]
    fn a_user_has_so_many_publications_and_no_more() {
        // S11
        let mut scene = Scene::new();
        let mut tags: Vec<_> = Vec::new();
        for number in 0..=Publications::MAX as u64 {
            tags.push(scene.publish(None, Duration::from_secs(600 + number), Some("away")).unwrap());
        }
        assert_eq!(scene.presences.people["ann"].publications.len(), Publications::MAX);
        assert_eq!(scene.publish(Some(&tags[0]), 60 * SECOND, None), Err(PublishError::NoMatch));
        assert!(scene.publish(Some(&tags[1]), 60 * SECOND, None).is_ok());
    }
}
