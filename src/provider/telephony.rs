//! Calls, and who is in them with which devices.

use std::sync::Arc;

use cas::error::{Error, Fault};
use cas::permission::Caller;
use cas::provider::{Graph, Telephony};
use cas::text::{CallId, DeviceId, UserName};
use cas::topic::graph;
use cas::topic::tel::{self, Act, Acted, Call, MakeCall};

use media::Kinds;

use super::{Provider, view};
use crate::call::command::Refusal;
use crate::call::graph::View;
use crate::signaling::{Unable, Want};
use crate::{call, device};

impl Telephony for Provider {
    async fn call(&self, call: &CallId) -> Result<Call, Error> {
        view::call(&*self.view(call).await?).ok_or_else(|| unknown(call))
    }

    async fn calls(&self, user: Option<&UserName>) -> Result<Vec<Call>, Error> {
        let views = self.signaling.calls(user.map(ToString::to_string)).await?;
        Ok(views.iter().filter_map(|view| view::call(view)).collect())
    }

    async fn make_call(&self, _: &Caller, _: &UserName, _: MakeCall) -> Result<Acted, Error> {
        Err(Error::new(Fault::NotSupported, "this switch makes no calls for clients yet"))
    }

    async fn act(&self, _: &Caller, user: &UserName, act: Act) -> Result<Acted, Error> {
        let (call, action) = (act.call().clone(), act.action());
        let want = want(act).ok_or_else(|| Error::new(Fault::NotSupported, format!("this switch does not do {} yet", action.name())))?;
        self.signaling.order(id(&call)?, user.as_str(), want).await?.map_err(|unable| refused(&unable))?;
        Ok(Acted { call: self.call(&call).await?, sdp: None })
    }

    async fn why(&self, call: &CallId) -> Result<String, Error> {
        let view = self.view(call).await?;
        Ok(view.why.clone().unwrap_or_else(|| "the call goes on".to_owned()))
    }
}

impl Graph for Provider {
    async fn graph(&self, call: &CallId) -> Result<graph::Graph, Error> {
        view::graph(&*self.view(call).await?).ok_or_else(|| unknown(call))
    }
}

impl Provider {
    async fn view(&self, call: &CallId) -> Result<Arc<View>, Error> {
        self.signaling.call(id(call)?).await?.ok_or_else(|| unknown(call))
    }
}

fn id(call: &CallId) -> Result<call::Id, Error> {
    u64::from_str_radix(call.as_str(), 16).map(call::Id).map_err(|_| unknown(call))
}

/// Returns what an act means to the switch; none where it does not do that.
fn want(act: Act) -> Option<Want> {
    let device = |device: &DeviceId| device::Id::named(device.as_str());
    match act {
        Act::Hold(_) => Some(Want::Hold),
        Act::Resume(_) => Some(Want::Resume),
        Act::Drop(_) => Some(Want::Drop),
        Act::Decline(request) if request.reason != Some(tel::Refusal::Busy) => Some(Want::Drop),
        Act::Dtmf(request) => Some(Want::Digits(request.digits.as_str().to_owned())),
        Act::Move(request) => Some(Want::Move(device(&request.device))),
        Act::Split(request) => Some(Want::Split(device(&request.audio), device(&request.video))),
        Act::Conference(request) => {
            let calls = request.calls.iter().map(|call| id(call).ok()).collect::<Option<Vec<_>>>();
            Some(Want::Gather(calls?, request.destinations.iter().map(ToString::to_string).collect()))
        }
        Act::Mute(request) => Some(Want::Mute(request.party.map(|party| party.as_str().to_owned()), kinds(&request.media), true)),
        Act::Unmute(request) => Some(Want::Mute(request.party.map(|party| party.as_str().to_owned()), kinds(&request.media), false)),
        Act::Lock(_) => Some(Want::Lock(true)),
        Act::Unlock(_) => Some(Want::Lock(false)),
        Act::Kick(request) => Some(Want::Kick(request.party.as_str().to_owned())),
        Act::Moderate(request) => Some(Want::Moderate(request.party.as_str().to_owned())),
        Act::Decline(_) | Act::Answer(_) | Act::Transfer(_) | Act::Park(_) | Act::Pickup(_) | Act::Negotiate(_) => None,
    }
}

/// Returns the kinds that are named; audio if none is.
fn kinds(media: &[tel::Media]) -> Kinds {
    let named = media.iter().fold(Kinds::NONE, |kinds, media| match media {
        tel::Media::Audio => kinds | Kinds::AUDIO,
        tel::Media::Video => kinds | Kinds::VIDEO,
    });
    if named.is_empty() { Kinds::AUDIO } else { named }
}

/// Tells why something was not done with a call.
fn refused(unable: &Unable) -> Error {
    use Refusal::{
        BadDigits, Busy, CallOver, Declined, Full, IsRoom, LastDevice, Locked, NoAnswer, NoCall, NoConference, NoDevice, NoParty, NoUser,
        NoWay, NotAnswered, NotModerator, NotTaken, OtherThread, Present, Same, TargetGone, TooManyDevices, UnderWay, Unreachable,
    };
    let fault = match unable {
        Unable::TooMany => Fault::TooMany,
        Unable::Refused(NoCall | NoParty | NoDevice | NoUser) => Fault::NotFound,
        Unable::Refused(BadDigits) => Fault::BadMessage,
        Unable::Refused(
            NotAnswered | UnderWay | LastDevice | Same | TooManyDevices | CallOver | NoConference | NotModerator | Locked | Full | Present
            | IsRoom,
        ) => Fault::NotNow,
        Unable::Refused(NoWay | Busy | Declined | NoAnswer | Unreachable | NotTaken | TargetGone | OtherThread) => Fault::Conflict,
    };
    Error::new(fault, unable.to_string())
}

fn unknown(call: &CallId) -> Error {
    Error::new(Fault::NotFound, format!("no call {call}"))
}
