//! Commands that are one request each.

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags};
use steading_api::VmVerb;

use crate::exit_code;
use crate::groups::LiveGroup;

/// Runs a verb on several VMs at the same time; returns the first error.
pub(crate) async fn act(group: &LiveGroup, verb: VmVerb, vms: &[String]) -> anyhow::Result<u8> {
    for vm in vms {
        group.vm(vm)?;
    }
    let acting = vms.iter().map(|vm| group.client.act(vm, verb));
    for outcome in futures::future::join_all(acting).await {
        outcome?;
    }
    Ok(exit_code::PASSED)
}

pub(crate) async fn screenshot(group: &LiveGroup, vm: &str, file: &Utf8Path) -> anyhow::Result<u8> {
    group.vm(vm)?;
    let shot = group.client.screenshot(vm).await?;
    let picture = shot.bytes().context("the screenshot is not valid base64")?;
    fs::write(file, picture).with_context(|| format!("cannot write the screenshot of {vm}"))?;
    Ok(exit_code::PASSED)
}

/// Asks for the end, and waits for it.
pub(crate) async fn down(group: &LiveGroup) -> anyhow::Result<u8> {
    let Some(owner) = group.owner.and_then(Pid::from_raw) else {
        // Its records end with it.
        let mut records = group.client.records().await?;
        group.client.tear_down().await?;
        while records.next().await?.is_some() {}
        return Ok(exit_code::PASSED);
    };
    let pidfd =
        rustix::process::pidfd_open(owner, PidfdFlags::empty()).context("the group has already ended")?;
    group.client.tear_down().await?;
    // It is readable when the process has ended (pidfd_open(2)).
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?;
    Ok(exit_code::PASSED)
}
