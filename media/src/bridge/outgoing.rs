//! Outgoing: one stream towards its receiver, whoever feeds it: another port whose packets pass, the next one, a transcoder. The
//! receiver sees one source with numbers that go on.
//!
//! A stream begins as its first source: while that feeds it, no packet is changed, and neither is RTCP. When another port or a
//! transcoder takes over, its packets are given the numbers that follow. Sound is one source at a time, so all of it is one
//! numbering. Of video the first SSRC that a port sends of each [`Class`] goes on with the numbers of that class, so that RTX is
//! never taken for pictures; further SSRCs pass as they are. Where the receiver was told our SSRCs in the SDP, the first ones have those
//! from the beginning.

use std::time::{Duration, Instant};

use super::{
    keypad::Keypad,
    reports::{Random, Reports},
    route::{Class, Hop, Pass, Plan, Rescaling},
};
use crate::{
    dtmf::{Digit, Press, event::Rescale},
    port::rtp::Agreed,
    quality::Quality,
    rtp::{
        Packet,
        rewrite::{Identity, Marker, Rewriter},
    },
    sdp::negotiate::Sources,
    transcode::{Input, Output, Transcoder},
};

/// Shortest time between two beginnings of transcoding in one stream: a source that changes its codec more often is not heard
/// until then, so that it cannot make us build codecs all the time.
const MIN_CHANGE: Duration = Duration::from_millis(500);
/// What the rewriter calls the transcoder: no port, for those are numbered from 0 up.
const TRANSCODER: u32 = u32::MAX;
/// What it calls the keypad.
const KEYPAD: u32 = u32::MAX - 1;
/// What it calls the mix.
const MIXER: u32 = u32::MAX - 2;

/// One stream towards its receiver.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    rewriters: [Option<Box<Rewriter>>; 3],
    rescaling: Option<Box<Rescaling>>,
    work: Option<Box<Work>>,
    /// While keys are pressed that signaling wants pressed; the receiver hears nothing else then.
    keypad: Option<Box<Keypad>>,
    /// Of transcoding, which may be over.
    history: Option<Box<History>>,
    /// What the receiver was told that our sources are called.
    pub(crate) sources: Option<Box<Sources>>,
    /// Whether packets to the receiver are protected.
    pub(crate) is_protected: bool,
    /// Present where an end of the stream talks with us instead of the other end.
    pub(crate) reports: Option<Box<Reports>>,
}

#[derive(Debug)]
struct History {
    /// When it last began.
    began: Instant,
    /// Whether signaling was told of it.
    told: bool,
    plan: Plan,
}

#[derive(Debug)]
struct Work {
    plan: Plan,
    transcoder: Transcoder,
    /// The latest time known.
    now: Instant,
    /// When the transcoder last looked at the time: what was due by then waits to be sent, what came due since waits for the next look.
    ticked: Option<Instant>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// It is changed as it has to be, and goes on.
    Passes,
    /// The transcoder has it.
    Taken,
    /// The same, and signaling should know that transcoding has begun.
    Began,
    /// It goes nowhere.
    Dropped,
}

impl Outgoing {
    /// Takes a packet of the port `key`.
    pub(crate) fn feed(
        &mut self,
        now: Instant,
        key: u32,
        hop: Hop,
        plan: Option<&Plan>,
        packet: &mut Packet<'_>,
        random: &mut Random,
    ) -> Fed {
        match (hop, plan) {
            (_, _) if self.keypad.is_some() => Fed::Taken,
            (Hop::Pass(pass), _) => {
                if self.work.is_some() && pass.class == Class::Media {
                    self.work = None;
                }
                self.pass(now, key, pass, packet)
            }
            (Hop::Beside(..), _) if let Some(work) = &mut self.work => work.take(now, packet),
            (Hop::Transcode(_) | Hop::Beside(None, _), Some(plan)) => self.transcode(now, plan, packet, random),
            (Hop::Beside(Some(pass), rate), _) => {
                if let Some(rate) = rate {
                    self.rescale(pass.clock_rate, rate, packet);
                }
                self.pass(now, key, pass, packet)
            }
            (Hop::Transcode(_) | Hop::Beside(None, _), None) => Fed::Dropped,
        }
    }

    fn pass(&mut self, now: Instant, key: u32, pass: Pass, packet: &mut Packet<'_>) -> Fed {
        packet.set_payload_type(pass.payload_type);
        if pass.class == Class::Retransmission && !self.name_original(packet) {
            return Fed::Dropped;
        }
        let told = self.told(pass.class);
        let Some(rewriter) = self.rewriters.get_mut(pass.class as usize) else { return Fed::Dropped };
        match rewriter {
            None => *rewriter = Some(Box::new(Rewriter::of(now, key, pass.clock_rate, packet, pass.marker, told))),
            Some(stream) => {
                stream.set_renumbers(self.is_protected);
                let is_further = pass.marker == Marker::Frame && stream.source_of(key).is_some_and(|ssrc| ssrc != packet.ssrc());
                if !is_further && stream.rewrite(now, key, pass.clock_rate, packet).is_err() {
                    return Fed::Dropped;
                }
            }
        }
        Fed::Passes
    }

    /// Gives what is sent again the number that the receiver knows it by (RFC 4588 §4). None for what was sent before the last change.
    fn name_original(&self, packet: &mut Packet<'_>) -> bool {
        let Some(media) = self.media().filter(|media| !media.is_identity()) else { return true };
        let Some(original) = packet.payload_mut().first_chunk_mut::<2>() else { return true };
        let Some(known) = media.stream_sequence(u16::from_be_bytes(*original)) else { return false };
        *original = known.to_be_bytes();
        true
    }

    fn rescale(&mut self, from: u32, to: u32, packet: &mut Packet<'_>) {
        let rescaling = self.rescaling.get_or_insert_with(|| Box::new(Rescaling { rates: (from, to), rescale: Rescale::new(from, to) }));
        if rescaling.rates != (from, to) {
            **rescaling = Rescaling { rates: (from, to), rescale: Rescale::new(from, to) };
        }
        rescaling.rescale.rescale(packet);
    }

    fn transcode(&mut self, now: Instant, plan: &Plan, packet: &Packet<'_>, random: &mut Random) -> Fed {
        let told = self.history.as_ref().is_some_and(|history| history.told);
        if let Some(work) = self.work.as_mut().filter(|work| work.plan == *plan) {
            work.take(now, packet);
            self.history.iter_mut().for_each(|history| history.told = true);
            return if told { Fed::Taken } else { Fed::Began };
        }
        // Another source than before may need another conversion at once.
        if told && self.history.as_ref().is_some_and(|history| now.saturating_duration_since(history.began) < MIN_CHANGE) {
            return Fed::Dropped;
        }
        self.history = Some(Box::new(History { began: now, told: true, plan: *plan }));
        let Some(work) = Work::new(now, plan, random) else { return Fed::Dropped };
        self.work.insert(Box::new(work)).take(now, packet);
        if told { Fed::Taken } else { Fed::Began }
    }

    /// Presses a key: in the sound that is made for the receiver, else in place of the sound that is relayed.
    pub(crate) fn press(&mut self, now: Instant, to: &Agreed, (digit, duration): (Digit, Duration), random: &mut Random) {
        if let Some(work) = &mut self.work {
            work.now = now;
            work.transcoder.keep_on(now);
            work.transcoder.press(Press::Down(digit));
            work.transcoder.press(Press::Up(digit, duration));
            return;
        }
        if self.keypad.is_none() {
            self.keypad = Keypad::new(now, to, identity(random)).map(Box::new);
        }
        if let Some(keypad) = &mut self.keypad {
            keypad.press(now, digit, duration);
        }
    }

    /// The SSRC that the receiver was told, if it was.
    pub(crate) fn told(&self, class: Class) -> Option<u32> {
        self.sources.as_ref().map(|sources| match class {
            Class::Media => sources.media,
            Class::Retransmission => sources.retransmission,
            Class::Repair => sources.repair,
        })
    }

    /// Sound and pictures themselves.
    pub(crate) fn media(&self) -> Option<&Rewriter> {
        self.rewriters.first()?.as_deref()
    }

    /// Whether the receiver has the numbers of the source.
    pub(crate) fn is_identity(&self) -> bool {
        self.media().is_none_or(Rewriter::is_identity)
    }

    /// The conversion that is at work, and how long it keeps sound back.
    pub(crate) fn at_work(&self) -> Option<(&Plan, Duration)> {
        self.work.as_ref().map(|work| (&work.plan, work.transcoder.delay()))
    }

    /// The last conversion, which may be over.
    pub(crate) fn last(&self) -> Option<&Plan> {
        self.history.as_ref().map(|history| &history.plan)
    }

    /// Ends transcoding, unless the conversion is still wanted.
    pub(crate) fn keep(&mut self, is_wanted: impl Fn(&Plan) -> bool) {
        self.work.take_if(|work| !is_wanted(&work.plan));
    }

    /// Another source feeds the stream, or none. A conversion at work goes on where the next source takes over in the middle of sound and
    /// needs the same.
    pub(crate) fn turn(&mut self, is_handoff: bool) {
        self.work.take_if(|_| !is_handoff);
        self.rescaling = None;
        if let Some(history) = &mut self.history {
            history.told = false;
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let is_ahead = |work: &Work, due: Instant| work.ticked.is_none_or(|ticked| due > ticked);
        let transcoder = self.work.as_ref().and_then(|work| work.transcoder.poll_timeout().filter(|due| is_ahead(work, *due)));
        let reports = self.reports.as_ref().map(|reports| reports.poll_timeout());
        let keypad = self.keypad.as_ref().and_then(|keypad| keypad.poll_timeout());
        [transcoder, reports, keypad].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(work) = &mut self.work {
            (work.now, work.ticked) = (now, Some(now));
            work.transcoder.handle_timeout(now);
        }
        self.keypad.iter_mut().for_each(|keypad| keypad.handle_timeout(now));
        if let Some(reports) = &mut self.reports {
            reports.handle_timeout(now);
        }
    }

    /// The report that is due.
    pub(crate) fn poll_report(&mut self, quality: &mut Quality, cname: u64, buffer: &mut [u8]) -> Option<(Instant, usize)> {
        let media = self.rewriters.first()?.as_deref();
        self.reports.as_mut()?.poll(media, quality, cname, buffer)
    }

    /// The next packet of the keypad or the transcoder, with the numbers of the stream.
    pub(crate) fn poll_packet(&mut self, buffer: &mut [u8]) -> Option<usize> {
        while let Some(keypad) = &mut self.keypad {
            let Some(length) = keypad.poll_packet(buffer) else {
                self.keypad.take_if(|keypad| keypad.is_done());
                break;
            };
            let (now, clock_rate) = (keypad.now, keypad.clock_rate);
            if self.number(now, KEYPAD, clock_rate, buffer.get_mut(..length)?) {
                return Some(length);
            }
        }
        while let Some(work) = &mut self.work {
            let length = work.transcoder.poll_packet(buffer)?;
            let (now, clock_rate) = (work.now, work.plan.to.clock_rate());
            if self.number(now, TRANSCODER, clock_rate, buffer.get_mut(..length)?) {
                return Some(length);
            }
        }
        None
    }

    /// Gives a packet of the mix the numbers of the stream. Returns whether it may go.
    pub(crate) fn mixed(&mut self, now: Instant, clock_rate: u32, bytes: &mut [u8]) -> bool {
        self.keypad.is_none() && self.number(now, MIXER, clock_rate, bytes)
    }

    /// Gives a packet of ours the numbers of the stream. Returns whether it may go.
    fn number(&mut self, now: Instant, key: u32, clock_rate: u32, bytes: &mut [u8]) -> bool {
        let told = self.told(Class::Media);
        let ([media, ..], Ok(mut packet)) = (&mut self.rewriters, Packet::parse(bytes)) else { return false };
        match media {
            Some(stream) => stream.rewrite(now, key, clock_rate, &mut packet).is_ok(),
            None => {
                *media = Some(Box::new(Rewriter::of(now, key, clock_rate, &mut packet, Marker::Talkspurt, told)));
                true
            }
        }
    }
}

/// Numbers to begin with.
fn identity(random: &mut Random) -> Identity {
    let [a, b] = [random.next(), random.next()];
    Identity { ssrc: (a >> 32) as u32, sequence: b as u16 >> 1, timestamp: (b >> 32) as u32 }
}

impl Work {
    fn new(now: Instant, plan: &Plan, random: &mut Random) -> Option<Self> {
        let identity = identity(random);
        let input = Input { codec: plan.from, payload_type: plan.from_type, comfort_noise: plan.noise_type, events: plan.events };
        let Plan { to: codec, to_type: payload_type, parameters, digits, .. } = *plan;
        let output = Output { codec, payload_type, parameters, digits, identity };
        Some(Self { plan: *plan, transcoder: Transcoder::new(input, output).ok()?, now, ticked: None })
    }

    fn take(&mut self, now: Instant, packet: &Packet<'_>) -> Fed {
        self.now = now;
        self.transcoder.handle_packet(now, packet);
        Fed::Taken
    }
}
