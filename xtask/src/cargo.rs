//! Cargo, and the executables that it makes, as told by its JSON messages.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::{command, error::Advise as _, place::Place, user};

/// A program or a test that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    pub(crate) package: String,
    /// The directory of the package's manifest.
    pub(crate) directory: Utf8PathBuf,
    /// The target's name.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) path: Utf8PathBuf,
    /// Built with the test harness.
    pub(crate) is_test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Library,
    Binary,
    /// A file of `tests/`.
    Test,
    /// An example or a benchmark.
    Other,
}

impl Executable {
    /// As in `steading-vm`, `steading-vm --test formats`, `steading-cli --bin steading`.
    pub(crate) fn title(&self) -> String {
        match self.kind {
            Kind::Library => self.package.clone(),
            Kind::Binary => format!("{} --bin {}", self.package, self.name),
            Kind::Test => format!("{} --test {}", self.package, self.name),
            Kind::Other => format!("{} {}", self.package, self.name),
        }
    }
}

/// A cargo command, run where the sources are and building where the place says.
pub(crate) fn command(place: &Place, words: &[&str]) -> Command {
    // Cargo tells its subcommands, and `cargo run` us, which cargo it is.
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&place.sources).args(words);
    user::remove_cargos_own(&mut command);
    if let Some(target) = &place.target {
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}

/// Builds, and gives what was built; what cargo has to say is shown as it comes.
pub(crate) fn build(place: &Place, words: &[&str]) -> anyhow::Result<Vec<Executable>> {
    let mut command = command(place, words);
    command.arg("--message-format=json-render-diagnostics");
    let messages = command::output_shown(&mut command)?;
    messages.lines().filter_map(|line| executable(line).transpose()).collect()
}

/// Builds one program, in its package, and gives where it is.
pub(crate) fn build_program(place: &Place, package: &str, options: &[&str]) -> anyhow::Result<Executable> {
    let mut words = vec!["build", "--locked", "--package", package];
    words.extend(options);
    let built = build(place, &words)?;
    built
        .into_iter()
        .find(|made| made.package == package && made.kind == Kind::Binary)
        .with_context(|| format!("cargo built no program of the package {package}"))
        .hint(format!("has crates/{package} or suites/ a src/main.rs?"))
}

/// Reads one message, see "External tools" in the cargo book; `None` when no executable was made.
fn executable(message: &str) -> anyhow::Result<Option<Executable>> {
    let value: Value = serde_json::from_str(message).context("a message of cargo's is not JSON")?;
    if value["reason"] != "compiler-artifact" {
        return Ok(None);
    }
    let Some(path) = value["executable"].as_str() else { return Ok(None) };
    let text =
        |value: &Value| value.as_str().map(str::to_owned).context("a message of cargo's lacks a field");
    let manifest = Utf8PathBuf::from(text(&value["manifest_path"])?);
    let kind = match value["target"]["kind"][0].as_str() {
        Some("custom-build") => return Ok(None),
        Some("lib" | "rlib" | "proc-macro") => Kind::Library,
        Some("bin") => Kind::Binary,
        Some("test") => Kind::Test,
        _ => Kind::Other,
    };
    let Some(directory) = manifest.parent() else { bail!("the manifest {manifest} lies in no directory") };
    Ok(Some(Executable {
        package: package_name(&text(&value["package_id"])?),
        directory: directory.to_owned(),
        name: text(&value["target"]["name"])?,
        kind,
        path: path.into(),
        is_test: value["profile"]["test"] == true,
    }))
}

/// The name in a package id: `path+file:///a/name#0.1.0`, or `path+file:///a/b#name@0.1.0` where the
/// directory is called otherwise, see "Package ID specifications" in the cargo book.
fn package_name(id: &str) -> String {
    let (url, fragment) = id.split_once('#').unwrap_or((id, ""));
    let name = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => Utf8Path::new(url).file_name().unwrap_or(url),
    };
    name.to_owned()
}

/// Runs the doc tests of the workspace; `each_line` is given what they say.
///
/// Rustdoc must compile them, and so must be able to read the toolchain: it runs as we do. The
/// tests themselves run as the user, by the runner that cargo hands to rustdoc.
pub(crate) fn doc_tests(place: &Place, filter: Option<&str>) -> anyhow::Result<Command> {
    let mut command = command(place, &["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    let xtask = env::current_exe().context("cannot tell where xtask itself is")?;
    let xtask = in_place(xtask.to_str().context("xtask's path is not UTF-8")?);
    let runner = serde_json::to_string(&[xtask, "as-user"])?;
    command.arg("--config").arg(format!("target.'cfg(unix)'.runner = {runner}"));
    command.arg("--").args(filter);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Where a program is that runs: building all programs builds this one, too, and then the kernel
/// says of the one that runs that its file was deleted (proc_pid_exe(5)). The new one serves.
fn in_place(program: &str) -> &str {
    program.strip_suffix(" (deleted)").unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_built_anew_while_it_runs_is_where_it_was() {
        assert_eq!(in_place("/x/xtask (deleted)"), "/x/xtask");
        assert_eq!(in_place("/x/xtask"), "/x/xtask");
    }

    const MESSAGE: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/suites/etcd#suite-etcd@0.1.0",
        "manifest_path":"/x/suites/etcd/Cargo.toml","target":{"kind":["bin"],"crate_types":["bin"],
        "name":"suite-etcd","src_path":"/x/suites/etcd/src/main.rs"},"profile":{"test":false},
        "executable":"/x/target/debug/suite-etcd","fresh":true}"#;

    #[test]
    fn an_executable_is_read_from_cargos_message() {
        let made = executable(MESSAGE).expect("it is JSON").expect("it is an executable");
        assert_eq!(made.title(), "suite-etcd --bin suite-etcd");
        assert_eq!((made.directory.as_str(), made.is_test), ("/x/suites/etcd", false));
    }

    #[test]
    fn build_scripts_libraries_and_other_messages_are_no_executables() {
        let other = r#"{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(other).expect("it is JSON"), None);
        assert_eq!(
            executable(&MESSAGE.replace(r#"["bin"],"c"#, r#"["custom-build"],"c"#)).expect("JSON"),
            None
        );
        let library = MESSAGE.replace(r#""/x/target/debug/suite-etcd""#, "null");
        assert_eq!(executable(&library).expect("it is JSON"), None);
    }

    #[test]
    fn a_packages_name_is_the_directorys_unless_the_id_gives_one() {
        assert_eq!(package_name("path+file:///x/crates/steading-vm#0.1.0"), "steading-vm");
        assert_eq!(package_name("path+file:///x/suites/etcd#suite-etcd@0.1.0"), "suite-etcd");
    }
}
