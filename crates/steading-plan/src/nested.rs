//! VMs that run inside another VM, on the group's network: what their host is told of them, and what it
//! downloads for them.
//!
//! A host gets a systemd credential for each, `steading.nested.NAME`, of lines `key=value`: `mac`, `uuid`,
//! `vcpus`, `memory_mib`, `autostart`, `cmdline`; `kernel`, `initrd` and `disk` as URLs of the group's
//! file server; and a `credential.NAME` for each credential of the VM itself, in base64.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::{AddressPlan, Boot, FileSource, VmName, VmPlan};

/// A VM that cannot be inside another.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NestedError {
    /// There is no such host.
    #[error("VM {vm} is to run inside {host}, and the testnet has no VM of that name\nhint: declare {host}")]
    NoHost {
        /// The VM.
        vm: VmName,
        /// The host that is not there.
        host: String,
    },
    /// Its host is inside another itself.
    #[error(
        "VM {vm} is to run inside {host}, which runs inside another itself\nhint: one level is what there is"
    )]
    Deep {
        /// The VM.
        vm: VmName,
        /// Its host.
        host: VmName,
    },
    /// Those inside have as much memory as their host, or more.
    #[error(
        "VM {host} has {has} MiB of memory, and the VMs inside it {needed}\nhint: they take theirs from it; give it more"
    )]
    Memory {
        /// The host.
        host: VmName,
        /// What it has.
        has: u32,
        /// What those inside have in all.
        needed: u64,
    },
    /// It asks for what only a VM of the group itself can have.
    #[error("VM {vm} runs inside {host} and {what}\nhint: it is its host that runs it; see `inside`")]
    Unsupported {
        /// The VM.
        vm: VmName,
        /// Its host.
        host: String,
        /// What it asks for.
        what: &'static str,
    },
}

/// Checks VMs inside others, and tells their hosts of them. Returns what these download.
pub(crate) fn tell(vms: &mut [VmPlan], addresses: &AddressPlan) -> Result<Vec<FileSource>, NestedError> {
    let mut files = Vec::new();
    let mut told: BTreeMap<usize, Vec<(String, String)>> = BTreeMap::new();
    let mut needed: BTreeMap<usize, u64> = BTreeMap::new();
    for vm in vms.iter() {
        let Some(host) = &vm.spec.inside else { continue };
        let at = vms.iter().position(|other| other.name.as_str() == host);
        let at = at.ok_or_else(|| NestedError::NoHost { vm: vm.name.clone(), host: host.clone() })?;
        if vms[at].spec.inside.is_some() {
            return Err(NestedError::Deep { vm: vm.name.clone(), host: vms[at].name.clone() });
        }
        let sources = sources(vm, host)?;
        let credential = (format!("steading.nested.{}", vm.name), text(vm, &sources, addresses));
        told.entry(at).or_default().push(credential);
        *needed.entry(at).or_default() += u64::from(vm.spec.memory_mib);
        files.extend(sources.into_iter().map(|(_, file)| file));
    }
    for (at, needed) in needed {
        let host = &vms[at];
        if needed >= u64::from(host.spec.memory_mib) {
            let (host, has) = (host.name.clone(), host.spec.memory_mib);
            return Err(NestedError::Memory { host, has, needed });
        }
    }
    for (at, credentials) in told {
        vms[at].spec.config.credentials.extend(credentials);
    }
    Ok(files)
}

/// What its host downloads for it, by key.
fn sources(vm: &VmPlan, host: &str) -> Result<Vec<(&'static str, FileSource)>, NestedError> {
    let unsupported =
        |what| Err(NestedError::Unsupported { vm: vm.name.clone(), host: host.to_owned(), what });
    let Boot::Kernel { kernel, initrd: Some(initrd), .. } = &vm.spec.boot else {
        return unsupported("does not boot a kernel with an initrd");
    };
    let Some(disk) = &vm.spec.disk else { return unsupported("has no disk") };
    if vm.spec.second_card || vm.spec.display {
        return unsupported("has a second card or a display");
    }
    let config = &vm.spec.config;
    if config.config_dir.is_some() || config.cloud_init.is_some() || config.ignition.is_some() {
        return unsupported("is configured by something else than credentials");
    }
    let file = |key, source: FileSource| (key, source.name(format!("{}.{key}", vm.name)));
    Ok(vec![
        file("kernel", FileSource::new(kernel.clone())),
        file("initrd", FileSource::new(initrd.clone())),
        file("disk", disk.clone().into()),
    ])
}

fn text(vm: &VmPlan, sources: &[(&'static str, FileSource)], addresses: &AddressPlan) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| writeln!(text, "{key}={value}").expect("a String takes all");
    line("mac", &vm.mac.to_string());
    line("uuid", &vm.uuid);
    line("vcpus", &vm.spec.vcpus.to_string());
    line("memory_mib", &vm.spec.memory_mib.to_string());
    line("autostart", if vm.spec.autostart { "yes" } else { "no" });
    if let Boot::Kernel { cmdline, .. } = &vm.spec.boot {
        line("cmdline", &cmdline.replace('\n', " "));
    }
    for (key, file) in sources {
        line(key, &addresses.file_url(file.served_name().unwrap_or_default()));
    }
    for (name, value) in vm.credentials() {
        line(&format!("credential.{name}"), &STANDARD.encode(value));
    }
    text
}
