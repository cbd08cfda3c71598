//! The command `wait`, with the verbs of tests.

use std::time::Duration;

use clap::Args;
use regex::Regex;
use steading_api::VmState;

use crate::exit_code;
use crate::group::Group;
use crate::groups::LiveGroup;
use crate::limit::limit;
use crate::live::shell::enter;

/// Arguments of `wait`. It waits for everything that is named.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// VM.
    vm: String,
    /// Wait until it answers in boot N or a later one; `ps` shows the current boot.
    #[arg(long, value_name = "N")]
    boot: Option<u32>,
    /// Wait until this TCP port accepts connections.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Wait until this systemd unit is active.
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Wait until the console matches this regular expression in the current boot.
    #[arg(long, value_name = "PATTERN")]
    console: Option<Regex>,
    /// Wait until this command succeeds in the guest.
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// Time limit of each wait (10s, 5min) [default: 5min].
    #[arg(long, value_name = "TIME", value_parser = limit)]
    limit: Option<Duration>,
}

/// Waits for all that is named.
pub(crate) fn wait(group: &LiveGroup, args: &WaitArgs) -> anyhow::Result<u8> {
    group.vm(&args.vm)?;
    let mut vms = group.status.vms.iter();
    let was_on = vms.any(|vm| vm.name.as_str() == args.vm && vm.state != VmState::Off);
    enter(group)?;
    // One that is off from the beginning is a mistake of the caller, not something that did not happen.
    wait_for_all(group, args).map_err(|error| if was_on { error } else { anyhow::anyhow!("{error:#}") })
}

fn wait_for_all(group: &LiveGroup, args: &WaitArgs) -> anyhow::Result<u8> {
    let session = Group::connect(&group.client.endpoint().to_string(), "wait", Duration::MAX)?;
    let vm = session.vm(&args.vm);
    let vm = args.limit.map_or_else(|| vm.clone(), |limit| vm.within(limit));
    if let Some(boot) = args.boot {
        vm.wait_for_boot(boot)?;
    }
    if let Some(pattern) = &args.console {
        vm.wait_for_console(pattern.as_str())?;
    }
    if let Some(port) = args.port {
        vm.wait_for_open_port(port)?;
    }
    if let Some(unit) = &args.unit {
        vm.wait_for_unit(unit)?;
    }
    if let Some(command) = &args.command {
        vm.wait_until_succeeds(command)?;
    }
    if args.boot.is_none()
        && args.console.is_none()
        && args.port.is_none()
        && args.unit.is_none()
        && args.command.is_none()
    {
        vm.wait_for_ssh()?;
    }
    Ok(exit_code::PASSED)
}
