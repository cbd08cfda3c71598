//! One run of a mishap, in directories of its own.

use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use steading::exit_code;
use steading_testing::process;
use tempfile::TempDir;

pub(crate) const PASSED: i32 = exit_code::PASSED as i32;
pub(crate) const FAILED: i32 = exit_code::FAILED as i32;
pub(crate) const USAGE: i32 = exit_code::USAGE as i32;
pub(crate) const HOST: i32 = exit_code::HOST as i32;

/// More than any run takes, but for those that hang.
const LIMIT: Duration = Duration::from_secs(600);

/// What the logs of a run consist of.
const LOGS: [&str; 10] = [
    "failure.steading",
    "log.jsonl",
    "test.log",
    "console.raw",
    "console.log",
    "journal.log",
    "results.json",
    "report.html",
    "junit.xml",
    "trace.json",
];

/// One run.
pub(crate) struct Mishap {
    dir: TempDir,
    pub(crate) command: Command,
}

/// How it went. The directories live as long.
pub(crate) struct Ran {
    pub(crate) dir: TempDir,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_mishaps").unwrap_or_else(|| env!("CARGO_BIN_EXE_mishaps").into()).into()
}

/// The reference guest, where a test needs one.
pub(crate) fn guest() -> PathBuf {
    let guest = std::env::var_os("STEADING_GUEST").map(PathBuf::from);
    let guest = guest.expect("STEADING_GUEST names the reference guest: `cargo xtask test` sets it");
    assert!(guest.join("manifest.json").is_file(), "STEADING_GUEST={} is none", guest.display());
    guest
}

impl Mishap {
    pub(crate) fn new(name: &str) -> Self {
        Self::by(&[], name)
    }

    /// A run that another program starts, at the end of whose command line it stands.
    pub(crate) fn by(by: &[&str], name: &str) -> Self {
        let words = by.iter().map(OsString::from).chain([program().into(), "run".into()]);
        Self::of(&words.collect::<Vec<_>>(), name)
    }

    /// Opens a testnet that was kept in this file.
    pub(crate) fn resume(file: &Path) -> Self {
        Self::of(&[program().into(), "resume".into(), file.into()], "image")
    }

    fn of(words: &[OsString], name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for part in ["work", "cache", "scratch", "tmp", "home"] {
            std::fs::create_dir(dir.path().join(part)).expect("a directory");
        }
        let part = |name: &str| dir.path().join(name);
        let file = |name: &str| Stdio::from(std::fs::File::create(part(name)).expect("a file"));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("--out")
            .arg(part("out"))
            .current_dir(part("work"))
            .env("MISHAP", name)
            .env("MISHAP_RUN", dir.path())
            .env("STEADING_CACHE_DIR", part("cache"))
            .env("STEADING_SCRATCH_DIR", part("scratch"))
            .env("STEADING_ACCEL", "tcg")
            // Some of these tests need several groups at once, whatever machine it is.
            .env("STEADING_NO_BROKER", "1")
            .env("TMPDIR", part("tmp"))
            .env("HOME", part("home"))
            .env_remove("XDG_CACHE_HOME")
            .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"));
        Self { dir, command }
    }

    /// With the cache of this host, for images that take long to unpack.
    pub(crate) fn with_the_hosts_cache(mut self) -> Self {
        for name in ["STEADING_CACHE_DIR", "HOME"] {
            match std::env::var_os(name) {
                Some(value) => self.command.env(name, value),
                None => self.command.env_remove(name),
            };
        }
        self
    }

    /// With a cache that it shares with other runs.
    pub(crate) fn with_cache(mut self, dir: &Path) -> Self {
        self.command.env("STEADING_CACHE_DIR", dir);
        self
    }

    /// Waits for others that share the machine, by this directory, and with four groups of one VM as
    /// the limit.
    pub(crate) fn sharing(mut self, dir: &Path) -> Self {
        self.command
            .env_remove("STEADING_NO_BROKER")
            .env("STEADING_BROKER_DIR", dir)
            .env("STEADING_BROKER_CPUS", "4")
            .env("STEADING_OVERSUBSCRIPTION", "2");
        self
    }

    /// With an image that holds this.
    pub(crate) fn image(mut self, content: &[u8]) -> Self {
        let image = self.path("image");
        std::fs::write(&image, content).expect("write an image");
        self.command.env("MISHAP_IMAGE", image);
        self
    }

    /// A path in the run's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn run(mut self) -> Ran {
        let child = self.command.spawn().expect("the program starts");
        self.wait(child)
    }

    /// Waits for its end, and looks whether it left anything.
    pub(crate) fn wait(self, mut child: Child) -> Ran {
        let ended = process::ends_within(&child, LIMIT);
        if !ended {
            child.kill().expect("end it");
        }
        let status = child.wait().expect("its end");
        let text = |name: &str| {
            let bytes = std::fs::read(self.path(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let ran = Ran { status, stdout: text("stdout"), stderr: text("stderr"), dir: self.dir };
        assert!(ended, "it did not end: {}\n{}", ran.stdout, ran.stderr);
        ran.assert_nothing_left(child.id());
        ran
    }
}

impl Ran {
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// What is said of the error has all of these, and then advice that has this.
    pub(crate) fn assert_told(&self, said: &[&str], hint: &str) -> &Self {
        let error = self.stderr.split_once("error: ").map_or("", |(_, error)| error);
        let (message, advice) =
            error.split_once("\nhint: ").unwrap_or_else(|| panic!("there is no hint:\n{}", self.stderr));
        for text in said {
            assert!(message.contains(text), "{text:?} is not in {message:?}");
        }
        assert!(advice.contains(hint), "{hint:?} is not in {advice:?}");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Processes are known by their environment, which they all inherit.
    fn assert_nothing_left(&self, pid: u32) {
        process::assert_nothing_runs(&format!("MISHAP_RUN={}", self.dir.path().display()), pid);
        for part in ["work", "scratch", "tmp", "home"] {
            let left = files(&self.path(part));
            assert!(left.is_empty(), "left in {part}: {left:?}");
        }
        let is_log = |file: &PathBuf| {
            LOGS.iter().any(|log| file.file_name().is_some_and(|name| name == *log))
                || file.parent().is_some_and(|dir| dir.ends_with("pictures") || dir.ends_with("libvirt"))
        };
        let left: Vec<_> = files(&self.path("out")).into_iter().filter(|file| !is_log(file)).collect();
        assert!(left.is_empty(), "left beside the logs: {left:?}");
        self.assert_cache_is_whole();
        let interfaces = std::fs::read_to_string("/proc/self/net/dev").expect("the interfaces");
        let names = interfaces.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let ours: Vec<_> =
            names.filter(|name| ["vbr-", "tap-", "ta4-"].iter().any(|it| name.starts_with(it))).collect();
        assert!(ours.is_empty(), "interfaces are left: {ours:?}");
    }

    /// Of each image there is the raw file and its record, and nothing else.
    fn assert_cache_is_whole(&self) {
        let images = files(&self.path("cache/images"));
        for file in &images {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let digest = name.trim_end_matches(".raw").trim_end_matches(".json");
            assert!(digest.len() == 64 && digest != name, "{name} is no part of an image: {images:?}");
            for part in ["raw", "json"] {
                assert!(file.with_extension(part).is_file(), "{digest} has no {part} file: {images:?}");
            }
        }
    }

    /// How many images are in the run's own cache.
    pub(crate) fn cached_images(&self) -> usize {
        files(&self.path("cache/images")).len() / 2
    }
}

/// All files below a directory, sockets included.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() || kind.is_socket() || kind.is_symlink() || kind.is_fifo() {
            found.push(entry.path());
        }
    }
    found
}

/// The next of a series of numbers that look random (SplitMix64), for delays.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Where that series begins: anew each time, unless `STEADING_SEED` says where.
#[expect(clippy::print_stderr, reason = "who sees the failure must be able to repeat it")]
pub(crate) fn seed() -> u64 {
    let given = std::env::var("STEADING_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let seed = given.unwrap_or(u64::from(now.subsec_nanos()));
    eprintln!("STEADING_SEED={seed} repeats the random delays");
    seed
}

/// Runs a program that a test needs.
pub(crate) fn tool(program: &str, args: &[&str]) {
    attempt(program, args).unwrap_or_else(|said| panic!("{program} {args:?}: {said}"));
}

/// Runs a program that a test needs; an error is what it said when it failed.
pub(crate) fn attempt(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} (`cargo xtask setup` installs it): {error}"));
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or_else(said)
}
