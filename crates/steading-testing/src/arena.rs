//! A place where the launcher is what it is on a host without user namespaces for users: it has its file
//! capabilities, its caller has none, and nobody can make a user namespace.
//!
//! There are two user namespaces. In the outer one this user is root, and gives a copy of the launcher its
//! capabilities (setcap(8)); the kernel remembers who did so (capabilities(7), "Namespaced file
//! capabilities"). In the inner one, which has a network namespace, the user is who they are, and a program
//! runs with no capability at all.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::StatVfsMountFlags;
use tempfile::TempDir;

/// In the outer namespace. The arguments are a user, a group, the copy, and the program with its own.
const OUTER: &str = r#"
set -eu
PATH=$PATH:/usr/sbin:/sbin
uid=$1 gid=$2 copy=$3
shift 3
setcap cap_net_admin,cap_net_raw,cap_net_bind_service=ep "$copy"
exec unshare --user --map-user="$uid" --map-group="$gid" --keep-caps --net sh -c "$INNER" sh "$@"
"#;

/// In the inner one, which still has all capabilities there at first.
const INNER: &str = r#"
set -eu
unset INNER
ip link set lo up
sh -euc "$HOST"
echo 0 > /proc/sys/user/max_user_namespaces
unset HOST
exec setpriv --inh-caps=-all --ambient-caps=-all -- "$@"
"#;

/// The uid and gid inside for who is root outside.
const INNER_ID_OF_ROOT: u32 = 1000;

/// A copy of the launcher, and the path to the programs next to it.
#[derive(Debug)]
pub struct Arena {
    dir: TempDir,
}

impl Arena {
    /// Copies the launcher to where its capabilities count.
    ///
    /// # Errors
    ///
    /// When there is no file system for it that is mounted without `nosuid`.
    pub fn new(launcher: &Path) -> io::Result<Self> {
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        let places = [std::env::temp_dir(), PathBuf::from("/var/tmp"), home];
        let counts = |place: &PathBuf| {
            rustix::fs::statvfs(place).is_ok_and(|stat| !stat.f_flag.contains(StatVfsMountFlags::NOSUID))
        };
        let dir = places
            .iter()
            .filter(|place| counts(place))
            .find_map(|place| TempDir::with_prefix_in("arena-", place).ok())
            .ok_or_else(|| {
                io::Error::other(format!("all of {places:?} are mounted nosuid, or cannot be written to"))
            })?;
        std::fs::copy(launcher, dir.path().join("steading-launcher"))?;
        Ok(Self { dir })
    }

    /// The copy.
    pub fn launcher(&self) -> PathBuf {
        self.dir.path().join("steading-launcher")
    }

    /// A command that runs a program there. Its network is its own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.command_on(program, "")
    }

    /// The same on a host whose administrator has done this before: a script for a shell that has all
    /// capabilities there.
    pub fn command_on(&self, program: impl AsRef<OsStr>, host: &str) -> Command {
        let inner = |id: u32| if id == 0 { INNER_ID_OF_ROOT } else { id }.to_string();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--", "sh", "-c", OUTER, "sh"]);
        command.args([inner(rustix::process::getuid().as_raw()), inner(rustix::process::getgid().as_raw())]);
        command.arg(self.launcher()).arg(program).env("INNER", INNER).env("HOST", host);
        command
    }
}

/// Says to a test that it is in the arena, and where the launcher is.
const INSIDE: &str = "STEADING_TESTING_ARENA";

/// Runs the body of a test in the arena, on a host whose administrator has run a script before: the
/// executable of this test is started again there, with this test alone (libtest's `--exact`).
///
/// # Panics
///
/// When the test fails there, or there can be no arena.
pub fn inside(launcher: &Path, host: &str, test: &str, body: impl FnOnce(&Path)) {
    if let Some(launcher) = std::env::var_os(INSIDE) {
        return body(Path::new(&launcher));
    }
    let arena = Arena::new(launcher).expect("an arena");
    let mut command = arena.command_on(std::env::current_exe().expect("this executable"), host);
    command.args([test, "--exact", "--nocapture"]).env(INSIDE, arena.launcher());
    let output = command.output().expect("unshare of util-linux");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "in the arena: {}\n{said}", output.status);
}
