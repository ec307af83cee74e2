//! What outlives the process of subscriptions (RFC 6665) and publications (RFC 3903): each is durable before its 200, and the next process
//! goes on with it. Watchers hear the whole state soon after a start, one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sip::registrar::Received;
use sip::{Aor, Flow, Restart, StatusCode, SubscriptionId, Termination};
use tracing::info;

use super::outside::is_same_place;
use super::{Signaling, Unwritten, millis};
use crate::presence::publication::Lasting;
use crate::presence::watch::{Found, Kept, removed};
use crate::retry::Retry;
use crate::storage::Batch;

/// From one first NOTIFY after a start to the next: a thousand a second.
const PAUSE: Duration = Duration::from_millis(1);

impl Signaling {
    /// Goes on with what an earlier process was told.
    pub(super) fn take_up(&mut self, mut found: Found, published: Vec<(String, Vec<Lasting>)>) {
        for (user, publications) in published {
            if self.users.named(&user).is_some() {
                self.look_at(&user);
                self.presences.restore(self.now, millis(self.unix), &user, publications);
            }
        }
        self.watchers.start = found.start;
        let mut over = Vec::new();
        let mut notify_at = self.now;
        // the subscriptions of one phone follow each other in the store: it shall not get all at a time
        for left in (1..=found.subscriptions.len()).rev() {
            let chosen = usize::try_from(self.random.below(left as u64)).unwrap_or(0);
            let (id, kept) = found.subscriptions.swap_remove(chosen);
            let starts = found.start.saturating_sub(kept.start);
            let restart = Restart { now: self.now, unix: self.unix(), notify_at, starts };
            if !self.sip.restore(id, &kept.dialog, &restart) {
                over.push(id);
                continue;
            }
            notify_at += PAUSE;
            let (user, version) = (Arc::clone(&kept.watch.user), kept.version_in(found.start));
            self.watchers.restore(id, kept.watch, version);
            self.look_at(&user);
        }
        if !over.is_empty() || self.sip.subscriptions() > 0 {
            info!(subscriptions = self.sip.subscriptions(), over = over.len(), "subscriptions of before go on");
        }
        for batch in removed(&over) {
            self.note(&batch, format_args!("subscriptions that are over stay in the store until they run out"));
        }
    }

    /// A SUBSCRIBE waits: it is granted once what it comes to is durable.
    pub(super) fn keep_watch(&mut self, id: SubscriptionId) {
        let dialog = self.sip.kept(self.now, self.unix(), id);
        let start = self.watchers.start;
        let Some(entry) = self.watchers.entry(id) else { return };
        let was_kept = std::mem::replace(&mut entry.is_kept, dialog.is_some());
        let mut batch = Batch::new();
        match dialog {
            Some(dialog) => Kept { watch: entry.watch.clone(), version: entry.version, start, dialog }.put(id, &mut batch),
            None if was_kept => Kept::remove(id, &mut batch),
            None => return self.sip.grant(self.now, id), // the state is asked for once
        }
        self.write(&batch, Unwritten::Subscribed(id));
    }

    /// What a SUBSCRIBE comes to is durable.
    pub(super) fn grant_watch(&mut self, id: SubscriptionId) {
        self.sip.grant(self.now, id);
        self.watchers.heard(id);
        if let Some(flow) = self.sip.flow_of(id) {
            self.net.keep(&flow);
        }
    }

    /// What a SUBSCRIBE comes to cannot be kept.
    pub(super) fn refuse_watch(&mut self, id: SubscriptionId) {
        let later = Duration::from_secs(Retry::Later.seconds(&mut self.random));
        self.sip.refuse_subscribe(self.now, id, StatusCode::SERVER_INTERNAL_ERROR, later);
    }

    /// Ends a subscription for our reason, of which its watcher hears once it cannot come back any more.
    pub(super) fn end_watch(&mut self, id: SubscriptionId, why: Termination) {
        let is_kept = self.watchers.entry(id).is_some_and(|entry| std::mem::replace(&mut entry.is_kept, false));
        if !is_kept {
            return self.sip.terminate(self.now, id, why);
        }
        let mut batch = Batch::new();
        Kept::remove(id, &mut batch);
        self.write(&batch, Unwritten::Terminated(id, why));
    }

    /// A subscription ended by itself; nobody waits until that is durable.
    pub(super) fn forget_watch(&mut self, id: SubscriptionId) {
        let mut batch = Batch::new();
        Kept::remove(id, &mut batch);
        self.note(&batch, format_args!("a subscription that is over stays in the store until it runs out"));
    }

    /// A device registered. What its user watched before a restart over a connection that is gone is told along this flow, if it is the
    /// device that watched: its Contact says so.
    pub(super) fn come_back(&mut self, aor: &Aor, flow: &Flow) {
        let Some(absent) = self.watchers.absent(aor.user()) else { return };
        let received = Received::from(flow);
        let bindings = self.locations.of(aor);
        let is_its = |id: &SubscriptionId| {
            let contact = self.sip.watcher_contact(*id);
            contact.is_some_and(|contact| bindings.iter().any(|one| one.received == received && is_same_place(&one.contact, contact)))
        };
        let came: BTreeSet<SubscriptionId> = absent.iter().copied().filter(is_its).collect();
        for id in came {
            self.sip.follow(self.now, id, *flow);
        }
    }
}
