//! Signing in and out: a login begins when the host has checked a password or a key, and ends by request, by time, or with its user.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Asked, Credential, Denied, Output, Peer, Server, Sink, Timer, VerifyId};
use crate::error::{Error, Fault};
use crate::login::{Identity, LoginId, New, login_required};
use crate::permission::{Rights, Role};
use crate::random::Token;
use crate::text::{Line, Name, UserName};
use crate::topic::Happening;
use crate::topic::admin::Notice;
use crate::topic::login::{Granted, Login};
use crate::topic::strict::decode;
use crate::topic::subscription::Subscription;

/// Most passwords and keys that are checked at once. A further login is refused.
pub const MAX_VERIFYING: usize = 64;

/// Most that are checked at once for one address. A further login from there is refused.
pub const MAX_VERIFYING_OF_ADDRESS: usize = 8;

/// How long the host may take to check one.
const VERIFY_LIMIT: Duration = Duration::from_secs(10);

/// Who is being checked.
#[derive(Debug)]
pub(super) struct Verifying {
    asked: Asked,
    peer: Peer,
    user: Option<UserName>,
    login: Login,
    until: Instant,
    /// Whether the user is gone or has another password since this was asked of the host.
    is_stale: bool,
}

/// A login of whoever may open the host's own socket.
fn new_host() -> New {
    let user = UserName::parse("administrator").expect("a plain word");
    let identity = Identity { user, rights: Arc::new(Rights::of(Role::Administrator)), scopes: None, key: None };
    New { identity, application: None, device: None, address: None, is_host: true }
}

impl Server {
    /// Takes the request `login`.
    pub(super) fn sign_in(&mut self, now: Instant, asked: Asked, peer: Peer, body: Value) {
        let mut login: Login = match decode(body) {
            Ok(login) => login,
            Err(error) => return self.answer(now, asked, Err(error)),
        };
        let credential = match (login.user.clone(), login.password.take(), login.key.take()) {
            (Some(user), Some(password), None) => Credential::Password(user, password),
            (None, None, Some(key)) => Credential::Key(key),
            (None, None, None) if peer == Peer::Host => return self.begin_login(now, asked, login, new_host()),
            _ => {
                let error = Error::field("user", "expected the fields user and password, or the field key");
                return self.answer(now, asked, Err(error.accepting(["user", "password", "key"])));
            }
        };
        let user = if let Credential::Password(user, _) = &credential { Some(user.clone()) } else { None };
        let address = peer.address();
        let of_address = self.verifying.values().filter(|other| other.peer.address() == address).count();
        let is_full = self.verifying.len() >= MAX_VERIFYING || (address.is_some() && of_address >= MAX_VERIFYING_OF_ADDRESS);
        let is_home = user.as_ref().zip(address).is_some_and(|(user, address)| self.logins.is_home(user, address));
        let may_try = self.guesses.may_try(now, user.as_ref(), address, is_home);
        if is_full || !may_try {
            if !may_try {
                self.output(Output::Denied { peer, user, why: Denied::TooMany });
            }
            return self.answer(now, asked, Err(Error::new(Fault::TooMany, "too many logins were tried; try again in a minute")));
        }
        self.last_verify += 1;
        let verify = VerifyId(self.last_verify);
        let until = now + VERIFY_LIMIT;
        self.verifying.insert(verify, Verifying { asked, peer, user, login, until, is_stale: false });
        self.after(until, Timer::Verify(verify));
        self.output(Output::Verify { verify, credential, peer });
    }

    /// Takes the host's word on a password or a key.
    pub(super) fn verified(&mut self, now: Instant, verify: VerifyId, identity: Option<Identity>) {
        let Some(Verifying { asked, peer, user, login, until, is_stale }) = self.verifying.remove(&verify) else { return };
        self.timers.remove(&(until, Timer::Verify(verify)));
        match identity {
            Some(_) if is_stale => {
                self.answer(now, asked, Err(Error::new(Fault::Unavailable, "the user was changed meanwhile; try again")));
            }
            Some(identity) => {
                let new = New { identity, application: None, device: None, address: peer.address(), is_host: false };
                self.begin_login(now, asked, login, new);
            }
            None => {
                self.guesses.failed(now, user.as_ref(), peer.address());
                self.output(Output::Denied { peer, user, why: Denied::Credentials });
                self.answer(now, asked, Err(Error::new(Fault::WrongCredentials, "user and password, or key, are wrong")));
            }
        }
    }

    pub(super) fn verify_due(&mut self, now: Instant, verify: VerifyId) {
        if let Some(verifying) = self.verifying.remove(&verify) {
            self.answer(now, verifying.asked, Err(Error::new(Fault::Unavailable, "the login could not be checked in time")));
        }
    }

    /// Returns the login of those who ask over the host's own socket without one of their own. It begins with the first of them and
    /// has no events: who wants some signs in.
    pub(super) fn host_login(&mut self, now: Instant) -> Result<LoginId, Error> {
        if let Some(id) = self.host.filter(|id| self.logins.find(*id).is_some()) {
            return Ok(id);
        }
        let new = New { application: Line::parse("host").ok(), ..new_host() };
        let (id, _) = self.logins.admit(now, self.unix(now), self.settings.token_lifetime, new)?;
        self.after(now + self.settings.idle_limit, Timer::Idle(id));
        self.after(now + self.settings.token_lifetime, Timer::TokenEnds(id));
        self.host = Some(id);
        Ok(id)
    }

    fn begin_login(&mut self, now: Instant, mut asked: Asked, login: Login, new: New) {
        if let Some(surplus) = self.logins.surplus(&new.identity.user, |id| self.polls.contains_key(&id)) {
            self.end_login(now, surplus, &login_required("another login of the user took its place"));
        }
        let (at, lifetime, user) = (self.unix(now), self.settings.token_lifetime, new.identity.user.clone());
        let new = New { application: login.application, device: login.device, ..new };
        let (id, token) = match self.logins.admit(now, at, lifetime, new) {
            Ok(admitted) => admitted,
            Err(error) => return self.answer(now, asked, Err(error)),
        };
        let stream = asked.sender.stream;
        let replies = stream.and_then(|stream| self.streams.get(&stream)).map_or(0, |stream| stream.replies);
        // Everyone hears of their own calls without asking for it (004-35).
        let own_calls = Subscription { id: 1, topic: Name::parse("tel").expect("a plain word"), users: Some(vec![user]) };
        if let Some(login) = self.logins.find_mut(id) {
            self.subscribers.add(&login.caller, std::slice::from_ref(&own_calls));
            login.subscriptions.push(own_calls);
            login.subscription_ids = 1;
            login.replies = replies; // the stream's replies go on in one series
        }
        self.after(now + self.settings.idle_limit, Timer::Idle(id));
        self.after(now + lifetime, Timer::TokenEnds(id));
        asked.sender.login = Some(id);
        let granted = self.granted(id, &token);
        self.answer(now, asked, granted);
        if let Some(stream) = stream {
            self.attach(now, stream, id, None);
        }
    }

    pub(super) fn granted(&self, id: LoginId, token: &Token) -> Result<Value, Error> {
        let login = self.logins.find(id).ok_or_else(|| login_required("the login is over"))?;
        let granted = Granted {
            login: id.0,
            token: token.reveal().to_owned(),
            expires_in: self.settings.token_lifetime.as_secs(),
            idle_limit: self.settings.idle_limit.as_secs(),
            user: login.caller.user.clone(),
            rights_version: login.caller.rights.version,
        };
        Ok(serde_json::to_value(granted).expect("text keys"))
    }

    /// Ends a login: its subscriptions, streams and waiting requests end with it (004-28).
    pub(super) fn end_login(&mut self, now: Instant, id: LoginId, why: &Error) {
        if let Some(poll) = self.polls.remove(&id) {
            self.answer(now, poll.asked, Err(why.clone()));
        }
        let streams = self.logins.find_mut(id).map(|login| std::mem::take(&mut login.streams)).unwrap_or_default();
        for attached in streams {
            self.output(Output::Close { stream: attached.stream, why: why.clone() });
            self.closed(now, attached.stream);
        }
        for bulk in self.bulks.iter().filter(|(_, bulk)| bulk.login == id).map(|(number, _)| *number).collect::<Vec<_>>() {
            if let Some(asked) = self.bulks.remove(&bulk).and_then(|bulk| bulk.asked) {
                self.answer(now, asked, Err(why.clone()));
            }
        }
        for serve in self.pendings.which(|pending| pending.login == id) {
            let Some(pending) = self.pendings.take(serve) else { continue };
            self.release(serve, &pending);
            if let Some(asked) = pending.asked.filter(|asked| pending.pending_id.is_none() && matches!(asked.sink, Sink::Exchange(..))) {
                self.answer(now, asked, Err(why.clone()));
            }
        }
        if let Some(login) = self.logins.remove(id) {
            self.subscribers.remove(&login.caller, &login.subscriptions);
            self.output(Output::LoginOver(id));
        }
    }

    /// Ends a login that asked for nothing for too long (004-29).
    pub(super) fn idle(&mut self, now: Instant, id: LoginId) {
        let is_polling = self.polls.contains_key(&id);
        let Some(login) = self.logins.find_mut(id) else { return };
        if is_polling || !login.streams.is_empty() {
            login.last_active = now;
        }
        let ends = login.last_active + self.settings.idle_limit;
        if now < ends {
            return self.after(ends, Timer::Idle(id));
        }
        let caller = login.caller.clone();
        self.end_login(now, id, &login_required("the login was idle for too long"));
        let body = json!({ "login": id.0, "user": caller.user, "application": caller.application });
        self.happened(now, &Happening::Admin(Notice { message: "login-abandoned", body }));
    }

    pub(super) fn token_ends(&mut self, now: Instant, id: LoginId) {
        let Some(login) = self.logins.find(id) else { return };
        match login.token_ends {
            ends if now < ends => self.after(ends, Timer::TokenEnds(id)),
            _ => self.end_login(now, id, &login_required("the token has expired")),
        }
    }

    /// Ends the logins of a user who is gone or has another password, also those that are about to begin.
    pub(super) fn end_logins_of(&mut self, now: Instant, user: &UserName, why: &str) {
        self.verifying
            .values_mut()
            .filter(|verifying| verifying.user.as_ref() == Some(user))
            .for_each(|verifying| verifying.is_stale = true);
        for id in self.logins.of_user(user) {
            if self.logins.find(id).is_some_and(|login| !login.is_host) {
                self.end_login(now, id, &login_required(why));
            }
        }
    }

    /// Ends the logins of an API key that is gone.
    pub(super) fn end_logins_of_key(&mut self, now: Instant, key: &Line) {
        let logins: Vec<LoginId> =
            self.logins.all().filter(|login| login.key.as_ref() == Some(key)).map(|login| login.caller.login).collect();
        for id in logins {
            self.end_login(now, id, &login_required("the API key was removed"));
        }
    }
}
