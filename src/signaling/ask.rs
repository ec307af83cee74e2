//! The loop's door: what others ask it for, and how it answers. One bounded queue; while the loop is busy they wait. Who we serve is read
//! and changed here, by the loop that owns it: a change takes effect at once and is answered when it is durable. One that cannot be made
//! durable is taken back before that is told.

use std::sync::Arc;

use sip::registrar::Binding;
use sip::{Aor, Listeners, UnixTime};
use tokio::sync::{mpsc, oneshot};

use super::command::{NewCall, Order, Unable, Want};
use super::drain::Draining;
use super::guide::Guide;
use super::thin::{Came, What, Wish};
use super::{Signaling, Unwritten};
use crate::call::party::PartyId;
use crate::call::{self, graph::View};
use crate::config::Group;
use crate::location::{Former, Locations};
use crate::presence::{Kept, Presence, Said};
use crate::route::Route;
use crate::storage::{Batch, StorageError};
use crate::thin;
use crate::user::{self, Users};

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
    /// Our addresses.
    listeners: &'a Listeners,
    /// The time of day.
    pub(crate) now: UnixTime,
    /// Whose devices a change touched.
    pub(crate) touched: Option<String>,
    /// Whose name is nobody's any more, or that of somebody new: nothing stays of whoever had it.
    pub(crate) left: Option<String>,
    /// What their bindings were before.
    replaced: Vec<(Aor, Former)>,
}

impl People<'_> {
    /// Where what is dialled leads.
    pub(crate) fn route(&self) -> Route<'_> {
        Route { domain: self.domain, listeners: self.listeners, users: self.users }
    }

    /// Replaces the bindings of an AOR; the returned write makes it last.
    pub(crate) fn replace(&mut self, aor: &Aor, bindings: &[Binding]) -> Batch {
        let (batch, former) = self.locations.replace(aor, bindings);
        self.replaced.push((aor.clone(), former));
        batch
    }
}

/// What takes a change back that could not be made durable.
#[derive(Default)]
pub(super) struct Undo {
    /// Of users, numbers and keys.
    users: user::Undo,
    /// Of their devices.
    replaced: Vec<(Aor, Former)>,
    /// What somebody said before.
    said: Option<(String, Said)>,
}

impl Undo {
    /// Takes back what somebody said.
    pub(super) fn said(user: &str, before: Said) -> Self {
        Self { said: Some((user.to_owned(), before)), ..Self::default() }
    }
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
    /// How much there is of everything.
    Figures(oneshot::Sender<Figures>),
    /// Something of a call.
    Order(Order),
    /// A new call.
    Make(NewCall),
    /// To take no new calls, or to take them again.
    Drain(Draining, oneshot::Sender<()>),
    /// A call, also one that ended lately.
    Call(call::Id, oneshot::Sender<Option<Arc<View>>>),
    /// How users are.
    Presence(Vec<String>, oneshot::Sender<Vec<(String, Presence)>>),
    /// To note what a user says.
    Say(String, Kept, oneshot::Sender<Result<Option<Presence>, StorageError>>),
    /// Something of the switch for an application that is itself a device.
    Wish(Wish),
    /// To end what there is of such an application: its login is over.
    LoginOver(u64),
    /// Whether a login's application hears of calls, and which turn of that this is.
    LoginHears(u64, bool, u64),
    /// What happens when somebody answers a call that was made just now.
    Guide(call::Id, Guide),
    /// The calls that are not over, of a user or all.
    Calls(Option<String>, oneshot::Sender<Vec<Arc<View>>>),
    /// The calls that a user may pick up, or that anybody may.
    Waiting(Option<String>, oneshot::Sender<Waiting>),
    /// The call in a slot.
    Parked(u16, oneshot::Sender<Option<Arc<View>>>),
}

/// Calls that may be picked up.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The calls.
    pub(crate) calls: Vec<Arc<View>>,
    /// The user and those whose ringing calls they may pick up; none: everybody.
    pub(crate) at: Option<Vec<String>>,
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

    /// Changes people, and waits until the change is durable. What was done before a refusal is taken back.
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

    /// Returns how much there is of everything.
    pub(crate) async fn figures(&self) -> Result<Figures, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Figures(answer), answered).await
    }

    /// Does something with a user's side of a call, and waits until it is done.
    pub(crate) async fn order(&self, call: call::Id, user: &str, want: Want) -> Result<Result<call::Id, Unable>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Order(Order { call, user: user.to_owned(), want, answer }), answered).await
    }

    /// Makes a call, and waits until it rings or has failed.
    pub(crate) async fn make(
        &self,
        wanted: impl FnOnce(oneshot::Sender<Result<call::Id, Unable>>) -> NewCall,
    ) -> Result<Result<call::Id, Unable>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Make(wanted(answer)), answered).await
    }

    /// Does something for the application of a login that is itself a device, and waits for what comes of it.
    pub(crate) async fn wish(&self, login: u64, user: &str, what: What) -> Result<Result<Came, thin::Refusal>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Wish(Wish { login, user: user.to_owned(), what, answer }), answered).await
    }

    /// Ends what there is of the application of a login as a device.
    pub(crate) async fn login_over(&self, login: u64) -> Result<(), Stopped> {
        self.0.send(Ask::LoginOver(login)).await.map_err(|_| Stopped)
    }

    /// Tells whether the application of a login hears of calls. Of two such words that with the higher turn counts.
    pub(crate) async fn login_hears(&self, login: u64, is_there: bool, turn: u64) -> Result<(), Stopped> {
        self.0.send(Ask::LoginHears(login, is_there, turn)).await.map_err(|_| Stopped)
    }

    /// Says what happens when somebody answers a call that was made just now.
    pub(crate) async fn guide(&self, call: call::Id, guide: Guide) -> Result<(), Stopped> {
        self.0.send(Ask::Guide(call, guide)).await.map_err(|_| Stopped)
    }

    /// Takes no new calls, or takes them again.
    pub(crate) async fn drain(&self, draining: Draining) -> Result<(), Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Drain(draining, answer), answered).await
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

    /// Returns the calls that a user may pick up, or that anybody may.
    pub(crate) async fn waiting(&self, user: Option<String>) -> Result<Waiting, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Waiting(user, answer), answered).await
    }

    /// Finds the call in a slot.
    pub(crate) async fn parked(&self, slot: u16) -> Result<Option<Arc<View>>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Parked(slot, answer), answered).await
    }

    /// Tells how users are; unknown ones are left out.
    pub(crate) async fn presence(&self, users: Vec<String>) -> Result<Vec<(String, Presence)>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Presence(users, answer), answered).await
    }

    /// Notes what a user says, waits until that is durable, and tells how they are seen by it; none for an unknown user.
    pub(crate) async fn say<E>(&self, user: String, kept: Kept) -> Result<Option<Presence>, Failed<E>> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Say(user, kept, answer), answered).await?.map_err(Failed::Unwritten)
    }

    async fn ask<T>(&self, ask: Ask, answered: oneshot::Receiver<T>) -> Result<T, Stopped> {
        self.0.send(ask).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }
}

/// How much there is of everything in the loop.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Users.
    pub(crate) users: usize,
    /// Users with registered devices.
    pub(crate) registered: usize,
    /// Calls, those included whose last figures are awaited.
    pub(crate) calls: usize,
    /// INVITE dialogs.
    pub(crate) dialogs: usize,
    /// SIP transactions.
    pub(crate) transactions: usize,
    /// Whether no new calls are taken.
    pub(crate) draining: bool,
    /// Why nothing can be kept any more.
    pub(crate) store: Option<StorageError>,
}

impl Signaling {
    fn figures(&self) -> Figures {
        Figures {
            users: self.users.len(),
            registered: self.locations.len(),
            calls: self.calls.len(),
            dialogs: self.sip.dialogs(),
            transactions: self.sip.transactions(),
            draining: self.draining.is_some(),
            store: self.store.clone(),
        }
    }

    /// Returns what a user may pick up: parked calls, but not where they are parked themself, and what rings at colleagues and not at them.
    fn waiting(&self, user: Option<String>) -> Waiting {
        let Some(user) = user else {
            return Waiting { calls: self.calls.views().filter(|view| view.waits).collect(), at: None };
        };
        let colleagues = Group::colleagues(&self.groups, &user);
        let is_theirs = |view: &View| match view.slot {
            Some(_) => view.waiting().any(|party| party.who.is_user(&user)),
            None => view.party_of(&user).is_some(),
        };
        let is_another = |view: &Arc<View>| view.waits && !is_theirs(view);
        let rings_at = |view: &View, whom: &str| view.party(PartyId::CALLEE).is_some_and(|party| party.who.is_user(whom));
        let ringing = colleagues
            .iter()
            .flat_map(|colleague| self.calls.views_of(colleague).filter(move |view| view.slot.is_none() && rings_at(view, colleague)));
        let mut calls: Vec<_> = self.calls.views_parked().chain(ringing).filter(is_another).collect();
        calls.sort_unstable_by_key(|view| view.id);
        let colleagues = colleagues.into_iter().map(str::to_owned);
        Waiting { calls, at: Some(std::iter::once(user.clone()).chain(colleagues).collect()) }
    }

    /// Takes a change back.
    pub(super) fn take_back(&mut self, undo: Undo) {
        let Undo { users, replaced, said } = undo;
        self.users.restore(users);
        for (aor, former) in replaced {
            self.locations.restore(&aor, former);
        }
        if let Some((user, said)) = said {
            self.look_at(&user);
            self.presences.say(self.now, &user, said);
        }
    }

    pub(super) fn handle_ask(&mut self, ask: Ask) {
        let now = self.unix();
        let (users, locations, domain, listeners) = (&mut self.users, &mut self.locations, &*self.domain, self.sip.listeners());
        let mut people = People { users, locations, domain, listeners, now, touched: None, left: None, replaced: Vec::new() };
        match ask {
            Ask::Look(look) => look(&mut people),
            Ask::Change(change) => {
                let changed = change(&mut people);
                let People { touched, left, replaced, .. } = people;
                let mut undo = Undo { users: self.users.take_undo(), replaced, said: None };
                let Some((batch, answer)) = changed else { return self.take_back(undo) };
                if let Some(user) = touched.as_ref().or(left.as_ref()) {
                    self.look_at(user);
                }
                if let Some(user) = left {
                    undo.said = Some((user.clone(), self.forget_user(&user)));
                }
                self.write(&batch, Unwritten::Asked(answer, Box::new(undo)));
            }
            Ask::Figures(answer) => drop(answer.send(self.figures())),
            Ask::Order(order) => self.handle_order(order),
            Ask::Wish(wish) => self.handle_wish(wish),
            Ask::LoginOver(login) => self.login_over(login),
            Ask::Guide(call, guide) => self.guide(call, guide),
            Ask::LoginHears(login, is_there, turn) => self.login_hears(login, is_there, turn),
            Ask::Make(wanted) => self.handle_new_call(wanted),
            Ask::Drain(draining, answer) => {
                self.set_draining(draining);
                let _gone = answer.send(());
            }
            Ask::Call(id, answer) => drop(answer.send(self.calls.view(id).or_else(|| self.past.find(id)))),
            Ask::Presence(users, answer) => drop(answer.send(self.look_at_all(users))),
            Ask::Say(user, kept, answer) => self.say(&user, kept, answer),
            Ask::Calls(Some(user), answer) => drop(answer.send(self.calls.views_of(&user).collect())),
            Ask::Calls(None, answer) => drop(answer.send(self.calls.views().collect())),
            Ask::Waiting(user, answer) => drop(answer.send(self.waiting(user))),
            Ask::Parked(slot, answer) => drop(answer.send(self.calls.in_slot(slot).and_then(|call| self.calls.view(call)))),
        }
    }
}
