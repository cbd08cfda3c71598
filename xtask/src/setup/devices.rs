//! Devices, kernel settings and the shared cache.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
};

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;

use super::{Need, Step};
use crate::user;

/// Where all users' runs share what is unpacked and built once a machine.
const CACHE: &str = "/var/cache/steading";
/// For everyone, and nobody may remove what is another's: as `/tmp`.
const CACHE_MODE: u32 = 0o1777;

/// The character device 10:200, see Documentation/networking/tuntap.rst of the kernel.
const MAKE_TUN: &str = "modprobe -q tun; [ -c /dev/net/tun ] || \
                        { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }";

/// Settings of the kernel that forbid user namespaces, each with the value that allows them.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "65536"),
];

/// The steps for what is missing or closed.
pub(super) fn missing() -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    steps.extend(tun(device_mode("/dev/net/tun")?));
    if let Some(kvm) = Node::find("/dev/kvm")? {
        let groups = fs::read_to_string("/etc/group")?;
        let reachable =
            !user::is_root() && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
        steps.extend(open_kvm(kvm, &groups, reachable));
    }
    steps.extend(cache(Utf8Path::new(CACHE))?);
    for &(name, forbids, allows) in SETTINGS {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // A setting that a kernel does not have forbids nothing.
        if fs::read_to_string(path).is_ok_and(|value| value.trim() == forbids) {
            let setting = format!("{name}={allows}");
            let what = format!("allowing user namespaces until the next boot: {setting}");
            steps.push(Step::new(what, Need::Must, &[&["sysctl", "-q", "-w", &setting]]));
        }
    }
    Ok(steps)
}

/// A device file's group and permission bits.
#[derive(Clone, Copy)]
struct Node {
    gid: u32,
    mode: u32,
}

impl Node {
    fn find(path: &str) -> anyhow::Result<Option<Node>> {
        match fs::metadata(path) {
            Ok(found) if found.file_type().is_char_device() => {
                Ok(Some(Node { gid: found.gid(), mode: found.permissions().mode() & 0o777 }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look at {path}")),
        }
    }
}

fn device_mode(path: &str) -> anyhow::Result<Option<u32>> {
    Ok(Node::find(path)?.map(|node| node.mode))
}

/// Everyone may open `/dev/net/tun`, as udev has it; making an interface still takes a capability.
fn tun(mode: Option<u32>) -> Option<Step> {
    let open: &[&str] = &["chmod", "0666", "/dev/net/tun"];
    match mode {
        Some(0o666) => None,
        Some(_) => Some(Step::new("opening /dev/net/tun to all users", Need::Must, &[open])),
        None => Some(Step::new("making /dev/net/tun", Need::Must, &[&["sh", "-c", MAKE_TUN], open])),
    }
}

/// `/dev/kvm` is for the group `kvm`, as udev has it. Nothing is lost but speed without.
fn open_kvm(node: Node, groups: &str, reachable: bool) -> Option<Step> {
    let group = group_id(groups, "kvm");
    let for_all = node.mode & 0o006 == 0o006;
    let for_group = node.mode & 0o060 == 0o060 && group == Some(node.gid);
    if for_all || for_group || reachable {
        return None;
    }
    let commands: [&[&str]; 3] =
        [&["groupadd", "--system", "kvm"], &["chgrp", "kvm", "/dev/kvm"], &["chmod", "0660", "/dev/kvm"]];
    let needed = if group.is_none() { &commands[..] } else { &commands[1..] };
    Some(Step::new("opening /dev/kvm to the group kvm", Need::May, needed))
}

/// Finds a group in the text of `/etc/group`, see group(5).
pub(super) fn group_id(groups: &str, name: &str) -> Option<u32> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

fn cache(path: &Utf8Path) -> anyhow::Result<Option<Step>> {
    let mode = match fs::metadata(path) {
        Ok(found) => Some(found.permissions().mode() & 0o7777),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    if mode == Some(CACHE_MODE) {
        return Ok(None);
    }
    let mode = format!("{CACHE_MODE:o}");
    let command: &[&str] = &["install", "--directory", "--mode", &mode, path.as_str()];
    // Without it each user has a cache at home.
    Ok(Some(Step::new(format!("making {path}, the cache that all users share"), Need::May, &[command])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\nkvm:x:105:steading\n";

    fn typed(step: Option<Step>) -> Vec<String> {
        step.map(|step| step.typed().collect()).unwrap_or_default()
    }

    #[test]
    fn tun_is_opened_and_where_absent_made() {
        assert_eq!(tun(Some(0o666)), None);
        assert_eq!(typed(tun(Some(0o600))), ["chmod 0666 /dev/net/tun"]);
        assert_eq!(typed(tun(None)).len(), 2);
    }

    #[test]
    fn kvm_is_left_alone_where_the_user_reaches_it() {
        assert_eq!(open_kvm(Node { gid: 105, mode: 0o660 }, GROUPS, false), None);
        assert_eq!(open_kvm(Node { gid: 0, mode: 0o666 }, GROUPS, false), None);
        assert_eq!(open_kvm(Node { gid: 0, mode: 0o600 }, GROUPS, true), None);
    }

    #[test]
    fn kvm_is_given_to_its_group_which_is_made_when_there_is_none() {
        let node = Node { gid: 0, mode: 0o660 };
        assert_eq!(typed(open_kvm(node, GROUPS, false)), ["chgrp kvm /dev/kvm", "chmod 0660 /dev/kvm"]);
        assert_eq!(typed(open_kvm(node, "root:x:0:\n", false))[0], "groupadd --system kvm");
    }

    #[test]
    fn the_cache_is_made_and_opened() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = Utf8Path::from_path(directory.path()).context("the path is UTF-8")?;
        fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        assert!(cache(path)?.is_some());
        assert!(cache(&path.join("absent"))?.is_some());
        fs::set_permissions(path, std::fs::Permissions::from_mode(0o1777))?;
        assert_eq!(cache(path)?, None);
        Ok(())
    }
}
