//! What the exit status of a test program says.

/// Everything that was to run has passed.
pub const PASSED: u8 = 0;
/// A test function or a teardown has failed.
pub const FAILED: u8 = 1;
/// The command line or the declaration is wrong; nothing was started.
pub const USAGE: u8 = 2;
/// This host cannot do it, or an image is no good; nothing is left.
pub const HOST: u8 = 3;
/// Setup has failed, so no test was run.
pub const SETUP_FAILED: u8 = 4;
/// Ended by a signal, before everything had run.
pub const INTERRUPTED: u8 = 5;

/// Everything that was to run has passed, but some of it not at the first attempt.
pub const FLAKY: u8 = 6;

// ## Of `steading run` and `fork -- COMMAND`, as env(1) has them

/// The program was not run, for a reason that is not its own: a wrong command line or declaration, a host
/// that cannot do it. Or it has succeeded, and its output could not be written.
pub const RUN_FAILED: u8 = 125;
/// The program is there, and cannot be started.
pub const RUN_CANNOT_START: u8 = 126;
/// There is no such program.
pub const RUN_NOT_FOUND: u8 = 127;

// ## Of `exec` and `ssh`, as ssh(1) has it

/// The command was not run, or its end is not known: a wrong command line, no such VM, one that is off, a
/// connection that broke.
pub const REMOTE_FAILED: u8 = 255;

/// A function's own process: it returned `Ok`. Not 0, so that a test that calls `exit(0)` in the
/// middle does not pass.
pub(crate) const RETURNED_OK: u8 = 80;
/// A function's own process: it returned an error.
pub(crate) const RETURNED_ERROR: u8 = 81;
/// A function's own process: it asked to be skipped, and has noted why.
pub(crate) const RETURNED_SKIP: u8 = 82;
