//! A thin client as a device of its user: the binding by which it rings (RFC 3261 §10).

use std::time::Duration;

use sip::message::Host;
use sip::registrar::{Binding, Q, Received};
use sip::{DialogId, UnixTime, Uri};

use crate::{device, inside};

/// Longer than any login.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// An application that is a device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Whose it is.
    pub user: Box<str>,
    pub(super) binding: Binding,
    /// Whether it is to ring.
    pub is_registered: bool,
    /// The application has gone without a word: it does not ring until it is back.
    pub is_away: bool,
    /// Of two words about that, the one with the higher turn counts.
    pub(super) turn: u64,
    /// Its calls, at most [`MAX_CALLS`](super::MAX_CALLS).
    pub(super) sessions: Vec<DialogId>,
}

impl Device {
    pub(super) fn new(login: u64, user: &str, name: Option<&str>, agent: &str) -> Self {
        let contact = Uri::sip(&format!("login{login}"), &Host::Name("thin.invalid".into()), None, ";transport=ws");
        let cut = (0..=Binding::MAX_USER_AGENT).rev().find(|at| agent.is_char_boundary(*at)).unwrap_or_default();
        let instance = match name {
            Some(name) => format!("urn:tandem:thin:{user}:{name}"),
            None => format!("urn:tandem:thin:{user}:login {login}"),
        };
        let binding = Binding {
            contact: contact.expect("every part of it is written here"),
            q: Q::MAX,
            expires_at: UnixTime(0),
            granted: LIFE,
            call_id: "thin".into(),
            cseq: 1,
            path: "".into(),
            instance: instance.into(),
            reg_id: None,
            user_agent: agent.get(..cut).unwrap_or_default().into(),
            received: Received::from(&inside::flow(login)),
            behind_nat: false,
        };
        Self { user: user.into(), binding, is_registered: false, is_away: false, turn: 0, sessions: Vec::new() }
    }

    /// Returns the binding by which it rings from now on. It has no end of its own: the login's end takes it away.
    #[must_use]
    pub fn binding(&self, now: UnixTime) -> Binding {
        Binding { expires_at: now.plus(LIFE), ..self.binding.clone() }
    }

    /// Returns its name.
    #[must_use]
    pub fn id(&self) -> device::Id {
        device::Id::of(&self.binding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_with_a_name_is_the_same_by_each_login_and_one_without_is_not() {
        let id = |login, name| Device::new(login, "ann", name, "page").id();
        assert_eq!(id(1, Some("page")), id(2, Some("page")));
        assert_ne!(id(1, Some("page")), id(1, Some("other")));
        assert_ne!(id(1, None), id(2, None));
        let agent = Device::new(1, "ann", None, &"ä".repeat(40)).binding.user_agent;
        assert_eq!(agent.len(), Binding::MAX_USER_AGENT);
    }
}
