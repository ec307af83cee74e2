//! Which algorithms a challenge offers (RFC 8760 §2.4): both, the strong one first. Many clients cannot read that, although RFC 3261 §22.1
//! has them pass over what they do not know: they look at the first challenge alone, or give up when any names SHA-256. (Some look at the
//! last alone, and that is MD5.) Those that are known to stumble ([`KNOWN`]) get what they can read, and so does who asks again without an
//! answer ([`Unanswered`]).
//!
//! Nothing is lost by that: what a request says of its sender anybody on the way can write, and so can they take a challenge out.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Algorithm;
use crate::message::{Name, NameAddr, Request, Via};

/// What a switch offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// To each client what it can read, both where nothing else is known. The default.
    ByClient,
    /// These to all, the preferred one first.
    Fixed(Vec<Algorithm>),
}

impl Offer {
    /// Returns the algorithms of an offer to a client of which nothing is known.
    #[must_use]
    pub fn algorithms(&self) -> &[Algorithm] {
        match self {
            Self::ByClient => &Algorithm::ALL,
            Self::Fixed(algorithms) => algorithms,
        }
    }
}

const MD5_FIRST: &[Algorithm] = &[Algorithm::Md5, Algorithm::Sha256];
const MD5_ALONE: &[Algorithm] = &[Algorithm::Md5];

/// What gives a client away.
enum Mark {
    /// How its User-Agent begins.
    Product(&'static str),
    /// What SIPp makes up: branches of numbers, as `z9hG4bK-4711-1-0`, and Call-IDs of two numbers and an address, as `1-4711@192.0.2.1`.
    Sipp,
}

/// Clients that stumble over a challenge for SHA-256 before one for MD5, what they get, and why. `docs/interop.md` says what was seen.
const KNOWN: &[(Mark, &[Algorithm], &str)] = &[
    (Mark::Product("baresip v0."), MD5_ALONE, "gives up when any challenge names SHA-256"),
    (Mark::Product("baresip v1."), MD5_ALONE, "gives up when any challenge names SHA-256 (seen: 1.0.0)"),
    (Mark::Product("baresip v2."), MD5_ALONE, "gives up when any challenge names SHA-256"),
    (Mark::Product("baresip v3."), MD5_ALONE, "as before up to 3.11, which is not told from later ones"),
    (Mark::Product("sipsak"), MD5_FIRST, "reads the first challenge alone (seen: 0.9.8.1)"),
    (Mark::Sipp, MD5_FIRST, "is SIPp, which does not name itself: it reads the first challenge alone (seen: 3.6.1)"),
    (Mark::Product("Asterisk"), MD5_FIRST, "reads the first challenge alone as a client"),
    (Mark::Product("FPBX"), MD5_FIRST, "is Asterisk"),
    (Mark::Product("FreeSWITCH"), MD5_FIRST, "reads the first challenge alone as a client"),
];

impl Mark {
    fn is_on(&self, request: &Request) -> bool {
        match self {
            Self::Product(product) => request.headers.get(Name::UserAgent).is_some_and(|agent| agent.starts_with(product.as_bytes())),
            Self::Sipp => {
                let branch = request.headers.first::<Via>(Name::Via).is_ok_and(|via| via.branch().is_some_and(is_branch_of_sipp));
                branch || request.headers.get(Name::CallId).and_then(|id| std::str::from_utf8(id).ok()).is_some_and(is_call_id_of_sipp)
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_branch_of_sipp(branch: &str) -> bool {
    branch.strip_prefix("z9hG4bK-").is_some_and(|numbers| numbers.split('-').count() >= 3 && numbers.split('-').all(is_number))
}

fn is_call_id_of_sipp(id: &str) -> bool {
    let parts = id.split_once('@').and_then(|(numbers, host)| Some((numbers.split_once('-')?, host)));
    parts.is_some_and(|((call, process), host)| {
        is_number(call) && is_number(process) && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    })
}

/// What one who sends such a request can read.
pub(super) fn known(request: &Request) -> Option<&'static [Algorithm]> {
    KNOWN.iter().find(|(mark, ..)| mark.is_on(request)).map(|(_, offer, _)| *offer)
}

/// Clients that were offered both algorithms and have not answered: who asks anew gets MD5 alone from then on, while it lasts. A client is
/// an address and a From.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    hasher: RandomState,
    /// Where there are too many, those of long ago are forgotten: they are offered both once more.
    recent: HashMap<u64, Noted>,
    before: HashMap<u64, Noted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    /// Offered both at that time.
    Offered(Instant),
    /// Did not answer that.
    Md5Only,
}

impl Unanswered {
    /// Most clients that are noted at a time, each in 32 bytes or so; those of long ago go first.
    pub(super) const MAX: usize = if cfg!(test) { 16 } else { 16_384 };
    /// Who asks again sooner repeats itself because an answer was lost or late.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Returns what a client gets that asks without an answer.
    pub(super) fn offer(&mut self, now: Instant, request: &Request, source: IpAddr) -> &'static [Algorithm] {
        let key = self.key(request, source);
        let noted = match self.recent.get(&key).or_else(|| self.before.get(&key)) {
            None => Noted::Offered(now),
            Some(Noted::Offered(at)) if now < *at + Self::PATIENCE => Noted::Offered(*at),
            Some(Noted::Offered(_) | Noted::Md5Only) => Noted::Md5Only,
        };
        if self.recent.len() >= Self::MAX / 2 {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, noted);
        if noted == Noted::Md5Only { MD5_ALONE } else { &Algorithm::ALL }
    }

    /// Notes that a client can read what it was offered.
    pub(super) fn answered(&mut self, request: &Request, source: IpAddr) {
        if self.recent.is_empty() && self.before.is_empty() {
            return;
        }
        let key = self.key(request, source);
        for noted in [&mut self.recent, &mut self.before] {
            if matches!(noted.get(&key), Some(Noted::Offered(_))) {
                noted.remove(&key);
            }
        }
    }

    fn key(&self, request: &Request, source: IpAddr) -> u64 {
        let from = request.headers.typed::<NameAddr>(Name::From);
        self.hasher.hash_one((source, from.as_ref().map_or("", |from| from.uri.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Method, Uri};
    use crate::time::origin;

    const SECOND: Duration = Duration::from_secs(1);

    fn request(via: &str, agent: &str, from: &str) -> Request {
        let mut request = Request::new(Method::Register, Uri::parse(&"sip:tandem.test".into()).unwrap());
        request.headers.push(Name::Via, via);
        request.headers.push(Name::From, format!("<sip:{from}@h>;tag={}", via.len()));
        if !agent.is_empty() {
            request.headers.push(Name::UserAgent, agent);
        }
        request
    }

    #[test]
    fn clients_that_are_known_to_stumble_get_what_they_can_read() {
        const UDP: &str = "SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKnashds8";
        for (via, agent, offer) in [
            (UDP, "baresip v1.0.0 (x86_64/linux)", Some(MD5_ALONE)),
            (UDP, "baresip v4.0.0 (x86_64/linux)", None),
            (UDP, "sipsak 0.9.8.1", Some(MD5_FIRST)),
            (UDP, "Linphonec/5.1.65", None),
            (UDP, "Twinkle/1.10.2", None),
            (UDP, "", None),
            ("SIP/2.0/WSS 192.0.2.156;branch=z9hG4bK592141", "JsSIP 3.13.8", None),
            ("SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK-18134-1-0", "", Some(MD5_FIRST)),
            ("SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK-jyhxsogbec4d", "snomD345/10.1.159.12", None),
            ("SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK-524287-1", "", None),
        ] {
            assert_eq!(known(&request(via, agent, "ann")), offer, "{via} {agent}");
        }
    }

    #[test]
    fn a_call_id_of_sipp_is_two_numbers_and_an_address() {
        for id in ["1-30993@127.47.94.12", "12-3@::1", "12-3@[2001:db8::1]"] {
            assert!(is_call_id_of_sipp(id), "{id}");
        }
        for id in ["1-30993@host.example", "1-2-3@192.0.2.1", "30993@192.0.2.1", "1-x@192.0.2.1", "-@192.0.2.1", ""] {
            assert!(!is_call_id_of_sipp(id), "{id}");
        }
    }

    #[test]
    fn who_asks_again_without_an_answer_gets_md5_alone() {
        let (mut unanswered, mut now, here) = (Unanswered::default(), origin(), IpAddr::from([192, 0, 2, 1]));
        let both: &[Algorithm] = &Algorithm::ALL;
        let ann = |via: &str| request(via, "", "ann");
        assert_eq!(unanswered.offer(now, &ann("SIP/2.0/UDP a"), here), both);
        now += SECOND;
        assert_eq!(unanswered.offer(now, &ann("SIP/2.0/UDP a"), here), both, "a repetition");
        now += SECOND;
        assert_eq!(unanswered.offer(now, &request("SIP/2.0/UDP a", "", "bob"), here), both);
        assert_eq!(unanswered.offer(now, &ann("SIP/2.0/UDP a"), IpAddr::from([192, 0, 2, 2])), both);
        assert_eq!(unanswered.offer(now, &ann("SIP/2.0/UDP another"), here), MD5_ALONE);
        unanswered.answered(&ann("SIP/2.0/UDP a"), here);
        assert_eq!(unanswered.offer(now, &ann("SIP/2.0/UDP a"), here), MD5_ALONE, "what it has answered now was MD5 alone");

        unanswered.answered(&request("SIP/2.0/UDP a", "", "bob"), here);
        now += 5 * SECOND;
        assert_eq!(unanswered.offer(now, &request("SIP/2.0/UDP a", "", "bob"), here), both, "who can read both gets both");
    }

    #[test]
    fn so_many_clients_are_noted_and_no_more() {
        // S11
        let (mut unanswered, now, here) = (Unanswered::default(), origin(), IpAddr::from([192, 0, 2, 1]));
        for number in 0..100 {
            unanswered.offer(now, &request("SIP/2.0/UDP a", "", &number.to_string()), here);
            assert!(unanswered.recent.len() + unanswered.before.len() <= Unanswered::MAX);
        }
        let both: &[Algorithm] = &Algorithm::ALL;
        assert_eq!(unanswered.offer(now + 5 * SECOND, &request("SIP/2.0/UDP a", "", "99"), here), MD5_ALONE);
        assert_eq!(unanswered.offer(now + 5 * SECOND, &request("SIP/2.0/UDP a", "", "1"), here), both);
    }
}
