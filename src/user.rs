//! Users: the people we serve, by name and by number, with what proves who they are and what they may do; and the API keys that act for
//! them. The file's users are kept in the store, marked as managed by the file; those that an administrator adds are the store's own.
//!
//! One loop owns this. A change takes effect at once; the returned batch makes it last, and what was before is noted until the loop
//! takes the note: where the write fails, [`Users::restore`] takes the change back.

mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cas::permission::{Pattern, Rights};
use cas::topic::permission::RightsChange;
use sha2::{Digest as _, Sha256};
use sip::digest::Ha1;

use crate::config::{self, Config, Feature, Features, Number as Dialled, Srtp};
use crate::storage::{Batch, Table};

/// Most users. A further one is refused.
pub const MAX_USERS: usize = 1_000_000;
/// Most numbers of a user. A further one is refused.
pub const MAX_NUMBERS: usize = 128;
/// Most API keys. A further one is refused.
pub const MAX_KEYS: usize = 10_000;
/// Most API keys of a user. A further one is refused.
pub const MAX_KEYS_OF_USER: usize = 64;

/// Who owns a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// The configuration file.
    File,
    /// The store.
    Store,
}

/// A person.
#[derive(Clone)]
pub struct User {
    /// User part of the AOR.
    pub name: Box<str>,
    /// H(name:realm:password).
    pub ha1: Ha1,
    /// Whether media of the person's devices is protected.
    pub srtp: Srtp,
    /// The name to show.
    pub shown: Option<Box<str>>,
    /// The numbers that reach the person, in the form in which they are kept.
    pub numbers: Vec<Box<str>>,
    /// Who owns the record.
    pub managed: Managed,
    /// What the person may do by CAS.
    pub rights: Arc<Rights>,
}

/// A number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// Whose it is.
    pub user: Box<str>,
    /// Who owns the record.
    pub managed: Managed,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// As whom it signs in.
    pub user: Box<str>,
    /// What it is for.
    pub scopes: Arc<[Pattern]>,
    /// SHA-256 of what shows it.
    digest: [u8; 32],
}

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such record.
    #[error("no {what} {name}")]
    Unknown {
        /// What it would be.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Its name is taken.
    #[error("{name} is taken")]
    Taken {
        /// The name.
        name: String,
    },
    /// The configuration file owns it.
    #[error("{what} {name}")]
    OfTheFile {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It cannot be a user's name.
    #[error("{name:?} {why}")]
    BadName {
        /// The name.
        name: String,
        /// What it is instead.
        why: String,
    },
    /// It cannot be a user's number.
    #[error("{number:?} {why}")]
    BadNumber {
        /// The number.
        number: String,
        /// What it is instead.
        why: &'static str,
    },
    /// There are as many as there may be.
    #[error("there are {most} {what}; no more are taken")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
    },
    /// The rights cannot be changed so.
    #[error(transparent)]
    Rights(#[from] cas::error::Error),
}

/// All users.
pub struct Users {
    realm: Box<str>,
    srtp: Srtp,
    by_name: BTreeMap<Box<str>, User>,
    by_number: BTreeMap<Box<str>, Number>,
    keys: BTreeMap<Box<str>, Key>,
    features: Features,
    rooms: BTreeSet<Box<str>>,
    /// Numbers in the store of those who were users of the file, and whose they were.
    strays: Vec<(Box<str>, Box<str>)>,
    former: Vec<Former>,
    warnings: Vec<String>,
}

/// A record as it was before a change; none: there was none.
#[derive(Clone)]
enum Former {
    User(Box<str>, Option<Box<User>>),
    Number(Box<str>, Option<Number>),
    Key(Box<str>, Option<Key>),
}

/// What a change of users takes to be taken back.
#[derive(Default)]
pub struct Undo(Vec<Former>);

impl Users {
    /// Reads the users of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut users = Self {
            realm: config.domain.as_str().into(),
            srtp: config.media.srtp,
            by_name: BTreeMap::new(),
            by_number: BTreeMap::new(),
            keys: BTreeMap::new(),
            features: config.features.clone(),
            rooms: config.rooms.iter().map(|room| room.number.as_str().into()).collect(),
            strays: Vec::new(),
            former: Vec::new(),
            warnings: Vec::new(),
        };
        let (managed, rights) = (Managed::File, Arc::<Rights>::default());
        for user in &config.users {
            let name: Box<str> = user.name.as_str().into();
            let numbers: Vec<Box<str>> = user.numbers.iter().map(|number| canonical(number.as_str()).into()).collect();
            for number in &numbers {
                users.by_number.insert(number.clone(), Number { user: name.clone(), managed });
            }
            let ha1 = Ha1::new(&name, &users.realm, user.password.reveal());
            let user = User { name: name.clone(), ha1, srtp: user.srtp, shown: None, numbers, managed, rights: rights.clone() };
            users.by_name.insert(name, user);
        }
        users
    }

    /// Finds a user by the user part of a URI: a name, or a number in any of its written forms.
    #[must_use]
    pub fn find(&self, user: &str) -> Option<&User> {
        self.by_name.get(user).or_else(|| self.by_name.get(&self.by_number.get(canonical(user).as_str())?.user))
    }

    /// Returns what a dialled text asks for, if it is a feature code.
    #[must_use]
    pub fn feature(&self, dialled: &str) -> Option<Feature> {
        self.features.find(dialled)
    }

    /// Returns the number of a room, if that is what it is.
    #[must_use]
    pub fn room(&self, number: &str) -> Option<&str> {
        self.rooms.get(number).map(|number| &**number)
    }

    /// Finds a user by name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// Returns the number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns true without users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Lists the users behind a name, in the order of their names.
    pub fn after(&self, name: Option<&str>) -> impl Iterator<Item = &User> {
        self.by_name.range::<str, _>(behind(name)).map(|(_, user)| user)
    }

    /// Lists the numbers behind one, in order.
    pub fn numbers_after(&self, number: Option<&str>) -> impl Iterator<Item = (&str, &Number)> {
        self.by_number.range::<str, _>(behind(number)).map(|(number, whose)| (&**number, whose))
    }

    /// Lists the keys behind one, in the order of their names.
    pub fn keys_after(&self, key: Option<&str>) -> impl Iterator<Item = (&str, &Key)> {
        self.keys.range::<str, _>(behind(key)).map(|(name, key)| (&**name, key))
    }

    /// Returns a user's rights if the password is right. Unknown users take as long as known ones.
    #[must_use]
    pub fn verify(&self, name: &str, password: &str) -> Option<Arc<Rights>> {
        let shown = Ha1::new(name, &self.realm, password).to_bytes();
        let user = self.by_name.get(name);
        let known = user.map_or([0; 48], |user| user.ha1.to_bytes());
        let differing = shown.iter().zip(known).fold(0, |bits, (a, b)| bits | (a ^ b));
        user.filter(|_| differing == 0).map(|user| user.rights.clone())
    }

    /// Returns the key that a secret shows, with its name and the rights of its user.
    #[must_use]
    pub fn verify_key(&self, secret: &str) -> Option<(&str, &Key, Arc<Rights>)> {
        let digest = digest(secret);
        // what is compared are digests: how long it takes tells nothing about a secret
        let (name, key) = self.keys.iter().find(|(_, key)| key.digest == digest)?;
        Some((name, key, self.by_name.get(&key.user)?.rights.clone()))
    }

    /// Returns what takes back the changes since it was asked for last; no more than one change has.
    pub fn take_undo(&mut self) -> Undo {
        Undo(std::mem::take(&mut self.former))
    }

    /// Takes changes back. Of several it is the newest one first.
    pub fn restore(&mut self, undo: Undo) {
        for former in undo.0.into_iter().rev() {
            match former {
                Former::User(name, Some(user)) => drop(self.by_name.insert(name, *user)),
                Former::User(name, None) => drop(self.by_name.remove(&name)),
                Former::Number(number, Some(whose)) => drop(self.by_number.insert(number, whose)),
                Former::Number(number, None) => drop(self.by_number.remove(&number)),
                Former::Key(name, Some(key)) => drop(self.keys.insert(name, key)),
                Former::Key(name, None) => drop(self.keys.remove(&name)),
            }
        }
    }

    fn note_user(&mut self, name: &str) {
        self.former.push(Former::User(name.into(), self.by_name.get(name).cloned().map(Box::new)));
    }

    fn note_number(&mut self, number: &str) {
        self.former.push(Former::Number(number.into(), self.by_number.get(number).cloned()));
    }

    fn note_key(&mut self, name: &str) {
        self.former.push(Former::Key(name.into(), self.keys.get(name).cloned()));
    }

    /// Adds a user, of whom nothing is known: an earlier one of that name leaves nothing.
    ///
    /// # Errors
    ///
    /// It is no name, or leads elsewhere; it is taken, also as a number; or there is no room.
    pub fn add(&mut self, name: &str, password: &str, shown: Option<&str>) -> Result<Batch, Refusal> {
        self.check_name(name)?;
        if self.find(name).is_some() {
            return Err(Refusal::Taken { name: name.to_owned() });
        }
        if self.by_name.len() >= MAX_USERS {
            return Err(Refusal::Full { what: "users", most: MAX_USERS });
        }
        let user = User {
            name: name.into(),
            ha1: Ha1::new(name, &self.realm, password),
            srtp: self.srtp,
            shown: shown.map(Into::into),
            numbers: Vec::new(),
            managed: Managed::Store,
            rights: Arc::default(),
        };
        let mut batch = Batch::new();
        self.clear(name, &mut batch);
        batch.put(Table::User, name.as_bytes(), &store::encode(&user));
        self.note_user(name);
        self.by_name.insert(name.into(), user);
        Ok(batch)
    }

    /// Changes a user's password, or the name to show.
    ///
    /// # Errors
    ///
    /// There is no such user, or the file owns it.
    pub fn set(&mut self, name: &str, password: Option<&str>, shown: Option<&str>) -> Result<Batch, Refusal> {
        let realm = self.realm.clone();
        self.check_own(name)?;
        self.note_user(name);
        let user = self.by_name.get_mut(name).ok_or_else(|| unknown("user", name))?;
        if let Some(password) = password {
            user.ha1 = Ha1::new(name, &realm, password);
        }
        if let Some(shown) = shown {
            user.shown = Some(shown.into());
        }
        let mut batch = Batch::new();
        batch.put(Table::User, name.as_bytes(), &store::encode(user));
        Ok(batch)
    }

    /// Removes a user, with rights, numbers and keys.
    ///
    /// # Errors
    ///
    /// There is no such user, or the file owns it.
    pub fn remove(&mut self, name: &str) -> Result<Batch, Refusal> {
        self.check_own(name)?;
        self.note_user(name);
        let numbers = self.by_name.remove(name).map(|user| user.numbers).unwrap_or_default();
        let mut batch = Batch::new();
        batch.remove(Table::User, name.as_bytes());
        for number in numbers {
            batch.remove(Table::Number, number.as_bytes());
            self.note_number(&number);
            self.by_number.remove(&number);
        }
        self.clear(name, &mut batch);
        Ok(batch)
    }

    /// Removes what the store has of a user besides their record and the numbers that are theirs now.
    fn clear(&mut self, name: &str, batch: &mut Batch) {
        for table in [Table::Rights, Table::Presence, Table::Publication] {
            batch.remove(table, name.as_bytes());
        }
        for (number, _) in self.strays.iter().filter(|(number, user)| **user == *name && !self.by_number.contains_key(number)) {
            batch.remove(Table::Number, number.as_bytes());
        }
        let keys: Vec<Box<str>> = self.keys.iter().filter(|(_, key)| *key.user == *name).map(|(key, _)| key.clone()).collect();
        for key in keys {
            batch.remove(Table::Key, key.as_bytes());
            self.note_key(&key);
            self.keys.remove(&key);
        }
    }

    /// Gives a number to a user, and returns the form in which it is kept.
    ///
    /// # Errors
    ///
    /// It is no number, or leads elsewhere; there is no such user; it is taken, also as a name; or there is no room for it.
    pub fn add_number(&mut self, number: &str, user: &str) -> Result<(Batch, String), Refusal> {
        let number = canonical(number);
        self.check_number(&number)?;
        let taken = self.find(&number).is_some();
        let whose = self.by_name.get(user).ok_or_else(|| unknown("user", user))?;
        if taken {
            return Err(Refusal::Taken { name: number });
        }
        if whose.numbers.len() >= MAX_NUMBERS {
            return Err(Refusal::Full { what: "numbers of that user", most: MAX_NUMBERS });
        }
        self.note_user(user);
        self.note_number(&number);
        if let Some(whose) = self.by_name.get_mut(user) {
            whose.numbers.push(number.as_str().into());
        }
        let mut batch = Batch::new();
        batch.put(Table::Number, number.as_bytes(), user.as_bytes());
        self.by_number.insert(number.as_str().into(), Number { user: user.into(), managed: Managed::Store });
        Ok((batch, number))
    }

    /// Refuses what no phone dials, and what leads elsewhere when it is dialled.
    fn check_number(&self, number: &str) -> Result<(), Refusal> {
        let refused = |why| Err(Refusal::BadNumber { number: number.to_owned(), why });
        if Dialled::parse(number).is_none() {
            return refused("is no number: expected up to 32 digits, * and #, with an optional + first");
        }
        self.elsewhere(number).map_or(Ok(()), refused)
    }

    /// Refuses what the file could not call a user either.
    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        let refused = |why| Err(Refusal::BadName { name: name.to_owned(), why });
        if config::UserName::parse(name).is_none() {
            return refused(format!("is no name: expected {}", config::UserName::ACCEPTED));
        }
        self.elsewhere(name).map_or(Ok(()), |why| refused(why.to_owned()))
    }

    fn elsewhere(&self, dialled: &str) -> Option<&'static str> {
        self.features.elsewhere(dialled, |number| self.rooms.contains(canonical(number).as_str()))
    }

    /// Lists in sentences what the store has and the file uses otherwise.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes a number away.
    ///
    /// # Errors
    ///
    /// There is no such number, or the file owns it.
    pub fn remove_number(&mut self, number: &str) -> Result<Batch, Refusal> {
        let number = canonical(number);
        let known = self.by_number.get(number.as_str()).ok_or_else(|| unknown("number", &number))?;
        if known.managed == Managed::File {
            return Err(Refusal::OfTheFile { what: "number", name: number });
        }
        let user = known.user.clone();
        self.note_user(&user);
        self.note_number(&number);
        if let Some(user) = self.by_name.get_mut(&user) {
            user.numbers.retain(|other| **other != *number);
        }
        self.by_number.remove(number.as_str());
        let mut batch = Batch::new();
        batch.remove(Table::Number, number.as_bytes());
        Ok(batch)
    }

    /// Adds an API key that a secret shows.
    ///
    /// # Errors
    ///
    /// There is no such user, the name is taken, or there is no room.
    pub fn add_key(&mut self, name: &str, user: &str, scopes: Vec<Pattern>, secret: &str) -> Result<Batch, Refusal> {
        if !self.by_name.contains_key(user) {
            return Err(unknown("user", user));
        }
        if self.keys.contains_key(name) {
            return Err(Refusal::Taken { name: name.to_owned() });
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(Refusal::Full { what: "keys", most: MAX_KEYS });
        }
        if self.keys.values().filter(|key| *key.user == *user).count() >= MAX_KEYS_OF_USER {
            return Err(Refusal::Full { what: "keys of that user", most: MAX_KEYS_OF_USER });
        }
        let key = Key { user: user.into(), scopes: scopes.into(), digest: digest(secret) };
        let mut batch = Batch::new();
        batch.put(Table::Key, name.as_bytes(), &store::encode_key(&key));
        self.note_key(name);
        self.keys.insert(name.into(), key);
        Ok(batch)
    }

    /// Removes an API key.
    ///
    /// # Errors
    ///
    /// There is no such key.
    pub fn remove_key(&mut self, name: &str) -> Result<Batch, Refusal> {
        if !self.keys.contains_key(name) {
            return Err(unknown("key", name));
        }
        self.note_key(name);
        self.keys.remove(name);
        let mut batch = Batch::new();
        batch.remove(Table::Key, name.as_bytes());
        Ok(batch)
    }

    /// Changes a user's rights, and returns the new ones.
    ///
    /// # Errors
    ///
    /// There is no such user, or the change goes past a bound.
    pub fn change_rights(&mut self, name: &str, change: RightsChange) -> Result<(Batch, Arc<Rights>), Refusal> {
        let user = self.by_name.get(name).ok_or_else(|| unknown("user", name))?;
        let rights = Arc::new(change.apply(Rights::clone(&user.rights))?);
        self.note_user(name);
        let value = serde_json::to_vec(&*rights).expect("the keys are text");
        let mut batch = Batch::new();
        batch.put(Table::Rights, name.as_bytes(), &value);
        if let Some(user) = self.by_name.get_mut(name) {
            user.rights = rights.clone();
        }
        Ok((batch, rights))
    }

    /// Whether there is a user whose record is not the file's.
    fn check_own(&self, name: &str) -> Result<(), Refusal> {
        let user = self.by_name.get(name).ok_or_else(|| unknown("user", name))?;
        if user.managed == Managed::File {
            return Err(Refusal::OfTheFile { what: "user", name: name.to_owned() });
        }
        Ok(())
    }
}

fn unknown(what: &'static str, name: &str) -> Refusal {
    Refusal::Unknown { what, name: name.to_owned() }
}

fn behind(name: Option<&str>) -> (std::ops::Bound<&str>, std::ops::Bound<&str>) {
    use std::ops::Bound::{Excluded, Unbounded};
    (name.map_or(Unbounded, Excluded), Unbounded)
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Takes visual separators out of a number (RFC 3966 §3).
#[must_use]
pub fn canonical(number: &str) -> String {
    let digits = |text: &str| text.chars().any(|c| c.is_ascii_digit());
    if !digits(number) {
        return number.to_owned();
    }
    number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ')).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cas::permission::Role;

    use super::*;
    use crate::storage::Storage;

    fn config(users: &str) -> Config {
        Config::parse(Path::new("t.toml"), &format!("domain = \"tandem.test\"\n{users}")).unwrap_or_else(|e| panic!("{e}"))
    }

    const ANN: &str = "[[user]]\nname = \"ann\"\npassword = \"ann-secret\"\nnumbers = [\"501\"]\n";

    async fn kept(storage: &Storage, file: &str) -> Users {
        let mut users = Users::new(&config(file));
        users.keep(storage).await.unwrap();
        users
    }

    #[tokio::test]
    async fn what_an_administrator_adds_is_there_after_a_restart_and_what_is_removed_is_not() {
        let (storage, _memory) = Storage::memory();
        let mut users = kept(&storage, ANN).await;
        let batches = [
            users.add("eve", "s", Some("Eve")).unwrap(),
            users.add("gone", "s", None).unwrap(),
            users.add_number("+1 (555) 0100", "ann").unwrap().0,
            users.add_number("601", "gone").unwrap().0,
            users.change_rights("ann", RightsChange::Role(Role::Administrator)).unwrap().0,
            users.add_key("crm", "eve", vec![Pattern::parse("tel.*").unwrap()], "secret").unwrap(),
            users.add_key("old", "gone", vec![Pattern::parse("*").unwrap()], "other").unwrap(),
            users.remove("gone").unwrap(),
            users.set("eve", Some("better"), None).unwrap(),
        ];
        for batch in &batches {
            storage.write(batch).await.unwrap();
        }
        for users in [users, kept(&storage, ANN).await] {
            assert!(users.verify("eve", "better").is_some() && users.verify("eve", "s").is_none() && users.verify("gone", "s").is_none());
            assert_eq!(users.named("eve").unwrap().shown.as_deref(), Some("Eve"));
            assert_eq!(&*users.find("+15550100").unwrap().name, "ann");
            assert!(users.find("601").is_none() && users.verify_key("other").is_none());
            assert_eq!(users.verify("ann", "ann-secret").unwrap().role, Role::Administrator);
            let (name, key, _) = users.verify_key("secret").unwrap();
            assert_eq!((name, &*key.user, key.scopes.len()), ("crm", "eve", 1));
        }
    }

    // "What is acknowledged is kept, what is refused is not there": security.md, "Also required"
    #[tokio::test]
    async fn what_could_not_be_written_is_taken_back() {
        let (storage, _memory) = Storage::memory();
        let mut users = kept(&storage, ANN).await;
        users.add("eve", "s", Some("Eve")).unwrap();
        users.add_number("601", "eve").unwrap();
        users.add_key("crm", "eve", vec![Pattern::parse("*").unwrap()], "secret").unwrap();
        users.change_rights("eve", RightsChange::Role(Role::Administrator)).unwrap();
        let is_eve = |users: &Users| {
            assert!(users.verify("eve", "s").is_some_and(|rights| rights.role == Role::Administrator));
            assert_eq!(&*users.find("601").unwrap().name, "eve");
            assert!(users.verify_key("secret").is_some() && users.find("602").is_none() && users.verify_key("other").is_none());
            assert_eq!(users.named("eve").unwrap().numbers, ["601".into()]);
        };
        let all = users.take_undo();
        users.remove("eve").unwrap();
        users.add("eve", "t", None).unwrap();
        users.add_number("602", "eve").unwrap();
        let again = users.take_undo();
        users.set("eve", Some("u"), None).unwrap();
        users.add_key("new", "eve", vec![Pattern::parse("*").unwrap()], "other").unwrap();
        let newest = users.take_undo();
        users.restore(newest);
        assert!(users.verify("eve", "t").is_some() && users.verify_key("other").is_none());
        users.restore(again);
        is_eve(&users);
        users.remove_number("601").unwrap();
        users.remove_key("crm").unwrap();
        users.change_rights("eve", RightsChange::Role(Role::User)).unwrap();
        let removed = users.take_undo();
        users.restore(removed);
        is_eve(&users);
        users.restore(all);
        assert!(users.named("eve").is_none() && users.find("601").is_none() && users.verify_key("secret").is_none());
    }

    #[tokio::test]
    async fn a_user_that_leaves_the_file_is_gone_and_one_that_comes_into_it_is_the_files() {
        let (storage, _memory) = Storage::memory();
        kept(&storage, ANN).await;
        let mut users = kept(&storage, "").await;
        assert!(users.named("ann").is_none());
        let batch = users.add("ann", "mine", None).unwrap();
        storage.write(&batch).await.unwrap();
        let users = kept(&storage, ANN).await;
        assert!(users.verify("ann", "ann-secret").is_some() && users.verify("ann", "mine").is_none());
    }

    #[tokio::test]
    async fn who_is_added_under_the_name_of_one_who_left_the_file_inherits_nothing() {
        let (storage, _memory) = Storage::memory();
        let mut users = kept(&storage, ANN).await;
        let rights = users.change_rights("ann", RightsChange::Role(Role::Administrator)).unwrap().0;
        let (first, second) = (users.add_number("601", "ann").unwrap().0, users.add_number("602", "ann").unwrap().0);
        let key = users.add_key("crm", "ann", vec![Pattern::parse("*").unwrap()], "secret").unwrap();
        for batch in [rights, first, second, key] {
            storage.write(&batch).await.unwrap();
        }
        let mut users = kept(&storage, "").await;
        storage.write(&users.add("bob", "other", None).unwrap()).await.unwrap();
        storage.write(&users.add_number("602", "bob").unwrap().0).await.unwrap();
        storage.write(&users.add("ann", "mine", None).unwrap()).await.unwrap();
        for users in [users, kept(&storage, "").await] {
            assert!(users.verify("ann", "mine").is_some_and(|rights| rights.role == Role::User));
            assert!(users.verify_key("secret").is_none() && users.find("601").is_none() && users.keys_after(None).next().is_none());
            assert_eq!(&*users.find("602").unwrap().name, "bob");
        }
    }

    #[tokio::test]
    async fn the_files_records_cannot_be_changed_here_and_a_name_leads_to_one_user() {
        let (storage, _memory) = Storage::memory();
        let mut users = kept(&storage, ANN).await;
        assert!(matches!(users.remove("ann"), Err(Refusal::OfTheFile { .. })));
        assert!(matches!(users.set("ann", Some("x"), None), Err(Refusal::OfTheFile { .. })));
        assert!(matches!(users.remove_number("501"), Err(Refusal::OfTheFile { .. })));
        assert!(matches!(users.add("501", "x", None), Err(Refusal::Taken { .. })));
        assert!(matches!(users.add_number("5-0-1", "ann"), Err(Refusal::Taken { .. })));
        assert!(matches!(users.add_number("502", "nobody"), Err(Refusal::Unknown { .. })));
    }

    #[test]
    fn what_would_never_reach_the_user_is_no_number() {
        let mut users = Users::new(&config(&format!("{ANN}[[room]]\nnumber = \"800\"\n")));
        for wrong in ["800", "8-0-0", "*70", "*705", "**501", "tel:502", "sip:bob@tandem.test", "audio", "+", "1a", "50 2x"] {
            assert!(matches!(users.add_number(wrong, "ann"), Err(Refusal::BadNumber { .. })), "{wrong}");
        }
        for right in ["502", "+49 (731) 5-0", "*99", "#31"] {
            assert!(users.add_number(right, "ann").is_ok(), "{right}");
        }
        assert!(matches!(users.remove("nobody"), Err(Refusal::Unknown { .. })));
    }

    #[test]
    fn what_would_never_reach_the_user_is_no_name() {
        let mut users = Users::new(&config(&format!("{ANN}[[room]]\nnumber = \"800\"\n")));
        let long = "x".repeat(65);
        for wrong in ["800", "8-0-0", "*70", "*8", "**501", "a;b", "a:b", "b\u{f3}b", ".", "-", &long] {
            assert!(matches!(users.add(wrong, "s", None), Err(Refusal::BadName { .. })), "{wrong}");
        }
        for right in ["o'neil", "a.b", "*9", &long[1..], "602"] {
            assert!(users.add(right, "s", None).is_ok(), "{right}");
        }
    }

    #[tokio::test]
    async fn what_the_file_takes_away_from_the_store_is_told_with_number_and_user() {
        let (storage, _memory) = Storage::memory();
        let mut users = kept(&storage, "").await;
        assert!(users.warnings().is_empty());
        let mut batches =
            vec![users.add("eve", "s", None).unwrap(), users.add("800", "s", None).unwrap(), users.add("501", "s", None).unwrap()];
        batches.extend(["5010", "801", "#9"].map(|number| users.add_number(number, "eve").unwrap().0));
        for batch in &batches {
            storage.write(batch).await.unwrap();
        }
        let file = ANN.replace("\"501\"", "\"501\", \"5010\"")
            + "[features]\npark = \"#9\"\n[[room]]\nnumber = \"800\"\n[[room]]\nnumber = \"801\"\n";
        let users = kept(&storage, &file).await;
        let expected = [
            "501 is the name of a user of the store, and a number of ann in the configuration file",
            "800 is the name of a user of the store, and is the number of a room",
            "#9 is a number of eve in the store, and is dialled for a feature",
            "5010 is a number of eve in the store, and of ann in the configuration file",
            "801 is a number of eve in the store, and is the number of a room",
        ];
        assert_eq!(users.warnings(), expected);
    }
}
