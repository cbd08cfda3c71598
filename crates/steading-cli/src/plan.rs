//! `steading plan`: the plan of a testnet, as text or JSON.

use camino::Utf8Path;
use steading_broker::peak_of;
use steading_harness::{exit_code, prepare};
use steading_plan::{Acceleration, Engine, Launch, Plan};
use steading_report::output::{eprintln, println};

use crate::topology::{self, Topology};

pub(crate) fn print(
    topology: &Utf8Path,
    group: Option<&str>,
    engine: Engine,
    json: bool,
) -> anyhow::Result<u8> {
    let Topology { group, testnet } = topology::read(topology, group)?;
    let planned = prepare::plan(&group, &testnet, engine)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&planned.plan)?);
    } else {
        table(&planned.plan);
        let how = match planned.acceleration.acceleration {
            Acceleration::Kvm => "KVM",
            Acceleration::Tcg => "emulated (TCG)",
        };
        println!("{how}: {}", planned.acceleration.reason);
    }
    let host = prepare::host_resources();
    let misfit = planned.plan.check(host).err().map(|error| format!("it does not fit this machine: {error}"));
    for warning in misfit.into_iter().chain(planned.plan.strain(host)) {
        eprintln!("warning: {warning}");
    }
    Ok(exit_code::PASSED)
}

fn table(plan: &Plan) {
    let addresses = &plan.addresses;
    println!("group       {}", plan.group);
    println!("needs       {}", plan.resources);
    if let Some(peak) = peak_of(&prepare::cache_dir(), plan) {
        let plural = if peak.runs == 1 { "" } else { "s" };
        println!("measured    peak memory {} MiB, in {} run{plural}", peak.memory_mib, peak.runs);
    }
    println!("bridge      {}", addresses.bridge);
    println!("prefix      {}", addresses.prefix);
    println!("gateway     {}", addresses.gateway);
    println!("management  {}", addresses.management);
    println!("logs        {}", addresses.logs);
    println!("files       {}", addresses.files);
    println!("IPv4        {} (second cards)", addresses.ipv4);
    println!("domain      {}", addresses.domain);
    for vm in &plan.vms {
        println!();
        let plural = if vm.spec.vcpus == 1 { "" } else { "s" };
        println!("VM {}: {} vCPU{plural}, {} MiB", vm.name, vm.spec.vcpus, vm.spec.memory_mib);
        println!("  address   {}", vm.address);
        println!("  MAC       {}", vm.mac);
        println!("  TAP       {}", vm.tap);
        if let (Some(mac), Some(tap)) = (vm.second_mac, &vm.second_tap) {
            println!("  second    {mac} {tap}");
        }
        match &vm.launch {
            Launch::Libvirt(domain) => println!("{}", domain.as_str()),
            launch => println!("  command   {launch}"),
        }
    }
}
