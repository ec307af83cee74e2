//! Topic `login`: how a client application signs in and out. The server serves it itself; whether a password or a key is right is
//! asked of the host.

use super::declare::bodies;
use super::operation::operations;
use crate::permission::Pattern;
use crate::text::{DeviceId, Line, Secret, UserName};

operations! { "login";
    /// Signs in, with user and password or with an API key; over the host's own socket with neither.
    "login" Login(Login) -> Granted, Own, Own;
    /// Exchanges the token for a new one; the old one is good for a few seconds more.
    "refresh" Refresh(Nothing) -> Granted, Own, Own;
    /// Signs out; the login's subscriptions end with it.
    "logout" Logout(Nothing) -> Nothing, Own, Own;
    /// Lists the logins of a user, or of all.
    "list" List(List) -> Logins, Own, Own;
    /// Ends another login.
    "revoke" Revoke(Revoke) -> Nothing, Own, Own;
}

bodies! {
    /// Nothing: a request or a reply without fields.
    Nothing {
    }
    /// Reply of `login` and `refresh`.
    Granted {
        /// The login's number.
        login: u64,
        /// Shows whose requests they are: `Authorization: Bearer`.
        token: String,
        /// How long the token is good, in seconds.
        expires_in: u64,
        /// How long the login lives without a request or a waiting one, in seconds.
        idle_limit: u64,
        /// Who signed in.
        user: UserName,
        /// What they may do: the version of their rights, for a client's own record.
        rights_version: u64,
    }
    /// Request of `list`.
    List {
        /// Whose; absent: the caller's.
        user: Option<UserName> = default,
        /// Everybody's.
        all: bool = default,
    }
    /// Request of `revoke`.
    Revoke {
        /// The login's number.
        login: u64,
    }
    /// Reply of `list`.
    Logins {
        /// The logins.
        logins: Vec<Listed>,
    }
    /// A login, as others see it.
    Listed {
        /// Its number.
        login: u64,
        /// Whose it is.
        user: UserName,
        /// The application, as it calls itself.
        application: Option<Line> = default,
        /// The device it runs on.
        device: Option<DeviceId> = default,
        /// What its API key is for.
        scopes: Vec<Pattern> = default,
        /// When it began, in milliseconds since 1970, UTC.
        since: u64,
        /// How long ago it asked for something, in milliseconds.
        idle: u64,
        /// What the caller may do with it: `revoke`.
        actions: Vec<String> = default,
    }
}

/// Request of `login`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Login {
    /// The user.
    pub user: Option<UserName>,
    /// Their password.
    pub password: Option<Secret>,
    /// An API key, instead of user and password.
    pub key: Option<Secret>,
    /// The application, as it calls itself.
    pub application: Option<Line>,
    /// The device it runs on.
    pub device: Option<DeviceId>,
}
