//! `tandem completion`: the script that lets a shell complete nouns, verbs and options.

use clap::Command;
use clap_complete::{Shell, generate};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "tandem", &mut script);
    super::table::say(String::from_utf8_lossy(&script).trim_end())
}
