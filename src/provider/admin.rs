//! Users, devices, numbers, API keys and rights, for administrators and the command line.

use std::time::Duration;

use cas::error::{Error, Fault};
use cas::permission::Rights;
use cas::provider::{Admin, Store};
use cas::text::{Destination, DeviceId, Line, UserName};
use cas::topic::admin::{
    AddKey, AddNumber, AddUser, Device, Devices, Drain, Key, Keys, MAX_PAGE, Managed, NewKey, Number, Numbers, SetUser, SwitchStatus, User,
    Users,
};
use cas::topic::permission::RightsChange;
use sip::Aor;
use sip::registrar::Binding;

use super::{Provider, unwritten};
use crate::signaling::{Draining, People};
use crate::storage::Batch;
use crate::user::{self, Refusal};
use crate::{clock, device, history};

type Answer<T> = Result<T, Error>;

/// Users whose devices the loop looks up at once.
const PORTION: usize = 200;
/// Bytes of the secret of an API key.
const SECRET: usize = 32;

impl Admin for Provider {
    async fn users(&self, after: Option<Line>) -> Answer<Users> {
        let page = self.signaling.look(move |people| {
            let users = people.users.after(after.as_ref().map(Line::as_str)).filter_map(user);
            page(users)
        });
        let (users, more) = page.await?;
        Ok(Users { users, more })
    }

    async fn add_user(&self, request: AddUser) -> Answer<User> {
        let AddUser { user: name, password, name: shown, numbers } = request;
        // nobody writes an entry of an earlier user of that name from here on, and nobody else adds one
        let _one_at_a_time = self.entries.lock().await;
        self.clear_history(&name).await?;
        let added = self.signaling.change::<_, Refusal>(move |people| {
            let name = name.as_str();
            let mut batch = people.users.add(name, password.reveal(), shown.as_ref().map(Line::as_str))?;
            for number in &numbers {
                batch.append(people.users.add_number(number.as_str(), name)?.0);
            }
            batch.append(clear(people, name));
            Ok((batch, people.users.named(name).and_then(user)))
        });
        let added = added.await.map_err(Error::from).map_err(|error| {
            let is_number = error.field.as_deref() == Some("number");
            if is_number { Error { field: Some("numbers".into()), ..error } } else { error }
        });
        added?.ok_or_else(strange)
    }

    async fn set_user(&self, request: SetUser) -> Answer<User> {
        let SetUser { user: name, password, name: shown } = request;
        let set = self.signaling.change::<_, Refusal>(move |people| {
            let password = password.as_ref().map(cas::text::Secret::reveal);
            let mut batch = people.users.set(name.as_str(), password, shown.as_ref().map(Line::as_str))?;
            if password.is_some() {
                // a device that has the old one does not ring on
                batch.append(unbind(people, name.as_str()));
                people.touched = Some(name.to_string());
            }
            Ok((batch, people.users.named(name.as_str()).and_then(user)))
        });
        set.await?.ok_or_else(strange)
    }

    async fn remove_user(&self, user: &UserName) -> Answer<()> {
        let name = user.clone();
        let removed = self.signaling.change::<_, Refusal>(move |people| {
            let mut batch = people.users.remove(name.as_str())?;
            batch.append(clear(people, name.as_str()));
            Ok((batch, ()))
        });
        let _one_at_a_time = self.entries.lock().await;
        removed.await?;
        self.clear_history(user).await
    }

    async fn devices(&self, user: Option<&UserName>, after: Option<DeviceId>) -> Answer<Devices> {
        let mut found = match user.cloned() {
            Some(user) => self.signaling.look(move |people| devices_of(people, user.as_str())).await?,
            None => self.all_devices().await?,
        };
        found.sort_unstable_by(|a, b| a.device.cmp(&b.device));
        let after = after.as_ref().map(DeviceId::as_str);
        let (devices, more) = page(found.into_iter().filter(|device| after.is_none_or(|after| device.device.as_str() > after)));
        Ok(Devices { devices, more })
    }

    async fn remove_device(&self, user: &UserName, device: &DeviceId) -> Answer<()> {
        let (name, device) = (user.clone(), device.clone());
        let removed = self.signaling.change(move |people| {
            let aor = Aor::new(name.as_str(), people.domain).ok_or_else(strange)?;
            let mut bindings = people.locations.of(&aor);
            let before = bindings.len();
            bindings.retain(|binding| device::Id::of(binding).as_str() != device.as_str());
            if bindings.len() == before {
                return Err(Error::new(Fault::NotFound, format!("{name} has no device {device}")));
            }
            people.touched = Some(name.to_string());
            Ok((people.replace(&aor, &bindings), ()))
        });
        Ok(removed.await?)
    }

    async fn numbers(&self, after: Option<Line>) -> Answer<Numbers> {
        let found =
            self.signaling.look(move |people| page(people.users.numbers_after(after.as_ref().map(Line::as_str)).filter_map(number)));
        let (numbers, more) = found.await?;
        Ok(Numbers { numbers, more })
    }

    async fn add_number(&self, request: AddNumber) -> Answer<Number> {
        let AddNumber { number, user } = request;
        let of = user.clone();
        let added = self.signaling.change::<_, Refusal>(move |people| people.users.add_number(number.as_str(), of.as_str()));
        let number = Destination::parse(&added.await?).map_err(|_| strange())?;
        Ok(Number { number, user, managed: Managed::Store, actions: Vec::new() })
    }

    async fn remove_number(&self, number: &Destination) -> Answer<()> {
        let number = number.clone();
        let removed = self.signaling.change::<_, Refusal>(move |people| Ok((people.users.remove_number(number.as_str())?, ())));
        Ok(removed.await?)
    }

    async fn keys(&self, after: Option<Line>) -> Answer<Keys> {
        let found = self.signaling.look(move |people| page(people.users.keys_after(after.as_ref().map(Line::as_str)).filter_map(key)));
        let (keys, more) = found.await?;
        Ok(Keys { keys, more })
    }

    async fn add_key(&self, request: AddKey) -> Answer<NewKey> {
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret).map_err(|_| Error::new(Fault::Internal, "the operating system gives no random numbers"))?;
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let AddKey { key, user, scopes } = request;
        let made = Key { key: key.clone(), user: user.clone(), scopes: scopes.clone(), actions: Vec::new() };
        let shown = secret.clone();
        let added =
            self.signaling.change::<_, Refusal>(move |people| Ok((people.users.add_key(key.as_str(), user.as_str(), scopes, &shown)?, ())));
        added.await?;
        Ok(NewKey { key: made, secret })
    }

    async fn remove_key(&self, key: &Line) -> Answer<()> {
        let key = key.clone();
        let removed = self.signaling.change::<_, Refusal>(move |people| Ok((people.users.remove_key(key.as_str())?, ())));
        Ok(removed.await?)
    }

    async fn status(&self) -> Answer<SwitchStatus> {
        let figures = self.signaling.figures().await?;
        let mut warnings: Vec<String> = figures.store.iter().map(ToString::to_string).collect();
        warnings.extend(self.signaling.look(|people| people.users.warnings().to_vec()).await?);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(SwitchStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: u64::try_from(clock::now().saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX),
            users: count(figures.users),
            devices: count(self.count_devices().await?),
            calls: count(figures.calls),
            draining: figures.draining,
            warnings,
        })
    }

    async fn drain(&self, request: Drain) -> Answer<SwitchStatus> {
        let deadline = request.deadline.map(|seconds| Duration::from_secs(seconds.into()));
        let draining = match request {
            Drain { cancel: true, .. } => Draining::Cancel,
            Drain { stay: true, .. } => Draining::Stay,
            Drain { .. } => Draining::End(deadline),
        };
        let before = self.status().await?; // the loop may end before it could be asked again
        self.signaling.drain(draining).await?;
        Ok(SwitchStatus { draining: draining != Draining::Cancel, ..before })
    }
}

impl Store for Provider {
    async fn unknown(&self, users: &[UserName]) -> Answer<Option<UserName>> {
        let users = users.to_vec();
        let look = self.signaling.look(move |people| users.into_iter().find(|user| people.users.named(user.as_str()).is_none()));
        Ok(look.await?)
    }

    async fn rights(&self, user: &UserName) -> Answer<Rights> {
        let name = user.clone();
        let found = self.signaling.look(move |people| people.users.named(name.as_str()).map(|user| user.rights.clone())).await?;
        let rights = found.ok_or_else(|| Error::new(Fault::NotFound, format!("no user {user}")))?;
        Ok(Rights::clone(&rights))
    }

    async fn change_rights(&self, user: &UserName, change: RightsChange) -> Answer<Rights> {
        let name = user.clone();
        let changed = self.signaling.change::<_, Refusal>(move |people| people.users.change_rights(name.as_str(), change));
        Ok(Rights::clone(&*changed.await?))
    }
}

/// Removes what there is of whoever had a name, besides their record: devices, calls, what they watch and say.
fn clear(people: &mut People<'_>, name: &str) -> Batch {
    people.left = Some(name.to_owned());
    unbind(people, name)
}

/// Removes all bindings of a user.
fn unbind(people: &mut People<'_>, name: &str) -> Batch {
    Aor::new(name, people.domain).map(|aor| people.replace(&aor, &[])).unwrap_or_default()
}

/// Takes a page of a list, and returns whether there is more.
fn page<T>(mut all: impl Iterator<Item = T>) -> (Vec<T>, bool) {
    let page = all.by_ref().take(MAX_PAGE).collect();
    (page, all.next().is_some())
}

fn user(user: &user::User) -> Option<User> {
    Some(User {
        user: UserName::parse(&user.name).ok()?,
        name: user.shown.as_deref().and_then(|shown| Line::parse(shown).ok()),
        numbers: user.numbers.iter().filter_map(|number| Destination::parse(number).ok()).collect(),
        managed: managed(user.managed),
        actions: Vec::new(),
    })
}

fn number((number, whose): (&str, &user::Number)) -> Option<Number> {
    let (number, user) = (Destination::parse(number).ok()?, UserName::parse(&whose.user).ok()?);
    Some(Number { number, user, managed: managed(whose.managed), actions: Vec::new() })
}

fn key((name, key): (&str, &user::Key)) -> Option<Key> {
    let (name, user) = (Line::parse(name).ok()?, UserName::parse(&key.user).ok()?);
    Some(Key { key: name, user, scopes: key.scopes.to_vec(), actions: Vec::new() })
}

fn managed(managed: user::Managed) -> Managed {
    match managed {
        user::Managed::File => Managed::File,
        user::Managed::Store => Managed::Store,
    }
}

impl Provider {
    /// Removes the history of somebody who is no user; that of a user stays.
    async fn clear_history(&self, user: &UserName) -> Answer<()> {
        let name = user.clone();
        if self.signaling.look(move |people| people.users.named(name.as_str()).is_some()).await? {
            return Ok(());
        }
        history::remove_all(&self.storage, user).await.map_err(|error| unwritten(&error))
    }

    /// Returns everybody's devices.
    async fn all_devices(&self) -> Answer<Vec<Device>> {
        let mut found = Vec::new();
        self.visit(devices_of, |devices| found.extend(devices)).await?;
        Ok(found)
    }

    /// Returns how many devices there are.
    async fn count_devices(&self) -> Answer<usize> {
        let mut count = 0;
        self.visit(|people, user| bindings_of(people, user).count(), |devices| count += devices).await?;
        Ok(count)
    }

    /// Looks at each user, in portions: the loop has calls to serve meanwhile.
    async fn visit<T: Send + 'static>(&self, look: fn(&People<'_>, &str) -> T, mut take: impl FnMut(T)) -> Answer<()> {
        let mut last: Option<Box<str>> = None;
        loop {
            let portion = self.signaling.look(move |people: &People<'_>| {
                let users: Vec<Box<str>> = people.users.after(last.as_deref()).take(PORTION).map(|user| user.name.clone()).collect();
                (users.iter().map(|user| look(people, user)).collect::<Vec<_>>(), users.into_iter().last())
            });
            let (seen, next) = portion.await?;
            seen.into_iter().for_each(&mut take);
            match next {
                Some(name) => last = Some(name),
                None => return Ok(()),
            }
        }
    }
}

fn devices_of(people: &People<'_>, user: &str) -> Vec<Device> {
    let Ok(name) = UserName::parse(user) else { return Vec::new() };
    bindings_of(people, user).filter_map(|binding| device(&name, &binding)).collect()
}

fn bindings_of(people: &People<'_>, user: &str) -> impl Iterator<Item = Binding> + use<> {
    let (aor, now) = (Aor::new(user, people.domain), people.now);
    let bindings = aor.map(|aor| people.locations.of(&aor)).unwrap_or_default();
    bindings.into_iter().filter(move |binding| !binding.is_expired(now))
}

fn device(user: &UserName, binding: &Binding) -> Option<Device> {
    let agent = Some(binding.user_agent.to_string()).filter(|agent| !agent.is_empty());
    Some(Device {
        device: DeviceId::parse(device::Id::of(binding).as_str()).ok()?,
        user: user.clone(),
        agent,
        transport: Some(binding.received.transport.param().to_owned()),
        expires_at: Some(binding.expires_at.0.saturating_mul(1000)),
        wakeable: false,
        actions: Vec::new(),
    })
}

fn strange() -> Error {
    Error::new(Fault::Internal, "the record cannot be shown")
}
