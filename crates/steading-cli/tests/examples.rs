//! The examples that the book shows, as a reader would run them: on real guests.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

/// A directory with the files of an example, and nothing else.
fn example(name: &str) -> TempDir {
    // Where the package is now, which need not be where it was compiled.
    let package =
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(Path::new(&package).join("../../examples").join(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn runs(dir: &TempDir, words: &[&str]) -> String {
    assert!(
        std::env::var_os("STEADING_GUEST").is_some(),
        "STEADING_GUEST names the reference guest: `cargo xtask test` sets it"
    );
    // `steading` is found by its name, as by a reader.
    let steading = steading();
    let mut path = vec![steading.parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let group = format!("pair-{}", std::process::id());
    let ran = Command::new(&steading)
        .args(["run", "--group", &group, "pair.toml", "--"])
        .args(words)
        .current_dir(dir)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&ran.stdout);
    assert!(ran.status.success(), "{}\n{said}\n{}", ran.status, text(&ran.stderr));
    said
}

#[test]
fn the_example_in_shell_passes() {
    let said = runs(&example("shell"), &["sh", "test-pair.sh"]);
    assert!(said.contains("passed"), "{said}");
}

#[test]
fn the_example_in_python_passes() {
    let said = runs(&example("pytest"), &["/usr/bin/python3", "-m", "pytest"]);
    assert!(said.contains("4 passed"), "{said}");
}
