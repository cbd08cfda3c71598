//! The exit statuses of `steading` and of test programs. The reference shows this table:
//!
//! | command | 0 | 1 | 2 | other |
//! | --- | --- | --- | --- | --- |
//! | a test program, `up` | everything has passed | a test has failed | wrong command line or declaration | 3 to 6, below; what happens to standard output changes nothing |
//! | `run`, `fork -- COMMAND` | the program's own | the program's own | the program's own | the program's own, 128 and the number of a signal that ended it; 125, 126, 127 for errors of Steading |
//! | `exec`, `ssh` | the command's own | the command's own | the command's own | the command's own, 128 and the number of a signal that ended it; 255 for errors of Steading |
//! | `wait` | it has happened | the time is over, or the VM went off | wrong command line, no such VM, a VM that is off | 3, 141 as for others |
//! | `console` | its group has ended, or Ctrl-] was typed | – | wrong command line, no such VM | 128 and the number of a signal that ended it |
//! | `fork`, `resume FILE` | it was interrupted, or torn down | – | wrong command line, nothing to begin with | 3 for a host that cannot do it |
//! | `virsh` | as virsh(1) | as virsh(1) | no such group, one without libvirt | as virsh(1) |
//! | `broker`, `cache gc`, `cache ls`, `cert`, `completions`, `dns add`, `dns claim`, `dns ls`, `dns rm`, `doctor`, `down`, `fault cut`, `fault delay`, `fault duplicate`, `fault loss`, `fault ls`, `fault partition`, `fault rate`, `fault reorder`, `fault undo`, `files add`, `files corrupt`, `files cut`, `files fail`, `files ls`, `files refuse`, `files rm`, `files slow`, `files undo`, `files url`, `freeze`, `gc`, `image gc`, `image import`, `image ls`, `kill`, `logs`, `man`, `nextest`, `pause`, `plan`, `ps`, `reboot`, `report`, `resume`, `schema`, `screenshot`, `select`, `shutdown`, `start`, `thaw` | done | – | wrong command line, or it cannot be done | 3 for a host or an image that is not fit, or an output that cannot be written; 141 if the reader of the output has gone |

// ## Of test programs, `up`, and commands that print

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

// ## Of `exec` and `ssh`, as ssh(1) has them

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
