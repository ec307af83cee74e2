//! Topic `admin`: users, devices, numbers and API keys, for administrators and the command line.

use serde_json::Value;

use super::declare::{bodies, words};
use super::login::Nothing;
use super::operation::operations;
use super::permission::check_right;
use super::{Done, Effect, Seen, reply, write_body};
use crate::error::{Error, Fault};
use crate::permission::{Caller, MAX_EXCEPTIONS, Owner, Pattern, Reach, Right, decide};
use crate::provider::Admin;
use crate::text::{Destination, DeviceId, Line, Secret, UserName};

/// Most users, devices, numbers or keys in one reply; further ones are on the next page.
pub const MAX_PAGE: usize = 500;

operations! { "admin";
    /// Lists users.
    "list-users" ListUsers(Page) -> Users, Quick, None;
    /// Adds a user.
    "add-user" AddUser(AddUser) -> User, Quick, None;
    /// Changes a user's password, which ends their logins, or name to show.
    "set-user" SetUser(SetUser) -> User, Quick, None;
    /// Removes a user, with their devices, numbers and history; their logins and calls end.
    "remove-user" RemoveUser(RemoveUser) -> Nothing, Quick, None;
    /// Lists the devices of a user, or of all.
    "list-devices" ListDevices(ListDevices) -> Devices, Quick, Own;
    /// Removes a device; it must register again.
    "remove-device" RemoveDevice(RemoveDevice) -> Nothing, Quick, Own;
    /// Lists numbers and whose they are.
    "list-numbers" ListNumbers(Page) -> Numbers, Quick, None;
    /// Gives a number to a user.
    "add-number" AddNumber(AddNumber) -> Number, Quick, None;
    /// Takes a number away.
    "remove-number" RemoveNumber(RemoveNumber) -> Nothing, Quick, None;
    /// Lists API keys, without their secrets.
    "list-keys" ListKeys(Page) -> Keys, Quick, None;
    /// Makes an API key; only this reply has its secret.
    "add-key" AddKey(AddKey) -> NewKey, Quick, None;
    /// Removes an API key; its logins end.
    "remove-key" RemoveKey(RemoveKey) -> Nothing, Quick, None;
    /// Tells how the switch is.
    "status" Status(Nothing) -> SwitchStatus, Quick, None;
    /// Takes no new calls; the switch ends when the last call has, or at a deadline.
    "drain" Drain(Drain) -> SwitchStatus, Quick, None;
}

/// Whose the switch's own records are: only a right that reaches to all does.
const NOBODY: Owner<'static> = Owner::Users(&[]);

/// The right to see events of this topic.
pub(crate) const EVENTS: Right<'static> = Right { topic: "admin", message: "status", user: Reach::None };

words! {
    /// What may be done with a record.
    Action {
        /// Change the user.
        SetUser = "set-user",
        /// Remove the user.
        RemoveUser = "remove-user",
        /// Remove the device.
        RemoveDevice = "remove-device",
        /// Take the number away.
        RemoveNumber = "remove-number",
        /// Remove the key.
        RemoveKey = "remove-key",
    }
    /// Who owns a record.
    Managed {
        /// The configuration file; it cannot be changed here.
        File = "file",
        /// The store.
        Store = "store",
    }
}

bodies! {
    /// Request of the lists.
    Page {
        /// The last name, number or key of the page before.
        after: Option<Line> = default,
    }
    /// Reply of `list-users`.
    Users {
        /// The users.
        users: Vec<User>,
        /// Whether there are more.
        more: bool = default,
    }
    /// A user.
    User {
        /// Their name.
        user: UserName,
        /// The name to show.
        name: Option<Line> = default,
        /// Their numbers.
        numbers: Vec<Destination> = default,
        /// Who owns the record.
        managed: Managed,
        /// What the caller may do with it; the server fills this in.
        actions: Vec<Action> = default,
    }
    /// Request of `remove-user`.
    RemoveUser {
        /// The user.
        user: UserName,
    }
    /// Request of `list-devices`.
    ListDevices {
        /// Whose; absent: the caller's.
        user: Option<UserName> = default,
        /// Everybody's.
        all: bool = default,
        /// The last device of the page before.
        after: Option<DeviceId> = default,
    }
    /// Reply of `list-devices`.
    Devices {
        /// The devices.
        devices: Vec<Device>,
        /// Whether there are more.
        more: bool = default,
    }
    /// A device.
    Device {
        /// The device.
        device: DeviceId,
        /// Whose it is.
        user: UserName,
        /// What it calls itself.
        agent: Option<String> = default,
        /// How it is connected.
        transport: Option<String> = default,
        /// When its registration ends, in milliseconds since 1970, UTC; absent: it is not registered.
        expires_at: Option<u64> = default,
        /// Whether a push can wake it.
        wakeable: bool = default,
        /// What the caller may do with it; the server fills this in.
        actions: Vec<Action> = default,
    }
    /// Request of `remove-device`.
    RemoveDevice {
        /// The device.
        device: DeviceId,
        /// Whose; absent: the caller's.
        user: Option<UserName> = default,
    }
    /// Reply of `list-numbers`.
    Numbers {
        /// The numbers.
        numbers: Vec<Number>,
        /// Whether there are more.
        more: bool = default,
    }
    /// A number.
    Number {
        /// The number.
        number: Destination,
        /// Whose it is.
        user: UserName,
        /// Who owns the record.
        managed: Managed,
        /// What the caller may do with it; the server fills this in.
        actions: Vec<Action> = default,
    }
    /// Request of `add-number`.
    AddNumber {
        /// The number.
        number: Destination,
        /// Whose it becomes.
        user: UserName,
    }
    /// Request of `remove-number`.
    RemoveNumber {
        /// The number.
        number: Destination,
    }
    /// Reply of `list-keys`.
    Keys {
        /// The keys.
        keys: Vec<Key>,
        /// Whether there are more.
        more: bool = default,
    }
    /// An API key.
    Key {
        /// What it is called.
        key: Line,
        /// As whom it signs in.
        user: UserName,
        /// What it is for.
        scopes: Vec<Pattern>,
        /// What the caller may do with it; the server fills this in.
        actions: Vec<Action> = default,
    }
    /// Request of `add-key`.
    AddKey {
        /// What it is called.
        key: Line,
        /// As whom it signs in.
        user: UserName,
        /// What it is for: rights, at least one.
        scopes: Vec<Pattern>,
    }
    /// Reply of `add-key`.
    NewKey {
        /// The key.
        key: Key,
        /// What shows it; it is told once.
        secret: String,
    }
    /// Request of `remove-key`.
    RemoveKey {
        /// What it is called.
        key: Line,
    }
    /// Request of `drain`.
    Drain {
        /// When calls that still last are ended, in seconds from now; absent: never.
        deadline: Option<u32> = default,
        /// The switch goes on without calls instead of ending.
        stay: bool = default,
        /// Takes new calls again, instead.
        cancel: bool = default,
    }
    /// Reply of `status` and `drain`.
    SwitchStatus {
        /// Version of the switch.
        version: String,
        /// How long it has run, in milliseconds.
        uptime: u64,
        /// Users.
        users: u64,
        /// Registered devices.
        devices: u64,
        /// Calls in progress.
        calls: u64,
        /// Whether it takes new calls.
        draining: bool,
        /// What an administrator should mend, in sentences: names and numbers of the store that the configuration file uses otherwise.
        warnings: Vec<String> = default,
    }
}

/// Request of `add-user`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddUser {
    /// Their name.
    pub user: UserName,
    /// Their password.
    pub password: Secret,
    /// The name to show.
    pub name: Option<Line>,
    /// Their numbers.
    #[serde(default)]
    pub numbers: Vec<Destination>,
}

/// Request of `set-user`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetUser {
    /// The user.
    pub user: UserName,
    /// A new password.
    pub password: Option<Secret>,
    /// A new name to show.
    pub name: Option<Line>,
}

/// Serves a request.
pub(crate) async fn serve<A: Admin>(admin: &A, caller: &Caller, request: Request) -> Result<Done, Error> {
    let owner = owner(&request, caller);
    decide(caller, request.right(), owner.as_ref().map_or(NOBODY, Owner::User))?;
    match request {
        Request::ListUsers(page) => {
            let list = admin.users(page.after).await?;
            reply(&Users { users: list.users.into_iter().map(|user| seen(caller, user)).collect(), more: list.more })
        }
        Request::AddUser(request) => reply(&seen(caller, admin.add_user(*request).await?)),
        Request::SetUser(request) => {
            let (user, is_secret) = (request.user.clone(), request.password.is_some());
            let done = reply(&seen(caller, admin.set_user(*request).await?))?;
            let ends = Effect::EndLogins { user, why: "the user has another password" };
            Ok(if is_secret { Done { effects: vec![ends], ..done } } else { done })
        }
        Request::RemoveUser(request) => {
            admin.remove_user(&request.user).await?;
            Ok(Done { effects: vec![Effect::EndLogins { user: request.user, why: "the user was removed" }], ..reply(&Nothing {})? })
        }
        Request::ListDevices(request) => {
            let mut list = admin.devices(owner.as_ref(), request.after).await?;
            list.devices.iter_mut().for_each(|device| device.actions = allowed(caller, &[Action::RemoveDevice], Owner::User(&device.user)));
            reply(&list)
        }
        Request::RemoveDevice(request) => {
            admin.remove_device(owner.as_ref().unwrap_or(&caller.user), &request.device).await?;
            reply(&Nothing {})
        }
        Request::ListNumbers(page) => {
            let mut list = admin.numbers(page.after).await?;
            let stored = list.numbers.iter_mut().filter(|number| number.managed == Managed::Store);
            stored.for_each(|number| number.actions = allowed(caller, &[Action::RemoveNumber], NOBODY));
            reply(&list)
        }
        Request::AddNumber(request) => reply(&admin.add_number(*request).await?),
        Request::RemoveNumber(request) => {
            admin.remove_number(&request.number).await?;
            reply(&Nothing {})
        }
        Request::ListKeys(page) => {
            let mut list = admin.keys(page.after).await?;
            list.keys.iter_mut().for_each(|key| key.actions = allowed(caller, &[Action::RemoveKey], NOBODY));
            reply(&list)
        }
        Request::AddKey(request) if request.scopes.is_empty() || request.scopes.len() > MAX_EXCEPTIONS => {
            Err(Error::field("scopes", format!("field scopes: expected 1 to {MAX_EXCEPTIONS} rights")))
        }
        Request::AddKey(request) => {
            let mut scopes = request.scopes.iter().enumerate();
            scopes.try_for_each(|(position, scope)| check_right(scope, &format!("scopes[{position}]")))?;
            reply(&admin.add_key(*request).await?)
        }
        Request::RemoveKey(request) => {
            admin.remove_key(&request.key).await?;
            Ok(Done { effects: vec![Effect::EndLoginsOfKey { key: request.key }], ..reply(&Nothing {})? })
        }
        Request::Status(_) => reply(&admin.status().await?),
        Request::Drain(request) => reply(&admin.drain(*request).await?),
    }
}

/// Returns whose record a request is about; none where it is the switch's.
fn owner(request: &Request, caller: &Caller) -> Option<UserName> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other record is the switch's: only a right that reaches to all will do")]
    match request {
        Request::SetUser(request) => Some(request.user.clone()),
        Request::ListDevices(request) => request.user.clone().or((!request.all).then(|| caller.user.clone())),
        Request::RemoveDevice(request) => Some(request.user.as_ref().unwrap_or(&caller.user).clone()),
        _ => None,
    }
}

/// Tells what the caller may do with a user's record; the file's records are changed in the file.
fn seen(caller: &Caller, mut user: User) -> User {
    if user.managed == Managed::Store {
        user.actions = allowed(caller, &[Action::SetUser], Owner::User(&user.user));
        user.actions.extend(allowed(caller, &[Action::RemoveUser], NOBODY));
    }
    user
}

fn allowed(caller: &Caller, actions: &[Action], owner: Owner<'_>) -> Vec<Action> {
    let may = |action: &&Action| {
        let operation = OPERATIONS.iter().find(|operation| operation.message == action.name());
        operation.is_some_and(|operation| decide(caller, operation.right(), owner).is_ok())
    };
    actions.iter().filter(may).copied().collect()
}

/// Refuses a change of a record that the configuration file owns.
#[must_use]
pub fn managed_by_file(what: &str) -> Error {
    Error::new(Fault::Conflict, format!("{what} is managed by the configuration file; change it there"))
}

/// An event for administrators.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What happened, such as `login-abandoned`.
    pub message: &'static str,
    /// What is known of it.
    pub body: Value,
}

impl Seen for Notice {
    fn message(&self, _: u64) -> &str {
        self.message
    }

    fn view(&self, _: &Caller) -> u64 {
        0
    }

    fn write(&self, _: u64, out: &mut Vec<u8>) {
        write_body(&self.body, out);
    }
}
