//! Logins: one for each client application that has signed in. Each has a short-lived token, its own numbers, its events and its
//! subscriptions; a login that asks for nothing for a while is abandoned. It knows no topics.

mod guess;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use guess::{Guesses, network};

use crate::error::{Error, Fault};
use crate::event::Events;
use crate::permission::{Caller, Pattern, Rights};
use crate::random::{Random, Token, TokenDigest};
use crate::server::Attached;
use crate::text::{DeviceId, Line, UserName};
use crate::topic::subscription::Subscription;

/// Most logins at once. A further one is refused.
pub const MAX_LOGINS: usize = 20_000;

/// Most logins of a user. A further one ends one of theirs: of those that nobody uses the one that has been idle longest, else of all.
pub const MAX_LOGINS_OF_USER: usize = 64;

/// How long an old token is good after a refresh, for requests that are under way.
pub const GRACE: Duration = Duration::from_secs(10);

/// A login's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginId(pub u64);

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who somebody is, once the host has checked the password or the key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Their name.
    pub user: UserName,
    /// What they may do.
    pub rights: Arc<Rights>,
    /// What the API key is for; none: everything that the rights allow.
    pub scopes: Option<Arc<[Pattern]>>,
    /// What the API key is called.
    pub key: Option<Line>,
}

/// One login.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) caller: Arc<Caller>,
    pub(crate) key: Option<Line>,
    /// Where its client signed in; none on the host's own socket.
    pub(crate) address: Option<IpAddr>,
    /// Whether it is the host's administrator, who has no password.
    pub(crate) is_host: bool,
    token: TokenDigest,
    old_token: Option<(TokenDigest, Instant)>,
    pub(crate) token_ends: Instant,
    /// When it began, in milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) last_active: Instant,
    /// It is looked at whether the client is still there, at some time.
    pub(crate) is_watched: bool,
    /// The client has gone without a word.
    pub(crate) is_away: bool,
    /// The application is a registered device.
    pub(crate) is_device: bool,
    /// Number of the last reply.
    pub(crate) replies: u64,
    /// Number of the last pending reply.
    pub(crate) pending_ids: u64,
    /// How many requests wait for a provider.
    pub(crate) waiting: usize,
    pub(crate) events: Events,
    /// Number of the last event that a waiting request was given.
    pub(crate) polled: u64,
    /// Its open streams, the oldest first.
    pub(crate) streams: Vec<Attached>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) subscription_ids: u32,
}

/// All logins.
pub(crate) struct Logins {
    random: Random,
    last: u64,
    /// Boxed, so that one is found in a few cache lines.
    by_id: BTreeMap<LoginId, Box<Login>>,
    by_token: BTreeMap<TokenDigest, LoginId>,
    by_user: BTreeMap<UserName, Vec<LoginId>>,
}

impl Logins {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let (by_id, by_token, by_user) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { random: Random::new(seed), last: 0, by_id, by_token, by_user }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn find(&self, id: LoginId) -> Option<&Login> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    pub(crate) fn find_mut(&mut self, id: LoginId) -> Option<&mut Login> {
        self.by_id.get_mut(&id).map(Box::as_mut)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Login> {
        self.by_id.values().map(Box::as_ref)
    }

    pub(crate) fn of_user(&self, user: &UserName) -> Vec<LoginId> {
        self.by_user.get(user).cloned().unwrap_or_default()
    }

    /// Returns whether the user has a login from that address.
    pub(crate) fn is_home(&self, user: &UserName, address: IpAddr) -> bool {
        let own = self.by_user.get(user).into_iter().flatten().filter_map(|id| self.find(*id));
        own.filter_map(|login| login.address).any(|other| network(other) == network(address))
    }

    /// Returns the user's login that should end if they get one more.
    pub(crate) fn surplus(&self, user: &UserName, is_polling: impl Fn(LoginId) -> bool) -> Option<LoginId> {
        let own = self.by_user.get(user).filter(|own| own.len() >= MAX_LOGINS_OF_USER)?;
        let is_used = |id, login: &Login| !login.streams.is_empty() || login.is_device && !login.is_away || is_polling(id);
        own.iter().copied().min_by_key(|id| self.find(*id).map(|login| (is_used(*id, login), login.last_active)))
    }

    /// Begins a login.
    pub(crate) fn admit(&mut self, now: Instant, at: u64, lifetime: Duration, new: New) -> Result<(LoginId, Token), Error> {
        if self.by_id.len() >= MAX_LOGINS {
            return Err(Error::new(Fault::Unavailable, format!("there are {MAX_LOGINS} logins; no more are taken")));
        }
        self.last += 1;
        let id = LoginId(self.last);
        let token = self.random.token();
        let New { identity: Identity { user, rights, scopes, key }, application, device, address, is_host } = new;
        let caller = Arc::new(Caller { login: id, user: user.clone(), application, device, rights, scopes });
        let login = Box::new(Login {
            caller,
            key,
            address,
            is_host,
            token: token.digest(),
            old_token: None,
            token_ends: now + lifetime,
            since: at,
            last_active: now,
            is_watched: false,
            is_away: false,
            is_device: false,
            replies: 0,
            pending_ids: 0,
            waiting: 0,
            events: Events::default(),
            polled: 0,
            streams: Vec::new(),
            subscriptions: Vec::new(),
            subscription_ids: 0,
        });
        self.by_token.insert(login.token, id);
        self.by_user.entry(user).or_default().push(id);
        self.by_id.insert(id, login);
        Ok((id, token))
    }

    /// Finds the login of a token that is good now.
    pub(crate) fn authenticate(&self, now: Instant, token: &Token) -> Result<LoginId, Error> {
        let digest = token.digest();
        let found = self.by_token.get(&digest).and_then(|id| Some((*id, self.by_id.get(id)?)));
        let good = |login: &Login| match login.old_token {
            Some((old, until)) if old == digest => now < until,
            _ => now < login.token_ends,
        };
        let (id, _) = found.filter(|(_, login)| good(login)).ok_or_else(|| login_required("the token is unknown or has expired"))?;
        Ok(id)
    }

    /// Exchanges the token.
    pub(crate) fn refresh(&mut self, now: Instant, lifetime: Duration, id: LoginId) -> Option<Token> {
        let token = self.random.token();
        let login = self.by_id.get_mut(&id)?;
        let older = login.old_token.replace((login.token, (now + GRACE).min(login.token_ends)));
        if let Some((older, _)) = older {
            self.by_token.remove(&older);
        }
        login.token = token.digest();
        login.token_ends = now + lifetime;
        self.by_token.insert(login.token, id);
        Some(token)
    }

    pub(crate) fn remove(&mut self, id: LoginId) -> Option<Box<Login>> {
        let login = self.by_id.remove(&id)?;
        self.by_token.remove(&login.token);
        if let Some((old, _)) = login.old_token {
            self.by_token.remove(&old);
        }
        if let Some(own) = self.by_user.get_mut(&login.caller.user) {
            own.retain(|other| *other != id);
            if own.is_empty() {
                self.by_user.remove(&login.caller.user);
            }
        }
        Some(login)
    }
}

/// A login to be.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) identity: Identity,
    pub(crate) application: Option<Line>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) is_host: bool,
}

pub(crate) fn login_required(detail: &str) -> Error {
    Error::new(Fault::LoginRequired, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(900);

    #[expect(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    fn start() -> (Logins, Instant) {
        (Logins::new([1; 32]), Instant::now())
    }

    fn new(user: &str) -> New {
        let user = UserName::parse(user).unwrap();
        let identity = Identity { user, rights: Arc::default(), scopes: None, key: None };
        New { identity, application: None, device: None, address: None, is_host: false }
    }

    #[test]
    fn a_token_is_good_until_its_end_and_no_other_is() {
        let (mut logins, now) = start();
        let (id, token) = logins.admit(now, 0, LIFETIME, new("ann")).unwrap();
        assert_eq!(logins.authenticate(now, &token), Ok(id));
        assert!(logins.authenticate(now + LIFETIME, &token).is_err());
        assert!(logins.authenticate(now, &Token::shown("")).is_err());
        logins.remove(id);
        assert_eq!(logins.authenticate(now, &token).unwrap_err().fault, Fault::LoginRequired);
        assert!(logins.by_token.is_empty() && logins.by_user.is_empty());
    }

    #[test]
    fn a_refresh_leaves_the_old_token_its_grace() {
        let (mut logins, now) = start();
        let (id, first) = logins.admit(now, 0, LIFETIME, new("ann")).unwrap();
        let second = logins.refresh(now, LIFETIME, id).unwrap();
        assert_eq!(logins.authenticate(now, &first), Ok(id));
        assert!(logins.authenticate(now + GRACE, &first).is_err());
        assert_eq!(logins.authenticate(now + GRACE, &second), Ok(id));
        let third = logins.refresh(now, LIFETIME, id).unwrap();
        assert!(logins.authenticate(now, &first).is_err());
        assert_eq!(logins.by_token.len(), 2);
        logins.remove(id);
        assert!(logins.authenticate(now, &second).is_err() && logins.authenticate(now, &third).is_err());
        assert!(logins.by_token.is_empty());
    }

    #[test]
    fn a_refresh_just_before_the_end_does_not_lengthen_the_old_token() {
        let (mut logins, now) = start();
        let (id, first) = logins.admit(now, 0, LIFETIME, new("ann")).unwrap();
        let late = now + LIFETIME - Duration::from_secs(1);
        logins.refresh(late, LIFETIME, id).unwrap();
        assert!(logins.authenticate(late, &first).is_ok());
        assert!(logins.authenticate(now + LIFETIME, &first).is_err());
    }

    #[test]
    fn a_users_idlest_login_makes_room() {
        let (mut logins, now) = start();
        let ids: Vec<LoginId> = (0..MAX_LOGINS_OF_USER).map(|_| logins.admit(now, 0, LIFETIME, new("ann")).unwrap().0).collect();
        for id in ids.iter().filter(|id| **id != ids[7]) {
            logins.find_mut(*id).unwrap().last_active = now + GRACE;
        }
        let ann = UserName::parse("ann").unwrap();
        assert_eq!(logins.surplus(&ann, |_| false), Some(ids[7]));
        assert_eq!(logins.surplus(&UserName::parse("bob").unwrap(), |_| false), None);
        // one that is used stays while there are others
        assert_eq!(logins.surplus(&ann, |id| id == ids[7]), Some(ids[0]));
        assert_eq!(logins.surplus(&ann, |_| true), Some(ids[7]));
        logins.find_mut(ids[7]).unwrap().is_device = true;
        assert_eq!(logins.surplus(&ann, |_| false), Some(ids[0]));
        logins.find_mut(ids[7]).unwrap().is_away = true;
        assert_eq!(logins.surplus(&ann, |_| false), Some(ids[7]), "its client has gone without a word");
    }
}
