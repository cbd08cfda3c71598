//! What a frozen VM depends on, in addition to its own files.

use fs_err as fs;

use super::{QEMU, QEMU_PACKAGE};

/// The version of this host's QEMU, as `--version` tells it: "7.2.22".
///
/// # Errors
///
/// When there is none.
pub fn qemu_version() -> Result<String, steading_sys::process::RunError> {
    let said = steading_sys::process::run(QEMU, QEMU_PACKAGE, ["--version"])?;
    Ok(version_in(&String::from_utf8_lossy(&said)).to_owned())
}

fn version_in(said: &str) -> &str {
    let number = said.split_ascii_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    number.unwrap_or_default()
}

/// The model of this host's CPU and what it can do, which guests see under KVM.
pub fn cpu() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = cpus.split("\n\n").next().unwrap_or_default();
    let wanted = |line: &&str| line.starts_with("model name") || line.starts_with("flags");
    first.lines().filter(wanted).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_number() {
        let said = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022";
        assert_eq!(version_in(said), "7.2.22");
    }
}
