//! Finds the running groups of this user.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fs_err as fs;
use rustix::process::Pid;
use steading_api::{Client, ClientError, GroupStatus, OWNER_PREFIX, VmState, VmStatus, socket_path};
use steading_plan::VmPlan;
use tokio::time::timeout;

use crate::event_loop::wait_for;

/// How long an owner may take to say how its group does: it only looks at what it has.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long the name of a process can be, in bytes (proc_pid_comm(5)).
const OWNER_NAME_MAX: usize = 15;

/// A running group.
#[derive(Clone, Debug)]
pub struct LiveGroup {
    /// The PID of its owner, if that is on this machine.
    pub owner: Option<i32>,
    /// Its plan and current state.
    pub status: GroupStatus,
    pub(crate) client: Client,
}

impl LiveGroup {
    /// Returns its name.
    pub fn name(&self) -> &str {
        self.status.plan.group.as_str()
    }

    /// Its name, with where its owner is, for people.
    pub fn label(&self) -> String {
        match self.owner {
            Some(owner) => format!("{} (owner {owner})", self.name()),
            None => format!("{} ({})", self.name(), self.client.endpoint()),
        }
    }

    /// Its owner's process, for what can only be done on the same machine.
    pub(crate) fn local_owner(&self) -> anyhow::Result<Pid> {
        self.owner.and_then(Pid::from_raw).with_context(|| {
            format!(
                "the group {} is on another machine, at {}\nhint: do this on that machine",
                self.name(),
                self.client.endpoint()
            )
        })
    }

    /// Returns the number of VMs that are on.
    pub fn running(&self) -> usize {
        self.status.vms.iter().filter(|vm| vm.state != VmState::Off).count()
    }

    pub(crate) fn vm(&self, name: &str) -> anyhow::Result<&VmPlan> {
        self.status.plan.vm(name).with_context(|| {
            let names: Vec<&str> = self.status.plan.vms.iter().map(|vm| vm.name.as_str()).collect();
            let advice = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean {near}? It has: {}", names.join(", ")),
                None if names.is_empty() => "it has no VMs".to_owned(),
                None => format!("it has: {}", names.join(", ")),
            };
            format!("group {} has no VM named {name:?}\nhint: {advice}", self.name())
        })
    }

    /// The VM of this name, which must be able to do something at all.
    pub(crate) async fn vm_that_runs(&self, name: &str) -> anyhow::Result<&VmPlan> {
        let plan = self.vm(name)?;
        let VmStatus { state, ended, panicked, suspended, .. } = self.client.vm(name).await?;
        match state {
            VmState::Running if panicked && !plan.spec.reboots_on_panic => {
                bail!(
                    "VM {name}: its kernel has panicked\nhint: boot it again with `kill {name}` and `start {name}`"
                )
            }
            VmState::Running if suspended => {
                bail!(
                    "VM {name}: the guest has suspended itself\nhint: wake it and boot it again with `reboot {name}`"
                )
            }
            VmState::Off => {
                let reason = ended.map(|reason| format!(": {reason}")).unwrap_or_default();
                bail!("VM {name} is off{reason}\nhint: start it with `start {name}`")
            }
            VmState::Paused => bail!("VM {name} is paused\nhint: resume it with `resume {name}`"),
            VmState::Running | VmState::Frozen => Ok(plan),
        }
    }
}

/// The groups of this user.
#[derive(Clone, Debug, Default)]
pub struct GroupList {
    /// All groups of this user, by name.
    pub groups: Vec<LiveGroup>,
    /// Owners that this program cannot talk to.
    pub unreachable: Vec<UnreachableOwner>,
}

/// An owner that this program cannot talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableOwner {
    /// Its PID.
    pub owner: i32,
    /// The name of its group, as far as the process has it (12 bytes, proc_pid_comm(5)).
    pub name: String,
    /// Why.
    pub reason: Unreachable,
}

/// Why this program cannot talk to an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// It is of another version of Steading.
    OtherVersion,
    /// It does not answer.
    Silent,
}

impl fmt::Display for UnreachableOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, name, reason } = self;
        match reason {
            Unreachable::OtherVersion => {
                write!(f, "group {name} (owner {owner}) belongs to another version of Steading")
            }
            Unreachable::Silent => {
                let seconds = ANSWER_LIMIT.as_secs();
                write!(f, "owner {owner} of group {name} has not answered for {seconds} s")
            }
        }
    }
}

impl UnreachableOwner {
    fn is_meant(&self, wanted: &str) -> bool {
        // A name that fills all the room it has may be longer.
        let may_go_on = self.name.len() >= OWNER_NAME_MAX - OWNER_PREFIX.len();
        self.owner.to_string() == wanted
            || self.name == wanted
            || (may_go_on && wanted.starts_with(&self.name))
    }

    const fn advice(&self) -> &'static str {
        match self.reason {
            Unreachable::OtherVersion => {
                "use the program that brought it up; or kill its owner, which ends the whole group"
            }
            Unreachable::Silent => {
                "check whether it is stopped or the machine is busy; killing it ends the whole group"
            }
        }
    }
}

/// Returns the running groups of this user.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn groups() -> anyhow::Result<GroupList> {
    let mut found = wait_for(async {
        let mut found = GroupList::default();
        let asked = owners()?.into_iter().map(|(owner, name)| async move {
            let client = Client::new(socket_path(owner));
            let answer = timeout(ANSWER_LIMIT, client.status()).await;
            (owner, name, client, answer)
        });
        for (owner, name, client, answer) in futures::future::join_all(asked).await {
            let no_group = |reason| UnreachableOwner { owner, name, reason };
            match answer {
                Ok(Ok(status)) => found.groups.push(LiveGroup { owner: Some(owner), status, client }),
                Ok(Err(ClientError::Answer(_))) => {
                    found.unreachable.push(no_group(Unreachable::OtherVersion));
                }
                // It is another user's, is ending, or is only called like one.
                Ok(Err(_)) => {}
                Err(_) => found.unreachable.push(no_group(Unreachable::Silent)),
            }
        }
        Ok(found)
    })?;
    found.groups.sort_by(|a, b| (a.name(), a.owner).cmp(&(b.name(), b.owner)));
    Ok(found)
}

/// Owners, each with as much of its group's name as it has.
fn owners() -> anyhow::Result<Vec<(i32, String)>> {
    let entries = fs::read_dir("/proc").context("cannot look for groups")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let owner = |pid: i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = comm.trim_end().strip_prefix(OWNER_PREFIX)?;
        fs::symlink_metadata(socket_path(pid)).ok()?;
        Some((pid, name.to_owned()))
    };
    Ok(pids.filter_map(owner).collect())
}

/// The group that is meant: by name, by its owner's process number, or the only one.
pub(crate) fn choose(wanted: Option<&str>) -> anyhow::Result<LiveGroup> {
    choose_from(groups()?, wanted)
}

fn choose_from(found: GroupList, wanted: Option<&str>) -> anyhow::Result<LiveGroup> {
    let GroupList { groups: all, unreachable } = found;
    let list = |groups: &[LiveGroup]| {
        let names = groups.iter().map(LiveGroup::label);
        names.collect::<Vec<_>>().join(", ")
    };
    let is_wanted = |group: &LiveGroup| match wanted {
        None => true,
        Some(name) => group.name() == name || group.owner.is_some_and(|owner| owner.to_string() == name),
    };
    let is_meant_owner = |owner: &&UnreachableOwner| match wanted {
        Some(wanted) => owner.is_meant(wanted) && !all.iter().any(is_wanted),
        None => all.is_empty(),
    };
    if let Some(owner) = unreachable.iter().find(is_meant_owner) {
        bail!("{owner}\nhint: {}", owner.advice());
    }
    if all.is_empty() {
        bail!(
            "you have no running group\nhint: bring one up with `up`; groups of other users are not visible"
        );
    }
    let known = list(&all);
    let names: Vec<String> = all.iter().map(|group| group.name().to_owned()).collect();
    let mut meant: Vec<LiveGroup> = all.into_iter().filter(|group| is_wanted(group)).collect();
    match (meant.len(), wanted) {
        (1, _) => Ok(meant.remove(0)),
        (0, _) => {
            let wanted = wanted.unwrap_or_default();
            let near = nearest(wanted, names.iter().map(String::as_str));
            let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            bail!("no group named {wanted:?}\nhint: {near}running groups: {known}")
        }
        (_, None) => bail!("several groups are running\nhint: choose one with --group: {known}"),
        (_, Some(name)) => {
            bail!("several groups are named {name:?}\nhint: give the PID of the owner: {}", list(&meant))
        }
    }
}

/// The name that is most like one that is wrong, if any is like it.
fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.7;
    let similarity = |name: &&str| strsim::jaro_winkler(wrong, name);
    let best = names.max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) > ALIKE).then_some(best)
}

#[cfg(test)]
mod tests {
    use steading_plan::{HostFacts, Plan, Testnet};

    use super::*;

    fn group(name: &str, owner: i32) -> LiveGroup {
        let host = HostFacts::default();
        let plan = Plan::derive(&name.parse().unwrap(), &Testnet::new(), &host).unwrap();
        let status = GroupStatus {
            plan,
            vms: Vec::new(),
            log_dir: String::new(),
            ssh_key: String::new(),
            forked_from: None,
            unforkable: None,
            has_namespaces: true,
        };
        LiveGroup { owner: Some(owner), status, client: Client::new("") }
    }

    fn choice(groups: &[(&str, i32)], wanted: Option<&str>) -> Result<i32, String> {
        let groups = groups.iter().map(|(name, owner)| group(name, *owner)).collect();
        let no_group = |owner, name: &str, reason| UnreachableOwner { owner, name: name.to_owned(), reason };
        let unreachable = vec![
            no_group(66, "a-very-long-", Unreachable::OtherVersion),
            no_group(67, "still", Unreachable::Silent),
        ];
        choose_from(GroupList { groups, unreachable }, wanted)
            .map(|group| group.owner.expect("it is on this machine"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_only_group_needs_no_name() {
        assert_eq!(choice(&[("etcd", 7)], None), Ok(7));
        assert!(
            choose_from(GroupList::default(), None).unwrap_err().to_string().contains("no running group")
        );
        assert!(choice(&[("a", 7), ("b", 8)], None).unwrap_err().contains("a (owner 7), b (owner 8)"));
    }

    #[test]
    fn a_group_of_another_version_is_told_when_it_is_meant_or_the_only_one() {
        assert!(choice(&[], None).unwrap_err().contains("(owner 66) belongs to another version"));
        for wanted in ["66", "a-very-long-name"] {
            assert!(choice(&[("a", 7)], Some(wanted)).unwrap_err().contains("another version"), "{wanted}");
        }
        assert_eq!(choice(&[("a", 7)], None), Ok(7));
        // One that answers is the one that is meant.
        assert_eq!(choice(&[("a-very-long-name", 7)], Some("a-very-long-name")), Ok(7));
    }

    #[test]
    fn an_owner_that_does_not_answer_is_told() {
        for wanted in ["67", "still"] {
            let said = choice(&[("a", 7)], Some(wanted)).unwrap_err();
            assert!(said.contains("owner 67 of group still has not answered"), "{said}");
        }
        assert!(choice(&[("a", 7)], Some("stil")).unwrap_err().contains("no group named"));
    }

    #[test]
    fn a_name_that_is_nearly_right_is_put_right() {
        assert!(choice(&[("etcd", 7)], Some("ectd")).unwrap_err().contains("did you mean etcd?"));
        assert!(!choice(&[("etcd", 7)], Some("zzz")).unwrap_err().contains("did you mean"));
    }

    #[test]
    fn a_group_is_meant_by_name_or_by_its_owner() {
        let groups = [("a", 7), ("b", 8), ("b", 9)];
        assert_eq!(choice(&groups, Some("a")), Ok(7));
        assert_eq!(choice(&groups, Some("9")), Ok(9));
        assert!(choice(&groups, Some("b")).unwrap_err().contains("b (owner 8), b (owner 9)"));
        assert!(choice(&groups, Some("c")).unwrap_err().contains("no group named \"c\""));
    }
}
