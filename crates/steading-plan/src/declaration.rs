//! What is checked of one declared VM by itself: values that have the right type and mean nothing, or mean something
//! else than the author believes.

use std::collections::BTreeSet;

use camino::Utf8Path;
use thiserror::Error;

use crate::text::Shown;
use crate::{Boot, GuestConfig, VmName, VmSpec};

/// The largest disk, in MiB: what the largest table of a qcow2 file maps (2 PiB).
pub const DISK_MIB_MAX: u64 = 1 << 31;

/// Names in the group's domain that the group has itself.
const OF_THE_GROUP: &[(&str, &str)] = &[
    ("gateway", "it is the group's gateway"),
    ("acme", "it is the group's ACME server"),
    ("files", "it is the group's file server"),
    ("localhost", "it is each guest itself (RFC 6761, section 6.3)"),
];

/// Credentials that are set for each VM.
const OF_EACH_VM: &[(&str, &str)] = &[
    ("system.hostname", "it is the VM's name"),
    (
        "ssh.authorized_keys.root",
        "it is the key by which the driver logs in; add your own key in the image, or by another credential such as `ssh.ephemeral-authorized_keys-all`",
    ),
];

/// The only key of what the parser of TOML makes of a date, where a table is asked for.
const DATE: &str = "$__toml_private_datetime";

/// How credentials that tell a host of the VMs inside it begin.
const NESTED: &str = "steading.nested.";

/// A declared value that cannot be honoured.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeclarationError {
    /// A VM with a name that stands for something else.
    #[error("no VM can be named `{vm}`: {why}\nhint: rename the VM")]
    VmName {
        /// The VM.
        vm: VmName,
        /// What the name stands for.
        why: &'static str,
    },
    /// A credential that is set by Steading.
    #[error("VM {vm}: the credential `{name}` is reserved: {why}\nhint: remove it from the declaration")]
    Reserved {
        /// The VM.
        vm: VmName,
        /// The credential.
        name: String,
        /// What sets it.
        why: &'static str,
    },
    /// A port that nothing can listen on, or the same one again.
    #[error("VM {vm}: `metrics` has the port {port}{why}\nhint: name each TCP port from 1 to 65535 once")]
    Port {
        /// The VM.
        vm: VmName,
        /// The port.
        port: u16,
        /// Empty, or what else is wrong.
        why: &'static str,
    },
    /// A date of TOML where a table must be.
    #[error(
        "VM {vm}: `credentials` is a date: expected a table of strings\nhint: write credentials = {{ name = \"value\" }}"
    )]
    Date {
        /// The VM.
        vm: VmName,
    },
    /// An Ignition configuration that Ignition refuses.
    #[error(
        "VM {vm}: `ignition` is no Ignition configuration: {why}\n\
         hint: Ignition reads JSON such as {{\"ignition\":{{\"version\":\"3.3.0\"}}}}; convert YAML with `butane`"
    )]
    Ignition {
        /// The VM.
        vm: VmName,
        /// What is wrong.
        why: String,
    },
    /// A size for a disk that is not there.
    #[error(
        "VM {vm}: `disk_mib` is given and `disk` is not\nhint: `disk_mib` grows the disk that `disk` names"
    )]
    NoDiskToGrow {
        /// The VM.
        vm: VmName,
    },
    /// A size that no disk has.
    #[error(
        "VM {vm}: `disk_mib` is {mib}\nhint: a disk has 1 to {DISK_MIB_MAX} MiB; leave it out for the image's own size"
    )]
    DiskSize {
        /// The VM.
        vm: VmName,
        /// MiB asked for.
        mib: u64,
    },
    /// A path that names no file.
    #[error("VM {vm}: `{field}` is {path}\nhint: name a file, or leave the field out")]
    Path {
        /// The VM.
        vm: VmName,
        /// The field.
        field: &'static str,
        /// The path.
        path: String,
    },
}

/// Refuses values of a VM that cannot be honoured.
pub(crate) fn check(vm: &VmName, spec: &VmSpec) -> Result<(), DeclarationError> {
    check_name(vm)?;
    check_disk(vm, spec)?;
    check_paths(vm, spec)?;
    check_metrics(vm, &spec.metrics)?;
    check_config(vm, &spec.config)
}

fn check_name(vm: &VmName) -> Result<(), DeclarationError> {
    let name = vm.as_str();
    let is_address = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let of_the_group = OF_THE_GROUP.iter().find(|(taken, _)| *taken == name).map(|(_, why)| *why);
    // As inet_aton(3) and most programs read it: `ping 10` asks 0.0.0.10.
    let is_number = is_address(name) || name.strip_prefix("0x").is_some_and(is_hex);
    let of_programs = is_number.then_some("programs read such a name as an IPv4 address (inet_aton(3))");
    match of_the_group.or(of_programs) {
        Some(why) => Err(DeclarationError::VmName { vm: vm.clone(), why }),
        None => Ok(()),
    }
}

fn check_disk(vm: &VmName, spec: &VmSpec) -> Result<(), DeclarationError> {
    match spec.disk_mib {
        Some(mib) if !(1..=DISK_MIB_MAX).contains(&mib) => {
            Err(DeclarationError::DiskSize { vm: vm.clone(), mib })
        }
        Some(_) if spec.disk.is_none() => Err(DeclarationError::NoDiskToGrow { vm: vm.clone() }),
        _ => Ok(()),
    }
}

fn check_paths(vm: &VmName, spec: &VmSpec) -> Result<(), DeclarationError> {
    let mut paths: Vec<(&'static str, &Utf8Path)> = Vec::new();
    if let Boot::Kernel { kernel, initrd, .. } = &spec.boot {
        paths.push(("kernel", kernel));
        paths.extend(initrd.iter().map(|initrd| ("initrd", initrd.as_path())));
    }
    paths.extend(spec.disk.iter().map(|disk| ("disk", disk.path.as_path())));
    paths.extend(spec.config.config_dir.iter().map(|dir| ("config_dir", dir.as_path())));
    match paths.into_iter().find(|(_, path)| path.as_str().is_empty() || path.as_str().contains('\0')) {
        Some((field, path)) => {
            Err(DeclarationError::Path { vm: vm.clone(), field, path: Shown(path.as_str()).to_string() })
        }
        None => Ok(()),
    }
}

fn check_metrics(vm: &VmName, ports: &[u16]) -> Result<(), DeclarationError> {
    let mut seen = BTreeSet::new();
    for &port in ports {
        let why = match port {
            0 => "",
            port if !seen.insert(port) => " twice",
            _ => continue,
        };
        return Err(DeclarationError::Port { vm: vm.clone(), port, why });
    }
    Ok(())
}

fn check_config(vm: &VmName, config: &GuestConfig) -> Result<(), DeclarationError> {
    for name in config.credentials.keys() {
        if name == DATE {
            return Err(DeclarationError::Date { vm: vm.clone() });
        }
        let set = OF_EACH_VM.iter().find(|(reserved, _)| reserved == name).map(|(_, why)| *why);
        let nested =
            name.starts_with(NESTED).then_some("it tells a host of a VM that is declared `inside` it");
        if let Some(why) = set.or(nested) {
            return Err(DeclarationError::Reserved { vm: vm.clone(), name: name.clone(), why });
        }
    }
    match config.ignition.as_deref().map(check_ignition) {
        Some(Err(why)) => Err(DeclarationError::Ignition { vm: vm.clone(), why }),
        _ => Ok(()),
    }
}

/// Ignition looks at the version first, whatever else there is.
fn check_ignition(text: &str) -> Result<(), String> {
    let config: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let has_version = config["ignition"]["version"].is_string() || config["ignitionVersion"].is_number();
    if has_version { Ok(()) } else { Err("it has no `ignition.version`".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostFacts, ImageSource, Plan, Testnet};

    fn refused(spec: VmSpec) -> String {
        let host = HostFacts::default();
        let group = "g".parse().unwrap();
        match Plan::derive(&group, &Testnet::new().vm(spec), &host) {
            Ok(plan) => panic!("it was accepted: {plan:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn vm(change: impl FnOnce(&mut VmSpec)) -> VmSpec {
        let mut vm = VmSpec::new("n1", Boot::Bios).disk(ImageSource::new("/disk"));
        change(&mut vm);
        vm
    }

    fn kernel(kernel: &str, initrd: Option<&str>) -> Boot {
        Boot::Kernel { kernel: kernel.into(), initrd: initrd.map(Into::into), cmdline: String::new() }
    }

    #[test]
    fn each_field_of_a_vm_with_a_value_that_means_nothing_is_refused_by_name() {
        let credential = |name: &str| {
            let name = name.to_owned();
            vm(|vm| drop(vm.config.credentials.insert(name, "x".to_owned())))
        };
        let ignition = |text: &str| vm(|vm| vm.config.ignition = Some(text.to_owned()));
        let cases = [
            (credential("system.hostname"), "`system.hostname` is reserved"),
            (credential("ssh.authorized_keys.root"), "`ssh.authorized_keys.root` is reserved"),
            (credential("steading.nested.n2"), "`steading.nested.n2` is reserved"),
            (vm(|vm| vm.metrics = vec![0]), "`metrics` has the port 0"),
            (vm(|vm| vm.metrics = vec![9100, 80, 9100]), "`metrics` has the port 9100 twice"),
            (ignition("variant: fcos"), "`ignition` is no Ignition configuration: expected value"),
            (ignition(""), "`ignition` is no Ignition configuration"),
            (ignition("{}"), "has no `ignition.version`"),
            (ignition("[1]"), "has no `ignition.version`"),
            (vm(|vm| vm.disk_mib = Some(0)), "`disk_mib` is 0"),
            (vm(|vm| vm.disk_mib = Some(17_592_186_046_464)), "`disk_mib` is 17592186046464"),
            (vm(|vm| vm.disk_mib = Some(u64::MAX)), "a disk has 1 to 2147483648 MiB"),
            (vm(|vm| vm.disk = Some(ImageSource::new(""))), "`disk` is \"\""),
            (vm(|vm| vm.disk = Some(ImageSource::new("a\0b"))), "`disk` is \"a\\u{0}b\""),
            (vm(|vm| vm.config.config_dir = Some("".into())), "`config_dir` is \"\""),
            (vm(|vm| vm.boot = kernel("", None)), "`kernel` is \"\""),
            (vm(|vm| vm.boot = kernel("k", Some(""))), "`initrd` is \"\""),
        ];
        for (spec, said) in cases {
            let error = refused(spec);
            assert!(error.contains(said) && error.contains("\nhint: "), "{said}: {error}");
        }
        let mut diskless = VmSpec::new("n1", kernel("k", None));
        diskless.disk_mib = Some(100);
        assert!(refused(diskless).contains("`disk_mib` is given and `disk` is not"));
    }

    #[test]
    fn a_vm_named_as_something_else_is_refused() {
        for name in ["files", "gateway", "acme", "localhost", "10", "0x7f"] {
            let error = refused(vm(|vm| name.clone_into(&mut vm.name)));
            assert!(error.starts_with(&format!("no VM can be named `{name}`: ")), "{error}");
        }
    }
}
