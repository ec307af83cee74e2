//! `tandem call`: calls in progress, what may be done with them, and why they ended.

mod show;
mod watch;

use cas::text::{CallId, Destination, DeviceId, Digits, Line, UserName};
use serde_json::{Value, json};

use super::command::{Command, Does, Options, run as run_command};
use super::table::{View, plain};

pub(super) use show::{COLUMNS, sentence};

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// List calls in progress
    List {
        /// Only this user's; with --pickup what this user may pick up
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
        /// What may be picked up instead: parked calls, and those that ring at colleagues
        #[arg(long)]
        pickup: bool,
    },
    /// Show a call: who is in it, with which devices, and what may be done with it
    Show(Call),
    /// Follow a call, or all calls, as they change
    Watch(watch::Args),
    /// Say in one sentence why a call ended or failed
    Why(Call),
    /// Call somebody from a user's device, which rings first
    #[command(visible_alias = "add")]
    Make {
        /// What is dialled: a number, a user, the number of a room, or a URI
        #[arg(value_parser = Destination::parse)]
        destination: Destination,
        /// For whom; absent: the caller
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
        /// The device that calls; absent: whichever of the user's answers first
        #[arg(long, value_parser = DeviceId::parse)]
        device: Option<DeviceId>,
        /// With video
        #[arg(long)]
        video: bool,
        /// The device that carries video, where the other one is to carry only audio
        #[arg(long, value_name = "DEVICE", value_parser = DeviceId::parse)]
        video_device: Option<DeviceId>,
    },
    /// Answer a ringing call on a device
    Answer {
        #[command(flatten)]
        side: Side,
        /// The device; absent: the only one that rings
        #[arg(long, value_parser = DeviceId::parse)]
        device: Option<DeviceId>,
        /// The device that carries video, where the other one is to carry only audio
        #[arg(long, value_name = "DEVICE", value_parser = DeviceId::parse)]
        video_device: Option<DeviceId>,
    },
    /// Decline a ringing call
    Decline {
        #[command(flatten)]
        side: Side,
        /// Say that the user is busy
        #[arg(long)]
        busy: bool,
    },
    /// Move a user's side of a call to another device, without a gap
    Move(Move),
    /// Split a user's side of a call over two devices: audio on one, video on the other
    Split(Split),
    /// Hang up
    Drop(Side),
    /// Put a call on hold
    Hold(Side),
    /// Take a call off hold
    Resume(Side),
    /// Transfer the other party
    Transfer {
        #[command(flatten)]
        side: Side,
        /// Where to, without asking there first; also the number of a room
        #[arg(long, value_name = "DESTINATION", value_parser = Destination::parse, required_unless_present = "consult")]
        to: Option<Destination>,
        /// The call with the party that was asked first
        #[arg(long, value_name = "CALL", value_parser = CallId::parse, conflicts_with = "to")]
        consult: Option<CallId>,
    },
    /// Join other calls and destinations to a call
    Conference {
        #[command(flatten)]
        side: Side,
        /// A call that joins; may be repeated
        #[arg(long = "join", value_name = "CALL", value_parser = CallId::parse, required_unless_present = "destinations")]
        calls: Vec<CallId>,
        /// A destination that is called and joins, may be repeated; or the number of a room, into which all go
        #[arg(long = "to", value_name = "DESTINATION", value_parser = Destination::parse)]
        destinations: Vec<Destination>,
    },
    /// Keep a party's sound from the others: a user's own, or as the moderator of a conference another's
    Mute {
        #[command(flatten)]
        party: Party,
        /// Let the others hear it again
        #[arg(long)]
        off: bool,
    },
    /// Let nobody join a conference; for its moderator
    Lock {
        #[command(flatten)]
        side: Side,
        /// Let people join again
        #[arg(long)]
        off: bool,
    },
    /// Remove a party from a conference; for its moderator
    Kick {
        #[command(flatten)]
        side: Side,
        /// Who: a user, or a number
        #[arg(value_parser = Line::parse)]
        party: Line,
    },
    /// Make another user the moderator of a conference; for its moderator
    Moderate {
        #[command(flatten)]
        side: Side,
        /// Who
        #[arg(value_parser = Line::parse)]
        party: Line,
    },
    /// Park a call
    Park {
        #[command(flatten)]
        side: Side,
        /// Where; absent: the next free slot
        #[arg(long, value_parser = Line::parse)]
        slot: Option<Line>,
    },
    /// Pick up a parked call, or one that rings elsewhere
    Pickup {
        /// Number of the call
        #[arg(value_parser = CallId::parse, required_unless_present = "slot")]
        call: Option<CallId>,
        /// The slot that it is parked in
        #[arg(long, value_parser = Line::parse, conflicts_with = "call")]
        slot: Option<Line>,
        /// For whom; absent: the caller
        #[arg(long, value_parser = UserName::parse)]
        user: Option<UserName>,
        /// The device that gets the call
        #[arg(long, value_parser = DeviceId::parse)]
        device: Option<DeviceId>,
    },
    /// Send digits to the other party
    Dtmf {
        #[command(flatten)]
        side: Side,
        /// Digits of 0 to 9, A to D, * and #
        #[arg(value_parser = Digits::parse)]
        digits: Digits,
    },
}

/// Names a call.
#[derive(clap::Args)]
pub(super) struct Call {
    /// Number of the call, as `tandem call list` and `tandem history list` show it
    #[arg(value_parser = CallId::parse)]
    call: CallId,
}

/// Names one side of a call.
#[derive(clap::Args)]
pub(super) struct Side {
    /// Number of the call
    #[arg(value_parser = CallId::parse)]
    call: CallId,
    /// For whom; absent: the caller, or the only user in the call
    #[arg(long, value_parser = UserName::parse)]
    user: Option<UserName>,
}

/// Names a party of a call, or one side of it.
#[derive(clap::Args)]
pub(super) struct Party {
    #[command(flatten)]
    side: Side,
    /// Who: a user, or a number; absent: the user themself
    #[arg(value_parser = Line::parse)]
    party: Option<Line>,
}

/// Arguments of `move`.
#[derive(clap::Args)]
pub(super) struct Move {
    #[command(flatten)]
    side: Side,
    /// The device that the call goes to
    #[arg(long, value_name = "DEVICE", value_parser = DeviceId::parse)]
    to: DeviceId,
    /// What goes there; absent: everything
    #[arg(long, value_name = "MEDIA", value_parser = ["audio", "video"])]
    only: Option<String>,
    /// The devices that have it go on, too
    #[arg(long)]
    keep: bool,
}

/// Arguments of `split`.
#[derive(clap::Args)]
pub(super) struct Split {
    #[command(flatten)]
    side: Side,
    /// The device that carries audio
    #[arg(long, value_name = "DEVICE", value_parser = DeviceId::parse)]
    audio: DeviceId,
    /// The device that carries video
    #[arg(long, value_name = "DEVICE", value_parser = DeviceId::parse)]
    video: DeviceId,
}

impl Move {
    /// Makes the request.
    pub(super) fn command(&self) -> Command {
        self.side.acts("move", json!({ "device": self.to, "media": self.only.as_ref().map(|only| [only]), "keep": self.keep }))
    }
}

impl Split {
    /// Makes the request.
    pub(super) fn command(&self) -> Command {
        self.side.acts("split", json!({ "audio": self.audio, "video": self.video }))
    }
}

impl Side {
    fn body(&self, more: Value) -> Value {
        let mut body = json!({ "call": self.call, "user": self.user });
        if let (Some(members), Value::Object(more)) = (body.as_object_mut(), more) {
            members.extend(more);
        }
        body
    }

    fn acts(&self, message: &'static str, more: Value) -> Command {
        Command::writes("tel", message, self.body(more), View::By(|reply| sentence(&reply["call"])))
    }
}

pub(super) fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    let command = match verb {
        Verb::List { user, pickup } => {
            let none = if pickup { "There is nothing to pick up." } else { "There are no calls." };
            Command::reads("tel", "list", json!({ "user": user, "pickup": pickup }), View::List("/calls", COLUMNS, none))
        }
        Verb::Show(Call { call }) => Command::reads("tel", "show", json!({ "call": call }), View::By(show::whole)),
        Verb::Watch(args) => return watch::run(options, &args),
        Verb::Why(Call { call }) => {
            Command::reads("tel", "why", json!({ "call": call }), View::By(|verdict| show::why(&plain(&verdict["why"]))))
        }
        Verb::Make { destination, user, device, video, video_device } => {
            let media = video.then_some(["audio", "video"]);
            let body = json!({
                "destination": destination, "user": user, "device": device, "video-device": video_device, "media": media,
            });
            Command::writes("tel", "make-call", body, View::By(|reply| sentence(&reply["call"])))
        }
        Verb::Answer { side, device, video_device } => side.acts("answer", json!({ "device": device, "video-device": video_device })),
        Verb::Decline { side, busy } => side.acts("decline", json!({ "reason": busy.then_some("busy") })),
        Verb::Move(args) => args.command(),
        Verb::Split(args) => args.command(),
        Verb::Drop(side) => {
            let of_whom = side.user.as_ref().map_or_else(String::new, |user| format!(" for {user}"));
            let does = Does::Destroys(format!("Hang up call {}{of_whom}?", side.call));
            Command { does, ..side.acts("drop", json!({})) }
        }
        Verb::Hold(side) => side.acts("hold", json!({})),
        Verb::Resume(side) => side.acts("resume", json!({})),
        Verb::Transfer { side, to, consult } => side.acts("transfer", json!({ "destination": to, "consult": consult })),
        Verb::Conference { side, calls, destinations } => side.acts("conference", json!({ "calls": calls, "destinations": destinations })),
        Verb::Mute { party: Party { side, party }, off } => side.acts(if off { "unmute" } else { "mute" }, json!({ "party": party })),
        Verb::Lock { side, off } => side.acts(if off { "unlock" } else { "lock" }, json!({})),
        Verb::Kick { side, party } => side.acts("kick", json!({ "party": party })),
        Verb::Moderate { side, party } => side.acts("moderate", json!({ "party": party })),
        Verb::Park { side, slot } => side.acts("park", json!({ "slot": slot })),
        Verb::Pickup { call, slot, user, device } => {
            let body = json!({ "call": call, "slot": slot, "user": user, "device": device });
            Command::writes("tel", "pickup", body, View::By(|reply| sentence(&reply["call"])))
        }
        Verb::Dtmf { side, digits } => side.acts("dtmf", json!({ "digits": digits })),
    };
    run_command(options, &command)
}
