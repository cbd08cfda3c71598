//! `steading ps`: the running groups of this user.

use serde::Serialize;
use steading_api::VmStatus;
use steading_harness::exit_code;
use steading_harness::groups::{self, GroupList};
use steading_plan::text;
use steading_report::output::{eprintln, println};

#[derive(Serialize)]
struct GroupRow<'a> {
    group: &'a str,
    owner: Option<i32>,
    /// The freeze from which it was forked.
    #[serde(skip_serializing_if = "Option::is_none")]
    forked_from: Option<&'a str>,
    log_dir: &'a str,
    vms: &'a [VmStatus],
}

pub(crate) fn print(json: bool) -> anyhow::Result<u8> {
    let GroupList { groups, unreachable } = groups::groups()?;
    for owner in &unreachable {
        eprintln!("{}", text::lines(&owner.to_string()));
    }
    if json {
        let rows: Vec<GroupRow> = groups
            .iter()
            .map(|group| GroupRow {
                group: group.name(),
                owner: group.owner,
                forked_from: group.status.forked_from.as_deref(),
                log_dir: &group.status.log_dir,
                vms: &group.status.vms,
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(exit_code::PASSED);
    }
    if groups.is_empty() {
        eprintln!("you have no running group");
    }
    for group in &groups {
        let (running, all) = (group.running(), group.status.vms.len());
        println!(
            "{}{}: {running} of {all} VMs running; logs: {}",
            group.label(),
            group.status.forked_from.as_ref().map(|id| format!(", fork of {id}")).unwrap_or_default(),
            group.status.log_dir
        );
        for vm in &group.status.vms {
            let mut notes = String::new();
            if vm.panicked {
                notes.push_str(", kernel panic");
            }
            if let Some(silence) = vm.silence() {
                notes.push_str(", ");
                notes.push_str(&silence);
            }
            println!(
                "  {:<16} {:<8} boot {:<3} {}{notes}",
                vm.name.as_str(),
                vm.state.as_str(),
                vm.boot,
                vm.address
            );
        }
    }
    Ok(exit_code::PASSED)
}
