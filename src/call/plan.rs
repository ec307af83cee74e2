//! What a call is to be set up from: who calls whom, and the devices to ring. Whoever knows users and their devices makes it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use media::sdp::transport::{Profile, Protection};
use sip::message::{Headers, NameAddr};
use sip::{DialogId, Hop, Uri};

use super::party::Person;
use crate::device;

/// A call to set up: who, whom, and the devices to ring.
#[derive(Debug)]
pub struct Plan {
    /// The caller's dialog, taken and not answered.
    pub dialog: DialogId,
    /// SDP of the INVITE; empty for none.
    pub offer: Bytes,
    /// Where the caller's signaling comes from.
    pub signaling: IpAddr,
    /// Whether the caller's media has to be protected.
    pub protection: Protection,
    /// Who calls.
    pub caller: Person,
    /// By which device, if it is one of a user's.
    pub device: Option<device::Id>,
    /// What was dialled, for the record.
    pub dialled: String,
    /// Who is called.
    pub callee: Person,
    /// Further headers of the outgoing INVITEs, such as P-Asserted-Identity and Max-Forwards.
    pub headers: Headers,
    /// How long the INVITE is good (Expires); none if it does not say. It is answered 487 then.
    pub expires: Option<Duration>,
    /// The devices.
    pub targets: Vec<Target>,
}

/// A device to ring.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which device, if it is one of a user's.
    pub device: Option<device::Id>,
    /// The Request-URI.
    pub uri: Uri,
    /// Routes to it.
    pub routes: Vec<NameAddr>,
    /// Where to send the INVITE: at least one, in the order to try them.
    pub hops: Vec<Hop>,
    /// Whether its media has to be protected.
    pub protection: Protection,
    /// The ways to carry media, in the order to offer them; the next one when the device refuses (488).
    pub profiles: Vec<Profile>,
}
