//! Why a program could not be started, and what to do about it.
//!
//! The kernel's answer alone misleads: a directory on PATH that may not be searched makes a program
//! that is nowhere look forbidden, and a script whose interpreter is missing looks missing itself.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use steading_plan::env_vars;

use crate::run_error::RunError;

const INTERPRETER: &str = "\nhint: the file is there: what is missing is the interpreter that its first line (`#!`) or its header names";
const FORBIDDEN: &str = "\nhint: it must be executable (chmod +x), its file system not be mounted noexec, and this user be let into the directories above it";

/// The error of a program that could not be started.
pub(crate) fn explain(program: &str, package: Option<&'static str>, source: io::Error) -> RunError {
    explain_with(program, package, source, env::var_os(env_vars::PATH).as_deref())
}

fn explain_with(
    program: &str,
    package: Option<&'static str>,
    source: io::Error,
    path: Option<&OsStr>,
) -> RunError {
    let kind = source.kind();
    let start = |program: String, hint: &str| RunError::Start { program, hint: hint.to_owned(), source };
    if !matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
        return start(program.to_owned(), "");
    }
    // One with a slash is not looked for on PATH (execvp(3)).
    let search = if program.contains('/') { look_at(program) } else { search(program, path) };
    match search {
        Search::There(file) => {
            let is_missing = kind == io::ErrorKind::NotFound;
            start(file.display().to_string(), if is_missing { INTERPRETER } else { FORBIDDEN })
        }
        Search::Nowhere { .. } if program.contains('/') => {
            if kind == io::ErrorKind::NotFound {
                RunError::NoFile { program: program.to_owned() }
            } else {
                start(program.to_owned(), FORBIDDEN)
            }
        }
        Search::Nowhere { closed } => {
            let program = program.to_owned();
            RunError::NotFound { program, advice: advice(package, &closed, path.unwrap_or_default()) }
        }
    }
}

/// Where a program is.
enum Search {
    There(PathBuf),
    /// Nowhere that can be seen; these directories cannot be looked into.
    Nowhere {
        closed: Vec<PathBuf>,
    },
}

fn look_at(program: &str) -> Search {
    let file = Path::new(program);
    if file.is_file() { Search::There(file.to_owned()) } else { Search::Nowhere { closed: Vec::new() } }
}

fn search(program: &str, path: Option<&OsStr>) -> Search {
    let mut closed = Vec::new();
    for dir in env::split_paths(path.unwrap_or_default()) {
        match fs::metadata(dir.join(program)) {
            Ok(metadata) if metadata.is_file() => return Search::There(dir.join(program)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => closed.push(dir),
            _ => {}
        }
    }
    Search::Nowhere { closed }
}

fn advice(package: Option<&str>, closed: &[PathBuf], path: &OsStr) -> String {
    let mut text = match package {
        Some(package) => format!("on Debian: apt-get install {package}"),
        None => format!("install it, or name it with its path; PATH is {}", path.display()),
    };
    if !closed.is_empty() {
        let closed: Vec<String> = closed.iter().map(|dir| dir.display().to_string()).collect();
        text.push_str("; on PATH this user may not look into ");
        text.push_str(&closed.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn told(program: &str, package: Option<&'static str>, kind: io::ErrorKind, path: &Path) -> String {
        explain_with(program, package, kind.into(), Some(path.as_os_str())).to_string()
    }

    #[test]
    fn a_program_that_is_nowhere_is_told_with_its_package_or_with_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = io::ErrorKind::NotFound;
        assert_eq!(
            told("dnsmasq", Some("dnsmasq-base"), missing, dir.path()),
            "dnsmasq is not installed, or not on PATH\nhint: on Debian: apt-get install dnsmasq-base"
        );
        assert_eq!(
            told("curl", None, missing, dir.path()),
            format!(
                "curl is not installed, or not on PATH\nhint: install it, or name it with its path; PATH is {}",
                dir.path().display()
            )
        );
    }

    #[test]
    fn a_path_that_leads_nowhere_gets_no_advice_to_install() {
        let error = told("/no/such/program", None, io::ErrorKind::NotFound, Path::new("/"));
        assert_eq!(error, "there is no program /no/such/program\nhint: check the path");
    }

    #[test]
    fn a_file_whose_interpreter_is_missing_is_not_called_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("script");
        fs::write(&file, "#!/no/such/shell\n").expect("write");
        let file = file.to_str().expect("UTF-8");
        for program in ["script", file] {
            let error = told(program, None, io::ErrorKind::NotFound, dir.path());
            assert!(error.starts_with(&format!("cannot start {file}\nhint: the file is there")), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_executable_is_told_as_such() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("script"), "").expect("write");
        let error = told("script", Some("x"), io::ErrorKind::PermissionDenied, dir.path());
        assert!(error.contains("chmod +x") && !error.contains("apt-get"), "{error}");
    }

    #[test]
    fn a_closed_directory_on_path_does_not_make_a_missing_program_look_forbidden() {
        let dir = tempfile::tempdir().expect("a directory");
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).expect("a directory");
        fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).expect("close it");
        let error = told("dnsmasq", Some("dnsmasq-base"), io::ErrorKind::PermissionDenied, &closed);
        assert!(error.contains("dnsmasq is not installed") && error.contains("dnsmasq-base"), "{error}");
        // Root may look everywhere.
        if fs::read_dir(&closed).is_err() {
            assert!(error.ends_with(&format!("may not look into {}", closed.display())), "{error}");
        }
        fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("open it");
    }
}
