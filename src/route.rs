//! Where what is dialled leads: one answer to the Request-URI of phones and trunks, to the target of a transfer, and to what a client application
//! typed (RFC 3261 §16.5 and §19.1, RFC 3966). It is a look-up without I/O. It knows neither who asks, nor what they may, nor any device.

use sip::message::header::params::Params;
use sip::message::uri::unescape;
use sip::message::{Host, Scheme};
use sip::{Listeners, Uri};

use crate::config::Feature;
use crate::user::{User, Users, canonical};

/// What this switch is called, and whom it serves.
#[derive(Clone, Copy)]
pub struct Route<'a> {
    /// Our domain: realm, and host part of AORs.
    pub domain: &'a str,
    /// Our addresses.
    pub listeners: &'a Listeners,
    /// The people, the rooms and the feature codes.
    pub users: &'a Users,
}

/// What somebody who dials means.
#[derive(Clone)]
pub enum Meant<'a> {
    /// A user, by name or number.
    User(&'a User),
    /// A room, by its number.
    Room(&'a str),
    /// What a feature code stands for, with what follows the code.
    Feature(Feature),
    /// The switch itself: ours, and no user part.
    Switch,
    /// Somebody of another domain, or a number of another context.
    Elsewhere,
    /// Nobody: ours, and unknown.
    Nobody,
}

impl<'a> Route<'a> {
    /// Finds what a URI means. The user part counts with its escapes resolved (§19.1.4), a password, a port, and parameters that say how to
    /// get here do not: it came here.
    #[must_use]
    pub fn find(&self, uri: &Uri) -> Meant<'a> {
        self.part(uri).map_or_else(|other| other, |part| self.lead(&part))
    }

    /// Finds what a typed text means.
    #[must_use]
    pub fn typed(&self, text: &str) -> Meant<'a> {
        self.uri(text).map_or(Meant::Nobody, |uri| self.find(&uri))
    }

    /// Returns the URI of a typed text: itself if it is one, else that of `user@host`, or of a name or number of ours.
    #[must_use]
    pub fn uri(&self, text: &str) -> Option<Uri> {
        let is_scheme = |scheme: &str| ["sip", "sips", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        match (text.split_once(':'), text.split_once('@')) {
            (Some((scheme, _)), _) if is_scheme(scheme) => Uri::parse(&text.into()),
            (_, Some((user, _))) if user.contains(':') => None,
            (_, Some(_)) => Uri::parse(&format!("sip:{text}").into()),
            (_, None) => Uri::sip(text, &self.host()?, None, ""),
        }
    }

    /// Returns what was dialled as people write it, to be dialled again: a name or a number, or the address of somebody elsewhere.
    #[must_use]
    pub fn written(&self, uri: &Uri) -> String {
        self.part(uri).unwrap_or_else(|_| uri.aor().map_or_else(|| uri.to_string(), |aor| aor.to_string()))
    }

    /// Returns true for our domain, also as a name with its root's dot, and for our own addresses.
    #[must_use]
    pub fn is_ours(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(self.domain),
            Host::Ip(ip) => {
                let ip = ip.to_canonical();
                self.domain.parse() == Ok(ip) || self.listeners.0.iter().any(|(_, address)| address.ip().to_canonical() == ip)
            }
        }
    }

    fn host(&self) -> Option<Host> {
        self.domain.parse().map_or_else(|_| Host::parse(self.domain), |ip| Some(Host::Ip(ip)))
    }

    /// Returns the name or number that a URI has here, or what it means without one. With `user=phone` the user part is a number with
    /// parameters of its own (§19.1.6).
    fn part(&self, uri: &Uri) -> Result<String, Meant<'a>> {
        if uri.scheme() == Scheme::Other {
            return Err(Meant::Nobody);
        }
        if uri.host().is_some_and(|host| !self.is_ours(host)) {
            return Err(Meant::Elsewhere);
        }
        let is_number_in_sip = uri.host().is_some() && uri.param("user").is_some_and(|user| user.eq_ignore_ascii_case("phone"));
        let (number, params) = match uri.user().find(';').and_then(|at| uri.user().split_at_checked(at)).filter(|_| is_number_in_sip) {
            Some((number, params)) => (number, Params::parse(&params.into()).ok_or(Meant::Nobody)?),
            None if uri.host().is_none() => (uri.user(), uri.params()),
            None => (uri.user(), Params::default()),
        };
        if number.is_empty() {
            return Err(Meant::Switch);
        }
        // with control characters in it a name is well formed, and nobody's (S7)
        let number = unescape(number).ok_or(Meant::Nobody)?;
        match params.get("phone-context") {
            Some(context) if !number.starts_with('+') => self.in_context(number, &unescape(context).ok_or(Meant::Nobody)?),
            Some(_) | None => Ok(number),
        }
    }

    /// A local number is one of its context (RFC 3966 §5.1.5): ours alone is known as a domain; behind the beginning of a global number it
    /// is that number's rest.
    fn in_context(&self, number: String, context: &str) -> Result<String, Meant<'a>> {
        if context.starts_with('+') {
            return Ok(format!("{context}{number}"));
        }
        match Host::parse(context) {
            Some(host) if self.is_ours(&host) => Ok(number),
            Some(_) => Err(Meant::Elsewhere),
            None => Err(Meant::Nobody),
        }
    }

    /// What is written with visual separators is a user's name, or what it is without them (RFC 3966 §5.1.1).
    fn lead(&self, part: &str) -> Meant<'a> {
        let served = |part: &str| self.users.feature(part).map(Meant::Feature).or_else(|| self.users.room(part).map(Meant::Room));
        let user = || self.users.find(part).map(Meant::User);
        served(part).or_else(user).or_else(|| served(&canonical(part))).unwrap_or(Meant::Nobody)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sip::Transport;

    use super::*;
    use crate::config::Config;

    const HOUSE: &str = "domain = \"tandem.test\"\n\
        [[user]]\nname = \"bob\"\npassword = \"b\"\nnumbers = [\"502\", \"+4930502\", \"#31\"]\n\
        [[user]]\nname = \"o'neil-x.2\"\npassword = \"o\"\n[[user]]\nname = \"8-01\"\npassword = \"e\"\n\
        [[room]]\nnumber = \"800\"\n[[room]]\nnumber = \"801\"\n";

    fn in_words(meant: &Meant<'_>) -> String {
        match meant {
            Meant::User(user) => user.name.to_string(),
            Meant::Room(number) => format!("room {number}"),
            Meant::Feature(feature) => format!("{feature:?}"),
            Meant::Switch => "the switch".to_owned(),
            Meant::Elsewhere => "elsewhere".to_owned(),
            Meant::Nobody => "nobody".to_owned(),
        }
    }

    fn ask<T>(domain: &str, asked: impl FnOnce(Route<'_>) -> T) -> T {
        let config = Config::parse(Path::new("t.toml"), &HOUSE.replace("tandem.test", domain)).unwrap_or_else(|e| panic!("{e}"));
        let listeners =
            Listeners(["192.0.2.1:5060", "[2001:db8::1]:5061"].map(|address| (Transport::Udp, address.parse().unwrap())).into());
        asked(Route { domain: config.domain.as_str(), listeners: &listeners, users: &Users::new(&config) })
    }

    /// A URI, and what it means.
    const URIS: &[(&str, &str)] = &[
        // §19.1.1: whose it is
        ("sip:bob@tandem.test", "bob"),
        ("SIPS:bob@TANDEM.Test", "bob"),
        ("sip:bob@tandem.test.", "bob"),
        ("sip:bob@tandem.test:5060", "bob"),
        ("sip:bob@192.0.2.1", "bob"),
        ("sip:bob@192.0.2.1:5070;transport=tcp?Subject=x", "bob"),
        ("sip:bob@[2001:DB8::1]", "bob"),
        ("sip:bob@[::ffff:192.0.2.1]", "bob"),
        ("sip:bob:secret@tandem.test", "bob"),
        ("sip:bob@192.0.2.2", "elsewhere"),
        ("sip:bob@tandem.test.example", "elsewhere"),
        ("sip:bob@sub.tandem.test", "elsewhere"),
        ("sip:bob", "elsewhere"),
        ("sip:tandem.test", "the switch"),
        ("sips:192.0.2.1:5061", "the switch"),
        // §19.1.2, §19.1.4: escapes are what they stand for, case counts
        ("sip:%62ob@tandem.test", "bob"),
        ("sip:o%27neil%2dx%2E2@tandem.test", "o'neil-x.2"),
        ("sip:Bob@tandem.test", "nobody"),
        ("sip:%2562ob@tandem.test", "nobody"),
        ("sip:bob%00@tandem.test", "nobody"), // S7
        ("sip:bob%0d%0aVia:x@tandem.test", "nobody"),
        ("sip:bob%ff@tandem.test", "nobody"),
        ("sip:bob;x=y@tandem.test", "nobody"),
        // RFC 3966: numbers
        ("sip:502@tandem.test", "bob"),
        ("sip:5-0.2@tandem.test", "bob"),
        ("tel:502", "bob"),
        ("TEL:5(0)2", "bob"),
        ("tel:+49-30-502", "bob"),
        ("tel:502;phone-context=tandem.test", "bob"),
        ("tel:502;Phone-Context=TANDEM.test", "bob"),
        ("tel:502;isub=1;phone-context=%74andem.test", "bob"),
        ("tel:502;phone-context=example.com", "elsewhere"),
        ("tel:502;phone-context=+49-30", "bob"),
        ("tel:502;phone-context=+4940", "nobody"),
        ("tel:502;phone-context=-", "nobody"),
        ("tel:+4930502;phone-context=example.com", "bob"),
        ("tel:%23", "no URI"),
        ("tel:#31", "bob"),
        // §19.1.6
        ("sip:502@tandem.test;user=phone", "bob"),
        ("sip:bob@tandem.test;user=phone", "bob"),
        ("sip:+49-30-502;isub=1@tandem.test;user=PHONE", "bob"),
        ("sip:502;phone-context=+4930@tandem.test;user=phone", "bob"),
        ("sip:502;phone-context=tandem.test@192.0.2.1;user=phone", "bob"),
        ("sip:502;phone-context=example.com@tandem.test;user=phone", "elsewhere"),
        ("sip:502;phone-context=tandem.test@example.com;user=phone", "elsewhere"),
        ("sip:;phone-context=+4930@tandem.test;user=phone", "the switch"),
        ("sip:502@tandem.test;phone-context=example.com", "bob"),
        // rooms and feature codes
        ("sip:800@192.0.2.1:5060", "room 800"),
        ("tel:8-00;phone-context=tandem.test", "room 800"),
        ("sip:8-01@tandem.test", "8-01"),
        ("sip:801@tandem.test", "room 801"),
        ("sip:800@example.com", "elsewhere"),
        ("sip:*705@tandem.test", "Park(Some(5))"),
        ("sip:%2A70@192.0.2.1", "Park(None)"),
        ("tel:*70-5;phone-context=tandem.test", "Park(Some(5))"),
        ("tel:*70;phone-context=example.com", "elsewhere"),
        ("sip:**5-02@tandem.test", "Pickup(\"5-02\")"),
        ("sip:**o'neil-x.2@tandem.test", "Pickup(\"o'neil-x.2\")"),
        ("sip:*8@tandem.test;user=phone", "GroupPickup"),
        ("sip:*799999@tandem.test", "nobody"),
        // other schemes
        ("mailto:bob@tandem.test", "nobody"),
        ("im:bob@tandem.test", "nobody"),
    ];

    #[test]
    fn a_uri_means_one_thing_however_it_is_written() {
        ask("tandem.test", |route| {
            for (uri, meant) in URIS {
                let found = Uri::parse(&(*uri).into()).map_or_else(|| "no URI".to_owned(), |uri| in_words(&route.find(&uri)));
                assert_eq!(found, *meant, "{uri}");
            }
        });
    }

    #[test]
    fn a_typed_uri_means_what_it_means_to_a_phone_and_other_text_a_name_or_number() {
        ask("tandem.test", |route| {
            for (uri, meant) in URIS.iter().filter(|(_, meant)| *meant != "no URI") {
                assert_eq!(in_words(&route.typed(uri)), *meant, "{uri}");
            }
            for (text, meant) in [
                ("bob", "bob"),
                ("502", "bob"),
                ("+49(30)502", "bob"),
                ("8-0-0", "room 800"),
                ("*705", "Park(Some(5))"),
                ("#31", "bob"),
                ("bob@tandem.test", "bob"),
                ("%62ob@192.0.2.1:5060", "bob"),
                ("502@tandem.test;user=phone", "bob"),
                ("bob@example.com", "elsewhere"),
                // no URI: what stands there is meant
                ("%62ob", "nobody"),
                ("bob;x", "nobody"),
                ("tandem.test", "nobody"),
                ("bob:pass@tandem.test", "nobody"),
                ("im:bob@tandem.test", "nobody"),
                ("@tandem.test", "nobody"),
                ("bob@tandem.test@tandem.test", "nobody"),
                ("sip:", "nobody"),
                ("b\u{f3}b", "nobody"),
                ("", "the switch"),
            ] {
                assert_eq!(in_words(&route.typed(text)), meant, "{text}");
            }
        });
    }

    #[test]
    fn a_switch_that_is_called_by_an_address_is_found_by_it() {
        for (domain, bracketed) in [("192.0.2.9", "192.0.2.9"), ("2001:db8::9", "[2001:db8::9]")] {
            ask(domain, |route| {
                for text in ["bob", &format!("sip:bob@{bracketed}"), "sip:bob@192.0.2.1"] {
                    assert_eq!(in_words(&route.typed(text)), "bob", "{text} at {domain}");
                }
            });
        }
    }

    #[test]
    fn what_was_dialled_is_written_so_that_it_can_be_dialled_again() {
        ask("tandem.test", |route| {
            for (uri, written) in [
                ("sip:%2A70@tandem.test:5060", "*70"),
                ("tel:502;phone-context=+4930", "+4930502"),
                ("sip:%62ob@example.com:5060", "bob@example.com"),
                ("tel:502;phone-context=example.com", "tel:502;phone-context=example.com"),
                ("sip:nobody@tandem.test", "nobody"),
            ] {
                let uri = Uri::parse(&uri.into()).unwrap();
                assert_eq!(route.written(&uri), written);
                assert_eq!(in_words(&route.typed(written)), in_words(&route.find(&uri)), "{uri}");
            }
        });
    }
}
