//! One binding of an AOR, as plain data.

use std::net::SocketAddr;
use std::time::Duration;

use bytestring::ByteString;

use crate::message::Uri;
use crate::time::UnixTime;
use crate::transport::Transport;

/// A preference between 0 and 1 in thousandths (§20.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Q(u16);

/// Where a REGISTER came from: the flow without its connection, which does not outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The transport.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address as seen in the packet.
    pub remote: SocketAddr,
}

/// A binding of an AOR to a contact (§10). The AOR is the key under which it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The contact's URI with its parameters, the pn- ones of RFC 8599 among them.
    pub contact: Uri,
    /// The preference.
    pub q: Q,
    /// When it ends.
    pub expires_at: UnixTime,
    /// What was granted at the last refresh.
    pub granted: Duration,
    /// Call-ID of the last refresh.
    pub call_id: ByteString,
    /// CSeq of the last refresh.
    pub cseq: u32,
    /// The Path as one header value (RFC 3327); empty for none.
    pub path: ByteString,
    /// `+sip.instance` without quotes and angle brackets (RFC 5626 §4.1); empty for none.
    pub instance: ByteString,
    /// `reg-id`, where outbound applies (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// User-Agent, cut to [`Binding::MAX_USER_AGENT`].
    pub user_agent: ByteString,
    /// Where the last refresh came from.
    pub received: Received,
    /// True if Via named another address than that: a NAT is between us.
    pub behind_nat: bool,
}
