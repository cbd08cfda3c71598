//! Two machines: does one serve what the other asks for, and again after it has lost power?

use std::process::ExitCode;

use steading::anyhow::{self, ensure};
use steading::{Group, Suite, Testnet, reference};

fn main() -> ExitCode {
    Suite::new("first-test")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new().vm(guest.vm("alpha")).vm(guest.vm("beta")))
        })
        .test("guests_reach_each_other", |testnet| {
            let (alpha, beta) = (testnet.vm("alpha"), testnet.vm("beta"));
            alpha.wait_until_succeeds(&format!("ping -c 1 {}", beta.address()))?;
            Ok(())
        })
        .test("a_file_survives_the_loss_of_power", a_file_survives_the_loss_of_power)
        .main()
}

fn a_file_survives_the_loss_of_power(testnet: &Group) -> anyhow::Result<()> {
    let alpha = testnet.vm("alpha");
    alpha.succeed("echo precious >/root/file && sync")?;
    alpha.kill()?;
    alpha.start()?;
    let kept = alpha.succeed("cat /root/file")?;
    ensure!(kept.trim() == "precious", "the file holds {kept:?}");
    Ok(())
}
