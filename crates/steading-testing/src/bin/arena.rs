//! Runs a program in the arena: `arena LAUNCHER PROGRAM [ARGUMENT]...`. The program finds a launcher that has
//! its capabilities in `STEADING_LAUNCHER`.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use steading_testing::arena::Arena;

/// As a shell's, when a program cannot be started.
const NOT_STARTED: u8 = 127;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let (Some(launcher), Some(program)) = (words.next(), words.next()) else {
        return ExitCode::from(NOT_STARTED);
    };
    let Ok(arena) = Arena::new(Path::new(&launcher)) else { return ExitCode::from(NOT_STARTED) };
    let status = arena.command(program).args(words).env("STEADING_LAUNCHER", arena.launcher()).status();
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(NOT_STARTED))
}
