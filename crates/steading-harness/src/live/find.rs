//! Finds the groups of this user that run.

use anyhow::{Context as _, bail};
use fs_err as fs;
use steading_api::{Client, ClientError, GroupStatus, OWNER_PREFIX, VmState, socket_path};
use steading_plan::VmPlan;

/// A group that runs.
#[derive(Clone, Debug)]
pub struct LiveGroup {
    /// The process number of its owner.
    pub owner: i32,
    /// What it is and how it does.
    pub status: GroupStatus,
    pub(crate) client: Client,
}

impl LiveGroup {
    /// Its name.
    pub fn name(&self) -> &str {
        self.status.plan.group.as_str()
    }

    /// How many of its VMs run.
    pub fn running(&self) -> usize {
        self.status.vms.iter().filter(|vm| vm.state != VmState::Off).count()
    }

    pub(crate) fn vm(&self, name: &str) -> anyhow::Result<&VmPlan> {
        self.status.plan.vm(name).with_context(|| {
            let names: Vec<&str> = self.status.plan.vms.iter().map(|vm| vm.name.as_str()).collect();
            format!("the group {} has no VM named {name:?}\nhint: it has: {}", self.name(), names.join(", "))
        })
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All groups of this user, by name.
    pub groups: Vec<LiveGroup>,
    /// Owners that answer in a way that this program does not understand: they are of another
    /// version.
    pub strangers: Vec<i32>,
}

/// Looks for the groups of this user.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn groups() -> anyhow::Result<Found> {
    let mut found = super::wait_for(async {
        let mut found = Found::default();
        for owner in owners()? {
            let client = Client::new(socket_path(owner));
            match client.status().await {
                Ok(status) => found.groups.push(LiveGroup { owner, status, client }),
                Err(ClientError::Answer(_)) => found.strangers.push(owner),
                // It is another user's, is ending, or is only called like one.
                Err(_) => {}
            }
        }
        Ok(found)
    })?;
    found.groups.sort_by(|a, b| (a.name(), a.owner).cmp(&(b.name(), b.owner)));
    Ok(found)
}

fn owners() -> anyhow::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("cannot look for groups")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_owner = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with(OWNER_PREFIX) && fs::symlink_metadata(socket_path(*pid)).is_ok()
    };
    Ok(pids.filter(is_owner).collect())
}

/// The group that is meant: by name, by its owner's process number, or the only one.
pub(crate) fn choose(wanted: Option<&str>) -> anyhow::Result<LiveGroup> {
    choose_from(groups()?, wanted)
}

fn choose_from(found: Found, wanted: Option<&str>) -> anyhow::Result<LiveGroup> {
    let Found { groups: all, strangers } = found;
    let list = |groups: &[LiveGroup]| {
        let names = groups.iter().map(|group| format!("{} (owner {})", group.name(), group.owner));
        names.collect::<Vec<_>>().join(", ")
    };
    let is_wanted = |group: &LiveGroup| match wanted {
        None => true,
        Some(name) => group.name() == name || group.owner.to_string() == name,
    };
    let is_stranger = |owner: &i32| wanted.is_none_or(|wanted| wanted == owner.to_string());
    if let Some(owner) =
        strangers.iter().find(|owner| is_stranger(owner) && (all.is_empty() || wanted.is_some()))
    {
        bail!(
            "the group of owner {owner} is of another version of Steading\nhint: use the program that brought it up; killing its owner ends it"
        );
    }
    if all.is_empty() {
        bail!("you have no group that runs\nhint: `up` brings one up; groups of other users cannot be seen");
    }
    let known = list(&all);
    let mut meant: Vec<LiveGroup> = all.into_iter().filter(is_wanted).collect();
    match (meant.len(), wanted) {
        (1, _) => Ok(meant.remove(0)),
        (0, _) => bail!("no group is named {:?}\nhint: there are: {known}", wanted.unwrap_or_default()),
        (_, None) => bail!("several groups run\nhint: say which with --group: {known}"),
        (_, Some(name)) => {
            bail!(
                "several groups are named {name:?}\nhint: give the owner's process number: {}",
                list(&meant)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use steading_plan::{HostFacts, HostResources, Plan, QemuFacts, Testnet};

    use super::*;

    fn group(name: &str, owner: i32) -> LiveGroup {
        let host =
            HostFacts { resources: HostResources { cpus: 1, memory_mib: 1024 }, qemu: QemuFacts::default() };
        let plan = Plan::derive(&name.parse().unwrap(), &Testnet::new(), &host).unwrap();
        let status = GroupStatus {
            plan,
            vms: Vec::new(),
            log_dir: String::new(),
            ssh_key: String::new(),
            forked_from: None,
        };
        LiveGroup { owner, status, client: Client::new("") }
    }

    fn choice(groups: &[(&str, i32)], wanted: Option<&str>) -> Result<i32, String> {
        let groups = groups.iter().map(|(name, owner)| group(name, *owner)).collect();
        choose_from(Found { groups, strangers: vec![66] }, wanted)
            .map(|group| group.owner)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_only_group_needs_no_name() {
        assert_eq!(choice(&[("etcd", 7)], None), Ok(7));
        assert!(choose_from(Found::default(), None).unwrap_err().to_string().contains("no group that runs"));
        assert!(choice(&[("a", 7), ("b", 8)], None).unwrap_err().contains("a (owner 7), b (owner 8)"));
    }

    #[test]
    fn a_group_of_another_version_is_told_when_it_is_meant_or_the_only_one() {
        assert!(choice(&[], None).unwrap_err().contains("owner 66 is of another version"));
        assert!(choice(&[("a", 7)], Some("66")).unwrap_err().contains("another version"));
        assert_eq!(choice(&[("a", 7)], None), Ok(7));
    }

    #[test]
    fn a_group_is_meant_by_name_or_by_its_owner() {
        let groups = [("a", 7), ("b", 8), ("b", 9)];
        assert_eq!(choice(&groups, Some("a")), Ok(7));
        assert_eq!(choice(&groups, Some("9")), Ok(9));
        assert!(choice(&groups, Some("b")).unwrap_err().contains("b (owner 8), b (owner 9)"));
        assert!(choice(&groups, Some("c")).unwrap_err().contains("no group is named \"c\""));
    }
}
