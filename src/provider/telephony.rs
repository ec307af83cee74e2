//! Calls, and who is in them with which devices.

use std::sync::Arc;

use cas::error::{Error, Fault};
use cas::permission::Caller;
use cas::provider::{Ending, Graph, Telephony};
use cas::text::{CallId, DeviceId, Line, UserName};
use cas::topic::graph;
use cas::topic::tel::{self, Act, Acted, Call, MakeCall, Media, PartyState, Waitings};
use media::Kinds;
use sip::StatusCode;

use super::history::read;
use super::{Provider, view};
use crate::call::Calls;
use crate::call::command::Refusal;
use crate::call::graph::{Leg, Standing, View};
use crate::signaling::{Guide, NewCall, Purpose, Unable, Want};
use crate::{call, device, history, signaling};

impl Telephony for Provider {
    async fn call(&self, call: &CallId) -> Result<Call, Error> {
        view::call(&*self.view(call).await?).ok_or_else(|| unknown(call))
    }

    async fn calls(&self, user: Option<&UserName>) -> Result<Vec<Call>, Error> {
        let views = self.signaling.calls(user.map(ToString::to_string)).await?;
        Ok(views.iter().filter_map(|view| view::call(view)).collect())
    }

    async fn waiting(&self, user: Option<&UserName>) -> Result<Waitings, Error> {
        let signaling::Waiting { calls, at } = self.signaling.waiting(user.map(ToString::to_string)).await?;
        let calls = calls.iter().filter_map(|view| view::waiting(view)).map(|waiting| waiting.call).collect();
        let at = at.map(|users| users.iter().filter_map(|user| UserName::parse(user).ok()).collect());
        Ok(Waitings { calls, at })
    }

    async fn parked(&self, line: &Line) -> Result<Call, Error> {
        let found = self.signaling.parked(slot(line)?).await?.and_then(|view| view::call(&view));
        found
            .ok_or_else(|| Error { field: Some("slot".into()), ..Error::new(Fault::NotFound, format!("no call is parked in slot {line}")) })
    }

    async fn make_call(&self, caller: &Caller, user: &UserName, request: MakeCall) -> Result<Acted, Error> {
        let Some(guided) = request.guided.clone() else { return self.make_plain_call(caller, user, request).await };
        let waiting = id(&guided.call)?;
        let was_held = self.call(&guided.call).await?.party(user).is_some_and(|party| party.state == PartyState::Held);
        let order = |want| self.signaling.order(waiting, user.as_str(), want);
        order(Want::Hold).await?.map_err(|unable| refused(&unable, MAKE_CALL))?;
        match self.make_plain_call(caller, user, request).await {
            Ok(acted) => {
                let purpose = match guided.purpose {
                    tel::Purpose::Transfer => Purpose::Transfer,
                    tel::Purpose::Conference => Purpose::Conference,
                };
                self.signaling.guide(id(&acted.call.id)?, Guide { waiting, user: user.to_string(), purpose, resumes: !was_held }).await?;
                Ok(acted)
            }
            Err(error) => {
                if !was_held {
                    // it may be over meanwhile
                    let _over = order(Want::Resume).await?;
                }
                Err(error)
            }
        }
    }

    async fn act(&self, caller: &Caller, user: &UserName, act: Act) -> Result<Acted, Error> {
        let mut act = match self.describe_by_thin(caller, user, act).await {
            Ok(acted) => return acted,
            Err(other) => *other,
        };
        if let Act::Answer(answer) = &mut act
            && answer.device.is_none()
        {
            answer.device = self.ringing_here(caller, user, &answer.call).await?;
        }
        let (call, action, named) = (act.call().clone(), act.action(), names_party(&act));
        let want = want(act)?.ok_or_else(|| Error::new(Fault::NotSupported, format!("this switch does not do {} yet", action.name())))?;
        let done = self.signaling.order(id(&call)?, user.as_str(), want).await?;
        self.acted(done.map_err(|unable| refused(&unable, (action.name(), named)))?, &[]).await
    }

    async fn register(&self, caller: &Caller, request: tel::Register) -> Result<DeviceId, Error> {
        self.register_thin(caller, request).await
    }

    async fn unregister(&self, caller: &Caller) -> Result<(), Error> {
        self.unregister_thin(caller).await
    }

    async fn why(&self, call: &CallId) -> Result<Ending, Error> {
        let Some(view) = self.signaling.call(id(call)?).await? else {
            let (storage, id) = (self.storage.clone(), id(call)?.0);
            return read(move || history::ending(&storage, id)).await?.ok_or_else(|| unknown(call));
        };
        let users = view.parties.iter().filter_map(|party| UserName::parse(party.who.user()?).ok()).collect();
        Ok(Ending { users, why: view.why.clone().unwrap_or_else(|| "the call goes on".to_owned()) })
    }
}

impl Graph for Provider {
    async fn graph(&self, call: &CallId) -> Result<graph::Graph, Error> {
        view::graph(&*self.view(call).await?).ok_or_else(|| unknown(call))
    }
}

impl Provider {
    async fn make_plain_call(&self, caller: &Caller, user: &UserName, request: MakeCall) -> Result<Acted, Error> {
        if let Some(sdp) = &request.sdp {
            return self.call_by_thin(caller, user, &request, sdp).await;
        }
        let MakeCall { destination, device, video_device, name_hint, media, .. } = request;
        let kinds = if video_device.is_some() { Kinds::BOTH } else { kinds(&media).unwrap_or(Kinds::AUDIO) };
        let made = self.signaling.make(|answer| NewCall {
            user: user.as_str().to_owned(),
            device: device.as_ref().map(device_id),
            video: video_device.as_ref().map(device_id),
            kinds,
            destination: destination.as_str().to_owned(),
            name: name_hint.map(|name| name.as_str().to_owned()),
            answer,
        });
        self.acted(made.await?.map_err(|unable| refused(&unable, MAKE_CALL))?, &[]).await
    }

    /// Returns the device that a caller asks from, if a call of this user rings there.
    async fn ringing_here(&self, caller: &Caller, user: &UserName, call: &CallId) -> Result<Option<DeviceId>, Error> {
        let Some(device) = caller.device.clone().filter(|_| caller.user == *user) else { return Ok(None) };
        let (view, here) = (self.view(call).await?, device_id(&device));
        let rings = |leg: &Leg| leg.state == Standing::Ringing && leg.device.as_ref() == Some(&here);
        Ok(view.party_of(user.as_str()).is_some_and(|party| party.legs.iter().any(rings)).then_some(device))
    }

    async fn view(&self, call: &CallId) -> Result<Arc<View>, Error> {
        self.signaling.call(id(call)?).await?.ok_or_else(|| unknown(call))
    }
}

pub(super) fn id(call: &CallId) -> Result<call::Id, Error> {
    u64::from_str_radix(call.as_str(), 16).map(call::Id).map_err(|_| unknown(call))
}

fn device_id(device: &DeviceId) -> device::Id {
    device::Id::named(device.as_str())
}

/// Returns the kinds of media that are named; none where none is.
fn kinds(media: &[Media]) -> Option<Kinds> {
    let kinds = Kinds { audio: media.contains(&Media::Audio), video: media.contains(&Media::Video) };
    Some(kinds).filter(|kinds| !kinds.is_empty())
}

/// Returns what an act means to the switch; none where it does not do that.
fn want(act: Act) -> Result<Option<Want>, Error> {
    Ok(Some(match act {
        Act::Hold(_) => Want::Hold,
        Act::Resume(_) => Want::Resume,
        Act::Drop(_) => Want::Drop,
        Act::Decline(request) if request.reason == Some(tel::DeclineReason::Busy) => Want::Decline(StatusCode::BUSY_HERE),
        Act::Decline(_) => Want::Decline(StatusCode::DECLINE),
        Act::Dtmf(request) => Want::Digits(request.digits.as_str().to_owned()),
        Act::Move(request) => {
            let (device, kinds) = (device_id(&request.device), kinds(&request.media).unwrap_or(Kinds::BOTH));
            if request.keep { Want::Join(device, kinds) } else { Want::Move(device, kinds) }
        }
        Act::Split(request) => Want::Split(device_id(&request.audio), device_id(&request.video)),
        Act::Transfer(request) => match (request.destination, request.consult) {
            (Some(destination), _) => Want::Transfer(destination.as_str().to_owned()),
            (None, Some(consult)) => Want::Connect(id(&consult)?),
            (None, None) => return Err(Error::field("destination", "expected one of the fields destination and consult")),
        },
        Act::Park(request) => Want::Park(request.slot.as_ref().map(slot).transpose()?),
        Act::Pickup(request) => Want::Pickup(request.device.as_ref().map(device_id)),
        Act::Answer(request) if request.sdp.is_none() => {
            Want::Answer(request.device.as_ref().map(device_id), request.video_device.as_ref().map(device_id))
        }
        Act::Conference(request) => {
            let calls = request.calls.iter().map(id).collect::<Result<_, _>>()?;
            Want::Gather(calls, request.destinations.iter().map(|destination| destination.as_str().to_owned()).collect())
        }
        Act::Mute(request) => Want::Mute(named(request.party.as_ref()), kinds(&request.media).unwrap_or(Kinds::AUDIO), true),
        Act::Unmute(request) => Want::Mute(named(request.party.as_ref()), kinds(&request.media).unwrap_or(Kinds::AUDIO), false),
        Act::Lock(_) => Want::Lock(true),
        Act::Unlock(_) => Want::Lock(false),
        Act::Kick(request) => Want::Kick(request.party.as_str().to_owned()),
        Act::Moderate(request) => Want::Moderate(request.party.as_str().to_owned()),
        Act::Answer(_) | Act::Negotiate(_) => return Ok(None),
    }))
}

fn named(party: Option<&Line>) -> Option<String> {
    party.map(|party| party.as_str().to_owned())
}

fn slot(line: &Line) -> Result<u16, Error> {
    let slot = line.as_str().parse().ok().filter(|slot| (1..=Calls::SLOTS).contains(slot));
    slot.ok_or_else(|| Error::field("slot", format!("expected a number from 1 to {}", Calls::SLOTS)))
}

/// Returns the field that names whom an act brings together with the parties of the call.
fn names_party(act: &Act) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others name nobody, or by this field")]
    match act {
        Act::Transfer(request) if request.destination.is_none() => "consult",
        Act::Conference(_) => "destinations",
        _ => "destination",
    }
}

/// What a call is made by, and whom it names.
const MAKE_CALL: (&str, &str) = ("make-call", "destination");

/// Tells why something was not done with a call: the message by which it was asked for, and the field with whoever is in the call already.
fn refused(unable: &Unable, (message, named): (&str, &str)) -> Error {
    use Refusal::{
        AsksPin, BadDigits, Busy, CallOver, Declined, Elsewhere, Full, HoldsItself, IsRoom, LastDevice, Locked, NoAnswer, NoCall,
        NoConference, NoDevice, NoParty, NoPorts, NoSlot, NoWay, NotAnswered, NotByItself, NotModerator, NotRinging, NotTaken, NotTalking,
        NotYours, NothingRegistered, OtherThread, Present, Removed, Same, Silenced, SlotTaken, TargetGone, TooManyCalls, TooManyDevices,
        TooManyOfTrunk, TooManyOfUser, TooManyParked, UnderWay, UnknownDevice, Unreachable, WhichDevice,
    };
    let fault = match unable {
        Unable::TooMany => Fault::TooMany,
        Unable::Draining => Fault::Unavailable,
        Unable::UnknownDestination => {
            return Error { field: Some(named.into()), ..Error::new(Fault::NotFound, unable.to_string()) };
        }
        Unable::UnknownUser => return Error { field: Some("user".into()), ..Error::new(Fault::NotFound, unable.to_string()) },
        Unable::OwnNumber | Unable::FeatureCode | Unable::RoomAlone => return Error::field(named, unable.to_string()),
        Unable::Refused(refusal) => match refusal {
            NoCall | NoParty | NoDevice | NoSlot => Fault::NotFound,
            NotYours => return Error { detail: unable.to_string().into(), ..Error::missing_right(&format!("tel.{message}")) },
            BadDigits => Fault::BadMessage,
            TooManyCalls | TooManyOfUser | TooManyOfTrunk | TooManyParked => Fault::TooMany,
            NoPorts => Fault::Unavailable,
            Present => return Error::field(named, unable.to_string()),
            WhichDevice => return Error::field("device", unable.to_string()),
            UnknownDevice => return Error { field: Some("device".into()), ..Error::new(Fault::NotFound, unable.to_string()) },
            NotByItself => Fault::NotSupported,
            HoldsItself | NotAnswered | NotRinging | NotTalking | UnderWay | LastDevice | Same | TooManyDevices | CallOver
            | NoConference | NotModerator | Silenced | Locked | Full | IsRoom | AsksPin => Fault::NotNow,
            NothingRegistered | NoWay | Busy | Declined | NoAnswer | Unreachable | NotTaken | TargetGone | SlotTaken | Elsewhere
            | OtherThread | Removed => Fault::Conflict,
        },
    };
    Error::new(fault, unable.to_string())
}

fn unknown(call: &CallId) -> Error {
    Error::new(Fault::NotFound, format!("no call {call}"))
}
