//! Whether people can be reached, and what they say themselves.

use cas::error::{Error, Fault};
use cas::permission::Caller;
use cas::text::{Destination, UserName};
use cas::topic::presence::{Presence, Set, User};

use super::Provider;
use crate::clock;
use crate::presence::Kept;
use crate::route::Meant;

impl cas::provider::Presence for Provider {
    async fn presence(&self, _: &Caller, users: &[UserName]) -> Result<Vec<User>, Error> {
        let seen = self.signaling.presence(users.iter().map(|user| user.as_str().to_owned()).collect()).await?;
        let user = |(name, presence): (String, Presence)| {
            Some(User { user: UserName::parse(&name).ok()?, presence: Some(presence), actions: Vec::new() })
        };
        Ok(seen.into_iter().filter_map(user).collect())
    }

    async fn resolve(&self, addresses: &[Destination]) -> Result<Vec<UserName>, Error> {
        let addresses = addresses.to_vec();
        let found = self.signaling.look(move |people| {
            let route = people.route();
            let user = |address: &Destination| match route.typed(address.as_str()) {
                Meant::User(user) => UserName::parse(&user.name).ok(),
                Meant::Room(_) | Meant::Feature(_) | Meant::Switch | Meant::Elsewhere | Meant::Nobody => None,
            };
            addresses.iter().filter_map(user).collect()
        });
        Ok(found.await?)
    }

    async fn set(&self, user: &UserName, set: Set) -> Result<Presence, Error> {
        let Set { status, note, until, .. } = set;
        let now = u64::try_from(clock::unix().as_millis()).unwrap_or(u64::MAX);
        if until.is_some_and(|until| until <= now) {
            return Err(Error::field("until", "field until: expected a time to come, in milliseconds since 1970"));
        }
        let seen = self.signaling.say::<Error>(user.as_str().to_owned(), Kept { status, note, until }).await?;
        seen.ok_or_else(|| Error::new(Fault::NotFound, "no such user"))
    }
}
