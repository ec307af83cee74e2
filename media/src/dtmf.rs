//! Digits in their three forms: RFC 4733 events, tones in the sound (ITU-T Q.23), and bodies of SIP INFO. Each is read and made;
//! the machines keep the state of one direction of one stream. It knows no SIP message and no codec.

pub mod event;
pub mod inband;
pub mod info;

use std::time::Duration;

/// Sound of a digit whose length nobody said.
pub const DEFAULT_DURATION: Duration = Duration::from_millis(160);
/// Shortest digit that is sent: receivers need not hear a shorter one (ITU-T Q.24).
pub const MIN_DURATION: Duration = Duration::from_millis(40);
/// Longest digit that is sent; a longer one is cut there.
pub const MAX_DURATION: Duration = Duration::from_secs(10);
/// Digits that wait to be sent, in events or tones; further ones are dropped and counted.
pub const MAX_WAITING: usize = 32;

/// A key of a telephone: 0 to 9, `*`, `#`, A to D, and the flash of the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digit(u8);

const KEYS: &[u8; 16] = b"0123456789*#ABCD";

impl Digit {
    /// The flash of the hook.
    pub const FLASH: Self = Self(16);

    /// Returns the key of an event code (RFC 4733 §3.2); none for the codes of modems and lines.
    #[must_use]
    pub fn from_event(code: u8) -> Option<Self> {
        (code <= 16).then_some(Self(code))
    }

    /// Returns the event code.
    #[must_use]
    pub fn event(self) -> u8 {
        self.0
    }

    /// Returns the key with this letter, of either case; `!` is the flash.
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Self> {
        let letter = u8::try_from(letter.to_ascii_uppercase()).ok()?;
        let position = KEYS.iter().chain(b"!").position(|&key| key == letter)?;
        u8::try_from(position).ok().map(Self)
    }

    /// Returns the letter on the key.
    #[must_use]
    pub fn letter(self) -> char {
        KEYS.get(usize::from(self.0)).copied().map_or('!', char::from)
    }
}

/// What a listener says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// It went down.
    Down(Digit),
    /// It came up, after that time.
    Up(Digit, Duration),
}

/// Keys that wait to be sent, in order; the last of them may still be down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    keys: [Option<Key>; MAX_WAITING],
    length: usize,
    /// Keys dropped because too many waited.
    pub(crate) dropped: u64,
}

/// A key, and how long it is down; none while it still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) digit: Digit,
    pub(crate) duration: Option<Duration>,
}

impl Waiting {
    pub(crate) fn press(&mut self, press: Press) {
        match press {
            Press::Down(digit) => match self.keys.get_mut(self.length) {
                Some(slot) => {
                    *slot = Some(Key { digit, duration: None });
                    self.length += 1;
                }
                None => self.dropped += 1,
            },
            Press::Up(digit, duration) => {
                let last = self.length.checked_sub(1).and_then(|at| self.keys[at].as_mut());
                if let Some(key) = last.filter(|key| key.digit == digit && key.duration.is_none()) {
                    key.duration = Some(duration.clamp(MIN_DURATION, MAX_DURATION));
                }
            }
        }
    }

    pub(crate) fn first(&self) -> Option<Key> {
        self.keys[0]
    }

    pub(crate) fn done(&mut self) {
        self.keys[0] = None;
        self.keys.rotate_left(1);
        self.length = self.length.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_events_are_the_same_keys() {
        for (code, letter) in (0..=16).zip("0123456789*#ABCD!".chars()) {
            let digit = Digit::from_event(code).unwrap();
            assert_eq!((digit.letter(), Digit::from_letter(letter)), (letter, Some(digit)));
        }
        assert_eq!(Digit::from_letter('c'), Digit::from_event(14));
        assert!(Digit::from_event(17).is_none() && Digit::from_letter('e').is_none() && Digit::from_letter('é').is_none());
    }

    #[test]
    fn too_many_keys_are_dropped() {
        let mut waiting = Waiting::default();
        for n in 0..36 {
            let digit = Digit::from_event(n % 10).unwrap();
            waiting.press(Press::Down(digit));
            waiting.press(Press::Up(digit, Duration::from_secs(60)));
        }
        assert_eq!(waiting.dropped, 4);
        for n in 0..32 {
            assert_eq!(waiting.first(), Some(Key { digit: Digit(n % 10), duration: Some(MAX_DURATION) }));
            waiting.done();
        }
        assert_eq!(waiting.first(), None);
    }
}
