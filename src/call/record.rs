//! The call detail record: what is known of a call when it is over. The owner of the storage writes it; nothing here does.

use std::sync::Arc;
use std::time::Duration;

use media::{
    quality::{Statistics, StreamStatistics},
    sdp::MediaKind,
};
use serde::Serialize;
use sip::StatusCode;

use super::Id;

/// A call that is over. Times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Our number of the call; later calls have higher ones.
    pub id: Id,
    /// AOR of the caller, or number and trunk.
    pub caller: Arc<str>,
    /// What was dialled.
    pub dialled: Arc<str>,
    /// AOR of the callee.
    pub callee: Arc<str>,
    /// When the INVITE came.
    pub started_at: u64,
    /// When the first device rang.
    pub ringing_at: Option<u64>,
    /// When it was answered.
    pub answered_at: Option<u64>,
    /// When it was over.
    pub ended_at: u64,
    /// The device that answered.
    pub answered_by: Option<String>,
    /// What the caller was told: 200 for an answered call, else the refusal.
    pub status: u16,
    /// Who or what ended it.
    pub ended_by: EndedBy,
    /// Why, in plain words.
    pub reason: String,
    /// Moves between devices, as they took place; at most [`MAX_MOVES`], later ones are not kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// Who was in a conference, in the order in which they came; at most [`MAX_STAYS`], later ones are not kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<Stay>,
    /// Media of the caller's leg, then of the others in the order in which they came.
    pub media: Vec<LegMedia>,
}

/// Most stays in a record.
pub const MAX_STAYS: usize = 1000;

/// A party of a conference, from when they came until they left.
#[derive(Clone, Debug, Serialize)]
pub struct Stay {
    /// Who: AOR, or number and trunk.
    pub party: Arc<str>,
    /// When they came.
    pub came_at: u64,
    /// When they left.
    pub left_at: Option<u64>,
}

/// Most moves in a record.
pub const MAX_MOVES: usize = 100;

/// Media that went to another device of a party, or came to it as well.
#[derive(Clone, Debug, Serialize)]
pub struct Move {
    /// When.
    pub at: u64,
    /// Whose devices: AOR.
    pub party: Arc<str>,
    /// Audio moved.
    pub audio: bool,
    /// Video moved.
    pub video: bool,
    /// The devices that had it until then, by their contacts.
    pub from: Vec<String>,
    /// The device that has it from then on, by its contact.
    pub to: String,
}

/// Who or what ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// The caller hung up or gave up.
    Caller,
    /// The callee hung up or refused.
    Callee,
    /// Nobody answered in time.
    NoAnswer,
    /// A session timer ran out, an ACK never came, or a peer forgot the dialog.
    Lost,
    /// We did: no media port, or descriptions that do not fit.
    Switch,
}

/// Media of one leg.
#[derive(Clone, Debug, Serialize)]
pub struct LegMedia {
    /// RTP packets that its peer sent.
    pub received: u64,
    /// RTP packets that we sent to it.
    pub sent: u64,
    /// Packets missing in what its peer sent.
    pub lost: u64,
    /// Largest jitter of a stream, in milliseconds.
    pub jitter: u64,
    /// Packets of strangers that were dropped.
    pub strangers: u64,
    /// Round trip to its peer in milliseconds, if its RTCP told.
    pub round_trip: Option<u64>,
    /// Codec that its peer sent last.
    pub codec: Option<String>,
    /// Why what we sent to it was transcoded, if it was.
    pub transcoding: Option<String>,
    /// How its peer sounded, 1.00 to 4.50: an estimate.
    pub mos: Option<f64>,
    /// How its sound was, or what it waited for, in plain words.
    pub quality: Option<String>,
    /// Why it was silent, if it was.
    pub verdict: Option<String>,
}

impl LegMedia {
    /// Sums up a port's figures.
    #[must_use]
    pub fn new(statistics: &Statistics, verdict: Option<String>) -> Self {
        let streams = &statistics.streams;
        let sound = streams.iter().find(|stream| stream.kind == Some(MediaKind::Audio));
        let jitter = streams.iter().map(|stream| stream.jitter).max().unwrap_or(Duration::ZERO);
        Self {
            received: streams.iter().map(|stream| stream.received.packets).sum(),
            sent: streams.iter().map(|stream| stream.sent.packets).sum(),
            lost: streams.iter().map(|stream| stream.lost).sum(),
            jitter: u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX),
            strangers: streams.iter().map(|stream| stream.strangers).sum(),
            round_trip: streams.iter().find_map(|stream| stream.round_trip).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            codec: sound.and_then(|sound| sound.codec.clone()),
            transcoding: sound.and_then(|sound| sound.transcoding.clone()),
            mos: sound.and_then(StreamStatistics::mos).map(|mos| f64::from(mos.hundredths()) / 100.0),
            quality: sound.map(StreamStatistics::verdict),
            verdict,
        }
    }
}

impl Record {
    /// Begins the record of a call.
    #[must_use]
    pub fn begun(id: Id, (caller, callee): (&Arc<str>, &Arc<str>), dialled: &str, unix: u64) -> Self {
        Self {
            id,
            caller: Arc::clone(caller),
            dialled: dialled.into(),
            callee: Arc::clone(callee),
            started_at: unix,
            ringing_at: None,
            answered_at: None,
            ended_at: unix,
            answered_by: None,
            status: StatusCode::TEMPORARILY_UNAVAILABLE.code(),
            ended_by: EndedBy::Switch,
            reason: String::new(),
            moves: Vec::new(),
            parties: Vec::new(),
            media: Vec::new(),
        }
    }

    /// Who is still in a conference leaves it with its end.
    pub(super) fn end_stays(&mut self) {
        for stay in &mut self.parties {
            stay.left_at.get_or_insert(self.ended_at);
        }
    }

    /// Notes the answer.
    pub(super) fn answered(&mut self, at: u64, by: String) {
        (self.answered_at, self.answered_by) = (Some(at), Some(by));
        self.status = StatusCode::OK.code();
    }

    /// Notes how a call ended that was never answered: an answer that the caller was never told is none.
    pub fn refused(&mut self, status: StatusCode, by: EndedBy, reason: impl Into<String>) {
        (self.answered_at, self.answered_by) = (None, None);
        self.status = status.code();
        self.ended_by = by;
        self.reason = reason.into();
    }
}
