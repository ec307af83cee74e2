//! Applications that are devices themselves: what they describe in CAS, for their user agent in the loop.

use bytes::Bytes;
use cas::error::{Error, Fault};
use cas::permission::Caller;
use cas::text::{CallId, DeviceId, Line, Sdp, UserName};
use cas::topic::tel::{Act, Acted, MakeCall, Negotiate, Register, SdpType};

use super::telephony::id;
use super::{Provider, view};
use crate::call;
use crate::signaling::{Came, What};
use crate::thin::{Kind, Refusal};

impl Provider {
    pub(super) async fn register_thin(&self, caller: &Caller, request: Register) -> Result<DeviceId, Error> {
        let name = request.device.as_ref().or(caller.device.as_ref()).map(ToString::to_string);
        let agent = caller.application.as_ref().map(Line::as_str).unwrap_or_default().to_owned();
        let came = self.wish(caller, What::Register { name, agent }).await?;
        let device = came.device.and_then(|device| DeviceId::parse(device.as_str()).ok());
        device.ok_or_else(|| Error::new(Fault::Internal, "the device has no name"))
    }

    pub(super) async fn unregister_thin(&self, caller: &Caller) -> Result<(), Error> {
        self.wish(caller, What::Unregister).await.map(drop)
    }

    /// Calls by an application with an offer of its own; answers when the other side does.
    pub(super) async fn call_by_thin(&self, caller: &Caller, user: &UserName, request: &MakeCall, sdp: &Sdp) -> Result<Acted, Error> {
        own(caller, user)?;
        if request.device.is_some() || request.video_device.is_some() {
            return Err(Error::field("device", "field device: an application that gives sdp is the device itself"));
        }
        let destination = request.destination.to_string();
        let came = self.wish(caller, What::Call { destination, sdp: bytes(sdp) }).await?;
        let call = came.call.ok_or_else(|| Error::new(Fault::Conflict, Refusal::Over.to_string()))?;
        self.acted(call, &came.sdp).await
    }

    /// Does what comes with a description; gives back what does not.
    pub(super) async fn describe_by_thin(&self, caller: &Caller, user: &UserName, act: Act) -> Result<Result<Acted, Error>, Box<Act>> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "no other act has a description")]
        let (call, kind, sdp) = match act {
            Act::Answer(answer) if answer.sdp.is_some() => (answer.call, Kind::Answer, answer.sdp),
            Act::Negotiate(Negotiate { call, r#type, sdp, .. }) => {
                let kind = match r#type {
                    None | Some(SdpType::Offer) => Kind::Offer,
                    Some(SdpType::Answer) => Kind::Answer,
                    Some(SdpType::Rollback) => Kind::Rollback,
                    // refused where the request was read
                    Some(SdpType::Pranswer) => Kind::Pranswer,
                    Some(SdpType::Request) => Kind::Request,
                };
                (call, kind, sdp)
            }
            act => return Err(Box::new(act)),
        };
        Ok(self.describe(caller, user, &call, kind, sdp).await)
    }

    async fn describe(&self, caller: &Caller, user: &UserName, call: &CallId, kind: Kind, sdp: Option<Sdp>) -> Result<Acted, Error> {
        own(caller, user)?;
        let call = id(call)?;
        let came = self.wish(caller, What::Describe { call, kind, sdp: sdp.as_ref().map(bytes).unwrap_or_default() }).await?;
        self.acted(came.call.unwrap_or(call), &came.sdp).await
    }

    async fn wish(&self, caller: &Caller, what: What) -> Result<Came, Error> {
        self.signaling.wish(caller.login.0, caller.user.as_str(), what).await?.map_err(|refusal| refused(&refusal))
    }

    /// Returns the call in which something was done, with the switch's description if there is one.
    pub(super) async fn acted(&self, call: call::Id, sdp: &[u8]) -> Result<Acted, Error> {
        let known = self.signaling.call(call).await?.and_then(|view| view::call(&view));
        let call = known.ok_or_else(|| Error::new(Fault::NotFound, format!("no call {call}")))?;
        let sdp = view::sdp(sdp).ok_or_else(|| Error::new(Fault::Internal, "the switch's description is too long for CAS"))?;
        Ok(Acted { call, sdp })
    }
}

/// An application is a device of its own user, whoever else it may act for.
fn own(caller: &Caller, user: &UserName) -> Result<(), Error> {
    if *user == caller.user {
        return Ok(());
    }
    Err(Error::field("user", "field user: an application that gives sdp is a device of its own user alone"))
}

fn bytes(sdp: &Sdp) -> Bytes {
    Bytes::copy_from_slice(sdp.as_str().as_bytes())
}

/// Tells why something was not done for an application.
fn refused(refusal: &Refusal) -> Error {
    let detail = refusal.to_string();
    match refusal {
        Refusal::LoginOver => Error::new(Fault::LoginRequired, detail),
        Refusal::TooManyDevices | Refusal::TooManyBindings | Refusal::TooManyCalls => Error::new(Fault::TooMany, detail),
        Refusal::TooLong | Refusal::Malformed(_) | Refusal::NotWebRtc => Error::field("sdp", format!("field sdp: {detail}")),
        Refusal::BadDestination => Error::field("destination", format!("field destination: {detail}")),
        Refusal::NoSession | Refusal::NoUser => Error::new(Fault::NotFound, detail),
        Refusal::NothingOffered | Refusal::OfferWaits | Refusal::UnderWay | Refusal::NotAnswered | Refusal::Glare => {
            Error::new(Fault::NotNow, detail)
        }
        Refusal::Refused(sip::StatusCode::NOT_FOUND) => Error::new(Fault::NotFound, detail),
        Refusal::Refused(sip::StatusCode::SERVICE_UNAVAILABLE) => Error::new(Fault::Unavailable, detail),
        Refusal::Refused(_) | Refusal::Over | Refusal::Gone => Error::new(Fault::Conflict, detail),
    }
}
