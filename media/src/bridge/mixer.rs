//! Mixer: the one clock of a bridge in which several are heard at once. At each beat, every 20 ms, every leg that speaks is decoded once
//! ([`Ear`]), and what is heard is encoded once for each codec and each party that hears something else than the rest: all who are
//! silent themselves hear the same. It also plays sounds to legs that wait ([`play`](crate::play)). A mix goes on in its own numbers;
//! what they are towards the receiver is the business of `outgoing.rs`.

use std::time::{Duration, Instant};

use super::{
    Place,
    ear::{Ear, codec_rate},
    reports::Random,
};
use crate::{
    PortId, SoundId,
    codec::{self, Codec, DEFAULT_PTIME, Encoder, MAX_PAYLOAD, MAX_SAMPLES, Parameters},
    mix::Mix,
    play::Sounds,
    port::rtp::Agreed,
    resample::Resampler,
    sdp::Format,
    transcode::MAX_CATCH_UP,
};

/// Beats of the clock.
pub(crate) const FRAMES_A_SECOND: u32 = 50;
/// Time between two of them.
pub(crate) const BEAT: Duration = Duration::from_millis(20);
/// After it spoke a party hears what is made for it alone for so long; then it hears what all who are silent hear. It bounds how often
/// an encoder's history, which the receiver's decoder relies on, is not that of the packet before.
const OWN: Duration = Duration::from_secs(2);
/// Octets of the RTP header that is written.
const HEADER: usize = 12;

/// The mix of one bridge.
#[derive(Debug)]
pub(crate) struct Mixer {
    rate: u32,
    pub(crate) ears: Vec<Ear>,
    voices: Vec<Voice>,
    encodings: Vec<Encoding>,
    mix: Mix,
    scratch: Vec<i16>,
    /// The latest time known, and when the next beat is due.
    now: Instant,
    next: Instant,
    /// The voice whose packet is written next; those before it are done with this beat.
    turn: usize,
    /// Parties that spoke, and until when they hear their own.
    spoke: Vec<(u16, Instant)>,
}

/// A leg that hears the mix, or a sound.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(crate) port: PortId,
    pub(crate) place: Place,
    party: u16,
    plays: Option<SoundId>,
    codec: &'static dyn Codec,
    parameters: Parameters,
    payload_type: u8,
    identity: u32,
    sequence: u16,
    timestamp: u32,
    /// Frames of a sound that were played.
    position: usize,
    encoding: Option<usize>,
}

/// What the plan says of a leg that hears.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener<'a> {
    pub(crate) port: PortId,
    pub(crate) place: Place,
    pub(crate) party: u16,
    pub(crate) plays: Option<SoundId>,
    pub(crate) agreed: &'a Agreed,
}

/// What the plan says of a leg that is heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'a> {
    pub(crate) port: PortId,
    pub(crate) party: u16,
    pub(crate) agreed: &'a Agreed,
}

/// One encoder, and what it made of the present beat.
struct Encoding {
    codec: &'static dyn Codec,
    parameters: Parameters,
    /// Whose own sound is not in it; none: all is.
    without: Option<u16>,
    encoder: Box<dyn Encoder>,
    resampler: Resampler,
    samples: Vec<i16>,
    payload: Vec<u8>,
    /// Octets of the payload; none before it is made for this beat.
    length: Option<usize>,
}

/// A packet of the mix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixed {
    pub(crate) port: PortId,
    pub(crate) place: Place,
    pub(crate) clock_rate: u32,
    pub(crate) at: Instant,
    pub(crate) length: usize,
}

/// The formats of sound that can be mixed, most wanted first, then those that need not be agreed.
pub(crate) fn mixable(formats: &[Format]) -> impl Iterator<Item = (u8, &'static dyn Codec)> + Clone {
    let known = |payload_type: u8| formats.iter().any(|format| format.payload_type == payload_type);
    let unasked = codec::CODECS.iter().filter_map(move |codec| Some((codec.static_payload_type().filter(|of| !known(*of))?, *codec)));
    formats.iter().filter_map(|format| Some((format.payload_type, super::route::codec_of(format)?))).chain(unasked)
}

/// What a leg is sent.
fn output(agreed: &Agreed) -> Option<(u8, &'static dyn Codec)> {
    agreed.send.iter().find_map(|format| Some((format.payload_type, super::route::codec_of(format)?)))
}

/// The sample rate of a mix: that of the narrowest codec that loses nothing which more than one leg could tell.
fn rate_of(speakers: &[Speaker<'_>], listeners: &[Listener<'_>]) -> u32 {
    let best = |codec: &dyn Codec| codec.sample_rates().last().copied();
    let spoken = speakers.iter().filter_map(|speaker| Some((speaker.port, Ear::best_rate(speaker.agreed)?)));
    let heard = listeners.iter().filter_map(|listener| Some((listener.port, best(output(listener.agreed)?.1)?)));
    let mut rates: Vec<_> = spoken.chain(heard).collect();
    rates.sort_unstable();
    rates.dedup_by_key(|(port, _)| *port);
    let wide = rates.iter().filter(|(_, rate)| *rate > 8000).count();
    match rates.iter().map(|(_, rate)| *rate).min() {
        Some(48000) => 48000,
        _ if wide > 1 => 16000,
        Some(_) | None => 8000,
    }
}

impl Mixer {
    /// A mix that begins at a time.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            rate: 0,
            ears: Vec::new(),
            voices: Vec::new(),
            encodings: Vec::new(),
            mix: Mix::default(),
            scratch: vec![0; MAX_SAMPLES],
            now,
            next: now + BEAT,
            turn: 0,
            spoke: Vec::new(),
        }
    }

    /// Takes who speaks and who hears; what goes on is kept. Ears are in the order of the speakers.
    pub(crate) fn arrange(&mut self, speakers: &[Speaker<'_>], listeners: &[Listener<'_>], random: &mut Random) {
        let rate = rate_of(speakers, listeners);
        if std::mem::replace(&mut self.rate, rate) != rate {
            self.encodings.clear();
        }
        let mut before = std::mem::take(&mut self.ears);
        self.ears = speakers
            .iter()
            .map(|speaker| {
                let known = before.iter().position(|ear| ear.is_for(speaker.port, speaker.agreed, rate));
                let ear = known.map(|at| before.swap_remove(at));
                let fresh = || Ear::new(speaker.port, speaker.party, speaker.agreed, rate);
                let mut ear = ear.unwrap_or_else(fresh);
                ear.party = speaker.party;
                ear
            })
            .collect();
        let mut before = std::mem::take(&mut self.voices);
        let voices = listeners.iter().filter_map(|listener| {
            let (payload_type, codec) = output(listener.agreed)?;
            let known = before.iter().position(|voice| voice.place == listener.place && voice.port == listener.port);
            let voice = known.map_or_else(|| Voice::new(listener, codec, random), |at| before.swap_remove(at));
            let position = if voice.plays == listener.plays { voice.position } else { 0 };
            let parameters = Parameters { ptime: DEFAULT_PTIME, ..listener.agreed.wishes.parameters(payload_type) };
            Some(Voice { party: listener.party, plays: listener.plays, codec, parameters, payload_type, position, encoding: None, ..voice })
        });
        self.voices = voices.collect();
        self.turn = self.voices.len();
        let stays = |encoding: &Encoding| {
            let hears = |voice: &Voice| encoding.without.is_none_or(|party| party == voice.party);
            self.voices.iter().any(|voice| voice.plays.is_none() && hears(voice) && encoding.suits(voice))
        };
        self.encodings.retain(stays);
    }

    /// The latest time known.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// When the next beat is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Lets time pass; [`poll`](Self::poll) then gives the packets of the beats that are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Writes the next packet that is due. `takes` says whether a leg may be sent to now.
    pub(crate) fn poll(&mut self, sounds: &mut Sounds, takes: impl Fn(PortId, Place) -> bool, buffer: &mut [u8]) -> Option<Mixed> {
        loop {
            while let Some(voice) = self.voices.get(self.turn) {
                let index = self.turn;
                self.turn += 1;
                if takes(voice.port, voice.place)
                    && let Some(mixed) = self.speak(index, sounds, buffer)
                {
                    return Some(mixed);
                }
            }
            if self.next > self.now {
                return None;
            }
            self.beat();
        }
    }

    /// Hears and sums up what is said.
    fn beat(&mut self) {
        let late = (self.now.saturating_duration_since(self.next).as_millis() / BEAT.as_millis()) as u32;
        let skipped = if late > MAX_CATCH_UP { late } else { 0 };
        let at = self.next + BEAT * skipped;
        self.next = at + BEAT;
        self.turn = 0;
        for voice in &mut self.voices {
            voice.advance(skipped + 1);
        }
        self.encodings.iter_mut().for_each(|encoding| encoding.length = None);
        self.mix.start((self.rate / FRAMES_A_SECOND) as usize);
        for ear in &mut self.ears {
            ear.listen(at, &mut self.scratch);
            let Some(frame) = ear.frame() else { continue };
            self.mix.add(frame);
            match self.spoke.iter_mut().find(|(party, _)| *party == ear.party) {
                Some((_, until)) => *until = at + OWN,
                None => self.spoke.push((ear.party, at + OWN)),
            }
        }
        self.spoke.retain(|(_, until)| *until > at);
    }

    /// Writes the packet of one leg.
    fn speak(&mut self, index: usize, sounds: &mut Sounds, buffer: &mut [u8]) -> Option<Mixed> {
        let voice = self.voices.get(index)?;
        let (header, rest) = buffer.split_first_chunk_mut::<HEADER>()?;
        let length = if let Some(sound) = voice.plays {
            let payload = sounds.payload(sound, voice.codec, voice.position)?;
            rest.get_mut(..payload.len())?.copy_from_slice(payload);
            payload.len()
        } else {
            let encoding = self.encoding(index)?;
            let payload = self.made(encoding)?;
            rest.get_mut(..payload.len())?.copy_from_slice(payload);
            payload.len()
        };
        let at = self.next.checked_sub(BEAT).unwrap_or(self.next);
        let voice = self.voices.get_mut(index)?;
        if length == 0 {
            return None;
        }
        voice.write_header(header);
        let clock_rate = voice.codec.clock_rate();
        Some(Mixed { port: voice.port, place: voice.place, clock_rate, at, length: HEADER + length })
    }

    /// The encoding that a leg hears.
    fn encoding(&mut self, index: usize) -> Option<usize> {
        let voice = self.voices.get(index)?;
        let without = self.spoke.iter().any(|(party, _)| *party == voice.party).then_some(voice.party);
        let is_its = |encoding: &Encoding| encoding.without == without && encoding.suits(voice);
        if let Some(known) = voice.encoding.filter(|known| self.encodings.get(*known).is_some_and(is_its)) {
            return Some(known);
        }
        let found = self.encodings.iter().position(is_its);
        let found = match found {
            Some(found) => found,
            None => {
                let encoding = Encoding::new(voice, without, self.rate)?;
                self.encodings.push(encoding);
                self.encodings.len() - 1
            }
        };
        self.voices.get_mut(index)?.encoding = Some(found);
        Some(found)
    }

    /// The payload of an encoding, made when it is first wanted in a beat.
    fn made(&mut self, encoding: usize) -> Option<&[u8]> {
        let encoding = self.encodings.get_mut(encoding)?;
        if encoding.length.is_none() {
            let own = self.ears.iter().filter(|ear| encoding.without == Some(ear.party)).filter_map(Ear::frame);
            let length = self.mix.without(own, &mut self.scratch);
            encoding.make(self.scratch.get(..length)?);
        }
        encoding.payload.get(..encoding.length?)
    }

    /// How loud each party is, by the frames of the last beat.
    pub(crate) fn loudness(&self) -> impl Iterator<Item = (u16, u32)> {
        self.ears.iter().map(|ear| (ear.party, ear.frame().map_or(0, |_| ear.power)))
    }
}

impl Voice {
    fn new(listener: &Listener<'_>, codec: &'static dyn Codec, random: &mut Random) -> Self {
        let [a, b] = [random.next(), random.next()];
        Self {
            port: listener.port,
            place: listener.place,
            party: listener.party,
            plays: listener.plays,
            codec,
            parameters: Parameters::default(),
            payload_type: 0,
            identity: (a >> 32) as u32,
            sequence: b as u16 >> 1,
            timestamp: (b >> 32) as u32,
            position: 0,
            encoding: None,
        }
    }

    fn advance(&mut self, beats: u32) {
        self.timestamp = self.timestamp.wrapping_add(self.codec.clock_rate() / FRAMES_A_SECOND * beats);
    }

    fn write_header(&mut self, header: &mut [u8; HEADER]) {
        let [sequence, timestamp, ssrc] = [u32::from(self.sequence), self.timestamp, self.identity].map(u32::to_be_bytes);
        let octets = [0x80, self.payload_type & 0x7f, sequence[2], sequence[3]].into_iter().chain(timestamp).chain(ssrc);
        header.iter_mut().zip(octets).for_each(|(to, octet)| *to = octet);
        self.sequence = self.sequence.wrapping_add(1);
        self.position = self.position.wrapping_add(1);
    }
}

impl Encoding {
    fn new(voice: &Voice, without: Option<u16>, rate: u32) -> Option<Self> {
        let Voice { codec, parameters, .. } = *voice;
        let own = codec_rate(codec, rate);
        let encoder = codec.encoder(own, &parameters).ok()?;
        let resampler = Resampler::new(rate, own).ok()?;
        let samples = vec![0; (own / FRAMES_A_SECOND) as usize];
        Some(Self { codec, parameters, without, encoder, resampler, samples, payload: vec![0; MAX_PAYLOAD], length: None })
    }

    fn suits(&self, voice: &Voice) -> bool {
        std::ptr::addr_eq(voice.codec, self.codec) && voice.parameters == self.parameters
    }

    fn make(&mut self, heard: &[i16]) {
        self.resampler.process(heard, &mut self.samples);
        self.length = Some(self.encoder.encode(&self.samples, &mut self.payload).unwrap_or(0));
    }
}

impl std::fmt::Debug for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoding").field("codec", &self.codec).field("without", &self.without).finish_non_exhaustive()
    }
}
