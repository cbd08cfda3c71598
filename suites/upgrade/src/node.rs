//! A node that can be upgraded, in words of upgrades.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use steading::Vm;

/// A version that is rolled back is booted twice before.
const COMES_UP: Duration = Duration::from_secs(500);

/// The upgradable guest, whose command `steading-update` downloads and installs.
pub(crate) struct Node {
    pub(crate) vm: Vm,
}

impl Node {
    /// Installs the update that the first of these gives, for the next boot. Returns what was said.
    pub(crate) fn update(&self, urls: &[&str]) -> anyhow::Result<String> {
        self.vm.succeed(&command(urls))
    }

    /// Finds none of these to give an update. Returns what was said.
    pub(crate) fn refuses(&self, urls: &[&str]) -> anyhow::Result<String> {
        self.vm.fail(&command(urls))
    }

    /// Waits until it has come up with a version that is well, from the last reboot or start on.
    pub(crate) fn comes_up_with(&self, version: &str) -> anyhow::Result<()> {
        self.vm.within(COMES_UP).wait_for_console(&format!("version {version} is well"))?;
        // If it rebooted by itself, the connection of before is dead.
        self.vm.wait_until_succeeds("true")?;
        let runs = self.version()?;
        ensure!(runs == version, "VM {} runs version {runs}", self.vm.name());
        Ok(())
    }

    /// The version that runs.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        Ok(self.vm.succeed(". /etc/os-release; echo $IMAGE_VERSION")?.trim().to_owned())
    }

    /// The slot that runs.
    pub(crate) fn slot(&self) -> anyhow::Result<String> {
        let parameters = self.vm.succeed("cat /proc/cmdline")?;
        let slot = parameters.split_whitespace().find_map(|word| word.strip_prefix("rauc.slot="));
        Ok(slot.context("it was started from no slot")?.to_owned())
    }

    /// The slot that the boot loader would start from.
    pub(crate) fn next_slot(&self) -> anyhow::Result<String> {
        let known = self.vm.succeed("grub-editenv /efi/grub/grubenv list")?;
        let order = known.lines().find_map(|line| line.strip_prefix("ORDER="));
        Ok(order.and_then(|order| order.split(' ').next()).context("there is no order")?.to_owned())
    }
}

fn command(urls: &[&str]) -> String {
    format!("steading-update {} 2>&1", urls.join(" "))
}
