//! Who runs things: as root, the account `steading` is made; an ordinary user is only given what
//! an account lacks to make a guest image and to reach `/dev/kvm`.

use camino::Utf8Path;
use fs_err as fs;

use super::{Need, Step, devices::group_id};
use crate::user::{self, ACCOUNT, Account, find_account};

/// How many ids a user namespace of the account's needs: Debian's own 65536, see login.defs(5).
const IDS: u64 = 65536;
/// Where such ranges start, see `SUB_UID_MIN` in login.defs(5).
const FIRST_ID: u64 = 100_000;

/// The files that say who is who.
struct Files {
    passwd: String,
    group: String,
    subuid: String,
    subgid: String,
}

impl Files {
    fn read() -> anyhow::Result<Files> {
        Ok(Files {
            passwd: fs::read_to_string("/etc/passwd")?,
            group: fs::read_to_string("/etc/group")?,
            // Absent when nobody has any.
            subuid: fs::read_to_string("/etc/subuid").unwrap_or_default(),
            subgid: fs::read_to_string("/etc/subgid").unwrap_or_default(),
        })
    }
}

/// The step that makes the account, when we are root and there is none.
pub(super) fn missing() -> anyhow::Result<Vec<Step>> {
    let absent = user::is_root() && find_account(&Files::read()?.passwd, ACCOUNT).is_none();
    Ok(if absent { vec![new_account()] } else { vec![] })
}

/// The steps for what the account lacks.
pub(super) fn lacking_rights() -> anyhow::Result<Vec<Step>> {
    let files = Files::read()?;
    let has_kvm = Utf8Path::new("/dev/kvm").exists();
    if user::is_root() {
        let account = find_account(&files.passwd, ACCOUNT);
        return Ok(account.map(|account| lacking(&account, &files, has_kvm)).unwrap_or_default());
    }
    let uid = rustix::process::getuid().as_raw();
    let line = files.passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    // A user who is in no passwd, as in some containers, can be given nothing.
    let name = line.and_then(|line| line.split(':').next());
    let account = name.and_then(|name| find_account(&files.passwd, name));
    let reaches_kvm = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    Ok(account.map(|account| lacking(&account, &files, has_kvm && !reaches_kvm)).unwrap_or_default())
}

fn new_account() -> Step {
    let create: &[&str] = &["useradd", "--create-home", "--shell", "/bin/bash", ACCOUNT];
    Step::new(format!("making the account {ACCOUNT}"), Need::Must, &[create])
}

fn lacking(account: &Account, files: &Files, needs_kvm: bool) -> Vec<Step> {
    let name = account.name.as_str();
    let mut steps = Vec::new();
    let owns_users = has_range(&files.subuid, account);
    let owns_groups = has_range(&files.subgid, account);
    if !owns_users || !owns_groups {
        let first = next_free(&files.subuid).max(next_free(&files.subgid));
        let range = format!("{first}-{}", first + IDS - 1);
        let mut command = vec!["usermod"];
        if !owns_users {
            command.extend(["--add-subuids", &range]);
        }
        if !owns_groups {
            command.extend(["--add-subgids", &range]);
        }
        command.push(name);
        let what = format!("giving {name} subordinate ids {range}");
        steps.push(Step::new(what, Need::May, &[&command]));
    }
    // The group may be made by the step before; usermod fails then only if that did.
    let member = is_member(&files.group, "kvm", name) || group_id(&files.group, "kvm") == Some(account.gid);
    if needs_kvm && !member {
        let what = format!("making {name} a member of the group kvm, from the next login on");
        steps.push(Step::new(what, Need::May, &[&["usermod", "--append", "--groups", "kvm", name]]));
    }
    steps
}

/// Whether subuid(5) or subgid(5) gives the account a range that is large enough.
fn has_range(ranges: &str, account: &Account) -> bool {
    let uid = account.uid.to_string();
    read_ranges(ranges).any(|(owner, _, count)| (owner == account.name || owner == uid) && count >= IDS)
}

/// The first id above all ranges that are given to somebody.
fn next_free(ranges: &str) -> u64 {
    read_ranges(ranges).map(|(_, first, count)| first + count).fold(FIRST_ID, u64::max)
}

fn read_ranges(ranges: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    ranges.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some((fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn is_member(groups: &str, group: &str, name: &str) -> bool {
    let line = groups.lines().find(|line| line.split(':').next() == Some(group));
    line.and_then(|line| line.rsplit(':').next()).is_some_and(|members| members.split(',').any(|m| m == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(subuid: &str, group: &str) -> Files {
        Files { passwd: String::new(), group: group.into(), subuid: subuid.into(), subgid: subuid.into() }
    }

    fn account() -> Account {
        Account { name: "ada".into(), uid: 1000, gid: 1000, home: "/home/ada".into() }
    }

    fn typed(steps: &[Step]) -> Vec<String> {
        steps.iter().flat_map(Step::typed).collect()
    }

    #[test]
    fn an_account_that_has_all_is_left_alone() {
        let files = files("ada:100000:65536\n", "kvm:x:105:bob,ada\n");
        assert!(lacking(&account(), &files, true).is_empty());
    }

    #[test]
    fn a_range_by_number_counts_and_one_that_is_small_does_not() {
        assert!(has_range("1000:200000:65536\n", &account()));
        assert!(!has_range("ada:200000:1000\n", &account()));
        assert!(!has_range("adam:200000:65536\n", &account()));
    }

    #[test]
    fn new_ranges_lie_above_those_of_others() {
        let files = files("bob:100000:65536\n", "kvm:x:105:bob\n");
        assert_eq!(
            typed(&lacking(&account(), &files, true)),
            [
                "usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ada",
                "usermod --append --groups kvm ada"
            ]
        );
    }

    #[test]
    fn the_group_of_kvm_is_joined_only_where_there_is_kvm() {
        let files = files("ada:100000:65536\n", "");
        assert!(lacking(&account(), &files, false).is_empty());
    }

    #[test]
    fn a_new_account_has_a_home() {
        assert_eq!(typed(&[new_account()]), ["useradd --create-home --shell /bin/bash steading"]);
    }
}
