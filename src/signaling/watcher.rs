//! Who watches whom over SIP (RFC 6665), and what changes a user's presence: registrations, calls, publications. When an endpoint's
//! subscription is due, the document is written here from the state of that moment.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::message::Name;
use sip::{Aor, Incoming, Response, StatusCode, SubscriptionEvent, SubscriptionId, Termination};
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::ask::Undo;
use super::unwritten::Published;
use super::{News, Signaling, Unwritten, millis};
use crate::call::graph::{self, State, View};
use crate::pii::Pii;
use crate::presence::dialog_info::{self, Shown};
use crate::presence::right::sight;
use crate::presence::watch::{Package, Watch};
use crate::presence::{Kept, Presence, PublishError, Said, pidf, telephony};
use crate::request::publish::Publication;
use crate::retry::Retry;
use crate::storage::StorageError;

/// The subscriptions and what each is for.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    watches: HashMap<SubscriptionId, Entry>,
    by_user: BTreeSet<(Arc<str>, Package, SubscriptionId)>,
    by_watcher: HashMap<Arc<str>, usize>,
    /// The subscriptions of an earlier process whose watcher was not heard since, by watcher.
    absent: HashMap<Arc<str>, BTreeSet<SubscriptionId>>,
    /// Which start of the process on its store this is.
    pub(super) start: u32,
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) watch: Watch,
    /// Of the next document (RFC 4235 §4.1.1).
    pub(super) version: u32,
    /// The store has it, or will.
    pub(super) is_kept: bool,
}

impl Watchers {
    /// Most subscriptions of one user's devices; a further one is answered 503 with Retry-After.
    const MAX_OF_ONE: usize = if cfg!(test) { 3 } else { 1000 };

    fn is_full(&self, watcher: &str) -> bool {
        self.by_watcher.get(watcher).is_some_and(|count| *count >= Self::MAX_OF_ONE)
    }

    fn insert(&mut self, id: SubscriptionId, watch: Watch) {
        *self.by_watcher.entry(Arc::clone(&watch.watcher)).or_default() += 1;
        self.by_user.insert((Arc::clone(&watch.user), watch.package, id));
        self.watches.insert(id, Entry { watch, version: 0, is_kept: false });
    }

    /// Notes a subscription of an earlier process.
    pub(super) fn restore(&mut self, id: SubscriptionId, watch: Watch, version: u32) {
        self.absent.entry(Arc::clone(&watch.watcher)).or_default().insert(id);
        self.insert(id, watch);
        if let Some(entry) = self.watches.get_mut(&id) {
            (entry.version, entry.is_kept) = (version, true);
        }
    }

    pub(super) fn entry(&mut self, id: SubscriptionId) -> Option<&mut Entry> {
        self.watches.get_mut(&id)
    }

    /// Returns the subscriptions of a watcher who was not heard since the start.
    pub(super) fn absent(&self, watcher: &str) -> Option<&BTreeSet<SubscriptionId>> {
        self.absent.get(watcher)
    }

    /// The watcher of a subscription was heard, or is gone.
    pub(super) fn heard(&mut self, id: SubscriptionId) {
        let Some(entry) = self.watches.get(&id).filter(|_| !self.absent.is_empty()) else { return };
        if let Some(absent) = self.absent.get_mut(&entry.watch.watcher) {
            absent.remove(&id);
            if absent.is_empty() {
                self.absent.remove(&entry.watch.watcher);
            }
        }
    }

    fn remove(&mut self, id: SubscriptionId) -> Option<Entry> {
        self.heard(id);
        let entry = self.watches.remove(&id)?;
        self.by_user.remove(&(Arc::clone(&entry.watch.user), entry.watch.package, id));
        if let Some(count) = self.by_watcher.get_mut(&entry.watch.watcher) {
            *count -= 1;
            if *count == 0 {
                self.by_watcher.remove(&entry.watch.watcher);
            }
        }
        Some(entry)
    }

    /// Returns whose subscription it is.
    pub(super) fn watcher(&self, id: SubscriptionId) -> Option<&str> {
        self.watches.get(&id).map(|entry| &*entry.watch.watcher)
    }

    /// Returns the subscriptions to a user, and those of the user's devices.
    fn with(&self, user: &str) -> Vec<SubscriptionId> {
        let is_theirs = |watched: &str, id| watched == user || self.watcher(id) == Some(user);
        self.by_user.iter().filter(|(watched, _, id)| is_theirs(watched, *id)).map(|(_, _, id)| *id).collect()
    }

    /// Returns the subscriptions to one package of a user.
    fn of(&self, user: &Arc<str>, package: Package) -> Vec<SubscriptionId> {
        let (first, last) = (SubscriptionId::FIRST, SubscriptionId::LAST);
        let range = (Arc::clone(user), package, first)..=(Arc::clone(user), package, last);
        self.by_user.range(range).map(|(_, _, id)| *id).collect()
    }
}

impl Signaling {
    // ---- watchers

    pub(super) fn watch(&mut self, incoming: &Incoming, watch: Watch) {
        if self.watchers.is_full(&watch.watcher) {
            info!(watcher = %Pii(&watch.watcher), limit = Watchers::MAX_OF_ONE, "too many subscriptions");
            let mut response = self.sip.reply(&incoming.request, StatusCode::SERVICE_UNAVAILABLE);
            Retry::Later.push(&mut response.headers, &mut self.random);
            return self.sip.respond_statelessly(incoming, &response);
        }
        let user = Arc::clone(&watch.user);
        let Some(id) = self.sip.subscribe(self.now, incoming) else { return };
        debug!(watcher = %Pii(&watch.watcher), user = %Pii(&user), package = ?watch.package, "subscribed");
        self.watchers.insert(id, watch);
        self.look_at(&user);
    }

    pub(super) fn handle_subscription(&mut self, id: SubscriptionId, event: SubscriptionEvent) {
        match event {
            SubscriptionEvent::Asked => self.keep_watch(id),
            SubscriptionEvent::Due => self.notify(id),
            SubscriptionEvent::Ended => {
                let Some(Entry { watch, is_kept, .. }) = self.watchers.remove(id) else { return };
                debug!(watcher = %Pii(&watch.watcher), user = %Pii(&watch.user), package = ?watch.package, "no longer subscribed");
                if is_kept {
                    self.forget_watch(id);
                }
            }
        }
    }

    /// Writes the document that a watcher is due, by the rights of this moment.
    fn notify(&mut self, id: SubscriptionId) {
        let Some(entry) = self.watchers.entry(id) else { return };
        let Watch { watcher, user, address, package } = entry.watch.clone();
        let version = entry.version;
        entry.version = version.saturating_add(1);
        let aor = || Aor::new(&address, &self.domain).or_else(|| Aor::new(&user, &self.domain));
        let watched = self.users.named(&user).and_then(|user| Some((user, aor()?)));
        let Some((watched, aor)) = watched else {
            return self.end_watch(id, Termination::NoResource);
        };
        let Some(sight) = self.users.named(&watcher).and_then(|watcher| sight(watcher, watched, &self.groups)) else {
            return self.end_watch(id, Termination::Rejected);
        };
        let body = match package {
            Package::Presence => {
                let seen = self.presences.seen(&user);
                pidf::print(&aor, seen.open, &seen.presence)
            }
            Package::Dialog => {
                let views: Vec<Arc<View>> = self.calls.views_of(&user).collect();
                let shown: Vec<Shown<'_>> = views.iter().flat_map(|view| self.shown(view, &user)).collect();
                dialog_info::print(&aor, version, sight, &shown)
            }
        };
        self.sip.notify(self.now, id, package.content_type(), body);
    }

    /// Returns the dialogs of a user in a call: one for each device, or one before any is reached.
    fn shown<'a>(&self, view: &'a View, user: &str) -> Vec<Shown<'a>> {
        let Some(party) = view.party_of(user).filter(|_| view.state != State::Ended) else { return Vec::new() };
        if party.legs.is_empty() {
            return vec![Shown { view, party, leg: None, names: None }];
        }
        let names = |leg: &graph::Leg| leg.dialog.and_then(|dialog| self.sip.replaces(dialog));
        party.legs.iter().map(|leg| Shown { view, party, leg: Some(leg), names: names(leg) }).collect()
    }

    // ---- what changes a presence

    pub(super) fn publish(&mut self, incoming: &Incoming, publication: Publication) {
        let server = self.sip.admit(self.now, incoming);
        let (tag, lasts) = (self.random.token(), publication.publish.lasts);
        self.look_at(&publication.user);
        let before = self.presences.published(self.now, millis(self.unix), &publication.user);
        let published = self.presences.publish(self.now, &publication.user, publication.publish, &tag);
        let status = match published {
            Ok(()) => StatusCode::OK,
            Err(PublishError::NoMatch) => StatusCode::CONDITIONAL_REQUEST_FAILED,
            Err(PublishError::NoDocument) => StatusCode::BAD_REQUEST,
        };
        let mut response = Response::to(&incoming.request, status);
        response.set_to_tag(&self.random.token());
        if published.is_err() {
            return self.sip.respond(self.now, server, &response);
        }
        response.headers.push(Name::SipEtag, &*tag);
        response.headers.push(Name::Expires, lasts.as_secs().to_string());
        let batch = self.presences.kept(self.now, millis(self.unix), &publication.user);
        self.write(&batch, Unwritten::Published(Box::new(Published { server, response, user: publication.user, before })));
    }

    /// Tells of users as they are now; unknown ones are left out.
    pub(super) fn look_at_all(&mut self, users: Vec<String>) -> Vec<(String, Presence)> {
        let users = users.into_iter().filter(|user| self.users.named(user).is_some()).collect::<Vec<_>>();
        let each = users.into_iter().map(|user| {
            self.look_at(&user);
            let presence = self.presences.seen(&user).presence;
            (user, presence)
        });
        each.collect()
    }

    /// Notes what a user says; answers when that is durable.
    pub(super) fn say(&mut self, user: &str, kept: Kept, answer: oneshot::Sender<Result<Option<Presence>, StorageError>>) {
        if self.users.named(user).is_none() {
            // who asked may have gone away meanwhile
            return drop(answer.send(Ok(None)));
        }
        let batch = kept.batch(user);
        self.look_at(user);
        let before = self.presences.say(self.now, user, kept.said(self.now, millis(self.unix)));
        let presence = self.presences.seen(user).presence;
        let told = move |written: Result<(), _>| drop(answer.send(written.map(|()| Some(presence))));
        self.write(&batch, Unwritten::Asked(Box::new(told), Box::new(Undo::said(user, before))));
    }

    /// A user's bindings may have changed, or somebody asks for the first time.
    pub(super) fn look_at(&mut self, user: &str) {
        let Some(aor) = Aor::new(user, &self.domain).filter(|_| self.users.named(user).is_some()) else {
            return self.presences.remove(self.now, user);
        };
        let (now, unix) = (self.now, self.unix());
        let left = |at: sip::UnixTime| Duration::from_secs(at.0.saturating_sub(unix.0));
        let bindings = self.locations.of(&aor);
        let until: Option<Instant> =
            bindings.iter().filter(|binding| !binding.is_expired(unix)).map(|binding| now + left(binding.expires_at)).max();
        self.presences.registered(now, user, until);
    }

    /// A user is none any more: they are in no call, nobody watches what there is not, and the next one of that name has said nothing and
    /// watches nobody. Returns what was said before.
    pub(super) fn forget_user(&mut self, user: &str) -> Said {
        let before = self.presences.say(self.now, user, Said::default());
        for id in self.watchers.with(user) {
            self.end_watch(id, Termination::NoResource);
        }
        self.past.forget(user);
        let (calls, mut switch) = self.calls();
        calls.remove_user(&mut switch, user);
        before
    }

    /// What a call comes to for each user in it.
    pub(super) fn follow_call(&mut self, event: &graph::Event) {
        let views = [event.before.as_ref(), Some(&event.after)];
        let users = views.into_iter().flatten().flat_map(|view| &view.parties).filter_map(|party| party.who.user());
        let users: BTreeSet<Arc<str>> = users.cloned().collect();
        for user in users {
            if self.users.named(&user).is_none() {
                continue;
            }
            let views: Vec<Arc<View>> = self.calls.views_of(&user).collect();
            let going_on = views.iter().map(|view| &**view).filter(|view| view.state != State::Ended);
            self.look_at(&user); // after a restart nobody has looked yet
            self.presences.called(self.now, &user, telephony(&user, going_on));
            let before = event.before.as_ref().and_then(|view| lamp(view, &user));
            if before != lamp(&event.after, &user) {
                for id in self.watchers.of(&user, Package::Dialog) {
                    self.sip.changed(self.now, id);
                }
            }
        }
    }

    /// A user's presence is another.
    pub(super) fn presence_changed(&mut self, user: &Arc<str>) {
        self.news.tell(News::Presence(Arc::clone(user), Box::new(self.presences.seen(user).presence)));
        for id in self.watchers.of(user, Package::Presence) {
            self.sip.changed(self.now, id);
        }
    }
}

/// What a dialog document shows of a user's part in a call: where it is not another, no lamp changes.
#[derive(PartialEq)]
struct Lamp<'a> {
    standing: graph::Standing,
    legs: Vec<(u32, graph::Standing)>,
    parties: Vec<(&'a str, graph::Standing)>,
    rings: bool,
}

fn lamp<'a>(view: &'a View, user: &str) -> Option<Lamp<'a>> {
    let party = view.party_of(user).filter(|_| view.state != State::Ended)?;
    let legs = party.legs.iter().map(|leg| (leg.id.0, leg.state)).collect();
    let parties = view.parties.iter().map(|other| (&*other.address, other.state)).collect();
    Some(Lamp { standing: party.state, legs, parties, rings: view.ringing_at.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(watcher: &str, user: &str, package: Package) -> Watch {
        Watch { watcher: watcher.into(), user: user.into(), address: user.into(), package }
    }

    #[test]
    fn subscriptions_are_found_by_user_and_package_and_forgotten() {
        let (first, last) = (SubscriptionId::FIRST, SubscriptionId::LAST);
        let mut watchers = Watchers::default();
        watchers.insert(first, watch("bob", "ann", Package::Presence));
        watchers.insert(last, watch("bob", "ann", Package::Dialog));
        assert_eq!(watchers.of(&"ann".into(), Package::Presence), [first]);
        assert_eq!(watchers.of(&"ann".into(), Package::Dialog), [last]);
        assert!(watchers.of(&"bob".into(), Package::Dialog).is_empty());
        assert!(watchers.remove(first).is_some() && watchers.remove(last).is_some() && watchers.remove(last).is_none());
        assert!(watchers.by_user.is_empty() && watchers.by_watcher.is_empty());
    }

    #[test]
    fn a_watcher_is_absent_after_a_restart_until_it_is_heard_or_gone() {
        let (first, last) = (SubscriptionId::FIRST, SubscriptionId::LAST);
        let mut watchers = Watchers::default();
        watchers.restore(first, watch("bob", "ann", Package::Presence), 4097);
        watchers.restore(last, watch("bob", "ann", Package::Dialog), 4098);
        assert_eq!(watchers.of(&"ann".into(), Package::Dialog), [last]);
        assert!(watchers.entry(last).is_some_and(|entry| entry.version == 4098 && entry.is_kept));
        assert_eq!(watchers.absent("bob"), Some(&[first, last].into()));
        watchers.heard(first);
        assert_eq!(watchers.absent("bob"), Some(&[last].into()));
        assert!(watchers.remove(last).is_some_and(|entry| entry.is_kept));
        assert!(watchers.absent("bob").is_none() && watchers.absent.is_empty());
    }
}
