//! Debian's Bazel runs the tests of `bazel/example`: in its sandbox, without a network, as this user,
//! on real guests.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "what Bazel says is what a failure is found by")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_testing::process::assert_nothing_runs;

/// Bazel's exit statuses ("Exit codes", bazel.build/run/scripts).
const PASSED: i32 = 0;
const TESTS_FAILED: i32 = 3;

/// Memory of Bazel's server.
const SERVER_MEMORY: &str = "--host_jvm_args=-Xmx512m";

/// The cache of images that all may share, where there is one.
const SHARED_CACHE: &str = "/var/cache/steading";

/// A server of Bazel with a directory for all that it writes.
struct Bazel {
    root: tempfile::TempDir,
    mark: String,
}

impl Bazel {
    fn new() -> Self {
        // Not in /tmp, which is hidden from some tests.
        let root = tempfile::Builder::new().prefix("steading-bazel-").tempdir_in("/var/tmp").unwrap();
        let mark = format!("STEADING_BAZEL_TEST=run-{}", std::process::id());
        Self { root, mark }
    }

    fn command(&self, command: &str) -> Command {
        let mut bazel = Command::new(workspace().join("debian"));
        bazel
            .arg(format!("--output_user_root={}", self.root.path().display()))
            .arg(SERVER_MEMORY)
            .arg(command)
            .env("STEADING_PROGRAMS", programs());
        bazel
    }

    /// Runs tests, and returns Bazel's exit status and all that it said.
    fn test(&self, targets: &[&str], options: &[&str]) -> (i32, String) {
        let mut bazel = self.command("test");
        bazel
            // The sources may be read-only.
            .arg("--symlink_prefix=/")
            .arg("--color=no")
            .arg("--test_output=all")
            // A test that passed before is to be run all the same.
            .arg("--nocache_test_results")
            .arg(format!("--test_env={}", self.mark))
            .args(options)
            .args(targets);
        if Utf8Path::new(SHARED_CACHE).exists() {
            bazel.arg(format!("--sandbox_writable_path={SHARED_CACHE}"));
        }
        let Output { status, stdout, stderr } = bazel.output().expect("bazel is started");
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        // What the sandbox says of itself would hide the rest.
        let lines = said.lines().filter(|line| !line.contains("src/main/tools/linux-sandbox"));
        let said = lines.collect::<Vec<_>>().join("\n");
        println!("{said}");
        let code = status.code().unwrap_or_else(|| panic!("bazel was ended by signal {:?}", status.signal()));
        // However a test has ended, nothing of it runs on.
        assert_nothing_runs(&self.mark, 0);
        (code, said)
    }

    /// A file that Bazel has made of a test.
    fn test_log(&self, target: &str, file: &str) -> String {
        let logs = self.command("info").arg("bazel-testlogs").output().unwrap();
        let logs = Utf8PathBuf::from(String::from_utf8(logs.stdout).unwrap().trim());
        fs::read_to_string(logs.join(target).join(file)).unwrap()
    }
}

impl Drop for Bazel {
    fn drop(&mut self) {
        let _ = self.command("shutdown").output();
    }
}

fn workspace() -> Utf8PathBuf {
    let package = Utf8PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    package.join("../../bazel/example").canonicalize_utf8().unwrap()
}

/// Where cargo puts programs: this one is in `deps` there.
fn programs() -> Utf8PathBuf {
    let this = Utf8PathBuf::try_from(std::env::current_exe().unwrap()).unwrap();
    this.parent().and_then(Utf8Path::parent).unwrap().to_owned()
}

#[test]
fn tests_run_in_bazels_sandbox() {
    assert!(!rustix::process::geteuid().is_root(), "this is to be tried as an ordinary user");
    let bazel = Bazel::new();
    passing(&bazel);
    failing(&bazel);
    unmatched(&bazel);
    cut_short(&bazel);
    refused(&bazel);
    selected(&bazel);
}

/// Bazel starts both at once, and there is room for one: in sandboxes of their own, without /tmp, they
/// wait for each other.
fn passing(bazel: &Bazel) {
    let queue = bazel.root.path().join("queue");
    let queue = queue.to_str().unwrap();
    let options = [
        "--local_test_jobs=2",
        "--sandbox_tmpfs_path=/tmp",
        &format!("--sandbox_writable_path={queue}"),
        &format!("--test_env=STEADING_BROKER_DIR={queue}"),
        "--test_env=STEADING_BROKER_CPUS=1",
    ];
    fs::create_dir(queue).unwrap();
    fs::set_permissions(queue, PermissionsExt::from_mode(0o1777)).unwrap();
    let (code, said) = bazel.test(&["//:health", "//:etcd"], &options);
    assert_eq!(code, PASSED);
    assert!(said.contains("waiting for 1 CPU"), "neither has waited for the other");
    for target in ["health_local", "etcd_local"] {
        assert!(said.contains(&format!("//:{target} ")), "{target} is not among the results");
        // Every file of the report is an output of the test.
        let outputs = bazel.test_log(target, "test.outputs_manifest/MANIFEST");
        for file in ["report.html", "results.json", "log.jsonl", "test.log", "trace.json"] {
            assert!(outputs.lines().any(|line| line.starts_with(&format!("{file}\t"))), "{file}: {outputs}");
        }
    }
    let junit = bazel.test_log("health_local", "test.xml");
    assert!(junit.contains("<testcase name=\"basic_health\""), "{junit}");
    assert!(junit.contains("not selected by the filter"), "{junit}");
    assert!(!junit.contains("<failure"), "{junit}");
    // The sandbox's own network has no way out, nor has the testnet's.
    assert!(said.contains("5 VMs, 5 vCPUs"), "the testnet is not told");
}

fn failing(bazel: &Bazel) {
    let (code, said) = bazel.test(&["//:failing"], &[]);
    assert_eq!(code, TESTS_FAILED);
    assert!(said.contains("//:failing_local") && said.contains("there is no /run/missing"));
    let junit = bazel.test_log("failing_local", "test.xml");
    assert!(junit.contains("<failure") && junit.contains("there is no /run/missing"), "{junit}");
    assert!(junit.contains("<testcase name=\"passes\""), "{junit}");
    let outputs = bazel.test_log("failing_local", "test.outputs_manifest/MANIFEST");
    for file in ["report.html", "log.jsonl", "failure.steading"] {
        assert!(outputs.lines().any(|line| line.starts_with(&format!("{file}\t"))), "{file}: {outputs}");
    }
}

/// A filter names tests of some targets; the others have none, and pass.
fn unmatched(bazel: &Bazel) {
    let (code, said) = bazel.test(&["//:failing"], &["--test_filter=a_test_of_another_target"]);
    assert_eq!(code, PASSED, "{said}");
    let junit = bazel.test_log("failing_local", "test.xml");
    assert!(junit.matches("<skipped").count() >= 2 && !junit.contains("<failure"), "{junit}");
}

/// The run ends by itself before the time limit, with all that it knows.
fn cut_short(bazel: &Bazel) {
    let (code, said) = bazel.test(&["//:health"], &["--test_timeout=16"]);
    assert_eq!(code, TESTS_FAILED);
    assert!(said.contains("//:health_local"), "the test is not among the results");
    let junit = bazel.test_log("health_local", "test.xml");
    assert!(junit.contains("limit of 12 s"), "{junit}");
}

fn refused(bazel: &Bazel) {
    let (code, said) = bazel.test(&["//:greedy", "//:health_farm"], &["--test_tag_filters="]);
    assert_eq!(code, TESTS_FAILED);
    assert!(said.contains("VM n1 has 256 MiB of memory and not 128"), "what was not declared is not told");
    assert!(said.contains("vms = {\"n1\": vm(vcpus = 1, memory_mib = 256)}"), "nor what to declare");
    assert!(said.contains("//:health_farm runs on a farm, and there is none"), "nor that there is no farm");
}

/// Of a change to one program, the local test that uses it is what is run.
fn selected(bazel: &Bazel) {
    let query = |expression: &str| {
        let mut query = bazel.command("query");
        let done = query.arg("--noshow_progress").arg(expression).output().expect("bazel is started");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let lists = tempfile::tempdir().unwrap();
    let list = |name: &str, expression: &str| {
        let file = lists.path().join(name);
        fs::write(&file, query(expression)).unwrap();
        file
    };
    let local = list("local", r#"attr(tags, "\blocal_system_test\b", //...)"#);
    let changed = list("changed", "rdeps(//..., @programs//:suite-etcd)");
    let mut select = Command::new(programs().join("steading"));
    let done =
        select.arg("select").arg("--local").arg(local).arg("--selected").arg(changed).output().unwrap();
    let divided = String::from_utf8_lossy(&done.stdout);
    println!("{divided}{}", String::from_utf8_lossy(&done.stderr));
    let lines: Vec<&str> = divided.lines().collect();
    assert_eq!(
        lines,
        ["smoke //:etcd_local", "night //:failing_local", "night //:greedy_local", "night //:health_local"]
    );
}
