//! What an offer and its answer come to: the streams of a leg, and how their packets are protected (RFC 4568, RFC 5763, RFC 8842).

use std::net::{IpAddr, SocketAddr};

use super::super::{
    Attribute, Connection, Description, Direction, Format, MediaDescription, MediaKind,
    crypto::{Crypto, agree},
    source::Sources,
    template::formats_with,
    transport::{Peer, Profile, Setup},
};
use super::Wishes;
use crate::{
    port::webrtc::{Credentials, Fingerprint, Role},
    rtp::srtp,
};

/// What was agreed for one stream of a leg: all that its port must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which stream of the port.
    pub index: usize,
    /// Which m-line; two ports are bridged line by line.
    pub line: usize,
    /// Audio, video …
    pub kind: MediaKind,
    /// Where the peer wants RTP, if it gave an address.
    pub remote_rtp: Option<SocketAddr>,
    /// Where the peer wants RTCP, if it gave an address.
    pub remote_rtcp: Option<SocketAddr>,
    /// Whether RTCP shares the RTP port.
    pub rtcp_mux: bool,
    /// From our point of view: whether we may send to the peer, and whether it sends to us.
    pub direction: Direction,
    /// What the peer takes: payload types of packets to it, most wanted first.
    pub send: Vec<Format>,
    /// What we told it to send: payload types of packets from it.
    pub receive: Vec<Format>,
    /// How its packets are protected.
    pub security: Security,
    /// How the peer wants to be sent to.
    pub wishes: Wishes,
    /// What our packets to the peer are called, where it was told.
    pub sources: Option<Sources>,
}

/// How the packets of a stream are protected.
#[derive(Clone, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    None,
    /// With keys from the SDP.
    Sdes {
        /// Ours.
        send: srtp::Keys,
        /// The peer's.
        receive: srtp::Keys,
    },
    /// With keys that DTLS brings.
    Dtls(Handshake),
    /// As the transport that all streams of the leg share ([`Negotiation::shared`](super::Negotiation::shared)).
    Shared,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Sdes { .. } => "Sdes",
            Self::Dtls(_) => "Dtls",
            Self::Shared => "Shared",
        })
    }
}

/// What a DTLS association needs to know of its other end, and who begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The peer's certificate has one of them.
    pub fingerprints: Vec<Fingerprint>,
    /// Ours: whether we send the ClientHello.
    pub role: Role,
}

/// The one transport of a leg whose streams are bundled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Our ICE credentials.
    pub local: Credentials,
    /// The peer's.
    pub remote: Credentials,
    /// Its DTLS.
    pub handshake: Handshake,
}

#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) local: Description,
    pub(super) remote: Description,
    pub(super) slots: Slots,
}

/// Which stream of the port each m-line uses.
pub(super) type Slots = Vec<Option<usize>>;

impl Agreed {
    pub(super) fn muxes(&self, line: usize) -> bool {
        let both = (self.local.media.get(line), self.remote.media.get(line));
        matches!(both, (Some(local), Some(remote)) if local.rtcp_mux() && remote.rtcp_mux())
    }

    pub(super) fn streams(&self) -> Vec<Stream> {
        let lines = self.slots.iter().zip(self.local.media.iter().zip(&self.remote.media)).enumerate();
        lines.filter_map(|(line, (slot, (local, remote)))| Some(self.stream(line, (*slot)?, local, remote))).collect()
    }

    fn stream(&self, line: usize, index: usize, local: &MediaDescription, remote: &MediaDescription) -> Stream {
        let ip = self.remote.connection_of(remote).and_then(Connection::ip);
        let rtcp_mux = self.muxes(line);
        let remote_rtp = ip.filter(|_| remote.port != 0).map(|ip| SocketAddr::new(ip, remote.port));
        let send = formats_with(remote, local);
        Stream {
            index,
            line,
            kind: remote.kind.clone(),
            remote_rtp,
            remote_rtcp: if rtcp_mux { remote_rtp } else { rtcp_address(remote, ip) },
            rtcp_mux,
            direction: self.local.direction_of(local).and(self.remote.direction_of(remote).reversed()),
            wishes: Wishes::of(local, remote, &send),
            send,
            receive: formats_with(local, remote),
            security: self.security(local, remote),
            sources: None,
        }
    }

    fn security(&self, local: &MediaDescription, remote: &MediaDescription) -> Security {
        // The protocol is the same at both ends; which end offered shows in nothing that is needed here.
        match Profile::of(&self.remote, remote) {
            Some(Profile::WebRtc) => Security::Shared,
            Some(Profile::Dtls) => match (Peer::of(&self.local, local), Peer::of(&self.remote, remote)) {
                (Some(ours), Some(theirs)) => Security::Dtls(handshake(ours.setup, theirs)),
                (Some(_) | None, _) => Security::None,
            },
            Some(Profile::Opportunistic | Profile::Sdes) => {
                chosen(local, remote).map_or(Security::None, |(send, receive)| Security::Sdes { send, receive })
            }
            Some(Profile::Plain) | None => Security::None,
        }
    }
}

/// The keys of the crypto line that both ends have: ours and the peer's. One end lists all it can, the other the one it chose.
pub(super) fn chosen(local: &MediaDescription, remote: &MediaDescription) -> Option<(srtp::Keys, srtp::Keys)> {
    let ours: Vec<Crypto> = local.crypto().into_iter().flatten().collect();
    agree(&ours, &remote.crypto()).map(|(ours, theirs)| (ours.keys.clone(), theirs.keys.clone()))
}

/// Who begins: the active end; where an answer leaves it open, the peer.
pub(super) fn handshake(ours: Setup, theirs: Peer) -> Handshake {
    let role = match (ours, theirs.setup) {
        (_, Setup::Passive) | (Setup::Active, Setup::ActPass) => Role::Client,
        (_, Setup::Active) | (Setup::Passive | Setup::ActPass, Setup::ActPass) => Role::Server,
    };
    Handshake { fingerprints: theirs.fingerprints, role }
}

/// Whether packets pass unchanged from a leg with these streams to a leg with those: of the codecs that the one may send, the first
/// is one that the other takes under the same payload type. It may fail when the answer given to the caller early came from another
/// device than the one that picked up; a new offer to the caller mends it.
#[must_use]
pub fn passes_unchanged(from: &[Stream], to: &[Stream]) -> bool {
    from.iter().all(|from| {
        let to = to.iter().find(|to| to.line == from.line && to.kind == from.kind);
        let taken =
            |format: &Format| to.is_none_or(|to| to.send.iter().any(|f| f.payload_type == format.payload_type && f.same_codec(format)));
        let named = |format: &&Format| from.send.iter().any(|f| f.same_codec(format));
        from.receive.iter().filter(|format| !format.is_auxiliary()).find(named).is_none_or(taken)
    })
}

fn rtcp_address(media: &MediaDescription, ip: Option<IpAddr>) -> Option<SocketAddr> {
    let said = media
        .attributes
        .iter()
        .find_map(|attribute| if let Attribute::Rtcp { port, address } = attribute { Some((*port, *address)) } else { None });
    let (port, address) = match said {
        Some((port, address)) => (port, address.filter(|ip| !ip.is_unspecified()).or(ip)),
        None => (media.port.checked_add(1)?, ip),
    };
    Some(SocketAddr::new(address?, port))
}
