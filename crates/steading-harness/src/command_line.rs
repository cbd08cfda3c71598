//! The command line and the environment of a program, read together: what both `steading` and test programs begin
//! with.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Command, Parser};
use steading_plan::check_variables;

use crate::ending::Purpose;
use crate::environment::variable;

/// Reads the arguments of this process.
///
/// # Errors
///
/// The exit status, when they are wrong, or ask for help, or a variable of the environment has a value that it
/// does not take (see [`steading_plan::VARIABLES`]). Why is printed.
pub fn parse<T: Parser>(purpose: Purpose, args: &[OsString]) -> Result<T, u8> {
    // Clap would read an empty variable as a value.
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    match parse_without::<T>(&is_empty, args) {
        Err(error) if is_answer(error.kind()) => Err(purpose.answer(&error)),
        parsed => {
            // Before an error of clap, which names the option in place of the variable.
            check_variables(&variable).map_err(|error| purpose.misused(&error))?;
            parsed.map_err(|error| {
                // Among what was given, the usage then shows options that only the environment gives.
                purpose.answer(&parse_without::<T>(&|_| true, args).err().unwrap_or(error))
            })
        }
    }
}

/// Reads the arguments, and the environment but for these variables.
fn parse_without<T: Parser>(
    is_left_out: &dyn Fn(&OsStr) -> bool,
    args: &[OsString],
) -> Result<T, clap::Error> {
    let mut command = without_variables(T::command(), is_left_out);
    let mut matches = command.try_get_matches_from_mut(args)?;
    T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
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

/// Has all options pass over these variables.
fn without_variables(command: Command, is_left_out: &dyn Fn(&OsStr) -> bool) -> Command {
    let command = command.mut_args(|argument| {
        let is_without = argument.get_env().is_some_and(is_left_out);
        if is_without { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(|command| without_variables(command, is_left_out))
}
