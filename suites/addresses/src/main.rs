//! Addresses that a testnet asks for: in a prefix that is no unique local one, and given to each guest rather
//! than learned from a router.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use ipnet::Ipv6Net;
use steading::{Addressing, Group, Source, Suite, Testnet, Vm, at_once, reference};

/// Of the prefix for documentation (RFC 3849), which some software treats as public.
const PREFIX: &str = "2001:db8:4:5::/64";

/// How long a guest listens for a router that is not to be there: one advertises every ten seconds.
const LISTENS_FOR: u32 = 12;

fn main() -> ExitCode {
    Suite::new("addresses")
        .testnet(|| {
            let guest = reference::guest()?;
            Ok(Testnet::new()
                .prefix(PREFIX.parse::<Ipv6Net>()?)
                .addressing(Addressing::Static)
                .vm(guest.vm("n1").second_card())
                .vm(guest.vm("n2").second_card()))
        })
        .setup(|testnet| at_once(&testnet.vms(), Vm::wait_for_ssh).map(drop))
        .test("guests_have_the_addresses_of_the_plan_and_no_others", own)
        .test("guests_reach_each_other_by_name_and_by_ipv4", reach)
        .test("the_driver_stands_outside_of_the_prefix", driver)
        .test("nobody_advertises_a_router_or_answers_dhcp", silent)
        .test("addresses_are_the_same_after_a_reboot", reboot)
        .main()
}

fn own(testnet: &Group) -> anyhow::Result<()> {
    let prefix: Ipv6Net = PREFIX.parse()?;
    for vm in testnet.vms() {
        ensure!(prefix.contains(&vm.address()), "{} is not in {prefix}", vm.address());
        let first = vm.succeed("ip -6 -o addr show scope global")?;
        ensure!(first.lines().count() == 1, "{} has these addresses:\n{first}", vm.name());
        ensure!(first.contains(&format!("enp1s0    inet6 {}/64 ", vm.address())), "{first}");
        let ipv4 = vm.plan().second_address.context("the plan gives it no IPv4 address")?;
        let second = vm.succeed("ip -4 -o addr show scope global")?;
        ensure!(second.lines().count() == 1, "{} has these addresses:\n{second}", vm.name());
        ensure!(second.contains(&format!("enp2s0    inet {ipv4}/24 ")), "{second}");
        let route = vm.succeed("ip -6 route show default")?;
        ensure!(route.contains("proto static"), "it has learned its route: {route}");
    }
    Ok(())
}

fn reach(testnet: &Group) -> anyhow::Result<()> {
    let (n1, n2) = (testnet.vm("n1"), testnet.vm("n2"));
    n1.succeed("ping -6 -c 1 -W 10 n2")?;
    let ipv4 = n2.plan().second_address.context("the plan gives it no IPv4 address")?;
    n1.succeed(&format!("ping -4 -c 1 -W 10 {ipv4}"))?;
    n1.succeed(&format!("ping -4 -c 1 -W 10 {}", testnet.plan().addresses.ipv4_gateway)).map(drop)
}

fn driver(testnet: &Group) -> anyhow::Result<()> {
    let prefix: Ipv6Net = PREFIX.parse()?;
    let from = testnet.source_address(Source::Management)?;
    ensure!(!prefix.contains(&from), "{from} is in {prefix}");
    // As the guest sees it.
    let seen = testnet.vm("n1").succeed("echo $SSH_CONNECTION")?;
    ensure!(seen.starts_with(&format!("{from} ")), "the driver comes from {seen}");
    Ok(())
}

fn silent(testnet: &Group) -> anyhow::Result<()> {
    // Whoever listens hears advertisements meant for all (ff02::1), and answers to a question of its own.
    let script = format!(
        "socket(S, 10, 3, 58) or die; $SIG{{ALRM}} = sub {{ exit 0 }}; alarm {LISTENS_FOR}; \
         while (sysread(S, $b, 4096)) {{ exit 7 if ord($b) == 134 }}"
    );
    let n1 = testnet.vm("n1");
    let heard = n1.execute(&format!("perl -e '{script}'"))?;
    ensure!(heard.status == 0, "a router advertises itself: {heard:?}");
    let listening = n1.succeed("networkctl status enp2s0 | grep -c DHCP || true")?;
    ensure!(listening.trim() == "0", "its second card asks for an address");
    Ok(())
}

fn reboot(testnet: &Group) -> anyhow::Result<()> {
    testnet.vm("n2").reboot()?;
    testnet.vm("n2").wait_for_ssh()?;
    own(testnet)
}
