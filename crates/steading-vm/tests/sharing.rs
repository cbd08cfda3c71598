//! One cache, used by several threads, processes and users at once, some of which are killed.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use common::{
    Fixture, HELPER, bytes_of, disk, gzip, has_unpacked, helper, noise, padded, qcow2, variable, xz, zstd,
};
use libtest_mimic::{Arguments, Trial};
use steading_plan::Sha256;
use steading_vm::image::{ImageCache, ImageError, Progress};

const CACHE: &str = "STEADING_TEST_CACHE";
const SOURCE: &str = "STEADING_TEST_SOURCE";
/// The fraction of the source, in percent, at which a helper stops until it is told to go on.
const STOP_AT: &str = "STEADING_TEST_STOP_AT";

/// What the host cannot do is known before, so that it counts as left out, with the reason.
fn main() -> ExitCode {
    match std::env::var(HELPER).as_deref() {
        Ok("helper_prepares") => helper_prepares(),
        Ok("helper_fills_a_small_file_system") => helper_fills_a_small_file_system(),
        Ok(other) => panic!("there is no helper named {other}"),
        Err(_) => {
            let args = Arguments::from_args();
            return libtest_mimic::run(&args, trials()).exit_code();
        }
    }
    ExitCode::SUCCESS
}

/// A test, and why this host cannot run it, if so.
type Case = (&'static str, fn(), Option<&'static str>);

fn trials() -> Vec<Trial> {
    let no_other_user = as_nobody(&Command::new(std::env::current_exe().expect("this test"))).err();
    let tests: [Case; 9] = [
        (
            "threads_and_processes_that_ask_at_once_do_the_work_once",
            threads_and_processes_that_ask_at_once_do_the_work_once,
            None,
        ),
        (
            "a_process_that_is_killed_in_the_middle_leaves_nothing_and_the_next_one_does_the_work",
            a_process_that_is_killed_in_the_middle_leaves_nothing_and_the_next_one_does_the_work,
            None,
        ),
        (
            "a_second_run_reads_nothing_and_a_changed_file_is_read_again",
            a_second_run_reads_nothing_and_a_changed_file_is_read_again,
            None,
        ),
        (
            "the_same_image_at_another_path_is_not_unpacked_again",
            the_same_image_at_another_path_is_not_unpacked_again,
            None,
        ),
        ("a_damaged_entry_is_made_again", a_damaged_entry_is_made_again, None),
        (
            "a_removed_image_is_gone_for_new_users_and_stays_for_those_who_have_it_open",
            a_removed_image_is_gone_for_new_users_and_stays_for_those_who_have_it_open,
            None,
        ),
        ("a_cache_below_a_directory_for_all_is_for_all", a_cache_below_a_directory_for_all_is_for_all, None),
        (
            "two_users_share_the_entries_of_a_shared_cache",
            two_users_share_the_entries_of_a_shared_cache,
            no_other_user,
        ),
        (
            "a_full_file_system_is_told_with_figures_and_nothing_is_left",
            a_full_file_system_is_told_with_figures_and_nothing_is_left,
            no_mounts(),
        ),
    ];
    let trial = |(name, test, missing): Case| {
        let trial = Trial::test(name, move || {
            test();
            Ok(())
        });
        match missing {
            Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
            None => trial,
        }
    };
    tests.into_iter().map(trial).collect()
}

/// Says what it does on stdout, one word a line.
fn helper_prepares() {
    let cache = ImageCache::open(Utf8Path::new(&variable(CACHE))).expect("cache");
    let stop_at: u64 = variable(STOP_AT).parse().expect("a number");
    let mut said = Vec::new();
    let mut say = |word: &'static str| {
        if said.contains(&word) {
            return false;
        }
        said.push(word);
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{word}").and_then(|()| out.flush()).expect("stdout");
        true
    };
    let source = Utf8PathBuf::from(variable(SOURCE));
    let image = cache.prepare(&source, None, &mut |step| match step {
        Progress::Waiting => drop(say("waiting")),
        Progress::Hashing { .. } => drop(say("hashing")),
        Progress::Unpacking { read, total_read, .. } => {
            if read * 100 >= total_read * stop_at && say("unpacking") {
                let _ = std::io::stdin().lock().read_line(&mut String::new());
            }
        }
    });
    image.expect("prepared");
    say("prepared");
}

struct Helper {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Helper {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("spawn");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    fn prepares(cache: &Utf8Path, source: &Utf8Path, stop_at: u8) -> Self {
        let stop_at = stop_at.to_string();
        Self::start(helper(
            "helper_prepares",
            &[(CACHE, cache.as_str()), (SOURCE, source.as_str()), (STOP_AT, &stop_at)],
        ))
    }

    /// Reads on until that word comes.
    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("read") > 0 {
            if line.trim() == word {
                return;
            }
            line.clear();
        }
        panic!("the helper ended without saying {word:?}");
    }

    fn go_on(&mut self) {
        self.child.stdin.take().expect("piped").write_all(b"\n").expect("write");
    }

    /// The words from here to its end, which must be a good one.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("read");
        assert!(self.child.wait().expect("wait").success(), "{rest}");
        rest
    }
}

fn threads_and_processes_that_ask_at_once_do_the_work_once() {
    let f = Fixture::new();
    let source = f.file("a.zst", &zstd(&noise(1, 8 << 20)));
    let dir = f.cache.dir().to_owned();
    let mut first = Helper::prepares(&dir, &source, 1);
    first.expect("unpacking");
    let mut second = Helper::prepares(&dir, &source, 1);
    second.expect("waiting");
    std::thread::scope(|scope| {
        let (waiting, is_waiting) = mpsc::channel();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (f, source, waiting) = (&f, &source, waiting.clone());
                scope.spawn(move || {
                    let mut steps = Vec::new();
                    let image = f.cache.prepare(source, None, &mut |step| {
                        if step == Progress::Waiting {
                            waiting.send(()).expect("receiver");
                        }
                        steps.push(step);
                    });
                    (image.expect("prepared"), steps)
                })
            })
            .collect();
        is_waiting.recv().expect("one waits");
        is_waiting.recv().expect("two wait");
        first.go_on();
        for thread in threads {
            let (image, steps) = thread.join().expect("no panic");
            assert!(!has_unpacked(&steps), "{steps:?}");
            assert!(bytes_of(&image) == noise(1, 8 << 20));
        }
    });
    assert!(first.end().contains("prepared"));
    assert!(!second.end().contains("unpacking"));
    assert_eq!(f.cache.list().expect("list").len(), 1);
}

fn a_process_that_is_killed_in_the_middle_leaves_nothing_and_the_next_one_does_the_work() {
    let f = Fixture::new();
    let raw = noise(2, 32 << 20);
    let sources = [f.file("a", &raw), f.file("b", &gzip(&raw)), f.file("c", &zstd(&raw))];
    for source in &sources {
        let mut helper = Helper::prepares(f.cache.dir(), source, 50);
        helper.expect("unpacking");
        let mut waiting = Helper::prepares(f.cache.dir(), source, 101);
        waiting.expect("waiting");
        assert_eq!(f.names("images"), [""; 0]);
        helper.child.kill().expect("kill");
        helper.child.wait().expect("wait");
        // The one that waits gets the lock from the kernel.
        assert!(waiting.end().contains("prepared"));
        let digest = Sha256::of(fs_err::read(source).expect("read"));
        assert_eq!(f.names("images"), [format!("{digest}.json"), format!("{digest}.raw")]);
        assert!(bytes_of(&f.prepare(source).expect("prepared")) == raw);
        assert!(f.cache.remove(&digest).expect("remove"));
    }
    assert_eq!(f.names("images"), [""; 0]);
}

fn a_second_run_reads_nothing_and_a_changed_file_is_read_again() {
    let f = Fixture::new();
    let source = f.file("a.gz", &gzip(&disk()));
    let steps_of = || {
        let mut steps = Vec::new();
        let image = f.cache.prepare(&source, None, &mut |step| steps.push(step)).expect("prepared");
        (image, steps)
    };
    let (image, steps) = steps_of();
    assert!(has_unpacked(&steps));
    // A file that was written within one tick of the clock is not noted, so this may need a few rounds.
    let started = std::time::Instant::now();
    loop {
        let (again, steps) = steps_of();
        assert_eq!(again, image);
        assert!(!has_unpacked(&steps), "it is in the cache: reading for its digest must do");
        if steps.is_empty() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "never noted");
    }
    let other = padded(noise(3, 1 << 20));
    fs_err::write(&source, gzip(&other)).expect("write");
    let (changed, _) = steps_of();
    assert_ne!(changed.sha256, image.sha256);
    assert!(bytes_of(&changed) == other);
    // Damaged notes are no notes.
    for name in f.names("known") {
        let path = f.cache.dir().join("known").join(name);
        fs_err::remove_file(&path).expect("remove");
        fs_err::write(&path, b"{\"sha256\"").expect("write");
    }
    assert_eq!(steps_of().0, changed);
}

fn the_same_image_at_another_path_is_not_unpacked_again() {
    let f = Fixture::new();
    let (first, second) = (f.file("a", &xz(&disk())), f.file("b", &xz(&disk())));
    let image = f.prepare(&first).expect("prepared");
    for expected in [None, Some(image.sha256)] {
        let mut steps = Vec::new();
        let again = f.cache.prepare(&second, expected, &mut |step| steps.push(step)).expect("prepared");
        assert_eq!(again, image);
        assert!(!has_unpacked(&steps), "{steps:?}");
    }
}

fn a_damaged_entry_is_made_again() {
    let f = Fixture::new();
    let source = f.file("a.gz", &gzip(&disk()));
    let image = f.prepare(&source).expect("prepared");
    let record = image.path.with_extension("json");
    let rewrite = |path: &Utf8Path, bytes: &[u8]| {
        fs_err::remove_file(path).expect("remove");
        fs_err::write(path, bytes).expect("write");
        fs_err::set_permissions(path, PermissionsExt::from_mode(0o444)).expect("chmod");
    };
    let short = || rewrite(&image.path, b"short");
    let no_record = || fs_err::remove_file(&record).expect("remove");
    let bad_record = || rewrite(&record, b"{}");
    let writable = || fs_err::set_permissions(&image.path, PermissionsExt::from_mode(0o666)).expect("chmod");
    let link = || {
        fs_err::rename(&image.path, f.dir().join("elsewhere")).expect("rename");
        std::os::unix::fs::symlink(f.dir().join("elsewhere"), &image.path).expect("link");
    };
    let damages: [&dyn Fn(); 5] = [&short, &no_record, &bad_record, &writable, &link];
    for (index, damage) in damages.into_iter().enumerate() {
        damage();
        let mut steps = Vec::new();
        let again = f.cache.prepare(&source, None, &mut |step| steps.push(step)).expect("prepared");
        assert!(has_unpacked(&steps), "damage {index} was not seen");
        assert_eq!(again, image);
        assert!(bytes_of(&again) == padded(disk()));
    }
}

fn a_removed_image_is_gone_for_new_users_and_stays_for_those_who_have_it_open() {
    let f = Fixture::new();
    let image = f.prepare(&f.file("a", &disk())).expect("prepared");
    let open = image.open().expect("open");
    assert_eq!(f.cache.remove_unused(Duration::from_secs(3600)).expect("unused"), []);
    let removed = f.cache.remove_unused(Duration::ZERO).expect("unused");
    assert_eq!(removed.iter().map(|entry| entry.sha256).collect::<Vec<_>>(), [image.sha256]);
    assert!(matches!(image.open(), Err(ImageError::Gone { .. })));
    assert!(!f.cache.remove(&image.sha256).expect("remove"));
    assert_eq!(open.metadata().expect("stat").len(), image.size);
    assert_eq!(f.names("locks"), [""; 0]);
}

fn a_cache_below_a_directory_for_all_is_for_all() {
    let f = Fixture::new();
    let shared = f.dir().join("shared");
    fs_err::create_dir(&shared).expect("mkdir");
    fs_err::set_permissions(&shared, PermissionsExt::from_mode(0o1777)).expect("chmod");
    let cache = ImageCache::open(&shared).expect("open");
    let image = cache.prepare(&f.file("a", &disk()), None, &mut |_| ()).expect("prepared");
    let mode = |path: &Utf8Path| fs_err::metadata(path).expect("stat").permissions().mode() & 0o7777;
    for part in ["images", "locks", "known"] {
        assert_eq!(mode(&shared.join(part)), 0o1777, "{part}");
    }
    assert_eq!(mode(&image.path), 0o444);
    assert_eq!(mode(&shared.join("locks").join(image.sha256.to_string())), 0o666);

    // A part that everybody could empty, or that leads elsewhere, is not used.
    let open = f.dir().join("open");
    fs_err::create_dir_all(open.join("images")).expect("mkdir");
    fs_err::set_permissions(open.join("images"), PermissionsExt::from_mode(0o777)).expect("chmod");
    assert!(matches!(ImageCache::open(&open), Err(ImageError::Untrusted { .. })));
    fs_err::remove_dir(open.join("images")).expect("rmdir");
    std::os::unix::fs::symlink(&shared, open.join("images")).expect("link");
    assert!(matches!(ImageCache::open(&open), Err(ImageError::Untrusted { .. })));
}

/// Why no file system can be mounted, if so.
fn no_mounts() -> Option<&'static str> {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "--", "sh", "-c", "mount -t tmpfs none /mnt"]).stderr(Stdio::null());
    let can = command.status().is_ok_and(|status| status.success());
    (!can).then_some("user and mount namespaces cannot be made here")
}

/// Runs a helper as the user `nobody`, or says why that cannot be.
fn as_nobody(inner: &Command) -> Result<Command, &'static str> {
    const NOBODY: &str = "65534";
    if !rustix::process::geteuid().is_root() {
        return Err("only root can become another user");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]);
    let probe = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"])
        .arg(inner.get_program())
        .arg("--list")
        .stdout(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return Err("the user nobody cannot run this test binary");
    }
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

fn two_users_share_the_entries_of_a_shared_cache() {
    let f = Fixture::new();
    fs_err::set_permissions(f.dir(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let shared = f.dir().join("shared");
    fs_err::create_dir(&shared).expect("mkdir");
    fs_err::set_permissions(&shared, PermissionsExt::from_mode(0o1777)).expect("chmod");
    let (ours, theirs) = (f.file("ours", &gzip(&disk())), f.file("theirs", &gzip(&noise(7, 1 << 20))));
    let variables = |source: &Utf8Path| {
        [(CACHE, shared.to_string()), (SOURCE, source.to_string()), (STOP_AT, "101".to_owned())]
    };
    let start = |source: &Utf8Path| {
        let variables = variables(source);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
        as_nobody(&helper("helper_prepares", &variables)).map(Helper::start)
    };
    // The other user makes the directories and an entry.
    assert!(start(&theirs).expect("it was tried before").end().contains("prepared"));
    let cache = ImageCache::open(&shared).expect("open");
    let mut steps = Vec::new();
    cache.prepare(&theirs, None, &mut |step| steps.push(step)).expect("prepared");
    assert!(!has_unpacked(&steps), "{steps:?}");
    cache.prepare(&ours, None, &mut |_| ()).expect("prepared");
    let second = start(&ours).expect("as before").end();
    assert!(second.contains("prepared") && !second.contains("unpacking"), "{second}");
}

/// Runs in namespaces of its own, on a file system of eight mebibytes.
fn helper_fills_a_small_file_system() {
    let dir = Utf8PathBuf::from(variable(CACHE));
    let sources = variable(SOURCE);
    let cache = ImageCache::open(&dir).expect("cache");
    let used = || {
        let stat = rustix::fs::statvfs(dir.as_std_path()).expect("statvfs");
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    };
    for source in sources.split(':') {
        let before = used();
        let error = cache.prepare(Utf8Path::new(source), None, &mut |_| ()).expect_err("no room");
        let text = error.to_string();
        let ImageError::Space(error) = error else { panic!("{source}: {text}") };
        assert!(error.free <= 8 << 20, "{text}");
        for part in
            [source, "MiB are needed", "MiB are free", dir.as_str(), "tmpfs", "hint: ", "STEADING_CACHE_DIR"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let entries = fs_err::read_dir(dir.join("images")).expect("list").count();
        assert_eq!(entries, 0, "{source}");
        // A lock file came and went: the file system may keep a block of its directory.
        assert!(used() <= before + 8192, "{source}: {before} bytes were used, now {}", used());
    }
}

fn a_full_file_system_is_told_with_figures_and_nothing_is_left() {
    let f = Fixture::new();
    let unshare = ["-Urm", "--", "sh", "-c"];
    let large = noise(8, 12 << 20);
    let sources = [
        f.file("raw", &large),
        f.file("a.gz", &gzip(&large)),
        f.file("a.zst", &zstd(&large)),
        f.file("a.xz", &xz(&large)),
        qcow2(&f, "a.qcow2", &large, &[]),
        // Small files that become large: only writing shows that they do not fit.
        f.file("ones.gz", &gzip(&vec![1; 12 << 20])),
        f.file("ones.zst", &zstd(&vec![1; 12 << 20])),
        qcow2(&f, "ones.qcow2", &vec![1; 12 << 20], &["-c"]),
    ];
    let mount = f.dir().join("small");
    fs_err::create_dir(&mount).expect("mkdir");
    let inner = helper("helper_fills_a_small_file_system", &[]);
    let output = Command::new("unshare")
        .args(unshare)
        .arg("mount -t tmpfs -o size=8m none \"$0\" && exec \"$@\"")
        .arg(&mount)
        .arg(inner.get_program())
        .args(inner.get_args())
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env(CACHE, &mount)
        .env(SOURCE, sources.map(Utf8PathBuf::into_string).join(":"))
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stdout));
}
