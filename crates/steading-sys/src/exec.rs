//! Becomes another program, in the same process.

use std::ffi::CStr;
use std::io;

use libc::c_char;

/// Replaces this program (execve(2)). Returns only when that fails.
///
/// Of this process all is kept but signals' dispositions: SIGPIPE, which the standard library ignores, ends the
/// new program as it expects.
pub fn become_program(path: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> io::Error {
    let terminated = |texts: &[&CStr]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (terminated(arguments), terminated(environment));
    // SAFETY: the default disposition needs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: both lists end with a null pointer, and with all texts outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
