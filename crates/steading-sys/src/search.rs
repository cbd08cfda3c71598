//! Where a program is that was named without a path.
//!
//! Debian keeps daemons like dnsmasq in `sbin` directories, which are on root's PATH only, although
//! everybody may run them. So the `sbin` next to each `bin` on PATH is searched, too, after all of PATH.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use steading_plan::env_vars;

/// The program as it is to be started: with its path if only an `sbin` has it.
pub(crate) fn resolve(program: &str) -> OsString {
    resolve_with(program, env::var_os(env_vars::PATH).as_deref())
}

/// The file of a program, if there is one.
pub fn find(program: &str) -> Option<PathBuf> {
    find_with(program, env::var_os(env_vars::PATH).as_deref()).map(|(file, _)| file)
}

fn resolve_with(program: &str, path: Option<&OsStr>) -> OsString {
    match find_with(program, path) {
        Some((file, Place::Beside)) => file.into(),
        // As it was said, so that it knows itself by that name.
        _ => program.into(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Where it was said, or on PATH.
    Named,
    /// In an `sbin` next to a `bin` of PATH.
    Beside,
}

fn find_with(program: &str, path: Option<&OsStr>) -> Option<(PathBuf, Place)> {
    // One with a slash is not looked for on PATH (execvp(3)).
    if program.contains('/') {
        return Some((program.into(), Place::Named));
    }
    let dirs: Vec<PathBuf> = env::split_paths(path.unwrap_or_default()).collect();
    let file_in = |dir: &Path| Some(dir.join(program)).filter(|file| file.is_file());
    let named = dirs.iter().find_map(|dir| file_in(dir)).map(|file| (file, Place::Named));
    let beside = dirs.iter().filter(|dir| dir.ends_with("bin")).map(|dir| dir.with_file_name("sbin"));
    named.or_else(|| beside.map(|dir| file_in(&dir)).find_map(|file| Some((file?, Place::Beside))))
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn a_daemon_is_found_in_the_sbin_beside_a_bin_on_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let (bin, sbin) = (dir.path().join("bin"), dir.path().join("sbin"));
        fs::create_dir(&bin).expect("bin");
        fs::create_dir(&sbin).expect("sbin");
        fs::write(sbin.join("daemon"), "").expect("a program");
        let found = |program: &str, path: &Path| resolve_with(program, Some(path.as_os_str()));
        assert_eq!(found("daemon", &bin), sbin.join("daemon"));
        assert_eq!(found("daemon", &sbin), "daemon");
        assert_eq!(found("daemon", dir.path()), "daemon");
        assert_eq!(found("other", &bin), "other");
        fs::write(bin.join("daemon"), "").expect("a program");
        assert_eq!(found("daemon", &bin), "daemon");
    }
}
