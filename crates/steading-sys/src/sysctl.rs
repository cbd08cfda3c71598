//! Kernel parameters under `/proc/sys` (proc_sys(5)). Those under `net` are those of the caller's
//! network namespace.

use std::io;

use fs_err as fs;

/// What a host must not believe from an interface behind which guests are, since they can say anything there: routers
/// with their routes, prefixes, MTU and hop limit (RFC 4861, section 4.2), and better ways (sections 4.5 and 8).
pub const DISTRUST: [(&str, &str, &str); 6] = [
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "accept_redirects", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv4", "accept_redirects", "0"),
    ("ipv4", "secure_redirects", "0"),
    ("ipv4", "send_redirects", "0"),
];

/// Sets [`DISTRUST`] for an interface, or for `all` or `default`.
///
/// # Errors
///
/// With the name of the parameter that cannot be set, as below `/proc/sys`.
pub fn distrust(interface: &str) -> Result<(), (String, io::Error)> {
    for (family, parameter, value) in DISTRUST {
        let name = format!("net/{family}/conf/{interface}/{parameter}");
        write(&name, value).map_err(|error| (name, error))?;
    }
    Ok(())
}

/// Sets a parameter, named as below `/proc/sys`.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/{name}"), value)
}

/// Reads a parameter, named as below `/proc/sys`, without its closing newline.
pub fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/sys/{name}"))?.trim_end().to_owned())
}
