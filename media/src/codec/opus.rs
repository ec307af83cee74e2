//! Opus (RFC 6716, RFC 7587) by `opus-pure`: mono both ways, since a stereo payload is mixed down by the decoder. It decodes and
//! encodes at the other side's sample rate, which spares the resampler and, towards a telephone, most of the work.

use std::time::Duration;

use opus_pure::{Application, Bandwidth, OpusDecoder, OpusEncoder, Signal, packet};

use super::{Codec, Decoder, Encoder, Error, MAX_PAYLOAD, MAX_SAMPLES, Parameters};

const CLOCK_RATE: u32 = 48000;
const SAMPLE_RATES: &[u32] = &[8000, 16000, 48000];

/// Complexity of the encoder, 0 to 10. A frame of 20 ms took 24 us at 0, 56 us at 5, 117 us at 10 with sound at 8 kHz, and 55, 142
/// and 169 us at 16 kHz (`benches/transcode.rs`); the analysis that starts at 7 tells speech from music, which matters little on a
/// call.
pub const COMPLEXITY: i32 = 5;
/// Loss in percent for which redundancy is made when the peer makes use of it; below some percent the encoder makes none.
const EXPECTED_LOSS: i32 = 10;

/// The codec's row in the table.
#[derive(Debug)]
pub struct Opus;

impl Codec for Opus {
    fn name(&self) -> &'static str {
        "opus"
    }

    fn clock_rate(&self) -> u32 {
        CLOCK_RATE
    }

    fn channels(&self) -> u8 {
        2
    }

    fn static_payload_type(&self) -> Option<u8> {
        None
    }

    fn sample_rates(&self) -> &'static [u32] {
        SAMPLE_RATES
    }

    fn ptime(&self, wanted: Duration) -> Duration {
        Duration::from_millis(match wanted.as_millis() {
            ..20 => 10,
            20..40 => 20,
            40..60 => 40,
            60.. => 60,
        })
    }

    fn duration(&self, payload: &[u8]) -> Option<u32> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return None;
        }
        packet::samples_48k(payload).ok().filter(|samples| (1..=MAX_SAMPLES).contains(samples)).map(|samples| samples as u32)
    }

    /// Sounds that arrive at 48 kHz are coded in wideband at least, since `opus-pure` cannot take them down to 8 kHz.
    fn encoder(&self, sample_rate: u32, parameters: &Parameters) -> Result<Box<dyn Encoder>, Error> {
        let mut encoder = OpusEncoder::new(rate(sample_rate)?, 1, Application::Voip).map_err(|_| Error::SampleRate)?;
        let audible = sample_rate.min(parameters.max_playback_rate);
        encoder.complexity = COMPLEXITY;
        encoder.signal_type = Some(Signal::Voice);
        encoder.max_bandwidth = bandwidth(audible);
        encoder.bitrate_bps = bitrate(audible, parameters);
        encoder.use_inband_fec = parameters.use_inband_fec;
        encoder.packet_loss_perc = if parameters.use_inband_fec { EXPECTED_LOSS } else { 0 };
        encoder.use_dtx = parameters.use_dtx;
        Ok(Box::new(EncoderState(encoder)))
    }

    fn decoder(&self, sample_rate: u32) -> Result<Box<dyn Decoder>, Error> {
        let decoder = OpusDecoder::new(rate(sample_rate)?, 1).map_err(|_| Error::SampleRate)?;
        Ok(Box::new(DecoderState { decoder, per_ten_ms: sample_rate as usize / 100, concealed: 0 }))
    }
}

fn rate(sample_rate: u32) -> Result<i32, Error> {
    i32::try_from(sample_rate).ok().filter(|_| SAMPLE_RATES.contains(&sample_rate)).ok_or(Error::SampleRate)
}

/// The bandwidth that a receiver which plays at this rate can hear (RFC 7587 §3.1.1).
fn bandwidth(playback_rate: u32) -> Bandwidth {
    match playback_rate {
        ..12000 => Bandwidth::Narrowband,
        12000..16000 => Bandwidth::Mediumband,
        16000..24000 => Bandwidth::Wideband,
        24000..48000 => Bandwidth::Superwideband,
        48000.. => Bandwidth::Fullband,
    }
}

/// Bits per second for mono speech: the upper ends of RFC 7587 §3.1.1, within what the peer wants.
fn bitrate(playback_rate: u32, parameters: &Parameters) -> i32 {
    let speech = match playback_rate {
        ..12000 => 16000,
        12000..24000 => 24000,
        24000.. => 40000,
    };
    parameters.max_average_bitrate.map_or(speech, |most| speech.min(most as i32)).max(6000)
}

struct EncoderState(OpusEncoder);

impl Encoder for EncoderState {
    fn encode(&mut self, samples: &[i16], payload: &mut [u8]) -> Result<usize, Error> {
        let most = payload.len().min(MAX_PAYLOAD);
        let payload = payload.get_mut(..most).ok_or(Error::Buffer)?;
        self.0.encode_s16(samples, samples.len(), payload).map_err(|_| Error::Buffer)
    }
}

/// Milliseconds of concealment at full level, before the fade.
const HOLD: usize = 40;
/// Milliseconds of concealment until silence.
const SILENT: usize = 100;

struct DecoderState {
    decoder: OpusDecoder,
    per_ten_ms: usize,
    /// Samples made up since the last payload. The decoder alone goes on humming for seconds.
    concealed: usize,
}

impl Decoder for DecoderState {
    fn decode(&mut self, payload: &[u8], samples: &mut [i16]) -> Result<usize, Error> {
        let duration = Opus.duration(payload).ok_or(Error::Payload)? as usize;
        let count = duration * self.per_ten_ms / 480;
        let samples = samples.get_mut(..count).ok_or(Error::Buffer)?;
        self.concealed = 0;
        self.decoder.decode_s16(payload, count, samples).map_err(|_| Error::Payload)
    }

    fn conceal(&mut self, next: Option<&[u8]>, samples: &mut [i16]) {
        let next = next.filter(|next| Opus.duration(next).is_some()).unwrap_or_default();
        let length = samples.len();
        if !self.decoder.decode_fec_s16(next, length, samples).is_ok_and(|count| count == length) {
            samples.fill(0);
        }
        if next.is_empty() {
            self.fade(samples);
        }
    }
}

impl DecoderState {
    fn fade(&mut self, samples: &mut [i16]) {
        let (hold, silent) = (HOLD * self.per_ten_ms / 10, SILENT * self.per_ten_ms / 10);
        for sample in samples {
            self.concealed = self.concealed.saturating_add(1);
            let level = silent.saturating_sub(self.concealed.max(hold)) as f32 / (silent - hold) as f32;
            *sample = (f32::from(*sample) * level) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tone::{Tone, level},
        *,
    };

    fn encode(parameters: &Parameters, sample_rate: u32, frames: usize, mut sound: impl FnMut(&mut [i16])) -> Vec<Vec<u8>> {
        let mut encoder = Opus.encoder(sample_rate, parameters).unwrap();
        let (mut frame, mut payload) = (vec![0; sample_rate as usize / 50], vec![0; MAX_PAYLOAD]);
        (0..frames)
            .map(|_| {
                sound(&mut frame);
                let octets = encoder.encode(&frame, &mut payload).unwrap();
                payload[..octets].to_vec()
            })
            .collect()
    }

    /// Something like a vowel: a falling tone with harmonics.
    fn voice(sample_rate: u32) -> impl FnMut(&mut [i16]) {
        let (mut phase, mut pitch) = (0.0f64, 180.0f64);
        move |frame| {
            for sample in frame {
                *sample = ((1..10).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum::<f64>() * 6000.0) as i16;
                phase += std::f64::consts::TAU * pitch / f64::from(sample_rate);
                pitch = if pitch < 100.0 { 180.0 } else { pitch - 40.0 / f64::from(sample_rate) };
            }
        }
    }

    /// Loses the first frame of each word, after half a second of silence; returns the power heard in it over that sent.
    fn onset(fmtp: &str, mut conceal: impl FnMut(&mut dyn Decoder, &[u8], &mut [i16])) -> f64 {
        let (mut vowel, mut frames) = (voice(16000), 0..);
        let payloads = encode(&Parameters::parse(fmtp), 16000, 200, |frame| match frames.next() {
            Some(n) if n % 40 >= 25 => vowel(frame),
            _ => frame.fill(0),
        });
        let (mut whole, mut lossy) = (Opus.decoder(16000).unwrap(), Opus.decoder(16000).unwrap());
        let (mut a, mut b) = ([0; 320], [0; 320]);
        let (mut sent, mut heard) = (0.0, 0.0);
        let power = |frame: &[i16]| frame.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>();
        for (n, pair) in payloads.windows(2).enumerate() {
            whole.decode(&pair[0], &mut a).unwrap();
            if n % 40 == 25 {
                conceal(lossy.as_mut(), &pair[1], &mut b);
                (sent, heard) = (sent + power(&a), heard + power(&b));
            } else {
                lossy.decode(&pair[0], &mut b).unwrap();
            }
        }
        heard / sent
    }

    #[test]
    fn redundancy_brings_back_what_concealment_cannot_know() {
        let redundant = onset("useinbandfec=1", |decoder, next, frame| decoder.conceal(Some(next), frame));
        let unasked = onset("", |decoder, next, frame| decoder.conceal(Some(next), frame));
        let concealed = onset("useinbandfec=1", |decoder, _, frame| decoder.conceal(None, frame));
        assert!((0.3..3.0).contains(&redundant) && unasked < 0.1 && concealed < 0.1, "{redundant} {unasked} {concealed}");
    }

    #[test]
    fn gap_in_a_steady_sound_is_not_heard_as_silence() {
        let payloads = encode(&Parameters::default(), 16000, 50, voice(16000));
        let mut decoder = Opus.decoder(16000).unwrap();
        let mut frame = [0; 320];
        let mut loudest = |decode: &mut dyn FnMut(&mut [i16])| {
            decode(&mut frame);
            frame.iter().map(|sample| sample.abs()).max().unwrap()
        };
        let mut heard = 0;
        for payload in &payloads {
            heard = loudest(&mut |frame| assert_eq!(decoder.decode(payload, frame), Ok(320)));
        }
        let concealed: Vec<_> = (0..10).map(|_| loudest(&mut |frame| decoder.conceal(None, frame))).collect();
        assert!(concealed[0] > heard / 2 && concealed[9] < heard / 10, "{heard} {concealed:?}");
    }

    #[test]
    fn peer_decides_bandwidth_and_rate() {
        let octets = |fmtp: &str| encode(&Parameters::parse(fmtp), 48000, 100, voice(48000)).iter().map(Vec::len).sum::<usize>();
        let (all, narrow, slow) = (octets(""), octets("maxplaybackrate=8000"), octets("maxaveragebitrate=10000"));
        assert!((5000..11000).contains(&all) && narrow < all * 6 / 10 && slow < narrow, "{all} {narrow} {slow}");
        let payloads = encode(&Parameters::parse("maxplaybackrate=8000"), 16000, 20, voice(16000));
        let bandwidths: Vec<_> = payloads.iter().map(|payload| packet::bandwidth(payload).unwrap()).collect();
        assert!(bandwidths.iter().all(|&bandwidth| bandwidth == Bandwidth::Narrowband), "{bandwidths:?}");
    }

    #[test]
    fn silence_is_nearly_free_with_dtx() {
        let payloads = encode(&Parameters::parse("usedtx=1"), 16000, 100, |frame| frame.fill(0));
        assert!(payloads[50..].iter().filter(|payload| payload.len() <= 2).count() > 40);
        let mut decoder = Opus.decoder(8000).unwrap();
        let mut frame = [1; 160];
        for payload in &payloads {
            assert_eq!(decoder.decode(payload, &mut frame), Ok(160));
        }
        assert!(frame.iter().all(|sample| sample.abs() < 50));
    }

    #[test]
    fn stereo_is_mixed_down() {
        let mut encoder = OpusEncoder::new(48000, 2, Application::Audio).unwrap();
        let mut decoder = Opus.decoder(48000).unwrap();
        let (mut left, mut right) = (Tone::new(48000, 500.0, 8000.0), Tone::new(48000, 1100.0, 8000.0));
        let (mut a, mut b, mut payload, mut sound) = ([0; 960], [0; 960], [0; MAX_PAYLOAD], [0; 960]);
        for _ in 0..20 {
            left.fill(&mut a);
            right.fill(&mut b);
            let both: Vec<_> = a.iter().zip(&b).flat_map(|(&a, &b)| [a, b]).collect();
            let octets = encoder.encode_s16(&both, 960, &mut payload).unwrap();
            assert_eq!(decoder.decode(&payload[..octets], &mut sound), Ok(960));
        }
        for frequency in [500.0, 1100.0] {
            let level = level(&sound, 48000, frequency);
            assert!((3000.0..5500.0).contains(&level), "{frequency} Hz with {level}");
        }
    }

    #[test]
    fn payload_for_another_frame_is_no_sound() {
        let mut decoder = Opus.decoder(8000).unwrap();
        assert_eq!(decoder.decode(&[], &mut [0; 160]), Err(Error::Payload));
        assert_eq!(decoder.decode(&[0xff], &mut [0; 960]), Err(Error::Payload));
        assert_eq!(Opus.duration(&[0x08; MAX_PAYLOAD + 1]), None);
        assert!(Opus.decoder(44100).is_err() && Opus.encoder(11025, &Parameters::default()).is_err());
    }
}
