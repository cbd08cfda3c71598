//! `steading nextest`: a configuration for cargo-nextest, from what test programs declare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use fs_err as fs;
use serde::Deserialize;
use steading_broker::Limits;
use steading_harness::broker::BrokerOptions;
use steading_harness::describe::{COMMAND, Description};
use steading_harness::exit_code;
use steading_report::output::print;
use steading_sys::process;

/// How often nextest tells that a test still runs, in seconds.
const PERIOD: u64 = 60;

/// How long a test has after SIGTERM, in seconds: to end its functions and tear its testnet down.
const GRACE: u64 = 30;

#[derive(Args)]
pub(crate) struct NextestOptions {
    /// Test programs, as cargo has built them.
    #[arg(required_unless_present = "binaries")]
    programs: Vec<Utf8PathBuf>,
    /// What `cargo nextest list --list-type binaries-only --message-format json` printed; `-` is the
    /// standard input. Programs that are no tests of Steading are left out.
    #[arg(long, value_name = "FILE", conflicts_with = "programs")]
    binaries: Option<Utf8PathBuf>,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// What nextest lists (its `RustTestBinarySummary`, as far as it is needed).
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    rust_binaries: BTreeMap<String, Binary>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Binary {
    binary_path: Utf8PathBuf,
}

/// A test program, as nextest is to know it.
struct TestProgram {
    filter: String,
    description: Description,
}

pub(crate) fn print(options: &NextestOptions) -> anyhow::Result<u8> {
    let programs = match &options.binaries {
        Some(file) => listed(file)?,
        None => options.programs.iter().map(|path| named(path)).collect::<anyhow::Result<_>>()?,
    };
    print!("{}", render(&programs, options.broker.limits()));
    Ok(exit_code::PASSED)
}

fn listed(file: &Utf8Path) -> anyhow::Result<Vec<TestProgram>> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text =
            fs::read_to_string(file).with_context(|| format!("cannot read the list of nextest `{file}`"))?;
    }
    let listed: Listed = serde_json::from_str(&text).with_context(|| {
        format!("{file} is no list of nextest's\nhint: cargo nextest list --list-type binaries-only --message-format json")
    })?;
    let mut programs = Vec::new();
    for (id, binary) in listed.rust_binaries {
        // Other programs take the command for a filter that no test matches.
        let Some(description) = describe(&binary.binary_path).ok().flatten() else { continue };
        programs.push(TestProgram { filter: format!("binary_id(={id})"), description });
    }
    ensure!(!programs.is_empty(), "none of the programs in {file} is a test of Steading");
    Ok(programs)
}

fn named(path: &Utf8Path) -> anyhow::Result<TestProgram> {
    let path = path.canonicalize_utf8().with_context(|| format!("there is no program {path}"))?;
    let description = describe(&path)?;
    let description = description.with_context(|| format!("{path} is no test program of Steading"))?;
    let file = path.file_name().context("the program has no name")?;
    Ok(TestProgram { filter: format!("binary(={})", without_hash(file)), description })
}

fn describe(path: &Utf8Path) -> anyhow::Result<Option<Description>> {
    Ok(Description::parse(&process::run(path.as_str(), "cargo", [COMMAND])?))
}

/// Cargo adds a dash and 16 hex digits to the names of tests.
fn without_hash(file: &str) -> &str {
    match file.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => file,
    }
}

fn render(programs: &[TestProgram], limits: Limits) -> String {
    let needs: Vec<_> = programs.iter().map(|program| limits.needs(program.description.resources)).collect();
    // A test takes as many threads of the group as of the whole. With so many threads, whichever tests
    // run at once, their memory fits.
    let at_most = needs
        .iter()
        .map(|needs| limits.memory_mib.saturating_mul(needs.cpus.max(1)) / needs.memory_mib.max(1));
    let at_most = at_most.min().unwrap_or(limits.cpus).clamp(1, limits.cpus);
    let mut text = format!(
        "# Made by `steading nextest`, for {limits}. Make it anew when testnets change.\n\
         # threads-required are the CPUs of a testnet: (1 + its vCPUs) / {oversubscription}, rounded up.\n\n\
         [profile.default]\n\
         test-threads = {cpus}\n\n\
         [test-groups]\n\
         steading = {{ max-threads = {at_most} }}\n",
        oversubscription = limits.oversubscription,
        cpus = limits.cpus,
    );
    for (TestProgram { filter, description }, needs) in programs.iter().zip(needs) {
        let Description { suite, resources, limit_seconds, .. } = description;
        let (threads, periods) = (needs.cpus.max(1), limit_seconds.div_ceil(PERIOD));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n# {suite}: {resources}\n\
             [[profile.default.overrides]]\n\
             filter = '{filter}'\n\
             test-group = 'steading'\n\
             threads-required = {threads}\n\
             slow-timeout = {{ period = \"{PERIOD}s\", terminate-after = {periods}, grace-period = \"{GRACE}s\" }}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use steading_plan::Resources;

    use super::*;

    fn program(suite: &str, vcpus: u64, memory_mib: u64) -> TestProgram {
        let resources = Resources { vcpus, memory_mib, overhead_mib: 0 };
        let description = Description::new(suite, resources, 130);
        TestProgram { filter: format!("binary(={suite})"), description }
    }

    #[test]
    fn each_program_has_its_cpus_its_limit_and_a_share_of_the_memory() {
        let limits = Limits { cpus: 8, memory_mib: 16_000, oversubscription: 2 };
        // The second has 4000 MiB for each of its CPUs, so 4 threads are as much memory as there is.
        let text = render(&[program("small", 1, 500), program("large", 3, 8000)], limits);
        assert!(text.contains("test-threads = 8\n"), "{text}");
        assert!(text.contains("steading = { max-threads = 4 }"), "{text}");
        let large = "[[profile.default.overrides]]\n\
            filter = 'binary(=large)'\n\
            test-group = 'steading'\n\
            threads-required = 2\n\
            slow-timeout = { period = \"60s\", terminate-after = 3, grace-period = \"30s\" }\n";
        assert!(text.ends_with(large), "{text}");
    }

    #[test]
    fn names_of_tests_are_known_without_what_cargo_adds() {
        assert_eq!(without_hash("etcd-cluster-0123456789abcdef"), "etcd-cluster");
        assert_eq!(without_hash("etcd-cluster"), "etcd-cluster");
    }
}
