//! The command line: `tandem NOUN VERB`. One file a noun, one line in the table below; what they share is in `command.rs` and `table.rs`.
//! Everything that asks the switch is a client of CAS (`client/`). Exit codes are in `failure.rs`.

mod call;
mod client;
mod command;
mod completion;
mod config;
#[cfg(feature = "demo")]
pub mod demo;
mod device;
mod doctor;
mod drain;
mod event;
mod failure;
mod history;
mod key;
mod login;
mod number;
mod permission;
mod plugin;
mod presence;
mod serve;
mod status;
mod table;
mod text;
mod top;
mod user;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use command::{Alone, Noun};

/// A SIP softswitch: one person, several devices, one participant.
#[derive(Parser)]
#[command(name = "tandem", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    word: Word,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused by permission, 5 unhealthy";

#[derive(Subcommand)]
enum Word {
    /// Run the switch in the foreground until SIGTERM or Ctrl-C
    Serve(serve::Args),
    /// Show calls between scripted phones and mobiles, then stay up for phones of yours
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    /// Work with configuration files
    #[command(subcommand)]
    Config(config::Verb),
    /// Say how the switch is
    Status(Alone<status::Args>),
    /// Show the switch live: calls, registrations, load, media
    Top(Alone<top::Args>),
    /// Say what is wrong with this switch and this host, and what to do
    Doctor(Alone<doctor::Args>),
    /// Calls in progress
    Call(Noun<call::Verb>),
    /// Calls that are over
    History(Noun<history::Verb>),
    /// People
    User(Noun<user::Verb>),
    /// Phones and apps
    Device(Noun<device::Verb>),
    /// Numbers and whom they reach
    Number(Noun<number::Verb>),
    /// Who can be reached, and what they say of themselves
    Presence(Noun<presence::Verb>),
    /// What happens, as applications are told
    Event(Noun<event::Verb>),
    /// What users may do
    Permission(Noun<permission::Verb>),
    /// API keys, by which applications sign in
    Key(Noun<key::Verb>),
    /// Who is signed in
    Login(Noun<login::Verb>),
    /// Processes that offer topics of their own
    Plugin(Noun<plugin::Verb>),
    /// Take no new calls, and wait until the last one is over
    Drain(Alone<drain::Args>),
    /// Print the script that lets a shell complete commands
    Completion(completion::Args),
}

/// Runs what the command line says. Wrong usage ends the process with 2 and a hint.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().word {
        Word::Serve(args) => serve::run(&args),
        #[cfg(feature = "demo")]
        Word::Demo(args) => demo::run(&args),
        Word::Config(verb) => config::run(&verb),
        Word::Status(Alone { options, .. }) => status::run(&options),
        Word::Top(Alone { options, args }) => top::run(&options, &args),
        Word::Doctor(Alone { options, .. }) => doctor::run(&options),
        Word::Call(Noun { options, verb }) => call::run(&options, verb),
        Word::History(Noun { options, verb }) => history::run(&options, verb),
        Word::User(Noun { options, verb }) => user::run(&options, verb),
        Word::Device(Noun { options, verb }) => device::run(&options, verb),
        Word::Number(Noun { options, verb }) => number::run(&options, verb),
        Word::Presence(Noun { options, verb }) => presence::run(&options, verb),
        Word::Event(Noun { options, verb }) => event::run(&options, verb),
        Word::Permission(Noun { options, verb }) => permission::run(&options, verb),
        Word::Key(Noun { options, verb }) => key::run(&options, verb),
        Word::Login(Noun { options, verb }) => login::run(&options, verb),
        Word::Plugin(Noun { options, verb }) => plugin::run(&options, verb),
        Word::Drain(Alone { options, args }) => drain::run(&options, &args),
        Word::Completion(args) => completion::run(&args, Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_argument_of_a_verb_has_the_name_of_an_option_of_all() {
        for word in Cli::command().get_subcommands() {
            let of_all: Vec<_> = word.get_arguments().filter(|argument| argument.is_global_set()).map(clap::Arg::get_id).collect();
            for verb in word.get_subcommands() {
                let clash = verb.get_arguments().map(clap::Arg::get_id).find(|id| of_all.contains(id));
                assert_eq!(clash, None, "{} {}", word.get_name(), verb.get_name());
            }
        }
    }

    #[test]
    fn every_command_is_in_the_manual_with_its_schema() {
        let manual = include_str!("../../docs/cli.md");
        let without_json = ["serve", "demo", "config", "completion"];
        for word in Cli::command().get_subcommands().filter(|word| !without_json.contains(&word.get_name())) {
            let name = word.get_name();
            let verbs: Vec<_> = word.get_subcommands().map(|verb| format!("{name} {}", verb.get_name())).collect();
            for command in if verbs.is_empty() { vec![name.to_owned()] } else { verbs } {
                assert!(manual.contains(&format!("\n| `{command}` | ")), "{command}");
            }
        }
    }
}
