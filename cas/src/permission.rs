//! Rights: who may do what, with whose objects. [`decide`] is the only place that says yes, and it says so before any state is touched
//! (S15). It knows no logins and no calls: who owns an object is told to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::login::LoginId;
use crate::text::{DeviceId, Line, UserName};

/// Most exceptions of a user, and of a device. A change that would go past it is refused.
pub const MAX_EXCEPTIONS: usize = 256;

/// What every login needs to live, whatever it is for: neither the scopes of a key nor the role of an application take it away from
/// what is the login's own. An exception can.
const VITAL: [(&str, &str); 10] = [
    ("login", "login"),
    ("login", "refresh"),
    ("login", "logout"),
    ("permission", "get"),
    ("event", "get-event"),
    ("bulk", "bulk"),
    ("subscription", "add"),
    ("subscription", "modify"),
    ("subscription", "delete"),
    ("subscription", "list"),
];

/// How far a right reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Nowhere.
    #[serde(alias = "deny")]
    None,
    /// To the caller's own objects.
    Own,
    /// To everybody's.
    All,
}

/// What somebody is, and so what they may do where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A person: what each operation grants to users.
    #[default]
    User,
    /// Everything, with everybody's objects.
    Administrator,
    /// An application or a plug-in: its exceptions, and what every login needs to live.
    Application,
}

crate::text::text!(
    /// Which rights are meant: `topic.message`, `topic.*` or `*`.
    Pattern, 130, is_pattern, r"^(\*|[A-Za-z0-9._-]+\.(\*|[A-Za-z0-9_-]+))$", "characters: topic.message, topic.* or *"
);

fn is_pattern(text: &str) -> bool {
    let is_topic = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_message = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_right = |(topic, message): (&str, &str)| {
        !topic.is_empty() && topic.chars().all(is_topic) && (message == "*" || (!message.is_empty() && message.chars().all(is_message)))
    };
    text == "*" || text.rsplit_once('.').is_some_and(is_right)
}

impl Pattern {
    /// Returns whether a right is meant. Topics are compared whole: `tel.*` does not mean the topic `tel.cloud` (S15).
    #[must_use]
    pub fn means(&self, topic: &str, message: &str) -> bool {
        match self.as_str() {
            "*" => true,
            text => text.strip_prefix(topic).and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| rest == "*" || rest == message),
        }
    }

    /// Returns how narrow the pattern is; the narrowest that fits decides.
    fn narrowness(&self) -> u8 {
        match self.as_str() {
            "*" => 0,
            text if text.ends_with(".*") => 1,
            _ => 2,
        }
    }
}

/// Reach by pattern.
pub type Exceptions = BTreeMap<Pattern, Reach>;

/// What a user may do. It is shared by their logins and replaced as a whole when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rights {
    /// What they are.
    #[serde(default)]
    pub role: Role,
    /// What they may do more, or less, than their role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exceptions: Exceptions,
    /// What they may do less from a device.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<DeviceId, Exceptions>,
    /// How many days back they see their history; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_days: Option<u16>,
    /// Counts the changes, so that a client knows whether its record is of today.
    #[serde(default)]
    pub version: u64,
}

impl Rights {
    /// Returns the rights of a role, without exceptions.
    #[must_use]
    pub fn of(role: Role) -> Self {
        Self { role, ..Self::default() }
    }
}

/// Who asks. It is shared by everything that the login asks for.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Their login.
    pub login: LoginId,
    /// Their name.
    pub user: UserName,
    /// The application that they use, as it calls itself.
    pub application: Option<Line>,
    /// The device that the application runs on.
    pub device: Option<DeviceId>,
    /// What they may do.
    pub rights: Arc<Rights>,
    /// What the API key is for; none: everything that the rights allow. What every login needs to live is not cut.
    pub scopes: Option<Arc<[Pattern]>>,
}

/// A right: an operation, and how far a user has it where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a> {
    /// The topic of the operation.
    pub topic: &'a str,
    /// The message of the operation.
    pub message: &'a str,
    /// Its reach for a user.
    pub user: Reach,
}

/// Whose an object is.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// No object is at hand yet: the service as a whole is meant.
    Service,
    /// One user's.
    User(&'a UserName),
    /// Several users'; a call is its parties'.
    Users(&'a [UserName]),
}

impl Caller {
    /// Returns how far the caller has a right.
    #[must_use]
    pub fn reach(&self, right: Right<'_>) -> Reach {
        let narrowest = |exceptions: &Exceptions| {
            if exceptions.is_empty() {
                return None;
            }
            let fitting = exceptions.iter().filter(|(pattern, _)| pattern.means(right.topic, right.message));
            fitting.max_by_key(|(pattern, _)| pattern.narrowness()).map(|(_, reach)| *reach)
        };
        let base = match self.rights.role {
            Role::User => right.user,
            Role::Administrator => Reach::All,
            Role::Application => vital(right),
        };
        let base = narrowest(&self.rights.exceptions).unwrap_or(base);
        let of_device = self.device.as_ref().and_then(|device| self.rights.devices.get(device)).and_then(narrowest);
        let in_scope = self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope.means(right.topic, right.message)));
        let scoped = if in_scope { Reach::All } else { vital(right) };
        base.min(of_device.unwrap_or(Reach::All)).min(scoped)
    }
}

/// Returns how far every login has a right.
fn vital(right: Right<'_>) -> Reach {
    if VITAL.contains(&(right.topic, right.message)) { Reach::Own } else { Reach::None }
}

impl Owner<'_> {
    fn is(self, caller: &Caller) -> bool {
        match self {
            Self::Service => true,
            Self::User(user) => *user == caller.user,
            Self::Users(users) => users.contains(&caller.user),
        }
    }
}

/// Returns whether the caller may do it with the owner's object; [`decide`] says why not.
pub(crate) fn permits(caller: &Caller, right: Right<'_>, owner: Owner<'_>) -> bool {
    match caller.reach(right) {
        Reach::All => true,
        Reach::Own => owner.is(caller),
        Reach::None => false,
    }
}

/// Decides whether the caller may do it with the owner's object.
///
/// # Errors
///
/// `missing-right`, naming the right.
pub fn decide(caller: &Caller, right: Right<'_>, owner: Owner<'_>) -> Result<(), Error> {
    if permits(caller, right, owner) {
        return Ok(());
    }
    let name = format!("{}.{}", right.topic, right.message);
    let missing = Error::missing_right(&name);
    if caller.reach(right) == Reach::None {
        return Err(missing);
    }
    let detail = format!("the right {name} reaches to own objects only here; this one is another's").into();
    Err(Error { detail, ..missing })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn caller(user: &str, rights: Rights) -> Caller {
        Caller {
            login: LoginId(1),
            user: UserName::parse(user).unwrap(),
            application: None,
            device: None,
            rights: Arc::new(rights),
            scopes: None,
        }
    }

    const DELETE: Right<'_> = Right { topic: "history", message: "delete", user: Reach::Own };

    fn except(rules: &[(&str, Reach)]) -> Exceptions {
        rules.iter().map(|(pattern, reach)| (Pattern::parse(pattern).unwrap(), *reach)).collect()
    }

    #[test]
    fn a_user_has_what_the_operation_grants_and_an_administrator_everything() {
        let (ann, bob) = (UserName::parse("ann").unwrap(), UserName::parse("bob").unwrap());
        let user = caller("ann", Rights::of(Role::User));
        assert!(decide(&user, DELETE, Owner::User(&ann)).is_ok());
        assert_eq!(decide(&user, DELETE, Owner::User(&bob)).unwrap_err().right.as_deref(), Some("history.delete"));
        assert!(decide(&user, DELETE, Owner::Users(&[bob.clone(), ann])).is_ok());
        assert!(decide(&caller("root", Rights::of(Role::Administrator)), DELETE, Owner::User(&bob)).is_ok());
        assert!(decide(&caller("crm", Rights::of(Role::Application)), DELETE, Owner::Service).is_err());
    }

    #[test]
    fn the_narrowest_exception_decides() {
        let rules = [("*", Reach::All), ("history.*", Reach::None), ("history.delete", Reach::Own)];
        for (count, expected) in [(0, Reach::Own), (1, Reach::All), (2, Reach::None), (3, Reach::Own)] {
            let rights = Rights { exceptions: except(&rules[..count]), ..Rights::default() };
            assert_eq!(caller("ann", rights).reach(DELETE), expected, "{count} rules");
        }
    }

    #[test]
    fn a_device_only_takes_away() {
        let device = DeviceId::parse("lobby").unwrap();
        for (reach, expected) in [(Reach::None, Reach::None), (Reach::Own, Reach::Own), (Reach::All, Reach::Own)] {
            let devices = [(device.clone(), except(&[("history.*", reach)]))].into();
            let caller = Caller { device: Some(device.clone()), ..caller("ann", Rights { devices, ..Rights::default() }) };
            assert_eq!(caller.reach(DELETE), expected);
        }
    }

    #[test]
    fn a_scope_means_whole_topics() {
        // S15
        let pattern = |text| Pattern::parse(text).unwrap();
        assert!(pattern("tel.*").means("tel", "hold") && pattern("tel.hold").means("tel", "hold") && pattern("*").means("a", "b"));
        assert!(!pattern("tel.*").means("tel.cloud", "dial") && !pattern("t.*").means("tel", "hold"));
        for text in ["te*", "tel", "tel.", ".hold", "*.hold", "tel.*.x", ""] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        let scoped = Caller { scopes: Some([pattern("tel.*")].into()), ..caller("root", Rights::of(Role::Administrator)) };
        assert_eq!(scoped.reach(DELETE), Reach::None);
        assert_eq!(scoped.reach(Right { topic: "tel", message: "hold", user: Reach::Own }), Reach::All);
    }

    #[test]
    fn what_a_login_needs_to_live_is_cut_by_no_scope_and_by_no_role() {
        let scopes = || Some([Pattern::parse("tel.*").unwrap()].into());
        let keys = [Role::User, Role::Administrator, Role::Application];
        for role in keys {
            let key = Caller { scopes: scopes(), ..caller("ann", Rights::of(role)) };
            for (topic, message) in VITAL {
                assert_eq!(key.reach(Right { topic, message, user: Reach::Own }), Reach::Own, "{topic}.{message}");
            }
        }
        let denied = Rights { exceptions: except(&[("subscription.*", Reach::None)]), ..Rights::default() };
        let key = Caller { scopes: scopes(), ..caller("ann", denied) };
        assert_eq!(key.reach(Right { topic: "subscription", message: "add", user: Reach::Own }), Reach::None);
    }
}
