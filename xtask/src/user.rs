//! Whom things run as: the ordinary user who started us, or, when that was root, the account
//! `steading`, with nothing of root's left but what any login gives: no capabilities, no
//! supplementary groups but its own, and a clean environment.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

use crate::{command, error::Advise as _};

/// The account that stands for "an ordinary user" on a machine where we are root.
pub(crate) const ACCOUNT: &str = "steading";

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// What a login shell would not set, and a program is given of the caller's environment all the same.
const PASSED_ON: &[&str] = &[
    "CI",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "FORCE_COLOR",
    "LANG",
    "LC_ALL",
    "NO_COLOR",
    "RUST_LOG",
    "SOURCE_DATE_EPOCH",
    "TERM",
    "TZ",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
const PASSED_ON_PREFIXES: &[&str] = &["STEADING_", "RUST_TEST_", "INSTA_", "PROPTEST_"];

/// Set for us by `cargo run`, and wrong for whatever we start.
const CARGOS_OWN_PREFIXES: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
/// More of the same, by whole name.
const CARGOS_OWN: &[&str] = &["CARGO_PRIMARY_PACKAGE", "OUT_DIR"];

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: Utf8PathBuf,
}

/// Finds an account in the text of `/etc/passwd`, see passwd(5).
pub(crate) fn find_account(passwd: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
    Some(Account { name: name.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
}

/// The ordinary user.
pub(crate) enum User {
    /// Whoever started us.
    Caller,
    /// We are root, and it is this account.
    Account(Account),
}

impl User {
    /// The caller, or, when that is root, the account that `setup` makes.
    pub(crate) fn find() -> anyhow::Result<User> {
        if !is_root() {
            return Ok(User::Caller);
        }
        let passwd = fs::read_to_string("/etc/passwd")?;
        let account = find_account(&passwd, ACCOUNT)
            .with_context(|| format!("there is no account `{ACCOUNT}`"))
            .hint("run `cargo xtask setup`")?;
        if account.uid == 0 {
            bail!("the account `{ACCOUNT}` is root itself");
        }
        Ok(User::Account(account))
    }

    /// A command that runs as this user. It is sent SIGTERM should we be killed.
    ///
    /// Capabilities: changing all uids away from 0 empties the permitted, effective and ambient
    /// sets (capabilities(7)); the inheritable one is emptied here. The bounding set stays full,
    /// as it is for any login: a setuid program, such as newuidmap, works for ordinary users too.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=TERM");
        match self {
            User::Caller => remove_cargos_own(&mut command),
            User::Account(account) => {
                command
                    .arg(format!("--reuid={}", account.uid))
                    .arg(format!("--regid={}", account.gid))
                    .args(["--init-groups", "--inh-caps=-all", "--ambient-caps=-all"])
                    .env_clear()
                    .envs(clean_environment(account, std::env::vars_os()));
            }
        }
        command.arg("--").arg(program);
        command
    }

    /// Makes a directory, with those above it, that belongs to this user.
    pub(crate) fn make_directory(&self, directory: &Utf8Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        if let User::Account(account) = self {
            std::os::unix::fs::chown(directory, Some(account.uid), Some(account.gid))
                .with_context(|| format!("cannot give {directory} to {}", account.name))?;
        }
        Ok(())
    }
}

/// The environment of a login of `account`, and what is passed on.
fn clean_environment(
    account: &Account,
    callers: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let passes = |name: &OsStr| {
        let Some(name) = name.to_str() else { return false };
        PASSED_ON.contains(&name) || PASSED_ON_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut variables: Vec<(OsString, OsString)> = callers.filter(|(name, _)| passes(name)).collect();
    let logins = [
        ("HOME", account.home.as_str()),
        ("LOGNAME", &account.name),
        ("PATH", PATH),
        ("SHELL", "/bin/bash"),
        ("USER", &account.name),
    ];
    variables.extend(logins.map(|(name, value)| (name.into(), value.into())));
    variables
}

/// Keeps what `cargo run` told us about ourselves from those we start.
pub(crate) fn remove_cargos_own(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if CARGOS_OWN.contains(&text) || CARGOS_OWN_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// Runs a program as the ordinary user in this process's place.
///
/// As root, the directory that the program lies in is opened to others first: rustdoc puts each doc
/// test into a temporary directory of mode 0700.
pub(crate) fn become_and_exec(program: &[String]) -> anyhow::Result<ExitCode> {
    let user = User::find()?;
    let path = Utf8Path::new(&program[0]);
    if let (User::Account(_), Some(directory)) = (&user, path.parent().filter(|p| p.is_absolute())) {
        let mode = fs::metadata(directory)?.permissions().mode();
        if mode & 0o5 != 0o5 {
            fs::set_permissions(directory, std::fs::Permissions::from_mode(mode | 0o5))?;
        }
    }
    let mut command = user.command(&program[0]);
    command.args(&program[1..]);
    // Rustdoc merges doc tests into one program, which starts itself again for each. It is told
    // where it is by rustdoc, but not when there is a runner; then all would share one process.
    command.env("RUSTDOC_DOCTEST_BIN_PATH", &program[0]);
    // Cargo's words about the package, which a doc test has without a runner too.
    for name in ["CARGO_MANIFEST_DIR", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", command::show(&command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          steadingly:x:7:7::/nowhere:/bin/sh\n\
                          steading:x:1001:1002:,,,:/home/steading:/bin/bash\n";

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let account = find_account(PASSWD, "steading").expect("it is there");
        assert_eq!((account.uid, account.gid, account.home.as_str()), (1001, 1002, "/home/steading"));
        assert_eq!(find_account(PASSWD, "stead"), None);
        assert_eq!(find_account("steading:x:many:1::/:/bin/sh", "steading"), None);
    }

    #[test]
    fn the_account_gets_a_home_of_its_own_and_nothing_private_of_roots() {
        let account = find_account(PASSWD, "steading").expect("it is there");
        let callers = [("HOME", "/root"), ("API_PASSWORD", "x"), ("CI", "1"), ("STEADING_GUEST", "/g")]
            .map(|(name, value)| (name.into(), value.into()));
        let variables = clean_environment(&account, callers.into_iter());
        let get = |name: &str| {
            let all: Vec<_> = variables.iter().filter(|(n, _)| n == name).map(|(_, v)| v.to_str()).collect();
            all
        };
        assert_eq!(get("HOME"), [Some("/home/steading")]);
        assert_eq!(get("STEADING_GUEST"), [Some("/g")]);
        assert_eq!(get("CI"), [Some("1")]);
        assert!(get("API_PASSWORD").is_empty());
    }

    #[test]
    fn a_program_of_the_accounts_runs_without_capabilities() {
        let account = find_account(PASSWD, "steading").expect("it is there");
        let shown = command::show(&User::Account(account).command("id"));
        assert_eq!(
            shown,
            "setpriv --pdeathsig=TERM --reuid=1001 --regid=1002 --init-groups --inh-caps=-all \
             --ambient-caps=-all -- id"
        );
    }
}
