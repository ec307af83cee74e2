//! What client applications and the command line want of calls: users, devices and what was dialled become parties and targets, the command
//! goes to the calls, and what takes time is answered when it is over.

use std::sync::Arc;

use media::Kinds;
use sip::message::header::NameAddr;
use sip::registrar;
use sip::{Aor, StatusCode};
use tokio::sync::oneshot;

use super::Signaling;
use super::conference::{Dialled, muting, named};
use super::refer::{is_one_of, reachable};
use super::resolve::{Job, Way};
use crate::call::command::{Answer, Command, Refusal};
use crate::call::make::{Alert, Destination, Make};
use crate::call::party::{PartyId, Person, Who};
use crate::call::transfer::Referral;
use crate::call::{self, Target};
use crate::config::Group;
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
    /// The user leaves: hangs up, gives up or declines. Of somebody who is no party: the call ends.
    Drop,
    /// The user does not want a call that rings: what the caller is told.
    Decline(StatusCode),
    /// A device that rings answers, and another one carries video then.
    Answer(Option<device::Id>, Option<device::Id>),
    /// The others are sent digits.
    Digits(String),
    /// The kinds go to this device.
    Move(device::Id, Kinds),
    /// This device has the kinds, too.
    Join(device::Id, Kinds),
    /// Audio goes to the first device, video to the second.
    Split(device::Id, device::Id),
    /// The other party is sent to what was dialled.
    Transfer(String),
    /// The other party talks to that of another call of the user.
    Connect(call::Id),
    /// The other party waits in a slot, or in any.
    Park(Option<u16>),
    /// The user takes the call, by this device or by whichever answers first.
    Pickup(Option<device::Id>),
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
    pub(crate) answer: oneshot::Sender<Result<call::Id, Unable>>,
}

/// A call that is wanted.
#[derive(Debug)]
pub(crate) struct NewCall {
    /// Who calls.
    pub(crate) user: String,
    /// By which device; none: whichever answers first.
    pub(crate) device: Option<device::Id>,
    /// The device for video, where the other one carries only audio.
    pub(crate) video: Option<device::Id>,
    /// What is offered.
    pub(crate) kinds: Kinds,
    /// Whom.
    pub(crate) destination: String,
    /// What the destination is called on the user's device.
    pub(crate) name: Option<String>,
    /// Who waits for what comes of it.
    pub(crate) answer: oneshot::Sender<Result<call::Id, Unable>>,
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unable {
    /// The calls refused it, or it failed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was dialled reaches nobody.
    #[error("nobody is reached by this number or address")]
    UnknownDestination,
    /// There is no such user.
    #[error("there is no such user")]
    UnknownUser,
    /// What was dialled is a feature code.
    #[error("this is a feature code, which only phones dial: ask for pickup, park or move instead")]
    FeatureCode,
    /// A room is called, and somebody else besides.
    #[error("a room is joined alone: call others into it when the call is there")]
    RoomAlone,
    /// What was dialled is the user's own.
    #[error("this is the user's own number or address")]
    OwnNumber,
    /// The switch is about to stop.
    #[error("the switch takes no new calls")]
    Draining,
    /// There are too many.
    #[error("too many commands are under way")]
    TooMany,
}

/// Makes a command of the targets whose ways are known now.
pub(super) type Finish = Box<dyn FnOnce(Vec<Target>) -> Result<Command, Refusal> + Send>;

/// An order whose ways to devices are being looked up.
pub(super) struct Prepared {
    call: call::Id,
    answer: oneshot::Sender<Result<call::Id, Unable>>,
    targets: Vec<Target>,
    finish: Finish,
}

/// A call whose ways to devices are being looked up: those of the caller, the one for video, those of the callee.
pub(super) struct Planned {
    make: Make,
    answer: oneshot::Sender<Result<call::Id, Unable>>,
}

impl Signaling {
    pub(super) fn handle_order(&mut self, order: Order) {
        let Order { call, user, want, answer } = order;
        let prepared = if self.ordered.len() < MAX_UNDER_WAY { self.prepare(call, &user, want) } else { Err(Unable::TooMany) };
        match prepared {
            Ok((targets, finish)) => {
                let (ways, targets) = targets.into_iter().unzip();
                self.resolve_all(ways, Job::Order(Box::new(Prepared { call, answer, targets, finish })));
            }
            Err(unable) => {
                let _gone = answer.send(Err(unable));
            }
        }
    }

    /// Finds out which devices an order is about, and what is to be done with them.
    fn prepare(&self, call: call::Id, user: &str, want: Want) -> Result<(Vec<(Way, Target)>, Finish), Unable> {
        let view = self.calls.view(call).ok_or(Refusal::NoCall)?;
        if let Want::Pickup(device) = want {
            let allows = |other: &str| Group::joins(&self.groups, user, other);
            let is_theirs =
                view.slot.is_some() || view.party(PartyId::CALLEE).and_then(|party| party.who.user()).is_some_and(|user| allows(user));
            let person = self.person(user).filter(|_| is_theirs).ok_or(Refusal::NotYours)?;
            let alert = device.as_ref().map_or(Alert::Ring, |_| Alert::Answer);
            let finish = move |targets| Ok(Command::Pickup { call, person, devices: reachable(targets), alert });
            return Ok((self.targets(user, device.as_ref())?, Box::new(finish)));
        }
        let party = match (view.party_of(user), &want) {
            (Some(party), _) => party.id,
            (None, Want::Drop) => {
                let reason = format!("ended by {user}");
                return Ok((Vec::new(), Box::new(move |_| Ok(Command::End { call, reason }))));
            }
            (None, _) => return Err(Refusal::NoParty.into()),
        };
        let plain = |command: Command| -> (Vec<(Way, Target)>, Finish) { (Vec::new(), Box::new(move |_| Ok(command))) };
        Ok(match want {
            Want::Hold => plain(Command::Hold { call, party }),
            Want::Resume => plain(Command::Resume { call, party }),
            Want::Drop => plain(Command::Drop { call, party }),
            Want::Decline(status) => plain(Command::Decline { call, party, status }),
            Want::Digits(digits) => plain(Command::Digits { call, party, digits }),
            Want::Connect(other) => plain(Command::Connect { call, party, other }),
            Want::Park(slot) => plain(Command::Park { call, party, slot }),
            Want::Answer(device, video) => {
                let targets = video.as_ref().map(|video| self.targets(user, Some(video))).transpose()?.unwrap_or_default();
                let finish = move |mut targets: Vec<Target>| {
                    let video = targets.pop().map(Box::new);
                    Ok(Command::Answer { call, party, device, video })
                };
                (targets, Box::new(finish))
            }
            Want::Move(device, kinds) => {
                let finish = move |targets| Ok(Command::Move { call, party, kinds, target: only(targets)? });
                (self.targets(user, Some(&device))?, Box::new(finish))
            }
            Want::Join(device, kinds) => {
                let finish = move |targets| Ok(Command::Join { call, party, kinds, target: only(targets)? });
                (self.targets(user, Some(&device))?, Box::new(finish))
            }
            Want::Split(audio, video) => {
                let mut targets = self.targets(user, Some(&audio))?;
                targets.extend(self.targets(user, Some(&video))?);
                let finish = move |targets: Vec<Target>| match <[Target; 2]>::try_from(targets) {
                    Ok([audio, video]) => Ok(Command::Split { call, party, audio, video }),
                    Err(_) => Err(Refusal::NoDevice),
                };
                (targets, Box::new(finish))
            }
            Want::Transfer(destination) => {
                let callee = match self.dialled(&destination)? {
                    Dialled::Room(room) => return Ok(plain(Command::Send { call, party, room: Arc::clone(room) })),
                    Dialled::User(callee) => callee,
                };
                let to = self.person(&callee.name).ok_or(Unable::UnknownDestination)?;
                let mut targets = self.targets(&callee.name, None).unwrap_or_default();
                // To oneself: to one's other devices.
                let here = self.devices_in(call);
                targets.retain(|(_, target)| !is_one_of(target, &here));
                let finish = move |targets| {
                    let referral = Referral { to, headers: sip::message::Headers::default(), targets: reachable(targets), report: None };
                    Ok(Command::Transfer { call, party, referral: Box::new(referral) })
                };
                (targets, Box::new(finish))
            }
            Want::Gather(calls, destinations) => self.gathering((call, party), calls, &destinations)?,
            Want::Lock(locked) => plain(Command::Lock { call, by: party, locked }),
            Want::Mute(name, kinds, mutes) => plain(muting(&view, party, (name, kinds, mutes))?),
            Want::Kick(name) => plain(Command::Kick { call, by: party, party: named(&view, &name)? }),
            Want::Moderate(name) => plain(Command::Moderate { call, by: party, party: named(&view, &name)? }),
            Want::Pickup(_) => return Err(Refusal::NotYours.into()),
        })
    }

    /// Finds a device of a user, or all of them.
    pub(super) fn targets(&self, user: &str, device: Option<&device::Id>) -> Result<Vec<(Way, Target)>, Refusal> {
        let none = || device.map_or(Refusal::NothingRegistered, |_| Refusal::UnknownDevice);
        let srtp = self.users.named(user).ok_or_else(none)?.srtp;
        let bindings = self.locations.of(&Aor::new(user, &self.domain).ok_or_else(none)?);
        let meant: Vec<_> =
            bindings.iter().filter(|binding| device.is_none_or(|device| device::Id::of(binding) == *device)).cloned().collect();
        let reachable = registrar::targets(&meant, self.unix());
        if reachable.is_empty() {
            return Err(none());
        }
        Ok(reachable.iter().map(|target| self.device(target, &bindings, srtp)).collect())
    }

    /// Returns a user as calls know them.
    pub(super) fn person(&self, user: &str) -> Option<Person> {
        let user = self.users.named(user)?;
        let aor = Aor::new(&user.name, &self.domain)?;
        let shown = NameAddr::new(aor.uri()?).with_display(user.shown.as_deref().unwrap_or_default());
        Some(Person { who: Who::User((*user.name).into()), address: aor.as_str().into(), shown })
    }

    /// Gives an order to the calls, now that its ways are known.
    pub(super) fn carry_out_order(&mut self, prepared: Prepared, hops: Vec<Vec<sip::Hop>>) {
        let Prepared { call, answer, targets, finish } = prepared;
        let targets = targets.into_iter().zip(hops).map(|(target, hops)| Target { hops, ..target }).collect();
        let (calls, mut switch) = self.calls();
        let done = match finish(targets).and_then(|command| calls.command(&mut switch, command)) {
            Ok(Answer::Pending(ticket)) => {
                self.ordered.insert(ticket, (call, answer));
                return self.settle();
            }
            Ok(Answer::Done) => Ok(call),
            Err(refusal) => Err(refusal.into()),
        };
        let _gone = answer.send(done);
        // a look-up may have come between: nothing else carries out what this led to
        self.settle();
    }

    /// Makes a call.
    pub(super) fn handle_new_call(&mut self, wanted: NewCall) {
        match self.plan(&wanted) {
            Ok((ways, make)) => self.resolve_all(ways, Job::Make(Box::new(Planned { make, answer: wanted.answer }))),
            Err(unable) => {
                if matches!(unable, Unable::UnknownDestination) {
                    let dialled = self.route().uri(&wanted.destination).map(|uri| self.route().written(&uri));
                    self.note_unknown(&wanted.user, &dialled.unwrap_or(wanted.destination));
                }
                let _gone = wanted.answer.send(Err(unable));
            }
        }
    }

    fn plan(&self, wanted: &NewCall) -> Result<(Vec<Way>, Make), Unable> {
        if self.draining.is_some() {
            return Err(Unable::Draining);
        }
        if self.ordered.len() >= MAX_UNDER_WAY {
            return Err(Unable::TooMany);
        }
        let (mut callee, is_named, others, to) = match self.dialled(&wanted.destination)? {
            Dialled::User(callee) if *callee.name == *wanted.user => return Err(Unable::OwnNumber),
            Dialled::User(callee) => {
                let (ways, targets) = self.targets(&callee.name, None).unwrap_or_default().into_iter().unzip();
                let person = self.person(&callee.name).ok_or(Unable::UnknownDestination)?;
                (person, callee.shown.is_some(), ways, Destination::Devices(targets))
            }
            Dialled::Room(room) => {
                let person = self.room_shown(room).ok_or(Unable::UnknownDestination)?;
                (person, false, Vec::new(), Destination::Room(Arc::clone(room)))
            }
        };
        let caller = self.person(&wanted.user).ok_or(Unable::UnknownUser)?;
        if let Some(name) = wanted.name.as_deref().filter(|_| !is_named) {
            callee.shown = callee.shown.with_display(name);
        }
        let (mut ways, devices): (Vec<_>, Vec<_>) = self.targets(&wanted.user, wanted.device.as_ref())?.into_iter().unzip();
        let video = wanted.video.as_ref().filter(|video| Some(*video) != wanted.device.as_ref());
        let video = video.map(|device| self.targets(&wanted.user, Some(device))).transpose()?.unwrap_or_default().pop();
        let (way, video) = video.unzip();
        ways.extend(way.into_iter().chain(others));
        let alert = wanted.device.as_ref().map_or(Alert::Ring, |_| Alert::Answer);
        let kinds = wanted.kinds;
        let written = || self.route().uri(&wanted.destination).map_or_else(String::new, |uri| self.route().written(&uri));
        let dialled = if let Destination::Room(room) = &to { room.number.to_string() } else { written() };
        Ok((ways, Make { caller, devices, alert, video, kinds, dialled, callee, to }))
    }

    /// Starts a call that was wanted, now that its ways are known.
    pub(super) fn start_made(&mut self, planned: Planned, hops: Vec<Vec<sip::Hop>>) {
        let Planned { mut make, answer } = planned;
        let others = if let Destination::Devices(targets) = &mut make.to { targets.as_mut_slice() } else { &mut [] };
        let devices = make.devices.iter_mut().chain(&mut make.video).chain(others);
        for (target, hops) in devices.zip(hops) {
            target.hops = hops;
        }
        make.devices = reachable(make.devices);
        if let Destination::Devices(targets) = &mut make.to {
            *targets = reachable(std::mem::take(targets));
        }
        let (calls, mut switch) = self.calls();
        match calls.make(&mut switch, make) {
            Ok((call, ticket)) => {
                self.ordered.insert(ticket, (call, answer));
            }
            Err(refusal) => {
                let _gone = answer.send(Err(refusal.into()));
            }
        }
        self.settle();
    }
}

/// Returns the one device that was asked for.
fn only(targets: Vec<Target>) -> Result<Target, Refusal> {
    <[Target; 1]>::try_from(targets).map(|[target]| target).map_err(|_| Refusal::NoDevice)
}
