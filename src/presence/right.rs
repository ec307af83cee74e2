//! Who may see how much of whom over SIP: the rights are those of CAS, decided for each document at the moment when it is written.

use std::sync::Arc;

use cas::login::LoginId;
use cas::permission::{Caller, Reach, Right};
use cas::text::UserName;

use super::dialog_info::Sight;
use crate::user::User;

const PRESENCE: Right<'static> = Right { topic: "presence", message: "get", user: Reach::All };
const SHOW: Right<'static> = Right { topic: "tel", message: "show", user: Reach::Own };
const PICKUP: Right<'static> = Right { topic: "tel", message: "pickup", user: Reach::Own };

/// Returns how much of a user another may see; none if nothing. Users see each other's presence and that they are on a call; with whom,
/// and what it takes to pick the call up, only who has those rights with everybody's calls. Their own calls they see whole.
#[must_use]
pub fn sight(watcher: &User, user: &User) -> Option<Sight> {
    let caller = Caller {
        login: LoginId(0),
        user: UserName::parse(&watcher.name).ok()?,
        application: None,
        device: None,
        rights: Arc::clone(&watcher.rights),
        scopes: None,
    };
    match caller.reach(PRESENCE) {
        Reach::Own | Reach::All if watcher.name == user.name => Some(Sight::Whole),
        Reach::None | Reach::Own => None,
        Reach::All if caller.reach(PICKUP) == Reach::All => Some(Sight::Ringing),
        Reach::All if caller.reach(SHOW) == Reach::All => Some(Sight::Parties),
        Reach::All => Some(Sight::State),
    }
}

#[cfg(test)]
mod tests {
    use cas::permission::{Exceptions, Pattern, Rights};
    use sip::digest::Ha1;

    use super::*;
    use crate::config::Srtp;
    use crate::user::Managed;

    fn user(name: &str, rules: &[(&str, Reach)]) -> User {
        let exceptions: Exceptions = rules.iter().map(|(pattern, reach)| (Pattern::parse(pattern).unwrap(), *reach)).collect();
        User {
            name: name.into(),
            ha1: Ha1::new(name, "h", "secret"),
            srtp: Srtp::Off,
            shown: None,
            numbers: Vec::new(),
            managed: Managed::File,
            rights: Arc::new(Rights { exceptions, ..Rights::default() }),
        }
    }

    #[test]
    fn rights_decide_what_is_seen() {
        // S5, S15
        let ann = user("ann", &[]);
        assert_eq!(sight(&ann, &ann), Some(Sight::Whole));
        for (rules, seen) in [
            (&[][..], Some(Sight::State)),
            (&[("tel.show", Reach::All)], Some(Sight::Parties)),
            (&[("tel.*", Reach::All)], Some(Sight::Ringing)),
            (&[("presence.get", Reach::Own)], None),
            (&[("presence.get", Reach::Own), ("tel.*", Reach::All)], None),
            (&[("*", Reach::None)], None),
        ] {
            assert_eq!(sight(&user("bob", rules), &ann), seen, "{rules:?}");
        }
        let nobody = user("bob", &[("presence.*", Reach::None)]);
        assert_eq!(sight(&nobody, &nobody), None);
    }
}
