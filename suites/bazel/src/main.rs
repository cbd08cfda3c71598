//! The test of `bazel/example` that fails, to show what is left of it.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use steading::{Group, Suite, Testnet, reference};

fn main() -> ExitCode {
    Suite::new("bazel-example")
        .testnet(|| {
            let guest = reference::guest()?;
            // The same disk as the guest's own, by the way that images of any kind come.
            let vm = guest.vm("n1").memory_mib(256).disk(steading::image("disk")?);
            Ok(Testnet::new().vm(vm))
        })
        .setup(|testnet| testnet.vm("n1").wait_for_ssh())
        .test("passes", |testnet| testnet.vm("n1").succeed("true").map(drop))
        .test("fails", fails)
        .main()
}

fn fails(testnet: &Group) -> anyhow::Result<()> {
    let vm = testnet.vm("n1");
    vm.succeed("echo the state at the failure >/run/state; logger a line of the journal before the failure")?;
    vm.wait_for_journal("before the failure").context("the guest's journal has not come")?;
    ensure!(vm.execute("test -e /run/missing")?.status == 0, "there is no /run/missing, as it should be");
    Ok(())
}
