//! Two users of one queue. Only root can be both; elsewhere this is skipped.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test may")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use camino::Utf8Path;
use libtest_mimic::{Arguments, Failed, Trial};
use steading_broker::{Directory, Limits, Needs, Queue, Request};

/// Names the directory, for the process that is another user.
const OTHER: &str = "STEADING_TEST_OTHER_USER";

/// Nobody, on most systems; it needs no name.
const UID: u32 = 65_534;

fn main() -> ExitCode {
    if let Ok(dir) = std::env::var(OTHER) {
        hold(Utf8Path::new(&dir));
        return ExitCode::SUCCESS;
    }
    let is_root = rustix::process::geteuid().is_root();
    let name = "a_ticket_of_another_user_is_waited_for_and_its_end_is_seen (needs root)";
    let trial = Trial::test(name, two_users).with_ignored_flag(!is_root);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn queue(dir: &Utf8Path) -> Queue {
    let limits = Limits { cpus: 1, memory_mib: 1000, oversubscription: 1 };
    Queue::new(Directory::named(dir).unwrap(), limits)
}

fn request(group: &str) -> Request {
    Request::new(group, Needs { cpus: 1, memory_mib: 1 }, None)
}

/// Holds all there is until it is killed.
fn hold(dir: &Utf8Path) {
    let lease = queue(dir).wait(request("theirs")).advance().unwrap();
    println!("{}", if lease.is_some() { "held" } else { "refused" });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn two_users() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let path = Utf8Path::from_path(dir.path()).ok_or("no UTF-8")?;
    for (name, permissions) in [(path.to_owned(), 0o755), (path.join("tickets"), 0o1777)] {
        std::fs::create_dir_all(&name)?;
        std::fs::set_permissions(&name, std::fs::Permissions::from_mode(permissions))?;
    }
    // The other user may be unable to read where this was built.
    let program = path.join("program");
    std::fs::copy(std::env::current_exe()?, &program)?;
    let mut other = Command::new(program)
        .env(OTHER, path.join("tickets"))
        .current_dir("/")
        .uid(UID)
        .gid(UID)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(other.stdout.take().ok_or("no output")?).read_line(&mut said)?;
    assert_eq!(said, "held\n");
    let queue = queue(&path.join("tickets"));
    let mut ours = queue.wait(request("ours"));
    assert!(ours.advance()?.is_none(), "the other user holds all");
    let view = queue.view()?;
    let holder = view.holders().next().ok_or("no holder")?;
    assert_eq!((holder.uid, holder.request.as_ref().unwrap().group.as_str()), (UID, "theirs"));
    other.kill()?;
    other.wait()?;
    let (nobody, _open) = std::os::unix::net::UnixStream::pair()?;
    while ours.advance()?.is_none() {
        ours.rest(&nobody, Duration::from_secs(60))?;
    }
    Ok(())
}
