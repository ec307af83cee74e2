//! Whether people can be reached: what their devices say.

use cas::error::{Error, Fault};
use cas::permission::Caller;
use cas::text::{Destination, UserName};
use cas::topic::presence::{Presence, Set, Telephony, User};
use sip::Aor;

use super::Provider;
use crate::signaling::People;

impl cas::provider::Presence for Provider {
    async fn presence(&self, _: &Caller, users: &[UserName]) -> Result<Vec<User>, Error> {
        let users = users.to_vec();
        Ok(self.signaling.look(move |people| users.into_iter().filter_map(|user| presence(people, user)).collect()).await?)
    }

    async fn resolve(&self, addresses: &[Destination]) -> Result<Vec<UserName>, Error> {
        let addresses = addresses.to_vec();
        let found = self.signaling.look(move |people| {
            let user = |address: &Destination| UserName::parse(&people.users.find(local(address.as_str(), people.domain)?)?.name).ok();
            addresses.iter().filter_map(user).collect()
        });
        Ok(found.await?)
    }

    async fn set(&self, _: &UserName, _: Set) -> Result<Presence, Error> {
        Err(Error::new(Fault::NotSupported, "this switch keeps no status yet"))
    }
}

fn presence(people: &People<'_>, user: UserName) -> Option<User> {
    people.users.named(user.as_str())?;
    let aor = Aor::new(user.as_str(), people.domain)?;
    let registered = people.locations.of(&aor).iter().any(|binding| !binding.is_expired(people.now));
    let telephony = Some(if registered { Telephony::Idle } else { Telephony::Offline });
    let (im, mobile, status, note) = (None, None, None, None);
    let presence = Presence { telephony, im, mobile, status, note, most_available: None, semi_available: None };
    Some(User { user, presence: Some(presence), actions: Vec::new() })
}

/// Returns the user part of what is dialled; none where it is not of our domain.
fn local<'a>(address: &'a str, domain: &str) -> Option<&'a str> {
    let bare = ["sips:", "sip:", "tel:"].into_iter().find_map(|scheme| address.strip_prefix(scheme)).unwrap_or(address);
    match bare.split(';').next()?.split_once('@') {
        Some((user, host)) if host.eq_ignore_ascii_case(domain) => Some(user),
        Some(_) => None,
        None => bare.split(';').next(),
    }
}
