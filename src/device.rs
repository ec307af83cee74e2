//! Devices: the phones and apps of a user. A device has no record of its own; it is known by its binding, and named after what stays the
//! same when it registers again.

use std::fmt;

use sha2::{Digest as _, Sha256};
use sip::registrar::Binding;

/// Names a device of a user, the same for each of its registrations: letters and digits.
///
/// It is made of `+sip.instance` (RFC 5626 §4.1), or of the contact's URI without parameters where the device has none: such a device
/// gets another name when it changes its address or port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Box<str>);

impl Id {
    /// Names the device of a binding.
    #[must_use]
    pub fn of(binding: &Binding) -> Self {
        let mut digest = Sha256::new();
        if binding.instance.is_empty() {
            let contact = &binding.contact;
            digest.update(contact.user().as_bytes());
            digest.update(b"@");
            digest.update(contact.host().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase());
            digest.update(contact.port().unwrap_or_default().to_be_bytes());
        } else {
            digest.update(binding.instance.as_bytes().to_ascii_lowercase());
        }
        let name = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>();
        Self(name.into())
    }

    /// Takes a name that a client or the store has.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
