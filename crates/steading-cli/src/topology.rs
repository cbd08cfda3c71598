//! Testnets in TOML: reading them, bringing them up, running a program in them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;

use anyhow::Context as _;
use camino::Utf8Path;
use steading::{host, reference, universal};
use steading_harness::{GraceArgs, Suite, UpArgs, run_command};
use steading_plan::{Guest, GuestFiles, LABEL_MAX, Testnet, TestnetFile, VmSpec};
use steading_report::Report;

/// A testnet and the name of its group.
pub(crate) struct Topology {
    pub(crate) group: String,
    pub(crate) testnet: Testnet,
}

/// The size of the largest text that is read, in bytes: far more than anybody writes.
const LARGEST: u64 = 4 << 20;

/// Reads a testnet. The group is named as asked for, else as the file.
pub(crate) fn read(file: &Utf8Path, group: Option<&str>) -> anyhow::Result<Topology> {
    let text = read_text(file, "testnet")?;
    let declared = TestnetFile::parse(&text).with_context(|| format!("cannot parse `{file}`"))?;
    let testnet = resolve(declared, find).with_context(|| format!("cannot use `{file}`"))?;
    let group = match group {
        Some(group) => group.to_owned(),
        None => group_of(file).with_context(|| {
            format!("cannot derive a group name from `{file}`\nhint: name the group with --group")
        })?,
    };
    Ok(Topology { group, testnet })
}

/// Reads a file that a person names, which may be a pipe; `what` is what it is to be.
pub(crate) fn read_text(file: &Utf8Path, what: &str) -> anyhow::Result<String> {
    let opened = std::fs::File::open(file).with_context(|| format!("cannot open the {what} `{file}`"))?;
    let size = opened.metadata().map_or(0, |data| data.len());
    anyhow::ensure!(
        size <= LARGEST,
        "the {what} `{file}` has {size} bytes, more than the limit of {LARGEST}\nhint: check the path"
    );
    let mut text = String::new();
    let read = opened.take(LARGEST + 1).read_to_string(&mut text);
    let length = read.with_context(|| format!("cannot read the {what} `{file}`"))?;
    anyhow::ensure!(
        u64::try_from(length).is_ok_and(|length| length <= LARGEST),
        "the {what} `{file}` has more bytes than the limit of {LARGEST}\nhint: check the path"
    );
    Ok(text)
}

/// The name of a group after its file: `My Net.toml` makes `my-net`.
fn group_of(file: &Utf8Path) -> Option<String> {
    let stem = file.file_stem()?.to_ascii_lowercase();
    let parts = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let name = parts.collect::<Vec<_>>().join("-");
    // It is ASCII.
    let name = name[..name.len().min(LABEL_MAX)].trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
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
    grace: GraceArgs,
    command: &[String],
) -> anyhow::Result<u8> {
    let Topology { group, testnet } = read(file, group)?;
    Ok(run_command(&group, &testnet, args, grace.grace, command, &Report::new()))
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

    #[test]
    fn a_group_is_named_after_its_file_whatever_that_is_called() {
        for (file, group) in [
            ("pair.toml", Some("pair")),
            ("d/My Net.toml", Some("my-net")),
            ("a.b.toml", Some("a-b")),
            ("--x--.toml", Some("x")),
            (".toml", Some("toml")),
            ("名.toml", None),
            ("/", None),
        ] {
            assert_eq!(group_of(Utf8Path::new(file)).as_deref(), group, "{file}");
        }
        let long = format!("{}-{}.toml", "x".repeat(62), "y".repeat(62));
        let group = group_of(Utf8Path::new(&long)).unwrap();
        assert!(group.parse::<steading_plan::GroupName>().is_ok(), "{group}");
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
        fs_err::write(dir.path().join("manifest.json"), manifest).unwrap();
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
