//! What we say of ourselves in an offer or answer: origin, profile, keys, DTLS and ICE (RFC 4568, RFC 5763, RFC 8839, RFC 8842, RFC 9143).

use super::super::{
    Attribute, Connection, Description, Line, MediaDescription, Origin, Text,
    crypto::{Crypto, choose},
    print::origin_address,
    source::Sources,
    transport::{self, Local, Peer, Profile, Protection, Setup, StreamAddress},
};
use super::{Negotiation, Security, Stream};
use crate::{port::webrtc::Role, rtp::srtp};

impl Negotiation {
    /// A description of ours without m-lines. One address for all streams stands at the session.
    pub(super) fn blank(&self, local: &Local) -> Description {
        let ip = local.addresses.first().map(|address| address.rtp.ip());
        Description {
            origin: Origin {
                username: "-".into(),
                session_id: Text(self.session_id.to_string().into()),
                version: Text::default(), // print() sets it
                address: ip.map_or_else(|| "IN IP4 0.0.0.0".into(), origin_address),
            },
            session_name: "-".into(),
            connection: ip.map(Connection::Ip),
            bandwidth: Vec::new(),
            lines: vec![Line { kind: b't', value: "0 0".into() }],
            attributes: if self.profile == Profile::WebRtc { vec![transport::flag("ice-lite")] } else { Vec::new() },
            media: Vec::new(),
        }
    }

    /// Which of the offered lines we take: those that may be protected as they are, and of a browser only those in one bundle.
    pub(super) fn taken(&self, offer: &Description, carried: &[Option<Profile>]) -> Vec<bool> {
        let allowed = |profile: &Option<Profile>| profile.filter(|profile| self.protection.allows(*profile));
        let first = carried.iter().position(|profile| allowed(profile).is_some());
        let Some((first_profile, first)) = first.and_then(|at| allowed(carried.get(at)?).zip(offer.media.get(at))) else {
            return vec![false; carried.len()];
        };
        let is_taken = |(media, profile): (&MediaDescription, &Option<Profile>)| match (allowed(profile), first_profile) {
            (None, _) => false,
            (Some(Profile::WebRtc), Profile::WebRtc) => std::ptr::eq(media, first) || offer.bundles(first, media),
            (Some(Profile::WebRtc), _) | (Some(_), Profile::WebRtc) => false,
            (Some(_), _) => true,
        };
        offer.media.iter().zip(carried).map(is_taken).collect()
    }

    /// The protocol of a line that we offer: once agreed it stays.
    pub(super) fn protocol(&self, line: usize) -> Text {
        let agreed = self.agreed.as_ref().and_then(|agreed| agreed.local.media.get(line)).filter(|media| media.port != 0);
        agreed.map_or_else(|| self.profile.protocol(), |media| media.protocol.clone())
    }

    /// The tag of a line that we offer.
    pub(super) fn mid(&self, line: usize) -> Option<Text> {
        let agreed = self.agreed.as_ref().and_then(|agreed| agreed.local.media.get(line)).and_then(MediaDescription::mid);
        let new = || (self.profile == Profile::WebRtc).then(|| Text::from(format!("t{line}")));
        agreed.cloned().or_else(new)
    }

    /// Names the bundle of what we say to a browser.
    pub(super) fn group(&self, description: &mut Description) {
        let active = description.media.iter().filter(|media| media.port != 0);
        let mids: Vec<&Text> = active.filter_map(MediaDescription::mid).collect();
        if self.profile != Profile::WebRtc || mids.is_empty() {
            return;
        }
        let group = mids.iter().fold("BUNDLE".to_owned(), |group, mid| format!("{group} {mid}"));
        description.attributes.push(transport::attribute("group", Text::from(group)));
    }

    /// Whether the peer's offer has other ICE credentials than before (RFC 8839 §4.4.1.1.1): ours change with them.
    pub(super) fn restarts_ice(&self, offer: &Description) -> bool {
        let ice = |description: &Description| {
            description.media.iter().find(|media| media.port != 0).and_then(|media| Peer::of(description, media)?.ice)
        };
        self.agreed.as_ref().is_some_and(|agreed| ice(&agreed.remote).is_some_and(|before| ice(offer).is_some_and(|now| now != before)))
    }

    /// The lines about the transport of a stream that we offer.
    pub(super) fn offered_transport(&self, (slot, address): (usize, &StreamAddress), local: &Local) -> Vec<Attribute> {
        match self.profile {
            Profile::Plain => Vec::new(),
            Profile::Opportunistic => self.offered_keys(slot).collect(),
            // Some phones take DTLS, and only that, under the name of RTP/SAVP (RFC 5763 §5).
            Profile::Sdes => self.offered_keys(slot).chain(transport::dtls(local, Setup::ActPass)).collect(),
            Profile::Dtls => transport::dtls(local, Setup::ActPass).into(),
            Profile::WebRtc => {
                let mut lines: Vec<Attribute> = transport::dtls(local, Setup::ActPass).into();
                lines.extend(transport::ice(&self.secret.credentials(self.generation, local.thread), address.rtp));
                lines
            }
        }
    }

    /// What we call a stream of ours, where the peer is told: a browser tells the streams of a bundle by it.
    pub(super) fn sources(&self, slot: usize) -> Option<Sources> {
        (self.profile == Profile::WebRtc).then(|| self.secret.sources(slot))
    }

    /// A key line for each SRTP profile.
    pub(super) fn offered_keys(&self, slot: usize) -> impl Iterator<Item = Attribute> {
        srtp::PROFILES.iter().zip(1..).map(move |(profile, tag)| transport::key(&Crypto { tag, keys: self.secret.key(*profile, slot) }))
    }

    /// The lines about the transport of a stream that we answer.
    pub(super) fn answered_transport(
        &self,
        offer: &Description,
        offered: &MediaDescription,
        (slot, address): (usize, &StreamAddress),
        local: &Local,
        generation: u32,
    ) -> Vec<Attribute> {
        let setup = || match Peer::of(offer, offered).map(|peer| peer.setup) {
            Some(Setup::ActPass) if self.dtls_role() == Some(Role::Server) => Setup::Passive,
            // We begin: our ClientHello leaves with the answer to the first check, and a stranger's means nothing to us (S1).
            Some(Setup::ActPass | Setup::Passive) => Setup::Active,
            Some(Setup::Active) | None => Setup::Passive,
        };
        match Profile::of(offer, offered) {
            None | Some(Profile::Plain) => Vec::new(),
            Some(Profile::Opportunistic) if self.protection == Protection::Off => Vec::new(),
            Some(Profile::Opportunistic | Profile::Sdes) => choose(&offered.crypto())
                .map(|crypto| transport::key(&Crypto { tag: crypto.tag, keys: self.secret.key(crypto.keys.profile(), slot) }))
                .into_iter()
                .collect(),
            Some(Profile::Dtls) => transport::dtls(local, setup()).into(),
            Some(Profile::WebRtc) => {
                let mut lines: Vec<Attribute> = transport::dtls(local, setup()).into();
                lines.extend(transport::ice(&self.secret.credentials(generation, local.thread), address.rtp));
                lines
            }
        }
    }

    /// Our role in the association that this leg has: it stays (RFC 8842 §5.5).
    pub(super) fn dtls_role(&self) -> Option<Role> {
        let of = |stream: Stream| match stream.security {
            Security::Dtls(handshake) => Some(handshake.role),
            Security::Shared => self.shared().map(|shared| shared.handshake.role),
            Security::None | Security::Sdes { .. } => None,
        };
        self.agreed.as_ref()?.streams().into_iter().find_map(of)
    }
}
