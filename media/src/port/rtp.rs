//! One stream of a port: whose packets it takes, direction, RTCP beside or on the RTP port, and what is counted. On sockets of its
//! own it learns the peer's address within bounds (`latch.rs`, security row S2) or, when packets are protected, believes those
//! that are authentic; on a shared transport the port has done that before. It knows its own peer only; whom packets go on to is
//! the bridge's business.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    association::{Association, Heard},
    cipher::Cipher,
    destination::{Policy, Refusal},
    keys::Keys,
    latch::Latch,
    webrtc::Certificate,
};
use crate::{
    bridge::{Asking, Class, Fed, Hop, Outgoing, Plan, Random, begins_key_frame, key_frame_request},
    dtmf::Digit,
    quality::{Quality, StreamStatistics},
    rtp::{self, Packet, probation::Probation, rewrite::Rewriter, rtcp},
    sdp::{
        Direction, Format, MediaKind,
        negotiate::{Security, Stream, Wishes},
    },
};

/// RTP or RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// RTP, and RTCP where they share a port.
    Rtp,
    /// RTCP.
    Rtcp,
}

/// One stream of a port.
#[derive(Debug, Default)]
pub(crate) struct RtpStream {
    rtp: Side,
    rtcp: Side,
    /// Of keys from the SDP, which both sides share.
    cipher: Option<Box<Cipher>>,
    agreed: Option<Agreed>,
    pub(crate) quality: Quality,
    /// The last stranger, for the verdict.
    pub(crate) stranger: Option<Box<SocketAddr>>,
    /// Who speaks.
    speaker: Probation,
    /// The sources of packets from the peer.
    heard: Recent,
    /// One of them that the engine has not been told.
    pub(crate) fresh: Option<u32>,
    /// The sources of packets to the peer.
    said: Recent,
    /// What the peer hears and sees.
    pub(crate) out: Outgoing,
    /// Whether the peer is asked for a key frame.
    pub(crate) asking: Option<Box<Asking>>,
    /// What the peer presses, once it has.
    keys: Option<Box<Keys>>,
}

/// The sources seen last: sound or pictures, and their retransmission.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    sources: [Option<u32>; 4],
    next: u8,
}

impl Recent {
    /// Whether it is new.
    fn add(&mut self, ssrc: u32) -> bool {
        let is_new = !self.sources.contains(&Some(ssrc));
        if is_new {
            if let Some(place) = self.sources.get_mut(usize::from(self.next % 4)) {
                *place = Some(ssrc);
            }
            self.next = self.next.wrapping_add(1);
        }
        is_new
    }
}

/// The RTP or the RTCP side of a stream with sockets of its own.
#[derive(Debug, Default)]
struct Side {
    latch: Latch,
    /// DTLS without ICE.
    association: Option<Box<Association>>,
}

/// What the packet path needs of a negotiated [`Stream`].
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) line: usize,
    pub(crate) kind: MediaKind,
    pub(crate) direction: Direction,
    pub(crate) remote: Option<SocketAddr>,
    mux: bool,
    is_shared: bool,
    /// What we told the peer to send.
    payloads: Box<[Payload]>,
    /// What the peer takes, most wanted first.
    pub(crate) send: Box<[Format]>,
    /// What we told it to send, most wanted first.
    pub(crate) receive: Box<[Format]>,
    /// How it wants to be sent to.
    pub(crate) wishes: Box<Wishes>,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    payload_type: u8,
    rate: u32,
    event: bool,
    class: Class,
}

impl RtpStream {
    /// Applies what was agreed; none = the stream is refused or ended.
    pub(crate) fn negotiate(
        &mut self,
        now: Instant,
        stream: Option<&Stream>,
        signaling: Option<IpAddr>,
        policy: &Policy,
        certificate: &Certificate,
    ) {
        let signaling = signaling.filter(|_| stream.is_some());
        self.rtp.latch.negotiate(now, stream.and_then(|s| s.remote_rtp), signaling, policy);
        self.rtcp.latch.negotiate(now, stream.and_then(|s| s.remote_rtcp), signaling, policy);
        self.stranger = None;
        self.speaker = Probation::default();
        self.secure(now, stream, policy, certificate);
        self.agreed = stream.map(|stream| Agreed {
            line: stream.line,
            kind: stream.kind.clone(),
            direction: stream.direction,
            remote: stream.remote_rtp,
            mux: stream.rtcp_mux,
            is_shared: stream.security == Security::Shared,
            payloads: stream
                .receive
                .iter()
                .map(|format| Payload {
                    payload_type: format.payload_type,
                    rate: format.clock_rate,
                    event: format.is_telephone_event(),
                    class: Class::of(format),
                })
                .collect(),
            send: stream.send.clone().into(),
            receive: stream.receive.clone().into(),
            wishes: Box::new(stream.wishes.clone()),
        });
        self.out.sources = stream.and_then(|stream| stream.sources).map(Box::new);
        let sends = self.agreed.as_ref().is_some_and(|agreed| agreed.direction.sends());
        self.out.keep(|_| sends);
    }

    /// Applies how packets are protected. What goes on under the same keys keeps its place.
    fn secure(&mut self, now: Instant, stream: Option<&Stream>, policy: &Policy, certificate: &Certificate) {
        self.out.is_protected = stream.is_some_and(|stream| stream.security != Security::None);
        match stream.map(|stream| &stream.security) {
            None | Some(Security::None | Security::Shared) => {
                self.cipher = None;
                (self.rtp.association, self.rtcp.association) = (None, None);
            }
            Some(Security::Sdes { send, receive }) => {
                (self.rtp.association, self.rtcp.association) = (None, None);
                match &mut self.cipher {
                    Some(cipher) => cipher.rekey(send, receive),
                    None => self.cipher = Some(Box::new(Cipher::new(send, receive))),
                }
            }
            Some(Security::Dtls(handshake)) => {
                self.cipher = None;
                let mux = stream.is_some_and(|stream| stream.rtcp_mux);
                let address = |signalled: Option<SocketAddr>, latch: &Latch| signalled.filter(|_| latch.refusal.is_none());
                let rtp = address(stream.and_then(|s| s.remote_rtp), &self.rtp.latch);
                let rtcp = address(stream.and_then(|s| s.remote_rtcp), &self.rtcp.latch).filter(|_| !mux);
                for (side, address) in [(&mut self.rtp, rtp), (&mut self.rtcp, rtcp)] {
                    match (&mut side.association, address) {
                        (association, None) => *association = None,
                        (Some(association), Some(address)) => association.expect_at(now, handshake, address, policy),
                        (association @ None, Some(address)) => {
                            *association = Some(Box::new(Association::at(now, certificate, handshake, address, policy)));
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.rtp.latch.refusal
    }

    /// Takes a packet that came on one of the stream's sockets.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        socket: Component,
        from: SocketAddr,
        buffer: &mut [u8],
        length: usize,
        policy: &Policy,
    ) -> Received {
        let Some(agreed) = self.agreed.as_ref().filter(|agreed| !agreed.is_shared) else {
            self.quality.withheld += 1;
            return Received::Dropped;
        };
        let side = if socket == Component::Rtp { &mut self.rtp } else { &mut self.rtcp };
        let opened = match (&mut side.association, &mut self.cipher) {
            (Some(association), _) => match association.receive(now, from, buffer, length, policy) {
                Heard::Checked(length) | Heard::Rejected(length) => return Received::Answered(length),
                Heard::Consumed => return Received::Handled,
                Heard::Media(length) => Some(length),
                Heard::Stranger => return self.turn_away(from),
                Heard::Forged => None,
            },
            (None, Some(cipher)) => buffer.get_mut(..length).and_then(|bytes| cipher.open(bytes)),
            (None, None) => Some(length),
        };
        let Some(bytes) = opened.and_then(|length| buffer.get_mut(..length)) else {
            self.quality.forged += 1;
            return Received::Dropped;
        };
        let is_protected = side.association.is_some() || self.cipher.is_some();
        if (socket == Component::Rtcp || rtp::is_rtcp(bytes)) && agreed.mux != (socket == Component::Rtp) {
            return if rtcp::parse(bytes).is_ok() { self.turn_away(from) } else { self.malformed() };
        }
        let is_packet =
            if socket == Component::Rtcp || rtp::is_rtcp(bytes) { rtcp::parse(bytes).is_ok() } else { Packet::parse(bytes).is_ok() };
        if !is_packet {
            return self.malformed();
        }
        let accepted = if is_protected { side.latch.accept_authentic(from, policy) } else { side.latch.accept(now, from, policy) };
        if accepted { self.take(now, socket, bytes) } else { self.turn_away(from) }
    }

    /// Takes a packet that is known to be the peer's.
    pub(crate) fn take(&mut self, now: Instant, socket: Component, bytes: &mut [u8]) -> Received {
        let Some(agreed) = &self.agreed else {
            self.quality.withheld += 1;
            return Received::Dropped;
        };
        let length = bytes.len();
        if socket == Component::Rtcp || rtp::is_rtcp(bytes) {
            let Ok(compound) = rtcp::parse(bytes) else { return self.malformed() };
            self.quality.reports(now, &compound);
            return Received::ToForward(Component::Rtcp, length);
        }
        let Ok(packet) = Packet::parse(bytes) else { return self.malformed() };
        let payload = agreed.payloads.iter().find(|payload| payload.payload_type == packet.payload_type());
        let (rate, event, class) = payload.map_or((8000, false, Class::Media), |payload| (payload.rate, payload.event, payload.class));
        // sound is one source at a time; of pictures there may be several
        if agreed.kind == MediaKind::Audio && class == Class::Media && !self.speaker.take(packet.ssrc(), packet.sequence()) {
            self.quality.withheld += 1;
            return Received::Dropped;
        }
        match class {
            Class::Media => self.quality.count(now, &packet, length, rate, event),
            Class::Retransmission | Class::Repair => self.quality.received.add(length),
        }
        if self.heard.add(packet.ssrc()) {
            self.fresh = Some(packet.ssrc());
        }
        if !agreed.direction.receives() {
            self.quality.withheld += 1;
            return Received::Kept;
        }
        if event {
            return Received::Event(length, Keys::hear(&mut self.keys, now, rate, packet.timestamp(), packet.payload()));
        }
        Received::ToForward(Component::Rtp, length)
    }

    /// Whether a payload type is one that we told the peer to send.
    pub(crate) fn expects(&self, payload_type: u8) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.payloads.iter().any(|payload| payload.payload_type == payload_type))
    }

    /// Whether a source is one of the peer's, or of what is sent to it.
    pub(crate) fn knows(&self, ssrc: u32) -> bool {
        self.heard.sources.contains(&Some(ssrc)) || self.said.sources.contains(&Some(ssrc))
    }

    fn malformed(&mut self) -> Received {
        self.quality.malformed += 1;
        Received::Dropped
    }

    fn turn_away(&mut self, from: SocketAddr) -> Received {
        self.quality.strangers += 1;
        // Allocates for the first one only.
        **self.stranger.get_or_insert_with(|| Box::new(from)) = from;
        Received::Dropped
    }

    /// Takes a packet of the port `key` for the peer, unless it must not have it now.
    pub(crate) fn feed(&mut self, now: Instant, key: u32, hop: Hop, plan: Option<&Plan>, bytes: &mut [u8], random: &mut Random) -> Fed {
        let length = bytes.len();
        let (true, Ok(mut packet)) = (self.sends(), Packet::parse(bytes)) else { return Fed::Dropped };
        let fed = self.out.feed(now, key, hop, plan, &mut packet, random);
        if fed == Fed::Passes {
            self.said.add(packet.ssrc());
            self.quality.sent.add(length);
        }
        fed
    }

    /// Presses a key towards the peer.
    pub(crate) fn press(&mut self, now: Instant, digit: (Digit, Duration), random: &mut Random) {
        if let Some(agreed) = &self.agreed {
            self.out.press(now, agreed, digit, random);
        }
    }

    /// Lets time pass. Returns a digit whose end was lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<(Digit, Duration)> {
        self.out.handle_timeout(now);
        self.asking.take_if(|asking| asking.handle_timeout(now));
        self.keys.as_mut().and_then(|keys| keys.handle_timeout(now))
    }

    /// Whether media may go to the peer.
    pub(crate) fn sends(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.direction.sends())
    }

    /// Notes RTCP that goes to the peer, also while the stream is on hold (RFC 3264 §5.1).
    pub(crate) fn reported(&mut self, now: Instant, bytes: &[u8]) {
        if let Ok(compound) = rtcp::parse(bytes) {
            self.quality.forwards(now, &compound);
        }
    }

    /// Writes the next packet of its own: sound of the transcoder, reports, the request for a key frame. Not yet protected.
    pub(crate) fn poll_packet(&mut self, cname: u64, buffer: &mut [u8]) -> Option<(Component, usize)> {
        while let Some(length) = self.out.poll_packet(buffer) {
            let bytes = buffer.get_mut(..length)?;
            if self.sends()
                && let Ok(packet) = Packet::parse(bytes)
            {
                self.said.add(packet.ssrc());
                self.quality.sent.add(length);
                return Some((Component::Rtp, length));
            }
        }
        if let Some((now, length)) = self.out.poll_report(&mut self.quality, cname, buffer) {
            self.reported(now, buffer.get(..length)?);
            return Some((Component::Rtcp, length));
        }
        let asking = self.asking.as_mut()?;
        let number = asking.poll()?;
        let ssrc = self.out.told(Class::Media).or(self.out.media().map(Rewriter::ssrc)).unwrap_or(asking.ssrc);
        let request = self.agreed.as_ref()?.wishes.key_frame;
        let length = key_frame_request((request, number), ssrc, self.quality.ssrc()?, cname, buffer)?;
        Some((Component::Rtcp, length))
    }

    /// Asks the peer for a key frame, again and again until one is seen.
    pub(crate) fn ask(&mut self, now: Instant, random: &mut Random) {
        let is_sending = self.quality.ssrc().is_some();
        self.asking = Some(Box::new(Asking::new(now, (random.next() >> 32) as u32, is_sending)));
    }

    /// Whether a packet of the peer begins a key frame; none where there is no telling. Asks on until one does.
    pub(crate) fn look(&mut self, now: Instant, bytes: &mut [u8]) -> Option<bool> {
        let packet = Packet::parse(bytes).ok()?;
        let formats = &self.agreed.as_ref()?.receive;
        let format = formats.iter().find(|format| format.payload_type == packet.payload_type())?;
        if Class::of(format) != Class::Media {
            return Some(false);
        }
        let begins = begins_key_frame(format, packet.payload());
        match (&mut self.asking, begins) {
            (asking, Some(true)) => *asking = None,
            (Some(asking), begins) => asking.go_on(now, begins.is_some()),
            (None, _) => {}
        }
        begins
    }

    /// Gives a packet of the mix its numbers. Returns whether it may go to the peer.
    pub(crate) fn mixed(&mut self, now: Instant, clock_rate: u32, bytes: &mut [u8]) -> bool {
        let may_go = self.sends() && self.out.mixed(now, clock_rate, bytes);
        if may_go && let Ok(packet) = Packet::parse(bytes) {
            self.said.add(packet.ssrc());
            self.quality.sent.add(bytes.len());
        }
        may_go
    }

    /// Protects a packet for the peer where it must be, and tells by which socket it goes, to where, and how long it is.
    pub(crate) fn send(&mut self, component: Component, buffer: &mut [u8], length: usize) -> Option<(Component, SocketAddr, usize)> {
        let mux = self.agreed.as_ref()?.mux;
        let component = if mux { Component::Rtp } else { component };
        let side = if component == Component::Rtp { &mut self.rtp } else { &mut self.rtcp };
        let (to, length) = match (&mut side.association, &mut self.cipher) {
            (Some(association), _) => (association.destination()?, association.seal(buffer, length)?),
            (None, Some(cipher)) => (side.latch.destination()?, cipher.seal(buffer, length)?),
            (None, None) => (side.latch.destination()?, length),
        };
        Some((component, to, length))
    }

    /// The DTLS associations of its sides.
    pub(crate) fn associations(&mut self) -> impl Iterator<Item = (Component, &mut Association)> {
        let sides = [(Component::Rtp, &mut self.rtp), (Component::Rtcp, &mut self.rtcp)];
        sides.into_iter().filter_map(|(component, side)| Some((component, &mut **side.association.as_mut()?)))
    }

    /// When the earliest of them has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let associations = [&self.rtp, &self.rtcp].into_iter().filter_map(|side| side.association.as_ref()?.poll_timeout());
        let asking = self.asking.as_ref().and_then(|asking| asking.poll_timeout());
        let keys = self.keys.as_ref().and_then(|keys| keys.poll_timeout());
        associations.chain(self.out.poll_timeout()).chain(asking).chain(keys).min()
    }

    /// What it waits for, if it does, in plain words.
    fn awaits(&self) -> Option<&'static str> {
        let agreed = self.agreed.as_ref()?;
        let association = self.rtp.association.as_ref().and_then(|association| association.awaits());
        association.or_else(|| (agreed.direction.receives() && self.quality.received.packets == 0).then_some("no packet has come"))
    }

    pub(crate) fn statistics(&self) -> StreamStatistics {
        let codec =
            self.quality.payload_type().and_then(|of| self.agreed.as_ref()?.receive.iter().find(|format| format.payload_type == of));
        StreamStatistics {
            codec: codec.map(|format| String::from_utf8_lossy(format.encoding.as_bytes()).into_owned()),
            transcoding: self.out.last().map(Plan::reason),
            waits_for: self.awaits().map(str::to_owned),
            held_back: self.out.at_work().map_or(Duration::ZERO, |(_, delay)| delay),
            kind: self.agreed.as_ref().map(|agreed| agreed.kind.clone()),
            remote: self.agreed.as_ref().and_then(|_| self.rtp.latch.destination()),
            ..self.quality.report()
        }
    }
}

/// What became of a packet that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Not the peer's, or nothing of ours.
    Dropped,
    /// The peer's, and between it and us.
    Handled,
    /// So many octets of the buffer are the answer to it.
    Answered(usize),
    /// The same, and it proved that its source is the peer's.
    Checked(usize),
    /// The peer's, but the stream does not take media from it now.
    Kept,
    /// The peer's, for whoever is bridged; so many octets.
    ToForward(Component, usize),
    /// The same, and a named event; with the digit that ended with it.
    Event(usize, Option<(Digit, Duration)>),
}
