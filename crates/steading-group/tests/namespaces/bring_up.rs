//! What comes up, and what is said when it cannot.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use steading_plan::Testnet;

use crate::Case;
use crate::support::{Group, Kind, Outcome, Runner, Span, guest_kernel};
use crate::traces::Dirs;

pub(crate) const CASES: &[Case] = &[
    ("an_empty_group_answers_and_is_torn_down", an_empty_group_answers_and_is_torn_down),
    ("two_groups_of_the_same_name_at_once_do_not_interfere", two_groups_of_the_same_name_at_once),
    ("a_missing_dnsmasq_is_told_with_its_package", a_missing_dnsmasq),
    ("a_missing_qemu_is_told_with_its_package", a_missing_qemu),
    ("a_group_comes_up_below_a_very_long_working_directory", a_very_long_working_directory),
    ("a_group_comes_up_with_a_home_that_is_read_only_or_missing", a_home_of_no_use),
    ("a_closed_tun_device_is_told_with_what_opens_it", || {
        tun(CLOSED, "Permission denied", "chmod 0666 /dev/net/tun")
    }),
    ("a_missing_tun_device_is_told_with_what_makes_it", || {
        tun(MISSING, "No such file or directory", "mknod -m 0666 /dev/net/tun c 10 200")
    }),
];

/// Shell scripts that change /dev/net/tun in a mount namespace of their own, then start a program.
const CLOSED: &str =
    "closed=$(mktemp) && chmod 000 $closed && mount --bind $closed /dev/net/tun && rm $closed && exec \"$@\"";
const MISSING: &str = "mount -t tmpfs none /dev/net && exec \"$@\"";

/// The longest path that a socket can be bound to, in bytes (unix(7)).
const SOCKET_PATH: usize = 108;

fn an_empty_group_answers_and_is_torn_down() -> Outcome {
    let group = Group::up("empty", |_| Testnet::new());
    let status = group.wait_for(group.client.status()).expect("a status");
    assert_eq!(status.plan, group.plan);
    assert!(status.vms.is_empty());
    assert_eq!(group.traces.only("st:empty").pid, group.owner());
    assert_eq!(group.traces.processes().len(), 2, "the owner and dnsmasq: {:?}", group.traces.processes());
    group.tear_down();
    Outcome::Passed
}

fn two_groups_of_the_same_name_at_once() -> Outcome {
    let mut one = Runner::spawn("twin", Kind::Empty);
    let mut other = Runner::spawn("twin", Kind::Empty);
    one.wait_until_ready();
    other.wait_until_ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    let plans = runtime.block_on(async {
        one.client().put_value("mine", &1.into()).await.expect("a value is kept");
        other.client().put_value("mine", &2.into()).await.expect("a value is kept");
        let value = one.client().value("mine").await.expect("an answer");
        assert_eq!(value, Some(1.into()));
        [one.client().status().await.expect("a status"), other.client().status().await.expect("a status")]
            .map(|status| status.plan)
    });
    assert_eq!(plans[0], plans[1]);
    let (client, traces) = (other.client(), other.traces.processes().len());
    one.kill_after(std::time::Duration::ZERO);
    assert_eq!(other.traces.processes().len(), traces, "the end of one took processes of the other");
    runtime.block_on(client.status()).expect("the other goes on");
    other.kill_after(std::time::Duration::ZERO);
    Outcome::Passed
}

fn a_missing_dnsmasq() -> Outcome {
    let programs = tempfile::tempdir().expect("a directory");
    let closed = programs.path().join("closed");
    fs_err::create_dir(&closed).expect("a directory");
    let close = |mode| fs_err::set_permissions(&closed, PermissionsExt::from_mode(mode));
    close(0o000).expect("close it");
    for path in [&closed, programs.path()] {
        let mut runner = Runner::spawn_with("bare", Kind::Empty, |command| {
            command.env("PATH", path);
        });
        let error = runner.hear();
        close(0o700).expect("open it, to be removed");
        assert!(error.contains("dnsmasq is not installed") && error.contains("dnsmasq-base"), "{error}");
        assert_eq!(runner.hear(), "ended: Some(1)");
        runner.assert_gone();
    }
    Outcome::Passed
}

fn a_missing_qemu() -> Outcome {
    let programs = tempfile::tempdir().expect("a directory");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(dnsmasq) =
        std::env::split_paths(&path).map(|dir| dir.join("dnsmasq")).find(|file| file.exists())
    else {
        return Outcome::Ignored("dnsmasq is not on PATH".to_owned());
    };
    symlink(dnsmasq, programs.path().join("dnsmasq")).expect("a link");
    let mut runner = Runner::spawn_with("bare", Kind::NoKernel, |command| {
        command.env("PATH", programs.path());
    });
    let error = runner.hear();
    assert!(error.contains("qemu-system-x86_64 is not installed"), "{error}");
    assert!(error.contains("apt-get install qemu-system-x86"), "{error}");
    assert_eq!(runner.hear(), "ended: Some(1)");
    runner.assert_gone();
    Outcome::Passed
}

fn a_very_long_working_directory() -> Outcome {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("a-directory-with-a-long-name/".repeat(12));
    assert!(dir.as_os_str().len() > 300.max(SOCKET_PATH), "{}", dir.display());
    fs_err::create_dir_all(&dir).expect("a directory");
    let kind = if guest_kernel().is_ok() { Kind::Machine } else { Kind::Empty };
    let mut runner = Runner::start(Dirs::below(&dir), Span::Life, "long", kind, &[], |command| {
        command.current_dir(&dir);
    });
    assert_comes_up_and_goes(&mut runner);
    runner.assert_gone();
    Outcome::Passed
}

fn a_home_of_no_use() -> Outcome {
    let temp = tempfile::tempdir().expect("a directory");
    let read_only = temp.path().join("read-only");
    fs_err::create_dir(&read_only).expect("a directory");
    fs_err::set_permissions(&read_only, PermissionsExt::from_mode(0o555)).expect("make it read-only");
    // Root may write anywhere but there.
    let homes = [read_only, "/proc".into(), temp.path().join("missing"), "".into()];
    let unset = homes.len();
    for index in 0..=unset {
        let mut runner = Runner::start(Dirs::new(), Span::Life, "home", Kind::Empty, &[], |command| {
            match homes.get(index) {
                Some(home) => _ = command.env("HOME", home),
                None => _ = command.env_remove("HOME"),
            }
        });
        assert_comes_up_and_goes(&mut runner);
        runner.assert_gone();
    }
    Outcome::Passed
}

fn assert_comes_up_and_goes(runner: &mut Runner) {
    runner.wait_until_ready();
    let ran = runner.hear();
    assert!(ran.contains("status: Some(0)"), "a program ends well: {ran}");
    assert_eq!(runner.hear(), "Ok(())");
    assert_eq!(runner.hear(), "ended: Some(0)");
}

/// A group with a VM where /dev/net/tun is of no use.
fn tun(script: &str, reason: &str, hint: &str) -> Outcome {
    let by = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
    let tried = Command::new(by[0]).args(&by[1..]).arg("true").stdin(Stdio::null()).output();
    match tried {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
            return Outcome::Ignored(format!("/dev/net/tun cannot be changed here: {said}"));
        }
        Err(error) => return Outcome::Ignored(format!("unshare(1) cannot be run: {error}")),
    }
    let mut runner = Runner::start(Dirs::new(), Span::Up, "no-tun", Kind::NoKernel, &by, |_| {});
    let error = runner.hear();
    assert!(error.contains("cannot open /dev/net/tun: ") && error.contains(reason), "{error}");
    assert_eq!(error.matches(reason).count(), 1, "it is said once: {error}");
    let (_, advice) = error.split_once(" | hint: ").unwrap_or_else(|| panic!("there is no hint: {error}"));
    assert!(advice.contains(hint), "{error}");
    assert_eq!(runner.hear(), "ended: Some(1)");
    runner.assert_gone();
    Outcome::Passed
}
