//! The command line: one file a noun or verb, and exit codes: 0 done, 1 failed, 2 wrong usage.

mod config;
#[cfg(feature = "demo")]
pub mod demo;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A SIP softswitch: one person, several devices, one participant.
#[derive(Parser)]
#[command(name = "tandem", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the switch in the foreground until SIGTERM or Ctrl-C
    Serve(serve::Args),
    /// Show calls between scripted phones and mobiles, then stay up for phones of yours
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    /// Work with configuration files
    #[command(subcommand)]
    Config(config::Verb),
}

/// Runs what the command line says. Wrong usage ends the process with 2 and a hint.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Serve(args) => serve::run(&args),
        #[cfg(feature = "demo")]
        Verb::Demo(args) => demo::run(&args),
        Verb::Config(verb) => config::run(&verb),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            ExitCode::FAILURE
        }
    }
}
