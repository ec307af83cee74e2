//! Users: the people we serve, by name and by number, with what proves who they are. The file's users are kept in the store, marked as
//! managed by the file.

use std::collections::BTreeMap;

use sip::digest::Ha1;

use crate::config::{Config, Srtp};
use crate::storage::{Batch, Storage, StorageError, Table};

/// A person.
pub struct User {
    /// User part of the AOR.
    pub name: Box<str>,
    /// H(name:realm:password).
    pub ha1: Ha1,
    /// Whether media of the person's devices is protected.
    pub srtp: Srtp,
}

/// All users.
#[derive(Default)]
pub struct Users {
    by_name: BTreeMap<Box<str>, User>,
    by_number: BTreeMap<Box<str>, Box<str>>,
}

/// First byte of a stored user that the file manages.
const MANAGED_BY_FILE: u8 = b'F';

impl Users {
    /// Reads the users of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut users = Self::default();
        for user in &config.users {
            let name: Box<str> = user.name.as_str().into();
            let ha1 = Ha1::new(&name, config.domain.as_str(), user.password.reveal());
            for number in &user.numbers {
                users.by_number.insert(canonical(number.as_str()).into(), name.clone());
            }
            users.by_name.insert(name.clone(), User { name, ha1, srtp: user.srtp });
        }
        users
    }

    /// Puts the users of the file into the store, and takes out those that the file no longer has.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn keep(&self, storage: &Storage) -> Result<(), StorageError> {
        for entry in storage.scan(Table::User, b"") {
            let (key, value) = entry?;
            let known = std::str::from_utf8(&key).is_ok_and(|name| self.by_name.contains_key(name));
            if value.first() == Some(&MANAGED_BY_FILE) && !known {
                storage.write(Batch::new().remove(Table::User, &key)).await?;
            }
        }
        let mut names: Vec<&User> = self.by_name.values().collect();
        while !names.is_empty() {
            let rest = names.split_off(names.len().min(64));
            let mut batch = Batch::new();
            for user in names {
                let mut value = vec![MANAGED_BY_FILE];
                value.extend_from_slice(&user.ha1.to_bytes());
                batch.put(Table::User, user.name.as_bytes(), &value);
            }
            storage.write(&batch).await?;
            names = rest;
        }
        Ok(())
    }

    /// Finds a user by the user part of a URI: a name, or a number in any of its written forms.
    #[must_use]
    pub fn find(&self, user: &str) -> Option<&User> {
        self.by_name.get(user).or_else(|| self.by_name.get(self.by_number.get(canonical(user).as_str())?))
    }

    /// Finds a user by name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }
}

/// Takes visual separators out of a number (RFC 3966 §3).
fn canonical(number: &str) -> String {
    let digits = |text: &str| text.chars().any(|c| c.is_ascii_digit());
    if !digits(number) {
        return number.to_owned();
    }
    number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ')).collect()
}
