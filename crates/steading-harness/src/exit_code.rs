//! The exit statuses of `steading` and of test programs. The reference shows this table:
//!
//! | command | 0 | 1 | 2 | other |
//! | --- | --- | --- | --- | --- |
//! | a test program, `up` | all passed | a test failed | wrong command line or declaration | 3 to 6, below; errors of standard output do not count |
//! | `run`, `fork -- COMMAND` | the program's own | the program's own | the program's own | the program's own, 128 plus the number of the signal that ended it; 125, 126, 127 for errors of Steading |
//! | `exec`, `ssh` | the command's own | the command's own | the command's own | the command's own, 128 plus the number of the signal that ended it; 255 for errors of Steading |
//! | `wait` | the condition was met | time limit reached, or the VM went off | wrong command line, no such VM, a VM that is off | 3, 141 as for others |
//! | `console` | the group ended, or Ctrl-] was typed | – | wrong command line, no such VM | 128 plus the number of the signal that ended it |
//! | `fork`, `resume FILE` | interrupted, or torn down | – | wrong command line, or nothing to start from | 3 if this host does not support it |
//! | `virsh` | as virsh(1) | as virsh(1) | no such group, one without libvirt | as virsh(1) |
//! | `broker`, `cache gc`, `cache ls`, `cert`, `completions`, `dns add`, `dns claim`, `dns ls`, `dns rm`, `doctor`, `down`, `fault cut`, `fault delay`, `fault duplicate`, `fault loss`, `fault ls`, `fault partition`, `fault rate`, `fault reorder`, `fault undo`, `files add`, `files corrupt`, `files cut`, `files fail`, `files ls`, `files refuse`, `files rm`, `files slow`, `files undo`, `files url`, `freeze`, `gc`, `image gc`, `image import`, `image ls`, `kill`, `logs`, `man`, `nextest`, `pause`, `plan`, `ps`, `reboot`, `report`, `resume`, `schema`, `screenshot`, `select`, `shutdown`, `start`, `thaw` | success | – | wrong command line, or failure | 3 for an unsuitable host or image, or an output that cannot be written; 141 if the reader of the output has closed it |

// ## Of test programs, `up`, and commands that print

/// All selected functions passed.
pub const PASSED: u8 = 0;
/// A test or a teardown failed.
pub const FAILED: u8 = 1;
/// The command line or the declaration is wrong; nothing was started.
pub const USAGE: u8 = 2;
/// This host does not support it, or an image is invalid; nothing was left behind.
pub const HOST: u8 = 3;
/// Setup failed, so no test ran.
pub const SETUP_FAILED: u8 = 4;
/// A signal ended the run early.
pub const INTERRUPTED: u8 = 5;

/// All selected functions passed, but some of them only after a retry.
pub const FLAKY: u8 = 6;

// ## Of `steading run` and `fork -- COMMAND`, as env(1) has them

/// Steading could not run the program: a wrong command line or declaration, a host
/// that does not support it. Or the program succeeded, but its output could not be written.
pub const RUN_FAILED: u8 = 125;
/// The program cannot be executed.
pub const RUN_CANNOT_START: u8 = 126;
/// The program was not found.
pub const RUN_NOT_FOUND: u8 = 127;

// ## Of `exec` and `ssh`, as ssh(1) has them

/// The command did not run, or its result is not known: a wrong command line, no such VM, a VM that is off, a
/// connection that broke.
pub const REMOTE_FAILED: u8 = 255;

/// A function's own process: it returned `Ok`. Not 0, so that a test that calls `exit(0)` in the
/// middle does not pass.
pub(crate) const RETURNED_OK: u8 = 80;
/// A function's own process: it returned an error.
pub(crate) const RETURNED_ERROR: u8 = 81;
/// A function's own process: it is skipped, and has recorded why.
pub(crate) const RETURNED_SKIP: u8 = 82;
