//! A guest's firewall, from every place the driver can speak from: how many connections it takes from
//! one source, and which of two rules that contradict each other prevails.

#![expect(clippy::print_stdout, reason = "what a test prints is in its log")]

mod connection;
mod max_connections;
mod priority;

use std::process::ExitCode;

use anyhow::Context as _;
use steading::{Group, Suite, Testnet, Vm, at_once, reference};

/// Where the guest takes connections.
const PORT: u16 = 9000;

/// The program that does so, which needs no more than Debian's essential packages.
const ACCEPT: &str = include_str!("accept.pl");

fn main() -> ExitCode {
    Suite::new("firewall")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new().vm(guest.vm("fw")).vm(guest.vm("other")))
        })
        .setup(|testnet| {
            at_once(&testnet.vms(), Vm::wait_for_ssh)?;
            let fw = testnet.vm("fw");
            fw.succeed(&format!("cat >/run/accept.pl <<'END'\n{ACCEPT}END"))?;
            fw.succeed("systemd-run -q -u accept -p LimitNOFILE=4096 perl /run/accept.pl")?;
            fw.wait_for_open_port(PORT)
        })
        .test("firewall_max_connections", max_connections::test)
        .test("firewall_priority", priority::test)
        .main()
}

/// Gives the guest these rules in place of all it has. By its agent: SSH would take part.
fn set_rules(vm: &Vm, rules: &str) -> anyhow::Result<()> {
    let output = vm.execute_by_agent(&format!("nft -f - <<'END'\nflush ruleset\n{rules}END"))?;
    anyhow::ensure!(output.status == 0, "nft refuses the rules: {}\n{rules}", output.stderr);
    Ok(())
}

/// What is left in the log, so far.
fn logged(testnet: &Group, text: &str) -> anyhow::Result<usize> {
    let log =
        fs_err::read_to_string(format!("{}/log.jsonl", testnet.log_dir())).context("there is no log")?;
    Ok(log.lines().filter(|line| line.contains(text)).count())
}
