//! `tandem config`.

use std::io::Write as _;
use std::path::PathBuf;

use crate::config::{Config, to_toml};
use crate::net::Net;

#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Find the faults of a file: keys, certificate, addresses
    Check {
        /// Configuration file
        file: PathBuf,
    },
    /// Show what is in force: every key, defaults included, secrets hidden
    Show {
        /// Configuration file; without one, what a switch without a file does
        file: Option<PathBuf>,
        /// JSON in place of the text of a configuration file
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Check { file } => {
            let config = Config::load(file)?;
            for note in Net::check(&config)? {
                eprintln!("{note}");
            }
            for warning in super::doctor::warnings(&config) {
                eprintln!("{}: {warning}", file.display());
            }
            println!("{}: good", file.display());
        }
        Verb::Show { file, json } => {
            let config = file.as_deref().map_or_else(Config::built_in, Config::load)?;
            let shown = config.shown();
            let text = if *json { format!("{shown}\n") } else { to_toml(&shown) };
            std::io::stdout().write_all(text.as_bytes())?;
        }
    }
    Ok(())
}
