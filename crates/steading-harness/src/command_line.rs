//! The command line and the environment of a program, read together: what both `steading` and test programs begin
//! with.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Command, Parser};
use steading_plan::{VariableError, check_variables};

/// The environment of this process.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Reads the arguments of this process. Wrong ones end it, as does a question for help.
///
/// # Errors
///
/// When a variable of the environment has a value that it does not take; see [`steading_plan::VARIABLES`].
pub fn parse<T: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<T, VariableError> {
    let mut command = without_empty_variables(T::command());
    let parsed = command.try_get_matches_from_mut(args).and_then(|mut matches| {
        T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    });
    match parsed {
        Err(error) if is_answer(error.kind()) => error.exit(),
        parsed => {
            // Before an error of clap, which names the option in place of the variable.
            check_variables(&variable)?;
            Ok(parsed.unwrap_or_else(|error| error.exit()))
        }
    }
}

/// Whether it is no error, but what was asked for.
fn is_answer(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// Treats an empty variable as one that is not set; clap would read it as a value.
fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_empty = argument
            .get_env()
            .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        if is_empty { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}
