//! Groups on a host that gives users no namespaces, from their coming up to what is left of them when
//! something is killed. The VMs have an empty disk: QEMU runs, and its BIOS finds nothing to boot.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use steading_testing::arena::inside;
use steading_testing::process;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A testnet of one VM, whose second card gives it IPv4, too.
const TESTNET: &str = "[[vm]]\nname = \"a\"\nboot = \"bios\"\ndisk = { path = \"disk.raw\" }\nmemory_mib = 64\nsecond_card = true\n";

fn steading() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_steading").unwrap_or_else(|| env!("CARGO_BIN_EXE_steading").into()).into()
}

/// The launcher as it was built.
fn launcher() -> PathBuf {
    let launcher = steading().with_file_name("steading-launcher");
    assert!(launcher.exists(), "there is no {}: cargo build -p steading-launcher", launcher.display());
    launcher
}

/// Runs the body of a test where there are no namespaces.
fn without_namespaces(test: &str, body: impl FnOnce(&Place)) {
    inside(&launcher(), "", test, |launcher| {
        let place = Place::new(launcher);
        let before = place.traces();
        body(&place);
        assert_eq!(place.traces(), before, "left, or gone");
    });
}

/// A directory with testnets, a directory of its own for groups, and a mark for all processes.
struct Place {
    dir: TempDir,
    launcher: PathBuf,
    mark: String,
}

/// All that a group could leave.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    interfaces: String,
    addresses: String,
    routes: String,
    groups: Vec<String>,
    processes: Vec<u32>,
}

impl Place {
    fn new(launcher: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("disk.raw")).unwrap().set_len(1 << 20).unwrap();
        std::fs::create_dir(dir.path().join("runtime")).unwrap();
        let place = Self { dir, launcher: launcher.to_owned(), mark: format!("{}", std::process::id()) };
        place.write("t", TESTNET);
        place
    }

    fn write(&self, name: &str, testnet: &str) {
        std::fs::write(self.dir.path().join(format!("{name}.toml")), testnet).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(steading());
        command
            .args(args)
            .current_dir(&self.dir)
            .env_remove("TEST_UNDECLARED_OUTPUTS_DIR")
            .env("STEADING_LAUNCHER", &self.launcher)
            .env("STEADING_CACHE_DIR", self.path("cache"))
            .env("STEADING_ACCEL", "tcg")
            .env("STEADING_NO_BROKER", "1")
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("STEADING_TESTING", &self.mark)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Brings a testnet up in the background.
    fn up(&self, name: &str) -> Group<'_> {
        let log = std::fs::File::create(self.path(&format!("up-{name}"))).unwrap();
        let mut command = self.command(&["up", &format!("{name}.toml"), "--out", &format!("out-{name}")]);
        let child = command.stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let group = Group { place: self, child, name: name.to_owned() };
        process::wait_for_text(&group.child, &self.path(&format!("up-{name}")), "the testnet is up", LIMIT);
        group
    }

    fn traces(&self) -> Traces {
        let groups = std::fs::read_dir(self.path("runtime")).unwrap().flatten();
        let groups = groups.flat_map(|user| std::fs::read_dir(user.path()).unwrap().flatten());
        Traces {
            interfaces: ip("-o link"),
            addresses: ip("-o addr"),
            routes: ip("-6 route") + &ip("route"),
            groups: groups.map(|group| group.file_name().to_string_lossy().into_owned()).collect(),
            processes: process::marked(&format!("STEADING_TESTING={}", self.mark), std::process::id()),
        }
    }

    /// Collects what is left, and says what that was.
    fn gc(&self) -> String {
        let gc = self.run(&["gc"]);
        assert!(gc.status.success(), "{}", text(&gc.stderr));
        text(&gc.stdout)
    }
}

struct Group<'a> {
    place: &'a Place,
    child: Child,
    name: String,
}

impl Group<'_> {
    /// The processes below the driver, each with its name: the owner, the launcher, the router daemon, QEMU.
    fn process(&self, name: &str) -> u32 {
        let listed = Command::new("ps").args(["-eo", "pid=,comm="]).output().unwrap();
        let listed = text(&listed.stdout);
        let mut found = listed.lines().filter_map(|line| line.trim().split_once(' '));
        let found =
            found.find(|(pid, comm)| comm.trim().starts_with(name) && self.is_below(pid.parse().unwrap()));
        found.unwrap_or_else(|| panic!("no {name} in {listed}")).0.parse().unwrap()
    }

    fn is_below(&self, mut pid: u32) -> bool {
        while pid > 1 {
            if pid == self.child.id() {
                return true;
            }
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
            let tail = stat.rsplit_once(") ").unwrap().1;
            pid = tail.split(' ').nth(1).unwrap().parse().unwrap();
        }
        false
    }

    fn owner(&self) -> u32 {
        self.process(&format!("st:{}", self.name))
    }

    fn kill(&self, name: &str) {
        process::signal_to(self.process(name), Signal::KILL);
    }

    /// Ends it as a user does.
    fn down(mut self) {
        let down = self.place.run(&["down", "-g", &self.name]);
        assert!(down.status.success(), "{}", text(&down.stderr));
        process::wait_for_end(&self.child, LIMIT, "the driver");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    fn wait(mut self) {
        process::wait_for_end(&self.child, LIMIT, "the driver");
        self.child.wait().unwrap();
    }

    /// Kills the driver, and waits until the launcher has removed the network, which it does by itself.
    fn kill_driver(mut self) {
        let (keeper, owner) = (self.process("steading-launc"), self.owner());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for pid in [owner, keeper] {
            wait_for_stranger(pid);
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_stranger(pid: u32) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let limit = Timespec::try_from(LIMIT).unwrap();
    assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)), Ok(1), "{pid:?} has not ended");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ip(words: &str) -> String {
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    let output = Command::new("ip").args(words.split_whitespace()).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// How many groups have a network.
fn networks() -> usize {
    ip("-o link").matches(": vbr-").count()
}

#[test]
fn a_group_comes_up_is_found_and_leaves_nothing() {
    without_namespaces("a_group_comes_up_is_found_and_leaves_nothing", |place| {
        let group = place.up("t");
        assert_eq!(networks(), 1);
        let ps = text(&place.run(&["ps"]).stdout);
        assert!(ps.contains(&format!("t (owner {})", group.owner())) && ps.contains("running"), "{ps}");
        process::wait_for_text(&group.child, &place.path("out-t/test.log"), "it has no namespaces", LIMIT);
        let doctor = text(&place.run(&["doctor"]).stdout);
        assert!(doctor.contains("good  launcher"), "{doctor}");
        assert_eq!(place.gc(), "", "a group that runs is left alone");
        group.down();
    });
}

#[test]
fn a_program_runs_in_a_group_and_what_it_leaves_ends_with_it() {
    without_namespaces("a_program_runs_in_a_group_and_what_it_leaves_ends_with_it", |place| {
        let script = "grep -q '\"group\": \"t\"' $STEADING_FACTS && test -S $STEADING_SOCKET && test -r $STEADING_SSH_KEY \
                      && { setsid sleep 1000 & setsid env -i sleep 1000 >/dev/null 2>&1 & } && ip -6 route get ${STEADING_VM_A} | grep -q ' src fd00:'";
        let run = place.run(&["run", "t.toml", "--out", "out", "--", "sh", "-c", script]);
        assert_eq!(run.status.code(), Some(0), "{}{}", text(&run.stdout), text(&run.stderr));
        assert!(text(&run.stderr).contains("sleep 1000"), "what is left is told: {}", text(&run.stderr));
    });
}

#[test]
fn groups_of_different_names_run_side_by_side_and_one_name_is_one_group() {
    without_namespaces("groups_of_different_names_run_side_by_side_and_one_name_is_one_group", |place| {
        place.write("u", TESTNET);
        let (first, second) = (place.up("t"), place.up("u"));
        assert_eq!(networks(), 2);
        let again = place.run(&["up", "t.toml", "--out", "again"]);
        let said = text(&again.stderr);
        assert!(again.status.code() == Some(3) && said.contains("you have a group t"), "{said}");
        second.down();
        assert_eq!(networks(), 1);
        assert!(text(&place.run(&["ps"]).stdout).contains("running"));
        first.down();
    });
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_starts() {
    without_namespaces("what_cannot_be_had_is_refused_before_anything_starts", |place| {
        place.write("prefix", "prefix = \"2001:db8:1:1::/64\"\n");
        let refused = |args: &[&str]| {
            let output = place.run(args);
            assert_eq!(output.status.code(), Some(3), "{args:?}: {}", text(&output.stderr));
            text(&output.stderr)
        };
        let said = refused(&["up", "prefix.toml"]);
        assert!(
            said.contains("asks for a prefix of its own") && said.contains("hint: leave that out"),
            "{said}"
        );
        let said = refused(&["up", "t.toml", "--isolation", "namespaces"]);
        assert!(said.contains("cannot make a user, network, PID and mount namespace"), "{said}");
        let said = refused(&["up", "t.toml", "--engine", "libvirt"]);
        assert!(said.contains("libvirt does not take network cards"), "{said}");
        let group = place.up("t");
        let fault = place.run(&["fault", "cut", "a"]);
        assert!(text(&fault.stderr).contains("cannot be changed"), "{}", text(&fault.stderr));
        let resolver = place.run(&["dns", "claim", "9.9.9.9"]);
        assert!(text(&resolver.stderr).contains("cannot be changed"), "{}", text(&resolver.stderr));
        group.down();
    });
}

#[test]
fn after_a_kill_of_the_driver_nothing_is_left_once_it_is_collected() {
    without_namespaces("after_a_kill_of_the_driver_nothing_is_left_once_it_is_collected", |place| {
        let before = place.traces();
        place.up("t").kill_driver();
        assert_eq!(networks(), 0, "the launcher removes it by itself");
        let left = place.traces();
        assert_eq!(left.groups.len(), 1);
        assert!(place.gc().contains("directory: "));
        assert_eq!(place.traces(), before);
        assert_eq!(place.gc(), "");
    });
}

#[test]
fn after_a_kill_of_the_owner_the_driver_leaves_nothing() {
    without_namespaces("after_a_kill_of_the_owner_the_driver_leaves_nothing", |place| {
        let group = place.up("t");
        let keeper = group.process("steading-launc");
        process::signal_to(group.owner(), Signal::KILL);
        wait_for_stranger(keeper);
        group.wait();
        assert_eq!(place.gc(), "");
    });
}

#[test]
fn a_group_goes_on_after_a_kill_of_its_launcher_and_its_network_is_collected() {
    without_namespaces(
        "a_group_goes_on_after_a_kill_of_its_launcher_and_its_network_is_collected",
        |place| {
            let group = place.up("t");
            group.kill("steading-launc");
            process::wait_for_text(
                &group.child,
                &place.path("out-t/test.log"),
                "the launcher that keeps",
                LIMIT,
            );
            assert!(text(&place.run(&["ps"]).stdout).contains("running"));
            group.down();
            assert_eq!(networks(), 0, "the driver collects it at its end");
        },
    );
}

#[test]
fn after_a_kill_of_launcher_and_driver_all_is_collected_by_the_next_group() {
    without_namespaces("after_a_kill_of_launcher_and_driver_all_is_collected_by_the_next_group", |place| {
        let mut group = place.up("t");
        let owner = group.owner();
        group.kill("steading-launc");
        group.child.kill().unwrap();
        group.child.wait().unwrap();
        wait_for_stranger(owner);
        assert_eq!(networks(), 1);
        place.up("t").down();
    });
}

#[test]
fn after_a_kill_of_qemu_the_group_goes_on_and_leaves_nothing() {
    without_namespaces("after_a_kill_of_qemu_the_group_goes_on_and_leaves_nothing", |place| {
        let group = place.up("t");
        group.kill("vm-a");
        process::wait_for_text(&group.child, &place.path("out-t/test.log"), "it is off", LIMIT);
        assert!(place.run(&["start", "a"]).status.success());
        assert!(text(&place.run(&["ps"]).stdout).contains("running"));
        group.down();
    });
}

#[test]
fn what_a_test_left_running_is_collected_after_a_kill_of_the_driver() {
    without_namespaces("what_a_test_left_running_is_collected_after_a_kill_of_the_driver", |place| {
        let script = "setsid sh -c 'echo there > there; exec sleep 1000' & wait";
        let log = std::fs::File::create(place.path("run")).unwrap();
        let mut command = place.command(&["run", "t.toml", "--out", "out", "--", "sh", "-c", script]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let group = Group { place, child, name: "t".to_owned() };
        process::wait_for_text(&group.child, &place.path("there"), "there", LIMIT);
        let left = group.process("sleep");
        // Else it may still see that nobody listens any more, and end the program.
        process::signal_to(group.owner(), Signal::STOP);
        group.kill_driver();
        assert_eq!(place.traces().processes, [left]);
        let collected = place.gc();
        assert!(collected.contains("processes: 1\n"), "{collected}");
    });
}
