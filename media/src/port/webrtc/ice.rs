//! The ICE-lite agent of a port (RFC 8445 §2.5): it answers connectivity checks, remembers from where valid ones came, and follows
//! the peer's nomination. It sends no checks, so it is always controlled, has one host candidate and one component. Nothing changes
//! before a check is verified (security row S4). It knows neither DTLS nor media.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Refusal,
    stun::{Class, Control, Message, Writer},
};
use crate::port::destination::Policy;

/// Silence of checks after which an address is not sent to any more (RFC 7675 §5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Valid addresses of a port. At the bound the one checked longest ago goes, but never the one in use.
pub const MAX_ADDRESSES: usize = 16;
/// Time for which the credentials before an ICE restart stay good at most, once those of the peer have changed.
pub const RESTART_OVERLAP: Duration = Duration::from_secs(30);
/// Characters of our ufrag: 3 for the media thread, the others random (54 bits; RFC 8445 §5.3 wants 24).
pub const UFRAG: usize = 12;
/// Characters of our password: 144 random bits (RFC 8445 §5.3 wants 128).
pub const PASSWORD: usize = 24;
/// A nomination that is only repeated moves us back to an address once that in use has not been nominated for so long.
const NOMINATION_PAUSE: Duration = Duration::from_secs(5);
const THREAD: usize = 3;
/// ice-char (RFC 8839 §5.4), in the order of base64.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Why a ufrag and password are not credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not 4 to 256 characters of `ice-char`.
    #[error("a bad ice-ufrag")]
    Ufrag,
    /// Not 22 to 256 characters of `ice-char`.
    #[error("a bad ice-pwd")]
    Password,
}

/// The values of `a=ice-ufrag` and `a=ice-pwd` (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: Box<str>,
    password: Box<str>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Credentials").field(&self.ufrag).finish()
    }
}

impl Credentials {
    /// Credentials from an SDP.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(ufrag: &str, password: &str) -> Result<Self, CredentialsError> {
        let good = |text: &str, least: usize| (least..=256).contains(&text.len()) && text.bytes().all(|c| ICE_CHARS.contains(&c));
        if !good(ufrag, 4) {
            return Err(CredentialsError::Ufrag);
        }
        if !good(password, 22) {
            return Err(CredentialsError::Password);
        }
        Ok(Self { ufrag: ufrag.into(), password: password.into() })
    }

    /// New credentials for a port on a media thread, which [`thread_of`] finds in them again. `fill` writes octets of a generator
    /// that nobody can predict.
    #[must_use]
    pub fn generate(thread: u16, fill: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut random = [0; UFRAG - THREAD + PASSWORD];
        fill(&mut random);
        let char_of = |octet: usize| char::from(ICE_CHARS.get(octet % 64).copied().unwrap_or(b'A'));
        let thread = usize::from(thread);
        let mut text = [thread >> 12, thread >> 6, thread].into_iter().chain(random.into_iter().map(usize::from)).map(char_of);
        let ufrag = text.by_ref().take(UFRAG).collect::<String>();
        Self { ufrag: ufrag.into(), password: text.collect::<String>().into() }
    }

    /// The user name fragment.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password, for the SDP only.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }
}

/// The media thread in a ufrag of ours; None for any other.
#[must_use]
pub fn thread_of(ufrag: &[u8]) -> Option<u16> {
    let text = ufrag.first_chunk::<THREAD>().filter(|_| ufrag.len() == UFRAG)?;
    let digit = |c: &u8| ICE_CHARS.iter().position(|known| known == c);
    let number = text.iter().try_fold(0, |number, c| digit(c).map(|digit| number << 6 | digit))?;
    u16::try_from(number).ok()
}

/// The value of `a=candidate` for our one host candidate (RFC 8839 §5.1). Its priority is that of a host candidate with the highest
/// local preference (RFC 8445 §5.1.2.1).
#[must_use]
pub fn candidate(address: SocketAddr) -> String {
    const PRIORITY: u32 = 126 << 24 | 65535 << 8 | (256 - 1);
    format!("1 1 UDP {PRIORITY} {} {} typ host", address.ip().to_canonical(), address.port())
}

/// What one verified or refused check is answered with: so many octets of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A success response: its source is valid.
    Success(usize),
    /// An error response: nothing has changed.
    Error(usize),
    /// None.
    Nothing,
}

/// Our credentials and the peer's ufrag between two ICE restarts.
#[derive(Clone, Debug)]
struct Generation {
    local: Credentials,
    /// None until the peer's answer is known: its checks may come earlier (RFC 8445 §7.3).
    remote: Option<Credentials>,
}

impl Generation {
    /// Whether a check is for us. The peer's half may be newer than its SDP: a browser that restarts ICE checks before its offer is
    /// here (RFC 8445 §7.3), and what proves it is our password.
    fn is_meant(&self, username: &[u8]) -> bool {
        split(username).is_some_and(|(local, _)| local == self.local.ufrag.as_bytes())
    }
}

/// How long the pair in use has to be quiet before media from another one is followed: longer than packets overtake each other.
const QUIET: Duration = Duration::from_millis(100);

/// The two halves of a USERNAME.
pub(super) fn split(username: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = username.iter().position(|c| *c == b':')?;
    let (local, rest) = username.split_at_checked(colon)?;
    Some((local, rest.get(1..)?))
}

/// The remote end of a valid pair.
#[derive(Clone, Copy, Debug)]
struct Pair {
    address: SocketAddr,
    /// When it was last checked.
    checked: Instant,
    /// When it was last nominated, if its last check nominated it.
    nominated: Option<Instant>,
    /// When authentic media last came from there.
    heard: Option<Instant>,
}

impl Pair {
    fn is_valid(&self, now: Instant) -> bool {
        now < self.checked + CONSENT_TIMEOUT
    }
}

/// The agent.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    current: Generation,
    /// What was in use before a restart, until the new credentials nominate or the time is over.
    previous: Option<(Generation, Option<Instant>)>,
    pairs: Vec<Pair>,
    selected: Option<SocketAddr>,
}

impl Agent {
    pub(super) fn new(local: Credentials) -> Self {
        Self { current: Generation { local, remote: None }, previous: None, pairs: Vec::new(), selected: None }
    }

    /// Begins an ICE restart with new credentials of ours (RFC 8445 §9). Those that the peer uses stay good for the time being.
    pub(super) fn restart(&mut self, local: Credentials) {
        let old = std::mem::replace(&mut self.current, Generation { local, remote: None });
        // A restart that was never confirmed leaves what was in use before it.
        if old.remote.is_some() || self.previous.is_none() {
            self.previous = Some((old, None));
        }
    }

    pub(super) fn set_remote(&mut self, now: Instant, remote: Credentials) {
        if let Some((previous, until)) = &mut self.previous
            && previous.remote.as_ref() != Some(&remote)
        {
            until.get_or_insert(now + RESTART_OVERLAP);
        }
        self.current.remote = Some(remote);
    }

    /// Takes a STUN message; the answer is written over it.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        from: SocketAddr,
        buffer: &mut [u8],
        length: usize,
        policy: &Policy,
    ) -> Result<Answer, Refusal> {
        let bytes = buffer.get(..length).unwrap_or_default();
        let message = Message::parse(bytes).map_err(Refusal::Stun)?;
        match message.class {
            Class::Request => {}
            // A keep-alive: not verified, so it keeps nothing alive here (RFC 8445 §11).
            Class::Indication => return Ok(Answer::Nothing),
            // We send no requests.
            Class::Success | Class::Error => return Err(Refusal::UnexpectedResponse),
        }
        let transaction = message.transaction_id();
        let (nominates, control) = (message.use_candidate, message.control);
        let verdict = self.verify(&message);
        let mut unknown = [0; 4];
        let unknown_count = message.unknown().len().min(unknown.len());
        for (to, kind) in unknown.iter_mut().zip(message.unknown()) {
            *to = *kind;
        }
        let error = |buffer| Writer::new(buffer, Class::Error, &transaction);
        let generation = match verdict {
            Ok(generation) => generation,
            // Unverified: never longer than the question, so that a forged source is not worth while.
            Err(code) => {
                return Ok(error(buffer).error_code(code).finish().filter(|size| *size <= length).map_or(Answer::Nothing, Answer::Error));
            }
        };
        let key = match (generation, &self.previous) {
            (Which::Previous, Some((previous, _))) => previous.local.password.as_bytes(),
            (Which::Current | Which::Previous, _) => self.current.local.password.as_bytes(),
        };
        let rejection = if unknown_count > 0 {
            Some(error(buffer).error_code(420).unknown_attributes(unknown.get(..unknown_count).unwrap_or_default()))
        } else if control == Some(Control::Controlled) {
            // Lite agents are controlled; the peer must not be (RFC 8445 §6.1.1, §7.3.1.1).
            Some(error(buffer).error_code(487))
        } else {
            None
        };
        if let Some(writer) = rejection {
            return Ok(writer.integrity(key).finish().map_or(Answer::Nothing, Answer::Error));
        }
        if !self.pairs.iter().any(|pair| pair.address == from) {
            policy.check(from).map_err(Refusal::Destination)?;
        }
        let writer = Writer::new(buffer, Class::Success, &transaction).xor_mapped_address(from).integrity(key);
        let answer = writer.finish().map_or(Answer::Nothing, Answer::Success);
        self.checked(now, from, nominates);
        if nominates && generation == Which::Current {
            // The restart is confirmed.
            self.previous = None;
        }
        Ok(answer)
    }

    /// Which credentials a request was made with, or the code of the error (RFC 8489 §9.1.3).
    fn verify(&self, message: &Message<'_>) -> Result<Which, u16> {
        let username = message.username.filter(|_| message.has_integrity()).ok_or(400u16)?;
        if self.current.is_meant(username) && message.verify(self.current.local.password.as_bytes()) {
            return Ok(Which::Current);
        }
        match &self.previous {
            Some((previous, _)) if previous.is_meant(username) && message.verify(previous.local.password.as_bytes()) => Ok(Which::Previous),
            Some(_) | None => Err(401),
        }
    }

    /// A verified check makes its pair valid; the newest nomination wins. Chromium repeats USE-CANDIDATE on the pair it uses and
    /// leaves it out on others; agents of RFC 5245 set it on every check, and then the first stays.
    fn checked(&mut self, now: Instant, from: SocketAddr, nominates: bool) {
        let index = self.pairs.iter().position(|pair| pair.address == from).unwrap_or_else(|| self.insert(now, from));
        let Some(pair) = self.pairs.get_mut(index) else { return };
        pair.checked = now;
        let newly = pair.nominated.is_none();
        pair.nominated = nominates.then_some(now);
        let in_use = self.pairs.iter().find(|pair| Some(pair.address) == self.selected && pair.is_valid(now));
        let nominated = in_use.and_then(|pair| pair.nominated);
        let stale = nominated.is_none_or(|at| now >= at + NOMINATION_PAUSE);
        if in_use.is_none() || nominates && (newly || stale) {
            self.selected = Some(from);
        } else if stale {
            self.selected = self.newest_nomination(now).or(self.selected);
        }
    }

    fn newest_nomination(&self, now: Instant) -> Option<SocketAddr> {
        let nominated = self.pairs.iter().filter(|pair| pair.is_valid(now) && pair.nominated.is_some());
        nominated.max_by_key(|pair| pair.nominated).map(|pair| pair.address)
    }

    fn insert(&mut self, now: Instant, address: SocketAddr) -> usize {
        if self.pairs.len() >= MAX_ADDRESSES {
            let others = self.pairs.iter().enumerate().filter(|(_, pair)| Some(pair.address) != self.selected);
            if let Some((oldest, _)) = others.min_by_key(|(_, pair)| pair.checked) {
                self.pairs.swap_remove(oldest);
            }
        }
        self.pairs.push(Pair { address, checked: now, nominated: None, heard: None });
        self.pairs.len() - 1
    }

    /// Authentic media came from there. A peer that sends by another valid pair than before has left the old one, also where it
    /// does not nominate the new one: Chromium after a restart with the old pair still known.
    pub(super) fn heard(&mut self, now: Instant, from: SocketAddr) {
        let selected = self.selected;
        let Some(pair) = self.pairs.iter_mut().find(|pair| pair.address == from) else { return };
        pair.heard = Some(now);
        if selected == Some(from) || !pair.is_valid(now) {
            return;
        }
        let in_use = self.pairs.iter().find(|pair| Some(pair.address) == selected);
        let quiet = |at: Option<Instant>| at.is_none_or(|at| now >= at + QUIET);
        if in_use.is_none_or(|pair| quiet(pair.heard) && quiet(pair.nominated)) {
            self.selected = Some(from);
        }
    }

    /// Whether media and DTLS from there are the peer's.
    pub(super) fn is_valid(&self, now: Instant, from: SocketAddr) -> bool {
        self.pairs.iter().any(|pair| pair.address == from && pair.is_valid(now))
    }

    /// Where to send.
    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Forgets addresses that are not checked any more and credentials that are too old.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.previous.take_if(|(_, until)| until.is_some_and(|until| now >= until));
        if self.selected.is_some_and(|selected| !self.is_valid(now, selected)) {
            self.pairs.retain(|pair| pair.is_valid(now));
            let newest = || self.pairs.iter().max_by_key(|pair| pair.checked).map(|pair| pair.address);
            self.selected = self.newest_nomination(now).or_else(newest);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let in_use = self.pairs.iter().find(|pair| Some(pair.address) == self.selected);
        let consent = in_use.map(|pair| pair.checked + CONSENT_TIMEOUT);
        let overlap = self.previous.as_ref().and_then(|(_, until)| *until);
        consent.into_iter().chain(overlap).min()
    }
}

/// Credentials before or after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Current,
    Previous,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ufrag_tells_its_thread() {
        for thread in [0, 1, 63, 64, 4095, 4096, u16::MAX] {
            let mut next = 0_u8;
            let credentials = Credentials::generate(thread, &mut |octets| {
                octets.fill_with(|| {
                    next = next.wrapping_add(37);
                    next
                });
            });
            assert_eq!(thread_of(credentials.ufrag().as_bytes()), Some(thread));
            assert_eq!((credentials.ufrag().len(), credentials.password().len()), (UFRAG, PASSWORD));
            assert_eq!(Credentials::parse(credentials.ufrag(), credentials.password()), Ok(credentials));
        }
        for other in ["", "AAA", "AAABBBBBBBBBB", "A:ABBBBBBBBB", "//////////////", "///BBBBBBBBB"] {
            assert_eq!(thread_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn credentials_have_the_lengths_and_characters_of_rfc_8839() {
        let password = "0123456789abcdefABC+/z";
        assert!(Credentials::parse("abcd", password).is_ok());
        for ufrag in ["abc", "ab:d", "ab d", "ab\u{e9}d", &"a".repeat(257)] {
            assert_eq!(Credentials::parse(ufrag, password), Err(CredentialsError::Ufrag), "{ufrag}");
        }
        for bad in [&password[1..], "0123456789abcdefABC+/ z", &"a".repeat(257)] {
            assert_eq!(Credentials::parse("abcd", bad), Err(CredentialsError::Password), "{bad}");
        }
        assert!(!format!("{:?}", Credentials::parse("abcd", password)).contains(password));
    }

    #[test]
    fn the_candidate_is_a_host_candidate() {
        let v4 = SocketAddr::from(([192, 0, 2, 1], 8443));
        assert_eq!(candidate(v4), "1 1 UDP 2130706431 192.0.2.1 8443 typ host");
        assert_eq!(candidate("[2001:db8::1]:8443".parse().expect("an address")), "1 1 UDP 2130706431 2001:db8::1 8443 typ host");
    }
}
