//! The loop's door: what others ask it for, and how it answers. One bounded queue; while the loop is busy they wait. Who we serve is read
//! and changed here, by the loop that owns it: a change takes effect at once and is answered when it is durable.

use std::sync::Arc;

use sip::UnixTime;
use tokio::sync::{mpsc, oneshot};

use super::{Signaling, Unwritten};
use crate::call::{self, graph::View};
use crate::location::Locations;
use crate::storage::{Batch, StorageError};
use crate::user::Users;

/// Questions that may wait for the loop; beyond it those who ask wait.
const QUEUE: usize = 1024;

/// The loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the switch is stopping")]
pub(crate) struct Stopped;

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed<E> {
    /// It cannot be.
    #[error(transparent)]
    Refused(E),
    /// Nobody knows whether it will last.
    #[error(transparent)]
    Unwritten(StorageError),
    /// The loop has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Who we serve, and where they are.
pub(crate) struct People<'a> {
    /// Users, numbers and keys.
    pub(crate) users: &'a mut Users,
    /// Their devices.
    pub(crate) locations: &'a mut Locations,
    /// The domain of all AORs.
    pub(crate) domain: &'a str,
    /// The time of day.
    pub(crate) now: UnixTime,
}

type Look = Box<dyn FnOnce(&mut People<'_>) + Send>;
type Change = Box<dyn FnOnce(&mut People<'_>) -> Option<Changed> + Send>;
/// A change that was made, and who waits until it lasts.
type Changed = (Batch, Box<dyn FnOnce(Result<(), StorageError>) + Send>);

/// What the loop is asked for.
pub(crate) enum Ask {
    /// To look something up.
    Look(Look),
    /// To change something.
    Change(Change),
    /// How many calls there are.
    Count(oneshot::Sender<usize>),
    /// A call, also one that ended lately.
    Call(call::Id, oneshot::Sender<Option<Arc<View>>>),
    /// The calls that are not over, of a user or all.
    Calls(Option<String>, oneshot::Sender<Vec<Arc<View>>>),
}

/// A way to ask the loop; clones ask the same one.
#[derive(Clone)]
pub(crate) struct Handle(mpsc::Sender<Ask>);

impl Handle {
    /// Makes the door, and what the loop reads from it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(QUEUE);
        (Self(sender), asks)
    }

    /// Looks up people. What it does is done within the loop: it is to be short.
    pub(crate) async fn look<T: Send + 'static>(&self, look: impl FnOnce(&People<'_>) -> T + Send + 'static) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        // who asked may have gone away meanwhile
        let look: Look = Box::new(move |people| drop(answer.send(look(people))));
        self.ask(Ask::Look(look), answered).await
    }

    /// Changes people, and waits until the change is durable.
    pub(crate) async fn change<T: Send + 'static, E: Send + 'static>(
        &self,
        change: impl FnOnce(&mut People<'_>) -> Result<(Batch, T), E> + Send + 'static,
    ) -> Result<T, Failed<E>> {
        let (answer, answered) = oneshot::channel();
        let change: Change = Box::new(move |people| match change(people) {
            Ok((batch, value)) => {
                let written =
                    move |written: Result<(), StorageError>| drop(answer.send(written.map(|()| value).map_err(Failed::Unwritten)));
                Some((batch, Box::new(written)))
            }
            Err(refusal) => {
                drop(answer.send(Err(Failed::Refused(refusal))));
                None
            }
        });
        self.ask(Ask::Change(change), answered).await?
    }

    /// Returns how many calls there are.
    pub(crate) async fn count(&self) -> Result<usize, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Count(answer), answered).await
    }

    /// Finds a call, also one that ended lately.
    pub(crate) async fn call(&self, id: call::Id) -> Result<Option<Arc<View>>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Call(id, answer), answered).await
    }

    /// Returns the calls that are not over, of a user or all, the oldest first.
    pub(crate) async fn calls(&self, user: Option<String>) -> Result<Vec<Arc<View>>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Calls(user, answer), answered).await
    }

    async fn ask<T>(&self, ask: Ask, answered: oneshot::Receiver<T>) -> Result<T, Stopped> {
        self.0.send(ask).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }
}

impl Signaling {
    pub(super) fn handle_ask(&mut self, ask: Ask) {
        let now = self.unix();
        let mut people = People { users: &mut self.users, locations: &mut self.locations, domain: &self.domain, now };
        match ask {
            Ask::Look(look) => look(&mut people),
            Ask::Change(change) => {
                if let Some((batch, answer)) = change(&mut people) {
                    self.write(&batch, Unwritten::Asked(answer));
                }
            }
            Ask::Count(answer) => drop(answer.send(self.calls.len())),
            Ask::Call(id, answer) => drop(answer.send(self.calls.view(id).or_else(|| self.ended.find(id)))),
            Ask::Calls(Some(user), answer) => drop(answer.send(self.calls.views_of(&user).collect())),
            Ask::Calls(None, answer) => drop(answer.send(self.calls.views().collect())),
        }
    }
}
