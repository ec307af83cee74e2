//! G.722 at 64 kbit/s (RFC 3551 §4.5.2): samples at 16 kHz, a clock rate of 8 kHz by an old mistake. The filters are those of
//! `audio-codec`; concealment is that of [`concealment`](super::concealment).

use audio_codec::{
    Decoder as _, Encoder as _,
    g722::{G722Decoder, G722Encoder},
};

use super::{Codec, Decoder, Encoder, Error, MAX_PAYLOAD, Parameters, concealment::Concealment};

const CLOCK_RATE: u32 = 8000;
const SAMPLE_RATE: u32 = 16000;
const SAMPLE_RATES: &[u32] = &[SAMPLE_RATE];

/// The codec's row in the table.
#[derive(Debug)]
pub struct G722;

impl Codec for G722 {
    fn name(&self) -> &'static str {
        "G722"
    }

    fn clock_rate(&self) -> u32 {
        CLOCK_RATE
    }

    fn static_payload_type(&self) -> Option<u8> {
        Some(9)
    }

    fn sample_rates(&self) -> &'static [u32] {
        SAMPLE_RATES
    }

    fn duration(&self, payload: &[u8]) -> Option<u32> {
        (1..=MAX_PAYLOAD).contains(&payload.len()).then_some(payload.len() as u32)
    }

    fn encoder(&self, sample_rate: u32, _: &Parameters) -> Result<Box<dyn Encoder>, Error> {
        if sample_rate == SAMPLE_RATE { Ok(Box::new(EncoderState(G722Encoder::new()))) } else { Err(Error::SampleRate) }
    }

    fn decoder(&self, sample_rate: u32) -> Result<Box<dyn Decoder>, Error> {
        let state = DecoderState { filters: G722Decoder::new(), concealment: Concealment::new(SAMPLE_RATE) };
        if sample_rate == SAMPLE_RATE { Ok(Box::new(state)) } else { Err(Error::SampleRate) }
    }
}

struct EncoderState(G722Encoder);

impl Encoder for EncoderState {
    fn encode(&mut self, samples: &[i16], payload: &mut [u8]) -> Result<usize, Error> {
        let octets = samples.len() / 2;
        let payload = payload.get_mut(..octets).filter(|_| samples.len().is_multiple_of(2)).ok_or(Error::Buffer)?;
        self.0.encode_into(samples, payload).map_err(|_| Error::Buffer)
    }
}

struct DecoderState {
    filters: G722Decoder,
    concealment: Concealment,
}

impl Decoder for DecoderState {
    fn decode(&mut self, payload: &[u8], samples: &mut [i16]) -> Result<usize, Error> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return Err(Error::Payload);
        }
        let samples = samples.get_mut(..payload.len() * 2).ok_or(Error::Buffer)?;
        let count = self.filters.decode_into(payload, samples).map_err(|_| Error::Buffer)?;
        self.concealment.heard(samples);
        Ok(count)
    }

    fn conceal(&mut self, _: Option<&[u8]>, samples: &mut [i16]) {
        self.concealment.fill(samples);
    }
}
