//! Bodies of the topic `tel`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::Actions;
use crate::permission::Caller;
use crate::text::{CallId, Destination, DeviceId, Digits, Line, Sdp, UserName};
use crate::topic::declare::{bodies, words};

/// Most calls, or destinations, that one request joins.
pub const MAX_JOINED: usize = 16;

bodies! {
    /// Request of `make-call`.
    MakeCall {
        /// What is dialled: a user, a number or the number of a room.
        destination: Destination,
        /// The device that calls, and is asked to answer by itself; absent: all devices of the user ring, and the first to answer calls.
        device: Option<DeviceId> = default,
        /// The device that carries video, where `device` is to carry only audio.
        video_device: Option<DeviceId> = default,
        /// For whom the call is made; absent: the caller.
        user: Option<UserName> = default,
        /// A name to show for the destination until the switch knows better.
        name_hint: Option<Line> = default,
        /// Kinds of media; absent: audio.
        media: Vec<Media> = default,
        /// The offer of an application that is itself the device; the reply has the answer.
        sdp: Option<Sdp> = default,
        /// The call is made to transfer another one, or to add to it.
        guided: Option<Guided> = default,
    }
    /// What a guided call is made for.
    Guided {
        /// The call that waits.
        call: CallId,
        /// What happens to it when the destination answers; until then it is on hold, and where nobody answers the user has it back.
        purpose: Purpose,
    }
    /// Request of `answer`.
    Answer {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// The device that answers; absent: the one that the request comes from, or the only one that rings.
        device: Option<DeviceId> = default,
        /// The device that carries video then, where `device` is to carry only audio.
        video_device: Option<DeviceId> = default,
        /// The answer of an application that is itself the device.
        sdp: Option<Sdp> = default,
    }
    /// Request of `decline`.
    Decline {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// What the calling party is told; absent: declined.
        reason: Option<DeclineReason> = default,
    }
    /// Request that names a call and nothing else.
    Plain {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
    }
    /// Request of `transfer`: one of `destination` and `consult`.
    Transfer {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// Where to, without asking there first; also the number of a room.
        destination: Option<Destination> = default,
        /// The call with the party that was asked first.
        consult: Option<CallId> = default,
    }
    /// Request of `conference`.
    Conference {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// Other calls of the user that join; at most 16.
        calls: Vec<CallId> = default,
        /// Destinations that are called and join, at most 16; or the number of one room, into which all go.
        destinations: Vec<Destination> = default,
    }
    /// Request of `mute` and `unmute`.
    Mute {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// Whose media, by user name or number; absent: one's own. That of another is the moderator's to take and to give.
        party: Option<Line> = default,
        /// Which media; absent: audio.
        media: Vec<Media> = default,
    }
    /// Request of `kick` and `moderate`.
    Member {
        /// The call.
        call: CallId,
        /// For which moderator; absent: the caller.
        user: Option<UserName> = default,
        /// Whom it is about, by user name or number.
        party: Line,
    }
    /// Request of `park`.
    Park {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// Where; absent: the next free slot.
        slot: Option<Line> = default,
    }
    /// Request of `pickup`: one of `call` and `slot`.
    Pickup {
        /// The call.
        call: Option<CallId> = default,
        /// The slot that it waits in.
        slot: Option<Line> = default,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// The device that gets the call.
        device: Option<DeviceId> = default,
    }
    /// Request of `dtmf`.
    Dtmf {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// The digits.
        digits: Digits,
    }
    /// Request of `move`.
    Move {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// Where the user's side goes.
        device: DeviceId,
        /// What goes there; absent: everything.
        media: Vec<Media> = default,
        /// Whether the devices that carry it now go on, too: the user is in the call with several at once.
        keep: bool = default,
    }
    /// Request of `split`.
    Split {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// The device that carries audio.
        audio: DeviceId,
        /// The device that carries video.
        video: DeviceId,
    }
    /// Request of `negotiate`.
    Negotiate {
        /// The call.
        call: CallId,
        /// For whom; absent: the caller.
        user: Option<UserName> = default,
        /// What `sdp` is: an offer, or the answer to the switch's offer; `rollback`, without it, refuses that. Absent: an offer.
        r#type: Option<SdpType> = default,
        /// The description; only a `rollback` has none.
        sdp: Option<Sdp> = default,
    }
    /// Request of `register`.
    Register {
        /// What the device is called, so that it is the same one the next time; absent: as the login says, else it lives as long as the login.
        device: Option<DeviceId> = default,
    }
    /// Reply of `register`.
    Registered {
        /// The device, as calls and lists name it.
        device: DeviceId,
    }
    /// Request of `list`.
    List {
        /// Whose calls; absent: all that the caller may see.
        user: Option<UserName> = default,
        /// Instead, calls that the user may pick up: parked ones, and those that ring at colleagues. Absent `user`: the caller; for whom
        /// the right `pickup` reaches to all, everybody.
        pickup: bool = default,
        /// With `pickup`: send changes, too, as events `pickup`.
        subscribe: bool = default,
    }
    /// Request of `show` and `why`.
    Show {
        /// The call.
        call: CallId,
    }
    /// Reply of everything that concerns one call.
    CallReply {
        /// The call as it is now.
        call: CallView,
        /// The switch's session description, for an application that is itself the device.
        sdp: Option<Sdp> = default,
    }
    /// Reply of `list`.
    CallList {
        /// The calls.
        calls: Vec<CallView>,
        /// What the caller may do with telephony as a whole.
        actions: Actions,
        /// The subscription that `subscribe` made.
        subscription: Option<u32> = default,
    }
    /// Reply of `why`.
    Verdict {
        /// The call.
        call: CallId,
        /// One sentence.
        why: String,
    }
    /// Body of a call's events.
    CallEventBody {
        /// The call as it is now.
        call: CallView,
    }
    /// Body of the event `sdp`, which only the application gets that is itself the device: what the switch describes to it.
    Description {
        /// The call.
        call: CallId,
        /// The device.
        device: DeviceId,
        /// What it is; an offer waits for `answer` or `negotiate`.
        r#type: SdpType,
        /// The description; a `request` and a `rollback` have none.
        sdp: Option<Sdp> = default,
    }
    /// How a call came about.
    Constructed {
        /// The way.
        how: How,
        /// Who forwarded, transferred or picked up.
        by: Option<String> = default,
    }
    /// One user, or one outside number, in a call.
    Party {
        /// The user, if they are one of ours.
        user: Option<UserName> = default,
        /// Their number.
        number: Option<String> = default,
        /// Their name, to show.
        name: Option<String> = default,
        /// They asked not to be shown: only they and who may see all calls are told who it is.
        anonymous: bool = default,
        /// Where they are in the call.
        state: PartyState,
        /// They put the call on hold at the device, which alone can resume it.
        held_at_device: bool = default,
        /// What the others do not get of them.
        muted: Vec<Media> = default,
        /// What of that only the moderator gives again.
        silenced: Vec<Media> = default,
        /// They moderate the conference.
        moderator: bool = default,
        /// Their devices in the call, and what each carries.
        devices: Vec<Carrying> = default,
        /// A device of theirs may have video as far as the others go. Not shown: it decides what is possible.
        may_film: bool = skip,
    }
    /// A device in a call.
    Carrying {
        /// The device.
        device: DeviceId,
        /// What it carries.
        media: Vec<Media> = default,
        /// It is an application that describes its media itself, with `negotiate`.
        application: bool = default,
        /// It rings: for the call, or for what is to come to it.
        ringing: bool = default,
    }
}

/// A call as the provider knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Call {
    /// Its number.
    pub id: CallId,
    /// Where it stands.
    pub state: State,
    /// Who is in it.
    pub parties: Vec<Party>,
    /// How it came about.
    pub constructed: Constructed,
    /// When it began, in milliseconds since 1970, UTC.
    pub started_at: u64,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<u64>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// Where it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The number of the room that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The room waits for its PIN, in digits.
    #[serde(default, skip_serializing_if = "crate::topic::declare::is_absent")]
    pub asks_pin: bool,
    /// Nobody may join.
    #[serde(default, skip_serializing_if = "crate::topic::declare::is_absent")]
    pub locked: bool,
    /// Why it ended or failed, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The call that it became part of when it ended: there its parties talk on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<CallId>,
    /// It is one of more than two, or is to be. Not shown: it decides what is possible.
    #[serde(skip)]
    pub conference: bool,
    /// Somebody who is not in it may pick it up. Not shown: it decides what is possible.
    #[serde(skip)]
    pub waits: bool,
}

/// A call as one login sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallView {
    /// The call.
    #[serde(flatten)]
    pub call: Call,
    /// What the login may do with it now.
    pub actions: Actions,
}

/// What a provider gives back for a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Acted {
    /// The call as it is now.
    pub call: Call,
    /// The switch's session description, for an application that is itself the device.
    pub sdp: Option<Sdp>,
}

words! {
    /// A kind of media.
    Media {
        /// Audio.
        Audio = "audio",
        /// Video.
        Video = "video",
    }
    /// What a description is, in the words of WebRTC.
    SdpType {
        /// An offer.
        Offer = "offer",
        /// An answer to what was offered before the call is answered: early media.
        Pranswer = "pranswer",
        /// The answer.
        Answer = "answer",
        /// The last offer is taken back, or refused.
        Rollback = "rollback",
        /// The switch asks for an offer.
        Request = "request",
    }
    /// What a guided call is made for.
    Purpose {
        /// The waiting call is transferred.
        Transfer = "transfer",
        /// The waiting call is joined.
        Conference = "conference",
    }
    /// What the calling party of a declined call is told.
    DeclineReason {
        /// The user does not want the call.
        Declined = "declined",
        /// The user is busy.
        Busy = "busy",
    }
    /// Where a call stands.
    State {
        /// It rings, or is about to.
        Ringing = "ringing",
        /// Its parties talk.
        Connected = "connected",
        /// It waits in a slot.
        Parked = "parked",
        /// It is over.
        Ended = "ended",
    }
    /// Where a party is in a call.
    PartyState {
        /// They call and wait for an answer.
        Dialing = "dialing",
        /// Their devices ring.
        Ringing = "ringing",
        /// They talk.
        Connected = "connected",
        /// They put the call on hold.
        Held = "held",
        /// They were parked.
        Parked = "parked",
        /// They are no longer in it.
        Left = "left",
    }
    /// The way a call came about.
    How {
        /// It was dialled.
        Direct = "direct",
        /// It was forwarded.
        Forwarded = "forwarded",
        /// It was transferred.
        Transferred = "transferred",
        /// It was picked up.
        PickedUp = "picked-up",
        /// Calls were joined.
        Conference = "conference",
    }
    /// What happened to a call.
    Change {
        /// It began; for the called user, it rings.
        Ringing = "ringing",
        /// It was answered.
        Connected = "connected",
        /// Its state, parties, devices or actions changed.
        Changed = "changed",
        /// It is over.
        Ended = "ended",
    }
    /// Something to do with a call, or with telephony as a whole.
    Action {
        /// Call somebody.
        MakeCall = "make-call",
        /// Answer.
        Answer = "answer",
        /// Decline.
        Decline = "decline",
        /// Put on hold.
        Hold = "hold",
        /// Take off hold.
        Resume = "resume",
        /// Hang up.
        Drop = "drop",
        /// Transfer.
        Transfer = "transfer",
        /// Join others.
        Conference = "conference",
        /// Park.
        Park = "park",
        /// Pick up.
        Pickup = "pickup",
        /// Send digits.
        Dtmf = "dtmf",
        /// Move to another device.
        Move = "move",
        /// Split over two devices.
        Split = "split",
        /// Renegotiate media.
        Negotiate = "negotiate",
        /// Take media from the others.
        Mute = "mute",
        /// Give it to them again.
        Unmute = "unmute",
        /// Let nobody join.
        Lock = "lock",
        /// Let people join again.
        Unlock = "unlock",
        /// Remove somebody.
        Kick = "kick",
        /// Make somebody the moderator.
        Moderate = "moderate",
    }
}

impl CallView {
    pub(crate) fn new(call: Call, caller: &Caller) -> Self {
        Self { actions: call.actions(caller), call: call.seen_by(caller) }
    }
}

impl CallReply {
    pub(crate) fn new(acted: Acted, caller: &Caller) -> Self {
        Self { call: CallView::new(acted.call, caller), sdp: acted.sdp }
    }
}
