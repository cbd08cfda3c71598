//! Standard output and standard error. Everything that a program of ours prints goes through here.
//!
//! The macros of the standard library panic when an output cannot be written to: a full disk, or a pipe
//! whose reader has gone. Here such a failure is remembered, and decides the exit status.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

pub use crate::{__report_eprintln as eprintln, __report_print as print, __report_println as println};

/// What shells tell of a program that SIGPIPE has ended: 128 and the signal's number.
pub const READER_GONE: u8 = 141;

/// One of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output: data.
    Stdout,
    /// Standard error: talk.
    Stderr,
}

impl Output {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
        }
    }

    fn lost(self) -> &'static OnceLock<Lost> {
        static STDOUT: OnceLock<Lost> = OnceLock::new();
        static STDERR: OnceLock<Lost> = OnceLock::new();
        match self {
            Self::Stdout => &STDOUT,
            Self::Stderr => &STDERR,
        }
    }

    /// Why something that was to be written there is lost, if it is.
    pub fn failure(self) -> Option<&'static Lost> {
        self.lost().get()
    }

    /// Remembers the first failure.
    fn check(self, written: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &written {
            let _ = self.lost().set(Lost { output: self, kind: error.kind(), reason: error.to_string() });
        }
        written
    }

    /// Writes bytes as they are, past all buffers. May block as long as the reader does not read.
    ///
    /// # Errors
    ///
    /// When they cannot be written. This is remembered, too.
    pub fn write_bytes(self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(self.fd(), bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                // Whoever gave us this file does not want to be blocked by it; we do.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&self.fd(), PollFlags::OUT)], None);
                }
                Err(error) => return self.check(Err(error.into())),
            }
        }
        Ok(())
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "standard output",
            Self::Stderr => "standard error",
        })
    }
}

/// Why something was not written.
#[derive(Debug)]
pub struct Lost {
    output: Output,
    kind: ErrorKind,
    reason: String,
}

impl Lost {
    /// Whether nobody reads it any more, which is the reader's choice and no error.
    pub fn is_reader_gone(&self) -> bool {
        self.kind == ErrorKind::BrokenPipe
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to {}: {}", self.output, self.reason)
    }
}

/// Standard output, for functions that take a writer. A failure is remembered.
#[derive(Debug, Default)]
pub struct Stdout;

impl io::Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Output::Stdout.check(io::stdout().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Output::Stdout.check(io::stdout().flush())
    }
}

/// Standard error, for the same; it never fails, since nobody could be told.
#[derive(Debug, Default)]
pub struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = Output::Stderr.check(io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The exit status of a program whose output is what it is for, and that would end with this one: a success
/// is none when the output is lost. Says so, unless its reader has gone.
pub fn status(code: u8, failed: u8) -> u8 {
    // What is buffered is written now, and its failure counts.
    let _ = Stdout.flush();
    match Output::Stdout.failure() {
        Some(lost) if lost.is_reader_gone() => {
            if code == 0 {
                READER_GONE
            } else {
                code
            }
        }
        Some(lost) => {
            eprintln!("error: {lost}");
            if code == 0 { failed } else { code }
        }
        None => code,
    }
}

/// The same for a program that does more than to print: its status stays, whatever became of the output.
pub fn own_status(code: u8) -> u8 {
    status(code, code);
    code
}

/// Prints a text, in colour where that is wanted, and never panics.
pub fn print_to(output: Output, text: fmt::Arguments<'_>) {
    // Written at once, so that lines of several processes stay whole.
    let text = text.to_string();
    // A failure is remembered, and told at the end; one of standard error cannot be told.
    let _ = output.check(match output {
        Output::Stdout => anstream::stdout().write_all(text.as_bytes()),
        Output::Stderr => anstream::stderr().write_all(text.as_bytes()),
    });
}

/// Prints a line to standard output, and never panics.
#[doc(hidden)]
#[macro_export]
macro_rules! __report_println {
    () => { $crate::output::print_to($crate::output::Output::Stdout, ::core::format_args!("\n")) };
    ($($text:tt)*) => {
        $crate::output::print_to(
            $crate::output::Output::Stdout,
            ::core::format_args!("{}\n", ::core::format_args!($($text)*)),
        )
    };
}

/// Prints to standard output, and never panics.
#[doc(hidden)]
#[macro_export]
macro_rules! __report_print {
    ($($text:tt)*) => {
        $crate::output::print_to($crate::output::Output::Stdout, ::core::format_args!($($text)*))
    };
}

/// Prints a line to standard error, and never panics.
#[doc(hidden)]
#[macro_export]
macro_rules! __report_eprintln {
    () => { $crate::output::print_to($crate::output::Output::Stderr, ::core::format_args!("\n")) };
    ($($text:tt)*) => {
        $crate::output::print_to(
            $crate::output::Output::Stderr,
            ::core::format_args!("{}\n", ::core::format_args!($($text)*)),
        )
    };
}
