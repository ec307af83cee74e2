//! How the packets of an m-line travel, as a description says it: the profile, DTLS fingerprints (RFC 5763, RFC 8122, RFC 8842),
//! ICE credentials (RFC 8839), BUNDLE (RFC 9143); and the lines in which we say it of ourselves. Keys in the SDP are read in
//! `crypto.rs`. It decides nothing: whether a leg may use a profile is `negotiate.rs`'s business.

use std::net::SocketAddr;

use super::{
    Attribute, Description, MediaDescription, Text,
    crypto::{self, Crypto, Unusable},
};
use crate::port::webrtc::{self, Credentials, Fingerprint};

/// How the packets of a leg travel and are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// RTP/AVP.
    #[default]
    Plain,
    /// RTP/AVP with keys beside it, which the peer may ignore (RFC 8643).
    Opportunistic,
    /// RTP/SAVP with keys in the SDP (RFC 4568), or by DTLS if the peer prefers that.
    Sdes,
    /// UDP/TLS/RTP/SAVP: keys by DTLS from the address in the SDP (RFC 5764).
    Dtls,
    /// As a browser: ICE, DTLS, BUNDLE, RTCP on the RTP port, feedback (RFC 8835).
    WebRtc,
}

impl Profile {
    /// The transport and profile of an m-line that we offer.
    pub(super) fn protocol(self) -> Text {
        match self {
            Self::Plain | Self::Opportunistic => "RTP/AVP".into(),
            Self::Sdes => "RTP/SAVP".into(),
            Self::Dtls => "UDP/TLS/RTP/SAVP".into(),
            Self::WebRtc => "UDP/TLS/RTP/SAVPF".into(),
        }
    }

    /// What an m-line of a peer's uses; none when it is not RTP, or has no key or fingerprint that we can use.
    #[must_use]
    pub fn of(description: &Description, media: &MediaDescription) -> Option<Self> {
        if media.port_count != 1 {
            return None;
        }
        let is = |names: [&[u8]; 2]| names.iter().any(|name| media.protocol.eq_ignore_case(name));
        let keyed = || crypto::choose(&media.crypto()).is_some();
        if is([b"RTP/AVP", b"RTP/AVPF"]) {
            return Some(if keyed() { Self::Opportunistic } else { Self::Plain });
        }
        let savp = is([b"RTP/SAVP", b"RTP/SAVPF"]);
        if savp && keyed() {
            return Some(Self::Sdes);
        }
        if !savp && !is([b"UDP/TLS/RTP/SAVP", b"UDP/TLS/RTP/SAVPF"]) {
            return None;
        }
        let peer = Peer::of(description, media).filter(|peer| !peer.fingerprints.is_empty())?;
        Some(if peer.ice.is_some() && media.rtcp_mux() { Self::WebRtc } else { Self::Dtls })
    }

    /// Whether an m-line with this profile has to be answered with a key or a handshake.
    pub(super) fn is_protected(self) -> bool {
        match self {
            Self::Plain | Self::Opportunistic => false,
            Self::Sdes | Self::Dtls | Self::WebRtc => true,
        }
    }
}

/// Whether a leg's packets are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protection {
    /// Never, but for browsers.
    Off,
    /// When the peer can.
    #[default]
    Prefer,
    /// Always: an offer without is refused, and none is made.
    Require,
}

impl Protection {
    /// Whether it lets a leg use a profile.
    #[must_use]
    pub fn allows(self, profile: Profile) -> bool {
        match (self, profile) {
            (_, Profile::WebRtc) | (Self::Prefer, _) => true,
            (Self::Off, profile) => matches!(profile, Profile::Plain | Profile::Opportunistic),
            (Self::Require, profile) => profile != Profile::Plain,
        }
    }
}

/// Which end of a DTLS association sends the ClientHello (`setup`, RFC 4145, RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The speaker does.
    Active,
    /// The speaker waits for it.
    Passive,
    /// The speaker lets the other one choose.
    ActPass,
}

impl Setup {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
        }
    }

    fn of(text: &Text) -> Option<Self> {
        [Self::Active, Self::Passive, Self::ActPass].into_iter().find(|setup| text.eq_ignore_case(setup.name().as_bytes()))
    }
}

/// What one end says of its DTLS and ICE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// At most [`MAX_FINGERPRINTS`]: its certificate has one of them.
    pub fingerprints: Vec<Fingerprint>,
    /// Its DTLS role; a peer that says nothing lets us choose.
    pub setup: Setup,
    /// Its ICE credentials, when it uses ICE.
    pub ice: Option<Credentials>,
}

/// Most fingerprints of an m-line; the others are ignored, and so are those of unknown hash functions.
pub const MAX_FINGERPRINTS: usize = 8;
impl Peer {
    /// Reads it of an m-line, whose own lines count before those of the session.
    #[must_use]
    pub fn of(description: &Description, media: &MediaDescription) -> Option<Self> {
        let read = |attributes| {
            let texts = values(attributes, b"fingerprint").filter_map(|text| std::str::from_utf8(text.as_bytes()).ok());
            texts.filter_map(|text| text.parse().ok()).take(MAX_FINGERPRINTS).collect::<Vec<Fingerprint>>()
        };
        let own = read(&media.attributes);
        let fingerprints = if own.is_empty() { read(&description.attributes) } else { own };
        let setup = match description.value_of(media, b"setup") {
            None => Setup::ActPass,
            Some(text) => Setup::of(text)?,
        };
        let text = |name| description.value_of(media, name).and_then(|text| std::str::from_utf8(text.as_bytes()).ok());
        let ice = text(b"ice-ufrag").zip(text(b"ice-pwd")).and_then(|(ufrag, password)| Credentials::parse(ufrag, password).ok());
        Some(Self { fingerprints, setup, ice })
    }
}

fn values<'a>(attributes: &'a [Attribute], wanted: &'a [u8]) -> impl Iterator<Item = &'a Text> {
    attributes.iter().filter_map(move |attribute| {
        if let Attribute::Other { name, value } = attribute { value.as_ref().filter(|_| name.as_bytes() == wanted) } else { None }
    })
}

impl MediaDescription {
    /// Its `a=crypto` lines, the most wanted first.
    pub(super) fn crypto(&self) -> Vec<Result<Crypto, Unusable>> {
        crypto::read(values(&self.attributes, b"crypto").map(Text::as_bytes))
    }

    /// Its identification tag (`mid`, RFC 5888).
    #[must_use]
    pub fn mid(&self) -> Option<&Text> {
        values(&self.attributes, b"mid").next()
    }
}

impl Description {
    /// The value of an attribute of an m-line, else of the session.
    fn value_of<'a>(&'a self, media: &'a MediaDescription, name: &'a [u8]) -> Option<&'a Text> {
        values(&media.attributes, name).next().or_else(|| values(&self.attributes, name).next())
    }

    /// Whether an m-line has ICE credentials.
    pub(super) fn uses_ice(&self, media: &MediaDescription) -> bool {
        self.value_of(media, b"ice-ufrag").is_some()
    }

    /// Whether two m-lines of it are in one BUNDLE group (RFC 9143).
    pub(super) fn bundles(&self, one: &MediaDescription, other: &MediaDescription) -> bool {
        let (Some(one), Some(other)) = (one.mid(), other.mid()) else { return false };
        values(&self.attributes, b"group").any(|group| {
            let mut parts = group.as_bytes().split(|octet| *octet == b' ');
            let is_bundle = parts.next() == Some(b"BUNDLE".as_slice());
            let (mut has_one, mut has_other) = (false, false);
            for mid in parts {
                has_one |= mid == one.as_bytes();
                has_other |= mid == other.as_bytes();
            }
            is_bundle && has_one && has_other
        })
    }
}

/// What others are told of a port of ours.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Local {
    /// Of each stream; all the same where the port shares one socket.
    pub addresses: Vec<StreamAddress>,
    /// `hash-func fingerprint` of our certificate; empty when we have none, and then no DTLS.
    pub fingerprint: Text,
    /// The media thread: our ICE user name fragment leads packets to it.
    pub thread: u16,
}

impl Local {
    /// No port.
    #[must_use]
    pub const fn none() -> Self {
        Self { addresses: Vec::new(), fingerprint: Text::none(), thread: 0 }
    }
}

/// The address of one stream of a port of ours, as others are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAddress {
    /// Where we receive RTP.
    pub rtp: SocketAddr,
    /// Where we receive RTCP.
    pub rtcp: SocketAddr,
}

/// An attribute with a value.
pub(super) fn attribute(name: &'static str, value: impl Into<Text>) -> Attribute {
    Attribute::Other { name: name.into(), value: Some(value.into()) }
}

/// An attribute without a value.
pub(super) fn flag(name: &'static str) -> Attribute {
    Attribute::Other { name: name.into(), value: None }
}

/// A key of ours.
pub(super) fn key(line: &Crypto) -> Attribute {
    attribute("crypto", line.to_text())
}

/// The lines about DTLS of an m-line of ours.
pub(super) fn dtls(local: &Local, setup: Setup) -> [Attribute; 2] {
    [attribute("fingerprint", local.fingerprint.clone()), attribute("setup", setup.name())]
}

/// The lines about ICE of an m-line of ours: our credentials and our one candidate (RFC 8839 §5.1).
pub(super) fn ice(credentials: &Credentials, address: SocketAddr) -> [Attribute; 4] {
    [
        attribute("ice-ufrag", credentials.ufrag().to_owned()),
        attribute("ice-pwd", credentials.password().to_owned()),
        attribute("candidate", webrtc::candidate(address)),
        flag("end-of-candidates"),
    ]
}
