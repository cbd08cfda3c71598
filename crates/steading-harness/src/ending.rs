//! How a program of Steading ends: its last messages, and its exit status.

use std::ffi::OsString;

use steading_api::{ClientError, FailureKind, chain};
use steading_report::output::{self, Output};
use steading_report::{Event, Report};
use steading_sys::inherited::is_directory_gone;

use crate::exit_code;
use crate::unmet::Unmet;

/// Why no relative path leads anywhere, whatever an error says of it.
const GONE: &str = "hint: the working directory of this program was removed; change to one that exists";

/// The purpose of a command, which decides the meaning of its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It prints, or changes something: its output is what counts.
    Print,
    /// It waits for something in a guest.
    Wait,
    /// It runs tests, or holds a testnet: what happens there counts, not the output.
    Hold,
    /// It runs a program, and passes its status on.
    Program,
    /// It runs a command in a guest, and passes its status on.
    Remote,
}

impl Purpose {
    /// Returns the purpose of a command of `steading` (`runs_programs`) or of a test program, from all words of the
    /// command line except the first.
    pub fn of(words: &[OsString], runs_programs: bool) -> Self {
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
        let mut rest = words.iter();
        let verb = loop {
            match rest.next() {
                Some(&("--group" | "-g")) => {
                    rest.next();
                }
                Some(word) if word.starts_with('-') => {}
                verb => break verb.copied(),
            }
        };
        match verb {
            Some("exec" | "ssh") => Self::Remote,
            Some("wait") => Self::Wait,
            Some("run") if runs_programs => Self::Program,
            Some("fork") if words.contains(&"--") => Self::Program,
            Some("run" | "up" | "fork" | "resume") => Self::Hold,
            None if !runs_programs => Self::Hold,
            _ => Self::Print,
        }
    }

    /// Returns the status for an error of Steading itself, which is `code` for most commands.
    pub const fn own(self, code: u8) -> u8 {
        match self {
            Self::Program => exit_code::RUN_FAILED,
            Self::Remote => exit_code::REMOTE_FAILED,
            Self::Print | Self::Wait | Self::Hold => code,
        }
    }

    /// Returns the exit status of a command that has run.
    pub fn done(self, code: u8) -> u8 {
        match self {
            Self::Print | Self::Wait | Self::Remote => output::status(code, self.own(exit_code::HOST)),
            Self::Hold => output::own_status(code),
            // It has looked at its output, which is the program's.
            Self::Program => code,
        }
    }

    /// Returns the exit status of a command that failed, and reports the error with `tell`.
    pub fn failed(self, error: &anyhow::Error, tell: impl FnOnce(&anyhow::Error)) -> u8 {
        if Output::Stdout.failure().is_some() {
            // That is the error, whatever became of it on its way.
            return output::status(exit_code::PASSED, self.own(exit_code::HOST));
        }
        tell(error);
        if is_directory_gone() {
            output::print_to(Output::Stderr, format_args!("{GONE}\n"));
        }
        let is_unmet = self == Self::Wait && is_unmet(error);
        self.own(if is_unmet { exit_code::FAILED } else { exit_code::USAGE })
    }

    /// Prints what clap answers to a command line: an error, help, or the version. Returns the exit status.
    pub(crate) fn answer(self, error: &clap::Error) -> u8 {
        let text = error.render();
        let text = text.ansi();
        if error.use_stderr() {
            output::print_to(Output::Stderr, format_args!("{text}"));
            self.own(exit_code::USAGE)
        } else {
            output::print_to(Output::Stdout, format_args!("{text}"));
            output::status(exit_code::PASSED, exit_code::HOST)
        }
    }

    /// Prints why something that was given is wrong. Returns the exit status.
    pub(crate) fn misused(self, error: &(dyn std::error::Error + 'static)) -> u8 {
        output::print_to(Output::Stderr, format_args!("error: {}\n", chain(error)));
        self.own(exit_code::USAGE)
    }
}

/// Reports an error, and returns the exit status that goes with it.
pub(crate) fn fail(report: &Report, code: u8, error: &anyhow::Error) -> u8 {
    report.tell(&Event::Error { message: chain(error.as_ref()) });
    code
}

/// Whether a wait has ended without what it was for.
fn is_unmet(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<ClientError>().and_then(ClientError::kind);
        cause.is::<Unmet>() || matches!(kind, Some(FailureKind::TimedOut | FailureKind::VmEnded))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Purpose {
        Purpose::of(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>(), true)
    }

    #[test]
    fn a_command_is_found_behind_the_groups_name() {
        assert_eq!(of("-g run exec n1 ls"), Purpose::Remote);
        assert_eq!(of("--group=x wait n1"), Purpose::Wait);
        assert_eq!(of("--group wait run x.toml -- true"), Purpose::Program);
        assert_eq!(of("ps --json"), Purpose::Print);
        assert_eq!(of(""), Purpose::Print);
    }

    #[test]
    fn a_fork_runs_a_program_only_if_one_is_named_and_a_test_program_runs_tests() {
        assert_eq!((of("fork"), of("fork -- true")), (Purpose::Hold, Purpose::Program));
        let words: Vec<OsString> = vec!["run".into()];
        assert_eq!(Purpose::of(&words, false), Purpose::Hold);
        assert_eq!(Purpose::of(&[], false), Purpose::Hold);
    }

    #[test]
    fn errors_of_a_command_that_passes_a_status_on_are_told_apart_from_that() {
        let code = |purpose: Purpose| purpose.failed(&anyhow::anyhow!("wrong"), |_| {});
        assert_eq!([code(Purpose::Program), code(Purpose::Remote), code(Purpose::Print)], [125, 255, 2]);
        let late = || anyhow::Error::from(Unmet("not within 1 s".to_owned()));
        assert_eq!(Purpose::Wait.failed(&late(), |_| {}), 1);
        assert_eq!(Purpose::Print.failed(&late(), |_| {}), 2);
        assert_eq!(code(Purpose::Wait), 2);
    }
}
