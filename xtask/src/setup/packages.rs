//! Debian packages: what Steading runs, what it is built with, and what the recipes of guests need.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use anyhow::bail;
use camino::Utf8Path;
use fs_err as fs;

use super::{Need, Step};
use crate::{command, error::Advise as _};

/// What Steading runs, and what its crates are built with, beside Rust itself.
const PACKAGES: &[&str] = &[
    "bazel-bootstrap",
    "bazel-platforms",
    "bazel-rules-java",
    "bazel-rules-proto",
    "busybox-static",
    "chromium",
    "curl",
    "dnsmasq-base",
    "file",
    "gcc",
    "git",
    "iproute2",
    "kmod",
    "libc6-dev",
    "libcap2-bin",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "lego",
    "libxml2-utils",
    "mmdebstrap",
    "nginx-light",
    "ovmf",
    "pkg-config",
    "python3-pytest",
    "qemu-system-x86",
    "qemu-utils",
    "uidmap",
    "zip",
];

/// What recipes of guests need: lists of packages, a line each.
const HOST_PACKAGES: &[&str] = &["guest/host-packages", "guest/upgradable/host-packages"];

/// Before each apt-get: no questions, and patience with another that runs.
const APT_GET: &[&str] =
    &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"];

/// What apt knows and dpkg has, as far as it matters here.
struct Packages {
    /// Installed packages and their versions.
    installed: BTreeMap<String, String>,
    /// Wanted, and not installed.
    missing: Vec<String>,
}

impl Packages {
    fn find(root: &Utf8Path) -> anyhow::Result<Packages> {
        let lists = HOST_PACKAGES.iter().map(|list| fs::read_to_string(root.join(list)).unwrap_or_default());
        let wanted = wanted(&lists.collect::<Vec<_>>().join("\n"));
        if !Utf8Path::new("/usr/bin/dpkg-query").exists() {
            return without_dpkg(&wanted);
        }
        let format = "${Package} ${Version} ${db:Status-Status}\n";
        let listed = command::output(Command::new("dpkg-query").args(["--show", "--showformat", format]))?;
        let installed = installed(&listed);
        let missing = wanted.into_iter().filter(|name| !installed.contains_key(name)).collect();
        Ok(Packages { installed, missing })
    }
}

/// The step that fetches apt's lists, when they lack what is missing.
pub(super) fn missing_lists(root: &Utf8Path) -> anyhow::Result<Vec<Step>> {
    let packages = Packages::find(root)?;
    let lacking = packages.missing.iter().any(|name| candidate(name).is_none());
    Ok(if lacking { vec![update()] } else { vec![] })
}

/// The step that installs what is missing.
pub(super) fn missing(root: &Utf8Path) -> anyhow::Result<Vec<Step>> {
    let Packages { installed, missing } = Packages::find(root)?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let what = format!("installing {}", missing.join(" "));
    let plain = install(&missing, &[]);
    if simulate(&plain).is_ok() {
        return Ok(vec![Step { what, commands: vec![plain], need: Need::Must }]);
    }
    // Some machines have a qemu-utils of backports, which breaks the qemu-system-x86 of the release,
    // and no longer the backports that it came from. All of QEMU must be of one version.
    let Some(version) = candidate("qemu-system-x86") else {
        return Ok(vec![update(), Step { what, commands: vec![plain], need: Need::Must }]);
    };
    let downgraded = downgraded(&installed, &missing, &version, versions_known);
    let downgrade = install(&missing, &downgraded);
    if !downgraded.is_empty() && simulate(&downgrade).is_ok() {
        let what = format!("{what}, with {}", downgraded.join(" "));
        return Ok(vec![Step { what, commands: vec![downgrade], need: Need::Must }]);
    }
    // It will fail, and say why.
    Ok(vec![Step { what, commands: vec![plain], need: Need::Must }])
}

/// The packages by name: ours, and each line of the recipes' lists that is no comment.
fn wanted(host_packages: &str) -> BTreeSet<String> {
    let lines =
        host_packages.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    PACKAGES.iter().copied().chain(lines).map(str::to_owned).collect()
}

/// Reads dpkg's list of names, versions and states.
fn installed(listed: &str) -> BTreeMap<String, String> {
    let packages = listed.lines().filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [name, version, "installed"] => Some((name.to_owned(), version.to_owned())),
        _ => None,
    });
    packages.collect()
}

/// The step that fetches apt's lists.
pub(super) fn update() -> Step {
    let command = APT_GET.iter().copied().chain(["update"]).map(str::to_owned).collect();
    Step { what: "fetching apt's lists".to_owned(), commands: vec![command], need: Need::Must }
}

/// Whether a command is one that this module made to install something.
pub(super) fn is_install(words: &[String]) -> bool {
    words.iter().any(|word| word == "apt-get") && words.iter().any(|word| word == "install")
}

/// The command that installs packages, and brings others to given versions (`name=version`).
fn install(missing: &[String], downgraded: &[String]) -> Vec<String> {
    let mut words: Vec<String> = APT_GET.iter().map(|&word| word.to_owned()).collect();
    words.extend(["install", "--no-install-recommends", "--no-remove"].map(str::to_owned));
    if !downgraded.is_empty() {
        words.push("--allow-downgrades".to_owned());
    }
    // One that is given with its version need not be given without.
    let given = |name: &str| downgraded.iter().any(|word| word.split('=').next() == Some(name));
    words.extend(missing.iter().filter(|name| !given(name)).cloned());
    words.extend(downgraded.iter().cloned());
    words
}

/// Asks apt whether it could; that takes no root.
fn simulate(install: &[String]) -> anyhow::Result<()> {
    command::output(Command::new(&install[0]).args(&install[1..]).arg("--simulate")).map(drop)
}

/// The version that apt would install.
fn candidate(name: &str) -> Option<String> {
    let mut command = Command::new("apt-cache");
    read_candidate(&command::output(command.env("LC_ALL", "C").args(["policy", name])).ok()?)
}

fn read_candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// All versions that apt could install.
fn versions_known(name: &str) -> Vec<String> {
    let madison = command::output(Command::new("apt-cache").args(["madison", name])).unwrap_or_default();
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect()
}

/// QEMU's packages, installed or about to be, that are not of the source version `version`, each as
/// `name=version`.
fn downgraded(
    installed: &BTreeMap<String, String>,
    missing: &[String],
    version: &str,
    versions_known: impl Fn(&str) -> Vec<String>,
) -> Vec<String> {
    // A rebuild for one architecture has the same source: 1:7.2+b3 is 1:7.2.
    let source = |version: &str| match version.rsplit_once("+b") {
        Some((source, number)) if number.chars().all(|c| c.is_ascii_digit()) => source.to_owned(),
        _ => version.to_owned(),
    };
    let mut words = Vec::new();
    let names: BTreeSet<&String> = installed.keys().chain(missing).collect();
    for name in names.into_iter().filter(|name| name.starts_with("qemu-")) {
        if installed.get(name).is_some_and(|installed| source(installed) == source(version)) {
            continue;
        }
        if let Some(known) = versions_known(name).iter().find(|known| source(known) == source(version)) {
            words.push(format!("{name}={known}"));
        }
    }
    words
}

/// On another distribution, what matters is that the programs are there.
fn without_dpkg(wanted: &BTreeSet<String>) -> anyhow::Result<Packages> {
    let programs = ["qemu-system-x86_64", "qemu-img", "dnsmasq", "ip", "newuidmap", "gcc", "mmdebstrap"];
    let found = |program: &str| {
        ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .iter()
            .any(|directory| Utf8Path::new(directory).join(program).exists())
    };
    let missing: Vec<&str> = programs.into_iter().filter(|program| !found(program)).collect();
    if missing.is_empty() {
        return Ok(Packages { installed: BTreeMap::new(), missing: Vec::new() });
    }
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let failed: anyhow::Result<Packages> =
        (|| bail!("this is no Debian, and it lacks {}", missing.join(", ")))();
    failed.hint(format!("install what your distribution calls {}", names.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "gcc 4:12.2.0-3 installed\n\
                          qemu-kvm  not-installed\n\
                          qemu-system-data 1:7.2+dfsg-7+deb12u18 installed\n\
                          qemu-utils 1:10.0.2+ds-2~bpo12+1 installed\n\
                          removed 1.0 config-files\n";

    #[test]
    fn only_what_is_wholly_installed_counts() {
        let installed = installed(LISTED);
        assert_eq!(installed.keys().collect::<Vec<_>>(), ["gcc", "qemu-system-data", "qemu-utils"]);
    }

    #[test]
    fn the_guests_needs_are_read_from_its_list() {
        let wanted = wanted("# comment\n\n  mtools \nzstd\n");
        assert!(wanted.contains("mtools") && wanted.contains("zstd") && wanted.contains("ovmf"));
        assert_eq!(wanted.len(), PACKAGES.len() + 2);
    }

    #[test]
    fn a_package_that_apt_does_not_know_has_no_candidate() {
        let policy = "ovmf:\n  Installed: (none)\n  Candidate: 2022.11-6\n  Version table:\n";
        assert_eq!(read_candidate(policy), Some("2022.11-6".to_owned()));
        assert_eq!(read_candidate("ovmf:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(read_candidate(""), None);
    }

    #[test]
    fn a_qemu_of_backports_is_brought_to_the_version_that_there_is() {
        let known = |name: &str| match name {
            "qemu-utils" | "qemu-system-x86" => {
                vec!["1:7.2+dfsg-7+deb12u18+b3".into(), "1:7.2+dfsg-7".into()]
            }
            _ => vec!["1:7.2+dfsg-7+deb12u18".to_owned()],
        };
        let missing = ["ovmf", "qemu-system-x86"].map(str::to_owned);
        let words = downgraded(&installed(LISTED), &missing, "1:7.2+dfsg-7+deb12u18+b3", known);
        assert_eq!(
            words,
            ["qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3", "qemu-utils=1:7.2+dfsg-7+deb12u18+b3"]
        );
        let command = install(&missing, &words).join(" ");
        assert!(
            command.ends_with(
                "install --no-install-recommends --no-remove --allow-downgrades ovmf \
                 qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3 qemu-utils=1:7.2+dfsg-7+deb12u18+b3"
            ),
            "{command}"
        );
    }

    #[test]
    fn a_plain_install_allows_no_downgrades() {
        let command = install(&["ovmf".to_owned()], &[]);
        assert!(!command.contains(&"--allow-downgrades".to_owned()), "{command:?}");
        assert!(is_install(&command));
        assert!(!is_install(&update().commands[0]));
    }
}
