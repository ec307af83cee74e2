//! How a command ends that did not do what it was asked: one sentence, and an exit code that scripts can tell apart.

use std::fmt;
use std::process::ExitCode;

use cas::error::{Error, Fault};

/// Exit codes besides 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It did not work.
    Error = 1,
    /// It was asked in a way that cannot be answered.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The caller may not do that, or is not known.
    Refused = 4,
    /// A check found something that must be mended.
    Unhealthy = 5,
}

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    sentence: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }

    /// Returns whether the switch does not know the caller, or lets them not.
    pub(super) fn is_refusal(&self) -> bool {
        self.exit == Exit::Refused
    }

    /// Tells what the switch said.
    pub(super) fn of_refusal(error: &Error) -> Self {
        let mut sentence = error.detail.to_string();
        if !error.accepted.is_empty() {
            let accepted: Vec<&str> = error.accepted.iter().map(|word| &**word).collect();
            sentence.push_str(&format!("; accepted: {}", accepted.join(", ")));
        }
        Self::new(exit_of(error.fault), sentence)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

fn exit_of(fault: Fault) -> Exit {
    match fault {
        Fault::BadMessage => Exit::Usage,
        Fault::NotFound => Exit::NotFound,
        Fault::LoginRequired | Fault::WrongCredentials | Fault::MissingRight | Fault::TlsRequired | Fault::RestrictedTopic => Exit::Refused,
        Fault::NoProvider
        | Fault::UnknownMessage
        | Fault::NotAcceptable
        | Fault::RequestTimeout
        | Fault::NotNow
        | Fault::Conflict
        | Fault::TooLarge
        | Fault::UnknownEncoding
        | Fault::TooMany
        | Fault::Internal
        | Fault::NotSupported
        | Fault::Unavailable
        | Fault::Timeout => Exit::Error,
    }
}

/// Prints why a command failed and returns its exit code.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    let closed = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if closed.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS; // whoever read our output has seen enough
    }
    eprintln!("tandem: {}", super::text::printable(&format!("{error:#}")));
    let exit = error.downcast_ref::<Failure>().map_or(Exit::Error, |failure| failure.exit);
    ExitCode::from(exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_would_be_accepted_and_has_the_code_of_its_kind() {
        let error = Error::new(Fault::NotNow, "hold is not possible while the call is ringing").accepting(["drop", "answer"]);
        let failure = Failure::of_refusal(&error);
        assert_eq!(failure.to_string(), "hold is not possible while the call is ringing; accepted: drop, answer");
        assert_eq!(failure.exit, Exit::Error);
        assert_eq!(exit_of(Fault::NotFound), Exit::NotFound);
        assert_eq!(exit_of(Fault::MissingRight), Exit::Refused);
        assert_eq!(exit_of(Fault::BadMessage), Exit::Usage);
    }

    #[test]
    fn context_around_a_failure_keeps_its_exit_code() {
        let error = anyhow::Error::from(Failure::new(Exit::NotFound, "gone")).context("looking");
        assert_eq!(report(&error), ExitCode::from(3));
    }
}
