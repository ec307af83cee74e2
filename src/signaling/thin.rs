//! Thin clients in the loop: what client applications ask for goes to their user agent ([`crate::thin`]), whose messages go to the switch's
//! endpoint and back in memory; what it tells goes to the application, with the call that it belongs to.

use bytes::Bytes;
use sip::message::NameAddr;
use sip::{Aor, DialogId, Named};
use tokio::sync::oneshot;

use super::{News, Signaling};
use crate::thin::device::Device;
use crate::thin::{Callee, Kind, Output, Progress, Refusal};
use crate::{call, device, inside};

/// Something that an application wants of the switch as a device.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Its login.
    pub(crate) login: u64,
    /// Its user.
    pub(crate) user: String,
    /// What it wants.
    pub(crate) what: What,
    /// Who waits for what comes of it.
    pub(crate) answer: oneshot::Sender<Result<Came, Refusal>>,
}

/// What an application wants.
#[derive(Debug)]
pub(crate) enum What {
    /// To be a device that rings.
    Register {
        /// What stays the same when it comes again.
        name: Option<String>,
        /// What it calls itself.
        agent: String,
    },
    /// To ring no more.
    Unregister,
    /// To call somebody.
    Call {
        /// What is dialled.
        destination: String,
        /// Its offer.
        sdp: Bytes,
    },
    /// To say something about its media.
    Describe {
        /// The call.
        call: call::Id,
        /// What the description is.
        kind: Kind,
        /// The description; empty for none.
        sdp: Bytes,
    },
}

/// What came of a wish.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    /// The device that the application is.
    pub(crate) device: Option<device::Id>,
    /// The call.
    pub(crate) call: Option<call::Id>,
    /// The switch's answer; empty for none.
    pub(crate) sdp: Bytes,
}

/// What an application is told.
#[derive(Debug)]
pub(crate) struct Description {
    /// Its login.
    pub(crate) login: u64,
    /// Its user.
    pub(crate) user: Box<str>,
    /// The device that it is.
    pub(crate) device: device::Id,
    /// The call.
    pub(crate) call: call::Id,
    /// What the description is.
    pub(crate) kind: Kind,
    /// The description; empty for none.
    pub(crate) sdp: Bytes,
}

impl Signaling {
    pub(super) fn handle_wish(&mut self, wish: Wish) {
        let Wish { login, user, what, answer } = wish;
        let mut came = Came::default();
        let progress = match what {
            What::Register { name, agent } => self.register_thin(login, &user, name.as_deref(), &agent).map(|device| {
                came.device = Some(device);
                Progress::Done
            }),
            What::Unregister => {
                self.thin.unregister(login);
                self.unbind_thin(login, &user);
                Ok(Progress::Done)
            }
            What::Call { destination, sdp } => self.call_by_thin(login, &user, &destination, sdp),
            What::Describe { call, kind, sdp } => {
                came.call = Some(call);
                self.session_of(login, call).and_then(|session| self.thin.describe(self.now, session, kind, sdp))
            }
        };
        match progress {
            Ok(Progress::Pending(ticket)) => {
                self.wishes.insert(ticket, answer);
            }
            Ok(Progress::Done) => drop(answer.send(Ok(came))),
            Err(refusal) => drop(answer.send(Err(refusal))),
        }
    }

    /// Finds an application's part in a call; of two, as in a call to oneself, the one that the switch waits for.
    fn session_of(&self, login: u64, call: call::Id) -> Result<DialogId, Refusal> {
        let sessions = || self.thin.sessions_of(login).filter(|session| self.call_of_thin(*session) == Some(call));
        sessions().find(|session| self.thin.is_asked(*session)).or_else(|| sessions().next()).ok_or(Refusal::NoSession)
    }

    fn register_thin(&mut self, login: u64, user: &str, name: Option<&str>, agent: &str) -> Result<device::Id, Refusal> {
        let aor = Aor::new(user, &self.domain).filter(|_| self.users.named(user).is_some()).ok_or(Refusal::NoUser)?;
        let device = self.thin.register(login, user, name, agent)?;
        self.bind_thin(login, &aor, &device)?;
        Ok(device.id())
    }

    /// Adds the binding by which an application rings, unless it is away.
    fn bind_thin(&mut self, login: u64, aor: &Aor, device: &Device) -> Result<(), Refusal> {
        if device.is_away {
            return Ok(());
        }
        let (binding, flow) = (device.binding(self.unix()), inside::flow(login));
        let mut bindings = self.locations.of(aor);
        bindings.retain(|other| other.received != binding.received && other.instance != binding.instance && !other.is_expired(self.unix()));
        if bindings.len() >= self.registrar.max_contacts {
            self.thin.unregister(login);
            return Err(Refusal::TooManyBindings);
        }
        bindings.push(binding);
        self.locations.opened(flow);
        // nothing to write: what lives as long as a login is not kept
        let _same = self.locations.replace(aor, &bindings);
        Ok(())
    }

    /// The client of a login went without a word, or is there again. A device that no longer finds room when it is back rings no more.
    pub(super) fn login_hears(&mut self, login: u64, is_there: bool, turn: u64) {
        if is_there {
            let Some(device) = self.thin.back(login, turn).cloned() else { return };
            if let Some(aor) = Aor::new(&device.user, &self.domain) {
                let _full = self.bind_thin(login, &aor, &device);
            }
        } else if self.thin.away(self.now, login, turn)
            && let Some(user) = self.thin.device_of(login).map(|device| device.user.clone())
        {
            self.unbind_thin(login, &user);
        }
    }

    fn unbind_thin(&mut self, login: u64, user: &str) {
        let Some(aor) = Aor::new(user, &self.domain) else { return };
        let mut bindings = self.locations.of(&aor);
        let before = bindings.len();
        bindings.retain(|binding| binding.received.remote != inside::flow(login).remote);
        if bindings.len() != before {
            let _same = self.locations.replace(&aor, &bindings);
        }
    }

    fn call_by_thin(&mut self, login: u64, user: &str, destination: &str, sdp: Bytes) -> Result<Progress, Refusal> {
        let uri = self.route().uri(destination).ok_or(Refusal::BadDestination)?;
        let shown = self.users.named(user).ok_or(Refusal::NoUser)?.shown.as_deref().unwrap_or_default();
        let from = Aor::new(user, &self.domain).and_then(|aor| aor.uri()).ok_or(Refusal::BadDestination)?;
        let callee = Callee { from: NameAddr::new(from).with_display(shown), uri };
        self.thin.call(self.now, (login, user), callee, sdp).map(Progress::Pending)
    }

    /// A login is over, and what it was as a device with it.
    pub(super) fn login_over(&mut self, login: u64) {
        let user = self.thin.device_of(login).map(|device| device.user.clone());
        if self.thin.leave(self.now, login)
            && let Some(user) = user
        {
            self.unbind_thin(login, &user);
        }
        self.settle();
        self.locations.closed(&inside::flow(login));
    }

    pub(super) fn carry_out_thin(&mut self, output: Output) {
        match output {
            Output::Send(flow, bytes) => self.sip.receive(self.now, flow, bytes),
            Output::Described { login, session, noted, kind, sdp } => {
                let call = self.call_of_thin(session).or(noted.map(call::Id));
                self.tell_thin(login, (session, call), kind, sdp);
            }
            Output::Done { ticket, session, result } => {
                let Some(answer) = self.wishes.remove(&ticket) else { return };
                let call = self.call_of_thin(session);
                let came = result.map(|sdp| Came { device: None, call, sdp });
                // who waited too long for the answer is told of it all the same
                if let Err(Ok(Came { sdp, .. })) = answer.send(came)
                    && let Some(login) = self.thin.login_of(session)
                {
                    self.tell_thin(login, (session, call), Kind::Answer, sdp);
                }
            }
        }
    }

    fn tell_thin(&mut self, login: u64, (session, call): (DialogId, Option<call::Id>), kind: Kind, sdp: Bytes) {
        let Some(call) = call else { return };
        self.thin.note(session, call.0);
        let Some(device) = self.thin.device_of(login) else { return };
        let description = Description { login, user: device.user.clone(), device: device.id(), call, kind, sdp };
        self.news.tell(News::Described(Box::new(description)));
    }

    /// Returns the call that an application's dialog belongs to now: transfers may have made it another one.
    fn call_of_thin(&self, session: DialogId) -> Option<call::Id> {
        let name = self.thin.named(session)?;
        let (Named::Calling(dialog) | Named::Incoming(dialog) | Named::Established(dialog)) =
            self.sip.named(&name.call_id, &name.to_tag, &name.from_tag)?;
        self.calls.call_of(dialog)
    }
}
