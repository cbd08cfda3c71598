//! Pictures of the displays of VMs, taken when a function has failed.

use std::time::Duration;

use camino::Utf8Path;
use fs_err as fs;
use steading_api::{Client, VmState};
use steading_plan::file_name;
use steading_report::PICTURES;

/// How long all of them may take; a guest that hangs has a picture all the same.
const LIMIT: Duration = Duration::from_secs(10);

/// Takes what pictures can be taken. It never fails a run.
pub(crate) async fn take(client: &Client, function: &str, log_dir: &Utf8Path) {
    let _ = tokio::time::timeout(LIMIT, take_all(client, function, log_dir)).await;
}

async fn take_all(client: &Client, function: &str, log_dir: &Utf8Path) -> anyhow::Result<()> {
    let status = client.status().await?;
    for vm in status.vms.iter().filter(|vm| vm.state != VmState::Off) {
        let has_display = status.plan.vm(vm.name.as_str()).is_some_and(|plan| plan.spec.display);
        if has_display {
            let png = client.screenshot(vm.name.as_str()).await?.bytes()?;
            let dir = log_dir.join(PICTURES);
            fs::create_dir_all(&dir)?;
            fs::write(dir.join(picture_name(function, vm.name.as_str())), png)?;
        }
    }
    Ok(())
}

fn picture_name(function: &str, vm: &str) -> String {
    format!("{}.{vm}.png", file_name(function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_the_function_and_the_vm() {
        assert_eq!(picture_name("boots::by_uefi", "n1"), "boots--by_uefi.n1.png");
        let long = picture_name(&"by uefi/fast".repeat(30), &"v".repeat(63));
        assert!(long.starts_with("by-uefi-fastby-uefi-fast") && long.len() <= 255, "{long}");
    }
}
