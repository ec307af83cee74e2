//! What waits until it is durable: no answer leaves before (`storage`'s group commit), and none at all once the store has failed.

use std::cmp::Reverse;
use std::fmt;

use sip::{Aor, Response, ServerId, StatusCode, SubscriptionId, Termination};
use tracing::{error, warn};

use super::ask::Undo;
use super::{Signaling, millis};
use crate::location::Former;
use crate::presence::publication::Lasting;
use crate::retry::Retry;
use crate::storage::{Batch, StorageError};

/// What waits for a write.
pub(super) enum Unwritten {
    /// A response to a REGISTER.
    Registered(Box<Registered>),
    /// A response to a PUBLISH.
    Published(Box<Published>),
    /// A SUBSCRIBE.
    Subscribed(SubscriptionId),
    /// The end of a subscription.
    Terminated(SubscriptionId, Termination),
    /// Somebody who asked for a change, and what takes it back.
    Asked(Box<dyn FnOnce(Result<(), StorageError>) + Send>, Box<Undo>),
}

/// A response to a REGISTER whose bindings are on their way to the disk.
pub(super) struct Registered {
    pub(super) server: ServerId,
    pub(super) response: Response,
    /// The flow that a registration lives on from now on, and whose it is.
    pub(super) flow: sip::Flow,
    pub(super) aor: Aor,
    /// The bindings before.
    pub(super) former: Former,
}

/// A response to a PUBLISH whose document is on its way to the disk.
pub(super) struct Published {
    pub(super) server: ServerId,
    pub(super) response: Response,
    /// Whose it is.
    pub(super) user: Box<str>,
    /// What was published of them before.
    pub(super) before: Vec<Lasting>,
}

impl Signaling {
    pub(super) fn handle_committed(&mut self, committed: Result<Vec<u64>, StorageError>) {
        match committed {
            Ok(tokens) => {
                for token in tokens {
                    let Some((since, unwritten)) = self.unwritten.remove(&token) else { continue };
                    self.metrics.commit.record(self.now.saturating_duration_since(since));
                    self.carry_on(unwritten);
                }
            }
            Err(error) => {
                error!(%error, "nothing can be kept any more: no registration and no change is acknowledged");
                let mut unwritten: Vec<_> = std::mem::take(&mut self.unwritten).into_iter().collect();
                unwritten.sort_unstable_by_key(|(token, _)| Reverse(*token)); // what came last is taken back first
                for (_, (_, unwritten)) in unwritten {
                    self.refuse_unwritten(unwritten, &error);
                }
                self.store = Some(error);
            }
        }
    }

    fn carry_on(&mut self, written: Unwritten) {
        match written {
            Unwritten::Registered(registered) => {
                self.metrics.registrations.increment(1);
                self.net.keep(&registered.flow);
                self.locations.registered(&registered.flow, &registered.aor);
                self.sip.respond(self.now, registered.server, &registered.response);
                self.come_back(&registered.aor, &registered.flow);
            }
            Unwritten::Published(published) => self.sip.respond(self.now, published.server, &published.response),
            Unwritten::Subscribed(id) => self.grant_watch(id),
            Unwritten::Terminated(id, why) => self.sip.terminate(self.now, id, why),
            Unwritten::Asked(answer, _) => answer(Ok(())),
        }
    }

    /// What could not be made durable is taken back and not acknowledged.
    fn refuse_unwritten(&mut self, unwritten: Unwritten, error: &StorageError) {
        match unwritten {
            Unwritten::Registered(registered) => {
                self.locations.restore(&registered.aor, registered.former);
                self.refuse_response(registered.server, &registered.response);
            }
            Unwritten::Published(published) => {
                let Published { server, response, user, before } = *published;
                self.presences.restore(self.now, millis(self.unix), &user, before);
                self.refuse_response(server, &response);
            }
            Unwritten::Subscribed(id) => self.refuse_watch(id),
            // who may not watch any more is told nothing more, whatever the store does
            Unwritten::Terminated(id, why) => self.sip.terminate(self.now, id, why),
            Unwritten::Asked(answer, undo) => {
                self.take_back(*undo);
                answer(Err(error.clone()));
            }
        }
    }

    fn refuse_response(&mut self, server: ServerId, response: &Response) {
        let mut response = Response::to_headers(&response.headers, StatusCode::SERVER_INTERNAL_ERROR);
        Retry::Later.push(&mut response.headers, &mut self.random);
        self.sip.respond(self.now, server, &response);
    }

    /// Submits a write that somebody waits for.
    pub(super) fn write(&mut self, batch: &Batch, unwritten: Unwritten) {
        self.next_write += 1;
        match self.writer.submit(batch, self.next_write) {
            Ok(()) => {
                self.unwritten.insert(self.next_write, (self.now, unwritten));
            }
            Err(error) => {
                warn!(%error, "a write is refused");
                self.refuse_unwritten(unwritten, &error);
                self.note_failure(error);
            }
        }
    }

    /// Submits a write that nobody waits for. If it is not taken, this says in the log what follows.
    pub(super) fn note(&mut self, batch: &Batch, follows: fmt::Arguments<'_>) {
        if let Err(error) = self.writer.note(batch) {
            warn!(%error, "{follows}");
            self.note_failure(error);
        }
    }

    /// A store that failed has failed for ever.
    fn note_failure(&mut self, error: StorageError) {
        if matches!(error, StorageError::Failed(_)) {
            self.store.get_or_insert(error);
        }
    }
}
