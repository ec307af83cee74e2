//! Users in the store: what a restart reads, and the form of each record. The first byte of a user's record says who owns it, then come
//! the two hashes, then the name to show.

use cas::permission::{Pattern, Rights};
use serde::{Deserialize, Serialize};
use sip::digest::Ha1;
use tracing::warn;

use super::{Key, Managed, Number, User, Users};
use crate::pii::Pii;
use crate::storage::{Batch, Storage, StorageError, Table};

/// First byte of a stored user that the file manages.
const MANAGED_BY_FILE: u8 = b'F';
/// First byte of one that the store owns.
const MANAGED_BY_STORE: u8 = b'S';
/// Bytes of both hashes.
const HA1: usize = 48;
/// Most that is told of what the file uses otherwise; of more there are only lines in the log.
const MAX_WARNINGS: usize = 100;
/// Users of the file that are written at once.
const AT_ONCE: usize = 64;

/// A key's record.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    user: Box<str>,
    scopes: Vec<Pattern>,
    digest: [u8; 32],
}

impl Users {
    /// Puts the users of the file into the store, takes out those that the file no longer has, and reads the store's own.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn keep(&mut self, storage: &Storage) -> Result<(), StorageError> {
        for entry in storage.scan(Table::User, b"") {
            let (key, value) = entry?;
            let known = std::str::from_utf8(&key).is_ok_and(|name| self.by_name.contains_key(name));
            if value.first() == Some(&MANAGED_BY_FILE) && !known {
                let mut batch = Batch::new();
                batch.remove(Table::User, &key).remove(Table::Presence, &key).remove(Table::Publication, &key);
                storage.write(&batch).await?;
            } else if !known {
                self.take_user(&key, &value);
            }
        }
        let mut names: Vec<&User> = self.by_name.values().filter(|user| user.managed == Managed::File).collect();
        while !names.is_empty() {
            let rest = names.split_off(names.len().min(AT_ONCE));
            let mut batch = Batch::new();
            for user in names {
                batch.put(Table::User, user.name.as_bytes(), &encode(user));
            }
            storage.write(&batch).await?;
            names = rest;
        }
        self.read_the_rest(storage)
    }

    fn read_the_rest(&mut self, storage: &Storage) -> Result<(), StorageError> {
        for entry in storage.scan(Table::Rights, b"") {
            let (key, value) = entry?;
            let user = std::str::from_utf8(&key).ok().and_then(|name| self.by_name.get_mut(name));
            let (Some(user), Ok(rights)) = (user, serde_json::from_slice::<Rights>(&value)) else { continue };
            user.rights = rights.into();
        }
        for entry in storage.scan(Table::Number, b"") {
            let (key, value) = entry?;
            let (Ok(number), Ok(user)) = (String::from_utf8(key), String::from_utf8(value)) else { continue };
            let taken = self.find(&number).map(|user| user.name.clone());
            let elsewhere = self.elsewhere(&number);
            let Some(whose) = self.by_name.get_mut(user.as_str()) else {
                self.strays.push((number.into(), user.into()));
                continue;
            };
            if let Some(other) = taken {
                if *other != *user {
                    self.warn(
                        &number,
                        &user,
                        format!("{number} is a number of {user} in the store, and of {other} in the configuration file"),
                    );
                }
                continue;
            }
            whose.numbers.push(number.as_str().into());
            if let Some(why) = elsewhere {
                self.warn(&number, &user, format!("{number} is a number of {user} in the store, and {why}"));
            }
            self.by_number.insert(number.into(), Number { user: user.into(), managed: Managed::Store });
        }
        for entry in storage.scan(Table::Key, b"") {
            let (name, value) = entry?;
            let (Ok(name), Ok(stored)) = (String::from_utf8(name), serde_json::from_slice::<StoredKey>(&value)) else { continue };
            let StoredKey { user, scopes, digest } = stored;
            self.keys.insert(name.into(), Key { user, scopes: scopes.into(), digest });
        }
        Ok(())
    }

    fn take_user(&mut self, name: &[u8], value: &[u8]) {
        let stored = value.strip_prefix(&[MANAGED_BY_STORE]).and_then(|rest| rest.split_at_checked(HA1));
        let read = stored.and_then(|(ha1, shown)| Some((Ha1::from_bytes(ha1)?, std::str::from_utf8(shown).ok()?)));
        let (Some((ha1, shown)), Ok(name)) = (read, std::str::from_utf8(name)) else { return };
        let shown = Some(shown).filter(|shown| !shown.is_empty()).map(Into::into);
        let (managed, numbers, rights) = (Managed::Store, Vec::new(), std::sync::Arc::default());
        let user = User { name: name.into(), ha1, srtp: self.srtp, shown, numbers, managed, rights };
        let is = || format!("{name} is the name of a user of the store");
        if let Some(why) = self.elsewhere(name) {
            self.warn(name, name, format!("{}, and {why}", is()));
        } else if let Some(number) = self.by_number.get(name) {
            let other = number.user.clone();
            self.warn(name, &other, format!("{}, and a number of {other} in the configuration file", is()));
        }
        self.by_name.insert(name.into(), user);
    }

    fn warn(&mut self, number: &str, user: &str, sentence: String) {
        warn!(number = %Pii(number), user = %Pii(user), "what was added here is used otherwise in the configuration file: doctor names it");
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(sentence);
        }
    }
}

/// Writes a user's record.
pub(super) fn encode(user: &User) -> Vec<u8> {
    let mark = match user.managed {
        Managed::File => MANAGED_BY_FILE,
        Managed::Store => MANAGED_BY_STORE,
    };
    let mut value = vec![mark];
    value.extend_from_slice(&user.ha1.to_bytes());
    value.extend_from_slice(user.shown.as_deref().unwrap_or_default().as_bytes());
    value
}

/// Writes a key's record.
pub(super) fn encode_key(key: &Key) -> Vec<u8> {
    let stored = StoredKey { user: key.user.clone(), scopes: key.scopes.to_vec(), digest: key.digest };
    serde_json::to_vec(&stored).expect("the keys are text")
}
