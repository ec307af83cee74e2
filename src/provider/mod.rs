//! The CAS provider traits, implemented on the switch: each method asks the owner of the state and turns its answer into what the client
//! reads. Rights were decided before; nothing here decides them again.

mod admin;
mod history;
mod news;
mod presence;
mod telephony;
mod thin;
mod view;

pub(crate) use news::happenings;

use std::sync::Arc;
use std::time::Instant;

use cas::error::{Error, Fault};
use cas::login::{Identity, LoginId};
use cas::server::Credential;
use cas::text::{Line, UserName};
use tokio::sync::mpsc;

pub(crate) use crate::signaling::News;
use crate::signaling::{Failed, Figures, Handle, Stopped};
use crate::storage::Storage;
use crate::telemetry;
use crate::user::Refusal;

/// The switch, as CAS sees it. Clones are the same switch.
#[derive(Clone)]
pub struct Provider {
    signaling: Handle,
    storage: Storage,
    news: mpsc::Sender<News>,
    started: Instant,
    /// Taken by whoever changes an entry of a history: reading and writing it back is one step.
    entries: Arc<tokio::sync::Mutex<()>>,
}

impl Provider {
    pub(crate) fn new(signaling: Handle, storage: Storage, news: mpsc::Sender<News>, started: Instant) -> Self {
        Self { signaling, storage, news, started, entries: Arc::default() }
    }

    /// Returns why the switch takes no new work now; none: it does.
    pub(crate) async fn refuses(&self) -> Option<String> {
        match self.signaling.figures().await {
            Err(stopped) => Some(stopped.to_string()),
            Ok(Figures { store: Some(error), .. }) => Some(error.to_string()),
            Ok(Figures { draining: true, .. }) => Some("draining".to_owned()),
            Ok(_) => None,
        }
    }

    /// Writes the figures of the process for Prometheus; none while it stops.
    pub(crate) async fn figures(&self) -> Option<String> {
        let figures = self.signaling.figures().await.ok()?;
        for (name, value) in [
            ("tandem_users", figures.users),
            ("tandem_users_registered", figures.registered),
            ("tandem_calls", figures.calls),
            ("tandem_sip_dialogs", figures.dialogs),
            ("tandem_sip_transactions", figures.transactions),
            ("tandem_draining", usize::from(figures.draining)),
            ("tandem_store_failed", usize::from(figures.store.is_some())),
        ] {
            telemetry::metrics::set(name, value);
        }
        Some(telemetry::metrics::start()?.render())
    }

    /// Ends what there is of a login's application as a device. Where the switch is stopping, nothing is left to end.
    pub(crate) async fn login_over(&self, login: LoginId) {
        let _stopping = self.signaling.login_over(login.0).await;
    }

    /// Tells whether a login's client hears of what happens. Of two such words that with the higher turn counts.
    pub(crate) async fn login_hears(&self, login: LoginId, is_there: bool, turn: u64) {
        let _stopping = self.signaling.login_hears(login.0, is_there, turn).await;
    }

    /// Finds out who shows this; none: it is wrong.
    ///
    /// # Errors
    ///
    /// The switch is stopping.
    pub(crate) async fn verify(&self, credential: Credential) -> Result<Option<Identity>, Stopped> {
        let look = self.signaling.look(move |people| match credential {
            Credential::Password(user, password) => {
                let rights = people.users.verify(user.as_str(), password.reveal())?;
                Some(Identity { user, rights, scopes: None, key: None })
            }
            Credential::Key(secret) => {
                let (name, key, rights) = people.users.verify_key(secret.reveal())?;
                let (user, name) = (UserName::parse(&key.user).ok()?, Line::parse(name).ok()?);
                Some(Identity { user, rights, scopes: Some(key.scopes.clone()), key: Some(name) })
            }
        });
        look.await
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        Self::new(Fault::Unavailable, stopped.to_string())
    }
}

impl From<Failed<Self>> for Error {
    fn from(failed: Failed<Self>) -> Self {
        match failed {
            Failed::Refused(error) => error,
            Failed::Unwritten(error) => unwritten(&error),
            Failed::Stopped(stopped) => stopped.into(),
        }
    }
}

impl From<Failed<Refusal>> for Error {
    fn from(failed: Failed<Refusal>) -> Self {
        match failed {
            Failed::Refused(Refusal::Rights(error)) => error,
            Failed::Refused(Refusal::OfTheFile { what, name }) => cas::topic::admin::managed_by_file(&format!("{what} {name}")),
            Failed::Refused(refusal @ Refusal::BadName { .. }) => Self::field("user", format!("field user: {refusal}")),
            Failed::Refused(refusal @ Refusal::BadNumber { .. }) => Self::field("number", format!("field number: {refusal}")),
            Failed::Refused(refusal @ Refusal::Unknown { .. }) => Self::new(Fault::NotFound, refusal.to_string()),
            Failed::Refused(refusal @ Refusal::Taken { .. }) => Self::new(Fault::Conflict, refusal.to_string()),
            Failed::Refused(refusal @ Refusal::Full { .. }) => Self::new(Fault::TooMany, refusal.to_string()),
            Failed::Unwritten(error) => unwritten(&error),
            Failed::Stopped(stopped) => stopped.into(),
        }
    }
}

/// Tells that the store did not take it.
fn unwritten(error: &crate::storage::StorageError) -> Error {
    Error::new(Fault::Unavailable, error.to_string())
}
