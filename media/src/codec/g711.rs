//! G.711 by table: PCMU and PCMA (RFC 3551 §4.5.14), with the concealment of [`concealment`](super::concealment).

use super::{Codec, Decoder, Encoder, Error, MAX_PAYLOAD, Parameters, concealment::Concealment};

const RATE: u32 = 8000;
const RATES: &[u32] = &[RATE];

/// One of the two laws.
#[derive(Debug)]
pub struct G711 {
    name: &'static str,
    payload_type: u8,
    law: &'static Law,
}

/// The law of Europe and of international lines.
pub static PCMA: G711 = G711 { name: "PCMA", payload_type: 8, law: &A_LAW };
/// The law of North America and Japan.
pub static PCMU: G711 = G711 { name: "PCMU", payload_type: 0, law: &U_LAW };

#[derive(Debug)]
struct Law {
    /// The sample of each octet.
    expand: [i16; 256],
    /// The octet of each sample; neither law looks at its lowest two bits.
    compress: [u8; 1 << 14],
}

macro_rules! law {
    ($compress:path, $expand:path) => {{
        let mut law = Law { expand: [0; 256], compress: [0; 1 << 14] };
        let mut octet = 0;
        while octet < 256 {
            law.expand[octet] = $expand(octet as u8);
            octet += 1;
        }
        let mut index = 0;
        while index < 1 << 14 {
            law.compress[index] = $compress((index << 2) as u16 as i16);
            index += 1;
        }
        law
    }};
}

static A_LAW: Law = law!(compress_a, expand_a);
static U_LAW: Law = law!(compress_u, expand_u);

const fn compress_a(sample: i16) -> u8 {
    let mut value = (if sample < 0 { !sample } else { sample }) >> 4;
    if value > 15 {
        let mut exponent = 1;
        while value > 31 {
            value >>= 1;
            exponent += 1;
        }
        value += (exponent << 4) - 16;
    }
    (value as u8 | if sample < 0 { 0 } else { 0x80 }) ^ 0x55
}

const fn expand_a(octet: u8) -> i16 {
    let value = octet ^ 0x55;
    let exponent = value >> 4 & 7;
    let mantissa = ((value & 15) as i16) << 4;
    let magnitude = if exponent == 0 { mantissa + 8 } else { (mantissa + 0x108) << (exponent - 1) };
    if value & 0x80 == 0 { -magnitude } else { magnitude }
}

const fn compress_u(sample: i16) -> u8 {
    let shifted = ((if sample < 0 { !sample } else { sample }) >> 2) + 33;
    let value = if shifted > 0x1fff { 0x1fff } else { shifted };
    let segment = 16 - (value >> 5).leading_zeros() as u8;
    let code = (8 - segment) << 4 | (15 - (value >> segment & 15) as u8);
    code | if sample < 0 { 0 } else { 0x80 }
}

const fn expand_u(octet: u8) -> i16 {
    let exponent = !octet >> 4 & 7;
    let magnitude = (((((!octet & 15) as i16) << 3) + 0x84) << exponent) - 0x84;
    if octet & 0x80 == 0 { -magnitude } else { magnitude }
}

impl Codec for G711 {
    fn name(&self) -> &'static str {
        self.name
    }

    fn clock_rate(&self) -> u32 {
        RATE
    }

    fn static_payload_type(&self) -> Option<u8> {
        Some(self.payload_type)
    }

    fn sample_rates(&self) -> &'static [u32] {
        RATES
    }

    fn duration(&self, payload: &[u8]) -> Option<u32> {
        (1..=MAX_PAYLOAD).contains(&payload.len()).then_some(payload.len() as u32)
    }

    fn encoder(&self, sample_rate: u32, _: &Parameters) -> Result<Box<dyn Encoder>, Error> {
        if sample_rate == RATE { Ok(Box::new(State { law: self.law, concealment: None })) } else { Err(Error::SampleRate) }
    }

    fn decoder(&self, sample_rate: u32) -> Result<Box<dyn Decoder>, Error> {
        let concealment = Some(Concealment::new(RATE));
        if sample_rate == RATE { Ok(Box::new(State { law: self.law, concealment })) } else { Err(Error::SampleRate) }
    }
}

struct State {
    law: &'static Law,
    concealment: Option<Concealment>,
}

impl Encoder for State {
    fn encode(&mut self, samples: &[i16], payload: &mut [u8]) -> Result<usize, Error> {
        let payload = payload.get_mut(..samples.len()).ok_or(Error::Buffer)?;
        for (octet, &sample) in payload.iter_mut().zip(samples) {
            *octet = self.law.compress[usize::from(sample as u16 >> 2)];
        }
        Ok(samples.len())
    }
}

impl Decoder for State {
    fn decode(&mut self, payload: &[u8], samples: &mut [i16]) -> Result<usize, Error> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return Err(Error::Payload);
        }
        let samples = samples.get_mut(..payload.len()).ok_or(Error::Buffer)?;
        for (sample, &octet) in samples.iter_mut().zip(payload) {
            *sample = self.law.expand[usize::from(octet)];
        }
        if let Some(concealment) = &mut self.concealment {
            concealment.heard(samples);
        }
        Ok(samples.len())
    }

    fn conceal(&mut self, _: Option<&[u8]>, samples: &mut [i16]) {
        match &mut self.concealment {
            Some(concealment) => concealment.fill(samples),
            None => samples.fill(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_those_of_the_tables_in_g711() {
        // The ends and middle of the tables, and silence.
        assert_eq!([0x80, 0xaa, 0xd5, 0x55, 0x2a].map(expand_a), [5504, 32256, 8, -8, -32256]);
        assert_eq!([0x80, 0xff, 0x7f, 0x00].map(expand_u), [32124, 0, 0, -32124]);
        assert_eq!([0, -1, i16::MAX, i16::MIN].map(compress_a), [0xd5, 0x55, 0xaa, 0x2a]);
        assert_eq!([0, -1, i16::MAX, i16::MIN].map(compress_u), [0xff, 0x7f, 0x80, 0x00]);
    }

    #[test]
    fn each_octet_survives_a_round() {
        for octet in 0..=255u8 {
            assert_eq!(compress_a(expand_a(octet)), octet);
            let through = compress_u(expand_u(octet));
            assert!(through == octet || (octet, through) == (0x7f, 0xff), "{octet:#x}: only the two zeros are one");
        }
    }

    #[test]
    fn lengths_that_do_not_suit_are_errors() {
        let mut decoder = PCMA.decoder(8000).unwrap();
        assert_eq!(decoder.decode(&[], &mut [0; 160]), Err(Error::Payload));
        assert_eq!(decoder.decode(&[0; 161], &mut [0; 160]), Err(Error::Buffer));
        assert_eq!(PCMU.encoder(8000, &Parameters::default()).unwrap().encode(&[0; 160], &mut [0; 159]), Err(Error::Buffer));
        assert!(PCMU.decoder(16000).is_err());
    }
}
