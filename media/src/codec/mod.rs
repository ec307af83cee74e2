//! The codecs we can convert between, by their names in SDP (RFC 3551 §6, RFC 7587): an encoder and a decoder for each, which keep
//! the state of one direction of one stream. Frames are mono `i16` samples in the caller's buffers; nothing is allocated per
//! frame once the first frames are through. It knows no RTP header and no clock.

pub mod concealment;
pub mod g711;
pub mod g722;
pub mod noise;
pub mod opus;

use std::time::Duration;

/// Shortest frame sent.
pub const MIN_PTIME: Duration = Duration::from_millis(10);
/// Longest frame sent.
pub const MAX_PTIME: Duration = Duration::from_millis(60);
/// Frame sent when the peer asks for none (RFC 3551 §4.2).
pub const DEFAULT_PTIME: Duration = Duration::from_millis(20);
/// Samples of the longest payload that is decoded: 120 ms at 48 kHz (RFC 6716 §3.2.5). A longer payload is refused.
pub const MAX_SAMPLES: usize = 5760;
/// Octets of the longest payload that is decoded or made; the payload of an Ethernet frame. A longer one is refused.
pub const MAX_PAYLOAD: usize = 1472;

/// Why a frame could not be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer's payload is not of the codec: its frame is lost.
    #[error("the payload does not decode")]
    Payload,
    /// The caller's buffer is shorter than the frame, or the frame has a length the codec does not know.
    #[error("the buffer does not suit the frame")]
    Buffer,
    /// The codec does not work at the sample rate.
    #[error("the codec does not know the sample rate")]
    SampleRate,
}

/// A codec of the table.
pub trait Codec: Sync {
    /// Returns the encoding name of `a=rtpmap`.
    fn name(&self) -> &'static str;

    /// Returns the rate of RTP timestamps in Hz; for G.722 it is not that of the samples (RFC 3551 §4.5.2).
    fn clock_rate(&self) -> u32;

    /// Returns the channels of `a=rtpmap`; we send one whatever it says.
    fn channels(&self) -> u8 {
        1
    }

    /// Returns the payload type that needs no `a=rtpmap`.
    fn static_payload_type(&self) -> Option<u8>;

    /// Returns the sample rates in Hz at which it decodes and encodes, ascending.
    fn sample_rates(&self) -> &'static [u32];

    /// Returns the frame nearest to the wanted one that the codec has, within [`MIN_PTIME`] and [`MAX_PTIME`].
    fn ptime(&self, wanted: Duration) -> Duration {
        let tens = (wanted.min(MAX_PTIME).as_millis() as u64 / 10).max(1);
        Duration::from_millis(tens * 10)
    }

    /// Returns how long the payload sounds, in units of the clock rate; none when it is no payload of the codec.
    fn duration(&self, payload: &[u8]) -> Option<u32>;

    /// Makes an encoder.
    ///
    /// # Errors
    /// [`Error::SampleRate`] for a rate that is not in [`Codec::sample_rates`].
    fn encoder(&self, sample_rate: u32, parameters: &Parameters) -> Result<Box<dyn Encoder>, Error>;

    /// Makes a decoder.
    ///
    /// # Errors
    /// [`Error::SampleRate`] for a rate that is not in [`Codec::sample_rates`].
    fn decoder(&self, sample_rate: u32) -> Result<Box<dyn Decoder>, Error>;
}

impl std::fmt::Debug for dyn Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.name(), self.clock_rate())
    }
}

/// Turns frames of one stream into payloads.
pub trait Encoder: Send {
    /// Encodes one frame and returns the octets written; 0 when nothing need be sent (DTX).
    ///
    /// # Errors
    /// [`Error::Buffer`] when the frame's length or the payload's buffer does not suit.
    fn encode(&mut self, samples: &[i16], payload: &mut [u8]) -> Result<usize, Error>;
}

/// Turns payloads of one stream into samples, and fills the gaps between them.
pub trait Decoder: Send {
    /// Decodes a payload and returns the samples written.
    ///
    /// # Errors
    /// [`Error::Payload`] when it is not of the codec, [`Error::Buffer`] when it is longer than the buffer.
    fn decode(&mut self, payload: &[u8], samples: &mut [i16]) -> Result<usize, Error>;

    /// Fills all of the samples with what the lost frame may have been: from the redundancy in the payload that follows the gap,
    /// if there is any, else from what was heard last, which fades to silence within 100 ms.
    fn conceal(&mut self, next: Option<&[u8]>, samples: &mut [i16]);
}

/// The codecs, best first.
pub static CODECS: &[&dyn Codec] = &[&opus::Opus, &g722::G722, &g711::PCMA, &g711::PCMU];

/// Finds a codec by the name and clock rate of `a=rtpmap`; the name's case does not matter (RFC 4855 §3).
#[must_use]
pub fn find(name: &str, clock_rate: u32) -> Option<&'static dyn Codec> {
    CODECS.iter().copied().find(|codec| codec.name().eq_ignore_ascii_case(name) && codec.clock_rate() == clock_rate)
}

/// Chooses the sample rates to decode one codec and encode the other: a common one where there is one, so that nothing is
/// resampled, and the lower of the two codecs' best, since the narrower one decides what is heard.
#[must_use]
pub fn sample_rates(from: &dyn Codec, to: &dyn Codec) -> (u32, u32) {
    let best = |codec: &dyn Codec| codec.sample_rates().last().copied().unwrap_or(8000);
    let limit = best(from).min(best(to));
    let nearest = |codec: &dyn Codec| codec.sample_rates().iter().copied().rfind(|&rate| rate <= limit).unwrap_or(best(codec));
    (nearest(from), nearest(to))
}

/// What `a=fmtp` says of how a codec is to be sent; what it leaves out has the default of RFC 7587 §6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Highest sample rate in Hz that the peer plays: 8000 to 48000; default 48000.
    pub max_playback_rate: u32,
    /// Highest mean bit rate that the peer wants: 6000 to 510000 bits/s; default none.
    pub max_average_bitrate: Option<u32>,
    /// Whether the peer prefers stereo; we send mono whatever it says. Default no.
    pub stereo: bool,
    /// Whether the peer makes use of in-band redundancy. Default no.
    pub use_inband_fec: bool,
    /// Whether the peer prefers that nothing is sent in silence. Default no.
    pub use_dtx: bool,
    /// The frame the peer prefers, from its `a=ptime`; default [`DEFAULT_PTIME`].
    pub ptime: Duration,
    /// The shortest frame the peer takes, its `minptime`; default [`MIN_PTIME`].
    pub minptime: Duration,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            max_playback_rate: 48000,
            max_average_bitrate: None,
            stereo: false,
            use_inband_fec: false,
            use_dtx: false,
            ptime: DEFAULT_PTIME,
            minptime: MIN_PTIME,
        }
    }
}

impl Parameters {
    /// Reads the parameters of an `a=fmtp` line, what follows the payload type; unknown ones and values out of range are passed
    /// over (S18). A `ptime` in it, as some write, counts as `a=ptime`.
    #[must_use]
    pub fn parse(fmtp: &str) -> Self {
        let mut parameters = Self::default();
        let milliseconds = |number: u32| Duration::from_millis(number.into()).clamp(MIN_PTIME, MAX_PTIME);
        for (name, value) in fmtp.split(';').filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim());
            let number = |range: std::ops::RangeInclusive<u32>| value.parse().ok().filter(|number| range.contains(number));
            let flag = value == "1";
            match name.to_ascii_lowercase().as_str() {
                "maxplaybackrate" => parameters.max_playback_rate = number(8000..=48000).unwrap_or(48000),
                "maxaveragebitrate" => parameters.max_average_bitrate = number(6000..=510_000),
                "stereo" => parameters.stereo = flag,
                "useinbandfec" => parameters.use_inband_fec = flag,
                "usedtx" => parameters.use_dtx = flag,
                "ptime" => parameters.ptime = number(1..=1000).map_or(DEFAULT_PTIME, milliseconds),
                "minptime" => parameters.minptime = number(3..=120).map_or(MIN_PTIME, milliseconds),
                _ => {}
            }
        }
        parameters
    }

    /// Reads what a peer's m-line says: the parameters of `a=fmtp`, empty when there are none, `a=ptime` and `a=maxptime`. Where they
    /// contradict each other, a frame is rather too short than too long.
    #[must_use]
    pub fn agreed(fmtp: &str, ptime: Option<Duration>, maxptime: Option<Duration>) -> Self {
        let mut parameters = Self::parse(fmtp);
        let wanted = ptime.unwrap_or(parameters.ptime).max(parameters.minptime);
        parameters.ptime = wanted.min(maxptime.unwrap_or(MAX_PTIME));
        parameters
    }
}

/// Returns the samples of a time at a rate.
#[must_use]
pub fn samples(time: Duration, sample_rate: u32) -> usize {
    (time.as_millis() as usize).saturating_mul(sample_rate as usize) / 1000
}

#[cfg(test)]
pub(crate) mod tone;

#[cfg(test)]
mod tests {
    use super::{
        tone::{Tone, level, snr},
        *,
    };

    const FRAME: Duration = DEFAULT_PTIME;

    /// Sends a second of a tone through a codec.
    fn through(codec: &dyn Codec, sample_rate: u32, frequency: f64, amplitude: f64) -> Vec<i16> {
        let mut encoder = codec.encoder(sample_rate, &Parameters::default()).unwrap();
        let mut decoder = codec.decoder(sample_rate).unwrap();
        let mut tone = Tone::new(sample_rate, frequency, amplitude);
        let length = samples(FRAME, sample_rate);
        let (mut frame, mut payload, mut decoded) = (vec![0; length], vec![0; MAX_PAYLOAD], vec![0; MAX_SAMPLES]);
        let mut all = Vec::new();
        for _ in 0..50 {
            tone.fill(&mut frame);
            let octets = encoder.encode(&frame, &mut payload).unwrap();
            assert_eq!(codec.duration(&payload[..octets]), Some(codec.clock_rate() / 50));
            let count = decoder.decode(&payload[..octets], &mut decoded).unwrap();
            assert_eq!(count, length);
            all.extend_from_slice(&decoded[..count]);
        }
        all
    }

    #[test]
    fn every_codec_carries_a_tone_at_its_level() {
        for &codec in CODECS {
            for &rate in codec.sample_rates() {
                for frequency in [440.0, 1000.0, 3000.0] {
                    let sound = &through(codec, rate, frequency, 8000.0)[rate as usize / 5..];
                    let heard = level(sound, rate, frequency);
                    assert!((heard / 8000.0 - 1.0).abs() < 0.1, "{codec:?} at {rate}: {frequency} Hz with {heard}");
                    let snr = snr(sound, rate, frequency);
                    assert!(snr > 15.0, "{codec:?} at {rate}: {frequency} Hz with {snr:.1} dB");
                }
            }
        }
    }

    #[test]
    fn codec_is_found_whatever_the_case_of_its_name() {
        assert_eq!(find("OPUS", 48000).unwrap().channels(), 2);
        assert_eq!(find("g722", 8000).unwrap().static_payload_type(), Some(9));
        assert_eq!(find("PCMU", 8000).unwrap().static_payload_type(), Some(0));
        assert!(find("PCMU", 16000).is_none() && find("telephone-event", 8000).is_none());
    }

    #[test]
    fn rates_are_common_where_they_can_be() {
        let codec = |name, rate| find(name, rate).unwrap();
        let (opus, g722, pcma) = (codec("opus", 48000), codec("G722", 8000), codec("PCMA", 8000));
        assert_eq!(sample_rates(opus, pcma), (8000, 8000));
        assert_eq!(sample_rates(g722, opus), (16000, 16000));
        assert_eq!(sample_rates(g722, pcma), (16000, 8000));
        assert_eq!(sample_rates(opus, opus), (48000, 48000));
    }

    #[test]
    fn parameters_out_of_range_are_passed_over() {
        // S18
        let all = Parameters::parse("maxplaybackrate=16000; maxaveragebitrate=20000;stereo=1; useinbandfec=1;UseDTX=1;x=y;minptime=10");
        assert_eq!((all.max_playback_rate, all.max_average_bitrate), (16000, Some(20000)));
        assert!(all.stereo && all.use_inband_fec && all.use_dtx);
        for bad in ["", ";;=", "maxplaybackrate=0", "maxaveragebitrate=4294967296", "ptime=-1", "useinbandfec=2", "maxplaybackrate"] {
            assert_eq!(Parameters::parse(bad), Parameters::default(), "{bad}");
        }
        assert_eq!(Parameters::parse("ptime=999").ptime, MAX_PTIME);
    }

    #[test]
    fn ptime_is_one_that_the_codec_has() {
        let ms = Duration::from_millis;
        let ptime = |name, rate, wanted| find(name, rate).unwrap().ptime(ms(wanted));
        assert_eq!((ptime("PCMA", 8000, 0), ptime("PCMA", 8000, 35), ptime("PCMA", 8000, 900)), (ms(10), ms(30), ms(60)));
        assert_eq!((ptime("opus", 48000, 30), ptime("opus", 48000, 50), ptime("opus", 48000, 60)), (ms(20), ms(40), ms(60)));
    }

    #[test]
    fn damaged_payloads_are_errors_or_sound_but_no_panic() {
        // S8
        let mut seed = 7u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as u8
        };
        for &codec in CODECS {
            let mut decoder = codec.decoder(codec.sample_rates()[0]).unwrap();
            let mut samples = vec![0; MAX_SAMPLES];
            for length in (0..MAX_PAYLOAD + 40).step_by(7) {
                let payload: Vec<_> = std::iter::repeat_with(&mut random).take(length).collect();
                let _ = codec.duration(&payload);
                let _ = decoder.decode(&payload, &mut samples);
                decoder.conceal(Some(&payload), &mut samples[..160]);
                let _ = decoder.decode(&payload, &mut samples[..3]);
            }
        }
    }
}
