//! A program that could not be run, or that failed.

use std::io;
use std::process::ExitStatus;

use thiserror::Error;

/// A program that could not be run, or that failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// It is not installed.
    #[error("{program} is not installed, or not on PATH\nhint: {advice}")]
    NotFound {
        /// The program.
        program: String,
        /// How to get it.
        advice: String,
    },
    /// It was named by a path that leads nowhere.
    #[error("there is no program {program}\nhint: check the path")]
    NoFile {
        /// The path.
        program: String,
    },
    /// It could not be started for another reason.
    #[error("cannot start {program}{hint}")]
    Start {
        /// The program.
        program: String,
        /// What to do, with a line break before it, where that is known.
        hint: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        stderr: String,
    },
}
