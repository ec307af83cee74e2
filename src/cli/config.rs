//! `tandem config`.

use std::path::PathBuf;

use crate::config::Config;
use crate::net::Net;

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Find the faults of a file: keys, certificate, addresses
    Check {
        /// Configuration file
        file: PathBuf,
    },
}

pub(super) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Check { file } => {
            let config = Config::load(file)?;
            for note in Net::check(&config)? {
                eprintln!("{note}");
            }
            println!("{}: good", file.display());
        }
    }
    Ok(())
}
