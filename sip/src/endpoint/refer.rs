//! Dialogs that another dialog is to take the place of (Replaces, RFC 3891), and REFER (RFC 3515), within a dialog and outside of one
//! (Target-Dialog, RFC 4538). Who may do so is the host's to decide: without its word nothing happens.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Endpoint, Incoming, unsupported};
use crate::dialog::Dialog;
use crate::dialog::invite::{CommandError, DialogId, Invite, State};
use crate::dialog::refer::{Refer, ReferId};
use crate::message::header::{Replaces, TargetDialog};
use crate::message::{Method, Name, Request, StatusCode};
use crate::transport::Hop;

/// A dialog that a message names by its Call-ID and both tags, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Our INVITE in it has no final response.
    Calling(DialogId),
    /// The peer's INVITE in it has no final response.
    Incoming(DialogId),
    /// Its session is established.
    Established(DialogId),
}

/// The tags of dialogs that ended lately, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<[u64; 2]>);

impl Ended {
    /// Most of them that are remembered; who names an older one hears 481 instead of 603.
    const MAX: usize = 4096;

    pub(super) fn insert(&mut self, tag: &str) {
        if self.0.len() >= Self::MAX {
            self.0.pop_front();
        }
        self.0.extend(halves(tag));
    }

    fn has(&self, tag: &str) -> bool {
        halves(tag).is_some_and(|tag| self.0.contains(&tag))
    }
}

/// Reads a tag of ours: the number of the dialog, then what cannot be guessed.
fn halves(tag: &str) -> Option<[u64; 2]> {
    let (id, random) = tag.split_at_checked(16)?;
    Some([u64::from_str_radix(id, 16).ok()?, u64::from_str_radix(random, 16).ok()?])
}

impl Endpoint {
    /// Finds a dialog by what names it, seen from here.
    #[must_use]
    pub fn named(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> Option<Named> {
        let id = u64::from_str_radix(local_tag.get(..16)?, 16).ok()?;
        let invite = self.dialogs.get(&id).filter(|invite| invite.matches(call_id, local_tag, remote_tag))?;
        match invite.state() {
            State::Calling => Some(Named::Calling(DialogId(id))),
            State::Incoming => Some(Named::Incoming(DialogId(id))),
            State::Established => Some(Named::Established(DialogId(id))),
            State::Ended => None,
        }
    }

    /// Finds the dialog that an INVITE is to take the place of: an established one, or an early one that we began. None without Replaces.
    /// Whether the sender may do so is not looked at.
    ///
    /// # Errors
    /// The status of RFC 3891 §3: 400 where Replaces is not there once and well-formed, 481 without such a dialog, 603 where it has
    /// ended, 486 where only an early one shall be replaced and it is established.
    pub fn replaced(&self, request: &Request) -> Result<Option<Named>, StatusCode> {
        let replaces: Option<Replaces> = request.headers.optional(Name::Replaces).map_err(|_| StatusCode::BAD_REQUEST)?;
        let Some(replaces) = replaces else { return Ok(None) };
        if request.method != Method::Invite || request.headers.other("Join").is_some() {
            return Err(StatusCode::BAD_REQUEST);
        }
        match self.named(&replaces.call_id, &replaces.to_tag, &replaces.from_tag) {
            Some(Named::Established(_)) if replaces.early_only => Err(StatusCode::BUSY_HERE),
            Some(named @ (Named::Established(_) | Named::Calling(_))) => Ok(Some(named)),
            Some(Named::Incoming(_)) => Err(StatusCode::NO_TRANSACTION),
            None if self.ended.has(&replaces.to_tag) => Err(StatusCode::DECLINE),
            None => Err(StatusCode::NO_TRANSACTION),
        }
    }

    /// Returns the Replaces header by which an INVITE to the peer of a dialog takes the dialog's place; none while the peer has no tag.
    #[must_use]
    pub fn replaces(&self, dialog: DialogId) -> Option<Replaces> {
        self.dialogs.get(&dialog.0).and_then(|invite| invite.replaces())
    }

    /// Finds the dialog that Target-Dialog names. Its tags are taken either way around: who knows both knows the dialog.
    ///
    /// # Errors
    /// 400 for a malformed header, 481 without such a dialog.
    pub fn target_dialog(&self, request: &Request) -> Result<Option<Named>, StatusCode> {
        let target: Option<TargetDialog> = request.headers.optional(Name::TargetDialog).map_err(|_| StatusCode::BAD_REQUEST)?;
        let Some(TargetDialog { call_id, local_tag, remote_tag }) = target else { return Ok(None) };
        let named = self.named(&call_id, &remote_tag, &local_tag).or_else(|| self.named(&call_id, &local_tag, &remote_tag));
        named.map(Some).ok_or(StatusCode::NO_TRANSACTION)
    }

    /// Takes a REFER outside a dialog, of a sender whom the host knows: it makes a dialog of its own for its NOTIFYs.
    /// [`Endpoint::accept_refer`] or [`Endpoint::refuse_refer`] is due. None if it was refused here (400, 416, 420, 482, 501, 503), or is a
    /// repetition of one that was taken.
    pub fn take_refer(&mut self, now: Instant, incoming: Incoming) -> Option<(DialogId, Refer)> {
        if self.core.transactions.opened(incoming.key).is_some() {
            return None;
        }
        let unsupported = unsupported(&incoming.request);
        let hop = Hop::Flow(incoming.flow);
        let id = self.core.transactions.id();
        let tag = self.core.tag(id);
        let refusal = match (Refer::read(&incoming.request), Dialog::uas(&incoming.request, &tag, hop)) {
            _ if !unsupported.is_empty() => (StatusCode::BAD_EXTENSION, Name::Unsupported, unsupported),
            _ if self.core.transactions.is_merged(incoming.merge) => (StatusCode::LOOP_DETECTED, Name::Other, String::new()),
            _ if self.dialogs.len() >= Self::MAX_DIALOGS => (StatusCode::SERVICE_UNAVAILABLE, Name::RetryAfter, self.retry_after()),
            (Err(status), _) => (status, Name::Other, String::new()),
            (Ok(_), Err(_)) => (StatusCode::BAD_REQUEST, Name::Other, String::new()),
            (Ok(refer), Ok(dialog)) => {
                let server = self.admit(now, &incoming);
                let mut invite = Invite::new(id, State::Ended, dialog);
                invite.ask(now, server, incoming.request, &refer);
                self.dialogs.insert(id, Box::new(invite));
                self.settle(now, id);
                return Some((DialogId(id), refer));
            }
        };
        let (status, name, value) = refusal;
        self.refuse_statelessly(&incoming, status, name, &value);
        None
    }

    /// Takes on what a REFER asks for: 202, and a NOTIFY that it is being tried.
    ///
    /// # Errors
    /// Gone: it has its answer, or its dialog is over.
    pub fn accept_refer(&mut self, now: Instant, dialog: DialogId, refer: ReferId) -> Result<(), CommandError> {
        self.command(now, dialog, |invite, core| invite.accept_refer(core, now, refer))
    }

    /// Refuses a REFER.
    ///
    /// # Errors
    /// As [`Endpoint::accept_refer`].
    pub fn refuse_refer(&mut self, now: Instant, dialog: DialogId, refer: ReferId, status: StatusCode) -> Result<(), CommandError> {
        self.command(now, dialog, |invite, core| invite.refuse_refer(core, now, refer, status))
    }

    /// Tells the peer how the call goes that its REFER led to, in NOTIFYs; a final status is the last. It may come after the end of the
    /// session, and where nobody listens any more nothing happens.
    pub fn report(&mut self, now: Instant, dialog: DialogId, refer: ReferId, status: StatusCode) {
        self.with(now, dialog.0, |invite, core| invite.report(core, now, refer, status));
    }
}
