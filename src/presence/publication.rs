//! Publications (RFC 3903): what the devices of one user say of the user, each under an entity tag of its own and for so long.

use std::time::{Duration, Instant};

use super::pidf::Document;

/// A PUBLISH that was read.
#[derive(Debug)]
pub struct Publish {
    /// SIP-If-Match; none for a new publication.
    pub matches: Option<String>,
    /// How long it lasts; zero ends it.
    pub lasts: Duration,
    /// The document; none repeats the one before.
    pub document: Option<Document>,
}

/// Why a PUBLISH is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No publication has that entity tag: 412.
    #[error("no publication has that entity tag")]
    NoMatch,
    /// It is new and has no document: 400.
    #[error("a new publication without a document")]
    NoDocument,
}

#[derive(Debug)]
struct Publication {
    tag: Box<str>,
    document: Document,
    /// When its document came, refreshes left out.
    said_at: Instant,
    until: Instant,
}

/// All publications of a user.
#[derive(Debug, Default)]
pub(super) struct Publications(Vec<Publication>);

impl Publications {
    /// Most publications of a user; for a further one the one nearest to its end is dropped, and its device hears 412.
    pub(super) const MAX: usize = 16;

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a PUBLISH; whatever it refers to has the new tag from now on (RFC 3903 §6).
    pub(super) fn publish(&mut self, now: Instant, publish: Publish, tag: &str) -> Result<(), PublishError> {
        let before = match &publish.matches {
            None => None,
            Some(matches) => Some(self.0.iter().position(|one| *one.tag == **matches).ok_or(PublishError::NoMatch)?),
        };
        let old = before.map(|at| self.0.remove(at));
        if publish.lasts.is_zero() {
            return Ok(());
        }
        let (document, said_at) = match (publish.document, old) {
            (Some(document), _) => (document, now),
            (None, Some(old)) => (old.document, old.said_at),
            (None, None) => return Err(PublishError::NoDocument),
        };
        if self.0.len() >= Self::MAX
            && let Some((at, _)) = self.0.iter().enumerate().min_by_key(|(_, one)| one.until)
        {
            self.0.remove(at);
        }
        self.0.push(Publication { tag: tag.into(), document, said_at, until: now + publish.lasts });
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.0.retain(|one| now < one.until);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|one| one.until).min()
    }

    /// Returns the document that was said last: a person is how they said at last, on whichever device.
    pub(super) fn latest(&self) -> Option<&Document> {
        self.0.iter().max_by_key(|one| one.said_at).map(|one| &one.document)
    }

    /// Returns true if a device says it can be reached.
    pub(super) fn is_open(&self) -> bool {
        self.0.iter().any(|one| one.document.open == Some(true))
    }
}
