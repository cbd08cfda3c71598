//! Kernel parameters under `/proc/sys` (proc_sys(5)). Those under `net` are those of the caller's
//! network namespace.

use std::io;

use fs_err as fs;

/// Sets a parameter, named as below `/proc/sys`.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/{name}"), value)
}

/// Reads a parameter, named as below `/proc/sys`, without its closing newline.
pub fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/sys/{name}"))?.trim_end().to_owned())
}
