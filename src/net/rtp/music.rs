//! Music on hold: the user's WAV file (`media.music_on_hold`), or the built-in music of [`media::play`]. Read once, at start.

use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec};
use media::Sound;

use crate::config::{Config, ConfigError};

/// Octets of the longest file that is read: ten minutes of stereo at 48 kHz, and its header.
pub const MAX_SIZE: u64 = 600 * 48_000 * 4 + 4096;

/// Loads what a configuration names.
///
/// # Errors
/// One sentence, with the place of the key.
pub fn of(config: &Config) -> Result<Sound, ConfigError> {
    load(config.media.music_on_hold.as_deref()).map_err(|fault| config.fault("media.music_on_hold", fault))
}

/// Loads a file; none = the built-in music.
///
/// # Errors
/// One sentence that says what is wrong with the file, and what would be accepted.
fn load(path: Option<&Path>) -> Result<Sound, String> {
    let Some(path) = path else { return Ok(Sound::music()) };
    read(path)
        .map_err(|fault| format!("{}: {fault}; accepted: a WAV file of 16-bit PCM, mono or stereo, at 8, 16 or 48 kHz", path.display()))
}

fn read(path: &Path) -> Result<Sound, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_SIZE {
        return Err(format!("it has {size} octets, more than ten minutes of music need"));
    }
    let mut reader = WavReader::open(path).map_err(|error| {
        if let hound::Error::IoError(error) = error { error.to_string() } else { format!("it is no WAV file: {error}") }
    })?;
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
    if sample_format != SampleFormat::Int || bits_per_sample != 16 || !(1..=2).contains(&channels) {
        return Err(format!("it has {channels} channels of {bits_per_sample} bits"));
    }
    let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().map_err(|error| format!("it is damaged: {error}"))?;
    let mono: Vec<i16> = samples
        .chunks_exact(usize::from(channels))
        .map(|frame| (frame.iter().map(|sample| i32::from(*sample)).sum::<i32>() / i32::from(channels)) as i16)
        .collect();
    Sound::new(&mono, sample_rate).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(name: &str, spec: WavSpec, samples: u32) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("tandem-music-{}-{name}.wav", std::process::id()));
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for n in 0..samples {
            match spec.bits_per_sample {
                16 => writer.write_sample((n % 100) as i16).unwrap(),
                _ => writer.write_sample((n % 100) as i32).unwrap(),
            }
        }
        writer.finalize().unwrap();
        path
    }

    const GOOD: WavSpec = WavSpec { channels: 2, sample_rate: 48_000, bits_per_sample: 16, sample_format: SampleFormat::Int };

    #[test]
    fn a_file_is_music_or_one_sentence() {
        let good = write("good", GOOD, 96_000);
        assert_eq!(format!("{:?}", load(Some(&good)).unwrap()), "Sound of 1000 ms");
        for (name, spec, fault) in [
            ("rate", WavSpec { sample_rate: 44_100, ..GOOD }, "its sample rate is 44100 Hz"),
            ("wide", WavSpec { bits_per_sample: 24, ..GOOD }, "it has 2 channels of 24 bits"),
            ("many", WavSpec { channels: 4, ..GOOD }, "it has 4 channels of 16 bits"),
        ] {
            let path = write(name, spec, 9600);
            let error = load(Some(&path)).unwrap_err();
            assert!(error.contains(fault) && error.contains("; accepted: "), "{error}");
            std::fs::remove_file(path).unwrap();
        }
        std::fs::write(&good, b"no music").unwrap();
        assert!(load(Some(&good)).unwrap_err().contains("it is no WAV file"));
        std::fs::remove_file(&good).unwrap();
        assert!(load(Some(&good)).unwrap_err().contains("No such file"));
    }
}
