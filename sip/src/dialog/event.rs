//! What a leg tells its host, and what a host can be told when a command comes at the wrong time.

use bytes::Bytes;

use crate::message::header::Reason;
use crate::message::{Request, Response, StatusCode};
use crate::transaction::{ClientId, ServerId};

/// Names one INVITE dialog of ours, from before its first message to after its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub(crate) u64);

/// What happens on a leg. `Failed`, `Cancelled` and `Ended` are the last event of a dialog; exactly one of them comes.
#[derive(Debug)]
pub enum DialogEvent {
    /// Our INVITE got a provisional response above 100.
    Progress {
        /// The status code.
        status: StatusCode,
        /// SDP; empty for none.
        body: Bytes,
        /// The tag of the early dialog it belongs to; several mean that the INVITE was forked.
        tag: bytestring::ByteString,
    },
    /// Our INVITE got its 2xx. [`crate::Endpoint::acknowledge`] is due.
    Answered {
        /// SDP of the 2xx, or of the provisional response that was the answer; empty for none.
        body: Bytes,
    },
    /// Our INVITE got a final failure, no response (408), or could not be sent (503).
    Failed {
        /// The status code.
        status: StatusCode,
        /// The response, if one came.
        response: Option<Box<Response>>,
    },
    /// The caller gave up; 487 was sent.
    Cancelled {
        /// Why, if the caller said so.
        reason: Option<Reason>,
    },
    /// The ACK of our 2xx came.
    Acknowledged {
        /// SDP of a late offer's answer; empty for none.
        body: Bytes,
    },
    /// The peer sent a re-INVITE or an UPDATE with an offer. [`crate::Endpoint::accept`] or [`crate::Endpoint::refuse`] is due.
    Offered {
        /// SDP; empty for a re-INVITE that asks us to offer.
        body: Bytes,
    },
    /// The peer took back its re-INVITE; the session is as it was before, and nothing is due.
    OfferCancelled,
    /// Our re-INVITE or UPDATE got a 2xx. [`crate::Endpoint::acknowledge`] is due.
    OfferAnswered {
        /// SDP; empty for none.
        body: Bytes,
    },
    /// Our re-INVITE or UPDATE failed; the session is as it was before.
    OfferFailed {
        /// The status code.
        status: StatusCode,
    },
    /// Another request came within the dialog (INFO, MESSAGE …). [`crate::Endpoint::respond`] is due.
    Request {
        /// Its transaction.
        server: ServerId,
        /// The request.
        request: Box<Request>,
    },
    /// A request that we sent within the dialog is answered.
    Response {
        /// Its transaction.
        client: ClientId,
        /// The response; one we made ourselves (408, 503) where none came.
        response: Box<Response>,
    },
    /// The session is over.
    Ended {
        /// Who ended it.
        by: Ender,
        /// Why, if the peer said so.
        reason: Option<Reason>,
    },
}

/// Who or what ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ender {
    /// The peer sent BYE.
    Peer,
    /// We did.
    Us,
    /// The peer never acknowledged our 2xx (§13.3.1.4).
    NoAck,
    /// The peer never acknowledged a reliable provisional response, and got a 504 (RFC 3262 §3); no 2xx of ours went out.
    NoPrack,
    /// The session timer ran out (RFC 4028 §10).
    SessionTimer,
    /// The peer no longer knows the dialog (408 or 481 to a request in it, §12.2.1.2).
    Lost,
}

/// Why a command could not be carried out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such dialog any more.
    #[error("the dialog is over")]
    Gone,
    /// Another offer is under way, ours or the peer's (§14.1).
    #[error("another offer is pending")]
    Pending,
}
