//! Testnets in TOML: reading them, bringing them up, running a program in them.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;
use steading::{host, reference, universal};
use steading_harness::{Suite, UpArgs, run_command};
use steading_plan::{Guest, GuestFiles, Testnet, TestnetFile, VmSpec};
use steading_report::Report;

/// A testnet and the name of its group.
pub(crate) struct Topology {
    pub(crate) group: String,
    pub(crate) testnet: Testnet,
}

/// The size of the largest file that is read, in bytes: far more than anybody writes.
const LARGEST: u64 = 4 << 20;

/// Reads a testnet. The group is named as asked for, else as the file.
pub(crate) fn read(file: &Utf8Path, group: Option<&str>) -> anyhow::Result<Topology> {
    let size = fs::metadata(file)?.len();
    anyhow::ensure!(
        size <= LARGEST,
        "{file} has {size} bytes, and a testnet at most {LARGEST}\nhint: is it the right file?"
    );
    let text = fs::read_to_string(file)?;
    let declared = TestnetFile::parse(&text).with_context(|| format!("cannot understand {file}"))?;
    let testnet = resolve(declared, find).with_context(|| format!("cannot use {file}"))?;
    let group =
        group.or(file.file_stem()).context("the file has no name\nhint: name the group with --group")?;
    Ok(Topology { group: group.to_owned(), testnet })
}

/// A VM of this guest, if this machine has it.
fn find(guest: Guest, vm: &str) -> anyhow::Result<VmSpec> {
    Ok(match guest {
        Guest::Reference => reference::guest()?.vm(vm),
        Guest::Universal => universal::guest()?.vm(vm),
        Guest::Host => host::guest()?.vm(vm),
    })
}

/// The testnet, with the files of its guests. A guest is looked for only if it is named, and once.
fn resolve(
    file: TestnetFile,
    find: impl Fn(Guest, &str) -> anyhow::Result<VmSpec>,
) -> anyhow::Result<Testnet> {
    let mut files = BTreeMap::new();
    for (guest, vm) in file.guests() {
        let VmSpec { boot, disk, memory_mib, reboots_on_panic, .. } =
            find(guest, vm).with_context(|| GuestNotFound { vm: vm.to_owned() })?;
        files.insert(guest, GuestFiles { boot, disk, memory_mib, reboots_on_panic });
    }
    Ok(file.resolve(&files)?)
}

/// This host has no such guest, which is no fault of the declaration.
#[derive(Debug)]
pub(crate) struct GuestNotFound {
    vm: String,
}

impl fmt::Display for GuestNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM {}: cannot find its guest", self.vm)
    }
}

/// The schema of such files (JSON Schema, draft 2020-12).
pub(crate) fn schema() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(TestnetFile))?)
}

pub(crate) fn up(file: &Utf8Path, group: Option<&str>, args: UpArgs) -> anyhow::Result<u8> {
    let Topology { group, testnet } = read(file, group)?;
    let suite = Suite::new(group).testnet(move || Ok(testnet.clone()));
    Ok(suite.up(args, &Report::new()))
}

pub(crate) fn run(
    file: &Utf8Path,
    group: Option<&str>,
    args: &UpArgs,
    command: &[String],
) -> anyhow::Result<u8> {
    let Topology { group, testnet } = read(file, group)?;
    Ok(run_command(&group, &testnet, args, command, &Report::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `steading schema >docs/testnet.schema.json`.
    #[test]
    fn the_published_schema_is_that_of_this_version() {
        let published = include_str!("../../../docs/testnet.schema.json");
        assert_eq!(published.trim_end(), schema().unwrap());
    }

    fn file(text: &str) -> TestnetFile {
        TestnetFile::parse(text).unwrap()
    }

    #[test]
    fn no_guest_is_looked_for_unless_one_is_named() {
        let bios = file("[[vm]]\nname = \"n1\"\nboot = \"bios\"\n");
        assert_eq!(resolve(bios, |_, _| anyhow::bail!("none was asked for")).unwrap().vms.len(), 1);
    }

    #[test]
    fn a_guest_that_is_built_is_found_with_its_kernel_and_disk() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = r#"{"kernel": "vmlinuz", "initrd": "initrd", "disk": "disk", "cmdline": "quiet"}"#;
        fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        let find = |guest, vm: &str| {
            assert_eq!(guest, Guest::Reference);
            Ok(reference::guest_in(Utf8Path::from_path(dir.path()).unwrap())?.vm(vm))
        };
        let testnet = resolve(file("[[vm]]\nname = \"n1\"\nguest = \"reference\"\n"), find).unwrap();
        assert_eq!(testnet.vms, [find(Guest::Reference, "n1").unwrap()]);
    }

    #[test]
    fn a_guest_that_is_not_built_is_told_with_its_vm() {
        let named = file("[[vm]]\nname = \"n1\"\nguest = \"reference\"\n");
        let error = resolve(named, |_, _| anyhow::bail!("not built")).unwrap_err();
        assert!(error.downcast_ref::<GuestNotFound>().is_some());
        assert_eq!(format!("{error:#}"), "VM n1: cannot find its guest: not built");
    }
}
