//! What client applications and the command line want of calls: a user and a device become a party and a target, the command goes to the
//! calls, and what takes time is answered when it is over.

use media::Kinds;
use sip::Aor;
use sip::registrar;
use tokio::sync::oneshot;

use super::Signaling;
use super::resolve::{Job, Way};
use crate::call::command::{Answer, Command, Refusal};
use crate::call::party::PartyId;
use crate::call::{self, Target};
use crate::device;

/// Most commands under way at a time; a further one is refused.
const MAX_UNDER_WAY: usize = 4096;

/// What is wanted of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The user puts the others on hold.
    Hold,
    /// The user talks again.
    Resume,
    /// The user leaves: hangs up, gives up or declines.
    Drop,
    /// The others are sent digits.
    Digits(String),
    /// Everything goes to this device.
    Move(device::Id),
    /// Audio goes to the first device, video to the second.
    Split(device::Id, device::Id),
    /// These calls of the user, and these destinations, come into the call.
    Gather(Vec<call::Id>, Vec<String>),
    /// The others do not get these kinds of a party, of the user if none is named; or get them again.
    Mute(Option<String>, Kinds, bool),
    /// Nobody joins; or people join again.
    Lock(bool),
    /// A party is removed.
    Kick(String),
    /// A party becomes the moderator.
    Moderate(String),
}

/// Something that is wanted of a user's side of a call.
#[derive(Debug)]
pub(crate) struct Order {
    /// The call.
    pub(crate) call: call::Id,
    /// Whose side.
    pub(crate) user: String,
    /// What.
    pub(crate) want: Want,
    /// Who waits for what comes of it.
    pub(crate) answer: oneshot::Sender<Result<(), Unable>>,
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unable {
    /// The calls refused it, or it failed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There are too many.
    #[error("too many commands are under way")]
    TooMany,
}

/// An order whose ways to devices are being looked up.
#[derive(Debug)]
pub(super) struct Prepared {
    order: Order,
    party: PartyId,
    targets: Vec<Target>,
}

impl Signaling {
    pub(super) fn handle_order(&mut self, order: Order) {
        if self.ordered.len() >= MAX_UNDER_WAY {
            let _gone = order.answer.send(Err(Unable::TooMany));
            return;
        }
        if let Want::Gather(calls, destinations) = &order.want {
            let (calls, destinations) = (calls.clone(), destinations.clone());
            return self.gather(order, calls, &destinations);
        }
        let devices = match &order.want {
            Want::Gather(..) | Want::Mute(..) | Want::Lock(_) | Want::Kick(_) | Want::Moderate(_) => Vec::new(),
            Want::Hold | Want::Resume | Want::Drop | Want::Digits(_) => Vec::new(),
            Want::Move(device) => vec![device.clone()],
            Want::Split(audio, video) => vec![audio.clone(), video.clone()],
        };
        let view = self.calls.view(order.call);
        let found = match view.as_ref().map(|view| view.party_of(&order.user)) {
            None => Err(Refusal::NoCall),
            Some(None) => Err(Refusal::NoParty),
            Some(Some(party)) => {
                let targets = devices.iter().map(|device| self.target(&order.user, device).ok_or(Refusal::NoDevice));
                targets.collect::<Result<Vec<_>, _>>().map(|targets| (party.id, targets))
            }
        };
        match found {
            Err(refusal) => {
                let _gone = order.answer.send(Err(refusal.into()));
            }
            Ok((party, targets)) => {
                let (ways, targets) = targets.into_iter().unzip();
                self.resolve_all(ways, Job::Order(Box::new(Prepared { order, party, targets })));
            }
        }
    }

    /// Finds a device of a user.
    fn target(&self, user: &str, device: &device::Id) -> Option<(Way, Target)> {
        let srtp = self.users.named(user)?.srtp;
        let bindings = self.locations.of(&Aor::new(user, &self.domain)?);
        let binding = bindings.iter().find(|binding| device::Id::of(binding) == *device)?;
        let reachable = registrar::targets(std::slice::from_ref(binding), self.unix()).into_iter().next()?;
        Some(self.device(&reachable, &bindings, srtp))
    }

    /// Gives an order to the calls, now that its ways are known.
    pub(super) fn carry_out_order(&mut self, prepared: Prepared, hops: Vec<Vec<sip::Hop>>) {
        let Prepared { order: Order { call, want, answer, .. }, party, mut targets } = prepared;
        for (target, hops) in targets.iter_mut().zip(hops) {
            target.hops = hops;
        }
        let command = match (want, targets.as_slice()) {
            (Want::Hold, _) => Command::Hold { call, party },
            (Want::Resume, _) => Command::Resume { call, party },
            (Want::Drop, _) => Command::Drop { call, party },
            (Want::Digits(digits), _) => Command::Digits { call, party, digits },
            (Want::Move(_), [target]) => Command::Move { call, party, kinds: Kinds::BOTH, target: target.clone() },
            (Want::Split(..), [audio, video]) => Command::Split { call, party, audio: audio.clone(), video: video.clone() },
            (Want::Lock(locked), _) => Command::Lock { call, by: party, locked },
            (want @ (Want::Mute(..) | Want::Kick(_) | Want::Moderate(_)), _) => match self.moderation((call, party), want) {
                Some(command) => command,
                None => {
                    let _gone = answer.send(Err(Refusal::NoParty.into()));
                    return;
                }
            },
            (Want::Move(_) | Want::Split(..) | Want::Gather(..), _) => {
                let _gone = answer.send(Err(Refusal::NoDevice.into()));
                return;
            }
        };
        let (calls, mut switch) = self.calls();
        let done = match calls.command(&mut switch, command) {
            Ok(Answer::Pending(ticket)) => {
                self.ordered.insert(ticket, answer);
                return self.settle();
            }
            Ok(Answer::Done) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        };
        let _gone = answer.send(done);
        // a look-up may have come between: nothing else carries out what this led to
        self.settle();
    }
}
